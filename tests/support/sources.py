"""Small real sources for journeys: scikit-learn's digits as pictures, and its tables as CSV."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

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
    data = load_breast_cancer()
    return _write(path, data, np.where(data.target == 1, "benign", "malignant").tolist())


def diabetes_csv(path: Path) -> Path:
    """442 rows, 10 numeric columns, column `target` with a number."""
    data = load_diabetes()
    return _write(path, data, data.target.tolist())


def _write(path: Path, data: Any, target: list[Any]) -> Path:
    """A table of scikit-learn's as CSV (without pandas, which is not installed here)."""
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow([*data.feature_names, "target"])
        writer.writerows([*row, label] for row, label in zip(data.data.tolist(), target, strict=True))
    return path
