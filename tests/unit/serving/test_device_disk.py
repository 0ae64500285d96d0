"""What a device keeps on its disk: whole or not at all, bounded, and never what serves or what going back needs."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace

import pytest

from modelyard.core.errors import DataLoss, ResourceExhausted, Unavailable
from modelyard.serving.adapters.bundle_cache import FileBundleCache
from modelyard.serving.adapters.device_file import Accepted, DeviceFile, read_json, write_json
from modelyard.serving.domain import trial as rules
from modelyard.serving.domain.desired_state import DesiredVersion
from modelyard.serving.domain.following import FollowedState
from modelyard.serving.domain.trial import ModelMemory


def version(data: bytes) -> DesiredVersion:
    return DesiredVersion("V001", hashlib.sha256(data).hexdigest(), len(data), b"p")


class Source:
    """Sends bytes by 10; breaks off after `most` of a call; `offsets`: where calls began."""

    def __init__(self, data: bytes, most: int = 1 << 30) -> None:
        self.data, self.most, self.offsets = data, most, list[int]()

    def download(self, sha256: str, offset: int) -> Iterator[bytes]:
        self.offsets.append(offset)
        for at in range(offset, len(self.data), 10):
            if at - offset >= self.most:
                raise Unavailable("NO_CONNECTION", "cut")
            yield self.data[at : at + 10]


def nothing(_: int) -> None:
    return


def test_a_broken_download_goes_on(tmp_path: Path) -> None:
    data = os.urandom(100)
    source = Source(data, most=40)
    for _ in range(2):
        with pytest.raises(Unavailable):
            FileBundleCache(tmp_path, [source]).fetch(version(data), nothing)  # each time another process
    assert FileBundleCache(tmp_path, [source]).fetch(version(data), nothing).read_bytes() == data
    assert source.offsets == [0, 40, 80]


def test_the_next_source_goes_on_where_the_first_broke_off(tmp_path: Path) -> None:
    data = os.urandom(100)
    near, far = Source(data, most=30), Source(data)
    assert FileBundleCache(tmp_path, [near, far]).fetch(version(data), nothing).read_bytes() == data
    assert far.offsets == [30]


@pytest.mark.parametrize("sent", [b"x" * 100, b"y" * 50, b"z" * 200])
def test_other_bytes_are_not_kept(tmp_path: Path, sent: bytes) -> None:
    wanted = version(os.urandom(100))
    cache = FileBundleCache(tmp_path, [Source(sent)])
    with pytest.raises((DataLoss, Unavailable)):
        cache.fetch(wanted, nothing)
    assert cache.held(wanted.sha256) is None


def test_a_bundle_that_the_disk_has_spoiled_is_fetched_again(tmp_path: Path) -> None:
    data = os.urandom(100)
    cache = FileBundleCache(tmp_path, [Source(data)])
    cache.fetch(version(data), nothing).write_bytes(b"spoiled")
    assert cache.fetch(version(data), nothing).read_bytes() == data


def test_a_full_disk_is_found_before_anything_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = os.urandom(100)
    source = Source(data)
    cache = FileBundleCache(tmp_path, [source])
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=1 << 20, total=1 << 30))
    with pytest.raises(ResourceExhausted, match="free"):
        cache.fetch(version(data), nothing)
    assert source.offsets == []


def test_the_cache_is_bounded_and_keeps_what_is_needed(tmp_path: Path) -> None:
    contents = [bytes([number]) * 100 for number in range(5)]
    cache = FileBundleCache(tmp_path, [], most_bytes=150)
    for age, data in enumerate(contents):
        path = tmp_path / "bundles" / version(data).sha256
        path.write_bytes(data)
        os.utime(path, (1000 + age, 1000 + age))
    cache.keep({version(contents[0]).sha256})
    left = {data[0] for data in contents if cache.held(version(data).sha256)}
    assert left == {0, 4}  # what is needed, and the newest that fits beside it


def test_a_power_cut_leaves_the_state_before_or_after(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever system call is the last one: what is read then is one whole state or the other."""
    names = [name for name in ("open", "fsync", "replace", "link", "close") if hasattr(os, name)]
    for stop_at in range(12):
        folder = tmp_path / str(stop_at)
        folder.mkdir()
        write_json(folder / "m.json", {"state": "before"})
        left = stop_at
        with monkeypatch.context() as patch:
            for name in names:
                real = getattr(os, name)

                def counted(*args: object, _real: object = real, **more: object) -> object:
                    nonlocal left
                    left -= 1
                    if left < 0:
                        raise KeyboardInterrupt
                    return _real(*args, **more)  # type: ignore[operator]

                patch.setattr(os, name, counted)
            with suppress(KeyboardInterrupt):
                write_json(folder / "m.json", {"state": "after"})
        assert read_json(folder / "m.json") in ({"state": "before"}, {"state": "after"})


@pytest.mark.parametrize("spoiled", [b"", b"{", b"\0" * 100, b'{"sha256": "x", "body": "{}"}', b"[]"])
def test_a_spoiled_file_gives_the_one_before(tmp_path: Path, spoiled: bytes) -> None:
    write_json(tmp_path / "m.json", {"number": 1})
    write_json(tmp_path / "m.json", {"number": 2})
    (tmp_path / "m.json").write_bytes(spoiled)
    assert read_json(tmp_path / "m.json") == {"number": 1}


def test_what_is_remembered_outlives_the_process(tmp_path: Path) -> None:
    file = DeviceFile(tmp_path)
    memory = rules.refused(
        rules.begun(rules.confirmed(ModelMemory("e", "m"), version(b"a")), version(b"b")),
        version(b"b"),
        FollowedState.FAILED,
        "w",
    )
    file.write(memory)
    file.accept(Accepted(7, "digest", b"\x00envelope", (b"key",)))
    again = DeviceFile(tmp_path)
    assert again.models() == {"e": memory}
    assert again.accepted == Accepted(7, "digest", b"\x00envelope", (b"key",))
    assert (tmp_path / "memory.json").stat().st_mode & 0o777 == 0o600
    again.forget("e")
    assert DeviceFile(tmp_path).models() == {}


def test_a_follower_needs_no_database_and_no_torch() -> None:
    """What a device imports before it serves."""
    heavy = ["sqlalchemy", "alembic", "dbos", "minio", "psycopg", "torch", "tensorflow", "pyarrow", "pandas", "kubernetes"]
    code = f"import sys, modelyard.serving.follower_server; print([name for name in {heavy} if name in sys.modules])"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
