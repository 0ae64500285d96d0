"""What every service needs of jobs and resources; a service's own `ports` adds what it needs beyond that.

The job engine (core.jobs.engine.JobEngine) and the resource store (core.resources.ResourceStore) are these; tests have fakes.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import TYPE_CHECKING, Protocol

from modelyard.core.jobs.job import Document, Job, JobChange, JobPage

if TYPE_CHECKING:
    from modelyard.core.resources import Naming, Page, Resource


class Jobs(Protocol):
    """Everything that runs in the background."""

    def submit(
        self,
        name: str,
        kind: str,
        *,
        parent: str,
        spec: Document,
        labels: Mapping[str, str] | None = None,
        request_id: str = "",
        method: str = "",
        fingerprint: str = "",
        instance_flavor: str = "",
    ) -> Job:
        """Writes a job and starts it; the same request_id gives the earlier one.

        Raises AlreadyExists, InvalidArgument UNKNOWN_INSTANCE_FLAVOR.
        """

    def get(self, name: str) -> Job:
        """Reads a job. Raises NotFound."""

    def list(
        self,
        kind: str,
        parent: str,
        page_size: int = 0,
        page_token: str = "",
        *,
        skip: int = 0,
        naming: Naming | None = None,
    ) -> JobPage:
        """A page of jobs, the newest first, the first page after `skip` of them; all, or those whose spec names others."""

    def cancel(self, name: str) -> Job:
        """Asks a job to end without a result."""


class WatchedJobs(Jobs, Protocol):
    """Jobs that callers follow."""

    def watch(self, name: str, after_sequence: int = 0) -> AsyncIterator[JobChange]:
        """The job now and at every change until it has ended."""


class RemovableJobs(Jobs, Protocol):
    """Jobs that callers remove."""

    def delete(self, name: str) -> None:
        """Removes a job that has ended. Raises FailedPrecondition JOB_RUNNING."""


class Readings(Protocol):
    """Resources as documents, to read."""

    def get(self, name: str) -> Resource:
        """Raises NotFound."""

    def list(
        self,
        collection: str,
        parent: str | None = None,
        page_size: int = 0,
        page_token: str = "",
        *,
        naming: Naming | None = None,
    ) -> Page:
        """A page of a collection, the newest first; all of it, or what names others."""


class Resources(Readings, Protocol):
    """Resources as documents."""

    def create(
        self,
        name: str,
        collection: str,
        parent: str,
        document: Document,
        *,
        request_id: str = "",
        method: str = "",
        fingerprint: str = "",
    ) -> Resource:
        """Stores a new one; the same request_id gives the earlier one. Raises AlreadyExists."""
