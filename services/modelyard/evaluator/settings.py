"""Settings of the evaluator service."""

from __future__ import annotations

from pydantic import Field

from modelyard.core.settings import CoreSettings


class EvaluatorSettings(CoreSettings):
    """CoreSettings and what only the evaluator needs."""

    evaluator_slots: int = Field(1, ge=1, le=64, description="Evaluations that run at once.")
