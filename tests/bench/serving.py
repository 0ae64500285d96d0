"""Served predictions per second against onnxruntime in process, on the same model, as a ratio.

    python tests/bench/serving.py [--seconds 4] [--json FILE]

Each model is served by `python -m modelyard.serving --bundle` (one process), called by 8 concurrent callers (another process;
bytes made beforehand, raw tensors, one example a request), and run by onnxruntime with no server (a third process; one caller and
eight, the better counts). Rounds alternate, so that both meet the same machine; the median round counts. On a machine with few
cores the callers take their share of them: the ratio is what a user of that machine gets, not what the server alone could do.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

CALLERS = 8
ROUNDS = 3
REPOSITORY = Path(__file__).resolve().parents[2]
METHOD = "/inference.GRPCInferenceService/ModelInfer"


@dataclass(frozen=True)
class Speed:
    """Requests per second, and milliseconds of one (median, 99th percentile)."""

    per_second: float
    p50_ms: float
    p99_ms: float


@dataclass(frozen=True)
class Result:
    """One model, both ways. `ratio` is served requests per second over those in process."""

    model: str
    served: Speed
    in_process: Speed
    ratio: float


def main(arguments: list[str] | None = None) -> int:
    """Prints a table and, last, one JSON object."""
    parser = argparse.ArgumentParser(prog="python tests/bench/serving.py", description=__doc__)
    parser.add_argument("--seconds", type=float, default=4.0, help="of each round")
    parser.add_argument("--json", type=Path, help="also write the JSON object here")
    parser.add_argument("--part", choices=["call", "in-process"], help=argparse.SUPPRESS)
    parser.add_argument("rest", nargs="*", help=argparse.SUPPRESS)
    given = parser.parse_args(arguments)
    if given.part:
        bundle = Path(given.rest[-1])
        speed = _call(given.rest[0], bundle, given.seconds) if given.part == "call" else _in_process(bundle, given.seconds)
        sys.stdout.write(json.dumps(asdict(speed)) + "\n")
        return 0
    results = _measure_all(given.seconds)
    sys.stdout.write(_table(results))
    line = json.dumps({"serving": [asdict(result) for result in results]})
    if given.json:
        given.json.write_text(line + "\n")
    sys.stdout.write(line + "\n")
    return 0


def _measure_all(seconds: float) -> list[Result]:
    sys.path.insert(0, str(REPOSITORY))
    from tests.support.bundles import mlp_bundle

    with tempfile.TemporaryDirectory(prefix="modelyard-bench-") as folder:
        models = {
            "tiny (4.5 k parameters)": mlp_bundle(Path(folder) / "tiny.zip", features=32, hidden=64, classes=10, layers=2),
            "small (1.6 M parameters)": mlp_bundle(Path(folder) / "small.zip", features=512, hidden=768, classes=10, layers=3),
            "medium (17 M parameters)": mlp_bundle(Path(folder) / "medium.zip", features=2048, hidden=2048, classes=10, layers=4),
        }
        return [_measure(name, bundle, seconds) for name, bundle in models.items()]


def _measure(name: str, bundle: Path, seconds: float) -> Result:
    served, alone = [], []
    with _server(bundle) as address:
        for _ in range(ROUNDS):
            alone.append(_part("in-process", seconds, str(bundle)))
            served.append(_part("call", seconds, address, str(bundle)))
    mine, theirs = _middle(served), _middle(alone)
    return Result(name, mine, theirs, round(mine.per_second / theirs.per_second, 3))


def _middle(speeds: list[Speed]) -> Speed:
    return Speed(*(round(statistics.median(values), 3) for values in zip(*(asdict(s).values() for s in speeds), strict=True)))


def _part(part: str, seconds: float, *rest: str) -> Speed:
    command = [sys.executable, __file__, "--seconds", str(seconds), "--part", part, *rest]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return Speed(**json.loads(done.stdout.splitlines()[-1]))


@contextmanager
def _server(bundle: Path) -> Iterator[str]:
    command = [sys.executable, "-m", "modelyard.serving", "--bundle", str(bundle), "--name", "m"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield process.stdout.readline().rsplit(" ", 1)[-1].strip()
        finally:
            process.terminate()


def _example(bundle: Path) -> dict[str, Any]:
    from modelyard.formats.bundle import open_bundle

    return {name: array[:1] for name, array in open_bundle(bundle).test_vectors().inputs.items()}


def _call(address: str, bundle: Path, seconds: float) -> Speed:
    """The callers: one process, one connection each, bytes in and bytes out."""
    from inference import grpc_service_pb2 as oip

    request = oip.ModelInferRequest(model_name="m")
    for name, array in _example(bundle).items():
        request.inputs.add(name=name, datatype="FP32", shape=array.shape)
        request.raw_input_contents.append(array.tobytes())
    return asyncio.run(_callers(address, request.SerializeToString(), seconds))


async def _callers(address: str, request: bytes, seconds: float) -> Speed:
    times: list[float] = []
    await asyncio.gather(*(_caller(address, request, time.perf_counter() + 0.5, []) for _ in range(CALLERS)))
    start = time.perf_counter()
    await asyncio.gather(*(_caller(address, request, start + seconds, times) for _ in range(CALLERS)))
    return _speed(times, time.perf_counter() - start)


async def _caller(address: str, request: bytes, until: float, times: list[float]) -> None:
    import grpc

    async with grpc.aio.insecure_channel(address, options=[("grpc.use_local_subchannel_pool", 1)]) as channel:
        infer = channel.unary_unary(METHOD)
        await infer(request)
        while (begin := time.perf_counter()) < until:
            await infer(request)
            times.append(time.perf_counter() - begin)


def _in_process(bundle: Path, seconds: float) -> Speed:
    """The same model without a server: half the time one caller, half the time eight; the better counts."""
    import onnxruntime

    from modelyard.formats.bundle import open_bundle
    from modelyard.runtime.latency import usable_cores

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = usable_cores()
    session = onnxruntime.InferenceSession(open_bundle(bundle).model_bytes(), options, providers=["CPUExecutionProvider"])
    example = _example(bundle)
    speeds = [_run(session, example, seconds / 2, callers) for callers in (1, CALLERS)]
    return max(speeds, key=lambda speed: speed.per_second)


def _run(session: Any, example: dict[str, Any], seconds: float, callers: int) -> Speed:
    for _ in range(20):
        session.run(None, example)
    start = time.perf_counter()

    def caller(_: int) -> list[float]:
        times = []
        while (begin := time.perf_counter()) < start + seconds:
            session.run(None, example)
            times.append(time.perf_counter() - begin)
        return times

    with ThreadPoolExecutor(callers) as pool:
        times = [value for part in pool.map(caller, range(callers)) for value in part]
    return _speed(times, time.perf_counter() - start)


def _speed(times: list[float], seconds: float) -> Speed:
    ordered = sorted(times)
    return Speed(len(ordered) / seconds, 1000 * ordered[len(ordered) // 2], 1000 * ordered[int(len(ordered) * 0.99)])


def _table(results: list[Result]) -> str:
    lines = [f"{'model':26} {'served/s':>9} {'p50 ms':>8} {'p99 ms':>8} {'in process/s':>13} {'p50 ms':>8} {'ratio':>7}"]
    for result in results:
        served, alone = result.served, result.in_process
        numbers = f"{served.per_second:9.0f} {served.p50_ms:8.2f} {served.p99_ms:8.2f}"
        lines.append(f"{result.model:26} {numbers} {alone.per_second:13.0f} {alone.p50_ms:8.3f} {result.ratio:7.3f}")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(main())
