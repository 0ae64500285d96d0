"""Tags, notes, uses and deletion, over ports in memory."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from datetime import timedelta

import pytest

from modelyard.core.artifacts import Blob
from modelyard.core.documents import to_document
from modelyard.core.errors import Aborted, AlreadyExists, FailedPrecondition, InvalidArgument, NotFound
from modelyard.core.jobs.job import JobState
from modelyard.dataset.domain.records import FREEZE_TEST, FrozenTest, VersionResult
from modelyard.dataset.handlers import deletion, tags, uses, version_facts, versions
from modelyard.dataset.ports import Use
from modelyard.formats.dataset import DatasetDescriptor
from tests.unit.dataset.fakes import FakeExamples
from tests.unit.dataset.test_dataset_handlers import BLOB, CONTENT, DATASET, World

TAG = f"{DATASET}/tags/golden"
JOB = "projects/p/trainingJobs/j1"
EVALUATION = "projects/p/evaluations/e1"


class Users:
    """The services that use versions: who runs, and which models there are."""

    def __init__(self) -> None:
        self.running: set[str] = set()
        self.models: dict[str, str] = {}

    def standing(self, use: Use) -> str:
        return f"{use.user} runs on it" if use.user in self.running else ""

    def models_of(self, versions: Collection[str]) -> Sequence[str]:
        return [model for model, version in self.models.items() if version in versions]


class Held(FakeExamples):
    """Examples of which some are of a frozen test set."""

    def __init__(self, held: int = 0) -> None:
        self.held = held

    def count_held(self, descriptor: DatasetDescriptor, contents: Blob) -> int:
        return self.held


@pytest.fixture
def world() -> World:
    world = World()
    world.fill()
    world.publish()
    world.publish()
    return world


def version(world: World, name: str) -> str:
    return versions.get_version(world.jobs, world.resources, f"{DATASET}/versions/{name}").name


def move(world: World, to: str, etag: str = "", tag: str = TAG) -> str:
    moved = tags.update_tag(world.jobs, world.resources, tag, f"{DATASET}/versions/{to}", etag, allow_missing=not etag)
    return moved.etag


def test_a_tag_stands_for_its_version_and_moves(world: World) -> None:
    etag = move(world, "V001")
    assert version(world, "golden").endswith("/V001")
    assert version_facts.facts_of(world.resources, world.jobs.get(f"{DATASET}/versions/V001")).tags == ("golden",)
    later = move(world, "latest", etag)
    assert version(world, "golden").endswith("/V002")
    with pytest.raises(Aborted):
        move(world, "V001", etag)
    assert later != etag
    tags.delete_tag(world.resources, TAG, later)
    with pytest.raises(NotFound):
        version(world, "golden")


@pytest.mark.parametrize("word", ["V001", "v2", "V1", "latest", "Latest", "1st", "a b", "x" * 64])
def test_a_tag_never_looks_like_a_number(world: World, word: str) -> None:
    with pytest.raises(InvalidArgument):
        move(world, "V001", tag=f"{DATASET}/tags/{word}")


def test_tags_and_names_of_versions_do_not_meet(world: World) -> None:
    world.publish("spring")
    with pytest.raises(AlreadyExists) as caught:
        move(world, "V001", tag=f"{DATASET}/tags/spring")
    assert caught.value.reason == "VERSION_NAMED_SO"
    move(world, "V001")
    with pytest.raises(AlreadyExists, match="is a tag"):
        world.start_version("golden")
    with pytest.raises(NotFound):
        tags.update_tag(world.jobs, world.resources, f"{DATASET}/tags/new", f"{DATASET}/versions/V001", "", allow_missing=False)
    with pytest.raises(InvalidArgument, match="a version of"):
        tags.update_tag(world.jobs, world.resources, TAG, "projects/p/datasets/x/versions/V001", "", allow_missing=True)


def test_notes_change_and_the_version_does_not(world: World) -> None:
    job = world.jobs.get(f"{DATASET}/versions/V001")
    before = version_facts.facts_of(world.resources, job)
    described = versions.describe_version(world.jobs, world.resources, job.name, "seen by the gardener", before.etag)
    after = version_facts.facts_of(world.resources, job)
    assert (described, after.description) == (job, "seen by the gardener")
    with pytest.raises(Aborted):
        versions.describe_version(world.jobs, world.resources, job.name, "too late", before.etag)
    with pytest.raises(InvalidArgument, match=r"dataset_version\.description"):
        versions.describe_version(world.jobs, world.resources, job.name, "x" * 10_001, "")
    noted = world.start_version(description="from the start")
    assert version_facts.facts_of(world.resources, noted).description == "from the start"


def test_a_version_is_held_while_something_stands_on_it(world: World) -> None:
    users, name = Users(), f"{DATASET}/versions/V001"
    users.models["projects/p/models/m/versions/V001"] = name
    with pytest.raises(FailedPrecondition, match="models/m/versions/V001 was trained on it") as caught:
        deletion.delete_version(world.jobs, world.resources, users, name)
    assert caught.value.reason == "IN_USE"
    with pytest.raises(FailedPrecondition, match="models/m/versions/V001"):
        deletion.delete_dataset(world.jobs, world.resources, users, DATASET, "")
    users.models.clear()
    uses.create_use(world.jobs, world.resources, Held(), name, Use(JOB, "", model="projects/p/models/m"))
    users.running.add(JOB)
    with pytest.raises(FailedPrecondition, match="trainingJobs/j1 runs on it"):
        deletion.delete_version(world.jobs, world.resources, users, name)
    users.running.clear()  # it ended without a model
    deletion.delete_version(world.jobs, world.resources, users, name)
    assert world.version_ids() == ["V002"]
    assert not [each for each in world.resources.found if each.startswith(name)]


def test_a_use_that_was_just_recorded_stands(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    name = f"{DATASET}/versions/V001"
    made, _ = uses.create_use(world.jobs, world.resources, Held(), name, Use(JOB, ""))
    monkeypatch.setattr(uses, "now", lambda: made.create_time + timedelta(seconds=30))
    with pytest.raises(FailedPrecondition, match="about to begin"):
        deletion.delete_version(world.jobs, world.resources, Users(), name)
    monkeypatch.setattr(uses, "now", lambda: made.create_time + timedelta(seconds=90))
    deletion.delete_version(world.jobs, world.resources, Users(), name)


def test_a_tagged_version_is_not_deleted(world: World) -> None:
    move(world, "V001")
    with pytest.raises(FailedPrecondition, match="golden") as caught:
        deletion.delete_version(world.jobs, world.resources, Users(), f"{DATASET}/versions/V001")
    assert caught.value.reason == "TAGGED"
    deletion.delete_version(world.jobs, world.resources, Users(), f"{DATASET}/versions/V002")
    deletion.delete_dataset(world.jobs, world.resources, Users(), DATASET, "")
    assert not world.resources.found


def test_looks_at_the_test_are_counted_once_each(world: World) -> None:
    name = f"{DATASET}/versions/V001"
    for user, usages in ((EVALUATION, ()), (EVALUATION, ()), (f"{EVALUATION}2", ("validation",)), (f"{EVALUATION}3", ("test",))):
        uses.create_use(world.jobs, world.resources, Held(), name, Use(user, "", usages))
    uses.create_use(world.jobs, world.resources, Held(), name, Use(JOB, ""))
    assert version_facts.facts_of(world.resources, world.jobs.get(name)).evaluations == 2
    _, page = uses.list_uses(world.jobs, world.resources, name, 0, "")
    assert len(page.items) == 4


@pytest.mark.parametrize("user", ["projects/q/trainingJobs/j1", "projects/p/models/m", "", "projects/p/trainingJobs/j1/x"])
def test_only_jobs_and_evaluations_of_the_project_use_versions(world: World, user: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        uses.create_use(world.jobs, world.resources, Held(), f"{DATASET}/versions/V001", Use(user, ""))
    assert caught.value.reason == "BAD_USER"


def freeze(world: World, name: str = "V003") -> FrozenTest:
    job = world.start_version(test_policy=FREEZE_TEST)
    frozen = FrozenTest(job.name, 5, "ef" * 32, BLOB)
    training = replace(BLOB, uri=BLOB.uri[:-1] + "1")
    result = VersionResult(CONTENT, BLOB, training=CONTENT, training_blob=training, frozen=frozen)
    versions.keep_version(world.jobs, world.resources, world.jobs.end(job.name, JobState.SUCCEEDED, to_document(result)))
    assert job.name.endswith(name)
    return frozen


def test_a_frozen_test_set_is_handed_to_evaluations_alone(world: World) -> None:
    frozen = freeze(world)
    assert world.dataset.frozen == frozen
    descriptor = {}
    for user, usages in ((JOB, ()), (EVALUATION, ("test",)), (f"{EVALUATION}2", ("train", "validation"))):
        descriptor[user] = uses.create_use(world.jobs, world.resources, Held(3), frozen.version, Use(user, "", usages))[1]
    assert descriptor[EVALUATION] == BLOB
    assert descriptor[JOB] == descriptor[f"{EVALUATION}2"] != BLOB
    assert world.dataset.frozen_evaluations == 1
    assert version_facts.facts_of(world.resources, world.jobs.get(frozen.version)).evaluations == 1


def test_a_version_from_before_that_trains_on_what_is_test_now_is_refused(world: World) -> None:
    freeze(world)
    name = f"{DATASET}/versions/V001"
    with pytest.raises(FailedPrecondition, match="3 examples") as caught:
        uses.create_use(world.jobs, world.resources, Held(3), name, Use(JOB, ""))
    assert caught.value.reason == "FROZEN_TEST"
    uses.create_use(world.jobs, world.resources, Held(0), name, Use(JOB, ""))
    uses.create_use(world.jobs, world.resources, Held(3), name, Use(EVALUATION, ""))


def test_a_test_set_is_frozen_while_no_other_version_is_published(world: World) -> None:
    running = world.start_version()
    with pytest.raises(FailedPrecondition) as caught:
        world.start_version(test_policy=FREEZE_TEST)
    assert caught.value.reason == "PUBLICATION_RUNNING"
    world.finish(running)
    world.start_version(test_policy=FREEZE_TEST)
    with pytest.raises(FailedPrecondition, match="still being published"):
        world.start_version()
