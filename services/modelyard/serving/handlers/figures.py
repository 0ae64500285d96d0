"""How a deployment fares on this server, in figures."""

from __future__ import annotations

from dataclasses import dataclass

from modelyard.core.errors import Unavailable
from modelyard.core.names import DEPLOYMENT
from modelyard.serving.domain.drift import DriftScore
from modelyard.serving.domain.version_statistics import VersionStatistics
from modelyard.serving.handlers.endpoints import model_of
from modelyard.serving.handlers.registry import RETRY_S, Registry
from modelyard.serving.ports import EndpointStore


@dataclass(frozen=True)
class Figures:
    """What a version has done since it was loaded here, how far what it sees is from the training data, and what it holds."""

    deployment: str
    statistics: VersionStatistics
    drift: tuple[DriftScore, ...]
    memory_bytes: int


def deployment_figures(store: EndpointStore, registry: Registry, name: str) -> Figures:
    """Raises InvalidArgument, NotFound, Unavailable MODEL_LOADING or MODEL_FAILED."""
    DEPLOYMENT.parse(name)
    deployment = store.deployment(name)
    entry = registry.entry(model_of(deployment.endpoint), deployment.version)
    if entry is None:
        message = f"{name} is not loaded here yet; try again in a moment"
        raise Unavailable("MODEL_LOADING", message, retry_after_s=RETRY_S, deployment=name)
    if entry.loaded is None:
        raise registry.reason(entry.model, entry.version, entry)
    return Figures(name, entry.loaded.statistics, entry.loaded.drift(), entry.loaded.memory_bytes())
