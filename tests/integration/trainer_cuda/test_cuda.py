"""Training on a GPU of NVIDIA's, wherever there is one; and on a processor what of it can be seen there."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from modelyard.core.errors import FailedPrecondition, InvalidArgument
from modelyard.trainer.worker.loop import train
from modelyard.trainer.worker.precision import choose_precision, open_device, peak_memory
from tests.support.small_training import SMALL, KeptHooks, small_setup

needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="torch finds no GPU of NVIDIA's here")
CPU = torch.device("cpu")


def test_a_processor_computes_with_float32_unless_told() -> None:
    assert open_device("cpu", deterministic=False) == CPU
    assert choose_precision("auto", CPU).dtype is torch.float32
    assert choose_precision("bfloat16", CPU).dtype is torch.bfloat16
    assert not choose_precision("bfloat16", CPU).scaler().is_enabled()
    assert choose_precision("float16", CPU).scaler().is_enabled()
    assert peak_memory(CPU) == 0
    with pytest.raises(InvalidArgument, match="float32, bfloat16, float16"):
        choose_precision("int8", CPU)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_a_gpu_that_is_not_there_is_refused() -> None:
    with pytest.raises(FailedPrecondition, match="MODELYARD_DEVICE"):
        open_device("cuda", deterministic=False)


def test_bfloat16_learns_on_a_processor_too(tmp_path: Path) -> None:
    setup, computed = small_setup(tmp_path, precision="bfloat16"), set()
    setup.module.register_forward_hook(lambda module, given, gave: computed.add(gave.dtype))
    outcome = train(setup, KeptHooks())
    assert outcome.metrics["val_accuracy"] > 0.8
    assert computed == {torch.bfloat16}
    assert {str(value.dtype) for value in outcome.weights.values()} <= {"float32", "int64"}, "what is kept is exact"


@needs_gpu
@pytest.mark.parametrize("precision", ["auto", "float16", "bfloat16", "float32"])
def test_a_gpu_learns_with_every_precision(tmp_path: Path, precision: str) -> None:
    device = open_device("auto", deterministic=False)
    outcome = train(small_setup(tmp_path, replace(SMALL, max_epochs=8), device=str(device), precision=precision), KeptHooks())
    assert outcome.metrics["val_accuracy"] > 0.8
    assert outcome.peak_memory_bytes > 0


@needs_gpu
def test_a_deterministic_run_gives_the_same_bits(tmp_path: Path) -> None:
    device = open_device("cuda", deterministic=True)
    runs = []
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
        runs.append(train(small_setup(tmp_path / name, device=str(device), precision="float32"), KeptHooks()).weights)
    assert all((runs[0][name] == runs[1][name]).all() for name in runs[0])
