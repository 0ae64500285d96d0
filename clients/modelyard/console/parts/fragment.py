"""A stretch of a page: HTML that the server makes, and what happens when somebody uses it."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from nicegui import background_tasks, events
from nicegui.element import Element

from modelyard.client.drawing.markup import Markup, h
from modelyard.console.parts.trouble import told


@dataclass(frozen=True)
class Act:
    """What somebody did: `name` of the attribute data-act, data-change, data-input or data-submit; its data-arg; the value of the
    input; and of its form, if it has one, all values by name."""

    name: str
    arg: str = ""
    value: Any = None
    form: Mapping[str, Any] = field(default_factory=dict)

    def text(self, name: str) -> str:
        """A value of the form as text, without blanks around; empty when it is not there."""
        value = self.form.get(name, "")
        return str(value[-1] if isinstance(value, list) else value).strip()

    def many(self, name: str) -> list[str]:
        """All values of a name that several inputs have."""
        value = self.form.get(name, [])
        return [str(each) for each in (value if isinstance(value, list) else [value])]


Handler = Callable[[Act], Awaitable[None] | None]


class Fragment(Element, component="fragment.js"):
    """Shows markup. `does(name=handler)` says what acts lead to; an error of a service is told to the user, in its own words."""

    def __init__(self, markup: Markup | str = "", *, cls: str = "") -> None:
        super().__init__()
        self._props["markup"] = str(markup)
        self._acts: dict[str, Handler] = {}
        if cls:
            self.classes(cls)
        super().on("act", self._heard)

    def show(self, *parts: object) -> None:
        """Shows something else; what is alike stays as it is."""
        markup = h("div", *parts) if len(parts) != 1 or not isinstance(parts[0], Markup) else parts[0]
        if self._props["markup"] != markup:
            self._props["markup"] = str(markup)
            self.update()

    def does(self, **handlers: Handler) -> Fragment:
        """What acts lead to, by their names."""
        self._acts.update(handlers)
        return self

    def _heard(self, event: events.GenericEventArguments) -> None:
        said = event.args if isinstance(event.args, dict) else {}
        form = said.get("form")
        act = Act(
            str(said.get("name", "")), str(said.get("arg") or ""), said.get("value"), form if isinstance(form, dict) else {}
        )
        handler = self._acts.get(act.name)
        if handler is not None:
            background_tasks.create(self._run(handler, act), name=f"act {act.name}")

    async def _run(self, handler: Handler, act: Act) -> None:
        if self.is_deleted:
            return
        with self:
            async with told():
                result = handler(act)
                if inspect.isawaitable(result):
                    await result
