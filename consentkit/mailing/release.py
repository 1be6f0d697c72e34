"""The release: one transaction writes down what became of messages and lets the next ones go.

It reads afgemeld and the subscription again for each, with the person locked, and only what it gives back may be sent:
marketing mail goes at most once to a person, and an opt-out that was committed before it is honoured. Nothing is
`sending` but what it released, so a sender that dies leaves at most as many in doubt as it had connections.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import ColumnElement, and_, bindparam, exists, func, select, true, update
from sqlalchemy.engine import Connection, Row

from consentkit.mailing import pace
from consentkit.mailing.marks import Marks
from consentkit.mailing.pace import Limits
from consentkit.mailing.states import ENDED, DeliveryState, MailingState, Outcome
from consentkit.mailing.tables import deliveries, mailings
from consentkit.newsletter import Aim, Reader, Readers
from consentkit.store import Store

if TYPE_CHECKING:
    from consentkit.mailing.press import Press

CLAIMED_AT_ONCE: Final = 500
_LOOK: Final = timedelta(seconds=1)
_WAITING: Final = (DeliveryState.QUEUED.value, DeliveryState.DEFERRED.value)
_HELD: Final = (DeliveryState.CLAIMED.value, DeliveryState.SENDING.value)

_row = deliveries.c
_RELEASED: Final = (DeliveryState.SENDING.value, DeliveryState.IN_DOUBT.value)
_IDS: Final = _row.id.in_(bindparam("ids", expanding=True))
_HOLDER: Final = _row.holder == bindparam("mine")

# Made once: a statement of SQLAlchemy's takes longer to put together than SQLite takes to answer it.
_SENT: Final = (
    update(deliveries)
    .where(_IDS, _HOLDER, _row.state.in_(_RELEASED))
    .values(state=DeliveryState.SENT.value, reason="", holder=None, at=bindparam("now"), tries=_row.tries + 1)
)
_GO: Final = (
    update(deliveries)
    .where(_IDS, _HOLDER, _row.state == DeliveryState.CLAIMED.value)
    .values(state=DeliveryState.SENDING.value, at=bindparam("now"), measured=bindparam("agreed"))
    .returning(_row.id)
)
_MAILING: Final = select(
    mailings.c.id,
    mailings.c.state,
    mailings.c.start_at,
    mailings.c.not_after,
    mailings.c.failed_in_row,
    mailings.c.note,
).where(mailings.c.id == bindparam("mailing"))
_LOCKED: Final = {shared: _MAILING.with_for_update(read=shared) for shared in (True, False)}


@dataclass(frozen=True, slots=True, repr=False)
class Released:
    """One message that may be handed over now, to exactly this person, once. Only a release makes these."""

    delivery: int
    reader: Reader
    tries: int


@dataclass(frozen=True, slots=True)
class Claim:
    """A row that is ours and not released yet."""

    delivery: int
    subscriber: int
    tries: int


@dataclass(slots=True)
class Run:
    """One sender's way through one mailing.

    Args:
        mailing: its number. aim: whom it is for. holder: names the sender. press: prints the messages.
        part, parts: take only the rows whose number leaves this rest.
        measured: opens and clicks of those who agreed are asked for.
        after: rows up to this number were looked at. claims: rows that are held in readiness.
        unsure: the database may have what this doesn't know, or the other way round. failing: the last messages may
            have been refused.
    """

    mailing: int
    aim: Aim
    holder: str
    press: Press | None = None
    part: int = 0
    parts: int = 1
    measured: bool = False
    after: int = 0
    claims: deque[Claim] = field(default_factory=deque)
    unsure: bool = False
    failing: bool = True

    @property
    def mine(self) -> ColumnElement[bool]:
        """The rows of this run."""
        return and_(_row.mailing_id == self.mailing, self.share)

    @property
    def share(self) -> ColumnElement[bool]:
        """The part of them that is this sender's."""
        return true() if self.parts == 1 else _row.id % self.parts == self.part


@dataclass(frozen=True, slots=True)
class Step:
    """What a step gave.

    Args:
        released: what may be handed over. state: of the mailing. busy: there is more to do now.
        again: when there is more to do later; None where nothing waits.
    """

    released: tuple[Released, ...]
    state: MailingState
    busy: bool = False
    again: datetime | None = None


@dataclass(frozen=True, slots=True)
class _Going:
    """What one release gave: `held_back` where some were put off or left out, `again` where a limit is reached."""

    released: tuple[Released, ...]
    held_back: bool = False
    again: datetime | None = None


class Release:
    """Claims, releases and writes down.

    Args:
        store, readers: the rooms below. limits: how fast. stop_after: refusals in a row that stop a mailing.
        connections: so many messages in a row that a server took or didn't, without a word, stop it too.
        marks: notes beside the database how far a mailing is.
    """

    def __init__(
        self, store: Store, readers: Readers, *, limits: Limits, stop_after: int, connections: int = 10,
        marks: Marks | None = None,
    ) -> None:  # fmt: skip
        self._store = store
        self._marks = marks
        self._readers = readers
        self._limits = limits
        self._stop_after = stop_after
        self._doubt = max(1, math.ceil(stop_after / connections))

    def step(
        self, run: Run, outcomes: Sequence[Outcome], *, room: int, now: datetime, trouble: str = "",
        under_way: Collection[int] = (),
    ) -> Step:  # fmt: skip
        """Write down outcomes and release up to `room` messages.

        Args:
            trouble: what is in the way of sending, for whoever asks how it goes.
            under_way: the messages that are being handed over.

        Raises:
            AfgemeldUnavailable: nobody can tell who left, so nothing may be handed over.
            ConsentKitError, sqlalchemy.exc.SQLAlchemyError: the database is away. Whatever was committed, nothing may
                be handed over; give the outcomes again.
        """
        self._readers.open()
        try:
            if run.unsure:
                self._make_sure(run, outcomes, under_way, now)
            if outcomes and (run.failing or any(map(_is_bad, outcomes))):
                self._count(run, outcomes, now)
            if room > len(run.claims):
                self._claim(run, room, now)
            with self._store.begin() as connection:
                row, step = self._step(connection, run, outcomes, room, now)
            if row is not None and self._must_settle(row, step, now=now, trouble=trouble):
                step = self._settle(run, step, now=now, trouble=trouble)
        except BaseException:
            run.unsure = True
            raise
        if self._marks is not None:
            self._marks.note(run.mailing, len(step.released), last=step.state is not MailingState.SENDING)
        return step

    def write_down(self, run: Run, outcomes: Sequence[Outcome], *, now: datetime, trouble: str = "") -> None:
        """Write down outcomes and release nothing: nobody can tell who left, but what was sent was sent."""
        with self._store.begin() as connection:
            self._write(connection, run, outcomes, now)
            if trouble:
                sending = mailings.c.state == MailingState.SENDING.value
                which = and_(mailings.c.id == run.mailing, sending, mailings.c.note != trouble)
                connection.execute(update(mailings).where(which).values(note=trouble))

    def give_up(self, run: Run, outcomes: Sequence[Outcome], *, now: datetime) -> None:
        """Write down outcomes and let go of what was claimed: this sender ends."""
        with self._store.begin() as connection:
            row = _locked(connection, run.mailing, shared=True)
            self._write(connection, run, outcomes, now)
            self._put_back(connection, run, row, now)
        if self._marks is not None:
            self._marks.note(run.mailing, 0, last=True)

    def _make_sure(self, run: Run, outcomes: Sequence[Outcome], under_way: Collection[int], now: datetime) -> None:
        """Give back whatever is ours and is neither under way nor has an outcome: it was never handed over."""
        with self._store.begin() as connection:
            row = _locked(connection, run.mailing, shared=True)
            self._write(connection, run, outcomes, now)
            ours = and_(_row.mailing_id == run.mailing, _row.holder == run.holder, _row.state.in_(_HELD))
            rest = [id for id in connection.execute(select(_row.id).where(ours)).scalars() if id not in under_way]
            _let_fall(connection, row, and_(_row.id.in_(rest), ours), now)
        run.claims.clear()
        run.after = 0
        run.unsure = False

    def _step(
        self, connection: Connection, run: Run, outcomes: Sequence[Outcome], room: int, now: datetime
    ) -> tuple[Row[Any] | None, Step]:
        """The transaction that lets messages go; whoever pauses or cancels the mailing waits for it, or it for them."""
        row = _locked(connection, run.mailing, shared=True)
        self._write(connection, run, outcomes, now)
        if row is None:
            return None, Step((), MailingState.CANCELLED)
        state = MailingState(row.state)
        begins = row.start_at is None or row.start_at <= now
        if state is not MailingState.SENDING or not begins or _is_late(row, now):
            self._put_back(connection, run, row, now)
            return row, Step((), state, again=None if begins else row.start_at)
        going = self._release(connection, run, room, now) if room else _Going(())
        busy = going.again is None and (bool(run.claims) or going.held_back)
        return row, Step(going.released, state, busy=busy, again=going.again)

    # -- what becomes of the mailing ------------------------------------------------------------------------------

    def _count(self, run: Run, outcomes: Sequence[Outcome], now: datetime) -> None:
        """Count what was refused, and stop the mailing where it is too much; before anything more is released."""
        with self._store.begin() as connection:
            row = _locked(connection, run.mailing, shared=False)
            self._write(connection, run, outcomes, now)
            if row is None or row.state != MailingState.SENDING:
                return
            failed = _in_a_row(row.failed_in_row, outcomes, self._doubt)
            values: dict[str, Any] = {"failed_in_row": failed}
            if failed >= self._stop_after:
                values |= {"state": MailingState.STOPPED.value, "note": _why_stopped(outcomes)}
            connection.execute(update(mailings).where(mailings.c.id == run.mailing).values(values))
        run.failing = failed > 0

    def _must_settle(self, row: Any, step: Step, *, now: datetime, trouble: str) -> bool:
        idle = not step.released and not step.busy and step.again is None
        return step.state is MailingState.SENDING and (idle or row.note != trouble or _is_late(row, now))

    def _settle(self, run: Run, step: Step, *, now: datetime, trouble: str) -> Step:
        """Change the mailing itself, alone with it: end it, or say what is in the way."""
        with self._store.begin() as connection:
            row = _locked(connection, run.mailing, shared=False)
            if row is None or row.state != MailingState.SENDING:
                return replace(step, state=MailingState(row.state) if row is not None else MailingState.CANCELLED)
            state, note, again = MailingState.SENDING, trouble, step.again
            if _is_late(row, now):
                state, note = MailingState.EXPIRED, "its time was over before everybody got it"
                end(connection, run.mailing, state, now)
            elif not step.released and not step.busy and again is None:
                again = self._left(connection, run, now)
                if again is None:
                    state, note = MailingState.DONE, ""
            values: dict[str, Any] = {"state": state.value, "note": note}
            if state in ENDED:
                values["ended_at"] = now
            connection.execute(update(mailings).where(mailings.c.id == run.mailing).values(values))
        return replace(step, state=state, again=again)

    def _left(self, connection: Connection, run: Run, now: datetime) -> datetime | None:
        """When there is more to do in this mailing, for this sender or another; None where everybody has an answer.

        Nobody claims or releases meanwhile: the mailing is locked.
        """
        here = _row.mailing_id == run.mailing
        held = exists().where(here, _row.holder.is_not(None), _row.state.in_(_HELD))
        fresh = exists().where(here, _row.state == DeliveryState.QUEUED.value, _row.due_at.is_(None))
        due = select(func.min(_row.due_at)).where(here, _row.due_at.is_not(None)).scalar_subquery()
        query = select(held.label("held"), fresh.label("fresh"), due.label("due"))
        found = connection.execute(query).one()
        moment = found.due
        if found.fresh:
            run.after = 0  # another sender had them in hand as this one came by, and let them fall
        if found.fresh or found.held:
            return now + _LOOK
        return max(moment, now) if moment is not None else None

    # -- what became of messages ----------------------------------------------------------------------------------

    def _write(self, connection: Connection, run: Run, outcomes: Sequence[Outcome], now: datetime) -> None:
        """Only what this sender holds; also what others took for dead, as long as it is in doubt."""
        done = [one.delivery for one in outcomes if one.state is DeliveryState.SENT]
        if done:
            connection.execute(_SENT, {"ids": done, "mine": run.holder, "now": now})
        if len(done) == len(outcomes):
            return
        ours = and_(_row.holder == run.holder, _row.state.in_(_RELEASED))
        for one in outcomes:
            if one.state is not DeliveryState.SENT:
                self._mark(connection, run, one, ours, now)

    def _mark(self, connection: Connection, run: Run, one: Outcome, ours: ColumnElement[bool], now: datetime) -> None:
        held = run.holder if one.state is DeliveryState.IN_DOUBT else None
        values = {"state": one.state.value, "reason": one.reason, "holder": held, "due_at": one.due_at, "at": now}
        change = update(deliveries).where(_row.id == one.delivery, ours)
        connection.execute(change.values(**values, tries=_row.tries + int(one.tried)))

    # -- what goes next -------------------------------------------------------------------------------------------

    def _release(self, connection: Connection, run: Run, room: int, now: datetime) -> _Going:
        space = pace.room(connection, self._limits, room, now)
        some = [run.claims.popleft() for _ in range(min(space.count, len(run.claims)))]
        if not some:
            return _Going((), again=space.again)
        asked = self._readers.release(connection, run.aim, [one.subscriber for one in some], now)
        going: list[Released] = []
        domains: dict[str, int] = {}
        if self._limits.by_domain:
            pace.hold(
                connection, self._limits, (_domain(one) for one in asked.values() if isinstance(one, Reader)), now
            )
        claimed = and_(_row.holder == run.holder, _row.state == DeliveryState.CLAIMED.value)
        for one in some:
            found = asked[one.subscriber]
            if isinstance(found, str):
                left = Outcome(one.delivery, DeliveryState.SUPPRESSED, found)
                self._mark(connection, run, left, claimed, now)
                continue
            domain = _domain(found)
            if self._limits.by_domain and (later := self._too_fast(connection, domain, domains, now)):
                slow = Outcome(one.delivery, DeliveryState.DEFERRED, "pace", due_at=later)
                self._mark(connection, run, slow, claimed, now)
                continue
            domains[domain] = domains.get(domain, 0) + 1
            going.append(Released(one.delivery, found, one.tries))
        pace.take(connection, self._limits, domains, now)
        return _Going(self._let_go(connection, run, going, now), held_back=len(going) < len(some), again=space.again)

    def _let_go(
        self, connection: Connection, run: Run, going: Sequence[Released], now: datetime
    ) -> tuple[Released, ...]:
        """Mark them as `sending`: from here on they count as handed over. Only what we still hold in readiness."""
        ours: set[int] = set()
        for agreed in (True, False):
            some = [one.delivery for one in going if (run.measured and one.reader.measuring) is agreed]
            if some:
                values = {"ids": some, "mine": run.holder, "now": now, "agreed": agreed}
                ours.update(connection.execute(_GO, values).scalars())
        once = {one.delivery: one for one in going}  # what was taken from us and claimed again stands there twice
        return tuple(one for id, one in once.items() if id in ours)

    def _too_fast(self, connection: Connection, domain: str, taken: dict[str, int], now: datetime) -> datetime | None:
        """When there is room for a domain again, where there is none now."""
        already = taken.get(domain, 0)
        found = pace.room_at(connection, self._limits, domain, already + 1, now)
        return (found.again or now + pace.HOUR) if found.count <= already else None

    def _claim(self, run: Run, room: int, now: datetime) -> None:
        """Take the next rows: first those that waited for another try, then those that were never touched."""
        most = room if self._limits.windows or self._limits.by_domain else CLAIMED_AT_ONCE
        with self._store.begin() as connection:
            row = _locked(connection, run.mailing, shared=True)
            if row is None or row.state != MailingState.SENDING or (row.start_at and row.start_at > now):
                return
            due = and_(run.mine, _row.due_at.is_not(None), _row.due_at <= now, _row.state.in_(_WAITING))
            found = [*self._take(connection, run, due, _row.due_at, most)]
            new: Sequence[Any] = ()
            if len(found) < most:
                # The sum keeps SQLite from an index by which it would sort the whole mailing, every time.
                ours = and_(_row.mailing_id + 0 == run.mailing, run.share)
                fresh = and_(_row.id > run.after, _row.state == DeliveryState.QUEUED.value, _row.due_at.is_(None))
                new = self._take(connection, run, and_(fresh, ours), _row.id, most)
        if new:
            run.after = new[-1].id
        got = {row.id: Claim(row.id, row.subscriber_id, row.tries) for row in (*found, *new)}
        run.claims = deque(one for one in run.claims if one.delivery not in got)  # taken from us, and ours again
        run.claims.extend(got.values())

    def _take(
        self, connection: Connection, run: Run, which: ColumnElement[bool], order: ColumnElement[Any], most: int
    ) -> Sequence[Any]:
        query = select(_row.id, _row.subscriber_id, _row.tries).where(which).order_by(order).limit(most)
        found = connection.execute(query.with_for_update(skip_locked=True)).all()
        if found:
            ours = {"state": DeliveryState.CLAIMED.value, "holder": run.holder, "due_at": None}
            change = update(deliveries).where(_row.id.in_([row.id for row in found]))
            connection.execute(change.values(ours))
        return found

    def _put_back(self, connection: Connection, run: Run, row: Row[Any] | None, now: datetime) -> None:
        """Let go of what was claimed and not released."""
        ids = [one.delivery for one in run.claims]
        held = and_(_row.id.in_(ids), _row.holder == run.holder, _row.state == DeliveryState.CLAIMED.value)
        _let_fall(connection, row, held, now)
        run.claims.clear()


def take_over(connection: Connection, mailing: int, holder: str, now: datetime) -> int:
    """Take over what a dead sender held: what was claimed waits again, what was released is in doubt; how many are.

    The holder's name stays with what is in doubt: where the sender lives after all, its word about it counts.
    """
    row = _locked(connection, mailing, shared=True)
    theirs = and_(_row.mailing_id == mailing, _row.holder == holder)
    _let_fall(connection, row, and_(theirs, _row.state == DeliveryState.CLAIMED.value), now)
    sending = and_(theirs, _row.state == DeliveryState.SENDING.value)
    doubt = {"state": DeliveryState.IN_DOUBT.value, "reason": "its sender died", "at": now}
    return connection.execute(update(deliveries).where(sending).values(doubt)).rowcount


def holders(connection: Connection) -> Sequence[tuple[int, str]]:
    """Which mailings have rows in somebody's hands, and whose."""
    query = select(_row.mailing_id, _row.holder).where(_row.holder.is_not(None), _row.state.in_(_HELD)).distinct()
    return [(mailing, holder) for mailing, holder in connection.execute(query) if holder is not None]


def end(connection: Connection, mailing: int, state: MailingState, now: datetime) -> int:
    """Give up all that was not released, because the mailing is cancelled or its time is over; how many."""
    which = and_(_row.mailing_id == mailing, _row.state.in_((*_WAITING, DeliveryState.CLAIMED.value)))
    return connection.execute(update(deliveries).where(which).values(_fallen(state, now))).rowcount


def _let_fall(connection: Connection, row: Row[Any] | None, which: ColumnElement[bool], now: datetime) -> None:
    """Let rows wait again; where the mailing has ended, so have they."""
    state = MailingState.CANCELLED if row is None else MailingState(row.state)
    connection.execute(update(deliveries).where(which).values(_fallen(state, now)))
    late = and_(_row.mailing_id == (row.id if row is not None else 0), _row.due_at.is_not(None))
    if state in ENDED:  # an answer that came late can't make a message wait for a mailing that is over
        connection.execute(update(deliveries).where(late).values(_fallen(state, now)))


def _fallen(state: MailingState, now: datetime) -> dict[str, Any]:
    values: dict[str, Any] = {"state": DeliveryState.QUEUED.value, "holder": None, "due_at": now}
    if state is MailingState.DONE:
        return {
            **values,
            "state": DeliveryState.FAILED.value,
            "due_at": None,
            "reason": "its mailing was done",
            "at": now,
        }
    if state in ENDED:
        return {**values, "state": DeliveryState(state).value, "due_at": None, "at": now}
    return values


def _locked(connection: Connection, mailing: int, *, shared: bool) -> Any:
    """The mailing, unchanged by others until the transaction ends; alone with it where it is not shared."""
    return connection.execute(_LOCKED[shared], {"mailing": mailing}).first()


def _is_late(row: Row[Any], now: datetime) -> bool:
    return row.not_after is not None and row.not_after < now


def _domain(reader: Reader) -> str:
    return reader.address.rpartition("@")[2]


def _is_bad(one: Outcome) -> bool:
    return one.refused or one.state is DeliveryState.IN_DOUBT


def _in_a_row(before: int, outcomes: Sequence[Outcome], doubt: int) -> int:
    for one in outcomes:
        if one.state is DeliveryState.SENT:
            before = 0
        elif one.refused:
            before += 1
        elif one.state is DeliveryState.IN_DOUBT:
            before += doubt
    return before


def _why_stopped(outcomes: Sequence[Outcome]) -> str:
    for one in reversed(outcomes):
        if one.refused:
            return f"too many messages were refused in a row, the last with {one.reason}"
        if one.state is DeliveryState.IN_DOUBT:
            return "the mail server breaks off after each message, without saying whether it took it"
    return "too many messages were refused in a row"
