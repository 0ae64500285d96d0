"""Draws a recorded terminal as SVG: `python docs/site/terminal.py RECORDING.txt PICTURE.svg`. What was typed begins with `$ `."""

from __future__ import annotations

import html
import sys
from pathlib import Path
from typing import Final

LINE, CHARACTER, MARGIN, BAR = 17, 7.8, 16, 34
FONT: Final = "ui-monospace, SFMono-Regular, Menlo, Consolas, 'DejaVu Sans Mono', monospace"


def svg(text: str) -> str:
    """The picture; the same recording gives the same text."""
    lines = text.rstrip("\n").split("\n")
    width = round(max(map(len, lines)) * CHARACTER + 2 * MARGIN)
    height = BAR + LINE * len(lines) + MARGIN
    dots = "".join(
        f'<circle cx="{MARGIN + 6 + 18 * at}" cy="17" r="5.5" fill="{colour}"/>'
        for at, colour in enumerate(("#ff5f57", "#febc2e", "#28c840"))
    )
    rows = "\n".join(
        f'<text x="{MARGIN}" y="{BAR + LINE * at + 13}" xml:space="preserve" {_style(line)}>{html.escape(line)}</text>'
        for at, line in enumerate(lines)
    )
    typed = next((line[2:] for line in lines if line.startswith("$ ")), "a terminal")
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img" '
        f'font-family="{html.escape(FONT)}" font-size="13">\n'
        f"<title>{html.escape(f'A terminal: {typed}')}</title>\n"
        f'<rect width="{width}" height="{height}" rx="10" fill="#15181e"/>\n{dots}\n{rows}\n</svg>\n'
    )


def _style(line: str) -> str:
    if line.startswith("$ "):
        return 'fill="#8ab4ff" font-weight="600"'
    return 'fill="#7ee2a8"' if "DEPLOY" in line else 'fill="#d6dbe3"'


if __name__ == "__main__":
    Path(sys.argv[2]).write_text(svg(Path(sys.argv[1]).read_text(encoding="utf-8")), encoding="utf-8")
