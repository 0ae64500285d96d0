"""Serving's ports, in memory."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from modelyard.core.artifacts import Blob
from modelyard.core.errors import FailedPrecondition, NotFound
from modelyard.formats.bundle import BundleCard, Source, TensorSpec
from modelyard.formats.passport import missing
from modelyard.serving.domain.admission import Export, GateDecision

PROJECT = "projects/default"
CARD = BundleCard(
    task="tabular_regression",
    inputs=(TensorSpec("x", "FP32", (-1, 2)),),
    outputs=(TensorSpec("prediction", "FP32", (-1, 1)),),
    source=Source(),
)


def blob(sha256: str, namespace: str = "exporter") -> Blob:
    """A blob whose sha256 is these characters, repeated."""
    full = (sha256 * 64)[:64]
    return Blob(f"artifact://{namespace}/{full}", full, 10)


@dataclass
class FakeExports:
    """Exports by name; their bytes' path is their sha256."""

    exports: dict[str, Export] = field(default_factory=dict)
    fetched: list[str] = field(default_factory=list)

    def add(self, id_: str, version: str, sha256: str, state: str = "SUCCEEDED") -> str:
        name = f"{PROJECT}/exports/{id_}"
        self.exports[name] = Export(name, f"{PROJECT}/models/m/versions/{version}", state, blob(sha256))
        return name

    def get(self, name: str) -> Export:
        if name not in self.exports:
            raise NotFound("RESOURCE_NOT_FOUND", f"{name} does not exist.", name=name)
        return self.exports[name]

    def fetch(self, artifact: Blob) -> Blob:
        self.fetched.append(artifact.sha256)
        return Blob(artifact.uri.replace("exporter", "serving"), artifact.sha256, artifact.size_bytes)

    def path(self, artifact: Blob) -> Path:
        return Path(artifact.sha256)


@dataclass
class FakeGates:
    """Decisions by name."""

    decisions: dict[str, GateDecision] = field(default_factory=dict)

    def add(
        self, id_: str, sha256: str, verdict: str = "DEPLOY", reasons: tuple[str, ...] = (), passport: Blob | None = None
    ) -> str:
        name = f"{PROJECT}/gateDecisions/{id_}"
        self.decisions[name] = GateDecision(
            name, verdict, reasons, blob(sha256).sha256, passport or blob(f"1{sha256}", "evaluator")
        )
        return name

    def get(self, name: str) -> GateDecision:
        if name not in self.decisions:
            raise NotFound("RESOURCE_NOT_FOUND", f"{name} does not exist.", name=name)
        return self.decisions[name]


@dataclass
class FakePassports:
    """Lets every artifact through that has a passport, but those whose sha256 is `refused`; remembers what it checked."""

    refused: set[str] = field(default_factory=set)
    checked: list[str] = field(default_factory=list)

    def fetch(self, passport: Blob) -> Blob:
        return Blob(passport.uri.replace("evaluator", "serving"), passport.sha256, passport.size_bytes)

    def check(self, artifact: Blob, path: Path, passport: Blob | None) -> None:
        self.checked.append(artifact.sha256)
        if passport is None:
            raise missing(artifact.sha256, "it was deployed before there were passports")
        if artifact.sha256 in self.refused:
            raise FailedPrecondition("PASSPORT_UNTRUSTED_KEY", "the key is not trusted any more")
