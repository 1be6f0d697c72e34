"""The ledger of those who left: asked before everything that is sent, and left only by a new confirmed opt-in.

It knows keyed digests and no persons. Whoever can't ask it may not send: no key, a key that the table was not made
with, or a database that is away all raise `AfgemeldUnavailable`, while the site goes on.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import AsyncIterable, AsyncIterator, Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from datetime import datetime
from functools import partial
from itertools import chain, islice
from pathlib import Path
from typing import Any, Final
from uuid import uuid4

from anyio.to_thread import run_sync
from sqlalchemy import ColumnElement, and_, bindparam, delete, exists, func, or_, select
from sqlalchemy.engine import Connection
from sqlalchemy.exc import SQLAlchemyError

from consentkit.address import DIGEST_BYTES, HALF_BYTES, AddressKeys, canonical
from consentkit.afgemeld.entries import (
    LASTING,
    MAIL,
    MARKETING,
    OPT_IN,
    Reason,
    Suppression,
    covering,
    forbidding,
    list_scope,
    opt_in_scope,
    widest,
)
from consentkit.afgemeld.tables import afgemeld, key_checks, lifts
from consentkit.afgemeld.tombstones import Mark, TombstoneFile, Tombstones, added, erased, marked
from consentkit.errors import (
    AddressError,
    AfgemeldUnavailable,
    ConsentKitError,
    DatabaseUnavailable,
    SchemaOutdated,
)
from consentkit.store import Store, after_fork, insert_new

log = logging.getLogger("consentkit.afgemeld")

ASKED_AT_ONCE: Final = 200
"""How many addresses `sendable` asks about in one look at the table: the answer is that fresh."""

WRITTEN_AT_ONCE: Final = 2_000
_NO_KEYS = (
    "CONSENTKIT_AFGEMELD_KEYS is missing: without it nobody can tell who left, so nothing is sent. "
    "Put back the key that the table was made with; a new site gets one from `consentkit init`"
)

_SELECT: Final = "SELECT digest, scope, key_id, reason, channel, at, mailing FROM afgemeld WHERE "
"""A half sorts before every digest that begins with it: from the half to the whole finds both in one search."""
_HEADS: Final = "SELECT substr(digest, 1, 8) FROM afgemeld a WHERE digest > ? AND {} ORDER BY digest LIMIT 2000"
_ANYTHING: Final = "substr(scope, 1, 7) <> 'opt-in:'"
_ONE_LIST: Final = (
    "(scope IN ('mail', ?) OR (scope = 'marketing' AND NOT EXISTS "
    "(SELECT 1 FROM afgemeld o WHERE o.digest = a.digest AND o.scope = ?)))"
)

_AMONG: Final = select(afgemeld).where(
    afgemeld.c.digest.in_(bindparam("digests", expanding=True)),
    afgemeld.c.scope.in_(bindparam("scopes", expanding=True)),
)

CHECKED_FOR: Final = 5.0
"""Seconds after which keys and tombstones are compared again: a key may be new, a backup may have been put back."""

QUICK: Final = 2.0
"""A write that failed sooner is tried once more: two transactions may have stood in each other's way."""

Holder = Callable[[Connection, Sequence[Suppression]], None]
Follower = Callable[..., None]
Eraser = Callable[[Connection, bytes, datetime], None]
NewKey = Callable[[Connection], None]
Marker = Callable[[Connection, Sequence[Mark]], None]
_Waiting = tuple[Suppression, "Future[bool]"]


class Afgemeld:
    """Who may not be written to.

    What is coroutine here may be awaited on any asyncio loop. The rest blocks: call it from a command, or in a thread.

    Args:
        store: the database.
        keys: the afgemeld keys; None where there are none, and then everything raises `AfgemeldUnavailable`.
        tombstones: the file that lets no older backup undo a suppression.
        clock: tells the time, aware.
    """

    def __init__(
        self, store: Store, keys: AddressKeys | None, *, tombstones: Path, clock: Callable[[], datetime]
    ) -> None:
        self._store = store
        self._keys = keys
        self._tombstones = Tombstones(tombstones)
        self._now = clock
        self._good_until = 0.0
        self._file = ""
        self._fresh_locks()
        self._look_up = _SELECT + " OR ".join(["digest BETWEEN ? AND ?"] * len(keys.keys)) if keys else ""
        self.hold: Holder = lambda connection, new: None
        self.follow: Follower = lambda connection, new, replayed=False: None
        self.erase_again: Eraser = lambda connection, digest, at: None
        self.meet_key: NewKey = lambda connection: None
        self.compare: Marker = lambda connection, marks: None
        after_fork(self, "_fresh_locks")

    def _fresh_locks(self) -> None:
        self._preparing = threading.Lock()
        self._queueing = threading.Lock()
        self._writing = threading.Lock()
        self._queue: list[_Waiting] = []

    # -- asking -------------------------------------------------------------------------------------------------

    async def is_suppressed(self, address: str, *, list: str | None = None, service: bool = False) -> bool:
        """Whether a message may not go to `address`.

        Args:
            address: as somebody wrote it.
            list: the list it belongs to; None for marketing of no list.
            service: it is a service message, which only the scope of all mail forbids.

        Raises:
            AddressError: it is no address.
            AfgemeldUnavailable: the table can't be asked; then nothing may be sent.
        """
        return await asyncio.to_thread(self.look_up, address, list=list, service=service) is not None

    def sendable(
        self, addresses: Iterable[str] | AsyncIterable[str], *, list: str | None = None, service: bool = False
    ) -> Sendable:
        """Those of `addresses` that one may write to, in their order: an async iterator, also when awaited.

        What is no address is left out and counted, like what is suppressed: see `Sendable`. Each answer is as fresh
        as the last look at the table, 200 addresses at a time; ask `is_suppressed` directly before a hand-over.

        Raises:
            AfgemeldUnavailable: when awaited or iterated, the table can't be asked; then nothing may be sent.
        """
        return Sendable(self, addresses, list, service=service)

    def look_up(self, address: str, *, list: str | None = None, service: bool = False) -> Suppression | None:
        """The suppression that forbids a message to `address`, the widest of several; None where it may go.

        Raises:
            AddressError, AfgemeldUnavailable: as `is_suppressed`.
        """
        scopes = covering(list, service=service)
        return widest(one for one in self.all_of(address) if one.scope in scopes)

    def all_of(self, address: str) -> Sequence[Suppression]:
        """Every row about `address`, whatever its scope.

        Raises:
            AddressError, AfgemeldUnavailable: as `is_suppressed`.
        """
        spelled = canonical(address).encode()
        if time.monotonic() >= self._good_until:
            self.open()
        bounds: Any = []
        for key in self.keys.keys:
            digest = key.digest(spelled)
            bounds += (digest[:HALF_BYTES], digest)
        try:
            found = self._store.fetch(self._look_up, bounds)
        except (DatabaseUnavailable, SchemaOutdated, SQLAlchemyError) as error:
            raise _unavailable(error) from error
        return [_read(row) for row in found]

    def rows(self, connection: Connection, digests: Sequence[bytes]) -> Sequence[Suppression]:
        """Every row about one person, in the caller's transaction.

        Args:
            digests: what `AddressKeys.digests` gives, or a digest that was stored.
        """
        found = connection.execute(select(afgemeld).where(afgemeld.c.digest.in_([*digests])))
        return [_read(row) for row in found]

    def forbidden(
        self, connection: Connection, digests: Sequence[bytes], *, list: str | None, service: bool = False
    ) -> set[bytes]:
        """Which of many digests may not be written to, in the caller's transaction."""
        rows = connection.execute(_AMONG, {"digests": digests, "scopes": covering(list, service=service)})
        return {one.digest for one in forbidding(_read(row) for row in rows)}

    def forbids(self, digest: ColumnElement[bytes], *, list: str | None, service: bool = False) -> ColumnElement[bool]:
        """As `forbidden`, as a condition on a column of digests: for a statement that asks about very many at once."""
        row = afgemeld.alias("a").c
        theirs = row.digest.in_([digest, func.substr(digest, 1, HALF_BYTES)])
        found = row.scope == MAIL
        if not service:
            back = afgemeld.alias("o").c
            excepted = exists().where(back.digest == row.digest, back.scope == (opt_in_scope(list) if list else ""))
            named = [list_scope(list)] if list else []
            found = or_(row.scope.in_([MAIL, *named]), and_(row.scope == MARKETING, ~excepted))
        return exists().where(theirs, found)

    def heads(self, list: str | None) -> Iterator[bytes]:
        """The first 8 bytes of every digest that may not get marketing of a list, in order, some thousands joined.

        Whatever was in the table when this began is in it. Without a list, it is everybody who left anything: which of
        the lists the mailing belongs to nobody said, so it could be the one that was left.

        Raises:
            AfgemeldUnavailable: as `is_suppressed`.
        """
        self.open()
        query = _HEADS.format(_ANYTHING if list is None else _ONE_LIST)
        scopes = () if list is None else (list_scope(list), opt_in_scope(list))
        after = b""
        while True:
            with self._told():
                found = self._store.fetch(query, [after, *scopes])
            heads = b"".join(chain.from_iterable(found))
            if not heads:
                return
            yield heads
            after = heads[-8:].ljust(DIGEST_BYTES, b"\xff")

    def entries(self, scope: str | None = None) -> Iterator[Suppression]:
        """Every row that forbids something, or those of one scope, as the table was at one moment.

        Raises:
            AfgemeldUnavailable: as `is_suppressed`.
        """
        self.open()
        wanted = select(afgemeld).where(~afgemeld.c.scope.startswith(OPT_IN))
        wanted = wanted.order_by(afgemeld.c.digest, afgemeld.c.scope)
        if scope is not None:
            wanted = wanted.where(afgemeld.c.scope == scope)
        with self._told(), self._store.read() as connection:
            found = connection.execution_options(yield_per=WRITTEN_AT_ONCE).execute(wanted)
            yield from map(_read, found)

    # -- writing ------------------------------------------------------------------------------------------------

    async def add(
        self,
        address: str,
        *,
        list: str | None = None,
        scope: str | None = None,
        reason: Reason | str = Reason.STAFF,
        channel: str = "host",
        mailing: str | None = None,
    ) -> bool:
        """Never write to `address` again, from the moment this returns.

        Args:
            list: leave this list; without it all marketing.
            scope: instead of `list`: `mail`, `marketing` or `list:<id>`.
            reason, channel, mailing: what the table keeps of how it came in.

        Returns:
            whether it is new.

        Raises:
            AddressError: it is no address.
            AfgemeldUnavailable: it could not be stored; nothing changed.
        """
        wanted = scope or (MARKETING if list is None else list_scope(list))
        add = partial(self.add_sync, address, scope=wanted, reason=reason, channel=channel, mailing=mailing)
        return await run_sync(add)

    def add_sync(
        self, address: str, *, scope: str, reason: Reason | str, channel: str, mailing: str | None = None
    ) -> bool:
        """As `add`, without an event loop; `scope` as in `Suppression`."""
        key = self.keys.newest
        digest = self.keys.digest(address)
        one = Suppression(digest, key.id, scope, Reason(reason), channel, self._now(), mailing)
        return self.add_one(one)

    def add_one(self, one: Suppression) -> bool:
        """Add one suppression; whether it is new. Those who leave at the same moment share a transaction.

        Whoever comes first writes for all who wait by then: a storm of opt-outs costs two syncs of the disk for many,
        not two for each.

        Raises:
            AfgemeldUnavailable: it could not be stored.
        """
        mine = Future[bool]()
        with self._queueing:
            self._queue.append((one, mine))
        with self._writing:
            if not mine.done():
                with self._queueing:
                    together, self._queue = self._queue, []
                self._add_all(together)
        return mine.result()

    def _add_all(self, together: Sequence[_Waiting], *, again: bool = True) -> None:
        started = time.monotonic()
        failed: Exception = AfgemeldUnavailable("the opt-out was cut off")
        try:
            with self.changing() as change:
                new = {id(one) for one in change.put([one for one, _ in together])}
            for one, waiting in together:
                waiting.set_result(id(one) in new)
        except Exception as error:
            failed = error
            if again and time.monotonic() - started < QUICK:
                for each in together:  # one of them may be in the way of the others
                    self._add_all([each], again=False)
        finally:
            for _, waiting in together:
                if not waiting.done():
                    waiting.set_exception(failed)

    @contextmanager
    def changing(self) -> Iterator[Change]:
        """A transaction in which the table may change; the caller's own rows may change in it too.

        Raises:
            AfgemeldUnavailable: the keys are wrong, or the database can't take it; nothing changed.
        """
        _ = self.keys
        with self._told(), self._tombstones.turn() as file, self._store.begin() as connection:
            self._prepare(connection, file)
            change = Change(self, connection, file)
            yield change
            change.seal()

    @property
    def keys(self) -> AddressKeys:
        """The keys in use.

        Raises:
            AfgemeldUnavailable: there are none.
        """
        if self._keys is None:
            raise AfgemeldUnavailable(_NO_KEYS)
        return self._keys

    def open(self) -> None:
        """Check the keys against the table and replay what an older backup lacks, where that was not just done.

        Raises:
            AfgemeldUnavailable: as `is_suppressed`.
        """
        _ = self.keys
        if time.monotonic() < self._good_until:
            return
        with self._preparing:
            if time.monotonic() < self._good_until:
                return
            with self._told():
                if not self._is_as_noted():
                    self._put_right()
            self._good_until = time.monotonic() + CHECKED_FOR

    def _is_as_noted(self) -> bool:
        """Whether keys and tombstones are what the database says. Takes no lock."""
        if not self._file:
            return False
        noted = self._store.fetch('SELECT key_id, "check" FROM key_check WHERE key_id <> ?', [""])
        if self._unknown([(str(key_id), str(check)) for key_id, check in noted]):
            return False
        sizes = self._store.fetch("SELECT size FROM tombstone WHERE file = ?", [self._file])
        return [int(size) for (size,) in sizes] == [self._tombstones.size]

    def _put_right(self) -> None:
        with self._tombstones.turn() as file, self._store.begin() as connection:
            self._prepare(connection, file)
            if file is not None:
                file.note(connection)
                self._file = file.name

    def mark(self, mark: Mark, *, sync: bool = True) -> None:
        """Write down beside the database how far a mailing is, which the database has committed before.

        Where the disk refuses, the mailing goes on: then an older backup could send it again, and that is logged.

        Args:
            sync: wait for the disk.
        """
        with self._tombstones.turn() as file:
            if file is None:
                return
            try:
                file.append([marked(mark)], sync=sync)
            except OSError as error:
                log.error("a mark can't be written (%s): an older backup could send a mailing again", error.strerror)

    def healthy(self) -> bool:
        """Whether the table can be asked with these keys. Never raises."""
        self._good_until = 0.0
        try:
            self.open()
        except (AfgemeldUnavailable, OSError):
            return False
        return True

    def close(self) -> None:
        """Let go of the file of tombstones."""
        self._tombstones.close()

    # -- inside -------------------------------------------------------------------------------------------------

    def _prepare(self, connection: Connection, file: TombstoneFile | None) -> None:
        self._check_keys(connection)
        if file is not None:
            restored = self._replay(connection, file)
            if restored:
                log.warning("%d line(s) of the tombstones were missing in the database, and are back", restored)

    def _check_keys(self, connection: Connection) -> None:
        """Compare the keys with the table's, and note the newest where it is new."""
        rows = connection.execute(select(key_checks.c.key_id, key_checks.c.check))
        noted = {key_id: check for key_id, check in rows}  # noqa: C416  # rows are no pairs to a checker
        if unknown := self._unknown(noted.items()):
            raise AfgemeldUnavailable(
                f"the afgemeld table was made with the key {unknown}, which CONSENTKIT_AFGEMELD_KEYS lacks: nothing "
                "is sent until it is back. Keys of this table are never dropped; a new one goes in front of them"
            )
        key = self.keys.newest
        if key.id not in noted:
            row = {"key_id": key.id, "check": key.check, "at": self._now()}
            connection.execute(insert_new(connection, key_checks), row)
            if noted:
                self.meet_key(connection)

    def _unknown(self, noted: Iterable[tuple[str, str]]) -> str:
        """A key of the table that is not, or not rightly, among ours."""
        known = {key.id: key.check for key in self.keys.keys}
        return next((key_id for key_id, check in noted if known.get(key_id) != check), "")

    def _replay(self, connection: Connection, file: TombstoneFile) -> int:
        """Mailings come first: a release locks them before it locks people."""
        if marks := file.marks(connection):
            self.compare(connection, marks)
        count = 0
        for one in file.missing(connection):
            count += 1
            if one.suppression is not None:
                _drop_exceptions(connection, [one.suppression])
                _insert(connection, [one.suppression])
                self.follow(connection, [one.suppression], replayed=True)
            else:
                self.erase_again(connection, one.digest, one.at)
        return count

    @contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except (DatabaseUnavailable, SchemaOutdated, SQLAlchemyError) as error:
            raise _unavailable(error) from error


def _unavailable(error: Exception) -> AfgemeldUnavailable:
    if isinstance(error, ConsentKitError):
        return AfgemeldUnavailable(f"{error}; nothing is sent until then")
    return AfgemeldUnavailable("the afgemeld table can't be asked: nothing is sent until it can")


class Change:
    """One transaction of the ledger.

    `connection` is for what must change together with it. Nothing is visible to anybody before the block ends.
    """

    def __init__(self, ledger: Afgemeld, connection: Connection, file: TombstoneFile | None) -> None:
        self._ledger = ledger
        self.connection = connection
        self._file = file
        self._lines: list[str] = []

    def add(self, suppressions: Sequence[Suppression]) -> int:
        """Add those that are not there yet; returns how many were new."""
        return len(self.put(suppressions))

    def put(self, suppressions: Sequence[Suppression]) -> Sequence[Suppression]:
        """As `add`; returns those that were new."""
        new: list[Suppression] = []
        for start in range(0, len(suppressions), 200):
            some = suppressions[start : start + 200]
            self._ledger.hold(self.connection, some)  # first, so that nobody confirms and leaves at the same time
            again = _drop_exceptions(self.connection, some)
            fresh = _insert(self.connection, some)
            self._ledger.follow(self.connection, some)
            self._lines += [added(one) for one in dict.fromkeys([*again, *fresh])]
            new += fresh
        return new

    def release(self, digests: Sequence[bytes], list: str, *, record_id: str, at: datetime) -> int:
        """Let mail of `list` go again, because the person confirmed a new opt-in; and no other mail.

        What was left by name goes, beside the lift that the database asks for. All marketing stays left, but for this
        list. All mail, a complaint and a hard bounce stay: only people lift them.

        Args:
            digests: of the address. at: the moment of the new consent.
            record_id: of its evidence, stored before: without it the database refuses.

        Returns:
            how many rows changed.
        """
        changed = 0
        for one in self._ledger.rows(self.connection, digests):
            if one.reason in LASTING or one.scope not in (MARKETING, list_scope(list)):
                continue
            changed += 1
            if one.scope == MARKETING:
                scope = opt_in_scope(list)
                back = Suppression(one.digest, one.key_id, scope, one.reason, "confirm", at, mailing=record_id)
                _insert(self.connection, [back])
            else:
                _lift(self.connection, one, at=at, reason="opt-in", by="-", second="-", record_id=record_id)
        return changed

    def lift(self, digests: Sequence[bytes], scope: str, *, reason: str, by: str, second: str, at: datetime) -> int:
        """Take one scope's rows out by hand: a mistake was made. Needs a reason and two different people (SUP-04).

        Raises:
            ValueError: the reason or a name is missing, or both are the same person.
        """
        names = [name.strip() for name in (by, second)]
        if not reason.strip() or not all(names) or names[0].casefold() == names[1].casefold():
            raise ValueError("lifting needs a reason and the names of two different people")
        gone = [one for one in self._ledger.rows(self.connection, digests) if one.scope == scope]
        for one in gone:
            _lift(self.connection, one, at=at, reason=reason.strip(), by=names[0], second=names[1], record_id=None)
        return len(gone)

    def erase(self, digest: bytes, at: datetime) -> None:
        """Note that a person's data were erased, so that no older backup brings them back."""
        self._lines.append(erased(digest, at))

    def seal(self) -> None:
        """Sync the tombstones of who left; the commit follows. Written and not committed, they are replayed."""
        if self._file is None:
            return
        try:
            if self._lines:
                self._file.append(self._lines)
        except OSError as error:
            log.error("the tombstones can't be written (%s): an older backup could undo this change", error.strerror)
        else:
            self._file.note(self.connection)


class Sendable:
    """The addresses that one may write to, as they come by.

    Args:
        suppressed, invalid: how many were left out so far.
    """

    def __init__(
        self,
        ledger: Afgemeld,
        addresses: Iterable[str] | AsyncIterable[str],
        list: str | None,
        *,
        service: bool,
    ) -> None:
        self._ledger = ledger
        self._addresses = addresses
        self._list = list
        self._service = service
        self._answers = self._run()
        self.suppressed = 0
        self.invalid = 0

    def __aiter__(self) -> AsyncIterator[str]:
        return self._answers

    def __await__(self) -> Generator[Any, None, Sendable]:
        return self._opened().__await__()

    async def _opened(self) -> Sendable:
        await asyncio.to_thread(self._ledger.open)
        return self

    async def _run(self) -> AsyncIterator[str]:
        await asyncio.to_thread(self._ledger.open)
        async for chunk in _chunks(self._addresses):
            for address in await asyncio.to_thread(self._ask, chunk):
                yield address

    def _ask(self, addresses: Sequence[str]) -> Sequence[str]:
        asked: list[tuple[str, list[bytes]]] = []
        for address in addresses:
            try:
                asked.append((address, self._ledger.keys.digests(address)))
            except AddressError:
                self.invalid += 1
        every = [digest for _, digests in asked for digest in digests]
        self._ledger.open()
        with self._ledger._told(), self._ledger._store.read() as connection:
            forbidden = self._ledger.forbidden(connection, every, list=self._list, service=self._service)
        free = [address for address, digests in asked if forbidden.isdisjoint(digests)]
        self.suppressed += len(asked) - len(free)
        return free


async def _chunks(addresses: Iterable[str] | AsyncIterable[str]) -> AsyncIterator[Sequence[str]]:
    if not isinstance(addresses, AsyncIterable):
        source = iter(addresses)
        while chunk := list(islice(source, ASKED_AT_ONCE)):
            yield chunk
        return
    waiting: list[str] = []
    async for address in addresses:
        waiting.append(address)
        if len(waiting) == ASKED_AT_ONCE:
            yield waiting
            waiting = []
    if waiting:
        yield waiting


def _read(row: Sequence[Any]) -> Suppression:
    """A row of the table, by SQLAlchemy or as the driver gives it: the columns stand in the same order."""
    digest, scope, key_id, reason, channel, at, mailing = row
    moment = datetime.fromisoformat(at) if isinstance(at, str) else at
    return Suppression(bytes(digest), key_id, scope, Reason(reason), channel, moment, mailing)


def _insert(connection: Connection, suppressions: Sequence[Suppression]) -> list[Suppression]:
    """Insert what is new; returns it."""
    if not suppressions:
        return []
    digests = [one.digest for one in suppressions]
    query = select(afgemeld.c.digest, afgemeld.c.scope).where(afgemeld.c.digest.in_(digests))
    found = connection.execute(query.with_for_update()).all()
    there = {(bytes(digest), scope) for digest, scope in found}
    new: list[Suppression] = []
    for one in suppressions:
        if (one.digest, one.scope) not in there:
            there.add((one.digest, one.scope))
            new.append(one)
    if new:
        rows = [
            {
                "digest": one.digest,
                "scope": one.scope,
                "key_id": one.key_id,
                "reason": str(one.reason),
                "channel": one.channel,
                "at": one.at,
                "mailing": one.mailing,
            }
            for one in new
        ]
        connection.execute(insert_new(connection, afgemeld), rows)
    return new


def _drop_exceptions(connection: Connection, suppressions: Sequence[Suppression]) -> list[Suppression]:
    """Who leaves all marketing once more has left every list: no earlier opt-in excepts one now.

    Returns:
        those that ended an exception.
    """
    by_half = {one.digest[:HALF_BYTES]: one for one in suppressions if one.scope == MARKETING}
    if not by_half:
        return []
    theirs = or_(*(afgemeld.c.digest.between(half, half.ljust(DIGEST_BYTES, b"\xff")) for half in by_half))
    rows = connection.execute(select(afgemeld).where(afgemeld.c.scope.startswith(OPT_IN), theirs)).all()
    ended: dict[Suppression, None] = {}
    for back in map(_read, rows):
        one = by_half[back.digest[:HALF_BYTES]]
        _lift(connection, back, at=one.at, reason="left again", by="-", second="-", record_id=None)
        ended[one] = None
    return [*ended]


def _lift(
    connection: Connection,
    one: Suppression,
    *,
    at: datetime,
    reason: str,
    by: str,
    second: str,
    record_id: str | None,
) -> None:
    """Note why a row goes, then let it go; the triggers ask for exactly this order."""
    connection.execute(
        lifts.insert().values(
            id=uuid4().hex,
            digest=one.digest,
            scope=one.scope,
            key_id=one.key_id,
            at=at,
            record_id=record_id,
            reason=reason,
            by=by,
            second=second,
            was_reason=str(one.reason),
            was_channel=one.channel,
            was_at=one.at,
        )
    )
    connection.execute(delete(afgemeld).where(afgemeld.c.digest == one.digest, afgemeld.c.scope == one.scope))
