"""Small calls and uploads through our front end and through grpc.aio, as ratios.

    python tests/bench/front.py [--seconds 4] [--rounds 5] [--callers 8] [--json FILE]

The same echo (86 bytes, about a ModelInferRequest with 16 features) behind: our front end as a native; grpc.aio with the rpc
shell, as MODELYARD_FRONT=grpc serves it; grpc.aio with nothing around it. All on uvloop, each in a process of its own, called by
the load client in Go (tests/bench/load), 8 callers with a connection each. Then 1 MiB messages up a stream, by grpcio's client.
Rounds alternate, so that all meet the same machine; the median round counts. The server's own processor time for a call (user and
system) is given too: it says the same on a machine that other work shares.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

KINDS = ("front", "grpc.aio", "grpc.aio bare")
NATIVE, METHOD, UPLOAD = "/inference.Bench/Native", "/inference.Bench/Echo", "/inference.Bench/Upload"
MIB = 1 << 20
WARM_S = 0.5


def main(arguments: list[str] | None = None) -> int:
    """Prints a table and, last, one JSON object."""
    parser = argparse.ArgumentParser(prog="python tests/bench/front.py", description=__doc__)
    parser.add_argument("--seconds", type=float, default=4.0, help="of each round of calls")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--callers", type=int, default=8)
    parser.add_argument("--upload", type=int, default=500, help="MiB of each upload")
    parser.add_argument("--json", type=Path, help="also write the JSON object here")
    parser.add_argument("--serve", choices=KINDS, help=argparse.SUPPRESS)
    given = parser.parse_args(arguments)
    if given.serve:
        return _serve(given.serve)
    result = _measure(given.seconds, given.rounds, given.callers, given.upload)
    sys.stdout.write(_table(result))
    line = json.dumps({"front": result})
    if given.json:
        given.json.write_text(line + "\n")
    sys.stdout.write(line + "\n")
    return 0


def _measure(seconds: float, rounds: int, callers: int, upload: int) -> dict[str, Any]:
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
    from tests.bench.load_client import load

    found: dict[str, dict[str, list[float]]] = {kind: {} for kind in KINDS}
    with tempfile.TemporaryDirectory(prefix="modelyard-bench-") as folder, ExitStack() as stack:
        body = Path(folder) / "body"
        body.write_bytes(bytes(86))
        servers = {kind: stack.enter_context(_server(kind)) for kind in KINDS}
        for _ in range(rounds):
            for kind, (address, pid) in servers.items():
                before = _cpu_seconds(pid)
                seen = load(
                    address, body, method=NATIVE if kind == "front" else METHOD, callers=callers, seconds=seconds, warm=WARM_S
                )
                if seen.errors:
                    raise RuntimeError(f"{kind}: {seen.codes}: {seen.example}")
                # The calls of the half second before those that count are part of the time, so they are part of the number.
                all_calls = seen.requests * (seconds + WARM_S) / seconds
                found[kind].setdefault("cpu_us", []).append((_cpu_seconds(pid) - before) / all_calls * 1e6)
                for name in ("per_second", "p50_ms", "p99_ms"):
                    found[kind].setdefault(name, []).append(getattr(seen, name))
                found[kind].setdefault("upload_mib_s", []).append(_upload(address, upload))
    return _ratios({kind: {name: statistics.median(values) for name, values in of.items()} for kind, of in found.items()})


def _ratios(medians: dict[str, dict[str, float]]) -> dict[str, Any]:
    ours = medians["front"]
    for kind in KINDS[1:]:
        theirs = medians[kind]
        theirs["calls_ratio"] = round(ours["per_second"] / theirs["per_second"], 2)
        theirs["cpu_ratio"] = round(theirs["cpu_us"] / ours["cpu_us"], 2)
        theirs["p99_ratio"] = round(ours["p99_ms"] / theirs["p99_ms"], 2)
        theirs["upload_ratio"] = round(ours["upload_mib_s"] / theirs["upload_mib_s"], 2)
    return medians


def _cpu_seconds(pid: int) -> float:
    """User and system time of a process so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(") ", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _upload(address: str, count: int) -> float:
    import grpc

    chunk = bytes(MIB)
    with grpc.insecure_channel(address, options=[("grpc.use_local_subchannel_pool", 1)]) as channel:
        start = time.perf_counter()
        taken = channel.stream_unary(UPLOAD)(chunk for _ in range(count))
        seconds = time.perf_counter() - start
    assert int(taken) == count * MIB
    return count / seconds


@contextmanager
def _server(kind: str) -> Iterator[tuple[str, int]]:
    with subprocess.Popen([sys.executable, __file__, "--serve", kind], stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield process.stdout.readline().strip(), process.pid
        finally:
            process.terminate()


async def _echo(request: bytes, context: Any) -> bytes:
    return request


async def _take(requests: AsyncIterator[bytes], context: Any) -> bytes:
    return str(sum([len(message) async for message in requests])).encode()


def _add(server: Any) -> None:
    import grpc

    handlers = {"Echo": grpc.unary_unary_rpc_method_handler(_echo), "Upload": grpc.stream_unary_rpc_method_handler(_take)}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("inference.Bench", handlers),))


def _serve(kind: str) -> int:
    from modelyard.core.rpc.loop import run

    run(_serve_bare() if kind == "grpc.aio bare" else _serve_ours(kind))
    return 0


async def _serve_ours(kind: str) -> None:
    from modelyard.core.rpc.logs import configure_logs
    from modelyard.core.rpc.server import Mount, RpcServer
    from modelyard.core.settings import CoreSettings

    configure_logs("console", "warning")
    settings = CoreSettings(front="auto" if kind == "front" else "grpc")
    server = RpcServer([Mount("inference.Bench", _add)], settings, {NATIVE: lambda call, message: call.answer(message)})
    await _announce(await server.start())


async def _serve_bare() -> None:
    import grpc

    server = grpc.aio.server()
    _add(server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    await _announce(port)


async def _announce(port: int) -> None:
    sys.stdout.write(f"127.0.0.1:{port}\n")
    sys.stdout.flush()
    await asyncio.Event().wait()


def _table(result: dict[str, Any]) -> str:
    names = (
        f"{'calls/s':>8} {'p50 ms':>7} {'p99 ms':>7} {'cpu us':>7} {'MiB/s up':>9} {'calls':>6} {'cpu':>6} {'p99':>6} {'up':>6}"
    )
    lines = [f"{'server':14} {names}"]
    for kind, of in result.items():
        numbers = f"{of['per_second']:8.0f} {of['p50_ms']:7.2f} {of['p99_ms']:7.2f} {of['cpu_us']:7.0f} {of['upload_mib_s']:9.0f}"
        ratios = [f"{of[name]:6.2f}" for name in ("calls_ratio", "cpu_ratio", "p99_ratio", "upload_ratio") if name in of]
        lines.append(f"{kind:14} {numbers} {' '.join(ratios)}")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(main())
