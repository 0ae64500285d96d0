"""Who is believed, and what they may: certificates, services, OIDC, inference tokens, artifacts, quotas, the audit log; over real
servers.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import grpc
import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from modelyard.client import (
    Access,
    AsyncClient,
    Client,
    InvalidArgument,
    NotFound,
    PermissionDenied,
    ResourceExhausted,
    Unauthenticated,
)
from modelyard.client.channels import open_channel
from modelyard.core.rpc import tls
from tests.support.access_world import World, access_world, ask, token_of, write_tokens
from tests.support.certificates import Authority, Pair

LIST = "/modelyard.dataset.v1.DatasetService/ListDatasets"
CREATE = "/modelyard.dataset.v1.DatasetService/CreateDataset"
SERVICE_TOKEN = "s" * 40
ISSUER = "https://issuer.example"


@pytest.fixture(scope="module")
def signing() -> Any:
    return rsa.generate_private_key(65537, 2048)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory, signing: Any) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("ways")
    quotas = folder / "quotas.json"
    quotas.write_text(json.dumps({"projects": {"small": {"endpoints": 1, "upload_bytes": 1000, "artifact_bytes": "3KiB"}}}))
    tls.LOOK_EVERY_S = 0.0
    settings = {
        "service_token": SERVICE_TOKEN,
        "quotas_file": quotas,
        "oidc_issuer": ISSUER,
        "oidc_audience": "modelyard",
        "oidc_jwks": str(write_jwks(folder / "jwks.json", signing)),
    }
    with access_world(folder, tls=True, **settings) as made:
        yield made


def write_jwks(path: Path, key: Any) -> Path:
    document = json.loads(jwt.algorithms.RSAAlgorithm.to_jwk(key.public_key()))
    path.write_text(json.dumps({"keys": [{**document, "kid": "one", "use": "sig"}]}))
    return path


def client(world: World, name: str, project: str = "flowers", **more: Any) -> Client:
    return Client(world.address, project=project, access=world.as_(name), patience_s=0, **more)


def with_certificate(world: World, pair: Pair) -> Access:
    return Access(ca=world.access.ca, certificate=pair.certificate, key=pair.key)


def authority_of(world: World) -> Authority:
    assert world.authority is not None
    return world.authority


# --- certificates


def test_a_services_certificate_says_who_it_is(world: World) -> None:
    pair = authority_of(world).sign("trainer", "trainer.modelyard.internal")
    assert world.call(LIST, "", access=with_certificate(world, pair)) == ("OK", "")
    with Client(world.address, access=with_certificate(world, pair)) as made:
        assert made.access.get_caller().principal == "service:trainer"


@pytest.mark.parametrize(
    "name", ["trainer.example", "someone.modelyard.internal", "x.trainer.modelyard.internal", "gateway.modelyard.internal"]
)
def test_another_certificate_says_nothing(world: World, name: str) -> None:
    pair = authority_of(world).sign("other", name)
    assert world.call(LIST, "", access=with_certificate(world, pair)) == ("UNAUTHENTICATED", "NO_TOKEN")


def test_a_certificate_of_another_authority_is_not_let_in(world: World, tmp_path: Path) -> None:
    pair = Authority(tmp_path, "somebody").sign("trainer", "trainer.modelyard.internal")
    assert world.call(LIST, "", access=with_certificate(world, pair))[0] == "UNAVAILABLE"


def test_a_token_outranks_the_certificate(world: World) -> None:
    pair = authority_of(world).sign("trainer", "trainer.modelyard.internal")
    access = Access(token_of("viewer"), world.access.ca, pair.certificate, pair.key)
    assert world.call(CREATE, "", access=access) == ("PERMISSION_DENIED", "NOT_ALLOWED")


def test_plain_text_is_not_understood_on_a_port_with_tls(world: World) -> None:
    access = Access(token_of("admin"))
    with open_channel(f"http://{world.address}", access) as channel:
        assert ask(channel, LIST, "flowers")[0] == "UNAVAILABLE"


@pytest.mark.parametrize("way", ["auto", "grpc"])
def test_a_renewed_certificate_is_used_without_a_restart(tmp_path: Path, way: str) -> None:
    tls.LOOK_EVERY_S = 0.0
    with access_world(tmp_path, tls=True, front=way) as made:
        assert made.call(LIST, "viewer") == ("OK", "")
        renewed = Authority(tmp_path / "renewed")
        pair = renewed.sign("new", "localhost", "127.0.0.1")
        server = tmp_path / "tls"
        _half_written(server / "server.pem", server / "server.key")
        assert made.call(LIST, "viewer", access=_fresh(made, "viewer")) == ("OK", "")
        _move(pair.certificate, server / "server.pem")
        _move(pair.key, server / "server.key")
        assert made.call(LIST, "", access=Access(token_of("viewer"), renewed.ca)) == ("OK", "")
        assert made.call(LIST, "viewer", access=_fresh(made, "viewer"))[0] == "UNAVAILABLE"


def _fresh(world: World, name: str) -> Access:
    return Access(token_of(name), world.access.ca)


def _half_written(certificate: Path, key: Path) -> None:
    certificate.write_text(certificate.read_text()[:200])


def _move(source: Path, target: Path) -> None:
    temporary = target.with_suffix(".new")
    temporary.write_bytes(source.read_bytes())
    temporary.replace(target)


# --- tokens


def test_the_service_token_is_a_services(world: World) -> None:
    with Client(world.address, access=Access(SERVICE_TOKEN, world.access.ca)) as made:
        assert made.access.get_caller().principal == "service:token"


def test_who_calls_is_told(world: World) -> None:
    with client(world, "editor") as made:
        caller = made.access.get_caller()
    assert (caller.principal, dict(caller.roles)) == ("user:editor", {"flowers": "editor"})


Claims = Callable[[dict[str, Any]], dict[str, Any]]


def oidc_token(key: Any, algorithm: str = "RS256", kid: str = "one", **claims: Any) -> str:
    now = datetime.now(UTC)
    content = {
        "iss": ISSUER, "aud": "modelyard", "sub": "1234", "preferred_username": "anna",
        "exp": now + timedelta(minutes=5), "modelyard_roles": {"flowers": "viewer"},
    }  # fmt: skip
    return jwt.encode({**content, **claims}, key, algorithm, headers={"kid": kid})


def test_an_oidc_token_is_believed(world: World, signing: Any) -> None:
    token = oidc_token(signing)
    with Client(world.address, project="flowers", access=Access(token, world.access.ca), patience_s=0) as made:
        assert made.access.get_caller().principal == "user:anna"
        assert list(made.datasets.list_datasets()) == []
        with pytest.raises(PermissionDenied):
            made.datasets.create_dataset("one")
    listed = oidc_token(signing, modelyard_roles=["flowers:viewer", "*:nonsense"])
    with Client(world.address, project="flowers", access=Access(listed, world.access.ca), patience_s=0) as made:
        assert dict(made.access.get_caller().roles) == {}


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        ({"iss": "https://another.example"}, "TOKEN_INVALID"),
        ({"aud": "another"}, "TOKEN_INVALID"),
        ({"exp": 1_700_000_000}, "TOKEN_EXPIRED"),
        ({"nbf": 4_000_000_000}, "TOKEN_INVALID"),
        ({"kid": "two"}, "TOKEN_INVALID"),
    ],
)
def test_an_oidc_token_that_is_wrong_is_not(world: World, signing: Any, wrong: dict[str, Any], reason: str) -> None:
    refused(world, oidc_token(signing, **wrong), reason)


def test_forged_oidc_tokens_are_refused(world: World, signing: Any) -> None:
    refused(world, oidc_token(rsa.generate_private_key(65537, 2048)), "TOKEN_INVALID")
    refused(world, oidc_token(ec.generate_private_key(ec.SECP256R1()), "ES256"), "TOKEN_INVALID")
    refused(world, oidc_token("x" * 64, "HS256"), "TOKEN_INVALID")
    head, body, _ = oidc_token(signing).split(".")
    refused(world, f"{head}.{body}.", "TOKEN_INVALID")
    refused(
        world,
        jwt.encode({"sub": "1", "iss": ISSUER, "aud": "modelyard", "exp": 4e9}, None, "none", {"kid": "one"}),
        "TOKEN_INVALID",
    )


def refused(world: World, token: str, reason: str) -> None:
    assert world.call(LIST, "", access=Access(token, world.access.ca)) == ("UNAUTHENTICATED", reason)


def test_a_token_is_not_sent_where_others_could_read_it() -> None:
    with pytest.raises(InvalidArgument, match="unencrypted"):
        open_channel("example.com:8970", Access("secret"))
    open_channel("http://example.com:8970", Access("secret")).close()
    open_channel("https://example.com", Access("secret")).close()


def test_a_tokens_file_that_changes_is_read_again(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from modelyard.core.access import documents
    from modelyard.core.access.authentication import Authenticator
    from modelyard.core.errors import Unauthenticated as Unknown
    from modelyard.core.settings import CoreSettings

    monkeypatch.setattr(documents, "LOOK_EVERY_S", 0.0)
    path = write_tokens(tmp_path / "tokens.json")
    known = Authenticator(CoreSettings(data_dir=tmp_path, auth="token", tokens_file=path))
    header = f"Bearer {token_of('viewer')}"
    found = known.quick(header, ())
    assert found is not None
    assert found.name == "user:viewer"
    path.write_text("{half")
    assert known.quick(header, ()) == found
    path.write_text(json.dumps({"tokens": [{"name": "v2", "sha256": hashlib.sha256(b"another").hexdigest(), "roles": {}}]}))
    assert known.quick(header, ()) is None
    with pytest.raises(Unknown):
        known.slow(header, "ipv4:127.0.0.1:1")


# --- references and artifacts


def test_nothing_of_another_project_is_referred_to(world: World) -> None:
    with client(world, "admin") as made, pytest.raises(PermissionDenied) as caught:
        made.endpoints.create_deployment("one", export="projects/weeds/exports/x", gate_decision="g")
    assert caught.value.reason == "OTHER_PROJECT"
    assert caught.value.values["value"] == "projects/weeds/exports/x"


def test_bytes_belong_to_who_sent_them(world: World, tmp_path: Path) -> None:
    path = tmp_path / "secret.bin"
    path.write_bytes(b"of flowers" * 10)
    with client(world, "editor") as made, client(world, "stranger", "weeds") as other:
        blob = made.artifacts.upload(path)
        assert made.artifacts.download(blob, tmp_path / "again").read_bytes() == path.read_bytes()
        with pytest.raises(PermissionDenied):
            other.artifacts.download(blob, tmp_path / "stolen")
        other.datasets.create_dataset("weeds")
        with pytest.raises(PermissionDenied) as caught:
            other.datasets.create_import("weeds", blob)
        assert caught.value.reason == "OTHER_PROJECT"


# --- inference tokens


def test_an_inference_token_is_good_for_its_endpoint_alone(world: World) -> None:
    infer, ready = "/inference.GRPCInferenceService/ModelInfer", "/inference.GRPCInferenceService/ModelMetadata"
    with client(world, "deployer") as made:
        made.endpoints.create_endpoint("shop")
        token = made.inference_tokens.create_inference_token("shop", display_name="till")
        assert token.creator == "user:deployer"
        access = Access(token.token, world.access.ca)

        def outcome(path: str, model: str) -> tuple[str, str]:
            from inference import grpc_service_pb2 as oip

            kind = oip.ModelInferRequest(model_name=model) if path == infer else oip.ModelMetadataRequest(name=model)
            with open_channel(world.address, access) as channel:
                try:
                    channel.unary_unary(path, lambda message: message.SerializeToString(), bytes)(kind, timeout=10)
                except grpc.RpcError as error:
                    return error.code().name, error.details()
            return "OK", ""

        for path in (infer, ready):
            assert outcome(path, "flowers.shop")[0] == "NOT_FOUND"  # nothing is deployed: it was let through
            for other in ("flowers.other", "weeds.shop", "shop", ""):
                assert outcome(path, other)[0] == "PERMISSION_DENIED"
        for path in (LIST, CREATE, "/inference.GRPCInferenceService/RepositoryIndex"):
            assert world.call(path, "", access=access)[0] == "PERMISSION_DENIED"
        listed = list(made.inference_tokens.list_inference_tokens("shop"))
        assert [(one.name, one.display_name, one.token) for one in listed] == [(token.name, "till", "")]
        made.inference_tokens.delete_inference_token(token.name)
        deadline = time.monotonic() + 10
        while outcome(infer, "flowers.shop")[0] != "UNAUTHENTICATED":
            assert time.monotonic() < deadline
            time.sleep(0.2)
        with pytest.raises(InvalidArgument):
            made.inference_tokens.create_inference_token("shop", expire_time=datetime.now(UTC) - timedelta(days=1))
        with pytest.raises(NotFound):
            made.inference_tokens.create_inference_token("nothing")


# --- quotas


def test_quotas_are_named_when_they_are_used_up(world: World, tmp_path: Path) -> None:
    path = tmp_path / "large.bin"
    with client(world, "admin", "small") as made:
        made.endpoints.create_endpoint("one")
        with pytest.raises(ResourceExhausted) as caught:
            made.endpoints.create_endpoint("two")
        assert {**caught.value.values} == {"quota": "endpoints", "limit": "1", "used": "1", "project": "small"}
        path.write_bytes(b"x" * 1001)
        with pytest.raises(ResourceExhausted, match="upload_bytes"):
            made.artifacts.upload(path)
        for number in range(3):
            path.write_bytes(bytes([number]) * 1000)
            made.artifacts.upload(path)
        path.write_bytes(b"y" * 1000)
        with pytest.raises(ResourceExhausted, match="artifact_bytes"):
            made.artifacts.upload(path)
        use = {one.quota: (one.limit, one.used) for one in made.access.get_usage().quotas}
        assert use["endpoints"] == (1, 1)
        assert use["artifact_bytes"] == (3072, 3000)
        assert use["gpus"] == (-1, 0)


def test_a_quota_failure_says_so_in_the_details(world: World) -> None:
    from google.rpc import error_details_pb2, status_pb2

    from modelyard.core.access.quotas import _exceeded
    from modelyard.core.jobs.convert import error_status
    from modelyard.core.rpc.status import error_of

    status = status_pb2.Status.FromString(error_status(error_of(_exceeded("p", "gpus", 2, 3, "no"))).SerializeToString())
    found = error_details_pb2.QuotaFailure()
    assert any(detail.Unpack(found) for detail in status.details)
    assert found.violations[0].subject == "projects/p"
    assert found.violations[0].description.startswith("gpus:")


# --- the audit log


def test_what_was_done_and_refused_is_written_down(world: World) -> None:
    refused(world, token_of("late"), "TOKEN_EXPIRED")
    with client(world, "editor", "audited") as made, pytest.raises(PermissionDenied):
        made.datasets.create_dataset("one")
    with client(world, "admin", "audited") as made:
        made.datasets.create_dataset("two")
        list(made.datasets.list_datasets())
        page = made.access.list_audit_events()
        found = [(one.principal, one.method.rpartition("/")[2], one.resource, one.code, one.reason) for one in page.audit_events]
        assert found == [
            ("user:admin", "CreateDataset", "projects/audited", "OK", ""),
            ("user:editor", "CreateDataset", "projects/audited", "PERMISSION_DENIED", "NOT_ALLOWED"),
        ]
        assert all(one.peer.startswith("ipv4:127.0.0.1:") and one.request_id for one in page.audit_events)
        assert [one.code for one in made.access.list_audit_events(refused=True).audit_events] == ["PERMISSION_DENIED"]
        everything = str(made.access.list_audit_events(everything=True, page_size=1000))
    assert "UNAUTHENTICATED" in everything
    assert not any(token_of(name) in everything for name in ("admin", "editor", "viewer", "late"))
    with client(world, "deployer", "flowers") as made, pytest.raises(PermissionDenied):
        made.access.list_audit_events()
    with client(world, "owner") as made:
        made.access.list_audit_events()
        with pytest.raises(PermissionDenied):
            made.access.list_audit_events(everything=True)


async def test_the_asyncio_client_says_who_it_is_too(world: World) -> None:
    async with AsyncClient(world.address, project="flowers", access=world.as_("viewer")) as made:
        assert (await made.access.get_caller()).principal == "user:viewer"
    async with AsyncClient(world.address, project="flowers", access=world.as_("late"), patience_s=0) as made:
        with pytest.raises(Unauthenticated):
            await made.access.get_caller()
