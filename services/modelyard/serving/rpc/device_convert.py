"""Devices, tokens, reports and roll-outs as contract messages, and what callers want of them."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from google.protobuf import json_format
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message

from modelyard.core.errors import InvalidArgument
from modelyard.core.jobs.convert import duration, timestamp
from modelyard.serving.domain.device import Device, DeviceReport, DeviceState, EnrolmentToken, ReportedVersion
from modelyard.serving.domain.following import FollowedState
from modelyard.serving.domain.rollout import TIMEOUT_S, OnFailure, Plan, Progress, Rollout, RolloutDevice, RolloutState
from modelyard.serving.handlers.rollouts import Selector, WantedRollout
from modelyard.serving.state_messages import trial_message, trial_of
from modelyard.serving.v1 import device_pb2, device_service_pb2, fleet_pb2

MAX_INVENTORY_BYTES: Final = 64 << 10
MAX_REPORT_BYTES: Final = 1 << 20

_DEVICE_STATES: Final = {state: device_pb2.Device.State.Value(f"STATE_{state.value}") for state in DeviceState}
_ROLLOUT_STATES: Final = {state: device_pb2.Rollout.State.Value(f"STATE_{state.value}") for state in RolloutState}
_PROGRESS: Final = {state: device_pb2.RolloutDevice.State.Value(f"STATE_{state.value}") for state in Progress}
_FOLLOWED: Final = {fleet_pb2.FollowedVersion.State.Value(f"STATE_{state.value}"): state for state in FollowedState}
_ON_FAILURE: Final = {
    device_pb2.Rollout.ON_FAILURE_UNSPECIFIED: OnFailure.PAUSE,
    device_pb2.Rollout.ON_FAILURE_PAUSE: OnFailure.PAUSE,
    device_pb2.Rollout.ON_FAILURE_REVERT: OnFailure.REVERT,
}


def inventory_document(message: fleet_pb2.Inventory) -> dict[str, Any]:
    """An inventory as it is kept. Raises InvalidArgument TOO_LARGE."""
    return _kept(message, MAX_INVENTORY_BYTES, "inventory")


def report_of(message: fleet_pb2.StateReport, now: datetime) -> DeviceReport:
    """A report as it is kept. Raises InvalidArgument TOO_LARGE."""
    inventory = inventory_document(message.inventory) if message.HasField("inventory") else {}
    content = fleet_pb2.StateReport()
    content.CopyFrom(message)
    content.ClearField("inventory")
    content.ClearField("receive_time")
    versions = tuple(
        ReportedVersion(each.endpoint, each.version, each.bundle_sha256, each.attempt, _FOLLOWED[each.state], each.message[:500])
        for each in message.versions
        if each.state in _FOLLOWED
    )
    return DeviceReport(now, versions, _kept(content, MAX_REPORT_BYTES, "report"), inventory)


def device_message(device: Device, now: datetime, offline_after: timedelta) -> device_pb2.Device:
    """A device as it is now."""
    report = device.report
    return device_pb2.Device(
        name=device.name,
        labels=device.labels,
        description=device.description,
        state=_DEVICE_STATES[device.state(now, offline_after)],
        last_seen_time=timestamp(report.time) if report else None,
        enrol_time=timestamp(device.enrol_time),
        inventory=_read(report.inventory, fleet_pb2.Inventory()) if report else None,
        report=_report(report) if report and report.content else None,
        assignments=[
            device_pb2.Assignment(
                endpoint=endpoint, version=each.version, bundle_sha256=each.artifact.sha256, rollout=each.attempt
            )
            for endpoint, each in sorted(device.assignments.items())
        ],
        key_id=device.key_id,
        create_time=timestamp(device.create_time),
        etag=device.etag,
    )


def token_message(token: EnrolmentToken, text: str = "") -> device_pb2.EnrolmentToken:
    """A token; `text`: what the device is given, shown once."""
    return device_pb2.EnrolmentToken(
        name=token.name,
        token=text,
        name_pattern=token.name_pattern,
        labels=token.labels,
        expire_time=timestamp(token.expire_time),
        replace=token.replace,
        device=token.device,
        create_time=timestamp(token.create_time),
    )


def wanted_rollout(request: device_service_pb2.CreateRolloutRequest) -> WantedRollout:
    """What a caller wants. Raises InvalidArgument NO_SELECTOR."""
    message = request.rollout
    if not message.HasField("selector"):
        wrong = "rollout.selector is not set; name devices or labels, or set it empty for every device of the project"
        raise InvalidArgument("NO_SELECTOR", wrong, field="rollout.selector")
    plan = Plan(
        stages=tuple(message.stages) or (100,),
        wait_s=_seconds(message.wait),
        max_failures=message.max_failures,
        on_failure=_ON_FAILURE.get(message.on_failure, OnFailure.PAUSE),
        device_timeout_s=_seconds(message.device_timeout) if message.HasField("device_timeout") else TIMEOUT_S,
    )
    selector = message.selector
    return WantedRollout(
        deployment=message.deployment,
        selector=Selector(tuple(selector.devices), dict(selector.labels), selector.percent),
        plan=plan,
        trial=trial_of(message.trial) if message.HasField("trial") else None,
        downgrade_allowed=message.downgrade_allowed,
        rollout_id=request.rollout_id,
    )


def rollout_message(rollout: Rollout) -> device_pb2.Rollout:
    """A roll-out."""
    plan, selector = rollout.plan, rollout.selector
    return device_pb2.Rollout(
        name=rollout.name,
        deployment=rollout.deployment,
        selector=_read(selector, device_pb2.DeviceSelector()),
        stages=plan.stages,
        wait=duration(plan.wait_s),
        max_failures=plan.max_failures,
        on_failure=device_pb2.Rollout.OnFailure.Value(f"ON_FAILURE_{plan.on_failure.value}"),
        trial=trial_message(rollout.assignment.trial) if rollout.assignment.trial else None,
        downgrade_allowed=rollout.assignment.downgrade_allowed,
        device_timeout=duration(plan.device_timeout_s),
        state=_ROLLOUT_STATES[rollout.state],
        state_message=rollout.message,
        stage=max(0, rollout.stage),
        devices=[_rollout_device(each) for each in rollout.devices],
        create_time=timestamp(rollout.create_time),
        update_time=timestamp(rollout.update_time),
    )


def moment(message: device_pb2.EnrolmentToken) -> datetime | None:
    """When a wanted token is to expire; None: not said. Raises InvalidArgument BAD_EXPIRE_TIME for what is no time."""
    if not message.HasField("expire_time"):
        return None
    try:
        return message.expire_time.ToDatetime(UTC)
    except (ValueError, OverflowError):
        field = "enrolment_token.expire_time"
        raise InvalidArgument("BAD_EXPIRE_TIME", f"{field} is no time; it must be one from now on", field=field) from None


def _rollout_device(each: RolloutDevice) -> device_pb2.RolloutDevice:
    return device_pb2.RolloutDevice(
        device=each.device,
        state=_PROGRESS[each.progress],
        message=each.message,
        previous_version=each.previous.version if each.previous else "",
    )


def _report(report: DeviceReport) -> fleet_pb2.StateReport:
    message: fleet_pb2.StateReport = _read(report.content, fleet_pb2.StateReport())
    message.receive_time.FromDatetime(report.time)
    return message


def _kept(message: Message, most: int, what: str) -> dict[str, Any]:
    if message.ByteSize() > most:
        wrong = f"{what} has {message.ByteSize()} bytes; at most {most} are taken"
        raise InvalidArgument("TOO_LARGE", wrong, field=what)
    return json_format.MessageToDict(message, preserving_proto_field_name=True)


def _read(document: Mapping[str, Any], message: Any) -> Any:
    return json_format.ParseDict(dict(document), message, ignore_unknown_fields=True)


def _seconds(message: Duration) -> float:
    return message.seconds + message.nanos / 1e9
