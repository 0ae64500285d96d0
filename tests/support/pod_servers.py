"""Pods that are bundle servers of this machine, and a version that lives in them."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import grpc

from modelyard.formats.bundle import open_bundle
from modelyard.serving.adapters.pod_connections import Line, PodConnections
from modelyard.serving.adapters.pod_probe import GrpcPodProbe
from modelyard.serving.adapters.pods_process import PodOrder, ProcessFleet
from modelyard.serving.adapters.remote_model import RemoteLimits, RemoteModel
from modelyard.serving.domain.placement import Placement
from modelyard.serving.handlers.pod_board import EndpointPods, PodBoard, PodTimes

ENDPOINT = "projects/default/endpoints/mlp"
LIGHT = {"MODELYARD_ISOLATION": "none", "MODELYARD_INFERENCE_THREADS": "1", "OMP_NUM_THREADS": "1"}


@dataclass
class Yard:
    """Pods with one bundle in each, as version V001 of the model `mlp`."""

    fleet: ProcessFleet
    board: PodBoard
    pods: EndpointPods
    model: RemoteModel

    def pids(self) -> list[int]:
        """Of the pods that are there."""
        return [each.process.pid for group in self.fleet._groups.values() for each in group.there]


def bundle_command(bundle: Path, **settings: str) -> object:
    """What starts a pod that serves one bundle."""

    def command(order: PodOrder) -> tuple[Sequence[str], Mapping[str, str]]:
        line = [sys.executable, "-m", "modelyard.serving", "--bundle", str(bundle), "--name", "mlp", "--port", str(order.port)]
        return line, {**os.environ, **LIGHT, **settings}

    return command


@contextmanager
def yard(
    folder: Path,
    bundle: Path,
    placement: Placement,
    *,
    limits: RemoteLimits | None = None,
    times: PodTimes | None = None,
    **settings: str,
) -> Iterator[Yard]:
    """Ready pods."""
    fleet = ProcessFleet(folder / "pods", bundle_command(bundle, **settings))  # type: ignore[arg-type]
    board = PodBoard(fleet, GrpcPodProbe(grpc.insecure_channel), times or PodTimes())
    try:
        pods = board.place(ENDPOINT, [placement])
        board.wait_live(pods, "V001", lambda: True)
        connections = PodConnections(Line())
        pods.listeners.append(connections.show)
        connections.show(pods.pods)
        model = RemoteModel(open_bundle(bundle).card, "mlp", "V001", connections, pods, limits or RemoteLimits())
        yield Yard(fleet, board, pods, model)
        model.close()
        connections.close()
    finally:
        board.close()
