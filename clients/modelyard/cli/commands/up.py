"""`modelyard up`."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Annotated, Any

import typer

from modelyard.cli.options import DEFAULT_DATA_DIR, DataDir, Debug, new_app

app = new_app()


@app.command(name="up")
def up(
    data_dir: DataDir = DEFAULT_DATA_DIR,
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to listen on; 0 takes a free one.")] = 8970,
    host: Annotated[str, typer.Option(help="Address to listen on; 0.0.0.0 for every interface.")] = "127.0.0.1",
    console_port: Annotated[int, typer.Option(min=0, max=65535, help="Port of the console; 0 takes a free one.")] = 8980,
    no_console: Annotated[bool, typer.Option("--no-console", help="Without the console.")] = False,
    debug: Debug = False,
) -> None:
    """Keep a server running until Ctrl-C: all services on one port, with their data in one folder.

    Other commands with the same --data-dir find it. Jobs that had not ended go on. On a terminal its log goes to a file in that
    folder. The console is for a browser: open the link that is printed; it lets in once, and `modelyard console` makes another.

    \b
    Example: modelyard up --port 8970
    """
    from modelyard.cli.own_server import log_file, log_into, services, usable

    started = time.monotonic()
    folder = data_dir.expanduser()
    embedded = services()
    usable(folder)
    apart = sys.stderr.isatty() and not debug  # the link to the console would be gone among the lines of the first calls
    log_into(folder, debug=False) if apart else _logs(debug)
    opened: list[Any] = []

    def ready(address: str) -> None:
        print(f"ready at {address} after {time.monotonic() - started:.1f} s; data in {folder}; Ctrl-C stops", flush=True)
        if apart:
            print(f"log: {log_file(folder)}", flush=True)
        if not no_console:
            opened.extend(_open_console(Path(folder), console_port))

    try:
        embedded.main(Path(folder), host, port, ready)
    finally:
        for console in opened:
            console.stop()


def _open_console(folder: Path, port: int) -> list[Any]:
    """Holds the console's port; its pages start when somebody opens them."""
    from modelyard.cli.consoles import open_own
    from modelyard.console.launch import installed

    if not installed():
        print("the console is not installed: pip install 'modelyard[console]'", flush=True)
        return []
    console = open_own(folder, port)
    moved = f" (port {port} is taken)" if port and console.port != port else ""
    print(f"console{moved}: {console.link()}", flush=True)
    return [console]


def _logs(debug: bool) -> None:
    from modelyard.core.rpc.logs import configure_logs

    configure_logs("console" if sys.stderr.isatty() else "json", "debug" if debug else "info")
