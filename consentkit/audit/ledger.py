"""The statements of the audit: add what was seen, read it, forget what is not seen any more."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import date
from typing import Final, NamedTuple

from sqlalchemy import and_, case, delete, func, or_, select
from sqlalchemy.engine import Connection

from consentkit.audit.tables import seen
from consentkit.store import insert_into

MOST_OF_A_KIND: Final = 250
"""So many names of a kind are kept of a site. Visitors can make up names of cookies, so those seen least give way."""

Row = tuple[str, str, str, date, date, int]
"""Kind, name, place, first day, last day, and how often since it was last written."""


class Sighting(NamedTuple):
    """A name that was seen and not declared: where, on which days for the first and the last time, and how often."""

    site: str
    kind: str
    name: str
    place: str
    first: date
    last: date
    total: int


def merge(connection: Connection, site: str, rows: Iterable[Row]) -> None:
    """Add what was seen on a site to what is known, in the caller's transaction.

    Args:
        rows: each name of a kind once.
    """
    values = [
        dict(zip(("site", "kind", "name", "place", "first_day", "last_day", "total"), (site, *row), strict=True))
        for row in sorted(rows)  # in one order in every process, so that two never wait for each other
    ]
    if not values:
        return
    insert = insert_into(connection, seen)
    new = insert.excluded
    kept = {
        "place": case((or_(new.place.like("/%"), seen.c.place == ""), new.place), else_=seen.c.place),
        "first_day": case((new.first_day < seen.c.first_day, new.first_day), else_=seen.c.first_day),
        "last_day": case((new.last_day > seen.c.last_day, new.last_day), else_=seen.c.last_day),
        "total": seen.c.total + new.total,
    }
    connection.execute(insert.on_conflict_do_update(index_elements=["site", "kind", "name"], set_=kept), values)
    _keep_few(connection, site)


def _keep_few(connection: Connection, site: str) -> None:
    row = seen.c
    many = select(row.kind).where(row.site == site).group_by(row.kind).having(func.count() > MOST_OF_A_KIND)
    for kind in connection.execute(many).scalars().all():
        here = and_(row.site == site, row.kind == kind)
        order = (row.total.desc(), row.last_day.desc(), row.name)
        surplus = select(row.name).where(here).order_by(*order).offset(MOST_OF_A_KIND).limit(10 * MOST_OF_A_KIND)
        names = connection.execute(surplus).scalars().all()
        connection.execute(delete(seen).where(here, row.name.in_(names)))


def read(connection: Connection, site: str | None = None) -> list[Sighting]:
    """All that was seen, of one site or of all, by site, kind and name."""
    query = select(seen).order_by(seen.c.site, seen.c.kind, seen.c.name)
    if site is not None:
        query = query.where(seen.c.site == site)
    return [Sighting(*row) for row in connection.execute(query)]


def purge(connection: Connection, before: date) -> int:
    """Forget what was last seen before a day; how many names."""
    return connection.execute(delete(seen).where(seen.c.last_day < before)).rowcount
