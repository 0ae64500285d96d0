"""Pictures that are streamed from packs: the right ones in the right order, in bounded memory, and what damage looks like."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modelyard.core.artifacts import ArtifactStore
from modelyard.core.errors import Cancelled, DataLoss, Unavailable
from modelyard.formats.blocks import cut, fitting_block_bytes
from modelyard.formats.dataset import DatasetReader
from modelyard.formats.decoders import Decoders
from modelyard.formats.streaming import PictureStream, Shape
from tests.support.datasets import file_store, open_reader, publish_files, publish_pictures

SIDE = 8
SHAPE = Shape(SIDE, SIDE, 1)
PICTURES = np.random.default_rng(0).integers(0, 256, (120, SIDE, SIDE, 1), dtype=np.uint8)


def published(folder: Path, pictures: Any = PICTURES) -> tuple[ArtifactStore, DatasetReader]:
    """Pictures in packs of about ten."""
    store = file_store(folder)
    labels = [f"c{row % 3}" for row in range(len(pictures))]
    return store, open_reader(store, publish_pictures(store, pictures, labels, pack_bytes=1500))


@contextmanager
def stream(reader: DatasetReader, processes: int = 0, **options: Any) -> Iterator[PictureStream]:
    """Blocks of about three pictures."""
    decoders = Decoders(processes)
    made = PictureStream(reader, SHAPE, decoders, **{"block_bytes": 400, "ahead_bytes": 10 * SHAPE.size} | options)
    try:
        yield made
    finally:
        made.close()
        decoders.close()


def sizes_of(count: int, size: int) -> list[int]:
    return [min(size, count - start) for start in range(0, count, size)]


@pytest.mark.parametrize("processes", [0, 2])
def test_pictures_come_in_the_order_that_was_asked_for(tmp_path: Path, processes: int) -> None:
    _, reader = published(tmp_path)
    assert len(reader.descriptor.packs) > 5
    with stream(reader, processes) as pictures:
        for seed in range(3):
            order = np.random.default_rng(seed).permutation(120)[: 120 - seed]
            got = list(pictures.read(order, sizes_of(len(order), 7)))
            assert [len(each) for each in got[:-1]] == [7] * (len(got) - 1)
            assert np.array_equal(np.concatenate(got), PICTURES[order])


def test_nothing_is_read_of_blocks_that_are_not_asked_for_nor_far_ahead(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _, reader = published(tmp_path)
    asked: list[int] = []
    part = DatasetReader.part

    def noted(self: DatasetReader, pack: int, offset: int, length: int, *, fresh: bool = False) -> bytes:
        asked.append(pack)
        return part(self, pack, offset, length, fresh=fresh)

    monkeypatch.setattr(DatasetReader, "part", noted)
    with stream(reader) as pictures:
        positions = np.arange(60, 120)
        reading = pictures.read(positions, sizes_of(60, 5))
        next(reading)
        before = min(reader.spans()[0][60:])
        assert len(asked) * 3 <= 5 + 10 + 3 + 6  # the batch, what is ahead of it, and the blocks at both ends
        list(reading)
        assert min(asked) == before


@settings(max_examples=30, deadline=None)
@given(
    sizes=st.lists(st.integers(1, 5000), min_size=1, max_size=60),
    width=st.integers(1, 3000),
    pack_bytes=st.integers(1, 20_000),
)
def test_blocks_hold_every_example_once_and_whole(sizes: list[int], width: int, pack_bytes: int) -> None:
    length = np.array(sizes, np.int64)
    ends = np.cumsum(length)
    pack = (ends - length) // pack_bytes
    offset = ends - length - pack * pack_bytes
    blocks = cut(pack, offset, length, width)
    assert np.array_equal(blocks.pack[blocks.of], pack)
    assert np.array_equal(blocks.offset[blocks.of] + blocks.start, offset)
    assert np.all(blocks.start + blocks.size <= blocks.length[blocks.of])
    assert np.all(blocks.length <= width + length.max())
    assert sorted(set(blocks.of.tolist())) == list(range(len(blocks)))


def test_blocks_of_small_files_that_decode_to_large_pictures_are_small() -> None:
    assert fitting_block_bytes(100_000, 150_000) == 1 << 20
    assert fitting_block_bytes(400, 784) == 1 << 20
    assert fitting_block_bytes(400, 150_528) == 1 << 14


def test_memory_is_bounded_by_the_window_not_by_the_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from modelyard.formats import streaming

    rows: list[int] = []
    made = streaming.Memory
    monkeypatch.setattr(streaming, "Memory", lambda count, *shape: rows.append(count) or made(count, *shape))
    _, reader = published(tmp_path)
    with stream(reader) as pictures:
        list(pictures.read(np.arange(120), sizes_of(120, 4)))
        list(pictures.read(np.random.default_rng(0).permutation(120), sizes_of(120, 4)))
    assert rows[0] <= 4 + 10 + 4 < 40 < rows[1] <= 120


def damage(store: ArtifactStore, reader: DatasetReader, position: int) -> str:
    """Changes a byte of an example in its pack; the pack's uri."""
    pack, offset, length = (int(values[position]) for values in reader.spans())
    blob = reader.descriptor.packs[pack]
    path = store.path(blob)
    path.chmod(0o644)
    data = bytearray(path.read_bytes())
    data[offset + length // 2] ^= 1
    path.write_bytes(data)
    return blob.uri


@pytest.mark.parametrize("processes", [0, 1])
def test_a_changed_byte_is_named_with_its_example(tmp_path: Path, processes: int) -> None:
    store, reader = published(tmp_path)
    uri = damage(store, reader, 50)
    with stream(reader, processes) as pictures:
        reading = pictures.read(np.arange(120), sizes_of(120, 10))
        with pytest.raises(DataLoss, match="row 50") as caught:
            list(reading)
        assert (caught.value.reason, caught.value.values["uri"]) == ("EXAMPLE_CORRUPT", uri)
        assert np.array_equal(next(pictures.read(np.arange(20), [20])), PICTURES[:20])  # the rest can still be read


def test_a_pack_that_ends_too_soon_or_is_gone_is_named(tmp_path: Path) -> None:
    store, reader = published(tmp_path)
    path = store.path(reader.descriptor.packs[1])
    path.chmod(0o644)
    os.truncate(path, 300)
    position = int(np.flatnonzero(reader.spans()[0] == 1)[-1])
    with stream(reader) as pictures, pytest.raises(DataLoss) as caught:
        next(pictures.read(np.array([position]), [1]))
    assert caught.value.reason == "ARTIFACT_CUT_SHORT"


def test_bytes_that_were_published_but_are_no_picture_are_named(tmp_path: Path) -> None:
    store = file_store(tmp_path)
    reader = open_reader(store, publish_files(store, [b"no picture"] * 10, ["a", "b"] * 5))
    with stream(reader, 1) as pictures, pytest.raises(DataLoss, match="not a picture file") as caught:
        next(pictures.read(np.arange(10), [10]))
    assert caught.value.values["why"] == "NOT_A_PICTURE"


def test_a_decoder_that_is_killed_is_started_again(tmp_path: Path) -> None:
    _, reader = published(tmp_path)
    decoders = Decoders(1)
    pictures = PictureStream(reader, SHAPE, decoders, block_bytes=400, ahead_bytes=SHAPE.size)
    reading = pictures.read(np.arange(120), sizes_of(120, 10))
    got = [next(reading)]
    child = decoders._idle.get()
    assert child is not None
    os.kill(child.process.pid, signal.SIGKILL)
    decoders._idle.put(child)
    got += list(reading)
    pictures.close()
    decoders.close()
    assert np.array_equal(np.concatenate(got), PICTURES)


def test_a_store_that_is_away_is_waited_for_and_a_stop_is_heard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _, reader = published(tmp_path)
    away = threading.Event()
    asked: list[int] = []
    part = DatasetReader.part

    def sometimes(self: DatasetReader, pack: int, offset: int, length: int, *, fresh: bool = False) -> bytes:
        asked.append(pack)
        if away.is_set() or len(asked) < 3:
            raise Unavailable("ARTIFACT_STORE_UNAVAILABLE", "away")
        return part(self, pack, offset, length, fresh=fresh)

    monkeypatch.setattr(DatasetReader, "part", sometimes)
    with stream(reader) as pictures:
        assert np.array_equal(next(pictures.read(np.arange(20), [20])), PICTURES[:20])
    away.set()
    with stream(reader, should_stop=lambda: True) as pictures, pytest.raises(Cancelled):
        next(pictures.read(np.arange(120), [120]))
    with stream(reader, patience_s=0.1) as pictures, pytest.raises(Unavailable):
        next(pictures.read(np.arange(120), [120]))


def test_a_reading_that_is_dropped_leaves_nothing_behind(tmp_path: Path) -> None:
    _, reader = published(tmp_path)
    before = len(os.listdir("/proc/self/fd"))
    with stream(reader, 1) as pictures:
        for _ in range(5):
            reading = pictures.read(np.arange(120), sizes_of(120, 10))
            next(reading)
            reading.close()
        assert np.array_equal(next(pictures.read(np.arange(5), [5])), PICTURES[:5])
    assert len(os.listdir("/proc/self/fd")) <= before
