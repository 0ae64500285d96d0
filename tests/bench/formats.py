"""The table of formats and precisions of docs/benchmarks.md: size, latency, accuracy and what is lost against float.

`python tests/bench/formats.py [NAME ...] [--data-dir FOLDER] [--minutes 10] [--most 0] [--seconds 2]`

NAME is fashion_mnist or flowers128 (both). The model is the newest version in the data folder of a `modelyard up`; where there is
none, `modelyard auto` trains one for --minutes. Every form is made by the exporter's own functions, scored on the test examples
(--most of them; 0: all) in the runtime that serves it, and timed with one thread in a process of its own for --seconds.
The difference is paired: over the same examples, with its 95 percent interval. `agrees` is the share of test examples on which a
form predicts what ONNX int8 predicts.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "services"), str(ROOT / "clients")]

import numpy as np  # noqa: E402

from modelyard.core.artifacts import ArtifactStore, open_store  # noqa: E402
from modelyard.core.errors import Unavailable  # noqa: E402
from modelyard.core.jobs.convert import blob_from  # noqa: E402
from modelyard.exporter.domain.form import PRECISIONS_OF, Form  # noqa: E402
from modelyard.exporter.worker.calibration import draw  # noqa: E402
from modelyard.exporter.worker.export import write_export  # noqa: E402
from modelyard.exporter.worker.picture_graph import served_model  # noqa: E402
from modelyard.formats.bundle import Source, open_bundle  # noqa: E402
from modelyard.formats.dataset import TEST, DatasetReader, open_dataset  # noqa: E402
from modelyard.formats.model import ModelFile, read_model  # noqa: E402
from modelyard.runtime.latency import measure  # noqa: E402
from modelyard.runtime.model import load_model  # noqa: E402
from tests.bench.real_data import DATA, run  # noqa: E402

NAMES = ("fashion_mnist", "flowers128")
FORMS = [Form(format, precision) for format, precisions in PRECISIONS_OF.items() for precision in precisions]
HEAD = ("format", "precision", "size", "of float", "p50, 1 thread", "accuracy", "difference (95 %)", "agrees", "made in")


@dataclass(frozen=True)
class Trained:
    """A model version and its data."""

    name: str
    file: ModelFile
    reader: DatasetReader
    store: ArtifactStore


@dataclass(frozen=True)
class Row:
    """One form: sizes in bytes, times in milliseconds (latency) and seconds (made)."""

    form: Form
    size: int
    p50_ms: float
    right: Any
    labels: Any
    made_s: float


def trained(name: str, data_dir: Path, minutes: float) -> Trained:
    """The newest version of the model of that name; trained when there is none."""
    from modelyard.client import Client, NotFound
    from modelyard.embedded import start

    dataset = name.replace("_", "-")
    for attempt in range(2):
        running = start(data_dir)
        try:
            with Client(running.address) as client:
                version = client.models.get_model_version(f"{dataset}/latest")
                data = client.datasets.get_dataset_version(version.dataset_version)
            break
        except NotFound:
            if attempt:
                raise
        finally:
            running.stop()
        run(name, [str(DATA / name), "--max-train-time", f"{minutes:g}m"], data_dir)
    store = open_store(f"file://{data_dir / 'artifacts'}", "bench")
    file = read_model(store.path(blob_from(version.model_file)))
    return Trained(name, file, open_dataset(store, blob_from(data.descriptor_blob)), store)


def rows(model: Trained, folder: Path, most: int, seconds: float) -> list[Row]:
    """Every form, made and measured."""
    card = model.file.card
    if card.input is None:
        raise SystemExit(f"{model.name}: the model is no picture classifier")
    positions = model.reader.indices(TEST)[: most or None]
    pictures = model.reader.decode(positions, card.input.height, card.input.width, card.input.channels)
    wanted = model.reader.labels(TEST)[: most or None]
    served, calibration = served_model(model.file), draw(model.reader, card.input)
    found = []
    for form in FORMS:
        path = folder / f"{model.name}-{form.format}-{form.precision}.bundle"
        start = time.perf_counter()
        write_export(
            served, model.reader, path, form, Source(), picture=card.input, calibration=calibration, classes=card.classes
        )
        made_s = time.perf_counter() - start
        labels = answers(path, pictures)
        found.append(Row(form, open_bundle(path).model_size, p50_ms(path, seconds), labels == wanted, labels, made_s))
        print(f"{model.name}: {form.format} {form.precision} made in {made_s:.1f} s", flush=True)
    return found


def p50_ms(path: Path, seconds: float) -> float:
    """Milliseconds; NaN where a busy machine did not get the measurement done."""
    try:
        return measure(path, "cpu-1core", seconds=seconds).p50_ms
    except Unavailable:
        return float("nan")


def answers(path: Path, pictures: Any) -> Any:
    """Class indices [N]."""
    model = load_model(open_bundle(path))
    try:
        parts = [model.run({"image": pictures[start : start + 64]})["probabilities"] for start in range(0, len(pictures), 64)]
    finally:
        model.close()
    return np.concatenate(parts).argmax(axis=1)


def shown(row: Row, floating: Row, integer: Row) -> tuple[str, ...]:
    """The row as text, in the order of HEAD."""
    difference = row.right.astype(float) - floating.right.astype(float)
    half = 1.96 * float(difference.std()) / len(difference) ** 0.5
    return (
        row.form.format,
        row.form.precision,
        f"{row.size / 1000:.0f} kB",
        f"{row.size / floating.size:.3f}",
        f"{row.p50_ms:.2f} ms",
        f"{float(row.right.mean()):.4f}",
        f"{float(difference.mean()):+.4f} ± {half:.4f}",
        f"{float((row.labels == integer.labels).mean()):.4f}",
        f"{row.made_s:.1f} s",
    )


def table(found: list[Row]) -> str:
    """Markdown. Each form's size is a share of the float form of its own format, where that is made."""
    integer = next(row for row in found if (row.form.format, row.form.precision) == ("onnx", "int8"))
    lines = [f"| {' | '.join(HEAD)} |", "|---" * len(HEAD) + "|"]
    for row in found:
        same = {"edge": "litert"}.get(row.form.format, row.form.format)
        floating = next(each for each in found if (each.form.format, each.form.precision) == (same, "fp32"))
        lines.append(f"| {' | '.join(shown(row, floating, integer))} |")
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", default=NAMES, metavar="NAME")
    parser.add_argument("--data-dir", type=Path, default=None)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--most", type=int, default=0)
    parser.add_argument("--seconds", type=float, default=2.0)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="modelyard-formats-") as folder:
        data_dir = given.data_dir or Path(folder) / "data"
        data_dir.mkdir(parents=True, exist_ok=True)
        for name in given.names:
            model = trained(name, data_dir, given.minutes)
            found = rows(model, Path(folder), given.most, given.seconds)
            card, count = model.file.card, len(found[0].right)
            print(f"\n{name}: {card.architecture}, {count} test examples\n\n{table(found)}\n", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
