"""The serving service on a real server, with exports that lie in its own artifact store."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from modelyard.core.artifacts import ArtifactStore, Blob
from modelyard.core.errors import NotFound
from modelyard.core.platform import open_platform
from modelyard.formats.passport_keys import SigningKey
from modelyard.serving import bootstrap
from modelyard.serving.domain.admission import Export
from modelyard.serving.served_models import ClosableLoader
from modelyard.serving.settings import ServingSettings
from tests.support.hosted import hosted
from tests.support.passports import a_passport, trusted_key
from tests.support.serving_fakes import PROJECT, FakeGates


@dataclass
class StoredExports:
    """ports.Exports over an artifact store; `add` exports a bundle."""

    artifacts: ArtifactStore
    gates: FakeGates
    key: SigningKey
    exports: dict[str, Export] = field(default_factory=dict)

    def add(self, id_: str, version: str, bundle: Path) -> tuple[str, str]:
        """The export's and its gate decision's names."""
        artifact = self.artifacts.put_file(bundle)
        name = f"{PROJECT}/exports/{id_}"
        self.exports[name] = Export(name, f"{PROJECT}/models/m/versions/{version}", "SUCCEEDED", artifact)
        passport = self.artifacts.put_bytes(a_passport(self.key, artifact.sha256, subject=name))
        return name, self.gates.add(id_, artifact.sha256, passport=passport)

    def get(self, name: str) -> Export:
        if name not in self.exports:
            raise NotFound("RESOURCE_NOT_FOUND", f"{name} does not exist.", name=name)
        return self.exports[name]

    def fetch(self, artifact: Blob) -> Blob:
        return artifact

    def path(self, artifact: Blob) -> Path:
        return self.artifacts.path(artifact)


@dataclass
class ServingWorld:
    """A running server and what can be deployed to it."""

    address: str
    exports: StoredExports


@contextmanager
def serving(
    folder: Path, *, earlier: ServingWorld | None = None, loader: ClosableLoader | None = None, **settings: Any
) -> Iterator[ServingWorld]:
    """The service over the data of a folder; `earlier` gives the exports of the server that had the folder before."""
    platform = open_platform(ServingSettings(data_dir=folder, **settings), "serving")
    exports = earlier.exports if earlier else StoredExports(platform.artifacts, FakeGates(), trusted_key(folder))
    service = bootstrap.build(platform, exports=exports, gates=exports.gates, loader=loader)
    with hosted(platform, [service]) as address:
        yield ServingWorld(address, exports)
