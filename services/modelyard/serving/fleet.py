"""The centre of a fleet put together: what devices and pods follow, and what people say about devices."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from functools import partial

import structlog

from modelyard.core.errors import InvalidArgument, PermissionDenied
from modelyard.core.platform import Platform
from modelyard.core.rpc.server import Mount
from modelyard.formats.passport import encode
from modelyard.formats.passport_keys import public_key_of, trusted_keys
from modelyard.serving.adapters.device_store import SqlDeviceStore, SqlRolloutStore
from modelyard.serving.adapters.fleet_bundles import StoredBundles
from modelyard.serving.adapters.fleet_keys import FleetKeys
from modelyard.serving.adapters.fleet_numbers import SqlStateNumbers
from modelyard.serving.domain.fleet_tokens import Follower
from modelyard.serving.domain.rollout import Rollout
from modelyard.serving.handlers.devices import Devices
from modelyard.serving.handlers.fleet_access import FleetAccess
from modelyard.serving.handlers.fleet_states import FleetStates
from modelyard.serving.handlers.rollouts import Rollouts
from modelyard.serving.ports import EndpointStore
from modelyard.serving.rpc.device_servicer import DeviceServicer
from modelyard.serving.rpc.fleet_servicer import FleetServicer
from modelyard.serving.settings import ServingSettings
from modelyard.serving.state_messages import digest_of, payload_of, signed
from modelyard.serving.v1.device_service_pb2_grpc import add_DeviceServiceServicer_to_server
from modelyard.serving.v1.fleet_service_pb2_grpc import add_FleetServiceServicer_to_server

log = structlog.get_logger()


@dataclass(frozen=True)
class Fleet:
    """The mounts of a fleet's services, and what carries roll-outs on."""

    mounts: tuple[Mount, ...]
    background: RolloutThread

    def start(self) -> None:
        """Roll-outs go on."""
        self.background.start()

    def stop(self) -> None:
        """They wait for the next start."""
        self.background.stop()


class RolloutThread:
    """Carries roll-outs on, every `every_s` seconds."""

    def __init__(self, rollouts: Rollouts, every_s: float) -> None:
        self._rollouts, self._every_s = rollouts, every_s
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="serving-rollouts", daemon=True)

    def start(self) -> None:
        """Begins; does not wait."""
        self._thread.start()

    def stop(self) -> None:
        """Ends after the step that is being made now."""
        self._stopped.set()
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        while not self._stopped.wait(self._every_s):
            try:
                self._rollouts.look(_cannot)
            except Exception:  # the database may be away for a while
                log.exception("roll-outs could not be looked at")


def fleet(platform: Platform, settings: ServingSettings, endpoints: EndpointStore, keys: FleetKeys) -> Fleet:
    """FleetService, which devices and pods call, and DeviceService, which people do."""
    store = SqlDeviceStore(platform.resources)
    devices = Devices(store, verified_signature, lambda: keys.token_secret, lambda: keys.signing.public.key_id)
    states = FleetStates(
        store=endpoints,
        devices=store,
        bundles=StoredBundles(platform.artifacts),
        numbers=SqlStateNumbers(platform.resources),
        digest=lambda state: digest_of(payload_of(state)),
        passport_keys=lambda: tuple(key.pem for key in trusted_keys(settings.trusted_keys_place())),
        state_keys=lambda: (keys.signing.public.pem,),
        report_s=settings.fleet_report_s,
    )
    rollouts = Rollouts(SqlRolloutStore(platform.resources), store, endpoints)
    offline_after = timedelta(seconds=settings.fleet_report_s * settings.fleet_missed_reports)
    followed = FleetServicer(fleet_access(keys, devices.check), states, devices, lambda state: signed(state, keys.signing))
    people = DeviceServicer(devices, rollouts, offline_after)
    mounts = (
        Mount("modelyard.serving.v1.FleetService", partial(add_FleetServiceServicer_to_server, followed)),
        Mount("modelyard.serving.v1.DeviceService", partial(add_DeviceServiceServicer_to_server, people)),
    )
    return Fleet(mounts, RolloutThread(rollouts, settings.rollout_step_s))


def fleet_keys(settings: ServingSettings) -> FleetKeys:
    """The centre's key: with it `FleetAccess` gives out tokens of pods, too."""
    return FleetKeys(settings.fleet_signing_key, settings.data_dir)


def fleet_access(keys: FleetKeys, check_device: Callable[[Follower], None] = lambda _: None) -> FleetAccess:
    """Who may call FleetService; `pod_token` makes what a follower of an endpoint is given in its file."""
    return FleetAccess(lambda: keys.token_secret, time.time, check_device)


def verified_signature(public_key: bytes, signature: bytes, data: bytes, kind: str) -> str:
    """The id of a key that signed what it should have. Raises InvalidArgument BAD_DEVICE_KEY, PermissionDenied BAD_SIGNATURE."""
    try:
        key = public_key_of(public_key)
    except InvalidArgument as error:
        message = "public_key is no public key on the curve P-256 in PEM form"
        raise InvalidArgument("BAD_DEVICE_KEY", message, field="public_key") from error
    if not key.verifies(signature, encode(data, kind)):
        message = "the signature does not fit: the caller does not have the private key, or signed something else"
        raise PermissionDenied("BAD_SIGNATURE", message, field="signature")
    return key.key_id


def _cannot(rollout: Rollout, error: Exception) -> None:
    log.error("the roll-out cannot be carried on", rollout=rollout.name, exc_info=error)
