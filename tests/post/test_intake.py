"""What comes back, read from a real mailbox and from the pipes of a real Postfix."""

from __future__ import annotations

import shutil
import smtplib
from collections.abc import Callable
from email.message import EmailMessage
from urllib.parse import unquote, urlsplit

import pytest

from tests.mailing import hall
from tests.post.office import MAIL_USER, Office
from tests.post.site import Site

pytestmark = pytest.mark.post

Made = Callable[..., Site]
SENDMAIL = """#!{python}
import smtplib, sys
with smtplib.SMTP("127.0.0.1", {port}) as server:
    server.sendmail("post@delinde.example", sys.argv[2:], sys.stdin.buffer.read())
"""


def post(office: Office, to: str, subject: str = "unsubscribe") -> None:
    """A mail of a reader's own program, from an address that we don't know."""
    message = EmailMessage()
    message["From"], message["To"], message["Subject"] = "jan@thuis.example", to, subject
    message["Message-ID"] = "<1@thuis.example>"
    message.set_content("Ik wil deze mail niet meer.")
    with smtplib.SMTP("127.0.0.1", urlsplit(office.smtp).port or 0) as server:
        server.send_message(message)


def way_out(school: Site, address: str) -> str:
    """The address that `List-Unsubscribe` names for somebody."""
    mailbox = school.kit.settings.mail.unsubscribe
    assert mailbox is not None
    return unquote(urlsplit(school.kit.links.mailto(mailbox, address, hall.LIST)).path)


def piped(office: Office, school: Site) -> None:
    """Install the script of the documentation for this site, which belongs to whoever Postfix runs it as."""
    school.give_to(office.owner.pw_name)
    script = office.shown("#!/bin/sh").replace("/srv/site/.venv/bin/consentkit", f"{office.folder}/bin/consentkit")
    office.install("afmelden", script.replace("/srv/site", str(school.folder)))
    office.install("sendmail", SENDMAIL.format(python=office.python, port=urlsplit(office.smtp).port))


def test_mail_that_a_relay_took_and_could_not_deliver_comes_back_and_ends_all_mail(office: Office, site: Made) -> None:
    school = site()
    gone, here = school.seat(92, 2)
    status = school.send()
    assert status.counts == {"sent": 2}
    (bounce,) = office.wait(MAIL_USER)
    delivery = hall.rows(school.kit, status.mailing.id)[92].id
    assert f"\nOriginal-Envelope-Id: {status.mailing.id}.{delivery}.".encode() in bounce

    first, second = school.intake(office.imap), school.intake(office.imap)

    assert first == (0, "1 taken, 0 known, 0 ignored, 0 forged, 0 unclear, 0 failed\n")
    assert second == (0, "0 taken, 0 known, 0 ignored, 0 forged, 0 unclear, 0 failed\n")
    after = school.kit.mailings.status(status.mailing.id)
    assert (after.counts, after.reasons["failed"]) == ({"failed": 1, "sent": 1}, {"bounced 5.1.1": 1})
    assert school.left(gone, service=True) == ("hard-bounce", "bounce")
    assert school.left(here) is None


def test_a_mailbox_with_everything_in_it_is_sorted_out_in_one_go(office: Office, site: Made) -> None:
    school = site()
    leaving, gone = school.seat(1, 92)
    school.send()
    post(office, way_out(school, leaving))
    post(office, MAIL_USER, "haal me van de lijst")
    post(office, "afmelden+" + "a" * 48 + "@delinde.example")
    office.wait(MAIL_USER, 4)

    code, said = school.intake(office.imap)

    assert (code, said) == (1, "2 taken, 0 known, 0 ignored, 1 forged, 1 unclear, 0 failed\n")
    assert school.left(leaving) == ("reply", "mailto")
    assert school.left(leaving, service=True) is None
    assert school.left(gone, service=True) == ("hard-bounce", "bounce")
    names = [path.name.partition(":2,")[2] for path in (office.folder / "mail").glob("*/afmelden/Maildir/cur/*")]
    assert sorted(names) == ["FS", "FS", "S", "S"]


@pytest.mark.parametrize("way", ["pijp", "buis"], ids=["aliases", "a pipe of master.cf"])
def test_the_script_of_the_documentation_takes_opt_outs_and_bounces(office: Office, site: Made, way: str) -> None:
    school = site(mailboxes=f"{way}.delinde.example")
    leaving, gone = school.seat(1, 92)
    piped(office, school)

    school.send()
    post(office, way_out(school, leaving))

    office.settle()
    assert school.left(leaving) == ("reply", "mailto")
    assert school.left(gone, service=True) == ("hard-bounce", "bounce")
    assert office.box("kantoor@delinde.example") == []


def test_the_script_gives_a_person_what_only_a_person_can_read(office: Office, site: Made) -> None:
    piped(office, site(mailboxes="pijp.delinde.example"))

    post(office, "afmelden@pijp.delinde.example", "haal me van de lijst")

    (raw,) = office.wait("kantoor@delinde.example")
    assert b"Subject: haal me van de lijst" in raw
    office.settle()


def test_where_the_keys_can_t_be_read_postfix_keeps_the_mail_until_they_can(office: Office, site: Made) -> None:
    school = site(mailboxes="pijp.delinde.example")
    (leaving,) = school.seat(1)
    piped(office, school)
    keys = school.folder / "consentkit.keys"
    shutil.chown(keys, "root")

    post(office, way_out(school, leaving))
    office.until(lambda: "status=deferred" in office.log(), "a deferred message")
    assert school.left(leaving) is None
    assert office.box("kantoor@delinde.example") == []
    shutil.chown(keys, office.owner.pw_name)
    office.flush()

    office.settle()
    assert school.left(leaving) == ("reply", "mailto")
