"""What came back is taken in: once, in one transaction with what follows from it.

A mailbox that isn't there gets no mail any more, a reader who complained no marketing, and a mailbox that keeps failing
counts up to the same. In a mail only our own signed tokens say whom it is about; a provider that proved who it is may
name an address.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta
from functools import partial
from typing import Any, Final

from sqlalchemy import and_, delete, func, select, update
from sqlalchemy.engine import Connection

from consentkit.address import HALF_BYTES
from consentkit.afgemeld import MAIL, MARKETING, Afgemeld, Change, Links, Reason, Suppression
from consentkit.afgemeld.intake import Outcome
from consentkit.errors import AddressError, TokenError
from consentkit.mail import Stage
from consentkit.mailing.bounces import FAILED, Kind, Report, judged, means_no_mailbox, read
from consentkit.mailing.measure import is_theirs
from consentkit.mailing.states import DeliveryState
from consentkit.mailing.tables import deliveries, inbox, mailings, scores
from consentkit.newsletter import people
from consentkit.store import Store, insert_into, insert_new

log = logging.getLogger("consentkit.mailing")

MAIL_SOURCE: Final = "mail"
_ANSWER: Final = "smtp"
"""What a mail server answered: the message never went out, and its sender writes down what became of it."""

LEAST_KEPT: Final = timedelta(days=2)
"""A provider may say the same again for a day: so long at least it is known that it was taken."""

_CHANNEL: Final = {Kind.COMPLAINT: "complaint", Kind.LEFT: "provider"}
_REASON: Final = {Kind.COMPLAINT: Reason.COMPLAINT, Kind.LEFT: Reason.UNSUBSCRIBE}
_NOTHING_FOLLOWS: Final = frozenset({Kind.NOTHING, Kind.DELAYED, Kind.AUTO_REPLY})
_HANDED_OVER: Final = (DeliveryState.SENT.value, DeliveryState.SENDING.value, DeliveryState.IN_DOUBT.value)
"""What came back went out, also where its sender doesn't know yet, or never learns."""

_SENTENCES: Final = {
    Kind.HARD: "there is no such mailbox, so it gets no mail any more",
    Kind.SOFT: "it counts against the mailbox",
    Kind.POLICY: "it was refused for what it is or where it came from, and the mailbox is left alone",
    Kind.COMPLAINT: "somebody complained, and gets no marketing any more",
    Kind.LEFT: "somebody left, and gets no marketing any more",
}


@dataclass(frozen=True, slots=True)
class Receipt:
    """What became of a report. It names nobody.

    Args:
        new: how many suppressions it added. kind, status: what it said.
    """

    outcome: Outcome
    new: int = 0
    kind: Kind = Kind.UNKNOWN
    status: str = ""

    @property
    def needs_a_person(self) -> bool:
        """Whether somebody should read it."""
        return self.outcome in (Outcome.FORGED, Outcome.UNCLEAR)

    def __str__(self) -> str:
        code = f" ({self.status})" if self.status else ""
        if self.outcome is Outcome.TAKEN:
            return f"taken{code}: {_SENTENCES[self.kind]}"
        if self.outcome is Outcome.KNOWN:
            return f"known{code}: it was taken before"
        if self.outcome is Outcome.IGNORED:
            return f"ignored{code}: nothing follows from it"
        if self.outcome is Outcome.FORGED:
            return "forged: a token in it is not ours or was changed; nothing changed, and a person should look at it"
        return "unclear: it says not or not readably whom it is about; a person should look at it"


@dataclass(frozen=True, slots=True)
class Score:
    """How often mail to one mailbox failed lately, and on which day it last did."""

    value: float
    day: date


@dataclass(frozen=True, slots=True)
class Scoring:
    """When a mailbox that keeps failing counts as one that isn't there.

    Args:
        limit: the score at which it does. stale: after so long without a failure it starts anew.
    """

    limit: float = 5.0
    stale: timedelta = timedelta(days=7)


def weight(status: str) -> float:
    """What a soft bounce counts: a full mailbox half; nothing where a server gave up, which may be its own trouble."""
    if status.startswith("4."):
        return 0.0
    return 0.5 if status == "5.2.2" else 1.0


def scored(before: Score | None, weight: float, day: date, stale: timedelta) -> Score:
    """The score after one more bounce, as GNU Mailman keeps it: the first of a day counts, a stale score is gone."""
    if before is None or day - before.day > stale:
        return Score(weight, day)
    if day <= before.day:
        return before
    return Score(before.value + weight, day)


@dataclass(frozen=True, slots=True, repr=False)
class _Whom:
    """Whom a report is about. `scope` is the most that follows: a link to leave with does no more than leave."""

    digest: bytes
    key_id: str
    scope: str
    delivery: int | None = None


class Inbox:
    """Takes what came back. Everything here blocks: call it from a command, or in a thread.

    Args:
        store, afgemeld: the rooms below. links: makes what reads the tokens; may raise `AfgemeldUnavailable`.
        clock: tells the time, aware. scoring: when failing counts as gone.
    """

    def __init__(
        self,
        store: Store,
        afgemeld: Afgemeld,
        links: Callable[[], Links],
        *,
        clock: Callable[[], datetime],
        scoring: Scoring | None = None,
    ) -> None:
        self._store = store
        self._afgemeld = afgemeld
        self._links = links
        self._now = clock
        self._scoring = scoring or Scoring()

    def take_mail(self, raw: bytes) -> Receipt | None:
        """Take one mail; None where it is neither a report nor sent to an address for bounces.

        Raises:
            AfgemeldUnavailable: it could not be stored; nothing changed, so keep the message and try again.
        """
        report = read(raw)
        if report.kind in (Kind.UNKNOWN, Kind.AUTO_REPLY) and not report.addressed:
            return None
        return self.take(report, MAIL_SOURCE)

    def take(self, report: Report, source: str) -> Receipt:
        """Take one report; the same one again changes nothing.

        Args:
            source: who says so: `mail`, or a provider that proved who it is, whose addresses are believed.

        Raises:
            AfgemeldUnavailable: it could not be stored; nothing changed, so it has to be given again.
        """
        if source == MAIL_SOURCE and report.kind in _NOTHING_FOLLOWS:
            return Receipt(Outcome.IGNORED, kind=report.kind, status=report.status)
        signed = self._signed(report)
        if source == MAIL_SOURCE and (signed is None or report.kind is Kind.UNKNOWN):
            self._afgemeld.open()  # under a wrong key any token looks forged
            forged = signed is None and (report.bounce_tokens or report.leave_tokens)
            return Receipt(Outcome.FORGED if forged else Outcome.UNCLEAR, kind=report.kind, status=report.status)
        with self._afgemeld.changing() as change:
            whom = signed if source == MAIL_SOURCE else self._named(change.connection, report, signed)
            return self._settle(change, report, source, whom)

    def refused(  # noqa: PLR0917
        self, digest: bytes, key_id: str, delivery: int, code: int, status: str, stage: Stage = Stage.RCPT
    ) -> Receipt:
        """Take what a mail server answered when a message was handed over: the rule is that of bounces.

        Args:
            digest, key_id: of the mailbox. delivery: its number. code, status, stage: as `MailRefused` has them.

        Raises:
            AfgemeldUnavailable: it could not be stored; nothing changed.
        """
        kind = Kind.HARD if means_no_mailbox(code, status, stage) else judged(status)
        if not 500 <= code < 600 or stage not in (Stage.RCPT, Stage.DATA):
            kind = Kind.NOTHING
        report = Report(kind, status or ("5.2.2" if code == 552 else "5.0.0"), id=str(delivery))
        with self._afgemeld.changing() as change:
            return self._settle(change, report, _ANSWER, _Whom(digest, key_id, MAIL, delivery))

    def purge(self, now: datetime, *, keep: timedelta, dry_run: bool = False) -> int:
        """Forget what was taken longer than `keep` ago, and scores that are stale; returns how many of the first."""
        old = inbox.c.at < now - max(keep, LEAST_KEPT)
        with self._store.told(), self._store.begin() as connection:
            if dry_run:
                return int(connection.execute(select(func.count()).select_from(inbox).where(old)).scalar_one())
            stale = scores.c.day < (now - self._scoring.stale).date()
            connection.execute(delete(scores).where(stale))
            return connection.execute(delete(inbox).where(old)).rowcount

    # -- whom it is about ---------------------------------------------------------------------------------------

    def _signed(self, report: Report) -> _Whom | None:
        """Whom the first genuine token names."""
        links = self._links()
        for token in report.bounce_tokens:
            try:
                bounced = links.read_bounce(token)
            except TokenError:
                continue
            return _Whom(bounced.digest, bounced.key_id, MAIL, bounced.delivery)
        if report.addressed:
            return None
        for token in report.leave_tokens:
            try:
                leaving = links.read(token)
            except TokenError:
                continue
            return _Whom(leaving.digest, leaving.key_id, MARKETING, leaving.delivery)
        return None

    def _named(self, connection: Connection, report: Report, signed: _Whom | None) -> _Whom | None:
        """Whom a known provider means: the address that it names, else our token, else our `Message-ID`."""
        if report.address:
            try:
                digests = self._afgemeld.keys.digests(report.address)
            except AddressError:
                return None
            person = people.find(connection, digests)
            row = _delivery(connection, signed.delivery) if signed else _by_message_id(connection, report)
            theirs = row is not None and person is not None and row.subscriber_id == person.id
            return _Whom(digests[0], self._afgemeld.keys.newest.id, MAIL, row.id if theirs else None)
        if signed:
            return signed
        row = _by_message_id(connection, report)
        person = people.hold_one(connection, row.subscriber_id) if row is not None and row.subscriber_id else None
        if row is None or person is None:
            return None
        return _Whom(bytes(person.digest), person.key_id, MAIL, row.id)

    # -- what follows -------------------------------------------------------------------------------------------

    def _settle(self, change: Change, report: Report, source: str, whom: _Whom | None) -> Receipt:
        """Note that it was taken, and let follow what does; both in the transaction of `change`."""
        connection, now = change.connection, self._now()
        if whom is not None and _is_another_s(connection, whom):
            whom = replace(whom, delivery=None)
        receipt = partial(Receipt, kind=report.kind, status=report.status)
        row = {
            "key": hashlib.sha256(f"{source}\0{report.id}".encode()).hexdigest(),
            "source": source,
            "kind": report.kind.value,
            "delivery_id": whom.delivery if whom and report.kind not in _NOTHING_FOLLOWS else None,
            "status": report.status,
            "at": now,
        }
        if connection.execute(insert_new(connection, inbox).values(row).returning(inbox.c.key)).first() is None:
            return receipt(Outcome.KNOWN)
        if report.kind in _NOTHING_FOLLOWS:
            return receipt(Outcome.IGNORED)
        if whom is None or report.kind is Kind.UNKNOWN:
            return receipt(Outcome.UNCLEAR)
        people.hold(connection, [whom.digest])  # first, as everybody does who changes something about a person
        suppression = self._suppression(connection, report, whom, now)
        new = change.put([suppression] if suppression else [])
        if report.kind in FAILED and source != _ANSWER:
            _note_failed(connection, whom.delivery, report.status)
        return receipt(Outcome.TAKEN, len(new))

    def _suppression(self, connection: Connection, report: Report, whom: _Whom, now: datetime) -> Suppression | None:
        row = _delivery(connection, whom.delivery)
        mailing = str(row.mailing_id) if row is not None else None
        if report.kind in _REASON:
            reason, channel = _REASON[report.kind], _CHANNEL[report.kind]
            return Suppression(whom.digest, whom.key_id, MARKETING, reason, channel, now, mailing)
        gone = report.kind is Kind.HARD
        if report.kind is Kind.SOFT and (counts := weight(report.status)):
            gone = self._count(connection, whom.digest[:HALF_BYTES], counts, now.date())
        if not gone:
            return None
        return Suppression(whom.digest, whom.key_id, whom.scope, Reason.HARD_BOUNCE, "bounce", now, mailing)

    def _count(self, connection: Connection, half: bytes, counts: float, day: date) -> bool:
        """Count one more failure; whether the mailbox has had as many as it may."""
        query = select(scores.c.score, scores.c.day).where(scores.c.digest == half)
        row = connection.execute(query.with_for_update()).first()
        before = Score(row.score, row.day) if row is not None else None
        after = scored(before, counts, day, self._scoring.stale)
        if after.value >= self._scoring.limit:
            connection.execute(delete(scores).where(scores.c.digest == half))
            return True
        values = {"score": after.value, "day": after.day}
        write = insert_into(connection, scores).values(digest=half, **values)
        connection.execute(write.on_conflict_do_update(index_elements=["digest"], set_=values))
        return False


_DELIVERY: Final = select(deliveries.c.id, deliveries.c.mailing_id, deliveries.c.subscriber_id)


def _delivery(connection: Connection, id: int | None) -> Any:
    """The row of a delivery; None where there is none."""
    return None if id is None else connection.execute(_DELIVERY.where(deliveries.c.id == id)).first()


def _by_message_id(connection: Connection, report: Report) -> Any:
    """The row of the delivery that a `Message-ID` of ours names; None where there is none."""
    if report.delivery is None:
        return None
    this = and_(mailings.c.id == report.mailing, mailings.c.nonce == report.nonce)
    query = _DELIVERY.join(mailings, and_(this, mailings.c.id == deliveries.c.mailing_id))
    return connection.execute(query.where(deliveries.c.id == report.delivery)).first()


def _is_another_s(connection: Connection, whom: _Whom) -> bool:
    """Whether the number is of a delivery to somebody else: after a restore, numbers are given out again."""
    query = select(deliveries.c.id).where(deliveries.c.id == whom.delivery, ~is_theirs(whom.digest))
    return connection.execute(query).first() is not None


def _note_failed(connection: Connection, delivery: int | None, status: str) -> None:
    """What was handed over has failed: it is told so, and never sent again."""
    if delivery is None:
        return
    here = and_(deliveries.c.id == delivery, deliveries.c.state.in_(_HANDED_OVER))
    values = {"state": DeliveryState.FAILED.value, "reason": f"bounced {status}".strip(), "holder": None}
    connection.execute(update(deliveries).where(here).values(values))
