"""The experiment behind a model: what, put together again, gives it again."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

FINGERPRINT_OF: Final = ("dataset_digest", "recipe", "seed", "code_version")


@dataclass(frozen=True)
class Experiment:
    """How a model version was made. `recipe` is resolved: every setting with the value that was used."""

    model_version: str
    dataset_version: str
    dataset_digest: str
    training_job: str = ""
    parent_version: str = ""
    recipe: Mapping[str, Any] = field(default_factory=dict)
    licence: str = ""
    create_time: str = ""

    @property
    def seed(self) -> int:
        """The seed of weights, order and augmentation."""
        return int(self.recipe.get("hyperparameters", {}).get("seed", 0))


def fingerprint(experiment: Experiment, code_version: str) -> str:
    """The sha256 over FINGERPRINT_OF as canonical JSON: the same for the same data, recipe, seed and code."""
    values = (experiment.dataset_digest, dict(experiment.recipe), experiment.seed, code_version)
    text = json.dumps(dict(zip(FINGERPRINT_OF, values, strict=True)), sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()
