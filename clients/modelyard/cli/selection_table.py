"""The candidates of a model selection as a table: printed at the end, live on a terminal while they compete."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

from modelyard.cli.durations import spoken
from modelyard.cli.output import enum_name, number, print_table
from modelyard.cli.sizes import spoken_bytes
from modelyard.trainer.v1 import selection_pb2

if TYPE_CHECKING:
    from rich.console import RenderableType

COLUMNS: Final = ("candidate", "state", "p95 ms", "size", "rung", "metric", "trained", "to its end", "why")


def rows(candidates: Sequence[selection_pb2.SelectionCandidate], metric: str = "") -> list[tuple[str, ...]]:
    """A row of COLUMNS for each."""
    return [_row(each, metric) for each in candidates]


def _row(each: selection_pb2.SelectionCandidate, metric: str) -> tuple[str, ...]:
    state = enum_name(selection_pb2.CandidateState.DESCRIPTOR, each.state).lower().replace("_", " ")
    scored = ""
    if each.HasField("metric"):
        scored = f"{metric} {number(each.metric)} ± {each.standard_error:.1g}".strip()
    return (
        f"{each.recipe.recipe_id} {each.input}".rstrip(),
        state,
        number(each.p95_ms) if each.HasField("p95_ms") else "",
        spoken_bytes(each.size_bytes) if each.size_bytes else "",
        str(each.rung or ""),
        scored,
        _seconds(each.train_duration) if each.HasField("train_duration") else "",
        _seconds(each.full_duration) if each.HasField("full_duration") else "",
        each.message,
    )


def _seconds(duration: Any) -> str:
    seconds = duration.ToNanoseconds() / 1e9
    return spoken(seconds) if seconds else ""


def print_candidates(candidates: Sequence[selection_pb2.SelectionCandidate], metric: str = "") -> None:
    """The table on stdout."""
    print_table(COLUMNS, rows(candidates, metric))


def live_rows(candidates: Sequence[selection_pb2.SelectionCandidate], metric: str = "") -> RenderableType:
    """The table for a live picture."""
    from rich.markup import escape
    from rich.table import Table

    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    for name in COLUMNS:
        table.add_column(name)
    for row in rows(candidates, metric):
        style = {"won": "green", "training": "cyan", "failed": "red"}.get(row[1], "")
        table.add_row(*map(escape, row), style=style)
    return table


@contextmanager
def selection_picture() -> Iterator[Callable[[Any], None]]:
    """Shows a model selection: give it the messages of its Watch call."""
    if not sys.stderr.isatty():
        yield _Lines().tell
        return
    from rich.console import Console, Group
    from rich.live import Live
    from rich.text import Text

    found: Any = None

    def tell(change: Any) -> None:
        nonlocal found
        found = change.model_selection

    def picture() -> RenderableType:
        if found is None:
            return Text("")
        return Group(live_rows(found.candidates, found.metric), Text(_progress(found)))

    with Live(console=Console(stderr=True), refresh_per_second=4, transient=True, get_renderable=picture):
        yield tell


def _progress(found: Any) -> str:
    """ "34%  rung 2 of 3: tinynet 28x28  3 min 20 s left"."""
    progress = found.status.progress
    left = f"{spoken(progress.eta.ToNanoseconds() / 1e9)} left" if progress.HasField("eta") else ""
    return "  ".join(filter(None, (f"{100 * progress.fraction:.0f}%", progress.stage, left)))


class _Lines:
    """A line for each change of a candidate, and for each training that begins."""

    def __init__(self) -> None:
        self._states: dict[int, tuple[str, str]] = {}
        self._stage = ""

    def tell(self, change: Any) -> None:
        found = change.model_selection
        if found.status.progress.stage != self._stage:
            self._stage = found.status.progress.stage
            sys.stderr.write(f"select: {_progress(found)}\n")
        for place, row in enumerate(rows(found.candidates, found.metric)):
            known = (row[1], row[5])
            if row[1] != "waiting" and self._states.get(place) != known:
                self._states[place] = known
                sys.stderr.write(f"{row[0]}: {'  '.join(filter(None, (row[1], row[5], row[8])))}\n")
