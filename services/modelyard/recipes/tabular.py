"""Recipes for tables, as data: what can be trained on a row of columns, and its settings. No library is imported here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from modelyard.core.errors import FieldViolation, InvalidArgument
from modelyard.recipes.recipe import MLP, TENSORFLOW, TORCH, Hyperparameters, Recipe

LIGHTGBM: Final = "lightgbm"
LINEAR: Final = "linear"
NETWORK: Final = "mlp"
"""What a model file calls a network of rows."""
AUTO: Final = "auto"
HIDDEN: Final = {MLP: (128, 64)}
"""Units of the hidden layers, by architecture."""

TABULAR_CLASSIFICATION: Final = "tabular_classification"
TABULAR_REGRESSION: Final = "tabular_regression"


@dataclass(frozen=True)
class TabularHyperparameters:
    """Settings of a tabular run. A field that is None is chosen by cross-validation (or on the validation examples).

    max_steps: most boosting rounds, 1 to 100,000. base_lr: shrinkage of each tree's answer, above 0 and at most 1.
    weight_decay: L2 penalty on leaves or coefficients, 0 to 1,000,000. early_stopping_patience: rounds without improvement on
    the validation examples before boosting stops, 0 never. seed: of the draws of rows, columns and folds, 0 to 2^31 - 1.
    """

    max_steps: int = 3000
    base_lr: float | None = None
    weight_decay: float | None = None
    early_stopping_patience: int = 100
    seed: int = 0

    def validate(self) -> None:
        """Raises InvalidArgument with reason INVALID_HYPERPARAMETER and one violation per field that is out of its range."""
        wrong = tuple(
            FieldViolation(f"hyperparameters.{name}", f"hyperparameters.{name} is {value!r}; {right} is right")
            for name, value, holds, right in self._checks()
            if not holds
        )
        if wrong:
            text = "; ".join(violation.description for violation in wrong)
            raise InvalidArgument("INVALID_HYPERPARAMETER", text, violations=wrong, name=wrong[0].field)

    def _checks(self) -> tuple[tuple[str, object, bool, str], ...]:
        rate, decay, patience = self.base_lr, self.weight_decay, self.early_stopping_patience
        return (
            ("max_steps", self.max_steps, 1 <= self.max_steps <= 100_000, "a whole number from 1 to 100000"),
            ("base_lr", rate, rate is None or 0 < rate <= 1, "a number above 0 and at most 1"),
            ("weight_decay", decay, decay is None or 0 <= decay <= 1e6, "a number from 0 to 1000000"),
            ("early_stopping_patience", patience, 0 <= patience <= 100_000, "a whole number from 0 to 100000"),
            ("seed", self.seed, 0 <= self.seed < 2**31, "a whole number from 0 to 2147483647"),
        )


@dataclass(frozen=True)
class ForecastHyperparameters(TabularHyperparameters):
    """Settings of a forecaster. horizon, context_length: readings that it says and looks back on, 1 to 64 and 2 to 512; None:
    found in the data. max_steps: of the network, where there is one."""

    horizon: int | None = None
    context_length: int | None = None

    def _checks(self) -> tuple[tuple[str, object, bool, str], ...]:
        ahead, back = self.horizon, self.context_length
        return (
            *super()._checks(),
            ("horizon", ahead, ahead is None or 1 <= ahead <= 64, "a whole number from 1 to 64"),
            ("context_length", back, back is None or 2 <= back <= 512, "a whole number from 2 to 512"),
        )


_SUMMARIES: Final = {
    AUTO: ("tabular-auto", "Tries trees and a linear model by cross-validation and keeps the better one"),
    LIGHTGBM: ("lightgbm", "Gradient boosted trees (LightGBM): the strongest on most tables"),
    LINEAR: ("linear", "Logistic or ridge regression: the smallest and fastest, strong on few rows"),
}

_OF_ROWS: Final = Hyperparameters(
    max_epochs=60, batch_size=64, base_lr=2e-3, weight_decay=0.02, warmup_steps=50, augmentation="none", ema_decay=0.99
)

_NETWORKS: Final = tuple(
    Recipe(
        name=name,
        task=task,
        architecture=MLP,
        hyperparameters=_OF_ROWS,
        parameters_m=0.01,
        summary=summary,
        framework=framework,
    )
    for task in (TABULAR_CLASSIFICATION, TABULAR_REGRESSION)
    for name, framework, summary in (
        ("mlp", TORCH, "A network with two hidden layers: for smooth relations and many rows, resumed as other networks are"),
        ("mlp-keras", TENSORFLOW, "mlp, trained by TensorFlow (Keras)"),
    )
)

_FITTED: Final = tuple(
    Recipe(name=name, task=task, architecture=architecture, tabular=TabularHyperparameters(), summary=summary)
    for task in (TABULAR_CLASSIFICATION, TABULAR_REGRESSION)
    for architecture, (name, summary) in _SUMMARIES.items()
)
TABULAR_RECIPES: Final = (*_FITTED, *_NETWORKS)
"""Recipes for tables, the most accurate first: `architecture` is `auto`, `lightgbm` or `linear`. Networks only when asked for."""
