"""The database: one engine, write and read transactions, and the schema that this release needs."""

from __future__ import annotations

import sqlite3
import threading
import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, cast

from sqlalchemy import create_engine, event
from sqlalchemy.engine import URL, Connection, Engine, make_url
from sqlalchemy.exc import ArgumentError, InterfaceError, OperationalError, SQLAlchemyError

from consentkit.errors import ConsentKitError, DatabaseUnavailable, SchemaOutdated, SettingsError
from consentkit.store import migrations
from consentkit.store.base import SCHEMA, after_fork

if TYPE_CHECKING:
    from sqlalchemy.pool import ConnectionPoolEntry

_POSTGRES = frozenset({"postgres", "postgresql", "postgresql+psycopg"})
_WRITES = "consentkit_writes"
_WAL_TRIES = 50


class Store:
    """The database at `url`. Nothing is opened before the first use, so a database that is away stops no start.

    Args:
        url: `sqlite:///file.db`, or `postgresql://user:password@host/name` (psycopg 3, extra `postgres`).

    Raises:
        SettingsError: the address names no database that consentkit can use.
    """

    def __init__(self, url: str) -> None:
        address = _address(url)
        self.url = address.render_as_string(hide_password=True)
        self.sqlite = address.get_backend_name() == "sqlite"
        self.engine = _sqlite_engine(address) if self.sqlite else _postgres_engine(address)
        self._current = False
        self._preparing = threading.Lock()
        self._turn = threading.Lock()
        self._readers: deque[sqlite3.Connection] = deque()
        after_fork(self, "after_fork")

    @contextmanager
    def begin(self, *, patience: float = 30.0) -> Iterator[Connection]:
        """A write transaction, committed at the end of the block. SQLite takes its write lock at once.

        Args:
            patience: seconds to wait for a lock, and for any one statement on PostgreSQL.

        Raises:
            SchemaOutdated: PostgreSQL has an older schema (SQLite is upgraded by itself).
            sqlalchemy.exc.OperationalError: the database is away, full, or locked for longer than `patience`.
        """
        self.check(patience=patience)
        with self._writing(patience) as connection:
            yield connection

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """A read transaction that sees one moment of the database, however long it lasts."""
        with self.told(), self.engine.connect() as connection:
            self.check()
            if not self.sqlite:
                connection.execution_options(isolation_level="REPEATABLE READ")
            with connection.begin():
                yield connection

    def fetch(self, query: str, values: Sequence[Any]) -> Sequence[Sequence[Any]]:
        """The rows of one short SELECT with `?` for its values, as fresh as the moment; raw, as the driver gives them.

        On SQLite a connection outside the pool answers: an indexed look-up then costs some 10 µs, not 150.

        Raises:
            DatabaseUnavailable, SchemaOutdated: as `read`.
        """
        if not self._current:
            with self.told():
                self.check()
        if not self.sqlite:
            with self.told(), self.engine.connect() as connection, connection.begin():
                return connection.exec_driver_sql(query.replace("?", "%s"), tuple(values)).all()
        reader = self._reader()
        try:
            rows = reader.execute(query, tuple(values)).fetchall()
        except sqlite3.Error as error:
            reader.close()
            raise self._away(error) from error
        self._readers.append(reader)
        return rows

    def _reader(self) -> sqlite3.Connection:
        """A connection that nobody uses now: the pool is for transactions, and asks more of each."""
        try:
            return self._readers.pop()
        except IndexError:
            with self.told():
                pooled = self.engine.raw_connection()
            made = cast("sqlite3.Connection", pooled.driver_connection)
            pooled.detach()
            return made

    def _away(self, reason: object) -> DatabaseUnavailable:
        text = (str(reason).strip().splitlines() or ["no reason given"])[0]
        return DatabaseUnavailable(
            f"the database {self.url} does not answer: {text}. Start it, or correct [database] url"
        )

    @contextmanager
    def told(self) -> Iterator[None]:
        """Say in a sentence of ours that the database does not answer, for whoever asks by hand.

        Raises:
            DatabaseUnavailable: instead of the driver's error.
        """
        try:
            yield
        except (OperationalError, InterfaceError) as error:
            raise self._away(error.orig or "no reason given") from error

    def check(self, *, patience: float = 30.0) -> None:
        """Make sure, once, that the schema is this release's; a SQLite file is made and upgraded here.

        Raises:
            SchemaOutdated: PostgreSQL needs `consentkit db upgrade`, or the schema is of a newer release.
        """
        if not self._current:
            with self._preparing:
                self._prepare(patience)

    def pending(self) -> list[str]:
        """The schema changes that the database still lacks, oldest first.

        Raises:
            SchemaOutdated: the schema is of a newer release, so this one can't tell.
        """
        with self.engine.connect() as connection:
            return migrations.pending(connection)

    def upgrade(self) -> list[str]:
        """Bring the schema up to date in one transaction; safe to start several times at once.

        Returns:
            the changes that were made, oldest first.
        """
        with self.told(), self._preparing:
            done = self._upgrade(60.0)
            self._current = True
        return done

    def healthy(self) -> bool:
        """Whether the database answers and has the right schema. Never raises."""
        try:
            self.check(patience=1.0)
            with self.engine.connect() as connection:
                connection.exec_driver_sql("SELECT 1")
        except (SQLAlchemyError, ConsentKitError, OSError):
            return False
        return True

    def after_fork(self) -> None:
        """Forget the parent's connections without closing them under its feet."""
        self._preparing = threading.Lock()
        self._turn = threading.Lock()
        self._readers = deque()
        self.engine.dispose(close=False)

    def close(self) -> None:
        """Close all connections; a later use opens new ones."""
        while self._readers:
            self._readers.pop().close()
        self.engine.dispose()

    def _prepare(self, patience: float) -> None:
        missing = [] if self._current else self.pending()
        if missing and self.sqlite:
            self._upgrade(patience)
        elif missing:
            raise SchemaOutdated(
                f"the database {self.url} lacks {len(missing)} schema change(s), first {missing[0]}: "
                "run `consentkit db upgrade`"
            )
        self._current = True

    def _upgrade(self, patience: float) -> list[str]:
        with self._writing(patience) as connection:
            return migrations.upgrade(connection)

    @contextmanager
    def _writing(self, patience: float) -> Iterator[Connection]:
        milliseconds = int(patience * 1000)
        with (
            self._one_at_a_time(patience),
            self.engine.connect().execution_options(**{_WRITES: milliseconds}) as connection,
            connection.begin(),
        ):
            if not self.sqlite:
                connection.exec_driver_sql(
                    f"SET LOCAL lock_timeout = {milliseconds}; SET LOCAL statement_timeout = {milliseconds}"
                )
            yield connection

    @contextmanager
    def _one_at_a_time(self, patience: float) -> Iterator[None]:
        """On SQLite the threads of a process queue here: its own lock is polled, and some would starve."""
        if not self.sqlite:
            yield
            return
        if not self._turn.acquire(timeout=patience):
            raise OperationalError("BEGIN IMMEDIATE", None, sqlite3.OperationalError("database is locked"))
        try:
            yield
        finally:
            self._turn.release()


def _address(url: str) -> URL:
    try:
        address = make_url(url)
    except ArgumentError as error:
        raise _wrong("is no database URL") from error
    if address.drivername in _POSTGRES:
        return address.set(drivername="postgresql+psycopg")
    if address.get_backend_name() != "sqlite":
        raise _wrong(f"names {address.drivername!r}")
    if not address.database or address.database.startswith((":memory:", "file:")):
        raise _wrong("names a database in memory, which would lose the evidence")
    return address.set(drivername="sqlite")


def _wrong(what: str) -> SettingsError:
    remedy = "write sqlite:///consentkit.db or postgresql://user:password@host/name"
    return SettingsError([f"database.url {what}: {remedy}"], source="database")


def _postgres_engine(address: URL) -> Engine:
    # A dead peer must show within seconds: a visitor waits for the answer (tcp_user_timeout is in milliseconds).
    arguments = {"connect_timeout": 2, "tcp_user_timeout": 2000, "application_name": "consentkit"}
    arguments = {name: value for name, value in arguments.items() if name not in address.query}
    try:
        engine = create_engine(address, connect_args=arguments, pool_pre_ping=True, hide_parameters=True)
    except ModuleNotFoundError as error:
        problem = "database.url needs the driver psycopg: pip install 'consentkit[postgres]'"
        raise SettingsError([problem], source="database") from error

    @event.listens_for(engine, "begin")
    def _begun(connection: Connection) -> None:
        # For this transaction only: a pooler may hand the session to somebody else afterwards.
        connection.exec_driver_sql(f"SET LOCAL search_path TO {SCHEMA}, public")

    return engine


def _sqlite_engine(address: URL) -> Engine:
    engine = create_engine(address, hide_parameters=True)  # errors are logged, events are not

    @event.listens_for(engine, "connect")
    def _connected(connection: sqlite3.Connection, _entry: ConnectionPoolEntry) -> None:
        connection.isolation_level = None  # the driver's own BEGIN comes too late and leaves DDL out
        connection.execute("PRAGMA busy_timeout = 10000")
        _use_wal(connection)
        # WAL with FULL syncs the log at every commit: what was committed survives a power cut.
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA foreign_keys = ON")
        # A large group commit changes some 200 pages; at the default of 1000 every fifth would end in a checkpoint.
        connection.execute("PRAGMA wal_autocheckpoint = 4000")

    @event.listens_for(engine, "begin")
    def _begun(connection: Connection) -> None:
        patience: Any = connection.get_execution_options().get(_WRITES)
        if patience is None:
            connection.exec_driver_sql("BEGIN")
            return
        # A transaction that starts reading can't always become a writer: take the lock first.
        connection.exec_driver_sql(f"PRAGMA busy_timeout = {patience:d}")
        connection.exec_driver_sql("BEGIN IMMEDIATE")

    return engine


def _use_wal(connection: sqlite3.Connection) -> None:
    """Switch to the write-ahead log. The switch ignores busy_timeout, so several starting processes retry."""
    for attempt in range(_WAL_TRIES):
        try:
            connection.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError:
            if attempt == _WAL_TRIES - 1:
                raise
            time.sleep(0.02)
        else:
            return
