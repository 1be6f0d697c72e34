"""Which mailings went to one person: the last ones, found by index."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from sqlalchemy import select

from consentkit.mailing.states import DeliveryState
from consentkit.mailing.tables import deliveries, mailings
from consentkit.store import Store

LOOKED_AT: Final = 50
"""So many of the newest mailings are looked at."""


@dataclass(frozen=True, slots=True)
class Received:
    """One mailing of which a person stood in the audience.

    Args:
        reason: why it did not go out, where it did not. at: when that was known, or when it went.
    """

    mailing: int
    subject: str
    list: str
    state: DeliveryState
    reason: str
    at: datetime | None


def received(store: Store, subscriber: int) -> Sequence[Received]:
    """What became of the newest mailings for one subscriber, the newest first; blocks."""
    newest = select(mailings.c.id, mailings.c.subject, mailings.c.list).where(mailings.c.frozen_at.is_not(None))
    newest = newest.order_by(mailings.c.id.desc()).limit(LOOKED_AT)
    row = deliveries.c
    with store.told(), store.read() as connection:
        about = {id: (subject, list) for id, subject, list in connection.execute(newest)}
        theirs = select(row.mailing_id, row.state, row.reason, row.at).where(
            row.mailing_id.in_([*about]), row.subscriber_id == subscriber
        )
        return [
            Received(id, *about[id], DeliveryState(state), reason, at)
            for id, state, reason, at in connection.execute(theirs.order_by(row.mailing_id.desc()))
        ]
