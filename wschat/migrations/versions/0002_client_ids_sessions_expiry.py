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
    op.create_index("expired_by_through", "expired", ["through"])
    _find_starts(op.get_bind())


def _find_starts(connection: sa.Connection) -> None:
    """What was stored before a user registered is not theirs; ids ascend with time."""
    at = sa.text("SELECT id, stored_at FROM messages WHERE id >= :id ORDER BY id LIMIT 1")
    set_start = sa.text(
        "UPDATE cursors SET start = CASE WHEN position < :start THEN position ELSE :start END"
        " WHERE user_id = :user"
    )
    head = connection.execute(sa.text("SELECT MAX(id) FROM messages")).scalar() or 0
    users = connection.execute(sa.text("SELECT user_id, created_at FROM users")).all()
    for user in users:
        low, high = 0, head
        while low < high:
            middle = (low + high + 1) // 2
            row = connection.execute(at, {"id": middle}).one_or_none()
            if row is None or row.stored_at >= user.created_at:
                high = middle - 1
            else:
                low = row.id
        connection.execute(set_start, {"start": low, "user": user.user_id})
