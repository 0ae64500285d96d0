"""Curves for TensorBoard, and models of MLflow: written and read without either."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import pytest

from modelyard.cli.mlflow_model import model_file
from modelyard.cli.tensorboard import crc32c, event, masked, record, write_curves
from modelyard.client import InvalidArgument
from modelyard.trainer.v1 import trainer_pb2


def point(step: int, **metrics: float) -> trainer_pb2.TrainingPoint:
    made = trainer_pb2.TrainingPoint(step=step, loss=1 / step, learning_rate=0.5, metrics=metrics)
    made.time.FromSeconds(1_700_000_000 + step)
    return made


def records(data: bytes) -> list[bytes]:
    """What a reader of TFRecords gets; every checksum is looked at."""
    found, at = [], 0
    while at < len(data):
        (length,) = struct.unpack_from("<Q", data, at)
        assert struct.unpack_from("<I", data, at + 8)[0] == masked(data[at : at + 8])
        body = data[at + 12 : at + 12 + length]
        assert struct.unpack_from("<I", data, at + 12 + length)[0] == masked(body)
        found.append(body)
        at += 16 + length
    return found


def test_checksums_are_castagnolis() -> None:
    assert crc32c(b"123456789") == 0xE3069283
    assert crc32c(bytes(32)) == 0x8A9136AA
    assert len(record(b"abc")) == 3 + 16


def test_curves_become_an_event_file(tmp_path: Path) -> None:
    points = [point(1), point(2, val_accuracy=0.5, train_loss=0.25, other=1.0)]
    path = write_curves(tmp_path, "job-1", points)
    assert path.parent == tmp_path / "job-1"
    assert path.name.startswith("events.out.tfevents.")
    found = records(path.read_bytes())
    assert len(found) == 3
    assert b"brain.Event:2" in found[0]
    assert b"train/loss" in found[1]
    assert b"validation" not in found[1]
    assert all(tag in found[2] for tag in (b"validation/accuracy", b"train_sample/loss", b"metrics/other"))
    assert struct.pack("<f", 0.25) in found[2]
    assert event(point(300))[:9] == b"\x09" + struct.pack("<d", 1_700_000_300.0)
    assert records(write_curves(tmp_path, "empty", []).read_bytes())


def mlflow(folder: Path, card: str) -> Path:
    folder.mkdir()
    (folder / "MLmodel").write_text(card)
    (folder / "model.onnx").write_bytes(b"onnx")
    return folder


def test_the_onnx_file_of_an_mlflow_model(tmp_path: Path) -> None:
    folder = mlflow(tmp_path / "m", "flavors:\n  onnx:\n    data: model.onnx\n  python_function: {}\n")
    assert model_file(folder) == (folder / "model.onnx").resolve()
    assert model_file(tmp_path / "some.onnx") == tmp_path / "some.onnx"


@pytest.mark.parametrize(
    ("card", "said"),
    [
        ("flavors:\n  sklearn: {pickled_model: model.pkl}\n", "flavors sklearn; those are pickles"),
        ("flavors:\n  onnx: {data: ../../etc/passwd}\n", "which is not in it"),
        ("a: [", "is no YAML"),
        ("[]", "flavors none"),
    ],
)
def test_others_are_refused_with_what_to_do(tmp_path: Path, card: str, said: str) -> None:
    with pytest.raises(InvalidArgument, match=said):
        model_file(mlflow(tmp_path / "m", card))


def test_a_folder_that_is_no_model(tmp_path: Path) -> None:
    with pytest.raises(InvalidArgument, match="without a file MLmodel"):
        model_file(tmp_path)


def test_tensorboard_wants_a_folder(run: Any) -> None:
    ended = run("runs", "save", "x.csv", "--tensorboard")
    assert (ended.status, "give a folder" in ended.err) == (2, True)
