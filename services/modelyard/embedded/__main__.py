"""`python -m modelyard.embedded`: all services in one process, settings from the environment. People use `modelyard up`."""

import sys

from modelyard.core.errors import ModelyardError
from modelyard.core.rpc.logs import configure_logs
from modelyard.core.settings import CoreSettings
from modelyard.embedded import main


def _main() -> int:
    settings = CoreSettings()
    configure_logs(settings.log_format, settings.log_level)
    try:
        main(settings.data_dir, settings.host, settings.port, lambda address: print(f"ready {address}", flush=True))
    except ModelyardError as error:
        sys.stderr.write(f"modelyard: {error.reason}: {error.message}\n")
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(_main())
