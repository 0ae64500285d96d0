"""Batch normalization over the parts of a batch that several processes hold: the statistics are those of the whole batch.

torch.nn.SyncBatchNorm does so on GPUs alone, and timm's norms are classes of their own. Here a norm keeps its class, its names
and what follows it; only where its mean and variance come from changes. Two small messages a layer and step: sums forward, sums
of gradients backward. Derivation of the gradient: Ioffe and Szegedy 2015, https://arxiv.org/abs/1502.03167, section 3.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm


def share_statistics(module: nn.Module) -> int:
    """Makes every batch norm of a network take its statistics from the whole group's batch; gives how many there are.

    In eval mode nothing changes. The group is torch.distributed's default one.
    """
    norms = [each for each in module.modules() if isinstance(each, _BatchNorm)]
    for norm in norms:
        norm.__class__ = _shared(type(norm))
    return len(norms)


_known: dict[type[Any], type[Any]] = {}


def _shared(cls: type[Any]) -> type[Any]:
    """The class with the same forward pass, in which torch's batch_norm is the group's."""
    if cls not in _known:
        _known[cls] = type(f"Shared{cls.__name__}", (_Shared, cls), {"_plain": cls})
    return _known[cls]


class _Shared:
    """In front of a batch norm's class."""

    _plain: type[Any]

    def forward(self, x: Tensor) -> Tensor:
        norm: Any = self
        if not norm.training or not norm.track_running_stats:
            plain: Tensor = self._plain.forward(norm, x)
            return plain
        norm.num_batches_tracked.add_(1)
        # A norm without a momentum keeps the mean over all batches.
        momentum = 1.0 / float(norm.num_batches_tracked) if norm.momentum is None else norm.momentum
        y: Tensor = _Normalize.apply(x, norm.weight, norm.bias, norm.running_mean, norm.running_var, momentum, norm.eps)
        # timm's norms hold the activation that follows, and a dropout before it.
        for follows in ("drop", "act"):
            y = getattr(norm, follows)(y) if hasattr(norm, follows) else y
        return y


class _Normalize(torch.autograd.Function):
    """float [N, C, ...] in and out."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, running_mean: Tensor, running_var: Tensor, momentum: float, eps: float
    ) -> Tensor:
        own = x.numel() // x.shape[1]
        mean, variance = torch.batch_norm_update_stats(x, None, None, 0.0)
        sums = torch.cat([own * mean, own * (variance + mean * mean), mean.new_tensor([float(own)])]).double()
        dist.all_reduce(sums)
        channels, count = x.shape[1], sums[-1]
        mean, square = (sums[:channels] / count), sums[channels:-1] / count
        variance = (square - mean * mean).clamp_(min=0)
        with torch.no_grad():
            running_mean.lerp_(mean.to(running_mean.dtype), momentum)
            running_var.lerp_((variance * (count / (count - 1))).to(running_var.dtype), momentum)
        mean, variance = mean.float(), variance.float()
        ctx.save_for_backward(x, weight, mean, (variance + eps).rsqrt(), variance, count.float())
        ctx.eps = eps
        return torch.nn.functional.batch_norm(x, mean, variance, weight, bias, False, 0.0, eps)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, mean, inverse, variance, count = ctx.saved_tensors
        (given,) = gradients
        # As if mean and variance were constants; the sums come with it: of g (bias) and of g times the normalized x (weight).
        direct, by_weight, by_bias = torch.ops.aten.native_batch_norm_backward(
            given, x, weight, mean, variance, None, None, False, ctx.eps, [True, True, True]
        )
        sums = torch.cat([by_bias, by_weight])
        dist.all_reduce(sums)
        channels = x.shape[1]
        scale = weight.float() * inverse
        slope = -scale * inverse * sums[channels:] / count
        offset = -scale * sums[:channels] / count - slope * mean
        shape = (1, channels) + (1,) * (x.dim() - 2)
        whole = torch.addcmul(direct + offset.to(direct.dtype).view(shape), x, slope.to(x.dtype).view(shape))
        return whole, by_weight, by_bias, None, None, None, None
