"""What a training loop tells and asks: curve and checkpoints to the service, and the service's instructions back."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, Protocol, cast

from modelyard.core.artifacts import ArtifactStore
from modelyard.trainer.domain.training_job import MOST_NOTES, Checkpoint, Note, TrainingState, state_document

Instruction = Literal["continue", "stop", "cancel"]
log = logging.getLogger("modelyard.trainer")


class Link(Protocol):
    """What a reporter needs of core.jobs.worker_link.WorkerLink."""

    @property
    def artifacts(self) -> ArtifactStore:
        """The trainer's artifact store."""

    def report(
        self,
        *,
        stage: str | None = None,
        fraction: float = 0.0,
        done: int = 0,
        total: int = 0,
        unit: str = "",
        eta_s: float | None = None,
        events: Sequence[dict[str, Any]] = (),
        saved: dict[str, Any] | None = None,
    ) -> None:
        """Notes progress, events and what a later attempt needs; sent soon."""

    def flush(self) -> None:
        """Sends what was noted, and waits until the service has it."""

    def instruction(self) -> str:
        """What the service last said."""


class Reporter:
    """One attempt's talk with the service; has the form of `trainer.worker.run.Hooks`.

    state: what earlier attempts left. describe: the stage in words, from an event ("epoch 3 of 10"). evicted: whether this
    process was told to leave. behind: steps that the run began with, of a job that it goes on from.
    """

    def __init__(
        self,
        link: Link,
        state: TrainingState,
        describe: Callable[[Mapping[str, Any]], str],
        clock: Callable[[], float] = time.time,
        evicted: Callable[[], bool] = lambda: False,
        behind: int = 0,
    ) -> None:
        self._behind = behind
        self.state = state
        self._link = link
        self._describe = describe
        self._clock = clock
        self._evicted = evicted
        self._fraction = 0.0
        self._note = ""

    def on_event(self, event: dict[str, Any]) -> None:
        """A point of the curve, or a note on something people should know, which stays in the stage from then on."""
        if "note" in event:
            log.info("%s: %s", event["note"], event["message"])
            self._note = str(event["message"])
            self._keep_note(Note(str(event["note"]), self._note, int(event.get("step", 0))))
            if "batch_size" in event:
                self.state = replace(self.state, batch_limit=int(event["batch_size"]))
            if "chosen" in event:
                self.state = replace(self.state, chosen={**self.state.chosen, **event["chosen"]})
            self._link.report(stage=self._stage(event), fraction=self._fraction, saved=state_document(self.state))
            return
        point = self._point(event)
        seconds = max(self.state.train_seconds, float(event.get("elapsed_s", 0.0)))
        self.state = replace(self.state, latest_point=point, train_seconds=seconds)
        self._report_progress(event, point)

    def limit_batch(self, batch_size: int) -> None:
        """Has the service remember, for whoever goes on, that no more than `batch_size` examples a step fit into memory."""
        self.state = replace(self.state, batch_limit=batch_size)
        self._link.report(saved=state_document(self.state))
        self._link.flush()

    def _keep_note(self, note: Note) -> None:
        """Once, however often the run begins again."""
        if all((note.reason, note.message) != (each.reason, each.message) for each in self.state.notes):
            self.state = replace(self.state, notes=(*self.state.notes, note)[-MOST_NOTES:])

    def on_stage(self, stage: str, done: int, total: int) -> None:
        """Work before the first point of the curve."""
        self._link.report(stage=stage, fraction=self._fraction, done=done, total=total)

    def should_stop(self) -> Instruction:
        """What the service wants, or "cancel" when this process must leave."""
        if self._evicted():
            return "cancel"
        return cast(Instruction, self._link.instruction())

    def save_checkpoint(self, kind: str, path: Path) -> None:
        """Stores a checkpoint file of the torch loop, and makes sure that the service knows it."""
        from modelyard.formats.checkpoint import read_state

        told = read_state(path)
        metrics = {name: float(value) for name, value in dict(told.get("metrics") or {}).items()}
        replaced = self.state.checkpoints.get(kind)
        self.keep(kind, path, step=int(told["step"]), epoch=int(told["epoch"]), metrics=metrics)
        self._drop(replaced)

    def keep(self, kind: str, path: Path, *, step: int, epoch: int, metrics: Mapping[str, float]) -> None:
        """Stores a file as the job's checkpoint of this kind. The blob it replaces is left to the collector."""
        blob = self._link.artifacts.put_file(path)
        kept = Checkpoint(kind, step, epoch, finite(metrics), blob)
        self.state = replace(self.state, checkpoints={**self.state.checkpoints, kind: kept})
        self._link.report(saved=state_document(self.state))
        self._link.flush()

    def _drop(self, replaced: Checkpoint | None) -> None:
        """Deletes a checkpoint that a newer one replaced, now that the service knows the newer: a long run would fill the disk.

        Nobody else names it: other jobs start only from jobs that have ended, and no two checkpoints of the torch loop have the
        same bytes (they hold the time spent). The trees of a table could be another job's too, so those are never deleted here.
        """
        if replaced is not None and replaced.blob not in [kept.blob for kept in self.state.checkpoints.values()]:
            self._link.artifacts.delete(replaced.blob)

    def _point(self, event: Mapping[str, Any]) -> dict[str, Any]:
        names = ("step", "epoch", "loss", "learning_rate", "examples_per_second", "eta_s")
        values = finite({name: event[name] for name in names if event.get(name) is not None})
        return {"time": self._clock(), **values, "metrics": finite(event.get("metrics") or {})}

    def _report_progress(self, event: Mapping[str, Any], point: dict[str, Any]) -> None:
        step, eta_s = int(event["step"]), point.get("eta_s")
        self._fraction = max(self._fraction, share_done(self.state.train_seconds, eta_s))
        own = max(0, step - self._behind)
        total = max(step, self._behind + round(own / self._fraction)) if self._fraction > 0 else 0
        self._link.report(
            stage=self._stage(event),
            fraction=self._fraction,
            done=step,
            total=total,
            unit="steps",
            eta_s=eta_s,
            events=[point],
            saved=state_document(self.state),
        )

    def _stage(self, event: Mapping[str, Any]) -> str:
        return f"{self._describe(event)} ({self._note})" if self._note else self._describe(event)


def finite(values: Mapping[str, Any]) -> dict[str, Any]:
    """Without the numbers that JSON cannot hold."""
    return {name: value for name, value in values.items() if not isinstance(value, float) or math.isfinite(value)}


def share_done(spent_s: float, eta_s: float | None) -> float:
    """Share of the run's time that has passed, 0 to 1; 0 while there is no estimate."""
    if eta_s is None or spent_s + eta_s <= 0:
        return 0.0
    return spent_s / (spent_s + eta_s)
