"""python -m modelyard.pipeline"""

import sys

from modelyard.core.platform import run_service_main
from modelyard.pipeline.bootstrap import NAME, build
from modelyard.pipeline.settings import PipelineSettings

if __name__ == "__main__":
    sys.exit(run_service_main(NAME, build, PipelineSettings))
