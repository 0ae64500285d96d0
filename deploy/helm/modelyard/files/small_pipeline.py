"""From a folder of handwritten digits to a prediction, through the gateway. Run by `helm test`."""

import json
import os
import subprocess
import sys
from pathlib import Path

from PIL import Image
from sklearn.datasets import load_digits

NAME = "helm-test"


def modelyard(*arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "modelyard.cli", *arguments, "--server", os.environ["MODELYARD_SERVER"]],
        stdout=subprocess.PIPE,
        text=True,
        check=False,
    )
    if done.returncode:
        sys.exit(f"modelyard {arguments[0]} ended with {done.returncode}: {done.stdout}")
    return done.stdout


digits = load_digits()
for number, (pixels, label) in enumerate(zip(digits.images[:600], digits.target[:600], strict=True)):
    folder = Path("/tmp/digits", str(label))  # noqa: S108 - the pod's own volume
    folder.mkdir(parents=True, exist_ok=True)
    Image.fromarray((pixels * 15.9).astype("uint8")).resize((32, 32)).save(folder / f"{number}.png")
seconds = os.environ["TRAIN_SECONDS"]
modelyard("auto", "/tmp/digits", "--name", NAME, "--max-train-time", f"{seconds}s", "--min-accuracy", "0.5")
seven = next(Path("/tmp/digits/7").iterdir())
answer = json.loads(modelyard("predict", NAME, str(seven), "--json"))
print(json.dumps(answer)[:400])
