"""The tables of the ledger. No foreign key leads to or from `afgemeld`: it survives everything that is erased.

`afgemeld` takes no UPDATE, a DELETE only beside a row of `afgemeld_lift` that says why, and an exception from all
marketing only with a consent that is newer than the leaving, whose record `mailing` names. Triggers hold all three.
"""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import BigInteger, Column, LargeBinary, Text
from sqlmodel import Field

from consentkit.store import Table, UTCDateTime, table_of


class AfgemeldRow(Table, table=True):
    """One address that may not be written to, as a keyed digest, within one scope."""

    __tablename__ = "afgemeld"
    __table_args__ = ({"sqlite_with_rowid": False},)

    digest: bytes = Field(sa_column=Column(LargeBinary, primary_key=True))
    scope: str = Field(primary_key=True)
    key_id: str
    reason: str
    channel: str
    at: datetime = Field(sa_type=UTCDateTime)
    mailing: str | None = None


class LiftRow(Table, table=True):
    """One row that left the table again, and why: a new confirmed opt-in, or two people and a reason."""

    __tablename__ = "afgemeld_lift"

    id: str = Field(primary_key=True)
    digest: bytes = Field(sa_type=LargeBinary, index=True)
    scope: str
    key_id: str
    at: datetime = Field(sa_type=UTCDateTime)
    record_id: str | None = None
    reason: str
    by: str
    second: str
    was_reason: str
    was_channel: str
    was_at: datetime = Field(sa_type=UTCDateTime)


class LiftRequestRow(Table, table=True):
    """Somebody asks that rows of one address leave the table; gone once a second person agreed or refused."""

    __tablename__ = "afgemeld_lift_request"

    id: str = Field(primary_key=True)
    digest: bytes = Field(sa_column=Column(LargeBinary, primary_key=True))
    scope: str
    key_id: str
    reason: str = Field(sa_type=Text)
    by: str
    at: datetime = Field(sa_type=UTCDateTime)


class KeyCheckRow(Table, table=True):
    """Which keys the table was made with; the check proves a key without giving it away."""

    __tablename__ = "key_check"

    key_id: str = Field(primary_key=True)
    check: str
    at: datetime = Field(sa_type=UTCDateTime)


class TombstoneRow(Table, table=True):
    """How far this database has what the file of tombstones on one host says."""

    __tablename__ = "tombstone"

    file: str = Field(primary_key=True)
    size: int = Field(sa_type=BigInteger)


afgemeld = table_of(AfgemeldRow)
lifts = table_of(LiftRow)
lift_requests = table_of(LiftRequestRow)
key_checks = table_of(KeyCheckRow)
tombstones = table_of(TombstoneRow)
