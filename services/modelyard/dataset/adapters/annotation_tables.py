"""Tables of annotation rounds (core/migrations/versions/0004).

A round may have a million tasks, and people ask for the next one all day: what they ask by has columns and indexes
(docs/decisions/0033-annotation.md).
"""

from __future__ import annotations

from sqlalchemy import BigInteger, Boolean, Column, Float, Index, Integer, String, Table, Text, literal_column, text

from modelyard.core.database import Json, UtcTime, metadata

task = Table(
    "annotation_task",
    metadata,
    Column("round", String(16), primary_key=True),
    Column("task", String(64), primary_key=True),
    Column("position", Integer, nullable=False),
    Column("example", Json, nullable=False),
    Column("state", String(16), nullable=False),
    Column("wanted", Integer, nullable=False),
    Column("done", Integer, nullable=False),
    Column("skips", Integer, nullable=False),
    Column("prelabel", Json),
    Column("review", Json),
    Index(None, "round", "position"),
    Index(None, "round", "state", "position"),
)
"""One row per example of a round."""

_IS_LEASED = text("state = 'leased'")

slot = Table(
    "annotation_slot",
    metadata,
    Column("round", String(16), primary_key=True),
    Column("lane", Integer, primary_key=True, autoincrement=False),
    Column("position", BigInteger, primary_key=True, autoincrement=False),
    Column("task", String(64), nullable=False),
    Column("state", String(16), nullable=False),
    Column("annotator", String(200), nullable=False),
    Column("lease_until", UtcTime),
    Index(None, "round", "state", "lane", "position"),
    Index("ix_annotation_slot_task", "round", "task", "annotator", "state"),
    Index("ix_annotation_slot_held", "round", "annotator", sqlite_where=_IS_LEASED, postgresql_where=_IS_LEASED),
    Index("ix_annotation_slot_lease", "round", "lease_until", sqlite_where=_IS_LEASED, postgresql_where=_IS_LEASED),
)
"""One row per place of a task: open, leased, done, skipped, expired, released, withdrawn, rejected. A place is never opened
again: one that comes to nothing gets a successor in lane 0, which is given out before lane 1, the first places of all tasks."""

is_leased = slot.c.state == literal_column("'leased'")
"""As a literal: only so do databases see that the indexes of what is held now will do. There is none of all that a person ever
did, so that no database can choose to look through it."""

queue = Table(
    "annotation_queue",
    metadata,
    Column("round", String(16), primary_key=True),
    Column("returned", BigInteger, nullable=False),
)
"""The next position in lane 0. Locked until its transaction ends, so that positions become visible in their order."""

cursor = Table(
    "annotation_cursor",
    metadata,
    Column("round", String(16), primary_key=True),
    Column("annotator", String(200), primary_key=True),
    Column("returned", BigInteger, nullable=False),
    Column("fresh", BigInteger, nullable=False),
)
"""Up to where in each lane there is nothing more for a person. Locked by all they do, so that they do one thing at a time."""

entry = Table(
    "annotation_entry",
    metadata,
    Column("round", String(16), primary_key=True),
    Column("task", String(64), primary_key=True),
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("kind", String(16), nullable=False),
    Column("annotator", String(200), nullable=False),
    Column("time", UtcTime, nullable=False),
    Column("answer", Json),
    Column("seconds", Float, nullable=False),
    Column("reason", Text, nullable=False),
    Column("verdict", String(16), nullable=False),
    Column("unchanged", Boolean),
    Column("counts", Boolean, nullable=False),
)
"""All that was done, in order. `counts`: an answer that is not replaced, withdrawn or rejected; nothing else in a row changes."""

TABLES = (task, slot, queue, cursor, entry)
