"""Uploads that break off and go on: what has come lies in a file for each upload until the rest has, or a day has passed."""

from __future__ import annotations

import fcntl
import hashlib
import re
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from modelyard.core.artifacts import ArtifactStore, Blob, Tally, chunks
from modelyard.core.artifacts_files import full_disk_named
from modelyard.core.errors import Aborted, InvalidArgument

WAITS_S = 24 * 3600.0
_ID = re.compile(r"[A-Za-z0-9-]{8,64}")


class Uploads:
    """The uploads that a process is taking in, in a folder of its own."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def received(self, project: str, upload_id: str) -> int:
        """Bytes that have come of an upload; 0 where it is not known. Raises InvalidArgument BAD_UPLOAD_ID."""
        place = self._place(project, upload_id)
        return place.stat().st_size if place.is_file() else 0

    @contextmanager
    def taking(self, project: str, upload_id: str, offset: int) -> Iterator[BinaryIO]:
        """The file of an upload, to write on at `offset`; it goes when the block ends well, and waits for more when it does not.

        Raises InvalidArgument BAD_UPLOAD_ID, BAD_OFFSET, Aborted UPLOAD_RUNNING while another call sends the same.
        """
        place = self._place(project, upload_id)
        self._folder.mkdir(parents=True, exist_ok=True)
        self._forget_old()
        with place.open("ab+") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                message = f"upload {upload_id} is being sent by another call; wait for its end, or choose another id"
                raise Aborted("UPLOAD_RUNNING", message, field="header.upload_id", upload_id=upload_id) from error
            known = file.seek(0, 2)
            if offset > known or offset < 0:
                message = f"header.offset is {offset}, but {known} bytes have come of upload {upload_id}; ask GetUpload"
                raise InvalidArgument("BAD_OFFSET", message, field="header.offset", offset=offset, received=known)
            file.truncate(offset)
            yield file
            place.unlink(missing_ok=True)

    def keep(
        self, file: BinaryIO, pieces: Iterable[bytes], store: ArtifactStore, *, sha256: str | None, size_bytes: int | None
    ) -> Blob:
        """Writes what comes to the file of `taking`, and stores it once it is whole. A stream that breaks leaves what came.

        Raises InvalidArgument SHA256_MISMATCH or SIZE_MISMATCH when it is not what was announced, ResourceExhausted DISK_FULL.
        """
        tally = Tally(sha256, size_bytes)
        file.seek(0)
        for _ in tally.through(chunks(file)):
            pass
        with full_disk_named(str(self._folder)):
            for piece in tally.through(pieces):
                file.write(piece)
            file.flush()
        return store.adopt(Path(file.name), sha256=tally.finish())

    def _place(self, project: str, upload_id: str) -> Path:
        if not _ID.fullmatch(upload_id):
            message = f"upload_id is {upload_id[:80]!r}; it is 8 to 64 of A-Z, a-z, 0-9 and '-', best a UUID"
            raise InvalidArgument("BAD_UPLOAD_ID", message, field="upload_id", value=upload_id[:80])
        return self._folder / hashlib.sha256(f"{project} {upload_id}".encode()).hexdigest()

    def _forget_old(self) -> None:
        for path in self._folder.iterdir():
            with suppress(OSError):
                if time.time() - path.stat().st_mtime > WAITS_S:
                    path.unlink()
