"""A visitor comes who answered the consent tool that the site had before."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from http.cookies import SimpleCookie
from pathlib import Path
from typing import Any

import pytest
from httpx import Response

from consentkit.errors import EvidenceUnavailable
from tests.journeys.school import School, notice_of, school
from tests.journeys.test_choice import LIVE_GA, LIVE_VIDEO, events

SERVICES: dict[str, dict[str, Any]] = {name: {} for name in ("google-analytics", "meta-pixel", "youtube")}
HANDS_IN = "/static/consentkit-import."
SCRIPTED = {"Accept": "application/json"}


def old(*granted: str) -> str:
    flags = [f"{name}:{'true' if name in granted else 'false'}" for name in ("preferences", "statistics", "marketing")]
    return f"CookieConsent={{stamp:%27g2r==%27%2Cnecessary:true%2C{'%2C'.join(flags)}%2Cmethod:%27explicit%27}}"


REFUSED, PART, GRANTED = old(), old("statistics"), old("preferences", "statistics", "marketing")


@pytest.fixture
def site(tmp_path: Path) -> Iterator[School]:
    with school(tmp_path, services=SERVICES) as made:
        made.kit.store.check()  # a busy machine may take longer to make it than an answer waits
        yield made


@pytest.fixture
def taking_all(tmp_path: Path) -> Iterator[School]:
    with school(tmp_path, services=SERVICES, old_choices="all") as made:
        yield made


def send(site: School, path: str = "/", cookies: str = "", method: str = "GET", **headers: str) -> Response:
    """One request by a visitor of whom these are all the cookies."""
    with site.another() as browser:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return browser.request(method, path, headers={"Cookie": cookies, **named}, follow_redirects=False)


def kept(answer: Response) -> dict[str, str]:
    """The cookies that an answer sets beside the app's own, by name; empty ones were ended."""
    found: dict[str, str] = {}
    for header in answer.headers.get_list("set-cookie"):
        found |= {
            name: one.value for name, one in SimpleCookie(header).items() if not name.startswith(("session", "_ga"))
        }
    return found


def switches(page: str) -> list[str]:
    return re.findall(r'role="?switch"? name="?purposes"? value="?([a-z-]+)', page)


@pytest.mark.parametrize("choices", ["refusals", "all"])
def test_who_refused_everything_there_is_not_asked_here(tmp_path: Path, choices: str) -> None:
    with school(tmp_path, services=SERVICES, old_choices=choices) as site:
        first = send(site, cookies=REFUSED)
        mine = kept(first)["consentkit"]
        second = send(site, cookies=f"{GRANTED}; consentkit={mine}")

        assert 'id="consentkit"' not in first.text + second.text
        assert LIVE_GA not in first.text + second.text
        assert kept(second) == {}
        assert site.kit.sites[0].choices.read(mine).record_id is None
        assert send(site, cookies=REFUSED).headers.get_list("set-cookie") == first.headers.get_list("set-cookie")
        assert events(site) == []


def test_who_refused_a_part_there_is_asked_the_rest_alone_and_that_is_what_accepting_accepts(site: School) -> None:
    page = send(site, cookies=PART)
    cookies = f"{PART}; consentkit={kept(page)['consentkit']}"
    again = send(site, cookies=cookies)
    fields = {"decision": "accept", "from": "banner", "notice": notice_of(again.text), "next": "/"}
    with site.another() as browser:
        answer = browser.post("/privacy/choice", data=fields, headers={"Cookie": cookies} | SCRIPTED)

    assert switches(page.text) == switches(again.text) == ["analytics"]
    assert answer.json()["granted"] == ["analytics"]
    assert answer.json()["decided"] is True
    assert [json.loads(purposes) for _, _, purposes in events(site)] == [
        {"analytics": True, "marketing": False, "youtube": False}
    ]


def test_a_grant_there_is_simply_asked_here(site: School) -> None:
    page = send(site, cookies=GRANTED)

    assert switches(page.text) == ["analytics", "marketing", "youtube"]
    assert LIVE_GA not in page.text
    assert HANDS_IN not in page.text
    assert kept(page) == {}


def test_a_grant_there_opens_nothing_until_it_is_recorded_as_imported(taking_all: School) -> None:
    page = send(taking_all, cookies=GRANTED)
    before = events(taking_all)
    answer = send(taking_all, "/privacy/import", GRANTED, "POST", **SCRIPTED)
    mine = kept(answer)["consentkit"]
    later = send(taking_all, cookies=f"consentkit={mine}")

    assert 'id="consentkit"' not in page.text
    assert LIVE_GA not in page.text
    assert HANDS_IN in page.text
    assert 'data-consentkit="withdraw" hidden' in page.text
    assert (before, kept(page)) == ([], {})
    assert answer.json()["granted"] == ["analytics", "marketing", "youtube"]
    assert [(state, method, json.loads(purposes)) for state, method, purposes in events(taking_all)] == [
        ("given", "import.cookiebot", {"analytics": True, "marketing": True, "youtube": True})
    ]
    assert kept(answer)["CookieConsent"] == ""
    assert LIVE_GA in later.text
    assert LIVE_VIDEO in later.text
    assert HANDS_IN not in later.text


def test_the_evidence_of_an_import_says_that_no_text_is_known(taking_all: School) -> None:
    answer = send(taking_all, "/privacy/import", GRANTED, "POST", accept_language="en", **SCRIPTED)
    receipt = send(taking_all, "/privacy/receipt", f"consentkit={kept(answer)['consentkit']}").json()

    (notice,) = receipt["notices"].values()
    assert notice["texts"] == ["Imported from cookiebot, no text known"]
    assert (notice["kind"], notice["tool"]) == ("imported", "cookiebot")
    shown = taking_all.kit.sites[0].renderer.show_notice(notice).decode()
    assert "The text that was shown then is not known." in shown
    assert "Imported from cookiebot, no text known" in shown


def test_what_can_t_be_recorded_is_not_granted(taking_all: School, monkeypatch: pytest.MonkeyPatch) -> None:
    async def away(*_: Any) -> None:
        raise EvidenceUnavailable

    monkeypatch.setattr(taking_all.kit.evidence, "record", away)

    answer = send(taking_all, "/privacy/import", GRANTED, "POST", **SCRIPTED)

    assert (answer.status_code, kept(answer)) == (503, {})


@pytest.mark.checklist("GAT-14")
@pytest.mark.parametrize("signal", ["Sec-GPC", "DNT"])
def test_the_browser_s_signal_beats_an_imported_grant(taking_all: School, signal: str) -> None:
    page = send(taking_all, "/", GRANTED, **{signal: "1"})
    answer = send(taking_all, "/privacy/import", GRANTED, "POST", **SCRIPTED, **{signal: "1"})

    assert 'id="consentkit"' not in page.text
    assert HANDS_IN not in page.text
    assert (answer.status_code, kept(answer), events(taking_all)) == (409, {}, [])


@pytest.mark.parametrize(
    ("cookies", "headers", "status"),
    [
        (GRANTED, {"Sec-Fetch-Site": "cross-site"}, 403),
        (GRANTED, {"Origin": "https://evil.example"}, 403),
        ("", {}, 409),
        ("CookieConsent=-1", {}, 409),
    ],
)
def test_nothing_is_imported_for_another_site_or_without_an_old_choice(
    taking_all: School, cookies: str, headers: dict[str, str], status: int
) -> None:
    answer = send(taking_all, "/privacy/import", cookies, "POST", **SCRIPTED, **headers)

    assert (answer.status_code, kept(answer), events(taking_all)) == (status, {}, [])


def test_an_answer_given_here_ends_the_old_grant_for_good(taking_all: School) -> None:
    with taking_all.another() as browser:
        token = notice_of(browser.get("/privacy/settings", headers={"Cookie": GRANTED}).text)
        fields = {"decision": "refuse", "from": "settings", "notice": token}
        answer = browser.post("/privacy/choice", data=fields, headers={"Cookie": GRANTED}, follow_redirects=False)

    assert kept(answer)["CookieConsent"] == ""
    assert kept(answer)["consentkit"] != ""


def test_what_is_no_page_of_its_own_keeps_no_old_choice_but_honours_it(site: School) -> None:
    data, part = send(site, "/wie", GRANTED), send(site, "/", REFUSED, Sec_Fetch_Dest="empty")

    assert data.json() == {"analytics": False, "youtube": False}
    assert LIVE_GA not in part.text
    assert (kept(data), kept(part)) == ({}, {})


@pytest.mark.parametrize("choices", ["refusals", "all"])
def test_where_everybody_gets_the_same_page_the_routes_take_an_old_choice_over(tmp_path: Path, choices: str) -> None:
    with school(tmp_path, services=SERVICES, old_choices=choices, html="shared") as site:
        strangers, visitors = send(site), send(site, cookies=REFUSED)
        opened = send(site, "/privacy/settings", REFUSED)
        handed_in = send(site, "/privacy/import", PART, "POST", **SCRIPTED)

        assert strangers.text == visitors.text
        assert HANDS_IN in visitors.text
        assert kept(visitors) == {}
        assert kept(opened).keys() == kept(handed_in).keys() - {"CookieConsent"} == {"consentkit"}
        assert handed_in.json()["granted"] == (["analytics"] if choices == "all" else [])
        assert handed_in.json()["decided"] is (choices == "all")


def test_a_click_on_a_video_leaves_what_was_refused_elsewhere_refused(tmp_path: Path) -> None:
    with school(tmp_path, services=SERVICES, html="shared") as site, site.another() as browser:
        token = browser.get("/privacy/notice", headers={"Cookie": PART}).json()["notice"]
        fields = {"decision": "allow", "purposes": "youtube", "from": "embed", "notice": token}
        answer = browser.post("/privacy/choice", data=fields, headers={"Cookie": PART} | SCRIPTED)

        choice = site.kit.sites[0].choices.read(kept(answer)["consentkit"])
        named = {one.fingerprint: one.id for one in site.kit.sites[0].policy.purposes}
        assert {named[one]: granted for one, granted in choice.answered.items()} == {
            "marketing": False,
            "youtube": True,
        }


def test_where_the_site_says_so_old_choices_are_not_looked_at(tmp_path: Path) -> None:
    with school(tmp_path, services=SERVICES, old_choices="ignore") as site:
        page = send(site, cookies=REFUSED)

        assert switches(page.text) == ["analytics", "marketing", "youtube"]
        assert kept(page) == {}
        assert send(site, "/privacy/import", GRANTED, "POST", **SCRIPTED).status_code == 409
