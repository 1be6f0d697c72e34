"""0.3.0, first: mailings, who got them, and what came back."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from consentkit.store.base import UTCDateTime

revision = "v0_3_0_01_mailing"
down_revision = "v0_2_0_01_newsletter"
branch_labels = None
depends_on = None

_Id = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
_WAITS = sa.text("due_at IS NOT NULL")
_HELD = sa.text("holder IS NOT NULL")


def upgrade() -> None:
    _make_mailings()
    _make_deliveries()
    _make_answers()


def downgrade() -> None:
    tables = "bounce_score mail_inbox mail_total mail_event pace delivery mailing_link mailing_file mailing"
    for table in tables.split():
        op.drop_table(table)


def _of_mailing(table: str) -> sa.ForeignKeyConstraint:
    return sa.ForeignKeyConstraint(["mailing_id"], ["mailing.id"], name=f"fk_{table}_mailing_id", ondelete="CASCADE")


def _make_mailings() -> None:
    op.create_table(
        "mailing",
        sa.Column("id", _Id, autoincrement=True, nullable=False),
        sa.Column("site", sa.String(), nullable=False),
        sa.Column("list", sa.String(), nullable=False),
        sa.Column("purpose", sa.String(), nullable=False),
        sa.Column("language", sa.String(), nullable=False),
        sa.Column("subject", sa.String(), nullable=False),
        sa.Column("preheader", sa.String(), nullable=False),
        sa.Column("sender", sa.String(), nullable=False),
        sa.Column("reply_to", sa.String(), nullable=False),
        sa.Column("content", sa.Text(), nullable=False),
        sa.Column("measured", sa.Boolean(), nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("note", sa.Text(), nullable=False),
        sa.Column("created_at", UTCDateTime(), nullable=False),
        sa.Column("start_at", UTCDateTime(), nullable=True),
        sa.Column("not_after", UTCDateTime(), nullable=True),
        sa.Column("frozen_at", UTCDateTime(), nullable=True),
        sa.Column("ended_at", UTCDateTime(), nullable=True),
        sa.Column("failed_in_row", sa.Integer(), nullable=False),
        sa.Column("nonce", sa.BigInteger(), nullable=False),
        sa.Column("marks", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_mailing"),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "mailing_file",
        sa.Column("mailing_id", _Id, nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("inline", sa.Boolean(), nullable=False),
        sa.Column("data", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("mailing_id", "name", name="pk_mailing_file"),
        _of_mailing("mailing_file"),
    )
    op.create_table(
        "mailing_link",
        sa.Column("mailing_id", _Id, nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("url", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("mailing_id", "number", name="pk_mailing_link"),
        _of_mailing("mailing_link"),
    )


def _make_deliveries() -> None:
    op.create_table(
        "delivery",
        sa.Column("id", _Id, autoincrement=True, nullable=False),
        sa.Column("mailing_id", _Id, nullable=False),
        sa.Column("subscriber_id", _Id, nullable=True),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("reason", sa.String(), nullable=False),
        sa.Column("holder", sa.String(), nullable=True),
        sa.Column("due_at", UTCDateTime(), nullable=True),
        sa.Column("tries", sa.Integer(), nullable=False),
        sa.Column("measured", sa.Boolean(), nullable=False),
        sa.Column("at", UTCDateTime(), nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_delivery"),
        sa.UniqueConstraint("mailing_id", "subscriber_id", name="uq_delivery_mailing_id_subscriber_id"),
        _of_mailing("delivery"),
        sqlite_autoincrement=True,
    )
    for name, column, where in (("waits", "due_at", _WAITS), ("held", "holder", _HELD)):
        columns = ["mailing_id", column]
        op.create_index(f"ix_delivery_{name}", "delivery", columns, sqlite_where=where, postgresql_where=where)
    op.create_table(
        "pace",
        sa.Column("key", sa.String(), nullable=False),
        sa.Column("since", UTCDateTime(), nullable=False),
        sa.Column("count", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("key", name="pk_pace"),
    )


def _make_answers() -> None:
    op.create_table(
        "mail_event",
        sa.Column("id", _Id, autoincrement=True, nullable=False),
        sa.Column("mailing_id", _Id, nullable=False),
        sa.Column("delivery_id", _Id, nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("link", sa.Integer(), nullable=False),
        sa.Column("machine", sa.Boolean(), nullable=False),
        sa.Column("at", UTCDateTime(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_mail_event"),
        _of_mailing("mail_event"),
        sqlite_autoincrement=True,
    )
    for column in ("mailing_id", "delivery_id", "at"):
        op.create_index(f"ix_mail_event_{column}", "mail_event", [column])
    op.create_table(
        "mail_total",
        sa.Column("mailing_id", _Id, nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("link", sa.Integer(), nullable=False),
        sa.Column("day", sa.String(), nullable=False),
        sa.Column("count", sa.Integer(), nullable=False),
        sa.Column("people", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("mailing_id", "kind", "link", "day", name="pk_mail_total"),
        _of_mailing("mail_total"),
    )
    op.create_table(
        "mail_inbox",
        sa.Column("key", sa.String(), nullable=False),
        sa.Column("source", sa.String(), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("delivery_id", _Id, nullable=True),
        sa.Column("status", sa.String(), nullable=False),
        sa.Column("at", UTCDateTime(), nullable=False),
        sa.PrimaryKeyConstraint("key", name="pk_mail_inbox"),
    )
    for column in ("delivery_id", "at"):
        op.create_index(f"ix_mail_inbox_{column}", "mail_inbox", [column])
    op.create_table(
        "bounce_score",
        sa.Column("digest", sa.LargeBinary(), nullable=False),
        sa.Column("score", sa.Float(), nullable=False),
        sa.Column("day", sa.Date(), nullable=False),
        sa.PrimaryKeyConstraint("digest", name="pk_bounce_score"),
    )
