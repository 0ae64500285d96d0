"""Progress on stderr: bars and a live picture on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

from modelyard.cli.durations import spoken
from modelyard.cli.output import enum_name, number
from modelyard.type.v1 import job_pb2

if TYPE_CHECKING:
    from rich.console import RenderableType

# Without a terminal: least time between two lines about the same stage.
QUIET_S: Final = 10.0


def state_name(state: int) -> str:
    """SUCCEEDED, RUNNING..."""
    return enum_name(job_pb2.JobState.DESCRIPTOR, state)


@contextmanager
def bar(title: str) -> Iterator[Callable[[int, int], None]]:
    """A bar over bytes: call it with (done, total)."""
    if not sys.stderr.isatty():
        yield _byte_lines(title)
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(title, total=None)
        yield lambda done, total: progress.update(task, completed=done, total=total)


def _byte_lines(title: str) -> Callable[[int, int], None]:
    """A line now and then, and none for what is done at once."""
    shown = time.monotonic()

    def tell(done: int, total: int) -> None:
        nonlocal shown
        if time.monotonic() - shown > QUIET_S / 2:
            shown = time.monotonic()
            sys.stderr.write(f"{title}: {done / 1e6:.1f} of {total / 1e6:.1f} MB\n")

    return tell


@contextmanager
def job_bar(title: str, field: str, cancel: Callable[[], object] | None = None) -> Iterator[Callable[[Any], None]]:
    """A bar over a job: give it the messages of its Watch call. `field` is where the job is in them. `cancel`: called at Ctrl-C,
    for jobs that nothing waits for but this command."""
    try:
        with _job_shown(title, field) as tell:
            yield tell
    except KeyboardInterrupt:
        if cancel is not None:
            sys.stderr.write(f"\n{_cancelled(title, cancel)}\n")
        raise


def _cancelled(title: str, cancel: Callable[[], object]) -> str:
    """Cancels, and says what came of that; whoever interrupts wants to leave, whatever it is."""
    try:
        cancel()
    except Exception as error:  # the server may be gone, or hang
        return f"{title} could not be cancelled, and may go on: {error}"
    return f"{title} is cancelled; nothing of it is kept"


@contextmanager
def _job_shown(title: str, field: str) -> Iterator[Callable[[Any], None]]:
    if not sys.stderr.isatty():
        yield _JobLines(title, field).tell
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn

    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TextColumn("{task.fields[what]}"))
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(title, total=1.0, what="")
        point: Any = None

        def tell(change: Any) -> None:
            nonlocal point
            status, point = getattr(change, field).status, _last_point(change) or point
            progress.update(task, completed=status.progress.fraction, what=_what(status, point))

        yield tell


class _JobLines:
    """A line when the stage or state changes, and now and then in between."""

    def __init__(self, title: str, field: str) -> None:
        self._title, self._field = title, field
        self._shown: tuple[str, int] = ("", 0)
        self._at = 0.0

    def tell(self, change: Any) -> None:
        status = getattr(change, self._field).status
        key = (status.progress.stage, status.state)
        if key == self._shown and time.monotonic() - self._at < QUIET_S:
            return
        self._shown, self._at = key, time.monotonic()
        percent = f"{100 * status.progress.fraction:.0f}%" if status.state == job_pb2.JOB_STATE_RUNNING else ""
        words = (state_name(status.state).lower(), percent, _what(status, _last_point(change)))
        sys.stderr.write(f"{self._title}: {' '.join(filter(None, words))}\n")


def _last_point(change: Any) -> Any:
    points = getattr(change, "points", ())
    return points[-1] if points else None


def _what(status: Any, point: Any) -> str:
    """Stage, count, figures of training, and the time left; of a job that ended, why it did."""
    if status.state > job_pb2.JOB_STATE_RUNNING:
        return "  ".join(filter(None, (status.reason, figures(point) if point is not None else "")))
    progress = status.progress
    words = [progress.stage]
    if progress.total:
        words.append(f"{progress.done}/{progress.total} {progress.unit}")
    if point is not None:
        words.append(figures(point))
    if progress.HasField("eta"):
        words.append(f"{spoken(progress.eta.seconds + progress.eta.nanos / 1e9)} left")
    return "  ".join(word for word in words if word)


def figures(point: Any) -> str:
    """Loss, metrics, learning rate and speed of a point of a curve, in one line."""
    words = [f"epoch {point.epoch:.1f}", f"loss {number(point.loss)}"]
    words += [f"{name} {number(value)}" for name, value in sorted(point.metrics.items())]
    words.append(f"lr {number(point.learning_rate)}")
    if point.examples_per_second:
        words.append(f"{point.examples_per_second:.0f} examples/s")
    return "  ".join(words)


class RunPicture:
    """A pipeline run as it goes: its steps, and the training's curve."""

    def __init__(self) -> None:
        self.run: Any = None
        self.point: Any = None
        self.losses: list[float] = []
        self.metrics: dict[str, float] = {}

    def take(self, change: Any) -> None:
        """The next message of WatchPipelineRun."""
        self.run = change.pipeline_run
        for point in change.points:
            self.point = point
            self.losses.append(point.loss)
            self.metrics.update(point.metrics)

    def training(self) -> str:
        """The line about the training; empty before it starts."""
        if self.point is None:
            return ""
        measured = "".join(f"  {name} {number(value)}" for name, value in sorted(self.metrics.items()))
        eta = f"  {spoken(self.point.eta.seconds)} left" if self.point.HasField("eta") else ""
        return (
            f"step {self.point.step}  epoch {self.point.epoch:.1f}  loss {number(self.point.loss)}{measured}"
            f"  lr {number(self.point.learning_rate)}  {self.point.examples_per_second:.0f} examples/s{eta}"
        )


@contextmanager
def run_picture() -> Iterator[Callable[[Any], None]]:
    """Shows a pipeline run: give it the messages of its Watch call."""
    picture = RunPicture()
    if not sys.stderr.isatty():
        yield _RunLines(picture).tell
        return
    from rich.console import Console
    from rich.live import Live

    with Live(console=Console(stderr=True), refresh_per_second=4, get_renderable=lambda: _rendered(picture)):
        yield picture.take


class _RunLines:
    """A line for every change of a step, and the training's figures now and then."""

    def __init__(self, picture: RunPicture) -> None:
        self._picture = picture
        self._states: dict[str, tuple[int, float]] = {}
        self._at = 0.0

    def tell(self, change: Any) -> None:
        self._picture.take(change)
        for step in change.pipeline_run.steps:
            if step.state > job_pb2.JOB_STATE_QUEUED and self._is_news(step):
                sys.stderr.write(f"{step.step_id}: {state_name(step.state).lower()} {step.message}".rstrip() + "\n")
        if change.points and time.monotonic() - self._at > QUIET_S:
            self._at = time.monotonic()
            sys.stderr.write(f"train: {self._picture.training()}\n")

    def _is_news(self, step: Any) -> bool:
        """A new state; another message only now and then."""
        state, told = self._states.get(step.step_id, (0, 0.0))
        if state == step.state and (step.state != job_pb2.JOB_STATE_RUNNING or time.monotonic() - told < QUIET_S):
            return False
        self._states[step.step_id] = (step.state, time.monotonic())
        return True


_MARKS: Final = {
    job_pb2.JOB_STATE_SUCCEEDED: "[green]✓[/]",
    job_pb2.JOB_STATE_RUNNING: "[cyan]▶[/]",
    job_pb2.JOB_STATE_FAILED: "[red]✗[/]",
    job_pb2.JOB_STATE_CANCELLED: "[yellow]–[/]",
}


def _rendered(picture: RunPicture) -> RenderableType:
    from rich.markup import escape
    from rich.table import Table

    table = Table.grid(padding=(0, 2))
    if picture.run is None:
        return table
    for step in picture.run.steps:
        table.add_row(_MARKS.get(step.state, "·"), step.step_id, _step_time(step), escape(step.message))
        if step.step_id == "train" and picture.point is not None:
            table.add_row("", "", "", f"[bold]{escape(picture.training())}[/]")
            table.add_row("", "", "", f"[cyan]{sparkline(picture.losses)}[/] loss")
        if step.step_id == "train" and picture.run.result.selection_candidates:
            from modelyard.cli.selection_table import live_rows

            table.add_row("", "", "", live_rows(picture.run.result.selection_candidates))
    status = picture.run.status
    if status.state > job_pb2.JOB_STATE_RUNNING:
        table.add_row(_MARKS.get(status.state, ""), state_name(status.state).lower(), "", escape(status.reason))
        return table
    progress = status.progress
    eta = f"{spoken(progress.eta.seconds)} left" if progress.HasField("eta") else ""
    table.add_row("", f"{100 * progress.fraction:.0f}%", "", f"{escape(progress.stage)}  {eta}")
    return table


def _step_time(step: Any) -> str:
    if not step.HasField("start_time"):
        return ""
    end = step.end_time.ToSeconds() if step.HasField("end_time") else time.time()
    return spoken(max(end - step.start_time.ToSeconds(), 0.0))


def sparkline(values: list[float], width: int = 40) -> str:
    """A curve in one line of text: the mean of each of `width` stretches."""
    if not values:
        return ""
    stretch = max(len(values) / width, 1.0)
    means = []
    for at in range(min(width, len(values))):
        part = values[int(at * stretch) : max(int((at + 1) * stretch), int(at * stretch) + 1)]
        means.append(sum(part) / len(part))
    low, high = min(means), max(means)
    return "".join("▁▂▃▄▅▆▇█"[round(7 * (value - low) / ((high - low) or 1.0))] for value in means)
