"""What annotation files say of each picture, kept in a file until the pictures are read: memory does not grow."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from modelyard.dataset.domain.marks import merged
from modelyard.dataset.domain.problems import Problems
from modelyard.formats.annotations import Annotation, from_wire, to_wire


@dataclass(frozen=True)
class Said:
    """What is said of a picture. `file` says it; `raw` is what can only be read once the picture's size is known, or the path of
    its mask; size: width and height as the file says."""

    usage: str | None
    file: str
    annotation: Annotation = field(default_factory=Annotation)
    raw: str = ""
    size: tuple[int, int] | None = None


class AnnotationIndex:
    """Said, by the path of the picture. For one thread."""

    def __init__(self, folder: Path, problems: Problems) -> None:
        self._problems = problems
        self.database = sqlite3.connect(folder / "annotations.sqlite", isolation_level=None)
        self.database.execute("PRAGMA journal_mode=OFF")
        self.database.execute("PRAGMA synchronous=OFF")
        self.database.execute("BEGIN")
        columns = "path TEXT PRIMARY KEY, usage TEXT, file TEXT, body TEXT, raw TEXT, width INTEGER, height INTEGER"
        self.database.execute(f"CREATE TABLE said ({columns}) WITHOUT ROWID")

    def add(self, path: str, said: Said) -> None:
        """Notes what is said of a picture; joins it with what was said of it before."""
        known = self.get(path)
        if known is not None:
            message = (
                f"{said.file} and {known.file} both speak of {path}"
                if said.file != known.file
                else f"{said.file} names {path} twice"
            )
            if known.usage and said.usage and known.usage != said.usage:
                message += f", as {known.usage} and as {said.usage}; {known.usage} was taken"
            self._problems.note("DOUBLED_FILE", said.file, message)
            said = Said(
                known.usage or said.usage, said.file, merged(known.annotation, said.annotation), known.raw or said.raw, known.size
            )
        size = said.size if said.size and min(said.size) > 0 and max(said.size) < 2**31 else (None, None)
        row = (path, said.usage, said.file, to_wire(said.annotation), said.raw, *size)
        self.database.execute("INSERT OR REPLACE INTO said VALUES (?, ?, ?, ?, ?, ?, ?)", row)

    def get(self, path: str) -> Said | None:
        """What is said of a picture."""
        row = self.database.execute("SELECT usage, file, body, raw, width, height FROM said WHERE path = ?", (path,)).fetchone()
        if row is None:
            return None
        usage, file, body, raw, width, height = row
        return Said(usage, file, from_wire(body), raw, (width, height) if width is not None else None)

    def paths(self) -> Iterator[str]:
        """The pictures of which something is said, sorted."""
        return (row[0] for row in self.database.execute("SELECT path FROM said ORDER BY path"))

    def close(self) -> None:
        """Lets go of the file."""
        self.database.close()
