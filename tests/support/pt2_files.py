""".pt2 files changed in the ways in which a stranger would change them."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Callable
from typing import Any

Document = dict[str, Any]
MODEL = "models/model.json"
WEIGHTS = "data/weights/model_weights_config.json"
CONSTANTS = "data/constants/model_constants_config.json"


def records_of(data: bytes) -> dict[str, bytes]:
    """The records by their names below the archive's folder."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        return {name.partition("/")[2]: archive.read(name) for name in archive.namelist()}


def archive_of(records: dict[str, bytes], *, compression: int = zipfile.ZIP_STORED, folder: str = "archive") -> bytes:
    """The archive of such records."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", compression) as archive:
        for name, data in records.items():
            archive.writestr(f"{folder}/{name}", data)
    return stream.getvalue()


def changed(data: bytes, record: str, change: Callable[[Document], None], **more: bytes) -> bytes:
    """The file with one JSON record changed, and `more` records in it."""
    records = records_of(data)
    document = json.loads(records[record])
    change(document)
    return archive_of({**records, record: json.dumps(document).encode(), **more})


def nodes_of(document: Document) -> list[Document]:
    """The nodes of its graph."""
    nodes: list[Document] = document["graph_module"]["graph"]["nodes"]
    return nodes
