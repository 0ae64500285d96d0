"""The training loop of every task and framework (run.Learning and run.Engine are what it does not know of them).

One function, `train`, drives a `Run` (the state of one training) step by step. It measures itself and fits the schedule into the
time limit, keeps the best weights by validation, writes checkpoints from which a run goes on exactly (bit-equal on a CPU with the
same number of threads), halves the batch when memory runs out, and listens for a wish to stop between steps.
"""

from __future__ import annotations

import math
from collections.abc import Generator
from dataclasses import replace

import torch
from torch import Tensor

from modelyard.core.errors import FailedPrecondition, InvalidArgument
from modelyard.formats.checkpoint import Checkpoint
from modelyard.trainer.worker.examples import Batch, HeldExamples
from modelyard.trainer.worker.inputs import global_count
from modelyard.trainer.worker.memory import halve, shrink
from modelyard.trainer.worker.precision import peak_memory
from modelyard.trainer.worker.resume import checkpoint_path, go_on, save, save_best, save_when_due, snapshot
from modelyard.trainer.worker.run import (
    CANCELLED,
    COMPLETED,
    DIVERGED,
    EARLY_STOPPED,
    STOPPED,
    STRETCH,
    STRETCH_S,
    TIME_LIMIT,
    WISHES,
    Best,
    Engine,
    Hooks,
    Outcome,
    Run,
    Setup,
    Window,
    learning_rate,
    note,
)
from modelyard.trainer.worker.schedule import spares_validation, steps_per_epoch, steps_that_fit
from modelyard.trainer.worker.torch_engine import TORCH

MOST_SEEN, LEAST_SEEN = 512, 64
"""Training examples that are scored at each validation, beside the validation examples: a tenth of them, within these."""
UNMOVED = 1e-3
"""Share of its first value by which a loss must move over a run, or the run says that it did not."""


def train(setup: Setup, hooks: Hooks, resume: Checkpoint | None = None, engine: Engine = TORCH) -> Outcome:
    """Trains to the end that the settings, the time limit, the hooks or the data bring, and keeps the best weights.

    engine: the framework that computes. resume: a checkpoint of a run on the same data. With the same settings the run goes on as
    if it had never stopped; with other ones it keeps weights, step, epoch and (for the same optimizer) moments, and takes the
    schedule at the share that it has done.
    Raises FailedPrecondition (DIVERGED when the loss stops being a number before any validation; NOTHING_TO_TRAIN;
    NO_TRAINING_EXAMPLES; CHECKPOINT_MISMATCH), InvalidArgument (BATCH_TOO_SMALL), ResourceExhausted (OUT_OF_MEMORY).
    """
    run = _start(setup, hooks, engine)
    if resume is None:
        engine.choose(run)
    else:
        go_on(run, resume)
    if 0 < setup.batch_limit < run.batch_size:
        shrink(run, setup.batch_limit)
    _check_parts(run)
    reason = ""
    while not reason:
        reason = _train_epoch(run) or _end_epoch(run)
    setup.group.settle()
    return _finish(run, reason)


# Start


def _start(setup: Setup, hooks: Hooks, engine: Engine) -> Run:
    setup.settings.validate()
    if not len(setup.train):
        raise FailedPrecondition("NO_TRAINING_EXAMPLES", "the dataset version has no examples with usage train")
    return engine.start(setup, hooks)


def _check_parts(run: Run) -> None:
    """Every process must get two examples a step: one alone has no variance."""
    size, fewest = run.setup.group.size, global_count(run)
    if size > 1 and fewest < 2 * size:
        what = f"batch_size is {run.batch_size}" if fewest == run.batch_size else f"there are {fewest} training examples"
        message = f"{what}, which {size} processes share; at least {2 * size} are right, or fewer nodes"
        raise InvalidArgument("BATCH_TOO_SMALL", message, field="hyperparameters.batch_size", value=run.batch_size)


# An epoch


def _train_epoch(run: Run) -> str:
    """Trains to the end of the epoch, or to a reason to end the run, which it returns."""
    examples = len(run.setup.train)
    run.engine.begin_epoch(run)
    run.window = Window(run.setup.clock())
    run.paced_at = run.window.started if math.isnan(run.paced_at) else run.paced_at
    batches = _batches(run)
    try:
        while run.position == 0 or examples - run.position >= run.batch_size:
            reason = _reason_to_end(run)
            if reason:
                return reason
            if not _step_or_halve(run, next(batches)):
                batches.close()
                batches = _batches(run)
            if run.window.steps >= min(STRETCH, 2 * run.looked_steps) or _long_enough(run):
                _look(run)
    finally:
        batches.close()
    return "" if _look(run) else DIVERGED


def _batches(run: Run) -> Generator[Batch]:
    """What is left of the epoch."""
    group = run.setup.group
    return run.setup.train.epoch(
        run.settings.seed,
        run.epoch,
        batch_size=run.batch_size,
        position=run.position,
        rank=group.rank,
        world_size=group.size,
    )


def _long_enough(run: Run) -> bool:
    """Whether a stretch of few but slow steps is to be looked at; in a group by the lead's clock."""
    if run.setup.group.shared:
        return run.agreed_to_look
    return run.setup.clock() - run.window.started >= STRETCH_S


def _reason_to_end(run: Run) -> str:
    wish, time_is_up, look = _agreed(run)
    run.agreed_to_look = bool(look)
    if wish == WISHES.index("cancel"):
        return CANCELLED
    if wish == WISHES.index("stop"):
        return STOPPED
    if time_is_up and run.step:  # one step is always made: a limit gives a model, however short it is
        return TIME_LIMIT
    if run.step >= run.progress.planned:
        return TIME_LIMIT if run.progress.shortened else COMPLETED
    return DIVERGED if math.isinf(run.last_loss) else ""


def _agreed(run: Run) -> list[int]:
    """What all processes go by: the strongest wish, and whether by the lead's clock the time is up, and a stretch is over."""
    group, wish = run.setup.group, WISHES.index(run.hooks.should_stop())
    if group.lead and 0 < run.step < run.progress.planned and run.pause_due:
        wish = max(wish, WISHES.index("stop"))
    if not group.shared:
        return [wish, run.remaining_s <= 0, False]
    slow = run.setup.clock() - run.window.started >= STRETCH_S
    return group.agree([wish, group.lead and run.remaining_s <= 0, group.lead and slow])


def _step_or_halve(run: Run, batch: Batch) -> bool:
    """Whether the step was made; if not, memory ran out, and the batch is half as large from now on."""
    try:
        _step(run, batch)
    except ValueError as error:
        raise _explained(run, error) from error
    except Exception as error:  # each framework has a class of its own for memory that ran out
        if not run.engine.out_of_memory(error):
            raise
        halve(run, error)
        return False
    return True


def _step(run: Run, batch: Batch) -> None:
    loss = run.engine.step(run, batch)
    run.progress.advance(run.step)
    run.step += 1
    run.engine.take_in(run)
    _count(run.window, loss, global_count(run))
    run.position += run.batch_size


def _count(window: Window, loss: Tensor, examples: int) -> None:
    window.loss = loss if window.loss is None else window.loss + loss
    window.steps += 1
    window.examples += examples


def _look(run: Run) -> bool:
    """After a stretch of steps: measures speed, fits the plan to the time, tells and saves what is due. False: the loss is no
    number any more."""
    window, now = run.window, run.setup.clock()
    if not window.steps or window.loss is None:
        return math.isfinite(run.last_loss) or math.isnan(run.last_loss)
    # In a group each process has summed its part of the losses.
    mean = run.setup.group.sum([float(window.loss)])[0] / window.steps
    finite = math.isfinite(mean)
    run.last_loss = mean if finite else math.inf
    run.first_loss = mean if math.isnan(run.first_loss) else run.first_loss
    run.pace.observe(now - run.paced_at, window.steps, run.remaining_s)
    run.paced_at = now
    run.trained_s, run.trained_examples = run.trained_s + now - window.started, run.trained_examples + window.examples
    run.points.append((now - window.started, window.examples))
    run.window, run.looked_steps = Window(now), window.steps
    if finite:
        _plan(run)
        _report(run)
        save_when_due(run)
        run.window = Window(run.setup.clock())
    return finite


def _plan(run: Run) -> None:
    """Fits the rest of the run into the time that is left."""
    if run.setup.limit_s is None:
        return
    examples = len(run.setup.train)
    each_s = run.pace.step_s / min(run.batch_size, examples)
    run.pace.expect(0.4 * each_s * len(run.setup.validation))  # a forward pass alone
    per_epoch = steps_per_epoch(examples, run.batch_size)
    remaining_s, spares = run.remaining_s, not _counts_epochs(run)
    fit, pending = (
        run.setup.group.leads(steps_that_fit(run.pace, step_s, remaining_s=remaining_s, steps_per_epoch=per_epoch, spares=spares))
        for step_s in (run.pace.step_s, run.pace.latest_s)
    )
    run.progress.plan(run.step, run.step + fit, pending)


def _report(run: Run, metrics: dict[str, float] | None = None) -> None:
    """A point of the curve, when the last one is long enough ago or a validation brought metrics."""
    now = run.setup.clock()
    if metrics is None and now - run.reported_at < run.setup.report_every_s:
        return
    seconds, examples = (sum(values) for values in zip(*run.points, strict=True)) if run.points else (0.0, 0)
    run.hooks.on_event(
        {
            "step": run.step,
            "epoch": round(run.epochs_done, 4),
            "loss": None if math.isnan(run.last_loss) else run.last_loss,
            "learning_rate": learning_rate(run),
            "examples_per_second": round(examples / seconds, 1) if seconds else 0.0,
            "metrics": metrics or {},
            "eta_s": round(_eta(run), 1),
            "elapsed_s": round(run.elapsed_s, 3),
        }
    )
    run.reported_at, run.points = now, run.points[-1:] if metrics is None else run.points


def _eta(run: Run) -> float:
    steps = max(0, run.progress.planned - run.step)
    per_epoch = steps_per_epoch(len(run.setup.train), run.batch_size)
    left = steps * run.pace.step_s + math.ceil(steps / per_epoch) * run.pace.validation_s
    return max(0.0, min(run.remaining_s, left))


# The end of an epoch


def _end_epoch(run: Run) -> str:
    """Validates, keeps the best, saves, and says whether the run ends here."""
    run.epoch, run.position = run.epoch + 1, 0
    if not _spared(run):
        _validate(run)
    save_when_due(run)
    reason = _reason_to_end(run)
    patience = run.settings.early_stopping_patience
    if not reason and patience and run.waited_epochs >= patience:
        return EARLY_STOPPED
    return reason


def _spared(run: Run) -> bool:
    """Whether this epoch's validation is left out: where the time limit takes steps away, they are worth more than a look at
    each of many short epochs."""
    if not run.progress.shortened or _counts_epochs(run) or run.best is None:
        return False
    spared = spares_validation(run.pace, run.setup.clock() - run.validated_at)
    return bool(run.setup.group.leads(int(spared)))


def _counts_epochs(run: Run) -> bool:
    """Whether a rule of the settings counts epochs without progress, and so needs a validation of each."""
    return bool(run.settings.early_stopping_patience) or run.settings.schedule == "reduce_on_plateau"


def _validate(run: Run) -> None:
    """Scores the weights as they are; the best so far are kept. Without validation examples the newest are the best."""
    began = run.setup.clock()
    with run.engine.averaged(run):
        metrics = run.setup.learning.evaluate(run)
        seen = _score_seen(run) if metrics else {}
    run.validated_at = run.setup.clock()
    run.pace.validated(run.validated_at - began if metrics else 0.0)
    run.paced_at += run.validated_at - began
    run.validated_step, run.metrics = run.step, metrics
    better = run.best is None or _merit(run, metrics) > _merit(run, run.best.metrics) or not metrics
    run.waited_epochs = 0 if better else run.waited_epochs + 1
    if metrics:
        run.plateau.observe(metrics[run.setup.learning.primary], run.settings, run.step)
    if better and all(math.isfinite(each) for each in metrics.values()):
        # Only the lead writes checkpoints, and so only it must remember.
        kept = snapshot(run, metrics) if run.setup.group.lead else Checkpoint({}, {"step": run.step})
        run.best = Best(metrics, kept)
    _report(run, {**metrics, **seen})


def _score_seen(run: Run) -> dict[str, float]:
    """The same metrics of some training examples, as they are: what tells a model that has learned by heart from one that has
    not learned. (The training loss is of augmented, mixed, smoothed examples and of weights that move.)"""
    if run.seen is None:
        about = min(MOST_SEEN, max(LEAST_SEEN, len(run.setup.train) // 10))
        batch = run.setup.train.sample(about)
        run.seen = HeldExamples(batch.pictures[:about], batch.labels[:about])
    found = run.setup.learning.evaluate(replace(run, setup=replace(run.setup, validation=run.seen)))
    return {name.replace("val_", "train_", 1): value for name, value in found.items()}


def _merit(run: Run, metrics: dict[str, float]) -> tuple[float, float]:
    """Higher is better: the metric that decides, and among equals the smaller loss."""
    return metrics.get(run.setup.learning.primary, -math.inf), -metrics.get("val_loss", math.inf)


def _finish(run: Run, reason: str) -> Outcome:
    """The last validation and checkpoints, and what came out."""
    if not _look(run) and reason != CANCELLED:
        reason = DIVERGED
    if run.step == 0 and reason != CANCELLED:
        raise FailedPrecondition("NOTHING_TO_TRAIN", f"the run ended ({reason}) before its first step", ended=reason)
    if reason == DIVERGED:
        note(run, DIVERGED, f"the loss was not a finite number after step {run.step}; the best weights before it are kept")
        save_best(run)
        return _outcome(run, reason)
    unmoved = abs(run.last_loss - run.first_loss) <= UNMOVED * abs(run.first_loss)
    if unmoved and run.step > 2 * STRETCH:
        note(run, "LOSS_UNMOVED", f"the training loss stayed at {run.last_loss:.4g} over {run.step} steps: nothing was learned")
    if reason == STOPPED and run.validated_step != run.step:
        # Who goes on from here goes on as if nobody had stopped: without the validation that only the end of this run wants.
        save(run)
        _validate(run)
        save_best(run)
        return _outcome(run, reason)
    if reason != CANCELLED and run.validated_step != run.step:
        _validate(run)
    save(run)
    return _outcome(run, reason)


def _outcome(run: Run, reason: str) -> Outcome:
    if run.best is None and reason != CANCELLED:
        rate = run.settings.base_lr
        message = f"training diverged at step {run.step}, before anything could be kept; base_lr is {rate}: a lower one is right"
        raise FailedPrecondition(DIVERGED, message, field="hyperparameters.base_lr", value=rate, step=run.step)
    checkpoint = run.best.checkpoint if run.best else Checkpoint({}, {})
    weights = checkpoint.group("average") or checkpoint.group("weights")
    return Outcome(
        reason=reason,
        weights=weights,
        metrics=run.best.metrics if run.best else {},
        best_step=int(checkpoint.state.get("step", 0)),
        step=run.step,
        epochs=run.epochs_done,
        train_seconds=run.elapsed_s,
        examples_per_second=run.trained_examples / run.trained_s if run.trained_s else 0.0,
        batch_size=run.batch_size,
        base_lr=run.settings.base_lr,
        peak_memory_bytes=peak_memory(torch.device(run.setup.device)),
        checkpoints={kind: path for kind in ("last", "best") if (path := checkpoint_path(run, kind)).exists()},
        facts=run.engine.facts(run, weights) if weights and reason != CANCELLED else {},
    )


def _explained(run: Run, error: ValueError) -> Exception:
    if "more than 1 value per channel" not in str(error):
        return error
    message = f"batch_size is {run.batch_size}, with which batch normalization cannot learn here; 2 or more is right"
    return InvalidArgument("BATCH_TOO_SMALL", message, field="hyperparameters.batch_size", value=run.batch_size)
