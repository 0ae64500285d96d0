"""Who has signed in at a console that several people share: sessions of this process, each with its own connection."""

from __future__ import annotations

import asyncio
import hashlib
import secrets
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from typing import Final

from modelyard.client import Unauthenticated
from modelyard.console.connection import Connection
from modelyard.console.launch import Behind
from modelyard.console.oidc import Issuer, SignInError, Tokens

MOST: Final = 2000


@dataclass
class Session:
    """A browser that somebody signed in with; `ends` as time.time(). `tokens`: those of an issuer, renewed while they can be."""

    connection: Connection
    ends: float
    token: str = field(repr=False)
    tokens: Tokens | None = None
    renewing: asyncio.Lock = field(default_factory=asyncio.Lock)


Caller = Callable[[Connection, str], Awaitable[str]]


async def _caller(connection: Connection, project: str) -> str:
    """Who the services say that a connection's token is of."""
    return str((await connection.client(project).access.get_caller()).principal)


class People:
    """The sessions, by the hash of their cookie: whoever reads the memory of a log or a dump of names finds no cookie."""

    def __init__(
        self,
        behind: Behind,
        seconds: float,
        issuer: Issuer | None = None,
        *,
        clock: Callable[[], float] = time.time,
        caller: Caller = _caller,
    ) -> None:
        self._behind, self._seconds, self._issuer, self._clock, self._caller = behind, seconds, issuer, clock, caller
        self._sessions: dict[str, Session] = {}
        self._leaving: set[asyncio.Task[None]] = set()

    async def sign_in(self, token: str, tokens: Tokens | None = None) -> str:
        """The cookie of a new session. Raises what the services say of the token: Unauthenticated, InvalidArgument."""
        session = Session(Connection(replace(self._behind, token=""), shared=True), self._clock() + self._seconds, token, tokens)
        session.connection.token = lambda: session.token
        try:
            person = await self._caller(session.connection, self._behind.project)
        except BaseException:
            await session.connection.close()
            raise
        if not person or person == "anonymous":
            await session.connection.close()
            raise Unauthenticated("The services do not know whose token this is.", reason="UNKNOWN_TOKEN")
        session.connection.person = person
        self._sweep()
        cookie = secrets.token_urlsafe(32)
        self._sessions[_hash(cookie)] = session
        return cookie

    async def find(self, cookie: str) -> Session | None:
        """The session of a cookie; None when there is none, or when it is over."""
        key = _hash(cookie)
        session = self._sessions.get(key)
        if session is None:
            return None
        if self._clock() > session.ends:
            self._drop(key)
            return None
        if session.tokens is not None and session.tokens.is_old:
            async with session.renewing:
                if session.tokens.is_old and not await self._renewed(session):
                    self._drop(key)
                    return None
        return session

    def sign_out(self, cookie: str) -> None:
        """Ends a session: pages that are still open can do nothing any more."""
        self._drop(_hash(cookie))

    async def close(self) -> None:
        for key in list(self._sessions):
            self._drop(key)
        await asyncio.gather(*self._leaving, return_exceptions=True)
        if self._issuer is not None:
            await self._issuer.close()

    async def _renewed(self, session: Session) -> bool:
        assert session.tokens is not None
        if self._issuer is None:
            return False
        try:
            session.tokens = await self._issuer.renew(session.tokens)
        except SignInError:
            return time.time() < session.tokens.ends
        session.token = session.tokens.shown
        return True

    def _drop(self, key: str) -> None:
        session = self._sessions.pop(key, None)
        if session is None:
            return
        session.token = ""
        task = asyncio.get_running_loop().create_task(session.connection.close())
        self._leaving.add(task)
        task.add_done_callback(self._leaving.discard)

    def _sweep(self) -> None:
        now = self._clock()
        for key in [key for key, session in self._sessions.items() if session.ends < now]:
            self._drop(key)
        while len(self._sessions) >= MOST:
            self._drop(min(self._sessions, key=lambda key: self._sessions[key].ends))


def _hash(cookie: str) -> str:
    return hashlib.sha256(cookie.encode("utf-8", "replace")).hexdigest()
