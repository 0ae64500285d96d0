"""A report and a notebook's cells: whole for every task, one file, nothing loaded, and no name that somebody chose is markup."""

from __future__ import annotations

from html.parser import HTMLParser

import pytest
from google.protobuf.message import Message

from inference import grpc_service_pb2 as oip
from modelyard.client import Client
from modelyard.client.drawing.curves import Curves
from modelyard.client.drawing.report import Facts, report_page
from modelyard.client.notebook import DRAWN
from modelyard.client.tensors import Prediction
from modelyard.dataset.v1 import dataset_pb2
from modelyard.evaluator.v1 import evaluator_pb2
from modelyard.trainer.v1 import trainer_pb2
from tests.support.report_facts import HOSTILE, METRICS, facts_of

VOID = {"meta", "img", "link", "br", "input", "hr"}


class Reader(HTMLParser):
    """What is in a page: tags in balance, ids, addresses, text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.ids: list[str] = []
        self.addresses: list[str] = []
        self.handlers: list[str] = []
        self.texts: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        if tag not in VOID:
            self.open.append(tag)
        for name, value in attributes:
            if name == "id":
                self.ids.append(value or "")
            elif name in ("src", "href", "xlink:href", "data"):
                self.addresses.append(value or "")
            elif name.startswith("on"):
                self.handlers.append(name)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag, f"{tag} ends what another tag began"

    def handle_data(self, data: str) -> None:
        self.texts.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.texts).split())


@pytest.mark.parametrize("task", METRICS)
def test_a_report_is_whole_and_safe(task: str) -> None:
    page = report_page(facts_of(task), "Written for a test.")
    read = Reader(page)
    assert read.open == []
    assert "script" not in read.tags
    assert read.handlers == []
    assert len(set(read.ids)) == len(read.ids)
    assert [each for each in read.addresses if not each.startswith(("#", "data:image/"))] == []
    assert {address[1:] for address in read.addresses if address.startswith("#")} <= set(read.ids)
    assert "url(" not in page
    assert HOSTILE not in page
    assert HOSTILE in read.text
    assert {"run", "data", "findings", "training", "curves", "model", "scores", "worst", "exports", "gate", "passport"} <= set(
        read.ids
    )
    for words in ("all tests passed", "labels were fixed", "d" * 64, "0.75 to 0.84", "That is overfitting", "the sounds: gone"):
        assert words in read.text
    assert "baseline 0.3" in read.text
    assert "rows of the data" not in read.text


def test_tasks_differ_where_they_must() -> None:
    texts = {task: Reader(report_page(facts_of(task), "")).text for task in METRICS}
    assert "is ↓ called →" in texts["image_classification"]
    assert "is ↓ called →" not in texts["object_detection"]
    assert "RMSE" in texts["tabular_regression"]
    assert "(less is better)" in texts["tabular_regression"]
    pages = {task: report_page(facts_of(task), "") for task in METRICS}
    assert "data:image/png;base64," in pages["object_detection"]
    assert "<polygon" in pages["object_detection"]
    assert 'class="wave"' in pages["series_classification"]
    assert "data:image/png" not in pages["tabular_classification"]


def test_a_report_of_little_is_a_report() -> None:
    read = Reader(report_page(Facts(job=facts_of("image_classification").job), ""))
    assert read.open == []
    assert "training" in read.ids
    assert "scores" not in read.ids
    assert Reader(report_page(Facts(), "")).open == []


def message_of(kind: type[Message]) -> Message:
    facts = facts_of("image_classification")
    held = (facts.run, facts.job, facts.version, facts.model, facts.exports[0], facts.chosen, facts.views)
    others = (facts.decisions["projects/default/evaluations/e1"], dataset_pb2.QualityReport(findings=facts.run.result.findings))
    return next(one for one in (*held, *others) if isinstance(one, kind))


@pytest.mark.parametrize("kind", DRAWN, ids=lambda kind: kind.DESCRIPTOR.name)
@pytest.mark.parametrize("empty", [False, True])
def test_a_notebook_draws_what_the_client_gives(kind: type[Message], empty: bool) -> None:
    Client("127.0.0.1:1").close()
    shown = (kind() if empty else message_of(kind))._repr_html_()  # type: ignore[attr-defined]
    read = Reader(shown)
    assert "cannot be drawn" not in shown
    assert read.open == []
    assert "modelyard-cell" in shown
    assert HOSTILE not in shown


def test_curves_draw_themselves() -> None:
    curves = Curves(facts_of("image_classification").points)
    shown = curves._repr_html_()
    assert shown.count("<path") == 3
    assert "Accuracy, validation" in shown
    assert Curves()._repr_html_()


def test_a_prediction_is_a_row_an_example() -> None:
    outputs = {"probabilities": [0.25, 0.75, 0.5, 0.5], "label": [HOSTILE, "tulip"]}
    answer = Prediction("flowers", "V001", outputs, {"probabilities": (2, 2), "label": (2,)}, oip.ModelInferResponse())
    shown = answer._repr_html_()
    assert HOSTILE not in shown
    text = Reader(shown).text
    assert "flowers V001" in text
    assert "1 0.25, 0.75 <script>alert(1)</script>" in text
    assert Reader(Prediction("m", "", {}, {}, oip.ModelInferResponse())._repr_html_()).open == []


def test_a_message_that_cannot_be_drawn_is_told_as_text(monkeypatch: pytest.MonkeyPatch) -> None:
    Client("127.0.0.1:1").close()

    def broken(message: object) -> str:
        raise ValueError(HOSTILE)

    monkeypatch.setattr("modelyard.client.drawing.cells.training", broken)
    shown = trainer_pb2.TrainingJob(name="x")._repr_html_()  # type: ignore[attr-defined]
    assert "cannot be drawn" in shown
    assert HOSTILE not in shown


def test_many_classes_are_told_not_drawn() -> None:
    facts = facts_of("image_classification")
    many = evaluator_pb2.UsageScore(
        usage=3,
        example_count=9,
        classes=[evaluator_pb2.ClassScore(label=f"c{at}") for at in range(50)],
        confusion=[evaluator_pb2.ConfusionRow(counts=[0] * 50)] * 50,
    )
    facts.chosen.scores[2].CopyFrom(many)
    assert "50 classes are too many" in report_page(facts, "")
