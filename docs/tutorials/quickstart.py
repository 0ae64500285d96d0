"""The main job on real data, as `make quickstart` runs it: scikit-learn's handwritten digits, written out as pictures in one
folder per class, become a served endpoint; then one picture is sent to it. Every command is printed before it runs.

What it makes is kept where `modelyard up` looks (MODELYARD_DATA_DIR, else ~/.modelyard): the console shows the run.
"""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from sklearn.datasets import load_digits

HELD_BACK = 5
"""Pictures that the data set does not get: the endpoint has never seen them."""

COMMAND = Path(sys.executable).with_name("modelyard")


def write_digits(folder: Path) -> list[tuple[Path, str]]:
    """Write the 1,797 digits as folder/digits/CLASS/NUMBER.png; gives the pictures held back, with their true class."""
    digits = load_digits()
    held_back = []
    for number, (pixels, label) in enumerate(zip(digits.images, digits.target, strict=True)):
        unseen = number >= len(digits.images) - HELD_BACK
        path = folder / ("unseen" if unseen else f"digits/{label}") / f"{number:04}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray((pixels * 255 / 16).astype(np.uint8)).resize((32, 32), Image.Resampling.BICUBIC).save(path)
        if unseen:
            held_back.append((path, str(label)))
    return held_back


def modelyard(*arguments: str) -> dict[str, Any]:
    """Run a command of the CLI with --json; what it shows goes to the terminal, its last line is given back."""
    print(f"\n$ modelyard {shlex.join(arguments)}", flush=True)
    command = [str(COMMAND), *arguments, "--json"]
    output = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    if output.returncode != 0:
        sys.exit(f"modelyard ended with status {output.returncode}\n{output.stdout}")
    answer: dict[str, Any] = json.loads(output.stdout.strip().splitlines()[-1])
    return answer


def print_summary(run: dict[str, Any]) -> None:
    """The few lines that matter of what `auto` says."""
    latency, test = run["latency_ms"], run["metrics"]["test"]
    print(f"\nmodel version  {run['model_version']}\nexport sha256  {run['export_sha256']}")
    print(f"test accuracy  {test['accuracy']:.4f} of the exported bytes\nlatency        {latency['p50']} ms (median)")
    print(f"gate           {run['gate']['verdict']}", *run["gate"]["reasons"], sep="\n                 ")
    print(f"endpoint       {run['endpoint']}\n")


def main() -> int:
    with tempfile.TemporaryDirectory(prefix="modelyard-quickstart-") as name:
        folder = Path(name)
        print("==> Writing scikit-learn's digits as pictures, one folder per class", flush=True)
        unseen = write_digits(folder)
        print("==> From the folder to a served endpoint: import, check, split, train, export, evaluate, gate, deploy", flush=True)
        run = modelyard(
            "auto", str(folder / "digits"), "--name", "quickstart-digits", "--max-train-time", "60s", "--min-accuracy", "0.95"
        )
        print_summary(run)
        print("==> A picture the data set never had, sent to the endpoint", flush=True)
        picture, label = unseen[0]
        answer = modelyard("predict", "quickstart-digits", str(picture))
        said = answer["predictions"][0]
        print(f"\nThe endpoint ({said['model_version']}) answers {said['label']}; the picture shows a {label}.")
    print(f"\n==> To see the run in a browser: {os.path.relpath(COMMAND)} up, and open the link that it prints")
    return 0


if __name__ == "__main__":
    sys.exit(main())
