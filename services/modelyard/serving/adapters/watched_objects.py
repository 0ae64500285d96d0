"""Objects of one kind in a cluster as they are now, kept up to date by a watch; as they were last while the cluster is away."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Final

import structlog

from modelyard.core.jobs.kubernetes_api import ApiError, ClusterApi, Document

log = structlog.get_logger()

WATCH_S: Final = 240
PAUSES_S: Final = (0.5, 1.0, 2.0, 5.0, 10.0)


class WatchedObjects:
    """A thread that lists and then watches. `all` and `get` are quick; from any thread."""

    def __init__(self, api: ClusterApi, group: str, plural: str, selector: str) -> None:
        self._api, self._group, self._plural, self._selector = api, group, plural, selector
        self._objects: dict[str, Document] = {}
        self._guard = threading.Lock()
        self._known = threading.Event()
        self._stopped = threading.Event()
        self.trouble = ""
        """Why the cluster could not be asked last; empty when it could."""
        self._thread = threading.Thread(target=self._run, name=f"watch-{plural}", daemon=True)
        self._thread.start()

    def all(self) -> Sequence[Document]:
        """All of them."""
        with self._guard:
            return list(self._objects.values())

    def get(self, name: str) -> Document | None:
        """One of them."""
        with self._guard:
            return self._objects.get(name)

    def put(self, document: Document) -> None:
        """One that was just written: nobody need wait until the watch tells."""
        with self._guard:
            self._objects[document["metadata"]["name"]] = document

    def wait_known(self, seconds: float) -> bool:
        """Whether they were listed once, which is waited for."""
        return self._known.wait(seconds)

    def close(self) -> None:
        """Ends; does not wait for a watch that is under way."""
        self._stopped.set()

    def _run(self) -> None:
        failures = 0
        while not self._stopped.is_set():
            try:
                version = self._list()
                self._known.set()
                failures, self.trouble = 0, ""
                self._watch(version)
            except ApiError as error:
                self.trouble = str(error)[:300]
                wait = PAUSES_S[min(failures, len(PAUSES_S) - 1)]
                failures += 1
                if error.status != 410 and failures > 1:
                    log.warning("the cluster cannot be watched", plural=self._plural, error=self.trouble, again_s=wait)
                self._stopped.wait(0 if error.status == 410 else wait)
            except Exception:
                log.exception("the cluster cannot be watched", plural=self._plural)
                self._stopped.wait(PAUSES_S[-1])

    def _is_older(self, document: Document) -> bool:
        """What was just written may be told of before the watch has come so far."""
        known = self._objects.get(document["metadata"]["name"])
        if known is None or known["metadata"].get("uid") != document["metadata"].get("uid"):
            return False
        return int(document["metadata"].get("generation", 0)) < int(known["metadata"].get("generation", 0))

    def _list(self) -> str:
        found, version = self._api.list_version(self._group, self._plural, labels=self._selector)
        with self._guard:
            self._objects = {each["metadata"]["name"]: each for each in found}
        return version

    def _watch(self, version: str) -> None:
        for kind, document in self._api.watch(self._group, self._plural, version, labels=self._selector, seconds=WATCH_S):
            if self._stopped.is_set():
                return
            if kind == "ERROR":
                raise ApiError(int(document.get("code", 410)), str(document.get("reason", "")), str(document.get("message", "")))
            with self._guard:
                if kind in ("ADDED", "MODIFIED") and not self._is_older(document):
                    self._objects[document["metadata"]["name"]] = document
                elif kind == "DELETED":
                    self._objects.pop(document["metadata"]["name"], None)
