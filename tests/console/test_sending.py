"""Mailings in the console: seen before they go, released by a last question, watched, and told of afterwards."""

from __future__ import annotations

import asyncio
import json
import re
import threading
import time
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from html import unescape
from typing import Any
from urllib.parse import urlsplit

import pytest
from sqlalchemy import update

from consentkit.errors import AfgemeldUnavailable
from consentkit.mailing import Finding, MailingState
from consentkit.mailing.drafts import Sketch
from consentkit.mailing.tables import deliveries, mailings
from consentkit.staff import RIGHTS, Right, Role
from consentkit.web.console import figures, sending, watching
from tests.console.office import Office, Visitor, open_office
from tests.fixtures_smtp import Mailbox
from tests.mailing import hall
from tests.mailing.school import draft

TITLES = {
    "title": {"nl": "Nieuwsbrief", "en": "Newsletter"},
    "about": {"nl": "Nieuws", "en": "News"},
    "frequency": {"nl": "elke maand", "en": "monthly"},
}
LISTS = dict.fromkeys(("nieuwsbrief", "feest", "leeg", "vol"), TITLES)
READERS = 6
PROMOTION = "<p>{{ name }}, nu 50% korting! Bestel vandaag met code LENTE en profiteer van deze aanbieding.</p>"


def tables(mailbox: Mailbox, **console: Any) -> dict[str, Any]:
    """Settings of a school whose own domain is in no DNS."""
    mail = {"sender": "De Linde <nieuws@school.test>", "unsubscribe": "afmelden@school.test", "smtp": mailbox.url}
    return {"lists": LISTS, "mail": mail, "mailing": {"connections": 1}, "console": console}


@pytest.fixture(scope="module")
def post() -> Iterator[Mailbox]:
    with Mailbox() as running:
        yield running


@pytest.fixture(scope="module")
def office(tmp_path_factory: pytest.TempPathFactory, post: Mailbox) -> Iterator[Office]:
    with open_office(tmp_path_factory.mktemp("office"), **tables(post)) as opened:
        people: list[tuple[int, dict[str, str], dict[str, Any]]] = [
            (number, {"name": f"Lezer {number}"}, {}) for number in range(1, READERS + 1)
        ]
        hall.seats(opened.kit, people[:4], list="nieuwsbrief")
        hall.seats(opened.kit, [(20, {"name": ""}, {}), (21, {"name": "Kim"}, {"state": "pending"})])
        hall.seats(opened.kit, [(number + 30, fields, row) for number, fields, row in people], list="feest")
        yield opened


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pages that wait for their counts, however slow this machine is."""
    monkeypatch.setattr(figures, "WAIT", 10.0)
    monkeypatch.setattr(sending, "_LIST_WAIT", 10.0)


@pytest.fixture
def sender(office: Office) -> Visitor:
    return office.client("verzenden")


def words(response: Any) -> str:
    """What a page says, without its tags."""
    content = response.text.partition("<main")[2].partition(">")[2]
    return re.sub(r"\s+", " ", unescape(re.sub(r"<[^>]+>", " ", content))).strip()


def acts(office: Office) -> list[tuple[str, str, str]]:
    """What the log says was done, the newest first."""
    return [(entry.staff, entry.act, entry.about) for entry in office.kit.console._rooms.log.read()]


def ready(office: Office, **changes: Any) -> int:
    """A mailing that nobody released yet."""
    return office.kit.mailings.new(draft(**changes))


def under_way(office: Office, **row: Any) -> int:
    """A mailing that was released, and that the engine does not see."""
    return hall.mailing(office.kit, **({"frozen_at": office.clock(), "subject": "Onderweg"} | row))


def put(office: Office, mailing: int, **rows: int) -> None:
    """Messages of a mailing by state; nobody in particular gets them."""
    with office.kit.store.begin() as connection:
        for state, count in rows.items():
            held = "gone" if state == "in_doubt" else None
            for _ in range(count):
                values = {"mailing_id": mailing, "state": state, "reason": "", "tries": 0, "measured": False}
                connection.execute(deliveries.insert().values(**values, holder=held))


# -- the list ---------------------------------------------------------------------------------------------------------


def test_whoever_may_write_is_told_to_begin_where_there_is_no_mailing_yet(tmp_path: Any, post: Mailbox) -> None:
    with open_office(tmp_path, **tables(post)) as empty:
        writer, sender = empty.client("redactie").get("mailings"), empty.client("verzenden").get("mailings")

    assert "Schrijf je eerste mailing" in words(writer)
    assert 'href="/privacy/console/mailings/new"' in writer.text
    assert "Zodra een collega er een klaarzet" in words(sender)
    assert "mailings/new" not in sender.text


def test_the_list_is_paged_by_number_and_searched_in_subject_and_list(office: Office) -> None:
    known = [under_way(office, subject=f"Rapport 100% {number}", state="done", list="vol") for number in range(3)]
    verbs = office.kit.mailings

    first = [one.id for one in verbs.page(q="rapport vol", most=2)]
    second = [one.id for one in verbs.page(before=first[-1], q="rapport vol", most=2)]
    back = [one.id for one in verbs.page(after=second[0], q="rapport vol", most=2)]

    assert (first, second, back) == ([known[2], known[1]], [known[0]], [known[2], known[1]])
    assert [one.id for one in verbs.page(q="100%")] == known[::-1]
    assert verbs.page(q="1_0%") == []


def test_the_pages_of_the_list_lead_to_each_other(
    office: Office, sender: Visitor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("consentkit.web.console.listing.PAGE", 2)
    for number in range(4):
        under_way(office, subject=f"Blad {number}", state="done")

    def turn(page: Any, rel: str) -> Any:
        found = re.search(rf'href="([^"]+)" rel="{rel}"', page.text)
        return sender.get(unescape(found[1])) if found else None

    first = sender.get("mailings?q=Blad")
    second = turn(first, "next")

    assert re.findall(r"Blad \d", words(first)) == ["Blad 3", "Blad 2"]
    assert re.findall(r"Blad \d", words(second)) == ["Blad 1", "Blad 0"]
    assert (turn(first, "prev"), turn(second, "next")) == (None, None)
    assert re.findall(r"Blad \d", words(turn(second, "prev"))) == ["Blad 3", "Blad 2"]


def test_the_list_is_turned_round_by_its_heading_and_pages_on_from_there(
    office: Office, sender: Visitor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("consentkit.web.console.listing.PAGE", 2)
    for number in range(3):
        under_way(office, subject=f"Krant {number}", state="done")

    def follow(page: Any, link: str) -> Any:
        return sender.get(unescape(re.search(link, page.text)[1]))  # type: ignore[index]

    page = sender.get("mailings?q=Krant")
    turned = follow(page, r'aria-sort="descending"><a href="([^"]+)">Wanneer')
    last = follow(turned, r'href="([^"]+)" rel="next"')
    back = follow(last, r'href="([^"]+)" rel="prev"')

    assert re.findall(r"Krant \d", words(turned)) == ["Krant 0", "Krant 1"]
    assert re.findall(r"Krant \d", words(last)) == ["Krant 2"]
    assert re.findall(r"Krant \d", words(back)) == ["Krant 0", "Krant 1"]
    assert re.findall(r"Krant \d", words(follow(last, r'aria-sort="ascending"><a href="([^"]+)">Wanneer'))) == [
        "Krant 2", "Krant 1",
    ]  # fmt: skip


def test_the_list_says_how_far_each_is_in_words(office: Office, sender: Visitor) -> None:
    going = under_way(office, subject="Half weg", state="paused")
    put(office, going, sent=3, queued=2, excluded=1)

    assert "Half weg gepauzeerd Nieuwsbrief begonnen op 2 maart 2026" in words(sender.get("mailings?q=half"))
    assert "3 van 5 afgehandeld." in words(sender.get("mailings?q=half"))


def test_there_is_no_mailing_with_a_number_that_was_never_given(sender: Visitor) -> None:
    assert [sender.get(f"mailings/{id}").status_code for id in ("0", "999999", "9" * 30)] == [404, 404, 404]


# -- before it goes ---------------------------------------------------------------------------------------------------


def test_before_anything_is_sent_it_says_who_gets_it_and_who_not_and_why(office: Office, sender: Visitor) -> None:
    page = words(sender.get(f"mailings/{ready(office)}"))

    assert "4 van de 6 mensen op de lijst krijgen deze mailing." in page
    assert "niet bevestigd 1 Wacht tot zij op de link in hun bevestigingsmail klikken." in page
    assert "veld name is leeg 1 Ga verder met schrijven en geef dit veld een tekst voor wie het leeg is." in page


def test_what_the_check_found_stands_there_with_what_to_do(office: Office, sender: Visitor) -> None:
    id = ready(office, purpose="service", html=PROMOTION)

    page = words(sender.get(f"mailings/{id}"))

    assert "Dit moet eerst weg." in page
    assert "Los eerst op wat de controle vond" in page
    assert "Nu versturen" not in page


def test_a_mailing_with_an_error_does_not_go_whoever_posts_the_release(office: Office, sender: Visitor) -> None:
    good, bad = ready(office), ready(office, purpose="service", html=PROMOTION)
    form = sender.form(f"mailings/{good}/release", f"mailings/{good}/release")
    form.action = form.action.replace(f"/{good}/", f"/{bad}/")

    answer = sender.send(form)

    assert (answer.status_code, office.kit.mailings.get(bad).state) == (422, MailingState.DRAFT)


def test_the_dns_is_asked_when_one_wants_it(office: Office, sender: Visitor) -> None:
    id = ready(office)

    assert "Controleer ook de afzender bij de DNS" in words(sender.get(f"mailings/{id}"))
    assert "De DNS" in words(sender.get(f"mailings/{id}?dns=1"))


def test_a_test_goes_to_oneself_marked_and_is_logged_without_the_address(office: Office, post: Mailbox) -> None:
    id, anna, before = ready(office), office.client("redactie", name="Anna"), len(post.messages)

    answer = anna.submit(f"mailings/{id}", f"mailings/{id}/test", to="anna@delinde.example, bart@delinde.example")
    got = post.wait(before + 2)[before:]

    assert "De test is onderweg" in words(anna.follow(answer))
    assert [(str(mail["subject"]), str(mail["to"])) for mail in got] == [
        ("[Test] Feest op woensdag", "anna@delinde.example"),
        ("[Test] Feest op woensdag", "bart@delinde.example"),
    ]
    assert acts(office)[:2] == [("Anna", "mailing.test", f"mailing {id}")] * 2


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        ("", "Vul 1 tot 5 e-mailadressen in"),
        ("geen adres", "Dat is geen e-mailadres"),
        (",".join(f"a{number}@delinde.example" for number in range(6)), "Vul 1 tot 5 e-mailadressen in"),
        ("weg@delinde.example", "Een van deze adressen heeft zich afgemeld."),
    ],
)
def test_a_test_that_cant_go_says_why_at_the_field_and_keeps_what_was_typed(
    office: Office, typed: str, said: str
) -> None:
    asyncio.run(office.kit.afgemeld.add("weg@delinde.example", reason="phone", channel="phone"))
    id, anna = ready(office), office.client("redactie")

    answer = anna.submit(f"mailings/{id}", f"mailings/{id}/test", to=typed)

    assert (answer.status_code, said in words(answer)) == (422, True)
    assert f'value="{typed}"' in answer.text


def test_a_mail_server_that_refuses_a_test_is_told_in_words(office: Office, post: Mailbox) -> None:
    id, anna = ready(office), office.client("redactie")
    post.reply["RCPT"] = "550 5.1.1 no"

    try:
        answer = anna.submit(f"mailings/{id}", f"mailings/{id}/test", to="anna@delinde.example")
    finally:
        post.reply.clear()

    assert (answer.status_code, "De mailserver weigert de test." in words(answer)) == (422, True)


# -- the last question, and then --------------------------------------------------------------------------------------


def test_the_last_question_names_subject_list_readers_and_what_cant_be_undone(office: Office, sender: Visitor) -> None:
    page = words(sender.get(f"mailings/{ready(office)}/release"))

    assert page.startswith("Terug naar de mailing Deze mailing nu versturen? Onderwerp Feest op woensdag Lijst Nieuws")
    assert "Lezers 4 krijgen hem, 2 niet Begint meteen Stopt uiterlijk 5 maart 2026" in page
    assert "Wat verstuurd is, haal je niet terug." in page
    assert "Ja, verstuur naar 4 lezers" in page


def test_nobody_is_asked_about_a_mailing_that_nobody_would_get(office: Office, sender: Visitor) -> None:
    page = words(sender.get(f"mailings/{ready(office, list='leeg')}/release"))

    assert "Er staat nog niemand op deze lijst." in page
    assert "Ja, verstuur" not in page


def test_who_leaves_while_it_is_sent_is_never_mailed_and_everybody_else_is(
    office: Office, sender: Visitor, post: Mailbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    id, before = ready(office, list="feest"), len(post.messages)
    leaver = f"lezer{READERS + 30}@school{(READERS + 30) % 3}.example"
    link = urlsplit(office.kit.unsubscribe_url(leaver, list="feest")).path
    left: list[int] = []
    take = post.take

    def leave_at_the_first(transaction: Any, *, encrypted: bool) -> None:
        if not left:
            left.append(sender.browser.post(link, data={"List-Unsubscribe": "One-Click"}).status_code)
        take(transaction, encrypted=encrypted)

    monkeypatch.setattr(post, "take", leave_at_the_first)

    answer = sender.submit(f"mailings/{id}/release", f"mailings/{id}/release")
    done = _until(lambda: office.kit.mailings.get(id).state is MailingState.DONE)
    office.kit.engine.close()
    page = words(sender.follow(answer))

    assert (done, left) == (True, [200])
    assert sorted(str(mail["to"]) for mail in post.messages[before:]) == sorted(
        f"lezer{number}@school{number % 3}.example" for number in range(31, READERS + 30)
    )
    assert "Op de lijst 6" in page
    assert "Op tijd afgemeld 1" in page
    assert "Afgeleverd 5" in page
    assert acts(office)[0] == ("Verzenden", "mailing.release", f"mailing {id}")


def _until(true: Callable[[], bool], seconds: float = 30.0) -> bool:
    """Whether something became true in time."""
    end = time.monotonic() + seconds
    while not true() and time.monotonic() < end:
        time.sleep(0.01)
    return true()


def test_a_release_that_is_clicked_twice_or_sent_again_sends_once(
    office: Office, sender: Visitor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(office.kit.engine, "wake", lambda: None)
    id = ready(office)
    form = sender.form(f"mailings/{id}/release", f"mailings/{id}/release")
    other = sender.form(f"mailings/{id}/release", f"mailings/{id}/release")

    answers = [sender.send(form), sender.send(form), sender.send(other)]
    counts = office.kit.mailings.status(id).counts
    office.kit.mailings.cancel(id)

    assert [answer.status_code for answer in answers] == [303, 303, 303]
    assert answers[0].headers["location"] == answers[1].headers["location"]
    assert "Er is niets gedaan." in words(sender.follow(answers[2]))
    assert counts == {"queued": 4, "excluded": 2}
    assert [act for _, act, about in acts(office) if about == f"mailing {id}"] == ["mailing.release"]


def test_settling_who_gets_it_runs_behind_where_it_takes_long_and_its_pages_tell_so(
    office: Office, sender: Visitor, monkeypatch: pytest.MonkeyPatch
) -> None:
    id, going, send = ready(office), threading.Event(), office.kit.mailings.send

    def slow(*arguments: Any, **options: Any) -> Any:
        going.wait(20)
        return send(*arguments, **options)

    monkeypatch.setattr(office.kit.engine, "wake", lambda: None)
    monkeypatch.setattr(office.kit.mailings, "send", slow)
    monkeypatch.setattr(sending, "_SEND_PATIENCE", 0.05)

    answer = sender.submit(f"mailings/{id}/release", f"mailings/{id}/release")
    meanwhile = words(office.client("verzenden", name="Collega").get(f"mailings/{id}"))
    running = words(sender.follow(answer))
    going.set()
    done = _until(lambda: "Bezig" not in words(sender.follow(answer)))
    over = words(sender.follow(answer))
    office.kit.mailings.cancel(id)

    assert "Eerst wordt vastgelegd wie hem krijgt" in meanwhile
    assert "Nu versturen" not in meanwhile
    assert running.startswith("Mailing versturen Bezig.")
    assert done
    assert "De mailing is vrijgegeven. Lezers die hem krijgen: 4. Lezers die hem niet krijgen: 2." in over
    assert "Naar de mailing" in over


def test_what_only_the_whole_check_finds_is_told_in_the_language_of_the_page(
    office: Office, sender: Visitor, monkeypatch: pytest.MonkeyPatch
) -> None:
    def check(id: int, *, dns: bool = True, lang: str = "en") -> list[Finding]:
        return [Finding("error", "spf", "DNS", {"nl": "Geen SPF.", "en": "No SPF."}[lang], "")] if dns else []

    id = ready(office)
    monkeypatch.setattr(office.kit.mailings, "preflight", check)

    answer = sender.submit(f"mailings/{id}/release", f"mailings/{id}/release")

    assert (answer.status_code, office.kit.mailings.get(id).state) == (422, MailingState.DRAFT)
    assert "De mailing is niet verstuurd. Hij staat nog klaar." in words(answer)
    assert "Geen SPF." in words(answer)
    assert acts(office)[0] == ("Verzenden", "mailing.refused", f"mailing {id}")


def test_where_nobody_can_tell_who_left_nothing_is_sent_and_that_is_said(
    office: Office, sender: Visitor, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away() -> None:
        raise AfgemeldUnavailable("no key")

    id = ready(office)
    form = sender.form(f"mailings/{id}/release", f"mailings/{id}/release")
    monkeypatch.setattr(office.kit.mailings.readers, "open", away)

    answer = sender.send(form)
    other = sender.get(f"mailings/{ready(office)}")

    assert (answer.status_code, "er wordt niets verstuurd" in words(answer)) == (503, True)
    assert office.kit.mailings.get(id).state is MailingState.DRAFT
    assert "Daarom wordt er niets verstuurd." in words(other)


# -- two pairs of eyes, and writing on --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def careful(tmp_path_factory: pytest.TempPathFactory, post: Mailbox) -> Iterator[Office]:
    """An office where who writes does not release."""
    with open_office(tmp_path_factory.mktemp("careful"), **tables(post, four_eyes=True)) as opened:
        hall.seats(opened.kit, [(1, {}, {})])
        yield opened


def written(office: Office, by: str, subject: str = "Feest") -> tuple[int, int]:
    """A mailing that somebody wrote in the console and put ready: the numbers of draft and mailing."""
    sketch = Sketch(list="nieuwsbrief", subject=subject, body="Woensdag is het feest.")
    draft = office.kit.drafts.make("Basisschool De Linde", sketch, by)
    return draft, office.kit.drafts.ready(draft, by)


def test_with_four_eyes_who_wrote_a_mailing_does_not_release_it_and_is_told_who_could(careful: Office) -> None:
    _, id = written(careful, "Anna")
    anna, bart = careful.client("beheer", name="Anna"), careful.client("verzenden", name="Bart")
    form = bart.form(f"mailings/{id}/release", f"mailings/{id}/release")

    shown, asked = words(anna.get(f"mailings/{id}")), words(anna.get(f"mailings/{id}/release"))
    taken = anna.form(f"mailings/{id}/cancel", f"mailings/{id}/cancel")
    taken.action = form.action
    barred = anna.send(taken)

    sentence = (
        "Deze is geschreven door Anna. Vraag een collega met de rol verzenden of beheer die er niet aan meeschreef."
    )
    assert sentence in shown
    assert sentence in asked
    assert "Ja, verstuur" not in asked
    assert (barred.status_code, "Je schreef zelf aan deze mailing mee." in words(barred)) == (403, True)
    assert careful.kit.mailings.get(id).state is MailingState.DRAFT


def test_with_four_eyes_a_colleague_who_did_not_write_it_releases_it(
    careful: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(careful.kit.engine, "wake", lambda: None)
    _, id = written(careful, "Anna")

    careful.client("verzenden", name="Bart").submit(f"mailings/{id}/release", f"mailings/{id}/release")

    assert careful.kit.mailings.get(id).state is MailingState.SENDING


def test_one_writes_on_and_the_mailing_that_was_ready_never_goes(careful: Office) -> None:
    draft, id = written(careful, "Anna")

    answer = careful.client("redactie", name="Anna").submit(f"mailings/{id}", f"mailings/{id}/reopen")

    assert answer.headers["location"].startswith(f"/privacy/console/mailings/drafts/{draft}?told=")
    assert careful.kit.mailings.get(id).state is MailingState.CANCELLED
    assert acts(careful)[0] == ("Anna", "mailing.reopen", f"mailing {id}")


def test_what_is_being_written_stands_above_what_is_ready(careful: Office) -> None:
    sketch = Sketch(list="nieuwsbrief", subject="Nog in de pen")
    draft = careful.kit.drafts.make("Basisschool De Linde", sketch, "Anna")

    link = f'href="/privacy/console/mailings/drafts/{draft}">Nog in de pen</a>'

    page = careful.client("verzenden").get("mailings")

    assert link in careful.client("redactie").get("mailings").text
    assert link in page.text
    assert words(page).index("Nog in de pen 2 maart 2026") < words(page).index("Klaar, onderweg en verstuurd")
    assert "Jij kunt meekijken" in words(careful.client("verzenden").get(f"mailings/drafts/{draft}"))


# -- later ------------------------------------------------------------------------------------------------------------


def test_a_mailing_is_scheduled_in_the_zone_of_the_server_which_is_said(
    office: Office, sender: Visitor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(office.kit.engine, "wake", lambda: None)
    id = ready(office)
    begin = (office.clock() + timedelta(days=2)).astimezone().replace(minute=0)

    form = sender.get(f"mailings/{id}/schedule")
    asked = sender.submit(f"mailings/{id}/schedule", f"mailings/{id}/schedule", at=f"{begin:%Y-%m-%dT%H:%M}")
    question = asked.headers["location"]
    answer = sender.submit(question, f"mailings/{id}/release")
    found, page = office.kit.mailings.get(id), words(sender.follow(answer))

    assert f"in de tijdzone van de server: {datetime.now().astimezone():%Z}" in words(form)
    assert "Deze mailing inplannen?" in words(sender.get(question)) or found.state is MailingState.SENDING
    assert (found.start_at, found.not_after) == (begin, begin + timedelta(days=3))
    assert "ingepland" in page
    assert "Begint 4 maart 2026" in page
    assert acts(office)[0] == ("Verzenden", "mailing.schedule", f"mailing {id}")


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        ({"at": ""}, "Kies een dag en een tijd."),
        ({"at": "morgen"}, "Dit is geen dag met een tijd."),
        ({"at": "2026-03-01T10:00"}, "Dit moment is al voorbij."),
        ({"at": "9999-12-31T23:59"}, "Dit is meer dan een jaar vooruit."),
        ({"at": "2026-03-09T10:00", "not_after": "2026-03-09T09:00"}, "Dit is niet later dan het begin."),
    ],
)
def test_a_time_that_makes_no_sense_is_told_at_its_field(
    office: Office, sender: Visitor, typed: dict[str, Any], said: str
) -> None:
    id = ready(office)

    answer = sender.submit(f"mailings/{id}/schedule", f"mailings/{id}/schedule", **typed)

    assert (answer.status_code, said in words(answer)) == (422, True)
    assert 'aria-invalid="true"' in answer.text


def test_a_time_that_the_clock_skips_in_spring_does_not_exist(
    office: Office, sender: Visitor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TZ", "Europe/Amsterdam")
    time.tzset()
    id = ready(office)

    try:
        answer = sender.submit(f"mailings/{id}/schedule", f"mailings/{id}/schedule", at="2026-03-29T02:30")
    finally:
        monkeypatch.undo()
        time.tzset()

    assert (answer.status_code, "Deze tijd bestaat niet" in words(answer)) == (422, True)


# -- while it goes ----------------------------------------------------------------------------------------------------


def test_it_tells_how_it_goes_in_words_with_what_is_in_doubt_by_number(office: Office, sender: Visitor) -> None:
    id = under_way(office)
    put(office, id, sent=7, queued=2, in_doubt=1, excluded=3)
    with office.kit.store.read() as connection:
        query = deliveries.select().where(deliveries.c.mailing_id == id, deliveries.c.state == "in_doubt")
        number = connection.execute(query).one().id

    page = words(sender.get(f"mailings/{id}"))

    assert "8 van 10 afgehandeld." in page
    assert "Verstuurd 7 De mailserver nam de mail aan." in page
    assert f"Nummers van deze mails: {number}." in page


def test_a_mailing_that_nobody_sends_says_what_to_do(office: Office, sender: Visitor) -> None:
    office.kit.engine.close()
    id = under_way(office, frozen_at=office.clock() - timedelta(minutes=5))
    put(office, id, queued=2)

    assert "Op dit moment verstuurt niemand deze mailing." in words(sender.get(f"mailings/{id}"))


def test_what_was_done_is_not_told_on_a_page_that_shows_otherwise(office: Office, sender: Visitor) -> None:
    id = under_way(office, state="sending")

    told = "De mailing is gepauzeerd."

    assert told not in words(sender.get(f"mailings/{id}?told=sending.told_pause"))
    office.kit.mailings.pause(id)
    assert told in words(sender.get(f"mailings/{id}?told=sending.told_pause"))


def test_what_is_in_the_way_stands_there(office: Office, sender: Visitor) -> None:
    id = under_way(office, state="stopped", note="too many messages were refused in a row")

    page = sender.get(f"mailings/{id}")

    assert "Vraag de beheerder om dit na te kijken voordat je verdergaat." in words(page)
    assert '<p><code data-ck-figure="note">te veel mails achter elkaar zijn geweigerd</code>' in page.text


def test_it_is_paused_goes_on_and_is_cancelled_after_a_question(
    office: Office, sender: Visitor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(office.kit.engine, "wake", lambda: None)
    id = under_way(office)
    put(office, id, sent=1, queued=4)
    one = f"mailings/{id}"

    def state() -> MailingState:
        return office.kit.mailings.get(id).state

    paused, after_pause = sender.submit(one, f"{one}/pause"), state()
    resumed, after_resume = sender.submit(one, f"{one}/resume"), state()
    question = words(sender.get(f"{one}/cancel"))
    cancelled, after_cancel = sender.submit(f"{one}/cancel", f"{one}/cancel"), state()

    assert [answer.headers["location"].rpartition("_")[2] for answer in (paused, resumed, cancelled)] == [
        "pause", "resume", "cancel",
    ]  # fmt: skip
    assert (after_pause, after_resume, after_cancel) == ("paused", "sending", "cancelled")
    assert "1 mails zijn al afgehandeld. 4 mails gaan dan niet meer weg." in question
    assert [act for _, act, _ in acts(office)[:3]] == ["mailing.cancel", "mailing.resume", "mailing.pause"]


def test_what_can_no_longer_be_done_is_told_with_how_it_stands(office: Office, sender: Visitor) -> None:
    id = under_way(office)
    form = sender.form(f"mailings/{id}", f"mailings/{id}/pause")
    with office.kit.store.begin() as connection:
        connection.execute(update(mailings).where(mailings.c.id == id).values(state="done", ended_at=office.clock()))

    page = words(sender.follow(sender.send(form)))

    assert page.startswith("De mailing was intussen al veranderd. Er is niets gedaan.")


def test_a_watcher_gets_the_figures_and_is_told_when_the_page_must_be_asked_anew(
    office: Office, sender: Visitor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watching, "LOOK_SECONDS", 0.02)
    id = under_way(office, state="paused")
    put(office, id, sent=1200, queued=1)
    live = unescape(re.search(r'data-ck-live="([^"]+)"', sender.get(f"mailings/{id}").text)[1])  # type: ignore[index]

    monkeypatch.setattr(watching, "STREAM_SECONDS", 0.15)
    same = sender.get(live)
    office.kit.mailings.resume(id)
    monkeypatch.setattr(watching, "STREAM_SECONDS", 20.0)
    changed = sender.get(live)

    assert same.headers["content-type"].startswith("text/event-stream")
    assert _events(same.text) == [
        {
            "sent": "1.200", "waiting": "1", "deferred": "0", "failed": "0", "bounced": "0", "suppressed": "0",
            "in_doubt": "0", "excluded": "0", "settled": 1200, "total": 1201, "said": "1.200 van 1.201 afgehandeld.",
            "note": "",
        }
    ]  # fmt: skip
    assert _events(changed.text) == [{"reload": True}]
    assert sender.browser.head(live).content == b""


def _events(text: str) -> list[Any]:
    return [json.loads(line.removeprefix("data: ")) for line in text.splitlines() if line.startswith("data: ")]


# -- afterwards -------------------------------------------------------------------------------------------------------


def test_afterwards_it_tells_what_became_of_it_and_hands_out_the_figures_without_readers(
    office: Office, sender: Visitor
) -> None:
    id = under_way(office, state="done", ended_at=office.clock(), subject="=1+1")
    put(office, id, sent=9, failed=1, excluded=2)

    page = sender.get(f"mailings/{id}")
    csv, told = sender.get(f"mailings/{id}/report.csv"), sender.get(f"mailings/{id}/report.json")

    assert "Afgeleverd 9 100,0% Verstuurd min teruggekomen." in words(page)
    assert page.text.count("<h1") == 1
    assert "style=" not in page.text.partition("<main")[2]
    assert csv.text.splitlines()[:2] == [
        "figure,detail,label,value,share,counts",
        'recipients,,Op de lijst,12,,"Iedereen die op de lijst stond toen de mailing begon, ook wie de mailing niet mocht krijgen."',  # noqa: E501
    ]
    assert csv.headers["content-disposition"].startswith(f'attachment; filename="mailing-{id}-cijfers.csv"')
    assert (told.json()["sent"], told.json()["failed"]) == (9, {"": 1})
    assert acts(office)[:2] == [
        ("Verzenden", "mailing.export", f"mailing {id}, json"),
        ("Verzenden", "mailing.export", f"mailing {id}, csv"),
    ]


def test_a_mailing_that_was_thrown_away_says_that_nothing_was_sent(office: Office, sender: Visitor) -> None:
    id = ready(office)

    sender.submit(f"mailings/{id}/cancel", f"mailings/{id}/cancel")

    assert "Van deze mailing is niets verstuurd." in words(sender.get(f"mailings/{id}"))


# -- who may ----------------------------------------------------------------------------------------------------------

PAGES = {
    "mailings": Right.MAILINGS,
    "mailings/{id}": Right.MAILINGS,
    "mailings/{id}/live": Right.MAILINGS,
    "mailings/{id}/report.csv": Right.MAILINGS,
    "mailings/{id}/report.json": Right.MAILINGS,
    "mailings/{id}/schedule": Right.RELEASE,
    "mailings/{id}/release": Right.RELEASE,
    "mailings/{id}/cancel": Right.RELEASE,
}
FORMS = {
    "test": Right.TEST, "schedule": Right.RELEASE, "release": Right.RELEASE, "pause": Right.RELEASE,
    "resume": Right.RELEASE, "cancel": Right.RELEASE, "reopen": Right.WRITE,
}  # fmt: skip


@pytest.mark.checklist("SEC-06")
@pytest.mark.parametrize("role", Role)
def test_each_role_sees_and_does_what_its_rights_give_and_nothing_else(
    office: Office, role: Role, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watching, "STREAM_SECONDS", 0.0)
    id, browser = ready(office), office.client(role.value)
    may = RIGHTS[role]

    seen = {page: browser.get(page.format(id=id)).status_code != 403 for page in PAGES}
    done = {
        form: browser.browser.post(f"{browser.base}/mailings/{id}/{form}", follow_redirects=False).status_code != 403
        for form in FORMS
    }

    assert seen == {page: right in may for page, right in PAGES.items()}
    assert done == {form: right in may for form, right in FORMS.items()}
    assert office.kit.mailings.get(id).state is MailingState.DRAFT
