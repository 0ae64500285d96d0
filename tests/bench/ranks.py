"""Training in a group: examples/s of 2 processes with 1 thread each against 1 process with 2 threads, the same loop and batch.

`python tests/bench/ranks.py [--rounds 5] [--seconds 8] [--recipe tinynet] [--side 28]`

Processes meet over gloo as under torchrun, without its agents. The two ways take turns: other work on the machine hits both.
Prints one JSON object; exits 1 when the median of the rounds' ratios is below --least.
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "services")]


class Clock:
    """Hooks that note when the steps that count began, and stop the run once its time is up: all members at the same step."""

    WARM_STEPS = 20

    def __init__(self, seconds: float) -> None:
        self.seconds, self.steps, self.began, self.at = seconds, 0, 0.0, 0.0

    def on_event(self, event: dict[str, Any]) -> None: ...

    def should_stop(self) -> Any:
        self.at = time.perf_counter()
        if self.steps == self.WARM_STEPS:
            self.began = self.at
        self.steps += 1
        return "cancel" if self.steps > self.WARM_STEPS and self.at - self.began > self.seconds else "continue"

    def save_checkpoint(self, kind: str, path: Path) -> None: ...

    def steps_a_second(self) -> float:
        return (self.steps - 1 - self.WARM_STEPS) / (self.at - self.began)


def member(arguments: argparse.Namespace) -> None:
    """One process of a way; the lead prints examples per second of the whole group."""
    import torch

    from modelyard.formats.model import Normalization
    from modelyard.recipes.catalogue import DatasetFacts, find_recipe, fit_to_dataset
    from modelyard.trainer.worker.group import join_group
    from modelyard.trainer.worker.loop import train
    from modelyard.trainer.worker.run import Setup
    from tests.bench.training import network, pictures

    group = join_group(60.0)
    torch.set_num_threads(arguments.threads)
    facts = DatasetFacts("image_classification", 60_000, 10, arguments.side, arguments.side, 1)
    recipe = fit_to_dataset(find_recipe(arguments.recipe, "image_classification"), facts)
    assert recipe.input is not None
    data = pictures(arguments.examples, recipe.input.height, 1)
    torch.manual_seed(1)
    clock = Clock(arguments.seconds)
    with tempfile.TemporaryDirectory() as folder:
        train(
            Setup(
                module=network(recipe),
                train=data,
                validation=type(data)(data.pictures[:0], data.labels[:0]),
                settings=replace(recipe.hyperparameters, max_epochs=10_000),
                normalization=Normalization((0.5,), (0.25,)),
                workdir=Path(folder),
                classes=10,
                flip=True,
                limit_s=3600.0,
                group=group,
            ),
            clock,
        )
    if group.lead:
        print(json.dumps(clock.steps_a_second() * recipe.hyperparameters.batch_size), flush=True)
    os._exit(0)  # nobody waits for the others of a group that was cancelled


def speed(arguments: argparse.Namespace, processes: int) -> float:
    """Examples per second of so many processes, which share two threads."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    own = ["--recipe", arguments.recipe, "--side", str(arguments.side), "--seconds", str(arguments.seconds)]
    started = [
        subprocess.Popen(
            [sys.executable, __file__, "--member", "--threads", str(2 // processes), *own],
            env={
                **os.environ,
                "RANK": str(rank),
                "WORLD_SIZE": str(processes),
                "LOCAL_RANK": str(rank),
                "MASTER_ADDR": "127.0.0.1",
                "MASTER_PORT": str(port),
                "OMP_NUM_THREADS": str(2 // processes),
                "OMP_WAIT_POLICY": "PASSIVE",
                "PYTHONPATH": str(ROOT),
            },
            stdout=subprocess.PIPE if rank == 0 else subprocess.DEVNULL,
        )
        for rank in range(processes)
    ]
    try:
        said = started[0].communicate(timeout=120 + 3 * arguments.seconds)[0]
    finally:
        for each in started:
            each.kill()
            each.wait()
    return float(json.loads(said.splitlines()[-1]))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=8.0, help="of each way in each round")
    parser.add_argument("--recipe", default="tinynet")
    parser.add_argument("--side", type=int, default=28)
    parser.add_argument("--examples", type=int, default=8000)
    parser.add_argument("--least", type=float, default=0.85)
    parser.add_argument("--member", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--threads", type=int, default=1, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.member:
        member(arguments)
    pairs = []
    for number in range(arguments.rounds):
        ways = {count: speed(arguments, count) for count in ((1, 2) if number % 2 == 0 else (2, 1))}
        pairs.append((ways[1], ways[2]))
        print(f"round {number + 1}: alone {ways[1]:.0f}, two {ways[2]:.0f} examples/s", file=sys.stderr)
    ratio = statistics.median(two / alone for alone, two in pairs)
    print(json.dumps({"recipe": arguments.recipe, "side": arguments.side, "pairs": pairs, "ratio": round(ratio, 3)}))
    return 0 if ratio >= arguments.least else 1


if __name__ == "__main__":
    sys.exit(main())
