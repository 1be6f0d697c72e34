"""The mail of the demo: an SMTP server on this machine that sends nothing on, and pages to read what it got.

It plays the relay, the postmaster and everybody's mail program at once. The newest letters are kept, and a file keeps
them for the next start, as a mail server has what it took; the page that shows one trusts nothing in it.
"""

from __future__ import annotations

import asyncio
import json
import logging
import re
import socket
from base64 import b64encode
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from email import message_from_bytes, policy
from email.errors import HeaderParseError
from email.header import decode_header, make_header
from email.message import Message
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aiosmtpd.smtp import SMTP
from aiosmtplib import SMTPException
from aiosmtplib import send as send_by_smtp
from markupsafe import Markup, escape
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.routing import Route
from starlette.templating import Jinja2Templates

if TYPE_CHECKING:
    from aiosmtpd.smtp import Envelope
    from starlette.requests import Request

log = logging.getLogger("demo")

HERE = Path(__file__).parent
KEPT = 1000
SHOWN = 50
LARGEST = 256 * 1024
ONE_CLICK = "List-Unsubscribe=One-Click"
HEADERS = {
    "Cache-Control": "no-store",
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
    "Content-Security-Policy": (
        "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; img-src 'self'; "
        "frame-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
}
# Inside the frame nothing runs, nothing is fetched and nothing is this site's; a link opens a window of its own.
FRAME_HEADERS = HEADERS | {
    "Referrer-Policy": "no-referrer",
    "Content-Security-Policy": (
        "sandbox allow-popups allow-popups-to-escape-sandbox; default-src 'none'; style-src 'unsafe-inline'; "
        "img-src data:; form-action 'none'; frame-ancestors 'self'"
    ),
}
_PICTURES = frozenset({"image/png", "image/jpeg", "image/gif", "image/webp"})
_CID = re.compile(r"\bcid:([^\s\"'()<>]+)")
_LINK = re.compile(r"https?://[^\s<>\"']+[^\s<>\"'.,;:!?)\]]")
_HEAD = re.compile(r"<head\b[^>]*>", re.IGNORECASE)
_MAILBOX = re.compile(r"[A-Za-z0-9._-]+(\+[A-Za-z0-9_-]+)?@[A-Za-z0-9.-]+")

Intake = Callable[[bytes], str]
"""Takes one message with an opt-out, and tells in a few words what became of it."""


@dataclass(frozen=True, slots=True)
class Letter:
    """One message as it arrived.

    Args:
        number: counts from 1. sender, to: as told to the server. note: what the demo did with it besides keeping it.
    """

    number: int
    at: datetime
    sender: str
    to: tuple[str, ...]
    message: Message
    note: str = ""

    def header(self, name: str) -> str:
        """A header in words; empty where there is none."""
        return _decoded(self.message.get(name, ""))

    @property
    def headers(self) -> list[tuple[str, str]]:
        """All of them, in their order."""
        return [(name, _decoded(value)) for name, value in self.message.items()]

    @property
    def text(self) -> Markup:
        """The plain text, with links that can be followed and nothing else."""
        return _linked(self._part("plain"))

    @property
    def html(self) -> str:
        """The HTML part with the pictures that came along in their places; empty where there is none."""
        pictures = self._pictures
        return _CID.sub(lambda found: pictures.get(found[1], found[0]), self._part("html"))

    @property
    def _pictures(self) -> Mapping[str, str]:
        """What `cid:` leads to, as data."""
        found = {}
        for part in self.message.walk():
            name, payload = str(part.get("Content-ID", "")).strip(" <>"), part.get_payload(decode=True)
            if name and part.get_content_type() in _PICTURES and isinstance(payload, bytes):
                found[name] = f"data:{part.get_content_type()};base64,{b64encode(payload).decode('ascii')}"
        return found

    @property
    def one_click(self) -> str:
        """Where a mail program would POST to unsubscribe (RFC 8058); empty where the mail doesn't offer it."""
        offered = self.header("List-Unsubscribe-Post").strip() == ONE_CLICK
        return next((way for way in self._ways if offered and way.startswith(("http://", "https://"))), "")

    @property
    def opt_out(self) -> str:
        """The address that a mail program would write to instead; empty where there is none."""
        found = (way.removeprefix("mailto:").partition("?")[0] for way in self._ways if way.startswith("mailto:"))
        return next((address for address in found if _MAILBOX.fullmatch(address)), "")

    @property
    def _ways(self) -> list[str]:
        return re.findall(r"<([^<>\s]+)>", self.header("List-Unsubscribe"))

    def _part(self, subtype: str) -> str:
        for part in self.message.walk():
            payload = part.get_payload(decode=True)
            if part.get_content_type() == f"text/{subtype}" and isinstance(payload, bytes):
                try:
                    return payload.decode(part.get_content_charset("utf-8"), "replace")
                except LookupError:
                    return payload.decode("utf-8", "replace")
        return ""


class Post:
    """What arrived, newest first, and the server that it arrives at.

    Args:
        file: keeps what arrived for the next start; None: it is gone when this ends.
    """

    def __init__(self, file: Path | None = None) -> None:
        self.letters: deque[Letter] = deque(maxlen=KEPT)
        self.port = 0
        self._count = 0
        self._mailbox = ""
        self._intake: Intake | None = None
        self._file = file
        self._read()

    def hand_over(self, mailbox: str, intake: Intake) -> None:
        """From now on mail to `mailbox`, with or without a `+…`, goes to `intake` too."""
        self._mailbox, self._intake = mailbox.lower(), intake

    def letter(self, number: int) -> Letter | None:
        """One of those that are kept."""
        return next((letter for letter in self.letters if letter.number == number), None)

    def found(self, words: str) -> Sequence[Letter]:
        """Those to an address or with a subject that has these words in it; all for no words."""
        sought = words.casefold()
        return [one for one in self.letters if sought in f"{' '.join(one.to)} {one.header('Subject')}".casefold()]

    def wipe(self) -> None:
        """Throw everything away."""
        self.letters.clear()
        if self._file is not None:
            self._file.unlink(missing_ok=True)

    async def listen(self, own: socket.socket) -> asyncio.Server:
        """Serve SMTP on a socket of this machine, in the running loop."""
        loop = asyncio.get_running_loop()

        def connection() -> SMTP:
            return SMTP(self, data_size_limit=LARGEST, enable_SMTPUTF8=True, hostname="post.localhost", loop=loop)

        self.port = own.getsockname()[1]
        return await loop.create_server(connection, sock=own)

    async def handle_DATA(self, server: Any, session: Any, envelope: Envelope) -> str:
        """A message came in whole: the hook that aiosmtpd calls."""
        raw = envelope.original_content or b""
        note = ""
        for recipient in envelope.rcpt_tos:
            if self._intake is not None and self._is_opt_out(recipient):
                # What a mail server notes when it puts a message into a mailbox: whom it was really for.
                delivered = b"X-Original-To: " + recipient.encode("ascii", "replace") + b"\r\n" + raw
                try:
                    note = await asyncio.to_thread(self._intake, delivered)
                except Exception as error:  # whatever it was, the sender keeps the message and tries again
                    log.warning("an opt-out could not be taken (%s): its sender has to try again", type(error).__name__)
                    return "451 4.3.0 not now, try again"
        kept = {
            "at": datetime.now().astimezone().isoformat(),
            "sender": envelope.mail_from or "",
            "to": list(envelope.rcpt_tos),
            "note": note,
            "raw": raw.decode("latin-1"),
        }
        try:
            self._write(kept)
        except OSError as error:
            log.warning("a letter could not be kept (%s): its sender has to try again", type(error).__name__)
            return "451 4.3.0 not now, try again"
        self._put(kept)
        return "250 2.0.0 taken"

    def _put(self, kept: Mapping[str, Any]) -> None:
        self._count += 1
        message = message_from_bytes(kept["raw"].encode("latin-1"), policy=policy.compat32)
        at = datetime.fromisoformat(kept["at"])
        self.letters.appendleft(Letter(self._count, at, kept["sender"], tuple(kept["to"]), message, kept["note"]))

    def _write(self, kept: Mapping[str, Any]) -> None:
        if self._file is not None:
            with self._file.open("a", encoding="ascii") as file:
                file.write(json.dumps(kept) + "\n")

    def _read(self) -> None:
        """What the last demo left; a line that it was killed over was answered to nobody."""
        if self._file is None or not self._file.exists():
            return
        lines = self._file.read_text("ascii").splitlines(keepends=True)
        whole = [line for line in lines if line.endswith("\n")][-KEPT:]
        if whole != lines:
            self._file.write_text("".join(whole), "ascii")
        for line in whole:
            self._put(json.loads(line))

    async def write(self, sender: str, to: str) -> None:
        """Send the empty message with which a mail program unsubscribes.

        Raises:
            OSError, SMTPException: the server did not take it.
        """
        raw = f"From: {sender}\r\nTo: {to}\r\nSubject: unsubscribe\r\n\r\n".encode("ascii")
        await send_by_smtp(
            raw, sender=sender, recipients=[to], hostname="127.0.0.1", port=self.port, start_tls=False, timeout=10
        )

    def _is_opt_out(self, recipient: str) -> bool:
        local, _, domain = recipient.lower().rpartition("@")
        return f"{local.partition('+')[0]}@{domain}" == self._mailbox


def make_templates() -> Jinja2Templates:
    """The templates of the demo."""
    templates = Jinja2Templates(HERE / "templates")
    templates.env.trim_blocks = templates.env.lstrip_blocks = True
    return templates


def pages(post: Post, beside: Sequence[Route] = ()) -> Starlette:
    """The pages under /post. They are the demo's, not the school's: no page of the site is served by this app.

    Args:
        beside: other pages of the demo.
    """
    templates = make_templates()

    def letter_of(request: Request) -> Letter:
        letter = post.letter(request.path_params["number"])
        if letter is None:
            raise HTTPException(404)
        return letter

    async def box(request: Request) -> Response:
        # The script fetches the list alone, to show what arrives; without JavaScript one reloads.
        name = "_letters.html" if "hx-request" in request.headers else "post.html"
        words = request.query_params.get("zoek", "").strip()
        found = post.found(words)
        values = {"letters": [*islice(found, SHOWN)], "found": len(found), "words": words, "kept": KEPT}
        return templates.TemplateResponse(request, name, values, headers=HEADERS)

    async def show(request: Request) -> Response:
        return templates.TemplateResponse(request, "letter.html", {"letter": letter_of(request)}, headers=HEADERS)

    async def html(request: Request) -> Response:
        return shut_in(letter_of(request))

    async def wipe(request: Request) -> Response:
        from_here(request)
        post.wipe()
        return RedirectResponse("/post", 303, HEADERS)

    async def opt_out(request: Request) -> Response:
        from_here(request)
        letter = letter_of(request)
        reader = letter.header("To")
        if not letter.opt_out or not _MAILBOX.fullmatch(reader):
            raise HTTPException(404)
        try:
            await post.write(reader, letter.opt_out)
        except (OSError, SMTPException) as error:
            raise HTTPException(503) from error
        return RedirectResponse("/post", 303, HEADERS)

    async def failed(request: Request, error: Exception) -> Response:
        status = error.status_code if isinstance(error, HTTPException) else 500
        return templates.TemplateResponse(
            request, "no_letter.html", {"status": status}, status_code=status, headers=HEADERS
        )

    return Starlette(
        routes=[
            Route("/post", box),
            Route("/post/wissen", wipe, methods=["POST"]),
            Route("/post/{number:int}", show),
            Route("/post/{number:int}/html", html),
            Route("/post/{number:int}/afmelden", opt_out, methods=["POST"]),
            *beside,
        ],
        exception_handlers={HTTPException: failed},
    )


def shut_in(letter: Letter) -> Response:
    """The HTML of a letter, for a frame."""
    return HTMLResponse(_in_new_window(letter.html), headers=FRAME_HEADERS)


def from_here(request: Request) -> None:
    """Refuse what a page of another site sends."""
    if request.headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
        raise HTTPException(403)


def _decoded(value: object) -> str:
    text = str(value)
    try:
        return " ".join(str(make_header(decode_header(text))).split())
    except (HeaderParseError, LookupError, ValueError):
        return " ".join(text.split())


def _linked(text: str) -> Markup:
    made, end = Markup(), 0
    for found in _LINK.finditer(text):
        made += escape(text[end : found.start()])
        made += Markup('<a href="{0}">{0}</a>').format(found[0])
        end = found.end()
    return made + escape(text[end:])


def _in_new_window(html: str) -> str:
    """The document with a `<base>` in its head: a link that opened in the frame would show nothing."""
    base = '<base target="_blank">'
    made, heads = _HEAD.subn(lambda head: head[0] + base, html, count=1)
    return made if heads else f"<!DOCTYPE html>{base}{html}"
