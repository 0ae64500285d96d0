"""What was measured, and the table of it."""

from __future__ import annotations

import statistics
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from typing import Any, Final

from tests.bench.peers.memory import Memory
from tests.bench.peers.speed import Speed, middle

IN_PROCESS: Final = "in-process"
OURS: Final = "ours"
MIB: Final = 1 << 20


@dataclass
class Results:
    """Every round of every server and model; `missing`: why a server is not in it."""

    machine: str
    rounds: int
    seconds: float
    clients: int
    models: list[str]
    speeds: dict[str, dict[str, list[Speed]]] = field(default_factory=dict)
    memory: dict[str, Memory] = field(default_factory=dict)
    words: dict[str, str] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)

    def add(self, server: str, model: str, speed: Speed) -> None:
        """One more round."""
        self.speeds.setdefault(model, {}).setdefault(server, []).append(speed)

    def errors(self) -> int:
        """Requests that failed, of all servers."""
        return sum(speed.errors for servers in self.speeds.values() for rounds in servers.values() for speed in rounds)

    def best_peer(self, model: str) -> str | None:
        """The peer with the most requests per second in its median round; None without peers."""
        peers = {name: middle(rounds).per_second for name, rounds in self.speeds[model].items() if is_peer(name)}
        return max(peers, key=lambda name: peers[name]) if peers else None

    def ratio(self, model: str, over: str, figure: str = "per_second") -> float:
        """Ours over another's, in the same round; the median of the rounds."""
        both = zip(self.speeds[model][OURS], self.speeds[model][over], strict=True)
        return float(statistics.median(getattr(ours, figure) / max(getattr(other, figure), 1e-9) for ours, other in both))

    def as_json(self) -> dict[str, Any]:
        """All of it."""
        return {**asdict(self), "ratios": list(self._ratios())}

    def markdown(self) -> str:
        """The tables: speed, memory, ratios, and what is missing."""
        head = f"{self.machine}. {self.rounds} rounds of {self.seconds:g} s, {self.clients} clients; the median round.\n\n"
        parts = [head, self._speed_table(), self._memory_table()]
        if lines := [f"- {line['words']}\n" for line in self._ratios()]:
            parts.append("".join(lines))
        parts.extend(f"- {name} is missing: {why}\n" for name, why in self.missing.items())
        return "\n".join(parts)

    def _speed_table(self) -> str:
        lines = [
            "| model | server | requests/s | p50 ms | p99 ms | processor ms a request | failed |",
            "|---|---|---|---|---|---|---|",
        ]
        for model, servers in self.speeds.items():
            for name, rounds in servers.items():
                speed = middle(rounds)
                times = f"{speed.p50_ms:.2f} | {speed.p99_ms:.2f} | {speed.cpu_ms:.3f}"
                lines.append(f"| {model} | {name} | {speed.per_second:,.0f} | {times} | {speed.errors} |")
        return "\n".join(lines) + "\n"

    def _memory_table(self) -> str:
        lines = ["| server | configuration | RSS MiB | PSS MiB | processes |", "|---|---|---|---|---|"]
        for name, words in self.words.items():
            held = self.memory.get(name)
            figures = f"{held.rss / MIB:.0f} | {held.pss / MIB:.0f} | {held.processes}" if held else "| |"
            lines.append(f"| {name} | {words} | {figures} |")
        return "\n".join(lines) + "\n"

    def _ratios(self) -> Iterable[dict[str, Any]]:
        for model, servers in self.speeds.items():
            peer = self.best_peer(model)
            if OURS in servers and peer:
                yield self._over_peer(model, peer)
            if OURS in servers and IN_PROCESS in servers:
                ratio = round(self.ratio(model, IN_PROCESS), 3)
                yield {"model": model, "over": IN_PROCESS, "per_second": ratio, "words": f"{model}: {ratio:.2f} of in process"}

    def _over_peer(self, model: str, peer: str) -> dict[str, Any]:
        speed, late = round(self.ratio(model, peer), 3), round(self.ratio(model, peer, "p99_ms"), 3)
        cost = round(self.ratio(model, peer, "cpu_ms"), 3)
        words = (
            f"{model}: {speed:.2f} times the best peer's requests/s ({peer}), p99 {late:.2f} and processor time {cost:.2f} of its"
        )
        return {"model": model, "over": peer, "per_second": speed, "p99": late, "cpu": cost, "words": words}


def is_peer(name: str) -> bool:
    """Whether it is somebody else's server."""
    return not name.startswith(OURS) and name != IN_PROCESS
