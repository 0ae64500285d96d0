"""Roll-outs: who is next, when it stops, what devices are told; as a state machine, against devices that behave anyhow."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from modelyard.core.artifacts import Blob
from modelyard.core.errors import FailedPrecondition, InvalidArgument
from modelyard.serving.domain import rollout as rules
from modelyard.serving.domain.desired_state import Trial
from modelyard.serving.domain.device import Assignment
from modelyard.serving.domain.following import FollowedState
from modelyard.serving.domain.rollout import HAS_IT, OnFailure, Plan, Progress, Rollout, RolloutState, Seen

NAME = "projects/p/rollouts/r"
DEVICES = [f"projects/p/devices/d{number}" for number in range(10)]


def assignment(version: str, attempt: str, release: int) -> Assignment:
    blob = Blob(f"artifact://serving/{version[-1] * 64}", version[-1] * 64, 10)
    return Assignment("projects/p/endpoints/e", version, blob, blob, release, attempt, trial=Trial())


OLD, NEW = assignment("V001", "projects/p/rollouts/old", 1), assignment("V002", NAME, 2)


def a_rollout(plan: Plan, devices: list[str] = DEVICES) -> Rollout:
    return Rollout(NAME, "d", NEW, plan, rules.with_previous(devices, dict.fromkeys(devices[:8], OLD)), {})


class RolloutMachine(RuleBasedStateMachine):
    """A roll-out by 20 %, 50 %, all, that bears one failure; 10 devices, of which two had nothing before."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 1000.0
        self.rollout = a_rollout(Plan((20, 50, 100), wait_s=60, max_failures=1, device_timeout_s=600))
        self.seen = {device: Seen() for device in DEVICES}
        self.was_offered: set[str] = set()

    @rule(on_failure=st.sampled_from(OnFailure))
    def another_policy(self, on_failure: OnFailure) -> None:
        self.rollout = replace(self.rollout, plan=replace(self.rollout.plan, on_failure=on_failure))

    @rule(device=st.sampled_from(DEVICES), said=st.sampled_from(FollowedState))
    def a_device_says(self, device: str, said: FollowedState) -> None:
        self.seen[device] = replace(self.seen[device], said=said, message="as it says")

    @rule(device=st.sampled_from(DEVICES))
    def a_device_is_gone(self, device: str) -> None:
        self.seen[device] = Seen(there=False)

    @rule(seconds=st.sampled_from([0.0, 1.0, 61.0, 601.0]))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds
        before = self.rollout
        self.rollout = rules.step(self.rollout, self.seen, self.now)
        if not before.ended:
            self._check_step(before)
        else:
            assert self.rollout == before

    @rule(looked_at=st.sets(st.sampled_from(DEVICES)))
    def a_step_that_looked_at_some(self, looked_at: set[str]) -> None:
        """The others were offered it after that step had looked: nothing becomes of them."""
        before = self.rollout
        self.rollout = rules.step(before, {device: self.seen[device] for device in looked_at}, self.now)
        for each, earlier in zip(self.rollout.devices, before.devices, strict=True):
            if each.device not in looked_at and earlier.progress is Progress.OFFERED:
                assert each.progress in (Progress.OFFERED, Progress.UNREACHABLE, Progress.TAKEN_BACK)

    @rule()
    def the_same_again_changes_nothing_more(self) -> None:
        once = rules.step(self.rollout, self.seen, self.now)
        while (again := rules.step(once, self.seen, self.now)) != once:
            once = again  # each step is one stage at most
        self.rollout = once

    @precondition(lambda self: not self.rollout.ended and self.rollout.state is not RolloutState.REVERTING)
    @rule(what=st.sampled_from([rules.paused, rules.resumed, rules.cancelled]))
    def a_person_steers(self, what: object) -> None:
        self.rollout = what(self.rollout)  # type: ignore[operator]

    @precondition(lambda self: self.rollout.state not in (RolloutState.REVERTED, RolloutState.REVERTING))
    @rule()
    def a_person_takes_it_back(self) -> None:
        self.rollout = rules.reverted(self.rollout, "")

    @invariant()
    def stages_are_kept(self) -> None:
        """Nobody beyond the present stage has ever been told."""
        count = rules.share_of(10, self.rollout.plan.stages[self.rollout.stage]) if self.rollout.stage >= 0 else 0
        assert all(each.progress is Progress.PENDING for each in self.rollout.devices[count:])

    @invariant()
    def what_is_told_fits_what_is_known(self) -> None:
        for each in self.rollout.devices:
            ours, wanted = rules.wanted(self.rollout, each)
            if each.progress in HAS_IT:
                assert (ours, wanted) == (True, NEW)
            elif each.progress in (Progress.FAILED, Progress.TAKEN_BACK):
                assert ours
                assert wanted is None if each.previous is None else (wanted is not None and wanted.artifact == OLD.artifact)
            else:
                assert not ours

    @invariant()
    def an_end_is_an_end(self) -> None:
        if self.rollout.state is RolloutState.SUCCEEDED:
            assert all(each.progress not in (Progress.PENDING, Progress.OFFERED) for each in self.rollout.devices)
            assert self.rollout.failures <= self.rollout.plan.max_failures
        if self.rollout.state is RolloutState.REVERTED:
            assert all(each.progress not in HAS_IT for each in self.rollout.devices)

    def _check_step(self, before: Rollout) -> None:
        told = [
            each.device
            for each, earlier in zip(self.rollout.devices, before.devices, strict=True)
            if each.progress is Progress.OFFERED and earlier.progress is Progress.PENDING
        ]
        if told:
            assert before.state is RolloutState.RUNNING
            assert self.rollout.failures <= self.rollout.plan.max_failures
            assert all(
                earlier.progress is not Progress.OFFERED or self.seen[earlier.device].said or True for earlier in before.devices
            )
        assert not self.was_offered & set(told)
        self.was_offered |= set(told)


TestRolloutMachine = RolloutMachine.TestCase
TestRolloutMachine.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)


@given(st.sets(st.integers(0, 200), min_size=1, max_size=50), st.integers(1, 100))
def test_devices_are_chosen_alike_each_time_and_a_larger_share_has_the_smaller(ids: set[int], percent: int) -> None:
    devices = [f"d{number}" for number in ids]
    picked = rules.chosen("r", devices, percent)
    assert picked == rules.chosen("r", list(reversed(devices)), percent)
    assert len(picked) == max(1, -(-len(devices) * percent // 100))
    assert rules.chosen("r", devices, 100)[: len(picked)] == picked


def test_two_roll_outs_do_not_begin_with_the_same_devices() -> None:
    many = [f"d{number}" for number in range(100)]
    assert set(rules.chosen("r1", many, 10)) != set(rules.chosen("r2", many, 10))


def test_one_failure_too_many_pauses_or_takes_back() -> None:
    seen = {device: Seen(said=FollowedState.REVERTED, message="golden requests differ") for device in DEVICES}
    for on_failure, states in ((OnFailure.PAUSE, ["PAUSED"]), (OnFailure.REVERT, ["REVERTING", "REVERTED"])):
        rollout = rules.step(a_rollout(Plan((20, 100), on_failure=on_failure)), {}, 0)
        assert [each.progress for each in rollout.devices].count(Progress.OFFERED) == 2
        for state in states:
            rollout = rules.step(rollout, seen, 1)
            assert rollout.state == state
            assert "golden requests differ" in rollout.message
        assert [each.progress for each in rollout.devices].count(Progress.PENDING) == 8


def test_resuming_forgives_what_a_person_has_seen() -> None:
    seen = {device: Seen(said=FollowedState.CONFIRMED) for device in DEVICES}
    seen[rules.chosen(NAME, DEVICES)[0]] = Seen(said=FollowedState.FAILED)
    rollout = rules.step(a_rollout(Plan((50, 100)), rules.chosen(NAME, DEVICES)), {}, 0)
    rollout = rules.step(rollout, seen, 1)
    assert rollout.state is RolloutState.PAUSED
    rollout = rules.resumed(rollout)
    for second in range(2, 6):
        rollout = rules.step(rollout, seen, second)
    assert rollout.state is RolloutState.SUCCEEDED
    with pytest.raises(FailedPrecondition, match="SUCCEEDED"):
        rules.paused(rollout)


def test_the_end_says_who_did_not_confirm() -> None:
    seen = {device: Seen(said=FollowedState.CONFIRMED) for device in DEVICES}
    seen[DEVICES[0]], seen[DEVICES[1]] = Seen(there=False), Seen()
    rollout = rules.step(a_rollout(Plan(device_timeout_s=60)), {}, 0)
    rollout = rules.step(rules.step(rollout, seen, 1), seen, 61)
    assert rollout.state is RolloutState.SUCCEEDED
    assert rollout.message == "8 of 10 devices confirmed; 1 unreachable, 1 gone"


def test_one_that_reached_nobody_has_not_succeeded() -> None:
    rollout = rules.step(a_rollout(Plan()), {}, 0)
    rollout = rules.step(rollout, {device: Seen(there=False) for device in DEVICES}, 1)
    assert rollout.state is RolloutState.CANCELLED
    assert rollout.ended
    assert "deleted, revoked" in rollout.message


@pytest.mark.parametrize("stages", [(), (0, 100), (50, 20, 100), (50,), (50, 50, 100), tuple(range(80, 101)), (50, 101)])
def test_stages_must_rise_to_all(stages: tuple[int, ...]) -> None:
    with pytest.raises(InvalidArgument, match="rising percentages"):
        rules.check_plan(Plan(stages))
