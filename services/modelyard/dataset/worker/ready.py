"""What a worker of this service does before it knows its job (see core/jobs/ready.py)."""

from __future__ import annotations

import gc
import sys

from modelyard.core.jobs import worker_link  # noqa: F401
from modelyard.dataset.worker import import_job, picture_processes  # noqa: F401
from modelyard.runtime.latency import usable_cores

LEAST_BYTES = 4 * 1024**2
"""From so much on an import may have many pictures to read."""


def prepare(size_bytes: int) -> None:
    """Imports what imports need (above), and has processes at hand that read pictures, where there may be many."""
    # What is imported stays: not to look at it again whenever some thousand names have been listed saves half of the listing,
    # and processes that are forked go on to share it.
    gc.freeze()
    if sys.platform == "linux" and size_bytes >= LEAST_BYTES and usable_cores() > 1:
        picture_processes.fork_ahead(usable_cores())
