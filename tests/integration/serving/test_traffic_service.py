"""Traffic, labels, shadow, policy and statistics over the contract: what is sent is kept, what is wrong is named."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from google.protobuf import duration_pb2, field_mask_pb2

from modelyard.client import (
    Aborted,
    AlreadyExists,
    Client,
    FailedPrecondition,
    InvalidArgument,
    ModelyardClientError,
    NotFound,
)
from modelyard.serving.v1 import serving_pb2, serving_service_pb2
from tests.support.bundles import mlp_bundle
from tests.support.serving_server import ServingWorld, serving

ENDPOINT = "projects/default/endpoints/mlp"
Yard = tuple[ServingWorld, Client]


@pytest.fixture(scope="module")
def yard(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Yard]:
    """An endpoint with V001 (all the traffic) and V002 (none)."""
    folder = tmp_path_factory.mktemp("serving")
    with serving(folder / "data") as world, Client(world.address) as client:
        client.endpoints.create_endpoint("mlp")
        for number, percent in ((1, None), (2, 0)):
            export, gate = world.exports.add(f"x{number}", f"V00{number}", mlp_bundle(folder / f"{number}.zip", seed=number))
            client.endpoints.create_deployment("mlp", export=export, gate_decision=gate, percent=percent)
        yield world, client


def shares(endpoint: serving_pb2.Endpoint) -> dict[str, int]:
    return {share.deployment: share.percent for share in endpoint.traffic}


def refused(call: Any, kind: type[ModelyardClientError] = InvalidArgument) -> tuple[str, str]:
    with pytest.raises(kind) as error:
        call()
    violations = error.value.violations
    return error.value.reason, violations[0].field if violations else ""


def test_what_is_said_of_an_endpoint_is_kept(yard: Yard) -> None:
    _, client = yard
    window = duration_pb2.Duration(seconds=90, nanos=500_000_000)
    policy = serving_pb2.RollbackPolicy(window=window, max_error_rate=0.0, max_latency_ratio=1.5, min_requests=7)
    client.endpoints.create_endpoint("kept", display_name="A", sticky_header="x-user", rollback_policy=policy)
    got = client.endpoints.get_endpoint("kept")
    assert (got.display_name, got.sticky_header) == ("A", "x-user")
    assert got.rollback_policy == policy
    got = client.endpoints.update_endpoint("kept", display_name="B", sticky_header="")
    assert (got.display_name, got.sticky_header, got.rollback_policy) == ("B", "", policy)


def test_a_new_endpoint_has_nobody_to_give_traffic_to(yard: Yard) -> None:
    _, client = yard
    for field, endpoint in (
        ("traffic", serving_pb2.Endpoint(traffic=[serving_pb2.TrafficShare(deployment="V001", percent=100)])),
        ("labels", serving_pb2.Endpoint(labels=[serving_pb2.Label(label="best", deployment="V001")])),
        ("shadow", serving_pb2.Endpoint(shadow=serving_pb2.Shadow(deployment="V001", percent=1))),
    ):
        request = serving_service_pb2.CreateEndpointRequest(parent="projects/default", endpoint_id="early", endpoint=endpoint)
        said = refused(lambda request=request: client.endpoints._call("CreateEndpoint", request, serving_pb2.Endpoint))
        assert said == ("NO_VERSION_YET", f"endpoint.{field}")


def test_an_endpoint_says_the_policy_that_counts(yard: Yard) -> None:
    _, client = yard
    policy = client.endpoints.get_endpoint("mlp").rollback_policy
    assert (policy.window.seconds, policy.max_error_rate, policy.max_latency_ratio, policy.min_requests) == (600, 0.01, 2.0, 50)


def test_all_of_an_update_happens_or_nothing(yard: Yard) -> None:
    _, client = yard
    before = client.endpoints.get_endpoint("mlp")
    wrong = {"display_name": "other", "traffic": {"V002": 100}, "labels": {"V009": "V001"}}
    assert refused(lambda: client.endpoints.update_endpoint("mlp", **wrong)) == ("BAD_LABEL", "endpoint.labels[0].label")  # type: ignore[arg-type]
    assert client.endpoints.get_endpoint("mlp") == before


@pytest.mark.parametrize(
    ("change", "reason", "field"),
    [
        ({"traffic": {"V001": 60, "V002": 60}}, "BAD_TRAFFIC_SUM", "endpoint.traffic"),
        ({"traffic": {"V001": 150, "V002": -50}}, "BAD_PERCENT", "endpoint.traffic[0].percent"),
        ({"traffic": {"V009": 100}}, "UNKNOWN_VERSION", "endpoint.traffic[0].deployment"),
        ({"labels": {"best": "V009"}}, "UNKNOWN_VERSION", "endpoint.labels[0].deployment"),
        ({"labels": {"v1": "V001"}}, "BAD_LABEL", "endpoint.labels[0].label"),
        ({"shadow": serving_pb2.Shadow(deployment="V002")}, "BAD_PERCENT", "endpoint.shadow.percent"),
        ({"shadow": serving_pb2.Shadow(deployment="../x", percent=5)}, "UNKNOWN_VERSION", "endpoint.shadow.deployment"),
        ({"sticky_header": "X User"}, "BAD_STICKY_HEADER", "endpoint.sticky_header"),
        (
            {"rollback_policy": serving_pb2.RollbackPolicy(min_requests=0)},
            "BAD_ROLLBACK_POLICY",
            "endpoint.rollback_policy.min_requests",
        ),
        (
            {"rollback_policy": serving_pb2.RollbackPolicy(max_error_rate=float("nan"))},
            "BAD_ROLLBACK_POLICY",
            "endpoint.rollback_policy.max_error_rate",
        ),
        ({"display_name": "x" * 201}, "DISPLAY_NAME_TOO_LONG", "endpoint.display_name"),
        ({}, "BAD_UPDATE_MASK", "update_mask"),
    ],
)
def test_what_cannot_be_is_refused_by_field(yard: Yard, change: dict[str, Any], reason: str, field: str) -> None:
    _, client = yard
    assert refused(lambda: client.endpoints.update_endpoint("mlp", **change)) == (reason, field)


def test_an_unknown_field_of_a_mask_is_refused(yard: Yard) -> None:
    _, client = yard
    request = serving_service_pb2.UpdateEndpointRequest(
        endpoint=serving_pb2.Endpoint(name=ENDPOINT), update_mask=field_mask_pb2.FieldMask(paths=["name"])
    )
    assert refused(lambda: client.endpoints._call("UpdateEndpoint", request, serving_pb2.Endpoint))[0] == "BAD_UPDATE_MASK"


def test_an_old_etag_is_refused(yard: Yard) -> None:
    _, client = yard
    old = client.endpoints.get_endpoint("mlp").etag
    client.endpoints.update_endpoint("mlp", display_name="newer", etag=old)
    assert refused(lambda: client.endpoints.update_endpoint("mlp", display_name="x", etag=old), Aborted)[0] == "ETAG_MISMATCH"


def test_going_there_and_back(yard: Yard) -> None:
    _, client = yard
    client.endpoints.create_endpoint("new")
    assert refused(lambda: client.endpoints.rollback_endpoint("new"), FailedPrecondition)[0] == "NOTHING_TO_ROLL_BACK"
    assert refused(lambda: client.endpoints.rollback_endpoint("none"), NotFound)[0] == "RESOURCE_NOT_FOUND"
    assert refused(lambda: client.endpoints.rollback_endpoint("mlp", reason="x" * 501)) == ("REASON_TOO_LONG", "reason")
    client.endpoints.update_endpoint("mlp", traffic={"V001": 100})
    client.endpoints.update_endpoint("mlp", traffic={"V001": 70, "V002": 30}, labels={"best": "V002"})
    back = client.endpoints.rollback_endpoint("mlp", reason="no")
    assert shares(back) == {"V001": 100}
    assert "best" not in {label.label for label in back.labels}
    last = next(iter(client.endpoints.list_deployment_events("mlp")))
    assert last.kind == serving_pb2.DeploymentEvent.KIND_ROLLED_BACK
    assert last.detail.endswith("no")
    assert {share.deployment: share.percent for share in last.traffic} == {"V001": 100}


def test_a_version_beside_its_int8_export(yard: Yard, tmp_path: Path) -> None:
    world, client = yard
    export, gate = world.exports.add("x1-int8", "V001", mlp_bundle(tmp_path / "int8.zip", seed=9))
    with pytest.raises(AlreadyExists) as taken:
        client.endpoints.create_deployment("mlp", export=export, gate_decision=gate)
    free = taken.value.values["free_id"]
    assert f"{free!r} is free" in str(taken.value)
    made = client.endpoints.create_deployment("mlp", export=export, gate_decision=gate, deployment_id=free, percent=0)
    assert made.name == f"{ENDPOINT}/deployments/{free}"
    assert client.predictions.predict("mlp", tensors={"x": np.ones((1, 4), np.float32)}, version=free).model_version == free
    client.endpoints.delete_deployment(f"mlp/{free}")
    bad = refused(lambda: client.endpoints.create_deployment("mlp", export=export, gate_decision=gate, deployment_id="../x"))
    assert bad == ("BAD_DEPLOYMENT_ID", "deployment_id")


def test_what_a_version_did_is_told(yard: Yard) -> None:
    _, client = yard
    before = client.endpoints.get_deployment_statistics("mlp/V002")
    for _ in range(5):
        client.predictions.predict("mlp", tensors={"x": np.ones((3, 4), np.float32)}, version="V002")
    after = client.endpoints.get_deployment_statistics("mlp/V002")
    assert (after.successes - before.successes, after.examples - before.examples, after.failures) == (5, 15, 0)
    assert 0 < after.p50_ms <= after.p99_ms
    assert after.start_time.seconds > 0
    assert after.deployment == f"{ENDPOINT}/deployments/V002"
    assert refused(lambda: client.endpoints.get_deployment_statistics("mlp/V009"), NotFound)[0] == "RESOURCE_NOT_FOUND"


def test_a_deployment_says_how_it_is_run(yard: Yard) -> None:
    _, client = yard
    deployment = client.endpoints.get_deployment("mlp/V001")
    assert deployment.threads >= 1
    assert deployment.batched or deployment.batching_note


def test_without_a_shadow_there_is_no_report(yard: Yard) -> None:
    _, client = yard
    assert refused(lambda: client.endpoints.get_shadow_report("mlp"), FailedPrecondition)[0] == "NO_SHADOW"
    client.endpoints.update_endpoint("mlp", shadow=serving_pb2.Shadow(deployment="V002", percent=100))
    assert client.endpoints.get_shadow_report("mlp").deployment == "V002"
    client.endpoints.update_endpoint("mlp", no_shadow=True)
    assert not client.endpoints.get_endpoint("mlp").HasField("shadow")
