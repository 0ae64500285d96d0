"""A training worker whose clock moves on by LOOK_S each time it is looked at: how long a training takes, and so all that follows
from its time, does not depend on the machine."""

from __future__ import annotations

import sys
from typing import Final

from modelyard.core.jobs.worker_link import run_worker
from modelyard.trainer.worker.dispatch import work
from tests.support.small_training import Ticks

LOOK_S: Final = 0.02

if __name__ == "__main__":
    sys.exit(run_worker(lambda assignment, link: work(assignment, link, clock=Ticks(LOOK_S))))
