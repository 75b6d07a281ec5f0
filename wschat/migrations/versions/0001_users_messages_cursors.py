"""Users, messages, and everybody's cursor."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import sqlite

revision = "0001"
down_revision = None


def upgrade() -> None:
    op.create_table(
        "users",
        sa.Column("user_id", sa.String(64), primary_key=True),
        sa.Column("username", sa.Text, nullable=False),
        sa.Column("public_key", sa.String(44), nullable=False),
        sa.Column("x25519_public_key", sa.String(44)),
        sa.Column("created_at", sa.Double, nullable=False),
    )
    op.create_table(
        "messages",
        sa.Column(
            "id",
            sa.BigInteger().with_variant(sqlite.INTEGER(), "sqlite"),
            primary_key=True,
            autoincrement=True,
        ),
        sa.Column("topic", sa.String(64), nullable=False),
        sa.Column("sender", sa.String(64), nullable=False),
        sa.Column("timestamp", sa.Text, nullable=False),
        sa.Column("content", sa.Text, nullable=False),
        sa.Column("signature", sa.Text),
        sa.Column("encrypted_key", sa.Text),
        sa.Column("encryption_nonce", sa.Text),
        sa.Column("stored_at", sa.Double, nullable=False),
        sqlite_autoincrement=True,
    )
    op.create_index("messages_by_topic", "messages", ["topic", "id"])
    op.create_table(
        "cursors",
        sa.Column("user_id", sa.String(64), primary_key=True),
        sa.Column("position", sa.BigInteger, nullable=False),
    )
