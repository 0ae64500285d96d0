"""Handlers of the dataset service over ports in memory."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from modelyard.core.artifacts import Blob
from modelyard.core.documents import from_document, to_document
from modelyard.core.errors import AlreadyExists, FailedPrecondition, InvalidArgument, NotFound, PermissionDenied
from modelyard.core.jobs.job import Job, JobState
from modelyard.core.requests import Request
from modelyard.dataset.domain.dataset import Dataset
from modelyard.dataset.domain.records import (
    ExportResult,
    ExportSpec,
    ImportResult,
    ImportSpec,
    ImportSummary,
    LocalFolder,
    SplitPolicy,
    VersionResult,
    VersionSpec,
)
from modelyard.dataset.handlers import datasets, deletion, examples, exports, imports, quality_reports, versions
from modelyard.dataset.handlers.documents import export_result, read_dataset
from modelyard.dataset.handlers.versions import NewVersion
from modelyard.dataset.ports import Selection
from modelyard.formats import dataset as files
from tests.unit.dataset.fakes import FakeExamples, FakeFolders, FakeJobs, FakeResources, FakeSources, FakeUsers

SHA = "0" * 64
BLOB = Blob(f"artifact://dataset/{SHA}", SHA, 5)
DATASET = "projects/p/datasets/flowers"
COLUMNS = (files.Column("x", files.NUMERIC, files.FEATURE), files.Column("y", files.CATEGORICAL, files.TARGET))
CONTENT = files.DatasetDescriptor(
    files.TABULAR_CLASSIFICATION, files.TABLE, BLOB, "ab" * 32, ("a", "b"), COLUMNS, "y", table=BLOB
)
IMPORTED = ImportResult(ImportSummary(2, (), 0, ("a", "b"), (1, 1), COLUMNS, (), "ab" * 32, 0), CONTENT, "csv")


class World:
    """The service's ports and a dataset called flowers."""

    def __init__(self) -> None:
        self.jobs, self.resources, self.folders = FakeJobs(), FakeResources(), FakeFolders()
        datasets.create_dataset(self.resources, "projects/p", "flowers", Dataset(display_name="Flowers"), Request())

    @property
    def dataset(self) -> Dataset:
        return read_dataset(self.resources, DATASET)

    def start_import(self, request: str = "", **more: str) -> Job:
        spec = replace(ImportSpec(DATASET, BLOB), **more)  # type: ignore[arg-type]
        return imports.create_import(
            self.jobs, self.resources, FakeSources(), self.folders, DATASET, spec, Request(request, "CreateImport")
        )

    def fill(self) -> Job:
        job = self.jobs.end(self.start_import().name, JobState.SUCCEEDED, to_document(IMPORTED))
        imports.keep_import(self.resources, job)
        return job

    def start_version(self, version_id: str = "", request: str = "", **more: object) -> Job:
        new = NewVersion(DATASET, version_id, **more)  # type: ignore[arg-type]
        return versions.create_version(self.jobs, self.resources, new, Request(request, "CreateDatasetVersion"))

    def publish(self, version_id: str = "") -> Job:
        return self.finish(self.start_version(version_id))

    def finish(self, job: Job) -> Job:
        ended = self.jobs.end(job.name, JobState.SUCCEEDED, to_document(VersionResult(CONTENT, BLOB)))
        versions.keep_version(self.jobs, self.resources, ended)
        return ended

    def version_ids(self) -> list[str]:
        page = versions.list_versions(self.jobs, self.resources, DATASET, 0, "")
        return [job.name.rsplit("/", 1)[-1] for job in page.items]


@pytest.fixture
def world() -> World:
    return World()


def test_datasets_are_made_changed_and_deleted(world: World) -> None:
    before = datasets.get_dataset(world.resources, DATASET)
    changed = datasets.update_dataset(world.resources, DATASET, {"description": "of the garden"}, before.etag)
    assert from_document(changed.document, Dataset) == Dataset(display_name="Flowers", description="of the garden")
    deletion.delete_dataset(world.jobs, world.resources, FakeUsers(), DATASET, "")
    with pytest.raises(NotFound) as caught:
        datasets.get_dataset(world.resources, DATASET)
    assert caught.value.reason == "DATASET_NOT_FOUND"


@pytest.mark.parametrize("dataset_id", ["", "Flowers", "1st", "a b", "x" * 64, "ü"])
def test_wrong_ids_name_the_field(world: World, dataset_id: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        datasets.create_dataset(world.resources, "projects/p", dataset_id, Dataset(), Request())
    assert caught.value.violations[0].field == "dataset_id"


def test_long_words_are_refused(world: World) -> None:
    with pytest.raises(InvalidArgument, match="201 characters"):
        datasets.update_dataset(world.resources, DATASET, {"display_name": "x" * 201}, "")


def test_a_dataset_with_a_running_job_is_not_deleted(world: World) -> None:
    job = world.start_import()
    with pytest.raises(FailedPrecondition) as caught:
        deletion.delete_dataset(world.jobs, world.resources, FakeUsers(), DATASET, "")
    assert caught.value.reason == "JOB_RUNNING"
    world.jobs.cancel(job.name)
    deletion.delete_dataset(world.jobs, world.resources, FakeUsers(), DATASET, "")
    assert world.jobs.jobs == {}


def test_a_second_import_is_refused_until_the_first_has_ended(world: World) -> None:
    first = world.start_import()
    with pytest.raises(FailedPrecondition) as caught:
        world.start_import()
    assert caught.value.reason == "IMPORT_RUNNING"
    assert caught.value.values["name"] == first.name
    world.jobs.end(first.name, JobState.FAILED)
    assert world.start_import().name != first.name


def test_the_same_request_gives_the_same_import_while_it_runs(world: World) -> None:
    assert world.start_import("r1").name == world.start_import("r1").name


def test_an_import_that_went_well_is_the_present_content(world: World) -> None:
    job = world.fill()
    assert (world.dataset.current_import, world.dataset.task) == (job.name, files.TABULAR_CLASSIFICATION)
    imports.keep_import(world.resources, job)  # again, after a crash
    assert world.dataset.current_import == job.name


def test_the_source_is_what_the_store_says(world: World) -> None:
    lied = replace(BLOB, size_bytes=10**12)
    job = world.start_import(source=lied)  # type: ignore[arg-type]
    assert from_document(job.spec, ImportSpec).source.size_bytes == 5


def test_a_folder_stands_in_place_of_a_source(world: World) -> None:
    folder = LocalFolder("/home/anna/flowers", "boot", 1, 2)
    nothing = Blob("", "", 0)
    spec = from_document(world.start_import(source=nothing, local_folder=folder).spec, ImportSpec)  # type: ignore[arg-type]
    assert (spec.local_folder, spec.source) == (folder, nothing)
    for given, more, reason in (
        (BLOB, folder, "SEVERAL_SOURCES"),
        (nothing, replace(folder, path="/secret/flowers"), "NOT_THE_OWNER"),
    ):
        with pytest.raises((InvalidArgument, PermissionDenied)) as caught:
            world.start_import(source=given, local_folder=more)  # type: ignore[arg-type]
        assert caught.value.reason == reason


@pytest.mark.parametrize(
    ("source", "error", "reason"),
    [
        (Blob("", "", 0), InvalidArgument, "SOURCE_REQUIRED"),
        (Blob("file:///etc/passwd", "", 0), InvalidArgument, "BAD_ARTIFACT_URI"),
        (Blob(BLOB.uri, "1" * 64, 0), InvalidArgument, "SHA256_MISMATCH"),
        (Blob("artifact://dataset/" + "f" * 64, "", 0), NotFound, "ARTIFACT_NOT_FOUND"),
    ],
)
def test_wrong_sources(world: World, source: Blob, error: type[Exception], reason: str) -> None:
    with pytest.raises(error) as caught:
        world.start_import(source=source)  # type: ignore[arg-type]
    assert caught.value.reason == reason  # type: ignore[attr-defined]
    assert world.dataset.claimed_import == ""


def test_file_names_lose_their_folders_and_must_be_names(world: World) -> None:
    job = world.start_import(file_name="C:\\data\\../my file.csv")
    assert from_document(job.spec, ImportSpec).file_name == "my file.csv"
    for wrong in ("a\nb.csv", "x" * 300):
        with pytest.raises(InvalidArgument):
            world.start_import(file_name=wrong)


def test_reports_and_versions_need_content(world: World) -> None:
    with pytest.raises(FailedPrecondition) as of_report:
        quality_reports.create_quality_report(world.jobs, world.resources, DATASET, Request())
    with pytest.raises(FailedPrecondition) as of_version:
        world.start_version()
    assert of_report.value.reason == of_version.value.reason == "NO_CONTENT"


def test_a_report_is_of_the_present_import(world: World) -> None:
    imported = world.fill()
    job = quality_reports.create_quality_report(world.jobs, world.resources, DATASET, Request())
    assert job.spec["import_name"] == imported.name


def test_a_comparison_names_its_two_versions(world: World) -> None:
    world.fill()
    first, second = world.publish(), world.publish()

    def start(version: str, base: str) -> Any:
        return quality_reports.create_quality_report(world.jobs, world.resources, DATASET, Request(), version=version, base=base)

    job = start(second.name, first.name)
    assert (job.spec["version"], job.spec["base"]) == (second.name, first.name)
    assert job.spec["base_descriptor"] is not None
    assert start("", f"{DATASET}/versions/latest").spec["base"] == second.name
    with pytest.raises(NotFound):
        start(second.name, f"{DATASET}/versions/V099")


def test_versions_are_numbered(world: World) -> None:
    world.fill()
    assert [world.publish().name.rsplit("/", 1)[-1] for _ in range(3)] == ["V001", "V002", "V003"]
    assert world.dataset.latest_version == f"{DATASET}/versions/V003"


@pytest.mark.parametrize("state", [JobState.FAILED, JobState.CANCELLED])
def test_a_version_that_came_to_nothing_gives_its_number_back(world: World, state: JobState) -> None:
    world.fill()
    failed = world.start_version()
    world.jobs.end(failed.name, state)
    assert versions.get_version(world.jobs, world.resources, failed.name).state is state
    assert world.publish().name == failed.name
    assert world.version_ids() == ["V001"]


def test_the_number_of_a_deleted_version_is_not_given_again(world: World) -> None:
    world.fill()
    world.publish()
    second = world.publish()
    deletion.delete_version(world.jobs, world.resources, FakeUsers(), second.name)
    assert world.dataset.latest_version.endswith("V001")
    assert world.publish().name.endswith("V003")
    with pytest.raises(InvalidArgument):
        world.start_version("V002")


def test_named_versions(world: World) -> None:
    world.fill()
    assert world.publish("spring.2").name.endswith("/spring.2")
    assert world.publish().name.endswith("/V001")
    with pytest.raises(AlreadyExists):
        world.start_version("spring.2")
    with pytest.raises(InvalidArgument) as caught:
        world.start_version("V007")
    assert caught.value.reason == "VERSION_NOT_NEXT"
    for wrong in ("latest", "2nd", "a/b"):
        with pytest.raises(InvalidArgument):
            world.start_version(wrong)


def test_two_publications_at_once_have_two_numbers(world: World) -> None:
    world.fill()
    first, second = world.start_version(), world.start_version()
    world.finish(second)
    world.finish(first)
    assert world.dataset.latest_version == second.name != first.name


def test_the_same_request_gives_the_same_version_even_when_it_failed(world: World) -> None:
    world.fill()
    job = world.start_version(request="r1")
    world.jobs.end(job.name, JobState.FAILED)
    again = world.start_version(request="r1")
    assert (again.name, again.state) == (job.name, JobState.FAILED)


def test_latest(world: World) -> None:
    world.fill()
    with pytest.raises(NotFound) as caught:
        versions.get_version(world.jobs, world.resources, f"{DATASET}/versions/latest")
    assert caught.value.reason == "NO_DATASET_VERSION"
    job = world.publish()
    assert versions.get_version(world.jobs, world.resources, f"{DATASET}/versions/latest").name == job.name


@pytest.mark.parametrize(
    ("more", "reason", "field"),
    [
        ({"split": SplitPolicy("1.5")}, "BAD_TRAIN_RATIO", "split.train_ratio"),
        ({"split": SplitPolicy("0.1234567")}, "BAD_TRAIN_RATIO", "split.train_ratio"),
        ({"split": SplitPolicy(seed=2**60)}, "BAD_SEED", "split.seed"),
        ({"excluded_columns": ("nothing",)}, "UNKNOWN_COLUMN", "dataset_version.excluded_columns[0]"),
        ({"excluded_columns": ("x", "y")}, "TARGET_EXCLUDED", "dataset_version.excluded_columns[1]"),
    ],
)
def test_wrong_versions_name_the_field_and_leave_nothing(world: World, more: dict[str, object], reason: str, field: str) -> None:
    world.fill()
    with pytest.raises(InvalidArgument) as caught:
        world.start_version(**more)  # type: ignore[arg-type]
    assert (caught.value.reason, caught.value.violations[0].field) == (reason, field)
    assert world.version_ids() == []


def test_a_version_carries_what_it_stands_on(world: World) -> None:
    imported = world.fill()
    spec = from_document(world.start_version().spec, VersionSpec)
    assert (spec.import_name, spec.imported.content) == (imported.name, CONTENT)


def test_examples_come_in_pages(world: World) -> None:
    world.fill()
    name = world.publish().name
    seen, token = [], ""
    for _ in range(4):
        rows, token, total = examples.list_examples(world.jobs, world.resources, FakeExamples(), name, Selection(), 3, token)
        assert total == 10
        seen += [row.example_id for row in rows]
    assert len(set(seen)) == 10
    assert token == ""


def test_page_tokens_of_another_list_are_refused(world: World) -> None:
    world.fill()
    name = world.publish().name
    _, token, _ = examples.list_examples(world.jobs, world.resources, FakeExamples(), name, Selection(), 3, "")
    for usage, wrong in (("train", token), ("", "garbage"), ("", "WzFd")):
        with pytest.raises(InvalidArgument) as caught:
            examples.list_examples(world.jobs, world.resources, FakeExamples(), name, Selection(usage), 3, wrong)
        assert caught.value.reason == "BAD_PAGE_TOKEN"


def test_examples_of_a_version_that_is_not_ready(world: World) -> None:
    world.fill()
    with pytest.raises(FailedPrecondition) as caught:
        examples.list_examples(world.jobs, world.resources, FakeExamples(), world.start_version().name, Selection(), 3, "")
    assert caught.value.reason == "DATASET_VERSION_NOT_READY"


def test_an_export_is_of_the_version_that_was_named(world: World) -> None:
    world.fill()
    world.publish()
    job = exports.create_export(world.jobs, world.resources, DATASET, f"{DATASET}/versions/latest", "csv", False, Request())
    spec = from_document(job.spec, ExportSpec)
    assert (spec.version, spec.format, spec.lossy) == (f"{DATASET}/versions/V001", "csv", False)
    assert exports.get_export(world.jobs, job.name) == job
    assert [each.name for each in exports.list_exports(world.jobs, world.resources, DATASET, 0, "").items] == [job.name]
    assert export_result(job) is None
    done = world.jobs.end(job.name, JobState.SUCCEEDED, to_document(ExportResult(BLOB, "a.zip", 2, ("note",))))
    assert export_result(done) == ExportResult(BLOB, "a.zip", 2, ("note",))


@pytest.mark.parametrize(
    ("version", "format_", "reason"),
    [
        (f"{DATASET}/versions/V001", "", "FORMAT_REQUIRED"),
        ("projects/p/datasets/other/versions/V001", "csv", "DATASET_VERSION_NOT_FOUND"),
        (f"{DATASET}/versions/V009", "csv", "DATASET_VERSION_NOT_FOUND"),
        (f"{DATASET}/versions/V002", "csv", "VERSION_NOT_READY"),
    ],
)
def test_exports_that_cannot_be(world: World, version: str, format_: str, reason: str) -> None:
    world.fill()
    world.publish()
    world.start_version()
    with pytest.raises((InvalidArgument, NotFound, FailedPrecondition)) as caught:
        exports.create_export(world.jobs, world.resources, DATASET, version, format_, False, Request())
    assert caught.value.reason == reason
    with pytest.raises(NotFound):
        exports.get_export(world.jobs, f"{DATASET}/exports/none")
