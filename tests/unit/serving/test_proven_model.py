"""Loading a bundle: its test vectors decide whether it is served, and its speed how."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from modelyard.core.errors import FailedPrecondition, InvalidArgument
from modelyard.formats.bundle import Parity
from modelyard.serving.handlers import proven_model
from modelyard.serving.handlers.proven_model import (
    DEFAULT_TOLERANCE,
    LoadOptions,
    card_digest,
    differences,
    load_proven,
    tolerance_of,
)
from tests.support.bundles import mlp_bundle, picture_bundle, spoil_vectors, text_bundle
from tests.support.runtime_bundles import card


@pytest.mark.parametrize("make", [mlp_bundle, picture_bundle, text_bundle])
def test_a_bundle_that_answers_its_vectors_is_loaded(tmp_path: Path, make: type[Path]) -> None:
    proven = load_proven(make(tmp_path / "m.zip"), LoadOptions(cores=2))
    assert proven.facts.threads == 1, "they are quick"
    assert proven.facts.most_rows >= 1
    assert proven.facts.row_s < 0.1
    assert bool(proven.facts.note) == (proven.facts.most_rows == 1)
    proven.model.close()


def test_a_bundle_that_answers_otherwise_is_refused(tmp_path: Path) -> None:
    path = spoil_vectors(tmp_path / "bad.zip", mlp_bundle(tmp_path / "m.zip"))
    with pytest.raises(FailedPrecondition, match=r"'probabilities' differs by up to 0.25") as refused:
        load_proven(path, LoadOptions())
    assert refused.value.reason == "TEST_VECTORS_DIFFER"


def test_a_damaged_bundle_is_refused(tmp_path: Path) -> None:
    path = mlp_bundle(tmp_path / "m.zip")
    data = bytearray(path.read_bytes())
    data[len(data) // 3] ^= 0xFF
    path.write_bytes(data)
    with pytest.raises(InvalidArgument) as refused:
        load_proven(path, LoadOptions())
    assert refused.value.reason == "INVALID_BUNDLE"


def test_only_the_bundle_that_is_meant(tmp_path: Path) -> None:
    first, other = mlp_bundle(tmp_path / "m.zip"), mlp_bundle(tmp_path / "n.zip", seed=3)
    proven = load_proven(first, LoadOptions())
    digest = card_digest(proven.bundle.card)
    load_proven(first, LoadOptions(card_sha256=digest)).model.close()
    with pytest.raises(FailedPrecondition) as changed:
        load_proven(other, LoadOptions(card_sha256=digest))
    assert changed.value.reason == "BUNDLE_CHANGED"


def test_a_slow_model_gets_the_threads_that_answer_most(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With figures of our own: 8 cores, of which four threads a call are nearly as good as one each."""
    rates = {8: 100.0, 4: 98.0, 2: 96.0, 1: 60.0}  # by callers: 1, 2, 4 and 8 threads a call
    monkeypatch.setattr(proven_model, "QUICK_S", 0.0)
    monkeypatch.setattr(proven_model, "SERIAL_S", 0.0)
    monkeypatch.setattr(proven_model, "_throughput", lambda model, vectors, callers: rates[callers])
    facts = load_proven(mlp_bundle(tmp_path / "m.zip"), LoadOptions(cores=8)).facts
    assert (facts.threads, facts.calls) == (4, 2)


def test_what_the_operator_says_is_not_tried(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(proven_model, "_best_threads", lambda *_: pytest.fail("tried"))
    monkeypatch.setattr(proven_model, "QUICK_S", 0.0)
    facts = load_proven(mlp_bundle(tmp_path / "m.zip"), LoadOptions(cores=8, threads=3, calls=2, most_rows=1)).facts
    assert (facts.threads, facts.calls, facts.most_rows, facts.note) == (3, 2, 1, "batches are switched off")


def test_differences_are_told_by_output() -> None:
    wanted = {"y": np.array([1.0, np.nan], np.float32)}
    assert differences(wanted, {"y": np.array([1.0, np.nan], np.float32)}, 0.0) == []
    assert differences(wanted, {"y": np.array([1.1, np.nan], np.float32)}, 0.01) == [
        "output 'y' differs by up to 0.1, allowed is 0.01"
    ]
    assert differences(wanted, {"y": np.array([1.0, 2.0], np.float32)}, 0.5) != []
    assert differences(wanted, {"y": np.array([1.0], np.float32)}, 0.5) == ["output 'y' has the shape [1], expected [2]"]
    assert differences({"n": np.array([1])}, {"n": np.array([2])}, 5.0) == ["output 'n' differs"]


def test_what_int8_may_differ() -> None:
    """A step or two; not what another model would answer. Float32 keeps to what its export allowed."""
    int8 = replace(card("litert-int8"), parity=Parity(8, 0.9, 0.5, 1.0, "torch"))
    assert tolerance_of(int8, {"probabilities": np.array([[0.5, 0.5]], np.float32)}) == 0.05
    assert tolerance_of(int8, {"y": np.array([[-40.0, np.nan, 3]], np.float32)}) == 2.0
    assert tolerance_of(card("litert-fp32"), {}) == DEFAULT_TOLERANCE
    assert tolerance_of(replace(card("onnx"), parity=Parity(8, 0, 1, 1e-3, "torch")), {}) == 1e-3


ZYGOTE = """
from modelyard.serving.worker import zygote
zygote.preload()
print(zygote.thread_count())
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs Linux")
def test_the_zygote_has_one_thread_and_no_torch() -> None:
    """Or it could not fork; onnxruntime starts a thread of its own unless its telemetry is off."""
    from modelyard.serving.adapters.zygote import _environment

    code = ZYGOTE + "import sys; print([name for name in sys.modules if name in ('torch', 'grpc', 'pydantic', 'sqlalchemy')])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=_environment(), check=True)
    assert done.stdout.split("\n")[:2] == ["1", "[]"]
