"""Brings memory in line with what is written down: at the start, and when another server of the same database changed it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from modelyard.core.errors import ModelyardError, NotFound
from modelyard.serving.domain.endpoint import Condition, Deployment, DeploymentState, Endpoint, oldest_first
from modelyard.serving.handlers.deployer import Deployer
from modelyard.serving.handlers.deployments import ready
from modelyard.serving.handlers.endpoints import model_of
from modelyard.serving.handlers.registry import Entry, Registry

Report = Callable[[Deployment, Exception], None]


def reconcile(
    deployer: Deployer, report: Report, *, retry_failed: bool = False, going: Callable[[], bool] = lambda: True
) -> None:
    """Loads what is deployed and not in memory, newest first; takes over shares and labels; drops what is not deployed any more.

    In this order, so that a version is dropped only when the one that has its share is there. One that cannot be loaded becomes
    FAILED and is told to `report`; `retry_failed` tries those of earlier calls again. Ends early when `going` says no.
    Afterwards the registry is complete.
    """
    registry = deployer.registry
    held = registry.entries()  # before the reading below: what is in memory by then is written down by then
    models = list(registry.tables)
    written, missing = _learn(deployer, retry_failed)
    _drop_deleted(deployer, models, written)
    for deployment in reversed(missing):
        if not going():
            return
        _load(deployer, deployment, report)
    _drop_others(registry, held, written)
    registry.set_complete()


def learn(deployer: Deployer) -> bool:
    """Takes over names, shares and labels as they are written down, and loads nothing. Whether there is something to load."""
    _, missing = _learn(deployer, retry_failed=False)
    return bool(missing)


def _learn(deployer: Deployer, retry_failed: bool) -> tuple[list[tuple[Endpoint, Sequence[Deployment]]], list[Deployment]]:
    """What is written down, and what of it is to be loaded, oldest first: by now it is known as LOADING."""
    registry = deployer.registry
    written = list(deployer.store.all())
    missing = oldest_first(
        each for _, deployments in written for each in deployments if _is_missing(registry, each, retry_failed)
    )
    for deployment in missing:
        if registry.entry(model_of(deployment.endpoint), deployment.version) is None:
            registry.put(_unready(deployment, Condition(DeploymentState.LOADING)))
    _route(registry, written)
    return written, missing


def _route(registry: Registry, written: Iterable[tuple[Endpoint, Sequence[Deployment]]]) -> None:
    """Shares and labels as they are written down; a version that is not loaded yet is stood in for by others."""
    for endpoint, _ in written:
        registry.assign(model_of(endpoint.name), endpoint)


def _load(deployer: Deployer, deployment: Deployment, report: Report) -> None:
    registry, model = deployer.registry, model_of(deployment.endpoint)
    with deployer.turns.hold(deployment.endpoint):
        current = _as_written(deployer.store.deployments(deployment.endpoint), deployment)
        if current is None:
            registry.remove(model, deployment.version, deployment.create_time)
        elif _is_missing(registry, current, retry_failed=True):
            registry.put(_loaded(deployer, current, report))


def _as_written(written: Iterable[Deployment], deployment: Deployment) -> Deployment | None:
    """The deployment as it is written down by now: it may have another passport than when it was listed; None when it is gone."""
    same = (deployment.name, deployment.create_time)
    return next((each for each in written if (each.name, each.create_time) == same), None)


def _loaded(deployer: Deployer, deployment: Deployment, report: Report) -> Entry:
    try:
        return ready(deployment, deployer.load(deployment))
    except Exception as error:  # a model that cannot be loaded must not keep the others from it
        report(deployment, error)
        return _unready(deployment, _failed(error))


def _failed(error: Exception) -> Condition:
    message = error.message if isinstance(error, ModelyardError) else "it cannot be loaded; the server's log says why"
    return Condition(DeploymentState.FAILED, message)


def _unready(deployment: Deployment, condition: Condition) -> Entry:
    return Entry(model_of(deployment.endpoint), deployment.version, deployment.create_time, condition)


def _entry(registry: Registry, deployment: Deployment) -> Entry | None:
    entry = registry.entry(model_of(deployment.endpoint), deployment.version)
    return entry if entry is not None and entry.since == deployment.create_time else None


def _is_missing(registry: Registry, deployment: Deployment, retry_failed: bool) -> bool:
    entry = _entry(registry, deployment)
    if entry is None or entry.condition.state == DeploymentState.LOADING:
        return True
    return retry_failed and entry.condition.state == DeploymentState.FAILED


def _drop_deleted(deployer: Deployer, models: Iterable[str], written: Iterable[tuple[Endpoint, Sequence[Deployment]]]) -> None:
    """Endpoints that are gone. `models`: those in memory before reading what is written down."""
    known = {model_of(endpoint.name) for endpoint, _ in written}
    for model in models:
        if model not in known and _is_gone(deployer, model):
            deployer.registry.drop(model)


def _is_gone(deployer: Deployer, model: str) -> bool:
    """Whether an endpoint still is not there: it may have been made again while it was looked for."""
    table = deployer.registry.tables.get(model)
    if table is None or table.endpoint is None:
        return table is not None
    try:
        deployer.store.get(table.endpoint.name)
    except NotFound:
        return True
    return False


def _drop_others(registry: Registry, held: Iterable[Entry], written: Iterable[tuple[Endpoint, Sequence[Deployment]]]) -> None:
    known = {(model_of(item.endpoint), item.version, item.create_time) for _, below in written for item in below}
    for entry in held:
        if (entry.model, entry.version, entry.since) not in known:
            registry.remove(entry.model, entry.version, entry.since)
