"""Training speed: examples/s of our loop against a bare PyTorch loop on the same model, with the same data in memory.

`python tests/bench/training.py [--rounds 12] [--seconds 2.5] [--recipe tinynet] [--side 28] [--channels 1] [--threads 0]`

The bare loop is what one writes by hand: shuffle, take a batch of uint8 pictures, scale, forward, backward, step; in
channels-last memory, with the recipe's optimizer and no augmentation. Ours runs as it does in a job: augmentation of the recipe,
schedule, events, the question whether to stop. The two take turns in one process, so that other work on the machine hits both.
Prints a Markdown table and one JSON object; exits 1 when the median of the rounds' ratios is below --least.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "services")]
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # as the worker has it; read when torch is loaded

import torch  # noqa: E402

from modelyard.formats.model import Normalization  # noqa: E402
from modelyard.recipes.build_image import build  # noqa: E402
from modelyard.recipes.catalogue import DatasetFacts, find_recipe, fit_to_dataset  # noqa: E402
from modelyard.recipes.recipe import Recipe  # noqa: E402
from modelyard.trainer.worker.examples import HeldExamples  # noqa: E402
from modelyard.trainer.worker.loop import train  # noqa: E402
from modelyard.trainer.worker.optimizers import build_optimizer  # noqa: E402
from modelyard.trainer.worker.processors import training_threads  # noqa: E402
from modelyard.trainer.worker.run import Instruction, Setup  # noqa: E402
from modelyard.trainer.worker.tasks.classification import Classification  # noqa: E402

CLASSES = 10


class Timer:
    """Hooks that stop the run once its time is up, and count nothing else."""

    def __init__(self, seconds: float) -> None:
        self.until = time.perf_counter() + seconds

    def on_event(self, event: dict[str, Any]) -> None: ...

    def should_stop(self) -> Instruction:
        return "cancel" if time.perf_counter() > self.until else "continue"

    def save_checkpoint(self, kind: str, path: Path) -> None: ...


def pictures(count: int, side: int, channels: int) -> HeldExamples:
    """Random pictures: what they show costs no time."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randint(0, 256, (count, side, side, channels), dtype=torch.uint8, generator=generator)
    return HeldExamples(x, torch.randint(0, CLASSES, (count,), generator=generator))


def network(recipe: Recipe) -> torch.nn.Module:
    """The recipe's network with random weights."""
    assert recipe.input is not None
    shape = recipe.input
    return build(recipe.architecture, classes=CLASSES, channels=shape.channels, height=shape.height, width=shape.width)


def bare(recipe: Recipe, data: HeldExamples, seconds: float) -> float:
    """Examples per second of a loop without anything around it."""
    settings = recipe.hyperparameters
    module = network(recipe).to(memory_format=torch.channels_last).train()
    optimizer = build_optimizer(module, settings)
    loss_of = torch.nn.CrossEntropyLoss(label_smoothing=settings.label_smoothing)
    done, started = 0, time.perf_counter()
    while True:
        order = torch.randperm(len(data))
        for which in torch.split(order, settings.batch_size):
            x = data.pictures[which].permute(0, 3, 1, 2).float().div_(255).sub_(0.5).div_(0.25)
            optimizer.zero_grad()
            loss_of(module(x), data.labels[which]).backward()
            optimizer.step()
            done += len(which)
            elapsed = time.perf_counter() - started
            if elapsed > seconds:
                return done / elapsed


def ours(recipe: Recipe, data: HeldExamples, seconds: float) -> float:
    """Examples per second of our loop, of the steps and all between them."""
    channels = data.pictures.shape[3]
    with tempfile.TemporaryDirectory() as folder:
        setup = Setup(
            module=network(recipe),
            train=data,
            validation=HeldExamples(data.pictures[:0], data.labels[:0]),
            settings=replace(recipe.hyperparameters, max_epochs=10_000),
            normalization=Normalization((0.5,) * channels, (0.25,) * channels),
            workdir=Path(folder),
            classes=CLASSES,
            learning=Classification(),
            flip=True,
            limit_s=3600.0,
        )
        started = time.perf_counter()
        outcome = train(setup, Timer(seconds))
        return outcome.step * recipe.hyperparameters.batch_size / min(seconds, time.perf_counter() - started)


def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    """Rounds in turn, the first of each thrown away."""
    facts = DatasetFacts("image_classification", 60_000, CLASSES, arguments.side, arguments.side, arguments.channels)
    recipe = fit_to_dataset(find_recipe(arguments.recipe, "image_classification"), facts)
    assert recipe.input is not None
    torch.set_num_threads(arguments.threads or training_threads())
    data = pictures(arguments.examples, recipe.input.height, recipe.input.channels)
    bare(recipe, data, 1.0)
    ours(recipe, data, 1.0)
    pairs = []
    for number in range(arguments.rounds):
        first, second = (bare, ours) if number % 2 == 0 else (ours, bare)
        speeds = {each: each(recipe, data, arguments.seconds) for each in (first, second)}
        pairs.append((speeds[bare], speeds[ours]))
    return {
        "recipe": recipe.name,
        "input": [recipe.input.height, recipe.input.width, recipe.input.channels],
        "batch_size": recipe.hyperparameters.batch_size,
        "threads": torch.get_num_threads(),
        "bare_examples_per_second": [round(each) for each, _ in pairs],
        "our_examples_per_second": [round(each) for _, each in pairs],
        "ratios": [round(mine / other, 3) for other, mine in pairs],
        "ratio": round(statistics.median(mine / other for other, mine in pairs), 3),
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--seconds", type=float, default=2.5, help="of each loop in each round")
    parser.add_argument("--recipe", default="tinynet")
    parser.add_argument("--side", type=int, default=28, help="of the pictures, in pixels")
    parser.add_argument("--channels", type=int, default=1)
    parser.add_argument("--examples", type=int, default=6000)
    parser.add_argument("--threads", type=int, default=0, help="0: as a job takes them")
    parser.add_argument("--least", type=float, default=0.9, help="smallest ratio that passes")
    result = measure(parser.parse_args())
    print("| round | bare, examples/s | ours, examples/s | ratio |\n|---|---|---|---|")
    rows = zip(result["bare_examples_per_second"], result["our_examples_per_second"], result["ratios"], strict=True)
    for number, (other, mine, ratio) in enumerate(rows, 1):
        print(f"| {number} | {other} | {mine} | {ratio} |")
    print(json.dumps(result))
    return 0 if result["ratio"] >= parser.parse_args().least else 1


if __name__ == "__main__":
    sys.exit(main())
