"""formats.dataset: descriptor, packs, reader, digest."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modelyard.core.artifacts import Blob
from modelyard.core.errors import Cancelled, DataLoss, InvalidArgument
from modelyard.formats import dataset as files
from tests.support.datasets import file_store, publish_pictures, publish_table

BLOB = Blob("artifact://dataset/" + "0" * 64, "0" * 64, 7)
names = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
columns = st.builds(
    files.Column,
    name=names,
    type=st.sampled_from([files.NUMERIC, files.CATEGORICAL]),
    role=st.sampled_from([files.FEATURE, files.TARGET, files.SET_ASIDE]),
    missing_count=st.integers(0, 10**9),
    categories=st.lists(names, max_size=3).map(tuple),
)
descriptors = st.builds(
    files.DatasetDescriptor,
    task=st.sampled_from(files.TASKS),
    kind=st.sampled_from([files.IMAGE, files.TABLE]),
    manifest=st.just(BLOB),
    digest=st.just("ab" * 32),
    classes=st.lists(names, max_size=4).map(tuple),
    columns=st.lists(columns, max_size=3).map(tuple),
    packs=st.lists(st.just(BLOB), max_size=3).map(tuple),
    table=st.none() | st.just(BLOB),
    counts=st.dictionaries(st.sampled_from(files.USAGES), st.builds(files.UsageCount, st.integers(0, 99), st.just((1, 2)))),
    seed=st.integers(-(2**62), 2**62),
    ratio=st.just("0.8"),
)


@given(descriptors)
@settings(max_examples=60, deadline=None)
def test_descriptor_round_trip(descriptor: files.DatasetDescriptor) -> None:
    data = files.to_json(descriptor)
    assert files.from_json(data) == descriptor
    assert files.to_json(files.from_json(data)) == data


def test_unknown_keys_other_formats_and_garbage_are_refused() -> None:
    good = json.loads(files.to_json(files.DatasetDescriptor(files.IMAGE_CLASSIFICATION, files.IMAGE, BLOB, "ab" * 32)))
    others: list[object] = [good | {"surprise": 1}, good | {"format": "modelyard.dataset/2"}, {"task": 1}, []]
    for bad in others:
        with pytest.raises(DataLoss) as caught:
            files.from_json(json.dumps(bad).encode())
        assert caught.value.reason == "DESCRIPTOR_UNREADABLE"
    with pytest.raises(DataLoss):
        files.from_json(b"\xff not json")


def test_packs_close_when_full_and_keep_every_byte(tmp_path: Path) -> None:
    writer = files.PackWriter(tmp_path, pack_bytes=100)
    examples = [bytes([i]) * size for i, size in enumerate((60, 40, 1, 250, 30))]
    spans = [writer.append(data) for data in examples]
    packs = [path.read_bytes() for path in writer.close()]
    assert [packs[span.pack][span.offset : span.offset + span.length] for span in spans] == examples
    assert [len(pack) for pack in packs] == [100, 1, 250, 30]


@pytest.fixture
def reader(tmp_path: Path) -> files.DatasetReader:
    store = file_store(tmp_path)
    pictures = np.random.default_rng(0).integers(0, 256, (90, 6, 5, 3), dtype=np.uint8)
    return files.open_dataset(store, publish_pictures(store, pictures, [f"c{i % 3}" for i in range(90)]))


def test_reader_gives_pictures_labels_and_ids_in_one_order(reader: files.DatasetReader) -> None:
    expected = np.random.default_rng(0).integers(0, 256, (90, 6, 5, 3), dtype=np.uint8)
    seen = []
    for usage in files.USAGES:
        rows = reader.indices(usage)
        decoded = reader.pictures(usage, 6, 5, 3)
        assert np.array_equal(decoded, expected[rows])
        assert np.array_equal(reader.labels(usage), rows % 3)
        assert reader.paths(usage) == [f"row {row}" for row in rows]
        assert len(list(reader.picture_bytes(usage))) == len(reader.example_ids(usage)) == len(rows)
        seen += rows.tolist()
    assert sorted(seen) == list(range(90)) == list(range(len(reader)))


def test_reader_tells_progress_and_stops(reader: files.DatasetReader) -> None:
    told: list[tuple[int, int]] = []
    reader.pictures("train", 4, 4, 1, on_progress=lambda done, total: told.append((done, total)))
    assert told[-1] == (len(reader.indices("train")),) * 2
    with pytest.raises(Cancelled):
        reader.pictures("train", 4, 4, 1, should_stop=lambda: True)


def test_reader_names_a_wrong_usage_and_a_missing_table(reader: files.DatasetReader) -> None:
    with pytest.raises(InvalidArgument, match="'testing'"):
        reader.indices("testing")
    with pytest.raises(InvalidArgument, match="no table"):
        reader.table("train")


def test_reader_of_a_table(tmp_path: Path) -> None:
    store = file_store(tmp_path)
    values: dict[str, Sequence[Any]] = {
        "x": [float(i) for i in range(40)],
        "colour": ["red", None] * 20,
        "y": [i * 2.0 for i in range(40)],
    }
    blob = publish_table(store, values, "y", task=files.TABULAR_REGRESSION)
    reader = files.open_dataset(store, blob)
    for usage in files.USAGES:
        table = reader.table(usage)
        assert table.column_names == ["x", "colour", "y"]
        assert np.array_equal(reader.targets(usage), np.asarray(table["x"]) * 2)
        assert np.array_equal(reader.labels(usage), reader.targets(usage))


def _manifest(order: list[int], usage: str = "train") -> pa.Table:
    rows = [[f"id{i}" for i in order], [usage] * len(order), [f"c{i % 2}" for i in order], [f"{i:064x}" for i in order]]
    return pa.table(dict(zip(("example_id", "usage", "label", "sha256"), rows, strict=True)))


def _digest(manifest: pa.Table, classes: tuple[str, ...] = ("c0", "c1")) -> str:
    return files.digest(manifest, task=files.IMAGE_CLASSIFICATION, classes=classes, columns=(), target="")


@given(st.permutations(range(9)))
def test_digest_does_not_depend_on_the_order_or_the_chunks(order: list[int]) -> None:
    whole = _manifest(sorted(order))
    assert _digest(_manifest(order)) == _digest(whole)
    assert _digest(pa.concat_tables([whole.slice(0, 4), whole.slice(4)])) == _digest(whole)


def test_digest_depends_on_content_usage_and_schema() -> None:
    digests = [
        _digest(_manifest([0, 1, 2])),
        _digest(_manifest([0, 1])),
        _digest(_manifest([0, 1, 2], "test")),
        _digest(_manifest([0, 1, 2]), ("c1", "c0")),
    ]
    assert len(set(digests)) == 4


@pytest.mark.parametrize("labels", [["a", None, 'qu"ote', "back\\slash"], ["\u00fc\n\t", "\x00", "\u2028", ""]])
def test_the_digest_is_that_of_the_rows_as_json(labels: list[str | None]) -> None:
    """Put together column by column, it is what json.dumps makes row by row: digests of earlier releases stay valid."""
    rows = [(f"{number:064x}", label, "train", None) for number, label in enumerate(labels)]
    table = pa.table(dict(zip(("sha256", "label", "usage", "annotation"), map(list, zip(*rows, strict=True)), strict=True)))
    table = table.set_column(3, "annotation", pa.nulls(len(rows), pa.string()))
    schema = {"task": "t", "classes": ["x"], "columns": [], "target": ""}
    state = hashlib.sha256(json.dumps(schema, ensure_ascii=False, sort_keys=True).encode())
    for row in rows:
        state.update((json.dumps(row, ensure_ascii=False) + "\n").encode())
    assert files.digest(table, task="t", classes=["x"], columns=(), target="") == state.hexdigest()
