"""Writes the Python code of the contracts into services/ (path = proto package), with --check compares it with
what is there; with --google only puts google's protos where buf finds them.

Run as `make proto` or `make proto-check`.
"""

from __future__ import annotations

import filecmp
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PROTOS = ROOT / "protos"
SERVICES = ROOT / "services"
GOOGLE = Path(sysconfig.get_paths()["purelib"])
GOOGLE_PROTOS = ("google/rpc/status.proto", "google/api/field_behavior.proto")
SHARED_POOL = "_descriptor_pool.Default()"
OWN_POOL = "_descriptor_pool.DescriptorPool()"


def generate(target: Path) -> None:
    """Run protoc with the message, gRPC and typing plug-ins into `target`."""
    files = sorted(str(path.relative_to(PROTOS)) for path in PROTOS.rglob("*.proto"))
    with_services = [name for name in files if "\nservice " in (PROTOS / name).read_text()]
    protoc = [sys.executable, "-m", "grpc_tools.protoc", f"-I{PROTOS}", f"-I{GOOGLE}"]
    plugin = f"--plugin=protoc-gen-mypy={Path(sys.executable).parent / 'protoc-gen-mypy'}"
    subprocess.run([*protoc, plugin, f"--python_out={target}", f"--mypy_out=quiet:{target}", *files], check=True)
    subprocess.run([*protoc, f"--grpc_python_out={target}", *with_services], check=True)
    set_apart(target)


def set_apart(target: Path) -> None:
    """Give the messages of the package `inference` a descriptor pool of their own.

    Every client of this protocol brings messages of these same full names, in files of its own. The default pool knows each name
    once, so that the second import in a process would fail. What travels is the same either way.
    """
    for path in target.glob("inference/*_pb2.py"):
        code = path.read_text()
        if code.count(SHARED_POOL) != 1:
            raise RuntimeError(f"{path.name} does not name its descriptor pool as expected: {SHARED_POOL}")
        path.write_text(code.replace(SHARED_POOL, OWN_POOL))


def copy_google_protos() -> None:
    """Put the google protos where buf looks for them (buf.yaml); they are no part of this repository."""
    for name in GOOGLE_PROTOS:
        destination = ROOT / ".build" / "googleapis" / name
        destination.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(GOOGLE / name, destination)


def generated(folder: Path) -> set[Path]:
    return {path.relative_to(folder) for path in folder.rglob("*_pb2*.py*") if "__pycache__" not in path.parts}


def stale(fresh: Path) -> list[str]:
    """Names of generated files that are missing, left over or different in services/."""
    wanted, present = generated(fresh), generated(SERVICES)
    changed = {path for path in wanted & present if not filecmp.cmp(fresh / path, SERVICES / path, shallow=False)}
    return sorted(str(path) for path in (wanted ^ present) | changed)


def main() -> int:
    copy_google_protos()
    if "--google" in sys.argv:
        return 0
    with tempfile.TemporaryDirectory() as folder:
        fresh = Path(folder)
        generate(fresh)
        if "--check" in sys.argv:
            differences = stale(fresh)
            print("\n".join(differences) or "generated code is up to date")
            return 1 if differences else 0
        for path in generated(SERVICES):
            (SERVICES / path).unlink()
        for path in generated(fresh):
            (SERVICES / path).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(fresh / path, SERVICES / path)
    return 0


if __name__ == "__main__":
    sys.exit(main())
