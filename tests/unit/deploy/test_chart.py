"""The chart renders for every way to install it, keeps the promises that can be read from it, and refuses wrong values."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

CHART = Path(__file__).parents[3] / "deploy" / "helm" / "modelyard"
HELM = shutil.which("helm") or str(Path.home() / ".cache" / "local-cluster" / "bin" / "helm")
needs_helm = pytest.mark.skipif(
    not os.access(HELM, os.X_OK), reason="helm is not installed (../shared/cluster/00-ensure.sh helm)"
)
pytestmark = needs_helm

WAYS = {
    "as it is": [],
    "small": ["-f", str(CHART / "values-small.yaml")],
    "on kind": ["-f", str(CHART / "values-small.yaml"), "-f", str(CHART.parents[1] / "kind" / "values.yaml")],
    "brought": [
        "--set", "database.existingSecret=db,artifacts.existingSecret=s3,passport.existingSecret=p",
        "--set", "agentToken.existingSecret=a,fleet.existingSecret=f",
        "--set", "auth.tokensSecret=t,test.tokenSecret=x,tls.certificates=secrets,tls.gatewaySecret=public",
    ],
    "cert-manager": ["--set", "tls.certificates=certManager,tls.issuerRef.name=ours"],
    "open": ["--set", "tls.enabled=false,auth.mode=none,networkPolicy.enabled=false,metrics.enabled=false"],
    "outside": [
        "--set", "ingress.enabled=true,ingress.host=yard.example,gatewayApi.enabled=true,gatewayApi.parentRefs[0].name=public",
        "--set", "gateway.service.type=NodePort,gateway.service.nodePort=30970,metrics.serviceMonitor=true",
    ],
    "behind Traefik": [
        "--set", "ingress.enabled=true,ingress.host=yard.example,ingress.controller=traefik,console.enabled=true",
        "--set", "console.ingress.enabled=true,console.ingress.host=console.example,gatewayApi.enabled=true",
        "--set", "gatewayApi.route=HTTPRoute,gatewayApi.parentRefs[0].name=public",
        "--set", "tls.certificates=certManager,tls.issuerRef.name=ours",
    ],
    "with pages": [
        "--set", "console.enabled=true,console.ingress.enabled=true,console.ingress.host=console.example",
        "--set", "console.ingress.tlsSecret=t",
        "--set", "auth.oidc.issuer=https://id.example,auth.oidc.audience=yard,console.oidc.clientId=console",
        "--set", "console.oidc.existingSecret=o,networkPolicy.externalCIDRs[0]=192.0.2.0/24",
    ],
    "in processes": ["--set", "jobs.runner=process,serving.pods=none,serving.autoscaling.enabled=true"],
}  # fmt: skip


def rendered(*options: str) -> list[dict[str, Any]]:
    command = [HELM, "template", "yard", str(CHART), "--namespace", "here", "--kube-version", "1.34.0", *options]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return [document for document in yaml.safe_load_all(done.stdout) if document]


def kinds(documents: list[dict[str, Any]], *names: str) -> list[dict[str, Any]]:
    return [document for document in documents if document["kind"] in names]


def pods(documents: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    found = {}
    for document in documents:
        if document["kind"] in ("Deployment", "StatefulSet", "DaemonSet", "Job"):
            found[document["metadata"]["name"]] = document["spec"]["template"]["spec"]
        elif document["kind"] == "Pod":
            found[document["metadata"]["name"]] = document["spec"]
    return found


@pytest.mark.parametrize("way", WAYS)
def test_every_way_renders_pods_that_may_do_little(way: str) -> None:
    documents = rendered(*WAYS[way])
    for name, pod in pods(documents).items():
        assert pod["enableServiceLinks"] is False, name
        assert pod["securityContext"]["runAsNonRoot"] is True, name
        assert pod["securityContext"]["runAsUser"] > 0, name
        assert not any("hostPath" in volume for volume in pod.get("volumes", [])), name
        for container in [*pod["containers"], *pod.get("initContainers", [])]:
            allowed = container["securityContext"]
            assert allowed["readOnlyRootFilesystem"] is True, name
            assert allowed["allowPrivilegeEscalation"] is False, name
            assert allowed["capabilities"]["drop"] == ["ALL"], name
            assert container["resources"]["requests"]["memory"], name
            assert container["resources"]["limits"]["memory"], name
    kinds = {document["kind"] for document in documents}
    assert kinds.isdisjoint({"ClusterRole", "ClusterRoleBinding"})


def test_only_what_creates_jobs_or_pods_may_talk_to_kubernetes() -> None:
    documents = rendered()
    with_token = {name for name, pod in pods(documents).items() if pod["automountServiceAccountToken"]}
    assert with_token == {f"yard-modelyard-{name}" for name in ("dataset", "trainer", "exporter", "evaluator", "serving")}
    roles = [document for document in documents if document["kind"] == "Role"]
    rights = {
        (resource, verb) for role in roles for rule in role["rules"] for resource in rule["resources"] for verb in rule["verbs"]
    }
    assert ("secrets", "list") not in rights
    assert ("secrets", "delete") not in rights
    assert ("pods", "create") not in rights
    assert "*" not in {part for right in rights for part in right}
    in_processes = rendered(*WAYS["in processes"])
    assert not any(pod["automountServiceAccountToken"] for pod in pods(in_processes).values())


def test_workers_are_called_by_nobody() -> None:
    policies = {one["metadata"]["name"]: one["spec"] for one in rendered() if one["kind"] == "NetworkPolicy"}
    worker = {
        "app.kubernetes.io/name": "modelyard",
        "app.kubernetes.io/instance": "yard",
        "app.kubernetes.io/component": "worker",
    }
    of_workers = {name: policy for name, policy in policies.items() if selects(policy["podSelector"], worker)}
    assert sorted(of_workers) == ["yard-modelyard-default-deny", "yard-modelyard-outwards"]
    assert not any(policy.get("ingress") for policy in of_workers.values())
    assert of_workers["yard-modelyard-default-deny"]["policyTypes"] == ["Ingress", "Egress"]
    inside = policies["yard-modelyard-inside"]
    assert selects(inside["podSelector"], {**worker, "app.kubernetes.io/component": "trainer"})
    assert all(rule["ports"] for rule in inside["ingress"]), "not even a worker reaches every port of a service"


def test_the_console_is_off_until_it_is_wanted() -> None:
    assert "console" not in json.dumps([one["metadata"] for one in rendered()])


def test_the_console_may_do_nothing_but_call_the_gateway() -> None:
    documents = rendered(*WAYS["with pages"])
    mine = {one["kind"]: one for one in documents if one["metadata"]["name"] == "yard-modelyard-console"}
    assert set(mine) == {"Deployment", "Service", "ServiceAccount", "NetworkPolicy", "Ingress"}
    pod = mine["Deployment"]["spec"]["template"]["spec"]
    assert (pod["serviceAccountName"], pod["automountServiceAccountToken"]) == ("yard-modelyard-console", False)
    subjects = [subject["name"] for one in documents if one["kind"] == "RoleBinding" for subject in one["subjects"]]
    assert "yard-modelyard-console" not in subjects
    labels = mine["Deployment"]["spec"]["template"]["metadata"]["labels"]
    policies = [one for one in documents if one["kind"] == "NetworkPolicy" and selects(one["spec"]["podSelector"], labels)]
    assert sorted(one["metadata"]["name"] for one in policies) == ["yard-modelyard-console", "yard-modelyard-default-deny"]
    gateway, outside = mine["NetworkPolicy"]["spec"]["egress"]
    assert gateway["to"][0]["podSelector"]["matchLabels"]["app.kubernetes.io/component"] == "gateway"
    assert outside == {"to": [{"ipBlock": {"cidr": "192.0.2.0/24"}}]}
    (container,) = pod["containers"]
    said = {each["name"]: each.get("value") for each in container["env"]}
    assert said["MODELYARD_CONSOLE_SERVER"] == "yard-modelyard-gateway.here.svc.cluster.local:8970"
    assert (said["MODELYARD_CONSOLE_ADDRESS"], said["MODELYARD_CONSOLE_AUTH"]) == ("https://console.example", "token")
    assert not any("TOKEN" in name and name != "MODELYARD_CONSOLE_OIDC_TOKEN" for name in said), "it has no token of its own"
    assert container["args"] == ["modelyard.console"]
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        assert container[probe]["httpGet"] == {"path": "/healthz", "port": "pages", "scheme": "HTTPS"}
    assert mine["Ingress"]["metadata"]["annotations"]["nginx.ingress.kubernetes.io/backend-protocol"] == "HTTPS"
    # Its certificate is no service's: shown to one, it would have made a caller without a token a service.
    names = {one["metadata"]["name"]: one["metadata"].get("annotations", {}).get("modelyard/names", "") for one in documents}
    assert names["yard-modelyard-console-tls"].startswith("console,")
    assert "modelyard.internal" not in names["yard-modelyard-console-tls"]


def test_settings_of_the_console_are_those_that_it_reads() -> None:
    from modelyard.console.shared import settings_of

    for way in (WAYS["with pages"], [*WAYS["open"], "--set", "console.enabled=true"]):
        (pod,) = (pod for name, pod in pods(rendered(*way)).items() if name == "yard-modelyard-console")
        said = {each["name"]: each.get("value", "secret") for each in pod["containers"][0]["env"]}
        settings = settings_of(said)
        assert (settings.signs_in, settings.oidc is not None) == ((True, True) if way is WAYS["with pages"] else (False, False))
        assert bool(settings.certificate) is bool(settings.ca) is (way is WAYS["with pages"])
        assert settings.server.startswith("http://") is (way is not WAYS["with pages"])


def selects(selector: dict[str, Any], labels: dict[str, str]) -> bool:
    """Whether a selector of the operators In and NotIn selects a pod with these labels."""
    fits = all(labels.get(key) == value for key, value in selector.get("matchLabels", {}).items())
    return fits and all(
        (labels.get(each["key"]) in each["values"]) is (each["operator"] == "In") for each in selector.get("matchExpressions", ())
    )


def test_owners_of_jobs_are_never_two_and_serving_never_none() -> None:
    strategies = {
        document["metadata"]["labels"]["app.kubernetes.io/component"]: (
            document["spec"]["replicas"],
            document["spec"]["strategy"],
        )
        for document in rendered()
        if document["kind"] == "Deployment"
    }
    for service in ("dataset", "trainer", "exporter", "evaluator", "pipeline"):
        assert strategies[service] == (1, {"type": "Recreate"})
    for service in ("serving", "gateway"):
        assert strategies[service] == (2, {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}})


def test_the_gateway_leads_to_every_service_and_nowhere_else() -> None:
    config = next(one["data"]["haproxy.cfg"] for one in rendered() if "haproxy.cfg" in (one.get("data") or {}))
    for service in ("dataset", "trainer", "exporter", "evaluator", "serving", "pipeline"):
        assert f"use_backend {service} if {{ path_beg /modelyard.{service}.v1. }}" in config
        assert f"verifyhost {service}.modelyard.internal" in config
    assert "worker.v1" not in config
    assert "lua-load /etc/modelyard/certificates.lua" in config  # which HAProxy needs to see a renewed certificate
    # A certificate of the gateway's own would make a caller without a token a service.
    backends = config.split("backend nothing")[1]
    assert " crt " not in backends


NGINX, TRAEFIK = "nginx.ingress.kubernetes.io/", "traefik.ingress.kubernetes.io/service."
ROUTER = "traefik.ingress.kubernetes.io/router."


@pytest.mark.parametrize(("options", "protocol"), [((), "GRPCS"), (("--set", "tls.enabled=false"), "GRPC")])
def test_ingress_nginx_is_told_how_the_gateway_speaks(options: tuple[str, ...], protocol: str) -> None:
    (ingress,) = kinds(rendered(*WAYS["outside"], *options), "Ingress")
    told = ingress["metadata"]["annotations"]
    assert told[f"{NGINX}backend-protocol"] == protocol
    assert told[f"{NGINX}proxy-body-size"] == "0"
    assert told[f"{NGINX}proxy-read-timeout"] == told[f"{NGINX}proxy-send-timeout"] == "3600"
    own = ("--set-string", "ingress.annotations.nginx\\.ingress\\.kubernetes\\.io/backend-protocol=HTTPS")
    (ingress,) = kinds(rendered(*WAYS["outside"], *options, *own), "Ingress")
    assert ingress["metadata"]["annotations"][f"{NGINX}backend-protocol"] == "HTTPS"


def test_traefik_verifies_what_it_leads_to() -> None:
    documents = rendered(*WAYS["behind Traefik"])
    for component in ("gateway", "console"):
        name = f"yard-modelyard-{component}"
        (service,) = [one for one in kinds(documents, "Service") if one["metadata"]["name"] == name]
        told = service["metadata"]["annotations"]
        assert told == {f"{TRAEFIK}serversscheme": "https", f"{TRAEFIK}serverstransport": f"here-{name}@kubernetescrd"}
        (transport,) = [one for one in kinds(documents, "ServersTransport") if one["metadata"]["name"] == name]
        assert transport["spec"] == {"serverName": name, "rootCAs": [{"secret": f"{name}-tls"}]}
    assert not any(one["metadata"].get("annotations") for one in kinds(documents, "Ingress"))
    secrets = ("--set", "ingress.tlsSecret=t,console.ingress.tlsSecret=u")
    first, second = kinds(rendered(*WAYS["behind Traefik"], *secrets), "Ingress")
    assert first["metadata"]["annotations"] == second["metadata"]["annotations"] == {f"{ROUTER}tls": "true"}
    plain = rendered(*WAYS["behind Traefik"], "--set", "tls.enabled=false")
    assert not kinds(plain, "ServersTransport", "BackendTLSPolicy")
    schemes = [one["metadata"].get("annotations", {}).get(f"{TRAEFIK}serversscheme") for one in kinds(plain, "Service")]
    assert {"h2c", "http"} <= set(schemes)
    public = rendered(*WAYS["behind Traefik"], "--set", "tls.gatewaySecret=public,console.server=https://yard.example")
    (transport,) = [one for one in kinds(public, "ServersTransport") if one["metadata"]["name"].endswith("-gateway")]
    assert transport["spec"] == {"serverName": "yard.example"}


def test_a_gateway_verifies_what_it_leads_to() -> None:
    documents = rendered(*WAYS["outside"])
    assert [one["kind"] for one in kinds(documents, "GRPCRoute", "HTTPRoute")] == ["GRPCRoute", "HTTPRoute"]
    (policy,) = kinds(documents, "BackendTLSPolicy")
    assert policy["spec"]["targetRefs"] == [{"group": "", "kind": "Service", "name": "yard-modelyard-gateway"}]
    assert policy["spec"]["validation"]["hostname"] == "yard-modelyard-gateway"
    (trusted,) = policy["spec"]["validation"]["caCertificateRefs"]
    (authority,) = [one for one in kinds(documents, "ConfigMap") if one["metadata"]["name"] == trusted["name"]]
    assert trusted["kind"] == "ConfigMap"
    assert "BEGIN CERTIFICATE" in authority["data"]["ca.crt"]
    assert "PRIVATE" not in json.dumps(authority)
    managed = rendered(*WAYS["behind Traefik"])
    assert [one["kind"] for one in kinds(managed, "GRPCRoute", "HTTPRoute")] == ["HTTPRoute"]
    (policy,) = kinds(managed, "BackendTLSPolicy")
    assert policy["spec"]["validation"]["caCertificateRefs"] == [
        {"group": "", "kind": "Secret", "name": "yard-modelyard-gateway-tls"}
    ]


def test_what_kueue_says_is_read_only_where_there_is_a_queue() -> None:
    asked = ("--set", "jobs.queue=team")
    for options, expected in (((), []), (asked, ["list"])):
        (role,) = [one for one in kinds(rendered(*options), "Role") if one["metadata"]["name"].endswith("-jobs")]
        assert [rule["verbs"] for rule in role["rules"] if "workloads" in rule["resources"]] == [expected] * bool(expected)


def test_on_kind_the_gateway_is_where_the_cluster_leads_to() -> None:
    cluster = yaml.safe_load((CHART.parents[1] / "kind" / "cluster.yaml").read_text())
    (led,) = cluster["nodes"][0]["extraPortMappings"]
    documents = rendered(*WAYS["on kind"])
    gateway = next(one for one in documents if one["kind"] == "Service" and one["metadata"]["name"].endswith("-gateway"))
    assert [port.get("nodePort") for port in gateway["spec"]["ports"]] == [led["containerPort"]]
    assert (led["listenAddress"], led["hostPort"]) == ("127.0.0.1", 8970)
    ours = {one["image"] for pod in pods(documents).values() for one in pod["containers"] if "modelyard-" in one["image"]}
    built = json.loads((CHART.parents[1] / "images" / "bake.json").read_text())["target"]
    assert {image for image in ours if "gateway" not in image} <= {f"docker.io/local/modelyard-{name}:dev" for name in built}
    page = (CHART.parents[2] / "docs" / "kind.md").read_text()
    for name in set(built) - {"base"}:
        assert f" {name}" in page.split("for service in")[1].split(";")[0]


def test_secrets_stand_in_secrets() -> None:
    documents = rendered()
    secret = [value for one in documents if one["kind"] == "Secret" for value in (one.get("data") or {}).values()]
    elsewhere = json.dumps([one for one in documents if one["kind"] != "Secret"])
    assert len(secret) > 10
    assert not any(value in elsewhere for value in secret)
    assert any(one["metadata"]["name"] == "yard-modelyard-admin" for one in documents)
    brought = rendered(*WAYS["brought"])
    assert [one["metadata"]["name"] for one in brought if one["kind"] == "Secret"] == []


@pytest.mark.parametrize(
    ("option", "where"),
    [
        ("servng.replicas=2", "servng"),
        ("serving.replicas=0", "/serving/replicas"),
        ("jobs.runner=docker", "/jobs/runner"),
        ("tls.certificates=certManager", "/tls/issuerRef/name"),
        ("gatewayApi.enabled=true", "/gatewayApi/parentRefs"),
        ("gateway.service.nodePort=80", "/gateway/service/nodePort"),
        ("gateway.service.type=External", "/gateway/service/type"),
        ("jobs.flavors[0].name=Big_One", "/jobs/flavors/0"),
        ("auth.oidc.issuer=http://id.example", "/auth/oidc/issuer"),
        ("auth.oidc.issuer=https://id.example", "/auth/oidc/audience"),
        ("trainer.settings.training_slots=2", "training_slots"),
        ("networkPolicy.externalCIDRs[0]=10.0.0.1", "/networkPolicy/externalCIDRs/0"),
        ("tracing.share=2", "/tracing/share"),
        ("console.address=console.example", "/console/address"),
        ("console.ingress.enabled=true", "/console/ingress/host"),
        ("console.enabled=true,tls.gatewaySecret=public", "console.server"),
        ("console.enabled=true,console.oidc.clientId=c", "console.address"),
    ],
)
def test_a_wrong_value_is_refused_by_name(option: str, where: str) -> None:
    command = [HELM, "template", "yard", str(CHART), "--kube-version", "1.34.0", "--set", option]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert where in done.stderr


def test_it_passes_helms_own_lint() -> None:
    done = subprocess.run([HELM, "lint", "--strict", str(CHART)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
