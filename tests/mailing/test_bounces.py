"""What a mail says that came back: a table of the formats that servers write, and what none of them may cause."""

from __future__ import annotations

import logging
import re
import sys
import time
from pathlib import Path

import pytest

from consentkit.address import AddressKeys
from consentkit.afgemeld import Links
from consentkit.mail import Stage
from consentkit.mailing import bounces
from consentkit.mailing.bounces import Kind, Report, judged, means_no_mailbox, read

CASES = Path(__file__).parents[1] / "cases" / "bounces"
KEYS = AddressKeys([b"a5Hn3Gm6Fd1Cak7Jw0uZ4sXq9Bv2Lr8Yt-and-more"])
LINKS = Links(KEYS)
WHO = "ouder@thuis.example"
BOUNCE = LINKS.bounce_token(KEYS.digest(WHO), 41)
LEAVE = LINKS.token(WHO, "nieuwsbrief", delivery=41)


def mail(name: str) -> bytes:
    raw = (CASES / f"{name}.eml").read_bytes()
    return raw.replace(b"BOUNCE-TOKEN", BOUNCE.encode()).replace(b"LEAVE-TOKEN", LEAVE.encode())


TABLE: dict[str, tuple[str, str]] = {
    "postfix-no-mailbox": ("hard", "5.1.1"),
    "postfix-null-mx": ("hard", "5.1.10"),
    "postfix-no-route": ("soft", "5.4.4"),
    "postfix-gave-up": ("soft", "4.4.1"),
    "postfix-delayed": ("delayed", "4.4.1"),
    "postfix-too-large": ("policy", "5.3.4"),
    "postfix-said-two-things": ("policy", "5.7.1"),
    "postfix-relayed": ("nothing", "2.0.0"),
    "postfix-alias-of-two": ("nothing", "2.1.5"),
    "exim-no-mailbox": ("hard", "5.1.1"),
    "exim-old-plain": ("soft", "5.0.0"),
    "exchange-no-mailbox": ("hard", "5.1.10"),
    "outlook-com-unavailable": ("soft", "5.5.0"),
    "gmail-no-mailbox": ("hard", "5.1.1"),
    "gmail-full": ("soft", "5.2.2"),
    "gmail-disabled": ("soft", "5.2.1"),
    "gmail-unauthenticated": ("policy", "5.7.26"),
    "yahoo-no-account": ("soft", "5.0.0"),
    "qmail-no-mailbox": ("hard", "5.1.1"),
    "qmail-no-code": ("soft", "5.0.0"),
    "smtputf8-no-mailbox": ("hard", "5.1.1"),
    "complaint-not-spam": ("nothing", ""),
    "complaint-opt-out": ("left", ""),
    "complaint-virus": ("unknown", ""),
    "yahoo-complaint": ("complaint", ""),
    "out-of-office": ("auto_reply", ""),
    "out-of-office-old": ("auto_reply", ""),
    "read-receipt": ("nothing", ""),
    "letter": ("unknown", ""),
}


@pytest.mark.parametrize("name", TABLE)
def test_a_report_is_read_in_the_way_its_server_writes(name: str) -> None:
    report = read(mail(name))

    assert (report.kind, report.status) == TABLE[name]


NAMED: dict[str, tuple[bool, tuple[str, ...], tuple[str, ...]]] = {
    "postfix-no-mailbox": (True, (BOUNCE,), (LEAVE,)),
    "exchange-no-mailbox": (True, (BOUNCE,), (LEAVE,)),
    "qmail-no-mailbox": (True, (BOUNCE,), ()),
    "qmail-token-in-copy": (False, (BOUNCE,), ()),
    "token-in-headers-only": (False, (BOUNCE,), (LEAVE,)),
    "link-in-headers-only": (False, (), (LEAVE,)),
    "smtputf8-no-mailbox": (True, (BOUNCE,), (LEAVE,)),
    "yahoo-complaint": (False, (), (LEAVE,)),
    "complaint-return-path": (False, (BOUNCE,), ()),
    "complaint-redacted": (False, (), ()),
    "letter": (True, (BOUNCE,), ()),
}


@pytest.mark.parametrize("name", NAMED)
def test_whom_it_is_about_stands_in_our_tokens_and_in_no_address_or_number(name: str) -> None:
    report = read(mail(name))

    assert (report.addressed, report.bounce_tokens, report.leave_tokens) == NAMED[name]
    assert (report.address, report.mailing, report.delivery) == ("", None, None)


def test_every_case_stands_in_a_table() -> None:
    assert {path.stem for path in CASES.glob("*.eml")} == TABLE.keys() | NAMED.keys()


def test_the_address_that_a_bounce_was_sent_to_comes_before_what_it_encloses() -> None:
    other = LINKS.bounce_token(KEYS.digest("ander@thuis.example"), 42)
    raw = mail("token-in-headers-only").replace(b"To: nieuws@", f"To: bounces+{other.upper()}@".encode())

    assert read(raw).bounce_tokens == (other,)


def test_a_report_has_an_id_of_its_own_and_the_same_one_again() -> None:
    one, other = mail("postfix-no-mailbox"), mail("gmail-no-mailbox")

    assert read(one).id == read(one).id != read(other).id


def test_without_the_detectors_what_follows_no_standard_waits_for_a_person(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "flufl.bounce", None)
    bounces._detector.cache_clear()

    try:
        kinds = {name: read(mail(name)).kind for name in ("qmail-no-mailbox", "exim-old-plain", "postfix-no-mailbox")}
    finally:
        bounces._detector.cache_clear()

    assert kinds == {"qmail-no-mailbox": "unknown", "exim-old-plain": "unknown", "postfix-no-mailbox": "hard"}


@pytest.mark.parametrize(
    "header",
    [
        "Auto-Submitted: auto-generated; owner=x",
        "X-Autoreply: yes",
        "X-Autorespond: on holiday",
        "Precedence: auto_reply",
        "Precedence: bulk",
    ],
)
def test_an_answer_that_no_person_wrote_is_never_a_bounce(header: str) -> None:
    raw = mail("letter").replace(b"Date:", f"{header}\nReturn-Path: <>\nDate:".encode())

    assert read(raw).kind is Kind.AUTO_REPLY


def test_a_subject_alone_makes_no_automatic_answer_of_a_letter_to_another_address() -> None:
    raw = mail("out-of-office-old").replace(b"bounces+", b"afmelden-")

    assert read(raw).kind is Kind.UNKNOWN


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        ("5.1.1", "hard"),
        ("5.1.2", "hard"),
        ("5.1.6", "hard"),
        ("5.1.10", "hard"),
        ("5.1.0", "soft"),
        ("5.1.3", "soft"),
        ("5.1.11", "soft"),
        ("5.1.7", "policy"),
        ("5.1.8", "policy"),
        ("5.2.0", "soft"),
        ("5.2.1", "soft"),
        ("5.2.2", "soft"),
        ("5.2.3", "policy"),
        ("5.3.0", "soft"),
        ("5.3.4", "policy"),
        ("5.4.1", "soft"),
        ("5.6.0", "policy"),
        ("5.7.1", "policy"),
        ("5.7.515", "policy"),
        ("4.1.1", "soft"),
        ("4.7.1", "soft"),
    ],
)
def test_only_a_code_that_says_so_means_that_there_is_no_mailbox(status: str, kind: str) -> None:
    assert judged(status) == kind


@pytest.mark.parametrize(
    ("code", "status", "stage", "gone"),
    [
        (550, "5.1.1", Stage.RCPT, True),
        (550, "5.1.1", Stage.DATA, True),
        (556, "5.1.10", Stage.RCPT, True),
        (550, "", Stage.RCPT, False),
        (550, "5.7.1", Stage.RCPT, False),
        (552, "5.2.2", Stage.RCPT, False),
        (450, "5.1.1", Stage.RCPT, False),
        (550, "5.1.1", Stage.MAIL, False),
        (554, "5.1.2", Stage.CONNECT, False),
    ],
)
def test_an_answer_in_the_conversation_is_judged_as_a_bounce_is(
    code: int, status: str, stage: Stage, gone: bool
) -> None:
    assert means_no_mailbox(code, status, stage) is gone


def test_a_status_in_words_of_another_sort_is_not_one() -> None:
    raw = mail("postfix-no-mailbox")

    for spelled, status in [(b"5.1.1", "5.1.1"), (b"5.1.1.7", "5.0.0"), (b"x5.1.1", "5.0.0"), (b"", "5.0.0")]:
        changed = re.sub(rb"Status: .*", b"Status: " + spelled, raw).replace(b"smtp; 550 5.1.1", b"smtp; 550")

        assert read(changed).status == status


HEAD = b"To: bounces@delinde.example\nReturn-Path: <>\nFrom: MAILER-DAEMON@x.example\n"
HOSTILE = {
    "nothing": b"",
    "zeros": b"\0\xff" * 1000,
    "no boundary": HEAD + b"Content-Type: multipart/report\n\n--\n\n--x--\n",
    "an empty boundary": HEAD + b'Content-Type: multipart/report; boundary=""\n\n--\nContent-Type: text/plain\n',
    "a boundary of signs": HEAD + b'Content-Type: multipart/report; boundary="(.*)+$["\n\n--(.*)+$[\n\nx\n',
    "deep parts": HEAD
    + b"".join(b"Content-Type: multipart/mixed; boundary=%d\n\n--%d\n" % (n, n) for n in range(15_000)),
    "many parts": HEAD + b"Content-Type: multipart/report; boundary=x\n\n" + b"--x\n\n" * 200_000,
    "many blocks": HEAD
    + b"Content-Type: multipart/report; boundary=x\n\n--x\nContent-Type: message/delivery-status\n\n"
    + b"Action: failed\n\n" * 60_000,
    "many lines": HEAD
    + b"Content-Type: multipart/report; boundary=x\n\n--x\nContent-Type: message/delivery-status\n\n"
    + b" \n" * 400_000,
    "one long line": HEAD + b"\n" + b"-" * 900_000,
    "a long type": HEAD + b"Content-Type: multipart/report" + b';a="' * 200_000 + b"\n\n",
    "a long status": HEAD
    + b"Content-Type: multipart/report; boundary=x\n\n--x\nContent-Type: message/delivery-status\n\nStatus: "
    + b"5.1." * 200_000,
    "broken base64": HEAD
    + b"Content-Type: multipart/report; boundary=x\n\n--x\nContent-Type: message/delivery-status\n"
    + b"Content-Transfer-Encoding: base64\n\n=====\n--x--\n",
    "many subjects": HEAD + b"Subject: Re: out of " * 40_000 + b"\n\n",
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_mail_costs_little_and_names_nobody(name: str) -> None:
    start = time.process_time()
    report = read(HOSTILE[name])

    assert time.process_time() - start < 2
    assert report.bounce_tokens == report.leave_tokens == ()
    assert report.kind is not Kind.HARD


def test_a_crowd_of_tokens_is_cut_off() -> None:
    crowd = ", ".join(f"a+{LINKS.bounce_token(bytes([n]) * 16, n)}@x.example" for n in range(40))

    assert len(read(f"To: {crowd}\n\n".encode()).bounce_tokens) == 20


@pytest.mark.checklist("SEC-05")
def test_neither_addresses_nor_tokens_are_logged_or_shown(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        told = "".join(f"{read(mail(name))!r}" for name in TABLE)

    assert not re.search(rf"thuis|{BOUNCE}|{re.escape(LEAVE)}", told + caplog.text)
    assert repr(Report(Kind.HARD, "5.1.1", bounce_tokens=(BOUNCE,), address=WHO)) == "<Report hard 5.1.1>"
