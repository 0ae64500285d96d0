"""What deploying takes: the ports, what is in memory, and whose turn it is."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from weakref import WeakValueDictionary

from modelyard.serving.domain.endpoint import Deployment
from modelyard.serving.domain.names import endpoint_model
from modelyard.serving.handlers.registry import Registry
from modelyard.serving.ports import EndpointStore, Exports, Gates, Passports, PodVersions, ServedModel, ServedModelLoader


@dataclass
class OneAtATime:
    """Locks by name: two calls about the same endpoint never overlap, others do. A lock goes when nobody needs it."""

    _guard: threading.Lock = field(default_factory=threading.Lock)
    _locks: WeakValueDictionary[str, threading.Lock] = field(default_factory=WeakValueDictionary)

    @contextmanager
    def hold(self, name: str) -> Iterator[None]:
        """Waits for its turn."""
        with self._guard:
            lock = self._locks.setdefault(name, threading.Lock())
        with lock:
            yield


@dataclass(frozen=True)
class Deployer:
    """What deploying takes."""

    store: EndpointStore
    exports: Exports
    gates: Gates
    passports: Passports
    loader: ServedModelLoader
    registry: Registry
    pods: PodVersions | None = None
    """Where versions live in pods; then `loader` is not asked."""
    turns: OneAtATime = field(default_factory=OneAtATime)

    def load(self, deployment: Deployment) -> ServedModel:
        """Brings a deployment's bytes into memory: the one road there, past the passport.

        Raises as Passports.check and ServedModelLoader.load, or PodVersions.load.
        """
        path = self.exports.path(deployment.artifact)
        self.passports.check(deployment.artifact, path, deployment.passport)
        if self.pods is not None:
            return self.pods.load(deployment, path)
        return self.loader.load(path, model=endpoint_model(deployment.endpoint), version=deployment.version)
