"""Settings of the exporter service."""

from __future__ import annotations

from pydantic import Field, SecretStr

from modelyard.core.settings import CoreSettings


class ExporterSettings(CoreSettings):
    """CoreSettings and what only the exporter needs."""

    exporter_slots: int = Field(1, ge=1, le=64, description="Exports, and apart from them profiles, that run at once.")
    agent_token: SecretStr = Field(
        SecretStr(""), description="What measuring agents on other devices ask for: the content of their --token-file."
    )
