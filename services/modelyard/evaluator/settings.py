"""Settings of the evaluator service."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from modelyard.core.settings import CoreSettings
from modelyard.formats.passport_keys import SIGNING_KEY


class EvaluatorSettings(CoreSettings):
    """CoreSettings and what only the evaluator needs."""

    evaluator_slots: int = Field(1, ge=1, le=64, description="Evaluations that run at once.")
    passport_signing_key: Path | None = Field(
        None,
        description="PEM file with the private key (ECDSA P-256) that signs passports, as a secret is mounted. "
        "Empty: {data_dir}/keys/passport.pem, made at its first use.",
    )

    def own_signing_key(self) -> Path:
        """Where the key is that this service makes for itself."""
        return self.data_dir / SIGNING_KEY
