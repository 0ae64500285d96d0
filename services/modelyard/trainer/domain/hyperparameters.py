"""Which hyperparameters a request may set, and their ranges as the contract states them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from modelyard.core.errors import FieldViolation, InvalidArgument
from modelyard.recipes.policy import CUSTOM, NAMED
from modelyard.recipes.rules import OneOf, Real, Rule, Whole, YesOrNo

# A seed travels as a JSON number, which is exact up to here.
LARGEST_SEED: Final = 2**53 - 1


RULES: Final[Mapping[str, Rule]] = {
    "max_epochs": Whole(1, 10_000),
    "max_steps": Whole(1, 100_000_000),
    "batch_size": Whole(1, 65_536),
    "optimizer": OneOf(("sgd", "adam", "adamw", "rmsprop", "nadam")),
    "base_lr": Real(0, 100, low_in=False),
    "momentum": Real(0, 1, high_in=False),
    "weight_decay": Real(0, 10),
    "schedule": OneOf(("constant", "step", "cosine", "reduce_on_plateau", "one_cycle", "polynomial")),
    "step_size": Whole(1, 100_000_000),
    "gamma": Real(0, 1, low_in=False, high_in=False),
    "plateau_patience": Whole(1, 10_000),
    "warmup_steps": Whole(0, 100_000_000),
    "early_stopping_patience": Whole(0, 10_000),
    "label_smoothing": Real(0, 1, high_in=False),
    "augmentation": OneOf((*NAMED, CUSTOM)),
    "seed": Whole(0, LARGEST_SEED),
    "mixup": Real(0, 10),
    "ema_decay": Real(0, 1, high_in=False),
    "beta2": Real(0, 1, high_in=False),
    "clip_norm": Real(0, 1_000_000),
    "accumulation_steps": Whole(1, 1024),
    "class_weights": YesOrNo(),
    "balanced_sampling": YesOrNo(),
    "deterministic": YesOrNo(),
    "power": Real(0, 10, low_in=False),
    "plateau_steps": Whole(0, 100_000_000),
    "auto_batch_size": YesOrNo(),
    "auto_base_lr": YesOrNo(),
    "frozen": Real(0, 0.95),
    "backbone_lr": Real(0, 1, low_in=False),
    "horizon": Whole(1, 64),
    "context_length": Whole(2, 512),
}
"""Every hyperparameter of the contract with its rule (protos/modelyard/trainer/v1/trainer.proto)."""


_CHOSEN_BY: Final = {"auto_batch_size": "batch_size", "auto_base_lr": "base_lr"}


def settled(values: Mapping[str, object]) -> dict[str, object]:
    """The values, where a size or rate that is given switches off its search: what a run goes on with, or a user names."""
    off = {auto: False for auto, name in _CHOSEN_BY.items() if name in values and auto not in values}
    return {**values, **off}


def check_hyperparameters(values: Mapping[str, object], path: str) -> None:
    """Raises InvalidArgument INVALID_HYPERPARAMETER with one violation per value out of its range; `path` is where they stand."""
    wrong = [(name, value, RULES[name]) for name, value in values.items() if not RULES[name].holds(value)]
    if not wrong:
        _check_one_of_both(values, path)
        return
    violations = tuple(
        FieldViolation(f"{path}.{name}", f"{path}.{name} is {value!r}; it must be {rule.right}") for name, value, rule in wrong
    )
    name, value, rule = wrong[0]
    raise InvalidArgument(
        "INVALID_HYPERPARAMETER",
        "; ".join(violation.description for violation in violations),
        violations=violations,
        name=f"{path}.{name}",
        value=value,
        expected=rule.right,
    )


def _check_one_of_both(values: Mapping[str, object], path: str) -> None:
    for auto, name in _CHOSEN_BY.items():
        if values.get(auto) is True and name in values:
            message = f"{path}.{auto} asks the run to choose {name}, and {path}.{name} is {values[name]!r}; give one of the two"
            raise InvalidArgument(
                "INVALID_HYPERPARAMETER", message, field=f"{path}.{name}", name=f"{path}.{name}", value=values[name]
            )
