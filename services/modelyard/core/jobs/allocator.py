"""Memory that one step frees is there for the next.

glibc gives blocks of 32 MB and more back to the system as soon as they are freed, and what a batch of pictures is on its way
through a network is larger: every step had the kernel map and clear gigabytes anew, a third of its time with efficientnet_lite0
at 256 x 192 on two cores (docs/benchmarks.md). mallopt(3) says what the numbers mean.
"""

from __future__ import annotations

import ctypes

_TRIM_THRESHOLD, _TOP_PAD, _MMAP_MAX = -1, -2, -4
_NEVER = -1
_AHEAD_BYTES = 64 * 1024**2


def keep_freed_memory() -> bool:
    """From now on this process keeps the memory that it frees; whether its C library is one that can be told so."""
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):  # not glibc
        return False
    return all(mallopt(option, value) for option, value in ((_MMAP_MAX, 0), (_TRIM_THRESHOLD, _NEVER), (_TOP_PAD, _AHEAD_BYTES)))
