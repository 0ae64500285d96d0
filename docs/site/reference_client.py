"""The reference of the Python client, made of its classes and their docstrings."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from markdown_text import plain


@dataclass(frozen=True)
class Method:
    """A method of a group of calls: `client.datasets.get_dataset`."""

    group: str
    name: str
    signature: str
    said: str


def groups() -> dict[str, Any]:
    """The groups of calls of a client by name, in the order of the client."""
    from modelyard.client import Client

    client = Client("127.0.0.1:1")
    try:
        return {name: value for name, value in vars(client).items() if not name.startswith("_") and name != "names"}
    finally:
        client.close()


def methods() -> Iterator[Method]:
    """Every public method of every group."""
    for group, held in groups().items():
        for name, function in inspect.getmembers(type(held), inspect.isfunction):
            if not name.startswith("_"):
                yield Method(group, name, _signature(function), inspect.getdoc(function) or "")


def _signature(function: Any) -> str:
    written = str(inspect.signature(function)).replace("(self, ", "(").replace("(self)", "()")
    written = re.sub(r"'([^']*)'", r"\1", written)
    return re.sub(r"\b\w+_pb2\.", "", written).replace("collections.abc.", "")


def page() -> str:
    """The page."""
    lines = [
        "# Python client",
        "",
        "Made from the client when this site was built. `AsyncClient` has the same groups and methods, to be awaited.",
        "",
        "```python",
        "from modelyard.client import Client",
        "",
        'with Client("127.0.0.1:8970") as client:',
        '    print(client.datasets.get_dataset("flowers"))',
        "```",
        "",
        "Every method raises the named errors of `modelyard.client` (`NotFound`, `InvalidArgument`, ...), which carry a reason,",
        "the values that the message names, and the fields at fault.",
    ]
    group = ""
    for one in methods():
        if one.group != group:
            group = one.group
            lines += ["", f"## client.{group}", "", _text(inspect.getdoc(type(groups()[group])) or "")]
        lines += ["", f"### {group}.{one.name}", "", "```python", f"{one.name}{one.signature}", "```", "", _text(one.said)]
    return "\n".join(lines) + "\n"


def _text(said: str) -> str:
    """A docstring: its paragraphs."""
    return "\n\n".join(plain(part) for part in said.split("\n\n"))
