"""The pages, one module each."""

from __future__ import annotations

import importlib
from typing import Final

MODULES: Final = (
    "home",
    "train",
    "datasets",
    "dataset_new",
    "dataset",
    "annotation",
    "annotation_new",
    "annotation_round",
    "annotation_work",
    "runs",
    "run",
    "job",
    "crossing",
    "compare",
    "models",
    "model_version",
    "evaluation",
    "export",
    "endpoints",
    "endpoint",
    "devices",
    "audit",
    "settings",
)


def add_pages() -> None:
    """Makes their addresses known."""
    for name in MODULES:
        importlib.import_module(f"modelyard.console.pages.{name}")
