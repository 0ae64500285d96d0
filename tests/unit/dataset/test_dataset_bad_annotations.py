"""What is wrong in annotation files: named with file, line or id, value and what is right; most is gone on with."""

from __future__ import annotations

import io
import json
import struct
import tarfile
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from modelyard.core.errors import Cancelled, InvalidArgument
from modelyard.dataset.domain.records import Finding, ImportResult, ImportSpec
from modelyard.dataset.domain.work import Work
from modelyard.dataset.worker import import_job
from modelyard.formats import dataset as files
from modelyard.formats.dataset_audio import probe, samples, write_wav
from tests.support.marked import picture, zipped
from tests.unit.dataset.test_dataset_report_publish import Bench


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def coco(**changes: Any) -> dict[str, Any]:
    """Two pictures, two classes, two boxes."""
    document: dict[str, Any] = {
        "images": [{"id": i, "file_name": f"{i}.png", "width": 24, "height": 18} for i in (1, 2)],
        "categories": [{"id": 5, "name": "cat"}, {"id": 9, "name": "dog"}],
        "annotations": [
            {"id": 1, "image_id": 1, "category_id": 5, "bbox": [1, 2, 3, 4]},
            {"id": 2, "image_id": 2, "category_id": 9, "bbox": [1.5, 2, 3, 4], "iscrowd": 1},
        ],
    }
    return document | changes


def coco_zip(document: Any, names: tuple[str, ...] = ("1.png", "2.png")) -> bytes:
    text = document if isinstance(document, str) else json.dumps(document)
    return zipped(
        {**{f"images/{name}": picture(place) for place, name in enumerate(names)}, "annotations/instances_train.json": text}
    )


def found(result: ImportResult) -> dict[str, Finding]:
    return {finding.kind: finding for finding in result.findings}


def reader(bench: Bench, result: ImportResult) -> files.DatasetReader:
    return files.open_dataset(bench.store, bench.publish(result).descriptor_blob)


def test_coco_is_read(bench: Bench) -> None:
    result = bench.imported(coco_zip(coco()), "c.zip")
    assert (result.format, result.content.task) == ("coco", files.OBJECT_DETECTION)
    assert (result.summary.classes, result.summary.class_counts) == (("cat", "dog"), (1, 1))
    assert result.summary.examples_with_usage == 2
    assert result.findings == ()
    manifest = files.read_parquet(bench.store.path(result.content.manifest))
    assert manifest["marks"].to_pylist()[1][0]["box"] == [1.5, 2.0, 4.5, 6.0]
    assert json.loads(manifest["marks"].to_pylist()[1][0]["attributes"]) == {"iscrowd": "1"}


def _with(annotation: Mapping[str, Any]) -> dict[str, Any]:
    base = coco()
    return base | {"annotations": [*base["annotations"], {"id": 3, "image_id": 1, "category_id": 5, **annotation}]}


@pytest.mark.parametrize(
    ("annotation", "kind", "marks", "words"),
    [
        ({"bbox": [1, 2, 0, 4]}, "DEGENERATE_BOX", 3, ("annotation 3", "[1, 2, 1, 6]", '"cat"')),
        ({"bbox": [9, 2, -3, 4]}, "TURNED_BOX", 3, ("annotation 3", "left must be below right")),
        ({"bbox": [1, 2, "x", 4]}, "BAD_BOX", 2, ("annotation 3", "'x'", "four finite numbers")),
        ({"bbox": [1, 2, float("nan"), 4]}, "BAD_BOX", 2, ("annotation 3", "four finite numbers")),
        ({}, "BAD_BOX", 2, ("annotation 3", "no box")),
        ({"bbox": [20, 2, 30, 4]}, "BOX_OUTSIDE", 3, ("[20, 2, 50, 6]", "24 x 18")),
        ({"bbox": [1, 2, 3, 4], "segmentation": [[1, 1, 2, 2]]}, "BAD_POLYGON", 3, ("2 points", "three points")),
        ({"bbox": [1, 2, 3, 4], "category_id": 7}, "UNKNOWN_CATEGORY", 2, ("category_id is 7", "5, 9")),
        ({"bbox": [1, 2, 3, 4], "image_id": 70}, "UNKNOWN_PICTURE", 2, ("image_id 70", "1 annotations")),
        ({"bbox": [1, 2, 3, 4], "id": 2}, "DOUBLED_ID", 3, ("annotations has the id 2",)),
        (
            {"bbox": [1, 2, 3, 4], "segmentation": {"size": [18, 24], "counts": [5, 9]}},
            "BAD_MASK",
            3,
            ("14 pixels", "[18, 24]"),
        ),
        ({"bbox": [1, 2, 3, 4], "segmentation": {"size": [18, 24], "counts": "\u00ff"}}, "BAD_MASK", 3, ("annotation 3",)),
    ],
)
def test_what_coco_gets_wrong(bench: Bench, annotation: dict[str, Any], kind: str, marks: int, words: tuple[str, ...]) -> None:
    result = bench.imported(coco_zip(_with(annotation)), "c.zip")
    assert sum(result.summary.class_counts) == marks
    assert list(found(result)) == [kind]
    for word in words:
        assert word in found(result)[kind].message
    assert "instances_train.json" in found(result)[kind].message
    assert found(result)[kind].action


def test_a_missing_picture_is_listed_and_an_unknown_one_too(bench: Bench) -> None:
    result = bench.imported(coco_zip(coco(), ("1.png", "extra.png")), "c.zip")
    assert {(each.path, each.reason) for each in result.summary.rejected} == {
        ("2.png", "MISSING_FILE"),
        ("images/extra.png", "NO_ANNOTATION"),
    }
    assert result.summary.example_count == 1


def test_all_pictures_missing_is_refused_with_the_first(bench: Bench) -> None:
    with pytest.raises(InvalidArgument, match=r"1\.png") as caught:
        bench.imported(zipped({"instances.json": json.dumps(coco())}), "c.zip")
    assert caught.value.reason == "NO_EXAMPLES"


def test_a_file_named_twice_is_joined_and_nothing_is_doubled(bench: Bench) -> None:
    base = coco()
    document = base | {
        "images": [*base["images"], {"id": 3, "file_name": "1.png", "width": 24, "height": 18}],
        "annotations": [
            *base["annotations"],
            {"id": 3, "image_id": 3, "category_id": 5, "bbox": [1, 2, 3, 4]},
            {"id": 4, "image_id": 3, "category_id": 9, "bbox": [4, 4, 3, 4]},
        ],
    }
    result = bench.imported(coco_zip(document), "c.zip")
    assert (result.summary.example_count, result.summary.class_counts) == (2, (1, 2))
    assert "names images/1.png twice" in found(result)["DOUBLED_FILE"].message


@pytest.mark.parametrize(
    ("document", "reason", "words"),
    [
        (coco(images=[{"id": 1, "file_name": "1.png"}, {"id": 1, "file_name": "2.png"}]), "DOUBLED_ID", "'1.png' and '2.png'"),
        (coco(categories=[{"id": 5, "name": "cat"}, {"id": 5, "name": "dog"}]), "DOUBLED_ID", "'cat' and 'dog'"),
        (coco(categories=[{"id": 5}]), "BAD_COCO", "name"),
        (coco(images=[{"id": 5}]), "BAD_COCO", "file_name"),
        (coco(annotations=[7]), "BAD_COCO", "image_id"),
        (json.dumps(coco())[:-20], "BAD_JSON", "line 1"),
        (json.dumps(coco()).replace('"categories"', '"categories'), "BAD_JSON", "line"),
        ('{"images": [' + "[" * 100_000, "BAD_JSON", "nested"),
        (coco(annotations=[], categories=[]), "NO_CLASSES", "no class"),
    ],
)
def test_coco_that_is_refused(bench: Bench, document: Any, reason: str, words: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        bench.imported(coco_zip(document), "c.zip")
    assert caught.value.reason == reason
    assert words in caught.value.message


VOC = """<annotation><filename>{name}</filename><size><width>24</width><height>18</height></size>
<object><name>cat</name><bndbox><xmin>{xmin}</xmin><ymin>2</ymin><xmax>9</xmax><ymax>9</ymax></bndbox></object></annotation>"""


def voc_zip(text: str, **more: bytes | str) -> bytes:
    good = VOC.format(name="b.png", xmin=1)
    return zipped({"a.png": picture(1), "b.png": picture(2), "a.xml": text, "b.xml": good, **more})


def test_a_voc_box_with_its_corners_turned(bench: Bench) -> None:
    result = bench.imported(voc_zip(VOC.format(name="a.png", xmin=12)), "v.zip")
    assert (result.format, sum(result.summary.class_counts)) == ("voc", 2)
    assert "a.xml: object 1: the box [12, 2, 9, 9]" in found(result)["TURNED_BOX"].message


BOMB = """<!DOCTYPE a [<!ENTITY b "bbbb"><!ENTITY c "&b;&b;">]><annotation><filename>&c;</filename></annotation>"""
OUTSIDE = """<!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/passwd">]><annotation><filename>&x;</filename></annotation>"""


@pytest.mark.parametrize(
    ("text", "reason", "words"),
    [
        (BOMB, "XML_ENTITY", "entities (b)"),
        (OUTSIDE, "XML_ENTITY", "entities (x)"),
        ("<annotation><filename>a.png</filename>", "BAD_XML", "line 1"),
        ("<annotation>" + "<x>" * 100 + "</x>" * 100 + "</annotation>", "BAD_XML", "64 deep"),
        (VOC.format(name="gone.png", xmin=1).replace("a.png", "c.png"), "", "NAME_MISMATCH"),
    ],
)
def test_xml_that_is_not_read_leaves_out_its_picture_alone(bench: Bench, text: str, reason: str, words: str) -> None:
    result = bench.imported(voc_zip(text), "v.zip")
    if not reason:
        assert words in found(result)
        return
    assert result.summary.example_count == 1
    listed = {each.path: each for each in result.summary.rejected}
    assert (listed["a.xml"].reason, words in listed["a.xml"].message) == (reason, True)
    assert listed["a.png"].reason == "NO_ANNOTATION"


def test_yolo_lines_that_are_wrong(bench: Bench) -> None:
    lines = "0 0.5 0.5 0.1 0.2\n7 0.5 0.5 0.1 0.1\nnan 1 1 1 1\n0 0.9 0.5 0.9 0.1\n"
    sources = {"images/train/a.png": picture(1), "labels/train/a.txt": lines, "data.yaml": "names: [cat, dog]\nnc: 2\n"}
    result = bench.imported(zipped({**sources, "images/val/b.png": picture(2)}), "y.zip", format="yolo")
    assert (result.content.task, result.summary.class_counts) == (files.OBJECT_DETECTION, (2, 0))
    problems = found(result)
    assert "labels/train/a.txt: line 2: class index 7; the list of classes has 2" in problems["UNKNOWN_CATEGORY"].message
    assert "labels/train/a.txt: line 3" in problems["BAD_LINE"].message
    assert "BOX_OUTSIDE" in problems
    assert any("an empty label file or none: 1 picture." in note for note in result.summary.assumptions)


@pytest.mark.parametrize("text", ["names: {a: b", "names: 3", "names: &a [*a]", "names: !!python/object:os.system x"])
def test_a_data_yaml_that_cannot_be_read(bench: Bench, text: str) -> None:
    sources = {"images/a.png": picture(1), "labels/a.txt": "0 0.5 0.5 0.1 0.2", "data.yaml": text}
    with pytest.raises(InvalidArgument, match=r"data\.yaml") as caught:
        bench.imported(zipped(sources), "y.zip")
    assert caught.value.reason == "BAD_YAML"


def test_labelme_and_cvat_say_what_they_leave_out(bench: Bench) -> None:
    shapes = [
        {"label": "cat", "points": [[1, 1], [5, 5]], "shape_type": "circle"},
        {"label": "cat", "points": [[1, 1], [5, 1], [5, 5]], "shape_type": "polygon", "flags": {"occluded": True}},
    ]
    document = {"version": "5", "shapes": shapes, "imagePath": "..\\x\\a.png", "imageHeight": 18, "imageWidth": 24}
    result = bench.imported(zipped({"a.png": picture(1), "a.json": json.dumps(document)}), "l.zip")
    assert (result.format, result.content.task) == ("labelme", files.INSTANCE_SEGMENTATION)
    assert "shape 1 is of shape_type 'circle'" in found(result)["UNSUPPORTED_SHAPE"].message
    box = '<box label="cat" xtl="1" ytl="2" xbr="3" ybr="4"/>'
    image = f'<image id="0" name="a.png" width="24" height="18"><ellipse label="cat"/>{box}'
    result = bench.imported(zipped({"a.png": picture(1), "x.xml": f"<annotations>{image}</image></annotations>"}), "c.zip")
    assert (result.format, result.summary.class_counts) == ("cvat", (1,))
    assert "<ellipse>" in found(result)["UNSUPPORTED_SHAPE"].message


def test_labelme_and_cvat_give_named_key_points(bench: Bench) -> None:
    def point(name: str, x: float, y: float, **more: object) -> dict[str, object]:
        return {"label": name, "points": [[x, y]], "shape_type": "point", **more}

    box = {"label": "meter", "points": [[1, 1], [20, 15]], "shape_type": "rectangle"}
    one = {"imagePath": "a.png", "imageHeight": 18, "imageWidth": 24, "shapes": [box, point("tip", 9, 2), point("centre", 10, 8)]}
    other = {
        "imagePath": "b.png",
        "imageHeight": 18,
        "imageWidth": 24,
        "shapes": [point("begin", 5, 12, group_id=4), point("centre", 8, 9, group_id=4), point("tip", "x", 1)],
    }
    sources = {"a.png": picture(1), "a.json": json.dumps(one), "b.png": picture(2), "b.json": json.dumps(other)}
    result = bench.imported(zipped(sources), "l.zip")
    assert (result.content.task, result.content.keypoints) == (files.KEYPOINT_DETECTION, ("tip", "centre", "begin"))
    assert result.summary.classes == ("meter", "object")
    assert "a point is [['x', 1]]" in found(result)["BAD_POLYGON"].message
    with files.open_dataset(bench.store, bench.publish(result).descriptor_blob) as reader:
        marks = [one for usage in files.USAGES for one in reader.annotations(usage).marks().keypoints.tolist()]
    assert sorted(marks) == [
        [[0, 0, 0], [8, 9, 2], [5, 12, 2]],
        [[9, 2, 2], [10, 8, 2], [0, 0, 0]],
    ]
    inner = '<points label="tip" points="9,2" outside="0" occluded="1"/><points label="end" points="1,1" outside="1"/>'
    image = f'<image id="0" name="a.png" width="24" height="18"><skeleton label="meter">{inner}</skeleton>'
    more = '<points label="centre" points="10,8"/><points label="bad" points="1;2"/>'
    labels = "<meta><task><labels><label><name>meter</name></label><label><name>tip</name></label></labels></task></meta>"
    result = bench.imported(
        zipped({"a.png": picture(1), "x.xml": f"<annotations>{labels}{image}{more}</image></annotations>"}), "c.zip"
    )
    assert (result.content.task, result.content.keypoints) == (files.KEYPOINT_DETECTION, ("tip", "centre"))
    assert result.summary.classes == ("meter", "object")
    assert "points are '1;2'" in found(result)["BAD_POLYGON"].message


def test_masks_of_another_size_and_values_without_a_name(bench: Bench) -> None:
    from modelyard.formats.pictures import encode_png

    good = np.arange(18 * 24).reshape(18, 24).astype(np.uint8) % 3
    sources = {
        "images/a.png": picture(1),
        "images/b.png": picture(2),
        "masks/a.png": encode_png(good),
        "masks/b.png": encode_png(good[:5]),
        "classes.txt": "sky\nroad\n",
    }
    result = bench.imported(zipped(sources), "m.zip")
    assert [(each.path, each.reason) for each in result.summary.rejected] == [("images/b.png", "MASK_SIZE")]
    assert "masks/a.png holds 2" in found(result)["UNKNOWN_MASK_VALUE"].message


def test_a_task_that_the_source_does_not_say_is_refused(bench: Bench) -> None:
    with pytest.raises(InvalidArgument, match="object_detection, image_multilabel") as caught:
        bench.imported(coco_zip(coco()), "c.zip", task=files.INSTANCE_SEGMENTATION)
    assert caught.value.reason == "BAD_TASK"


def test_boxes_as_several_labels_when_the_user_says_so(bench: Bench) -> None:
    result = bench.imported(coco_zip(coco()), "c.zip", task=files.IMAGE_MULTILABEL)
    assert (result.content.task, result.summary.class_counts) == (files.IMAGE_MULTILABEL, (1, 1))


# Sounds


def test_sounds_cut_short_empty_or_none_are_left_out(bench: Bench) -> None:
    whole = write_wav(np.arange(100, dtype=np.int16), 8000)
    sources = {f"{name}/{i}.wav": write_wav(np.full(50, i + 1, np.int16), 8000) for name in ("on", "off") for i in range(2)}
    bad = {
        "on/cut.wav": whole[:-20],
        "on/no.wav": b"RIFF",
        "on/zero.wav": write_wav(np.empty(0, np.int16), 8000),
        "on/empty.flac": b"",
    }
    result = bench.imported(zipped({**sources, **bad}), "s.zip")
    assert result.summary.class_counts == (2, 2)
    listed = {each.path: each for each in result.summary.rejected}
    assert {path: each.reason for path, each in listed.items()} == {
        "on/cut.wav": "TRUNCATED_SOUND",
        "on/no.wav": "NOT_A_SOUND",
        "on/zero.wav": "EMPTY_SOUND",
        "on/empty.flac": "EMPTY_FILE",
    }
    assert "200 bytes of samples, the file holds 180" in listed["on/cut.wav"].message


@pytest.mark.parametrize("subtype", ["PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE"])
def test_wav_is_read_as_libsndfile_reads_it(subtype: str) -> None:
    import soundfile

    values = np.random.default_rng(0).uniform(-0.9, 0.9, (64, 2))
    out = io.BytesIO()
    soundfile.write(out, values, 16_000, format="WAV", subtype=subtype)
    expected, _ = soundfile.read(io.BytesIO(out.getvalue()), dtype="float32")
    got, rate = samples(out.getvalue())
    assert (rate, probe(out.getvalue(), name="x").frames) == (16_000, 64)
    np.testing.assert_allclose(got, expected, atol=1e-7)


def test_flac_and_what_recorders_write_that_cannot_go_back() -> None:
    import soundfile

    values = np.random.default_rng(0).integers(-9000, 9000, 4000).astype(np.int16)
    out = io.BytesIO()
    soundfile.write(out, values, 8000, format="FLAC")
    got, rate = samples(out.getvalue())
    assert rate == 8000
    np.testing.assert_array_equal(np.round(got[:, 0] * 32768).astype(np.int16), values)
    with pytest.raises(InvalidArgument, match="cut short"):
        probe(out.getvalue()[:-200], name="cut.flac")
    wav = bytearray(write_wav(values, 8000))
    struct.pack_into("<I", wav, 40, 0xFFFFFFFF)
    assert probe(bytes(wav), name="live.wav").frames == 4000


# Series


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("1,2:a\n", "@data"),
        ("@classLabel true a b\n1,2:a", "line 2"),
        ("@classLabel false\n@data\n1,2", "@classLabel"),
        ("@timeStamps true\n@data\n", "timestamps"),
    ],
)
def test_ts_files_that_are_refused(bench: Bench, text: str, words: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        bench.imported(text.encode(), "x.ts", format="ts")
    assert caught.value.reason in ("BAD_TS", "NO_EXAMPLES")
    assert words in caught.value.message


def test_ts_lines_that_are_left_out(bench: Bench) -> None:
    lines = ["@problemName x", "@classLabel true a b", "@data", "1,2:a", "1,?:b", "1,x:a", "1,2:c", "1,2", "1,2,3:b"]
    result = bench.imported("\n".join(lines).encode(), "x_TEST.ts")
    assert (result.summary.class_counts, result.summary.examples_with_usage) == ((1, 2), 3)
    assert [each.path for each in result.summary.rejected] == ["x_TEST.ts: line 6", "x_TEST.ts: line 7", "x_TEST.ts: line 8"]


def test_recordings_with_ranges_and_one_that_does_not_fit(bench: Bench) -> None:
    rows = "\n".join(["time,a", *(f"{step},{step * 2}" for step in range(10))])
    sources = {
        "a.csv": rows,
        "b.csv": rows,
        "other.csv": "time,z\n1,2\n",
        "text.csv": "time,a\n1,x\n2,y\n",
        "ranges.csv": "file,start,end,label\na.csv,2,4,leak\na.csv,3,6,leak\nb.csv,90,95,leak\n",
    }
    result = bench.imported(zipped(sources), "r.zip", format="sensor_csv")
    assert (result.content.task, result.summary.classes) == (files.ANOMALY_DETECTION, ("leak",))
    assert {each.path: each.reason for each in result.summary.rejected} == {
        "other.csv": "DIFFERENT_CHANNELS",
        "text.csv": "NOT_A_CHANNEL",
    }
    assert "'90' to '95'" in found(result)["BAD_INTERVAL"].message
    manifest = files.read_parquet(bench.store.path(result.content.manifest))
    assert manifest["intervals"].to_pylist() == [[{"start": 2, "end": 7, "label": 0}], []]


def test_what_workers_read(bench: Bench) -> None:
    result = bench.imported(coco_zip(_with({"bbox": [1, 2, 0, 4]})), "c.zip")
    with reader(bench, result) as opened:
        usages = [opened.annotations(usage) for usage in files.USAGES]
        marks = [each.marks() for each in usages]
        assert sum(len(each.labels) for each in marks) == 3
        assert all(each.boxes.dtype == np.float32 and each.boxes.shape == (len(each.labels), 4) for each in marks)
        assert sum(int(each.usable.sum()) for each in marks) == 2
        for said, each in zip(usages, marks, strict=True):
            assert len(each.starts) == len(said) + 1
            for number in range(len(each.labels)):
                pixels = each.pixels(number, 18, 24)
                left, top, right, bottom = each.boxes[number]
                assert pixels.shape == (18, 24)
                assert pixels.sum() >= (right - left - 1) * (bottom - top - 1)


# Archives


def tarred(sources: Mapping[str, bytes | str], mode: str = "w") -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode=mode) as archive:  # type: ignore[call-overload]
        for name, data in sources.items():
            raw = data.encode() if isinstance(data, str) else data
            info = tarfile.TarInfo(name)
            info.size = len(raw)
            archive.addfile(info, io.BytesIO(raw))
    return out.getvalue()


def sources_of(data: bytes) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


@pytest.mark.parametrize(("mode", "name"), [("w", "c.tar"), ("w:gz", "c.tar.gz"), ("w:gz", "c.tgz")])
def test_a_tar_gives_the_digest_of_the_zip(bench: Bench, mode: str, name: str) -> None:
    data = coco_zip(coco())
    one, two = bench.imported(data, "c.zip"), bench.imported(tarred(sources_of(data), mode), name)
    assert (two.format, two.summary.digest) == ("coco", one.summary.digest)


def test_a_tar_that_attacks(bench: Bench) -> None:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for name, raw in {f"{c}/{i}.png": picture(10 * k + i) for k, c in enumerate("ab") for i in range(2)}.items():
            info = tarfile.TarInfo(name)
            info.size = len(raw)
            archive.addfile(info, io.BytesIO(raw))
        for name, kind in {"a/link.png": tarfile.SYMTYPE, "a/hard.png": tarfile.LNKTYPE, "a/dev.png": tarfile.CHRTYPE}.items():
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, "/etc/passwd"
            archive.addfile(info)
        for name in ("../out.png", "/abs.png", "a/0.png"):
            info = tarfile.TarInfo(name)
            info.size = 3
            archive.addfile(info, io.BytesIO(b"xyz"))
    result = bench.imported(out.getvalue(), "t.tar")
    assert result.summary.class_counts == (2, 2)
    assert {each.path: each.reason for each in result.summary.rejected} == {
        "a/link.png": "SYMBOLIC_LINK",
        "a/hard.png": "SYMBOLIC_LINK",
        "a/dev.png": "NOT_A_FILE",
        "../out.png": "UNSAFE_NAME",
        "/abs.png": "UNSAFE_NAME",
        "a/0.png": "DUPLICATE_NAME",
    }


def test_a_tar_cut_short_says_so(bench: Bench) -> None:
    data = tarred({f"{c}/{i}.png": picture(10 * k + i) for k, c in enumerate("ab") for i in range(3)})
    result = bench.imported(data[: 5 * 2048 + 700], "t.tar")
    assert result.summary.rejected_count >= 1
    assert "t.tar" in result.summary.rejected[0].message


# Again


def test_an_import_cancelled_half_way_goes_on_with_nothing_doubled(bench: Bench) -> None:
    sources = {f"images/{i}.png": picture(i) for i in range(200)}
    images = [{"id": i, "file_name": f"{i}.png", "width": 24, "height": 18} for i in range(200)]
    boxes = [{"id": i, "image_id": i, "category_id": 5, "bbox": [1, 2, 3, 4]} for i in range(200)]
    data = zipped({**sources, "a.json": json.dumps(coco(images=images, annotations=boxes))})
    source = bench.store.put_bytes(data)
    asked = iter([False] * 4)
    with pytest.raises(Cancelled):
        import_job.run(ImportSpec("d", source, "c.zip"), bench.store, bench.folder(), Work(should_stop=lambda: next(asked, True)))
    assert [blob.uri for blob in bench.store.list()] == [source.uri]
    first = bench.imported(data, "c.zip")
    kept = {blob.uri for blob in bench.store.list()}
    second = bench.imported(data, "c.zip")
    assert second.summary == first.summary
    assert {blob.uri for blob in bench.store.list()} == kept
    assert first.summary.example_count == 200


def test_one_picture_under_two_annotations_is_a_conflict(bench: Bench) -> None:
    images = [{"id": i, "file_name": f"{i}.png", "width": 24, "height": 18} for i in range(4)]
    boxes = [{"id": i, "image_id": i, "category_id": 5, "bbox": [1, 2, 3, 4 + (i == 1)]} for i in range(4)]
    same = picture(7)
    sources = {"0.png": same, "1.png": same, "2.png": picture(8), "3.png": picture(9)}
    data = zipped({**sources, "a.json": json.dumps(coco(images=images, annotations=boxes))})
    findings = bench.report(bench.imported(data, "c.zip"))
    assert findings["CONFLICTING_LABELS"][0].examples == ("0.png", "1.png")
