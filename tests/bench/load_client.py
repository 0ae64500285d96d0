"""The load client (tests/bench/load, in Go: fast enough not to be what is measured), built once into a cache and run.

    python tests/bench/load_client.py --addr HOST:PORT --body FILE [--callers 8] [--seconds 5] [--rate N]   prints its JSON

The cache is $MODELYARD_CACHE, else $XDG_CACHE_HOME/modelyard, else ~/.cache/modelyard. Building needs Go and, the first time, its
module proxy.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

SOURCE = Path(__file__).resolve().parent / "load"
METHOD = "/inference.GRPCInferenceService/ModelInfer"
BUILD_S = 600


class NoLoadClient(RuntimeError):
    """It cannot be built here; the message says why."""


@dataclass(frozen=True)
class Load:
    """What the callers saw. Times in milliseconds; `codes` counts the errors by gRPC status."""

    per_second: float
    p50_ms: float
    p90_ms: float
    p99_ms: float
    p999_ms: float
    max_ms: float
    requests: int
    errors: int
    codes: dict[str, int]
    example: str
    seconds: float


def cache_folder() -> Path:
    """Where what is built is kept, outside the repository."""
    home = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(os.environ.get("MODELYARD_CACHE") or Path(home) / "modelyard")


def built() -> Path:
    """The client's binary for the source as it is now. Raises NoLoadClient."""
    digest = hashlib.sha256(b"".join((SOURCE / name).read_bytes() for name in ("main.go", "go.mod", "go.sum"))).hexdigest()
    binary = cache_folder() / f"load-{digest[:16]}"
    if not binary.exists():
        _build(binary)
    return binary


def _build(binary: Path) -> None:
    go = shutil.which("go")
    if go is None:
        raise NoLoadClient("there is no Go here to build the load client with")
    binary.parent.mkdir(parents=True, exist_ok=True)
    temporary = binary.with_suffix(f".{os.getpid()}")
    done = subprocess.run([go, "build", "-o", str(temporary), "."], cwd=SOURCE, capture_output=True, text=True, timeout=BUILD_S)
    if done.returncode:
        raise NoLoadClient(f"the load client was not built: {done.stderr[-500:]}")
    temporary.replace(binary)


def load(addr: str, body: Path, *, method: str = METHOD, callers: int = 8, seconds: float = 5.0, **more: Any) -> Load:
    """Run it. More: connections, warm (seconds), rate (requests a second, open loop), timeout ("50ms"), header ("name=value")."""
    options = {"addr": addr, "body": body, "method": method, "callers": callers, "seconds": seconds, **more}
    command = [str(built()), *(f"-{name}={value}" for name, value in options.items())]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return Load(**json.loads(done.stdout.splitlines()[-1]))


def main(arguments: list[str]) -> int:
    """Builds if need be, then is the client."""
    try:
        binary = built()
    except NoLoadClient as error:
        sys.stderr.write(f"{error}\n")
        return 2
    return subprocess.run([str(binary), *arguments]).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
