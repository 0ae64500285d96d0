"""The worker's main function: what of its errors a caller gets to see."""

from __future__ import annotations

import errno
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from modelyard.core.artifacts import Blob
from modelyard.core.documents import to_document
from modelyard.core.errors import ResourceExhausted, Unimplemented
from modelyard.core.jobs.worker_link import Assignment, Cancelled
from modelyard.dataset.domain.records import ImportSpec
from modelyard.dataset.worker.__main__ import work
from tests.support.datasets import file_store


@dataclass
class Link:
    """As much of a WorkerLink as the work needs."""

    artifacts: Any
    workdir: Path
    said: str = "continue"

    def instruction(self) -> str:
        return self.said

    def report(self, **progress: Any) -> None:
        assert 0 <= progress["fraction"] <= 1


class FullDisk:
    """A store whose cache cannot be written."""

    def path(self, blob: Blob) -> Path:
        raise OSError(errno.ENOSPC, "No space left on device")


def assignment(kind: str, blob: Blob) -> Assignment:
    spec = to_document(ImportSpec("projects/p/datasets/d", blob, "t.csv"))
    return Assignment("projects/p/datasets/d/imports/i", kind, 1, spec, {}, 0.0)


def link(folder: Path, artifacts: Any = None, said: str = "continue") -> Any:
    return Link(artifacts or file_store(folder / "artifacts"), folder, said)


def test_an_import(tmp_path: Path) -> None:
    wires = link(tmp_path)
    blob = wires.artifacts.put_bytes(b"x,y\n1,a\n2,b\n")
    done = work(assignment("Import", blob), wires)
    assert done.result["summary"]["example_count"] == 2


def test_a_full_disk_is_named(tmp_path: Path) -> None:
    with pytest.raises(ResourceExhausted) as caught:
        work(assignment("Import", Blob("artifact://dataset/" + "0" * 64, "0" * 64, 1)), link(tmp_path, artifacts=FullDisk()))
    assert caught.value.reason == "DISK_FULL"


def test_cancel(tmp_path: Path) -> None:
    wires = link(tmp_path, said="cancel")
    blob = wires.artifacts.put_bytes(b"x,y\n1,a\n2,b\n")
    with pytest.raises(Cancelled):
        work(assignment("Import", blob), wires)


def test_another_kind(tmp_path: Path) -> None:
    with pytest.raises(Unimplemented):
        work(assignment("Training", Blob("", "", 0)), link(tmp_path))
