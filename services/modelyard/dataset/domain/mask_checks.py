"""What is wrong with masks: nothing in them, classes that never appear, classes of very few pixels."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from modelyard.core.words import several
from modelyard.dataset.domain.findings import Names
from modelyard.dataset.domain.listing import Text, of_column, of_examples, quoted
from modelyard.dataset.domain.records import Finding
from modelyard.formats.annotations import IGNORED

SMALL_SHARE = 0.001
"""A class that holds a smaller share of all labelled pixels is small."""

Ints = npt.NDArray[np.int64]


def pixel_counts(mask: npt.NDArray[np.uint8], classes: int) -> Ints:
    """Pixels of each class, and those of none, in a mask uint8 [H, W] of class indices: int64 [classes + 1]."""
    counts = np.bincount(mask.ravel(), minlength=IGNORED + 1)
    return np.append(counts[:classes], counts[classes:].sum()).astype(np.int64)


def mask_findings(counts: Ints, classes: Sequence[str], names: Names) -> list[Finding]:
    """Findings of N masks. counts int64 [N, classes + 1]: pixels of each class, and last those of none."""
    labelled = counts[:, :-1]
    found: list[Finding] = []
    empty = np.flatnonzero(labelled.sum(axis=1) == 0)
    if len(empty):
        text = Text(
            "EMPTY_MASK",
            "error",
            f"{several(len(empty), 'mask has', 'masks have')} no labelled pixel.",
            "Nothing is learned from the picture, and in the test it counts for nothing.",
            "Draw the mask, or drop the picture.",
        )
        found.append(of_examples(text, names, empty, drop=True))
    shares = labelled.sum(axis=0) / max(int(labelled.sum()), 1)
    small = [name for name, share in zip(classes, shares, strict=True) if 0 < share < SMALL_SHARE]
    if small:
        least = float(shares[shares > 0].min())
        text = Text(
            "SMALL_CLASS",
            "warning",
            f"{several(len(small), 'class holds', 'classes hold')} less than {SMALL_SHARE:.1%} of the labelled "
            f"pixels: {quoted(small)} "
            f"(the least {least:.4%}).",
            "Scores by pixel hardly notice whether the model finds it, so training does not either.",
            "Look at the scores by class; add pictures that show it, or weigh it up.",
        )
        found.append(of_column(text, "", int((labelled[:, shares < SMALL_SHARE] > 0).any(axis=1).sum())))
    return found


def object_mask_findings(areas: npt.NDArray[np.float64], of: Ints, names: Names) -> list[Finding]:
    """Objects whose own mask or outline holds nothing. areas float64 [M] in pixels, NaN for those without one; of int64 [M]."""
    empty = np.flatnonzero(areas <= 0)
    if not len(empty):
        return []
    text = Text(
        "EMPTY_MASK",
        "warning",
        f"{several(len(empty), 'object has', 'objects have')} a mask or outline that holds no pixel.",
        "The object counts as missed whatever the model says.",
        "Draw it again or remove it.",
    )
    return [of_examples(text, names, np.unique(of[empty]))]
