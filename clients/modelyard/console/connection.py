"""The server that the pages show: a client a project, opened when a page first asks for it."""

from __future__ import annotations

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
    """What all pages of this process share."""

    behind: Behind
    _clients: dict[str, AsyncClient] = field(default_factory=dict)

    def client(self, project: str) -> AsyncClient:
        """The client whose short names belong to a project."""
        found = self._clients.get(project)
        if found is None:
            found = self._clients[project] = AsyncClient(
                self.behind.server, project=project, timeout_s=TIMEOUT_S, patience_s=PATIENCE_S, access=_access(self.behind)
            )
        return found

    async def close(self) -> None:
        for client in self._clients.values():
            await client.close()
        self._clients.clear()


def _access(behind: Behind) -> Access:
    def path(text: str) -> Path | None:
        return Path(text) if text else None

    return Access(behind.token, path(behind.ca), path(behind.certificate), path(behind.key), behind.server_name)


_shared: dict[str, Connection] = {}


def share(connection: Connection) -> None:
    """Makes it the one of this process."""
    _shared["connection"] = connection


def connection() -> Connection:
    """The one of this process."""
    return _shared["connection"]
