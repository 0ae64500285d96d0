"""The advisor on real runs: handwritten digits (scikit-learn's). Each run is made to fail in one way, and diagnosed so."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from modelyard.core.errors import FailedPrecondition
from modelyard.formats.model import Normalization
from modelyard.recipes.build_image import build
from modelyard.recipes.recipe import Hyperparameters
from modelyard.trainer.domain.advice import Diagnosis, Facts, RunCase, diagnose
from modelyard.trainer.domain.proposals import DATA, Situation, propose
from modelyard.trainer.worker.examples import HeldExamples
from modelyard.trainer.worker.loop import train
from modelyard.trainer.worker.run import Setup
from modelyard.trainer.worker.tasks.classification import Classification
from tests.support.small_training import KeptHooks

GOOD = Hyperparameters(max_epochs=12, batch_size=32, base_lr=4e-3, warmup_steps=10, augmentation="none", weight_decay=0.01)


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def digits(first: int, last: int, *, shuffled: bool = False) -> HeldExamples:
    """Some of the 1,797 digits, 16 x 16."""
    from sklearn.datasets import load_digits

    found = load_digits()
    pictures = np.kron(found.images[first:last], np.ones((1, 2, 2)))
    labels = found.target[first:last].astype(np.int64)
    if shuffled:
        labels = np.random.default_rng(0).permutation(labels)
    return HeldExamples(torch.from_numpy((pictures * 15.9).astype(np.uint8)[..., None]), torch.from_numpy(labels))


def run(
    workdir: Path, settings: Hyperparameters = GOOD, *, train_count: int = 600, shuffled: bool = False
) -> tuple[Diagnosis, list[dict[str, Any]], str]:
    """Trains, and looks at what came of it as the service does."""
    torch.manual_seed(0)
    training, validation = digits(0, train_count, shuffled=shuffled), digits(1000, 1300, shuffled=shuffled)
    hooks = KeptHooks()
    setup = Setup(
        module=build("modelyard:micronet", classes=10, channels=1, height=16, width=16),
        train=training,
        validation=validation,
        settings=settings,
        normalization=Normalization((0.3,), (0.35,)),
        workdir=workdir,
        classes=10,
        learning=Classification(),
        report_every_s=0.0,
    )
    try:
        reason = train(setup, hooks).reason
    except FailedPrecondition as error:
        reason = error.reason
    points = [event for event in hooks.events if "note" not in event]
    shares: Tensor = torch.bincount(validation.labels, minlength=10) / len(validation.labels)
    facts = Facts(
        task="image_classification",
        reason=reason,
        notes=tuple(hooks.notes),
        classes=10,
        chance=float(shares.max()),
        train_count=train_count,
        validation_count=300,
        planned_steps=settings.max_epochs * train_count // settings.batch_size,
        settings={"base_lr": settings.base_lr},
    )
    return diagnose(points, facts), points, reason


def first_proposals(found: Diagnosis, settings: Hyperparameters) -> list[str]:
    """The rungs that are proposed."""
    values = {name: getattr(settings, name) for name in ("base_lr", "momentum", "weight_decay", "optimizer", "batch_size")}
    situation = Situation(
        settings=values, steps=200, epochs=12, planned_steps=200, planned_epochs=12, best_epoch=5, best_step=90, last=True
    )
    return [each.rung for each in propose(found, situation)]


@pytest.mark.parametrize("schedule", ["cosine", "constant"])
def test_a_rate_100_times_too_high_has_diverged(tmp_path: Path, schedule: str) -> None:
    settings = replace(GOOD, base_lr=100 * 0.05, optimizer="sgd", warmup_steps=0, max_epochs=8, schedule=schedule)
    found, _, _ = run(tmp_path, settings)
    assert found.case is RunCase.DIVERGED, found
    assert first_proposals(found, settings)[0] == "lr_tenth"


@pytest.mark.parametrize("epochs", [3, 12])
def test_a_rate_100_times_too_low_has_not_learned_yet(tmp_path: Path, epochs: int) -> None:
    settings = replace(GOOD, base_lr=4e-5, max_epochs=epochs)
    found, _, _ = run(tmp_path, settings)
    assert found.case in (RunCase.NEVER_IMPROVED, RunCase.STILL_IMPROVING), found
    assert not found.by_heart
    assert "lr_doubled" in first_proposals(found, settings)[:2]


def test_shuffled_labels_never_improve_and_send_to_the_data(tmp_path: Path) -> None:
    settings = replace(GOOD, max_epochs=24)
    found, _, _ = run(tmp_path, settings, train_count=300, shuffled=True)
    assert (found.case, found.by_heart) == (RunCase.NEVER_IMPROVED, True), found
    assert first_proposals(found, settings)[0] == DATA.lower()


def test_a_dead_optimizer_never_improves_and_its_loss_does_not_move(tmp_path: Path) -> None:
    settings = replace(GOOD, base_lr=1e-9, optimizer="sgd", weight_decay=0.0)
    found, points, _ = run(tmp_path, settings)
    assert (found.case, found.by_heart) == (RunCase.NEVER_IMPROVED, False), found
    losses = [point["loss"] for point in points]
    assert max(losses) - min(losses) < 0.2
    assert first_proposals(found, settings)[:2] == ["lr_doubled", "lr_halved"]


def test_a_tiny_data_set_is_limited_by_its_data(tmp_path: Path) -> None:
    settings = replace(GOOD, max_epochs=50, batch_size=16)
    found, _, _ = run(tmp_path, settings, train_count=60)
    assert found.case is RunCase.DATA_LIMITED, found
    assert first_proposals(found, settings)[0] == DATA.lower()


def test_a_run_cut_short_is_still_improving(tmp_path: Path) -> None:
    settings = replace(GOOD, max_epochs=6, schedule="constant", base_lr=4e-4)
    found, _, _ = run(tmp_path, settings)
    assert found.case is RunCase.STILL_IMPROVING, found
    assert first_proposals(found, settings)[0] == "resume_last"


def test_a_run_that_is_done_has_converged(tmp_path: Path) -> None:
    settings = replace(GOOD, max_epochs=14)
    found, _, _ = run(tmp_path, settings, train_count=1000)
    assert found.case in (RunCase.CONVERGED, RunCase.DATA_LIMITED), found
    assert found.curve.best_value > 0.9
