"""The API server of a cluster, as JSON documents: the one place that knows the package `kubernetes`.

    api = connect(namespace="")
    api.create("batch/v1", "jobs", manifest)
    api.get("batch/v1", "jobs", "name")

Only objects of one namespace are reached: nothing here asks for rights beyond it.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from modelyard.core.errors import FailedPrecondition, InvalidArgument

Document = dict[str, Any]
TIMEOUT_S: Final = (5.0, 30.0)
_OWN_NAMESPACE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")


class ApiError(Exception):
    """What the API server refused. `status`: HTTP status, 0 where it did not answer; `reason` and `message` are its own."""

    def __init__(self, status: int, reason: str, message: str) -> None:
        super().__init__(f"{status} {reason}: {message}")
        self.status = status
        self.reason = reason
        self.message = message

    @property
    def passing(self) -> bool:
        """Whether the same call may work later: the server is away, busy, or does not know us yet."""
        return self.status in (0, 401, 408, 429) or self.status >= 500


class ClusterApi:
    """Calls of one namespace."""

    def __init__(self, client: Any, namespace: str) -> None:
        self._client = client
        self.namespace = namespace

    def get(self, group: str, plural: str, name: str) -> Document | None:
        """An object, or None. Raises ApiError."""
        try:
            return self._json("GET", self._path(group, plural, name))
        except ApiError as error:
            if error.status == 404:
                return None
            raise

    def find(self, group: str, plural: str, *, labels: str = "", fields: str = "") -> list[Document]:
        """The objects with these labels and fields (selectors). Raises ApiError."""
        query = [(key, value) for key, value in (("labelSelector", labels), ("fieldSelector", fields)) if value]
        return [*self._json("GET", self._path(group, plural), query=query).get("items", [])]

    def create(self, group: str, plural: str, manifest: Mapping[str, Any]) -> Document:
        """Make an object. Raises ApiError (409: there is one of this name)."""
        return self._json("POST", self._path(group, plural), body=manifest)

    def patch(self, group: str, plural: str, name: str, changes: Mapping[str, Any]) -> Document:
        """Merge changes into an object. Raises ApiError."""
        return self._json("PATCH", self._path(group, plural, name), body=changes, content="application/merge-patch+json")

    def apply(self, group: str, plural: str, manifest: Mapping[str, Any], manager: str) -> Document:
        """Have an object's fields be what `manifest` says (server-side apply); what it does not name stays. Raises ApiError."""
        path, query = self._path(group, plural, manifest["metadata"]["name"]), [("fieldManager", manager), ("force", "true")]
        return self._json("PATCH", path, body=manifest, query=query, content="application/apply-patch+yaml")

    def list_version(self, group: str, plural: str, *, labels: str = "") -> tuple[list[Document], str]:
        """As `find`, and the version of the list, from which `watch` goes on. Raises ApiError."""
        query = [("labelSelector", labels)] if labels else []
        found = self._json("GET", self._path(group, plural), query=query)
        return [*found.get("items", [])], str(found["metadata"]["resourceVersion"])

    def watch(self, group: str, plural: str, version: str, *, labels: str = "", seconds: int) -> Iterator[tuple[str, Document]]:
        """What changes, as (ADDED, MODIFIED, DELETED, BOOKMARK or ERROR, object), for so many seconds. Raises ApiError."""
        query = [("watch", "1"), ("resourceVersion", version), ("timeoutSeconds", str(seconds)), ("allowWatchBookmarks", "true")]
        query += [("labelSelector", labels)] if labels else []
        response = self._call("GET", self._path(group, plural), query=query, timeout_s=(5.0, seconds + 30.0))
        rest = b""
        raw = response.response
        try:
            for piece in raw.stream(1 << 16, decode_content=True):
                *lines, rest = (rest + piece).split(b"\n")
                for line in filter(None, lines):
                    event = json.loads(line)
                    yield str(event["type"]), dict(event["object"])
        except ApiError:
            raise
        except Exception as error:  # the connection was lost: whatever urllib3 raises
            raise ApiError(0, "BrokenOff", str(error)) from error
        finally:
            raw.close()

    def delete(self, group: str, plural: str, name: str, *, grace_s: int | None = None) -> None:
        """Delete an object and, in the background, what it owns. Fine when there is none. Raises ApiError."""
        options: Document = {"propagationPolicy": "Background"}
        options |= {} if grace_s is None else {"gracePeriodSeconds": grace_s}
        try:
            self._json("DELETE", self._path(group, plural, name), body=options)
        except ApiError as error:
            if error.status != 404:
                raise

    def log(self, pod: str, container: str) -> Iterator[bytes]:
        """What a container writes, from the beginning until it ends. Raises ApiError."""
        query = [("container", container), ("follow", "true")]
        response = self._call("GET", self._path("v1", "pods", pod) + "/log", query=query, timeout_s=(5.0, 3600.0))
        raw = response.response
        try:
            yield from raw.stream(1 << 14, decode_content=True)
        except Exception as error:
            raise ApiError(0, "BrokenOff", str(error)) from error
        finally:
            raw.close()

    def _path(self, group: str, plural: str, name: str = "") -> str:
        root = f"/api/{group}" if "/" not in group else f"/apis/{group}"
        return f"{root}/namespaces/{self.namespace}/{plural}" + (f"/{name}" if name else "")

    def _json(self, method: str, path: str, **more: Any) -> Document:
        answer = json.loads(self._call(method, path, **more).read() or b"{}")
        return dict(answer)

    def _call(
        self,
        method: str,
        path: str,
        *,
        body: Mapping[str, Any] | None = None,
        query: Sequence[tuple[str, str]] | None = None,
        content: str = "application/json",
        timeout_s: tuple[float, float] = TIMEOUT_S,
    ) -> Any:
        headers = {"Accept": "application/json", "Content-Type": content}
        try:
            request = self._client.param_serialize(
                method, path, query_params=[*(query or ())], header_params=headers, body=body, auth_settings=["BearerToken"]
            )
            response = self._client.call_api(*request, _request_timeout=timeout_s)
            if response.status >= 400:
                raise _refused(response.status, response.read())
        except ApiError:
            raise
        except Exception as error:  # connection refused, time-out, TLS: whatever urllib3 and the package raise
            raise ApiError(0, type(error).__name__, str(error)) from error
        return response


def connect(namespace: str = "") -> ClusterApi:
    """The cluster that this process runs in, else the one of KUBECONFIG. Raises FailedPrecondition NO_CLUSTER."""
    try:
        from kubernetes import client, config
    except ImportError as error:
        message = "MODELYARD_RUNNER or MODELYARD_SERVING_PODS says kubernetes: install modelyard[kubernetes] for it"
        raise FailedPrecondition("KUBERNETES_NOT_INSTALLED", message) from error
    settings = client.Configuration()
    try:
        if "KUBERNETES_SERVICE_HOST" in os.environ:
            config.load_incluster_config(client_configuration=settings)
        else:
            config.load_kube_config(client_configuration=settings)
    except config.ConfigException as error:
        message = f"There is no cluster: neither a service account of a pod nor a KUBECONFIG that can be read ({error})"
        raise FailedPrecondition("NO_CLUSTER", message) from error
    settings.retries = False
    return ClusterApi(client.ApiClient(settings), namespace or _own_namespace())


def parse_owner(text: str, field: str = "runner_owner") -> tuple[str, str, str]:
    """Group and version, kind and name of "apps/v1/Deployment/NAME" or "v1/ConfigMap/NAME". Raises InvalidArgument BAD_OWNER."""
    group, _, rest = text.rpartition("/")
    group, _, kind = group.rpartition("/")
    if not group or not kind or not rest or group.count("/") > 1:
        message = f"MODELYARD_{field.upper()} is {text!r}; it must be apps/v1/Deployment/NAME or v1/ConfigMap/NAME"
        raise InvalidArgument("BAD_OWNER", message, field=field, value=text)
    return group, kind, rest


def _own_namespace() -> str:
    return _OWN_NAMESPACE.read_text().strip() if _OWN_NAMESPACE.exists() else "default"


def _refused(status: int, body: bytes) -> ApiError:
    try:
        found = json.loads(body)
        return ApiError(status, str(found.get("reason", "")), str(found.get("message", "")))
    except (ValueError, AttributeError):
        return ApiError(status, "", body[:300].decode(errors="replace"))
