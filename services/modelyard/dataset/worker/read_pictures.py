"""Reads pictures: a zip of class folders, and IDX files. Each is decoded to its last pixel, in parallel, before it is taken."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import chain

import numpy as np
import numpy.typing as npt
from PIL import Image

from modelyard.core.errors import InvalidArgument
from modelyard.dataset.domain.idx import IdxHeader, IdxPair, read_header
from modelyard.dataset.domain.layout import Layout, Place
from modelyard.dataset.domain.near import THUMBNAIL
from modelyard.dataset.domain.problems import Problems
from modelyard.dataset.domain.work import Work
from modelyard.dataset.worker.content import Block, Content, Example, Rejections
from modelyard.dataset.worker.picture_process import HASH_BYTES, ID_BYTES, Read
from modelyard.dataset.worker.picture_processes import LocatedArchive, PictureProcesses, parts, pays
from modelyard.formats import pictures
from modelyard.formats.archive import Entry, SafeZip, gunzip, is_gzip
from modelyard.formats.dataset import available_cpus
from modelyard.formats.dataset_tar import Archive, SafeTar
from modelyard.formats.folder import SafeFolder
from modelyard.runtime.latency import usable_cores

_AT_ONCE = 128  # pictures of an IDX file in one task
_WAITING = 64  # tasks
_WAITING_BYTES = 128 * 1024**2
_IDX_HEADER = 20
_IDX_BYTES = 8 * 1024**3
_SHARE = 0.9  # of the job; the rest is storing
_PARTS_WAITING = 2  # for each process

Answer = Example | tuple[str, InvalidArgument]
Task = tuple[int, Callable[[], list[Answer]]]


def read_folders(archive: Archive, layout: Layout, content: Content, rejected: Rejections, work: Work) -> None:
    """Takes in the pictures of class folders; what cannot be read is listed. ARCHIVE_BOMB ends it all."""
    listed = archive.entries if len(layout.paths) == len(archive.entries) else _of_paths(archive.entries, layout.paths)
    entries = [entry for entry in listed if layout.place_of(entry[0])] if layout.unlabelled else listed
    for path in layout.unlabelled:
        rejected.add(path, "NO_LABEL", f"{path} lies in no class folder")
    if isinstance(archive, SafeZip | SafeTar | SafeFolder) and pays(entries, usable_cores()):
        _read_in_processes(archive, entries, layout, content, rejected, work)
        return

    def tasks() -> Iterator[Task]:
        for entry in entries:
            yield entry_task(archive, entry, partial(_picture, entry.path, _place_of(layout, entry.path)))

    take_all(tasks(), len(entries), content, rejected, work)


def _of_paths(entries: Sequence[Entry], paths: Sequence[str]) -> list[Entry]:
    wanted = set(paths)
    return [entry for entry in entries if entry[0] in wanted]


def _place_of(layout: Layout, path: str) -> Place:
    place = layout.place_of(path)
    if place is None:
        raise AssertionError(f"{path} lies in a class folder")
    return place


def read_idx(archive: Archive, pairs: Sequence[IdxPair], content: Content, rejected: Rejections, work: Work) -> None:
    """Takes in the pictures of IDX files, as PNG files, each labelled with the number in the label file.

    Raises InvalidArgument NOT_AN_IDX_FILE, IDX_COUNT_MISMATCH, PICTURE_TOO_LARGE, ARCHIVE_BOMB.
    """
    entries = {entry.path: entry for entry in archive.entries}
    opened = [_open_pair(archive, entries, pair, rejected) for pair in pairs]

    def tasks() -> Iterator[Task]:
        for each in opened:
            found = 0
            for block in each.blocks():
                yield _idx_task(each, found, block)
                found += len(block)
            each.note_missing(found)

    take_all(tasks(), sum(each.header.count for each in opened), content, rejected, work)


@dataclass(frozen=True)
class _OpenPair:
    """A pair of IDX files being read."""

    pair: IdxPair
    header: IdxHeader
    stream: Iterator[bytes]
    labels: npt.NDArray[np.uint8]
    rejected: Rejections

    def blocks(self) -> Iterator[npt.NDArray[np.uint8]]:
        """The pictures, a few at a time, uint8 [n, H, W] or [n, H, W, C], as far as the file goes."""
        left, rest = self.header.count, b""
        try:
            for chunk in self.stream:
                block = rest + chunk
                whole = min(len(block) // self.header.item_bytes, left)
                cut = whole * self.header.item_bytes
                items = np.frombuffer(block, np.uint8, cut).reshape(whole, *self.header.shape[1:])
                yield from (items[start : start + _AT_ONCE] for start in range(0, whole, _AT_ONCE))
                rest, left = block[cut:], left - whole
                if not left:
                    return
        except InvalidArgument as error:
            if error.reason == "ARCHIVE_BOMB":
                raise

    def note_missing(self, found: int) -> None:
        """Lists what the header promised and the file does not hold."""
        missing = self.header.count - found
        if missing > 0:
            message = f"{self.pair.images} ends early: the last {missing} of its {self.header.count} pictures are missing"
            self.rejected.add(self.pair.images, "TRUNCATED_FILE", message)
            self.rejected.count += missing - 1


def _open_pair(archive: Archive, entries: Mapping[str, Entry], pair: IdxPair, rejected: Rejections) -> _OpenPair:
    header, stream = _open_idx(archive, entries[pair.images])
    label_header, label_stream = _open_idx(archive, entries[pair.labels])
    if len(header.shape) == 1 or len(label_header.shape) != 1:
        message = f"{pair.images} must hold pictures (3 or 4 axes) and {pair.labels} labels (1 axis)"
        raise InvalidArgument("NOT_AN_IDX_FILE", message, images=pair.images, labels=pair.labels)
    labels = np.frombuffer(b"".join(label_stream)[: label_header.count], np.uint8)
    if label_header.count != header.count or len(labels) != header.count:
        message = (
            f"{pair.images} announces {header.count} pictures, {pair.labels} holds {len(labels)} of {label_header.count} labels"
        )
        raise InvalidArgument("IDX_COUNT_MISMATCH", message, images=pair.images, labels=pair.labels)
    return _OpenPair(pair, header, stream, labels, rejected)


def _open_idx(archive: Archive, entry: Entry) -> tuple[IdxHeader, Iterator[bytes]]:
    """The header and, in chunks, what follows it; unpacks a gzip."""
    chunks = archive.stream(entry, limit_bytes=_IDX_BYTES)
    head = next(chunks, b"")
    chunks = chain((head,), chunks)
    if is_gzip(head):
        chunks = gunzip(chunks, name=entry.path)
    start = b""
    while len(start) < _IDX_HEADER and (chunk := next(chunks, None)) is not None:
        start += chunk
    header = read_header(start, name=entry.path)
    return header, chain((start[header.header_bytes :],), chunks)


def _idx_task(opened: _OpenPair, first: int, items: npt.NDArray[np.uint8]) -> Task:
    return items.nbytes, lambda: [_idx_picture(opened, first + i, pixels) for i, pixels in enumerate(items)]


def _idx_picture(opened: _OpenPair, number: int, pixels: npt.NDArray[np.uint8]) -> Answer:
    height, width = pixels.shape[:2]
    image = Image.fromarray(pixels[:, :, 0] if pixels.shape[2:] == (1,) else pixels)
    grey = image if image.mode == "L" else image.convert("L")
    thumbnail = grey.resize((THUMBNAIL, THUMBNAIL), Image.Resampling.BILINEAR).tobytes()
    path = f"{opened.pair.images}[{number}]"
    label = str(opened.labels[number])
    return Example(path, label, opened.pair.usage, pictures.encode_png(pixels), (width, height), thumbnail)


def _read_in_processes(
    archive: LocatedArchive, entries: Sequence[Entry], layout: Layout, content: Content, rejected: Rejections, work: Work
) -> None:
    """As `read_folders`, for many small pictures: processes read them, and this one puts their answers down in order."""
    count = usable_cores()
    waiting: deque[tuple[Sequence[Entry], Future[Read]]] = deque()
    done = 0

    def take() -> None:
        nonlocal done
        some, future = waiting.popleft()
        _take_part(archive, some, future.result(), layout, content, rejected)
        done += len(some)
        work.stage("decode", done, len(entries), "examples", 0.0, _SHARE)

    with PictureProcesses(archive, count) as processes, ThreadPoolExecutor(count) as pool:
        try:
            for some, part in parts(archive, entries):
                waiting.append((some, pool.submit(processes.read, part)))
                while len(waiting) > _PARTS_WAITING * count:
                    take()
            while waiting:
                take()
        finally:
            for _, future in waiting:
                future.cancel()


def _take_part(
    archive: LocatedArchive, some: Sequence[Entry], read: Read, layout: Layout, content: Content, rejected: Rejections
) -> None:
    """Puts down what a process read, in the archive's order; asks the archive itself about what that could not."""
    archive.passed(read.read_bytes)
    paths = [entry.path for entry in some]
    places = layout.places_of(paths)
    block = Block(
        paths=paths,
        labels=[place.label for place in places],
        usages=[place.usage for place in places],
        ids=read.ids,
        hashes=read.hashes,
        data=read.data,
        lengths=read.lengths,
        sizes=read.sizes,
        thumbnails=read.thumbnails,
    )
    if not read.refused:
        content.add_block(block)
        return
    fine = np.flatnonzero(read.lengths >= 0)
    ends = np.concatenate([[0], np.cumsum(read.lengths[fine])]).tolist()
    start = 0
    for number in (*sorted(read.refused), len(some)):
        stop = int(np.searchsorted(fine, number))
        if stop > start:
            content.add_block(_cut(block, fine[start:stop], start, stop, ends))
            start = stop
        if number < len(some):
            _take_refused(archive, some[number], read.refused[number], layout, content, rejected)


def _cut(block: Block, rows: npt.NDArray[np.int64], start: int, stop: int, ends: Sequence[int]) -> Block:
    """Some pictures of a block: its rows, which are those from `start` to `stop` of what lies one after the other."""
    size, numbers = THUMBNAIL * THUMBNAIL, rows.tolist()
    return Block(
        paths=[block.paths[number] for number in numbers],
        labels=[block.labels[number] for number in numbers],
        usages=[block.usages[number] for number in numbers],
        ids=block.ids[start * ID_BYTES : stop * ID_BYTES],
        hashes=block.hashes[start * HASH_BYTES : stop * HASH_BYTES],
        data=block.data[ends[start] : ends[stop]],
        lengths=block.lengths[rows],
        sizes=block.sizes[rows],
        thumbnails=block.thumbnails[start * size : stop * size],
    )


def _take_refused(
    archive: LocatedArchive, entry: Entry, why: tuple[str, str], layout: Layout, content: Content, rejected: Rejections
) -> None:
    reason, message = why
    if reason:
        rejected.add(entry.path, reason, message)
        return
    _, task = entry_task(archive, entry, partial(_picture, entry.path, _place_of(layout, entry.path)))
    for answer in task():
        _take(answer, content, rejected, None)


def entry_task(archive: Archive, entry: Entry, make: Callable[[bytes], Answer]) -> Task:
    """A task that makes an example of an entry's bytes, which are read here and now; one that cannot be read answers itself."""
    try:
        data = archive.read(entry)
    except InvalidArgument as error:
        if error.reason == "ARCHIVE_BOMB":
            raise
        refused = error
        return 0, lambda: [(entry.path, refused)]
    return len(data), lambda: [make(data)]


def _picture(path: str, place: Place, data: bytes) -> Answer:
    try:
        info, thumbnail = pictures.probe_with_thumbnail(data, size=THUMBNAIL, name=path)
    except InvalidArgument as error:
        return path, error
    return Example(path, place.label, place.usage, data, (info.width, info.height), thumbnail.tobytes())


def take_all(
    tasks: Iterable[Task], total: int, content: Content, rejected: Rejections, work: Work, problems: Problems | None = None
) -> None:
    """Runs the tasks in threads and takes their answers in order; little waits in memory at any time."""
    waiting: deque[tuple[int, Future[list[Answer]]]] = deque()
    held = done = told = 0

    def take() -> None:
        nonlocal held, done, told
        size, future = waiting.popleft()
        held -= size
        for answer in future.result():
            _take(answer, content, rejected, problems)
            done += 1
        if done >= told + 64 or done == total:
            told = done
            work.stage("decode", done, total, "examples", 0.0, _SHARE)

    with ThreadPoolExecutor(available_cpus()) as pool:
        try:
            for size, task in tasks:
                waiting.append((size, pool.submit(task)))
                held += size
                while len(waiting) > _WAITING or held > _WAITING_BYTES:
                    take()
            while waiting:
                take()
        finally:
            for _, future in waiting:
                future.cancel()


def _take(answer: Answer, content: Content, rejected: Rejections, problems: Problems | None) -> None:
    if isinstance(answer, Example):
        content.add(answer)
        if problems is not None and answer.problems is not None:
            problems.join(answer.problems)
    else:
        path, error = answer
        rejected.add(path, error.reason, error.message)
