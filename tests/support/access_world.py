"""All services on one port that asks who calls, and the tokens of some people."""

from __future__ import annotations

import hashlib
import importlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc

from modelyard.client import Access
from modelyard.client.channels import open_channel
from modelyard.core.access.rules import RULES, Where
from modelyard.core.platform import open_platform
from modelyard.core.settings import CoreSettings
from tests.support.certificates import Authority
from tests.support.contracts import every_method
from tests.support.hosted import hosted

SERVICES = ("dataset", "trainer", "exporter", "evaluator", "serving", "pipeline")
PROJECT = "flowers"
ROLES: dict[str, dict[str, str]] = {
    "admin": {"*": "admin"},
    "owner": {PROJECT: "admin"},
    "deployer": {PROJECT: "deployer"},
    "editor": {PROJECT: "editor"},
    "annotator": {PROJECT: "annotator"},
    "viewer": {PROJECT: "viewer"},
    "stranger": {"weeds": "admin"},
    "nobody": {},
}
METHODS = every_method()


def token_of(name: str) -> str:
    """The token of somebody: long enough, and the same in every run."""
    return f"{name}-{hashlib.sha256(name.encode()).hexdigest()}"


def write_tokens(path: Path) -> Path:
    """A tokens file with everybody of ROLES, and `late`, whose token has expired."""
    entries = [{"name": name, "sha256": _sha256(name), "roles": roles} for name, roles in ROLES.items()]
    entries.append({"name": "late", "sha256": _sha256("late"), "roles": {"*": "admin"}, "expires": "2020-01-01T00:00:00Z"})
    path.write_text(json.dumps({"tokens": entries}))
    return path


def _sha256(name: str) -> str:
    return hashlib.sha256(token_of(name).encode()).hexdigest()


@dataclass(frozen=True)
class World:
    """A running server. `access` is a caller's without a token."""

    address: str
    access: Access
    authority: Authority | None
    metrics_port: int
    services: frozenset[str]
    """Full names of what is there."""

    def as_(self, name: str) -> Access:
        """Somebody's access; "" has no token."""
        return Access(token=token_of(name) if name else "", ca=self.access.ca)

    def call(self, path: str, name: str, project: str = PROJECT, access: Access | None = None) -> tuple[str, str]:
        """Call a method about a project as somebody; gives the status code's name and the reason."""
        with open_channel(self.address, access or self.as_(name)) as channel:
            return ask(channel, path, project)


def ask(channel: Any, path: str, project: str) -> tuple[str, str]:
    """Call a method with a request that is about a project and else empty."""
    method = METHODS[path]
    request = request_for(path, project)
    response = _message_class(method.output_type)
    kind = f"{'stream' if method.client_streaming else 'unary'}_{'stream' if method.server_streaming else 'unary'}"
    call = getattr(channel, kind)(path, type(request).SerializeToString, response.FromString)
    try:
        answer = call(iter([request]) if method.client_streaming else request, timeout=20)
        if method.server_streaming:
            next(iter(answer), None)
    except grpc.RpcError as error:
        return error.code().name, reason_of(error)
    return "OK", ""


def reason_of(error: Any) -> str:
    """The reason in an error's google.rpc.ErrorInfo; empty without one."""
    from google.rpc import error_details_pb2, status_pb2

    details = dict(error.trailing_metadata() or ()).get("grpc-status-details-bin", b"")
    info = error_details_pb2.ErrorInfo()
    for detail in status_pb2.Status.FromString(details).details:
        if detail.Unpack(info):
            return str(info.reason)
    return ""


def request_for(path: str, project: str) -> Any:
    """The smallest request that says which project it is about."""
    rule = RULES[path]
    message = _message_class(METHODS[path].input_type)()
    values = {
        Where.RESOURCE: f"projects/{project}" if rule.field.endswith("parent") else f"projects/{project}/things/one",
        Where.MODEL: f"{project}.one",
        Where.ARTIFACT: f"artifact://dataset/{'0' * 64}",
    }
    if rule.where in values:
        *parents, last = rule.field.split(".")
        inner: Any = message
        for parent in parents:
            inner = getattr(inner, parent)
        setattr(inner, last, values[rule.where])
    return message


def _message_class(descriptor: Any) -> Any:
    from google.protobuf import message_factory

    return message_factory.GetMessageClass(descriptor)


@contextmanager
def access_world(folder: Path, *, tls: bool, **settings: Any) -> Iterator[World]:
    """A server over a folder; with `tls` also mutual TLS."""
    from tests.support.servers import free_port

    authority, access, more = None, Access(), dict[str, Any]()
    if tls:
        authority = Authority(folder / "tls")
        pair = authority.sign("server", "localhost", "127.0.0.1")
        more = {"tls_certificate": pair.certificate, "tls_key": pair.key, "tls_ca": authority.ca}
        access = Access(ca=authority.ca)
    folder.mkdir(parents=True, exist_ok=True)
    values = {"data_dir": folder / "data", "auth": "token", "tokens_file": write_tokens(folder / "tokens.json"), "drain_s": 0.2}
    made = CoreSettings(**{**values, "metrics_port": free_port(), **more, **settings})
    platform = open_platform(made, "modelyard")
    built = [importlib.import_module(f"modelyard.{name}.bootstrap").build(platform.for_service(name)) for name in SERVICES]
    with hosted(platform, built) as address:
        names = {mount.full_name for service in built for mount in service.mounts}
        own = {"modelyard.artifact.v1.ArtifactService", "modelyard.worker.v1.WorkerService"}
        yield World(address, access, authority, made.metrics_port, frozenset(names | own))
