"""Two at once at the centre of a fleet: a call and the thread carry a roll-out on, two readers number a desired state."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from modelyard.core.artifacts import Blob
from modelyard.core.database import migrate, open_database
from modelyard.core.resources import ResourceStore
from modelyard.serving.adapters.device_store import SqlDeviceStore, SqlRolloutStore
from modelyard.serving.adapters.fleet_numbers import SqlStateNumbers
from modelyard.serving.domain import rollout as rules
from modelyard.serving.domain.device import Assignment, Device, DeviceReport, ReportedVersion
from modelyard.serving.domain.following import FollowedState
from modelyard.serving.domain.rollout import Plan, Progress, Rollout, RolloutState
from modelyard.serving.handlers.fleet_states import FleetStates
from modelyard.serving.handlers.rollouts import Rollouts
from modelyard.serving.ports import Request
from modelyard.serving.state_messages import digest_of, payload_of

NOW = datetime(2026, 1, 1, tzinfo=UTC)
DEVICE, ENDPOINT = "projects/p/devices/d", "projects/p/endpoints/e"
R2, R3 = "projects/p/rollouts/r2", "projects/p/rollouts/r3"


def assignment(version: str, attempt: str, release: int) -> Assignment:
    blob = Blob(f"artifact://serving/{version[-1] * 64}", version[-1] * 64, 10)
    return Assignment(ENDPOINT, version, blob, blob, release, attempt)


BEFORE, OLDER = assignment("V002", R2, 2), assignment("V001", R3, 1)


@dataclass
class Interrupted:
    """A store; somebody else does `then` once, just after `method` has read."""

    store: Any
    method: str
    then: Callable[[], object]
    done: bool = False

    def __getattr__(self, name: str) -> Any:
        real = getattr(self.store, name)
        if name != self.method:
            return real

        def call(*arguments: Any) -> Any:
            answer = real(*arguments)
            if not self.done:
                self.done = True
                self.then()
            return answer

        return call


class Passports:
    def passport(self, passport: Blob) -> bytes:
        return b"passport"


@dataclass
class Centre:
    """A centre with one device, which serves V002."""

    folder: Path
    resources: ResourceStore = field(init=False)

    def __post_init__(self) -> None:
        engine = open_database(f"sqlite:///{self.folder / 'centre.db'}")
        migrate(engine)
        self.resources = ResourceStore(engine)
        self.devices, self.store = SqlDeviceStore(self.resources), SqlRolloutStore(self.resources)
        self.devices.create(Device(DEVICE, "k", "pem", NOW, assignments={ENDPOINT: BEFORE}))

    def begun(self) -> Rollout:
        """r3, to V001, as it is written before its first step."""
        devices = rules.with_previous([DEVICE], {DEVICE: BEFORE})
        return self.store.create(Rollout(R3, "deployment", OLDER, Plan(), devices, {}), Request())

    def rollouts(self, devices: Any = None) -> Rollouts:
        return Rollouts(self.store, devices or self.devices, None, lambda: NOW)  # type: ignore[arg-type]

    def says(self, state: FollowedState, message: str) -> None:
        said = ReportedVersion(ENDPOINT, "V001", OLDER.artifact.sha256, R3, state, message)
        self.devices.report(DEVICE, DeviceReport(NOW, (said,)))

    def assigned(self) -> str:
        return self.devices.get(DEVICE).assignments[ENDPOINT].version

    def states(self, devices: Any = None) -> FleetStates:
        return FleetStates(
            None,  # type: ignore[arg-type]
            devices or self.devices,
            Passports(),  # type: ignore[arg-type]
            SqlStateNumbers(self.resources),
            lambda state: digest_of(payload_of(state)),
            lambda: (),
            lambda: (),
        )

    def assign(self, version: Assignment) -> None:
        self.devices.change(DEVICE, lambda held: replace(held, assignments={ENDPOINT: version}))


def test_a_step_that_began_before_a_device_was_offered_does_not_give_it_up(tmp_path: Path) -> None:
    """The thread reads a roll-out, the call that made it offers it to the device, then the thread goes on with what it read."""
    centre = Centre(tmp_path)
    read_by_the_thread = centre.begun()
    rollouts = centre.rollouts()
    assert rollouts.carry_on(centre.store.get(R3)).devices[0].progress is Progress.OFFERED
    after = rollouts.carry_on(read_by_the_thread)
    assert (after.state, after.devices[0].progress) == (RolloutState.RUNNING, Progress.OFFERED)
    centre.says(FollowedState.FAILED, "DOWNGRADE_REFUSED: V001 is older")
    after = rollouts.carry_on(after)
    assert after.state is RolloutState.PAUSED
    assert "DOWNGRADE_REFUSED" in after.message
    assert centre.assigned() == "V002"


def test_a_step_that_comes_late_tells_a_device_what_the_roll_out_says_now(tmp_path: Path) -> None:
    """Between the late step's writing and its assignment a caller cancels; a cancelled one is settled: nothing would mend it."""
    centre = Centre(tmp_path)
    late = Interrupted(centre.devices, "find", lambda: centre.rollouts().cancel(R3))
    centre.rollouts(late).carry_on(centre.begun())
    assert late.done
    cancelled = centre.store.get(R3)
    assert (cancelled.state, cancelled.settled) == (RolloutState.CANCELLED, True)
    assert centre.assigned() == "V002"


def test_what_was_read_before_another_was_numbered_gets_no_higher_number(tmp_path: Path) -> None:
    centre = Centre(tmp_path)
    newer: list[Any] = []

    def another_reader() -> None:
        centre.assign(OLDER)
        newer.append(centre.states().current(DEVICE))

    first = centre.states().current(DEVICE)
    centre.assign(assignment("V003", R2, 3))
    slow = centre.states(Interrupted(centre.devices, "find", another_reader)).current(DEVICE)
    assert newer[0].models[0].versions[0].version == "V001"
    assert newer[0].number > first.number
    assert slow == newer[0]  # it read again
    assert centre.states().current(DEVICE) == newer[0]


def test_what_has_its_number_keeps_it_though_another_is_numbered_meanwhile(tmp_path: Path) -> None:
    centre = Centre(tmp_path)
    newer: list[Any] = []

    def another_reader() -> None:
        centre.assign(OLDER)
        newer.append(centre.states().current(DEVICE))

    first = centre.states().current(DEVICE)
    slow = centre.states(Interrupted(centre.devices, "find", another_reader)).current(DEVICE)
    assert slow == first
    assert newer[0].number > slow.number


def test_two_that_ask_for_a_subjects_first_number_get_the_same(tmp_path: Path) -> None:
    centre = Centre(tmp_path)
    other: list[Any] = []
    numbers = Interrupted(SqlStateNumbers(centre.resources), "held", lambda: other.append(centre.states().current(DEVICE)))
    assert replace(centre.states(), numbers=numbers).current(DEVICE) == other[0]
