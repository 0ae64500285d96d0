"""Small real sources for journeys: scikit-learn's digits as pictures, and its tables as CSV."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image
from sklearn.datasets import load_breast_cancer, load_diabetes, load_digits


def digits_folder(folder: Path, per_class: int = 60, size: int = 28) -> Path:
    """folder/CLASS/NUMBER.png, `per_class` pictures of each digit."""
    digits = load_digits()
    for label in range(10):
        (folder / str(label)).mkdir(parents=True, exist_ok=True)
        for number in np.flatnonzero(digits.target == label)[:per_class]:
            picture = Image.fromarray((digits.images[number] * 255 / 16).astype(np.uint8))
            picture.resize((size, size), Image.Resampling.BICUBIC).save(folder / str(label) / f"{number:04}.png")
    return folder


def breast_cancer_csv(path: Path) -> Path:
    """569 rows, 30 numeric columns, column `target` with two classes."""
    table = load_breast_cancer(as_frame=True).frame
    table["target"] = np.where(table["target"] == 1, "benign", "malignant")
    table.to_csv(path, index=False)
    return path


def diabetes_csv(path: Path) -> Path:
    """442 rows, 10 numeric columns, column `target` with a number."""
    load_diabetes(as_frame=True).frame.to_csv(path, index=False)
    return path
