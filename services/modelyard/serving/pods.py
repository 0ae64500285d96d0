"""Versions in pods, put together from settings: what runs the pods, how they are asked, and who they may follow."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import cattrs
import grpc

from modelyard.core.errors import InvalidArgument
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

NOT_FOR_PODS: Final = ("SERVING_", "PODS_", "DATABASE_", "S3_", "ARTIFACTS_", "TLS_", "WORKER_", "RUNNER", "METRICS_", "FLEET_")
"""Settings of the service that its pods must not have, after MODELYARD_."""
NOT_ALIKE: Final = ("HOST", "PORT", "DATA_DIR", "FLAVORS")


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
    board = PodBoard(fleet, GrpcPodProbe(_open_channel), times)
    line = Line(most_bytes=settings.max_message_bytes)
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
    from modelyard.serving.adapters.cluster_objects import connect, parse_owner
    from modelyard.serving.adapters.pods_kubernetes import KubernetesFleet

    targets = read_targets(settings.serving_targets)
    for name, value in (("serving_image", settings.serving_image), ("pods_address", settings.pods_address)):
        if not value:
            variable = f"MODELYARD_{name.upper()}"
            message = f"{variable} is empty; with MODELYARD_SERVING_PODS=kubernetes it must be set (see its description)"
            raise InvalidArgument("NO_" + name.upper(), message, field=name)
    if settings.pods_owner:
        parse_owner(settings.pods_owner)
    shape = PodShape(
        image=settings.serving_image,
        address=settings.pods_address,
        node_cache=settings.pods_node_cache,
        environment=_alike(os.environ),
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
    """What pods have alike with the service: how models are run, who may call, how is logged."""
    found = {key.removeprefix("MODELYARD_"): value for key, value in environment.items() if key.startswith("MODELYARD_")}
    mine = {key: value for key, value in found.items() if key not in NOT_ALIKE and not key.startswith(NOT_FOR_PODS)}
    return {f"MODELYARD_{key}": value for key, value in mine.items() if not key.endswith("_ADDRESS") or key == "TRACING_ENDPOINT"}


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]


def _open_channel(address: str) -> Any:
    options = [("grpc.enable_http_proxy", 0), ("grpc.max_receive_message_length", 64 << 20)]
    return grpc.insecure_channel(address, options)


def _bad_targets(path: Path, why: str) -> InvalidArgument:
    return InvalidArgument("BAD_TARGETS", f"MODELYARD_SERVING_TARGETS ({path}): {why}", field="serving_targets")
