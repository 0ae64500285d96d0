"""Load of 80 percent of the peak for long: errors, growth, and latency over time."""

from __future__ import annotations

import sys
from pathlib import Path

from tests.bench.load_client import Load, load
from tests.bench.soaks.bundle_server import body_of, peak, served, still_right
from tests.bench.soaks.outcome import Footing, Outcome, compare

CALLERS = 8


def steady(minutes: float, name: str, folder: Path, share: float = 0.8, windows: int = 30) -> Outcome:
    """Requests at fixed times for `minutes`, looked at in so many windows. Growth counts from the end of the first one."""
    outcome = Outcome("steady", {"minutes": minutes, "share_of_peak": share})
    with served(folder) as (server, models):
        model = next(each for each in models if each.name == name)
        body, address = body_of(model, folder), server.addresses[name]
        rate = share * peak(address, body, 5).per_second
        outcome.figures["rate"] = round(rate)
        seconds = max(2.0, 60 * minutes / windows)
        first = Footing.of(server.pids[0])
        for number in range(windows):
            found = load(address, body, callers=CALLERS, seconds=seconds, warm=0, rate=rate)
            now = Footing.of(server.pids[0])
            first = now if number == 0 else first
            _look(outcome, number, found, now)
        still_right(server, models)
        compare(outcome, first, Footing.of(server.pids[0]), 0.05)
    _judge(outcome)
    return outcome


def _look(outcome: Outcome, number: int, found: Load, now: Footing) -> None:
    row = {"p50_ms": found.p50_ms, "p99_ms": found.p99_ms, "errors": found.errors, "per_second": found.per_second}
    outcome.series.append({"window": number, **row, "rss": now.memory.rss, "pss": now.memory.pss, "files": now.files})
    sys.stderr.write(f"steady: window {number + 1}, p99 {found.p99_ms:.1f} ms, {found.errors} errors {found.codes}\n")


def _judge(outcome: Outcome) -> None:
    late = [row["p99_ms"] for row in outcome.series]
    half = len(late) // 2
    outcome.at_most("failed", sum(row["errors"] for row in outcome.series), 0, "failed requests")
    outcome.figures["p99_ms_first_half"] = round(sorted(late[:half] or late)[len(late[:half] or late) // 2], 2)
    outcome.figures["p99_ms_second_half"] = round(sorted(late[half:])[len(late[half:]) // 2], 2)
    outcome.figures["p99_ms_worst_window"] = round(max(late), 2)
