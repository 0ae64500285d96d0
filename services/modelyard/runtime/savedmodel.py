"""Runs a bundle's TensorFlow SavedModel, by its serving signature.

TensorFlow reads a SavedModel from a folder, so the bundle's files stand in a temporary one while it does. What its graph may hold
is looked at before (runtime/savedmodel_check.py).

Threads are TensorFlow's for the whole process: the first model loaded in it decides.
"""

from __future__ import annotations

import contextlib
import tempfile
from pathlib import Path
from typing import Any, Final

from modelyard.core.errors import InvalidArgument
from modelyard.formats.bundle import Bundle
from modelyard.formats.bundle_files import SAVED_MODEL, SAVED_MODEL_FOLDER
from modelyard.runtime.device import only_cpu
from modelyard.runtime.inputs import Tensors
from modelyard.runtime.native_words import words_of
from modelyard.runtime.savedmodel_check import check_saved_model
from modelyard.runtime.tensorflow_import import saved_model_pb2, tensorflow
from modelyard.runtime.wires import GraphTensor, connect

SIGNATURE: Final = "serving_default"


class SavedModelEngine:
    """A loaded SavedModel, which answers any number of calls at once."""

    def __init__(self, bundle: Bundle, threads: int) -> None:
        """Raises InvalidArgument INVALID_BUNDLE, UNSUPPORTED_OPERATOR."""
        _check_operators(bundle)
        _settle(threads)
        self._loaded = _loaded(bundle)
        self._call = _signature(bundle, self._loaded)
        inputs, outputs = _graph_tensors(self._call)
        self._inputs, self._outputs = connect(bundle.path, bundle.card, inputs, outputs)

    def run(self, tensors: Tensors) -> Tensors:
        """See Engine.run."""
        given = {
            wire.tensor.names[0]: tensorflow.constant(wire.entering(tensors[wire.spec.name]), dtype=wire.tensor.dtype)
            for wire in self._inputs
        }
        answers = self._call(**given)
        return {wire.spec.name: wire.leaving(answers[wire.tensor.names[0]].numpy()) for wire in self._outputs}

    def close(self) -> None:
        """See Engine.close."""
        self._call = self._loaded = None


def load(bundle: Bundle, threads: int, concurrency: int, device: str) -> SavedModelEngine:
    """The engine of a bundle. `concurrency` does not matter: a signature is not in one call's hands."""
    only_cpu(device, "TensorFlow")
    return SavedModelEngine(bundle, threads)


def _loaded(bundle: Bundle) -> Any:
    """The model with its variables in memory: nothing is read from its folder later, since a bundle holds no assets."""
    with tempfile.TemporaryDirectory(prefix="modelyard-savedmodel-") as folder:
        bundle.extract(Path(folder), only_model=True)
        try:
            return tensorflow.saved_model.load(str(Path(folder, SAVED_MODEL_FOLDER)))
        except Exception as error:  # TensorFlow raises many kinds: its own errors, OSError, KeyError, AssertionError
            message = f"bundle {bundle.path.name}: TensorFlow cannot load saved_model: {words_of(error)}"
            raise InvalidArgument("INVALID_BUNDLE", message, bundle=bundle.path.name) from error


def _signature(bundle: Bundle, loaded: Any) -> Any:
    """The function that answers."""
    if SIGNATURE not in loaded.signatures:
        message = f"bundle {bundle.path.name}: saved_model has no signature {SIGNATURE}, only {sorted(loaded.signatures)}"
        raise InvalidArgument("INVALID_BUNDLE", message, bundle=bundle.path.name)
    return loaded.signatures[SIGNATURE]


def _check_operators(bundle: Bundle) -> None:
    """Looks at the graph's operators before anything of it is loaded."""
    what = f"bundle {bundle.path.name}: {SAVED_MODEL}"
    message = saved_model_pb2.SavedModel()
    try:
        message.ParseFromString(bundle.model_bytes())
    except Exception as error:  # protobuf's DecodeError is not the same class in all its implementations
        raise InvalidArgument("INVALID_BUNDLE", f"{what} is not a readable SavedModel ({error})") from error
    check_saved_model(message, what)


def _graph_tensors(call: Any) -> tuple[list[GraphTensor], list[GraphTensor]]:
    _, named = call.structured_input_signature
    return [_graph_tensor(name, spec) for name, spec in named.items()], [
        _graph_tensor(name, spec) for name, spec in call.structured_outputs.items()
    ]


def _graph_tensor(name: str, spec: Any) -> GraphTensor:
    """Names as the signature's arguments have them. An unknown rank cannot be checked, so it fits nothing."""
    shape = () if spec.shape.rank is None else tuple(-1 if size is None else int(size) for size in spec.shape)
    dtype = "object" if spec.dtype == tensorflow.string else spec.dtype.as_numpy_dtype.__name__
    return GraphTensor((name,), dtype, shape)


def _settle(threads: int) -> None:
    """What TensorFlow may use in this process; after its first computation this can no longer be said."""
    with contextlib.suppress(RuntimeError):
        tensorflow.config.threading.set_intra_op_parallelism_threads(threads)
        tensorflow.config.threading.set_inter_op_parallelism_threads(1)
