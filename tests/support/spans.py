"""Spans in memory, for the length of a test."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from modelyard.core.rpc import tracing


class Spans:
    """What was traced."""

    def __init__(self, exporter: InMemorySpanExporter) -> None:
        self._exporter = exporter

    def named(self, name: str, timeout_s: float = 10.0) -> list[Any]:
        """The spans of a name that have ended; waits for the first."""
        deadline = time.monotonic() + timeout_s
        while True:
            found = [span for span in self._exporter.get_finished_spans() if span.name == name]
            if found or time.monotonic() > deadline:
                return found
            time.sleep(0.02)

    def clear(self) -> None:
        """Forgets them."""
        self._exporter.clear()


@contextmanager
def traced() -> Iterator[Spans]:
    """Everything in this process is traced."""
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    tracing.use(provider)
    try:
        yield Spans(exporter)
    finally:
        tracing.stop()
