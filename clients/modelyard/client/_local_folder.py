"""Folders that need not be sent: those on the machine of a server of the same user."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from modelyard.client.access import token_of
from modelyard.dataset.v1 import dataset_pb2

BOOT_ID: Final = Path("/proc/sys/kernel/random/boot_id")


def local_folder(path: Path, address: str) -> dataset_pb2.LocalFolder | None:
    """A folder, and what shows the server at an address that both see the same one; None where the server is not this user's own,
    or the system cannot say which machine it is."""
    if not token_of(address):
        return None
    try:
        boot_id = BOOT_ID.read_text().strip()
        place = path.resolve(strict=True)
        found = place.stat()
    except OSError:
        return None
    if not place.is_dir() or not str(place).isprintable() or not os.access(place, os.R_OK | os.X_OK):
        return None
    return dataset_pb2.LocalFolder(path=str(place), boot_id=boot_id, device=found.st_dev, inode=found.st_ino)
