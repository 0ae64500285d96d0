"""What happens when memory runs out: half the batch."""

from __future__ import annotations

import math
from dataclasses import replace

import torch

from modelyard.core.errors import ResourceExhausted
from modelyard.trainer.worker.run import BatchTooLarge, Run, note
from modelyard.trainer.worker.schedule import steps_per_epoch


def out_of_memory(error: Exception) -> bool:
    """Whether that is what an error says."""
    text = str(error).lower()
    return isinstance(error, torch.OutOfMemoryError) or "not enough memory" in text or "can't allocate memory" in text


def halve(run: Run, error: Exception) -> None:
    """Goes on with half the batch; the number of epochs stays, so the steps that are left double.

    In a group the others wait in the middle of the step, so the group must begin again: raises BatchTooLarge. Raises
    ResourceExhausted OUT_OF_MEMORY when there is no half.
    """
    run.engine.forget(run)
    half = run.batch_size // 2
    if half < 2 * run.setup.group.size:
        message = f"batch_size {run.batch_size} does not fit into memory and cannot be halved"
        raise ResourceExhausted("OUT_OF_MEMORY", message, field="hyperparameters.batch_size", value=run.batch_size) from error
    if run.setup.group.shared:
        raise BatchTooLarge(half) from error
    shrink(run, half)


def shrink(run: Run, batch_size: int) -> None:
    """Goes on with a smaller batch."""
    run.batch_size = batch_size
    run.settings = replace(run.settings, batch_size=batch_size)
    left = run.setup.settings.max_epochs - run.epochs_done
    total = run.step + math.ceil(left * steps_per_epoch(len(run.setup.train), batch_size))
    run.progress.requested = min(total, run.settings.max_steps) if run.settings.max_steps else total
    run.progress.plan(run.step, run.progress.requested)
    note(run, "BATCH_HALVED", f"memory ran out: batch_size is now {batch_size}", batch_size=batch_size)
