"""Resources that are not jobs: one JSON document per name, with pages (AIP-158), etags (AIP-154) and request ids (AIP-155)."""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import (
    Column,
    ColumnElement,
    Connection,
    Engine,
    Row,
    Table,
    Text,
    and_,
    delete,
    func,
    or_,
    select,
    type_coerce,
    update,
)

from modelyard.core import database
from modelyard.core.artifacts import find_uris
from modelyard.core.database import reading, writing
from modelyard.core.errors import Aborted, AlreadyExists, InvalidArgument, NotFound

Document = dict[str, Any]
Change = Callable[[Document], Document]

DEFAULT_PAGE = 50
LARGEST_PAGE = 1000
_PRINTABLE = re.compile(r"[\x21-\x7e]{1,128}")


@dataclass(frozen=True)
class Resource:
    """A resource as stored. `revision` is 1 when created and rises with every change."""

    name: str
    collection: str
    parent: str
    document: Document
    revision: int
    create_time: datetime
    update_time: datetime

    @property
    def etag(self) -> str:
        """Changes with every revision, and when the resource is deleted and made again."""
        return hashlib.sha256(f"{self.name} {self.create_time.isoformat()} {self.revision}".encode()).hexdigest()[:16]


@dataclass(frozen=True)
class Naming:
    """Those of a list whose document says one of `values` in `field`: the exports of a model version, say."""

    field: str
    values: Sequence[str]

    @property
    def digest(self) -> str:
        """Tells page tokens of one such list from those of another."""
        return _digest(json.dumps([self.field, *self.values]))

    def condition(self, column: Column[Any]) -> ColumnElement[bool]:
        """True of the rows. Documents are kept as `to_json` writes them, so a field and its value stand there in one form only;
        and taking it out of the text is exact on every database, where LIKE is blind to case on one of them."""
        document = type_coerce(column, Text)
        said = (f"{database.to_json(self.field)}:{database.to_json(value)}" for value in self.values)
        return or_(*(func.replace(document, each, "") != document for each in said))


def naming(field: str, values: Sequence[str], argument: str) -> Naming | None:
    """What a request's filter says; None where it says nothing. Raises InvalidArgument TOO_MANY_NAMES."""
    if len(values) > LARGEST_PAGE:
        message = f"{argument} has {len(values)} names; at most {LARGEST_PAGE} are allowed"
        raise InvalidArgument("TOO_MANY_NAMES", message, field=argument, value=len(values))
    return Naming(field, tuple(values)) if values else None


@dataclass(frozen=True)
class Page:
    """Some of a list. `next_page_token` is empty on the last page."""

    items: tuple[Resource, ...]
    next_page_token: str


class ResourceStore:
    """The resources of one service's database."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def create(
        self,
        name: str,
        collection: str,
        parent: str,
        document: Document,
        *,
        request_id: str = "",
        method: str = "",
        fingerprint: str = "",
    ) -> Resource:
        """Store a new resource. A repeated request (same id, method and fingerprint) gives the resource it made before.

        Raises AlreadyExists RESOURCE_EXISTS; InvalidArgument REQUEST_ID_REUSED, BAD_REQUEST_ID, NOT_JSON; NotFound when the
        resource of a repeated request is deleted meanwhile.
        """
        with writing(self._engine) as connection:
            earlier = claim_request(connection, request_id, method, fingerprint, name)
            if earlier is not None:
                return _get(connection, earlier)
            if not _insert(connection, name, collection, parent, document):
                raise AlreadyExists("RESOURCE_EXISTS", f"{name} exists already.", name=name)
            return _get(connection, name)

    def made_by(self, request_id: str, method: str, fingerprint: str) -> str | None:
        """The name of what this same request made before; None: nothing. Raises InvalidArgument REQUEST_ID_REUSED."""
        table = database.request
        with reading(self._engine) as connection:
            statement = select(table).where(table.c.request_id == request_id, table.c.method == method)
            earlier = connection.execute(statement).one_or_none() if request_id else None
        if earlier is not None and earlier.fingerprint != fingerprint:
            raise _request_reused(request_id, earlier.resource_name)
        return str(earlier.resource_name) if earlier is not None else None

    def get(self, name: str) -> Resource:
        """Raises NotFound RESOURCE_NOT_FOUND."""
        with reading(self._engine) as connection:
            return _get(connection, name)

    def list(
        self,
        collection: str,
        parent: str | None = None,
        page_size: int = 0,
        page_token: str = "",
        *,
        newest_first: bool = True,
        naming: Naming | None = None,
    ) -> Page:
        """A page of a collection, by time of creation; below one parent, or with None below any; all, or what names others.

        Raises InvalidArgument BAD_PAGE_SIZE, BAD_PAGE_TOKEN.
        """
        size = check_page_size(page_size)
        query = json.dumps(["resource", collection, parent, newest_first, *([] if naming is None else [naming.digest])])
        table = database.resource
        conditions = [table.c.collection == collection, *([] if parent is None else [table.c.parent == parent])]
        if naming is not None:
            conditions.append(naming.condition(table.c.document))
        statement = select(table).where(*conditions, *after_token(table, page_token, query, newest_first=newest_first))
        with reading(self._engine) as connection:
            rows = connection.execute(statement.order_by(*page_order(table, newest_first)).limit(size + 1)).all()
        return Page(tuple(_resource(row) for row in rows[:size]), next_token(rows, size, query))

    def update(self, name: str, change: Change, etag: str = "") -> Resource:
        """Store what `change` makes of a copy of the document; nobody else changes it meanwhile. Equal documents change nothing.

        `change` must be quick: others wait. Raises NotFound RESOURCE_NOT_FOUND, Aborted ETAG_MISMATCH when `etag` is set and old.
        """
        with writing(self._engine) as connection:
            current = _get(connection, name, lock=True)
            check_etag(current, etag)
            return _replace(connection, current, change(json.loads(database.to_json(current.document))))

    def put(self, name: str, collection: str, parent: str, document: Document) -> Resource:
        """Create the resource, or replace its document."""
        with writing(self._engine) as connection:
            if _insert(connection, name, collection, parent, document):
                return _get(connection, name)
            return _replace(connection, _get(connection, name, lock=True), document)

    def delete(self, name: str, etag: str = "") -> None:
        """Remove a resource. What is below it stays. Raises NotFound RESOURCE_NOT_FOUND, Aborted ETAG_MISMATCH."""
        with writing(self._engine) as connection:
            check_etag(_get(connection, name, lock=True), etag)
            connection.execute(delete(database.resource).where(database.resource.c.name == name))


def claim_request(connection: Connection, request_id: str, method: str, fingerprint: str, resource_name: str) -> str | None:
    """Note, in the transaction that makes a resource and before it does, which request makes it.

    None: go on (also when `request_id` is empty). A name: the same request made that before; answer with it. If the transaction
    is rolled back the id is free again. Raises InvalidArgument REQUEST_ID_REUSED (another fingerprint) or BAD_REQUEST_ID.
    """
    if not request_id:
        return None
    _check_request_id(request_id)
    table = database.request
    row = {"request_id": request_id, "method": method, "fingerprint": fingerprint, "resource_name": resource_name}
    if database.insert_if_absent(connection, table, **row, create_time=database.now()):
        return None
    earlier = connection.execute(select(table).where(table.c.request_id == request_id, table.c.method == method)).one()
    if earlier.fingerprint != fingerprint:
        raise _request_reused(request_id, earlier.resource_name)
    return str(earlier.resource_name)


def forget_requests(engine: Engine, before: datetime) -> int:
    """Drop the request ids noted before a time; gives how many. A day is long enough for any client to retry."""
    with writing(engine) as connection:
        return connection.execute(delete(database.request).where(database.request.c.create_time < before)).rowcount


def fingerprint_of(body: bytes | Document) -> str:
    """What `claim_request` compares: the sha256 of a body, either bytes (a message serialized deterministically) or JSON."""
    data = body if isinstance(body, bytes) else json.dumps(body, sort_keys=True, allow_nan=False).encode()
    return hashlib.sha256(data).hexdigest()


def referenced_uris(engine: Engine) -> set[str]:
    """Every artifact uri that a document of a resource or a job names, as of one moment. (Events of jobs do not count.)"""
    job = database.job
    sources: list[Column[Any]] = [
        database.resource.c.document,
        *(job.c[name] for name in ("spec", "progress", "saved", "result", "error", "labels")),
    ]
    with reading(engine) as connection:
        return set().union(*(_uris_in(connection, source) for source in sources))


def check_page_size(page_size: int) -> int:
    """Items on a page: 0 means 50, more than 1000 means 1000. Raises InvalidArgument BAD_PAGE_SIZE when negative."""
    if page_size < 0:
        message = f"page_size is {page_size}; it must be 0 (the default, {DEFAULT_PAGE}) to {LARGEST_PAGE}"
        raise InvalidArgument("BAD_PAGE_SIZE", message, field="page_size", value=page_size)
    return min(page_size or DEFAULT_PAGE, LARGEST_PAGE)


def check_skip(skip: int) -> int:
    """Items to leave out before the first page. Raises InvalidArgument BAD_SKIP when negative."""
    if skip < 0:
        raise InvalidArgument("BAD_SKIP", f"skip is {skip}; it is 0 or more", field="skip", value=skip)
    return skip


def page_order(table: Table, newest_first: bool) -> list[ColumnElement[Any]]:
    """The order of pages, for tables with `create_time` and `name`."""
    columns = (table.c.create_time, table.c.name)
    return [column.desc() if newest_first else column.asc() for column in columns]


def after_token(table: Table, page_token: str, query: str, *, newest_first: bool) -> list[ColumnElement[bool]]:
    """The condition that continues after a page; none for an empty token. `query` is any text that names the list asked for.

    Raises InvalidArgument BAD_PAGE_TOKEN for a token of another query.
    """
    if not page_token:
        return []
    created, name = _read_token(page_token, query)
    time, key = table.c.create_time, table.c.name
    if newest_first:
        return [or_(time < created, and_(time == created, key < name))]
    return [or_(time > created, and_(time == created, key > name))]


def next_token(rows: Sequence[Row[Any]], size: int, query: str) -> str:
    """The token after a page, given up to `size` + 1 rows; empty when there are no more."""
    if len(rows) <= size:
        return ""
    last = rows[size - 1]
    position = [_digest(query), last.create_time.isoformat(), last.name]
    return base64.urlsafe_b64encode(json.dumps(position).encode()).decode()


def _read_token(page_token: str, query: str) -> tuple[datetime, str]:
    try:
        digest, created, name = json.loads(base64.b64decode(page_token, altchars=b"-_", validate=True))
        position = datetime.fromisoformat(created), str(name)
    except (ValueError, TypeError, binascii.Error, RecursionError):
        raise _bad_token(page_token) from None
    if digest != _digest(query) or position[0].tzinfo is None or "\0" in name:
        raise _bad_token(page_token)
    return position


def _request_reused(request_id: str, name: str) -> InvalidArgument:
    message = f"request_id is {request_id!r}, which another request had ({name}); take a new UUID"
    return InvalidArgument("REQUEST_ID_REUSED", message, field="request_id", request_id=request_id, resource=name)


def _bad_token(page_token: str) -> InvalidArgument:
    shown = page_token[:200]
    message = f"page_token is {shown!r}; it must be the next_page_token of an answer to the same list with the same filter"
    return InvalidArgument("BAD_PAGE_TOKEN", message, field="page_token", value=shown)


def _digest(query: str) -> str:
    return hashlib.sha256(query.encode()).hexdigest()[:12]


def _check_request_id(request_id: str) -> None:
    if not _PRINTABLE.fullmatch(request_id):
        shown = request_id[:200]
        message = f"request_id is {shown!r}; it must be 1 to 128 printable ASCII characters without spaces, best a UUID"
        raise InvalidArgument("BAD_REQUEST_ID", message, field="request_id", value=shown)


def check_etag(current: Resource, etag: str) -> None:
    """Raises Aborted ETAG_MISMATCH when `etag` is set and not the current one."""
    if etag and etag != current.etag:
        message = f"{current.name} has changed: its etag is {current.etag!r}, not {etag!r}. Read it again, then decide."
        raise Aborted("ETAG_MISMATCH", message, field="etag", name=current.name, etag=etag, current=current.etag)


def _get(connection: Connection, name: str, *, lock: bool = False) -> Resource:
    statement = select(database.resource).where(database.resource.c.name == name)
    row = connection.execute(statement.with_for_update() if lock else statement).one_or_none()
    if row is None:
        raise NotFound("RESOURCE_NOT_FOUND", f"{name} does not exist", name=name)
    return _resource(row)


def _insert(connection: Connection, name: str, collection: str, parent: str, document: Document) -> bool:
    now = database.now()
    row = {"name": name, "collection": collection, "parent": parent, "document": document}
    return database.insert_if_absent(connection, database.resource, **row, revision=1, create_time=now, update_time=now)


def _replace(connection: Connection, current: Resource, document: Document) -> Resource:
    if database.to_json(document) == database.to_json(current.document):
        return current
    values = {"document": document, "revision": current.revision + 1, "update_time": database.now()}
    connection.execute(update(database.resource).where(database.resource.c.name == current.name).values(**values))
    return _get(connection, current.name)


def _resource(row: Row[Any]) -> Resource:
    return Resource(**row._mapping)


def _uris_in(connection: Connection, column: Column[Any]) -> set[str]:
    text = type_coerce(column, Text)
    statement = select(text).where(text.like("%artifact://%")).execution_options(yield_per=500)
    rows = connection.scalars(statement)
    return set().union(*(find_uris(document) for document in rows))
