"""What the trainer reads of a dataset version."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from modelyard.client.errors import FailedPrecondition as ClientFailedPrecondition
from modelyard.client.errors import Internal, ModelyardClientError, Violation
from modelyard.client.errors import NotFound as ClientNotFound
from modelyard.core.artifacts import Blob
from modelyard.core.errors import FailedPrecondition, ModelyardError, NotFound, Unavailable
from modelyard.core.jobs.convert import blob_message
from modelyard.dataset.v1 import dataset_pb2
from modelyard.recipes.catalogue import DatasetFacts
from modelyard.trainer.adapters.datasets_client import ClientDatasets, read_facts
from modelyard.type.v1 import job_pb2
from tests.support.datasets import file_store, publish_pictures, publish_table

NAME = "projects/p/datasets/d/versions/V001"


def pictures(count: int = 20, channels: int = 1) -> Any:
    generator = np.random.default_rng(0)
    return generator.integers(0, 255, (count, 30, 20, channels), dtype=np.uint8)


def published(folder: Path, some: Any) -> Blob:
    return publish_pictures(file_store(folder), some, ["a", "b"] * (len(some) // 2))


def test_pictures_are_known_by_size_and_number(tmp_path: Path) -> None:
    facts = read_facts(file_store(tmp_path), published(tmp_path, pictures()))
    assert facts == DatasetFacts("image_classification", 16, 2, height=30, width=20, channels=1)


def test_one_coloured_picture_makes_the_set_coloured(tmp_path: Path) -> None:
    grey = np.repeat(pictures(), 3, axis=3)
    assert read_facts(file_store(tmp_path), published(tmp_path, grey)).channels == 1
    grey[0, :, :, 0] //= 2
    assert read_facts(file_store(tmp_path), published(tmp_path, grey)).channels == 3


def test_rows_have_a_number_only(tmp_path: Path) -> None:
    store = file_store(tmp_path)
    columns: dict[str, Any] = {"x": [float(number) for number in range(20)], "y": [1.5 * number for number in range(20)]}
    descriptor = publish_table(store, columns, "y", task="tabular_regression")
    facts = read_facts(store, descriptor)
    assert replace(facts, columns=()) == DatasetFacts("tabular_regression", 16, target="y", rows=20)
    assert [(column.name, column.role) for column in facts.columns] == [("x", "feature"), ("y", "target")]


class FakeClient:
    """modelyard.client.Client, as far as the adapter uses it."""

    def __init__(self, answer: dataset_pb2.DatasetVersion | ModelyardClientError) -> None:
        self.datasets = self
        self.closed = False
        self._answer = answer

    def get_dataset_version(self, name: str) -> dataset_pb2.DatasetVersion:
        if isinstance(self._answer, ModelyardClientError):
            raise self._answer
        return self._answer

    def close(self) -> None:
        self.closed = True


def version(state: job_pb2.JobState.ValueType, descriptor: Blob) -> dataset_pb2.DatasetVersion:
    return dataset_pb2.DatasetVersion(
        name=NAME,
        digest="ab" * 32,
        classes=["a", "b"],
        descriptor_blob=blob_message(descriptor),
        status=job_pb2.JobStatus(state=state),
    )


def test_a_version_that_succeeded_is_given_with_its_facts(tmp_path: Path) -> None:
    descriptor = published(tmp_path, pictures())
    client = FakeClient(version(job_pb2.JOB_STATE_SUCCEEDED, descriptor))
    found = ClientDatasets(lambda: client, file_store(tmp_path)).get_version(NAME)  # type: ignore[arg-type, return-value]
    assert (found.name, found.classes, found.descriptor, found.facts.height) == (NAME, ("a", "b"), descriptor, 30)
    assert client.closed


def test_a_version_that_is_not_ready_is_refused_with_its_state(tmp_path: Path) -> None:
    client = FakeClient(version(job_pb2.JOB_STATE_RUNNING, Blob("", "", 0)))
    with pytest.raises(FailedPrecondition) as caught:
        ClientDatasets(lambda: client, file_store(tmp_path)).get_version(NAME)  # type: ignore[arg-type, return-value]
    assert (caught.value.reason, caught.value.values["state"]) == ("DATASET_VERSION_NOT_READY", "RUNNING")


@pytest.mark.parametrize(
    ("answered", "raised"),
    [(ClientNotFound, NotFound), (ClientFailedPrecondition, FailedPrecondition), (Internal, Unavailable)],
)
def test_what_the_dataset_service_refuses_is_refused_alike(
    tmp_path: Path, answered: type[ModelyardClientError], raised: type[ModelyardError]
) -> None:
    error = answered("no", reason="WHY", values={"a": "b"}, violations=(Violation("name", "wrong"),))
    client = FakeClient(error)
    with pytest.raises(raised) as caught:
        ClientDatasets(lambda: client, file_store(tmp_path)).get_version(NAME)  # type: ignore[arg-type, return-value]
    assert (caught.value.reason, caught.value.message, caught.value.values) == ("WHY", "no", {"a": "b"})
    assert [each.field for each in caught.value.violations] == ["dataset_version"]
