"""Checkpoints: bit for bit, without pickle, and visible only when whole."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import save

from modelyard.core.errors import DataLoss
from modelyard.formats import checkpoint as subject
from modelyard.formats.checkpoint import Checkpoint, read_checkpoint, read_state, write_checkpoint


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    tensors = {"weights/a": np.arange(4.0), "weights/b": np.array(3, np.int64), "best/a": np.zeros((2, 2), np.float32)}
    state = {"step": 7, "metrics": {"val_loss": 0.1 + 0.2}, "progress": {"value": 1 / 3}}
    write_checkpoint(tmp_path / "last", Checkpoint(tensors, state))
    back = read_checkpoint(tmp_path / "last")
    assert back.state == state == read_state(tmp_path / "last")
    assert back.group("weights").keys() == {"a", "b"}
    assert all(
        np.array_equal(back.tensors[name], value) and back.tensors[name].shape == value.shape for name, value in tensors.items()
    )


def test_a_failed_write_leaves_the_old_file_alone(tmp_path: Path) -> None:
    path = tmp_path / "last"
    write_checkpoint(path, Checkpoint({}, {"step": 1}))
    with pytest.raises(TypeError):
        write_checkpoint(path, Checkpoint({}, {"step": object()}))
    assert read_state(path) == {"step": 1}
    assert [each.name for each in tmp_path.iterdir()] == ["last"]


@pytest.mark.parametrize("kind", ["sgd", "adam"])
def test_an_optimizer_comes_back_as_it_was(tmp_path: Path, kind: str) -> None:
    layer = torch.nn.Linear(3, 2)
    create = {
        "sgd": lambda: torch.optim.SGD(layer.parameters(), lr=0.1, momentum=0.9),
        "adam": lambda: torch.optim.Adam(layer.parameters()),
    }
    optimizer: torch.optim.Optimizer = create[kind]()  # type: ignore[no-untyped-call]
    layer(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    arrays, rest = subject.pack_optimizer_torch(optimizer.state_dict())
    write_checkpoint(tmp_path / "last", Checkpoint(arrays, {"optimizer_rest": rest}))
    state = subject.unpack_optimizer_torch(read_checkpoint(tmp_path / "last"))
    for index, values in optimizer.state_dict()["state"].items():
        for key, value in values.items():
            assert torch.equal(torch.as_tensor(state[index][key]), torch.as_tensor(value))


def test_random_generators_come_back_where_they_were(tmp_path: Path) -> None:
    arrays, rest = subject.random_state_torch()
    write_checkpoint(tmp_path / "last", Checkpoint(arrays, {"random": rest}))
    drawn = torch.rand(3), np.random.rand(3), random.random()
    subject.restore_random_state_torch(read_checkpoint(tmp_path / "last"))
    assert torch.equal(torch.rand(3), drawn[0])
    assert np.array_equal(np.random.rand(3), drawn[1])
    assert random.random() == drawn[2]


def test_packed_weights_are_copies() -> None:
    layer = torch.nn.Linear(2, 2)
    packed = subject.pack_torch(layer.state_dict(), "weights")
    before = packed["weights/bias"].copy()
    with torch.no_grad():
        layer.bias.add_(1.0)
    assert np.array_equal(packed["weights/bias"], before)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x80\x04K\x01.",
        b"\xff" * 100,
        save({"weights/a": np.zeros(2)}),
        save({"weights/a": np.zeros(2)}, metadata={"modelyard": "{"}),
        save({"weights/a": np.zeros(2)}, metadata={"modelyard": '{"format": 9, "state": {}}'}),
        save({"weights/a": np.zeros(2)}, metadata={"modelyard": '{"format": 1, "state": []}'}),
        save({"weights/a": np.zeros(2)}, metadata={"modelyard": "[]"}),
    ],
)
def test_other_files_are_refused(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "last"
    path.write_bytes(data)
    with pytest.raises(DataLoss) as caught:
        read_checkpoint(path)
    assert caught.value.reason == "DAMAGED_CHECKPOINT"


def test_an_absent_file_is_data_loss(tmp_path: Path) -> None:
    with pytest.raises(DataLoss):
        read_state(tmp_path / "none")
