"""The mailing of the demo: 500 readers that are made up, the office's page, and sending it through all that happens."""

from __future__ import annotations

import csv
import json
import re
import shutil
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx2
import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page
from starlette.testclient import TestClient

from consentkit import ConsentKit
from consentkit.afgemeld import Reason
from consentkit.settings import Settings
from demo_site import readers
from demo_site.__main__ import READER
from demo_site.post import Post
from demo_site.site import CONFIG, build, settings
from tests.demo.conftest import free_ports, launch

PORT = 8000
LEFT_OUT = {"afgemeld": 23, "unconfirmed": 9, "unproven": 14}
GET_IT = 454


def own(folder: Path, port: int = PORT) -> Settings:
    return settings(port=port, environ={}, config=folder / CONFIG.name)


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A demo's folder after its first start, with a mailing that goes faster; to be copied."""
    folder = tmp_path_factory.mktemp("first")
    text = CONFIG.read_text("utf-8")
    assert "per_second = 20" in text
    (folder / CONFIG.name).write_text(text.replace("per_second = 20", "per_second = 120"), "utf-8")
    readers.settle(own(folder))
    return folder


@pytest.fixture
def folder(first: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(first, tmp_path / "demo"))


@pytest.fixture
def kit(folder: Path) -> Iterator[ConsentKit]:
    kit = ConsentKit(own(folder))
    yield kit
    kit.close()


@pytest.fixture
def office(kit: ConsentKit) -> TestClient:
    site, _ = build(port=PORT, post=Post(), kit=kit)
    return TestClient(site, base_url=f"http://127.0.0.1:{PORT}")


def test_500_made_up_readers_stand_on_the_list_by_the_ways_in_which_real_ones_come(kit: ConsentKit) -> None:
    people = dict(readers.everybody())
    audience = kit.mailings.audience(1)
    gone = [address for address in people if kit.newsletter.why_not(address, readers.LIST) == "afgemeld"]

    assert len(people) == audience.candidates == 500
    assert (audience.queued, audience.excluded) == (GET_IT, LEFT_OUT)
    assert {entry.reason for address in gone for entry in kit.afgemeld.all_of(address)} == {Reason.ONE_CLICK}
    assert [event["state"] for event in kit.evidence.export()].count("given") == readers.CONFIRMED
    assert [one.state for one in kit.mailings.all()] == ["draft"]
    assert kit.outbox.waiting() == 0
    with CONFIG.with_name("ouders.csv").open(encoding="utf-8") as file:
        others = {row["email"].lower() for row in csv.DictReader(file)} | {READER}
    assert others.isdisjoint(people)


def test_a_next_start_adds_nobody_nor_does_one_after_a_first_that_was_interrupted(
    folder: Path, kit: ConsentKit
) -> None:
    before = kit.newsletter.counts()

    empty = readers.is_empty(own(folder))
    readers.settle(own(folder))

    assert not empty
    assert kit.newsletter.counts() == before
    assert kit.mailings.audience(1).excluded == LEFT_OUT


def test_the_page_says_who_gets_it_who_not_and_why_and_how_it_looks(office: TestClient) -> None:
    page = office.get("/post/mailing/1").text
    inside = office.get("/post/mailing/1/html")

    assert office.get("/post/mailing").text.count('href="/post/mailing/1"') == 1
    assert "Verstuur aan 454 lezers" in page
    table = re.findall(r'<tr><th scope="row">([^<]+)</th><td class="number">(\d+)</td></tr>', page)
    assert table == [
        ("Krijgt de mail", "454"), ("Niet: afgemeld", "23"), ("Niet: niet bevestigd", "9"),
        ("Niet: geen bewijs van toestemming", "14"),
    ]  # fmt: skip
    assert "Niets houdt hem tegen" in page
    assert "<b>Fout</b>" not in page
    assert page.count('sandbox="allow-popups allow-popups-to-escape-sandbox"') == 2
    assert inside.headers["Content-Security-Policy"].startswith("sandbox ")
    assert 'src="data:image/png;base64,' in inside.text
    assert "cid:" not in inside.text
    assert "Dag Anna," in page
    assert 'http-equiv="refresh"' not in page


def test_what_can_not_be_done_is_said_and_nothing_is_done(office: TestClient, kit: ConsentKit) -> None:
    elsewhere = office.post("/post/mailing/1/verstuur", headers={"Sec-Fetch-Site": "cross-site"})
    early = office.post("/post/mailing/1/pauzeer")
    cancelled = office.post("/post/mailing/1/stop")
    late = office.post("/post/mailing/1/verstuur")

    assert elsewhere.status_code == 403
    assert early.status_code == 409
    assert "Dat kan nu niet" in early.text
    assert "Geannuleerd" in cancelled.text
    assert "Verstuur aan" not in late.text
    assert [one.state for one in kit.mailings.all()] == ["cancelled"]
    assert [office.get(f"/post/mailing/{path}").status_code for path in ("2", "2/html", "1?part=x")] == [404, 404, 200]


def test_the_pieces_of_the_page_come_alone(office: TestClient) -> None:
    asked = {"HX-Request": "true"}

    pieces = [office.get(f"/post/mailing/1?part={part}", headers=asked) for part in ("state", "deeds", "counts", "x")]

    assert [piece.status_code for piece in pieces] == [200, 200, 200, 404]
    assert not any("<html" in piece.text for piece in pieces[:3])
    assert pieces[0].text.startswith('<p class="state">')
    assert "Verstuur aan 454 lezers" in pieces[1].text


def letters(folder: Path) -> Counter[str]:
    """How many mails of the mailing each address got, by what the mail server of the demo answered for."""
    lines = (folder / "demo-post.jsonl").read_text("ascii").splitlines()
    return Counter(one["to"][0] for one in map(json.loads, lines) if "Message-ID: <1." in one["raw"])


def until(base: str, sign: str) -> str:
    """The page of the mailing, as soon as it says something."""
    for _ in range(300):
        page = httpx2.get(f"{base}/post/mailing/1").text
        if sign in page:
            return page
        time.sleep(0.1)
    raise TimeoutError(sign)


def test_sent_paused_left_in_the_middle_killed_and_started_again_and_nobody_gets_it_twice(folder: Path) -> None:
    port = free_ports()
    base = f"http://127.0.0.1:{port}"
    process = launch(folder / CONFIG.name, port)
    try:
        httpx2.post(f"{base}/post/mailing/1/verstuur")
        moving = until(base, "van 454 afgehandeld")
        left = httpx2.post(f"{base}/post/mailing/1/vertrek", follow_redirects=True).text
        paused = httpx2.post(f"{base}/post/mailing/1/pauzeer", follow_redirects=True).text
        time.sleep(1)
        then = letters(folder)
        time.sleep(0.5)
        still = letters(folder)
        httpx2.post(f"{base}/post/mailing/1/verder")
        while sum(letters(folder).values()) < sum(still.values()) + 50:
            time.sleep(0.05)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        process = launch(folder / CONFIG.name, port)
        done = until(base, "454 van 454 afgehandeld")
        report = httpx2.get(f"{base}/post/mailing/1/verslag").text
    finally:
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=20)
    got = letters(folder)
    leaver = re.search(r"<li><b>([^<]+)</b> om", left)
    kit = ConsentKit(own(folder, port))
    status = kit.mailings.status(1)
    kit.close()

    assert '<noscript><meta http-equiv="refresh"' in moving
    assert "Gepauzeerd" in paused
    assert then == still
    assert leaver
    assert got[leaver[1]] == 0
    assert set(got.values()) == {1}
    assert status.counts["suppressed"] == 1
    assert len(status.in_doubt) <= 3
    assert 0 <= sum(got.values()) - status.counts["sent"] <= len(status.in_doubt)
    assert status.counts["sent"] + 1 + len(status.in_doubt) == GET_IT
    assert f"<b>In de brievenbussen:</b> {sum(got.values())} brieven" in done
    assert "Niemand kreeg er twee." in done
    assert "<h1>Soepweek, Sinterklaas en het kerstdiner</h1>" in report


@pytest.mark.browser
def test_the_pages_fit_a_phone_and_axe_finds_nothing(
    office: TestClient, serve: Callable[..., str], new_page: Callable[..., Page]
) -> None:
    base = serve(office.app)
    page = new_page(viewport={"width": 320, "height": 640})

    page.goto(f"{base}/post/mailing")
    found = wrong(page)
    page.goto(f"{base}/post/mailing/1")
    page.get_by_role("button", name="Verstuur aan 454 lezers").wait_for()
    found += wrong(page)
    page.get_by_role("button", name="Annuleer").press("Enter")
    page.get_by_text("Geannuleerd. Wie nog wachtte").wait_for()
    found += wrong(page)
    page.goto(f"{base}/post/mailing/1/verslag")
    found += wrong(page)

    assert found == []


def wrong(page: Page) -> list[str]:
    """What axe finds, and whether one has to scroll sideways."""
    page.evaluate(Axe().axe_script)
    result = page.evaluate("axe.run({resultTypes: ['violations'], iframes: false})")
    found = [f"{one['id']}: {[node['html'][:160] for node in one['nodes']]}" for one in result["violations"]]
    return found + ["scrolls sideways"] * page.evaluate("document.documentElement.scrollWidth > innerWidth")
