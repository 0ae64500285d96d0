"""Models taken out of memory and brought back by callers of the inference protocol: only what is deployed, never anything new."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from typing import Final, Protocol

from modelyard.core.errors import InvalidArgument
from modelyard.serving.domain.endpoint import Condition, DeploymentState
from modelyard.serving.handlers.deployer import Deployer
from modelyard.serving.handlers.registry import Entry, Registry
from modelyard.serving.ports import ServedModel

CONFIG: Final = "config"
FILE: Final = "file:"
UNLOADED: Final = "a caller took it out of memory; it stays so until it is loaded again or the server is started again"


class Repository(Protocol):
    """The models of a server. Both block."""

    def load(self, model: str) -> None:
        """Brings every version of a model back into memory that is not there.

        Raises NotFound MODEL_NOT_FOUND, and what loading raises.
        """

    def unload(self, model: str) -> None:
        """Takes every version of a model out of memory. Fine when it is out already. Raises NotFound MODEL_NOT_FOUND."""


def check_load_parameters(names: Iterable[str]) -> None:
    """Raises InvalidArgument MODEL_FROM_CALLER for a load that would bring a configuration or files along."""
    for name in names:
        if name == CONFIG or name.startswith(FILE):
            message = (
                f"the parameter {name[:80]!r} would bring a model along with the request; only versions that are deployed are "
                "loaded here (CreateDeployment of modelyard.serving.v1.ServingService deploys one)"
            )
            raise InvalidArgument("MODEL_FROM_CALLER", message, field="parameters", parameter=name[:80])


Load = Callable[[Entry], ServedModel]
"""Brings a version into memory anew."""


@dataclass(frozen=True)
class RegisteredModels:
    """A Repository over what is registered: `load_version` makes a model, `hold` keeps others from changing it meanwhile."""

    registry: Registry
    load_version: Load
    hold: Callable[[str], AbstractContextManager[None]]

    def load(self, model: str) -> None:
        """See Repository."""
        self._known(model)
        with self.hold(model):
            for entry in self.registry.versions(model):
                if entry.loaded is None:
                    self._load(entry)

    def unload(self, model: str) -> None:
        """See Repository."""
        self._known(model)
        with self.hold(model):
            for entry in self.registry.versions(model):
                self.registry.put(replace(entry, condition=Condition(DeploymentState.UNLOADED, UNLOADED), loaded=None))

    def _load(self, entry: Entry) -> None:
        loaded = self.load_version(entry)
        try:
            self.registry.put(replace(entry, condition=Condition(DeploymentState.READY), loaded=loaded))
        except BaseException:
            loaded.close()
            raise

    def _known(self, model: str) -> None:
        if not self.registry.versions(model):
            raise self.registry.reason(model, "", None)


def deployed_models(deployer: Deployer) -> RegisteredModels:
    """The repository of a server with endpoints: what is loaded goes past its passport again."""

    def load(entry: Entry) -> ServedModel:
        for deployment in deployer.store.deployments(_endpoint(deployer.registry, entry.model)):
            if deployment.version == entry.version:
                return deployer.load(deployment)
        raise deployer.registry.reason(entry.model, entry.version, None)

    return RegisteredModels(deployer.registry, load, lambda model: deployer.turns.hold(_endpoint(deployer.registry, model)))


def _endpoint(registry: Registry, model: str) -> str:
    """The resource name of the endpoint behind a model. Raises NotFound when it went away meanwhile."""
    table = registry.tables.get(model)
    if table is None or table.endpoint is None:
        raise registry.reason(model, "", None)
    return table.endpoint.name
