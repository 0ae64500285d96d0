"""The form of an exported model: its format, the numbers it computes with, and what is left in floating point."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from modelyard.core.errors import InvalidArgument
from modelyard.formats.tasks import task_of

ONNX: Final = "onnx"
LITERT: Final = "litert"
SAVEDMODEL: Final = "savedmodel"
OPENVINO: Final = "openvino"
EDGE: Final = "edge"
TORCH_EXPORT: Final = "torch_export"

FP32: Final = "fp32"
FP16: Final = "fp16"
INT8: Final = "int8"
DYNAMIC_INT8: Final = "dynamic_int8"

PRECISIONS_OF: Final[dict[str, tuple[str, ...]]] = {
    ONNX: (FP32, FP16, INT8, DYNAMIC_INT8),
    LITERT: (FP32, DYNAMIC_INT8, INT8),
    SAVEDMODEL: (FP32,),
    OPENVINO: (FP32, FP16, INT8),
    EDGE: (INT8,),
    TORCH_EXPORT: (FP32,),
}
"""What each format can be made in, for pictures. A table is made in ONNX fp32 alone: its trees and encodings are no matrices."""

ACCELERATORS: Final = tuple(
    [f"ethos-u55-{macs}" for macs in (32, 64, 128, 256)]
    + [f"ethos-u65-{macs}" for macs in (256, 512)]
    + [f"ethos-u85-{macs}" for macs in (128, 256, 512, 1024, 2048)]
)
"""Arm Ethos-U configurations that Vela compiles for."""


@dataclass(frozen=True)
class Form:
    """What to make.

    per_channel: one scale for each output channel of the weights (int8). float_layers: names of the network's modules (as
    torch's named_modules gives them, without the leading `module.`) that stay in floating point; their children stay so too.
    accelerator: one of ACCELERATORS; only for `edge`.
    """

    format: str = ONNX
    precision: str = FP32
    per_channel: bool = True
    float_layers: tuple[str, ...] = ()
    accelerator: str = ""

    @property
    def quantized(self) -> bool:
        """Whether weights are 8-bit integers."""
        return self.precision in (INT8, DYNAMIC_INT8)

    @property
    def needs_calibration(self) -> bool:
        """Whether ranges of activations must be seen on a calibration set."""
        return self.precision == INT8


def form_for(task: str, form: Form) -> Form:
    """The form, or the widest that a task's models are made in where they are not made in that one."""
    possible = task_of(task).forms
    if form.precision in possible.get(form.format, ()):
        return form
    return Form(ONNX, FP32)


def check_form(form: Form, task: str = "") -> Form:
    """The form. Raises InvalidArgument UNSUPPORTED_FORM naming the field and what is possible; `task`: for models of that
    task."""
    if form.format not in PRECISIONS_OF:
        raise _unsupported("format", form.format, PRECISIONS_OF)
    possible = task_of(task).forms if task else PRECISIONS_OF
    if form.format not in possible or form.precision not in possible[form.format]:
        raise _not_for(form, task) if task and form.precision in PRECISIONS_OF[form.format] else _bad_precision(form)
    if form.accelerator and form.format != EDGE:
        message = (
            f"accelerator is {form.accelerator!r:.60}; only the format edge is compiled for an accelerator, not {form.format}"
        )
        raise InvalidArgument("UNSUPPORTED_FORM", message, field="accelerator", accelerator=form.accelerator, format=form.format)
    if form.accelerator and form.accelerator not in ACCELERATORS:
        raise _unsupported("accelerator", form.accelerator, ACCELERATORS)
    return form


def _not_for(form: Form, task: str) -> InvalidArgument:
    known = task_of(task)
    made = "; ".join(f"{format} {', '.join(precisions)}" for format, precisions in known.forms.items()) or "nothing"
    what = "a tabular model" if known.table else f"a model for {task}"
    why = f": {known.why_not}" if known.why_not else ""
    message = f"{what} is exported as {made} only, not as {form.format} {form.precision}{why}"
    return InvalidArgument("UNSUPPORTED_FORM", message, field="format", format=form.format, precision=form.precision)


def _bad_precision(form: Form) -> InvalidArgument:
    return _unsupported("precision", form.precision, PRECISIONS_OF[form.format], f" for the format {form.format}")


def _unsupported(field: str, value: str, right: dict[str, tuple[str, ...]] | tuple[str, ...], where: str = "") -> InvalidArgument:
    message = f"{field} is {value!r:.60}{where}; it must be one of {', '.join(right)}"
    return InvalidArgument("UNSUPPORTED_FORM", message, field=field, value=value[:60])
