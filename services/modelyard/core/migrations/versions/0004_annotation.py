"""Annotation rounds: tasks, their places, the queue, and what was done (dataset/adapters/annotation_tables.py)."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def _time() -> sa.String:
    return sa.String(32).with_variant(sa.DateTime(timezone=True), "postgresql")


def upgrade() -> None:
    """Create the tables and their indexes."""
    _task()
    _slot()
    op.create_table(
        "annotation_queue",
        sa.Column("round", sa.String(16), nullable=False),
        sa.Column("returned", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("round", name="pk_annotation_queue"),
    )
    op.create_table(
        "annotation_cursor",
        sa.Column("round", sa.String(16), nullable=False),
        sa.Column("annotator", sa.String(200), nullable=False),
        sa.Column("returned", sa.BigInteger, nullable=False),
        sa.Column("fresh", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("round", "annotator", name="pk_annotation_cursor"),
    )
    _entry()


def downgrade() -> None:
    """Drop them, with all they hold."""
    for table in ("annotation_entry", "annotation_cursor", "annotation_queue", "annotation_slot", "annotation_task"):
        op.drop_table(table)


def _task() -> None:
    op.create_table(
        "annotation_task",
        sa.Column("round", sa.String(16), nullable=False),
        sa.Column("task", sa.String(64), nullable=False),
        sa.Column("position", sa.Integer, nullable=False),
        sa.Column("example", sa.Text, nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("wanted", sa.Integer, nullable=False),
        sa.Column("done", sa.Integer, nullable=False),
        sa.Column("skips", sa.Integer, nullable=False),
        sa.Column("prelabel", sa.Text),
        sa.Column("review", sa.Text),
        sa.PrimaryKeyConstraint("round", "task", name="pk_annotation_task"),
    )
    op.create_index("ix_annotation_task_round_position", "annotation_task", ["round", "position"])
    op.create_index("ix_annotation_task_round_state_position", "annotation_task", ["round", "state", "position"])


def _slot() -> None:
    op.create_table(
        "annotation_slot",
        sa.Column("round", sa.String(16), nullable=False),
        sa.Column("lane", sa.Integer, nullable=False),
        sa.Column("position", sa.BigInteger, nullable=False),
        sa.Column("task", sa.String(64), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("annotator", sa.String(200), nullable=False),
        sa.Column("lease_until", _time()),
        sa.PrimaryKeyConstraint("round", "lane", "position", name="pk_annotation_slot"),
    )
    op.create_index("ix_annotation_slot_round_state_lane_position", "annotation_slot", ["round", "state", "lane", "position"])
    op.create_index("ix_annotation_slot_task", "annotation_slot", ["round", "task", "annotator", "state"])
    leased: dict[str, Any] = {"sqlite_where": sa.text("state = 'leased'"), "postgresql_where": sa.text("state = 'leased'")}
    op.create_index("ix_annotation_slot_held", "annotation_slot", ["round", "annotator"], **leased)
    op.create_index("ix_annotation_slot_lease", "annotation_slot", ["round", "lease_until"], **leased)


def _entry() -> None:
    op.create_table(
        "annotation_entry",
        sa.Column("round", sa.String(16), nullable=False),
        sa.Column("task", sa.String(64), nullable=False),
        sa.Column("number", sa.Integer, nullable=False),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("annotator", sa.String(200), nullable=False),
        sa.Column("time", _time(), nullable=False),
        sa.Column("answer", sa.Text),
        sa.Column("seconds", sa.Float, nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("verdict", sa.String(16), nullable=False),
        sa.Column("unchanged", sa.Boolean),
        sa.Column("counts", sa.Boolean, nullable=False),
        sa.PrimaryKeyConstraint("round", "task", "number", name="pk_annotation_entry"),
    )
