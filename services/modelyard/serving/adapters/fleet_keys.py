"""The centre's key: it signs desired states, and tokens derive from it. Made at first use where none was given."""

from __future__ import annotations

import hashlib
import hmac
from functools import cached_property
from pathlib import Path
from typing import Final

from modelyard.formats.passport_keys import SigningKey, own_signing_key, read_signing_key

OWN_KEY: Final = Path("keys") / "fleet.pem"


class FleetKeys:
    """`given`: a PEM file with a private key (ECDSA P-256), the same for all servers of a database. None: `data_dir` gets one."""

    def __init__(self, given: Path | None, data_dir: Path) -> None:
        self._given, self._own = given, data_dir / OWN_KEY

    @cached_property
    def signing(self) -> SigningKey:
        """Raises InvalidArgument BAD_PASSPORT_KEY."""
        return read_signing_key(self._given) if self._given is not None else own_signing_key(self._own)

    @cached_property
    def token_secret(self) -> bytes:
        """What tokens are bound by: 32 bytes that only who has the key can know."""
        from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

        private = self.signing.key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
        return hmac.new(b"modelyard fleet tokens 1", private, hashlib.sha256).digest()
