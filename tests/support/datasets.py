"""Dataset versions for tests, published through the real formats into a file store."""

from __future__ import annotations

import csv
import hashlib
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from modelyard.core.artifacts import ArtifactStore, Blob, open_store
from modelyard.formats import dataset as formats
from modelyard.formats.dataset import Column, DatasetDescriptor, DatasetReader
from modelyard.formats.pictures import encode_png

Values = Sequence[Any]


def file_store(folder: Path, namespace: str = "dataset") -> ArtifactStore:
    """A store in a folder of the test."""
    return open_store(f"file://{folder}", namespace)


def read_csv(path: Path) -> dict[str, list[Any]]:
    """Columns of a CSV: float (missing None) where every value is a number, else str (missing None)."""
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    return {name: _typed([row[name] for row in rows]) for name in rows[0]}


def _typed(values: list[str]) -> list[Any]:
    try:
        return [float(value) if value != "" else None for value in values]
    except ValueError:
        return [value or None for value in values]


def usages(labels: Sequence[str], seed: int = 0) -> list[str]:
    """0.8 train, 0.1 validation, 0.1 test, each label spread evenly."""
    order = np.random.default_rng(seed).permutation(len(labels))
    order = order[np.argsort(np.array(labels, dtype=object).astype(str)[order], kind="stable")]
    kinds = [*["train"] * 8, "validation", "test"]
    out = [""] * len(labels)
    for place, row in enumerate(order):
        out[row] = kinds[place % 10]
    return out


def publish_table(
    store: ArtifactStore,
    columns: dict[str, Values],
    target: str,
    *,
    task: str,
    usage: Sequence[str] | None = None,
    drop: Sequence[str] = (),
    seed: int = 0,
) -> Blob:
    """Publishes a table; columns of numbers and None are numeric, the rest categorical. The descriptor's blob."""
    import pyarrow as pa

    kept = {name: values for name, values in columns.items() if name not in drop}
    numeric = {name: _is_numeric(values) for name, values in kept.items()}
    classify = task == formats.TABULAR_CLASSIFICATION
    labels = [_label(value) for value in kept[target]] if classify else [None] * len(kept[target])
    arrays = {n: pa.array(v, pa.float64() if numeric[n] else pa.string()) for n, v in kept.items() if n != target or not classify}
    if classify:
        arrays[target] = pa.array(labels, pa.string())
    usage = usage or usages([str(label) for label in labels] if classify else [""] * len(labels), seed)
    table = _put_table(store, pa.table(arrays))
    return _publish(
        store,
        labels,
        usage,
        {"row": list(range(len(labels)))},
        kind=formats.TABLE,
        task=task,
        table=table,
        target=target,
        classes=tuple(sorted({str(label) for label in labels})) if classify else (),
        columns=tuple(
            Column(name, "numeric" if numeric[name] else "categorical", "target" if name == target else "feature")
            for name in kept
        ),
    )


def publish_pictures(
    store: ArtifactStore,
    pictures: Any,
    labels: Sequence[str],
    *,
    usage: Sequence[str] | None = None,
    pack_bytes: int = formats.PACK_BYTES,
) -> Blob:
    """Publishes uint8 [N, H, W] or [N, H, W, C] pictures as PNG files. The descriptor's blob."""
    files, size = [encode_png(picture) for picture in pictures], (pictures.shape[2], pictures.shape[1])
    return publish_files(store, files, labels, usage=usage, pack_bytes=pack_bytes, size=size)


def publish_files(
    store: ArtifactStore,
    files: Sequence[bytes],
    labels: Sequence[str],
    *,
    usage: Sequence[str] | None = None,
    pack_bytes: int = formats.PACK_BYTES,
    size: tuple[int, int] = (1, 1),
) -> Blob:
    """Publishes files, whatever is in them; `size`: the width and height that is said of them. The descriptor's blob."""
    with tempfile.TemporaryDirectory() as folder:
        writer = formats.PackWriter(Path(folder), pack_bytes=pack_bytes)
        spans = [writer.append(file) for file in files]
        packs = writer.put_all(store)
    extra: dict[str, Values] = {
        "pack": [span.pack for span in spans],
        "offset": [span.offset for span in spans],
        "length": [span.length for span in spans],
        "width": [size[0]] * len(files),
        "height": [size[1]] * len(files),
    }
    return _publish(
        store,
        labels,
        usage or usages(labels),
        extra,
        kind=formats.IMAGE,
        contents=files,
        task=formats.IMAGE_CLASSIFICATION,
        packs=packs,
        classes=tuple(sorted(set(labels))),
    )


def open_reader(store: ArtifactStore, descriptor: Blob) -> DatasetReader:
    """The reader that workers use."""
    return formats.open_dataset(store, descriptor)


def _publish(
    store: ArtifactStore,
    labels: Values,
    usage: Sequence[str],
    extra: dict[str, Values],
    *,
    kind: str,
    contents: Sequence[bytes] = (),
    **described: Any,
) -> Blob:
    import pyarrow as pa

    contents = contents or [str(row).encode() for row in range(len(usage))]
    sha = [hashlib.sha256(content).hexdigest() for content in contents]
    common = {
        "example_id": [formats.example_id(str(row), sha[row]) for row in range(len(usage))],
        "usage": list(usage),
        "label": list(labels),
        "sha256": sha,
        "path": [f"row {row}" for row in range(len(usage))],
    }
    manifest = pa.table({**common, **extra}, schema=formats.manifest_schema(kind))
    blob = _put_table(store, manifest)
    descriptor = DatasetDescriptor(manifest=blob, digest="ab" * 32, kind=kind, **described)
    return store.put_bytes(formats.to_json(descriptor))


def _put_table(store: ArtifactStore, table: Any) -> Blob:
    with tempfile.TemporaryDirectory() as folder:
        return store.put_file(formats.write_parquet(table, Path(folder, "file.parquet")))


def _is_numeric(values: Values) -> bool:
    return all(value is None or isinstance(value, int | float) for value in values)


def _label(value: Any) -> str:
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)
