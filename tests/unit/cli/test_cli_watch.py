"""`modelyard watch` against a fake service."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from google.protobuf.empty_pb2 import Empty

from modelyard.pipeline.v1 import reevaluation_pb2 as pb
from modelyard.pipeline.v1 import reevaluation_service_pb2 as messages
from modelyard.pipeline.v1.reevaluation_service_pb2_grpc import (
    ReevaluationServiceServicer,
    add_ReevaluationServiceServicer_to_server,
)
from modelyard.type.v1 import job_pb2, learning_pb2
from tests.support.cli_fakes import DONE, P, metric
from tests.support.client_fakes import Server

RUN = f"{P}/reevaluations/digits/runs/r1"


class FakeReevaluations(ReevaluationServiceServicer):
    """One re-evaluation, whose runs end after a look."""

    def __init__(self) -> None:
        self.requests: list[Any] = []
        self.verdict = pb.REEVALUATION_VERDICT_DRIFTED
        self.looks = 0
        self.failed = False

    def found(self) -> pb.Reevaluation:
        result = pb.ReevaluationResult(
            name=RUN,
            status=DONE,
            verdict=self.verdict,
            new_examples=200,
            metric=metric("accuracy", 0.65),
            dataset_version=f"{P}/datasets/digits/versions/V002",
            advice="what to do",
        )
        if self.failed:
            status = job_pb2.JobStatus(state=job_pb2.JOB_STATE_FAILED, reason="NO_CHAMPION")
            status.error.code, status.error.message = 9, "nothing answers"
            result = pb.ReevaluationResult(name=RUN, status=status)
        if self.looks < 1:
            result = pb.ReevaluationResult(name=RUN, status=job_pb2.JobStatus(state=job_pb2.JOB_STATE_RUNNING))
        self.looks += 1
        name, endpoint = f"{P}/reevaluations/digits", f"{P}/endpoints/digits"
        return pb.Reevaluation(name=name, endpoint=endpoint, dataset=f"{P}/datasets/digits", results=[result])

    def CreateReevaluation(self, request: Any, context: Any) -> pb.Reevaluation:
        self.requests.append(request)
        return self.found()

    def GetReevaluation(self, request: Any, context: Any) -> pb.Reevaluation:
        return self.found()

    def ListReevaluations(self, request: Any, context: Any) -> messages.ListReevaluationsResponse:
        self.looks = 1
        return messages.ListReevaluationsResponse(reevaluations=[self.found()])

    def DeleteReevaluation(self, request: Any, context: Any) -> Empty:
        self.requests.append(request)
        return Empty()

    def RunReevaluation(self, request: Any, context: Any) -> pb.ReevaluationResult:
        return pb.ReevaluationResult(name=RUN)


@pytest.fixture
def fake(run: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeReevaluations]:
    made = FakeReevaluations()
    server = Server(lambda grpc_server: add_ReevaluationServiceServicer_to_server(made, grpc_server))
    monkeypatch.setenv("MODELYARD_SERVER", server.address)
    yield made
    server.stop()


def test_add(run: Any, fake: FakeReevaluations) -> None:
    ran = run("watch", "add", "digits", "--dataset", "digits", "--every", "12h", "--usage", "validation", "--min-new", "80")
    assert ran.status == 0
    assert "watching digits: digits" in ran.out
    wanted = fake.requests[0].reevaluation
    assert wanted.endpoint == f"{P}/endpoints/digits"
    assert wanted.dataset == f"{P}/datasets/digits"
    assert wanted.interval.seconds == 43_200
    assert wanted.usage == learning_pb2.USAGE_VALIDATION
    assert (wanted.min_new_examples, wanted.max_loss) == (80, 0.02)


def test_wrong_values_are_named(run: Any, fake: FakeReevaluations) -> None:
    ran = run("watch", "add", "digits", "--dataset", "digits", "--every", "soon")
    assert ran.status == 2
    assert "--every is 'soon'" in ran.err
    assert "--usage" in run("watch", "add", "digits", "--dataset", "d", "--usage", "tset").err
    assert fake.requests == []


def test_show_and_list(run: Any, fake: FakeReevaluations) -> None:
    fake.looks = 1
    shown = run("watch", "show", "digits")
    assert shown.status == 0
    assert all(part in shown.out for part in ("DRIFTED", "accuracy 0.65 (0.64 to 0.66)", "V002", "what to do"))
    listed = run("watch", "list")
    assert "DRIFTED" in listed.out
    document = run("watch", "list", "--json").document
    assert document["reevaluations"][0]["results"][0]["verdict"] == "DRIFTED"


def test_run_waits_and_ends_with_3_when_it_has_become_worse(run: Any, fake: FakeReevaluations) -> None:
    ran = run("watch", "run", "digits")
    assert ran.status == 3
    assert "DRIFTED" in ran.out
    fake.verdict = pb.REEVALUATION_VERDICT_OK
    assert run("watch", "run", "digits").status == 0


def test_run_that_fails(run: Any, fake: FakeReevaluations) -> None:
    fake.failed = True
    ran = run("watch", "run", "digits")
    assert ran.status == 1
    assert "nothing answers" in ran.err


def test_delete(run: Any, fake: FakeReevaluations) -> None:
    assert run("watch", "delete", "digits", "--json").document == {"deleted": "digits"}
    assert fake.requests[0].name == f"{P}/reevaluations/digits"
