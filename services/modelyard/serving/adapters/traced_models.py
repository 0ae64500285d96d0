"""Served models with spans for a prediction's time in the queue and in the model; only where something is traced."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from modelyard.core.errors import ModelyardError
from modelyard.core.rpc import tracing
from modelyard.serving.ports import Answer, Done, ServedModel, Tensor


class TracedModel:
    """A ServedModel that is another one, traced."""

    def __init__(self, model: ServedModel, name: str, version: str) -> None:
        self._model = model
        self._attributes = {"modelyard.model": name, "modelyard.version": version}

    def __getattr__(self, name: str) -> Any:
        return getattr(self._model, name)

    def submit(self, inputs: Sequence[Tensor], rows: int, deadline: float | None, done: Done) -> Callable[[], None]:
        """See ServedModel."""
        span, begun = tracing.present(), tracing.now_ns()

        def finished(result: Answer | ModelyardError) -> None:
            self._tell(result, span, begun, rows)
            done(result)

        return self._model.submit(inputs, rows, deadline, finished)

    def _tell(self, result: Answer | ModelyardError, span: Any, begun: int, rows: int) -> None:
        ended = tracing.now_ns()
        if not isinstance(result, Answer):
            tracing.record("prediction", begun, ended, span, **self._attributes, **{"error.type": result.reason})
            return
        timing = result.timing
        computed = timing.compute_input_ns + timing.compute_infer_ns + timing.compute_output_ns
        start = min(max(begun, ended - computed), begun + timing.queue_ns) if timing.queue_ns else max(begun, ended - computed)
        tracing.record("queue", begun, start, span, **self._attributes)
        more = {"modelyard.examples": rows, "modelyard.batch_examples": timing.batch_rows}
        tracing.record("compute", start, min(ended, start + computed), span, **self._attributes, **more)


class TracedLoader:
    """A loader whose models are traced."""

    def __init__(self, loader: Any) -> None:
        self._loader = loader

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loader, name)

    def load(self, bundle: Path, *, model: str, version: str) -> ServedModel:
        """See ServedModelLoader."""
        made: ServedModel = TracedModel(self._loader.load(bundle, model=model, version=version), model, version)
        return made
