"""python tests/bench/import_speed.py FOLDER [--count 70000]: an import of fashion_mnist as PNG files, beside tar reading and
hashing the same files.

Everything is real: a server on loopback in a process of its own, the client packing and sending the folder, the import's own
processes. FOLDER keeps the files
between runs. Prints one JSON object: seconds and files/s of each, the ratio in this run, the peak of memory (all processes of
the import together) for a tenth of the files and for all of them, and what a version with ten other labels stores again.
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
def memory_watched() -> Iterator[list[int]]:
    """The peak of the memory (PSS) of the processes that the service has started, together, in bytes; the only element of the
    list at the end."""
    peak, stopped = [0], threading.Event()

    def watch() -> None:
        while not stopped.wait(0.1):
            peak[0] = max(peak[0], sum(_resident(pid) for pid in _descendants(beneath=1)))

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


def _resident(pid: int) -> int:
    """Pages of a process; those that it shares with others (it may be forked) by its share of them."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("Pss:")) * 1024
    except (OSError, IndexError, StopIteration):
        return 0


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
    """host:port of a dataset service in a process of its own, as users have it."""
    settings = {"MODELYARD_DATA_DIR": str(folder), "MODELYARD_HOST": "127.0.0.1", "MODELYARD_PORT": "0"}
    with (folder / "service.log").open("w+") as log:
        command = [sys.executable, "-m", "modelyard.dataset"]
        process = subprocess.Popen(command, env={**os.environ, **settings}, stdout=log, stderr=subprocess.STDOUT)
        try:
            address = ""
            while not address:
                time.sleep(0.1)
                lines = (folder / "service.log").read_text().splitlines()
                address = next((json.loads(line)["address"] for line in lines if '"ready"' in line), "")
                if process.poll() is not None:
                    raise SystemExit("\n".join(lines))
            yield address
        finally:
            process.terminate()
            process.wait()


def imported(client: Client, files: Path, name: str) -> tuple[float, float, int, dataset_pb2.Import]:
    """Seconds of the whole and of the job alone, the peak of memory, and the import."""
    client.datasets.create_dataset(name)
    start = time.perf_counter()
    blob = client.artifacts.upload(files)
    sent = time.perf_counter()
    with memory_watched() as peak:
        started = client.datasets.create_import(name, blob, file_name="files.zip")
        done = client.datasets.wait_import(started.name)
    end = time.perf_counter()
    return end - start, end - sent, peak[0], done


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
        *_, small, _ = imported(client, tenth, "tenth")
        tars, wholes, jobs, processors = [], [], [], []
        for turn in range(asked.rounds):
            before = processor_s()
            tars.append(tar_and_hash(files))
            between = processor_s()
            whole, job, large, done = imported(client, files, f"all{turn}")
            processors.append((between - before, processor_s() - between))
            wholes.append(whole)
            jobs.append(job)
        tars.append(tar_and_hash(files))
        size = done.source.size_bytes
        told["small_version"] = small_version(client, f"all{asked.rounds - 1}")
        told["small_version"]["share"] = told["small_version"]["stored_bytes"] / size  # type: ignore[index]
    tar, whole, job = (statistics.median(each) for each in (tars, wholes, jobs))
    told |= {"tar_s": tars, "import_s": wholes, "job_s": jobs, "source_bytes": size}
    told |= {"processor_s_of_tar_and_of_import": processors}
    told |= {
        "speed_of_tar": asked.count / tar,
        "speed_of_import": asked.count / whole,
        "ratio": tar / whole,
        "ratio_of_job": tar / job,
    }
    told |= {"peak_bytes_of_a_tenth": small, "peak_bytes": large}
    print(json.dumps(told, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
