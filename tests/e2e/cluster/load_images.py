"""Hands images that buildah built to the nodes of ../shared/cluster: all in one archive, so that layers they share travel once.

    python -m tests.e2e.cluster.load_images IMAGE...

Other clusters pull from a registry: MODELYARD_E2E_REGISTRY.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(os.environ.get("K8S_ROOT", Path.home() / ".cache" / "local-cluster"))
ENVIRONMENT = {**os.environ, "STORAGE_DRIVER": os.environ.get("STORAGE_DRIVER", "overlay")}


def load(images: list[str], name: str = "modelyard") -> None:
    """To the nodes that run now, and to those that boot later (they read the archives in images/)."""
    layout, archive = ROOT / f"{name}-images", ROOT / "images" / f"{name}.tar"
    shutil.rmtree(layout, ignore_errors=True)
    archive.parent.mkdir(parents=True, exist_ok=True)
    for image in images:
        subprocess.run(["buildah", "push", "--quiet", "--format", "oci", "--compression-format", "zstd", "--compression-level", "1", image, f"oci:{layout}:{image}"], check=True, env=ENVIRONMENT)
    index = json.loads((layout / "index.json").read_text())
    for manifest in index["manifests"]:
        names = manifest["annotations"]
        names["io.containerd.image.name"] = names["org.opencontainers.image.ref.name"]
    (layout / "index.json").write_text(json.dumps(index))
    subprocess.run(["tar", "-C", str(layout), "-cf", str(archive), "."], check=True)
    shutil.rmtree(layout)
    for pid_file in sorted((ROOT / "run").glob("n*.pid")):
        _import(pid_file, archive)


def _import(pid_file: Path, archive: Path) -> None:
    found = subprocess.run(["ps", "-o", "pid=", "--ppid", pid_file.read_text().strip()], capture_output=True, text=True, check=False)
    first = found.stdout.split()
    if not first:
        return
    node = ["nsenter", "-t", first[0], "-m", "-p", "-n"]
    subprocess.run([*node, "ctr", "-n", "k8s.io", "images", "import", "--snapshotter", "overlayfs", str(archive)], check=True, stdout=subprocess.DEVNULL)
    mark = f".imported-{archive.name}.{int(archive.stat().st_mtime)}"
    (ROOT / "run" / pid_file.stem / "var-lib-containerd" / mark).touch()
    print(f"images on {pid_file.stem}", flush=True)


if __name__ == "__main__":
    load(sys.argv[1:])
