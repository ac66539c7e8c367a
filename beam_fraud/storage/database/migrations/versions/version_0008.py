"""People whom a provider of OpenID Connect logs in, and log-ins that were used."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from beam_fraud.storage.database.tables import UtcDateTime

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    """Create the two tables."""
    op.create_table(
        "identities",
        sa.Column("issuer", sa.Text, primary_key=True),
        sa.Column("subject", sa.Text, primary_key=True),
        sa.Column("user_name", sa.Text, nullable=False),
        sa.Column("linked_at", UtcDateTime, nullable=False),
    )
    op.create_index("identities_user", "identities", ["issuer", "user_name"], unique=True)
    op.create_table(
        "openid_nonces",
        sa.Column("nonce_hash", sa.Text, primary_key=True),
        sa.Column("expires_at", UtcDateTime, nullable=False),
    )
