"""Which exports may be served: only those whose very bytes a gate has let through."""

from __future__ import annotations

from dataclasses import dataclass

from modelyard.core.artifacts import Blob
from modelyard.core.errors import FailedPrecondition, InvalidArgument
from modelyard.formats.passport import missing

DEPLOY = "DEPLOY"
"""The one verdict that lets an artifact be served."""


@dataclass(frozen=True)
class Export:
    """What serving needs to know of an export. `artifact` is None until it succeeded; `state` is the job's (SUCCEEDED...).

    `imported`: a model that was brought as a file; it has no model version. `precision`: fp32, int8...; empty: not known.
    """

    name: str
    model_version: str
    state: str
    artifact: Blob | None
    imported: bool = False
    precision: str = ""


@dataclass(frozen=True)
class GateDecision:
    """What serving needs to know of a gate's decision: verdict (DEPLOY...), its reasons, the bytes it is about, their passport.

    `passport` is None in decisions that were made before there were passports.
    """

    name: str
    verdict: str
    reasons: tuple[str, ...]
    artifact_sha256: str
    passport: Blob | None = None


@dataclass(frozen=True)
class Admitted:
    """Bytes that a gate has let through, with the passport that says so. The passport has yet to be verified."""

    artifact: Blob
    passport: Blob


def admit(export: Export, decision: GateDecision) -> Admitted:
    """The artifact that may be served, by what the decision says.

    Raises FailedPrecondition EXPORT_NOT_READY (it has no bytes yet), ARTIFACT_NOT_EVALUATED (the decision is about other bytes),
    GATE_REFUSED (the verdict is not DEPLOY) or PASSPORT_MISSING.
    """
    artifact = export.artifact
    if artifact is None or export.state != "SUCCEEDED":
        message = f"{export.name} is {export.state or 'without state'}; only an export that SUCCEEDED can be served"
        raise FailedPrecondition("EXPORT_NOT_READY", message, field="deployment.export", export=export.name, state=export.state)
    if decision.artifact_sha256 != artifact.sha256:
        message = (
            f"{decision.name} is about the artifact with sha256 {decision.artifact_sha256}, but {export.name} has "
            f"{artifact.sha256}. Evaluate this export and ask the gate about that evaluation."
        )
        raise FailedPrecondition(
            "ARTIFACT_NOT_EVALUATED",
            message,
            field="deployment.gate_decision",
            gate_decision=decision.name,
            export=export.name,
            evaluated_sha256=decision.artifact_sha256,
            artifact_sha256=artifact.sha256,
        )
    if decision.verdict != DEPLOY:
        reasons = " ".join(decision.reasons)
        message = f"{decision.name} says {decision.verdict}, so {export.name} must not be served. {reasons}".rstrip()
        raise FailedPrecondition(
            "GATE_REFUSED", message, field="deployment.gate_decision", gate_decision=decision.name, verdict=decision.verdict
        )
    if decision.passport is None:
        why = f"{decision.name} was made before there were passports; ask the gate again about that evaluation, for a new one"
        raise missing(artifact.sha256, why)
    return Admitted(artifact, decision.passport)


def version_of(export: Export) -> str:
    """The version under which an export answers: the last part of its model version (V003); of an imported one the export's id.

    Raises InvalidArgument BAD_MODEL_VERSION where an export that is not imported names none.
    """
    if export.imported and not export.model_version:
        return export.name.rpartition("/")[2]
    version = export.model_version.rpartition("/versions/")[2]
    if "/versions/" in export.model_version and version and "/" not in version:
        return version
    message = f"{export.name} names the model version {export.model_version!r}; projects/*/models/*/versions/* is needed"
    raise InvalidArgument("BAD_MODEL_VERSION", message, field="deployment.export", model_version=export.model_version)
