"""From a recipe's framework to the engine that computes its run."""

from __future__ import annotations

from modelyard.recipes.recipe import TENSORFLOW
from modelyard.runtime.device import chosen_device
from modelyard.trainer.worker.run import Engine


def engine_of(framework: str) -> Engine:
    """Raises FailedPrecondition FRAMEWORK_NOT_INSTALLED."""
    if framework == TENSORFLOW:
        from modelyard.trainer.worker.keras_engine import KERAS

        return KERAS
    from modelyard.trainer.worker.torch_engine import TORCH

    return TORCH


def device_of(framework: str, wanted: str) -> str:
    """The device to open for a framework. Raises FailedPrecondition DEVICE_NOT_AVAILABLE for a GPU that it does not use here."""
    if framework != TENSORFLOW:
        return wanted
    return chosen_device(wanted, cuda=False, why_not="tensorflow trains on the processor here; framework torch uses a GPU")
