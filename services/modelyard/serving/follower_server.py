"""The model server whose desired state comes from a centre: no database. `python -m modelyard.serving --follow`."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import Callable
from functools import partial
from pathlib import Path

import structlog

from modelyard.core.errors import InvalidArgument
from modelyard.core.names import ENDPOINT, ENDPOINT_TARGET
from modelyard.core.rpc import tracing
from modelyard.core.rpc.server import Mount, RpcServer
from modelyard.formats.passport_keys import trusted_keys
from modelyard.serving.adapters.bundle_cache import FileBundleCache
from modelyard.serving.adapters.fleet_link import FleetLink, open_channel
from modelyard.serving.adapters.followed_passports import FollowedPassports
from modelyard.serving.adapters.follower_report import FollowerReport
from modelyard.serving.adapters.following import Following
from modelyard.serving.adapters.state_trust import StateTrust
from modelyard.serving.data_plane import data_plane
from modelyard.serving.domain.desired_state import DesiredVersion
from modelyard.serving.follower_settings import FollowerSettings
from modelyard.serving.handlers.follow_endpoint import EndpointFollower
from modelyard.serving.handlers.registry import Registry
from modelyard.serving.handlers.staging import Staging
from modelyard.serving.rpc.pod_servicer import PodServicer
from modelyard.serving.served_models import ClosableLoader, model_loader
from modelyard.serving.v1.serving_service_pb2_grpc import add_ServingServiceServicer_to_server

log = structlog.get_logger()
FOLDER = "follower"


async def serve_following(settings: FollowerSettings, on_listening: Callable[[int], None]) -> None:
    """Serves until SIGINT or SIGTERM. `on_listening` gets the port; health says SERVING when all that is wanted answers."""
    tracing.start(settings.tracing_endpoint, "serving", settings.tracing_share)
    loader = model_loader(settings)
    try:
        await _serve(settings, loader, on_listening)
    finally:
        await asyncio.to_thread(loader.close)


async def _serve(settings: FollowerSettings, loader: ClosableLoader, on_listening: Callable[[int], None]) -> None:
    registry, loop, ready = Registry(), asyncio.get_running_loop(), asyncio.Event()
    folder = settings.data_dir / FOLDER
    token = pod_token(settings)
    link = FleetLink(open_channel(settings.follow_address, settings.tls_ca), settings.follow_address, token)
    nearby = _nearby(settings, token)
    sources = [source for source in (nearby, link) if source is not None]
    cache = FileBundleCache(folder, sources, settings.cache_mib << 20, settings.download_kib_s << 10)
    staging = Staging(cache, FollowedPassports(settings.passport_trusted_keys), loader, registry)
    follower = EndpointFollower(staging, _told, settings.follow_retry_s)
    trust = StateTrust(
        pod_subject(settings),
        tuple(key.pem for key in trusted_keys(settings.follow_state_keys)) if settings.follow_state_keys else (),
        first_contact=settings.follow_state_keys is None,
        pinned=settings.follow_state_keys is not None,
    )
    following = Following(
        link,
        trust,
        follower,
        FollowerReport(staging, folder),
        lambda: loop.call_soon_threadsafe(ready.set),
        settings.follow_backoff_s,
    )
    plane = data_plane(registry, follower.repository(), settings.max_batch_size, 4 * settings.max_message_bytes)
    pod = Mount("modelyard.serving.v1.ServingService", partial(add_ServingServiceServicer_to_server, PodServicer(registry)))
    server = RpcServer([plane.mount, pod], settings, tracing.traced_natives(plane.natives), tracing.traced_http(plane.http))
    port = await server.start()
    asked = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        with contextlib.suppress(NotImplementedError):
            loop.add_signal_handler(number, asked.set)
    following.start()
    on_listening(port)
    waiting = [asyncio.ensure_future(event.wait()) for event in (ready, asked)]
    await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
    if ready.is_set():
        await server.ready()
        log.info("every version that is wanted answers")
    await asked.wait()
    for task in waiting:
        task.cancel()
    await server.drain()
    await asyncio.to_thread(following.stop)
    await server.stop(settings.drain_s)
    if nearby is not None:
        nearby.close()
    await asyncio.to_thread(registry.close)


def _nearby(settings: FollowerSettings, token: Callable[[], str]) -> FleetLink | None:
    """The cache of this node, where there is one."""
    address = settings.follow_cache
    return FleetLink(open_channel(address, settings.tls_ca), address, token) if address else None


def pod_subject(settings: FollowerSettings) -> str:
    """projects/{project}/endpoints/{endpoint}/targets/{target}. Raises InvalidArgument."""
    ids = ENDPOINT.parse(settings.follow_endpoint, "endpoint")
    return ENDPOINT_TARGET.format(ids["project"], ids["endpoint"], settings.follow_target)


def pod_token(settings: FollowerSettings) -> Callable[[], str]:
    """The token in the file, read at each call: whoever gives tokens out may replace it. Raises InvalidArgument NO_TOKEN."""
    path = settings.follow_token_file
    if path is None or not path.is_file():
        message = f"the token file is {str(path or '')!r}; it must be a file with the token of the endpoint's pods (--token-file)"
        raise InvalidArgument("NO_TOKEN", message, field="follow_token_file")
    return lambda: Path(path).read_text().strip()


def _told(version: DesiredVersion, error: Exception) -> None:
    log.error("version cannot be loaded", version=version.version, sha256=version.sha256, exc_info=error)
