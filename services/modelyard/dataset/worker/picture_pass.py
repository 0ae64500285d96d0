"""One pass over the pictures of a dataset, in processes: each is decoded once, and everything that a report wants of it is taken.

Features are written to a file in the job's work folder, so memory does not grow with the number of pictures but for a few numbers
each. Few pictures are looked at in this process: starting others takes longer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from modelyard.core.artifacts import ArtifactStore
from modelyard.core.errors import DataLoss
from modelyard.dataset.domain import picture_features
from modelyard.dataset.domain.near import THUMBNAIL
from modelyard.dataset.domain.picture_facts import FACTS, facts_of, looked_at_size
from modelyard.dataset.domain.work import Forgetful, Memory, Work
from modelyard.dataset.worker import pretrained
from modelyard.dataset.worker.packs import Packs
from modelyard.formats.dataset import DatasetDescriptor
from modelyard.formats.pictures import decode
from modelyard.runtime.latency import usable_cores

NETWORK_SIDE = 128
"""Height and width at which a pretrained network sees a picture, in pixels."""

NETWORK_LEAST = 64
"""A pretrained network looks at datasets whose pictures are this long at their longer side, in the median: of smaller ones edges
and colours tell as much (docs/quality.md)."""

KEPT = 4096
"""So many pictures are kept together for an attempt that follows; fewer are looked at again: a multiple of _AT_ONCE."""

_AT_ONCE = 128
_SEEN = 16
_ALONE = 400
_AHEAD = 3

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Looks:
    """What the pass took, in the manifest's order: facts float32 [N, len(FACTS)] (domain.picture_facts), features float16 [N, D]
    in a file, thumbnails uint8 [N, 16, 16] grey; `pretrained`: whether the features are a trained network's."""

    facts: npt.NDArray[np.float32]
    features: npt.NDArray[np.float16]
    thumbnails: npt.NDArray[np.uint8]
    pretrained: bool

    def at(self, places: Ints) -> npt.NDArray[np.float32]:
        """Vectors of the pictures at some positions int64 [M], float32 [M, D]: the network's where there is one."""
        return np.asarray(self.features[places], dtype=np.float32)


@dataclass(frozen=True)
class _Taken:
    facts: npt.NDArray[np.float32]
    features: npt.NDArray[np.float16]
    thumbnails: npt.NDArray[np.uint8]


def look_at(
    store: ArtifactStore,
    content: DatasetDescriptor,
    manifest: pa.Table,
    folder: Path,
    work: Work,
    span: tuple[float, float],
    *,
    processes: int = 0,
) -> Looks:
    """Looks at every picture of a manifest. `span`: the share of the job that this is; processes: 0 means one a core.

    Raises Cancelled, DataLoss DECODER_LOST when a process ends over a picture (memory ran out, or a damaged file).
    """
    places = _places(manifest)
    packs = [str(store.path(pack)) for pack in content.packs]
    network = ""
    if np.median(places[:, 3:].max(axis=1)) >= NETWORK_LEAST and pretrained.available():
        network = str(pretrained.write_network(folder / "network.onnx"))
    length = pretrained.LENGTH if network else picture_features.LENGTH
    count = len(places)
    facts = np.empty((count, len(FACTS)), np.float32)
    thumbnails = np.empty((count, THUMBNAIL, THUMBNAIL), np.uint8)
    features = np.memmap(folder / "features", np.float16, "w+", shape=(max(count, 1), length))[:count]
    whole = _Whole(facts, features, thumbnails, "network" if network else "edges", work.memory if count >= KEPT else Forgetful())
    done = whole.recalled
    for start, taken in _taken(places, whole.open, packs, network, processes or usable_cores(), work):
        whole.take(start, taken)
        done += len(taken.facts)
        work.stage("look at pictures", done, count, "pictures", *span)
    return Looks(facts, features, thumbnails, bool(network))


class _Whole:
    """What is taken of all pictures, put together; each stretch of KEPT of them is kept as soon as it is complete, so that an
    attempt after one that was killed looks at the others only. `open`: the first picture of each part to be looked at;
    `recalled`: how many pictures an earlier attempt has looked at."""

    def __init__(
        self,
        facts: npt.NDArray[np.float32],
        features: npt.NDArray[np.float16],
        thumbnails: npt.NDArray[np.uint8],
        eye: str,
        memory: Memory,
    ) -> None:
        self._arrays: dict[str, npt.NDArray[Any]] = {"facts": facts, "features": features, "thumbnails": thumbnails}
        self._eye, self._memory = eye, memory
        self.open: list[int] = []
        self.recalled = 0
        self._missing: dict[int, int] = {}
        for first in range(0, len(facts), KEPT):
            if self._recalled(first):
                self.recalled += len(facts[first : first + KEPT])
            else:
                parts = range(first, min(first + KEPT, len(facts)), _AT_ONCE)
                self._missing[first] = len(parts)
                self.open += parts

    def take(self, start: int, taken: _Taken) -> None:
        """Puts down what was taken of a part."""
        for name, array in self._arrays.items():
            array[start : start + len(taken.facts)] = getattr(taken, name)
        first = start // KEPT * KEPT
        self._missing[first] -= 1
        if not self._missing[first]:
            self._memory.keep(self._name(first), {name: array[first : first + KEPT] for name, array in self._arrays.items()})

    def _recalled(self, first: int) -> bool:
        known = self._memory.recall(self._name(first))
        if known is None:
            return False
        for name, array in self._arrays.items():
            here = array[first : first + KEPT]
            if name not in known or known[name].shape != here.shape or known[name].dtype != here.dtype:
                return False
            here[:] = known[name]
        return True

    def _name(self, first: int) -> str:
        return f"looks {self._eye} {first}"


def _places(manifest: pa.Table) -> Ints:
    """Where each picture lies: pack, offset, length, and its width and height in pixels; int64 [N, 5]."""
    columns = [manifest[name].to_numpy() for name in ("pack", "offset", "length", "width", "height")]
    return np.stack(columns, axis=1).astype(np.int64)


def _taken(
    places: Ints, starts: Sequence[int], packs: Sequence[str], network: str, processes: int, work: Work
) -> Iterator[tuple[int, _Taken]]:
    """What is taken of each part of the pictures, in whatever order they are ready, with the number of its first."""
    if len(starts) * _AT_ONCE <= _ALONE or processes == 1:
        eye = _Eye(packs, network)
        yield from ((start, eye(places[start : start + _AT_ONCE])) for start in starts)
        return
    context = get_context("spawn")
    with ProcessPoolExecutor(processes, context, _open_eye, (tuple(packs), network)) as pool:
        try:
            yield from _in_pool(pool, places, iter(starts), _AHEAD * processes, work)
        except BrokenProcessPool as error:
            message = "a process that looks at pictures ended: memory ran out, or a damaged picture"
            raise DataLoss("DECODER_LOST", message) from error
        finally:
            pool.shutdown(cancel_futures=True)


def _in_pool(
    pool: ProcessPoolExecutor, places: Ints, starts: Iterator[int], ahead: int, work: Work
) -> Iterator[tuple[int, _Taken]]:
    running: dict[Future[_Taken], int] = {}
    while True:
        for start in starts:
            running[pool.submit(_look, places[start : start + _AT_ONCE])] = start
            if len(running) >= ahead:
                break
        if not running:
            return
        ready, _ = wait(running, timeout=1.0, return_when=FIRST_COMPLETED)
        work.check()
        for future in ready:
            yield running.pop(future), future.result()


class _Eye:
    """Looks at pictures: packs are mapped once, the network is loaded once."""

    def __init__(self, packs: Sequence[str], network: str) -> None:
        self._packs = Packs([Path(pack) for pack in packs])
        self._network: Callable[[npt.NDArray[np.uint8]], npt.NDArray[np.float32]] | None = None
        if network:
            self._network = pretrained.Network(Path(network))

    def __call__(self, places: Ints) -> _Taken:
        side = picture_features.SIDE
        facts = np.empty((len(places), len(FACTS)), np.float32)
        small = np.empty((len(places), side, side, 3), np.uint8)
        grey = np.empty((len(places), THUMBNAIL, THUMBNAIL), np.uint8)
        shown = np.empty((len(places), NETWORK_SIDE, NETWORK_SIDE, 3), np.uint8) if self._network else None
        for row, (pack, offset, length, *size) in enumerate(places.tolist()):
            width, height = looked_at_size(*size)
            picture = decode(self._packs.read(pack, offset, length), height=height, width=width, channels=3)
            facts[row] = facts_of(picture)
            small[row] = _resized(picture, side)
            grey[row] = _grey(_resized(picture, THUMBNAIL))
            if shown is not None:
                shown[row] = _resized(picture, NETWORK_SIDE)
        if self._network is not None and shown is not None:
            features = np.concatenate([self._network(shown[start : start + _SEEN]) for start in range(0, len(shown), _SEEN)])
        else:
            features = picture_features.picture_features(small)
        return _Taken(facts, features.astype(np.float16), grey)


_eye: _Eye | None = None


def _open_eye(packs: Sequence[str], network: str) -> None:
    """Begins a process of the pool: one thread each, as there is a process a core."""
    from threadpoolctl import threadpool_limits

    global _eye
    threadpool_limits(1)
    _eye = _Eye(packs, network)


def _look(places: Ints) -> _Taken:
    if _eye is None:
        raise AssertionError("a process of the pool has an eye")
    return _eye(places)


def _resized(picture: npt.NDArray[np.uint8], side: int) -> npt.NDArray[np.uint8]:
    from PIL import Image

    if picture.shape[:2] == (side, side):
        return picture
    return np.asarray(Image.fromarray(picture).resize((side, side), Image.Resampling.BILINEAR))


def _grey(picture: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    from PIL import Image

    return np.asarray(Image.fromarray(picture).convert("L"))
