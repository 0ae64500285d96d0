"""Where a model computes: the processor, or a GPU of NVIDIA's.

`auto`: the GPU where there is one that the runtime can use, else the processor. What runs on no GPU (LiteRT, TensorFlow and
OpenVINO, as they are used here) runs on the processor with `auto`, and is refused with `cuda`.
"""

from __future__ import annotations

from typing import Final

from modelyard.core.errors import FailedPrecondition, InvalidArgument

AUTO: Final = "auto"
CPU: Final = "cpu"
CUDA: Final = "cuda"
DEVICES: Final = (AUTO, CPU, CUDA)


def check_device(device: str) -> str:
    """The device. Raises InvalidArgument BAD_DEVICE for a word that is none."""
    if device not in DEVICES:
        message = f"device is {device!r:.40}, it must be one of {', '.join(DEVICES)}"
        raise InvalidArgument("BAD_DEVICE", message, field="device", value=device[:40])
    return device


def chosen_device(device: str, *, cuda: bool, why_not: str = "torch finds no GPU of NVIDIA's here") -> str:
    """CPU or CUDA; cuda: whether it can be had. Raises FailedPrecondition DEVICE_NOT_AVAILABLE with the reason `why_not`."""
    check_device(device)
    if device == CUDA and not cuda:
        raise not_available(why_not)
    return CUDA if cuda and device != CPU else CPU


def only_cpu(device: str, runtime: str) -> None:
    """For a runtime that knows no GPU. Raises FailedPrecondition DEVICE_NOT_AVAILABLE where one was asked for."""
    if check_device(device) == CUDA:
        raise not_available(f"{runtime} computes on the processor alone here")


def not_available(why_not: str) -> FailedPrecondition:
    """The error of a GPU that was asked for and cannot be had."""
    message = f"device is cuda (MODELYARD_DEVICE), but {why_not}; set it to auto or cpu to compute on the processor"
    return FailedPrecondition("DEVICE_NOT_AVAILABLE", message, field="device", device=CUDA)
