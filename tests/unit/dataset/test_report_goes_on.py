"""What a quality report has worked out is not lost with its process."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from modelyard.dataset.domain.work import Work
from modelyard.dataset.handlers.quality_reports import forget_saved
from modelyard.dataset.worker import picture_pass, report_job
from modelyard.dataset.worker.memory import StoredMemory
from modelyard.formats.pictures import encode_png
from tests.support.datasets import file_store
from tests.unit.dataset.test_dataset_report_publish import Bench


class Killed(BaseException):
    """What a process does not survive."""


def many(count: int) -> dict[str, bytes]:
    rng = np.random.default_rng(0)
    pictures = rng.integers(0, 256, (count, 12, 12), dtype=np.uint8)
    pictures[::2] //= 3
    return {f"{('a', 'b')[place % 2]}/{place:04d}.png": encode_png(picture) for place, picture in enumerate(pictures)}


@pytest.mark.parametrize("processes", [1, 2])
def test_an_attempt_looks_at_what_those_before_it_did_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, processes: int
) -> None:
    monkeypatch.setattr(picture_pass, "_AT_ONCE", 16)
    monkeypatch.setattr(picture_pass, "KEPT", 64)
    monkeypatch.setattr(picture_pass, "_ALONE", 0)
    monkeypatch.setattr(report_job, "_MANY", 10)
    monkeypatch.setattr(picture_pass, "usable_cores", lambda: processes)
    bench = Bench(tmp_path)
    imported = bench.imported(many(300), "p.zip")
    whole = bench.report(imported)
    saved: dict[str, str] = {}
    looked: list[int] = []

    def report(kept: dict[str, str]) -> None:
        saved.clear()
        saved.update(kept)

    def attempt(last: str, done: int) -> Any:
        def progress(stage: str, at: int, total: int, unit: str, fraction: float) -> None:
            if stage == "look at pictures":
                looked.append(at)
            if (stage, at) >= (last, done) and stage == last:
                raise Killed

        folder = bench.folder()
        memory = StoredMemory(bench.store, folder, dict(saved), report)
        spec = report_job.ReportSpec("d", "i", imported)
        return report_job.run(spec, bench.store, folder, Work(progress, memory=memory)), memory

    with pytest.raises(Killed):
        attempt("look at pictures", 160)
    kept = [name for name in saved if name.startswith("looks")]
    assert kept
    with pytest.raises(Killed):
        attempt("find neighbours", 0)
    assert {*kept, "labels"} <= set(saved)
    looked.clear()
    made, memory = attempt("never", 0)
    assert looked == []  # nothing is decoded again
    assert {kind.kind for kind in made.findings} == set(whole)
    assert made.findings == bench.made.findings
    memory.forget()
    assert saved == {}
    assert not any(uri in str(list(bench.store.list())) for uri in kept)


def test_what_is_kept_is_found_again_and_what_is_damaged_is_not(tmp_path: Path) -> None:
    store = file_store(tmp_path / "artifacts")
    told: list[Mapping[str, str]] = []
    memory = StoredMemory(store, tmp_path, {}, told.append)
    arrays: dict[str, npt.NDArray[Any]] = {"a": np.arange(5), "b": np.ones((2, 3), np.float16)}
    memory.keep("x", arrays)
    again = StoredMemory(store, tmp_path, told[-1], told.append)
    found = again.recall("x")
    assert found is not None
    assert all(np.array_equal(found[name], arrays[name]) and found[name].dtype == arrays[name].dtype for name in arrays)
    assert again.recall("y") is None
    place = store.path(told[-1]["x"])
    place.chmod(0o644)
    place.write_bytes(b"something else")
    assert StoredMemory(store, tmp_path, told[-1], told.append).recall("x") is None
    pickled = tmp_path / "p.npz"
    np.savez(pickled, a=np.array([{"x": 1}], object))
    assert StoredMemory(store, tmp_path, {"x": store.put_file(pickled).uri, "y": "no uri"}, told.append).recall("x") is None


def test_a_job_that_is_given_up_leaves_nothing(tmp_path: Path) -> None:
    store = file_store(tmp_path / "artifacts")
    blob = store.put_bytes(b"kept")
    forget_saved(store, SimpleNamespace(saved={"x": blob.uri, "y": 3}))  # type: ignore[arg-type]
    forget_saved(store, SimpleNamespace(saved=None))  # type: ignore[arg-type]
    assert not store.exists(blob)
