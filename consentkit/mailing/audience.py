"""The audience: everybody of a list, either queued or left out with a reason, frozen in one transaction."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import case, func, literal, select
from sqlalchemy.engine import Connection

from consentkit.mailing.states import DeliveryState
from consentkit.mailing.tables import deliveries
from consentkit.newsletter import Aim, Readers


@dataclass(frozen=True, slots=True)
class Audience:
    """How many there are, and why some get nothing.

    Args:
        queued: who will get it. excluded: how many not, by reason.
    """

    queued: int
    excluded: Mapping[str, int]

    @property
    def candidates(self) -> int:
        """Everybody who was looked at: queued and excluded together."""
        return self.queued + sum(self.excluded.values())


def count(connection: Connection, readers: Readers, aim: Aim, now: datetime) -> Audience:
    """What a freeze would give now; nothing is written."""
    asked = readers.candidates(connection, aim, now).subquery()
    rows = connection.execute(select(asked.c.reason, func.count()).group_by(asked.c.reason)).all()
    found = {reason: number for reason, number in rows}  # noqa: C416  # rows are no pairs to a checker
    return Audience(found.pop(None, 0), dict(sorted(found.items())))


def freeze(connection: Connection, readers: Readers, mailing: int, aim: Aim, now: datetime) -> Audience:
    """Write a row for every candidate, queued or excluded, in one statement of the caller's transaction."""
    asked = readers.candidates(connection, aim, now).subquery()
    state = case((asked.c.reason.is_(None), DeliveryState.QUEUED.value), else_=DeliveryState.EXCLUDED.value)
    columns = {
        "mailing_id": literal(mailing),
        "subscriber_id": asked.c.subscriber_id,
        "state": state,
        "reason": func.coalesce(asked.c.reason, ""),
        "tries": literal(0),
        "measured": literal(False),
    }
    rows = select(*columns.values()).order_by(asked.c.subscriber_id)
    connection.execute(deliveries.insert().from_select([*columns], rows))
    return counted(connection, mailing)


def counted(connection: Connection, mailing: int) -> Audience:
    """What was frozen, by the rows that there are."""
    excluded = deliveries.c.state == DeliveryState.EXCLUDED.value
    reason = case((excluded, deliveries.c.reason), else_=None)
    query = select(reason, func.count()).where(deliveries.c.mailing_id == mailing).group_by(reason)
    found = {each: number for each, number in connection.execute(query)}  # noqa: C416
    return Audience(found.pop(None, 0), dict(sorted(found.items())))
