"""Marks: how far a mailing is, noted beside the database, so that an older backup of it sends nothing a second time.

The database counts a mark and commits, the line is written, and only then messages go out. A database that is put back
and has counted fewer marks than the file says does not know who got the mailing since: that mailing stops, and a person
decides. It happens before anything is released, because whoever releases asks afgemeld first, which replays the file.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from sqlalchemy import and_, select, update
from sqlalchemy.engine import Connection
from sqlalchemy.exc import SQLAlchemyError

from consentkit.afgemeld import Afgemeld, Mark
from consentkit.errors import ConsentKitError
from consentkit.mailing.states import MailingState
from consentkit.mailing.tables import mailings
from consentkit.store import Store, after_fork

log = logging.getLogger("consentkit.mailing")

SECONDS: Final = 10.0
MESSAGES: Final = 500
"""After so many seconds or messages there is another mark: what a backup in between lacks can't be noticed."""

CAME_BACK: Final = (
    "the database came back from an older state: who got it since is not known here. Look at the mail server's log; "
    "resume sends it to everybody who is still queued, cancel gives them up"
)
WAS_DRAFT: Final = (
    "the database came back from an older state, in which this was a draft: by then it was being sent. Look at the "
    "mail server's log; make a new mailing for those who did not get it"
)

_columns = mailings.c


@dataclass(slots=True)
class _Since:
    """When a mailing had its last mark, when one reached the disk, and how many messages were released since."""

    at: float = -math.inf
    synced: float = -math.inf
    messages: int = 0


class Marks:
    """Makes the marks of this process's senders, and compares a database with those that it lacks.

    Args:
        store: the database. afgemeld: keeps the file. clock: tells the time, aware.
    """

    def __init__(self, store: Store, afgemeld: Afgemeld, *, clock: Callable[[], datetime]) -> None:
        self._store = store
        self._afgemeld = afgemeld
        self._now = clock
        self._fresh()
        after_fork(self, "_fresh")

    def _fresh(self) -> None:
        self._lock = threading.Lock()
        self._since: dict[int, _Since] = {}

    def note(self, mailing: int, released: int, *, last: bool = False) -> None:
        """Make a mark where one is due. Call it after each release, before anything of it is handed over.

        Never raises: what can't be marked now goes out all the same, and is marked as soon as it can be.

        Args:
            released: how many messages were, since the last call. last: this sender leaves the mailing.
        """
        with self._lock:
            since, now = self._since.setdefault(mailing, _Since()), time.monotonic()
            since.messages += released
            if since.messages and (last or since.messages >= MESSAGES or now - since.at >= SECONDS):
                sync = last or now - since.synced >= SECONDS
                if self._mark(mailing, sync=sync):
                    since.at, since.messages = now, 0
                    since.synced = now if sync else since.synced
            if last:
                del self._since[mailing]

    def _mark(self, mailing: int, *, sync: bool) -> bool:
        counted = update(mailings).where(_columns.id == mailing).values(marks=_columns.marks + 1)
        try:
            with self._store.begin() as connection:
                row = connection.execute(counted.returning(_columns.nonce, _columns.marks)).first()
        except (ConsentKitError, SQLAlchemyError, OSError) as error:
            log.warning("mailing %d can't be marked now: %s", mailing, type(error).__name__)
            return False
        if row is not None:
            self._afgemeld.mark(Mark(mailing, row.nonce, row.marks), sync=sync)
        return True

    def compare(self, connection: Connection, marks: Sequence[Mark]) -> None:
        """Stop the mailings whose marks the database has not counted; in the transaction that replays the file.

        Args:
            marks: those that the database may lack, by the numbers of their mailings.
        """
        query = select(_columns.id, _columns.nonce, _columns.marks)
        found = connection.execute(query.where(_columns.id.in_([one.mailing for one in marks])))
        known = {(row.id, row.nonce): row.marks for row in found}
        for one in marks:
            counted = known.get((one.mailing, one.nonce))
            if counted is None:
                log.warning(
                    "mailing %d was sent and is not in the database, which came back from an older state: before it is "
                    "written again, look at the mail server's log for who got it",
                    one.mailing,
                )
            elif counted < one.number:
                self._stop(connection, one)

    def _stop(self, connection: Connection, mark: Mark) -> None:
        here = and_(_columns.id == mark.mailing, _columns.nonce == mark.nonce)
        row = connection.execute(select(_columns.state, _columns.marks).where(here).with_for_update()).first()
        if row is None or row.marks >= mark.number:
            return
        values: dict[str, Any] = {"marks": mark.number}
        if row.state in (MailingState.SENDING, MailingState.PAUSED, MailingState.STOPPED):
            values |= {"state": MailingState.STOPPED.value, "note": CAME_BACK}
        elif row.state == MailingState.DRAFT:
            values |= {"state": MailingState.CANCELLED.value, "note": WAS_DRAFT, "ended_at": self._now()}
        connection.execute(update(mailings).where(here).values(values))
        state = values.get("state", row.state)
        log.error("mailing %d is %s now: the database came back from an older state", mark.mailing, state)
