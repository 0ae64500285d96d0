"""Label Studio's JSON: what is written is read again the same, and what is wrong is named with its task and field."""

from __future__ import annotations

import json
from typing import Any

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import Phase, given, settings

from modelyard.core.errors import InvalidArgument
from modelyard.dataset.domain import label_studio_rle as brush
from modelyard.dataset.domain.answers import Answer, Facts, checked_answer, same
from modelyard.dataset.domain.label_schema import Attribute, LabelClass, LabelSchema, checked_schema
from modelyard.dataset.domain.label_studio import Submitted, Wrong, keys_of, read_task, written_task
from modelyard.formats import annotations_rle
from modelyard.formats.annotations import Interval, Mark

WIDTH, HEIGHT, STEPS = 64, 48, 500
FACTS = Facts(WIDTH, HEIGHT, STEPS)
NAMES = ("cat", "dog", "Größe 3")
POINTS = ("nose", "tail")
CLASSES = tuple(LabelClass(name) for name in NAMES)
ASKED = (Attribute("weather"),)
QUICK = (Phase.explicit, Phase.reuse, Phase.generate)
"""Shrinking pictures and outlines takes minutes and tells little."""


def schema(*shapes: str) -> LabelSchema:
    return checked_schema(LabelSchema(shapes, CLASSES, ASKED, POINTS if "keypoints" in shapes else ()))


label = st.sampled_from(NAMES)
across, down = (st.integers(0, size * 256).map(lambda value: value / 256) for size in (WIDTH, HEIGHT))
box = (
    st.tuples(across, down, across, down)
    .map(lambda b: (min(b[0], b[2]), min(b[1], b[3]), max(b[0], b[2]), max(b[1], b[3])))
    .filter(lambda b: b[0] < b[2] and b[1] < b[3])
)
ring = st.lists(st.tuples(across, down), min_size=3, max_size=8).map(lambda points: tuple(v for p in points for v in p))


def is_open(points: tuple[float, ...]) -> bool:
    return max(points[::2]) > min(points[::2]) and max(points[1::2]) > min(points[1::2])


@st.composite
def pixels(draw: st.DrawFn) -> bytes:
    mask = np.zeros((HEIGHT, WIDTH), np.uint8)
    for _ in range(draw(st.integers(1, 3))):
        y, x = draw(st.integers(0, HEIGHT - 1)), draw(st.integers(0, WIDTH - 1))
        mask[y : y + draw(st.integers(1, HEIGHT)), x : x + draw(st.integers(1, WIDTH))] ^= 1
    mask[0, 0] = 1
    return annotations_rle.encode(mask)


points = st.tuples(*[st.tuples(across, down, st.sampled_from((0.0, 1.0, 2.0))) for _ in POINTS]).map(
    lambda each: tuple(v for x, y, visible in each for v in ((x, y, visible) if visible else (0.0, 0.0, 0.0)))
)
marks = {
    "box": st.builds(Mark, label, box),
    "polygon": st.builds(
        lambda name, rings: Mark(name, (), tuple(rings)), label, st.lists(ring.filter(is_open), min_size=1, max_size=2)
    ),
    "mask": st.builds(lambda name, mask: Mark(name, (), mask=mask), label, pixels()),
    "keypoints": st.builds(Mark, label, box, keypoints=points.filter(lambda p: any(p[2::3]))),
}
interval = (
    st.tuples(st.integers(0, STEPS - 1), st.integers(1, STEPS), label).filter(lambda i: i[0] < i[1]).map(lambda i: Interval(*i))
)
spoken = st.text(st.characters(min_codepoint=32, exclude_categories=["Cs", "Zs"]), min_size=1, max_size=20)
answers = {
    "class": label.map(lambda name: Answer((name,))),
    "classes": st.lists(label, unique=True).map(lambda names: Answer(tuple(names))),
    "range": st.lists(interval, max_size=4, unique=True).map(lambda ranges: Answer(intervals=tuple(ranges))),
    "text": spoken.map(lambda text: Answer(text=text)),
    **{shape: st.lists(mark, max_size=4).map(lambda found: Answer(marks=tuple(found))) for shape, mark in marks.items()},
}


@pytest.mark.parametrize("shape", list(answers))
@settings(max_examples=40, deadline=None, phases=QUICK)
@given(data=st.data())
def test_a_task_comes_back_as_it_was_written(shape: str, data: st.DataObject) -> None:
    shapes = (shape, "box") if shape in ("polygon", "keypoints") else (shape,)
    known = schema(*shapes)
    attributes = data.draw(st.dictionaries(st.just("weather"), spoken, max_size=1))
    said = [data.draw(answers[shape]) for _ in range(2)]
    said = [checked_answer(Answer(a.classes, a.marks, a.intervals, a.text, attributes), known, FACTS) for a in said]
    predicted = Submitted("", said[1], score=0.5, model="m/V001")
    people = {"user:anna": said[0], "bert@example.org": said[1]}
    written = written_task(7, {"image": "a/1.png", "example_id": "0123"}, people, predicted, known, FACTS, "image")
    wrong = Wrong()
    read = read_task(json.loads(json.dumps(written)), 0, known, FACTS, wrong)
    assert wrong.found == []
    assert read.keys == ("0123", "a/1.png")
    assert [each.who for each in read.annotations] == ["user:anna", "label-studio:bert@example.org"]
    for found, expected in zip(read.annotations, said, strict=True):
        assert same(checked_answer(found.answer, known, FACTS), expected)
    assert same(checked_answer(read.predictions[0].answer, known, FACTS), said[1])
    assert (read.predictions[0].score, read.predictions[0].model) == (0.5, "m/V001")


@settings(max_examples=100, deadline=None)
@given(st.integers(1, 40), st.integers(1, 40), st.integers(0, 2**32 - 1))
def test_brushes_come_back(height: int, width: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    mask = (rng.random((height, width)) < rng.random()).astype(np.uint8)
    assert np.array_equal(brush.decode(brush.encode(mask), height, width), mask)


def test_a_brush_as_label_studio_packs_it_with_literal_values() -> None:
    """Eight elements (two pixels), given one by one after a block that is no run: written down by hand from the format."""
    head = format(8, "032b") + format(7, "05b") + "".join(format(size - 1, "04b") for size in (3, 4, 8, 16))
    block = "0" + "00" + format(7, "03b") + "".join(format(value, "08b") for value in (0, 0, 0, 0, 9, 9, 9, 200))
    bits = head + block
    bits += "0" * (-len(bits) % 8)
    rle = [int(bits[at : at + 8], 2) for at in range(0, len(bits), 8)]
    assert brush.decode(rle, 1, 2).tolist() == [[0, 1]]


@pytest.mark.parametrize("rle", [[], [1, 2, 3], [0, 0, 0, 8, 57, 1, 2, 3], [256], ["x"], [0, 0, 0, 4, 63, 255, 255]])
def test_a_brush_that_is_none_is_refused(rle: list[Any]) -> None:
    with pytest.raises(InvalidArgument, match="brush cannot be read"):
        brush.decode(rle, 1, 2)


RESULT = {"type": "rectanglelabels", "value": {"x": 1, "y": 1, "width": 5, "height": 5, "rectanglelabels": ["cat"]}}


def changed(**value: Any) -> dict[str, Any]:
    return {**RESULT, "value": {**RESULT["value"], **value}}  # type: ignore[dict-item]


@pytest.mark.parametrize(
    ("result", "path"),
    [
        (changed(x="left"), "result[0].value.x"),
        (changed(width=101), "result[0].value.width"),
        (changed(y=float("nan")), "result[0].value.y"),
        (changed(x=True), "result[0].value.x"),
        (changed(rotation=30), "result[0].value.rotation"),
        (changed(rectanglelabels=[]), "result[0].value.rectanglelabels"),
        (changed(rectanglelabels=[7]), "result[0].value.rectanglelabels"),
        ({**RESULT, "original_width": 65}, "result[0].original_width"),
        ({**RESULT, "original_height": "48"}, "result[0].original_height"),
        ({"type": "ellipselabels", "value": {}}, "result[0].type"),
        ({"type": "rectanglelabels"}, "result[0].value"),
        ("text", "result[0]"),
        ({"type": "polygonlabels", "value": {"polygonlabels": ["cat"], "points": [[1, 2], [3]]}}, "result[0].value.points"),
        (
            {"type": "polygonlabels", "value": {"polygonlabels": ["cat"], "points": [[1, 2], [3, 4], [5, 600]]}},
            "result[0].value.points[2][1]",
        ),
        ({"type": "brushlabels", "value": {"brushlabels": ["cat"], "format": "rle", "rle": [1, 2]}}, "result[0].value.rle"),
        ({"type": "timeserieslabels", "value": {"timeserieslabels": ["cat"], "start": -1, "end": 2}}, "result[0].value.start"),
    ],
)
def test_what_is_wrong_is_named_with_its_task_and_field(result: Any, path: str) -> None:
    wrong = Wrong()
    task = {"id": 17, "data": {"image": "1.png"}, "annotations": [{"result": []}, {"result": [result]}]}
    read = read_task(task, 0, schema("box", "polygon", "mask", "range"), FACTS, wrong)
    assert len(read.annotations) == 1  # the one beside it is taken
    assert [where for where, _ in wrong.found] == [f"task 17: annotations[1].{path}"]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**400), 10**400) | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ("id", "data", "annotations", "predictions", "result", "type", "value", "points", "rle", "x", "choices")
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=20,
)


@settings(max_examples=200, deadline=None)
@given(JSON)
def test_whatever_a_task_is_nothing_breaks(task: Any) -> None:
    wrong = Wrong()
    found = read_task(task, 3, schema("box", "polygon", "mask", "range"), FACTS, wrong)
    assert all(isinstance(each, Submitted) for each in (*found.annotations, *found.predictions))


def test_keys_name_the_example_the_surest_first() -> None:
    task = {"data": {"image": "/data/upload/1/0a1b2c3d-dog.png", "example_id": "77"}, "file_upload": "0a1b2c3d-dog.png"}
    assert keys_of(task) == ("77", "/data/upload/1/0a1b2c3d-dog.png", "0a1b2c3d-dog.png")
    assert keys_of({"data": 3}) == ()


def test_people_have_names_without_spaces() -> None:
    def who(value: Any) -> str:
        task = {"annotations": [{"completed_by": value, "result": []}]}
        return read_task(task, 0, schema("box"), FACTS, Wrong()).annotations[0].who

    assert who(3) == "label-studio:3"
    assert who({"email": "anna b@example.org"}) == "label-studio:annab@example.org"
    assert who(None) == "label-studio:unknown"
    assert who("user:anna") == "user:anna"
