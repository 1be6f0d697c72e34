"""Long work that somebody of the staff began: it runs behind, tells how far it is, and reports.

Each server process runs at most two at a time. How it goes stands in the database, so that any process can show it. A
file that comes out of it is readable for an hour by whoever began it, and is deleted then: it may hold addresses.
"""

from __future__ import annotations

import json
import logging
import secrets
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, Final

from sqlalchemy import delete, select, update
from sqlalchemy.engine import Connection
from sqlalchemy.exc import SQLAlchemyError

from consentkit.errors import ConsentKitError
from consentkit.staff.tables import jobs
from consentkit.store import Store, after_fork

log = logging.getLogger("consentkit.console")

RESULT_KEPT: Final = timedelta(hours=1)
"""How long a file that came out of it is readable."""

KEPT: Final = timedelta(days=7)
"""How long the report is readable."""

LOST: Final = timedelta(seconds=30)
"""A process that told nothing for so long is gone, and its work with it."""

_AT_A_TIME: Final = 2
_MOST: Final = 8  # that run or wait in one process: each holds the file that it was given
_TELL: Final = 1.0
_BEAT: Final = 5.0
_GOODBYE: Final = 5.0
_LINES: Final = 1000

Progress = Callable[[int, int], None]
"""Told how much is done, and of how much; 0 of 0 where nobody knows. May be called as often as one likes."""


class JobState(StrEnum):
    """How it stands with long work."""

    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    LOST = "lost"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of it.

    Args:
        report: what can be written as JSON: counts and words, never an address; see `Lines` too.
        result: a file for whoever began it. result_name: what it is called.
    """

    report: Mapping[str, Any]
    result: bytes | None = None
    result_name: str = ""


@dataclass(frozen=True, slots=True)
class Job:
    """Long work as it stands.

    Args:
        kind: what it does, in a word that begins with its area: `afgemeld_import`.
        about: where it began: the path of a page of the console.
        report: of one that is done; of one that failed a sentence `problem`, or nothing where only the log knows.
        has_result: whether there is a file to read.
        beat_at: when it told something last; of one that ended, when that was.
    """

    id: str
    staff: str
    kind: str
    about: str
    state: JobState
    done: int
    total: int
    report: Mapping[str, Any]
    has_result: bool
    result_name: str
    begun_at: datetime
    beat_at: datetime


class Lines:
    """Lines of a file that were refused, for a report: the first ones each with its reason, the others counted.

    Give it to a room as what is told of each line, and write `report()` into the outcome.
    """

    def __init__(self) -> None:
        self._kept: list[dict[str, Any]] = []
        self._more = 0

    def __call__(self, line: int, why: str) -> None:
        if len(self._kept) < _LINES:
            self._kept.append({"line": line, "why": why})
        else:
            self._more += 1

    def report(self) -> Mapping[str, Any]:
        """`lines`, each with `line` and `why`; `more`: how many there were behind them."""
        return {"lines": self._kept, "more": self._more}


class JobsBusy(ConsentKitError):
    """So much long work waits already that no more is taken."""

    def __init__(self) -> None:
        super().__init__("too much long work at once: wait until some of it is done")


class _Stopped(Exception):
    """The server stops: the work ends where it is."""


@dataclass(slots=True)
class _Running:
    future: Future[None] | None = None
    done: int = 0
    total: int = 0
    told: tuple[int, int] = (0, 0)
    beat: float = field(default_factory=time.monotonic)


class Jobs:
    """Begins long work and tells of it.

    Args:
        store: the database. clock: tells the time, aware.
    """

    def __init__(self, store: Store, clock: Callable[[], datetime]) -> None:
        self._store = store
        self._now = clock
        self._fresh()
        after_fork(self, "_fresh")

    def _fresh(self) -> None:
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._running: dict[str, _Running] = {}
        self._pool = ThreadPoolExecutor(_AT_A_TIME, thread_name_prefix="consentkit-jobs")
        self._lane = ThreadPoolExecutor(1, thread_name_prefix="consentkit-jobs-ahead")
        self._teller: threading.Thread | None = None
        self._due = 0.0

    def start(
        self, staff: str, kind: str, about: str, work: Callable[[Progress], Outcome], *, ahead: bool = False
    ) -> str:
        """Begin, and return at once.

        Args:
            staff: who begins it; nobody else can look at it. kind, about: see `Job`.
            work: does it, in a thread. A `ConsentKitError` is told as its sentence; anything else in general words.
            ahead: it waits for no files that are read: for what somebody is waiting for.

        Returns:
            its id.

        Raises:
            DatabaseUnavailable: it could not be noted; nothing began.
            JobsBusy: too much waits already; nothing began.
        """
        with self._lock:
            if not ahead and len(self._running) >= _MOST:
                raise JobsBusy
        id = secrets.token_urlsafe(16)
        now = self._now()
        row = {
            "id": id, "staff": staff, "kind": kind, "about": about, "state": JobState.RUNNING.value, "done": 0,
            "total": 0, "report": "{}", "result": None, "result_name": "", "begun_at": now, "beat_at": now,
        }  # fmt: skip
        with self._store.told(), self._store.begin() as connection:
            self._sweep(connection)
            connection.execute(jobs.insert().values(row))
        with self._lock:
            running = self._running[id] = _Running()
            running.future = (self._lane if ahead else self._pool).submit(self._run, id, running, work)
            if self._teller is None:
                self._teller = threading.Thread(target=self._tell, name="consentkit-jobs-teller", daemon=True)
                self._teller.start()
        return id

    def get(self, id: str, staff: str) -> Job | None:
        """How it stands; None where there is none, or somebody else began it."""
        found = self._read(staff, id=id, most=1)
        return found[0] if found else None

    def under_way(self, kind: str, about: str) -> bool:
        """Whether somebody, whoever, has this being done now."""
        row = jobs.c
        now = self._now()
        query = select(row.id).where(
            row.begun_at > now - KEPT, row.beat_at > now - LOST,
            row.kind == kind, row.about == about, row.state == JobState.RUNNING.value,
        )  # fmt: skip
        with self._store.read() as connection:
            return connection.execute(query.limit(1)).first() is not None

    def recent(self, staff: str, most: int = 20) -> list[Job]:
        """What somebody began in the last days, the newest first."""
        return self._read(staff, most=most)

    def result(self, id: str, staff: str) -> tuple[str, bytes] | None:
        """The name and the bytes of the file that came out of it; None where there is none, or no longer."""
        row = jobs.c
        mine = (row.id == id) & (row.staff == staff) & (row.beat_at > self._now() - RESULT_KEPT)
        with self._store.read() as connection:
            query = select(row.result_name, row.result).where(mine, row.result.is_not(None))
            found = connection.execute(query).first()
        return (found[0], bytes(found[1])) if found else None

    def drop(self, id: str) -> None:
        """Delete the file that came out of it, now; its report stays."""
        with self._store.told(), self._store.begin() as connection:
            connection.execute(update(jobs).where(jobs.c.id == id).values(result=None))

    def purge(self, now: datetime, *, dry_run: bool = False) -> int:
        """Delete reports and files whose time is over; how many reports went, or would go. Idempotent."""
        with self._store.told(), self._store.begin() as connection:
            if dry_run:
                old = select(jobs.c.id).where(jobs.c.begun_at <= now - KEPT)
                return len(connection.execute(old).all())
            return self._sweep(connection, now)

    def close(self) -> None:
        """Begin nothing more, and end what runs where it is."""
        self._stop.set()
        with self._lock:
            running = [one.future for one in self._running.values() if one.future is not None]
        for pool in (self._pool, self._lane):
            pool.shutdown(wait=False, cancel_futures=True)
        wait(running, timeout=_GOODBYE)
        with self._lock:
            left = [*self._running]
            self._running.clear()
        for id in left:
            with suppress(ConsentKitError, SQLAlchemyError):
                self._ended(id, JobState.LOST, Outcome({}))

    def _read(self, staff: str, *, most: int, id: str | None = None) -> list[Job]:
        row, now = jobs.c, self._now()
        query = select(
            row.id, row.staff, row.kind, row.about, row.state, row.done, row.total, row.report,
            row.result.is_not(None), row.result_name, row.begun_at, row.beat_at,
        ).where(row.staff == staff, row.begun_at > now - KEPT)  # fmt: skip
        if id is not None:
            query = query.where(row.id == id)
        query = query.order_by(row.begun_at.desc(), row.id).limit(most)
        with self._store.read() as connection:
            return [_job(found, now) for found in connection.execute(query)]

    def _run(self, id: str, running: _Running, work: Callable[[Progress], Outcome]) -> None:
        def progress(done: int, total: int) -> None:
            if self._stop.is_set():
                raise _Stopped
            running.done, running.total = done, total

        state, outcome = JobState.DONE, Outcome({})
        try:
            progress(0, 0)
            outcome = work(progress)
        except _Stopped:
            state = JobState.LOST
        except ConsentKitError as error:
            state, outcome = JobState.FAILED, Outcome({"problem": str(error)})
        except Exception:
            log.exception("long work failed: %s", id)
            state = JobState.FAILED
        try:
            self._ended(id, state, outcome, running)
        except (ConsentKitError, SQLAlchemyError) as error:
            log.error("what came of %s could not be written: %s", id, error)
        finally:
            with self._lock:
                self._running.pop(id, None)
                self._due = time.monotonic() + RESULT_KEPT.total_seconds()

    def _ended(self, id: str, state: JobState, outcome: Outcome, running: _Running | None = None) -> None:
        values: dict[str, Any] = {
            "state": state.value, "report": json.dumps(dict(outcome.report), ensure_ascii=False, default=str),
            "result": outcome.result, "result_name": outcome.result_name, "beat_at": self._now(),
        }  # fmt: skip
        if running is not None:
            values |= {"done": running.done, "total": running.total}
        with self._store.told(), self._store.begin() as connection:
            connection.execute(update(jobs).where(jobs.c.id == id).values(values))

    def _tell(self) -> None:
        """Write how far it all is, from a thread of its own: the work may be inside a transaction when it tells."""
        while not self._stop.wait(_TELL):
            now = time.monotonic()
            with self._lock:
                stale = {
                    id: one
                    for id, one in self._running.items()
                    if (one.done, one.total) != one.told or now - one.beat >= _BEAT
                }
                over = not self._running and now >= self._due
                if over:
                    self._teller = None
            with suppress(ConsentKitError, SQLAlchemyError):
                if stale:
                    self._write(stale, now)
                if over:
                    self.purge(self._now())
            if over:
                return

    def _write(self, stale: Mapping[str, _Running], now: float) -> None:
        with self._store.begin(patience=_BEAT) as connection:
            for id, one in stale.items():
                told = (one.done, one.total)
                mine = (jobs.c.id == id) & (jobs.c.state == JobState.RUNNING.value)
                values = {"done": told[0], "total": told[1], "beat_at": self._now()}
                connection.execute(update(jobs).where(mine).values(values))
                one.told, one.beat = told, now

    def _sweep(self, connection: Connection, now: datetime | None = None) -> int:
        now, row = now or self._now(), jobs.c
        ended = (row.state != JobState.RUNNING.value) & (row.beat_at <= now - RESULT_KEPT)
        connection.execute(update(jobs).where(ended, row.result.is_not(None)).values(result=None))
        return connection.execute(delete(jobs).where(row.begun_at <= now - KEPT)).rowcount


def _job(found: Any, now: datetime) -> Job:
    id, staff, kind, about, state, done, total, report, has_result, name, begun, beat = found
    state = JobState(state)
    if state is JobState.RUNNING and beat < now - LOST:
        state = JobState.LOST
    readable = bool(has_result) and beat > now - RESULT_KEPT
    return Job(id, staff, kind, about, state, done, total, json.loads(report), readable, name, begun, beat)
