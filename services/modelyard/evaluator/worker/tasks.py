"""Which scoring a task has. A task that is added to the contract is added here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from modelyard.core.errors import FailedPrecondition
from modelyard.evaluator.worker.anomaly import ANOMALY
from modelyard.evaluator.worker.answers import TaskScoring
from modelyard.evaluator.worker.classification import CLASSIFICATION
from modelyard.evaluator.worker.detection import DETECTION
from modelyard.evaluator.worker.forecasting import FORECASTING
from modelyard.evaluator.worker.keypoints import KEYPOINT_SCORING
from modelyard.evaluator.worker.multilabel import MULTILABEL
from modelyard.evaluator.worker.regression import REGRESSION
from modelyard.evaluator.worker.segmentation import SEGMENTATION

SCORINGS: Final[Mapping[str, TaskScoring]] = {
    "image_classification": CLASSIFICATION,
    "tabular_classification": CLASSIFICATION,
    "tabular_regression": REGRESSION,
    "object_detection": DETECTION,
    "semantic_segmentation": SEGMENTATION,
    "keypoint_detection": KEYPOINT_SCORING,
    "image_multilabel": MULTILABEL,
    "audio_classification": CLASSIFICATION,
    "series_classification": CLASSIFICATION,
    "anomaly_detection": ANOMALY,
    "forecasting": FORECASTING,
}


def scoring_of(task: str) -> TaskScoring:
    """Raises FailedPrecondition TASK_NOT_SCORED."""
    if task not in SCORINGS:
        message = f"models for {task} cannot be scored; those for {', '.join(SCORINGS)} can"
        raise FailedPrecondition("TASK_NOT_SCORED", message, task=task)
    return SCORINGS[task]
