"""Alembic runs this. The connection, in a transaction that holds the migration lock, comes from `core.database.migrate`."""

from alembic import context

from modelyard.core.database import metadata

context.configure(connection=context.config.attributes["connection"], target_metadata=metadata, render_as_batch=True)
context.run_migrations()
