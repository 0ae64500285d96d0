"""The detectors against what they are defined as."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from modelyard.core.errors import InvalidArgument
from modelyard.formats.sensors import Watch
from modelyard.recipes.build_sensors import ARCHITECTURES, Forest, Hotelling, build_sensors

RANDOM = np.random.default_rng(0)


def windows(count: int, steps: int = 16, channels: int = 3) -> torch.Tensor:
    return torch.from_numpy(RANDOM.normal(size=(count, steps, channels)).astype(np.float32))


def test_the_forest_is_scikit_learns() -> None:
    from sklearn.ensemble import IsolationForest

    learned, asked = windows(400), torch.cat([windows(50), 4 * windows(20) + 3])
    forest = Forest()
    forest.fit(learned, 7)
    theirs = IsolationForest(n_estimators=100, max_samples=256, random_state=7).fit(Forest.described(learned).numpy())
    with torch.inference_mode():
        found = forest(asked).numpy()
    assert found == pytest.approx(-theirs.score_samples(Forest.described(asked).numpy()), abs=1e-5)


def test_t_squared_is_the_mean_of_squared_distances() -> None:
    learned, asked = windows(300), windows(5)
    detector = Hotelling(3, 2)
    detector.fit(learned, torch.full((300,), 1 / 300))
    with torch.inference_mode():
        found = detector(asked).numpy()
    rows = detector.lagged(learned).double().numpy().reshape(-1, 6)
    covariance = rows.T @ rows / len(rows)
    covariance += 1e-3 * np.trace(covariance) / 6 * np.eye(6)
    lagged = detector.lagged(asked).double().numpy()
    distances = np.einsum("ntd,de,nte->nt", lagged, np.linalg.inv(covariance), lagged)
    assert found == pytest.approx(np.sqrt(distances.mean(axis=1) / 6), rel=1e-4)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_level_and_unit_of_a_machine_do_not_count(architecture: str) -> None:
    """The same window and reference in other units, at another level: the same score."""
    model = build_sensors(architecture, Watch(16, 40), 3).eval()
    model.detector.fit(windows(64), *([torch.full((64,), 1 / 64)] if isinstance(model.detector, Hotelling) else [0])) if hasattr(
        model.detector, "fit"
    ) else None
    series, reference = windows(4), windows(4, 40)
    units, level = torch.tensor([0.01, 1.0, 30.0]), torch.tensor([-50.0, 0.0, 2000.0])
    with torch.inference_mode():
        plain = model(series, reference)
        other = model(series * units + level, reference * units + level)
    assert torch.allclose(plain, other, rtol=2e-2, atol=1e-3)


def test_what_is_missing_and_a_channel_that_stands_still_give_numbers() -> None:
    model = build_sensors("modelyard:hotelling", Watch(16, 40), 3).eval()
    model.detector.fit(windows(64), torch.full((64,), 1 / 64))
    series, reference = windows(3), windows(3, 40)
    series[0], reference[0] = torch.nan, torch.nan
    reference[1] = 5.0
    series[2, :, 1] = torch.inf
    with torch.inference_mode():
        assert torch.isfinite(model(series, reference)).all()


def test_an_unknown_architecture_is_refused() -> None:
    with pytest.raises(InvalidArgument, match="modelyard:hotelling"):
        build_sensors("modelyard:none", Watch(8), 1)
