"""Messages' client ids, sessions' places, and what is not kept any more."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    op.add_column("messages", sa.Column("client_id", sa.String(64)))
    op.create_index(
        "messages_by_client_id",
        "messages",
        ["sender", "client_id"],
        unique=True,
        sqlite_where=sa.text("client_id IS NOT NULL"),
        postgresql_where=sa.text("client_id IS NOT NULL"),
    )
    op.add_column("cursors", sa.Column("start", sa.BigInteger, nullable=False, server_default="0"))
    op.add_column("cursors", sa.Column("seen_at", sa.Double))
    op.create_table(
        "sessions",
        sa.Column("user_id", sa.String(64), primary_key=True),
        sa.Column("name", sa.String(64), primary_key=True),
        sa.Column("position", sa.BigInteger, nullable=False),
        sa.Column("seen_at", sa.Double, nullable=False),
    )
    op.create_table(
        "expired",
        sa.Column("topic", sa.String(64), primary_key=True),
        sa.Column("through", sa.BigInteger, nullable=False),
    )
