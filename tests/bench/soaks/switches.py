"""One version after another takes an endpoint over while it is asked: what callers notice."""

from __future__ import annotations

import itertools
import statistics
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from inference import grpc_service_pb2 as oip
from modelyard.client import Client
from tests.bench.load_client import Load, load
from tests.bench.peers.models import SEED
from tests.bench.soaks.bundle_server import peak
from tests.bench.soaks.outcome import Footing, Outcome, compare
from tests.support.bundles import mlp_bundle
from tests.support.serving_process import Served, server

ENDPOINT = "mlp"
CALLERS = 8


@dataclass(frozen=True)
class Steady:
    """Where the load goes, how much of it, and for how long each part is looked at."""

    address: str
    body: Path
    rate: float
    seconds: float

    def run(self) -> Load:
        """8 callers at that rate; latencies count from when a request was due."""
        return load(self.address, self.body, callers=CALLERS, seconds=self.seconds, warm=1, rate=self.rate)


def switches(rounds: int, seconds: float, share: float, folder: Path) -> Outcome:
    """Calm and switching by turns, `rounds` times, `seconds` each at `share` of the peak rate; then calm again.

    While it switches, V001 and V002 take over from each other without a pause: there is always one being loaded, proved or ended.
    """
    outcome = Outcome("switches", {"share_of_peak": share})
    bundles = [mlp_bundle(folder / f"{n}.zip", features=16, hidden=32, classes=3, seed=SEED + n) for n in (1, 2)]
    body = folder / "body"
    body.write_bytes(_request())
    with server(folder / "data", bundles) as started, Client(started.address) as client:
        one = Served(started, client, ENDPOINT)
        client.endpoints.create_endpoint(ENDPOINT)
        one.deploy(1)
        asked = Steady(started.address, body, share * peak(started.address, body, 4).per_second, seconds)
        _turn(one, 2, 1)
        _turn(one, 1, 2)
        peak(started.address, body, 1)  # a version that was asked holds memory that it shares with its process
        before_memory = Footing.of(started.process.pid)
        calm, switching = [asked.run()], list[Load]()
        made: list[float] = []
        for _ in range(rounds):
            during, seconds_of = _during(one, asked, len(made))
            switching.append(during)
            made += seconds_of
            calm.append(asked.run())
        compare(outcome, before_memory, Footing.of(started.process.pid), 0.1)
    _judge(outcome, calm, switching, made)
    outcome.figures["rate"] = round(asked.rate)
    return outcome


def _during(one: Served, asked: Steady, before: int) -> tuple[Load, list[float]]:
    """The load while one switch follows the other, and the seconds of each; `before`: how many there were already."""
    made: list[float] = []
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(asked.run)
        time.sleep(1.5)
        until = time.monotonic() + asked.seconds - 1
        while time.monotonic() < until:
            begin = time.monotonic()
            there = 1 + (before + len(made)) % 2
            _turn(one, 3 - there, there)
            made.append(time.monotonic() - begin)
            sys.stderr.write(f"switches: {len(made)}, {made[-1]:.2f} s\n")
        return running.result(), made


def _turn(one: Served, to: int, away: int) -> None:
    """The other version is deployed, takes all traffic in one step, and the one before goes."""
    one.deploy(to)
    one.client.endpoints.delete_deployment(f"{one.get().name}/deployments/V{away:03d}")


def _judge(outcome: Outcome, calm: list[Load], switching: list[Load], made: list[float]) -> None:
    """Each round of switches is compared with the calm before and after it; the median round counts."""
    around = [(first.p99_ms + then.p99_ms) / 2 for first, then in itertools.pairwise(calm)]
    outcome.figures.update(
        switches=len(made),
        slowest_switch_s=round(max(made), 3),
        requests=sum(each.requests for each in [*calm, *switching]),
        p99_ms_calm=round(statistics.median(each.p99_ms for each in calm), 2),
        p99_ms_switching=round(statistics.median(each.p99_ms for each in switching), 2),
    )
    outcome.series = [{"p99_ms": each.p99_ms, "errors": each.errors} for each in [*calm, *switching]]
    wrong = [f"{each.codes} {each.example}" for each in [*calm, *switching] if each.errors]
    outcome.at_most("failed", sum(each.errors for each in [*calm, *switching]), 0, f"failed requests {wrong[:1]}")
    ratio = statistics.median(each.p99_ms / quiet for each, quiet in zip(switching, around, strict=True))
    outcome.at_most("p99_ratio", ratio, 1.5, "p99 while it switches over that around it")


def _request() -> bytes:
    request = oip.ModelInferRequest(model_name=ENDPOINT)
    request.inputs.add(name="x", datatype="FP32", shape=[1, 16])
    request.raw_input_contents.append(bytes(64))
    return bytes(request.SerializeToString())
