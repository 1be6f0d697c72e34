"""The tables of mailings: what is sent, to whom it went or why not, and what came back.

`delivery` has one row per mailing and person, those who were left out included, each with its reason. No address
stands here: it is read again at the moment of sending.
"""

from __future__ import annotations

import secrets
from datetime import date, datetime

from sqlalchemy import BigInteger, Column, ForeignKey, Index, Integer, LargeBinary, Text, UniqueConstraint, text
from sqlmodel import Field

from consentkit.store import Table, UTCDateTime, table_of

_Id = BigInteger().with_variant(Integer, "sqlite")
_WAITS = text("due_at IS NOT NULL")
_HELD = text("holder IS NOT NULL")


def _make_nonce() -> int:
    return secrets.randbits(32)


class MailingRow(Table, table=True):
    """One mailing: what it says, whom it is for, how far it is.

    A backup that is put back gives numbers out again. `nonce` tells a mailing from another that had its number; it
    stands in what leaves: message ids and links. `marks` counts the lines about it in the file of tombstones.
    """

    __tablename__ = "mailing"
    __table_args__ = ({"sqlite_autoincrement": True},)  # no number is given twice while the database lives

    id: int | None = Field(default=None, sa_column=Column(_Id, primary_key=True, autoincrement=True))
    site: str
    list: str
    purpose: str
    language: str
    subject: str
    preheader: str
    sender: str
    reply_to: str
    content: str = Field(sa_type=Text)
    measured: bool
    state: str
    note: str = Field(sa_type=Text)
    created_at: datetime = Field(sa_type=UTCDateTime)
    start_at: datetime | None = Field(sa_type=UTCDateTime)
    not_after: datetime | None = Field(sa_type=UTCDateTime)
    frozen_at: datetime | None = Field(sa_type=UTCDateTime)
    ended_at: datetime | None = Field(sa_type=UTCDateTime)
    failed_in_row: int
    nonce: int = Field(sa_column=Column(BigInteger, nullable=False, default=_make_nonce))
    marks: int = Field(sa_column=Column(Integer, nullable=False, default=0))


class MailingFileRow(Table, table=True):
    """An attachment, or an image that the HTML shows by `cid:`."""

    __tablename__ = "mailing_file"

    mailing_id: int = Field(sa_column=Column(_Id, ForeignKey("mailing.id", ondelete="CASCADE"), primary_key=True))
    name: str = Field(primary_key=True)
    kind: str
    inline: bool
    data: bytes = Field(sa_type=LargeBinary)


class MailingLinkRow(Table, table=True):
    """Where a measured link leads: redirects go to these addresses and to no other."""

    __tablename__ = "mailing_link"

    mailing_id: int = Field(sa_column=Column(_Id, ForeignKey("mailing.id", ondelete="CASCADE"), primary_key=True))
    number: int = Field(primary_key=True)
    url: str = Field(sa_type=Text)


class DeliveryRow(Table, table=True):
    """One person in one mailing. `reason` says why it was left out, failed or waits, in a word or a code.

    `holder` is the sender that holds the row, also of one in doubt. `due_at` stands at rows that wait: for a later try,
    or put back. Rows as they were frozen have neither, and no index but the key: a million are made in seconds.
    """

    __tablename__ = "delivery"
    __table_args__ = (
        UniqueConstraint("mailing_id", "subscriber_id"),
        Index("ix_delivery_waits", "mailing_id", "due_at", sqlite_where=_WAITS, postgresql_where=_WAITS),
        Index("ix_delivery_held", "mailing_id", "holder", sqlite_where=_HELD, postgresql_where=_HELD),
        {"sqlite_autoincrement": True},
    )

    id: int | None = Field(default=None, sa_column=Column(_Id, primary_key=True, autoincrement=True))
    mailing_id: int = Field(sa_column=Column(_Id, ForeignKey("mailing.id", ondelete="CASCADE"), nullable=False))
    subscriber_id: int | None = Field(sa_column=Column(_Id, nullable=True))
    state: str
    reason: str
    holder: str | None
    due_at: datetime | None = Field(sa_type=UTCDateTime)
    tries: int
    measured: bool
    at: datetime | None = Field(sa_type=UTCDateTime)


class PaceRow(Table, table=True):
    """How much went out within a window, so that limits hold across processes and restarts."""

    __tablename__ = "pace"

    key: str = Field(primary_key=True)
    since: datetime = Field(sa_type=UTCDateTime)
    count: int


class MailEventRow(Table, table=True):
    """One opening or click of a reader who agreed to be measured; reduced to totals after the retention period."""

    __tablename__ = "mail_event"
    __table_args__ = ({"sqlite_autoincrement": True},)

    id: int | None = Field(default=None, sa_column=Column(_Id, primary_key=True, autoincrement=True))
    mailing_id: int = Field(
        sa_column=Column(_Id, ForeignKey("mailing.id", ondelete="CASCADE"), nullable=False, index=True)
    )
    delivery_id: int = Field(sa_column=Column(_Id, nullable=False, index=True))
    kind: str
    link: int
    machine: bool
    at: datetime = Field(sa_type=UTCDateTime, index=True)


class MailTotalRow(Table, table=True):
    """What is left of a mailing's events and deliveries once nobody needs the single ones."""

    __tablename__ = "mail_total"

    mailing_id: int = Field(sa_column=Column(_Id, ForeignKey("mailing.id", ondelete="CASCADE"), primary_key=True))
    kind: str = Field(primary_key=True)
    link: int = Field(primary_key=True)
    day: str = Field(primary_key=True)
    count: int
    people: int


class MailInboxRow(Table, table=True):
    """A bounce, complaint or provider's message that was taken, by a hash of its own id: it counts once."""

    __tablename__ = "mail_inbox"

    key: str = Field(primary_key=True)
    source: str
    kind: str
    delivery_id: int | None = Field(sa_column=Column(_Id, nullable=True, index=True))
    status: str
    at: datetime = Field(sa_type=UTCDateTime, index=True)


class BounceScoreRow(Table, table=True):
    """How often mail to one mailbox came back lately, by its digest; it decays (as GNU Mailman keeps it)."""

    __tablename__ = "bounce_score"

    digest: bytes = Field(sa_column=Column(LargeBinary, primary_key=True))
    score: float
    day: date


class DraftRow(Table, table=True):
    """A mailing that is still being written, in the console. `version` counts its saves.

    Args:
        content: the form's values as JSON, complete or not. editors: who ever saved it, as a JSON list of names.
        mailing_id: what it became once it was put ready; from then on it is that mailing's content that counts.
        deleted_at: thrown away; it can be put back for a while.
    """

    __tablename__ = "mailing_draft"
    __table_args__ = ({"sqlite_autoincrement": True},)

    id: int | None = Field(default=None, sa_column=Column(_Id, primary_key=True, autoincrement=True))
    site: str
    title: str
    content: str = Field(sa_type=Text)
    version: int
    editors: str = Field(sa_type=Text)
    made_at: datetime = Field(sa_type=UTCDateTime)
    saved_at: datetime = Field(sa_type=UTCDateTime)
    saved_by: str
    mailing_id: int | None = Field(sa_column=Column(_Id, nullable=True, index=True))
    deleted_at: datetime | None = Field(sa_type=UTCDateTime)


class DraftFileRow(Table, table=True):
    """An attachment or image of a draft."""

    __tablename__ = "mailing_draft_file"

    draft_id: int = Field(sa_column=Column(_Id, ForeignKey("mailing_draft.id", ondelete="CASCADE"), primary_key=True))
    name: str = Field(primary_key=True)
    kind: str
    inline: bool
    data: bytes = Field(sa_type=LargeBinary)


mailings = table_of(MailingRow)
files = table_of(MailingFileRow)
links = table_of(MailingLinkRow)
deliveries = table_of(DeliveryRow)
pace = table_of(PaceRow)
events = table_of(MailEventRow)
totals = table_of(MailTotalRow)
inbox = table_of(MailInboxRow)
scores = table_of(BounceScoreRow)
drafts = table_of(DraftRow)
draft_files = table_of(DraftFileRow)
