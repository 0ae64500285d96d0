"""A version exported in a format and imported again has the digest that it had: what the format can carry, it carries."""

from __future__ import annotations

import json
import math
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from modelyard.core.errors import InvalidArgument
from modelyard.dataset.domain.records import ExportResult, ExportSpec, ImportResult, SplitPolicy, VersionResult
from modelyard.dataset.domain.work import Work
from modelyard.dataset.worker import export_job
from modelyard.formats import dataset as files
from modelyard.formats.dataset_audio import write_wav
from tests.support.marked import Marked, labels, marked, picture, zipped
from tests.unit.dataset.test_dataset_report_publish import Bench

FEW = settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
VERSION = "projects/p/datasets/d/versions/V001"


@contextmanager
def bench() -> Iterator[Bench]:
    with tempfile.TemporaryDirectory() as folder:
        yield Bench(Path(folder))


def exported(here: Bench, version: VersionResult, format_: str, *, lossy: bool = False) -> ExportResult:
    spec = ExportSpec("projects/p/datasets/d", VERSION, version.descriptor_blob, format_, lossy)
    return export_job.run(spec, here.store, here.folder(), Work())


def check(here: Bench, imported: ImportResult, format_: str, **spec: str) -> VersionResult:
    """Publishes, exports, imports again: the digest is the version's, and that of a version made of it."""
    version = here.publish(imported)
    made = exported(here, version, format_)
    again = here.imported(here.store.read_bytes(made.archive), made.file_name, **spec)
    assert again.summary.rejected == ()
    assert again.content.task == imported.content.task
    assert again.summary.digest == version.descriptor.digest
    assert again.summary.examples_with_usage == made.example_count == imported.summary.example_count
    return version


def through(source: Marked, formats: Sequence[str], task: str) -> None:
    with bench() as here:
        imported = here.imported(source.coco(), "coco.zip", task=task)
        assert imported.format == "coco"
        for format_ in formats:
            check(here, imported, format_, task=task)


@FEW
@given(marked(["box"]))
def test_boxes_with_attributes(source: Marked) -> None:
    through(source, ["coco", "voc", "cvat", "labelme"], files.OBJECT_DETECTION)


@FEW
@given(marked(["box"], with_attributes=False))
def test_boxes_alone(source: Marked) -> None:
    through(source, ["yolo"], files.OBJECT_DETECTION)


@FEW
@given(marked(["polygons", "mask", "box"]))
def test_outlines_and_masks(source: Marked) -> None:
    through(source, ["coco", "cvat"], files.INSTANCE_SEGMENTATION)


@FEW
@given(marked(["polygons", "box"]))
def test_outlines(source: Marked) -> None:
    through(source, ["labelme"], files.INSTANCE_SEGMENTATION)


@FEW
@given(marked(["polygon"], with_attributes=False))
def test_one_outline_each(source: Marked) -> None:
    through(source, ["yolo"], files.INSTANCE_SEGMENTATION)


@FEW
@given(marked(["keypoints"], with_attributes=False))
def test_keypoints(source: Marked) -> None:
    if any(mark.keypoints for marks in source.pictures for mark in marks):
        through(source, ["coco", "yolo"], files.KEYPOINT_DETECTION)


several = st.lists(st.lists(st.integers(0, 3), unique=True, max_size=4), min_size=3, max_size=6)


@FEW
@given(st.lists(labels, min_size=4, max_size=4, unique_by=str.lower), several)
def test_several_labels(names: list[str], said: list[list[int]]) -> None:
    said = [[0, 1], [2], [3, 1], *said]
    lines = [_manifest_line(f"data/{place}.png", [names[i] for i in each]) for place, each in enumerate(said) if each]
    sources = {f"data/{place}.png": picture(place) for place, each in enumerate(said) if each}
    with bench() as here:
        imported = here.imported(zipped({**sources, "all.manifest": "\n".join(lines)}), "m.zip")
        assert imported.content.task == files.IMAGE_MULTILABEL
        for format_ in ("manifest", "cvat"):
            check(here, imported, format_)


def _manifest_line(source: str, names: Sequence[str]) -> str:
    said = [{"name": name, "type": "modelarts/image_classification"} for name in names]
    return json.dumps({"source": source, "usage": "TRAIN", "annotation": said}, ensure_ascii=False)


@FEW
@given(st.lists(labels, min_size=2, max_size=4, unique_by=str.lower), st.integers(3, 12), st.integers(0, 2**32 - 1))
def test_masks(names: list[str], count: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    sources: dict[str, bytes | str] = {"classes.txt": "\n".join(names)}
    for place in range(count):
        mask = rng.integers(0, len(names) + 1, (18, 24)).astype(np.uint8)
        sources[f"images/{place}.png"] = picture(place)
        sources[f"masks/{place}.png"] = _png(np.where(mask == len(names), 255, mask).astype(np.uint8))
    with bench() as here:
        imported = here.imported(zipped(sources), "masks.zip")
        assert (imported.format, imported.content.classes) == ("masks", tuple(names))
        for format_ in ("masks", "colour_masks"):
            check(here, imported, format_)


def _png(values: np.ndarray) -> bytes:
    from modelyard.formats.pictures import encode_png

    return encode_png(values)


@FEW
@given(st.lists(labels.filter(lambda n: n.lower() not in _USAGE), min_size=2, max_size=3, unique_by=str.lower), st.integers(2, 5))
def test_class_folders(names: list[str], count: int) -> None:
    sources = {f"{name}/{place}.png": picture(100 * index + place) for index, name in enumerate(names) for place in range(count)}
    with bench() as here:
        imported = here.imported(zipped(sources), "folders.zip", format="image_folders")
        check(here, imported, "image_folders")
        check(here, imported, "manifest")


_USAGE = ("train", "training", "val", "valid", "validation", "dev", "test", "testing", "thumbs")


@FEW
@given(st.integers(0, 2**32 - 1), st.sampled_from([0, 3]))
def test_idx(seed: int, channels: int) -> None:
    rng = np.random.default_rng(seed)
    shape = (30, 5, 4, channels) if channels else (30, 5, 4)
    images, classes = rng.integers(0, 256, shape, dtype=np.uint8), (np.arange(30) % 3).astype(np.uint8)
    sources = {"train-images-idx3-ubyte": _idx(images), "train-labels-idx1-ubyte": _idx(classes)}
    with bench() as here:
        imported = here.imported(zipped(sources), "idx.zip")
        check(here, imported, "idx")
        check(here, imported, "image_folders")


def _idx(array: np.ndarray) -> bytes:
    return bytes([0, 0, 8, array.ndim]) + b"".join(size.to_bytes(4, "big") for size in array.shape) + array.tobytes()


@FEW
@given(st.lists(labels.filter(lambda n: n.lower() not in _USAGE), min_size=2, max_size=3, unique_by=str.lower), st.integers(2, 4))
def test_sounds(names: list[str], count: int) -> None:
    rng = np.random.default_rng(count)
    sources = {
        f"{name}/{place}.wav": write_wav(rng.integers(-9000, 9000, 50 + place, dtype=np.int16), 8000)
        for name in names
        for place in range(count)
    }
    with bench() as here:
        imported = here.imported(zipped(sources), "sounds.zip")
        assert imported.content.task == files.AUDIO_CLASSIFICATION
        check(here, imported, "audio_folders")
        check(here, imported, "manifest")


number = st.floats(allow_nan=False, allow_infinity=False, width=64) | st.just(math.nan)


@FEW
@given(st.integers(1, 3), st.integers(1, 6), st.data())
def test_series(channels: int, steps: int, data: st.DataObject) -> None:
    case = st.lists(st.lists(number, min_size=steps, max_size=steps), min_size=channels, max_size=channels)
    cases = data.draw(st.lists(case, min_size=4, max_size=6))
    lines = ["@problemName X", "@timeStamps false", "@classLabel true a b", "@data"]
    for place, values in enumerate(cases):
        texts = [",".join("?" if math.isnan(v) else repr(v) for v in channel) for channel in values]
        lines.append(":".join([*texts, "ab"[place % 2]]))
    with bench() as here:
        imported = here.imported("\n".join(lines).encode(), "X_TRAIN.ts")
        assert imported.summary.example_count == len(cases)
        check(here, imported, "ts")
        check(here, imported, "sensor_csv", format="sensor_csv")


@FEW
@given(st.integers(3, 40), st.integers(0, 2**32 - 1), st.booleans())
def test_recordings(steps: int, seed: int, dates: bool) -> None:
    rng = np.random.default_rng(seed)
    sources = {}
    for place in range(3):
        rows = ["datetime;a;b c;anomaly"]
        for step in range(steps):
            time = f"2020-02-08 18:{step % 60:02}:32.{seed % 1000:03}" if dates else repr(step / 7)
            values = ";".join("" if rng.random() < 0.1 else repr(value) for value in rng.normal(size=2).tolist())
            rows.append(f"{time};{values};{int(rng.random() < 0.3)}.0")
        sources[f"rig/{place}.csv"] = "\n".join(rows)
    with bench() as here:
        imported = here.imported(zipped(sources), "rig.zip")
        assert (imported.format, imported.content.task) == ("sensor_csv", files.ANOMALY_DETECTION)
        check(here, imported, "sensor_csv")


cell = st.text(st.characters(codec="utf-8", exclude_categories=("Cs", "Cc")), max_size=6)


@FEW
@given(st.data(), st.integers(20, 40))
def test_tables(data: st.DataObject, rows: int) -> None:
    texts = data.draw(st.lists(cell, min_size=rows, max_size=rows))
    numbers = data.draw(st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=rows, max_size=rows))
    lines = [
        json.dumps({"t": t, "n": n, "x": i * 7 % 5, "y": "ab"[i % 2]})
        for i, (t, n) in enumerate(zip(texts, numbers, strict=True))
    ]
    with bench() as here:
        imported = here.imported("\n".join(lines).encode(), "t.jsonl", label_column="y")
        assert imported.format == "json_lines"
        for format_ in ("csv", "tsv", "json_lines", "parquet"):
            check(here, imported, format_, label_column="y")


@pytest.mark.parametrize(
    "format_", ["coco", "voc", "yolo", "cvat", "labelme", "masks", "idx", "csv", "ts", "sensor_csv", "audio_folders"]
)
def test_a_format_for_another_task_is_refused(tmp_path: Path, format_: str) -> None:
    here = Bench(tmp_path)
    imported = here.imported(
        {f"{name}/{i}.png": picture(10 * k + i) for k, name in enumerate(("cat", "dog")) for i in range(4)}, "t.zip"
    )
    with pytest.raises(InvalidArgument) as caught:
        exported(here, here.publish(imported), format_)
    expected = "CANNOT_CARRY" if format_ == "idx" else "FORMAT_MISMATCH"
    assert caught.value.reason == expected
    assert [each.field for each in caught.value.violations] == ["dataset_export.format"]


def test_what_a_format_cannot_carry_is_named_or_left_out_when_wanted(tmp_path: Path) -> None:
    here = Bench(tmp_path)
    source = Marked(("a",), ((_outlined(),),) * 3, ("train", "validation", "test"))
    version = here.publish(here.imported(source.coco(), "c.zip"), SplitPolicy(source="given"))
    with pytest.raises(InvalidArgument, match="outlines"):
        exported(here, version, "voc")
    made = exported(here, version, "voc", lossy=True)
    assert any("outlines" in note for note in made.notes)
    again = here.imported(here.store.read_bytes(made.archive), "v.zip")
    assert (again.content.task, again.summary.class_counts) == (files.OBJECT_DETECTION, (3,))


def _outlined():  # type: ignore[no-untyped-def]
    from modelyard.formats.annotations import Mark

    return Mark("a", (1.0, 1.0, 9.0, 9.0), ((1.0, 1.0, 9.0, 1.0, 9.0, 9.0),))
