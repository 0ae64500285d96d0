"""The table of methods against the contracts: a method without a rule fails, and a rule that names a field that is not there."""

from __future__ import annotations

import re

import pytest
from google.protobuf.descriptor import Descriptor, FieldDescriptor

from modelyard.core.access.principal import Role
from modelyard.core.access.rules import RULES, Rule, Where, endpoint_of_model, http_rule
from tests.support.contracts import every_method

READS = (
    "Get",
    "List",
    "View",
    "Diff",
    "Watch",
    "Suggest",
    "Propose",
    "Advise",
    "Compare",
    "Download",
    "Server",
    "Model",
    "Repository",
    "System",
    "Cuda",
    "Trace",
    "Log",
)


METHODS = every_method()


def test_there_are_contracts_to_compare_with() -> None:
    assert len(METHODS) > 100


def test_every_method_has_a_rule_and_every_rule_a_method() -> None:
    ours = {path for path in RULES if not path.startswith("/grpc.")}
    assert ours == set(METHODS)


@pytest.mark.parametrize("path", sorted(METHODS))
def test_the_field_of_a_rule_is_a_text_of_the_request(path: str) -> None:
    rule, message = RULES[path], METHODS[path].input_type
    if rule.where in (Where.RESOURCE, Where.MODEL, Where.ARTIFACT):
        assert _field(message, rule.field).type == FieldDescriptor.TYPE_STRING
    if rule.where is Where.JOB:
        assert _field(message, "identity.token").type == FieldDescriptor.TYPE_STRING


@pytest.mark.parametrize("path", sorted(METHODS))
def test_what_changes_something_needs_more_than_to_look(path: str) -> None:
    rule, name = RULES[path], METHODS[path].name
    if rule.where in (Where.OWN, Where.JOB, Where.OPEN, Where.NOWHERE):
        return
    writes = not name.startswith(READS) or name in ("RepositoryModelLoad", "RepositoryModelUnload")
    assert rule.changes is writes
    answers = "Annotation" in name and name.startswith(("Claim", "Submit", "Skip", "Release", "Withdraw", "Review"))
    assert rule.role >= (Role.ANNOTATOR if answers else Role.EDITOR if writes else Role.VIEWER)


def test_only_probes_and_what_asks_itself_is_open() -> None:
    open_ones = {path for path, rule in RULES.items() if rule.where in (Where.OPEN, Where.OWN)}
    fleet = {path for path in RULES if path.startswith("/modelyard.serving.v1.FleetService/")}
    assert open_ones == fleet | {f"/inference.GRPCInferenceService/Server{what}" for what in ("Live", "Ready")}


def test_every_path_of_rest_has_a_rule() -> None:
    from modelyard.serving.rpc.rest import ROUTES

    for method, pattern, _ in ROUTES:
        example = re.sub(r"\(\?P<(\w+)>\[\^/\]\*\)", r"some", pattern.pattern)
        example = example.replace("(?:/versions/some)?", "/versions/some").replace("(system|cuda)", "cuda").replace("[^/]*", "x")
        example = re.sub(r"\((/[^)]*)\)\?", r"\1", example)
        assert http_rule(method, example) is not None, (method, example)


def test_paths_give_the_model() -> None:
    found = http_rule("POST", "/v2/models/flowers/versions/3/infer")
    assert found is not None
    assert found[1] == "flowers"
    assert http_rule("HEAD", "/v2/models/flowers/ready/") is not None
    assert http_rule("GET", "/v2/models/flowers/secret") is None
    assert http_rule("GET", "/v2/models//infer") is None


def test_models_are_endpoints() -> None:
    assert endpoint_of_model("flowers") == ("default", "projects/default/endpoints/flowers")
    assert endpoint_of_model("shop.flowers") == ("shop", "projects/shop/endpoints/flowers")


def test_a_rule_asks_for_a_name_by_default() -> None:
    assert Rule(Role.VIEWER).field == "name"


def _field(message: Descriptor, path: str) -> FieldDescriptor:
    *parents, last = path.split(".")
    for parent in parents:
        found = message.fields_by_name[parent].message_type
        assert found is not None
        message = found
    return message.fields_by_name[last]
