"""The service mails: which rows of the outbox say what, to whom. No promotion, no remote image, nothing measured."""

from __future__ import annotations

import hashlib
import hmac
import json
import logging
from collections.abc import Callable, Mapping
from datetime import datetime
from email.utils import parseaddr
from typing import Any

from sqlalchemy import select

from consentkit.afgemeld import Afgemeld, Links, headers, unreachable, widest
from consentkit.mail import Message
from consentkit.newsletter import people
from consentkit.newsletter.newsletter import Newsletter
from consentkit.newsletter.outbox import Parcel
from consentkit.newsletter.paper import Paper
from consentkit.newsletter.posting import post_json
from consentkit.newsletter.tables import subscribers
from consentkit.store import Store
from consentkit.tokens import Use

log = logging.getLogger("consentkit.newsletter")

_TO_READERS = ("welcome", "already")
"""These tell somebody that they are on a list, so who left it meanwhile doesn't get them."""


class Letters:
    """Writes what goes out, and asks the ledger first: much can happen while a mail waits.

    Args:
        store, afgemeld: the rooms below.
        newsletter: for links to preferences and parents. links: for unsubscribing.
        unsubscribe: the mailbox that takes opt-outs by mail, if there is one.
        secret: signs what partners are told.
        clock: tells the time, aware.
    """

    def __init__(
        self,
        store: Store,
        afgemeld: Afgemeld,
        newsletter: Newsletter,
        links: Callable[[], Links],
        *,
        unsubscribe: str | None,
        secret: bytes,
        clock: Callable[[], datetime],
    ) -> None:
        self._store = store
        self._afgemeld = afgemeld
        self._newsletter = newsletter
        self._links = links
        self._unsubscribe = unsubscribe
        self._secret = secret
        self._now = clock

    def write(self, parcel: Parcel) -> Message | None:
        """The message of a row, or None where the person or the request is gone, or the address was left since.

        Raises:
            AfgemeldUnavailable: the ledger can't be asked, so nothing may be sent; try again later.
        """
        self._afgemeld.open()
        paper = self._newsletter.papers.get(parcel.site)
        with self._store.read() as connection:
            person = connection.execute(select(subscribers).where(subscribers.c.id == parcel.subscriber_id)).first()
            requested = [*people.requested(connection, parcel.payload.get("request", ""))]
        if paper is None or person is None or person.address is None:
            return None
        requested.sort(key=lambda row: row.list != parcel.payload.get("list"))
        topics = [paper.topics[row.list] for row in requested if row.list in paper.topics]
        if "request" in parcel.payload and not topics:
            return None
        lang = parcel.payload["lang"]
        digest = bytes(person.digest)
        match parcel.kind:
            case "confirm" | "parent":
                values, to = self._asks(parcel, paper, digest), parcel.payload.get("to", person.address)
                kept = json.loads(requested[0].request)
                values |= paper.agreed(topics, lang, measuring=kept["measuring"]) | {"young": kept["young"]}
                values["list"] = paper.topic_view(topics[0], lang)
                about = topics[0].id
            case "welcome" | "already":
                about, to = parcel.payload["list"], person.address
                values = self._welcomes(parcel, paper, digest, to)
            case "own_data":
                about, to = next(iter(paper.topics)), person.address
                token = self._newsletter.preferences_token(paper, digest, fresh=True)
                values = {"link": paper.url(f"voorkeuren/{token}", lang=lang)}
            case _:
                return None
        if self._is_left(to, about if parcel.kind in _TO_READERS else None):
            log.info("a %s mail waited until its address was left, and is not sent", parcel.kind)
            return None
        return self._message(parcel, paper, values, to=to, about=about)

    def _is_left(self, address: str, list: str | None) -> bool:
        """Whether a mail about `list` may not go; what somebody asked for (None), only where no mail may at all."""
        found = self._afgemeld.all_of(address)
        return unreachable(found) or (list is not None and widest(one for one in found if one.covers(list)) is not None)

    def _asks(self, parcel: Parcel, paper: Paper, digest: bytes) -> dict[str, Any]:
        request = parcel.payload["request"]
        if parcel.kind == "parent":
            token = self._newsletter.parent_token(paper, request, digest)
        else:
            token = paper.link(Use.CONFIRM, bytes.fromhex(request), self._now())
        return {"link": paper.url(f"confirm/{token}", lang=parcel.payload["lang"])}

    def _welcomes(self, parcel: Parcel, paper: Paper, digest: bytes, address: str) -> dict[str, Any]:
        lang, records = parcel.payload["lang"], parcel.payload.get("records", {})
        shown = [topic for topic in paper.topics.values() if topic.id in records]
        about = paper.topics.get(parcel.payload["list"])
        preferences = self._newsletter.preferences_token(paper, digest)
        return {
            **paper.agreed(shown, lang, measuring=bool(parcel.payload.get("measuring"))),
            "records": records,
            "when": paper.renderer.texts(lang).date(self._now().date()),
            "list": paper.topic_view(about, lang) if about else {"title": parcel.payload["list"]},
            "preferences_url": paper.url(f"voorkeuren/{preferences}", lang=lang),
            "unsubscribe_url": self._leave(paper, address, parcel.payload["list"], lang),
        }

    def _leave(self, paper: Paper, address: str, list: str, lang: str | None) -> str:
        return paper.url(f"afmelden/{self._links().token(address, list)}", lang=lang)

    def _message(self, parcel: Parcel, paper: Paper, values: Mapping[str, Any], *, to: str, about: str) -> Message:
        lang = paper.renderer.language(parcel.payload["lang"])
        texts = paper.renderer.texts(lang)
        text, html = paper.renderer.mail(parcel.kind, lang, **{"own": paper.site.controller, **values})
        sender = paper.sender(about) or paper.sender(next(iter(paper.topics)))
        domain = parseaddr(sender)[1].rpartition("@")[2]
        title = values.get("list", {}).get("title", paper.site.name)
        extra = {"Auto-Submitted": "auto-generated"}
        if parcel.kind in _TO_READERS:
            list = parcel.payload["list"]
            mailto = self._links().mailto(self._unsubscribe, to, list) if self._unsubscribe else None
            extra |= headers(self._leave(paper, to, list, None), mailto)
        return Message(
            sender=sender,
            to=to,
            subject=texts(f"mail.{parcel.kind}_subject", list=title, site=paper.site.name),
            text=text,
            html=html,
            message_id=f"{parcel.id}@{domain}",
            date=self._now(),
            language=lang,
            headers=extra,
        )

    def call(self, parcel: Parcel) -> None:
        """Tell a partner that somebody withdrew (GDPR art. 19), as signed JSON.

        Raises:
            PartnerUnreachable: it did not answer 2xx.
        """
        url = str(parcel.payload["url"])
        told = {"event": "withdrawn", "partner": parcel.payload["partner"], "address": parcel.payload["address"]}
        body = json.dumps({**told, "id": parcel.id}, ensure_ascii=False).encode()
        signature = hmac.new(self._secret, body, hashlib.sha256).hexdigest()
        post_json(url, body, {"X-Consentkit-Signature": f"sha256={signature}"})
