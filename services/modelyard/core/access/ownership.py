"""Which project an artifact belongs to: the one that uploaded it, and all whose documents name it."""

from __future__ import annotations

from collections.abc import Collection

from sqlalchemy import Engine, Text, delete, literal, or_, select, type_coerce

from modelyard.core.artifacts import Blob, parse_uri
from modelyard.core.database import insert_if_absent, job, now, reading, resource, upload, writing


class SqlOwnership:
    """Over the database of a service. A guard's Ownership."""

    def __init__(self, engine: Engine, namespaces: Collection[str]) -> None:
        self._engine = engine
        self._namespaces = frozenset(namespaces)

    def is_own(self, uri: str) -> bool:
        """Whether this process keeps the artifacts of that namespace."""
        return parse_uri(uri)[0] in self._namespaces

    def belongs_to(self, uri: str, projects: list[str]) -> bool:
        """Whether one of the projects uploaded it, or a document of theirs names it."""
        with reading(self._engine) as connection:
            if connection.scalar(select(literal(1)).where(upload.c.uri == uri, upload.c.project.in_(projects)).limit(1)):
                return True
            for project in projects:
                below, named = f"projects/{project}/%", f"%{uri}%"
                found = select(literal(1)).where(resource.c.name.like(below), type_coerce(resource.c.document, Text).like(named))
                if connection.scalar(found.limit(1)):
                    return True
                columns = [type_coerce(column, Text).like(named) for column in (job.c.spec, job.c.saved, job.c.result)]
                if connection.scalar(select(literal(1)).where(job.c.name.like(below), or_(*columns)).limit(1)):
                    return True
        return False

    def record(self, project: str, blob: Blob) -> None:
        """A project has sent these bytes."""
        with writing(self._engine) as connection:
            values = {"project": project, "uri": blob.uri, "size_bytes": blob.size_bytes, "create_time": now()}
            insert_if_absent(connection, upload, **values)

    def forget(self, uris: Collection[str]) -> None:
        """These bytes are gone."""
        if uris:
            with writing(self._engine) as connection:
                connection.execute(delete(upload).where(upload.c.uri.in_(list(uris))))
