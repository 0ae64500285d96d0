"""Answers of people put into versions: unlabelled imports, consensus, what joins, what stays where it was, what stays open."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from modelyard.core.documents import from_document, to_document
from modelyard.core.errors import FailedPrecondition
from modelyard.dataset.adapters.contents_parquet import StoredContents
from modelyard.dataset.domain.answers import Answer, to_json
from modelyard.dataset.domain.label_schema import LabelClass, LabelSchema, checked_schema
from modelyard.dataset.domain.records import AnnotationSource, ImportResult, VersionResult
from modelyard.formats import annotations_rle
from modelyard.formats import dataset as files
from modelyard.formats.annotations import Mark
from modelyard.formats.pictures import encode_png
from tests.unit.dataset.test_dataset_report_publish import Bench

KINDS = ("bright", "dark")
SIDE = 24
Said = Mapping[str, Mapping[str, Answer]]


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def pictures(count: int, start: int = 0) -> dict[str, bytes]:
    """Half of them bright, half dark, no two alike."""
    made = {}
    for n in range(start, start + count):
        low = 120 if n % 2 == 0 else 0
        pixels = np.random.default_rng(n).integers(low, low + 100, (SIDE, SIDE), dtype=np.uint8)
        made[f"{KINDS[n % 2]}-{n:03d}.png"] = encode_png(pixels)
    return made


def kind_of(path: str) -> str:
    return path.rsplit("/", 1)[-1].split("-")[0]


def schema(*shapes: str) -> LabelSchema:
    return checked_schema(LabelSchema(shapes, tuple(LabelClass(name) for name in (*KINDS, "never"))))


def source(bench: Bench, imported: ImportResult, said: Said, known: LabelSchema, **more: object) -> AnnotationSource:
    """As the service writes it; `said`: by path and person."""
    listed = {each.path: each for each in StoredContents(bench.store).listed(imported.content)}
    lines = [
        {
            "id": listed[path].example_id,
            "path": path,
            "row": listed[path].row,
            "facts": [listed[path].width, listed[path].height, 0],
            "final": None,
            "answers": {person: to_json(answer) for person, answer in answers.items()},
        }
        for path, answers in said.items()
    ]
    blob = bench.store.put_bytes("".join(json.dumps(line) + "\n" for line in lines).encode())
    made = AnnotationSource("projects/p/datasets/d/annotationRounds/r", "V001", known, blob, imported.content, **more)  # type: ignore[arg-type]
    return from_document(to_document(made), AnnotationSource)


def labels(bench: Bench, version: VersionResult) -> dict[str, tuple[str | None, str]]:
    manifest = files.load_manifest(bench.store, version.descriptor, ["path", "label", "usage"])
    return {row["path"]: (row["label"], row["usage"]) for row in manifest.to_pylist()}


def truth(paths: list[str], *people: str) -> Said:
    return {path: {person: Answer((kind_of(path),)) for person in people} for path in paths}


def test_an_unlabelled_import_is_in_no_version_before_people_answered(bench: Bench) -> None:
    imported = bench.imported(pictures(40), "p.zip", unlabelled=True)  # type: ignore[arg-type]
    assert (imported.summary.example_count, imported.content.classes, imported.content.task) == (40, (), "image_classification")
    with pytest.raises(FailedPrecondition) as caught:
        bench.publish(imported)
    assert caught.value.reason == "NO_LABELS"
    bench.report(imported)
    paths = sorted(pictures(40))
    first = bench.publish(imported, annotation=source(bench, imported, truth(paths[:30], "a", "b"), schema("class")))
    assert first.descriptor.classes == KINDS  # in the order of the schema; what nobody said is none
    assert {path: label for path, (label, _) in labels(bench, first).items()} == {path: kind_of(path) for path in paths[:30]}
    assert {finding.kind: finding.example_count for finding in first.findings} == {"UNLABELLED": 10}
    assert first.annotation is not None
    assert (first.annotation.example_count, first.annotation.answer_count, first.annotation.added_count) == (30, 60, 0)
    with files.DatasetReader(bench.store, first.descriptor) as reader:
        assert reader.pictures("train", SIDE, SIDE, 1).shape[1:] == (SIDE, SIDE, 1)


def test_new_examples_join_train_and_validation_and_the_test_stays(bench: Bench) -> None:
    imported = bench.imported(pictures(60), "p.zip", unlabelled=True)  # type: ignore[arg-type]
    paths = sorted(pictures(60))
    first = bench.publish(imported, annotation=source(bench, imported, truth(paths[::2], "a"), schema("class")))
    wrong = next(path for path, (_, usage) in labels(bench, first).items() if usage == "train")
    other = {wrong: {"a": Answer((KINDS[kind_of(wrong) == KINDS[0]],))}}
    answers = source(bench, imported, {**truth(paths[1::2], "a"), **other}, schema("class"))
    more = {"base": "V001", "base_descriptor": first.descriptor, "base_near": first.near}
    second = bench.publish(imported, annotation=answers, **more)
    before, after = labels(bench, first), labels(bench, second)
    assert len(after) == 60
    assert {path: usage for path, (_, usage) in after.items() if path in before} == {path: u for path, (_, u) in before.items()}
    assert {usage for path, (_, usage) in after.items() if path not in before} == {"train", "validation"}
    assert after[wrong][0] != kind_of(wrong)
    assert {path for path in before if before[path][0] != after[path][0]} == {wrong}
    assert second.descriptor.packs == first.descriptor.packs
    with files.DatasetReader(bench.store, second.descriptor) as reader:
        assert len(reader) == 60
        reader.pictures("train", SIDE, SIDE, 1)
    relabelled = bench.publish(imported, annotation=source(bench, imported, other, schema("class")), **more)
    assert relabelled.descriptor.identity == first.descriptor.identity  # nothing but labels changed


def test_a_duplicate_of_a_test_example_never_goes_to_train(bench: Bench) -> None:
    made = pictures(60)
    twins = {f"twin-{path}": data for path, data in made.items()}
    imported = bench.imported({**made, **twins}, "p.zip", unlabelled=True)  # type: ignore[arg-type]
    first = bench.publish(imported, annotation=source(bench, imported, truth(sorted(made), "a"), schema("class")))
    said = {path: {"a": Answer((kind_of(path.removeprefix("twin-")),))} for path in twins}
    second = bench.publish(
        imported,
        annotation=source(bench, imported, said, schema("class")),
        base="V001",
        base_descriptor=first.descriptor,
        base_near=first.near,
    )
    after = labels(bench, second)
    assert all(after[path][1] == after[f"twin-{path}"][1] for path in made)


def test_where_people_differ_nothing_changes_and_it_is_said(bench: Bench) -> None:
    imported = bench.imported(pictures(30), "p.zip", unlabelled=True)  # type: ignore[arg-type]
    paths = sorted(pictures(30))
    said = {path: dict(answers) for path, answers in truth(paths, "a", "b").items()}
    said[paths[0]]["b"] = Answer(("never",))
    first = bench.publish(imported, annotation=source(bench, imported, said, schema("class"), method="majority"))
    assert paths[0] not in labels(bench, first)
    found = {finding.kind: finding for finding in first.findings}
    assert found["ANNOTATORS_DISAGREE"].examples == (paths[0],)
    assert len(found["ANNOTATORS_DISAGREE"].example_ids) == 1
    lonely = {paths[0]: said[paths[0]]}
    with pytest.raises(FailedPrecondition) as caught:
        bench.publish(imported, annotation=source(bench, imported, lonely, schema("class"), method="majority"))
    assert caught.value.reason == "NOTHING_AGREED"


def test_masks_lie_in_packs_of_their_own(bench: Bench) -> None:
    imported = bench.imported(pictures(20), "p.zip", unlabelled=True, task="semantic_segmentation")  # type: ignore[arg-type]
    paths = sorted(pictures(20))

    def painted(path: str, edge: int) -> Answer:
        pixels = np.zeros((SIDE, SIDE), np.uint8)
        pixels[:edge] = 1
        return Answer(marks=(Mark(kind_of(path), annotations_rle.box_of(pixels), mask=annotations_rle.encode(pixels)),))

    known = schema("mask")
    first = bench.publish(imported, annotation=source(bench, imported, {p: {"a": painted(p, 5)} for p in paths}, known))
    assert first.descriptor.classes == (*KINDS, "never")
    assert len(first.descriptor.packs) == len(imported.content.packs) + 1
    again = source(bench, imported, {p: {"a": painted(p, 9)} for p in paths[:3]}, known)
    second = bench.publish(imported, annotation=again, base="V001", base_descriptor=first.descriptor, base_near=first.near)
    with files.DatasetReader(bench.store, second.descriptor) as reader:
        rows = {}
        for usage in files.USAGES:
            said = reader.annotations(usage)
            for place, path in enumerate(reader.paths(usage)):
                mask = said.mask(place)
                rows[path] = int((mask != 255).sum() // SIDE)
                assert set(np.unique(mask)) == {KINDS.index(kind_of(path)), 255}
    assert {path: rows[path] for path in paths} == {path: 9 if path in paths[:3] else 5 for path in paths}


def test_a_frozen_test_set_stays_as_it_is(bench: Bench) -> None:
    imported = bench.imported(pictures(60), "p.zip", unlabelled=True)  # type: ignore[arg-type]
    paths = sorted(pictures(60))
    first = bench.publish(
        imported,
        annotation=source(bench, imported, truth(paths[:40], "a"), schema("class")),
        test_policy="freeze",
        version="V001",
    )
    assert first.frozen is not None
    second = bench.publish(
        imported,
        annotation=source(bench, imported, truth(paths[40:], "a"), schema("class")),
        base="V001",
        base_descriptor=first.descriptor,
        base_near=first.near,
        frozen=first.frozen,
        version="V002",
    )
    tests = [{path for path, (_, usage) in labels(bench, each).items() if usage == "test"} for each in (first, second)]
    assert tests[0] == tests[1] != set()
    assert len(labels(bench, second)) == 60
    assert second.training is not None
    whole = replace(second.training)
    assert files.load_manifest(bench.store, whole, ["path"]).num_rows == 60 - len(tests[0])
