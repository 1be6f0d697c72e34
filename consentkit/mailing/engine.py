"""The engine: takes what was released to the mail server, and brings back what became of it.

One thread of a process has an event loop of its own for it. It goes on by itself after anything that goes away: the
mail server, the database, the disk, the process. `Release` holds the promises; this only keeps connections busy.
"""

from __future__ import annotations

import asyncio
import logging
import math
import sqlite3
import threading
import time
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Any, Final, Protocol, TypeVar

from sqlalchemy.exc import SQLAlchemyError

from consentkit.errors import AfgemeldUnavailable, ConsentKitError, DatabaseUnavailable
from consentkit.mail import Envelope, MailError, MailRefused, Stage
from consentkit.mailing.release import Release, Released, Run, Step
from consentkit.mailing.states import DeliveryState, MailingState, Outcome, outcome_of, sent
from consentkit.mailing.turn import Turn
from consentkit.store import after_fork

log = logging.getLogger("consentkit.mailing")

LOOK_SECONDS: Final = 0.5
"""How often a running mailing is looked at when nothing else happens: a pause takes effect within this."""

IDLE_SECONDS: Final = 5.0
SLICE_SECONDS: Final = 10.0
"""How long one mailing may have all connections while others are due."""

OVERTAKE_SECONDS: Final = 5.0
"""How often dead senders are looked for."""

FALTER_SECONDS: Final = (0.5, 1.0, 2.0, 5.0)
"""Between tries while the database can't be used."""

T = TypeVar("T")


class Book(Protocol):
    """What the engine asks about mailings: which are due, how their messages look, what else follows from answers."""

    def due(self, only: int | None) -> Sequence[int]:
        """Mailings that may send now, the oldest first."""

    def run(self, mailing: int, holder: str, part: int, parts: int) -> Run | None:
        """One sender's way through a mailing; None where it is gone."""

    def held(self) -> bool:
        """Whether any message is in a sender's hands, dead or alive."""

    def take_over(self, is_dead: Callable[[str], bool]) -> int:
        """Take over what dead senders held; how many messages are in doubt by it."""

    def stop(self, mailing: int, note: str) -> None:
        """Stop a mailing that can't be sent, and say why."""

    def envelope(self, run: Run, released: Released) -> Envelope:
        """The message, for exactly who was released."""

    def refused(self, released: Released, error: MailRefused) -> None:
        """The server refused this mailbox or message for good: note what follows for the mailbox."""


class Carrier(Protocol):
    """What takes messages to the mail server: a `Wire`, or a share of one."""

    @property
    def capacity(self) -> int:
        """How many messages may be under way at once."""

    @property
    def trouble(self) -> str | None:
        """What is wrong with the server, where something is known to be."""

    def ready_in(self) -> float:
        """Seconds until there is a server to try."""

    async def send(self, envelope: Envelope) -> None:
        """Hand one message over, and return when a server answers for it."""

    async def close(self) -> None:
        """Hang up."""


class Engine:
    """Sends what is due.

    Args:
        book: the mailings. release, turn: who may get what, and who sends. wire: makes the connections to the server.
        clock: tells the time, aware.
    """

    def __init__(
        self,
        book: Book,
        release: Release,
        turn: Callable[[], Turn],
        *,
        wire: Callable[[], Carrier],
        clock: Callable[[], datetime],
    ) -> None:
        self._book = book
        self._release = release
        self._make_turn = turn
        self._make_wire = wire
        self._now = clock
        self._fresh()
        after_fork(self, "_fresh")

    def _fresh(self) -> None:
        self._lock = threading.Lock()
        self._bell = threading.Event()
        self._closing = False
        self._thread: threading.Thread | None = None

    # -- in a thread of its own -----------------------------------------------------------------------------------

    def wake(self) -> None:
        """Look now for mailings that are due; starts the thread where there is none."""
        with self._lock:
            if self._thread is None or not self._thread.is_alive():
                self._closing = False
                self._thread = threading.Thread(target=self._run, name="consentkit-mailing", daemon=True)
                self._thread.start()
        self._bell.set()

    @property
    def running(self) -> bool:
        """Whether this process sends, or looks for what is due."""
        thread = self._thread
        return thread is not None and thread.is_alive() and not self._closing

    def close(self, *, patience: float = 35.0) -> None:
        """Release nothing more, and wait for what is being handed over. The next process goes on from there."""
        with self._lock:
            thread, self._thread = self._thread, None
            self._closing = True
        self._bell.set()
        if thread is not None:
            thread.join(patience)

    def _run(self) -> None:
        while not self._closing:
            try:
                asyncio.run(self.work())
            except Exception:
                if not threading.main_thread().is_alive():  # the program ended without telling us
                    return
                log.exception("sending stumbled; it goes on")
                self._bell.wait(IDLE_SECONDS)
                self._bell.clear()

    # -- the work -------------------------------------------------------------------------------------------------

    async def work(
        self, only: int | None = None, *, part: int = 0, parts: int = 1, wait: bool = True, most: float = math.inf
    ) -> datetime | None:
        """Send until `stop` or `close`; with `only` until that mailing is done, or was paused, stopped or cancelled.

        Args:
            part, parts: only the messages whose number leaves this rest.
            wait: for what is due later too; else return when nothing can be done now.
            most: seconds after which it looks whether to wait, also where there is more to do now.

        Returns:
            when there is more to do; None where there is not, or it was told to stop.
        """
        with ThreadPoolExecutor(1, thread_name_prefix="consentkit-mailing-database") as database:
            desk = _Desk(self, database, self._make_turn(), self._make_wire())
            try:
                return await desk.work(only, part, parts, wait=wait, most=most)
            finally:
                await desk.close()

    def stop(self) -> None:
        """Let `work` return as soon as what is being handed over has an answer."""
        self._closing = True
        self._bell.set()


class _Desk:
    """One call of `work`: its connections, its turn and its thread for the database."""

    def __init__(self, engine: Engine, database: ThreadPoolExecutor, turn: Turn, wire: Carrier) -> None:
        self._engine = engine
        self._database = database
        self._turn = turn
        self._wire = wire
        self._flights: dict[asyncio.Task[Outcome], int] = {}
        self._outcomes: list[Outcome] = []
        self._epoch = turn.epoch
        self._ours = True
        self._runs: dict[int, Run] = {}
        self._overtaken = 0.0
        self._trouble = ""

    async def work(self, only: int | None, part: int, parts: int, *, wait: bool, most: float) -> datetime | None:
        engine = self._engine
        failures = 0
        while not engine._closing:
            try:
                again = await self._round(only, part, parts, most=most, wait=wait)
                failures = 0
            except (ConsentKitError, SQLAlchemyError, OSError) as error:
                if not wait:
                    raise
                log.error("mailings wait: %s", _plain(error))
                again, failures = None, failures + 1
                await self._rest(FALTER_SECONDS[min(failures, len(FALTER_SECONDS)) - 1])
                continue
            if not wait or (only is not None and again is None):
                return again
            pause = IDLE_SECONDS if only is None else LOOK_SECONDS
            if again is not None:
                pause = min(pause, max(0.05, (again - engine._now()).total_seconds()))
            await self._rest(pause)
        return None

    async def _round(self, only: int | None, part: int, parts: int, *, most: float, wait: bool) -> datetime | None:
        """Go once through all that is due; when there is more to do, None where there is nothing."""
        engine = self._engine
        due = await self._do(engine._book.due, only)
        if not due:
            if await self._do(engine._book.held) and await self._do(self._turn.take):
                await self._do(self._take_over)  # somebody died over a mailing that was paused or cancelled since
            await self._do(self._turn.leave)
            return None
        if not await self._do(self._turn.take):
            return engine._now() + timedelta(seconds=LOOK_SECONDS)
        await self._do(self._take_over)
        again: datetime | None = None
        for mailing in due:
            run = self._runs.get(mailing) or await self._do(engine._book.run, mailing, self._turn.holder, part, parts)
            if run is None or engine._closing:
                continue
            self._runs[mailing] = run
            try:
                slice = min(most, SLICE_SECONDS) if len(due) > 1 else most
                next_time = await self._drain(run, most=slice, wait=wait)
            except (ConsentKitError, SQLAlchemyError, OSError):
                raise
            except Exception as error:  # whatever is wrong with this one, the others go on
                log.exception("mailing %d stumbled", mailing)
                await self._all_land(run)
                await self._do(engine._book.stop, mailing, f"it can't be sent: {type(error).__name__}, see the log")
                continue
            if next_time is not None and (again is None or next_time < again):
                again = next_time
        return again

    def _take_over(self) -> None:
        """Look for dead senders; where our own lock was lost meanwhile, others may have thought the same of us."""
        self._overtaken = time.monotonic()
        self._ours = self._turn.take()
        if not self._ours:  # the database still keeps our old lock, or somebody else has it: nothing is released
            return
        if self._turn.epoch != self._epoch:
            self._epoch = self._turn.epoch
            for run in self._runs.values():
                run.unsure = True
        doubt = self._engine._book.take_over(self._turn.is_dead)
        if doubt:
            log.warning("a sender died over %d message(s): they are in doubt, and not repeated", doubt)

    async def _drain(self, run: Run, *, most: float, wait: bool) -> datetime | None:
        """Send until nothing of this mailing can be sent now, or for `most` seconds; when it goes on, if it does."""
        engine, wire = self._engine, self._wire
        end = time.monotonic() + most
        failures = 0
        while True:
            closing, resting = engine._closing, wire.ready_in() > 0.0
            others = time.monotonic() > end
            room = 0 if closing or resting or others else wire.capacity - len(self._flights)
            told = tuple(self._outcomes)
            try:
                step = await self._do(self._step, run, told, frozenset(self._flights.values()), room, closing)
            except (ConsentKitError, SQLAlchemyError, OSError) as error:
                failures += 1
                await self._faltered(run, told, error, first=failures == 1)
                if (closing or not wait) and not self._flights:
                    raise
                await self._land(FALTER_SECONDS[min(failures, len(FALTER_SECONDS)) - 1])
                continue
            del self._outcomes[: len(told)]
            failures, self._trouble = 0, ""
            for one in step.released:
                self._flights[asyncio.create_task(self._hand_over(run, one))] = one.delivery
            if self._flights:
                if not step.busy or not room or len(self._flights) >= wire.capacity:
                    await self._land(LOOK_SECONDS)
            elif closing or step.state is not MailingState.SENDING:
                return None
            elif others or (resting and not wait):
                return engine._now()
            elif resting:  # the mail server is away, which says nothing about anybody's address
                await self._rest(min(wire.ready_in(), LOOK_SECONDS))
            elif not self._ours:
                await self._rest(LOOK_SECONDS)
            elif not step.busy:
                return step.again

    async def _faltered(self, run: Run, told: Sequence[Outcome], error: Exception, *, first: bool) -> None:
        """Say what is in the way. What came back is kept until it can be written: what went out is not forgotten."""
        if first:
            log.error("mailing %d waits: %s", run.mailing, _plain(error))
        self._trouble = _plain(error)
        if not isinstance(error, AfgemeldUnavailable):
            return
        with suppress(ConsentKitError, SQLAlchemyError, OSError):
            await self._do(
                lambda: self._engine._release.write_down(run, told, now=self._engine._now(), trouble=str(error))
            )
            del self._outcomes[: len(told)]

    async def _all_land(self, run: Run) -> None:
        """Wait for what is under way, and write down what became of it."""
        while self._flights:
            await self._land(LOOK_SECONDS)
        with suppress(ConsentKitError, SQLAlchemyError, OSError):
            told = tuple(self._outcomes)
            await self._do(lambda: self._engine._release.give_up(run, told, now=self._engine._now()))
            del self._outcomes[: len(told)]
        run.unsure = True

    def _step(
        self, run: Run, outcomes: Sequence[Outcome], under_way: Collection[int], room: int, closing: bool
    ) -> Step:
        release, now = self._engine._release, self._engine._now()
        if closing:
            release.give_up(run, outcomes, now=now)
            return Step((), MailingState.SENDING)
        if time.monotonic() - self._overtaken > OVERTAKE_SECONDS:
            self._take_over()
        room = room if self._ours else 0
        trouble = self._trouble or self._wire.trouble or ""
        return release.step(run, outcomes, room=room, now=now, trouble=trouble, under_way=under_way)

    async def _land(self, most: float) -> None:
        """Wait until messages have an answer, or for so long; keeps what became of them."""
        if not self._flights:
            await self._rest(most)
            return
        await asyncio.wait(self._flights, timeout=most, return_when=asyncio.FIRST_COMPLETED)
        await asyncio.sleep(0)  # others that have an answer by now go in the same transaction
        for task in [task for task in self._flights if task.done()]:
            del self._flights[task]
            self._outcomes.append(task.result())

    async def _hand_over(self, run: Run, released: Released) -> Outcome:
        book = self._engine._book
        try:
            await self._wire.send(book.envelope(run, released))
        except SQLAlchemyError as error:
            away = DatabaseUnavailable("the database does not answer")
            log.warning("mailing %d: a message waits: %s", run.mailing, _plain(error))
            return outcome_of(released.delivery, away, tries=released.tries, now=self._engine._now())
        except Exception as error:
            outcome = outcome_of(released.delivery, error, tries=released.tries, now=self._engine._now())
            if not isinstance(error, MailError):
                log.warning("mailing %d: a message can't be made: %s", run.mailing, _plain(error))
            if isinstance(error, MailRefused) and error.stage in (Stage.RCPT, Stage.DATA):
                await self._refused(released, error)
            return outcome
        return sent(released.delivery)

    async def _refused(self, released: Released, error: MailRefused) -> None:
        try:
            await asyncio.to_thread(self._engine._book.refused, released, error)
        except (ConsentKitError, SQLAlchemyError, OSError) as trouble:
            log.error("what a refusal says of a mailbox could not be noted: %s", _plain(trouble))

    async def _do(self, what: Callable[..., T], *arguments: Any) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._database, lambda: what(*arguments))

    async def _rest(self, seconds: float) -> None:
        """Wait, but for no longer than until somebody rings."""
        end = time.monotonic() + seconds
        while not self._engine._bell.is_set() and (left := end - time.monotonic()) > 0:  # noqa: ASYNC110
            await asyncio.sleep(min(left, 0.05))  # other threads ring, which no event of this loop can hear
        self._engine._bell.clear()

    async def close(self) -> None:
        """Give back what was not handed over, hang up, and let others have the turn."""
        for task in self._flights:
            task.cancel()
        await asyncio.gather(*self._flights, return_exceptions=True)
        await self._wire.close()
        cut = "its sender was ended over it"
        told = [
            Outcome(delivery, DeliveryState.IN_DOUBT, cut) if task.cancelled() else task.result()
            for task, delivery in self._flights.items()
        ]
        told = [*self._outcomes, *told]
        for run in self._runs.values():
            with suppress(ConsentKitError, SQLAlchemyError, OSError):  # else the next sender takes it over
                await self._do(lambda run=run: self._engine._release.give_up(run, told, now=self._engine._now()))
        await self._do(self._turn.leave)


def _plain(error: Exception) -> str:
    """Our own sentences name nobody, and SQLite's neither; what others say may quote an address."""
    reason = getattr(error, "orig", None)
    if isinstance(reason, sqlite3.Error):
        return f"the database can't be used: {reason}"
    return str(error) if isinstance(error, ConsentKitError) else type(error).__name__
