"""The bundle file: what is written is read back, equal content gives equal bytes, and a bundle that was touched is refused."""

from __future__ import annotations

import json
import zipfile
from contextlib import suppress
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelyard.core.errors import AlreadyExists, InvalidArgument
from modelyard.formats import bundle as bundles
from modelyard.formats import bundle_vectors
from modelyard.formats.bundle import (
    BundleCard,
    CalibrationCard,
    ColumnInput,
    Parity,
    PictureInput,
    QuantizationCard,
    Source,
    TensorMap,
    TensorSpec,
    TestVectors,
)
from modelyard.formats.bundle_files import entry_of


def picture_card() -> BundleCard:
    return BundleCard(
        task="image_classification",
        inputs=(TensorSpec("image", "UINT8", (-1, 4, 4, 3)),),
        outputs=(TensorSpec("probabilities", "FP32", (-1, 2)),),
        source=Source("projects/p/models/m/versions/V001", "projects/p/datasets/d/versions/V001", "ab" * 32),
        picture=PictureInput(4, 4, 3),
        classes=("cat", "dog"),
        parity=Parity(16, 1e-6, 1.0, 1e-3, "torch"),
    )


def picture_vectors() -> TestVectors:
    images = np.arange(16 * 48, dtype=np.uint32).astype(np.uint8).reshape(16, 4, 4, 3)
    return TestVectors({"image": images}, {"probabilities": np.full((16, 2), 0.5, np.float32)})


def table_card() -> BundleCard:
    return BundleCard(
        task="tabular_regression",
        inputs=(TensorSpec("age", "FP32", (-1, 1)), TensorSpec("sex", "BYTES", (-1, 1))),
        outputs=(TensorSpec("prediction", "FP32", (-1, 1)),),
        source=Source(),
        columns=(ColumnInput("age", "age", "numeric"), ColumnInput("sex", "sex", "categorical")),
        target_name="fare",
    )


def table_vectors() -> TestVectors:
    return TestVectors(
        {"age": np.array([[1.1], [np.nan]], np.float32), "sex": np.array([["é"], [""]], object)},
        {"prediction": np.array([[0.1], [2.0]], np.float32)},
    )


def rewrite(path: Path, changes: dict[str, bytes | None], compression: int = zipfile.ZIP_STORED) -> None:
    """Writes the zip again with some files changed, added or (None) left out."""
    with zipfile.ZipFile(path) as archive:
        files: dict[str, bytes | None] = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, data in (files | changes).items():
            if data is not None:
                archive.writestr(name, data)


def test_picture_bundle_is_read_back(tmp_path: Path) -> None:
    path = tmp_path / "m.bundle"
    written = bundles.write_bundle(path, picture_card(), b"model", picture_vectors())
    bundle = bundles.open_bundle(path)
    assert bundle.card == written
    assert bundle.model_bytes() == b"model"
    assert np.array_equal(bundle.test_vectors().inputs["image"], picture_vectors().inputs["image"])
    assert [spec.name for spec in bundle.card.served_outputs] == ["probabilities", "label"]
    assert list(tmp_path.iterdir()) == [path]


def test_table_bundle_keeps_text_and_missing_values(tmp_path: Path) -> None:
    path = tmp_path / "m.bundle"
    bundles.write_bundle(path, table_card(), b"model", table_vectors())
    vectors = bundles.open_bundle(path).test_vectors()
    assert vectors.inputs["sex"].tolist() == [["é"], [""]]
    np.testing.assert_array_equal(vectors.inputs["age"], table_vectors().inputs["age"])
    assert vectors.inputs["age"].dtype == np.float32
    assert vectors.outputs["prediction"].tobytes() == table_vectors().outputs["prediction"].tobytes()


def test_equal_content_gives_equal_bytes(tmp_path: Path) -> None:
    for name in ("a", "b"):
        bundles.write_bundle(tmp_path / name, picture_card(), b"model", picture_vectors())
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"model.onnx": b"other"}, "model.onnx has sha256"),
        ({"model.onnx": b"longer than before"}, "18 bytes"),
        ({"model.onnx": None}, "missing"),
        ({"labels.txt": b"dog\ncat\n"}, "labels.txt has sha256"),
        ({"../evil": b"x"}, "'../evil'"),
        ({"test_vectors.json": b"{}"}, "not listed"),
        ({"bundle.json": None}, "has no bundle.json"),
        ({"bundle.json": b"{"}, "not JSON"),
        ({"bundle.json": b"[]"}, "format_version"),
    ],
)
def test_touched_bundle_is_refused(tmp_path: Path, changes: dict[str, bytes | None], says: str) -> None:
    path = tmp_path / "m.bundle"
    bundles.write_bundle(path, picture_card(), b"model", picture_vectors())
    rewrite(path, changes)
    with pytest.raises(InvalidArgument, match=says) as caught:
        bundles.open_bundle(path)
    assert caught.value.reason == "INVALID_BUNDLE"
    assert caught.value.values["bundle"] == "m.bundle"


def test_compressed_bundle_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "m.bundle"
    bundles.write_bundle(path, picture_card(), b"model", picture_vectors())
    rewrite(path, {}, compression=zipfile.ZIP_DEFLATED)
    with pytest.raises(InvalidArgument, match="compressed"):
        bundles.open_bundle(path)


@pytest.mark.parametrize(
    ("field", "value", "says"),
    [
        ("inputs", [], "inputs"),
        ("inputs", [{"name": "image", "datatype": "FP33", "shape": [-1, 2]}], "FP33"),
        ("inputs", [{"name": "image", "datatype": "FP32", "shape": [-1, 0]}], "shape"),
        ("classes", [1, 2], "classes"),
        ("surprise", 1, "surprise"),
        ("format_version", 2, "format_version"),
    ],
)
def test_wrong_card_names_the_field(tmp_path: Path, field: str, value: object, says: str) -> None:
    path = tmp_path / "m.bundle"
    card = bundles.write_bundle(path, picture_card(), b"model", picture_vectors())
    document = json.loads(bundles.card_json(card)) | {field: value}
    with pytest.raises(InvalidArgument, match=says):
        bundles.parse_card(json.dumps(document).encode(), path)


def test_not_a_zip(tmp_path: Path) -> None:
    path = tmp_path / "m.bundle"
    path.write_bytes(b"no zip")
    with pytest.raises(InvalidArgument, match="not a readable zip"):
        bundles.open_bundle(path)


def test_truncated_bundle(tmp_path: Path) -> None:
    path = tmp_path / "m.bundle"
    bundles.write_bundle(path, picture_card(), b"model", picture_vectors())
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(InvalidArgument, match="not a readable zip"):
        bundles.open_bundle(path)


def test_vectors_must_fit_the_card(tmp_path: Path) -> None:
    wrong = TestVectors({"image": np.zeros((16, 4, 4, 1), np.uint8)}, picture_vectors().outputs)
    with pytest.raises(InvalidArgument, match="image"):
        bundles.write_bundle(tmp_path / "m.bundle", picture_card(), b"model", wrong)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "vectors",
    [b"{}", b"[1]", b"{", b'{"inputs": {}, "outputs": {}}', b'{"inputs": {"age": {"dtype": "x", "shape": [1], "values": [1]}}}'],
)
def test_vectors_that_do_not_fit_are_refused(tmp_path: Path, vectors: bytes) -> None:
    path = tmp_path / "m.bundle"
    card = bundles.write_bundle(path, table_card(), b"model", table_vectors())
    files = card.files | {bundles.VECTORS_JSON: entry_of(vectors)}
    rewrite(path, {bundles.VECTORS_JSON: vectors, bundles.CARD: bundles.card_json(replace(card, files=files))})
    with pytest.raises(InvalidArgument) as caught:
        bundles.open_bundle(path).test_vectors()
    assert caught.value.reason == "INVALID_BUNDLE"


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


@given(st.sampled_from([item.name for item in fields(BundleCard)]), JSON_VALUES)
def test_any_wrong_value_in_the_card_is_named(field: str, value: object) -> None:
    """Whatever stands in a field of the card: it is read, or refused with the domain's own error."""
    files = {name: entry_of(b"") for name in (bundles.MODEL, bundles.LABELS, bundles.VECTORS_JSON)}
    document = json.loads(bundles.card_json(replace(table_card(), files=files))) | {field: value}
    with suppress(InvalidArgument):
        card = bundles.parse_card(json.dumps(document).encode(), Path("m.bundle"))
        assert json.loads(bundles.card_json(card))[field] == value or field == "source", "its fields may be left out"


@given(st.binary(max_size=200))
def test_any_bytes_are_refused(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "any.bundle"
    path.write_bytes(data)
    with pytest.raises(InvalidArgument):
        bundles.open_bundle(path)


@given(st.lists(st.floats(width=32, allow_nan=True, allow_infinity=False), min_size=1), st.lists(st.text(), min_size=1))
def test_json_vectors_are_exact(numbers: list[float], texts: list[str]) -> None:
    vectors = TestVectors({"x": np.array(numbers, np.float32), "t": np.array(texts, object)}, {})
    if any("\ud800" <= ch <= "\udfff" for text in texts for ch in text):
        return
    back = bundle_vectors.vectors_from_json(bundle_vectors.vectors_to_json(vectors))
    np.testing.assert_array_equal(back.inputs["x"], vectors.inputs["x"])
    assert back.inputs["t"].tolist() == texts


FILES = {
    "onnx": {"model.onnx": b"graph"},
    "litert": {"model.tflite": b"graph"},
    "edge": {
        name: name.encode() for name in ("model.tflite", "model_data.h", "model_data.cc", "runner.py", "runner.cc", "README.txt")
    },
    "savedmodel": {
        "saved_model/saved_model.pb": b"graph",
        "saved_model/variables/variables.index": b"index",
        "saved_model/variables/variables.data-00000-of-00001": b"weights",
    },
    "openvino": {"model.xml": b"graph", "model.bin": b"weights"},
    "torch_export": {"model.pt2": b"program"},
}
OPTIONAL = {"edge": "model_vela.tflite", "savedmodel": "saved_model/fingerprint.pb"}


def written(path: Path, files: dict[str, bytes], **changes: object) -> bundles.Bundle:
    bundles.write_bundle(path, replace(picture_card(), **changes), files, picture_vectors())  # type: ignore[arg-type]
    return bundles.open_bundle(path)


@pytest.mark.parametrize("form", FILES)
def test_every_format_is_read_back_and_extracted(tmp_path: Path, form: str) -> None:
    files = FILES[form] | ({OPTIONAL[form]: b"more"} if form in OPTIONAL else {})
    bundle = written(tmp_path / "m.bundle", files, format=form)
    assert bundle.model_files() == files
    assert bundle.model_bytes() == next(iter(files.values()))
    everything = {str(p.relative_to(tmp_path / "all")) for p in bundle.extract(tmp_path / "all")}
    assert everything == {*files, "bundle.json", "labels.txt", "test_vectors.safetensors"}
    assert bundles.parse_card((tmp_path / "all" / "bundle.json").read_bytes(), tmp_path) == bundle.card
    paths = bundle.extract(tmp_path / "model", only_model=True)
    assert {str(path.relative_to(tmp_path / "model")): path.read_bytes() for path in paths} == files


def test_size_of_the_model_leaves_extras_out(tmp_path: Path) -> None:
    assert written(tmp_path / "a", FILES["edge"], format="edge").model_size == len(b"model.tflite")
    assert written(tmp_path / "b", FILES["openvino"], format="openvino").model_size == len(b"graphweights")


@pytest.mark.parametrize(
    ("form", "files", "says"),
    [
        ("litert", {"model.onnx": b"graph"}, "lists no model.tflite"),
        ("onnx", {"model.onnx": b"graph", "model.tflite": b"graph"}, "which a bundle of the format onnx does not hold"),
        ("openvino", {"model.xml": b"graph"}, "lists no model.bin"),
        ("savedmodel", {**FILES["savedmodel"], "saved_model/assets/evil.txt": b"x"}, "does not hold"),
        ("onnx", {"model.onnx": b"graph", "labels.txt": b"mine"}, "written from the card"),
        ("pickle", {"model.onnx": b"graph"}, "format is 'pickle', it must be one of onnx, litert"),
    ],
)
def test_files_of_another_format_are_refused(tmp_path: Path, form: str, files: dict[str, bytes], says: str) -> None:
    with pytest.raises(InvalidArgument, match=says):
        written(tmp_path / "m.bundle", files, format=form)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "name",
    [
        "saved_model/../evil",
        "saved_model/variables/../../evil",
        "saved_model\\evil",
        "/etc/evil",
        "saved_model/assets/x",
        "saved_model/",
    ],
)
def test_only_fixed_paths_are_read(tmp_path: Path, name: str) -> None:
    bundle = written(tmp_path / "m.bundle", FILES["savedmodel"], format="savedmodel")
    rewrite(bundle.path, {name: b"x"})
    with pytest.raises(InvalidArgument, match="a bundle holds only"):
        bundles.open_bundle(bundle.path)


def test_calibration_is_kept_and_checked(tmp_path: Path) -> None:
    ids = "a.png\nb\u2028.png\n".encode()
    quantized = {"precision": "int8", "quantization": QuantizationCard("post_training")}
    right = CalibrationCard(2, 7, entry_of(ids).sha256)
    bundle = written(tmp_path / "m", {"model.onnx": b"g", "calibration.txt": ids}, calibration=right, **quantized)
    assert bundle.calibration_ids() == ("a.png", "b\u2028.png")
    assert bundle.card.calibration == right
    for wrong in (None, replace(right, digest="0" * 64), replace(right, examples=3)):
        with pytest.raises(InvalidArgument, match="calibration"):
            written(tmp_path / "n", {"model.onnx": b"g", "calibration.txt": ids}, calibration=wrong, **quantized)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"precision": "int4"}, "precision is 'int4'"),
        ({"origin": "found"}, "origin is 'found'"),
        ({"quantization": QuantizationCard("guess")}, "quantization.method is 'guess'"),
        ({"calibration": CalibrationCard(0, 0, "0" * 64)}, "calibration needs 1 or more"),
        ({"tensors": (TensorMap("picture", "x"),)}, "tensors.picture is no input"),
        ({"tensors": (TensorMap("image", "x"), TensorMap("image", "y"))}, "twice"),
        ({"tensors": (TensorMap("image", "x", scale=0.0),)}, "scale must be"),
        ({"tensors": (TensorMap("image", "x", layout="HWCN"),)}, "layout 'HWCN'"),
        ({"tensors": (TensorMap("probabilities", "x", layout="NCHW"),)}, "does not fit its shape"),
    ],
)
def test_wrong_new_fields_are_named(tmp_path: Path, changes: dict[str, object], says: str) -> None:
    with pytest.raises(InvalidArgument, match=says):
        written(tmp_path / "m", {"model.onnx": b"g"}, **changes)


def test_cards_of_before_still_open(tmp_path: Path) -> None:
    """A card without the fields that came later reads with their defaults."""
    bundle = written(tmp_path / "m", {"model.onnx": b"g"})
    document = json.loads(bundles.card_json(bundle.card))
    for name in ("quantization", "calibration", "tensors", "origin", "licence"):
        del document[name]
    rewrite(bundle.path, {"bundle.json": json.dumps(document).encode()})
    assert bundles.open_bundle(bundle.path).card == bundle.card


def test_extract_never_overwrites_and_leaves_nothing(tmp_path: Path) -> None:
    bundle = written(tmp_path / "m.bundle", FILES["openvino"], format="openvino")
    folder = tmp_path / "out"
    folder.mkdir()
    (folder / "model.xml").write_bytes(b"mine")
    with pytest.raises(AlreadyExists, match=r"model\.xml is already in the folder"):
        bundle.extract(folder)
    assert [path.name for path in folder.iterdir()] == ["model.xml"]
    assert (folder / "model.xml").read_bytes() == b"mine"


def test_extract_refuses_what_changed_after_opening(tmp_path: Path) -> None:
    bundle = written(tmp_path / "m.bundle", FILES["openvino"], format="openvino")
    rewrite(bundle.path, {"model.xml": b"GRAPH"})
    with pytest.raises(InvalidArgument, match=r"model\.xml changed after"):
        bundle.extract(tmp_path / "out")
    assert not [path for path in (tmp_path / "out").rglob("*") if path.is_file()]
