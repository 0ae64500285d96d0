"""Where serving's ports meet their adapters."""

from __future__ import annotations

from functools import cache, partial

from modelyard.core.platform import Platform
from modelyard.core.rpc.server import Mount, Service
from modelyard.formats.passport_keys import trusted_keys
from modelyard.serving.adapters.background import Background
from modelyard.serving.adapters.endpoint_store import SqlEndpointStore
from modelyard.serving.adapters.passports import StoredPassports
from modelyard.serving.adapters.services import ClientExports, ClientGates
from modelyard.serving.data_plane import data_plane
from modelyard.serving.fleet import fleet, fleet_access, fleet_keys
from modelyard.serving.handlers.deployer import Deployer
from modelyard.serving.handlers.inference_tokens import principal_of
from modelyard.serving.handlers.registry import Registry
from modelyard.serving.handlers.repository import deployed_models
from modelyard.serving.pods import pod_versions
from modelyard.serving.ports import Exports, Gates, Passports
from modelyard.serving.rpc.inference_token_servicer import InferenceTokenServicer
from modelyard.serving.rpc.servicer import ServingServicer
from modelyard.serving.served_models import ClosableLoader, model_loader
from modelyard.serving.settings import ServingSettings
from modelyard.serving.v1.inference_token_service_pb2_grpc import add_InferenceTokenServiceServicer_to_server
from modelyard.serving.v1.serving_service_pb2_grpc import add_ServingServiceServicer_to_server


def build(
    platform: Platform,
    *,
    settings: ServingSettings | None = None,
    exports: Exports | None = None,
    gates: Gates | None = None,
    passports: Passports | None = None,
    loader: ClosableLoader | None = None,
) -> Service:
    """The serving service. What is given replaces what would be made."""
    settings = settings or serving_settings(platform)
    if settings.passport_trusted_keys is not None:
        trusted_keys(settings.passport_trusted_keys)  # a file that is no key is told when the service starts
    registry, client = Registry(), cache(platform.client)
    loader = loader or model_loader(settings)
    store, keys = SqlEndpointStore(platform.engine, platform.resources), fleet_keys(settings)
    pods = pod_versions(
        settings, store, fleet_access(keys), lambda: keys.signing.public.pem, lambda: platform.own_address["address"]
    )
    deployer = Deployer(
        store=store,
        exports=exports or ClientExports(client, platform.artifacts),
        gates=gates or ClientGates(client),
        passports=passports or StoredPassports(client, platform.artifacts, settings.trusted_keys_place()),
        loader=loader,
        registry=registry,
        pods=pods,
    )
    background = Background(deployer, settings.reconcile_s, settings.retry_failed_s)
    alone = platform.engine.dialect.name == "sqlite"  # then no other server has this database
    plane = data_plane(
        registry,
        deployed_models(deployer),
        settings.max_batch_size,
        4 * settings.max_message_bytes,
        None if alone else background.second_look,
    )

    followed = fleet(platform, settings, store, keys)

    def start() -> None:
        if pods is not None:
            pods.start()
        background.start()
        followed.start()

    def stop() -> None:
        followed.stop()
        background.stop()
        if pods is not None:
            pods.close()
        loader.close()

    mounts = [
        Mount(
            "modelyard.serving.v1.ServingService",
            partial(add_ServingServiceServicer_to_server, ServingServicer(deployer)),
        ),
        Mount(
            "modelyard.serving.v1.InferenceTokenService",
            partial(add_InferenceTokenServiceServicer_to_server, InferenceTokenServicer(platform.resources)),
        ),
        *followed.mounts,
        plane.mount,
    ]
    return Service(
        "serving",
        mounts,
        start=start,
        stop=stop,
        natives=plane.natives,
        http=plane.http,
        verifiers=[partial(principal_of, platform.resources)],
    )


def serving_settings(platform: Platform) -> ServingSettings:
    """The platform's settings with serving's own, which come from the environment where the platform was opened without them."""
    if isinstance(platform.settings, ServingSettings):
        return platform.settings
    return ServingSettings(**platform.settings.model_dump())
