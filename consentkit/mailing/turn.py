"""Who sends, and which of them is dead: a sender holds a lock that goes when its process goes, however it dies.

On SQLite one process sends at a time; its lock is a database file of its own beside the other, which stays empty. On
PostgreSQL any number do, each with an advisory lock on a connection that it keeps (not through a pooler that gives a
session to others between transactions). A sender that is wrongly taken for dead does no harm: what it still holds is
in doubt until it says otherwise, and what it had not released it can't release any more.
"""

from __future__ import annotations

import os
import sqlite3
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from stat import S_IMODE
from tempfile import mkstemp
from typing import Final
from uuid import uuid4

from sqlalchemy import text
from sqlalchemy.engine import Connection
from sqlalchemy.exc import SQLAlchemyError

from consentkit.errors import ConsentKitError
from consentkit.store import Store

_CLASS: Final = 0x6D61696C  # "mail": these locks apart from others in the same PostgreSQL database
_KEEP_ALIVE: Final = (("tcp_keepalives_idle", 10), ("tcp_keepalives_interval", 5), ("tcp_keepalives_count", 3))
"""A host that vanished is noticed within half a minute."""

_PRIMARY: Final = 0xFF
"""The part of a code of SQLite that says what kind of error it is (https://sqlite.org/rescode.html)."""

_parents: Final[list[object]] = []
"""What a fork found open: to close it would speak for its parent."""


class Turn:
    """The lock of one sender.

    A forked child has nothing of its parent's turn: the lock stays the parent's, whose file and session it neither
    uses nor closes. Asked there, a turn begins anew, as another sender.

    Args:
        store: the database.

    Attributes:
        holder: names this sender. epoch: how many times it got its lock. Where that grew, the lock was lost meanwhile,
            and others may have taken over what was held under it.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self.epoch = 0
        self._begin()

    def _begin(self) -> None:
        self.holder = uuid4().hex
        self._process = os.getpid()
        self._file: sqlite3.Connection | None = None
        self._inode: tuple[int, int] | None = None
        self._session: Connection | None = None

    def take(self) -> bool:
        """Whether this sender may send now; takes its lock where it has none yet. Waits for nobody.

        Raises:
            ConsentKitError: the file of the lock can't be used; the sentence names it. SQLAlchemyError: PostgreSQL
                does not answer.
        """
        self._mind_forks()
        return self._take_file() if self._store.sqlite else self._take_session()

    def is_dead(self, holder: str) -> bool:
        """Whether another sender's process is gone. Ask while this one has its turn."""
        self._mind_forks()
        if self._store.sqlite:
            return holder != self.holder  # there is one turn, and it is ours
        if self._session is None or holder == self.holder:
            return False
        key = {"class": _CLASS, "key": _number(holder)}
        if not self._session.execute(text("SELECT pg_try_advisory_lock(:class, :key)"), key).scalar():
            return False
        self._session.execute(text("SELECT pg_advisory_unlock(:class, :key)"), key)
        return True

    def leave(self) -> None:
        """Let others have it."""
        self._mind_forks()
        if self._file is not None:
            self._file.close()
            self._file = None
        if self._session is not None:
            session, self._session = self._session, None
            _discard(session)

    def _mind_forks(self) -> None:
        if self._process != os.getpid():
            _parents.append((self._file, self._session))
            self._begin()

    def _take_file(self) -> bool:
        path = Path(f"{self._store.engine.url.database}-sending")
        if self._file is not None:
            if _inode(path) == self._inode:
                return True
            self.leave()  # somebody removed the file: others lock a new one
        _make_like(path, Path(str(self._store.engine.url.database)))
        file: sqlite3.Connection | None = None
        try:
            file = sqlite3.connect(path, timeout=0.0, isolation_level=None, check_same_thread=False)
            file.execute("PRAGMA journal_mode = MEMORY")
            file.execute("BEGIN EXCLUSIVE")  # which a file that can only be read grants to everybody
            file.execute("PRAGMA user_version = 1")  # which it does not
        except sqlite3.Error as error:
            if file is not None:
                file.close()
            if getattr(error, "sqlite_errorcode", 0) & _PRIMARY == sqlite3.SQLITE_BUSY:
                return False
            raise ConsentKitError(
                f"{path} can't be locked ({error}), and who sends has to. Give it the owner and mode of the database "
                "file, or remove it while nobody sends"
            ) from error
        self._file, self._inode = file, _inode(path)
        self.epoch += 1
        return True

    def _take_session(self) -> bool:
        if self._session is not None:
            try:
                self._session.execute(text("SELECT 1"))
            except SQLAlchemyError:
                self.leave()  # the lock went with the connection: others may have taken over what we held
            else:
                return True
        session = self._store.engine.connect().execution_options(isolation_level="AUTOCOMMIT")
        try:
            key = {"class": _CLASS, "key": _number(self.holder)}
            if not session.execute(text("SELECT pg_try_advisory_lock(:class, :key)"), key).scalar():
                session.close()  # somebody asks whether we are dead, or the server still has our lost connection
                return False
            for name, value in _KEEP_ALIVE:
                session.execute(text(f"SET {name} = {value}"))
        except SQLAlchemyError:
            _discard(session)
            raise
        self._session = session
        self.epoch += 1
        return True


def _discard(session: Connection) -> None:
    """Close a connection, and with it its lock."""
    with suppress(SQLAlchemyError):
        session.invalidate()
        session.close()


def _make_like(path: Path, database: Path) -> None:
    """Make the file of the lock where there is none, for whoever may write the database, too.

    It is made aside, and put in place whole: a file that is closed takes all locks of its process with it (fcntl(2)).
    What can't be done here is left to SQLite, which says what is wrong.
    """
    if os.name != "posix" or path.is_symlink() or path.exists():
        return
    try:
        wanted = database.stat()
        made, aside = mkstemp(prefix=f"{path.name}-", dir=path.parent)
    except OSError:
        return
    try:
        for owner, group in ((-1, wanted.st_gid), (wanted.st_uid, -1)):  # the second is for root alone
            with suppress(OSError):
                os.fchown(made, owner, group)
        os.fchmod(made, S_IMODE(wanted.st_mode))
    finally:
        os.close(made)
        with suppress(OSError):
            os.link(aside, path)
        Path(aside).unlink()


def _inode(path: Path) -> tuple[int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _number(holder: str) -> int:
    return int.from_bytes(sha256(holder.encode()).digest()[:4], "big", signed=True)
