"""Key points of the one object in a picture: networks of recipes.build_keypoints, object keypoint similarity."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from modelyard.core.errors import FailedPrecondition
from modelyard.formats.dataset import TRAIN, DatasetReader
from modelyard.formats.keypoints import SIMILARITY, points_of, several_objects
from modelyard.formats.model import PictureInput
from modelyard.recipes import augment
from modelyard.recipes.augment import Held
from modelyard.recipes.augment_marked import drawn_view, see, seen_points
from modelyard.recipes.augment_policy import Moves
from modelyard.recipes.build_keypoints import KeypointLoss, build_keypoints, decoder_of
from modelyard.recipes.recipe import Hyperparameters, Recipe
from modelyard.trainer.worker.data import Pictures, Targets
from modelyard.trainer.worker.examples import Batch, Examples
from modelyard.trainer.worker.precision import to_device
from modelyard.trainer.worker.run import Run, Setup
from modelyard.trainer.worker.scoring import VALIDATION_BATCH, scaled
from modelyard.trainer.worker.tasks.classification import changed_pictures, tinted_pictures

MOST_SEVERAL = 0.1
"""Share of the training pictures that may show several objects: of those the largest is learned."""


class KeypointDetection:
    """A task of pictures (tasks.pictures.PictureTask). What it calls classes are the points."""

    task = "keypoint_detection"
    fewest_classes = 1

    def targets(self, reader: Pictures, usage: str, picture: PictureInput) -> Targets:
        """Points float32 [N, K + 1, 3]: x, y (0 to 1), whether marked; the last row is the object's width and height (0 to 1)
        and whether there is one. Raises FailedPrecondition SEVERAL_OBJECTS."""
        if not isinstance(reader, DatasetReader):
            raise AssertionError("points come from a dataset version")
        facts, marks = reader.picture_facts(usage), reader.annotations(usage).marks()
        several = several_objects(marks)
        if usage == TRAIN and several > MOST_SEVERAL * (len(marks.starts) - 1):
            message = (
                f"{several} of {len(marks.starts) - 1} training pictures show several marked objects; the points of one object a "
                "picture are learned: cut the objects out, a picture each"
            )
            raise FailedPrecondition("SEVERAL_OBJECTS", message, field="dataset_version", pictures=several)
        sizes = np.stack([facts["width"], facts["height"]], axis=1).astype(np.float64).reshape(-1, 2)
        points, extents = points_of(marks, sizes)
        there = np.asarray(points[..., 2].any(axis=1), np.float64)
        rows = np.concatenate([extents, there[:, None]], axis=1)[:, None]
        values = torch.from_numpy(np.concatenate([points, rows], axis=1).astype(np.float32))
        return Targets(values, torch.from_numpy(there.astype(np.int64)))

    def build(self, recipe: Recipe, picture: PictureInput, classes: int, weights: str) -> nn.Module:
        """See recipes.build_keypoints."""
        height, width, channels = picture.height, picture.width, picture.channels
        return build_keypoints(
            recipe.architecture, points=classes, channels=channels, height=height, width=width, weights=weights
        )

    def flip(self, sample: Batch) -> bool:
        """A mirror changes a left hand into a right one, and the way that a scale runs."""
        return False

    def learning(self, recipe: Recipe, picture: PictureInput, classes: int, training: Examples) -> Keypoints:
        """See Keypoints."""
        marked = training.labels[:, :-1, 2]
        if not bool(marked.any()):
            raise FailedPrecondition("NO_KEYPOINTS", "no training picture has a marked point; nothing can be learned")
        return Keypoints(recipe.architecture, classes, picture, float(marked.sum()) / len(marked))


class Keypoints:
    """See run.Learning. val_oks decides."""

    primary = "val_oks"

    def __init__(self, architecture: str, points: int, picture: PictureInput, typical: float) -> None:
        self._loss = architecture, typical
        self._decoder = decoder_of(architecture, points)
        self._size = picture.width, picture.height

    def criterion(self, setup: Setup, settings: Hyperparameters) -> nn.Module:
        """See run.Learning."""
        return KeypointLoss(*self._loss)

    def ready(self, run: Run, batch: Batch, held: Held | None) -> tuple[Tensor, Tensor]:
        """Pictures float [n, C, H, W], and the points as they lie in the views; those out of sight count as not marked."""
        device, level = run.scaling[0].device, run.settings.augmentation
        pictures, points = to_device(batch.pictures, device), to_device(batch.labels, device)
        if level == "none" and not run.setup.policy:
            return scaled(pictures, run.scaling), points
        generator = augment.augment_generator(run.settings.seed, run.step)
        if run.setup.policy:
            x, moves = changed_pictures(run, pictures, generator, held)
            return x, points if moves is None else torch.cat([moved_points(points[:, :-1], moves), points[:, -1:]], 1)
        standard = level == "standard"
        x = tinted_pictures(run, pictures, generator, held) if standard else scaled(pictures, run.scaling)
        least, most = (0.75, 1.3) if standard else (0.9, 1.1)
        view = drawn_view(len(x), generator, flip=False, least=least, most=most, held=held)
        seen = torch.cat([seen_points(points[:, :-1], view), points[:, -1:]], 1)
        return see(x, view), seen

    def evaluate(self, run: Run) -> dict[str, float]:
        """val_oks (mean similarity of the pictures with marked points, 0 to 1; formats.keypoints), val_error (mean distance as a
        share of the object's size) and val_loss."""
        setup = run.setup
        if not len(setup.validation):
            return {}
        run.module.eval()
        device, loss, pictures = run.scaling[0].device, 0.0, 0
        loss_of = KeypointLoss(*self._loss).to(device)
        sums = [0.0, 0.0, 0.0, 0.0]
        with torch.inference_mode(), run.precision.cast():
            for batch in setup.validation.in_order(VALIDATION_BATCH // 8, rank=setup.group.rank, world_size=setup.group.size):
                targets = to_device(batch.labels, device)
                said = run.module(scaled(to_device(batch.pictures, device), run.scaling)).float()
                loss, pictures = loss + float(loss_of(said, targets)) * len(said), pictures + len(said)
                found = similarity(self._decoder(said).cpu().numpy(), batch.labels.numpy(), self._size)
                sums = [before + more for before, more in zip(sums, found, strict=True)]
        total, seen, alike, judged, away, points = setup.group.sum([loss, float(pictures), *sums])
        return {
            "val_oks": alike / max(judged, 1.0),
            "val_error": away / max(points, 1.0),
            "val_loss": total / max(seen, 1.0),
        }


def moved_points(points: Tensor, moves: Moves) -> Tensor:
    """Points float [n, K, 3] (x, y, whether marked) where the new pictures show them; those out of sight count as not marked."""
    places = moves.points(points[..., :2])
    inside = ((places >= 0) & (places <= 1)).all(-1, keepdim=True)
    return torch.cat([places, points[..., 2:] * inside.to(points.dtype)], -1)


def similarity(
    found: npt.NDArray[np.float32], targets: npt.NDArray[np.float32], size: tuple[int, int]
) -> tuple[float, float, float, float]:
    """Sum of the pictures' similarities and how many have points; sum of the points' distances as shares of the object's size,
    and how many points. found [N, K, 3], targets as KeypointDetection.targets, size: width and height of the input."""
    scale = np.array(size, np.float64)
    away = np.linalg.norm((found[..., :2] - targets[:, :-1, :2]) * scale, axis=2)
    extent = np.sqrt(np.maximum((targets[:, -1, :2] * scale).prod(axis=1), 1e-9))
    share = away / extent[:, None]
    marked = targets[:, :-1, 2] > 0
    alike = np.exp(-(share**2) / (2 * SIMILARITY**2)) * marked
    counts = marked.sum(axis=1)
    here = counts > 0
    return (
        float((alike.sum(axis=1)[here] / counts[here]).sum()),
        float(here.sum()),
        float(share[marked].sum()),
        float(marked.sum()),
    )
