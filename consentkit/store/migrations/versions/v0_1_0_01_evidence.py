"""0.1.0, first: notices, consent events, chain heads, daily counters, and the triggers that keep them as written."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from consentkit.store.base import UTCDateTime

revision = "v0_1_0_01_evidence"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    _make_tables()
    if op.get_bind().dialect.name == "postgresql":
        _protect_postgres()
    else:
        _protect_sqlite()


def downgrade() -> None:
    op.drop_table("consent_event")
    op.drop_table("notice")
    op.drop_table("chain_head")
    op.drop_table("consent_count")
    op.drop_table("journal")
    op.drop_table("retention")
    if op.get_bind().dialect.name == "postgresql":
        op.execute("DROP FUNCTION consentkit_append_only()")


def _make_tables() -> None:
    op.create_table(
        "notice",
        sa.Column("hash", sa.String(), nullable=False),
        sa.Column("body", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("hash", name="pk_notice"),
    )
    op.create_table(
        "consent_event",
        sa.Column("site", sa.String(), nullable=False),
        sa.Column("seq", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("event_id", sa.String(), nullable=False),
        sa.Column("record_id", sa.String(), nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("at", UTCDateTime(), nullable=False),
        sa.Column("purposes", sa.Text(), nullable=False),
        sa.Column("notice_hash", sa.String(), nullable=False),
        sa.Column("language", sa.String(), nullable=False),
        sa.Column("ui_build", sa.String(), nullable=False),
        sa.Column("method", sa.String(), nullable=False),
        sa.Column("policy", sa.String(), nullable=False),
        sa.Column("valid_until", UTCDateTime(), nullable=True),
        sa.Column("controller", sa.String(), nullable=False),
        sa.Column("nonce", sa.String(), nullable=True),
        sa.Column("hash", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("site", "seq", name="pk_consent_event"),
        sa.UniqueConstraint("event_id", name="uq_consent_event_event_id"),
        sa.UniqueConstraint("nonce", name="uq_consent_event_nonce"),
        sa.ForeignKeyConstraint(["notice_hash"], ["notice.hash"], name="fk_consent_event_notice_hash"),
    )
    for column in ("record_id", "notice_hash", "valid_until"):
        op.create_index(f"ix_consent_event_{column}", "consent_event", [column])
    op.create_table(
        "chain_head",
        sa.Column("site", sa.String(), nullable=False),
        sa.Column("seq", sa.BigInteger(), nullable=False),
        sa.Column("hash", sa.String(), nullable=False),
        sa.Column("base_seq", sa.BigInteger(), nullable=False),
        sa.Column("base_hash", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("site", name="pk_chain_head"),
    )
    op.create_table(
        "consent_count",
        sa.Column("site", sa.String(), nullable=False),
        sa.Column("day", sa.Date(), nullable=False),
        sa.Column("decision", sa.String(), nullable=False),
        sa.Column("notice_hash", sa.String(), nullable=False),
        sa.Column("total", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("site", "day", "decision", "notice_hash", name="pk_consent_count"),
    )
    op.create_table(
        "journal",
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("lines", sa.BigInteger(), nullable=False),
        sa.Column("at", UTCDateTime(), nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_journal"),
    )
    op.create_table(
        "retention",
        sa.Column("site", sa.String(), nullable=False),
        sa.Column("seq", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("site", name="pk_retention"),
    )


# A purge puts a row into retention, deletes, and removes the row, all in one transaction. Nobody else ever
# sees the row, so for everybody else the tables can't be changed.


def _protect_sqlite() -> None:
    permitted = {
        "consent_event": "SELECT 1 FROM retention WHERE site = OLD.site AND seq >= OLD.seq",
        "notice": "SELECT 1 FROM retention",
    }
    for table, permission in permitted.items():
        refuse = f"SELECT RAISE(ABORT, '{table} is append-only');"
        op.execute(f"CREATE TRIGGER {table}_no_update BEFORE UPDATE ON {table} BEGIN {refuse} END")
        op.execute(
            f"CREATE TRIGGER {table}_no_delete BEFORE DELETE ON {table} "
            f"WHEN NOT EXISTS ({permission}) BEGIN {refuse} END"
        )


def _protect_postgres() -> None:
    op.execute(
        """
        CREATE FUNCTION consentkit_append_only() RETURNS trigger LANGUAGE plpgsql
        SET search_path FROM CURRENT AS $$
        BEGIN
            IF TG_OP = 'DELETE' AND TG_TABLE_NAME = 'consent_event' THEN
                IF EXISTS (SELECT 1 FROM retention r WHERE r.site = OLD.site AND r.seq >= OLD.seq) THEN
                    RETURN OLD;
                END IF;
            ELSIF TG_OP = 'DELETE' THEN
                IF EXISTS (SELECT 1 FROM retention) THEN
                    RETURN OLD;
                END IF;
            END IF;
            RAISE EXCEPTION '% is append-only', TG_TABLE_NAME;
        END $$
        """
    )
    for table in ("consent_event", "notice"):
        op.execute(
            f"CREATE TRIGGER {table}_as_written BEFORE UPDATE OR DELETE ON {table} "
            "FOR EACH ROW EXECUTE FUNCTION consentkit_append_only()"
        )
        op.execute(
            f"CREATE TRIGGER {table}_not_emptied BEFORE TRUNCATE ON {table} "
            "FOR EACH STATEMENT EXECUTE FUNCTION consentkit_append_only()"
        )
