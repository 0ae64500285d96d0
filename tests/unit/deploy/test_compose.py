"""The compose file holds together: every image, secret, volume and address it names is there."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

DEPLOY = Path(__file__).parents[3] / "deploy"
SERVICES = ("dataset", "trainer", "exporter", "evaluator", "serving", "pipeline")


@pytest.fixture(scope="module")
def compose() -> Any:
    return yaml.safe_load((DEPLOY / "compose" / "compose.yaml").read_text())


def test_every_image_of_ours_is_built(compose: Any) -> None:
    built = set(json.loads((DEPLOY / "images" / "bake.json").read_text())["target"]) - {"base"}
    named = {
        found[1] for one in compose["services"].values() if (found := re.search(r"modelyard-(\w+):", one["image"])) is not None
    }
    assert named == built == {*SERVICES, "gateway", "console"}


def test_only_gateway_and_console_are_reached_and_on_loopback(compose: Any) -> None:
    with_ports = {name: one["ports"] for name, one in compose["services"].items() if "ports" in one}
    assert with_ports == {
        "gateway": ["${MODELYARD_BIND:-127.0.0.1:8970}:8970"],
        "console": ["${MODELYARD_CONSOLE_BIND:-127.0.0.1:8980}:8980"],
    }
    assert compose["networks"]["inside"] == {"internal": True}
    assert all(one["networks"] == ["inside"] for name, one in compose["services"].items() if name not in with_ports)
    assert "inside" not in compose["services"]["console"]["networks"], "the console calls the gateway and nothing else"
    assert set(compose["services"]["console"]["networks"]) & set(compose["services"]["gateway"]["networks"])


def test_services_may_do_little_and_say_how_they_are(compose: Any) -> None:
    for name in SERVICES:
        one = compose["services"][name]
        assert (one["read_only"], one["cap_drop"]) == (True, ["ALL"])
        assert one["healthcheck"]["test"][-1] == "modelyard.core.rpc.probe"
        assert one["environment"][f"MODELYARD_{name.upper()}_ADDRESS"] == f"http://{name}:8970"
        assert one["environment"]["MODELYARD_AUTH"] == "token"


def test_the_console_has_no_token_of_its_own(compose: Any) -> None:
    console = compose["services"]["console"]
    assert (console["read_only"], console["cap_drop"], "secrets" in console) == (True, ["ALL"], False)
    assert not any("TOKEN" in name for name in console["environment"])


def test_every_secret_is_made_and_kept(compose: Any, tmp_path: Path) -> None:
    script = tmp_path / "prepare"
    script.write_bytes((DEPLOY / "compose" / "prepare").read_bytes())
    subprocess.run(["sh", str(script)], check=True, capture_output=True)
    made = {path.name: path.read_bytes() for path in (tmp_path / "secrets").iterdir()}
    assert {Path(one["file"]).name for one in compose["secrets"].values()} | {"admin-token"} == set(made)
    assert (tmp_path / "secrets").stat().st_mode & 0o777 == 0o700
    used = {secret for one in compose["services"].values() for secret in one.get("secrets", [])}
    assert used == set(compose["secrets"])
    subprocess.run(["sh", str(script)], check=True, capture_output=True)
    assert {path.name: path.read_bytes() for path in (tmp_path / "secrets").iterdir()} == made


def test_no_secret_is_in_the_file(compose: Any) -> None:
    for one in compose["services"].values():
        values = one.get("environment", {})
        assert not [key for key in values if re.search(r"(PASSWORD|SECRET_KEY|TOKEN|_URL)$", key) and "DATABASE" in key]
        assert all(str(value).startswith("/run/secrets/") for key, value in values.items() if key.endswith("PASSWORD_FILE"))
