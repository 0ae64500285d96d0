"""Writes a network as a TensorFlow SavedModel of ordinary TensorFlow operators.

Its signature `serving_default` takes `image` uint8 [N, H, W, C] with N open and gives `probabilities` float32 [N, classes].
Weights are variables, so the graph itself stays small. Nothing of our own and no XLA is inside: whatever serves SavedModels
serves it.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

from modelyard.exporter.worker.network import CONV, DENSE, DEPTHWISE, Network, Operator
from modelyard.runtime.tensorflow_import import tensorflow as tf

IMAGE: Final = "image"
PROBABILITIES: Final = "probabilities"
_KEPT: Final = (
    "saved_model.pb",
    "fingerprint.pb",
    "variables/variables.index",
    "variables/variables.data-00000-of-00001",
)


def saved_model(network: Network) -> dict[str, bytes]:
    """The files of the SavedModel, by their names inside a bundle."""
    module = tf.Module()
    module.constants = {name: tf.Variable(value, trainable=False) for name, value in network.constants.items()}
    shape = network.shapes[network.input]
    specification = tf.TensorSpec([None, *shape[1:]], tf.uint8, name=IMAGE)

    @tf.function(input_signature=[specification], autograph=False)  # type: ignore[untyped-decorator]
    def serve(image: Any) -> Any:
        return {PROBABILITIES: answer(network, module.constants, image)}

    with tempfile.TemporaryDirectory() as folder:
        tf.saved_model.save(module, folder, signatures={"serving_default": serve.get_concrete_function()})
        return {f"saved_model/{name}": path.read_bytes() for name in _KEPT if (path := Path(folder) / name).exists()}


def answer(network: Network, constants: Mapping[str, Any], image: Any) -> Any:
    """What the network answers for pictures uint8 [N, H, W, C]: [N, classes]."""
    values: dict[str, Any] = {network.input: tf.cast(image, tf.float32)}
    for operator in network.operators:
        inputs = [values[name] if name in values else tf.convert_to_tensor(constants[name]) for name in operator.inputs]
        values[operator.output] = _cut(_OPERATORS[operator.kind](operator, *inputs), operator.bounds)
    return tf.identity(values[network.output])


def _cut(value: Any, bounds: tuple[float, float]) -> Any:
    low, high = bounds
    if bounds == (0.0, math.inf):
        return tf.nn.relu(value)
    if bounds == (0.0, 6.0):
        return tf.nn.relu6(value)
    value = tf.minimum(value, high) if math.isfinite(high) else value
    return tf.maximum(value, low) if math.isfinite(low) else value


def _paddings(operator: Operator) -> list[list[int]]:
    top, bottom, left, right = operator.options["pads"]
    return [[0, 0], [top, bottom], [left, right], [0, 0]]


def _conv(operator: Operator, x: Any, weights: Any, bias: Any) -> Any:
    options = operator.options
    kernel = tf.transpose(weights, [1, 2, 3, 0])
    padded = tf.pad(x, _paddings(operator)) if any(options["pads"]) else x
    return tf.nn.bias_add(tf.nn.conv2d(padded, kernel, options["stride"], "VALID", dilations=options["dilation"]), bias)


def _depthwise(operator: Operator, x: Any, weights: Any, bias: Any) -> Any:
    options = operator.options
    _, height, width, outputs = weights.shape
    channels = x.shape[3]
    kernel = tf.reshape(weights, [height, width, channels, outputs // channels])
    padded = tf.pad(x, _paddings(operator)) if any(options["pads"]) else x
    stride = [1, *options["stride"], 1]
    return tf.nn.bias_add(tf.nn.depthwise_conv2d(padded, kernel, stride, "VALID", dilations=options["dilation"]), bias)


def _dense(operator: Operator, x: Any, weights: Any, bias: Any) -> Any:
    return tf.nn.bias_add(tf.matmul(x, weights, transpose_b=True), bias)


def _max_pool(operator: Operator, x: Any) -> Any:
    options = operator.options
    padded = tf.pad(x, _paddings(operator), constant_values=x.dtype.min) if any(options["pads"]) else x
    return tf.nn.max_pool2d(padded, options["kernel"], options["stride"], "VALID")


def _average_pool(operator: Operator, x: Any) -> Any:
    options = operator.options
    padded = tf.pad(x, _paddings(operator)) if any(options["pads"]) else x
    return tf.nn.avg_pool2d(padded, options["kernel"], options["stride"], "VALID")


def _reshape(operator: Operator, x: Any) -> Any:
    return tf.reshape(x, [-1, *operator.options["to"][1:]])


def _hard_sigmoid(operator: Operator, x: Any) -> Any:
    return tf.clip_by_value(x * operator.options["alpha"] + operator.options["beta"], 0.0, 1.0)


_OPERATORS: Final[Mapping[str, Callable[..., Any]]] = {
    CONV: _conv,
    DEPTHWISE: _depthwise,
    DENSE: _dense,
    "add": lambda operator, a, b: a + b,
    "mul": lambda operator, a, b: a * b,
    "sub": lambda operator, a, b: a - b,
    "max_pool": _max_pool,
    "average_pool": _average_pool,
    "mean": lambda operator, x: tf.reduce_mean(x, operator.options["axes"], keepdims=operator.options["keep"]),
    "clip": lambda operator, x: x,
    "enlarge": lambda operator, x: tf.repeat(tf.repeat(x, operator.options["by"][0], 1), operator.options["by"][1], 2),
    "hard_swish": lambda operator, x: x * tf.nn.relu6(x + 3.0) * (1 / 6),
    "hard_sigmoid": _hard_sigmoid,
    "logistic": lambda operator, x: tf.sigmoid(x),
    "tanh": lambda operator, x: tf.tanh(x),
    "leaky": lambda operator, x: tf.nn.leaky_relu(x, operator.options["alpha"]),
    "softmax": lambda operator, x: tf.nn.softmax(x),
    "reshape": _reshape,
    "transpose": lambda operator, x: tf.transpose(x, operator.options["order"]),
    "concat": lambda operator, *parts: tf.concat(parts, operator.options["axis"]),
    "pad": lambda operator, x: tf.pad(x, _paddings(operator)),
}
