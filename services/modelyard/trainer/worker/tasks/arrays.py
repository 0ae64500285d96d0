"""Classes and numbers of what comes as arrays of numbers, taken as they are: series, and rows of a table as numbers."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from modelyard.recipes.augment import Held
from modelyard.recipes.augment_series import changed_series
from modelyard.recipes.recipe import Hyperparameters
from modelyard.trainer.worker.examples import Batch
from modelyard.trainer.worker.precision import to_device
from modelyard.trainer.worker.run import Run, Setup
from modelyard.trainer.worker.scoring import VALIDATION_BATCH
from modelyard.trainer.worker.tasks.classification import Classification


class ArrayClassification(Classification):
    """Cross entropy against class indices; val_accuracy decides. What the loop calls pictures are float32 [n, ...]: series
    [n, steps, channels], rows [n, width]."""

    def ready(self, run: Run, batch: Batch, held: Held | None) -> tuple[Tensor, Tensor]:
        """The arrays (series changed by the run's policy), and their classes int64 [n]."""
        device, arrays = run.scaling[0].device, batch.pictures
        if run.setup.policy:
            arrays = torch.from_numpy(_changed(arrays.numpy(), run, held))
        return to_device(arrays, device), to_device(batch.labels, device)

    def evaluate(self, run: Run) -> dict[str, float]:
        """val_accuracy (0 to 1) and val_loss (nats)."""
        setup = run.setup
        if not len(setup.validation):
            return {}
        run.module.eval()
        device, right, loss = run.scaling[0].device, 0.0, 0.0
        with torch.inference_mode(), run.precision.cast():
            for batch in setup.validation.in_order(VALIDATION_BATCH, rank=setup.group.rank, world_size=setup.group.size):
                labels = to_device(batch.labels, device)
                logits = run.module(to_device(batch.pictures, device)).float()
                right += float((logits.argmax(1) == labels).sum())
                loss += float(nn.functional.cross_entropy(logits, labels, reduction="sum"))
        right, loss = setup.group.sum([right, loss])
        return {"val_accuracy": right / len(setup.validation), "val_loss": loss / len(setup.validation)}


class ArrayRegression:
    """Squared error against numbers float32 [n, 1], which are in spreads around the training examples' mean; val_r2 decides. See
    run.Learning."""

    primary = "val_r2"

    def criterion(self, setup: Setup, settings: Hyperparameters) -> nn.Module:
        """See run.Learning."""
        return nn.MSELoss()

    def ready(self, run: Run, batch: Batch, held: Held | None) -> tuple[Tensor, Tensor]:
        """The arrays and their numbers."""
        device = run.scaling[0].device
        return to_device(batch.pictures, device), to_device(batch.labels, device)

    def evaluate(self, run: Run) -> dict[str, float]:
        """val_r2 (1 less the share of the examples' own spread that is missed) and val_loss (mean squared error, in the training
        numbers' spreads)."""
        setup = run.setup
        if not len(setup.validation):
            return {}
        run.module.eval()
        device, missed = run.scaling[0].device, 0.0
        with torch.inference_mode(), run.precision.cast():
            for batch in setup.validation.in_order(VALIDATION_BATCH, rank=setup.group.rank, world_size=setup.group.size):
                error = run.module(to_device(batch.pictures, device)).double() - to_device(batch.labels, device)
                missed += float((error**2).sum())
        (missed,) = setup.group.sum([missed])
        numbers = setup.validation.labels.double()
        own = float(((numbers - numbers.mean()) ** 2).sum())
        return {"val_r2": 1 - missed / own if own > 0 else 0.0, "val_loss": missed / len(setup.validation)}


def _changed(series: npt.NDArray[np.float32], run: Run, held: Held | None) -> npt.NDArray[np.float32]:
    """Of a part of a batch, as they would be in the whole of it: its numbers are drawn for all, in their order."""
    seed = (run.settings.seed << 32) + run.step
    if held is None:
        return changed_series(series, run.setup.policy, seed)
    places = held.places.numpy()
    whole = np.zeros((held.total, *series.shape[1:]), np.float32)
    whole[places] = series
    mine: npt.NDArray[np.float32] = changed_series(whole, run.setup.policy, seed)[places]
    return mine
