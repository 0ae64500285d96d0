"""TensorFlow and Keras, imported in the order and with the settings that work beside torch: see runtime.tensorflow_import."""

from __future__ import annotations

import contextlib
import importlib.util
import os

from modelyard.core.errors import FailedPrecondition

if importlib.util.find_spec("tensorflow") is None:
    raise FailedPrecondition(
        "FRAMEWORK_NOT_INSTALLED",
        "the recipe's framework is tensorflow, which is not installed where training runs: pip install modelyard[tensorflow], "
        "or take framework torch, which trains the same networks",
        field="training_job.recipe.framework",
        value="tensorflow",
    )

os.environ["KERAS_BACKEND"] = "tensorflow"  # read when Keras is imported; a file in the user's home might say another one

from modelyard.runtime.tensorflow_import import tensorflow
from modelyard.trainer.worker.processors import training_threads

import keras  # isort: skip  # after TensorFlow, whose import has an order of its own


def settle_threads() -> None:
    """As many threads for an operation as training may use, one operation at a time: the networks are chains. Once TensorFlow has
    computed, it stays as it is."""
    with contextlib.suppress(RuntimeError):
        tensorflow.config.threading.set_intra_op_parallelism_threads(training_threads())
        tensorflow.config.threading.set_inter_op_parallelism_threads(1)


__all__ = ["keras", "settle_threads", "tensorflow"]
