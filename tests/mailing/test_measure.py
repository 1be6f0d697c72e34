"""Opens and clicks: of whoever agreed, for as long as they agree, and told apart from what programs fetch."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from sqlalchemy import select, update
from sqlalchemy.exc import OperationalError
from starlette.testclient import TestClient

from consentkit import ConsentKit
from consentkit.errors import DatabaseUnavailable
from consentkit.mailing import measure
from consentkit.mailing.measure import MOST_EVENTS, PIXEL, Quiet, looks_automatic
from consentkit.mailing.tables import deliveries, events, inbox, links, mailings, totals
from consentkit.newsletter.tables import subscribers, subscriptions
from tests.journeys.school import app
from tests.mailing.post import NONCE, PHONE, TOTAL, URLS, Post, posted
from tests.newsletter.desk import JAN, settings
from tests.newsletter.desk import desk as open_desk

CHROME = (
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0 Safari/537.36"
)


@pytest.fixture
def post(tmp_path: Path) -> Iterator[Post]:
    with open_desk(tmp_path) as desk:
        yield posted(desk)


@pytest.fixture
def both(database_url: str, tmp_path: Path) -> Iterator[Post]:
    with open_desk(tmp_path, database={"url": database_url}) as desk:
        yield posted(desk)


# -- what is answered -------------------------------------------------------------------------------------------------


@pytest.mark.checklist("SEC-05")
def test_the_pixel_is_the_same_for_everybody_and_tells_no_one_where_it_stood(post: Post) -> None:
    post.desk.subscribe(measuring="1")
    delivery = post.send()
    genuine = post.open(delivery)
    forged = post.desk.get("/privacy/o/forged.token", **{"User-Agent": PHONE})
    looked = post.open(delivery, method="HEAD")

    assert (genuine.content, len(genuine.content), looked.content) == (PIXEL, 43, b"")
    assert (forged.status_code, forged.content, dict(forged.headers)) == (200, PIXEL, dict(genuine.headers))
    assert dict(genuine.headers) == {
        "cache-control": "no-store", "referrer-policy": "no-referrer", "x-content-type-options": "nosniff",
        "x-robots-tag": "noindex", "content-type": "image/gif", "content-length": "43",
    }  # fmt: skip
    assert post.desk.post(f"/privacy/o/{post.measuring.open_token(NONCE, delivery)}").status_code == 405
    assert post.events() == [(delivery, "open", -1, False)]


@pytest.mark.checklist("SEC-05")
def test_a_link_leads_to_exactly_the_address_of_its_mailing_and_a_look_counts_for_nothing(post: Post) -> None:
    post.desk.subscribe(measuring="1")
    delivery = post.send()
    answer = post.click(delivery, 0)
    looked = post.click(delivery, 1, method="HEAD")

    assert (answer.status_code, answer.headers["location"], answer.content) == (302, URLS[0], b"")
    assert (looked.status_code, looked.headers["location"]) == (302, URLS[1])
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["referrer-policy"] == "no-referrer"
    assert "set-cookie" not in answer.headers
    assert post.events() == [(delivery, "click", 0, False)]


def test_no_link_leads_anywhere_else(post: Post) -> None:
    post.desk.subscribe(measuring="1")
    delivery = post.send()
    with post.desk.kit.store.begin() as connection:
        row = {"mailing_id": post.mailing, "number": 7, "url": "javascript:alert(1)"}
        connection.execute(links.insert().values(row))
    genuine = post.measuring.click_token(post.mailing, NONCE, 0, delivery)
    other = post.measuring.open_token(NONCE, delivery)
    paths = [f"/privacy/l/{token}" for token in (genuine[:-1], f"{genuine}/https://kwaad.example", other, "x")]
    paths.append(f"/privacy/l/{genuine[:-2]}?url=https://kwaad.example")
    answers = [post.desk.browser.get(path, follow_redirects=False) for path in paths]
    answers += [post.click(delivery, 7), post.click(delivery, 2)]

    assert [(one.status_code, one.headers.get("location")) for one in answers] == [(404, None)] * 7
    assert "De link is niet compleet of niet van ons." in answers[0].text
    assert post.events() == []


def test_an_address_with_other_letters_is_encoded_and_can_bring_no_header(post: Post) -> None:
    post.desk.subscribe(measuring="1")
    delivery = post.send()
    with post.desk.kit.store.begin() as connection:
        row = {"mailing_id": post.mailing, "number": 8, "url": "https://delinde.example/één\r\nSet-Cookie: a=b"}
        connection.execute(links.insert().values(row))

    answer = post.click(delivery, 8)

    assert answer.headers["location"] == "https://delinde.example/%C3%A9%C3%A9n%0D%0ASet-Cookie:%20a=b"
    assert "set-cookie" not in answer.headers


def test_a_link_works_when_the_delivery_is_gone_and_says_so_when_the_mailing_is(post: Post) -> None:
    post.desk.subscribe(measuring="1")
    delivery = post.send()
    with post.desk.kit.store.begin() as connection:
        connection.execute(deliveries.delete())
    before = post.click(delivery)
    with post.desk.kit.store.begin() as connection:
        connection.execute(mailings.delete())
    after = post.click(delivery)

    assert (before.status_code, before.headers["location"], post.events()) == (302, URLS[0], [])
    assert after.status_code == 404
    assert "De mailing met deze link is er niet meer." in after.text


def test_with_the_database_away_the_pixel_answers_and_a_link_asks_for_patience(tmp_path: Path) -> None:
    kit = ConsentKit(settings(tmp_path, database={"url": "postgresql://nobody@127.0.0.1:1/none"}))
    browser = TestClient(kit.wrap(app()), base_url="http://school.test", headers={"Accept": "text/html"})
    paths = {
        "o": kit.measuring.open_token(1, 1),
        "l": kit.measuring.click_token(1, 1, 1, 1),
        "meten": kit.measuring.quiet_token(1, 1, "nieuwsbrief"),
    }

    answers = [browser.get(f"/privacy/{route}/{token}", follow_redirects=False) for route, token in paths.items()]

    assert [one.status_code for one in answers] == [200, 503, 503]
    assert [one.headers.get("retry-after") for one in answers] == [None, "60", "60"]
    assert "Deze link werkt nu even niet" in answers[1].text
    with pytest.raises(OperationalError):
        kit.measuring.flush()
    kit.measuring.close()


def test_without_the_key_a_link_asks_for_patience_instead_of_calling_itself_forged(tmp_path: Path) -> None:
    with open_desk(tmp_path) as desk:
        token = desk.kit.measuring.click_token(1, 1, 1, 1)
    with open_desk(tmp_path, afgemeld_keys=[]) as desk:
        answers = [desk.get(f"/privacy/{route}/{token}").status_code for route in ("o", "l", "meten")]

    assert answers == [200, 503, 503]


@pytest.mark.checklist("SEC-05")
@pytest.mark.parametrize("route", ["o", "l", "meten"])
def test_no_access_log_sees_a_token(post: Post, route: str) -> None:
    seen: list[Any] = []
    wrapped = post.desk.kit.wrap(app())

    async def logged(scope: Any, receive: Any, send: Any) -> None:
        await wrapped(scope, receive, send)
        seen.extend([scope["path"], scope["raw_path"]])

    TestClient(logged, base_url="http://school.test").get(f"/privacy/{route}/geheim.token", follow_redirects=False)

    assert seen == [f"/privacy/{route}/…", f"/privacy/{route}/%E2%80%A6".encode()]


# -- what is kept -----------------------------------------------------------------------------------------------------


@pytest.mark.checklist("TRK-04")
def test_nothing_is_kept_of_who_did_not_agree_and_of_others_neither_network_nor_browser(both: Post) -> None:
    both.desk.subscribe(measuring="1")
    both.desk.subscribe("nee@voorbeeld.nl")
    yes, no = both.send(), both.send("nee@voorbeeld.nl")
    plain = both.send("nee@voorbeeld.nl", measured=False, mailing=both.new())
    for delivery in (yes, no, plain, 12345):
        both.open(delivery)
        both.click(delivery)

    assert both.events() == [(yes, "click", 0, False), (yes, "open", -1, False)]
    assert both.rows(events.c.at) == [(datetime(2026, 3, 2, 11, 30, tzinfo=UTC) + timedelta(hours=1),)] * 2
    kept = {"id", "mailing_id", "delivery_id", "kind", "link", "machine", "at"}
    assert {column.name for column in events.c} == kept


def _by_link(post: Post, delivery: int) -> None:
    assert post.desk.post(post.quiet(delivery)).status_code == 200


def _by_preferences(post: Post, delivery: int) -> None:
    post.desk.post(post.desk.link("voorkeuren"), action="save", lists="nieuwsbrief")


def _by_leaving(post: Post, delivery: int) -> None:
    post.desk.post(urlsplit(post.desk.kit.unsubscribe_url(JAN, list="nieuwsbrief")).path)


def _by_complaint(post: Post, delivery: int) -> None:
    post.desk.kit.afgemeld.add_sync(JAN, scope="marketing", reason="complaint", channel="complaint")


def _by_erasure(post: Post, delivery: int) -> None:
    assert post.desk.kit.newsletter.erase_address(JAN)


@pytest.mark.checklist("TRK-03", "TRK-04")
@pytest.mark.parametrize("withdraw", [_by_link, _by_preferences, _by_leaving, _by_complaint, _by_erasure])
def test_withdrawal_works_backwards_however_it_is_done(post: Post, withdraw: Any) -> None:
    post.desk.subscribe(measuring="1")
    delivery = post.send()
    post.open(delivery)
    post.click(delivery)
    assert len(post.events()) == 2

    withdraw(post, delivery)
    after = post.events()
    answers = [post.open(delivery), post.click(delivery)]

    assert after == []
    assert [one.status_code for one in answers] == [200, 302]
    assert (answers[0].content, answers[1].headers["location"]) == (PIXEL, URLS[0])
    assert post.events() == []
    day = "2026-03-02"
    assert post.rows(*TOTAL) == [("click", -1, day, 1, 1), ("click", 0, day, 1, 1), ("open", -1, day, 1, 1)]


@pytest.mark.checklist("TRK-03")
def test_what_waits_to_be_written_when_somebody_withdraws_is_not_written(both: Post) -> None:
    both.desk.subscribe(measuring="1")
    delivery = both.send()
    both.open(delivery)
    with both.desk.kit.store.begin() as connection:
        reader = connection.execute(select(subscribers.c.id).with_for_update()).scalar_one()
        writing = threading.Thread(target=both.measuring.flush)
        writing.start()
        time.sleep(0.2)
        assert writing.is_alive(), "it did not wait for who is withdrawing"
        off = update(subscriptions).where(subscriptions.c.subscriber_id == reader)
        connection.execute(off.values(measuring=False))
        both.measuring.unmeasure(connection, reader)
    writing.join(10)

    assert not writing.is_alive()
    assert both.events() == []


def test_a_consent_given_anew_does_not_reach_back_to_what_went_before_it(post: Post) -> None:
    post.desk.subscribe(measuring="1")
    old = post.send()
    post.open(old)
    post.measuring.flush()
    post.desk.post(post.quiet(old))
    post.desk.clock.later(days=1)
    post.desk.subscribe(measuring="1")
    new = post.send(mailing=post.new())
    for delivery in (old, new):
        post.open(delivery)

    assert post.events() == [(new, "open", -1, False)]
    assert post.rows(*TOTAL) == [("open", -1, "2026-03-02", 1, 1)]


@pytest.mark.checklist("TRK-04")
def test_a_consent_that_ran_out_is_no_consent_and_the_next_purge_leaves_totals_only(post: Post) -> None:
    post.desk.subscribe(measuring="1")
    delivery = post.send()
    post.open(delivery)
    post.rows(events.c.id)
    with post.desk.kit.store.begin() as connection:
        connection.execute(update(subscriptions).values(valid_until=post.desk.clock()))
    post.desk.clock.later(hours=2)
    post.click(delivery)

    assert post.events() == [(delivery, "open", -1, False)]
    assert post.measuring.reduce(post.desk.clock()) == 1
    assert post.events() == []
    assert post.rows(*TOTAL) == [("open", -1, "2026-03-02", 1, 1)]


@pytest.mark.checklist("TRK-04")
def test_after_ninety_days_single_opens_and_clicks_are_totals_in_which_people_count_once(both: Post) -> None:
    both.desk.subscribe(measuring="1")
    both.desk.subscribe("piet@voorbeeld.nl", measuring="1")
    jan, piet = both.send(), both.send("piet@voorbeeld.nl")
    for delivery in (jan, piet):
        both.open(delivery)
        both.click(delivery)
    both.desk.clock.later(days=2)
    both.open(jan)
    both.click(jan, 1)
    both.open(jan, agent="Mozilla/5.0")
    before = both.events()
    both.desk.clock.later(days=87)
    dry = both.measuring.reduce(both.desk.clock(), dry_run=True), both.measuring.reduce(both.desk.clock())
    same = both.events()
    both.desk.clock.later(days=1)
    gone = both.measuring.reduce(both.desk.clock(), dry_run=True)
    gone = (gone, both.measuring.reduce(both.desk.clock()), both.measuring.reduce(both.desk.clock()))

    assert (len(before), same, dry) == (7, before, (0, 0))
    assert gone == (7, 7, 0)
    assert both.rows(*TOTAL) == [
        ("click", -1, "2026-03-02", 2, 2),
        ("click", -1, "2026-03-04", 1, 0),
        ("click", 0, "2026-03-02", 2, 2),
        ("click", 1, "2026-03-04", 1, 1),
        ("open", -1, "2026-03-02", 2, 2),
        ("open", -1, "2026-03-04", 1, 0),
        ("open:machine", -1, "2026-03-04", 1, 1),
    ]
    both.open(jan)
    assert both.events() == [], "a message is measured no longer than single events are kept"


def test_the_deliveries_of_an_old_mailing_become_totals(both: Post) -> None:
    both.desk.subscribe(measuring="1")
    both.desk.subscribe("piet@voorbeeld.nl")
    delivery = both.send()
    both.send("piet@voorbeeld.nl", measured=False)
    both.open(delivery)
    both.measuring.flush()
    with both.desk.kit.store.begin() as connection:
        back = {"key": "k", "source": "mail", "kind": "complaint", "status": ""}
        connection.execute(inbox.insert().values(**back, delivery_id=delivery, at=both.desk.clock()))
    keep = timedelta(days=30)
    young = both.measuring.reduce_deliveries(both.desk.clock(), keep=keep)
    both.desk.clock.later(days=31)
    now = both.desk.clock()
    gone = [both.measuring.reduce_deliveries(now, keep=keep, dry_run=dry) for dry in (True, False, False)]

    assert (young, gone) == (0, [2, 2, 0])
    assert (both.events(), both.rows(deliveries.c.id)) == ([], [])
    assert both.rows(*TOTAL) == [
        ("back:complaint", -1, "", 1, 1),
        ("delivery:sent:", -1, "", 2, 2),
        ("measured", -1, "", 1, 1),
        ("open", -1, "2026-03-02", 1, 1),
    ]


def test_no_delivery_leads_to_who_was_erased_or_is_not_kept_any_more(both: Post) -> None:
    both.desk.subscribe(measuring="1")
    both.desk.subscribe("piet@voorbeeld.nl")
    both.send()
    both.send("piet@voorbeeld.nl", measured=False)
    both.desk.kit.newsletter.erase_address(JAN)
    erased = both.rows(deliveries.c.subscriber_id.is_(None))
    both.desk.kit.afgemeld.add_sync("piet@voorbeeld.nl", scope="marketing", reason="staff", channel="host")
    both.desk.clock.later(days=40)
    month = timedelta(days=30)
    both.desk.kit.newsletter.purge(both.desk.clock(), unconfirmed=month, left=month, proof=month * 60)
    both.measuring.reduce(both.desk.clock())

    assert erased == [(False,), (True,)]
    assert both.rows(deliveries.c.subscriber_id) == [(None,), (None,)]


def test_a_link_that_is_fetched_for_ever_fills_nothing(post: Post) -> None:
    post.desk.subscribe(measuring="1")
    delivery = post.send()
    for _ in range(50):
        post.open(delivery)
    once = len(post.events())
    for _ in range(MOST_EVENTS + 20):
        post.desk.clock.later(hours=1)
        post.measuring.opened(post.measuring.open_token(NONCE, delivery), {"user-agent": PHONE})

    assert (once, len(post.events())) == (1, MOST_EVENTS)


def test_what_was_fetched_is_written_by_itself_after_a_moment(post: Post, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measure, "COLLECT", 0.01)
    post.desk.subscribe(measuring="1")
    delivery = post.send()
    post.open(delivery)
    post.desk.clock.later(seconds=3)

    deadline = time.monotonic() + 5
    found: list[Any] = []
    while not found and time.monotonic() < deadline:
        time.sleep(0.02)
        with post.desk.kit.store.read() as connection:
            found = [*connection.execute(select(events.c.kind)).scalars()]
    assert found == ["open"]


def test_what_the_database_can_not_take_now_waits(post: Post, monkeypatch: pytest.MonkeyPatch) -> None:
    post.desk.subscribe(measuring="1")
    delivery = post.send()
    post.open(delivery)
    post.click(delivery)
    with monkeypatch.context() as patch:

        def away(*_: Any) -> None:
            raise OperationalError("INSERT", {}, Exception("disk I/O error"))

        patch.setattr(type(post.measuring), "_write", away)
        with pytest.raises(OperationalError):
            post.measuring.flush()

    assert post.events() == [(delivery, "click", 0, False), (delivery, "open", -1, False)]


# -- a person or a program --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("automatic", "agent", "headers", "seconds"),
    [
        (False, PHONE, {}, 60.0),
        (False, CHROME, {}, None),
        (
            False,
            "Mozilla/4.0 (compatible; MSIE 7.0; Windows NT 10.0; Microsoft Outlook 16.0.17126; ms-office)",
            {},
            60.0,
        ),
        (False, "Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Thunderbird/128.5.0", {}, 60.0),
        (False, "Mozilla/5.0 (Linux; Android 13; CUBOT X70) AppleWebKit/537.36", {}, 60.0),
        (True, "Mozilla/5.0", {}, 3600.0),
        (False, "Mozilla/5.0 (Windows NT 5.1; rv:11.0) Gecko Firefox/11.0 (via ggpht.com GoogleImageProxy)", {}, 60.0),
        (True, "YahooMailProxy; https://help.yahoo.com/kb/yahoo-mail-proxy-SLN28749.html", {}, 60.0),
        (True, CHROME.replace("140.0.0.0", "42.0.2311.135") + " Edge/12.246 Mozilla/5.0", {}, 60.0),
        (True, "Mozilla/4.0 (compatible; ms-office; MSOffice 16)", {}, 60.0),
        (True, "Mozilla/5.0 (compatible; Proofpoint URL Defense)", {}, 60.0),
        (True, "Mozilla/5.0 (compatible; Barracuda Sentinel (EE))", {}, 60.0),
        (True, "SkypeUriPreview Preview/0.5 skype-url-preview@microsoft.com", {}, 60.0),
        (True, "LinkedInBot/1.0 (compatible; Mozilla/5.0)", {}, 60.0),
        (True, "WhatsApp/2.23.20.0", {}, 60.0),
        (True, "python-requests/2.32.3", {}, 60.0),
        (True, "curl/8.5.0", {}, 60.0),
        (True, "", {}, 60.0),
        (True, PHONE, {"sec-purpose": "prefetch;prerender"}, 60.0),
        (True, PHONE, {"x-purpose": "preview"}, 60.0),
        (True, PHONE, {}, 9.0),
        (True, PHONE, {}, -1.0),
        (False, PHONE, {}, 10.0),
    ],
)
def test_a_program_is_told_by_its_name_what_it_says_and_how_soon_it_comes(
    automatic: bool, agent: str, headers: dict[str, str], seconds: float | None
) -> None:
    assert looks_automatic({"user-agent": agent, **headers}, seconds) is automatic


def test_who_follows_every_link_at_once_is_a_program_and_who_takes_time_is_not(post: Post) -> None:
    for address in (JAN, "piet@voorbeeld.nl"):
        post.desk.subscribe(address, measuring="1")
    scanned, read = post.send(), post.send("piet@voorbeeld.nl")
    post.click(scanned, 0)
    post.desk.clock.later(seconds=1)
    post.click(scanned, 1)
    post.desk.clock.later(minutes=3)
    post.click(scanned, 0)
    post.click(read, 0)
    post.desk.clock.later(seconds=20)
    post.click(read, 1)

    assert post.events() == [
        (scanned, "click", 0, False),
        (scanned, "click", 0, True),
        (scanned, "click", 1, True),
        (read, "click", 0, False),
        (read, "click", 1, False),
    ]


# -- the link that stops measuring ------------------------------------------------------------------------------------


@pytest.mark.checklist("TRK-03")
@pytest.mark.parametrize(
    ("lang", "button", "done"),
    [
        ("nl", "Stop met meten", "We meten niet of je mails over Nieuwsbrief opent en waarop je klikt."),
        ("en", "Stop measuring", "We do not measure whether you open mails about Newsletter or what you click."),
    ],
)
def test_the_link_stops_the_measuring_of_its_list_with_one_button_and_nothing_else(
    post: Post, lang: str, button: str, done: str
) -> None:
    post.desk.subscribe(measuring="1")
    post.desk.subscribe(list="agenda", measuring="1")
    path = f"{post.quiet(post.send())}?lang={lang}"
    evidence = post.desk.events()
    page = post.desk.get(path)
    post.desk.browser.head(path)
    untouched = post.rows(subscriptions.c.list, subscriptions.c.measuring), post.desk.events()
    answers = [post.desk.post(path), post.desk.post(path), post.desk.get(path)]

    assert f"<button>{button}</button>" in page.text
    assert page.text.count("<button") == page.text.count("<form") == 1
    assert untouched == ([("agenda", True), ("nieuwsbrief", True)], evidence)
    assert [one.status_code for one in answers] == [200, 200, 200]
    for answer in answers:
        assert f'<p class="lead" role="status">{done}' in answer.text
        assert (answer.headers["referrer-policy"], answer.headers["cache-control"]) == ("no-referrer", "no-store")
    assert post.rows(subscriptions.c.list, subscriptions.c.measuring) == [("agenda", True), ("nieuwsbrief", False)]
    assert (post.desk.why_not(), post.desk.suppressed()) == (None, False)
    (added,) = post.desk.events()[len(evidence) :]
    assert (added["method"], added["purposes"]) == (
        "mail.measuring",
        {"list.nieuwsbrief": True, "measuring.nieuwsbrief": False},
    )


def test_the_link_of_a_mail_whose_reader_is_not_known_any_more_says_that_nothing_is_measured(post: Post) -> None:
    post.desk.subscribe(measuring="1")
    delivery = post.send()
    path = post.quiet(delivery)
    post.desk.kit.newsletter.erase_address(JAN)

    assert post.measuring.quiet(path.rpartition("/")[2]) == Quiet("nieuwsbrief", None, measured=False)
    for answer in (post.desk.get(path), post.desk.post(path)):
        assert answer.status_code == 200
        assert "We weten niet meer van wie deze mail was" in answer.text
    assert post.desk.get("/privacy/meten/forged").status_code == 404


def test_another_sites_page_can_not_stop_the_measuring(post: Post) -> None:
    post.desk.subscribe(measuring="1")
    path = post.quiet(post.send())

    answer = post.desk.browser.post(path, headers={"Sec-Fetch-Site": "cross-site"}, data={"a": "b"})

    assert answer.status_code == 403
    assert post.rows(subscriptions.c.measuring) == [(True,)]


# -- the choice -------------------------------------------------------------------------------------------------------


@pytest.mark.checklist("TRK-02")
def test_measuring_is_a_second_choice_that_nobody_ticked_and_that_is_not_needed_to_get_the_mails(post: Post) -> None:
    page = post.desk.get("/privacy/newsletter/nieuwsbrief").text
    box = page[page.index('<input type="checkbox" name="measuring"') :].partition(">")[0]
    without, given = post.desk.subscribe(), post.desk.subscribe("piet@voorbeeld.nl", measuring="1")

    assert "checked" not in box
    assert "required" not in box
    assert "Niet nodig om de mails te krijgen. Zonder vinkje meten we niets." in page
    assert (post.desk.why_not(), post.desk.why_not("piet@voorbeeld.nl")) == (None, None)
    assert post.rows(subscriptions.c.list, subscriptions.c.state, subscriptions.c.measuring) == [
        ("nieuwsbrief", "active", False),
        ("nieuwsbrief", "active", True),
    ]
    assert "Meten van openen en klikken: nee." in without.text
    assert "Meten van openen en klikken: ja." in given.text


@pytest.mark.checklist("TRK-02")
def test_not_answering_is_a_refusal_and_nothing_asks_again_for_six_months(post: Post) -> None:
    welcome = post.desk.subscribe()
    given = post.desk.events()[-1]
    week = timedelta(days=7)
    later = []
    for _ in range(26):
        post.desk.clock.later(days=7)
        post.desk.kit.newsletter.purge(post.desk.clock(), unconfirmed=week, left=week, proof=week * 260)
        later += post.desk.mails()
    page = post.desk.link("voorkeuren", welcome)

    assert given["purposes"] == {"list.nieuwsbrief": True, "measuring.nieuwsbrief": False}
    assert later == [], "somebody who did not answer was written to about it"
    assert post.rows(subscriptions.c.measuring) == [(False,)]
    assert post.desk.events()[-1] == given
    assert "name=" not in welcome.html.replace('name="viewport"', "").replace('name="color-scheme"', "")
    assert post.desk.get(page).status_code == 410


@pytest.mark.checklist("TRK-02")
def test_the_preferences_have_the_switch_where_the_reader_left_it(post: Post) -> None:
    pages = [
        post.desk.get(post.desk.link("voorkeuren", post.desk.subscribe(address, **fields))).text
        for address, fields in ((JAN, {}), ("piet@voorbeeld.nl", {"measuring": "1"}))
    ]
    boxes = [page[page.index('name="measuring" value="nieuwsbrief"') :].partition(">")[0] for page in pages]

    assert ["checked" in box for box in boxes] == [False, True]


# -- who left by a mailing --------------------------------------------------------------------------------------------


def leave(post: Post, delivery: int, address: str = JAN, **fields: Any) -> int:
    path = urlsplit(post.desk.kit.unsubscribe_url(address, list="nieuwsbrief", delivery=delivery)).path
    return int(post.desk.post(path, **fields).status_code)


def test_who_leaves_by_a_mailing_is_counted_once_and_the_ledger_names_the_mailing(both: Post) -> None:
    both.desk.subscribe()
    other = both.new()
    delivery = both.send(measured=False, mailing=other)
    answers = [leave(both, delivery), leave(both, delivery), leave(both, delivery, action="all")]
    stranger = leave(both, 999, "nooit@voorbeeld.nl")

    assert [*answers, stranger] == [200] * 4
    assert both.rows(totals.c.mailing_id, *TOTAL) == [(other, "left", -1, "2026-03-02", 1, 1)]
    with both.desk.kit.store.read() as connection:
        named = connection.exec_driver_sql("SELECT mailing FROM afgemeld WHERE reason = 'unsubscribe'").scalars().all()
    assert sorted(named, key=str) == sorted([str(other), str(other), None], key=str)


def test_leaving_works_where_the_mailing_can_not_be_looked_up(post: Post, monkeypatch: pytest.MonkeyPatch) -> None:
    post.desk.subscribe()
    delivery = post.send()

    def away(*_: Any) -> None:
        raise DatabaseUnavailable("away")

    fetch = post.desk.kit.store.fetch

    def only_the_delivery_is_away(query: str, values: Any) -> Any:
        return away() if "FROM delivery" in query else fetch(query, values)

    monkeypatch.setattr(post.desk.kit.store, "fetch", only_the_delivery_is_away)

    assert leave(post, delivery) == 200
    assert post.desk.suppressed()
