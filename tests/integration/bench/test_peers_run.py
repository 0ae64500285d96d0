"""The comparison runs from end to end with what is here in any case: our server, and onnxruntime in process."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.bench.load_client import NoLoadClient, built

RUN = Path(__file__).resolve().parents[2] / "bench" / "peers" / "run.py"


def test_our_server_beside_onnxruntime_in_process(tmp_path: Path) -> None:
    try:
        built()
    except NoLoadClient as problem:
        pytest.skip(str(problem))
    out, drawn = tmp_path / "out.json", tmp_path / "out.svg"
    options = ["--only", "ours,in-process", "--models", "mlp", "--rounds", "1", "--seconds", "1"]
    command = [sys.executable, str(RUN), *options, "--json", str(out), "--picture", str(drawn)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads(out.read_text())
    for server in ("ours", "in-process"):
        (measured,) = found["speeds"]["mlp"][server]
        assert measured["per_second"] > 10
        assert measured["errors"] == 0
    assert found["memory"]["ours"]["processes"] >= 1
    assert "| mlp | ours |" in done.stdout
    assert drawn.read_text().startswith("<svg")
