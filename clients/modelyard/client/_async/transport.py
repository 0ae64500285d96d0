"""Calls over grpc.aio. Its twin is `_sync/transport.py`; everything above is written once, for both."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any, TypeVar

import grpc
import grpc.aio
from google.protobuf.message import Message

from modelyard.client._channels import Kept, channel_options, metadata, method_path, serialize
from modelyard.client._status import from_rpc_error
from modelyard.client.access import Access
from modelyard.client.channels import bare_async_channel
from modelyard.client.settings import Addresses, CallSettings

M = TypeVar("M", bound=Message)
T = TypeVar("T")
_END = object()


class AsyncTransport:
    """One channel an address, made at the first call. Raises the named errors."""

    def __init__(self, addresses: Addresses, settings: CallSettings, access: Access | None = None) -> None:
        self.addresses = addresses
        self.settings = settings
        self._access = access or Access()
        self._retired: list[Any] = []
        self._channels: dict[str, Kept] = {}

    async def unary(self, service: str, api: str, method: str, request: Message, answer: type[M], timeout_s: float | None) -> M:
        address = self.addresses.of(service)
        call = self._channel(address).unary_unary(method_path(api, method), serialize, answer.FromString)
        try:
            response: M = await call(request, timeout=timeout_s, metadata=metadata(self._access_at(address), service, api))
            return response
        except grpc.RpcError as error:
            raise from_rpc_error(error, address) from None

    async def stream(
        self, service: str, api: str, method: str, request: Message, answer: type[M], timeout_s: float | None
    ) -> AsyncIterator[M]:
        address = self.addresses.of(service)
        call = self._channel(address).unary_stream(method_path(api, method), serialize, answer.FromString)(
            request, timeout=timeout_s, metadata=metadata(self._access_at(address), service, api)
        )
        try:
            async for message in call:
                yield message
        except grpc.RpcError as error:
            raise from_rpc_error(error, address) from None
        finally:
            call.cancel()

    async def send(self, service: str, api: str, method: str, requests: Iterator[Message], answer: type[M]) -> M:
        """A client stream. `requests` is read in a thread, and an error of its own is raised as it is."""
        address = self.addresses.of(service)
        call = self._channel(address).stream_unary(method_path(api, method), serialize, answer.FromString)(
            metadata=metadata(self._access_at(address), service, api)
        )
        try:
            while (request := await self.in_thread(lambda: next(requests, _END))) is not _END:
                try:
                    await call.write(request)
                except asyncio.InvalidStateError:  # the server answered before the end, with an error
                    break
            else:
                await call.done_writing()
            response: M = await call
            return response
        except grpc.RpcError as error:
            raise from_rpc_error(error, address) from None
        finally:
            call.cancel()

    async def in_thread(self, work: Callable[[], T]) -> T:
        """Runs what may block (files, hashing) beside the event loop."""
        return await asyncio.to_thread(work)

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

    async def close(self) -> None:
        channels = [*(kept.channel for kept in self._channels.values()), *self._retired]
        self._channels, self._retired = {}, []
        for channel in channels:
            await channel.close()

    def _channel(self, address: str) -> Any:
        access = self._access_at(address)
        kept = self._channels.get(address)
        if kept is None or kept.stamp != access.stamp():
            self._retired += [kept.channel] if kept is not None else []  # calls that run on it go on
            kept = self._channels[address] = Kept(bare_async_channel(address, access, channel_options()), access.stamp())
        return kept.channel

    def _access_at(self, address: str) -> Access:
        return self._access.with_token_for(address)
