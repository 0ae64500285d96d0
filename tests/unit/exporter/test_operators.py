"""Every operator that networks here are made of, through ONNX, LiteRT and TensorFlow.

The same answers in floating point, near ones in integers.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from ai_edge_litert.interpreter import Interpreter
from torch import Tensor, nn

from modelyard.core.errors import InvalidArgument
from modelyard.exporter.worker import to_onnx
from modelyard.exporter.worker.convert import prepare
from modelyard.exporter.worker.fold import folded
from modelyard.exporter.worker.network import WEIGHTED, Network, consumers_of, layer_of
from modelyard.exporter.worker.parity import graph_runner
from modelyard.exporter.worker.picture_graph import predict, untrained_model
from modelyard.exporter.worker.ranges import ranges_by, seen_ranges
from modelyard.exporter.worker.tflite_file import arena_bytes, read_facts
from modelyard.exporter.worker.to_litert import dynamic_file, float_file, integer_file
from modelyard.formats.model import PictureInput
from modelyard.recipes.build_image import ServedImageModel

PICTURE = PictureInput(12, 10, 3)
CLASSES = 4


class Around(nn.Module):
    """A network with one step in its middle."""

    def __init__(self, step: nn.Module | Callable[[Tensor], Tensor], channels: int = 8) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.step = step if isinstance(step, nn.Module) else Called(step)
        self.head = nn.Linear(channels, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = self.step(self.stem(x))
        scores: Tensor = self.head(x.mean((2, 3)) if x.ndim == 4 else x)
        return scores * 4


class Called(nn.Module):
    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


class Gate(nn.Module):
    """Squeeze and excitation."""

    def __init__(self, gate: nn.Module) -> None:
        super().__init__()
        self.narrow, self.gate = nn.Conv2d(8, 8, 1), gate

    def forward(self, x: Tensor) -> Tensor:
        factor: Tensor = self.gate(self.narrow(x.mean((2, 3), keepdim=True)))
        return x * factor


def lonely_norm() -> nn.Module:
    """A batch norm with nothing before it that it could be folded into."""
    norm = nn.BatchNorm2d(8)
    norm.running_mean, norm.running_var = torch.linspace(-1, 1, 8), torch.linspace(0.5, 2, 8)
    return nn.Sequential(nn.ReLU(), norm)


STEPS: dict[str, tuple[Callable[[], Any], int]] = {
    "relu": (nn.ReLU, 8),
    "relu6": (nn.ReLU6, 8),
    "bounds of its own": (lambda: lambda x: torch.clamp(x, -0.3, 0.7), 8),
    "bound below alone": (lambda: lambda x: torch.clamp(x, min=-0.2), 8),
    "hard swish": (nn.Hardswish, 8),
    "swish": (nn.SiLU, 8),
    "tanh": (nn.Tanh, 8),
    "leaky": (lambda: nn.LeakyReLU(0.1), 8),
    "gate of a hard sigmoid": (lambda: Gate(nn.Hardsigmoid()), 8),
    "gate of a sigmoid": (lambda: Gate(nn.Sigmoid()), 8),
    "depthwise, stride 2": (lambda: nn.Conv2d(8, 8, 3, stride=2, padding=1, groups=8), 8),
    "depthwise, two each": (lambda: nn.Conv2d(8, 16, 3, padding=1, groups=8), 16),
    "dilated": (lambda: nn.Conv2d(8, 8, 3, padding=2, dilation=2), 8),
    "wide kernel, no bias": (lambda: nn.Conv2d(8, 8, (1, 5), stride=(2, 1), padding=(0, 2), bias=False), 8),
    "max pool": (lambda: nn.MaxPool2d(3, 2, padding=1), 8),
    "max pool of positive": (lambda: nn.Sequential(nn.ReLU(), nn.MaxPool2d(2)), 8),
    "average pool": (lambda: nn.AvgPool2d(3, 2, padding=1), 8),
    "zeros around": (lambda: nn.ZeroPad2d((1, 2, 0, 3)), 8),
    "side by side": (lambda: lambda x: torch.cat([torch.relu(x), x * 3], 1), 16),
    "difference": (lambda: lambda x: x - torch.relu(x) * 0.5, 8),
    "sum cut at zero": (lambda: lambda x: torch.relu(x + torch.tanh(x)), 8),
    "division": (lambda: lambda x: x / 1.5, 8),
    "lonely norm": (lonely_norm, 8),
    "global pool": (lambda: nn.AdaptiveAvgPool2d(1), 8),
    "enlarged": (lambda: nn.Sequential(nn.Upsample(scale_factor=(2, 3)), nn.Conv2d(8, 8, 3, stride=2)), 8),
    "flattened": (lambda: nn.Sequential(nn.MaxPool2d(6, 5), nn.Flatten()), 16),
}


def served(step: Any, channels: int) -> ServedImageModel:
    torch.manual_seed(0)
    return ServedImageModel(Around(step, channels), (0.4, 0.5, 0.6), (0.2, 0.25, 0.3)).eval()


def pictures(count: int = 24) -> Any:
    return np.random.default_rng(0).integers(0, 256, (count, PICTURE.height, PICTURE.width, 3), np.uint8)


def run_litert(data: bytes, given: Any) -> Any:
    model = Interpreter(model_content=data, num_threads=1)
    model.allocate_tensors()
    entering, leaving = model.get_input_details()[0], model.get_output_details()[0]
    answers = []
    for picture in given:
        integer = entering["dtype"] == np.int8
        model.set_tensor(
            entering["index"], ((picture.astype(np.int16) - 128) if integer else picture).astype(entering["dtype"])[None]
        )
        model.invoke()
        answers.append(model.get_tensor(leaving["index"])[0].astype(np.float32))
    found = np.stack(answers)
    return (found + 128) / 256 if entering["dtype"] == np.int8 else found


def made(name: str) -> tuple[ServedImageModel, Any, Network]:
    build, channels = STEPS[name]
    model = served(build(), channels)
    prepared = prepare(model, PICTURE)
    return model, prepared.graph, prepared.network("litert")


@pytest.mark.parametrize("name", STEPS)
def test_litert_answers_as_torch_does(name: str) -> None:
    model, graph, network = made(name)
    given = pictures()
    expected = predict(model, given)
    assert np.std(expected) > 0.01, "the network must say different things"
    np.testing.assert_allclose(run_litert(float_file(network), given), expected, atol=1e-5)
    np.testing.assert_allclose(run_litert(dynamic_file(network), given), expected, atol=0.02)
    ranges = ranges_by("min_max", seen_ranges(graph, given))
    np.testing.assert_allclose(run_litert(integer_file(network, ranges), given), expected, atol=0.04)


@pytest.mark.parametrize("name", STEPS)
def test_integers_of_onnx_answer_as_those_of_litert(name: str) -> None:
    model, graph, network = made(name)
    given = pictures()
    ranges = {**ranges_by("min_max", seen_ranges(graph, given)), **to_onnx.learned_bounds(graph)}
    integers = graph_runner(to_onnx.integers(graph, ranges).SerializeToString())({"image": given})
    np.testing.assert_allclose(integers, run_litert(integer_file(network, ranges), given), atol=0.03)
    np.testing.assert_allclose(integers, predict(model, given), atol=0.04)


def test_tensorflow_answers_as_torch_does() -> None:
    tensorflow = pytest.importorskip("modelyard.runtime.tensorflow_import").tensorflow
    from modelyard.exporter.worker.to_savedmodel import answer

    given = pictures(4)
    for name in STEPS:
        model, _, network = made(name)
        found = answer(network, network.constants, tensorflow.constant(given)).numpy()
        np.testing.assert_allclose(found, predict(model, given), atol=1e-5, err_msg=name)


@pytest.mark.parametrize(
    ("step", "channels", "operator"),
    [
        (nn.Conv2d(8, 8, 3, groups=2), 8, "Conv"),
        (nn.GELU(), 8, "Erf"),
        (nn.Upsample(scale_factor=2, mode="bicubic"), 8, "Resize"),
        (nn.ConvTranspose2d(8, 8, 2), 8, "ConvTranspose"),
    ],
)
def test_what_the_format_lacks_is_named_with_its_layer(step: nn.Module, channels: int, operator: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        prepare(served(step, channels), PICTURE).network("litert")
    assert caught.value.reason == "UNSUPPORTED_OPERATOR"
    assert caught.value.values["operator"] == operator
    assert caught.value.values["layer"] == "step"
    assert "LiteRT" in caught.value.message
    assert "layer step" in caught.value.message


def test_pixels_are_normalized_by_one_operator() -> None:
    _, _, network = made("relu")
    first = network.operators[0]
    assert (first.kind, first.inputs[0]) == ("depthwise", network.input)
    np.testing.assert_allclose(network.constants[first.inputs[1]].ravel(), [1 / 51, 1 / 63.75, 1 / 76.5], rtol=1e-6)


def test_bounds_go_to_the_operator_before_only_when_it_alone_is_read() -> None:
    _, _, alone = made("relu")
    assert [each.bounds for each in alone.operators if each.layer == "stem"] == [(0.0, math.inf)]
    _, _, shared = made("difference")
    assert [each.bounds for each in shared.operators if each.layer == "stem"] == [(-math.inf, math.inf)]
    assert consumers_of(shared)[next(each.output for each in shared.operators if each.layer == "stem")] == 2


def test_layers_are_called_as_torch_calls_them() -> None:
    names = {
        "/module/features/features.1/first/first.0/Conv": "features.1.first.0",
        "/module/blocks/blocks.0/blocks.0.0/conv_dw/Conv": "blocks.0.0.conv_dw",
        "/module/features.3.second.0/Conv": "features.3.second.0",
        "/module/conv_stem/Conv_output_0": "conv_stem",
        "/Softmax": "",
        "": "",
    }
    assert {name: layer_of(onnx.NodeProto(name=name)) for name in names} == names


def test_layers_of_a_traced_network_are_known_by_their_weights() -> None:
    torch.manual_seed(0)
    model = folded(untrained_model("modelyard:micronet", PictureInput(16, 16, 1), 3))
    network = prepare(model, PictureInput(16, 16, 1)).network("litert")
    found = {each.layer for each in network.operators if each.kind in WEIGHTED and each.inputs[0] != network.input}
    assert found == {name for name, layer in model.module.named_modules() if isinstance(layer, (nn.Conv2d, nn.Linear))}


def test_float_layers_stay_float() -> None:
    _, graph, network = made("depthwise, stride 2")
    ranges = ranges_by("min_max", seen_ranges(graph, pictures()))
    mixed = integer_file(network, ranges, float_layers=("step",))
    facts = read_facts(mixed, "mixed")
    names = [name for name, _, _ in facts.operators]
    place = names.index("DEQUANTIZE")
    assert names[place : place + 3] == ["DEQUANTIZE", "DEPTHWISE_CONV_2D", "QUANTIZE"] or "PAD" in names[place : place + 4]
    assert facts.tensors[facts.inputs[0]].type == facts.tensors[facts.outputs[0]].type == "int8"
    plain = run_litert(integer_file(network, ranges), pictures())
    assert not np.array_equal(run_litert(mixed, pictures()), plain)


def test_constants_begin_at_multiples_of_16() -> None:
    from ai_edge_litert import schema_py_generated as schema

    _, graph, network = made("gate of a hard sigmoid")
    data = integer_file(network, ranges_by("min_max", seen_ranges(graph, pictures())))
    model = schema.Model.GetRootAs(data, 0)
    starts = []
    for place in range(model.BuffersLength()):
        buffer = model.Buffers(place)
        if buffer.DataLength():
            starts.append(buffer._tab.Vector(buffer._tab.Offset(4)))
    assert starts
    assert all(start % 16 == 0 for start in starts)


def test_arena_counts_what_is_alive_at_once() -> None:
    _, graph, network = made("relu")
    facts = read_facts(integer_file(network, ranges_by("min_max", seen_ranges(graph, pictures()))), "m")
    largest = 12 * 10 * 8 + 12 * 10 * 3  # the stem's output beside its input
    assert largest < arena_bytes(facts) < 5 * largest


def test_equal_networks_give_equal_files() -> None:
    assert float_file(made("relu6")[2]) == float_file(made("relu6")[2])
