"""The servers that are compared, and how each is started.

Every one runs in its own process and environment and listens on ports of its own. BEST names the configuration of each that was
best on 2 cores; the others that were tried are kept, so that this can be seen again (run.py --all).
"""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from tests.bench.peers.models import BenchModel
from tests.bench.peers.running import Contestant, Plan, Process, free_port
from tests.bench.peers.setup import interpreter

SERVERS: Final = Path(__file__).with_name("servers")
ROOT: Final = Path(__file__).resolve().parents[3]
CORES: Final = len(os.sched_getaffinity(0))


def _ours(models: Sequence[BenchModel], folder: Path) -> list[Process]:
    """The sources that this file lies in, whatever is installed."""
    bundles = [part for model in models for part in ("--bundle", str(model.bundle), "--name", model.name)]
    command = [sys.executable, "-m", "modelyard.serving", *bundles, "--port", str(port := free_port())]
    return [_all(models, port, command, {"PYTHONPATH": f"{ROOT / 'services'}:{ROOT / 'clients'}"})]


def _kserve(mode: str, threads: int) -> Plan:
    def plan(models: Sequence[BenchModel], folder: Path) -> list[Process]:
        ports = ["--port", str(port := free_port()), "--http-port", str(free_port())]
        command = [
            str(interpreter("kserve")),
            str(SERVERS / "kserve_server.py"),
            *ports,
            "--mode",
            mode,
            "--threads",
            str(threads),
        ]
        return [_all(models, port, [*command, *_named(models)])]

    return plan


def _mlserver(workers: int, threads: int, batch: int = 0) -> Plan:
    def plan(models: Sequence[BenchModel], folder: Path) -> list[Process]:
        port = free_port()
        ports = {"host": "127.0.0.1", "grpc_port": port, "http_port": free_port(), "metrics_port": free_port()}
        settings = {**ports, "debug": False, "parallel_workers": workers, "grpc_max_message_length": 64 << 20}
        (folder / "settings.json").write_text(json.dumps(settings))
        for model in models:
            _mlserver_model(folder / model.name, model, batch)
        command = [str(interpreter("mlserver").with_name("mlserver")), "start", str(folder)]
        return [_all(models, port, command, {"BENCH_THREADS": str(threads)})]

    return plan


def _mlserver_model(folder: Path, model: BenchModel, batch: int) -> None:
    folder.mkdir()
    shutil.copy(SERVERS / "mlserver_runtime.py", folder)
    settings = {"name": model.name, "implementation": "mlserver_runtime.OnnxRuntime", "parameters": {"uri": str(model.onnx)}}
    batching = {"max_batch_size": batch, "max_batch_time": 0.001} if batch else {}
    (folder / "model-settings.json").write_text(json.dumps({**settings, **batching}))


def _triton_bound(threads: int) -> Plan:
    def plan(models: Sequence[BenchModel], folder: Path) -> list[Process]:
        port = free_port()
        ports = ["--port", str(port), "--http-port", str(free_port()), "--metrics-port", str(free_port())]
        command = [str(interpreter("triton")), str(SERVERS / "triton_bound.py"), *ports, "--threads", str(threads)]
        return [_all(models, port, [*command, *_named(models)])]

    return plan


def _triton_backend(threads: int, instances: int) -> Plan:
    def plan(models: Sequence[BenchModel], folder: Path) -> list[Process]:
        port = free_port()
        for model in models:
            _triton_model(folder / "repository" / model.name, model, threads, instances)
        packages = next((interpreter("triton").parents[1] / "lib").glob("python*/site-packages"))
        server = packages / "pytriton" / "tritonserver"
        stub = server / "python_backend_stubs" / packages.parent.name.removeprefix("python") / "triton_python_backend_stub"
        backends = folder / "backends" / "python"
        shutil.copytree(server / "backends" / "python", backends)
        shutil.copy(stub, backends)
        ports = [f"--grpc-port={port}", f"--http-port={free_port()}", f"--metrics-port={free_port()}", "--grpc-address=127.0.0.1"]
        places = [f"--model-repository={folder / 'repository'}", f"--backend-directory={folder / 'backends'}"]
        command = [str(server / "bin" / "tritonserver"), *places, *ports]
        found = {"BENCH_PACKAGES": str(packages), "LD_LIBRARY_PATH": str(packages / "nvidia_pytriton.libs")}
        return [_all(models, port, command, found)]

    return plan


def _triton_model(folder: Path, model: BenchModel, threads: int, instances: int) -> None:
    (folder / "1").mkdir(parents=True)
    shutil.copy(SERVERS / "triton_backend.py", folder / "1" / "model.py")
    shape = ", ".join(str(size) for size in model.input.shape[1:])
    (folder / "config.pbtxt").write_text(
        f"""name: "{model.name}" backend: "python" max_batch_size: 8 dynamic_batching {{}}
input [{{ name: "{model.input.name}" data_type: TYPE_{model.input.datatype} dims: [{shape}] }}]
output [{{ name: "probabilities" data_type: TYPE_FP32 dims: [-1] }}]
instance_group [{{ kind: KIND_CPU count: {instances} }}]
parameters [{{ key: "onnx" value: {{ string_value: "{model.onnx}" }} }}]
parameters [{{ key: "threads" value: {{ string_value: "{threads}" }} }}]
"""
    )


def _named(models: Sequence[BenchModel]) -> list[str]:
    return [part for model in models for part in ("--model", f"{model.name}={model.onnx}")]


def _all(
    models: Sequence[BenchModel], port: int, command: Sequence[str], environment: Mapping[str, str] | None = None
) -> Process:
    return Process(command, {model.name: f"127.0.0.1:{port}" for model in models}, environment or {})


_TRIED: Final = (
    Contestant("ours", "as `python -m modelyard.serving --bundle FILE --bundle FILE --bundle FILE` starts", _ours),
    Contestant("kserve", "predict on the event loop, 1 thread, no log line a request", _kserve("inline", 1), "kserve"),
    Contestant("kserve-threads", f"predict on the event loop, {CORES} threads", _kserve("inline", CORES), "kserve"),
    Contestant("kserve-pool", f"predict in {CORES} threads, 1 thread each", _kserve("pool", 1), "kserve"),
    Contestant("mlserver", f"no parallel workers, {CORES} threads, no debug", _mlserver(0, CORES), "mlserver"),
    Contestant("mlserver-default", f"1 parallel worker, {CORES} threads", _mlserver(1, CORES), "mlserver"),
    Contestant("mlserver-2", "2 parallel workers, 1 thread each", _mlserver(2, 1), "mlserver"),
    Contestant("mlserver-batch", "no parallel workers, 1 thread, batches to 8 in 1 ms", _mlserver(0, 1, 8), "mlserver"),
    Contestant("triton", f"Python backend, batching, {CORES} instances x 1 thread", _triton_backend(1, CORES), "triton"),
    Contestant("triton-1", f"Python backend, batching, 1 instance x {CORES} threads", _triton_backend(CORES, 1), "triton"),
    Contestant("pytriton", "PyTriton's function, batching, 1 thread", _triton_bound(1), "triton"),
    Contestant("pytriton-threads", f"PyTriton's function, batching, {CORES} threads", _triton_bound(CORES), "triton"),
)
CONTESTANTS: Final = {each.name: each for each in _TRIED}
BEST: Final = ("ours", "kserve", "mlserver", "triton", "pytriton")
