"""0.2.0, first: the afgemeld ledger and the newsletter, and the triggers that let nobody come back by accident."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from consentkit.store.base import UTCDateTime

revision = "v0_2_0_01_newsletter"
down_revision = "v0_1_0_01_evidence"
branch_labels = None
depends_on = None

_Id = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    _make_ledger()
    _make_newsletter()
    if op.get_bind().dialect.name == "postgresql":
        _protect_postgres()
    else:
        _protect_sqlite()


def downgrade() -> None:
    tables = "outbox parent_mail subscription subscriber_digest subscriber tombstone key_check afgemeld_lift afgemeld"
    for table in tables.split():
        op.drop_table(table)
    if op.get_bind().dialect.name == "postgresql":
        op.execute("DROP FUNCTION consentkit_afgemeld_stays()")
        op.execute("DROP FUNCTION consentkit_left_stays()")
        op.execute("DROP FUNCTION consentkit_opted_in()")


def _make_ledger() -> None:
    op.create_table(
        "afgemeld",
        sa.Column("digest", sa.LargeBinary(), nullable=False),
        sa.Column("scope", sa.String(), nullable=False),
        sa.Column("key_id", sa.String(), nullable=False),
        sa.Column("reason", sa.String(), nullable=False),
        sa.Column("channel", sa.String(), nullable=False),
        sa.Column("at", UTCDateTime(), nullable=False),
        sa.Column("mailing", sa.String(), nullable=True),
        sa.PrimaryKeyConstraint("digest", "scope", name="pk_afgemeld"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "afgemeld_lift",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("digest", sa.LargeBinary(), nullable=False),
        sa.Column("scope", sa.String(), nullable=False),
        sa.Column("key_id", sa.String(), nullable=False),
        sa.Column("at", UTCDateTime(), nullable=False),
        sa.Column("record_id", sa.String(), nullable=True),
        sa.Column("reason", sa.String(), nullable=False),
        sa.Column("by", sa.String(), nullable=False),
        sa.Column("second", sa.String(), nullable=False),
        sa.Column("was_reason", sa.String(), nullable=False),
        sa.Column("was_channel", sa.String(), nullable=False),
        sa.Column("was_at", UTCDateTime(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_afgemeld_lift"),
    )
    op.create_index("ix_afgemeld_lift_digest", "afgemeld_lift", ["digest"])
    op.create_table(
        "key_check",
        sa.Column("key_id", sa.String(), nullable=False),
        sa.Column("check", sa.String(), nullable=False),
        sa.Column("at", UTCDateTime(), nullable=False),
        sa.PrimaryKeyConstraint("key_id", name="pk_key_check"),
    )
    op.create_table(
        "tombstone",
        sa.Column("file", sa.String(), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("file", name="pk_tombstone"),
    )


def _make_newsletter() -> None:
    op.create_table(
        "subscriber",
        sa.Column("id", _Id, autoincrement=True, nullable=False),
        sa.Column("digest", sa.LargeBinary(), nullable=False),
        sa.Column("key_id", sa.String(), nullable=False),
        sa.Column("address", sa.String(), nullable=True),
        sa.Column("language", sa.String(), nullable=False),
        sa.Column("fields", sa.Text(), nullable=False),
        sa.Column("created_at", UTCDateTime(), nullable=False),
        sa.Column("erased_at", UTCDateTime(), nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_subscriber"),
        sa.UniqueConstraint("digest", name="uq_subscriber_digest"),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "subscriber_digest",
        sa.Column("digest", sa.LargeBinary(), nullable=False),
        sa.Column("subscriber_id", _Id, nullable=False),
        sa.PrimaryKeyConstraint("digest", name="pk_subscriber_digest"),
        sa.ForeignKeyConstraint(
            ["subscriber_id"], ["subscriber.id"], name="fk_subscriber_digest_subscriber_id", ondelete="CASCADE"
        ),
    )
    op.create_index("ix_subscriber_digest_subscriber_id", "subscriber_digest", ["subscriber_id"])
    op.create_table(
        "subscription",
        sa.Column("subscriber_id", _Id, nullable=False),
        sa.Column("list", sa.String(), nullable=False),
        sa.Column("site", sa.String(), nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("route", sa.String(), nullable=False),
        sa.Column("proof", sa.Text(), nullable=False),
        sa.Column("measuring", sa.Boolean(), nullable=False),
        sa.Column("language", sa.String(), nullable=False),
        sa.Column("record_id", sa.String(), nullable=True),
        sa.Column("confirmed_at", UTCDateTime(), nullable=True),
        sa.Column("valid_until", UTCDateTime(), nullable=True),
        sa.Column("left_at", UTCDateTime(), nullable=True),
        sa.Column("request_id", sa.String(), nullable=True),
        sa.Column("requested_at", UTCDateTime(), nullable=True),
        sa.Column("request", sa.Text(), nullable=True),
        sa.Column("mails", sa.Integer(), nullable=False),
        sa.Column("mailed_at", UTCDateTime(), nullable=True),
        sa.PrimaryKeyConstraint("subscriber_id", "list", name="pk_subscription"),
        sa.ForeignKeyConstraint(["subscriber_id"], ["subscriber.id"], name="fk_subscription_subscriber_id"),
    )
    for column in ("list", "request_id", "requested_at"):
        op.create_index(f"ix_subscription_{column}", "subscription", [column])
    op.create_table(
        "parent_mail",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("digest", sa.LargeBinary(), nullable=False),
        sa.Column("at", UTCDateTime(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_parent_mail"),
    )
    op.create_index("ix_parent_mail_digest", "parent_mail", ["digest"])
    op.create_table(
        "outbox",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("site", sa.String(), nullable=False),
        sa.Column("subscriber_id", _Id, nullable=True),
        sa.Column("payload", sa.Text(), nullable=False),
        sa.Column("due_at", UTCDateTime(), nullable=False),
        sa.Column("until", UTCDateTime(), nullable=False),
        sa.Column("tries", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_outbox"),
    )
    for column in ("due_at", "subscriber_id"):
        op.create_index(f"ix_outbox_{column}", "outbox", [column])


# A row leaves afgemeld only beside a row of afgemeld_lift that was written for it, in the same transaction. A list is
# excepted from all marketing only by a consent event not older than that leaving, which the row names. A subscription
# becomes active only when nothing in afgemeld forbids it, and after a leaving only with a consent event of
# a record of its own, not older than that leaving. Whatever an import, a merge or a person at the prompt tries.

_LIFTED = "SELECT 1 FROM afgemeld_lift l WHERE l.digest = OLD.digest AND l.scope = OLD.scope AND l.was_at = OLD.at"
_FORBIDDEN = (
    "SELECT 1 FROM afgemeld a, subscriber_digest s WHERE s.subscriber_id = NEW.subscriber_id "
    "AND a.digest IN (s.digest, {half}) AND (a.scope IN ('mail', 'list:' || NEW.list) OR (a.scope = 'marketing' "
    "AND NOT EXISTS (SELECT 1 FROM afgemeld o WHERE o.digest = a.digest AND o.scope = 'opt-in:' || NEW.list)))"
)
_AGREED = (
    "SELECT 1 FROM consent_event e WHERE e.record_id = NEW.record_id AND e.state IN ('given', 'renewed') "
    "AND e.at >= NEW.left_at"
)
_EXCEPTS = "substr(NEW.scope, 1, 7) = 'opt-in:'"
_OPTED_IN = (
    "SELECT 1 FROM consent_event e, afgemeld a WHERE e.record_id = NEW.mailing AND e.state IN ('given', 'renewed') "
    "AND a.digest = NEW.digest AND a.scope = 'marketing' AND e.at >= a.at"
)
_COMES_BACK = "comes back only by a new confirmed opt-in"


def _protect_sqlite() -> None:
    stays = f"SELECT RAISE(ABORT, 'afgemeld: who left {_COMES_BACK}');"
    op.execute(f"CREATE TRIGGER afgemeld_no_update BEFORE UPDATE ON afgemeld BEGIN {stays} END")
    op.execute(
        f"CREATE TRIGGER afgemeld_no_delete BEFORE DELETE ON afgemeld WHEN NOT EXISTS ({_LIFTED}) BEGIN {stays} END"
    )
    op.execute(
        f"CREATE TRIGGER afgemeld_opted_in BEFORE INSERT ON afgemeld WHEN {_EXCEPTS} AND NOT EXISTS ({_OPTED_IN}) "
        f"BEGIN {stays} END"
    )
    for act in ("UPDATE", "DELETE"):
        op.execute(
            f"CREATE TRIGGER afgemeld_lift_no_{act.lower()} BEFORE {act} ON afgemeld_lift "
            "BEGIN SELECT RAISE(ABORT, 'afgemeld_lift is append-only'); END"
        )
    forbidden = _FORBIDDEN.format(half="substr(s.digest, 1, 16)")
    refuse = f"SELECT RAISE(ABORT, 'subscription: who left {_COMES_BACK}');"
    op.execute(
        "CREATE TRIGGER subscription_left_insert BEFORE INSERT ON subscription WHEN NEW.state = 'active' "
        f"AND (NEW.left_at IS NOT NULL OR EXISTS ({forbidden})) BEGIN {refuse} END"
    )
    op.execute(
        "CREATE TRIGGER subscription_left_update BEFORE UPDATE ON subscription WHEN "
        "(OLD.left_at IS NOT NULL AND (NEW.left_at IS NULL OR NEW.left_at < OLD.left_at)) "
        "OR (NEW.state = 'active' AND OLD.state <> 'active' AND ("
        f"EXISTS ({forbidden}) OR (NEW.left_at IS NOT NULL AND (NEW.record_id IS OLD.record_id "
        f"OR NOT EXISTS ({_AGREED}))))) BEGIN {refuse} END"
    )


def _protect_postgres() -> None:
    op.execute(
        f"""
        CREATE FUNCTION consentkit_afgemeld_stays() RETURNS trigger LANGUAGE plpgsql
        SET search_path FROM CURRENT AS $$
        BEGIN
            IF TG_OP = 'DELETE' AND TG_TABLE_NAME = 'afgemeld' THEN
                IF EXISTS ({_LIFTED}) THEN
                    RETURN OLD;
                END IF;
            END IF;
            RAISE EXCEPTION '%: who left {_COMES_BACK}', TG_TABLE_NAME;
        END $$
        """
    )
    for table in ("afgemeld", "afgemeld_lift"):
        op.execute(
            f"CREATE TRIGGER {table}_stays BEFORE UPDATE OR DELETE ON {table} "
            "FOR EACH ROW EXECUTE FUNCTION consentkit_afgemeld_stays()"
        )
        op.execute(
            f"CREATE TRIGGER {table}_not_emptied BEFORE TRUNCATE ON {table} "
            "FOR EACH STATEMENT EXECUTE FUNCTION consentkit_afgemeld_stays()"
        )
    op.execute(
        f"""
        CREATE FUNCTION consentkit_opted_in() RETURNS trigger LANGUAGE plpgsql
        SET search_path FROM CURRENT AS $$
        BEGIN
            IF EXISTS ({_OPTED_IN}) THEN
                RETURN NEW;
            END IF;
            RAISE EXCEPTION 'afgemeld: who left {_COMES_BACK}';
        END $$
        """
    )
    op.execute(
        f"CREATE TRIGGER afgemeld_opted_in BEFORE INSERT ON afgemeld FOR EACH ROW WHEN ({_EXCEPTS}) "
        "EXECUTE FUNCTION consentkit_opted_in()"
    )
    forbidden = _FORBIDDEN.format(half="substring(s.digest from 1 for 16)")
    op.execute(
        f"""
        CREATE FUNCTION consentkit_left_stays() RETURNS trigger LANGUAGE plpgsql
        SET search_path FROM CURRENT AS $$
        BEGIN
            IF TG_OP = 'INSERT' THEN
                IF NEW.state = 'active' AND (NEW.left_at IS NOT NULL OR EXISTS ({forbidden})) THEN
                    RAISE EXCEPTION 'subscription: who left {_COMES_BACK}';
                END IF;
                RETURN NEW;
            END IF;
            IF OLD.left_at IS NOT NULL AND (NEW.left_at IS NULL OR NEW.left_at < OLD.left_at) THEN
                RAISE EXCEPTION 'subscription: a leaving is not forgotten';
            END IF;
            IF NEW.state = 'active' AND OLD.state <> 'active' THEN
                IF EXISTS ({forbidden}) OR (NEW.left_at IS NOT NULL AND (
                    NEW.record_id IS NOT DISTINCT FROM OLD.record_id OR NOT EXISTS ({_AGREED})
                )) THEN
                    RAISE EXCEPTION 'subscription: who left {_COMES_BACK}';
                END IF;
            END IF;
            RETURN NEW;
        END $$
        """
    )
    op.execute(
        "CREATE TRIGGER subscription_left BEFORE INSERT OR UPDATE ON subscription "
        "FOR EACH ROW EXECUTE FUNCTION consentkit_left_stays()"
    )
