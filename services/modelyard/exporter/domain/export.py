"""What an export is asked to make, and what it makes."""

from __future__ import annotations

from collections.abc import Container
from dataclasses import dataclass, replace
from typing import Final

from modelyard.core.artifacts import Blob
from modelyard.core.errors import FailedPrecondition, InvalidArgument
from modelyard.exporter.domain.latency import Latency

TARGETS: Final = ("cpu", "cpu-1core")
FORMATS: Final = ("onnx",)
PRECISIONS: Final = ("fp32",)
MOST_CANDIDATES: Final = 32
UNSPECIFIED: Final = "unspecified"
SUCCEEDED: Final = "SUCCEEDED"


@dataclass(frozen=True)
class Parity:
    """Agreement of the exported bytes with the trained model on `examples` real examples."""

    examples: int
    max_abs_difference: float
    label_agreement: float
    tolerance: float


@dataclass(frozen=True)
class ModelVersionRef:
    """What the exporter needs to know of a model version."""

    name: str
    task: str
    model_file: Blob
    dataset_version: str


@dataclass(frozen=True)
class DatasetVersionRef:
    """What the exporter needs to know of a dataset version. `descriptor` is None until it succeeded."""

    name: str
    state: str
    task: str
    digest: str
    descriptor: Blob | None


@dataclass(frozen=True)
class ExportSpec:
    """The job's assignment."""

    model_version: str
    task: str
    model_file: Blob
    dataset_version: str
    dataset_digest: str
    descriptor: Blob
    format: str
    precision: str
    target: str


@dataclass(frozen=True)
class ExportResult:
    """What the job made."""

    artifact: Blob
    parity: Parity
    latency: Latency


@dataclass(frozen=True)
class Candidate:
    """A recipe whose untrained export is measured. Sizes in pixels; 0 for tables."""

    recipe_id: str
    task: str
    architecture: str
    input_height: int = 0
    input_width: int = 0
    input_channels: int = 0


@dataclass(frozen=True)
class ProfileSpec:
    """The assignment of a latency profile."""

    dataset_version: str
    descriptor: Blob
    candidates: tuple[Candidate, ...]
    target: str


@dataclass(frozen=True)
class Measured:
    """What one candidate takes; `latency` is None and `error_message` says why when it could not be measured."""

    recipe_id: str
    latency: Latency | None
    size_bytes: int
    error_message: str = ""


@dataclass(frozen=True)
class ProfileResult:
    """The measurements, in the order of the candidates."""

    measured: tuple[Measured, ...]


def check_target(target: str, field: str) -> str:
    """The target; empty means cpu. Raises InvalidArgument UNKNOWN_TARGET."""
    if (target or "cpu") not in TARGETS:
        message = f"{field} is {target!r:.80}; it must be one of {', '.join(TARGETS)}"
        raise InvalidArgument("UNKNOWN_TARGET", message, field=field, value=target[:80])
    return target or "cpu"


def check_candidates(candidates: tuple[Candidate, ...], task: str) -> tuple[Candidate, ...]:
    """The candidates, each with the dataset version's task.

    Raises InvalidArgument BAD_RECIPE_COUNT, RECIPE_WITHOUT_ARCHITECTURE, TASK_MISMATCH, INVALID_RECIPE, naming the field.
    """
    if not 1 <= len(candidates) <= MOST_CANDIDATES:
        message = f"latency_profile.recipes holds {len(candidates)} recipes; it must hold 1 to {MOST_CANDIDATES}"
        raise InvalidArgument("BAD_RECIPE_COUNT", message, field="latency_profile.recipes", value=len(candidates))
    return tuple(_checked(each, task, f"latency_profile.recipes[{number}]") for number, each in enumerate(candidates))


def _checked(candidate: Candidate, task: str, path: str) -> Candidate:
    if not candidate.architecture:
        message = f"{path}.architecture is empty; take recipes as TrainerService.SuggestRecipes fills them in"
        raise InvalidArgument("RECIPE_WITHOUT_ARCHITECTURE", message, field=f"{path}.architecture", value="")
    if candidate.task not in (task, UNSPECIFIED):
        message = f"{path}.task is {candidate.task}; the dataset version is for {task}"
        raise InvalidArgument("TASK_MISMATCH", message, field=f"{path}.task", value=candidate.task, expected=task)
    if task == "image_classification":
        for name, right in (("input_height", range(8, 1025)), ("input_width", range(8, 1025)), ("input_channels", (1, 3))):
            _check_size(getattr(candidate, name), right, f"{path}.{name}")
    return replace(candidate, task=task)


def _check_size(value: int, right: Container[int], field: str) -> None:
    if value not in right:
        allowed = "8 to 1024 pixels" if isinstance(right, range) else "1 (grey) or 3 (RGB)"
        raise InvalidArgument("INVALID_RECIPE", f"{field} is {value}; it must be {allowed}", field=field, value=value)


def ready_descriptor(version: DatasetVersionRef) -> Blob:
    """The descriptor of a published version. Raises FailedPrecondition DATASET_VERSION_NOT_READY."""
    if version.descriptor is None or version.state != SUCCEEDED:
        message = f"{version.name} is {version.state}; it must have SUCCEEDED"
        raise FailedPrecondition("DATASET_VERSION_NOT_READY", message, dataset_version=version.name, state=version.state)
    return version.descriptor
