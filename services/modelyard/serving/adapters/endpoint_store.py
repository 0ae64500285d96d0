"""Endpoints, deployments and events in the `resource` table. A deployment and its event are written in one transaction."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import Any, Final

from sqlalchemy import Connection, Engine, delete, func, select, update

from modelyard.core.artifacts import Blob
from modelyard.core.database import insert_if_absent, now, reading, resource, writing
from modelyard.core.database import request as request_table
from modelyard.core.errors import AlreadyExists, InvalidArgument, NotFound
from modelyard.core.names import DEPLOYMENT, ENDPOINT, parent_of
from modelyard.core.resources import Resource, ResourceStore, claim_request
from modelyard.serving.domain.endpoint import Deployment, DeploymentEvent, Endpoint, EventKind
from modelyard.serving.ports import Listed, Request

CREATE_ENDPOINT: Final = "CreateEndpoint"
CREATE_DEPLOYMENT: Final = "CreateDeployment"
EVENTS: Final = "endpoints/deploymentEvents"


class SqlEndpointStore:
    """See ports.EndpointStore."""

    def __init__(self, engine: Engine, resources: ResourceStore) -> None:
        self._engine = engine
        self._resources = resources

    def create(self, name: str, display_name: str, request: Request) -> Endpoint:
        """See ports.EndpointStore."""
        made = self._resources.create(
            name,
            ENDPOINT.collection,
            parent_of(name),
            {"display_name": display_name},
            request_id=request.request_id,
            method=CREATE_ENDPOINT,
            fingerprint=request.fingerprint,
        )
        return _endpoint(made)

    def get(self, name: str) -> Endpoint:
        """See ports.EndpointStore."""
        return _endpoint(self._resources.get(name))

    def list(self, parent: str, page_size: int, page_token: str) -> Listed[Endpoint]:
        """See ports.EndpointStore."""
        page = self._resources.list(ENDPOINT.collection, parent, page_size, page_token)
        return Listed(tuple(map(_endpoint, page.items)), page.next_page_token)

    def delete(self, name: str) -> None:
        """See ports.EndpointStore."""
        with writing(self._engine) as connection:
            _locked(connection, name)
            for deployment in _deployments(connection, name):
                _remove(connection, deployment)
            connection.execute(delete(resource).where(resource.c.name == name))

    def deploy(self, deployment: Deployment, request: Request) -> Deployment:
        """See ports.EndpointStore."""
        endpoint = deployment.endpoint
        with writing(self._engine) as connection:
            current = _locked(connection, endpoint)
            earlier = claim_request(connection, request.request_id, CREATE_DEPLOYMENT, request.fingerprint, deployment.name)
            if earlier is not None:
                return _deployment(_row(connection, earlier))
            if not _insert(connection, deployment.name, DEPLOYMENT.collection, endpoint, _document(deployment)):
                raise AlreadyExists("RESOURCE_EXISTS", f"{deployment.name} exists already.", name=deployment.name)
            _append(connection, deployment, EventKind.DEPLOYED)
            _touch(connection, current)
            return _deployment(_row(connection, deployment.name))

    def repeated(self, request: Request) -> Deployment | None:
        """See ports.EndpointStore."""
        if not request.request_id:
            return None
        table = request_table
        statement = select(table).where(table.c.request_id == request.request_id, table.c.method == CREATE_DEPLOYMENT)
        with reading(self._engine) as connection:
            earlier = connection.execute(statement).one_or_none()
            if earlier is None:
                return None
            if earlier.fingerprint != request.fingerprint:
                raise _reused(request.request_id, earlier.resource_name)
            return _deployment(_row(connection, earlier.resource_name))

    def deployment(self, name: str) -> Deployment:
        """See ports.EndpointStore."""
        return _deployment(self._resources.get(name))

    def deployments(self, endpoint: str = "") -> Iterable[Deployment]:
        """See ports.EndpointStore."""
        with reading(self._engine) as connection:
            return _deployments(connection, endpoint)

    def renew(self, deployment: Deployment) -> Deployment:
        """See ports.EndpointStore."""
        with writing(self._engine) as connection:
            endpoint = _locked(connection, deployment.endpoint)
            row = _row(connection, deployment.name)
            values = {"document": _document(deployment), "revision": row.revision + 1, "update_time": now()}
            connection.execute(update(resource).where(resource.c.name == deployment.name).values(**values))
            _touch(connection, endpoint)
            return _deployment(_row(connection, deployment.name))

    def undeploy(self, name: str) -> None:
        """See ports.EndpointStore."""
        with writing(self._engine) as connection:
            current = _locked(connection, parent_of(name))
            _remove(connection, _deployment(_row(connection, name)))
            _touch(connection, current)

    def events(self, endpoint: str, page_size: int, page_token: str) -> Listed[DeploymentEvent]:
        """See ports.EndpointStore."""
        page = self._resources.list(EVENTS, endpoint, page_size, page_token)
        if not page.items and not page_token:
            self._resources.get(endpoint)
        return Listed(tuple(map(_event, page.items)), page.next_page_token)


def _row(connection: Connection, name: str, *, lock: bool = False) -> Resource:
    statement = select(resource).where(resource.c.name == name)
    row = connection.execute(statement.with_for_update() if lock else statement).one_or_none()
    if row is None:
        raise NotFound("RESOURCE_NOT_FOUND", f"{name} does not exist.", name=name)
    return Resource(**row._mapping)


def _locked(connection: Connection, endpoint: str) -> Resource:
    """The endpoint; until the transaction ends nobody else changes it or what is below it."""
    return _row(connection, endpoint, lock=True)


def _insert(connection: Connection, name: str, collection: str, parent: str, document: dict[str, Any]) -> bool:
    time = now()
    row = {"name": name, "collection": collection, "parent": parent, "document": document}
    return insert_if_absent(connection, resource, **row, revision=1, create_time=time, update_time=time)


def _touch(connection: Connection, endpoint: Resource) -> None:
    """What an endpoint serves is part of it, so its update time and etag change with it."""
    values = {"revision": endpoint.revision + 1, "update_time": now()}
    connection.execute(update(resource).where(resource.c.name == endpoint.name).values(**values))


def _remove(connection: Connection, deployment: Deployment) -> None:
    connection.execute(delete(resource).where(resource.c.name == deployment.name))
    _append(connection, deployment, EventKind.UNDEPLOYED)


def _append(connection: Connection, deployment: Deployment, kind: EventKind) -> None:
    """Writes the next line of the record. No uri in it: what is not served any more need not be kept."""
    endpoint = deployment.endpoint
    mine = (resource.c.collection == EVENTS, resource.c.parent == endpoint)
    sequence = 1 + (connection.scalar(select(func.count()).select_from(resource).where(*mine)) or 0)
    document = {
        "sequence": sequence,
        "kind": kind.value,
        "deployment": deployment.name,
        "artifact_sha256": deployment.artifact.sha256,
        "model_version": deployment.model_version,
    }
    name = f"{endpoint}/deploymentEvents/{sequence:012d}"
    if not _insert(connection, name, EVENTS, endpoint, document):
        raise AlreadyExists("RESOURCE_EXISTS", f"{name} exists already.", name=name)


def _deployments(connection: Connection, endpoint: str) -> list[Deployment]:
    statement = select(resource).where(resource.c.collection == DEPLOYMENT.collection)
    if endpoint:
        statement = statement.where(resource.c.parent == endpoint)
    rows = connection.execute(statement.order_by(resource.c.create_time, resource.c.name)).all()
    return [_deployment(Resource(**row._mapping)) for row in rows]


def _document(deployment: Deployment) -> dict[str, Any]:
    return {
        "export": deployment.export,
        "gate_decision": deployment.gate_decision,
        "model_version": deployment.model_version,
        "artifact": dataclasses.asdict(deployment.artifact),
        "passport": dataclasses.asdict(deployment.passport) if deployment.passport else None,
    }


def _endpoint(stored: Resource) -> Endpoint:
    return Endpoint(stored.name, stored.document["display_name"], stored.create_time, stored.update_time, stored.etag)


def _deployment(stored: Resource) -> Deployment:
    document = stored.document
    return Deployment(
        name=stored.name,
        export=document["export"],
        gate_decision=document["gate_decision"],
        model_version=document["model_version"],
        artifact=Blob(**document["artifact"]),
        create_time=stored.create_time,
        passport=Blob(**document["passport"]) if document.get("passport") else None,
    )


def _event(stored: Resource) -> DeploymentEvent:
    document = stored.document
    return DeploymentEvent(
        sequence=document["sequence"],
        time=stored.create_time,
        kind=EventKind(document["kind"]),
        deployment=document["deployment"],
        artifact_sha256=document["artifact_sha256"],
        model_version=document["model_version"],
    )


def _reused(request_id: str, name: str) -> InvalidArgument:
    message = f"request_id is {request_id!r}, which another request had ({name}); take a new UUID"
    return InvalidArgument("REQUEST_ID_REUSED", message, field="request_id", request_id=request_id, resource=name)
