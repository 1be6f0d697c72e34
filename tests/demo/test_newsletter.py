"""The newsletter of the demo as a reader meets it: the school's form, real mail, and every way out."""

from __future__ import annotations

import json
import re
import smtplib
import time
from collections.abc import Callable
from pathlib import Path

import httpx2
import pytest
from playwright.sync_api import Page
from starlette.testclient import TestClient
from turbohtml import parse
from typer.testing import CliRunner

from consentkit.cli import app as cli
from consentkit.settings import Settings
from demo_site.__main__ import READER
from demo_site.site import CONFIG, build

PEOPLE = CONFIG.with_name("ouders.csv")
CONSENT = ("--route", "consent", "--proof", "papieren formulier, open dag 2026")


def attribute(element: object, name: str) -> str:
    """One attribute as text; empty where there is none."""
    return str(element.attrs.get(name) or "")  # type: ignore[attr-defined]


def sign_up(demo: str, address: str, *, page: str = "/nieuws", **also: str) -> None:
    """Fill in the form that stands in a page of the school, as it stands there."""
    elements = parse(httpx2.get(demo + page).text).iter_elements()
    form = next((each for each in elements if "/newsletter/" in attribute(each, "action")), None)
    assert form is not None
    hidden = {
        attribute(each, "name"): attribute(each, "value")
        for each in form.iter_elements()
        if each.tag == "input" and attribute(each, "type") == "hidden"
    }
    answer = httpx2.post(
        demo + attribute(form, "action"), data={**hidden, "email": address, **also}, follow_redirects=False
    )
    assert answer.status_code == 303


def letters(demo: str, address: str) -> list[str]:
    """The pages of the mails to an address, newest first, as /post links them."""
    box = httpx2.get(f"{demo}/post").text
    items = re.findall(r'<li><a href="(/post/\d+)">.*?<span>aan ([^<]*)</span>', box, re.DOTALL)
    return [path for path, to in items if to == address]


def letter(demo: str, address: str, number: int) -> str:
    """The page of the n-th mail to an address, once it has arrived."""
    for _ in range(100):
        if len(found := letters(demo, address)) >= number:
            return httpx2.get(demo + found[-number]).text
        time.sleep(0.1)
    raise TimeoutError(f"{len(found)} of {number} mails arrived")


def link(page: str, route: str) -> str:
    """The first link to a route of ours that can be clicked in the plain text of a mail."""
    found = re.search(rf'<a href="(http://127\.0\.0\.1:\d+/privacy/{route}/[^"]+)">', page)
    assert found
    return found[1]


def confirmed(demo: str, address: str) -> str:
    """Sign up and confirm; returns the page of the welcome mail."""
    sign_up(demo, address)
    asked = link(letter(demo, address, 1), "confirm")
    assert httpx2.get(asked).status_code == 200
    assert httpx2.post(asked).status_code == 200
    return letter(demo, address, 2)


def consentkit(config: Path, *command: str) -> str:
    """What the command line prints, beside the running demo."""
    return CliRunner().invoke(cli, ["--config", str(config), *command]).stdout


def suppressions(config: Path, address: str) -> list[tuple[str, str, str]]:
    """Scope, reason and channel of every row about an address."""
    told = json.loads(consentkit(config, "afgemeld", "check", address, "--json"))
    return [(one["scope"], one["reason"], one["channel"]) for one in told["entries"]]


@pytest.mark.checklist("UNS-02", "NEW-05")
def test_who_leaves_by_one_click_stays_away_when_the_school_imports_an_old_list(demo: str, config: Path) -> None:
    welcome = confirmed(demo, READER)
    assert suppressions(config, READER) == []

    one_click = re.search(r"curl -X POST -d (\S+) (http\S+)</pre>", welcome)
    assert one_click
    asked = {"Content-Type": "application/x-www-form-urlencoded"}
    answer = httpx2.post(one_click[2], content=one_click[1], headers=asked, follow_redirects=False)
    left = suppressions(config, READER)
    imported = consentkit(config, "newsletter", "import", "nieuwsbrief", str(PEOPLE), *CONSENT, "--json")

    assert answer.status_code == 200
    assert "Set-Cookie" not in answer.headers
    assert left == [("list:nieuwsbrief", "one-click", "one-click")]
    counts = json.loads(imported)
    assert (counts["added"], counts["refused"]) == (11, {"afgemeld": 1})
    listed = json.loads(consentkit(config, "newsletter", "lists", "--json").splitlines()[0])
    assert (listed["list"], listed["active"], listed["unsubscribed"]) == ("nieuwsbrief", 11, 1)


def test_an_opt_out_that_reaches_the_mail_server_is_taken_and_a_forged_one_is_not(demo: str, config: Path) -> None:
    address = "bakker@post.example"
    welcome = confirmed(demo, address)
    genuine = re.search(r"<code>(afmelden\+[a-z2-7]{48}@delinde\.example)</code>", welcome)
    assert genuine
    port = int(demo.rpartition(":")[2]) + 2
    forged = re.sub(r"\+.(.{47})@", lambda token: f"+{'a' if token[0][1] != 'a' else 'b'}{token[1]}@", genuine[1])

    with smtplib.SMTP("127.0.0.1", port) as server:
        server.sendmail(address, forged, f"To: {forged}\r\nSubject: x\r\n\r\n")
        refused = letter(demo, forged, 1), suppressions(config, address)
        server.sendmail(address, genuine[1], "To: iemand anders\r\nSubject: x\r\n\r\n")

    assert "geen echte afmelding: er is niets veranderd" in refused[0]
    assert refused[1] == []
    assert "afmelding verwerkt" in letter(demo, genuine[1], 1)
    assert suppressions(config, address) == [("list:nieuwsbrief", "reply", "mailto")]


def test_the_button_on_a_mail_s_page_sends_the_opt_out_over_smtp(demo: str, config: Path) -> None:
    address = "mulder@post.example"
    confirmed(demo, address)

    answer = httpx2.post(f"{demo}{letters(demo, address)[0]}/afmelden", follow_redirects=True)

    assert "afmelding verwerkt" in answer.text
    assert suppressions(config, address) == [("list:nieuwsbrief", "reply", "mailto")]


def test_the_english_page_has_the_form_in_english_and_its_mail_is_too(demo: str) -> None:
    sign_up(demo, "smith@post.example", page="/en", name="Ann Smith", lists="ouderraad")

    asked = letter(demo, "smith@post.example", 1)

    assert "Parents&#39; council" in asked
    assert "?lang=en" in link(asked, "confirm")


def test_the_school_offers_no_newsletter_without_consentkit_and_promises_none() -> None:
    bare, _ = build(port=8000, bare=True)
    visitor = TestClient(bare)

    for path in ("/", "/nieuws", "/ouders", "/en", "/privacyverklaring"):
        assert "nieuwsbrief" not in visitor.get(path).text.lower()
    assert visitor.get("/post").status_code == 404


def test_the_privacy_statement_gives_the_periods_that_the_configuration_has(demo: str) -> None:
    page = httpx2.get(f"{demo}/privacyverklaring").text
    kept = Settings.load(CONFIG, {}).retention

    assert (kept.unconfirmed, kept.newsletter) == ("7 days", "5 years")
    assert "na zeven dagen" in page
    assert "nog vijf jaar" in page


@pytest.mark.browser
@pytest.mark.parametrize("javascript", [True, False], ids=["with JavaScript", "without JavaScript"])
def test_a_reader_signs_up_confirms_and_leaves_with_what_the_pages_offer(
    demo: str, config: Path, new_page: Callable[..., Page], javascript: bool
) -> None:
    address = f"lotte{javascript:d}@voorbeeld.example"
    page = new_page(java_script_enabled=javascript, locale="nl-NL")

    page.goto(f"{demo}/nieuws")
    page.get_by_role("button", name="Weigeren").click()
    page.get_by_label("Je e-mailadres").fill(address)
    page.get_by_role("button", name="Aanmelden").click()
    page.get_by_role("heading", name="Kijk in je mail").wait_for()
    letter(demo, address, 1)
    page.goto(f"{demo}/post")
    page.locator("li", has_text=address).get_by_role("link").click()
    opened = follow(page, "Naar de bevestiging")
    opened.get_by_role("button", name="bevestigen").click()
    opened.get_by_role("heading", name="Je bent aangemeld").wait_for()
    opened.close()
    letter(demo, address, 2)
    page.goto(f"{demo}/post")
    page.locator("li", has_text=address).first.get_by_role("link").click()
    opened = follow(page, "Afmelden")
    assert suppressions(config, address) == []
    opened.get_by_role("button").first.click()
    opened.get_by_role("heading", name="Je bent afgemeld").wait_for()

    assert suppressions(config, address) == [("list:nieuwsbrief", "unsubscribe", "page")]


@pytest.mark.browser
@pytest.mark.parametrize("path", ["/nieuws", "/en", "/privacyverklaring", "/post", "/post/1"])
def test_pages_with_the_newsletter_fit_a_phone_of_320_pixels(
    demo: str, new_page: Callable[..., Page], path: str
) -> None:
    confirmed(demo, f"smal{path.replace('/', '.')}.met.een.lang.adres@voorbeeld.example")
    page = new_page(viewport={"width": 320, "height": 640})

    page.goto(demo + path)

    assert page.evaluate("document.documentElement.scrollWidth") == 320


def follow(page: Page, name: str) -> Page:
    """Follow a link of the mail that is shown; it opens in a window of its own."""
    link = page.frame_locator("iframe").get_by_role("link", name=name).first
    with page.context.expect_page() as opened:
        link.press("Enter")  # by keyboard: the frame is a process of its own, and a fresh one can miss a click
    opened.value.wait_for_load_state()
    return opened.value
