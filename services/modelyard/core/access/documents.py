"""Files of settings that are read again when they change: YAML where PyYAML is installed, JSON always."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Generic, TypeVar

import structlog

from modelyard.core.errors import InvalidArgument, ModelyardError

T = TypeVar("T")
log = structlog.get_logger()
LOOK_EVERY_S = 1.0


class WatchedFile(Generic[T]):
    """What `read` makes of a file. A change that cannot be read is logged, and what was there before goes on."""

    def __init__(self, path: Path, read: Callable[[Any, str], T]) -> None:
        """Reads it once. Raises InvalidArgument BAD_FILE and what `read` raises."""
        self._path, self._read = path, read
        self._stamp = self._look()
        self._next = 0.0
        self.generation = 0
        """Rises with every change."""
        self._content = self._load()

    def content(self) -> T:
        """As the file is now; looked at once a second at most."""
        now = time.monotonic()
        if now >= self._next:
            self._next = now + LOOK_EVERY_S
            stamp = self._look()
            if stamp != self._stamp:
                self._stamp = stamp
                self._reload()
        return self._content

    def _reload(self) -> None:
        try:
            self._content = self._load()
        except ModelyardError as error:
            log.error("the changed file cannot be used", file=str(self._path), error=error.message)
        else:
            self.generation += 1
            log.info("file read again", file=str(self._path))

    def _load(self) -> T:
        return self._read(document_in(self._path), str(self._path))

    def _look(self) -> tuple[int, int, int]:
        try:
            status = self._path.stat()
        except OSError:
            return (0, 0, 0)
        return (status.st_mtime_ns, status.st_size, status.st_ino)


def document_in(path: Path) -> Any:
    """The document in a file. Raises InvalidArgument BAD_FILE."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidArgument("BAD_FILE", f"{path} cannot be read: {error}", field="file", file=path) from error
    try:
        if path.suffix == ".json":
            return json.loads(text)
        import yaml

        return yaml.safe_load(text)
    except ImportError:
        raise InvalidArgument("BAD_FILE", f"{path} is YAML, and PyYAML is not installed: write it as .json", file=path) from None
    except Exception as error:
        kind = "JSON" if path.suffix == ".json" else "YAML"
        # Not the parser's own words: they quote the file, which may hold secrets.
        raise InvalidArgument("BAD_FILE", f"{path} is no {kind} ({type(error).__name__})", field="file", file=path) from None


def table(value: Any, where: str) -> dict[str, Any]:
    """The value, if it is an object with text keys. Raises InvalidArgument BAD_FILE."""
    if isinstance(value, dict) and all(isinstance(key, str) for key in value):
        return value
    raise InvalidArgument("BAD_FILE", f"{where} must be an object", field=where)
