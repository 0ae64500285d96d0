"""What the hop to a pod costs: the same versions in the server's own process and in a pod, asked in turn in one run.

    python tests/bench/pods.py [--rounds 6] [--requests 400]

Prints, for the MLP and the 96 px net, ratios of the processor time of a request (all processes of the server together) and of the
median latency of a lone caller. Latency depends on what else runs on the machine, the ratio of processor time hardly.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import grpc

from inference import grpc_service_pb2 as oip
from inference.grpc_service_pb2_grpc import GRPCInferenceServiceStub
from modelyard.client import Client
from tests.bench.peers.memory import processor_s
from tests.bench.peers.models import BenchModel, bench_models
from tests.support.serving_process import Server, server


@dataclass
class Side:
    """A server and what was measured of it: seconds of processor a request, and latencies in ms."""

    server: Server
    stub: Any
    processor: list[float] = field(default_factory=list)
    latencies: list[float] = field(default_factory=list)

    def ask(self, request: oip.ModelInferRequest, count: int) -> None:
        """So many requests of a lone caller."""
        before = processor_s([self.server.process.pid])
        for _ in range(count):
            began = time.perf_counter()
            self.stub.ModelInfer(request, timeout=60)
            self.latencies.append(1000 * (time.perf_counter() - began))
        self.processor.append((processor_s([self.server.process.pid]) - before) / count)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--requests", type=int, default=400, help="of each round")
    asked = parser.parse_args()
    models = bench_models(("mlp", "net96"))
    os.environ["OMP_NUM_THREADS"] = "1"
    with tempfile.TemporaryDirectory(prefix="pods-bench-") as folder, ExitStack() as stack:
        sides = [_side(stack, Path(folder), name, models) for name in ("none", "process")]
        for number, model in enumerate(models, start=1):
            for side in sides:
                side.processor.clear()
                side.latencies.clear()
            request = oip.ModelInferRequest(model_name=f"e{number}")
            example = model.example()
            request.inputs.add(name=model.input.name, datatype=model.input.datatype, shape=example.shape)
            request.raw_input_contents.append(example.tobytes())
            for _ in range(asked.rounds):
                for side in sides:
                    side.ask(request, asked.requests)
            _tell(model, *sides)


def _side(stack: ExitStack, folder: Path, where: str, models: Sequence[BenchModel]) -> Side:
    bundles = [model.bundle for model in models]
    made = stack.enter_context(server(folder / where, bundles, serving_pods=where, log_level="warning"))
    client = stack.enter_context(Client(made.address))
    for number in range(1, len(models) + 1):
        client.endpoints.create_endpoint(f"e{number}")
        client.endpoints.create_deployment(f"e{number}", export=f"x{number}", gate_decision=f"x{number}")
    channel = stack.enter_context(grpc.insecure_channel(made.address))
    return Side(made, GRPCInferenceServiceStub(channel))


def _tell(model: BenchModel, own: Side, pods: Side) -> None:
    mine, theirs = statistics.median(own.processor), statistics.median(pods.processor)
    fast, slow = statistics.median(own.latencies), statistics.median(pods.latencies)
    print(
        f"{model.words}: processor {1e6 * mine:.0f} us in the server, {1e6 * theirs:.0f} in a pod, ratio {theirs / mine:.2f}; "
        f"median latency {fast:.2f} ms, {slow:.2f} ms, ratio {slow / fast:.2f}",
        flush=True,
    )


if __name__ == "__main__":
    main()
