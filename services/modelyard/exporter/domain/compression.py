"""What a compressed model must keep to, and the trail of what was tried."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from modelyard.exporter.domain.latency import Latency

DEFAULT_MAX_LOSS: Final = 0.01
"""What `max_loss` 0 means: a point of accuracy, or a hundredth of the rmse."""
LONGEST_MS: Final = 20_000.0
METRICS: Final = ("accuracy", "f1_macro", "recall_macro", "rmse", "mae")
"""What may be watched. Empty: accuracy for classes, rmse for numbers (there the loss is a share of it)."""

POST_TRAINING: Final = "post_training"
AWARE: Final = "aware_training"


@dataclass(frozen=True)
class CompressionLimits:
    """Limits within which the planner chooses; 0 and empty as in the contract.

    max_size_bytes: of the model file. max_latency_ms: p95. max_loss: in the metric's own unit, 0 to 1.
    """

    max_size_bytes: int = 0
    max_latency_ms: float = 0.0
    max_loss: float = 0.0
    metric: str = ""
    skip_training: bool = False

    @property
    def allowed_loss(self) -> float:
        """The loss that is allowed, with its default."""
        return self.max_loss or DEFAULT_MAX_LOSS


@dataclass(frozen=True)
class Figure:
    """A metric with its 95 percent interval."""

    name: str
    value: float
    lower: float
    upper: float
    higher_is_better: bool


@dataclass(frozen=True)
class CompressionStep:
    """One road that was tried, with what was measured on its artifact.

    quantization: "", POST_TRAINING or AWARE. size_bytes: of the model file; 0 when it could not be made. loss: against the float
    model on the same validation examples; below 0 is a gain. message: why it was accepted or not, in a sentence.
    """

    road: str
    format: str
    precision: str
    quantization: str = ""
    size_bytes: int = 0
    latency: Latency | None = None
    metric: Figure | None = None
    loss: Figure | None = None
    accepted: bool = False
    message: str = ""
