"""By what code, on what machine, with which packages: facts for the record, gathered without importing what they are about."""

from __future__ import annotations

import hashlib
import platform
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Final

PACKAGE: Final = "modelyard"
PACKAGES: Final = (
    "numpy",
    "pillow",
    "pyarrow",
    "onnx",
    "onnxruntime",
    "ai-edge-litert",
    "ai-edge-quantizer",
    "litert-torch",
    "openvino",
    "tensorflow",
    "torch",
    "timm",
    "lightgbm",
    "scikit-learn",
    "ethos-u-vela",
    "cryptography",
)
"""What computes a model or its figures."""


def code_version() -> str:
    """Version of this program, as installed; "unknown" where it is not."""
    return package_version(PACKAGE) or "unknown"


def package_version(name: str) -> str:
    """Version of an installed package; "" where it is not installed. Imports nothing."""
    try:
        return version(name)
    except PackageNotFoundError:
        return ""


TRAINING: Final = ("recipes/", "trainer/worker/")
"""Where the sources lie that decide what a training comes to."""


@cache
def training_code() -> str:
    """The version of this program with a digest of the sources that train: changes when what a training comes to may."""
    digest = hashlib.sha256()
    for path, name in _sources():
        if name.startswith(TRAINING):
            digest.update(f"{name}\n".encode() + path.read_bytes())
    return f"{code_version()}+{digest.hexdigest()[:12]}"


@cache
def source_digest() -> str:
    """The sha256 over this program's own Python files (path and bytes, in order): what a version number does not tell.

    Takes some tenths of a second, once; needs no git.
    """
    digest = hashlib.sha256()
    for path, name in _sources():
        digest.update(f"{name}\n{path.stat().st_size}\n".encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()


def _sources() -> list[tuple[Path, str]]:
    """Each Python file of the namespace package with its name inside it, from all its roots."""
    import modelyard

    roots = [Path(root) for root in modelyard.__path__]
    found = [(path, path.relative_to(root).as_posix()) for root in roots for path in root.rglob("*.py")]
    return sorted(found, key=lambda entry: entry[1])


def environment() -> dict[str, object]:
    """Python, operating system, processor type, and the versions of PACKAGES that are installed."""
    found = {name: package_version(name) for name in PACKAGES}
    return {
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.release()}",
        "machine": platform.machine(),
        "packages": {name: number for name, number in found.items() if number},
    }
