"""python -m modelyard.trainer.worker: one attempt at a training job, in a process of its own; under torchrun one of several."""

from __future__ import annotations

import sys

from modelyard.trainer.worker.member import run

if __name__ == "__main__":
    sys.exit(run())
