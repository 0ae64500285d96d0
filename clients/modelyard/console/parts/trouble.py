"""What went wrong, as the service says it. A page never shows a stack trace: what is no error of a service goes to the log, under
an id that the page shows."""

from __future__ import annotations

import json
import logging
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from nicegui import ui

from modelyard.client import ModelyardClientError, NotFound, PermissionDenied, Unauthenticated, Unavailable
from modelyard.client.drawing.markup import Markup, h
from modelyard.console.connection import connection
from modelyard.console.parts.icons import icon

NO_CONNECTION: Final = "NO_CONNECTION"

log = logging.getLogger("modelyard.console")


def message_of(error: Exception) -> tuple[str, str]:
    """What to say, and its reason; of a fault of ours a fixed text and the id that the log knows it by."""
    if isinstance(error, ModelyardClientError):
        said, connecting, _ = error.message.partition(": failed to connect")  # and how each of its ways failed
        return f"{said}." if connecting else error.message or error.reason, error.reason
    fault = secrets.token_hex(4)
    log.error("fault %s", fault, exc_info=error)
    return f"The console could not show this; its log has the rest under {fault}.", "CONSOLE_FAULT"


def trouble_card(error: Exception, *, again: bool = True) -> Markup:
    """An error in place of what it kept from being shown; the act `again` tries once more."""
    message, reason = message_of(error)
    request = error.request_id if isinstance(error, ModelyardClientError) else ""
    small = " · ".join(part for part in (reason, f"request {request}" if request else "") if part)
    return h(
        "div",
        icon("alert"),
        h("div", h("h2", _title(error)), h("p", message), _cure(error), h("p", small, cls="small muted")),
        h("button", "Try again", type_="button", cls="button", data_act="again") if again else None,
        cls="state state-error",
        role="alert",
    )


def _title(error: Exception) -> str:
    if isinstance(error, Unavailable):
        return "The server does not answer" if error.reason == NO_CONNECTION else "Not ready yet"
    if isinstance(error, NotFound):
        return "There is no such thing here"
    if isinstance(error, PermissionDenied | Unauthenticated):
        return "You may not see this"
    return "This did not work"


def _cure(error: Exception) -> Markup | None:
    if connection().person and isinstance(error, Unauthenticated):
        return h("p", "Your sign-in is over, or was taken back. ", h("a", "Sign in again", href="/sign-in"))
    if connection().person:
        return None
    if isinstance(error, Unavailable) and error.reason == NO_CONNECTION:
        return h("p", "Is it running? ", h("code", "modelyard up"), " starts one on this machine.")
    if isinstance(error, PermissionDenied | Unauthenticated):
        return h(
            "p", "Who you are is said by the token that the console was started with: ", h("code", "modelyard console --token")
        )
    return None


def toast(message: str, kind: str = "good") -> None:
    """A short notice that goes away, read by screen readers; kind: good or bad (stays longer)."""
    ui.run_javascript(f"modelyard.tell({json.dumps(message)}, {json.dumps(kind)})")


@asynccontextmanager
async def told() -> AsyncIterator[None]:
    """Errors of what somebody did are told in a notice."""
    try:
        yield
    except Exception as error:
        toast(message_of(error)[0], "bad")
