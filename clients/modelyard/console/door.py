"""Who may come in: a one-time link becomes a session. Nothing here imports more than the standard library.

Links are files in a folder that only the user can read: taking one is deleting it, which succeeds once whoever tries. Sessions
are signed with a key that lives as long as the port is held (`launch.Console`), so that a cookie that somebody else got hold of
while the console was down is worth nothing.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

LINK_S: Final = 24 * 3600.0
"""How long a link is good, unless it is used."""
SESSION_S: Final = 14 * 24 * 3600.0
MOST_LINKS: Final = 100
_PREFIX: Final = "link-"


@dataclass(frozen=True)
class Links:
    """One-time links, each a file named after the hash of its code."""

    folder: Path

    def make(self) -> str:
        """The code of a new link; links that are out of time are swept out."""
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._sweep()
        code = secrets.token_urlsafe(24)
        os.close(os.open(self._file(code), os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600))
        return code

    def take(self, code: str) -> bool:
        """Whether the code is of a link that nobody has used and that is not out of time; it is used up now."""
        path = self._file(code)
        try:
            age = time.time() - path.lstat().st_mtime
            path.unlink()
        except OSError:
            return False
        return age < LINK_S

    def _file(self, code: str) -> Path:
        return self.folder / f"{_PREFIX}{hashlib.sha256(code.encode('utf-8', 'replace')).hexdigest()}"

    def _sweep(self) -> None:
        found = sorted(self.folder.glob(f"{_PREFIX}*"), key=_age, reverse=True)
        for at, path in enumerate(found):
            if _age(path) > LINK_S or at < len(found) - MOST_LINKS:
                path.unlink(missing_ok=True)


@dataclass(frozen=True)
class Sessions:
    """Sessions as cookies: the time of their end, a random part, and a signature over both."""

    key: bytes

    def make(self) -> str:
        said = f"{int(time.time() + SESSION_S)}.{secrets.token_urlsafe(16)}"
        return f"{said}.{self._signature(said)}"

    def good(self, cookie: str) -> bool:
        """Whether it was made here and its time is not up."""
        said, _, signature = cookie.rpartition(".")
        end = said.partition(".")[0]
        if not hmac.compare_digest(signature.encode("utf-8", "replace"), self._signature(said).encode()):
            return False
        return end.isdecimal() and int(end) > time.time()

    def _signature(self, said: str) -> str:
        return hmac.new(self.key, said.encode("utf-8", "replace"), hashlib.sha256).hexdigest()


def _age(path: Path) -> float:
    try:
        return time.time() - path.lstat().st_mtime
    except OSError:
        return float("inf")
