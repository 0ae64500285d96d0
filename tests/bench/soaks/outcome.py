"""What a soak found."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from tests.bench.peers.memory import Memory, memory_of, open_files, tree

MIB: Final = 1 << 20


@dataclass
class Outcome:
    """Figures by name, and what is worse than it may be: a line each. `series`: figures over time."""

    name: str
    figures: dict[str, float] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    series: list[dict[str, float]] = field(default_factory=list)

    def at_most(self, figure: str, value: float, limit: float, words: str) -> None:
        """Keeps a figure; a problem where it is above its limit."""
        self.figures[figure] = round(value, 4)
        if not value <= limit:
            self.problems.append(f"{words}: {value:.4g}, at most {limit:g} is right")


@dataclass(frozen=True)
class Footing:
    """What a tree of processes holds: memory, file descriptors of all, processes."""

    memory: Memory
    files: int

    @classmethod
    def of(cls, pid: int) -> Footing:
        """Of the process and its descendants, now."""
        return cls(memory_of([pid]), sum(open_files(each) for each in tree(pid)))


def compare(outcome: Outcome, before: Footing, after: Footing, growth: float) -> None:
    """RSS and PSS may grow by `growth` (0.05: 5 percent), file descriptors and processes not at all (a handful come and go)."""
    for kind in ("rss", "pss"):
        first, last = getattr(before.memory, kind), getattr(after.memory, kind)
        outcome.figures[f"{kind}_mib_before"] = round(first / MIB, 1)
        outcome.figures[f"{kind}_mib_after"] = round(last / MIB, 1)
        outcome.at_most(f"{kind}_growth", last / first - 1, growth, f"growth of {kind.upper()}")
    outcome.figures["files_before"] = before.files
    outcome.at_most("files_more", after.files - before.files, 10, "more open file descriptors")
    outcome.at_most("processes_more", after.memory.processes - before.memory.processes, 0, "more processes")
