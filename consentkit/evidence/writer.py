"""The one writer of a process: takes everything that waits, commits it together, and only then answers.

A commit costs one sync of the disk however many events it holds, so under load this is tens of times faster than a
commit for each. While the database is away the journal takes the events, and the writer puts them back afterwards.
"""

from __future__ import annotations

import asyncio
import logging
import os
import threading
import time
from collections import OrderedDict, defaultdict
from collections.abc import Iterator, Sequence
from concurrent import futures
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from queue import Empty, SimpleQueue
from typing import Final

from sqlalchemy import delete, select, update
from sqlalchemy.engine import Connection
from sqlalchemy.exc import DataError, IntegrityError, SQLAlchemyError

from consentkit.errors import EvidenceUnavailable, NoticeSpent, SchemaOutdated
from consentkit.evidence.event import Durability, Refusal
from consentkit.evidence.journal import Journal, JournalFile
from consentkit.evidence.ledger import Entry, TakenBack, append
from consentkit.evidence.tables import journals
from consentkit.store import Store

log = logging.getLogger("consentkit.evidence")

BATCH: Final = 512
_REMEMBERED: Final = 65_536
_IDLE: Final = 30.0
_REPLAY_PATIENCE: Final = 5.0
_AWAY = (SQLAlchemyError, SchemaOutdated, OSError)
_REFUSED_ROW = (IntegrityError, DataError)


_Future = asyncio.Future[Durability] | futures.Future[Durability]
_Result = Durability | Exception


class Waiting:
    """One entry on its way, and the future of the caller who waits for it."""

    __slots__ = ("diverted", "entry", "future", "loop", "settled")

    def __init__(self, entry: Entry, future: _Future, loop: asyncio.AbstractEventLoop | None = None) -> None:
        self.entry = entry
        self.future = future
        self.loop = loop
        self.diverted = False  # its caller took it to the journal: the database was too slow
        self.settled = False  # it is committed in the database


@dataclass(frozen=True, slots=True)
class Replayed:
    """What one look at the journals brought: entries written, lines that were damaged, whether all is in now."""

    entries: int
    damaged: int
    complete: bool


class Recent:
    """The newest ids of a kind, so many at most."""

    def __init__(self, size: int = _REMEMBERED) -> None:
        self._size = size
        self._ids: OrderedDict[str, None] = OrderedDict()

    def __contains__(self, one: str) -> bool:
        return one in self._ids

    def add(self, one: str) -> bool:
        """Remember it; whether it is new."""
        if one in self._ids:
            return False
        self._ids[one] = None
        if len(self._ids) > self._size:
            self._ids.popitem(last=False)
        return True

    def discard(self, one: str) -> None:
        """Forget it."""
        self._ids.pop(one, None)


class Writer:
    """Writes entries for callers on any thread and any event loop.

    The thread starts with the first entry, and again in a forked child.

    Args:
        store: the database.
        journal: where entries wait while the database is away.
        patience: seconds that a caller waits for the database before its entry goes to the journal.
        retry: seconds between two tries to reach a database that is away.

    Attributes:
        taken_back: told of what an event takes back, in the transaction that writes it.
    """

    def __init__(self, store: Store, journal: Journal, *, patience: float, retry: float) -> None:
        self.taken_back: TakenBack | None = None
        self._store = store
        self._journal = journal
        self._patience = patience
        self._retry = retry
        self._fresh()

    def _fresh(self) -> None:
        self._process = os.getpid()
        self._lock = threading.Lock()
        self._replaying = threading.Lock()
        self._queue: SimpleQueue[Waiting | None] = SimpleQueue()
        self._thread: threading.Thread | None = None
        self._known: set[str] = set()
        self._nonces = Recent()
        self._counted = Recent()
        self._away = False
        self._busy_since: float | None = None

    async def write(self, entry: Entry) -> Durability:
        """Make the entry durable; answers when it is.

        Raises:
            NoticeSpent: its nonce was used before.
            EvidenceUnavailable: neither database nor journal could take it.
        """
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Durability] = loop.create_future()
        waiting = Waiting(entry, future, loop)
        with self._claiming(entry):
            if self._submit(waiting):
                with suppress(TimeoutError):
                    async with asyncio.timeout(self._patience):
                        return await future
            return await asyncio.to_thread(self._divert, waiting)

    def write_sync(self, entry: Entry) -> Durability:
        """As `write`, for callers without an event loop."""
        future: futures.Future[Durability] = futures.Future()
        waiting = Waiting(entry, future)
        with self._claiming(entry):
            if self._submit(waiting):
                with suppress(TimeoutError):
                    return future.result(self._patience)
            return self._divert(waiting)

    def start(self) -> None:
        """Start the thread, which first looks for journals that a dead process left."""
        self._own_process()
        with self._lock:
            if self._thread is None or not self._thread.is_alive():
                self._thread = threading.Thread(target=self._run, name="consentkit-evidence", daemon=True)
                self._thread.start()

    def close(self) -> None:
        """Write what waits and end the thread; a later entry starts it again."""
        self._own_process()
        thread = self._thread
        if thread is not None and thread.is_alive():
            self._queue.put(None)
            thread.join(timeout=10.0)
        self._thread = None
        self._journal.close()

    def replay(self) -> Replayed:
        """Put every journal that can be had into the database, this process's first; entries exactly once each."""
        with self._replaying:
            return self._replay_all()

    @property
    def waiting(self) -> bool:
        """Whether entries of this process still wait in the journal."""
        return self._journal.waiting

    @contextmanager
    def _claiming(self, entry: Entry) -> Iterator[None]:
        nonce = entry.what.nonce
        self._own_process()
        if nonce is not None:
            with self._lock:
                if not self._nonces.add(nonce):
                    raise NoticeSpent
        try:
            yield
        except EvidenceUnavailable:
            if nonce is not None:
                with self._lock:
                    self._nonces.discard(nonce)
            raise

    def _submit(self, waiting: Waiting) -> bool:
        """Hand it to the thread, unless it is known that the database takes too long."""
        since = self._busy_since
        if self._away or (since is not None and time.monotonic() - since > self._patience):
            return False
        if self._thread is None or not self._thread.is_alive():
            self.start()
        self._queue.put(waiting)
        return True

    def _divert(self, waiting: Waiting) -> Durability:
        with self._lock:
            if waiting.settled:
                return Durability.DATABASE
            waiting.diverted = True
        self._to_journal([waiting.entry])
        if self._thread is None or not self._thread.is_alive():
            self.start()
        return Durability.JOURNAL

    def _to_journal(self, entries: Sequence[Entry]) -> None:
        try:
            self._journal.append(entries)
        except OSError as error:
            log.error("the journal in %s can't be written: %s", self._journal.directory, error)
            raise EvidenceUnavailable("neither the database nor the journal can keep the event") from error

    # The thread.

    def _run(self) -> None:
        queue = self._queue
        self._recover()
        while True:
            try:
                first = queue.get(timeout=self._retry if self._away or self._journal.waiting else _IDLE)
            except Empty:
                self._recover()
                continue
            batch, ended = _drain(queue, first)
            self._flush(batch)
            if ended:
                return

    def _flush(self, batch: Sequence[Waiting]) -> None:
        with self._lock:
            wanted = [waiting for waiting in batch if not waiting.diverted]
        if not wanted:
            return
        if self._away:
            self._flush_to_journal(wanted)
            return
        self._busy_since = time.monotonic()
        try:
            results = self._commit(wanted)
        except _AWAY as error:
            self._lost(error)
            self._flush_to_journal(wanted)
        except Exception as error:
            log.exception("the evidence writer failed")
            unavailable = EvidenceUnavailable("the event could not be written")
            unavailable.__cause__ = error
            self._answer(wanted, [unavailable] * len(wanted))
        else:
            self._answer(wanted, results)
        finally:
            self._busy_since = None

    def _commit(self, batch: Sequence[Waiting]) -> list[_Result]:
        entries = [waiting.entry for waiting in batch]
        patience = self._patience / 2
        try:
            with self._store.begin(patience=patience) as connection:
                taken: list[bool | Exception] = list(
                    append(connection, entries, known=self._known, taken_back=self.taken_back)
                )
        except _REFUSED_ROW:
            # One bad row spoils its batch: find it, and let the others through. (Or a purge took a notice.)
            self._known.clear()
            with self._store.begin(patience=patience) as connection:
                taken = _append_singly(connection, entries, answered=False, taken_back=self.taken_back)
        else:
            self._known.update(entry.notice.hash for entry in entries if entry.notice is not None)
        return [_result(one) for one in taken]

    def _flush_to_journal(self, batch: Sequence[Waiting]) -> None:
        with self._lock:
            wanted = [waiting for waiting in batch if not waiting.diverted]
        if not wanted:
            return
        try:
            self._to_journal([waiting.entry for waiting in wanted])
        except EvidenceUnavailable as error:
            self._answer(wanted, [error] * len(wanted))
        else:
            self._answer(wanted, [Durability.JOURNAL] * len(wanted))

    def _answer(self, batch: Sequence[Waiting], results: Sequence[_Result]) -> None:
        with self._lock:
            for waiting, result in zip(batch, results, strict=True):
                waiting.settled = result is Durability.DATABASE
                if waiting.diverted and waiting.settled and isinstance(waiting.entry.what, Refusal):
                    self._counted.add(waiting.entry.what.event_id)
        by_loop: dict[asyncio.AbstractEventLoop | None, list[tuple[_Future, _Result]]] = defaultdict(list)
        for waiting, result in zip(batch, results, strict=True):
            by_loop[waiting.loop].append((waiting.future, result))
        for loop, answers in by_loop.items():
            if loop is None:
                _resolve(answers)
                continue
            with suppress(RuntimeError):  # the loop was closed: nobody waits any more
                loop.call_soon_threadsafe(_resolve, answers)

    # The journals.

    def _lost(self, error: Exception) -> None:
        if not self._away:
            log.warning("the database is away, events go to the journal in %s: %s", self._journal.directory, error)
        self._away = True

    def _recover(self) -> None:
        """Try to empty the journals; with that done the database counts as being back."""
        self._busy_since = time.monotonic()
        try:
            if self._away and not self._store.healthy():
                return
            self.replay()
        except Exception:
            log.exception("the journals could not be replayed")
        finally:
            self._busy_since = None

    def _replay_all(self) -> Replayed:
        entries = damaged = 0
        try:
            for again in (False, True):  # the second time for what was added during the first
                for file in self._journal.sealed():
                    written, bad = self._replay_file(file)
                    entries, damaged = entries + written, damaged + bad
                if not again and self._away:
                    self._away = False
                    log.warning("the database is back")
            for orphan in self._journal.orphans():
                try:
                    written, bad = self._replay_file(orphan)
                finally:
                    orphan.close()
                entries, damaged = entries + written, damaged + bad
        except _AWAY as error:
            self._lost(error)
            return Replayed(entries, damaged, complete=False)
        if entries or damaged:
            log.warning("replayed %d journal entries, %d damaged lines", entries, damaged)
        return Replayed(entries, damaged, complete=True)

    def _replay_file(self, file: JournalFile) -> tuple[int, int]:
        """Put a journal into the database. How far it got is committed with what it wrote: nothing comes twice."""
        with self._store.read() as connection:
            done = connection.execute(select(journals.c.lines).where(journals.c.name == file.name)).scalar() or 0
        entries = 0
        refused = False
        for lines, piece in file.read(after=done):
            with self._store.begin(patience=_REPLAY_PATIENCE) as connection:
                fresh = self._not_counted(piece)
                refused |= self._append_answered(connection, fresh)
                _set_progress(connection, file.name, lines)
            with self._lock:
                for entry in fresh:
                    if isinstance(entry.what, Refusal):
                        self._counted.add(entry.what.event_id)
            entries += len(piece)
        self._finish(file, aside=refused or file.spoilt)
        return entries, file.damaged

    def _not_counted(self, piece: Sequence[Entry]) -> list[Entry]:
        """Leave out refusals that this process counted already: their callers had lost patience just before."""
        seen: set[str] = set()
        fresh: list[Entry] = []
        for entry in piece:
            one = entry.what.event_id
            if isinstance(entry.what, Refusal) and (one in self._counted or one in seen):
                continue
            seen.add(one)
            fresh.append(entry)
        return fresh

    def _append_answered(self, connection: Connection, entries: Sequence[Entry]) -> bool:
        try:
            with connection.begin_nested():
                append(connection, entries, known=set(), answered=True, taken_back=self.taken_back)
        except _REFUSED_ROW:
            taken = _append_singly(connection, entries, answered=True, taken_back=self.taken_back)
            return any(isinstance(one, Exception) for one in taken)
        return False

    def _finish(self, file: JournalFile, *, aside: bool) -> None:
        if aside:
            log.error("parts of a journal could not be replayed; it is kept as %s", file.set_aside())
        self._journal.done(file)
        with self._store.begin(patience=_REPLAY_PATIENCE) as connection:
            connection.execute(delete(journals).where(journals.c.name == file.name))

    def _own_process(self) -> None:
        """In a forked child: the parent's thread and files are not ours. The store sees to its connections itself."""
        if self._process != os.getpid():
            self._journal = self._journal.after_fork()
            self._fresh()


def _drain(queue: SimpleQueue[Waiting | None], first: Waiting | None) -> tuple[list[Waiting], bool]:
    """Everything that waits by now, and whether the end was asked for."""
    batch: list[Waiting] = []
    one = first
    while one is not None:
        batch.append(one)
        if len(batch) == BATCH:
            return batch, False
        try:
            one = queue.get_nowait()
        except Empty:
            return batch, False
    return batch, True


def _append_singly(
    connection: Connection, entries: Sequence[Entry], *, answered: bool, taken_back: TakenBack | None
) -> list[bool | Exception]:
    """Each entry behind a savepoint of its own, so that those which the database refuses harm nobody else."""
    taken: list[bool | Exception] = []
    for entry in entries:
        try:
            with connection.begin_nested():
                taken += append(connection, [entry], known=set(), answered=answered, taken_back=taken_back)
        except _REFUSED_ROW as error:
            log.error("the database refuses event %s: %s", entry.what.event_id, type(error.orig).__name__)
            taken.append(error)
    return taken


def _result(taken: bool | Exception) -> _Result:
    if isinstance(taken, Exception):
        unavailable = EvidenceUnavailable("the database refuses the event")
        unavailable.__cause__ = taken
        return unavailable
    return Durability.DATABASE if taken else NoticeSpent()


def _set_progress(connection: Connection, name: str, lines: int) -> None:
    now = datetime.now(UTC)
    moved = update(journals).where(journals.c.name == name).values(lines=lines, at=now)
    if connection.execute(moved).rowcount == 0:
        connection.execute(journals.insert().values(name=name, lines=lines, at=now))


def _resolve(answers: Sequence[tuple[_Future, _Result]]) -> None:
    for future, result in answers:
        if future.done():  # cancelled: the visitor left, or lost patience
            continue
        if isinstance(result, Exception):
            future.set_exception(result)
        else:
            future.set_result(result)
