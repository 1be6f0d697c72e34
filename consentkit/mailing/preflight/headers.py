"""What must hold of lines and headers: one-click unsubscribing, lists, identity, signatures."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import datetime, timedelta
from email.utils import getaddresses, parseaddr, parsedate_to_datetime
from typing import Final

from consentkit.afgemeld.headers import ONE_CLICK
from consentkit.mail import MAX_LINE
from consentkit.mailing.dkim import LEAVING, Seal
from consentkit.mailing.preflight.domain import aligned, related
from consentkit.mailing.preflight.emitted import Emitted, Header, split
from consentkit.mailing.preflight.expected import Expected, domain_of
from consentkit.mailing.preflight.finding import MESSAGE, Note, Place, error, header, warning
from consentkit.settings import is_local

NEAR: Final = timedelta(days=1)
"""So far the Date of a message may be from now."""

_NEEDED = ("From", "To", "Subject", "Date", "Message-ID", "MIME-Version", "Content-Type")
_SINGLE = (
    *_NEEDED,
    *("Sender", "Reply-To", "Cc", "Bcc", "In-Reply-To", "References", "Content-Transfer-Encoding"),
    *("List-Id", "List-Unsubscribe", "List-Unsubscribe-Post", "Feedback-ID", "Auto-Submitted"),
)
_LONGEST_SUBJECT = 150
_LONGEST_LIST_ID = 255
_MESSAGE_ID = re.compile(r"<[^<>@\s]+@([^<>@\s]+)>\Z")
_LIST_ID = re.compile(r"(?:[^<>]*\s)?<([^<>@\s.]+(?:\.[^<>@\s.]+)+)>\Z")
_FEEDBACK_ID = re.compile(r"[^:\s]*(?::[^:\s]*){2}:[^:\s]{5,15}\Z")
_URI = re.compile(r"<([^<>]*)>")
_REPLY = re.compile(r"\s*(?:re|fw|fwd|antw|aw|betr|doorst)\s*(?:\[\d+\])?:\s", re.IGNORECASE)


def lines(mail: Emitted) -> Iterator[Note]:
    """Line ends are CRLF, no line is longer than 998 octets (RFC 5322 sections 2.1.1 and 2.3)."""
    for number, line in enumerate(mail.payload.split(b"\r\n"), 1):
        if b"\r" in line or b"\n" in line:
            yield error("line-end", Place("line", line=number))
        elif len(line) > MAX_LINE:
            yield error("line-long", Place("line", line=number), octets=len(line))


def headers(mail: Emitted, expected: Expected, now: datetime) -> Iterator[Note]:
    """Everything that a header may get wrong."""
    for name in _SINGLE:
        count = len(mail.all(name.lower()))
        if not count and name in _NEEDED:
            yield error("header-missing", header(name), name=name)
        if count > 1:
            yield error("header-repeated", header(name), name=name, count=count)
    yield from _subject(mail)
    yield from _people(mail, expected)
    yield from _identity(mail, expected, now)
    yield from signatures(mail, expected)
    if expected.marketing:
        yield from _unsubscribe(mail, expected)
        yield from _list(mail, expected)


def _subject(mail: Emitted) -> Iterator[Note]:
    if not (found := mail.all("subject")):
        return
    words, place = found[0].words.strip(), header("Subject")
    if not words:
        yield error("subject-empty", place)
    if len(words) > _LONGEST_SUBJECT:
        yield warning("subject-long", place, length=len(words), most=_LONGEST_SUBJECT)
    if sum(map(str.isalpha, words)) >= 8 and words.upper() == words:
        yield warning("subject-capitals", place)
    if _REPLY.match(words):
        yield error("subject-reply", place)


def _people(mail: Emitted, expected: Expected) -> Iterator[Note]:
    readers = getaddresses([one.value for name in ("to", "cc", "bcc") for one in mail.all(name)])
    if mail.all("to") and (len(readers) != 1 or "@" not in readers[0][1]):
        yield error("recipients", header("To"), count=len(readers))
    if not mail.all("from"):
        return
    shown = parseaddr(mail.value("from"))[1]
    if shown.lower() != parseaddr(expected.sender)[1].lower():
        yield error("sender-unknown", header("From"), domain=domain_of(shown) or "?")
        return
    answering = [*(key.domain for key in expected.keys), expected.envelope_domain]
    if any(aligned(expected.domain, one) for one in answering):
        return
    values = {"domain": expected.domain, "others": ", ".join(dict.fromkeys(answering))}
    if any(related(expected.domain, one) for one in answering):
        yield warning("from-sibling", header("From"), **values)
    else:
        yield error("from-unaligned", header("From"), **values)


def _identity(mail: Emitted, expected: Expected, now: datetime) -> Iterator[Note]:
    if mail.all("date"):
        try:
            date = parsedate_to_datetime(mail.value("date"))
            wrong = date.tzinfo is None or abs(date - now) > NEAR
        except ValueError:
            wrong = True
        if wrong:
            yield error("date-wrong", header("Date"))
    if mail.all("message-id"):
        found = _MESSAGE_ID.match(mail.value("message-id"))
        if not found or found[1].lower() != expected.domain:
            yield error("message-id-invalid", header("Message-ID"), domain=expected.domain)


def signatures(mail: Emitted, expected: Expected) -> Iterator[Note]:
    """Each of our keys signed it, rightly, and covers both headers of one-click (RFC 8058 section 4)."""
    place = header("DKIM-Signature")
    seals = Seal.all_of(mail.payload)
    for key in expected.keys:
        ours = [seal for seal in seals if (seal.domain, seal.selector) == (key.domain, key.selector)]
        if not ours:
            yield error("dkim-missing", place, name=key.name)
        elif not any(seal.holds(key) for seal in ours):
            yield error("dkim-broken", place, name=key.name)
    if expected.marketing and any(not set(LEAVING) <= set(seal.names) for seal in seals):
        yield error("dkim-covers", place)
    if not expected.keys and not seals:
        yield warning("dkim-relay", place, domain=expected.domain)


def _unsubscribe(mail: Emitted, expected: Expected) -> Iterator[Note]:
    """RFC 8058 section 3.1, RFC 2369 section 2; Tw 11.7(4)(b). The first thing that is wrong tells enough."""
    place, post = header("List-Unsubscribe"), header("List-Unsubscribe-Post")
    if found := mail.all("list-unsubscribe"):
        if code := _wrong_way_out(found[0], expected):
            yield error(code, place)
    else:
        yield error("unsubscribe-missing", place)
    if not mail.all("list-unsubscribe-post"):
        yield error("one-click-missing", post, value=ONE_CLICK)
    elif mail.value("list-unsubscribe-post") != ONE_CLICK:
        yield error("one-click-value", post, value=ONE_CLICK)


def _wrong_way_out(found: Header, expected: Expected) -> str | None:
    uris = _URI.findall(found.value)
    web = [uri for uri in uris if re.match(r"https?:", uri, re.IGNORECASE)]
    if "=?" in found.value:
        return "unsubscribe-encoded"
    if any(not line.rstrip().endswith(",") for line in found.lines[:-1]):
        return "unsubscribe-folded"
    if len(web) != 1 or not _private(web[0]):
        return "unsubscribe-insecure"
    wanted = expected.list_unsubscribe
    same = _URI.findall(wanted) == uris if wanted else web == [expected.unsubscribe_url]
    return None if same else "unsubscribe-differs"


def _private(uri: str) -> bool:
    """Whether a link can be followed without others reading its token; on this machine and for tests http will do."""
    parts = split(uri)
    return parts.scheme == "https" or is_local(parts.hostname or "")


def _list(mail: Emitted, expected: Expected) -> Iterator[Note]:
    """RFC 2919 sections 2 and 3; Gmail's feedback loop wants four fields, the last of 5 to 15 signs."""
    place = header("List-Id")
    if not mail.all("list-id"):
        yield error("list-id-missing", place)
    else:
        found = _LIST_ID.match(mail.all("list-id")[0].words)
        if not found or len(found[1]) > _LONGEST_LIST_ID or found[1].partition(".")[0] != expected.list:
            yield error("list-id-invalid", place, list=expected.list, most=_LONGEST_LIST_ID)
    if not _FEEDBACK_ID.match(mail.value("feedback-id")):
        yield warning("feedback-id", header("Feedback-ID"))


def whole(mail: Emitted, expected: Expected, most_html: int) -> Iterator[Note]:
    """The message can be read and is not too large."""
    size = len(mail.payload)
    if not mail.whole:
        yield error("mime-broken", MESSAGE)
    if expected.size_limit and size > expected.size_limit:
        yield error("size-limit", MESSAGE, size=-(-size // 1024), most=expected.size_limit // 1024)
    if mail.html is not None and len(mail.html.encode("utf-8", "replace")) > most_html:
        yield warning("html-clipped", Place("html"), most=most_html // 1024)
