"""Makes the environments of the peers: python tests/bench/peers/setup.py [kserve] [mlserver] [triton].

They lie in the load client's cache folder (by default ~/.cache/modelyard), in bench/peers. Triton's Python backend needs the
system's interpreter (/usr/bin/python3, whose libpython it finds); the others take the one that runs this. Packages come from
where pip is set to take them from.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

if __name__ == "__main__":
    sys.path[0:1] = [str(Path(__file__).resolve().parents[3] / part) for part in ("", "services")]

from tests.bench.load_client import cache_folder

PEERS = ("kserve", "mlserver", "triton")
REQUIREMENTS = Path(__file__).with_name("requirements")


def interpreter(peer: str) -> Path:
    """The Python of a peer's environment; it may not be there."""
    return cache_folder() / "bench" / "peers" / peer / "bin" / "python"


def installed(peer: str) -> bool:
    """Whether the environment is there and complete, with the versions of today's requirements."""
    return _stamp(peer).is_file() and _stamp(peer).read_text() == _requirements(peer).read_text()


def install(peer: str) -> None:
    """Makes the environment anew. Raises CalledProcessError where a package cannot be installed."""
    folder = interpreter(peer).parents[1]
    shutil.rmtree(folder, ignore_errors=True)
    python = "/usr/bin/python3" if peer == "triton" else sys.executable
    uv = shutil.which("uv") or str(Path(sys.executable).with_name("uv"))
    subprocess.run([uv, "venv", "--quiet", "--python", python, str(folder)], check=True)
    install = [uv, "pip", "install", "--quiet", "--python", str(interpreter(peer)), "--requirement", str(_requirements(peer))]
    subprocess.run(install, check=True)
    _stamp(peer).write_text(_requirements(peer).read_text())


def _requirements(peer: str) -> Path:
    return REQUIREMENTS / f"{peer}.txt"


def _stamp(peer: str) -> Path:
    return interpreter(peer).parents[1] / "installed.txt"


def main(names: list[str]) -> int:
    """The exit status: 1 where one of them could not be made; the others are."""
    failed = 0
    for peer in names or PEERS:
        if installed(peer):
            continue
        sys.stdout.write(f"==> {peer}\n")
        sys.stdout.flush()
        try:
            install(peer)
        except subprocess.CalledProcessError as error:
            failed = 1
            sys.stdout.write(f"    not installed: {error}\n")
    return failed


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
