"""The checks of `modelyard doctor`. Each looks at one thing and says the cure.

Nothing heavy is imported: versions are read from metadata.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import importlib.util
import os
import shutil
import socket
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Final

from modelyard.cli.checks import FAIL, OK, WARN, Check
from modelyard.cli.checkup_parts import check_parts
from modelyard.cli.checkup_server import check_server

if TYPE_CHECKING:
    from modelyard.cli.options import Common

GIB: Final = 1 << 30
# One package that tells whether an extra is installed.
TELLTALES: Final = {
    "core": "sqlalchemy",
    "dataset": "pyarrow",
    "trainer": "torch",
    "exporter": "onnxscript",
    "evaluator": "onnxruntime",
    "serving": "onnxruntime",
}


def check_all(common: Common, port: int, source: Path | None = None) -> list[Check]:
    """Every check, in the order a person would cure them. source: data to be imported, to be looked at too."""
    machine = [python(), packages(), onnxruntime(), folder(common.data_dir), disk(common.data_dir)]
    reached = listening(common.data_dir, common.server, port)
    return [*machine, reached, *_asked(common, reached), *check_parts(source), cores(), memory(), gpu()]


def _asked(common: Common, reached: Check) -> list[Check]:
    """What a server that answers says; nothing where none does."""
    address = common.server or _found(common.data_dir)
    if reached.status != OK or not address:
        return []
    from modelyard.cli.session import access_of

    return check_server(address, access_of(common, address))


def python() -> Check:
    found = ".".join(map(str, sys.version_info[:3]))
    if (3, 11) <= sys.version_info[:2] < (3, 13):
        return Check("python", OK, found)
    return Check("python", FAIL, found, "install Python 3.11 or 3.12, and Modelyard into it")


def packages() -> Check:
    missing = [extra for extra, package in TELLTALES.items() if importlib.util.find_spec(package) is None]
    if not missing:
        return Check("packages", OK, "all services can run here")
    cure = f"pip install 'modelyard[{','.join(missing)}]', or use another machine's server with --server"
    return Check("packages", WARN, f"not installed: {', '.join(missing)}", cure)


def onnxruntime() -> Check:
    try:
        return Check("onnxruntime", OK, importlib.metadata.version("onnxruntime"))
    except importlib.metadata.PackageNotFoundError:
        return Check("onnxruntime", WARN, "not installed", "pip install 'modelyard[serving]' to evaluate and serve here")


def folder(data_dir: Path) -> Check:
    existing = next((path for path in (data_dir, *data_dir.parents) if path.exists()), Path("/"))
    try:
        with tempfile.TemporaryFile(dir=existing):
            return Check("data folder", OK, str(data_dir) + ("" if existing == data_dir else " (will be made)"))
    except OSError as error:
        cure = "give a folder you may write to with --data-dir or MODELYARD_DATA_DIR"
        return Check("data folder", FAIL, f"{existing}: {error.strerror}", cure)


def disk(data_dir: Path) -> Check:
    existing = next((path for path in (data_dir, *data_dir.parents) if path.exists()), Path("/"))
    free = shutil.disk_usage(existing).free
    found = f"{free / GIB:.1f} GiB free"
    if free < GIB:
        return Check("disk", FAIL, found, "free some space: data, checkpoints and models need at least 1 GiB")
    if free < 5 * GIB:
        return Check("disk", WARN, found, "data sets and checkpoints may need more than 5 GiB")
    return Check("disk", OK, found)


def listening(data_dir: Path, server: str, port: int) -> Check:
    """Whether the named server answers, or one has the data folder, or the port of a new one is free."""
    address = server or _found(data_dir)
    if address:
        if _answers(address):
            return Check("server", OK, f"answers at {address}")
        return Check("server", FAIL, f"nobody answers at {address}", "start it with `modelyard up`, or correct --server")
    if _answers(f"127.0.0.1:{port}"):
        cure = f"give `modelyard up` another --port, or use what runs there with --server 127.0.0.1:{port}"
        return Check("server", WARN, f"port {port} is taken", cure)
    return Check("server", OK, f"none runs; port {port} is free")


def _found(data_dir: Path) -> str:
    with contextlib.suppress(ImportError):
        import modelyard.embedded

        return modelyard.embedded.find(data_dir) or ""
    return ""


def _answers(address: str) -> bool:
    if address.startswith("unix:"):
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as local:
            local.connect(address.removeprefix("unix:"))
            return True
        return False
    host, _, port = address.partition("://")[2].rpartition(":") if "://" in address else address.rpartition(":")
    host, port = (host, port) if host else (port, "443")
    with contextlib.suppress(OSError, ValueError), socket.create_connection((host.strip("[]"), int(port.rstrip("/"))), timeout=2):
        return True
    return False


def cores() -> Check:
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    limit = cgroup_cores(Path("/sys/fs/cgroup"))
    if limit is not None and limit < usable:
        return Check("cores", OK, f"{usable}, of which the container may use {limit:g}")
    return Check("cores", OK, str(usable))


def cgroup_cores(root: Path) -> float | None:
    """Cores that the control group grants (version 2, else 1); None when there is no limit."""
    with contextlib.suppress(OSError, ValueError):
        quota, period = (root / "cpu.max").read_text().split()
        return None if quota == "max" else int(quota) / int(period)
    with contextlib.suppress(OSError, ValueError):
        granted = int((root / "cpu/cpu.cfs_quota_us").read_text())
        return None if granted <= 0 else granted / int((root / "cpu/cpu.cfs_period_us").read_text())
    return None


def memory() -> Check:
    try:
        total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (ValueError, OSError, AttributeError):
        return Check("memory", OK, "unknown")
    with contextlib.suppress(OSError, ValueError):
        total = min(total, int(Path("/sys/fs/cgroup/memory.max").read_text()))
    found = f"{total / GIB:.1f} GiB"
    if total < 2 * GIB:
        return Check("memory", WARN, found, "training pictures may need 2 GiB and more")
    return Check("memory", OK, found)


def gpu() -> Check:
    """The GPUs that the driver lists. None is no fault: everything runs on the CPU."""
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return Check("gpu", OK, "none; training runs on the CPU")
    try:
        query = [tool, "--query-gpu=name,memory.total", "--format=csv,noheader"]
        names = subprocess.run(query, capture_output=True, text=True, timeout=10, check=True).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return Check(
            "gpu", WARN, "nvidia-smi is there but fails", "reinstall the NVIDIA driver, or give the container access (--gpus all)"
        )
    return Check("gpu", OK, names.replace("\n", "; ") or "none")
