"""The list of bad input that people bring, each through the real import: what is answered, and that nothing is guessed in
silence."""

from __future__ import annotations

import json
import time
from pathlib import Path

import numpy as np
import pytest

from modelyard.core.errors import InvalidArgument
from modelyard.dataset.domain.records import QUICK, ImportResult, ReportSpec
from modelyard.dataset.domain.work import Work
from modelyard.dataset.worker import report_job
from modelyard.formats import dataset as files
from modelyard.formats.dataset_audio import write_wav
from tests.support.marked import picture, zipped
from tests.unit.dataset.test_dataset_report_publish import Bench


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def column(bench: Bench, result: ImportResult, name: str) -> list[object]:
    assert result.content.table is not None
    values: list[object] = files.read_parquet(bench.store.path(result.content.table))[name].to_pylist()
    return values


ROWS = [("1.234,50", "12,5"), ("999,00", "1.000"), ("-3,25", "7"), ("1.000.000,75", "0,5")]


def test_german_numbers_with_points_between_thousands(bench: Bench) -> None:
    text = "betrag;menge;y\n" + "".join(f"{a};{b};{'ab'[n % 2]}\n" for n, (a, b) in enumerate(ROWS))
    result = bench.imported(text.encode("cp1252"))
    assert column(bench, result, "betrag") == [1234.5, 999.0, -3.25, 1000000.75]
    assert column(bench, result, "menge") == [12.5, 1000.0, 7.0, 0.5]
    assert 'Column "betrag" was read as numbers with decimal commas.' in result.summary.assumptions


def test_decimal_commas_in_quotes_where_commas_separate(bench: Bench) -> None:
    text = "x,n,y\n" + "".join(f'"{n},5","{n + 1},000",{"ab"[n % 2]}\n' for n in range(8))
    result = bench.imported(text.encode())
    assert column(bench, result, "x") == [n + 0.5 for n in range(8)]
    assert column(bench, result, "n") == [(n + 1) * 1000.0 for n in range(8)]  # thousands: the file's own commas are not decimal
    assert [note for note in result.summary.assumptions if "decimal commas" in note] == [
        'Column "x" was read as numbers with decimal commas.'
    ]


def test_a_decimal_comma_where_semicolons_separate_is_no_thousand(bench: Bench) -> None:
    text = "x;y\n" + "".join(f"{n},125;{'ab'[n % 2]}\n" for n in range(1, 9))
    assert column(bench, bench.imported(text.encode()), "x") == [n + 0.125 for n in range(1, 9)]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "cp1252"])
def test_encodings(bench: Bench, encoding: str) -> None:
    text = "größe,straße,y\n" + "".join(f"{n},Weg {n % 3} ß,{'ab'[n % 2]}\n" for n in range(40))
    result = bench.imported(text.encode(encoding))
    assert [each.name for each in result.content.columns] == ["größe", "straße", "y"]
    assert column(bench, result, "straße")[:2] == ["Weg 0 ß", "Weg 1 ß"]
    assert result.summary.rejected_count == 0


def test_an_encoding_that_is_not_read_is_named_and_what_would_be_right(bench: Bench) -> None:
    text = "名前,y\n" + "".join(f"表{n},{'ab'[n % 2]}\n" for n in range(20))
    with pytest.raises(InvalidArgument) as caught:
        bench.imported(text.encode("shift_jis") + b"\x81\x8d\x8f,a\n")
    assert caught.value.reason == "UNKNOWN_ENCODING"
    assert "t.csv" in caught.value.message
    assert "save it as UTF-8" in caught.value.message


def test_ragged_rows_are_listed_and_the_others_imported(bench: Bench) -> None:
    text = "a,b,y\n" + "".join(f"{n},{n},{'xy'[n % 2]}\n" for n in range(30)) + "1\n1,2,x,4\n\n5,6,x\n"
    result = bench.imported(text.encode())
    assert result.summary.example_count == 31
    assert [(each.path, each.reason) for each in result.summary.rejected] == [
        ("row 31", "WRONG_FIELD_COUNT"),
        ("row 32", "WRONG_FIELD_COUNT"),
    ]
    assert "row 31 has 1 fields, the header 3" in result.summary.rejected[0].message


def test_a_header_alone(bench: Bench) -> None:
    for text in (b"a,b,y\n", b"\xef\xbb\xbfa;b;y\r\n", b"a,b,y"):
        with pytest.raises(InvalidArgument) as caught:
            bench.imported(text)
        assert caught.value.reason == "NO_EXAMPLES"


@pytest.mark.slow
def test_ten_thousand_columns_are_imported_and_checked(bench: Bench) -> None:
    rng = np.random.default_rng(0)
    values = rng.normal(size=(60, 10_000)).round(3)
    values[:, 77] = values[:, 5] * 2
    lines = [",".join(f"c{number}" for number in range(10_000)) + ",y"]
    lines += [",".join(map(str, row)) + "," + "ab"[n % 2] for n, row in enumerate(values.tolist())]
    start = time.process_time()
    spec = ReportSpec("d", "i", bench.imported("\n".join(lines).encode()), depth=QUICK)
    found = report_job.run(spec, bench.store, bench.folder(), Work()).findings
    assert time.process_time() - start < 60
    assert [finding.column for finding in found if finding.kind == "REPEATED_COLUMN"] == ["c77"]


def test_a_sound_cut_short_is_left_out_and_said(bench: Bench) -> None:
    rng = np.random.default_rng(0)
    sounds: dict[str, bytes | str] = {
        f"{name}/{n}.wav": write_wav((rng.normal(size=900) * 3000).astype(np.int16), 8000)
        for name in ("yes", "no")
        for n in range(4)
    }
    whole = write_wav(np.arange(1000, dtype=np.int16), 8000)
    result = bench.imported(zipped({**sounds, "yes/cut.wav": whole[:900]}), "s.zip")
    assert [(each.path, each.reason) for each in result.summary.rejected] == [("yes/cut.wav", "TRUNCATED_SOUND")]
    assert "2000 bytes of samples, the file holds 856" in result.summary.rejected[0].message


def line(name: str, label: str, usage: str = "TRAIN") -> str:
    return json.dumps({"source": name, "usage": usage, "annotation": [{"name": label, "type": "modelarts/image_classification"}]})


def manifest_zip(*lines: str) -> bytes:
    return zipped({**{f"{n}.png": picture(n) for n in range(6)}, "all.manifest": "\n".join(lines)})


BOTH = [line(f"{n}.png", "ab"[n % 2]) for n in range(6)]


def test_a_label_file_that_names_a_file_twice_says_so_and_doubles_nothing(bench: Bench) -> None:
    result = bench.imported(manifest_zip(*BOTH, line("1.png", "b")), "m.zip")
    assert (result.summary.example_count, result.summary.class_counts) == (6, (3, 3))
    assert [finding.kind for finding in result.findings] == ["DOUBLED_FILE"]
    assert "all.manifest names 1.png twice" in result.findings[0].message


def test_a_label_file_that_gives_a_file_two_labels_is_not_obeyed(bench: Bench) -> None:
    """Which one is right nobody can say: neither is taken, and the others are what they were."""
    result = bench.imported(manifest_zip(*BOTH, line("1.png", "a")), "m.zip")
    assert (result.content.task, result.summary.class_counts) == (files.IMAGE_CLASSIFICATION, (3, 2))
    assert [(each.path, each.reason) for each in result.summary.rejected] == [("1.png", "SEVERAL_LABELS")]
    assert "'b', 'a'" in result.summary.rejected[0].message


def test_a_label_file_that_gives_a_file_two_usages_says_which_was_taken(bench: Bench) -> None:
    result = bench.imported(manifest_zip(*BOTH, line("1.png", "b", "EVAL")), "m.zip")
    assert result.summary.example_count == 6
    message = next(finding.message for finding in result.findings if finding.kind == "DOUBLED_FILE")
    assert "as train and as validation; train was taken" in message


def test_a_sound_named_twice_with_two_labels(bench: Bench) -> None:
    sounds: dict[str, bytes | str] = {f"{n}.wav": write_wav(np.full(900, n + 1, np.int16), 8000) for n in range(6)}
    lines = [line(f"{n}.wav", "ab"[n % 2]).replace("image_", "audio_") for n in range(6)]
    twice = line("1.wav", "a").replace("image_", "audio_")
    result = bench.imported(zipped({**sounds, "all.manifest": "\n".join([*lines, twice])}), "m.zip")
    assert result.summary.class_counts == (3, 2)
    assert [(each.path, each.reason) for each in result.summary.rejected] == [("1.wav", "SEVERAL_LABELS")]


def recordings(ranges: str) -> bytes:
    rows = "time,pressure\n" + "".join(f"2026-01-01 00:{n // 60:02}:{n % 60:02},{n % 7}.5\n" for n in range(200))
    return zipped({"a.csv": rows, "b.csv": rows.replace(".5", ".25"), "ranges.csv": "file,start,end,label\n" + ranges})


def test_ranges_that_leave_the_recording(bench: Bench) -> None:
    said = (
        "a.csv,2026-01-01 00:00:10,2026-01-01 00:00:20,leak\n"
        "a.csv,2026-01-01 00:03:00,2026-01-01 00:09:00,leak\n"
        "b.csv,2027-01-01 00:00:00,2027-01-01 00:00:10,leak\n"
    )
    result = bench.imported(recordings(said), "r.zip", format="sensor_csv")
    kinds = {finding.kind: finding for finding in result.findings}
    assert set(kinds) == {"BAD_INTERVAL", "INTERVAL_OUTSIDE"}
    assert "b.csv" in kinds["BAD_INTERVAL"].message
    assert "00:09:00" in kinds["INTERVAL_OUTSIDE"].message


def test_times_with_decimal_commas(bench: Bench) -> None:
    rows = "time;pressure\n" + "".join(f"{n},5;{n % 7},25\n" for n in range(50))
    result = bench.imported(zipped({"a.csv": rows, "b.csv": rows.replace(",25", ",75")}), "r.zip", format="sensor_csv")
    assert result.findings == ()
    reader = files.open_dataset(bench.store, bench.publish(result).descriptor_blob)
    usage = next(each for each in files.USAGES if len(reader.indices(each)))
    assert reader.annotations(usage).times(0)[:3].tolist() == [0.5, 1.5, 2.5]
