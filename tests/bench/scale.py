"""A million small pictures through an import's writer, publication and streamed reading from a MinIO: seconds and memory.

`python tests/bench/scale.py [--examples 1000000]`. Each stage runs in a process of its own, so that its peak memory is its own.
Prints a JSON object a stage. Pictures are 16 x 16 and random (no duplicates); they are made and written piece by piece.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "services")]

import numpy as np  # noqa: E402

from modelyard.core.artifacts import ArtifactStore, open_store  # noqa: E402
from modelyard.core.settings import CoreSettings  # noqa: E402

SIDE, CLASSES, PIECE = 16, 100, 10_000


def store_of(folder: Path, name: str) -> ArtifactStore:
    """The store of a stage, with a cache of its own; keys come from the environment."""
    return open_store("s3://scale", "dataset", CoreSettings(data_dir=folder / name), cache_dir=folder / name)


def rss() -> int:
    """MiB of this process's own memory now."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") >> 20


def write(folder: Path, examples: int) -> dict[str, Any]:
    """What an import does once pictures are read, sorted by class."""
    import pickle

    from modelyard.dataset.domain.work import Work
    from modelyard.dataset.worker.content import Content, Example, Rejections
    from modelyard.dataset.worker.results import keep, result
    from modelyard.formats import dataset as files
    from modelyard.formats.pictures import encode_png

    (folder / "work").mkdir()
    content = Content(folder / "work")
    generator = np.random.default_rng(0)
    for start in range(0, examples, PIECE):
        pixels = generator.integers(0, 256, (min(PIECE, examples - start), SIDE, SIDE), dtype=np.uint8)
        for place, each in enumerate(pixels, start):
            name = f"c{place * CLASSES // examples:02d}"
            content.add(Example(f"{name}/{place:07d}.png", name, None, encode_png(each), (SIDE, SIDE), each.tobytes()))
    manifest, packs = content.finish()
    classes = tuple(sorted(content.class_counts))
    unfinished = files.DatasetDescriptor(files.IMAGE_CLASSIFICATION, files.IMAGE, files.NO_BLOB, "", classes=classes)
    descriptor = keep(unfinished, manifest, packs, store_of(folder, "write"), Work())
    (folder / "imported").write_bytes(pickle.dumps(result(descriptor, "folders", content, Rejections(), [])))
    return {"packs": len(packs), "bytes": sum(path.stat().st_size for path in packs)}


def publish(folder: Path, examples: int) -> dict[str, Any]:
    """The publication."""
    import pickle

    from modelyard.dataset.domain.records import SplitPolicy, VersionSpec
    from modelyard.dataset.domain.work import Work
    from modelyard.dataset.worker import publish_job

    (folder / "publish-work").mkdir()
    imported = pickle.loads((folder / "imported").read_bytes())
    spec = VersionSpec("projects/p/datasets/d", "projects/p/imports/i", imported, SplitPolicy())
    version = publish_job.run(spec, store_of(folder, "publish"), folder / "publish-work", Work())
    (folder / "version").write_text(json.dumps(vars(version.descriptor_blob)))
    return {"counts": {name: count.examples for name, count in version.descriptor.counts.items()}}


def read(folder: Path, examples: int) -> dict[str, Any]:
    """Streamed reading with a window of a twentieth and a cache that holds a quarter: an epoch, and going on in its middle."""
    from modelyard.core.artifacts import Blob
    from modelyard.core.artifacts_s3 import S3ArtifactStore, connect
    from modelyard.formats.dataset import open_dataset
    from modelyard.formats.decoders import Decoders
    from modelyard.formats.streaming import PictureStream, Shape
    from modelyard.trainer.worker.order import order_of
    from modelyard.trainer.worker.streamed import StreamedExamples

    import torch  # isort: skip

    began = time.perf_counter()
    settings = CoreSettings(data_dir=folder / "read")
    cache_bytes = examples * 300 // 4
    store = S3ArtifactStore(connect(settings), "scale", "dataset", folder / "read", cache_bytes)
    empty = rss()
    reader = open_dataset(store, Blob(**json.loads((folder / "version").read_text())))
    decoders = Decoders(2)
    stream = PictureStream(reader, Shape(SIDE, SIDE, 1), decoders, block_bytes=1 << 18, ahead_bytes=4 << 20)
    positions = reader.indices("train")
    order = order_of(stream.blocks.of[positions], SIDE * SIDE, len(reader) * SIDE * SIDE // 20)
    data = StreamedExamples(stream, positions, torch.from_numpy(reader.labels("train")), order)
    opened = rss()
    batches = data.epoch(0, 0, batch_size=256)
    next(batches)
    first_s, first = time.perf_counter() - began, rss()
    seen = 256 + sum(len(each.labels) for each in batches)
    epoch_s = time.perf_counter() - began
    last = rss()
    began = time.perf_counter()
    later = data.epoch(0, 0, batch_size=256, position=256 * (len(data) // 512))
    next(later)
    resume_s = time.perf_counter() - began
    later.close()
    stream.close()
    decoders.close()
    kept = sum(path.stat().st_size for path in (folder / "read").rglob("*") if path.is_file())
    return {
        "seen": seen,
        "first_batch_s": round(first_s, 2),
        "epoch_s": round(epoch_s, 2),
        "resume_first_batch_s": round(resume_s, 2),
        "rss_mib": {"imports": empty, "opened": opened, "first batch": first, "after the epoch": last},
        "cache_mib": kept >> 20,
        "cache_limit_mib": cache_bytes >> 20,
    }


STAGES = {"write": write, "publish": publish, "read": read}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("--examples", type=int, default=1_000_000)
    parser.add_argument("--stage", choices=list(STAGES), help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.stage:
        began = time.perf_counter()
        said = STAGES[arguments.stage](arguments.folder, arguments.examples)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10
        seconds = {"seconds": round(time.perf_counter() - began, 1), "processor_s": round(time.process_time(), 1)}
        print(json.dumps({"stage": arguments.stage, **said, **seconds, "peak_mib": peak}), flush=True)
        return 0
    from tests.support.minio import s3_server

    with s3_server() as server, tempfile.TemporaryDirectory(prefix="modelyard-bench-") as folder:
        keys = {"MODELYARD_S3_ACCESS_KEY": server.access_key, "MODELYARD_S3_SECRET_KEY": server.secret_key}
        environment = os.environ | keys | {"MODELYARD_S3_ENDPOINT": server.endpoint}
        for stage in STAGES:
            command = [sys.executable, __file__, "--examples", str(arguments.examples), "--stage", stage, "--folder", folder]
            subprocess.run(command, env=environment, check=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
