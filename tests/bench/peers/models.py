"""The three models of the comparison, made from a seed: their ONNX files, and the same files packed as our bundles.

`mlp`: `x` FP32 [N, 16] -> 32 -> `probabilities` FP32 [N, 3]. `net96` (MobileNetV3 small) and `net224` (EfficientNet-Lite0):
`image` UINT8 [N, size, size, 3] -> `probabilities` FP32 [N, 10], scaled inside as our exports are. Weights are random; the mean
and variance of each normalization come from a few random pictures, so that values stay in a natural range.

Making the nets needs torch and timm (the trainer's); they are kept in the cache folder, so this happens once.
"""

from __future__ import annotations

import io
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from modelyard.formats.bundle import BundleCard, Parity, PictureInput, TensorSpec, TestVectors, open_bundle, write_bundle
from tests.bench.load_client import cache_folder
from tests.support.bundles import SOURCE, mlp_bundle

SEED: Final = 20261121
CLASSES: Final = 10
_REVISION: Final = "1"


@dataclass(frozen=True)
class BenchModel:
    """A model to serve. `onnx`: the file as every server gets it; `bundle`: that file in our bundle; `input`: its first input."""

    name: str
    words: str
    onnx: Path
    bundle: Path
    input: TensorSpec

    def example(self, seed: int = 0) -> NDArray[Any]:
        """One example [1, ...]; the seed decides its values."""
        chance = np.random.default_rng(seed)
        shape = (1, *self.input.shape[1:])
        if self.input.datatype == "UINT8":
            return chance.integers(0, 256, size=shape, dtype=np.uint8)
        return chance.normal(size=shape).astype(np.float32)


def bench_models(only: tuple[str, ...] = ()) -> list[BenchModel]:
    """The models of these names (all three where none is named), made where they are not there yet."""
    words = {
        "mlp": "MLP 16-32-3",
        "net96": "MobileNetV3 small, 96 px",
        "net224": "EfficientNet-Lite0, 224 px",
    }
    return [_model(name, words[name]) for name in only or words]


def _model(name: str, words: str) -> BenchModel:
    folder = cache_folder() / "bench" / f"models-{_REVISION}" / name
    if not folder.is_dir():
        _make(name, folder)
    return BenchModel(
        name, words, folder / "model.onnx", folder / "bundle.zip", open_bundle(folder / "bundle.zip").card.inputs[0]
    )


def _make(name: str, folder: Path) -> None:
    """Made beside and moved into place: what is there is whole."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(dir=folder.parent))
    bundle = work / "bundle.zip"
    if name == "mlp":
        mlp_bundle(bundle, features=16, hidden=32, classes=3, seed=SEED)
    elif name == "net96":
        _picture_bundle(bundle, "mobilenetv3_small_100", 96)
    else:
        _picture_bundle(bundle, "efficientnet_lite0", 224)
    (work / "model.onnx").write_bytes(open_bundle(bundle).model_bytes())
    try:
        work.rename(folder)
    except OSError:  # another run was first
        shutil.rmtree(work)


def _picture_bundle(path: Path, architecture: str, size: int) -> None:
    import onnxruntime

    model = _net(architecture, size)
    card = BundleCard(
        task="image_classification",
        inputs=(TensorSpec("image", "UINT8", (-1, size, size, 3)),),
        outputs=(TensorSpec("probabilities", "FP32", (-1, CLASSES)),),
        source=SOURCE,
        picture=PictureInput(size, size, 3),
        classes=tuple(f"class {index}" for index in range(CLASSES)),
        parity=Parity(4, 1e-7, 1.0, 1e-4, "onnxruntime"),
    )
    images = np.random.default_rng(SEED).integers(0, 256, size=(4, size, size, 3), dtype=np.uint8)
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    answers = session.run(["probabilities"], {"image": images})
    write_bundle(path, card, model, TestVectors({"image": images}, {"probabilities": answers[0]}))


def _net(architecture: str, size: int) -> bytes:
    """The ONNX file of an untrained network with scaling before it and softmax behind it."""
    import timm
    import torch

    torch.manual_seed(SEED)
    net = timm.create_model(architecture, pretrained=False, num_classes=CLASSES)
    with torch.no_grad():
        for _ in range(30):  # running mean and variance of every normalization
            net.train()(torch.rand(8, 3, size, size) * 2 - 1)

    class Served(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = net

        def forward(self, image: Any) -> Any:
            return self.net((image.float() / 127.5 - 1).permute(0, 3, 1, 2)).softmax(-1)

    file: Any = io.BytesIO()
    example = torch.zeros(1, size, size, 3, dtype=torch.uint8)
    axes = {"image": {0: "N"}, "probabilities": {0: "N"}}
    torch.onnx.export(
        Served().eval(), (example,), file, input_names=["image"], output_names=["probabilities"], dynamic_axes=axes, dynamo=False
    )
    return bytes(file.getvalue())
