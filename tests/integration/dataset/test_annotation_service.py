"""Annotation from a folder of plain pictures to a version, on a real server with real worker processes, by client and CLI."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageDraw

from inference import grpc_service_pb2 as oip
from modelyard.cli.main import main
from modelyard.client import Client, Prediction
from modelyard.client import errors as client_errors
from modelyard.client._sync.predictions import Predictions
from modelyard.core.artifacts import Blob
from modelyard.core.jobs.engine import JobLimits
from modelyard.core.platform import Platform, open_platform
from modelyard.dataset.bootstrap import build
from modelyard.dataset.settings import DatasetSettings
from modelyard.dataset.v1 import annotation_pb2 as pb
from modelyard.dataset.v1 import dataset_pb2
from modelyard.formats.dataset import open_dataset
from tests.support.hosted import hosted

WAIT_S = 200
RED, BLUE, GREEN = (200, 30, 30), (30, 30, 200), (30, 200, 30)
KINDS = {"round": RED, "square": BLUE}


@dataclass
class Yard:
    """A running service, its client, its address and its insides."""

    client: Client
    platform: Platform
    folder: Path
    address: str

    def imported(self, name: str, files: dict[str, bytes], **more: Any) -> dataset_pb2.Import:
        path = self.folder / f"{name}.zip"
        with zipfile.ZipFile(path, "w") as archive:
            for file, data in files.items():
                archive.writestr(file, data)
        self.client.datasets.create_dataset(name)
        source = self.client.artifacts.upload(path)
        started = self.client.datasets.create_import(name, source, file_name=path.name, **more)
        return self.client.datasets.wait_import(started.name, WAIT_S)

    def published(self, round_: str, **more: Any) -> dataset_pb2.DatasetVersion:
        started = self.client.annotations.publish_round(round_, **more)
        return self.client.datasets.wait_dataset_version(started.name, WAIT_S)

    def opened(self, version: dataset_pb2.DatasetVersion) -> Any:
        blob = version.descriptor_blob
        return open_dataset(self.platform.artifacts, Blob(blob.uri, blob.sha256, blob.size_bytes))

    def answer_all(self, round_: str, who: str, answer: Callable[[pb.AnnotationTask], pb.Answer], count: int = 10_000) -> int:
        """Takes and answers tasks until nothing is left, or `count`."""
        calls, done = self.client.annotations, 0
        while done < count:
            found = calls.claim(round_, annotator=who)
            if not found.tasks:
                return done
            calls.submit(found.tasks[0].name, answer(found.tasks[0]), annotator=who, seconds=2.0)
            done += 1
        return done


@pytest.fixture(scope="module")
def yard(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Yard]:
    folder = tmp_path_factory.mktemp("annotation")
    platform = open_platform(DatasetSettings(data_dir=folder / "data"), "dataset", JobLimits(retry_wait_s=0.1))
    with hosted(platform, [build(platform)]) as address, Client(address) as client:
        yield Yard(client, platform, folder, address)


def picture(kind: str, number: int) -> bytes:
    """A picture with one thing in it; no two alike."""
    rng = np.random.default_rng([number, len(kind)])
    image = Image.fromarray(rng.integers(0, 60, (48, 64, 3), dtype=np.uint8))
    left, top = (int(value) for value in rng.integers(2, 20, 2))
    draw = ImageDraw.Draw(image)
    shape = [left, top, left + 20, top + 20]
    draw.ellipse(shape, fill=RED) if kind == "round" else draw.rectangle(shape, fill=BLUE)
    out = io.BytesIO()
    image.save(out, "PNG")
    return out.getvalue()


def plain_pictures(count: int) -> dict[str, bytes]:
    """Pictures in no class folder; what they show is in their names, which nobody reads."""
    return {f"photos/{kind}_{n:03d}.png": picture(kind, n) for n in range(count) for kind in KINDS}


def shown(task: pb.AnnotationTask) -> str:
    return "round" if "round" in task.example.path else "square"


def says(*classes: str) -> pb.Answer:
    return pb.Answer(classes=classes)


def with_schema(yard: Yard, name: str, *shapes: int, **more: Any) -> pb.LabelSchema:
    classes = [pb.LabelClass(name=kind) for kind in KINDS]
    return yard.client.annotations.create_label_schema(name, pb.LabelSchema(shapes=shapes, classes=classes, **more))


def test_a_folder_without_classes_says_what_to_do(yard: Yard) -> None:
    with pytest.raises(client_errors.JobFailed, match="say that they have no labels yet") as caught:
        yard.imported("plain", {path.replace("photos/", ""): data for path, data in plain_pictures(2).items()})
    assert caught.value.reason == "NO_EXAMPLES"


def test_from_plain_pictures_to_a_version_and_the_next(yard: Yard) -> None:
    calls, datasets = yard.client.annotations, yard.client.datasets
    done = yard.imported("shapes", plain_pictures(30), unlabelled=True)
    assert (done.summary.example_count, list(done.summary.classes)) == (60, [])
    with pytest.raises(client_errors.JobFailed) as nothing:
        datasets.wait_dataset_version(datasets.create_dataset_version("shapes").name, WAIT_S)
    assert nothing.value.reason == "NO_LABELS"
    report = datasets.wait_quality_report(datasets.create_quality_report("shapes").name, WAIT_S)
    assert report.status.reason == "COMPLETED"
    with pytest.raises(client_errors.FailedPrecondition) as unready:
        calls.create_round("shapes", "first", pb.AnnotationRound())
    assert unready.value.reason == "NO_LABEL_SCHEMA"
    schema = with_schema(yard, "shapes", pb.SHAPE_CLASS, guidelines="# How\nLook at the outline.")
    assert schema.name.endswith("/labelSchemas/V001")
    assert [each.key for each in schema.classes] == ["1", "2"]
    made = calls.create_round("shapes", "first", pb.AnnotationRound(
        selection=pb.ExampleSelection(unlabelled=True, limit=40, seed=3), overlap=3, annotators=["user:a", "user:b", "user:c"]
    ))  # fmt: skip
    assert (made.task_count, made.progress.answers_wanted) == (40, 120)
    # c guesses: says round whatever it is, four times in five.
    rng = np.random.default_rng(0)
    yard.answer_all("shapes/first", "user:a", lambda task: says(shown(task)))
    yard.answer_all("shapes/first", "user:b", lambda task: says(shown(task)))
    yard.answer_all("shapes/first", "user:c", lambda task: says("round" if rng.random() < 0.8 else shown(task)))
    with pytest.raises(client_errors.FailedPrecondition) as stranger:
        calls.claim("shapes/first", annotator="user:d")
    assert stranger.value.reason == "NOT_AN_ANNOTATOR"
    found = calls.agreement("shapes/first")
    kappas = {frozenset(figure.annotators): figure.value for figure in found.figures if figure.name == "cohen_kappa"}
    assert kappas[frozenset(("user:a", "user:b"))] == 1.0
    assert kappas[frozenset(("user:a", "user:c"))] < 0.6
    assert {each.annotator for each in found.confusions} == {"user:a", "user:b", "user:c"}
    shares = {each.annotator: each.agreement for each in found.annotators}
    assert shares["user:a"] == 1.0 > shares["user:c"]
    people = {each.annotator: each for each in calls.statistics("shapes/first").annotators}
    assert (people["user:c"].answers, people["user:c"].median_seconds) == (40, 2.0)
    whole = {each.annotator: each for each in found.annotators}["user:c"]
    assert (whole.answers, whole.median_seconds, whole.compared) == (40, 2.0, 40)
    assert whole.last_time == people["user:c"].last_time

    first = yard.published("shapes/first")
    assert list(first.classes) == ["round", "square"]
    assert sum(count.example_count for count in first.counts) == 40
    record = first.annotation
    assert (record.annotation_round, record.example_count, record.added_count) == (made.name, 40, 0)
    assert (list(record.annotators), record.answer_count) == (["user:a", "user:b", "user:c"], 120)
    assert [finding.kind for finding in first.findings] == ["UNLABELLED"]
    assert first.findings[0].example_count == 20
    examples = list(datasets.list_examples("shapes/V001"))
    assert all(each.label in each.path for each in examples)
    assert calls.get_round("shapes/first").published_version == first.name
    tests = {each.example_id for each in examples if each.usage == 3}

    unlabelled = list(calls.list_unlabelled_examples("shapes"))
    assert len(unlabelled) == 20
    assert calls.example_content("shapes", unlabelled[0].example_id).data[:4] == b"\x89PNG"
    proposed = calls.propose_examples("shapes", 5, strategy="diversity")
    assert proposed.candidate_count == 20
    chosen = [each.example_id for each in proposed.examples]
    assert len(set(chosen)) == 5
    predictions = {each.example_id: (0.5, 0.5) if at == 7 else (0.9, 0.1) for at, each in enumerate(unlabelled)}
    unsure = calls.propose_examples("shapes", 1, strategy="margin", predictions=predictions)
    assert unsure.examples[0].example_id == unlabelled[7].example_id

    second = calls.create_round("shapes", "second", pb.AnnotationRound(selection=pb.ExampleSelection(example_ids=chosen)))
    assert [task.example.example_id for task in calls.list_tasks("shapes/second")] == chosen
    assert len(calls.propose_examples("shapes", 20).examples) == 15  # those of an open round are spoken for
    pre = [pb.PreLabel(example_id=id_, answer=says("round"), confidence=0.7, model="m/V001") for id_ in chosen]
    assert calls.import_pre_labels("shapes/second", pre) == 5
    yard.answer_all("shapes/second", "user:a", lambda task: says(shown(task)))
    stats = calls.statistics(second.name)
    rounds = sum("round" in task.example.path for task in calls.list_tasks("shapes/second"))
    assert stats.annotators[0].pre_labels_unchanged == rounds
    assert stats.annotators[0].pre_labels_changed == 5 - rounds
    after = yard.published("shapes/second")
    assert after.base_version == first.name
    assert after.annotation.added_count == 5
    later = list(datasets.list_examples("shapes/V002"))
    assert len(later) == 45
    assert {each.example_id for each in later if each.usage == 3} == tests  # the test stays the same
    with yard.opened(after) as reader:
        assert reader.pictures("train", 48, 64, 3).shape[1:] == (48, 64, 3)
    assert datasets.diff_dataset_versions("shapes/V002").added_count == 5


def test_disagreements_stay_open_and_a_reviewer_ends_them(yard: Yard) -> None:
    calls, datasets = yard.client.annotations, yard.client.datasets
    yard.imported("doubt", plain_pictures(6), unlabelled=True)
    with_schema(yard, "doubt", pb.SHAPE_CLASS)
    calls.create_round("doubt", "first", pb.AnnotationRound(overlap=2))
    yard.answer_all("doubt/first", "user:a", lambda task: says(shown(task)))
    yard.answer_all("doubt/first", "user:b", lambda task: says("square" if "round_00" in task.example.path else shown(task)))
    found = calls.agreement("doubt/first", method="majority")
    assert found.disagreement_count == 6
    first = yard.published("doubt/first", method="majority")
    assert {each.kind: each.example_count for each in first.findings} == {"ANNOTATORS_DISAGREE": 6, "UNLABELLED": 6}
    assert sum(count.example_count for count in first.counts) == 6
    with pytest.raises(client_errors.FailedPrecondition) as unclear:
        calls.review(found.disagreements[0], "accept")
    assert unclear.value.reason == "NO_CONSENSUS"
    assert calls.review(found.disagreements[0], "accept", annotator="user:a").review.answer.classes == ["round"]
    assert calls.review(found.disagreements[1], "correct", answer=says("round")).state == pb.AnnotationTask.STATE_CORRECTED
    calls.review(found.disagreements[2], "reject", annotator="user:b", reason="it is round")
    back = calls.claim("doubt/first", annotator="user:b").tasks[0]
    assert (back.reject_reason, list(back.earlier_answer.classes)) == ("it is round", ["square"])
    calls.submit(back.name, says("round"), annotator="user:b")
    calls.create_round("doubt", "again", pb.AnnotationRound(
        selection=pb.ExampleSelection(finding_source=first.name, finding_kind="ANNOTATORS_DISAGREE")
    ))  # fmt: skip
    assert len(list(calls.list_tasks("doubt/again"))) == 6
    second = yard.published("doubt/first", method="majority")
    assert second.annotation.disagreement_count == 3
    assert {each.label for each in datasets.list_examples("doubt/V002") if "round" in each.path} == {"round"}
    entries = list(calls.list_entries(found.disagreements[2]))
    assert [entry.kind for entry in entries] == [1, 1, 4, 1]
    with pytest.raises(client_errors.FailedPrecondition) as none:
        yard.client.annotations.publish_round("doubt/again")
    assert none.value.reason == "NOTHING_ANSWERED"


def test_boxes_of_several_people_become_a_version_for_detection(yard: Yard) -> None:
    calls = yard.client.annotations
    yard.imported("boxes", plain_pictures(8), unlabelled=True, task="object_detection")
    with_schema(yard, "boxes", pb.SHAPE_BOX)
    calls.create_round("boxes", "first", pb.AnnotationRound(overlap=2))

    def drawn(shift: float) -> Callable[[pb.AnnotationTask], pb.Answer]:
        def answer(task: pb.AnnotationTask) -> pb.Answer:
            assert (task.width, task.height) == (64, 48)
            image = np.asarray(Image.open(io.BytesIO(calls.task_content(task.name).data)).convert("RGB")).astype(int)
            rows, columns = np.nonzero(image.max(axis=2) > 150)
            box = [columns.min() + shift, rows.min(), columns.max() + 1 + shift, rows.max() + 1]
            return pb.Answer(objects=[pb.MarkedObject(label=shown(task), box=box)])

        return answer

    yard.answer_all("boxes/first", "user:a", drawn(0))
    yard.answer_all("boxes/first", "user:b", drawn(2))
    task = next(iter(calls.list_tasks("boxes/first")))
    answer = pb.Answer(objects=[pb.MarkedObject(label="round", box=[0, 0, 65, 5])])
    with pytest.raises(client_errors.InvalidArgument) as outside:
        calls.submit(task.name, answer, annotator="user:a")
    assert outside.value.violations[0].field == "answer.objects[0].box"
    agreement = calls.agreement("boxes/first")
    assert [figure.name for figure in agreement.figures] == ["mean_iou"]
    assert 0.75 < agreement.figures[0].value < 0.95
    version = yard.published("boxes/first", dataset_version_id="drawn")
    with yard.opened(version) as reader:
        marks = reader.annotations("train").marks()
        assert len(marks.labels) == len(reader.indices("train"))
        assert marks.usable.all()
        assert {float(width) for width in marks.boxes[:, 2] - marks.boxes[:, 0]} == {21.0}


def test_masks_become_a_version_for_segmentation(yard: Yard) -> None:
    from modelyard.formats import annotations_rle

    calls = yard.client.annotations
    yard.imported("masks", plain_pictures(5), unlabelled=True, task="semantic_segmentation")
    with_schema(yard, "masks", pb.SHAPE_MASK)
    calls.create_round("masks", "first", pb.AnnotationRound())

    def painted(task: pb.AnnotationTask) -> pb.Answer:
        image = np.asarray(Image.open(io.BytesIO(calls.task_content(task.name).data)).convert("RGB")).astype(int)
        mask = (image.max(axis=2) > 150).astype(np.uint8)
        return pb.Answer(objects=[pb.MarkedObject(label=shown(task), mask=annotations_rle.encode(mask))])

    yard.answer_all("masks/first", "user:a", painted)
    with yard.opened(yard.published("masks/first")) as reader:
        said = reader.annotations("train")
        values = {int(value) for position in range(len(said)) for value in np.unique(said.mask(position))}
        assert values == {0, 1, 255}
        assert reader.descriptor.classes == ("round", "square")


def messages(count: int, start: int = 0) -> tuple[bytes, dict[str, str]]:
    """A table of messages without a class; and the class of each row, by its path."""
    rng = np.random.default_rng(start)
    lines, truth = ["message,length,sender"], {}
    for number in range(start, start + count):
        kind = "square" if rng.random() < 0.5 else "round"
        text = f"{'win a prize' if kind == 'square' else 'see you at noon'}, number {number}"
        lines.append(f'"{text}",{len(text)},{rng.choice(["anna", "ben"])}')
        truth[text] = kind
    return "\n".join(lines).encode(), truth


def test_rows_of_a_table_are_labelled_by_their_columns(yard: Yard) -> None:
    calls, datasets = yard.client.annotations, yard.client.datasets
    data, truth = messages(60)
    done = yard.imported("mails", {"mails.csv": data}, unlabelled=True, label_column="kind")
    assert (done.summary.example_count, list(done.summary.classes)) == (60, [])
    assert any('"kind" says the class of 0 of 60' in note for note in done.summary.assumptions)
    with pytest.raises(client_errors.JobFailed) as nothing:
        datasets.wait_dataset_version(datasets.create_dataset_version("mails").name, WAIT_S)
    assert nothing.value.reason == "NO_LABELS"
    report = datasets.wait_quality_report(datasets.create_quality_report("mails").name, WAIT_S)
    assert report.status.reason == "COMPLETED"
    with_schema(yard, "mails", pb.SHAPE_CLASS)
    first = calls.create_round("mails", "first", pb.AnnotationRound(
        selection=pb.ExampleSelection(unlabelled=True, limit=40, seed=1), overlap=2
    ))  # fmt: skip
    assert first.task_count == 40

    def read(task: pb.AnnotationTask) -> pb.Answer:
        content = calls.task_content(task.name)
        assert content.media_type == "application/json"
        row = json.loads(content.data)
        assert set(row) == {"message", "length", "sender"}  # not what is asked
        return says(truth[row["message"]])

    yard.answer_all("mails/first", "user:a", read)
    yard.answer_all("mails/first", "user:b", read)
    kappas = [figure.value for figure in calls.agreement("mails/first").figures if figure.name == "cohen_kappa"]
    assert kappas == [1.0]
    version = yard.published("mails/first")
    assert list(version.classes) == ["round", "square"]
    assert [each.kind for each in version.findings] == ["UNLABELLED"]
    assert sum(count.example_count for count in version.counts) == 40
    with yard.opened(version) as reader:
        known = kinds_of(reader)
        assert len(known) == 40
        assert known.items() <= truth.items()
        tested = set(kinds_of(reader, "test"))
    assert len(list(calls.list_unlabelled_examples("mails"))) == 20
    calls.create_round("mails", "second", pb.AnnotationRound(selection=pb.ExampleSelection(unlabelled=True)))
    assert yard.answer_all("mails/second", "user:a", read) == 20
    after = yard.published("mails/second")
    assert (after.base_version, after.annotation.added_count) == (version.name, 20)
    with yard.opened(after) as reader:
        assert kinds_of(reader) == truth
        assert set(kinds_of(reader, "test")) == tested  # the test stays the same
    more, known = messages(30, 100)
    truth |= known
    yard_import(yard, "mails", more.replace(b"message,length,sender", b"message,length,who"), "kind")
    calls.create_round("mails", "third", pb.AnnotationRound(selection=pb.ExampleSelection(unlabelled=True)))
    yard.answer_all("mails/third", "user:a", lambda task: says("round"))
    with pytest.raises(client_errors.JobFailed, match="they differ in sender, who") as other:
        yard.published("mails/third")
    assert other.value.reason == "OTHER_COLUMNS"
    yard_import(yard, "mails", more, "kind")
    assert len(list(calls.list_unlabelled_examples("mails"))) == 30
    calls.create_round("mails", "fourth", pb.AnnotationRound(selection=pb.ExampleSelection(unlabelled=True)))
    yard.answer_all("mails/fourth", "user:a", read)
    with yard.opened(yard.published("mails/fourth")) as reader:
        assert kinds_of(reader) == truth


def kinds_of(reader: Any, *usages: str) -> dict[str, str]:
    """The class of each message of a version."""
    columns = ["message", "kind"]
    tables = [reader.table(usage, columns=columns) for usage in usages or ("train", "validation", "test")]
    return {row["message"]: row["kind"] for table in tables for row in table.to_pylist()}


def yard_import(yard: Yard, name: str, data: bytes, label: str) -> dataset_pb2.Import:
    """Takes in a table as one file, in place of what was there."""
    path = yard.folder / "more.csv"
    path.write_bytes(data)
    source = yard.client.artifacts.upload(path)
    started = yard.client.datasets.create_import(name, source, file_name=path.name, unlabelled=True, label_column=label)
    return yard.client.datasets.wait_import(started.name, WAIT_S)


def test_a_table_that_is_partly_labelled(yard: Yard) -> None:
    data, truth = messages(40)
    header, *rows = data.decode().splitlines()
    said = [f"{row},{kind if place % 2 else ''}" for place, (row, kind) in enumerate(zip(rows, truth.values(), strict=True))]
    yard.client.datasets.create_dataset("half")
    done = yard_import(yard, "half", "\n".join([f"{header},kind", *said]).encode(), "kind")
    assert (done.summary.example_count, list(done.summary.class_counts)) == (40, [10, 10])
    datasets = yard.client.datasets
    version = datasets.wait_dataset_version(datasets.create_dataset_version("half").name, WAIT_S)
    assert sum(count.example_count for count in version.counts) == 20
    assert any("Left out: 20 examples without a label" in note for note in version.notes)
    report = datasets.wait_quality_report(datasets.create_quality_report("half").name, WAIT_S)
    assert report.status.reason == "COMPLETED"
    assert len(list(yard.client.annotations.list_unlabelled_examples("half"))) == 20
    path = yard.folder / "more.csv"
    started = datasets.create_import("half", yard.client.artifacts.upload(path), unlabelled=True, task="tabular_regression")
    with pytest.raises(client_errors.JobFailed, match="they say one class of each") as numbers:
        datasets.wait_import(started.name, WAIT_S)
    assert numbers.value.reason == "BAD_TASK"


def test_a_round_over_a_version_relabels_it(yard: Yard) -> None:
    calls, datasets = yard.client.annotations, yard.client.datasets
    files = {f"{kind}/{n}.png": picture(kind, n) for n in range(10) for kind in KINDS}
    yard.imported("known", {**files, "square/wrong.png": picture("round", 99)})
    first = datasets.wait_dataset_version(datasets.create_dataset_version("known").name, WAIT_S)
    wrong = next(each for each in datasets.list_examples("known/V001") if "wrong" in each.path)
    with_schema(yard, "known", pb.SHAPE_CLASS)
    selection = pb.ExampleSelection(of_class="square", usage="train")
    made = calls.create_round("known", "look", pb.AnnotationRound(dataset_version=first.name, selection=selection))
    assert made.task_count < 11
    yard.answer_all("known/look", "user:a", lambda task: says("round" if "wrong" in task.example.path else "square"))
    after = yard.published("known/look")
    changes = list(datasets.list_example_changes(after.name))
    expected = [(wrong.example_id, "round")] if wrong.usage == 1 else []
    assert [(each.example.example_id, each.example.label) for each in changes] == expected


def test_the_command_line_from_import_to_label_studio_and_back(
    yard: Yard, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MODELYARD_SERVER", yard.address)
    folder = tmp_path / "photos"
    folder.mkdir()
    for path, data in plain_pictures(4).items():
        (folder / Path(path).name).write_bytes(data)

    def run(*arguments: object, status: int = 0) -> Any:
        capfd.readouterr()
        with pytest.raises(SystemExit) as caught:
            main(["annotate", *map(str, arguments)] if arguments[0] != "dataset" else [str(each) for each in arguments])
        said = capfd.readouterr()
        assert caught.value.code in (status, None) or not status == caught.value.code == 0, said.err
        assert int(caught.value.code or 0) == status, said.err
        if "--json" in arguments and not status:
            return json.loads(said.out.strip().splitlines()[-1])
        return said.out + said.err

    run("dataset", "import", folder, "--name", "cli", "--unlabelled")
    (tmp_path / "how.md").write_text("# How to decide\n")
    run("schema", "cli", "--class", "round=no corners", "--class", "square", "--guidelines", tmp_path / "how.md")
    assert "How to decide" in run("schema", "cli")
    shown_schema = run("schema", "cli", "--json")
    (tmp_path / "schema.json").write_text(json.dumps(shown_schema))
    assert run("schema", "cli", "--file", tmp_path / "schema.json", "--json")["name"].endswith("V002")
    assert "8" in run("create", "cli", "first", "--unlabelled", "--overlap", "2")
    assert "label_schema.shapes" in run("schema", "cli", "--shape", "box", "--class", "a", status=2)
    task = run("next", "cli/first", "--as", "user:a", "--out", tmp_path / "look", "--json")
    assert Path(task["files"][0]).read_bytes()[:4] == b"\x89PNG"
    name = task["tasks"][0]["name"]
    assert "the classes are round, square" in run("submit", name, "--class", "oval", "--as", "user:a", status=2)
    assert "answered: round" in run("submit", name, "--class", "round", "--as", "user:a")
    assert "taken back" in run("undo", name, "--as", "user:a")
    run("submit", name, "--class", "square", "--as", "user:a")
    other = run("next", "cli/first", "--as", "user:a", "--json")["tasks"][0]["name"]
    run("skip", other, "--as", "user:a", "--reason", "too dark")
    assert "too dark" in run("history", other)
    monkeypatch.setattr("builtins.input", lambda *_: "2")
    monkeypatch.chdir(tmp_path)
    assert "8 answered" in run("label", "cli/first", "--as", "user:b")
    assert "answers" in run("show", "cli/first")
    assert "user:b" in run("agreement", "cli/first")
    out = tmp_path / "studio.json"
    assert "8 tasks" in run("export", "cli/first", out)
    tasks = json.loads(out.read_text())
    assert {each["type"] for task in tasks for said in task["annotations"] for each in said["result"]} == {"choices"}
    tasks[0]["annotations"].append({"completed_by": 5, "result": [{"type": "choices", "value": {"choices": ["oval"]}}]})
    tasks.append({"id": 99, "data": {"image": "nowhere.png"}, "annotations": []})
    (tmp_path / "back.json").write_text(json.dumps(tasks))
    run("create", "cli", "second", "--overlap", "2")
    back = run("import", "cli/second", tmp_path / "back.json", "--json")
    assert back["task_count"] == 9
    assert sorted(each["reason"] for each in back["rejected"]) == ["BAD_ANSWER", "UNKNOWN_EXAMPLE"]
    assert back["rejected"][0]["path"].startswith("task 1: annotations[")
    again = run("import", "cli/second", tmp_path / "back.json", "--json")
    assert again["answer_count"] == 0  # nothing is taken twice
    before, after = (run("tasks", f"cli/{name}", "--json")["tasks"] for name in ("first", "second"))
    assert [each["answer_count"] for each in before] == [each["answer_count"] for each in after]
    assert "accepted" in run("review", name, "--accept", "--of", "user:a")
    assert run("set", "cli/first", "--state", "closed", "--json")["state"] == "CLOSED"
    assert "ROUND_CLOSED" in run("next", "cli/first", status=1)
    (tmp_path / "mails.csv").write_bytes(messages(3)[0])
    run("dataset", "import", tmp_path / "mails.csv", "--name", "rows", "--unlabelled")
    run("schema", "rows", "--class", "round", "--class", "square")
    run("create", "rows", "first")
    shown_rows = run("label", "rows/first", "--as", "user:b")
    assert "  message: " in shown_rows
    assert "3 answered" in shown_rows
    assert "--yes" in run("delete", "cli/first", status=2)
    run("delete", "cli/first", "--yes")
    assert "does not exist" in run("show", "cli/first", status=1)
    yard.client.datasets.delete_dataset("cli")
    assert not list(yard.platform.resources.list("datasets/annotationRounds", "projects/default/datasets/cli").items)


def test_a_model_speaks_first_and_says_what_it_wants_to_be_taught(
    yard: Yard, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The endpoint is played: it looks at the colour, and is unsure of the last picture of each call."""
    monkeypatch.setenv("MODELYARD_SERVER", yard.address)

    def predict(_: Predictions, endpoint: str, *, image: list[bytes], version: str = "") -> Prediction:
        means = [np.asarray(Image.open(io.BytesIO(data)).convert("RGB")).reshape(-1, 3).mean(axis=0) for data in image]
        said = ["round" if mean[0] > mean[2] else "square" for mean in means]
        sure = [0.9] * len(image)
        sure[-1] = 0.51
        if endpoint == "finder":
            boxes = [value for _ in image for value in (0.1, 0.1, 0.5, 0.5, 0.2, 0.2, 1.2, 0.9)]
            outputs = {
                "boxes": boxes,
                "scores": [0.8, 0.1] * len(image),
                "labels": [one for name in said for one in (name, name)],
            }
            return Prediction(endpoint, "V003", outputs, {"scores": (len(image), 2)}, oip.ModelInferResponse())
        rows = [
            share
            for name, top in zip(said, sure, strict=True)
            for share in ((top, 1 - top) if name == "round" else (1 - top, top))
        ]
        outputs = {"label": said, "probabilities": rows}
        return Prediction(endpoint, "V002", outputs, {"probabilities": (len(image), 2)}, oip.ModelInferResponse())

    monkeypatch.setattr(Predictions, "predict", predict)

    def run(*arguments: object) -> Any:
        capfd.readouterr()
        with pytest.raises(SystemExit) as caught:
            main(["annotate", *map(str, arguments), "--json"])
        said = capfd.readouterr()
        assert not caught.value.code, said.err
        return json.loads(said.out.strip().splitlines()[-1])

    calls = yard.client.annotations
    yard.imported("helped", plain_pictures(6), unlabelled=True)
    with_schema(yard, "helped", pb.SHAPE_CLASS)
    found = run("propose", "helped", "--count", 1, "--endpoint", "model", "--strategy", "margin", "--round", "unsure")
    assert found["examples"][0]["uncertainty"] == pytest.approx(0.98)
    assert found["annotation_round"]["task_count"] == 1
    calls.create_round("helped", "first", pb.AnnotationRound())
    assert run("prelabel", "helped/first", "--endpoint", "model", "--min-confidence", "0.8") == {
        "asked": 12, "pre_labels": 11, "unknown_classes": []
    }  # fmt: skip
    task = calls.claim("helped/first", annotator="user:a").tasks[0]
    assert (list(task.pre_label.answer.classes), task.pre_label.model) == ([shown(task)], "model/V002")
    yard.answer_all("helped/first", "user:a", lambda task: says(shown(task)))
    assert calls.statistics("helped/first").annotators[0].pre_labels_unchanged == 11
    yard.imported("boxed", plain_pictures(2), unlabelled=True, task="object_detection")
    with_schema(yard, "boxed", pb.SHAPE_BOX)
    calls.create_round("boxed", "first", pb.AnnotationRound())
    assert run("prelabel", "boxed/first", "--endpoint", "finder")["pre_labels"] == 4
    box = calls.claim("boxed/first", annotator="user:a").tasks[0].pre_label.answer.objects
    assert [list(np.round(each.box, 2)) for each in box] == [[6.4, 4.8, 32.0, 24.0]]
