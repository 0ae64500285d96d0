"""Calls over grpc's blocking channels. Its twin is `_async/transport.py`. Safe to share between threads."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, Final, TypeVar

import grpc
from google.protobuf.message import Message

from modelyard.client._channels import Kept, channel_options, metadata, method_path, serialize
from modelyard.client._status import from_rpc_error
from modelyard.client.access import Access
from modelyard.client.channels import bare_channel
from modelyard.client.settings import Addresses, CallSettings

# grpc's close waits for ever for a call whose start was interrupted by Ctrl-C: it gets this long.
CLOSE_S: Final = 2.0

M = TypeVar("M", bound=Message)
T = TypeVar("T")


class Transport:
    """One channel an address, made at the first call. Raises the named errors."""

    def __init__(self, addresses: Addresses, settings: CallSettings, access: Access | None = None) -> None:
        self.addresses = addresses
        self.settings = settings
        self._access = access or Access()
        self._retired: list[Any] = []
        self._channels: dict[str, Kept] = {}
        self._lock = threading.Lock()

    def unary(self, service: str, api: str, method: str, request: Message, answer: type[M], timeout_s: float | None) -> M:
        address = self.addresses.of(service)
        call = self._channel(address).unary_unary(method_path(api, method), serialize, answer.FromString)
        try:
            response: M = call(request, timeout=timeout_s, metadata=metadata(self._access_at(address), service, api))
            return response
        except grpc.RpcError as error:
            raise from_rpc_error(error, address) from None

    def stream(
        self, service: str, api: str, method: str, request: Message, answer: type[M], timeout_s: float | None
    ) -> Iterator[M]:
        address = self.addresses.of(service)
        call = self._channel(address).unary_stream(method_path(api, method), serialize, answer.FromString)(
            request, timeout=timeout_s, metadata=metadata(self._access_at(address), service, api)
        )
        try:
            yield from call
        except grpc.RpcError as error:
            raise from_rpc_error(error, address) from None
        finally:
            call.cancel()

    def send(self, service: str, api: str, method: str, requests: Iterator[Message], answer: type[M]) -> M:
        """A client stream. grpc reads `requests` in a thread of its own; an error of theirs is raised as it is."""
        address = self.addresses.of(service)
        call = self._channel(address).stream_unary(method_path(api, method), serialize, answer.FromString)
        watched = _Watched(requests)
        try:
            response: M = call(watched, metadata=metadata(self._access_at(address), service, api))
            return response
        except grpc.RpcError as error:
            if watched.error is not None:
                raise watched.error from None
            raise from_rpc_error(error, address) from None

    def in_thread(self, work: Callable[[], T]) -> T:
        """Nothing to keep free here: runs it."""
        return work()

    def sleep(self, seconds: float) -> None:
        time.sleep(seconds)

    def close(self) -> None:
        with self._lock:
            channels = [*(kept.channel for kept in self._channels.values()), *self._retired]
            self._channels, self._retired = {}, []
        for channel in channels:
            closing = threading.Thread(target=channel.close, name="modelyard-client-close", daemon=True)
            closing.start()
            closing.join(CLOSE_S)

    def _channel(self, address: str) -> Any:
        access = self._access_at(address)
        with self._lock:
            kept = self._channels.get(address)
            if kept is None or kept.stamp != access.stamp():
                self._retired += [kept.channel] if kept is not None else []  # calls that run on it go on
                kept = self._channels[address] = Kept(bare_channel(address, access, channel_options()), access.stamp())
            return kept.channel

    def _access_at(self, address: str) -> Access:
        return self._access.with_token_for(address)


class _Watched:
    """An iterator that keeps the error it ended with: grpc would say only that iterating failed."""

    def __init__(self, requests: Iterator[Message]) -> None:
        self._requests = requests
        self.error: Exception | None = None

    def __iter__(self) -> Iterator[Message]:
        return self

    def __next__(self) -> Message:
        try:
            return next(self._requests)
        except StopIteration:
            raise
        except Exception as error:
            self.error = error
            raise
