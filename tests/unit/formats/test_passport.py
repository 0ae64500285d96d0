"""A passport says what was signed, about one artifact, or it says nothing."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import stat
import threading
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from hypothesis import given, settings
from hypothesis import strategies as st

from modelyard.core.errors import FailedPrecondition, InvalidArgument
from modelyard.formats import passport as passports
from modelyard.formats.passport import MEDIA_TYPE, PAYLOAD_TYPE, PREDICATE_TYPE, STATEMENT_TYPE, Passport, read, sign, verify
from modelyard.formats.passport_keys import (
    SigningKey,
    own_signing_key,
    read_public_key,
    read_signing_key,
    trust,
    trusted_keys,
)

SHA256, OTHER = "ab" * 32, "cd" * 32
SUBJECT = "projects/default/exports/x"
CONTENT = {"gate": {"verdict": "DEPLOY"}, "origin": "TRAINED", "dataset": {"digest": "ef" * 32}, "licence": "Apache-2.0 (größer)"}
KEY = SigningKey(ec.generate_private_key(ec.SECP256R1()))
STRANGE = SigningKey(ec.generate_private_key(ec.SECP256R1()))
TRUSTED = (STRANGE.public, KEY.public)
GOOD = sign(KEY, SUBJECT, SHA256, CONTENT)


def refused(data: bytes, *, sha256: str = SHA256, trusted: Any = TRUSTED) -> FailedPrecondition:
    with pytest.raises(FailedPrecondition) as caught:
        verify(data, sha256, trusted)
    return caught.value


def test_a_passport_says_what_was_signed() -> None:
    expected = Passport(SHA256, SUBJECT, CONTENT, KEY.public.key_id)
    assert verify(GOOD, SHA256, TRUSTED) == expected == read(GOOD)
    assert expected.verdict == "DEPLOY"


def test_its_layers_are_public_standards_that_anybody_can_check_without_this_program() -> None:
    """In the steps of in-toto, DSSE and OpenSSF model-signing's verifier for keys."""
    bundle = json.loads(GOOD)
    assert bundle["mediaType"] == MEDIA_TYPE == "application/vnd.dev.sigstore.bundle.v0.3+json"
    pem = KEY.key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    assert bundle["verificationMaterial"] == {"publicKey": {"hint": hashlib.sha256(pem).hexdigest()}, "tlogEntries": []}
    envelope = bundle["dsseEnvelope"]
    assert envelope["payloadType"] == PAYLOAD_TYPE == "application/vnd.in-toto+json"
    payload = base64.b64decode(envelope["payload"])
    signed = b" ".join([b"DSSEv1", str(len(PAYLOAD_TYPE)).encode(), PAYLOAD_TYPE.encode(), str(len(payload)).encode(), payload])
    KEY.key.public_key().verify(base64.b64decode(envelope["signatures"][0]["sig"]), signed, ec.ECDSA(hashes.SHA256()))
    statement = json.loads(payload)
    assert statement["_type"] == STATEMENT_TYPE == "https://in-toto.io/Statement/v1"
    assert statement["predicateType"] == PREDICATE_TYPE
    assert statement["subject"] == [{"name": SUBJECT, "digest": {"sha256": SHA256}}]
    assert statement["predicate"] == CONTENT


# Tampering


@pytest.mark.parametrize("bit", [0x01, 0x20, 0x80])
def test_any_byte_changed_anywhere_is_refused(bit: int) -> None:
    for place in range(len(GOOD)):
        spoilt = bytearray(GOOD)
        spoilt[place] ^= bit
        assert refused(bytes(spoilt)).reason in ("PASSPORT_BAD_SIGNATURE", "PASSPORT_UNTRUSTED_KEY"), place


@pytest.mark.parametrize("layer", ["mediaType", "hint", "payloadType", "payload", "keyid", "sig"])
def test_each_region_of_the_envelope_is_protected(layer: str) -> None:
    bundle = json.loads(GOOD)
    places: dict[str, Any] = {
        "mediaType": bundle,
        "hint": bundle["verificationMaterial"]["publicKey"],
        "payloadType": bundle["dsseEnvelope"],
        "payload": bundle["dsseEnvelope"],
        "keyid": bundle["dsseEnvelope"]["signatures"][0],
        "sig": bundle["dsseEnvelope"]["signatures"][0],
    }
    text = places[layer][layer]
    places[layer][layer] = text[:8] + ("A" if text[8] != "A" else "B") + text[9:]
    assert refused(passports._canonical(bundle)).reason == "PASSPORT_BAD_SIGNATURE"


def test_every_cut_is_refused() -> None:
    for length in range(len(GOOD)):
        assert refused(GOOD[:length]).reason == "PASSPORT_BAD_SIGNATURE"


@pytest.mark.parametrize("spoilt", [b" " + GOOD, GOOD + b"\n", GOOD.replace(b'":', b'": ', 1), GOOD + GOOD])
def test_bytes_beside_what_is_signed_are_refused_too(spoilt: bytes) -> None:
    assert refused(spoilt).reason == "PASSPORT_BAD_SIGNATURE"


def test_another_content_under_the_same_signature_is_refused() -> None:
    bundle = json.loads(GOOD)
    statement = json.loads(base64.b64decode(bundle["dsseEnvelope"]["payload"]))
    statement["subject"][0]["digest"]["sha256"] = OTHER
    bundle["dsseEnvelope"]["payload"] = base64.b64encode(passports._canonical(statement)).decode()
    assert refused(passports._canonical(bundle), sha256=OTHER).reason == "PASSPORT_BAD_SIGNATURE"


def test_two_signatures_or_none_are_refused() -> None:
    bundle = json.loads(GOOD)
    signatures = bundle["dsseEnvelope"]["signatures"]
    wrongs: list[Any] = [[], signatures * 2, None, {}]
    for wrong in wrongs:
        bundle["dsseEnvelope"]["signatures"] = wrong
        assert refused(passports._canonical(bundle)).reason == "PASSPORT_BAD_SIGNATURE"


@given(
    st.one_of(
        st.binary(max_size=400),
        st.recursive(st.none() | st.integers() | st.text(), st.lists, max_leaves=9).map(
            lambda value: json.dumps({"dsseEnvelope": value}).encode()
        ),
    )
)
@settings(max_examples=200, deadline=None)
def test_anything_else_is_refused_with_a_reason(data: bytes) -> None:
    assert refused(data).reason == "PASSPORT_BAD_SIGNATURE"


def test_what_nests_without_end_or_is_too_large_is_refused() -> None:
    assert refused(b"[" * 100_000).reason == "PASSPORT_BAD_SIGNATURE"
    assert refused(b" " * (passports.MAX_BYTES + 1)).reason == "PASSPORT_BAD_SIGNATURE"


# Who, about what, with which verdict


def test_a_key_that_is_not_trusted_is_named_with_those_that_are() -> None:
    error = refused(GOOD, trusted=(STRANGE.public,))
    assert error.reason == "PASSPORT_UNTRUSTED_KEY"
    assert KEY.public.key_id in error.message
    assert error.values == {"key_id": KEY.public.key_id, "trusted": STRANGE.public.key_id}


def test_without_any_trusted_key_nothing_is_trusted_and_the_setting_is_named() -> None:
    error = refused(GOOD, trusted=())
    assert error.reason == "PASSPORT_UNTRUSTED_KEY"
    assert "MODELYARD_PASSPORT_TRUSTED_KEYS" in error.message


def test_a_strange_key_cannot_pass_as_a_trusted_one() -> None:
    forged = json.loads(sign(STRANGE, SUBJECT, SHA256, CONTENT))
    forged["dsseEnvelope"]["signatures"][0]["keyid"] = KEY.public.key_id
    forged["verificationMaterial"]["publicKey"]["hint"] = KEY.public.key_id
    assert refused(passports._canonical(forged), trusted=(KEY.public,)).reason == "PASSPORT_BAD_SIGNATURE"


def test_a_passport_of_another_artifact_is_refused_naming_both() -> None:
    error = refused(GOOD, sha256=OTHER)
    assert error.reason == "PASSPORT_OF_ANOTHER_ARTIFACT"
    assert SHA256 in error.message
    assert OTHER in error.message


@pytest.mark.parametrize("content", [{"gate": {"verdict": "BACK_TO_DATA"}}, {"gate": {}}, {"gate": "DEPLOY"}, {}])
def test_only_the_verdict_deploy_lets_an_artifact_be_served(content: dict[str, Any]) -> None:
    assert refused(sign(KEY, SUBJECT, SHA256, content)).reason == "PASSPORT_NOT_DEPLOYABLE"


def test_a_signed_statement_of_another_kind_is_no_passport() -> None:
    statement = json.loads(base64.b64decode(json.loads(GOOD)["dsseEnvelope"]["payload"]))
    payload = passports._canonical({**statement, "predicateType": "https://slsa.dev/provenance/v1"})
    error = refused(passports._file(payload, KEY.sign(passports.encode(payload)), KEY.public.key_id))
    assert error.reason == "PASSPORT_BAD_SIGNATURE"
    assert "https://slsa.dev/provenance/v1" in error.message


# Keys


def test_a_key_of_ones_own_is_made_once_and_for_this_user_alone(tmp_path: Path) -> None:
    path = tmp_path / "keys" / "passport.pem"
    first = own_signing_key(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert own_signing_key(path).public.key_id == first.public.key_id
    assert [entry.name for entry in path.parent.iterdir()] == ["passport.pem"]


def test_all_who_ask_at_once_get_the_same_key(tmp_path: Path) -> None:
    found: list[str] = []
    threads = [threading.Thread(target=lambda: found.append(own_signing_key(tmp_path / "k.pem").public.key_id)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 8
    assert len(set(found)) == 1


def test_trusted_keys_are_a_file_or_a_folder_of_them(tmp_path: Path) -> None:
    assert trusted_keys(tmp_path / "nothing") == ()
    trust(tmp_path / "folder", KEY.public)
    trust(tmp_path / "folder", STRANGE.public)
    trust(tmp_path / "folder", KEY.public)
    (tmp_path / "folder" / "README").write_text("no key")
    assert {key.key_id for key in trusted_keys(tmp_path / "folder")} == {KEY.public.key_id, STRANGE.public.key_id}
    (file,) = [path for path in (tmp_path / "folder").iterdir() if path.name.startswith(KEY.public.key_id[:16])]
    assert [key.key_id for key in trusted_keys(file)] == [KEY.public.key_id]
    assert verify(GOOD, SHA256, trusted_keys(tmp_path / "folder")).verdict == "DEPLOY"


def _pem(key: Any, password: bytes = b"") -> bytes:
    encryption = serialization.BestAvailableEncryption(password) if password else serialization.NoEncryption()
    data: bytes = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption)
    return data


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"no key",
        KEY.public.pem,
        _pem(KEY.key)[:100],
        _pem(KEY.key, b"secret"),
        _pem(ec.generate_private_key(ec.SECP384R1())),
        _pem(rsa.generate_private_key(65537, 2048)),
        os.urandom(1 << 17),
    ],
    ids=["empty", "text", "public", "cut", "encrypted", "P-384", "RSA", "noise"],
)
def test_what_cannot_sign_is_refused_by_its_file(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "key.pem").write_bytes(data)
    with pytest.raises(InvalidArgument, match=r"key\.pem") as caught:
        read_signing_key(tmp_path / "key.pem")
    assert caught.value.reason == "BAD_PASSPORT_KEY"


@pytest.mark.parametrize("data", [b"", _pem(KEY.key), KEY.public.pem[:90]], ids=["empty", "private", "cut"])
def test_what_cannot_be_trusted_is_refused_by_its_file(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "key.pem").write_bytes(data)
    with pytest.raises(InvalidArgument, match=r"key\.pem"):
        trusted_keys(tmp_path)


def test_a_key_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidArgument, match=r"gone\.pem.*cannot be read"):
        read_public_key(tmp_path / "gone.pem")
