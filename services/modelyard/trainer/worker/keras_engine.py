"""A run computed by TensorFlow through Keras: the engine of recipes whose framework is tensorflow.

Batches come, are augmented and are scored as in torch's runs (one process holds both; torch computes no network here). The step
is one graph: forward, gradient, decay, optimizer. Nothing in it draws random numbers, so a checkpoint of weights, moments and
the position in the data is all that a run goes on from.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from modelyard.core.errors import FailedPrecondition, InvalidArgument
from modelyard.formats.checkpoint import Arrays, Checkpoint, random_state_torch, restore_random_state_torch, unpack_torch
from modelyard.recipes.build_image import scale_and_shift
from modelyard.recipes.recipe import TENSORFLOW, Hyperparameters
from modelyard.trainer.worker.examples import Batch
from modelyard.trainer.worker.inputs import ready
from modelyard.trainer.worker.keras_form import KerasForm, keras_form
from modelyard.trainer.worker.keras_import import keras, settle_threads
from modelyard.trainer.worker.keras_import import tensorflow as tf
from modelyard.trainer.worker.precision import Precision
from modelyard.trainer.worker.processors import training_threads
from modelyard.trainer.worker.run import Hooks, Run, Setup, Window, learning_rate, note
from modelyard.trainer.worker.schedule import Progress, requested_steps
from modelyard.trainer.worker.scoring import VALIDATION_BATCH, scaled

SAME = 1e-3
"""Largest difference of a logit between the trained graph and the network that is handed on, beside a thousandth of its size."""


class KerasNetwork(nn.Module):
    """The Keras model in torch's clothes, for validation: float [N, C, H, W] or [N, width] in, logits [N, classes] out, without
    gradients."""

    def __init__(self, form: KerasForm, source: nn.Module) -> None:
        super().__init__()
        self.form = form
        self.source = (source,)  # in a tuple: its parameters are not this module's
        self._answer = tf.function(lambda pictures: form.model(pictures, training=False), reduce_retracing=True, autograph=False)

    def forward(self, x: Tensor) -> Tensor:
        return torch.from_numpy(np.array(self._answer(tf.convert_to_tensor(_entering(x)))))


@dataclass
class Means:
    """The running mean of the weights: a variable for each slot of the form."""

    values: list[Any]


class KerasEngine:
    """See run.Engine."""

    name = TENSORFLOW

    def start(self, setup: Setup, hooks: Hooks) -> Run:
        """See run.Engine. Raises InvalidArgument NO_KERAS_FORM, BAD_PRECISION."""
        settings = replace(setup.settings, backbone_lr=1.0)
        _check(setup)
        torch.manual_seed(settings.seed)
        torch.set_num_threads(1)  # both frameworks' threads would take turns on the same processors
        settle_threads()
        if settings.deterministic:
            tf.config.experimental.enable_op_determinism()
        some = setup.train.sample(1).pictures
        form = keras_form(setup.module, *(int(size) for size in some.shape[1:]))
        scale, shift = scale_and_shift(setup.normalization.mean, setup.normalization.std)
        module = KerasNetwork(form, setup.module)
        optimizer, loss_of = _optimizer(settings), setup.learning.criterion(setup, settings)
        total = requested_steps(settings, len(setup.train))
        now = setup.clock()
        return Run(
            setup=setup,
            hooks=hooks,
            engine=self,
            settings=settings,
            module=module,
            network=_Step(form, optimizer, settings, squared=isinstance(loss_of, nn.MSELoss)),
            precision=Precision(torch.device("cpu"), torch.float32),
            scaler=torch.amp.GradScaler("cpu", enabled=False),
            frozen=[],
            optimizer=optimizer,
            loss_of=loss_of,
            scaling=(scale, shift),
            progress=Progress(total, total),
            started=now,
            window=Window(now),
            batch_size=settings.batch_size,
            checkpoint_at=now,
            validated_at=now,
            average=Means([tf.Variable(slot.variable.numpy()) for slot in form.slots]) if settings.ema_decay else None,
        )

    def choose(self, run: Run) -> None:
        """Nothing: Recipe.validate lets nothing be left to the run."""

    def begin_epoch(self, run: Run) -> None:
        """Nothing: the step's graph is that of training."""

    def step(self, run: Run, batch: Batch) -> Tensor:
        """See run.Engine. The schedule one_cycle moves the rate alone."""
        x, labels = ready(run, batch)
        targets, weights = targets_of(labels, run.setup.classes, run.loss_of)
        run.optimizer.learning_rate = learning_rate(run)
        loss = run.network(_entering(x), targets.numpy(), weights.numpy(), learning_rate(run))
        return torch.tensor(float(loss))

    def take_in(self, run: Run) -> None:
        """See run.Engine; the decay rises as in averaging.update_average."""
        if run.average is not None:
            share = 1 - min(run.settings.ema_decay, (1 + run.step) / (10 + run.step))
            for mean, slot in zip(run.average.values, _form(run).slots, strict=True):
                mean.assign_add(share * (slot.variable.value - mean))

    @contextmanager
    def averaged(self, run: Run) -> Iterator[None]:
        """See run.Engine."""
        if run.average is None:
            yield
            return
        slots = _form(run).slots
        own = [slot.variable.numpy() for slot in slots]
        _set(slots, [mean.numpy() for mean in run.average.values])
        try:
            yield
        finally:
            _set(slots, own)

    def out_of_memory(self, error: Exception) -> bool:
        """Whether that is what an error says."""
        return isinstance(error, tf.errors.ResourceExhaustedError)

    def forget(self, run: Run) -> None:
        """Nothing is held between steps."""

    def pack(self, run: Run) -> tuple[Arrays, dict[str, Any]]:
        """See run.Engine. What the optimizer gathered is in the order and layout of Keras."""
        form = _form(run)
        arrays = {f"weights/{name}": value for name, value in form.weights().items()}
        if run.average is not None:
            means = form.weights([mean.numpy() for mean in run.average.values])
            arrays |= {f"average/{name}": value for name, value in means.items()}
        for place, variable in enumerate(_gathered(run)):
            arrays[f"optimizer/{place}"] = np.array(variable.numpy(), copy=True)
        generators, rest = random_state_torch()
        return {**arrays, **generators}, {"random": rest, "threads": training_threads()}

    def load_weights(self, run: Run, weights: Arrays, average: Arrays) -> None:
        """See run.Engine."""
        try:
            _form(run).load(weights)
            if run.average is not None:
                for mean, value in zip(run.average.values, _form(run).values_of(average), strict=True):
                    mean.assign(value)
        except ValueError as error:
            message = f"the checkpoint is of another network: {str(error)[:300]}"
            raise FailedPrecondition("CHECKPOINT_MISMATCH", message, field="resume_from") from error

    def load_moments(self, run: Run, checkpoint: Checkpoint) -> None:
        """See run.Engine."""
        kept, variables = checkpoint.group("optimizer"), _gathered(run)
        for place, variable in enumerate(variables):
            value = kept.get(str(place))
            if value is None or value.shape != tuple(variable.shape) or len(kept) != len(variables):
                message = f"the checkpoint's optimizer state {place} does not fit {run.settings.optimizer} on this network"
                raise FailedPrecondition("CHECKPOINT_MISMATCH", message, field="resume_from")
            variable.assign(value)

    def load_scale(self, run: Run, checkpoint: Checkpoint) -> None:
        """Nothing: all is float32."""

    def load_random(self, run: Run, checkpoint: Checkpoint) -> None:
        """See run.Engine."""
        before, now = int(checkpoint.state.get("threads", 0)), training_threads()
        if run.settings.deterministic and before != now:
            message = (
                f"the run computed with {before} threads and goes on with {now}: its last digits may differ from an unbroken one"
            )
            note(run, "THREADS_DIFFER", message)
        restore_random_state_torch(checkpoint)

    def facts(self, run: Run, weights: Arrays) -> dict[str, Any]:
        """Frameworks, and how far apart the two forms of the network answer. Raises FailedPrecondition FORMS_DIFFER."""
        module: KerasNetwork = run.module  # type: ignore[assignment]
        source = module.source[0]
        source.load_state_dict(unpack_torch(weights))
        source.eval()
        module.form.load(weights)
        pictures = run.setup.train.sample(64).pictures[:VALIDATION_BATCH]
        with torch.inference_mode():
            x = pictures if pictures.ndim == 2 else scaled(pictures, run.scaling)
            ours, theirs = source(x), module(x)
        difference = float((ours - theirs).abs().max())
        if not difference <= SAME * max(1.0, float(theirs.abs().max())):
            message = f"the network that tensorflow trained and the one that is handed on differ by {difference:g} in a logit"
            raise FailedPrecondition("FORMS_DIFFER", message, difference=difference)
        return {
            "framework": self.name,
            "tensorflow": tf.__version__,
            "keras": keras.__version__,
            "torch": torch.__version__,
            "forms_differ_by": difference,
        }


KERAS = KerasEngine()


def targets_of(labels: Tensor, classes: int, criterion: Any) -> tuple[Tensor, Tensor]:
    """What a cross entropy of torch's makes of labels: probabilities [N, classes] and each example's share of the loss [N]; a
    squared error takes numbers [N, 1] as they are.

    labels: int64 [N], or probabilities. criterion: its `label_smoothing`, and its `weight` by class, which holds for labels that
    are one class.
    """
    if isinstance(criterion, nn.MSELoss):
        return labels, torch.full((len(labels),), 1 / len(labels))
    smoothing, weight = float(criterion.label_smoothing), criterion.weight
    one_each = not labels.is_floating_point()
    targets = nn.functional.one_hot(labels, classes).float() if one_each else labels
    shares = weight[labels] if weight is not None and one_each else torch.ones(len(labels))
    return targets * (1 - smoothing) + smoothing / classes, shares / shares.sum()


class _Step:
    """Changes the weights once; float32 arrays in, the loss out. Called with pictures [N, H, W, C] or rows [N, width], targets
    [N, classes], shares of the loss [N] and the rate. squared: the loss is the squared error, else the cross entropy."""

    def __init__(self, form: KerasForm, optimizer: Any, settings: Hyperparameters, *, squared: bool = False) -> None:
        self._model, self._optimizer, self._settings = form.model, optimizer, settings
        self._squared = squared
        self._variables = form.model.trainable_variables
        self._decays = [len(each.shape) >= 2 for each in self._variables]  # neither biases nor the scales of norms
        optimizer.build(self._variables)
        signature = [
            tf.TensorSpec([None, *form.model.input_shape[1:]], tf.float32),
            tf.TensorSpec([None, form.model.output_shape[1]], tf.float32),
            tf.TensorSpec([None], tf.float32),
            tf.TensorSpec([], tf.float32),
        ]
        self._graph = tf.function(self._computed, input_signature=signature, autograph=False)

    def __call__(self, pictures: Any, targets: Any, shares: Any, rate: float) -> Any:
        return self._graph(pictures, targets, shares, np.float32(rate))

    def _computed(self, pictures: Any, targets: Any, shares: Any, rate: Any) -> Any:
        settings = self._settings
        with tf.GradientTape() as tape:
            logits = self._model(pictures, training=True)
            missed = (logits - targets) ** 2 if self._squared else -targets * tf.nn.log_softmax(logits)
            loss = tf.reduce_sum(tf.reduce_sum(missed, 1) * shares)
        gradients = tape.gradient(loss, self._variables)
        decay = settings.weight_decay
        if decay and settings.optimizer not in ("adamw", "nadam"):
            pairs = zip(gradients, self._variables, self._decays, strict=True)
            gradients = [gradient + decay * variable.value if decays else gradient for gradient, variable, decays in pairs]
        if settings.clip_norm:
            gradients, _ = tf.clip_by_global_norm(gradients, settings.clip_norm)
        if decay and settings.optimizer in ("adamw", "nadam"):
            for variable, decays in zip(self._variables, self._decays, strict=True):
                if decays:
                    variable.assign(variable.value * (1 - rate * decay))
        self._optimizer.apply(gradients, self._variables)
        return loss


def _optimizer(settings: Hyperparameters) -> Any:
    """Constants as torch has them; decay is the step's."""
    rate, momentum = settings.base_lr, float(settings.momentum)
    if settings.optimizer == "sgd":
        return keras.optimizers.SGD(rate, momentum=momentum, nesterov=momentum > 0)
    if settings.optimizer == "rmsprop":
        return keras.optimizers.RMSprop(rate, rho=0.99, momentum=momentum, epsilon=1e-8)
    kind = keras.optimizers.Nadam if settings.optimizer == "nadam" else keras.optimizers.Adam
    return kind(rate, beta_1=momentum, beta_2=settings.beta2, epsilon=1e-8)


def _gathered(run: Run) -> list[Any]:
    """What the optimizer keeps between steps, the count of steps among it; not the rate, which the schedule knows."""
    return [each for each in run.optimizer.variables if each is not run.optimizer._learning_rate]


def _form(run: Run) -> KerasForm:
    module: KerasNetwork = run.module  # type: ignore[assignment]
    return module.form


def _set(slots: Any, values: list[Any]) -> None:
    for slot, value in zip(slots, values, strict=True):
        slot.variable.assign(value)


def _entering(x: Tensor) -> Any:
    """float [N, C, H, W] as an array [N, H, W, C]: of pictures in channels-last memory without a copy. Rows as they are."""
    return (x.permute(0, 2, 3, 1) if x.ndim == 4 else x).contiguous().numpy()


def _check(setup: Setup) -> None:
    if setup.precision not in ("auto", "float32"):
        message = f"precision is {setup.precision!r} (MODELYARD_PRECISION); with framework tensorflow auto or float32 is right"
        raise InvalidArgument("BAD_PRECISION", message, field="precision", value=setup.precision)
    if setup.group.shared:
        raise FailedPrecondition("ONE_PROCESS_ONLY", "a run in tensorflow trains in one process", value=setup.group.size)
