"""What a follower is made of, as its system tells it. Whatever cannot be found out is left out."""

from __future__ import annotations

import os
import platform
import shutil
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Final

from modelyard.runtime.latency import usable_cores
from modelyard.serving.v1 import fleet_pb2

RUNTIMES: Final = ("onnxruntime", "ai-edge-litert", "openvino", "tensorflow", "torch")
ACCELERATORS: Final = {
    "/dev/nvidia0": "nvidia",
    "/dev/nvhost-gpu": "nvidia-tegra",
    "/dev/apex_0": "coral-edgetpu",
    "/dev/hailo0": "hailo",
    "/dev/ethosu0": "ethos-u",
    "/dev/mali0": "mali",
    "/dev/dri/renderD128": "gpu-render-node",
    "/dev/accel/accel0": "accel",
}


def inventory(cache: Path) -> fleet_pb2.Inventory:
    """Facts of this machine; `cache`: the folder whose disk counts."""
    disk = shutil.disk_usage(cache)
    return fleet_pb2.Inventory(
        os=_os(),
        architecture=platform.machine(),
        processor=_processor(),
        cores=usable_cores(),
        memory_bytes=memory_bytes(),
        disk_bytes=disk.total,
        disk_free_bytes=disk.free,
        modelyard_version=_version("modelyard"),
        python_version=platform.python_version(),
        runtimes=[fleet_pb2.RuntimeFact(name=name, version=found) for name in RUNTIMES if (found := _version(name))],
        accelerators=[name for device, name in ACCELERATORS.items() if Path(device).exists()],
        host=platform.node()[:200],
    )


def _os() -> str:
    with suppress(OSError):
        return f"{platform.freedesktop_os_release().get('PRETTY_NAME', platform.system())}, {platform.release()}"[:200]
    return f"{platform.system()} {platform.release()}"[:200]


def _processor() -> str:
    """The board where the firmware names one (Raspberry Pi 5...), else the processor."""
    with suppress(OSError):
        return Path("/proc/device-tree/model").read_text().strip("\0 \n")[:200]
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith(("model name", "Hardware")):
                return line.partition(":")[2].strip()[:200]
    return platform.processor()[:200]


def memory_bytes() -> int:
    """The smaller of what the machine has and what the cgroup allows."""
    amount = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    with suppress(OSError, ValueError):
        return min(amount, int(Path("/sys/fs/cgroup/memory.max").read_text()))
    return amount


def _version(package: str) -> str:
    with suppress(PackageNotFoundError):
        return version(package)
    return ""
