"""What a model of a task answers: the outputs on a bundle's card."""

from __future__ import annotations

from modelyard.formats.agreement import BOXES, CLASSES, KEYPOINTS, MASK, SCORES
from modelyard.formats.bundle import TensorSpec
from modelyard.formats.dataset_descriptor import KEYPOINT_DETECTION, OBJECT_DETECTION, SEMANTIC_SEGMENTATION
from modelyard.formats.model import PictureInput
from modelyard.recipes.build_detector import MOST, STRIDE


def picture_outputs(task: str, classes: int, picture: PictureInput) -> tuple[TensorSpec, ...]:
    """The outputs for pictures of that size."""
    if task == OBJECT_DETECTION:
        most = min(MOST, classes * (picture.height // STRIDE) * (picture.width // STRIDE))
        return (
            TensorSpec(BOXES, "FP32", (-1, most, 4)),
            TensorSpec(SCORES, "FP32", (-1, most)),
            TensorSpec(CLASSES, "INT64", (-1, most)),
        )
    if task == SEMANTIC_SEGMENTATION:
        return (TensorSpec(MASK, "UINT8", (-1, picture.height, picture.width)),)
    if task == KEYPOINT_DETECTION:
        return (TensorSpec(KEYPOINTS, "FP32", (-1, classes, 3)),)
    return (TensorSpec("probabilities", "FP32", (-1, classes)),)
