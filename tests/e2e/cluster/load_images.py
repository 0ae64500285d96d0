"""Hands images that buildah built to the nodes of ../shared/cluster; a layer that a node has does not travel again.

    python -m tests.e2e.cluster.load_images IMAGE...

Other clusters pull from a registry: MODELYARD_E2E_REGISTRY.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(os.environ.get("K8S_ROOT", Path.home() / ".cache" / "local-cluster"))
ENVIRONMENT = {**os.environ, "STORAGE_DRIVER": os.environ.get("STORAGE_DRIVER", "overlay")}
NAME = "org.opencontainers.image.ref.name"
PUSH = ["buildah", "push", "--quiet", "--format", "oci", "--compression-format", "zstd", "--compression-level", "1"]


def load(images: list[str]) -> None:
    """To the nodes that run."""
    layout = ROOT / "modelyard-images"
    for image in images:
        subprocess.run([*PUSH, image, f"oci:{layout}:{image}"], check=True, env=ENVIRONMENT)
    index = json.loads((layout / "index.json").read_text())
    index["manifests"] = [one for one in index["manifests"] if one.get("annotations", {}).get(NAME) in images]
    for manifest in index["manifests"]:
        manifest["annotations"]["io.containerd.image.name"] = manifest["annotations"][NAME]
    for pid_file in sorted((ROOT / "run").glob("n*.pid")):
        _import(pid_file, layout, index)


def _import(pid_file: Path, layout: Path, index: dict[str, object]) -> None:
    found = subprocess.run(
        ["ps", "-o", "pid=", "--ppid", pid_file.read_text().strip()], capture_output=True, text=True, check=False
    )
    if not (first := found.stdout.split()):
        return
    ctr = ["nsenter", "-t", first[0], "-m", "-p", "-n", "ctr", "-n", "k8s.io"]
    there = set(subprocess.run([*ctr, "content", "ls", "-q"], capture_output=True, text=True, check=True).stdout.split())
    with tempfile.TemporaryDirectory(dir=ROOT) as folder:
        Path(folder, "index.json").write_text(json.dumps(index))
        Path(folder, "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
        # Manifests and configurations always: they are small, and lead to the rest.
        blobs = [blob for blob in _blobs(layout, index) if f"sha256:{blob.name}" not in there or blob.stat().st_size < 1 << 20]
        names = [f"blobs/sha256/{blob.name}" for blob in blobs]
        pack = subprocess.Popen(
            ["tar", "-cf", "-", "-C", folder, "index.json", "oci-layout", "-C", str(layout), *names], stdout=subprocess.PIPE
        )
        subprocess.run(
            [*ctr, "images", "import", "--snapshotter", "overlayfs", "-"],
            check=True,
            stdin=pack.stdout,
            stdout=subprocess.DEVNULL,
        )
    print(f"{len(names)} blobs, {sum(blob.stat().st_size for blob in blobs) >> 20} MiB to {pid_file.stem}", flush=True)


def _blobs(layout: Path, index: dict[str, object]) -> list[Path]:
    found = {}
    for one in index["manifests"]:  # type: ignore[attr-defined]
        manifest = json.loads(_blob(layout, one["digest"]).read_text())
        for part in (one, manifest["config"], *manifest["layers"]):
            found[part["digest"]] = _blob(layout, part["digest"])
    return list(found.values())


def _blob(layout: Path, digest: str) -> Path:
    return layout / "blobs" / "sha256" / digest.partition(":")[2]


if __name__ == "__main__":
    load(sys.argv[1:])
