"""The Python client of Modelyard, sync and asyncio.

    from modelyard.client import Client, NotFound

    with Client("127.0.0.1:8970") as client:
        blob = client.artifacts.upload("flowers/")
        print(client.datasets.get_dataset("flowers"))

Importing this package loads neither grpc nor protobuf; using Client does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from modelyard.client.access import Access
from modelyard.client.errors import (
    Aborted,
    AlreadyExists,
    Cancelled,
    DataLoss,
    DeadlineExceeded,
    FailedPrecondition,
    Internal,
    InvalidArgument,
    JobCancelled,
    JobFailed,
    ModelyardClientError,
    NotFound,
    OutOfRange,
    PermissionDenied,
    ResourceExhausted,
    Unauthenticated,
    Unavailable,
    Unimplemented,
    Unknown,
    Violation,
    WaitTimeout,
)
from modelyard.client.names import Names, last_part, new_request_id, parent_of, short
from modelyard.client.settings import DEFAULT_ADDRESS, Addresses, CallSettings

if TYPE_CHECKING:
    from modelyard.client._async.client import AsyncClient
    from modelyard.client._sync.client import Client
    from modelyard.client.tensors import Prediction

__all__ = [
    "DEFAULT_ADDRESS",
    "Aborted",
    "Access",
    "Addresses",
    "AlreadyExists",
    "AsyncClient",
    "CallSettings",
    "Cancelled",
    "Client",
    "DataLoss",
    "DeadlineExceeded",
    "FailedPrecondition",
    "Internal",
    "InvalidArgument",
    "JobCancelled",
    "JobFailed",
    "ModelyardClientError",
    "Names",
    "NotFound",
    "OutOfRange",
    "PermissionDenied",
    "Prediction",
    "ResourceExhausted",
    "Unauthenticated",
    "Unavailable",
    "Unimplemented",
    "Unknown",
    "Violation",
    "WaitTimeout",
    "last_part",
    "new_request_id",
    "parent_of",
    "short",
]

_LAZY = {
    "Client": "modelyard.client._sync.client",
    "AsyncClient": "modelyard.client._async.client",
    "Prediction": "modelyard.client.tensors",
}


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(_LAZY[name]), name)
