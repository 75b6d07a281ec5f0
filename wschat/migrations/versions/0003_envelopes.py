"""Signatures of whole messages, and keys with which senders open what they sealed."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    op.add_column("messages", sa.Column("envelope_signature", sa.Text))
    op.add_column("messages", sa.Column("sender_key", sa.Text))
