"""How long evidence is kept, and what ends it: expiry of consents, and the deletion of what is over its period."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta
from typing import Any, Final

from sqlalchemy import ColumnElement, Select, and_, delete, exists, false, func, or_, select, update
from sqlalchemy.engine import Connection
from sqlalchemy.exc import IntegrityError

from consentkit.evidence.event import SHOWN_STATE, VALID_STATES, ConsentEvent, check_period, new_id
from consentkit.evidence.ledger import Entry, append
from consentkit.evidence.records import event_of
from consentkit.evidence.tables import counts, events, heads, journals, notices, retention
from consentkit.service import Text
from consentkit.store import Store

log = logging.getLogger("consentkit.evidence")

KEEP_EVENTS: Final = timedelta(days=365)
KEEP_COUNTS: Final = timedelta(days=760)
_AT_ONCE: Final = 2000


@dataclass(frozen=True, slots=True)
class Rule:
    """One class of data: how long it is kept, from when, and why (GDPR art. 5(1)(e), 13(2)(a)).

    `period` is `None` where something else ends it, which `starts` then says.
    """

    table: str
    period: timedelta | None
    starts: Text
    reason: Text


RULES: Final = (
    Rule(
        "consent_event",
        KEEP_EVENTS,
        {"nl": "het einde van de geldigheid", "en": "the end of validity"},
        {
            "nl": "aantonen dat toestemming is gegeven (AVG art. 7 lid 1 en 17 lid 3 onder e)",
            "en": "proving that consent was given (GDPR art. 7(1) and 17(3)(e))",
        },
    ),
    Rule(
        "notice",
        None,
        {"nl": "weg met het laatste bewijs dat ernaar verwijst", "en": "goes with the last record that refers to it"},
        {"nl": "laten zien wat gevraagd is", "en": "showing what was asked"},
    ),
    Rule(
        "consent_count",
        KEEP_COUNTS,
        {"nl": "de dag van de telling", "en": "the day that is counted"},
        {
            "nl": "zien of weigeren zo gemakkelijk is als toestemmen; aantallen, geen personen",
            "en": "seeing whether refusing is as easy as accepting; numbers, no persons",
        },
    ),
    Rule(
        "chain_head",
        None,
        {"nl": "weg met de site", "en": "goes with the site"},
        {"nl": "begin en einde van het logboek; geen persoonsgegevens", "en": "ends of the log; no personal data"},
    ),
    Rule(
        "journal",
        None,
        {"nl": "weg zodra de database alles heeft", "en": "goes as soon as the database has it all"},
        {"nl": "niets verliezen tijdens een storing", "en": "losing nothing while the database is away"},
    ),
    Rule(
        "retention",
        None,
        {"nl": "leeg buiten een opschoning", "en": "empty outside a purge"},
        {"nl": "verwijderen alleen na afloop van de termijn", "en": "deleting only what is over its period"},
    ),
)
"""One rule for each table of this room."""


@dataclass(frozen=True, slots=True)
class Purged:
    """How much went, or would go."""

    events: int
    notices: int
    counters: int


def expire(store: Store, now: datetime) -> int:
    """Append an `expired` event for every record whose consent ran out by `now`; returns how many. Idempotent."""
    total = 0
    while True:
        with store.begin() as connection:
            connection.execute(select(heads.c.site).order_by(heads.c.site).with_for_update()).all()
            over = [event_of(row) for row in connection.execute(_run_out(now))]
            append(connection, [Entry(_expired(event, now)) for event in over], known=set())
        total += len(over)
        if len(over) < _AT_ONCE:
            log.info("%d consents expired", total)
            return total


_later = events.alias()
_is_superseded = exists().where(
    _later.c.site == events.c.site,
    _later.c.record_id == events.c.record_id,
    _later.c.seq > events.c.seq,
    _later.c.state != SHOWN_STATE,
)
_granting = select(events).where(events.c.state.in_(sorted(VALID_STATES)), ~_is_superseded)


def _run_out(now: datetime) -> Select[Any]:
    return _granting.where(events.c.valid_until <= now).order_by(events.c.site, events.c.seq).limit(_AT_ONCE)


def _expired(event: ConsentEvent, now: datetime) -> ConsentEvent:
    denied = dict.fromkeys(event.purposes, False)
    return replace(event, state="expired", at=now, purposes=denied, method="expiry", nonce=None, event_id=new_id())


def purge(
    store: Store,
    now: datetime,
    *,
    keep: timedelta,
    keep_counts: timedelta,
    keep_in: Mapping[str, timedelta],
    dry_run: bool,
) -> Purged:
    """Delete what is over its period; the chains stay whole, since only their fronts are cut. Idempotent.

    An event is over when its validity (or, without one, its own moment) lies more than `keep` back, and it goes once
    everything before it in its site is over too. A notice goes with the last event and counter that name it.

    Args:
        store: the database.
        now: an aware moment.
        keep: for events.
        keep_counts: for the daily counters of refusals.
        keep_in: for events of some scopes instead.
        dry_run: only count.

    Raises:
        ValueError: a period is nothing or longer than ten years.
    """
    for period in (keep, keep_counts, *keep_in.values()):
        check_period(period)
    last_day = (now - keep_counts).date()
    limits = {site: now - period for site, period in keep_in.items()}
    if dry_run:
        return _would_purge(store, now - keep, limits, last_day)
    with store.read() as connection:
        sites = connection.execute(select(heads.c.site).order_by(heads.c.site)).scalars().all()
    cut = sum(_cut_front(store, site, limits.get(site, now - keep)) for site in sites)
    with store.begin() as connection:
        counters = connection.execute(delete(counts).where(counts.c.day < last_day)).rowcount
        connection.execute(delete(journals).where(journals.c.at < now - keep))
    purged = Purged(cut, _drop_orphans(store), counters)
    log.info("purged %d events, %d notices, %d counters", purged.events, purged.notices, purged.counters)
    return purged


def _kept(limit: datetime) -> ColumnElement[bool]:
    """Events that are not over yet."""
    unlimited = events.c.valid_until.is_(None)
    return or_(events.c.valid_until > limit, and_(unlimited, events.c.at > limit))


def _end_of_front(connection: Connection, site: str, last: int, limit: datetime) -> int:
    """The number of the last event before the first that is to be kept."""
    query = select(events.c.seq).where(events.c.site == site, _kept(limit)).order_by(events.c.seq).limit(1)
    first_kept = connection.execute(query).scalar()
    return last if first_kept is None else int(first_kept) - 1


def _cut_front(store: Store, site: str, limit: datetime) -> int:
    """Delete a site's front in pieces that hold no lock for long."""
    total = 0
    while True:
        with store.begin() as connection:
            head = connection.execute(select(heads).where(heads.c.site == site).with_for_update()).one()
            end = min(_end_of_front(connection, site, head.seq, limit), head.base_seq + _AT_ONCE)
            if end <= head.base_seq:
                return total
            total += _delete_up_to(connection, site, end)


def _delete_up_to(connection: Connection, site: str, end: int) -> int:
    front = (events.c.site == site, events.c.seq <= end)
    last = connection.execute(select(events.c.hash).where(*front).order_by(events.c.seq.desc()).limit(1)).scalar()
    _allow(connection, site, end)
    deleted = connection.execute(delete(events).where(*front)).rowcount
    _disallow(connection)
    base = {"base_seq": end} if last is None else {"base_seq": end, "base_hash": last}
    connection.execute(update(heads).where(heads.c.site == site).values(base))
    return int(deleted)


def _drop_orphans(store: Store) -> int:
    try:
        with store.begin() as connection:
            _allow(connection, "", 0)
            named = or_(
                exists().where(events.c.notice_hash == notices.c.hash),
                exists().where(counts.c.notice_hash == notices.c.hash),
            )
            deleted = connection.execute(delete(notices).where(~named)).rowcount
            _disallow(connection)
    except IntegrityError:
        return 0  # one of them was just shown again; the next purge looks anew
    return int(deleted)


def _allow(connection: Connection, site: str, seq: int) -> None:
    """Let the triggers pass deletions up to here, in this transaction: nobody else sees the row."""
    connection.execute(retention.insert().values(site=site, seq=seq))


def _disallow(connection: Connection) -> None:
    connection.execute(delete(retention))


def _would_purge(store: Store, limit: datetime, limits: Mapping[str, datetime], last_day: date) -> Purged:
    with store.read() as connection:
        fronts = {
            head.site: _end_of_front(connection, head.site, head.seq, limits.get(head.site, limit))
            for head in connection.execute(select(heads)).all()
        }
        gone = or_(*[and_(events.c.site == site, events.c.seq <= end) for site, end in fronts.items()], false())
        cut = connection.execute(select(func.count()).select_from(events).where(gone)).scalar_one()
        counters = connection.execute(
            select(func.count()).select_from(counts).where(counts.c.day < last_day)
        ).scalar_one()
        named = or_(
            exists().where(events.c.notice_hash == notices.c.hash, ~gone),
            exists().where(counts.c.notice_hash == notices.c.hash, counts.c.day >= last_day),
        )
        orphans = connection.execute(select(func.count()).select_from(notices).where(~named)).scalar_one()
    return Purged(int(cut), int(orphans), int(counters))
