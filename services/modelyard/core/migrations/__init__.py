"""Alembic migrations of the tables in `core.database`; `core.database.migrate` runs them."""
