"""A visitor is asked, answers, changes their mind; with forms alone."""

from __future__ import annotations

import html
import json
import re
import sqlite3
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from tests.journeys.school import School, app, notice_of, school

LIVE_GA = '<script async src="https://www.googletagmanager.com/gtag/js?id=G-DELINDE"></script>'
LIVE_CONFIG = "<script>\n  window.dataLayer"
LIVE_VIDEO = '<iframe width="560" height="315" src="https://www.youtube.com/embed/abc"'


@pytest.fixture
def site(tmp_path: Path) -> Iterator[School]:
    with school(tmp_path) as made:
        made.kit.store.check()  # a busy machine may take longer to make it than an answer waits
        yield made


def rows(site: School, sql: str) -> list[Any]:
    """What another program reads from the database."""
    path = site.kit.settings.database_url.removeprefix("sqlite:///")
    if not Path(path).exists():
        return []
    with sqlite3.connect(path) as connection:
        return connection.execute(sql).fetchall()


def events(site: School) -> list[Any]:
    return rows(site, "select state, method, purposes from consent_event order by seq")


def counted(site: School) -> list[Any]:
    return rows(site, "select decision, total from consent_count")


@pytest.mark.checklist("GAT-06")
def test_before_a_choice_the_page_carries_nothing_of_a_vendor_that_runs(site: School) -> None:
    page = site.browser.get("/").text

    assert LIVE_GA not in page
    assert LIVE_CONFIG not in page
    assert LIVE_VIDEO not in page
    assert page.count('id="consentkit"') == 1
    assert "Stichting De Linde" in page


@pytest.mark.checklist("GAT-03")
def test_granting_one_purpose_releases_that_purpose_alone(site: School) -> None:
    answer = site.choose("save", "analytics", next="/ouders/brief")

    assert (answer.status_code, answer.headers["location"]) == (303, "/ouders/brief")
    page = site.browser.get("/").text
    assert LIVE_GA in page
    assert LIVE_CONFIG in page
    assert LIVE_VIDEO not in page
    assert 'id="consentkit"' not in page
    assert site.browser.get("/wie").json() == {"analytics": True, "youtube": False}


@pytest.mark.checklist("GAT-02")
def test_after_a_refusal_nothing_is_asked_and_nothing_runs(site: School) -> None:
    assert site.choose("refuse").status_code == 303

    for _ in range(10):
        page = site.browser.get("/").text
        assert LIVE_GA not in page
        assert LIVE_VIDEO not in page
        assert 'id="consentkit"' not in page
    assert events(site) == []
    assert counted(site) == [("form.refuse", 1)]


@pytest.mark.checklist("EVI-01")
def test_a_grant_is_recorded_with_everything_that_proves_it(site: School) -> None:
    site.choose("accept", **{"from": "banner"})

    (event,) = list(site.kit.evidence.export())

    notice = site.kit.evidence.notice(event["notice_hash"])
    assert notice is not None
    assert event["state"] == "given"
    assert event["at"].startswith("2026-03-02T09:30:00")
    assert event["purposes"] == {"analytics": True, "youtube": True}
    assert event["method"] == "banner.accept"
    assert event["language"] == "nl"
    assert event["site"] == "Basisschool De Linde"
    assert event["controller"] == "Stichting De Linde"
    assert event["valid_until"].startswith("2026-08-31")
    assert len(event["record_id"]) == 32
    assert event["ui_build"] == site.kit.sites[0].renderer.ui_build
    assert json.loads(notice.body)["language"] == "nl"


@pytest.mark.checklist("EVI-01")
def test_each_change_of_mind_is_an_event_of_the_same_record(site: School) -> None:
    site.choose("accept")
    site.choose("save", "analytics")
    site.choose("withdraw")

    states = [(event["state"], event["purposes"]["youtube"]) for event in site.kit.evidence.export()]

    assert states == [("given", True), ("renewed", False), ("withdrawn", False)]
    assert len({event["record_id"] for event in site.kit.evidence.export()}) == 1
    assert site.kit.evidence.verify().ok


@pytest.mark.checklist("EVI-04", "STO-05")
def test_nothing_that_tells_a_visitor_apart_is_kept(site: School) -> None:
    agent = "Mozilla/5.0 (X11; Linux x86_64) Distinctive/123.4"
    for number in range(60):
        visitor = site.another(**{"User-Agent": agent, "X-Forwarded-For": f"203.0.113.{number}"})
        site.choose("accept" if number % 2 else "refuse", browser=visitor)
    site.kit.close()

    files = [path for path in site.kit.settings.folder.rglob("*") if path.is_file()]
    stored = b"".join(path.read_bytes() for path in files)

    assert files
    assert len(events(site)) == 30
    assert counted(site) == [("form.refuse", 30)]
    for trace in (b"Distinctive", b"Mozilla", b"203.0.113", b"testclient", b"127.0.0.1"):
        assert trace not in stored


@pytest.mark.checklist("WDR-03", "WDR-06")
def test_withdrawing_ends_the_cookies_and_leaves_the_pages_as_they_were(site: School) -> None:
    before = site.browser.get("/")
    site.choose("accept")
    for name in ("_ga", "_ga_DELINDE"):
        site.browser.cookies.set(name, "GA1.1.1", domain="school.test", path="/")

    answer = site.choose("withdraw", notice="", next="/ouders/brief")
    after = site.browser.get("/")

    assert answer.status_code == 303
    ended = [header for header in answer.headers.get_list("set-cookie") if "Max-Age=0" in header]
    for name in ("_ga", "_ga_DELINDE"):
        assert any(header.startswith(f"{name}=;") and "Domain=school.test" in header for header in ended)
        assert any(header.startswith(f"{name}=;") and "Path=/ouders" in header for header in ended)
    assert "_ga" not in site.browser.cookies
    assert after.status_code == before.status_code
    assert LIVE_GA not in after.text
    assert "<h1>Basisschool De Linde</h1>" in after.text


@pytest.mark.checklist("WDR-02")
def test_withdrawing_takes_one_form_on_any_page_and_no_notice(site: School) -> None:
    site.choose("accept")

    page = site.browser.get("/ouders/brief").text

    assert 'value="withdraw"' in page or "value=withdraw" in page
    assert site.browser.post("/privacy/choice", data={"decision": "withdraw", "next": "/"}).status_code == 200
    assert site.browser.get("/wie").json() == {"analytics": False, "youtube": False}


@pytest.mark.checklist("WDR-07")
def test_the_settings_show_what_holds_since_when_and_until_when(site: School) -> None:
    site.choose("save", "analytics")

    page = site.browser.get("/privacy/settings").text

    assert "2 maart 2026" in page
    assert "31 augustus 2026" in page
    assert page.count(" checked") == 1


@pytest.mark.checklist("EVI-08", "SEC-03")
@pytest.mark.parametrize(
    ("fields", "headers", "status"),
    [
        ({"decision": "accept", "notice": ""}, {}, 400),
        ({"decision": "save", "purposes": "analytics", "notice": ""}, {}, 400),
        ({"decision": "refuse", "notice": ""}, {}, 400),
        ({"decision": "accept", "notice": "AAAA.BBBB"}, {}, 400),
        ({"decision": "accept"}, {"Sec-Fetch-Site": "cross-site"}, 403),
        ({"decision": "accept"}, {"Sec-Fetch-Site": "same-site"}, 403),
        ({"decision": "accept"}, {"Origin": "https://evil.example"}, 403),
        ({"decision": "withdraw"}, {"Sec-Fetch-Site": "cross-site"}, 403),
        ({"decision": "accept", "next": "https://evil.example/"}, {}, 400),
        ({"decision": "accept", "next": "//evil.example/"}, {}, 400),
        ({"decision": "accept", "next": "/\\evil.example"}, {}, 400),
        ({"decision": "accept", "next": "/a\r\nSet-Cookie: x=y"}, {}, 400),
        ({"decision": "save", "purposes": "advertising"}, {}, 422),
        ({"decision": "save", "purposes": "google-analytics"}, {}, 422),
        ({"decision": "yes"}, {}, 422),
        ({"decision": "accept"}, {"Origin": "http://[::1"}, 403),
        ({"decision": "accept"}, {"Origin": "null"}, 403),
        ({"decision": "accept", **{f"f{number}": "" for number in range(300)}}, {}, 413),
        ({}, {}, 422),
        ({"decision": "accept", "filler": "x" * 10_000_000}, {}, 413),
    ],
)
def test_what_is_no_answer_to_a_question_is_refused_and_recorded_nowhere(
    site: School, fields: dict[str, str], headers: dict[str, str], status: int
) -> None:
    data = {"notice": site.token(), "next": "/", **fields}

    answer = site.browser.post("/privacy/choice", data=data, headers=headers, follow_redirects=False)

    assert answer.status_code == status
    assert "<h1" in answer.text
    assert "set-cookie" not in answer.headers
    assert events(site) == []
    assert counted(site) == []


@pytest.mark.checklist("SEC-03")
def test_other_methods_and_other_bodies_change_nothing(site: School) -> None:
    for method in ("GET", "HEAD", "PUT", "DELETE", "OPTIONS"):
        assert site.browser.request(method, "/privacy/choice").status_code == 405
    body = json.dumps({"decision": "accept", "notice": site.token()})
    answer = site.browser.post("/privacy/choice", content=body, headers={"Content-Type": "application/json"})

    assert answer.status_code == 415
    assert events(site) == []


@pytest.mark.checklist("EVI-08")
def test_one_question_gives_one_record(site: School) -> None:
    token = site.token()

    first = site.choose("accept", notice=token, browser=site.another())
    again = site.choose("accept", notice=token, browser=site.another())

    assert (first.status_code, again.status_code) == (303, 409)
    assert "set-cookie" not in again.headers
    assert len(events(site)) == 1


@pytest.mark.checklist("EVI-08")
def test_a_refusal_can_not_be_replayed_either(site: School) -> None:
    token = site.token()

    assert [site.choose("refuse", notice=token).status_code for _ in range(3)] == [303, 409, 409]
    assert counted(site) == [("form.refuse", 1)]


@pytest.mark.checklist("EVI-08")
def test_of_many_answers_at_once_to_one_question_one_is_taken(site: School) -> None:
    token = site.token()

    with ThreadPoolExecutor(8) as pool:
        visitors = [site.another() for _ in range(8)]
        found = list(pool.map(lambda v: site.choose("accept", notice=token, browser=v).status_code, visitors))

    assert sorted(found) == [303] + [409] * 7
    assert len(events(site)) == 1


def test_a_question_can_be_answered_for_a_week(site: School) -> None:
    token = site.token()
    site.clock.later(days=6)
    assert site.choose("accept", notice=token).status_code == 303

    old = site.token(site.another())
    site.clock.later(days=8)
    assert site.choose("accept", notice=old, browser=site.another()).status_code == 410


@pytest.mark.checklist("EVI-08")
def test_a_notice_that_was_changed_meanwhile_is_asked_again(site: School, tmp_path: Path) -> None:
    token = site.token()
    with school(tmp_path / "later", services={"google-analytics": {}}) as changed:
        answer = changed.choose("accept", notice=token)

    assert answer.status_code == 409


def test_the_script_gets_json(site: School) -> None:
    headers = {"Accept": "application/json"}
    data = {"decision": "accept", "notice": site.token(), "next": "/"}

    answer = site.browser.post("/privacy/choice", data=data, headers=headers)
    spent = site.browser.post("/privacy/choice", data=data, headers=headers)

    assert answer.json() == {
        "granted": ["analytics", "youtube"],
        "decided": True,
        "withdrawn": [],
        "clear": {"local": [], "session": [], "indexeddb": []},
        "reload": False,
        "receipt": answer.json()["receipt"],
    }
    assert (spent.status_code, spent.json()["error"]) == (409, "spent")


def test_a_multipart_form_is_read_like_any_other(site: School) -> None:
    files = {name: (None, value) for name, value in (("decision", "accept"), ("notice", site.token()), ("next", "/"))}

    assert site.browser.post("/privacy/choice", files=files, follow_redirects=False).status_code == 303


@pytest.mark.checklist("EVI-06")
def test_the_receipt_is_the_visitors_own_record(site: School) -> None:
    assert site.browser.get("/privacy/receipt").json()["events"] == []
    site.choose("accept")

    receipt = site.browser.get("/privacy/receipt").json()

    assert [event["state"] for event in receipt["events"]] == ["given"]
    assert receipt["receipt"] == receipt["events"][0]["record_id"]
    assert receipt["notices"][receipt["events"][0]["notice_hash"]]["language"] == "nl"
    assert site.another().get("/privacy/receipt").json()["events"] == []


@pytest.mark.checklist("WDR-01")
@pytest.mark.parametrize(("path", "status"), [("/", 200), ("/bestaat-niet", 404), ("/stuk", 500)])
def test_every_page_has_the_way_back_to_the_choice(site: School, path: str, status: int) -> None:
    answer = site.browser.get(path)

    assert answer.status_code == status
    assert 'data-consentkit="settings"' in answer.text
    assert "Cookie-instellingen" in answer.text
    assert site.browser.get("/privacy/settings").status_code == 200


@pytest.mark.checklist("GAT-16")
@pytest.mark.parametrize("value", ["", "forged", "AAAA.BBBB", "x" * 4000, "%00", '"'])
def test_a_cookie_that_is_not_ours_is_no_choice_and_the_page_is_served(site: School, value: str) -> None:
    answer = site.browser.get("/", headers={"Cookie": f"consentkit={value}"})

    assert answer.status_code == 200
    assert LIVE_GA not in answer.text
    assert 'id="consentkit"' in answer.text


@pytest.mark.checklist("GAT-16")
def test_with_the_database_away_the_choice_holds_and_the_event_waits(tmp_path: Path) -> None:
    (tmp_path / "nowhere").write_text("a file where a folder should be", encoding="utf-8")
    with school(tmp_path, database={"url": f"sqlite:///{tmp_path}/nowhere/x.db"}) as site:
        assert site.choose("accept").status_code == 303
        assert LIVE_GA in site.browser.get("/").text
        assert site.kit.evidence.journal_waiting
        assert site.browser.get("/privacy/health").status_code == 503

        (tmp_path / "nowhere").unlink()
        (tmp_path / "nowhere").mkdir()
        site.kit.evidence.replay()
        assert [event["state"] for event in site.kit.evidence.export()] == ["given"]


@pytest.mark.checklist("GAT-16")
def test_with_nowhere_to_keep_it_a_grant_is_not_taken_but_a_refusal_holds(tmp_path: Path) -> None:
    (tmp_path / "nowhere").write_text("", encoding="utf-8")
    (tmp_path / "consentkit-journal").write_text("a file where the folder should be", encoding="utf-8")
    with school(tmp_path, database={"url": f"sqlite:///{tmp_path}/nowhere/x.db"}) as site:
        answer = site.choose("accept")
        assert (answer.status_code, "set-cookie" in answer.headers) == (503, False)
        assert LIVE_GA not in site.browser.get("/").text

        assert site.choose("refuse").status_code == 303
        assert 'id="consentkit"' not in site.browser.get("/").text


@pytest.mark.checklist("GAT-14")
def test_the_browsers_signal_refuses_until_the_visitor_says_otherwise(site: School) -> None:
    browser = site.another(**{"Sec-GPC": "1"})
    assert 'id="consentkit"' not in browser.get("/").text

    site.choose("accept", browser=browser)

    assert LIVE_GA in browser.get("/").text


@pytest.mark.checklist("GAT-14")
def test_gpc_json_is_published_unless_the_owner_says_no(site: School, tmp_path: Path) -> None:
    answer = site.browser.get("/.well-known/gpc.json")
    assert answer.json() == {"gpc": True, "lastUpdate": "2026-03-02"}
    assert answer.headers["content-type"] == "application/json"
    with school(tmp_path / "other", gpc=False) as other:
        assert other.browser.get("/.well-known/gpc.json").status_code == 404


@pytest.mark.checklist("GAT-05")
def test_a_vendors_cookie_set_by_the_app_waits_for_consent(site: School) -> None:
    assert [h.partition("=")[0] for h in site.browser.get("/").headers.get_list("set-cookie")] == ["sessionid"]
    site.choose("accept")

    names = [header.partition("=")[0] for header in site.browser.get("/").headers.get_list("set-cookie")]

    assert names == ["sessionid", "_ga_server"]


@pytest.mark.checklist("STO-03")
def test_a_new_vendor_brings_the_question_back_and_stays_gated(site: School, tmp_path: Path) -> None:
    site.choose("accept")
    cookies = dict(site.browser.cookies)
    wider = {"google-analytics": {}, "youtube": {}, "hotjar": {}}
    with school(tmp_path / "later", services=wider) as later:
        later.browser.cookies.update(cookies)
        page = later.browser.get("/").text

        assert 'id="consentkit"' in page
        assert LIVE_GA not in page
        assert LIVE_VIDEO in page
        assert "Bezoek" in later.browser.get("/privacy/settings").text


@pytest.mark.checklist("BAN-14")
def test_a_site_without_anything_to_ask_shows_no_banner_but_the_link(tmp_path: Path) -> None:
    with school(tmp_path, services={}) as site:
        page = site.browser.get("/").text

    assert 'id="consentkit"' not in page
    assert 'data-consentkit="settings"' in page
    assert LIVE_GA not in page


@pytest.mark.checklist("CST-01")
def test_the_statement_comes_from_the_registry_that_gates(site: School, tmp_path: Path) -> None:
    def named(which: School) -> set[str]:
        page = which.browser.get("/privacy/cookies").text
        return {name for name in ("_ga", "_hjSession", "VISITOR_INFO1_LIVE", "consentkit") if name in page}

    assert named(site) == {"_ga", "VISITOR_INFO1_LIVE", "consentkit"}
    with school(tmp_path / "other", services={"hotjar": {}}) as other:
        assert named(other) == {"_hjSession", "consentkit"}


@pytest.mark.checklist("BAN-12")
def test_the_page_speaks_the_visitors_language(site: School) -> None:
    dutch = site.browser.get("/privacy/settings", headers={"Accept-Language": "nl-NL,nl;q=0.9"}).text
    english = site.browser.get("/privacy/settings", headers={"Accept-Language": "en-GB,en;q=0.9"}).text

    assert '<html lang="nl"' in dutch
    assert '<html lang="en"' in english


def test_an_unknown_page_under_the_prefix_is_a_plain_page(site: School) -> None:
    answer = site.browser.get("/privacy/onzin")

    assert answer.status_code == 404
    assert answer.headers["cache-control"] == "no-store"
    assert "script-src 'self'" in answer.headers["content-security-policy"]


def test_the_assets_are_immutable_and_the_pages_are_not_stored(site: School) -> None:
    page = site.browser.get("/").text
    name = next(part.split('"')[0] for part in page.split("/privacy/static/")[1:])

    asset = site.browser.get(f"/privacy/static/{name}")

    assert asset.headers["cache-control"] == "public, max-age=31536000, immutable"
    assert site.browser.get("/privacy/static/other.js").status_code == 404
    for path in ("settings", "cookies", "receipt", "notice"):
        assert site.browser.get(f"/privacy/{path}").headers["cache-control"] == "no-store"


@pytest.mark.checklist("SEC-03")
def test_a_flood_of_choices_from_one_address_is_slowed_down(site: School) -> None:
    found = {site.browser.post("/privacy/choice", data={"decision": "x"}).status_code for _ in range(620)}

    assert found == {422, 429}


def test_the_shared_mode_page_is_the_same_for_everybody(tmp_path: Path) -> None:
    with school(tmp_path, html="shared") as site:
        stranger = site.browser.get("/")
        decided = site.another()
        token = decided.get("/privacy/notice").json()["notice"]
        answer = site.choose("accept", notice=token, browser=decided)

        page = decided.get("/")

        assert page.text == stranger.text
        assert LIVE_GA not in page.text
        assert "private" not in page.headers.get("cache-control", "")
        assert "HttpOnly" not in answer.headers["set-cookie"]
        with pytest.raises(AssertionError, match="no question"):
            notice_of(page.text)


@pytest.mark.checklist("BAN-09", "EVI-01")
def test_one_embed_is_allowed_and_taken_back_without_touching_the_rest(site: School) -> None:
    site.choose("save", "analytics")

    assert site.choose("allow", "youtube", **{"from": "embed"}).status_code == 303
    assert site.browser.get("/wie").json() == {"analytics": True, "youtube": True}
    assert site.choose("object", "youtube").status_code == 303
    assert site.browser.get("/wie").json() == {"analytics": True, "youtube": False}

    recorded = [(event["state"], event["method"]) for event in site.kit.evidence.export()]
    assert recorded == [("given", "form.save"), ("renewed", "embed.allow"), ("renewed", "form.object")]


EXEMPT = {
    "matomo": {
        "cookies": [
            {"name": "_pk_id.*", "duration": "13 months", "purpose": {"nl": "Bezoek tellen", "en": "Counting visits"}}
        ],
        "storage": [],
        "exempt_analytics": {
            "own_use_only": True,
            "no_cross_site_identifier": True,
            "no_user_id": True,
            "ip_masked": True,
            "data_months": 25,
        },
    }
}


@pytest.mark.checklist("GAT-13")
def test_exempt_measurement_runs_is_told_and_can_be_objected_to(tmp_path: Path) -> None:
    with school(tmp_path, services=EXEMPT) as site:
        assert site.browser.get("/wie").json()["analytics"] is False
        settings = site.browser.get("/privacy/settings").text
        assert 'value="object"' in settings
        assert "Matomo" in site.browser.get("/privacy/cookies").text
        assert 'id="consentkit"' not in site.browser.get("/").text

        assert site.choose("object", "matomo").status_code == 303

        assert 'value="allow"' in site.browser.get("/privacy/settings").text
        assert list(site.kit.evidence.export()) == []


def test_the_assets_leave_compressed_for_who_reads_that(site: School) -> None:
    page = site.browser.get("/").text
    name = next(part.split('"')[0] for part in page.split("/privacy/static/")[1:])

    plain = site.browser.get(f"/privacy/static/{name}", headers={"Accept-Encoding": "identity"})
    packed = site.browser.get(f"/privacy/static/{name}", headers={"Accept-Encoding": "gzip"})

    assert "content-encoding" not in plain.headers
    assert packed.headers["content-encoding"] == "gzip"
    assert packed.headers["vary"] == plain.headers["vary"] == "Accept-Encoding"
    assert packed.content == plain.content
    assert int(packed.headers["content-length"]) < len(plain.content) / 2


@pytest.mark.parametrize("decision", ["refuse", "save"])
def test_a_visitor_who_decided_gets_no_banner_but_the_way_back_and_what_tells_vendors(
    site: School, decision: str
) -> None:
    site.choose(decision, *(["analytics"] if decision == "save" else []))

    page = site.browser.get("/").text

    assert '<link rel="stylesheet" href="/privacy' not in page
    assert ("<script defer" in page) is (decision == "save")  # who has Google's tag must be able to tell it no
    assert 'id="consentkit"' not in page
    assert page.count("consentkit-foot") == 1


def test_a_video_that_is_held_back_asks_for_itself_alone_without_a_script(site: School) -> None:
    page = site.browser.get("/ouders/brief?a=1&b=2").text
    inside = html.unescape(page.partition('srcdoc="')[2].partition('"')[0])

    form = dict(re.findall(r'name="(\w+)" value="([^"]*)"', inside))
    assert "@@" not in page
    assert form | {"notice": ""} == {
        "notice": "",
        "next": "/ouders/brief?a=1&amp;b=2",
        "from": "embed",
        "purposes": "youtube",
        "decision": "allow",
    }
    fields = {name: html.unescape(value) for name, value in form.items()}
    answer = site.browser.post("/privacy/choice", data=fields, follow_redirects=False)

    assert (answer.status_code, answer.headers["location"]) == (303, "/ouders/brief?a=1&b=2")
    after = site.browser.get("/").text
    assert LIVE_VIDEO in after
    assert LIVE_GA not in after
    assert 'id="consentkit"' in after
    assert [event["method"] for event in site.kit.evidence.export()] == ["embed.allow"]


def test_a_fragments_frame_asks_too_and_gets_no_banner(site: School) -> None:
    page = site.browser.get("/", headers={"Sec-Fetch-Dest": "empty", "HX-Request": "true"}).text

    assert "value=&quot;allow&quot;" in page
    assert 'id="consentkit"' not in page
    assert "consentkit-foot" not in page


@pytest.mark.checklist("STO-04")
@pytest.mark.parametrize(
    ("url", "name", "secure"),
    [
        ("https://school.example", "__Host-consentkit", True),
        ("http://school.example", "__Host-consentkit", True),
        ("http://127.0.0.1:8000", "consentkit", False),
    ],
    ids=["https", "behind a proxy that ends TLS", "on another name during development"],
)
def test_the_cookie_is_bound_to_the_host_wherever_https_can_promise_it(
    tmp_path: Path, url: str, name: str, secure: bool
) -> None:
    with school(tmp_path, base_url="https://school.example") as site:
        browser = TestClient(site.kit.wrap(app()), base_url=url, headers={"Accept": "text/html"})
        answer = site.choose("accept", browser=browser)

    header = answer.headers["set-cookie"]
    assert header.startswith(f"{name}=")
    assert ("; Secure" in header) is secure
    assert {"Path=/", "SameSite=Lax", "HttpOnly", "Max-Age=15724800"} <= set(header.split("; "))
    assert "Domain" not in header
