"""Desired states as the contract has them, signed by the centre and checked by followers: what both sides share."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Final

from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import DecodeError

from modelyard.core.errors import FailedPrecondition
from modelyard.formats.passport import encode
from modelyard.formats.passport_keys import PublicKey, SigningKey
from modelyard.serving.domain.desired_state import REPORT_S, DesiredModel, DesiredState, DesiredVersion, Trial, check_state
from modelyard.serving.v1 import fleet_pb2, serving_pb2

STATE_TYPE: Final = "application/vnd.modelyard.desired-state.v1+protobuf"
ENROL_TYPE: Final = "application/vnd.modelyard.enrol.v1"
SESSION_TYPE: Final = "application/vnd.modelyard.session.v1"
MAX_STATE_BYTES: Final = 64 << 20


def signed(state: DesiredState, key: SigningKey) -> fleet_pb2.SignedState:
    """A state with the centre's signature."""
    payload = payload_of(state)
    signature = key.sign(encode(payload, STATE_TYPE))
    return fleet_pb2.SignedState(payload=payload, payload_type=STATE_TYPE, key_id=key.public.key_id, signature=signature)


def verified(envelope: fleet_pb2.SignedState, trusted: Sequence[PublicKey]) -> tuple[DesiredState, str]:
    """The state, if one of the trusted keys signed it, with the sha256 of its payload.

    Raises FailedPrecondition STATE_UNTRUSTED_KEY, STATE_BAD_SIGNATURE; InvalidArgument BAD_DESIRED_STATE.
    """
    key = next((key for key in trusted if key.key_id == envelope.key_id), None)
    if key is None:
        known = ", ".join(key.key_id for key in trusted) or "none"
        message = f"the desired state is signed with the key {envelope.key_id:.80}; trusted are {known}"
        raise FailedPrecondition("STATE_UNTRUSTED_KEY", message, key_id=envelope.key_id[:80])
    fits = envelope.payload_type == STATE_TYPE and len(envelope.payload) <= MAX_STATE_BYTES
    if not fits or not key.verifies(envelope.signature, encode(envelope.payload, STATE_TYPE)):
        message = f"the desired state is not what was signed, by the key {envelope.key_id}"
        raise FailedPrecondition("STATE_BAD_SIGNATURE", message, key_id=envelope.key_id)
    try:
        message_ = fleet_pb2.DesiredState.FromString(envelope.payload)
    except DecodeError as error:
        raise FailedPrecondition("STATE_BAD_SIGNATURE", "what is signed is no desired state") from error
    return check_state(_state(message_)), digest_of(envelope.payload)


def payload_of(state: DesiredState) -> bytes:
    """The bytes that are signed."""
    message = fleet_pb2.DesiredState(
        subject=state.subject,
        number=state.number,
        models=[_model_message(model) for model in state.models],
        passport_keys=state.passport_keys,
        state_keys=state.state_keys,
        report_interval=_duration(state.report_s),
    )
    return message.SerializeToString(deterministic=True)


def digest_of(payload: bytes) -> str:
    """What tells two states apart: 64 hexadecimal digits."""
    return hashlib.sha256(payload).hexdigest()


def trial_message(trial: Trial) -> fleet_pb2.Trial:
    """A trial for the contract."""
    return fleet_pb2.Trial(
        window=_duration(trial.window_s),
        max_error_rate=trial.max_error_rate,
        min_requests=trial.min_requests,
        max_crashes=trial.max_crashes,
    )


def trial_of(message: fleet_pb2.Trial) -> Trial:
    """A trial of the contract."""
    return Trial(_seconds(message.window), message.max_error_rate, message.min_requests, message.max_crashes)


def _model_message(model: DesiredModel) -> fleet_pb2.DesiredModel:
    return fleet_pb2.DesiredModel(
        endpoint=model.endpoint,
        model=model.model,
        versions=[_version_message(version) for version in model.versions],
        slots=[fleet_pb2.SlotRun(version=version, count=count) for version, count in model.slots],
        labels=[serving_pb2.Label(label=label, deployment=version) for label, version in sorted(model.labels.items())],
        sticky_header=model.sticky_header,
        downgrade_allowed=model.downgrade_allowed,
        trial=trial_message(model.trial) if model.trial else None,
    )


def _version_message(version: DesiredVersion) -> fleet_pb2.DesiredVersion:
    return fleet_pb2.DesiredVersion(
        version=version.version,
        bundle_sha256=version.sha256,
        size_bytes=version.size_bytes,
        passport=version.passport,
        release=version.release,
        attempt=version.attempt,
        model_version=version.model_version,
    )


def _state(message: fleet_pb2.DesiredState) -> DesiredState:
    return DesiredState(
        subject=message.subject,
        number=message.number,
        models=tuple(_model(model) for model in message.models),
        passport_keys=tuple(message.passport_keys),
        state_keys=tuple(message.state_keys),
        report_s=_seconds(message.report_interval) if message.HasField("report_interval") else REPORT_S,
    )


def _model(message: fleet_pb2.DesiredModel) -> DesiredModel:
    return DesiredModel(
        endpoint=message.endpoint,
        model=message.model,
        versions=tuple(_version(version) for version in message.versions),
        slots=tuple((run.version, run.count) for run in message.slots),
        labels={label.label: label.deployment for label in message.labels},
        sticky_header=message.sticky_header,
        downgrade_allowed=message.downgrade_allowed,
        trial=trial_of(message.trial) if message.HasField("trial") else None,
    )


def _version(message: fleet_pb2.DesiredVersion) -> DesiredVersion:
    return DesiredVersion(
        version=message.version,
        sha256=message.bundle_sha256,
        size_bytes=message.size_bytes,
        passport=message.passport,
        release=message.release,
        attempt=message.attempt,
        model_version=message.model_version,
    )


def _duration(seconds: float) -> Duration:
    made = Duration()
    made.FromNanoseconds(round(seconds * 1e9))
    return made


def _seconds(duration: Duration) -> float:
    return duration.seconds + duration.nanos / 1e9


def keys_within(envelope: fleet_pb2.SignedState) -> tuple[bytes, ...]:
    """The keys that a state itself names, whoever signed it: for a first contact over a channel that is trusted."""
    try:
        return tuple(fleet_pb2.DesiredState.FromString(envelope.payload).state_keys)
    except DecodeError:
        return ()


def verified_before(envelope: bytes) -> DesiredState:
    """A state that was verified when it was accepted, read again from the follower's own disk."""
    return check_state(_state(fleet_pb2.DesiredState.FromString(fleet_pb2.SignedState.FromString(envelope).payload)))
