"""The job engine with real worker processes, a real server and a real database."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from modelyard.core.errors import FailedPrecondition, InvalidArgument
from modelyard.core.jobs.engine import JobLimits
from modelyard.core.jobs.job import Job, JobKind, JobState, Steps
from modelyard.core.platform import Host, Platform, open_platform
from modelyard.core.settings import CoreSettings

PARENT = "projects/default"
ROOT = Path(__file__).resolve().parents[3]


class Running:
    """A host on a loop of its own thread."""

    def __init__(self, data_dir: Path, kinds: list[JobKind], settings: CoreSettings | None = None) -> None:
        limits = JobLimits(cancel_grace_s=2, retry_wait_s=0.05)
        self.platform: Platform = open_platform(settings or CoreSettings(data_dir=data_dir), "sample", limits)
        for kind in kinds:
            self.platform.jobs.register(kind)
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self.thread.start()
        self.host = Host(self.platform, [], ["sample"])
        self.call(self.host.start())

    def call(self, coroutine: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result(60)

    def stop(self) -> None:
        self.call(self.host.stop())
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join()


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Running]]:
    started: list[Running] = []

    def make(*kinds: JobKind) -> Running:
        started.append(Running(tmp_path, list(kinds)))
        return started[-1]

    yield make
    for running in started:
        if running.thread.is_alive():
            running.stop()


def sample(**more: Any) -> JobKind:
    environment = {"PYTHONPATH": str(ROOT)}
    return JobKind("sample", "sample", worker_module="tests.support.sample_worker", environment=environment, **more)


def submit(running: Running, name: str, **spec: Any) -> Job:
    return running.platform.jobs.submit(f"{PARENT}/samples/{name}", "sample", parent=PARENT, spec={"steps": 3, **spec})


def wait(running: Running, job: Job, seconds: float = 60) -> Job:
    return running.platform.jobs.wait(job.name, seconds)


def until(condition: Callable[[], Any], seconds: float = 30) -> Any:
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, "did not come true in time"
        time.sleep(0.05)
    return found


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().split(") ")[1][0] != "Z"
    except FileNotFoundError:
        return False


def test_runs_to_success_and_merges_what_on_success_adds(start: Callable[..., Running]) -> None:
    running = start(sample(on_success=lambda job: {"made": f"from step {(job.result or {})['step']}"}))
    job = wait(running, submit(running, "a"))
    assert (job.state, job.reason, job.attempt) == (JobState.SUCCEEDED, "COMPLETED", 1)
    assert job.result == {"step": 3, "first": 0, "attempt": 1, "made": "from step 3"}
    assert job.progress is not None
    assert (job.progress["stage"], job.progress["fraction"]) == ("count", 1)


def test_a_killed_worker_is_started_again_and_goes_on_where_it_was(start: Callable[..., Running]) -> None:
    running = start(sample())
    job = wait(running, submit(running, "a", die_at=1))
    assert (job.state, job.attempt) == (JobState.SUCCEEDED, 2)
    assert job.result is not None
    assert job.result["first"] == 2


def test_a_worker_that_dies_every_time_fails_the_job_after_max_attempts(start: Callable[..., Running]) -> None:
    cleaned: list[str] = []
    running = start(sample(max_attempts=2, on_failure=lambda job: cleaned.append(job.name)))
    job = wait(running, submit(running, "a", steps=9, always_die=True))
    assert (job.state, job.reason, job.attempt) == (JobState.FAILED, "WORKER_LOST", 2)
    assert cleaned == [job.name]


def test_a_domain_error_of_the_worker_is_the_jobs_error(start: Callable[..., Running]) -> None:
    running = start(sample())
    job = wait(running, submit(running, "a", error=True))
    assert (job.state, job.reason, job.attempt) == (JobState.FAILED, "BAD_THING", 1)
    assert job.error is not None
    assert job.error["values"] == {"value": "7"}
    assert job.error["violations"] == [{"field": "thing", "description": "thing is 7; it must be below 5"}]


def test_a_bug_in_the_worker_tells_the_user_nothing_of_the_inside(start: Callable[..., Running]) -> None:
    running = start(sample())
    job = wait(running, submit(running, "a", bug=True))
    assert (job.state, job.reason) == (JobState.FAILED, "INTERNAL")
    assert "secret" not in str(job.error)
    log = next((running.platform.settings.data_dir / "logs").iterdir()).read_text()
    assert "secret inside" in log


def test_stop_keeps_what_there_is_and_cancel_does_not(start: Callable[..., Running]) -> None:
    running = start(sample(slots=2))
    stopped, cancelled = (submit(running, name, steps=1000, pause_s=0.05) for name in "ab")
    until(lambda: all(running.platform.jobs.get(job.name).progress for job in (stopped, cancelled)))
    running.platform.jobs.stop(stopped.name)
    running.platform.jobs.cancel(cancelled.name)
    stopped, cancelled = wait(running, stopped), wait(running, cancelled)
    assert (stopped.state, stopped.reason) == (JobState.SUCCEEDED, "STOPPED")
    assert (cancelled.state, cancelled.result) == (JobState.CANCELLED, None)


def test_a_job_that_waits_for_a_slot_can_be_cancelled(start: Callable[..., Running]) -> None:
    running = start(sample(slots=1))
    first = submit(running, "a", steps=1000, pause_s=0.05)
    until(lambda: running.platform.jobs.get(first.name).progress)
    second = submit(running, "b")
    running.platform.jobs.cancel(second.name)
    assert wait(running, second, 10).state is JobState.CANCELLED
    assert running.platform.jobs.get(first.name).state is JobState.RUNNING


def test_jobs_go_on_after_a_restart_of_the_server(start: Callable[..., Running], tmp_path: Path) -> None:
    running = start(sample())
    child = tmp_path / "child"
    job = submit(running, "a", steps=40, pause_s=0.05, spawn=str(child))
    until(lambda: (running.platform.jobs.get(job.name).saved or {}).get("step", 0) > 3 and child.exists())
    running.stop()
    assert not alive(int(child.read_text())), "what a worker started must end with it"
    again = start(sample())
    job = wait(again, job)
    assert job.state is JobState.SUCCEEDED
    assert job.result is not None
    assert job.result["first"] > 3


def test_an_older_attempt_is_refused(start: Callable[..., Running]) -> None:
    running = start(sample())
    job = submit(running, "a", steps=1000, pause_s=0.05)
    until(lambda: running.platform.jobs.get(job.name).progress)
    with pytest.raises(FailedPrecondition) as caught:
        running.platform.job_store.report(job.name, attempt=0, token_hash="")
    assert caught.value.reason == "STALE_ATTEMPT"
    with pytest.raises(FailedPrecondition):
        running.platform.job_store.complete(job.name, 1, "a wrong token", {}, "COMPLETED")


def test_a_report_that_is_sent_again_is_taken_once(start: Callable[..., Running]) -> None:
    running = start(sample())
    job = submit(running, "a", steps=1000, pause_s=0.05)
    until(lambda: running.platform.jobs.get(job.name).progress)
    store = running.platform.job_store
    before = running.platform.jobs.get(job.name).report_id
    assert len(before) == 32
    events = [{"step": -1}]
    for _ in range(2):
        store.report(job.name, events=events, report_id="the same")
    sent = [event for event in store.changes(job.name, 0)[1] if event == {"step": -1}]
    assert len(sent) == 1


def test_watch_sends_every_event_once_in_order_and_ends(start: Callable[..., Running]) -> None:
    running = start(sample())
    job = submit(running, "a", steps=20)

    async def collect(after: int) -> list[tuple[int, list[int]]]:
        return [
            (change.sequence, [event["step"] for event in change.events])
            async for change in running.platform.jobs.watch(job.name, after)
        ]

    seen = running.call(collect(0))
    assert [step for _, steps in seen for step in steps] == list(range(20))
    assert [sequence for sequence, _ in seen] == sorted({sequence for sequence, _ in seen})
    middle = seen[len(seen) // 2]
    later = [step for _, steps in running.call(collect(middle[0])) for step in steps]
    assert later == list(range(20))[len(range(20)) - len(later) :]
    assert len(later) < 20


def test_a_job_in_steps_runs_each_step_once_even_over_a_crash(start: Callable[..., Running]) -> None:
    done: list[str] = []
    release = threading.Event()

    def run(job: Job, steps: Steps) -> dict[str, Any]:
        first = steps.do("first", lambda: (done.append("first"), "one")[1])
        while not release.is_set():
            steps.sleep(0.05)
        second = steps.do("second", lambda: (done.append("second"), "two")[1])
        return {"order": [first, second]}

    kind = JobKind("inline", "sample", run=run)
    running = start(kind)
    job = running.platform.jobs.submit(f"{PARENT}/samples/a", "inline", parent=PARENT, spec={})
    until(lambda: done == ["first"])
    running.stop()
    release.set()
    again = start(kind)
    job = again.platform.jobs.wait(job.name, 30)
    assert (job.state, job.result, done) == (JobState.SUCCEEDED, {"order": ["one", "two"]}, ["first", "second"])


def test_kill_9_of_the_worker_leaves_no_child(start: Callable[..., Running], tmp_path: Path) -> None:
    running = start(sample(max_attempts=1))
    child = tmp_path / "child"
    job = submit(running, "a", steps=1000, pause_s=0.05, spawn=str(child))
    pid = int(until(lambda: child.exists() and child.read_text()))
    parent = int(Path(f"/proc/{pid}/stat").read_text().split(") ")[1].split()[1])
    os.kill(parent, signal.SIGKILL)
    assert wait(running, job).reason == "WORKER_LOST"
    assert not alive(pid)


def test_what_the_workers_wrote_is_kept_by_attempt(start: Callable[..., Running]) -> None:
    running = start(sample())
    job = wait(running, submit(running, "a", say="counted", die_at=1))
    pieces = running.platform.job_logs.read(job.name)
    said = {attempt: b"".join(piece.data for piece in pieces if piece.attempt == attempt).decode() for attempt in (1, 2)}
    assert "counted 0\ncounted 1\n" in said[1]
    assert "counted 2\n" in said[2]
    assert "counted 1\n" not in said[2]
    assert [piece.sequence for piece in pieces] == [*range(1, len(pieces) + 1)]
    running.platform.jobs.delete(job.name)
    assert not running.platform.job_logs.read(job.name)


def test_a_job_remembers_its_flavor(start: Callable[..., Running]) -> None:
    running = start(sample())
    assert wait(running, submit(running, "a")).instance_flavor == "local"
    with pytest.raises(InvalidArgument) as caught:
        running.platform.jobs.submit(f"{PARENT}/samples/b", "sample", parent=PARENT, spec={}, instance_flavor="gpu-1")
    assert (caught.value.reason, caught.value.values["known"]) == ("UNKNOWN_INSTANCE_FLAVOR", "local")
