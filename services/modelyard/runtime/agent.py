"""Measures bundles on the device it runs on, for an exporter elsewhere:

    python -m modelyard.runtime.agent --address 0.0.0.0:8971 --token-file TOKEN

Needs on the device: `pip install "modelyard[agent,litert]"` (or another runtime); no torch, no service of ours.

Who can reach it and has the token can have the device run models, and nothing else: a bundle is checked, run in a process of its
own, and gone after. Traffic is encrypted with --certificate and --key; without, let it listen in a private network or behind a
tunnel. Without a token file it listens on loopback only. When it listens it prints one JSON object with its `address` and `port`.
"""

from __future__ import annotations

import argparse
import hmac
import ipaddress
import json
import re
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any, Final, NoReturn

import grpc

from modelyard.agent.v1 import agent_pb2 as pb
from modelyard.agent.v1 import agent_pb2_grpc as rpc
from modelyard.core.errors import (
    FailedPrecondition,
    InvalidArgument,
    ModelyardError,
    PermissionDenied,
    ResourceExhausted,
    Unavailable,
)
from modelyard.core.latency import Latency
from modelyard.runtime.latency import measure, usable_cores
from modelyard.type.v1 import learning_pb2

DEFAULT_ADDRESS: Final = "127.0.0.1:8971"
DEFAULT_MAX_BYTES: Final = 512 << 20
DEFAULT_SECONDS: Final = 2.0
MAX_SECONDS: Final = 60.0
MAX_THREADS: Final = 256
UPLOAD_LIMIT_S: Final = 600.0
SHORTEST_TOKEN: Final = 16
REASON: Final = "modelyard-reason"
"""Key of the trailing metadata that carries an error's reason."""
CODES: Final[dict[type[ModelyardError], grpc.StatusCode]] = {
    InvalidArgument: grpc.StatusCode.INVALID_ARGUMENT,
    FailedPrecondition: grpc.StatusCode.FAILED_PRECONDITION,
    ResourceExhausted: grpc.StatusCode.RESOURCE_EXHAUSTED,
    PermissionDenied: grpc.StatusCode.PERMISSION_DENIED,
    Unavailable: grpc.StatusCode.UNAVAILABLE,
}
_TARGET: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/-]{0,199}")

Measure = Callable[[Path, str, float, int], Latency]


@dataclass(frozen=True)
class Options:
    """How to measure, checked."""

    seconds: float
    threads: int
    target: str
    size_bytes: int


class MeasureServicer(rpc.MeasureServiceServicer):
    """One measurement at a time, for callers with the token."""

    def __init__(self, token: str, max_bytes: int, measure: Measure) -> None:
        """`token` empty: every caller may. `measure` takes the bundle's path, the target, seconds and threads."""
        self._token = token.encode()
        self._max_bytes = max_bytes
        self._measure = measure
        self._busy = threading.Lock()

    def Measure(self, request_iterator: Iterator[pb.MeasureRequest], context: Any) -> learning_pb2.Latency:  # noqa: N802
        """See the contract."""
        try:
            self._check_token(context)
            options = read_options(request_iterator, self._max_bytes)
            return learning_pb2.Latency(**asdict(self._alone(request_iterator, options)))
        except ModelyardError as error:
            _abort(context, error)

    def _alone(self, messages: Iterator[pb.MeasureRequest], options: Options) -> Latency:
        if not self._busy.acquire(blocking=False):
            raise ResourceExhausted("AGENT_BUSY", "the agent is measuring another model; it measures one at a time")
        try:
            with tempfile.TemporaryDirectory(prefix="modelyard-agent-") as folder:
                path = Path(folder, "measured.bundle")
                with path.open("wb") as stream:
                    receive(messages, stream, options.size_bytes)
                return self._measure(path, options.target, options.seconds, options.threads)
        finally:
            self._busy.release()

    def _check_token(self, context: Any) -> None:
        if not self._token:
            return
        given = dict(context.invocation_metadata()).get("authorization", "")
        given = given if isinstance(given, bytes) else given.encode()
        if not hmac.compare_digest(given, b"Bearer " + self._token):
            raise PermissionDenied("WRONG_TOKEN", "the agent does not know this token; pass the content of its --token-file")


def read_options(messages: Iterator[pb.MeasureRequest], max_bytes: int) -> Options:
    """The first message. Raises InvalidArgument naming the field that is wrong, ResourceExhausted BUNDLE_TOO_LARGE."""
    first = next(messages, None)
    if first is None or first.WhichOneof("part") != "options":
        raise InvalidArgument("NO_OPTIONS", "the first message of a measurement must be its options", field="options")
    given = first.options
    seconds = given.seconds or DEFAULT_SECONDS
    _check("seconds", given.seconds, 0 < seconds <= MAX_SECONDS, f"0 to {MAX_SECONDS:g}")
    _check("threads", given.threads, 0 <= given.threads <= MAX_THREADS, f"0 (all) to {MAX_THREADS}")
    _check("target", given.target, bool(_TARGET.fullmatch(given.target)), "1 to 200 letters, digits or ._/-")
    _check("size_bytes", given.size_bytes, given.size_bytes > 0, "1 or more")
    if given.size_bytes > max_bytes:
        message = f"size_bytes is {given.size_bytes}; this agent takes bundles of at most {max_bytes} bytes"
        raise ResourceExhausted("BUNDLE_TOO_LARGE", message, field="size_bytes", limit=max_bytes)
    return Options(seconds, given.threads, given.target, given.size_bytes)


def receive(
    messages: Iterator[pb.MeasureRequest], stream: IO[bytes], size: int, clock: Callable[[], float] = time.monotonic
) -> None:
    """Writes the chunks that follow the options. Raises InvalidArgument for a stream that is not what was announced."""
    received, end = 0, clock() + UPLOAD_LIMIT_S
    for message in messages:
        if message.WhichOneof("part") != "chunk" or not message.chunk:
            raise InvalidArgument("NO_CHUNK", "after the options every message must hold a chunk of bytes", field="chunk")
        received += len(message.chunk)
        if received > size or clock() > end:
            break
        stream.write(message.chunk)
    if received != size:
        message_text = f"the bundle has {size} bytes, {received} came within {UPLOAD_LIMIT_S:g} s"
        raise InvalidArgument("WRONG_SIZE", message_text, field="size_bytes", received=received)


def _check(field: str, value: object, right: bool, wanted: str) -> None:
    if not right:
        raise InvalidArgument(f"BAD_{field.upper()}", f"{field} is {value!r:.220}, it must be {wanted}", field=field, value=value)


def _abort(context: Any, error: ModelyardError) -> NoReturn:
    context.set_trailing_metadata(((REASON, error.reason),))
    context.abort(CODES.get(type(error), grpc.StatusCode.UNKNOWN), error.message)
    raise AssertionError("abort raises")


def measure_on_this_device(path: Path, target: str, seconds: float, threads: int) -> Latency:
    """In a process of its own; the target's name is the caller's."""
    return measure(path, target, seconds=seconds, threads=threads or usable_cores())


def read_token(path: Path) -> str:
    """The token in a file. Raises InvalidArgument BAD_TOKEN when it is too short to be one."""
    try:
        token = path.read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidArgument("BAD_TOKEN", f"--token-file {path.name} cannot be read ({error})", field="token_file") from error
    if len(token) < SHORTEST_TOKEN or not token.isascii() or not token.isprintable():
        message = f"--token-file {path.name} must hold {SHORTEST_TOKEN} or more printable characters on one line"
        raise InvalidArgument("BAD_TOKEN", message, field="token_file")
    return token


def start(
    address: str,
    token: str,
    *,
    max_bytes: int = DEFAULT_MAX_BYTES,
    measure: Measure = measure_on_this_device,
    certificate: Path | None = None,
    key: Path | None = None,
) -> tuple[Any, int]:
    """A server that listens; gives it and its port. `certificate` and `key`: PEM files; without, traffic is not encrypted.

    Raises InvalidArgument TOKEN_NEEDED, BAD_ADDRESS, BAD_TLS, Unavailable PORT_TAKEN.
    """
    loopback = is_loopback(address)
    if not token and not loopback:
        message = f"{address} can be reached from other machines: give a --token-file, or listen on 127.0.0.1"
        raise InvalidArgument("TOKEN_NEEDED", message, field="address", address=address)
    options = [("grpc.so_reuseport", 0), ("grpc.keepalive_time_ms", 20_000), ("grpc.keepalive_timeout_ms", 10_000)]
    server = grpc.server(ThreadPoolExecutor(4, thread_name_prefix="agent"), options=options, maximum_concurrent_rpcs=8)
    rpc.add_MeasureServiceServicer_to_server(MeasureServicer(token, max_bytes, measure), server)
    try:
        credentials = _credentials(certificate, key)
        port = int(server.add_secure_port(address, credentials) if credentials else server.add_insecure_port(address))
    except RuntimeError as error:
        message = f"{address} cannot be listened on: another process has the port, or the address is not this machine's"
        raise Unavailable("PORT_TAKEN", message, address=address) from error
    server.start()
    return server, port


def _credentials(certificate: Path | None, key: Path | None) -> Any:
    """Raises InvalidArgument BAD_TLS."""
    if certificate is None and key is None:
        return None
    if certificate is None or key is None:
        raise InvalidArgument("BAD_TLS", "--certificate and --key go together; one of them is not given", field="certificate")
    try:
        return grpc.ssl_server_credentials([(key.read_bytes(), certificate.read_bytes())])
    except OSError as error:
        raise InvalidArgument("BAD_TLS", f"{error.filename} cannot be read: {error.strerror}", field="certificate") from error


def is_loopback(address: str) -> bool:
    """Whether host:port can only be reached from this machine. Raises InvalidArgument BAD_ADDRESS when it is not host:port."""
    host, colon, port = address.rpartition(":")
    if not (host and colon and port.isdecimal() and int(port) < 65536):
        raise InvalidArgument("BAD_ADDRESS", f"--address is {address!r:.100}, it must be HOST:PORT", field="address")
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"


def main(arguments: Sequence[str] | None = None) -> int:
    """Serves until SIGINT or SIGTERM."""
    parser = argparse.ArgumentParser(prog="python -m modelyard.runtime.agent", description=(__doc__ or "").partition(":")[0])
    parser.add_argument("--address", default=DEFAULT_ADDRESS, help=f"where to listen ({DEFAULT_ADDRESS}); port 0: a free one")
    parser.add_argument("--token-file", type=Path, help="file whose content callers must know; needed off loopback")
    parser.add_argument("--certificate", type=Path, help="PEM file with the certificate chain of the port (TLS)")
    parser.add_argument("--key", type=Path, help="PEM file with its private key")
    parser.add_argument("--max-bytes", type=int, default=DEFAULT_MAX_BYTES, help="largest bundle")
    given = parser.parse_args(arguments)
    try:
        token = read_token(given.token_file) if given.token_file else ""
        files = {"certificate": given.certificate, "key": given.key}
        server, port = start(given.address, token, max_bytes=given.max_bytes, **files)
    except ModelyardError as error:
        sys.stderr.write(f"{error.reason}: {error.message}\n")
        return 2
    asked = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: asked.set())
    sys.stdout.write(json.dumps({"address": given.address.rpartition(":")[0] + f":{port}", "port": port}) + "\n")
    sys.stdout.flush()
    asked.wait()
    server.stop(5).wait()
    return 0


if __name__ == "__main__":
    sys.exit(main())
