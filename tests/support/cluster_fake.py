"""An API server in memory, for what the job runner asks of one: Jobs that make a pod when they are let go."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from modelyard.core.jobs.kubernetes_api import ApiError

Document = dict[str, Any]


class FakeCluster:
    """modelyard.core.jobs.kubernetes_api.ClusterApi. `refuses`: the next calls of a verb on a kind raise this.

    `stranded_since`: when the grace of its pod was over, which is there even so. `deleted`: kind, name and grace, as asked.
    """

    namespace = "default"

    def __init__(self) -> None:
        self.objects: dict[tuple[str, str], Document] = {}
        self.refuses: dict[tuple[str, str], ApiError] = {}
        self.written: list[bytes] = [b"hello\n", b"world\n"]
        self.phase = "Running"
        self.stranded_since = ""
        self.deleted: list[tuple[str, str, int | None]] = []

    def get(self, group: str, plural: str, name: str) -> Document | None:
        self._check("get", plural)
        return self.objects.get((plural, name))

    def find(self, group: str, plural: str, *, labels: str = "", fields: str = "") -> list[Document]:
        self._check("find", plural)
        if plural in ("events", "workloads"):
            return [thing for (kind, _), thing in self.objects.items() if kind == plural]
        job = self.objects.get(("jobs", labels.partition("=")[2]))
        if plural != "pods" or job is None or job["spec"]["suspend"]:
            return []
        state = {"running": {}} if self.phase == "Running" else {"terminated": {"exitCode": 0}}
        containers = [{"name": "worker", "state": state, "ready": self.phase == "Running"}]
        metadata = {"name": "pod", "labels": {}} | ({"deletionTimestamp": self.stranded_since} if self.stranded_since else {})
        return [{"metadata": metadata, "status": {"phase": self.phase, "containerStatuses": containers}}]

    def create(self, group: str, plural: str, manifest: Document) -> Document:
        self._check("create", plural)
        key = (plural, manifest["metadata"]["name"])
        if key in self.objects:
            raise ApiError(409, "AlreadyExists", "there is one")
        self.objects[key] = {**manifest, "metadata": {**manifest["metadata"], "uid": f"uid-{len(self.objects)}"}}
        return self.objects[key]

    def patch(self, group: str, plural: str, name: str, changes: Document) -> Document:
        self._check("patch", plural)
        self.objects[plural, name]["spec"].update(changes["spec"])
        return self.objects[plural, name]

    def delete(self, group: str, plural: str, name: str, *, grace_s: int | None = None) -> None:
        self._check("delete", plural)
        self.deleted.append((plural, name, grace_s))
        job = self.objects.pop((plural, name), None)
        owned = job["metadata"]["uid"] if job else None
        for key, thing in [*self.objects.items()]:
            if owned in [owner["uid"] for owner in thing["metadata"].get("ownerReferences", ())]:
                del self.objects[key]

    def log(self, pod: str, container: str) -> Iterator[bytes]:
        yield from self.written

    def _check(self, verb: str, plural: str) -> None:
        if (verb, plural) in self.refuses:
            raise self.refuses[verb, plural]
