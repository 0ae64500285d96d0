"""What the workers of jobs wrote: job_log. And which report of a worker came last."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the table and the column."""
    op.add_column("job", sa.Column("report_id", sa.String(64), nullable=False, server_default=""))
    op.create_table(
        "job_log",
        sa.Column("job", sa.String(512), nullable=False),
        sa.Column("sequence", sa.BigInteger, nullable=False),
        sa.Column("attempt", sa.Integer, nullable=False),
        sa.Column("node", sa.Integer, nullable=False),
        sa.Column("offset", sa.BigInteger, nullable=False),
        sa.Column("time", sa.String(32).with_variant(sa.DateTime(timezone=True), "postgresql"), nullable=False),
        sa.Column("data", sa.LargeBinary, nullable=False),
        sa.PrimaryKeyConstraint("job", "sequence", name="pk_job_log"),
    )


def downgrade() -> None:
    """Drop them, with all they hold."""
    op.drop_column("job", "report_id")
    op.drop_table("job_log")
