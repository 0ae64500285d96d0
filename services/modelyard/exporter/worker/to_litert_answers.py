"""Makes of a network's maps the finished answers inside a .tflite file: boxes, masks, key points, in LiteRT's own operators.

All of it is in floating point, whatever the network before it is in, and for one picture. It does what the decoders of
recipes.build_detector, build_segmenter and build_keypoints do, which the export compares it with on real pictures.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from ai_edge_litert import schema_py_generated as schema
from numpy.typing import NDArray

from modelyard.exporter.worker.tflite_file import FileWriter
from modelyard.formats.agreement import BOXES, CLASSES, KEYPOINTS, MASK, SCORES
from modelyard.recipes.build_detector import LEAST_SCORE, MOST, MOST_LOG, OVERLAP
from modelyard.recipes.build_keypoints import CERTAINTY, NEAR
from modelyard.recipes.build_segmenter import STRIDE

DECODED: Final = ((BOXES, SCORES, CLASSES), (MASK,), (KEYPOINTS,))
"""Answers that are known here, as a served network names them."""
_TYPES: Final = {
    "float32": schema.TensorType.FLOAT32,
    "int32": schema.TensorType.INT32,
    "int64": schema.TensorType.INT64,
    "uint8": schema.TensorType.UINT8,
    "bool": schema.TensorType.BOOL,
}


@dataclass(frozen=True)
class Part:
    """A tensor of the file in the making."""

    tensor: int
    shape: tuple[int, ...]
    dtype: str = "float32"


def written_answers(out: FileWriter, answers: Sequence[str], maps: int, shape: tuple[int, ...]) -> dict[str, int]:
    """Adds what makes the answers of those names of the float tensor `maps` (of one picture, channels last, or a row of numbers);
    their tensors by name."""
    arithmetic, given = _Arithmetic(out), Part(maps, shape)
    if MASK in answers:
        made = {MASK: _mask(arithmetic, given)}
    elif BOXES in answers:
        made = _boxes(arithmetic, given)
    else:
        made = {KEYPOINTS: _places(arithmetic, given) if len(shape) == 4 else _numbers(arithmetic, given)}
    return {name: part.tensor for name, part in made.items()}


class _Arithmetic:
    """Adds one operator at a time; numbers and arrays are taken as constants."""

    def __init__(self, out: FileWriter) -> None:
        self._out = out
        self._count = 0

    def constant(self, value: Any, dtype: str = "float32") -> Part:
        array = np.asarray(value, dtype)
        return Part(self._out.constant(self._name(), array), array.shape, dtype)

    def two(self, code: str, one: Part, other: Any, dtype: str = "") -> Part:
        """An operator on two tensors, the smaller one repeated. dtype: of the result, that of the first when left out."""
        second = other if isinstance(other, Part) else self.constant(other, one.dtype)
        shape = tuple(np.broadcast_shapes(one.shape, second.shape))
        name = {"MAXIMUM": "MaximumMinimum", "MINIMUM": "MaximumMinimum"}.get(code)
        options = getattr(schema, f"{name or ''.join(word.title() for word in code.split('_'))}OptionsT")()
        return self._add(code, [one, second], shape, dtype or one.dtype, options)

    def one(self, code: str, x: Part, options: Any = None) -> Part:
        """An operator that changes no shape."""
        return self._add(code, [x], x.shape, x.dtype, options)

    def cast(self, x: Part, dtype: str) -> Part:
        options = schema.CastOptionsT(inDataType=_TYPES[x.dtype], outDataType=_TYPES[dtype])
        return self._add("CAST", [x], x.shape, dtype, options)

    def part(self, x: Part, begin: Sequence[int], size: Sequence[int]) -> Part:
        """The box of that size which begins there."""
        numbers = [self.constant(begin, "int32"), self.constant(size, "int32")]
        return self._add("SLICE", [x, *numbers], tuple(size), x.dtype, schema.SliceOptionsT())

    def reshape(self, x: Part, *shape: int) -> Part:
        options = schema.ReshapeOptionsT(newShape=np.array(shape, np.int32))
        return self._add("RESHAPE", [x, self.constant(shape, "int32")], shape, x.dtype, options)

    def concat(self, parts: Sequence[Part], axis: int) -> Part:
        shape = list(parts[0].shape)
        shape[axis] = sum(each.shape[axis] for each in parts)
        return self._add("CONCATENATION", parts, tuple(shape), parts[0].dtype, schema.ConcatenationOptionsT(axis=axis))

    def reduce(self, code: str, x: Part, axis: int) -> Part:
        """SUM or REDUCE_MAX over an axis, which stays with size 1."""
        shape = tuple(1 if place == axis else size for place, size in enumerate(x.shape))
        return self._add(code, [x, self.constant([axis], "int32")], shape, x.dtype, schema.ReducerOptionsT(keepDims=True))

    def gather(self, x: Part, places: Part) -> Part:
        """Rows of x [n, ...] at places [m]."""
        shape = (*places.shape, *x.shape[1:])
        return self._add("GATHER", [x, places], shape, x.dtype, schema.GatherOptionsT(axis=0, batchDims=0))

    def transpose(self, x: Part, *order: int) -> Part:
        shape = tuple(x.shape[axis] for axis in order)
        return self._add("TRANSPOSE", [x, self.constant(order, "int32")], shape, x.dtype, schema.TransposeOptionsT())

    def select(self, wanted: Part, one: Part, other: Any) -> Part:
        second = self.constant(other, one.dtype)
        return self._add("SELECT_V2", [wanted, one, second], one.shape, one.dtype, schema.SelectV2OptionsT())

    def highest(self, x: Part, most: int) -> tuple[Part, Part]:
        """The `most` largest of x [n], falling, and their places int32."""
        values, places = (Part(self._out.tensor(self._name(), (most,), dtype), (most,), dtype) for dtype in ("float32", "int32"))
        count = self.constant(most, "int32")
        self._out.operator("TOPK_V2", 1, [x.tensor, count.tensor], [values.tensor, places.tensor], schema.TopKV2OptionsT())
        return values, places

    def best(self, x: Part, axis: int) -> Part:
        """The place of the largest along an axis, int32."""
        options = schema.ArgMaxOptionsT(outputType=schema.TensorType.INT32)
        return self._add("ARG_MAX", [x, self.constant(axis, "int32")], x.shape[:axis] + x.shape[axis + 1 :], "int32", options)

    def _add(self, code: str, inputs: Sequence[Part], shape: tuple[int, ...], dtype: str, options: Any) -> Part:
        made = Part(self._out.tensor(self._name(), shape, dtype), shape, dtype)
        self._out.operator(code, 1, [each.tensor for each in inputs], made.tensor, options)
        return made

    def _name(self) -> str:
        self._count += 1
        return f"answer/{self._count}"


def _mask(do: _Arithmetic, maps: Part) -> Part:
    """The class of each pixel, uint8 [1, H, W]."""
    _, high, wide, classes = maps.shape
    size = do.constant((STRIDE * high, STRIDE * wide), "int32")
    options = schema.ResizeBilinearOptionsT(alignCorners=False, halfPixelCenters=True)
    enlarged = do._add("RESIZE_BILINEAR", [maps, size], (1, STRIDE * high, STRIDE * wide, classes), "float32", options)
    return do.cast(do.best(enlarged, 3), "uint8")


def _boxes(do: _Arithmetic, maps: Part) -> dict[str, Part]:
    """Boxes [1, K, 4], scores [1, K], classes int64 [1, K]."""
    _, high, wide, channels = maps.shape
    classes, cells = channels - 4, high * wide
    most = min(MOST, classes * cells)
    heat = do.one("LOGISTIC", do.part(maps, (0, 0, 0, 0), (1, high, wide, classes)))
    pool = schema.Pool2DOptionsT(schema.Padding.SAME, 1, 1, 3, 3)
    peak = do.two("GREATER_EQUAL", heat, do.one("MAX_POOL_2D", heat, pool), "bool")
    peaks = do.reshape(do.two("MUL", heat, do.cast(peak, "float32")), classes * cells)
    scores, places = do.highest(peaks, most)
    labels, cell = do.two("FLOOR_MOD", places, classes), do.two("FLOOR_DIV", places, classes)
    logs = do.reshape(do.part(maps, (0, 0, 0, classes), (1, high, wide, 4)), cells, 4)
    reach = do.one("EXP", do.two("MINIMUM", do.gather(logs, cell), MOST_LOG), schema.ExpOptionsT())
    x, y = (do.reshape(do.cast(do.two(code, cell, wide), "float32"), most, 1) for code in ("FLOOR_MOD", "FLOOR_DIV"))
    centre = do.two("ADD", do.concat([x, y, x, y], 1), 0.5)
    edges = do.two("ADD", centre, do.two("MUL", reach, [[-1.0, -1.0, 1.0, 1.0]]))
    shares = do.two("DIV", edges, [[wide, high, wide, high]])
    boxes = do.two("MAXIMUM", do.two("MINIMUM", shares, 1.0), 0.0)
    scores = do.two("MUL", scores, _unique(do, boxes, labels))
    scores = do.two("MUL", scores, do.cast(do.two("GREATER_EQUAL", scores, LEAST_SCORE, "bool"), "float32"))
    scores, order = do.highest(scores, most)
    found = do.two("GREATER", scores, 0.0, "bool")
    named = do.cast(do.select(found, do.gather(labels, order), -1), "int64")
    kept = do.two("MUL", do.gather(boxes, order), do.reshape(do.cast(found, "float32"), most, 1))
    return {BOXES: do.reshape(kept, 1, most, 4), SCORES: do.reshape(scores, 1, most), CLASSES: do.reshape(named, 1, most)}


def _unique(do: _Arithmetic, boxes: Part, labels: Part) -> Part:
    """1 for boxes [K, 4] (the surest first) that overlap none of the same class before them, else 0; float [K]."""
    most = boxes.shape[0]
    edge = [do.part(boxes, (0, place), (most, 1)) for place in range(4)]
    flat = [do.reshape(each, 1, most) for each in edge]
    across, down = [
        do.two("MAXIMUM", do.two("SUB", do.two("MINIMUM", edge[far], flat[far]), do.two("MAXIMUM", edge[near], flat[near])), 0.0)
        for near, far in ((0, 2), (1, 3))
    ]
    shared = do.two("MUL", across, down)
    area = do.two("MUL", do.two("SUB", edge[2], edge[0]), do.two("SUB", edge[3], edge[1]))
    both = do.two("SUB", do.two("ADD", area, do.reshape(area, 1, most)), shared)
    overlap = do.two("DIV", shared, do.two("MAXIMUM", both, 1e-9))
    same = do.two("EQUAL", do.reshape(labels, most, 1), do.reshape(labels, 1, most), "bool")
    earlier: NDArray[np.float32] = np.triu(np.ones((most, most), np.float32), 1)
    counted = do.two("MUL", do.two("MUL", overlap, do.cast(same, "float32")), earlier)
    worst = do.reshape(do.reduce("REDUCE_MAX", counted, 0), most)
    return do.cast(do.two("LESS_EQUAL", worst, OVERLAP, "bool"), "float32")


def _places(do: _Arithmetic, maps: Part) -> Part:
    """Points [1, K, 3] of heat maps."""
    _, high, wide, points = maps.shape
    cells = high * wide
    rows = do.transpose(do.reshape(maps, cells, points), 1, 0)
    heat = do.one("SOFTMAX", rows, schema.SoftmaxOptionsT(beta=1.0))
    across = do.constant((np.arange(cells) % wide)[None])
    down = do.constant((np.arange(cells) // wide)[None])
    peak = do.cast(do.two("GREATER_EQUAL", heat, do.reduce("REDUCE_MAX", heat, 1), "bool"), "float32")
    peaks = do.reduce("SUM", peak, 1)
    near = []
    for axis in (across, down):
        place = do.two("DIV", do.reduce("SUM", do.two("MUL", peak, axis), 1), peaks)
        away = do.two("SUB", axis, place)
        within = do.two("LESS_EQUAL", do.one("ABS", away, schema.AbsOptionsT()), NEAR, "bool")
        near.append(do.cast(within, "float32"))
    part = do.two("MUL", heat, do.two("MUL", near[0], near[1]))
    mass = do.two("MAXIMUM", do.reduce("SUM", part, 1), 1e-9)
    sides = [
        do.two("DIV", do.two("ADD", do.two("DIV", do.reduce("SUM", do.two("MUL", part, axis), 1), mass), 0.5), float(size))
        for axis, size in ((across, wide), (down, high))
    ]
    return do.reshape(do.concat([*sides, mass], 1), 1, points, 3)


def _numbers(do: _Arithmetic, numbers: Part) -> Part:
    """Points [1, K, 3] of a row of numbers."""
    points = numbers.shape[1] // 3
    each = do.reshape(numbers, points, 3)
    places = do.two("ADD", do.part(each, (0, 0), (points, 2)), 0.5)
    places = do.two("MAXIMUM", do.two("MINIMUM", places, 1.0), 0.0)
    sure = do.one("LOGISTIC", do.two("MUL", do.part(each, (0, 2), (points, 1)), CERTAINTY))
    return do.reshape(do.concat([places, sure], 1), 1, points, 3)
