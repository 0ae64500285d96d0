"""What the objects of an attempt say about it: waits (for what), runs, or has ended (why). No I/O."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from typing import Any, Final

from modelyard.core.jobs.flavors import Flavor
from modelyard.core.jobs.kubernetes_manifests import CONTAINER, EXITS_OF_OURS, INDEX_OF_POD
from modelyard.core.jobs.runner import RUNNING, Order, RunStatus, Stage

Document = dict[str, Any]
STRANDED_S: Final = 10
"""How long after its grace a pod may still be there before its node is taken for lost."""
RESOURCE_EXHAUSTED, DEADLINE_EXCEEDED, FAILED_PRECONDITION = 8, 4, 9
_IMAGE = ("ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull", "RegistryUnavailable", "ImageInspectError")
_CONTAINER = ("CreateContainerConfigError", "CreateContainerError", "RunContainerError", "CrashLoopBackOff")


def status_of(
    order: Order, job: Document | None, pods: Sequence[Document], refusals: Sequence[str], queue: str, larger: Flavor | None
) -> RunStatus:
    """The status of an attempt. `refusals`: why the cluster could not make its pods; `queue`: where a suspended Job waits, and
    for what; `larger`: a flavor with more memory."""
    if job is None:
        return RUNNING if any(_active(pod) for pod in pods) else _disrupted("its Job is gone")
    if job["spec"].get("suspend"):
        return RunStatus(Stage.WAITING, "IN_QUEUE", f"waits in the queue {queue}" if queue else "its Job is suspended")
    ended = _ended(order, job, pods, larger)
    if ended is not None:
        return ended
    running = [pod for pod in pods if _phase(pod) == "Running"]
    needed = order.flavor.least_nodes if order.distributed else 1
    if len(running) >= needed:
        lost_sight = any(_node_is_silent(pod) for pod in running)
        return RunStatus(Stage.RUNNING, message="its node does not answer", disrupted=True) if lost_sight else RUNNING
    return _waiting(pods, refusals)


def why_queued(workloads: Sequence[Document]) -> str:
    """What keeps the Job of a Kueue Workload from being let go; empty: Kueue has not said yet."""
    for workload in workloads:
        for item in workload.get("status", {}).get("conditions") or ():
            if item["type"] == "QuotaReserved" and item["status"] == "False":
                return str(item.get("message", ""))
    return ""


def node_of(pod: Document) -> int:
    """The index of a pod in its Job."""
    return int(pod["metadata"].get("labels", {}).get(INDEX_OF_POD, 0))


def started(pod: Document) -> bool:
    """Whether its container has been started, so that it may have written something."""
    return any("running" in state or "terminated" in state for state in _states(pod))


def stranded(pod: Document, now: datetime) -> bool:
    """Whether a pod is to end on a node that does not answer, so that nobody takes it away: the node controller says so, or its
    grace is long over."""
    until = pod["metadata"].get("deletionTimestamp")  # when its grace is over
    if not until:
        return False
    return _node_is_silent(pod) or now > datetime.fromisoformat(str(until)) + timedelta(seconds=STRANDED_S)


def _ended(order: Order, job: Document, pods: Sequence[Document], larger: Flavor | None) -> RunStatus | None:
    for pod in pods:
        error = _error(order, pod, larger)
        if error is not None:
            return error
    elastic = order.distributed and order.flavor.least_nodes < order.flavor.nodes
    if not elastic:
        for pod in pods:
            if _condition(pod, "DisruptionTarget") and (_terminating(pod) or _phase(pod) == "Failed"):
                return _disrupted(_condition(pod, "DisruptionTarget").get("message", "its pod was disturbed"))
        for pod in pods:
            if _phase(pod) == "Failed":
                return _failed(pod)
    failed = _condition(job, "Failed") or _condition(job, "FailureTarget")
    if failed:
        message = str(failed.get("message", ""))
        if failed.get("reason") == "PodFailurePolicy":
            return _disrupted(message)
        return RunStatus(Stage.ENDED, message=message)
    if _condition(job, "Complete") or (pods and all(_phase(pod) == "Succeeded" for pod in pods)):
        return RunStatus(Stage.ENDED, message="it ended without a result")
    return None


def _error(order: Order, pod: Document, larger: Flavor | None) -> RunStatus | None:
    """What would end another attempt alike: no memory, no room, no time."""
    flavor = order.flavor
    values = {"name": order.job, "flavor": flavor.name}
    status = pod.get("status", {})
    if any(state.get("terminated", {}).get("reason") == "OOMKilled" for state in _states(pod)):
        better = f"try --instance-flavor {larger.name} ({larger.memory})" if larger else "no flavor has more"
        message = f"The worker of {order.job} needed more than the {flavor.memory} of memory of flavor {flavor.name}; {better}"
        values |= {"memory": flavor.memory, "try": larger.name if larger else ""}
        return _error_status(RESOURCE_EXHAUSTED, "WORKER_OUT_OF_MEMORY", message, values)
    if status.get("reason") == "Evicted" and not _condition(pod, "DisruptionTarget"):
        message = f"The worker of {order.job} needed more room than flavor {flavor.name} gives: {status.get('message', '')}"
        return _error_status(RESOURCE_EXHAUSTED, "WORKER_OUT_OF_DISK", message, {**values, "disk": flavor.disk})
    if status.get("reason") == "DeadlineExceeded":
        message = f"The worker of {order.job} ran longer than the {flavor.max_seconds} s that flavor {flavor.name} allows"
        return _error_status(DEADLINE_EXCEEDED, "FLAVOR_TIME_LIMIT", message, {**values, "max_seconds": str(flavor.max_seconds)})
    return None


def _failed(pod: Document) -> RunStatus:
    for state in _states(pod):
        code = state.get("terminated", {}).get("exitCode")
        if code is not None:
            message = f"exit status {code}"
            return RunStatus(Stage.ENDED, message=message, disrupted=code in EXITS_OF_OURS)
    status = pod.get("status", {})
    # Without an exit status the container was not the reason: the node refused the pod, or shut down.
    return _disrupted(str(status.get("message") or status.get("reason") or "its pod failed"))


def _waiting(pods: Iterable[Document], refusals: Sequence[str]) -> RunStatus:
    reasons = [_why_waiting(pod) for pod in pods if _phase(pod) != "Running"]
    if not reasons and refusals:
        quota = "exceeded quota" in refusals[-1]
        return RunStatus(Stage.WAITING, "QUOTA_EXCEEDED" if quota else "POD_REFUSED", refusals[-1])
    found = [status for status in reasons if status.reason != "STARTING"] or reasons
    return found[0] if found else RunStatus(Stage.WAITING, "STARTING", "its pod is being made")


def _why_waiting(pod: Document) -> RunStatus:
    conditions = pod.get("status", {}).get("conditions") or ()
    scheduled: Document = next((item for item in conditions if item["type"] == "PodScheduled"), {})
    if scheduled.get("status") == "False":
        return RunStatus(Stage.WAITING, "UNSCHEDULABLE", str(scheduled.get("message", "no node fits")))
    for state in _states(pod):
        waiting = state.get("waiting", {})
        message = f"{waiting.get('reason')}: {waiting.get('message', '')}"
        if waiting.get("reason") in _IMAGE:
            return RunStatus(Stage.WAITING, "IMAGE_PULL_FAILED", message)
        if waiting.get("reason") in _CONTAINER:
            return RunStatus(Stage.WAITING, "CONTAINER_NOT_CREATED", message)
    return RunStatus(Stage.WAITING, "STARTING", "its container is being made")


def _error_status(code: int, reason: str, message: str, values: dict[str, str]) -> RunStatus:
    return RunStatus(Stage.ENDED, message=message, error={"code": code, "reason": reason, "message": message, "values": values})


def _disrupted(message: str) -> RunStatus:
    return RunStatus(Stage.ENDED, message=message, disrupted=True)


def _condition(thing: Document, kind: str) -> Document:
    conditions = thing.get("status", {}).get("conditions") or ()
    return next((item for item in conditions if item["type"] == kind and item["status"] == "True"), {})


def _states(pod: Document) -> list[Document]:
    statuses = pod.get("status", {}).get("containerStatuses") or ()
    return [status.get("state", {}) for status in statuses if status["name"] == CONTAINER]


def _phase(pod: Document) -> str:
    return str(pod.get("status", {}).get("phase", ""))


def _terminating(pod: Document) -> bool:
    return bool(pod["metadata"].get("deletionTimestamp"))


def _active(pod: Document) -> bool:
    return _phase(pod) in ("Pending", "Running")


def _node_is_silent(pod: Document) -> bool:
    """The node controller says that the pod is not ready, while the node's last word was that its container is."""
    conditions = {item["type"]: item["status"] for item in pod.get("status", {}).get("conditions", ())}
    containers = pod.get("status", {}).get("containerStatuses") or ()
    return conditions.get("Ready") == "False" and bool(containers) and all(status.get("ready") for status in containers)
