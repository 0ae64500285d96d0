"""Ours beside KServe, MLServer, Triton and onnxruntime in process: python tests/bench/peers/run.py

    --rounds 5 --seconds 5 --clients 8     each server is asked for --seconds in each of --rounds, one after another, by --clients
    --only ours,kserve,mlserver,triton,in-process,...     these alone; --all: every configuration that was tried
    --models mlp,net96,net224              these models alone
    --json FILE --markdown FILE --picture FILE.svg        where results go, beside the table on the terminal

All servers are up the whole time, with all models loaded, and are asked in turn, so that all of them meet the same machine; the
median round counts. Before anything is timed, every server must answer as onnxruntime does, within 1e-4. Clients are one process
in Go that sends bytes made beforehand (tests/bench/load). Servers whose environment is missing are left out, with how to make it.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

if __name__ == "__main__":
    sys.path[0:1] = [str(Path(__file__).resolve().parents[3] / part) for part in ("", "services")]

from tests.bench.load_client import load
from tests.bench.peers.asking import check_answers, infer_request
from tests.bench.peers.contestants import BEST, CONTESTANTS, CORES
from tests.bench.peers.in_process import InProcess
from tests.bench.peers.models import BenchModel, bench_models
from tests.bench.peers.picture import picture
from tests.bench.peers.results import IN_PROCESS, Results
from tests.bench.peers.running import Contestant, Running, running
from tests.bench.peers.setup import installed
from tests.bench.peers.speed import Speed

WARM_S = 0.5


@dataclass(frozen=True)
class Asked:
    """How much is measured; `bodies` holds a file for each model with the bytes of its request."""

    rounds: int
    seconds: float
    clients: int
    bodies: Path


def main(arguments: Sequence[str] | None = None) -> int:
    """The exit status: 1 where a server that was asked for did not come up or failed requests."""
    given = _parser().parse_args(arguments)
    models = bench_models(tuple(given.models.split(",")) if given.models else ())
    names = given.only.split(",") if given.only else [*(CONTESTANTS if given.all else BEST), IN_PROCESS]
    with tempfile.TemporaryDirectory(prefix="modelyard-peers-") as folder, ExitStack() as stack:
        asked = Asked(given.rounds, given.seconds, given.clients, Path(folder))
        results = Results(_machine(), given.rounds, given.seconds, given.clients, [model.words for model in models])
        up = _start_all(stack, [CONTESTANTS[name] for name in names if name != IN_PROCESS], models, asked, results)
        _measure(up, models, asked, results, alone=IN_PROCESS in names)
    _write(results, given)
    return 1 if results.missing or results.errors() else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python tests/bench/peers/run.py", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--only", help=f"comma-separated, of {', '.join([*CONTESTANTS, IN_PROCESS])}")
    parser.add_argument("--all", action="store_true", help="every configuration that was tried, not only the best of each peer")
    parser.add_argument("--models", help="comma-separated, of mlp, net96, net224")
    for name in ("--json", "--markdown", "--picture"):
        parser.add_argument(name, type=Path)
    return parser


def _start_all(
    stack: ExitStack, contestants: Sequence[Contestant], models: Sequence[BenchModel], asked: Asked, results: Results
) -> list[Running]:
    for model in models:
        (asked.bodies / model.name).write_bytes(infer_request(model, model.example()).SerializeToString())
    up = []
    for contestant in contestants:
        if contestant.peer and not installed(contestant.peer):
            results.missing[contestant.name] = f"not installed: python tests/bench/peers/setup.py {contestant.peer}"
            continue
        try:
            server = stack.enter_context(running(contestant, models, asked.bodies / "servers" / contestant.name))
            for model in models:
                check_answers(contestant.name, server.addresses[model.name], model)
        except Exception as error:  # one that fails must not take the others' figures along
            results.missing[contestant.name] = str(error)
        else:
            up.append(server)
            _say(f"{contestant.name} is up and answers as onnxruntime does")
    return up


def _measure(up: Sequence[Running], models: Sequence[BenchModel], asked: Asked, results: Results, alone: bool) -> None:
    """Fills `results`. Each round begins with another server, so that none is always the one after the same."""
    in_process = InProcess()
    for server in up:
        for model in models:
            _ask(server, model, asked, WARM_S)
    for number in range(asked.rounds):
        for model in models:
            for server in [*up[number % max(len(up), 1) :], *up[: number % max(len(up), 1)]]:
                results.add(server.contestant.name, model.name, _ask(server, model, asked, asked.seconds))
            if alone:
                results.add(IN_PROCESS, model.name, in_process.measure(model, asked.seconds))
        _say(f"round {number + 1} of {asked.rounds}")
    for server in up:
        results.words[server.contestant.name] = server.contestant.words
        results.memory[server.contestant.name] = server.memory()
    if alone:
        results.words[IN_PROCESS] = f"callers x threads, the best of three ways: {in_process.words()}"


def _ask(server: Running, model: BenchModel, asked: Asked, seconds: float) -> Speed:
    body, used = asked.bodies / model.name, server.processor_s()
    found = load(server.addresses[model.name], body, callers=asked.clients, seconds=seconds, warm=0)
    cost = 1000 * (server.processor_s() - used) / max(found.requests, 1)
    return Speed(found.per_second, found.p50_ms, found.p99_ms, found.errors, round(cost, 4))


def _machine() -> str:
    model = next(
        (line.split(":")[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line), ""
    )
    busy = Path("/proc/loadavg").read_text().split()[0]
    return f"{CORES} cores of {model or platform.machine()}; load average {busy} at the beginning"


def _write(results: Results, given: argparse.Namespace) -> None:
    sys.stdout.write(results.markdown())
    if given.json:
        given.json.write_text(json.dumps(results.as_json(), indent=1) + "\n")
    if given.markdown:
        given.markdown.write_text(results.markdown())
    if given.picture:
        given.picture.parent.mkdir(parents=True, exist_ok=True)
        given.picture.write_text(picture(results))


def _say(line: str) -> None:
    sys.stderr.write(f"{line}\n")


if __name__ == "__main__":
    sys.exit(main())
