"""What must stay light: services without torch, a command line that starts at once, a server that is ready at once."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.support.servers import start_embedded

pytestmark = pytest.mark.alone

ROOT = Path(__file__).resolve().parents[2]
SERVICES = ("dataset", "trainer", "exporter", "evaluator", "serving", "pipeline")
# The machine may be busy with other tests: the best of several tries is what the program takes.
TRIES = 5


def best_of(command: list[str]) -> float:
    def once() -> float:
        start = time.perf_counter()
        subprocess.run(command, check=True, capture_output=True)
        return time.perf_counter() - start

    return min(once() for _ in range(TRIES))


def test_help_answers_within_400_ms() -> None:
    assert best_of([str(Path(sys.executable).with_name("modelyard")), "--help"]) < 0.4


def test_up_is_ready_within_4_s(tmp_path: Path) -> None:
    seconds = []
    for number in range(3):
        server = start_embedded(tmp_path / str(number), tmp_path / "log")
        seconds.append(server.wait_ready())
        assert server.stop() == 0
    assert min(seconds) < 4.0, seconds


@pytest.mark.parametrize("service", SERVICES)
def test_a_service_imports_no_training_library(service: str) -> None:
    code = (
        f"import sys, modelyard.{service}.bootstrap, modelyard.{service}.__main__\n"
        "heavy = {'torch', 'torchvision', 'timm', 'tensorflow', 'lightgbm', 'lightning'} & set(sys.modules)\n"
        "sys.exit(', '.join(heavy) or 0)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_serving_extra_alone_serves_a_bundle_without_torch(tmp_path: Path) -> None:
    """Installs modelyard[serving] into an environment of its own and serves an exported bundle from it."""
    from tests.support.bundles import mlp_bundle

    bundle = mlp_bundle(tmp_path / "mlp.zip")
    python = tmp_path / "env" / "bin" / "python"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(tmp_path / "env")], check=True)
    install = [
        sys.executable,
        "-m",
        "uv",
        "pip",
        "install",
        "--quiet",
        "--python",
        str(python),
        "-c",
        str(ROOT / "constraints.txt"),
    ]
    subprocess.run([*install, f"{ROOT}[serving]"], check=True)
    for package in ("torch", "tensorflow", "pyarrow", "sklearn", "lightgbm"):
        found = subprocess.run([python, "-c", f"import {package}"], capture_output=True, check=False)
        assert found.returncode != 0, f"modelyard[serving] brings {package}"
    serve_once(python, bundle, tmp_path)


def serve_once(python: Path, bundle: Path, folder: Path) -> None:
    import numpy as np

    from tests.support.servers import free_port
    from tests.support.triton import triton

    port = free_port()
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    command = [str(python), "-m", "modelyard.serving", "--bundle", str(bundle), "--name", "mlp", "--port", str(port)]
    with subprocess.Popen(command, cwd=folder, env=environment) as server:
        try:
            client = triton.InferenceServerClient(f"127.0.0.1:{port}")
            deadline = time.monotonic() + 30
            while not ready(client):
                assert server.poll() is None
                assert time.monotonic() < deadline
                time.sleep(0.1)
            metadata = client.get_model_metadata("mlp")
            tensor = triton.InferInput(metadata.inputs[0].name, [1, *metadata.inputs[0].shape[1:]], metadata.inputs[0].datatype)
            tensor.set_data_from_numpy(np.zeros([1, *metadata.inputs[0].shape[1:]], dtype=np.float32))
            assert client.infer("mlp", [tensor]).as_numpy(metadata.outputs[0].name) is not None
        finally:
            server.terminate()


def ready(client: object) -> bool:
    from tests.support.triton import InferenceServerException

    try:
        return bool(client.is_model_ready("mlp"))  # type: ignore[attr-defined]
    except InferenceServerException:
        return False
