"""What a compressed model must keep to, the roads there, and the trail of what was tried.

A road is one way to an artifact. Roads are walked cheapest first; each artifact is measured, never estimated, and judged by the
limits. The rules here know nothing of torch: what makes and measures is in
worker/planner.py. docs/decisions/0011-compression-planner.md says why the rules are these.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from modelyard.core.errors import FailedPrecondition
from modelyard.core.latency import Latency
from modelyard.exporter.domain.form import DYNAMIC_INT8, EDGE, FP16, FP32, INT8, LITERT, PRECISIONS_OF, Form
from modelyard.formats.tasks import task_of
from modelyard.statistics.intervals import percentiles, wilson
from modelyard.statistics.paired import tango

Array = NDArray[Any]

DEFAULT_MAX_LOSS: Final = 0.01
"""What `max_loss` 0 means: a point of accuracy, or a hundredth of the rmse."""
LONGEST_MS: Final = 20_000.0
ERRORS: Final = ("rmse", "mae")
"""Metrics that are better when lower."""

POST_TRAINING: Final = "post_training"
AWARE: Final = "aware_training"

PLAIN, EQUALIZED, MIXED, QAT, PRUNED = "plain", "equalized", "mixed", "qat", "pruned"
"""Means by which a road changes the model before it is converted."""

TRAINING: Final = (QAT, PRUNED)
PRUNED_SHARES: Final = (0.3, 0.5)
"""Channels that are cut out, one road each."""

DRAWS: Final = 500
"""Draws of the bootstrap."""


@dataclass(frozen=True)
class CompressionLimits:
    """Limits within which the planner chooses; 0 and empty as in the contract.

    max_size_bytes: of the model file. max_latency_ms: p95. max_loss: in the metric's own unit, 0 to 1. max_ram_bytes: for
    activations on a microcontroller; it is the target's, not the caller's.
    """

    max_size_bytes: int = 0
    max_latency_ms: float = 0.0
    max_loss: float = 0.0
    metric: str = ""
    skip_training: bool = False
    max_ram_bytes: int = 0

    @property
    def allowed_loss(self) -> float:
        """The loss that is allowed, with its default."""
        return self.max_loss or DEFAULT_MAX_LOSS

    @property
    def only_loss(self) -> bool:
        """Whether neither size nor latency nor memory is limited."""
        return not (self.max_size_bytes or self.max_latency_ms or self.max_ram_bytes)


@dataclass(frozen=True)
class Figure:
    """A metric with its 95 percent interval."""

    name: str
    value: float
    lower: float
    upper: float
    higher_is_better: bool


@dataclass(frozen=True)
class CompressionStep:
    """One road that was tried, with what was measured on its artifact.

    quantization: "", POST_TRAINING or AWARE. size_bytes: of the model file; 0 when it could not be made. loss: against the float
    model on the same validation examples; below 0 is a gain. message: why it was accepted or not, in a sentence. ram_bytes: for
    its activations; 0 where that is not known.
    """

    road: str
    format: str
    precision: str
    quantization: str = ""
    size_bytes: int = 0
    latency: Latency | None = None
    metric: Figure | None = None
    loss: Figure | None = None
    accepted: bool = False
    message: str = ""
    ram_bytes: int = 0


@dataclass(frozen=True)
class Road:
    """One way to an artifact. name: in words. means: what is done to the model first. channels: share that is cut out."""

    name: str
    form: Form
    means: str = PLAIN
    channels: float = 0.0

    @property
    def quantization(self) -> str:
        """How its ranges are found."""
        if self.form.precision != INT8:
            return ""
        return AWARE if self.means in TRAINING else POST_TRAINING

    @property
    def trains(self) -> bool:
        """Whether it goes on training."""
        return self.means in TRAINING

    @property
    def repairs_loss_only(self) -> bool:
        """Whether its artifact is as large and as slow as that of plain int8, so that it can only lose less."""
        return self.means in (EQUALIZED, MIXED, QAT)


# The roads


def reference_form(format: str) -> Form:
    """The float form that the others are compared with: of the same format where it has one, LiteRT for microcontrollers."""
    return Form(LITERT if format == EDGE else format, FP32)


def roads(format: str, precision: str, limits: CompressionLimits, accelerator: str = "", task: str = "") -> tuple[Road, ...]:
    """The roads to an artifact of a format, cheapest first; the float model is always the first. precision: "" for any. task: of
    one that is not compressed (formats.tasks) the plain roads, to the forms that it has."""
    there = PRECISIONS_OF[format]
    wanted = (precision,) if precision else there
    found = [Road("float", reference_form(format))]
    if FP16 in wanted:
        found.append(Road("half precision", Form(format, FP16)))
    if DYNAMIC_INT8 in wanted and (precision or format == LITERT):  # onnxruntime's dynamic convolutions are slower than float
        found.append(Road("int8 weights, ranges as they come", Form(format, DYNAMIC_INT8)))
    if INT8 in wanted:
        found += _int8_roads(Form(format, INT8, accelerator=accelerator))
    elif FP32 in wanted or FP16 in wanted:
        form = Form(format, precision or FP32)
        found += [Road(f"{share:.0%} of the channels pruned, trained on", form, PRUNED, share) for share in PRUNED_SHARES]
    if task and not task_of(task).compressed:
        possible = task_of(task).forms.get(format, ())
        found = [road for road in found if road.means == PLAIN and road.form.precision in possible]
    return tuple(road for road in found if not (road.trains and limits.skip_training))


def _int8_roads(form: Form) -> list[Road]:
    found = [
        Road("int8 after training, per channel", form),
        Road("int8 after training, layers equalized", form, EQUALIZED),
    ]
    if form.format != EDGE:  # a microcontroller's kernels are integer ones
        found.append(Road("int8 after training, the layers that hurt most in float", form, MIXED))
    found.append(Road("int8 with quantization-aware training", form, QAT))
    found += [
        Road(f"{share:.0%} of the channels pruned, int8 with quantization-aware training", form, PRUNED, share)
        for share in PRUNED_SHARES
    ]
    return found


# The walk


def eligible(road: Road, format: str, precision: str) -> bool:
    """Whether a road's artifact is of the form that was asked for; the float model of another form only serves as the measure."""
    return road.form.format == format and (not precision or road.form.precision == precision)


def worth_trying(road: Road, trail: Sequence[CompressionStep], limits: CompressionLimits) -> bool:
    """Whether a road can reach what the ones before it did not.

    Nothing in int8 is tried when plain int8 could not be made. Means that only lose less are left out when plain int8 is too
    large or too slow; training is left out when a smaller model than float is already accepted and only the loss is limited;
    pruning is left out unless size or latency is what fails.
    """
    plain = next((step for step in trail if step.precision == INT8), None)
    if plain is not None and not plain.size_bytes and road.form.precision == INT8:
        return False
    misses = plain is not None and _misses(plain, limits)
    if road.repairs_loss_only:
        return not misses and not (road.trains and _smaller_accepted(trail))
    if road.means == PRUNED:
        return misses or (bool(trail) and _misses(trail[0], limits) and road.form.precision != INT8)
    return True


def finished(trail: Sequence[CompressionStep], limits: CompressionLimits) -> bool:
    """Whether the walk ends here: at the first accepted road, or, with only the loss limited, at the first accepted int8 one."""
    if not trail or not trail[-1].accepted:
        return False
    return not limits.only_loss or trail[-1].precision == INT8


def chosen(trail: Sequence[CompressionStep], limits: CompressionLimits) -> int | None:
    """The step to take: the first accepted one; with only the loss limited, the accepted one with the smallest file."""
    accepted = [number for number, step in enumerate(trail) if step.accepted]
    if not accepted:
        return None
    return min(accepted, key=lambda number: trail[number].size_bytes) if limits.only_loss else accepted[0]


def _misses(step: CompressionStep, limits: CompressionLimits) -> bool:
    """Whether a step's artifact is too large or too slow."""
    return bool(_too_large(step, limits) or _too_much_memory(step, limits) or _too_slow(step, limits))


def _smaller_accepted(trail: Sequence[CompressionStep]) -> bool:
    return any(step.accepted and step.precision != FP32 for step in trail)


# The judgement


def judged(step: CompressionStep, limits: CompressionLimits, *, counts: bool = True) -> CompressionStep:
    """The step with its verdict and the reason in words. counts: False for a float model that only serves as the measure."""
    tests = (_too_large, _too_much_memory, _too_slow, _too_lossy)
    failures = [text for text in (test(step, limits) for test in tests) if text]
    if not counts:
        return replace(step, accepted=False, message="the measure of what the others lose; another form was asked for")
    if failures:
        return replace(step, accepted=False, message="not accepted: " + "; ".join(failures))
    return replace(step, accepted=True, message="accepted: " + _kept(step, limits))


def taken(step: CompressionStep) -> CompressionStep:
    """The accepted step whose artifact is the result."""
    return replace(step, message=f"{step.message}; this one was taken")


def fallback(trail: Sequence[CompressionStep], *, skipped_training: bool) -> CompressionStep:
    """The last step of a trail on which every road failed: the float model, and that it is one."""
    first = trail[0]
    hint = "; training was left out, allow it to try more" if skipped_training else ""
    message = f"no road of {len(trail)} keeps to every limit: this is the float model, uncompressed{hint}"
    return replace(first, road="float, because every road failed", accepted=False, message=message)


def check_measurable(limits: CompressionLimits, unmeasured_reason: str) -> None:
    """Raises FailedPrecondition LATENCY_UNMEASURED where a latency is limited that nobody can measure."""
    if limits.max_latency_ms and unmeasured_reason:
        message = f"limits.max_latency_ms is {limits.max_latency_ms:g}, but the latency cannot be measured: {unmeasured_reason}"
        raise FailedPrecondition("LATENCY_UNMEASURED", message, field="export.limits.max_latency_ms")


def _too_large(step: CompressionStep, limits: CompressionLimits) -> str:
    if limits.max_size_bytes and step.size_bytes > limits.max_size_bytes:
        return f"{step.size_bytes} bytes, at most {limits.max_size_bytes} are allowed"
    return ""


def _too_much_memory(step: CompressionStep, limits: CompressionLimits) -> str:
    if limits.max_ram_bytes and step.ram_bytes > limits.max_ram_bytes:
        return f"about {step.ram_bytes} bytes of RAM, the target has {limits.max_ram_bytes}"
    return ""


def _too_slow(step: CompressionStep, limits: CompressionLimits) -> str:
    if not limits.max_latency_ms:
        return ""
    if step.latency is None:
        return "its latency could not be measured"
    if step.latency.p95_ms <= limits.max_latency_ms:
        return ""
    return f"p95 latency {step.latency.p95_ms:.3g} ms, at most {limits.max_latency_ms:g} ms is allowed"


def _too_lossy(step: CompressionStep, limits: CompressionLimits) -> str:
    if step.loss is None:
        return "its loss could not be measured"
    if step.loss.value <= limits.allowed_loss + 1e-12:
        return ""
    return (
        f"loses {step.loss.value:.4f} {_watched(step)} ({step.loss.lower:.4f} to {step.loss.upper:.4f}), "
        f"at most {limits.allowed_loss:g} is allowed"
    )


def _kept(step: CompressionStep, limits: CompressionLimits) -> str:
    parts = [f"{step.size_bytes} bytes"]
    if step.latency is not None:
        parts.append(f"p95 {step.latency.p95_ms:.3g} ms")
    if step.loss is not None:
        parts.append(f"loses {step.loss.value:.4f} {_watched(step)} of {limits.allowed_loss:g} allowed")
    return ", ".join(parts)


def _watched(step: CompressionStep) -> str:
    return step.metric.name if step.metric else ""


# The loss, paired


def metric_name(limits: CompressionLimits, task: str) -> str:
    """The metric that is watched."""
    return limits.metric or ("rmse" if task.endswith("regression") else "accuracy")


def measured_figures(name: str, before: Array, after: Array, *, seed: int = 0) -> tuple[Figure, Figure]:
    """The mean of figures of pictures [N], and what it lost against the float model's for the same pictures, with 95 percent
    intervals. Raises FailedPrecondition NO_EXAMPLES without any."""
    if not len(after):
        raise FailedPrecondition("NO_EXAMPLES", "there is no validation example to measure the loss on")
    lost = before - after
    draws = np.array([(after[rows].mean(), lost[rows].mean()) for rows in _draws(len(after), seed)])
    metric, loss = float(after.mean()), float(lost.mean())
    return (
        Figure(name, metric, *percentiles(draws[:, 0], metric), True),
        Figure("loss", loss, *percentiles(draws[:, 1], loss), False),
    )


def measured_loss(name: str, truth: Array, float_answers: Array, answers: Array, *, seed: int = 0) -> tuple[Figure, Figure]:
    """The metric of `answers`, and what it lost against the float model's on the same examples, with 95 percent intervals.

    truth [N]: class indices or numbers. Answers [N, outputs]: probabilities, or [N, 1] numbers. The loss of an error (rmse, mae)
    is the share by which it grew. Accuracy: Wilson's interval and, for the loss, Tango's, as the gate will judge it; the others:
    percentiles of a bootstrap over examples, the same draws for both. Raises FailedPrecondition NO_EXAMPLES without any.
    """
    if not len(truth):
        raise FailedPrecondition("NO_EXAMPLES", "there is no validation example to measure the loss on")
    before, after = _answered(name, float_answers), _answered(name, answers)
    if name == "accuracy":
        return _accuracy_loss(before == truth, after == truth)
    return _bootstrapped_loss(name, truth, before, after, seed)


def metric_value(name: str, truth: Array, answered: Array) -> float:
    """A metric of classes [N] or numbers [N] against the truth."""
    if name in ERRORS:
        difference = np.abs(answered.astype(np.float64) - truth)
        return float(np.sqrt((difference**2).mean()) if name == "rmse" else difference.mean())
    if name == "accuracy":
        return float((answered == truth).mean())
    return _macro(name, truth.astype(np.int64), answered.astype(np.int64))


def _macro(name: str, truth: Array, answered: Array) -> float:
    """The mean over the classes that occur in the truth, of recall or F1."""
    classes = int(max(truth.max(), answered.max())) + 1
    right = np.bincount(truth[truth == answered], minlength=classes)
    actual, named = np.bincount(truth, minlength=classes), np.bincount(answered, minlength=classes)
    there = actual > 0
    whole = actual if name == "recall_macro" else (actual + named) / 2
    return float((right[there] / whole[there]).mean())


def _answered(name: str, answers: Array) -> Array:
    if name in ERRORS:
        return answers.reshape(len(answers), -1)[:, 0]
    found: Array = answers.argmax(axis=1)
    return found


def _accuracy_loss(before: Array, after: Array) -> tuple[Figure, Figure]:
    count, right = len(before), int(after.sum())
    lost, gained = int((before & ~after).sum()), int((~before & after).sum())
    loss = Figure("loss", (lost - gained) / count, *tango(lost, gained, count), False)
    return Figure("accuracy", right / count, *wilson(right, count), True), loss


def _bootstrapped_loss(name: str, truth: Array, before: Array, after: Array, seed: int) -> tuple[Figure, Figure]:
    pairs = [_pair(name, truth[rows], before[rows], after[rows]) for rows in _draws(len(truth), seed)]
    metrics, losses = np.asarray(pairs).T
    metric, loss = _pair(name, truth, before, after)
    return (
        Figure(name, metric, *percentiles(metrics, metric), name not in ERRORS),
        Figure("loss", loss, *percentiles(losses, loss), False),
    )


def _pair(name: str, truth: Array, before: Array, after: Array) -> tuple[float, float]:
    """Metric and loss."""
    old, new = metric_value(name, truth, before), metric_value(name, truth, after)
    return new, (new - old) / max(old, 1e-30) if name in ERRORS else old - new


def _draws(count: int, seed: int) -> Iterator[Array]:
    generator = np.random.default_rng(seed)
    return (generator.integers(0, count, count) for _ in range(DRAWS))
