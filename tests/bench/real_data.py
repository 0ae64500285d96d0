"""The journeys on real data, through the command line: `python tests/bench/real_data.py [NAME ...]`.

Prints a Markdown table (docs/benchmarks.md holds one) and a JSON object a line. Needs the data sets of tests marked `data`.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
DATA = Path(os.environ.get("MODELYARD_DATA") or ROOT.parent / "shared" / "data")

JOURNEYS: dict[str, tuple[list[str], str]] = {
    "fashion_mnist": ([str(DATA / "fashion_mnist"), "--max-train-time", "10m"], "test accuracy"),
    "fashion_small": ([str(DATA / "fashion_mnist"), "--max-train-time", "20m", "--max-size", "150KB"], "test accuracy"),
    "camvid": ([str(DATA / "camvid"), "--max-train-time", "20m"], "test mean_iou"),
    "bccd": ([str(DATA / "bccd/BCCD"), "--max-train-time", "20m"], "test map_50"),
    "flowers128": ([str(DATA / "flowers128"), "--max-train-time", "10m"], "test accuracy"),
    "fsdd_index": (
        [str(DATA / "fsdd/recordings"), "--test-where", "{digit}_{speaker}_{value} < 5", "--max-train-time", "12m"],
        "test accuracy",
    ),
    "fsdd_speaker": (
        [str(DATA / "fsdd/recordings"), "--group-by", "{digit}_{group}_{number}", "--max-train-time", "7m"],
        "test accuracy",
    ),
    "fsdd_micro": (
        [
            *(str(DATA / "fsdd/recordings"), "--test-where", "{digit}_{speaker}_{value} < 5", "--recipe", "sound-dscnn-keras"),
            *("--format", "litert", "--precision", "int8", "--max-train-time", "7m"),
        ],
        "test accuracy",
    ),
    "titanic": ([str(DATA / "tabular/titanic.csv"), "--label", "survived"], "test roc_auc"),
    "keel_german": ([str(DATA / "tabular/keel_german.csv"), "--label", "target"], "test roc_auc"),
    "california_housing": ([str(DATA / "tabular/california_housing.csv"), "--label", "median_house_value"], "test rmse"),
}


def run(name: str, arguments: list[str], data_dir: Path) -> dict[str, Any]:
    dataset = name.replace("_", "-")
    command = [
        sys.executable,
        "-m",
        "modelyard.cli",
        "auto",
        *arguments,
        "--name",
        dataset,
        "--json",
        "--data-dir",
        str(data_dir),
    ]
    start = time.perf_counter()
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    answer: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return answer | {"exit_status": done.returncode, "wall_seconds": round(time.perf_counter() - start, 1)}


def default_lightgbm_rmse(data_dir: Path) -> float:
    """RMSE of an untuned LightGBM on the very split that the journey used: the bar for california_housing."""
    import lightgbm
    import numpy as np

    from modelyard.client import Client
    from modelyard.core.artifacts import open_store
    from modelyard.core.jobs.convert import blob_from
    from modelyard.embedded import start
    from modelyard.formats.dataset import open_dataset

    running = start(data_dir)
    with Client(running.address) as client:
        blob = client.datasets.get_dataset_version("california-housing/latest").descriptor_blob
    running.stop()
    reader = open_dataset(open_store(f"file://{data_dir / 'artifacts'}", "bench"), blob_from(blob))
    names = [column.name for column in reader.descriptor.features]
    text = [number for number, column in enumerate(reader.descriptor.features) if column.type == "categorical"]
    codes: dict[str, int] = {}

    def matrix(usage: str) -> Any:
        table = reader.table(usage, columns=names)
        columns = [table.column(name).to_pylist() for name in names]
        for number in text:
            columns[number] = [codes.setdefault(str(value), len(codes)) for value in columns[number]]
        return np.array(columns, dtype=np.float64).T

    model = lightgbm.LGBMRegressor(verbose=-1).fit(matrix("train"), reader.labels("train"), categorical_feature=text or "auto")
    return float(np.sqrt(np.mean(np.square(model.predict(matrix("test")) - reader.labels("test")))))


def row(name: str, figure: str, answer: dict[str, Any]) -> str:
    usage, metric = figure.split()
    value = answer.get("metrics", {}).get(usage, {}).get(metric, float("nan"))
    recipe = answer.get("recipe", answer.get("recipe_id", ""))
    latency = (answer.get("latency_ms") or {}).get("p95", float("nan"))
    verdict = (answer.get("gate") or {}).get("verdict", answer.get("state"))
    seconds = f"{answer.get('train_seconds') or 0.0:.0f} s | {answer['wall_seconds']:.0f} s"
    return f"| {name} | {recipe} | {figure} {value:.4f} | {seconds} | {latency:.2f} ms | {verdict} |"


def main() -> int:
    names = sys.argv[1:] or list(JOURNEYS)
    rows = ["| data | recipe | figure | training | whole run | p95 latency | gate |", "|---|---|---|---|---|---|---|"]
    with tempfile.TemporaryDirectory(prefix="modelyard-bench-") as folder:
        for name in names:
            arguments, figure = JOURNEYS[name]
            answer = run(name, arguments, Path(folder))
            print(json.dumps({"name": name, **answer}), flush=True)
            rows.append(row(name, figure, answer))
        if "california_housing" in names:
            rows.append(
                f"\nDefault LightGBM on the same split of california_housing: RMSE {default_lightgbm_rmse(Path(folder)):.1f}"
            )
    print("\n".join(rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())
