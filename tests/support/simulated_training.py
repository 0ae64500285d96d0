"""A trainer whose jobs end at once, with a curve that a formula gives: what depends on many trainings is tested without any."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any

import numpy as np

from modelyard.core.artifacts import Blob
from modelyard.core.errors import ModelyardError
from modelyard.core.jobs.job import Job, JobState
from modelyard.core.rpc.status import error_of, exception_of
from modelyard.recipes.recipe import Hyperparameters
from modelyard.trainer.domain.training_job import (
    KIND,
    Checkpoint,
    TrainingResult,
    TrainingState,
    result_document,
    spec_from,
)
from tests.support.trainer_fakes import NOON, FakeJobs, blob

Outcome = Callable[[Hyperparameters, int], float]
"""Accuracy that a run comes to, from its settings and the steps it makes; below 0: it diverges."""


@dataclass
class SimulatedJobs(FakeJobs):
    """Training jobs that end when they are made. step_s: seconds that a step takes by the simulated clock."""

    outcome: Outcome = lambda settings, steps: 0.5
    step_s: float = 0.01
    per_epoch: int = 22
    made: dict[str, str] = field(default_factory=dict)

    def submit(self, name: str, kind: str, *, parent: str, spec: dict[str, Any], **more: Any) -> Job:
        request = str(more.get("request_id", ""))
        if request and request in self.made:
            return self.get(self.made[request])
        job = super().submit(name, kind, parent=parent, spec=spec, **more)
        if request:
            self.made[request] = name
        return self.finish(job) if kind == KIND else job

    def finish(self, job: Job) -> Job:
        """What a training comes to."""
        spec = spec_from(job.spec)
        settings = spec.recipe.hyperparameters
        before = spec.resume_from.checkpoint if spec.resume_from else None
        steps = min(settings.max_epochs * self.per_epoch, settings.max_steps or 10**9)
        end = self.outcome(settings, steps)
        ran = {"start_time": NOON, "end_time": NOON + timedelta(seconds=self.step_s * (steps - (before.step if before else 0)))}
        if end < 0:
            error = {"reason": "DIVERGED", "message": "the loss was no number", "code": 9}
            return self.put(replace(job, state=JobState.FAILED, reason="DIVERGED", error=error, **ran))
        self.curves[job.name] = curve(end, steps, settings.base_lr, self.per_epoch)
        metrics = {"val_accuracy": end}
        last = Checkpoint("last", steps, steps // self.per_epoch, metrics, blob("a"))
        kept = {"last": last, "best": replace(last, kind="best", blob=Blob("artifact://trainer/" + "b" * 64, "b" * 64, 3))}
        state = TrainingState(kept, self.curves[job.name][-1], train_seconds=self.step_s * steps)
        result = result_document(TrainingResult(blob("f"), spec.recipe, metrics, 7, state))
        if not spec.measure_only:
            result["model_version"] = f"{spec.model}/versions/V{len(self.made):03d}"
        return self.put(replace(job, state=JobState.SUCCEEDED, reason="COMPLETED", result=result, **ran))


def curve(end: float, steps: int, rate: float, per_epoch: int) -> list[dict[str, Any]]:
    """Rises to its end within the first half and stays there, with the rate still high: stalled; at 0.5 or less: never rose."""
    shares = np.minimum(1.0, 2 * np.arange(1, 21) / 20)
    noise = 0.0005 * np.tile([1, -1], 10)
    values = 0.5 + (end - 0.5) * shares + noise
    return [
        {
            "step": max(1, round(steps * (at + 1) / 20)),
            "epoch": steps * (at + 1) / 20 / per_epoch,
            "loss": 0.7 - 0.3 * max(0.0, float(value) - 0.5),
            "learning_rate": rate,
            "metrics": {"val_accuracy": float(value)},
        }
        for at, value in enumerate(values)
    ]


class Interrupted(BaseException):
    """The server stopped in the middle of a job."""


@dataclass
class RecordedSteps:
    """core.jobs.job.Steps that remembers; `stop_before` names a step at which the server stops, once."""

    recorded: dict[str, Any] = field(default_factory=dict)
    stop_before: str = ""
    taken: list[str] = field(default_factory=list)
    saved: dict[str, Any] = field(default_factory=dict)
    progress: list[Mapping[str, Any]] = field(default_factory=list)
    cancel_at: str = ""

    def do(self, name: str, function: Callable[[], Any]) -> Any:
        if name not in self.recorded:
            if name == self.stop_before:
                self.stop_before = ""
                raise Interrupted
            self.taken.append(name)
            try:
                self.recorded[name] = {"value": function()}
            except ModelyardError as error:
                self.recorded[name] = {"error": error_of(error)}
        if "error" in self.recorded[name]:
            raise exception_of(self.recorded[name]["error"])
        return self.recorded[name]["value"]

    def report(self, progress: Any = None, *, events: Any = (), saved: Any = None, result: Any = None) -> None:
        self.saved = saved or self.saved
        if progress:
            self.progress.append(progress)

    def cancelled(self) -> bool:
        return bool(self.cancel_at) and self.cancel_at in self.taken

    def sleep(self, seconds: float) -> None:
        pass


def chance(settings: Hyperparameters) -> float:
    """What a seed adds, between -0.002 and 0.002."""
    return (zlib.crc32(str(settings.seed).encode()) % 1000 / 1000 - 0.5) * 0.004
