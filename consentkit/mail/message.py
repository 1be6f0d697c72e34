"""One mail to one person, and how it is spelled as bytes.

The headers are written here. Python's own writer turns a URI of more than 75 characters into an encoded-word
(CPython #85725), and a mail client then finds no unsubscribe button.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from email.header import Header
from email.quoprimime import body_encode
from email.utils import format_datetime
from hashlib import sha256
from types import MappingProxyType
from typing import Final

MAX_LINE: Final = 998
"""Octets in a line without its CRLF (RFC 5322 section 2.1.1, which would rather see 78)."""

_LINE: Final = 78
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9-]{0,75}\Z")
_LANGUAGE = re.compile(r"[A-Za-z]{2,8}(?:-[A-Za-z0-9]{1,8})*\Z")
_LOCAL = re.compile(r'[^\s()<>\[\]:;,\\"@]+\Z')
_LABEL = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?\Z")
_MESSAGE_ID = re.compile(r"[!-;=?A-~]+@[!-;=?A-~]+\Z")
_ATOMS = re.compile(r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+(?: [A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+)*\Z")
_QUOTED = re.compile(r'"((?:[^"\\]|\\.)*)"\Z')
_UP_TO_COMMA = re.compile(r"(?:[^,<]|<[^>]*>?|,(?! ))*(?:, |\Z)")
_OURS = frozenset({"from", "to", "cc", "bcc", "sender", "subject", "date", "message-id", "reply-to", "mime-version"})


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Message:
    """One mail to one person. Shown or logged, it tells its id only: no address, no token, nothing of what it says.

    Args:
        sender: an address, or a name and an address: `De Linde <nieuws@delinde.example>`.
        to: one bare address, its domain in ASCII (`xn--…`); what stands before the @ may be any script.
        subject: any text.
        text: the plain text.
        html: the same as a document.
        message_id: as `c1f2@delinde.example`, without the brackets.
        date: when it was made, aware.
        language: the language of its text, `nl`.
        reply_to: as `sender`; empty for none.
        headers: further headers, `List-Unsubscribe`, `Auto-Submitted`. They go out as they are, folded after commas.

    Raises:
        ValueError: a field can't be what it should; the sentence names the field, never its value.
    """

    sender: str
    to: str
    subject: str
    text: str
    html: str
    message_id: str
    date: datetime
    language: str
    reply_to: str = ""
    headers: Mapping[str, str] = field(default_factory=dict, hash=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "headers", MappingProxyType(dict(self.headers)))
        for name in ("sender", "to", "subject", "message_id", "language", "reply_to"):
            refuse_control(name, getattr(self, name))
        for name in ("text", "html"):
            _refuse_surrogate(name, getattr(self, name))
        _mailbox("sender", self.sender)
        if self.reply_to:
            _mailbox("reply_to", self.reply_to)
        check_address("to", self.to)
        check_message_id(self.message_id)
        if not _LANGUAGE.match(self.language):
            raise ValueError("language must be a language tag such as nl or en-GB")
        if self.date.utcoffset() is None:
            raise ValueError("date must be an aware datetime")
        self._check_headers()

    def _check_headers(self) -> None:
        seen: set[str] = set()
        for name, value in self.headers.items():
            if not _NAME.match(name):
                raise ValueError("headers has a name that no header may have")
            lowered = name.lower()
            if lowered in _OURS or lowered.startswith("content-"):
                raise ValueError(f"headers may not have {name}: the message writes it itself")
            if lowered in seen:
                raise ValueError(f"headers has {name} twice")
            seen.add(lowered)
            refuse_control(f"headers[{name!r}]", value)
            header(name, value)

    def __repr__(self) -> str:
        return f"Message(message_id={self.message_id!r})"

    @property
    def sender_address(self) -> str:
        """The address of `sender`, without the name: the one that a bounce comes back to."""
        return _mailbox("sender", self.sender)[1]

    @property
    def needs_smtputf8(self) -> bool:
        """Whether an address in it is not ASCII, so that only a server with SMTPUTF8 can take it (RFC 6531)."""
        reply_to = _mailbox("reply_to", self.reply_to)[1] if self.reply_to else ""
        return not (self.to + self.sender_address + reply_to).isascii()

    def as_bytes(self) -> bytes:
        """The message as it goes over the wire: `multipart/alternative`, quoted-printable, lines ended by CRLF.

        The same message gives the same bytes.
        """
        boundary = f"=_{sha256(self.message_id.encode()).hexdigest()[:32]}"  # quoted-printable never has "=_"
        lines = [
            address_header("From", self.sender),
            f"To: {self.to}",
            text_header("Subject", self.subject),
            f"Date: {format_datetime(self.date)}",
            f"Message-ID: <{self.message_id}>",
        ]
        if self.reply_to:
            lines.append(address_header("Reply-To", self.reply_to))
        lines += [header(name, value) for name, value in self.headers.items()]
        lines += [
            f"Content-Language: {self.language}",
            "MIME-Version: 1.0",
            f'Content-Type: multipart/alternative;\r\n boundary="{boundary}"',
            "",
            f"--{boundary}",
            *_part("plain", self.text),
            f"--{boundary}",
            *_part("html", self.html),
            f"--{boundary}--",
            "",
        ]
        return "\r\n".join(lines).encode()


def refuse_control(name: str, value: str) -> None:
    """Refuse what would end a header, or can't be spelled.

    Raises:
        ValueError: naming `name`, and not the value.
    """
    if _CONTROL.search(value):
        raise ValueError(f"{name} has a control character, and nothing that becomes a header may have one")
    _refuse_surrogate(name, value)


def _refuse_surrogate(name: str, value: str) -> None:
    if not value.isascii() and any("\ud800" <= character <= "\udfff" for character in value):
        raise ValueError(f"{name} has half a character, which can't be spelled in UTF-8")


def check_message_id(value: str) -> None:
    """Refuse what is no message id without its brackets (RFC 5322 section 3.6.4).

    Raises:
        ValueError: it is none.
    """
    if not _MESSAGE_ID.match(value) or len(value) > MAX_LINE // 2:
        raise ValueError("message_id must be as in local@domain, in ASCII and without brackets")


def check_address(name: str, value: str) -> None:
    """Refuse what is not one bare address.

    Raises:
        ValueError: naming `name`, and not the value.
    """
    local, _, domain = value.rpartition("@")
    if not (_LOCAL.match(local) and local.isprintable() and len(local.encode()) <= 64 and is_name(domain)):
        raise ValueError(f"{name} must be one address, its domain in ASCII")


def is_name(host: str) -> bool:
    """Whether a text is the name of a host, in ASCII (RFC 1123 section 2.1; underscores, which some have, pass)."""
    return len(host) <= 253 and all(_LABEL.match(label) for label in host.split("."))


def _mailbox(field_name: str, value: str) -> tuple[str, str]:
    name, bracket, rest = value.rpartition("<")
    if not bracket:
        name, address = "", value
    elif rest.endswith(">"):
        name, address = name.strip(), rest[:-1]
    else:
        raise ValueError(f"{field_name} must be an address, or a name and an <address>")
    check_address(field_name, address)
    if quoted := _QUOTED.match(name):
        name = re.sub(r"\\(.)", r"\1", quoted[1])
    return name, address


def _encoded(name: str, text: str) -> str:
    return Header(text, "utf-8", header_name=name, maxlinelen=_LINE - 2).encode(linesep="\r\n")


def _plain(text: str) -> bool:
    return text.isascii() and "=?" not in text  # what looks encoded would be decoded


def _joined(first: str, second: str) -> str:
    fits = len(first.rpartition("\n")[2].encode()) + 1 + len(second.encode()) <= _LINE
    return f"{first} {second}" if fits else f"{first}\r\n {second}"


def address_header(name: str, value: str) -> str:
    """A header with an address, or a name and an address, folded.

    Raises:
        ValueError: it holds none.
    """
    phrase, address = _mailbox(name, value)
    if not phrase:
        return f"{name}: {address}"
    return _joined(f"{name}: {_phrase(name, phrase)}", f"<{address}>")


def _phrase(name: str, phrase: str) -> str:
    if not _plain(phrase) or len(phrase) > _LINE - 2 - len(name):
        return _encoded(name, phrase)
    if _ATOMS.match(phrase):
        return phrase
    return '"' + re.sub(r'([\\"])', r"\\\1", phrase) + '"'


def text_header(name: str, value: str) -> str:
    """A header with any text, encoded where it must be (RFC 2047) and folded."""
    value = value.strip()
    words = value.split(" ")
    if not _plain(value) or "" in words or any(len(word) > _LINE - 2 - len(name) for word in words):
        return f"{name}: {_encoded(name, value)}" if value else f"{name}:"
    line = f"{name}: {words[0]}"
    for word in words[1:]:
        line = _joined(line, word)
    return line


def header(name: str, value: str) -> str:
    """A header as it is, folded where a comma and a space stand outside of <…>: unfolded it is the same again.

    Raises:
        ValueError: it is empty, can't be folded, or is for machines and not ASCII.
    """
    value = value.strip()
    if not value.isascii():
        phrase, bracket, rest = value.rpartition("<")
        if name.lower() == "list-id" and bracket and rest.isascii():
            return _joined(f"{name}: {_encoded(name, phrase.strip())}", f"<{rest}")
        if name.lower().startswith(("list-", "feedback-id")):
            raise ValueError(f"headers[{name!r}] must be ASCII: it is for machines")
        return text_header(name, value)
    if not value:
        raise ValueError(f"headers[{name!r}] is empty")
    first, *further = (part.removesuffix(" ") for part in _UP_TO_COMMA.findall(value) if part)
    line = f"{name}: {first}"
    for part in further:
        line = _joined(line, part)
    if any(len(part) > MAX_LINE for part in line.split("\r\n")):
        raise ValueError(f"headers[{name!r}] has more than {MAX_LINE} octets without a comma and a space to fold at")
    return line


def _part(subtype: str, content: str) -> list[str]:
    body = re.sub(r"\r\n|\r|\n", "\n", content).removesuffix("\n")
    return [
        f'Content-Type: text/{subtype}; charset="utf-8"',
        "Content-Transfer-Encoding: quoted-printable",
        "",
        body_encode(body.encode().decode("latin-1"), eol="\r\n"),
    ]
