"""What a follower is to serve, as the centre says it: one whole, with a number, which a replay cannot turn back."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from modelyard.core.errors import FailedPrecondition, InvalidArgument
from modelyard.serving.domain.traffic import SLOTS

REPORT_S: Final = 30.0
"""How often a follower reports where nothing else is said."""
SHORTEST_REPORT_S: Final = 0.1
LONGEST_REPORT_S: Final = 86_400.0
MAX_MODELS: Final = 1000
MAX_VERSIONS: Final = 100
MAX_BUNDLE_BYTES: Final = 1 << 40

_SHA256 = re.compile(r"[0-9a-f]{64}")
_VERSION = re.compile(r"[A-Za-z][A-Za-z0-9-]{0,62}")
_MODEL = re.compile(r"(?!\.{1,2}$)[A-Za-z0-9._-]{1,128}")


@dataclass(frozen=True)
class Trial:
    """How a follower watches over a version that it has switched to.

    `window_s`: how long, in seconds. `max_error_rate`: of its requests, 0 to 1, once there were `min_requests`. `max_crashes`:
    times its process may end by itself.
    """

    window_s: float = 60.0
    max_error_rate: float = 0.05
    min_requests: int = 20
    max_crashes: int = 0


@dataclass(frozen=True)
class DesiredVersion:
    """A version that is to answer: `sha256` and `size_bytes` of its bundle, with the passport's bytes.

    `release` rises from deployment to deployment of an endpoint. `attempt`: what tries to bring it here (a roll-out's name).
    """

    version: str
    sha256: str
    size_bytes: int
    passport: bytes = b""
    release: int = 0
    attempt: str = ""
    model_version: str = ""


@dataclass(frozen=True)
class DesiredModel:
    """A model that is to answer under the name `model`.

    `slots`: runs of (version, count) that sum to 100, or none: the champion answers all. `labels`: version by label.
    """

    endpoint: str
    model: str
    versions: tuple[DesiredVersion, ...] = ()
    slots: tuple[tuple[str, int], ...] = ()
    labels: Mapping[str, str] = field(default_factory=dict)
    sticky_header: str = ""
    downgrade_allowed: bool = False
    trial: Trial | None = None


@dataclass(frozen=True)
class DesiredState:
    """All that a follower is to serve. `subject`: who it is for; `number`: rises with each change, 0: none yet.

    `passport_keys`, `state_keys`: PEM files of the public keys that passports and later states may be signed with.
    """

    subject: str
    number: int = 0
    models: tuple[DesiredModel, ...] = ()
    passport_keys: tuple[bytes, ...] = ()
    state_keys: tuple[bytes, ...] = ()
    report_s: float = REPORT_S


@dataclass(frozen=True)
class Numbered:
    """The content of a subject's desired state that was numbered last; `digest` empty, `number` 0: none was."""

    subject: str
    number: int
    digest: str


def check_state(state: DesiredState) -> DesiredState:
    """The state. Raises InvalidArgument BAD_DESIRED_STATE, naming what is wrong: nothing of it is taken then."""
    if state.number < 1:
        raise _bad("number", state.number, "above 0")
    if not SHORTEST_REPORT_S <= state.report_s <= LONGEST_REPORT_S:
        raise _bad("report_interval", state.report_s, f"{SHORTEST_REPORT_S} s to {LONGEST_REPORT_S:.0f} s")
    if len(state.models) > MAX_MODELS:
        raise _bad("models", f"{len(state.models)} of them", f"at most {MAX_MODELS}")
    _check_unique("models.model", [model.model for model in state.models])
    _check_unique("models.endpoint", [model.endpoint for model in state.models])
    for model in state.models:
        _check_model(model)
    return state


def admit(state: DesiredState, digest: str, subject: str, held_number: int, held_digest: str) -> None:
    """Whether a state whose signature is good may take the place of the one held. `digest`: sha256 of its payload.

    `held_number` 0: there is none. Needs no clock. Raises FailedPrecondition STATE_OF_ANOTHER_SUBJECT, STATE_TOO_OLD,
    STATE_NUMBER_REUSED.
    """
    if state.subject != subject:
        message = f"the desired state is for {state.subject}; this is {subject}"
        raise FailedPrecondition("STATE_OF_ANOTHER_SUBJECT", message, subject=state.subject, own=subject)
    if state.number < held_number:
        message = (
            f"the desired state has the number {state.number}, and {held_number} was accepted before: it is an old one that was "
            "sent again. To go back to an older version the centre makes a new state with a higher number."
        )
        raise FailedPrecondition("STATE_TOO_OLD", message, number=state.number, held=held_number)
    if state.number == held_number and digest != held_digest:
        message = f"two desired states have the number {state.number}; the first stays"
        raise FailedPrecondition("STATE_NUMBER_REUSED", message, number=state.number)


def next_number(last: int, now_ms: int) -> int:
    """The number of a changed state: higher than the last one, and than any given before the centre's database was put back to an
    older copy, unless its clock was put back too.
    """
    return max(last + 1, now_ms)


def _check_model(model: DesiredModel) -> None:
    where = f"model {model.model[:80]!r}"
    if not _MODEL.fullmatch(model.model):
        raise _bad("models.model", model.model, "1 to 128 letters, digits, '.', '_' and '-'")
    if len(model.versions) > MAX_VERSIONS:
        raise _bad(f"{where}: versions", f"{len(model.versions)} of them", f"at most {MAX_VERSIONS}")
    known = [version.version for version in model.versions]
    _check_unique(f"{where}: versions", known)
    for version in model.versions:
        if not _VERSION.fullmatch(version.version):
            raise _bad(f"{where}: version", version.version, "1 to 63 of A-Z, a-z, 0-9 and '-', starting with a letter")
        if not _SHA256.fullmatch(version.sha256):
            raise _bad(f"{where}: bundle_sha256", version.sha256, "64 hexadecimal digits in lower case")
        if not 0 < version.size_bytes <= MAX_BUNDLE_BYTES:
            raise _bad(f"{where}: size_bytes", version.size_bytes, f"1 to {MAX_BUNDLE_BYTES}")
    if model.slots and (sum(count for _, count in model.slots) != SLOTS or any(count < 1 for _, count in model.slots)):
        raise _bad(f"{where}: slots", model.slots, f"runs of 1 or more that sum to {SLOTS}")
    for named in (*(version for version, _ in model.slots), *model.labels.values()):
        if named not in known:
            raise _bad(f"{where}: slots and labels", named, f"one of its versions ({', '.join(known) or 'none'})")
    if model.trial is not None:
        check_trial(f"{where}: trial", model.trial)


def check_trial(where: str, trial: Trial) -> None:
    """Raises InvalidArgument BAD_DESIRED_STATE, naming the field below `where`."""
    if not 0 <= trial.window_s <= 7 * 86_400:
        raise _bad(f"{where}.window", trial.window_s, "0 s to 7 days")
    if not 0 <= trial.max_error_rate <= 1:
        raise _bad(f"{where}.max_error_rate", trial.max_error_rate, "0 to 1")
    if trial.min_requests < 1:
        raise _bad(f"{where}.min_requests", trial.min_requests, "1 or more")
    if trial.max_crashes < 0:
        raise _bad(f"{where}.max_crashes", trial.max_crashes, "0 or more")


def _check_unique(where: str, values: list[str]) -> None:
    if len(set(values)) != len(values):
        twice = next(value for value in values if values.count(value) > 1)
        raise _bad(where, twice, "each one once")


def _bad(field: str, value: object, right: str) -> InvalidArgument:
    shown = repr(value)[:120]
    return InvalidArgument("BAD_DESIRED_STATE", f"{field} is {shown}; it must be {right}", field=field, value=shown)
