"""The tables of the evidence. `notice` and `consent_event` refuse UPDATE and DELETE."""

from __future__ import annotations

from datetime import date, datetime

from sqlalchemy import BigInteger, Column, Text
from sqlmodel import Field

from consentkit.store import Table, UTCDateTime, table_of


class NoticeRow(Table, table=True):
    """What visitors were shown, once per SHA-256 of its body."""

    __tablename__ = "notice"

    hash: str = Field(primary_key=True)
    body: str = Field(sa_type=Text)


class EventRow(Table, table=True):
    """One event of one record; `hash` covers every other column and the hash of the event before it in the site."""

    __tablename__ = "consent_event"

    site: str = Field(primary_key=True)
    seq: int = Field(sa_column=Column(BigInteger, primary_key=True, autoincrement=False))
    event_id: str = Field(unique=True)
    record_id: str = Field(index=True)
    state: str
    at: datetime = Field(sa_type=UTCDateTime)
    purposes: str = Field(sa_type=Text)
    notice_hash: str = Field(foreign_key="notice.hash", index=True)
    language: str
    ui_build: str
    method: str
    policy: str
    valid_until: datetime | None = Field(sa_type=UTCDateTime, index=True)
    controller: str
    nonce: str | None = Field(unique=True)
    hash: str


class HeadRow(Table, table=True):
    """Where a site's chain ends (`seq`, `hash`) and what retention cut off its front (`base_seq`, `base_hash`)."""

    __tablename__ = "chain_head"

    site: str = Field(primary_key=True)
    seq: int = Field(sa_type=BigInteger)
    hash: str
    base_seq: int = Field(sa_type=BigInteger)
    base_hash: str


class CountRow(Table, table=True):
    """How many refused on a day: all that is kept of a refusal."""

    __tablename__ = "consent_count"

    site: str = Field(primary_key=True)
    day: date = Field(primary_key=True)
    decision: str = Field(primary_key=True)
    notice_hash: str = Field(primary_key=True)
    total: int = Field(sa_type=BigInteger)


class JournalRow(Table, table=True):
    """How many lines of a local journal are in the database already; gone when the journal is."""

    __tablename__ = "journal"

    name: str = Field(primary_key=True)
    lines: int = Field(sa_type=BigInteger)
    at: datetime = Field(sa_type=UTCDateTime)


class RetentionRow(Table, table=True):
    """The triggers' permission to delete: exists only inside the transaction of a purge, names how far it may go."""

    __tablename__ = "retention"

    site: str = Field(primary_key=True)
    seq: int = Field(sa_type=BigInteger)


notices = table_of(NoticeRow)
events = table_of(EventRow)
heads = table_of(HeadRow)
counts = table_of(CountRow)
journals = table_of(JournalRow)
retention = table_of(RetentionRow)
