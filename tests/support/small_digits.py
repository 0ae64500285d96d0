"""The handwritten digits that come with scikit-learn, as pictures, and a small network trained on them in seconds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from modelyard.core.artifacts import Blob
from modelyard.formats.model import ModelCard, Normalization, PictureInput, write_model
from tests.support.datasets import file_store, open_reader, publish_pictures

SIDE = 8
BATCH = 64
PICTURE = PictureInput(SIDE, SIDE, 1)

Arrays = tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]


def digits() -> Arrays:
    """1,797 pictures uint8 [N, 8, 8, 1] of ten classes, and their labels."""
    from sklearn.datasets import load_digits

    found = load_digits()
    pictures = (found.images / 16 * 255).astype(np.uint8)[..., None]
    return pictures, found.target.astype(np.int64)


def publish_digits(folder: Path) -> Blob:
    """Publishes them into a file store in the folder."""
    pictures, labels = digits()
    return publish_pictures(file_store(folder), pictures[..., 0], [f"digit{label}" for label in labels])


def digits_reader(folder: Path) -> Any:
    """A reader of the published digits."""
    return open_reader(file_store(folder), publish_digits(folder))


def train_digits(reader: Any, path: Path, architecture: str = "modelyard:micronet", epochs: int = 10) -> Path:
    """Trains a small network on the published digits in seconds and writes its model file at `path`."""
    import torch
    from torch.nn import functional

    from modelyard.recipes.build_image import ServedImageModel, build

    torch.manual_seed(0)
    pictures = torch.from_numpy(reader.pictures("train", SIDE, SIDE, 1))
    labels = torch.from_numpy(reader.labels("train"))
    network = build(architecture, classes=10, channels=1, height=SIDE, width=SIDE)
    served = ServedImageModel(network, (0.3,), (0.35,)).train()
    optimizer = torch.optim.AdamW(network.parameters(), lr=5e-3)
    steps = epochs * len(pictures) // BATCH
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 5e-3, total_steps=steps + 1)
    for _ in range(steps):
        which = torch.randint(len(pictures), (BATCH,))
        functional.nll_loss(served(pictures[which]).clamp(min=1e-9).log(), labels[which]).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        optimizer.zero_grad()
        schedule.step()
    classes = tuple(reader.descriptor.classes)
    norm = Normalization((0.3,), (0.35,))
    card = ModelCard("torch", "image_classification", architecture, classes, input=PICTURE, normalization=norm)
    write_model(path, card, {name: value.numpy() for name, value in network.state_dict().items()})
    return path
