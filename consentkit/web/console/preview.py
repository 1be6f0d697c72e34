"""How a mailing looks: as a made-up reader or a real one, on a phone or on a desk, as text, without images.

The message itself is a document of its own that only our own pages may frame: it runs nothing, loads nothing but
images, and nothing of it is opened, counted or sent. Who may look at mailings may look as a real reader whose address
they know: a signed ticket stands in the address for them, and each look is logged.
"""

from __future__ import annotations

import struct
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

from starlette.responses import Response

from consentkit.errors import AddressError, AfgemeldUnavailable, MailingError, TokenError
from consentkit.mailing import Draft, Preview
from consentkit.newsletter import Reader
from consentkit.tokens import Use
from consentkit.web.console.ask import Ask
from consentkit.web.console.trial import said
from consentkit.web.visit import HEADERS

FULL: Final = ""
SPARSE: Final = "sparse"
PERSON: Final = "person"

_TICKET = struct.Struct(">q")


def _headers(images: str) -> dict[str, str]:
    policy = (
        f"sandbox; default-src 'none'; style-src 'unsafe-inline'; img-src {images}; base-uri 'none'; "
        "form-action 'none'; frame-ancestors 'self'"
    )
    return {
        **HEADERS,
        "Content-Security-Policy": policy,
        "X-Frame-Options": "SAMEORIGIN",
        "Referrer-Policy": "no-referrer",  # images may come from elsewhere, which need not know of the console
    }


_SHOWN: Final = _headers("data: https: 'self'")
_HIDDEN: Final = _headers("'none'")


@dataclass(frozen=True, slots=True)
class Choice:
    """As whom somebody looks.

    Args:
        value: `sparse`, a ticket for a real reader, or empty for somebody who has every field.
        person: the number of a real reader; 0 where it is a made-up one.
    """

    value: str = FULL
    person: int = 0

    @classmethod
    def of(cls, ask: Ask) -> Choice:
        """What the query says, or else what a form of the page that was shown says; what makes no sense is nobody."""
        value = ask.query("as") or ask.sent.text("now")
        if value in (FULL, SPARSE):
            return cls(value)
        try:
            return cls(value, *_TICKET.unpack(ask.kit.tokens.read(Use.READER, value)))
        except (TokenError, struct.error):
            return cls()

    @classmethod
    def real(cls, ask: Ask, person: int) -> Choice:
        """A real reader, whose address was typed: their number alone opens nothing."""
        return cls(ask.kit.tokens.sign(Use.READER, _TICKET.pack(person)), person)

    @property
    def kind(self) -> str:
        """Which of the three it is."""
        return PERSON if self.person else self.value

    @property
    def query(self) -> str:
        """What stands behind the address of a page or a frame."""
        return f"?as={self.value}" if self.value else ""

    async def reader(self, ask: Ask, draft: Draft, about: str) -> Reader:
        """The reader; a real one is logged first.

        Args:
            about: what the log calls the mailing.

        Raises:
            MailingError: there is nobody with this number on the list.
        """
        mailings = ask.kit.mailings
        if not self.person:
            return mailings.sample(draft, 2 if self.value else 1, sparse=self.value == SPARSE)
        reader = await ask.run(mailings.reader, draft.list, self.person)
        await ask.note("person.preview", about, person=reader.digest)
        return reader


async def chosen(ask: Ask, list: str, about: str, now: Choice) -> tuple[Choice, str]:
    """As whom a form asks to look, and what is wrong with that, in words.

    Args:
        list: whose members can be looked as. now: as whom they looked until now.

    """
    wanted = ask.sent.text("as")
    if wanted != PERSON:
        return Choice(SPARSE if wanted == SPARSE else FULL), ""
    address = ask.sent.text("reader")
    if not address:
        return now, "" if now.person else ask.t("drafts.reader_missing")
    try:
        await ask.note("person.preview", about, person=ask.kit.afgemeld.keys.digest(address))
        found = await ask.run(ask.kit.mailings.reader, list, address)
    except AddressError:
        return now, ask.t("base.no_address")
    except MailingError as error:
        return now, " ".join(said(problem, ask.t) for problem in error.problems)
    return Choice.real(ask, found.id), ""


def frame(preview: Preview, *, images: bool) -> Response:
    """The message as a document that a page of ours may frame."""
    return Response(preview.shown, 200, _SHOWN if images else _HIDDEN, "text/html; charset=utf-8")


async def framed(ask: Ask, make: Callable[[], Awaitable[Preview]]) -> Response:
    """The frame of a message, or a line in its place that says that there is none."""
    try:
        return frame(await make(), images=ask.query("images") != "off")
    except (MailingError, AfgemeldUnavailable):
        return Response(ask.t("drafts.preview_none"), 409, _HIDDEN, "text/plain; charset=utf-8")
