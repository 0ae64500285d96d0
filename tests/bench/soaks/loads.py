"""A model unloaded and loaded again, many times: what is left of it in memory."""

from __future__ import annotations

import statistics
import sys
import time
from pathlib import Path

import grpc

from inference import grpc_service_pb2 as oip
from inference.grpc_service_pb2_grpc import GRPCInferenceServiceStub
from tests.bench.soaks.bundle_server import served, still_right
from tests.bench.soaks.outcome import Footing, Outcome, compare

MODEL = "mlp"
SETTLED = 20
"""Loads before the first look: what a server needs once is there then."""


def loads(times: int, folder: Path) -> Outcome:
    """`times` unloads and loads of the smallest model while the other two stay; every 100th is checked and looked at."""
    outcome = Outcome("loads", {"loads": times})
    with served(folder) as (server, models), grpc.insecure_channel(server.addresses[MODEL]) as channel:
        stub = GRPCInferenceServiceStub(channel)
        for _ in range(SETTLED):
            _again(stub)
        before = Footing.of(server.pids[0])
        seconds = [_seen(outcome, stub, server.pids[0], number) for number in range(1, times + 1)]
        still_right(server, models)
        compare(outcome, before, Footing.of(server.pids[0]), 0.05)
    outcome.figures["median_load_s"] = round(statistics.median(seconds), 4)
    outcome.figures["slowest_load_s"] = round(max(seconds), 3)
    return outcome


def _seen(outcome: Outcome, stub: GRPCInferenceServiceStub, pid: int, number: int) -> float:
    taken = _again(stub)
    if number % 100 == 0:
        now = Footing.of(pid)
        outcome.series.append({"loads": number, "rss": now.memory.rss, "pss": now.memory.pss, "files": now.files})
        sys.stderr.write(f"loads: {number}, RSS {now.memory.rss >> 20} MiB, {now.files} files\n")
    return taken


def _again(stub: GRPCInferenceServiceStub) -> float:
    """Seconds of one unload and load."""
    begin = time.perf_counter()
    stub.RepositoryModelUnload(oip.RepositoryModelUnloadRequest(model_name=MODEL), timeout=60)
    stub.RepositoryModelLoad(oip.RepositoryModelLoadRequest(model_name=MODEL), timeout=60)
    return time.perf_counter() - begin
