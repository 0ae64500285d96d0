"""What the evaluator needs of the outside."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from modelyard.core import ports
from modelyard.core.artifacts import Blob
from modelyard.core.jobs.job import Document
from modelyard.evaluator.domain.evaluation import DatasetVersionRef, ExportRef
from modelyard.evaluator.domain.experiment import Experiment
from modelyard.evaluator.domain.pairing import Answers
from modelyard.evaluator.domain.scores import ExampleScore
from modelyard.formats.bundle import BundleCard

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class Exports(Protocol):
    """The exporter service."""

    def get(self, name: str) -> ExportRef:
        """Raises NotFound."""


class DatasetVersions(Protocol):
    """The dataset service."""

    def get(self, name: str) -> DatasetVersionRef:
        """Raises NotFound."""

    def use(self, version: str, evaluation: str, usages: tuple[str, ...]) -> Blob:
        """Records that an evaluation reads these usages of a version (a look at a test set counts); its descriptor. Raises
        NotFound."""


Jobs = ports.WatchedJobs
Resources = ports.Resources


@dataclass(frozen=True)
class Chances:
    """Labels (text [N]) and the probability of each class, float32 [N, K], in the order of `classes`."""

    labels: NDArray[np.object_]
    chances: NDArray[np.float32]
    classes: tuple[str, ...]


@dataclass(frozen=True)
class Numbers:
    """Ids of the examples of a regression, their labels and predictions, float64 [N]."""

    ids: tuple[str, ...]
    labels: NDArray[np.float64]
    predictions: NDArray[np.float64]


class Predictions(Protocol):
    """What evaluations keep of single examples."""

    def test_answers(self, evaluation: str, predictions: Blob) -> Answers:
        """The answers on the test usage. Raises NotFound, DataLoss, FailedPrecondition NO_PREDICTIONS."""

    def page(
        self,
        evaluation: str,
        predictions: Blob,
        chosen: tuple[str, str, str],
        start: int,
        count: int,
        ids: Collection[str] = (),
    ) -> tuple[Sequence[ExampleScore], int]:
        """Examples of a usage, label and prediction ("": any), those the model is surest of first, and how many there are.

        ids: only these, with the boxes that were found in them.
        """

    def numbers(self, evaluation: str, predictions: Blob, usage: str) -> Numbers | None:
        """Labels and predictions of a regression on a usage; None where they are no numbers."""

    def chances(self, evaluation: str, predictions: Blob, usage: str) -> Chances | None:
        """The probabilities on a usage; None where the task has none."""


class Bundles(Protocol):
    """The artifacts themselves."""

    def read(self, artifact: Blob) -> tuple[BundleCard, int]:
        """The card of a bundle, and the size of its model in bytes. Raises NotFound, DataLoss, InvalidArgument INVALID_BUNDLE."""


class Experiments(Protocol):
    """The trainer service, and what each model version says of its making."""

    def get(self, model_version: str) -> Experiment | str:
        """How it was trained; or, in a sentence, why that is not known. Raises Unavailable."""


class Passports(Protocol):
    """Who signs and keeps passports."""

    def issue(self, export: str, artifact_sha256: str, content: Document) -> Blob:
        """Signs what is known of an artifact, and stores it. Raises InvalidArgument BAD_PASSPORT_KEY, ResourceExhausted."""
