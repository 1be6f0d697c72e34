"""The table of the audit: names without values, days without times, nothing of anybody."""

from __future__ import annotations

from datetime import date

from sqlalchemy import BigInteger
from sqlmodel import Field

from consentkit.store import Table, table_of


class SeenRow(Table, table=True):
    """A cookie, host, storage key or tag that a site had and did not declare; `place` is the path of a page with it."""

    __tablename__ = "seen"

    site: str = Field(primary_key=True)
    kind: str = Field(primary_key=True)
    name: str = Field(primary_key=True)
    place: str
    first_day: date
    last_day: date
    total: int = Field(sa_type=BigInteger)


seen = table_of(SeenRow)
