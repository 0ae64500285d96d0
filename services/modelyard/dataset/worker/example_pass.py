"""One pass over the bytes of the examples of a dataset: in this process where they are few, else in processes beside it."""

from __future__ import annotations

import mmap
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from modelyard.core.artifacts import ArtifactStore
from modelyard.core.errors import DataLoss
from modelyard.dataset.domain.work import Work
from modelyard.formats.dataset import DatasetDescriptor, available_cpus

Ints = npt.NDArray[np.int64]
Look = Callable[[bytes, Sequence[Any]], Any]
"""What is done with an example: its bytes, and what else is known of it. A function of a module, so that processes find it."""

_Result = TypeVar("_Result")
_ALONE_BYTES = 48 * 1024**2
_AT_ONCE = 64
_AHEAD = 4


def spans_of(manifest: pa.Table, prefix: str = "") -> Ints:
    """Where each example (or, with the prefix "mask_", its mask) lies: pack, offset, length; int64 [N, 3]."""
    columns = [manifest[f"{prefix}{name}"].to_numpy() for name in ("pack", "offset", "length")]
    return np.stack(columns, axis=1).astype(np.int64) if manifest.num_rows else np.empty((0, 3), np.int64)


def look_at_each(
    look: Callable[[bytes, Sequence[Any]], _Result],
    store: ArtifactStore,
    content: DatasetDescriptor,
    spans: Ints,
    known: Sequence[Sequence[Any]],
    work: Work,
    stage: tuple[str, float, float],
) -> list[_Result]:
    """What `look` makes of each example, in their order. spans int64 [N, 3]: see spans_of; known [N]: given along.

    stage: a word for people, and the shares of the job from which and to which it goes. Raises Cancelled, DataLoss WORKER_LOST.
    """
    packs = [str(store.path(pack)) for pack in content.packs]
    out: list[Any] = [None] * len(spans)
    done = 0
    for start, results in _looked(look, packs, spans, known, work):
        out[start : start + len(results)] = results
        done += len(results)
        work.stage(stage[0], done, len(spans), "examples", stage[1], stage[2])
    return out


def _looked(
    look: Look, packs: Sequence[str], spans: Ints, known: Sequence[Sequence[Any]], work: Work
) -> Iterator[tuple[int, list[Any]]]:
    starts = iter(range(0, len(spans), _AT_ONCE))
    processes = available_cpus()
    if processes == 1 or int(spans[:, 2].sum()) <= _ALONE_BYTES:
        reader = _Reader(packs)
        for start in starts:
            work.check()
            yield start, reader.look(look, spans[start : start + _AT_ONCE], known[start : start + _AT_ONCE])
        return
    with ProcessPoolExecutor(processes, get_context("spawn"), _open, (tuple(packs),)) as pool:
        running: dict[Future[list[Any]], int] = {}
        try:
            while True:
                for start in starts:
                    part = slice(start, start + _AT_ONCE)
                    running[pool.submit(_look, look, spans[part], known[part])] = start
                    if len(running) >= _AHEAD * processes:
                        break
                if not running:
                    return
                ready, _ = wait(running, timeout=1.0, return_when=FIRST_COMPLETED)
                work.check()
                for future in ready:
                    yield running.pop(future), future.result()
        except BrokenProcessPool as error:
            raise DataLoss("WORKER_LOST", "a process that looked at examples ended: memory ran out, or a damaged file") from error
        finally:
            pool.shutdown(cancel_futures=True)


class _Reader:
    """Packs, mapped when they are first needed."""

    def __init__(self, packs: Sequence[str]) -> None:
        self._packs = packs
        self._maps: dict[int, mmap.mmap] = {}

    def look(self, look: Look, spans: Ints, known: Sequence[Sequence[Any]]) -> list[Any]:
        return [look(self._bytes(*span), facts) for span, facts in zip(spans.tolist(), known, strict=True)]

    def _bytes(self, pack: int, offset: int, length: int) -> bytes:
        if pack not in self._maps:
            with Path(self._packs[pack]).open("rb") as file:
                self._maps[pack] = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        return self._maps[pack][offset : offset + length]


_readers: list[_Reader] = []


def _open(packs: tuple[str, ...]) -> None:
    _readers[:] = [_Reader(packs)]


def _look(look: Look, spans: Ints, known: Sequence[Sequence[Any]]) -> list[Any]:
    return _readers[0].look(look, spans, known)
