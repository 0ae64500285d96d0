"""From pictures to a network's input, and how well the network does on them."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from modelyard.formats.model import Normalization
from modelyard.trainer.worker.examples import Examples

VALIDATION_BATCH = 256


def evaluate(module: nn.Module, examples: Examples, scaling: tuple[Tensor, Tensor]) -> dict[str, float]:
    """val_accuracy (0 to 1) and val_loss (mean cross entropy, nats) ; empty without examples. Leaves it in eval mode."""
    if not len(examples):
        return {}
    module.eval()
    device = scaling[0].device
    correct, loss = torch.zeros((), device=device), torch.zeros((), device=device)
    with torch.inference_mode(), precision(device):
        for batch in examples.in_order(VALIDATION_BATCH):
            labels = batch.labels.to(device)
            logits = module(scaled(batch.pictures.to(device), scaling)).float()
            correct += (logits.argmax(1) == labels).sum()
            loss += nn.functional.cross_entropy(logits, labels, reduction="sum")
    return {"val_accuracy": float(correct) / len(examples), "val_loss": float(loss) / len(examples)}


def measured_normalization(pictures: npt.NDArray[np.uint8]) -> Normalization:
    """Mean and standard deviation per channel, on the scale 0 to 1, over at most about 2,000 pictures uint8 [N, H, W, C]."""
    some = pictures[:: max(1, len(pictures) // 2000)].astype(np.float32) / 255
    mean, std = some.mean((0, 1, 2)), some.std((0, 1, 2))
    return Normalization(tuple(round(float(each), 4) for each in mean), tuple(max(0.05, round(float(each), 4)) for each in std))


def scaled(pictures: Tensor, scaling: tuple[Tensor, Tensor]) -> Tensor:
    """pixel * scale + shift: uint8 [N, H, W, C] to float [N, C, H, W], in channels-last memory without a copy."""
    scale, shift = scaling
    return torch.addcmul(shift, pictures.permute(0, 3, 1, 2).to(scale.dtype), scale)


def precision(device: torch.device) -> torch.autocast:
    """bfloat16 where a GPU computes faster with it; nothing on a CPU."""
    return torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda" and torch.cuda.is_bf16_supported())
