"""A Hugging Face dataset on disk (`save_to_disk`) as a source of ours: pictures in class folders, or a Parquet table.

Such a dataset is a folder with `dataset_info.json`, `state.json` and Arrow files (IPC streams); several splits lie in folders
that `dataset_dict.json` names. It is read with pyarrow alone: nothing of `datasets` is needed, and no loading script is run.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from modelyard.cli.asking import wrong
from modelyard.client import FailedPrecondition

SPLITS, INFO, STATE = "dataset_dict.json", "dataset_info.json", "state.json"
USAGES: Final = {
    "train": "train",
    "validation": "validation",
    "valid": "validation",
    "val": "validation",
    "dev": "validation",
    "test": "test",
}
USAGE_COLUMN: Final = "usage"
ENDINGS: Final = ((b"\xff\xd8", ".jpg"), (b"\x89PNG", ".png"), (b"RIFF", ".wav"), (b"fLaC", ".flac"))
LARGEST_JSON: Final = 16 << 20


def is_one(path: Path) -> bool:
    """Whether a folder is such a dataset."""
    return path.is_dir() and ((path / SPLITS).is_file() or ((path / INFO).is_file() and (path / STATE).is_file()))


def converted(path: Path, folder: Path) -> Path:
    """Writes it below `folder` as a source that is imported; gives the source. InvalidArgument for what has no counterpart."""
    try:
        import pyarrow  # noqa: F401
    except ImportError:
        message = "a Hugging Face dataset is read with pyarrow, which is not installed: pip install 'modelyard[dataset]'"
        raise FailedPrecondition(message, reason="NO_PYARROW", values={"source": str(path)}) from None
    parts = _parts(path)
    features = _features(parts[0][1])
    media = [name for name, kind in features.items() if kind.get("_type") in ("Image", "Audio")]
    if media:
        return _write_files(parts, features, media, folder / "data")
    return _write_table(parts, features, folder / "data.parquet")


def _parts(path: Path) -> list[tuple[str, Path]]:
    """The splits with the usage each stands for; one without a name where there are none."""
    if not (path / SPLITS).is_file():
        return [("", path)]
    names = [str(name) for name in _json(path / SPLITS).get("splits", [])]
    unknown = [name for name in names if name not in USAGES or not (path / name).is_dir()]
    if unknown or not names:
        known = ", ".join(dict.fromkeys(USAGES))
        raise wrong("source", path, f"source is {str(path)!r}, whose splits are {names}; they must be folders called {known}")
    return [(USAGES[name], path / name) for name in names]


def _features(part: Path) -> dict[str, dict[str, Any]]:
    features = _json(part / INFO).get("features") or {}
    wrong_ones = [name for name, kind in features.items() if not isinstance(kind, dict) or kind.get("_type") not in _KNOWN]
    if wrong_ones or not features:
        held = ", ".join(wrong_ones) or "nothing"
        raise wrong(
            "source", part, f"source has the features {held} in {part.name}/{INFO}; values, classes, images and audio are read"
        )
    return dict(features)


_KNOWN: Final = ("Value", "ClassLabel", "Image", "Audio")


def _json(path: Path) -> dict[str, Any]:
    try:
        if path.stat().st_size > LARGEST_JSON:
            raise wrong("source", path, f"{path} is too large")
        document = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise wrong("source", path, f"{path} cannot be read: {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        raise wrong("source", path, f"{path} is not JSON: {error}") from None
    return document if isinstance(document, dict) else {}


def _tables(part: Path) -> Iterator[Any]:
    """The record batches of a part, in the order of its state."""
    import pyarrow as pa

    named = [str(each.get("filename", "")) for each in _json(part / STATE).get("_data_files", []) if isinstance(each, dict)]
    files = [part / name for name in named] if named else sorted(part.glob("*.arrow"))
    for file in files:
        if not file.resolve().is_relative_to(part.resolve()):
            raise wrong("source", part, f"source names the file {file.name!r} outside of {part}")
        try:
            with pa.OSFile(str(file)) as opened, pa.ipc.open_stream(opened) as stream:
                yield from stream
        except (OSError, pa.ArrowInvalid) as error:
            raise wrong("source", file, f"{file} is no Arrow stream: {str(error)[:160]}") from None


def _write_files(parts: list[tuple[str, Path]], features: dict[str, dict[str, Any]], media: list[str], out: Path) -> Path:
    labels = [name for name, kind in features.items() if kind["_type"] == "ClassLabel"]
    if len(media) != 1 or len(labels) != 1:
        held = f"{len(media)} columns of media and {len(labels)} of classes"
        message = f"source has {held}; pictures or sounds with one class each are read"
        raise wrong("source", parts[0][1], message)
    names = [str(name) for name in features[labels[0]].get("names", [])]
    count = 0
    for usage, part in parts:
        for batch in _tables(part):
            for one, label in zip(batch.column(media[0]).to_pylist(), batch.column(labels[0]).to_pylist(), strict=True):
                content = (one or {}).get("bytes")
                if not content:
                    raise wrong(
                        "source",
                        part,
                        f"row {count} of {media[0]} has no bytes; save the dataset with them (embed_external_files)",
                    )
                label_name = names[label] if label is not None and 0 <= label < len(names) else "unlabelled"
                path = out / usage / _safe(label_name) / f"{count:07}{_ending(content)}"
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(content)
                count += 1
    return out


def _ending(content: bytes) -> str:
    return next((ending for start, ending in ENDINGS if content.startswith(start)), ".png")


def _safe(name: str) -> str:
    """A class as the name of a folder."""
    return re.sub(r"[/\\\x00]", "_", name).strip(". ") or "_"


def _write_table(parts: list[tuple[str, Path]], features: dict[str, dict[str, Any]], out: Path) -> Path:
    """One table; classes by their names, splits as a column `usage`."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    tables = []
    for usage, part in parts:
        table = pa.Table.from_batches(list(_tables(part)))
        for name, kind in features.items():
            if kind["_type"] == "ClassLabel":
                names = kind.get("names", [])
                values = [
                    None if value is None or not 0 <= value < len(names) else names[value]
                    for value in table.column(name).to_pylist()
                ]
                table = table.set_column(table.schema.get_field_index(name), name, pa.array(values, pa.string()))
        if usage and USAGE_COLUMN not in table.column_names:
            table = table.append_column(USAGE_COLUMN, pa.array([usage] * table.num_rows))
        tables.append(table.replace_schema_metadata(None))
    out.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.concat_tables(tables), out)
    return out
