"""Annotation files changed at random: an import of them succeeds or is refused by name; nothing else ever comes out."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from modelyard.core.errors import ModelyardError
from modelyard.dataset.domain.records import ExportSpec, SplitPolicy
from modelyard.dataset.domain.work import Work
from modelyard.dataset.worker import export_job
from modelyard.formats.annotations import Mark
from modelyard.formats.annotations_rle import encode
from modelyard.formats.dataset_audio import write_wav
from tests.support.marked import SIZE, Marked, picture, zipped
from tests.unit.dataset.test_dataset_bad_annotations import sources_of
from tests.unit.dataset.test_dataset_report_publish import Bench

FEW = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])

_MASK = np.eye(SIZE[1], SIZE[0], dtype=np.uint8)
_RING = (1.0, 1.0, 9.0, 1.0, 9.0, 9.0)
SOURCE = Marked(
    ("cat", "dog"),
    (
        (Mark("cat", (1.0, 1.0, 9.0, 9.0), (_RING,), attributes={"colour": "red"}), Mark("dog", (0.0, 0.0, 4.0, 4.0))),
        (Mark("dog", (0.0, 0.0, 18.0, 18.0), mask=encode(_MASK)),),
    ),
    ("train", "test"),
)


def written(format_: str, source: bytes) -> dict[str, bytes]:
    """The files of a small version in a format."""
    with tempfile.TemporaryDirectory() as folder:
        here = Bench(Path(folder))
        version = here.publish(here.imported(source, "a.zip"))
        spec = ExportSpec("d", "projects/p/datasets/d/versions/V001", version.descriptor_blob, format_, lossy=True)
        return sources_of(here.store.read_bytes(export_job.run(spec, here.store, here.folder(), Work()).archive))


def imported(files: dict[str, bytes], **spec: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        here = Bench(Path(folder))
        try:
            result = here.imported(zipped(files), "f.zip", **spec)
        except ModelyardError as error:
            assert error.reason  # noqa: PT017  a refusal is an answer too
            return
        here.publish(result, SplitPolicy(source="ratio"))


JUNK = [None, True, -1, 0, 1.5, 1e308, 10**30, "", "x", "\u0000", "é", [], [[]], [1, "a"], {}, {"a": []}]
junk: st.SearchStrategy[Any] = st.sampled_from(JUNK)


def _places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    children = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(place for key, each in children for place in _places(each, (*path, key)))]


def _changed(value: Any, path: tuple[Any, ...], new: Any) -> Any:
    if not path:
        return new
    copy = dict(value) if isinstance(value, dict) else list(value)
    copy[path[0]] = _changed(value[path[0]], path[1:], new)
    return copy


COCO = sources_of(SOURCE.coco())
LABELME = written("labelme", SOURCE.coco())


@pytest.mark.parametrize("format_", ["coco", "labelme"])
@FEW
@given(st.data())
def test_json_with_other_values(format_: str, data: st.DataObject) -> None:
    files, name = CASES[format_]
    document = json.loads(files[name])
    for _ in range(data.draw(st.integers(1, 3))):
        path = data.draw(st.sampled_from(_places(document)))
        document = _changed(document, path, data.draw(junk))
    imported({**files, name: json.dumps(document).encode()}, format=format_)


_WAVES = {f"{c}/{i}.wav": write_wav(np.full(20, i, np.int16), 8000) for c in "ab" for i in range(2)}
_TS = {"x_TRAIN.ts": b"@problemName x\n@classLabel true a b\n@data\n1,2:3,4:a\n1,?:3,4:b\n5,6:7,8:a\n"}
_RECORDINGS = {f"{i}.csv": b"time,a,anomaly\n1,2,0\n2,3,1\n3,4,0\n" for i in range(2)} | {"r.csv": b"file,start,end\n1.csv,1,2\n"}
_FOLDERS = zipped({f"{c}/{i}.png": picture(i + 9 * (c == "b")) for c in "ab" for i in range(3)})
CASES = {
    "coco": (COCO, "annotations/instances_train.json"),
    "voc": (written("voc", SOURCE.coco()), "Annotations/p0.xml"),
    "cvat": (written("cvat", SOURCE.coco()), "annotations.xml"),
    "labelme": (LABELME, "train/p0.json"),
    "yolo": (written("yolo", SOURCE.coco()), "labels/train/p0.txt"),
    "manifest": (written("manifest", _FOLDERS), "export.manifest"),
    "audio_folders": (_WAVES, "a/0.wav"),
    "ts": (_TS, "x_TRAIN.ts"),
    "sensor_csv": (_RECORDINGS, "1.csv"),
}


@pytest.mark.parametrize("format_", sorted(CASES))
@FEW
@given(st.data())
def test_bytes_changed_cut_and_put_in(format_: str, data: st.DataObject) -> None:
    files, name = CASES[format_]
    raw = bytearray(files[name])
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(raw)))
        kind = data.draw(st.sampled_from(["cut", "put", "change", "repeat"]))
        if kind == "cut":
            del raw[at : at + data.draw(st.integers(1, 60))]
        elif kind == "put":
            raw[at:at] = data.draw(st.binary(min_size=1, max_size=8))
        elif kind == "repeat":
            raw += raw[at : at + 200]
        elif at < len(raw):
            raw[at] = data.draw(st.integers(0, 255))
    imported({**files, name: bytes(raw)}, format=format_)
