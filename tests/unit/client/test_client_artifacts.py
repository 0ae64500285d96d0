"""Uploads and downloads through a real gRPC server with a store in memory."""

from __future__ import annotations

import hashlib
import io
import os
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from modelyard.artifact.v1 import artifact_service_pb2_grpc
from modelyard.client import Addresses, DataLoss, InvalidArgument, NotFound
from modelyard.client._archive import CHUNK_BYTES, chunks, open_source
from modelyard.type.v1 import blob_pb2
from tests.support.client_fakes import Connect, FakeArtifacts, Server


@pytest.fixture
def store() -> FakeArtifacts:
    return FakeArtifacts()


@pytest.fixture
def server(serve: Callable[..., Server], store: FakeArtifacts) -> Server:
    return serve(lambda server: artifact_service_pb2_grpc.add_ArtifactServiceServicer_to_server(store, server))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "my flowers"
    for name in ("rose/a b.jpg", "rosé/ü.jpg", ".hidden/x", "tulip/empty.jpg"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"" if "empty" in name else name.encode() * 50)
    return root


def test_a_file_is_uploaded_as_it_is(connect: Connect, server: Server, store: FakeArtifacts, tmp_path: Path) -> None:
    content = os.urandom(2_500_000)
    (tmp_path / "data.csv").write_bytes(content)
    seen: list[tuple[int, int]] = []
    blob = connect(server.address, project="p").artifacts.upload(tmp_path / "data.csv", lambda *at: seen.append(at))
    assert store.blobs[blob.uri] == content
    assert (store.headers[0].parent, store.headers[0].file_name) == ("projects/p", "data.csv")
    assert store.headers[0].size_bytes == len(content)
    assert seen[-1] == (len(content), len(content))
    assert max(store.chunk_sizes) <= 4 << 20


def test_a_folder_is_uploaded_as_a_zip_with_its_names(
    connect: Connect, server: Server, store: FakeArtifacts, folder: Path
) -> None:
    client = connect(server.address)
    seen: list[tuple[int, int]] = []
    blob = client.artifacts.upload(folder, lambda *at: seen.append(at))
    archive = zipfile.ZipFile(io.BytesIO(store.blobs[blob.uri]))
    assert archive.testzip() is None
    assert sorted(archive.namelist()) == [".hidden/x", "rose/a b.jpg", "rosé/ü.jpg", "tulip/empty.jpg"]
    assert archive.read("rosé/ü.jpg") == "rosé/ü.jpg".encode() * 50
    assert store.headers[0].file_name == "my flowers.zip"
    assert seen[-1][0] == seen[-1][1] == sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    assert client.artifacts.upload(folder).uri == blob.uri


def test_links_that_lead_out_are_left_out_and_told(
    connect: Connect, server: Server, store: FakeArtifacts, folder: Path, tmp_path: Path
) -> None:
    (tmp_path / "secret.txt").write_text("secret")
    (folder / "out.txt").symlink_to(tmp_path / "secret.txt")
    (folder / "dangling").symlink_to(tmp_path / "nothing")
    (folder / "loop").symlink_to(folder)
    (folder / "in.jpg").symlink_to(folder / "rose" / "a b.jpg")
    os.mkfifo(folder / "pipe")
    left: dict[str, str] = {}
    blob = connect(server.address).artifacts.upload(folder, on_skipped=lambda path, why: left.update({path.name: why}))
    names = zipfile.ZipFile(io.BytesIO(store.blobs[blob.uri])).namelist()
    assert "in.jpg" in names
    assert not {"out.txt", "dangling", "pipe"} & set(names)
    assert set(left) == {"out.txt", "dangling", "loop", "pipe"}
    assert left["out.txt"] == "a link that leads out of the folder"


def test_a_name_that_is_not_unicode_is_left_out(folder: Path) -> None:
    (Path(os.fsdecode(os.fsencode(folder) + b"/bad\xff.jpg"))).write_bytes(b"x")
    left: list[str] = []
    source = open_source(folder, lambda path, why: left.append(why))
    assert left == ["its name is not Unicode"]
    assert len(source.entries) == 4


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda path: path.mkdir(), "EMPTY_FOLDER"),
        (lambda path: (path / "sub").mkdir(parents=True), "EMPTY_FOLDER"),
        (lambda path: path.write_bytes(b""), "EMPTY_FILE"),
        (lambda path: None, "NO_SUCH_SOURCE"),
        (lambda path: os.mkfifo(path), "NOT_A_FILE"),
    ],
)
def test_nothing_to_send_is_said_before_anything_is_sent(
    connect: Connect, tmp_path: Path, make: Callable[[Path], None], reason: str
) -> None:
    make(tmp_path / "source")
    with pytest.raises(InvalidArgument) as caught:
        connect("127.0.0.1:1").artifacts.upload(tmp_path / "source")
    assert caught.value.reason == reason
    assert str(tmp_path / "source") in caught.value.message


def test_a_file_that_vanishes_while_it_is_sent_is_the_error_that_is_raised(
    connect: Connect, server: Server, store: FakeArtifacts, folder: Path
) -> None:
    def vanish(done: int, total: int) -> None:
        (folder / "rosé" / "ü.jpg").unlink(missing_ok=True)

    with pytest.raises(FileNotFoundError):
        connect(server.address).artifacts.upload(folder, vanish)
    assert not store.blobs


@pytest.mark.parametrize("now", [b"", b"shorter", b"longer " * 10])
def test_a_file_that_changes_while_it_is_sent_is_named(
    connect: Connect, server: Server, store: FakeArtifacts, folder: Path, now: bytes
) -> None:
    with pytest.raises(InvalidArgument) as caught:
        connect(server.address).artifacts.upload(folder, lambda done, total: (folder / "rosé" / "ü.jpg").write_bytes(now))
    assert (caught.value.reason, caught.value.values["file"]) == ("FILE_CHANGED", str(folder / "rosé" / "ü.jpg"))
    assert not store.blobs


def test_files_of_every_size_are_in_the_zip_and_its_length_is_told_before(tmp_path: Path) -> None:
    sizes = [0, 1, 300_000, CHUNK_BYTES - 1, CHUNK_BYTES, CHUNK_BYTES + 1, 3 * CHUNK_BYTES + 5, 700_000]
    for number, size in enumerate(sizes):
        (tmp_path / f"{number}-é.bin").write_bytes(os.urandom(size))
    source = open_source(tmp_path)
    pieces = list(chunks(source))
    assert max(map(len, pieces)) <= CHUNK_BYTES
    whole = b"".join(pieces)
    assert len(whole) == source.size_bytes
    with zipfile.ZipFile(io.BytesIO(whole)) as archive:
        assert archive.testzip() is None
        assert {name: archive.read(name) for name in archive.namelist()} == {p.name: p.read_bytes() for p in tmp_path.iterdir()}


def test_other_bytes_in_the_store_are_noticed(connect: Connect, server: Server, store: FakeArtifacts, folder: Path) -> None:
    store.lie = True
    with pytest.raises(DataLoss):
        connect(server.address).artifacts.upload(folder)


def test_a_download_goes_on_where_it_broke(connect: Connect, server: Server, store: FakeArtifacts, tmp_path: Path) -> None:
    content = os.urandom(10_500)
    blob = store.keep(content)
    store.break_after = [3, 0, 4]
    path = connect(server.address).artifacts.download(blob, tmp_path / "new" / "model.zip")
    assert path.read_bytes() == content
    assert store.offsets == [0, 3000, 3000, 7000]
    assert [found.name for found in path.parent.iterdir()] == ["model.zip"]


def test_a_download_of_wrong_bytes_leaves_nothing(connect: Connect, server: Server, store: FakeArtifacts, tmp_path: Path) -> None:
    blob = store.keep(b"right")
    store.blobs[blob.uri] = b"wrong"
    (tmp_path / "model.zip").write_text("before")
    with pytest.raises(DataLoss) as caught:
        connect(server.address).artifacts.download(blob, tmp_path / "model.zip")
    assert caught.value.values["found"] == hashlib.sha256(b"wrong").hexdigest()
    assert [(found.name, found.read_text()) for found in tmp_path.iterdir()] == [("model.zip", "before")]


def test_the_uri_says_which_service_is_asked(connect: Connect, serve: Callable[..., Server], tmp_path: Path) -> None:
    exporter = FakeArtifacts("exporter")
    server = serve(lambda server: artifact_service_pb2_grpc.add_ArtifactServiceServicer_to_server(exporter, server))
    client = connect(Addresses(dataset="127.0.0.1:1", exporter=server.address))
    assert client.artifacts.download(exporter.keep(b"bundle"), tmp_path / "b.zip").read_bytes() == b"bundle"
    unknown = blob_pb2.Blob(uri="artifact://exporter/" + "1" * 64, sha256="1" * 64, size_bytes=1)
    with pytest.raises(NotFound):
        client.artifacts.download(unknown, tmp_path / "c.zip")
    with pytest.raises(InvalidArgument, match="uri is 'file:///etc/passwd'"):
        client.artifacts.download(blob_pb2.Blob(uri="file:///etc/passwd"), tmp_path / "c.zip")


def test_a_folder_is_never_whole_in_memory(tmp_path: Path) -> None:
    for number in range(4):
        with (tmp_path / f"{number}.bin").open("wb") as file:
            file.truncate(16 << 20)
    source = open_source(tmp_path)
    tracemalloc.start()
    total = sum(len(chunk) for chunk in chunks(source))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert total > 64 << 20
    assert peak < 12 << 20
