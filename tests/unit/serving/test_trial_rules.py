"""What a device remembers of a model, and how it decides: whatever comes, it never ends up without what it had confirmed."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from modelyard.serving.domain import trial as rules
from modelyard.serving.domain.desired_state import DesiredModel, DesiredVersion, Trial
from modelyard.serving.domain.following import FollowedState
from modelyard.serving.domain.trial import MOST_STARTS, Counted, ModelMemory, Step

VERSIONS = [DesiredVersion(f"V00{number}", f"{number}" * 64, 10, release=number, attempt=f"r{number}") for number in range(1, 6)]


def desired(version: DesiredVersion, *, allowed: bool = False) -> DesiredModel:
    return DesiredModel("e", "m", (version,), downgrade_allowed=allowed, trial=Trial())


def fresh() -> ModelMemory:
    return ModelMemory("e", "m")


@settings(max_examples=300)
@given(st.lists(st.tuples(st.sampled_from(VERSIONS), st.booleans(), st.sampled_from(["confirm", "refuse", "crash", "abandon"]))))
def test_whatever_comes_something_confirmed_answers(moves: list[tuple[DesiredVersion, bool, str]]) -> None:
    memory, highest = fresh(), 0
    for version, allowed, end in moves:
        before = memory
        step = rules.next_step(memory, desired(version, allowed=allowed))
        if step is Step.TOO_OLD:
            assert not allowed
            assert version.release < highest
            continue
        if step is not Step.TRY:
            continue
        assert allowed or version.release >= highest, "an older version is tried only where that was signed"
        memory = rules.begun(memory, version)
        assert memory.confirmed == before.confirmed
        assert version.sha256 in memory.needed
        if end == "confirm":
            memory = rules.confirmed(memory, version)
            highest = version.release
            assert memory.confirmed == version
            assert before.confirmed is None or before.confirmed.sha256 in memory.needed, "going back needs its bytes"
        elif end == "refuse":
            memory = rules.refused(memory, version, FollowedState.REVERTED, "bad")
            assert rules.next_step(memory, desired(version, allowed=True)) in (Step.GIVE_UP, Step.SERVE)
        elif end == "abandon":
            memory = rules.abandoned(memory)
        if end != "confirm":
            assert memory.confirmed == before.confirmed
        assert (memory.confirmed is None) == (highest == 0)


def test_a_version_that_brings_the_device_down_is_given_up() -> None:
    """The device ends while it loads it, each time; what was confirmed goes on."""
    memory = rules.confirmed(fresh(), VERSIONS[0])
    starts = 0
    while rules.next_step(memory, desired(VERSIONS[1])) is Step.TRY:
        memory = rules.begun(memory, VERSIONS[1])  # and then the process ends
        starts += 1
    assert starts == MOST_STARTS
    assert rules.next_step(memory, desired(VERSIONS[1])) is Step.GIVE_UP
    assert memory.confirmed == VERSIONS[0]


def test_another_attempt_tries_again_what_was_given_up() -> None:
    memory = rules.refused(rules.confirmed(fresh(), VERSIONS[0]), VERSIONS[1], FollowedState.FAILED, "no")
    again = DesiredVersion("V002", "2" * 64, 10, release=2, attempt="another")
    assert rules.next_step(memory, desired(VERSIONS[1])) is Step.GIVE_UP
    assert rules.next_step(memory, desired(again)) is Step.TRY


def test_what_speaks_against_a_version_on_trial() -> None:
    trial = Trial(max_error_rate=0.05, min_requests=20, max_crashes=1)
    assert rules.objection(trial, Counted(1000, 50)) == ""
    assert rules.objection(trial, Counted(0, 19)) == ""  # too few to say
    assert "20 of 20 requests failed" in rules.objection(trial, Counted(0, 20))
    assert rules.objection(trial, Counted(0, 0, 1)) == ""
    assert "2 times" in rules.objection(trial, Counted(0, 0, 2))
    assert "again and again" in rules.objection(trial, Counted(healthy=False))
