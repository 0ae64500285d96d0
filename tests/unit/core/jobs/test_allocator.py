"""Memory that a step frees is there for the next one: counted in pages that the kernel had to map."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

MEASURED = """
import resource, sys
import numpy as np
from modelyard.core.jobs.allocator import keep_freed_memory

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(5):
        np.ones(48 * 1024**2, np.uint8)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

usual = faults()
assert keep_freed_memory()
faults()
print(usual, faults())
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="glibc alone is told so")
def test_large_blocks_are_mapped_once() -> None:
    run = subprocess.run([sys.executable, "-c", MEASURED], capture_output=True, text=True, check=True)
    usual, kept = map(int, run.stdout.split())
    assert kept < usual / 20
