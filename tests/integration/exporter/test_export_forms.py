"""A trained network in every form: made, proven, written, served again; and what is refused on the way."""

from __future__ import annotations

import math
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from modelyard.core.errors import FailedPrecondition, InvalidArgument
from modelyard.exporter.domain.form import PRECISIONS_OF, Form
from modelyard.exporter.worker import edge
from modelyard.exporter.worker.calibration import draw
from modelyard.exporter.worker.export import export_model, write_export
from modelyard.exporter.worker.picture_graph import untrained_model
from modelyard.formats.bundle import BundleCard, Source, open_bundle
from modelyard.formats.dataset import DatasetReader
from modelyard.formats.model import ModelCard, Normalization, PictureInput, write_model
from modelyard.recipes.build_image import ServedImageModel
from modelyard.runtime.model import load_model
from tests.support.datasets import file_store, open_reader, publish_pictures
from tests.support.small_training import stripes

SIZE = PictureInput(16, 16, 1)
CLASSES = ("across", "along", "aslant")
SOURCE = Source("projects/p/models/m/versions/V001")
FORMS = [Form(format, precision) for format, precisions in PRECISIONS_OF.items() for precision in precisions]


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory) -> DatasetReader:
    pictures, labels = stripes(300)
    store = file_store(tmp_path_factory.mktemp("artifacts"))
    return open_reader(store, publish_pictures(store, np.asarray(pictures), [CLASSES[label] for label in labels]))


@pytest.fixture(scope="module")
def model() -> ServedImageModel:
    """A network that tells the stripes apart."""
    torch.manual_seed(0)
    served = untrained_model("modelyard:micronet", SIZE, 3, Normalization((0.45,), (0.3,)))
    pictures, labels = (torch.from_numpy(np.asarray(each)) for each in stripes(256, seed=1))
    optimizer = torch.optim.AdamW(served.module.parameters(), 3e-3)
    served.module.train()
    x = pictures.reshape(-1, 1, 16, 16).float() * served.scale + served.shift
    for _ in range(30):
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(served.module(x), labels.long()).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    return served.eval()


def exported(model: ServedImageModel, reader: DatasetReader, path: Path, form: Form, **options: Any) -> BundleCard:
    return write_export(model, reader, path, form, SOURCE, picture=SIZE, recipe="micronet", **options)


@pytest.fixture(scope="module")
def bundles(
    model: ServedImageModel, reader: DatasetReader, tmp_path_factory: pytest.TempPathFactory
) -> dict[tuple[str, str], Path]:
    folder, made = tmp_path_factory.mktemp("bundles"), {}
    calibration = draw(reader, SIZE, 64)
    for form in FORMS:
        path = folder / f"{form.format}-{form.precision}.bundle"
        exported(model, reader, path, form, calibration=calibration)
        made[form.format, form.precision] = path
    return made


def answers(path: Path, pictures: Any) -> Any:
    model = load_model(open_bundle(path))
    try:
        return model.run({"image": pictures})["probabilities"]
    finally:
        model.close()


@pytest.mark.slow
def test_every_form_answers_nearly_as_the_network(bundles: dict[tuple[str, str], Path], model: ServedImageModel) -> None:
    pictures, labels = stripes(120, seed=2)
    pictures = np.asarray(pictures).reshape(-1, 16, 16, 1)
    expected = answers(bundles["onnx", "fp32"], pictures)
    assert (expected.argmax(1) == np.asarray(labels)).mean() > 0.9
    for (format, precision), path in bundles.items():
        found = answers(path, pictures)
        near = {"fp32": 1e-4, "fp16": 1e-2}.get(precision, 0.15)
        np.testing.assert_allclose(found, expected, atol=near, err_msg=f"{format} {precision}")
        assert (found.argmax(1) == expected.argmax(1)).mean() >= 0.97, (format, precision)


@pytest.mark.slow
def test_int8_agrees_across_formats(bundles: dict[tuple[str, str], Path]) -> None:
    pictures = np.asarray(stripes(200, seed=3)[0]).reshape(-1, 16, 16, 1)
    found = {format: answers(bundles[format, "int8"], pictures).argmax(1) for format in ("onnx", "litert", "openvino", "edge")}
    for format, labels in found.items():
        assert (labels == found["onnx"]).mean() >= 0.99, format


@pytest.mark.slow
def test_cards_say_what_was_made(bundles: dict[tuple[str, str], Path], reader: DatasetReader) -> None:
    for (format, precision), path in bundles.items():
        bundle = open_bundle(path)
        card = bundle.card
        assert (card.format, card.precision, card.origin, card.source) == (format, precision, "trained", SOURCE)
        assert card.parity is not None
        assert card.parity.against == "torch"
        method = {"int8": "post_training", "dynamic_int8": "dynamic"}.get(precision, "")
        assert (card.quantization.method if card.quantization else "") == method
        assert (card.calibration is not None) == (precision == "int8")
        ids = bundle.calibration_ids()
        assert len(ids) == (card.calibration.examples if card.calibration else 0)
        assert not ids or 60 <= len(ids) <= 68
        assert set(ids) <= set(reader.example_ids("train"))


@pytest.mark.slow
def test_integers_are_smaller(bundles: dict[tuple[str, str], Path]) -> None:
    sizes = {form: open_bundle(path).model_size for form, path in bundles.items()}
    assert sizes["litert", "int8"] < 0.4 * sizes["litert", "fp32"]  # scales weigh more in a network of 50,000 weights
    assert sizes["onnx", "int8"] < 0.4 * sizes["onnx", "fp32"]
    assert sizes["onnx", "fp16"] < 0.6 * sizes["onnx", "fp32"]


@pytest.mark.slow
def test_an_edge_bundle_compiles_and_replays(bundles: dict[tuple[str, str], Path], tmp_path: Path) -> None:
    bundle = open_bundle(bundles["edge", "int8"])
    bundle.extract(tmp_path)
    assert len(bundle.card.thresholds) == 3
    assert all(0 < each < 1 for each in bundle.card.thresholds)
    steps = ",".join(str(math.ceil(each * 256 - 1e-9) - 128) for each in bundle.card.thresholds)
    assert f"g_thresholds[kClasses] = {{{steps}}};" in (tmp_path / "model_data.cc").read_text()
    compiler = shutil.which("c++") or shutil.which("g++") or shutil.which("clang++")
    if compiler is None:
        pytest.skip("this machine has no C++ compiler")
    strict = [compiler, "-std=c++17", "-Wall", "-Wextra", "-Werror", "-DSELF_CHECK", "runner.cc", "model_data.cc", "-o", "check"]
    subprocess.run(strict, cwd=tmp_path, check=True)
    said = subprocess.run(["./check"], cwd=tmp_path, check=True, capture_output=True, text=True).stdout
    assert f"{(tmp_path / 'model.tflite').stat().st_size} bytes, 3 classes" in said
    away = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    replayed = subprocess.run(
        [sys.executable, "-P", "runner.py"], cwd=tmp_path, env=away, check=False, capture_output=True, text=True
    )
    assert replayed.returncode == 0, replayed.stderr
    assert "test vectors, 0 answered otherwise" in replayed.stdout
    assert "import modelyard" not in (tmp_path / "runner.py").read_text()


@pytest.mark.slow
def test_a_changed_array_is_noticed(bundles: dict[tuple[str, str], Path], tmp_path: Path) -> None:
    compiler = shutil.which("c++") or shutil.which("g++")
    if compiler is None:
        pytest.skip("this machine has no C++ compiler")
    open_bundle(bundles["edge", "int8"]).extract(tmp_path)
    source = (tmp_path / "model_data.cc").read_text()
    (tmp_path / "model_data.cc").write_text(source.replace("0x54, 0x46, 0x4c, 0x33", "0x54, 0x46, 0x4c, 0x34", 1))
    command = [compiler, "-std=c++17", "-DSELF_CHECK", "runner.cc", "model_data.cc", "-o", "check"]
    subprocess.run(command, cwd=tmp_path, check=True)
    assert subprocess.run(["./check"], cwd=tmp_path, check=False, capture_output=True).returncode == 1


@pytest.mark.slow
def test_vela_compiles_the_edge_model(bundles: dict[tuple[str, str], Path], reader: DatasetReader) -> None:
    bundle = open_bundle(bundles["edge", "int8"])
    pictures = bundle.test_vectors().inputs["image"]
    files = edge.edge_files(bundle.model_bytes(), bundle.card, pictures, "ethos-u55-128")
    assert files["model_vela.tflite"][4:8] == b"TFL3"
    assert "ethos-u55-128" in files["README.txt"].decode()
    with pytest.raises(FailedPrecondition) as caught:
        edge.vela(bundle.model_bytes()[:2000], "ethos-u55-128")
    assert caught.value.reason == "VELA_FAILED"
    with pytest.raises(FailedPrecondition) as caught:
        edge.vela(bundle.model_bytes(), "ethos-u55-128", timeout_s=0.01)
    assert caught.value.reason == "VELA_TIMED_OUT"


@pytest.mark.slow
def test_a_model_too_large_for_the_target_is_refused_with_numbers(bundles: dict[tuple[str, str], Path]) -> None:
    files = open_bundle(bundles["edge", "int8"]).model_files()
    fitting = edge.check_fits(files, 1 << 20, 1 << 20)
    assert fitting.flash_bytes == len(files["model.tflite"])
    assert 2000 < fitting.ram_bytes < 100_000
    for memory, limits in (("RAM", (fitting.ram_bytes - 1, 0)), ("flash", (0, fitting.flash_bytes - 1))):
        with pytest.raises(FailedPrecondition, match=str(max(limits))) as caught:
            edge.check_fits(files, *limits)
        assert caught.value.reason == "MODEL_TOO_LARGE"
        assert caught.value.values["memory"] == memory
    assert edge.check_fits(files, 0, 0) == fitting


def test_the_same_export_gives_the_same_bytes(tmp_path: Path, model: ServedImageModel, reader: DatasetReader) -> None:
    for name in ("one", "two"):
        exported(model, reader, tmp_path / name, Form("litert", "int8"))
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()


def test_weights_of_no_number_leave_nothing(tmp_path: Path, reader: DatasetReader) -> None:
    torch.manual_seed(0)
    broken = untrained_model("modelyard:micronet", SIZE, 3)
    with torch.no_grad():
        broken.get_parameter("module.head.weight")[0, 0] = float("inf")
    with pytest.raises(FailedPrecondition, match=r"head\.weight"):
        exported(broken, reader, tmp_path / "m.bundle", Form("litert"))
    assert not list(tmp_path.iterdir())


def test_examples_of_one_class_cannot_calibrate(tmp_path: Path, model: ServedImageModel) -> None:
    pictures, _ = stripes(40)
    store = file_store(tmp_path / "artifacts")
    usage = ["train"] * 30 + ["test"] * 10
    labels = ["along"] * 30 + ["across", "aslant"] * 5
    one = open_reader(store, publish_pictures(store, np.asarray(pictures), labels, usage=usage))
    with pytest.raises(FailedPrecondition, match=r"one class \(along\)") as caught:
        exported(model, one, tmp_path / "m.bundle", Form("onnx", "int8"))
    assert caught.value.reason == "CALIBRATION_ONE_CLASS"
    assert not list(tmp_path.glob("*bundle*"))


def test_an_operator_that_is_lacking_is_named_and_leaves_nothing(
    tmp_path: Path, model: ServedImageModel, reader: DatasetReader
) -> None:
    torch.manual_seed(0)
    network = torch.nn.Sequential(torch.nn.Conv2d(1, 4, 3), torch.nn.GELU(), torch.nn.Flatten(), torch.nn.Linear(784, 3))
    odd = ServedImageModel(network, (0.5,), (0.5,)).eval()
    exported(odd, reader, tmp_path / "fine.bundle", Form())
    with pytest.raises(InvalidArgument, match="the operator Erf in layer 1") as caught:
        exported(odd, reader, tmp_path / "m.bundle", Form("litert"))
    assert caught.value.reason == "UNSUPPORTED_OPERATOR"
    assert [path.name for path in tmp_path.iterdir()] == ["fine.bundle"]


def test_a_model_file_in_a_form(tmp_path: Path, model: ServedImageModel, reader: DatasetReader) -> None:
    card = ModelCard("torch", "image_classification", "modelyard:micronet", CLASSES, SIZE, Normalization((0.45,), (0.3,)))
    write_model(tmp_path / "m.zip", card, {name: value.numpy() for name, value in model.module.state_dict().items()})
    made = export_model(tmp_path / "m.zip", reader, tmp_path / "m.bundle", SOURCE, lambda stage: None, Form("litert", "int8"))
    assert (made.format, made.precision, made.recipe) == ("litert", "int8", "modelyard:micronet")
    with pytest.raises(InvalidArgument) as caught:
        export_model(tmp_path / "m.zip", reader, tmp_path / "n.bundle", SOURCE, lambda stage: None, Form("litert", "fp16"))
    assert caught.value.reason == "UNSUPPORTED_FORM"
