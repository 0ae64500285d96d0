"""What the pods of an endpoint on a target are in a cluster, as documents. No I/O.

A Deployment, and owned by it a Secret (the pods' token), two Services (a ClusterIP for callers, a headless one for callers that
spread themselves), a PodDisruptionBudget and, where the number of pods may vary, a HorizontalPodAutoscaler.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from modelyard.core import pod_security
from modelyard.serving.domain.placement import Placement

Document = dict[str, Any]

PREFIX: Final = "modelyard.internal"
ENDPOINT: Final = f"{PREFIX}/endpoint"
"""As a label its digest, as an annotation its name."""
TARGET: Final = f"{PREFIX}/target"
SECRET: Final = f"{PREFIX}/secret"
COMPONENT: Final = "serving-pod"
SELECTOR: Final = f"app.kubernetes.io/component={COMPONENT},app.kubernetes.io/managed-by=modelyard"
CONTAINER: Final = "serving"
PORT: Final = 8970
HEALTH_PORT: Final = 8971
METRICS_PORT: Final = 9090
DATA: Final = "/var/lib/modelyard"
TLS: Final = "/etc/modelyard/tls"
FOLLOW: Final = "/etc/modelyard/follow"
STATE_KEYS, SERVICE_TOKEN = "state-keys.pem", "service-token"
PRE_STOP_S: Final = 5
"""Between being taken from the Services and the signal: who is about to call still finds it there."""
START_S: Final = 600


@dataclass(frozen=True)
class Target:
    """What a kind of node means: where its pods go and what they get where a placement does not say.

    `cpu`, `memory`, `disk`: as Kubernetes writes them; `disk` is the cache of bundles. `environment`: more of it for its pods.
    """

    name: str
    image: str = ""
    cpu: str = "500m"
    memory: str = "1Gi"
    disk: str = "4Gi"
    gpu: int = 0
    gpu_resource: str = "nvidia.com/gpu"
    node_selector: Mapping[str, str] = field(default_factory=dict)
    tolerations: Sequence[Mapping[str, Any]] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    runtime_class: str = ""
    priority_class: str = ""


USUAL_TARGETS: Final[Mapping[str, Target]] = {
    "cpu": Target("cpu"),
    "gpu": Target(
        "gpu",
        gpu=1,
        cpu="2",
        memory="8Gi",
        tolerations=({"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"},),
        environment={"MODELYARD_DEVICE": "cuda"},
    ),
    "edge": Target(
        "edge",
        cpu="250m",
        memory="512Mi",
        node_selector={"kubernetes.io/arch": "arm64"},
        tolerations=({"key": f"{PREFIX}/edge", "operator": "Exists"},),
    ),
}


@dataclass(frozen=True)
class PodShape:
    """What the service's settings say of all its pods. `address`: where they reach it. `owner`: an ownerReference."""

    image: str
    address: str
    node_cache: str = ""
    environment: Mapping[str, str] = field(default_factory=dict)
    service_token: str = ""
    tls_secret: str = ""
    pull_secrets: Sequence[str] = ()
    pull_policy: str = ""
    user: int = 0
    labels: Mapping[str, str] = field(default_factory=dict)
    owner: Document | None = None
    drain_s: float = 10.0
    cpu_percent: int = 70
    """Of what pods ask for, above which more of them are started."""


@dataclass(frozen=True)
class PodsOrder:
    """The pods of an endpoint on a target. `replicas`: how many now. `token`, `state_keys`: what goes into their Secret."""

    endpoint: str
    placement: Placement
    target: Target
    replicas: int
    token: str
    state_keys: bytes = b""


def object_name(endpoint: str, target: str) -> str:
    """The name of all its objects: readable, unique by its digest, and short enough for a Service."""
    last = re.sub(r"[^a-z0-9-]+", "-", endpoint.rpartition("/")[2].lower()).strip("-")[:28].strip("-")
    return f"serve-{last or 'endpoint'}-{digest_of(endpoint)}-{target}"


def digest_of(endpoint: str) -> str:
    """What stands for an endpoint's name in labels."""
    return hashlib.sha256(endpoint.encode()).hexdigest()[:10]


def deployment_manifest(order: PodsOrder, shape: PodShape) -> Document:
    """One more pod than wanted while they are replaced, never one less."""
    metadata = _metadata(order, shape) | ({"ownerReferences": [shape.owner]} if shape.owner else {})
    template = _metadata(order, shape)
    secret = "\n".join(f"{key} {value.hex()}" for key, value in _secrets(order, shape).items())
    template["annotations"][SECRET] = hashlib.sha256(secret.encode()).hexdigest()[:16]
    del template["name"]
    spec = {
        "replicas": order.replicas,
        "revisionHistoryLimit": 2,
        "progressDeadlineSeconds": START_S,
        "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}},
        "selector": {"matchLabels": _selector(order)},
        "template": {"metadata": template, "spec": _pod(order, shape)},
    }
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": metadata, "spec": spec}


def owned_manifests(order: PodsOrder, shape: PodShape, deployment_uid: str) -> list[Document]:
    """What goes when the Deployment goes."""
    name = object_name(order.endpoint, order.placement.target)
    owner = {"apiVersion": "apps/v1", "kind": "Deployment", "name": name, "uid": deployment_uid}
    made = [_secret(order, shape), _service(order, shape), _service(order, shape, headless=True), _budget(order, shape)]
    if scales_itself(order.placement):
        made.append(_autoscaler(order, shape))
    for document in made:
        document["metadata"]["ownerReferences"] = [owner]
    return made


def scales_itself(placement: Placement) -> bool:
    """Whether the cluster decides how many pods there are."""
    return placement.max_replicas > max(1, placement.min_replicas)


def replicas_of(placement: Placement, now: int | None) -> int:
    """How many pods there should be, given how many there should be now (None: it is new)."""
    least, most = max(1, placement.min_replicas), placement.max_replicas
    if now is None or (not placement.sleeps and not scales_itself(placement)):
        return least
    if now == 0 and placement.sleeps:
        return 0
    return min(max(now, least), most)


def _metadata(order: PodsOrder, shape: PodShape) -> Document:
    return {
        "name": object_name(order.endpoint, order.placement.target),
        "labels": {**shape.labels, "app.kubernetes.io/name": "modelyard", **_selector(order)},
        "annotations": {ENDPOINT: order.endpoint},
    }


def _selector(order: PodsOrder) -> dict[str, str]:
    return {
        "app.kubernetes.io/component": COMPONENT,
        "app.kubernetes.io/managed-by": "modelyard",
        ENDPOINT: digest_of(order.endpoint),
        TARGET: order.placement.target,
    }


def _secret(order: PodsOrder, shape: PodShape) -> Document:
    data = {key: base64.b64encode(value).decode() for key, value in _secrets(order, shape).items()}
    return {"apiVersion": "v1", "kind": "Secret", "type": "Opaque", "metadata": _metadata(order, shape), "data": data}


def _secrets(order: PodsOrder, shape: PodShape) -> dict[str, bytes]:
    every = {"token": order.token.encode(), STATE_KEYS: order.state_keys, SERVICE_TOKEN: shape.service_token.encode()}
    return {key: value for key, value in every.items() if value}


def _service(order: PodsOrder, shape: PodShape, *, headless: bool = False) -> Document:
    metadata = _metadata(order, shape)
    metadata["name"] += "-pods" if headless else ""
    spec: Document = {
        "selector": _selector(order),
        "ports": [{"name": "grpc", "port": PORT, "targetPort": "grpc", "appProtocol": "grpc"}],
    }
    spec |= {"clusterIP": "None"} if headless else {}
    return {"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": spec}


def _budget(order: PodsOrder, shape: PodShape) -> Document:
    """A node that is drained takes one pod at a time; a lone pod goes too, or nodes could not be drained at all."""
    spec = {"maxUnavailable": 1, "selector": {"matchLabels": _selector(order)}, "unhealthyPodEvictionPolicy": "AlwaysAllow"}
    return {"apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": _metadata(order, shape), "spec": spec}


def _autoscaler(order: PodsOrder, shape: PodShape) -> Document:
    name, placement = object_name(order.endpoint, order.placement.target), order.placement
    target = {"type": "Utilization", "averageUtilization": shape.cpu_percent}
    spec = {
        "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": name},
        "minReplicas": max(1, placement.min_replicas),
        "maxReplicas": placement.max_replicas,
        "metrics": [{"type": "Resource", "resource": {"name": "cpu", "target": target}}],
    }
    metadata = _metadata(order, shape)
    return {"apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler", "metadata": metadata, "spec": spec}


def _pod(order: PodsOrder, shape: PodShape) -> Document:
    target = order.target
    pod: Document = {
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": int(PRE_STOP_S + shape.drain_s + 10),
        "securityContext": pod_security.of_pod(shape.user),
        "containers": [_container(order, shape)],
        "volumes": _volumes(order, shape),
        "topologySpreadConstraints": [_spread(order, key) for key in ("kubernetes.io/hostname", "topology.kubernetes.io/zone")],
    }
    pod |= {"nodeSelector": dict(target.node_selector)} if target.node_selector else {}
    pod |= {"tolerations": [dict(each) for each in target.tolerations]} if target.tolerations else {}
    pod |= {"runtimeClassName": target.runtime_class} if target.runtime_class else {}
    pod |= {"priorityClassName": target.priority_class} if target.priority_class else {}
    pod |= {"imagePullSecrets": [{"name": name} for name in shape.pull_secrets]} if shape.pull_secrets else {}
    return pod


def _spread(order: PodsOrder, key: str) -> Document:
    """Pods of an endpoint to different nodes, where there are enough: one node that is lost takes one of them."""
    return {
        "maxSkew": 1,
        "topologyKey": key,
        "whenUnsatisfiable": "ScheduleAnyway",
        "labelSelector": {"matchLabels": _selector(order)},
        "matchLabelKeys": ["pod-template-hash"],
    }


def _container(order: PodsOrder, shape: PodShape) -> Document:
    mounts: list[Document] = [
        {"name": "data", "mountPath": DATA},
        {"name": "tmp", "mountPath": "/tmp"},  # noqa: S108  the container's own
        {"name": "follow", "mountPath": FOLLOW, "readOnly": True},
    ]
    mounts += [{"name": "tls", "mountPath": TLS, "readOnly": True}] if shape.tls_secret else []
    name = object_name(order.endpoint, order.placement.target)
    from_secret = {"name": "MODELYARD_SERVICE_TOKEN", "valueFrom": {"secretKeyRef": {"name": name, "key": SERVICE_TOKEN}}}
    secret: list[Document] = [from_secret] if shape.service_token else []
    container: Document = {
        "name": CONTAINER,
        "image": order.target.image or shape.image,
        "command": ["python3", "-m", "modelyard.serving", "--follow", shape.address],
        "env": [{"name": key, "value": value} for key, value in sorted(_environment(order, shape).items())] + secret,
        "ports": [
            {"name": "grpc", "containerPort": PORT},
            {"name": "health", "containerPort": HEALTH_PORT},
            {"name": "metrics", "containerPort": METRICS_PORT},
        ],
        "resources": _resources(order),
        "volumeMounts": mounts,
        "startupProbe": _probe(period=1, failures=START_S),
        "readinessProbe": _probe(period=2, failures=2),
        "livenessProbe": _probe(period=10, failures=6),
        "lifecycle": {"preStop": {"exec": {"command": ["python3", "-c", f"import time; time.sleep({PRE_STOP_S})"]}}},
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "securityContext": pod_security.of_container(),
    }
    return container | ({"imagePullPolicy": shape.pull_policy} if shape.pull_policy else {})


def _probe(*, period: int, failures: int) -> Document:
    """Serving is said once the golden requests of every version that the pod is to hold have passed. On the port without TLS."""
    return {"grpc": {"port": HEALTH_PORT}, "periodSeconds": period, "timeoutSeconds": 3, "failureThreshold": failures}


def _environment(order: PodsOrder, shape: PodShape) -> dict[str, str]:
    made = {
        **shape.environment,
        **order.target.environment,
        "HOME": DATA,
        "TMPDIR": "/tmp",  # noqa: S108  the container's own
        "PYTHONUNBUFFERED": "1",
        "MODELYARD_DATA_DIR": DATA,
        "MODELYARD_HOST": "0.0.0.0",  # noqa: S104  a pod's own network
        "MODELYARD_PORT": str(PORT),
        "MODELYARD_HEALTH_PORT": str(HEALTH_PORT),
        "MODELYARD_METRICS_PORT": str(METRICS_PORT),
        "MODELYARD_DRAIN_S": f"{shape.drain_s:g}",
        "MODELYARD_LOG_FORMAT": "json",
        "MODELYARD_FOLLOW_ENDPOINT": order.endpoint,
        "MODELYARD_FOLLOW_TARGET": order.placement.target,
        "MODELYARD_FOLLOW_TOKEN_FILE": f"{FOLLOW}/token",
    }
    if order.state_keys:
        made["MODELYARD_FOLLOW_STATE_KEYS"] = f"{FOLLOW}/{STATE_KEYS}"
    if shape.node_cache:
        made["MODELYARD_FOLLOW_CACHE"] = shape.node_cache
    if shape.tls_secret:
        made |= {f"MODELYARD_TLS_{key}": f"{TLS}/{file}" for key, file in _TLS_FILES.items()}
    return made


_TLS_FILES: Final = {"CERTIFICATE": "tls.crt", "KEY": "tls.key", "CA": "ca.crt"}


def _resources(order: PodsOrder) -> Document:
    """Memory is a limit too, so that a pod cannot take its node's; the processor is not: idle cores are for whoever has work."""
    placement, target = order.placement, order.target
    memory = placement.memory or target.memory
    requests = {"cpu": placement.cpu or target.cpu, "memory": memory}
    limits = {"memory": memory}
    gpus = placement.gpus or (target.gpu if placement.target == "gpu" else 0)
    if gpus:
        requests[target.gpu_resource] = limits[target.gpu_resource] = str(gpus)
    return {"requests": requests, "limits": limits}


def _volumes(order: PodsOrder, shape: PodShape) -> list[Document]:
    name = object_name(order.endpoint, order.placement.target)
    tls = [{"name": "tls", "secret": {"secretName": shape.tls_secret, "defaultMode": 0o440}}] if shape.tls_secret else []
    return [
        {"name": "data", "emptyDir": {"sizeLimit": order.target.disk}},
        {"name": "tmp", "emptyDir": {"sizeLimit": "256Mi"}},
        {"name": "follow", "secret": {"secretName": name, "defaultMode": 0o440}},
        *tls,
    ]
