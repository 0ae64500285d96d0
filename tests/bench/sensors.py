"""Detectors of anomalies on skab: `python tests/bench/sensors.py [--recipes NAME ...] [--clean] [--folds 5] [--seeds 2]`.

Every recording is in the test once a seed: the recordings are dealt into folds at random, one fold is the test, a sixth of the
others validates, the rest is learned from; the exported bundle is scored as an evaluation scores it. Nothing is set for the data.
Printed: F1 of all test readings together (each seed), false alarms, recall, ROC AUC, seconds a fold, and the F1 of calling every
judged reading anomalous. `--clean`: with the long recording without an anomaly. Needs the data sets of tests marked `data`.
"""

from __future__ import annotations

import argparse
import csv
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "services"), str(ROOT / "clients")]

import numpy as np  # noqa: E402

from modelyard.dataset.domain.recordings import runs  # noqa: E402
from modelyard.evaluator.worker.anomaly import ANOMALY  # noqa: E402
from modelyard.exporter.worker.export import export_model  # noqa: E402
from modelyard.formats.bundle import Source, open_bundle  # noqa: E402
from modelyard.formats.sensors import ALARM, recordings, watch_of  # noqa: E402
from modelyard.recipes.catalogue import find_recipe  # noqa: E402
from modelyard.runtime.model import load_model  # noqa: E402
from modelyard.trainer.worker.sensors import run_sensor_training  # noqa: E402
from tests.support.datasets import file_store, open_reader  # noqa: E402
from tests.support.machines import publish_recordings  # noqa: E402

DATA = Path(os.environ.get("MODELYARD_DATA") or ROOT.parent / "shared" / "data") / "skab" / "data"
RECIPES = ("sensor-hotelling", "sensor-hotelling-small", "sensor-autoencoder", "sensor-forest")


def read(clean: bool) -> tuple[list[Any], list[Any], list[str]]:
    """Values and anomalous intervals of each recording, and the channels."""
    values, marks, channels = [], [], []
    for path in sorted(DATA.glob("*/*.csv")):
        with path.open(newline="") as file:
            header, *rows = list(csv.reader(file, delimiter=";"))
        if "anomaly" not in header and not clean:
            continue
        channels = [name for name in header if name not in ("datetime", "anomaly", "changepoint")]
        values.append(np.array([[float(row[header.index(name)]) for name in channels] for row in rows]))
        said = [row[header.index("anomaly")] for row in rows] if "anomaly" in header else [""] * len(rows)
        found = runs(["x" if each and float(each) else "" for each in said])
        marks.append([{"start": each.start, "end": each.end, "label": 0} for each in found])
    return values, marks, channels


def fold(name: str, reader: Any, folder: Path) -> tuple[Any, Any, float]:
    """Scores and marks of the test readings, and the seconds it took to learn and export."""
    began = time.monotonic()
    run_sensor_training(reader, find_recipe(name, "anomaly_detection"), folder / "m.zip", {}, lambda *_: None)
    export_model(folder / "m.zip", reader, folder / "m.bundle", Source(), lambda _: None)
    seconds = time.monotonic() - began
    model = load_model(open_bundle(folder / "m.bundle"))
    watch = watch_of({each.name: each.shape for each in model.card.inputs})
    scores, marks = [], []
    for recording in recordings(reader, "test"):
        ends = watch.ends(recording.steps)
        said = ANOMALY.read(model.card, model.run(dict(watch.inputs(recording.values, ends))))
        scores.append(watch.by_reading(said, recording.steps))
        marks.append(recording.anomalous[watch.first :])
    model.close()
    return np.concatenate(scores), np.concatenate(marks), seconds


def auc(scores: Any, marks: Any) -> float:
    """Area under the ROC curve."""
    ranks = np.argsort(np.argsort(scores, kind="stable"), kind="stable") + 1
    count = int(marks.sum())
    return float((ranks[marks].sum() - count * (count + 1) / 2) / (count * (len(marks) - count)))


def main() -> None:
    """Runs and prints."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--recipes", nargs="*", default=list(RECIPES))
    parser.add_argument("--clean", action="store_true")
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--seeds", type=int, default=2)
    asked = parser.parse_args()
    values, marks, channels = read(asked.clean)
    print(f"{len(values)} recordings, {sum(map(len, values))} readings", flush=True)
    for name in asked.recipes:
        for seed in range(asked.seeds):
            order = np.random.default_rng(seed).permutation(len(values))
            found = []
            for held in np.array_split(order, asked.folds):
                others = [place for place in order if place not in held]
                usages = {place: "validation" if at < len(others) // 6 else "train" for at, place in enumerate(others)}
                with tempfile.TemporaryDirectory() as folder:
                    store = file_store(Path(folder) / "artifacts")
                    blob = publish_recordings(
                        store,
                        "anomaly_detection",
                        values,
                        [usages.get(place, "test") for place in range(len(values))],
                        channels,
                        ("anomaly",),
                        intervals=marks,
                    )
                    with open_reader(store, blob) as reader:
                        found.append(fold(name, reader, Path(folder)))
            scores, truth = (np.concatenate([each[part] for each in found]) for part in (0, 1))
            called = scores >= ALARM
            f1 = 2 * (called & truth).sum() / (called.sum() + truth.sum())
            every = 2 * truth.sum() / (len(truth) + truth.sum())
            figures = {
                "F1": f1,
                "false alarms": called[~truth].mean(),
                "recall": called[truth].mean(),
                "ROC AUC": auc(scores, truth),
                "seconds a fold": np.mean([each[2] for each in found]),
                "F1 of calling all": every,
            }
            print(f"{name:24s} seed {seed}: " + ", ".join(f"{what} {value:.3f}" for what, value in figures.items()), flush=True)


if __name__ == "__main__":
    main()
