"""What annotation and evaluation pages are made of: guidelines, answers, pictures asked for together, charts."""

from __future__ import annotations

import asyncio
import html
import re
from types import SimpleNamespace
from typing import Any

import pytest
from google.protobuf import json_format
from hypothesis import given
from hypothesis import strategies as st

from modelyard.client import NotFound
from modelyard.console.annotating import answer_from
from modelyard.console.pages.annotation_agreement import agreement_markup
from modelyard.console.pages.crossing import fold_chart
from modelyard.console.parts.page import Here
from modelyard.console.parts.prose import prose
from modelyard.console.parts.residuals import predicted_against_true, residual_histogram
from modelyard.console.parts.rounds import schema_json
from modelyard.console.previews import MOST, Previews
from modelyard.dataset.v1 import annotation_pb2, annotation_record_pb2
from modelyard.evaluator.v1 import evaluator_service_pb2
from modelyard.trainer.v1 import advice_pb2

ROUND = "projects/default/datasets/shapes/annotationRounds/first"


def test_guidelines_are_blocks() -> None:
    text = "# How\nLook **first**,\nthen `type`.\n\n* one\n* *two*\n  goes on\n1. three\n\n## Not\n3 bags"
    assert [str(block) for block in prose(text)] == [
        "<h3>How</h3>",
        "<p>Look <strong>first</strong>, then <code>type</code>.</p>",
        '<ul class="prose"><li>one</li><li><em>two</em> goes on</li><li>three</li></ul>',
        "<h4>Not</h4>",
        "<p>3 bags</p>",
    ]


@given(st.text(alphabet="ab*_`#-<>&\"'\n 1.", max_size=200))
def test_guidelines_never_become_markup(text: str) -> None:
    shown = "".join(prose(text))
    tags = set(re.findall(r"</?([a-z0-9]+)", shown))
    assert tags <= {"h3", "h4", "h5", "h6", "p", "ul", "ol", "li", "strong", "em", "code"}
    said = html.unescape(re.sub(r"<[^>]*>", "", shown))
    assert (said.count("a"), said.count("b")) == (text.count("a"), text.count("b")), "nothing is swallowed"


def test_answers_as_the_page_writes_them() -> None:
    said = {
        "objects": [{"label": "bag", "box": [1, 2.5, 3, 4], "mask": "YWJj"}],
        "ranges": [{"start": 3, "end": 9, "label": "x"}],
    }
    answer = answer_from({**said, "classes": ["a"], "text": "", "attributes": {"sure": "true"}})
    assert (answer.objects[0].mask, list(answer.objects[0].box), answer.ranges[0].end) == (b"abc", [1, 2.5, 3, 4], 9)
    assert answer_from(None) == annotation_pb2.Answer()
    with pytest.raises(json_format.ParseError):
        answer_from({"object": []})


def test_a_schema_as_the_page_takes_it() -> None:
    attribute = annotation_pb2.LabelAttribute(name="ripe", kind=annotation_pb2.LabelAttribute.KIND_CHOICE, values=["no", "yes"])
    schema = annotation_pb2.LabelSchema(
        shapes=[annotation_pb2.SHAPE_BOX], classes=[annotation_pb2.LabelClass(name="apple", key="1", attributes=[attribute])]
    )
    made = schema_json(schema)
    assert made["shapes"] == ["BOX"]
    assert made["classes"][0]["attributes"] == [{"name": "ripe", "kind": "CHOICE", "values": ["no", "yes"], "required": False}]


def test_pictures_asked_for_together_are_one_call() -> None:
    calls: list[list[str]] = []

    async def view(of: str, ids: list[str], **_: Any) -> Any:
        calls.append(ids)
        found = [SimpleNamespace(example=SimpleNamespace(example_id=each), size=len(ids)) for each in ids if each != "none"]
        return SimpleNamespace(examples=found)

    client: Any = SimpleNamespace(examples=SimpleNamespace(view=view))

    async def check() -> None:
        previews = Previews()
        wanted = [f"e{at}" for at in range(6)]
        found = await asyncio.gather(*(previews.get(client, "v", each, 256) for each in [*wanted, "e0"]))
        assert [one.example.example_id for one in found] == [*wanted, "e0"]
        assert calls == [wanted]
        missing, there = await asyncio.gather(
            previews.get(client, "v", "none", 256), previews.get(client, "v", "e1", 256), return_exceptions=True
        )
        assert isinstance(missing, NotFound)
        assert there.example.example_id == "e1"  # type: ignore[union-attr]
        await asyncio.gather(*(previews.get(client, "v", f"x{at}", 256) for at in range(MOST + 1)))
        assert [len(each) for each in calls[2:]] == [MOST, 1]
        assert not previews._waiting

    asyncio.run(check())


def test_residuals_are_drawn_and_the_furthest_lead_to_their_examples() -> None:
    points = [
        evaluator_service_pb2.ResidualPoint(example_id=f"e{at}", label=at, prediction=at + (at == 7) * 5) for at in range(200)
    ]
    found = evaluator_service_pb2.Residuals(
        example_count=200, mean=0.1, deviation=1, median_absolute=0, edges=[-1, 0, 1], counts=[0, 200], points=points
    )
    shown = predicted_against_true(found, lambda example: f"/x/{example}")
    assert shown.count("<circle") == 200
    assert '<a href="/x/e7"' in shown
    assert "-1 to 0: 0" in residual_histogram(found)
    assert "0 to 1: 200" in residual_histogram(found)
    assert "nothing to draw" in predicted_against_true(evaluator_service_pb2.Residuals(), str)


@pytest.mark.parametrize("values", [[0.5], [0.9, 0.9], [0.7, 0.8, 0.95]])
def test_folds_are_dots_with_their_mean(values: list[float]) -> None:
    runs = [advice_pb2.FoldRun(fold=at, metrics={"accuracy": value}) for at, value in enumerate(values)]
    mean = sum(values) / len(values)
    metric = advice_pb2.CrossValidatedMetric(name="accuracy", mean=mean, runs=len(values))
    if len(values) > 1:
        metric.lower, metric.upper = mean - 0.1, mean + 0.1
    shown = fold_chart(advice_pb2.CrossValidation(runs=runs, folds=5), metric)
    assert shown.count("<circle") == len(values)
    assert shown.count("<rect") == (len(values) > 1)
    assert "nan" not in shown


def test_agreement_names_people_classes_and_disagreements() -> None:
    here = Here("default", None)  # type: ignore[arg-type]
    figure = annotation_record_pb2.AgreementFigure(
        name="cohen_kappa", value=0.7, lower=0.5, upper=0.9, tasks=9, annotators=["user:anna", "user:ben"]
    )
    confusion = annotation_pb2.AnnotatorConfusion(annotator="user:ben", classes=["bag", "boot"], shares=[0.6, 0.4, 0.0, 1.0])
    found = annotation_pb2.AnnotationAgreement(
        name=ROUND,
        compared_tasks=9,
        figures=[figure],
        confusions=[confusion],
        disagreements=[f"{ROUND}/tasks/abc"],
        disagreement_count=1,
    )
    shown = agreement_markup(here, found, "")
    for words in (
        "user:anna and user:ben",
        "0.5 to 0.9",
        "substantial",
        "boot, 40 %",
        "/annotation/shapes/first/review?task=abc",
    ):
        assert words in shown, words
    assert "Nothing to compare yet" in agreement_markup(here, annotation_pb2.AnnotationAgreement(name=ROUND), "")
