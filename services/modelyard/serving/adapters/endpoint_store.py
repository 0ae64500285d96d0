"""Endpoints, deployments and events in the `resource` table. A change and its lines of the record are one transaction."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any, Final

from sqlalchemy import Connection, Engine, delete, func, select, update

from modelyard.core.database import insert_if_absent, now, reading, resource, writing
from modelyard.core.database import request as request_table
from modelyard.core.errors import AlreadyExists, InvalidArgument, NotFound
from modelyard.core.names import DEPLOYMENT, ENDPOINT, parent_of
from modelyard.core.resources import Resource, ResourceStore, check_etag, claim_request
from modelyard.serving.adapters.endpoint_documents import (
    deployment_document,
    deployment_of,
    endpoint_document,
    endpoint_of,
    event_document,
    event_of,
    new_document,
)
from modelyard.serving.domain.changes import Changed, Line
from modelyard.serving.domain.endpoint import Deployment, DeploymentEvent, Endpoint, EventKind
from modelyard.serving.domain.traffic import Routing
from modelyard.serving.ports import Change, Listed, NewEndpoint, Request

CREATE_ENDPOINT: Final = "CreateEndpoint"
CREATE_DEPLOYMENT: Final = "CreateDeployment"
EVENTS: Final = "endpoints/deploymentEvents"
STAGED: Final = "endpoints/stagedDeployments"
"""Versions that their pods are to hold before anybody is sent to them: documents of deployments, and when they lapse."""


class SqlEndpointStore:
    """See ports.EndpointStore."""

    def __init__(self, engine: Engine, resources: ResourceStore) -> None:
        self._engine = engine
        self._resources = resources

    def create(self, name: str, wanted: NewEndpoint, request: Request) -> Endpoint:
        """See ports.EndpointStore."""
        made = self._resources.create(
            name,
            ENDPOINT.collection,
            parent_of(name),
            new_document(wanted),
            request_id=request.request_id,
            method=CREATE_ENDPOINT,
            fingerprint=request.fingerprint,
        )
        return endpoint_of(made)

    def get(self, name: str) -> Endpoint:
        """See ports.EndpointStore."""
        return endpoint_of(self._resources.get(name))

    def list(self, parent: str, page_size: int, page_token: str) -> Listed[Endpoint]:
        """See ports.EndpointStore."""
        page = self._resources.list(ENDPOINT.collection, parent, page_size, page_token)
        return Listed(tuple(map(endpoint_of, page.items)), page.next_page_token)

    def all(self) -> Iterable[tuple[Endpoint, Sequence[Deployment]]]:
        """See ports.EndpointStore."""
        wanted = resource.c.collection.in_((ENDPOINT.collection, DEPLOYMENT.collection))
        statement = select(resource).where(wanted).order_by(resource.c.create_time, resource.c.name)
        with reading(self._engine) as connection:
            rows = [Resource(**row._mapping) for row in connection.execute(statement)]  # one statement: one moment
        below: dict[str, list[Deployment]] = {}
        for row in rows:
            if row.collection == DEPLOYMENT.collection:
                below.setdefault(row.parent, []).append(deployment_of(row))
        return [(endpoint_of(row), below.get(row.name, [])) for row in rows if row.collection == ENDPOINT.collection]

    def delete(self, name: str) -> None:
        """See ports.EndpointStore."""
        with writing(self._engine) as connection:
            current = endpoint_of(_locked(connection, name))
            connection.execute(delete(resource).where(resource.c.collection == STAGED, resource.c.parent == name))
            nothing = replace(current, routing=Routing())
            for deployment in _deployments(connection, name):
                connection.execute(delete(resource).where(resource.c.name == deployment.name))
                _append(connection, nothing, Line(EventKind.UNDEPLOYED, deployment, "the endpoint was deleted"))
            connection.execute(delete(resource).where(resource.c.name == name))

    def change(self, name: str, change: Change, etag: str = "") -> Endpoint:
        """See ports.EndpointStore."""
        with writing(self._engine) as connection:
            current = _locked(connection, name)
            check_etag(current, etag)
            changed = change(endpoint_of(current), _deployments(connection, name))
            if changed.endpoint == endpoint_of(current) and not changed.lines:
                return changed.endpoint
            return _write(connection, current, changed)

    def deploy(self, deployment: Deployment, request: Request, change: Change) -> tuple[Deployment, Endpoint]:
        """See ports.EndpointStore."""
        with writing(self._engine) as connection:
            current = _locked(connection, deployment.endpoint)
            earlier = claim_request(connection, request.request_id, CREATE_DEPLOYMENT, request.fingerprint, deployment.name)
            if earlier is not None:
                return deployment_of(_row(connection, earlier)), endpoint_of(current)
            before = _deployments(connection, deployment.endpoint)
            made = (deployment.name, DEPLOYMENT.collection, deployment.endpoint, deployment_document(deployment))
            if not _insert(connection, *made):
                raise AlreadyExists("RESOURCE_EXISTS", f"{deployment.name} exists already.", name=deployment.name)
            connection.execute(delete(resource).where(resource.c.name == _staged_name(deployment.name)))
            endpoint = _write(connection, current, change(endpoint_of(current), before))
            return deployment_of(_row(connection, deployment.name)), endpoint

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
            return deployment_of(_row(connection, earlier.resource_name))

    def deployment(self, name: str) -> Deployment:
        """See ports.EndpointStore."""
        return deployment_of(self._resources.get(name))

    def deployments(self, endpoint: str = "") -> Iterable[Deployment]:
        """See ports.EndpointStore."""
        with reading(self._engine) as connection:
            return _deployments(connection, endpoint)

    def renew(self, deployment: Deployment) -> Deployment:
        """See ports.EndpointStore."""
        with writing(self._engine) as connection:
            endpoint = _locked(connection, deployment.endpoint)
            _replace(connection, _row(connection, deployment.name), deployment_document(deployment))
            _replace(connection, endpoint, endpoint.document)
            return deployment_of(_row(connection, deployment.name))

    def undeploy(self, name: str, change: Change) -> Endpoint:
        """See ports.EndpointStore."""
        with writing(self._engine) as connection:
            current = _locked(connection, parent_of(name))
            _row(connection, name)
            changed = change(endpoint_of(current), _deployments(connection, current.name))
            connection.execute(delete(resource).where(resource.c.name == name))
            return _write(connection, current, changed)

    def note_health(self, name: str, healthy: bool, detail: str) -> bool:
        """See ports.EndpointStore."""
        with writing(self._engine) as connection:
            endpoint = endpoint_of(_locked(connection, parent_of(name)))
            row = _row(connection, name)
            deployment = deployment_of(row)
            if deployment.unhealthy is not healthy:
                return False
            _replace(connection, row, deployment_document(replace(deployment, unhealthy=not healthy)))
            _append(connection, endpoint, Line(EventKind.RECOVERED if healthy else EventKind.UNHEALTHY, deployment, detail))
            return True

    def stage(self, deployment: Deployment, until: datetime) -> None:
        """See ports.EndpointStore."""
        document = {**deployment_document(deployment), "until": until.isoformat()}
        with writing(self._engine) as connection:
            _locked(connection, deployment.endpoint)
            name = _staged_name(deployment.name)
            connection.execute(delete(resource).where(resource.c.name == name))
            _insert(connection, name, STAGED, deployment.endpoint, document)

    def unstage(self, name: str) -> None:
        """See ports.EndpointStore."""
        with writing(self._engine) as connection:
            connection.execute(delete(resource).where(resource.c.name == _staged_name(name)))

    def staged(self, endpoint: str = "") -> Iterable[Deployment]:
        """See ports.EndpointStore."""
        found = []
        for row in self._staged_rows(endpoint):
            deployment = deployment_of(row)
            found.append(replace(deployment, name=deployment.name.replace("/stagedDeployments/", "/deployments/")))
        return found

    def unstage_expired(self, time: datetime) -> None:
        """See ports.EndpointStore."""
        late = [row.name for row in self._staged_rows("") if datetime.fromisoformat(row.document["until"]) < time]
        if late:
            with writing(self._engine) as connection:
                connection.execute(delete(resource).where(resource.c.name.in_(late)))

    def _staged_rows(self, endpoint: str) -> Sequence[Resource]:
        statement = select(resource).where(resource.c.collection == STAGED)
        if endpoint:
            statement = statement.where(resource.c.parent == endpoint)
        with reading(self._engine) as connection:
            rows = connection.execute(statement.order_by(resource.c.create_time, resource.c.name)).all()
            return [Resource(**row._mapping) for row in rows]

    def events(self, endpoint: str, page_size: int, page_token: str) -> Listed[DeploymentEvent]:
        """See ports.EndpointStore."""
        page = self._resources.list(EVENTS, endpoint, page_size, page_token)
        if not page.items and not page_token:
            self._resources.get(endpoint)
        return Listed(tuple(map(event_of, page.items)), page.next_page_token)


def _staged_name(deployment: str) -> str:
    return deployment.replace("/deployments/", "/stagedDeployments/")


def _write(connection: Connection, current: Resource, changed: Changed) -> Endpoint:
    """An endpoint after a change, and its lines of the record. What it serves is part of it: its etag changes in any case."""
    _replace(connection, current, endpoint_document(changed.endpoint))
    for line in changed.lines:
        _append(connection, changed.endpoint, line)
    return endpoint_of(_row(connection, current.name))


def _row(connection: Connection, name: str, *, lock: bool = False) -> Resource:
    statement = select(resource).where(resource.c.name == name)
    row = connection.execute(statement.with_for_update() if lock else statement).one_or_none()
    if row is None:
        raise NotFound("RESOURCE_NOT_FOUND", f"{name} does not exist", name=name)
    return Resource(**row._mapping)


def _locked(connection: Connection, endpoint: str) -> Resource:
    """The endpoint; until the transaction ends nobody else changes it or what is below it."""
    return _row(connection, endpoint, lock=True)


def _insert(connection: Connection, name: str, collection: str, parent: str, document: dict[str, Any]) -> bool:
    time = now()
    row = {"name": name, "collection": collection, "parent": parent, "document": document}
    return insert_if_absent(connection, resource, **row, revision=1, create_time=time, update_time=time)


def _replace(connection: Connection, row: Resource, document: dict[str, Any]) -> None:
    values = {"document": document, "revision": row.revision + 1, "update_time": now()}
    connection.execute(update(resource).where(resource.c.name == row.name).values(**values))


def _append(connection: Connection, endpoint: Endpoint, line: Line) -> None:
    """Writes the next line of the record."""
    mine = (resource.c.collection == EVENTS, resource.c.parent == endpoint.name)
    sequence = 1 + (connection.scalar(select(func.count()).select_from(resource).where(*mine)) or 0)
    name = f"{endpoint.name}/deploymentEvents/{sequence:012d}"
    if not _insert(connection, name, EVENTS, endpoint.name, event_document(sequence, endpoint, line)):
        raise AlreadyExists("RESOURCE_EXISTS", f"{name} exists already.", name=name)


def _deployments(connection: Connection, endpoint: str) -> list[Deployment]:
    statement = select(resource).where(resource.c.collection == DEPLOYMENT.collection)
    if endpoint:
        statement = statement.where(resource.c.parent == endpoint)
    rows = connection.execute(statement.order_by(resource.c.create_time, resource.c.name)).all()
    return [deployment_of(Resource(**row._mapping)) for row in rows]


def _reused(request_id: str, name: str) -> InvalidArgument:
    message = f"request_id is {request_id!r}, which another request had ({name}); take a new UUID"
    return InvalidArgument("REQUEST_ID_REUSED", message, field="request_id", request_id=request_id, resource=name)
