"""The contract `inference` stands beside other clients of the protocol in one process, in either order, and agrees with them."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest

from inference import grpc_service_pb2 as oip
from tests.support.triton import triton_messages

OURS = "from inference import grpc_service_pb2 as oip; import modelyard.client"
THEIRS = "import tritonclient.grpc, tritonclient.http"
BOTH = """
from tritonclient.grpc import service_pb2 as other
sent = other.ModelInferRequest(model_name="m", id="1", raw_input_contents=[b"abc"])
assert oip.ModelInferRequest.FromString(sent.SerializeToString()).raw_input_contents[0] == b"abc"
assert oip.ModelInferRequest.DESCRIPTOR.full_name == other.ModelInferRequest.DESCRIPTOR.full_name == "inference.ModelInferRequest"
assert "upb" in oip.ModelInferRequest.__mro__[1].__module__
"""


@pytest.mark.parametrize("order", [(OURS, THEIRS), (THEIRS, OURS)], ids=["ours first", "theirs first"])
def test_both_are_imported_in_one_process(order: tuple[str, str]) -> None:
    done = subprocess.run(
        [sys.executable, "-c", "\n".join((*order, BOTH))], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr


def fields(descriptor: Any) -> dict[str, tuple[Any, ...]]:
    """Every field of a message and of those within it: number, type and whether it is repeated."""
    found = {}
    for field in descriptor.fields:
        kind = field.message_type or field.enum_type
        place = (field.containing_oneof.name if field.containing_oneof else None, kind.full_name if kind else None)
        found[f"{descriptor.full_name}.{field.name}"] = (field.number, field.type, field.is_repeated, *place)
    for nested in descriptor.nested_types:
        found |= fields(nested)
    return found


def test_every_message_is_what_the_published_client_sends() -> None:
    """Ours may leave out fields of a model's configuration, never give one another number or type."""
    theirs: dict[str, Any] = {}
    from tritonclient.grpc import model_config_pb2

    for module in (triton_messages, model_config_pb2):
        for message in module.DESCRIPTOR.message_types_by_name.values():
            theirs |= fields(message)
    ours: dict[str, Any] = {}
    for message in oip.DESCRIPTOR.message_types_by_name.values():
        ours |= fields(message)
    assert {name: theirs.get(name) for name in ours} == ours
    left_out = {name for name in theirs.keys() - ours.keys() if name.startswith(tuple(f"inference.{name}" for name in COMPLETE))}
    assert left_out == set()


COMPLETE = (
    "Infer",
    "MemoryUsage",
    "ModelInfer",
    "ModelMetadata",
    "ModelReady",
    "ModelRepositoryParameter",
    "ModelStatistics",
    "ModelStreamInfer",
    "Repository",
    "Server",
    "Statistic",
    "SystemShared",
    "CudaShared",
    "TraceSetting",
    "LogSettings",
)


def test_every_method_is_what_the_published_client_calls() -> None:
    def methods(module: Any) -> dict[str, tuple[Any, ...]]:
        service = module.DESCRIPTOR.services_by_name["GRPCInferenceService"]
        return {
            method.name: (
                method.input_type.full_name,
                method.output_type.full_name,
                method.client_streaming,
                method.server_streaming,
            )
            for method in service.methods
        }

    assert methods(oip) == methods(triton_messages)
