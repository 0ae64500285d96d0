"""Settings of the dataset service; all from MODELYARD_* environment variables."""

from __future__ import annotations

from pydantic import Field

from modelyard.core.settings import CoreSettings


class DatasetSettings(CoreSettings):
    """What the dataset service needs to know besides the settings of every service."""

    dataset_slots: int = Field(
        2, ge=1, le=1024, description="Jobs of each kind (imports, reports, publications, exports) that run at once; others wait."
    )
    dataset_attempts: int = Field(3, ge=1, le=100, description="How often a lost worker of such a job is started in all.")
