"""Training speed beside Ultralytics' classification training: the same network and input on the same picture files, in turns.

    python tests/bench/ultralytics_training.py --prepare
    python tests/bench/ultralytics_training.py [--rounds 2] [--pictures 600] [--side 96] [--epochs 3] [--minutes 8] [--least 1.0]

Ultralytics (AGPL) is asked as anybody outside would ask it: installed in an environment of its own in the load client's cache
folder (by --prepare, which measures nothing), run there as a process, and read by the results.csv that it writes. It gets this
project's torch, so that both compute with the same kernels. The network is one: torchvision's MobileNetV3 small with Ultralytics'
head for classes (there as a model file over its TorchVision layer, here put together from the same layers). From nothing, with
AdamW, batches of 64, crop, flip and colour, the weights' mean, and a validation each epoch. Counted are the training pictures of
all epochs but the first, which reads and decodes for both; `whole` has the first, too. Beside the time on the wall stands the
processor time a picture (user and system, of all processes of a side) over the same epochs: it says more on a machine that
others use. No round begins that would not end within --minutes. Prints a Markdown table and a JSON object; exits 1 when the
median of the rounds' ratios is below --least, 2 when Ultralytics is not installed. Needs the data sets of tests marked `data`.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "services")]
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # as the worker has it; read when torch is loaded
DATA = Path(os.environ.get("MODELYARD_DATA") or ROOT.parent / "shared" / "data")

from tests.bench.load_client import cache_folder  # noqa: E402
from tests.bench.processor_time import spent_s  # noqa: E402

NAME = "ultralytics"
BATCH = 64
OURS = ("ours",)
WIDTH, HEAD = 576, 1280
NETWORK = f"""
nc: 5
backbone:
  - [-1, 1, TorchVision, [{WIDTH}, mobilenet_v3_small, null, True, 2]]
head:
  - [-1, 1, Classify, [nc]]
"""
REQUIREMENTS = Path(__file__).parent / "peers" / "requirements" / f"{NAME}.txt"
THEIRS = f"""
import json, sys
sys.path.append({str(ROOT)!r})
from tests.bench.processor_time import spent_s
from ultralytics.models.yolo.classify import ClassificationTrainer
trainer, seconds = ClassificationTrainer(overrides=json.loads(sys.argv[1])), []
trainer.add_callback("on_fit_epoch_end", lambda trainer: seconds.append(spent_s()))
trainer.train()
print("spent", json.dumps(seconds))
"""


@dataclass(frozen=True)
class Pace:
    """Seconds from the start of training to the end of each epoch, processor time until then, seconds of the whole process."""

    ends: list[float]
    spent: list[float]
    process_s: float

    def per_second(self, pictures: int) -> float:
        """Training pictures a second, the first epoch left out."""
        return pictures * (len(self.ends) - 1) / (self.ends[-1] - self.ends[0])

    def whole(self, pictures: int) -> float:
        """The same with the first epoch."""
        return pictures * len(self.ends) / self.ends[-1]

    def processor(self, pictures: int) -> float:
        """Training pictures a second of processor time, the first epoch left out."""
        return pictures * (len(self.spent) - 1) / (self.spent[-1] - self.spent[0])


def environment() -> Path:
    """Where Ultralytics' own environment is."""
    return cache_folder() / "bench" / "peers" / NAME


def prepared() -> bool:
    """Whether it is there, as the requirements say, over this checkout's torch."""
    stamp = environment() / "installed.txt"
    return stamp.is_file() and stamp.read_text() == wanted()


def wanted() -> str:
    """What is installed, and where torch is taken from."""
    return f"{REQUIREMENTS.read_text()}{site_packages()}\n"


def site_packages() -> str:
    """This environment's folder of packages."""
    return next(path for path in sys.path if path.endswith("site-packages"))


def prepare() -> None:
    """Makes it, over this one's torch. Raises CalledProcessError where it cannot be installed."""
    folder = environment()
    shutil.rmtree(folder, ignore_errors=True)
    uv = shutil.which("uv") or str(Path(sys.executable).with_name("uv"))
    python = folder / "bin" / "python"
    subprocess.run([uv, "venv", "--quiet", "--python", sys.executable, str(folder)], check=True)
    options = ["--quiet", "--no-deps", "--python", str(python), "--requirement", str(REQUIREMENTS)]
    subprocess.run([uv, "pip", "install", *options], check=True)
    inside = folder / "lib" / f"python{sys.version_info.major}.{sys.version_info.minor}" / "site-packages"
    (inside / "torch_of_the_project.pth").write_text(site_packages() + "\n")
    (folder / "installed.txt").write_text(wanted())


def lay_out(pictures: int, folder: Path) -> tuple[int, int]:
    """Picture files as Ultralytics wants them (train/CLASS, val/CLASS), every tenth for validation: how many of each."""
    files = sorted((DATA / "flowers128").rglob("*.jpg"))
    files = files[:: max(1, len(files) // (pictures * 10 // 9))][: pictures * 10 // 9]
    counts = {"train": 0, "val": 0}
    for at, path in enumerate(files):
        part = "val" if at % 10 == 0 else "train"
        target = folder / part / path.parent.name
        target.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, target / path.name)
        counts[part] += 1
    return counts["train"], counts["val"]


def theirs(python: Path, data: Path, side: int, epochs: int, work: Path) -> Pace:
    """One run of Ultralytics' trainer."""
    network = work / "mobilenet-cls.yaml"
    network.write_text(NETWORK)
    settings: dict[str, Any] = {
        "model": str(network), "data": str(data), "imgsz": side, "batch": BATCH, "epochs": epochs, "device": "cpu",
        "optimizer": "AdamW", "lr0": 0.001, "pretrained": False, "auto_augment": None, "erasing": 0.0, "plots": False,
        "amp": False, "project": str(work), "name": "run", "exist_ok": True, "verbose": False, "seed": 0,
    }  # fmt: skip
    surroundings = {**os.environ, "YOLO_CONFIG_DIR": str(work / "config"), "YOLO_OFFLINE": "true", "YOLO_VERBOSE": "false"}
    began = time.perf_counter()
    done = subprocess.run(
        [str(python), "-c", THEIRS, json.dumps(settings)], capture_output=True, text=True, env=surroundings, cwd=work, check=False
    )
    took = time.perf_counter() - began
    results = next(iter(work.rglob("results.csv")), None)
    if done.returncode or results is None:
        raise RuntimeError(f"Ultralytics ended with {done.returncode}: {done.stdout[-1500:]}{done.stderr[-1500:]}")
    with results.open(encoding="utf-8") as file:
        rows = [{key.strip(): value for key, value in row.items()} for row in csv.DictReader(file)]
    spent = next(line for line in done.stdout.splitlines() if line.startswith("spent "))
    return Pace([float(row["time"]) for row in rows], json.loads(spent.removeprefix("spent "))[: len(rows)], took)


def ours(data: Path, side: int, epochs: int, work: Path) -> Pace:
    """One run of our trainer's worker code, in a process of its own."""
    began = time.perf_counter()
    command = [sys.executable, __file__, "--ours", json.dumps([str(data), side, epochs, str(work)])]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"ours ended with {done.returncode}: {done.stderr[-1500:]}")
    return Pace(*json.loads(done.stdout.splitlines()[-1]), time.perf_counter() - began)


def train_ours(data: Path, side: int, epochs: int, work: Path) -> tuple[list[float], list[float]]:
    """Seconds, and processor time, to the end of each epoch. What is trained is published first, which is not counted."""
    from modelyard.core.jobs.allocator import keep_freed_memory
    from modelyard.formats.dataset import open_dataset
    from modelyard.formats.model import Normalization, PictureInput
    from modelyard.recipes.recipe import Hyperparameters
    from modelyard.trainer.worker.data import open_examples
    from modelyard.trainer.worker.loop import train
    from modelyard.trainer.worker.run import Setup
    from modelyard.trainer.worker.tasks.classification import Classification
    from tests.support.datasets import file_store, publish_files

    files = sorted(data.rglob("*.jpg"))
    store = file_store(work / "store")
    usage = ["validation" if path.parts[-3] == "val" else "train" for path in files]
    names = sorted({path.parent.name for path in files})
    blob = publish_files(store, [path.read_bytes() for path in files], [path.parent.name for path in files], usage=usage)
    settings = Hyperparameters(max_epochs=epochs, batch_size=BATCH, base_lr=1e-3, augmentation="standard", ema_decay=0.999)
    ends: list[float] = []
    seconds: list[float] = []

    class Hooks:
        def on_event(self, event: dict[str, Any]) -> None:
            if event.get("metrics"):
                ends.append(float(event["elapsed_s"]))
                seconds.append(spent_s())

        def should_stop(self) -> Any:
            return "continue"

        def save_checkpoint(self, kind: str, path: Path) -> None: ...

    keep_freed_memory()  # as the worker does
    module, began = network(len(names)), time.monotonic()
    torch_threads()
    picture = PictureInput(side, side, 3)
    with (
        open_dataset(store, blob) as reader,
        open_examples(reader, picture, 0, should_stop=lambda: False) as (training, validation),
    ):
        setup = Setup(
            module=module,
            train=training,
            validation=validation,
            settings=settings,
            normalization=Normalization((0.5,) * 3, (0.25,) * 3),
            workdir=work,
            classes=len(names),
            learning=Classification(),
            flip=True,
            elapsed_s=time.monotonic() - began,
        )
        train(setup, Hooks())
    return ends, seconds


def torch_threads() -> None:
    """As a job takes them."""
    import torch

    from modelyard.trainer.worker.processors import training_threads

    torch.set_num_threads(training_threads())
    torch.set_flush_denormal(True)


def network(classes: int) -> Any:
    """The network of NETWORK."""
    import torchvision
    from torch import nn

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.features = torchvision.models.mobilenet_v3_small(weights=None).features
            widened = nn.Sequential(nn.Conv2d(WIDTH, HEAD, 1, bias=False), nn.BatchNorm2d(HEAD), nn.SiLU(inplace=True))
            self.head = nn.Sequential(widened, nn.AdaptiveAvgPool2d(1), nn.Flatten())
            self.last = nn.Linear(HEAD, classes)

        def get_classifier(self) -> nn.Module:
            return self.last

        def forward(self, x: Any) -> Any:
            return self.last(self.head(self.features(x)))

    return Net()


def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    """Rounds in turn, as many as there is time for; at least one."""
    python, began = environment() / "bin" / "python", time.monotonic()
    paces: dict[str, list[Pace]] = {name: [] for name in (NAME, *OURS)}
    longest = 0.0
    with tempfile.TemporaryDirectory(prefix="modelyard-bench-") as temporary:
        data = Path(temporary) / "data"
        train, validate = lay_out(arguments.pictures, data)
        for number in range(arguments.rounds):
            start = time.monotonic()
            if number and start - began + longest > 60 * arguments.minutes:
                break
            for name in list(paces)[:: 1 if number % 2 == 0 else -1]:
                work = Path(temporary) / f"work-{number}"
                work.mkdir()
                if name == NAME:
                    found = theirs(python, data, arguments.side, arguments.epochs, work)
                else:
                    found = ours(data, arguments.side, arguments.epochs, work)
                shutil.rmtree(work, ignore_errors=True)
                paces[name].append(found)
            longest = max(longest, time.monotonic() - start)
    figures = ("per_second", "processor", "whole")
    rates = {name: {what: [getattr(each, what)(train) for each in found] for what in figures} for name, found in paces.items()}
    ratios = {
        name: {
            what: statistics.median(mine / other for mine, other in zip(found[what], rates[NAME][what], strict=True))
            for what in figures
        }
        for name, found in rates.items()
    }
    return {
        "pictures": [train, validate],
        "side": arguments.side,
        "epochs": arguments.epochs,
        "rates": {
            name: {what: [round(value, 1) for value in each] for what, each in found.items()} for name, found in rates.items()
        },
        "ratios": {name: {what: round(value, 2) for what, value in found.items()} for name, found in ratios.items()},
        "process_s": {name: [round(each.process_s, 1) for each in found] for name, found in paces.items()},
        "load": [round(value, 1) for value in os.getloadavg()],
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("--prepare", action="store_true", help="install Ultralytics in its environment, and measure nothing")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--pictures", type=int, default=600)
    parser.add_argument("--side", type=int, default=96)
    parser.add_argument("--epochs", type=int, default=3, help="2 or more; the first is not counted")
    parser.add_argument("--minutes", type=float, default=8.0, help="no round begins that would not end within them")
    parser.add_argument("--least", type=float, default=1.0, help="smallest ratio that passes")
    parser.add_argument("--ours", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.ours:
        data, side, epochs, work = json.loads(arguments.ours)
        print(json.dumps(train_ours(Path(data), side, epochs, Path(work))))
        return 0
    if arguments.prepare:
        try:
            prepare()
        except subprocess.CalledProcessError as error:
            print(f"Ultralytics cannot be installed here: {error}")
            return 2
        print(f"Ultralytics is in {environment()}")
        return 0
    if not prepared():
        print(f"Ultralytics is not in {environment()}: run this with --prepare first")
        return 2
    result = measure(arguments)
    print("| network | pictures/s by round | ratio | pictures/s of processor time | ratio | ratio with the first epoch |")
    print("|---|---|---|---|---|---|")
    for name, found in result["rates"].items():
        ratio = result["ratios"][name]
        walls, processor = (", ".join(map(str, found[what])) for what in ("per_second", "processor"))
        print(f"| {name} | {walls} | {ratio['per_second']} | {processor} | {ratio['processor']} | {ratio['whole']} |")
    print(json.dumps(result))
    return 0 if min(result["ratios"][name]["per_second"] for name in OURS) >= arguments.least else 1


if __name__ == "__main__":
    sys.exit(main())
