"""The model server whose desired state comes from a centre: no database. `python -m modelyard.serving --follow`.

With an endpoint it is a pod of that endpoint; without one it is a device of its own, which works without the centre, too.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final, Protocol

import structlog

from modelyard.core.errors import InvalidArgument, ModelyardError, Unavailable
from modelyard.core.names import ENDPOINT, ENDPOINT_TARGET
from modelyard.core.rpc import tracing
from modelyard.core.rpc.server import Mount, RpcServer
from modelyard.formats.passport_keys import trusted_keys
from modelyard.serving.adapters.bundle_cache import FileBundleCache
from modelyard.serving.adapters.device_credential import DeviceSession, enrol
from modelyard.serving.adapters.device_file import DeviceFile, Identity
from modelyard.serving.adapters.device_following import DeviceFollowing
from modelyard.serving.adapters.fleet_link import FleetLink, open_channel
from modelyard.serving.adapters.followed_passports import FollowedPassports
from modelyard.serving.adapters.follower_report import FollowerReport
from modelyard.serving.adapters.follower_threads import pause_s
from modelyard.serving.adapters.following import Following
from modelyard.serving.adapters.inventory import inventory, memory_bytes
from modelyard.serving.adapters.state_trust import StateTrust
from modelyard.serving.data_plane import data_plane
from modelyard.serving.domain.desired_state import DesiredVersion
from modelyard.serving.domain.device import token_sha256
from modelyard.serving.follower_settings import FollowerSettings
from modelyard.serving.handlers.follow_device import DeviceFollower
from modelyard.serving.handlers.follow_endpoint import EndpointFollower
from modelyard.serving.handlers.golden import ANSWER_S, replay
from modelyard.serving.handlers.registry import Registry
from modelyard.serving.handlers.repository import RegisteredModels
from modelyard.serving.handlers.staging import Staging
from modelyard.serving.ports import ServedModel
from modelyard.serving.rpc.pod_servicer import PodServicer
from modelyard.serving.served_models import ClosableLoader, model_loader
from modelyard.serving.v1.serving_service_pb2_grpc import add_ServingServiceServicer_to_server

log = structlog.get_logger()
FOLDER: Final = "follower"
SMALL_BYTES: Final = 2 << 30
"""Less memory than this is little: each version's own process would take some 60 MiB of it."""


class Threads(Protocol):
    """What follows, beside the server."""

    def start(self) -> None:
        """Begins; does not wait."""

    def stop(self) -> None:
        """Ends; blocks."""


@dataclass(frozen=True)
class Parts:
    """A follower put together."""

    following: Threads
    repository: RegisteredModels
    links: tuple[FleetLink, ...]
    mounts: tuple[Mount, ...] = ()


async def serve_following(settings: FollowerSettings, on_listening: Callable[[int], None]) -> None:
    """Serves until SIGINT or SIGTERM. `on_listening` gets the port; health says SERVING when all that is wanted answers."""
    settings = fitting(settings, memory_bytes())
    tracing.start(settings.tracing_endpoint, "serving", settings.tracing_share)
    asked = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        with contextlib.suppress(NotImplementedError):
            asyncio.get_running_loop().add_signal_handler(number, asked.set)
    loader = model_loader(settings)
    try:
        await _serve(settings, loader, on_listening, asked)
    finally:
        await asyncio.to_thread(loader.close)


async def _serve(
    settings: FollowerSettings, loader: ClosableLoader, on_listening: Callable[[int], None], asked: asyncio.Event
) -> None:
    registry, loop, ready = Registry(), asyncio.get_running_loop(), asyncio.Event()
    build = pod if settings.follow_endpoint else device
    parts = await asyncio.to_thread(
        build, settings, loader, registry, loop, lambda: loop.call_soon_threadsafe(ready.set), asked.is_set
    )
    if parts is None:
        return
    plane = data_plane(registry, parts.repository, settings.max_batch_size, 4 * settings.max_message_bytes)
    mounts = [plane.mount, *parts.mounts]
    server = RpcServer(mounts, settings, tracing.traced_natives(plane.natives), tracing.traced_http(plane.http))
    on_listening(await server.start())
    parts.following.start()
    waiting = [asyncio.ensure_future(event.wait()) for event in (ready, asked)]
    await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
    if ready.is_set():
        await server.ready()
        log.info("every version that is wanted answers")
    await asked.wait()
    for task in waiting:
        task.cancel()
    await server.drain()
    await asyncio.to_thread(parts.following.stop)
    await server.stop(settings.drain_s)
    for link in parts.links:
        link.close()
    await asyncio.to_thread(registry.close)


def pod(
    settings: FollowerSettings,
    loader: ClosableLoader,
    registry: Registry,
    loop: asyncio.AbstractEventLoop,
    on_ready: Callable[[], object],
    is_asked: Callable[[], bool],
) -> Parts | None:
    """A follower of one endpoint and target. Raises InvalidArgument."""
    subject, token = pod_subject(settings), pod_token(settings)
    staging, links = _staging(settings, loader, registry, token)
    follower = EndpointFollower(staging, _told, settings.follow_retry_s)
    trust = StateTrust(
        subject,
        own_state_keys(settings),
        first_contact=settings.follow_state_keys is None,
        pinned=settings.follow_state_keys is not None,
    )
    report = FollowerReport(staging, settings.data_dir / FOLDER)
    following = Following(links[-1], trust, follower, report, on_ready, settings.follow_backoff_s)
    asked = Mount("modelyard.serving.v1.ServingService", partial(add_ServingServiceServicer_to_server, PodServicer(registry)))
    return Parts(following, follower.repository(), links, (asked,))


def device(
    settings: FollowerSettings,
    loader: ClosableLoader,
    registry: Registry,
    loop: asyncio.AbstractEventLoop,
    on_ready: Callable[[], object],
    is_asked: Callable[[], bool],
) -> Parts | None:
    """A device; it enrols first where it has not. None: it was asked to end meanwhile. Raises what enrolling does."""
    file = DeviceFile(settings.data_dir / FOLDER)
    identity = _identity(settings, file, is_asked)
    if identity is None:
        return None
    session = DeviceSession(lambda: links[-1], file.key, identity.device)
    staging, links = _staging(settings, loader, registry, session.token)
    follower = DeviceFollower(staging, file, partial(_replayed, loop), _told)
    accepted, own = file.accepted, own_state_keys(settings)
    keys = own or accepted.state_keys or tuple(pem.encode() for pem in identity.state_keys)
    trust = StateTrust(identity.device, keys, accepted.number, accepted.digest, pinned=bool(own))
    report = FollowerReport(staging, settings.data_dir / FOLDER, file.counts())
    following = DeviceFollowing(
        links[-1],
        session,
        trust,
        follower,
        report,
        file,
        on_ready,
        settings.follow_retry_s,
        settings.follow_backoff_s,
    )
    return Parts(following, follower.repository(), links)


def fitting(settings: FollowerSettings, memory: int) -> FollowerSettings:
    """The settings; on a machine with little memory models compute in the server's process, unless somebody said otherwise."""
    if "isolation" in settings.model_fields_set or memory >= SMALL_BYTES:
        return settings
    return settings.model_copy(update={"isolation": "none"})


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


def own_state_keys(settings: FollowerSettings) -> tuple[bytes, ...]:
    """The centre's public keys that this follower was given; none: those it learns. Raises InvalidArgument BAD_PASSPORT_KEY."""
    return tuple(key.pem for key in trusted_keys(settings.follow_state_keys)) if settings.follow_state_keys else ()


def _staging(
    settings: FollowerSettings, loader: ClosableLoader, registry: Registry, token: Callable[[], str]
) -> tuple[Staging, tuple[FleetLink, ...]]:
    """The road of bundles into memory, and the links that they come over: the centre's is the last."""
    addresses = [address for address in (settings.follow_cache, settings.follow_address) if address]
    links = tuple(FleetLink(open_channel(address, settings.tls_ca), address, token) for address in addresses)
    cache = FileBundleCache(settings.data_dir / FOLDER, links, settings.cache_mib << 20, settings.download_kib_s << 10)
    return Staging(cache, FollowedPassports(settings.passport_trusted_keys), loader, registry), links


def _identity(settings: FollowerSettings, file: DeviceFile, is_asked: Callable[[], bool]) -> Identity | None:
    """Who this device is. A token that it has not used yet makes it enrol (again). Waits while the centre is away."""
    known, token = file.identity, _enrolment_token(settings)
    if not token or (known is not None and known.token_sha256 == token_sha256(token)):
        if known is None:
            message = (
                "this device has not enrolled: give it the file with its one-time token (--enrol-token-file), which "
                "`modelyard device enrol-token` makes"
            )
            raise InvalidArgument("NOT_ENROLLED", message, field="follow_enrol_token_file")
        return known
    link = FleetLink(open_channel(settings.follow_address, settings.tls_ca), settings.follow_address, lambda: "")
    wanted = settings.follow_device_id or (known.device.rpartition("/")[2] if known else "")
    failures = 0
    try:
        while not is_asked():
            try:
                return enrol(link, file, token, wanted, inventory(settings.data_dir / FOLDER))
            except Unavailable as error:
                failures += 1
                log.warning("the centre cannot be reached to enrol", message=error.message, failures=failures)
            except ModelyardError as error:
                if known is None:
                    raise
                log.error("this device could not enrol again, and goes on as it is", reason=error.reason, message=error.message)
                return known
            _wait(pause_s(failures, settings.follow_backoff_s), is_asked)
    finally:
        link.close()
    return known


def _enrolment_token(settings: FollowerSettings) -> str:
    path = settings.follow_enrol_token_file
    return path.read_text().strip() if path is not None and path.is_file() else ""


def _wait(seconds: float, is_asked: Callable[[], bool]) -> None:
    until = time.monotonic() + seconds
    while time.monotonic() < until and not is_asked():
        time.sleep(0.1)


def _replayed(loop: asyncio.AbstractEventLoop, model: ServedModel, bundle: Path) -> None:
    """Golden requests, from the thread that follows."""
    asyncio.run_coroutine_threadsafe(replay(model, bundle), loop).result(2 * ANSWER_S)


def _told(version: DesiredVersion, error: Exception) -> None:
    known = error if isinstance(error, ModelyardError) else None
    if known is not None:
        log.error(
            "version cannot be taken", version=version.version, sha256=version.sha256, reason=known.reason, message=known.message
        )
    else:
        log.error("version cannot be taken", version=version.version, sha256=version.sha256, exc_info=error)
