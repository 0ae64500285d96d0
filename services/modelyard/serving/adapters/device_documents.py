"""Devices, tokens and roll-outs as the JSON documents that are kept of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from datetime import datetime
from typing import Any

from modelyard.core.artifacts import Blob
from modelyard.core.resources import Resource
from modelyard.serving.domain.desired_state import Trial
from modelyard.serving.domain.device import Assignment, Device, DeviceReport, EnrolmentToken, ReportedVersion
from modelyard.serving.domain.following import FollowedState
from modelyard.serving.domain.rollout import OnFailure, Plan, Progress, Rollout, RolloutDevice, RolloutState

Document = dict[str, Any]


def device_document(device: Device) -> Document:
    """All of a device but its name, times and report."""
    return {
        "key_id": device.key_id,
        "public_key": device.public_key,
        "enrol_time": device.enrol_time.isoformat(),
        "labels": dict(device.labels),
        "description": device.description,
        "revoked": device.revoked,
        "assignments": {endpoint: asdict(assignment) for endpoint, assignment in device.assignments.items()},
    }


def device_of(stored: Resource, report: Resource | None) -> Device:
    """The device that a row is, and what it said last."""
    document = stored.document
    return Device(
        name=stored.name,
        key_id=document["key_id"],
        public_key=document["public_key"],
        enrol_time=datetime.fromisoformat(document["enrol_time"]),
        labels=document["labels"],
        description=document["description"],
        revoked=document["revoked"],
        assignments={endpoint: _assignment(each) for endpoint, each in document["assignments"].items()},
        report=report_of(report.document) if report is not None else None,
        create_time=stored.create_time,
        etag=stored.etag,
    )


def report_document(report: DeviceReport, before: Mapping[str, Any] | None) -> Document:
    """What a device said; the inventory of before where it sent none."""
    return {
        "time": report.time.isoformat(),
        "versions": [asdict(version) for version in report.versions],
        "content": dict(report.content),
        "inventory": dict(report.inventory) or (before or {}).get("inventory", {}),
    }


def report_of(document: Mapping[str, Any]) -> DeviceReport:
    """What a device said."""
    versions = tuple(ReportedVersion(**{**each, "state": FollowedState(each["state"])}) for each in document["versions"])
    return DeviceReport(datetime.fromisoformat(document["time"]), versions, document["content"], document["inventory"])


def token_document(token: EnrolmentToken) -> Document:
    """All of a token but its name and time."""
    return {
        "sha256": token.sha256,
        "expire_time": token.expire_time.isoformat(),
        "name_pattern": token.name_pattern,
        "labels": dict(token.labels),
        "replace": token.replace,
        "device": token.device,
        "key_id": token.key_id,
    }


def token_of(stored: Resource) -> EnrolmentToken:
    """The token that a row is."""
    document = dict(stored.document)
    expires = datetime.fromisoformat(document.pop("expire_time"))
    return EnrolmentToken(stored.name, expire_time=expires, create_time=stored.create_time, **document)


def rollout_document(rollout: Rollout) -> Document:
    """All of a roll-out but its name."""
    return {
        "deployment": rollout.deployment,
        "assignment": asdict(rollout.assignment),
        "plan": asdict(rollout.plan),
        "devices": [asdict(each) for each in rollout.devices],
        "selector": dict(rollout.selector),
        "state": rollout.state.value,
        "message": rollout.message,
        "stage": rollout.stage,
        "forgiven": rollout.forgiven,
        "good_since_s": rollout.good_since_s,
        "settled": rollout.settled,
    }


def rollout_of(stored: Resource) -> Rollout:
    """The roll-out that a row is."""
    document = stored.document
    plan = document["plan"]
    return Rollout(
        name=stored.name,
        deployment=document["deployment"],
        assignment=_assignment(document["assignment"]),
        plan=Plan(**{**plan, "stages": tuple(plan["stages"]), "on_failure": OnFailure(plan["on_failure"])}),
        devices=tuple(_rollout_device(each) for each in document["devices"]),
        selector=document["selector"],
        state=RolloutState(document["state"]),
        message=document["message"],
        stage=document["stage"],
        forgiven=document["forgiven"],
        good_since_s=document["good_since_s"],
        settled=document["settled"],
        create_time=stored.create_time,
        update_time=stored.update_time,
    )


def _rollout_device(document: Mapping[str, Any]) -> RolloutDevice:
    previous = _assignment(document["previous"]) if document["previous"] else None
    return RolloutDevice(**{**document, "progress": Progress(document["progress"]), "previous": previous})


def _assignment(document: Mapping[str, Any]) -> Assignment:
    trial = Trial(**document["trial"]) if document["trial"] else None
    blobs = {name: Blob(**document[name]) for name in ("artifact", "passport")}
    return Assignment(**{**document, **blobs, "trial": trial})
