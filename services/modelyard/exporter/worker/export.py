"""From a trained model to a proven bundle in any form. Tables need no torch: it is imported for pictures only."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from modelyard.core.errors import FailedPrecondition
from modelyard.exporter.domain.form import DYNAMIC_INT8, EDGE, FP16, Form, check_form
from modelyard.exporter.worker.calibration import CalibrationSet, draw, draw_series
from modelyard.exporter.worker.parity import Run, check_same_sets, prove, prove_sets
from modelyard.formats import bundle as bundles
from modelyard.formats.agreement import compared_as_sets
from modelyard.formats.bundle import CALIBRATION, BundleCard, ColumnInput, QuantizationCard, Source, TensorSpec, TestVectors
from modelyard.formats.bundle_files import MODEL, TFLITE
from modelyard.formats.dataset import (
    ANOMALY_DETECTION,
    AUDIO,
    CATEGORICAL,
    FORECASTING,
    IMAGE,
    IMAGE_CLASSIFICATION,
    SERIES,
    SERIES_CLASSIFICATION,
    TEST,
    TRAIN,
    VALIDATION,
    DatasetReader,
)
from modelyard.formats.model import ModelCard, ModelFile, PictureInput, read_model
from modelyard.runtime.model import load_model

if TYPE_CHECKING:
    from modelyard.exporter.worker.series_graph import ServedSeries
    from modelyard.recipes.build_image import ServedImageModel
    from modelyard.recipes.build_tabular import TableModel

Array = NDArray[Any]
Inputs = dict[str, Array]
OnStage = Callable[[str], None]

MOST_EXAMPLES: Final = 64
LEAST_EXAMPLES: Final = 16
KEPT_EXAMPLES: Final = 32
KEPT_BYTES: Final = 8 << 20
"""Test vectors are at most this large, unless LEAST_EXAMPLES already are."""
EDGE_VECTORS: Final = 8
"""Examples that an edge bundle's own runners replay."""
THRESHOLD_EXAMPLES: Final = 500
"""Most examples by which an edge bundle's thresholds are chosen."""
REPEATED_TOLERANCE: Final = 1e-3
"""What a bundle's answers may differ by when the same bytes answer again, one thread or several."""
UNKNOWN: Final = "\u2047 not seen in training"


@dataclass(frozen=True)
class Graph:
    """A graph with its examples: everything a bundle holds but the proof. `expected` is what the trained model answers: by the
    outputs' names, or alone where there is one.

    model: the one model file's bytes, or the files by their names in a bundle.
    """

    model: bytes | Mapping[str, bytes]
    inputs: Inputs
    expected: Array | Inputs
    card: BundleCard
    against: str


def export_model(
    model_path: Path, reader: DatasetReader, path: Path, source: Source, on_stage: OnStage, form: Form | None = None
) -> BundleCard:
    """Writes the bundle of a model file at `path`, proven on real examples of the dataset version it was trained on.

    form: ONNX fp32 when left out. on_stage hears what is being done. Raises InvalidArgument BAD_MODEL, NOT_EXPORTABLE,
    UNSUPPORTED_FORM or UNSUPPORTED_OPERATOR, FailedPrecondition PARITY_FAILED, DATASET_MISMATCH, NO_EXAMPLES, BAD_WEIGHTS or
    CALIBRATION_ONE_CLASS; then no file is left.
    """
    form = form or Form()
    file = read_model(model_path)
    check_form(form, file.card.task)
    on_stage("graph")
    if file.card.task == ANOMALY_DETECTION:
        graph = sensor_export(file, reader, source)
    elif file.card.task == FORECASTING:
        graph = forecast_export(file, reader, source)
    elif file.card.task == SERIES_CLASSIFICATION:
        graph = series_export(file, reader, source, form)
    else:
        graph = picture_export(file, reader, source, form) if file.card.kind == "torch" else table_export(file, reader, source)
    on_stage("parity")
    return write_proven(graph, path)


def write_proven(graph: Graph, path: Path) -> BundleCard:
    """Proves the graph in the runtime that will serve it, writes the bundle, reads it back and asks it the test vectors."""
    if compared_as_sets(graph.card.task) and not isinstance(graph.expected, np.ndarray):
        return _write_compared(graph, graph.expected, path)
    if len(graph.card.outputs) > 1 and not isinstance(graph.expected, np.ndarray):
        from modelyard.exporter.worker.prove_several import write_several

        return write_several(graph, graph.expected, path)
    classes, card = len(graph.card.classes), graph.card
    expected = graph.expected if isinstance(graph.expected, np.ndarray) else graph.expected[card.outputs[0].name]
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.name}.") as folder:
        unproven = Path(folder) / "unproven.bundle"
        bundles.write_bundle(unproven, card, graph.model, _vectors(graph, expected, slice(0, LEAST_EXAMPLES)))
        with _loaded(unproven) as run:
            proof = prove(run, graph.inputs, expected, classes=classes, against=graph.against, precision=card.precision)
    parity, answers = proof
    vectors = _vectors(graph, answers, evenly(len(answers), kept_examples(graph.inputs)))
    written = bundles.write_bundle(path, replace(card, parity=parity), graph.model, vectors)
    try:
        _ask_again(path, vectors, REPEATED_TOLERANCE if classes else parity.tolerance)
    except BaseException:
        path.unlink(missing_ok=True)
        raise
    return written


def _write_compared(graph: Graph, expected: Inputs, path: Path) -> BundleCard:
    """write_proven where answers are compared as sets."""
    card = graph.card
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.name}.") as folder:
        unproven = Path(folder) / "unproven.bundle"
        bundles.write_bundle(unproven, card, graph.model, all_vectors(graph, expected, slice(0, LEAST_EXAMPLES)))
        with all_loaded(unproven) as run:
            parity, answers = prove_sets(
                run, graph.inputs, expected, task=card.task, against=graph.against, precision=card.precision
            )
    rows = evenly(len(next(iter(graph.inputs.values()))), kept_examples(graph.inputs))
    vectors = all_vectors(graph, answers, rows)
    written = bundles.write_bundle(path, replace(card, parity=parity), graph.model, vectors)
    try:
        with all_loaded(path) as run:
            check_same_sets(card.task, vectors.outputs, run(vectors.inputs), card.precision)
    except BaseException:
        path.unlink(missing_ok=True)
        raise
    return written


def all_vectors(graph: Graph, answers: Inputs, rows: NDArray[np.int64] | slice) -> TestVectors:
    inputs = {each: values[rows] for each, values in graph.inputs.items()}
    return TestVectors(inputs, {spec.name: np.asarray(answers[spec.name][rows]) for spec in graph.card.outputs})


@contextlib.contextmanager
def all_loaded(path: Path) -> Iterator[Callable[[Inputs], Inputs]]:
    """All outputs of a bundle's model, as it will be served."""
    model = load_model(bundles.open_bundle(path))
    try:
        yield model.run
    finally:
        model.close()


def _vectors(graph: Graph, answers: Array, rows: NDArray[np.int64] | slice) -> TestVectors:
    name = graph.card.outputs[0].name
    inputs = {each: values[rows] for each, values in graph.inputs.items()}
    return TestVectors(inputs, {name: np.asarray(answers[rows], np.float32)})


@contextlib.contextmanager
def _loaded(path: Path) -> Iterator[Run]:
    """The only output of a bundle's model, as it will be served."""
    model = load_model(bundles.open_bundle(path))
    name = model.card.outputs[0].name
    try:
        yield lambda inputs: model.run(inputs)[name]
    finally:
        model.close()


def kept_examples(inputs: Inputs) -> int:
    """How many examples go into the bundle: 16 to 32, fewer for large pictures."""
    one = sum(values[:1].nbytes for values in inputs.values())
    return max(LEAST_EXAMPLES, min(KEPT_EXAMPLES, KEPT_BYTES // max(one, 1)))


def _ask_again(path: Path, vectors: TestVectors, tolerance: float) -> None:
    with _loaded(path) as run:
        found = run(vectors.inputs)
    for name, expected in vectors.outputs.items():
        difference = float(np.abs(found - expected).max())
        if not difference <= tolerance:
            message = f"the bundle's own test vectors come out different by {difference:g} when it is served"
            raise FailedPrecondition("PARITY_FAILED", message, output=name, difference=difference, tolerance=tolerance)


def evenly(count: int, most: int) -> NDArray[np.int64]:
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
        chosen.append((usage, evenly(count, MOST_EXAMPLES - total)))
        total += len(chosen[-1][1])
    if total == 0:
        raise FailedPrecondition("NO_EXAMPLES", "the dataset version holds no example to prove the export on")
    return chosen


# Pictures


def picture_export(file: ModelFile, reader: DatasetReader, source: Source, form: Form | None = None) -> Graph:
    """The graph of a picture classifier in a form, with decoded examples."""
    from modelyard.exporter.worker.picture_graph import served_model

    if reader.descriptor.kind not in (IMAGE, AUDIO) or file.card.input is None:
        raise _mismatch(file.card, reader)
    card = picture_card(file.card.input, file.card.classes, source, file.card.architecture, file.card.task)
    card = replace(card, licence=weights_licence(file.card))
    return converted_graph(served_model(file), reader, card, form or Form())


def weights_licence(card: ModelCard) -> str:
    """The licence of the weights that a model started from, as its trainer noted it; "" where it started from none."""
    return str(card.details.get("licence", ""))


def converted_graph(
    model: ServedImageModel,
    reader: DatasetReader,
    card: BundleCard,
    form: Form,
    *,
    calibration: CalibrationSet | None = None,
    quantization_method: str = "",
) -> Graph:
    """A network in a form with everything a bundle needs but the proof; the card says what it is, without its form."""
    from modelyard.exporter.worker.convert import convert
    from modelyard.exporter.worker.picture_graph import answers_of

    if card.picture is None:
        raise AssertionError("only a picture's card comes here")
    picture = PictureInput(card.picture.height, card.picture.width, card.picture.channels)
    if form.needs_calibration and calibration is None:
        calibration = draw(reader, picture)
    converted = convert(model, picture, form, calibration if form.needs_calibration or form.precision == FP16 else None)
    images = example_pictures(reader, picture)
    expected = answers_of(model, images)
    files = dict(converted.files)
    card = replace(card, format=form.format, precision=form.precision, tensors=converted.tensors)
    if form.quantized:
        card = replace(card, quantization=QuantizationCard(_method(form, quantization_method)))
    if form.needs_calibration and calibration is not None:
        card = replace(card, calibration=calibration.card)
        files[CALIBRATION] = calibration.text
    if form.format == EDGE:
        from modelyard.exporter.worker.edge import edge_files

        card = replace(card, thresholds=_edge_thresholds(converted.files[TFLITE], reader, picture, card.classes))
        files |= edge_files(converted.files[TFLITE], card, images[:EDGE_VECTORS], form.accelerator)
    return Graph(files, {"image": images}, expected, card, "torch")


def _edge_thresholds(model: bytes, reader: DatasetReader, picture: PictureInput, classes: tuple[str, ...]) -> tuple[float, ...]:
    """Chosen by the device's own answers for validation examples (training ones where there are none)."""
    from modelyard.exporter.worker.edge import edge_probabilities
    from modelyard.formats.thresholds import class_thresholds

    usage = VALIDATION if len(reader.indices(VALIDATION)) else TRAIN
    rows = evenly(len(reader.indices(usage)), THRESHOLD_EXAMPLES)
    pictures = reader.decode(reader.indices(usage)[rows], picture.height, picture.width, picture.channels)
    labels = [reader.descriptor.classes[number] for number in reader.labels(usage)[rows]]
    return class_thresholds(edge_probabilities(model, pictures), labels, classes)


def write_export(
    model: ServedImageModel,
    reader: DatasetReader,
    path: Path,
    form: Form,
    source: Source,
    *,
    picture: PictureInput,
    calibration: CalibrationSet | None = None,
    quantization_method: str = "",
    classes: tuple[str, ...] = (),
    recipe: str = "",
    licence: str = "",
) -> BundleCard:
    """Converts a network that is in memory, proves it, and writes the bundle at `path`; its card.

    classes: those of the dataset version when left out. calibration: drawn when it is needed and left out. quantization_method:
    `aware` where the weights learned under rounding. Raises as `export_model` does; then no file is left.
    """
    made = picture_card(picture, classes or reader.descriptor.answered, source, recipe, reader.descriptor.task)
    card = replace(made, licence=licence)
    graph = converted_graph(model, reader, card, form, calibration=calibration, quantization_method=quantization_method)
    return write_proven(graph, path)


def _method(form: Form, given: str) -> str:
    """The card's word for how the numbers were found."""
    if form.precision == DYNAMIC_INT8:
        return "dynamic"
    return "aware" if given.startswith("aware") else "post_training"


def example_pictures(reader: DatasetReader, picture: PictureInput) -> NDArray[np.uint8]:
    """Real pictures, decoded, uint8 [N, H, W, C]."""
    chosen = example_positions(reader)
    positions = np.concatenate([reader.indices(usage)[rows] for usage, rows in chosen])
    return reader.decode(positions, picture.height, picture.width, picture.channels)


def picture_card(
    picture: PictureInput, classes: tuple[str, ...], source: Source, recipe: str, task: str = IMAGE_CLASSIFICATION
) -> BundleCard:
    """The card of a picture bundle, without its files and parity."""
    from modelyard.exporter.worker.task_outputs import picture_outputs

    size = (picture.height, picture.width, picture.channels)
    return BundleCard(
        task=task,
        inputs=(TensorSpec("image", "UINT8", (-1, *size)),),
        outputs=picture_outputs(task, len(classes), picture),
        source=source,
        recipe=recipe,
        picture=bundles.PictureInput(*size),
        classes=classes,
    )


# Series


def series_export(file: ModelFile, reader: DatasetReader, source: Source, form: Form) -> Graph:
    """The graph of a classifier of series in a form, with real ones, and as many with gaps."""
    from modelyard.exporter.worker.series_graph import served_series

    if reader.descriptor.kind != SERIES:
        raise _mismatch(file.card, reader)
    channels = int(file.card.details["channels"])
    return series_graph_of(served_series(file), channels, reader, source, file.card.architecture, form)


def series_graph_of(
    model: ServedSeries, channels: int, reader: DatasetReader, source: Source, recipe: str, form: Form | None = None
) -> Graph:
    """The graph of a classifier in memory. form: ONNX fp32 when left out."""
    from modelyard.exporter.worker.series_graph import integer_series, predict_series, series_card, series_graph
    from modelyard.formats.series import SERIES as INPUT
    from modelyard.formats.series import fitted_series

    chosen = example_positions(reader)
    series = np.concatenate([fitted_series(reader, usage, rows, model.steps) for usage, rows in chosen])
    gaps = series.copy()
    gaps[:, ::7] = np.nan
    series = np.concatenate([series, gaps])
    card = series_card(model, channels, reader.descriptor.classes, source, recipe)
    expected = predict_series(model, series)
    if form is None or not form.needs_calibration:
        return Graph(series_graph(model, channels), {INPUT: series}, expected, card, "torch")
    calibration = draw_series(reader, model.steps)
    quantization = QuantizationCard(_method(form, ""))
    card = replace(card, precision=form.precision, quantization=quantization, calibration=calibration.card)
    files = {MODEL: integer_series(model, channels, calibration.inputs), CALIBRATION: calibration.text}
    return Graph(files, {INPUT: series}, expected, card, "torch")


def sensor_export(file: ModelFile, reader: DatasetReader, source: Source) -> Graph:
    """The graph of a detector of anomalies with windows of real recordings."""
    from modelyard.exporter.worker.sensor_graph import sensor_graph_of, served_sensors

    if reader.descriptor.kind != SERIES or len(reader.descriptor.channels) != int(file.card.details["channels"]):
        raise _mismatch(file.card, reader)
    return sensor_graph_of(served_sensors(file), reader, source, file.card.architecture)


def forecast_export(file: ModelFile, reader: DatasetReader, source: Source) -> Graph:
    """The graph of a forecaster with windows of real series."""
    from modelyard.exporter.worker.forecast_graph import forecast_graph_of, served_forecast

    if reader.descriptor.kind != SERIES or len(reader.descriptor.channels) != int(file.card.details["channels"]):
        raise _mismatch(file.card, reader)
    return forecast_graph_of(served_forecast(file), reader, source, file.card.architecture)


# Tables


def table_export(file: ModelFile, reader: DatasetReader, source: Source) -> Graph:
    """The graph of a tabular model with real rows, some of them with missing values and unknown categories."""
    from modelyard.recipes.build_tabular import model_from

    if reader.descriptor.kind == IMAGE:
        raise _mismatch(file.card, reader)
    columns = [(str(column["name"]), str(column["type"])) for column in file.card.columns]
    there = {column.name for column in reader.descriptor.columns}
    if any(name not in there for name, _ in columns):
        raise _mismatch(file.card, reader)
    return table_graph_of(model_from(file), columns, reader, source, file.card)


def table_graph_of(
    model: TableModel, columns: list[tuple[str, str]], reader: DatasetReader, source: Source, model_card: ModelCard
) -> Graph:
    """The graph of a tabular model in memory."""
    from modelyard.exporter.worker.table_graph import column_inputs, input_specs, output_spec, read_table_graph

    inputs = column_inputs(columns)
    rows = with_gaps(example_rows(reader, [name for name, _ in columns]), columns)
    graph, texts = read_table_graph(model, inputs)
    card = BundleCard(
        task=model_card.task,
        inputs=input_specs(inputs),
        outputs=(output_spec(len(model.classes)),),
        source=source,
        recipe=model_card.architecture,
        classes=model.classes,
        columns=inputs,
        target_name=model_card.target,
        texts=texts,
    )
    return Graph(graph, tensors_of(inputs, rows), model.predict(rows), card, model.kind)


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
