"""Which of the two databases is spoken to."""

from __future__ import annotations

import sqlalchemy as sa

from wschat.postgresql import PostgreSQL
from wschat.sqlite import SQLite

Dialect = SQLite | PostgreSQL


def dialect(engine: sa.Engine) -> Dialect:
    """How an engine's database is spoken to."""
    return PostgreSQL(engine) if engine.dialect.name == "postgresql" else SQLite(engine)
