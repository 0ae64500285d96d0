"""A folder that the user's own server reads where it lies: what that gives, and to whom it is refused."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from modelyard import embedded
from modelyard.cli import asking
from modelyard.cli.options import Common
from modelyard.cli.session import session
from modelyard.client import Access, Addresses, Client, FailedPrecondition, InvalidArgument, PermissionDenied
from modelyard.core.access.principal import EVERY_PROJECT, Kind, Principal, Role
from modelyard.dataset.v1 import dataset_pb2
from modelyard.formats.pictures import encode_png
from modelyard.type.v1 import blob_pb2
from tests.support.servers import Process, free_port

WAIT_S = 120.0
COUNT = 2400  # so many that processes read them


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("pictures")
    rng = np.random.default_rng(3)
    for number in range(COUNT):
        place = made / ("train", "test")[number % 8 == 0] / f"class{number % 3}" / f"{number:05d}.png"
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(encode_png(rng.integers(0, 256, (12, 12), dtype=np.uint8)))
    (made / "train" / "class0" / "passwd.png").symlink_to("/etc/passwd")
    return made


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Any, Path]]:
    data = tmp_path_factory.mktemp("owned") / "data"
    made = embedded.start(data)
    yield made, data
    made.stop()


@pytest.fixture(scope="module")
def client(running: tuple[Any, Path]) -> Iterator[Client]:
    with Client(running[0].address) as made:
        yield made


def found(client: Client, folder: Path) -> dataset_pb2.LocalFolder:
    here = client.datasets.local_folder(folder)
    assert here is not None
    return here


@pytest.fixture(scope="module")
def sent(client: Client, folder: Path) -> dataset_pb2.Import:
    client.datasets.create_dataset("sent")
    blob = client.artifacts.upload(folder)
    return client.datasets.wait_import(client.datasets.create_import("sent", blob, file_name=folder.name).name, WAIT_S)


def test_it_gives_what_an_upload_gives(client: Client, folder: Path, sent: dataset_pb2.Import) -> None:
    client.datasets.create_dataset("read")
    started = client.datasets.create_import("read", found(client, folder), file_name=folder.name)
    assert started.local_folder.path == str(folder)
    done = client.datasets.wait_import(started.name, WAIT_S)
    assert not done.source.uri
    assert done.summary.example_count == COUNT
    assert (done.summary.digest, done.summary.class_counts, done.summary.examples_with_usage) == (
        sent.summary.digest, sent.summary.class_counts, sent.summary.examples_with_usage,
    )  # fmt: skip
    assert [(each.path, each.reason) for each in done.summary.rejected] == [("train/class0/passwd.png", "SYMBOLIC_LINK")]
    version = client.datasets.wait_dataset_version(client.datasets.create_dataset_version("read").name, WAIT_S)
    assert sum(count.example_count for count in version.counts) == COUNT


def waiting() -> set[int]:
    """Processes of this one's server that wait for a job of the dataset service."""
    found = set()
    for place in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):
            ours = int((place.parent / "stat").read_text().rpartition(")")[2].split()[1]) == os.getpid()
            if ours and b"modelyard.core.jobs.ready\0modelyard.dataset.worker" in place.read_bytes():
                found.add(int(place.parent.name))
    return found


def test_a_new_dataset_has_a_process_at_hand_that_reads_the_folder(client: Client, folder: Path) -> None:
    client.datasets.create_dataset("near")
    (one,) = waiting()
    client.datasets.create_dataset("near-too")
    assert waiting() == {one}, "one is enough"
    started = client.datasets.create_import("near", found(client, folder))
    client.datasets.wait_import(started.name, WAIT_S)
    (after,) = waiting()
    assert after != one, "that did the import, and is done; another waits for what follows"
    version = client.datasets.wait_dataset_version(client.datasets.create_dataset_version("near").name, WAIT_S)
    assert sum(count.example_count for count in version.counts) == COUNT
    assert not waiting(), "the version was made by the one that waited"


def test_one_that_is_killed_begins_anew(
    client: Client, running: tuple[Any, Path], folder: Path, sent: dataset_pb2.Import
) -> None:
    client.datasets.create_dataset("killed")
    started = client.datasets.create_import("killed", found(client, folder))
    killed = 0
    deadline = time.monotonic() + WAIT_S
    while not killed and time.monotonic() < deadline:
        for place in Path("/proc").glob("[0-9]*/cmdline"):
            try:
                ours = int((place.parent / "stat").read_text().rpartition(")")[2].split()[1]) == os.getpid()
                if ours and b"modelyard.dataset.worker" in place.read_bytes():
                    os.kill(int(place.parent.name), signal.SIGKILL)
                    killed += 1
            except OSError:
                continue
        time.sleep(0.005)
    done = client.datasets.wait_import(started.name, WAIT_S)
    assert killed
    assert done.status.attempt >= 2
    assert done.summary.digest == sent.summary.digest


def test_another_folder_is_not_taken_for_it(client: Client, folder: Path, tmp_path: Path) -> None:
    client.datasets.create_dataset("other")
    here = found(client, folder)
    for change, reason in (
        ({"boot_id": "another"}, "NOT_THE_SAME_FOLDER"),
        ({"inode": here.inode + 1}, "NOT_THE_SAME_FOLDER"),
        ({"path": str(tmp_path)}, "NOT_THE_SAME_FOLDER"),
        ({"path": str(tmp_path / "none")}, "NOT_THE_SAME_FOLDER"),
        ({"path": "pictures"}, "BAD_FOLDER"),
        ({"path": ""}, "BAD_FOLDER"),
    ):
        wanted = dataset_pb2.LocalFolder()
        wanted.CopyFrom(here)
        for name, value in change.items():
            setattr(wanted, name, value)
        with pytest.raises((FailedPrecondition, InvalidArgument)) as caught:
            client.datasets.create_import("other", wanted)
        assert caught.value.reason == reason


def test_a_server_that_is_nobodys_own_reads_no_folder(tmp_path: Path, folder: Path, client: Client) -> None:
    environment = {"MODELYARD_DATA_DIR": str(tmp_path / "data")}
    server = Process("modelyard.dataset", free_port(), environment, tmp_path / "log")
    try:
        server.wait_ready()
        with Client(Addresses.same(server.address)) as other:
            assert other.datasets.local_folder(folder) is None
            other.datasets.create_dataset("d")
            with pytest.raises(PermissionDenied) as caught:
                other.datasets.create_import("d", found(client, folder))
    finally:
        server.stop()
    assert caught.value.reason == "NOT_THE_OWNER"


def test_another_user_of_the_same_server_may_not(
    running: tuple[Any, Path], client: Client, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from modelyard.core.access.authentication import Authenticator

    token = "another-users-token-of-more-than-32-characters"
    known = Authenticator.quick

    def quick(self: Authenticator, authorization: str, names: tuple[str, ...]) -> Principal | None:
        if authorization.endswith(token):
            return Principal(Kind.USER, "user:owner", {EVERY_PROJECT: Role.ADMIN})
        return known(self, authorization, names)

    monkeypatch.setattr(Authenticator, "quick", quick)
    client.datasets.create_dataset("theirs")
    with Client(running[0].address, access=Access(token)) as other, pytest.raises(PermissionDenied) as caught:
        other.datasets.create_import("theirs", found(client, folder))
    assert caught.value.reason == "NOT_THE_OWNER"


def test_the_command_line_sends_what_the_server_cannot_read(
    running: tuple[Any, Path], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, data = running
    with session(Common(made.address, data, "default", False, False)) as here:
        source, name = asking.source_of(here, str(folder))
        assert isinstance(source, dataset_pb2.LocalFolder)
        assert name == folder.name
        assert isinstance(asking.source_of(here, str(next(folder.rglob("*.png"))))[0], blob_pb2.Blob)
        source.boot_id = "of another machine"
        here.client.datasets.create_dataset("fallen-back")
        begun = asking.import_begun(here, "fallen-back", str(folder), source, file_name=name)
        assert begun.source.size_bytes > 0
        assert here.client.datasets.wait_import(begun.name, WAIT_S).summary.example_count == COUNT
