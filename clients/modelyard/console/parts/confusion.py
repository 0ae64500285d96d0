"""Which classes are taken for which."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from modelyard.client.drawing.markup import Markup, h
from modelyard.client.drawing.words import percent


def confusion_matrix(
    names: Sequence[str], counts: Sequence[Sequence[int]], address: Callable[[str, str], str], chosen: tuple[str, str]
) -> Markup:
    """Rows are what examples are, columns what they were called; `address` is where the examples of a cell are shown."""
    head = h("tr", h("th", "is ↓ called →", scope="col"), [h("th", name, scope="col", title=name) for name in names])
    body = []
    for is_, row in zip(names, counts, strict=True):
        cells = [
            h("td", _cell(is_, called, number, sum(row), address, chosen)) for called, number in zip(names, row, strict=True)
        ]
        body.append(h("tr", h("th", is_, scope="row", title=is_), cells))
    matrix = h("table", h("caption", "Confusion matrix", cls="unseen"), h("thead", head), h("tbody", body), cls="matrix")
    return h("div", matrix, cls="table", tabindex=0, role="region", aria_label="Confusion matrix")


def _cell(is_: str, called: str, number: int, total: int, address: Callable[[str, str], str], chosen: tuple[str, str]) -> Markup:
    if not number:
        return h("span", "0", cls="cell", style="--share:0")
    words = f"{is_} called {called}: {number}, {percent(number / total)}"
    return h(
        "a",
        number,
        href=address(is_, called),
        cls=f"cell {'tone-good' if is_ == called else 'tone-bad'}",
        style=f"--share:{number / total:.3f}",
        title=words,
        aria_label=words,
        aria_current="true" if (is_, called) == chosen else None,
    )
