"""A client for a command: of the named server, of the one that has the data folder, or of one started for the command."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Final

from modelyard.cli.interrupts import CALL_S, interrupts
from modelyard.cli.options import Common
from modelyard.client import Access, Client, InvalidArgument, Unavailable, Violation
from modelyard.client.access import token_in

if TYPE_CHECKING:
    from modelyard.cli.own_server import OwnServer

# A server that is there answers at once; one that restarts gets this long.
PATIENCE_S: Final = 5.0
# What is watched is waited for so long when its server goes: `modelyard up` may be started again.
WATCH_PATIENCE_S: Final = 30.0


@dataclass(frozen=True)
class Session:
    """An open client, and the server on the data folder where no other was named."""

    client: Client
    common: Common
    server: OwnServer | None

    @property
    def embedded(self) -> bool:
        """Whether its server ends with the command."""
        return self.server is not None and self.server.started

    def services(self) -> tuple[str, ...]:
        """The services, which have a log and quotas of their own unless they are one process."""
        return ("dataset", "trainer", "exporter", "evaluator", "serving", "pipeline")

    def watch_command(self, name: str) -> str:
        """The command that watches a run again."""
        where = f"--server {self.common.server}" if self.common.server else f"--data-dir {self.common.data_dir}"
        return f"modelyard runs watch {name} {where}"


@contextmanager
def session(common: Common) -> Iterator[Session]:
    """Opens a session and closes what it opened."""
    if common.server:
        with _client(common, checked_address(common.server), PATIENCE_S) as client, _hurried(client):
            yield Session(client, common, None)
        return
    from modelyard.cli.own_server import OwnServer

    server = OwnServer(common)
    borrowed = not server.started
    try:
        # Where another command's server ends, one is started in its place: calls wait for that.
        patience_s = WATCH_PATIENCE_S if server.replaceable else PATIENCE_S
        with _client(common, server.address, patience_s) as client, _hurried(client, server):
            yield Session(client, common, server)
    except Unavailable as error:
        if not borrowed or error.reason != "NO_CONNECTION":
            raise
        message = f"the server that had {common.data_dir} has ended; what it was doing goes on when there is one again"
        raise Unavailable(message, reason="SERVER_ENDED", values=error.values) from error
    finally:
        server.close()


def _client(common: Common, address: str, patience_s: float) -> Client:
    access = access_of(common, address)
    return Client(address, project=common.project, patience_s=patience_s, watch_patience_s=WATCH_PATIENCE_S, access=access)


@contextmanager
def _hurried(client: Client, server: OwnServer | None = None) -> Iterator[None]:
    """After Ctrl-C calls are not waited for any longer than it takes to tidy up."""
    with interrupts.told(partial(client.hurry, CALL_S), server.give_up if server is not None else lambda: None):
        yield


def access_of(common: Common, address: str) -> Access:
    """What the options say; without a token the user's own, for the server that has the data folder."""
    given = Access(common.token, common.ca, common.cert, common.cert_key, os.environ.get("MODELYARD_SERVER_NAME", ""))
    return given if given.token else replace(given, token=token_in(common.data_dir, address))


def checked_address(server: str) -> str:
    """InvalidArgument when a server is not given as host and port."""
    if ":" not in server:
        message = f"server is {server!r}; give HOST:PORT, such as 127.0.0.1:8970, or https://HOST:PORT"
        violations = (Violation("server", message),)
        raise InvalidArgument(message, reason="INVALID_ADDRESS", values={"server": server}, violations=violations)
    return server
