"""python -m modelyard.trainer.worker: one attempt at a training job, in a process of its own."""

from __future__ import annotations

import sys

from modelyard.core.jobs.worker_link import run_worker
from modelyard.trainer.worker.dispatch import work

if __name__ == "__main__":
    sys.exit(run_worker(work))
