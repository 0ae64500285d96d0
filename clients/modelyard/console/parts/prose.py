"""Guidelines as people write them: a small part of Markdown (headings, lists, paragraphs, bold, code), and never markup."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from modelyard.client.drawing.markup import Markup, h

_INLINE: Final = re.compile(r"`([^`\n]+)`|\*\*([^*\n]+)\*\*|\*([^*\n]+)\*|_([^_\n]+)_(?!\w)")
_ITEM: Final = re.compile(r"\s*(?:[-*+]|(\d{1,4})[.)])\s+(.*)")
_HEADING: Final = re.compile(r"(#{1,6})\s+(.*?)\s*#*$")


def prose(text: str) -> list[Markup]:
    """What the text says, a block each. Headings begin at the third level: a page has its own above."""
    blocks: list[Markup] = []
    for lines in _blocks(text):
        heading = _HEADING.match(lines[0])
        if heading:
            blocks.append(h(f"h{min(len(heading[1]) + 2, 6)}", _inline(heading[2])))
            continue
        items = _items(lines)
        if items:
            numbered = (_ITEM.match(lines[0]) or [None, None])[1] is not None
            blocks.append(h("ol" if numbered else "ul", [h("li", _inline(item)) for item in items], cls="prose"))
            continue
        blocks.append(h("p", _inline(" ".join(lines))))
    return blocks


def _blocks(text: str) -> Iterator[list[str]]:
    """Lines that belong together: headings alone, lists, paragraphs."""
    kept: list[str] = []
    for line in [*text.replace("\r", "").split("\n"), ""]:
        starts = bool(_HEADING.match(line)) or (bool(_ITEM.match(line)) and bool(kept) and not _ITEM.match(kept[0]))
        if kept and (not line.strip() or starts):
            yield kept
            kept = []
        if _HEADING.match(line):
            yield [line]
        elif line.strip():
            kept.append(line.strip())


def _items(lines: list[str]) -> list[str]:
    """The items of a list; what follows without a sign belongs to the one before."""
    if not _ITEM.match(lines[0]):
        return []
    items: list[str] = []
    for line in lines:
        found = _ITEM.match(line)
        if found:
            items.append(found[2])
        else:
            items[-1] += f" {line}"
    return items


def _inline(text: str) -> list[object]:
    parts: list[object] = []
    at = 0
    for found in _INLINE.finditer(text):
        parts.append(text[at : found.start()])
        code, bold, *emphasised = found.groups()
        parts.append(h("code", code) if code else h("strong", bold) if bold else h("em", emphasised[0] or emphasised[1]))
        at = found.end()
    return [*parts, text[at:]]
