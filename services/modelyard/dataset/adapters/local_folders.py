"""Whether a folder that a caller names is here, and the same one that the caller sees."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from modelyard.core.access.guard import CALLER
from modelyard.core.errors import FailedPrecondition, InvalidArgument, PermissionDenied
from modelyard.dataset.domain.records import LocalFolder

BOOT_ID: Final = Path("/proc/sys/kernel/random/boot_id")
FIELD: Final = "dataset_import.local_folder"


class OwnersFolders:
    """Folders of the user whose own server this is, where jobs are processes on the same machine."""

    def __init__(self, *, jobs_run_here: bool) -> None:
        self._jobs_run_here = jobs_run_here

    def check(self, folder: LocalFolder) -> None:
        """Raises PermissionDenied NOT_THE_OWNER, FailedPrecondition NOT_THE_SAME_FOLDER, InvalidArgument BAD_FOLDER."""
        if not CALLER.get().owner or not self._jobs_run_here:
            message = f"{FIELD} may be named only by the user whose own server this is, at that server; upload the folder instead"
            raise PermissionDenied("NOT_THE_OWNER", message, field=FIELD)
        if not os.path.isabs(folder.path) or "\0" in folder.path:
            message = f"{FIELD}.path is {folder.path[:200]!r}; it must be the absolute path of a folder"
            raise InvalidArgument("BAD_FOLDER", message, field=f"{FIELD}.path", path=folder.path[:200])
        try:
            found = os.stat(folder.path)
            booted = BOOT_ID.read_text().strip()
        except OSError as error:
            raise _another(folder, f"here it cannot be looked at ({error.strerror})") from error
        if booted != folder.boot_id or (found.st_dev, found.st_ino) != (folder.device, folder.inode):
            raise _another(folder, "the caller is on another machine, or sees other files under this path")


def _another(folder: LocalFolder, why: str) -> FailedPrecondition:
    message = (
        f"{FIELD}.path is {folder.path[:200]!r}, and the service does not see the same folder there: {why}; upload it instead"
    )
    return FailedPrecondition("NOT_THE_SAME_FOLDER", message, field=FIELD, path=folder.path[:200])
