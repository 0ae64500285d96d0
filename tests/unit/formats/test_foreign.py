"""Model files that are never read are told by their bytes and names, whatever they call themselves."""

from __future__ import annotations

import io
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from modelyard.core.errors import InvalidArgument
from modelyard.formats.bundle import open_bundle
from modelyard.formats.foreign import BY_ENDING, foreign_file, refusal


class Trap:
    """What a pickle calls when it is read."""

    def __reduce__(self) -> tuple[Any, ...]:
        return (pytest.fail, ("a pickle was read",))


def zip_of(*members: str) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name in members:
            archive.writestr(name, b"x")
    return stream.getvalue()


def of_torch_save() -> bytes:
    torch = pytest.importorskip("torch")
    stream = io.BytesIO()
    torch.save({"weight": torch.zeros(2)}, stream)
    return stream.getvalue()


def of_torch_jit() -> bytes:
    torch = pytest.importorskip("torch")
    stream = io.BytesIO()
    torch.jit.save(torch.jit.script(torch.nn.Linear(2, 2)), stream)
    return stream.getvalue()


def of_joblib() -> bytes:
    joblib = pytest.importorskip("joblib")
    stream = io.BytesIO()
    joblib.dump({"model": [1.0]}, stream)
    return stream.getvalue()


FILES: dict[str, tuple[Callable[[], bytes], str, str]] = {
    "pickle, protocol 5": (lambda: pickle.dumps(Trap()), "a pickle", "skl2onnx"),
    "pickle, protocol 2": (lambda: pickle.dumps(Trap(), 2), "a pickle", "skl2onnx"),
    "pickle, protocol 0": (lambda: b"cposix\nsystem\n(S'true'\ntR.", "a pickle", "skl2onnx"),
    "joblib": (of_joblib, "a pickle", "skl2onnx"),
    "torch.save": (of_torch_save, "a torch file of pickles", "torch.onnx.export"),
    "torch.jit.save": (of_torch_jit, "a TorchScript archive", "torch.onnx.export"),
    "keras": (lambda: zip_of("metadata.json", "config.json", "model.weights.h5"), "Lambda layers are Python", "TFLiteConverter"),
    "h5": (lambda: b"\x89HDF\r\n\x1a\n" + bytes(100), "Lambda layers are Python", "TFLiteConverter"),
    "mlpackage": (lambda: zip_of("m.mlpackage/Data/com.apple.CoreML/model.mlmodel"), "a Core ML model", ".onnx"),
    "shared library": (lambda: b"\x7fELF\x02\x01\x01" + bytes(100), "a program or shared library", ".onnx"),
    "script": (lambda: b"#!/bin/sh\n", "a program", ".onnx"),
    "tar.gz": (lambda: b"\x1f\x8b\x08" + bytes(100), "a compressed archive", "unpack it"),
    "tar": (lambda: bytes(257) + b"ustar\x0000" + bytes(300), "a compressed archive", "unpack it"),
    "npy": (lambda: b"\x93NUMPY\x01\x00", "weights without a graph", ".onnx"),
    "gguf": (lambda: b"GGUF\x03\x00\x00\x00", "weights without a graph", ".onnx"),
}


@pytest.mark.parametrize("kind", FILES)
@pytest.mark.parametrize("name", ["model.onnx", "model.tflite", "model.bundle"])
def test_told_by_its_bytes_whatever_its_name(tmp_path: Path, kind: str, name: str) -> None:
    make, what, instead = FILES[kind]
    (tmp_path / name).write_bytes(make())
    found = foreign_file(tmp_path / name)
    assert found is not None
    assert what in found.what
    assert instead in found.instead
    assert refusal(name, tmp_path / name) == found


@pytest.mark.parametrize("kind", FILES)
def test_taken_for_a_bundle(tmp_path: Path, kind: str) -> None:
    make, what, instead = FILES[kind]
    path = tmp_path / "m.bundle"
    path.write_bytes(make())
    with pytest.raises(InvalidArgument, match=r"bundle m\.bundle: it is no bundle but") as caught:
        open_bundle(path)
    assert caught.value.reason == "INVALID_BUNDLE"
    assert what in caught.value.message
    assert instead in caught.value.message
    assert str(tmp_path) not in caught.value.message


@pytest.mark.parametrize("ending", BY_ENDING)
def test_told_by_its_name(ending: str) -> None:
    found = refusal(f"Model{ending.upper()}")
    assert found is not None
    assert found.instead


@pytest.mark.parametrize(
    "data", [b"", b"x", zip_of("bundle.json"), zip_of("a/archive_format", "a/data/sample_inputs/model.pt"), b"PK\x03\x04"]
)
def test_nothing_is_said_of_others(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "m").write_bytes(data)
    assert foreign_file(tmp_path / "m") is None


def test_a_link_inside_a_bundle(tmp_path: Path) -> None:
    path = tmp_path / "m.bundle"
    with zipfile.ZipFile(path, "w") as archive:
        link = zipfile.ZipInfo("model.onnx")
        link.create_system, link.external_attr = 3, 0o120777 << 16
        archive.writestr(link, "/etc/passwd")
    with pytest.raises(InvalidArgument, match=r"model\.onnx is a link or a special file"):
        open_bundle(path)
