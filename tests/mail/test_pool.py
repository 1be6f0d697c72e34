"""Pooled connections against real SMTP servers: what goes over them, what each fault comes to, and who stands in."""

from __future__ import annotations

import asyncio
import logging
import random
import re
import socket
import ssl
import time
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any, Final

import pytest
import trustme

from consentkit.errors import SettingsError
from consentkit.mail import (
    Envelope,
    MailDeferred,
    MailError,
    MailRefused,
    MailUnavailable,
    Server,
    SMTPMailer,
    Wire,
    pool,
)
from consentkit.mail.smtp import VERDICT, Dial, Session
from tests.fixtures_smtp import Mailbox
from tests.mail.test_mail import MESSAGE

PAYLOAD: Final = b"Subject: Nieuws\r\nMessage-ID: <7.1@delinde.example>\r\n\r\nhet caf=C3=A9 is open.\r\n"
LETTER: Final = Envelope("nieuws@delinde.example", "sanne.jansen@lezer.example", PAYLOAD)
LARGE: Final = Envelope("nieuws@delinde.example", "sanne.jansen@lezer.example", (b"x" * 76 + b"\r\n") * 100_000)
SECRETS = ("sanne", "jansen", "lezer.example", "nieuws@", "geheim", "TELLTALE")


@pytest.fixture(autouse=True)
def _nothing_personal_is_logged(caplog: pytest.LogCaptureFixture) -> Any:
    caplog.set_level(logging.DEBUG)
    yield
    assert not [secret for secret in SECRETS if secret in caplog.text]


class Clock:
    """The wire's clock, which a test can put forward."""

    def __init__(self) -> None:
        self.ahead = 0.0

    def __call__(self) -> float:
        return time.monotonic() + self.ahead


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(pool, "monotonic", clock)
    return clock


CUT: Final = "cut"
HANG: Final = "hang"
LOSE: Final = "250 taken, and then the connection is cut before this is said"
Say = Callable[[str, int, int], str | None]


class Sink:
    """A server of a few lines within the loop of the test.

    Args:
        offers: what it says to EHLO.
        say: the answer to a verb (`CONNECT`, `.` for the end of a message), on the how manieth connection and at the
            how manieth message on it; `CUT`, `HANG`, `LOSE`, or None for what a good server says.

    Attributes:
        packets: what came in, of each connection, as it came.
        taken: the texts that it answered for.
    """

    def __init__(self, *offers: str, say: Say = lambda *_: None) -> None:
        self.url = ""
        self.offers = offers
        self.say = say
        self.packets: list[list[str]] = []
        self.taken: list[bytes] = []
        self.writers: set[asyncio.StreamWriter] = set()

    async def __aenter__(self) -> Sink:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.url = f"smtp://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for writer in list(self.writers):
            writer.transport.abort()
        while self.writers:  # noqa: ASYNC110
            await asyncio.sleep(0)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.writers.add(writer)
        try:
            await self._talk(reader, writer)
        except (ConnectionError, asyncio.CancelledError):
            pass
        finally:
            writer.transport.abort()
            self.writers.discard(writer)

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.packets.append([])
        number, message, text, buffer = len(self.packets), 0, False, b""
        await self._answer(writer, "CONNECT", number, message)
        while packet := await reader.read(1 << 16):
            self.packets[number - 1].append(packet.decode())
            buffer += packet
            while True:
                if text:
                    if (end := (b"\r\n" + buffer).find(b"\r\n.\r\n")) < 0:
                        break
                    whole, buffer, text = buffer[:end], buffer[end + 3 :], False
                    if (await self._answer(writer, ".", number, message)).startswith("250"):
                        self.taken.append(whole)
                    continue
                line, found, rest = buffer.partition(b"\r\n")
                if not found:
                    break
                buffer, verb = rest, line[:4].decode()
                message += verb == "MAIL"
                text = (await self._answer(writer, verb, number, message)).startswith("354")

    async def _answer(self, writer: asyncio.StreamWriter, verb: str, number: int, message: int) -> str:
        offers = [f"250-{offer}\r\n" for offer in self.offers]
        usual = {"CONNECT": "220 sink", "EHLO": f"{''.join(offers)}250 HELP", "DATA": "354 go", "QUIT": "221 bye"}
        answer = self.say(verb, number, message) or usual.get(verb, "250 2.0.0 ok")
        if answer == HANG:
            await asyncio.Event().wait()
        if answer == CUT:
            raise ConnectionAbortedError
        if answer == LOSE:
            writer.transport.abort()
            return answer
        writer.write(f"250-sink\r\n{answer}\r\n".encode() if verb == "EHLO" else f"{answer}\r\n".encode())
        if answer.startswith(("421", "221")):
            await writer.drain()
            raise ConnectionAbortedError
        return answer

    @property
    def commands(self) -> list[list[str]]:
        """The verbs on each connection, of messages the dot only."""
        talks = ["".join(packets) for packets in self.packets]
        bare = [re.sub(r"(?s)(?<=DATA\r\n)(?!\.\r\n).*?\r\n(?=\.\r\n)", "", talk) for talk in talks]
        return [[line[:4] for line in talk.split("\r\n") if line] for talk in bare]


def run(test: Coroutine[Any, Any, None]) -> None:
    """Run a test, which leaves no task behind."""

    async def tidily() -> None:
        await test
        await asyncio.sleep(0)
        assert asyncio.all_tasks() == {asyncio.current_task()}

    asyncio.run(tidily())


def wire_to(*urls: str, **options: Any) -> Wire:
    return Wire([Server(url) for url in urls], **options)


Outcome = tuple[type[MailError], str, bool]


async def outcome(wire: Wire, envelope: Envelope = LETTER) -> Outcome | None:
    """What sending came to: None where it was taken. It says nothing that it should not, also in its traceback."""
    try:
        await wire.send(envelope)
    except MailError as error:
        told = str(error) + str(vars(error))
        assert not [secret for secret in SECRETS if secret in told]
        assert (error.__context__, error.__cause__) == (None, None)  # noqa: PT017
        return type(error), str(error), getattr(error, "in_doubt", False)
    return None


def socket_of(session: Session) -> Any:
    return session._transport.get_extra_info("socket")


def words(text: str) -> list[str]:
    return text.split()


def nobody() -> tuple[socket.socket, str]:
    """A port where nobody listens, as long as the socket lives."""
    taken = socket.socket()
    taken.bind(("127.0.0.1", 0))
    return taken, f"smtp://127.0.0.1:{taken.getsockname()[1]}"


# What each fault comes to

REFUSED = "the mail server refused for good"
LATER = "the mail server asks to try later"
AWAY = "the mail server does not serve us now"
LOST = "the connection to the mail server was lost"
LATE = "the mail server did not answer in time"
ODD = "the mail server does not do what SMTP says"
AFTER = "after all of the message was sent, which may have been taken"
AT_ONCE = pytest.mark.parametrize("at_once", [False, True], ids=["one-by-one", "pipelined"])


@AT_ONCE
@pytest.mark.parametrize(
    ("verb", "answer", "expected", "verbs"),
    [
        ("MAIL", "550 5.1.8 TELLTALE", (MailRefused, f"{REFUSED} (MAIL: 550 5.1.8)", False), "MAIL"),
        ("MAIL", "451 4.3.0 TELLTALE", (MailDeferred, f"{LATER} (MAIL: 451 4.3.0)", False), "MAIL"),
        ("RCPT", "550 5.1.1 TELLTALE", (MailRefused, f"{REFUSED} (RCPT: 550 5.1.1)", False), "MAIL RCPT"),
        ("RCPT", "550-5.1.1 a\r\n550 5.7.1 b", (MailRefused, f"{REFUSED} (RCPT: 550 5.1.1)", False), "MAIL RCPT"),
        ("RCPT", "450 4.2.0 TELLTALE", (MailDeferred, f"{LATER} (RCPT: 450 4.2.0)", False), "MAIL RCPT"),
        ("DATA", "554 TELLTALE", (MailRefused, f"{REFUSED} (DATA: 554)", False), "MAIL RCPT DATA"),
        ("DATA", "451 TELLTALE", (MailDeferred, f"{LATER} (DATA: 451)", False), "MAIL RCPT DATA"),
        (".", "554 5.6.0 TELLTALE", (MailRefused, f"{REFUSED} (DATA: 554 5.6.0)", False), "MAIL RCPT DATA ."),
        (".", "452 4.3.1 TELLTALE", (MailDeferred, f"{LATER} (DATA: 452 4.3.1)", False), "MAIL RCPT DATA ."),
    ],
)
def test_what_is_refused_or_put_off_says_nothing_of_the_server_and_the_connection_goes_on(  # noqa: PLR0917
    mailbox: Mailbox, at_once: bool, verb: str, answer: str, expected: Outcome, verbs: str
) -> None:
    mailbox.pipelining = at_once
    mailbox.reply[verb] = answer

    async def test() -> None:
        wire = wire_to(mailbox.url)
        assert await outcome(wire) == expected
        assert (wire.ready_in(), wire.trouble) == (0.0, None)
        mailbox.reply.clear()
        assert await outcome(wire) is None
        await wire.close()

    run(test())
    asked = "MAIL RCPT DATA" if at_once and verb != "." else verbs
    assert mailbox.commands == f"CONNECT EHLO {asked} MAIL RCPT DATA . QUIT".split()
    assert mailbox.raw == [PAYLOAD]


@AT_ONCE
@pytest.mark.parametrize(
    ("verb", "how", "expected"),
    [
        ("CONNECT", CUT, (MailUnavailable, "the mail server can't be reached (connect)", False)),
        ("EHLO", CUT, (MailUnavailable, f"{LOST} (EHLO)", False)),
        ("MAIL", CUT, (MailUnavailable, f"{LOST} (MAIL)", False)),
        ("RCPT", CUT, (MailUnavailable, f"{LOST} (RCPT)", False)),
        ("DATA", CUT, (MailUnavailable, f"{LOST} (DATA)", False)),
        ("TEXT", CUT, (MailUnavailable, f"{LOST} (DATA)", False)),
        (".", CUT, (MailUnavailable, f"{LOST} {AFTER} (DATA)", True)),
        ("CONNECT", HANG, (MailUnavailable, f"{LATE} (connect)", False)),
        ("MAIL", HANG, (MailUnavailable, f"{LATE} (MAIL)", False)),
        ("RCPT", HANG, (MailUnavailable, f"{LATE} (RCPT)", False)),
        ("TEXT", HANG, (MailUnavailable, f"{LATE} (DATA)", False)),
        (".", HANG, (MailUnavailable, f"{LATE} {AFTER} (DATA)", True)),
        ("CONNECT", "554 5.3.2 TELLTALE", (MailUnavailable, f"{AWAY} (connect: 554 5.3.2)", False)),
        ("MAIL", "421 4.3.2 TELLTALE", (MailUnavailable, f"{AWAY} (MAIL: 421 4.3.2)", False)),
        ("RCPT", "421 4.7.0 TELLTALE", (MailDeferred, f"{LATER} (RCPT: 421 4.7.0)", False)),
        (".", "421 4.7.0 TELLTALE", (MailDeferred, f"{LATER} (DATA: 421 4.7.0)", False)),
        ("MAIL", "TELLTALE", (MailUnavailable, f"{ODD} (MAIL)", False)),
        ("RCPT", "354 TELLTALE", (MailUnavailable, f"{ODD} (RCPT: 354)", False)),
        ("DATA", "250 TELLTALE", (MailUnavailable, f"{ODD} (DATA: 250)", False)),
        (".", "354 TELLTALE", (MailUnavailable, f"{ODD} {AFTER} (DATA: 354)", True)),
        (".", "TELLTALE", (MailUnavailable, f"{ODD} {AFTER} (DATA)", True)),
    ],
)
def test_a_server_that_fails_is_set_aside_and_only_what_got_no_answer_to_its_dot_is_in_doubt(
    mailbox: Mailbox, at_once: bool, verb: str, how: str, expected: Outcome
) -> None:
    mailbox.pipelining = at_once
    if how == CUT:
        mailbox.drop = verb
    elif how == HANG:
        mailbox.slow[verb] = 30
        mailbox.reply |= {"TEXT": "250 never sent"} if verb == "TEXT" else {}
    else:
        mailbox.reply[verb] = how

    async def test() -> None:
        wire = wire_to(mailbox.url, **({"timeout": 0.3, "verdict": 0.3} if how == HANG else {}))
        assert await outcome(wire, LARGE if verb == "TEXT" else LETTER) == expected
        assert 0.5 < wire.ready_in() <= 1.0
        sentence = expected[1].replace(AWAY, LATER) if verb == "MAIL" else expected[1]
        assert wire.trouble == f"{mailbox.url}: {sentence}"
        await wire.close()
        if verb != "TEXT":  # a server that does not read does not see the end, either
            await asyncio.to_thread(mailbox.wait_idle)

    run(test())
    assert mailbox.messages == []
    assert mailbox.commands.count("CONNECT") == 1


def test_a_refused_login_and_an_unknown_certificate_set_the_server_aside(mailbox: Mailbox) -> None:
    mailbox.reply["AUTH"] = "535 5.7.8 TELLTALE"
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert("127.0.0.1").configure_cert(context)

    async def test(encrypted: Mailbox) -> None:
        wire = Wire([Server(mailbox.url, "linde", "geheim"), Server(encrypted.url, "linde", "geheim")])
        assert await outcome(wire) is not None
        assert wire.trouble == (
            f"{mailbox.url}: the mail server refused the login (login: 535 5.7.8); {encrypted.url}: the certificate of "
            "the mail server can't be verified (name the host as the certificate does; SSL_CERT_FILE names the "
            "authorities to trust) (connect)"
        )
        await wire.close()

    with Mailbox(implicit_tls=context) as encrypted:
        run(test(encrypted))


def test_a_server_may_examine_a_whole_message_for_ten_minutes_and_is_heard_as_soon_as_ever_for_the_next(
    mailbox: Mailbox,
) -> None:
    mailbox.slow["."] = 0.5
    began = 0.0

    async def test() -> None:
        nonlocal began
        wire = wire_to(mailbox.url, timeout=0.2)
        assert await outcome(wire) is None
        mailbox.slow = {"MAIL": 30}
        began = time.monotonic()
        assert await outcome(wire) == (MailUnavailable, f"{LATE} (MAIL)", False)
        await wire.close()

    assert VERDICT == 600.0
    run(test())
    assert time.monotonic() - began < 5.0  # also over a fresh connection, which it asks once more
    assert mailbox.raw == [PAYLOAD]


def test_a_close_does_not_wait_for_what_a_server_thinks_of_a_message(mailbox: Mailbox) -> None:
    mailbox.slow["."] = 30

    async def test() -> None:
        wire = wire_to(mailbox.url)
        sending = asyncio.create_task(wire.send(LETTER))
        while "." not in mailbox.commands:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        begun = time.monotonic()
        await wire.close()
        sending.cancel()
        with pytest.raises(asyncio.CancelledError):
            await sending
        await wire.close()
        assert time.monotonic() - begun < 1.0
        await asyncio.to_thread(mailbox.wait_idle)

    run(test())
    assert mailbox.messages == []


def test_a_server_that_wants_a_text_for_no_recipient_gets_a_lone_dot_and_the_next_message() -> None:
    async def test(after: str) -> None:
        def say(verb: str, number: int, message: int) -> str | None:
            return {"RCPT": "550 5.1.1 TELLTALE", ".": after}.get(verb) if message == 1 else None

        async with Sink("PIPELINING", say=say) as sink:
            wire = wire_to(sink.url)
            assert await outcome(wire) == (MailRefused, f"{REFUSED} (RCPT: 550 5.1.1)", False)
            assert await outcome(wire) is None
            await wire.close()
            assert sink.taken[-1] == PAYLOAD
            assert sink.commands == [words("EHLO MAIL RCPT DATA . RSET MAIL RCPT DATA . QUIT")]

    run(test("554 5.5.1 no valid recipients"))
    run(test("250 2.0.0 of nothing"))


def test_a_text_is_not_begun_where_the_sender_was_refused_and_the_recipient_taken() -> None:
    async def test() -> None:
        async with Sink("PIPELINING", say=lambda verb, *_: "550 5.1.8 no" if verb == "MAIL" else None) as sink:
            wire = wire_to(sink.url)
            assert await outcome(wire) == (MailRefused, f"{REFUSED} (MAIL: 550 5.1.8)", False)
            await wire.close()
            assert (sink.commands, sink.taken) == ([words("EHLO MAIL RCPT DATA")], [])

    run(test())


def test_a_text_that_no_longer_goes_out_is_held_back_with_its_dot() -> None:
    """A server that hangs up halfway, and reads on, must not get a message that we say was not taken."""

    async def test() -> None:
        got, ended = bytearray(), asyncio.Event()

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(b"220 sink\r\n")
            while (line := await reader.readline()) != b"DATA\r\n":
                assert line
                writer.write(b"250 ok\r\n")
            writer.write(b"354 go\r\n")
            got.extend(await reader.readexactly(100))
            writer.write_eof()
            await asyncio.sleep(0.05)
            with suppress(ConnectionError):
                while part := await reader.read(1 << 16):
                    got.extend(part)
            writer.close()
            ended.set()

        with socket.create_server(("127.0.0.1", 0)) as narrow:
            narrow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            server = await asyncio.start_server(serve, sock=narrow, limit=1024)
            session = await Dial(Server(f"smtp://127.0.0.1:{narrow.getsockname()[1]}"), 30.0).open("delinde.example")
            socket_of(session).setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
            with pytest.raises(MailUnavailable) as caught:
                await session.send(Envelope("a@b.example", "s@lezer.example", (b"x" * 76 + b"\r\n") * 800))
            assert (str(caught.value), caught.value.in_doubt) == (f"{LOST} (DATA)", False)
            await ended.wait()
            assert got.startswith(b"xxx")
            assert b"\r\n.\r\n" not in got
            await session.leave()
            server.close()

    run(test())


def test_a_dot_that_could_not_be_written_leaves_nothing_in_doubt() -> None:
    async def test() -> None:
        async with Sink() as sink:
            session = await Dial(Server(sink.url), 30.0).open("delinde.example")

            def break_it(verb: str, *_: int) -> None:
                if verb == "DATA":
                    socket_of(session).shutdown(socket.SHUT_WR)

            sink.say = break_it
            with pytest.raises(MailUnavailable) as caught:
                await session.send(LETTER)
            assert (str(caught.value), caught.value.in_doubt) == (f"{LOST} (DATA)", False)
            await session.leave()
            assert sink.taken == []

    run(test())


# What goes over a connection


def test_the_commands_go_in_one_packet_where_the_server_takes_that_and_the_text_in_the_next() -> None:
    async def test() -> None:
        async with Sink("PIPELINING", "DSN", "SIZE 10000", "8BITMIME", "SMTPUTF8") as sink:
            wire = wire_to(sink.url)
            await wire.send(Envelope("b+x@delinde.example", "s@lezer.example", PAYLOAD, envid="7.1+é="[:4] + "="))
            await wire.send(Envelope("", "zoë@lezer.example", PAYLOAD + "één\r\n".encode(), smtputf8=True))
            await wire.send(Envelope("b@delinde.example", "s@lezer.example", PAYLOAD + "één\r\n".encode()))
            await wire.close()
            size, larger = len(PAYLOAD), len(PAYLOAD) + 7
            assert sink.packets == [
                [
                    "EHLO delinde.example\r\n",
                    f"MAIL FROM:<b+x@delinde.example> SIZE={size} RET=HDRS ENVID=7.1+2B+3D\r\n"
                    "RCPT TO:<s@lezer.example> NOTIFY=FAILURE\r\nDATA\r\n",
                    f"{PAYLOAD.decode()}.\r\n",
                    f"MAIL FROM:<> SIZE={larger} BODY=8BITMIME SMTPUTF8 RET=HDRS\r\n"
                    "RCPT TO:<zoë@lezer.example> NOTIFY=FAILURE\r\nDATA\r\n",
                    f"{PAYLOAD.decode()}één\r\n.\r\n",
                    f"MAIL FROM:<b@delinde.example> SIZE={larger} BODY=8BITMIME RET=HDRS\r\n"
                    "RCPT TO:<s@lezer.example> NOTIFY=FAILURE\r\nDATA\r\n",
                    f"{PAYLOAD.decode()}één\r\n.\r\n",
                    "QUIT\r\n",
                ]
            ]

    run(test())


def test_a_server_that_offers_nothing_is_asked_one_thing_at_a_time() -> None:
    async def test() -> None:
        async with Sink() as sink:
            wire = wire_to(sink.url)
            await wire.send(LETTER)
            await wire.close()
            assert sink.packets == [
                [
                    "EHLO delinde.example\r\n",
                    "MAIL FROM:<nieuws@delinde.example>\r\n",
                    "RCPT TO:<sanne.jansen@lezer.example>\r\n",
                    "DATA\r\n",
                    f"{PAYLOAD.decode()}.\r\n",
                    "QUIT\r\n",
                ]
            ]

    run(test())


@AT_ONCE
@pytest.mark.parametrize(
    ("text", "arrives"),
    [
        (b".\r\n..\r\n.\r\nQUIT\r\n", b".\r\n..\r\n.\r\nQUIT\r\n"),
        (b"a: b\r\n\r\n.", b"a: b\r\n\r\n.\r\n"),
        (b"a.\r\n" * 100_000, b"a.\r\n" * 100_000),
    ],
)
def test_a_text_arrives_octet_for_octet_whatever_its_dots(
    mailbox: Mailbox, at_once: bool, text: bytes, arrives: bytes
) -> None:
    mailbox.pipelining = at_once

    async def test() -> None:
        wire = wire_to(mailbox.url)
        await wire.send(Envelope("nieuws@delinde.example", "sanne@lezer.example", text))
        await wire.close()

    run(test())
    assert mailbox.raw == [arrives]


def test_what_a_server_can_not_take_is_refused_unasked_and_the_connection_goes_on(mailbox: Mailbox) -> None:
    mailbox.smtputf8 = False
    mailbox.size = len(PAYLOAD)

    async def test() -> None:
        wire = wire_to(mailbox.url)
        too_large = Envelope("nieuws@delinde.example", "sanne@lezer.example", PAYLOAD + b".\r\n")
        zoe = Envelope("nieuws@delinde.example", "zoë@lezer.example", PAYLOAD, smtputf8=True)
        assert await outcome(wire, too_large) == (
            MailRefused,
            "the message is larger than the mail server takes (MAIL: 5.3.4)",
            False,
        )
        assert await outcome(wire, zoe) == (
            MailRefused,
            "an address has letters that the mail server can't take, as it has no SMTPUTF8 (MAIL: 5.6.7)",
            False,
        )
        assert await outcome(wire) is None
        await wire.close()

    run(test())
    assert mailbox.commands == words("CONNECT EHLO MAIL RCPT DATA . QUIT")


def test_messages_share_connections_over_tls(mailbox: Mailbox) -> None:
    mailbox.pipelining = True
    mailbox.tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert("127.0.0.1").configure_cert(mailbox.tls)

    async def test() -> None:
        wire = Wire([Server(mailbox.url, "linde", "geheim")], connections=3)
        assert await asyncio.gather(*(outcome(wire) for _ in range(20))) == [None] * 20
        assert await outcome(wire, LARGE) is None
        await wire.close()

    run(test())
    assert [len(raw) for raw in mailbox.raw] == [len(PAYLOAD)] * 20 + [len(LARGE.payload)]
    assert mailbox.commands.count("CONNECT") == mailbox.commands.count("QUIT") == 3
    assert set(mailbox.encrypted) == {True}


# Connections that were used before


@AT_ONCE
@pytest.mark.parametrize(
    ("verb", "answer"),
    [("MAIL", CUT), ("RCPT", CUT), ("DATA", CUT), ("MAIL", "421 4.7.0 enough"), ("MAIL", "452 4.5.3 enough"),
     ("RCPT", "421 4.7.0 too many errors"), (".", "421 4.3.0 stopping"), ("MAIL", "garbage")],
)  # fmt: skip
def test_a_connection_that_is_worn_out_is_replaced_and_no_message_fails_of_it(
    at_once: bool, verb: str, answer: str
) -> None:
    async def test() -> None:
        def say(now: str, number: int, message: int) -> str | None:
            return answer if (now, message) == (verb, 3) else None

        async with Sink(*(["PIPELINING"] if at_once else []), say=say) as sink:
            wire = wire_to(sink.url)
            assert [await outcome(wire) for _ in range(5)] == [None] * 5
            assert (wire.trouble, len(sink.taken), len(sink.packets)) == (None, 5, 3)
            await wire.close()

    run(test())


def test_a_connection_that_the_server_closed_meanwhile_is_replaced(mailbox: Mailbox) -> None:
    async def test() -> None:
        wire = wire_to(mailbox.url)
        assert await outcome(wire) is None
        mailbox.hang_up()
        await asyncio.to_thread(mailbox.wait_idle)
        assert await outcome(wire) is None
        await wire.close()

    run(test())
    assert mailbox.commands.count("CONNECT") == len(mailbox.raw) == 2


def test_what_a_server_says_unasked_ends_its_connection() -> None:
    async def test() -> None:
        async with Sink() as sink:
            wire = wire_to(sink.url)
            await wire.send(LETTER)
            [writer] = sink.writers
            writer.write(b"421 4.4.2 idle for too long\r\n")
            await asyncio.sleep(0.02)
            await wire.send(LETTER)
            await wire.close()
            assert sink.commands == [words("EHLO MAIL RCPT DATA ."), words("EHLO MAIL RCPT DATA . QUIT")]

    run(test())


def test_a_server_that_talks_without_end_is_hung_up_on() -> None:
    async def test() -> None:
        async with Sink(say=lambda verb, *_: "2" * 100_000 if verb == "RCPT" else None) as sink:
            wire = wire_to(sink.url)
            assert await outcome(wire) in (
                (MailUnavailable, f"{LOST} (RCPT)", False),
                (MailUnavailable, f"{ODD} (RCPT)", False),  # all of it came in one packet
            )
            await wire.close()

    run(test())


def test_a_connection_that_nothing_goes_over_is_closed_with_a_goodbye(mailbox: Mailbox) -> None:
    async def test() -> None:
        wire = wire_to(mailbox.url, connections=2, idle=0.1)
        await asyncio.gather(outcome(wire), outcome(wire))
        for _ in range(6):
            await asyncio.sleep(0.03)
            await wire.send(LETTER)
        assert len(mailbox.connections) == 1  # the one that was in use all the time
        await asyncio.to_thread(mailbox.wait_idle)
        await wire.close()

    run(test())
    assert (mailbox.commands.count("CONNECT"), mailbox.commands.count("QUIT")) == (2, 2)


def test_a_server_that_does_not_answer_to_goodbye_is_left_in_time(mailbox: Mailbox) -> None:
    mailbox.slow["QUIT"] = 30

    async def test() -> None:
        wire = wire_to(mailbox.url, connections=3, timeout=0.2)
        mailbox.slow["MAIL"] = 0.02
        await asyncio.gather(*(outcome(wire) for _ in range(3)))
        begun = time.monotonic()
        await wire.close()
        assert time.monotonic() - begun < 1.0
        await asyncio.to_thread(mailbox.wait_idle)

    run(test())
    assert mailbox.commands.count("QUIT") == 3


def test_what_is_being_sent_at_the_close_arrives_and_its_connection_is_closed(mailbox: Mailbox) -> None:
    mailbox.slow["."] = 0.1

    async def test() -> None:
        wire = wire_to(mailbox.url)
        sending = asyncio.create_task(outcome(wire))
        while "." not in mailbox.commands:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        await wire.close()
        assert await sending is None
        await asyncio.to_thread(mailbox.wait_idle)

    run(test())
    assert mailbox.raw == [PAYLOAD]


@pytest.mark.parametrize("verb", ["CONNECT", "RCPT", "TEXT", "."])
def test_a_cancelled_send_leaves_no_connection_and_gives_its_place_back(mailbox: Mailbox, verb: str) -> None:
    mailbox.slow[verb] = 30
    mailbox.reply |= {"TEXT": "250 never sent"} if verb == "TEXT" else {}

    async def test() -> None:
        wire = wire_to(mailbox.url, connections=1)
        sending = asyncio.create_task(wire.send(LARGE))
        waiting = asyncio.create_task(wire.send(LETTER))
        while verb not in mailbox.commands:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        sending.cancel()
        mailbox.slow.clear()
        mailbox.reply.clear()
        with pytest.raises(asyncio.CancelledError):
            await sending
        await waiting
        assert (wire.ready_in(), wire.trouble) == (0.0, None)
        await wire.close()
        if verb != "TEXT":
            await asyncio.to_thread(mailbox.wait_idle)

    run(test())
    assert mailbox.raw == [PAYLOAD]


# Places


def test_no_more_connections_are_open_than_were_asked_for(mailbox: Mailbox) -> None:
    mailbox.slow["."] = 0.02
    most = 0

    async def test() -> None:
        nonlocal most
        wire = wire_to(mailbox.url, connections=4)
        sending = [asyncio.create_task(outcome(wire)) for _ in range(20)]
        while not all(task.done() for task in sending):
            most = max(most, len(mailbox.connections))
            await asyncio.sleep(0.002)
        assert [task.result() for task in sending] == [None] * 20
        assert wire.capacity == 4
        await wire.close()

    run(test())
    assert (most, mailbox.commands.count("CONNECT"), len(mailbox.raw)) == (4, 4, 20)


def test_a_server_that_takes_fewer_connections_is_content_with_fewer(clock: Clock) -> None:
    async def test() -> None:
        sink = Sink("PIPELINING")
        sink.say = lambda verb, *_: "421 4.7.0 too many connections" if verb == "CONNECT" and crowd(sink) else None

        def crowd(sink: Sink) -> bool:
            return len(sink.writers) > 2

        async with sink:
            wire = wire_to(sink.url, connections=6)
            assert await outcome(wire) is None  # before the crowd, so that one connection stands
            assert await asyncio.gather(*(outcome(wire) for _ in range(30))) == [None] * 30
            assert (wire.trouble, len(sink.taken)) == (None, 31)
            before = len(sink.packets)
            assert await asyncio.gather(*(outcome(wire) for _ in range(30))) == [None] * 30
            assert len(sink.packets) == before
            clock.ahead += pool.CROWDED + 1
            assert await asyncio.gather(*(outcome(wire) for _ in range(30))) == [None] * 30
            assert (wire.trouble, len(sink.packets) > before) == (None, True)  # it was asked again, and said no
            await wire.close()

    run(test())


# Servers that are away


def test_the_next_server_stands_in_at_once_and_the_first_comes_back_by_itself(clock: Clock) -> None:
    async def test() -> None:
        async with Sink() as first, Sink() as second:
            first.say = lambda verb, *_: CUT if verb == "RCPT" else None
            wire = wire_to(first.url, second.url)
            assert await outcome(wire) is None
            assert (wire.ready_in(), wire.trouble) == (0.0, f"{first.url}: {LOST} (RCPT)")
            first.say = lambda *_: None
            assert await outcome(wire) is None
            assert (len(first.taken), len(second.taken)) == (0, 2)
            clock.ahead += 1.0
            assert await outcome(wire) is None
            assert (len(first.taken), wire.trouble) == (1, None)
            await wire.close()

    run(test())


def test_a_server_that_stays_away_is_tried_ever_less_and_at_least_each_minute(clock: Clock) -> None:
    taken, url = nobody()

    async def test() -> list[float]:
        wire, waits = wire_to(url), []
        for _ in range(8):
            assert await outcome(wire) == (MailUnavailable, "the mail server can't be reached (connect)", False)
            waits.append(wire.ready_in())
            assert await outcome(wire) == (MailUnavailable, "no mail server can be used now (connect)", False)
            clock.ahead += waits[-1] + 0.001
            assert wire.ready_in() == 0.0
        assert wire.trouble == f"{url}: the mail server can't be reached (connect)"
        await wire.close()
        return waits

    with taken:
        assert [round(wait) for wait in asyncio.run(test())] == [1, 2, 4, 8, 16, 32, 60, 60]


def test_many_messages_that_fail_together_set_a_server_aside_once(mailbox: Mailbox) -> None:
    mailbox.drop = "DATA"
    mailbox.slow["MAIL"] = 0.05

    async def test() -> None:
        wire = wire_to(mailbox.url, connections=5)
        failures = await asyncio.gather(*(outcome(wire) for _ in range(5)))
        assert failures == [(MailUnavailable, f"{LOST} (DATA)", False)] * 5
        assert wire.ready_in() <= 1.0
        await wire.close()

    run(test())


def test_one_message_tries_a_server_that_was_away_while_the_others_wait_for_what_comes_of_it(clock: Clock) -> None:
    async def test() -> None:
        async with Sink() as sink:
            sink.say = lambda verb, *_: "421 4.3.2 stopping" if verb == "CONNECT" else None
            wire = wire_to(sink.url, connections=5)
            await outcome(wire)
            clock.ahead += 1.0
            failures = await asyncio.gather(*(outcome(wire) for _ in range(5)))
            assert failures == [
                (MailUnavailable, f"{AWAY} (connect: 421 4.3.2)", False),
                *[(MailUnavailable, "no mail server can be used now (connect)", False)] * 4,
            ]
            assert len(sink.packets) == 2
            sink.say = lambda *_: None
            clock.ahead += 2.0
            assert await asyncio.gather(*(outcome(wire) for _ in range(5))) == [None] * 5
            assert (len(sink.packets), wire.trouble) == (2 + 4, None)  # who waited took over the first connection
            await wire.close()

    run(test())


def test_a_server_that_is_set_aside_is_said_goodbye_to_on_its_other_connections(mailbox: Mailbox) -> None:
    mailbox.slow["MAIL"] = 0.02

    async def test() -> None:
        wire = wire_to(mailbox.url, connections=3)
        await asyncio.gather(*(outcome(wire) for _ in range(3)))
        mailbox.drop = "RCPT"
        assert await outcome(wire) == (MailUnavailable, f"{LOST} (RCPT)", False)
        await asyncio.to_thread(mailbox.wait_idle)
        await wire.close()

    run(test())
    assert mailbox.commands.count("QUIT") == 2


def test_each_server_is_asked_once_for_a_message_however_long_that_takes(clock: Clock) -> None:
    async def test() -> None:
        def slowly(verb: str, *_: int) -> str | None:
            clock.ahead += 100.0
            return CUT if verb == "MAIL" else None

        async with Sink(say=slowly) as first, Sink(say=slowly) as second:
            wire = wire_to(first.url, second.url)
            assert await outcome(wire) == (MailUnavailable, f"{LOST} (MAIL)", False)
            assert (len(first.packets), len(second.packets)) == (1, 1)
            await wire.close()

    run(test())


def test_a_message_that_one_server_put_off_is_put_off_where_the_others_are_away() -> None:
    taken, url = nobody()

    async def test() -> None:
        async with Sink(say=lambda verb, *_: "421 4.7.0 TELLTALE" if verb == "RCPT" else None) as sink:
            wire = wire_to(sink.url, url)
            assert await outcome(wire) == (MailDeferred, f"{LATER} (RCPT: 421 4.7.0)", False)
            assert wire.trouble == (
                f"{sink.url}: {LATER} (RCPT: 421 4.7.0); {url}: the mail server can't be reached (connect)"
            )
            await wire.close()

    with taken:
        run(test())


def test_what_another_server_may_have_taken_is_not_handed_to_the_next() -> None:
    async def test() -> None:
        async with Sink(say=lambda verb, *_: CUT if verb == "." else None) as first, Sink() as second:
            wire = wire_to(first.url, second.url)
            assert await outcome(wire) == (MailUnavailable, f"{LOST} {AFTER} (DATA)", True)
            assert await outcome(wire) is None
            assert len(second.taken) == 1
            await wire.close()

    run(test())


@pytest.mark.parametrize("seed", range(4))
def test_in_a_storm_each_message_is_taken_once_and_in_doubt_at_most_once(
    monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    monkeypatch.setattr(pool, "monotonic", lambda: time.monotonic() * 1000)
    chance = random.Random(seed)

    def storm(verb: str, *_: int) -> str | None:
        if verb == "QUIT" or chance.random() > 0.04:
            return None
        return chance.choice([CUT, "421 4.3.0 no", "451 4.3.0 no", "garbage", LOSE if verb == "." else CUT])

    async def deliver(wire: Wire, number: int) -> str:
        text = f"{number}\r\n\r\n{'.' * number}\r\n".encode()
        while True:
            try:
                await wire.send(Envelope("nieuws@delinde.example", "s@lezer.example", text))
            except MailUnavailable as error:
                if error.in_doubt:
                    return "in doubt"
                await asyncio.sleep(0.001)
            except MailDeferred:
                await asyncio.sleep(0.001)
            else:
                return "sent"

    async def test() -> None:
        async with Sink("PIPELINING", say=storm) as first, Sink(say=storm) as second:
            wire = wire_to(first.url, second.url, connections=8)
            fates = await asyncio.gather(*(deliver(wire, number) for number in range(150)))
            await wire.close()
            taken = sorted(int(text.split(b"\r\n")[0]) for text in first.taken + second.taken if text)
            assert taken == sorted(set(taken))
            assert {fates[number] for number in set(range(150)) - set(taken)} <= {"in doubt"}
            assert 0 < fates.count("in doubt") < 30

    run(test())


# Service mails


def test_a_service_mail_goes_to_the_next_server_where_the_first_is_away_and_never_to_both(mailbox: Mailbox) -> None:
    taken, url = nobody()

    async def test() -> None:
        await SMTPMailer([url, mailbox.url]).send(MESSAGE)
        for verb, answer in (("RCPT", "421 4.3.2 stopping"), ("DATA", CUT)):
            async with Sink(say=lambda now, *_, v=verb, a=answer: a if now == v else None) as sink:  # type: ignore[misc]
                await SMTPMailer([sink.url, mailbox.url]).send(MESSAGE)
        async with Sink(say=lambda verb, *_: CUT if verb == "." else None) as sink:
            with pytest.raises(MailUnavailable) as caught:
                await SMTPMailer([sink.url, mailbox.url]).send(MESSAGE)
            assert caught.value.in_doubt
        async with Sink(say=lambda verb, *_: "550 5.1.1 no" if verb == "RCPT" else None) as sink:
            with pytest.raises(MailRefused):
                await SMTPMailer([sink.url, mailbox.url]).send(MESSAGE)

    with taken:
        run(test())
    assert len(mailbox.raw) == 3


# What can't be sent, and settings


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        ({"to": "sanne@lezer.example> NOTIFY=NEVER"}, "to must be a bare address, in ASCII unless smtputf8 is set"),
        ({"to": "sanne@lezer.example\r\nRSET"}, "to must be a bare address, in ASCII unless smtputf8 is set"),
        ({"to": "zoë@lezer.example"}, "to must be a bare address, in ASCII unless smtputf8 is set"),
        ({"sender": "a\x00@b.example"}, "sender must be a bare address, in ASCII unless smtputf8 is set"),
        ({"to": "\ud800@b.example", "smtputf8": True}, "to must be a bare address, in ASCII unless smtputf8 is set"),
        ({"envid": "+" * 34}, "envid must be at most 100 characters of ASCII"),
        ({"envid": "é"}, "envid must be at most 100 characters of ASCII"),
    ],
)
def test_an_envelope_that_would_say_more_than_an_address_is_refused(given: dict[str, Any], problem: str) -> None:
    whole = {"sender": "nieuws@delinde.example", "to": "sanne@lezer.example", "payload": PAYLOAD, **given}

    with pytest.raises(ValueError, match=r".") as caught:
        Envelope(**whole)

    assert str(caught.value) == problem


def test_a_wire_and_an_envelope_show_no_address_and_no_password() -> None:
    server = Server("smtps://[::1]", "linde@delinde.example", "geheim")

    assert repr(Wire([server])) == "Wire('smtps://[::1]:465')"
    assert repr(server) == "Server('smtps://[::1]:465')"
    assert "lezer" not in repr(LETTER)


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"servers": []}, "there is no mail server: the url must be as in smtp://mail.example:587 or "
         "smtps://mail.example:465"),
        ({"connections": 0}, "connections must be at least 1: write 10"),
        ({"timeout": 0}, "timeout must be more than 0 seconds: write 30"),
    ],
)  # fmt: skip
def test_a_wire_that_could_send_nothing_is_refused(options: dict[str, Any], problem: str) -> None:
    with pytest.raises(SettingsError) as caught:
        Wire(**{"servers": [Server("smtp://mail.example")], **options})

    assert caught.value.problems == [problem]
