"""python -m modelyard.exporter"""

import sys

from modelyard.core.platform import run_service_main
from modelyard.exporter.bootstrap import NAME, build
from modelyard.exporter.settings import ExporterSettings

if __name__ == "__main__":
    sys.exit(run_service_main(NAME, build, ExporterSettings))
