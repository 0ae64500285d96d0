"""Writes a detector of anomalies as one ONNX graph: `series` (and `reference`) float32 in, `score` [N, 1] out."""

from __future__ import annotations

from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray

from modelyard.core.errors import FailedPrecondition, InvalidArgument
from modelyard.exporter.worker.export import Graph, evenly, example_positions
from modelyard.exporter.worker.torch_graph import onnx_graph
from modelyard.formats.bundle import BundleCard, Source, TensorSpec
from modelyard.formats.checkpoint import unpack_torch
from modelyard.formats.dataset import TRAIN, DatasetReader
from modelyard.formats.model import ModelFile
from modelyard.formats.sensors import REFERENCE, SCORE, Inputs, Watch, recordings, usual_watch
from modelyard.formats.series import SERIES
from modelyard.recipes.build_sensors import SensorModel, build_sensors

Array = NDArray[np.float32]
WINDOWS: Final = 64
"""By which an export is proven; as many again have gaps."""


def served_sensors(file: ModelFile) -> SensorModel:
    """The model of a model file, ready to answer. Raises InvalidArgument BAD_MODEL."""
    card = file.card
    steps, reference, channels = (int(card.details[name]) for name in ("steps", "reference", "channels"))
    model = build_sensors(card.architecture, Watch(steps, reference), channels)
    try:
        model.load_state_dict(unpack_torch(file.tensors()), strict=True)
    except RuntimeError as error:
        message = f"the weights do not fit {card.architecture}: {str(error)[:300]}"
        raise InvalidArgument("BAD_MODEL", message, field="weights.safetensors", architecture=card.architecture) from error
    return model.eval()


def untrained_sensors(architecture: str, reader: DatasetReader) -> SensorModel:
    """A detector of the size that training would give it; held against a reference, which is the slower way."""
    lengths = np.array([int(steps) for (steps,) in reader.annotations(TRAIN).columns(["steps"])], np.int64)
    watch = usual_watch(lengths, referenced=True) or usual_watch(lengths, referenced=False) or Watch(8)
    return build_sensors(architecture, watch, max(1, len(reader.descriptor.channels))).eval()


def sensor_graph_of(model: SensorModel, reader: DatasetReader, source: Source, recipe: str) -> Graph:
    """The graph of a detector with windows of real recordings, and as many with gaps. Raises FailedPrecondition NO_EXAMPLES."""
    shape, watch = model.shape, model.shape.watch
    inputs = _examples(reader, watch)
    names = [SERIES, *([REFERENCE] if watch.reference else [])]
    steps = {SERIES: watch.window, REFERENCE: watch.reference}
    card = BundleCard(
        task="anomaly_detection",
        inputs=tuple(TensorSpec(name, "FP32", (-1, steps[name], shape.channels)) for name in names),
        outputs=(TensorSpec(SCORE, "FP32", (-1, 1)),),
        source=source,
        recipe=recipe,
    )
    zeros = {name: torch.zeros(2, steps[name], shape.channels) for name in names}
    return Graph(onnx_graph(model, zeros, SCORE), dict(inputs), _answers(model, inputs, names), card, "torch")


def _answers(model: SensorModel, inputs: Inputs, names: list[str]) -> Array:
    with torch.inference_mode():
        return np.asarray(model(*(torch.from_numpy(inputs[name]) for name in names)).numpy())


def _examples(reader: DatasetReader, watch: Watch) -> Inputs:
    """Windows, evenly over recordings of which there are enough; then the same with every seventh reading missing."""
    parts: list[Inputs] = []
    for usage, rows in example_positions(reader):
        each = max(1, WINDOWS // max(1, len(rows)))
        for recording in recordings(reader, usage, rows):
            ends = watch.ends(recording.steps)
            if len(ends):
                parts.append(watch.inputs(recording.values, ends[evenly(len(ends), each)]))
    if not parts:
        message = f"no recording has the {max(watch.window, watch.reference + 1)} readings that a window needs"
        raise FailedPrecondition("NO_EXAMPLES", message)
    whole = {name: np.concatenate([part[name] for part in parts])[: 2 * WINDOWS] for name in parts[0]}
    gaps = {name: values.copy() for name, values in whole.items()}
    for values in gaps.values():
        values[:, ::7] = np.nan
    return {name: np.concatenate([values, gaps[name]]) for name, values in whole.items()}
