"""A worker's life as a process that may be one of several under torchrun, and may be told to leave its node.

The lead (rank 0) is an ordinary worker: it fetches the assignment, reports, completes. The others get the assignment from it,
train their part of every batch, and say nothing to the service. What ends one of them ends the group: torchrun's agents begin it
again with whoever is there, from the checkpoint that the service knows last.

Exit statuses under torchrun: 0 when the attempt is decided (completed, failed or cancelled: beginning again would change
nothing), EXIT_EVICTED and EXIT_GROUP_BROKEN when it is not. Without torchrun: those of core.jobs.worker_link, and EXIT_EVICTED.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import signal
import sys
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from modelyard.core.errors import ModelyardError
from modelyard.core.jobs.allocator import keep_freed_memory
from modelyard.core.jobs.process_runner import WORK_FOLDER
from modelyard.core.jobs.worker_link import Assignment, Cancelled, Completion, WorkerLink, run_worker
from modelyard.core.rpc.status import error_of, exception_of
from modelyard.trainer.settings import TrainerSettings
from modelyard.trainer.worker.dispatch import reporter_of, train_a_part, work
from modelyard.trainer.worker.group import ALONE, Group, GroupBroken, broken_by, exit_with_parent, join_group, launched
from modelyard.trainer.worker.reporter import Reporter
from modelyard.trainer.worker.run import BatchTooLarge

EXIT_EVICTED: Final = 7
"""Told to leave (SIGTERM) by somebody else than the service; a checkpoint was written where there was something to keep."""

EXIT_GROUP_BROKEN: Final = 8
"""Another process of the group is gone, or the batch did not fit into memory: to be begun again."""

ASSIGNMENT, ERROR, TOO_LARGE, LEAVING, DECIDED = "assignment", "error", "too-large", "leaving", "decided"
LAST_WORDS_S: Final = 5.0
"""How long a process waits for what another one that ended had to say."""

log = logging.getLogger("modelyard.trainer")


class Eviction:
    """Whether this process has been told to leave its node."""

    def __init__(self) -> None:
        self.asked = False

    def __call__(self, *_: Any) -> None:
        """SIGTERM."""
        self.asked = True


def run() -> int:
    """The whole life of a training worker. Gives the exit status."""
    keep_freed_memory()
    eviction = Eviction()
    if not launched():
        return run_worker(lambda assignment, link: lead(assignment, link, ALONE, eviction))
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    threading.Thread(target=exit_with_parent, args=(lambda: os._exit(EXIT_GROUP_BROKEN),), daemon=True, name="agent").start()
    _own_work_folder()
    try:
        status = _run_in_group(eviction)
    except SystemExit as ended:
        status = int(ended.code or 0)
    # Threads of a broken group may wait for ever; nothing is left to be said.
    sys.stderr.flush()
    os._exit(status)


def _own_work_folder() -> None:
    """Several processes of a node, and what torchrun starts again, must not share one."""
    if given := os.environ.get(WORK_FOLDER):
        os.environ[WORK_FOLDER] = str(Path(given) / f"process-{os.getpid()}")


def _run_in_group(eviction: Eviction) -> int:
    settings = TrainerSettings()
    signal.signal(signal.SIGTERM, eviction)
    try:
        group = join_group(settings.group_timeout_s, cuda=_computes_on_gpus(settings))
    except GroupBroken as error:
        log.warning("%s", error)
        return EXIT_GROUP_BROKEN
    log.info("process %d of %d", group.rank + 1, group.size)
    if not group.lead:
        return follow(group, settings, eviction)
    run_worker(lambda assignment, link: lead(assignment, link, group, eviction), over=lambda: _all_decided(group))
    return _all_decided(group)


def _all_decided(group: Group) -> int:
    """Has the others leave, too, where the attempt is over. Gives the status for which torchrun does not begin again."""
    with contextlib.suppress(RuntimeError):  # the store is gone, and so are those who would read it
        group.tell(DECIDED)
    return 0


def _computes_on_gpus(settings: TrainerSettings) -> bool:
    import torch

    return settings.device != "cpu" and torch.cuda.is_available()


# The lead


def lead(assignment: Assignment, link: WorkerLink, group: Group, eviction: Eviction) -> Completion:
    """The work of the process that speaks with the service. Raises as `work` does, and SystemExit where it must begin again."""
    signal.signal(signal.SIGTERM, eviction)
    reporter = reporter_of(assignment, link, group, lambda: eviction.asked)
    group.tell(ASSIGNMENT, {"job": assignment.job, "kind": assignment.kind, "spec": assignment.spec, "saved": assignment.saved})
    try:
        return work(assignment, link, group, reporter)
    except Cancelled:
        if link.instruction() == "cancel":
            raise
        log.info("told to leave" if eviction.asked else "another process was told to leave")
        group.tell(LEAVING)
        raise SystemExit(EXIT_EVICTED) from None
    except BatchTooLarge as error:
        raise _again(reporter, int(error.args[0])) from error
    except Exception as error:
        if not group.shared or isinstance(error, ModelyardError):
            raise
        raise _said_by_others(reporter, group, error) from error


def _said_by_others(reporter: Reporter, group: Group, error: Exception) -> BaseException:
    """What ended the step: what another process said before it went, or that one went without a word; else the error itself."""
    if not broken_by(error):
        return error
    log.warning("the group is broken: %.300s", error)
    try:
        said = group.wait(ERROR, TOO_LARGE, seconds=LAST_WORDS_S)
    except GroupBroken:
        return SystemExit(EXIT_GROUP_BROKEN)
    return exception_of(group.told(ERROR)) if said == ERROR else _again(reporter, int(group.told(TOO_LARGE)))


def _again(reporter: Reporter, batch_size: int) -> SystemExit:
    reporter.limit_batch(batch_size)
    log.warning("memory ran out: the group begins again with a batch of %d", batch_size)
    return SystemExit(EXIT_GROUP_BROKEN)


# The others


@dataclass(frozen=True)
class Listener:
    """Hooks of a process that speaks with nobody."""

    eviction: Eviction

    def on_event(self, event: Mapping[str, Any]) -> None:
        """Nothing: the lead says it."""

    def should_stop(self) -> Any:
        """Only what concerns this process; the service's wishes come through the lead."""
        return "cancel" if self.eviction.asked else "continue"

    def save_checkpoint(self, kind: str, path: Path) -> None:
        """Never called."""


def follow(group: Group, settings: TrainerSettings, eviction: Eviction) -> int:
    """The work of a process that does not speak with the service. Gives the exit status."""
    identity = json.loads(os.environ["MODELYARD_JOB"])
    link = WorkerLink(identity, settings)  # for artifacts and a work folder alone: it makes no call
    try:
        if group.wait(ASSIGNMENT, DECIDED) == ASSIGNMENT:
            told = group.told(ASSIGNMENT)
            assignment = Assignment(told["job"], told["kind"], identity["attempt"], told["spec"], told["saved"], 0.0)
            train_a_part(assignment, link, group, Listener(eviction))
        if eviction.asked:
            log.info("told to leave")
            return EXIT_EVICTED
        return 0 if group.wait(DECIDED, LEAVING) == DECIDED else EXIT_GROUP_BROKEN
    except GroupBroken as error:
        return _broken(group, error)
    except BatchTooLarge as error:
        group.tell(TOO_LARGE, error.args[0])
    except ModelyardError as error:
        group.tell(ERROR, error_of(error))
    except Exception as error:
        if broken_by(error):
            return _broken(group, error)
        log.exception("failed")
        group.tell(ERROR, error_of(error))
    finally:
        link.close()
    group.close()  # the others are waiting for this process: now they hear that it left
    return _decided(group, 2 * LAST_WORDS_S)


def _broken(group: Group, error: BaseException) -> int:
    log.warning("the group is broken: %.300s", error)
    return _decided(group, LAST_WORDS_S)


def _decided(group: Group, seconds: float) -> int:
    try:
        group.wait(DECIDED, seconds=seconds)
    except GroupBroken:
        return EXIT_GROUP_BROKEN
    return 0
