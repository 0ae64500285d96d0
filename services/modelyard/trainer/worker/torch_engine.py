"""A run computed by torch: the engine that the training loop uses unless the recipe names another framework."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from modelyard.core.errors import FailedPrecondition
from modelyard.formats.checkpoint import (
    Arrays,
    Checkpoint,
    pack_optimizer_torch,
    pack_torch,
    random_state_torch,
    restore_random_state_torch,
    unpack_optimizer_torch,
    unpack_torch,
)
from modelyard.recipes.build_image import scale_and_shift
from modelyard.trainer.worker.averaging import averaged, start_average, update_average
from modelyard.trainer.worker.examples import Batch
from modelyard.trainer.worker.inputs import ready, weight_of_part
from modelyard.trainer.worker.memory import out_of_memory
from modelyard.trainer.worker.optimizers import build_optimizer, freeze, restore_optimizer, set_learning_rate
from modelyard.trainer.worker.precision import choose_precision
from modelyard.trainer.worker.probing import choose
from modelyard.trainer.worker.run import Hooks, Run, Setup, Window, learning_rate
from modelyard.trainer.worker.schedule import Progress, momentum_now, requested_steps
from modelyard.trainer.worker.shared_norm import share_statistics


class TorchEngine:
    """See run.Engine."""

    name = "torch"

    def start(self, setup: Setup, hooks: Hooks) -> Run:
        """See run.Engine."""
        settings = setup.settings
        torch.manual_seed(settings.seed)
        module = setup.module.to(device=setup.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        frozen = freeze(module, settings.frozen) if setup.pretrained else []
        if not setup.pretrained:
            settings = replace(settings, backbone_lr=1.0)
        device = torch.device(setup.device)
        if setup.group.shared:
            share_statistics(module)
        precision = choose_precision(setup.precision, device)
        scale, shift = scale_and_shift(setup.normalization.mean, setup.normalization.std)
        total = requested_steps(settings, len(setup.train))
        now = setup.clock()
        return Run(
            setup=setup,
            hooks=hooks,
            engine=self,
            settings=settings,
            module=module,
            network=setup.group.wrapped(module, device),
            precision=precision,
            scaler=precision.scaler(),
            frozen=frozen,
            optimizer=build_optimizer(module, settings),
            loss_of=setup.learning.criterion(setup, settings).to(setup.device),
            scaling=(scale.to(setup.device), shift.to(setup.device)),
            progress=Progress(total, total),
            started=now,
            window=Window(now),
            batch_size=settings.batch_size,
            checkpoint_at=now,
            validated_at=now,
            average=start_average(module) if settings.ema_decay else None,
        )

    def choose(self, run: Run) -> None:
        """See probing.choose."""
        choose(run)

    def begin_epoch(self, run: Run) -> None:
        """Layers that are learned behave as in training, frozen ones as they were loaded."""
        run.module.train()
        for layer in run.frozen:
            layer.eval()

    def step(self, run: Run, batch: Batch) -> Tensor:
        """See run.Engine."""
        group = run.setup.group
        moves = run.settings.schedule == "one_cycle"
        set_learning_rate(run.optimizer, learning_rate(run), momentum_now(run.settings, run.progress) if moves else None)
        if group.shared:
            # What a network draws by itself (dropout) is a function of seed, step and rank, not of what was drawn before.
            torch.manual_seed(hash((run.settings.seed, run.step, group.rank)))
        loss = _backward(run, *ready(run, batch))
        if run.settings.clip_norm:
            run.scaler.unscale_(run.optimizer)
            nn.utils.clip_grad_norm_(run.module.parameters(), run.settings.clip_norm)
        run.scaler.step(run.optimizer)
        run.scaler.update()
        run.optimizer.zero_grad(set_to_none=True)
        return loss

    def take_in(self, run: Run) -> None:
        """See run.Engine."""
        if run.average is not None:
            update_average(run.average, run.module, run.settings.ema_decay, run.step)

    @contextmanager
    def averaged(self, run: Run) -> Iterator[None]:
        """See run.Engine."""
        with averaged(run.module, run.average):
            yield

    def out_of_memory(self, error: Exception) -> bool:
        """See memory.out_of_memory."""
        return out_of_memory(error)

    def forget(self, run: Run) -> None:
        """See run.Engine."""
        run.optimizer.zero_grad(set_to_none=True)
        if run.setup.device.startswith("cuda"):
            torch.cuda.empty_cache()

    def pack(self, run: Run) -> tuple[Arrays, dict[str, Any]]:
        """See run.Engine."""
        moments, rest = pack_optimizer_torch(run.optimizer.state_dict())
        generators, generator_rest = random_state_torch()
        average = pack_torch(run.average, "average") if run.average is not None else {}
        arrays = {**pack_torch(run.module.state_dict(), "weights"), **average, **moments, **generators}
        state = {
            "optimizer_rest": rest,
            "scaler": run.scaler.state_dict(),
            "random": generator_rest,
            "threads": torch.get_num_threads(),
        }
        return arrays, state

    def load_weights(self, run: Run, weights: Arrays, average: Arrays) -> None:
        """See run.Engine."""
        try:
            run.module.load_state_dict(unpack_torch(weights))
        except RuntimeError as error:
            message = f"the checkpoint is of another network: {str(error)[:300]}"
            raise FailedPrecondition("CHECKPOINT_MISMATCH", message, field="resume_from") from error
        if run.average is not None:
            run.average = {name: value.to(run.setup.device) for name, value in unpack_torch(average).items()}

    def load_moments(self, run: Run, checkpoint: Checkpoint) -> None:
        """See run.Engine."""
        restore_optimizer(run.optimizer, unpack_optimizer_torch(checkpoint))

    def load_scale(self, run: Run, checkpoint: Checkpoint) -> None:
        """See run.Engine."""
        if checkpoint.state.get("scaler"):
            run.scaler.load_state_dict(dict(checkpoint.state["scaler"]))

    def load_random(self, run: Run, checkpoint: Checkpoint) -> None:
        """See run.Engine."""
        if run.settings.deterministic and run.setup.device == "cpu":
            # Sums depend on how they are cut.
            torch.set_num_threads(int(checkpoint.state.get("threads", torch.get_num_threads())))
        restore_random_state_torch(checkpoint)

    def facts(self, run: Run, weights: Arrays) -> dict[str, Any]:
        """See run.Engine."""
        return {"torch": torch.__version__}


TORCH = TorchEngine()


def _backward(run: Run, x: Tensor, labels: Tensor) -> Tensor:
    """Gradients of a batch's loss, which it returns; computed in parts where the settings say so, at least two examples each."""
    group = run.setup.group
    parts = max(1, min(run.settings.accumulation_steps, len(labels) // 2))
    total = torch.zeros((), device=x.device)
    for some, some_labels in zip(x.chunk(parts), labels.chunk(parts), strict=True):
        with run.precision.cast():
            loss = run.loss_of(run.network(some), some_labels)
        if parts > 1:
            loss = loss * _share(run, some_labels, labels)
        if group.shared:
            loss = loss * weight_of_part(run, labels)
        # The group gives the mean of all gradients; their sum is that of the whole batch.
        run.scaler.scale(loss * group.size if group.shared else loss).backward()
        total += loss.detach()
    return total


def _share(run: Run, some: Tensor, labels: Tensor) -> float | Tensor:
    """A part's share of the mean loss of its batch."""
    weight = getattr(run.loss_of, "weight", None)
    if weight is None or labels.is_floating_point():
        return len(some) / len(labels)
    share: Tensor = weight[some].sum() / weight[labels].sum()
    return share
