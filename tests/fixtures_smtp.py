"""A mailbox for the tests: a real SMTP server on a free port of this machine, that can be told to misbehave."""

from __future__ import annotations

import asyncio
import email
import email.policy
import logging
import ssl
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from email.message import EmailMessage
from typing import Any, Self

import pytest
from aiosmtpd.smtp import SMTP, AuthResult, LoginPassword
from aiosmtpd.smtp import Envelope as Transaction


@dataclass(frozen=True)
class Envelope:
    """Who a message came from and goes to, as told to the server, with the options of MAIL."""

    mail_from: str
    rcpt_tos: list[str]
    options: list[str]


class Mailbox:
    """What arrived, and how the server behaves. Each setting holds from the next connection or command on.

    Attributes:
        url: where it listens, `smtp://127.0.0.1:PORT` or `smtps://…`.
        messages, raw, envelopes: of each message what it says (its lines ended by a bare newline), its bytes, and who
            it came from and went to.
        commands: the verbs that clients sent.
        logins: the users and passwords that clients gave.
        encrypted: for each message, whether it came over TLS.
        reply: answers a verb (`EHLO`, `AUTH`, `MAIL`, `RCPT`, `DATA`, or `.` for the end of a message) with this line
            instead of doing it: `reply["RCPT"] = "550 5.1.1 no such user"`.
        drop: the connection is cut at this verb, unanswered; at `TEXT` within the message, before its end.
        slow: seconds to wait before answering a verb.
        smtputf8, size, tls, pipelining: what is offered; a `size` of `None` and a `tls` of `None` are not.
        login: the only user and password that are let in; `None` lets all in.
    """

    def __init__(self, *, implicit_tls: ssl.SSLContext | None = None) -> None:
        self.url = ""
        self.messages: list[EmailMessage] = []
        self.raw: list[bytes] = []
        self.envelopes: list[Envelope] = []
        self.commands: list[str] = []
        self.logins: list[tuple[str, str]] = []
        self.encrypted: list[bool] = []
        self.reply: dict[str, str] = {}
        self.drop = ""
        self.slow: dict[str, float] = {}
        self.smtputf8 = True
        self.size: int | None = 32 * 1024 * 1024
        self.tls: ssl.SSLContext | None = None
        self.pipelining = False
        self.login: tuple[str, str] | None = None
        self.connections: set[_Server] = set()
        self._implicit_tls = implicit_tls
        self._arrived = threading.Condition()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()), name="mailbox", daemon=True)

    def __enter__(self) -> Self:
        log = logging.getLogger("mail.log")  # the server's own: it tells addresses, which tests look for in the log
        self._log_state = log.disabled
        log.disabled = True
        self._thread.start()
        if not self._ready.wait(10):
            raise TimeoutError("the mailbox did not start")
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(10)
        logging.getLogger("mail.log").disabled = self._log_state
        if self._thread.is_alive():
            raise TimeoutError("the mailbox did not stop")

    def wait(self, n: int, timeout: float = 10) -> list[EmailMessage]:
        """The messages, once at least `n` arrived."""
        with self._arrived:
            if not self._arrived.wait_for(lambda: len(self.messages) >= n, timeout):
                raise TimeoutError(f"{len(self.messages)} of {n} messages arrived in {timeout} seconds")
            return list(self.messages)

    def wait_idle(self, timeout: float = 10) -> None:
        """Return once no client is connected."""
        end = time.monotonic() + timeout
        while self.connections:
            if time.monotonic() > end:
                raise TimeoutError(f"{len(self.connections)} connections are still open after {timeout} seconds")
            time.sleep(0.01)

    def hang_up(self) -> None:
        """Cut every connection, with nothing said."""
        for connection in list(self.connections):
            self._loop.call_soon_threadsafe(connection.cut)

    def take(self, transaction: Transaction, *, encrypted: bool) -> None:
        """Keep what arrived."""
        raw = bytes(transaction.original_content or b"")
        parsed = email.message_from_bytes(raw.replace(b"\r\n", b"\n"), policy=email.policy.default)
        assert isinstance(parsed, EmailMessage)
        with self._arrived:
            self.raw.append(raw)
            self.envelopes.append(
                Envelope(transaction.mail_from or "", list(transaction.rcpt_tos), list(transaction.mail_options))
            )
            self.encrypted.append(encrypted)
            self.messages.append(parsed)
            self._arrived.notify_all()

    async def _serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._stop = asyncio.Event()
        server = await self._loop.create_server(
            lambda: _Server(self, self._loop), "127.0.0.1", 0, ssl=self._implicit_tls
        )
        scheme = "smtps" if self._implicit_tls else "smtp"
        self.url = f"{scheme}://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        self._ready.set()
        await self._stop.wait()
        server.close()
        for connection in list(self.connections):
            connection.cut()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)
        await asyncio.sleep(0)  # the transports say goodbye


class _Server(SMTP):
    """One connection, that does as its mailbox says."""

    def __init__(self, mailbox: Mailbox, loop: asyncio.AbstractEventLoop) -> None:
        self._mailbox = mailbox
        super().__init__(
            _Handler(mailbox),
            loop=loop,
            hostname="mail.test",
            ident="mailbox",
            enable_SMTPUTF8=mailbox.smtputf8,
            data_size_limit=mailbox.size,
            tls_context=mailbox.tls,
            auth_require_tls=False,
            authenticator=self._let_in,
        )

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._mailbox.connections.add(self)
        super().connection_made(transport)

    def connection_lost(self, error: Exception | None) -> None:
        self._mailbox.connections.discard(self)
        if self.session is not None:
            super().connection_lost(error)

    def cut(self) -> None:
        """End the connection at once, with nothing said."""
        if isinstance(self.transport, asyncio.Transport):
            self.transport.abort()

    def _let_in(self, server: Any, session: Any, transaction: Any, mechanism: str, data: Any) -> AuthResult:
        assert isinstance(data, LoginPassword)
        login = (data.login.decode(), data.password.decode())
        self._mailbox.logins.append(login)
        return AuthResult(success=self._mailbox.login in (None, login), handled=False)

    async def misbehave(self, verb: str) -> str:
        """The answer that stands in for the verb's own; empty if there is none."""
        self._mailbox.commands.append(verb)
        await asyncio.sleep(self._mailbox.slow.get(verb, 0))
        if self._mailbox.drop == verb:
            self.cut()
            await asyncio.Event().wait()  # until the loss of the connection ends this task
        return self._mailbox.reply.get(verb, "")

    async def _handle_client(self) -> None:
        try:
            answer = await self.misbehave("CONNECT")
        except asyncio.CancelledError:
            self.cut()
            raise
        if answer:
            await self.push(answer)
            self.cut()
            return
        await super()._handle_client()

    async def smtp_EHLO(self, hostname: str) -> None:
        if answer := await self.misbehave("EHLO"):
            return await self.push(answer)
        await super().smtp_EHLO(hostname)

    async def smtp_HELO(self, hostname: str) -> None:
        if answer := await self.misbehave("HELO"):
            return await self.push(answer)
        await super().smtp_HELO(hostname)

    async def smtp_STARTTLS(self, arg: str) -> None:
        if answer := await self.misbehave("STARTTLS"):
            return await self.push(answer)
        await super().smtp_STARTTLS(arg)

    async def smtp_AUTH(self, arg: str) -> None:
        if answer := await self.misbehave("AUTH"):
            return await self.push(answer)
        await super().smtp_AUTH(arg)

    async def smtp_MAIL(self, arg: str | None) -> None:
        if answer := await self.misbehave("MAIL"):
            return await self.push(answer)
        await super().smtp_MAIL(arg)

    async def smtp_RCPT(self, arg: str | None) -> None:
        if answer := await self.misbehave("RCPT"):
            return await self.push(answer)
        await super().smtp_RCPT(arg)

    async def smtp_DATA(self, arg: str) -> None:
        if answer := await self.misbehave("DATA"):
            return await self.push(answer)
        if self._mailbox.drop == "TEXT" or "TEXT" in self._mailbox.reply:
            await self.push("354 go ahead")
            await self._reader.readline()
            return await self.push(await self.misbehave("TEXT"))
        await super().smtp_DATA(arg)

    async def smtp_QUIT(self, arg: str) -> None:
        if answer := await self.misbehave("QUIT"):
            return await self.push(answer)
        await super().smtp_QUIT(arg)


class _Handler:
    def __init__(self, mailbox: Mailbox) -> None:
        self._mailbox = mailbox

    async def handle_EHLO(
        self, server: _Server, session: Any, transaction: Transaction, hostname: str, offers: list[str]
    ) -> list[str]:
        session.host_name = hostname
        return [*offers[:-1], "250-PIPELINING", offers[-1]] if self._mailbox.pipelining else offers

    async def handle_DATA(self, server: _Server, session: Any, transaction: Transaction) -> str:
        if answer := await server.misbehave("."):
            return answer
        self._mailbox.take(transaction, encrypted=session.ssl is not None)
        return "250 2.0.0 taken"


@pytest.fixture
def mailbox() -> Iterator[Mailbox]:
    """A mail server of our own, with an empty mailbox."""
    with Mailbox() as mailbox:
        yield mailbox
