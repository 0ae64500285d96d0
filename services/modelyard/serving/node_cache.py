"""python -m modelyard.serving.node_cache: the bundles of a node's serving pods, fetched once for all of them.

A FleetService that answers DownloadBundle alone, for followers whose MODELYARD_FOLLOW_CACHE names it. Settings:
MODELYARD_FOLLOW_ADDRESS (the serving service), MODELYARD_CACHE_MIB, MODELYARD_DATA_DIR, MODELYARD_HOST, MODELYARD_PORT.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sys
from collections.abc import AsyncIterator, Iterator
from functools import partial
from typing import Any

import structlog

from modelyard.core.errors import InvalidArgument, ModelyardError, PermissionDenied
from modelyard.core.rpc.logs import configure_logs
from modelyard.core.rpc.loop import run
from modelyard.core.rpc.server import Mount, RpcServer
from modelyard.serving.adapters.bundle_relay import BundleRelay
from modelyard.serving.adapters.fleet_link import FleetLink, open_channel
from modelyard.serving.follower_settings import FollowerSettings
from modelyard.serving.rpc.fleet_servicer import bearer_of
from modelyard.serving.v1 import fleet_service_pb2 as pb
from modelyard.serving.v1.fleet_service_pb2_grpc import FleetServiceServicer, add_FleetServiceServicer_to_server

log = structlog.get_logger()
SERVICE = "modelyard.serving.v1.FleetService"


class NodeCacheServicer(FleetServiceServicer):
    """DownloadBundle; the rest is the centre's."""

    def __init__(self, relay: BundleRelay) -> None:
        self._relay = relay

    async def DownloadBundle(self, request: pb.DownloadBundleRequest, context: Any) -> AsyncIterator[pb.DownloadBundleResponse]:  # noqa: N802
        """See the contract."""
        token = bearer_of(context)
        if not token:
            raise PermissionDenied("NO_TOKEN", "the call carries no token; followers send `authorization: Bearer TOKEN`")
        chunks = self._relay.download(token, request.sha256, request.offset)
        while (chunk := await asyncio.to_thread(_next, chunks)) is not None:
            yield pb.DownloadBundleResponse(chunk=chunk)


def main() -> int:
    """Serves until SIGINT or SIGTERM. Gives the exit status."""
    try:
        settings = FollowerSettings()
        configure_logs(settings.log_format, settings.log_level)
        if not settings.follow_address:
            message = "MODELYARD_FOLLOW_ADDRESS is empty; it must be host:port of the serving service"
            raise InvalidArgument("NO_ADDRESS", message, field="follow_address")
        run(_serve(settings))
    except ModelyardError as error:
        sys.stderr.write(f"modelyard node cache: {error.reason}: {error.message}\n")
        return 2
    except ValueError as error:  # a setting that is wrong, named by pydantic
        sys.stderr.write(f"modelyard node cache: {error}\n")
        return 2
    return 0


async def _serve(settings: FollowerSettings) -> None:
    channel = open_channel(settings.follow_address, settings.tls_ca)

    def centre(token: str) -> FleetLink:
        return FleetLink(channel, settings.follow_address, lambda: token)

    relay = BundleRelay(settings.data_dir / "node-cache", centre, settings.cache_mib << 20)
    mount = Mount(SERVICE, partial(add_FleetServiceServicer_to_server, NodeCacheServicer(relay)))
    server = RpcServer([mount], settings)
    port = await server.start()
    await server.ready()
    asked = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        with contextlib.suppress(NotImplementedError):
            asyncio.get_running_loop().add_signal_handler(number, asked.set)
    log.info("node cache ready", port=port, centre=settings.follow_address)
    await asked.wait()
    await server.stop(settings.drain_s)
    channel.close()


def _next(chunks: Iterator[bytes]) -> bytes | None:
    return next(chunks, None)


if __name__ == "__main__":
    sys.exit(main())
