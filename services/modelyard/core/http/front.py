"""The public port: looks at the first bytes of a connection and gives it to HTTP/2 or HTTP/1.1.

HTTP/2 calls go to a native handler, to a servicer's method, or (no gRPC) to the HttpHandler.
docs/decisions/0015-front-end.md says why.
"""

from __future__ import annotations

import asyncio
import resource
import socket
import ssl
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import structlog

from modelyard.core.http import frames
from modelyard.core.http.calls import HttpHandler, UnaryHandler
from modelyard.core.http.connection import Http2Connection
from modelyard.core.http.handled_call import HandledCall, Wrap
from modelyard.core.http.head import Head
from modelyard.core.http.http1 import Http1Connection
from modelyard.core.http.http2_request import Http2Request
from modelyard.core.http.limits import Budget, Limits
from modelyard.core.http.methods import Methods
from modelyard.core.http.native_call import Native, NativeCall
from modelyard.core.http.sending import Acknowledgements
from modelyard.core.http.stream import Stream

log = structlog.get_logger()
BACKLOG = 1024
OTHER_FILES = 1024


class Front:
    """Listens, and keeps the connections. `methods` are the servicers', `wrap` the interceptor around them."""

    def __init__(
        self,
        natives: Mapping[str, UnaryHandler],
        methods: Methods,
        wrap: Wrap,
        http: HttpHandler | None,
        limits: Limits,
    ) -> None:
        self._natives = {path: Native(path, handler) for path, handler in natives.items()}
        self._http = http
        self._methods, self._wrap = methods, wrap
        self.limits = limits
        self.budget = Budget(limits.held_bytes)
        self._connections: set[Any] = set()
        self._servers: list[asyncio.Server] = []
        self._sweeper: asyncio.Task[None] | None = None
        self._acknowledgements: Acknowledgements | None = None

    async def start(self, host: str, port: int, tls: ssl.SSLContext | None = None) -> int:
        """Listen; gives the port. Raises OSError when it cannot be had."""
        loop = asyncio.get_running_loop()
        self._acknowledgements = Acknowledgements(loop)
        listener = listen(host, port)
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # for all it accepts; uvloop alone sets it itself
        _allow_files(self.limits.connections)
        handshake = None if tls is None else self.limits.handshake_s
        self._servers.append(
            await loop.create_server(self._accept, sock=listener, ssl=tls, backlog=BACKLOG, ssl_handshake_timeout=handshake)
        )
        self._sweeper = asyncio.ensure_future(self._sweep())
        return int(listener.getsockname()[1])

    async def start_local(self, path: Path) -> None:
        """Listen on a socket in a folder too, without TLS, for processes of this user."""
        self._servers.append(await asyncio.get_running_loop().create_unix_server(self._accept, str(path), backlog=BACKLOG))

    async def stop(self, grace_s: float) -> None:
        """No new connections; those that are there get `grace_s` to end their calls."""
        for server in self._servers:
            server.close()
        for connection in list(self._connections):
            connection.drain()
        until = asyncio.get_running_loop().time() + grace_s
        while self._connections and asyncio.get_running_loop().time() < until:
            await asyncio.sleep(0.01)
        for connection in list(self._connections):
            connection.abort()
        until = asyncio.get_running_loop().time() + 1.0
        while self._connections and asyncio.get_running_loop().time() < until:
            await asyncio.sleep(0)
        if self._sweeper is not None:
            self._sweeper.cancel()

    @property
    def connections(self) -> int:
        """How many are open."""
        return len(self._connections)

    def open_stream(self, connection: Http2Connection, stream_id: int, head: Head, timeout: bytes | None) -> Stream:
        """The stream for a request over HTTP/2."""
        if head.is_grpc and head.method == "POST":
            native = self._natives.get(head.path)
            if native is not None:
                return NativeCall(native, connection, stream_id, head, timeout)
            return HandledCall(self._methods.find(head.path), self._wrap, connection, stream_id, head, timeout)
        return Http2Request(self._http, connection, stream_id, head)

    def _accept(self) -> asyncio.Protocol:
        if len(self._connections) >= self.limits.connections:
            return _Refused()
        return _Newcomer(self)

    def keep(self, connection: Any) -> None:
        """A connection is open."""
        self._connections.add(connection)

    def replace(self, before: Any, transport: Any, first: bytes, is_http2: bool) -> None:
        """A newcomer has shown what it speaks."""
        self._connections.discard(before)
        lost: Callable[[Any], None] = self._connections.discard
        connection: Http2Connection | Http1Connection
        if is_http2:
            connection = Http2Connection(self.open_stream, self.limits, self.budget, lost, self._acknowledgements)
        else:
            connection = Http1Connection(self._http, self.limits, self.budget, lost)
        self._connections.add(connection)
        transport.set_protocol(connection)
        connection.connection_made(transport)
        if first:
            connection.data_received(first)

    def lost(self, connection: Any) -> None:
        """A connection is closed."""
        self._connections.discard(connection)

    @property
    def request_s(self) -> float:
        return self.limits.request_s

    async def _sweep(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(self.limits.sweep_s)
            for connection in list(self._connections):
                try:
                    connection.sweep(loop.time())
                except Exception as error:
                    log.error("internal error in a connection", exc_info=error)


class _Newcomer(asyncio.Protocol):
    """A connection that has not yet said enough to be known."""

    def __init__(self, front: Front) -> None:
        self._front = front
        self._transport: Any = None
        self._first = b""
        self._since: float | None = None

    def connection_made(self, transport: Any) -> None:
        self._transport = transport
        self._front.keep(self)
        tls = transport.get_extra_info("ssl_object")
        if tls is not None and tls.selected_alpn_protocol() == "h2":
            self._front.replace(self, transport, b"", True)

    def data_received(self, data: bytes) -> None:
        self._first += data
        if self._first.startswith(frames.PREFACE[:4]) or not frames.PREFACE.startswith(self._first[:4]):
            self._front.replace(self, self._transport, self._first, self._first.startswith(frames.PREFACE[:4]))

    def connection_lost(self, exc: Exception | None) -> None:
        self._front.lost(self)

    def drain(self) -> None:
        self._transport.close()

    def abort(self) -> None:
        self._transport.abort()

    def sweep(self, now: float) -> None:
        self._since = self._since or now
        if now - self._since > self._front.request_s:
            self.abort()


class _Refused(asyncio.Protocol):
    """One connection too many."""

    def connection_made(self, transport: Any) -> None:
        transport.abort()


def _allow_files(connections: int) -> None:
    """Raise the soft limit of open files, which is often 1024, as far as the hard one allows."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = connections + OTHER_FILES
    if hard != resource.RLIM_INFINITY:
        wanted = min(wanted, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def listen(host: str, port: int) -> socket.socket:
    """A listening socket; "::" takes IPv4 too. Raises OSError."""
    if host == "::":
        return socket.create_server((host, port), family=socket.AF_INET6, dualstack_ipv6=True, backlog=BACKLOG)
    family, _, _, _, address = socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
    return socket.create_server(address[:2], family=family, backlog=BACKLOG)
