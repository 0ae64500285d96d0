"""How a device computes: which numbers, which kernels, and how bytes get to it."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor

from modelyard.core.errors import InvalidArgument
from modelyard.runtime.device import chosen_device

DTYPES: Final = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
PRECISIONS: Final = ("auto", *DTYPES)


@dataclass(frozen=True)
class Precision:
    """The numbers that most of a network is computed with. Weights, their moments and sums stay float32."""

    device: torch.device
    dtype: torch.dtype

    def cast(self) -> torch.autocast:
        """A context in which networks compute with these numbers."""
        return torch.autocast(self.device.type, self.dtype, enabled=self.dtype is not torch.float32)

    def scaler(self) -> torch.amp.GradScaler:
        """Keeps small gradients of float16 from becoming 0; does nothing for numbers with the range of float32."""
        return torch.amp.GradScaler(self.device.type, enabled=self.dtype is torch.float16)


def choose_precision(name: str, device: torch.device) -> Precision:
    """auto: bfloat16 on a GPU that computes faster with it, float16 on one that does not, float32 on a processor (few of which
    have instructions for less). Raises InvalidArgument BAD_PRECISION."""
    if name not in PRECISIONS:
        message = f"precision is {name!r} (MODELYARD_PRECISION); one of {', '.join(PRECISIONS)} is right"
        raise InvalidArgument("BAD_PRECISION", message, field="precision", value=name)
    if name != "auto":
        return Precision(device, DTYPES[name])
    if device.type != "cuda":
        return Precision(device, torch.float32)
    return Precision(device, torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float16)


def open_device(wanted: str, *, deterministic: bool, local_rank: int = 0) -> torch.device:
    """The device to train on: auto, cpu or cuda; of several GPUs that of this process. Chooses the kernels for it.

    deterministic: the same run gives the same bits on the same GPU, at the price of speed. Else the fastest kernels are looked
    for, and products of float32 may be computed with TF32 (10 bits of mantissa). Raises FailedPrecondition DEVICE_NOT_AVAILABLE,
    InvalidArgument BAD_DEVICE.
    """
    if chosen_device(wanted, cuda=torch.cuda.is_available()) == "cpu":
        torch.use_deterministic_algorithms(deterministic, warn_only=True)
        return torch.device("cpu")
    device = torch.device("cuda", local_rank % torch.cuda.device_count())
    torch.cuda.set_device(device)
    if deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # read when the first product is computed
    # Resampling pictures (grid_sample) has no deterministic backward, and needs none: nothing is learned from pixels.
    torch.use_deterministic_algorithms(deterministic, warn_only=True)
    torch.backends.cudnn.benchmark = not deterministic
    torch.backends.cudnn.allow_tf32 = not deterministic
    torch.set_float32_matmul_precision("highest" if deterministic else "high")
    return device


def to_device(values: Tensor, device: torch.device) -> Tensor:
    """On the device; to a GPU through pinned memory, while the processor goes on."""
    if device.type != "cuda":
        return values.to(device)
    return values.pin_memory().to(device, non_blocking=True)


def peak_memory(device: torch.device) -> int:
    """Most bytes of a GPU's memory that tensors held at once since the start; 0 for a processor."""
    return int(torch.cuda.max_memory_allocated(device)) if device.type == "cuda" else 0
