"""The newsletter's verbs: sign up, confirm, leave, prefer, see and erase one's data. Each is one transaction.

Consent comes from two acts of the same person: the form, and the button behind a link that only the mailbox's owner
gets. Both are events in the chained log. Leaving needs one act, takes effect with its commit, and nothing but a new
confirmed sign-up undoes it.
"""

from __future__ import annotations

import hashlib
import json
import logging
import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from sqlalchemy import func, select, update
from sqlalchemy.engine import Connection, Row
from sqlalchemy.exc import SQLAlchemyError

from consentkit.address import Address
from consentkit.afgemeld import MAIL, MARKETING, Afgemeld, Leaving, Reason, Suppression, list_scope, unreachable
from consentkit.errors import DatabaseUnavailable, NewsletterUnavailable, SchemaOutdated, TokenError
from consentkit.evidence import ConsentEvent, Evidence, Notice
from consentkit.newsletter import keeping, people
from consentkit.newsletter.forms import Answer, Form, Topic
from consentkit.newsletter.outbox import Outbox
from consentkit.newsletter.overview import Overview
from consentkit.newsletter.paper import MARK, Paper, TokenTooOld
from consentkit.newsletter.rules import LEFT, Route, State
from consentkit.newsletter.tables import subscribers, subscriptions
from consentkit.service import Duration
from consentkit.store import Store
from consentkit.tokens import Use

log = logging.getLogger("consentkit.newsletter")

CONFIRM_FOR: Final = timedelta(hours=72)
PREFERENCES_FOR: Final = timedelta(days=30)
OWN_DATA_FOR: Final = timedelta(hours=1)
_STATE_OF = {
    Reason.HARD_BOUNCE: State.BOUNCED,
    Reason.COMPLAINT: State.COMPLAINED,
    Reason.ERASURE: State.ERASED,
}


Follower = Callable[[Connection, int], None]
"""Called in the transaction in which something changed for a person, by number."""


@dataclass(frozen=True, slots=True, repr=False)
class Request:
    """A sign-up that waits for its confirmation.

    Args:
        topics: what would be agreed to. young: a parent has to agree first, and hasn't yet where `parent_asked`.
    """

    id: str
    subscriber_id: int
    topics: tuple[Topic, ...]
    measuring: bool
    language: str
    form: str
    list: str
    young: bool
    parent_asked: bool


@dataclass(frozen=True, slots=True, repr=False)
class Confirmed:
    """What a confirmation gave: each topic with the id of its record."""

    topics: tuple[Topic, ...]
    records: Mapping[str, str]


@dataclass(frozen=True, slots=True, repr=False)
class Profile:
    """What stands about one mailbox."""

    address: str | None
    language: str
    fields: Mapping[str, str]
    subscriptions: tuple[Row[Any], ...]

    def active(self, topic: str) -> bool:
        """Whether it is subscribed to a topic."""
        return any(row.list == topic and row.state == State.ACTIVE for row in self.subscriptions)

    def measuring(self, topic: str) -> bool:
        """Whether opens and clicks of a list may be measured."""
        return any(row.list == topic and row.state == State.ACTIVE and row.measuring for row in self.subscriptions)

    @property
    def masked(self) -> str:
        """The address as somebody else may see it."""
        local, _, domain = (self.address or "").partition("@")
        return f"{local[:1]}…@{domain[:1]}…" if domain else ""


class RequestGone(TokenError):
    """A confirmation link whose request is not there any more: it was used, replaced or erased."""

    def __init__(self, *, used: bool) -> None:
        super().__init__("this sign-up was confirmed already" if used else "this sign-up is not there any more")
        self.used = used


class TextChanged(TokenError):
    """The text that would be agreed to is not the one that was asked or shown: it has to be shown first."""


class ParentFirst(TokenError):
    """The parent has not agreed yet."""


class Newsletter:
    """What people do with lists. Everything here blocks: call it from a command, or in a thread.

    Args:
        store, evidence, afgemeld: the rooms below.
        papers: what each site says, by its name.
        clock: tells the time, aware.

    Whoever keeps opens and clicks sets `unmeasure`, called where a person stops being measured, and `forget`, called
    where one is erased.
    """

    def __init__(
        self,
        store: Store,
        evidence: Evidence,
        afgemeld: Afgemeld,
        papers: Mapping[str, Paper],
        *,
        clock: Callable[[], datetime],
    ) -> None:
        self._store = store
        self._evidence = evidence
        self._afgemeld = afgemeld
        self.papers = papers
        self._now = clock
        settings = [paper.settings for paper in papers.values()]
        pupils = frozenset(id for one in settings for id, each in one.lists.items() if each.pupils)
        self.overview = Overview(store, evidence, afgemeld, pupils=pupils, record_of=record_of, clock=clock)
        self.outbox: Outbox | None = None
        self.unmeasure: Follower = lambda connection, subscriber: None
        self.forget: Follower = lambda connection, subscriber: None
        afgemeld.hold = lambda connection, some: people.hold(connection, [one.digest for one in some])
        afgemeld.meet_key = lambda connection: people.meet_key(connection, afgemeld.keys)
        afgemeld.follow = self._follow
        afgemeld.erase_again = self._erase_again

    # -- signing up ---------------------------------------------------------------------------------------------

    def sign_up(self, paper: Paper, answer: Answer, lang: str, *, method: str = "host.newsletter") -> None:
        """Note what was asked for, and mail the link that confirms it. What comes back says nothing about the address.

        Args:
            method: what the evidence says of how it came in: `form.newsletter` only where the form said which text it
                showed, `post.newsletter` where it did not, `host.newsletter` where the host's own code took it.

        Raises:
            AfgemeldUnavailable, NewsletterUnavailable: it could not be stored.
        """
        if answer.trapped:
            log.info("a sign-up filled in what people don't see, and was left alone")
        if answer.trapped or not answer.topics or "email" not in answer.fields:
            return
        address = Address.parse(answer.fields["email"])
        self._afgemeld.open()
        now = self._now()
        with self._told(), self._store.begin() as connection:
            if self._is_out_of_reach(connection, self._afgemeld.keys.digests(address.canonical)):
                log.info("a sign-up for an address that gets no mail at all was left alone")
                return
            id = people.make(connection, self._afgemeld.keys, address, lang=lang, now=now)
            self._ask(connection, paper, id, answer, lang, method=method, now=now)
        self._wake()

    def _is_out_of_reach(self, connection: Connection, digests: Sequence[bytes]) -> bool:
        """Whether no sign-up helps: all mail was left, a mailbox is not there, or somebody complained."""
        return unreachable(self._afgemeld.rows(connection, digests))

    def _ask(
        self,
        connection: Connection,
        paper: Paper,
        subscriber_id: int,
        answer: Answer,
        lang: str,
        *,
        method: str,
        now: datetime,
    ) -> None:
        rows = {row.list: row for row in people.rows_of(connection, subscriber_id)}
        new = [topic for topic in answer.topics if self._adds(rows.get(topic.id), answer.measuring, now)]
        if people.mailed_enough(rows, new or answer.topics, now):
            log.info("a sign-up was repeated so soon that no further mail was sent")
            return
        if not new:
            row = rows[answer.topics[0].id]
            people.set_row(connection, row, **people.mailed(row, now))
            self._post(connection, paper, "already", subscriber_id, {"lang": lang, "list": answer.topics[0].id})
            return
        if answer.young and not people.parent_mailed(connection, self._afgemeld.keys.digests(answer.parent), now):
            log.info("a parent was asked so often today that no further mail was sent")
            return
        request = secrets.token_hex(16)
        notice = paper.notice(answer.form, lang)
        kept = {
            "fields": _fields(answer),
            "measuring": answer.measuring,
            "form": answer.form.id,
            "list": answer.form.own.id if answer.form.own else answer.topics[0].id,
            "lang": lang,
            "site": paper.site.name,
            "notice": notice.hash,
            "young": answer.young,
            "method": method,
        }
        for number, topic in enumerate(new):
            row = rows.get(topic.id) or people.new_row(
                connection, subscriber_id, topic.id, site=paper.site.name, lang=lang
            )
            values = {"request_id": request, "requested_at": now, "request": json.dumps(kept, ensure_ascii=False)}
            people.set_row(connection, row, **values, **people.mailed(row, now, more=number == 0))
            event = self._event(paper, topic, request, "requested", now, row=row, method=method, notice=notice)
            self._evidence.append(connection, event, notice)
        payload = {"lang": lang, "request": request, "list": kept["list"]}
        if answer.young:
            self._post(connection, paper, "parent", subscriber_id, payload | {"to": answer.parent})
        else:
            self._post(connection, paper, "confirm", subscriber_id, payload)

    def _adds(self, row: Row[Any] | None, measuring: bool, now: datetime) -> bool:
        """Whether confirming it would change anything."""
        if row is None or not people.consents(row):
            return True
        return (measuring and not row.measuring) or (row.valid_until is not None and row.valid_until <= now)

    # -- confirming ---------------------------------------------------------------------------------------------

    def request(self, paper: Paper, token: str) -> Request:
        """What a confirmation link would confirm. Changes nothing.

        Raises:
            TokenTooOld: after 72 hours. RequestGone: it was confirmed, replaced or erased. TokenError: it is not ours.
            ParentFirst: a parent has to agree before.
        """
        id = self._request_id(paper, token)
        with self._told(), self._store.read() as connection:
            request = self._request(connection, paper, id)
        if request.parent_asked:
            raise ParentFirst("a parent has to agree first")
        return request

    def confirm(self, paper: Paper, token: str, *, lang: str | None = None, mark: str = "") -> Confirmed:
        """Turn a request into a subscription: one transaction for evidence, afgemeld and subscription.

        Args:
            lang: in which language it was shown; by default that of the request.
            mark: names the text that was shown; without it the text must still be the one that was asked.

        Raises:
            TokenTooOld, RequestGone, TokenError: as `request`. ParentFirst: a parent has to agree before.
            TextChanged: show the present text first.
            AfgemeldUnavailable, NewsletterUnavailable: it could not be stored; nothing changed.
        """
        id = self._request_id(paper, token)
        now = self._now()
        with self._told(), self._afgemeld.changing() as change:
            connection = change.connection
            person = people.hold_one(connection, self._request(connection, paper, id).subscriber_id)
            request = self._request(connection, paper, id)  # once more, now that nobody else changes it
            digests = people.digests_of(connection, self._afgemeld.keys, person) if person else []
            if person is None or self._is_out_of_reach(connection, digests):
                raise RequestGone(used=False)
            if request.parent_asked:
                raise ParentFirst("a parent has to agree first")
            rows = [row for row in people.requested(connection, id) if row.list in paper.topics]
            kept = json.loads(rows[0].request)
            spoken = paper.renderer.language(lang or request.language)
            notice = paper.notice(self._form_of(paper, kept), spoken)
            if notice.hash != kept["notice"] and notice.hash[:MARK] != mark:
                raise TextChanged("the text has changed since it was asked")
            records: dict[str, str] = {}
            for row in rows:
                topic = paper.topics[row.list]
                state = "renewed" if people.consents(row) else "given"
                event = self._event(
                    paper, topic, id, state, now, row=row, method="mail.confirm", notice=notice,
                    measuring=request.measuring,
                )  # fmt: skip
                self._evidence.append(connection, event, notice)
                records[topic.id] = event.record_id
                change.release(digests, topic.id, record_id=event.record_id, at=now)
                proof = {"how": f"double opt-in, record {event.record_id}", "form": kept["form"]}
                if request.young:
                    proof["parent"] = f"agreed at {kept['parent_ok']}"
                people.set_row(
                    connection,
                    row,
                    state=State.ACTIVE.value,
                    route=Route.CONSENT.value,
                    proof=json.dumps(proof),
                    measuring=request.measuring and topic.kind == "list",
                    language=spoken,
                    site=paper.site.name,
                    record_id=event.record_id,
                    confirmed_at=now,
                    valid_until=event.valid_until,
                    **people.ANSWERED,
                )
                if row.measuring and not request.measuring:
                    self.unmeasure(connection, person.id)
            fields = {**json.loads(person.fields), **kept["fields"]}
            values = {"fields": json.dumps(fields, ensure_ascii=False), "language": spoken}
            connection.execute(update(subscribers).where(subscribers.c.id == person.id).values(values))
            payload = {"lang": spoken, "list": request.list, "records": records, "measuring": request.measuring}
            self._post(connection, paper, "welcome", person.id, payload)
        self._wake()
        return Confirmed(request.topics, records)

    def mark(self, paper: Paper, request: Request, lang: str) -> str:
        """Names the text that a confirmation page shows."""
        form = paper.form_of(request.form, request.list)
        return paper.mark(form, lang) if form else ""

    # -- parents ------------------------------------------------------------------------------------------------

    def parent_request(self, paper: Paper, token: str) -> Request | None:
        """What a parent is asked, or None where it was answered already; the link also erases later (GDPR art. 8, 17).

        Raises:
            TokenError: the link is not ours.
        """
        id, _ = self._parent_token(paper, token)
        with self._told(), self._store.read() as connection:
            try:
                found = self._request(connection, paper, id)
            except RequestGone:
                return None
        return found if found.parent_asked else None

    def parent_agrees(self, paper: Paper, token: str) -> bool:
        """Note that the parent agrees, and mail the child the link that confirms; whether it was still asked."""
        id, _ = self._parent_token(paper, token)
        now = self._now()
        with self._told(), self._store.begin() as connection:
            rows = [row for row in people.requested(connection, id) if row.list in paper.topics]
            if rows:
                people.hold_one(connection, rows[0].subscriber_id)
                rows = [row for row in people.requested(connection, id) if row.list in paper.topics]
            if not rows or json.loads(rows[0].request).get("parent_ok"):
                return False
            kept = json.loads(rows[0].request) | {"parent_ok": now.isoformat(timespec="seconds")}
            notice = paper.notice(self._form_of(paper, kept), kept["lang"])
            for row in rows:
                people.set_row(connection, row, request=json.dumps(kept, ensure_ascii=False))
                topic = paper.topics[row.list]
                event = self._event(paper, topic, id, "requested", now, row=row, method="parent.confirm", notice=notice)
                self._evidence.append(connection, event, notice)
            payload = {"lang": kept["lang"], "request": id, "list": kept["list"]}
            self._post(connection, paper, "confirm", rows[0].subscriber_id, payload)
        self._wake()
        return True

    def parent_erases(self, paper: Paper, token: str) -> bool:
        """Erase the child's data on the parent's report; whether there was anything left."""
        _, digest = self._parent_token(paper, token)
        return self._erase([digest], method="parent.erase")

    def parent_token(self, paper: Paper, request: str, digest: bytes) -> str:
        """The link for a parent: one request, and one child to erase."""
        return paper.link(Use.PARENT, bytes.fromhex(request) + digest, self._now())

    def _parent_token(self, paper: Paper, token: str) -> tuple[str, bytes]:
        payload = paper.read(Use.PARENT, token, self._now(), most=None)
        return payload[:16].hex(), payload[16:]

    # -- leaving ------------------------------------------------------------------------------------------------

    def leave(
        self, leaving: Leaving, *, reason: Reason, channel: str, everything: bool = False, mailing: str | None = None
    ) -> bool:
        """Suppress, and end the subscriptions it covers, in one commit; whether it is new. Idempotent.

        Raises:
            AfgemeldUnavailable: it could not be stored.
        """
        scope = MARKETING if everything else leaving.scope
        one = Suppression(leaving.digest, leaving.key_id, scope, reason, channel, self._now(), mailing)
        with self._told():
            return self._afgemeld.add_one(one)

    def undo(self, paper: Paper, leaving: Leaving, lang: str) -> bool:
        """Ask by mail whether the person wants to come back; only that confirmed answer brings them back.

        Returns:
            whether there is an address left to ask at. Tell nobody.
        """
        with self._told(), self._store.begin() as connection:
            person = people.find(connection, [leaving.digest], lock=True)
            if person is None or person.address is None:
                return False
            rows = people.rows_of(connection, person.id)
            wanted = [leaving.list] if leaving.list else [row.list for row in rows if row.state in LEFT]
            topics = tuple(paper.topics[id] for id in wanted if id in paper.topics)
            form = paper.form(topics[0].id) if topics else None
            digests = people.digests_of(connection, self._afgemeld.keys, person)
            if form is None or people.is_child(rows) or self._is_out_of_reach(connection, digests):
                return False
            again = Answer(form, {"email": person.address}, topics, False, False, "")
            self._ask(connection, paper, person.id, again, lang, method="undo.newsletter", now=self._now())
        self._wake()
        return True

    def _follow(self, connection: Connection, new: Sequence[Suppression], *, replayed: bool = False) -> None:
        """End the subscriptions that suppressions cover, in the transaction that adds them."""
        known = people.find_all(connection, [one.digest for one in new])
        for one in new:
            for id in {id for digest, id in known if digest.startswith(one.digest)}:
                self._end(connection, id, one, replayed=replayed)

    def _end(self, connection: Connection, subscriber_id: int, one: Suppression, *, replayed: bool = False) -> None:
        for row in people.rows_of(connection, subscriber_id):
            covered = one.scope in (MAIL, MARKETING) or one.scope == list_scope(row.list)
            if not covered or (replayed and row.confirmed_at is not None and row.confirmed_at > one.at):
                continue  # not left, or come back since an older backup was made
            people.set_row(connection, row, **people.ANSWERED)
            if State(row.state) in LEFT:
                continue
            state = _STATE_OF.get(one.reason, State.UNSUBSCRIBED)
            left_at = max(one.at, row.left_at or one.at)  # an import may tell of an older leaving
            people.set_row(connection, row, state=state.value, left_at=left_at, measuring=False)
            if row.measuring:
                self.unmeasure(connection, subscriber_id)
            if row.record_id:
                ended = "terminated" if state is State.ERASED else "withdrawn"
                self._evidence.end(connection, row.record_id, at=one.at, method=f"leave.{one.channel}", state=ended)
            self._tell_partner(connection, subscriber_id, row)

    def _tell_partner(self, connection: Connection, subscriber_id: int, row: Row[Any]) -> None:
        """Pass a withdrawal on to the partner who has the address (GDPR art. 19)."""
        paper = self.papers.get(row.site)
        topic = paper.topics.get(row.list) if paper else None
        if paper is None or topic is None or not topic.webhook or row.state != State.ACTIVE:
            return
        found = connection.execute(select(subscribers.c.address).where(subscribers.c.id == subscriber_id)).scalar()
        if found:
            payload = {"url": topic.webhook, "partner": topic.value, "address": found}
            self._post(connection, paper, "webhook", subscriber_id, payload, lasts=timedelta(days=30))

    # -- preferences and one's own data -------------------------------------------------------------------------

    def preferences_token(self, paper: Paper, digest: bytes, *, fresh: bool = False) -> str:
        """A link to the preferences; a fresh one, mailed on request, also shows and erases one's data."""
        return paper.link(Use.OWN_DATA if fresh else Use.PREFERENCES, digest, self._now())

    def profile(self, paper: Paper, token: str) -> tuple[Profile | None, bool]:
        """Whose preferences a link opens, and whether it is a fresh one; None where nothing is kept any more.

        Raises:
            TokenTooOld: after 30 days, or an hour for a fresh one. TokenError: it is not ours.
        """
        digest, fresh = self._preferences(paper, token)
        with self._told(), self._store.read() as connection:
            person = people.find(connection, [digest])
            return (self._profile(connection, person) if person else None), fresh

    def set_preferences(
        self,
        paper: Paper,
        token: str,
        *,
        lists: frozenset[str],
        measuring: frozenset[str],
        lang: str,
        shown: frozenset[str] | None = None,
    ) -> tuple[int, int]:
        """Take back at once what was unticked; ask by mail to confirm what was added.

        Args:
            lists, measuring: what is ticked. lang: of the mail.
            shown: what the page had switches for when it was made; what came since stays. None: everything.

        Returns:
            how many things were taken back, and how many have to be confirmed.
        """
        digest, _ = self._preferences(paper, token)
        now = self._now()
        with self._told(), self._afgemeld.changing() as change:
            connection = change.connection
            person = people.find(connection, [digest], lock=True)
            if person is None:
                return 0, 0
            profile = self._profile(connection, person)
            seen = frozenset(paper.topics) if shown is None else shown
            gone = [id for id in paper.topics if profile.active(id) and id not in lists and id in seen]
            key = person.key_id
            channel = "preferences"
            change.add(
                [Suppression(person.digest, key, list_scope(id), Reason.UNSUBSCRIBE, channel, now) for id in gone]
            )
            quiet = [id for id in paper.topics if profile.measuring(id) and id in lists and id not in measuring]
            for row in profile.subscriptions:
                if row.list in quiet:
                    self._stop_measuring(connection, row, now, method="preferences.save")
            added = [
                id
                for id in sorted(lists)
                if paper.form(id) and (not profile.active(id) or (id in measuring and not profile.measuring(id)))
            ]
            digests = people.digests_of(connection, self._afgemeld.keys, person)
            if people.is_child(profile.subscriptions) or self._is_out_of_reach(connection, digests):
                added = []  # a parent agreed to what there is, and to nothing more; and no mail could ask
            if added and person.address:
                for wanted in (True, False):
                    topics = tuple(paper.topics[id] for id in added if (id in measuring) is wanted)
                    form = paper.form(topics[0].id) if topics else None
                    if form is not None:
                        answer = Answer(form, {"email": person.address}, topics, wanted, False, "")
                        self._ask(connection, paper, person.id, answer, lang, method="preferences.newsletter", now=now)
        self._wake()
        return len(gone) + len(quiet), len(added)

    def leave_all(self, paper: Paper, token: str) -> None:
        """Leave all marketing by the preferences' own button."""
        digest, _ = self._preferences(paper, token)
        with self._told(), self._afgemeld.changing() as change:
            person = people.find(change.connection, [digest], lock=True)
            key = person.key_id if person else self._afgemeld.keys.newest.id
            now = self._now()
            change.add([Suppression(digest, key, MARKETING, Reason.UNSUBSCRIBE, "preferences", now)])

    def stop_measuring(self, subscriber: int, list: str, *, method: str) -> bool:
        """Measure one person's opens and clicks of a list no longer, and nothing else; whether that is new. Idempotent.

        Args:
            method: what the evidence says of how it was withdrawn.

        Raises:
            NewsletterUnavailable: it could not be stored; nothing changed.
        """
        with self._told(), self._store.begin() as connection:
            people.hold_one(connection, subscriber)
            rows = [row for row in people.rows_of(connection, subscriber) if row.list == list and row.measuring]
            for row in rows:
                self._stop_measuring(connection, row, self._now(), method=method)
        return bool(rows)

    def _stop_measuring(self, connection: Connection, row: Row[Any], now: datetime, *, method: str) -> None:
        people.set_row(connection, row, measuring=False)
        self.unmeasure(connection, row.subscriber_id)
        if row.record_id:
            self._evidence.change(connection, row.record_id, [f"measuring.{row.list}"], at=now, method=method)

    def ask_for_data(self, paper: Paper, token: str, lang: str) -> bool:
        """Mail a fresh link: whoever holds an old newsletter may not see what it shows.

        Returns:
            whether it goes out; not where the address had its mails for today, or gets no mail at all.

        Raises:
            AfgemeldUnavailable: nobody can tell whether it may; nothing changed.
        """
        digest, _ = self._preferences(paper, token)
        self._afgemeld.open()
        now = self._now()
        with self._told(), self._store.begin() as connection:
            person = people.find(connection, [digest], lock=True)
            if person is None or person.address is None:
                return False
            rows = {row.list: row for row in people.rows_of(connection, person.id)}
            if not rows or people.mailed_enough(rows, (), now):
                return False
            if self._is_out_of_reach(connection, people.digests_of(connection, self._afgemeld.keys, person)):
                return False
            row = next(iter(rows.values()))
            people.set_row(connection, row, **people.mailed(row, now))
            self._post(connection, paper, "own_data", person.id, {"lang": lang}, lasts=OWN_DATA_FOR)
        self._wake()
        return True

    def own_data(self, paper: Paper, token: str) -> dict[str, Any]:
        """Everything that is kept about the person, for a fresh link (GDPR art. 15 and 20).

        Raises:
            TokenTooOld: the link is older than an hour. TokenError: it is not a fresh one.
        """
        return self.data_of(paper.read(Use.OWN_DATA, token, self._now(), most=OWN_DATA_FOR))

    def data_of(self, digest: bytes) -> dict[str, Any]:
        """The same for staff, who got the request by letter or phone; empty where nothing is kept."""
        with self._told(), self._store.read() as connection:
            person = people.find(connection, [digest])
            if person is None:
                return {}
            profile = self._profile(connection, person)
            digests = people.digests_of(connection, self._afgemeld.keys, person)
            suppressed = self._afgemeld.rows(connection, digests)
        with self._told():
            records = [row.record_id for row in profile.subscriptions if row.record_id]
            events = [event for record in records for event in self._evidence.history(record)]
            notices = {hash: self._evidence.notice(hash) for hash in {event.notice_hash for event in events}}
        return {
            "address": profile.address,
            "language": profile.language,
            "fields": dict(profile.fields),
            "subscriptions": [
                {
                    "list": row.list,
                    "state": row.state,
                    "route": row.route,
                    "proof": json.loads(row.proof),
                    "measuring": bool(row.measuring),
                    "receipt": row.record_id,
                    "confirmed_at": _iso(row.confirmed_at),
                    "valid_until": _iso(row.valid_until),
                    "left_at": _iso(row.left_at),
                }
                for row in profile.subscriptions
            ],
            "afgemeld": [
                {"scope": one.scope, "reason": str(one.reason), "channel": one.channel, "since": _iso(one.at)}
                for one in suppressed
            ],
            "consents": [
                {
                    "receipt": event.record_id,
                    "state": event.state,
                    "at": _iso(event.at),
                    "purposes": dict(event.purposes),
                    "method": event.method,
                    "language": event.language,
                    "notice": event.notice_hash,
                }
                for event in events
            ],
            "notices": {hash: found.content for hash, found in notices.items() if found is not None},
        }

    def erase(self, paper: Paper, token: str) -> bool:
        """Erase the person's data, with a fresh link. Afgemeld and the evidence stay, without a readable address.

        Raises:
            TokenTooOld, TokenError: as `own_data`.
        """
        digest = paper.read(Use.OWN_DATA, token, self._now(), most=OWN_DATA_FOR)
        return self._erase([digest], method="own-data")

    def erase_address(self, address: str) -> bool:
        """The same by staff, for a request that came by letter or phone."""
        digests = self._afgemeld.keys.digests(address)
        return self._erase(digests, method="staff")

    def erase_digest(self, digest: bytes) -> bool:
        """The same for a person who was looked up."""
        return self._erase([digest], method="staff")

    def _erase(self, digests: Sequence[bytes], *, method: str) -> bool:
        now = self._now()
        with self._told(), self._afgemeld.changing() as change:
            connection = change.connection
            person = people.find(connection, digests, lock=True)
            if person is None or person.erased_at is not None:
                return False
            digest = bytes(person.digest)
            change.add([Suppression(digest, person.key_id, MARKETING, Reason.ERASURE, method, now)])
            keeping.empty_person(connection, person.id, now)
            self.forget(connection, person.id)
            change.erase(digest, now)
        return True

    def _erase_again(self, connection: Connection, digest: bytes, at: datetime) -> None:
        """Empty a person's rows, also when an older backup brought them back."""
        person = people.find(connection, [digest], lock=True)
        if person is None or person.created_at > at:
            return
        self._end(connection, person.id, Suppression(digest, person.key_id, MARKETING, Reason.ERASURE, "erasure", at))
        keeping.empty_person(connection, person.id, at)
        self.forget(connection, person.id)

    # -- asked by others ----------------------------------------------------------------------------------------

    def why_not(self, address: str, list: str) -> str | None:
        """Why a marketing message of a list may not go to `address`, in one word; None where it may.

        Raises:
            AddressError, AfgemeldUnavailable: as `Afgemeld.is_suppressed`.
        """
        suppressed = self._afgemeld.all_of(address)
        with self._told(), self._store.read() as connection:
            person = people.find(connection, self._afgemeld.keys.digests(address))
            rows = people.rows_of(connection, person.id) if person else []
            row = next((row for row in rows if row.list == list), None)
        return self.overview.why_not(row, list, suppressed)

    def counts(self) -> dict[str, dict[str, int]]:
        """How many stand on each list, by state."""
        query = select(subscriptions.c.list, subscriptions.c.state, func.count()).group_by(
            subscriptions.c.list, subscriptions.c.state
        )
        found: dict[str, dict[str, int]] = {}
        with self._told(), self._store.read() as connection:
            for list, state, count in connection.execute(query.order_by(subscriptions.c.list, subscriptions.c.state)):
                found.setdefault(list, {})[state] = count
        return found

    # -- keeping no longer than needed --------------------------------------------------------------------------

    def purge(
        self, now: datetime, *, unconfirmed: timedelta, left: timedelta, proof: timedelta, dry_run: bool = False
    ) -> dict[str, int]:
        """Erase sign-ups that nobody confirmed and addresses of people who left; end consents that ran out. Idempotent.

        Args:
            unconfirmed: requests go this long after they were made.
            left: address and fields of who left every list go this long after the last leaving.
            proof: what proves the consent, without an address, goes this long after the leaving.

        Returns:
            how many requests, addresses and subscriptions went, or would go.
        """
        done = {"requests": 0, "addresses": 0, "subscriptions": 0}
        with self._told(), self._store.begin() as connection:
            done["requests"] = keeping.drop_requests(connection, now - unconfirmed)
            keeping.drop_unproven(connection, now - left)
            keeping.drop_lonely(connection, now)
            keeping.end_expired(connection, now)
            done["addresses"] = keeping.drop_addresses(connection, now - left, now)
            done["subscriptions"] = keeping.drop_proofs(connection, now - proof)
            keeping.drop_lonely(connection, now)
            if dry_run:
                connection.rollback()
        log.info("purged %(requests)d requests, %(addresses)d addresses, %(subscriptions)d subscriptions", done)
        return done

    # -- inside -------------------------------------------------------------------------------------------------

    @contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except (DatabaseUnavailable, SchemaOutdated) as error:
            raise NewsletterUnavailable(f"{error}; nothing changed") from error
        except SQLAlchemyError as error:
            raise NewsletterUnavailable("the database can't take it now: nothing changed") from error

    def _wake(self) -> None:
        if self.outbox is not None:
            self.outbox.wake()

    def _post(
        self,
        connection: Connection,
        paper: Paper,
        kind: str,
        subscriber_id: int,
        payload: Mapping[str, Any],
        *,
        lasts: timedelta = CONFIRM_FOR,
    ) -> None:
        if self.outbox is not None:
            self.outbox.put(
                connection, kind, site=paper.site.name, subscriber_id=subscriber_id, payload=payload, lasts=lasts
            )

    def _form_of(self, paper: Paper, kept: Mapping[str, Any]) -> Form:
        form = paper.form_of(kept["form"], kept["list"])
        if form is None:
            raise RequestGone(used=False)
        return form

    def _event(
        self,
        paper: Paper,
        topic: Topic,
        request: str,
        state: str,
        now: datetime,
        *,
        row: Row[Any],
        method: str,
        notice: Notice,
        measuring: bool = False,
    ) -> ConsentEvent:
        granted = state in ("given", "renewed")
        fresh = record_of(request, topic.id)
        return ConsentEvent(
            site=paper.scope,
            record_id=row.record_id if people.consents(row) else fresh,  # what is renewed keeps its record
            state=state,
            at=now,
            purposes=_purposes(topic, granted=granted, measuring=measuring),
            notice_hash=notice.hash,
            language=notice.language,
            ui_build=paper.renderer.ui_build,
            method=method,
            policy=notice.hash,
            valid_until=now + timedelta(days=Duration.parse(topic.valid).days) if granted else None,
            controller=paper.site.controller.name,
            nonce=fresh if granted else None,
        )

    def _request_id(self, paper: Paper, token: str) -> str:
        return paper.read(Use.CONFIRM, token, self._now(), most=CONFIRM_FOR).hex()

    def _request(self, connection: Connection, paper: Paper, id: str) -> Request:
        known = [row for row in people.requested(connection, id) if row.list in paper.topics]
        if not known:
            nonces = [record_of(id, topic) for topic in paper.topics]
            raise RequestGone(used=self._evidence.spent(connection, nonces))
        kept = json.loads(known[0].request)
        if kept["site"] != paper.site.name:
            raise RequestGone(used=False)
        known.sort(key=lambda row: row.list != kept["list"])
        return Request(
            id=id,
            subscriber_id=known[0].subscriber_id,
            topics=tuple(paper.topics[row.list] for row in known),
            measuring=bool(kept["measuring"]),
            language=kept["lang"],
            form=kept["form"],
            list=kept["list"],
            young=bool(kept["young"]),
            parent_asked=bool(kept["young"]) and not kept.get("parent_ok"),
        )

    def _preferences(self, paper: Paper, token: str) -> tuple[bytes, bool]:
        now = self._now()
        try:
            return paper.read(Use.PREFERENCES, token, now, most=PREFERENCES_FOR), False
        except TokenTooOld:
            raise
        except TokenError:
            pass
        return paper.read(Use.OWN_DATA, token, now, most=OWN_DATA_FOR), True

    def _profile(self, connection: Connection, person: Row[Any]) -> Profile:
        return Profile(
            person.address,
            person.language,
            json.loads(person.fields),
            tuple(people.rows_of(connection, person.id)),
        )


def record_of(request: str, topic: str) -> str:
    """The id of the evidence record that a request gives for one topic."""
    return hashlib.blake2b(f"{request} {topic}".encode(), digest_size=16).hexdigest()


def _fields(answer: Answer) -> dict[str, str]:
    """What a sign-up keeps of its answers. Those of a form of the host's own are the host's, for its own period."""
    return {name: value for name, value in answer.fields.items() if name != "email"} if answer.form.own else {}


def _purposes(topic: Topic, *, granted: bool, measuring: bool) -> dict[str, bool]:
    purposes = {f"{topic.kind}.{topic.value}": granted}
    if topic.kind == "list":
        purposes[f"measuring.{topic.value}"] = granted and measuring
    return purposes


def _iso(moment: datetime | None) -> str | None:
    return None if moment is None else moment.isoformat(timespec="seconds")
