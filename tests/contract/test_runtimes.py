"""What every runtime must do, whatever the format: the same signature, the same answers, the same errors."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from modelyard.core.errors import FailedPrecondition, InvalidArgument
from modelyard.formats.bundle import TensorMap, TensorSpec, TestVectors, open_bundle, write_bundle
from modelyard.formats.pictures import encode_png
from modelyard.runtime import model as runtime_model
from modelyard.runtime.model import RunnableModel, load_model
from tests.support.runtime_bundles import FORMS, card, expected, model_files, needs_runtime, pictures, runtime_bundle

EXACT = 1e-6
INT8 = 0.05
"""Steps of 1/255 in the means, of 16/255 in the scores."""

Files = dict[str, bytes]


@pytest.fixture(scope="module")
def files_of() -> Callable[[str], Files]:
    """The model files of a form, made once: TensorFlow is slow."""
    made: dict[str, Files] = {}

    def files(form: str) -> Files:
        if form not in made:
            made[form] = model_files(form)
        return made[form]

    return files


@pytest.fixture(params=FORMS)
def form(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    needs_runtime(name)
    return name


@pytest.fixture
def path(tmp_path: Path, form: str, files_of: Callable[[str], Files]) -> Path:
    return runtime_bundle(tmp_path / "m.bundle", form, files_of(form))


@pytest.fixture
def model(path: Path) -> Iterator[RunnableModel]:
    loaded = load_model(open_bundle(path))
    yield loaded
    loaded.close()


def test_answers_and_labels(model: RunnableModel, form: str) -> None:
    images = pictures(7, seed=1)
    answers = model.run({"image": images})
    assert set(answers) == {"probabilities", "label"}
    assert answers["probabilities"].dtype == np.float32
    assert answers["probabilities"].shape == (7, 2)
    tolerance = INT8 if model.card.precision == "int8" else EXACT
    np.testing.assert_allclose(answers["probabilities"], expected(images), atol=tolerance)
    assert answers["label"].tolist() == [("red", "green")[int(row.argmax())] for row in answers["probabilities"]]


@pytest.mark.parametrize("count", [1, 2, 3, 4, 33])
def test_one_by_one_and_in_a_batch(model: RunnableModel, count: int) -> None:
    images = pictures(count, seed=2)
    together = model.run({"image": images})["probabilities"]
    alone = np.concatenate([model.run({"image": images[row : row + 1]})["probabilities"] for row in range(count)])
    np.testing.assert_allclose(together, alone, atol=EXACT)


def test_picture_files(model: RunnableModel) -> None:
    images = pictures(3, seed=3)
    files = np.array([encode_png(image) for image in images], dtype=object)
    from_files, from_pixels = model.run({"image": files}), model.run({"image": images})
    np.testing.assert_array_equal(from_files["probabilities"], from_pixels["probabilities"])


@pytest.mark.parametrize(
    ("inputs", "reason"),
    [
        ({}, "MISSING_INPUT"),
        ({"picture": pictures(1)}, "UNKNOWN_INPUT"),
        ({"image": pictures(1).astype(np.float32)}, "WRONG_DATATYPE"),
        ({"image": np.zeros((1, 4, 5, 3), np.uint8)}, "WRONG_SHAPE"),
        ({"image": np.zeros((0, 4, 4, 3), np.uint8)}, "EMPTY_BATCH"),
        ({"image": np.array([b"no picture"], object)}, "NOT_A_PICTURE"),
    ],
)
def test_wrong_tensors_get_the_same_errors(model: RunnableModel, inputs: dict[str, Any], reason: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        model.run(inputs)
    assert caught.value.reason == reason
    model.run({"image": pictures(1)})


@pytest.mark.parametrize("concurrency", [1, 3])
def test_several_threads_at_once(path: Path, concurrency: int) -> None:
    """Each caller gets the answer to its own question, with one interpreter and with several."""
    loaded = load_model(open_bundle(path), concurrency=concurrency)
    batches = [pictures(1 + number % 5, seed=number) for number in range(60)]
    alone = [loaded.run({"image": batch})["probabilities"] for batch in batches]
    with ThreadPoolExecutor(4) as threads:
        together = list(threads.map(lambda batch: loaded.run({"image": batch})["probabilities"], batches))
    for one, other in zip(alone, together, strict=True):
        np.testing.assert_allclose(one, other, atol=EXACT)
    loaded.close()


def test_input_that_is_not_contiguous(model: RunnableModel) -> None:
    images = pictures(4, seed=4)
    turned = np.ascontiguousarray(images[:, ::-1, ::-1])[:, ::-1, ::-1]
    np.testing.assert_array_equal(model.run({"image": turned})["probabilities"], model.run({"image": images})["probabilities"])


def test_answers_are_the_callers_own(model: RunnableModel) -> None:
    """A later call does not change what an earlier one gave."""
    first = model.run({"image": pictures(2, seed=5)})["probabilities"]
    kept = first.copy()
    model.run({"image": pictures(2, seed=6)})
    np.testing.assert_array_equal(first, kept)


@pytest.mark.parametrize(("threads", "concurrency"), [(0, 1), (1, 0), (-1, 1)])
def test_numbers_of_threads(path: Path, threads: int, concurrency: int) -> None:
    with pytest.raises(InvalidArgument, match="must be 1 or more"):
        load_model(open_bundle(path), threads, concurrency=concurrency)


def test_more_threads(path: Path) -> None:
    loaded = load_model(open_bundle(path), 2)
    images = pictures(2, seed=7)
    assert loaded.run({"image": images})["label"].shape == (2,)
    loaded.close()


@pytest.mark.parametrize("share", [0.0, 0.3, 0.6, 0.95])
def test_a_file_cut_short(tmp_path: Path, form: str, files_of: Callable[[str], Files], share: float) -> None:
    """Whichever file of the model it is, the error is ours."""
    files = files_of(form)
    for name in open_bundle(runtime_bundle(tmp_path / "m", form, files)).model_files():
        if name in NOT_READ:
            continue
        cut = files | {name: files[name][: int(len(files[name]) * share)]}
        with pytest.raises(InvalidArgument) as caught:
            load_model(open_bundle(runtime_bundle(tmp_path / "cut", form, cut))).run({"image": pictures(1)})
        assert caught.value.reason == "INVALID_BUNDLE", name
        assert "cut" in caught.value.message


NOT_READ = ("saved_model/fingerprint.pb", "model_data.h", "model_data.cc", "runner.py", "runner.cc", "README.txt")


@pytest.mark.parametrize("data", [b"", b"hello", b"\x00" * 64, b"\xff" * 64, b"\x1c\x00\x00\x00TFL3" + b"\xff" * 64])
def test_a_file_of_something_else(tmp_path: Path, form: str, files_of: Callable[[str], Files], data: bytes) -> None:
    files = files_of(form)
    main = next(iter(set(files) & {"model.onnx", "model.tflite", "saved_model/saved_model.pb", "model.xml", "model.pt2"}))
    with pytest.raises(InvalidArgument) as caught:
        load_model(open_bundle(runtime_bundle(tmp_path / "m", form, files | {main: data})))
    assert caught.value.reason == "INVALID_BUNDLE"


@pytest.mark.parametrize(
    "changes",
    [
        {"inputs": (TensorSpec("image", "UINT8", (-1, 5, 5, 3)),), "picture": None},
        {"outputs": (TensorSpec("probabilities", "FP32", (-1, 3)),)},
        {"inputs": (TensorSpec("image", "UINT8", (-1, 4, 4, 3)), TensorSpec("more", "UINT8", (-1, 4)))},
    ],
)
def test_a_card_that_is_not_of_its_graph(
    tmp_path: Path, form: str, files_of: Callable[[str], Files], changes: dict[str, Any]
) -> None:
    path = written_with_any_vectors(tmp_path / "m", form, files_of(form), changes)
    with pytest.raises(InvalidArgument) as caught:
        load_model(open_bundle(path))
    assert caught.value.reason == "INVALID_BUNDLE"


def written_with_any_vectors(path: Path, form: str, files: Files, changes: dict[str, Any]) -> Path:
    changed = replace(card(form), **changes)
    sides = [
        {spec.name: np.zeros((1, *spec.shape[1:]), _dtype(spec)) for spec in side} for side in (changed.inputs, changed.outputs)
    ]
    write_bundle(path, changed, files, TestVectors(*sides))
    return path


def _dtype(spec: TensorSpec) -> str:
    return "uint8" if spec.datatype == "UINT8" else "float32"


def test_a_package_that_is_not_here(path: Path, form: str, monkeypatch: pytest.MonkeyPatch) -> None:
    form = card(form).format
    runtime = replace(runtime_model.RUNTIMES[form], package="modelyard_no_such_package")
    monkeypatch.setattr(runtime_model, "RUNTIMES", {form: runtime})
    with pytest.raises(FailedPrecondition, match=rf"format {form} needs .*pip install modelyard\[{runtime.extra}\]") as caught:
        load_model(open_bundle(path))
    assert caught.value.reason == "RUNTIME_NOT_INSTALLED"


def test_a_tensor_map_to_a_tensor_that_is_not_there(tmp_path: Path, files_of: Callable[[str], Files]) -> None:
    path = runtime_bundle(tmp_path / "m", "litert-fp32", files_of("litert-fp32"), tensors=(TensorMap("image", "picture"),))
    with pytest.raises(InvalidArgument, match=r"its graph has no input 'picture'; it has image float32 \[1, 4, 4, 3\]"):
        load_model(open_bundle(path))
