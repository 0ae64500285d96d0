"""How a long piece of work tells how far it is and hears that it is to end: what jobs give to the code that does the work."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy.typing as npt

from modelyard.core.errors import Cancelled


class OnProgress(Protocol):
    """Takes the stage (a word for people), units done and in all (0 when unknown) in it, what is counted, and the share of the
    whole job that is done (0 to 1)."""

    def __call__(self, stage: str, done: int, total: int, unit: str, fraction: float) -> None: ...


def _silent(stage: str, done: int, total: int, unit: str, fraction: float) -> None:
    pass


class Memory(Protocol):
    """Where work keeps what it has worked out, for an attempt that begins again after this one was killed."""

    def recall(self, name: str) -> dict[str, npt.NDArray[Any]] | None:
        """The arrays that were kept under a name; None where there are none."""

    def keep(self, name: str, arrays: Mapping[str, npt.NDArray[Any]]) -> None:
        """Keeps arrays under a name."""


class Forgetful:
    """A Memory that keeps nothing."""

    def recall(self, name: str) -> dict[str, npt.NDArray[Any]] | None:
        """Nothing."""
        return None

    def keep(self, name: str, arrays: Mapping[str, npt.NDArray[Any]]) -> None:
        """Does nothing."""


@dataclass(frozen=True)
class Work:
    """The wires between a job and its work. The default is for work that nobody watches."""

    on_progress: OnProgress = _silent
    should_stop: Callable[[], bool] = lambda: False
    memory: Memory = field(default_factory=Forgetful)

    def once(self, name: str, make: Callable[[], Mapping[str, npt.NDArray[Any]]]) -> Mapping[str, npt.NDArray[Any]]:
        """What `make` gives, or gave to an attempt before this one."""
        known = self.memory.recall(name)
        if known is not None:
            return known
        made = make()
        self.memory.keep(name, made)
        return made

    def check(self) -> None:
        """Raises Cancelled once the job is to end."""
        if self.should_stop():
            raise Cancelled("CANCELLED", "the job was cancelled")

    def stage(self, name: str, done: int, total: int, unit: str, start: float, end: float) -> None:
        """Tells how far a stage is that takes the job from share `start` to share `end`; raises Cancelled as `check` does."""
        self.check()
        share = done / total if total else 0.0
        self.on_progress(name, done, total, unit, start + (end - start) * min(share, 1.0))
