"""Roll-outs: begun, steered and carried on. What is decided is in domain/rollout.py; here it is written and told to devices."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

from modelyard.core.errors import FailedPrecondition, NotFound
from modelyard.core.names import DEPLOYMENT, DEVICE, PROJECT, ROLLOUT, check_id, new_id
from modelyard.serving.domain import rollout as rules
from modelyard.serving.domain.desired_state import Trial, check_trial
from modelyard.serving.domain.device import Assignment, Device, check_device_labels, has_labels, no_devices
from modelyard.serving.domain.endpoint import Deployment, check_reason
from modelyard.serving.domain.rollout import Plan, Rollout, RolloutDevice, Seen
from modelyard.serving.fleet_ports import DeviceStore, RolloutStore
from modelyard.serving.ports import EndpointStore, Listed, Request


@dataclass(frozen=True)
class Selector:
    """Which devices: those that all that is set fits."""

    devices: tuple[str, ...] = ()
    labels: Mapping[str, str] = field(default_factory=dict)
    percent: int = 0


@dataclass(frozen=True)
class WantedRollout:
    """What a caller wants."""

    deployment: str
    selector: Selector
    plan: Plan
    trial: Trial | None = None
    downgrade_allowed: bool = False
    rollout_id: str = ""


@dataclass(frozen=True)
class Rollouts:
    """What roll-outs take."""

    store: RolloutStore
    devices: DeviceStore
    endpoints: EndpointStore
    clock: Callable[[], datetime] = lambda: datetime.now(UTC)

    def create(self, parent: str, wanted: WantedRollout, request: Request) -> Rollout:
        """Begins one. Raises InvalidArgument, NotFound, FailedPrecondition NO_DEVICES, ROLLOUT_IN_PROGRESS, NO_PASSPORT."""
        project = PROJECT.parse(parent, "parent")["project"]
        DEPLOYMENT.parse(wanted.deployment, "rollout.deployment")
        plan = rules.check_plan(wanted.plan)
        trial = rules.default_trial(wanted.trial)
        check_trial("rollout.trial", trial)
        name = ROLLOUT.format(project, check_id(wanted.rollout_id, "rollout_id") if wanted.rollout_id else new_id())
        earlier = self.store.repeated(request)
        if earlier is not None:
            return earlier
        assignment = _assignment(self.endpoints.deployment(wanted.deployment), name, trial, wanted.downgrade_allowed)
        found = {device.name: device for device in self._selected(parent, wanted.selector)}
        names = rules.chosen(name, found, rules.check_percent(wanted.selector.percent))
        if not names:
            raise no_devices(_said(wanted.selector))
        previous = {
            device: found[device].assignments[assignment.endpoint]
            for device in names
            if assignment.endpoint in found[device].assignments
        }
        made = Rollout(
            name=name,
            deployment=wanted.deployment,
            assignment=assignment,
            plan=plan,
            devices=rules.with_previous(names, previous),
            selector={
                "devices": list(wanted.selector.devices),
                "labels": dict(wanted.selector.labels),
                "percent": wanted.selector.percent,
            },
        )
        return self.carry_on(self.store.create(made, request))

    def get(self, name: str) -> Rollout:
        """Raises InvalidArgument, NotFound."""
        ROLLOUT.parse(name)
        return self.store.get(name)

    def list(self, parent: str, page_size: int, page_token: str) -> Listed[Rollout]:
        """Newest first. Raises InvalidArgument."""
        PROJECT.parse(parent, "parent")
        return self.store.list(parent, page_size, page_token)

    def pause(self, name: str) -> Rollout:
        """Raises InvalidArgument, NotFound, FailedPrecondition ROLLOUT_ENDED."""
        return self._steer(name, rules.paused)

    def resume(self, name: str) -> Rollout:
        """Raises InvalidArgument, NotFound, FailedPrecondition ROLLOUT_ENDED."""
        return self._steer(name, rules.resumed)

    def cancel(self, name: str) -> Rollout:
        """Raises InvalidArgument, NotFound, FailedPrecondition ROLLOUT_ENDED."""
        return self._steer(name, rules.cancelled)

    def revert(self, name: str, reason: str) -> Rollout:
        """Raises InvalidArgument, NotFound, FailedPrecondition ROLLOUT_ENDED, ROLLOUT_IN_PROGRESS (of another one)."""
        check_reason(reason)
        return self._steer(name, lambda rollout: rules.reverted(rollout, reason))

    def look(self, report: Callable[[Rollout, Exception], None]) -> None:
        """Carries on every roll-out that something is to be done about. One that cannot be is told to `report`."""
        for rollout in self.store.unsettled():
            try:
                self.carry_on(rollout)
            except Exception as error:
                report(rollout, error)

    def carry_on(self, rollout: Rollout) -> Rollout:
        """One step: what devices said is taken down, who is next is told.

        First the roll-out is written, then its devices; what a crash leaves undone between the two is done by the next step.
        Several may do this at once (the thread, calls, other servers): what is looked at here may be offered by another one
        meanwhile, and another step may come between the two writes.
        """
        known = {each.device: self._device(each.device) for each in rollout.devices if each.progress in rules.OPEN}
        seen = {name: _seen(device, rollout) for name, device in known.items()}
        stepped = self.store.change(rollout.name, lambda held: rules.step(held, seen, self.clock().timestamp()))
        for each in stepped.devices:
            self._assign(stepped, each)
        if stepped.ended and not stepped.settled:
            stepped = self.store.change(rollout.name, lambda held: replace(held, settled=held.ended))
        return stepped

    def _steer(self, name: str, change: Callable[[Rollout], Rollout]) -> Rollout:
        ROLLOUT.parse(name)
        return self.carry_on(self.store.change(name, change))

    def _selected(self, parent: str, selector: Selector) -> Sequence[Device]:
        for at, name in enumerate(selector.devices):
            DEVICE.parse(name, f"rollout.selector.devices[{at}]")
            if not name.startswith(f"{parent}/"):
                raise NotFound("RESOURCE_NOT_FOUND", f"{name} is not in {parent}", field=f"rollout.selector.devices[{at}]")
            self.devices.get(name)
        check_device_labels(selector.labels, "rollout.selector.labels")
        named = set(selector.devices)
        return [
            device
            for device in self.devices.all(parent)
            if not device.revoked and (not named or device.name in named) and has_labels(device, selector.labels)
        ]

    def _device(self, name: str) -> Device | None:
        try:
            return self.devices.get(name)
        except NotFound:
            return None

    def _assign(self, rollout: Rollout, each: RolloutDevice) -> None:
        """A device is to serve what the roll-out says, unless somebody else has given it something since.

        What it says is read again while the device's row is held: of two steps at once the later one's word stays.
        """
        ours, wanted = rules.wanted(rollout, each)
        device = self.devices.find(each.device) if ours else None
        if device is None or device.assignments.get(rollout.assignment.endpoint) == wanted:
            return
        endpoint, allowed = rollout.assignment.endpoint, {rollout.name, each.previous.attempt if each.previous else ""}

        def change(held: Device) -> Device:
            current = held.assignments.get(endpoint)
            if current is not None and current.attempt not in allowed:
                return held
            ours, wanted = rules.wanted_of(self.store.get(rollout.name), each.device)
            if not ours:
                return held
            others = {name: assigned for name, assigned in held.assignments.items() if name != endpoint}
            return replace(held, assignments={**others, endpoint: wanted} if wanted is not None else others)

        try:
            self.devices.change(each.device, change)
        except NotFound:  # it was deleted since
            return


def _seen(device: Device | None, rollout: Rollout) -> Seen:
    if device is None or device.revoked:
        return Seen(there=False)
    assigned = device.assignments.get(rollout.assignment.endpoint)
    # Before it is told it still has what it had; that is no other's doing.
    others = assigned is not None and assigned.attempt != rollout.name and assigned not in _before(device, rollout)
    wanted = rollout.assignment
    for version in device.report.versions if device.report is not None else ():
        if (version.endpoint, version.sha256, version.attempt) == (wanted.endpoint, wanted.artifact.sha256, rollout.name):
            return Seen(True, not others, version.state, version.message)
    return Seen(True, not others)


def _before(device: Device, rollout: Rollout) -> list[Assignment]:
    return [each.previous for each in rollout.devices if each.device == device.name and each.previous is not None]


def _assignment(deployment: Deployment, rollout: str, trial: Trial, downgrade_allowed: bool) -> Assignment:
    if deployment.passport is None:
        message = f"{deployment.name} has no passport; ask the gate again about its evaluation, and deploy it again"
        raise FailedPrecondition("NO_PASSPORT", message, field="rollout.deployment")
    return Assignment(
        endpoint=deployment.endpoint,
        version=deployment.version,
        artifact=deployment.artifact,
        passport=deployment.passport,
        release=int(deployment.create_time.timestamp() * 1e6),
        attempt=rollout,
        model_version=deployment.model_version,
        downgrade_allowed=downgrade_allowed,
        trial=trial,
    )


def _said(selector: Selector) -> str:
    parts = [*selector.devices, *(f"{key}={value}" for key, value in selector.labels.items())]
    return ", ".join(parts)[:200] or "any device of the project"
