"""The log of the console: each act, and each reading of a person's data; append-only, held by the database.

It names who did what, about what, and of whom by a keyed digest: no address stands in it (GDPR art. 5(1)(c)). What
can't be logged does not happen: the caller notes first and shows afterwards (checklist SEC-06).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from sqlalchemy import delete, func, select
from sqlalchemy.engine import Connection

from consentkit.staff.tables import cuts, log
from consentkit.store import Store

PAGE: Final = 50


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of the log. `act` is a word such as `person.read`; `about` what it was done to, such as `mailing 3`."""

    id: int
    at: datetime
    staff: str
    act: str
    about: str


@dataclass(frozen=True, slots=True)
class Known:
    """What a log can be filtered by: names of staff, and acts."""

    staff: Sequence[str]
    acts: Sequence[str]


class StaffLog:
    """Writes and reads the log.

    Args:
        store: the database. clock: tells the time, aware.
    """

    def __init__(self, store: Store, clock: Callable[[], datetime]) -> None:
        self._store = store
        self._now = clock

    def note(
        self, staff: str, act: str, about: str = "", *, person: bytes | None = None, with_: Connection | None = None
    ) -> None:
        """Write one line.

        Args:
            staff: who. act: what, in a word that the texts know as `log.act_…`. about: of what; never an address.
            person: the keyed digest of whose data it is about.
            with_: the transaction it belongs to; else one of its own.

        Raises:
            DatabaseUnavailable: it could not be written; what it is about must not happen.
        """
        row = {"at": self._now(), "staff": staff, "act": act, "about": about, "person": person}
        if with_ is not None:
            with_.execute(log.insert().values(row))
            return
        with self._store.told(), self._store.begin() as connection:
            connection.execute(log.insert().values(row))

    def read(
        self,
        *,
        before: int | None = None,
        after: int | None = None,
        staff: str = "",
        act: str = "",
        persons: Sequence[bytes] = (),
        oldest_first: bool = False,
        most: int = PAGE,
    ) -> list[Entry]:
        """Lines, the newest first unless told otherwise.

        Args:
            before, after: only lines with a smaller or a greater number; the ones closest to it are given.
            staff, act: only by this person, only this act. persons: only about one of these digests.
        """
        row = log.c
        query = select(row.id, row.at, row.staff, row.act, row.about)
        if before is not None:
            query = query.where(row.id < before)
        if after is not None:
            query = query.where(row.id > after)
        if staff:
            query = query.where(row.staff == staff)
        if act:
            query = query.where(row.act == act)
        if persons:
            query = query.where(row.person.in_([*persons]))
        ascending = oldest_first if before is None and after is None else after is not None
        query = query.order_by(row.id if ascending else row.id.desc()).limit(most)
        with self._store.read() as connection:
            found = [Entry(*each) for each in connection.execute(query)]
        return found if ascending == oldest_first else found[::-1]

    def pages(self, *, staff: str = "", act: str = "", most: int = 1000) -> Iterator[list[Entry]]:
        """All lines, the newest first, a page at a time: between two pages nothing of the database is held."""
        before: int | None = None
        while page := self.read(before=before, staff=staff, act=act, most=most):
            yield page
            before = page[-1].id

    def known(self) -> Known:
        """Whose names and which acts there are in the log. Reads an index from end to end: it may take long."""
        with self._store.read() as connection:
            names = connection.execute(select(log.c.staff).distinct().order_by(log.c.staff)).scalars().all()
            acts = connection.execute(select(log.c.act).distinct().order_by(log.c.act)).scalars().all()
        return Known(names, acts)

    def last(self, act: str) -> Entry | None:
        """The newest line of an act."""
        return next(iter(self.read(act=act, most=1)), None)

    def purge(self, now: datetime, *, keep: timedelta, dry_run: bool = False) -> int:
        """Delete lines that are older than `keep`; how many went, or would go. Idempotent."""
        row = log.c
        with self._store.told(), self._store.begin() as connection:
            last = connection.execute(select(func.max(row.id)).where(row.at <= now - keep)).scalar()
            if last is None:
                return 0
            old = row.id <= last
            if dry_run:
                return int(connection.execute(select(func.count()).select_from(log).where(old)).scalar_one())
            connection.execute(cuts.insert().values(id=last))
            gone = connection.execute(delete(log).where(old)).rowcount
            connection.execute(delete(cuts))
        return gone
