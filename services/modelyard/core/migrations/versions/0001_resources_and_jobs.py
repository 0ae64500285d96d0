"""The first tables: resource, request, job, job_event."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def _time() -> sa.String:
    return sa.String(32).with_variant(sa.DateTime(timezone=True), "postgresql")


def upgrade() -> None:
    """Create the tables and their indexes."""
    _resource()
    _request()
    _job()
    _job_event()


def downgrade() -> None:
    """Drop them, with all they hold."""
    for table in ("job_event", "job", "request", "resource"):
        op.drop_table(table)


def _resource() -> None:
    op.create_table(
        "resource",
        sa.Column("name", sa.String(512), nullable=False),
        sa.Column("collection", sa.String(64), nullable=False),
        sa.Column("parent", sa.String(512), nullable=False),
        sa.Column("document", sa.Text, nullable=False),
        sa.Column("revision", sa.Integer, nullable=False),
        sa.Column("create_time", _time(), nullable=False),
        sa.Column("update_time", _time(), nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_resource"),
    )
    op.create_index("ix_resource_collection_parent_create_time_name", "resource", ["collection", "parent", "create_time", "name"])
    op.create_index("ix_resource_parent", "resource", ["parent"])


def _request() -> None:
    op.create_table(
        "request",
        sa.Column("request_id", sa.String(128), nullable=False),
        sa.Column("method", sa.String(128), nullable=False),
        sa.Column("fingerprint", sa.String(64), nullable=False),
        sa.Column("resource_name", sa.String(512), nullable=False),
        sa.Column("create_time", _time(), nullable=False),
        sa.PrimaryKeyConstraint("request_id", "method", name="pk_request"),
    )


def _job() -> None:
    op.create_table(
        "job",
        sa.Column("name", sa.String(512), nullable=False),
        sa.Column("kind", sa.String(64), nullable=False),
        sa.Column("parent", sa.String(512), nullable=False),
        sa.Column("service", sa.String(64), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("reason", sa.String(128), nullable=False),
        sa.Column("attempt", sa.Integer, nullable=False),
        sa.Column("token_hash", sa.String(128), nullable=False),
        sa.Column("instruction", sa.String(16), nullable=False),
        *(sa.Column(name, sa.Text) for name in ("spec", "progress", "saved", "result", "error")),
        sa.Column("sequence", sa.BigInteger, nullable=False),
        sa.Column("create_time", _time(), nullable=False),
        *(sa.Column(name, _time()) for name in ("start_time", "end_time", "heartbeat_time")),
        sa.Column("running_seconds", sa.Float, nullable=False),
        sa.Column("labels", sa.Text),
        sa.PrimaryKeyConstraint("name", name="pk_job"),
    )
    op.create_index("ix_job_kind_parent_create_time_name", "job", ["kind", "parent", "create_time", "name"])
    op.create_index("ix_job_parent", "job", ["parent"])
    op.create_index("ix_job_state", "job", ["state"])


def _job_event() -> None:
    op.create_table(
        "job_event",
        sa.Column("job", sa.String(512), nullable=False),
        sa.Column("sequence", sa.BigInteger, nullable=False),
        sa.Column("time", _time(), nullable=False),
        sa.Column("document", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("job", "sequence", name="pk_job_event"),
    )
