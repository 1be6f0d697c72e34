"""The outbox: service mails that must go out, kept in the database until the mail server has taken them.

A sign-up is answered before its mail is sent, so the answer can't tell whether an address is known, and a mail server
that is away loses nothing. One thread per process sends; a row that a dead process held is taken up after five minutes.
One row is no mail but the daily purge: whichever process comes to it first carries it out.
"""

from __future__ import annotations

import asyncio
import json
import logging
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from uuid import uuid4

from sqlalchemy import delete, func, select, update
from sqlalchemy.engine import Connection
from sqlalchemy.exc import SQLAlchemyError

from consentkit.errors import ConsentKitError
from consentkit.mail import Mailer, MailRefused, Message, Stage
from consentkit.newsletter.tables import outbox
from consentkit.store import Store, after_fork, insert_new

log = logging.getLogger("consentkit.mail")

AT_ONCE: Final = 8
HELD: Final = timedelta(minutes=5)
"""How long a row belongs to the process that took it."""

BACKOFF: Final = tuple(timedelta(minutes=minutes) for minutes in (1, 5, 15, 30, 60, 120, 240))
"""Between two tries; the last one repeats (RFC 5321 section 4.5.4.1 asks for patience; a link lives 72 hours)."""

LATE_AFTER: Final = 4
"""So many tries take most of an hour."""

IDLE_SECONDS: Final = 20.0

CALLS: Final = ("webhook", "withdrawal")
"""What is no mail: a partner of a list, or a service that a visitor had granted, is told of a withdrawal."""

PURGE: Final = "purge"
EVERY: Final = timedelta(days=1)
_FOR_EVER: Final = datetime(9999, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True, repr=False)
class Parcel:
    """One row of the outbox."""

    id: str
    kind: str
    site: str
    subscriber_id: int | None
    payload: Mapping[str, Any]
    tries: int


Write = Callable[[Parcel], Message | None]
Call = Callable[[Parcel], None]


class Outbox:
    """Puts mails in, within the caller's transaction, and sends them from a thread of its own.

    Args:
        store: the database. mailer: sends one message.
        write: makes the message of a row; None where there is nothing left to say (the person is gone).
        call: carries out a row of one of the kinds `CALLS`.
        purge: erases what is over its period; idempotent. Called once a day, in one of all processes.
        clock: tells the time, aware.
    """

    def __init__(
        self,
        store: Store,
        mailer: Mailer,
        *,
        write: Write,
        call: Call,
        purge: Callable[[], object],
        clock: Callable[[], datetime],
    ) -> None:
        self._store = store
        self._mailer = mailer
        self._write = write
        self._call = call
        self._purge = purge
        self._now = clock
        self._fresh()
        after_fork(self, "_fresh")

    def _fresh(self) -> None:
        self._lock = threading.Lock()
        self._bell = threading.Event()
        self._closing = False
        self._thread: threading.Thread | None = None

    def put(
        self,
        connection: Connection,
        kind: str,
        *,
        site: str,
        subscriber_id: int | None,
        payload: Mapping[str, Any],
        lasts: timedelta,
    ) -> None:
        """Add a mail; call `wake` once the transaction is committed."""
        now = self._now()
        row = {
            "id": uuid4().hex,
            "kind": kind,
            "site": site,
            "subscriber_id": subscriber_id,
            "payload": json.dumps(payload, ensure_ascii=False),
            "due_at": now,
            "until": now + lasts,
            "tries": 0,
        }
        connection.execute(outbox.insert().values(row))

    def wake(self) -> None:
        """Send what waits, now; starts the thread where there is none."""
        with self._lock:
            if self._thread is None or not self._thread.is_alive():
                self._closing = False
                self._thread = threading.Thread(target=self._run, name="consentkit-mail", daemon=True)
                self._thread.start()
        self._bell.set()

    def close(self, *, patience: float = 5.0) -> None:
        """Let the thread finish what it is sending. What waits is sent by the next process."""
        with self._lock:
            thread, self._thread = self._thread, None
            self._closing = True
        self._bell.set()
        if thread is not None:
            thread.join(patience)

    def waiting(self) -> int:
        """How many mails wait."""
        with self._store.read() as connection:
            mails = select(func.count()).select_from(outbox).where(outbox.c.kind != PURGE)
            return int(connection.execute(mails).scalar_one())

    def late(self) -> int:
        """How many mails were tried for about an hour, and still wait."""
        with self._store.read() as connection:
            tried = select(func.count()).select_from(outbox).where(outbox.c.tries > LATE_AFTER, outbox.c.kind != PURGE)
            return int(connection.execute(tried).scalar_one())

    def _run(self) -> None:
        planned = False
        while not self._closing:
            self._bell.clear()
            try:
                planned = planned or self._plan_purge()
                busy = asyncio.run(self.drain())
            except (ConsentKitError, SQLAlchemyError, OSError) as error:
                log.error("the outbox can't be read (%s): mails wait", type(error).__name__)
                busy = False
            except Exception:
                log.exception("the outbox stumbled; it goes on")
                busy = False
            if not busy and not self._closing:
                self._bell.wait(IDLE_SECONDS)

    def _plan_purge(self) -> bool:
        """Make sure of the row of the daily purge, due now where nobody made it before."""
        with self._store.read() as connection:
            if connection.execute(select(outbox.c.id).where(outbox.c.id == PURGE)).first():
                return True
        row = {
            "id": PURGE, "kind": PURGE, "site": "", "subscriber_id": None, "payload": "{}",
            "due_at": self._now(), "until": _FOR_EVER, "tries": 0,
        }  # fmt: skip
        with self._store.begin() as connection:
            connection.execute(insert_new(connection, outbox), row)
        return True

    async def drain(self) -> bool:
        """Send what is due, once; whether there was anything."""
        parcels = await asyncio.to_thread(self._take)
        await asyncio.gather(*(self._deliver(parcel) for parcel in parcels))
        return bool(parcels)

    def _take(self) -> list[Parcel]:
        now = self._now()
        with self._store.read() as connection:  # most of the time there is nothing, and nobody need wait for a lock
            found = connection.execute(select(outbox.c.id).where(outbox.c.due_at <= now).limit(1)).first()
        if found is None:
            return []
        with self._store.begin() as connection:
            stale = connection.execute(delete(outbox).where(outbox.c.until < now)).rowcount
            due = select(outbox).where(outbox.c.due_at <= now).order_by(outbox.c.due_at).limit(AT_ONCE)
            rows = connection.execute(due.with_for_update(skip_locked=True)).all()
            held = update(outbox).where(outbox.c.id.in_([row.id for row in rows]))
            connection.execute(held.values(due_at=now + HELD, tries=outbox.c.tries + 1))
        if stale:
            log.error("%d service mails and calls waited too long, and are given up", stale)
        return [
            Parcel(row.id, row.kind, row.site, row.subscriber_id, json.loads(row.payload), row.tries + 1)
            for row in rows
        ]

    async def _deliver(self, parcel: Parcel) -> None:
        try:
            if parcel.kind == PURGE:
                await asyncio.to_thread(self._purge)
            elif parcel.kind in CALLS:
                await asyncio.to_thread(self._call, parcel)
            else:
                message = await asyncio.to_thread(self._write, parcel)
                if message is not None:
                    await self._mailer.send(message)
        except (ConsentKitError, OSError) as error:
            if isinstance(error, MailRefused) and _is_final(error):
                log.warning("a %s mail was refused for good, and is given up: %s", parcel.kind, error)
                await asyncio.to_thread(self._done, parcel)
                return
            wait = BACKOFF[min(parcel.tries, len(BACKOFF)) - 1]
            await asyncio.to_thread(self._later, parcel, wait)
            log.warning("%s has to wait, it is tried again in %s: %s", _named(parcel), wait, _plain(error))
            return
        except Exception as error:
            await asyncio.to_thread(self._later, parcel, BACKOFF[-1])
            log.error("%s stumbled (%s), and is tried again later", _named(parcel), type(error).__name__)
            return
        await asyncio.to_thread(self._done, parcel)

    def _later(self, parcel: Parcel, wait: timedelta) -> None:
        with self._store.begin() as connection:
            connection.execute(update(outbox).where(outbox.c.id == parcel.id).values(due_at=self._now() + wait))

    def _done(self, parcel: Parcel) -> None:
        mine = outbox.c.id == parcel.id
        over = delete(outbox).where(mine)
        tomorrow = update(outbox).where(mine).values(due_at=self._now() + EVERY, tries=0)
        with self._store.begin() as connection:
            connection.execute(tomorrow if parcel.kind == PURGE else over)


def _named(parcel: Parcel) -> str:
    if parcel.kind == PURGE:
        return "the daily purge"
    return f"a {parcel.kind} call" if parcel.kind in CALLS else f"a {parcel.kind} mail"


def _is_final(error: MailRefused) -> bool:
    """Whether it is about this mailbox or message; what is about us or our log-in is mended, and then it goes out."""
    of_the_message = error.stage in (Stage.RCPT, Stage.DATA) or error.code is None
    return of_the_message and error.code not in (530, 535) and not error.status.startswith("5.7.")


def _plain(error: Exception) -> str:
    """Our own sentences name nobody; what others say may quote an address."""
    return str(error) if isinstance(error, ConsentKitError) else type(error).__name__
