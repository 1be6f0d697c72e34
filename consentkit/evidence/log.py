"""The evidence as others use it: record, count, look back, check, keep no longer than needed."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any, Final

from sqlalchemy.engine import Connection

from consentkit.errors import NoticeSpent
from consentkit.evidence import records, retention
from consentkit.evidence.event import SHOWN_STATE, VALID_STATES, ConsentEvent, Durability, Notice, Refusal, new_id
from consentkit.evidence.journal import Journal
from consentkit.evidence.ledger import Entry, TakenBack, append
from consentkit.evidence.rates import Answered, RateBook, Rates
from consentkit.evidence.records import Count, Report
from consentkit.evidence.retention import KEEP_COUNTS, KEEP_EVENTS, Purged
from consentkit.evidence.writer import Replayed, Writer
from consentkit.store import Store

_NOTICES: Final = 256


class Evidence:
    """The log of consent. Needs no start: the writer's thread comes with the first event.

    What is coroutine here may be awaited on any asyncio loop, on several at once. The rest blocks: call it from a
    command, or in a thread.

    Args:
        store: the database.
        journal: a directory on the local disk for events while the database is away.
        patience: seconds that `record` and `count` wait for the database before they use the journal.
        retry: seconds between two tries to reach a database that is away.
    """

    def __init__(self, store: Store, *, journal: Path, patience: float = 2.0, retry: float = 3.0) -> None:
        self._store = store
        self._writer = Writer(store, Journal(journal), patience=patience, retry=retry)
        self._genuine: dict[str, Notice] = {}
        self._book = RateBook(store)

    def on_taken_back(self, call: TakenBack) -> None:
        """Have `call` told, in the transaction that writes an answer, which purposes it takes back that were granted.

        Args:
            call: gets the transaction, the event and the purposes; what it writes is as durable as the event, also
                where that had to wait in the journal.
        """
        self._writer.taken_back = call

    async def record(self, event: ConsentEvent, notice: Notice) -> Durability:
        """Store the event, and the notice if it is new; returns once it is on disk.

        Raises:
            ValueError: a field is missing, or the notice is not the one that the event names; nothing is stored.
            NoticeSpent: the event's nonce was used before.
            EvidenceUnavailable: neither database nor journal could keep it: do not take the choice.
        """
        return await self._writer.write(self._event_entry(event, notice))

    def record_sync(self, event: ConsentEvent, notice: Notice) -> Durability:
        """As `record`, without an event loop."""
        return self._writer.write_sync(self._event_entry(event, notice))

    def append(self, connection: Connection, event: ConsentEvent, notice: Notice) -> None:
        """Store the event in the caller's transaction, for what must be true together or not at all.

        Args:
            connection: a write transaction of `Store.begin`.

        Raises:
            ValueError, NoticeSpent: as for `record`.
        """
        if not append(connection, [self._event_entry(event, notice)], known=set())[0]:
            raise NoticeSpent

    def end(self, connection: Connection, record_id: str, *, at: datetime, method: str, state: str) -> bool:
        """End what a record grants, in the caller's transaction; whether there was anything to end.

        Args:
            state: `withdrawn` by the person, `terminated` where the person's data are erased.
        """
        last = records.last_decision(connection, record_id)
        if last is None or last.state not in VALID_STATES:
            return False
        denied = dict.fromkeys(last.purposes, False)
        ended = replace(last, state=state, at=at, purposes=denied, method=method, nonce=None, event_id=new_id())
        ended = replace(ended, valid_until=at)
        ended.check()
        append(connection, [Entry(ended)], known=set())
        return True

    def change(
        self, connection: Connection, record_id: str, taken_back: Collection[str], *, at: datetime, method: str
    ) -> bool:
        """Take back some purposes of a record and leave the rest, in the caller's transaction.

        Args:
            taken_back: the purposes that are denied from now on.
        """
        last = records.last_decision(connection, record_id)
        if last is None or last.state not in VALID_STATES:
            return False
        purposes = {name: granted and name not in taken_back for name, granted in last.purposes.items()}
        if not any(purposes.values()):
            return self.end(connection, record_id, at=at, method=method, state="withdrawn")
        fewer = replace(last, state="given", at=at, purposes=purposes, method=method, nonce=secrets.token_hex(16))
        fewer = replace(fewer, event_id=new_id())
        fewer.check()
        append(connection, [Entry(fewer)], known=set())
        return True

    def spent(self, connection: Connection, nonces: Sequence[str]) -> bool:
        """Whether an event answered with one of these nonces, in the caller's transaction."""
        return records.spent(connection, nonces)

    async def count(
        self,
        site: str,
        at: datetime,
        decision: str,
        notice_hash: str,
        nonce: str | None,
        *,
        notice: Notice | None = None,
    ) -> Durability:
        """Count a refusal on its day (UTC). Nothing of the visitor is stored, the nonce neither.

        Args:
            site: the scope.
            at: the server's time, aware.
            decision: the control that was used, for example `banner.refuse`.
            notice_hash: the notice that was answered.
            nonce: the notice token's random; this process remembers the newest 65,536.
            notice: kept with the counter, where given.

        Raises:
            ValueError, NoticeSpent, EvidenceUnavailable: as for `record`.
        """
        if at.utcoffset() is None:
            raise ValueError(f"{at!r} has no time zone: give an aware datetime")
        refusal = Refusal(site, at.astimezone(UTC).date(), decision, notice_hash, nonce)
        refusal.check()
        if notice is not None:
            if notice.hash != notice_hash:
                raise ValueError("the notice is not the one that was refused")
            self._check_genuine(notice)
        return await self._writer.write(Entry(refusal, notice))

    async def notice_shown(
        self,
        notice: Notice,
        *,
        site: str,
        record_id: str,
        at: datetime,
        purposes: Iterable[str],
        ui_build: str,
        policy: str,
        controller: str,
        method: str = "notice.shown",
    ) -> Durability:
        """Store that a notice was shown, for example before a log-in: state `requested`, never a consent.

        Raises:
            ValueError, EvidenceUnavailable: as for `record`.
        """
        event = ConsentEvent(
            site=site,
            record_id=record_id,
            state=SHOWN_STATE,
            at=at,
            purposes=dict.fromkeys(purposes, False),
            notice_hash=notice.hash,
            language=notice.language,
            ui_build=ui_build,
            method=method,
            policy=policy,
            valid_until=None,
            controller=controller,
            nonce=None,
        )
        return await self.record(event, notice)

    def notice(self, digest: str) -> Notice | None:
        """The notice of that hash, byte for byte as it was shown, or `None`."""
        return records.notice(self._store, digest)

    def history(self, record_id: str) -> list[ConsentEvent]:
        """The events of a record, oldest first; `was_valid` reads them."""
        return records.history(self._store, record_id)

    def counts(self, site: str | None = None) -> list[Count]:
        """The daily counters of refusals, oldest first."""
        return records.counted(self._store, site)

    def export(
        self, since: datetime | None = None, until: datetime | None = None, *, site: str | None = None
    ) -> Iterator[dict[str, Any]]:
        """The events from `since` up to, not including, `until`, each as `event.schema.json` describes it; streamed."""
        return records.export(self._store, since, until, site=site)

    def pages(self, since: datetime, until: datetime, *, sites: Sequence[str]) -> Iterator[list[dict[str, Any]]]:
        """The same of some scopes, a page at a time, for whoever is slow: between two of them nothing is held."""
        return records.pages(self._store, since, until, sites=sites)

    def proof(self, record_id: str) -> list[dict[str, Any]]:
        """The events of one record, each as `export` gives it, in the order of the chain."""
        return records.proof(self._store, record_id)

    def rates(self, site: str, since: date, until: date) -> Rates:
        """What was given, refused and withdrawn per purpose from `since` to `until`, both included.

        May take long the first time; then it reads only what is new.
        """
        return self._book.rates(site, since, until)

    def answered(self, site: str) -> list[Answered]:
        """Every notice that was answered in this scope, with the days; the one answered last first. As slow as that."""
        return self._book.answered(site)

    def verify(
        self,
        site: str | None = None,
        *,
        anchor: str | None = None,
        progress: Callable[[int, int], None] | None = None,
    ) -> Report:
        """Check every chain, or one site's; with `anchor`, also that an end noted earlier is still in it."""
        return records.verify(self._store, site, anchor=anchor, progress=progress)

    def expire(self, now: datetime) -> int:
        """Append an `expired` event for every record whose consent ran out by `now`; returns how many."""
        with self._store.told():
            return retention.expire(self._store, now)

    def purge(
        self,
        now: datetime,
        *,
        keep: timedelta = KEEP_EVENTS,
        keep_counts: timedelta = KEEP_COUNTS,
        keep_in: Mapping[str, timedelta] | None = None,
        dry_run: bool = False,
    ) -> Purged:
        """Delete what is over its period, from the fronts of the chains; `dry_run` only counts.

        Args:
            keep_in: another period than `keep` for some scopes, such as a site's newsletter.

        Raises:
            ValueError: a period is nothing or longer than ten years.
        """
        with self._store.told():
            return retention.purge(
                self._store, now, keep=keep, keep_counts=keep_counts, keep_in=keep_in or {}, dry_run=dry_run
            )

    def replay(self) -> Replayed:
        """Put the journals of this process and of dead ones into the database now; the writer does so by itself."""
        return self._writer.replay()

    @property
    def journal_waiting(self) -> bool:
        """Whether events of this process still wait in the journal for the database."""
        return self._writer.waiting

    def start(self) -> None:
        """Start the writer before its first event, so that journals of a dead process are put back at once."""
        self._writer.start()

    def close(self) -> None:
        """Write what waits and end the thread. A later event starts it again."""
        self._writer.close()

    def _event_entry(self, event: ConsentEvent, notice: Notice) -> Entry:
        event.check()
        if notice.hash != event.notice_hash or notice.language != event.language:
            raise ValueError("the notice is not the one that the event names, or in another language")
        self._check_genuine(notice)
        return Entry(event, notice)

    def _check_genuine(self, notice: Notice) -> None:
        """Check a notice once: hashing a page's texts for every visitor would cost more than writing the event."""
        if self._genuine.get(notice.hash) == notice:
            return
        notice.check()
        if len(self._genuine) >= _NOTICES:
            self._genuine.clear()
        self._genuine[notice.hash] = notice
