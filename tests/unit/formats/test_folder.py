"""A folder that is read where it lies: what is in it, and nothing that is not, whatever links and changes it holds."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from modelyard.core.errors import FailedPrecondition, InvalidArgument
from modelyard.formats.archive import Limits
from modelyard.formats.folder import FolderPlace, OpenFolder, SafeFolder


def place_of(folder: Path) -> FolderPlace:
    found = folder.stat()
    return FolderPlace(str(folder), found.st_dev, found.st_ino)


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    folder = tmp_path / "outside"
    folder.mkdir()
    (folder / "secret.png").write_bytes(b"secret")
    return folder


@pytest.fixture
def inside(tmp_path: Path) -> Path:
    folder = tmp_path / "inside"
    (folder / "a").mkdir(parents=True)
    (folder / "a" / "1.png").write_bytes(b"one")
    (folder / "b" / "deep").mkdir(parents=True)
    (folder / "b" / "deep" / "2.png").write_bytes(b"two")
    return folder


def test_it_is_read_like_an_archive_in_the_order_of_names(inside: Path) -> None:
    (inside / "a" / ".DS_Store").write_bytes(b"x")
    (inside / "a" / "zoë.png").write_bytes(b"three")
    (inside / "classes.txt").write_bytes(b"above all folders")
    with SafeFolder(place_of(inside)) as folder:
        assert [entry.path for entry in folder.entries] == ["a/1.png", "a/zoë.png", "b/deep/2.png", "classes.txt"]
        expected = [b"one", b"three", b"two", b"above all folders"]
        assert [folder.read(entry) for entry in folder.entries] == expected
        assert [folder.read(entry) for entry in folder.entries[::-1]] == expected[::-1]
        opened = OpenFolder(folder.whereabouts)
        paths = [entry.path for entry in folder.entries]
        assert opened.read_all([*paths, *paths[::-1]], 100) == [*expected, *expected[::-1]]
        opened.close()
        assert (folder.ignored, folder.rejected) == (1, [])
        assert folder.copy(folder.entries[0], inside / "copy").read_bytes() == b"one"


def test_many_plain_names_are_looked_at_at_once_and_no_other_slips_through(inside: Path) -> None:
    for name in ("__MACOSX", "a/.git", "a/good"):
        (inside / name).mkdir()
        (inside / name / "1.png").write_bytes(b"one")
    for name in ("._1.png", "back\\slash.png", "new\nline.png"):
        (inside / "b" / name).write_bytes(b"two")
    with SafeFolder(place_of(inside)) as folder:
        assert [entry.path for entry in folder.entries] == ["a/1.png", "a/good/1.png", "b/deep/2.png", "b/new\nline.png"]
        assert [(each.path, each.reason) for each in folder.rejected] == [("b/back\\slash.png", "UNSAFE_NAME")]
        assert folder.ignored == 3


def test_links_are_read_inside_and_never_followed_out(inside: Path, outside: Path) -> None:
    (inside / "a" / "inner.png").symlink_to("../b/deep/2.png")
    (inside / "a" / "absolute.png").symlink_to(outside / "secret.png")
    (inside / "a" / "relative.png").symlink_to("../../outside/secret.png")
    (inside / "a" / "twice.png").symlink_to("absolute.png")
    (inside / "a" / "loop.png").symlink_to("loop.png")
    (inside / "a" / "gone.png").symlink_to("nothing.png")
    (inside / "c").symlink_to(outside)
    (inside / "d").symlink_to("b")
    (inside / "top").symlink_to("..")
    os.mkfifo(inside / "a" / "pipe.png")
    with SafeFolder(place_of(inside)) as folder:
        assert {entry.path: folder.read(entry) for entry in folder.entries} == {
            "a/1.png": b"one", "a/inner.png": b"two", "b/deep/2.png": b"two",
        }  # fmt: skip
        assert {(each.path, each.reason) for each in folder.rejected} == {
            *((f"a/{name}.png", "SYMBOLIC_LINK") for name in ("absolute", "relative", "twice", "loop", "gone")),
            ("c", "SYMBOLIC_LINK"), ("d", "SYMBOLIC_LINK"), ("top", "SYMBOLIC_LINK"), ("a/pipe.png", "NOT_A_FILE"),
        }  # fmt: skip
        opened = OpenFolder(folder.whereabouts)
        assert opened.read_all(folder.locate_all(folder.entries), 100) == [b"one", b"two", b"two"]
        opened.close()


@pytest.mark.parametrize("what", ["file", "folder", "above"])
def test_a_link_that_is_put_there_later_is_not_followed(inside: Path, outside: Path, what: str) -> None:
    (outside / "deep").mkdir()
    (outside / "deep" / "2.png").write_bytes(b"secret")
    (outside / "2.png").write_bytes(b"secret")
    with SafeFolder(place_of(inside)) as folder:
        opened = OpenFolder(folder.whereabouts)
        if what == "file":
            (inside / "b" / "deep" / "2.png").unlink()
            (inside / "b" / "deep" / "2.png").symlink_to(outside / "secret.png")
        else:
            changed = inside / "b" / "deep" if what == "folder" else inside / "b"
            shutil.rmtree(changed)
            changed.symlink_to(outside)
        entry = folder.entries[1]
        assert entry.path == "b/deep/2.png"
        with pytest.raises(InvalidArgument) as caught:
            folder.read(entry)
        assert caught.value.reason == "NOT_READABLE"
        assert opened.read_all(["a/1.png", entry.path, "a/1.png"], 100) == [b"one", None, b"one"]
        opened.close()


def test_a_file_that_became_a_pipe_does_not_hold_anybody_up(inside: Path) -> None:
    with SafeFolder(place_of(inside)) as folder:
        (inside / "a" / "1.png").unlink()
        os.mkfifo(inside / "a" / "1.png")
        with pytest.raises(InvalidArgument):
            folder.read(folder.entries[0])


def test_another_folder_of_the_same_name_is_not_read(inside: Path, outside: Path) -> None:
    place = place_of(inside)
    inside.rename(inside.with_name("moved"))
    with pytest.raises(FailedPrecondition) as caught:
        SafeFolder(place)
    assert caught.value.reason == "FOLDER_CHANGED"
    inside.symlink_to(outside)
    with pytest.raises(FailedPrecondition):
        OpenFolder(place)


def test_names_that_no_archive_may_have_are_left_out(inside: Path) -> None:
    (inside / "a" / "back\\slash.png").write_bytes(b"x")
    Path(os.fsdecode(os.fsencode(inside) + b"/a/\xff.png")).write_bytes(b"x")
    with SafeFolder(place_of(inside)) as folder:
        assert [entry.path for entry in folder.entries] == ["a/1.png", "b/deep/2.png"]
        assert [each.reason for each in folder.rejected] == ["UNSAFE_NAME", "UNSAFE_NAME"]


def test_limits_are_those_of_archives(inside: Path) -> None:
    large = bytes(range(256)) * 2000
    (inside / "a" / "large.png").write_bytes(large)
    with SafeFolder(place_of(inside)) as folder:
        opened = OpenFolder(folder.whereabouts)
        assert opened.read_all(["a/large.png"], len(large)) == [large]
        assert opened.read_all(["a/large.png", "a/none.png", "none/1.png", "a"], len(large) - 1) == [None] * 4
        opened.close()
    for limits, reason in ((Limits(entry_bytes=1000), "ENTRY_TOO_LARGE"), (Limits(total_bytes=1000), "ARCHIVE_BOMB")):
        with SafeFolder(place_of(inside), limits=limits) as folder, pytest.raises(InvalidArgument) as caught:
            folder.read(folder.entries[1])
        assert caught.value.reason == reason
    with pytest.raises(InvalidArgument) as caught:
        SafeFolder(place_of(inside), limits=Limits(entries=2))
    assert caught.value.reason == "ARCHIVE_BOMB"
