"""What keeps a caller on a version: the endpoint's header, else the id of the request; over gRPC and HTTP alike."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from modelyard.serving.domain.endpoint import Condition, DeploymentState, Endpoint
from modelyard.serving.domain.traffic import Routing
from modelyard.serving.handlers.predict import Predictions
from modelyard.serving.handlers.registry import Entry, Registry
from modelyard.serving.rpc.inference_calls import InferenceCalls
from modelyard.serving.rpc.signature import Signatures
from tests.support.inference_fakes import MAX_BATCH, Answering

NOW = datetime(2026, 1, 1, tzinfo=UTC)
HALVES = Endpoint("projects/default/endpoints/net", "", NOW, NOW, "1", Routing(("V001",) * 50 + ("V002",) * 50))
CALLERS = [f"caller {number}" for number in range(40)]


def calls(sticky_header: str) -> InferenceCalls:
    registry = Registry()
    for version in ("V001", "V002"):
        registry.put(Entry("net", version, NOW, Condition(DeploymentState.READY), Answering()))
    registry.assign("net", replace(HALVES, sticky_header=sticky_header))
    return InferenceCalls(registry, Signatures(MAX_BATCH), Predictions(lambda *_: None))


def who(made: InferenceCalls, request_id: str = "", version: str = "", **metadata: str) -> str:
    return made.chosen("net", version, request_id, lambda key: metadata.get(key, "")).entry.version


def test_the_header_keeps_a_caller_whatever_the_id() -> None:
    made = calls("user")
    answered = {caller: {who(made, str(number), user=caller) for number in range(10)} for caller in CALLERS}
    assert all(len(versions) == 1 for versions in answered.values())
    assert len(set.union(*answered.values())) == 2


@pytest.mark.parametrize("sticky_header", ["", "user"])
def test_without_the_header_the_id_does(sticky_header: str) -> None:
    made = calls(sticky_header)
    answered = {caller: {who(made, caller) for _ in range(10)} for caller in CALLERS}
    assert all(len(versions) == 1 for versions in answered.values())
    assert len(set.union(*answered.values())) == 2


def test_a_header_that_the_endpoint_does_not_name_changes_nothing() -> None:
    made = calls("")
    assert len({who(made, "one id", user=caller) for caller in CALLERS}) == 1


def test_without_either_anybody_may_answer() -> None:
    made = calls("user")
    assert len({who(made) for _ in range(200)}) == 2


def test_a_version_that_is_named_answers() -> None:
    made = calls("user")
    assert {who(made, version="2", user=caller) for caller in CALLERS} == {"V002"}
