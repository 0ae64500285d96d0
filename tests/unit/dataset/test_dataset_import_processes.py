"""An import of many small pictures by several processes gives what one after the other gives, whatever is in the archive."""

from __future__ import annotations

import io
import os
import subprocess
import tarfile
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from modelyard.core.artifacts import Blob
from modelyard.core.errors import DataLoss, InvalidArgument
from modelyard.dataset.domain.records import ImportResult, ImportSpec, LocalFolder
from modelyard.dataset.domain.work import Work
from modelyard.dataset.worker import import_job, picture_process, picture_processes, read_pictures
from modelyard.dataset.worker.picture_process import Part
from modelyard.dataset.worker.picture_processes import PictureProcesses
from modelyard.formats import dataset as files
from modelyard.formats.archive import Limits, SafeZip
from modelyard.formats.pictures import encode_png
from tests.unit.dataset.test_dataset_report_publish import Bench

COUNT = 400


def jpeg(number: int) -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (31, 20), (number % 256, 9, 200)).save(out, "JPEG")
    return out.getvalue()


def sources() -> dict[str, bytes]:
    """Plain PNG files, others, and every kind of file that is left out, in the middle of them."""
    rng = np.random.default_rng(5)
    found: dict[str, bytes] = {}
    for number in range(COUNT):
        usage = ("train", "train", "val", "test")[number % 4]
        name = f"{usage}/class{number % 3}/{number:04d}"
        plain = encode_png(rng.integers(0, 256, (20, 20), dtype=np.uint8))
        kind = number % 40
        if kind == 7:
            found[f"{name}.jpg"] = jpeg(number)
        elif kind == 11:
            found[f"{name}.png"] = plain[:-30]
        elif kind == 13:
            found[f"{name}.png"] = b""
        elif kind == 17:
            found[f"{name}.png"] = b"no picture at all"
        elif kind == 19:
            found[f"{name}.png"] = encode_png(rng.integers(0, 256, (9, 30, 3), dtype=np.uint8))
        else:
            found[f"{name}.png"] = plain
    return found


def as_zip(pictures: dict[str, bytes], method: int) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", method) as archive:
        for name, data in pictures.items():
            archive.writestr(name, data)
    return out.getvalue()


def as_tar(pictures: dict[str, bytes]) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for name, data in pictures.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return out.getvalue()


def imported(folder: Path, monkeypatch: pytest.MonkeyPatch, raw: bytes, name: str, processes: int) -> tuple[Bench, ImportResult]:
    monkeypatch.setattr(picture_processes, "LEAST_PICTURES", 100)
    monkeypatch.setattr(picture_processes, "_PART_PICTURES", 90)
    monkeypatch.setattr(read_pictures, "usable_cores", lambda: processes)
    bench = Bench(folder)
    return bench, bench.imported(raw, name)


@pytest.mark.parametrize("form", ["stored", "deflated", "bzip2", "tar"])
def test_processes_give_what_threads_give(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: str) -> None:
    pictures = sources()
    methods = {"stored": zipfile.ZIP_STORED, "deflated": zipfile.ZIP_DEFLATED, "bzip2": zipfile.ZIP_BZIP2}
    raw = as_tar(pictures) if form == "tar" else as_zip(pictures, methods[form])
    name = "p.tar" if form == "tar" else "p.zip"
    (one, alone), (many, together) = (imported(_made(tmp_path / str(count)), monkeypatch, raw, name, count) for count in (1, 2))
    for result in (together, alone):  # the manifests' bytes differ (rows are written in other groups), what they say does not
        assert replace(result.content, manifest=files.NO_BLOB) == replace(alone.content, manifest=files.NO_BLOB)
        assert result.summary == alone.summary
    assert together.summary.rejected_count == 30
    assert {each.reason for each in together.summary.rejected} == {"TRUNCATED_PICTURE", "EMPTY_FILE", "NOT_A_PICTURE"}
    tables = [files.load_manifest(bench.store, result.content) for bench, result in ((one, alone), (many, together))]
    assert tables[0].equals(tables[1])
    assert tables[0]["thumbnail"].null_count == 0


def test_a_folder_gives_what_its_zip_gives(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pictures = dict(sorted(sources().items()))
    for name, data in pictures.items():
        place = tmp_path / "pictures" / name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(data)
    one, zipped = imported(_made(tmp_path / "one"), monkeypatch, as_zip(pictures, zipfile.ZIP_STORED), "p.zip", 2)
    found = (tmp_path / "pictures").stat()
    local = LocalFolder(str(tmp_path / "pictures"), "", found.st_dev, found.st_ino)
    spec = ImportSpec("d", Blob("", "", 0), "p.zip", local_folder=local)
    for processes in (2, 1):
        monkeypatch.setattr(read_pictures, "usable_cores", lambda count=processes: count)
        here = import_job.run(spec, one.store, one.folder(), Work())
        assert here.summary == zipped.summary
        assert replace(here.content, manifest=files.NO_BLOB) == replace(zipped.content, manifest=files.NO_BLOB)
        assert files.load_manifest(one.store, here.content).equals(files.load_manifest(one.store, zipped.content))


def _made(folder: Path) -> Path:
    folder.mkdir()
    return folder


def test_an_archive_that_lies_is_refused_as_by_one_thread(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bomb = as_zip({**sources(), "train/class0/zz.png": bytes(300 * 1024**2)}, zipfile.ZIP_DEFLATED)
    with pytest.raises(InvalidArgument) as caught:
        imported(_made(tmp_path / "a"), monkeypatch, bomb, "b.zip", 2)
    assert caught.value.reason == "ARCHIVE_BOMB"


def test_a_checksum_that_is_wrong_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    raw = bytearray(as_zip(sources(), zipfile.ZIP_STORED))
    place = raw.find(b"0100.png") + 60
    raw[place] ^= 0xFF
    _, result = imported(_made(tmp_path / "a"), monkeypatch, bytes(raw), "b.zip", 2)
    assert [each.path for each in result.summary.rejected if each.reason == "CORRUPT_ENTRY"] == ["train/class1/0100.png"]


def test_a_process_that_ends_is_started_again_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = tmp_path / "a.zip"
    place.write_bytes(as_zip(sources(), zipfile.ZIP_STORED))
    with SafeZip(place) as archive, PictureProcesses(archive, 1) as processes:
        some = archive.entries[:5]
        part = Part([entry.path for entry in some], archive.locate_all(some))
        first = processes.read(part)
        child = processes._idle.get()
        assert child is not None
        assert isinstance(child.process, subprocess.Popen)
        os.kill(child.process.pid, 9)
        child.process.wait()
        processes._idle.put(child)
        assert processes.read(part).hashes == first.hashes
        monkeypatch.setattr(picture_processes.sys, "executable", "/bin/false")
        child = processes._idle.get()
        assert child is not None
        child.end()
        processes._idle.put(None)
        with pytest.raises(DataLoss) as caught:
            processes.read(part)
        assert caught.value.reason == "DECODER_LOST"


def test_a_part_is_read_within_the_limits(tmp_path: Path) -> None:
    place = tmp_path / "a.zip"
    place.write_bytes(as_zip({"a/1.png": encode_png(np.zeros((9, 9), np.uint8))}, zipfile.ZIP_STORED))
    with SafeZip(place) as archive, place.open("rb") as file:
        part = Part(["a/1.png"], archive.locate_all(archive.entries))
        assert picture_process.read_part(file.fileno(), part, Limits()).lengths[0] > 0
        assert picture_process.read_part(file.fileno(), part, Limits(entry_bytes=10)).refused == {0: ("", "")}


def test_a_process_forked_ahead_reads_like_any_other_and_ends_with_its_link(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = tmp_path / "a.zip"
    place.write_bytes(as_zip(sources(), zipfile.ZIP_DEFLATED))
    monkeypatch.setattr(picture_processes, "_ahead", [])
    picture_processes.fork_ahead(2)
    forked = list(picture_processes._ahead)
    with SafeZip(place) as archive, PictureProcesses(archive, 1) as processes:
        part = Part([entry.path for entry in archive.entries], archive.locate_all(archive.entries))
        read = processes.read(part)
        with place.open("rb") as file:
            assert read.hashes == picture_process.read_part(file.fileno(), part, archive.limits).hashes
    assert [each for each in forked if each in picture_processes._ahead] == forked[:1]
    with pytest.raises(ChildProcessError):
        os.waitpid(int(forked[1].process), 0)  # it was waited for
    forked[0].end()  # never told what to read
