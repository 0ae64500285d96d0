"""How a long piece of work tells how far it is and hears that it is to end: what jobs give to the code that does the work."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from modelyard.core.errors import Cancelled


class OnProgress(Protocol):
    """Takes the stage (a word for people), units done and in all (0 when unknown) in it, what is counted, and the share of the
    whole job that is done (0 to 1)."""

    def __call__(self, stage: str, done: int, total: int, unit: str, fraction: float) -> None: ...


def _silent(stage: str, done: int, total: int, unit: str, fraction: float) -> None:
    pass


@dataclass(frozen=True)
class Work:
    """The two wires between a job and its work. The default is for work that nobody watches."""

    on_progress: OnProgress = _silent
    should_stop: Callable[[], bool] = lambda: False

    def check(self) -> None:
        """Raises Cancelled once the job is to end."""
        if self.should_stop():
            raise Cancelled("CANCELLED", "the job was cancelled")

    def stage(self, name: str, done: int, total: int, unit: str, start: float, end: float) -> None:
        """Tells how far a stage is that takes the job from share `start` to share `end`; raises Cancelled as `check` does."""
        self.check()
        share = done / total if total else 0.0
        self.on_progress(name, done, total, unit, start + (end - start) * min(share, 1.0))
