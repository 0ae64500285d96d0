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

from modelyard.core.errors import InvalidArgument
from modelyard.formats import bundle as bundles
from modelyard.formats.bundle import BundleCard, ColumnInput, Parity, PictureInput, Source, TensorSpec, TestVectors


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


def rewrite(path: Path, changes: dict[str, bytes | None], **kwargs: int) -> None:
    """Writes the zip again with some files changed, added or (None) left out."""
    with zipfile.ZipFile(path) as archive:
        files: dict[str, bytes | None] = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w", **kwargs) as archive:
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
    files = card.files | {bundles.VECTORS_JSON: bundles._entry(vectors)}
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
    files = {name: bundles._entry(b"") for name in (bundles.MODEL, bundles.LABELS, bundles.VECTORS_JSON)}
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
    back = bundles._vectors_from_json(bundles._vectors_to_json(vectors))
    np.testing.assert_array_equal(back.inputs["x"], vectors.inputs["x"])
    assert back.inputs["t"].tolist() == texts
