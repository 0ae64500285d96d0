"""Training jobs that are steps of another job: started once, waited for, cancelled with it."""

from __future__ import annotations

import hashlib
import time
import uuid
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Final

from modelyard.core.errors import AlreadyExists, Cancelled, ModelyardError, NotFound
from modelyard.core.jobs.job import Job, Steps
from modelyard.trainer.handlers.training_jobs import NewTrainingJob, create_training_job
from modelyard.trainer.ports import Datasets, Jobs, Resources

FIRST_WAIT_S, LONGEST_WAIT_S = 0.1, 1.0
CANCEL_S: Final = 30.0


@dataclass(frozen=True)
class World:
    """The trainer's ports."""

    jobs: Jobs
    datasets: Datasets
    resources: Resources


def request_id(parent: Job, what: str) -> str:
    """The same for the same step of the same job, however often it is taken."""
    return str(uuid.uuid5(uuid.NAMESPACE_URL, f"modelyard:{parent.name}:{parent.create_time.isoformat()}:{what}"))


def start(world: World, parent: Job, what: str, new: NewTrainingJob, *, reuse: bool) -> str:
    """Starts a job as a step of another, once; gives its name. reuse: an earlier run of the same experiment stands for it."""
    wanted = request_id(parent, what)
    body = hashlib.sha256(wanted.encode()).hexdigest()
    asked = replace(new, part_of=parent.name, request_id=wanted, fingerprint=body)
    try:
        return create_training_job(world.jobs, world.datasets, world.resources, asked).name
    except AlreadyExists as error:
        if error.reason != "EXPERIMENT_REPEATED":
            raise
        if reuse:
            return error.values["training_job"]
        again = replace(asked, repeat_reason=f"step {what} of {parent.name}")
        return create_training_job(world.jobs, world.datasets, world.resources, again).name


def wait(world: World, steps: Steps, name: str, look: Callable[[Job], None], *, stop_after_s: float | None = None) -> Job:
    """The job once it has ended, however it did; `look` is given every look at it.

    stop_after_s: seconds of running after which it is asked to end early and keep what it has. Raises Cancelled when the job
    that waits is cancelled: then the one waited for is cancelled first.
    """
    pause, stopped = FIRST_WAIT_S, False
    while True:
        if steps.cancelled():
            cancel(world, steps, [name])
            raise Cancelled("CANCELLED", f"cancelled while it waited for {name}", name=name)
        job = world.jobs.get(name)
        look(job)
        if job.state.terminal:
            return job
        if stop_after_s is not None and not stopped and job.start_time and seconds_of(job) > stop_after_s:
            world.jobs.stop(name)
            stopped = True
        steps.sleep(pause)
        pause = min(LONGEST_WAIT_S, pause * 1.3)


def wait_all(
    world: World, steps: Steps, names: Sequence[str], look: Callable[[Sequence[Job]], None], pause_s: float
) -> list[Job]:
    """The jobs once all have ended; `look` is given every look at them, the last one too.

    Raises Cancelled when the job that waits is cancelled: then those waited for are cancelled first.
    """
    while True:
        jobs = [world.jobs.get(name) for name in names]
        look(jobs)
        if all(job.state.terminal for job in jobs):
            return jobs
        if steps.cancelled():
            cancel(world, steps, [job.name for job in jobs if not job.state.terminal])
            raise Cancelled("CANCELLED", "cancelled while its runs were trained")
        steps.sleep(pause_s)


def cancel(world: World, steps: Steps, names: list[str]) -> None:
    """Cancels jobs and waits (not for ever) until they have ended, so that nothing works on behind anybody's back."""
    deadline = time.monotonic() + CANCEL_S
    left = list(names)
    while left and time.monotonic() < deadline:
        for name in list(left):
            try:
                if world.jobs.get(name).state.terminal or world.jobs.cancel(name).state.terminal:
                    left.remove(name)
            except NotFound:
                left.remove(name)
        if left:
            with suppress(ModelyardError):
                steps.sleep(0.2)


def seconds_of(job: Job) -> float:
    """How long a job has run, or ran."""
    from modelyard.core.database import now

    if job.start_time is None:
        return 0.0
    return ((job.end_time or now()) - job.start_time).total_seconds()
