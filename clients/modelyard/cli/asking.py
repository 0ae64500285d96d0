"""What users give, checked and made ready: sources, floors, numbers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from modelyard.cli.live import bar
from modelyard.cli.output import note
from modelyard.client import InvalidArgument, Violation
from modelyard.type.v1 import blob_pb2

if TYPE_CHECKING:
    from modelyard.cli.session import Session

URI = "artifact://"


def uploaded(here: Session, source: str) -> tuple[blob_pb2.Blob, str]:
    """The blob of a source and its file name. A path is uploaded; an artifact:// URI is taken as it is."""
    if source.startswith(URI):
        digest = source.rpartition("/")[2]
        return blob_pb2.Blob(uri=source, sha256=digest), ""
    path = Path(source).expanduser()
    skipped: list[tuple[Path, str]] = []
    with bar(f"upload {path.name}") as show:
        blob = here.client.artifacts.upload(path, show, on_skipped=lambda left, why: skipped.append((left, why)))
    for left, why in skipped[:20]:
        note(f"left out: {left}: {why}")
    if len(skipped) > 20:
        note(f"left out: {len(skipped) - 20} more")
    return blob, path.resolve().name


def floors_of(floors: Sequence[str], min_accuracy: float | None) -> dict[str, float]:
    """`metric=value` options as a mapping; --min-accuracy is one for accuracy."""
    found = {} if min_accuracy is None else {"accuracy": _share(min_accuracy)}
    for floor in floors:
        metric, separator, value = floor.partition("=")
        try:
            found[metric.strip()] = float(value)
        except ValueError:
            separator = ""
        if not separator or not metric.strip():
            raise wrong("floors", floor, f"floors has {floor!r}; give METRIC=VALUE, such as accuracy=0.9 or rmse=12.5")
    return found


def _share(value: float) -> float:
    if not 0 <= value <= 1:
        raise wrong("min_accuracy", value, f"min_accuracy is {value:g}; give a share from 0 to 1")
    return value


def whole_number(value: int, least: int, most: int, field: str, unit: str) -> int:
    """InvalidArgument when it is outside the bounds."""
    if not least <= value <= most:
        raise wrong(field, value, f"{field} is {value}; give {least} to {most} {unit}")
    return value


def wrong(field: str, value: object, message: str) -> InvalidArgument:
    """An InvalidArgument about a field."""
    values = {"field": field, "value": str(value)}
    return InvalidArgument(message, reason="INVALID_VALUE", values=values, violations=(Violation(field, message),))
