"""Random bytes and random messages to every method of every service: each gets an answer with a right status, and all live on.

The Open Inference Protocol has its own (tests/integration/serving/test_hostile_requests.py).
"""

from __future__ import annotations

import importlib
import random
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf import message_factory
from google.protobuf.descriptor import FieldDescriptor, MethodDescriptor
from grpc_health.v1 import health_pb2, health_pb2_grpc

import modelyard
from modelyard import embedded
from modelyard.client import Access
from modelyard.client.channels import open_channel

SEEDS = 12
ELSEWHERE = ("modelyard.agent.v1.MeasureService",)
"""Services that no server of ours has beside the others."""
DEADLINE_S = 20.0
EXPECTED = {
    grpc.StatusCode.OK,
    grpc.StatusCode.INVALID_ARGUMENT,
    grpc.StatusCode.NOT_FOUND,
    grpc.StatusCode.ALREADY_EXISTS,
    grpc.StatusCode.FAILED_PRECONDITION,
    grpc.StatusCode.PERMISSION_DENIED,
    grpc.StatusCode.UNAUTHENTICATED,
    grpc.StatusCode.UNIMPLEMENTED,
    grpc.StatusCode.ABORTED,
    grpc.StatusCode.RESOURCE_EXHAUSTED,
    grpc.StatusCode.DATA_LOSS,
}
TEXTS = ("", " ", "..", "../etc", "/etc/passwd", "a/../b", "\x00", "9" * 400, "ä" * 70)
NAMES = ("projects/p/datasets/d", "projects/-/exports/-", "projects/p/endpoints/e/deployments/V001")
_PLACE = re.compile(r"/(?:home|root|tmp|usr|var|work|opt|srv|private|Users)/|Traceback|site-packages|\.py\b")


def methods() -> dict[str, MethodDescriptor]:
    """Every method of our contracts, by its path."""
    found: dict[str, MethodDescriptor] = {}
    files = sorted(file for root in modelyard.__path__ for file in Path(root).glob("*/v1/*_service_pb2.py"))
    for file in files:
        name = f"modelyard.{file.parent.parent.name}.v1.{file.stem}"
        for service in importlib.import_module(name).DESCRIPTOR.services_by_name.values():
            if service.full_name not in ELSEWHERE:
                found |= {f"/{service.full_name}/{method.name}": method for method in service.methods}
    return found


METHODS = methods()


@pytest.fixture(scope="module")
def channel(tmp_path_factory: pytest.TempPathFactory) -> Iterator[grpc.Channel]:
    running = embedded.start(tmp_path_factory.mktemp("fuzzed"))
    with open_channel(running.address, Access(token=running.token)) as made:
        yield made
    running.stop()


def message_bytes(method: MethodDescriptor, dice: random.Random) -> bytes:
    """A message of the right form with contents that nobody meant."""
    message = message_factory.GetMessageClass(method.input_type)()
    _fill(message, dice, 0)
    return bytes(message.SerializeToString())


def _fill(message: Any, dice: random.Random, depth: int) -> None:
    for field in message.DESCRIPTOR.fields:
        if dice.random() < 0.5 or (field.message_type is not None and (depth > 3 or field.message_type.GetOptions().map_entry)):
            continue
        if field.message_type is not None:
            target = getattr(message, field.name)
            _fill(target.add() if field.is_repeated else target, dice, depth + 1)
        elif field.is_repeated:
            getattr(message, field.name).append(_value(field, dice))
        else:
            setattr(message, field.name, _value(field, dice))


def _value(field: FieldDescriptor, dice: random.Random) -> Any:
    if field.cpp_type == FieldDescriptor.CPPTYPE_STRING:
        text = dice.choice(TEXTS + NAMES)
        return text.encode() if field.type == FieldDescriptor.TYPE_BYTES else text
    if field.cpp_type == FieldDescriptor.CPPTYPE_BOOL:
        return dice.random() < 0.5
    if field.cpp_type in (FieldDescriptor.CPPTYPE_DOUBLE, FieldDescriptor.CPPTYPE_FLOAT):
        return dice.choice((0.0, -1.0, 1e38, float("nan"), float("inf")))
    if field.cpp_type == FieldDescriptor.CPPTYPE_ENUM:
        return dice.choice((0, 1, 2, 99, -1))
    low = 0 if "UINT" in _KINDS[field.cpp_type] else -1
    return dice.choice((0, 1, low, (1 << (31 if "32" in _KINDS[field.cpp_type] else 63)) - 1))


_KINDS = {getattr(FieldDescriptor, name): name for name in dir(FieldDescriptor) if name.startswith("CPPTYPE_")}


def status(channel: grpc.Channel, path: str, method: MethodDescriptor, data: bytes) -> tuple[grpc.StatusCode, str]:
    """What came of it. Of a stream the first answer is enough."""
    kind = f"{'stream' if method.client_streaming else 'unary'}_{'stream' if method.server_streaming else 'unary'}"
    call = getattr(channel, kind)(path)
    try:
        answer = call(iter([data]) if method.client_streaming else data, timeout=DEADLINE_S)
        if method.server_streaming:
            next(iter(answer), None)
            answer.cancel()
    except grpc.RpcError as error:
        return error.code(), error.details() or ""
    return grpc.StatusCode.OK, ""


@pytest.mark.parametrize("path", METHODS)
def test_every_method_lives_through_it(channel: grpc.Channel, path: str) -> None:
    method = METHODS[path]
    for seed in range(SEEDS):
        dice = random.Random(f"{path} {seed}")
        whole = seed % 3 > 0
        data = message_bytes(method, dice) if whole else dice.randbytes(dice.choice((1, 7, 64, 1000)))
        code, details = status(channel, path, method, data)
        if whole or code is not grpc.StatusCode.INTERNAL:  # bytes that are no message are grpc's to answer
            assert code in EXPECTED, (seed, code, details)
        assert not _PLACE.search(details), details
    health = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=DEADLINE_S)
    assert health.status == health_pb2.HealthCheckResponse.SERVING


def test_there_are_methods_to_try() -> None:
    assert len(METHODS) > 50
    assert {path.split(".")[1] for path in METHODS} >= {"dataset", "trainer", "exporter", "evaluator", "serving", "pipeline"}


def test_the_folder_of_the_machine_is_seen_as_such() -> None:
    """That the check of messages can fail."""
    assert _PLACE.search(f"no such file: {Path('/srv/models/m.onnx')}")
    assert not _PLACE.search("name is '/etc/passwd'; projects/p/datasets/d is right")
