"""Label schemas and answers: what is taken, in which form, and what is refused with its field."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from modelyard.core.errors import InvalidArgument
from modelyard.dataset.domain.answers import Answer, Facts, checked_answer, from_json, same, to_json
from modelyard.dataset.domain.consensus import agreement, consensus
from modelyard.dataset.domain.label_schema import (
    Attribute,
    GuidelineExample,
    LabelClass,
    LabelSchema,
    check_fits_task,
    checked_schema,
)
from modelyard.formats import annotations_rle
from modelyard.formats.annotations import Interval, Mark

PICTURE = Facts(100, 80)


def schema(*shapes: str, classes: tuple[str, ...] = ("cat", "dog"), **more: Any) -> LabelSchema:
    return checked_schema(LabelSchema(shapes, tuple(LabelClass(name) for name in classes), **more))


def refused(answer: Answer, known: LabelSchema, facts: Facts = PICTURE) -> str:
    with pytest.raises(InvalidArgument) as caught:
        checked_answer(answer, known, facts)
    assert caught.value.reason == "BAD_ANSWER"
    return caught.value.violations[0].field


def test_every_class_gets_a_key_and_a_colour_of_its_own() -> None:
    made = checked_schema(LabelSchema(("class",), (LabelClass("a", key="2"), LabelClass("b"), LabelClass("c", colour="#ff0000"))))
    assert [each.key for each in made.classes] == ["2", "1", "3"]
    assert made.classes[2].colour == "#ff0000"
    assert len({each.colour for each in made.classes}) == 3


@pytest.mark.parametrize(
    ("wrong", "field"),
    [
        (LabelSchema(()), "label_schema.shapes"),
        (LabelSchema(("class", "classes"), (LabelClass("a"),)), "label_schema.shapes"),
        (LabelSchema(("box",)), "label_schema.classes"),
        (LabelSchema(("box",), (LabelClass("a"), LabelClass("a"))), "label_schema.classes[1]"),
        (LabelSchema(("box",), (LabelClass(" a"),)), "label_schema.classes[0]"),
        (LabelSchema(("box",), (LabelClass("a", colour="red"),)), "label_schema.classes[0].colour"),
        (LabelSchema(("box",), (LabelClass("a", key="ä"),)), "label_schema.classes[0].key"),
        (LabelSchema(("box",), (LabelClass("a", key="1"), LabelClass("b", key="1"))), "label_schema.classes[1].key"),
        (LabelSchema(("keypoints",), (LabelClass("a"),)), "label_schema.keypoints"),
        (LabelSchema(("class",), (LabelClass("a"),), (Attribute("x", "choice"),)), "label_schema.attributes[0].values"),
        (LabelSchema(("class",), (LabelClass("a"),), guidelines="x" * 100_001), "label_schema.guidelines"),
        (
            LabelSchema(("class",), (LabelClass("a"),), guideline_examples=(GuidelineExample(""),)),
            "label_schema.guideline_examples[0].example_id",
        ),
    ],
)
def test_a_schema_that_is_wrong_is_refused_with_its_field(wrong: LabelSchema, field: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        checked_schema(wrong)
    assert caught.value.violations[0].field == field


def test_a_schema_must_fit_the_task() -> None:
    check_fits_task(schema("box"), "object_detection")
    with pytest.raises(InvalidArgument, match="labelled by class"):
        check_fits_task(schema("box"), "image_classification")


def test_classes_are_checked() -> None:
    one = schema("class")
    assert checked_answer(Answer(("dog",)), one, PICTURE).label == "dog"
    assert refused(Answer(), one) == "answer.classes"
    assert refused(Answer(("dog", "cat")), one) == "answer.classes"
    assert refused(Answer(("cow",)), one) == "answer.classes[0]"
    assert refused(Answer(("dog",), (Mark("dog", (0, 0, 1, 1)),)), one) == "answer.objects"
    several = schema("classes")
    assert checked_answer(Answer(("dog", "cat")), several, PICTURE).classes == ("cat", "dog")
    assert checked_answer(Answer(), several, PICTURE).classes == ()


def test_boxes_are_checked_and_snapped() -> None:
    boxes = schema("box")
    made = checked_answer(Answer(marks=(Mark("cat", (1.0001, 2, 30, 40)),)), boxes, PICTURE)
    assert made.marks[0].box == (1.0, 2.0, 30.0, 40.0)
    for box in ((5, 5, 5, 9), (9, 5, 5, 9), (-1, 0, 5, 5), (0, 0, 101, 5), (0, 0, float("nan"), 5), (0, 0, 5)):
        assert refused(Answer(marks=(Mark("cat", box),)), boxes) == "answer.objects[0].box"  # type: ignore[arg-type]
    assert refused(Answer(marks=(Mark("cat", (0, 0, 5, 5)), Mark("cow", (0, 0, 5, 5)))), boxes) == "answer.objects[1].label"
    assert refused(Answer(marks=(Mark("cat", ()),)), boxes) == "answer.objects[0]"  # type: ignore[arg-type]


def test_outlines_masks_and_points_are_checked() -> None:
    outlines = schema("polygon")
    made = checked_answer(Answer(marks=(Mark("cat", (), ((0, 0, 10, 0, 10, 20),)),)), outlines, PICTURE)  # type: ignore[arg-type]
    assert made.marks[0].box == (0, 0, 10, 20)
    assert refused(Answer(marks=(Mark("cat", (), ((0, 0, 10, 0),)),)), outlines) == "answer.objects[0].polygons[0]"  # type: ignore[arg-type]
    assert refused(Answer(marks=(Mark("cat", (0, 0, 5, 5)),)), outlines) == "answer.objects[0]"
    pixels = np.zeros((80, 100), np.uint8)
    pixels[10:20, 30:60] = 1
    masks = schema("mask")
    made = checked_answer(Answer(marks=(Mark("cat", (), mask=annotations_rle.encode(pixels)),)), masks, PICTURE)  # type: ignore[arg-type]
    assert made.marks[0].box == (30, 10, 60, 20)
    for mask in (annotations_rle.encode(pixels[:79]), b"\xff\xff", b"~~~"):
        assert refused(Answer(marks=(Mark("cat", (), mask=mask),)), masks) == "answer.objects[0].mask"  # type: ignore[arg-type]
    points = schema("keypoints", keypoints=("nose", "tail"))
    made = checked_answer(Answer(marks=(Mark("cat", (), keypoints=(1, 2, 2, 0, 0, 0)),)), points, PICTURE)  # type: ignore[arg-type]
    assert made.marks[0].keypoints == (1, 2, 2, 0, 0, 0)
    for wrong, field in (((1, 2, 2), "keypoints"), ((1, 2, 3, 0, 0, 0), "keypoints[2]"), ((1, 200, 2, 0, 0, 0), "keypoints")):
        assert refused(Answer(marks=(Mark("cat", (), keypoints=wrong),)), points) == f"answer.objects[0].{field}"  # type: ignore[arg-type]


def test_ranges_texts_and_attributes_are_checked() -> None:
    ranges = schema("range")
    steps = Facts(steps=50)
    assert checked_answer(Answer(intervals=(Interval(3, 50, "cat"),)), ranges, steps).intervals == (Interval(3, 50, "cat"),)
    assert refused(Answer(intervals=(Interval(3, 51, "cat"),)), ranges, steps) == "answer.ranges[0].end"
    assert refused(Answer(intervals=(Interval(3, 3, "cat"),)), ranges, steps) == "answer.ranges[0]"
    asked = (Attribute("age", "number", required=True), Attribute("coat", "choice", ("short", "long")), Attribute("wild", "flag"))
    known = schema("class", attributes=asked)
    assert checked_answer(Answer(("cat",), attributes={"age": "3"}), known, PICTURE).attributes == {"age": "3"}
    for given, name in (
        ({}, "age"),
        ({"age": "old"}, "age"),
        ({"age": "3", "coat": "pink"}, "coat"),
        ({"age": "3", "x": ""}, "x"),
    ):
        assert refused(Answer(("cat",), attributes=given), known) == f"answer.attributes[{name}]"
    text = checked_schema(LabelSchema(("text",)))
    assert checked_answer(Answer(text=" 17.5 "), text, PICTURE).text == "17.5"
    assert refused(Answer(text="  "), text) == "answer.text"


def test_answers_come_back_from_json_and_compare_whatever_their_order() -> None:
    pixels = np.zeros((80, 100), np.uint8)
    pixels[3:9, 4:7] = 1
    first = Answer(
        marks=(Mark("cat", (1, 2, 3, 4), attributes={"a": "b"}), Mark("dog", (0, 0, 5, 5), mask=annotations_rle.encode(pixels))),
        intervals=(Interval(1, 2, "cat"),),
        text="x",
        attributes={"n": "1"},
    )
    assert from_json(to_json(first)) == first
    turned = Answer(marks=first.marks[::-1], intervals=first.intervals, text="x", attributes={"n": "1"})
    assert same(first, turned)
    assert not same(first, Answer(marks=first.marks[:1], intervals=first.intervals, text="x", attributes={"n": "1"}))


def test_classes_by_majority() -> None:
    known = schema("class")
    said = {"a": Answer(("cat",)), "b": Answer(("dog",)), "c": Answer(("cat",))}
    made = consensus(said, known, PICTURE)
    assert (made.answer.label, made.settled) == ("cat", True)
    assert made.confidence == pytest.approx(2 / 3)
    assert made.agreements == {"a": 1.0, "b": 0.0, "c": 1.0}
    assert not consensus(said, known, PICTURE, least=0.9).settled
    assert not consensus({"a": Answer(("cat",)), "b": Answer(("dog",))}, known, PICTURE).settled
    assert consensus({"a": Answer(("cat",))}, known, PICTURE).settled


def test_boxes_are_matched_and_averaged() -> None:
    known = schema("box")
    said = {
        "a": Answer(marks=(Mark("cat", (10, 10, 30, 30)), Mark("dog", (50, 50, 70, 70)))),
        "b": Answer(marks=(Mark("dog", (52, 50, 70, 70)), Mark("cat", (10, 14, 30, 30)))),
        "c": Answer(marks=(Mark("cat", (10, 12, 30, 30)), Mark("dog", (0, 0, 5, 5)))),
    }
    made = consensus(said, known, PICTURE)
    assert made.settled
    assert {(mark.label, mark.box) for mark in made.answer.marks} == {("cat", (10, 12, 30, 30)), ("dog", (51, 50, 70, 70))}
    assert made.agreements["a"] > made.agreements["c"]
    half = consensus({"a": said["a"], "b": Answer(marks=said["a"].marks[:1])}, known, PICTURE)
    assert not half.settled  # one of two people saw the dog
    nothing = consensus({"a": Answer(), "b": Answer(), "c": said["a"]}, known, PICTURE)
    assert nothing.settled
    assert nothing.answer.marks == ()
    other = consensus(
        {"a": Answer(marks=(Mark("cat", (0, 0, 9, 9)),)), "b": Answer(marks=(Mark("dog", (0, 0, 9, 9)),))}, known, PICTURE
    )
    assert not other.settled  # the same box under two classes


def test_pixels_go_by_majority() -> None:
    def painted(label: str, left: int) -> Answer:
        pixels = np.zeros((80, 100), np.uint8)
        pixels[10:20, left : left + 20] = 1
        return Answer(marks=(Mark(label, annotations_rle.box_of(pixels), mask=annotations_rle.encode(pixels)),))

    made = consensus({"a": painted("cat", 10), "b": painted("cat", 12), "c": painted("cat", 14)}, schema("mask"), PICTURE)
    mask = annotations_rle.decode(made.answer.marks[0].mask, 80, 100)
    assert made.settled
    assert annotations_rle.box_of(mask) == (12, 10, 32, 20)


def test_ranges_go_by_the_majority_of_each_step() -> None:
    said = {name: Answer(intervals=(Interval(start, start + 10, "cat"),)) for name, start in (("a", 10), ("b", 12), ("c", 14))}
    made = consensus(said, schema("range"), Facts(steps=100))
    assert made.answer.intervals == (Interval(12, 22, "cat"),)
    assert made.agreements["b"] == 1.0
    assert agreement(said["a"], said["c"], schema("range"), Facts(steps=100)) == pytest.approx(6 / 14)
