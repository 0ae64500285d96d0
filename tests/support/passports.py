"""Passports for tests: a key of one's own, and what it signs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from modelyard.formats.passport import sign
from modelyard.formats.passport_keys import TRUSTED_KEYS, SigningKey, own_signing_key, trust

EXPORT = "projects/default/exports/x"


def a_key(folder: Path, name: str = "key") -> SigningKey:
    """A signing key in a file of the folder; the same for the same name."""
    return own_signing_key(folder / f"{name}.pem")


def trusted_key(data_dir: Path) -> SigningKey:
    """A key that a serving service over this data folder trusts."""
    key = a_key(data_dir / "keys", "test")
    trust(data_dir / TRUSTED_KEYS, key.public)
    return key


def a_passport(key: SigningKey, artifact_sha256: str, *, verdict: str = "DEPLOY", subject: str = EXPORT, **content: Any) -> bytes:
    """A signed passport of an artifact."""
    return sign(key, subject, artifact_sha256, {"gate": {"verdict": verdict, "tests": []}, "origin": "TRAINED", **content})
