"""COCO files of any size: streamed, and joined picture by picture in a file."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from typing import Any

from modelyard.core.errors import InvalidArgument
from modelyard.dataset.domain import coco, json_stream
from modelyard.dataset.domain.marks import mark
from modelyard.dataset.domain.picture_names import usage_of, usage_of_file
from modelyard.dataset.worker.annotation_index import Said
from modelyard.dataset.worker.plans import Sources, settle
from modelyard.formats.annotations import Annotation
from modelyard.formats.archive import Entry

_LIMIT = 16 * 1024**3
_TABLES = (
    "CREATE TABLE IF NOT EXISTS coco_picture (id TEXT PRIMARY KEY, name TEXT, width INTEGER, height INTEGER)",
    "CREATE TABLE IF NOT EXISTS coco_mark (number INTEGER PRIMARY KEY, picture TEXT, body TEXT)",
    "CREATE TABLE IF NOT EXISTS coco_id (id TEXT PRIMARY KEY) WITHOUT ROWID",
    "CREATE INDEX IF NOT EXISTS coco_of ON coco_mark (picture)",
    "DELETE FROM coco_picture",
    "DELETE FROM coco_mark",
    "DELETE FROM coco_id",
)


def plan_coco(source: Sources) -> None:
    """Every JSON file with images and annotations; the usage is in its name or that of its folder."""
    plan = source.plan
    outlines = False
    classes: dict[str, None] = {}
    for entry in source.ending(".json"):
        plan.used.add(entry.path)
        read = _CocoFile(source, entry)
        read.load()
        classes |= dict.fromkeys(read.class_names)
        _keypoints(source, read, entry.path)
        usage = usage_of_file(entry.path)
        for path, size, annotation in read.pictures():
            outlines |= any(each.polygons or each.mask for each in annotation.marks)
            plan.index.add(path, Said(usage or usage_of(path), entry.path, annotation, size=size))
    plan.classes = tuple(classes)
    settle(source, outlines)


def _keypoints(source: Sources, read: _CocoFile, file: str) -> None:
    plan = source.plan
    for each in read.categories.values():
        if not each.keypoints or not read.with_keypoints:
            continue
        if plan.keypoints and plan.keypoints != each.keypoints:
            message = f"{file}: the categories have different keypoints ({each.name!r}); one list for all classes is read"
            raise InvalidArgument("BAD_COCO", message, file=file, field="categories.keypoints")
        plan.keypoints, plan.skeleton = each.keypoints, each.skeleton


class _CocoFile:
    """One file."""

    def __init__(self, source: Sources, entry: Entry) -> None:
        self._source, self._entry, self._file = source, entry, entry.path
        self._database: sqlite3.Connection = source.plan.index.database
        self._problems = source.plan.problems
        self.categories: dict[str, coco.Category] = {}
        self.with_keypoints = False

    @property
    def class_names(self) -> list[str]:
        """In the order of their ids."""
        return [each.name for each in sorted(self.categories.values(), key=_by_id)]

    def load(self) -> None:
        """Reads the file into tables. Raises InvalidArgument BAD_JSON, BAD_COCO, DOUBLED_ID."""
        for statement in _TABLES:
            self._database.execute(statement)
        takers = {"images": self._picture, "annotations": self._mark, "categories": self._category}
        chunks = self._source.archive.stream(self._entry, limit_bytes=_LIMIT)
        for number, (key, value) in enumerate(json_stream.items(chunks, name=self._file)):
            if key in takers:
                takers[key](value)
            if number % 20_000 == 0:
                self._source.work.stage("annotations", number, 0, "entries", 0.0, 0.1)

    def pictures(self) -> Iterator[tuple[str, tuple[int, int] | None, Annotation]]:
        """Path, size as the file says, and marks of each picture that is there."""
        self._note_lost()
        rows = self._database.execute("SELECT id, name, width, height FROM coco_picture ORDER BY rowid").fetchall()
        for id_, name, width, height in rows:
            path = self._source.names.find(name, self._file)
            size = (width, height) if width and height else None
            if path is None:
                self._source.missing(name, self._file)
                continue
            bodies = self._database.execute("SELECT body FROM coco_mark WHERE picture = ? ORDER BY number", (id_,)).fetchall()
            found = (self._made(json.loads(body), size) for (body,) in bodies)
            yield path, size, Annotation(tuple(each for each in found if each is not None))

    def _made(self, raw: dict[str, Any], size: tuple[int, int] | None) -> Any:
        known = self.categories.get(json.dumps(raw.get("category_id")))
        if known is None:
            ids = ", ".join(str(each.id) for each in list(self.categories.values())[:10])
            where = f"{self._file}: annotation {raw.get('id', '?')!r}"
            message = f"{where}: category_id is {raw.get('category_id')!r}, which categories does not list; its ids are {ids}"
            self._problems.note("UNKNOWN_CATEGORY", where, message)
            return None
        return mark(coco.drawn(raw, known.name, size, self._file, self._problems), self._problems)

    def _picture(self, raw: Any) -> None:
        if not isinstance(raw, dict) or "id" not in raw or not isinstance(raw.get("file_name"), str):
            message = f'{self._file}: images holds {raw!r:.80}; each is an object with "id" and "file_name"'
            raise InvalidArgument("BAD_COCO", message, file=self._file, field="images")
        id_, name = json.dumps(raw["id"]), raw["file_name"]
        known = self._database.execute("SELECT name FROM coco_picture WHERE id = ?", (id_,)).fetchone()
        if known is not None and known[0] != name:
            message = f"{self._file}: images has the id {id_} twice, for {known[0]!r} and {name!r}; whose are the annotations?"
            raise InvalidArgument("DOUBLED_ID", message, file=self._file, field="images.id", value=id_)
        if known is not None:
            self._problems.note("DOUBLED_ID", self._file, f"{self._file}: images has {name!r} with id {id_} twice")
            return
        size = [coco.pixels(raw.get(key)) for key in ("width", "height")]
        self._database.execute("INSERT INTO coco_picture VALUES (?, ?, ?, ?)", (id_, name, *size))

    def _mark(self, raw: Any) -> None:
        if not isinstance(raw, dict) or "image_id" not in raw:
            message = f'{self._file}: annotations holds {raw!r:.80}; each is an object with "image_id" and "category_id"'
            raise InvalidArgument("BAD_COCO", message, file=self._file, field="annotations")
        if "id" in raw:
            id_ = json.dumps(raw["id"])
            if not self._database.execute("INSERT OR IGNORE INTO coco_id VALUES (?)", (id_,)).rowcount:
                self._problems.note("DOUBLED_ID", self._file, f"{self._file}: annotations has the id {id_} more than once")
        self.with_keypoints |= bool(raw.get("keypoints"))
        row = (json.dumps(raw["image_id"]), json.dumps(raw))
        self._database.execute("INSERT INTO coco_mark (picture, body) VALUES (?, ?)", row)

    def _category(self, raw: Any) -> None:
        made = coco.category(raw, self._file)
        id_ = json.dumps(made.id)
        known = self.categories.get(id_)
        if known is not None and known.name != made.name:
            message = f"{self._file}: categories has the id {id_} twice, for {known.name!r} and {made.name!r}"
            raise InvalidArgument("DOUBLED_ID", message, file=self._file, field="categories.id", value=id_)
        if any(each.name == made.name for each in self.categories.values()):
            self._problems.note("DOUBLED_CATEGORY", self._file, f"{self._file}: categories names {made.name!r} more than once")
        self.categories[id_] = made

    def _note_lost(self) -> None:
        query = "SELECT picture, count(*) FROM coco_mark WHERE picture NOT IN (SELECT id FROM coco_picture) GROUP BY picture"
        for id_, count in self._database.execute(query).fetchall():
            message = f"{self._file}: {count} annotations have image_id {id_}, which images does not list"
            self._problems.note("UNKNOWN_PICTURE", self._file, message)


def _by_id(category: coco.Category) -> tuple[bool, Any]:
    return (False, category.id) if isinstance(category.id, int | float) else (True, str(category.id))
