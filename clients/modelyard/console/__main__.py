"""`python -m modelyard.console`: what `launch` starts. People use `modelyard up` or `modelyard console`."""

import sys

from modelyard.console.server import main

if __name__ == "__main__":
    sys.exit(main())
