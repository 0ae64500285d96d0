"""A TCP line between two processes that can be cut, in the middle of what goes over it."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field


@dataclass
class Line:
    """`most`: bytes towards the caller after which a connection is cut; 0: none is. `open`: whether new ones are taken."""

    address: str
    target: tuple[str, int]
    most: int = 0
    open: bool = True
    cuts: int = 0
    passed: int = 0
    _sockets: list[socket.socket] = field(default_factory=list)

    def cut(self) -> None:
        """All connections, now."""
        for each in self._sockets:
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()
        self._sockets.clear()

    def serve(self, listener: socket.socket) -> None:
        while True:
            try:
                near, _ = listener.accept()
            except OSError:
                return
            if not self.open:
                near.close()
                continue
            try:
                far = socket.create_connection(self.target)
            except OSError:
                near.close()
                continue
            self._sockets += [near, far]
            threading.Thread(target=self._copy, args=(near, far, False), daemon=True).start()
            threading.Thread(target=self._copy, args=(far, near, True), daemon=True).start()

    def _copy(self, source: socket.socket, sink: socket.socket, counted: bool) -> None:
        went = 0
        with contextlib.suppress(OSError):
            while data := source.recv(16 << 10):
                went += len(data)
                if counted:
                    self.passed += len(data)
                if counted and self.most and went > self.most:
                    self.cuts += 1
                    break
                sink.sendall(data)
        for each in (source, sink):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)


@contextlib.contextmanager
def cut_line(address: str) -> Iterator[Line]:
    """A line to host:port."""
    host, _, port = address.rpartition(":")
    with socket.create_server(("127.0.0.1", 0)) as listener:
        line = Line(f"127.0.0.1:{listener.getsockname()[1]}", (host, int(port)))
        threading.Thread(target=line.serve, args=(listener,), daemon=True).start()
        try:
            yield line
        finally:
            line.cut()
