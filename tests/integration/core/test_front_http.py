"""HTTP clients against the front end: http.client, curl over HTTP/1.1 and HTTP/2, TLS, and h2spec's cases."""

from __future__ import annotations

import asyncio
import http.client
import json
import os
import re
import shutil
import socket
import ssl
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import grpc
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from grpc_health.v1 import health_pb2, health_pb2_grpc

from modelyard.core.errors import InvalidArgument, Unavailable
from modelyard.core.platform import open_platform
from modelyard.core.rpc.loop import new_event_loop
from modelyard.core.rpc.server import RpcServer, Service
from modelyard.core.settings import CoreSettings
from tests.bench.load_client import cache_folder
from tests.support.front import ECHO, Served, echo, hello, served
from tests.support.hosted import hosted
from tests.support.real_servers import absent

MIB = 1 << 20
H2SPEC = "github.com/summerwind/h2spec/cmd/h2spec@v2.2.1+incompatible"
CASES = ["generic", "http2", "hpack"]


@pytest.fixture(scope="module")
def server() -> Iterator[Served]:
    with served(http=hello, max_message_bytes=33 * MIB) as running:
        yield running


def curl(*arguments: str, given: bytes = b"") -> bytes:
    if shutil.which("curl") is None:
        absent("curl is not installed")
    return subprocess.run(["curl", "-sS", "--max-time", "60", *arguments], input=given, capture_output=True, check=True).stdout


def test_keep_alive_chunks_and_large_bodies(server: Served) -> None:
    connection = http.client.HTTPConnection(server.address, timeout=60)
    large = bytes(range(256)) * (32 * MIB // 256)
    for body in (b"small", large, (bytes(1000) for _ in range(100))):
        connection.request("POST", "/echo", body)
        response = connection.getresponse()
        assert response.status == 200
        answer = response.read()
        assert answer == (body if isinstance(body, bytes) else bytes(100_000))
    connection.request("HEAD", "/echo")
    response = connection.getresponse()
    assert (response.getheader("content-length"), response.read()) == ("5", b"")
    connection.request("POST", "/echo", bytes(34 * MIB))
    assert connection.getresponse().status == 413
    connection.close()


@pytest.mark.parametrize("version", ["--http1.1", "--http2", "--http2-prior-knowledge"])
def test_curl(server: Served, version: str) -> None:
    url = f"http://{server.address}/some/path?x=1"
    assert curl(version, url) == b"/some/path"
    body = bytes(range(256)) * 20_000
    assert curl(version, "--data-binary", "@-", "-H", "Expect: 100-continue", url, given=body) == body
    assert b"content-length: 10" in curl(version, "--head", url).lower()
    if version == "--http1.1":
        assert curl("-o", "/dev/null", "-w", "%{http_code}", "-H", f"x-long: {'y' * 40_000}", url) == b"431"


def test_gRPC_on_a_port_with_http_and_http_on_a_port_without(server: Served) -> None:
    with grpc.insecure_channel(server.address) as channel:
        assert channel.unary_unary(ECHO)(b"x", timeout=10) == b"x"
    with served() as only_grpc:
        assert curl("-w", "%{http_code}", f"http://{only_grpc.address}/").endswith(b"404")
        assert curl("-w", "%{http_code}", "--http2-prior-knowledge", f"http://{only_grpc.address}/").endswith(b"415")


def test_a_port_that_is_taken_is_named(server: Served) -> None:
    with pytest.raises(Unavailable, match=f"127.0.0.1:{server.port} cannot be listened on"), served(port=server.port):
        pass


@pytest.mark.skipif(not socket.has_dualstack_ipv6(), reason="there is no IPv6 here")
def test_every_interface_is_ipv4_and_ipv6() -> None:
    with served(http=hello, host="::") as running:
        assert curl(f"http://127.0.0.1:{running.port}/x") == b"/x"
        assert curl(f"http://[::1]:{running.port}/x") == b"/x"


def test_without_uvloop() -> None:
    with served(http=hello, loop_factory=asyncio.new_event_loop) as running:
        message = bytes(range(256)) * 20_000
        with grpc.insecure_channel(running.address, options=[("grpc.max_receive_message_length", -1)]) as channel:
            assert channel.unary_unary(ECHO)(message, timeout=30) == message
        assert curl("--data-binary", "@-", f"http://{running.address}/", given=message) == message


def test_with_front_grpc_there_is_no_http() -> None:
    with served(http=hello, front="grpc") as running:
        with grpc.insecure_channel(running.address) as channel:
            health = health_pb2_grpc.HealthStub(channel)
            assert health.Check(health_pb2.HealthCheckRequest(), timeout=10).status == health_pb2.HealthCheckResponse.SERVING
        with pytest.raises(subprocess.CalledProcessError):
            curl(f"http://{running.address}/")


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Made for localhost by itself, with its key."""
    folder = tmp_path_factory.mktemp("tls")
    key = ec.generate_private_key(ec.SECP256R1())
    name, now = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")]), datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    (folder / "certificate.pem").write_bytes(made.public_bytes(serialization.Encoding.PEM))
    private = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    (folder / "key.pem").write_bytes(private)
    return folder / "certificate.pem", folder / "key.pem"


@pytest.mark.parametrize("front", ["auto", "grpc"])
def test_tls(certificate: tuple[Path, Path], front: str) -> None:
    with served(http=hello, front=front, tls_certificate=certificate[0], tls_key=certificate[1]) as running:
        credentials = grpc.ssl_channel_credentials(certificate[0].read_bytes())
        with grpc.secure_channel(f"localhost:{running.port}", credentials) as channel:
            health = health_pb2_grpc.HealthStub(channel)
            assert health.Check(health_pb2.HealthCheckRequest(), timeout=10).status == health_pb2.HealthCheckResponse.SERVING
            if front == "auto":
                message = bytes(range(256)) * 10_000
                assert channel.unary_unary(ECHO)(message, timeout=10) == message
        with grpc.insecure_channel(running.server.local_address) as channel:
            health = health_pb2_grpc.HealthStub(channel)
            assert health.Check(health_pb2.HealthCheckRequest(), timeout=10).status == health_pb2.HealthCheckResponse.SERVING
        with grpc.insecure_channel(running.address) as channel, pytest.raises(grpc.RpcError):
            channel.unary_unary(ECHO)(b"x", timeout=3)
        folder = Path(running.server.local_address.removeprefix("unix:")).parent
        assert folder.stat().st_mode & 0o777 == 0o700
    assert not folder.exists()


def test_a_host_with_tls_calls_itself_without(certificate: tuple[Path, Path], tmp_path: Path) -> None:
    settings = CoreSettings(data_dir=tmp_path, drain_s=0.2, tls_certificate=certificate[0], tls_key=certificate[1])
    platform = open_platform(settings, "sample")
    with hosted(platform, [Service("sample", [], natives={ECHO: echo}, http=hello)]) as address:
        own = platform.own_address["address"]
        assert own.startswith("unix:")
        with grpc.insecure_channel(own) as channel:
            assert channel.unary_unary(ECHO)(b"x", timeout=10) == b"x"
        assert curl("--cacert", str(certificate[0]), "--connect-to", f"::{address}", "https://localhost/x") == b"/x"
    assert not Path(own.removeprefix("unix:")).exists()


@pytest.mark.parametrize("loop_factory", [new_event_loop, asyncio.new_event_loop], ids=["uvloop", "asyncio"])
@pytest.mark.parametrize("version", ["1.1", "2"])
def test_https(certificate: tuple[Path, Path], version: str, loop_factory: Any) -> None:
    with served(http=hello, loop_factory=loop_factory, tls_certificate=certificate[0], tls_key=certificate[1]) as running:
        url = f"https://localhost:{running.port}/x"
        given = ["--cacert", str(certificate[0]), "--resolve", f"localhost:{running.port}:127.0.0.1", f"--http{version}"]
        assert curl(*given, "-w", " %{http_version}", url).decode() == f"/x {version}"


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion:DeprecationWarning")
def test_old_tls_is_refused(certificate: tuple[Path, Path]) -> None:
    with served(http=hello, tls_certificate=certificate[0], tls_key=certificate[1]) as running:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.load_verify_locations(certificate[0])
        context.minimum_version, context.maximum_version = ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1
        connection = http.client.HTTPSConnection("localhost", running.port, context=context, timeout=5)
        with pytest.raises(ssl.SSLError):
            connection.connect()


@pytest.mark.parametrize("given", [{"tls_key": "key.pem"}, {"tls_certificate": "none.pem", "tls_key": "none.pem"}])
async def test_wrong_tls_settings_are_named(given: dict[str, str], tmp_path: Path) -> None:
    settings = CoreSettings(**{key: tmp_path / value for key, value in given.items()})
    with pytest.raises(InvalidArgument, match=r"TLS|certificate"):
        await RpcServer([], settings, {}, hello).start()


def h2spec() -> str:
    """Its binary, built once into the cache."""
    binary = cache_folder() / "h2spec"
    if not binary.exists():
        go = shutil.which("go")
        if go is None:
            absent("h2spec is not in the cache, and there is no Go to build it with")
        environment = {**os.environ, "GOBIN": str(cache_folder())}
        done = subprocess.run([go, "install", H2SPEC], env=environment, capture_output=True, text=True, timeout=300)
        if done.returncode:
            absent(f"h2spec is not in the cache, and was not built: {done.stderr[-300:]}")
    return str(binary)


def test_h2spec(server: Served, tmp_path: Path) -> None:
    """All its cases pass. Its headers are longer than by default, because our largest frame is: five of them must be refused."""
    target = ["-h", "127.0.0.1", "-p", str(server.port), "-P", "/a/longer/path"]
    command = [h2spec(), *CASES, *target, "-S", "--max-header-length", "8000", "-o", "5", "-j", str(tmp_path / "report.xml")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=250)
    found = re.search(r"(\d+) tests, (\d+) passed, (\d+) skipped, (\d+) failed", done.stdout)
    assert found is not None, done.stdout[-2000:] + done.stderr
    assert (int(found[4]), int(found[3])) == (0, 0), done.stdout[done.stdout.find("Failures") :][:3000]
    assert int(found[2]) >= 144


def test_an_error_body_is_json(server: Served) -> None:
    assert "error" in json.loads(curl("-H", "content-encoding: br", "-d", "x", f"http://{server.address}/"))
