"""Tags, notes, uses, frozen test sets, folds and collection over the real service: its database, its store, its worker."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

import pytest

from modelyard.client import Addresses, Client
from modelyard.client import errors as client_errors
from modelyard.core.artifacts import find_uris
from modelyard.core.platform import Platform, open_platform
from modelyard.dataset import bootstrap
from modelyard.dataset.ports import Use
from modelyard.dataset.settings import DatasetSettings
from modelyard.dataset.v1 import dataset_pb2 as pb
from modelyard.formats import dataset as files
from modelyard.type.v1 import learning_pb2
from tests.support.hosted import hosted
from tests.unit.dataset.test_dataset_import import zipped
from tests.unit.dataset.test_dataset_report_publish import digits

WAIT_S = 240.0
JOB, EVALUATION = "projects/default/trainingJobs/j1", "projects/default/evaluations/e1"


class Users:
    """The services that train and evaluate."""

    def __init__(self) -> None:
        self.models: dict[str, str] = {}

    def standing(self, use: Use) -> str:
        return ""

    def models_of(self, versions: Collection[str]) -> Sequence[str]:
        return [model for model, version in self.models.items() if version in versions]


class World:
    """The service with a dataset of digits, whose V001 has a frozen test set."""

    def __init__(self, client: Client, platform: Platform, users: Users) -> None:
        self.client, self.datasets, self.platform, self.users = client, client.datasets, platform.for_service("dataset"), users

    def publish(self, **more: object) -> pb.DatasetVersion:
        started = self.datasets.create_dataset_version("digits", **more)  # type: ignore[arg-type]
        return self.datasets.wait_dataset_version(started.name, WAIT_S)

    def reader(self, uri: str) -> files.DatasetReader:
        store = self.platform.artifacts
        return files.DatasetReader(store, files.from_json(store.read_bytes(uri)))


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("versions")
    source = folder / "d.zip"
    source.write_bytes(zipped(digits(200)))
    platform, users = open_platform(DatasetSettings(data_dir=folder / "data"), "dataset"), Users()
    with hosted(platform, [bootstrap.build(platform, users=users)]) as address, Client(Addresses.same(address)) as client:
        client.datasets.create_dataset("digits")
        started = client.datasets.create_import("digits", client.artifacts.upload(source), file_name="d.zip")
        client.datasets.wait_import(started.name, WAIT_S)
        made = World(client, platform, users)
        made.publish(test_policy="freeze", description="the first")
        yield made


def test_a_version_says_what_is_frozen_and_hands_out_no_test(world: World) -> None:
    version = world.datasets.get_dataset_version("digits/V001")
    assert version.description == "the first"
    assert version.frozen_test.dataset_version == version.name
    assert version.frozen_test.example_count == version.counts[2].example_count > 0
    assert version.stored_bytes > 0
    assert len(world.reader(version.descriptor_blob.uri).indices("test")) == 0
    training = world.datasets.create_dataset_use(version.name, JOB, model="projects/default/models/m")
    assert (training.purpose, training.descriptor_blob) == (pb.DatasetUse.PURPOSE_TRAINING, version.descriptor_blob)
    assert world.datasets.get_dataset_version("digits/V001").test_evaluation_count == 0
    look = world.datasets.create_dataset_use("digits", EVALUATION, usages=["test"])
    assert len(world.reader(look.descriptor_blob.uri).indices("test")) == version.frozen_test.example_count
    assert world.datasets.create_dataset_use("digits", EVALUATION, usages=["test"]) == look
    assert world.datasets.get_dataset_version("digits/V001").test_evaluation_count == 1
    assert {use.user for use in world.datasets.list_dataset_uses("digits/V001")} == {JOB, EVALUATION}


def test_ten_other_labels_store_next_to_nothing(world: World) -> None:
    first = world.datasets.get_dataset_version("digits/V001")
    chosen = [one.example_id for one in world.datasets.list_examples(first.name, usage="train")][:10]
    edit = pb.Edit(action=pb.Edit.ACTION_RELABEL, example_ids=chosen, label="3")
    second = world.publish(base_version="V001", edits=[edit])
    assert 0 < second.stored_bytes < first.stored_bytes / 4  # of 200 small pictures; the share falls with their number and size
    assert second.frozen_test == first.frozen_test
    assert second.test_evaluation_count == world.datasets.get_dataset_version("digits/V001").test_evaluation_count
    diff = world.datasets.diff_dataset_versions(second.name)
    assert (diff.added_count, diff.removed_count, diff.moved_count) == (0, 0, 0)
    assert diff.relabelled_count == second.edited_counts[0] > 5


def test_a_tag_is_named_wherever_a_version_is(world: World) -> None:
    tag = world.datasets.set_tag("digits/golden", "V001")
    assert world.datasets.get_dataset_version("digits/golden").name.endswith("/V001")
    assert world.datasets.get_dataset_version("digits/V001").tags == ["golden"]
    moved = world.datasets.set_tag("digits/golden", "latest", etag=tag.etag)
    assert moved.dataset_version == world.datasets.get_dataset_version("digits").name
    with pytest.raises(client_errors.Aborted):
        world.datasets.set_tag("digits/golden", "V001", etag=tag.etag)
    assert [one.name for one in world.datasets.list_tags("digits")] == [tag.name]
    assert next(world.datasets.list_examples("digits/golden")).example_id
    with pytest.raises(client_errors.FailedPrecondition) as caught:
        world.datasets.delete_dataset_version(moved.dataset_version)
    assert caught.value.reason == "TAGGED"
    world.datasets.delete_tag("digits/golden")
    with pytest.raises(client_errors.NotFound):
        world.datasets.get_dataset_version("digits/golden")


def test_folds_are_made_once_and_read_as_versions(world: World) -> None:
    made = world.datasets.create_folds("digits/V001", 3, repeats=2, seed=5)
    assert world.datasets.create_folds("digits/V001", 3, repeats=2, seed=5) == made == world.datasets.get_folds(made.name)
    assert len(made.descriptor_blobs) == 6
    sides = [set(world.reader(blob.uri).example_ids("validation")) for blob in made.descriptor_blobs[:3]]
    assert sum(map(len, sides)) == len(set.union(*sides)) == made.example_count
    with pytest.raises(client_errors.InvalidArgument) as caught:
        world.datasets.create_folds("digits/V001", 1)
    assert caught.value.violations[0].field == "folds.k"


def test_series_that_are_forecast_have_no_folds(world: World, tmp_path: Path) -> None:
    source = tmp_path / "a.csv"
    source.write_text("time,value\n" + "".join(f"{at},{at % 7}\n" for at in range(60)))
    world.datasets.create_dataset("demand")
    blob = world.client.artifacts.upload(source)
    started = world.datasets.create_import("demand", blob, file_name="a.csv", task="forecasting")
    world.datasets.wait_import(started.name, WAIT_S)
    version = world.datasets.wait_dataset_version(world.datasets.create_dataset_version("demand").name, WAIT_S)
    assert [each.example_count for each in version.counts] == [1, 1, 1]
    with pytest.raises(client_errors.FailedPrecondition, match="split in time") as caught:
        world.datasets.create_folds("demand/V001", 3)
    assert caught.value.reason == "FOLDS_IN_TIME"


def test_edits_that_would_move_test_examples_are_refused(world: World) -> None:
    one = next(world.datasets.list_examples("digits/V001", usage="test"))
    edit = pb.Edit(action=pb.Edit.ACTION_MOVE, example_ids=[one.example_id], usage=learning_pb2.USAGE_TRAIN)
    with pytest.raises(client_errors.JobFailed) as caught:
        world.publish(base_version="V001", edits=[edit])
    assert caught.value.reason == "FROZEN_TEST"


def test_what_a_model_was_trained_on_is_neither_deleted_nor_collected(world: World) -> None:
    version = world.publish(train_ratio="0.6", seed=3)
    world.users.models["projects/default/models/m/versions/V001"] = version.name
    named = find_uris(json.dumps(world.platform.jobs.get(version.name).result))
    assert len(named) >= 8
    for delete in (lambda: world.datasets.delete_dataset_version(version.name), lambda: world.datasets.delete_dataset("digits")):
        with pytest.raises(client_errors.FailedPrecondition, match="models/m/versions/V001 was trained on it") as caught:
            delete()
        assert caught.value.reason == "IN_USE"
    world.platform.collect(0.0)
    assert all(world.platform.artifacts.exists(uri) for uri in named)
    world.users.models.clear()
    world.datasets.delete_dataset_version(version.name)
    world.platform.collect(0.0)
    own = {uri for uri in named if not world.platform.artifacts.exists(uri)}
    assert len(own) >= 3  # its manifests and descriptors
    first = world.datasets.get_dataset_version("digits/V001")
    kept = find_uris(json.dumps(world.platform.jobs.get(first.name).result))
    assert all(world.platform.artifacts.exists(uri) for uri in kept)  # packs that both name
