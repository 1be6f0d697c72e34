"""The tables of the staff: accounts, log-ins, what was done and read, forms that were sent, and long work.

`staff_log` is append-only: triggers refuse every change, and every removal but that of the retention period.
"""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import BigInteger, Column, ForeignKey, Index, Integer, LargeBinary, Text
from sqlmodel import Field

from consentkit.store import Table, UTCDateTime, table_of

_Id = BigInteger().with_variant(Integer, "sqlite")


class StaffRow(Table, table=True):
    """One account of our own. `key` is what the name is compared by. `totp` is the seed of the second factor, of which
    the secret itself is derived with a signing key, so that the database alone gives no codes away; with `?` in front
    as long as nobody gave its first code. `totp_spent` is the half minute of the last code that counted.
    """

    __tablename__ = "staff"

    key: str = Field(primary_key=True)
    name: str
    roles: str
    password: str
    must_change: bool
    disabled: bool
    totp: str
    totp_spent: int = Field(sa_type=BigInteger)
    made_at: datetime = Field(sa_type=UTCDateTime)
    seen_at: datetime | None = Field(sa_type=UTCDateTime)


class SessionRow(Table, table=True):
    """One log-in, by the SHA-256 of what its cookie holds."""

    __tablename__ = "staff_session"

    key: str = Field(primary_key=True)
    staff: str = Field(sa_column=Column(ForeignKey("staff.key", ondelete="CASCADE"), index=True, nullable=False))
    begun_at: datetime = Field(sa_type=UTCDateTime)
    seen_at: datetime = Field(sa_type=UTCDateTime, index=True)


class LogRow(Table, table=True):
    """One act, or one reading of a person's data. `person` is the keyed digest of an address, never the address."""

    __tablename__ = "staff_log"
    __table_args__ = (
        Index("ix_staff_log_person", "person", "id"),
        Index("ix_staff_log_staff", "staff", "id"),
        Index("ix_staff_log_act", "act", "id"),
        Index("ix_staff_log_both", "staff", "act", "id"),
        {"sqlite_autoincrement": True},
    )

    id: int | None = Field(default=None, sa_column=Column(_Id, primary_key=True, autoincrement=True))
    at: datetime = Field(sa_type=UTCDateTime)
    staff: str
    act: str
    about: str
    person: bytes | None = Field(sa_column=Column(LargeBinary, nullable=True))


class LogCutRow(Table, table=True):
    """The triggers' permission to delete from the log up to a number: exists only inside a purge."""

    __tablename__ = "staff_log_cut"

    id: int = Field(sa_column=Column(_Id, primary_key=True, autoincrement=False))


class PostRow(Table, table=True):
    """A form that was sent: it does its work once, and a second click leads to where the first one led."""

    __tablename__ = "staff_post"

    nonce: str = Field(primary_key=True)
    at: datetime = Field(sa_type=UTCDateTime, index=True)
    said: str
    leads_to: str = Field(sa_type=Text)


class JobRow(Table, table=True):
    """Long work: how far it is, and what came of it. `beat_at` is renewed while its process lives."""

    __tablename__ = "staff_job"

    id: str = Field(primary_key=True)
    staff: str
    kind: str
    about: str
    state: str
    done: int = Field(sa_type=BigInteger)
    total: int = Field(sa_type=BigInteger)
    report: str = Field(sa_type=Text)
    result: bytes | None = Field(sa_column=Column(LargeBinary, nullable=True))
    result_name: str
    begun_at: datetime = Field(sa_type=UTCDateTime, index=True)
    beat_at: datetime = Field(sa_type=UTCDateTime)


staff = table_of(StaffRow)
sessions = table_of(SessionRow)
log = table_of(LogRow)
cuts = table_of(LogCutRow)
posts = table_of(PostRow)
jobs = table_of(JobRow)
