"""A small detector over the maps of a trained network, learned without torch: which objects of pictures it finds that it did not
learn from. It is for judging what people marked, not for serving.

Two ridge regressions. The first says of each cell of a grid how much a box that an object there would have overlaps a marked one,
and where its edges are; the highest cells are detections. The second looks at what the maps hold inside each detection, and says
whether it is a marked object, and of which class. Both are solved for each fold of the pictures from the sums of the others, so
the whole cross-validation reads the maps twice.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from modelyard.dataset.domain.box_checks import overlaps
from modelyard.dataset.domain.work import Work

FOLDS = 5

STRIDE = 16
"""Pixels from one cell to the next."""

MATCHED = 0.5
"""Overlap (intersection over union) with a marked box from which a detection is that object."""

FREE = 0.3
"""A detection that overlaps every marked box by less..."""

INSIDE = 0.5
"""...and lies in none by more than this share of itself is of no marked object. What is between the two counts as neither."""

_SURE = 0.5
_LEAST_NEARNESS = 0.2
_LEAST_PEAK = 0.05
_MOST_PEAKS = 200
_REPEATED = 0.5
_NEARNESS_RIDGE, _EDGES_RIDGE = 1e-4, 1e-3
_RIDGES = (1e-3, 1e-2, 1e-1, 1.0)
"""Of the second regression. The first of them, unless detections are few: then that which is nearest to the truth."""

_MANY = 4
"""Detections for each number that is known of one, from which they are not few."""

_SAMPLE = 40
_LONGEST_LOG = 7.0

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Singles = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Maps:
    """What a network makes of a picture of H x W pixels (multiples of 32): float16 [channels, H / 8, W / 8], [channels, H / 16,
    W / 16] and [channels, H / 32, W / 32]."""

    fine: npt.NDArray[np.float16]
    middle: npt.NDArray[np.float16]
    coarse: npt.NDArray[np.float16]


@dataclass(frozen=True)
class Marked:
    """The objects of a picture that people marked: boxes float64 [M, 4] (left, top, right, bottom) in pixels of its maps, labels
    int64 [M]."""

    boxes: Floats
    labels: Ints


@dataclass(frozen=True)
class Detections:
    """What is found in all pictures, by models that did not learn from the picture: pictures int64 [D], boxes float64 [D, 4],
    scores float64 [D] (about 1: like a marked object), labels int64 [D], and what each is: matched bool [D] with a marked object,
    free bool [D] of any."""

    pictures: Ints
    boxes: Floats
    scores: Floats
    labels: Ints
    matched: npt.NDArray[np.bool_]
    free: npt.NDArray[np.bool_]


def detect(
    maps: Callable[[int], Maps], marked: list[Marked], groups: Ints, classes: int, work: Work, span: tuple[float, float]
) -> Detections:
    """maps: of a picture by its number. groups int64 [N]: pictures of one group (duplicates) are in one
    fold. Raises Cancelled."""
    rng = np.random.default_rng(0)
    _, of = np.unique(groups, return_inverse=True)
    folds = rng.permutation(int(of.max()) + 1)[of] % FOLDS
    scale = _Scale([maps(int(number)) for number in rng.permutation(len(marked))[:_SAMPLE]])
    begin, end = span
    first, second = begin + 0.5 * (end - begin), begin + 0.9 * (end - begin)
    nearness, edges = _Sums(scale.width, 1), _Sums(scale.width, 4)
    for number, each in enumerate(marked):
        work.stage("learn boxes", number, len(marked), "pictures", begin, first)
        rows, shape = scale(maps(number))
        near, moves = targets(each.boxes, shape)
        nearness.add(int(folds[number]), rows, near[:, None])
        sure = near > _SURE
        edges.add(int(folds[number]), rows[sure], moves[sure])
    weights = [(nearness.without(fold, _NEARNESS_RIDGE), edges.without(fold, _EDGES_RIDGE)) for fold in range(FOLDS)]
    found: list[tuple[Floats, Singles]] = []
    for number in range(len(marked)):
        work.stage("look for boxes", number, len(marked), "pictures", first, second)
        seen = maps(number)
        rows, shape = scale(seen)
        near_weights, edge_weights = weights[folds[number]]
        boxes, heights = peaks((rows @ near_weights)[:, 0], rows @ edge_weights, shape)
        found.append((boxes, scale.regions(rows, seen, boxes, shape, heights)))
    return _judged(found, marked, folds, classes)


def _judged(found: list[tuple[Floats, Singles]], marked: list[Marked], folds: Ints, classes: int) -> Detections:
    """The detections with what the second regression says of them."""
    pictures = np.repeat(np.arange(len(found)), [len(boxes) for boxes, _ in found]).astype(np.int64)
    boxes = np.concatenate([boxes for boxes, _ in found])
    matched, free = np.zeros(len(boxes), np.bool_), np.ones(len(boxes), np.bool_)
    answers = np.zeros((len(boxes), 1 + classes), np.float32)
    for number, each in enumerate(marked):
        mine = np.flatnonzero(pictures == number)
        if len(mine) and len(each.boxes):
            over, within = _against(boxes[mine], each.boxes)
            best = over.argmax(axis=1)
            matched[mine] = over.max(axis=1) >= MATCHED
            free[mine] = (over.max(axis=1) < FREE) & (within.max(axis=1) <= INSIDE)
            hits = matched[mine]
            answers[mine[hits], 0] = 1
            answers[mine[hits], 1 + each.labels[best[hits]]] = 1
    rows = np.concatenate([rows for _, rows in found])
    if not len(rows):
        return Detections(pictures, boxes, np.empty(0), np.empty(0, np.int64), matched, free)
    spread = rows.std(axis=0)
    rows = np.concatenate([(rows - rows.mean(axis=0)) / np.where(spread > 1e-6, spread, 1), np.ones((len(rows), 1))], axis=1)
    rows = rows.astype(np.float32)
    sums, clear, of = _Sums(rows.shape[1], 1 + classes), matched | free, folds[pictures]
    for fold in range(FOLDS):
        known = clear & (of == fold)
        sums.add(fold, rows[known], answers[known])
    offered = _RIDGES if int(clear.sum()) < _MANY * rows.shape[1] else _RIDGES[:1]
    said = min(
        (_out_of_fold(rows, of, sums, ridge) for ridge in offered),
        key=lambda each: float(np.square(each[clear, 0] - answers[clear, 0]).sum()),
    )
    return Detections(pictures, boxes, said[:, 0], said[:, 1:].argmax(axis=1).astype(np.int64), matched, free)


def _out_of_fold(rows: Singles, folds: Ints, sums: _Sums, ridge: float) -> Floats:
    """What the models say of the rows that they have not seen: float64 [N, answers]."""
    parts = [(np.flatnonzero(folds == fold), sums.without(fold, ridge)) for fold in range(FOLDS)]
    out = np.zeros((len(rows), parts[0][1].shape[1]))
    for mine, weights in parts:
        out[mine] = rows[mine] @ weights
    return out


def targets(boxes: Floats, shape: tuple[int, int]) -> tuple[Singles, Singles]:
    """What each cell of a grid of that shape is to say: float32 [cells], how near it is to the middle of a box (0 to 1: by how
    much the box overlaps itself when moved there), and float32 [cells, 4]: from the cell to the box's middle, in cells, and the
    logarithms of its sides."""
    cells = _middles(shape)
    sides, middles = boxes[:, 2:] - boxes[:, :2], (boxes[:, 2:] + boxes[:, :2]) / 2
    whole = (sides > 0).all(axis=1)
    sides, middles = sides[whole], middles[whole]
    if not len(sides):
        return np.zeros(len(cells), np.float32), np.zeros((len(cells), 4), np.float32)
    shared = np.prod(np.clip(sides[None] - np.abs(cells[:, None] - middles[None]), 0, None), axis=2)
    over = shared / (2 * np.prod(sides, axis=1)[None] - shared)
    best = over.argmax(axis=1)
    near = np.square(np.clip((over.max(axis=1) - _LEAST_NEARNESS) / (1 - _LEAST_NEARNESS), 0, 1))
    moves = np.concatenate([(middles[best] - cells) / STRIDE, np.log(sides[best])], axis=1)
    return near.astype(np.float32), moves.astype(np.float32)


def peaks(near: Singles, moves: Singles, shape: tuple[int, int]) -> tuple[Floats, Singles]:
    """Boxes float64 [D, 4] where the nearness [cells] is higher than around it, the highest first, none of them twice; and their
    nearness."""
    grid = near.reshape(shape)
    padded = np.pad(grid, 1, constant_values=-np.inf)
    around = np.max([padded[i : i + shape[0], j : j + shape[1]] for i in range(3) for j in range(3)], axis=0)
    at = np.flatnonzero(((grid >= around) & (grid > _LEAST_PEAK)).ravel())
    at = at[np.argsort(-near[at], kind="stable")][:_MOST_PEAKS]
    middles = _middles(shape)[at] + moves[at, :2] * STRIDE
    sides = np.exp(np.clip(moves[at, 2:], 0, _LONGEST_LOG))
    height, width = shape[0] * STRIDE, shape[1] * STRIDE
    boxes = np.concatenate([middles - sides / 2, middles + sides / 2], axis=1).astype(np.float64)
    boxes = np.clip(boxes, 0, [width, height, width, height])
    kept: list[int] = []
    for place in range(len(boxes)):
        before = np.array(kept, np.int64)
        if (overlaps(boxes, np.full(len(before), place), before) < _REPEATED).all():
            kept.append(place)
    return boxes[kept], near[at[kept]]


def _against(boxes: Floats, marked: Floats) -> tuple[Floats, Floats]:
    """Intersection over union of each box with each marked one, and the share of it that lies inside: float64 [D, M] each."""
    inner = np.minimum(boxes[:, None, 2:], marked[None, :, 2:]) - np.maximum(boxes[:, None, :2], marked[None, :, :2])
    shared = np.prod(np.clip(inner, 0, None), axis=2)
    areas, others = (np.prod(np.clip(each[:, 2:] - each[:, :2], 0, None), axis=1) for each in (boxes, marked))
    return shared / np.maximum(areas[:, None] + others[None] - shared, 1e-9), shared / np.maximum(areas[:, None], 1e-9)


def _middles(shape: tuple[int, int]) -> Floats:
    """The middle of each cell in pixels: float64 [cells, 2], x and y."""
    rows, columns = np.mgrid[: shape[0], : shape[1]]
    return np.stack([columns.ravel(), rows.ravel()], axis=1) * STRIDE + STRIDE / 2


class _Sums:
    """Of each fold, the sums of products of rows with themselves and with what they are to say."""

    def __init__(self, width: int, answers: int) -> None:
        self._products = np.zeros((FOLDS, width, width), np.float32)
        self._answers = np.zeros((FOLDS, width, answers))

    def add(self, fold: int, rows: Singles, answers: Singles) -> None:
        self._products[fold] += rows.T @ rows
        self._answers[fold] += rows.T @ answers

    def without(self, fold: int, ridge: float) -> Singles:
        """Weights of the model that has not seen a fold."""
        others = [each for each in range(FOLDS) if each != fold]
        products = self._products[others].sum(axis=0, dtype=np.float64)
        products[np.diag_indices_from(products)] += ridge * max(np.trace(products), 1e-9) / len(products)
        return np.linalg.solve(products, self._answers[others].sum(axis=0)).astype(np.float32)


class _Scale:
    """Maps as rows of cells, each channel with mean 0 and deviation 1 (over a sample of pictures), and a last one of ones."""

    def __init__(self, sample: list[Maps]) -> None:
        rows = np.concatenate([_cells(each)[0] for each in sample])
        self._mean = rows.mean(axis=0)
        spread = rows.std(axis=0)
        self._spread = np.where(spread > 1e-6, spread, 1).astype(np.float32)
        self._fine = 4 * len(sample[0].fine)
        self._coarse = self._fine + len(sample[0].middle)
        self.width = rows.shape[1] + 1

    def __call__(self, maps: Maps) -> tuple[Singles, tuple[int, int]]:
        """float32 [cells, width], and the grid's height and width."""
        rows, shape = _cells(maps)
        out = np.ones((len(rows), self.width), np.float32)
        out[:, :-1] = (rows - self._mean) / self._spread
        return out, shape

    def regions(self, rows: Singles, maps: Maps, boxes: Floats, shape: tuple[int, int], near: Singles) -> Singles:
        """What the maps hold in boxes float64 [D, 4]: the fine one at 3 x 3 places, the others in the middle, the middle one's
        mean besides; the sides' logarithms and the nearness."""
        fine = maps.fine.astype(np.float32).transpose(1, 2, 0)
        grid = rows.reshape(*shape, -1)
        middle, coarse = grid[:, :, self._fine : self._coarse], grid[:, :, self._coarse : -1]
        sides, centres = boxes[:, 2:] - boxes[:, :2], (boxes[:, 2:] + boxes[:, :2]) / 2
        steps = np.stack([each.ravel() for each in np.meshgrid([-1 / 3, 0, 1 / 3], [-1 / 3, 0, 1 / 3])], axis=1)
        places = centres[:, None] + sides[:, None] * steps[None]
        parts = [
            _sampled(fine, places, STRIDE // 2).reshape(len(boxes), len(steps) * fine.shape[2]),
            _sampled(middle, places, STRIDE).mean(axis=1),
            _sampled(middle, centres[:, None], STRIDE)[:, 0],
            _sampled(coarse, centres[:, None], STRIDE)[:, 0],
            np.log(np.maximum(sides, 1)),
            near[:, None],
        ]
        return np.concatenate(parts, axis=1).astype(np.float32)


def _cells(maps: Maps) -> tuple[Singles, tuple[int, int]]:
    """The cells of the middle map, with the four of the fine map in each and the coarse map between its cells."""
    channels, height, width = maps.middle.shape
    fine = maps.fine.astype(np.float32).reshape(len(maps.fine), height, 2, width, 2).transpose(1, 3, 0, 2, 4)
    middle = maps.middle.astype(np.float32).transpose(1, 2, 0)
    coarse = maps.coarse.astype(np.float32).transpose(1, 2, 0)
    down, across = _between(height), _between(width)
    coarse = np.tensordot(down, np.tensordot(across, coarse, axes=(1, 1)), axes=(1, 1))
    count = height * width
    return np.concatenate([fine.reshape(count, -1), middle.reshape(count, channels), coarse.reshape(count, -1)], axis=1), (
        height,
        width,
    )


def _between(count: int) -> Singles:
    """Weights [count, count / 2] that read a row of half as many cells at twice as many places."""
    places = np.clip((np.arange(count) + 0.5) / 2 - 0.5, 0, count // 2 - 1)
    weights = np.clip(1 - np.abs(places[:, None] - np.arange(count // 2)[None]), 0, None)
    return np.asarray(weights, dtype=np.float32)


def _sampled(grid: Singles, places: Floats, step: int) -> Singles:
    """A grid [H, W, C] of cells of `step` pixels at places float64 [D, P, 2] in pixels, between its cells: float32 [D, P, C]."""
    height, width = grid.shape[:2]
    x, y = (np.clip(places[..., axis] / step - 0.5, 0, size - 1) for axis, size in ((0, width), (1, height)))
    left, top = np.minimum(x.astype(np.int64), max(width - 2, 0)), np.minimum(y.astype(np.int64), max(height - 2, 0))
    right, bottom = np.minimum(left + 1, width - 1), np.minimum(top + 1, height - 1)
    across, down = ((x - left)[..., None]).astype(np.float32), ((y - top)[..., None]).astype(np.float32)
    upper = grid[top, left] * (1 - across) + grid[top, right] * across
    lower = grid[bottom, left] * (1 - across) + grid[bottom, right] * across
    return np.asarray(upper * (1 - down) + lower * down, dtype=np.float32)
