"""A frozen test set: nothing of it, and nothing like it, is ever trained on, and whoever trains has no way to it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

from modelyard.core.artifacts import find_uris
from modelyard.core.artifacts_named import NamedArtifacts
from modelyard.core.errors import FailedPrecondition, PermissionDenied
from modelyard.dataset.adapters.examples_parquet import ParquetExamples
from modelyard.dataset.domain.edits import DROP, MOVE, RELABEL
from modelyard.dataset.domain.records import FREEZE_TEST, REPLACE_TEST, Edit, ImportResult, SplitPolicy, VersionResult
from modelyard.formats import dataset as files
from modelyard.formats.pictures import decode, encode_png
from tests.support.datasets import file_store
from tests.unit.dataset.test_dataset_edited_versions import rows
from tests.unit.dataset.test_dataset_report_publish import Bench, digits


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def frozen(bench: Bench, imported: ImportResult, split: SplitPolicy | None = None, **more: object) -> VersionResult:
    return bench.publish(imported, split, test_policy=FREEZE_TEST, version="projects/p/datasets/d/versions/V001", **more)


def later(
    bench: Bench, imported: ImportResult, first: VersionResult, split: SplitPolicy | None = None, **more: object
) -> VersionResult:
    return bench.publish(imported, split, frozen=first.frozen, version="projects/p/datasets/d/versions/V002", **more)


def contents(bench: Bench, version: VersionResult, *usages: str) -> set[str]:
    manifest = files.load_manifest(bench.store, version.descriptor, ["usage", "sha256"])
    return {sha for usage, sha in zip(*manifest.to_pydict().values(), strict=True) if usage in usages}


def test_whoever_trains_is_given_no_test_example(bench: Bench) -> None:
    version = frozen(bench, bench.imported(digits(), "d.zip"))
    assert version.frozen is not None
    assert version.training_blob is not None
    whole = files.open_dataset(bench.store, version.descriptor_blob)
    assert version.frozen.examples == len(whole.indices("test")) > 20
    test_bytes = list(whole.picture_bytes("test"))
    view = files.open_dataset(bench.store, version.training_blob)
    assert len(view.indices("test")) == 0
    assert view.example_ids("train") == whole.example_ids("train")
    assert list(view.picture_bytes("train")) == list(whole.picture_bytes("train"))
    assert view.descriptor.digest == whole.descriptor.digest
    assert view.descriptor.counts["test"] == files.UsageCount(0)
    # Every byte that the training descriptor leads to: no content, no hash, no id of a test example is among them.
    reachable = b"".join(bench.store.read_bytes(blob) for blob in view.descriptor.blobs)
    assert not any(data in reachable for data in test_bytes)
    manifest = files.load_manifest(bench.store, view.descriptor)
    assert not set(manifest["sha256"].to_pylist()) & contents(bench, version, "test")
    assert not set(manifest["path"].to_pylist()) & set(whole.paths("test"))
    assert any(data in b"".join(bench.store.read_bytes(blob) for blob in whole.descriptor.blobs) for data in test_bytes)


def test_a_training_job_cannot_open_what_its_assignment_does_not_name(bench: Bench, tmp_path: Path) -> None:
    version = frozen(bench, bench.imported(digits(), "d.zip"))
    assert version.training_blob is not None
    trainer = file_store(tmp_path / "artifacts", "trainer")
    spec = {"descriptor": {"uri": version.training_blob.uri}}
    store = NamedArtifacts(trainer, spec)
    with files.open_dataset(store, version.training_blob) as reader:
        assert len(reader.pictures("train", 8, 8, 1)) == len(reader.indices("train"))
    own = store.put_bytes(b"a checkpoint")
    assert store.read_bytes(own) == b"a checkpoint"
    named = find_uris(files.to_json(version.descriptor).decode()) - find_uris(files.to_json(reader.descriptor).decode())
    hidden = {version.descriptor_blob.uri, *named}
    assert len(hidden) >= 3  # descriptor, manifest, identity, the test's pack
    for uri in hidden:
        with pytest.raises(PermissionDenied) as caught:
            store.open(uri)
        assert caught.value.reason == "ARTIFACT_NOT_NAMED"


@pytest.mark.parametrize("split", [SplitPolicy("0.5", seed=5), SplitPolicy("0.9", source="ratio", seed=9)])
def test_later_versions_keep_the_test_whatever_the_split(bench: Bench, split: SplitPolicy) -> None:
    imported = bench.imported(digits(), "d.zip")
    first = frozen(bench, imported)
    second = later(bench, imported, first, split)
    assert contents(bench, second, "test") == contents(bench, first, "test")
    assert second.frozen == first.frozen
    free = 300 - len(contents(bench, first, "test"))
    train = second.descriptor.counts["train"].examples
    assert abs(train - free * float(split.train_ratio)) <= 10
    assert second.descriptor.counts["validation"].examples == free - train


def test_new_examples_like_the_test_are_left_out(bench: Bench) -> None:
    pictures = digits()
    first = frozen(bench, bench.imported(pictures, "d.zip"))
    test = [(path, pictures[path]) for path in files.open_dataset(bench.store, first.descriptor_blob).paths("test")]
    more: dict[str, bytes] = dict(pictures)
    for number, (path, data) in enumerate(test[:8]):
        pixels = decode(data, height=32, width=32, channels=1)[:, :, 0].astype(int)
        brighter = encode_png(np.minimum(pixels + 1, 255).astype(np.uint8))
        more[f"{path.split('/')[0]}/near{number}.png"] = brighter
    second = later(bench, bench.imported(more, "e.zip"), first)
    assert contents(bench, second, "test") == contents(bench, first, "test")
    assert sum(count.examples for count in second.descriptor.counts.values()) == len(pictures)
    assert not any("near" in path for usage in files.USAGES for path in _paths(bench, second, usage))
    assert any("8 examples were left out" in note for note in second.notes)
    # The same where the test examples themselves are no longer in the source.
    only: Mapping[str, bytes] = {name: data for name, data in more.items() if name not in dict(test)}
    third = later(bench, bench.imported(dict(only), "f.zip"), first)
    assert not any("near" in path for usage in files.USAGES for path in _paths(bench, third, usage))


def _paths(bench: Bench, version: VersionResult, usage: str) -> list[str]:
    return files.open_dataset(bench.store, version.descriptor_blob).paths(usage)


def test_a_test_example_that_comes_back_is_test_again(bench: Bench) -> None:
    pictures = digits()
    imported = bench.imported(pictures, "d.zip")
    first = frozen(bench, imported)
    gone = tuple(id_ for id_, (_, usage) in rows(bench, first).items() if usage == "test")[:5]
    second = later(bench, imported, first, base="V001", base_descriptor=first.descriptor, edits=(Edit(DROP, gone),))
    assert len(contents(bench, second, "test")) == len(contents(bench, first, "test")) - 5
    renamed = {f"{name.split('/')[0]}/again_{name.split('/')[1]}": data for name, data in pictures.items()}
    third = later(bench, bench.imported(renamed, "g.zip"), second)
    assert contents(bench, third, "test") == contents(bench, first, "test")


def test_edits_neither_move_test_examples_nor_add_some(bench: Bench) -> None:
    imported = bench.imported(digits(), "d.zip")
    first = frozen(bench, imported)
    usage = {name: next(id_ for id_, (_, of) in rows(bench, first).items() if of == name) for name in files.USAGES}
    for id_, to in ((usage["test"], "train"), (usage["test"], "validation"), (usage["train"], "test")):
        with pytest.raises(FailedPrecondition) as caught:
            later(bench, imported, first, base="V001", base_descriptor=first.descriptor, edits=(Edit(MOVE, (id_,), usage=to),))
        assert caught.value.reason == "FROZEN_TEST"
        assert id_ in caught.value.message
    allowed = (Edit(MOVE, (usage["train"],), usage="validation"), Edit(RELABEL, (usage["test"],), label="0"))
    stored = {blob.uri for blob in bench.store.list()}
    second = later(bench, imported, first, base="V001", base_descriptor=first.descriptor, base_near=first.near, edits=allowed)
    assert rows(bench, second)[usage["test"]] == ("0", "test")
    assert second.descriptor.packs == first.descriptor.packs
    new = sum(blob.size_bytes for blob in bench.store.list() if blob.uri not in stored)
    assert new == second.stored_bytes


def test_another_test_set_is_drawn_only_when_asked_for(bench: Bench) -> None:
    imported = bench.imported(digits(), "d.zip")
    first = frozen(bench, imported)
    second = later(bench, imported, first, SplitPolicy(seed=4), test_policy=REPLACE_TEST)
    assert second.frozen is not None
    assert first.frozen is not None
    assert second.frozen.digest != first.frozen.digest
    assert contents(bench, second, "test") != contents(bench, first, "test")
    held = ParquetExamples(bench.store).count_held(first.descriptor, second.frozen.contents)
    assert held == len(contents(bench, second, "test") - contents(bench, first, "test"))
    assert ParquetExamples(bench.store).count_held(second.descriptor, second.frozen.contents) == 0


def test_copies_of_test_examples_among_the_given_train_leave(bench: Bench) -> None:
    pictures = {f"train/{name}": data for name, data in digits(120).items()}
    copied = list(list(pictures)[:3])
    test = {name.replace("train/", "test/"): pictures[name] for name in copied}
    test |= {name.replace("train/", "test/"): data for name, data in list(pictures.items())[100:]}
    train = {name: data for name, data in pictures.items() if name.replace("train/", "test/") not in test or name in copied}
    version = frozen(bench, bench.imported({**train, **test}, "d.zip"))
    assert not contents(bench, version, "test") & contents(bench, version, "train", "validation")
    assert version.descriptor.counts["test"].examples == len(test)
    plain = bench.publish(bench.imported({**train, **test}, "d.zip"))
    assert contents(bench, plain, "test") & contents(bench, plain, "train", "validation")


def test_packs_that_the_source_keeps_apart_are_not_copied(bench: Bench) -> None:
    """The test of a source lies in packs of its own already, so freezing it copies next to nothing."""
    pictures = digits(200)
    names = list(pictures)
    given = {f"{'test' if place >= 150 else 'train'}/{name}": pictures[name] for place, name in enumerate(names)}
    imported = bench.imported(given, "d.zip")
    plain = bench.publish(imported)
    version = frozen(bench, imported)
    assert set(version.descriptor.packs) == set(plain.descriptor.packs)
    assert version.training is not None
    assert set(version.training.packs) < set(version.descriptor.packs)


def test_a_table_is_trained_on_without_its_test_rows(bench: Bench) -> None:
    lines = ["x,y", *(f"{i}.25,{'ab'[i % 2]}" for i in range(200))]
    imported = bench.imported("\n".join(lines).encode(), label_column="y")
    version = frozen(bench, imported)
    assert version.training_blob is not None
    assert version.training is not None
    whole = files.open_dataset(bench.store, version.descriptor_blob)
    view = files.open_dataset(bench.store, version.training_blob)
    assert view.table("train").equals(whole.table("train"))
    assert view.labels("validation").tolist() == whole.labels("validation").tolist()
    assert version.training.table is not None
    stored = files.read_parquet(bench.store.path(version.training.table))
    assert not set(stored["x"].to_pylist()) & set(whole.table("test")["x"].to_pylist())
    assert stored.num_rows == len(view.indices("train")) + len(view.indices("validation"))


def test_a_test_set_frozen_from_a_version_knows_what_its_pictures_look_like(bench: Bench) -> None:
    pictures = digits(150)
    imported = bench.imported(pictures, "d.zip")
    plain = bench.publish(imported)
    first = frozen(bench, imported, base="V000", base_descriptor=plain.descriptor, base_near=plain.near)
    assert contents(bench, first, "test") == contents(bench, plain, "test")
    path = _paths(bench, first, "test")[0]
    pixels = decode(pictures[path], height=32, width=32, channels=1)[:, :, 0].astype(int)
    near = {name: data for name, data in pictures.items() if name != path}
    near[f"{path.split('/')[0]}/near.png"] = encode_png(np.minimum(pixels + 1, 255).astype(np.uint8))
    second = later(bench, bench.imported(near, "e.zip"), first)
    assert not any("near" in each for usage in files.USAGES for each in _paths(bench, second, usage))
