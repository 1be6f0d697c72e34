"""The press: prints one message of a mailing for one person; the same for a preview, a check and the real thing."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from email.utils import parseaddr
from functools import cached_property, partial

from consentkit.afgemeld import Links, ways_out
from consentkit.mail import Envelope
from consentkit.mailing.dkim import Signer
from consentkit.mailing.frame import Frame, Slip
from consentkit.mailing.measure import Measuring
from consentkit.mailing.source import Draft
from consentkit.mailing.template import About
from consentkit.newsletter import Paper, Reader
from consentkit.tokens import Use


class Press:
    """Prints the messages of one mailing.

    Args:
        id: of the mailing. nonce: tells it apart from one that has its number after a restore.
        draft: what it says. about: what is the same in every message. paper: of its site.
        links, measuring: make the tokens. signer: signs with DKIM; None where the mail server does that.
        unsubscribe, bounces: the mailboxes whose addresses carry tokens, where there are any.
    """

    def __init__(
        self,
        id: int,
        draft: Draft,
        about: About,
        paper: Paper,
        *,
        links: Links,
        measuring: Measuring,
        signer: Signer | None,
        unsubscribe: str | None,
        bounces: str | None,
        nonce: int = 0,
    ) -> None:
        self.id = id
        self.nonce = nonce
        self.draft = draft
        self.about = about
        self.paper = paper
        self._links = links
        self._measuring = measuring
        self._signer = signer
        self._unsubscribe = unsubscribe
        self._bounces = bounces
        self.sender = parseaddr(about.sender)[1]

    @cached_property
    def plain(self) -> Frame:
        """What everybody gets who did not agree to be measured."""
        return Frame(self.draft, self.about, measured=False)

    @cached_property
    def measured(self) -> Frame:
        """What those get who agreed, where the mailing is measured at all."""
        return Frame(self.draft, self.about, measured=True)

    def is_measured(self, reader: Reader) -> bool:
        """Whether this reader's opens and clicks are asked for."""
        return self.draft.measured and reader.measuring

    def slip(self, reader: Reader, delivery: int, now: datetime) -> Slip:
        """What is individual in one message. `delivery` is 0 for one that only is looked at."""
        marketing = self.draft.purpose == "marketing"
        list = self.draft.list
        token = self._links.token(reader.address, list, delivery=delivery or None)
        unsubscribe = self.paper.url(f"afmelden/{token}")
        mailto = self._links.mailto(self._unsubscribe, reader.address, list) if self._unsubscribe else None
        preferences = self.paper.link(Use.PREFERENCES, reader.digest, now)
        measured, measuring, nonce = self.is_measured(reader), self._measuring, self.nonce
        return Slip(
            to=reader.address,
            message_id=f"{self._name(delivery)}@{self.sender.rpartition('@')[2]}",
            date=now,
            unsubscribe_url=unsubscribe if marketing else "",
            list_unsubscribe=ways_out(unsubscribe, mailto) if marketing else "",
            preferences_url=self.paper.url(f"voorkeuren/{preferences}"),
            fields=reader.fields,
            pixel_url=self.paper.url(f"o/{measuring.open_token(nonce, delivery)}") if measured else None,
            click=self._clicks(delivery) if measured else None,
            quiet_url=self.paper.url(f"meten/{measuring.quiet_token(nonce, delivery, list)}") if measured else None,
        )

    def _clicks(self, delivery: int) -> Callable[[int], str]:
        return partial(self._click, delivery)

    def _click(self, delivery: int, link: int) -> str:
        return self.paper.url(f"l/{self._measuring.click_token(self.id, self.nonce, link, delivery)}")

    def _name(self, delivery: int) -> str:
        """One message, never to be mistaken for another (RFC 5322 section 3.6.4)."""
        return f"{self.id}.{delivery}.{self.nonce}"

    def message(self, reader: Reader, delivery: int, now: datetime) -> bytes:
        """All of one message, signed where we sign.

        Raises:
            MailingError: a value of the reader's can't stand in a message.
        """
        frame = self.measured if self.is_measured(reader) else self.plain
        payload = frame.fill(self.slip(reader, delivery, now))
        return self._signer.sign(payload) if self._signer else payload

    def envelope(self, reader: Reader, delivery: int, now: datetime) -> Envelope:
        """The message with who it comes from and goes to: what comes back names the delivery in its address."""
        payload = self.message(reader, delivery, now)
        returns_to, to = self.returns_to(reader, delivery), reader.address
        return Envelope(returns_to, to, payload, smtputf8=not to.isascii(), envid=self._name(delivery))

    def returns_to(self, reader: Reader, delivery: int) -> str:
        """Where the mail server sends word that a message could not be delivered."""
        if self._bounces is None:
            return self.sender
        local, _, domain = self._bounces.rpartition("@")
        return f"{local}+{self._links.bounce_token(reader.digest, delivery)}@{domain}"
