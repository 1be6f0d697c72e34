"""Opt-outs by mail: obeyed where a token of ours says who leaves, and nothing else is believed."""

from __future__ import annotations

import json
import logging
import re
import socketserver
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.header import Header
from pathlib import Path
from typing import Any

import click
import pytest
import trustme
import typer
from typer.testing import CliRunner

from consentkit.address import AddressKeys
from consentkit.afgemeld import Afgemeld, Links
from consentkit.afgemeld.intake import MailboxUnavailable, Outcome, Result, intake, intake_mailbox, read_message
from consentkit.cli import intake as command
from consentkit.errors import AfgemeldUnavailable, SettingsError
from consentkit.store import Store

NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
KEY = b"a5Hn3Gm6Fd1Cak7Jw0uZ4sXq9Bv2Lr8Yt-and-more"
WHO = "ouder@thuis.example"
LISTS = ("agenda", "nieuwsbrief")


@dataclass
class Desk:
    """A ledger, its links, and what takes messages in."""

    ledger: Afgemeld
    links: Links
    store: Store

    def take(self, raw: bytes) -> Result:
        return intake(self.ledger, self.links, LISTS, raw, lambda: NOW)

    def rows(self, address: str = WHO) -> list[tuple[str, str, str, datetime]]:
        return sorted((one.scope, str(one.reason), one.channel, one.at) for one in self.ledger.all_of(address))

    def count(self) -> int:
        return len(self.store.fetch("SELECT digest FROM afgemeld WHERE length(digest) > ?", [0]))


def desk_on(url: str, folder: Path, key: bytes = KEY) -> Desk:
    store = Store(url)
    keys = AddressKeys([key])
    return Desk(Afgemeld(store, keys, tombstones=folder / "tombstones", clock=lambda: NOW), Links(keys), store)


@pytest.fixture
def desk(database_url: str, tmp_path: Path) -> Iterator[Desk]:
    """On SQLite and on PostgreSQL."""
    desk = desk_on(database_url, tmp_path)
    desk.store.upgrade()
    yield desk
    desk.ledger.close()
    desk.store.close()


@pytest.fixture
def light(tmp_path: Path) -> Iterator[Desk]:
    """On SQLite alone, for what is about reading."""
    desk = desk_on(f"sqlite:///{tmp_path / 'light.db'}", tmp_path)
    desk.store.upgrade()
    yield desk
    desk.ledger.close()
    desk.store.close()


def sent_to(links: Links, address: str = WHO, list: str | None = "nieuwsbrief") -> str:
    return f"afmelden+{links.short_token(address, list)}@delinde.example"


def mail(**headers: str) -> bytes:
    lines = {"From": "Iemand <iemand@elders.example>", "Subject": "unsubscribe", **headers}
    head = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in lines.items())
    return head.encode() + b"\r\nGroet\r\n"


TAKEN = [("list:nieuwsbrief", "reply", "mailto", NOW)]


# -- a message with a token -----------------------------------------------------------------------------------------


@pytest.mark.checklist("UNS-08")
def test_a_message_to_the_address_of_the_header_is_an_opt_out_with_its_channel(desk: Desk) -> None:
    raw = mail(To=sent_to(desk.links))

    assert desk.take(raw) == Result(Outcome.TAKEN, 1)
    assert desk.rows() == TAKEN
    assert desk.ledger.look_up(WHO, list="nieuwsbrief") is not None
    assert desk.ledger.look_up(WHO, list="agenda") is None

    assert desk.take(raw) == Result(Outcome.KNOWN)
    assert desk.rows() == TAKEN


@pytest.mark.checklist("UNS-08")
def test_a_long_token_in_the_subject_is_an_opt_out_too(desk: Desk) -> None:
    raw = mail(To="afmelden@delinde.example", Subject=f"Re: afmelden {desk.links.token(WHO, None)}")

    assert desk.take(raw).outcome is Outcome.TAKEN
    assert desk.rows() == [("marketing", "reply", "mailto", NOW)]


@pytest.mark.checklist("UNS-08")
def test_two_messages_at_once_are_one_opt_out(desk: Desk) -> None:
    raw = mail(To=sent_to(desk.links))
    results: list[Result] = []
    threads = [threading.Thread(target=lambda: results.append(desk.take(raw))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sorted(result.outcome for result in results) == ["known", "known", "known", "taken"]
    assert desk.rows() == TAKEN


WAYS: dict[str, Callable[[str], bytes]] = {
    "upper case": lambda to: mail(To=to.upper()),
    "a name": lambda to: mail(To=f'"De Linde, afmelden" <{to}>'),
    "Cc": lambda to: mail(To="iemand@elders.example", Cc=to),
    "Delivered-To": lambda to: mail(To="iemand@elders.example", Delivered_To=to),
    "X-Original-To": lambda to: mail(To="undisclosed-recipients:;", X_Original_To=to),
    "Envelope-To": lambda to: mail(Envelope_To=f"<{to}>"),
    "X-Envelope-To": lambda to: mail(X_Envelope_To=to),
    "folded": lambda to: mail(To=f"Iemand\r\n\t<iemand@elders.example>,\r\n {to}"),
    "the second Delivered-To": lambda to: mail(Delivered_To="lijst@elders.example", delivered_to=to),
    "only line feeds": lambda to: mail(To=to).replace(b"\r\n", b"\n"),
    "an mbox line": lambda to: b"From iemand@elders.example Sun Nov 22 12:00:00 2026\n" + mail(To=to),
    "no body": lambda to: mail(To=to).partition(b"\r\n\r\n")[0],
    "Auto-Submitted: no": lambda to: mail(To=to, Auto_Submitted="No"),
    "a return path": lambda to: mail(To=to, Return_Path="<iemand@elders.example>"),
    "8-bit garbage": lambda to: (
        b"X-\xff\xfe: \x80\x81\r\nFrom: \xe9\xe9 <\xff@\xff>\r\n" + mail(To=to) + bytes(range(256)) * 9
    ),
    "broken MIME": lambda to: mail(To=to, Content_Type='multipart/mixed; boundary="', MIME_Version="1.0") + b"--\r\n--",
    "lines without a colon": lambda to: mail(To=to)[:-9] + b"wat is dit\r\n\r\n",
    "10 MB": lambda to: mail(To=to) + b"x" * 10_000_000,
}


@pytest.mark.checklist("UNS-08")
@pytest.mark.parametrize("way", WAYS)
def test_the_token_is_found_wherever_and_however_it_arrives(light: Desk, way: str) -> None:
    assert light.take(WAYS[way](sent_to(light.links))) == Result(Outcome.TAKEN, 1)
    assert light.rows() == TAKEN


def test_a_subject_that_was_encoded_is_read(light: Desk) -> None:
    subject = Header(f"Graag afmelden, alsjeblieft: één keer {light.links.token(WHO, 'agenda')}", "utf-8").encode()

    assert light.take(mail(Subject=subject)).outcome is Outcome.TAKEN
    assert light.rows() == [("list:agenda", "reply", "mailto", NOW)]


def test_a_token_of_a_list_that_is_gone_leaves_all_marketing(light: Desk) -> None:
    assert light.take(mail(To=sent_to(light.links, list="opgeheven"))).outcome is Outcome.TAKEN
    assert light.rows() == [("marketing", "reply", "mailto", NOW)]


def test_a_message_with_several_genuine_tokens_is_obeyed_in_all(light: Desk) -> None:
    other = "ander@thuis.example"
    raw = mail(To=f"{sent_to(light.links)}, {sent_to(light.links, other)}", Subject=light.links.token(WHO, "agenda"))

    assert light.take(raw) == Result(Outcome.TAKEN, 3)
    assert [row[0] for row in light.rows()] == ["list:agenda", "list:nieuwsbrief"]
    assert [row[0] for row in light.rows(other)] == ["list:nieuwsbrief"]


# -- a message to disbelieve ----------------------------------------------------------------------------------------


def changed(token: str) -> str:
    return token[:10] + ("b" if token[10] != "b" else "c") + token[11:]


@pytest.mark.checklist("UNS-08")
def test_a_forged_token_changes_nothing_and_is_said(desk: Desk) -> None:
    strangers = Links(AddressKeys([b"b5Hn3Gm6Fd1Cak7Jw0uZ4sXq9Bv2Lr8Yt-and-more"]))
    short, long = desk.links.short_token(WHO, "agenda"), desk.links.token(WHO, "agenda")
    forged = [
        mail(To=sent_to(strangers)),
        mail(Subject=strangers.token(WHO, None)),
        mail(To=f"afmelden+{changed(short)}@delinde.example"),
        mail(Subject=changed(long)),
        mail(To=f"afmelden+{'a' * 48}@delinde.example"),
    ]

    assert {desk.take(raw).outcome for raw in forged} == {Outcome.FORGED}
    assert desk.take(forged[0]).needs_a_person
    assert desk.count() == 0


MACHINES = [
    {"Auto_Submitted": "auto-replied"},
    {"Auto_Submitted": "auto-generated; owner-email=x@y.example"},
    {"Auto_Submitted": "\r\n auto-replied (vacation)"},
    {"Precedence": "bulk"},
    {"Precedence": "Junk"},
    {"Precedence": "list"},
    {"Precedence": "auto_reply"},
    {"Return_Path": "<>"},
    {"Return_Path": "< >"},
    {"Content_Type": "multipart/report; report-type=delivery-status; boundary=x"},
    {"Content_Type": "MULTIPART/REPORT;\r\n\treport-type=feedback-report"},
]


@pytest.mark.checklist("UNS-08")
@pytest.mark.parametrize("headers", MACHINES)
def test_an_automatic_reply_or_a_bounce_is_no_opt_out(light: Desk, headers: dict[str, str]) -> None:
    raw = mail(To=sent_to(light.links), Subject=f"Afwezig {light.links.token(WHO, None)}", **headers)

    assert light.take(raw) == Result(Outcome.IGNORED)
    assert not light.take(raw).needs_a_person
    assert light.count() == 0


@pytest.mark.checklist("UNS-08")
@pytest.mark.parametrize(
    "raw",
    [
        mail(To="nieuws@delinde.example", Subject="haal me van de lijst", From=WHO),
        mail(To="afmelden+stop@delinde.example"),
        mail(Subject="=?utf-8?b?////?="),
        mail(Subject="=?no-such-charset?q?afmelden?="),
        b"",
        b"\r\n\r\n",
        b"\x00\xff" * 1000,
        bytes(range(256)),
    ],
)
def test_a_message_without_a_token_is_not_obeyed_and_waits_for_a_person(light: Desk, raw: bytes) -> None:
    result = light.take(raw)

    assert result == Result(Outcome.UNCLEAR)
    assert result.needs_a_person
    assert light.count() == 0


def test_what_stands_in_the_text_or_after_the_first_megabyte_is_not_read(light: Desk) -> None:
    to = sent_to(light.links)

    assert light.take(mail() + f"To: {to}\r\n".encode()).outcome is Outcome.UNCLEAR
    late = b"X-Filler: " + b"y" * 70 + b"\r\n"
    assert light.take(late * 13_000 + mail(To=to)).outcome is Outcome.UNCLEAR
    assert light.count() == 0


def test_a_header_that_was_injected_writes_nothing_that_its_token_does_not_say(light: Desk) -> None:
    """Whatever is smuggled into a header, only a signed token counts, and only for what it names."""
    raw = mail(
        Subject="hallo\rTo: ouder@thuis.example\r\nX-Consentkit-Scope: mail\r\nFrom: ouder@thuis.example",
        To=f"{sent_to(light.links, 'ander@thuis.example')}\x00, list:mail",
    )

    assert light.take(raw) == Result(Outcome.TAKEN, 1)
    assert light.rows() == []
    assert light.rows("ander@thuis.example") == TAKEN


@pytest.mark.parametrize(
    "raw",
    [
        pytest.param(mail(To=", ".join(f"a+{'abcdefgh' * 6}@{n}.example" for n in range(15_000))), id="many tokens"),
        pytest.param(mail(To="+" + "a" * 900_000), id="one long address"),
        pytest.param(mail(Subject="a" * 900_000), id="one long subject"),
        pytest.param(mail(Subject=("a" * 44 + ".") * 20_000), id="nearly tokens"),
        pytest.param(mail(Subject="=?utf-8?q?" * 90_000), id="encoded words that never end"),
        pytest.param(b"To: x\r\n" * 140_000, id="many headers"),
        pytest.param(b"\r\n".join([b"To: x", *[b" ,"] * 300_000]), id="one header of many lines"),
        pytest.param(
            b"".join(b"Content-Type: multipart/mixed; boundary=%d\r\n\r\n--%d\r\n" % (n, n) for n in range(15_000)),
            id="deep MIME",
        ),
    ],
)
def test_a_hostile_message_costs_little_and_changes_nothing(light: Desk, raw: bytes) -> None:
    start = time.process_time()
    outcome = light.take(raw).outcome

    assert outcome in (Outcome.FORGED, Outcome.UNCLEAR)
    assert time.process_time() - start < 3
    assert light.count() == 0


def test_genuine_tokens_behind_a_crowd_of_forged_ones_stay_behind(light: Desk) -> None:
    crowd = [f"a+{Links(AddressKeys([bytes([n]) * 32])).short_token(WHO, None)}@x.example" for n in range(30)]

    assert light.take(mail(To=", ".join([*crowd, sent_to(light.links)]))).outcome is Outcome.FORGED


def test_when_the_database_is_away_the_message_is_not_taken(tmp_path: Path) -> None:
    desk = desk_on(f"sqlite:///{tmp_path / 'none' / 'x.db'}", tmp_path)

    with pytest.raises(AfgemeldUnavailable):
        desk.take(mail(To=sent_to(desk.links)))


@pytest.mark.checklist("SEC-05")
def test_neither_addresses_nor_tokens_reach_the_log_or_the_result(
    light: Desk, caplog: pytest.LogCaptureFixture
) -> None:
    token, long = light.links.short_token(WHO, None), light.links.token(WHO, None)
    messages = [
        mail(To=f"a+{token}@b.example", From=WHO),
        mail(To=f"a+{changed(token)}@b.example", From=WHO),
        mail(Subject=long, From=WHO),
        mail(Subject="haal me eraf", From=WHO),
    ]

    with caplog.at_level(logging.DEBUG):
        told = caplog.text + "".join(f"{light.take(raw)}{light.take(raw)!r}" for raw in messages) + caplog.text

    assert not re.search(rf"thuis|{token}|{changed(token)}|{re.escape(long)}", told)


# -- a mailbox ------------------------------------------------------------------------------------------------------


@dataclass
class StandIn:
    """A stand-in for an IMAP server: no more of RFC 3501 than the reading of a mailbox asks for, over a real socket."""

    messages: dict[int, bytes] = field(default_factory=dict)
    flags: dict[int, set[str]] = field(default_factory=dict)
    commands: list[str] = field(default_factory=list)
    broken: set[int] = field(default_factory=set)
    before_fetch: Callable[[int], None] = lambda uid: None
    login: tuple[str, str] = ("post", "geheim woord")
    port: int = 0

    def put(self, raw: bytes) -> int:
        uid = len(self.messages) + 101
        self.messages[uid] = raw
        self.flags[uid] = set()
        return uid

    def answer(self, command: str, rest: str) -> tuple[list[bytes], str]:
        """The untagged lines and the tagged one."""
        if command == "CAPABILITY":
            return [b"* CAPABILITY IMAP4rev1"], "OK"
        if command == "LOGIN":
            return [], "OK" if rest == '"{}" "{}"'.format(*self.login) else "NO wrong"
        if command == "SELECT":
            return [b"* %d EXISTS" % len(self.messages)], "OK" if rest.strip('"') == "INBOX/Af" else "NO no such folder"
        if command == "UID SEARCH":
            unseen = [uid for uid, flags in self.flags.items() if "\\Seen" not in flags]
            return [b"* SEARCH " + " ".join(map(str, unseen)).encode()], "OK"
        if command == "UID FETCH":
            return self.fetch(rest)
        if command == "UID STORE":
            uid, _, flags = rest.partition(" +FLAGS ")
            self.flags[int(uid)] |= set(flags.strip("()").split())
            return [], "OK"
        if command == "LOGOUT":
            return [b"* BYE"], "OK"
        return [], "OK" if command in ("NOOP", "EXPUNGE") else "BAD"

    def fetch(self, rest: str) -> tuple[list[bytes], str]:
        found = re.fullmatch(r"(\d+) \(BODY\.PEEK\[\]<0\.(\d+)>\)", rest)
        assert found, rest
        uid, size = int(found[1]), int(found[2])
        self.before_fetch(uid)
        if uid in self.broken:
            return [], "NO can't read it"
        raw = self.messages[uid][:size]
        return [b"* 1 FETCH (UID %d BODY[]<0> {%d}\r\n%b)" % (uid, len(raw), raw)], "OK"


class _Connection(socketserver.StreamRequestHandler):
    server: Any

    def handle(self) -> None:
        with suppress(ConnectionError):  # a client may hang up at any moment
            self.serve()

    def serve(self) -> None:
        if self.server.context:
            try:
                self.request = self.server.context.wrap_socket(self.request, server_side=True)
            except (ssl.SSLError, OSError):
                return
            self.setup()
        self.wfile.write(b"* OK ready\r\n")
        for line in self.rfile:
            tag, command, *rest = f"{line.decode('ascii', 'replace').strip()} ".split(" ", 2)
            rest = [part.strip() for part in rest if part]
            if command == "UID":
                verb, _, tail = rest[0].partition(" ")
                command, rest = f"UID {verb}", [tail]
            self.server.standin.commands.append(command)
            lines, end = self.server.standin.answer(command, rest[0] if rest else "")
            self.wfile.write(b"".join(line + b"\r\n" for line in lines) + f"{tag} {end} done\r\n".encode())
            if command == "LOGOUT":
                return

    def finish(self) -> None:
        with suppress(ConnectionError):
            super().finish()
        self.request.close()


@pytest.fixture
def serve() -> Iterator[Callable[..., StandIn]]:
    servers: list[socketserver.ThreadingTCPServer] = []

    def start(context: ssl.SSLContext | None = None) -> StandIn:
        standin = StandIn()
        server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), _Connection)
        server.daemon_threads = True
        server.standin, server.context = standin, context  # type: ignore[attr-defined]
        standin.port = server.server_address[1]
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        servers.append(server)
        return standin

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def read(desk: Desk, standin: StandIn, **options: Any) -> Any:
    url = options.pop("url", f"imap://127.0.0.1:{standin.port}/INBOX%2FAf")
    user, password = options.pop("login", standin.login)
    return intake_mailbox(desk.ledger, desk.links, LISTS, url, lambda: NOW, user=user, password=password, **options)


@pytest.mark.checklist("UNS-08")
def test_a_mailbox_is_read_and_each_message_marked_for_what_it_was(desk: Desk, serve: Callable[..., StandIn]) -> None:
    standin = serve()
    genuine = standin.put(mail(To=sent_to(desk.links)))
    again = standin.put(mail(To=sent_to(desk.links)))
    bounce = standin.put(mail(To=sent_to(desk.links), Return_Path="<>"))
    person = standin.put(mail(Subject="haal me van de lijst"))
    forged = standin.put(mail(To=f"a+{'a' * 48}@b.example"))
    large = standin.put(mail(To=sent_to(desk.links, list="agenda")) + b"x" * 5_000_000)

    report = read(desk, standin)

    assert report.outcomes == {"taken": 2, "known": 1, "ignored": 1, "unclear": 1, "forged": 1}
    assert report.failed == 0
    assert report.needs_a_person
    assert [row[0] for row in desk.rows()] == ["list:agenda", "list:nieuwsbrief"]
    assert {uid: sorted(flags) for uid, flags in standin.flags.items()} == {
        **{uid: ["\\Seen"] for uid in (genuine, again, bounce, large)},
        **{uid: ["\\Flagged", "\\Seen"] for uid in (person, forged)},
    }
    assert read(desk, standin).outcomes == dict.fromkeys(Outcome, 0)


@pytest.mark.checklist("UNS-08")
def test_a_broken_message_stays_unread_and_the_others_are_taken(desk: Desk, serve: Callable[..., StandIn]) -> None:
    standin = serve()
    broken = standin.put(b"")
    standin.put(mail(To=sent_to(desk.links)))
    standin.broken = {broken}

    report = read(desk, standin)

    assert (report.outcomes["taken"], report.failed) == (1, 1)
    assert report.needs_a_person
    assert standin.flags[broken] == set()
    assert desk.rows() == TAKEN


@pytest.mark.checklist("UNS-08")
def test_a_message_is_marked_only_after_its_row_is_there(
    light: Desk, serve: Callable[..., StandIn], monkeypatch: pytest.MonkeyPatch
) -> None:
    standin = serve()
    uid = standin.put(mail(To=sent_to(light.links)))
    answer = standin.answer

    def look(command: str, rest: str) -> tuple[list[bytes], str]:
        if command == "UID STORE":
            assert light.rows() == TAKEN
        return answer(command, rest)

    monkeypatch.setattr(standin, "answer", look)

    assert read(light, standin).outcomes["taken"] == 1
    assert standin.flags[uid] == {"\\Seen"}


@pytest.mark.checklist("UNS-08")
def test_when_the_database_goes_away_the_rest_stays_unread(light: Desk, serve: Callable[..., StandIn]) -> None:
    standin = serve()
    uids = [standin.put(mail(To=sent_to(light.links, f"{n}@thuis.example"))) for n in range(3)]

    def lose(uid: int) -> None:
        if uid == uids[1]:
            with light.store.begin() as connection:
                connection.exec_driver_sql("ALTER TABLE afgemeld RENAME TO away")

    standin.before_fetch = lose

    with pytest.raises(AfgemeldUnavailable):
        read(light, standin)
    assert [bool(standin.flags[uid]) for uid in uids] == [True, False, False]


def test_over_tls_the_certificate_is_verified(light: Desk, serve: Callable[..., StandIn]) -> None:
    authority = trustme.CA()
    server_side = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(server_side)
    trusting = ssl.create_default_context()
    authority.configure_trust(trusting)
    standin = serve(server_side)
    standin.put(mail(To=sent_to(light.links)))
    url = f"imaps://localhost:{standin.port}/INBOX%2FAf"

    with pytest.raises(MailboxUnavailable, match="not verified"):
        read(light, standin, url=url)
    assert standin.commands == []
    assert read(light, standin, url=url, context=trusting).outcomes["taken"] == 1


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"login": ("post", "anders")}, "check the user, the password and the folder"),
        ({"url": "imap://127.0.0.1:{port}/Anders"}, "check the user, the password and the folder"),
        ({"url": "imap://127.0.0.1:1/INBOX"}, "can't be reached"),
        ({"url": "imaps://127.0.0.1:{port}/INBOX"}, "could not be encrypted"),
    ],
)
def test_a_mailbox_that_can_t_be_opened_is_said_without_its_password(
    light: Desk, serve: Callable[..., StandIn], options: dict[str, Any], sentence: str
) -> None:
    standin = serve()
    if "url" in options:
        options = {**options, "url": options["url"].format(port=standin.port)}

    with pytest.raises(MailboxUnavailable, match=sentence) as caught:
        read(light, standin, **options)
    assert "anders" not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "sentence"),
    [
        ("imap://mail.example/INBOX", "would send the password in clear"),
        ("imaps://post:geheim@mail.example/INBOX", "CONSENTKIT_IMAP_PASSWORD"),
        ("pop3://mail.example", "must be as in imaps://"),
        ("imaps:///INBOX", "must be as in imaps://"),
        ("imaps://mail.example:x/", "must be as in imaps://"),
        ("imaps://mail.example/IN%0d%0aBOX", "must be as in imaps://"),
    ],
)
def test_a_url_that_can_t_be_meant_is_refused_and_not_repeated(light: Desk, url: str, sentence: str) -> None:
    with pytest.raises(SettingsError, match=sentence) as caught:
        read(light, StandIn(), url=url)
    assert "geheim" not in str(caught.value)


def test_without_imap_tools_the_remedy_is_said(light: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "imap_tools", None)

    with pytest.raises(SettingsError, match=r"pip install 'consentkit\[imap\]'"):
        read(light, StandIn())


# -- the command ----------------------------------------------------------------------------------------------------


class Pipe:
    """Standard input of which it is known how much was read."""

    def __init__(self, size: int) -> None:
        self.left = size

    def read(self, size: int) -> bytes:
        size = min(size, self.left)
        self.left -= size
        return b"x" * size


def test_a_pipe_is_read_to_its_end_and_kept_up_to_a_megabyte() -> None:
    pipe = Pipe(10_000_000)

    assert len(read_message(pipe)) == 1024 * 1024  # type: ignore[arg-type]
    assert pipe.left == 0


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """The command on a site of its own, whose database is `site.db`."""
    (tmp_path / "consentkit.toml").write_text(
        '[site]\nname = "De Linde"\nbase_url = "http://127.0.0.1"\nprivacy_statement = "/p"\n'
        '[site.controller]\nname = "De Linde"\naddress = "Lindelaan 1"\n'
        '[mail]\nsender = "De Linde <nieuws@delinde.example>"\n'
        '[lists.nieuwsbrief]\ntitle = { nl = "N" }\nabout = { nl = "N" }\nfrequency = { nl = "N" }\n'
        '[database]\nurl = "sqlite:///site.db"\n',
        "utf-8",
    )
    monkeypatch.setenv("CONSENTKIT_SECRET_KEYS", "k7Jw0uZ4sXq9Bv2Lr8Yt5Hn3Gm6Fd1Ca-and-more")
    monkeypatch.setenv("CONSENTKIT_AFGEMELD_KEYS", KEY.decode())
    monkeypatch.chdir(tmp_path)
    app = typer.Typer()
    app.command()(command.intake)

    def call(*args: str, input: bytes = b"") -> click.testing.Result:
        return CliRunner().invoke(app, list(args), input=input)  # type: ignore[return-value]

    return call


def site_desk(tmp_path: Path) -> Desk:
    desk = desk_on(f"sqlite:///{tmp_path / 'site.db'}", tmp_path)
    desk.store.upgrade()
    return desk


@pytest.mark.checklist("UNS-08")
def test_the_command_takes_one_message_from_standard_input(tmp_path: Path, run: Callable[..., Any]) -> None:
    desk = site_desk(tmp_path)
    raw = mail(To=sent_to(desk.links))

    first, second = run(input=raw), run("--json", input=raw)
    ignored = run(input=mail(To=sent_to(desk.links), Precedence="bulk"))
    unclear = run(input=mail(From=WHO))

    assert (first.exit_code, first.stdout) == (0, "taken: who sent it gets no such mail any more\n")
    assert (second.exit_code, json.loads(second.stdout)) == (0, {"outcome": "known", "new": 0})
    assert ignored.exit_code == 0
    assert unclear.exit_code == 1
    assert "thuis" not in unclear.output
    assert [row[:3] for row in desk.rows()] == [TAKEN[0][:3]]
    desk.store.close()


@pytest.mark.checklist("UNS-08")
@pytest.mark.parametrize("missing", ["database", "key"])
def test_the_command_asks_the_mail_server_to_keep_the_message_when_it_can_t_be_stored(
    tmp_path: Path, run: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, missing: str
) -> None:
    if missing == "key":
        monkeypatch.delenv("CONSENTKIT_AFGEMELD_KEYS")
    else:
        (tmp_path / "site.db").mkdir()

    result = run(input=mail(To=sent_to(Links(AddressKeys([KEY])))))

    assert result.exit_code == 75


def test_the_command_reads_a_mailbox_with_the_login_of_the_environment(
    tmp_path: Path, run: Callable[..., Any], serve: Callable[..., StandIn], monkeypatch: pytest.MonkeyPatch
) -> None:
    desk = site_desk(tmp_path)
    standin = serve()
    standin.put(mail(To=sent_to(desk.links)))
    url = f"imap://127.0.0.1:{standin.port}/INBOX%2FAf"
    assert "CONSENTKIT_IMAP_USER" in str(run("--mailbox", url).exception)

    monkeypatch.setenv("CONSENTKIT_IMAP_USER", standin.login[0])
    monkeypatch.setenv("CONSENTKIT_IMAP_PASSWORD", standin.login[1])
    taken = run("--mailbox", url)
    standin.put(mail(Subject="haal me eraf"))
    unclear = run("--mailbox", url, "--json")

    assert (taken.exit_code, taken.stdout) == (0, "1 taken, 0 known, 0 ignored, 0 forged, 0 unclear, 0 failed\n")
    assert unclear.exit_code == 1
    assert json.loads(unclear.stdout)["unclear"] == 1
    assert [row[:3] for row in desk.rows()] == [TAKEN[0][:3]]
    desk.store.close()


# -- the script for a mail server -----------------------------------------------------------------------------------


@pytest.mark.parametrize(("code", "ends", "forwarded"), [(0, 0, False), (1, 0, True), (2, 75, False), (75, 75, False)])
def test_the_script_that_the_documentation_gives_loses_no_message(
    tmp_path: Path, code: int, ends: int, forwarded: bool
) -> None:
    page = (Path(__file__).parents[2] / "docs" / "intake.md").read_text("utf-8")
    (script,) = re.findall(r"^```sh\n(#!/bin/sh.*?)^```", page, re.MULTILINE | re.DOTALL)
    raw = mail(To="afmelden@delinde.example")
    for name, does in {"consentkit": f"cat > taken; exit {code}", "sendmail": "cat > forwarded"}.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{does}\n", "utf-8")
        (tmp_path / name).chmod(0o755)
    script = re.sub(r"cd \S+", f"cd {tmp_path}", re.sub(r"/\S+/(consentkit|sendmail)\b", r"\1", script))

    done = subprocess.run(
        ["sh", "-c", script], input=raw, env={"PATH": f"{tmp_path}:/usr/bin:/bin", "TMPDIR": str(tmp_path)}, check=False
    )

    assert done.returncode == ends
    assert (tmp_path / "taken").read_bytes() == raw
    assert (tmp_path / "forwarded").exists() == forwarded
    assert list(tmp_path.glob("tmp.*")) == []
