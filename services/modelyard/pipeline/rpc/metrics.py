"""What re-evaluations found last, for Prometheus. Set now and then by the scheduler: a look of Prometheus reads no database."""

from __future__ import annotations

import math
from typing import Final

from prometheus_client import Gauge

from modelyard.pipeline.domain.reevaluation import Verdict
from modelyard.pipeline.handlers.reevaluations import Reevaluating, latest_judgements

DRIFTED: Final = Gauge(
    "modelyard_reevaluation_drifted",
    "1 when the last re-evaluation that came to a result found the endpoint worse than at its gate, 0 when it did not.",
    ["reevaluation", "endpoint"],
)
LOSS: Final = Gauge(
    "modelyard_reevaluation_loss",
    "By how much the main metric is worse than at the gate, on new examples: of accuracy the difference, of rmse a share.",
    ["reevaluation", "endpoint"],
)


_shown: set[tuple[str, str]] = set()


def refresh(ports: Reevaluating) -> None:
    """Sets both for every re-evaluation, and takes away those of the ones that were deleted."""
    found = {(name, endpoint): judgement for name, endpoint, judgement in latest_judgements(ports)}
    for gone in _shown - found.keys():
        DRIFTED.remove(*gone)
        LOSS.remove(*gone)
    for labels, judgement in found.items():
        DRIFTED.labels(*labels).set(float(judgement.verdict is Verdict.DRIFTED))
        LOSS.labels(*labels).set(judgement.loss.value if judgement.loss else math.nan)
    _shown.clear()
    _shown.update(found)
