"""What a mail says that came back: a bounce, a complaint, an automatic answer. Bytes in, a `Report` out. Pure.

Delivery reports of RFC 3464 and RFC 6533 are read with the codes of RFC 3463, complaints as RFC 5965 has them; what
older servers write in their own way goes through `flufl.bounce`, where that is installed. Whom a report is about stands
in tokens that we signed, and in nothing else: anybody can write a report.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import logging
import quopri
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from email import message_from_bytes
from email.message import Message
from enum import StrEnum
from functools import lru_cache
from typing import Any, Final

from consentkit.afgemeld.head import (
    LONG_TOKEN,
    MAX_MESSAGE,
    Headers,
    automatic,
    distinct,
    first,
    from_nobody,
    headers,
    media_type,
    sent_to,
    split,
)
from consentkit.afgemeld.links import BOUNCE_TOKEN
from consentkit.mail import Stage

_DEPTH = 4
_PARTS = 20
_BLOCKS = 50
_MAX_CONTENT_TYPE = 1_000
_MAX_PLAIN = 64 * 1024
_MAX_BOUNDARIES = 10

_STATUS = re.compile(r"\s*([245])\.(\d{1,3})\.(\d{1,3})(?![\d.])")
_IN_WORDS = re.compile(r"(?:\b[45]\d\d[ -]|#)#?([45]\.\d{1,3}\.\d{1,3})(?![\d.])")
_BLANK = re.compile(rb"\r?\n[ \t]*\r?\n")
_COPY = re.compile(rb"^---.*(?:copy|original|below|enclosed|message follows)", re.MULTILINE | re.IGNORECASE)
_DAEMON = re.compile(r"\b(?:mailer-daemon|postmaster|mail-daemon)@", re.IGNORECASE)
_AWAY = re.compile(
    r"\b(?:out of (?:the )?office|auto(?:matic|matisch)?[ -]?(?:reply|response|antwoord)|on (?:vacation|leave|holiday)"
    r"|afwezig|niet aanwezig|abwesen)",
    re.IGNORECASE,
)
_ENCLOSED: Final = frozenset(
    {
        "message/rfc822",
        "text/rfc822-headers",
        "message/rfc822-headers",
        "text/rfc822",
        "message/global",
        "message/global-headers",
    }
)
_STATUSES: Final = frozenset({"message/delivery-status", "message/global-delivery-status"})

NO_MAILBOX: Final = frozenset({"5.1.1", "5.1.2", "5.1.6", "5.1.10"})
"""Codes that say that there is no such mailbox or domain (RFC 3463 section 3.2; RFC 7505 section 4.1)."""

NOT_THE_MAILBOX: Final = frozenset({"5.1.7", "5.1.8", "5.1.9", "5.2.3", "5.3.4"})
"""Codes about the sender or the size of the message; so are the classes 5.6 and 5.7 (RFC 3463 sections 3.2 to 3.8)."""


class Kind(StrEnum):
    """What a report says."""

    HARD = "hard"
    """There is no such mailbox, and there will be none."""
    SOFT = "soft"
    """It did not arrive, and the next one may."""
    POLICY = "policy"
    """It was refused for what it is or where it came from, which says nothing about the mailbox."""
    DELAYED = "delayed"
    """A server still tries."""
    COMPLAINT = "complaint"
    """The reader called it spam."""
    LEFT = "left"
    """The reader left, at the provider."""
    AUTO_REPLY = "auto_reply"
    """An answer that no person wrote (RFC 3834)."""
    NOTHING = "nothing"
    """It arrived, or somebody opened it: nothing follows."""
    UNKNOWN = "unknown"
    """No report that can be read here; a person has to look."""


FAILED: Final = frozenset({Kind.HARD, Kind.SOFT, Kind.POLICY})
"""The message did not arrive and won't."""

_MILDEST_FIRST: Final = (Kind.NOTHING, Kind.DELAYED, Kind.POLICY, Kind.SOFT, Kind.HARD)


@dataclass(frozen=True, slots=True, repr=False)
class Report:
    """What came back.

    Args:
        kind: what it says. status: the code of RFC 3463, `5.1.1`; empty where there is none.
        id: what makes it this one: a provider's own id, or a hash of the message.
        bounce_tokens: from the address it was sent to; where that has none, from the message that it encloses.
        addressed: the bounce tokens stand in the address.
        leave_tokens: of the enclosed message's own unsubscribe link.
        mailing, nonce, delivery: as a `Message-ID` of ours names them. Not signed: believed of a known provider only.
        address: whom it is about, in a known provider's words.
    """

    kind: Kind
    status: str = ""
    id: str = ""
    bounce_tokens: tuple[str, ...] = ()
    addressed: bool = False
    leave_tokens: tuple[str, ...] = ()
    mailing: int | None = None
    nonce: int | None = None
    delivery: int | None = None
    address: str = ""

    def __repr__(self) -> str:
        return f"<Report {self.kind} {self.status}>"


@dataclass(frozen=True, slots=True)
class _Part:
    """One part of a message that holds no others."""

    kind: str
    head: Headers
    body: bytes


def judged(status: str) -> Kind:
    """What the code of a failed message says about its mailbox (RFC 3463 section 3).

    A full mailbox, a message that is too large or a policy is no missing mailbox, though all of them are permanent.
    """
    if status in NO_MAILBOX:
        return Kind.HARD
    if status in NOT_THE_MAILBOX or status.startswith(("5.6.", "5.7.")):
        return Kind.POLICY
    return Kind.SOFT


def means_no_mailbox(code: int, status: str, stage: Stage) -> bool:
    """Whether a refusal in the SMTP conversation says that the mailbox isn't there: the rule for bounces, for answers.

    A bare 550 is not enough: it also stands for "no access" and for policy (RFC 5321 section 4.2.2). An answer that was
    given before the recipient was named is about us.

    Args:
        code: of the answer. status: its enhanced code, empty where it had none. stage: what was answered.
    """
    return 500 <= code < 600 and stage in (Stage.RCPT, Stage.DATA) and status in NO_MAILBOX


def read(raw: bytes) -> Report:
    """What a mail says that came in; never fails.

    Args:
        raw: the message as bytes; what follows the first megabyte is not looked at.
    """
    raw = raw[:MAX_MESSAGE]
    head = headers(raw)
    parts = list(_parts(raw))
    kind, status = _told(raw, head, parts)
    addressed = sent_to(head, BOUNCE_TOKEN)
    enclosed = _enclosed(raw, parts, plain=kind not in (Kind.UNKNOWN, Kind.AUTO_REPLY))
    inside = distinct(token.lower() for token in BOUNCE_TOKEN.findall(enclosed.decode("ascii", "replace")))
    links = headers(enclosed).get("list-unsubscribe", ()) if parts else ()
    return Report(
        kind,
        status,
        id=hashlib.sha256(raw).hexdigest(),
        bounce_tokens=tuple(addressed or inside),
        addressed=bool(addressed),
        leave_tokens=tuple(distinct(token for value in links for token in LONG_TOKEN.findall(value))),
    )


def _told(raw: bytes, head: Headers, parts: Sequence[_Part]) -> tuple[Kind, str]:
    """What it says. A report comes first: a bounce is an automatic answer too (RFC 3834 section 3.1.7)."""
    for part in parts:
        if part.kind in _STATUSES and (told := _delivery_status(part.body)):
            return told
        if part.kind == "message/feedback-report":
            return _feedback(headers(part.body.lstrip())), ""
        if part.kind in ("message/disposition-notification", "message/global-disposition-notification"):
            return Kind.NOTHING, ""
    from_daemon = bool(_DAEMON.search(first(head, "from"))) or "x-failed-recipients" in head
    if not from_daemon and _answered(head):
        return Kind.AUTO_REPLY, ""
    if from_daemon or from_nobody(head) or sent_to(head, BOUNCE_TOKEN):
        return _plain(raw)
    return Kind.UNKNOWN, ""


def _answered(head: Headers) -> bool:
    """Whether it is somebody's automatic answer. A subject is a hint, and only where no person would write to."""
    hint = bool(sent_to(head, BOUNCE_TOKEN)) and bool(_AWAY.search(first(head, "subject")[:200]))
    return automatic(head) or "x-autoreply" in head or "x-autorespond" in head or hint


# -- delivery reports and complaints ----------------------------------------------------------------------------------


def _delivery_status(body: bytes) -> tuple[Kind, str] | None:
    """The mildest of what a report says of its recipients (RFC 3464 section 2.3); None where it says nothing.

    Ours have one recipient. Several are those that it was passed on to, and who of them got it, got it.
    """
    blocks = [headers(block) for block in _BLANK.split(body.strip())[:_BLOCKS]]
    told = [_recipient(block) for block in blocks if "action" in block or "status" in block]
    return min(told, key=lambda one: _MILDEST_FIRST.index(one[0])) if told else None


def _recipient(block: Headers) -> tuple[Kind, str]:
    action = first(block, "action").lower()
    found = _STATUS.match(first(block, "status"))
    status = ".".join(found.groups()) if found else ""
    if action.startswith(("delivered", "relayed", "expanded")) or status.startswith("2."):
        return Kind.NOTHING, status
    if action.startswith(("delayed", "defer")):
        return Kind.DELAYED, status
    return failed(status, first(block, "diagnostic-code"))


def failed(status: str, words: str) -> tuple[Kind, str]:
    """What a failure is, by its code and the words of the server that refused.

    Many say 5.0.0 and leave the code that counts to the words (RFC 3464 section 2.3.6). Where the two differ about
    whether there is a mailbox, there is one.
    """
    found = _IN_WORDS.search(words[:2_000])
    if found and (status in NO_MAILBOX or status[1:] in ("", ".0.0")):
        status = found[1]
    status = status or "5.0.0"
    return judged(status), status


def _feedback(fields: Headers) -> Kind:
    """What a feedback report says (RFC 5965 section 7.3; RFC 6430 for not-spam)."""
    told: Mapping[str, Kind] = {
        "abuse": Kind.COMPLAINT,
        "fraud": Kind.COMPLAINT,
        "opt-out": Kind.LEFT,
        "opt-out-list": Kind.LEFT,
        "not-spam": Kind.NOTHING,
    }
    return told.get(first(fields, "feedback-type").partition(";")[0].strip().lower(), Kind.UNKNOWN)


# -- what follows no standard -----------------------------------------------------------------------------------------


def _plain(raw: bytes) -> tuple[Kind, str]:
    """What a server wrote in its own way. Only its code says that there is no mailbox; its words never do."""
    detect = _detector()
    raw = raw[:_MAX_PLAIN]
    if detect is None or raw.count(b"boundary=") > _MAX_BOUNDARIES:
        return Kind.UNKNOWN, ""
    try:
        later, permanent = detect(message_from_bytes(raw))
    except Exception:  # a detector that can't read it has not recognised it
        return Kind.UNKNOWN, ""
    if not later and not permanent:
        return Kind.UNKNOWN, ""
    found = _IN_WORDS.search(_COPY.split(split(raw)[1], maxsplit=1)[0].decode("ascii", "replace"))
    status = found[1] if found else ""
    if not permanent:
        return Kind.DELAYED, status
    return failed(status, "")


@lru_cache(maxsize=1)
def _detector() -> Any:
    try:
        from flufl.bounce import all_failures  # noqa: PLC0415  # an extra
    except ImportError:
        return None
    logging.getLogger("flufl.bounce").addFilter(lambda record: False)  # it logs what it can't read
    return all_failures


# -- parts ------------------------------------------------------------------------------------------------------------


def _parts(raw: bytes, depth: int = 0) -> Iterator[_Part]:
    """The innermost parts of a multipart message, in their order; none where it has no parts."""
    top, body = split(raw)
    head = headers(top)
    kind = media_type(head)
    if kind.startswith("multipart/"):
        boundary = _boundary(first(head, "content-type"))
        for piece in _pieces(body, boundary) if boundary and depth < _DEPTH else ():
            yield from _parts(piece, depth + 1)
    elif depth:
        yield _Part(kind, head, _decoded(body, first(head, "content-transfer-encoding")))


def _boundary(content_type: str) -> bytes:
    message = Message()
    message["content-type"] = content_type[:_MAX_CONTENT_TYPE]
    return (message.get_boundary() or "").encode("ascii", "replace")


def _pieces(body: bytes, boundary: bytes) -> Iterator[bytes]:
    """What stands between the boundary lines (RFC 2046 section 5.1.1); the last may lack its end."""
    line = re.compile(rb"(?:\A|(?<=\n))--" + re.escape(boundary) + rb"(--)?[ \t]*\r?(?:\n|\Z)")
    start = -1
    for count, found in enumerate(line.finditer(body)):
        if start >= 0:
            yield body[start : found.start()]
        start = found.end()
        if found[1] or count == _PARTS:
            return
    if start >= 0:
        yield body[start:]


def _decoded(body: bytes, encoding: str) -> bytes:
    match encoding.strip().lower():
        case "quoted-printable":
            return quopri.decodestring(body)
        case "base64":
            try:
                return base64.b64decode(body)
            except binascii.Error:
                return b""
    return body


def _enclosed(raw: bytes, parts: Sequence[_Part], *, plain: bool) -> bytes:
    """The headers of the message that a report is about; of a bounce without parts, all of its text."""
    found = next((part.body for part in parts if part.kind in _ENCLOSED), b"")
    if found or parts or not plain:
        return split(found.lstrip(b"\r\n"))[0]
    return raw[:_MAX_PLAIN]
