"""All methods of all contracts, from the generated code."""

from __future__ import annotations

import importlib
from pathlib import Path

from google.protobuf.descriptor import MethodDescriptor

SERVICES = Path(importlib.import_module("modelyard.core").__file__ or "").parents[2]
# What another process serves, with a token of its own (modelyard.runtime.agent).
ELSEWHERE = {"modelyard.agent.v1.MeasureService"}


def every_method() -> dict[str, MethodDescriptor]:
    """The methods by path: /package.Service/Method."""
    found = {}
    for file in sorted(SERVICES.rglob("*_pb2.py")):
        module = importlib.import_module(".".join(file.relative_to(SERVICES).with_suffix("").parts))
        for service in module.DESCRIPTOR.services_by_name.values():
            if service.full_name not in ELSEWHERE:
                found |= {f"/{service.full_name}/{method.name}": method for method in service.methods}
    return found
