"""Signing up: asked fairly, mailed once, confirmed by a button, proven for years."""

from __future__ import annotations

import asyncio
import re
from datetime import UTC, datetime, timedelta
from html.parser import HTMLParser
from pathlib import Path

import pytest

from consentkit.evidence import was_valid
from consentkit.render import load_texts
from tests.newsletter.desk import JAN, LISTS, Desk
from tests.newsletter.desk import desk as open_desk


class Inputs(HTMLParser):
    """The controls of a page."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.found: list[dict[str, str | None]] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag in ("input", "button", "img", "script", "link"):
            self.found.append({"tag": tag, **dict(attrs)})


@pytest.mark.checklist("NEW-01")
def test_every_box_of_the_form_is_a_choice_of_its_own_and_unticked(desk: Desk) -> None:
    page = desk.get("/privacy/newsletter/nieuwsbrief").text

    boxes = [one for one in Inputs(page).found if one.get("type") == "checkbox"]
    assert [(box["name"], box["value"]) for box in boxes] == [("measuring", "1"), ("lists", "agenda")]
    assert not any("checked" in box for box in boxes)


@pytest.mark.checklist("NEW-02")
@pytest.mark.parametrize(
    ("lang", "told"),
    [
        ("nl", ["De Linde", "Nieuws van de school", "elke maand", "Je kunt je altijd weer afmelden"]),
        ("en", ["De Linde", "News from the school", "monthly", "You can unsubscribe at any time"]),
    ],
)
def test_who_sends_what_how_often_and_that_one_can_leave_stand_at_the_form(
    desk: Desk, lang: str, told: list[str]
) -> None:
    page = desk.get(f"/privacy/newsletter/nieuwsbrief?lang={lang}").text

    assert [words for words in told if words not in page] == []


@pytest.mark.checklist("NEW-03")
def test_nothing_is_mailed_before_the_button_behind_the_link_was_pressed(both: Desk) -> None:
    assert both.ask().headers["location"] == "/privacy/newsletter/nieuwsbrief?sent=1&lang=nl"
    (mail,) = both.mails()
    link = both.link("confirm", mail)
    assert both.why_not() == "unconfirmed"

    for _ in range(5):
        assert both.get(link).status_code == 200
        both.browser.head(link)
    assert both.why_not() == "unconfirmed"

    assert both.post(link).status_code == 200
    assert both.why_not() is None
    assert both.post(link).status_code == 409
    assert both.get(link).status_code == 200
    assert both.why_not() is None


@pytest.mark.checklist("NEW-03")
def test_a_link_works_for_72_hours_and_then_says_how_to_get_another(desk: Desk) -> None:
    desk.ask()
    desk.mails()
    link = desk.link("confirm")

    desk.clock.later(hours=71)
    assert desk.get(link).status_code == 200
    desk.clock.later(hours=2)
    late = desk.post(link)
    assert late.status_code == 410
    assert "Meld je opnieuw aan" in late.text
    assert "/privacy/newsletter" in late.text
    assert desk.why_not() == "unconfirmed"


@pytest.mark.checklist("NEW-03")
def test_the_confirmation_mail_asks_and_nothing_more(desk: Desk) -> None:
    desk.ask(measuring="1")
    (mail,) = desk.mails()

    assert mail.subject == "Bevestig je aanmelding voor Nieuwsbrief"
    assert mail.to == JAN
    assert mail.headers["Auto-Submitted"] == "auto-generated"
    assert "Stichting De Linde, Lindelaan 1" in mail.text
    assert "Stichting De Linde, Lindelaan 1" in mail.html
    assert "List-Unsubscribe" not in mail.headers
    assert [one for one in Inputs(mail.html).found if one["tag"] in ("img", "script", "link")] == []
    links = set(re.findall(r"https?://[^\s\"<]+", mail.html))
    assert {re.sub(r"confirm/[^?]+", "confirm/…", link) for link in links} == {
        "http://school.test/privacy/confirm/…?lang=nl"
    }
    assert JAN not in mail.html + mail.text


@pytest.mark.checklist("NEW-03")
def test_a_request_that_nobody_confirmed_is_erased_after_seven_days(both: Desk) -> None:
    periods = {"unconfirmed": timedelta(days=7), "left": timedelta(days=30), "proof": timedelta(days=5 * 365)}
    nothing = {"requests": 0, "addresses": 0, "subscriptions": 0}
    both.ask()
    both.clock.later(days=6, hours=23)
    assert both.kit.newsletter.purge(both.clock(), **periods) == nothing

    both.clock.later(hours=2)
    dry = both.kit.newsletter.purge(both.clock(), **periods, dry_run=True)
    gone = both.kit.newsletter.purge(both.clock(), **periods)

    assert dry == gone == {"requests": 1, "addresses": 0, "subscriptions": 0}
    assert both.kit.newsletter.purge(both.clock(), **periods) == nothing
    assert both.kit.newsletter.counts() == {}
    with both.kit.store.read() as connection:
        assert connection.exec_driver_sql("SELECT * FROM subscriber").all() == []


def test_the_address_of_who_left_goes_after_a_month_and_the_proof_after_five_years(both: Desk) -> None:
    periods = {"unconfirmed": timedelta(days=7), "left": timedelta(days=30), "proof": timedelta(days=5 * 365)}
    both.post(both.link("afmelden", both.subscribe()))

    both.clock.later(days=29)
    assert both.kit.newsletter.purge(both.clock(), **periods)["addresses"] == 0
    both.clock.later(days=2)
    assert both.kit.newsletter.purge(both.clock(), **periods) == {"requests": 0, "addresses": 1, "subscriptions": 0}
    with both.kit.store.read() as connection:
        assert connection.exec_driver_sql("SELECT address FROM subscriber").scalar_one() is None
    assert both.kit.newsletter.counts() == {"nieuwsbrief": {"unsubscribed": 1}}
    assert both.kit.evidence.verify().events == 3

    both.clock.later(days=5 * 365)
    assert both.kit.newsletter.purge(both.clock(), **periods)["subscriptions"] == 1
    assert both.kit.newsletter.counts() == {}
    assert both.why_not() == "afgemeld"


def test_a_consent_that_ran_out_ends_and_its_address_goes_like_any_other(both: Desk) -> None:
    periods = {"unconfirmed": timedelta(days=7), "left": timedelta(days=30), "proof": timedelta(days=5 * 365)}
    both.subscribe()
    both.clock.later(days=3655)
    both.kit.evidence.expire(both.clock())
    both.kit.newsletter.purge(both.clock(), **periods)

    assert both.why_not() == "left"
    assert both.events()[-1]["state"] == "expired"
    both.clock.later(days=31)
    assert both.kit.newsletter.purge(both.clock(), **periods)["addresses"] == 1


def test_the_sign_up_and_its_confirmation_are_two_events_with_the_exact_text_in_the_chained_log(both: Desk) -> None:
    both.subscribe(measuring="1", lang="en")

    asked, given = both.events()
    assert (asked["state"], asked["method"]) == ("requested", "post.newsletter")
    assert (given["state"], given["method"], given["language"]) == ("given", "mail.confirm", "en")
    assert asked["purposes"] == {"list.nieuwsbrief": False, "measuring.nieuwsbrief": False}
    assert given["purposes"] == {"list.nieuwsbrief": True, "measuring.nieuwsbrief": True}
    assert asked["record_id"] == given["record_id"]
    notice = both.kit.evidence.notice(given["notice_hash"])
    assert notice is not None
    assert load_texts("en")("form.measuring") in notice.content["texts"]
    assert notice.content["topics"]["nieuwsbrief"]["about"] == "News from the school"
    assert load_texts("en")("confirm.lead") in notice.content["confirm"]
    assert both.kit.evidence.verify().ok


def test_the_evidence_tells_a_form_that_was_really_shown_from_one_that_does_not_say_what_it_showed(desk: Desk) -> None:
    page = desk.get("/privacy/newsletter/nieuwsbrief").text
    fields = {one["name"]: one.get("value") or "" for one in Inputs(page).found if one.get("type") == "hidden"}

    desk.ask(**fields)
    paper = desk.kit.paper()
    form = paper.form("nieuwsbrief")
    assert form is not None
    pasted = {one["name"]: one.get("value") or "" for one in Inputs(paper.form_html(form, "nl", marked=False)).found
              if one.get("type") == "hidden"}  # fmt: skip
    desk.ask("piet@voorbeeld.nl", **pasted)
    asyncio.run(desk.kit.sign_up(form.read([("email", "an@voorbeeld.nl")])))

    assert [event["method"] for event in desk.events()] == ["form.newsletter", "post.newsletter", "host.newsletter"]


def test_a_form_whose_text_has_changed_since_is_shown_again(desk: Desk) -> None:
    answer = desk.ask(text="0123456789abcdef")

    assert answer.status_code == 409
    assert "De tekst bij het formulier is intussen veranderd" in answer.text
    assert desk.mails() == []


@pytest.mark.checklist("NEW-01")
def test_each_ticked_list_is_a_consent_of_its_own_and_the_others_stay_off(desk: Desk) -> None:
    desk.subscribe()
    assert (desk.why_not(list="nieuwsbrief"), desk.why_not(list="agenda")) == (None, "unknown")

    desk.subscribe("piet@voorbeeld.nl", lists="agenda")
    assert desk.why_not("piet@voorbeeld.nl", "agenda") is None
    records = {event["record_id"] for event in desk.events() if event["state"] == "given"}
    assert len(records) == 3


@pytest.mark.checklist("EVI-06")
def test_the_welcome_mail_is_a_receipt_with_the_record_s_id_and_a_readable_notice(desk: Desk) -> None:
    welcome = desk.subscribe(lists="agenda")

    given = [event for event in desk.events() if event["state"] == "given"]
    assert {re.search(r"\b[0-9a-f]{32}\b", line)[0] for line in welcome.text.splitlines() if "bewijs (" in line} == {
        event["record_id"] for event in given
    }
    for words in ("Nieuws van de school", "Wat er komt", "Meten van openen en klikken: nee", "Stichting De Linde"):
        assert words in welcome.text
        assert words in welcome.html
    assert welcome.headers["List-Unsubscribe-Post"] == "List-Unsubscribe=One-Click"
    assert desk.get(desk.link("voorkeuren", welcome)).status_code == 200


def test_who_is_signed_up_already_gets_a_mail_that_says_so_and_the_page_says_the_same_as_ever(desk: Desk) -> None:
    first = desk.ask()
    desk.mails()
    desk.post(desk.link("confirm"))
    desk.mails()

    again = desk.ask()

    assert again.headers["location"] == first.headers["location"]
    assert [mail.subject for mail in desk.mails()] == ["Je bent al aangemeld voor Nieuwsbrief"]
    assert [event["state"] for event in desk.events()] == ["requested", "given"]


def test_the_same_request_within_ten_minutes_sends_no_second_mail_and_the_first_link_stays_good(desk: Desk) -> None:
    desk.ask()
    link = next(desk.link("confirm", mail) for mail in desk.mails())

    desk.clock.later(minutes=5)
    desk.ask()

    assert desk.mails() == []
    assert desk.post(link).status_code == 200


def test_nobody_is_bombed_five_mails_a_day_whoever_asks_for_what(desk: Desk) -> None:
    mails = 0
    for minutes in range(0, 300, 15):
        desk.ask(list="nieuwsbrief" if minutes % 30 else "agenda")
        mails += len(desk.mails())
        desk.clock.later(minutes=15)

    assert mails == 5


def test_a_newer_request_takes_the_place_of_the_older_and_its_old_link_says_so(desk: Desk) -> None:
    desk.ask()
    old = next(desk.link("confirm", mail) for mail in desk.mails())
    desk.clock.later(minutes=11)
    desk.ask()
    desk.mails()

    gone = desk.get(old)
    assert gone.status_code == 410
    assert "gebruik dan de nieuwste mail" in gone.text
    assert desk.post(desk.link("confirm")).status_code == 200


def test_a_consent_is_valid_from_its_confirmation_until_the_person_leaves(desk: Desk) -> None:
    welcome = desk.subscribe()
    record = re.search(r"[0-9a-f]{32}", welcome.text)[0]
    before = desk.clock()
    desk.clock.later(days=30)
    desk.post(desk.link("afmelden", welcome))

    history = desk.kit.evidence.history(record)
    assert was_valid(history, "list.nieuwsbrief", before + timedelta(days=29))
    assert not was_valid(history, "list.nieuwsbrief", desk.clock())
    assert not was_valid(history, "list.nieuwsbrief", datetime(2026, 1, 1, tzinfo=UTC))


def test_a_consent_runs_out_and_is_then_not_mailed_on(desk: Desk) -> None:
    desk.subscribe()
    desk.clock.later(days=3650)
    assert desk.why_not() is None
    desk.clock.later(days=4)
    assert desk.why_not() == "expired"


def test_a_list_that_is_not_there_and_one_of_pupils_can_t_be_signed_up_for(tmp_path) -> None:
    from tests.newsletter.desk import LISTS, desk

    with desk(tmp_path, lists={**LISTS, "leerlingen": {**LISTS["agenda"], "pupils": True}}) as school:
        assert school.get("/privacy/newsletter/bestaat-niet").status_code == 404
        assert school.get("/privacy/newsletter/leerlingen").status_code == 404
        assert "leerlingen" not in school.get("/privacy/newsletter").text


def test_without_javascript_a_wrong_address_is_explained_at_its_field_and_the_rest_is_kept(desk: Desk) -> None:
    answer = desk.ask("geen adres", measuring="1", lists="agenda")

    assert answer.status_code == 422
    assert "Dit is geen e-mailadres" in answer.text
    assert 'aria-invalid="true"' in answer.text
    assert answer.text.count(" checked") == 2
    assert desk.events() == []


@pytest.mark.checklist("NEW-03")
def test_a_text_that_changed_between_the_request_and_its_confirmation_is_shown_before_anybody_agrees(
    tmp_path: Path,
) -> None:
    changed = {**LISTS, "nieuwsbrief": {**LISTS["nieuwsbrief"], "about": {"nl": "Ook van uitgevers", "en": "Ads too"}}}
    with open_desk(tmp_path) as before:
        before.ask()
        before.mails()
        link = before.link("confirm")
    with open_desk(tmp_path, lists=changed) as desk:
        answer = desk.post(link)

        assert answer.status_code == 409
        assert "Ook van uitgevers" in answer.text
        assert desk.why_not() == "unconfirmed"
        (mark,) = re.findall(r'name="text" value="([^"]+)"', answer.text)
        assert desk.post(link, text=mark).status_code == 200
        assert desk.why_not() is None
        shown = desk.kit.evidence.notice(desk.events()[-1]["notice_hash"])
        assert "Ook van uitgevers" in str(shown)


@pytest.mark.checklist("NEW-03")
def test_a_link_of_one_site_confirms_nothing_on_another(tmp_path: Path) -> None:
    sites = [
        {
            "name": name,
            "base_url": f"http://{host}",
            "hosts": [host],
            "privacy_statement": "/privacyverklaring",
            "controller": {"name": f"Stichting {name}", "address": "Laan 1", "email": f"privacy@{host}"},
        }
        for name, host in (("Linde", "school.test"), ("Eik", "eik.test"))
    ]
    with open_desk(tmp_path, site=None, sites=sites) as desk:
        desk.ask()
        desk.mails()
        link = desk.link("confirm")

        assert desk.browser.post(f"http://eik.test{link}").status_code in (400, 404, 410)
        assert desk.why_not() == "unconfirmed"
        assert desk.post(link).status_code == 200


def test_a_renewed_consent_goes_on_in_its_record_and_ends_there(desk: Desk) -> None:
    desk.subscribe()
    desk.clock.later(days=2)
    desk.subscribe(measuring="1")
    desk.clock.later(days=2)
    desk.post(desk.link("afmelden"))

    (record,) = {event["record_id"] for event in desk.events()}
    assert not was_valid(desk.kit.evidence.history(record), "list.nieuwsbrief", desk.clock())
