"""What staff read of lists and of one person: numbers, a page of subscribers, and all that proves a consent.

A page of subscribers and a person are found by indexes, however many there are. `counts` and `course` read a whole
list: whoever shows them counts behind.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time
from heapq import merge
from itertools import islice
from typing import Any, Final

from sqlalchemy import ColumnElement, and_, case, func, select
from sqlalchemy.engine import Connection, Row

from consentkit.afgemeld import Afgemeld, Suppression, covering, forbidding
from consentkit.evidence import ConsentEvent, Evidence
from consentkit.newsletter import people
from consentkit.newsletter.rules import LEFT, Route, State, why_not
from consentkit.newsletter.tables import subscribers, subscriptions
from consentkit.store import Store

KINDS: Final = (
    "confirmed", "proven", "waiting", "unproven", "unsubscribed", "bounced", "complained", "erased",
)  # fmt: skip
"""What somebody can be on a list: confirmed by mail, or imported with a proof; asked to confirm, or imported without
one; or gone, by how.
"""

_GRANTS: Final = ("given", "renewed")


@dataclass(frozen=True, slots=True)
class Day:
    """One day (UTC) of a list, as it is known now.

    Args:
        signed_up: who asked for it: confirmed that day, or asked that day and still has to confirm.
        left: who left.
    """

    day: date
    signed_up: int
    left: int


@dataclass(frozen=True, slots=True, repr=False)
class Subscriber:
    """One line of a list. `address` is None where it was erased; `kind`: one of `KINDS`."""

    id: int
    address: str | None
    kind: str
    route: Route
    confirmed_at: datetime | None
    left_at: datetime | None


@dataclass(frozen=True, slots=True, repr=False)
class Membership:
    """One person on one list.

    Args:
        kind: one of `KINDS`. why_not: why no marketing of it may go there now, in a word; None where it may.
        record: of the consent in force, or of the last one. requested_at: of a sign-up that waits.
        agreed: the event that shows what was agreed to, the last of them; None where there is none of ours.
    """

    list: str
    kind: str
    route: Route
    proof: Mapping[str, str]
    why_not: str | None
    measuring: bool
    record: str | None
    confirmed_at: datetime | None
    valid_until: datetime | None
    left_at: datetime | None
    requested_at: datetime | None
    agreed: ConsentEvent | None


@dataclass(frozen=True, slots=True, repr=False)
class Happening:
    """Something that is on record about a person.

    Args:
        what: a state of an event of the evidence, `imported`, or `afgemeld`.
        list: which one; empty for all. how: the control that was used, or the channel.
        event: of the evidence, where it is one.
    """

    at: datetime
    what: str
    list: str
    how: str
    event: ConsentEvent | None = None


@dataclass(frozen=True, slots=True, repr=False)
class Person:
    """All that is kept about one mailbox. `suppressed`: its rows of afgemeld; `history`: the oldest first."""

    id: int
    digest: bytes
    key_id: str
    address: str | None
    language: str
    fields: Mapping[str, str]
    created_at: datetime
    erased_at: datetime | None
    lists: Sequence[Membership]
    suppressed: Sequence[Suppression]
    history: Sequence[Happening]


class Overview:
    """Reads for the console. Everything blocks.

    Args:
        store, evidence, afgemeld: the rooms below. pupils: the lists that never carry a mailing.
        record_of: the id of the record that a request gives for a list. clock: tells the time, aware.
    """

    def __init__(
        self,
        store: Store,
        evidence: Evidence,
        afgemeld: Afgemeld,
        *,
        pupils: frozenset[str],
        record_of: Callable[[str, str], str],
        clock: Callable[[], datetime],
    ) -> None:
        self._store = store
        self._evidence = evidence
        self._afgemeld = afgemeld
        self._pupils = pupils
        self._record_of = record_of
        self._now = clock

    # -- lists --------------------------------------------------------------------------------------------------

    def counts(self) -> Mapping[str, Mapping[str, int]]:
        """How many stand on each list, by `KINDS`. Reads every subscription."""
        row = subscriptions.c
        asked, ours = row.request_id.is_not(None), row.record_id.is_not(None)
        kind = case(
            (and_(row.state == State.ACTIVE.value, ours), "confirmed"),
            (row.state == State.ACTIVE.value, "proven"),
            (and_(row.state == State.PENDING.value, asked), "waiting"),
            (row.state == State.PENDING.value, "unproven"),
            else_=row.state,
        )
        query = select(row.list, kind.label("kind"), func.count()).group_by(row.list, kind)
        found: dict[str, dict[str, int]] = {}
        with self._store.told(), self._store.read() as connection:
            for list, kind_, count in connection.execute(query):
                found.setdefault(list, dict.fromkeys(KINDS, 0))[kind_] = count
        return found

    def course(self, list: str, days: Sequence[date]) -> Sequence[Day]:
        """How many signed up and left on each day (UTC). Reads every subscription of the list.

        Args:
            days: which ones, the first the oldest.
        """
        row, since = subscriptions.c, datetime.combine(days[0], time(), UTC)
        confirmed = and_(row.record_id.is_not(None), row.confirmed_at >= since)
        waits = and_(row.state == State.PENDING.value, row.request_id.is_not(None), row.requested_at >= since)
        left = and_(row.state.in_(sorted(LEFT)), row.left_at >= since)
        with self._store.told(), self._store.read() as connection:
            signed_up = _by_day(connection, list, row.confirmed_at, confirmed)
            signed_up += _by_day(connection, list, row.requested_at, waits)
            gone = _by_day(connection, list, row.left_at, left)
        return [Day(day, signed_up[day.isoformat()], gone[day.isoformat()]) for day in days]

    def page(
        self,
        list: str,
        *,
        state: State | None = None,
        before: int | None = None,
        after: int | None = None,
        oldest_first: bool = False,
        most: int,
    ) -> Sequence[Subscriber]:
        """Some subscribers of a list in the order of their numbers, the newest first unless told otherwise.

        Args:
            state: only these. before, after: only smaller, or greater numbers; those next to that number are given.
        """
        ascending = oldest_first if before is None and after is None else after is not None
        row = subscriptions.c
        with self._store.told(), self._store.read() as connection:
            ids = []
            for each in [state] if state else State:  # the index has the numbers in order within one state
                query = select(row.subscriber_id).where(row.list == list, row.state == each.value)
                if before is not None:
                    query = query.where(row.subscriber_id < before)
                if after is not None:
                    query = query.where(row.subscriber_id > after)
                query = query.order_by(row.subscriber_id if ascending else row.subscriber_id.desc()).limit(most)
                ids.append(connection.execute(query).scalars().all())
            wanted = [*islice(merge(*ids, reverse=not ascending), most)]
            found = _subscribers(connection, list, wanted)
        shown = [found[id] for id in wanted if id in found]
        return shown if ascending == oldest_first else shown[::-1]

    # -- one person ---------------------------------------------------------------------------------------------

    def find(self, address: str) -> tuple[bytes, int | None]:
        """The keyed digest of an address, and the number of who has it; None where nobody has.

        Raises:
            AddressError: it is no address. AfgemeldUnavailable: there is no key.
        """
        digests = self._afgemeld.keys.digests(address)
        with self._store.told(), self._store.read() as connection:
            person = people.find(connection, digests)
        return (digests[0], None) if person is None else (bytes(person.digest), int(person.id))

    def digest(self, id: int) -> bytes | None:
        """The keyed digest of a subscriber; None where there is none with this number."""
        with self._store.told(), self._store.read() as connection:
            found = connection.execute(select(subscribers.c.digest).where(subscribers.c.id == id)).scalar()
        return None if found is None else bytes(found)

    def person(self, id: int) -> Person | None:
        """All that is kept about one subscriber; None where there is none with this number.

        Raises:
            AfgemeldUnavailable: there is no key, or another one than the table was made with.
        """
        self._afgemeld.open()
        with self._store.told(), self._store.read() as connection:
            row = connection.execute(select(subscribers).where(subscribers.c.id == id)).first()
            if row is None:
                return None
            rows = people.rows_of(connection, id)
            suppressed = self._afgemeld.rows(connection, people.digests_of(connection, self._afgemeld.keys, row))
        records = {one.list: self._events(one) for one in rows}
        return Person(
            id, bytes(row.digest), row.key_id, row.address, row.language, json.loads(row.fields), row.created_at,
            row.erased_at,
            [self._membership(one, suppressed, records[one.list]) for one in rows],
            [one for one in suppressed if not one.is_exception],
            _history(rows, suppressed, records),
        )  # fmt: skip

    def why_not(self, row: Row[Any] | None, list: str, suppressed: Sequence[Suppression]) -> str | None:
        """Why a marketing message of a list may not go to somebody, in one word; None where it may.

        Args:
            row: the subscription; None where there is none. suppressed: every row of afgemeld about the person.
        """
        scopes = covering(list)
        if forbidding(one for one in suppressed if one.scope in scopes):
            return "afgemeld"
        return why_not(None if row is None else people.standing(row), self._now(), pupils=list in self._pupils)

    def _events(self, row: Row[Any]) -> Sequence[ConsentEvent]:
        """The events of a subscription: of its record, and of the request that waits."""
        waiting = self._record_of(row.request_id, row.list) if row.request_id else None
        records = dict.fromkeys(record for record in (row.record_id, waiting) if record)
        return [event for record in records for event in self._evidence.history(record)]

    def _membership(
        self, row: Row[Any], suppressed: Sequence[Suppression], events: Sequence[ConsentEvent]
    ) -> Membership:
        shown = [event for event in events if event.state in _GRANTS] or events
        return Membership(
            row.list, _kind(row), Route(row.route), json.loads(row.proof),
            self.why_not(row, row.list, suppressed), bool(row.measuring), row.record_id, row.confirmed_at,
            row.valid_until, row.left_at, row.requested_at, shown[-1] if shown else None,
        )  # fmt: skip


def _by_day(connection: Connection, list: str, at: ColumnElement[Any], condition: ColumnElement[bool]) -> Counter[str]:
    if connection.dialect.name == "postgresql":
        day: ColumnElement[Any] = func.to_char(func.timezone("UTC", at), "YYYY-MM-DD")
    else:
        day = func.substr(at, 1, 10)
    query = select(day.label("day"), func.count()).where(subscriptions.c.list == list, condition).group_by("day")
    return Counter({str(on): int(count) for on, count in connection.execute(query)})


def _subscribers(connection: Connection, list: str, ids: Sequence[int]) -> Mapping[int, Subscriber]:
    row = subscriptions.c
    query = select(
        row.subscriber_id, subscribers.c.address, row.state, row.route, row.request_id, row.record_id,
        row.confirmed_at, row.left_at,
    ).where(row.subscriber_id == subscribers.c.id, row.list == list, subscribers.c.id.in_(ids))  # fmt: skip
    return {
        one.subscriber_id: Subscriber(
            one.subscriber_id, one.address, _kind(one), Route(one.route), one.confirmed_at, one.left_at
        )
        for one in connection.execute(query)
    }


def _kind(row: Any) -> str:
    if row.state == State.ACTIVE:
        return "confirmed" if row.record_id else "proven"
    if row.state == State.PENDING:
        return "waiting" if row.request_id else "unproven"
    return str(row.state)


def _history(
    rows: Sequence[Row[Any]], suppressed: Sequence[Suppression], records: Mapping[str, Sequence[ConsentEvent]]
) -> Sequence[Happening]:
    found = []
    for row in rows:
        found += [Happening(one.at, one.state, row.list, one.method, one) for one in records[row.list]]
        if imported := json.loads(row.proof).get("imported_at"):
            found.append(Happening(datetime.fromisoformat(imported), "imported", row.list, row.route))
    for one in suppressed:
        if not one.is_exception:
            found.append(Happening(one.at, "afgemeld", one.scope, one.channel))
    return sorted(found, key=lambda one: one.at)
