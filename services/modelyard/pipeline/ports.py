"""What the pipeline needs of the other services. Every start takes a request id: the same id starts the same thing, once.

All raise the domain's errors (core.errors); Unavailable where the service is away.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from modelyard.core import ports
from modelyard.core.errors import ModelyardError
from modelyard.core.jobs.job import Document
from modelyard.pipeline.domain.choice import Candidate
from modelyard.pipeline.domain.reevaluation import Answers
from modelyard.pipeline.domain.spec import ClassFloor, Floor, Limits, Source, Split, TargetFacts


@dataclass(frozen=True)
class JobView:
    """Another service's job as it is now. `state` is QUEUED, RUNNING, SUCCEEDED, FAILED or CANCELLED.

    `found` is what it found, in the form of its contract (JSON); `point` the last point of a training's curve.
    """

    name: str
    state: str
    reason: str = ""
    stage: str = ""
    fraction: float = 0.0
    eta_s: float | None = None
    error: ModelyardError | None = None
    found: Document = field(default_factory=dict)
    point: Document | None = None

    @property
    def terminal(self) -> bool:
        """Whether it has ended."""
        return self.state in ("SUCCEEDED", "FAILED", "CANCELLED")


class JobPort(Protocol):
    """Following any job of a service."""

    def job(self, name: str) -> JobView:
        """The job as it is now."""

    def cancel(self, name: str) -> None:
        """Cancels it; fine when it has ended."""


@dataclass(frozen=True)
class VersionFound:
    """A dataset version that is there: its name ("latest" resolved), task ("tabular_regression") and state."""

    name: str
    task: str
    state: str


class Datasets(JobPort, Protocol):
    """The dataset service."""

    def check(self, dataset: str) -> None:
        """Raises NotFound when there is no such dataset."""

    def ensure(self, dataset: str, request_id: str) -> bool:
        """Makes the dataset unless it is there. True when this very request (or its first sending) made it."""

    def discard_if_empty(self, dataset: str) -> None:
        """Deletes the dataset when it holds nothing."""

    def start_import(self, source: Source, request_id: str) -> str:
        """Name of the import."""

    def start_report(self, dataset: str, request_id: str) -> str:
        """Name of the quality report."""

    def start_version(self, dataset: str, version_id: str, split: Split, excluded: Sequence[str], request_id: str) -> str:
        """Name of the dataset version."""

    def version(self, name: str) -> VersionFound:
        """The version. Raises NotFound."""


class Training(JobPort, Protocol):
    """The trainer service. Recipes are JSON in the form of their contract."""

    def suggest(self, dataset_version: str, *, sizes: bool = False) -> list[Document]:
        """The recipes that fit the dataset version, the most accurate first; sizes: some at several input sizes."""

    def version(self, model_version: str) -> tuple[str, Document]:
        """Name of a model version ("latest" resolved), and the recipe it was trained with. Raises NotFound."""

    def start(
        self,
        dataset_version: str,
        model: str,
        recipe: Document,
        max_s: float | None,
        warm_start: str,
        request_id: str,
        instance_flavor: str = "",
    ) -> str:
        """Name of the training job."""

    def start_selection(
        self,
        dataset_version: str,
        model: str,
        recipes: Sequence[Document],
        max_s: float,
        request_id: str,
        instance_flavor: str = "",
    ) -> str:
        """Name of the model selection in which these compete for the time; `job` and `cancel` take it, too. What it found so far
        is known while it runs."""

    def check_flavor(self, instance_flavor: str) -> None:
        """Raises InvalidArgument UNKNOWN_INSTANCE_FLAVOR unless trainings can run on it."""


@dataclass(frozen=True)
class ExportWish:
    """What to make of a model version; empty: the target's. aware: by quantization-aware training."""

    model_version: str
    target: str
    format: str = ""
    precision: str = ""
    aware: bool = False
    limits: Limits | None = None
    max_training_s: float | None = None
    instance_flavor: str = ""


class Exports(JobPort, Protocol):
    """The exporter service."""

    def target(self, target: str) -> TargetFacts:
        """What is known of a target. Raises NotFound, InvalidArgument."""

    def task(self, export: str) -> str:
        """The task of an export ("tabular_regression"). Raises NotFound."""

    def start_profile(self, dataset_version: str, recipes: Sequence[Document], target: str, request_id: str) -> str:
        """Name of the latency profile."""

    def candidates(self, profile: JobView) -> list[Candidate]:
        """The measurements of a profile that succeeded."""

    def start_export(self, wish: ExportWish, request_id: str) -> str:
        """Name of the export."""


@dataclass(frozen=True)
class Question:
    """What the gate is asked about an evaluation.

    parent, incumbent: evaluations on the same dataset version, of the float model and of the version that serves; empty: none.
    max_ms, max_size_bytes: 0 is no limit. quantized, aware: how the artifact was made.
    """

    evaluation: str
    floors: tuple[Floor, ...] = ()
    class_floors: tuple[ClassFloor, ...] = ()
    latency: Document | None = None
    max_ms: float = 0.0
    max_loss: float = 0.0
    max_size_bytes: int = 0
    model_size_bytes: int = 0
    parent: str = ""
    incumbent: str = ""
    quantized: bool = False
    aware: bool = False


@dataclass(frozen=True)
class Decided:
    """What the gate said: the verdict ("DEPLOY"), its reasons, and the whole decision in the form of its contract."""

    name: str
    verdict: str
    reasons: tuple[str, ...]
    document: Document


class Evaluations(JobPort, Protocol):
    """The evaluator service."""

    def start(self, export: str, dataset_version: str, request_id: str) -> str:
        """Name of the evaluation."""

    def decide(self, question: Question, request_id: str) -> Decided:
        """The gate's decision about an evaluation."""


class Endpoints(Protocol):
    """The serving service."""

    def ensure(self, endpoint: str, request_id: str) -> bool:
        """Makes the endpoint unless it is there. True when this very request (or its first sending) made it."""

    def discard_if_empty(self, endpoint: str) -> None:
        """Deletes the endpoint when it serves nothing."""

    def serving(self, endpoint: str) -> str:
        """The export that answers there when the caller names no version; empty where none does, or there is no endpoint."""

    def deploy(self, endpoint: str, export: str, decision: str, request_id: str) -> str:
        """Serves the export; gives the deployment's name once it answers."""


@dataclass(frozen=True)
class Services:
    """All of them, for one project."""

    datasets: Datasets
    training: Training
    exports: Exports
    evaluations: Evaluations
    endpoints: Endpoints


ServicesOf = Callable[[str], Services]
"""The services, for a project's id."""


Jobs = ports.WatchedJobs


@dataclass(frozen=True)
class Champion:
    """What an endpoint answers most callers with: the export, and the evaluation that its gate decided by."""

    export: str
    evaluation: str


@dataclass(frozen=True)
class EvaluationFacts:
    """What an evaluation was about: the dataset version, and whether its task is one of classes."""

    dataset_version: str
    classification: bool


class Watching(Protocol):
    """What re-evaluation needs of the other services."""

    def check(self, endpoint: str, dataset: str, dataset_version: str) -> None:
        """Raises NotFound for what is not there; empty names are passed over."""

    def champion(self, endpoint: str) -> Champion:
        """Raises NotFound, FailedPrecondition NO_CHAMPION where nothing answers there."""

    def newest_version(self, dataset: str) -> str:
        """Name of the newest version. Raises NotFound where there is none."""

    def facts(self, evaluation: str) -> EvaluationFacts:
        """Raises NotFound."""

    def start(self, export: str, dataset_version: str, usage: str, request_id: str) -> str:
        """Name of the evaluation."""

    def answers(self, evaluation: str, usage: str) -> Answers:
        """The answers to single examples of a usage, and which examples were scored at all."""


WatchingOf = Callable[[str], Watching]
"""The same for a project's id."""
