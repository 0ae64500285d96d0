"""onnxruntime in one process without a server, the best of three ways of calling it.

    python in_process.py MODEL SECONDS CALLERS THREADS

CALLERS Python threads call a session whose calls use THREADS threads. The ways: one caller and all cores; as many callers as
cores, one thread each; eight callers and all cores.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    sys.path[0:1] = [str(Path(__file__).resolve().parents[3] / part) for part in ("", "services")]

from tests.bench.peers.contestants import CORES
from tests.bench.peers.models import BenchModel
from tests.bench.peers.speed import Speed

WAYS = ((1, CORES), (CORES, 1), (8, CORES))


@dataclass
class InProcess:
    """onnxruntime without a server: the first time all ways are tried, afterwards the one that was best for the model."""

    best: dict[str, tuple[int, int]] = field(default_factory=dict)

    def measure(self, model: BenchModel, seconds: float) -> Speed:
        """In a process of its own."""
        ways = [self.best[model.name]] if model.name in self.best else WAYS
        speeds = {way: _one_way(model, seconds, *way) for way in ways}
        self.best[model.name] = max(speeds, key=lambda way: speeds[way].per_second)
        return speeds[self.best[model.name]]

    def words(self) -> str:
        """Which way was best for which model."""
        return ", ".join(f"{model}: {callers} x {threads}" for model, (callers, threads) in self.best.items())


def _one_way(model: BenchModel, seconds: float, callers: int, threads: int) -> Speed:
    command = [sys.executable, __file__, model.name, str(seconds), str(callers), str(threads)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return Speed(**json.loads(done.stdout.splitlines()[-1]))


def measure(model: BenchModel, seconds: float, callers: int, threads: int) -> Speed:
    """Calls of examples of one, in this process."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(model.onnx, options, providers=["CPUExecutionProvider"])
    inputs = {model.input.name: model.example()}
    for _ in range(5):
        session.run(None, inputs)
    begin, used = time.perf_counter(), time.process_time()
    with ThreadPoolExecutor(callers) as pool:
        times = [each for part in pool.map(lambda _: _call(session, inputs, begin + seconds), range(callers)) for each in part]
    return Speed.of(times, time.perf_counter() - begin, time.process_time() - used)


def _call(session: Any, inputs: dict[str, Any], until: float) -> list[float]:
    times = []
    while (begin := time.perf_counter()) < until:
        session.run(None, inputs)
        times.append(time.perf_counter() - begin)
    return times


if __name__ == "__main__":
    from tests.bench.peers.models import bench_models

    name, seconds, callers, threads = sys.argv[1:]
    speed = measure(bench_models((name,))[0], float(seconds), int(callers), int(threads))
    sys.stdout.write(json.dumps(asdict(speed)) + "\n")
