"""The plot of the comparison, as SVG: bars of requests per second for each model, and of memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import Final

from tests.bench.peers.results import IN_PROCESS, MIB, OURS, Results
from tests.bench.peers.speed import middle

WIDTH: Final = 760
LABEL: Final = 110
NUMBERS: Final = 190
BAR: Final = 18
STEP: Final = 24
STYLE: Final = """
text { font: 13px system-ui, sans-serif; fill: #24292f } .title { font-weight: 600 } .quiet { fill: #57606a }
.ours { fill: #1a7f5a } .peer { fill: #9aa4af } .alone { fill: none; stroke: #57606a; stroke-dasharray: 4 3 }
@media (prefers-color-scheme: dark) {
  text { fill: #e6edf3 } .quiet { fill: #9aa4af } .peer { fill: #57606a } .ours { fill: #2fb885 }
}
"""


@dataclass(frozen=True)
class Bar:
    """A row: its value decides the length, `words` stand at its end."""

    name: str
    value: float
    words: str


def picture(results: Results) -> str:
    """The SVG document."""
    panels, top = [], 10
    for words, (model, servers) in zip(results.models, results.speeds.items(), strict=True):
        speeds = {name: middle(rounds) for name, rounds in servers.items()}
        bars = [Bar(name, s.per_second, f"{s.per_second:,.0f}/s, p99 {s.p99_ms:.1f} ms") for name, s in speeds.items()]
        panels.append(_panel(f"{words} ({model}): requests per second, {results.clients} clients", bars, top))
        top += _height(bars)
    held = [Bar(name, m.rss / MIB, f"{m.rss / MIB:.0f} MiB, PSS {m.pss / MIB:.0f}") for name, m in results.memory.items()]
    panels.append(_panel("Memory with the models loaded, after load (sum of RSS of all processes)", held, top))
    top += _height(held)
    body = "".join(panels)
    size = f'viewBox="0 0 {WIDTH} {top}" width="{WIDTH}" height="{top}"'
    return f'<svg xmlns="http://www.w3.org/2000/svg" {size}><style>{STYLE}</style>{body}</svg>\n'


def _height(bars: Sequence[Bar]) -> int:
    return 34 + STEP * len(bars) + 12


def _panel(title: str, bars: Sequence[Bar], top: int) -> str:
    """Bars to the scale of the servers; in process, which may be far beyond, ends at the edge."""
    most = max((bar.value for bar in bars if bar.name != IN_PROCESS), default=1.0) or 1.0
    rows = [f'<text class="title" x="10" y="{top + 16}">{escape(title)}</text>']
    for index, bar in enumerate(bars):
        rows.append(_row(bar, most, top + 28 + STEP * index))
    return "".join(rows)


def _row(bar: Bar, most: float, top: int) -> str:
    room = WIDTH - LABEL - NUMBERS
    length = max(1.0, min(bar.value / most, 1.0) * room)
    kind = "ours" if bar.name.startswith(OURS) else "alone" if bar.name == IN_PROCESS else "peer"
    beyond = "→ " if bar.value > most else ""
    return (
        f'<text x="{LABEL - 8}" y="{top + 13}" text-anchor="end">{escape(bar.name)}</text>'
        f'<rect class="{kind}" x="{LABEL}" y="{top}" width="{length:.1f}" height="{BAR}" rx="2"/>'
        f'<text class="quiet" x="{LABEL + length + 6:.1f}" y="{top + 13}">{beyond}{escape(bar.words)}</text>'
    )
