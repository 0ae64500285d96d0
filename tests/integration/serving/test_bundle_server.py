"""`python -m modelyard.serving --bundle`: one exported model on an edge device, with nothing else around it."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from modelyard.formats.passport_keys import trust
from modelyard.serving.bundle_server import Bundles, Offered
from modelyard.serving.served_models import in_process_loader
from modelyard.serving.settings import ServingSettings
from tests.support.bundles import mlp_bundle, picture_bundle, spoil_vectors
from tests.support.passports import a_key, a_passport
from tests.support.triton import triton

NOT_NEEDED = ["torch", "torchvision", "pyarrow", "sklearn", "scipy", "pandas", "onnx", "lightgbm", "timm"]
NOT_FOR_A_BUNDLE = [*NOT_NEEDED, "sqlalchemy", "alembic", "dbos", "minio", "psycopg"]


@contextmanager
def bundle_server(*arguments: str) -> Iterator[str]:
    command = [sys.executable, "-m", "modelyard.serving", *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield process.stdout.readline().strip()
        finally:
            process.terminate()
            assert process.wait(20) == 0


def test_one_bundle_is_served_without_anything_else(tmp_path: Path) -> None:
    bundle = mlp_bundle(tmp_path / "net.zip")
    before = set(tmp_path.iterdir())
    with bundle_server("--bundle", str(bundle), "--port", "0") as line:
        assert line.startswith("serving net on 127.0.0.1:")
        with triton.InferenceServerClient(line.rsplit(" ", 1)[1]) as client:
            assert client.is_server_ready()
            assert client.is_model_ready("net", "1")
            x = triton.InferInput("x", [2, 4], "FP32")
            x.set_data_from_numpy(np.ones((2, 4), np.float32))
            assert client.infer("net", [x]).as_numpy("label").shape == (2,)
    assert set(tmp_path.iterdir()) == before


def test_several_bundles_are_served_by_one(tmp_path: Path) -> None:
    """Each under its own name; what is unloaded comes back from its file."""
    net, picture = mlp_bundle(tmp_path / "net.zip"), picture_bundle(tmp_path / "p.zip")
    arguments = ("--bundle", str(net), "--bundle", str(picture), "--name", "...", "--name", "model..1", "--port", "0")
    with bundle_server(*arguments) as line:
        assert line.startswith("serving ..., model..1 on ")
        with triton.InferenceServerClient(line.rsplit(" ", 1)[1]) as client:
            assert client.is_model_ready("...")
            client.unload_model("model..1")
            assert not client.is_model_ready("model..1")
            assert client.is_model_ready("...", "1")
            client.load_model("model..1")
            assert client.is_model_ready("model..1")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--bundle", "{missing}"], "NO_SUCH_FILE"),
        (["--bundle", "{text}"], "INVALID_BUNDLE"),
        (["--bundle", "{wrong}"], "TEST_VECTORS_DIFFER"),
        (["--bundle", "{good}", "--name", "../net"], "BAD_MODEL_NAME"),
        (["--bundle", "{good}", "--port", "70000"], "port"),
        (["--name", "net"], "--bundle"),
        (["--bundle", "{good}", "--bundle", "{good}"], "NAME_TWICE"),
        (["--bundle", "{good}", "--bundle", "{good}", "--name", "a"], "--name"),
    ],
)
def test_what_cannot_be_served_is_said_in_a_line(tmp_path: Path, arguments: list[str], said: str) -> None:
    files = {name: tmp_path / f"{name}.zip" for name in ("missing", "text", "wrong", "good")}
    files["text"].write_text("no bundle")
    spoil_vectors(files["wrong"], mlp_bundle(files["good"]))
    command = [sys.executable, "-m", "modelyard.serving", *(argument.format(**files) for argument in arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def imported(code: str) -> set[str]:
    """Top-level packages that a fresh interpreter holds after running the code."""
    script = f"{code}\nimport json, sys\nprint(json.dumps(sorted({{name.split('.')[0] for name in sys.modules}})))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120, check=True)
    return set(json.loads(done.stdout.splitlines()[-1]))


PREDICT = """
from pathlib import Path
import asyncio, io, PIL.Image
from modelyard.serving.bundle_server import Bundles, Offered
from modelyard.serving.ports import Tensor
from modelyard.serving.served_models import in_process_loader
from modelyard.serving.settings import ServingSettings
settings = ServingSettings()
registry = Bundles([Offered(Path({bundle!r}), "m")], settings, in_process_loader(settings)).load_all()
out = io.BytesIO()
PIL.Image.new("RGB", (20, 20)).save(out, "JPEG")
file = out.getvalue()
async def answer():
    got = asyncio.get_running_loop().create_future()
    image = Tensor("image", "BYTES", (1,), len(file).to_bytes(4, "little") + file)
    registry.find("m", "")[1].submit([image], 1, None, got.set_result)
    return await got
assert bytes(asyncio.run(answer()).tensors[1].data)[4:] == b"dark"
"""


def test_a_bundle_needs_no_training_library_and_no_database(tmp_path: Path) -> None:
    bundle = picture_bundle(tmp_path / "p.zip")
    assert imported(PREDICT.format(bundle=str(bundle))).isdisjoint(NOT_FOR_A_BUNDLE)


def test_the_service_needs_no_training_library() -> None:
    assert imported("import modelyard.serving.bootstrap, modelyard.serving.__main__").isdisjoint(NOT_NEEDED)


def _serve(tmp_path: Path, *arguments: str, trusted: Path | None = None) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, **({"MODELYARD_PASSPORT_TRUSTED_KEYS": str(trusted)} if trusted else {})}
    command = [sys.executable, "-m", "modelyard.serving", "--bundle", str(tmp_path / "net.zip"), *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)


def test_where_keys_are_trusted_a_bundle_needs_its_passport(tmp_path: Path) -> None:
    bundle, key = mlp_bundle(tmp_path / "net.zip"), a_key(tmp_path)
    trust(tmp_path / "trusted", key.public)
    passport = tmp_path / "passport.json"
    missing = _serve(tmp_path, trusted=tmp_path / "trusted")
    assert missing.returncode == 2
    assert "PASSPORT_MISSING" in missing.stderr
    passport.write_bytes(a_passport(key, "ab" * 32))
    assert "PASSPORT_OF_ANOTHER_ARTIFACT" in _serve(tmp_path, "--passport", str(passport), trusted=tmp_path / "trusted").stderr
    passport.write_bytes(a_passport(key, hashlib.sha256(bundle.read_bytes()).hexdigest()))
    assert "PASSPORT_UNTRUSTED_KEY" in _serve(tmp_path, "--passport", str(passport), trusted=tmp_path / "nowhere").stderr
    settings = ServingSettings(data_dir=tmp_path, passport_trusted_keys=tmp_path / "trusted")
    loader = in_process_loader(settings)
    registry = Bundles([Offered(bundle, "net", passport)], settings, loader).load_all()
    assert registry.is_ready("net", "")
    registry.close()
    loader.close()
