"""The gate's ports, in memory: evaluations by what their artifacts answer."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import numpy as np

from modelyard.core.artifacts import Blob
from modelyard.core.documents import to_document
from modelyard.core.errors import NotFound
from modelyard.core.jobs.job import Document, Instruction, Job, JobState
from modelyard.core.latency import Latency
from modelyard.core.resources import Resource
from modelyard.evaluator.domain import metrics
from modelyard.evaluator.domain.evaluation import EvaluationResult, EvaluationSpec
from modelyard.evaluator.domain.experiment import Experiment
from modelyard.evaluator.domain.pairing import Answers
from modelyard.evaluator.domain.scores import ExampleScore
from modelyard.evaluator.handlers.decisions import Deciding
from modelyard.formats.bundle import BundleCard, QuantizationCard, Source, TensorSpec

PARENT = "projects/default"
CLASSES = ("good", "bad")
MODEL_VERSION = f"{PARENT}/models/m/versions/V001"
NOW = datetime(2026, 1, 1, tzinfo=UTC)


def blob(name: str, namespace: str = "exporter") -> Blob:
    """A blob whose sha256 follows from the name."""
    sha256 = name.encode().hex()[:64].ljust(64, "0")
    return Blob(f"artifact://{namespace}/{sha256}", sha256, 10)


def suspect(number: int, label: str = "good") -> ExampleScore:
    """An example whose label is doubtful."""
    return ExampleScore(f"e{number:05d}", "train", label, "bad" if label == "good" else "good", 0.97, 3.5)


@dataclass
class FakeJobs:
    """Evaluations by name."""

    known: dict[str, Job] = field(default_factory=dict)

    def get(self, name: str) -> Job:
        if name not in self.known:
            raise NotFound("RESOURCE_NOT_FOUND", f"{name} does not exist.", name=name)
        return self.known[name]


@dataclass
class FakeResources:
    """Keeps what is created; the same request gives the same resource."""

    made: dict[str, Resource] = field(default_factory=dict)

    def create(self, name: str, collection: str, parent: str, document: Document, **request: str) -> Resource:
        self.made[name] = Resource(name, collection, parent, document, 1, NOW, NOW)
        return self.made[name]


@dataclass
class FakePredictions:
    """Answers by evaluation."""

    known: dict[str, Answers] = field(default_factory=dict)

    def test_answers(self, evaluation: str, predictions: Blob) -> Answers:
        return self.known[evaluation]


@dataclass
class FakeBundles:
    """Cards by sha256."""

    known: dict[str, BundleCard] = field(default_factory=dict)
    size: int = 1234

    def read(self, artifact: Blob) -> tuple[BundleCard, int]:
        return self.known[artifact.sha256], self.size


@dataclass
class FakeExperiments:
    """One experiment, or why there is none."""

    known: Experiment | str = field(
        default_factory=lambda: Experiment(
            MODEL_VERSION,
            f"{PARENT}/datasets/d/versions/V001",
            "ab" * 32,
            recipe={"hyperparameters": {"seed": "7"}},
            licence="Apache-2.0",
        )
    )

    def get(self, model_version: str) -> Experiment | str:
        return self.known


@dataclass
class FakePassports:
    """Remembers what it signed."""

    issued: list[tuple[str, str, Document]] = field(default_factory=list)

    def issue(self, export: str, artifact_sha256: str, content: Document) -> Blob:
        self.issued.append((export, artifact_sha256, content))
        return blob(f"passport{len(self.issued)}", "evaluator")


@dataclass
class GateWorld:
    """Everything a decision needs, faked; `add` makes an evaluation of an artifact that errs on the examples named."""

    jobs: FakeJobs = field(default_factory=FakeJobs)
    resources: FakeResources = field(default_factory=FakeResources)
    predictions: FakePredictions = field(default_factory=FakePredictions)
    bundles: FakeBundles = field(default_factory=FakeBundles)
    experiments: FakeExperiments = field(default_factory=FakeExperiments)
    passports: FakePassports = field(default_factory=FakePassports)

    @property
    def deciding(self) -> Deciding:
        """The ports."""
        jobs: Any = self.jobs
        resources: Any = self.resources
        return Deciding(jobs, resources, self.predictions, self.bundles, self.experiments, self.passports)

    def add(
        self,
        name: str,
        wrong: range | list[int],
        *,
        count: int = 400,
        precision: str = "fp32",
        method: str = "",
        digest: str = "dd" * 32,
        model_version: str = MODEL_VERSION,
        artifact: str = "",
        state: JobState = JobState.SUCCEEDED,
        usages: tuple[str, ...] = ("validation", "test"),
        suspects: int = 0,
        latency: Latency | None = None,
        origin: str = "trained",
    ) -> str:
        """The evaluation's name. Labels alternate, but for a third that is `good`, so that the majority is no good model."""
        evaluation = f"{PARENT}/evaluations/{name}"
        labels = (np.arange(count) % 3 == 0).astype(np.int64)
        right = np.ones(count, bool)
        right[list(wrong)] = False
        probabilities = np.full((count, 2), 0.1)
        probabilities[np.arange(count), np.where(right, labels, 1 - labels)] = 0.9
        scored = metrics.against_majority("test", labels, probabilities, CLASSES, np.array([2 / 3, 1 / 3]))
        result = EvaluationResult(
            (scored,),
            blob(f"p{name}", "evaluator"),
            digest,
            blob(artifact or name).sha256,
            label_suspects=tuple(suspect(number) for number in range(suspects)),
            worst_examples=tuple(suspect(number) for number in range(suspects, suspects + 100)),
        )
        spec = EvaluationSpec(
            f"{PARENT}/exports/{name}",
            blob(artifact or name),
            f"{PARENT}/datasets/d/versions/V001",
            blob("descriptor", "dataset"),
            digest,
            "image_classification",
            usages,
            latency,
        )
        self.jobs.known[evaluation] = _job(evaluation, state, to_document(spec), to_document(result))
        names = np.array(CLASSES, dtype=object)
        answers = np.where(right, labels, 1 - labels)
        self.predictions.known[evaluation] = Answers(
            evaluation, tuple(f"e{index:05d}" for index in range(count)), names[labels], names[answers]
        )
        self.bundles.known[blob(artifact or name).sha256] = BundleCard(
            task="image_classification",
            inputs=(TensorSpec("image", "UINT8", (-1, 8, 8, 3)),),
            outputs=(TensorSpec("probabilities", "FP32", (-1, 2)),),
            source=Source(model_version, f"{PARENT}/datasets/d/versions/V001", digest, "ee" * 32),
            precision=precision,
            quantization=QuantizationCard(method) if method else None,
            classes=CLASSES,
            origin=origin,
        )
        return evaluation


def _job(name: str, state: JobState, spec: Document, result: Document) -> Job:
    return Job(
        name=name,
        kind="Evaluation",
        parent=PARENT,
        service="evaluator",
        state=state,
        reason="COMPLETED",
        attempt=1,
        instruction=Instruction.CONTINUE,
        spec=spec,
        progress=None,
        saved=None,
        result=result if state is JobState.SUCCEEDED else None,
        error=None,
        sequence=1,
        labels={},
        create_time=NOW,
        start_time=NOW,
        end_time=NOW,
        heartbeat_time=None,
        running_seconds=0.0,
    )
