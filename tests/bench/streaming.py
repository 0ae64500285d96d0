"""Training on streamed data against training on the same data in memory: examples/s, from a MinIO that is started here.

`python tests/bench/streaming.py [--rounds 5] [--seconds 6] [--least 0.9] [--by clock|processor] [--only DATA]`

Each round trains for some seconds on each of: pictures in memory; streamed with all blocks in the local cache (warm); streamed
with an empty cache (cold). They take turns in one process, so that other work on the machine hits all of them. The streamed ones
may hold nothing in memory but a small window. Prints a Markdown table and a JSON object a line; exits 1 when the median of a
ratio is below --least. Needs the data sets of tests marked `data`.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "services")]
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # as the worker has it; read when torch is loaded
DATA = Path(os.environ.get("MODELYARD_DATA") or ROOT.parent / "shared" / "data")

import torch  # noqa: E402

from modelyard.core.artifacts import ArtifactStore, Blob, open_store  # noqa: E402
from modelyard.core.settings import CoreSettings  # noqa: E402
from modelyard.formats.blocks import fitting_block_bytes  # noqa: E402
from modelyard.formats.dataset import open_dataset  # noqa: E402
from modelyard.formats.decoders import Decoders  # noqa: E402
from modelyard.formats.model import Normalization  # noqa: E402
from modelyard.formats.pictures import encode_png  # noqa: E402
from modelyard.formats.streaming import PictureStream, Shape  # noqa: E402
from modelyard.recipes.build_image import build  # noqa: E402
from modelyard.recipes.catalogue import DatasetFacts, find_recipe, fit_to_dataset  # noqa: E402
from modelyard.recipes.recipe import Recipe  # noqa: E402
from modelyard.trainer.worker.data import decoding_processes  # noqa: E402
from modelyard.trainer.worker.examples import Examples, HeldExamples  # noqa: E402
from modelyard.trainer.worker.loop import train  # noqa: E402
from modelyard.trainer.worker.order import Order, order_of  # noqa: E402
from modelyard.trainer.worker.processors import training_threads  # noqa: E402
from modelyard.trainer.worker.run import Instruction, Setup  # noqa: E402
from modelyard.trainer.worker.streamed import StreamedExamples  # noqa: E402
from modelyard.trainer.worker.tasks.classification import Classification  # noqa: E402
from tests.support.datasets import publish_files  # noqa: E402
from tests.support.minio import S3Server, s3_server  # noqa: E402

CLASSES = 10


@dataclass(frozen=True)
class Data:
    """Picture files with their classes, and the recipe that is trained on them."""

    name: str
    files: list[bytes]
    labels: list[int]
    recipe: Recipe


class Timer:
    """Hooks that stop the run when its time after the first step is up; first_s: seconds to that step."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._made = self._asked = time.perf_counter()
        self._processor = 0.0
        self._steps = -2
        self.first_s = 0.0

    def on_event(self, event: dict[str, Any]) -> None: ...

    def should_stop(self) -> Instruction:
        self._steps += 1
        self._asked = time.perf_counter()
        if self._steps == 0:
            self.first_s, self._made = self._asked - self._made, self._asked
            self._processor = processor_s()
        return "cancel" if self._steps > 0 and self._asked > self._made + self._seconds else "continue"

    def save_checkpoint(self, kind: str, path: Path) -> None: ...

    def speed(self, batch_size: int) -> Speed:
        """Of the steps after the first."""
        examples = self._steps * batch_size
        return Speed(examples / (self._asked - self._made), 1e6 * (processor_s() - self._processor) / examples, self.first_s)


@dataclass(frozen=True)
class Speed:
    """Examples per second; microseconds of processor time an example, decoding processes included; seconds to the first step."""

    per_second: float
    processor_us: float
    first_s: float


def processor_s() -> float:
    """Seconds of processor time of this process and those that decode for it."""
    ticks = 0
    for children in Path("/proc/self/task").glob("*/children"):
        for pid in children.read_text().split():
            if b"modelyard.formats.decoding" in Path(f"/proc/{pid}/cmdline").read_bytes():
                ticks += sum(map(int, Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:13]))
    return time.process_time() + ticks / os.sysconf("SC_CLK_TCK")


def fashion_mnist() -> Data:
    """60,000 grey pictures of 28 x 28, as an import of the IDX file stores them."""
    import gzip

    import numpy as np

    folder = DATA / "fashion_mnist"
    pixels = np.frombuffer(gzip.decompress((folder / "train-images-idx3-ubyte.gz").read_bytes())[16:], np.uint8)
    labels = gzip.decompress((folder / "train-labels-idx1-ubyte.gz").read_bytes())[8:]
    return Data(
        "fashion_mnist", [encode_png(each) for each in pixels.reshape(-1, 28, 28)], list(labels), recipe("tinynet", 28, 1)
    )


def flowers128() -> Data:
    """JPEG files of about 128 x 128."""
    files = sorted((DATA / "flowers128").rglob("*.jpg"))
    names = sorted({path.parent.name for path in files})
    labels = [names.index(path.parent.name) for path in files]
    return Data("flowers128", [path.read_bytes() for path in files], labels, recipe("efficientnet-lite0", 96, 3))


def recipe(name: str, side: int, channels: int) -> Recipe:
    """As it is resolved for such pictures."""
    found = find_recipe(name, "image_classification")
    return fit_to_dataset(found, DatasetFacts("image_classification", 60_000, CLASSES, side, side, channels))


def s3_store(server: S3Server, cache: Path) -> ArtifactStore:
    """The store with its cache in a folder."""
    settings = CoreSettings(
        s3_endpoint=server.endpoint, s3_access_key=server.access_key, s3_secret_key=server.secret_key, data_dir=cache
    )
    return open_store("s3://streaming", "dataset", settings, cache_dir=cache)


@contextmanager
def streamed(server: S3Server, cache: Path, version: Blob, data: Data, window_share: float, processes: int) -> Iterator[Examples]:
    """The examples, of which no more than a share is in a window."""
    picture = data.recipe.input
    assert picture is not None
    shape = Shape(picture.height, picture.width, picture.channels)
    reader = open_dataset(s3_store(server, cache), version)
    decoders = Decoders(processes)
    mean = float(reader.spans()[2].mean())
    total = len(reader) * shape.size
    block_bytes = min(fitting_block_bytes(mean, shape.size), max(1 << 14, int(len(reader) * mean * window_share / 8)))
    ahead = int(total * window_share / 4)
    stream = PictureStream(reader, shape, decoders, block_bytes=block_bytes, ahead_bytes=ahead)
    positions = reader.indices("train")
    order = order_of(stream.blocks.of[positions], shape.size, int(total * window_share))
    try:
        yield StreamedExamples(stream, positions, torch.from_numpy(reader.labels("train")), order)
    finally:
        stream.close()
        decoders.close()


def held(examples: Examples) -> HeldExamples:
    """The same in memory."""
    batches = list(examples.in_order(512))
    return HeldExamples(torch.cat([each.pictures for each in batches]), examples.labels, Order(len(examples)))


def rate(data: Data, examples: Examples, seconds: float) -> Speed:
    """How fast a training is that has its examples there."""
    picture = data.recipe.input
    assert picture is not None
    shape = {"channels": picture.channels, "height": picture.height, "width": picture.width}
    with tempfile.TemporaryDirectory() as folder:
        setup = Setup(
            module=build(data.recipe.architecture, classes=CLASSES, **shape),
            train=examples,
            validation=HeldExamples(torch.empty(0), torch.empty(0)),
            settings=replace(data.recipe.hyperparameters, max_epochs=10_000),
            normalization=Normalization((0.5,) * picture.channels, (0.25,) * picture.channels),
            workdir=Path(folder),
            classes=CLASSES,
            learning=Classification(),
            flip=True,
            limit_s=3600.0,
        )
        timer = Timer(seconds)
        train(setup, timer)
        return timer.speed(data.recipe.hyperparameters.batch_size)


def measure(data: Data, server: S3Server, folder: Path, arguments: argparse.Namespace) -> dict[str, Any]:
    """Rounds of memory, warm and cold, after one that is thrown away."""
    labels = [f"c{label}" for label in data.labels]
    version = publish_files(s3_store(server, folder / "publish"), data.files, labels, usage=["train"] * len(labels))
    warm_cache, cold_cache = folder / "warm", folder / "cold"
    share, processes = arguments.window_share, arguments.processes or decoding_processes()
    with streamed(server, warm_cache, version, data, share, processes) as warm:
        memory = held(warm)
        speeds: dict[str, list[Speed]] = {"memory": [], "warm": [], "cold": []}
        for number in range(arguments.rounds + 1):
            seconds = arguments.seconds if number else 2.0
            for kind in [*speeds] if number % 2 == 0 else [*reversed(speeds)]:
                if kind == "cold":
                    shutil.rmtree(cold_cache, ignore_errors=True)
                    with streamed(server, cold_cache, version, data, share, processes) as cold:
                        speed = rate(data, cold, seconds)
                else:
                    speed = rate(data, memory if kind == "memory" else warm, seconds)
                if number:
                    speeds[kind].append(speed)
    return {"data": data.name, "recipe": data.recipe.name, "examples": len(labels), "processes": processes, **figures(speeds)}


def figures(speeds: dict[str, list[Speed]]) -> dict[str, Any]:
    """Medians, and each kind against memory within the same round: by the clock, and by processor time, which is what counts on
    a machine whose processors are all training, and does not depend on what else runs there."""

    def median(name: str) -> dict[str, float]:
        return {kind: round(statistics.median(getattr(each, name) for each in found), 2) for kind, found in speeds.items()}

    def ratios(name: str, kind: str) -> list[float]:
        pairs = zip(speeds[kind], speeds["memory"], strict=True)
        return [round(getattr(one, name) / getattr(other, name), 3) for one, other in pairs]

    by_clock = {kind: ratios("per_second", kind) for kind in ("warm", "cold")}
    by_processor = {kind: [round(1 / each, 3) for each in ratios("processor_us", kind)] for kind in ("warm", "cold")}
    return {
        "examples_per_second": median("per_second"),
        "processor_us": median("processor_us"),
        "seconds_to_first_step": median("first_s"),
        "ratios_by_clock": by_clock,
        "ratios_by_processor": by_processor,
        "ratio": {kind: round(statistics.median(each), 3) for kind, each in by_clock.items()},
        "processor_ratio": {kind: round(statistics.median(each), 3) for kind, each in by_processor.items()},
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=6.0, help="of each kind in each round")
    parser.add_argument("--window-share", type=float, default=0.25, help="of the data that a window holds")
    parser.add_argument("--processes", type=int, default=0, help="that decode; 0: as a job takes them")
    parser.add_argument("--least", type=float, default=0.9, help="smallest ratio that passes")
    parser.add_argument("--by", choices=["clock", "processor"], default="clock", help="which ratio must be large enough")
    parser.add_argument("--only", choices=["fashion_mnist", "flowers128"])
    arguments = parser.parse_args()
    torch.set_num_threads(training_threads())
    makers = {"fashion_mnist": fashion_mnist, "flowers128": flowers128}
    results = []
    with s3_server() as server, tempfile.TemporaryDirectory(prefix="modelyard-bench-") as folder:
        for name, make in makers.items():
            if arguments.only in (None, name):
                results.append(measure(make(), server, Path(folder, name), arguments))
                print(json.dumps(results[-1]), flush=True)
    print("| data | recipe | from memory | warm cache | cold cache |\n|---|---|---|---|---|")
    for result in results:
        speed, ratio, processor = (result[name] for name in ("examples_per_second", "ratio", "processor_ratio"))
        cells = [f"{speed[kind]:.0f}/s ({ratio[kind]}; {processor[kind]})" for kind in ("warm", "cold")]
        print(f"| {result['data']} | {result['recipe']} | {speed['memory']:.0f}/s | {' | '.join(cells)} |")
    measured = "processor_ratio" if arguments.by == "processor" else "ratio"
    return 0 if min(min(result[measured].values()) for result in results) >= arguments.least else 1


if __name__ == "__main__":
    sys.exit(main())
