"""The SMTP server that takes a message: how it is reached, spoken with, and what its answers mean.

aiosmtplib connects, encrypts and logs in; what follows is spoken here, message after message on one connection, with
the commands in one packet where the server takes that (RFC 2920). An error says what the server did, in its codes:
never in its words, which quote addresses.
"""

from __future__ import annotations

import asyncio
import re
import socket
import ssl
from collections import deque
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from enum import Enum, StrEnum
from ipaddress import ip_address
from typing import Final, NamedTuple, Protocol, cast
from urllib.parse import urlsplit

from aiosmtplib import SMTP, SMTPException, SMTPHeloError, SMTPResponseException

from consentkit.errors import ConsentKitError, SettingsError
from consentkit.mail.message import Message, is_name

GOODBYE: Final = 2.0
"""Seconds that a server may take to answer QUIT."""

VERDICT: Final = 600.0
"""Seconds that a server may take to answer for a whole message, which it examines first (RFC 5321 section 4.5.3.2.6).

Who hangs up sooner does not know whether it was taken."""

_CHUNK: Final = 64 * 1024
_FLOOD: Final = 32 * 1024
"""Octets of a line that no server has a reason to say."""

_MANY: Final = 100
"""Answers to nothing that no server has a reason to give."""

_END: Final = b"\r\n"
_CODE = re.compile(rb"([2-5]\d\d)([- \r]|\Z)")
_STATUS = re.compile(rb"([245])\.\d{1,3}\.\d{1,3}(?!\S)")
_UNFIT = re.compile(r"[\x00-\x20<>\x7f\ud800-\udfff]")
_NO_XTEXT = re.compile(r"[^!-~]|[+=]")


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


def passes(error: MailError) -> bool:
    """Whether an error is the server's, not the message's, so that another server may be asked: it was not taken.

    After 421 a server hangs up (RFC 5321 section 3.8), whatever it was asked.
    """
    return error.code == 421 or (isinstance(error, MailUnavailable) and not error.in_doubt)


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


@dataclass(frozen=True, slots=True, repr=False)
class Envelope:
    """A message as it goes over the wire, and between whom. Shown or logged it tells neither.

    Args:
        sender: the address that a bounce comes back to; empty for none (RFC 5321 section 4.5.5).
        to: the address of the recipient, its domain in ASCII.
        payload: the whole message, its lines ended by CRLF; the dots of SMTP are put in here.
        smtputf8: whether an address in it is not ASCII, so that only a server with SMTPUTF8 can take it (RFC 6531).
        envid: what a server with DSN gives back in a bounce (RFC 3461 section 4.4); at most 100 characters as spelled.

    Raises:
        ValueError: an address or the id can't be put in a command; the sentence names which, never its value.
    """

    sender: str
    to: str
    payload: bytes
    smtputf8: bool = False
    envid: str = ""

    def __post_init__(self) -> None:
        for name, value in (("sender", self.sender), ("to", self.to)):
            if _UNFIT.search(value) or not (self.smtputf8 or value.isascii()):
                raise ValueError(f"{name} must be a bare address, in ASCII unless smtputf8 is set")
        if not self.envid.isascii() or len(_xtext(self.envid)) > 100:
            raise ValueError("envid must be at most 100 characters of ASCII")


def _xtext(text: str) -> str:
    """A text as an option of a command (RFC 3461 section 4)."""
    return _NO_XTEXT.sub(lambda found: f"+{ord(found[0]):02X}", text)


@dataclass(frozen=True, slots=True, repr=False)
class Server:
    """A mail server, and how it is logged in to.

    Args:
        url: `smtp://host:port`, by default port 587, or `smtps://host:port`, by default 465.
        user: whom to log in as; empty for no login.
        password: what belongs to it.

    Raises:
        SettingsError: the url can't be used, or user and password don't go together.
    """

    url: str
    user: str = ""
    password: str = ""
    host: str = field(init=False)
    port: int = field(init=False)
    encryption: Encryption = field(init=False)

    def __post_init__(self) -> None:
        scheme, host, port = _server(self.url)
        if bool(self.user) != bool(self.password):
            raise SettingsError(["user and password belong together: give both, or neither"], source="mail.smtp")
        object.__setattr__(self, "host", host)
        object.__setattr__(self, "port", port)
        object.__setattr__(self, "encryption", encryption(scheme, host, password=bool(self.password)))

    def __repr__(self) -> str:
        return f"Server('{self}')"

    def __str__(self) -> str:
        scheme = "smtps" if self.encryption is Encryption.FROM_THE_START else "smtp"
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{scheme}://{host}:{self.port}"


def check_servers(servers: Sequence[Server]) -> Sequence[Server]:
    """The servers.

    Raises:
        SettingsError: there is none.
    """
    if not servers:
        raise SettingsError([f"there is no mail server: the url {_WRITE}"], source="mail.smtp")
    return servers


def check_timeout(seconds: float, name: str = "timeout", usual: float = 30.0) -> float:
    """The seconds that something may take.

    Raises:
        SettingsError: they are not more than 0.
    """
    if not seconds > 0:
        raise SettingsError([f"{name} must be more than 0 seconds: write {usual:.0f}"], source="mail.smtp")
    return seconds


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


_WRITE: Final = "must be as in smtp://mail.example:587 or smtps://mail.example:465"


def _is_host(host: str) -> bool:
    if is_name(host):
        return True
    try:
        ip_address(host)
    except ValueError:
        return False
    return True


class Dial:
    """How one server is reached.

    Certificates are verified, but for STARTTLS with a server on this very machine, which encrypts nothing for nobody.

    Args:
        server: which.
        timeout: seconds that each answer may take.
        verdict: seconds that the answer for a whole message may take.
    """

    def __init__(self, server: Server, timeout: float, verdict: float = VERDICT) -> None:
        self._server = server
        self._timeout = check_timeout(timeout)
        self._verdict = check_timeout(verdict, "verdict", VERDICT)
        self._context: ssl.SSLContext | None = None

    async def open(self, name: str) -> Session:
        """Connect, greet, encrypt and log in.

        Args:
            name: who we say we are: the domain of the sender, which relays that go by domain want to hear.

        Raises:
            MailUnavailable: no connection, no encryption, no login, or no answer in time.
        """
        client = _Client(
            hostname=self._server.host,
            port=self._server.port,
            local_hostname=name or None,
            timeout=self._timeout,
            start_tls=False,
        )
        opening = _Opening(self._server, client, self._tls_context)
        try:
            await opening.run()
            return Session(client.hand_over(), client.esmtp_extensions, self._timeout, self._verdict)
        except (SMTPException, OSError) as error:
            failure = _failure(error, opening.stage)
        finally:
            client.close()
        raise failure  # here, so that the server's words don't hang on as the context

    async def _tls_context(self) -> ssl.SSLContext:
        if self._context is None:
            context = await asyncio.to_thread(ssl.create_default_context)
            if self._server.encryption is Encryption.WHEN_OFFERED and is_loopback(self._server.host):
                # A mail server on this machine has a certificate for its public name, if not one it made itself.
                context.check_hostname = False
                context.verify_mode = ssl.CERT_NONE
            self._context = context
        return self._context


class _Client(SMTP):
    def hand_over(self) -> asyncio.Transport:
        """The connection, which is somebody else's from now on."""
        transport, self.transport = self.transport, None
        if transport is None:
            raise ConnectionResetError
        return cast(asyncio.Transport, transport)

    def close(self) -> None:
        """Let go of the connection at once: a server that went silent would keep TLS waiting for its goodbye."""
        transport = self.transport
        super().close()
        if transport is not None:
            cast(asyncio.WriteTransport, transport).abort()


class _Context(Protocol):
    async def __call__(self) -> ssl.SSLContext: ...


class _Opening:
    """One connection up to the login."""

    def __init__(self, server: Server, client: _Client, context: _Context) -> None:
        self._server = server
        self._client = client
        self._context = context
        self.stage = Stage.CONNECT

    async def run(self) -> None:
        wanted = self._server.encryption
        if wanted is Encryption.FROM_THE_START:
            await self._client.connect(use_tls=True, tls_context=await self._context())
        else:
            await self._client.connect()
        await self._hello()
        if wanted is not Encryption.FROM_THE_START:
            await self._encrypt(wanted)
        if self._server.user:
            self.stage = Stage.LOGIN
            await self._client.login(self._server.user, self._server.password)

    async def _hello(self) -> None:
        self.stage = Stage.HELLO
        try:
            await self._client.ehlo()
        except SMTPHeloError as error:
            if error.code // 100 != 5:
                raise
            await self._client.helo()

    async def _encrypt(self, wanted: Encryption) -> None:
        self.stage = Stage.TLS
        if self._client.supports_extension("starttls"):
            await self._client.starttls(tls_context=await self._context())
            await self._hello()
        elif wanted is Encryption.REQUIRED:
            raise MailUnavailable(
                "the mail server offers no encryption, and a password is not sent in clear", stage=self.stage
            )


_NOT_SMTP: Final = "the mail server does not do what SMTP says"
_LOST: Final = "the connection to the mail server was lost"
_LATE: Final = "the mail server did not answer in time"


def _failure(error: Exception, stage: Stage) -> MailUnavailable:
    """What went wrong before there was a message to speak of, as one of our errors."""
    cause = error.__cause__ if isinstance(error.__cause__, OSError) else error
    if isinstance(error, SMTPResponseException) and 400 <= error.code <= 599:
        login = stage is Stage.LOGIN
        sentence = "the mail server refused the login" if login else "the mail server does not serve us now"
        status = _Answer(error.code, str(error.message).encode(errors="replace")).status
        return MailUnavailable(sentence, stage=stage, code=error.code, status=status)
    return MailUnavailable(_sentence(error, cause, stage), stage=stage)


def _sentence(error: Exception, cause: Exception, stage: Stage) -> str:
    if isinstance(error, SMTPResponseException):
        return _NOT_SMTP
    if isinstance(cause, ssl.SSLCertVerificationError):
        return (
            "the certificate of the mail server can't be verified (name the host as the certificate does; "
            "SSL_CERT_FILE names the authorities to trust)"
        )
    if isinstance(cause, ssl.SSLError):
        return "the connection to the mail server could not be encrypted"
    if isinstance(error, TimeoutError):
        return _LATE
    if isinstance(cause, socket.gaierror):
        return "the name of the mail server can't be looked up"
    if isinstance(error, OSError):
        return "the mail server can't be reached" if stage is Stage.CONNECT else _LOST
    return "the mail server offers no login that is known here" if stage is Stage.LOGIN else _NOT_SMTP


class _Answer(NamedTuple):
    """What a server answered.

    Attributes:
        code: three digits; 0 where it was no answer as SMTP has them.
        text: the first line, without its code.
    """

    code: int
    text: bytes

    @property
    def status(self) -> str:
        """The enhanced status code (RFC 2034), `5.1.1`; empty where there is none, or one of another kind."""
        found = _STATUS.match(self.text)
        return found[0].decode() if found and int(found[1]) == self.code // 100 else ""


class _Step(NamedTuple):
    """A command, and the first digit of the answer that lets us go on."""

    stage: Stage
    command: bytes
    expected: int


class Session(asyncio.Protocol):
    """A greeted and logged-in connection, for one message after another.

    Args:
        transport: the connection.
        extensions: what the server offers, by its name in small letters.
        timeout: seconds that each answer may take, or 64 kB of a text.
        verdict: seconds that the answer for a whole message may take.

    Attributes:
        idle_since: for who keeps it.
    """

    def __init__(
        self, transport: asyncio.Transport, extensions: Mapping[str, str], timeout: float, verdict: float = VERDICT
    ) -> None:
        self.idle_since = 0.0
        self._transport = transport
        self._extensions = extensions
        self._timeout = timeout
        self._verdict = verdict
        self._at_once = "pipelining" in extensions
        self._loop = asyncio.get_running_loop()
        self._buffer = b""
        self._first: bytes | None = None
        self._answers: deque[_Answer] = deque()
        self._waiter: asyncio.Future[None] | None = None
        self._deadline = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._late = False
        self._full = False
        self._lost = False
        self._leaving = False
        self._gone = self._loop.create_future()
        self._stage = Stage.CONNECT
        self._dotted = False
        self._in_step = True
        self._begun = False
        self._encrypted = transport.get_extra_info("sslcontext") is not None
        # Whoever writes is told whenever not all of it is out of our hands. TLS counts 0 octets as too many (CPython).
        transport.set_write_buffer_limits(high=1 if self._encrypted else 0, low=0)
        transport.set_protocol(self)

    @property
    def ready(self) -> bool:
        """Whether another message may go over it: nothing is under way, and the server has not spoken unasked."""
        unasked = self._answers or self._buffer or self._first is not None
        return self._in_step and not (self._lost or self._leaving or unasked or self._transport.is_closing())

    async def send(self, envelope: Envelope) -> None:
        """Hand one message over; return when the server answers for it.

        Raises:
            MailRefused: 5xx, larger than the server takes, or an address that needs SMTPUTF8 where there is none.
            MailDeferred: 4xx.
            MailUnavailable: no answer in time, none as SMTP has them, or the connection was lost.
        """
        self._stage, self._dotted = Stage.MAIL, False
        steps = self._steps(envelope)
        self._in_step = False
        await self._ask(steps)
        answer = await self._pour(envelope.payload)
        if not self._dotted and answer.code < 400:
            raise self._unavailable(_NOT_SMTP, answer)
        self._in_step = self._dotted and answer.code != 421  # after which the server hangs up (RFC 5321 section 3.8)
        if problem := self._problem(answer, expected=2):
            raise problem
        self._begun = False

    def leave(self) -> asyncio.Future[None]:
        """Say goodbye, where that makes sense, and hang up at the answer or after two seconds.

        Returns:
            What is done when the connection is gone. It need not be waited for, but the loop must go on till then.
        """
        if self.ready:
            self._leaving = True
            self._transport.write(b"QUIT\r\n")
            self._disarm()
            self._timer = self._loop.call_later(min(self._timeout, GOODBYE), self.close)
        else:
            self.close()
        return self._gone

    def close(self) -> None:
        """Hang up at once."""
        self._in_step = False
        self._disarm()
        self._transport.abort()

    # What is said

    def _steps(self, envelope: Envelope) -> list[_Step]:
        """The commands up to the text. One that is refused leaves a transaction, which RSET ends: only then is it said.

        Raises:
            MailRefused: this server can't take this message, and need not be asked.
        """
        sender = " ".join([f"MAIL FROM:<{envelope.sender}>", *self._options(envelope)])
        recipient = f"RCPT TO:<{envelope.to}>" + (" NOTIFY=FAILURE" if "dsn" in self._extensions else "")
        steps = [
            _Step(Stage.MAIL, sender.encode() + _END, 2),
            _Step(Stage.RCPT, recipient.encode() + _END, 2),
            _Step(Stage.DATA, b"DATA\r\n", 3),
        ]
        return [_Step(Stage.MAIL, b"RSET\r\n", 2), *steps] if self._begun else steps

    def _options(self, envelope: Envelope) -> list[str]:
        extensions, size, options = self._extensions, len(envelope.payload), []
        if "size" in extensions:
            limit = extensions["size"].strip()
            if limit.isdecimal() and 0 < int(limit) < size:
                raise MailRefused("the message is larger than the mail server takes", stage=self._stage, status="5.3.4")
            options.append(f"SIZE={size}")
        if envelope.smtputf8:
            if "smtputf8" not in extensions:
                raise MailRefused(
                    "an address has letters that the mail server can't take, as it has no SMTPUTF8",
                    stage=self._stage,
                    status="5.6.7",
                )
            options += ["BODY=8BITMIME", "SMTPUTF8"]
        elif "8bitmime" in extensions and not envelope.payload.isascii():
            options.append("BODY=8BITMIME")
        if "dsn" in extensions:
            options.append("RET=HDRS")
            if envelope.envid:
                options.append(f"ENVID={_xtext(envelope.envid)}")
        return options

    async def _ask(self, steps: Sequence[_Step]) -> None:
        """Everything up to the text, at once where the server takes that."""
        self._begun = True
        if self._at_once:
            self._write(b"".join([step.command for step in steps]))
        for number, step in enumerate(steps, start=1):
            self._stage = step.stage
            if not self._at_once:
                self._write(step.command)
            answer = await self._answer()
            problem = self._problem(answer, step.expected)
            if problem is None:
                continue
            if isinstance(problem, (MailRefused, MailDeferred)) and answer.code != 421:
                await self._retreat(steps[number:] if self._at_once else (), refused=step.stage)
            raise problem

    async def _retreat(self, unheard: Sequence[_Step], *, refused: Stage) -> None:
        """Hear the answers to what was asked along with what was refused, so that the connection can be used again.

        A server may want a text though it refused the only recipient. A lone dot ends it, and reaches nobody
        (RFC 2920 section 3.1).
        """
        for step in unheard:
            if not (answer := await self._answer_if_any()):
                return
            if step.stage is Stage.DATA and answer.code // 100 == 3:
                if refused is not Stage.RCPT:
                    return
                self._write(b".\r\n")
                if not await self._answer_if_any():
                    return
        self._in_step = True

    async def _answer_if_any(self) -> _Answer | None:
        try:
            return await self._answer()
        except MailUnavailable:
            return None

    async def _pour(self, text: bytes) -> _Answer:
        """Send the text. What is lost before the dot is out of our hands can't have been taken.

        The answer is listened for all the while: a server may refuse halfway.
        """
        if b"\n." in text or text.startswith(b"."):
            text = text.replace(b"\n.", b"\n..")
            text = b"." + text if text.startswith(b".") else text
        text += b".\r\n" if text.endswith(b"\r\n") else b"\r\n.\r\n"
        for start in range(0, len(text), _CHUNK):
            if start:
                await asyncio.sleep(0)  # to hear what was answered meanwhile
            if self._answers:
                return self._answers.popleft()
            self._write(text[start : start + _CHUNK])
            while self._full:
                await self._news()
                if self._answers:
                    return self._answers.popleft()
        self._dotted = not self._transport.is_closing()
        return await self._answer()

    def _problem(self, answer: _Answer, expected: int) -> MailError | None:
        kind = answer.code // 100
        if kind == expected:
            return None
        if kind == 5:
            sentence = "the mail server refused for good"
            return MailRefused(sentence, stage=self._stage, code=answer.code, status=answer.status)
        if kind == 4:
            sentence = "the mail server asks to try later"
            return MailDeferred(sentence, stage=self._stage, code=answer.code, status=answer.status)
        return self._unavailable(_NOT_SMTP, answer)

    def _unavailable(self, sentence: str, answer: _Answer | None = None) -> MailUnavailable:
        if self._dotted:
            sentence += " after all of the message was sent, which may have been taken"
        code, status = (answer.code, answer.status) if answer and answer.code else (None, "")
        return MailUnavailable(sentence, stage=self._stage, code=code, status=status, in_doubt=self._dotted)

    # How it goes to and fro

    def _write(self, data: bytes) -> None:
        if self._lost:
            raise self._unavailable(_LOST)
        self._transport.write(data)

    async def _answer(self) -> _Answer:
        while not self._answers:
            await self._news()
        return self._answers.popleft()

    async def _news(self) -> None:
        """Wait until an answer is in or all that was written is out, as long as one answer may take.

        One timer serves a whole connection: it looks at the deadline when it goes off, and is set anew if that moved.
        """
        if self._lost:
            raise self._unavailable(_LOST)
        self._deadline = self._loop.time() + (self._verdict if self._dotted else self._timeout)
        if self._timer is not None and self._timer.when() > self._deadline:  # it was set for a verdict
            self._disarm()
        if self._timer is None:
            self._timer = self._loop.call_at(self._deadline, self._ring)
        self._waiter = self._loop.create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None
        if self._late:
            raise self._unavailable(_LATE)

    def _ring(self) -> None:
        self._timer = None
        if self._waiter is None:
            return
        if self._loop.time() < self._deadline:
            self._timer = self._loop.call_at(self._deadline, self._ring)
            return
        self._late = True
        self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _disarm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    # What asyncio calls

    def data_received(self, data: bytes) -> None:
        """Take answers apart: lines of a code and a text, with a hyphen between them where more lines follow."""
        if self._leaving:
            self.close()
            return
        *lines, self._buffer = (self._buffer + data).split(b"\n")
        for line in lines:
            if self._first is None:
                self._first = line
            known = _CODE.match(line)
            if known and known[2] == b"-":
                continue
            self._answers.append(_Answer(int(known[1]) if known else 0, self._first[4:]))
            self._first = None
        if len(self._buffer) > _FLOOD or len(self._answers) > _MANY:
            self.close()
        elif self._answers:
            self._wake()

    def eof_received(self) -> None:
        """The server hung up. What is not out of our hands yet stays here: nobody would answer for it."""
        self._transport.abort()

    def pause_writing(self) -> None:
        """Not all that was written is on its way."""
        self._full = True

    def resume_writing(self) -> None:
        """All that was written is on its way."""
        self._full = False
        self._wake()

    def connection_lost(self, exc: Exception | None) -> None:
        """It is over, but for what the server said before it hung up on us, while we were writing."""
        if exc is not None and not self._encrypted:
            with suppress(OSError, ValueError), self._transport.get_extra_info("socket").dup() as connection:
                connection.setblocking(False)
                self.data_received(connection.recv(_FLOOD))
        self._lost = True
        self._full = False
        self._disarm()
        self._wake()
        if not self._gone.done():
            self._gone.set_result(None)


class SMTPMailer:
    """Sends through an SMTP server, one connection a message.

    Args:
        url: `smtp://host:port`, by default port 587, or `smtps://host:port`, by default 465. Or several: the next one
            is asked where the one before it can't be used.
        user: whom to log in as; empty for no login.
        password: what belongs to it.
        timeout: seconds that each answer may take.
        verdict: seconds that the answer for a whole message may take, which the server may examine first.

    Raises:
        SettingsError: a url can't be used, there is none, or user and password don't go together.
    """

    def __init__(
        self,
        url: str | Sequence[str],
        *,
        user: str = "",
        password: str = "",
        timeout: float = 30.0,
        verdict: float = VERDICT,
    ) -> None:
        urls = (url,) if isinstance(url, str) else url
        self._servers = check_servers([Server(each, user, password) for each in urls])
        self.host, self.port = self._servers[0].host, self._servers[0].port
        self._timeout = check_timeout(timeout)
        self._dials = [Dial(server, timeout, verdict) for server in self._servers]

    def __repr__(self) -> str:
        return f"SMTPMailer({', '.join(repr(str(server)) for server in self._servers)})"

    async def send(self, message: Message) -> None:
        """Send it. A cancelled send leaves open whether the message was taken.

        Raises:
            MailRefused: 5xx, larger than the server takes, or an address that needs SMTPUTF8 where there is none.
            MailDeferred: 4xx.
            MailUnavailable: no connection, no encryption, no login, no answer in time, or the connection was lost.
        """
        envelope = Envelope(message.sender_address, message.to, message.as_bytes(), message.needs_smtputf8)
        for dial in self._dials[:-1]:
            try:
                return await self._send(dial, envelope)
            except MailError as error:
                if not passes(error):
                    raise
        await self._send(self._dials[-1], envelope)

    async def _send(self, dial: Dial, envelope: Envelope) -> None:
        session = await dial.open(envelope.sender.rpartition("@")[2])
        try:
            await session.send(envelope)
            await session.leave()
        finally:
            session.close()
