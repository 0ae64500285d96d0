"""The methods of servicers as their generated `add_...Servicer_to_server` functions give them, by path."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import SimpleNamespace
from typing import Any


class Methods:
    """Stands where a grpc server would: what is added to it can be looked up."""

    def __init__(self) -> None:
        self._registered: dict[str, Any] = {}
        self._generic: list[Any] = []

    def add_generic_rpc_handlers(self, handlers: Sequence[Any]) -> None:
        """grpc.Server's method of this name."""
        self._generic += handlers

    def add_registered_method_handlers(self, service: str, handlers: Mapping[str, Any]) -> None:
        """grpc.Server's method of this name."""
        self._registered |= {f"/{service}/{name}": handler for name, handler in handlers.items()}

    def find(self, path: str) -> Any:
        """The grpc.RpcMethodHandler at a path, or None."""
        if path in self._registered:
            return self._registered[path]
        details = SimpleNamespace(method=path, invocation_metadata=())
        return next((found for handler in self._generic if (found := handler.service(details)) is not None), None)
