"""Targets: the named ones, and a project's own."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

import pytest

from modelyard.core.errors import AlreadyExists, FailedPrecondition, InvalidArgument, NotFound
from modelyard.core.requests import Request
from modelyard.core.resources import Page, Resource
from modelyard.exporter.domain.targets import Target, check_target, predefined
from modelyard.exporter.handlers.targets import KnownTargets, create_target, delete_target, get_target, list_targets, target_of
from modelyard.exporter.rpc import convert
from modelyard.exporter.v1 import exporter_pb2 as pb

PARENT = "projects/default"
OWN = Target("camera", "Our camera", "litert", "int8", ram_bytes=1 << 20, agent="10.0.0.7:9000", threads=2)
NAMED = predefined(gpu_is_here=False)


@dataclass
class Stored:
    """ports.Resources in memory."""

    rows: dict[str, Resource] = field(default_factory=dict)

    def create(self, name: str, collection: str, parent: str, document: dict[str, Any], **_: str) -> Resource:
        if name in self.rows:
            raise AlreadyExists("RESOURCE_EXISTS", f"{name} exists already.", name=name)
        time = datetime.now(UTC)
        self.rows[name] = Resource(name, collection, parent, document, 1, time, time)
        return self.rows[name]

    def get(self, name: str) -> Resource:
        if name not in self.rows:
            raise NotFound("RESOURCE_NOT_FOUND", f"{name} does not exist.", name=name)
        return self.rows[name]

    def list(
        self, collection: str, parent: str | None = None, page_size: int = 0, page_token: str = "", *, newest_first: bool = True
    ) -> Page:
        return Page(tuple(row for row in self.rows.values() if row.parent == parent), "")

    def delete(self, name: str, etag: str = "") -> None:
        del self.rows[name]


@dataclass
class Machine:
    """ports.Hardware."""

    gpu: bool = False

    def gpu_is_here(self) -> bool:
        return self.gpu


@pytest.fixture
def stored() -> Stored:
    return Stored()


@pytest.fixture
def known(stored: Stored) -> KnownTargets:
    return KnownTargets(stored, Machine())


def test_the_named_ones() -> None:
    by_id = {target.id: target for target in NAMED}
    assert list(by_id) == ["cpu", "cpu-1core", "gpu", "edge-arm64", "mcu"]
    assert [target.id for target in NAMED if target.local] == ["cpu", "cpu-1core"]
    assert by_id["cpu-1core"].threads == 1
    assert (by_id["mcu"].ram_bytes, by_id["mcu"].flash_bytes) == (256 * 1024, 1024 * 1024)
    assert "agent" in by_id["edge-arm64"].unmeasured_reason
    assert by_id["cpu"].unmeasured_reason == ""
    assert replace(by_id["gpu"], agent="here:1").unmeasured_reason == ""


def test_a_gpu_is_local_where_there_is_one(stored: Stored) -> None:
    assert KnownTargets(stored, Machine(gpu=True)).find(PARENT, "gpu", "target").local
    assert not KnownTargets(stored, Machine()).find(PARENT, "gpu", "target").local


def test_life_of_a_target(known: KnownTargets, stored: Stored) -> None:
    made = create_target(known, stored, PARENT, replace(OWN, local=True), Request())
    assert target_of(made) == OWN
    for name in ("camera", f"{PARENT}/targets/camera"):
        assert known.find(PARENT, name, "target") == OWN
    assert get_target(known, stored, f"{PARENT}/targets/camera") == OWN
    listed, token = list_targets(known, stored, PARENT, 0, "")
    assert ([target.id for target in listed[-2:]], token) == (["mcu", "camera"], "")
    delete_target(known, stored, f"{PARENT}/targets/camera")
    with pytest.raises(NotFound):
        get_target(known, stored, f"{PARENT}/targets/camera")
    with pytest.raises(InvalidArgument, match="it must be cpu, cpu-1core, gpu"):
        known.find(PARENT, "camera", "export.target")


def test_named_targets_stay(known: KnownTargets, stored: Stored) -> None:
    with pytest.raises(FailedPrecondition, match="comes with the product"):
        delete_target(known, stored, f"{PARENT}/targets/mcu")
    with pytest.raises(InvalidArgument, match="comes with the product"):
        create_target(known, stored, PARENT, replace(OWN, id="mcu"), Request())
    assert get_target(known, stored, f"{PARENT}/targets/mcu").predefined


def test_a_target_of_another_project_is_not_taken(known: KnownTargets) -> None:
    with pytest.raises(InvalidArgument, match="not in projects/default"):
        known.find(PARENT, "projects/other/targets/camera", "export.target")


@pytest.mark.parametrize(
    ("changes", "field_name"),
    [
        ({"display_name": "x" * 201}, "target.display_name"),
        ({"ram_bytes": -1}, "target.ram_bytes"),
        ({"flash_bytes": 1 << 50}, "target.flash_bytes"),
        ({"threads": 1000}, "target.threads"),
        ({"agent": "camera"}, "target.agent"),
        ({"agent": "camera:99999"}, "target.agent"),
        ({"agent": "http://camera:80"}, "target.agent"),
        ({"format": "h5"}, "target.format"),
        ({"precision": "int4"}, "target.precision"),
        ({"accelerator": "ethos-u55-128"}, "target.accelerator"),
    ],
)
def test_wrong_targets_name_the_field(changes: dict[str, Any], field_name: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        check_target(replace(OWN, **changes), NAMED)
    assert [violation.field for violation in caught.value.violations] == [field_name]


def test_ids_have_a_form(known: KnownTargets, stored: Stored) -> None:
    with pytest.raises(InvalidArgument, match="target_id is 'My Camera'"):
        create_target(known, stored, PARENT, replace(OWN, id="My Camera"), Request())


@pytest.mark.parametrize("agent", ["camera:9000", "10.0.0.7:1", "[fe80::1]:9000", "a.b-c.example:65535"])
def test_addresses_of_agents(agent: str) -> None:
    assert check_target(replace(OWN, agent=agent), NAMED).agent == agent


def test_messages_and_back() -> None:
    message = convert.target_message(PARENT, OWN)
    assert message.name == f"{PARENT}/targets/camera"
    assert (message.format, message.precision) == (pb.FORMAT_LITERT, pb.PRECISION_INT8)
    assert convert.target_from("camera", message) == OWN
    assert convert.target_from("x", pb.Target()) == Target("x")
    assert convert.target_from("x", pb.Target(format=pb.FORMAT_EDGE)).precision == "int8"
