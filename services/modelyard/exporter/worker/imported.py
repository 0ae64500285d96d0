"""A model file from elsewhere (.onnx, .tflite, .pt2) becomes a bundle that is evaluated and served like any other.

The file's own numbers stay as they are. What a served tensor needs to enter it stands around it: on the card, or as a few
operators before and after the graph for ONNX. There is no trained model to compare with, so there is no parity: the test vectors
are the file's own answers to examples of the dataset version.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from modelyard.core.errors import FailedPrecondition, InvalidArgument, ModelyardError
from modelyard.exporter.domain.export import unknown_file
from modelyard.exporter.domain.form import INT8, LITERT, ONNX, TORCH_EXPORT
from modelyard.exporter.worker.export import example_pictures, example_rows, kept_examples
from modelyard.exporter.worker.torch_records import with_softmax as torch_softmax
from modelyard.exporter.worker.torch_records import without_pickles
from modelyard.formats import bundle as bundles
from modelyard.formats.bundle import BundleCard, ColumnInput, QuantizationCard, TensorMap, TensorSpec, TestVectors
from modelyard.formats.dataset import IMAGE, NUMERIC, DatasetReader
from modelyard.formats.foreign import refusal
from modelyard.formats.model import PictureInput
from modelyard.runtime.model import RunnableModel, load_model
from modelyard.runtime.native_words import words_of
from modelyard.runtime.onnx_check import check_onnx
from modelyard.runtime.torch_program import DTYPES, OperatorError, ProgramError, read_program

Array = NDArray[Any]
Inputs = dict[str, Array]

VECTOR: Final = "vector"
PROBABILITIES: Final = "probabilities"
PREDICTION: Final = "prediction"
RAW: Final = "output"
SUM_TOLERANCE: Final = 0.05
"""How far from 1 the sum of probabilities may be; 8-bit ones are rounded each."""


@dataclass(frozen=True)
class Side:
    """An input or output of the file's graph: its name, shape (the batch first, -1 where open) and numpy datatype."""

    name: str
    shape: tuple[int, ...]
    dtype: str


@dataclass(frozen=True)
class Opened:
    """A file that was read: its format, numbers, only input and only output."""

    data: bytes
    format: str
    precision: str
    input: Side
    output: Side


@dataclass(frozen=True)
class Entry:
    """How pixels enter: value * scale + offset."""

    scale: float = 1.0
    offset: float = 0.0


def import_model(
    path: Path,
    file_name: str,
    task: str,
    classes: tuple[str, ...],
    reader: DatasetReader,
    pixel_scale: float,
    pixel_offset: float,
    licence: str,
    out_path: Path,
) -> BundleCard:
    """Writes the bundle of a model file from elsewhere at `out_path`; its card, with the origin `imported`.

    classes: in the order of the outputs, empty for regression. A pixel 0 to 255 enters as value * pixel_scale + pixel_offset
    (scale 0 means 1). Where the outputs are no probabilities on the dataset's examples, a softmax is added, and the card's recipe
    says so. Raises InvalidArgument UNKNOWN_MODEL_FILE, NOT_A_TFLITE_FILE, NOT_AN_ONNX_FILE, NOT_A_TORCH_PROGRAM, EXTERNAL_DATA,
    UNSUPPORTED_SIGNATURE, UNSUPPORTED_OPERATOR or BAD_CLASSES; FailedPrecondition DATASET_MISMATCH or FIXED_BATCH; then no file
    is left.
    """
    opened = open_file(path, file_name)
    _check_task(task, reader)
    _check_classes(opened, classes, reader)
    entry = Entry(pixel_scale or 1.0, pixel_offset)
    card = BundleCard(
        task=task,
        inputs=(),
        outputs=(_output(opened, classes),),
        source=bundles.Source(dataset_digest=reader.descriptor.digest),
        recipe=file_name[-200:],
        format=opened.format,
        precision=opened.precision,
        classes=classes,
        quantization=QuantizationCard("imported") if "int8" in opened.precision else None,
        origin="imported",
        licence=licence,
        target_name=reader.descriptor.target,
    )
    made = _picture(opened, card, reader, entry) if reader.descriptor.kind == IMAGE else _table(opened, card, reader)
    return _write(made, out_path)


def open_file(path: Path, file_name: str) -> Opened:
    """Reads a model file, by the ending of its name, when its bytes are not known to be something else.

    Raises InvalidArgument as `import_model` does.
    """
    name, ending = file_name[-80:], Path(file_name.lower()).suffix
    found = refusal(file_name, path)
    if found is not None or ending not in _OPENERS:
        raise unknown_file(name, found, "file_name")
    return _OPENERS[ending](path.read_bytes(), name)


def _open_tflite(data: bytes, name: str) -> Opened:
    from modelyard.exporter.worker.tflite_file import read_facts

    facts = read_facts(data, name)
    if len(facts.inputs) != 1 or len(facts.outputs) != 1:
        raise _signature(name, f"has {len(facts.inputs)} inputs and {len(facts.outputs)} outputs; it must have one of each")
    inside = [facts.tensors[at] for at in range(len(facts.tensors))]
    constants = {each.type for each in inside if each.constant and len(each.shape) > 1}
    computed = {each.type for each in inside if not each.constant}
    precision = INT8 if {"int8", "uint8"} & computed else "dynamic_int8" if "int8" in constants else "fp32"
    sides = [Side(each.name, each.shape, each.type) for each in (inside[facts.inputs[0]], inside[facts.outputs[0]])]
    return Opened(data, LITERT, "fp16" if "float16" in constants else precision, *sides)


def _open_onnx(data: bytes, name: str) -> Opened:
    import onnx

    check_onnx(data, name, "NOT_AN_ONNX_FILE")
    try:
        model = onnx.load_from_string(data)
        onnx.checker.check_model(model)
    except Exception as error:  # protobuf and the checker raise many kinds on bytes that are something else
        message = f"{name} is not a whole ONNX file: {str(error)[:300]}"
        raise InvalidArgument("NOT_AN_ONNX_FILE", message, file=name) from error
    constants = {each.name for each in model.graph.initializer}
    inputs = [each for each in model.graph.input if each.name not in constants]
    if len(inputs) != 1 or len(model.graph.output) != 1:
        raise _signature(name, f"has {len(inputs)} inputs and {len(model.graph.output)} outputs; it must have one of each")
    operators = {node.op_type for node in model.graph.node}
    types = {each.data_type for each in model.graph.initializer}
    quantized = operators & {"QuantizeLinear", "QLinearConv", "ConvInteger", "MatMulInteger"}
    precision = INT8 if quantized else "fp16" if onnx.TensorProto.FLOAT16 in types else "fp32"
    return Opened(data, ONNX, precision, _onnx_side(inputs[0]), _onnx_side(model.graph.output[0]))


def _onnx_side(value: Any) -> Side:
    import onnx

    kind = value.type.tensor_type
    shape = tuple(each.dim_value if each.HasField("dim_value") and each.dim_value > 0 else -1 for each in kind.shape.dim)
    return Side(value.name, shape, np.dtype(onnx.helper.tensor_dtype_to_np_dtype(kind.elem_type)).name)


def _open_program(data: bytes, name: str) -> Opened:
    """A .pt2, kept without the pickles that torch.export.save puts beside the graph."""
    try:
        program = read_program(data)
    except OperatorError as error:
        message = f"{name} uses the operator {error.operator!r}, which is not run here; leave it out of the model"
        raise InvalidArgument("UNSUPPORTED_OPERATOR", message, field="file_name", operators=error.operator) from error
    except ProgramError as error:
        message = f"{name} is no torch.export program that can be taken: {error}; write it with torch.export.save"
        raise InvalidArgument("NOT_A_TORCH_PROGRAM", message, file=name) from error
    if len(program.inputs) != 1 or len(program.outputs) != 1:
        raise _signature(name, f"has {len(program.inputs)} inputs and {len(program.outputs)} outputs; it must have one of each")
    sides = [Side(each.name, each.shape, each.dtype) for each in (program.inputs[0], program.outputs[0])]
    half = any(DTYPES[each.dtype][0] == "float16" for each in program.stored.values())
    return Opened(without_pickles(data), TORCH_EXPORT, "fp16" if half else "fp32", *sides)


_OPENERS: Final[dict[str, Callable[[bytes, str], Opened]]] = {".tflite": _open_tflite, ".onnx": _open_onnx, ".pt2": _open_program}


def _check_task(task: str, reader: DatasetReader) -> None:
    if task != reader.descriptor.task:
        message = f"the model is for {task}, the dataset version for {reader.descriptor.task}"
        raise FailedPrecondition("DATASET_MISMATCH", message, model_task=task, dataset_task=reader.descriptor.task)


def _check_classes(opened: Opened, classes: tuple[str, ...], reader: DatasetReader) -> None:
    if len(opened.output.shape) != 2 or opened.output.shape[1] < 1:
        shown = list(opened.output.shape)
        raise _signature(opened.output.name, f"is an output of the shape {shown}; it must be [examples, numbers]")
    width = opened.output.shape[1]
    if classes and len(classes) != width:
        message = f"classes holds {len(classes)} names, and the model's output {opened.output.name} has {width} numbers"
        raise InvalidArgument("BAD_CLASSES", message, field="classes", classes=len(classes), outputs=width)
    unknown = [name for name in reader.descriptor.classes if name not in classes]
    if unknown:
        message = f"the dataset version has the class {unknown[0]!r}, which is none of the model's ({', '.join(classes)[:200]})"
        raise FailedPrecondition("DATASET_MISMATCH", message, label=unknown[0])


def _output(opened: Opened, classes: tuple[str, ...]) -> TensorSpec:
    width = opened.output.shape[1]
    name = PROBABILITIES if classes else PREDICTION if width == 1 else RAW
    return TensorSpec(name, "FP32", (-1, width))


@dataclass(frozen=True)
class Made:
    """A bundle in the making: the file as it is stored, the card without its files, and examples."""

    opened: Opened
    card: BundleCard
    inputs: Inputs


def _picture(opened: Opened, card: BundleCard, reader: DatasetReader, entry: Entry) -> Made:
    """A classifier of pictures."""
    size, channels_first = _picture_size(opened)
    spec = TensorSpec("image", "UINT8", (-1, size.height, size.width, size.channels))
    card = replace(card, inputs=(spec,), picture=bundles.PictureInput(size.height, size.width, size.channels))
    layout = "NCHW" if channels_first else ""
    if opened.format != ONNX:
        card = replace(card, tensors=(TensorMap("image", opened.input.name, entry.scale, entry.offset, layout),))
    else:
        from modelyard.exporter.worker.imported_onnx import with_picture

        opened = replace(opened, data=with_picture(opened.data, spec, card.outputs[0], entry.scale, entry.offset, layout))
    return Made(opened, card, {"image": example_pictures(reader, size)})


def _picture_size(opened: Opened) -> tuple[PictureInput, bool]:
    """The picture an input takes, and whether its channels come first."""
    shape = opened.input.shape
    if len(shape) == 4 and shape[0] in (1, -1) and min(shape[1:]) > 0:
        if shape[3] in (1, 3):
            return PictureInput(shape[1], shape[2], shape[3]), False
        if shape[1] in (1, 3):
            return PictureInput(shape[2], shape[3], shape[1]), True
    wanted = "it must be one picture [1, height, width, 1 or 3] or [1, 1 or 3, height, width]"
    raise _signature(opened.input.name, f"is an input of the shape {list(shape)}; {wanted}")


def _table(opened: Opened, card: BundleCard, reader: DatasetReader) -> Made:
    """A model of one vector, whose numbers are the dataset's numeric columns in their order."""
    columns = [column for column in reader.descriptor.features if column.type == NUMERIC]
    shape = opened.input.shape
    if len(shape) != 2 or shape[0] not in (1, -1):
        raise _signature(opened.input.name, f"is an input of the shape {list(shape)}; it must be one row of numbers [1, columns]")
    if shape[1] != len(columns):
        message = f"the model takes {shape[1]} numbers, the dataset version has {len(columns)} numeric feature columns"
        raise FailedPrecondition("DATASET_MISMATCH", message, model=shape[1], dataset=len(columns))
    rows = example_rows(reader, [column.name for column in columns])
    if opened.format != ONNX:
        inputs = tuple(ColumnInput(column.name, VECTOR, NUMERIC) for column in columns)
        spec = TensorSpec(VECTOR, "FP32", (-1, len(columns)))
        card = replace(card, inputs=(spec,), columns=inputs, tensors=(TensorMap(VECTOR, opened.input.name),))
        return Made(opened, card, {VECTOR: np.stack([rows[column.name] for column in columns], axis=1).astype(np.float32)})
    from modelyard.exporter.worker.imported_onnx import with_columns
    from modelyard.exporter.worker.table_graph import column_inputs, input_specs

    inputs = column_inputs([(column.name, NUMERIC) for column in columns])
    card = replace(card, inputs=input_specs(inputs), columns=inputs)
    data = with_columns(opened.data, card.inputs, card.outputs[0])
    return Made(replace(opened, data=data), card, {each.input: rows[each.name][:, None].astype(np.float32) for each in inputs})


def _write(made: Made, path: Path) -> BundleCard:
    """The bundle, its test vectors answered by the file itself; with a softmax where its answers are no probabilities."""
    answers = _answers(made, path)
    if made.card.classes and not are_probabilities(answers):
        data = _with_softmax(made.opened)
        card = replace(made.card, recipe=f"{made.card.recipe} (softmax added: its outputs are no probabilities)")
        made = replace(made, opened=replace(made.opened, data=data), card=card)
        answers = _answers(made, path)
    if not np.isfinite(answers).all():
        message = f"the model answers with values that are no numbers on the examples of the dataset version ({made.card.recipe})"
        raise FailedPrecondition("NOT_FINITE", message, file=made.card.recipe)
    rows = np.arange(min(len(answers), kept_examples(made.inputs)))
    vectors = TestVectors({name: values[rows] for name, values in made.inputs.items()}, {_name(made): answers[rows]})
    return bundles.write_bundle(path, made.card, made.opened.data, vectors)


def _name(made: Made) -> str:
    return made.card.outputs[0].name


def _answers(made: Made, path: Path) -> Array:
    """What the file answers to the examples, in the runtime that will serve it, all at once and one by one."""
    count = len(next(iter(made.inputs.values())))
    blank = TestVectors(made.inputs, {_name(made): np.zeros((count, made.card.outputs[0].shape[1]), np.float32)})
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.name}.") as folder:
        bundles.write_bundle(Path(folder) / "asked.bundle", made.card, made.opened.data, blank)
        model = load_model(bundles.open_bundle(Path(folder) / "asked.bundle"))
        try:
            together = _computed(made, model)
            alone = model.run({name: values[:1] for name, values in made.inputs.items()})[_name(made)]
        finally:
            model.close()
    if together.shape[0] != count or not np.allclose(together[:1], alone, atol=1e-3, equal_nan=True):
        message = "the model answers an example differently when others are beside it; its graph is made for one at a time"
        raise FailedPrecondition("FIXED_BATCH", message, file=made.card.recipe)
    return np.asarray(together, np.float32)


def _computed(made: Made, model: RunnableModel) -> Array:
    """Its answers to all examples. Raises FailedPrecondition NOT_COMPUTED where its runtime can give none."""
    try:
        return model.run(made.inputs)[_name(made)]
    except (ModelyardError, MemoryError):
        raise
    except Exception as error:  # runtimes raise many kinds
        message = f"{made.card.recipe} cannot answer the examples of the dataset version: {words_of(error)}"
        raise FailedPrecondition("NOT_COMPUTED", message, file=made.card.recipe) from error


def are_probabilities(answers: Array) -> bool:
    """Whether every row [classes] is one of probabilities: 0 to 1, with the sum 1."""
    inside = bool((answers >= 0).all() and (answers <= 1).all())
    return inside and bool((np.abs(answers.sum(axis=1) - 1) <= SUM_TOLERANCE).all())


def _with_softmax(opened: Opened) -> bytes:
    if opened.format == ONNX:
        from modelyard.exporter.worker.imported_onnx import with_softmax

        return with_softmax(opened.data)
    if opened.format == TORCH_EXPORT:
        return torch_softmax(opened.data)
    from modelyard.exporter.worker.tflite_file import with_softmax as litert_softmax

    return litert_softmax(opened.data)


def _signature(name: str, what: str) -> InvalidArgument:
    return InvalidArgument("UNSUPPORTED_SIGNATURE", f"{name} {what}", field="blob", name=name)
