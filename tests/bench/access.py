"""What it costs to ask who calls: processor time of a prediction with MODELYARD_AUTH=token and without, in turns, in one run.

    python -m tests.bench.access [--rounds 6] [--calls 2000]

Prints one JSON object: microseconds of the server process a call, each way, and the median of their ratios. The model computes in
a process of its own, whose time does not count.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import grpc
import numpy as np

from inference import grpc_service_pb2 as oip
from tests.support.access_world import token_of, write_tokens
from tests.support.bundles import mlp_bundle

METHOD = "/inference.GRPCInferenceService/ModelInfer"
TICK = os.sysconf("SC_CLK_TCK")


def start(bundle: Path, folder: Path, auth: str) -> tuple[Any, str]:
    """A server of the bundle alone; gives the process and its address."""
    environment = {
        **os.environ,
        "MODELYARD_AUTH": auth,
        "MODELYARD_TOKENS_FILE": str(write_tokens(folder / "tokens.json")),
        "MODELYARD_DATA_DIR": str(folder / auth),
    }
    command = [sys.executable, "-m", "modelyard.serving", "--bundle", str(bundle), "--name", "flowers.mlp", "--port", "0"]
    process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    assert process.stdout is not None
    return process, process.stdout.readline().split()[-1]


def cpu_s(pid: int) -> float:
    """Processor time of a process so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICK


def request_for(channel: Any, metadata: Sequence[tuple[str, str]]) -> bytes:
    """A request of one row, as the model wants it."""
    ask = channel.unary_unary("/inference.GRPCInferenceService/ModelMetadata", oip.ModelMetadataRequest.SerializeToString, bytes)
    found = oip.ModelMetadataResponse.FromString(ask(oip.ModelMetadataRequest(name="flowers.mlp"), metadata=metadata))
    one = found.inputs[0]
    shape = [1, *(size for size in one.shape[1:])]
    request = oip.ModelInferRequest(model_name="flowers.mlp", raw_input_contents=[np.zeros(shape, np.float32).tobytes()])
    request.inputs.add(name=one.name, datatype=one.datatype, shape=shape)
    return request.SerializeToString()


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--calls", type=int, default=2000)
    given = parser.parse_args(arguments)
    metadata = [("authorization", f"Bearer {token_of('viewer')}")]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        bundle = mlp_bundle(folder / "mlp.zip")
        started = {auth: start(bundle, folder, auth) for auth in ("none", "token")}
        try:
            channels = {auth: grpc.insecure_channel(address) for auth, (_, address) in started.items()}
            calls = {auth: channel.unary_unary(METHOD) for auth, channel in channels.items()}
            body = request_for(channels["token"], metadata)
            spent: dict[str, list[float]] = {"none": [], "token": []}
            for number in range(given.rounds + 1):
                for auth in ("none", "token") if number % 2 else ("token", "none"):
                    before = cpu_s(started[auth][0].pid)
                    for _ in range(given.calls):
                        calls[auth](body, metadata=metadata, timeout=30)
                    spent[auth].append((cpu_s(started[auth][0].pid) - before) / given.calls * 1e6)
            for channel in channels.values():
                channel.close()
        finally:
            for process, _ in started.values():
                process.terminate()
            for process, _ in started.values():
                process.wait(30)
    warm = {auth: values[1:] for auth, values in spent.items()}
    ratio = statistics.median(on / off for on, off in zip(warm["token"], warm["none"], strict=True))
    figures = {auth: round(statistics.median(values), 1) for auth, values in warm.items()}
    print(json.dumps({"us_per_call": figures, "ratio": round(ratio, 3), "rounds": given.rounds, "calls": given.calls}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
