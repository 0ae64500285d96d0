"""From a model file to a proven bundle. Tables need no torch: it is imported for pictures only."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from modelyard.core.errors import FailedPrecondition
from modelyard.exporter.worker.parity import prove
from modelyard.formats import bundle as bundles
from modelyard.formats.bundle import BundleCard, ColumnInput, Source, TensorSpec, TestVectors
from modelyard.formats.dataset import CATEGORICAL, IMAGE, TEST, TRAIN, VALIDATION, DatasetReader
from modelyard.formats.model import ModelCard, ModelFile, PictureInput, read_model
from modelyard.runtime.model import load_model

if TYPE_CHECKING:
    from modelyard.recipes.build_tabular import TableModel

Array = NDArray[Any]
Inputs = dict[str, Array]
OnStage = Callable[[str], None]

MOST_EXAMPLES: Final = 64
LEAST_EXAMPLES: Final = 16
KEPT_EXAMPLES: Final = 32
KEPT_BYTES: Final = 8 << 20
"""Test vectors are at most this large, unless LEAST_EXAMPLES already are."""
UNKNOWN: Final = "\u2047 not seen in training"


@dataclass(frozen=True)
class Graph:
    """A graph with its examples: everything a bundle holds but the proof. `expected` is what the trained model answers."""

    model: bytes
    inputs: Inputs
    expected: Array
    card: BundleCard
    against: str


def export_model(model_path: Path, reader: DatasetReader, path: Path, source: Source, on_stage: OnStage) -> BundleCard:
    """Writes the bundle of a model file at `path`, proven on real examples of the dataset version it was trained on.

    on_stage hears what is being done. Raises InvalidArgument BAD_MODEL or NOT_EXPORTABLE, FailedPrecondition PARITY_FAILED,
    DATASET_MISMATCH or NO_EXAMPLES; then no file is left.
    """
    file = read_model(model_path)
    on_stage("graph")
    graph = picture_export(file, reader, source) if file.card.kind == "torch" else table_export(file, reader, source)
    on_stage("parity")
    return write_proven(graph, path)


def write_proven(graph: Graph, path: Path) -> BundleCard:
    """Proves the graph, writes the bundle, reads it back and asks it the test vectors through the serving runtime."""
    classes = len(graph.card.classes)
    parity, answers = prove(graph.model, graph.inputs, graph.expected, classes=classes, against=graph.against)
    kept = _evenly(len(answers), kept_examples(graph.inputs))
    vectors = TestVectors(
        {name: values[kept] for name, values in graph.inputs.items()}, {graph.card.outputs[0].name: answers[kept]}
    )
    written = bundles.write_bundle(path, replace(graph.card, parity=parity), graph.model, vectors)
    try:
        _ask_again(path, vectors, parity.tolerance)
    except BaseException:
        path.unlink(missing_ok=True)
        raise
    return written


def kept_examples(inputs: Inputs) -> int:
    """How many examples go into the bundle: 16 to 32, fewer for large pictures."""
    one = sum(values[:1].nbytes for values in inputs.values())
    return max(LEAST_EXAMPLES, min(KEPT_EXAMPLES, KEPT_BYTES // max(one, 1)))


def _ask_again(path: Path, vectors: TestVectors, tolerance: float) -> None:
    answers = load_model(bundles.open_bundle(path), threads=1).run(vectors.inputs)
    for name, expected in vectors.outputs.items():
        difference = float(np.abs(answers[name] - expected).max())
        if not difference <= tolerance:
            message = f"the bundle's own test vectors come out different by {difference:g} when it is served"
            raise FailedPrecondition("PARITY_FAILED", message, output=name, difference=difference, tolerance=tolerance)


def _evenly(count: int, most: int) -> NDArray[np.int64]:
    """At most `most` of `count` positions, spread evenly, the last one among them."""
    return np.unique(np.linspace(0, count - 1, min(count, most)).round().astype(np.int64))


def example_positions(reader: DatasetReader) -> list[tuple[str, NDArray[np.int64]]]:
    """Which examples prove an export: of the test examples, then validation, then training until there are enough.

    Usage with positions among its examples; at most MOST_EXAMPLES in all. Raises FailedPrecondition NO_EXAMPLES.
    """
    chosen: list[tuple[str, NDArray[np.int64]]] = []
    total = 0
    for usage in (TEST, VALIDATION, TRAIN):
        count = len(reader.indices(usage))
        if count == 0 or total >= LEAST_EXAMPLES:
            continue
        chosen.append((usage, _evenly(count, MOST_EXAMPLES - total)))
        total += len(chosen[-1][1])
    if total == 0:
        raise FailedPrecondition("NO_EXAMPLES", "the dataset version holds no example to prove the export on")
    return chosen


# Pictures


def picture_export(file: ModelFile, reader: DatasetReader, source: Source) -> Graph:
    """The graph of a picture classifier with decoded examples."""
    from modelyard.exporter.worker.picture_graph import image_graph, predict, served_model

    if reader.descriptor.kind != IMAGE or file.card.input is None:
        raise _mismatch(file.card, reader)
    model = served_model(file)
    images = example_pictures(reader, file.card.input)
    card = picture_card(file.card.input, file.card.classes, source, file.card.architecture)
    return Graph(image_graph(model, file.card.input), {"image": images}, predict(model, images), card, "torch")


def example_pictures(reader: DatasetReader, picture: PictureInput) -> NDArray[np.uint8]:
    """Real pictures, decoded, uint8 [N, H, W, C]."""
    chosen = example_positions(reader)
    positions = np.concatenate([reader.indices(usage)[rows] for usage, rows in chosen])
    return reader.decode(positions, picture.height, picture.width, picture.channels)


def picture_card(picture: PictureInput, classes: tuple[str, ...], source: Source, recipe: str) -> BundleCard:
    """The card of a picture bundle, without its files and parity."""
    size = (picture.height, picture.width, picture.channels)
    return BundleCard(
        task="image_classification",
        inputs=(TensorSpec("image", "UINT8", (-1, *size)),),
        outputs=(TensorSpec("probabilities", "FP32", (-1, len(classes))),),
        source=source,
        recipe=recipe,
        picture=bundles.PictureInput(*size),
        classes=classes,
    )


# Tables


def table_export(file: ModelFile, reader: DatasetReader, source: Source) -> Graph:
    """The graph of a tabular model with real rows, some of them with missing values and unknown categories."""
    from modelyard.recipes.build_tabular import model_from

    if reader.descriptor.kind == IMAGE:
        raise _mismatch(file.card, reader)
    columns = [(str(column["name"]), str(column["type"])) for column in file.card.columns]
    there = {column.name for column in reader.descriptor.features}
    if any(name not in there for name, _ in columns):
        raise _mismatch(file.card, reader)
    return table_graph_of(model_from(file), columns, reader, source, file.card)


def table_graph_of(
    model: TableModel, columns: list[tuple[str, str]], reader: DatasetReader, source: Source, model_card: ModelCard
) -> Graph:
    """The graph of a tabular model in memory."""
    from modelyard.exporter.worker.table_graph import column_inputs, input_specs, output_spec, table_graph

    inputs = column_inputs(columns)
    rows = with_gaps(example_rows(reader, [name for name, _ in columns]), columns)
    card = BundleCard(
        task=model_card.task,
        inputs=input_specs(inputs),
        outputs=(output_spec(len(model.classes)),),
        source=source,
        recipe=model_card.architecture,
        classes=model.classes,
        columns=inputs,
        target_name=model_card.target,
    )
    return Graph(table_graph(model, inputs), tensors_of(inputs, rows), model.predict(rows), card, model.kind)


def example_rows(reader: DatasetReader, names: list[str]) -> Inputs:
    """Real rows, by column [N]: numbers float32, text str."""
    from modelyard.recipes.build_tabular import columns_of

    parts = []
    for usage, rows in example_positions(reader):
        columns = columns_of(reader.table(usage, columns=names), names)
        parts.append({name: values[rows] for name, values in columns.items()})
    return {name: np.concatenate([part[name] for part in parts]) for name in names}


def with_gaps(rows: Inputs, columns: list[tuple[str, str]]) -> Inputs:
    """The rows, and as many again of which every third value is missing and every seventh category unknown."""
    out: Inputs = {}
    for place, (name, kind) in enumerate(columns):
        changed = rows[name].copy()
        numbers = np.arange(len(changed)) + place
        if kind == CATEGORICAL:
            changed[numbers % 7 == 0] = UNKNOWN
        changed[numbers % 3 == 0] = "" if kind == CATEGORICAL else np.nan
        out[name] = np.concatenate([rows[name], changed])
    return out


def tensors_of(inputs: tuple[ColumnInput, ...], rows: Inputs) -> Inputs:
    """Columns [N] as the graph's tensors [N, 1]."""
    return {each.input: rows[each.name][:, None] for each in inputs}


def _mismatch(card: ModelCard, reader: DatasetReader) -> FailedPrecondition:
    message = f"the model ({card.task}) does not fit the dataset version ({reader.descriptor.task}): its inputs are not there"
    return FailedPrecondition("DATASET_MISMATCH", message, model_task=card.task, dataset_task=reader.descriptor.task)
