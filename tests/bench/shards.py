"""Ways to hold examples for reading them from S3: our packs, MosaicML's MDS, WebDataset (decisions/0028).

`python tests/bench/shards.py [--data fashion_mnist|flowers128] [--only packs|mds|webdataset] [--repeat 1]`

The packages `mosaicml-streaming` and `webdataset` are no part of ours: install them in an environment of their own. Pictures go
in and come out as the bytes of their files, with their class; nothing is decoded. Each way writes to a MinIO that is started
here, then reads all of it from an empty cache, again from the cache, and goes on in the middle of an epoch, shuffled each time.
Prints a JSON object a line.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path[:1] = [str(ROOT), str(ROOT / "services")]  # without this folder, whose streaming.py hides MosaicML's package
DATA = Path(os.environ.get("MODELYARD_DATA") or ROOT.parent / "shared" / "data")

import numpy as np  # noqa: E402

from tests.support.minio import S3Server, s3_server  # noqa: E402

Examples = tuple[list[bytes], list[int]]
BUCKET = "shards"


def fashion_mnist() -> Examples:
    """60,000 grey pictures of 28 x 28 as PNG."""
    import gzip

    from modelyard.formats.pictures import encode_png

    folder = DATA / "fashion_mnist"
    pixels = np.frombuffer(gzip.decompress((folder / "train-images-idx3-ubyte.gz").read_bytes())[16:], np.uint8)
    labels = gzip.decompress((folder / "train-labels-idx1-ubyte.gz").read_bytes())[8:]
    return [encode_png(each) for each in pixels.reshape(-1, 28, 28)], list(labels)


def flowers128() -> Examples:
    """JPEG files."""
    files = sorted((DATA / "flowers128").rglob("*.jpg"))
    names = sorted({path.parent.name for path in files})
    return [path.read_bytes() for path in files], [names.index(path.parent.name) for path in files]


class Packs:
    """Packs and a Parquet manifest; read in blocks of about `block_bytes`, each example compared with its sha256."""

    def __init__(self, server: S3Server, folder: Path, block_bytes: int) -> None:
        import pyarrow.compute  # noqa: F401  imports are not measured

        from modelyard.core.settings import CoreSettings

        keys = {"s3_access_key": server.access_key, "s3_secret_key": server.secret_key}
        self._settings = CoreSettings(s3_endpoint=server.endpoint, data_dir=folder, **keys)  # type: ignore[arg-type]
        self._block_bytes = block_bytes

    def write(self, examples: Examples, folder: Path) -> int:
        from tests.support.datasets import publish_files

        store = self._store(folder / "write")
        self._version = publish_files(
            store, examples[0], [f"c{label}" for label in examples[1]], usage=["train"] * len(examples[0])
        )
        return sum(blob.size_bytes for blob in store.list())

    def read(self, cache: Path, start: int) -> Iterator[tuple[bytes, int]]:
        import hashlib

        from modelyard.formats.blocks import cut
        from modelyard.formats.dataset import open_dataset
        from modelyard.trainer.worker.order import Order

        reader = open_dataset(self._store(cache), self._version)
        blocks, hashes, labels = cut(*reader.spans(), self._block_bytes), reader.hashes(), reader.labels("train")
        order = Order(len(reader), blocks.of, max(1.0, len(blocks) / 4)).epoch(0, 0).numpy()[start:]
        firsts = order[np.sort(np.unique(blocks.of[order], return_index=True)[1])]
        last = dict(zip(blocks.of[order].tolist(), range(len(order)), strict=True))
        held: dict[int, memoryview] = {}
        with ThreadPoolExecutor(8) as threads:
            ahead: deque[Any] = deque()
            waiting = iter(blocks.of[firsts].tolist())

            def fetch(block: int) -> tuple[int, bytes]:
                return block, reader.part(int(blocks.pack[block]), int(blocks.offset[block]), int(blocks.length[block]))

            for place, example in enumerate(order.tolist()):
                block = int(blocks.of[example])
                while block not in held:
                    while len(ahead) < 16 and (following := next(waiting, None)) is not None:
                        ahead.append(threads.submit(fetch, following))
                    name, data = ahead.popleft().result()
                    held[name] = memoryview(data)
                begin = int(blocks.start[example])
                data = bytes(held[block][begin : begin + int(blocks.size[example])])
                if hashlib.sha256(data).digest() != hashes[example].tobytes():
                    raise SystemExit("a wrong example")
                if last[block] == place:
                    del held[block]
                yield data, int(labels[example])

    def _store(self, folder: Path) -> Any:
        from modelyard.core.artifacts import open_store

        return open_store(f"s3://{BUCKET}", "dataset", self._settings, cache_dir=folder)


class Mds:
    """MosaicML streaming, as its documentation uses it: shards of 64 MiB, sha256 of each, py1e shuffling."""

    def __init__(self, server: S3Server, folder: Path) -> None:
        import streaming  # noqa: F401

        os.environ |= {"S3_ENDPOINT_URL": server.endpoint, "AWS_ACCESS_KEY_ID": server.access_key}
        os.environ |= {"AWS_SECRET_ACCESS_KEY": server.secret_key, "AWS_DEFAULT_REGION": "us-east-1"}
        self._count = 0

    def write(self, examples: Examples, folder: Path) -> int:
        from streaming import MDSWriter

        out = (str(folder / "write"), f"s3://{BUCKET}/mds")
        with MDSWriter(out=out, columns={"image": "bytes", "label": "int"}, hashes=["sha256"], keep_local=True) as writer:
            for file, label in zip(*examples, strict=True):
                writer.write({"image": file, "label": label})
        self._count = len(examples[0])
        return sum(path.stat().st_size for path in (folder / "write").iterdir())

    def read(self, cache: Path, start: int) -> Iterator[tuple[bytes, int]]:
        from streaming import StreamingDataset
        from streaming.base.util import clean_stale_shared_memory

        clean_stale_shared_memory()
        source = {"remote": f"s3://{BUCKET}/mds", "local": str(cache)}
        dataset = StreamingDataset(**source, shuffle=True, batch_size=64, num_canonical_nodes=1, validate_hash="sha256")
        if start:
            dataset.load_state_dict(dataset.state_dict(start, True) | {"epoch": 0})
        for each in dataset:
            yield each["image"], int(each["label"])


class WebDataset:
    """Tar files of 64 MiB over presigned addresses, a shuffling buffer of a quarter of the data."""

    def __init__(self, server: S3Server, folder: Path) -> None:
        import webdataset  # noqa: F401
        from minio import Minio

        self._client = Minio(server.endpoint.removeprefix("http://"), server.access_key, server.secret_key, secure=False)
        self._urls: list[str] = []
        self._count = 0

    def write(self, examples: Examples, folder: Path) -> int:
        import webdataset as wds

        folder = folder / "write"
        folder.mkdir()
        with wds.ShardWriter(str(folder / "shard-%05d.tar"), maxsize=64 << 20, maxcount=10**9, verbose=0) as writer:
            for number, (file, label) in enumerate(zip(*examples, strict=True)):
                writer.write({"__key__": f"{number:08d}", "image": file, "cls": label})
        for path in sorted(folder.iterdir()):
            self._client.fput_object(BUCKET, path.name, str(path))
            self._urls.append(self._client.presigned_get_object(BUCKET, path.name))
        self._count = len(examples[0])
        return sum(path.stat().st_size for path in folder.iterdir())

    def read(self, cache: Path, start: int) -> Iterator[tuple[bytes, int]]:
        import webdataset as wds

        cache.mkdir(exist_ok=True)
        urls = [f"pipe:curl -s '{url}'" for url in self._urls]
        names = {url: f"shard-{number}.tar" for number, url in enumerate(urls)}
        found = wds.WebDataset(urls, shardshuffle=len(urls), cache_dir=str(cache), url_to_name=names.get, seed=0)
        for number, each in enumerate(found.shuffle(self._count // 4, initial=self._count // 8)):
            if number >= start:  # it has no other way to go on: what came before is read again
                yield each["image"], int(each["cls"])


def measure(name: str, way: Any, examples: Examples, folder: Path) -> dict[str, Any]:
    """What writing and reading take; every example must come once an epoch."""
    count = len(examples[0])
    began = time.perf_counter()
    size = way.write(examples, folder)
    write_s = time.perf_counter() - began
    wanted = sorted(zip(examples[1], map(len, examples[0]), strict=True))

    def read(cache: str, start: int = 0) -> tuple[float, float]:
        began, processor = time.perf_counter(), time.process_time()
        reading = way.read(folder / cache, start)
        got = [next(reading)]
        first_s = time.perf_counter() - began
        got += list(reading)
        seconds, processor = time.perf_counter() - began, time.process_time() - processor
        if not start and sorted((label, len(file)) for file, label in got) != wanted:
            raise SystemExit(f"{name} gave other examples than were written")
        print(f"  {name} {cache} {start}: {len(got)} in {seconds:.2f} s, processor {processor:.2f} s", file=sys.stderr)
        return first_s, seconds

    read("warm-up")  # imports, code that is compiled when first used
    cold_first, cold = read("cold")
    warm_first, warm = read("cold")
    shutil.rmtree(folder / "cold")
    resume_cold, _ = read("resume", count // 2)
    resume_warm, _ = read("resume", count // 2)
    return {
        "way": name,
        "examples": count,
        "write_s": round(write_s, 2),
        "size_over_content": round(size / sum(map(len, examples[0])), 3),
        "cold_examples_per_second": round(count / cold),
        "warm_examples_per_second": round(count / warm),
        "first_cold_s": round(cold_first, 2),
        "first_warm_s": round(warm_first, 2),
        "resume_cold_s": round(resume_cold, 2),
        "resume_warm_s": round(resume_warm, 2),
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("--data", choices=["fashion_mnist", "flowers128"], default="fashion_mnist")
    parser.add_argument("--only", choices=["packs", "mds", "webdataset"])
    parser.add_argument(
        "--block-kib", type=int, nargs="*", default=[256, 1024, 4096, 65536], help="blocks that packs are read in"
    )
    arguments = parser.parse_args()
    examples = {"fashion_mnist": fashion_mnist, "flowers128": flowers128}[arguments.data]()
    ways: dict[str, Callable[[S3Server, Path], Any]] = {
        f"packs, blocks of {kib} KiB": (lambda server, folder, kib=kib: Packs(server, folder, kib << 10))
        for kib in arguments.block_kib
    }
    ways |= {"mds": Mds, "webdataset": WebDataset}
    with tempfile.TemporaryDirectory(prefix="modelyard-bench-") as root:
        for number, (name, make) in enumerate(ways.items()):
            if arguments.only and not name.startswith(arguments.only):
                continue
            folder = Path(root, str(number))
            folder.mkdir()
            with s3_server() as server:
                from minio import Minio

                Minio(server.endpoint.removeprefix("http://"), server.access_key, server.secret_key, secure=False).make_bucket(
                    BUCKET
                )
                print(json.dumps({"data": arguments.data, **measure(name, make(server, folder), examples, folder)}), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
