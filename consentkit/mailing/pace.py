"""How fast mailings go: counts per second, per hour and per recipient's domain, kept in the database.

They hold for all processes together and after a restart. A window begins with its first message. Whoever asks for room
locks what was counted, until its transaction ends: two senders never both find the same room.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

from sqlalchemy import ColumnElement, and_, delete, or_, select, update
from sqlalchemy.engine import Connection

from consentkit.mailing.tables import pace
from consentkit.store import insert_new

SECOND: Final = timedelta(seconds=1)
HOUR: Final = timedelta(hours=1)


@dataclass(frozen=True, slots=True)
class Window:
    """So many within so long, counted under a key."""

    key: str
    most: int
    lasts: timedelta


@dataclass(frozen=True, slots=True)
class Limits:
    """How many messages may go; 0 is no limit.

    Args:
        per_second, per_hour: in all. per_domain_hour: to one domain. domains: to some, instead of that.
    """

    per_second: int = 0
    per_hour: int = 0
    per_domain_hour: int = 0
    domains: Mapping[str, int] = field(default_factory=dict)

    @property
    def windows(self) -> tuple[Window, ...]:
        """The limits for all messages together."""
        both = (Window("second", self.per_second, SECOND), Window("hour", self.per_hour, HOUR))
        return tuple(one for one in both if one.most)

    def of_domain(self, domain: str) -> Window | None:
        """The limit for a domain, where there is one."""
        most = self.domains.get(domain, self.per_domain_hour)
        return Window(f"domain:{domain}", most, HOUR) if most else None

    @property
    def by_domain(self) -> bool:
        """Whether there is a limit for any domain."""
        return bool(self.per_domain_hour or self.domains)


@dataclass(frozen=True, slots=True)
class Room:
    """How many may go now, and when there is room again where that is none."""

    count: int
    again: datetime | None = None


def room(connection: Connection, limits: Limits, wanted: int, now: datetime) -> Room:
    """How many of `wanted` the limits for all leave now; nothing is counted yet."""
    counted = _lock(connection, [window.key for window in limits.windows], now)
    found = [_left(window, *counted[window.key], wanted, now) for window in limits.windows]
    return min(found, key=lambda one: one.count, default=Room(wanted))


def hold(connection: Connection, limits: Limits, domains: Iterable[str], now: datetime) -> None:
    """Lock the counts of several domains, in one order, so that two senders don't wait for each other."""
    _lock(connection, [window.key for domain in set(domains) if (window := limits.of_domain(domain))], now)


def room_at(connection: Connection, limits: Limits, domain: str, wanted: int, now: datetime) -> Room:
    """How many of `wanted` may go to a domain now."""
    window = limits.of_domain(domain)
    if window is None:
        return Room(wanted)
    counted = _counted(connection, [window.key]) or _lock(connection, [window.key], now)
    return _left(window, *counted[window.key], wanted, now)


def take(connection: Connection, limits: Limits, domains: Mapping[str, int], now: datetime) -> None:
    """Count messages that go: how many to each domain."""
    count = sum(domains.values())
    for window in limits.windows if count else ():
        _add(connection, window, count, now)
    for domain, some in sorted(domains.items()):
        if own := limits.of_domain(domain):
            _add(connection, own, some, now)


def forget(connection: Connection, now: datetime) -> None:
    """Drop windows that are over, which tell to which domains mail went. Those that somebody counts in are left."""
    over = select(pace.c.key).where(_is_over(HOUR, now)).order_by(pace.c.key).with_for_update(skip_locked=True)
    connection.execute(delete(pace).where(pace.c.key.in_(over)))


def _lock(connection: Connection, keys: Iterable[str], now: datetime) -> Mapping[str, tuple[datetime, int]]:
    """When each window began, and its count, until the transaction ends; what is missing is made, to be locked too."""
    wanted = sorted(keys)
    made = [{"key": key, "since": now, "count": 0} for key in wanted]
    found: Mapping[str, tuple[datetime, int]] = {}
    while len(found) < len(wanted):  # once more, where a window that was over is dropped at this very moment
        connection.execute(insert_new(connection, pace), made)
        found = _counted(connection, wanted)
    return found


def _counted(connection: Connection, keys: Iterable[str]) -> Mapping[str, tuple[datetime, int]]:
    query = select(pace.c.key, pace.c.since, pace.c["count"]).where(pace.c.key.in_(keys)).order_by(pace.c.key)
    return {key: (since, count) for key, since, count in connection.execute(query.with_for_update())}


def _left(window: Window, since: datetime, count: int, wanted: int, now: datetime) -> Room:
    if since + window.lasts <= now or since > now + window.lasts:
        return Room(min(wanted, window.most))
    left = max(0, window.most - count)
    return Room(min(wanted, left), None if left else since + window.lasts)


def _is_over(lasts: timedelta, now: datetime) -> ColumnElement[bool]:
    """The same in SQL. A window that begins further ahead than it lasts is of a clock that was wrong, and over, too.

    What is nearer may be of another machine, whose clock is a little ahead.
    """
    return or_(pace.c.since <= now - lasts, pace.c.since > now + lasts)


def _add(connection: Connection, window: Window, count: int, now: datetime) -> None:
    connection.execute(insert_new(connection, pace), {"key": window.key, "since": now, "count": 0})
    over = and_(pace.c.key == window.key, _is_over(window.lasts, now))
    connection.execute(update(pace).where(over).values(since=now, count=0))
    connection.execute(update(pace).where(pace.c.key == window.key).values(count=pace.c["count"] + count))
