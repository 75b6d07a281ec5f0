"""The steps from a user's first key to the present one, and when the last was taken."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    op.add_column("users", sa.Column("rotations", sa.Text))
    op.add_column("users", sa.Column("rotated_at", sa.Double))
