"""In a notebook what the client gives draws itself: dataset versions, trainings, evaluations, decisions, exports, examples.

A cell's last value is shown by its `_repr_html_`; the contracts' classes get theirs here, once, when a client is made. Nothing is
drawn, and no drawing code is imported, before a notebook asks.
"""

from __future__ import annotations

import html
from collections.abc import Callable
from importlib import import_module
from typing import Any, Final

from modelyard.dataset.v1 import dataset_pb2, dataset_service_pb2
from modelyard.evaluator.v1 import evaluator_pb2
from modelyard.exporter.v1 import exporter_pb2
from modelyard.pipeline.v1 import pipeline_pb2
from modelyard.trainer.v1 import trainer_pb2

DRAWN: Final[dict[Any, str]] = {
    dataset_pb2.DatasetVersion: "version",
    dataset_service_pb2.ViewExamplesResponse: "views",
    dataset_pb2.QualityReport: "report",
    trainer_pb2.TrainingJob: "training",
    trainer_pb2.ModelVersion: "model",
    pipeline_pb2.PipelineRun: "run",
    evaluator_pb2.Evaluation: "evaluation",
    evaluator_pb2.GateDecision: "decision",
    exporter_pb2.Export: "export",
}
"""Messages that draw themselves, and the function of `modelyard.client.drawing.cells` that does it."""


def install() -> None:
    """Gives the messages their `_repr_html_`; again is harmless."""
    for kind, name in DRAWN.items():
        kind._repr_html_ = _drawing(name)


def _drawing(name: str) -> Callable[[Any], str]:
    def drawn(message: Any) -> str:
        try:
            shown: str = getattr(import_module("modelyard.client.drawing.cells"), name)(message)
        except Exception as error:  # a picture that fails must not cost the value it is of
            return f"<p>It cannot be drawn: {html.escape(str(error))}</p><pre>{html.escape(str(message))}</pre>"
        return shown

    return drawn
