"""The exporter's latency profiles through modelyard.client: what recipes take before they are trained."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from modelyard.core.client_errors import named_errors
from modelyard.core.errors import Cancelled, FailedPrecondition, InvalidArgument, NotFound
from modelyard.core.jobs import convert
from modelyard.core.names import id_of
from modelyard.core.rpc.status import exception_of
from modelyard.exporter.v1 import exporter_pb2
from modelyard.recipes.recipe import Recipe
from modelyard.trainer.domain.selection import Measured
from modelyard.trainer.v1 import trainer_pb2
from modelyard.type.v1 import job_pb2, learning_pb2

if TYPE_CHECKING:
    from modelyard.client import Client


class ClientProfiling:
    """ports.Profiling over a client. open_client: one of a project, by its id."""

    def __init__(self, open_client: Callable[[str], Client]) -> None:
        self._open = open_client

    def check_target(self, parent: str, target: str) -> None:
        """See ports.Profiling."""
        try:
            with self._client(parent) as client:
                client.targets.get_target(target)
        except (NotFound, InvalidArgument) as error:
            message = f"model_selection.target is {target[:200]!r}: {error.message}"
            raise type(error)(error.reason, message, field="model_selection.target", value=target[:200]) from error

    def start(self, parent: str, dataset_version: str, recipes: Sequence[Recipe], target: str, request_id: str) -> str:
        """See ports.Profiling."""
        wanted = [_message(recipe) for recipe in recipes]
        with self._client(parent) as client:
            profiles = client.profiles
            return profiles.create_latency_profile(dataset_version, wanted, target=target, request_id=request_id).name

    def measured(self, profile: str) -> tuple[Measured, ...] | None:
        """See ports.Profiling."""
        with self._client(profile) as client:
            found = client.profiles.get_latency_profile(profile)
        if found.status.HasField("error"):
            raise exception_of(convert.error_document(found.status.error))
        if found.status.state == job_pb2.JOB_STATE_CANCELLED:
            raise Cancelled("CANCELLED", f"{profile} was cancelled", name=profile)
        if found.status.state != job_pb2.JOB_STATE_SUCCEEDED:
            return None
        return tuple(_measured(each) for each in found.candidates)

    def cancel(self, profile: str) -> None:
        """See ports.Profiling."""
        with suppress(NotFound, FailedPrecondition), self._client(profile) as client:
            client.profiles.cancel_latency_profile(profile)

    @contextmanager
    def _client(self, name: str) -> Iterator[Client]:
        """A client of the project that a name is in; its errors as this service's own."""
        client = self._open(id_of("/".join(name.split("/")[:2])))
        try:
            with named_errors("exporter"):
                yield client
        finally:
            client.close()


def _message(recipe: Recipe) -> trainer_pb2.Recipe:
    """As much of a recipe as decides what its export takes."""
    size = recipe.input
    return trainer_pb2.Recipe(
        recipe_id=recipe.name,
        task=learning_pb2.Task.Value(f"TASK_{recipe.task.upper()}"),
        architecture=recipe.architecture,
        input_height=size.height if size else 0,
        input_width=size.width if size else 0,
        input_channels=size.channels if size else 0,
    )


def _measured(each: exporter_pb2.CandidateLatency) -> Measured:
    p95_ms = each.latency.p95_ms if each.HasField("latency") else None
    return Measured(p95_ms, each.size_bytes, each.error_message)
