"""A mailing through a real Postfix: delivered, refused, bounced later, greylisted, and hung up on."""

from __future__ import annotations

import asyncio
import email
import email.policy
import re
from collections.abc import Callable
from datetime import timedelta
from email.message import EmailMessage
from pathlib import Path

import dkim as dkimpy
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa

from consentkit.mailing import MailingState, states
from consentkit.mailing.dkim import Key
from tests.mailing import hall
from tests.mailing.test_dkim import written
from tests.post.office import MAIL_USER, PASSWORD, Office
from tests.post.site import Site

pytestmark = pytest.mark.post

Made = Callable[..., Site]


def read(raw: bytes) -> EmailMessage:
    message = email.message_from_bytes(raw, policy=email.policy.default)
    assert isinstance(message, EmailMessage)
    return message


def test_twenty_readers_find_it_in_their_mailbox_once_with_both_headers_to_leave_by(office: Office, site: Made) -> None:
    school = site()
    readers = school.seat(*range(1, 21))

    status = school.send()

    office.settle()
    assert (status.mailing.state, status.counts) == (MailingState.DONE, {"sent": 20})
    for reader, row in zip(readers, hall.rows(school.kit, status.mailing.id).values(), strict=True):
        (raw,) = office.wait(reader)
        message = read(raw)
        assert message["Return-Path"].startswith("<bounces+")
        assert message["Delivered-To"] == reader
        assert re.fullmatch(rf"<{status.mailing.id}\.{row.id}\.\d+@delinde\.example>", message["Message-ID"])
        assert "with ESMTP id" in message["Received"] or "with LMTP" in message["Received"]
        link, mailto = message["List-Unsubscribe"].split(", ")
        leaving = school.kit.links.read(link.removeprefix("<http://school.test/privacy/afmelden/").removesuffix(">"))
        assert leaving.digest == school.kit.afgemeld.keys.digest(reader)
        assert mailto.startswith("<mailto:afmelden+")
        assert message["List-Unsubscribe-Post"] == "List-Unsubscribe=One-Click"
        assert f"Dag Lezer {row.subscriber_id}," in message.get_body(("plain",)).get_content()


def test_a_signature_of_ours_still_holds_after_a_login_encryption_and_two_servers(
    office: Office, site: Made, tmp_path: Path
) -> None:
    written(tmp_path / "dkim.pem", rsa.generate_private_key(65537, 2048))
    key = Key.load("delinde.example", "nieuws", tmp_path / "dkim.pem")
    school = site(
        smtp=office.submission,
        mailing=f'dkim = [{{ domain = "delinde.example", selector = "nieuws", key_file = "{tmp_path}/dkim.pem" }}]',
        keys=f"CONSENTKIT_SMTP_USER={MAIL_USER}\nCONSENTKIT_SMTP_PASSWORD={PASSWORD}\n",
    )
    readers = school.seat(1, 2, 3)

    status = school.send()

    assert status.counts == {"sent": 3}
    for reader in readers:
        (raw,) = office.wait(reader)
        assert b"with ESMTPSA id" in raw
        assert dkimpy.verify(raw, dnsfunc=lambda name, timeout=5: key.record().encode())


def test_an_address_in_letters_of_its_own_language_is_delivered_where_the_server_can(
    office: Office, site: Made
) -> None:
    school = site()
    school.seat_at(1, "jürgen@school1.example")

    status = school.send()

    assert status.counts == {"sent": 1}
    (raw,) = office.wait("jürgen@school1.example")
    assert "\nTo: jürgen@school1.example\n".encode() in raw
    assert b"with UTF8SMTP id" in raw


def test_an_address_that_the_next_server_can_t_write_fails_and_counts_against_nobody(
    office: Office, site: Made
) -> None:
    school = site()
    school.seat_at(1, "jürgen@oud.example")

    status = school.send()

    assert status.counts == {"sent": 1}
    (raw,) = office.wait(MAIL_USER)
    assert b"message/global-delivery-status" in raw
    assert school.intake(office.imap) == (0, "1 taken, 0 known, 0 ignored, 0 forged, 0 unclear, 0 failed\n")
    assert school.kit.mailings.status(status.mailing.id).reasons == {"failed": {"bounced 5.6.7": 1}}
    assert school.left("jürgen@oud.example") is None


def test_who_is_unknown_at_once_is_afgemeld_for_all_mail(office: Office, site: Made) -> None:
    school = site()
    gone, here = school.seat(91, 1)

    status = school.send()

    assert status.counts == {"failed": 1, "sent": 1}
    assert status.reasons["failed"] == {"550 5.1.1 at RCPT": 1}
    assert school.left(gone, service=True) == ("hard-bounce", "bounce")
    assert school.left(here) is None


def test_a_server_that_hangs_up_after_too_many_unknown_people_costs_nobody_else_their_message(
    office: Office, site: Made
) -> None:
    school = site(connections=1)
    school.seat(*range(91, 103, 3), *range(1, 8, 3), *range(103, 115, 3), *range(10, 20, 3))

    status = school.send()

    assert "too many errors after" in office.log()
    assert status.mailing.state is MailingState.DONE
    assert status.counts == {"failed": 8, "sent": 7}
    assert all(len(office.wait(f"lezer{number}@school1.example")) == 1 for number in range(1, 20, 3))


def test_a_greylisted_reader_gets_it_at_the_next_try(
    office: Office, site: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(states, "BACKOFF", (timedelta(seconds=1),))
    school = site()
    reader, other = school.seat(1, 4)
    office.greylist.wary = frozenset({reader})

    first = school.send()
    assert first.counts == {"deferred": 1, "sent": 1}
    assert first.reasons["deferred"] == {"450 4.2.0 at RCPT": 1}
    assert first.next_try is not None
    assert office.box(reader) == []

    asyncio.run(school.kit.engine.work(first.mailing.id))

    assert school.kit.mailings.status(first.mailing.id).counts == {"sent": 2}
    assert hall.rows(school.kit, first.mailing.id)[1].tries == 2
    assert len(office.greylist.asked) == 2
    assert len(set(office.greylist.asked)) == 1
    assert [len(office.wait(one)) for one in (reader, other)] == [1, 1]
