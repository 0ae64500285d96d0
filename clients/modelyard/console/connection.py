"""The server that the pages show, and as whom: a client a project, opened when a page first asks for it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from modelyard.client import Access, AsyncClient
from modelyard.console.launch import Behind

# A page says quickly that a server does not answer, and tries again when it is asked to.
PATIENCE_S: Final = 2.0
TIMEOUT_S: Final = 20.0


@dataclass
class Connection:
    """What all pages of one person share. `token` is asked at every call, where it changes while pages are open (OIDC).

    `person`: who signed in, where several people share the console; empty in a console of one's own, and where nobody is asked.
    `shared`: whether several people use this process.
    """

    behind: Behind
    person: str = ""
    shared: bool = False
    token: Callable[[], str] | None = None
    _clients: dict[str, AsyncClient] = field(default_factory=dict)

    def client(self, project: str) -> AsyncClient:
        """The client whose short names belong to a project."""
        found = self._clients.get(project)
        if found is None:
            found = self._clients[project] = AsyncClient(
                self.behind.server,
                project=project,
                timeout_s=TIMEOUT_S,
                patience_s=PATIENCE_S,
                access=_access(self.behind, self.token),
            )
        return found

    async def close(self) -> None:
        for client in self._clients.values():
            await client.close()
        self._clients.clear()


@dataclass(frozen=True)
class _Renewed(Access):
    """An access whose token is whatever holds now."""

    now: Callable[[], str] = str

    def with_token_for(self, address: str) -> Access:
        return Access(self.now(), self.ca, self.certificate, self.key, self.server_name)


def _access(behind: Behind, token: Callable[[], str] | None) -> Access:
    def path(text: str) -> Path | None:
        return Path(text) if text else None

    files = path(behind.ca), path(behind.certificate), path(behind.key)
    if token is not None:
        return _Renewed("", *files, behind.server_name, token)
    return Access(behind.token, *files, behind.server_name)


_shared: dict[str, Connection] = {}
_visitor: ContextVar[Connection | None] = ContextVar("connection", default=None)


def share(connection: Connection) -> None:
    """Makes it the one of this process: the console of one person."""
    _shared["connection"] = connection


@contextmanager
def on_behalf_of(connection: Connection) -> Iterator[None]:
    """Makes it the one of a request, and of whatever the request starts: a console that several people share."""
    before = _visitor.set(connection)
    try:
        yield
    finally:
        _visitor.reset(before)


def connection() -> Connection:
    """The one of whoever looks at the page."""
    return _visitor.get() or _shared["connection"]
