"""Desired states: signed, numbered, for one subject; everything else is refused, without a clock."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modelyard.core.errors import InvalidArgument, ModelyardError, Unauthenticated
from modelyard.serving.adapters.state_trust import StateTrust
from modelyard.serving.domain.desired_state import DesiredModel, DesiredState, DesiredVersion, Trial, check_state, next_number
from modelyard.serving.domain.fleet_tokens import Follower, TokenKind, mint, read
from modelyard.serving.state_messages import payload_of, signed, verified
from modelyard.serving.v1 import fleet_pb2
from tests.support.passports import a_key

SUBJECT = "projects/p/devices/d"
VERSION = DesiredVersion("V001", "a" * 64, 10, b"passport", 5, "r", "m")
MODEL = DesiredModel("projects/p/endpoints/e", "e", (VERSION,), (("V001", 100),), {"champion": "V001"}, "x", True, Trial(1.5))


def state(number: int, subject: str = SUBJECT, **more: object) -> DesiredState:
    return DesiredState(subject, number, **{"models": (MODEL,), **more})  # type: ignore[arg-type]


def test_what_is_signed_comes_back_as_it_was(tmp_path: Path) -> None:
    key = a_key(tmp_path)
    whole = state(7, passport_keys=(b"p",), state_keys=(key.public.pem,), report_s=2.5)
    assert verified(signed(whole, key), [key.public])[0] == whole


def test_an_older_one_is_refused_for_ever(tmp_path: Path) -> None:
    key = a_key(tmp_path)
    trust = StateTrust(SUBJECT, (key.public.pem,))
    old, new = signed(state(5), key), signed(state(6), key)
    trust.accept(old)
    trust.accept(new)
    trust.accept(new)  # the same again is fine
    with pytest.raises(ModelyardError) as caught:
        trust.accept(old)
    assert caught.value.reason == "STATE_TOO_OLD"
    with pytest.raises(ModelyardError) as caught:
        trust.accept(signed(state(6, models=()), key))
    assert caught.value.reason == "STATE_NUMBER_REUSED"
    assert trust.number == 6


@pytest.mark.parametrize(
    "reason", ["STATE_OF_ANOTHER_SUBJECT", "STATE_UNTRUSTED_KEY", "STATE_BAD_SIGNATURE", "BAD_DESIRED_STATE"]
)
def test_what_is_not_ours_is_refused(tmp_path: Path, reason: str) -> None:
    key, other = a_key(tmp_path), a_key(tmp_path, "other")
    trust = StateTrust(SUBJECT, (key.public.pem,))
    sent = {
        "STATE_OF_ANOTHER_SUBJECT": signed(state(5, "projects/p/devices/x"), key),
        "STATE_UNTRUSTED_KEY": signed(state(5), other),
        "STATE_BAD_SIGNATURE": fleet_pb2.SignedState(payload=b"x", payload_type="y", key_id=key.public.key_id, signature=b"z"),
        "BAD_DESIRED_STATE": signed(state(0), key),
    }[reason]
    with pytest.raises(ModelyardError) as caught:
        trust.accept(sent)
    assert caught.value.reason == reason
    assert trust.number == 0


def test_no_byte_of_it_can_be_changed(tmp_path: Path) -> None:
    key = a_key(tmp_path)
    sound = signed(state(5), key)
    data = bytearray(sound.payload)
    for at in range(len(data)):
        data[at] ^= 1
        changed = fleet_pb2.SignedState()
        changed.CopyFrom(sound)
        changed.payload = bytes(data)
        with pytest.raises(ModelyardError):
            verified(changed, [key.public])
        data[at] ^= 1


def test_keys_change_hands_by_a_state_that_is_signed_with_the_old_one(tmp_path: Path) -> None:
    old, new = a_key(tmp_path), a_key(tmp_path, "new")
    trust = StateTrust(SUBJECT, (old.public.pem,))
    trust.accept(signed(state(1, state_keys=(old.public.pem, new.public.pem)), old))
    trust.accept(signed(state(2, state_keys=(new.public.pem,)), new))
    with pytest.raises(ModelyardError) as caught:
        trust.accept(signed(state(3), old))
    assert caught.value.reason == "STATE_UNTRUSTED_KEY"


@settings(max_examples=200)
@given(st.binary(max_size=200))
def test_any_bytes_are_a_state_or_a_named_error(data: bytes) -> None:
    envelope = fleet_pb2.SignedState(payload=data, payload_type="x", key_id="k", signature=data)
    with pytest.raises(ModelyardError):
        verified(envelope, [])


@pytest.mark.parametrize(
    "wrong",
    [
        {"models": (MODEL, MODEL)},
        {"models": (DesiredModel("e", "../x"),)},
        {"models": (DesiredModel("e", "m", (DesiredVersion("V001", "short", 1),)),)},
        {"models": (DesiredModel("e", "m", (DesiredVersion("../V1", "a" * 64, 1),)),)},
        {"models": (DesiredModel("e", "m", (DesiredVersion("V001", "a" * 64, 0),)),)},
        {"models": (DesiredModel("e", "m", (VERSION,), (("V001", 99),)),)},
        {"models": (DesiredModel("e", "m", (VERSION,), labels={"champion": "V002"}),)},
        {"models": (DesiredModel("e", "m", (VERSION,), trial=Trial(max_error_rate=2)),)},
        {"report_s": 0.0},
        {"report_s": float("inf")},
    ],
)
def test_a_state_that_makes_no_sense_is_refused_as_a_whole(wrong: dict[str, object]) -> None:
    with pytest.raises(InvalidArgument) as caught:
        check_state(state(1, **wrong))
    assert caught.value.reason == "BAD_DESIRED_STATE"


def test_numbers_rise_though_the_database_went_back() -> None:
    assert next_number(5, 1000) == 1000
    assert next_number(1000, 1000) == 1001
    assert next_number(2000, 1000) == 2001  # a clock that was put back


def test_the_number_of_a_state_is_part_of_what_is_signed() -> None:
    assert payload_of(state(1)) != payload_of(state(2))


@given(st.text(max_size=60))
def test_a_token_that_was_not_given_out_is_refused(text: str) -> None:
    with pytest.raises(Unauthenticated):
        read(b"secret", text, 0.0, TokenKind.POD)


def test_a_token_is_for_one_kind_and_one_time() -> None:
    token = mint(b"secret", Follower(TokenKind.DEVICE, SUBJECT, "k"), expires=100.0)
    assert read(b"secret", token, 99.0, TokenKind.DEVICE) == Follower(TokenKind.DEVICE, SUBJECT, "k")
    for secret, now, kind, reason in (
        (b"secret", 100.0, TokenKind.DEVICE, "SESSION_EXPIRED"),
        (b"secret", 99.0, TokenKind.POD, "BAD_TOKEN"),
        (b"other", 99.0, TokenKind.DEVICE, "BAD_TOKEN"),
    ):
        with pytest.raises(Unauthenticated) as caught:
            read(secret, token, now, kind)
        assert caught.value.reason == reason
