"""Service mails leave through a real SMTP server, and none is lost when it misbehaves."""

from __future__ import annotations

import logging
import re
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from consentkit import ConsentKit
from consentkit.errors import NewsletterUnavailable
from consentkit.newsletter import Newsletter
from consentkit.newsletter.outbox import BACKOFF
from tests.fixtures_smtp import Mailbox
from tests.journeys.school import Clock
from tests.newsletter.desk import JAN, settings

MAIL = {"sender": "De Linde <nieuws@delinde.example>", "unsubscribe": "afmelden@delinde.example"}


@pytest.fixture
def kit(tmp_path: Path, mailbox: Mailbox) -> Iterator[ConsentKit]:
    made = ConsentKit(settings(tmp_path, mail={**MAIL, "smtp": mailbox.url}), clock=Clock())
    yield made
    made.close()


def ask(kit: ConsentKit, address: str = JAN) -> None:
    paper = kit.newsletter.papers["Basisschool De Linde"]
    form = paper.form("nieuwsbrief")
    assert form is not None
    kit.newsletter.sign_up(paper, form.read([("email", address)]), "nl")


def until(what, seconds: float = 10.0) -> None:
    ends = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < ends, "it did not happen"
        time.sleep(0.02)


def test_the_confirmation_arrives_by_itself_as_plain_text_and_html(kit: ConsentKit, mailbox: Mailbox) -> None:
    ask(kit, "jan@bücher.example")

    (mail,) = mailbox.wait(1)
    assert mail["From"] == "De Linde <nieuws@delinde.example>"
    assert mail["To"] == "jan@xn--bcher-kva.example"
    assert mail["Auto-Submitted"] == "auto-generated"
    assert mail["Content-Language"] == "nl"
    plain, html = (mail.get_body((kind,)).get_content() for kind in ("plain", "html"))
    link = re.search(r"http://school\.test/privacy/confirm/\S+", plain)[0]
    assert link in html
    until(lambda: kit.outbox.waiting() == 0)


@pytest.mark.parametrize(
    ("verb", "answer"), [("MAIL", "451 4.3.0 later"), ("RCPT", "450 4.2.0 greylisted"), ("DATA", "421 4.3.2 down")]
)
def test_a_server_that_says_later_gets_the_mail_later(
    kit: ConsentKit, mailbox: Mailbox, verb: str, answer: str, caplog: pytest.LogCaptureFixture
) -> None:
    mailbox.reply[verb] = answer
    with caplog.at_level(logging.INFO):
        ask(kit)
        until(lambda: "tried again" in caplog.text)
    assert mailbox.messages == []
    assert kit.outbox.waiting() == 1

    mailbox.reply.clear()
    kit.now.later(minutes=2)
    kit.outbox.wake()

    mailbox.wait(1)
    assert JAN not in caplog.text


@pytest.mark.parametrize("verb", ["CONNECT", "TEXT", "."])
def test_a_connection_that_breaks_at_any_moment_loses_nothing(
    kit: ConsentKit, mailbox: Mailbox, verb: str, caplog: pytest.LogCaptureFixture
) -> None:
    mailbox.drop = verb
    with caplog.at_level(logging.INFO):
        ask(kit)
        until(lambda: "tried again" in caplog.text)
    mailbox.drop = None
    before = len(mailbox.messages)
    kit.now.later(minutes=2)
    kit.outbox.wake()

    until(lambda: len(mailbox.messages) > before)
    until(lambda: kit.outbox.waiting() == 0)


def test_a_mailbox_that_does_not_exist_is_given_up_and_told_without_its_name(
    kit: ConsentKit, mailbox: Mailbox, caplog: pytest.LogCaptureFixture
) -> None:
    mailbox.reply["RCPT"] = f"550 5.1.1 no such user {JAN}"
    with caplog.at_level(logging.DEBUG):
        ask(kit)
        until(lambda: kit.outbox.waiting() == 0 and "given up" in caplog.text)

    assert "550 5.1.1" in caplog.text
    assert JAN not in caplog.text
    assert mailbox.messages == []


def test_a_server_that_refuses_us_and_not_the_mailbox_keeps_the_mail_waiting(
    kit: ConsentKit, mailbox: Mailbox, caplog: pytest.LogCaptureFixture
) -> None:
    mailbox.reply["MAIL"] = "530 5.7.0 authentication required"
    ask(kit)
    until(lambda: "tried again" in caplog.text)
    assert kit.outbox.waiting() == 1

    del mailbox.reply["MAIL"]
    kit.now.later(hours=1)
    kit.outbox.wake()
    mailbox.wait(1)


def test_a_mail_waits_longer_each_time_and_is_dropped_when_its_link_is_dead(
    kit: ConsentKit, mailbox: Mailbox, caplog: pytest.LogCaptureFixture
) -> None:
    mailbox.reply["RCPT"] = "450 4.2.0 later"
    ask(kit)
    until(lambda: kit.outbox.waiting() == 1 and "tried again in 0:01:00" in caplog.text)
    for number, wait in enumerate(BACKOFF[1:3], 2):
        kit.now.later(minutes=BACKOFF[number - 2].total_seconds() / 60 + 1)
        kit.outbox.wake()
        until(lambda wait=wait: f"tried again in {wait}" in caplog.text)

    kit.now.later(hours=72)
    kit.outbox.wake()
    until(lambda: kit.outbox.waiting() == 0)
    assert mailbox.messages == []


def test_the_next_mail_server_of_the_list_takes_what_the_first_does_not_answer_for(
    tmp_path: Path, mailbox: Mailbox
) -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        away = f"smtp://127.0.0.1:{nobody.getsockname()[1]}"
        kit = ConsentKit(settings(tmp_path, mail={**MAIL, "smtp": [away, mailbox.url]}))
        ask(kit)

        (mail,) = mailbox.wait(1)
        assert mail["To"] == JAN
        until(lambda: kit.outbox.waiting() == 0)
        kit.close()


def test_what_a_dead_process_left_is_sent_by_the_next_one(tmp_path: Path, mailbox: Mailbox) -> None:
    first = ConsentKit(settings(tmp_path, mail={**MAIL, "smtp": mailbox.url}))
    first.outbox.wake = lambda: None  # type: ignore[method-assign]  # it dies before its thread comes to it
    ask(first)
    first.close()

    second = ConsentKit(settings(tmp_path, mail={**MAIL, "smtp": mailbox.url}))
    second.start()

    mailbox.wait(1)
    second.close()


def test_two_processes_send_each_mail_once(tmp_path: Path, mailbox: Mailbox) -> None:
    kits = [ConsentKit(settings(tmp_path, mail={**MAIL, "smtp": mailbox.url})) for _ in range(2)]
    for kit in kits:
        kit.store.check()
        kit.start()
    for number in range(20):
        ask(kits[number % 2], f"p{number}@voorbeeld.nl")

    mailbox.wait(20, timeout=30)
    time.sleep(0.3)
    assert sorted(mail["To"] for mail in mailbox.messages) == sorted(f"p{n}@voorbeeld.nl" for n in range(20))
    for kit in kits:
        kit.close()


def test_the_answer_to_a_sign_up_does_not_wait_for_the_mail_server(kit: ConsentKit, mailbox: Mailbox) -> None:
    mailbox.slow["CONNECT"] = 3.0
    started = time.monotonic()

    ask(kit)

    assert time.monotonic() - started < 2.0


@pytest.mark.checklist("NEW-03")
def test_what_nobody_confirmed_is_erased_once_a_day_by_one_of_all_processes_without_a_cron_job(
    database_url: str, tmp_path: Path, mailbox: Mailbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock, purged = Clock(), []
    purge = Newsletter.purge
    monkeypatch.setattr(Newsletter, "purge", lambda *args, **more: purged.append(1) or purge(*args, **more))
    table = settings(tmp_path, mail={**MAIL, "smtp": mailbox.url}, database={"url": database_url})
    kits = [ConsentKit(table, clock=clock) for _ in range(3)]
    store, done = kits[0].store, [("purge", 0)]
    store.upgrade()
    ask(kits[0])
    for kit in kits:
        kit.start()
    mailbox.wait(1)

    for days, times, left in ((0, 1, 1), (6, 2, 1), (0, 2, 1), (2, 3, 0)):
        clock.later(days=days)
        for kit in kits:
            kit.outbox.wake()
        until(lambda times=times: len(purged) == times and store.fetch("SELECT kind, tries FROM outbox", ()) == done)
        assert len(store.fetch("SELECT list FROM subscription", ())) == left

    assert len(purged) == 3
    assert (kits[0].outbox.waiting(), kits[0].outbox.late()) == (0, 0)
    for kit in kits:
        kit.close()


def test_a_purge_that_failed_is_done_later_and_holds_up_no_mail(
    kit: ConsentKit, mailbox: Mailbox, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail() -> None:
        raise NewsletterUnavailable("the database can't take it now: nothing changed")

    monkeypatch.setattr(kit.outbox, "_purge", fail)
    with caplog.at_level(logging.WARNING):
        ask(kit)
        mailbox.wait(1)
        until(lambda: "the daily purge has to wait, it is tried again in 0:01:00" in caplog.text)
    done = threading.Event()
    monkeypatch.setattr(kit.outbox, "_purge", done.set)
    kit.now.later(minutes=2)
    kit.outbox.wake()

    assert done.wait(10)
