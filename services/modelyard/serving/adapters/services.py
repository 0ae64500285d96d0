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
        return Export(found.name, found.model_version, state, artifact)

    def fetch(self, artifact: Blob) -> Blob:
        """See ports.Exports. From the store itself where it holds all services' artifacts, else through the owner's port."""
        if self._artifacts.exists(artifact):
            with self._artifacts.open(artifact) as stream:
                return self._artifacts.put(stream, sha256=artifact.sha256, size_bytes=artifact.size_bytes)
        own = Blob(build_uri(self._artifacts.namespace, artifact.sha256), artifact.sha256, artifact.size_bytes)
        return own if self._artifacts.exists(own) else self._download(artifact)

    def path(self, artifact: Blob) -> Path:
        """See ports.Exports."""
        return self._artifacts.path(artifact)

    def _download(self, artifact: Blob) -> Blob:
        with tempfile.TemporaryDirectory(prefix="modelyard-serving-") as folder, named_errors("exporter"):
            path = self._client().artifacts.download(_message(artifact), Path(folder) / "bundle.zip")
            with path.open("rb") as stream:
                return self._artifacts.put(stream, sha256=artifact.sha256, size_bytes=artifact.size_bytes)


class ClientGates:
    """See ports.Gates."""

    def __init__(self, client: Callable[[], Client]) -> None:
        self._client = client

    def get(self, name: str) -> GateDecision:
        """See ports.Gates."""
        with named_errors("evaluator"):
            found = self._client().gate.get_gate_decision(name)
        verdict = evaluator_pb2.Verdict.Name(found.verdict).removeprefix("VERDICT_")
        return GateDecision(found.name, verdict, tuple(found.reasons), found.artifact_sha256)


def _message(artifact: Blob) -> blob_pb2.Blob:
    return blob_pb2.Blob(uri=artifact.uri, sha256=artifact.sha256, size_bytes=artifact.size_bytes)
