"""The tombstones: what may never come back, in a file beside the database, so that an older backup can't undo it.

Each suppression and erasure is a line, synced to disk before its transaction commits. The database remembers how
much of the file it has. After a backup is put back that is less than the file's size, and the difference is replayed
before anything is read: a restored table knows again who left. Who came back is not noted: a sign-up that the backup
lacks is lost with it, and then the leaving before it holds. Between them stand marks of mailings that were being sent:
by these it shows that an older database would send them again. No line holds a readable address.
"""

from __future__ import annotations

import logging
import os
import secrets
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Final, NamedTuple

from sqlalchemy import select
from sqlalchemy.engine import Connection

from consentkit.afgemeld.entries import Reason, Suppression
from consentkit.afgemeld.tables import tombstones
from consentkit.store import after_fork

log = logging.getLogger("consentkit.afgemeld")

_ADD: Final = "add"
_ERASE: Final = "erase"
_MARK: Final = "mark"
_MARKED: Final = b" mark "
_SUM: Final = 8


class Tombstone(NamedTuple):
    """One line, read back: who left, or without a `suppression` whose data were erased."""

    digest: bytes
    at: datetime
    suppression: Suppression | None = None


class Mark(NamedTuple):
    """One line, read back: a mailing went on being sent after the database had counted so far.

    The database counts first, and commits; then the line is written; then messages go out. So a database that has not
    counted so far is older than what went out, and no crash between them looks like that.

    Args:
        mailing: its number. nonce: tells it apart from another that has its number after a restore.
        number: what the database had counted.
    """

    mailing: int
    nonce: int
    number: int


def added(one: Suppression) -> str:
    """The line for an address that left."""
    fields = (one.digest.hex(), one.key_id, one.scope, one.reason, one.channel, _stamp(one.at), one.mailing or "-")
    return _line(_ADD, *fields)


def erased(digest: bytes, at: datetime) -> str:
    """The line for a person whose data were erased."""
    return _line(_ERASE, digest.hex(), _stamp(at))


def marked(mark: Mark) -> str:
    """The line for a mailing that goes on."""
    return _line(_MARK, *map(str, mark))


def _stamp(at: datetime) -> str:
    return at.astimezone(UTC).isoformat(timespec="microseconds")


def _line(*fields: str) -> str:
    text = " ".join(fields)
    return f"{sha256(text.encode()).hexdigest()[:_SUM]} {text}\n"


def read_line(line: str) -> Tombstone | Mark | None:
    """What a line says; None for one that a crash tore off or somebody changed."""
    total, _, text = line.rstrip("\n").partition(" ")
    if sha256(text.encode()).hexdigest()[:_SUM] != total:
        return None
    try:
        match text.split(" "):
            case ["add", digest, key_id, scope, reason, channel, at, mailing]:
                moment = datetime.fromisoformat(at)
                kept = Suppression(
                    bytes.fromhex(digest), key_id, scope, Reason(reason), channel, moment,
                    None if mailing == "-" else mailing,
                )  # fmt: skip
                return Tombstone(kept.digest, moment, kept)
            case ["erase", digest, at]:
                return Tombstone(bytes.fromhex(digest), datetime.fromisoformat(at))
            case ["mark", mailing, nonce, number]:
                return Mark(int(mailing), int(nonce), int(number))
    except ValueError:
        return None
    return None


class Tombstones:
    """The file of one host. Several processes share it; one at a time writes.

    Args:
        path: made when first needed, for this user only.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._turn = threading.RLock()
        self._handle: int | None = None
        after_fork(self, "after_fork")

    @contextmanager
    def turn(self) -> Iterator[TombstoneFile | None]:
        """Be the only writer on this host while the block runs. None where the disk refuses: the database goes on."""
        with self._turn:
            try:
                handle = self._opened()
                _lock(handle)
                file = TombstoneFile(handle)
            except OSError as error:
                log.error(
                    "%s can't be written (%s): an older backup could bring addresses back", self.path, error.strerror
                )
                yield None
                return
            try:
                yield file
            finally:
                _unlock(handle)

    def _opened(self) -> int:
        if self._handle is None:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._handle = os.open(self.path, os.O_RDWR | os.O_APPEND | os.O_CREAT | getattr(os, "O_CLOEXEC", 0), 0o600)
        return self._handle

    @property
    def size(self) -> int:
        """How long the file is now; 0 without one."""
        try:
            return self.path.stat().st_size
        except OSError:
            return 0

    def after_fork(self) -> None:
        """In a forked child: the parent's turn and file are not ours."""
        self._turn = threading.RLock()
        self._handle = None

    def close(self) -> None:
        """Let go of the file."""
        with self._turn:
            if self._handle is not None:
                os.close(self._handle)
            self._handle = None


class TombstoneFile:
    """The file during one turn."""

    def __init__(self, handle: int) -> None:
        self._handle = handle
        self.size = os.fstat(handle).st_size
        if self.size == 0:
            self.append([f"# tombstones {secrets.token_hex(16)}: keep this file, and back it up apart\n"])
        self.name = self._read(13, 32).decode("ascii", "replace")

    def append(self, lines: Sequence[str], *, sync: bool = True) -> None:
        """Write whole lines and sync them.

        Args:
            sync: wait for the disk, so that they outlive a machine that loses its power too.

        Raises:
            OSError: the disk is full or away; nothing of them counts.
        """
        data = "".join(lines).encode()
        whole = self._mended() + data
        written = 0
        while written < len(whole):
            written += os.write(self._handle, whole[written:])
        if sync:
            os.fsync(self._handle)
        self.size += len(whole)

    def _mended(self) -> bytes:
        """A line end, where a crash tore the last line off."""
        return b"\n" if self.size and self._read(self.size - 1, 1) != b"\n" else b""

    def _read(self, start: int, length: int) -> bytes:
        os.lseek(self._handle, start, os.SEEK_SET)
        return os.read(self._handle, length)

    def missing(self, connection: Connection) -> Iterator[Tombstone]:
        """What the database lacks of who left and was erased, oldest first."""
        for line in self._lines(connection):
            found = read_line(line.decode("ascii", "replace"))
            if found is None:
                log.error("%s holds a line that can't be read; it is passed over", "the file of tombstones")
            elif isinstance(found, Tombstone):
                yield found

    def marks(self, connection: Connection) -> Sequence[Mark]:
        """The furthest mark of each mailing among what the database lacks, in the order of their numbers."""
        furthest: dict[tuple[int, int], Mark] = {}
        for line in self._lines(connection):
            found = read_line(line.decode("ascii", "replace")) if _MARKED in line else None
            if isinstance(found, Mark):
                furthest[found[:2]] = max(found, furthest.get(found[:2], found))
        return sorted(furthest.values())

    def _lines(self, connection: Connection) -> Iterator[bytes]:
        known = connection.execute(select(tombstones.c.size).where(tombstones.c.file == self.name)).scalar()
        if known is not None and known >= self.size:
            return
        with os.fdopen(os.dup(self._handle), "rb") as file:
            file.seek(known or 0)
            for line in file:
                if not line.startswith(b"#") and line.strip():
                    yield line

    def note(self, connection: Connection) -> None:
        """Remember, within the transaction, that the database has the whole file."""
        row = {"file": self.name, "size": self.size}
        moved = tombstones.update().where(tombstones.c.file == self.name).values(size=self.size)
        if connection.execute(moved).rowcount == 0:
            connection.execute(tombstones.insert().values(row))


def _lock(handle: int) -> None:
    if sys.platform != "win32":
        import fcntl  # noqa: PLC0415  # there is none on Windows

        fcntl.flock(handle, fcntl.LOCK_EX)


def _unlock(handle: int) -> None:
    if sys.platform != "win32":
        import fcntl  # noqa: PLC0415

        fcntl.flock(handle, fcntl.LOCK_UN)
