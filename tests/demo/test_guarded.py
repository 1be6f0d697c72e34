"""The demo site as its visitors meet it: behind consentkit, with hosts that count what reaches them."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx2
import pytest
from playwright.sync_api import Page
from starlette.testclient import TestClient
from turbohtml import parse

from demo_site import app as app_module
from demo_site.site import CONFIG, build

PAGES = (
    "/", "/over", "/ouders", "/nieuws", "/nieuws?vanaf=3", "/nieuws/muziekles", "/film", "/contact", "/resultaten",
    "/archief", "/privacyverklaring", "/en", "/teller", "/weg", "/storing",
)  # fmt: skip
LOADS = ("src", "srcset", "href", "data", "poster", "action")


@pytest.fixture
def visitor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[TestClient]:
    monkeypatch.setattr(app_module, "PAUSE_SECONDS", 0)
    config = Path(shutil.copy(CONFIG, tmp_path))
    app, _ = build(port=8000, config=config, environ={})
    with TestClient(app, base_url="http://127.0.0.1:8000", headers={"Origin": "http://127.0.0.1:8000"}) as client:
        yield client


def choose(visitor: TestClient, decision: str) -> None:
    shown = visitor.get("/privacy/settings?lang=nl").text
    notice = re.search(r'name="notice" value="([^"]+)"', shown)
    assert notice
    answer = visitor.post("/privacy/choice", data={"notice": notice[1], "decision": decision, "next": "/"})
    assert answer.status_code == 200


def loads(page: str) -> set[str]:
    """The stand-in hosts that a browser would contact for this page."""
    found = set()
    for element in parse(page).iter_elements():
        inert = element.tag == "script" and element.attrs.get("type") == "text/plain"
        for name, value in element.attrs.items():
            if name in LOADS and ".localhost:8001" in str(value) and not inert:
                found.add(re.sub(r".*?(\w+\.localhost):.*", r"\1", str(value)))
        if element.tag == "script" and not inert and re.search(r"\.localhost|gtag\(|fbq\(", element.text):
            found.add("inline")
    return found


def content(page: str) -> str:
    """The words between header and footer, without what is embedded from elsewhere."""
    main = parse(page).find("main") or parse(page).find("table")
    assert main is not None
    return " ".join(main.text.split())


@pytest.mark.parametrize("path", PAGES)
def test_no_page_of_the_school_contacts_a_tracker_before_a_choice_or_after_a_refusal(
    visitor: TestClient, path: str
) -> None:
    before = visitor.get(path).text
    choose(visitor, "refuse")
    after = visitor.get(path).text

    assert loads(before) == set()
    assert loads(after) == set()


def test_after_acceptance_the_tags_are_as_the_templates_have_them(visitor: TestClient) -> None:
    choose(visitor, "accept")

    assert loads(visitor.get("/").text) == {"analytics.localhost", "inline"}
    assert loads(visitor.get("/ouders").text) == {"analytics.localhost", "inline", "pixel.localhost"}
    assert loads(visitor.get("/film").text) == {"analytics.localhost", "inline", "video.localhost"}
    assert loads(visitor.get("/contact").text) == {"analytics.localhost", "inline", "kaart.localhost"}


@pytest.mark.checklist("BAN-13")
@pytest.mark.parametrize("path", [path for path in PAGES if path != "/teller"])
def test_status_and_words_of_every_page_are_the_same_in_all_three_states(visitor: TestClient, path: str) -> None:
    seen = [visitor.get(path)]
    for decision in ("refuse", "accept"):
        choose(visitor, decision)
        seen.append(visitor.get(path))

    assert len({page.status_code for page in seen}) == 1
    assert len({content(page.text) for page in seen}) == 1


def test_a_fetched_piece_is_gated_and_gets_no_banner(visitor: TestClient) -> None:
    piece = visitor.get("/nieuws?vanaf=3", headers={"HX-Request": "true", "Sec-Fetch-Dest": "empty"}).text

    assert loads(piece) == set()
    assert "data-consentkit-src" in piece
    assert 'id="consentkit"' not in piece


def test_texts_that_only_look_like_tags_stay_as_they_were(visitor: TestClient) -> None:
    page = visitor.get("/archief").text

    assert '<script src="http://analytics.localhost:8001/gtag/js?id=UIT"></script>\n-->' in page
    assert 'READONLY><iframe src="http://video.localhost:8001/embed/voorbeeld"></iframe></TEXTAREA>' in page
    assert 'title="een titel met > erin <script src=http://analytics.localhost/x>"' in page


def test_the_page_of_counts_starts_a_column_at_each_choice(visitor: TestClient) -> None:
    choose(visitor, "refuse")
    choose(visitor, "accept")

    assert re.findall(r'<th scope="col">(.*?)</th>', visitor.get("/teller").text) == [
        "Host", "vóór een keuze", "na keuze 1", "na keuze 2",
    ]  # fmt: skip


def counts(page: Page, base: str) -> list[list[int]]:
    """The table of /teller: a row per host, a column per choice."""
    page.goto(f"{base}/teller")
    rows = page.locator(".counts tbody tr").all()
    return [[int(cell) for cell in row.locator("td").all_inner_texts()] for row in rows]


def answer(page: Page, button: str) -> None:
    """Choose, and wait until the choice is kept."""
    with page.expect_response("**/privacy/choice"):
        page.get_by_role("button", name=button).click()
    page.wait_for_load_state()
    page.wait_for_timeout(200)


@pytest.mark.browser
@pytest.mark.parametrize("javascript", [True, False], ids=["with JavaScript", "without JavaScript"])
def test_the_counters_stand_at_zero_until_accepted_run_then_and_stop_when_withdrawn(
    demo: str, new_page: Callable[..., Page], javascript: bool
) -> None:
    httpx2.post(f"{demo}/teller/wissen")
    page = new_page(java_script_enabled=javascript, locale="nl-NL")
    walk = ("/", "/ouders", "/film", "/contact", "/archief")

    for path in walk:
        page.goto(demo + path)
    answer(page, "Weigeren")
    for path in walk:
        page.goto(demo + path)
    assert counts(page, demo) == [[0, 0]] * 4

    page.goto(f"{demo}/privacy/settings?lang=nl")
    answer(page, "Accepteren")
    for path in walk:
        page.goto(demo + path, wait_until="networkidle")
    accepted = counts(page, demo)
    assert [row[:2] for row in accepted] == [[0, 0]] * 4
    # Without JavaScript a script-only tracker has nothing to run in; the pixel's noscript image, video and map do load.
    assert [row[2] > 0 for row in accepted] == [javascript, True, True, True]

    answer(page, "Toestemming intrekken")
    page.wait_for_load_state("networkidle")
    for path in walk:
        page.goto(demo + path)
    assert [row[3] for row in counts(page, demo)] == [0] * 4
    assert {cookie["name"] for cookie in page.context.cookies(demo)} == {"delinde_sessie", "consentkit"}


@pytest.mark.browser
def test_accepting_in_the_banner_wakes_the_page_without_a_reload(demo: str, new_page: Callable[..., Page]) -> None:
    page = new_page(locale="nl-NL")
    page.goto(f"{demo}/film")
    page.evaluate("window.mark = true")

    with page.expect_response(lambda answer: "video.localhost" in answer.url):
        page.get_by_role("button", name="Accepteren").click()
    page.wait_for_function("document.cookie.includes('_ga_DELINDE')")

    assert page.evaluate("window.mark")


@pytest.mark.browser
def test_a_video_that_came_in_later_loads_when_it_is_asked_for(demo: str, new_page: Callable[..., Page]) -> None:
    page = new_page(locale="nl-NL")
    page.goto(demo)
    answer(page, "Weigeren")
    page.get_by_role("link", name="Meer nieuws").click()

    embed = page.frame_locator("iframe[title^='Film']")
    with page.expect_response(lambda answer: "video.localhost" in answer.url):
        embed.get_by_role("button").first.click()
