"""One pass over pictures: the same in processes as in this one, and the pretrained network against its own weights."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest

from modelyard.core.errors import Cancelled
from modelyard.dataset.domain.work import Work
from modelyard.dataset.worker import picture_pass, pretrained, stored
from modelyard.formats.pictures import encode_png
from tests.unit.dataset.test_dataset_report_publish import Bench


def pictures(count: int) -> dict[str, bytes]:
    rng = np.random.default_rng(0)
    return {f"{i % 2}/{i}.png": encode_png(rng.integers(0, 256, (20, 24, 3), dtype=np.uint8)) for i in range(count)}


def test_processes_see_what_this_one_sees(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pretrained, "available", lambda: False)
    monkeypatch.setattr(picture_pass, "_ALONE", 100)
    bench = Bench(tmp_path)
    content = bench.imported(pictures(300), "p.zip").content
    loaded = stored.load(bench.store, content, Work())
    told: list[int] = []
    watched = Work(lambda stage, done, total, unit, fraction: told.append(done))
    arguments = (bench.store, content, loaded.manifest)
    alone = picture_pass.look_at(*arguments, bench.folder(), Work(), (0, 1), processes=1)
    shared = picture_pass.look_at(*arguments, bench.folder(), watched, (0, 1), processes=2)
    assert np.array_equal(alone.facts, shared.facts, equal_nan=True)
    assert np.array_equal(alone.features, shared.features)
    assert np.array_equal(alone.thumbnails, shared.thumbnails)
    assert told[-1] == 300
    assert np.abs(alone.thumbnails.astype(int) - loaded.thumbnails).mean() < 2


def test_looking_stops_when_cancelled(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    content = bench.imported(pictures(20), "p.zip").content
    loaded = stored.load(bench.store, content, Work())
    with pytest.raises(Cancelled):
        picture_pass.look_at(bench.store, content, loaded.manifest, bench.folder(), Work(should_stop=lambda: True), (0, 1))


@pytest.mark.skipif(not pretrained.available(), reason="the extra `embedding` is not installed")
def test_the_network_answers_as_the_one_it_was_trained_as(tmp_path: Path) -> None:
    """Against timm's tf_efficientnet_lite0 with the same weights, which the trainer uses."""
    import torch

    from modelyard.recipes.build_image import IMAGENET_ARCHITECTURE, build

    torch.set_num_threads(1)
    network = pretrained.Network(pretrained.write_network(tmp_path / "n.onnx"))
    shown = np.random.default_rng(0).integers(0, 256, (3, 64, 64, 3), dtype=np.uint8)
    module = build(IMAGENET_ARCHITECTURE, classes=5, channels=3, height=64, width=64, weights="imagenet").eval()
    with torch.no_grad():
        scaled = torch.from_numpy(shown).permute(0, 3, 1, 2).float() / 127.5 - 1
        wanted = module.forward_head(module.forward_features(scaled), pre_logits=True).numpy()  # type: ignore[operator]
    wanted /= np.linalg.norm(wanted, axis=1, keepdims=True)
    np.testing.assert_allclose(network(shown), wanted, atol=2e-4)


def test_a_file_of_weights_may_name_tensors_only() -> None:
    class Evil:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return print, ("read",)

    with pytest.raises(pickle.UnpicklingError, match="print"):
        pretrained.read_weights(b"".join(pickle.dumps(each) for each in (1, 2, 3, Evil())))
