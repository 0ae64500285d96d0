"""Resource names. A full name (`projects/p/models/m/versions/V001`) and its short forms (`m/V001`) mean the same.

This module imports neither grpc nor protobuf.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from typing import Final

from modelyard.client.errors import InvalidArgument, Violation

LATEST: Final = "latest"


def new_request_id() -> str:
    """A fresh id that makes a create safe to repeat."""
    return str(uuid.uuid4())


@dataclass(frozen=True)
class Names:
    """Completes short names with a project."""

    project: str = "default"

    @property
    def parent(self) -> str:
        return f"projects/{self.project}"

    def dataset(self, value: str) -> str:
        return self._full("dataset", value, ("datasets",))

    def dataset_version(self, value: str) -> str:
        """`flowers/V002`; `flowers` alone is its newest version."""
        return self._full("dataset_version", value, ("datasets", "versions"), newest=True)

    def dataset_tag(self, value: str) -> str:
        return self._full("tag", value, ("datasets", "tags"))

    def dataset_use(self, value: str) -> str:
        return self._full("dataset_use", value, ("datasets", "versions", "uses"))

    def folds(self, value: str) -> str:
        return self._full("folds", value, ("datasets", "versions", "folds"))

    def dataset_import(self, value: str) -> str:
        return self._full("dataset_import", value, ("datasets", "imports"))

    def quality_report(self, value: str) -> str:
        return self._full("quality_report", value, ("datasets", "qualityReports"))

    def dataset_export(self, value: str) -> str:
        return self._full("dataset_export", value, ("datasets", "exports"))

    def label_schema(self, value: str) -> str:
        """`flowers/V002`; `flowers` alone is its newest label schema."""
        return self._full("label_schema", value, ("datasets", "labelSchemas"), newest=True)

    def annotation_round(self, value: str) -> str:
        return self._full("annotation_round", value, ("datasets", "annotationRounds"))

    def annotation_task(self, value: str) -> str:
        return self._full("task", value, ("datasets", "annotationRounds", "tasks"))

    def annotation_round_or_task(self, value: str) -> str:
        is_task = len(value.strip("/").split("/")) == 3 or "/tasks/" in value
        return self.annotation_task(value) if is_task else self.annotation_round(value)

    def training_job(self, value: str) -> str:
        return self._full("training_job", value, ("trainingJobs",))

    def recipe_preview(self, value: str) -> str:
        return self._full("recipe_preview", value, ("recipePreviews",))

    def advised_training(self, value: str) -> str:
        return self._full("advised_training", value, ("advisedTrainings",))

    def cross_validation(self, value: str) -> str:
        return self._full("cross_validation", value, ("crossValidations",))

    def model_selection(self, value: str) -> str:
        return self._full("model_selection", value, ("modelSelections",))

    def model(self, value: str) -> str:
        return self._full("model", value, ("models",))

    def model_version(self, value: str) -> str:
        """`flowers/V002`; `flowers` alone is its newest version."""
        return self._full("model_version", value, ("models", "versions"), newest=True)

    def evaluation(self, value: str) -> str:
        return self._full("evaluation", value, ("evaluations",))

    def gate_decision(self, value: str) -> str:
        return self._full("gate_decision", value, ("gateDecisions",))

    def export(self, value: str) -> str:
        return self._full("export", value, ("exports",))

    def latency_profile(self, value: str) -> str:
        return self._full("latency_profile", value, ("latencyProfiles",))

    def target(self, value: str) -> str:
        return self._full("target", value, ("targets",))

    def endpoint(self, value: str) -> str:
        return self._full("endpoint", value, ("endpoints",))

    def deployment(self, value: str) -> str:
        return self._full("deployment", value, ("endpoints", "deployments"))

    def device(self, value: str) -> str:
        return self._full("device", value, ("devices",))

    def enrolment_token(self, value: str) -> str:
        return self._full("enrolment_token", value, ("enrolmentTokens",))

    def rollout(self, value: str) -> str:
        return self._full("rollout", value, ("rollouts",))

    def pipeline_run(self, value: str) -> str:
        return self._full("pipeline_run", value, ("pipelineRuns",))

    def reevaluation(self, value: str) -> str:
        return self._full("reevaluation", value, ("reevaluations",))

    def _full(self, field: str, value: str, collections: tuple[str, ...], newest: bool = False) -> str:
        """The full name; InvalidArgument names the field when the value fits neither the full nor a short form."""
        parts = value.strip().strip("/").split("/")
        if parts[0] == "projects" and len(parts) == 2 + 2 * len(collections) and tuple(parts[2::2]) == collections and all(parts):
            return "/".join(parts)
        if newest and len(parts) == 1:
            parts.append(LATEST)
        if len(parts) == 2 * len(collections) and tuple(parts[::2]) == collections:
            parts = parts[1::2]
        if len(parts) != len(collections) or not all(parts):
            raise _misnamed(field, value, self.parent, collections)
        return "/".join([self.parent, *(word for pair in zip(collections, parts, strict=True) for word in pair)])


def last_part(name: str) -> str:
    """The last part of a resource name: its id."""
    return name.rpartition("/")[2]


def short(name: str) -> str:
    """The short form of a resource name: its ids without project and collections, `flowers/V002`."""
    parts = name.split("/")
    return "/".join(parts[3::2]) if parts[0] == "projects" and len(parts) > 3 else name


def parent_of(name: str) -> str:
    """The resource that holds it: of a version, its dataset or model."""
    return name.rsplit("/", 2)[0]


def _misnamed(field: str, value: str, parent: str, collections: tuple[str, ...]) -> InvalidArgument:
    ids = [f"{{{collection.rstrip('s')}}}" for collection in collections]
    full = "/".join([parent, *(word for pair in zip(collections, ids, strict=True) for word in pair)])
    message = f"{field} is {value!r}; give {'/'.join(ids)} or {full}"
    return InvalidArgument(
        message, reason="INVALID_NAME", values={"field": field, "value": value}, violations=(Violation(field, message),)
    )
