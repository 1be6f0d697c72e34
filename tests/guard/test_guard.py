"""What a host app's own mailer sends passes the guard, or does not leave."""

from __future__ import annotations

import asyncio
import email
import email.policy
import functools
import pickle
import re
import smtplib
from collections.abc import Callable
from email.message import EmailMessage, Message
from email.mime.multipart import MIMEMultipart
from email.mime.text import MIMEText
from email.policy import Policy
from pathlib import Path
from urllib.parse import urlsplit

import aiosmtplib
import pytest

from consentkit import ConsentKit
from consentkit.errors import AddressError, AfgemeldUnavailable, Suppressed, UnguardedMail
from consentkit.guard import LIST_HEADER, POLICY, PURPOSE_HEADER, Guard
from tests.fixtures_smtp import Mailbox
from tests.newsletter.desk import settings


def mail(to: str = "ouder@thuis.example", policy: Policy = email.policy.default, **headers: str) -> EmailMessage:
    """A message of the host's; `X_Consentkit_List` is written with dashes."""
    message = EmailMessage(policy)  # type: ignore[arg-type]
    message["From"] = "De Linde <nieuws@delinde.example>"
    message["To"] = to
    message["Subject"] = "Nieuws uit de klas"
    for name, value in headers.items():
        message[name.replace("_", "-")] = value
    message.set_content("Hallo\n")
    return message


def multipart(to: str = "ouder@thuis.example", **headers: str) -> MIMEMultipart:
    """As FastAPI-Mail builds them."""
    message = MIMEMultipart()
    message["From"] = "De Linde <nieuws@delinde.example>"
    message["To"] = to
    message["Subject"] = "Nieuws uit de klas"
    for name, value in headers.items():
        message.add_header(name.replace("_", "-"), value)
    message.attach(MIMEText("Hallo\n", _charset="utf-8"))
    return message


NEWS = {"X_Consentkit_List": "nieuwsbrief"}
SERVICE = {"X_Consentkit_Purpose": "service"}


def leave(kit: ConsentKit, address: str, scope: str = "list:nieuwsbrief") -> None:
    kit.afgemeld.add_sync(address, scope=scope, reason="unsubscribe", channel="page")


def port(mailbox: Mailbox) -> int:
    found = urlsplit(mailbox.url).port
    assert found
    return found


def by_smtplib(mailbox: Mailbox, message: Message) -> None:
    with smtplib.SMTP("127.0.0.1", port(mailbox), timeout=10) as server:
        server.send_message(message)


def by_sendmail(mailbox: Mailbox, message: Message) -> None:
    with smtplib.SMTP("127.0.0.1", port(mailbox), timeout=10) as server:
        server.sendmail("nieuws@delinde.example", message["To"], message.as_string())


def by_aiosmtplib(mailbox: Mailbox, message: Message) -> None:
    asyncio.run(aiosmtplib.send(message, hostname="127.0.0.1", port=port(mailbox), start_tls=False))


def by_client(mailbox: Mailbox, message: Message) -> None:
    """As FastAPI-Mail: one client, kept open."""

    async def send() -> None:
        async with aiosmtplib.SMTP(hostname="127.0.0.1", port=port(mailbox), start_tls=False) as client:
            await client.send_message(message)

    asyncio.run(send())


Send = Callable[[Mailbox, Message], None]
WAYS = pytest.mark.parametrize("send", [by_smtplib, by_sendmail, by_aiosmtplib, by_client])


def headers_of(raw: bytes) -> dict[str, list[str]]:
    """The headers as they stand in the bytes, unfolded by hand: no library may mend what another broke."""
    found: dict[str, list[str]] = {}
    head = re.sub(rb"\r\n(?=[ \t])", b"", raw.split(b"\r\n\r\n")[0]).decode("ascii")
    for line in head.split("\r\n"):
        name, _, value = line.partition(":")
        found.setdefault(name.lower(), []).append(value.strip())
    return found


# -- what leaves ----------------------------------------------------------------------------------------------------


@pytest.mark.checklist("SUP-05")
@WAYS
@pytest.mark.parametrize(
    "message",
    [
        pytest.param(mail(**NEWS), id="default policy"),
        pytest.param(mail(policy=email.policy.SMTP, **NEWS), id="SMTP policy"),
        pytest.param(mail(policy=email.policy.SMTPUTF8, **NEWS), id="SMTPUTF8 policy"),
        pytest.param(mail(policy=POLICY, **NEWS), id="our policy"),
        pytest.param(multipart(**NEWS), id="compat32"),
    ],
)
def test_a_released_message_arrives_with_its_link_whole_and_without_our_headers(
    kit: ConsentKit, mailbox: Mailbox, message: Message, send: Send
) -> None:
    expected = kit.list_unsubscribe_headers("ouder@thuis.example", list="nieuwsbrief")
    assert len(expected["List-Unsubscribe"].split(", ")[0]) > 150  # far over the 75 signs that Python breaks at

    send(mailbox, Guard(kit).release(message))

    mailbox.wait(1)
    found = headers_of(mailbox.raw[0])
    assert found["list-unsubscribe"] == [expected["List-Unsubscribe"]]
    assert found["list-unsubscribe-post"] == ["List-Unsubscribe=One-Click"]
    assert not any("consentkit" in name for name in found)
    assert max(map(len, mailbox.raw[0].split(b"\r\n"))) <= 998


def test_python_s_own_policy_breaks_the_same_link_where_it_is_plain_text(kit: ConsentKit) -> None:
    """The trap that these headers are for; when this fails, CPython mended it."""
    broken = mail(policy=email.policy.SMTP)
    whole = mail(policy=POLICY)
    for name, value in kit.list_unsubscribe_headers("ouder@thuis.example").items():
        broken[name] = "".join(value)
        whole[name] = "".join(value)

    assert b"=?utf-8?" in broken.as_bytes()
    assert b"=?utf-8?" not in whole.as_bytes()


def test_our_policy_folds_at_commas_only_and_says_so_when_a_uri_fits_no_line() -> None:
    message = EmailMessage(policy=POLICY)
    message["List-Unsubscribe"] = f"<https://a.example/{'x' * 80},{'y' * 80}>, <mailto:b@a.example>"
    assert message.as_bytes() == (
        b"List-Unsubscribe: <https://a.example/" + b"x" * 80 + b"," + b"y" * 80 + b">,\r\n <mailto:b@a.example>\r\n\r\n"
    )

    message = EmailMessage(policy=POLICY)
    message["List-Help"] = f"<https://a.example/{'x' * 998}>"
    with pytest.raises(ValueError, match="longer than the 998"):
        message.as_bytes()


def test_a_released_message_can_wait_in_a_queue_that_pickles(kit: ConsentKit) -> None:
    released = Guard(kit).release(mail(policy=email.policy.SMTP, **NEWS))

    assert pickle.loads(pickle.dumps(released)).as_bytes() == released.as_bytes()


def test_the_message_itself_stays_as_it_was(kit: ConsentKit) -> None:
    message = mail(**NEWS, List_Unsubscribe="<https://old.example/>")
    before = message.as_bytes()

    released = Guard(kit).release(message)

    assert message.as_bytes() == before
    assert released.get_all("List-Unsubscribe") != ["<https://old.example/>"]
    assert len(released.get_all("List-Unsubscribe", [])) == 1


# -- what a message is ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "headers",
    [
        NEWS,
        {"X_CONSENTKIT_LIST": "nieuwsbrief"},
        {"X_Consentkit_Purpose": "marketing", "X_Consentkit_List": "nieuwsbrief"},
        {"X_Consentkit_Purpose": "Marketing"},
        {"List_Unsubscribe": "<https://old.example/>"},
        {"List_Id": "De Linde <nieuws.delinde.example>"},
        {"Precedence": "bulk"},
        {"Precedence": "List"},
        {"Feedback_ID": "1:2:3:linde"},
    ],
)
@pytest.mark.checklist("SUP-05")
def test_marketing_gets_a_link_and_never_reaches_somebody_who_left(kit: ConsentKit, headers: dict[str, str]) -> None:
    guard = Guard(kit)
    assert "List-Unsubscribe-Post" in guard.release(mail(**headers))

    leave(kit, "ouder@thuis.example", "marketing")

    with pytest.raises(Suppressed) as caught:
        guard.release(mail(**headers))
    assert "ouder" not in str(caught.value)


def test_who_left_one_list_still_gets_the_other(kit: ConsentKit) -> None:
    leave(kit, "ouder@thuis.example")

    with pytest.raises(Suppressed):
        Guard(kit).release(mail(**NEWS))
    Guard(kit).release(mail(X_Consentkit_List="agenda"))


def test_a_mailing_that_does_not_say_which_list_reaches_nobody_who_left_any(kit: ConsentKit) -> None:
    leave(kit, "ouder@thuis.example")

    with pytest.raises(Suppressed):
        Guard(kit).release(mail(Precedence="bulk"))


@pytest.mark.parametrize("headers", [SERVICE, {}, {"Precedence": "first-class"}, {"Auto_Submitted": "auto-generated"}])
def test_service_mail_passes_a_marketing_opt_out_but_not_the_scope_of_all_mail(
    kit: ConsentKit, headers: dict[str, str]
) -> None:
    leave(kit, "ouder@thuis.example", "marketing")
    released = Guard(kit).release(mail("ouder@thuis.example, ander@thuis.example", **headers))
    assert "List-Unsubscribe" not in released
    assert PURPOSE_HEADER not in released

    leave(kit, "ander@thuis.example", "mail")
    with pytest.raises(Suppressed):
        Guard(kit).release(mail("ouder@thuis.example, ander@thuis.example", **headers))


@pytest.mark.parametrize("marks", [{"Precedence": "bulk"}, {"List_Id": "<meldingen.delinde.example>"}])
def test_what_is_declared_as_service_may_look_like_a_list(kit: ConsentKit, marks: dict[str, str]) -> None:
    leave(kit, "ouder@thuis.example", "marketing")

    assert "List-Unsubscribe" not in Guard(kit).release(mail(**SERVICE, **marks))


@pytest.mark.parametrize(
    ("headers", "sentence"),
    [
        ({"X_Consentkit_List": "niewsbrief"}, r"names no list of the configuration: \[lists\] has nieuwsbrief, agenda"),
        ({"X_Consentkit_List": "groep-8"}, "pupils"),
        ({"X_Consentkit_Purpose": "transactional"}, "write one of these"),
        ({"X_Consentkit_Purpose": "service", "X_Consentkit_List": "nieuwsbrief"}, "is no service message"),
        ({"X_Consentkit_Purpose": "service", "List_Unsubscribe": "<https://a.example>"}, "is no service message"),
    ],
)
def test_a_message_that_says_it_wrongly_is_refused(kit: ConsentKit, headers: dict[str, str], sentence: str) -> None:
    with pytest.raises(UnguardedMail, match=sentence):
        Guard(kit).release(mail(**headers))


def test_a_message_that_says_it_twice_is_refused(kit: ConsentKit) -> None:
    message = mail(**NEWS)
    message[LIST_HEADER] = "agenda"

    with pytest.raises(UnguardedMail, match="not several"):
        Guard(kit).release(message)


@pytest.mark.checklist("SUP-05")
def test_strict_refuses_a_message_that_does_not_say_what_it_is(kit: ConsentKit) -> None:
    guard = Guard(kit, strict=True)

    with pytest.raises(UnguardedMail, match="does not say what it is: set X-Consentkit-Purpose"):
        guard.release(mail())
    guard.release(mail(**SERVICE))
    guard.release(mail(**NEWS))


def test_marketing_to_several_at_once_is_refused(kit: ConsentKit) -> None:
    message = mail("een@thuis.example, Twee <twee@thuis.example>", **NEWS)
    message["Bcc"] = "drie@thuis.example"

    with pytest.raises(UnguardedMail, match="one recipient a message, not to 3"):
        Guard(kit).release(message)
    released = Guard(kit).release(message, ["Twee <twee@thuis.example>"])
    assert (
        released["List-Unsubscribe"]
        == (kit.list_unsubscribe_headers("twee@thuis.example", list="nieuwsbrief")["List-Unsubscribe"])
    )


def test_a_message_to_nobody_or_to_no_address_is_refused(kit: ConsentKit) -> None:
    with pytest.raises(UnguardedMail, match="no recipient"):
        Guard(kit).release(mail(**NEWS), [])
    with pytest.raises(AddressError):
        Guard(kit).release(mail(**NEWS), ["niemand"])


@pytest.mark.checklist("SUP-05")
@pytest.mark.parametrize("headers", [NEWS, SERVICE])
@pytest.mark.parametrize("name", ["Resent-To", "resent-cc", "Resent-Bcc"])
def test_a_message_that_smtplib_would_send_to_others_than_were_asked_about_is_refused(
    kit: ConsentKit, headers: dict[str, str], name: str
) -> None:
    leave(kit, "weg@thuis.example", "mail")
    message = mail(**headers)
    message[name] = "weg@thuis.example"

    for recipients in (None, ["ouder@thuis.example"]):
        with pytest.raises(UnguardedMail, match="take Resent-To off"):
            Guard(kit).release(message, recipients)


def test_every_spelling_of_an_address_is_found(kit: ConsentKit) -> None:
    leave(kit, "ouder@thuis.example")

    for spelling in (
        "Ouder@THUIS.example",
        '"Een, ouder" <ouder@thuis.example>',
        "=?utf-8?q?=C3=A9?= <OUDER@thuis.example>",
    ):
        with pytest.raises(Suppressed):
            Guard(kit).release(multipart(spelling, **NEWS))


@pytest.mark.parametrize("headers", [NEWS, SERVICE])
def test_nothing_is_released_when_nobody_can_tell_who_left(tmp_path: Path, headers: dict[str, str]) -> None:
    kit = ConsentKit(settings(tmp_path, database={"url": f"sqlite:///{tmp_path / 'none' / 'x.db'}"}))

    with pytest.raises(AfgemeldUnavailable):
        Guard(kit).release(mail(**headers))
    kit.close()


# -- the watch ------------------------------------------------------------------------------------------------------


@pytest.mark.checklist("SUP-05")
@WAYS
def test_under_watch_a_marketing_message_that_went_round_the_guard_is_not_sent(
    kit: ConsentKit, mailbox: Mailbox, send: Send
) -> None:
    guard = Guard(kit)
    with guard.watch():
        for message in (mail(**NEWS), mail(Precedence="bulk"), multipart(List_Unsubscribe="<https://old.example/x>")):
            with pytest.raises(UnguardedMail):
                send(mailbox, message)
        send(mailbox, guard.release(mail(**NEWS)))
        send(mailbox, mail())  # not strict: says nothing, so it is a service message

    assert [message["Subject"] for message in mailbox.wait(2)] == ["Nieuws uit de klas"] * 2
    assert len(mailbox.messages) == 2


@pytest.mark.checklist("SUP-05")
@WAYS
def test_under_a_strict_watch_nothing_is_sent_that_was_not_released(
    kit: ConsentKit, mailbox: Mailbox, send: Send
) -> None:
    guard = Guard(kit, strict=True)
    with guard.watch():
        for message in (mail(), mail(**SERVICE), mail(**NEWS)):
            with pytest.raises(UnguardedMail):
                send(mailbox, message)
        assert mailbox.messages == []

        send(mailbox, guard.release(mail(**NEWS)))
        send(mailbox, guard.release(mail(**SERVICE)))
        send(mailbox, guard.release(mail(**SERVICE, Precedence="bulk")))

    assert len(mailbox.wait(3)) == 3


@pytest.mark.checklist("SUP-05")
def test_the_watch_lets_nothing_by_to_another_reader_than_was_asked_about(kit: ConsentKit, mailbox: Mailbox) -> None:
    guard = Guard(kit, strict=True)
    with guard.watch():
        for headers in (NEWS, SERVICE):
            copied = guard.release(mail(**headers))
            del copied["To"]
            copied["To"] = "ander@thuis.example"
            with pytest.raises(UnguardedMail):
                by_smtplib(mailbox, copied)
            copied["Cc"] = "ouder@thuis.example"
            with pytest.raises(UnguardedMail):
                by_smtplib(mailbox, copied)

    assert mailbox.messages == []


@pytest.mark.checklist("SUP-05")
def test_what_was_released_as_service_mail_and_became_a_mailing_after_that_is_not_sent(
    kit: ConsentKit, mailbox: Mailbox
) -> None:
    guard = Guard(kit)
    message = guard.release(mail(**SERVICE))
    message["List-Unsubscribe"] = "<https://www.basisschool-de-linde.example/afmelden>"
    leave(kit, "ouder@thuis.example", "marketing")

    with guard.watch(), pytest.raises(UnguardedMail, match="no link to leave with"):
        by_smtplib(mailbox, message)
    assert mailbox.messages == []


@pytest.mark.checklist("SUP-05", "UNS-04")
@WAYS
@pytest.mark.parametrize(("headers", "scope"), [(NEWS, "list:nieuwsbrief"), (NEWS, "marketing"), (SERVICE, "mail")])
def test_who_leaves_while_a_message_waits_does_not_get_it(
    kit: ConsentKit, mailbox: Mailbox, send: Send, headers: dict[str, str], scope: str
) -> None:
    guard = Guard(kit)
    queued = guard.release(mail(**headers))

    leave(kit, "ouder@thuis.example", scope)

    with guard.watch(), pytest.raises(Suppressed):
        send(mailbox, queued)
    assert mailbox.messages == []


def test_a_released_mailing_may_be_sent_by_another_process_and_service_mail_may_not(
    kit: ConsentKit, mailbox: Mailbox
) -> None:
    here, there = Guard(kit, strict=True), Guard(kit, strict=True)
    with there.watch():
        by_smtplib(mailbox, here.release(mail(**NEWS)))
        with pytest.raises(UnguardedMail, match="in the process that released it"):
            by_smtplib(mailbox, here.release(mail(**SERVICE)))

    assert len(mailbox.wait(1)) == 1


@pytest.mark.checklist("SUP-05")
@WAYS
def test_the_two_calls_pass_the_watch_and_a_link_that_python_broke_does_not(
    kit: ConsentKit, mailbox: Mailbox, send: Send
) -> None:
    made = kit.list_unsubscribe_headers("ouder@thuis.example", list="nieuwsbrief")
    headers = {name.replace("-", "_"): value for name, value in made.items()}

    with Guard(kit, strict=True).watch():
        send(mailbox, multipart(**headers))
        send(mailbox, mail(policy=POLICY, **headers))
        send(mailbox, mail(policy=email.policy.SMTP, **headers))
        with pytest.raises(UnguardedMail, match="or a broken one"):
            send(mailbox, mail(policy=email.policy.SMTP, **{name: "".join(text) for name, text in headers.items()}))

    assert len(mailbox.wait(3)) == 3


@pytest.mark.parametrize("to", ["ouder@thuis.example", ["ouder@thuis.example"], ("ouder@thuis.example",)])
def test_the_watch_takes_recipients_and_texts_as_smtplib_does(
    kit: ConsentKit, mailbox: Mailbox, to: str | list[str]
) -> None:
    raw = Guard(kit).release(mail(**NEWS)).as_bytes(policy=email.policy.SMTP)
    with Guard(kit).watch(), smtplib.SMTP("127.0.0.1", port(mailbox), timeout=10) as server:
        for text in (raw, raw.decode(), raw.replace(b"\r\n", b"\n")):
            server.sendmail("nieuws@delinde.example", to, text)
        with pytest.raises(UnguardedMail):
            server.sendmail("nieuws@delinde.example", to, b"Precedence: bulk\n\xff\xfe\n\nx", ["8BITMIME"])

    assert len(mailbox.wait(3)) == 3


def test_the_watch_is_off_until_it_is_called_and_leaves_no_trace() -> None:
    before = smtplib.SMTP.sendmail, aiosmtplib.SMTP.sendmail

    assert all(call.__module__.startswith(("smtplib", "aiosmtplib")) for call in before)
    assert not any(hasattr(call, "__wrapped__") for call in before)


def test_the_watch_is_undone_once_and_only_one_at_a_time(kit: ConsentKit) -> None:
    before = smtplib.SMTP.sendmail, aiosmtplib.SMTP.sendmail
    watch = Guard(kit).watch()

    with pytest.raises(RuntimeError, match="already"):
        Guard(kit).watch()
    watch.undo()
    watch.undo()
    assert (smtplib.SMTP.sendmail, aiosmtplib.SMTP.sendmail) == before

    with pytest.raises(ZeroDivisionError), Guard(kit).watch():
        _ = 1 / 0
    assert (smtplib.SMTP.sendmail, aiosmtplib.SMTP.sendmail) == before


def test_undone_under_somebody_else_s_patch_the_watch_lets_everything_by(
    kit: ConsentKit, mailbox: Mailbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = smtplib.SMTP.sendmail
    watch = Guard(kit).watch()
    ours = smtplib.SMTP.sendmail
    monkeypatch.setattr(smtplib.SMTP, "sendmail", functools.partialmethod(ours))

    watch.undo()

    by_smtplib(mailbox, mail(Precedence="bulk"))
    assert len(mailbox.wait(1)) == 1
    monkeypatch.undo()
    smtplib.SMTP.sendmail = plain


def test_only_the_latest_released_messages_are_remembered(kit: ConsentKit, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("consentkit.guard.guard.REMEMBERED", 2)
    guard = Guard(kit, strict=True)
    first, *others = [guard.release(mail(**SERVICE)) for _ in range(3)]

    for other in others:
        guard.check(other.as_bytes(), ["ouder@thuis.example"])
    with pytest.raises(UnguardedMail):
        guard.check(first.as_bytes(), ["ouder@thuis.example"])


@pytest.mark.checklist("SEC-05")
def test_no_refusal_names_anybody(kit: ConsentKit, caplog: pytest.LogCaptureFixture) -> None:
    guard = Guard(kit, strict=True)
    leave(kit, "ouder@thuis.example", "mail")
    released = Guard(kit).release(mail("ander@thuis.example", **NEWS))
    attempts: list[Callable[[], object]] = [
        lambda: guard.release(mail(**NEWS)),
        lambda: guard.release(mail(**SERVICE)),
        lambda: guard.release(mail()),
        lambda: guard.release(mail("ouder@thuis.example, ander@thuis.example", **NEWS)),
        lambda: guard.release(mail(**NEWS), ["ouder@thuis@example"]),
        lambda: guard.check(released.as_bytes(), ["ouder@thuis.example"]),
        lambda: guard.check(mail(List_Unsubscribe="<https://x.example/ouder>").as_bytes(), ["ouder@thuis.example"]),
    ]

    for attempt in attempts:
        with pytest.raises((Suppressed, UnguardedMail, AddressError)) as caught:
            attempt()
        assert "thuis" not in str(caught.value)
        assert "ouder" not in str(caught.value)
    assert "thuis" not in caplog.text
