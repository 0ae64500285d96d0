"""What every artifact store must do, run over each adapter: a folder, and a bucket of a real S3."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import io
import os
import resource
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import cattrs
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from modelyard.core.artifacts import (
    ArtifactStore,
    Blob,
    StoredBlob,
    build_uri,
    collect,
    find_uris,
    open_store,
    parse_uri,
)
from modelyard.core.artifacts_files import FileArtifactStore
from modelyard.core.artifacts_s3 import S3ArtifactStore, connect
from modelyard.core.errors import DataLoss, InvalidArgument, NotFound, ResourceExhausted, Unavailable
from modelyard.core.settings import CoreSettings

LARGE = bytes(range(256)) * 12_000  # about 3 MB: several chunks


@dataclass(frozen=True)
class World:
    """A root, stores on it, and a way to change stored bytes behind their back."""

    open: Callable[[str], ArtifactStore]
    overwrite: Callable[[str, bytes], None]
    kind: str


def _file_world(folder: Path) -> World:
    def overwrite(uri: str, data: bytes) -> None:
        namespace, sha256 = parse_uri(uri)
        place = folder / namespace / sha256[:2] / sha256
        place.chmod(0o644)
        place.write_bytes(data)

    return World(lambda namespace: open_store(f"file://{folder}", namespace), overwrite, "files")


def _s3_world(settings: CoreSettings) -> World:
    client, bucket = connect(settings), settings.artifacts_url.removeprefix("s3://")
    caches = iter(range(1_000_000))

    def overwrite(uri: str, data: bytes) -> None:
        client.put_object(bucket, "/".join(parse_uri(uri)), io.BytesIO(data), len(data))

    def open_(namespace: str) -> ArtifactStore:
        return open_store(settings.artifacts_url, namespace, settings, cache_dir=settings.data_dir / f"cache{next(caches)}")

    return World(open_, overwrite, "s3")


@pytest.fixture(params=["files", "s3"])
def world(request: pytest.FixtureRequest, tmp_path: Path) -> World:
    if request.param == "files":
        return _file_world(tmp_path / "artifacts")
    return _s3_world(request.getfixturevalue("s3_settings"))


@pytest.fixture
def store(world: World) -> ArtifactStore:
    return world.open("trainer")


def sha256_of(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def everything(store: ArtifactStore) -> dict[str, int]:
    return {blob.uri: blob.size_bytes for blob in store.list()}


def test_a_blob_says_where_it_is_and_what_it_holds(store: ArtifactStore) -> None:
    blob = store.put_bytes(b"hello")
    assert blob == Blob(f"artifact://trainer/{sha256_of(b'hello')}", sha256_of(b"hello"), 5)
    assert store.stat(blob.uri) == blob
    assert cattrs.structure(cattrs.unstructure(blob), Blob) == blob


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(pieces=st.lists(st.binary(max_size=300), max_size=8), data=st.data())
def test_what_is_put_in_pieces_is_read_back_from_any_offset(
    store: ArtifactStore, pieces: list[bytes], data: st.DataObject
) -> None:
    whole = b"".join(pieces)
    blob = store.put(iter(pieces), sha256=sha256_of(whole), size_bytes=len(whole))
    offset = data.draw(st.integers(0, len(whole)))
    with store.open(blob, offset) as file:
        assert file.read() == whole[offset:]
    assert store.read_bytes(blob.uri) == whole


def test_streams_files_and_bytes_of_one_content_are_one_blob(store: ArtifactStore, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.write_bytes(LARGE)
    blobs = {store.put(io.BytesIO(LARGE)), store.put_bytes(LARGE), store.put_file(source), store.put([LARGE[:7], b"", LARGE[7:]])}
    assert len(blobs) == 1
    assert everything(store) == {blobs.pop().uri: len(LARGE)}


@pytest.mark.parametrize("hashed", [True, False])
def test_a_file_that_is_adopted_is_stored_and_gone(store: ArtifactStore, tmp_path: Path, hashed: bool) -> None:
    for _ in range(2):  # also where the content is known already
        given = tmp_path / "given"
        given.write_bytes(LARGE)
        blob = store.adopt(given, sha256=sha256_of(LARGE) if hashed else "")
        assert (blob, given.exists()) == (store.stat(blob), False)
        assert store.read_bytes(blob) == LARGE


def test_path_gives_a_local_file(store: ArtifactStore) -> None:
    blob = store.put_bytes(LARGE)
    assert store.path(blob).read_bytes() == LARGE
    assert store.path(blob.uri) == store.path(blob)


@pytest.mark.parametrize("offset", [-1, 6, 1 << 70])
def test_an_offset_outside_is_refused(store: ArtifactStore, offset: int) -> None:
    with pytest.raises(InvalidArgument, match="it must be 0 to 5") as refused:
        store.open(store.put_bytes(b"hello"), offset)
    assert refused.value.reason == "BAD_OFFSET"


def test_what_was_announced_must_come(store: ArtifactStore) -> None:
    with pytest.raises(InvalidArgument) as refused:
        store.put([b"hello"], sha256=sha256_of(b"other"))
    assert refused.value.reason == "SHA256_MISMATCH"
    for size in (4, 6):
        with pytest.raises(InvalidArgument) as refused:
            store.put([b"hello"], size_bytes=size)
        assert refused.value.reason == "SIZE_MISMATCH"
    assert everything(store) == {}


def test_a_stream_longer_than_announced_is_not_read_to_its_end(store: ArtifactStore) -> None:
    def endless() -> Iterator[bytes]:
        while True:
            yield b"x" * 1000

    with pytest.raises(InvalidArgument, match="announced as 5000"):
        store.put(endless(), size_bytes=5000)


def test_an_interrupted_put_leaves_nothing(world: World, tmp_path: Path) -> None:
    def breaks() -> Iterator[bytes]:
        yield LARGE
        raise ConnectionResetError("the caller went away")

    store = world.open("trainer")
    with pytest.raises(ConnectionResetError):
        store.put(breaks())
    assert everything(store) == {}
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_a_blob_is_not_visible_before_all_of_it_is_there(store: ArtifactStore) -> None:
    seen: list[object] = []

    def watched() -> Iterator[bytes]:
        yield b"first half, "
        seen.append((everything(store), store.exists(build_uri("trainer", sha256_of(b"first half, second half")))))
        yield b"second half"

    blob = store.put(watched())
    assert seen == [({}, False)]
    assert store.exists(blob)


def test_two_puts_of_one_content_at_once(world: World) -> None:
    stores = [world.open("trainer") for _ in range(4)]
    barrier = threading.Barrier(8)

    def put(number: int) -> Blob:
        barrier.wait()
        return stores[number % 4].put(iter([LARGE, LARGE]))

    with ThreadPoolExecutor(8) as pool:
        blobs = set(pool.map(put, range(8)))
    assert len(blobs) == 1
    assert stores[0].read_bytes(blobs.pop()) == LARGE * 2
    assert len(everything(stores[0])) == 1


def test_many_readers_at_once(store: ArtifactStore) -> None:
    blob = store.put_bytes(LARGE)
    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(lambda _: sha256_of(store.read_bytes(blob)), range(16))) == {blob.sha256}


def test_a_changed_byte_is_refused_by_whoever_reads(world: World) -> None:
    uri = world.open("trainer").put_bytes(LARGE).uri
    world.overwrite(uri, LARGE[:-1] + b"?")
    reader = world.open("exporter")
    for read in (reader.open, reader.path, reader.read_bytes):
        with pytest.raises(DataLoss, match=uri) as refused:
            read(uri)
        assert refused.value.reason == "ARTIFACT_CORRUPT"
        assert refused.value.values["uri"] == uri


@pytest.mark.parametrize("damaged", [b"", LARGE[:-1], LARGE + b"x"])
def test_a_cut_or_longer_blob_is_refused(world: World, damaged: bytes) -> None:
    blob = world.open("trainer").put_bytes(LARGE)
    world.overwrite(blob.uri, damaged)
    with pytest.raises(DataLoss):
        world.open("trainer").open(blob)


def test_putting_it_again_heals_a_damaged_blob(world: World) -> None:
    blob = world.open("trainer").put_bytes(b"hello")
    world.overwrite(blob.uri, b"jello")
    assert world.open("trainer").put_bytes(b"hello") == blob
    assert world.open("trainer").read_bytes(blob) == b"hello"


def test_what_is_not_there(store: ArtifactStore) -> None:
    uri = build_uri("trainer", "0" * 64)
    assert not store.exists(uri)
    assert everything(store) == {}
    for read in (store.open, store.path, store.read_bytes, store.stat):
        with pytest.raises(NotFound, match=uri) as refused:
            read(uri)
        assert refused.value.reason == "ARTIFACT_NOT_FOUND"
    store.delete(uri)


@pytest.mark.parametrize(
    "uri",
    [
        "",
        "trainer/" + "0" * 64,
        "artifact://trainer/" + "0" * 63,
        "artifact://trainer/" + "0" * 65,
        "artifact://trainer/" + "A" * 64,
        "artifact://trainer/" + "0" * 64 + "\n",
        "artifact://Trainer/" + "0" * 64,
        "artifact:///" + "0" * 64,
        "artifact://../" + "0" * 64,
        "artifact://trainer/../exporter/" + "0" * 64,
        "file:///etc/passwd",
        "artifact://" + "x" * 1_000_000,
    ],
    ids=lambda uri: str(uri)[:40],
)
def test_a_wrong_uri_is_refused_everywhere(store: ArtifactStore, uri: str) -> None:
    for use in (store.open, store.path, store.read_bytes, store.stat, store.exists, store.delete, store.presigned_url):
        with pytest.raises(InvalidArgument) as refused:
            use(uri)
        assert refused.value.reason == "BAD_ARTIFACT_URI"
        assert len(refused.value.message) < 500


def test_delete_makes_it_gone_for_all(world: World) -> None:
    store, other = world.open("trainer"), world.open("trainer")
    blob = store.put_bytes(b"hello")
    assert other.read_bytes(blob) == b"hello"
    store.delete(blob)
    for each in (store, other):
        assert not each.exists(blob)
        with pytest.raises(NotFound):
            each.read_bytes(blob)
    store.delete(blob)


def test_any_namespace_reads_but_only_its_own_is_changed(world: World) -> None:
    trainer, exporter = world.open("trainer"), world.open("exporter")
    blob = trainer.put_bytes(b"hello")
    assert exporter.read_bytes(blob) == b"hello"
    assert exporter.stat(blob.uri) == blob
    assert everything(exporter) == {}
    with pytest.raises(InvalidArgument, match="belongs to 'trainer'"):
        exporter.delete(blob)
    copy = exporter.put_bytes(b"hello")
    trainer.delete(blob)
    assert exporter.read_bytes(copy) == b"hello"


def test_list_gives_sizes_and_times(store: ArtifactStore) -> None:
    before = datetime.now(UTC) - timedelta(seconds=2)
    blobs = [store.put_bytes(bytes([number]) * number) for number in range(5)]
    listed = list(store.list())
    assert {(b.uri, b.sha256, b.size_bytes) for b in listed} == {(b.uri, b.sha256, b.size_bytes) for b in blobs}
    assert all(before <= blob.modified <= datetime.now(UTC) + timedelta(seconds=2) for blob in listed)


def test_collect_removes_what_is_neither_referenced_nor_young(store: ArtifactStore) -> None:
    kept, dropped = store.put_bytes(b"kept"), store.put_bytes(b"dropped")
    assert collect(store, {kept.uri}, grace_s=3600) == []
    time.sleep(1.1)
    assert collect(store, {kept.uri}, grace_s=1) == [dropped.uri]
    assert everything(store) == {kept.uri: 4}


def test_putting_it_again_makes_it_young(store: ArtifactStore) -> None:
    blob = store.put_bytes(b"hello")
    time.sleep(1.5)
    store.put_bytes(b"hello")
    assert collect(store, set(), grace_s=1.2) == []
    assert store.exists(blob)


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(contents=st.sets(st.binary(max_size=20), max_size=6), data=st.data())
def test_collect_leaves_exactly_the_referenced(store: ArtifactStore, contents: set[bytes], data: st.DataObject) -> None:
    uris = [store.put_bytes(content).uri for content in contents]
    referenced = set(data.draw(st.lists(st.sampled_from(uris)))) if uris else set()
    time.sleep(0.01)
    collect(store, referenced, grace_s=-60)  # the server's clock may be a little ahead
    assert set(everything(store)) == referenced


def test_presigned_url_gives_the_bytes_to_anybody_where_there_is_one(world: World) -> None:
    store = world.open("trainer")
    url = store.presigned_url(store.put_bytes(b"hello"))
    if world.kind == "files":
        assert url is None
        return
    assert url is not None
    with urllib.request.urlopen(url) as answer:
        assert answer.read() == b"hello"


def test_the_store_stays_usable_when_a_reader_stops_early(store: ArtifactStore) -> None:
    blob = store.put_bytes(LARGE)
    with store.open(blob) as file:
        assert file.read(10) == LARGE[:10]
    assert store.read_bytes(blob) == LARGE


def test_a_part_is_read_without_the_rest(world: World) -> None:
    store = world.open("trainer")
    blob = store.put_bytes(LARGE)
    other = world.open("exporter")
    for offset, length in [(0, 1), (7, 1000), (len(LARGE) - 5, 5), (0, len(LARGE))]:
        for _ in range(2):  # the second time perhaps from a copy
            assert other.read_part(blob, offset, length) == LARGE[offset : offset + length]


@pytest.mark.parametrize("offset", [len(LARGE) - 10, len(LARGE), len(LARGE) + 1000])
def test_a_part_behind_the_end_is_named(world: World, offset: int) -> None:
    store = world.open("trainer")
    blob = store.put_bytes(LARGE)
    with pytest.raises(DataLoss) as caught:
        store.read_part(blob, offset, 20)
    assert caught.value.reason == "ARTIFACT_CUT_SHORT"
    assert caught.value.values["end"] == str(offset + 20)


def test_a_part_of_what_is_not_there_is_named(world: World) -> None:
    store = world.open("trainer")
    store.put_bytes(b"hello")
    with pytest.raises(NotFound):
        store.read_part(build_uri("trainer", "0" * 64), 0, 1)


# What only one adapter can show.


def limited(settings: CoreSettings, cache: Path, most_bytes: int) -> S3ArtifactStore:
    """A store whose cache holds so many bytes."""
    return S3ArtifactStore(connect(settings), settings.artifacts_url.removeprefix("s3://"), "trainer", cache, most_bytes)


def copies(cache: Path) -> int:
    """Bytes in a cache folder."""
    return sum(path.stat().st_size for path in cache.rglob("*") if path.is_file())


def test_parts_of_s3_are_kept_as_far_as_they_fit_and_replaced_when_asked(s3_settings: CoreSettings, tmp_path: Path) -> None:
    store = limited(s3_settings, tmp_path / "cache", 2500)
    blob = store.put_bytes(LARGE)
    for offset in range(0, 5000, 1000):
        assert store.read_part(blob, offset, 1000) == LARGE[offset : offset + 1000]
    kept = sorted((tmp_path / "cache" / "parts").rglob(f"{blob.sha256}-*"))
    assert [path.name.split("-")[1] for path in kept] == ["0", "1000"]  # the first that came stay
    kept[0].write_bytes(b"?" * 1000)
    assert store.read_part(blob, 0, 1000) == b"?" * 1000  # the reader verifies
    assert store.read_part(blob, 0, 1000, fresh=True) == LARGE[:1000]
    kept[1].write_bytes(b"short")
    assert store.read_part(blob, 1000, 1000) == LARGE[1000:2000]


def test_the_cache_of_s3_stays_within_its_size_but_keeps_what_is_in_use(s3_settings: CoreSettings, tmp_path: Path) -> None:
    cache, size = tmp_path / "cache", 100_000
    store = limited(s3_settings, cache, 4 * size)
    blobs = [store.put_bytes(os.urandom(size)) for _ in range(12)]
    used = store.path(blobs[0])
    with store.open(blobs[1]) as opened:
        for number, blob in enumerate(blobs):
            os.utime(used, (number, number))  # by its age it would be the first to go
            assert hashlib.sha256(store.read_bytes(blob)).hexdigest() == blob.sha256
        assert copies(cache) <= 4 * size
        assert hashlib.sha256(used.read_bytes()).hexdigest() == blobs[0].sha256
        assert hashlib.sha256(opened.read()).hexdigest() == blobs[1].sha256
    assert not (cache / "cache" / blobs[2].sha256[:2] / blobs[2].sha256).exists()
    assert store.read_bytes(blobs[2])


def test_processes_that_share_a_small_cache_do_not_disturb_each_other(s3_settings: CoreSettings, tmp_path: Path) -> None:
    cache, size = tmp_path / "cache", 50_000
    stores = [limited(s3_settings, cache, 3 * size) for _ in range(4)]  # locks of files are of each opening, also in one process
    blobs = [stores[0].put_bytes(os.urandom(size)) for _ in range(10)]

    def reads(number: int) -> None:
        for step in range(30):
            blob = blobs[(step * (number + 3)) % 10]
            assert hashlib.sha256(stores[number].read_bytes(blob)).hexdigest() == blob.sha256

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(reads, range(4)))
    assert stores[0].read_bytes(blobs[0])


def test_two_s3_stores_may_share_a_cache(s3_settings: CoreSettings) -> None:
    stores = [open_store(s3_settings.artifacts_url, "trainer", s3_settings) for _ in range(2)]
    blob = stores[0].put_bytes(LARGE)
    with ThreadPoolExecutor(4) as pool:
        paths = set(pool.map(lambda number: stores[number % 2].path(blob), range(8)))
    assert len(paths) == 1
    assert paths.pop().read_bytes() == LARGE


def test_a_damaged_cache_is_fetched_again(s3_settings: CoreSettings) -> None:
    store = open_store(s3_settings.artifacts_url, "trainer", s3_settings)
    blob = store.put_bytes(b"hello")
    cached = store.path(blob)
    cached.chmod(0o644)
    cached.write_bytes(b"jello")
    assert store.read_bytes(blob) == b"hello"


def test_an_s3_that_does_not_answer_is_unavailable(tmp_path: Path) -> None:
    settings = CoreSettings(data_dir=tmp_path, s3_endpoint="http://127.0.0.1:9")
    store = open_store("s3://bucket", "trainer", settings)
    with pytest.raises(Unavailable) as refused:
        store.put_bytes(b"hello")
    assert refused.value.reason == "ARTIFACT_STORE_UNAVAILABLE"


@pytest.mark.parametrize("url", ["", "file://relative", "/folder", "s3://", "s3://UPPER", "s3://b/key", "http://host/bucket"])
def test_a_wrong_root_is_refused(url: str, tmp_path: Path) -> None:
    with pytest.raises(InvalidArgument) as refused:
        open_store(url, "trainer", CoreSettings(data_dir=tmp_path))
    assert refused.value.reason == "BAD_ARTIFACTS_URL"


@pytest.mark.parametrize("namespace", ["", "..", "Trainer", "a/b", "train-er", "a" * 33])
def test_a_wrong_namespace_is_refused(namespace: str, tmp_path: Path) -> None:
    with pytest.raises(InvalidArgument, match="namespace is"):
        FileArtifactStore(tmp_path, namespace)


@pytest.mark.parametrize("endpoint", ["", "host:9000", "ftp://host", "http://host:9000/path"])
def test_a_wrong_endpoint_is_refused(endpoint: str, tmp_path: Path) -> None:
    with pytest.raises(InvalidArgument, match="s3_endpoint is"):
        open_store("s3://bucket", "trainer", CoreSettings(data_dir=tmp_path, s3_endpoint=endpoint))


def test_what_changes_after_it_was_verified_is_noticed_too(tmp_path: Path) -> None:
    world = _file_world(tmp_path)
    store = world.open("trainer")
    blob = store.put_bytes(b"hello")
    assert store.read_bytes(blob) == b"hello"
    world.overwrite(blob.uri, b"jello")
    with pytest.raises(DataLoss):
        store.read_bytes(blob)


def test_leftovers_of_a_killed_writer_are_removed_but_not_a_living_ones_file(tmp_path: Path) -> None:
    store = FileArtifactStore(tmp_path, "trainer")
    incoming = tmp_path / "trainer" / ".incoming"
    (incoming / "left-by-a-dead-process").write_bytes(b"half")
    long_ago = time.time() - 3600

    def slow() -> Iterator[bytes]:
        yield b"first"
        for path in incoming.iterdir():
            os.utime(path, (long_ago, long_ago))
        FileArtifactStore(tmp_path, "trainer")
        yield b"second"

    blob = store.put(slow())
    assert store.read_bytes(blob) == b"firstsecond"
    assert list(incoming.iterdir()) == []


def _limited(size: int) -> Callable[[], None]:
    return lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))


FILL_UP = """
import sys
from pathlib import Path
from modelyard.core.artifacts import open_store
from modelyard.core.errors import ResourceExhausted
store = open_store("file://" + sys.argv[1], "trainer")
small = store.put_bytes(b"small")
try:
    store.put(b"x" * 65536 for _ in range(64))
except ResourceExhausted as error:
    files = [path for path in Path(sys.argv[1]).rglob("*") if path.is_file()]
    print(error.reason, [blob.uri for blob in store.list()] == [small.uri], len(files))
    print(store.put_bytes(b"small again").size_bytes)
"""


def test_a_full_disk_is_named_and_nothing_stays(tmp_path: Path) -> None:
    """A tmpfs of 1 MB, where the system lets this process mount one."""
    mount = f"mkdir -p {tmp_path}/small && mount -t tmpfs -o size=1m none {tmp_path}/small"
    if subprocess.run(["unshare", "-rm", "sh", "-c", mount], capture_output=True).returncode != 0:
        pytest.skip("this system does not let an ordinary process mount a tmpfs (unshare -rm)")
    script = f'{mount} && exec "$0" -c "$1" {tmp_path}/small'
    done = subprocess.run(["unshare", "-rm", "sh", "-c", script, sys.executable, FILL_UP], capture_output=True, text=True)
    assert done.stdout.split() == ["DISK_FULL", "True", "1", "11"], done.stderr


def test_a_file_size_limit_is_a_full_disk_too(tmp_path: Path) -> None:
    command = [sys.executable, "-c", FILL_UP, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, preexec_fn=_limited(1 << 20))
    assert done.stdout.split() == ["DISK_FULL", "True", "1", "11"], done.stderr


def test_s3_names_a_full_temporary_folder(s3_settings: CoreSettings) -> None:
    store = open_store(s3_settings.artifacts_url, "trainer", s3_settings)

    def fills_up() -> Iterator[bytes]:
        yield b"x"
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(ResourceExhausted) as refused:
        store.put(fills_up())
    assert refused.value.reason == "DISK_FULL"
    assert everything(store) == {}


def test_uris_are_found_in_any_text() -> None:
    uri = build_uri("trainer", "ab" * 32)
    text = f'{{"a": "{uri}", "b": ["x{build_uri("dataset", "0" * 64)}"], "c": "artifact://trainer/short", "d": "{uri}f"}}'
    assert find_uris(text) == {uri, build_uri("dataset", "0" * 64)}


@given(st.text())
def test_parsing_a_uri_raises_nothing_else(text: str) -> None:
    with contextlib.suppress(InvalidArgument):
        assert build_uri(*parse_uri(text)) == text


def test_a_stored_blob_and_its_time(store: ArtifactStore) -> None:
    store.put_bytes(b"hello")
    (found,) = store.list()
    assert isinstance(found, StoredBlob)
    assert found.modified.tzinfo is not None
