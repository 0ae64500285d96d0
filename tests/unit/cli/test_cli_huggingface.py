"""Hugging Face datasets on disk, as `save_to_disk` writes them, become sources of ours; what has no counterpart is named."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from modelyard.cli.huggingface import converted, is_one
from modelyard.client import InvalidArgument
from tests.support.report_facts import picture
from tests.unit.cli.conftest import Run

LABELS = {"_type": "ClassLabel", "names": ["cat", "dog/wolf"]}
IMAGE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])


def saved(folder: Path, columns: dict[str, Any], features: dict[str, Any]) -> Path:
    """A dataset of one split, in two Arrow files."""
    folder.mkdir(parents=True)
    table = pa.table(columns)
    half = table.num_rows // 2
    names = ["data-00000-of-00002.arrow", "data-00001-of-00002.arrow"]
    for name, part in zip(names, (table.slice(0, half), table.slice(half)), strict=True):
        with pa.OSFile(str(folder / name), "wb") as file, pa.ipc.new_stream(file, table.schema) as stream:
            stream.write_table(part)
    (folder / "dataset_info.json").write_text(json.dumps({"features": features}))
    (folder / "state.json").write_text(json.dumps({"_data_files": [{"filename": name} for name in names]}))
    return folder


def table_of(folder: Path, rows: int = 4) -> Path:
    columns = {"age": list(range(rows)), "kind": [at % 2 for at in range(rows - 1)] + [None]}
    return saved(folder, columns, {"age": {"_type": "Value", "dtype": "int64"}, "kind": LABELS})


def test_a_table_gets_the_names_of_its_classes(tmp_path: Path) -> None:
    source = table_of(tmp_path / "ds")
    assert is_one(source)
    found = pq.read_table(converted(source, tmp_path / "out"))
    assert found.to_pydict() == {"age": [0, 1, 2, 3], "kind": ["cat", "dog/wolf", "cat", None]}


def test_splits_become_a_usage(tmp_path: Path) -> None:
    for name, rows in (("train", 4), ("validation", 2), ("test", 3)):
        table_of(tmp_path / "ds" / name, rows)
    (tmp_path / "ds" / "dataset_dict.json").write_text(json.dumps({"splits": ["train", "validation", "test"]}))
    assert is_one(tmp_path / "ds")
    found = pq.read_table(converted(tmp_path / "ds", tmp_path / "out"))
    assert found.column("usage").to_pylist() == ["train"] * 4 + ["validation"] * 2 + ["test"] * 3


def test_pictures_become_class_folders(tmp_path: Path) -> None:
    content = picture()
    columns = {"image": pa.array([{"bytes": content, "path": None}] * 3, IMAGE), "label": [0, 1, 1]}
    saved(tmp_path / "ds" / "train", columns, {"image": {"_type": "Image"}, "label": LABELS})
    (tmp_path / "ds" / "dataset_dict.json").write_text(json.dumps({"splits": ["train"]}))
    out = converted(tmp_path / "ds", tmp_path / "out")
    files = sorted(str(path.relative_to(out)) for path in out.rglob("*.png"))
    assert files == ["train/cat/0000000.png", "train/dog_wolf/0000001.png", "train/dog_wolf/0000002.png"]
    assert (out / files[0]).read_bytes() == content


@pytest.mark.parametrize(
    ("features", "said"),
    [
        ({"age": {"_type": "Sequence"}, "kind": LABELS}, "features age"),
        ({"age": {"_type": "Image"}, "kind": {"_type": "Value"}}, "1 columns of media and 0 of classes"),
        ({}, "features nothing"),
    ],
)
def test_what_has_no_counterpart_is_named(tmp_path: Path, features: dict[str, Any], said: str) -> None:
    source = saved(tmp_path / "ds", {"age": [1, 2], "kind": [0, 1]}, features)
    with pytest.raises(InvalidArgument, match=said):
        converted(source, tmp_path / "out")


def test_files_outside_and_broken_ones_are_refused(tmp_path: Path) -> None:
    source = table_of(tmp_path / "ds")
    (source / "state.json").write_text(json.dumps({"_data_files": [{"filename": "../../etc/passwd"}]}))
    with pytest.raises(InvalidArgument, match="outside of"):
        converted(source, tmp_path / "out")
    (source / "state.json").write_text(json.dumps({"_data_files": [{"filename": "dataset_info.json"}]}))
    with pytest.raises(InvalidArgument, match="is no Arrow stream"):
        converted(source, tmp_path / "out")
    (tmp_path / "ds" / "dataset_dict.json").write_text(json.dumps({"splits": ["../up"]}))
    with pytest.raises(InvalidArgument, match="must be folders called"):
        converted(source, tmp_path / "out")


def test_an_import_takes_it(run: Run, tmp_path: Path) -> None:
    ended = run("dataset", "import", table_of(tmp_path / "ds"), "--name", "flowers", "--label", "kind")
    assert ended.status == 0, ended.err
    assert "is a Hugging Face dataset" in ended.err
