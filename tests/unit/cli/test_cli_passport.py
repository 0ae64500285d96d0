"""`modelyard passport`: a file is enough, no server is asked."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pytest

from modelyard.formats.passport_keys import TRUSTED_KEYS, trust
from tests.support.passports import EXPORT, a_key, a_passport

CONTENT: dict[str, Any] = {
    "artifact": {"format": "onnx", "precision": "int8"},
    "licence": "Apache-2.0",
    "dataset": {"version": "projects/default/datasets/d/versions/V001", "digest": "ab" * 32},
    "experiment": {"model_version": "projects/default/models/m/versions/V001", "fingerprint": "cd" * 32},
    "evaluation": {
        "scores": {"test": {"examples": 400, "metrics": [{"name": "accuracy", "value": 0.95, "lower": 0.92, "upper": 0.97}]}}
    },
}


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """A folder with a bundle, its passport, and the key's public half."""
    key = a_key(tmp_path / "private")
    (tmp_path / "bundle.zip").write_bytes(b"the bytes")
    sha256 = hashlib.sha256(b"the bytes").hexdigest()
    (tmp_path / "passport.json").write_bytes(a_passport(key, sha256, **CONTENT))
    (tmp_path / "key.pem").write_bytes(key.public.pem)
    return tmp_path


def test_show_prints_the_facts_and_json_the_whole(run: Any, files: Path) -> None:
    ended = run("passport", "show", files / "passport.json", "--out", files / "copy.json")
    assert ended.status == 0
    for fact in (EXPORT, "onnx int8", "Apache-2.0", "ab" * 32, "cd" * 32, "accuracy 0.95 (0.92 to 0.97)", "DEPLOY"):
        assert fact in ended.out
    assert (files / "copy.json").read_bytes() == (files / "passport.json").read_bytes()
    assert run("passport", "show", files / "passport.json", "--json").document["dataset"]["digest"] == "ab" * 32


def test_verify_says_who_signed_that_it_may_be_deployed(run: Any, files: Path) -> None:
    ended = run("passport", "verify", files / "passport.json", "--key", files / "key.pem", "--bundle", files / "bundle.zip")
    assert ended.status == 0
    assert ended.out.startswith("verified: the key ")
    document = run("passport", "verify", files / "passport.json", "--key", files / "key.pem", "--json").document
    assert document["verified"]
    assert document["sha256"] == hashlib.sha256(b"the bytes").hexdigest()


def test_verify_takes_the_keys_of_the_data_folder(run: Any, files: Path) -> None:
    trust(files / "data" / TRUSTED_KEYS, a_key(files / "private").public)
    assert run("passport", "verify", files / "passport.json", "--data-dir", files / "data").status == 0


def test_verify_refuses_with_the_reason(run: Any, files: Path) -> None:
    (files / "other.pem").write_bytes(a_key(files, "other-private").public.pem)
    strange = run("passport", "verify", files / "passport.json", "--key", files / "other.pem", "--json")
    assert (strange.status, strange.document["error"]["reason"]) == (1, "PASSPORT_UNTRUSTED_KEY")
    (files / "bundle.zip").write_bytes(b"other bytes")
    other = run(
        "passport", "verify", files / "passport.json", "--key", files / "key.pem", "--bundle", files / "bundle.zip", "--json"
    )
    assert other.document["error"]["reason"] == "PASSPORT_OF_ANOTHER_ARTIFACT"
    spoilt = (files / "passport.json").read_bytes()
    (files / "passport.json").write_bytes(spoilt[:200] + b"A" * 4 + spoilt[204:])
    broken = run("passport", "verify", files / "passport.json", "--key", files / "key.pem", "--json")
    assert (broken.status, broken.document["error"]["reason"]) == (1, "PASSPORT_BAD_SIGNATURE")


def test_a_key_that_is_not_there_is_named(run: Any, files: Path) -> None:
    ended = run("passport", "verify", files / "passport.json", "--key", files / "gone.pem")
    assert ended.status == 2
    assert "gone.pem" in ended.err
