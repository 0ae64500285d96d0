"""Who answers a request: called once for each, so it takes no lock and looks only at what was prepared."""

from __future__ import annotations

from typing import NamedTuple, cast

from modelyard.serving.handlers.registry import Entry, Registry
from modelyard.serving.ports import ServedModel


class Route(NamedTuple):
    """Who answers, and who is asked beside; what the shadow says is compared and given to nobody."""

    entry: Entry
    model: ServedModel
    shadow: tuple[Entry, ServedModel] | None = None


def route(registry: Registry, model: str, version: str, key: str) -> Route:
    """The version that answers a request for a model.

    `version`: a version ("V003", "3"), a label ("canary"), or "" for whom the shares of the traffic say; then `key`, when it is
    not empty, always gives the same version while that keeps its share. Raises NotFound MODEL_NOT_FOUND, VERSION_NOT_FOUND;
    Unavailable SERVER_STARTING, MODEL_LOADING, MODEL_FAILED.
    """
    entry, loaded = registry.find(model, version)
    return Route(entry, cast(ServedModel, loaded))
