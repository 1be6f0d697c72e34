"""0.4.0, first: the console: staff, their log-ins, their log, drafts of mailings, and requests to lift."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from consentkit.store.base import UTCDateTime

revision = "v0_4_0_01_console"
down_revision = "v0_3_0_02_audit"
branch_labels = None
depends_on = None

_Id = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    _make_staff()
    _make_drafts()
    op.create_table(
        "afgemeld_lift_request",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("digest", sa.LargeBinary(), nullable=False),
        sa.Column("scope", sa.String(), nullable=False),
        sa.Column("key_id", sa.String(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("by", sa.String(), nullable=False),
        sa.Column("at", UTCDateTime(), nullable=False),
        sa.PrimaryKeyConstraint("id", "digest", name="pk_afgemeld_lift_request"),
    )
    op.create_index("ix_subscription_on_list", "subscription", ["list", "state", "subscriber_id"])
    if op.get_bind().dialect.name == "postgresql":
        _protect_postgres()
    else:
        _protect_sqlite()


def downgrade() -> None:
    op.drop_index("ix_subscription_on_list", "subscription")
    for table in ("afgemeld_lift_request", "mailing_draft_file", "mailing_draft", "staff_session", "staff_log"):
        op.drop_table(table)
    for table in ("staff_log_cut", "staff_post", "staff_job", "staff"):
        op.drop_table(table)
    if op.get_bind().dialect.name == "postgresql":
        op.execute("DROP FUNCTION consentkit_log_as_written()")


def _make_staff() -> None:
    op.create_table(
        "staff",
        sa.Column("key", sa.String(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("roles", sa.String(), nullable=False),
        sa.Column("password", sa.String(), nullable=False),
        sa.Column("must_change", sa.Boolean(), nullable=False),
        sa.Column("disabled", sa.Boolean(), nullable=False),
        sa.Column("totp", sa.String(), nullable=False),
        sa.Column("totp_spent", sa.BigInteger(), nullable=False),
        sa.Column("made_at", UTCDateTime(), nullable=False),
        sa.Column("seen_at", UTCDateTime(), nullable=True),
        sa.PrimaryKeyConstraint("key", name="pk_staff"),
    )
    op.create_table(
        "staff_session",
        sa.Column("key", sa.String(), nullable=False),
        sa.Column("staff", sa.String(), nullable=False),
        sa.Column("begun_at", UTCDateTime(), nullable=False),
        sa.Column("seen_at", UTCDateTime(), nullable=False),
        sa.PrimaryKeyConstraint("key", name="pk_staff_session"),
        sa.ForeignKeyConstraint(["staff"], ["staff.key"], name="fk_staff_session_staff", ondelete="CASCADE"),
    )
    op.create_index("ix_staff_session_staff", "staff_session", ["staff"])
    op.create_index("ix_staff_session_seen_at", "staff_session", ["seen_at"])
    op.create_table(
        "staff_log",
        sa.Column("id", _Id, autoincrement=True, nullable=False),
        sa.Column("at", UTCDateTime(), nullable=False),
        sa.Column("staff", sa.String(), nullable=False),
        sa.Column("act", sa.String(), nullable=False),
        sa.Column("about", sa.String(), nullable=False),
        sa.Column("person", sa.LargeBinary(), nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_staff_log"),
        sqlite_autoincrement=True,
    )
    for column in ("person", "staff", "act"):
        op.create_index(f"ix_staff_log_{column}", "staff_log", [column, "id"])
    op.create_index("ix_staff_log_both", "staff_log", ["staff", "act", "id"])
    op.create_table(
        "staff_log_cut",
        sa.Column("id", _Id, autoincrement=False, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_staff_log_cut"),
    )
    op.create_table(
        "staff_post",
        sa.Column("nonce", sa.String(), nullable=False),
        sa.Column("at", UTCDateTime(), nullable=False),
        sa.Column("said", sa.String(), nullable=False),
        sa.Column("leads_to", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("nonce", name="pk_staff_post"),
    )
    op.create_index("ix_staff_post_at", "staff_post", ["at"])
    op.create_table(
        "staff_job",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("staff", sa.String(), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("about", sa.String(), nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("done", sa.BigInteger(), nullable=False),
        sa.Column("total", sa.BigInteger(), nullable=False),
        sa.Column("report", sa.Text(), nullable=False),
        sa.Column("result", sa.LargeBinary(), nullable=True),
        sa.Column("result_name", sa.String(), nullable=False),
        sa.Column("begun_at", UTCDateTime(), nullable=False),
        sa.Column("beat_at", UTCDateTime(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_staff_job"),
    )
    op.create_index("ix_staff_job_begun_at", "staff_job", ["begun_at"])


def _make_drafts() -> None:
    op.create_table(
        "mailing_draft",
        sa.Column("id", _Id, autoincrement=True, nullable=False),
        sa.Column("site", sa.String(), nullable=False),
        sa.Column("title", sa.String(), nullable=False),
        sa.Column("content", sa.Text(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("editors", sa.Text(), nullable=False),
        sa.Column("made_at", UTCDateTime(), nullable=False),
        sa.Column("saved_at", UTCDateTime(), nullable=False),
        sa.Column("saved_by", sa.String(), nullable=False),
        sa.Column("mailing_id", _Id, nullable=True),
        sa.Column("deleted_at", UTCDateTime(), nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_mailing_draft"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_mailing_draft_mailing_id", "mailing_draft", ["mailing_id"])
    op.create_table(
        "mailing_draft_file",
        sa.Column("draft_id", _Id, nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("inline", sa.Boolean(), nullable=False),
        sa.Column("data", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("draft_id", "name", name="pk_mailing_draft_file"),
        sa.ForeignKeyConstraint(
            ["draft_id"], ["mailing_draft.id"], name="fk_mailing_draft_file_draft_id", ondelete="CASCADE"
        ),
    )


# A purge of the log puts the last number that may go into staff_log_cut, deletes, and takes it out again, all in one
# transaction; see the evidence, which does the same.


def _protect_sqlite() -> None:
    refuse = "SELECT RAISE(ABORT, 'staff_log is append-only');"
    op.execute(f"CREATE TRIGGER staff_log_no_update BEFORE UPDATE ON staff_log BEGIN {refuse} END")
    permitted = "EXISTS (SELECT 1 FROM staff_log_cut WHERE id >= OLD.id)"
    op.execute(f"CREATE TRIGGER staff_log_no_delete BEFORE DELETE ON staff_log WHEN NOT {permitted} BEGIN {refuse} END")


def _protect_postgres() -> None:
    op.execute(
        """
        CREATE FUNCTION consentkit_log_as_written() RETURNS trigger LANGUAGE plpgsql
        SET search_path FROM CURRENT AS $$
        BEGIN
            IF TG_OP = 'DELETE' AND EXISTS (SELECT 1 FROM staff_log_cut c WHERE c.id >= OLD.id) THEN
                RETURN OLD;
            END IF;
            RAISE EXCEPTION 'staff_log is append-only';
        END $$
        """
    )
    op.execute(
        "CREATE TRIGGER staff_log_as_written BEFORE UPDATE OR DELETE ON staff_log "
        "FOR EACH ROW EXECUTE FUNCTION consentkit_log_as_written()"
    )
    op.execute(
        "CREATE TRIGGER staff_log_not_emptied BEFORE TRUNCATE ON staff_log "
        "FOR EACH STATEMENT EXECUTE FUNCTION consentkit_log_as_written()"
    )
