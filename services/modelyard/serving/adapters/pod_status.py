"""Pods of a cluster as the endpoint's users see them: where they are, and in words why one waits or was started again."""

from __future__ import annotations

from typing import Any, Final

from modelyard.serving.adapters.pod_manifests import CONTAINER, ENDPOINT, PORT, TARGET
from modelyard.serving.domain.placement import MOST_TEXT, Pod, PodState

Document = dict[str, Any]
_QUIET: Final = ("ContainerCreating", "PodInitializing")
"""Reasons to wait that pass by themselves."""


def endpoint_of(thing: Document) -> str:
    """The resource name of the endpoint that an object belongs to; empty for a stranger's."""
    return str(thing["metadata"].get("annotations", {}).get(ENDPOINT, ""))


def target_of(thing: Document) -> str:
    """Its target."""
    return str(thing["metadata"].get("labels", {}).get(TARGET, ""))


def pod_of(document: Document) -> Pod:
    """A pod."""
    status, spec = document.get("status", {}), document.get("spec", {})
    address = str(status.get("podIP", ""))
    host = f"[{address}]" if ":" in address else address
    state = _state(document)
    return Pod(
        name=str(document["metadata"]["name"]),
        target=target_of(document),
        state=state,
        address=f"{host}:{PORT}" if address and status.get("phase") == "Running" else "",
        node=str(spec.get("nodeName", "")),
        message="" if state is PodState.READY else _message(document)[:MOST_TEXT],
        restarts=int(_container(document).get("restartCount", 0)),
    )


def refused_pods(deployment: Document) -> Pod | None:
    """A Deployment whose pods cannot be made (a quota, an admission webhook), as a pod that waits; None where they can."""
    found = _condition(deployment, "ReplicaFailure")
    if found.get("status") != "True":
        return None
    message = f"{found.get('reason', 'ReplicaFailure')}: {found.get('message', '')}"[:MOST_TEXT]
    return Pod(f"{deployment['metadata']['name']} (not made)", target_of(deployment), PodState.PENDING, message=message)


def _state(document: Document) -> PodState:
    status = document.get("status", {})
    if document["metadata"].get("deletionTimestamp") or status.get("phase") in ("Failed", "Succeeded"):
        return PodState.ENDING
    if _condition(document, "Ready").get("status") == "True":
        return PodState.READY
    return PodState.RUNNING if "running" in _container(document).get("state", {}) else PodState.PENDING


def _message(document: Document) -> str:
    status = document.get("status", {})
    if document["metadata"].get("deletionTimestamp"):
        return "it ends what it has begun"
    if status.get("phase") == "Failed":
        return f"{status.get('reason', 'Failed')}: {status.get('message', 'its pod failed')}"
    scheduled = _condition(document, "PodScheduled")
    if scheduled.get("status") == "False":
        return f"{scheduled.get('reason', 'Unschedulable')}: {scheduled.get('message', 'no node fits')}"
    container = _container(document)
    before = container.get("lastState", {}).get("terminated", {})
    waiting = container.get("state", {}).get("waiting", {})
    ended = container.get("state", {}).get("terminated", {}) or before
    if waiting and waiting.get("reason") not in _QUIET and not ended:
        return f"{waiting.get('reason', '')}: {waiting.get('message', '')}"
    if ended:
        last = f"{ended.get('reason', 'Error')} (exit status {ended.get('exitCode', '?')})"
        said = str(ended.get("message", "")).strip().splitlines()
        return f"its process ended: {last}" + (f": {said[-1]}" if said else "")
    if "running" in container.get("state", {}):
        return "it fetches, loads and checks its versions"
    return "its container is being made"


def _container(document: Document) -> Document:
    statuses = document.get("status", {}).get("containerStatuses") or ()
    return next((each for each in statuses if each["name"] == CONTAINER), {})


def _condition(document: Document, kind: str) -> Document:
    conditions = document.get("status", {}).get("conditions") or ()
    return next((each for each in conditions if each["type"] == kind), {})
