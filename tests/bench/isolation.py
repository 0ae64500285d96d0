"""What a process per version costs: the same models in a process of their own, in the server's, and bare onnxruntime.

    PYTHONPATH=. python -m tests.bench.isolation --rounds 5 --seconds 2

No network: callers on the event loop submit raw tensors, one example each, the next when the answer has come. The three are
measured in turn, round by round; medians over the rounds. Memory: of the server, and what all processes hold together (PSS).
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import statistics
import threading
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable
from typing import Any

import numpy as np
import onnxruntime
import structlog

from modelyard.runtime.latency import usable_cores
from modelyard.serving.adapters.in_process_model import InProcessLoader
from modelyard.serving.adapters.model_process import ProcessLoader
from modelyard.serving.handlers.proven_model import LoadOptions
from modelyard.serving.ports import Answer, ServedModel, Tensor
from tests.bench.peers.memory import memory_of
from tests.bench.peers.models import BenchModel, bench_models

CALLERS = (1, 8)
Latencies = list[float]
Contestant = Callable[[BenchModel, int, float], Awaitable[Latencies]]


async def served(model: ServedModel, example: Tensor, callers: int, seconds: float) -> Latencies:
    """Seconds of each answer, with so many callers at once."""
    loop, taken = asyncio.get_running_loop(), list[float]()
    over, busy, end = loop.create_future(), callers, time.perf_counter() + seconds

    def call() -> None:
        start = time.perf_counter()

        def done(answer: object) -> None:
            nonlocal busy
            assert isinstance(answer, Answer), answer
            now = time.perf_counter()
            taken.append(now - start)
            if now < end:
                loop.call_soon(call)
                return
            busy -= 1
            if not busy:
                over.set_result(None)

        model.submit([example], 1, None, done)

    for _ in range(callers):
        call()
    await over
    return taken


def bare(session: Any, feed: dict[str, Any], callers: int, seconds: float) -> Latencies:
    """The same from as many threads, with onnxruntime and nothing else."""
    taken, end = list[float](), time.perf_counter() + seconds

    def call() -> None:
        while (start := time.perf_counter()) < end:
            session.run(None, feed)
            taken.append(time.perf_counter() - start)

    threads = [threading.Thread(target=call) for _ in range(callers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return taken


async def contest(only: tuple[str, ...], rounds: int, seconds: float) -> None:
    cores = usable_cores()
    loaders: dict[str, ProcessLoader | InProcessLoader] = {
        "process": ProcessLoader(LoadOptions(cores)),
        "none": InProcessLoader(LoadOptions(cores)),
    }
    found: dict[tuple[str, str, int], list[tuple[float, float, float]]] = defaultdict(list)
    for each in bench_models(only):
        example = each.example()
        tensor = Tensor(each.input.name, each.input.datatype, example.shape, np.ascontiguousarray(example).tobytes())
        models: dict[str, ServedModel] = {}
        for name, loader in loaders.items():
            models[name] = await asyncio.to_thread(loader.load, each.bundle, model=each.name, version=name)
            model, memory = models[name], models[name].memory_bytes() >> 20
            print(f"{each.name} {name}: threads {model.threads}, {model.batching}, memory {memory} MiB", flush=True)
        session = onnxruntime.InferenceSession(each.onnx.read_bytes(), providers=["CPUExecutionProvider"])
        for _ in range(rounds):
            for callers in CALLERS:
                for name, model in models.items():
                    add(found[each.name, name, callers], await served(model, tensor, callers, seconds), seconds)
                feed = {each.input.name: example}
                add(
                    found[each.name, "onnxruntime", callers],
                    await asyncio.to_thread(bare, session, feed, callers, seconds),
                    seconds,
                )
        whole = memory_of([os.getpid()])
        print(f"{each.name}: all processes of this bench {whole.pss >> 20} MiB PSS, {whole.rss >> 20} MiB RSS")
        for model in models.values():
            await asyncio.to_thread(model.close)
    for loader in loaders.values():
        loader.close()
    report(found)


def add(rounds: list[tuple[float, float, float]], taken: Latencies, seconds: float) -> None:
    """Answers a second, p50 and p99 in milliseconds."""
    taken.sort()
    rounds.append((len(taken) / seconds, 1000 * taken[len(taken) // 2], 1000 * taken[int(0.99 * (len(taken) - 1))]))


def report(found: dict[tuple[str, str, int], list[tuple[float, float, float]]]) -> None:
    print("\n| model | computes in | callers | answers/s | p50 ms | p99 ms |\n|---|---|---|---|---|---|")
    for (model, name, callers), rounds in found.items():
        rate, p50, p99 = (statistics.median(column) for column in zip(*rounds, strict=True))
        print(f"| {model} | {name} | {callers} | {rate:,.0f} | {p50:.3f} | {p99:.2f} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--models", nargs="*", default=())
    parser.add_argument("--loop", choices=("uvloop", "asyncio"), default="uvloop")
    given = parser.parse_args()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    run: Callable[..., None] = asyncio.run
    if given.loop == "uvloop":
        import uvloop

        run = uvloop.run
    run(contest(tuple(given.models), given.rounds, given.seconds))


if __name__ == "__main__":
    main()
