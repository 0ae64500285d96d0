"""`modelyard up`."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Annotated

import typer

from modelyard.cli.options import DEFAULT_DATA_DIR, DataDir, Debug, new_app

app = new_app()


@app.command(name="up")
def up(
    data_dir: DataDir = DEFAULT_DATA_DIR,
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to listen on; 0 takes a free one.")] = 8970,
    host: Annotated[str, typer.Option(help="Address to listen on; 0.0.0.0 for every interface.")] = "127.0.0.1",
    debug: Debug = False,
) -> None:
    """Keep a server running until Ctrl-C: all services on one port, with their data in one folder.

    Other commands with the same --data-dir find it. Jobs that had not ended go on.

    \b
    Example: modelyard up --port 8970
    """
    from modelyard.cli.session import services, usable

    started = time.monotonic()
    folder = data_dir.expanduser()
    embedded = services()
    usable(folder)
    _logs(debug)

    def ready(address: str) -> None:
        print(f"ready at {address} after {time.monotonic() - started:.1f} s; data in {folder}; Ctrl-C stops", flush=True)

    embedded.main(Path(folder), host, port, ready)


def _logs(debug: bool) -> None:
    from modelyard.core.rpc.logs import configure_logs

    configure_logs("console" if sys.stderr.isatty() else "json", "debug" if debug else "info")
