"""Every method of every service, called with no token, a wrong one, one that has expired, another project's, and one of too small
a role: refused with the right status, on every port and by every way in.
"""

from __future__ import annotations

import http.client
import json
import ssl
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import pytest

from modelyard.client import Access
from modelyard.client.channels import open_channel
from modelyard.core.access.principal import Role
from modelyard.core.access.rules import HTTP_RULES, RULES, Where
from tests.support.access_world import METHODS, World, access_world, ask, token_of

WAYS = {
    "front": {"tls": False},
    "front with TLS": {"tls": True},
    "grpc.aio with TLS": {"tls": True, "front": "grpc"},
}
ASKED = sorted(path for path, rule in RULES.items() if path in METHODS and rule.where not in (Where.OPEN, Where.OWN))
IN_PROJECT = [path for path in ASKED if RULES[path].where in (Where.RESOURCE, Where.MODEL)]


@pytest.fixture(scope="module", params=list(WAYS), ids=str)
def world(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with access_world(tmp_path_factory.mktemp("access"), **WAYS[request.param]) as made:
        yield made


def outcomes(world: World, paths: list[str], access: Access, project: str = "flowers") -> dict[str, tuple[str, str]]:
    """What each method answers, over one channel."""
    paths = [path for path in paths if path.split("/")[1] in world.services]
    with open_channel(world.address, access) as channel, ThreadPoolExecutor(4) as pool:
        return dict(zip(paths, pool.map(lambda path: ask(channel, path, project), paths), strict=True))


def all_are(found: dict[str, tuple[str, str]], *expected: tuple[str, str]) -> None:
    assert {path: outcome for path, outcome in found.items() if outcome not in expected} == {}


def test_without_a_token_all_are_unauthenticated(world: World) -> None:
    all_are(outcomes(world, ASKED, world.as_("")), ("UNAUTHENTICATED", "NO_TOKEN"))


def test_with_an_expired_token_all_are_unauthenticated(world: World) -> None:
    asked = [path for path in ASKED if RULES[path].where is not Where.JOB]
    all_are(outcomes(world, asked, world.as_("late")), ("UNAUTHENTICATED", "TOKEN_EXPIRED"))


def test_another_projects_token_is_not_permitted(world: World) -> None:
    all_are(outcomes(world, IN_PROJECT, world.as_("stranger")), ("PERMISSION_DENIED", "NOT_ALLOWED"))


def test_too_small_a_role_is_not_permitted(world: World) -> None:
    below = {
        Role.VIEWER: "nobody",
        Role.ANNOTATOR: "viewer",
        Role.EDITOR: "annotator",
        Role.DEPLOYER: "editor",
        Role.ADMIN: "deployer",
    }
    for role, name in below.items():
        paths = [path for path in IN_PROJECT if RULES[path].role is role]
        all_are(outcomes(world, paths, world.as_(name)), ("PERMISSION_DENIED", "NOT_ALLOWED"))


def test_whoever_may_is_let_through(world: World) -> None:
    """Or else a server that refuses everything would pass all of the above."""
    names = {
        Role.VIEWER: "viewer",
        Role.ANNOTATOR: "annotator",
        Role.EDITOR: "editor",
        Role.DEPLOYER: "deployer",
        Role.ADMIN: "owner",
    }
    for role, name in names.items():
        paths = [path for path in IN_PROJECT if RULES[path].role is role]
        found = outcomes(world, paths, world.as_(name))
        assert {path: it for path, it in found.items() if it[0] in ("UNAUTHENTICATED", "PERMISSION_DENIED", "INTERNAL")} == {}


def test_an_answer_never_says_whether_a_thing_of_another_project_exists(world: World) -> None:
    method = "/modelyard.dataset.v1.DatasetService/GetDataset"
    assert world.call(method, "admin", "weeds")[0] in ("NOT_FOUND", "INVALID_ARGUMENT")
    assert world.call(method, "viewer", "weeds") == world.call(method, "viewer", "nothing")


def test_what_is_about_the_whole_server_needs_a_role_everywhere(world: World) -> None:
    method = "/inference.GRPCInferenceService/RepositoryIndex"
    assert world.call(method, "owner") == ("PERMISSION_DENIED", "NOT_ALLOWED")
    assert world.call(method, "admin") == ("OK", "")


def test_probes_are_open(world: World) -> None:
    from grpc_health.v1 import health_pb2, health_pb2_grpc

    with open_channel(world.address, world.as_("")) as channel:
        assert health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=10).status == 1
    assert world.call("/inference.GRPCInferenceService/ServerLive", "") == ("OK", "")


def test_reflection_asks_too(world: World) -> None:
    from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

    def listed(access: Access) -> str:
        with open_channel(world.address, access) as channel:
            stub = reflection_pb2_grpc.ServerReflectionStub(channel)
            request = reflection_pb2.ServerReflectionRequest(list_services="")
            try:
                return str(next(iter(stub.ServerReflectionInfo(iter([request]), timeout=10))))
            except grpc.RpcError as error:
                return str(error.code())

    assert "UNAUTHENTICATED" in listed(world.as_(""))
    assert "modelyard.dataset.v1.DatasetService" in listed(world.as_("viewer"))


def test_the_metrics_port_asks_too(world: World) -> None:
    assert http(world, "GET", "/metrics", "", port=world.metrics_port)[0] == 401
    assert http(world, "GET", "/metrics", "viewer", port=world.metrics_port)[0] == 403
    status, body = http(world, "GET", "/metrics", "admin", port=world.metrics_port)
    assert status == 200
    assert "modelyard_rpc_calls_total" in body


def test_rest_refuses_as_grpc_does(world: World, request: pytest.FixtureRequest) -> None:
    if "grpc.aio" in request.node.name:
        pytest.skip("grpc.aio alone has no REST")
    for method, pattern, rule in HTTP_RULES:
        path = _example(pattern.pattern)
        assert pattern.fullmatch(path), path
        if rule.where is Where.OPEN:
            assert http(world, method, path, "")[0] in (200, 503)
            continue
        for name in ("", "late", "unknown"):
            status, body = http(world, method, path, name)
            assert (status, "error" in json.loads(body)) == (401, True), (path, name, body)
        if rule.where is not Where.NOWHERE:
            assert http(world, method, path, "stranger")[0] == 403, path
            assert http(world, method, path, "admin")[0] not in (401, 403), path
    assert http(world, "GET", "/v2/something/else", "admin")[0] == 404
    assert http(world, "GET", "/v2/something/else", "")[0] == 401


# Last: it uses up what one address may try.
def test_z_with_a_wrong_token_all_are_unauthenticated(world: World) -> None:
    found = outcomes(world, ASKED, Access(token="x" * 43, ca=world.access.ca))
    jobs = {path: outcome for path, outcome in found.items() if RULES[path].where is Where.JOB}
    all_are(jobs, ("UNAUTHENTICATED", "NO_TOKEN"))
    others = {path: outcome for path, outcome in found.items() if path not in jobs}
    all_are(others, ("UNAUTHENTICATED", "TOKEN_INVALID"), ("RESOURCE_EXHAUSTED", "TOO_MANY_ATTEMPTS"))
    refused = [outcome for outcome in others.values() if outcome[0] == "UNAUTHENTICATED"]
    assert 1 <= len(refused) <= 40
    assert world.call("/modelyard.dataset.v1.DatasetService/ListDatasets", "viewer") == ("OK", "")


def _example(pattern: str) -> str:
    for part, text in (
        ("(?P<model>[^/]+)", "flowers.one"), ("(?:/versions/[^/]*)?", "/versions/3"), ("(/(ready|config|stats))?", "/stats"),
        ("(live|ready)", "live"), ("(load|unload)", "load"), ("(system|cuda)", "cuda"), ("(/region/[^/]*)?", "/region/x"),
        ("(un)?", "un"), ("(/models/[^/]*)?", "/models/x"),
    ):  # fmt: skip
        pattern = pattern.replace(part, text)
    return pattern


def http(world: World, method: str, path: str, name: str, port: int | None = None) -> tuple[int, str]:
    host, _, own = world.address.rpartition(":")
    made: Any = http_client(world, host, port or int(own))
    headers = {"authorization": f"Bearer {token_of(name)}"} if name else {}
    try:
        made.request(method, path, body=b"{}" if method == "POST" else None, headers=headers)
        answer = made.getresponse()
        return answer.status, answer.read().decode()
    finally:
        made.close()


def http_client(world: World, host: str, port: int) -> http.client.HTTPConnection:
    from http.client import HTTPConnection, HTTPSConnection

    if world.authority is None:
        return HTTPConnection(host, port, timeout=20)
    return HTTPSConnection(host, port, timeout=20, context=ssl.create_default_context(cafile=str(world.authority.ca)))


def test_folder(tmp_path: Path) -> None:
    """Settings that let nobody in are told at the start."""
    from modelyard.core.access.composition import build_guard
    from modelyard.core.errors import InvalidArgument
    from modelyard.core.settings import CoreSettings

    with pytest.raises(InvalidArgument, match="MODELYARD_TOKENS_FILE"):
        build_guard(CoreSettings(data_dir=tmp_path, auth="token"))
