"""Endpoints, deployments and events as contract messages, and what callers want of them."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Final

from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from modelyard.core.errors import InvalidArgument
from modelyard.core.jobs.convert import blob_message, timestamp
from modelyard.serving.domain.endpoint import DeploymentEvent, DeploymentState, DeploymentView, EndpointView, EventKind
from modelyard.serving.domain.rollback import RollbackPolicy
from modelyard.serving.domain.version_statistics import percentile_ms
from modelyard.serving.handlers.figures import Figures
from modelyard.serving.handlers.shadow import ShadowReport
from modelyard.serving.handlers.traffic import Update
from modelyard.serving.ports import NewEndpoint
from modelyard.serving.rpc.convert_drift import drift_message
from modelyard.serving.rpc.convert_pods import placement_message, placement_status, placements_of, pod_message
from modelyard.serving.v1 import serving_pb2

UPDATABLE: Final = {"display_name", "traffic", "labels", "shadow", "rollback_policy", "sticky_header", "placements"}
"""What UpdateEndpoint can change."""

_STATES: Final = {
    DeploymentState.LOADING: serving_pb2.Deployment.STATE_LOADING,
    DeploymentState.READY: serving_pb2.Deployment.STATE_READY,
    DeploymentState.FAILED: serving_pb2.Deployment.STATE_FAILED,
    DeploymentState.UNHEALTHY: serving_pb2.Deployment.STATE_UNHEALTHY,
    DeploymentState.UNLOADED: serving_pb2.Deployment.STATE_UNLOADED,
}
_KINDS: Final = {kind: serving_pb2.DeploymentEvent.Kind.Value(f"KIND_{kind.value}") for kind in EventKind}


def new_endpoint(message: serving_pb2.Endpoint) -> NewEndpoint:
    """What a caller says of an endpoint that is to be made. Raises InvalidArgument NO_VERSION_YET for traffic and the like."""
    for field in ("traffic", "labels", "shadow"):
        if message.HasField("shadow") if field == "shadow" else getattr(message, field):
            wrong = f"endpoint.{field} is set, but a new endpoint has no version yet; deploy first, then UpdateEndpoint"
            raise InvalidArgument("NO_VERSION_YET", wrong, field=f"endpoint.{field}")
    return NewEndpoint(
        message.display_name, _policy(message.rollback_policy), message.sticky_header, placements_of(message.placements)
    )


def update_of(message: serving_pb2.Endpoint, paths: set[str]) -> Update:
    """What a caller wants changed: the fields of an endpoint that a mask names."""
    traffic = [(share.deployment, share.percent) for share in message.traffic]
    labels = [(label.label, label.deployment) for label in message.labels]
    shadow = (message.shadow.deployment, message.shadow.percent)
    return Update(
        display_name=message.display_name if "display_name" in paths else None,
        traffic=traffic if "traffic" in paths else None,
        labels=labels if "labels" in paths else None,
        shadow=(shadow if message.HasField("shadow") else ("", 0)) if "shadow" in paths else None,
        policy=_policy(message.rollback_policy) if "rollback_policy" in paths else None,
        sticky_header=message.sticky_header if "sticky_header" in paths else None,
        placements=placements_of(message.placements) if "placements" in paths else None,
    )


def endpoint_message(view: EndpointView) -> serving_pb2.Endpoint:
    """An endpoint with what it serves."""
    endpoint, shadow = view.endpoint, view.endpoint.shadow
    return serving_pb2.Endpoint(
        name=endpoint.name,
        display_name=endpoint.display_name,
        deployments=[deployment_message(deployment) for deployment in view.deployments],
        default_version=view.default_version,
        create_time=timestamp(endpoint.create_time),
        update_time=timestamp(endpoint.update_time),
        etag=endpoint.etag,
        traffic=_traffic(endpoint.routing.shares),
        labels=_labels(endpoint.routing.labels),
        shadow=serving_pb2.Shadow(deployment=shadow.version, percent=shadow.percent) if shadow else None,
        rollback_policy=_policy_message(endpoint.policy),
        sticky_header=endpoint.sticky_header,
        placements=[placement_message(placement) for placement in endpoint.placements],
        pods=[pod_message(pod) for pod in view.pods],
        placement_statuses=[placement_status(each, view.pods) for each in view.placements],
    )


def deployment_message(view: DeploymentView) -> serving_pb2.Deployment:
    """A deployment as it fares on this server."""
    deployment = view.deployment
    return serving_pb2.Deployment(
        name=deployment.name,
        export=deployment.export,
        gate_decision=deployment.gate_decision,
        model_version=deployment.model_version,
        artifact=blob_message(deployment.artifact),
        state=_STATES[view.condition.state],
        error_message=view.condition.message,
        create_time=timestamp(deployment.create_time),
        batched=view.batched,
        batching_note=view.batching_note,
        threads=view.threads,
    )


def event_message(event: DeploymentEvent) -> serving_pb2.DeploymentEvent:
    """A line of the record."""
    return serving_pb2.DeploymentEvent(
        sequence=event.sequence,
        time=timestamp(event.time),
        kind=_KINDS[event.kind],
        deployment=event.deployment,
        artifact_sha256=event.artifact_sha256,
        model_version=event.model_version,
        detail=event.detail,
        traffic=_traffic(event.shares),
        labels=_labels(event.labels),
    )


def shadow_message(report: ShadowReport) -> serving_pb2.ShadowReport:
    """How a shadow compares."""
    seen = report.comparison
    return serving_pb2.ShadowReport(
        endpoint=report.endpoint,
        deployment=report.version,
        start_time=timestamp(seen.start_time),
        requests=seen.requests,
        failures=seen.failures,
        skipped=seen.skipped,
        examples=seen.examples,
        agreed=seen.agreed,
        mean_difference=seen.mean_difference,
        max_difference=seen.max_difference,
        p99_ms=percentile_ms(seen.latencies, 0.99),
        answering_p99_ms=percentile_ms(seen.answering_latencies, 0.99),
    )


def figures_message(figures: Figures) -> serving_pb2.DeploymentStatistics:
    """How a deployment fares."""
    counts = figures.statistics
    return serving_pb2.DeploymentStatistics(
        deployment=figures.deployment,
        successes=counts.successes,
        failures=counts.failures,
        examples=counts.examples,
        executions=counts.executions,
        p50_ms=percentile_ms(counts.latencies, 0.5),
        p99_ms=percentile_ms(counts.latencies, 0.99),
        drift=[drift_message(score) for score in figures.drift],
        start_time=_moment(counts.start_time),
        crashes=counts.crashes,
        memory_bytes=figures.memory_bytes,
    )


def _traffic(shares: Mapping[str, int]) -> list[serving_pb2.TrafficShare]:
    return [serving_pb2.TrafficShare(deployment=version, percent=percent) for version, percent in shares.items()]


def _labels(labels: Mapping[str, str]) -> list[serving_pb2.Label]:
    return [serving_pb2.Label(label=label, deployment=version) for label, version in labels.items()]


def _policy(message: serving_pb2.RollbackPolicy) -> RollbackPolicy:
    usual = RollbackPolicy()
    window = message.window.seconds + message.window.nanos / 1e9
    return RollbackPolicy(
        window_s=window if message.HasField("window") else usual.window_s,
        max_error_rate=message.max_error_rate if message.HasField("max_error_rate") else usual.max_error_rate,
        max_latency_ratio=message.max_latency_ratio if message.HasField("max_latency_ratio") else usual.max_latency_ratio,
        min_requests=message.min_requests if message.HasField("min_requests") else usual.min_requests,
        disabled=message.disabled,
    )


def _policy_message(policy: RollbackPolicy) -> serving_pb2.RollbackPolicy:
    window = Duration()
    window.FromTimedelta(timedelta(seconds=policy.window_s))
    return serving_pb2.RollbackPolicy(
        window=window,
        max_error_rate=policy.max_error_rate,
        max_latency_ratio=policy.max_latency_ratio,
        min_requests=policy.min_requests,
        disabled=policy.disabled,
    )


def _moment(seconds: float) -> Timestamp | None:
    return timestamp(datetime.fromtimestamp(seconds, UTC))
