"""Who may do what on a cluster, through its one address: every method with no token, a wrong one, an expired one, another
project's and too small a role.

The release of conftest, or another installation: MODELYARD_E2E_ADDRESS, https://host:port of its gateway. MODELYARD_E2E_CA: PEM
file with its authority (empty: the system's). MODELYARD_E2E_TOKENS: JSON file {name: token} with viewer (a viewer of the project
"e2e", or MODELYARD_E2E_PROJECT), stranger (an admin of another project) and late (expired).
"""

from __future__ import annotations

import json
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest

from modelyard.client import Access
from modelyard.client.channels import open_channel
from modelyard.core.access.principal import Role
from modelyard.core.access.rules import RULES, Where
from tests.e2e.cluster.conftest import Installed
from tests.support.access_world import METHODS, ask

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
PROJECT = os.environ.get("MODELYARD_E2E_PROJECT", "e2e")
# What the gateway leads to: workers, pods and devices' management come from inside.
INSIDE = ("/modelyard.worker.", "/grpc.")
OUTSIDE = sorted(
    path
    for path, rule in RULES.items()
    if path in METHODS and rule.where not in (Where.OPEN, Where.OWN, Where.JOB) and not path.startswith(INSIDE)
)
IN_PROJECT = [path for path in OUTSIDE if RULES[path].where in (Where.RESOURCE, Where.MODEL)]


@dataclass(frozen=True)
class Gate:
    """An installation's address, and the tokens of some people."""

    address: str
    ca: Path | None
    server_name: str
    tokens: dict[str, str]

    def outcomes(self, paths: list[str], name: str) -> dict[str, str]:
        """The status of each method, called by somebody; "" has no token."""
        token = (self.tokens | {"": "", "unknown": "x" * 43})[name]
        access = Access(token, self.ca, server_name=self.server_name)
        with open_channel(self.address, access) as channel, ThreadPoolExecutor(4) as pool:
            return dict(zip(paths, pool.map(lambda path: ask(channel, path, PROJECT)[0], paths), strict=True))


@pytest.fixture(scope="module")
def gate(request: pytest.FixtureRequest) -> Gate:
    if address := os.environ.get("MODELYARD_E2E_ADDRESS"):
        ca = os.environ.get("MODELYARD_E2E_CA", "")
        tokens = json.loads(Path(os.environ["MODELYARD_E2E_TOKENS"]).read_text())
        return Gate(address, Path(ca) if ca else None, os.environ.get("MODELYARD_SERVER_NAME", ""), tokens)
    installed: Installed = request.getfixturevalue("installed")
    tokens = installed.admit(
        {
            "viewer": {"roles": {PROJECT: "viewer"}},
            "stranger": {"roles": {"another": "admin"}},
            "late": {"roles": {"*": "admin"}, "expires": "2020-01-01T00:00:00Z"},
        }
    )
    return Gate(installed.address, installed.ca, f"{installed.name}-gateway", tokens)


def others(found: dict[str, str], *expected: str) -> dict[str, str]:
    return {path: code for path, code in found.items() if code not in expected}


@pytest.mark.parametrize("name", ["", "late"])
def test_who_is_not_known_is_unauthenticated(gate: Gate, name: str) -> None:
    assert others(gate.outcomes(OUTSIDE, name), "UNAUTHENTICATED") == {}


def test_another_projects_token_is_not_permitted(gate: Gate) -> None:
    assert others(gate.outcomes(IN_PROJECT, "stranger"), "PERMISSION_DENIED") == {}


def test_too_small_a_role_is_not_permitted(gate: Gate) -> None:
    paths = [path for path in IN_PROJECT if RULES[path].role > Role.VIEWER]
    assert others(gate.outcomes(paths, "viewer"), "PERMISSION_DENIED") == {}


def test_whoever_may_is_let_through(gate: Gate) -> None:
    paths = [path for path in IN_PROJECT if RULES[path].role is Role.VIEWER]
    found = gate.outcomes(paths, "viewer")
    assert {path: code for path, code in found.items() if code in ("UNAUTHENTICATED", "PERMISSION_DENIED", "UNAVAILABLE")} == {}


# Last: it uses up what one address may try.
def test_z_a_wrong_token_is_unauthenticated(gate: Gate) -> None:
    assert others(gate.outcomes(OUTSIDE, "unknown"), "UNAUTHENTICATED", "RESOURCE_EXHAUSTED") == {}
