"""A bundle's model in memory: it has answered its test vectors as it should, alone and in batches, with the threads that suit it.

Used by whatever computes: the process of a version, or the server itself. Decisions 0016 (isolation) and 0017 (batching).
"""

from __future__ import annotations

import hashlib
import os
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final, cast

import numpy as np
from numpy.typing import NDArray

from modelyard.core.errors import FailedPrecondition, InvalidArgument, ModelyardError
from modelyard.formats.agreement import SAME_PLACE, agreement, compared_as_sets, least_share
from modelyard.formats.bundle import Bundle, BundleCard, TestVectors, card_json, open_bundle
from modelyard.runtime.device import CPU
from modelyard.runtime.model import LoadedModel, RunnableModel, load_model
from modelyard.runtime.native_words import words_of
from modelyard.serving.domain.batch_proof import SIZES, all_alike, arrangements, differing, varied

Array = NDArray[Any]

DEFAULT_TOLERANCE: Final = 1e-4
"""Largest difference from a test vector where the bundle states none, in units of the output."""
RELATIVE_TOLERANCE: Final = 1e-5
"""On top, in proportion to the expected value: float32 holds about 7 digits, and other processors add up in other orders."""
SHARES: Final[Mapping[str, float]] = {"fp16": 0.01, "int8": 0.05, "dynamic_int8": 0.05}
"""By precision: largest difference as a share of the output. int8 kernels differ by a step or two of 1/256 from one another."""
TIMED_CALLS: Final = 30
QUICK_S: Final = 2e-3
"""A model that answers one example within this gets one thread: handing work to threads costs tens of microseconds."""
SERIAL_S: Final = 3e-4
"""One that answers within this is called by one caller at a time: the interpreter's own time is most of it."""
WORTH: Final = 0.15
"""What a batch must save of each example's time for batches to be made; less is noise, and all in a batch wait for the last."""
NOISE: Final = 0.02
NEAR_BEST: Final = 0.95
"""Of several numbers of threads with this share of the best throughput the largest is taken: it answers a lone caller sooner."""
PROOF_S: Final = 3.0
"""About how long proving batches may take; sizes that would take longer are not proved, and not used."""
LONGEST_BATCH_S: Final = 0.03
"""Batches that would take longer are not made: all in one wait for its end, and the runtime keeps the memory that it took."""
AGAIN: Final = 2
"""Times that a batch is asked once more for its time alone: the first calls of a size also settle where its memory lies."""
PAGE: Final = os.sysconf("SC_PAGE_SIZE")
TRIAL_S: Final = 0.15
"""How long each number of threads is tried, in TURNS parts."""
TURNS: Final = 3


@dataclass(frozen=True)
class LoadOptions:
    """`cores`: what the server may use. `threads` 0: as many as suit the model. `most_rows`: largest batch to prove; 1: none.

    `device`: one of runtime.device.DEVICES. `calls` 0: as many at once as suit the model. `card_sha256`: only the bundle whose
    card has this digest will do; empty: any.
    """

    cores: int = 1
    threads: int = 0
    calls: int = 0
    card_sha256: str = ""
    most_rows: int = SIZES[-1]
    device: str = CPU


@dataclass(frozen=True)
class Facts:
    """What loading has found out. `most_rows`: largest batch made of several requests (1: none is, because of `note`).

    `threads`: of one call. `calls`: calls that may be made at once. `row_s`: seconds of one example alone. `memory_bytes`: by
    which the process grew with it.
    """

    threads: int
    calls: int
    most_rows: int
    note: str
    row_s: float
    memory_bytes: int = 0


@dataclass(frozen=True)
class ProvenModel:
    """A model that is ready to answer, and what is known of it."""

    bundle: Bundle
    model: LoadedModel
    facts: Facts


Make = Callable[[Callable[[], LoadedModel]], LoadedModel]
"""Does what makes a model with threads of its own, where these may be made."""


def _here(what: Callable[[], LoadedModel]) -> LoadedModel:
    return what()


def load_proven(path: Path, options: LoadOptions, make: Make = _here) -> ProvenModel:
    """Loads a bundle. `make`: see Make; what computes in the calling thread alone is made by that.

    Raises InvalidArgument INVALID_BUNDLE (and the like), FailedPrecondition TEST_VECTORS_DIFFER, RUNTIME_NOT_INSTALLED,
    BUNDLE_CHANGED.
    """
    before = resident_bytes()
    bundle = open_bundle(path)
    check_same(bundle, options.card_sha256)
    vectors = bundle.test_vectors()
    model, threads, calls, row_s = _with_threads(bundle, vectors, options, make)
    try:
        most_rows, note = prove_batches(model, vectors, row_s, options.most_rows)
        model.settle(most_rows, {name: array[:1] for name, array in vectors.inputs.items()})
    except BaseException:
        model.close()
        raise
    grown = max(0, resident_bytes() - before)
    return ProvenModel(bundle, model, Facts(threads, calls, most_rows, note, row_s, grown))


def card_digest(card: BundleCard) -> str:
    """The sha256 of a card, which holds that of every file: it stands for all bytes of a bundle."""
    return hashlib.sha256(card_json(card)).hexdigest()


def check_same(bundle: Bundle, expected: str) -> None:
    """A version is started again only from the bytes that were checked when it was deployed. Raises FailedPrecondition."""
    if expected and card_digest(bundle.card) != expected:
        raise FailedPrecondition("BUNDLE_CHANGED", "the bundle is another than the one that was loaded before")


def _with_threads(bundle: Bundle, vectors: TestVectors, options: LoadOptions, make: Make) -> tuple[LoadedModel, int, int, float]:
    """The model with the threads of one call, the calls at once, and the seconds of one example."""
    first = options.threads or (options.cores if bundle.card.format == "savedmodel" else 1)
    model = _made(bundle, vectors, first, options, make)
    row_s = _fastest_s(model, vectors)
    if options.threads or options.cores == 1 or bundle.card.format == "savedmodel" or row_s < QUICK_S:
        fitting = 1 if row_s < SERIAL_S else max(1, options.cores // first)
        return model, first, options.calls or fitting, row_s
    best = _best_threads(bundle, vectors, options, model)
    if best != 1:
        model.close()
        model = _made(bundle, vectors, best, options, make)
        row_s = _fastest_s(model, vectors)
    return model, best, max(1, options.cores // best), row_s


def _made(bundle: Bundle, vectors: TestVectors, threads: int, options: LoadOptions, make: Make) -> LoadedModel:
    """The model, loaded and checked, with so many threads for each call."""
    checked = partial(_checked, bundle, vectors, threads, max(1, options.cores // threads), options.device)
    return checked() if threads == 1 else make(checked)


def _best_threads(bundle: Bundle, vectors: TestVectors, options: LoadOptions, single: RunnableModel) -> int:
    """Threads of one call with which all cores together answer most; `single` is the model with one. TensorFlow cannot be asked:
    its threads are settled with its first computation."""
    cores = options.cores
    found = {1: 1.0}
    for threads in _candidates(cores):
        model = load_model(bundle, threads, concurrency=max(1, cores // threads), device=options.device)
        try:
            found[threads] = _gain(single, model, vectors, cores, cores // threads)
        finally:
            model.close()
    return max(threads for threads, rate in found.items() if rate >= NEAR_BEST * max(found.values()))


def _gain(single: RunnableModel, model: RunnableModel, vectors: TestVectors, cores: int, callers: int) -> float:
    """Throughput of `model` in units of that of `single`, each the best of several turns: a moment in which others had the cores
    must not decide."""
    turns = [(_throughput(single, vectors, cores), _throughput(model, vectors, callers)) for _ in range(TURNS)]
    return max(rate for _, rate in turns) / max(rate for rate, _ in turns)


def _candidates(cores: int) -> list[int]:
    """2, 4, 8 ... and all cores."""
    return sorted({2**power for power in range(1, cores.bit_length()) if 2**power < cores} | {cores})


def _throughput(model: RunnableModel, vectors: TestVectors, callers: int) -> float:
    """Examples a second with so many callers at once, each with one example at a time."""
    example = {name: array[:1] for name, array in vectors.inputs.items()}
    end = time.perf_counter() + TRIAL_S / TURNS
    rates = [0.0] * callers

    def call(place: int) -> None:
        begin, count = time.perf_counter(), 0
        while time.perf_counter() < end or not count:
            model.run(example)
            count += 1
        rates[place] = count / (time.perf_counter() - begin)

    threads = [threading.Thread(target=call, args=(place,), daemon=True) for place in range(callers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum(rates)


def _checked(bundle: Bundle, vectors: TestVectors, threads: int, calls: int, device: str) -> LoadedModel:
    """The model, loaded, after it answered all its test vectors. Raises FailedPrecondition TEST_VECTORS_DIFFER."""
    model = cast(LoadedModel, load_model(bundle, threads, concurrency=calls, device=device))  # what it says it makes
    try:
        check_answers(bundle.card, vectors, _answers(model, vectors))
    except BaseException:
        model.close()
        raise
    return model


def _answers(model: LoadedModel, vectors: TestVectors) -> dict[str, Array]:
    """What it answers to its test vectors. Raises InvalidArgument INVALID_BUNDLE where its runtime can answer nothing."""
    try:
        return model.run(vectors.inputs)
    except (ModelyardError, MemoryError):
        raise
    except Exception as error:  # runtimes raise many kinds
        message = f"the model cannot answer its {vectors.count} test vectors: {words_of(error)}"
        raise InvalidArgument("INVALID_BUNDLE", message) from error


def prove_batches(model: RunnableModel, vectors: TestVectors, row_s: float, most: int) -> tuple[int, str]:
    """The largest batch that is as good as single calls and worth it, 1 with the reason when there is none."""
    if most < 2:
        return 1, "batches are switched off"
    inputs = varied(vectors.inputs)
    count = len(next(iter(inputs.values())))
    clock = _clock(model, vectors)
    single_s, singles = 1e9, []
    for row in range(count):
        answer, seconds = _timed(model, {name: array[row : row + 1] for name, array in inputs.items()}, clock)
        singles.append(answer)
        single_s = min(single_s, seconds)  # the fastest, as of the batches: what else runs only slows down
    alone = {name: np.concatenate([single[name] for single in singles]) for name in singles[0]}
    if all_alike(alone):
        return 1, "its test vectors all give the same answer, so batches cannot be proved"
    best, saved, deadline = 1, 0.0, time.perf_counter() + PROOF_S
    for size in SIZES:
        if size > most or size * single_s > LONGEST_BATCH_S or time.perf_counter() + 2 * size * row_s > deadline:
            break
        batch, taken = {}, 1e9
        for order in arrangements(count, size):
            batch = {name: array[order] for name, array in inputs.items()}
            together, seconds = _timed(model, batch, clock)
            taken = min(taken, seconds)
            problem = differing(alone, together, order, model.card.precision, model.card.task)
            if problem:
                return 1, f"in a batch of {size} {problem}"
        taken = min(taken, *(_timed(model, batch, clock)[1] for _ in range(AGAIN)))
        now = 1 - taken / (size * single_s)
        if now >= max(WORTH, saved - NOISE):
            best, saved = size, max(now, saved)
    if best > 1:
        return best, ""
    return 1, "a batch gains nothing: it takes as long as its examples one by one"


def _timed(model: RunnableModel, inputs: Mapping[str, Array], clock: Callable[[], float]) -> tuple[dict[str, Array], float]:
    start = clock()
    answers = model.run(inputs)
    return answers, clock() - start


def _clock(model: RunnableModel, vectors: TestVectors) -> Callable[[], float]:
    """What a model's calls are timed by: the processor's time where the calling thread does all the work, as with one thread in
    onnxruntime and LiteRT; it is the same whatever else the machine does. Otherwise the time that passes.
    """
    example = {name: array[:1] for name, array in vectors.inputs.items()}
    passed, thread, process = time.perf_counter(), time.thread_time(), time.process_time()
    for _ in range(3):
        model.run(example)
    passed, thread, process = time.perf_counter() - passed, time.thread_time() - thread, time.process_time() - process
    return time.thread_time if thread >= 0.9 * process and thread >= 0.1 * passed else time.perf_counter


def differences(expected: Mapping[str, Array], answers: Mapping[str, Array], tolerance: float) -> list[str]:
    """What differs, one sentence an output; empty when all is as it should be. NaN equals NaN."""
    wrong = []
    for name, wanted in expected.items():
        found = answers[name]
        if found.shape != wanted.shape:
            wrong.append(f"output {name!r} has the shape {list(found.shape)}, expected {list(wanted.shape)}")
        elif wanted.dtype.kind not in "fc":
            wrong += [f"output {name!r} differs"] if not np.array_equal(found, wanted) else []
        elif not np.allclose(found, wanted, rtol=RELATIVE_TOLERANCE, atol=tolerance, equal_nan=True):
            largest = float(np.nanmax(np.abs(found.astype(np.float64) - wanted)))
            wrong.append(f"output {name!r} differs by up to {largest:.6g}, allowed is {tolerance:.6g}")
    return wrong


def tolerance_of(card: BundleCard, outputs: Mapping[str, Array]) -> float:
    """The largest difference from a test vector that is let pass, in units of the output.

    Float32: what the export allowed, or DEFAULT_TOLERANCE. With fewer bits other processors round otherwise, so it is a share of
    the largest value (at least 1, which is that of probabilities); parity is not asked, because it compares with the float model.
    """
    if card.precision not in SHARES:
        return card.parity.tolerance if card.parity else DEFAULT_TOLERANCE
    numbers = [np.abs(values[np.isfinite(values)]) for values in outputs.values() if values.dtype.kind == "f"]
    return SHARES[card.precision] * max([1.0, *(float(values.max()) for values in numbers if values.size)])


def check_answers(card: BundleCard, vectors: TestVectors, answers: Mapping[str, Array]) -> None:
    """Raises FailedPrecondition TEST_VECTORS_DIFFER."""
    tolerance = tolerance_of(card, vectors.outputs)
    if compared_as_sets(card.task):
        _check_sets(card, vectors, answers)
        return
    wrong = differences(vectors.outputs, answers, tolerance)
    if wrong:
        message = f"the model does not answer its {vectors.count} test vectors as it did when it was exported: {'; '.join(wrong)}"
        raise FailedPrecondition("TEST_VECTORS_DIFFER", message, tolerance=tolerance, examples=vectors.count)


def _check_sets(card: BundleCard, vectors: TestVectors, answers: Mapping[str, Array]) -> None:
    """check_answers where boxes or masks are compared: what one has the other must have too."""
    alike, least = agreement(card.task, vectors.outputs, answers, SAME_PLACE), least_share(card.precision)
    if not alike.share >= least:
        message = (
            f"the model does not answer its {vectors.count} test vectors as it did when it was exported: "
            f"{100 * alike.share:.4g} percent of what it found is the same, {100 * least:.4g} are right"
        )
        raise FailedPrecondition("TEST_VECTORS_DIFFER", message, share=alike.share, least=least, examples=vectors.count)


def _fastest_s(model: RunnableModel, vectors: TestVectors) -> float:
    """Seconds that one example takes: the fastest of several, because what else runs on the machine only slows down."""
    example = {name: array[:1] for name, array in vectors.inputs.items()}
    times: list[float] = []
    while len(times) < TIMED_CALLS and sum(times) < 0.5:
        start = time.perf_counter()
        model.run(example)
        times.append(time.perf_counter() - start)
    return min(times)


def resident_bytes(process: str = "self") -> int:
    """Resident memory of a process (its number) in bytes; 0 where the system does not tell."""
    try:
        return int(Path(f"/proc/{process}/statm").read_text().split()[1]) * PAGE
    except (OSError, ValueError, IndexError):
        return 0
