"""python -m modelyard.evaluator"""

import sys

from modelyard.core.platform import run_service_main
from modelyard.evaluator.bootstrap import NAME, build
from modelyard.evaluator.settings import EvaluatorSettings

if __name__ == "__main__":
    sys.exit(run_service_main(NAME, build, EvaluatorSettings))
