"""Messages against a real SMTP server: the bytes that arrive, and what each way of not arriving is called."""

from __future__ import annotations

import asyncio
import email.policy
import gc
import logging
import socket
import ssl
import time
import traceback
from dataclasses import replace
from datetime import UTC, datetime
from email import message_from_bytes
from email.message import EmailMessage
from typing import Any

import pytest
import trustme
from hypothesis import given
from hypothesis import strategies as st

from consentkit.errors import SettingsError
from consentkit.mail import (
    Encryption,
    MailDeferred,
    MailError,
    MailRefused,
    MailUnavailable,
    MemoryMailer,
    Message,
    SMTPMailer,
    Stage,
    encryption,
)
from tests.fixtures_smtp import Envelope, Mailbox

MESSAGE = Message(
    sender="De Linde <nieuws@delinde.example>",
    to="sanne.jansen@lezer.example",
    subject="Nieuws van De Linde",
    text="Dag Sanne,\n\nhet café is open.\n",
    html="<p>Dag Sanne,</p>\n<p>het café is open.</p>\n",
    message_id="c1f2@delinde.example",
    date=datetime(2026, 11, 22, 9, 30, tzinfo=UTC),
    language="nl",
)
TOKEN = "InN1YiI6MTIzNDU2Nzg5MCwibmFtZSI6IkpvaG4gRG9lIiwi" * 3
UNSUBSCRIBE = f"<https://delinde.example/afmelden/{TOKEN}>"
SECRETS = ("sanne", "jansen", "lezer.example", "nieuws@", "geheim", "TELLTALE")
"""What may stand in no error and no log: addresses, a password, and what the server says."""


def send(url: str, message: Message = MESSAGE, **options: Any) -> None:
    asyncio.run(SMTPMailer(url, **options).send(message))


def failure(url: str, message: Message = MESSAGE, **options: Any) -> MailError:
    """The error that sending ends in, which says nothing that it should not, also in its traceback."""
    with pytest.raises(MailError) as caught:
        send(url, message, **options)
    error = caught.value
    told = "".join(traceback.format_exception_only(error)) + str(vars(error))
    assert not [secret for secret in SECRETS if secret in told]
    assert error.__context__ is None
    assert error.__cause__ is None
    return error


def told(error: MailError) -> tuple[type[MailError], str, Stage, int | None, str]:
    return type(error), str(error), error.stage, error.code, error.status


@pytest.fixture(autouse=True)
def _nothing_personal_is_logged(caplog: pytest.LogCaptureFixture) -> Any:
    caplog.set_level(logging.DEBUG)
    yield
    assert not [secret for secret in SECRETS if secret in caplog.text]


@pytest.fixture
def authority(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> trustme.CA:
    """A certificate authority that this process trusts."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "authority.pem")
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "authority.pem"))
    return authority


def server_context(authority: trustme.CA, name: str = "127.0.0.1") -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(name).configure_cert(context)
    return context


# What arrives


def test_a_message_arrives_as_these_bytes(mailbox: Mailbox) -> None:
    headers = {"List-Unsubscribe": UNSUBSCRIBE, "List-Unsubscribe-Post": "List-Unsubscribe=One-Click"}
    message = replace(MESSAGE, reply_to="Administratie <post@delinde.example>", headers=headers)

    send(mailbox.url, message)

    mailbox.wait(1)
    assert mailbox.raw[0].decode("ascii").split("\r\n") == [
        "From: De Linde <nieuws@delinde.example>",
        "To: sanne.jansen@lezer.example",
        "Subject: Nieuws van De Linde",
        "Date: Sun, 22 Nov 2026 09:30:00 +0000",
        "Message-ID: <c1f2@delinde.example>",
        "Reply-To: Administratie <post@delinde.example>",
        f"List-Unsubscribe: {UNSUBSCRIBE}",
        "List-Unsubscribe-Post: List-Unsubscribe=One-Click",
        "Content-Language: nl",
        "MIME-Version: 1.0",
        "Content-Type: multipart/alternative;",
        ' boundary="=_1e9eb72b79dd8eee1f1dab405398865b"',
        "",
        "--=_1e9eb72b79dd8eee1f1dab405398865b",
        'Content-Type: text/plain; charset="utf-8"',
        "Content-Transfer-Encoding: quoted-printable",
        "",
        "Dag Sanne,",
        "",
        "het caf=C3=A9 is open.",
        "--=_1e9eb72b79dd8eee1f1dab405398865b",
        'Content-Type: text/html; charset="utf-8"',
        "Content-Transfer-Encoding: quoted-printable",
        "",
        "<p>Dag Sanne,</p>",
        "<p>het caf=C3=A9 is open.</p>",
        "--=_1e9eb72b79dd8eee1f1dab405398865b--",
        "",
    ]
    assert mailbox.raw[0] == message.as_bytes()
    assert mailbox.envelopes == [
        Envelope("nieuws@delinde.example", ["sanne.jansen@lezer.example"], [f"SIZE={len(message.as_bytes())}"])
    ]
    assert mailbox.commands == ["CONNECT", "EHLO", "MAIL", "RCPT", "DATA", ".", "QUIT"]


def test_both_parts_arrive_with_their_diacritics(mailbox: Mailbox) -> None:
    text = "Ruïne, coördinatie, één, façade, €\u00a05 – “ja” 🌳\n"

    send(mailbox.url, replace(MESSAGE, text=text, html=f"<p>{text}</p>"))

    [arrived] = mailbox.wait(1)
    assert [(part.get_content_type(), part.get_content()) for part in arrived.iter_parts()] == [
        ("text/plain", text.removesuffix("\n")),
        ("text/html", f"<p>{text}</p>"),
    ]


def test_a_subject_and_a_name_of_any_script_arrive(mailbox: Mailbox) -> None:
    subject = "Één nieuwsbrief, met “aanhaling” en een boom 🌳, en langer dan wat er op één regel past, veel langer"

    send(mailbox.url, replace(MESSAGE, subject=subject, sender="Vrienden van Café 't Ĳ, Ærø <ij@delinde.example>"))

    [arrived] = mailbox.wait(1)
    assert arrived["Subject"] == subject
    [sender] = arrived["From"].addresses
    assert (sender.display_name, sender.addr_spec) == ("Vrienden van Café 't Ĳ, Ærø", "ij@delinde.example")
    assert max(map(len, mailbox.raw[0].split(b"\r\n"))) <= 78


@pytest.mark.parametrize(
    ("sender", "header"),
    [
        ("nieuws@delinde.example", "From: nieuws@delinde.example"),
        ("De Linde, Utrecht <a@b.example>", 'From: "De Linde, Utrecht" <a@b.example>'),
        ('"De Linde, Utrecht" <a@b.example>', 'From: "De Linde, Utrecht" <a@b.example>'),
        ('Zeg "ja" <a@b.example>', r'From: "Zeg \"ja\"" <a@b.example>'),
        ("boef@elders.example <a@b.example>", 'From: "boef@elders.example" <a@b.example>'),
        ("=?utf-8?q?boef?= <a@b.example>", "From: =?utf-8?b?PT91dGYtOD9xP2JvZWY/PQ==?= <a@b.example>"),
        ("Café <a@b.example>", "From: =?utf-8?b?Q2Fmw6k=?= <a@b.example>"),
        (f"De Linde <{'a' * 60}@b.example>", f"From: De Linde\r\n <{'a' * 60}@b.example>"),
    ],
)
def test_a_name_is_quoted_or_encoded_where_it_must(sender: str, header: str) -> None:
    assert replace(MESSAGE, sender=sender).as_bytes().decode().partition("\r\nTo:")[0] == header


LONG = f"https://delinde.example/afmelden/{TOKEN}"


@pytest.mark.parametrize(
    ("name", "value", "lines"),
    [
        ("List-Unsubscribe", f"<{LONG}>", [f"List-Unsubscribe: <{LONG}>"]),
        (
            "List-Unsubscribe",
            f"<{LONG}>, <mailto:af@delinde.example?subject=af>",
            [f"List-Unsubscribe: <{LONG}>,", " <mailto:af@delinde.example?subject=af>"],
        ),
        ("List-Unsubscribe", f"<{LONG}?a=1,2, 3>", [f"List-Unsubscribe: <{LONG}?a=1,2, 3>"]),
        (
            "List-Help",
            "<https://a.example>, <https://b.example>",
            ["List-Help: <https://a.example>, <https://b.example>"],
        ),
        ("Feedback-ID", f"{'m' * 40}:{'n' * 40}:nieuws:linde", [f"Feedback-ID: {'m' * 40}:{'n' * 40}:nieuws:linde"]),
        ("X-Consentkit-Delivery", TOKEN, [f"X-Consentkit-Delivery: {TOKEN}"]),
        ("List-Id", "Nieuws <nieuws.delinde.example>", ["List-Id: Nieuws <nieuws.delinde.example>"]),
        ("List-Id", "Café <cafe.delinde.example>", ["List-Id: =?utf-8?b?Q2Fmw6k=?= <cafe.delinde.example>"]),
        ("Auto-Submitted", "auto-generated", ["Auto-Submitted: auto-generated"]),
        ("X-Numbers", f"{'1' * 60},2,3,{'4' * 60},  5", [f"X-Numbers: {'1' * 60},2,3,{'4' * 60},", "  5"]),
        ("X-Note", "één", ["X-Note: =?utf-8?b?w6nDqW4=?="]),
    ],
)
def test_a_header_arrives_with_every_character_and_is_folded_at_commas_only(
    mailbox: Mailbox, name: str, value: str, lines: list[str]
) -> None:
    send(mailbox.url, replace(MESSAGE, headers={name: value}))

    [arrived] = mailbox.wait(1)
    head = mailbox.raw[0].decode("ascii").partition("\r\nContent-Language:")[0].split("\r\n")
    assert head[5:] == lines
    assert arrived[name] == value


def test_a_long_line_of_text_arrives_whole_in_lines_of_at_most_78(mailbox: Mailbox) -> None:
    text = ("woord é " * 700)[:5000]

    send(mailbox.url, replace(MESSAGE, text=text, html=f"<p>{text}</p>"))

    [arrived] = mailbox.wait(1)
    body = arrived.get_body(("plain",))
    assert body is not None
    assert body.get_content() == text
    assert max(map(len, mailbox.raw[0].split(b"\r\n"))) <= 78


def test_lines_of_dots_and_the_end_of_a_message_in_a_text_arrive_as_text(mailbox: Mailbox) -> None:
    text = ".\r\n..\r\nQUIT\r\n.\r\nMAIL FROM:<boef@elders.example>\r\n\rx\n.einde"

    send(mailbox.url, replace(MESSAGE, text=text))

    [arrived] = mailbox.wait(1)
    body = arrived.get_body(("plain",))
    assert body is not None
    assert body.get_content() == ".\n..\nQUIT\n.\nMAIL FROM:<boef@elders.example>\n\nx\n.einde"
    assert mailbox.commands[-3:] == ["DATA", ".", "QUIT"]


@given(
    subject=st.text(st.characters(exclude_categories=["Cs", "Cc", "Zl", "Zp"]), max_size=200),
    text=st.text(st.characters(exclude_categories=["Cs"]), max_size=400),
)
def test_any_subject_and_text_can_be_read_back(subject: str, text: str) -> None:
    written = replace(MESSAGE, subject=subject, text=text).as_bytes()

    read = message_from_bytes(written, policy=email.policy.default)
    assert isinstance(read, EmailMessage)
    assert read["Subject"] == subject.strip()
    body = next(read.iter_parts())
    plain = body.get_payload(decode=True)
    assert isinstance(plain, bytes)
    expected = text.replace("\r\n", "\n").replace("\r", "\n").removesuffix("\n")
    assert plain.decode().replace("\r\n", "\n") == expected
    assert max(map(len, written.split(b"\r\n"))) <= 78
    assert written.replace(b"\r\n", b"").isascii()
    assert not {b"\r", b"\n"} & {bytes([byte]) for byte in written.replace(b"\r\n", b"")}


def test_a_local_part_that_is_not_ascii_goes_out_as_utf_8(mailbox: Mailbox) -> None:
    message = replace(MESSAGE, to="zoë@lezer.example")

    send(mailbox.url, message)

    mailbox.wait(1)
    assert mailbox.envelopes == [
        Envelope(
            "nieuws@delinde.example",
            ["zoë@lezer.example"],
            [f"SIZE={len(message.as_bytes())}", "BODY=8BITMIME", "SMTPUTF8"],
        )
    ]
    assert mailbox.raw[0].split(b"\r\n")[1] == "To: zoë@lezer.example".encode()


def test_smtputf8_is_not_asked_for_where_ascii_is_enough(mailbox: Mailbox) -> None:
    mailbox.smtputf8 = False

    send(mailbox.url, replace(MESSAGE, sender="Café <nieuws@delinde.example>", subject="één"))

    assert len(mailbox.wait(1)) == 1


def test_a_server_without_esmtp_can_be_used(mailbox: Mailbox) -> None:
    mailbox.reply["EHLO"] = "502 5.5.1 never heard of it"

    send(mailbox.url)

    assert mailbox.wait(1)[0]["Subject"] == "Nieuws van De Linde"
    assert mailbox.commands[:4] == ["CONNECT", "EHLO", "HELO", "MAIL"]


def test_an_answer_to_goodbye_is_not_waited_for_long_and_its_loss_is_no_failure(mailbox: Mailbox) -> None:
    mailbox.drop = "QUIT"

    send(mailbox.url)

    assert len(mailbox.wait(1)) == 1


# What can't be a message


@pytest.mark.parametrize("bad", ["\r\n", "\r", "\n", "\x00", "\t", "\x0b", "\x1f", "\x7f"])
@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("sender", "De{}Linde <nieuws@delinde.example>"),
        ("sender", "De Linde <nieuws{}@delinde.example>"),
        ("to", "sanne{}jansen@lezer.example"),
        ("to", "sanne@lezer.example{}"),
        ("subject", "Nieuws{}Bcc: boef@elders.example"),
        ("message_id", "c1{}f2@delinde.example"),
        ("language", "nl{}"),
        ("reply_to", "post{}@delinde.example"),
    ],
)
def test_a_control_character_in_a_field_is_refused(name: str, value: str, bad: str) -> None:
    with pytest.raises(ValueError, match=r".") as caught:
        replace(MESSAGE, **{name: value.format(bad)})

    assert str(caught.value) == (f"{name} has a control character, and nothing that becomes a header may have one")


@pytest.mark.parametrize("bad", ["\r\n", "\r", "\n", "\x00", "\t", "\x0b", "\x1f", "\x7f"])
def test_a_control_character_in_a_further_header_is_refused(bad: str) -> None:
    with pytest.raises(ValueError, match=r".") as caught:
        replace(MESSAGE, headers={"List-Id": f"<nieuws>{bad}Bcc: boef@elders.example"})

    assert str(caught.value) == (
        "headers['List-Id'] has a control character, and nothing that becomes a header may have one"
    )


ADDRESS = "must be one address, its domain in ASCII"


@pytest.mark.parametrize(
    ("field", "value", "problem"),
    [
        ("headers", {"X\r\nBcc": "x"}, "headers has a name that no header may have"),
        ("headers", {"X:": "x"}, "headers has a name that no header may have"),
        ("headers", {"": "x"}, "headers has a name that no header may have"),
        ("headers", {"bcc": "x@y.example"}, "headers may not have bcc: the message writes it itself"),
        ("headers", {"Content-Type": "x"}, "headers may not have Content-Type: the message writes it itself"),
        ("headers", {"X-A": "1", "x-a": "2"}, "headers has x-a twice"),
        ("headers", {"X-A": " "}, "headers['X-A'] is empty"),
        ("headers", {"List-Help": "<https://café.example>"}, "headers['List-Help'] must be ASCII: it is for machines"),
        (
            "headers",
            {"List-Help": f"<https://a.example/{'x' * 1000}>"},
            "headers['List-Help'] has more than 998 octets without a comma and a space to fold at",
        ),
        ("headers", {"X-A": "\ud800"}, "headers['X-A'] has half a character, which can't be spelled in UTF-8"),
        ("text", "\ud800", "text has half a character, which can't be spelled in UTF-8"),
        ("to", "Sanne <sanne@lezer.example>", f"to {ADDRESS}"),
        ("to", "sanne@lezer.example, boef@elders.example", f"to {ADDRESS}"),
        ("to", "sanne@lezer.example> SIZE=1", f"to {ADDRESS}"),
        ("to", "sanne@café.example", f"to {ADDRESS}"),
        ("to", "sanne\u0085@lezer.example", f"to {ADDRESS}"),
        ("to", "sanne\u2028@lezer.example", f"to {ADDRESS}"),
        ("to", "sanne@", f"to {ADDRESS}"),
        ("to", "@lezer.example", f"to {ADDRESS}"),
        ("to", "sanne", f"to {ADDRESS}"),
        ("to", "", f"to {ADDRESS}"),
        ("sender", "De Linde <a@b.example> x", "sender must be an address, or a name and an <address>"),
        ("sender", "De Linde", f"sender {ADDRESS}"),
        ("reply_to", "x", f"reply_to {ADDRESS}"),
        (
            "message_id",
            "<c1f2@delinde.example>",
            "message_id must be as in local@domain, in ASCII and without brackets",
        ),
        ("message_id", "c1f2", "message_id must be as in local@domain, in ASCII and without brackets"),
        ("language", "Nederlands!", "language must be a language tag such as nl or en-GB"),
        ("date", datetime(2026, 11, 22), "date must be an aware datetime"),  # noqa: DTZ001
    ],
)
def test_what_no_message_can_have_is_refused_by_name(field: str, value: Any, problem: str) -> None:
    with pytest.raises(ValueError, match=r".") as caught:
        replace(MESSAGE, **{field: value})

    assert str(caught.value) == problem


def test_a_message_can_not_be_changed_after_it_was_checked() -> None:
    given = {"X-A": "1"}
    message = replace(MESSAGE, headers=given)

    given["X-A"] = "1\r\nBcc: boef@elders.example"
    with pytest.raises(TypeError):
        message.headers["X-B"] = "2"  # type: ignore[index]

    assert dict(message.headers) == {"X-A": "1"}


def test_a_message_shows_its_id_and_nothing_else() -> None:
    assert repr(MESSAGE) == str(MESSAGE) == "Message(message_id='c1f2@delinde.example')"


# What does not arrive


@pytest.mark.parametrize(
    ("verb", "stage"), [("MAIL", Stage.MAIL), ("RCPT", Stage.RCPT), ("DATA", Stage.DATA), (".", Stage.DATA)]
)
@pytest.mark.parametrize(
    ("answer", "kind", "sentence", "numbers"),
    [
        (
            "550 5.1.1 TELLTALE no <sanne.jansen@lezer.example>",
            MailRefused,
            "the mail server refused for good",
            (550, "5.1.1"),
        ),
        ("554 TELLTALE", MailRefused, "the mail server refused for good", (554, "")),
        ("550-5.7.26 TELLTALE\r\n550 5.7.26 more", MailRefused, "the mail server refused for good", (550, "5.7.26")),
        ("550 4.1.1 TELLTALE", MailRefused, "the mail server refused for good", (550, "")),
        ("451 4.3.0 TELLTALE", MailDeferred, "the mail server asks to try later", (451, "4.3.0")),
        ("421 4.7.0 TELLTALE", MailDeferred, "the mail server asks to try later", (421, "4.7.0")),
    ],
)
def test_an_answer_of_5xx_is_for_good_and_one_of_4xx_for_now(  # noqa: PLR0917
    mailbox: Mailbox,
    verb: str,
    stage: Stage,
    answer: str,
    kind: type[MailError],
    sentence: str,
    numbers: tuple[int, str],
) -> None:
    mailbox.reply[verb] = answer

    error = failure(mailbox.url)

    shown = " ".join(str(number) for number in numbers if number)
    assert told(error) == (kind, f"{sentence} ({stage}: {shown})", stage, *numbers)
    assert mailbox.messages == []


def test_a_refusal_halfway_the_text_is_heard(mailbox: Mailbox) -> None:
    mailbox.reply["TEXT"] = "552 5.3.4 TELLTALE"
    mailbox.slow["QUIT"] = 1

    error = failure(mailbox.url, replace(MESSAGE, text=("x" * 70 + "\n") * 120_000))

    assert told(error) == (
        MailRefused,
        "the mail server refused for good (DATA: 552 5.3.4)",
        Stage.DATA,
        552,
        "5.3.4",
    )


LOST = "the connection to the mail server was lost"
LATE = "the mail server did not answer in time"
AFTER = "after all of the message was sent, which may have been taken"


@pytest.mark.parametrize(
    ("verb", "sentence"),
    [
        ("CONNECT", "the mail server can't be reached (connect)"),
        ("EHLO", f"{LOST} (EHLO)"),
        ("MAIL", f"{LOST} (MAIL)"),
        ("RCPT", f"{LOST} (RCPT)"),
        ("DATA", f"{LOST} (DATA)"),
        ("TEXT", f"{LOST} (DATA)"),
        (".", f"{LOST} {AFTER} (DATA)"),
    ],
)
def test_a_lost_connection_is_in_doubt_only_after_the_last_dot(mailbox: Mailbox, verb: str, sentence: str) -> None:
    mailbox.drop = verb

    error = failure(mailbox.url, replace(MESSAGE, text=("x" * 70 + "\n") * 120_000 if verb == "TEXT" else "dag"))

    assert isinstance(error, MailUnavailable)
    assert (str(error), error.in_doubt, error.code, error.status) == (sentence, verb == ".", None, "")


@pytest.mark.parametrize(
    ("verb", "sentence"),
    [
        ("CONNECT", f"{LATE} (connect)"),
        ("EHLO", f"{LATE} (EHLO)"),
        ("RCPT", f"{LATE} (RCPT)"),
        ("DATA", f"{LATE} (DATA)"),
        (".", f"{LATE} {AFTER} (DATA)"),
    ],
)
def test_an_answer_that_takes_too_long_is_not_waited_for(mailbox: Mailbox, verb: str, sentence: str) -> None:
    mailbox.slow[verb] = 30
    begun = time.monotonic()

    error = failure(mailbox.url, timeout=0.4, verdict=0.4)

    assert isinstance(error, MailUnavailable)
    assert (str(error), error.in_doubt) == (sentence, verb == ".")
    assert time.monotonic() - begun < 10
    mailbox.wait_idle()


def test_a_server_that_stops_reading_is_not_waited_for(mailbox: Mailbox) -> None:
    mailbox.reply["TEXT"] = "250 never sent"
    mailbox.slow["TEXT"] = 30

    error = failure(mailbox.url, replace(MESSAGE, text=("x" * 70 + "\n") * 120_000), timeout=0.4)

    assert isinstance(error, MailUnavailable)
    assert (str(error), error.in_doubt) == (f"{LATE} (DATA)", False)


def test_a_server_that_thanks_halfway_has_not_taken_the_message(mailbox: Mailbox) -> None:
    mailbox.reply["TEXT"] = "250 TELLTALE"

    error = failure(mailbox.url, replace(MESSAGE, text=("x" * 70 + "\n") * 120_000))

    assert isinstance(error, MailUnavailable)
    assert not error.in_doubt
    assert str(error) in (
        "the mail server does not do what SMTP says (DATA: 250)",
        "the connection to the mail server was lost (DATA)",  # its answer went with the connection
    )


def test_a_server_that_greets_late_over_tls_is_not_waited_for(authority: trustme.CA) -> None:
    with Mailbox(implicit_tls=server_context(authority)) as mailbox:
        mailbox.slow["CONNECT"] = 30

        error = failure(mailbox.url, timeout=0.4)
        gc.collect()  # what was left open would complain

        assert told(error) == (MailUnavailable, f"{LATE} (connect)", Stage.CONNECT, None, "")


def test_a_cancelled_send_lets_go_of_the_connection(mailbox: Mailbox) -> None:
    mailbox.slow["."] = 30

    async def send_and_give_up() -> None:
        sending = asyncio.create_task(SMTPMailer(mailbox.url).send(MESSAGE))
        while "." not in mailbox.commands:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        sending.cancel()
        with pytest.raises(asyncio.CancelledError):
            await sending
        await asyncio.to_thread(mailbox.wait_idle)

    asyncio.run(send_and_give_up())


def test_a_server_that_is_not_there_is_unavailable() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound and not listening: nobody answers there, and nobody else takes it

        error = failure(f"smtp://127.0.0.1:{taken.getsockname()[1]}")

    assert told(error) == (
        MailUnavailable,
        "the mail server can't be reached (connect)",
        Stage.CONNECT,
        None,
        "",
    )


@pytest.mark.parametrize(
    ("verb", "answer", "sentence", "code"),
    [
        ("CONNECT", "554 5.3.2 TELLTALE", "the mail server does not serve us now (connect: 554 5.3.2)", 554),
        ("CONNECT", "421 TELLTALE", "the mail server does not serve us now (connect: 421)", 421),
        ("EHLO", "421 4.3.2 TELLTALE", "the mail server does not serve us now (EHLO: 421 4.3.2)", 421),
        ("MAIL", "TELLTALE", "the mail server does not do what SMTP says (MAIL)", None),
        ("RCPT", "354 TELLTALE", "the mail server does not do what SMTP says (RCPT: 354)", 354),
        ("DATA", "250 TELLTALE", "the mail server does not do what SMTP says (DATA: 250)", 250),
        (".", "TELLTALE", f"the mail server does not do what SMTP says {AFTER} (DATA)", None),
    ],
)
def test_an_answer_that_is_about_no_message_makes_the_server_unavailable(
    mailbox: Mailbox, verb: str, answer: str, sentence: str, code: int | None
) -> None:
    mailbox.reply[verb] = answer

    error = failure(mailbox.url)

    assert isinstance(error, MailUnavailable)
    assert (str(error), error.code, error.in_doubt) == (sentence, code, verb == ".")


def test_an_address_that_needs_smtputf8_is_refused_where_the_server_has_none(mailbox: Mailbox) -> None:
    mailbox.smtputf8 = False

    error = failure(mailbox.url, replace(MESSAGE, to="zoë.sanne@lezer.example"))

    assert told(error) == (
        MailRefused,
        "an address has letters that the mail server can't take, as it has no SMTPUTF8 (MAIL: 5.6.7)",
        Stage.MAIL,
        None,
        "5.6.7",
    )
    assert mailbox.commands == ["CONNECT", "EHLO"]


def test_a_message_larger_than_the_server_takes_is_refused_before_it_is_sent(mailbox: Mailbox) -> None:
    mailbox.size = len(MESSAGE.as_bytes())
    send(mailbox.url)
    mailbox.size -= 1
    mailbox.commands.clear()

    error = failure(mailbox.url)

    assert told(error) == (
        MailRefused,
        "the message is larger than the mail server takes (MAIL: 5.3.4)",
        Stage.MAIL,
        None,
        "5.3.4",
    )
    assert mailbox.commands == ["CONNECT", "EHLO"]


def test_a_server_that_tells_no_size_is_told_none(mailbox: Mailbox) -> None:
    mailbox.size = None

    send(mailbox.url)

    mailbox.wait(1)
    assert mailbox.envelopes[0].options == []


# Encryption and login


def test_starttls_is_used_when_offered(mailbox: Mailbox, authority: trustme.CA) -> None:
    mailbox.tls = server_context(authority)

    send(mailbox.url)

    mailbox.wait(1)
    assert mailbox.encrypted == [True]
    assert mailbox.commands == ["CONNECT", "EHLO", "STARTTLS", "EHLO", "MAIL", "RCPT", "DATA", ".", "QUIT"]


def test_smtps_is_encrypted_from_the_start(authority: trustme.CA) -> None:
    with Mailbox(implicit_tls=server_context(authority)) as mailbox:
        send(mailbox.url, user="linde", password="geheim")

        mailbox.wait(1)
        assert mailbox.logins == [("linde", "geheim")]
        assert mailbox.commands == ["CONNECT", "EHLO", "AUTH", "MAIL", "RCPT", "DATA", ".", "QUIT"]


UNVERIFIED = (
    "the certificate of the mail server can't be verified (name the host as the certificate does; "
    "SSL_CERT_FILE names the authorities to trust)"
)


def test_a_certificate_of_nobody_known_is_not_trusted() -> None:
    with Mailbox(implicit_tls=server_context(trustme.CA())) as mailbox:
        error = failure(mailbox.url)

        assert told(error) == (MailUnavailable, f"{UNVERIFIED} (connect)", Stage.CONNECT, None, "")
        assert "MAIL" not in mailbox.commands


def test_a_server_on_this_machine_may_offer_starttls_with_a_certificate_it_made_itself(mailbox: Mailbox) -> None:
    mailbox.tls = server_context(trustme.CA())

    send(mailbox.url)

    mailbox.wait(1)
    assert mailbox.commands[:3] == ["CONNECT", "EHLO", "STARTTLS"]


def test_a_certificate_for_another_name_is_not_trusted(authority: trustme.CA) -> None:
    with Mailbox(implicit_tls=server_context(authority, "elders.example")) as mailbox:
        error = failure(mailbox.url)

    assert told(error) == (MailUnavailable, f"{UNVERIFIED} (connect)", Stage.CONNECT, None, "")


def test_a_server_that_speaks_no_tls_where_it_should_is_unavailable(mailbox: Mailbox) -> None:
    error = failure(mailbox.url.replace("smtp:", "smtps:"))

    assert told(error) == (
        MailUnavailable,
        "the connection to the mail server could not be encrypted (connect)",
        Stage.CONNECT,
        None,
        "",
    )


def test_a_server_that_takes_starttls_back_is_not_used_in_clear(mailbox: Mailbox, authority: trustme.CA) -> None:
    mailbox.tls = server_context(authority)
    mailbox.reply["STARTTLS"] = "454 4.7.0 TELLTALE"

    error = failure(mailbox.url)

    assert told(error) == (
        MailUnavailable,
        "the mail server does not serve us now (STARTTLS: 454 4.7.0)",
        Stage.TLS,
        454,
        "4.7.0",
    )
    assert mailbox.commands == ["CONNECT", "EHLO", "STARTTLS"]


@pytest.mark.parametrize(
    ("scheme", "host", "password", "expected"),
    [
        ("smtps", "mail.example", True, Encryption.FROM_THE_START),
        ("smtps", "localhost", False, Encryption.FROM_THE_START),
        ("smtp", "mail.example", True, Encryption.REQUIRED),
        ("smtp", "mail.example", False, Encryption.WHEN_OFFERED),
        ("smtp", "192.168.1.2", True, Encryption.REQUIRED),
        ("smtp", "0.0.0.0", True, Encryption.REQUIRED),
        ("smtp", "127.1", True, Encryption.REQUIRED),
        ("smtp", "localhost.example", True, Encryption.REQUIRED),
        ("smtp", "127.0.0.1.example", True, Encryption.REQUIRED),
        ("smtp", "localhost", True, Encryption.WHEN_OFFERED),
        ("smtp", "LOCALHOST", True, Encryption.WHEN_OFFERED),
        ("smtp", "127.0.0.1", True, Encryption.WHEN_OFFERED),
        ("smtp", "127.8.9.1", True, Encryption.WHEN_OFFERED),
        ("smtp", "::1", True, Encryption.WHEN_OFFERED),
    ],
)
def test_a_password_in_clear_is_for_this_machine_only(
    scheme: str, host: str, password: bool, expected: Encryption
) -> None:
    assert encryption(scheme, host, password=password) is expected


def test_a_password_is_not_sent_where_encryption_is_required_and_not_offered(mailbox: Mailbox) -> None:
    elsewhere = mailbox.url.replace("127.0.0.1", "127.1")  # the system knows it is this machine; the rule does not

    error = failure(elsewhere, user="linde", password="geheim")

    assert told(error) == (
        MailUnavailable,
        "the mail server offers no encryption, and a password is not sent in clear (STARTTLS)",
        Stage.TLS,
        None,
        "",
    )
    assert (mailbox.commands, mailbox.logins) == (["CONNECT", "EHLO"], [])


def test_a_login_is_sent_over_tls(mailbox: Mailbox, authority: trustme.CA) -> None:
    mailbox.tls = server_context(authority)

    send(mailbox.url, user="linde", password="geheim")

    assert mailbox.logins == [("linde", "geheim")]
    assert mailbox.commands.index("STARTTLS") < mailbox.commands.index("AUTH")


def test_a_refused_login_makes_the_server_unavailable(mailbox: Mailbox) -> None:
    mailbox.reply["AUTH"] = "535 5.7.8 TELLTALE"

    error = failure(mailbox.url, user="linde", password="geheim")

    assert told(error) == (
        MailUnavailable,
        "the mail server refused the login (login: 535 5.7.8)",
        Stage.LOGIN,
        535,
        "5.7.8",
    )


def test_a_challenge_that_is_none_makes_the_server_unavailable(mailbox: Mailbox) -> None:
    mailbox.reply |= {"EHLO": "250-mail.test\r\n250 AUTH CRAM-MD5", "AUTH": "334 TELLTALEx"}

    error = failure(mailbox.url, user="linde", password="geheim")

    assert told(error) == (
        MailUnavailable,
        "the mail server does not do what SMTP says (login)",
        Stage.LOGIN,
        None,
        "",
    )


def test_a_server_without_login_is_unavailable_to_who_has_one(mailbox: Mailbox) -> None:
    mailbox.reply["EHLO"] = "250 mail.test"

    error = failure(mailbox.url, user="linde", password="geheim")

    assert told(error) == (
        MailUnavailable,
        "the mail server offers no login that is known here (login)",
        Stage.LOGIN,
        None,
        "",
    )


# Settings


AS_IN = "must be as in smtp://mail.example:587 or smtps://mail.example:465"


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        ("mail.example:587", f"the url begins with neither smtp:// nor smtps://, and {AS_IN}"),
        ("https://mail.example", f"the url begins with neither smtp:// nor smtps://, and {AS_IN}"),
        ("", f"the url begins with neither smtp:// nor smtps://, and {AS_IN}"),
        ("smtp://", f"the url has no usable host (its name in ASCII, or its address), and {AS_IN}"),
        ("smtp://:25", f"the url has no usable host (its name in ASCII, or its address), and {AS_IN}"),
        ("smtp://-x..y", f"the url has no usable host (its name in ASCII, or its address), and {AS_IN}"),
        ("smtp://café.example", f"the url has no usable host (its name in ASCII, or its address), and {AS_IN}"),
        ("smtp://mail.example:0", f"the url has a port 0 or something after the port, and {AS_IN}"),
        ("smtp://mail.example/x", f"the url has a port 0 or something after the port, and {AS_IN}"),
        ("smtp://mail.example:25?tls=1", f"the url has a port 0 or something after the port, and {AS_IN}"),
        ("smtp://mail.example:99999", f"the url {AS_IN}"),
        ("smtp://[::1", f"the url {AS_IN}"),
        (
            "smtp://linde:geheim@mail.example",
            "the url has a user or password in it, and a url is shown: give them as user and password",
        ),
    ],
)
def test_a_url_that_is_none_is_refused_with_what_to_write(url: str, problem: str) -> None:
    with pytest.raises(SettingsError) as caught:
        SMTPMailer(url)

    assert (caught.value.problems, caught.value.source) == ([problem], "mail.smtp")


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"user": "linde"}, "user and password belong together: give both, or neither"),
        ({"password": "geheim"}, "user and password belong together: give both, or neither"),
        ({"timeout": 0}, "timeout must be more than 0 seconds: write 30"),
        ({"verdict": 0}, "verdict must be more than 0 seconds: write 600"),
    ],
)
def test_options_that_do_not_go_together_are_refused(options: dict[str, Any], problem: str) -> None:
    with pytest.raises(SettingsError) as caught:
        SMTPMailer("smtp://mail.example", **options)

    assert (caught.value.problems, caught.value.source) == ([problem], "mail.smtp")


@pytest.mark.parametrize(
    ("url", "host", "port"),
    [
        ("smtp://mail.example", "mail.example", 587),
        ("smtps://mail.example", "mail.example", 465),
        ("smtp://mail.example:25", "mail.example", 25),
        ("smtp://mail.example:25/", "mail.example", 25),
        ("smtp://[::1]:1025", "::1", 1025),
    ],
)
def test_a_url_gives_host_and_port(url: str, host: str, port: int) -> None:
    mailer = SMTPMailer(url)

    assert (mailer.host, mailer.port) == (host, port)


def test_a_mailer_shows_no_password() -> None:
    mailer = SMTPMailer("smtp://mail.example", user="linde", password="geheim")

    assert repr(mailer) == "SMTPMailer('smtp://mail.example:587')"


def test_the_mailer_for_tests_keeps_what_was_sent() -> None:
    mailer = MemoryMailer()

    asyncio.run(mailer.send(MESSAGE))

    assert mailer.sent == [MESSAGE]
