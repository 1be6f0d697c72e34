"""The wire: finished messages over connections that stay open, and the next server where one is away.

A server that can't be used is set aside for a while, and comes back by itself: one message tries it, and the others
follow when that went well. What a server does wrong is no fault of a recipient.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Sequence
from time import monotonic
from typing import Final

from consentkit.errors import SettingsError
from consentkit.mail.smtp import (
    VERDICT,
    Dial,
    Envelope,
    MailDeferred,
    MailError,
    MailUnavailable,
    Server,
    Session,
    Stage,
    check_servers,
    check_timeout,
    passes,
)

LONGEST: Final = 60.0
"""Seconds that a server is set aside at most; the first time it is one, and each time after twice as many."""

CROWDED: Final = 60.0
"""Seconds for which a server that takes no further connection is not asked for one."""


class Wire:
    """Sends envelopes over pooled connections, within one event loop until `close`.

    Args:
        servers: the first that can be used takes the mail.
        connections: how many may be open at once, and so how many envelopes may be under way.
        timeout: seconds that each answer may take.
        verdict: seconds that the answer for a whole message may take, which the server may examine first.
        idle: seconds after which a connection that nothing goes over is closed.

    Raises:
        SettingsError: there is no server or no connection, or a number of seconds is not more than 0.
    """

    def __init__(
        self,
        servers: Sequence[Server],
        connections: int = 10,
        timeout: float = 30.0,
        *,
        verdict: float = VERDICT,
        idle: float = 20.0,
    ) -> None:
        if connections < 1:
            raise SettingsError(["connections must be at least 1: write 10"], source="mailing.connections")
        self._hosts = [_Host(server, timeout, verdict, connections) for server in check_servers(servers)]
        self._connections = connections
        self._idle = check_timeout(idle, "idle", 20.0)
        self._busy = 0
        self._round = 0
        self._waiting: list[asyncio.Future[None]] = []
        self._leaving: set[asyncio.Future[None]] = set()
        self._sweeper: asyncio.TimerHandle | None = None

    def __repr__(self) -> str:
        return f"Wire({', '.join(repr(str(host.server)) for host in self._hosts)})"

    @property
    def capacity(self) -> int:
        """How many envelopes can be under way at once. Where more are sent, they wait for a place."""
        return self._connections

    @property
    def trouble(self) -> str | None:
        """What is wrong with which server, until a message goes over it again; None where nothing is known to be."""
        return "; ".join(f"{host.server}: {host.trouble}" for host in self._hosts if host.trouble) or None

    def ready_in(self) -> float:
        """Seconds until there is a server to try; 0.0 for now."""
        return min(host.away() for host in self._hosts)

    async def send(self, envelope: Envelope) -> None:
        """Hand one message over, and return when a server answers for it.

        A cancelled send leaves open whether the message was taken.

        Raises:
            MailRefused: 5xx, larger than the server takes, or an address that needs SMTPUTF8 where there is none.
            MailDeferred: 4xx about this message.
            MailUnavailable: no server can be used now; or, with `in_doubt`, all of the message was sent to one and it
                did not answer.
        """
        failure: MailError | None = None
        tried: list[_Host] = []
        while (host := await self._place(tried)) is not None:
            before = host.failures
            try:
                error = await self._over(host, envelope)
            finally:
                self._leave_place(host)
            if error is None:
                return host.well()
            if host.is_crowded(error):
                continue
            if not (isinstance(error, MailUnavailable) or passes(error)):
                host.well()
                raise error
            self._set_aside(host, error, before)
            if not passes(error):
                raise error
            tried.append(host)
            failure = failure if isinstance(failure, MailDeferred) else _blamed(error)
        raise failure or MailUnavailable("no mail server can be used now", stage=Stage.CONNECT)

    async def close(self) -> None:
        """Say goodbye to the servers, for at most two seconds.

        What is being sent goes on, and its connection is closed after it. The wire can be used again.
        """
        self._round += 1
        if self._sweeper is not None:
            self._sweeper.cancel()
            self._sweeper = None
        for host in self._hosts:
            while host.idle:
                self._dismiss(host.idle.pop())
        if self._leaving:
            await asyncio.wait(self._leaving)

    async def _place(self, tried: Collection[_Host]) -> _Host | None:
        """Take a place at the first server that can be used; None if there is none, now or soon.

        A server that was set aside is tried with one message, for which those wait that have no other server.
        """
        while True:
            full = self._busy >= self._connections
            for host in () if full else self._hosts:
                if host in tried or host.away():
                    continue
                if host.busy < host.limit():
                    host.busy += 1
                    self._busy += 1
                    return host
                full = True
                if not host.failures:
                    break
            if not full:
                return None
            waiter = asyncio.get_running_loop().create_future()
            self._waiting.append(waiter)
            await waiter

    def _leave_place(self, host: _Host) -> None:
        host.busy -= 1
        self._busy -= 1
        waiting, self._waiting = self._waiting, []
        for waiter in waiting:
            if not waiter.done():
                waiter.set_result(None)

    async def _over(self, host: _Host, envelope: Envelope) -> MailError | None:
        """Send over a connection of before, if there is one; where that is worn out, over a fresh one."""
        if session := host.take():
            error = await self._converse(host, session, envelope, used=True)
            if error is None or not _worn(error):
                return error
        try:
            session = await host.dial.open(envelope.sender.rpartition("@")[2])
        except MailUnavailable as failure:
            return failure
        return await self._converse(host, session, envelope, used=False)

    async def _converse(self, host: _Host, session: Session, envelope: Envelope, *, used: bool) -> MailError | None:
        here, error = self._round, None
        host.talking += 1
        try:
            await session.send(envelope)
        except MailError as caught:
            error = caught
        finally:
            host.talking -= 1
            worn = used and error is not None and _worn(error)
            if session.ready and not worn and here == self._round:
                self._keep(host, session)
            else:
                self._dismiss(session)
        return error

    def _set_aside(self, host: _Host, error: MailError, before: int) -> None:
        host.set_aside(error, before)
        while host.idle:
            self._dismiss(host.idle.pop())

    # Connections that nothing goes over

    def _keep(self, host: _Host, session: Session) -> None:
        session.idle_since = monotonic()
        host.idle.append(session)
        if self._sweeper is None:
            self._sweeper = asyncio.get_running_loop().call_later(self._idle, self._sweep)

    def _sweep(self) -> None:
        """Close what was not used for long, which is in front."""
        self._sweeper = None
        now = monotonic()
        for host in self._hosts:
            while host.idle and now - host.idle[0].idle_since >= self._idle:
                self._dismiss(host.idle.pop(0))
        if oldest := [host.idle[0].idle_since for host in self._hosts if host.idle]:
            wait = min(oldest) + self._idle - now
            self._sweeper = asyncio.get_running_loop().call_later(wait, self._sweep)

    def _dismiss(self, session: Session) -> None:
        gone = session.leave()
        if not gone.done():
            self._leaving.add(gone)
            gone.add_done_callback(self._leaving.discard)


def _worn(error: MailError) -> bool:
    """Whether an error may be of a connection that was used before, and a fresh one should be asked: it was not taken.

    The server closed it meanwhile, or takes so many messages over a connection (421, or 4xx at MAIL) and no more.
    """
    return passes(error) or (isinstance(error, MailDeferred) and error.stage is Stage.MAIL)


def _blamed(error: MailError) -> MailError:
    """The error, where nobody else took the message: a server that hangs up at MAIL knows of no recipient yet."""
    if error.stage is not Stage.MAIL or isinstance(error, MailUnavailable):
        return error
    sentence = "the mail server does not serve us now"
    return MailUnavailable(sentence, stage=error.stage, code=error.code, status=error.status)


class _Host:
    """One server, the connections to it, and how it fares.

    Attributes:
        idle: the connections that nothing goes over, the one that was used last at the end.
        busy: how many envelopes have a place here.
        talking: how many of those have a connection, too.
        failures: how many times in a row it was set aside.
        trouble: the sentence of the last time.
    """

    def __init__(self, server: Server, timeout: float, verdict: float, connections: int) -> None:
        self.server = server
        self.dial = Dial(server, timeout, verdict)
        self.idle: list[Session] = []
        self.busy = 0
        self.talking = 0
        self.failures = 0
        self.trouble = ""
        self._back_at = 0.0
        self._connections = connections
        self._room = connections
        self._room_until = 0.0

    def away(self) -> float:
        """Seconds until it may be tried; 0.0 for now."""
        return max(0.0, self._back_at - monotonic()) if self.failures else 0.0

    def limit(self) -> int:
        """How many envelopes may have a place here."""
        if self.failures:
            return 1
        if self._room < self._connections and monotonic() >= self._room_until:
            self._room = self._connections
        return self._room

    def take(self) -> Session | None:
        """The connection that was used last, of those that still stand."""
        while self.idle:
            session = self.idle.pop()
            if session.ready:
                return session
            session.close()
        return None

    def is_crowded(self, error: MailError) -> bool:
        """Whether it turned away one connection more than it has already, and not us: we go on with those."""
        standing = self.talking + len(self.idle)
        if error.stage not in (Stage.CONNECT, Stage.HELLO) or error.code is None or not standing:
            return False
        self._room = standing
        self._room_until = monotonic() + CROWDED
        return True

    def well(self) -> None:
        """It heard a message out."""
        if self.failures:
            self.failures, self.trouble = 0, ""

    def set_aside(self, error: MailError, before: int) -> None:
        """Leave it alone for a while, unless it was set aside since the attempt began (after `before` times)."""
        if self.failures != before:
            return
        self.failures += 1
        self.trouble = str(error)
        self._back_at = monotonic() + min(LONGEST, 2.0 ** (self.failures - 1))
