"""SavedModels: graphs that reach the host are refused before TensorFlow loads them, and the folder goes with the model."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("modelyard.runtime.tensorflow_import")

from modelyard.core.errors import InvalidArgument
from modelyard.formats.bundle import open_bundle
from modelyard.runtime import savedmodel, savedmodel_check
from modelyard.runtime.model import load_model
from modelyard.runtime.tensorflow_import import saved_model_pb2
from tests.support.runtime_bundles import expected, pictures, runtime_bundle, saved_model_files


def with_python(picture: Any) -> Any:
    from modelyard.runtime.tensorflow_import import tensorflow as tf

    answer = tf.numpy_function(lambda values: values.mean(axis=(1, 2))[:, :2].astype("float32"), [picture], tf.float32)
    return {"output_0": tf.ensure_shape(answer, [None, 2])}


def with_a_file(picture: Any) -> Any:
    from modelyard.runtime.tensorflow_import import tensorflow as tf

    with tf.control_dependencies([tf.io.write_file("/tmp/modelyard-must-not-be", "x")]):
        return {"output_0": tf.cast(picture[:, 0, 0, :2], tf.float32)}


def with_a_checkpoint(picture: Any) -> Any:
    """Writes through an operator that every SavedModel holds."""
    from modelyard.runtime.tensorflow_import import tensorflow as tf

    answer = tf.cast(picture[:, 0, 0, :2], tf.float32)
    with tf.control_dependencies(
        [tf.raw_ops.SaveV2(prefix="/tmp/modelyard-must-not-be", tensor_names=["a"], shape_and_slices=[""], tensors=[answer])]
    ):
        return {"output_0": tf.identity(answer)}


def in_a_branch(picture: Any) -> Any:
    """Deep inside: a file that is read in a branch of a loop."""
    from modelyard.runtime.tensorflow_import import tensorflow as tf

    answer = tf.cast(picture[:, 0, 0, :2], tf.float32)
    size = tf.strings.length(tf.io.read_file("/etc/hostname"))
    (looped,) = tf.while_loop(lambda x: tf.reduce_sum(x) < 0, lambda x: (x + tf.cast(size, tf.float32),), [answer])
    return {"output_0": looped}


@pytest.fixture
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the runtime puts its folders."""
    place = tmp_path / "temporary"
    place.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(place))
    return place


@pytest.mark.parametrize(
    ("function", "operator"),
    [
        (with_python, "PyFunc"),
        (with_a_file, "WriteFile"),
        (with_a_checkpoint, "SaveV2"),
        (in_a_branch, "ReadFile"),
    ],
)
def test_graphs_that_reach_the_host_are_refused(
    tmp_path: Path, folders: Path, function: Callable[[Any], Any], operator: str
) -> None:
    path = runtime_bundle(tmp_path / "m", "savedmodel", saved_model_files(function))
    with pytest.raises(InvalidArgument, match=operator) as caught:
        load_model(open_bundle(path))
    assert caught.value.reason == "UNSUPPORTED_OPERATOR"
    assert not Path("/tmp/modelyard-must-not-be").exists()
    assert list(folders.glob("modelyard-*")) == []


def test_the_folder_is_gone_before_the_first_answer(tmp_path: Path, folders: Path) -> None:
    model = load_model(open_bundle(runtime_bundle(tmp_path / "m", "savedmodel")))
    assert list(folders.glob("modelyard-*")) == []
    images = pictures(2)
    np.testing.assert_allclose(model.run({"image": images})["probabilities"], expected(images), atol=1e-6)


def test_the_signature_is_the_one_served(tmp_path: Path, folders: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = runtime_bundle(tmp_path / "m", "savedmodel")
    monkeypatch.setattr(savedmodel, "SIGNATURE", "other")
    with pytest.raises(InvalidArgument, match=r"no signature other, only \['serving_default'\]"):
        load_model(open_bundle(path))
    assert list(folders.glob("modelyard-*")) == []


def test_torch_trains_in_a_process_that_has_loaded_tensorflow() -> None:
    """triton, which torch imports for its first optimizer, ends the process when it comes after TensorFlow."""
    pytest.importorskip("torch")
    program = (
        "import modelyard.runtime.savedmodel, torch\n"
        "parameter = torch.nn.Parameter(torch.ones(1))\n"
        "torch.optim.AdamW([parameter])\n"
        "print('alive')\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.strip()) == (0, "alive"), done.stderr[-500:]


def test_every_operator_of_the_list_exists() -> None:
    """A name that TensorFlow does not have would be a wrong promise."""
    from modelyard.runtime.tensorflow_import import tensorflow as tf

    known = set(dir(tf.raw_ops))
    assert sorted((savedmodel_check.COMPUTING | savedmodel_check.OF_CHECKPOINTS) - known) == []


def test_the_form_of_tensorflow_1_is_refused(tmp_path: Path) -> None:
    """It runs its graph's own nodes to become ready."""
    files = saved_model_files()
    message = saved_model_pb2.SavedModel.FromString(files["saved_model/saved_model.pb"])
    message.meta_graphs[0].ClearField("object_graph_def")
    files["saved_model/saved_model.pb"] = message.SerializeToString()
    with pytest.raises(InvalidArgument, match=r"TensorFlow 2's form"):
        load_model(open_bundle(runtime_bundle(tmp_path / "m", "savedmodel", files)))


@pytest.mark.parametrize("kind", ["asset", "resource"])
def test_objects_that_are_made_outside_the_graph(tmp_path: Path, kind: str) -> None:
    """A file beside the model, and a table that a function of it fills while it is loaded."""
    files = saved_model_files()
    message = saved_model_pb2.SavedModel.FromString(files["saved_model/saved_model.pb"])
    getattr(message.meta_graphs[0].object_graph_def.nodes.add(), kind).SetInParent()
    files["saved_model/saved_model.pb"] = message.SerializeToString()
    with pytest.raises(InvalidArgument, match=f"made outside its graph: {kind}"):
        load_model(open_bundle(runtime_bundle(tmp_path / "m", "savedmodel", files)))


def test_tensorflow_hides_no_gpu_from_torch() -> None:
    """An export worker trains, too: what is set for TensorFlow is set in TensorFlow, not in the environment."""
    program = (
        "import os, modelyard.exporter.worker.to_savedmodel, modelyard.runtime.savedmodel\n"
        "print(os.environ.get('CUDA_VISIBLE_DEVICES', 'unset'))\n"
        "import tensorflow; print(tensorflow.config.get_visible_devices('GPU'))\n"
    )
    environment = {name: value for name, value in os.environ.items() if name != "CUDA_VISIBLE_DEVICES"}
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, env=environment)
    assert done.stdout.split("\n")[:2] == ["unset", "[]"], done.stderr[-500:]
