"""Who answers a request: called once for each, so it takes no lock and looks only at what was prepared."""

from __future__ import annotations

import random
from typing import Final, NamedTuple

from modelyard.serving.domain.endpoint import DeploymentState
from modelyard.serving.domain.shadow import Comparison
from modelyard.serving.domain.traffic import FINE, SLOTS, key_point, picked
from modelyard.serving.handlers.registry import Entry, Registry, Table
from modelyard.serving.ports import ServedModel

_READY: Final = DeploymentState.READY
_PER_SLOT: Final = FINE // SLOTS
_SPREAD: Final = 7_919
"""Coprime to FINE: spreads neighbours over the whole range, so that a slot without a version goes to all others in proportion."""


class Route(NamedTuple):
    """Who answers, and who is asked beside; what the shadow says is compared and given to nobody."""

    entry: Entry
    model: ServedModel
    shadow: tuple[Entry, ServedModel] | None = None
    comparison: Comparison | None = None


def route(registry: Registry, model: str, version: str, key: str) -> Route:
    """The version that answers a request for a model.

    `version`: a version ("V003", "3"), a label ("canary"), or "" for whom the shares of the traffic say; then `key`, when it is
    not empty, always gives the same version while that keeps its share and answers. While a version with a share cannot answer,
    the others with one take its requests in proportion; where there is none the champion, else the newest.
    Raises NotFound MODEL_NOT_FOUND, VERSION_NOT_FOUND; Unavailable SERVER_STARTING, MODEL_LOADING, MODEL_FAILED.
    """
    table = registry.tables.get(model)
    if table is None:
        raise registry.reason(model, version, None)
    entry = table.named(version) if version else _by_share(table, key)
    loaded = entry.loaded if entry is not None else None
    if entry is None or loaded is None:
        raise registry.reason(model, version, entry)
    beside = table.shadow
    if beside is None or beside is entry or beside.loaded is None or random.random() * 100 >= table.shadow_percent:  # noqa: S311
        return Route(entry, loaded)
    return Route(entry, loaded, (beside, beside.loaded), table.comparison)


def sticky_header(registry: Registry, model: str) -> str:
    """The header or metadata key whose value is a caller's key; empty: the id of the request is."""
    table = registry.tables.get(model)
    return table.endpoint.sticky_header if table is not None and table.endpoint is not None else ""


def _by_share(table: Table, key: str) -> Entry | None:
    sole = table.sole
    if sole is not None and sole.loaded is not None and sole.loaded.condition.state is _READY:
        return sole
    if not table.slots:
        return _first(table.order)
    point = key_point(table.seed, key) if key else int(random.random() * FINE)  # noqa: S311
    entry = table.slots[point // _PER_SLOT]
    if entry is not None and entry.loaded is not None and entry.loaded.condition.state is _READY:
        return entry
    return _instead(table, point)


def _instead(table: Table, point: int) -> Entry | None:
    """Who takes the requests of a version that cannot answer."""
    ready = [(entry.version, percent) for entry, percent in table.shares if entry.is_ready]
    if ready:
        return table.entries[picked(ready, point * _SPREAD % FINE)]
    return _first(table.order)


def _first(order: tuple[Entry, ...]) -> Entry | None:
    """The first that answers; where none does, one that is loaded, so that its own reason is told."""
    loaded = None
    for entry in order:
        if entry.loaded is not None:
            if entry.loaded.condition.state is _READY:
                return entry
            loaded = loaded or entry
    return loaded or (order[0] if order else None)
