"""Unpacks a bundle into a folder: plain files with plain names only."""

from __future__ import annotations

import shutil
import zipfile
from pathlib import Path, PurePosixPath

from modelyard.client import DataLoss


def unpack(archive: Path, folder: Path) -> list[Path]:
    """Writes the files of a zip, each to a temporary name first.

    DataLoss when it is no zip or an entry would leave the folder.
    """
    try:
        with zipfile.ZipFile(archive) as opened:
            entries = [info for info in opened.infolist() if not info.is_dir()]
            for info in entries:
                _checked(info.filename)
            return [_write(opened, info, folder) for info in entries]
    except zipfile.BadZipFile as error:
        raise DataLoss(f"the bundle is no zip file that can be read: {error}", reason="BAD_BUNDLE") from None


def _write(opened: zipfile.ZipFile, info: zipfile.ZipInfo, folder: Path) -> Path:
    path = folder / info.filename
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.part")
    try:
        with opened.open(info) as source, temporary.open("wb") as target:
            shutil.copyfileobj(source, target, 1 << 20)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    return path


def _checked(name: str) -> None:
    parts = PurePosixPath(name).parts
    if name.startswith("/") or ".." in parts or "\\" in name or ":" in name or not parts:
        raise DataLoss(
            f"the bundle holds a file named {name!r}, which would leave the folder", reason="BAD_BUNDLE", values={"file": name}
        )
