"""When the last step was taken is nothing that anybody asks: tokens carry the key instead."""

from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    op.drop_column("users", "rotated_at")
