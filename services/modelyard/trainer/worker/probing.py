"""What a run finds out by itself before it begins: the batch that fits, and the learning rate, by trying them on its own network.

The range test is Smith's (2017, https://arxiv.org/abs/1506.01186): the rate rises from step to step, exponentially, and the loss
says where learning begins and where it breaks down. Taken is the rate at which the smoothed loss falls fastest, by the logarithm
of the rate, and at most a third of that at which it is lowest: there it is about to break down.
"""

from __future__ import annotations

import math
import os
from collections.abc import Generator
from dataclasses import replace
from typing import Final

import numpy as np
import numpy.typing as npt
import torch

from modelyard.trainer.worker.averaging import start_average
from modelyard.trainer.worker.examples import Batch
from modelyard.trainer.worker.inputs import ready
from modelyard.trainer.worker.memory import out_of_memory
from modelyard.trainer.worker.optimizers import build_optimizer, set_learning_rate
from modelyard.trainer.worker.run import Chosen, Run, note
from modelyard.trainer.worker.schedule import Progress, requested_steps

TEST_STEPS: Final = 120
LOWEST_RATE, HIGHEST_RATE = 1e-6, 10.0
SMOOTHING: Final = 0.9
BROKEN: Final = 4.0
"""Times its lowest value, at which the loss has broken down."""
LARGEST_BATCH: Final = 4096
FEWEST_STEPS: Final = 20
"""Steps an epoch must keep."""
SHARE_OF_MEMORY: Final = 0.5

Floats = npt.NDArray[np.float64]


def choose(run: Run) -> None:
    """Finds what the settings leave to the run, and sets it. The network is afterwards as it was before."""
    wanted = run.settings.auto_batch_size, run.settings.auto_base_lr
    if not any(wanted):
        return
    if run.setup.group.shared:
        note(run, "LR_CHOSEN", "several processes train together: batch_size and base_lr stay as the recipe has them")
        return
    generator = torch.get_rng_state()
    kept = start_average(run.module)
    if wanted[0]:
        _set_batch(run, _largest_batch(run))
    if wanted[1]:
        _set_rate(run, _found_rate(run))
    run.module.load_state_dict(kept)
    run.optimizer = build_optimizer(run.module, run.settings)
    torch.set_rng_state(generator)


def take(run: Run, chosen: Chosen) -> None:
    """Sets what an earlier attempt found."""
    if run.settings.auto_batch_size and chosen.batch_size:
        run.settings = replace(run.settings, batch_size=chosen.batch_size)
        run.batch_size = chosen.batch_size
    if run.settings.auto_base_lr and chosen.base_lr:
        run.settings = replace(run.settings, base_lr=chosen.base_lr)
    run.chosen = chosen


def _set_batch(run: Run, batch_size: int) -> None:
    run.settings, run.batch_size = replace(run.settings, batch_size=batch_size), batch_size
    total = requested_steps(run.settings, len(run.setup.train))
    run.progress = Progress(total, total)
    run.chosen = replace(run.chosen, batch_size=batch_size)
    message = f"batch_size is {batch_size}: the largest that fits and leaves {FEWEST_STEPS} steps an epoch"
    note(run, "BATCH_CHOSEN", message, chosen={"batch_size": batch_size})


def _set_rate(run: Run, rate: float) -> None:
    if rate == 0:
        note(run, "LR_CHOSEN", f"no learning rate lowered the loss in the range test: base_lr stays {run.settings.base_lr:g}")
        return
    run.settings = replace(run.settings, base_lr=rate)
    run.chosen = replace(run.chosen, base_lr=rate)
    note(run, "LR_CHOSEN", f"base_lr is {rate:.3g}, by a range test of {TEST_STEPS} steps", chosen={"base_lr": rate})


# The batch


def _largest_batch(run: Run) -> int:
    """Doubled from the recipe's while a step of it works and twice its memory is there."""
    fits, most = run.batch_size, min(LARGEST_BATCH, len(run.setup.train) // FEWEST_STEPS)
    while (wanted := 2 * fits) <= most and _works(run, wanted):
        fits = wanted
    run.optimizer.zero_grad(set_to_none=True)
    return fits


def _works(run: Run, size: int) -> bool:
    before = _resident_bytes()
    try:
        _backward(run, next(_batches(run, size)))
    except (torch.OutOfMemoryError, RuntimeError) as error:
        if not out_of_memory(error):
            raise
        if run.setup.device.startswith("cuda"):
            torch.cuda.empty_cache()
        return False
    if run.setup.device.startswith("cuda"):
        total = torch.cuda.mem_get_info(torch.device(run.setup.device))[1]
        return torch.cuda.max_memory_allocated(torch.device(run.setup.device)) < 0.9 * total
    return _resident_bytes() - before < SHARE_OF_MEMORY * _available_bytes()


def _resident_bytes() -> int:
    try:
        with open("/proc/self/statm", encoding="ascii") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, IndexError):
        return 0


def _available_bytes() -> float:
    try:
        return float(os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    except (OSError, ValueError):
        return math.inf


# The rate


def _found_rate(run: Run) -> float:
    """0 where no rate lowers the loss."""
    rates = np.geomspace(LOWEST_RATE, HIGHEST_RATE, TEST_STEPS)
    losses: list[float] = []
    batches = _batches(run, run.batch_size)
    lowest = math.inf
    for rate in rates:
        set_learning_rate(run.optimizer, float(rate))
        losses.append(_backward(run, next(batches)))
        if not math.isfinite(losses[-1]):
            break
        run.scaler.step(run.optimizer)
        run.scaler.update()
        run.optimizer.zero_grad(set_to_none=True)
        lowest = min(lowest, losses[-1])
        if losses[-1] > BROKEN * lowest:
            break
    batches.close()
    finite = np.array([loss for loss in losses if math.isfinite(loss)])
    return rate_from(rates[: len(finite)], finite)


def rate_from(rates: Floats, losses: Floats) -> float:
    """The rate to take, from the losses [N] at rising rates [N]; 0 where the loss does not fall by 1 % at any."""
    if len(losses) < 10:
        return 0.0
    smooth = _smoothed(losses)
    lowest = int(np.argmin(smooth))
    if lowest < 5 or smooth[lowest] > 0.99 * smooth[:5].mean():
        return 0.0
    slopes = np.gradient(smooth[: lowest + 1], np.log(rates[: lowest + 1]))
    steepest = float(rates[int(np.argmin(slopes))])
    return float(f"{min(steepest, float(rates[lowest]) / 3):.2g}")


def _smoothed(losses: Floats) -> Floats:
    """A moving mean that forgets, without its bias at the start."""
    mean, found = 0.0, []
    for count, loss in enumerate(losses, start=1):
        mean = SMOOTHING * mean + (1 - SMOOTHING) * float(loss)
        found.append(mean / (1 - SMOOTHING**count))
    return np.array(found)


def _batches(run: Run, size: int) -> Generator[Batch]:
    """Batches without end."""
    number = 0
    while True:
        yield from run.setup.train.epoch(run.settings.seed, number, batch_size=size)
        number += 1


def _backward(run: Run, batch: Batch) -> float:
    """The loss of a batch; its gradients are added up."""
    run.module.train()
    for layer in run.frozen:
        layer.eval()
    x, labels = ready(run, batch)
    with run.precision.cast():
        loss = run.loss_of(run.network(x), labels)
    run.scaler.scale(loss).backward()
    return float(loss.detach())
