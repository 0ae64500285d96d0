"""The Keras form of a network of ours: the same layers, the same numbers, in TensorFlow's layout.

The torch module is the one description of an architecture; it is read layer by layer, and its weights are taken along. So a
network starts from the same weights in both frameworks, and what TensorFlow trained goes back under torch's names: model files,
exports and warm starts know no framework.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import nn

from modelyard.core.errors import InvalidArgument
from modelyard.formats.checkpoint import Arrays
from modelyard.recipes.build_mlp import RowNetwork
from modelyard.recipes.build_networks import KeywordNetwork, ResidualBlock, SmallResidualNetwork
from modelyard.trainer.worker.keras_import import keras

CONV, DEPTHWISE, DENSE = (3, 2, 0, 1), (2, 3, 0, 1), (1, 0)
"""Axes of torch's weights by those of Keras: [kh, kw, in, out] to [out, in, kh, kw], [kh, kw, in, 1] to [in, 1, kh, kw]."""


@dataclass(frozen=True)
class Slot:
    """A variable and what torch's state dict calls it. order: see CONV; empty: as it is. learned: whether gradients move it."""

    name: str
    variable: Any
    order: tuple[int, ...] = ()
    learned: bool = True

    def to_torch(self, value: Any) -> Any:
        """A value of the variable in torch's layout: a copy."""
        array = np.asarray(value)
        return np.array(array.transpose(self.order) if self.order else array, order="C", copy=True)

    def to_keras(self, array: Any) -> Any:
        """The other way."""
        return array.transpose(np.argsort(self.order)) if self.order else array


@dataclass(frozen=True)
class KerasForm:
    """The model takes normalized float [N, H, W, C], or rows [N, width], and gives logits [N, classes].

    counters: names in torch's state dict that say how many batches a norm has seen, which changes no answer."""

    model: Any
    slots: tuple[Slot, ...]
    counters: tuple[str, ...]

    def weights(self, values: list[Any] | None = None) -> Arrays:
        """All weights as torch's state dict has them. values: of each slot, instead of its variable's own."""
        held = values or [slot.variable.numpy() for slot in self.slots]
        arrays = {slot.name: slot.to_torch(value) for slot, value in zip(self.slots, held, strict=True)}
        return arrays | {name: np.zeros((), np.int64) for name in self.counters}

    def load(self, weights: Arrays) -> None:
        """Sets all variables. Raises ValueError naming what does not fit."""
        for slot, value in zip(self.slots, self.values_of(weights), strict=True):
            slot.variable.assign(value)

    def values_of(self, weights: Arrays) -> list[Any]:
        """Weights of torch's state dict as the slots' variables hold them. Raises ValueError naming what does not fit."""
        own = {slot.name for slot in self.slots} | set(self.counters)
        if own != set(weights):
            raise ValueError(f"tensors differ: {', '.join(sorted(own ^ set(weights))[:6])}")
        values = []
        for slot in self.slots:
            value, wanted = slot.to_keras(weights[slot.name]), tuple(slot.variable.shape)
            if value.shape != wanted:
                raise ValueError(f"{slot.name} has the shape {list(value.shape)}, {list(wanted)} is right")
            values.append(value)
        return values


def keras_form(module: nn.Module, *shape: int) -> KerasForm:
    """The Keras form of a network, with its weights. shape: of an example, height, width and channels, or the width of a row.

    Raises InvalidArgument NO_KERAS_FORM naming the layer that has none.
    """
    reading = _Reading()
    entering = keras.Input(shape)
    x = reading.whole(entering, module)
    form = KerasForm(keras.Model(entering, x), tuple(reading.slots()), tuple(reading.counters))
    form.load({name: value.detach().cpu().numpy() for name, value in module.state_dict().items()})
    return form


class _Reading:
    """Goes through a module once."""

    def __init__(self) -> None:
        self._layers: list[tuple[str, Any, tuple[int, ...]]] = []
        self.counters: list[str] = []

    def slots(self) -> list[Slot]:
        """After the model was made: variables exist from then on."""
        found = []
        for name, layer, order in self._layers:
            if isinstance(layer, keras.layers.BatchNormalization):
                found += [
                    Slot(f"{name}.weight", layer.gamma),
                    Slot(f"{name}.bias", layer.beta),
                    Slot(f"{name}.running_mean", layer.moving_mean, learned=False),
                    Slot(f"{name}.running_var", layer.moving_variance, learned=False),
                ]
                continue
            found.append(Slot(f"{name}.weight", layer.kernel, order))
            if layer.use_bias:
                found.append(Slot(f"{name}.bias", layer.bias))
        return found

    def whole(self, x: Any, module: nn.Module) -> Any:
        if isinstance(module, RowNetwork):
            return self.part(self.part(x, "features", module.features), "head", module.head)
        if not isinstance(module, KeywordNetwork | SmallResidualNetwork):
            raise _refusal("", module)
        x = self.part(x, "features", module.features)
        x = keras.layers.GlobalAveragePooling2D()(x)
        return self.part(x, "head", module.head)

    def part(self, x: Any, name: str, module: nn.Module) -> Any:
        if isinstance(module, nn.Sequential):
            for place, child in module.named_children():
                x = self.part(x, f"{name}.{place}", child)
            return x
        if isinstance(module, ResidualBlock):
            inside = self.part(self.part(x, f"{name}.first", module.first), f"{name}.second", module.second)
            return keras.layers.ReLU()(keras.layers.Add()([x, inside]))
        if isinstance(module, nn.ReLU):
            return keras.layers.ReLU()(x)
        if isinstance(module, nn.Conv2d):
            return self._conv(x, name, module)
        if isinstance(module, nn.BatchNorm2d) and module.affine and module.momentum is not None:
            self.counters.append(f"{name}.num_batches_tracked")
            norm = keras.layers.BatchNormalization(momentum=1 - module.momentum, epsilon=module.eps, name=name)
            return self._kept(x, name, norm)
        if isinstance(module, nn.Linear):
            dense = keras.layers.Dense(module.out_features, use_bias=module.bias is not None, name=name)
            return self._kept(x, name, dense, DENSE)
        raise _refusal(name, module)

    def _conv(self, x: Any, name: str, module: nn.Conv2d) -> Any:
        depthwise = module.groups == module.in_channels == module.out_channels and module.groups > 1
        plain = module.groups == 1 or depthwise
        if not plain or module.padding_mode != "zeros" or isinstance(module.padding, str) or set(module.dilation) != {1}:
            raise _refusal(name, module)
        down, right = module.padding
        # Padding by zeros and then taking only whole windows: torch's places, also where the stride is 2.
        if down or right:
            x = keras.layers.ZeroPadding2D(((down, down), (right, right)))(x)
        options = {"strides": module.stride, "padding": "valid", "use_bias": module.bias is not None, "name": name}
        size = tuple(module.kernel_size)
        if depthwise:
            return self._kept(x, name, keras.layers.DepthwiseConv2D(size, **options), DEPTHWISE)
        return self._kept(x, name, keras.layers.Conv2D(module.out_channels, size, **options), CONV)

    def _kept(self, x: Any, name: str, layer: Any, order: tuple[int, ...] = ()) -> Any:
        self._layers.append((name, layer, order))
        return layer(x)


def _refusal(name: str, module: nn.Module) -> InvalidArgument:
    what = f"its layer {name}, a {type(module).__name__}," if name else f"a {type(module).__name__}"
    message = f"the network cannot be trained in tensorflow: {what} has no Keras form here; framework torch is right"
    return InvalidArgument("NO_KERAS_FORM", message, field="training_job.recipe.framework", layer=name)
