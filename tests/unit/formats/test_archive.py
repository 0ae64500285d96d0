"""formats.archive: zip files that strangers made."""

from __future__ import annotations

import gzip
import io
import stat
import struct
import zipfile
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modelyard.core.errors import InvalidArgument
from modelyard.formats.archive import Limits, SafeZip, gunzip, is_system_file

Files = Sequence[tuple[str | zipfile.ZipInfo, bytes]]


def zipped(path: Path, files: Files, compression: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, data in files:
            archive.writestr(name, data, compress_type=compression)
    return path


def open_zip(tmp_path: Path, files: Files, limits: Limits | None = None, compression: int = zipfile.ZIP_DEFLATED) -> SafeZip:
    return SafeZip(zipped(tmp_path / "a.zip", files, compression), name="a.zip", limits=limits)


def read_all(path: Path) -> str:
    """The reason why an archive cannot be read, or ""."""
    try:
        with SafeZip(path) as archive:
            for entry in archive.entries:
                archive.read(entry)
    except InvalidArgument as error:
        return error.reason
    return ""


def test_reads_files_with_odd_names(tmp_path: Path) -> None:
    names = ["a b/ü ñ/ 1.png", ".hidden class/1.png", "日本/é.jpg", "./here.png", "x//y.png"]
    with open_zip(tmp_path, [(name, name.encode()) for name in names]) as archive:
        found = {entry.path: archive.read(entry).decode() for entry in archive.entries}
    assert found == {name.removeprefix("./").replace("//", "/"): name for name in names}


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("../evil.png", "UNSAFE_NAME"),
        ("a/../../evil.png", "UNSAFE_NAME"),
        ("/etc/passwd.png", "UNSAFE_NAME"),
        ("C:/evil.png", "UNSAFE_NAME"),
        ("a\\b.png", "UNSAFE_NAME"),
    ],
)
def test_unsafe_names_are_listed_and_never_read(tmp_path: Path, name: str, reason: str) -> None:
    with open_zip(tmp_path, [(name, b"x"), ("ok/1.png", b"y")]) as archive:
        assert [entry.path for entry in archive.entries] == ["ok/1.png"]
        assert [(entry.path, entry.reason) for entry in archive.rejected] == [(name, reason)]


def test_symbolic_links_are_listed(tmp_path: Path) -> None:
    link = zipfile.ZipInfo("a/link.png")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    with open_zip(tmp_path, [(link, b"/etc/passwd")]) as archive:
        assert archive.entries == []
        assert archive.rejected[0].reason == "SYMBOLIC_LINK"


def test_the_second_of_a_name_is_listed(tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match="Duplicate name"):
        zipped(tmp_path / "a.zip", [("a/1.png", b"x"), ("a/1.png", b"y")])
    with SafeZip(tmp_path / "a.zip") as archive:
        assert [archive.read(entry) for entry in archive.entries] == [b"x"]
        assert archive.rejected[0].reason == "DUPLICATE_NAME"


def test_encrypted_entries_are_listed(tmp_path: Path) -> None:
    path = zipped(tmp_path / "a.zip", [("a/1.png", b"x")])
    data = bytearray(path.read_bytes())
    data[data.index(b"PK\x01\x02") + 8] |= 1
    path.write_bytes(data)
    with SafeZip(path) as archive:
        assert archive.rejected[0].reason == "ENCRYPTED"


def test_what_systems_leave_behind_is_ignored_and_counted(tmp_path: Path) -> None:
    files = [("__MACOSX/a/._1.png", b""), ("a/.DS_Store", b""), ("a/Thumbs.db", b""), ("a/1.png", b"x"), ("a/notes.txt", b"y")]
    with open_zip(tmp_path, files) as archive:
        assert [entry.path for entry in archive.entries] == ["a/1.png", "a/notes.txt"]
        assert archive.ignored == 3


def test_a_hidden_picture_is_a_picture() -> None:
    assert not is_system_file("a/.secret.png")
    assert is_system_file("a/._secret.png")


def test_a_bomb_is_refused_while_reading(tmp_path: Path) -> None:
    with open_zip(tmp_path, [("a/1.png", b"\0" * 20_000_000)]) as archive, pytest.raises(InvalidArgument) as caught:
        archive.read(archive.entries[0])
    assert caught.value.reason == "ARCHIVE_BOMB"


def test_a_header_that_lies_about_sizes_changes_nothing(tmp_path: Path) -> None:
    path = zipped(tmp_path / "a.zip", [("a/1.png", b"\0" * 5_000_000)])
    data = bytearray(path.read_bytes())
    central = data.index(b"PK\x01\x02")
    struct.pack_into("<I", data, central + 24, 10)  # claims 10 bytes
    path.write_bytes(data)
    with SafeZip(path) as archive:
        assert archive.entries[0].claimed_bytes == 10
        with pytest.raises(InvalidArgument):
            archive.read(archive.entries[0])


def test_limits_on_one_file_on_all_and_on_their_number(tmp_path: Path) -> None:
    files: Files = [("a/1", b"x" * 600), ("a/2", b"y" * 600)]
    with open_zip(tmp_path, files, Limits(entry_bytes=500)) as archive, pytest.raises(InvalidArgument) as caught:
        archive.read(archive.entries[0])
    assert caught.value.reason == "ENTRY_TOO_LARGE"
    with open_zip(tmp_path, files, Limits(total_bytes=1000)) as archive:
        archive.read(archive.entries[0])
        with pytest.raises(InvalidArgument) as caught:
            archive.read(archive.entries[1])
    assert caught.value.reason == "ARCHIVE_BOMB"
    with pytest.raises(InvalidArgument) as caught:
        open_zip(tmp_path, files, Limits(entries=1))
    assert caught.value.reason == "ARCHIVE_BOMB"


def test_a_damaged_entry_is_an_error_of_its_own(tmp_path: Path) -> None:
    path = zipped(tmp_path / "a.zip", [("a/1.png", bytes(range(256)) * 8), ("a/2.png", b"fine")], zipfile.ZIP_STORED)
    data = bytearray(path.read_bytes())
    data[100] ^= 0xFF
    path.write_bytes(data)
    with SafeZip(path) as archive:
        with pytest.raises(InvalidArgument) as caught:
            archive.read(archive.entries[0])
        assert caught.value.reason == "CORRUPT_ENTRY"
        assert archive.read(archive.entries[1]) == b"fine"


def test_not_a_zip(tmp_path: Path) -> None:
    (tmp_path / "a.zip").write_bytes(b"PK\x03\x04 and nothing more")
    with pytest.raises(InvalidArgument) as caught:
        SafeZip(tmp_path / "a.zip", name="a.zip")
    assert caught.value.reason == "NOT_A_ZIP"


def test_names_in_utf8_without_the_flag_are_read_as_utf8(tmp_path: Path) -> None:
    path = zipped(tmp_path / "a.zip", [("a/xx.png", b"1")])
    data = path.read_bytes().replace(b"a/xx.png", "a/é.png".encode())  # the same length, no flag set
    path.write_bytes(data)
    with SafeZip(path) as archive:
        assert [entry.path for entry in archive.entries] == ["a/é.png"]


def test_gunzip_of_several_members_and_padding() -> None:
    data = gzip.compress(b"one") + gzip.compress(b"two") + b"\0" * 10
    pieces = [data[start : start + 7] for start in range(0, len(data), 7)]
    assert b"".join(gunzip(iter(pieces), name="a.gz")) == b"onetwo"


def test_gunzip_refuses_a_bomb_and_a_cut() -> None:
    with pytest.raises(InvalidArgument) as caught:
        list(gunzip([gzip.compress(b"\0" * 50_000_000)], name="a.gz"))
    assert caught.value.reason == "ARCHIVE_BOMB"
    with pytest.raises(InvalidArgument) as caught:
        list(gunzip([gzip.compress(b"some text")[:-5]], name="a.gz"))
    assert caught.value.reason == "CORRUPT_ENTRY"


@given(st.binary(max_size=3000), st.integers(1, 500))
@settings(max_examples=50, deadline=None)
def test_gunzip_round_trip(data: bytes, size: int) -> None:
    packed = gzip.compress(data)
    assert b"".join(gunzip((packed[i : i + size] for i in range(0, len(packed), size)), name="a")) == data


@given(st.binary(max_size=400))
@settings(max_examples=50, deadline=None)
def test_hostile_archives_give_a_clear_error(tmp_path_factory: pytest.TempPathFactory, tail: bytes) -> None:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("a/1.png", b"x" * 50)
    data = bytearray(out.getvalue())
    for i, value in enumerate(tail):
        data[(i * 7 + value) % len(data)] ^= value
    path = tmp_path_factory.getbasetemp() / "hostile.zip"
    path.write_bytes(data)
    assert read_all(path) in {"", "NOT_A_ZIP", "CORRUPT_ENTRY", "ARCHIVE_BOMB", "ENTRY_TOO_LARGE"}
