"""Django's mail through our backend, to a real SMTP server.

Django can be configured once a process, and another test does it with settings of its own; so these settings are put
in their place for one test, and taken out again.
"""

from __future__ import annotations

import logging
import smtplib
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import django.conf
import pytest
from django.conf import global_settings
from django.core import mail
from django.core.exceptions import ImproperlyConfigured
from django.core.mail import EmailMessage, EmailMultiAlternatives

from consentkit import ConsentKit
from consentkit.errors import AddressError, AfgemeldUnavailable, UnguardedMail
from consentkit.guard import Guard
from consentkit.guard.django import guard
from tests.fixtures_smtp import Mailbox
from tests.guard.test_guard import headers_of

NEWS = {"X-Consentkit-List": "nieuwsbrief"}
SERVICE = {"X-Consentkit-Purpose": "service"}
OURS = "consentkit.guard.django.EmailBackend"

kit_of_the_test: ConsentKit  # what a dotted path leads to

Configure = Callable[..., None]


@pytest.fixture
def configure(mailbox: Mailbox, kit: ConsentKit) -> Iterator[Configure]:
    """Put Django's settings in place for this test: our backend before the mailbox, unless said otherwise."""

    def put(**settings: Any) -> None:
        holder = django.conf.UserSettingsHolder(global_settings)
        server = urlsplit(mailbox.url)
        chosen = {
            "EMAIL_BACKEND": OURS,
            "EMAIL_HOST": server.hostname,
            "EMAIL_PORT": server.port,
            "EMAIL_TIMEOUT": 10,
            "DEFAULT_FROM_EMAIL": "De Linde <nieuws@delinde.example>",
            "CONSENTKIT": kit,
            **settings,
        }
        for name, value in chosen.items():
            if value is not None:
                setattr(holder, name, value)
        django.conf.settings._wrapped = holder

    before = django.conf.settings._wrapped
    put()
    yield put
    django.conf.settings._wrapped = before


def message(*to: str, headers: dict[str, str] | None = None, **fields: Any) -> EmailMessage:
    return EmailMessage(
        "Nieuws uit de klas", "Hallo", to=list(to or ["ouder@thuis.example"]), headers=headers, **fields
    )


def leave(kit: ConsentKit, address: str, scope: str = "list:nieuwsbrief") -> None:
    kit.afgemeld.add_sync(address, scope=scope, reason="unsubscribe", channel="page")


@pytest.mark.checklist("SUP-05")
def test_a_mailing_arrives_with_its_link_whole_and_without_our_headers(
    configure: Configure, kit: ConsentKit, mailbox: Mailbox
) -> None:
    html = EmailMultiAlternatives("Nieuws", "Hallo", to=["Ouder <ouder@thuis.example>"], headers=NEWS)
    html.attach_alternative("<p>Hallo", "text/html")

    assert html.send() == 1

    mailbox.wait(1)
    found = headers_of(mailbox.raw[0])
    expected = kit.list_unsubscribe_headers("ouder@thuis.example", list="nieuwsbrief")
    assert found["list-unsubscribe"] == [expected["List-Unsubscribe"]]
    assert found["list-unsubscribe-post"] == ["List-Unsubscribe=One-Click"]
    assert not any("consentkit" in name for name in found)
    assert html.extra_headers == NEWS


@pytest.mark.checklist("SUP-05")
def test_a_link_of_the_host_s_own_gives_way_to_ours(configure: Configure, mailbox: Mailbox) -> None:
    message(headers={**NEWS, "list-unsubscribe": "<https://old.example/x>"}).send()

    mailbox.wait(1)
    assert len(headers_of(mailbox.raw[0])["list-unsubscribe"]) == 1
    assert b"old.example" not in mailbox.raw[0]


@pytest.mark.checklist("SUP-05")
def test_who_left_gets_nothing_and_is_not_counted_or_named(
    configure: Configure, kit: ConsentKit, mailbox: Mailbox, caplog: pytest.LogCaptureFixture
) -> None:
    leave(kit, "weg@thuis.example")
    mails = [message(f"{name}@thuis.example", headers=NEWS) for name in ("een", "weg", "twee")]

    with caplog.at_level(logging.INFO, logger="consentkit.guard"):
        sent = mail.get_connection().send_messages(mails)

    assert sent == 2
    assert [envelope.rcpt_tos for envelope in mailbox.envelopes] == [["een@thuis.example"], ["twee@thuis.example"]]
    assert [record.getMessage() for record in caplog.records] == ["1 recipient(s) were left out: they left"]
    assert mailbox.commands.count("EHLO") == 1  # one connection for all of them


@pytest.mark.checklist("SUP-05", "UNS-04")
def test_who_leaves_while_a_batch_is_sent_gets_nothing_after_it(
    configure: Configure, kit: ConsentKit, mailbox: Mailbox
) -> None:
    class Leaving(EmailMessage):
        def message(self, *args: Any, **options: Any) -> Any:
            leave(kit, "twee@thuis.example")
            return super().message(*args, **options)

    first = Leaving("Nieuws", "Hallo", to=["een@thuis.example"], headers=NEWS)

    assert mail.get_connection().send_messages([first, message("twee@thuis.example", headers=NEWS)]) == 1
    assert len(mailbox.wait(1)) == 1


@pytest.mark.checklist("SUP-05")
def test_service_mail_reaches_who_left_a_list_and_leaves_out_who_gets_no_mail_at_all(
    configure: Configure, kit: ConsentKit, mailbox: Mailbox
) -> None:
    leave(kit, "ouder@thuis.example", "marketing")
    leave(kit, "stuk@thuis.example", "mail")
    several = message(
        "Ouder <ouder@thuis.example>", "Stuk <stuk@thuis.example>", headers=SERVICE, bcc=["stuk@thuis.example"]
    )

    assert several.send() == 1
    assert message("stuk@thuis.example").send() == 0

    (found,) = mailbox.wait(1)
    assert mailbox.envelopes[0].rcpt_tos == ["ouder@thuis.example"]
    assert found["To"] == "Ouder <ouder@thuis.example>"


@pytest.mark.checklist("SUP-05")
@pytest.mark.parametrize(
    ("to", "headers", "error"),
    [
        (["een@thuis.example", "twee@thuis.example"], NEWS, UnguardedMail),
        (["een@thuis.example"], {"X-Consentkit-List": "anders"}, UnguardedMail),
        (["niemand"], NEWS, AddressError),
    ],
)
def test_what_may_not_be_sent_raises_and_in_silence_is_not_sent_either(
    configure: Configure, mailbox: Mailbox, to: list[str], headers: dict[str, str], error: type[Exception]
) -> None:
    wrong = message(*to, headers=headers)

    with pytest.raises(error):
        wrong.send()

    assert mail.get_connection(fail_silently=True).send_messages([wrong, message(headers=NEWS)]) == 1
    assert len(mailbox.wait(1)) == 1


@pytest.mark.checklist("SUP-05")
def test_in_silence_nobody_who_left_gets_anything(configure: Configure, kit: ConsentKit, mailbox: Mailbox) -> None:
    leave(kit, "ouder@thuis.example")

    assert message(headers=NEWS).send(fail_silently=True) == 0
    assert mailbox.commands == []


@pytest.mark.checklist("SUP-05")
def test_when_nobody_can_tell_who_left_nothing_is_sent(
    configure: Configure, kit: ConsentKit, mailbox: Mailbox, tmp_path: Path
) -> None:
    kit.close()
    for path in tmp_path.glob("consentkit.db*"):
        path.unlink()

    with pytest.raises(AfgemeldUnavailable):
        message(headers=NEWS).send()
    assert message(headers=NEWS).send(fail_silently=True) == 0
    assert mailbox.commands == []


def test_a_mail_server_that_is_away_raises_or_is_passed_over(configure: Configure, mailbox: Mailbox) -> None:
    configure(EMAIL_PORT=1)

    with pytest.raises(OSError, match="refused"):
        message().send()
    assert mail.get_connection(fail_silently=True).send_messages([message(), message()]) == 0


@pytest.mark.checklist("SUP-05")
def test_strict_refuses_what_does_not_say_what_it_is(configure: Configure, mailbox: Mailbox) -> None:
    configure(CONSENTKIT_STRICT_MAIL=True)

    with pytest.raises(UnguardedMail, match="does not say what it is"):
        message().send()
    assert message(headers=SERVICE).send() + message(headers=NEWS).send() == 2


@pytest.mark.checklist("SUP-05")
def test_under_a_strict_watch_django_s_own_backend_sends_nothing_and_ours_sends(
    configure: Configure, mailbox: Mailbox
) -> None:
    configure(CONSENTKIT_STRICT_MAIL=True)
    direct = mail.get_connection("django.core.mail.backends.smtp.EmailBackend")

    with guard().watch():
        for headers in (None, NEWS, SERVICE):
            for silently in (False, True):
                direct.fail_silently = silently
                with pytest.raises(UnguardedMail):
                    direct.send_messages([message(headers=headers)])
        with pytest.raises(UnguardedMail), smtplib.SMTP("127.0.0.1", urlsplit(mailbox.url).port or 0) as server:
            server.sendmail("a@delinde.example", "ouder@thuis.example", b"Subject: Hallo\r\n\r\nHallo\r\n")
        assert mailbox.messages == []

        assert message(headers=NEWS).send() == 1
        assert message("een@thuis.example", headers=SERVICE, cc=["twee@thuis.example"]).send() == 1

    assert len(mailbox.wait(2)) == 2


def test_the_backend_that_sends_is_the_one_that_is_named(configure: Configure, monkeypatch: pytest.MonkeyPatch) -> None:
    configure(CONSENTKIT_EMAIL_BACKEND="django.core.mail.backends.locmem.EmailBackend")
    monkeypatch.setattr(mail, "outbox", [], raising=False)

    assert message(headers=NEWS).send() == 1

    (found,) = mail.outbox
    assert set(found.extra_headers) == {"List-Unsubscribe", "List-Unsubscribe-Post"}


def test_the_kit_is_found_by_its_name_or_by_its_file(
    configure: Configure, kit: ConsentKit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(globals(), "kit_of_the_test", kit)
    configure(CONSENTKIT=f"{__name__}.kit_of_the_test")
    assert guard().kit is kit
    assert guard() is guard()

    (tmp_path / "consentkit.toml").write_text(
        '[site]\nname = "De Linde"\nbase_url = "http://127.0.0.1"\nprivacy_statement = "/p"\n'
        '[site.controller]\nname = "De Linde"\n',
        "utf-8",
    )
    monkeypatch.setenv("CONSENTKIT_SECRET_KEYS", "k7Jw0uZ4sXq9Bv2Lr8Yt5Hn3Gm6Fd1Ca-and-more")
    for spelling in (str(tmp_path / "consentkit.toml"), tmp_path / "consentkit.toml"):
        configure(CONSENTKIT=spelling)
        assert guard().kit.settings.folder == tmp_path.resolve()
        guard().kit.close()


@pytest.mark.parametrize("wrong", [None, "django.core.mail.outbox_of_nobody", "consentkit.guard.Guard"])
def test_a_kit_that_is_missing_or_none_is_said(configure: Configure, wrong: str | None) -> None:
    configure(CONSENTKIT=wrong)

    with pytest.raises((ImproperlyConfigured, ImportError)):
        message().send()


def test_the_guard_does_not_need_django() -> None:
    program = "import sys, consentkit.guard; sys.exit(any(name.partition('.')[0] == 'django' for name in sys.modules))"

    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
    assert Guard.__module__ == "consentkit.guard.guard"
