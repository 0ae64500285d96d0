"""Words of the code as Markdown."""

from __future__ import annotations

import re


def plain(text: str) -> str:
    """Text on one line, meaning what it says: marks of Markdown are escaped, but for `code`."""
    parts = " ".join(text.replace("\b", " ").split()).split("`")
    escaped = [
        part if at % 2 and at + 1 < len(parts) else re.sub(r"([\\<>*_|\[\]])", r"\\\1", part) for at, part in enumerate(parts)
    ]
    return "`".join(part.replace("|", "\\|") if at % 2 else part for at, part in enumerate(escaped))
