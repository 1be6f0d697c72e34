"""Sending for real: to a mail server that takes, refuses, delays, hangs up and goes away."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
import time
from pathlib import Path
from typing import Any

import psycopg
import pytest
from sqlalchemy import event
from sqlalchemy.engine import Connection
from sqlalchemy.exc import OperationalError
from starlette.testclient import TestClient

from consentkit.afgemeld import Reason
from consentkit.errors import AfgemeldUnavailable, MailingError
from consentkit.mailing import MailingState
from tests.fixtures_smtp import Mailbox
from tests.journeys.school import app
from tests.mailing import hall
from tests.mailing.school import draft, school, send


@pytest.mark.checklist("UNS-01", "UNS-08")
def test_everybody_gets_one_message_with_a_way_out_that_works(
    tmp_path: Path, mailbox: Mailbox, database_url: str
) -> None:
    with school(tmp_path, mailbox.url, database=database_url) as kit:
        status = send(kit)

        assert (status.mailing.state, status.counts) == (MailingState.DONE, {"sent": 5})
        assert sorted(one.rcpt_tos[0] for one in mailbox.envelopes) == sorted(
            f"lezer{n}@school{n % 3}.example" for n in range(1, 6)
        )
        for envelope, message in zip(mailbox.envelopes, mailbox.messages, strict=True):
            assert envelope.mail_from.startswith("bounces+")
            assert message["To"] == envelope.rcpt_tos[0]
            token = message["List-Unsubscribe"].partition("/afmelden/")[2].partition(">")[0]
            leaving = kit.links.read(token)
            assert leaving.list == "nieuwsbrief"
            assert leaving.digest == kit.afgemeld.keys.digest(envelope.rcpt_tos[0])
            assert message["List-Unsubscribe-Post"] == "List-Unsubscribe=One-Click"
            for part in ("html", "plain"):
                shown = message.get_body((part,)).get_content()
                assert f"http://school.test/privacy/afmelden/{token}" in shown
                assert "Stichting De Linde" in shown
                assert "Lindelaan 1" in shown


def test_sending_it_again_sends_nobody_a_second_one(tmp_path: Path, mailbox: Mailbox) -> None:
    with school(tmp_path, mailbox.url) as kit:
        status = send(kit)
        kit.mailings.send(status.mailing.id, dns=False)
        asyncio.run(kit.engine.work(status.mailing.id))

        assert len(mailbox.messages) == 5


def test_a_mailbox_that_is_not_there_is_afgemeld_for_all_mail(tmp_path: Path, mailbox: Mailbox) -> None:
    mailbox.reply["RCPT"] = "550 5.1.1 no such user"
    with school(tmp_path, mailbox.url, readers=2) as kit:
        status = send(kit)

        assert (status.counts, status.reasons) == ({"failed": 2}, {"failed": {"550 5.1.1 at RCPT": 2}})
        found = kit.afgemeld.look_up("lezer1@school1.example", service=True)
        assert found is not None
        assert (found.reason, found.mailing) == (Reason.HARD_BOUNCE, str(status.mailing.id))


def test_a_server_that_asks_for_patience_gets_it_and_nobody_is_lost(tmp_path: Path, mailbox: Mailbox) -> None:
    mailbox.reply["RCPT"] = "451 4.7.1 greylisted"
    with school(tmp_path, mailbox.url, readers=2) as kit:
        status = send(kit)

        assert status.counts == {"deferred": 2}
        assert status.reasons == {"deferred": {"451 4.7.1 at RCPT": 2}}
        assert status.next_try is not None


def test_what_is_cut_after_the_message_is_in_doubt_listed_and_never_repeated(tmp_path: Path, mailbox: Mailbox) -> None:
    mailbox.drop = "."
    with school(tmp_path, mailbox.url, readers=3) as kit:
        status = send(kit)
        mailbox.drop = ""
        kit.mailings.send(status.mailing.id, dns=False)
        asyncio.run(kit.engine.work(status.mailing.id))

        after = kit.mailings.status(status.mailing.id)
        assert len(status.in_doubt) >= 1
        assert set(status.in_doubt) <= set(after.in_doubt)
        assert mailbox.commands.count("RCPT") == 3
        assert sum(after.counts.values()) == 3


def test_a_server_that_goes_away_delays_everybody_and_fails_nobody(tmp_path: Path, mailbox: Mailbox) -> None:
    mailbox.drop = "DATA"
    with school(tmp_path, mailbox.url) as kit:
        id = kit.mailings.new(draft())
        kit.mailings.send(id, dns=False)
        thread = threading.Thread(target=lambda: asyncio.run(kit.engine.work(id)))
        thread.start()
        until(lambda: kit.mailings.status(id).mailing.note)
        away = kit.mailings.status(id)
        mailbox.drop = ""
        thread.join(15)

        assert "the connection to the mail server was lost" in away.mailing.note
        assert not away.counts.get("failed")
        done = kit.mailings.status(id)
        assert (done.counts, done.mailing.note) == ({"sent": 5}, "")
        assert len(mailbox.messages) == 5


def test_a_pause_takes_effect_within_a_second_and_a_resume_goes_on(tmp_path: Path, mailbox: Mailbox) -> None:
    mailbox.slow["."] = 0.1
    with school(tmp_path, mailbox.url, readers=60) as kit:
        id = kit.mailings.new(draft())
        kit.mailings.send(id, dns=False)
        thread = threading.Thread(target=lambda: asyncio.run(kit.engine.work(id)))
        thread.start()
        mailbox.wait(6)
        kit.mailings.pause(id)
        time.sleep(1.0)
        then = len(mailbox.messages)
        thread.join(10)

        assert 6 <= then < 60
        assert len(mailbox.messages) == then
        assert kit.mailings.status(id).mailing.state is MailingState.PAUSED
        mailbox.slow.clear()
        kit.mailings.resume(id)
        asyncio.run(kit.engine.work(id))
        assert kit.mailings.status(id).counts == {"sent": 60}
        assert len({one.rcpt_tos[0] for one in mailbox.envelopes}) == len(mailbox.envelopes) == 60


def test_refusals_in_a_row_stop_it_and_say_why(tmp_path: Path, mailbox: Mailbox) -> None:
    mailbox.reply["."] = "550 5.7.1 we don't want this"
    with school(tmp_path, mailbox.url, readers=9, stop_after=4) as kit:
        status = send(kit)

        assert status.mailing.state is MailingState.STOPPED
        assert "refused in a row, the last with 550 5.7.1 at DATA" in status.mailing.note
        assert status.counts["failed"] <= 4 + 2  # what was under way at that moment
        assert status.counts["queued"] >= 3


def test_a_field_that_can_t_stand_in_a_message_fails_that_one_only(tmp_path: Path, mailbox: Mailbox) -> None:
    with school(tmp_path, mailbox.url, readers=2) as kit:
        hall.seat(kit, 9, fields={"name": "half \ud800"})
        status = send(kit)

        assert status.counts == {"sent": 2, "failed": 1}


@pytest.mark.checklist("UNS-07")
def test_a_service_mailing_with_a_promotion_in_it_is_not_sent(tmp_path: Path, mailbox: Mailbox) -> None:
    promotion = (
        "<h1>Nu 50% korting op het zomerkamp</h1><p>Bestel nu met code ZOMER en profiteer van deze aanbieding!</p>"
    )
    with school(tmp_path, mailbox.url) as kit:
        id = kit.mailings.new(draft(html=promotion, fields=(), purpose="service"))

        with pytest.raises(MailingError, match="marketing"):
            kit.mailings.send(id, dns=False)

        assert (kit.mailings.get(id).state, kit.mailings.status(id).counts) == (MailingState.DRAFT, {})


@pytest.mark.checklist("UNS-07")
def test_service_mail_reaches_who_left_the_list_and_carries_no_way_out_of_it(tmp_path: Path, mailbox: Mailbox) -> None:
    text = "<p>Dag {{ name }},</p><p>De school is morgen dicht door de storm. We bellen als er nieuws is.</p>"
    with school(tmp_path, mailbox.url, readers=2) as kit:
        leaving = kit.links.read(kit.links.token("lezer1@school1.example", None))
        kit.newsletter.leave(leaving, reason=Reason.ONE_CLICK, channel="one-click")
        status = send(kit, html=text, purpose="service")

        assert status.counts == {"sent": 2}
        assert all("List-Unsubscribe" not in message for message in mailbox.messages)


def test_the_app_sends_what_waits_and_an_ordinary_end_leaves_nothing_in_doubt(tmp_path: Path, mailbox: Mailbox) -> None:
    mailbox.slow["."] = 0.05
    with school(tmp_path, mailbox.url, readers=40) as kit:
        id = kit.mailings.new(draft())
        kit.mailings.send(id, dns=False)
        for arrived in (3, 10):
            with TestClient(kit.wrap(app()), base_url="http://school.test"):
                mailbox.wait(arrived)
            then = kit.mailings.status(id).counts

            assert set(then) == {"sent", "queued"}
            assert then["sent"] == len(mailbox.messages)


def test_who_is_closed_in_the_middle_leaves_nothing_claimed(tmp_path: Path, mailbox: Mailbox) -> None:
    mailbox.slow["."] = 0.05
    with school(tmp_path, mailbox.url, readers=30) as kit:
        id = kit.mailings.new(draft())
        kit.mailings.send(id, dns=False)
        kit.engine.wake()
        mailbox.wait(3)
        kit.engine.close()

        status = kit.mailings.status(id)
        assert set(status.counts) <= {"sent", "queued"}
        assert status.counts["sent"] == len(mailbox.messages)


def until(what: Any, seconds: float = 10.0) -> None:
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.05)


@pytest.mark.postgres
def test_a_database_that_drops_every_connection_delays_and_loses_nothing(
    tmp_path: Path, mailbox: Mailbox, postgres_url: str
) -> None:
    mailbox.slow["."] = 0.02
    drop = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'consentkit'"
    with school(tmp_path, mailbox.url, readers=60, database=postgres_url) as kit:
        id = kit.mailings.new(draft())
        kit.mailings.send(id, dns=False)
        thread = threading.Thread(target=lambda: asyncio.run(kit.engine.work(id)))
        thread.start()
        with psycopg.connect(postgres_url, autocommit=True) as other:
            for arrived in (5, 20, 35):
                mailbox.wait(arrived)
                other.execute(drop)
        thread.join(30)

        assert kit.mailings.status(id).counts == {"sent": 60}
    assert len({one.rcpt_tos[0] for one in mailbox.envelopes}) == len(mailbox.envelopes) == 60


def test_a_full_disk_stops_the_release_keeps_what_went_and_goes_on_when_there_is_room(
    tmp_path: Path, mailbox: Mailbox, caplog: pytest.LogCaptureFixture
) -> None:
    full = threading.Event()

    def commit(connection: Connection) -> None:
        if full.is_set():
            raise OperationalError("COMMIT", None, sqlite3.OperationalError("database or disk is full"))

    mailbox.slow["."] = 0.02
    with school(tmp_path, mailbox.url, readers=30) as kit:
        id = kit.mailings.new(draft())
        kit.mailings.send(id, dns=False)
        event.listen(kit.store.engine, "commit", commit)
        thread = threading.Thread(target=lambda: asyncio.run(kit.engine.work(id)))
        thread.start()
        mailbox.wait(5)
        full.set()
        time.sleep(0.6)
        then = len(mailbox.messages)
        time.sleep(0.4)
        still = len(mailbox.messages)
        full.clear()
        thread.join(15)

        assert 5 <= then == still < 30
        assert kit.mailings.status(id).counts == {"sent": 30}
    assert len(mailbox.messages) == 30
    assert "waits: the database can't be used: database or disk is full" in caplog.text


def test_when_nobody_can_tell_who_left_nothing_more_goes_and_the_reason_is_told(
    tmp_path: Path, mailbox: Mailbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away() -> None:
        raise AfgemeldUnavailable("the afgemeld table can't be asked: nothing is sent until it can")

    mailbox.slow["."] = 0.05
    with school(tmp_path, mailbox.url, readers=40) as kit:
        id = kit.mailings.new(draft())
        kit.mailings.send(id, dns=False)
        thread = threading.Thread(target=lambda: asyncio.run(kit.engine.work(id)))
        thread.start()
        mailbox.wait(4)
        with monkeypatch.context() as patch:
            patch.setattr(kit.mailings.readers, "open", away)
            until(lambda: "nothing is sent until" in kit.mailings.status(id).mailing.note)
            time.sleep(0.3)
            then = kit.mailings.status(id)
            arrived = len(mailbox.messages)
        thread.join(20)

        assert then.counts["sent"] == arrived < 40  # what went was written down all the same
        assert kit.mailings.status(id).counts == {"sent": 40}
        assert kit.mailings.status(id).mailing.note == ""
