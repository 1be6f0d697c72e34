"""Reading the evidence back: histories, notices, counters, exports, and the check of the chains."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from hashlib import sha256
from typing import Any, Final

from sqlalchemy import Row, Select, exists, select, type_coerce
from sqlalchemy.engine import Connection
from sqlalchemy.types import NULLTYPE

from consentkit.evidence.event import SCHEMA, SHOWN_STATE, ConsentEvent, Notice, link, stamp
from consentkit.evidence.rates import SLACK, bounds, first_since
from consentkit.evidence.tables import counts, events, heads, notices
from consentkit.store import Store

_AT_ONCE: Final = 1000
_PROBLEMS_TOLD: Final = 100


@dataclass(frozen=True, slots=True)
class Count:
    """How many took one decision on one day, having seen one notice."""

    site: str
    day: date
    decision: str
    notice_hash: str
    total: int


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is not as it was written. `seq` is the event's number in its site, where there is one."""

    site: str
    seq: int | None
    text: str

    def __str__(self) -> str:
        return f"{self.site}: {self.text}" if self.site else self.text


@dataclass(frozen=True, slots=True)
class Report:
    """What a check of the chains found.

    Args:
        events: how many were read.
        notices: how many were read.
        heads: per site the end of its chain as `number:hash`; note it elsewhere, and give it back as `anchor`.
        problems: the first hundred.
        found: how many there are.
        remarks: what could not be decided, and why.
    """

    events: int
    notices: int
    heads: Mapping[str, str]
    problems: tuple[Problem, ...]
    found: int
    remarks: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether everything is as it was written."""
        return self.found == 0

    def __str__(self) -> str:
        lines = [f"{self.events} events and {self.notices} notices read in {len(self.heads)} chain(s)"]
        lines += [f"{site} ends at {head}" for site, head in self.heads.items()]
        lines += [str(problem) for problem in self.problems]
        if self.found > len(self.problems):
            lines.append(f"and {self.found - len(self.problems)} more")
        lines += self.remarks
        lines.append("everything is as it was written" if self.ok else f"{self.found} problem(s) found")
        return "\n".join(lines)


def history(store: Store, record_id: str) -> list[ConsentEvent]:
    """The events of a record, in the order of the chain."""
    query = select(events).where(events.c.record_id == record_id).order_by(events.c.site, events.c.seq)
    with store.read() as connection:
        return [event_of(row) for row in connection.execute(query)]


def last_decision(connection: Connection, record_id: str) -> ConsentEvent | None:
    """The newest event of a record that decided something, in the caller's transaction."""
    query = select(events).where(events.c.record_id == record_id, events.c.state != SHOWN_STATE)
    row = connection.execute(query.order_by(events.c.seq.desc()).limit(1)).first()
    return None if row is None else event_of(row)


def decision_before(connection: Connection, event: ConsentEvent, seq: int) -> ConsentEvent | None:
    """The decision of the same record that came before this event, which stands at `seq`."""
    of_record = select(events).where(events.c.record_id == event.record_id, events.c.site == event.site)
    earlier = of_record.where(events.c.seq < seq, events.c.state != SHOWN_STATE)
    row = connection.execute(earlier.order_by(events.c.seq.desc()).limit(1)).first()
    return None if row is None else event_of(row)


def spent(connection: Connection, nonces: Sequence[str]) -> bool:
    """Whether one of these nonces was spent by an event."""
    return bool(connection.execute(select(exists().where(events.c.nonce.in_(nonces)))).scalar())


def notice(store: Store, digest: str) -> Notice | None:
    """The notice of that hash, byte for byte as it was shown, or `None`."""
    with store.read() as connection:
        body = connection.execute(select(notices.c.body).where(notices.c.hash == digest)).scalar()
    return None if body is None else Notice.load(body.encode())


def counted(store: Store, site: str | None = None) -> list[Count]:
    """The daily counters, oldest first."""
    query = select(counts).order_by(counts.c.day, counts.c.site, counts.c.decision, counts.c.notice_hash)
    if site is not None:
        query = query.where(counts.c.site == site)
    with store.read() as connection:
        return [Count(**row._mapping) for row in connection.execute(query)]


def export(
    store: Store, since: datetime | None = None, until: datetime | None = None, *, site: str | None = None
) -> Iterator[dict[str, Any]]:
    """The events from `since` up to, not including, `until`, each as `event.schema.json` describes it; streamed."""
    query = select(events).order_by(events.c.site, events.c.seq)
    if site is not None:
        query = query.where(events.c.site == site)
    if since is not None:
        query = query.where(events.c.at >= since)
    if until is not None:
        query = query.where(events.c.at < until)
    versions: dict[str, str] = {}
    with store.read() as connection:
        for row in _stream(connection, query):
            yield _exported(row, _version(connection, row.notice_hash, versions))


def pages(
    store: Store, since: datetime, until: datetime, *, sites: Sequence[str], most: int = _AT_ONCE
) -> Iterator[list[dict[str, Any]]]:
    """The same for some chains in a period, a page at a time: between two pages nothing of the database is held."""
    versions: dict[str, str] = {}
    for site in sites:
        with store.read() as connection:
            first, last = bounds(connection, site)
            at = first_since(connection, site, since - SLACK, first=first, last=last)
            last = first_since(connection, site, until + SLACK, first=at, last=last) - 1
        while at <= last:
            high = min(at + most - 1, last)
            row = events.c
            query = select(events).where(row.site == site, row.seq.between(at, high), row.at >= since, row.at < until)
            with store.read() as connection:
                found = [
                    _exported(each, _version(connection, each.notice_hash, versions))
                    for each in connection.execute(query.order_by(row.seq))
                ]
            if found:
                yield found
            at = high + 1


def proof(store: Store, record_id: str) -> list[dict[str, Any]]:
    """The events of one record as `export` gives them, in the order of the chain."""
    query = select(events).where(events.c.record_id == record_id).order_by(events.c.site, events.c.seq)
    versions: dict[str, str] = {}
    with store.read() as connection:
        return [
            _exported(row, _version(connection, row.notice_hash, versions)) for row in connection.execute(query).all()
        ]


def _version(connection: Connection, digest: str, known: dict[str, str]) -> str:
    if digest not in known:
        body = connection.execute(select(notices.c.body).where(notices.c.hash == digest)).scalar()
        known[digest] = "" if body is None else json.loads(body).get("version", "")
    return known[digest]


def _exported(row: Row[Any], version: str) -> dict[str, Any]:
    return {
        "schema": SCHEMA,
        "site": row.site,
        "seq": row.seq,
        "event_id": row.event_id,
        "record_id": row.record_id,
        "state": row.state,
        "at": stamp(row.at),
        "purposes": json.loads(row.purposes),
        "notice_hash": row.notice_hash,
        "notice_version": version,
        "language": row.language,
        "ui_build": row.ui_build,
        "method": row.method,
        "policy": row.policy,
        "valid_until": None if row.valid_until is None else stamp(row.valid_until),
        "controller": row.controller,
        "nonce": row.nonce,
        "hash": row.hash,
    }


def event_of(row: Row[Any]) -> ConsentEvent:
    """The event that a row holds."""
    values = {name: getattr(row, name) for name in ConsentEvent.__dataclass_fields__}
    return ConsentEvent(**{**values, "purposes": json.loads(row.purposes)})


def verify(
    store: Store,
    site: str | None = None,
    *,
    anchor: str | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Report:
    """Read every chain from its start and compare each event, link, head and notice with its hash.

    Args:
        store: the database.
        site: only this one's chain.
        anchor: the end of a chain as an earlier report gave it (`number:hash`, or the hash alone): it must still be
            in a chain. Without one, a chain that was cut and given a matching head can't be told from a shorter one.
        progress: told now and then how many events were read, and of how many.
    """
    check = _Check()
    with store.read() as connection:
        query = select(heads).order_by(heads.c.site)
        ends = connection.execute(query if site is None else query.where(heads.c.site == site)).all()
        if progress is not None:
            check.tell(progress, sum(head.seq - head.base_seq for head in ends))
        for head in ends:
            _check_chain(connection, head, check, anchor)
        _check_headless(connection, site, check)
        _check_notices(connection, check)
    if anchor is not None:
        check.compare_anchor(anchor, site)
    return Report(check.events, check.notices, check.heads, tuple(check.told), check.found, tuple(check.remarks))


@dataclass(slots=True)
class _Check:
    events: int = 0
    notices: int = 0
    found: int = 0
    anchored: bool = False
    heads: dict[str, str] = field(default_factory=dict)
    bases: list[int] = field(default_factory=list)
    told: list[Problem] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)
    read: Callable[[], None] = lambda: None

    def tell(self, progress: Callable[[int, int], None], total: int) -> None:
        def read() -> None:
            if self.events % _AT_ONCE == 0:
                progress(self.events, max(total, self.events))

        self.read = read

    def problem(self, site: str, seq: int | None, text: str) -> None:
        self.found += 1
        if len(self.told) < _PROBLEMS_TOLD:
            self.told.append(Problem(site, seq, text))

    def compare_anchor(self, anchor: str, site: str | None) -> None:
        number, _, _ = anchor.rpartition(":")
        if self.anchored:
            return
        if number.isdecimal() and self.bases and int(number) < max(self.bases):
            self.remarks.append(f"the noted end {anchor} is older than what retention left: it can't be checked")
            return
        seq = int(number) if number.isdecimal() else None
        self.problem(site or "", seq, f"the noted end {anchor} is in no chain: events were replaced or cut off")


def _check_chain(connection: Connection, head: Row[Any], check: _Check, anchor: str | None) -> None:
    site, expected, previous = head.site, head.base_seq + 1, head.base_hash
    noted = _noted(anchor)
    check.bases.append(head.base_seq)
    check.heads[site] = f"{head.seq}:{head.hash}"
    check.anchored |= noted in {(head.base_hash, head.base_seq), (head.base_hash, None)}
    query = _as_stored(connection).where(events.c.site == site).order_by(events.c.seq)
    for row in _stream(connection, query):
        check.events += 1
        check.read()
        if not isinstance(row.seq, int):
            check.problem(site, None, f"an event has the number {row.seq!r}, which is none")
            continue
        if row.seq > expected:
            check.problem(site, expected, _missing(expected, row.seq - 1))
        elif row.seq < expected:
            check.problem(site, row.seq, f"event {row.seq} stands where none should be")
        if not _matches(row, previous):
            check.problem(site, row.seq, f"event {row.seq} is not what was written, or does not follow the one before")
        check.anchored |= noted in {(row.hash, row.seq), (row.hash, None)}
        expected, previous = max(expected, row.seq + 1), row.hash
    if expected - 1 < head.seq:
        check.problem(site, expected, "at the end of the chain, " + _missing(expected, head.seq))
    elif expected - 1 > head.seq:
        check.problem(site, head.seq + 1, f"events {head.seq + 1} to {expected - 1} stand behind the end of the chain")
    elif previous != head.hash:
        check.problem(site, head.seq, f"the chain does not end as was noted at event {head.seq}")


def _noted(anchor: str | None) -> tuple[str, int | None]:
    if anchor is None:
        return "", None
    number, _, digest = anchor.rpartition(":")
    return digest, int(number) if number.isdecimal() else None


def _as_stored(connection: Connection) -> Any:
    """The events as they stand in the file: on SQLite a forger can put anything into any column."""
    if connection.dialect.name != "sqlite":
        return select(events)
    return select(*(type_coerce(column, NULLTYPE).label(column.name) for column in events.c))


def _moment(value: Any) -> Any:
    return stamp(value) if isinstance(value, datetime) else value


def _matches(row: Row[Any], previous: str) -> bool:
    fields = {
        "schema": SCHEMA,
        "event_id": row.event_id,
        "site": row.site,
        "record_id": row.record_id,
        "state": row.state,
        "at": _moment(row.at),
        "purposes": row.purposes,
        "notice_hash": row.notice_hash,
        "language": row.language,
        "ui_build": row.ui_build,
        "method": row.method,
        "policy": row.policy,
        "valid_until": _moment(row.valid_until),
        "controller": row.controller,
        "nonce": row.nonce,
    }
    try:
        matches: bool = link(previous, row.seq, fields) == row.hash
    except (TypeError, ValueError):  # what has no spelling was never written by us
        return False
    return matches


def _missing(first: int, last: int) -> str:
    return f"event {first} is missing" if first == last else f"events {first} to {last} are missing"


def _check_headless(connection: Connection, site: str | None, check: _Check) -> None:
    """Events whose site has no head at all."""
    query = select(events.c.site).distinct().where(~exists().where(heads.c.site == events.c.site))
    for lost in connection.execute(query if site is None else query.where(events.c.site == site)).scalars():
        check.problem(lost, None, "there are events, but nothing says where the chain begins and ends")


def _check_notices(connection: Connection, check: _Check) -> None:
    for row in _stream(connection, select(notices)):
        check.notices += 1
        if not isinstance(row.body, str) or sha256(row.body.encode()).hexdigest() != row.hash:
            check.problem("", None, f"notice {row.hash} is not what was shown: its text has another hash")
    query = select(events.c.notice_hash).distinct().where(~exists().where(notices.c.hash == events.c.notice_hash))
    for digest in connection.execute(query).scalars():
        check.problem("", None, f"notice {digest} is missing")


def _stream(connection: Connection, query: Select[Any]) -> Iterator[Row[Any]]:
    with connection.execute(query, execution_options={"yield_per": _AT_ONCE}) as result:
        yield from result
