"""Model files from elsewhere: those of MLPerf Tiny as they come, ONNX graphs of other shapes, and what is refused."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from modelyard.core.errors import FailedPrecondition, InvalidArgument, ModelyardError
from modelyard.exporter.worker.imported import are_probabilities, import_model
from modelyard.exporter.worker.tflite_file import with_softmax
from modelyard.formats.bundle import BundleCard, open_bundle
from modelyard.formats.dataset import DatasetReader
from modelyard.runtime.model import load_model
from tests.support.datasets import file_store, open_reader, publish_pictures, publish_table

DATA = Path(os.environ.get("MODELYARD_DATA") or Path(__file__).resolve().parents[4] / "shared" / "data")
TINY = DATA / "models" / "mlperf_tiny"
needs_data = pytest.mark.skipif(not TINY.is_dir(), reason=f"the MLPerf Tiny models are not at {TINY}")


def names(count: int) -> tuple[str, ...]:
    return tuple(f"c{number:02d}" for number in range(count))


def pictures(folder: Path, size: tuple[int, int, int], classes: int) -> DatasetReader:
    given = np.random.default_rng(0).integers(0, 256, (8 * classes, *size), np.uint8)
    store = file_store(folder / "artifacts")
    labels = [names(classes)[number % classes] for number in range(len(given))]
    return open_reader(store, publish_pictures(store, given if size[2] == 3 else given[..., 0], labels))


def columns(folder: Path, count: int, task: str = "tabular_regression") -> DatasetReader:
    rng = np.random.default_rng(0)
    table: dict[str, Any] = {f"f{number:03d}": rng.normal(size=60).tolist() for number in range(count)}
    table["target"] = rng.normal(size=60).tolist() if task.endswith("regression") else ["no", "yes"] * 30
    store = file_store(folder / "artifacts")
    return open_reader(store, publish_table(store, table, "target", task=task))


def taken_in(
    path: Path,
    reader: DatasetReader,
    classes: tuple[str, ...] = (),
    *,
    scale: float = 0.0,
    offset: float = 0.0,
    out: Path | None = None,
) -> BundleCard:
    out = out or path.parent / "m.bundle"
    task = reader.descriptor.task
    return import_model(path, path.name, task, classes, reader, scale, offset, "Apache-2.0", out)


@needs_data
@pytest.mark.data
@pytest.mark.parametrize(
    ("name", "size", "classes", "scale", "precision"),
    [
        ("pretrainedResnet.tflite", (32, 32, 3), 10, 0.0, "fp32"),
        ("pretrainedResnet_quant.tflite", (32, 32, 3), 10, 0.0, "int8"),
        ("pretrainedResnet_large_int8.tflite", (32, 32, 3), 10, 0.0, "int8"),
        ("vww_96_float.tflite", (96, 96, 3), 2, 1 / 255, "fp32"),
        ("vww_96_int8.tflite", (96, 96, 3), 2, 1 / 255, "int8"),
        ("kws_ref_model_float32.tflite", (49, 10, 1), 12, 0.0, "dynamic_int8"),
        ("kws_ref_model.tflite", (49, 10, 1), 12, 0.0, "int8"),
    ],
)
def test_models_of_mlperf_tiny(
    tmp_path: Path, name: str, size: tuple[int, int, int], classes: int, scale: float, precision: str
) -> None:
    reader = pictures(tmp_path, size, classes)
    out = tmp_path / "m.bundle"
    card = taken_in(TINY / name, reader, names(classes), scale=scale, out=out)
    assert (card.format, card.precision, card.origin, card.licence) == ("litert", precision, "imported", "Apache-2.0")
    assert card.parity is None
    assert card.recipe == name
    bundle = open_bundle(out)
    assert bundle.model_bytes() == (TINY / name).read_bytes()
    vectors = bundle.test_vectors()
    answers = load_model(bundle).run(vectors.inputs)
    np.testing.assert_array_equal(answers["probabilities"], vectors.outputs["probabilities"])
    assert are_probabilities(answers["probabilities"])


@needs_data
@pytest.mark.data
def test_a_quantized_picture_model_answers_as_its_float_one(tmp_path: Path) -> None:
    reader = pictures(tmp_path, (96, 96, 3), 2)
    found = []
    for name in ("vww_96_float.tflite", "vww_96_int8.tflite"):
        taken_in(TINY / name, reader, names(2), scale=1 / 255, out=tmp_path / name)
        found.append(open_bundle(tmp_path / name).test_vectors().outputs["probabilities"])
    np.testing.assert_allclose(found[0], found[1], atol=0.1)


@needs_data
@pytest.mark.data
def test_an_autoencoder_gives_its_raw_output(tmp_path: Path) -> None:
    card = taken_in(TINY / "ad01_int8.tflite", columns(tmp_path, 640), out=tmp_path / "m.bundle")
    assert [(each.name, each.shape) for each in card.outputs] == [("output", (-1, 640))]
    assert [(each.name, each.shape) for each in card.inputs] == [("vector", (-1, 640))]


@needs_data
@pytest.mark.data
def test_what_does_not_fit_is_refused(tmp_path: Path) -> None:
    resnet, half = TINY / "pretrainedResnet.tflite", tmp_path / "half.tflite"
    half.write_bytes(resnet.read_bytes()[:100_000])
    ten, two = pictures(tmp_path / "ten", (32, 32, 3), 10), pictures(tmp_path / "two", (32, 32, 3), 2)
    cases: list[tuple[Path, DatasetReader, tuple[str, ...], str, str]] = [
        (resnet, ten, names(9), "BAD_CLASSES", "9 names"),
        (resnet, two, ("a", "b"), "BAD_CLASSES", "10 numbers"),
        (resnet, ten, tuple(f"other{number}" for number in range(10)), "DATASET_MISMATCH", "'c00'"),
        (half, ten, names(10), "NOT_A_TFLITE_FILE", "half.tflite"),
        (TINY / "ad01_fp32.tflite", columns(tmp_path / "few", 5), (), "DATASET_MISMATCH", "640 numbers"),
    ]
    for path, reader, classes, reason, said in cases:
        with pytest.raises(ModelyardError, match=said) as caught:
            taken_in(path, reader, classes, out=tmp_path / "m.bundle")
        assert caught.value.reason == reason
        assert not (tmp_path / "m.bundle").exists()


@pytest.mark.parametrize("name", ["m.h5", "m.keras", "m.pkl", "m.pt", "m.pth", "m.joblib", "m.pb", "m.zip", "m"])
def test_other_kinds_of_files_are_refused_by_name(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(b"x")
    with pytest.raises(InvalidArgument, match=r"\.onnx") as caught:
        taken_in(path, pictures(tmp_path, (8, 8, 1), 2), names(2))
    assert caught.value.reason == "UNKNOWN_MODEL_FILE"


class Scores(nn.Module):
    """Gives scores, not probabilities, for pictures with the channels first."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)

    def forward(self, x: Tensor) -> Tensor:
        scores: Tensor = self.conv(x) * 5
        return scores.mean((2, 3))


def onnx_file(path: Path, module: nn.Module, example: Tensor, *, open_batch: bool = True, name: str = "image") -> Path:
    axes = {name: {0: "N"}} if open_batch else None
    torch.manual_seed(0)
    torch.onnx.export(
        module.eval(), (example,), path, dynamo=False, input_names=[name], output_names=["probabilities"], dynamic_axes=axes
    )
    return path


def test_a_torch_program_as_torch_saves_it(tmp_path: Path) -> None:
    """With its pickle of example inputs, its channels first, in place operators, and scores in the place of probabilities."""
    torch.manual_seed(0)
    module = torch.nn.Sequential(Scores(), torch.nn.Hardtanh(-3, 3, inplace=True)).eval()
    path = tmp_path / "scores.pt2"
    shapes = ({0: torch.export.Dim("N")},)
    torch.export.save(torch.export.export(module, (torch.zeros(2, 3, 9, 7),), dynamic_shapes=shapes), path)
    card = taken_in(path, pictures(tmp_path, (9, 7, 3), 4), names(4), scale=1 / 255, offset=-0.5)
    assert (card.format, card.precision) == ("torch_export", "fp32")
    assert "softmax added" in card.recipe
    bundle = open_bundle(tmp_path / "m.bundle")
    assert b"stack_trace" not in bundle.model_bytes()
    vectors = bundle.test_vectors()
    given = torch.from_numpy(vectors.inputs["image"]).permute(0, 3, 1, 2).float() / 255 - 0.5
    with torch.inference_mode():
        expected = torch.softmax(module(given), 1).numpy()
    np.testing.assert_allclose(vectors.outputs["probabilities"], expected, atol=1e-5)


def test_a_torch_program_that_calls_what_is_not_run_here(tmp_path: Path) -> None:
    class Random(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.rand_like(x)[:, :2, 0, 0]

    path = tmp_path / "random.pt2"
    torch.export.save(torch.export.export(Random(), (torch.zeros(1, 3, 9, 7),)), path)
    with pytest.raises(InvalidArgument, match=r"aten\.rand_like") as caught:
        taken_in(path, pictures(tmp_path, (9, 7, 3), 2), names(2))
    assert caught.value.reason == "UNSUPPORTED_OPERATOR"


@pytest.mark.parametrize("name", ["scores.onnx", "scores.pt2"])
def test_weights_of_torch_under_another_name(tmp_path: Path, name: str) -> None:
    torch.save(Scores().state_dict(), tmp_path / name)
    with pytest.raises(InvalidArgument, match=r"a torch file of pickles.*torch\.export\.save") as caught:
        taken_in(tmp_path / name, pictures(tmp_path, (9, 7, 3), 4), names(4))
    assert caught.value.reason == "UNKNOWN_MODEL_FILE"


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_an_onnx_file_with_weights_elsewhere(tmp_path: Path) -> None:
    import onnx

    model = onnx.load(onnx_file(tmp_path / "scores.onnx", Scores(), torch.zeros(1, 3, 9, 7)))
    onnx.save(model, tmp_path / "apart.onnx", save_as_external_data=True, location="weights.bin", size_threshold=0)
    with pytest.raises(InvalidArgument, match="refers to a file outside it") as caught:
        taken_in(tmp_path / "apart.onnx", pictures(tmp_path, (9, 7, 3), 4), names(4))
    assert caught.value.reason == "EXTERNAL_DATA"


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_an_onnx_graph_with_channels_first_gets_a_softmax(tmp_path: Path) -> None:
    torch.manual_seed(0)
    module = Scores()
    path = onnx_file(tmp_path / "scores.onnx", module, torch.zeros(1, 3, 9, 7))
    reader = pictures(tmp_path, (9, 7, 3), 4)
    card = taken_in(path, reader, names(4), scale=1 / 255, offset=-0.5)
    assert "softmax added" in card.recipe
    assert card.inputs[0].shape == (-1, 9, 7, 3)
    vectors = open_bundle(tmp_path / "m.bundle").test_vectors()
    given = torch.from_numpy(vectors.inputs["image"]).permute(0, 3, 1, 2).float() / 255 - 0.5
    with torch.inference_mode():
        expected = torch.softmax(module(given), 1).numpy()
    np.testing.assert_allclose(vectors.outputs["probabilities"], expected, atol=1e-5)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_an_onnx_graph_of_a_vector_takes_the_columns(tmp_path: Path) -> None:
    torch.manual_seed(0)
    module = nn.Linear(3, 1)
    path = onnx_file(tmp_path / "line.onnx", module, torch.zeros(1, 3), name="target")
    card = taken_in(path, columns(tmp_path, 3))
    assert [each.name for each in card.columns] == ["f000", "f001", "f002"]
    vectors = open_bundle(tmp_path / "m.bundle").test_vectors()
    given = torch.from_numpy(np.concatenate([vectors.inputs[each.input] for each in card.columns], axis=1))
    np.testing.assert_allclose(vectors.outputs["prediction"], module(given).detach().numpy(), atol=1e-5)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_onnx_files_that_cannot_serve_are_refused(tmp_path: Path) -> None:
    whole = onnx_file(tmp_path / "scores.onnx", Scores(), torch.zeros(1, 3, 9, 7))
    cut, fixed = tmp_path / "cut.onnx", tmp_path / "fixed.onnx"
    cut.write_bytes(whole.read_bytes()[:200])
    onnx_file(fixed, nn.Sequential(Scores(), Mixing()), torch.zeros(2, 3, 9, 7))
    reader = pictures(tmp_path, (9, 7, 3), 4)
    for path, reason in ((cut, "NOT_AN_ONNX_FILE"), (fixed, "FIXED_BATCH")):
        with pytest.raises(ModelyardError) as caught:
            taken_in(path, reader, names(4), scale=1 / 255)
        assert caught.value.reason == reason
        assert not (tmp_path / "m.bundle").exists()


class Mixing(nn.Module):
    """Answers an example by what lies beside it."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.softmax(x - x.mean(0, keepdim=True), 1)


@needs_data
@pytest.mark.data
def test_a_softmax_can_be_added_to_an_integer_tflite(tmp_path: Path) -> None:
    path = tmp_path / "twice.tflite"
    path.write_bytes(with_softmax((TINY / "pretrainedResnet_quant.tflite").read_bytes()))
    reader = pictures(tmp_path, (32, 32, 3), 10)
    taken_in(TINY / "pretrainedResnet_quant.tflite", reader, names(10), out=tmp_path / "once.bundle")
    taken_in(path, reader, names(10), out=tmp_path / "twice.bundle")
    once, twice = (open_bundle(tmp_path / f"{each}.bundle").test_vectors().outputs["probabilities"] for each in ("once", "twice"))
    expected = np.exp(once) / np.exp(once).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(twice, expected, atol=1e-5)


def test_probabilities_are_told_from_scores() -> None:
    assert are_probabilities(np.array([[0.25, 0.75], [1.0, 0.0]]))
    assert are_probabilities(np.array([[0.996, 0.0]]))
    assert not are_probabilities(np.array([[0.25, 0.75], [3.0, -2.0]]))
    assert not are_probabilities(np.array([[0.2, 0.2]]))


def test_a_model_of_another_task_is_refused(tmp_path: Path) -> None:
    (tmp_path / "m.onnx").write_bytes(b"")
    with pytest.raises((FailedPrecondition, InvalidArgument)):
        import_model(
            tmp_path / "m.onnx", "m.onnx", "image_classification", names(2), columns(tmp_path, 3), 1, 0, "", tmp_path / "m.bundle"
        )
