"""`python -m modelyard.console`: a console that several people share, beside the services. For oneself: `modelyard up`."""

import sys

from modelyard.console.shared import main

if __name__ == "__main__":
    sys.exit(main())
