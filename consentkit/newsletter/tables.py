"""The tables of the newsletter: who asked for what, and what still has to be mailed about it.

Triggers hold that nothing turns *left* into *active* without a consent event that is newer than the leaving.
"""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import BigInteger, Column, ForeignKey, Index, Integer, LargeBinary, Text
from sqlmodel import Field

from consentkit.store import Table, UTCDateTime, table_of

_Id = BigInteger().with_variant(Integer, "sqlite")


class SubscriberRow(Table, table=True):
    """One mailbox. Erasing empties `address` and `fields`; the digest stays with the evidence that names the record."""

    __tablename__ = "subscriber"
    __table_args__ = ({"sqlite_autoincrement": True},)  # a number is never given twice

    id: int | None = Field(default=None, sa_column=Column(_Id, primary_key=True, autoincrement=True))
    digest: bytes = Field(sa_column=Column(LargeBinary, unique=True, nullable=False))
    key_id: str
    address: str | None
    language: str
    fields: str = Field(sa_type=Text)
    created_at: datetime = Field(sa_type=UTCDateTime)
    erased_at: datetime | None = Field(sa_type=UTCDateTime)


class SubscriberDigestRow(Table, table=True):
    """Each digest by which a mailbox may be asked for: one under every afgemeld key while its address stood."""

    __tablename__ = "subscriber_digest"

    digest: bytes = Field(sa_column=Column(LargeBinary, primary_key=True))
    subscriber_id: int = Field(
        sa_column=Column(_Id, ForeignKey("subscriber.id", ondelete="CASCADE"), index=True, nullable=False)
    )


class SubscriptionRow(Table, table=True):
    """One mailbox on one list: where it stands, by which lawful route, and the request that waits to be confirmed."""

    __tablename__ = "subscription"
    __table_args__ = (Index("ix_subscription_on_list", "list", "state", "subscriber_id"),)

    subscriber_id: int = Field(sa_column=Column(_Id, ForeignKey("subscriber.id"), primary_key=True))
    list: str = Field(primary_key=True, index=True)
    site: str
    state: str
    route: str
    proof: str = Field(sa_type=Text)
    measuring: bool
    language: str
    record_id: str | None
    confirmed_at: datetime | None = Field(sa_type=UTCDateTime)
    valid_until: datetime | None = Field(sa_type=UTCDateTime)
    left_at: datetime | None = Field(sa_type=UTCDateTime)
    request_id: str | None = Field(index=True)
    requested_at: datetime | None = Field(sa_type=UTCDateTime, index=True)
    request: str | None = Field(sa_type=Text)
    mails: int
    mailed_at: datetime | None = Field(sa_type=UTCDateTime)


class ParentMailRow(Table, table=True):
    """One mail that asked a parent: known for a day, so that nobody is bombed as the parent of many."""

    __tablename__ = "parent_mail"

    id: str = Field(primary_key=True)
    digest: bytes = Field(sa_column=Column(LargeBinary, index=True, nullable=False))
    at: datetime = Field(sa_type=UTCDateTime)


class OutboxRow(Table, table=True):
    """One service mail, or one call to a partner, that still has to go out; gone once it went."""

    __tablename__ = "outbox"

    id: str = Field(primary_key=True)
    kind: str
    site: str
    subscriber_id: int | None = Field(sa_column=Column(_Id, index=True))
    payload: str = Field(sa_type=Text)
    due_at: datetime = Field(sa_type=UTCDateTime, index=True)
    until: datetime = Field(sa_type=UTCDateTime)
    tries: int


subscribers = table_of(SubscriberRow)
subscriber_digests = table_of(SubscriberDigestRow)
subscriptions = table_of(SubscriptionRow)
parent_mails = table_of(ParentMailRow)
outbox = table_of(OutboxRow)
