"""Dataclasses as JSON documents, and back: how a service's own values become a job's spec and result."""

from __future__ import annotations

from functools import cache
from typing import Any, TypeVar

from cattrs import Converter
from cattrs.preconf.json import make_converter

T = TypeVar("T")


def to_document(value: Any) -> dict[str, Any]:
    """A dataclass as JSON."""
    document: dict[str, Any] = _converter().unstructure(value)
    return document


def from_document(document: dict[str, Any], kind: type[T]) -> T:
    """The dataclass of such a document."""
    return _converter().structure(document, kind)


@cache
def _converter() -> Converter:
    return make_converter()
