"""The verbs of mailings: write, look, check, send, pause, go on, cancel, ask how it goes. Each is one transaction.

Nothing goes out that the check refuses, and nothing to anybody whom the release does not let it go to: the command
line, a console and a program of the host's all come by here.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from email import message_from_bytes, policy
from email.utils import parseaddr
from functools import cached_property
from typing import Any, Final

from sqlalchemy import and_, func, or_, select, update
from sqlalchemy.engine import Connection, Row
from sqlalchemy.exc import DataError

from consentkit.address import Address
from consentkit.afgemeld import Afgemeld, Links
from consentkit.errors import MailingError, Suppressed
from consentkit.mail import Envelope, MailRefused, Wire
from consentkit.mailing import audience, preflight
from consentkit.mailing.audience import Audience
from consentkit.mailing.dkim import Signer
from consentkit.mailing.inbox import Inbox
from consentkit.mailing.measure import Measuring
from consentkit.mailing.preflight import Expected, Finding
from consentkit.mailing.press import Press
from consentkit.mailing.release import Released, Run, end, holders, take_over
from consentkit.mailing.source import Draft, File
from consentkit.mailing.states import DeliveryState, MailingState, Purpose
from consentkit.mailing.tables import deliveries, files, links, mailings
from consentkit.mailing.template import About
from consentkit.newsletter import Aim, Paper, Reader, Readers
from consentkit.service import Duration
from consentkit.settings import Settings
from consentkit.store import Store

MOST_TESTS: Final = 5
"""So many addresses a test goes to at most: it is a look at a mailing, no way round the release."""

_PRESSES: Final = 8


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
        paper = self._paper(site)
        problems = self._problems(draft)
        if problems:
            raise MailingError(problems)
        press = self._press(0, draft, paper)
        frame = press.measured if draft.measured else press.plain
        row = {
            "site": paper.site.name, "list": draft.list, "purpose": draft.purpose, "language": draft.language,
            "subject": draft.subject, "preheader": draft.preheader, "sender": draft.sender,
            "reply_to": draft.reply_to, "content": draft.to_json(), "measured": draft.measured,
            "state": MailingState.DRAFT.value, "note": "", "created_at": self._now(), "failed_in_row": 0,
        }  # fmt: skip
        with self._store.told(), self._store.begin() as connection:
            made = connection.execute(mailings.insert().returning(mailings.c.id), row).scalar_one()
            for file in draft.files:
                values = {"name": file.name, "kind": file.kind, "inline": file.inline, "data": file.data}
                connection.execute(files.insert().values(mailing_id=made, **values))
            for number, url in enumerate(frame.links if draft.measured else ()):
                connection.execute(links.insert().values(mailing_id=made, number=number, url=url))
        return int(made)

    def _problems(self, draft: Draft) -> list[str]:
        lists = self._settings.lists
        if draft.list not in lists:
            return [f"list: there is no [lists.{draft.list}]; there are: {', '.join(lists) or 'none'}"]
        if lists[draft.list].pupils:
            return [f"list: {draft.list} has pupils on it, and no mailing ever goes to them"]
        known = {parseaddr(self._settings.sender_of(list) or "")[1].rpartition("@")[2] for list in lists}
        if draft.sender and (domain := parseaddr(draft.sender)[1].rpartition("@")[2]) not in known:
            return [f"sender: nothing of yours is sent from {domain}: take a sender of {', '.join(sorted(known))}"]
        return []

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
            return _mailing(self._row(connection, id))

    def all(self) -> list[Mailing]:
        """Every mailing, the newest first."""
        with self._store.read() as connection:
            return [_mailing(row) for row in connection.execute(select(mailings).order_by(mailings.c.id.desc()))]

    def audience(self, id: int) -> Audience:
        """Who gets it and why others don't: as it was frozen, else as a freeze would be now.

        Raises:
            MailingError: there is no such mailing. AfgemeldUnavailable: nobody can tell who left.
        """
        with self._store.read() as connection:
            row = self._row(connection, id)
            if row.frozen_at is not None:
                return audience.counted(connection, id)
            self.readers.open()
            return audience.count(connection, self.readers, self._aim(row), self._now())

    def status(self, id: int) -> Status:
        """How it goes.

        Raises:
            MailingError: there is no such mailing.
        """
        row = deliveries.c
        mine = row.mailing_id == id
        with self._store.read() as connection:
            mailing = _mailing(self._row(connection, id))
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

    def preview(self, id: int, address: str | None = None) -> Preview:
        """The message that one reader would get, or a made-up one; nothing is opened, counted or sent.

        Raises:
            MailingError: there is no such mailing, or nobody with this address is known.
        """
        press = self._press_of(id)
        reader = self._sample(press.draft, 1) if address is None else self._reader(press.draft, address)
        return _preview(press.message(reader, 0, self._now()))

    def preflight(self, id: int, *, dns: bool = True, lang: str = "en") -> list[Finding]:
        """What stands in the way of sending, and what should be looked at; by the bytes that would go out.

        Args:
            dns: ask the DNS about the sender's domain, which takes up to three seconds. lang: of the findings.

        Raises:
            MailingError: there is no such mailing. AfgemeldUnavailable: no link can be made without a key.
        """
        press, now = self._press_of(id), self._now()
        samples = [self._checked(press, number, now, measuring=False) for number in (1, 2)]
        if press.draft.measured:
            samples.append(self._checked(press, 3, now, measuring=True))
        return preflight.check(samples, now=now, dns=dns, lang=lang)

    def _checked(self, press: Press, number: int, now: datetime, *, measuring: bool) -> tuple[bytes, Expected]:
        """A message as it would go out, and what it should be."""
        reader = replace(self._sample(press.draft, number), measuring=measuring)
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
        if not 0 < len(addresses) <= MOST_TESTS:
            raise MailingError([f"to: a test goes to 1 to {MOST_TESTS} addresses, which are yours"])
        press = self._press_of(id, test=True)
        for one in await asyncio.to_thread(self._tested, press, addresses):
            await wire.send(one)

    def _tested(self, press: Press, addresses: Sequence[str]) -> list[Envelope]:
        list, service = press.draft.list, press.draft.purpose == "service"
        sample = self._sample(press.draft, 1)
        made = []
        for text in addresses:
            address = Address.parse(text)
            if self._afgemeld.look_up(address.canonical, list=list, service=service):
                raise Suppressed("an address of the test left, and is not written to: choose another")
            digest = self._afgemeld.keys.digest(address.canonical)
            reader = replace(sample, address=address.deliver_to, digest=digest)
            made.append(press.envelope(reader, 0, self._now()))
        return made

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

    def _row(self, connection: Connection, id: int, *, lock: bool = False) -> Row[Any]:
        query = select(mailings).where(mailings.c.id == id)
        found = connection.execute(query.with_for_update() if lock else query).first()
        if found is None:
            raise MailingError([f"there is no mailing {id}: `consentkit mailing list` shows them"])
        return found

    def _aim(self, row: Row[Any]) -> Aim:
        draft = Draft.from_json(row.content)
        return Aim(list=row.list, service=row.purpose == Purpose.SERVICE, fields=draft.needed, where=draft.where)

    def _press_of(self, id: int, *, test: bool = False) -> Press:
        if id in self._presses and not test:
            self._presses.move_to_end(id)
            return self._presses[id]
        with self._store.read() as connection:
            row = self._row(connection, id)
            attached = [
                File(each.name, each.kind, each.inline, bytes(each.data))
                for each in connection.execute(select(files).where(files.c.mailing_id == id).order_by(files.c.name))
            ]
        draft = replace(Draft.from_json(row.content), files=tuple(attached))
        if test:
            draft = replace(draft, subject=f"[Test] {draft.subject}")
            return self._press(id, draft, self._paper(row.site), row.nonce)
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
            raise MailingError([f"list: there is no [lists.{draft.list}] any more: put it back, or cancel the mailing"])
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

    def _reader(self, draft: Draft, address: str) -> Reader:
        """A person of the list, as a release would find them; for a preview also one who would be left out."""
        digests = self._afgemeld.keys.digests(address)
        with self._store.read() as connection:
            found = self.readers.find(connection, draft.list, digests)
        if found is None:
            raise MailingError([f"reader: nobody with this address is known on the list {draft.list}"])
        return found

    def _sample(self, draft: Draft, number: int) -> Reader:
        """Somebody made up, who agreed to nothing; number 2 differs from 1 in everything."""
        name = ("Anna", "Bart", "Chris")[number - 1]
        address = f"{name.lower()}@lezer.example"
        digest = self._afgemeld.keys.digest(address)
        return Reader(0, address, digest, draft.language, dict.fromkeys(draft.fields, name), measuring=False)


def _preview(raw: bytes) -> Preview:
    parsed = message_from_bytes(raw, policy=policy.default)
    html, text = parsed.get_body(("html",)), parsed.get_body(("plain",))
    return Preview(raw, html.get_content() if html else "", text.get_content() if text else "")


def _mailing(row: Row[Any]) -> Mailing:
    return Mailing(
        row.id, row.site, row.list, Purpose(row.purpose), row.subject, MailingState(row.state), row.note,
        row.created_at, row.start_at, row.not_after, row.frozen_at, row.ended_at,
    )  # fmt: skip
