"""`modelyard endpoint traffic` and its siblings: what they send, what they show, and what they refuse."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.cli_fakes import P, Yard

ENDPOINT = f"{P}/endpoints/flowers"


def test_shares_are_drawn(run: Any) -> None:
    lines = run("endpoint", "traffic", "flowers").out.splitlines()
    assert lines[1].split() == ["V001", "█" * 18 + "░" * 2, "90", "%", "READY", "-"]
    assert lines[2].split() == ["V002", "█" * 2 + "░" * 18, "10", "%", "UNHEALTHY", "canary,", "shadow", "50", "%"]
    shown = run("endpoint", "show", "flowers").out
    assert "█" * 18 in shown
    assert "canary" in shown


def test_shares_are_sent(run: Any, yard: Yard) -> None:
    ended = run("endpoint", "traffic", "flowers", "V001=80", "V002=20%", "--json")
    assert ended.document["default_version"] == "V001"
    [request] = yard.serving.requests
    assert {share.deployment: share.percent for share in request.endpoint.traffic} == {"V001": 80, "V002": 20}
    assert list(request.update_mask.paths) == ["traffic"]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["V001=80", "V002=30"], "traffic sums to 110 %; the shares must sum to 100"),
        (["V001"], "traffic has 'V001'; give VERSION=PERCENT, such as V003=90 V004=10"),
        (["V001=half"], "give VERSION=PERCENT"),
        (["V001=-5", "V002=105"], "give VERSION=PERCENT"),
        (["V001=50", "V001=50"], "traffic names V001 twice"),
    ],
)
def test_shares_that_cannot_be_are_wrong_usage(run: Any, yard: Yard, given: list[str], said: str) -> None:
    ended = run("endpoint", "traffic", "flowers", *given)
    assert (ended.status, yard.serving.requests) == (2, [])
    assert said in ended.err


def test_a_version_that_is_not_ready_is_told_with_what_to_look_at(run: Any) -> None:
    ended = run("endpoint", "traffic", "flowers", "V009=100")
    assert ended.status == 1
    assert "which is FAILED" in ended.err
    assert "modelyard endpoint show" in ended.err


def test_labels_are_added_to_those_there_are_and_taken_away(run: Any, yard: Yard) -> None:
    assert run("endpoint", "label", "flowers", "best=V001", "canary=").status == 0
    [request] = yard.serving.requests
    assert {one.label: one.deployment for one in request.endpoint.labels} == {"best": "V001"}
    assert request.endpoint.etag == "e1"
    assert "give LABEL=VERSION" in run("endpoint", "label", "flowers", "best").err


def test_the_shadow_is_set_shown_and_taken_away(run: Any, yard: Yard) -> None:
    assert run("endpoint", "shadow", "flowers", "V002", "--percent", "20").status == 0
    assert run("endpoint", "shadow", "flowers", "--off").status == 0
    set_, off = yard.serving.requests
    assert (set_.endpoint.shadow.deployment, set_.endpoint.shadow.percent) == ("V002", 20)
    assert list(off.update_mask.paths) == ["shadow"]
    assert not off.endpoint.HasField("shadow")
    shown = run("endpoint", "shadow", "flowers").out
    assert "190 of 200 (95.0%)" in shown
    assert run("endpoint", "shadow", "flowers", "--json").document["skipped"] == 7
    assert run("endpoint", "shadow", "flowers", "V002", "--percent", "0").status == 2
    assert run("endpoint", "shadow", "flowers", "V002", "--off").status == 2


def test_going_back(run: Any, yard: Yard) -> None:
    assert "V001" in run("endpoint", "rollback", "flowers", "--reason", "complaints").out
    [request] = yard.serving.requests
    assert (request.name, request.reason) == (ENDPOINT, "complaints")


def test_the_record_and_who_answered_at_a_time(run: Any) -> None:
    listed = run("endpoint", "history", "flowers").out
    assert "V001 90 %, V002 10 %" in listed
    assert "V002 came" in listed
    then = run("endpoint", "history", "flowers", "--at", "2026-11-21T10:30:00+00:00", "--json").document["answering"]
    assert [(one["version"], one["percent"], one["artifact_sha256"]) for one in then] == [("V001", 100, "1" * 64)]
    now = run("endpoint", "history", "flowers", "--at", "2026-11-21T12:00:00+00:00").out
    assert "2" * 64 in now
    before = run("endpoint", "history", "flowers", "--at", "2026-11-21T09:00:00+00:00")
    assert (before.status, before.out) == (0, "")
    assert "nothing was deployed" in before.err
    wrong = run("endpoint", "history", "flowers", "--at", "yesterday")
    assert wrong.status == 2
    assert "give a time like" in wrong.err


def test_how_versions_fare(run: Any) -> None:
    shown = run("endpoint", "stats", "flowers").out
    assert "1234" in shown
    assert "8.25" in shown
    assert "120 MB" in shown
    assert "age 60 to 75: 4 % in training, 31 % now" in shown
    assert len(run("endpoint", "stats", "flowers", "--json").document["deployments"]) == 2
    assert len(run("endpoint", "stats", "flowers/V001", "--json").document["deployments"]) == 1


def test_deploying_with_a_share_and_another_name(run: Any, yard: Yard) -> None:
    ended = run("deploy", "x1", "--endpoint", "flowers", "--percent", "10", "--as", "V001-int8")
    assert ended.status == 0
    assert "90 %" in ended.out
    request = yard.serving.requests[-1]
    assert (request.percent, request.deployment_id) == (10, "V001-int8")
    run("deploy", "x1", "--endpoint", "flowers")
    assert not yard.serving.requests[-1].HasField("percent")
    assert run("deploy", "x1", "--endpoint", "flowers", "--percent", "101").status == 2


def test_the_policy_is_shown_and_changed_bit_by_bit(run: Any, yard: Yard) -> None:
    shown = run("endpoint", "set", "flowers")
    assert "for 10 min 00 s after a change: more than 1 % failed, p99 above 2 times before, from 50 requests on" in shown.out
    assert yard.serving.requests == []
    run("endpoint", "set", "flowers", "--max-error-rate", "0.05", "--window", "1h", "--no-rollback", "--sticky-header", "x-user")
    [request] = yard.serving.requests
    policy = request.endpoint.rollback_policy
    assert (policy.max_error_rate, policy.window.seconds, policy.disabled, policy.min_requests) == (0.05, 3600, True, 50)
    assert sorted(request.update_mask.paths) == ["rollback_policy", "sticky_header"]
    assert (request.endpoint.sticky_header, request.endpoint.etag) == ("x-user", "e1")
    assert run("endpoint", "set", "flowers", "--window", "soon").status == 2
