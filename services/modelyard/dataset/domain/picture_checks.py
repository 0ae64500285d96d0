"""Findings that only pictures give: nearly one colour, and sizes far from the others'."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from modelyard.dataset.domain.records import LISTED_EXAMPLES, Finding

FLAT = 2.0
"""A thumbnail whose grey levels deviate by less than this (of 255) shows nearly one colour."""

ODD_SIZE = 4.0
"""A picture is of odd size when its area or its aspect ratio differs from the median by more than this factor."""


def outlier_findings(
    thumbnails: npt.NDArray[np.uint8], widths: npt.NDArray[np.int64], heights: npt.NDArray[np.int64], paths: Sequence[str]
) -> list[Finding]:
    """Pictures unlike the others. thumbnails uint8 [N, 16, 16]; widths, heights int64 [N], in pixels."""
    spread = thumbnails.reshape(len(thumbnails), -1).std(axis=1, dtype=np.float32)
    findings = []
    if len(flat := np.flatnonzero(spread < FLAT)):
        message = f"{len(flat)} pictures show nearly one colour."
        findings.append(_finding(message, flat, paths, "Look at them: they may be failed captures."))
    area, aspect = np.log(widths * heights), np.log(widths / heights)
    limit = np.log(ODD_SIZE)
    odd = (np.abs(area - np.median(area)) > 2 * limit) | (np.abs(aspect - np.median(aspect)) > limit)
    if len(strange := np.flatnonzero(odd)):
        message = f"{len(strange)} pictures have a size or a shape far from that of the others."
        findings.append(_finding(message, strange, paths, "All pictures are resized to one size; cut or scale these beforehand."))
    return findings


def _finding(message: str, members: npt.NDArray[np.int64], paths: Sequence[str], action: str) -> Finding:
    listed = tuple(paths[int(i)] for i in members[:LISTED_EXAMPLES])
    return Finding("OUTLIERS", "info", message, listed, len(members), action=action)
