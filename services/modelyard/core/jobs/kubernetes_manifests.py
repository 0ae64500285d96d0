"""What an attempt is in a cluster: a Job, a Secret with its identity and, for several nodes, a headless Service and a
NetworkPolicy. No I/O.

All carry a name made of the job's name and the attempt, so that a service that restarts finds them. One pod is one attempt:
the cluster never starts another in its place (but for the nodes of an elastic job), because a new attempt has a new token.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from modelyard.core import pod_security
from modelyard.core.jobs.flavors import Flavor
from modelyard.core.jobs.runner import IDENTITY, Order

Document = dict[str, Any]
CONTAINER: Final = "worker"
PREFIX: Final = "modelyard.internal"
JOB_NAME: Final = f"{PREFIX}/job"
KUEUE_QUEUE: Final = "kueue.x-k8s.io/queue-name"
WORKLOAD_OF: Final = "kueue.x-k8s.io/job-uid"
"""By which a Workload, Kueue's own object, names its Job."""
JOB_OF_POD: Final = "batch.kubernetes.io/job-name"
INDEX_OF_POD: Final = "batch.kubernetes.io/job-completion-index"
IDENTITY_KEY: Final = "identity"
WORK: Final = "/work"
TLS: Final = "/etc/modelyard/tls"
RENDEZVOUS_PORT: Final = 29400
# A node that is lost is missed after 6 s, those that are left wait 5 s for more before they go on; torchrun's own: 15 and 30.
RENDEZVOUS: Final = "last_call_timeout=5,keep_alive_interval=2,keep_alive_max_attempt=3"
# Longer than the service gives a cancelled worker, so that a checkpoint under way is finished.
GRACE_S: Final = 30
# Until a pod of a node that fell silent is given up; Kubernetes waits five minutes by itself.
LOST_NODE_S: Final = 20
# Exit status of a worker (worker_link) whose attempt is over, or whose service stayed away: no fault of the job's.
EXITS_OF_OURS: Final = (3, 4, 5, 7)


@dataclass(frozen=True)
class Placement:
    """What the service's settings say of its worker pods. `secrets`: environment that is secret. `owner`: an ownerReference."""

    image: str
    environment: Mapping[str, str] = field(default_factory=dict)
    secrets: Mapping[str, str] = field(default_factory=dict)
    secret_name: str = ""
    tls_secret: str = ""
    pull_secrets: Sequence[str] = ()
    pull_policy: str = ""
    user: int = 0
    queue: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    owner: Document | None = None
    ttl_s: int = 600


def object_name(order: Order) -> str:
    """The name of an attempt's objects: readable, unique by its hash, and short enough to be a host name with an index."""
    last = re.sub(r"[^a-z0-9-]+", "-", order.job.rpartition("/")[2].lower()).strip("-")[:20].strip("-")
    digest = hashlib.sha256(f"{order.service} {order.job}".encode()).hexdigest()[:10]
    return f"{order.service[:9]}-{last or 'job'}-{digest}-{order.attempt}"


def queue_of(order: Order, placement: Placement) -> str:
    """The LocalQueue an attempt waits in; empty: none."""
    return order.flavor.queue or placement.queue


def job_manifest(order: Order, placement: Placement) -> Document:
    """The Job, suspended: it is let go when its Secret is there (or by Kueue, when its turn comes)."""
    name, flavor = object_name(order), order.flavor
    several = order.distributed and flavor.nodes > 1
    spec: Document = {
        "suspend": True,
        "completions": flavor.nodes if several else 1,
        "parallelism": flavor.nodes if several else 1,
        "completionMode": "Indexed",
        "backoffLimit": 0,
        "podReplacementPolicy": "Failed",
        "podFailurePolicy": {"rules": [_fails_when_disturbed()]},
        "ttlSecondsAfterFinished": placement.ttl_s,
        "template": {"metadata": _metadata(order, placement), "spec": _pod(order, placement, name)},
    }
    if several and flavor.least_nodes < flavor.nodes:  # a node that is lost is replaced, and the others go on meanwhile
        del spec["backoffLimit"], spec["podFailurePolicy"], spec["podReplacementPolicy"]
        spec |= {"backoffLimitPerIndex": 100, "maxFailedIndexes": flavor.nodes}
    labels = {KUEUE_QUEUE: queue_of(order, placement)} if queue_of(order, placement) else {}
    metadata = _metadata(order, placement, labels) | {"name": name}
    metadata |= {"ownerReferences": [placement.owner]} if placement.owner else {}
    return {"apiVersion": "batch/v1", "kind": "Job", "metadata": metadata, "spec": spec}


def secret_manifest(order: Order, placement: Placement, job_uid: str) -> Document:
    """The Secret with the attempt's identity, and what else is secret; it goes when the Job goes."""
    values = {IDENTITY_KEY: order.identity, **placement.secrets}
    metadata = _metadata(order, placement) | {"name": object_name(order), "ownerReferences": [_owned(order, job_uid)]}
    return {"apiVersion": "v1", "kind": "Secret", "type": "Opaque", "immutable": True, "metadata": metadata, "stringData": values}


def service_manifest(order: Order, placement: Placement, job_uid: str) -> Document:
    """The headless Service that gives the pods of several nodes their names. Ready or not: they meet before they are."""
    metadata = _metadata(order, placement) | {"name": object_name(order), "ownerReferences": [_owned(order, job_uid)]}
    spec = {
        "clusterIP": "None",
        "publishNotReadyAddresses": True,
        "selector": {JOB_OF_POD: object_name(order)},
        "ports": [{"name": "rendezvous", "port": RENDEZVOUS_PORT}],
    }
    return {"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": spec}


def policy_manifest(order: Order, placement: Placement, job_uid: str) -> Document:
    """The NetworkPolicy of several nodes: they reach each other, and nobody else reaches them. What they say to each other is not
    encrypted and trusts whoever connects. Besides the rendezvous they listen at ports that the system chooses."""
    nodes = {"matchLabels": {JOB_OF_POD: object_name(order)}}
    ports = [{"protocol": "TCP", "port": RENDEZVOUS_PORT}, {"protocol": "TCP", "port": 32768, "endPort": 65535}]
    spec = {"podSelector": nodes, "policyTypes": ["Ingress"], "ingress": [{"from": [{"podSelector": nodes}], "ports": ports}]}
    metadata = _metadata(order, placement) | {"name": object_name(order), "ownerReferences": [_owned(order, job_uid)]}
    return {"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": metadata, "spec": spec}


def command(order: Order, name: str) -> list[str]:
    """What a pod runs: the worker, or torchrun over several processes of it."""
    flavor = order.flavor
    processes = max(1, flavor.gpu)
    if not order.distributed or (flavor.nodes == 1 and processes == 1):
        return ["python", "-m", order.module]
    nodes = f"{flavor.least_nodes}:{flavor.nodes}" if flavor.nodes > 1 else "1"
    meeting = f"{name}-0.{name}:{RENDEZVOUS_PORT}" if flavor.nodes > 1 else f"localhost:{RENDEZVOUS_PORT}"
    elastic = flavor.least_nodes < flavor.nodes
    return [
        *("python", "-m", "torch.distributed.run"),
        *(f"--nnodes={nodes}", f"--nproc-per-node={processes}", f"--max-restarts={100 if elastic else 0}"),
        *("--rdzv-backend=c10d", f"--rdzv-endpoint={meeting}", f"--rdzv-id={name}", f"--rdzv-conf={RENDEZVOUS}"),
        *("-m", order.module),
    ]


def _fails_when_disturbed() -> Document:
    """Makes the Job say that its pod was disturbed: the pod itself may be gone before anybody has looked."""
    return {"action": "FailJob", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]}


def _metadata(order: Order, placement: Placement, more: Mapping[str, str] | None = None) -> Document:
    labels = {
        **placement.labels,
        "app.kubernetes.io/name": "modelyard",
        "app.kubernetes.io/component": "worker",
        "app.kubernetes.io/managed-by": "modelyard",
        f"{PREFIX}/service": order.service,
        f"{PREFIX}/kind": order.kind,
        f"{PREFIX}/attempt": str(order.attempt),
        f"{PREFIX}/flavor": order.flavor.name,
        **(more or {}),
    }
    return {"labels": labels, "annotations": {JOB_NAME: order.job}}


def _owned(order: Order, job_uid: str) -> Document:
    return {"apiVersion": "batch/v1", "kind": "Job", "name": object_name(order), "uid": job_uid, "controller": True}


def _pod(order: Order, placement: Placement, name: str) -> Document:
    flavor = order.flavor
    pod: Document = {
        "restartPolicy": "Never",
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": GRACE_S,
        "securityContext": pod_security.of_pod(placement.user),
        "tolerations": [*_node_tolerations(), *(dict(toleration) for toleration in flavor.tolerations)],
        "containers": [_container(order, placement, name)],
        "volumes": _volumes(flavor, placement),
    }
    several = order.distributed and flavor.nodes > 1
    pod |= {"subdomain": name} if several else {}
    pod |= {"topologySpreadConstraints": [_spread(name)]} if several else {}
    pod |= {"nodeSelector": dict(flavor.node_selector)} if flavor.node_selector else {}
    pod |= {"activeDeadlineSeconds": flavor.max_seconds} if flavor.max_seconds else {}  # counts from the start on a node
    pod |= {"priorityClassName": flavor.priority_class} if flavor.priority_class else {}
    pod |= {"runtimeClassName": flavor.runtime_class} if flavor.runtime_class else {}
    pod |= {"imagePullSecrets": [{"name": secret} for secret in placement.pull_secrets]} if placement.pull_secrets else {}
    return pod


def _node_tolerations() -> list[Document]:
    keys = ("node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable")
    return [{"key": key, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": LOST_NODE_S} for key in keys]


def _spread(name: str) -> Document:
    """A pod to a node where there are enough of them."""
    selector = {"matchLabels": {JOB_OF_POD: name}}
    return {
        "maxSkew": 1,
        "topologyKey": "kubernetes.io/hostname",
        "whenUnsatisfiable": "ScheduleAnyway",
        "labelSelector": selector,
    }


def _container(order: Order, placement: Placement, name: str) -> Document:
    flavor = order.flavor
    mounts = [{"name": "work", "mountPath": WORK}, {"name": "tmp", "mountPath": "/tmp"}, {"name": "shm", "mountPath": "/dev/shm"}]  # noqa: S108
    mounts += [{"name": "tls", "mountPath": TLS, "readOnly": True}] if placement.tls_secret else []  # type: ignore[dict-item]
    container: Document = {
        "name": CONTAINER,
        "image": flavor.image or placement.image,
        "command": command(order, name),
        "env": _environment(order, placement, name),
        "resources": _resources(flavor),
        "volumeMounts": mounts,
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "securityContext": pod_security.of_container(),
    }
    container |= {"envFrom": [{"secretRef": {"name": placement.secret_name}}]} if placement.secret_name else {}
    container |= {"imagePullPolicy": placement.pull_policy} if placement.pull_policy else {}
    return container


def _environment(order: Order, placement: Placement, name: str) -> list[Document]:
    folders = {"MODELYARD_DATA_DIR": f"{WORK}/data", "MODELYARD_WORK_FOLDER": f"{WORK}/attempt", "HOME": WORK, "TMPDIR": "/tmp"}  # noqa: S108
    plain = {**placement.environment, **order.environment, **folders, "PYTHONUNBUFFERED": "1"}
    secret = {IDENTITY: IDENTITY_KEY, **{key: key for key in placement.secrets}}
    return [
        *({"name": key, "value": value} for key, value in sorted(plain.items()) if key not in secret),
        *({"name": key, "valueFrom": {"secretKeyRef": {"name": name, "key": inside}}} for key, inside in sorted(secret.items())),
    ]


def _resources(flavor: Flavor) -> Document:
    """Requests equal limits: what was promised is there, and threads follow the limit."""
    wanted: dict[str, str] = {"cpu": flavor.cpu, "memory": flavor.memory}
    wanted |= {flavor.gpu_resource: str(flavor.gpu)} if flavor.gpu else {}
    return {"requests": wanted, "limits": dict(wanted)}


def _volumes(flavor: Flavor, placement: Placement) -> list[Document]:
    room = {"sizeLimit": flavor.disk} if flavor.disk else {}
    shared = flavor.shared_memory or str(flavor.memory_bytes // 2)
    tls = [{"name": "tls", "secret": {"secretName": placement.tls_secret}}] if placement.tls_secret else []
    return [
        {"name": "work", "emptyDir": dict(room)},
        {"name": "tmp", "emptyDir": dict(room)},
        {"name": "shm", "emptyDir": {"medium": "Memory", "sizeLimit": shared}},
        *tls,
    ]
