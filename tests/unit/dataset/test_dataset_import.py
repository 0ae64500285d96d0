"""The import job over a real file store: what is taken, what is listed, what is refused, and that nothing half-made stays."""

from __future__ import annotations

import gzip
import io
import struct
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from modelyard.core.artifacts import ArtifactStore
from modelyard.core.errors import Cancelled, InvalidArgument, ModelyardError, ResourceExhausted
from modelyard.dataset.domain.records import ImportResult, ImportSpec
from modelyard.dataset.domain.work import Work
from modelyard.dataset.worker import import_job
from modelyard.dataset.worker.content import all_or_none
from modelyard.formats import pictures
from tests.support.datasets import file_store

Files = Mapping[str, bytes]


def picture(seed: int = 0, kind: str = "PNG", size: int = 12) -> bytes:
    out = io.BytesIO()
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (size, size, 3), dtype=np.uint8)).save(out, kind)
    return out.getvalue()


def zipped(files: Files) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return out.getvalue()


def idx(array: np.ndarray) -> bytes:
    return bytes([0, 0, 8, array.ndim]) + b"".join(size.to_bytes(4, "big") for size in array.shape) + array.tobytes()


@pytest.fixture
def store(tmp_path: Path) -> ArtifactStore:
    return file_store(tmp_path / "artifacts")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "work").mkdir()
    return tmp_path / "work"


def run(
    store: ArtifactStore, folder: Path, data: bytes, name: str = "a.zip", *, work: Work | None = None, **spec: str
) -> ImportResult:
    source = store.put_bytes(data)
    return import_job.run(ImportSpec("projects/p/datasets/d", source, name, **spec), store, folder, work or Work())


def refused(store: ArtifactStore, folder: Path, data: bytes, name: str = "a.zip", **spec: str) -> ModelyardError:
    """The error of an import that fails; checks that it leaves nothing but its source."""
    source = store.put_bytes(data)
    with pytest.raises(ModelyardError) as caught:
        import_job.run(ImportSpec("projects/p/datasets/d", source, name, **spec), store, folder, Work())
    assert [blob.size_bytes for blob in store.list()] == [len(data)]
    return caught.value


def good(count: int = 3) -> dict[str, bytes]:
    return {f"{name}/{i}.png": picture(i + 10 * offset) for offset, name in enumerate(("cat", "dog")) for i in range(count)}


def test_folders(store: ArtifactStore, folder: Path) -> None:
    result = run(store, folder, zipped({f"pets/{name}": data for name, data in good().items()}))
    summary = result.summary
    assert (summary.classes, summary.class_counts, summary.example_count) == (("cat", "dog"), (3, 3), 6)
    assert summary.rejected_count == 0
    assert all(store.exists(blob) for blob in result.content.blobs)


def test_everything_that_cannot_be_used_is_listed(store: ArtifactStore, folder: Path) -> None:
    bad = {
        "cat/empty.png": b"",
        "cat/cut.jpg": picture(50, "JPEG", 64)[:900],
        "cat/text.png": b"not a picture",
        "cat/notes.txt": b"hello",
        "../evil.png": picture(51),
        "loose.png": picture(52),
        "dog/huge.png": huge_png(),
    }
    result = run(store, folder, zipped({**good(), **bad, ".DS_Store": b"", "cat/Thumbs.db": b""}))
    assert {item.path: item.reason for item in result.summary.rejected} == {
        "cat/empty.png": "EMPTY_FILE",
        "cat/cut.jpg": "TRUNCATED_PICTURE",
        "cat/text.png": "NOT_A_PICTURE",
        "cat/notes.txt": "NOT_A_PICTURE",
        "../evil.png": "UNSAFE_NAME",
        "loose.png": "NO_LABEL",
        "dog/huge.png": "PICTURE_TOO_LARGE",
    }
    assert result.summary.rejected_count == 7
    assert result.summary.example_count == 6
    assert any("2 files" in note for note in result.summary.assumptions)


def huge_png() -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 20_000, 20_000, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


def test_names_with_spaces_unicode_and_dots(store: ArtifactStore, folder: Path) -> None:
    files = {
        "big cat/a b.png": picture(1),
        ".hidden/ü.png": picture(2),
        "日本/.dot.jpg": picture(3, "JPEG"),
        "日本/noending": picture(4),
    }
    result = run(store, folder, zipped(files))
    assert result.summary.classes == (".hidden", "big cat", "日本")
    assert result.summary.class_counts == (1, 1, 2)


def test_usage_folders_are_counted(store: ArtifactStore, folder: Path) -> None:
    files = {f"{usage}/{name}": data for usage in ("train", "test") for name, data in good(2).items()}
    assert run(store, folder, zipped(files)).summary.examples_with_usage == 8


def test_a_class_without_a_readable_picture_is_said(store: ArtifactStore, folder: Path) -> None:
    result = run(store, folder, zipped({**good(), "bird/1.png": b""}))
    assert result.summary.classes == ("cat", "dog")
    assert any("bird" in note for note in result.summary.assumptions)


@pytest.mark.parametrize(
    ("files", "reason", "words"),
    [
        ({}, "NO_EXAMPLES", "a.zip"),
        ({"readme.md": b"x"}, "NO_EXAMPLES", "1 file without an example that could be read; give a folder of pictures"),
        ({"cat/1.png": b""}, "NO_EXAMPLES", "cat/1.png"),
        ({"cat/1.png": picture(1), "cat/2.png": picture(2)}, "ONE_CLASS", "'cat'"),
        ({"1.png": picture(1)}, "NO_EXAMPLES", "no class folder. Put each file into a folder named after its class"),
        ({"a.csv": b"x,y\n1,a\n", "b.csv": b"x,y\n1,b\n"}, "SEVERAL_TABLES", "a.csv, b.csv"),
        ({"train-images-idx3-ubyte": idx(np.zeros((2, 4, 4), np.uint8))}, "NO_EXAMPLES", "train-images"),
    ],
)
def test_archives_that_cannot_be_used(store: ArtifactStore, folder: Path, files: Files, reason: str, words: str) -> None:
    error = refused(store, folder, zipped(files))
    assert error.reason == reason
    assert words in error.message


def test_a_bomb_is_refused_whole(store: ArtifactStore, folder: Path) -> None:
    assert refused(store, folder, zipped({**good(), "dog/x.png": b"\0" * 30_000_000})).reason == "ARCHIVE_BOMB"


def test_the_same_content_has_the_same_digest_whatever_the_zip(store: ArtifactStore, folder: Path, tmp_path: Path) -> None:
    files = good()
    one = run(store, folder, zipped(files))
    (tmp_path / "again").mkdir()
    two = run(store, tmp_path / "again", zipped(dict(reversed(files.items()))))
    assert one.summary.digest == two.summary.digest
    (tmp_path / "other").mkdir()
    other = run(store, tmp_path / "other", zipped({**files, "dog/new.png": picture(99)}))
    assert other.summary.digest != one.summary.digest


@pytest.mark.parametrize("pack", [lambda data: data, gzip.compress])
@pytest.mark.parametrize("channels", [0, 3])
def test_idx(store: ArtifactStore, folder: Path, pack, channels: int) -> None:  # type: ignore[no-untyped-def]
    shape = (300, 7, 5, channels) if channels else (300, 7, 5)
    images = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    labels = (np.arange(300) % 11).astype(np.uint8)
    files = {
        "train-images-idx3-ubyte.gz": pack(idx(images[:200])),
        "train-labels-idx1-ubyte.gz": pack(idx(labels[:200])),
        "t10k-images-idx3-ubyte.gz": pack(idx(images[200:])),
        "t10k-labels-idx1-ubyte.gz": pack(idx(labels[200:])),
    }
    result = run(store, folder, zipped(files))
    assert result.summary.classes == tuple(str(i) for i in range(11))
    assert result.summary.examples_with_usage == 300
    packed = store.read_bytes(result.content.packs[0])
    first = pictures.decode(packed, height=7, width=5, channels=channels or 1)
    assert np.array_equal(first.squeeze(), images[0])


def test_an_idx_file_that_ends_early_is_said(store: ArtifactStore, folder: Path) -> None:
    images, labels = np.zeros((50, 4, 4), np.uint8), (np.arange(50) % 2).astype(np.uint8)
    for data in (idx(images)[:-161], gzip.compress(idx(images), mtime=0)[:-20]):
        files = {"train-images-idx3-ubyte": data, "train-labels-idx1-ubyte": idx(labels)}
        try:
            result = run(store, folder, zipped(files))
        except InvalidArgument as error:
            assert "train-images" in error.message  # noqa: PT017  nothing could be read of the gzip
            continue
        assert result.summary.example_count == 39
        assert result.summary.rejected_count == 11
        assert result.summary.rejected[0].reason == "TRUNCATED_FILE"


def test_idx_counts_that_differ_are_refused(store: ArtifactStore, folder: Path) -> None:
    files = {
        "train-images-idx3-ubyte": idx(np.zeros((5, 4, 4), np.uint8)),
        "train-labels-idx1-ubyte": idx(np.zeros(4, np.uint8)),
    }
    assert refused(store, folder, zipped(files)).reason == "IDX_COUNT_MISMATCH"


def test_an_idx_header_that_promises_too_much_reads_what_is_there(store: ArtifactStore, folder: Path) -> None:
    head = bytes([0, 0, 8, 3]) + b"".join(size.to_bytes(4, "big") for size in (4_000_000_000, 4, 4))
    files = {"train-images-idx3-ubyte": head + bytes(32), "train-labels-idx1-ubyte": idx(np.arange(2, dtype=np.uint8))}
    assert refused(store, folder, zipped(files)).reason == "IDX_COUNT_MISMATCH"


def _id(value: object) -> str:
    """Bytes that hold the time are no name for a test."""
    return value if isinstance(value, str) else ""


CSV = b"x,y\n" + b"".join(b"%d,%s\n" % (i % 9, b"ab"[i % 2 : i % 2 + 1]) for i in range(60))


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("t.csv", CSV),
        ("t.csv.gz", gzip.compress(CSV)),
        ("t.zip", zipped({"folder/t.csv": CSV, "folder/.DS_Store": b""})),
        ("t.zip", zipped({"t.csv.gz": gzip.compress(CSV)})),
    ],
    ids=_id,
)
def test_tables_plain_and_packed(store: ArtifactStore, folder: Path, name: str, data: bytes) -> None:
    result = run(store, folder, data, name)
    assert (result.format, result.summary.example_count, result.summary.classes) == ("csv", 60, ("a", "b"))
    assert result.content.table is not None


@pytest.mark.parametrize(
    ("name", "data", "spec", "reason"),
    [
        ("t.csv", b"", {}, "NO_EXAMPLES"),
        ("t.csv", b"x,y\n", {}, "NO_EXAMPLES"),
        ("t.csv", CSV, {"label_column": "z"}, "TARGET_COLUMN_MISSING"),
        ("t.csv", CSV, {"format": "parquet"}, "NOT_A_TABLE"),
        ("t.csv", CSV, {"format": "image_folders"}, "FORMAT_MISMATCH"),
        ("t.csv", CSV, {"task": "image_classification"}, "BAD_TASK"),
        ("t.zip", zipped(good()), {"task": "tabular_regression"}, "BAD_TASK"),
        ("t.zip", zipped(good()), {"format": "csv"}, "NO_EXAMPLES"),
        ("t.zip", zipped(good()), {"format": "idx"}, "IDX_LABELS_MISSING"),
        ("one.png", picture(), {}, "NO_EXAMPLES"),
        ("i", idx(np.zeros((2, 4, 4), np.uint8)), {}, "IDX_LABELS_MISSING"),
        ("i.gz", gzip.compress(idx(np.zeros((2, 4, 4), np.uint8))), {}, "IDX_LABELS_MISSING"),
        ("x.bin", bytes(range(256)) * 10, {}, "NOT_A_TABLE"),
        ("x.zip", b"PK\x03\x04 no zip", {}, "NOT_A_ZIP"),
        ("x.gz", b"\x1f\x8b no gzip", {}, "CORRUPT_ENTRY"),
    ],
    ids=_id,
)
def test_sources_that_cannot_be_used(
    store: ArtifactStore, folder: Path, name: str, data: bytes, spec: dict[str, str], reason: str
) -> None:
    error = refused(store, folder, data, name, **spec)
    assert error.reason == reason


@pytest.mark.parametrize(
    ("name", "data", "right"),
    [
        ("t.xlsx", zipped({"xl/workbook.xml": b"<x/>"}), "save the sheet that holds the table as CSV"),
        ("t.xls", b"\xd0\xcf\x11\xe0" + bytes(600), "save the sheet that holds the table as CSV"),
        ("t.pdf", b"%PDF-1.4\n\x00\x01", "give a folder of pictures or sounds for each class, a table"),
        ("t.csv", b"age\n1\n2\n", "give one with a column for each thing that is known"),
        ("t.jpg", b"no picture", "give a folder, or a zip of one, that holds a folder of pictures for each class"),
    ],
    ids=["xlsx", "xls", "pdf", "one column", "one picture"],
)
def test_a_refusal_says_what_would_be_right(store: ArtifactStore, folder: Path, name: str, data: bytes, right: str) -> None:
    assert right in refused(store, folder, data, name).message


def test_text_that_is_called_a_spreadsheet_is_read(store: ArtifactStore, folder: Path) -> None:
    assert run(store, folder, CSV, "t.xls").summary.example_count


def test_progress_rises_and_ends_at_one_stage_before_the_end(store: ArtifactStore, folder: Path) -> None:
    told: list[tuple[str, int, int, float]] = []

    def note(stage: str, done: int, total: int, unit: str, fraction: float) -> None:
        told.append((stage, done, total, fraction))

    run(store, folder, zipped(good(40)), work=Work(note))
    fractions = [each[3] for each in told]
    assert fractions == sorted(fractions)
    assert ("decode", 80, 80) in {each[:3] for each in told}


def test_a_cancelled_import_leaves_only_its_source(store: ArtifactStore, folder: Path) -> None:
    asked = iter([False, False, True])
    data = zipped(good(100))
    with pytest.raises(Cancelled):
        run(store, folder, data, work=Work(should_stop=lambda: next(asked, True)))
    assert [blob.size_bytes for blob in store.list()] == [len(data)]


class FullDisk:
    """A store that takes one file and then none."""

    def __init__(self, store: ArtifactStore) -> None:
        self._store = store
        self._left = 1

    def __getattr__(self, name: str) -> object:
        return getattr(self._store, name)

    def adopt(self, path: Path, *, sha256: str = "") -> object:
        if not self._left:
            raise ResourceExhausted("DISK_FULL", "no space left")
        self._left -= 1
        return self._store.adopt(path, sha256=sha256)


def test_a_full_disk_leaves_only_what_was_there(store: ArtifactStore, folder: Path) -> None:
    data = zipped(good())
    source = store.put_bytes(data)
    spec = ImportSpec("projects/p/datasets/d", source, "a.zip")
    with pytest.raises(ResourceExhausted):
        import_job.run(spec, FullDisk(store), folder, Work())  # type: ignore[arg-type]
    assert [blob.uri for blob in store.list()] == [source.uri]


def test_what_another_import_stored_is_not_deleted(store: ArtifactStore, tmp_path: Path) -> None:
    shared = tmp_path / "shared"
    shared.write_bytes(b"the same content")
    known = store.put_file(shared)

    def store_and_fail() -> None:
        with all_or_none(store) as put:
            put(shared)
            raise RuntimeError

    with pytest.raises(RuntimeError):
        store_and_fail()
    assert store.exists(known)
