"""The local journal: where answered events wait, synced to disk, while the database is away.

One file per process and outage, of lines that each carry a checksum. A file belongs to whoever holds its lock; the
lock of a dead process is free, so the next process adopts its file. A file is removed once the database has it all.
"""

from __future__ import annotations

import json
import os
import secrets
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from datetime import date
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

from consentkit.evidence.event import ConsentEvent, Notice, Refusal, canonical, moment, stamp
from consentkit.evidence.ledger import Entry

SUFFIX: Final = ".journal"


class Journal:
    """The journals in one directory. Safe to use from several threads.

    Args:
        directory: made when first needed, for this user only.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._lock = threading.Lock()
        self._open: JournalFile | None = None
        self._sealed: list[JournalFile] = []

    @property
    def waiting(self) -> bool:
        """Whether this process has entries that are not in the database yet."""
        return self._open is not None or bool(self._sealed)

    def append(self, entries: Sequence[Entry]) -> None:
        """Write the entries and sync them to disk: when this returns they survive a crash.

        Raises:
            OSError: the disk is full or away; then nothing of them was kept.
        """
        with self._lock:
            if self._open is None:
                self._open = JournalFile.create(self.directory)
            try:
                self._open.append(entries)
            except OSError:
                # What this file's end looks like is unknown now: write no more behind it.
                self._sealed.append(self._open)
                self._open = None
                raise

    def sealed(self) -> list[JournalFile]:
        """This process's files, oldest first; from now on new entries go to a new one."""
        with self._lock:
            if self._open is not None:
                self._sealed.append(self._open)
                self._open = None
            return list(self._sealed)

    def done(self, file: JournalFile) -> None:
        """The database has all of this file: remove it."""
        file.remove()
        with self._lock:
            self._sealed = [one for one in self._sealed if one is not file]

    def orphans(self) -> Iterator[JournalFile]:
        """Files that nobody alive holds, oldest first, each locked for the caller, who removes or closes it."""
        with self._lock:
            own = {file.path for file in (*self._sealed, self._open) if file is not None}
        with suppress(OSError):
            for path in sorted(self.directory.glob(f"*{SUFFIX}")):
                file = None if path in own else JournalFile.adopt(path)
                if file is not None:
                    yield file

    def after_fork(self) -> Journal:
        """A fresh journal for the child; the parent's files stay the parent's."""
        for file in (*self._sealed, self._open):
            if file is not None:
                file.close()
        return Journal(self.directory)

    def close(self) -> None:
        """Let go of the files; what is in them is adopted by the next process."""
        for file in self.sealed():
            file.close()
        self._sealed.clear()


class JournalFile:
    """One locked journal file."""

    def __init__(self, path: Path, handle: int) -> None:
        self.path = path
        self._handle = handle
        self._size = os.fstat(handle).st_size
        self._notices: set[str] = set()
        self.damaged = 0
        self.spoilt = False

    @classmethod
    def create(cls, directory: Path) -> JournalFile:
        """A new, empty, locked file whose name sorts after those before it.

        Raises:
            OSError: the directory can't be written.
        """
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        while True:
            path = directory / f"{time.time_ns():020d}-{os.getpid()}-{secrets.token_hex(8)}{SUFFIX}"
            handle = os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_APPEND, 0o600)
            # Another process may adopt and remove the file between these two lines: then it is not ours to use.
            if _locked(handle) and _still_there(path, handle):
                _sync_directory(directory)
                return cls(path, handle)
            os.close(handle)

    @classmethod
    def adopt(cls, path: Path) -> JournalFile | None:
        """The file at `path` if its owner is gone, locked; else `None`."""
        try:
            handle = os.open(path, os.O_RDWR | os.O_APPEND)
        except OSError:
            return None
        if _locked(handle) and _still_there(path, handle):
            return cls(path, handle)
        os.close(handle)
        return None

    @property
    def name(self) -> str:
        """The file's name, the same everywhere it may be mounted."""
        return self.path.name

    def append(self, entries: Sequence[Entry]) -> None:
        """Write the entries behind the others and sync; all of them or, with an `OSError`, none."""
        lines: list[bytes] = []
        fresh: set[str] = set()
        for entry in entries:
            notice = entry.notice
            if notice is not None and notice.hash not in self._notices and notice.hash not in fresh:
                fresh.add(notice.hash)
                lines.append(_line({"notice": notice.body.decode()}))
            lines.append(_line(_written(entry.what)))
        data = b"".join(lines)
        try:
            _write_all(self._handle, data)
            os.fsync(self._handle)
        except OSError:
            with suppress(OSError):
                os.ftruncate(self._handle, self._size)
            raise
        self._size += len(data)
        self._notices |= fresh

    def read(self, *, after: int = 0, chunk: int = 500) -> Iterator[tuple[int, list[Entry]]]:
        """The entries behind line `after`, in pieces, each with the number of lines up to its end.

        A line that does not match its checksum is left out and counted in `damaged`. The last one is torn when the
        machine stopped while it was written, and then nobody had an answer yet; any other makes the file `spoilt`.
        """
        notices: dict[str, Notice] = {}
        piece: list[Entry] = []
        lines = 0
        bad: list[int] = []
        with self.path.open("rb") as file:
            for line in file:
                lines += 1
                values = _checked(line)
                if values is None:
                    bad.append(lines)
                elif "notice" in values:
                    notice = Notice.load(values["notice"].encode())
                    notices[notice.hash] = notice
                elif lines > after:
                    what = _read(values)
                    piece.append(Entry(what, notices.get(what.notice_hash)))
                if len(piece) == chunk:
                    yield lines, piece
                    piece = []
        self.damaged = len(bad)
        self.spoilt = any(number < lines for number in bad)
        if piece:
            yield lines, piece

    def set_aside(self) -> Path:
        """Keep the file for people to look at, under a name that is not replayed again; returns it."""
        kept = self.path.with_suffix(".aside")
        self.path.rename(kept)
        return kept

    def remove(self) -> None:
        """Delete the file, then let go of its lock."""
        self.path.unlink(missing_ok=True)
        _sync_directory(self.path.parent)
        self.close()

    def close(self) -> None:
        """Let go of the file and its lock."""
        with suppress(OSError):
            os.close(self._handle)


def _line(values: dict[str, Any]) -> bytes:
    body = canonical(values)
    return f"{_digest(body)} {body}\n".encode()


def _checked(line: bytes) -> dict[str, Any] | None:
    digest, _, body = line.rstrip(b"\n").partition(b" ")
    try:
        text = body.decode()
        if _digest(text) != digest.decode() or not line.endswith(b"\n"):
            return None
        values: dict[str, Any] = json.loads(text)
    except ValueError:
        return None
    return values


def _digest(body: str) -> str:
    return sha256(body.encode()).hexdigest()[:16]


def _written(what: ConsentEvent | Refusal) -> dict[str, Any]:
    if isinstance(what, Refusal):
        return {
            "kind": "refusal",
            "site": what.site,
            "day": what.day.isoformat(),
            "decision": what.decision,
            "notice_hash": what.notice_hash,
            "event_id": what.event_id,
        }
    until = None if what.valid_until is None else stamp(what.valid_until)
    fixed = {name: getattr(what, name) for name in _TEXTS}
    return {"kind": "event", **fixed, "at": stamp(what.at), "purposes": dict(what.purposes), "valid_until": until}


_TEXTS = (
    "site",
    "record_id",
    "state",
    "notice_hash",
    "language",
    "ui_build",
    "method",
    "policy",
    "controller",
    "nonce",
    "event_id",
)


def _read(values: dict[str, Any]) -> ConsentEvent | Refusal:
    if values["kind"] == "refusal":
        day = date.fromisoformat(values["day"])
        texts = (values["site"], day, values["decision"], values["notice_hash"])
        return Refusal(*texts, event_id=values["event_id"])
    until = None if values["valid_until"] is None else moment(values["valid_until"])
    texts_of = {name: values[name] for name in _TEXTS}
    return ConsentEvent(**texts_of, at=moment(values["at"]), purposes=values["purposes"], valid_until=until)


def _write_all(handle: int, data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(handle, rest) :]


def _locked(handle: int) -> bool:
    """Take the file's lock if it is free. The lock goes with the process, whatever ends it."""
    if sys.platform == "win32":
        return True
    import fcntl  # noqa: PLC0415 (there is none on Windows)

    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _still_there(path: Path, handle: int) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(handle))
    except OSError:
        return False


def _sync_directory(directory: Path) -> None:
    if sys.platform == "win32":
        return
    handle = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
