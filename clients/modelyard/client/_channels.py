"""How channels are set up, for the sync and the asyncio transport alike."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any, Final, NamedTuple

from google.protobuf.message import Message

from modelyard.client.access import Access
from modelyard.client.channels import authorization
from modelyard.client.settings import MAX_MESSAGE_BYTES, CallSettings

ARTIFACT_SERVICE: Final = "modelyard.artifact.v1.ArtifactService"
EVERYWHERE: Final = (ARTIFACT_SERVICE, "modelyard.access.v1.AccessService", "modelyard.jobs.v1.JobsService")
"""APIs that every service has."""
SERVICE_KEY: Final = "modelyard-service"
JOBS_SERVICE: Final = "modelyard.jobs.v1.JobsService"
INFERENCE_SERVICE: Final = "inference.GRPCInferenceService"
# Full name of the API of each service.
APIS: Final = {
    "dataset": "modelyard.dataset.v1.DatasetService",
    "trainer": "modelyard.trainer.v1.TrainerService",
    "evaluator": "modelyard.evaluator.v1.EvaluatorService",
    "exporter": "modelyard.exporter.v1.ExporterService",
    "serving": "modelyard.serving.v1.ServingService",
    "pipeline": "modelyard.pipeline.v1.PipelineService",
}

outgoing: dict[str, Callable[[], tuple[tuple[str, str], ...]]] = {}
"""What calls carry along, under "metadata": tracing, where a service has switched it on."""


def metadata(access: Access, service: str = "", api: str = "") -> tuple[tuple[str, str], ...] | None:
    """Metadata of a call that begins now: the token and the trace; None: none.

    Some APIs every service has, so these calls name theirs: a gateway with one address for all goes by it.
    """
    own = ((SERVICE_KEY, service),) if api in EVERYWHERE else ()
    return authorization(access) + (outgoing["metadata"]() if outgoing else ()) + own or None


class Kept(NamedTuple):
    """A channel, and the stamp of the files it was made from: when they change, the next call gets a new one."""

    channel: Any
    stamp: tuple[tuple[int, int], ...]


def channel_options() -> list[tuple[str, Any]]:
    """Message caps, keep-alive, and a quick reconnect."""
    options: list[tuple[str, Any]] = [
        ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
        ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
        ("grpc.initial_reconnect_backoff_ms", 100),
        ("grpc.min_reconnect_backoff_ms", 100),
        ("grpc.max_reconnect_backoff_ms", 2000),
        ("grpc.keepalive_time_ms", 60_000),
        # Retries are ours: they share one deadline and honour RetryInfo.
        ("grpc.enable_retries", 0),
    ]
    return options


def method_path(api: str, method: str) -> str:
    return f"/{api}/{method}"


def serialize(message: Message) -> bytes:
    return message.SerializeToString()


def backoff_s(failures: int, settings: CallSettings, asked_s: float | None) -> float:
    """Seconds before the next try after so many failures in a row: what the server asked for, else exponential with jitter."""
    if asked_s is not None:
        return asked_s
    longest: float = min(settings.max_backoff_s, settings.first_backoff_s * 2 ** (failures - 1))
    return longest * random.uniform(0.5, 1.0)  # noqa: S311 - spreads retries, guards nothing
