"""python -m modelyard.trainer: the trainer in a process of its own."""

from __future__ import annotations

import sys

from modelyard.core.platform import run_service_main
from modelyard.trainer.bootstrap import SERVICE, build
from modelyard.trainer.settings import TrainerSettings

if __name__ == "__main__":
    sys.exit(run_service_main(SERVICE, build, TrainerSettings))
