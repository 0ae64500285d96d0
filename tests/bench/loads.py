"""Loads and unloads one small model again and again: how long each takes, and what stays.

    PYTHONPATH=. python -m tests.bench.loads --count 10000

Prints the server's resident memory and open files every tenth; exits with 1 when memory grew by more than 5 percent after the
first tenth (which warms the allocator).
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import sys
import tempfile
import time
from pathlib import Path

import structlog

from modelyard.serving.adapters.model_process import ProcessLoader
from modelyard.serving.handlers.proven_model import LoadOptions, resident_bytes
from modelyard.serving.ports import Answer, ServedModel
from tests.support.bundles import mlp_bundle
from tests.support.served import rows, tensor

MOST_GROWTH = 0.05


async def run(count: int) -> int:
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    loader = ProcessLoader(LoadOptions(2, 1))
    with tempfile.TemporaryDirectory() as folder:
        bundle = mlp_bundle(Path(folder, "m.zip"))
        first, begun = 0, time.perf_counter()
        for number in range(1, count + 1):
            model = await asyncio.to_thread(lambda: loader.load(bundle, model="m", version="V001"))
            await asked(model)
            await asyncio.to_thread(model.close)
            if number % (count // 10) == 0:
                first = report(number, begun, first, loader.zygote.pid)
    grown = resident_bytes() / first - 1
    print(f"grown by {100 * grown:.2f} % since the first tenth")
    loader.close()
    return int(grown > MOST_GROWTH)


async def asked(model: ServedModel) -> None:
    """One answer, with nothing of the test's own that lasts (asyncio keeps timers until they are due)."""
    ended: asyncio.Future[object] = asyncio.get_running_loop().create_future()
    model.submit([tensor("x", "FP32", rows(1))], 1, None, ended.set_result)
    assert isinstance(await ended, Answer)


def report(number: int, begun: float, first: int, zygote: int) -> int:
    """Prints where it stands; gives the memory to compare with."""
    memory, each = resident_bytes(), (time.perf_counter() - begun) / number
    files, children = len(os.listdir("/proc/self/fd")), Path(f"/proc/{zygote}/task/{zygote}/children").read_text().split()
    print(
        f"{number:6} loads  {1000 * each:6.1f} ms each  server {memory / 2**20:7.2f} MiB  zygote "
        f"{resident_bytes(str(zygote)) / 2**20:6.2f} MiB  {files} files  {len(children)} processes",
        flush=True,
    )
    return first or memory


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=1000)
    sys.exit(asyncio.run(run(parser.parse_args().count)))
