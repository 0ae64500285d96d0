"""The quick reading of a zip's directory says what zipfile says, or nothing; many entries at once are read as one by one."""

from __future__ import annotations

import io
import struct
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from modelyard.core.errors import InvalidArgument
from modelyard.formats.archive import Limits, SafeZip, read_located
from modelyard.formats.archive_bulk import read_all
from modelyard.formats.zip_directory import from_infos, read_directory

NAMES = st.text(st.characters(codec="utf-8", exclude_characters="\x00"), min_size=1, max_size=12)


def zipped(files: dict[str, bytes], method: int = zipfile.ZIP_STORED, comment: bytes = b"", before: bytes = b"") -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", method) as archive:
        archive.comment = comment
        for name, data in files.items():
            archive.writestr(name, data)
    return before + out.getvalue()


def same(path: Path) -> bool:
    """Whether the quick reading has an answer; it must be zipfile's."""
    quick = read_directory(path, most=1000)
    with zipfile.ZipFile(path) as archive:
        slow = from_infos(archive.infolist())
    if quick is None:
        return False
    assert (list(quick.names), quick.old_names) == (list(slow.names), slow.old_names)
    for name in ("offsets", "packed", "sizes", "methods", "checksums", "flags", "attributes"):
        assert np.array_equal(getattr(quick, name), getattr(slow, name)), name
    return True


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    files=st.dictionaries(NAMES, st.binary(max_size=60), max_size=8),
    method=st.sampled_from([zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED]),
    comment=st.sampled_from([b"", b"a comment"]),
    before=st.sampled_from([b"", b"#!/bin/sh"]),
)
def test_it_is_what_zipfile_says(tmp_path: Path, files: dict[str, bytes], method: int, comment: bytes, before: bytes) -> None:
    path = tmp_path / "a.zip"
    path.write_bytes(zipped(files, method, comment, before))
    marked = any("PK\x01\x02" in name for name in files)
    assert same(path) == (not comment and not before) or marked
    with SafeZip(path) as archive, path.open("rb") as file:
        assert sorted((e.path, archive.read(e)) for e in archive.entries if e.path in files) == sorted(
            (e.path, files[e.path]) for e in archive.entries if e.path in files
        )
        if not archive.entries:
            return
        places = archive.locate_all(archive.entries)
        at_once = read_all(file.fileno(), places, [e.path for e in archive.entries], archive.limits)
        for entry, data in zip(archive.entries, at_once, strict=True):
            located = archive.locate(entry)
            assert located is not None
            assert data == read_located(file.fileno(), located, archive.limits) == archive.read(entry)


def test_more_entries_than_sixteen_bits_count(tmp_path: Path) -> None:
    path = tmp_path / "many.zip"
    path.write_bytes(zipped({f"c/{number}.txt": b"" for number in range(66_000)}))
    found = read_directory(path, most=70_000)
    assert found is not None
    assert (len(found.names), found.names[65_999]) == (66_000, "c/65999.txt")
    with pytest.raises(InvalidArgument) as caught:
        SafeZip(path, limits=Limits(entries=65_999))
    assert caught.value.reason == "ARCHIVE_BOMB"


@pytest.mark.parametrize("damage", ["name", "checksum", "header", "size", "place", "deflate", "beyond"])
def test_what_is_not_as_announced_is_not_given(tmp_path: Path, damage: str) -> None:
    files = {f"c/{number}.bin": bytes([number]) * 200 for number in range(4)}
    raw = bytearray(zipped(files, zipfile.ZIP_DEFLATED if damage == "deflate" else zipfile.ZIP_STORED))
    at, listed = raw.find(b"PK\x03\x04", 10), raw.find(b"PK\x01\x02", raw.find(b"PK\x01\x02") + 4)
    if damage == "name":
        raw[at + 30] ^= 1
    elif damage == "checksum":
        raw[at + 60] ^= 1
    elif damage == "header":
        raw[at] ^= 1
    elif damage == "size":
        struct.pack_into("<L", raw, listed + 24, 150)
    elif damage == "place":
        struct.pack_into("<L", raw, listed + 42, 3)
    elif damage == "deflate":
        raw[at + 38] ^= 0xFF
    elif damage == "beyond":
        struct.pack_into("<L", raw, listed + 42, len(raw) + 100)
    path = tmp_path / "a.zip"
    path.write_bytes(bytes(raw))
    with SafeZip(path) as archive, path.open("rb") as file:
        places = archive.locate_all(archive.entries)
        found = read_all(file.fileno(), places, [e.path for e in archive.entries], archive.limits)
        assert found == [files["c/0.bin"], None, files["c/2.bin"], files["c/3.bin"]]
        with pytest.raises(InvalidArgument):
            archive.read(archive.entries[1])


def test_a_bomb_is_not_unpacked(tmp_path: Path) -> None:
    path = tmp_path / "bomb.zip"
    path.write_bytes(zipped({"a.txt": bytes(5 * 1024**2)}, zipfile.ZIP_DEFLATED))
    with SafeZip(path) as archive, path.open("rb") as file:
        places = archive.locate_all(archive.entries)
        assert read_all(file.fileno(), places, ["a.txt"], archive.limits) == [None]
        with pytest.raises(InvalidArgument) as caught:
            archive.read(archive.entries[0])
    assert caught.value.reason == "ARCHIVE_BOMB"
