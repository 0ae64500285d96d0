"""The passport of an artifact: who let these very bytes through, and what they were made from; signed, and checked at every load.

A file of JSON in three layers, each a public standard (docs/decisions/0013-passport.md):

* an in-toto Statement v1 whose one subject is the artifact by its sha256, and whose predicate (PREDICATE_TYPE) holds the facts;
* a DSSE envelope around it, signed with ECDSA P-256 and SHA-256;
* a Sigstore bundle v0.3 around that, with the public key's identifier and no transparency log: what OpenSSF model-signing writes
  and reads for signatures with a key.

Everything is in one canonical form, so that a passport with any byte changed is refused, wherever it is.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from modelyard.core.errors import FailedPrecondition
from modelyard.formats.passport_keys import PublicKey, SigningKey

STATEMENT_TYPE: Final = "https://in-toto.io/Statement/v1"
PREDICATE_TYPE: Final = "https://modelyard.dev/passport/v1"
"""Names what the predicate holds; nothing is there to be fetched."""
PAYLOAD_TYPE: Final = "application/vnd.in-toto+json"
MEDIA_TYPE: Final = "application/vnd.dev.sigstore.bundle.v0.3+json"
MAX_BYTES: Final = 8 << 20
DEPLOY: Final = "DEPLOY"

MISSING: Final = "PASSPORT_MISSING"
OF_ANOTHER_ARTIFACT: Final = "PASSPORT_OF_ANOTHER_ARTIFACT"
UNTRUSTED_KEY: Final = "PASSPORT_UNTRUSTED_KEY"
BAD_SIGNATURE: Final = "PASSPORT_BAD_SIGNATURE"
NOT_DEPLOYABLE: Final = "PASSPORT_NOT_DEPLOYABLE"


@dataclass(frozen=True)
class Passport:
    """What a passport says: about which bytes, and all the rest; and the identifier of the key that is said to have signed it."""

    artifact_sha256: str
    subject: str
    content: Mapping[str, Any]
    key_id: str

    @property
    def verdict(self) -> str:
        """The gate's verdict (DEPLOY...); "" where there is none."""
        gate = self.content.get("gate")
        return str(gate.get("verdict", "")) if isinstance(gate, Mapping) else ""


def sign(key: SigningKey, subject: str, artifact_sha256: str, content: Mapping[str, Any]) -> bytes:
    """A passport. `subject` names the artifact for people (an export's resource name); `content` is plain JSON, without NaN."""
    statement = {
        "_type": STATEMENT_TYPE,
        "subject": [{"name": subject, "digest": {"sha256": artifact_sha256}}],
        "predicateType": PREDICATE_TYPE,
        "predicate": dict(content),
    }
    payload = _canonical(statement)
    return _file(payload, key.sign(encode(payload)), key.public.key_id)


def encode(payload: bytes, payload_type: str = PAYLOAD_TYPE) -> bytes:
    """The bytes that are signed: DSSE's pre-authentication encoding of a payload and its type."""
    return b"DSSEv1 %d %s %d %s" % (len(payload_type), payload_type.encode(), len(payload), payload)


def read(data: bytes) -> Passport:
    """What a passport says, whoever signed it: to show it, not to decide by. Raises FailedPrecondition PASSPORT_BAD_SIGNATURE."""
    payload, _, key_id = _taken_apart(data)
    return _passport(payload, key_id)


def verify(data: bytes, artifact_sha256: str, trusted: Sequence[PublicKey]) -> Passport:
    """The passport, if one of the trusted keys signed it, it is about these bytes, and it lets them be deployed.

    Raises FailedPrecondition: PASSPORT_BAD_SIGNATURE (its bytes are not those that were signed), PASSPORT_UNTRUSTED_KEY,
    PASSPORT_OF_ANOTHER_ARTIFACT, PASSPORT_NOT_DEPLOYABLE; each with the values it names.
    """
    payload, signature, key_id = _taken_apart(data)
    key = next((key for key in trusted if key.key_id == key_id), None)
    if key is None:
        raise _untrusted(key_id, trusted)
    if not key.verifies(signature, encode(payload)):
        raise _bad(f"the signature does not fit what it signs, by the key {key_id}", key_id=key_id)
    passport = _passport(payload, key_id)
    if passport.artifact_sha256 != artifact_sha256:
        message = (
            f"the passport is about the artifact with sha256 {passport.artifact_sha256} ({passport.subject}), not about the one "
            f"with {artifact_sha256}. Every artifact needs an evaluation and a gate decision of its own."
        )
        raise FailedPrecondition(
            OF_ANOTHER_ARTIFACT,
            message,
            artifact_sha256=artifact_sha256,
            passport_sha256=passport.artifact_sha256,
            subject=passport.subject,
        )
    if passport.verdict != DEPLOY:
        message = (
            f"the passport of {artifact_sha256} says {passport.verdict or 'nothing'}; only {DEPLOY} lets an artifact be served"
        )
        raise FailedPrecondition(NOT_DEPLOYABLE, message, artifact_sha256=artifact_sha256, verdict=passport.verdict)
    return passport


def missing(artifact_sha256: str, why: str) -> FailedPrecondition:
    """The error for an artifact without a passport; `why` says how that came, and the cure."""
    message = f"the artifact with sha256 {artifact_sha256} has no passport, so it is not served: {why}"
    return FailedPrecondition(MISSING, message, artifact_sha256=artifact_sha256)


def _canonical(document: Mapping[str, Any]) -> bytes:
    return json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()


def _file(payload: bytes, signature: bytes, key_id: str) -> bytes:
    envelope = {
        "payload": base64.b64encode(payload).decode(),
        "payloadType": PAYLOAD_TYPE,
        "signatures": [{"keyid": key_id, "sig": base64.b64encode(signature).decode()}],
    }
    material = {"publicKey": {"hint": key_id}, "tlogEntries": list[object]()}
    return _canonical({"mediaType": MEDIA_TYPE, "verificationMaterial": material, "dsseEnvelope": envelope})


def _taken_apart(data: bytes) -> tuple[bytes, bytes, str]:
    """Payload, signature and key identifier of a passport that is in its one canonical form."""
    if len(data) > MAX_BYTES:
        raise _bad(f"it has {len(data)} bytes, at most {MAX_BYTES} are read")
    try:
        envelope = json.loads(data)["dsseEnvelope"]
        (entry,) = envelope["signatures"]
        payload = base64.b64decode(envelope["payload"], validate=True)
        signature = base64.b64decode(entry["sig"], validate=True)
        key_id = entry["keyid"]
    except (ValueError, TypeError, KeyError, binascii.Error, RecursionError) as error:
        raise _bad(f"it is not a signed statement ({type(error).__name__})") from error
    # One form only: what nobody signed (spaces, the order of keys, unused bits) cannot differ either.
    if not isinstance(key_id, str) or _file(payload, signature, key_id) != data:
        raise _bad("it is not in the form in which it was signed")
    return payload, signature, key_id


def _passport(payload: bytes, key_id: str) -> Passport:
    try:
        statement = json.loads(payload)
        (subject,) = statement["subject"]
        passport = Passport(str(subject["digest"]["sha256"]), str(subject["name"]), statement["predicate"], key_id)
        kinds = (statement["_type"], statement["predicateType"])
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise _bad(f"what it signs is no statement about one artifact ({type(error).__name__})") from error
    if kinds != (STATEMENT_TYPE, PREDICATE_TYPE) or not isinstance(passport.content, Mapping):
        raise _bad(f"what it signs is {kinds[1]!r:.120}, not {PREDICATE_TYPE}")
    return passport


def _bad(what: str, key_id: str = "") -> FailedPrecondition:
    message = f"the passport is not what was signed: {what}. Ask the gate again about this artifact's evaluation for a new one."
    return FailedPrecondition(BAD_SIGNATURE, message, what=what, key_id=key_id)


def _untrusted(key_id: str, trusted: Sequence[PublicKey]) -> FailedPrecondition:
    known = ", ".join(key.key_id for key in trusted)
    message = f"the passport is signed with the key {key_id:.80}, which is not trusted here. " + (
        f"Trusted are {known}." if known else "No key is: set MODELYARD_PASSPORT_TRUSTED_KEYS to the evaluator's public key."
    )
    return FailedPrecondition(UNTRUSTED_KEY, message, key_id=key_id[:80], trusted=known)
