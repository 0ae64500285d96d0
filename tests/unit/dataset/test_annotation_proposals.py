"""What to label next: each strategy does what it says, and on real pictures it needs fewer labels than chance."""

from __future__ import annotations

import gzip
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from modelyard.core.errors import InvalidArgument
from modelyard.dataset.domain import proposals
from modelyard.dataset.domain.proposals import k_center, propose, uncertainty

SHARES = np.array([[0.98, 0.01, 0.01], [0.4, 0.35, 0.25], [0.5, 0.49, 0.01], [0.6, 0.2, 0.2]])


def test_uncertainty_by_each_measure() -> None:
    assert uncertainty(SHARES, proposals.LEAST_CONFIDENCE).argmax() == 1
    assert uncertainty(SHARES, proposals.MARGIN).argmax() == 2
    assert uncertainty(SHARES, proposals.ENTROPY).argmax() == 1
    even, sure = np.full((1, 4), 0.25), np.eye(4)[:1]
    for measure in (proposals.LEAST_CONFIDENCE, proposals.MARGIN, proposals.ENTROPY):
        assert uncertainty(even, measure)[0] == pytest.approx(1)
        assert uncertainty(sure, measure)[0] == pytest.approx(0, abs=1e-9)


def test_the_least_sure_come_first() -> None:
    found = propose(2, proposals.MARGIN, offered=4, probabilities=SHARES)
    assert found.chosen.tolist() == [2, 1]
    assert found.uncertainty[0] > found.uncertainty[1]
    assert propose(9, proposals.ENTROPY, offered=4, probabilities=SHARES).chosen.tolist() == [1, 3, 2, 0]


def test_the_farthest_from_what_is_known_come_first() -> None:
    line = np.array([[0.0], [1], [2], [10], [11], [30]], np.float32)
    found = propose(3, proposals.DIVERSITY, offered=6, vectors=line, labelled=np.zeros((1, 1), np.float32))
    assert found.chosen.tolist()[:2] == [5, 4]
    assert found.novelty[0] == 1.0
    assert sorted(k_center(line, 6, None, np.random.default_rng(0)).tolist()) == list(range(6))


def test_a_mixed_choice_takes_no_ten_of_one_kind() -> None:
    """Ten tight clusters, one of which the model is least sure of: margins alone take all from it, mixed one of each."""
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(10, 8)) * 20
    vectors = np.repeat(centres, 10, axis=0).astype(np.float32) + rng.normal(size=(100, 8)).astype(np.float32) * 0.1
    margin = np.repeat(np.linspace(0.02, 0.2, 10), 10)
    shares = np.stack([0.5 + margin / 2, 0.5 - margin / 2], axis=1)
    alone = propose(10, proposals.MARGIN, offered=100, probabilities=shares, vectors=vectors)
    mixed = propose(10, proposals.MIXED, offered=100, probabilities=shares, vectors=vectors)
    assert len(set((alone.chosen // 10).tolist())) == 1
    assert len(set((mixed.chosen // 10).tolist())) >= 8
    assert len(set(mixed.chosen.tolist())) == 10


def test_what_is_missing_is_said() -> None:
    for strategy, reason in ((proposals.MARGIN, "NO_PREDICTIONS"), (proposals.DIVERSITY, "NO_VECTORS"), ("best", "BAD_STRATEGY")):
        with pytest.raises(InvalidArgument) as caught:
            propose(1, strategy, offered=3)
        assert caught.value.reason == reason
    for wrong in (np.ones((3, 1)), np.full((3, 2), np.nan), np.full((3, 2), 1.5)):
        with pytest.raises(InvalidArgument) as caught:
            propose(1, "", offered=3, probabilities=wrong)
        assert caught.value.reason == "BAD_PREDICTIONS"
    assert propose(2, "", offered=3).strategy == proposals.RANDOM
    assert propose(2, "", offered=3, vectors=np.eye(3, dtype=np.float32)).strategy == proposals.DIVERSITY


def _pictures(folder: Path, name: str, count: int) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    with (
        gzip.open(folder / f"{name}-images-idx3-ubyte.gz") as images,
        gzip.open(folder / f"{name}-labels-idx1-ubyte.gz") as labels,
    ):
        pixels = np.frombuffer(images.read(16 + count * 784), np.uint8, offset=16).reshape(count, 784)
        return pixels.astype(np.float32) / 255, np.frombuffer(labels.read(8 + count), np.uint8, offset=8).astype(np.int64)


def learn(strategy: str, seed: int, pool: Any, truth: Any, test: Any, answers: Any, rounds: int, step: int) -> list[float]:
    """Accuracy after each round of labelling `step` more, beginning with as many at random."""
    known = np.random.default_rng(seed).permutation(len(pool))[:step]
    scores = []
    for turn in range(rounds):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model = LogisticRegression(C=0.1, max_iter=60).fit(pool[known], truth[known])
        scores.append(float((model.predict(test) == answers).mean()))
        free = np.setdiff1d(np.arange(len(pool)), known)
        shares = np.zeros((len(free), 10))
        shares[:, model.classes_] = model.predict_proba(pool[free])
        found = propose(
            step, strategy, offered=len(free), probabilities=shares, vectors=pool[free], labelled=pool[known], seed=seed + turn
        )
        known = np.concatenate([known, free[found.chosen]])
    return scores


@pytest.mark.data
def test_fewer_labels_for_the_same_accuracy_on_real_pictures(data_dir: Path) -> None:
    """fashion_mnist, 4000 of its pictures to choose from, a linear model, six rounds of 60: mixed reaches with five rounds
    of labels what chance needs all six for, over the same three beginnings."""
    folder = data_dir / "fashion_mnist"
    pool, truth = _pictures(folder, "train", 4000)
    test, answers = _pictures(folder, "t10k", 2000)
    pool, test = (part.reshape(-1, 14, 2, 14, 2).mean(axis=(2, 4)).reshape(-1, 196) for part in (pool, test))
    curves = {
        strategy: np.mean([learn(strategy, seed, pool, truth, test, answers, 6, 60) for seed in range(3)], axis=0)
        for strategy in (proposals.RANDOM, proposals.MIXED)
    }
    print({name: np.round(curve, 4).tolist() for name, curve in curves.items()})
    assert curves[proposals.MIXED][-1] > curves[proposals.RANDOM][-1]
    assert curves[proposals.MIXED][4] >= curves[proposals.RANDOM][-1]
