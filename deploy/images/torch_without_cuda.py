"""Makes an installed torch that was built for CUDA run on a processor alone, without NVIDIA's libraries (3 GB).

    python torch_without_cuda.py SITE_PACKAGES        needs as, ld, nm and readelf (binutils)

PyPI has torch for Linux only as built for CUDA, and its libraries will not load without those of NVIDIA. Where no index with builds for
processors is at hand, this puts small libraries of the same names in their place, whose every function answers "no device" (100).
torch then sees no GPU, as on any machine without one. Ends with an error when torch does not load afterwards.
"""

from __future__ import annotations

import platform
import re
import subprocess
import sys
import tempfile
from collections import defaultdict
from pathlib import Path

# libcuda comes with the driver; nothing needs it at the start.
FOREIGN = re.compile(r"^lib(cu(?!da\.so)|nv|nccl)")
FOREIGN_NAME = re.compile(r"^_*(cu|nv|nccl)[a-zA-Z]*[A-Z]")
ANSWER = {
    "x86_64": ("mov $100, %eax\n ret", "lea said(%rip), %rax\n ret"),
    "aarch64": ("mov w0, #100\n ret", "adrp x0, said\n add x0, x0, :lo12:said\n ret"),
}
# Loaded only to compute on a GPU.
USELESS = ("libtorch_cuda_linalg.so",)
# What only building extensions and torch's own tests need.
NOT_NEEDED = ("include", "test", "share/cmake")
CHECK = "import torch; assert not torch.cuda.is_available(); (torch.ones(8, 8) @ torch.ones(8, 8)).sum(); import torchvision"


def main(site: Path) -> int:
    torch = site / "torch"
    for name in USELESS:
        (torch / "lib" / name).unlink(missing_ok=True)
    for name in NOT_NEEDED:
        subprocess.run(["rm", "-rf", str(torch / name)], check=True)
    libraries = [path for path in sorted(torch.rglob("*.so*")) if path.is_file()]
    missing = sorted({name for path in libraries for name in _needed(path) if FOREIGN.match(name)})
    wanted, versions = _wanted(libraries), _versions(libraries)
    # Names without a version may come from any library: from one that has no versions.
    plain = next((name for name in missing if not versions[name]), "")
    for name in missing:
        nodes = {version: wanted[version] for version in versions[name]}
        _stand_in(torch / "lib" / name, nodes or ({"": wanted[""]} if name == plain else {}))
    return subprocess.run([sys.executable, "-c", CHECK], check=False).returncode


def _needed(path: Path) -> list[str]:
    found = subprocess.run(["readelf", "-dW", str(path)], capture_output=True, text=True, check=False).stdout
    return re.findall(r"\(NEEDED\).*\[(.+)\]", found)


def _versions(libraries: list[Path]) -> dict[str, set[str]]:
    """The names of versions that each library must have."""
    versions: dict[str, set[str]] = defaultdict(set)
    for path in libraries:
        name = ""
        for line in subprocess.run(
            ["readelf", "-VW", str(path)], capture_output=True, text=True, check=False
        ).stdout.splitlines():
            if found := re.search(r"File: (\S+)", line):
                name = found[1]
            elif found := re.search(r"^\s+0x\S+:\s+Name: (\S+)", line):
                versions[name].add(found[1])
    return versions


def _wanted(libraries: list[Path]) -> dict[str, set[str]]:
    """Functions that the libraries ask for, by the name of the version; "": without one."""
    wanted: dict[str, set[str]] = defaultdict(set)
    for path in libraries:
        command = ["nm", "-D", "--undefined-only", "--with-symbol-versions", str(path)]
        for line in subprocess.run(command, capture_output=True, text=True, check=False).stdout.splitlines():
            name, _, version = line.split()[-1].partition("@")
            if version or FOREIGN_NAME.match(name):
                wanted[version].add(name)
    return wanted


def _stand_in(path: Path, nodes: dict[str, set[str]]) -> None:
    number, text = ANSWER[platform.machine()]
    code = [".data", 'said: .asciz "this image has no CUDA"', ".text"]
    for name in sorted(set().union(*nodes.values())):
        code.append(f".globl {name}\n.type {name}, %function\n{name}:\n {text if 'String' in name else number}")
    script = "".join(
        f"{version} {{ global: {'; '.join(sorted(names))}; }};\n" for version, names in sorted(nodes.items()) if version
    )
    with tempfile.TemporaryDirectory() as folder:
        source, versions, out = Path(folder, "stand_in.s"), Path(folder, "stand_in.map"), Path(folder, "stand_in.o")
        source.write_text("\n".join(code) + "\n")
        versions.write_text(script)
        subprocess.run(["as", "-o", str(out), str(source)], check=True)
        option = ["--version-script", str(versions)] if script else []
        subprocess.run(["ld", "-shared", "-soname", path.name, "-o", str(path), str(out), *option], check=True)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
