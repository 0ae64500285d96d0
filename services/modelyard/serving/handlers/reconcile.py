"""Brings memory in line with what is written down: at the start, and when another server of the same database deployed."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from modelyard.core.errors import ModelyardError
from modelyard.serving.domain.endpoint import Condition, Deployment, DeploymentState, oldest_first
from modelyard.serving.handlers.deployer import Deployer
from modelyard.serving.handlers.deployments import ready
from modelyard.serving.handlers.endpoints import model_of
from modelyard.serving.handlers.registry import Entry, Registry

Report = Callable[[Deployment, Exception], None]


def reconcile(
    deployer: Deployer, report: Report, *, retry_failed: bool = False, going: Callable[[], bool] = lambda: True
) -> None:
    """Loads what is deployed and not in memory, newest first, and drops what is in memory and not deployed.

    One that cannot be loaded becomes FAILED and is told to `report`; `retry_failed` tries those of earlier calls again. Ends
    early when `going` says no. Afterwards the registry is complete.
    """
    held = deployer.registry.entries()  # before the reading below: what is in memory by then is written down by then
    wanted = oldest_first(deployer.store.deployments())
    _drop_others(deployer.registry, held, wanted)
    missing = [deployment for deployment in wanted if _is_missing(deployer.registry, deployment, retry_failed)]
    for deployment in missing:
        if _entry(deployer.registry, deployment) is None:
            deployer.registry.put(_unready(deployment, Condition(DeploymentState.LOADING)))
    for deployment in reversed(missing):
        if not going():
            return
        _load(deployer, deployment, report)
    deployer.registry.set_complete()


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
        return ready(deployment, deployer.load(deployment.artifact, deployment.passport))
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


def _drop_others(registry: Registry, held: Iterable[Entry], wanted: Iterable[Deployment]) -> None:
    known = {(model_of(item.endpoint), item.version, item.create_time) for item in wanted}
    for entry in held:
        if (entry.model, entry.version, entry.since) not in known:
            registry.remove(entry.model, entry.version, entry.since)
