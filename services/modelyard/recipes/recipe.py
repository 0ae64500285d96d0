"""A recipe: a task, an architecture, an input and hyperparameters. Plain data with its own validation; no torch here."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from modelyard.core.errors import FieldViolation, InvalidArgument
from modelyard.formats.dataset_descriptor import SERIES_CLASSIFICATION
from modelyard.formats.model import PictureInput
from modelyard.formats.tasks import task_of
from modelyard.recipes.policy import CUSTOM, NAMED, STRONG, named_policy
from modelyard.recipes.steps import Step, step_document

OPTIMIZERS = ("sgd", "adam", "adamw", "rmsprop", "nadam")
SCHEDULES = ("constant", "step", "cosine", "reduce_on_plateau", "one_cycle", "polynomial")
AUGMENTATIONS = (*NAMED, CUSTOM)
WEIGHTS = ("", "imagenet")
TORCH, TENSORFLOW = "torch", "tensorflow"
FRAMEWORKS = (TORCH, TENSORFLOW)
IN_TENSORFLOW = tuple(f"modelyard:{name}" for name in ("dscnn", "dscnn_micro", "micronet", "smallnet", "tinynet"))
"""Architectures that TensorFlow trains too: the worker makes the Keras form of the same network (worker/keras_form.py)."""
TENSORFLOW_TASKS = ("audio_classification", "image_classification")
MLP = "modelyard:mlp"
"""The network of rows of a table, in both frameworks."""
_TORCH_ONLY = {"frozen": 0.0, "backbone_lr": 1.0, "accumulation_steps": 1, "auto_batch_size": False, "auto_base_lr": False}
"""Hyperparameters that the TensorFlow engine does not have, and the values that ask for nothing."""
_NOT_OF_ROWS = {"augmentation": "none", "mixup": 0.0}
_NOT_OF_NUMBERS = {"label_smoothing": 0.0, "class_weights": False, "balanced_sampling": False}
"""Hyperparameters that a network of rows, and one for a regression, does not have, and the values that ask for nothing."""

__all__ = [
    "AUGMENTATIONS",
    "FRAMEWORKS",
    "IN_TENSORFLOW",
    "MLP",
    "OPTIMIZERS",
    "SCHEDULES",
    "TENSORFLOW",
    "TORCH",
    "WEIGHTS",
    "Hyperparameters",
    "PictureInput",
    "Recipe",
    "recipe_document",
    "unused_settings",
]


@dataclass(frozen=True)
class Hyperparameters:
    """Settings of a run of the torch training loop. Every field has a range; `validate` names the ones that are out of it.

    max_epochs: most passes over the training examples. max_steps: most optimizer steps, 0 means max_epochs alone decides.
    batch_size: examples per step; auto_batch_size: the largest that fits, at least that many. base_lr: learning rate after the
    warm-up; auto_base_lr: found by a range test instead. momentum: of SGD and RMSProp, beta1 of Adam; beta2: of Adam.
    weight_decay: decoupled for adamw, L2 otherwise; never applied to biases and norms. schedule, step_size (steps), gamma,
    plateau_patience (epochs) or plateau_steps (steps, 0: epochs count), power (of polynomial): how the rate moves. warmup_steps:
    linear rise from near 0, at most a tenth of the run. clip_norm: longest norm of a step's gradient, 0 any. accumulation_steps:
    parts that a step's batch is computed in. deterministic: the same run gives the same bits.
    early_stopping_patience: epochs without a better validation metric before the run stops, 0 never. augmentation: `none`,
    `light` (shift; flip where the data allow it), `standard` (crop, flip, colour), `strong` (recipes.policy) or `custom` (the
    recipe's own policy). mixup: alpha of the Beta distribution by
    which pairs of pictures and their labels are mixed, 0 to 10, 0 not at all (Zhang et al. 2018,
    https://arxiv.org/abs/1710.09412). ema_decay: the model is the running mean of the weights with this decay a step, 0 to 1,
    0 the weights themselves (Polyak and Juditsky 1992). class_weights: weighs the loss by inverse class frequency.
    balanced_sampling: each class is drawn equally often instead. frozen:
    leading share of the backbone's parameters (by count of layers) that stays as loaded, 0 to 0.95, only with weights to
    start from. backbone_lr: factor on base_lr for all but the head when it starts from weights. seed: of weights, order and
    augmentation.
    """

    max_epochs: int = 20
    max_steps: int = 0
    batch_size: int = 128
    optimizer: str = "adamw"
    base_lr: float = 3e-3
    momentum: float = 0.9
    weight_decay: float = 0.05
    schedule: str = "cosine"
    step_size: int = 1000
    gamma: float = 0.1
    plateau_patience: int = 3
    warmup_steps: int = 200
    early_stopping_patience: int = 0
    label_smoothing: float = 0.0
    augmentation: str = "light"
    mixup: float = 0.0
    ema_decay: float = 0.0
    class_weights: bool = False
    frozen: float = 0.0
    backbone_lr: float = 1.0
    seed: int = 0
    beta2: float = 0.999
    clip_norm: float = 0.0
    accumulation_steps: int = 1
    power: float = 1.0
    plateau_steps: int = 0
    auto_batch_size: bool = False
    auto_base_lr: bool = False
    deterministic: bool = False
    balanced_sampling: bool = False

    def validate(self) -> None:
        """Raises InvalidArgument with reason INVALID_HYPERPARAMETER and one violation per field that is out of its range."""
        wrong = [_violation(name, getattr(self, name), right) for name, right in self._ranges().items() if right]
        if wrong:
            first = wrong[0]
            text = "; ".join(each.description for each in wrong)
            name = first.field.removeprefix("hyperparameters.")
            values = {"field": first.field, "value": getattr(self, name)}
            raise InvalidArgument("INVALID_HYPERPARAMETER", text, violations=tuple(wrong), **_named(values))

    def _ranges(self) -> dict[str, str]:
        """What would be right for each field, empty where the value is."""
        return {
            "max_epochs": _whole(self.max_epochs, 1, 10_000),
            "max_steps": _whole(self.max_steps, 0, 100_000_000),
            "batch_size": _whole(self.batch_size, 1, 65_536),
            "optimizer": _one_of(self.optimizer, OPTIMIZERS),
            "base_lr": _real(self.base_lr, 0, 100, above=True),
            "momentum": _real(self.momentum, 0, 1, below=True),
            "weight_decay": _real(self.weight_decay, 0, 10),
            "schedule": _one_of(self.schedule, SCHEDULES),
            "step_size": _whole(self.step_size, 1, 100_000_000),
            "gamma": _real(self.gamma, 0, 1, above=True, below=True),
            "plateau_patience": _whole(self.plateau_patience, 1, 10_000),
            "warmup_steps": _whole(self.warmup_steps, 0, 100_000_000),
            "early_stopping_patience": _whole(self.early_stopping_patience, 0, 10_000),
            "label_smoothing": _real(self.label_smoothing, 0, 1, below=True),
            "augmentation": _one_of(self.augmentation, AUGMENTATIONS),
            "mixup": _real(self.mixup, 0, 10),
            "ema_decay": _real(self.ema_decay, 0, 1, below=True),
            "class_weights": _yes_or_no(self.class_weights),
            "frozen": _real(self.frozen, 0, 0.95),
            "backbone_lr": _real(self.backbone_lr, 0, 1, above=True),
            "seed": _whole(self.seed, 0, 2**63 - 1),
            "beta2": _real(self.beta2, 0, 1, below=True),
            "clip_norm": _real(self.clip_norm, 0, 1_000_000),
            "accumulation_steps": _whole(self.accumulation_steps, 1, 1024),
            "power": _real(self.power, 0, 10, above=True),
            "plateau_steps": _whole(self.plateau_steps, 0, 100_000_000),
            "auto_batch_size": _yes_or_no(self.auto_batch_size),
            "auto_base_lr": _yes_or_no(self.auto_base_lr),
            "deterministic": _yes_or_no(self.deterministic),
            "balanced_sampling": _yes_or_no(self.balanced_sampling),
        }


@dataclass(frozen=True)
class Recipe:
    """What is trained and how.

    name: its name in the catalogue. task: as in a model card. architecture: `timm:NAME` (a classifier of timm), `modelyard:NAME`
    (ours, see build_*), `lightgbm` or `linear`. input: for pictures; None: chosen for the dataset. hyperparameters: of the
    torch loop; tabular: those of a tabular recipe (recipes.tabular.TabularHyperparameters). parameters_m: millions of trainable
    parameters. weights: what it starts from, `` (random) or `imagenet` where the installation has them, else random.
    summary: one line for people. smallest_side: smallest input in pixels it makes sense for. features: of a table, its feature
    pipeline (recipes.features); augmentation: a policy of its own (recipes.policy); each checked, every setting filled.
    framework: what trains it, one of FRAMEWORKS; the model is the same file either way.
    """

    name: str
    task: str
    architecture: str
    input: PictureInput | None = None
    hyperparameters: Hyperparameters = field(default_factory=Hyperparameters)
    tabular: Any = None
    parameters_m: float = 0.0
    weights: str = ""
    summary: str = ""
    smallest_side: int = 1
    features: tuple[Step, ...] = ()
    augmentation: tuple[Step, ...] = ()
    framework: str = TORCH

    @property
    def policy(self) -> tuple[Step, ...]:
        """The steps by which training examples are changed; empty where a level of augmentation alone says it, or nothing is
        changed."""
        if self.augmentation or self.tabular is not None:
            return self.augmentation
        level = self.hyperparameters.augmentation
        return named_policy(self.task, level) if level == STRONG or self.task == SERIES_CLASSIFICATION else ()

    def validate(self) -> None:
        """Raises InvalidArgument naming the field that is wrong: reason INVALID_RECIPE or INVALID_HYPERPARAMETER."""
        if self.weights not in WEIGHTS:
            message = f"weights is {self.weights!r}; one of '' (random) and 'imagenet' is right"
            raise InvalidArgument("INVALID_RECIPE", message, field="weights", value=self.weights)
        if self.tabular is not None:
            self.tabular.validate()
        if self.framework != TORCH:
            _check_framework(self)
        if self.tabular is not None:
            return
        if self.input is not None:
            _check_input(self.input)
        _check_unused(self, unused_settings(self), f"for {self.name} and {self.task}")
        self.hyperparameters.validate()

    def with_changes(self, **changes: Any) -> Recipe:
        """The same recipe with hyperparameters changed; None leaves a value as it is."""
        kept = {name: value for name, value in changes.items() if value is not None}
        return replace(self, hyperparameters=replace(self.hyperparameters, **kept))


def recipe_document(recipe: Recipe) -> dict[str, Any]:
    """A recipe as JSON values, for a model card or a ledger. Without a framework it is torch's."""
    document = asdict(recipe)
    document.pop("hyperparameters" if recipe.tabular is not None else "tabular")
    for name, steps in (("features", recipe.features), ("augmentation", recipe.augmentation)):
        if steps:
            document[name] = [step_document(step) for step in steps]
        else:  # as recipes without them always were
            del document[name]
    if recipe.framework == TORCH:
        document.pop("framework")
    return document


def _check_framework(recipe: Recipe) -> None:
    """Raises InvalidArgument INVALID_RECIPE for what another framework than torch does not train, INVALID_HYPERPARAMETER."""
    name = recipe.framework
    if name not in FRAMEWORKS:
        message = f"framework is {name!r}; one of {', '.join(FRAMEWORKS)} is right"
        raise InvalidArgument("INVALID_RECIPE", message, field="framework", value=name)
    rows = recipe.architecture == MLP and task_of(recipe.task).table
    if not rows and (recipe.architecture not in IN_TENSORFLOW or recipe.task not in TENSORFLOW_TASKS):
        what = f"{recipe.architecture} for {recipe.task}"
        known = f"{', '.join(IN_TENSORFLOW)} for {', '.join(TENSORFLOW_TASKS)}, and {MLP} for tables"
        message = f"framework is {name!r}, which trains {known}, not {what}"
        raise InvalidArgument("INVALID_RECIPE", message, field="framework", value=name)
    if recipe.weights:
        message = f"weights is {recipe.weights!r}; with framework {name!r} only '' (random) is right: there are none to load"
        raise InvalidArgument("INVALID_RECIPE", message, field="weights", value=recipe.weights)
    _check_unused(recipe, _TORCH_ONLY, f"with framework {name!r}")


def unused_settings(recipe: Recipe) -> dict[str, Any]:
    """Hyperparameters that say nothing to the recipe's network, and the values that ask for nothing: of one of rows."""
    if recipe.architecture != MLP:
        return {}
    return _NOT_OF_ROWS if task_of(recipe.task).one_label else _NOT_OF_ROWS | _NOT_OF_NUMBERS


def _check_unused(recipe: Recipe, nothing: dict[str, Any], where: str) -> None:
    """Raises InvalidArgument INVALID_HYPERPARAMETER for those that are set. nothing: the values that ask for nothing, by name."""
    found = {each: getattr(recipe.hyperparameters, each) for each in nothing}
    wrong = [_violation(each, value, f"{nothing[each]} {where}") for each, value in found.items() if value != nothing[each]]
    if wrong:
        text = "; ".join(each.description for each in wrong)
        raise InvalidArgument("INVALID_HYPERPARAMETER", text, violations=tuple(wrong), name=wrong[0].field)


def _check_input(picture: PictureInput) -> None:
    for name in ("height", "width"):
        value = getattr(picture, name)
        if not 8 <= value <= 1024:
            message = f"input_{name} is {value}; 8 to 1024 pixels are right"
            raise InvalidArgument("INVALID_RECIPE", message, field=f"input_{name}", value=value)
    if picture.channels not in (1, 3):
        message = f"input_channels is {picture.channels}; 1 (grey) or 3 (RGB) is right"
        raise InvalidArgument("INVALID_RECIPE", message, field="input_channels", value=picture.channels)


def _violation(name: str, value: object, right: str) -> FieldViolation:
    path = f"hyperparameters.{name}"
    return FieldViolation(path, f"{path} is {value!r}; {right} is right")


def _named(values: dict[str, object]) -> dict[str, Any]:
    """ErrorInfo metadata: `field` is a keyword of the error itself, so the path goes under `name`."""
    return {"name": values["field"], "value": values["value"]}


def _whole(value: object, low: int, high: int) -> str:
    good = isinstance(value, int) and not isinstance(value, bool) and low <= value <= high
    return "" if good else f"a whole number from {low} to {high}"


def _real(value: object, low: float, high: float, *, above: bool = False, below: bool = False) -> str:
    """`above`: low itself is out. `below`: high itself is out."""
    if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
        over = value > low if above else value >= low
        under = value < high if below else value <= high
        if over and under:
            return ""
    return f"a number {'above' if above else 'from'} {low} {'and below' if below else 'to'} {high}"


def _yes_or_no(value: object) -> str:
    return "" if isinstance(value, bool) else "true or false"


def _one_of(value: object, names: tuple[str, ...]) -> str:
    return "" if value in names else f"one of {', '.join(names)}"
