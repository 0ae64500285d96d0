"""What every group of calls shares: retries, pages, streams that resume, waiters.

The sync twin of this folder is generated from it by clients/generate_sync.py: edit here, run that.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, TypeVar

from google.protobuf.message import Message

from modelyard.client._async.transport import AsyncTransport
from modelyard.client._channels import APIS, backoff_s
from modelyard.client._status import job_failed
from modelyard.client.errors import Cancelled, DeadlineExceeded, Unavailable, WaitTimeout
from modelyard.client.names import Names
from modelyard.type.v1 import job_pb2

M = TypeVar("M", bound=Message)
R = TypeVar("R")

TERMINAL = (job_pb2.JOB_STATE_SUCCEEDED, job_pb2.JOB_STATE_FAILED, job_pb2.JOB_STATE_CANCELLED)
OnChange = Callable[[Any], None]


class AsyncResource:
    """A group of calls to one service."""

    service: str = ""
    api: str = ""
    """The API, where a service has several; empty: the one of APIS."""

    def __init__(self, transport: AsyncTransport, names: Names) -> None:
        self._transport = transport
        self.names = names

    async def _call(self, method: str, request: Message, answer: type[M], timeout_s: float | None = None) -> M:
        return await self._call_api(self.api or APIS[self.service], method, request, answer, timeout_s)

    async def _call_api(self, api: str, method: str, request: Message, answer: type[M], timeout_s: float | None) -> M:
        """One call; UNAVAILABLE is tried again within the deadline, nothing else is."""
        settings = self._transport.settings
        deadline = time.monotonic() + (settings.timeout_s if timeout_s is None else timeout_s)
        patience = time.monotonic() + settings.patience_s
        failures = 0
        while True:
            try:
                left = max(deadline - time.monotonic(), 0.001)
                return await self._transport.unary(self.service, api, method, request, answer, left)
            except Unavailable as error:
                failures += 1
                pause = backoff_s(failures, settings, error.retry_after_s)
                if time.monotonic() + pause > min(deadline, patience):
                    raise
                await self._transport.sleep(pause)

    async def _items(self, method: str, request: Any, answer: type[Any], field: str) -> AsyncIterator[Any]:
        """The items of all pages, a page fetched when it is reached."""
        while True:
            page = await self._call(method, request, answer)
            for item in getattr(page, field):
                yield item
            if not page.next_page_token:
                return
            request.page_token = page.next_page_token

    async def _watch(
        self, method: str, request: Any, answer: type[M], field: str, deadline: float | None = None
    ) -> AsyncIterator[M]:
        """The messages of a Watch call until a terminal state; goes on after the last sequence when the stream breaks."""
        settings = self._transport.settings
        heard, failures, asked_s = time.monotonic(), 0, None
        while True:
            left = None if deadline is None else max(deadline - time.monotonic(), 0.001)
            silent = True
            try:
                async for message in self._transport.stream(
                    self.service, self.api or APIS[self.service], method, request, answer, left
                ):
                    heard, failures, silent = time.monotonic(), 0, False
                    request.after_sequence = max(request.after_sequence, _sequence(message))
                    yield message
                    if getattr(message, field).status.state in TERMINAL:
                        return
                if silent:  # nothing came after that sequence: it had ended
                    return
            except (Unavailable, Cancelled) as error:
                asked_s = error.retry_after_s
                if time.monotonic() - heard > settings.watch_patience_s:
                    raise
            failures += 1
            await self._transport.sleep(backoff_s(failures, settings, asked_s))

    async def _wait(
        self,
        method: str,
        request: Any,
        answer: type[Any],
        field: str,
        get: Callable[[], Awaitable[R]],
        timeout_s: float | None,
        on_change: OnChange | None,
    ) -> R:
        """Watches until the end. JobFailed when it ended badly, WaitTimeout when it did not end in time."""
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        while True:
            try:
                async for message in self._watch(method, request, answer, field, deadline):
                    if on_change is not None:
                        on_change(message)
            except DeadlineExceeded:
                raise _not_ended(request.name, timeout_s) from None
            job = await get()
            if _ended(request.name, job):
                return job
            if deadline is not None and time.monotonic() > deadline:
                raise _not_ended(request.name, timeout_s)
            await self._transport.sleep(self._transport.settings.max_backoff_s)


def _sequence(message: Any) -> int:
    sequence: int = message.sequence
    return sequence


def _ended(name: str, job: Any) -> bool:
    """Whether it ended well; JobFailed or JobCancelled when it ended otherwise."""
    if job.status.state in (job_pb2.JOB_STATE_FAILED, job_pb2.JOB_STATE_CANCELLED):
        raise job_failed(name, job, job.status.error, cancelled=job.status.state == job_pb2.JOB_STATE_CANCELLED)
    ended: bool = job.status.state == job_pb2.JOB_STATE_SUCCEEDED
    return ended


def _not_ended(name: str, timeout_s: float | None) -> WaitTimeout:
    message = f"{name} had not ended after {timeout_s:g} s; it goes on, wait again or cancel it"
    return WaitTimeout(message, reason="WAIT_TIMEOUT", values={"name": name, "timeout_s": f"{timeout_s:g}"})
