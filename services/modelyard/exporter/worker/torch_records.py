"""The records of a torch.export program (.pt2), without torch: what is kept of a file, and a softmax at its end.

torch.export.save stores the example inputs as a pickle, and beside each node the Python source lines it came from, with the paths
of the machine. Both are left out: the first record stays, empty, so that torch.export.load still takes the file.
"""

from __future__ import annotations

import io
import json
import zipfile
from typing import Any, Final

MODEL: Final = "models/model.json"
_KEPT: Final = ("archive_format", "archive_version", "byteorder", ".data/version")
_TABLES: Final = ("data/weights/model_weights_config.json", "data/constants/model_constants_config.json")
_FOLDER: Final = "archive"


def without_pickles(data: bytes) -> bytes:
    """A .pt2 of torch.export.save with nothing but its graph and its raw tensors; equal programs give equal bytes."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        records = {name.partition("/")[2]: archive.read(name) for name in archive.namelist()}
    kept: dict[str, bytes] = {name: records[name] for name in _KEPT if name in records}
    kept[MODEL] = _json(_lean(json.loads(records[MODEL])))
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


def with_softmax(data: bytes) -> bytes:
    """The program, one of ours, with its only output [N, classes] turned into probabilities."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        records = {name.partition("/")[2]: archive.read(name) for name in archive.namelist()}
    document = json.loads(records[MODEL])
    module, name = document["graph_module"], "modelyard_softmax"
    graph = module["graph"]
    scores = graph["outputs"][0]["as_tensor"]["name"]
    arguments = [("self", {"as_tensor": {"name": scores}}), ("dim", {"as_int": 1})]
    graph["nodes"].append(
        {
            "target": "torch.ops.aten.softmax.int",
            "inputs": [{"name": key, "arg": value, "kind": 1} for key, value in arguments],
            "outputs": [{"as_tensor": {"name": name}}],
            "metadata": {},
            "is_hop_single_tensor_return": None,
            "name": name,
        }
    )
    graph["tensor_values"][name] = graph["tensor_values"][scores]
    graph["outputs"] = [{"as_tensor": {"name": name}}]
    module["signature"]["output_specs"] = [{"user_output": {"arg": {"as_tensor": {"name": name}}}}]
    return _zipped({**records, MODEL: _json(document)})
