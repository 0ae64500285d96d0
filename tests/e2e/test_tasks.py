"""Tasks beyond classes of pictures, as a user goes: `modelyard auto` on files as they come, then `modelyard predict`."""

from __future__ import annotations

import csv
import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.support.machines import CHANNELS, WRONG, demand, machine
from tests.support.shapes import NAMES, SIDE, write_shapes
from tests.support.tables import credit_table
from tests.support.waves import RANDOM_SEED, series, sound

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

COUNTS = {"train": 120, "val": 30, "test": 60}
DATA = Path(os.environ.get("MODELYARD_DATA") or Path(__file__).resolve().parents[3] / "shared" / "data")


def run(folder: Path, *arguments: object) -> Any:
    """The document that a command prints; it must end well."""
    command = [sys.executable, "-m", "modelyard.cli", *map(str, arguments), "--data-dir", str(folder / "data"), "--json"]
    environment = {key: value for key, value in os.environ.items() if key != "MODELYARD_SERVER"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False, env=environment)
    assert "Traceback" not in done.stderr, done.stderr
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(done.stdout.strip().splitlines()[-1])


def test_objects_are_found_and_drawn(tmp_path: Path) -> None:
    write_shapes(tmp_path / "shapes", COUNTS)
    options = ("--recipe", "detector-micro", "--max-train-time", "45s", "--precision", "int8", "--max-loss", "0.2")
    made = run(tmp_path, "auto", tmp_path / "shapes", "--name", "shapes", "--floor", "map_50=0.3", *options)
    assert made["state"] == "SUCCEEDED"
    assert made["gate"]["verdict"] == "DEPLOY"
    assert made["metrics"]["test"]["map_50"] >= 0.3
    names = {test["name"] for test in made["gate"]["tests"]}
    assert {"baseline:picture_ap50", "parent:picture_ap50", "floor:map_50"} <= names
    pictures = sorted((tmp_path / "shapes" / "test").glob("*.png"))[:3]
    answer = run(tmp_path, "predict", "shapes", *pictures, "--draw", tmp_path / "drawn", "--min-score", 0.2)
    assert len(answer["predictions"]) == 3
    found = [one for each in answer["predictions"] for one in each["objects"]]
    assert found
    for one in found:
        assert one["label"] in NAMES
        assert all(0 <= share <= 1 for share in one["box"])
        assert one["pixels"] == pytest.approx([share * SIDE for share in one["box"]], abs=0.1)
    assert len(list((tmp_path / "drawn").glob("*.png"))) == 3


def test_every_pixel_gets_its_class(tmp_path: Path) -> None:
    write_shapes(tmp_path / "shapes", COUNTS, masks=True)
    options = ("--recipe", "segmenter-micro", "--max-train-time", "30s", "--floor", "mean_iou=0.4")
    made = run(tmp_path, "auto", tmp_path / "shapes", "--name", "shapes", *options)
    assert made["gate"]["verdict"] == "DEPLOY"
    picture = next((tmp_path / "shapes" / "test").glob("*.png"))
    (answer,) = run(tmp_path, "predict", "shapes", picture, "--draw", tmp_path / "drawn")["predictions"]
    assert sum(answer["shares"].values()) == pytest.approx(1, abs=0.01)
    assert next(iter(answer["shares"])) == "ground"


def test_sounds_and_series_are_told_apart(tmp_path: Path) -> None:
    random = np.random.default_rng(RANDOM_SEED)
    for kind, name in enumerate(("high", "low")):
        (tmp_path / "sounds" / name).mkdir(parents=True)
        for place in range(120):
            (tmp_path / "sounds" / name / f"{place}.wav").write_bytes(sound(kind, random))
    options = ("--recipe", "sound-dscnn-micro", "--max-train-time", "25s", "--split", "ratio", "--train-ratio", "0.6")
    options += ("--format", "litert", "--precision", "int8", "--max-loss", "0.1")
    made = run(tmp_path, "auto", tmp_path / "sounds", "--name", "sounds", *options)
    assert made["gate"]["verdict"] == "DEPLOY"
    (answer,) = run(tmp_path, "predict", "sounds", tmp_path / "sounds" / "low" / "3.wav")["predictions"]
    assert answer["label"] == "low"
    folder = tmp_path / "waves"
    folder.mkdir()
    for part, count in (("TRAIN", 60), ("TEST", 60)):
        lines = ["@problemName waves", "@univariate true", "@classLabel true high low", "@data"]
        for place in range(count):
            values = np.nan_to_num(series(place % 2, random))[:, 0]
            lines.append(",".join(f"{value:.5f}" for value in values) + f":{('high', 'low')[place % 2]}")
        (folder / f"waves_{part}.ts").write_text("\n".join(lines) + "\n")
    made = run(tmp_path, "auto", folder, "--name", "waves")
    assert made["gate"]["verdict"] == "DEPLOY"
    (tmp_path / "one.csv").write_text("\n".join(f"{value:.5f}" for value in np.nan_to_num(series(1, random))[:, 0]))
    (answer,) = run(tmp_path, "predict", "waves", "--series", tmp_path / "one.csv")["predictions"]
    assert answer["label"] == "low"


def test_a_network_learns_real_series_and_is_served_in_eight_bits(tmp_path: Path) -> None:
    """GunPoint by InceptionTime: trained within a limit, exported as floats and as integers, both scored, judged, asked."""
    folder = DATA / "timeseries" / "GunPoint"
    if not folder.is_dir():
        pytest.skip("GunPoint of the UCR archive is not here (MODELYARD_DATA)")
    options = ("--recipe", "inceptiontime-small", "--max-train-time", "3m", "--precision", "int8", "--max-loss", "0.1")
    made = run(tmp_path, "auto", folder, "--name", "gestures", *options)
    assert (made["state"], made["gate"]["verdict"]) == ("SUCCEEDED", "DEPLOY")
    assert {"baseline:accuracy", "parent:accuracy"} <= {test["name"] for test in made["gate"]["tests"]}
    assert made["metrics"]["test"]["accuracy"] > 0.7
    lines = (folder / "GunPoint_TEST.ts").read_text().splitlines()
    rows = [line.rpartition(":") for line in lines[lines.index("@data") + 1 :] if line][:12]
    paths = [tmp_path / f"{place}.csv" for place in range(len(rows))]
    for path, (values, _, _) in zip(paths, rows, strict=True):
        path.write_text("\n".join(values.split(",")) + "\n")
    asked = [word for path in paths for word in ("--series", path)]
    answers = run(tmp_path, "predict", "gestures", *asked)["predictions"]
    right = sum(answer["label"] == label.strip() for answer, (_, _, label) in zip(answers, rows, strict=True))
    assert right > len(rows) / 2


def test_a_network_of_rows_is_trained_by_keras_and_served(tmp_path: Path) -> None:
    if importlib.util.find_spec("tensorflow") is None:
        pytest.skip("tensorflow is not installed")
    table = credit_table(600)
    names = [name for name in table if name not in ("level", "limit")]
    rows = [["" if value is None else value for value in row] for row in zip(*(table[name] for name in names), strict=True)]
    with (tmp_path / "credit.csv").open("w", newline="") as file:
        csv.writer(file).writerows([names, *rows])
    options = ("--task", "tabular_classification", "--label", "good", "--recipe", "mlp-keras", "--max-train-time", "5m")
    made = run(tmp_path, "auto", tmp_path / "credit.csv", "--name", "credit", *options)
    assert (made["state"], made["gate"]["verdict"]) == ("SUCCEEDED", "DEPLOY")
    (job,) = run(tmp_path, "runs", "list")["training_jobs"]
    assert job["resolved_recipe"]["framework"] == "tensorflow"
    safe = {"amount": 3.0, "purpose": "house", "town": "town 3", "age": 75}
    risky = {"amount": 300.0, "purpose": "car", "town": "town 3", "age": 20}
    asked = [word for row in (safe, risky) for word in ("--row", json.dumps(row))]
    answers = run(tmp_path, "predict", "credit", *asked)["predictions"]
    assert [answer["label"] for answer in answers] == ["yes", "no"]


def write_machines(folder: Path, count: int) -> None:
    """CSV files of recordings, every second with a stretch that is labelled."""
    random = np.random.default_rng(RANDOM_SEED)
    folder.mkdir()
    for place in range(count):
        wrong = place % 2 == 1
        lines = [",".join(("time", *CHANNELS, "anomaly"))]
        for at, row in enumerate(machine(place, random, wrong=wrong)):
            values = ("" if np.isnan(value) else f"{value:.5f}" for value in row)
            lines.append(",".join((str(at), *values, str(int(wrong and WRONG[0] <= at < WRONG[1])))))
        (folder / f"m{place}.csv").write_text("\n".join(lines) + "\n")


def test_anomalies_of_machines_are_named_and_series_are_forecast(tmp_path: Path) -> None:
    write_machines(tmp_path / "machines", 40)
    made = run(tmp_path, "auto", tmp_path / "machines", "--name", "machines", "--recipe", "sensor-hotelling", "--floor", "f1=0.6")
    assert made["gate"]["verdict"] == "DEPLOY"
    assert {"baseline:balanced_accuracy", "floor:f1"} <= {test["name"] for test in made["gate"]["tests"]}
    (answer,) = run(tmp_path, "predict", "machines", "--series", tmp_path / "machines" / "m1.csv")["predictions"]
    assert answer["state"] == "normal"  # at its end all is well again
    longest = max(answer["anomalies"], key=lambda each: each["last"] - each["first"])
    assert abs(longest["first"] - WRONG[0]) < 30
    assert abs(longest["last"] - WRONG[1]) < 40
    whole = demand(600, 0)[:, 0]
    rows = [f"{at},{at},{value:.4f}" for at, value in enumerate(whole)]
    (tmp_path / "demand.csv").write_text("\n".join(["rownames,time,value", *rows[:560]]) + "\n")
    options = ("--task", "forecasting", "--recipe", "forecast-linear", "--floor", "mase=1")
    made = run(tmp_path, "auto", tmp_path / "demand.csv", "--name", "demand", *options)
    assert made["gate"]["verdict"] == "DEPLOY"
    (said,) = run(tmp_path, "predict", "demand", "--series", tmp_path / "demand.csv")["predictions"]
    came = whole[560 : 560 + len(said["forecast"])]
    assert np.abs(np.ravel(said["forecast"]) - came).mean() < 1.5
    assert np.mean((np.ravel(said["lower"]) <= came) & (came <= np.ravel(said["upper"]))) > 0.6
