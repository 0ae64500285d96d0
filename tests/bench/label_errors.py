"""How well a quality report finds wrong labels: `python tests/bench/label_errors.py [NAME ...] [--share 0.05] [--seed 0]`.

NAME is fashion_mnist (its 60,000 training pictures), flowers128, fsdd, titanic, digits, a set of series (ItalyPowerDemand,
GunPoint) or a table of a number to predict (california_housing, diamonds, mpg). A share of the labels is moved to another class
at random (numbers: exchanged among rows), the whole is imported, and the report's own job is run as a worker runs it. Printed, as
a table for docs/quality.md and as a JSON object a line: precision of all labels that the report names, their recall, precision
at recall 0.6 (the surest first), how many suggested classes are the right ones, seconds and processor seconds of the report,
and its peak memory with its processes'. Needs the data sets of tests marked `data`, but for digits.
"""

from __future__ import annotations

import argparse
import gzip
import io
import json
import os
import resource
import struct
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "services"), str(ROOT / "clients")]

import numpy as np  # noqa: E402

from modelyard.core.artifacts import open_store  # noqa: E402
from modelyard.dataset.domain.records import ImportSpec, ReportSpec  # noqa: E402
from modelyard.dataset.domain.work import Work  # noqa: E402
from modelyard.dataset.worker import import_job, report_job  # noqa: E402
from modelyard.formats.dataset import load_manifest  # noqa: E402
from modelyard.formats.pictures import encode_png  # noqa: E402

DATA = Path(os.environ.get("MODELYARD_DATA") or ROOT.parent / "shared" / "data")
RECALL = 0.6

Made = tuple[bytes, str, dict[str, str]]
"""A source's bytes and file name, and the true class of each example whose label was moved, by its path."""


class Mover:
    """Moves a share of labels to another class at random, and remembers what they were."""

    def __init__(self, share: float, seed: int) -> None:
        self.share, self.seed = share, seed
        self._share, self._rng = share, np.random.default_rng(seed)

    def __call__(self, labels: list[str]) -> list[str]:
        """The labels with a share of them moved."""
        classes = sorted(set(labels))
        moved = list(labels)
        for place in self._rng.choice(len(labels), round(self._share * len(labels)), replace=False):
            others = [name for name in classes if name != labels[place]]
            moved[place] = others[self._rng.integers(len(others))]
        return moved


def fashion_mnist(move: Mover) -> Made:
    folder = DATA / "fashion_mnist"
    labels = np.frombuffer(gzip.decompress((folder / "train-labels-idx1-ubyte.gz").read_bytes()), np.uint8, offset=8)
    images = gzip.decompress((folder / "train-images-idx3-ubyte.gz").read_bytes())
    moved = move([str(label) for label in labels])
    said = struct.pack(">II", 0x801, len(moved)) + bytes(int(label) for label in moved)
    truth = {f"train-images-idx3-ubyte[{i}]": str(a) for i, (a, b) in enumerate(zip(labels, moved, strict=True)) if str(a) != b}
    return zipped({"train-images-idx3-ubyte": images, "train-labels-idx1-ubyte": said}), "fashion.zip", truth


def flowers128(move: Mover) -> Made:
    paths = sorted(path for path in (DATA / "flowers128").rglob("*") if path.suffix.lower() in (".jpg", ".jpeg", ".png"))
    return foldered([(path.parent.name, path.name, path.read_bytes()) for path in paths], move, "flowers.zip")


def fsdd(move: Mover) -> Made:
    paths = sorted((DATA / "fsdd").rglob("*.wav"))
    return foldered([(path.name.partition("_")[0], path.name, path.read_bytes()) for path in paths], move, "fsdd.zip")


def digits(move: Mover) -> Made:
    from sklearn.datasets import load_digits

    data = load_digits()
    pixels = np.kron((data.images * 15).astype(np.uint8), np.ones((4, 4), np.uint8))
    files = [
        (str(label), f"{i}.png", encode_png(image)) for i, (label, image) in enumerate(zip(data.target, pixels, strict=True))
    ]
    return foldered(files, move, "digits.zip")


def titanic(move: Mover) -> Made:
    lines = (DATA / "tabular" / "titanic.csv").read_text().strip().splitlines()
    header, rows = lines[0].split(","), [line.split(",") for line in lines[1:]]
    at, leak = header.index("survived"), header.index("alive")
    labels = [row[at] for row in rows]
    moved = move(labels)
    truth = {f"row {i + 1}": a for i, (a, b) in enumerate(zip(labels, moved, strict=True)) if a != b}
    kept = [[b if i == at else cell for i, cell in enumerate(row) if i != leak] for row, b in zip(rows, moved, strict=True)]
    text = "\n".join(",".join(row) for row in [[name for name in header if name != "alive"], *kept])
    return text.encode(), "titanic.csv", truth


class Shuffler(Mover):
    """Gives a share of numbers to predict those of other rows."""

    def numbers(self, values: list[str]) -> list[str]:
        """The numbers with a share of them exchanged among each other."""
        moved, places = list(values), self._rng.choice(len(values), round(self._share * len(values)), replace=False)
        for place, other in zip(places, self._rng.permutation(places), strict=True):
            moved[place] = values[other]
        return moved


def regression(name: str, target: str, left_out: tuple[str, ...] = ()) -> Callable[[Mover], Made]:
    """A table of a number to predict; a share of the rows say another row's."""

    def made(move: Mover) -> Made:
        lines = (DATA / "tabular" / f"{name}.csv").read_text().strip().splitlines()
        header, rows = lines[0].split(","), [line.split(",") for line in lines[1:]]
        at = header.index(target)
        moved = Shuffler(move.share, move.seed).numbers([row[at] for row in rows])
        truth = {f"row {i + 1}": row[at] for i, (row, said) in enumerate(zip(rows, moved, strict=True)) if row[at] != said}
        kept = [i for i, column in enumerate(header) if column not in left_out]
        text = [[said if i == at else row[i] for i in kept] for row, said in zip(rows, moved, strict=True)]
        return "\n".join(",".join(row) for row in [[header[i] for i in kept], *text]).encode(), f"{name}.csv", truth

    return made


def series(name: str) -> Callable[[Mover], Made]:
    """Series in .ts files, of which a share of the classes is moved."""

    def made(move: Mover) -> Made:
        files, truth = {}, {}
        for path in sorted((DATA / "timeseries" / name).glob("*.ts")):
            lines = path.read_text().strip().splitlines()
            first = next(i for i, line in enumerate(lines) if line.lower().startswith("@data")) + 1
            labels = [line.rpartition(":")[2] for line in lines[first:]]
            moved = move(labels)
            truth |= {f"{path.name}[{i}]": a for i, (a, b) in enumerate(zip(labels, moved, strict=True)) if a != b}
            said = [f"{line.rpartition(':')[0]}:{label}" for line, label in zip(lines[first:], moved, strict=True)]
            files[path.name] = "\n".join([*lines[:first], *said]).encode()
        return zipped(files), f"{name}.zip", truth

    return made


def foldered(files: list[tuple[str, str, bytes]], move: Mover, name: str) -> Made:
    """A zip of class folders; files are (class, file name, bytes)."""
    labels = [label for label, _, _ in files]
    moved = move(labels)
    entries, truth = {}, {}
    for (label, file, data), said in zip(files, moved, strict=True):
        path = f"{said}/{label}-{file}" if label != said else f"{said}/{file}"
        entries[path] = data
        if label != said:
            truth[path] = label
    return zipped(entries), name, truth


def zipped(files: dict[str, bytes]) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return out.getvalue()


SOURCES: dict[str, Callable[[Mover], Made]] = {
    "fashion_mnist": fashion_mnist,
    "flowers128": flowers128,
    "fsdd": fsdd,
    "titanic": titanic,
    "digits": digits,
    "ItalyPowerDemand": series("ItalyPowerDemand"),
    "GunPoint": series("GunPoint"),
    "california_housing": regression("california_housing", "median_house_value"),
    "diamonds": regression("diamonds", "price"),
    "mpg": regression("mpg", "mpg", ("name",)),
}
TARGETS = {"titanic": "survived", "california_housing": "median_house_value", "diamonds": "price", "mpg": "mpg"}


def measured(name: str, share: float, seed: int, folder: Path) -> dict[str, Any]:
    """Imports, checks, and compares what the report names with what was moved."""
    source, file_name, truth = SOURCES[name](Mover(share, seed))
    store = open_store(f"file://{folder / 'artifacts'}", "dataset")
    spec = ImportSpec("d", store.put_bytes(source), file_name, label_column=TARGETS.get(name, ""))
    for each in ("import", "report"):
        (folder / each).mkdir()
    imported = import_job.run(spec, store, folder / "import", Work())
    start, spent = time.perf_counter(), _processor()
    report = report_job.run(ReportSpec("d", "i", imported), store, folder / "report", Work())
    seconds, processor = time.perf_counter() - start, _processor() - spent
    rows = load_manifest(store, imported.content, ["example_id", "path", "label"]).to_pylist()
    of = {row["example_id"]: row["path"] for row in rows}
    named: list[tuple[str, str]] = []
    for finding in report.findings:
        if finding.kind == "LABEL_ERRORS" and finding.fix:
            suggested = finding.fix.labels or ("",) * len(finding.fix.examples)
            named = [(of[id_], label) for id_, label in zip(finding.fix.examples, suggested, strict=True)]
    hits = np.array([path in truth for path, _ in named], bool)
    right = [truth[path] == label for (path, label), hit in zip(named, hits, strict=True) if hit and label]
    found = np.cumsum(hits)
    enough = np.flatnonzero(found >= RECALL * len(truth))
    return {
        "name": name,
        "examples": len(rows),
        "moved": len(truth),
        "named": len(named),
        "precision": round(float(hits.mean()), 4) if len(hits) else 0.0,
        "recall": round(float(hits.sum() / len(truth)), 4),
        "precision_at_recall_0.6": round(float(found[enough[0]] / (enough[0] + 1)), 4) if len(enough) else None,
        "suggestions_right": round(float(np.mean(right)), 4) if right else None,
        "seconds": round(seconds, 1),
        "processor_seconds": round(processor, 1),
        "peak_mib": round(max(resource.getrusage(who).ru_maxrss for who in _WHO) / 1024),
        "notes": report.notes,
    }


_WHO = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)


def _processor() -> float:
    return sum(usage.ru_utime + usage.ru_stime for usage in map(resource.getrusage, _WHO))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(SOURCES))
    parser.add_argument("--share", type=float, default=0.05, help="share of the labels that is moved")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    print(
        "| data | examples | wrong | named | precision | recall | precision at recall 0.6 | suggestions right | seconds | MiB |"
    )
    print("|---|---|---|---|---|---|---|---|---|---|")
    answers = []
    for name in given.names or SOURCES:
        with tempfile.TemporaryDirectory() as folder:
            answers.append(measured(name, given.share, given.seed, Path(folder)))
        keys = ("name", "examples", "moved", "named", "precision", "recall", "precision_at_recall_0.6", "suggestions_right")
        print("| " + " | ".join(str(answers[-1][key]) for key in (*keys, "seconds", "peak_mib")) + " |", flush=True)
    for answer in answers:
        print(json.dumps(answer))
    return 0


if __name__ == "__main__":
    sys.exit(main())
