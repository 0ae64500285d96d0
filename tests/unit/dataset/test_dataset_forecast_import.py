"""Series that are to be forecast, through the real import and publication."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from modelyard.core.errors import InvalidArgument
from modelyard.dataset.domain.records import FREEZE_TEST
from modelyard.formats.dataset import load_manifest, open_dataset, to_json
from modelyard.formats.forecasts import tracks
from tests.unit.dataset.test_dataset_report_publish import Bench

FORECAST = {"task": "forecasting"}


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def table(count: int, header: str = "rownames,time,value") -> bytes:
    return "\n".join([header, *(f"{at + 1},{1949 + at / 12:.6f},{at * 1.5}" for at in range(count))]).encode()


def test_a_series_is_cut_in_time_and_comes_back_whole(bench: Bench) -> None:
    made = bench.imported(table(144), "passengers.csv", **FORECAST)
    assert made.content.task == "forecasting"
    assert made.content.channels == ("value",)  # the count of the rows is no channel
    assert made.content.time_column == "time"
    assert made.summary.examples_with_usage == made.summary.example_count == 3
    assert any("cut in time" in note for note in made.summary.assumptions)
    published = bench.publish(made)
    assert {usage: count.examples for usage, count in published.descriptor.counts.items()} == {
        "train": 1,
        "validation": 1,
        "test": 1,
    }
    with open_dataset(bench.store, published.descriptor_blob) as reader:
        (track,) = tracks(reader)
    assert track.name == "passengers.csv"
    assert track.values[:, 0] == pytest.approx(np.arange(144) * 1.5)
    assert [(part.usage, part.first, part.last) for part in track.parts] == [
        ("train", 0, 101),
        ("validation", 101, 115),
        ("test", 115, 144),
    ]


def test_whoever_trains_does_not_get_the_frozen_future(bench: Bench) -> None:
    published = bench.publish(bench.imported(table(100), "a.csv", **FORECAST), test_policy=FREEZE_TEST)
    assert published.training is not None
    with open_dataset(bench.store, bench.store.put_bytes(to_json(published.training))) as reader:
        (track,) = tracks(reader)
    assert [part.usage for part in track.parts] == ["train", "validation"]
    assert len(track.values) == 80


def test_a_folder_of_series_and_the_columns_that_are_named(bench: Bench) -> None:
    files = {f"{name}.csv": table(60, "date,speed,load").replace(b"\n", b"\n2020") for name in ("north/a", "south/a")}
    made = bench.imported(files, "plants.zip", label_column="load", **FORECAST)
    assert made.summary.example_count == 6
    assert made.content.channels == ("load",)
    with open_dataset(bench.store, bench.publish(made).descriptor_blob) as reader:
        assert [track.name for track in tracks(reader)] == ["north/a.csv", "south/a.csv"]


@pytest.mark.parametrize(
    ("data", "options", "reason"),
    [
        (table(10), {}, "NO_EXAMPLES"),  # too short: left out, and nothing is left
        (table(60), {"label_column": "price"}, "COLUMN_MISSING"),
        (table(60), {"time_column": "when"}, "COLUMN_MISSING"),
        (b"time\n" + b"\n".join(b"%d" % at for at in range(60)), {}, "NO_CHANNELS"),
        (b"time,v\n" + b"\n".join(b"%d,1" % (at % 7) for at in range(60)), {}, "NO_EXAMPLES"),  # times that fall
        (b"time,v\n" + b"\n".join(b"%d,good" % at for at in range(60)), {}, "NO_EXAMPLES"),
    ],
)
def test_what_is_no_series_is_refused_with_the_reason(bench: Bench, data: bytes, options: dict[str, str], reason: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        bench.imported(data, "a.csv", **FORECAST, **options)
    assert caught.value.reason == reason


@pytest.mark.parametrize(
    ("names", "usages"),
    [
        (("pump_TRAIN.csv", "pump_TEST.csv"), {"train": 1, "test": 1}),
        (("test_1.csv", "test_2.csv"), {None: 2}),  # runs of a test bench: nothing says which to learn from
        (("train/test_1.csv", "test/pump_TRAIN.csv"), {"train": 1, "test": 1}),
    ],
)
def test_recordings_named_train_and_test_stay_so(bench: Bench, names: tuple[str, ...], usages: dict[str | None, int]) -> None:
    made = bench.imported({name: table(60, "time,a,b") for name in names}, "r.zip", task="anomaly_detection")
    manifest = load_manifest(bench.store, made.content, ["usage", "path"])
    found = manifest["usage"].to_pylist()
    assert {usage: found.count(usage) for usage in set(found)} == usages
    for path, usage in zip(manifest["path"].to_pylist(), found, strict=True):
        assert usage is None or "/" not in path or path.startswith(usage)


def test_a_quality_report_reads_series_without_labels(bench: Bench) -> None:
    """Gaps are named; nothing is said of labels, which there are none of."""
    rows = table(200, "time,n,value").decode().splitlines()
    rows[50:70] = [line.rsplit(",", 1)[0] + "," for line in rows[50:70]]
    found = bench.report(bench.imported("\n".join(rows).encode(), "a.csv", label_column="value", **FORECAST))
    assert any("MISSING" in kind for kind in found), sorted(found)
    assert not any("LABEL" in kind for kind in found)
