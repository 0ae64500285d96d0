"""Where an endpoint's versions live: what is refused, and when a version may be given traffic."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelyard.core.errors import InvalidArgument
from modelyard.serving.domain.placement import Held, Holding, Placement, Pod, PodState, check_placements, outlook

READY, LOADING = Held(Holding.READY), Held(Holding.LOADING)


def pod(number: int, state: PodState = PodState.READY, **versions: Held) -> Pod:
    return Pod(f"p{number}", "cpu", state, f"10.0.0.{number}:8001", "n1", versions=versions)


@pytest.mark.parametrize(
    ("placement", "field"),
    [
        (Placement("moon"), "target"),
        (Placement("cpu", 0), "min_replicas"),
        (Placement("cpu", -1), "min_replicas"),
        (Placement("cpu", 2, 1), "max_replicas"),
        (Placement("cpu", 1, 1001), "max_replicas"),
        (Placement("cpu", 1, 1, idle_s=60), "scale_to_zero_after"),
        (Placement("cpu", 0, 1, idle_s=5), "scale_to_zero_after"),
        (Placement("cpu", cpu="two"), "cpu"),
        (Placement("cpu", memory="4 GB"), "memory"),
        (Placement("cpu", gpus=1), "gpus"),
    ],
)
def test_what_cannot_be_is_named(placement: Placement, field: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        check_placements([placement])
    assert caught.value.reason == "BAD_PLACEMENT"
    assert caught.value.violations[0].field == f"endpoint.placements[0].{field}"


def test_a_target_is_placed_once() -> None:
    assert check_placements([Placement("cpu", 2, 5), Placement("gpu", gpus=2), Placement("edge", 0, 3, idle_s=60)])
    with pytest.raises(InvalidArgument, match="named twice"):
        check_placements([Placement("cpu"), Placement("cpu", 2, 2)])


def test_a_version_is_live_when_every_pod_answers_for_it() -> None:
    placed = [Placement("cpu", 2, 2)]
    assert not outlook(placed, [], "V2").live
    assert not outlook(placed, [pod(1, V1=READY, V2=READY)], "V2").live
    half = outlook(placed, [pod(1, V1=READY, V2=READY), pod(2, V1=READY, V2=LOADING)], "V2")
    assert not half.live
    assert half.summary == "cpu: 1 of 2 pods answer"
    assert outlook(placed, [pod(1, V2=READY), pod(2, V2=READY)], "V2").live
    assert outlook(placed, [pod(1, V2=READY), pod(2, V2=READY), pod(3, PodState.ENDING, V1=READY)], "V2").live
    third = pod(3, V1=READY)
    assert not outlook(placed, [pod(1, V2=READY), pod(2, V2=READY), third], "V2").live, "it would lose a pod that serves now"
    assert outlook(placed, [pod(1, V2=READY), pod(2, V2=READY), replace(third, state=PodState.PENDING)], "V2").live


def test_a_version_that_failed_in_a_pod_is_given_up_and_says_why() -> None:
    seen = outlook([Placement("cpu")], [pod(1, V2=Held(Holding.FAILED, "TEST_VECTORS_DIFFER: by 3"))], "V2")
    assert (seen.live, seen.failed) == (False, "TEST_VECTORS_DIFFER: by 3")


def test_what_pods_wait_for_is_told() -> None:
    waiting = replace(pod(1, PodState.PENDING), message="Unschedulable: 0/2 nodes: insufficient cpu")
    assert "insufficient cpu" in outlook([Placement("cpu")], [waiting], "V1").summary


@given(st.lists(st.tuples(st.sampled_from(list(PodState)), st.booleans(), st.booleans()), max_size=6), st.integers(1, 4))
def test_a_live_version_takes_no_pod_from_callers(drawn: list[tuple[PodState, bool, bool]], least: int) -> None:
    pods = [
        pod(number, state, V1=READY if old else LOADING, V2=READY if new else LOADING)
        for number, (state, old, new) in enumerate(drawn)
    ]
    if outlook([Placement("cpu", least, 4)], pods, "V2").live:
        assert sum(each.answers("V2") for each in pods) >= least
        assert all(each.answers("V2") for each in pods if each.state is PodState.READY)
