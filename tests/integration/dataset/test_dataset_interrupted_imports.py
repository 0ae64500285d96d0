"""Imports that end early, on real pictures: killed, cancelled, sent over a line that breaks. Started again, they end as if
nothing had been."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from modelyard.artifact.v1 import artifact_service_pb2 as messages
from modelyard.client import Addresses, Client
from modelyard.core.platform import Platform, open_platform
from modelyard.dataset import bootstrap
from modelyard.dataset.settings import DatasetSettings
from modelyard.dataset.v1 import dataset_pb2
from modelyard.type.v1 import job_pb2
from tests.support.hosted import hosted

pytestmark = pytest.mark.data
WAIT_S = 240.0


class Here:
    """A dataset service, and a zip of real pictures in the store."""

    def __init__(self, client: Client, platform: Platform, folder: Path, source: Path) -> None:
        self.client, self.platform, self.folder, self.source = client, platform, folder, source
        self.blob = client.artifacts.upload(source)

    def start(self, name: str) -> dataset_pb2.Import:
        self.client.datasets.create_dataset(name)
        return self.client.datasets.create_import(name, self.blob, file_name=self.source.name)

    def uris(self) -> set[str]:
        return {blob.uri for blob in self.platform.for_service("dataset").artifacts.list()}


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory, data_dir: Path) -> Iterator[Here]:
    folder = tmp_path_factory.mktemp("interrupted")
    source = folder / "flowers.zip"
    pictures = sorted((data_dir / "flowers128").rglob("*.jpg"))[:3500]
    with zipfile.ZipFile(source, "w") as archive:
        for path in pictures:
            archive.write(path, path.relative_to(data_dir / "flowers128").as_posix())
    platform = open_platform(DatasetSettings(data_dir=folder / "data"), "dataset")
    with hosted(platform, [bootstrap.build(platform)]) as address, Client(Addresses.same(address)) as client:
        yield Here(client, platform, folder, source)


@pytest.fixture(scope="module")
def undisturbed(here: Here) -> dataset_pb2.Import:
    return here.client.datasets.wait_import(here.start("undisturbed").name, WAIT_S)


def workers() -> list[int]:
    """Processes of imports below this one; what waits for a job that may follow has no log yet."""
    found = []
    for place in Path("/proc").glob("[0-9]*"):
        try:
            command, stat = (place / "cmdline").read_bytes(), (place / "stat").read_text()
            if b"modelyard.dataset.worker\0" not in command or os.readlink(place / "fd" / "1") == os.devnull:
                continue
        except OSError:
            continue
        if int(stat.rpartition(")")[2].split()[1]) == os.getpid():
            found.append(int(place.name))
    return found


def _in_the_middle(here: Here, name: str, part: float, undisturbed: dataset_pb2.Import) -> tuple[dataset_pb2.Import, int]:
    """An import that has run for a part of what it takes undisturbed, and the process that does it."""
    began, ended = undisturbed.status.start_time, undisturbed.status.end_time
    started = here.start(name)
    deadline = time.monotonic() + WAIT_S
    while not (found := workers()):
        assert time.monotonic() < deadline
        time.sleep(0.005)
    time.sleep(part * (ended.ToNanoseconds() - began.ToNanoseconds()) / 1e9)
    return started, found[0]


def test_a_killed_import_goes_on_and_doubles_nothing(here: Here, undisturbed: dataset_pb2.Import) -> None:
    before = here.uris()
    attempts = []
    for part in (0.2, 0.4, 0.6, 0.8):
        started, worker = _in_the_middle(here, f"killed-{10 * part:.0f}", part, undisturbed)
        with contextlib.suppress(ProcessLookupError):  # it was quicker
            os.kill(worker, signal.SIGKILL)
        done = here.client.datasets.wait_import(started.name, WAIT_S)
        assert done.summary == undisturbed.summary
        assert done.summary.example_count + done.summary.rejected_count == 3500
        attempts.append(done.status.attempt)
    assert 2 in attempts
    assert here.uris() == before  # the same content is the same blobs
    assert not workers()


def _cancelled(here: Here, part: float, undisturbed: dataset_pb2.Import) -> str:
    """The data set whose import was cancelled on its way; empty when it was quicker."""
    name = f"cancelled-{10 * part:.0f}"
    started, _ = _in_the_middle(here, name, part, undisturbed)
    here.client.datasets.cancel_import(started.name)
    deadline = time.monotonic() + WAIT_S
    while (state := here.client.datasets.get_import(started.name).status.state) in (
        job_pb2.JOB_STATE_QUEUED, job_pb2.JOB_STATE_RUNNING,
    ):  # fmt: skip
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return name if state == job_pb2.JOB_STATE_CANCELLED else ""


def test_a_cancelled_import_leaves_nothing_and_starts_again(here: Here, undisturbed: dataset_pb2.Import) -> None:
    before = here.uris()
    name = next(filter(None, (_cancelled(here, part, undisturbed) for part in (0.7, 0.5, 0.3, 0.1))))
    assert here.uris() == before
    again = here.client.datasets.create_import(name, here.blob, file_name=here.source.name)
    done = here.client.datasets.wait_import(again.name, WAIT_S)
    assert done.summary == undisturbed.summary
    assert here.uris() == before
    version = here.client.datasets.wait_dataset_version(here.client.datasets.create_dataset_version(name).name, WAIT_S)
    assert sum(count.example_count for count in version.counts) == done.summary.example_count


def test_an_upload_that_breaks_off_goes_on_where_it_was(here: Here, monkeypatch: pytest.MonkeyPatch) -> None:
    """The line breaks after a third; the client asks how much came, and sends the rest."""
    from modelyard.core.rpc import artifact_servicer

    sent: list[tuple[int, int]] = []
    broken = threading.Event()
    original = artifact_servicer._chunk

    def chunk(message: messages.UploadArtifactRequest) -> bytes:
        data = original(message)
        sent[-1] = (sent[-1][0], sent[-1][1] + len(data))
        if not broken.is_set() and sent[-1][1] > 3_000_000:
            broken.set()
            from modelyard.core.errors import Unavailable

            raise Unavailable("LINE_BROKEN", "broken on purpose")
        return data

    header = artifact_servicer._header

    async def noted(stream: object) -> messages.UploadHeader:
        found = await header(stream)  # type: ignore[arg-type]
        sent.append((found.offset, 0))
        return found

    monkeypatch.setattr(artifact_servicer, "_chunk", chunk)
    monkeypatch.setattr(artifact_servicer, "_header", noted)
    blob = here.client.artifacts.upload(here.source)
    assert blob == here.blob
    assert broken.is_set()
    size = here.source.stat().st_size
    (_, first), (offset, rest) = sent
    assert 0 < offset <= first
    assert offset + rest == size
    assert not list((here.folder / "data" / "uploads").iterdir())
