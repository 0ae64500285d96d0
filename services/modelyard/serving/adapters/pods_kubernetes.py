"""Pods of a Kubernetes cluster: made by server-side apply, watched, and deleted with all that belongs to them.

What is known of them comes from two watches, so that looking costs the cluster nothing, and goes on being known while its API
server is away. docs/decisions/0026-serving-pods.md.
"""

from __future__ import annotations

import hashlib
import json
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Final

import structlog

from modelyard.core.errors import FailedPrecondition, ModelyardError, Unavailable
from modelyard.core.jobs.kubernetes_api import ApiError, ClusterApi, Document, parse_owner
from modelyard.serving.adapters.pod_manifests import (
    PORT,
    SELECTOR,
    USUAL_TARGETS,
    PodShape,
    PodsOrder,
    Target,
    deployment_manifest,
    object_name,
    owned_manifests,
    replicas_of,
    scales_itself,
)
from modelyard.serving.adapters.pod_status import endpoint_of, pod_of, refused_pods
from modelyard.serving.adapters.watched_objects import WatchedObjects
from modelyard.serving.domain.placement import TARGETS, Placement, Pod

log = structlog.get_logger()

MANAGER: Final = "modelyard-serving"
AGAIN_S: Final = 300.0
"""What is as it should be is applied again after so long: somebody may have changed it by hand."""
FIRST_LOOK_S: Final = 15.0
DEPLOYMENTS: Final = ("apps/v1", "deployments")
PODS: Final = ("v1", "pods")
AUTOSCALERS: Final = ("autoscaling/v2", "horizontalpodautoscalers")
PLURALS: Final[Mapping[str, str]] = {
    "Secret": "secrets",
    "Service": "services",
    "PodDisruptionBudget": "poddisruptionbudgets",
    "HorizontalPodAutoscaler": "horizontalpodautoscalers",
}

Tokens = Callable[[str, str], str]
"""The token of the pods of an endpoint and target."""


class KubernetesFleet:
    """See ports.PodFleet. `owner`: what owns all, "apps/v1/Deployment/NAME"; it goes with it."""

    def __init__(
        self,
        api: ClusterApi,
        shape: PodShape,
        tokens: Tokens,
        *,
        targets: Mapping[str, Target] = USUAL_TARGETS,
        state_keys: Callable[[], bytes] = bytes,
        owner: str = "",
    ) -> None:
        self._api, self._shape, self._tokens = api, shape, tokens
        self._targets, self._state_keys, self._owner = targets, state_keys, owner
        self._applied: dict[str, tuple[str, float]] = {}
        self._guard = threading.Lock()
        self._deployments = WatchedObjects(api, *DEPLOYMENTS, SELECTOR)
        self._pods = WatchedObjects(api, *PODS, SELECTOR)

    def apply(self, endpoint: str, placements: Sequence[Placement]) -> None:
        """See ports.PodFleet."""
        self._wait_known()
        try:
            for placement in placements:
                self._apply(endpoint, placement)
            for target in set(TARGETS) - {placement.target for placement in placements}:
                if self._deployments.get(object_name(endpoint, target)) is not None:
                    self._delete(endpoint, target)
        except ApiError as error:
            raise _told(error, endpoint) from error

    def remove(self, endpoint: str) -> None:
        """See ports.PodFleet."""
        try:
            for target in TARGETS:
                self._delete(endpoint, target)
        except ApiError as error:
            raise _told(error, endpoint) from error

    def endpoints(self) -> set[str]:
        """See ports.PodFleet."""
        return {endpoint_of(each) for each in self._deployments.all() if not _is_going(each)} - {""}

    def pods(self, endpoint: str) -> Sequence[Pod]:
        """See ports.PodFleet."""
        there = [pod_of(each) for each in self._pods.all() if endpoint_of(each) == endpoint]
        refused = [refused_pods(each) for each in self._deployments.all() if endpoint_of(each) == endpoint]
        return sorted([*there, *(each for each in refused if each is not None)], key=lambda pod: pod.name)

    def wanted(self, endpoint: str, target: str) -> int:
        """See ports.PodFleet."""
        found = self._deployments.get(object_name(endpoint, target))
        return int(found["spec"].get("replicas", 1)) if found is not None else 0

    def scale(self, endpoint: str, target: str, replicas: int) -> None:
        """See ports.PodFleet."""
        name = object_name(endpoint, target)
        try:
            made = self._api.patch(*DEPLOYMENTS, name, {"spec": {"replicas": replicas}})
        except ApiError as error:
            if error.status != 404:
                raise _told(error, endpoint) from error
            return
        self._deployments.put(made)

    def address(self, endpoint: str, target: str) -> str:
        """See ports.PodFleet."""
        if self._deployments.get(object_name(endpoint, target)) is None:
            return ""
        return f"{object_name(endpoint, target)}.{self._api.namespace}.svc:{PORT}"

    def close(self) -> None:
        """See ports.PodFleet."""
        self._deployments.close()
        self._pods.close()

    def _apply(self, endpoint: str, placement: Placement) -> None:
        name = object_name(endpoint, placement.target)
        there = self._deployments.get(name)
        now = int(there["spec"].get("replicas", 1)) if there is not None else None
        target = self._targets.get(placement.target) or USUAL_TARGETS[placement.target]
        token, keys = self._tokens(endpoint, placement.target), self._state_keys()
        order = PodsOrder(endpoint, placement, target, replicas_of(placement, now), token, keys)
        shape = self._shaped()
        manifest = deployment_manifest(order, shape)
        digest = _digest([manifest, *owned_manifests(order, shape, "")])
        with self._guard:
            before, at = self._applied.get(name, ("", 0.0))
        if there is not None and not _is_going(there) and before == digest and time.monotonic() - at < AGAIN_S:
            return
        made = self._api.apply(*DEPLOYMENTS, manifest, MANAGER)
        self._deployments.put(made)
        for document in owned_manifests(order, shape, str(made["metadata"]["uid"])):
            self._api.apply(document["apiVersion"], PLURALS[document["kind"]], document, MANAGER)
        if not scales_itself(placement):
            self._api.delete(*AUTOSCALERS, name)
        with self._guard:
            self._applied[name] = (digest, time.monotonic())
        log.info("pods of an endpoint applied", endpoint=endpoint, target=placement.target, replicas=order.replicas)

    def _delete(self, endpoint: str, target: str) -> None:
        name = object_name(endpoint, target)
        with self._guard:
            self._applied.pop(name, None)
        self._api.delete(*DEPLOYMENTS, name)

    def _shaped(self) -> PodShape:
        """With the owner's uid, which only the cluster knows."""
        if self._owner and self._shape.owner is None:
            group, kind, name = parse_owner(self._owner, "pods_owner")
            found = self._api.get(group, f"{kind.lower()}s", name)
            if found is None:
                message = f"MODELYARD_PODS_OWNER is {self._owner}, which is not in the namespace {self._api.namespace}"
                raise FailedPrecondition("PODS_OWNER_NOT_FOUND", message, owner=self._owner)
            owner = {"apiVersion": group, "kind": kind, "name": name, "uid": found["metadata"]["uid"]}
            self._shape = replace(self._shape, owner=owner)
        return self._shape

    def _wait_known(self) -> None:
        """What is there must be known before it is decided what is missing."""
        if not self._deployments.wait_known(FIRST_LOOK_S):
            message = f"the cluster does not answer: {self._deployments.trouble or 'no list of Deployments yet'}"
            raise Unavailable("CLUSTER_UNAVAILABLE", message, retry_after_s=5.0)


def _is_going(thing: Document) -> bool:
    return bool(thing["metadata"].get("deletionTimestamp"))


def _digest(documents: Sequence[Document]) -> str:
    return hashlib.sha256(json.dumps(documents, sort_keys=True).encode()).hexdigest()


def _told(error: ApiError, endpoint: str) -> ModelyardError:
    """What the API server says, as ours."""
    if error.passing:
        message = f"the cluster's API server does not answer ({error.reason or error.status}); try again"
        return Unavailable("CLUSTER_UNAVAILABLE", message, retry_after_s=5.0)
    message = f"the cluster refuses the pods of {endpoint}: {error.message or error.reason}"[:600]
    return FailedPrecondition("CLUSTER_REFUSES", message, endpoint=endpoint, status=error.status)
