"""Bundles that the pods of a node share: fetched from the centre once, verified, and given to whoever the centre would give them.

It has no rights of its own: what is not here is asked for with the caller's token, and a caller who comes for what is here is
asked about at the centre (a download from the end on, which has no bytes). That answer is remembered for a while.
"""

from __future__ import annotations

import hashlib
import os
import re
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Protocol

import structlog

from modelyard.core.artifacts import file_sha256
from modelyard.core.errors import InvalidArgument, ModelyardError, Unavailable

log = structlog.get_logger()

CHUNK_BYTES: Final = 1 << 20
TRUST_S: Final = 600.0
"""How long a caller is taken for one that may have a bundle."""
MOST_TRUSTED: Final = 4096
WAIT_S: Final = 300.0
"""How long others wait for a bundle that is being fetched for one of them."""
_SHA256: Final = re.compile(r"[0-9a-f]{64}")


class Centre(Protocol):
    """FleetLink is one: the centre, as a caller sees it."""

    def download(self, sha256: str, offset: int) -> Iterator[bytes]:
        """The bytes of a bundle from an offset on."""


@dataclass
class BundleRelay:
    """`centre`: as seen with a token. `most_bytes`: of all bundles together; the longest unused go first."""

    folder: Path
    centre: Callable[[str], Centre]
    most_bytes: int
    _flights: dict[str, threading.Event] = field(default_factory=dict)
    _trusted: dict[tuple[bytes, str], float] = field(default_factory=dict)
    _guard: threading.Lock = field(default_factory=threading.Lock)
    fetched: int = 0
    """Bundles that came from the centre."""

    def __post_init__(self) -> None:
        for name in ("bundles", "partial"):
            (self.folder / name).mkdir(parents=True, exist_ok=True, mode=0o700)

    def download(self, token: str, sha256: str, offset: int) -> Iterator[bytes]:
        """The bytes of a bundle from an offset on. Raises what the centre says, Unavailable for own trouble."""
        if not _SHA256.fullmatch(sha256):
            message = f"sha256 is {sha256[:80]!r}; it must be 64 hexadecimal digits in lower case"
            raise InvalidArgument("BAD_SHA256", message, field="sha256", value=sha256[:80])
        path = self.folder / "bundles" / sha256
        if not path.is_file():
            self._fetch_once(token, sha256, path)
        try:
            file = path.open("rb")
        except OSError as error:  # it made room for another at this moment
            raise _trouble("the bundle went away") from error
        with file:  # deleting it does not take it from those who read it
            size = os.fstat(file.fileno()).st_size
            if not 0 <= offset <= size:
                raise InvalidArgument("BAD_OFFSET", f"offset is {offset}; it must be 0 to {size}", field="offset", value=offset)
            self._check_caller(token, sha256, size)
            os.utime(path)
            file.seek(offset)
            while chunk := file.read(CHUNK_BYTES):
                yield chunk

    def _fetch_once(self, token: str, sha256: str, path: Path) -> None:
        """By the first who asks; the others wait for it, and fetch themselves where that failed."""
        end = time.monotonic() + WAIT_S
        while not path.is_file():
            with self._guard:
                flight = self._flights.get(sha256)
                mine = flight is None
                if flight is None:
                    flight = self._flights[sha256] = threading.Event()
            if not mine:
                if not flight.wait(max(0.0, end - time.monotonic())):
                    raise _trouble("the bundle is still on its way to this node")
                continue
            try:
                self._fetch(token, sha256, path)
            except OSError as error:
                raise _trouble(f"the node's cache cannot keep it: {error.strerror}") from error
            finally:
                with self._guard:
                    del self._flights[sha256]
                flight.set()

    def _fetch(self, token: str, sha256: str, path: Path) -> None:
        partial = self.folder / "partial" / sha256
        with partial.open("ab") as file:
            for chunk in self.centre(token).download(sha256, file.tell()):
                file.write(chunk)
        with partial.open("rb") as file:
            if file_sha256(file) != sha256:
                partial.unlink()
                raise _trouble("other bytes came than those asked for")
        os.replace(partial, path)
        self.fetched += 1
        self._trust(token, sha256)
        self._make_room(path)
        log.info("bundle fetched for this node", sha256=sha256, size_bytes=path.stat().st_size)

    def _make_room(self, newest: Path) -> None:
        held = sorted((self.folder / "bundles").iterdir(), key=lambda each: each.stat().st_mtime, reverse=True)
        total = 0
        for each in held:
            total += each.stat().st_size
            if total > self.most_bytes and each != newest:
                each.unlink(missing_ok=True)
        for each in (self.folder / "partial").iterdir():
            if time.time() - each.stat().st_mtime > WAIT_S:
                each.unlink(missing_ok=True)

    def _check_caller(self, token: str, sha256: str, size: int) -> None:
        """Raises what the centre says of a caller who may not have the bundle."""
        key = (hashlib.sha256(token.encode()).digest(), sha256)
        if self._trusted.get(key, 0.0) > time.monotonic():
            return
        try:
            for _ in self.centre(token).download(sha256, size):
                raise _trouble("the centre has other bytes under this digest")
        except ModelyardError:
            self._trusted.pop(key, None)
            raise
        self._trust(token, sha256)

    def _trust(self, token: str, sha256: str) -> None:
        if len(self._trusted) >= MOST_TRUSTED:
            self._trusted.clear()
        self._trusted[hashlib.sha256(token.encode()).digest(), sha256] = time.monotonic() + TRUST_S


def _trouble(why: str) -> Unavailable:
    """Whoever gets it goes on to the centre."""
    return Unavailable("NODE_CACHE", f"{why}; ask the centre", retry_after_s=1.0)
