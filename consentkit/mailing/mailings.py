"""The verbs of mailings: write, look, check, send, pause, go on, cancel, ask how it goes. Each is one transaction.

Nothing goes out that the check refuses, and nothing to anybody whom the release does not let it go to: the command
line, a console and a program of the host's all come by here.
"""

from __future__ import annotations

import asyncio
import re
from base64 import b64encode
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from email import message_from_bytes, policy
from email.message import EmailMessage
from email.utils import parseaddr
from enum import StrEnum
from functools import cached_property
from typing import Any, Final

from sqlalchemy import ColumnElement, and_, func, or_, select, update
from sqlalchemy.engine import Connection, Row
from sqlalchemy.exc import DataError

from consentkit.address import Address
from consentkit.afgemeld import Afgemeld, Links
from consentkit.errors import ConsentKitError, MailingError, Suppressed
from consentkit.mail import Envelope, MailRefused, Wire
from consentkit.mailing import audience, preflight
from consentkit.mailing.audience import Audience
from consentkit.mailing.dkim import Signer
from consentkit.mailing.inbox import Inbox
from consentkit.mailing.measure import Measuring
from consentkit.mailing.preflight import Expected, Finding
from consentkit.mailing.press import Press
from consentkit.mailing.problem import Problem
from consentkit.mailing.release import Released, Run, end, holders, take_over
from consentkit.mailing.source import Draft, File
from consentkit.mailing.states import DeliveryState, MailingState, Purpose
from consentkit.mailing.tables import deliveries, files, links, mailings
from consentkit.mailing.template import About
from consentkit.mailing.turn import Turn
from consentkit.newsletter import Aim, Paper, Reader, Readers
from consentkit.service import Duration
from consentkit.settings import Settings
from consentkit.store import Store

MOST_TESTS: Final = 5
"""So many addresses a test goes to at most: it is a look at a mailing, no way round the release."""

_PRESSES: Final = 8
_WORDS: Final = 10
_HEAD: Final = tuple(
    mailings.c[name]
    for name in (
        "id", "site", "list", "purpose", "subject", "state", "note", "created_at", "start_at", "not_after",
        "frozen_at", "ended_at",
    )
)  # fmt: skip
"""What `Mailing` is made of: what a mailing says may be large, and isn't read for a list."""


@dataclass(frozen=True, slots=True)
class Mailing:
    """One mailing, as far as it is.

    Args:
        note: what is in the way, or why it ended. start_at, not_after: between these it goes out.
    """

    id: int
    site: str
    list: str
    purpose: Purpose
    subject: str
    state: MailingState
    note: str
    created_at: datetime
    start_at: datetime | None
    not_after: datetime | None
    frozen_at: datetime | None
    ended_at: datetime | None


@dataclass(frozen=True, slots=True)
class Status:
    """How a mailing goes.

    Args:
        counts: messages by state. reasons: by state and reason, of what was not sent.
        in_doubt: the numbers of messages that may or may not have arrived, each once at most; nobody repeats them.
        next_try: when the next message that waits is due.
    """

    mailing: Mailing
    counts: Mapping[str, int]
    reasons: Mapping[str, Mapping[str, int]]
    in_doubt: Sequence[int]
    next_try: datetime | None

    @property
    def total(self) -> int:
        """How many were to get it when it was frozen."""
        return sum(self.counts.values()) - self.counts.get(DeliveryState.EXCLUDED, 0)

    @property
    def settled(self) -> int:
        """How many of these have their answer."""
        open = (DeliveryState.QUEUED, DeliveryState.CLAIMED, DeliveryState.SENDING, DeliveryState.DEFERRED)
        return self.total - sum(self.counts.get(state, 0) for state in open)


@dataclass(frozen=True, slots=True, repr=False)
class Preview:
    """One message as it would arrive: its bytes, and both parts as they read."""

    raw: bytes
    html: str
    text: str

    @property
    def shown(self) -> str:
        """The HTML for a browser: with its attached images in it (`data:`), which a mail names by `cid:`."""
        attached = {
            str(part["Content-ID"]).strip("<> "): f"data:{part.get_content_type()};base64,{_base64(part)}"
            for part in message_from_bytes(self.raw, policy=policy.default).walk()
            if part["Content-ID"]
        }
        return re.sub(r"cid:([^\s\"'()<>]+)", lambda found: attached.get(found[1], found[0]), self.html)


class Attendance(StrEnum):
    """Whether a mailing has a sender: as far as one can tell it has, it died over some messages, or there is none."""

    SENDER = "sender"
    DEAD = "dead"
    NOBODY = "nobody"


class Mailings:
    """Everything about mailings but the sending itself, which the engine does.

    Args:
        store, afgemeld: the rooms below. papers: each site's texts, by name. settings: the configuration.
        links: makes tokens; raises where there is no afgemeld key. measuring, inbox: for what comes back.
        clock: tells the time, aware.
    """

    def __init__(
        self,
        store: Store,
        afgemeld: Afgemeld,
        papers: Mapping[str, Paper],
        settings: Settings,
        *,
        links: Callable[[], Links],
        measuring: Measuring,
        inbox: Inbox,
        clock: Callable[[], datetime],
    ) -> None:
        self._store = store
        self._afgemeld = afgemeld
        self.readers = Readers(afgemeld)
        self._papers = papers
        self._settings = settings
        self._links = links
        self._measuring = measuring
        self._inbox = inbox
        self._now = clock
        self._presses: OrderedDict[int, Press] = OrderedDict()

    # -- writing --------------------------------------------------------------------------------------------------

    def new(self, draft: Draft, *, site: str | None = None) -> int:
        """Keep a mailing as a draft; its number. What it says can't change any more, so that what was checked is sent.

        Raises:
            MailingError: it can't be sent as it is, and why, all of it at once.
        """
        press = self.press(draft, site)
        with self._store.told(), self._store.begin() as connection:
            return self.keep(connection, press)

    def press(self, draft: Draft, site: str | None) -> Press:
        """What prints a mailing that is not kept yet.

        Raises:
            MailingError: it can't be sent as it is, and why.
        """
        paper = self._paper(site)
        self.check(draft)
        return self._press(0, draft, paper)

    def keep(self, connection: Connection, press: Press) -> int:
        """Keep what `press` gave as a draft, in the caller's transaction; its number.

        Raises:
            MailingError: its templates can't be made, and why.
        """
        draft = press.draft
        frame = press.measured if draft.measured else press.plain
        row = {
            "site": press.paper.site.name, "list": draft.list, "purpose": draft.purpose, "language": draft.language,
            "subject": draft.subject, "preheader": draft.preheader, "sender": draft.sender,
            "reply_to": draft.reply_to, "content": draft.to_json(), "measured": draft.measured,
            "state": MailingState.DRAFT.value, "note": "", "created_at": self._now(), "failed_in_row": 0,
        }  # fmt: skip
        made = connection.execute(mailings.insert().returning(mailings.c.id), row).scalar_one()
        for file in draft.files:
            values = {"name": file.name, "kind": file.kind, "inline": file.inline, "data": file.data}
            connection.execute(files.insert().values(mailing_id=made, **values))
        for number, url in enumerate(frame.links if draft.measured else ()):
            connection.execute(links.insert().values(mailing_id=made, number=number, url=url))
        return int(made)

    @property
    def attachments_mb(self) -> int:
        """How many megabytes the files of a mailing may have."""
        return self._settings.mailing.attachments_mb

    def check(self, draft: Draft) -> None:
        """Whether this may be sent from here at all.

        Raises:
            MailingError: its list is not there, or has pupils on it; or its sender is nobody of ours.
        """
        lists = self._settings.lists
        if draft.list not in lists:
            there = ", ".join(lists) or "none"
            raise MailingError([Problem("list", "list_unknown", name=draft.list, known=there)])
        if lists[draft.list].pupils:
            raise MailingError([Problem("list", "list_pupils", name=draft.list)])
        known = {parseaddr(self._settings.sender_of(list) or "")[1].rpartition("@")[2] for list in lists}
        if draft.sender and (domain := parseaddr(draft.sender)[1].rpartition("@")[2]) not in known:
            ours = ", ".join(sorted(known))
            raise MailingError([Problem("sender", "sender_domain", domain=domain, known=ours)])

    def _paper(self, site: str | None) -> Paper:
        if site is None:
            return next(iter(self._papers.values()))
        if site not in self._papers:
            raise MailingError([f"site: there is none called {site}; there are: {', '.join(self._papers)}"])
        return self._papers[site]

    # -- looking --------------------------------------------------------------------------------------------------

    def get(self, id: int) -> Mailing:
        """One mailing.

        Raises:
            MailingError: there is none with this number.
        """
        with self._store.read() as connection:
            return _mailing(self._row(connection, id, only=_HEAD))

    def all(self) -> list[Mailing]:
        """Every mailing, the newest first."""
        with self._store.read() as connection:
            return [_mailing(row) for row in connection.execute(select(*_HEAD).order_by(mailings.c.id.desc()))]

    def page(
        self,
        before: int | None = None,
        q: str = "",
        most: int = 50,
        *,
        after: int | None = None,
        oldest_first: bool = False,
    ) -> list[Mailing]:
        """Some of the mailings, the newest first unless told otherwise; what they say is not loaded.

        Args:
            before, after: only those with a smaller or a greater number; the ones closest to it are given.
            q: words that must all stand in the subject or the id of the list.
        """
        row = mailings.c
        found = [
            or_(row.subject.icontains(word, autoescape=True), row.list.icontains(word, autoescape=True))
            for word in q.split()[:_WORDS]
        ]
        if before is not None:
            found.append(row.id < before)
        if after is not None:
            found.append(row.id > after)
        ascending = oldest_first if before is None and after is None else after is not None
        query = select(*_HEAD).where(*found).order_by(row.id if ascending else row.id.desc()).limit(most)
        with self._store.read() as connection:
            some = [_mailing(one) for one in connection.execute(query)]
        return some if ascending == oldest_first else some[::-1]

    def audience(self, id: int) -> Audience:
        """Who gets it and why others don't: as it was frozen, else as a freeze would be now.

        Raises:
            MailingError: there is no such mailing. AfgemeldUnavailable: nobody can tell who left.
        """
        with self._store.read() as connection:
            row = self._row(connection, id)
            if row.frozen_at is not None:
                return audience.counted(connection, id)
            return self._counted(connection, self._aim(row))

    def audience_of(self, draft: Draft) -> Audience:
        """The same for one that is not kept yet.

        Raises:
            AfgemeldUnavailable: nobody can tell who left.
        """
        with self._store.read() as connection:
            return self._counted(connection, _aim_of(draft))

    def _counted(self, connection: Connection, aim: Aim) -> Audience:
        self.readers.open()
        return audience.count(connection, self.readers, aim, self._now())

    def status(self, id: int) -> Status:
        """How it goes.

        Raises:
            MailingError: there is no such mailing.
        """
        row = deliveries.c
        mine = row.mailing_id == id
        with self._store.read() as connection:
            mailing = _mailing(self._row(connection, id, only=_HEAD))
            told = row.state.in_([DeliveryState.SENT.value, DeliveryState.QUEUED.value, DeliveryState.CLAIMED.value])
            grouped = select(row.state, row.reason, func.count()).where(mine).group_by(row.state, row.reason)
            doubtful = select(row.id).where(mine, row.holder.is_not(None), row.state == DeliveryState.IN_DOUBT.value)
            in_doubt = [*connection.execute(doubtful.order_by(row.id)).scalars()]
            waits = select(func.min(row.due_at)).where(mine, row.due_at.is_not(None), ~told)
            next_try = connection.execute(waits).scalar()
            found = connection.execute(grouped).all()
        counts: dict[str, int] = {}
        reasons: dict[str, dict[str, int]] = {}
        for state, reason, count in found:
            counts[state] = counts.get(state, 0) + count
            if reason:
                reasons.setdefault(state, {})[reason] = count
        return Status(mailing, counts, reasons, in_doubt, next_try)

    def attendance(self, id: int) -> Attendance:
        """Who looks after a mailing that has begun, as far as the locks of senders tell."""
        turn = Turn(self._store)
        try:
            with self._store.told():
                if not turn.take():
                    return Attendance.SENDER
                with self._store.read() as connection:
                    theirs = [holder for mailing, holder in holders(connection) if mailing == id]
                if any(turn.is_dead(holder) for holder in theirs):
                    return Attendance.DEAD
                return Attendance.SENDER if theirs else Attendance.NOBODY
        except ConsentKitError:
            return Attendance.SENDER
        finally:
            turn.leave()

    def preview(self, id: int, address: str | None = None, *, reader: Reader | None = None) -> Preview:
        """The message that one reader would get, or a made-up one; nothing is opened, counted or sent.

        Args:
            address: of the reader. reader: or the reader.

        Raises:
            MailingError: there is no such mailing, or nobody with this address is known.
        """
        return self._preview(self._press_of(id), address, reader)

    def preview_of(
        self, draft: Draft, site: str | None, address: str | None = None, *, reader: Reader | None = None
    ) -> Preview:
        """The same for one that is not kept yet."""
        return self._preview(self.press(draft, site), address, reader)

    def _preview(self, press: Press, address: str | None, reader: Reader | None) -> Preview:
        if reader is None:
            reader = self.sample(press.draft) if address is None else self.reader(press.draft.list, address)
        return _read_message(press.message(reader, 0, self._now()))

    def preflight(self, id: int, *, dns: bool = True, lang: str = "en") -> list[Finding]:
        """What stands in the way of sending, and what should be looked at; by the bytes that would go out.

        Args:
            dns: ask the DNS about the sender's domain, which takes up to three seconds. lang: of the findings.

        Raises:
            MailingError: there is no such mailing. AfgemeldUnavailable: no link can be made without a key.
        """
        return self._preflight(self._press_of(id), dns=dns, lang=lang)

    def preflight_of(self, draft: Draft, site: str | None, *, dns: bool = True, lang: str = "en") -> list[Finding]:
        """The same for one that is not kept yet."""
        return self._preflight(self.press(draft, site), dns=dns, lang=lang)

    def _preflight(self, press: Press, *, dns: bool, lang: str) -> list[Finding]:
        now = self._now()
        samples = [self._checked(press, number, now, measuring=False) for number in (1, 2)]
        if press.draft.measured:
            samples.append(self._checked(press, 3, now, measuring=True))
        return preflight.check(samples, now=now, dns=dns, lang=lang)

    def _checked(self, press: Press, number: int, now: datetime, *, measuring: bool) -> tuple[bytes, Expected]:
        """A message as it would go out, and what it should be."""
        reader = replace(self.sample(press.draft, number), measuring=measuring)
        slip, site = press.slip(reader, number, now), press.paper.site
        expected = Expected(
            purpose=Purpose(press.draft.purpose),
            list=press.draft.list,
            sender=press.about.sender,
            envelope_sender=press.returns_to(reader, number),
            controller=site.controller.name,
            address=site.controller.address,
            base_url=site.base_url,
            prefix=site.prefix,
            unsubscribe_url=slip.unsubscribe_url,
            preferences_url=slip.preferences_url,
            list_unsubscribe=slip.list_unsubscribe,
            measured=measuring,
            quiet_url=slip.quiet_url or "",
            keys=self._signer.keys if self._signer else (),
        )
        return press.message(reader, number, now), expected

    # -- sending --------------------------------------------------------------------------------------------------

    def send(
        self, id: int, *, at: datetime | None = None, not_after: datetime | None = None, dns: bool = True
    ) -> Audience:
        """Freeze the audience and let the engine send; for one that was sent already, nothing happens.

        Args:
            at: not before this moment. not_after: what did not go out by then never does; so a database that comes
                back from a backup does not send what is long past.

        Raises:
            MailingError: a check found an error, nobody would get it, or its time makes no sense.
            AfgemeldUnavailable: nobody can tell who left.
        """
        now = self._now()
        last = not_after or (at or now) + timedelta(days=Duration.parse(self._settings.mailing.not_after).days)
        if last <= max(now, at or now):
            raise MailingError(["not_after: the mailing would end before it begins. Write a later moment"])
        if self.get(id).state is MailingState.DRAFT:
            found = self.preflight(id, dns=dns)
            if preflight.blocks(found):
                raise MailingError([f"{one.where}: {one.what} {one.remedy}" for one in found if one.level == "error"])
        self.readers.open()
        with self._store.told(), self._store.begin(patience=120.0) as connection:
            row = self._row(connection, id, lock=True)
            if row.state in (MailingState.CANCELLED, MailingState.EXPIRED):
                raise MailingError([f"mailing {id} is {row.state}: make a new one. {row.note}".rstrip()])
            if row.state != MailingState.DRAFT:
                return audience.counted(connection, id)
            frozen = self._freeze(connection, row, now)
            values = {"state": MailingState.SENDING.value, "frozen_at": now, "start_at": at, "not_after": last}
            connection.execute(update(mailings).where(mailings.c.id == id).values(values))
        return frozen

    def _freeze(self, connection: Connection, row: Row[Any], now: datetime) -> Audience:
        try:
            frozen = audience.freeze(connection, self.readers, row.id, self._aim(row), now)
        except DataError:  # which quotes what stands there
            raise MailingError(["audience: somebody's fields hold what the database can't read; mend them"]) from None
        if not frozen.queued:
            why = ", ".join(f"{count} {reason}" for reason, count in frozen.excluded.items()) or "the list is empty"
            raise MailingError([f"audience: nobody would get it ({why}). It stays a draft"])
        return frozen

    def pause(self, id: int) -> Mailing:
        """Release nothing more until `resume`; what is being handed over is finished."""
        return self._change(id, MailingState.PAUSED, from_=(MailingState.SENDING,))

    def resume(self, id: int) -> Mailing:
        """Go on after a pause or a stop; who got it gets it no second time."""
        return self._change(id, MailingState.SENDING, from_=(MailingState.PAUSED, MailingState.STOPPED))

    def cancel(self, id: int) -> Mailing:
        """Give up what did not go out; it can't be taken up again."""
        running = (MailingState.DRAFT, MailingState.SENDING, MailingState.PAUSED, MailingState.STOPPED)
        return self._change(id, MailingState.CANCELLED, from_=running)

    def _change(self, id: int, to: MailingState, *, from_: Sequence[MailingState]) -> Mailing:
        now = self._now()
        with self._store.told(), self._store.begin() as connection:
            row = self._row(connection, id, lock=True)
            if row.state == to:
                return _mailing(row)
            if row.state not in from_:
                raise MailingError([f"mailing {id} is {row.state}: it can't be {to} from there"])
            values: dict[str, Any] = {"state": to.value, "note": ""}
            if to is MailingState.SENDING:
                values["failed_in_row"] = 0
            if to is MailingState.CANCELLED:
                values["ended_at"] = now
                end(connection, id, MailingState.CANCELLED, now)
            connection.execute(update(mailings).where(mailings.c.id == id).values(values))
            return _mailing(self._row(connection, id))

    def stop(self, id: int, note: str) -> None:
        """Stop a mailing that can't be sent, and say why."""
        here = and_(mailings.c.id == id, mailings.c.state == MailingState.SENDING.value)
        with self._store.begin() as connection:
            connection.execute(update(mailings).where(here).values(state=MailingState.STOPPED.value, note=note))

    async def test(self, id: int, addresses: Sequence[str], wire: Wire) -> None:
        """Send the mailing to a few addresses of one's own, marked as a test; nothing of it is counted.

        Raises:
            MailingError: there is no such mailing, or there are too many addresses.
            Suppressed: one of them left; nobody got anything. AddressError, AfgemeldUnavailable, MailError: as ever.
        """
        await self._test(lambda: self._press_of(id), addresses, wire)

    async def test_of(self, draft: Draft, site: str | None, addresses: Sequence[str], wire: Wire) -> None:
        """The same for one that is not kept yet."""
        await self._test(lambda: self.press(draft, site), addresses, wire)

    async def _test(self, press: Callable[[], Press], addresses: Sequence[str], wire: Wire) -> None:
        if not 0 < len(addresses) <= MOST_TESTS:
            raise MailingError([Problem("to", "tests", most=MOST_TESTS)])
        for one in await asyncio.to_thread(lambda: self._tested(press(), addresses)):
            await wire.send(one)

    def _tested(self, press: Press, addresses: Sequence[str]) -> list[Envelope]:
        list, service = press.draft.list, press.draft.purpose == "service"
        sample = self.sample(press.draft)
        marked = replace(press.draft, subject=f"[Test] {press.draft.subject}")
        press = self._press(press.id, marked, press.paper, press.nonce)
        made = []
        for text in addresses:
            address = Address.parse(text)
            if self._afgemeld.look_up(address.canonical, list=list, service=service):
                raise Suppressed("an address of the test left, and is not written to: choose another")
            digest = self._afgemeld.keys.digest(address.canonical)
            reader = replace(sample, address=address.deliver_to, digest=digest)
            made.append(press.envelope(reader, 0, self._now()))
        return made

    def take_back(self, connection: Connection, id: int) -> None:
        """Give up a mailing that nobody let go out yet, in the caller's transaction.

        Raises:
            MailingError: there is none, or it is no draft any more.
        """
        row = self._row(connection, id, lock=True, only=_HEAD)
        if row.state != MailingState.DRAFT:
            raise MailingError([Problem("state", "not_draft", state=row.state)])
        values = {"state": MailingState.CANCELLED.value, "ended_at": self._now()}
        connection.execute(update(mailings).where(mailings.c.id == id).values(values))

    # -- what the engine asks -------------------------------------------------------------------------------------

    def due(self, only: int | None) -> Sequence[int]:
        """Mailings that may send now, the oldest first."""
        now = self._now()
        ripe = and_(
            mailings.c.state == MailingState.SENDING.value,
            or_(mailings.c.start_at.is_(None), mailings.c.start_at <= now),
        )
        which = ripe if only is None else and_(mailings.c.state == MailingState.SENDING.value, mailings.c.id == only)
        with self._store.read() as connection:
            return connection.execute(select(mailings.c.id).where(which).order_by(mailings.c.id)).scalars().all()

    def run(self, mailing: int, holder: str, part: int, parts: int) -> Run | None:
        """One sender's way through a mailing; None where it is gone."""
        with self._store.read() as connection:
            row = connection.execute(select(mailings).where(mailings.c.id == mailing)).first()
        if row is None:
            return None
        known = self._presses.get(mailing)
        if known is not None and known.nonce != row.nonce:  # the database was put back, and the number given anew
            del self._presses[mailing]
        try:
            press = self._press_of(mailing)
        except MailingError as error:  # a newer release, or other settings: it can't be printed any more
            self.stop(mailing, str(error))
            return None
        first = select(deliveries.c.id).where(
            deliveries.c.mailing_id == mailing, deliveries.c.subscriber_id.is_not(None)
        )
        with self._store.read() as connection:
            begins = connection.execute(first.order_by(deliveries.c.subscriber_id).limit(1)).scalar() or 1
        return Run(mailing, self._aim(row), holder, press, part, parts, measured=row.measured, after=begins - 1)

    def held(self) -> bool:
        """Whether any message is in a sender's hands, dead or alive."""
        with self._store.read() as connection:
            return bool(holders(connection))

    def take_over(self, is_dead: Callable[[str], bool]) -> int:
        """Take over what dead senders held, also of mailings that nobody sends now; how many are in doubt by it."""
        with self._store.read() as connection:
            dead = [(mailing, holder) for mailing, holder in holders(connection) if is_dead(holder)]
        doubt = 0
        for mailing, holder in dead:
            with self._store.begin() as connection:
                doubt += take_over(connection, mailing, holder, self._now())
        return doubt

    def envelope(self, run: Run, released: Released) -> Envelope:
        """The message, for exactly who was released."""
        press = run.press or self._press_of(run.mailing)
        return press.envelope(released.reader, released.delivery, self._now())

    def refused(self, released: Released, error: MailRefused) -> None:
        """The server refused this mailbox or message for good: note what follows for the mailbox."""
        key = self._afgemeld.keys.newest
        digest = self._afgemeld.keys.digest(released.reader.address)
        code = error.code or 500
        self._inbox.refused(digest, key.id, released.delivery, code, error.status, error.stage)

    # -- inside ---------------------------------------------------------------------------------------------------

    def _row(
        self, connection: Connection, id: int, *, lock: bool = False, only: Sequence[ColumnElement[Any]] = ()
    ) -> Row[Any]:
        query = select(*(only or mailings.c)).where(mailings.c.id == id)
        found = connection.execute(query.with_for_update() if lock else query).first()
        if found is None:
            raise MailingError([f"there is no mailing {id}: `consentkit mailing list` shows them"])
        return found

    def _aim(self, row: Row[Any]) -> Aim:
        return _aim_of(Draft.from_json(row.content))

    def written(self, id: int) -> tuple[str, Draft]:
        """The site of a mailing, and what was written.

        Raises:
            MailingError: there is no such mailing.
        """
        row, draft = self._written(id)
        return row.site, draft

    def _written(self, id: int) -> tuple[Row[Any], Draft]:
        with self._store.read() as connection:
            row = self._row(connection, id)
            attached = [
                File(each.name, each.kind, each.inline, bytes(each.data))
                for each in connection.execute(select(files).where(files.c.mailing_id == id).order_by(files.c.name))
            ]
        return row, Draft.from_json(row.content, attached)

    def _press_of(self, id: int) -> Press:
        if id in self._presses:
            self._presses.move_to_end(id)
            return self._presses[id]
        row, draft = self._written(id)
        press = self._presses[id] = self._press(id, draft, self._paper(row.site), row.nonce)
        if len(self._presses) > _PRESSES:
            self._presses.popitem(last=False)
        return press

    def _press(self, id: int, draft: Draft, paper: Paper, nonce: int = 0) -> Press:
        mail = self._settings.mail
        return Press(
            id,
            draft,
            self._about(draft, paper, id),
            paper,
            links=self._links(),
            measuring=self._measuring,
            signer=self._signer,
            unsubscribe=mail.unsubscribe,
            bounces=mail.bounces,
            nonce=nonce,
        )

    @cached_property
    def _signer(self) -> Signer | None:
        return Signer.load(self._settings)

    def _about(self, draft: Draft, paper: Paper, id: int) -> About:
        """What is the same in every message."""
        if draft.list not in paper.topics:
            raise MailingError([Problem("list", "list_gone", name=draft.list)])
        topic, site = paper.topics[draft.list], paper.site
        language = paper.renderer.language(draft.language or None)
        own = draft.sender or paper.sender(draft.list)
        return About(
            site_name=site.name,
            site_url=site.base_url,
            controller=site.controller.name,
            address=site.controller.address,
            list_title=paper.renderer.say(topic.title, language),
            list_id=f"<{draft.list}.{site.host}>",
            sender=own,
            language=language,
            texts=paper.renderer.texts(language),
            feedback_id=f"{id}:{draft.list}:{draft.purpose}:{site.host.replace('.', '-')}",
            theme=site.look,
        )

    def reader(self, list: str, who: str | int) -> Reader:
        """A person of a list, as a release would find them; for a preview also one who would be left out.

        Args:
            who: their address, or their number.

        Raises:
            MailingError: nobody like that is known. AddressError: it is no address.
        """
        digests = self._afgemeld.keys.digests(who) if isinstance(who, str) else None
        with self._store.read() as connection:
            if digests is not None:
                found = self.readers.find(connection, list, digests)
            else:
                found = self.readers.get(connection, list, int(who))
        if found is None:
            raise MailingError([Problem("reader", "reader_unknown", name=list)])
        return found

    def sample(self, draft: Draft, number: int = 1, *, sparse: bool = False) -> Reader:
        """Somebody made up, who agreed to nothing; number 2 differs from 1 in everything.

        Args:
            sparse: they lack every field that has a text for who lacks it.
        """
        name = ("Anna", "Bart", "Chris")[number - 1]
        address = f"{name.lower()}@lezer.example"
        digest = self._afgemeld.keys.digest(address)
        fields = dict.fromkeys(draft.needed if sparse else draft.fields, name)
        return Reader(0, address, digest, draft.language, fields, measuring=False)


def _aim_of(draft: Draft) -> Aim:
    return Aim(list=draft.list, service=draft.purpose == "service", fields=draft.needed, where=draft.where)


def _base64(part: EmailMessage) -> str:
    data = part.get_payload(decode=True)
    return b64encode(data).decode() if isinstance(data, bytes) else ""


def _read_message(raw: bytes) -> Preview:
    parsed = message_from_bytes(raw, policy=policy.default)
    html, text = parsed.get_body(("html",)), parsed.get_body(("plain",))
    return Preview(raw, html.get_content() if html else "", text.get_content() if text else "")


def _mailing(row: Row[Any]) -> Mailing:
    return Mailing(
        row.id, row.site, row.list, Purpose(row.purpose), row.subject, MailingState(row.state), row.note,
        row.created_at, row.start_at, row.not_after, row.frozen_at, row.ended_at,
    )  # fmt: skip
