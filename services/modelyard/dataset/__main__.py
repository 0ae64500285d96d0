"""python -m modelyard.dataset: the dataset service in a process of its own."""

from __future__ import annotations

import sys

from modelyard.core.platform import run_service_main
from modelyard.dataset.bootstrap import SERVICE, build
from modelyard.dataset.settings import DatasetSettings

if __name__ == "__main__":
    sys.exit(run_service_main(SERVICE, build, DatasetSettings))
