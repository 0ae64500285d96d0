"""Keys that sign passports, and those that are trusted: ECDSA on the curve P-256, in PEM files.

cryptography is imported when a key is used: much that imports this module never does.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from modelyard.core.errors import InvalidArgument

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey, EllipticCurvePublicKey

SIGNING_KEY: Final = Path("keys") / "passport.pem"
"""Where a service that was given no key keeps its own, inside its data folder."""
TRUSTED_KEYS: Final = Path("keys") / "trusted"
"""Folder of the public keys that are trusted where no other was named, inside the data folder."""
MAX_KEY_BYTES: Final = 1 << 16
CURVE: Final = "secp256r1"


@dataclass(frozen=True)
class PublicKey:
    """Checks signatures. `key_id` is the sha256 of its PEM text (as OpenSSF model-signing names keys), 64 hexadecimal digits."""

    key: EllipticCurvePublicKey
    key_id: str
    pem: bytes

    def verifies(self, signature: bytes, data: bytes) -> bool:
        """Whether this key signed the data."""
        from cryptography.exceptions import InvalidSignature
        from cryptography.hazmat.primitives import hashes
        from cryptography.hazmat.primitives.asymmetric import ec

        try:
            self.key.verify(signature, data, ec.ECDSA(hashes.SHA256()))
        except InvalidSignature:
            return False
        return True


@dataclass(frozen=True)
class SigningKey:
    """Signs."""

    key: EllipticCurvePrivateKey

    @property
    def public(self) -> PublicKey:
        """What checks its signatures."""
        return _public(self.key.public_key())

    def sign(self, data: bytes) -> bytes:
        """An ECDSA signature with SHA-256, in DER."""
        from cryptography.hazmat.primitives import hashes
        from cryptography.hazmat.primitives.asymmetric import ec

        return self.key.sign(data, ec.ECDSA(hashes.SHA256()))


def read_signing_key(path: Path) -> SigningKey:
    """The private key in a PEM file, not encrypted. Raises InvalidArgument BAD_PASSPORT_KEY naming the file and what is wrong."""
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    try:
        key = serialization.load_pem_private_key(_content(path), password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise _refuse(path, f"it is not an unencrypted private key in PEM form ({error})") from error
    if not isinstance(key, ec.EllipticCurvePrivateKey) or key.curve.name != CURVE:
        raise _refuse(path, "it is not a key on the curve P-256 (openssl ecparam -genkey -name prime256v1 -noout makes one)")
    return SigningKey(key)


def own_signing_key(path: Path) -> SigningKey:
    """The key at `path`, made at the first call: readable by this user alone, and the same for all who call at once."""
    if not path.exists():
        _create(path)
    return read_signing_key(path)


def trust(folder: Path, key: PublicKey) -> None:
    """Puts a public key where those who trust this folder find it; fine when it is there."""
    path = folder / f"{key.key_id[:16]}.pem"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        _publish(path, key.pem, mode=0o644)


def trusted_keys(place: Path) -> tuple[PublicKey, ...]:
    """The public keys in a PEM file, or in the *.pem and *.pub files of a folder; none where there is no such place.

    Raises InvalidArgument BAD_PASSPORT_KEY for a file that holds anything else.
    """
    if place.is_dir():
        files = sorted(path for path in place.iterdir() if path.suffix in (".pem", ".pub") and path.is_file())
        return tuple(read_public_key(path) for path in files)
    return (read_public_key(place),) if place.exists() else ()


def read_public_key(path: Path) -> PublicKey:
    """The public key in a PEM file. Raises InvalidArgument BAD_PASSPORT_KEY."""
    return public_key_of(_content(path), path)


def public_key_of(pem: bytes, path: Path = Path("(sent)")) -> PublicKey:
    """The public key in a PEM text: by itself, or in a certificate, whose names and times mean nothing here.

    `path`: where it came from, for the message. Raises InvalidArgument BAD_PASSPORT_KEY.
    """
    from cryptography import x509
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    content = pem[:MAX_KEY_BYTES]
    try:
        if b"-----BEGIN CERTIFICATE-----" in content:
            key: object = x509.load_pem_x509_certificate(content).public_key()
        else:
            key = serialization.load_pem_public_key(content)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise _refuse(path, f"it is not a public key in PEM form ({error})") from error
    if not isinstance(key, ec.EllipticCurvePublicKey) or key.curve.name != CURVE:
        raise _refuse(path, "it is not a public key on the curve P-256")
    return _public(key)


def _public(key: EllipticCurvePublicKey) -> PublicKey:
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    pem = key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    return PublicKey(key, hashlib.sha256(pem).hexdigest(), pem)


def _create(path: Path) -> None:
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    key = ec.generate_private_key(ec.SECP256R1())
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    _publish(path, key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()), mode=0o600)


def _publish(path: Path, data: bytes, mode: int) -> None:
    """The whole file or none; where another was quicker, that one's stays."""
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fchmod(file.fileno(), mode)
            os.fsync(file.fileno())
        with contextlib.suppress(FileExistsError):
            os.link(temporary, path)
    finally:
        Path(temporary).unlink(missing_ok=True)


def _content(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(MAX_KEY_BYTES)
    except OSError as error:
        raise _refuse(path, f"it cannot be read ({error.strerror})") from error


def _refuse(path: Path, what: str) -> InvalidArgument:
    return InvalidArgument("BAD_PASSPORT_KEY", f"the key file {path}: {what}", file=str(path))
