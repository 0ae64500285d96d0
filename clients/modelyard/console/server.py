"""The process of the pages of one person: NiceGUI behind the gate, on the socket that `launch` listens on (and starts this with
`python -m modelyard.console.server`)."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import socket
import sys
import threading
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

import uvicorn
from fastapi import FastAPI
from nicegui import app as pages_app
from nicegui import ui
from starlette.staticfiles import StaticFiles

from modelyard.console.annotating import add_annotating
from modelyard.console.connection import Connection, connection, share
from modelyard.console.content import add_content
from modelyard.console.door import Links, Sessions
from modelyard.console.gate import Gate
from modelyard.console.launch import Behind
from modelyard.console.pages import add_pages
from modelyard.console.parts.page import not_found_page
from modelyard.console.reports import add_reports
from modelyard.console.uploads import add_uploads

STATIC = Path(__file__).parent / "static"


def main() -> int:
    """Reads what to show from stdin, serves until stdin closes: then whoever started this is gone."""
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(name)s %(levelname)s %(message)s")
    logging.getLogger("asyncio").setLevel(logging.ERROR)
    said = json.loads(sys.stdin.readline())
    listening = socket.socket(fileno=int(said["descriptor"]))
    share(Connection(Behind(**{field.name: said[field.name] for field in fields(Behind)})))
    server = uvicorn.Server(
        uvicorn.Config(
            build(said),
            log_level="warning",
            access_log=False,
            server_header=False,
            timeout_graceful_shutdown=1,
            ws_max_size=16 << 20,
            lifespan="on",
        )
    )
    threading.Thread(target=_end_with_parent, args=(server,), daemon=True).start()
    asyncio.run(_serve(server, listening))
    return 0


def build(said: Mapping[str, Any]) -> Gate:
    """The application behind the gate."""
    links, sessions = Links(Path(said["folder"])), Sessions(bytes.fromhex(said["session_key"]))
    return Gate(application(), port=int(said["port"]), links=links, sessions=sessions)


def application() -> FastAPI:
    """Pages, pictures, uploads, files of ours. Whoever calls it says before who may come in."""
    outer = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    outer.mount("/static", StaticFiles(directory=STATIC))
    add_content(outer)
    add_uploads(outer)
    add_annotating(outer)
    add_reports(outer)
    add_pages()
    pages_app.config.quasar_config["loadingBar"] = {"skipHijack": True}  # it has no name that could be read out
    pages_app.on_exception(lambda error: logging.getLogger("modelyard.console").error("page", exc_info=error))
    ui.run_with(
        outer,
        root=not_found_page,
        title="Modelyard",
        favicon=STATIC / "favicon.svg",
        dark=None,
        language="en-US",
        tailwind=False,
        reconnect_timeout=20.0,
        binding_refresh_interval=None,
        show_welcome_message=False,
    )
    return outer


async def _serve(server: uvicorn.Server, listening: socket.socket) -> None:
    try:
        await server.serve(sockets=[listening])
    finally:
        await connection().close()


def _end_with_parent(server: uvicorn.Server) -> None:
    while os.read(sys.stdin.fileno(), 4096):
        pass
    server.should_exit = True
    threading.Event().wait(5)
    os._exit(0)  # a page that does not end holds nothing up


if __name__ == "__main__":
    sys.exit(main())
