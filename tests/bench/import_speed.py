"""python tests/bench/import_speed.py FOLDER [--count 70000]: an import of fashion_mnist as PNG files, beside tar reading and
hashing the same files.

Everything is real: a server on loopback in a process of its own (all services, as `modelyard up` has them), and the import's own
processes. Each round imports the folder in both ways: read by the server where it lies, and packed and sent by the client. FOLDER
keeps the files between runs. Prints one JSON object: seconds, files/s and processor time of each, the ratio in this run, the
peak of memory (PSS of all processes of the import together; `anonymous`: without mapped files, which are the code of libraries
and page cache) for a tenth of the files and for all of them, and what a version with ten other labels stores again.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:1] = [str(ROOT)]
DATA = Path(os.environ.get("MODELYARD_DATA") or ROOT.parent / "shared" / "data")

import numpy as np  # noqa: E402
from PIL import Image  # noqa: E402

from modelyard.client import Addresses, Client  # noqa: E402
from modelyard.dataset.v1 import dataset_pb2  # noqa: E402

CLASSES = ("top", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "boot")


def write_pictures(source: Path, out: Path, count: int) -> Path:
    """train/CLASS/NUMBER.png and test/CLASS/NUMBER.png, as Pillow writes them."""
    if (out / "done").is_file():
        return out / "files"
    number = 0
    for usage, name in (("train", "train"), ("test", "t10k")):
        images, labels = (_idx(source / f"{name}-{kind}-ubyte.gz") for kind in ("images-idx3", "labels-idx1"))
        for pixels, label in zip(images, labels, strict=True):
            if number == count:
                break
            place = out / "files" / usage / CLASSES[int(label)] / f"{number:05d}.png"
            place.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(place)
            number += 1
    (out / "done").touch()
    return out / "files"


def _idx(path: Path) -> np.ndarray:
    data = gzip.decompress(path.read_bytes())
    axes = data[3]
    shape = np.frombuffer(data, ">u4", axes, 4)
    return np.frombuffer(data, np.uint8, -1, 4 + 4 * axes).reshape(shape)


def tar_and_hash(files: Path) -> float:
    """Seconds in which tar reads the files and sha256sum hashes what it gives."""
    start = time.perf_counter()
    subprocess.run(f"tar -cf - -C {files} . | sha256sum", shell=True, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - start


@contextmanager
def memory_watched() -> Iterator[dict[str, int]]:
    """The peak of the memory (PSS) of the processes that the service has started, together, in bytes: all, and anonymous."""
    peak, stopped = {"all": 0, "anonymous": 0}, threading.Event()

    def watch() -> None:
        while not stopped.wait(0.1):
            found = [_resident(pid) for pid in _descendants(beneath=1)]
            for name in peak:
                peak[name] = max(peak[name], sum(each.get(name, 0) for each in found))

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield peak
    finally:
        stopped.set()
        thread.join()


def _descendants(beneath: int = 0) -> list[int]:
    """Numbers of the processes that this one and its children have started; beneath: without so many generations of them."""
    below: list[int] = []
    waiting = [(Path("/proc/self").resolve().name, 0)]
    while waiting:
        pid, level = waiting.pop()
        for task in Path(f"/proc/{pid}/task").glob("*/children"):
            try:
                found = task.read_text().split()
            except OSError:
                continue
            waiting += [(each, level + 1) for each in found]
            below += [int(each) for each in found if level >= beneath]
    return below


def _resident(pid: int) -> dict[str, int]:
    """Pages of a process; those that it shares with others (it may be forked) by its share of them."""
    try:
        lines = [line.split() for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()]
    except OSError:
        return {}
    names = {"Pss:": "all", "Pss_Anon:": "anonymous"}
    return {names[line[0]]: int(line[1]) * 1024 for line in lines if line[0] in names}


def processor_s() -> float:
    """Processor time of this process and of all that it and its children have started, in seconds."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(each.ru_utime + each.ru_stime for each in used) + sum(_spent(pid) for pid in _descendants())


def _spent(pid: int) -> float:
    """Of a process that runs, and of its children that have ended, in seconds."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")


@contextmanager
def served(folder: Path) -> Iterator[str]:
    """host:port of this user's own server, in a process of its own."""
    settings = {"MODELYARD_DATA_DIR": str(folder), "MODELYARD_HOST": "127.0.0.1", "MODELYARD_PORT": "0"}
    os.environ["MODELYARD_DATA_DIR"] = str(folder)  # where clients find its token
    with (folder / "service.log").open("w+") as log:
        command = [sys.executable, "-m", "modelyard.embedded"]
        process = subprocess.Popen(command, env={**os.environ, **settings}, stdout=log, stderr=subprocess.STDOUT)
        try:
            address = ""
            while not address:
                time.sleep(0.1)
                lines = (folder / "service.log").read_text().splitlines()
                address = next((line.split()[1] for line in lines if line.startswith("ready ")), "")
                if process.poll() is not None:
                    raise SystemExit("\n".join(lines))
            yield address
        finally:
            process.terminate()
            process.wait()


@dataclass(frozen=True)
class Measured:
    """An import: seconds of the whole and of the job alone, processor seconds of all processes, the peaks of memory."""

    seconds: float
    job_s: float
    processor_s: float
    peak: dict[str, int]


def imported(client: Client, files: Path, name: str, *, sent: bool) -> Measured:
    """Imports a folder: sends it, or has it read where it lies."""
    client.datasets.create_dataset(name)
    before, start = processor_s(), time.perf_counter()
    with memory_watched() as peak:
        source = client.artifacts.upload(files) if sent else client.datasets.local_folder(files)
        assert source is not None, "the server is this user's own"
        ready = time.perf_counter()
        started = client.datasets.create_import(name, source, file_name="files.zip")
        client.datasets.wait_import(started.name)
    end = time.perf_counter()
    return Measured(end - start, end - ready, processor_s() - before, peak)


def small_version(client: Client, name: str) -> dict[str, float]:
    """A version, and one with ten other labels: seconds, and the share of the dataset that is stored again."""
    first = client.datasets.wait_dataset_version(client.datasets.create_dataset_version(name).name)
    chosen = list(client.datasets.list_examples(first.name, usage="train", page_size=1000))[:10]
    edits = [
        dataset_pb2.Edit(action=dataset_pb2.Edit.ACTION_RELABEL, example_ids=[one.example_id], label=_other(one.label))
        for one in chosen
    ]
    start = time.perf_counter()
    started = client.datasets.create_dataset_version(name, base_version="V001", edits=edits)
    second = client.datasets.wait_dataset_version(started.name)
    return {
        "seconds": time.perf_counter() - start,
        "stored_bytes": second.stored_bytes,
        "first_version_bytes": first.stored_bytes,
    }


def _other(label: str) -> str:
    return CLASSES[(CLASSES.index(label) + 1) % len(CLASSES)]


WAYS = {"read": False, "sent": True}
"""How the server comes to the folder, and whether it is sent."""


def main() -> int:
    """Measures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--count", type=int, default=70_000)
    parser.add_argument("--rounds", type=int, default=3)
    asked = parser.parse_args()
    files = write_pictures(DATA / "fashion_mnist", asked.folder / str(asked.count), asked.count)
    tenth = write_pictures(DATA / "fashion_mnist", asked.folder / str(asked.count // 10), asked.count // 10)
    tar_and_hash(files)  # so that all later readings find the files in memory
    told: dict[str, object] = {"files": asked.count}
    temporary = tempfile.TemporaryDirectory(dir=asked.folder)
    with temporary as data, served(Path(data)) as address, Client(Addresses.same(address)) as client:
        small = {sent: imported(client, tenth, f"tenth-{sent}".lower(), sent=sent) for sent in WAYS.values()}
        tars: list[float] = []
        tar_processor: list[float] = []
        rounds: dict[str, list[Measured]] = {way: [] for way in WAYS}
        for turn in range(asked.rounds):
            for way, sent in WAYS.items():
                before = processor_s()
                tars.append(tar_and_hash(files))
                tar_processor.append(processor_s() - before)
                rounds[way].append(imported(client, files, f"{way}-{turn}", sent=sent))
        tars.append(tar_and_hash(files))
        made = small_version(client, f"read-{asked.rounds - 1}")
        content = sum(path.stat().st_size for path in files.rglob("*.png"))
        told["small_version"] = made | {"content_bytes": content, "share": made["stored_bytes"] / content}
    tar = statistics.median(tars)
    told["tar"] = {"seconds": tars, "processor_us_a_file": [1e6 * each / asked.count for each in tar_processor]}
    for way, sent in WAYS.items():
        whole, job = (statistics.median(getattr(each, name) for each in rounds[way]) for name in ("seconds", "job_s"))
        told[way] = {
            "seconds": [each.seconds for each in rounds[way]],
            "job_s": [each.job_s for each in rounds[way]],
            "processor_us_a_file": [1e6 * each.processor_s / asked.count for each in rounds[way]],
            "files_a_second": asked.count / whole,
            "ratio": tar / whole,
            "ratio_of_job": tar / job,
            "peak_bytes_of_a_tenth": small[sent].peak,
            "peak_bytes": rounds[way][-1].peak,
        }
    print(json.dumps(told, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
