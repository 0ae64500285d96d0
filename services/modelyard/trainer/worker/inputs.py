"""From a batch of the data to what the network is trained on: as its task says, for this process's part."""

from __future__ import annotations

from torch import Tensor

from modelyard.recipes import augment
from modelyard.trainer.worker.examples import Batch, places_of
from modelyard.trainer.worker.run import Run


def global_count(run: Run) -> int:
    """Examples in the global batch of the next step: a whole batch, or all there are when these are fewer."""
    return min(run.batch_size, len(run.setup.train))


def ready(run: Run, batch: Batch) -> tuple[Tensor, Tensor]:
    """This process's part of a batch as the network takes it, and its targets [n, ...]."""
    group = run.setup.group
    held = None
    if group.shared:
        count = global_count(run)
        held = augment.Held(count, places_of(count, group.rank, group.size))
    return run.setup.learning.ready(run, batch, held)


def weight_of_part(run: Run, labels: Tensor) -> float | Tensor:
    """This part's share of the loss of the whole batch, whose mean weighs examples by their class where classes are weighed.

    labels: as `ready` gave them. The shares of all processes add up to 1.
    """
    group = run.setup.group
    if not group.shared:
        return 1.0
    weight = getattr(run.loss_of, "weight", None)
    if weight is None or labels.is_floating_point():
        return len(labels) / global_count(run)
    own = float(weight[labels].sum())
    return own / group.sum([own])[0]
