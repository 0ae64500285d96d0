"""Exports and gate decisions of the services that own them, over modelyard.client."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from modelyard.core.artifacts import ArtifactStore, Blob, build_uri
from modelyard.core.client_errors import named_errors
from modelyard.core.jobs.convert import blob_from
from modelyard.evaluator.v1 import evaluator_pb2
from modelyard.exporter.v1 import exporter_pb2
from modelyard.serving.domain.admission import Export, GateDecision
from modelyard.type.v1 import blob_pb2, job_pb2

if TYPE_CHECKING:
    from modelyard.client import Client


class ClientExports:
    """See ports.Exports. The client is made at the first call: embedded, the address is known only then."""

    def __init__(self, client: Callable[[], Client], artifacts: ArtifactStore) -> None:
        self._client = client
        self._artifacts = artifacts

    def get(self, name: str) -> Export:
        """See ports.Exports."""
        with named_errors("exporter"):
            found = self._client().exports.get_export(name)
        state = job_pb2.JobState.Name(found.status.state).removeprefix("JOB_STATE_")
        artifact = blob_from(found.artifact) if found.artifact.uri else None
        imported = found.origin == exporter_pb2.ORIGIN_IMPORTED
        precision = exporter_pb2.Precision.Name(found.precision or exporter_pb2.PRECISION_FP32)
        name = precision.removeprefix("PRECISION_").lower()
        return Export(found.name, found.model_version, state, artifact, imported, name)

    def fetch(self, artifact: Blob) -> Blob:
        """See ports.Exports."""
        return own_copy(self._client, self._artifacts, artifact, "exporter")

    def path(self, artifact: Blob) -> Path:
        """See ports.Exports."""
        return self._artifacts.path(artifact)


class ClientGates:
    """See ports.Gates."""

    def __init__(self, client: Callable[[], Client]) -> None:
        self._client = client

    def get(self, name: str) -> GateDecision:
        """See ports.Gates."""
        with named_errors("evaluator"):
            found = self._client().gate.get_gate_decision(name)
        verdict = evaluator_pb2.Verdict.Name(found.verdict).removeprefix("VERDICT_")
        passport = blob_from(found.passport) if found.passport.uri else None
        return GateDecision(found.name, verdict, tuple(found.reasons), found.artifact_sha256, passport)


def own_copy(client: Callable[[], Client], artifacts: ArtifactStore, blob: Blob, service: str) -> Blob:
    """The same bytes in serving's own keeping, verified: what another service collects, serving still has.

    From the store itself where it holds all services' artifacts, else through the port of the `service` that owns them.
    """
    if artifacts.exists(blob):
        with artifacts.open(blob) as stream:
            return artifacts.put(stream, sha256=blob.sha256, size_bytes=blob.size_bytes)
    own = Blob(build_uri(artifacts.namespace, blob.sha256), blob.sha256, blob.size_bytes)
    if artifacts.exists(own):
        return own
    with tempfile.TemporaryDirectory(prefix="modelyard-serving-") as folder, named_errors(service):
        path = client().artifacts.download(_message(blob), Path(folder) / "blob")
        with path.open("rb") as stream:
            return artifacts.put(stream, sha256=blob.sha256, size_bytes=blob.size_bytes)


def _message(artifact: Blob) -> blob_pb2.Blob:
    return blob_pb2.Blob(uri=artifact.uri, sha256=artifact.sha256, size_bytes=artifact.size_bytes)
