"""What a caller's tensors must be, whatever runs the model: names, datatypes, shapes, pictures as files, text as UTF-8.

Every runtime checks with this, so that a wrong tensor gets the same error from each, and none of them meets one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from modelyard.core.errors import InvalidArgument
from modelyard.formats import pictures, sounds
from modelyard.formats.bundle import DATATYPES, BundleCard, TensorSpec
from modelyard.formats.dataset_descriptor import AUDIO_CLASSIFICATION

Array = NDArray[Any]
Tensors = dict[str, Array]

IMAGE: Final = "image"
LABEL: Final = "label"
PROBABILITIES: Final = "probabilities"


def prepared(card: BundleCard, inputs: Mapping[str, Array]) -> Tensors:
    """The tensors of the card's signature: checked, pictures decoded, text as str, C order, all with the same batch (1 or more).

    Raises InvalidArgument naming the input, what it is, and what would be right.
    """
    specs = {spec.name: spec for spec in card.inputs}
    _check_names(inputs, specs)
    tensors = {name: _tensor(card, spec, np.asarray(inputs[name])) for name, spec in specs.items()}
    _check_batch(tensors)
    return tensors


def _tensor(card: BundleCard, spec: TensorSpec, value: Array) -> Array:
    if spec.name == IMAGE and card.picture and value.dtype == object:
        value = _decode(card, spec, value)
    expected = DATATYPES[spec.datatype]
    if spec.datatype == "BYTES":
        value = _text(spec, value)
    elif value.dtype.name != expected:
        found = value.dtype.name
        raise _wrong(spec, "WRONG_DATATYPE", f"has the type {found}, it must be {expected} ({spec.datatype})", found=found)
    if value.ndim != len(spec.shape) or value.shape[1:] != spec.shape[1:]:
        found = str(list(value.shape))
        raise _wrong(spec, "WRONG_SHAPE", f"has the shape {found}, it must be {_shape_text(spec)}", found=found)
    return np.ascontiguousarray(value)


def _decode(card: BundleCard, spec: TensorSpec, files: Array) -> Array:
    picture = card.picture
    if picture is None or files.ndim != 1:
        message = f"holds picture files in the shape {list(files.shape)}, it must be one file per example: [N]"
        raise _wrong(spec, "WRONG_SHAPE", message, found=str(list(files.shape)))
    size = (picture.height, picture.width, picture.channels)
    decode, what = (sounds.decode, "a WAV or FLAC") if card.task == AUDIO_CLASSIFICATION else (pictures.decode, "a JPEG or PNG")
    decoded = np.empty((len(files), *size), np.uint8)
    for row, data in enumerate(files):
        if not isinstance(data, bytes | bytearray | memoryview):
            message = f"[{row}] is of the type {type(data).__name__}, it must be the bytes of {what} file"
            raise _wrong(spec, "WRONG_DATATYPE", message, found=type(data).__name__)
        decoded[row] = decode(bytes(data), height=size[0], width=size[1], channels=size[2], name=f"image[{row}]")
    return decoded


def _check_names(inputs: Mapping[str, Array], specs: Mapping[str, TensorSpec]) -> None:
    for name in inputs:
        if name not in specs:
            message = f"input {name!r} is unknown; the model takes {_names(list(specs))}"
            raise InvalidArgument("UNKNOWN_INPUT", message, field=f"inputs.{name}", input=name)
    for name in specs:
        if name not in inputs:
            raise _wrong(
                specs[name], "MISSING_INPUT", f"is missing; it must be {specs[name].datatype} {_shape_text(specs[name])}"
            )


def _check_batch(tensors: Tensors) -> None:
    sizes = {name: value.shape[0] for name, value in tensors.items()}
    if len(set(sizes.values())) != 1:
        message = f"the inputs hold different numbers of examples: {sizes}; the first axis must be the same in all"
        raise InvalidArgument("WRONG_SHAPE", message, field="inputs", sizes=sizes)
    if 0 in sizes.values():
        raise InvalidArgument("EMPTY_BATCH", "the inputs hold 0 examples; at least 1 is needed", field="inputs")


def _text(spec: TensorSpec, value: Array) -> Array:
    """The same array with every element a str."""
    if value.dtype.kind not in "OUS":
        found = value.dtype.name
        raise _wrong(spec, "WRONG_DATATYPE", f"has the type {found}, it must be text (BYTES)", found=found)
    out = np.empty(value.shape, dtype=object)
    out.ravel()[:] = [_as_str(spec, element) for element in value.ravel().tolist()]
    return out


def _as_str(spec: TensorSpec, element: object) -> str:
    if isinstance(element, str):
        return element
    if not isinstance(element, bytes):
        found = type(element).__name__
        raise _wrong(spec, "WRONG_DATATYPE", f"holds a value of the type {found}, it must hold text (BYTES)", found=found)
    try:
        return element.decode()
    except UnicodeDecodeError as error:
        raise _wrong(spec, "NOT_UTF8", f"holds {element[:40]!r}, which is not UTF-8 text", found=element[:40]) from error


def _wrong(spec: TensorSpec, reason: str, what: str, *, found: object = "") -> InvalidArgument:
    return InvalidArgument(
        reason,
        f"input {spec.name!r} {what}",
        field=f"inputs.{spec.name}",
        input=spec.name,
        found=found,
        expected=_shape_text(spec),
    )


def _shape_text(spec: TensorSpec) -> str:
    return f"[{', '.join('N' if size == -1 else str(size) for size in spec.shape)}]"


def _names(names: Sequence[str]) -> str:
    shown = ", ".join(repr(name) for name in names[:20])
    return shown if len(names) <= 20 else f"{shown} and {len(names) - 20} more"
