"""From pictures to a network's input, and how well the network does on them."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from modelyard.formats.model import Normalization
from modelyard.trainer.worker.examples import Examples
from modelyard.trainer.worker.group import ALONE, Group
from modelyard.trainer.worker.precision import Precision, to_device

VALIDATION_BATCH = 256


def evaluate(
    module: nn.Module,
    examples: Examples,
    scaling: tuple[Tensor, Tensor],
    precision: Precision | None = None,
    group: Group = ALONE,
) -> dict[str, float]:
    """val_accuracy (0 to 1) and val_loss (mean cross entropy, nats); empty without examples. Leaves it in eval mode.

    precision: float32 when None. In a group each process takes its part of the examples, and all get the figures of the whole.
    """
    if not len(examples):
        return {}
    module.eval()
    device = scaling[0].device
    correct, loss = torch.zeros((), device=device), torch.zeros((), device=device)
    with torch.inference_mode(), (precision or Precision(device, torch.float32)).cast():
        for batch in examples.in_order(VALIDATION_BATCH, rank=group.rank, world_size=group.size):
            labels = to_device(batch.labels, device)
            logits = module(scaled(to_device(batch.pictures, device), scaling)).float()
            correct += (logits.argmax(1) == labels).sum()
            loss += nn.functional.cross_entropy(logits, labels, reduction="sum")
    right, total = group.sum([float(correct), float(loss)])
    return {"val_accuracy": right / len(examples), "val_loss": total / len(examples)}


def measured_normalization(pictures: npt.NDArray[np.uint8]) -> Normalization:
    """Mean and standard deviation per channel, on the scale 0 to 1, over at most about 2,000 pictures uint8 [N, H, W, C]."""
    some = pictures[:: max(1, len(pictures) // 2000)].astype(np.float32) / 255
    mean, std = some.mean((0, 1, 2)), some.std((0, 1, 2))
    return Normalization(tuple(round(float(each), 4) for each in mean), tuple(max(0.05, round(float(each), 4)) for each in std))


def scaled(pictures: Tensor, scaling: tuple[Tensor, Tensor]) -> Tensor:
    """pixel * scale + shift: uint8 [N, H, W, C] to float [N, C, H, W], in channels-last memory without a copy."""
    scale, shift = scaling
    return torch.addcmul(shift, pictures.permute(0, 3, 1, 2).to(scale.dtype), scale)
