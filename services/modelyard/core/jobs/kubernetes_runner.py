"""Runs an attempt of a job as a batch/v1 Job: one pod (or one a node), never started twice by the cluster.

Names derive from the job's name and the attempt, so a service that restarts follows what its predecessor started. Nothing here
fails because the API server is away: an attempt whose objects cannot be made or read yet waits, and says for what.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime

import structlog

from modelyard.core.errors import FailedPrecondition, InvalidArgument
from modelyard.core.jobs.flavors import Flavors
from modelyard.core.jobs.kubernetes_api import ApiError, ClusterApi, Document, connect, parse_owner
from modelyard.core.jobs.kubernetes_manifests import (
    CONTAINER,
    JOB_NAME,
    JOB_OF_POD,
    TLS,
    WORKLOAD_OF,
    Placement,
    job_manifest,
    object_name,
    policy_manifest,
    queue_of,
    secret_manifest,
    service_manifest,
)
from modelyard.core.jobs.kubernetes_status import (
    FAILED_PRECONDITION,
    RESOURCE_EXHAUSTED,
    node_of,
    started,
    status_of,
    stranded,
    why_queued,
)
from modelyard.core.jobs.pod_output import PodOutput
from modelyard.core.jobs.runner import Order, Output, RunStatus, Stage
from modelyard.core.settings import CoreSettings

log = structlog.get_logger()
LOOK_EVERY_S = 1.0
# How long a pod whose worker has said what came of it may take to exit before it is deleted.
EXIT_S = 10.0
LAST_OUTPUT_S = 3.0
JOBS, PODS = ("batch/v1", "jobs"), ("v1", "pods")
SECRETS, SERVICES, EVENTS = ("v1", "secrets"), ("v1", "services"), ("v1", "events")
POLICIES = ("networking.k8s.io/v1", "networkpolicies")
# The newest first; a Kueue serves one of them at least.
WORKLOADS = tuple((f"kueue.x-k8s.io/{version}", "workloads") for version in ("v1beta2", "v1beta1"))
_STARTING = RunStatus(Stage.WAITING, "STARTING", "its Job is being made")


def open_runner(settings: CoreSettings, flavors: Flavors, environment: Mapping[str, str]) -> KubernetesRunner:
    """The runner of the settings. Raises InvalidArgument NO_WORKER_IMAGE, BAD_OWNER, FailedPrecondition NO_CLUSTER."""
    if not settings.worker_image:
        without = [flavor.name for flavor in flavors.known if not flavor.image]
        if without:
            message = (
                f"MODELYARD_WORKER_IMAGE is empty, and so is the image of {', '.join(without)}: give one that worker pods run"
            )
            raise InvalidArgument("NO_WORKER_IMAGE", message, field="worker_image")
    if settings.runner_owner:
        parse_owner(settings.runner_owner)
    placement = placement_of(settings, environment)
    return KubernetesRunner(connect(settings.runner_namespace), placement, flavors, settings.runner_owner)


def placement_of(settings: CoreSettings, environment: Mapping[str, str]) -> Placement:
    """Of what a worker must know, the S3 keys are secret: from the secret that the settings name, else in each attempt's own."""
    if settings.worker_tls_secret:  # the files of this service are elsewhere in a pod
        trusted = {key: f"{TLS}/ca.crt" for key in ("MODELYARD_TLS_CA", "MODELYARD_S3_CA") if environment.get(key)}
        environment = {**environment, **trusted}
    secret = {
        key: value for key, value in environment.items() if key.endswith(("_ACCESS_KEY", "_SECRET_KEY", "_TOKEN")) and value
    }
    return Placement(
        image=settings.worker_image,
        environment={key: value for key, value in environment.items() if value and key not in secret},
        secrets={} if settings.worker_secret else secret,
        secret_name=settings.worker_secret,
        tls_secret=settings.worker_tls_secret,
        pull_secrets=[name.strip() for name in settings.worker_pull_secrets.split(",") if name.strip()],
        pull_policy=settings.worker_pull_policy,
        user=settings.worker_user,
        queue=settings.runner_queue,
        labels=dict(pair.strip().split("=", 1) for pair in settings.runner_labels.split(",") if "=" in pair),
        ttl_s=settings.job_ttl_s,
    )


class KubernetesRunner:
    """A Runner in a namespace of a cluster. `owner`: as in settings.runner_owner."""

    def __init__(self, api: ClusterApi, placement: Placement, flavors: Flavors, owner: str = "") -> None:
        self._api = api
        self._placement = placement
        self._flavors = flavors
        self._owner = owner

    def prepare(self) -> None:
        """See Runner: what an earlier server left is adopted."""

    def start(self, order: Order) -> KubernetesRun:
        """See Runner. The objects are made by the first looks at its status."""
        return KubernetesRun(self._api, order, self._flavors, self._placed, {})

    def adopt(self, order: Order, stored: Mapping[int, int]) -> KubernetesRun:
        """See Runner: one that is gone meanwhile shows as disrupted."""
        return KubernetesRun(self._api, order, self._flavors, self._placed, stored)

    def expect(self, module: str, size_bytes: int) -> None:
        """See Runner: pods begin when their jobs do."""

    def close(self) -> None:
        """See Runner."""

    def discard(self, order: Order) -> None:
        """See Runner."""
        try:
            self._api.delete(*JOBS, object_name(order))
        except ApiError as error:  # its token is void: whatever starts still, exits
            log.warning("an attempt could not be deleted", job=order.job, attempt=order.attempt, error=str(error))

    def _placed(self) -> Placement:
        """With the owner's uid, which only the cluster knows."""
        if self._owner and self._placement.owner is None:
            group, kind, name = parse_owner(self._owner)
            found = self._api.get(group, f"{kind.lower()}s", name)
            if found is None:
                message = f"MODELYARD_RUNNER_OWNER is {self._owner}, which is not in the namespace {self._api.namespace}"
                raise FailedPrecondition("RUNNER_OWNER_NOT_FOUND", message, owner=self._owner)
            owner = {"apiVersion": group, "kind": kind, "name": name, "uid": found["metadata"]["uid"]}
            self._placement = replace(self._placement, owner=owner)
        return self._placement


class KubernetesRun:
    """A Run. One with an identity makes its objects; one without follows those there are."""

    def __init__(
        self, api: ClusterApi, order: Order, flavors: Flavors, placed: Callable[[], Placement], stored: Mapping[int, int]
    ) -> None:
        self._api = api
        self._order = order
        self._name = object_name(order)
        self._larger = flavors.larger(order.flavor)
        self._placed = placed
        self._output = PodOutput(api, CONTAINER, stored)
        self._made = self._let_go = False
        self._next_look = 0.0
        self._waiting_since = time.monotonic()
        self._status = _STARTING

    def status(self) -> RunStatus:
        """See Run."""
        if self._status.stage is Stage.ENDED or time.monotonic() < self._next_look:
            return self._status
        self._status = self._within_patience(self._look())
        self._next_look = time.monotonic() + LOOK_EVERY_S
        return self._status

    def output(self) -> Sequence[Output]:
        """See Run."""
        return self._output.take()

    def ask_to_end(self) -> None:
        """See Run: its pods get SIGTERM and their grace; it has ended when they are gone."""
        self._delete()

    def end(self, grace_s: float, *, decided: bool) -> None:
        """See Run. What has ended by itself stays for its TTL, to be looked at."""
        deadline = time.monotonic() + (EXIT_S if decided else 0.0)
        while self.status().stage is not Stage.ENDED and time.monotonic() < deadline:
            time.sleep(LOOK_EVERY_S / 2)
        if self._status.stage is not Stage.ENDED or self._status.disrupted:
            self._delete()
        self._output.join(min(grace_s, LAST_OUTPUT_S))
        self._output.close()

    def leave(self, grace_s: float) -> None:
        """See Run: a pod outlives the service."""
        self._output.close()

    def _look(self) -> RunStatus:
        try:
            if self._order.identity and not self._made:
                self._make()
            job = self._api.get(*JOBS, self._name)
            if job is not None and job["metadata"].get("annotations", {}).get(JOB_NAME) != self._order.job:
                return RunStatus(Stage.ENDED, message=f"the Job {self._name} is another's", disrupted=True)
            self._free(job)
            pods = self._api.find(*PODS, labels=f"{JOB_OF_POD}={self._name}")
            self._bury(pods)
            for pod in pods:
                if started(pod):
                    self._output.follow(pod["metadata"]["name"], node_of(pod))
            refusals = self._refusals() if job is not None and not pods else []
            return status_of(self._order, job, pods, refusals, self._queue(job), self._larger)
        except ApiError as error:
            return self._refused(error)
        except FailedPrecondition as error:
            return self._error(error.reason, error.message)

    def _make(self) -> None:
        """The Job first, suspended, so that all else can be its own: whatever is left by a crash here goes with it."""
        placement = self._placed()
        try:
            job = self._api.create(*JOBS, job_manifest(self._order, placement))
        except ApiError as error:
            found = self._api.get(*JOBS, self._name) if error.status == 409 else None
            if found is None:
                raise
            job = found
        uid = job["metadata"]["uid"]
        if self._order.distributed and self._order.flavor.nodes > 1:
            self._make_once(POLICIES, policy_manifest(self._order, placement, uid))
            self._make_once(SERVICES, service_manifest(self._order, placement, uid))
        self._make_once(SECRETS, secret_manifest(self._order, placement, uid))  # the last: it says that the rest is there
        self._made = True

    def _make_once(self, kind: tuple[str, str], manifest: Document) -> None:
        try:
            self._api.create(*kind, manifest)
        except ApiError as error:
            if error.status != 409:
                raise

    def _free(self, job: Document | None) -> None:
        """Let a Job go whose objects are all there; where Kueue decides, it does that."""
        if job is None or self._let_go or not job["spec"].get("suspend"):
            return
        if not self._made and self._api.get(*SECRETS, self._name) is None:
            self._delete()  # its maker died before it had made all of it
            return
        self._let_go = True
        if not queue_of(self._order, self._placed()):
            self._api.patch(*JOBS, self._name, {"spec": {"suspend": False}})
            job["spec"]["suspend"] = False

    def _bury(self, pods: Sequence[Document]) -> None:
        """Take away what a lost node has left of several nodes: while it is there its address stays under the name by which the
        others find node 0, and whoever comes in its place is not found."""
        if self._order.flavor.nodes < 2:
            return
        for pod in pods:
            if stranded(pod, datetime.now(UTC)):
                self._api.delete(*PODS, pod["metadata"]["name"], grace_s=0)

    def _queue(self, job: Document | None) -> str:
        """The queue of the Job, and what Kueue says of it while it waits there."""
        queue = queue_of(self._order, self._placed())
        if not queue or job is None or not job["spec"].get("suspend"):
            return queue
        for kind in WORKLOADS:
            try:
                found = self._api.find(*kind, labels=f"{WORKLOAD_OF}={job['metadata']['uid']}")
            except ApiError:  # another version, or no right to see them: it waits all the same
                continue
            why = why_queued(found)
            return f"{queue}: {why}" if why else queue
        return queue

    def _refusals(self) -> list[str]:
        """Why the cluster makes no pod: a quota, a policy. The Job itself does not say."""
        events = self._api.find(*EVENTS, fields=f"involvedObject.kind=Job,involvedObject.name={self._name}")
        return [str(event.get("message", "")) for event in events if event.get("reason") == "FailedCreate"]

    def _refused(self, error: ApiError) -> RunStatus:
        if error.passing:
            if self._status.stage is Stage.RUNNING:
                return self._status
            return RunStatus(Stage.WAITING, "CLUSTER_UNAVAILABLE", f"the cluster does not answer: {error.message[:300]}")
        if error.status == 403 and "exceeded quota" in error.message:
            return RunStatus(Stage.WAITING, "QUOTA_EXCEEDED", error.message[:1000])
        if error.status in (400, 422):
            return self._error(
                "FLAVOR_REFUSED", f"The cluster refuses a Job of flavor {self._order.flavor.name}: {error.message[:1000]}"
            )
        return RunStatus(Stage.WAITING, "CLUSTER_REFUSES", error.message[:1000])

    def _within_patience(self, status: RunStatus) -> RunStatus:
        """A flavor may limit how long its jobs wait for a node."""
        flavor = self._order.flavor
        if status.stage is not Stage.WAITING:
            self._waiting_since = time.monotonic()
            return status
        if flavor.max_wait_seconds and time.monotonic() - self._waiting_since > flavor.max_wait_seconds:
            message = f"No node of flavor {flavor.name} in {flavor.max_wait_seconds} s: {status.message}"
            return self._error(status.reason, message, RESOURCE_EXHAUSTED)
        return status

    def _error(self, reason: str, message: str, code: int = FAILED_PRECONDITION) -> RunStatus:
        values = {"name": self._order.job, "flavor": self._order.flavor.name}
        return RunStatus(
            Stage.ENDED, message=message, error={"code": code, "reason": reason, "message": message, "values": values}
        )

    def _delete(self) -> None:
        try:
            self._api.delete(*JOBS, self._name)
        except ApiError as error:
            log.warning("a Job could not be deleted", job=self._order.job, attempt=self._order.attempt, error=str(error))
