"""`modelyard console`."""

from __future__ import annotations

import signal
import threading
from typing import Annotated

import typer

from modelyard.cli.options import Common, new_app, with_common

app = new_app()


@app.command(name="console")
@with_common
def console(
    common: Common,
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port on 127.0.0.1; 0 takes a free one.")] = 8980,
    no_browser: Annotated[bool, typer.Option("--no-browser", help="Print the link, and open nothing.")] = False,
) -> None:
    """Open the console in a browser: of your own server, or with --server of another, as whom your token says.

    Beside `modelyard up` it makes another link for the console that is there. Else it keeps one running until Ctrl-C. It listens
    on 127.0.0.1 alone, and the link lets in once.

    \b
    Example: modelyard console

    \b
    Example: modelyard console --server https://models.example.org --token "$TOKEN"
    """
    from modelyard.cli.consoles import FOLDER, open_other, open_own
    from modelyard.cli.session import access_of, checked_address, session
    from modelyard.client import FailedPrecondition
    from modelyard.console.door import Links
    from modelyard.console.launch import installed, link_of, read_state

    if not installed():
        raise FailedPrecondition("the console is not installed: pip install 'modelyard[console]'", reason="NO_CONSOLE")
    folder = common.data_dir / FOLDER
    state = read_state(folder)
    if not common.server and state:
        _show(common, link_of(str(state["address"]), Links(folder)), no_browser)
        return
    if common.server:
        address = checked_address(common.server)
        opened = open_other(address, access_of(common, address), common.project, common.data_dir, port)
        try:
            _show(common, opened.link(), no_browser)
            _wait()
        finally:
            opened.stop()
        return
    with session(common):
        opened = open_own(common.data_dir, port)
        try:
            _show(common, opened.link(), no_browser)
            _wait()
        finally:
            opened.stop()


def _show(common: Common, link: str, no_browser: bool) -> None:
    from modelyard.cli.output import note, print_json

    if common.json:
        print_json({"link": link})
    else:
        print(link, flush=True)
    if not no_browser:
        import webbrowser

        if not webbrowser.open(link):
            note("no browser was found here; open the link yourself")


def _wait() -> None:
    ended = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: ended.set())
    while not ended.wait(1.0):
        pass
