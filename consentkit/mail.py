"""The way a message leaves the building: what one is, how it is spelled as bytes, and the SMTP server that takes it.

The headers are written here. Python's own writer turns a URI of more than 75 characters into an encoded-word
(CPython #85725), and a mail client then finds no unsubscribe button. An error says what the server did, in its codes:
never in its words, which quote addresses.
"""

from __future__ import annotations

import asyncio
import re
import socket
import ssl
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from email.header import Header
from email.quoprimime import body_encode
from email.utils import format_datetime
from enum import Enum, StrEnum
from hashlib import sha256
from ipaddress import ip_address
from types import MappingProxyType
from typing import Final, Protocol, cast
from urllib.parse import urlsplit

from aiosmtplib import (
    SMTP,
    SMTPException,
    SMTPHeloError,
    SMTPResponse,
    SMTPResponseException,
    SMTPServerDisconnected,
)

from consentkit.errors import ConsentKitError, SettingsError

MAX_LINE: Final = 998
"""Octets in a line without its CRLF (RFC 5322 section 2.1.1, which would rather see 78)."""

_LINE: Final = 78
_CHUNK: Final = 64 * 1024
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9-]{0,75}\Z")
_LANGUAGE = re.compile(r"[A-Za-z]{2,8}(?:-[A-Za-z0-9]{1,8})*\Z")
_LOCAL = re.compile(r'[^\s()<>\[\]:;,\\"@]+\Z')
_LABEL = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?\Z")
_MESSAGE_ID = re.compile(r"[!-;=?A-~]+@[!-;=?A-~]+\Z")
_ATOMS = re.compile(r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+(?: [A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+)*\Z")
_QUOTED = re.compile(r'"((?:[^"\\]|\\.)*)"\Z')
_UP_TO_COMMA = re.compile(r"(?:[^,<]|<[^>]*>?|,(?! ))*(?:, |\Z)")
_STATUS = re.compile(r"([245])\.\d{1,3}\.\d{1,3}(?!\S)")
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
            _refuse_control(name, getattr(self, name))
        for name in ("text", "html"):
            _refuse_surrogate(name, getattr(self, name))
        _mailbox("sender", self.sender)
        if self.reply_to:
            _mailbox("reply_to", self.reply_to)
        _check_address("to", self.to)
        if not _MESSAGE_ID.match(self.message_id) or len(self.message_id) > MAX_LINE // 2:
            raise ValueError("message_id must be as in local@domain, in ASCII and without brackets")
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
            _refuse_control(f"headers[{name!r}]", value)
            _extra(name, value)

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
            _address("From", self.sender),
            f"To: {self.to}",
            _unstructured("Subject", self.subject),
            f"Date: {format_datetime(self.date)}",
            f"Message-ID: <{self.message_id}>",
        ]
        if self.reply_to:
            lines.append(_address("Reply-To", self.reply_to))
        lines += [_extra(name, value) for name, value in self.headers.items()]
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


def _refuse_control(name: str, value: str) -> None:
    if _CONTROL.search(value):
        raise ValueError(f"{name} has a control character, and nothing that becomes a header may have one")
    _refuse_surrogate(name, value)


def _refuse_surrogate(name: str, value: str) -> None:
    if not value.isascii() and any("\ud800" <= character <= "\udfff" for character in value):
        raise ValueError(f"{name} has half a character, which can't be spelled in UTF-8")


def _check_address(name: str, value: str) -> None:
    local, _, domain = value.rpartition("@")
    if not (_LOCAL.match(local) and local.isprintable() and len(local.encode()) <= 64 and _is_name(domain)):
        raise ValueError(f"{name} must be one address, its domain in ASCII")


def _is_name(host: str) -> bool:
    return len(host) <= 253 and all(_LABEL.match(label) for label in host.split("."))


def _mailbox(field_name: str, value: str) -> tuple[str, str]:
    name, bracket, rest = value.rpartition("<")
    if not bracket:
        name, address = "", value
    elif rest.endswith(">"):
        name, address = name.strip(), rest[:-1]
    else:
        raise ValueError(f"{field_name} must be an address, or a name and an <address>")
    _check_address(field_name, address)
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


def _address(name: str, value: str) -> str:
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


def _unstructured(name: str, value: str) -> str:
    value = value.strip()
    words = value.split(" ")
    if not _plain(value) or "" in words or any(len(word) > _LINE - 2 - len(name) for word in words):
        return f"{name}: {_encoded(name, value)}" if value else f"{name}:"
    line = f"{name}: {words[0]}"
    for word in words[1:]:
        line = _joined(line, word)
    return line


def _extra(name: str, value: str) -> str:
    """A header as it is, folded where a comma and a space stand outside of <…>: unfolded it is the same again."""
    value = value.strip()
    if not value.isascii():
        phrase, bracket, rest = value.rpartition("<")
        if name.lower() == "list-id" and bracket and rest.isascii():
            return _joined(f"{name}: {_encoded(name, phrase.strip())}", f"<{rest}")
        if name.lower().startswith(("list-", "feedback-id")):
            raise ValueError(f"headers[{name!r}] must be ASCII: it is for machines")
        return _unstructured(name, value)
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


class Stage(StrEnum):
    """How far a message came."""

    CONNECT = "connect"
    HELLO = "EHLO"
    TLS = "STARTTLS"
    LOGIN = "login"
    MAIL = "MAIL"
    RCPT = "RCPT"
    DATA = "DATA"


class MailError(ConsentKitError):
    """A message did not leave, as far as is known.

    Args:
        sentence: what happened, without addresses and without the server's words.
        stage: how far it came.
        code: the SMTP code that the server answered; `None` where it did not, or was not asked.
        status: the enhanced status code, `5.1.1`; empty if there was none.
    """

    def __init__(self, sentence: str, *, stage: Stage, code: int | None = None, status: str = "") -> None:
        numbers = " ".join(str(part) for part in (code, status) if part)
        super().__init__(f"{sentence} ({stage}: {numbers})" if numbers else f"{sentence} ({stage})")
        self.stage = stage
        self.code = code
        self.status = status


class MailRefused(MailError):
    """For good: the same message to the same address would be refused again."""


class MailDeferred(MailError):
    """Not now: the server asks to try later."""


class MailUnavailable(MailError):
    """The server could not be reached, used or heard out; it says nothing about the message.

    `in_doubt` is true where all of the message was sent and no answer came: it may have been taken.
    """

    def __init__(
        self, sentence: str, *, stage: Stage, code: int | None = None, status: str = "", in_doubt: bool = False
    ) -> None:
        super().__init__(sentence, stage=stage, code=code, status=status)
        self.in_doubt = in_doubt


class Mailer(Protocol):
    """Whatever can send a message."""

    async def send(self, message: Message) -> None:
        """Send it, and return when somebody else answers for it.

        Raises:
            MailRefused: it will never be taken.
            MailDeferred: it may be taken later.
            MailUnavailable: there was nobody to take it, or it is not known whether it was taken.
        """


class MemoryMailer:
    """Keeps what was sent, for tests: `mailer.sent[0].to`."""

    def __init__(self) -> None:
        self.sent: list[Message] = []

    async def send(self, message: Message) -> None:
        """Keep it."""
        self.sent.append(message)


class Encryption(Enum):
    """When a connection is encrypted."""

    FROM_THE_START = "smtps"
    REQUIRED = "STARTTLS, or nothing is sent"
    WHEN_OFFERED = "STARTTLS if the server has it"


def encryption(scheme: str, host: str, *, password: bool) -> Encryption:
    """How a connection must be encrypted. A password goes in clear to this very machine at most."""
    if scheme == "smtps":
        return Encryption.FROM_THE_START
    return Encryption.REQUIRED if password and not is_loopback(host) else Encryption.WHEN_OFFERED


def is_loopback(host: str) -> bool:
    """Whether a host is this very machine."""
    if host.lower() == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


class SMTPMailer:
    """Sends through an SMTP server, one connection a message.

    Certificates are verified, but for STARTTLS with a server on this very machine, which encrypts nothing for nobody.

    Args:
        url: `smtp://host:port`, by default port 587, or `smtps://host:port`, by default 465.
        user: whom to log in as; empty for no login.
        password: what belongs to it.
        timeout: seconds that each answer may take.

    Raises:
        SettingsError: the url can't be used, or user and password don't go together.
    """

    def __init__(self, url: str, *, user: str = "", password: str = "", timeout: float = 30.0) -> None:
        self._scheme, self.host, self.port = _server(url)
        if bool(user) != bool(password):
            raise SettingsError(["user and password belong together: give both, or neither"], source="mail.smtp")
        if not timeout > 0:
            raise SettingsError(["timeout must be more than 0 seconds: write 30"], source="mail.smtp")
        self._user = user
        self._password = password
        self._timeout = timeout
        self.encryption = encryption(self._scheme, self.host, password=bool(password))
        self._context: ssl.SSLContext | None = None

    def __repr__(self) -> str:
        return f"SMTPMailer('{self._scheme}://{self.host}:{self.port}')"

    async def send(self, message: Message) -> None:
        """Send it. A cancelled send leaves open whether the message was taken.

        Raises:
            MailRefused: 5xx, larger than the server takes, or an address that needs SMTPUTF8 where there is none.
            MailDeferred: 4xx.
            MailUnavailable: no connection, no encryption, no login, no answer in time, or the connection was lost.
        """
        client = self._client(message)
        attempt = _Attempt(message, client, timeout=self._timeout)
        try:
            await attempt.open(self.encryption, self._tls_context, user=self._user, password=self._password)
            await attempt.deliver()
            return
        except (SMTPException, OSError) as error:
            failure = attempt.failure(error)
        finally:
            client.close()
        raise failure  # here, so that the server's words don't hang on as the context

    def _client(self, message: Message) -> _Client:
        return _Client(
            hostname=self.host,
            port=self.port,
            local_hostname=message.sender_address.rpartition("@")[2],  # relays that go by domain want to hear it
            timeout=self._timeout,
            start_tls=False,
        )

    async def _tls_context(self) -> ssl.SSLContext:
        if self._context is None:
            self._context = await asyncio.to_thread(ssl.create_default_context)
            if self.encryption is Encryption.WHEN_OFFERED and is_loopback(self.host):
                # A mail server on this machine has a certificate for its public name, if not one it made itself.
                self._context.check_hostname = False
                self._context.verify_mode = ssl.CERT_NONE
        return self._context


def _server(url: str) -> tuple[str, str, int]:
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        raise SettingsError([f"the url {_WRITE}"], source="mail.smtp") from None
    if parts.username is not None or parts.password is not None:
        problem = "the url has a user or password in it, and a url is shown: give them as user and password"
    elif parts.scheme not in ("smtp", "smtps"):
        problem = f"the url begins with neither smtp:// nor smtps://, and {_WRITE}"
    elif not _is_host(host):
        problem = f"the url has no usable host (its name in ASCII, or its address), and {_WRITE}"
    elif port == 0 or parts.path not in ("", "/") or parts.query or parts.fragment:
        problem = f"the url has a port 0 or something after the port, and {_WRITE}"
    else:
        return parts.scheme, host, port or (465 if parts.scheme == "smtps" else 587)
    raise SettingsError([problem], source="mail.smtp")


_NOT_SMTP: Final = "the mail server does not do what SMTP says"
_WRITE: Final = "must be as in smtp://mail.example:587 or smtps://mail.example:465"


def _is_host(host: str) -> bool:
    if _is_name(host):
        return True
    try:
        ip_address(host)
    except ValueError:
        return False
    return True


class _Client(SMTP):
    def close(self) -> None:
        """Let go of the connection at once: a server that went silent would keep TLS waiting for its goodbye."""
        transport = self.transport
        super().close()
        if transport is not None:
            cast(asyncio.WriteTransport, transport).abort()


class _Attempt:
    """One message on one connection."""

    def __init__(self, message: Message, client: _Client, *, timeout: float) -> None:
        self._message = message
        self._client = client
        self._timeout = timeout
        self._stage = Stage.CONNECT
        self._dotted = False

    async def open(self, wanted: Encryption, context: _Context, *, user: str, password: str) -> None:
        """Connect, greet, encrypt and log in."""
        if wanted is Encryption.FROM_THE_START:
            await self._client.connect(use_tls=True, tls_context=await context())
        else:
            await self._client.connect()
        await self._hello()
        if wanted is not Encryption.FROM_THE_START:
            await self._encrypt(wanted, context)
        if user:
            self._stage = Stage.LOGIN
            await self._client.login(user, password)

    async def _hello(self) -> None:
        self._stage = Stage.HELLO
        try:
            await self._client.ehlo()
        except SMTPHeloError as error:
            if error.code // 100 != 5:
                raise
            await self._client.helo()

    async def _encrypt(self, wanted: Encryption, context: _Context) -> None:
        self._stage = Stage.TLS
        if self._client.supports_extension("starttls"):
            await self._client.starttls(tls_context=await context())
            await self._hello()
        elif wanted is Encryption.REQUIRED:
            raise MailUnavailable(
                "the mail server offers no encryption, and a password is not sent in clear", stage=self._stage
            )

    async def deliver(self) -> None:
        """Hand the message over; return when the server answers for it."""
        message, payload = self._message, self._message.as_bytes()
        self._stage = Stage.MAIL
        options = self._options(len(payload))
        await self._ask(b"MAIL", f"FROM:<{message.sender_address}>".encode(), *options)
        self._stage = Stage.RCPT
        await self._ask(b"RCPT", f"TO:<{message.to}>".encode())
        self._stage = Stage.DATA
        await self._ask(b"DATA", expected=3)
        answer = await self._pour(re.sub(rb"(?m)^\.", b"..", payload))
        if not self._dotted and answer.code < 400:
            raise self._unavailable(_NOT_SMTP, answer)
        self._judge(answer, expected=2)
        with suppress(SMTPException, OSError):
            await self._client.execute_command(b"QUIT", timeout=min(self._timeout, 2.0))

    def _options(self, size: int) -> list[bytes]:
        extensions, options = self._client.esmtp_extensions, []
        if "size" in extensions:
            limit = extensions["size"].strip()
            if limit.isdecimal() and 0 < int(limit) < size:
                raise MailRefused("the message is larger than the mail server takes", stage=self._stage, status="5.3.4")
            options.append(f"SIZE={size}".encode())
        if self._message.needs_smtputf8:
            if "smtputf8" not in extensions:
                raise MailRefused(
                    "an address has letters that the mail server can't take, as it has no SMTPUTF8",
                    stage=self._stage,
                    status="5.6.7",
                )
            options += [b"BODY=8BITMIME", b"SMTPUTF8"]
        return options

    async def _ask(self, *command: bytes, expected: int = 2) -> None:
        self._judge(await self._client.execute_command(*command), expected=expected)

    def _judge(self, answer: SMTPResponse, *, expected: int) -> None:
        kind, status = answer.code // 100, _status(answer)
        if kind == expected:
            return
        if kind == 5:
            raise MailRefused("the mail server refused for good", stage=self._stage, code=answer.code, status=status)
        if kind == 4:
            raise MailDeferred("the mail server asks to try later", stage=self._stage, code=answer.code, status=status)
        raise self._unavailable(_NOT_SMTP, answer)

    async def _pour(self, payload: bytes) -> SMTPResponse:
        """Send the text, and only when it is on its way the dot: what is lost before the dot can't have been taken.

        The answer is listened for all the while: a server may refuse halfway.
        """
        protocol = self._client.protocol
        if protocol is None or protocol.transport is None:
            raise SMTPServerDisconnected("lost")
        transport = cast(asyncio.WriteTransport, protocol.transport)
        listening = asyncio.ensure_future(protocol.read_response())
        listening.add_done_callback(lambda task: task.cancelled() or task.exception())
        try:
            for start in range(0, len(payload), _CHUNK):
                protocol.write(payload[start : start + _CHUNK])
                async with asyncio.timeout(self._timeout):
                    await asyncio.sleep(0)
                    while transport.get_write_buffer_size() and not listening.done():  # noqa: ASYNC110
                        await asyncio.sleep(0.01)  # a transport has no event for it
                if listening.done():
                    break
            else:
                protocol.write(b".\r\n")
                self._dotted = True
            async with asyncio.timeout(self._timeout):
                return await listening
        finally:
            listening.cancel()

    def failure(self, error: Exception) -> MailUnavailable:
        """What went wrong below the messages, as one of our errors."""
        cause = error.__cause__ if isinstance(error.__cause__, OSError) else error
        if isinstance(error, SMTPResponseException):
            if not 400 <= error.code <= 599:
                return self._unavailable(_NOT_SMTP)
            login = self._stage is Stage.LOGIN
            sentence = "the mail server refused the login" if login else "the mail server does not serve us now"
            return self._unavailable(sentence, SMTPResponse(error.code, str(error.message)))
        if isinstance(cause, ssl.SSLCertVerificationError):
            return self._unavailable(
                "the certificate of the mail server can't be verified (name the host as the certificate does; "
                "SSL_CERT_FILE names the authorities to trust)"
            )
        if isinstance(cause, ssl.SSLError):
            return self._unavailable("the connection to the mail server could not be encrypted")
        if isinstance(error, TimeoutError):
            return self._unavailable("the mail server did not answer in time")
        if isinstance(cause, socket.gaierror):
            return self._unavailable("the name of the mail server can't be looked up")
        if isinstance(error, OSError):
            if self._stage is Stage.CONNECT:
                return self._unavailable("the mail server can't be reached")
            return self._unavailable("the connection to the mail server was lost")
        if self._stage is Stage.LOGIN:
            return self._unavailable("the mail server offers no login that is known here")
        return self._unavailable(_NOT_SMTP)

    def _unavailable(self, sentence: str, answer: SMTPResponse | None = None) -> MailUnavailable:
        if self._dotted:
            sentence += " after all of the message was sent, which may have been taken"
        code, status = (None, "") if answer is None else (answer.code, _status(answer))
        return MailUnavailable(sentence, stage=self._stage, code=code, status=status, in_doubt=self._dotted)


class _Context(Protocol):
    async def __call__(self) -> ssl.SSLContext: ...


def _status(answer: SMTPResponse) -> str:
    found = _STATUS.match(answer.message)
    return found[0] if found and int(found[1]) == answer.code // 100 else ""
