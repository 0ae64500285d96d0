"""Checkpoints of a run: taking them, writing them, and going on from one."""

from __future__ import annotations

import errno
import math
from dataclasses import asdict, replace
from pathlib import Path
from typing import Final

from modelyard.core.errors import FailedPrecondition, ResourceExhausted
from modelyard.formats.checkpoint import Arrays, Checkpoint, write_checkpoint
from modelyard.recipes.recipe import Hyperparameters
from modelyard.trainer.worker.probing import take
from modelyard.trainer.worker.run import Best, Chosen, Run, note
from modelyard.trainer.worker.schedule import Plateau, Progress, steps_per_epoch

NO_ROOM: Final = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def checkpoint_path(run: Run, kind: str) -> Path:
    return run.setup.workdir / f"{kind}.checkpoint"


def save_when_due(run: Run) -> None:
    if run.setup.clock() - run.checkpoint_at >= run.setup.checkpoint_every_s:
        save(run)


def save(run: Run) -> None:
    """Writes the best checkpoint, when there is a new one, and the last one, which also holds the best weights. In a group the
    lead does, for all: nothing in a checkpoint says how many they were."""
    save_best(run)
    if run.setup.group.lead:
        _write(run, "last", _with_best(snapshot(run, run.metrics), run))
    run.checkpoint_at = run.setup.clock()


def save_best(run: Run) -> None:
    """Writes the best checkpoint, when there is a new one."""
    if run.setup.group.lead and run.best and not run.best.saved:
        run.best.saved = _write(run, "best", run.best.checkpoint)


def _write(run: Run, kind: str, checkpoint: Checkpoint) -> bool:
    """Whether it was written. A full disk does not end a training: what was saved before stays, and the next time may work."""
    path = checkpoint_path(run, kind)
    try:
        write_checkpoint(path, checkpoint)
        run.hooks.save_checkpoint(kind, path)
    except (OSError, ResourceExhausted) as error:
        if not no_room(error):
            raise
        message = f"there is no room for the {kind} checkpoint; what was saved before stays, and it is tried again"
        note(run, "CHECKPOINT_NOT_SAVED", message)
        return False
    return True


def no_room(error: BaseException) -> bool:
    """Whether an error says that a disk or a quota of it is full."""
    if isinstance(error, OSError):
        return error.errno in NO_ROOM
    return isinstance(error, ResourceExhausted) and error.reason == "DISK_FULL"


def snapshot(run: Run, metrics: dict[str, float]) -> Checkpoint:
    """This moment of the run, copied."""
    arrays, own = run.engine.pack(run)
    state = {
        "framework": run.engine.name,
        "step": run.step,
        "epoch": run.epoch,
        "position": run.position,
        "batch_size": run.batch_size,
        "progress": asdict(run.progress),
        "plateau": {**asdict(run.plateau), "best": _finite(run.plateau.best)},
        "waited_epochs": run.waited_epochs,
        "validated_step": run.validated_step,
        "settings": asdict(run.setup.settings),
        "normalization": asdict(run.setup.normalization),
        "pretrained": run.setup.pretrained,
        "metrics": metrics,
        "limit_s": run.setup.limit_s,
        "elapsed_s": run.elapsed_s,
        "chosen": asdict(run.chosen),
        **own,
    }
    return Checkpoint(arrays, state)


def _with_best(last: Checkpoint, run: Run) -> Checkpoint:
    if run.best is None:
        return last
    state = {**last.state, "best": {"metrics": run.best.metrics, "step": run.best.checkpoint.state["step"]}}
    if run.best.checkpoint.state["step"] == last.state["step"]:
        return Checkpoint(last.tensors, state)
    kept = {f"best/{name}": value for name, value in _model_of(run.best.checkpoint).items()}
    return Checkpoint({**last.tensors, **kept}, state)


def go_on(run: Run, resume: Checkpoint) -> None:
    """Puts a fresh run where a checkpoint left it."""
    state = resume.state
    _check_framework(run, str(state.get("framework", "torch")))
    run.engine.load_weights(run, resume.group("weights"), _model_of(resume))
    run.step, run.epoch, run.position = int(state["step"]), int(state["epoch"]), int(state["position"])
    run.waited_epochs, run.validated_step = int(state["waited_epochs"]), int(state["validated_step"])
    before, chosen = Hyperparameters(**state["settings"]), Chosen(**state.get("chosen", {}))
    take(run, chosen)
    if before.optimizer == run.settings.optimizer and before.frozen == run.settings.frozen:
        run.engine.load_moments(run, resume)
    elif before.optimizer != run.settings.optimizer:
        message = f"{run.settings.optimizer} begins without moments: those in the checkpoint are of {before.optimizer}"
        note(run, "OPTIMIZER_REPLACED", message)
    run.engine.load_scale(run, resume)
    run.best, run.metrics = _best_of(resume), dict(state["metrics"])
    same = run.setup.settings in (before, _as_run(before, chosen))
    if same and (run.setup.stretch or state["limit_s"] == run.setup.limit_s):
        _go_on_exactly(run, resume)  # and when it had ended already, it ends again: its worker was lost before it could say so
        return
    _go_on_with_changes(run, before)
    if run.step >= run.progress.requested:
        raise _nothing_left(run)


def _go_on_exactly(run: Run, resume: Checkpoint) -> None:
    state = resume.state
    run.batch_size = int(state["batch_size"])
    run.settings = replace(run.settings, batch_size=run.batch_size)
    run.progress = Progress(**state["progress"])
    plateau = dict(state["plateau"])
    run.plateau = Plateau(**{**plateau, "best": -math.inf if plateau["best"] is None else plateau["best"]})
    run.engine.load_random(run, resume)


def _as_run(settings: Hyperparameters, chosen: Chosen) -> Hyperparameters:
    """The settings with what the run chose by itself in place."""
    changed = replace(settings, auto_batch_size=False, auto_base_lr=False)
    changed = replace(changed, batch_size=chosen.batch_size) if chosen.batch_size else changed
    return replace(changed, base_lr=chosen.base_lr) if chosen.base_lr else changed


def _go_on_with_changes(run: Run, before: Hyperparameters) -> None:
    """Under other settings the schedule stands at the share of the new total that is done. A part of an epoch is not counted when
    the order or the batches changed."""
    if (before.seed, before.batch_size) != (run.settings.seed, run.settings.batch_size):
        run.position = 0
    total = run.epoch * steps_per_epoch(len(run.setup.train), run.batch_size) + run.position // run.batch_size
    per_epoch = steps_per_epoch(len(run.setup.train), run.batch_size)
    wanted = run.step + run.settings.max_epochs * per_epoch - total
    requested = min(wanted, run.settings.max_steps) if run.settings.max_steps else wanted
    run.progress = Progress(requested, requested, min(1.0, run.step / max(1, requested)))
    run.waited_epochs = 0


def _nothing_left(run: Run) -> FailedPrecondition:
    settings = run.settings
    name = "max_steps" if settings.max_steps and run.step >= settings.max_steps else "max_epochs"
    value = getattr(settings, name)
    message = f"the checkpoint has {run.step} steps and {run.epoch} epochs behind it; {name} {value} leaves nothing to train"
    return FailedPrecondition("NOTHING_TO_TRAIN", message, field=f"hyperparameters.{name}", value=value, step=run.step)


def _best_of(resume: Checkpoint) -> Best | None:
    """The best weights that a checkpoint knows of: its own, or those it carries along."""
    best = resume.state.get("best")
    if best is None:
        return Best(dict(resume.state["metrics"]), resume, saved=True) if resume.state["metrics"] else None
    kept = resume.group("best") or _model_of(resume)
    tensors = {f"weights/{name}": value for name, value in kept.items()}
    return Best(dict(best["metrics"]), Checkpoint(tensors, {"step": best["step"]}), saved=True)


def _model_of(checkpoint: Checkpoint) -> Arrays:
    """What would be the model: the running mean of the weights where there is one."""
    return checkpoint.group("average") or checkpoint.group("weights")


def _check_framework(run: Run, name: str) -> None:
    """Moments, and the order in which they are kept, are a framework's own."""
    if name != run.engine.name:
        message = (
            f"the checkpoint is of a run in {name}, the recipe's framework is {run.engine.name}; resume it in {name}, or start "
            "from the weights of its model version (warm_start_model_version)"
        )
        raise FailedPrecondition("CHECKPOINT_MISMATCH", message, field="resume_from", framework=name)


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
