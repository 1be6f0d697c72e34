"""0.3.0, second: the names that were seen and that nobody declared."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "v0_3_0_02_audit"
down_revision = "v0_3_0_01_mailing"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "seen",
        sa.Column("site", sa.String(), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("place", sa.String(), nullable=False),
        sa.Column("first_day", sa.Date(), nullable=False),
        sa.Column("last_day", sa.Date(), nullable=False),
        sa.Column("total", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("site", "kind", "name", name="pk_seen"),
    )


def downgrade() -> None:
    op.drop_table("seen")
