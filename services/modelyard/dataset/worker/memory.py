"""What a job that takes long has worked out, kept as artifacts that its document names: an attempt that is killed loses only what
it had in hand. Arrays alone are kept, as numpy's own files; nothing pickled is ever read.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt

from modelyard.core.artifacts import ArtifactStore
from modelyard.core.errors import DataLoss, NotFound

Arrays = dict[str, npt.NDArray[np.generic]]


class StoredMemory:
    """A domain.work.Memory over the artifact store. Used by one thread."""

    def __init__(
        self, store: ArtifactStore, folder: Path, saved: Mapping[str, str], report: Callable[[dict[str, str]], None]
    ) -> None:
        """saved: what an earlier attempt reported last; report: tells the service, so that the next attempt is given it."""
        self._store, self._folder, self._report = store, folder, report
        self._kept = {name: uri for name, uri in saved.items() if isinstance(uri, str) and uri.startswith("artifact://")}

    def recall(self, name: str) -> Arrays | None:
        """What was kept under a name; None where nothing was, or it is gone or cannot be read."""
        uri = self._kept.get(name)
        if uri is None:
            return None
        try:
            with np.load(self._store.path(uri), allow_pickle=False) as found:
                return {key: found[key] for key in found.files}
        except (NotFound, DataLoss, ValueError, OSError):
            return None

    def keep(self, name: str, arrays: Mapping[str, npt.NDArray[np.generic]]) -> None:
        """Keeps arrays under a name, for the attempt that follows if this one is killed."""
        path = self._folder / "kept.npz"
        with path.open("wb") as file:
            np.savez(file, **arrays)  # type: ignore[arg-type]
        self._kept[name] = self._store.adopt(path).uri
        self._report(dict(self._kept))

    def forget(self) -> None:
        """Removes it all: the job is decided."""
        kept, self._kept = self._kept, {}
        if kept:
            self._report({})
            for uri in set(kept.values()):
                self._store.delete(uri)
