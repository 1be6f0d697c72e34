"""Leaving: one act, in force with its commit, and undone by nothing but a new confirmed sign-up."""

from __future__ import annotations

import re
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from consentkit.afgemeld import Reason
from consentkit.afgemeld.ledger import Change
from tests.newsletter.desk import AFGEMELD_KEY, JAN, LISTS, Desk
from tests.newsletter.desk import desk as open_desk
from tests.newsletter.test_sign_up import Inputs


@pytest.mark.checklist("UNS-03")
def test_a_get_shows_one_page_with_one_button_and_nothing_to_fill_in(desk: Desk) -> None:
    welcome = desk.subscribe()
    link = desk.link("afmelden", welcome)

    for _ in range(20):
        page = desk.get(link)
        desk.browser.head(link)

    controls = [one for one in Inputs(page.text).found if one["tag"] in ("input", "button")]
    assert [one["tag"] for one in controls] == ["button"]
    assert "Afmelden voor Nieuwsbrief" in page.text
    assert desk.why_not() is None


@pytest.mark.checklist("UNS-02")
def test_one_click_suppresses_at_once_without_cookies_and_without_a_redirect(both: Desk) -> None:
    link = both.link("afmelden", both.subscribe())
    both.browser.cookies.clear()

    answer = both.post(link, **{"List-Unsubscribe": "One-Click"})

    assert answer.status_code == 200
    assert "location" not in answer.headers
    assert "set-cookie" not in answer.headers
    assert both.suppressed()
    found = both.kit.afgemeld.look_up(JAN, list="nieuwsbrief")
    assert found is not None
    assert (found.scope, found.reason, found.channel) == ("list:nieuwsbrief", Reason.ONE_CLICK, "one-click")
    assert both.why_not() == "afgemeld"
    assert both.post(link, **{"List-Unsubscribe": "One-Click"}).status_code == 200


@pytest.mark.checklist("UNS-06")
@pytest.mark.parametrize(
    ("lang", "told"),
    [
        (
            "nl",
            ["Je bent afgemeld", "geen mails meer over: Nieuwsbrief", "antwoord op je vraag", "Toch weer aanmelden"],
        ),
        (
            "en",
            [
                "You are unsubscribed",
                "no more messages about: Newsletter",
                "answer to your question",
                "Sign me up again",
            ],
        ),
    ],
)
def test_the_page_says_what_stopped_what_may_still_come_and_how_to_undo_it(
    desk: Desk, lang: str, told: list[str]
) -> None:
    link = desk.link("afmelden", desk.subscribe()).split("?")[0]

    page = desk.post(f"{link}?lang={lang}").text

    assert [words for words in told if words not in page] == []
    assert re.search(r'role="status"[^>]*>[^<]*(Nieuwsbrief|Newsletter)', page)


def test_leaving_one_list_leaves_the_others_alone_and_a_button_leaves_them_all(desk: Desk) -> None:
    link = desk.link("afmelden", desk.subscribe(lists="agenda"))

    desk.post(link)
    assert (desk.why_not(list="nieuwsbrief"), desk.why_not(list="agenda")) == ("afgemeld", None)

    page = desk.post(link, action="all").text
    assert "geen nieuwsbrieven en andere mailings meer van Basisschool De Linde" in page
    assert desk.why_not(list="agenda") == "afgemeld"
    assert desk.kit.newsletter.counts() == {"agenda": {"unsubscribed": 1}, "nieuwsbrief": {"unsubscribed": 1}}


def test_undo_asks_by_mail_and_only_that_answer_brings_the_person_back(both: Desk) -> None:
    link = both.link("afmelden", both.subscribe())
    both.post(link)
    both.clock.later(minutes=1)

    page = both.post(link, action="undo")
    assert page.status_code == 200
    assert both.why_not() == "afgemeld"

    (mail,) = both.mails()
    assert both.post(both.link("confirm", mail)).status_code == 200
    assert both.why_not() is None
    assert not both.suppressed()
    states = [(event["state"], event["method"]) for event in both.events()]
    assert states == [
        ("requested", "post.newsletter"),
        ("given", "mail.confirm"),
        ("withdrawn", "leave.page"),
        ("requested", "undo.newsletter"),
        ("given", "mail.confirm"),
    ]


def test_the_page_after_undo_is_the_same_whether_or_not_the_address_is_still_known(desk: Desk) -> None:
    known = desk.link("afmelden", desk.subscribe())
    unknown = desk.kit.unsubscribe_url("nooit@gezien.nl", list="nieuwsbrief").removeprefix("http://school.test")

    for link in (known, unknown):
        desk.post(link)
    answers = [desk.post(link, action="undo") for link in (known, unknown)]

    assert answers[0].text == answers[1].text
    assert len(desk.mails()) == 1


@pytest.mark.checklist("UNS-05")
def test_the_link_needs_no_row_holds_no_address_and_works_after_everything_is_deleted(tmp_path) -> None:
    with open_desk(tmp_path) as desk:
        url = desk.kit.unsubscribe_url("Wie@Voorbeeld.nl", list="nieuwsbrief")
        assert "voorbeeld" not in url.lower()
        assert desk.kit.newsletter.counts() == {}

    new = "Zx9Bv2k7Jw0uZ4sQx7Lr8Yt5Hn3Gm6Fd"
    without = {name: each for name, each in LISTS.items() if name != "nieuwsbrief"}
    with open_desk(
        tmp_path, lists=without, secret_keys=[new], afgemeld_keys=[new, "Qx7Lr8Yt5Hn3Gm6Fd1CaBv2k7Jw0uZ4s"]
    ) as desk:
        desk.clock.later(days=5 * 365)
        link = url.removeprefix("http://school.test")
        assert desk.get(link).status_code == 200
        assert desk.post(link).status_code == 200
        assert desk.kit.afgemeld.look_up("wie@voorbeeld.nl", list="nieuwsbrief") is not None


@pytest.mark.checklist("UNS-05")
def test_an_unsubscribe_token_opens_nothing_but_unsubscribing(desk: Desk) -> None:
    welcome = desk.subscribe()
    token = desk.link("afmelden", welcome).rpartition("/")[2]

    for route in ("confirm", "voorkeuren"):
        assert desk.get(f"/privacy/{route}/{token}").status_code == 404
        assert desk.post(f"/privacy/{route}/{token}", action="erase").status_code == 404
    assert desk.why_not() is None


@pytest.mark.checklist("SEC-05")
def test_pages_behind_a_key_are_told_to_nobody(desk: Desk) -> None:
    welcome = desk.subscribe()
    for kind in ("afmelden", "voorkeuren"):
        page = desk.get(desk.link(kind, welcome))
        assert page.headers["referrer-policy"] == "no-referrer"
        assert page.headers["cache-control"] == "no-store"
        assert page.headers["x-robots-tag"] == "noindex"


@pytest.mark.checklist("UNS-08")
@pytest.mark.parametrize("reason", [Reason.PHONE, Reason.LETTER, Reason.REPLY])
def test_an_opt_out_by_phone_letter_or_reply_lands_in_the_same_table_with_its_channel(
    both: Desk, reason: Reason
) -> None:
    both.subscribe()

    assert both.kit.afgemeld.add_sync(JAN, scope="list:nieuwsbrief", reason=reason, channel="staff")

    found = both.kit.afgemeld.look_up(JAN, list="nieuwsbrief")
    assert found is not None
    assert (found.reason, found.channel) == (reason, "staff")
    assert both.kit.newsletter.counts() == {"nieuwsbrief": {"unsubscribed": 1}}


def test_who_left_all_marketing_and_confirms_one_list_has_still_left_the_others(both: Desk) -> None:
    link = both.link("afmelden", both.subscribe(lists="agenda"))
    both.post(link, action="all")
    both.clock.later(hours=1)

    both.subscribe()

    assert both.why_not(list="nieuwsbrief") is None
    assert both.why_not(list="agenda") == "afgemeld"
    assert not both.suppressed(list="nieuwsbrief")
    assert both.suppressed(list="agenda")


def test_a_hard_bounce_is_not_undone_by_signing_up_again(desk: Desk) -> None:
    desk.kit.afgemeld.add_sync(JAN, scope="mail", reason=Reason.HARD_BOUNCE, channel="bounce")

    assert desk.ask().status_code == 303
    assert desk.mails() == []
    assert desk.events() == []


def test_the_mailto_of_the_header_is_a_way_out_too(desk: Desk) -> None:
    from consentkit.afgemeld.intake import intake

    header = desk.subscribe().headers["List-Unsubscribe"]
    mailto = re.search(r"<mailto:([^?>]+)", header)[1]
    assert len(mailto.rpartition("@")[0]) <= 64
    raw = f"From: x@y.nl\r\nTo: {mailto.upper()}\r\nSubject: unsubscribe\r\n\r\n".encode()

    intake(desk.kit.afgemeld, desk.kit.links, tuple(desk.kit.settings.lists), raw, desk.clock)

    assert desk.why_not() == "afgemeld"
    assert desk.kit.newsletter.counts() == {"nieuwsbrief": {"unsubscribed": 1}}


@pytest.mark.checklist("UNS-05")
def test_a_link_signed_by_a_newer_key_ends_what_an_older_key_holds(tmp_path: Path) -> None:
    newer = "Bb8Lr8Yt5Hn3Gm6Fd1CaBv2k7Jw0uZ4t"
    with open_desk(tmp_path) as before:
        before.subscribe(lists="agenda")
    with open_desk(tmp_path, afgemeld_keys=[newer, AFGEMELD_KEY]) as desk:
        everything = urlsplit(desk.kit.unsubscribe_url(JAN)).path

        assert desk.post(everything, **{"List-Unsubscribe": "One-Click"}).status_code == 200

        assert desk.why_not(list="nieuwsbrief") == desk.why_not(list="agenda") == "afgemeld"
        assert desk.events()[-1]["state"] == "withdrawn"
        desk.post(everything, action="undo")
        assert len(desk.mails()) == 1


@pytest.mark.checklist("SUP-04")
def test_who_leaves_while_a_confirmation_is_being_stored_has_left(
    postgres_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    confirms, leaves = threading.Event(), threading.Event()
    seal = Change.seal
    database = {"url": postgres_url}
    with open_desk(tmp_path / "a", database=database) as here, open_desk(tmp_path / "b", database=database) as there:

        def held(change: Change) -> None:
            if change._ledger is here.kit.afgemeld:
                confirms.set()
                leaves.wait(0.5)  # as long as the other would need if nothing kept it waiting
            seal(change)

        here.ask()
        here.mails()
        monkeypatch.setattr(Change, "seal", held)
        link, path = here.link("confirm"), urlsplit(there.kit.unsubscribe_url(JAN, list="nieuwsbrief")).path
        with ThreadPoolExecutor() as pool:
            confirmed = pool.submit(here.post, link)
            assert confirms.wait(10)
            left = there.post(path)
            leaves.set()

        assert (confirmed.result().status_code, left.status_code) == (200, 200)
        assert here.why_not() == there.why_not() == "afgemeld"


@pytest.mark.parametrize(
    ("waits", "scope", "goes"),
    [
        ("welcome", "list:nieuwsbrief", False),
        ("welcome", "marketing", False),
        ("welcome", "mail", False),
        ("welcome", "list:agenda", True),
        ("already", "list:nieuwsbrief", False),
        ("own data", "marketing", True),
        ("own data", "mail", False),
        ("parent", "marketing", True),
        ("parent", "mail", False),
    ],
)
def test_a_mail_that_waits_is_not_sent_to_who_left_it_meanwhile(
    tmp_path: Path, waits: str, scope: str, goes: bool
) -> None:
    lists = {**LISTS, "jeugd": {**LISTS["agenda"], "form": "jeugd"}}
    forms = {"jeugd": {"title": {"nl": "Jeugd", "en": "Youth"}, "children": True}}
    with open_desk(tmp_path, lists=lists, forms=forms) as desk:
        if waits in ("already", "own data"):
            preferences = desk.link("voorkeuren", desk.subscribe())
        match waits:
            case "welcome":
                desk.ask()
                desk.mails()
                desk.post(desk.link("confirm"))
            case "already":
                desk.ask()
            case "own data":
                desk.post(preferences, action="link")
            case "parent":
                desk.ask("kind@voorbeeld.nl", "jeugd", age="under16", parent_email=JAN)
        assert desk.kit.outbox.waiting() == 1

        desk.kit.afgemeld.add_sync(JAN, scope=scope, reason="phone", channel="phone")

        assert [mail.to for mail in desk.mails()] == ([JAN] if goes else [])
        assert desk.kit.outbox.waiting() == 0


@pytest.mark.parametrize(("scope", "reason"), [("mail", "phone"), ("list:nieuwsbrief", "complaint")])
def test_who_gets_no_mail_at_all_is_asked_nothing_by_mail_from_the_preferences(
    desk: Desk, scope: str, reason: str
) -> None:
    preferences = desk.link("voorkeuren", desk.subscribe())
    desk.kit.afgemeld.add_sync(JAN, scope=scope, reason=reason, channel="phone")

    told = desk.post(preferences, action="link").text
    saved = desk.post(preferences, action="save", lists=["agenda"]).text

    assert "De link is onderweg" not in told
    assert "geldt pas als je het bevestigt" not in saved
    assert desk.kit.outbox.waiting() == 0
