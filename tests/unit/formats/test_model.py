"""The model file: what is written is read back, the bytes depend on the content alone, and nothing else is accepted."""

from __future__ import annotations

import io
import json
import pickle
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from modelyard.core.errors import DataLoss, InvalidArgument
from modelyard.formats.model import (
    ModelCard,
    Normalization,
    PictureInput,
    dump_tensors,
    load_tensors,
    read_card,
    read_model,
    write_model,
)

CARD = ModelCard(
    kind="torch",
    task="image_classification",
    architecture="modelyard:tinynet",
    classes=("cat", "dog", "Fuß"),
    input=PictureInput(28, 32, 3),
    normalization=Normalization((0.5, 0.4, 0.3), (0.2, 0.2, 0.25)),
    metrics={"val_accuracy": 0.9},
    recipe={"name": "tinynet", "hyperparameters": {"seed": 3}},
    dataset={"version": "projects/p/datasets/d/versions/V001"},
)
WEIGHTS: dict[str, Any] = {"b.weight": np.arange(6, dtype=np.float32).reshape(2, 3), "a.count": np.array(7, np.int64)}


def members_of(path: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def rewritten(path: Path, members: dict[str, bytes], *, compression: int = zipfile.ZIP_STORED) -> Path:
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return path


@pytest.fixture
def written(tmp_path: Path) -> Path:
    path = tmp_path / "model.zip"
    write_model(path, CARD, WEIGHTS)
    return path


def test_what_is_written_is_read_back(written: Path) -> None:
    model = read_model(written)
    assert model.card == CARD
    tensors = model.tensors()
    assert tensors.keys() == WEIGHTS.keys()
    assert all(np.array_equal(tensors[name], WEIGHTS[name]) and tensors[name].shape == WEIGHTS[name].shape for name in WEIGHTS)
    assert read_card(written) == CARD


def test_trees_and_lines_have_their_own_payload(tmp_path: Path) -> None:
    table = {"task": "tabular_regression", "columns": ({"name": "x", "type": "numeric"},), "target": "y"}
    trees = ModelCard(kind="lightgbm", architecture="lightgbm", **table)  # type: ignore[arg-type]
    write_model(tmp_path / "trees", trees, b"tree\nversion=v4\n")
    assert read_model(tmp_path / "trees").payload == b"tree\nversion=v4\n"
    line = ModelCard(kind="linear", architecture="linear", **table)  # type: ignore[arg-type]
    write_model(tmp_path / "line", line, {"coefficients": np.ones(3)})
    assert members_of(tmp_path / "line").keys() == {"model.json", "linear.safetensors"}


def test_the_same_content_gives_the_same_bytes(written: Path, tmp_path: Path) -> None:
    other = tmp_path / "again.zip"
    write_model(other, CARD, dict(reversed(WEIGHTS.items())))
    assert other.read_bytes() == written.read_bytes()
    infos = zipfile.ZipFile(written).infolist()
    assert all(info.compress_type == zipfile.ZIP_STORED and info.date_time == (1980, 1, 1, 0, 0, 0) for info in infos)


def test_nothing_half_written_stays(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"(?i)nan|json"):
        write_model(tmp_path / "model.zip", replace(CARD, metrics={"val_loss": float("nan")}), WEIGHTS)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"kind": "pickle"}, "kind"),
        ({"task": "poetry"}, "task"),
        ({"architecture": ""}, "architecture"),
        ({"classes": ("one",)}, "classes"),
        ({"classes": ("a", "a")}, "classes"),
        ({"input": None}, "input"),
        ({"input": PictureInput(0, 8, 3)}, "input.height"),
        ({"input": PictureInput(8, 5000, 3)}, "input.width"),
        ({"input": PictureInput(8, 8, 2)}, "input.channels"),
        ({"normalization": Normalization((0.5,), (0.5,))}, "normalization"),
        ({"normalization": Normalization((0.5,) * 3, (0.5, 0.0, 0.5))}, "normalization.std"),
    ],
)
def test_a_wrong_card_is_named(tmp_path: Path, change: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        write_model(tmp_path / "model.zip", replace(CARD, **change), WEIGHTS)
    assert caught.value.reason == "BAD_MODEL"
    assert caught.value.violations[0].field == f"card.{field}"


def test_changed_weights_are_noticed(written: Path) -> None:
    members = members_of(written)
    members["weights.safetensors"] = dump_tensors({"b.weight": np.zeros((2, 3), np.float32)})
    with pytest.raises(DataLoss) as caught:
        read_model(rewritten(written, members))
    assert caught.value.reason == "DAMAGED_MODEL"


def _card_with(members: dict[str, bytes], **changes: Any) -> dict[str, bytes]:
    return members | {"model.json": json.dumps(json.loads(members["model.json"]) | changes).encode()}


@pytest.mark.parametrize(
    "harm",
    [
        lambda members: {},
        lambda members: {"model.json": members["model.json"]},
        lambda members: members | {"../evil": b"x"},
        lambda members: members | {"model.json": b"[]"},
        lambda members: members | {"model.json": b"{"},
        lambda members: members | {"model.json": b"[" * 100_000},
        lambda members: _card_with(members, format=2),
        lambda members: _card_with(members, kind="unknown"),
        lambda members: _card_with(members, classes=5),
        lambda members: _card_with(members, input={"height": 1}),
        lambda members: _card_with(members, metrics={"val_loss": "much"}),
        lambda members: _card_with(members, architecture=""),
    ],
)
def test_other_zips_are_refused(written: Path, harm: Any) -> None:
    with pytest.raises(InvalidArgument) as caught:
        read_model(rewritten(written, harm(members_of(written))))
    assert caught.value.reason == "BAD_MODEL"


def test_compressed_members_are_refused(written: Path) -> None:
    with pytest.raises(InvalidArgument, match="compressed"):
        read_model(rewritten(written, members_of(written), compression=zipfile.ZIP_DEFLATED))


@pytest.mark.parametrize("data", [b"", b"PK\x03\x04", pickle.dumps({"weights": 1}), b"\x00" * 4096])
def test_other_files_are_refused(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "model.zip"
    path.write_bytes(data)
    with pytest.raises(InvalidArgument) as caught:
        read_model(path)
    assert caught.value.reason == "BAD_MODEL"


@settings(deadline=None)  # files are written
@given(cut=st.integers(0, 10_000), flip=st.integers(0, 255))
def test_a_damaged_file_never_gives_other_weights(tmp_path_factory: pytest.TempPathFactory, cut: int, flip: int) -> None:
    path = tmp_path_factory.mktemp("damaged") / "model.zip"
    write_model(path, CARD, WEIGHTS)
    data = bytearray(path.read_bytes())
    data[cut % len(data)] ^= flip
    path.write_bytes(data)
    try:
        model = read_model(path)
    except (InvalidArgument, DataLoss):
        return
    assert all(np.array_equal(model.tensors()[name], WEIGHTS[name]) for name in WEIGHTS)


@given(
    st.dictionaries(
        st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=20),
        arrays(np.float32, array_shapes(min_dims=0, max_side=4)),
        max_size=5,
    )
)
def test_tensors_come_back_bit_for_bit(tensors: dict[str, Any]) -> None:
    tensors.pop("__metadata__", None)
    back = load_tensors(dump_tensors(tensors))
    assert back.keys() == tensors.keys()
    assert all(back[name].tobytes() == tensors[name].tobytes() and back[name].shape == tensors[name].shape for name in tensors)


def test_a_broken_tensor_file_is_data_loss() -> None:
    whole = dump_tensors(WEIGHTS)
    for data in (b"", whole[:-1], whole[:9], io.BytesIO(b"x" * 100).getvalue()):
        with pytest.raises(DataLoss):
            load_tensors(data)
