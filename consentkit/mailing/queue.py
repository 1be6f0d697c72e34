"""Past one machine: any number of workers on PostgreSQL share the mailings, part by part.

Procrastinate carries jobs that say "send part k of mailing m", and puts back what a dead worker held. A job holds
nothing that our tables don't: one that is lost is made again, one that two workers have does no harm, and the promises
stay with the release. Its tables have a schema of their own, which the first worker makes; the host's are not touched.
"""

from __future__ import annotations

import asyncio
import logging
import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime, timedelta
from hashlib import sha256
from itertools import product
from time import monotonic
from typing import Any, Final

from sqlalchemy import text
from sqlalchemy.engine import Connection
from sqlalchemy.exc import ProgrammingError, SQLAlchemyError

from consentkit.errors import ConsentKitError, SettingsError
from consentkit.mail import Envelope, Wire
from consentkit.mailing.engine import Carrier, Engine
from consentkit.store import Store

try:
    import psycopg
    from procrastinate import App, JobContext, PsycopgConnector
    from procrastinate.exceptions import AlreadyEnqueued, ConnectorException, ProcrastinateException, UniqueViolation
    from procrastinate.jobs import Job, Status
    from procrastinate.schema import SchemaManager
    from procrastinate.worker import Worker
except ImportError as missing:
    _problem = "--queue procrastinate needs a library of its own: run `pip install 'consentkit[queue]'`"
    raise SettingsError([_problem], source="worker") from missing

log = logging.getLogger("consentkit.mailing")

SCHEMA: Final = "consentkit_queue"
QUEUE: Final = "consentkit"
PARTS: Final = 16
"""Into so many parts a mailing is cut, and so many workers can share it."""

AT_ONCE: Final = 2
"""Parts that a worker sends at once, each over its share of the connections: while one asks the database, one sends."""

SLICE_SECONDS: Final = 30.0
"""How long a worker stays with a part before others have their turn."""

LOOK_SECONDS: Final = 2.0
"""How often a worker shows that it lives, and looks for mailings and dead workers that nobody took care of."""

POLL_SECONDS: Final = 1.0
DEAD_SECONDS: Final = 20.0
"""A worker that did not show itself for so long is dead; what it had is taken over."""

LONGEST: Final = timedelta(minutes=1)
"""A part that waits is looked at so often: others may have put back some of it."""

GOODBYE_SECONDS: Final = 35.0
FALTER_SECONDS: Final = 5.0

_ADVISORY_LOCK: Final = 0x71756575  # "queu": workers that start together make the tables one after the other
_NEVER: Final = 1e9
_AWAY: Final = (ProcrastinateException, psycopg.Error, ConsentKitError, SQLAlchemyError, OSError)


class Queue:
    """One worker.

    Args:
        store: the database. due: the mailings that may send now. wire: makes the connections to the mail server.
        engine: makes the one that sends, over carriers that it is given. clock: tells the time, aware.

    Raises:
        SettingsError: the database is SQLite, where one process sends at a time.
    """

    def __init__(
        self,
        store: Store,
        *,
        due: Callable[[int | None], Sequence[int]],
        engine: Callable[[Callable[[], Carrier]], Engine],
        wire: Callable[[], Wire],
        clock: Callable[[], datetime],
    ) -> None:
        if store.sqlite:
            problem = "database.url names SQLite, where one worker sends: leave out --queue, or write postgresql://…"
            raise SettingsError([problem], source="worker")
        self._store = store
        self._due = due
        self._make_engine = engine
        self._make_wire = wire
        self._now = clock

    def prepare(self) -> None:
        """Make the queue's tables where they are missing; safe to start several times at once.

        Raises:
            DatabaseUnavailable, SchemaOutdated: as ever.
            SettingsError: this role may not make them, or workers with another release of Procrastinate are running.
        """
        with self._store.told(), self._store.begin() as connection:
            _prepare(connection)

    def run(self, *, once: bool = False) -> None:
        """Send what is due until SIGTERM or SIGINT, sharing it with all other workers. Waits for a database.

        Args:
            once: end when nothing is due.
        """
        with asyncio.Runner(loop_factory=asyncio.SelectorEventLoop) as runner:  # psycopg needs this one on Windows
            runner.run(self._run(once=once))

    async def _run(self, *, once: bool) -> None:
        stop = asyncio.Event()
        with _heeding(stop):
            while not stop.is_set():
                try:
                    await self._serve(stop, once=once)
                except _AWAY as error:
                    if once:
                        raise
                    log.error("the queue can't be used (%s): it is tried again", type(error).__name__)
                if once:
                    return
                with suppress(TimeoutError):
                    await asyncio.wait_for(stop.wait(), FALTER_SECONDS)

    async def _serve(self, stop: asyncio.Event, *, once: bool) -> None:
        """Work until told to stop, or until the queue's connections fail."""
        wire = self._make_wire()
        address = self._store.engine
        _, parameters = address.dialect.create_connect_args(address.url)
        parameters["options"] = f"{parameters.get('options', '')} -c search_path={SCHEMA}".strip()
        app = App(connector=PsycopgConnector(kwargs=parameters, min_size=1, max_size=3, timeout=10.0))
        shares = _shares(wire)
        desk = _Desk(app, self._make_engine(shares.pop), self._due, self._now, most=_NEVER if once else SLICE_SECONDS)
        try:
            async with app.open_async():
                while not stop.is_set():
                    await desk.look()
                    await desk.work(stop, len(shares), wait=not once)
                    if not once or not await desk.has_more():
                        return
                    await asyncio.sleep(POLL_SECONDS)
        finally:
            await wire.close()


class _Desk:
    """A worker at the queue, for as long as its connections hold."""

    def __init__(
        self,
        app: App,
        engine: Engine,
        due: Callable[[int | None], Sequence[int]],
        clock: Callable[[], datetime],
        *,
        most: float,
    ) -> None:
        self._jobs = app.job_manager
        self._app = app
        self._engine = engine
        self._due = due
        self._now = clock
        self._most = most
        self._worker: Worker | None = None
        self._ended: dict[int, float] = {}
        self._task = app.task(name="consentkit.send", queue=QUEUE, pass_context=True)(self._send)

    async def work(self, stop: asyncio.Event, at_once: int, *, wait: bool) -> None:
        """Take jobs until told to stop, or with `wait` false until there is none."""
        self._worker = Worker(
            self._app,
            queues=[QUEUE],
            concurrency=at_once,
            wait=wait,
            fetch_job_polling_interval=POLL_SECONDS,
            listen_notify=False,
            delete_jobs="always",
            install_signal_handlers=False,
            update_heartbeat_interval=_NEVER,  # its own way gives up at the first failure: `look` does it
            stalled_worker_timeout=DEAD_SECONDS,
        )
        working = asyncio.create_task(self._worker.run())  # type: ignore[no-untyped-call]
        told = asyncio.create_task(stop.wait())
        well = True
        while True:
            await asyncio.wait({working, told}, timeout=LOOK_SECONDS, return_when=asyncio.FIRST_COMPLETED)
            if working.done() or told.done():
                break
            try:
                await self.look()
                well = True
            except _AWAY as error:
                if well:
                    log.error("the queue does not answer (%s): it is tried again", type(error).__name__)
                well = False
        if not working.done():
            self._engine.stop()
            self._worker.stop()  # type: ignore[no-untyped-call]
            await asyncio.wait({working}, timeout=GOODBYE_SECONDS)
        told.cancel()
        if working.done():
            working.result()

    async def look(self) -> None:
        """Show that we live, put back the jobs of workers that don't, and make the jobs that are missing."""
        if self._worker is not None and self._worker.worker_id is not None:
            await self._jobs.update_heartbeat(self._worker.worker_id)
        for job in await self._jobs.get_stalled_jobs(queue=QUEUE, seconds_since_heartbeat=DEAD_SECONDS):
            await self._put_back(job)
        waiting = [*await self._jobs.list_jobs_async(queue=QUEUE)]
        now = monotonic()
        self._ended = {job.id: self._ended[job.id] for job in waiting if job.id in self._ended}
        for job in waiting:  # one of ours that ended, and the database did not hear of it
            if job.status == Status.DOING.value and now - self._ended.get(job.id or 0, now) > DEAD_SECONDS:
                await self._put_back(job)
        known = {job.queueing_lock for job in waiting}
        for mailing, part in product(await asyncio.to_thread(self._due, None), range(PARTS)):
            if _name(mailing, part) not in known:
                await self._put(mailing, part, PARTS, None, first=True)

    async def has_more(self) -> bool:
        """Whether there is a job that can be taken within moments."""
        soon = self._now() + 2 * timedelta(seconds=POLL_SECONDS)
        waiting = await self._jobs.list_jobs_async(queue=QUEUE, status=Status.TODO.value)
        return any(job.scheduled_at is None or job.scheduled_at <= soon for job in waiting)

    async def _send(self, context: JobContext, mailing: int, part: int, parts: int) -> None:
        """The job: send a part for a while, and come back to it when there is more to do."""
        job = context.job.id or 0
        self._ended.pop(job, None)
        try:
            again = await self._engine.work(mailing, part=part, parts=parts, wait=False, most=self._most)
            if again is not None:
                now = self._now()
                await self._put(mailing, part, parts, min(again, now + LONGEST) if again > now else None)
        finally:
            self._ended[job] = monotonic()

    async def _put(self, mailing: int, part: int, parts: int, at: datetime | None, *, first: bool = False) -> None:
        """Add a job. A new mailing goes before those that are further, so a short one need not wait long."""
        name = _name(mailing, part)  # one waits at most, one is worked on at most
        deferrer = self._task.configure(
            lock=name, queueing_lock=name, schedule_at=at, priority=-part if first else -PARTS
        )
        with suppress(AlreadyEnqueued):
            await deferrer.defer_async(mailing=mailing, part=part, parts=parts)

    async def _put_back(self, job: Job) -> None:
        log.warning("a worker left its part of mailing %s: it is taken over", job.task_kwargs.get("mailing"))
        try:
            await self._jobs.retry_job(job)
        except UniqueViolation:  # it had put down the next one already
            with suppress(ConnectorException):
                await self._jobs.finish_job(job, Status.ABORTED, delete_job=True)
        except ConnectorException as error:
            if not isinstance(error.__cause__, psycopg.errors.RaiseException):  # else another was first
                raise


class _Share:
    """Some of the connections of a worker, for one part at a time."""

    def __init__(self, wire: Wire, capacity: int, home: list[_Share]) -> None:
        self._wire = wire
        self._home = home
        self.capacity = capacity

    @property
    def trouble(self) -> str | None:
        return self._wire.trouble

    def ready_in(self) -> float:
        return self._wire.ready_in()

    async def send(self, envelope: Envelope) -> None:
        await self._wire.send(envelope)

    async def close(self) -> None:
        """Leave the connections to the next part."""
        self._home.append(self)


def _shares(wire: Wire) -> list[_Share]:
    """All connections, divided among the parts that are sent at once: so many messages are in doubt at most."""
    count = min(AT_ONCE, wire.capacity)
    home: list[_Share] = []
    home += [_Share(wire, (wire.capacity + number) // count, home) for number in range(count)]
    return home


def _name(mailing: int, part: int) -> str:
    return f"{mailing}.{part}"


@contextmanager
def _heeding(stop: asyncio.Event) -> Iterator[None]:
    """Ends politely at SIGTERM and SIGINT, where this thread and this system can."""
    loop, heard = asyncio.get_running_loop(), []
    for one in (signal.SIGTERM, signal.SIGINT):
        with suppress(NotImplementedError, RuntimeError, ValueError):
            loop.add_signal_handler(one, stop.set)
            heard.append(one)
    try:
        yield
    finally:
        for one in heard:
            loop.remove_signal_handler(one)


def _prepare(connection: Connection) -> None:
    """Make Procrastinate's tables, or make them anew for another release of it: they hold nothing of their own.

    Raises:
        SettingsError: this role may not, or workers with another release are still at it.
    """
    tables = SchemaManager.get_schema()
    release = f"procrastinate {sha256(tables.encode()).hexdigest()[:16]}"
    connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _ADVISORY_LOCK})
    found: Any = connection.execute(
        text("SELECT coalesce(obj_description(to_regnamespace(:name), 'pg_namespace'), '')"), {"name": SCHEMA}
    ).scalar()
    if found == release:
        return
    connection.exec_driver_sql(f"SET LOCAL search_path TO {SCHEMA}")
    if connection.execute(text("SELECT to_regclass('procrastinate_workers')")).scalar() is not None:
        lives = "SELECT EXISTS (SELECT 1 FROM procrastinate_workers WHERE last_heartbeat > now() - :dead)"
        if connection.execute(text(lives), {"dead": timedelta(seconds=DEAD_SECONDS)}).scalar():
            problem = "workers with another release of procrastinate are running: stop them first"
            raise SettingsError([problem], source="worker")
    try:
        connection.exec_driver_sql(f"DROP SCHEMA IF EXISTS {SCHEMA} CASCADE; CREATE SCHEMA {SCHEMA}")
        connection.exec_driver_sql(tables.replace("%", "%%"))
        connection.exec_driver_sql(f"COMMENT ON SCHEMA {SCHEMA} IS '{release}'")
    except ProgrammingError as error:
        problem = f"this role can't make the schema {SCHEMA}: GRANT CREATE ON DATABASE to it, for the first start"
        raise SettingsError([problem], source="worker") from error
