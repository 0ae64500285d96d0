"""A folder of copies: what goes, what stays, in one process and in several."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from modelyard.core.cache_folder import COUNT_EVERY_S, CacheFolder


def filled(folder: Path, count: int, size: int = 100) -> list[Path]:
    """Files that were last used one second after the other, long ago."""
    folder.mkdir(exist_ok=True)
    files = [folder / f"{number:02d}" for number in range(count)]
    for number, path in enumerate(files):
        path.write_bytes(b"x" * size)
        os.utime(path, (1000 + number, 1000 + number))
    return files


def left(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.rglob("*") if path.is_file())


def test_what_was_used_longest_ago_goes_first(tmp_path: Path) -> None:
    files = filled(tmp_path, 10)
    room = CacheFolder(tmp_path, 1000)
    room.used(files[0])
    assert room.make_room(100)
    assert left(tmp_path) == ["00", *[f"{number:02d}" for number in range(3, 10)]]  # two: it goes on to nine tenths
    assert room.make_room(100)  # which are there now
    assert len(left(tmp_path)) == 8


def test_what_has_a_lock_stays(tmp_path: Path) -> None:
    files = filled(tmp_path, 5)
    room = CacheFolder(tmp_path, 500)
    assert room.lease(files[0])
    assert room.lease(files[0])
    assert not CacheFolder(tmp_path, 500).lease(tmp_path / "gone")
    assert not CacheFolder(tmp_path, 50).make_room(100)
    assert left(tmp_path) == ["00"]


def test_what_another_process_uses_stays(tmp_path: Path) -> None:
    files = filled(tmp_path, 3)
    script = "import sys; from pathlib import Path; from modelyard.core.cache_folder import CacheFolder\n"
    script += "assert CacheFolder(Path(sys.argv[1]), 1).lease(Path(sys.argv[2])); print('has it', flush=True); input()"
    command = [sys.executable, "-c", script, str(tmp_path), str(files[1])]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdin is not None
        assert other.stdout is not None
        assert other.stdout.readline()
        CacheFolder(tmp_path, 10).make_room(1)
        assert left(tmp_path) == ["01"]
        other.stdin.close()
        other.wait()
    CacheFolder(tmp_path, 10).make_room(1)
    assert left(tmp_path) == []


def test_who_reads_more_than_fits_keeps_what_fits(tmp_path: Path) -> None:
    filled(tmp_path, 3)
    room = CacheFolder(tmp_path, 1000)
    kept = 0
    for number in range(30):
        if room.make_room(100, for_older=False):
            (tmp_path / f"new{number}").write_bytes(b"y" * 100)
            kept += 1
    assert kept >= 9  # what was there from before went
    assert left(tmp_path)[:1] == ["new0"] or left(tmp_path)[:1] == ["02"]
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) <= 1000


def test_what_others_add_is_seen_at_the_next_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    room = CacheFolder(tmp_path, 1000)
    assert room.make_room(100)
    filled(tmp_path, 20)
    room._counted_at -= COUNT_EVERY_S + 1
    assert room.make_room(100)
    assert len(left(tmp_path)) <= 9


def test_hidden_folders_are_left_alone(tmp_path: Path) -> None:
    filled(tmp_path / ".incoming", 3)
    filled(tmp_path / "seen", 3)
    CacheFolder(tmp_path, 10).make_room(1)
    assert left(tmp_path / ".incoming") == ["00", "01", "02"]
    assert left(tmp_path / "seen") == []
