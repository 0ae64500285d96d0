"""Settings of the pipeline service."""

from __future__ import annotations

from pydantic import Field

from modelyard.core.settings import CoreSettings


class PipelineSettings(CoreSettings):
    """CoreSettings and what only the pipeline needs."""

    pipeline_slots: int = Field(8, ge=1, le=256, description="Runs that go on at once; most of the time they wait for others.")
    reevaluation_check_s: float = Field(5.0, ge=0.05, description="Seconds between looks at which re-evaluations are due.")
