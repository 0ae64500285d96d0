"""Asking an endpoint: with a picture of one's own, with values, or with an example that the model was tested on."""

from __future__ import annotations

import base64
import math
import random
from pathlib import Path
from typing import Any

from nicegui import ui

from modelyard.client import InvalidArgument, NotFound, Violation
from modelyard.client.drawing.charts import bars
from modelyard.client.drawing.markup import Markup, h
from modelyard.client.drawing.words import number, percent
from modelyard.console.parts.forms import choice, text
from modelyard.console.parts.fragment import Act, Fragment
from modelyard.console.parts.icons import icon
from modelyard.console.parts.layout import button, card, facts
from modelyard.console.parts.page import Here
from modelyard.console.uploads import drop_basket, new_basket

LARGEST = 20 << 20
SHOWN = 8
_TYPES = {b"\xff\xd8\xff": "image/jpeg", b"\x89PNG": "image/png", b"GIF8": "image/gif", b"RIFF": "image/webp", b"BM": "image/bmp"}


class Asking:
    """A form for what the model takes, and its answer. `model_version`: whose test examples may be taken."""

    def __init__(self, here: Here, endpoint: str, metadata: Any, versions: list[str], model_version: str) -> None:
        self._here, self._endpoint, self._versions, self._model_version = here, endpoint, versions, model_version
        self._inputs = list(metadata.inputs)
        self._takes_pictures = any(one.name == "image" for one in self._inputs)
        self._takes_rows = all(list(one.shape) in ([-1, 1], [-1]) for one in self._inputs)
        self._key, self._basket = new_basket()
        self._picture, self._label = b"", ""
        self._classes: list[str] = []
        ui.context.client.on_delete(lambda: drop_basket(self._key))
        self._page = Fragment(self._markup(None)).does(dropped=self._dropped, ask=self._ask, example=self._example)

    def _markup(self, answer: Markup | None, version: str = "", values: dict[str, str] | None = None) -> Markup:
        if not self._takes_pictures and not self._takes_rows:
            said = ", ".join(f"{one.name} {one.datatype} {list(one.shape)}" for one in self._inputs)
            return card(
                "Try it", h("p", "This model takes tensors; ask it from a program (below). It wants ", h("code", said), ".")
            )
        body = self._pictures() if self._takes_pictures else self._values(values or {})
        which = choice("version", "Version", [("", "as the traffic goes"), *((one, one) for one in self._versions)], version)
        send = h("button", "Ask", type_="submit", cls="button primary", id="ask")
        example = button("An example of the test data", "example", id="example") if self._model_version else None
        form = h("form", body, h("div", which, send, example, cls="filters"), data_submit="ask")
        shown = answer or h("p", "The answer comes here.", cls="muted")
        return card("Try it", h("div", form, h("div", shown, aria_live="polite", id="answer"), cls="halves"), id="try")

    def _pictures(self) -> Markup:
        shown = _shown(self._picture) if self._picture else icon("upload")
        return h(
            "div",
            shown,
            h("h3", "Drop a picture (or a sound, for a model of sounds) here"),
            h("label", "Choose a file", h("input", type_="file", accept="image/*,audio/*", id="picture"), cls="button"),
            h("p", "", data_sent=True, role="status", cls="small unseen"),
            h("button", "", type_="button", data_act="dropped", data_dropped=True, hidden=True),
            cls="drop",
            data_drop=f"/upload/{self._key}",
            id="drop-picture",
        )

    def _values(self, values: dict[str, str]) -> Markup:
        inputs = [
            text(
                f"v-{one.name}",
                one.name,
                values.get(one.name, ""),
                placeholder="missing",
                inputmode="decimal" if one.datatype.startswith(("FP", "INT")) else None,
            )
            for one in self._inputs
        ]
        return h("div", *inputs, cls="ask-fields")

    async def _dropped(self, act: Act) -> None:
        found = [path for path in self._basket.folder.rglob("*") if path.is_file()]
        newest = max(found, key=lambda path: path.stat().st_mtime, default=None)
        if newest is None:
            return
        self._picture, self._label = _read(newest), ""
        for path in found:
            path.unlink(missing_ok=True)
        await self._ask(act)

    async def _example(self, act: Act) -> None:
        """Asks with an example, drawn at random, that nothing was trained on."""
        client = self._here.client
        data = (await client.models.get_model_version(self._model_version)).dataset_version
        usage = "test" if (await client.examples.page(data, usage="test", page_size=1)).total_size else "validation"
        total = (await client.examples.page(data, usage=usage, page_size=1)).total_size
        if not total:
            raise NotFound(f"{data} has no examples that nothing was trained on")
        (one,) = (await client.examples.page(data, usage=usage, page_size=1, skip=random.randrange(total))).examples  # noqa: S311
        seen = (await client.examples.view(data, [one.example_id], content="original")).examples[0]
        self._label = seen.example.label
        self._picture = seen.content
        values = {cell.column: cell.value for cell in seen.cells}
        await self._show(act.text("version"), values)

    async def _ask(self, act: Act) -> None:
        await self._show(act.text("version"), {one.name: act.text(f"v-{one.name}") for one in self._inputs})

    async def _show(self, version: str, values: dict[str, str]) -> None:
        predict = self._here.client.predictions.predict
        if self._takes_pictures:
            if not self._picture:
                message = "Drop a picture first, or choose one."
                raise InvalidArgument(message, reason="NO_PICTURE", violations=(Violation("image", message),))
            found = await predict(self._endpoint, image=self._picture, version=version)
        else:
            row = {one.name: values.get(one.name) or None for one in self._inputs}
            found = await predict(self._endpoint, rows=[row], version=version)
        if not self._classes and self._model_version:
            self._classes = list((await self._here.client.models.get_model_version(self._model_version)).classes)
        self._page.show(self._markup(_answer(found, self._classes, self._label), version, values))
        self._label = ""


def _answer(found: Any, classes: list[str], truth: str) -> Markup:
    columns = {name: found.rows(name) for name in found.outputs}
    label = str(columns["label"][0]) if columns.get("label") else ""
    was = h("p", "Its label is ", h("strong", truth), ".", cls="muted") if truth else None
    by = h("p", f"answered by {found.model_version}", cls="small muted")
    chances = columns.get("probabilities", [None])[0]
    if isinstance(chances, list) and label:
        order = sorted(range(len(chances)), key=lambda at: -chances[at])[:SHOWN]
        named = len(classes) == len(chances) and classes[order[0]] == label
        rows = [
            (classes[at] if named else label if at == order[0] else f"class {at}", chances[at], percent(chances[at]))
            for at in order
        ]
        sure = h("span", percent(max(chances)), cls="muted")
        return h("div", h("p", h("strong", label, cls="answer"), " ", sure), was, bars("Probabilities", rows, most=1.0), by)
    rest = [(name, _short(values[0] if values else "")) for name, values in columns.items()]
    return h("div", facts(rest), was, by)


def _short(value: Any) -> str:
    if isinstance(value, float):
        return number(value) if math.isfinite(value) else "—"
    if isinstance(value, list):
        shown = ", ".join(_short(each) for each in value[:12])
        return shown + (f" … ({len(value)} values)" if len(value) > 12 else "")
    return str(value)


def _read(path: Path) -> bytes:
    if path.stat().st_size > LARGEST:
        message = f"{path.name} has {path.stat().st_size >> 20} MB; give a picture of at most {LARGEST >> 20} MB"
        raise InvalidArgument(message, reason="PICTURE_TOO_LARGE", violations=(Violation("image", message),))
    return path.read_bytes()


def _shown(data: bytes) -> Markup:
    """What is asked about, to look at or to hear."""
    if data[:4] == b"fLaC" or data[8:12] == b"WAVE":
        kind = "audio/flac" if data[:4] == b"fLaC" else "audio/wav"
        return h("audio", controls=True, src=f"data:{kind};base64,{base64.b64encode(data).decode()}")
    return h("img", src=_data_address(data), alt="The picture to ask about", cls="asked")


def _data_address(data: bytes) -> str:
    kind = next((kind for start, kind in _TYPES.items() if data.startswith(start)), "image/png")
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"
