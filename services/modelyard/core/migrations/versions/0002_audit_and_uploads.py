"""The audit log, and who uploaded what."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def _time() -> sa.String:
    return sa.String(32).with_variant(sa.DateTime(timezone=True), "postgresql")


def upgrade() -> None:
    """Create the tables and their indexes."""
    op.create_table(
        "audit_event",
        sa.Column("name", sa.String(32), nullable=False),
        sa.Column("create_time", _time(), nullable=False),
        *(sa.Column(name, sa.String(512), nullable=False) for name in ("principal", "method")),
        sa.Column("project", sa.String(64), nullable=False),
        *(sa.Column(name, sa.String(512), nullable=False) for name in ("resource", "peer")),
        sa.Column("code", sa.String(32), nullable=False),
        *(sa.Column(name, sa.String(64), nullable=False) for name in ("reason", "request_id")),
        sa.PrimaryKeyConstraint("name", name="pk_audit_event"),
    )
    op.create_index("ix_audit_event_project_create_time_name", "audit_event", ["project", "create_time", "name"])
    op.create_table(
        "upload",
        sa.Column("project", sa.String(64), nullable=False),
        sa.Column("uri", sa.String(128), nullable=False),
        sa.Column("size_bytes", sa.BigInteger, nullable=False),
        sa.Column("create_time", _time(), nullable=False),
        sa.PrimaryKeyConstraint("project", "uri", name="pk_upload"),
    )
    op.create_index("ix_upload_uri", "upload", ["uri"])


def downgrade() -> None:
    """Drop them, with all they hold."""
    op.drop_table("upload")
    op.drop_table("audit_event")
