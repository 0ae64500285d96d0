"""Placements and pods as contract messages, and what callers want of them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from google.protobuf.duration_pb2 import Duration

from modelyard.core.jobs.convert import duration
from modelyard.serving.domain.endpoint import PlacementView
from modelyard.serving.domain.placement import MOST_TEXT, Holding, Placement, Pod, PodState
from modelyard.serving.v1 import serving_pb2

_STATES: Final = {state: serving_pb2.EndpointPod.State.Value(f"STATE_{state.value}") for state in PodState}


def placements_of(messages: Iterable[serving_pb2.Placement]) -> tuple[Placement, ...]:
    """What a caller wants; checked by the domain."""
    return tuple(map(_placement, messages))


def placement_message(placement: Placement) -> serving_pb2.Placement:
    """A placement for the contract."""
    return serving_pb2.Placement(
        target=placement.target,
        min_replicas=placement.min_replicas,
        max_replicas=placement.max_replicas,
        cpu=placement.cpu,
        memory=placement.memory,
        gpus=placement.gpus,
        scale_to_zero_after=duration(placement.idle_s) if placement.idle_s else None,
    )


def pod_message(pod: Pod) -> serving_pb2.EndpointPod:
    """A pod for the contract."""
    failed = next((f"{version}: {held.message}" for version, held in pod.versions.items() if held.state is Holding.FAILED), "")
    return serving_pb2.EndpointPod(
        name=pod.name,
        target=pod.target,
        state=_STATES[pod.state],
        node=pod.node,
        message=(pod.message or failed)[:MOST_TEXT],
        restarts=pod.restarts,
        ready_versions=sorted(version for version in pod.versions if pod.answers(version)),
    )


def placement_status(view: PlacementView, pods: Sequence[Pod]) -> serving_pb2.PlacementStatus:
    """How a placement stands."""
    target = view.placement.target
    return serving_pb2.PlacementStatus(
        target=target,
        wanted=view.wanted,
        ready=sum(pod.target == target and pod.state is PodState.READY for pod in pods),
        cold_start=duration(view.cold_start_s) if view.cold_start_s else None,
        direct_address=view.address,
    )


def _placement(message: serving_pb2.Placement) -> Placement:
    idle = _seconds(message.scale_to_zero_after)
    least = message.min_replicas if message.HasField("min_replicas") else (0 if idle else 1)
    most = message.max_replicas if message.HasField("max_replicas") else max(1, least)
    return Placement(message.target, least, most, message.cpu, message.memory, message.gpus, idle)


def _seconds(message: Duration) -> float:
    return message.seconds + message.nanos / 1e9
