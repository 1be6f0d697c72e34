"""Totals: what single opens, clicks and deliveries come to, and how the single ones become that for good.

A total has a kind: `open`, `click` and `left`, the first two also with `:machine` behind; `measured`; `delivery:` with
a state and a reason; `back:` with what a report said.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from datetime import datetime
from itertools import groupby
from typing import Any, Final

from sqlalchemy import ColumnElement, and_, delete, func, select, update
from sqlalchemy.engine import Connection

from consentkit.mailing.states import DeliveryState
from consentkit.mailing.tables import deliveries, events, inbox, totals
from consentkit.store import insert_into

OPEN: Final = "open"
CLICK: Final = "click"
LEFT: Final = "left"
MACHINE: Final = ":machine"
"""What a kind ends with where a program fetched it, as far as one can tell."""

ANY: Final = -1
"""The number of no link: an open, or a click on whichever link."""

_AT_ONCE: Final = 500

_Key = tuple[int, str, int, str]
Tally = Mapping[_Key, tuple[int, int]]
"""How often and by how many people, by mailing, kind, link and day (UTC; empty for what has none)."""


def tally(rows: Iterable[Any]) -> Tally:
    """Single opens and clicks as totals: how often, and by how many people, who each count on their first day.

    Args:
        rows: of `mail_event`, all of one delivery together, oldest first.
    """
    sums: dict[_Key, list[int]] = defaultdict(lambda: [0, 0])
    for _, some in groupby(rows, key=lambda row: row.delivery_id):
        known: set[tuple[str, int]] = set()
        for row in some:
            kind = row.kind + (MACHINE if row.machine else "")
            for link in {row.link, ANY}:
                cell = sums[row.mailing_id, kind, link, day_of(row.at)]
                cell[0] += 1
                cell[1] += (kind, link) not in known
                known.add((kind, link))
    return {key: (count, people) for key, (count, people) in sums.items()}


def tally_events(connection: Connection, where: ColumnElement[bool]) -> Tally:
    """The totals of the single opens and clicks that a condition picks."""
    row = events.c
    query = select(row.mailing_id, row.delivery_id, row.kind, row.link, row.machine, row.at).where(where)
    ordered = query.order_by(row.delivery_id, row.at, row.id).execution_options(yield_per=_AT_ONCE)
    return tally(connection.execute(ordered))


def tally_deliveries(connection: Connection, mailing: int) -> Tally:
    """The totals of a mailing's deliveries: by state and reason, how many were measured, and what came back."""
    row, found = deliveries.c, Counter[_Key]()
    of_it = row.mailing_id == mailing
    query = select(row.state, row.reason, row.measured, func.count()).where(of_it)
    for state, reason, measured, count in connection.execute(query.group_by(row.state, row.reason, row.measured)):
        found[mailing, f"delivery:{state}:{reason}", ANY, ""] += count
        if measured and state == DeliveryState.SENT:
            found[mailing, "measured", ANY, ""] += count
    back = tally_inbox(connection, of_it)
    return {**{key: (count, count) for key, count in found.items()}, **back}


def tally_inbox(connection: Connection, where: ColumnElement[bool]) -> Tally:
    """The totals of what came back: of how many deliveries, by what it said. `where` picks deliveries or reports."""
    mailing, kind = deliveries.c.mailing_id, inbox.c.kind
    query = select(mailing, kind, func.count(inbox.c.delivery_id.distinct()))
    query = query.join_from(inbox, deliveries, deliveries.c.id == inbox.c.delivery_id).where(where)
    found = connection.execute(query.group_by(mailing, kind)).all()
    return {(number, f"back:{said}", ANY, ""): (count, count) for number, said, count in found}


def reduce_events(connection: Connection, where: ColumnElement[bool]) -> int:
    """Make totals of some single opens and clicks, and delete these; how many."""
    last = connection.execute(select(func.max(events.c.id)).where(where)).scalar()
    if last is None:
        return 0
    here = and_(where, events.c.id <= last)
    add(connection, tally_events(connection, here))
    return connection.execute(delete(events).where(here)).rowcount


def reduce_inbox(connection: Connection, limit: datetime) -> None:
    """Make totals of what came back by `limit`, before it is forgotten; it no longer names a delivery then."""
    old = inbox.alias("old").c
    of_them = inbox.c.delivery_id.in_(select(old.delivery_id).where(old.at <= limit, old.delivery_id.is_not(None)))
    add(connection, tally_inbox(connection, of_them))
    connection.execute(update(inbox).where(of_them).values(delivery_id=None))


def add(connection: Connection, sums: Tally) -> None:
    """Add to the totals that there are."""
    rows = [
        {"mailing_id": mailing, "kind": kind, "link": link, "day": day, "count": count, "people": people}
        for (mailing, kind, link, day), (count, people) in sorted(sums.items())
    ]
    if not rows:
        return
    new = insert_into(connection, totals)
    more = {name: totals.c[name] + new.excluded[name] for name in ("count", "people")}
    key = ["mailing_id", "kind", "link", "day"]
    connection.execute(new.on_conflict_do_update(index_elements=key, set_=more), rows)


def day_of(at: datetime) -> str:
    """The day of a moment, as totals name it."""
    return at.date().isoformat()
