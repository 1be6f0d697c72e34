"""A mailing as bytes: everything that is the same for everybody is spelled once, and each reader's own is put in.

Where a template only names a reader's values, its quoted-printable text is cut at those places once, and filling it in
takes microseconds. Where values decide something or are worked on, the template runs for each reader. Both ways give
the same texts.
"""

from __future__ import annotations

import re
from binascii import b2a_qp
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.message import MIMEPart
from email.policy import SMTP
from email.utils import format_datetime
from hashlib import sha256
from posixpath import basename
from typing import Any, Final, NamedTuple, Protocol

from jinja2 import Template, TemplateError
from markupsafe import Markup, escape

from consentkit.afgemeld.headers import ONE_CLICK
from consentkit.errors import MailingError
from consentkit.mail import message
from consentkit.mailing import template
from consentkit.mailing.sandbox import html_sandbox, is_flat, names_of, render, text_sandbox
from consentkit.mailing.source import Draft, File
from consentkit.mailing.template import CLICK, LEAVE, PIXEL, PREFERENCES, QUIET, About

__all__ = ["About", "Frame", "Slip"]

_LINE: Final = 75
"""Signs in a quoted-printable line, where one more may be the `=` that joins it to the next (RFC 2045 section 6.7)."""

_URL = re.compile(r"https?://[!-;=?-~]+\Z")
_SPACE_AT_END = re.compile(rb"(?m)^(.{74,75})(=20|=09)$")
"""A space before a line break, for which b2a_qp makes a line of 77 or 78 signs."""

_MARK = re.compile("\ue000(\\d+)\ue001")


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Slip:
    """What is individual in one message. Shown or logged, it tells its id only.

    Args:
        to: one bare address, its domain in ASCII. message_id: `1.2@delinde.example`. date: aware.
        unsubscribe_url: the page to leave; empty in a service mail. list_unsubscribe: the whole value of the header.
        preferences_url: the page with the reader's choices.
        fields: what the templates say of this reader.
        pixel_url: of a measured message: the address of its image. click: gives the address of a link by its number.
        quiet_url: the link that stops measuring and nothing else.
    """

    to: str
    message_id: str
    date: datetime
    unsubscribe_url: str
    list_unsubscribe: str
    preferences_url: str
    fields: Mapping[str, str] = field(default_factory=dict, hash=False)
    pixel_url: str | None = None
    click: Callable[[int], str] | None = None
    quiet_url: str | None = None

    def __repr__(self) -> str:
        return f"Slip(message_id={self.message_id!r})"


class _Part(Protocol):
    """One of the two texts."""

    names: frozenset[str]

    def body(self, values: Mapping[str, str], spelled: dict[str, _Chunk]) -> bytes:
        """It in quoted-printable, for one reader; `spelled` has the values that were spelled for the other part."""
        ...


class Frame:
    """One mailing, ready to be filled in; it does not change.

    Args:
        draft: what is said. about: what is the same in every mail of its list.
        measured: whether it is for readers who agreed to be measured. All others get a frame without, whose links and
            images are the same for everybody but for the links to leave and to preferences.

    Raises:
        MailingError: the templates or the headers can't be made, with every problem.
    """

    def __init__(self, draft: Draft, about: About, *, measured: bool = False) -> None:
        made = template.compose(draft, about, measured=measured)
        self.links = made.links
        self.measured = measured
        self._draft = draft
        self._service = draft.purpose == "service"
        individual = {*draft.fields, LEAVE, PREFERENCES, QUIET, PIXEL}
        individual |= {f"{CLICK}{number}" for number in range(len(made.links))}
        self._text = _part(made.text, made.values, individual, html=False)
        self._html = _part(made.html, made.values, individual, html=True)
        self._names = tuple(sorted(self._text.names | self._html.names))
        self._clicks = {f"{CLICK}{number}": number for number in range(len(made.links))}
        self._date: tuple[datetime, bytes] = (datetime.min.replace(tzinfo=UTC), b"")
        self._spell(draft, about, made.images)

    @property
    def flat(self) -> bool:
        """Whether both parts are only put together, and run no template for each reader."""
        return isinstance(self._text, _Flat) and isinstance(self._html, _Flat)

    # -- what is the same for everybody --

    def _spell(self, draft: Draft, about: About, images: tuple[tuple[File, str], ...]) -> None:
        sender, reply_to = draft.sender or about.sender, draft.reply_to or about.reply_to
        files = [file for file in draft.files if not file.inline]
        try:
            top = [message.address_header("From", sender), "To: "]
            middle = [message.text_header("Subject", draft.subject)]
            if reply_to:
                middle.append(message.address_header("Reply-To", reply_to))
            after = [message.header("List-Id", about.list_id)] if about.list_id else []
            last = [] if self._service else [f"List-Unsubscribe-Post: {ONE_CLICK}"]
            if about.feedback_id:
                last.append(message.header("Feedback-ID", about.feedback_id))
        except ValueError as error:
            raise MailingError([f"headers: {error}"]) from None
        last += [f"Content-Language: {about.language}", "MIME-Version: 1.0"]
        seed = sha256("\0".join((draft.to_json(), about.list_id, str(self.measured))).encode()).hexdigest()[:24]
        before, between, behind = _tree(seed, images, files)
        self._top = "\r\n".join(top).encode()
        self._middle = "\r\n".join(["", *middle, "Date: "]).encode()
        self._after = "\r\n".join([">", *after, ""]).encode()
        self._last = "\r\n".join([*last, ""]).encode() + before
        self._between, self._behind = between, behind

    # -- one message --

    def fill(self, slip: Slip) -> bytes:
        """One whole message (RFC 5322), its lines ended by CRLF. The same slip gives the same bytes.

        Raises:
            MailingError: something of this reader can't be put in; the sentence names it and never quotes it.
        """
        try:
            message.check_address("to", slip.to)
            message.check_message_id(slip.message_id)
            values = self._values(slip)
            unsubscribe = b"" if self._service else self._unsubscribe(slip)
            spelled: dict[str, _Chunk] = {}
            text, html = self._text.body(values, spelled), self._html.body(values, spelled)
        except MailingError:
            raise
        except UnicodeEncodeError:
            raise MailingError(["a field has half a character, which can't be spelled in UTF-8"]) from None
        except ValueError as error:
            raise MailingError([str(error)]) from None
        return b"".join(
            (
                *(self._top, slip.to.encode(), self._middle, self._dated(slip.date), b"\r\nMessage-ID: <"),
                *(slip.message_id.encode(), self._after, unsubscribe, self._last),
                *(text, self._between, html, self._behind),
            )
        )

    def _unsubscribe(self, slip: Slip) -> bytes:
        message.refuse_control("list_unsubscribe", slip.list_unsubscribe)
        return message.header("List-Unsubscribe", slip.list_unsubscribe).encode() + b"\r\n"

    def _dated(self, date: datetime) -> bytes:
        second = date.replace(microsecond=0)
        known, spelled = self._date
        if second.tzinfo is not known.tzinfo or second != known:
            if second.utcoffset() is None:
                raise MailingError(["date must be an aware datetime"])
            spelled = format_datetime(second).encode()
            self._date = second, spelled
        return spelled

    def _values(self, slip: Slip) -> dict[str, str]:
        values: dict[str, str] = {}
        for name in self._names:
            if name in self._draft.fields:
                values[name] = self._field(name, slip)
                continue
            url = self._link(name, slip)
            if not url or not _URL.match(url):
                raise MailingError([f"{name} must be an address of http or https, in ASCII"])
            values[name] = url
        return values

    def _field(self, name: str, slip: Slip) -> str:
        value = slip.fields.get(name) or self._draft.defaults.get(name)
        if value is None:
            raise MailingError([f"this reader has no `{name}`, and `defaults` has no text for it"])
        return value.replace("\r\n", "\n").replace("\r", "\n") if "\r" in value else value

    def _link(self, name: str, slip: Slip) -> str | None:
        match name:
            case template.LEAVE:
                return slip.unsubscribe_url
            case template.PREFERENCES:
                return slip.preferences_url
            case template.QUIET:  # who is not measured is shown the page where that can be seen
                return slip.quiet_url if self.measured else slip.preferences_url
            case template.PIXEL:
                return slip.pixel_url
            case _:
                return slip.click(self._clicks[name]) if slip.click else None


def _part(source: str, values: Mapping[str, object], individual: set[str], *, html: bool) -> _Part:
    sandbox = html_sandbox() if html else text_sandbox()
    compiled = sandbox.from_string(source)
    names = names_of(source) & individual
    if not is_flat(source, individual) or _MARK.search(source + "".join(map(str, values.values()))):
        return _Live(compiled, values, names)
    ordered = sorted(names)
    marks = {name: Markup(f"\ue000{at}\ue001") for at, name in enumerate(ordered)}  # noqa: S704  stands for what is escaped
    first, *rest = _MARK.split(render(compiled, {**values, **marks}))
    return _Flat(first, [(ordered[int(at)], text) for at, text in zip(rest[::2], rest[1::2], strict=True)], html=html)


class _Live:
    """A text whose template runs for each reader."""

    def __init__(self, compiled: Template, values: Mapping[str, object], names: frozenset[str]) -> None:
        self.names = names
        self._template = compiled
        self._same = values

    def body(self, values: Mapping[str, str], _: dict[str, _Chunk]) -> bytes:
        try:
            made = render(self._template, {**self._same, **values})
        except (TemplateError, ArithmeticError, TypeError, LookupError) as error:
            raise MailingError([f"the template fails for this reader ({type(error).__name__})"]) from None
        return _quoted(made)


class _Flat:
    """A text that is cut where a reader's values stand.

    Args:
        first: what stands before the first. rest: names of values, each with the text behind it.
        html: whether values are escaped.
    """

    def __init__(self, first: str, rest: list[tuple[str, str]], *, html: bool) -> None:
        self.names = frozenset(name for name, _ in rest)
        self._html = html
        self._first = _Chunk.of(first)
        self._rest = [(name, _Chunk.of(text)) for name, text in rest]

    def body(self, values: Mapping[str, str], spelled: dict[str, _Chunk]) -> bytes:
        chunks = {}
        for name in self.names:
            value = str(escape(values[name])) if self._html else values[name]
            chunk = spelled.get(value)
            if chunk is None:
                chunk = spelled[value] = _Chunk.of(value)
            chunks[name] = chunk
        pieces = [self._first.quoted]
        column = self._first.last
        for name, behind in self._rest:
            for chunk in (chunks[name], behind):
                if column and column + chunk.first > _LINE:
                    pieces.append(b"=\r\n")
                    column = 0
                pieces.append(chunk.quoted)
                column = chunk.last if chunk.breaks else column + chunk.first
        return b"".join(pieces)


class _Chunk(NamedTuple):
    """A piece of quoted-printable text: its bytes, how long its first and last lines are, and whether it has two."""

    quoted: bytes
    first: int
    last: int
    breaks: bool

    @classmethod
    def of(cls, text: str) -> _Chunk:
        quoted = _quoted(text)
        end = quoted.find(b"\r\n")
        if end < 0 and len(quoted) <= _LINE:
            return cls(quoted, len(quoted), len(quoted), False)
        last = len(quoted) - quoted.rfind(b"\n") - 1
        if last > _LINE:  # there is no room for a `=` behind it
            last = 3 if quoted[-3:-2] == b"=" else 1
            quoted = b"%b=\r\n%b" % (quoted[:-last], quoted[-last:])
        return cls(quoted, quoted.find(b"\r\n"), last, True)


def _quoted(text: str) -> bytes:
    """Quoted-printable in lines of at most 76 signs, ended by CRLF."""
    quoted = b2a_qp(text.encode())
    if b"=20\n" in quoted or b"=09\n" in quoted:
        quoted = _SPACE_AT_END.sub(rb"\1=\n\2", quoted)
    return quoted.replace(b"\n", b"\r\n")


# -- MIME --


def _tree(seed: str, images: tuple[tuple[File, str], ...], files: list[File]) -> tuple[bytes, bytes, bytes]:
    """What stands before the text, between text and HTML, and behind the HTML (RFC 2046; RFC 2387 for the images)."""
    alternative, related, mixed = (f"=_{kind}{seed}" for kind in "arm")  # quoted-printable never has "=_"
    before: list[bytes] = []
    behind: list[bytes] = [f"\r\n--{alternative}--\r\n".encode()]
    if files:
        before.append(_multipart("mixed", mixed))
    if images:
        before.append(_multipart("related", related, '; type="multipart/alternative"'))
        behind += [_attached(file, related, cid=cid) for file, cid in images]
        behind.append(f"--{related}--\r\n".encode())
    if files:
        behind += [_attached(file, mixed) for file in files]
        behind.append(f"--{mixed}--\r\n".encode())
    before += [_multipart("alternative", alternative), _text_head("plain")]
    between = f"\r\n--{alternative}\r\n".encode() + _text_head("html")
    return b"".join(before), between, b"".join(behind)


def _multipart(kind: str, boundary: str, more: str = "") -> bytes:
    return f'Content-Type: multipart/{kind}{more};\r\n boundary="{boundary}"\r\n\r\n--{boundary}\r\n'.encode()


def _text_head(kind: str) -> bytes:
    return f'Content-Type: text/{kind}; charset="utf-8"\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n'.encode()


def _attached(file: File, boundary: str, *, cid: str | None = None) -> bytes:
    part = MIMEPart(policy=SMTP)
    maintype, subtype = file.kind.split("/")
    disposition = "inline" if file.inline else "attachment"
    named: dict[str, Any] = {"disposition": disposition, "filename": basename(file.name)}
    if cid:
        named["cid"] = f"<{cid}>"
    part.set_content(file.data, maintype, subtype, **named)
    return f"--{boundary}\r\n".encode() + part.as_bytes()
