"""One load of one embed: what is recorded, what the page may be kept by, and what opens nothing."""

from __future__ import annotations

import html
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.responses import HTMLResponse
from starlette.routing import Route
from starlette.testclient import TestClient

from consentkit.choice.once import MOST_SPENT, Once
from consentkit.errors import EvidenceUnavailable
from consentkit.tokens import Tokens, Use
from tests.journeys.school import KEY, School, app, notice_of, school

LIVE_VIDEO = '<iframe width="560" height="315" src="https://www.youtube.com/embed/abc"'
LIVE_GA = '<script async src="https://www.googletagmanager.com/gtag/js?id=G-DELINDE"></script>'
COOKIE = "consentkit-once"


@pytest.fixture
def site(tmp_path: Path) -> Iterator[School]:
    with school(tmp_path) as made:
        made.kit.store.check()  # a busy machine may take longer to make it than an answer waits
        yield made


def ask(site: School, path: str = "/", *, browser: TestClient | None = None, **fields: str) -> Any:
    """Click "load once" on the placeholder of a page that is shown now; the redirect is not followed."""
    browser = browser or site.browser
    inside = html.unescape(browser.get(path).text.partition('srcdoc="')[2].partition('"')[0])
    form = {name: html.unescape(value) for name, value in re.findall(r'name="(\w+)" value="([^"]*)"', inside)}
    return browser.post("/privacy/choice", data=form | {"decision": "once"} | fields, follow_redirects=False)


def issued(answer: Any) -> str:
    """The value of the cookie that lets something in once."""
    (header,) = [one for one in answer.headers.get_list("set-cookie") if one.startswith(f"{COOKIE}=")]
    return str(header.partition("=")[2].partition(";")[0])


@pytest.mark.checklist("GAT-07", "EVI-01")
def test_one_load_is_a_consent_of_its_own_that_ends_within_the_minute(site: School) -> None:
    site.choose("save", "analytics")
    choice = site.browser.cookies["consentkit"]

    answer = ask(site, "/ouders/brief?a=1&b=2")

    assert (answer.status_code, answer.headers["location"]) == (303, "/ouders/brief?a=1&b=2")
    assert answer.headers["cache-control"] == "no-store"
    assert re.fullmatch(COOKIE + r"=[\w.-]+; Path=/; Max-Age=60; SameSite=Lax; HttpOnly", answer.headers["set-cookie"])
    before, event = list(site.kit.evidence.export())
    assert event["state"] == "given"
    assert event["method"] == "embed.once"
    assert event["purposes"] == {"youtube": True}
    assert event["valid_until"].startswith("2026-03-02T09:31:00")
    assert event["record_id"] != before["record_id"]
    assert event["notice_hash"] == before["notice_hash"]
    assert site.browser.cookies["consentkit"] == choice
    assert site.kit.evidence.verify().ok


@pytest.mark.checklist("GAT-07", "GAT-15")
@pytest.mark.parametrize("decided", [False, True], ids=["undecided", "refused"])
def test_the_page_has_it_for_one_load_kept_by_nobody_and_nothing_else_changes(site: School, decided: bool) -> None:
    if decided:
        site.choose("refuse")
    before = site.browser.get("/")
    ask(site)

    page = site.browser.get("/", headers={"If-None-Match": '"x"'})
    after = site.browser.get("/")

    assert LIVE_VIDEO in page.text
    assert LIVE_GA not in page.text
    assert ('id="consentkit"' in page.text) is not decided
    assert page.headers["cache-control"] == "private, no-store"
    assert page.headers["vary"] == "Cookie"
    assert "etag" not in page.headers
    assert f"{COOKIE}=; Path=/; Max-Age=0; SameSite=Lax; HttpOnly" in page.headers.get_list("set-cookie")
    assert COOKIE not in site.browser.cookies
    assert LIVE_VIDEO not in after.text
    assert after.headers["cache-control"] == before.headers["cache-control"]
    assert [name for name in after.headers.get_list("set-cookie") if COOKIE in name] == []
    assert site.browser.get("/wie").json() == {"analytics": False, "youtube": False}


@pytest.mark.checklist("GAT-16")
def test_what_is_forged_copied_late_spent_or_meant_for_something_else_opens_nothing(site: School) -> None:
    other = site.another()
    site.choose("refuse", browser=other)
    value = issued(ask(site, "/ouders/brief"))

    def load(
        given: str,
        path: str = "/ouders/brief",
        *,
        browser: TestClient | None = None,
        headers: dict[str, str] | None = None,
    ) -> bool:
        browser = browser or site.another()
        browser.cookies.set(COOKIE, given)
        return LIVE_VIDEO in browser.get(path, headers=headers).text

    foreign = Tokens([b"x" * 32]).sign(Use.ONCE, Tokens([KEY.encode()]).read(Use.ONCE, value))
    notice = site.token()
    for forged in (foreign, notice, value[:-1] + ("A" if value[-1] != "A" else "B"), value + "x", "", "."):
        assert not load(forged), forged
    assert not load(value, "/")
    assert not load(value, "/ouders/brief?a=1")
    assert not load(value, browser=other), "copied to a visitor with another choice"
    assert not load(value, headers={"Sec-Fetch-Dest": "iframe"})
    assert not load(value, headers={"Sec-Fetch-Dest": "empty"})
    assert not load(value, headers={"Sec-Purpose": "prefetch"})
    assert load(value)
    assert not load(value), "spent"
    late = issued(ask(site))
    site.clock.later(seconds=62)
    assert not load(late, "/")


def test_what_was_spent_is_remembered_within_bounds(site: School) -> None:
    flow = site.kit.sites[0].flow
    once: Once = flow.choices.once
    (video,) = [purpose for purpose in flow.policy.asked if purpose.embed]
    now = site.clock.now

    values = [
        once.issue(video, page="/", choice=None, now=now, random=number.to_bytes(16, "big"))
        for number in range(MOST_SPENT + 1)
    ]

    assert all(once.spend(value, page="/", choice=None, now=now) == {"youtube"} for value in values)
    assert once.spend(values[-1], page="/", choice=None, now=now) == frozenset()
    assert len(once._spent) == MOST_SPENT


@pytest.mark.checklist("EVI-08", "SEC-03")
@pytest.mark.parametrize(
    ("fields", "headers", "status"),
    [
        ({"notice": ""}, {}, 400),
        ({"notice": "AAAA.BBBB"}, {}, 400),
        ({"purposes": "analytics"}, {}, 422),
        ({"purposes": "youtube analytics"}, {}, 422),
        ({"purposes": "marketing"}, {}, 422),
        ({"purposes": ""}, {}, 422),
        ({"next": "//evil.example/"}, {}, 400),
        ({}, {"Sec-Fetch-Site": "cross-site"}, 403),
    ],
)
def test_what_is_no_answer_to_one_placeholder_is_refused_and_records_nothing(
    site: School, fields: dict[str, str], headers: dict[str, str], status: int
) -> None:
    browser = site.another(**headers)

    answer = ask(site, browser=browser, **fields)

    assert answer.status_code == status
    assert "set-cookie" not in answer.headers
    assert list(site.kit.evidence.export()) == []


def test_one_question_lets_in_once(site: School) -> None:
    notice = notice_of(site.browser.get("/privacy/settings").text)

    statuses = [ask(site, notice=notice, purposes="youtube").status_code for _ in range(2)]

    assert statuses == [303, 409]
    assert len(list(site.kit.evidence.export())) == 1


def test_nothing_is_let_in_that_can_not_be_recorded(site: School, monkeypatch: pytest.MonkeyPatch) -> None:
    async def down(*_: Any) -> None:
        raise EvidenceUnavailable("down")

    monkeypatch.setattr(site.kit.evidence, "record", down)

    answer = ask(site)

    assert answer.status_code == 503
    assert "set-cookie" not in answer.headers


def test_where_everybody_gets_the_same_page_only_a_script_lets_in_once(tmp_path: Path) -> None:
    with school(tmp_path, html="shared") as site:
        page = site.browser.get("/")
        inside = html.unescape(page.text.partition('srcdoc="')[2].partition('"')[0])
        fields = {"decision": "once", "purposes": "youtube", "next": "/"}

        def post(**headers: str) -> Any:
            token = site.browser.get("/privacy/notice").json()["notice"]
            data = fields | {"notice": token}
            return site.browser.post("/privacy/choice", data=data, headers=headers, follow_redirects=False)

        assert re.search(r'<form hidden method="post"[^>]*>(?!.*name="notice")', inside)
        assert 'href="/privacy/settings?lang=nl#purpose-youtube"' in inside
        assert post().status_code == 422
        answer = post(Accept="application/json")

        assert answer.json() == {"once": True, "granted": ["youtube"]}
        assert "set-cookie" not in answer.headers
        assert site.browser.get("/").text == page.text
        assert [event["method"] for event in site.kit.evidence.export()] == ["embed.once"]


@pytest.mark.parametrize(
    ("url", "wanted"),
    [
        ("https://school.example", "__Host-consentkit-once={}; Path=/; Max-Age=60; SameSite=Lax; HttpOnly; Secure"),
        ("http://127.0.0.1:8000", "consentkit-once={}; Path=/; Max-Age=60; SameSite=Lax; HttpOnly"),
    ],
)
def test_the_cookie_is_bound_to_one_host_and_told_in_the_statement(tmp_path: Path, url: str, wanted: str) -> None:
    with school(tmp_path, base_url="https://school.example", cookie_domain="school.example") as site:
        browser = TestClient(site.kit.wrap(app()), base_url=url, headers={"Accept": "text/html"})

        header = ask(site, browser=browser).headers["set-cookie"]

        assert re.fullmatch(re.escape(wanted).replace(r"\{\}", r"[\w.-]+"), header)
        assert "__Host-consentkit-once" in browser.get("/privacy/cookies").text


@pytest.mark.parametrize(
    ("frame", "title", "says", "buttons"),
    [
        ("src=https://www.youtube.com/embed/x", "YouTube is nog niet geladen", "value=once value=allow", 2),
        ("src=https://www.youtube.com/embed/x data-consent=analytics", "YouTube is nog niet geladen", "Hiervoor is", 0),
        ("src=https://kaart.example/x data-consent=analytics", "Niet geladen", "Hiervoor is je toestemming nodig", 0),
        ("src=https://www.google-analytics.com/x", "Google Analytics is nog niet geladen", "Hiervoor is", 0),
        ("src=https://player.vimeo.com/video/1", "Niet geladen", "omdat Basisschool De Linde hem niet heeft", 0),
        ("src=https://kaart.example/x", "Niet geladen", "omdat Basisschool De Linde hem niet heeft aangemeld", 0),
    ],
    ids=["a provider", "more is needed", "of nobody known", "a whole category", "not named", "unknown and strict"],
)
def test_only_what_one_click_can_rightly_grant_has_a_button(
    tmp_path: Path, frame: str, title: str, says: str, buttons: int
) -> None:
    async def page(_: Any) -> HTMLResponse:
        return HTMLResponse(f"<!doctype html><html lang=nl><title>x</title><iframe {frame}></iframe>")

    with school(tmp_path, strict=True) as site:
        wrapped = site.kit.wrap(Starlette(routes=[Route("/", page)]))
        shown = TestClient(wrapped, base_url="http://school.test").get("/", headers={"Accept": "text/html"}).text

    inside = html.unescape(shown.partition('srcdoc="')[2].partition('"')[0])
    assert f"<h1>{title}</h1>" in inside
    assert inside.count("<button") == buttons
    assert all(word in inside.replace('"', "") for word in ([says] if not buttons else says.split()))
    assert ("/privacy/settings?lang=nl" in inside) is (buttons > 0 or says.startswith("Hiervoor"))


def test_each_element_that_a_held_back_script_would_fill_gets_one_placeholder_and_its_form_is_not_the_hosts(
    tmp_path: Path,
) -> None:
    body = (
        '<!doctype html><html lang="en"><title>x</title><body><form action="/contact"><p>'
        '<span class="a g-recaptcha b"></span></p><div class="g-recaptcha"></div><div class="g-recaptcha-x"></div>'
        '<div class="h-captcha"></div></form><script src="https://www.google.com/recaptcha/api.js"></script>'
    )

    async def page(_: Any) -> HTMLResponse:
        return HTMLResponse(body)

    with school(tmp_path, services={"google-recaptcha": {}}) as site:
        wrapped = site.kit.wrap(Starlette(routes=[Route("/", page)]))
        browser = TestClient(wrapped, base_url="http://school.test", headers={"Accept": "text/html"})
        shown = browser.get("/").text
        site.choose("allow", "google-recaptcha", browser=browser)
        granted = browser.get("/").text

    place = '<iframe class="consentkit-place" data-consentkit-place="google-recaptcha" title="Google reCAPTCHA has not'
    assert shown.count(place) == shown.count("consentkit-place") // 2 == 2
    assert "you can&amp;#39;t send this form" in shown
    assert "consentkit-place" not in granted
