"""Writes a network as a torch.export program (.pt2) that holds no pickle.

Batch norms are folded as in the ONNX graph. torch.export.save stores the example inputs as a pickle, and beside each node the
Python source lines it came from, with the paths of the machine. Both are left out: the first record stays, empty, so that
torch.export.load still takes the file.
"""

from __future__ import annotations

import contextlib
import io
import json
import logging
import warnings
import zipfile
from collections.abc import Iterator
from typing import Any, Final

import torch

from modelyard.core.errors import FailedPrecondition, InvalidArgument
from modelyard.exporter.worker.fold import folded
from modelyard.formats.model import PictureInput
from modelyard.recipes.build_image import ServedImageModel
from modelyard.runtime.torch_program import OperatorError, ProgramError, read_program

IMAGE: Final = "image"
_KEPT: Final = ("archive_format", "archive_version", "byteorder", ".data/version")
_TABLES: Final = ("data/weights/model_weights_config.json", "data/constants/model_constants_config.json")
_FOLDER: Final = "archive"


def torch_program(model: ServedImageModel, picture: PictureInput) -> bytes:
    """The program, batch size open: uint8 [N, H, W, C] in, float32 [N, classes] out.

    Raises InvalidArgument NOT_EXPORTABLE, UNSUPPORTED_OPERATOR.
    """
    example = torch.zeros((2, picture.height, picture.width, picture.channels), dtype=torch.uint8)
    try:
        with _quiet():
            program = torch.export.export(
                _without_gradients(model), (example,), dynamic_shapes={IMAGE: {0: torch.export.Dim("N")}}, strict=False
            ).run_decompositions({})
    except Exception as error:  # torch raises whatever the network raises
        message = f"torch.export cannot write this network: {str(error)[:300]}"
        raise InvalidArgument("NOT_EXPORTABLE", message, field="architecture") from error
    buffer = io.BytesIO()
    with _quiet():
        torch.export.save(program, buffer)
    data = without_pickles(buffer.getvalue())
    _check(data)
    return data


def without_pickles(data: bytes) -> bytes:
    """A .pt2 of torch.export.save with nothing but its graph and its raw tensors; equal programs give equal bytes."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        records = {name.partition("/")[2]: archive.read(name) for name in archive.namelist()}
    kept: dict[str, bytes] = {name: records[name] for name in _KEPT if name in records}
    kept["models/model.json"] = _json(_lean(json.loads(records["models/model.json"])))
    for table in _TABLES:
        kept[table] = records[table]
        folder = table.rpartition("/")[0]
        paths = {entry["path_name"] for entry in json.loads(records[table])["config"].values()}
        kept |= {f"{folder}/{name}": records[f"{folder}/{name}"] for name in sorted(paths)}
    kept["data/sample_inputs/model.pt"] = b""
    return _zipped(kept)


def _lean(document: dict[str, Any]) -> dict[str, Any]:
    """The program's document without what says where its Python stood."""
    for node in document["graph_module"]["graph"]["nodes"]:
        node["metadata"] = {}
    document["guards_code"] = []
    return document


def _json(document: dict[str, Any]) -> bytes:
    return json.dumps(document, sort_keys=True, separators=(",", ":")).encode()


def _zipped(records: dict[str, bytes]) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_STORED) as archive:
        for name, data in records.items():
            archive.writestr(zipfile.ZipInfo(f"{_FOLDER}/{name}", date_time=(1980, 1, 1, 0, 0, 0)), data)
    return stream.getvalue()


def _check(data: bytes) -> None:
    """What the runtime cannot read is not written. Raises InvalidArgument UNSUPPORTED_OPERATOR, NOT_EXPORTABLE."""
    try:
        read_program(data)
    except OperatorError as error:
        message = f"the network uses {error.operator}, which no torch.export program of ours holds; export it as onnx"
        raise InvalidArgument("UNSUPPORTED_OPERATOR", message, field="format", operators=error.operator) from error
    except ProgramError as error:
        message = f"torch.export wrote a program that cannot be served: {error}"
        raise InvalidArgument("NOT_EXPORTABLE", message, field="architecture") from error


def _without_gradients(model: ServedImageModel) -> ServedImageModel:
    """A copy with its batch norms folded where the network can be traced, and nothing to be trained."""
    try:
        lean = folded(model)
    except FailedPrecondition:
        lean = model
    return lean.eval().requires_grad_(False)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
