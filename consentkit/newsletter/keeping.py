"""Keeping no longer than needed: what a purge erases, and how one person's data are erased."""

from __future__ import annotations

from datetime import datetime
from typing import Final

from sqlalchemy import and_, delete, exists, func, or_, update
from sqlalchemy.engine import Connection

from consentkit.newsletter.people import A_DAY, ANSWERED
from consentkit.newsletter.rules import LEFT, Route, State
from consentkit.newsletter.tables import outbox, parent_mails, subscribers, subscriptions

_LEFT: Final = sorted(state.value for state in LEFT)
_mine = subscriptions.c.subscriber_id == subscribers.c.id


def drop_requests(connection: Connection, limit: datetime) -> int:
    """Erase requests made before `limit` that nobody confirmed; returns how many."""
    old = and_(subscriptions.c.requested_at.is_not(None), subscriptions.c.requested_at < limit)
    never = and_(old, subscriptions.c.state == State.PENDING.value, subscriptions.c.left_at.is_(None))
    gone = connection.execute(delete(subscriptions).where(never)).rowcount
    return gone + connection.execute(update(subscriptions).where(old).values(ANSWERED)).rowcount


def drop_unproven(connection: Connection, limit: datetime) -> int:
    """Erase what was imported before `limit` and never got a proof: it may not be mailed, so nothing needs it."""
    old = exists().where(_mine, subscribers.c.created_at < limit)
    unproven = and_(
        subscriptions.c.state == State.PENDING.value,
        subscriptions.c.request_id.is_(None),
        subscriptions.c.left_at.is_(None),
        old,
    )
    return connection.execute(delete(subscriptions).where(unproven)).rowcount


def end_expired(connection: Connection, now: datetime) -> None:
    """A consent that ran out has ended like any other: only a new opt-in begins another."""
    over = and_(
        subscriptions.c.state == State.ACTIVE.value,
        subscriptions.c.route == Route.CONSENT.value,
        subscriptions.c.valid_until <= now,
    )
    ended = {"state": State.UNSUBSCRIBED.value, "left_at": now, "measuring": False}
    connection.execute(update(subscriptions).where(over).values(ended))


def drop_addresses(connection: Connection, limit: datetime, now: datetime) -> int:
    """Empty address and fields of everybody who left every list before `limit`; returns how many."""
    needed = or_(
        subscriptions.c.state.in_([State.ACTIVE.value, State.PENDING.value]),
        subscriptions.c.request_id.is_not(None),
        subscriptions.c.left_at >= limit,
    )
    over = and_(subscribers.c.address.is_not(None), ~exists().where(_mine, needed))
    empty = {"address": None, "fields": "{}", "erased_at": now}
    return connection.execute(update(subscribers).where(over).values(empty)).rowcount


def drop_proofs(connection: Connection, limit: datetime) -> int:
    """Erase the subscriptions that were left before `limit`; returns how many."""
    gone = and_(subscriptions.c.state.in_(_LEFT), subscriptions.c.left_at < limit)
    return connection.execute(delete(subscriptions).where(gone)).rowcount


def drop_lonely(connection: Connection, now: datetime) -> None:
    """Erase subscribers of nothing, mails whose link is dead, and what is counted for a day."""
    connection.execute(delete(subscribers).where(~exists().where(_mine)))
    connection.execute(delete(parent_mails).where(parent_mails.c.at < now - A_DAY))
    connection.execute(delete(outbox).where(outbox.c.until < now))


def empty_person(connection: Connection, id: int, at: datetime) -> None:
    """Erase what can be read of one person; the digests stay with the proof."""
    mine = subscriptions.c.subscriber_id == id
    connection.execute(update(subscriptions).where(mine).values(**ANSWERED, proof="{}"))
    left = and_(mine, subscriptions.c.state != State.ERASED.value)
    left_at = func.coalesce(subscriptions.c.left_at, at)
    connection.execute(update(subscriptions).where(left).values(state=State.ERASED.value, left_at=left_at))
    connection.execute(delete(outbox).where(outbox.c.subscriber_id == id, outbox.c.kind != "webhook"))
    empty = {"address": None, "fields": "{}", "erased_at": at}
    connection.execute(update(subscribers).where(subscribers.c.id == id).values(empty))
