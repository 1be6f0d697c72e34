"""How many gave, refused and withdrew consent, per day and purpose, and which notices were answered on which day.

Counts only: nothing here leads to a visitor. A chain has no index on time, and needs none: its numbers go up with it,
so that a period begins where a binary search says. What was counted is remembered, and the next count reads only what
came since; it reads in pieces, so that no transaction lasts long.
"""

from __future__ import annotations

import json
import threading
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from datetime import time as clock
from typing import Any, Final, NamedTuple

from sqlalchemy import ColumnElement, String, func, literal, select, type_coerce
from sqlalchemy.engine import Connection

from consentkit.evidence.event import SHOWN_STATE, VALID_STATES
from consentkit.evidence.tables import counts, events, heads, notices
from consentkit.store import Store, after_fork

SLACK: Final = timedelta(days=7)
"""So much later than it happened an event may come into its chain: what waited in a journal comes back late."""

_PIECE: Final = 20_000
_ANSWERS: Final = ("given", "renewed", "withdrawn")
_ALL_AT_ONCE: Final = frozenset({"refuse", "save", "withdraw"})
_ABOUT_SOME: Final = frozenset({"allow", "object", "once"})
_ONCE: Final = "embed.once"
_IMPORT: Final = "import."


class Tally(NamedTuple):
    """How often consent for a purpose was given, refused and withdrawn.

    `given`: granted by a record that did not have it. `withdrawn`: taken back by a record that had it. `refused`:
    denied in the first answer of a record, or by somebody who granted nothing and so has no record. Who answers the
    same again counts once; who has no record can't be known again, and counts each time.
    """

    given: int = 0
    refused: int = 0
    withdrawn: int = 0

    @property
    def asked(self) -> int:
        """How many answers there were to the question."""
        return self.given + self.refused

    @property
    def share(self) -> float | None:
        """The part of the answers that gave consent, 0 to 1; None without any."""
        return self.given / self.asked if self.asked else None


@dataclass(frozen=True, slots=True)
class Rates:
    """The consents of a site in a period, by days in UTC.

    Args:
        days: each of the period. purposes: per purpose a tally for each of them.
        once: how often content was let in for one load; imported: how many consents an earlier tool's cookie gave.
            Both stand in no tally: the first ends within a minute, the second answered no banner of ours.
        complete_from: the first day of which every event is still kept; None where that is the whole period.
    """

    days: Sequence[date]
    purposes: Mapping[str, Sequence[Tally]]
    once: int
    imported: int
    complete_from: date | None = None

    def total(self, purpose: str) -> Tally:
        """The whole period of a purpose."""
        each = self.purposes.get(purpose, ())
        return Tally(*(sum(getattr(one, what) for one in each) for what in Tally._fields))


@dataclass(frozen=True, slots=True)
class Answered:
    """A notice, and how often it was answered on which day (UTC), the oldest first.

    `kind` is empty for the question itself; `imported` or `newsletter` where it stands for something else.
    """

    hash: str
    language: str
    version: str
    kind: str
    days: Mapping[date, int]

    @property
    def first(self) -> date:
        """The first day on which it was answered, of those that are kept."""
        return next(iter(self.days))

    @property
    def last(self) -> date:
        """The last day on which it was answered."""
        return next(reversed([*self.days]))

    @property
    def total(self) -> int:
        """How often it was answered."""
        return sum(self.days.values())


def first_since(connection: Connection, site: str, moment: datetime, *, first: int, last: int) -> int:
    """The number of the first event of a chain at or after a moment; `last + 1` where there is none.

    Args:
        first, last: the numbers to look between. What came late into the chain (`SLACK`) may stand behind it.
    """
    while first <= last:
        middle = (first + last) // 2
        query = select(events.c.at).where(events.c.site == site, events.c.seq == middle)
        at = connection.execute(query).scalar()
        if at is None or at < moment:
            first = middle + 1
        else:
            last = middle - 1
    return first


def bounds(connection: Connection, site: str) -> tuple[int, int]:
    """The numbers of the first and of the last event that a chain has; the last is smaller where it has none."""
    head = connection.execute(select(heads.c.base_seq, heads.c.seq).where(heads.c.site == site)).first()
    return (head.base_seq + 1, head.seq) if head else (1, 0)


@dataclass(slots=True)
class _Pages:
    """What was counted of a chain: from which number to which, and per day."""

    first: int
    last: int
    tallies: dict[date, Counter[tuple[str, str]]] = field(default_factory=dict)


class RateBook:
    """Counts, and remembers what it counted. Of any thread.

    Args:
        store: the database.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._fresh()
        after_fork(self, "_fresh")

    def _fresh(self) -> None:
        self._lock = threading.Lock()
        self._rated: dict[str, _Pages] = {}
        self._seen: dict[str, _Pages] = {}
        self._asked: dict[str, Sequence[str]] = {}

    def rates(self, site: str, since: date, until: date) -> Rates:
        """What was answered from `since` to `until`, both included. May take long; never holds the database for long.

        Args:
            site: the scope of the chain.
        """
        with self._lock:
            pages = self._read_up(self._rated, site, since, self._rate)
            with self._store.read() as connection:
                refused = self._refused(connection, site, since, until)
                kept = self._kept_from(connection, site, since)
        days = [since + timedelta(days=more) for more in range((until - since).days + 1)]
        by_day = [pages.tallies.get(day, Counter()) + refused.get(day, Counter()) for day in days]
        names = sorted({name for tally in by_day for name, _ in tally if name})
        return Rates(
            days,
            {name: [Tally(*(day[name, what] for what in Tally._fields)) for day in by_day] for name in names},
            sum(day["", "once"] for day in by_day),
            sum(day["", "imported"] for day in by_day),
            kept,
        )

    def answered(self, site: str) -> list[Answered]:
        """Every notice that is kept and was answered in this scope, the one answered last first."""
        with self._lock:
            pages = self._read_up(self._seen, site, None, self._see)
            by_notice: dict[str, Counter[date]] = {}
            for day, tally in pages.tallies.items():
                for (digest, _), total in tally.items():
                    by_notice.setdefault(digest, Counter())[day] += total
            with self._store.read() as connection:
                query = select(counts.c.notice_hash, counts.c.day, counts.c.total).where(counts.c.site == site)
                for digest, day, total in connection.execute(query):
                    by_notice.setdefault(digest, Counter())[day] += total
                found = [
                    Answered(
                        digest, body["language"], body["version"], body.get("kind", ""), dict(sorted(days.items()))
                    )
                    for digest, days in by_notice.items()
                    if (body := _body(connection, digest)) is not None
                ]
        return sorted(found, key=lambda one: (one.last, one.first, one.hash), reverse=True)

    def _read_up(self, known: dict[str, _Pages], site: str, since: date | None, read: Any) -> _Pages:
        """Count what was not counted yet: behind what is known, and before it where the period begins earlier."""
        with self._store.read() as connection:
            first, last = bounds(connection, site)
            begin = first
            if since is not None:
                midnight = datetime.combine(since, clock(), UTC)
                begin = first_since(connection, site, midnight - SLACK, first=first, last=last)
        pages = known.get(site)
        if pages is None or pages.last > last:  # a chain that became shorter is another one
            pages = known[site] = _Pages(begin, begin - 1)
        for low, high in reversed(_pieces(begin, pages.first - 1)):
            self._read_piece(pages, site, low, high, read)
            pages.first = low
        for low, high in _pieces(pages.last + 1, last):
            self._read_piece(pages, site, low, high, read)
            pages.last = high
        return pages

    def _read_piece(self, pages: _Pages, site: str, low: int, high: int, read: Any) -> None:
        with self._store.read() as connection:
            for day, key, total in [*read(connection, site, low, high)]:
                pages.tallies.setdefault(date.fromisoformat(day), Counter())[key] += total

    @staticmethod
    def _rate(connection: Connection, site: str, low: int, high: int) -> Iterator[tuple[str, tuple[str, str], int]]:
        for day, state, method, purposes, before, total in connection.execute(_decisions(connection, site, low, high)):
            for key in _effects(state, method, json.loads(purposes), before):
                yield day, key, total

    @staticmethod
    def _see(connection: Connection, site: str, low: int, high: int) -> Iterator[tuple[str, tuple[str, str], int]]:
        row, day = events.c, _day(connection, events.c.at)
        shown = row.state.in_((*_ANSWERS, SHOWN_STATE))
        query = select(day, row.notice_hash, func.count()).where(row.site == site, row.seq.between(low, high), shown)
        for on, digest, total in connection.execute(query.group_by(day, row.notice_hash)):
            yield on, (digest, ""), total

    def _refused(
        self, connection: Connection, site: str, since: date, until: date
    ) -> dict[date, Counter[tuple[str, str]]]:
        """The refusals of those who granted nothing: each of every purpose that the notice asked for."""
        row = counts.c
        query = select(row.day, row.decision, row.notice_hash, row.total)
        found: dict[date, Counter[tuple[str, str]]] = {}
        for day, decision, digest, total in connection.execute(
            query.where(row.site == site, row.day.between(since, until))
        ):
            if decision.rpartition(".")[2] not in _ALL_AT_ONCE:
                continue
            for purpose in self._asked_in(connection, digest):
                found.setdefault(day, Counter())[purpose, "refused"] += total
        return found

    def _asked_in(self, connection: Connection, digest: str) -> Sequence[str]:
        if digest not in self._asked:
            body = _body(connection, digest) or {}
            asked = [one["id"] for one in body.get("purposes", ()) if one["kind"] == "consent"]
            self._asked[digest] = asked
        return self._asked[digest]

    @staticmethod
    def _kept_from(connection: Connection, site: str, since: date) -> date | None:
        first, last = bounds(connection, site)
        if first == 1 or first > last:
            return None
        at = connection.execute(select(events.c.at).where(events.c.site == site, events.c.seq == first)).scalar()
        return at.date() if at is not None and at.date() > since else None


def _pieces(first: int, last: int) -> Sequence[tuple[int, int]]:
    return [(low, min(low + _PIECE - 1, last)) for low in range(first, last + 1, _PIECE)]


def _effects(state: str, method: str, purposes: Mapping[str, bool], before: str | None) -> Iterator[tuple[str, str]]:
    """What a decision did to each purpose, seen beside the decision before it in the same record.

    Args:
        before: state, method and purposes of that one, separated by spaces; None where it is the first.
    """
    if method == _ONCE:
        yield "", "once"
        return
    if method.startswith(_IMPORT):
        yield "", "imported"
        return
    was_state, was_method, told = before.split(" ", 2) if before else ("", "", "{}")
    was: Mapping[str, bool] = json.loads(told) if was_state in VALID_STATES else {}
    had = {name for name, granted in was.items() if granted}
    answered = {*was} if not _is_partial(was_method) and not was_method.startswith(_IMPORT) else had
    for name, granted in purposes.items():
        if granted and name not in had:
            yield name, "given"
        elif not granted and name in had:
            yield name, "withdrawn"
        elif not granted and name not in answered and not _is_partial(method):
            yield name, "refused"


def _is_partial(method: str) -> bool:
    """Whether the control was about some purposes only, and left those unanswered that it denies."""
    return method.rpartition(".")[2] in _ABOUT_SOME


def _decisions(connection: Connection, site: str, low: int, high: int) -> Any:
    """The decisions of a piece of a chain, grouped by all that tells their effects apart."""
    row, earlier = events.c, events.alias("earlier").c
    # Additions that change nothing keep the database from walking the chain backwards in search of a record: the
    # index of the records is all it can use.
    same = (earlier.record_id == row.record_id, earlier.site + literal("") == row.site)
    before = (
        select(earlier.state + literal(" ") + earlier.method + literal(" ") + earlier.purposes)
        .where(*same, earlier.seq + 0 < row.seq, earlier.state != SHOWN_STATE)
        .order_by((earlier.seq + 0).desc())
        .limit(1)
        .scalar_subquery()
    )
    decided = row.state.in_(_ANSWERS)
    each = (
        select(_day(connection, row.at).label("day"), row.state, row.method, row.purposes, before.label("before"))
        .where(row.site == site, row.seq.between(low, high), decided)
        .subquery()
    )
    alike = [*each.c]
    return select(*alike, func.count()).group_by(*alike)


def _day(connection: Connection, at: ColumnElement[datetime]) -> ColumnElement[str]:
    """The day of a moment in UTC, as text."""
    if connection.dialect.name == "sqlite":
        return func.substr(type_coerce(at, String), 1, 10)
    return func.to_char(func.timezone("UTC", at), "YYYY-MM-DD")


def _body(connection: Connection, digest: str) -> dict[str, Any] | None:
    found = connection.execute(select(notices.c.body).where(notices.c.hash == digest)).scalar()
    return None if found is None else json.loads(found)
