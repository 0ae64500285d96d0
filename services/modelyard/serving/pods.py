"""Versions in pods, put together from settings: what runs the pods, how they are asked, and who they may follow."""

from __future__ import annotations

import os
import ssl
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Final

import cattrs
import structlog

from modelyard.client.access import Access
from modelyard.client.channels import authorization, bare_channel
from modelyard.core.errors import InvalidArgument
from modelyard.core.platform import access_of
from modelyard.serving.adapters.pod_connections import Line
from modelyard.serving.adapters.pod_manifests import USUAL_TARGETS, PodShape, Target
from modelyard.serving.adapters.pod_probe import GrpcPodProbe
from modelyard.serving.adapters.pods_process import PodOrder, ProcessFleet
from modelyard.serving.adapters.remote_loader import PodVersions
from modelyard.serving.adapters.remote_model import RemoteLimits
from modelyard.serving.domain.placement import TARGETS
from modelyard.serving.handlers.fleet_access import FleetAccess
from modelyard.serving.handlers.pod_board import PodBoard, PodTimes
from modelyard.serving.ports import EndpointStore, PodFleet
from modelyard.serving.settings import ServingSettings

log = structlog.get_logger()

ALIKE: Final = (
    *("ISOLATION", "DEVICE", "INFERENCE_THREADS", "INTRA_OP_THREADS", "INFERENCE_QUEUE", "EXECUTION_TIMEOUT_S"),
    *("MODEL_MEMORY_MIB", "MAX_BATCH_SIZE", "MAX_MESSAGE_BYTES", "MAX_CONNECTIONS", "IDLE_S", "DRAIN_S"),
    *("LOG_FORMAT", "LOG_LEVEL", "TRACING_ENDPOINT", "TRACING_SHARE"),
)
"""Settings that pods have alike with the service: how models are run, who may call, what is logged. No secret is among them."""
POD_NAME: Final = "serving-pod.modelyard.internal"
"""Whom the certificate of pods names: they have no address that lasts."""


def pod_versions(
    settings: ServingSettings,
    store: EndpointStore,
    access: FleetAccess,
    state_keys: Callable[[], bytes],
    own_address: Callable[[], str],
) -> PodVersions | None:
    """What has versions live in pods, or None where they live in the service's own processes.

    `own_address`: where this server listens, once it does. Raises InvalidArgument, FailedPrecondition NO_CLUSTER.
    """
    if settings.serving_pods == "none":
        return None
    fleet: PodFleet
    if settings.serving_pods == "kubernetes":
        fleet = _kubernetes(settings, access, state_keys)
    else:
        fleet = ProcessFleet(settings.data_dir / "pods", _process_command(access, state_keys, own_address))
    times = PodTimes(settings.pods_hold_s, settings.pods_cold_start_s, settings.pods_ready_s)
    in_cluster = settings.serving_pods == "kubernetes"
    access_to_pods = replace(access_of(settings), server_name=POD_NAME) if in_cluster else Access()
    secured = in_cluster and bool(settings.pods_tls_secret)
    probe = GrpcPodProbe(partial(_open_channel, access_to_pods, secured), authorization(access_to_pods), access_to_pods.stamp)
    board = PodBoard(fleet, probe, times)
    line = Line(
        tls=RenewedContext(access_to_pods) if secured else lambda: None,
        server_name=POD_NAME if secured else "",
        metadata=tuple((key.encode(), value.encode()) for key, value in authorization(access_to_pods)),
        most_bytes=settings.max_message_bytes,
    )
    return PodVersions(store, board, line, RemoteLimits(settings.inference_queue))


def read_targets(path: Path | None) -> Mapping[str, Target]:
    """The kinds of nodes: the usual ones, with what a YAML or JSON file says of them. Raises InvalidArgument BAD_TARGETS."""
    if path is None:
        return USUAL_TARGETS
    found = dict(USUAL_TARGETS)
    for number, entry in enumerate(_entries(path)):
        name = entry.get("name") if isinstance(entry, dict) else None
        if name not in TARGETS:
            raise _bad_targets(path, f"entry {number} has the name {name!r}; it must be one of {', '.join(TARGETS)}")
        known = cattrs.unstructure(USUAL_TARGETS[name])
        unknown = set(entry) - set(known)
        if unknown:
            raise _bad_targets(path, f"{name} has {sorted(unknown)[0]!r}; known are {', '.join(sorted(known))}")
        try:
            found[name] = cattrs.structure({**known, **entry}, Target)
        except (cattrs.BaseValidationError, TypeError, ValueError) as error:
            raise _bad_targets(path, f"{name} has a value of the wrong kind: {cattrs.transform_error(error)[0]}") from error
    return found


def _entries(path: Path) -> Sequence[Any]:
    import yaml  # only where there is such a file

    try:
        found = yaml.safe_load(path.read_text())
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise _bad_targets(path, f"it cannot be read: {error}") from error
    if not isinstance(found, list):
        raise _bad_targets(path, "it must hold a list")
    return found


def _kubernetes(settings: ServingSettings, access: FleetAccess, state_keys: Callable[[], bytes]) -> PodFleet:
    from modelyard.core.jobs.kubernetes_api import connect, parse_owner
    from modelyard.serving.adapters.pods_kubernetes import KubernetesFleet

    targets = read_targets(settings.serving_targets)
    for name, value in (("serving_image", settings.serving_image), ("pods_address", settings.pods_address)):
        if not value:
            variable = f"MODELYARD_{name.upper()}"
            message = f"{variable} is empty; with MODELYARD_SERVING_PODS=kubernetes it must be set (see its description)"
            raise InvalidArgument("NO_" + name.upper(), message, field=name)
    if settings.pods_owner:
        parse_owner(settings.pods_owner, "pods_owner")
    known = bool(settings.pods_tls_secret or settings.service_token.get_secret_value())
    asks = settings.auth == "token" and known
    if settings.auth == "token" and not known:
        log.warning("serving pods cannot tell who calls them: set MODELYARD_PODS_TLS_SECRET or MODELYARD_SERVICE_TOKEN")
    shape = PodShape(
        image=settings.serving_image,
        address=settings.pods_address,
        node_cache=settings.pods_node_cache,
        environment={**_alike(os.environ), "MODELYARD_AUTH": "token" if asks else "none"},
        service_token=settings.service_token.get_secret_value(),
        tls_secret=settings.pods_tls_secret,
        pull_secrets=_names(settings.pods_pull_secrets),
        pull_policy=settings.pods_pull_policy,
        user=settings.pods_user,
        labels=dict(pair.split("=", 1) for pair in _names(settings.pods_labels) if "=" in pair),
        drain_s=settings.drain_s,
        cpu_percent=settings.pods_cpu_percent,
    )
    api = connect(settings.pods_namespace)
    return KubernetesFleet(api, shape, access.pod_token, targets=targets, state_keys=state_keys, owner=settings.pods_owner)


def _process_command(
    access: FleetAccess, state_keys: Callable[[], bytes], own_address: Callable[[], str]
) -> Callable[[PodOrder], tuple[Sequence[str], Mapping[str, str]]]:
    def command(order: PodOrder) -> tuple[Sequence[str], Mapping[str, str]]:
        token, keys = order.folder / "token", order.folder / "state-keys.pem"
        token.touch(0o600)
        token.write_text(access.pod_token(order.endpoint, order.target))
        keys.write_bytes(state_keys())
        line = [sys.executable, "-m", "modelyard.serving", "--follow", own_address(), "--endpoint", order.endpoint]
        line += ["--target", order.target, "--token-file", str(token), "--host", "127.0.0.1", "--port", str(order.port)]
        others = {key: value for key, value in os.environ.items() if not key.startswith("MODELYARD_")}
        own = {"MODELYARD_DATA_DIR": str(order.folder), "MODELYARD_FOLLOW_STATE_KEYS": str(keys)}
        return line, {**others, **_alike(os.environ), **own}

    return command


def _alike(environment: Mapping[str, str]) -> dict[str, str]:
    return {f"MODELYARD_{key}": environment[f"MODELYARD_{key}"] for key in ALIKE if environment.get(f"MODELYARD_{key}")}


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]


def _open_channel(access: Access, secured: bool, address: str) -> Any:
    """A channel of which the caller sends the token himself."""
    options = [("grpc.enable_http_proxy", 0), ("grpc.max_receive_message_length", 64 << 20)]
    return bare_channel(f"{'https' if secured else 'http'}://{address}", access, options)


class RenewedContext:
    """What this server trusts of its pods, and shows them of itself: what the files hold, which are renewed, at that time."""

    def __init__(self, access: Access) -> None:
        self._access = access
        self._stamp = access.stamp()
        self._context = self._read()

    def __call__(self) -> ssl.SSLContext:
        """The context of a connection that begins now."""
        stamp = self._access.stamp()
        if stamp != self._stamp:
            try:
                self._context, self._stamp = self._read(), stamp
            except (OSError, ssl.SSLError) as error:  # half of a pair: the one before goes on
                log.error("the changed certificate cannot be used", error=str(error))
        return self._context

    def _read(self) -> ssl.SSLContext:
        access = self._access
        context = ssl.create_default_context(cafile=str(access.ca) if access.ca is not None else None)
        context.set_alpn_protocols(["h2"])
        if access.certificate is not None and access.key is not None:
            context.load_cert_chain(access.certificate, access.key)
        return context


def _bad_targets(path: Path, why: str) -> InvalidArgument:
    return InvalidArgument("BAD_TARGETS", f"MODELYARD_SERVING_TARGETS ({path}): {why}", field="serving_targets")
