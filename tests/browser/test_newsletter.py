"""The newsletter from end to end: a real browser, a real mail server, and no script that has to arrive."""

from __future__ import annotations

import base64
import hashlib
import logging
import re
from collections.abc import Callable, Iterator
from email.message import EmailMessage
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from playwright.sync_api import Page, Route, expect
from starlette.applications import Starlette
from starlette.requests import Request as WebRequest
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route as Served

from consentkit import ConsentKit
from consentkit.render import load_texts
from tests.fixtures_smtp import Mailbox
from tests.journeys.school import Clock
from tests.newsletter.desk import LISTS, settings

pytestmark = [pytest.mark.browser, pytest.mark.timeout(120)]

JAN = "jan.de.vries@voorbeeld.nl"
LOCALES = {"nl": "nl-NL", "en": "en-GB"}
CHOICES = {
    "lists": LISTS | {"nieuwsbrief": {**LISTS["nieuwsbrief"], "form": "brief"}},
    "forms": {
        "brief": {
            "fields": ["email", "name"],
            "optional": ["name"],
            "lists": ["agenda"],
            "uses": {
                "telling": {"nl": "Tellen hoeveel ouders zich aanmelden", "en": "Counting how many parents sign up"}
            },
            "partners": {"klik": {"name": "Stichting Klik", "purpose": {"nl": "een open dag", "en": "an open day"}}},
        }
    },
}
LISTENER = """
const tell = () => navigator.sendBeacon("https://www.google-analytics.com/g/collect",
  [...document.querySelectorAll("input")].map(one => one.value).join());
for (const happening of ["input", "change", "focusout", "pagehide"]) addEventListener(happening, tell);
"""


class Site:
    """A school behind a kit that mails for real, at its own address.

    Attributes:
        kit, mailbox, url: the running parts.
        seen: how many mails were read.
    """

    def __init__(self, kit: ConsentKit, mailbox: Mailbox, url: str) -> None:
        self.kit, self.mailbox, self.url, self.seen = kit, mailbox, url, 0

    def mail(self) -> EmailMessage:
        """The next mail."""
        self.seen += 1
        return self.mailbox.wait(self.seen)[self.seen - 1]

    def link(self, mail: EmailMessage, kind: str) -> str:
        """The link of a kind in a mail."""
        body = mail.get_body(("plain",))
        assert body
        found = re.search(rf"{re.escape(self.url)}/privacy/{kind}/\S+", body.get_content())
        assert found, f"no link to {kind}"
        return found[0]

    def why_not(self, list: str = "nieuwsbrief") -> str | None:
        return self.kit.newsletter.why_not(JAN, list)


@pytest.fixture
def site(mailbox: Mailbox, serve: Callable[..., str], tmp_path: Path) -> Iterator[Callable[..., Site]]:
    """Starts a school; takes the tables of its settings."""
    made: list[Site] = []

    def start(**tables: Any) -> Site:
        async def answer(scope: Any, receive: Any, send: Any) -> None:
            await app(scope, receive, send)

        url = serve(answer)
        controller = {"name": "Stichting De Linde", "address": "Lindelaan 1", "email": "privacy@delinde.example"}
        own = {
            "site": {
                "name": "Basisschool De Linde", "base_url": url, "privacy_statement": "/privacyverklaring",
                "controller": controller,
            },
            "mail": {"smtp": mailbox.url, "sender": "De Linde <nieuws@delinde.example>"},
        }  # fmt: skip
        kit = ConsentKit(settings(tmp_path, **(own | tables)), clock=Clock())
        kit.store.upgrade()
        app = kit.wrap(Starlette(routes=[Served("/", host_page), Served("/elders", other_page)]))

        made.append(Site(kit, mailbox, url))
        return made[0]

    async def host_page(request: WebRequest) -> Response:
        form = made[0].kit.newsletter_form("nieuwsbrief")
        tracker = '<script src="https://www.googletagmanager.com/gtag/js?id=G-1" defer></script>'
        return HTMLResponse(
            f"<!doctype html><html lang=nl><head><title>De Linde</title>{tracker}</head>"
            f"<body><h1>De Linde</h1>{form}<p><a href=/elders>Elders</a></p></body></html>"
        )

    async def other_page(request: WebRequest) -> Response:
        return HTMLResponse("<!doctype html><html lang=nl><title>Elders</title><h1>Elders</h1></html>")

    yield start
    for one in made:
        one.kit.close()


def tab_to(page: Page, words: str) -> None:
    """Press Tab until the control of that name has the focus, and its outline can be seen."""
    for _ in range(40):
        page.keyboard.press("Tab")
        focused = page.locator(":focus")
        if focused.count() and name_of(focused) == words:
            assert focused.evaluate("one => getComputedStyle(one).outlineStyle") != "none"
            return
    raise AssertionError(f"Tab never came to {words!r}")


def name_of(focused: Any) -> str:
    return " ".join(
        focused.evaluate(
            "one => one.labels?.length ? one.labels[0].innerText : one.getAttribute('aria-label') ?? one.innerText"
        ).split()
    )


# -- journeys -------------------------------------------------------------------------------------------------------


@pytest.mark.checklist("ACC-02", "UNS-03", "UNS-06")
@pytest.mark.parametrize("lang", ["nl", "en"])
def test_by_keyboard_and_without_a_script_one_signs_up_confirms_leaves_and_comes_back(
    site: Callable[..., Site], new_page: Callable[..., Page], lang: str
) -> None:
    school, texts = site(), load_texts(lang)
    page = new_page(java_script_enabled=False, locale=LOCALES[lang], viewport={"width": 320, "height": 640})
    title = LISTS["nieuwsbrief"]["title"][lang]

    page.goto(f"{school.url}/privacy/newsletter?lang={lang}")
    tab_to(page, texts("signup.title", list=title))
    page.keyboard.press("Enter")
    tab_to(page, texts("form.field_email"))
    page.keyboard.type(JAN)
    tab_to(page, texts("form.submit"))
    page.keyboard.press("Enter")
    expect(page.get_by_role("status")).to_have_text(texts("signup.sent"))
    assert school.why_not() == "unconfirmed"

    page.goto(school.link(school.mail(), "confirm"))
    tab_to(page, texts("confirm.button"))
    page.keyboard.press("Space")
    expect(page.get_by_role("status")).to_have_text(texts("confirm.done", lists=title))
    assert school.why_not() is None

    leave = school.link(school.mail(), "afmelden")
    for _ in range(3):
        page.goto(leave)
    assert school.why_not() is None
    assert page.get_by_role("main").locator("input, textarea, select").count() == 0
    tab_to(page, texts("afmelden.button"))
    page.keyboard.press("Enter")
    expect(page.get_by_role("status")).to_have_text(texts("afmelden.done", list=title))
    expect(page.get_by_text(texts("afmelden.service"))).to_be_visible()
    assert school.why_not() == "afgemeld"

    tab_to(page, texts("afmelden.undo"))
    page.keyboard.press("Enter")
    expect(page.get_by_role("status")).to_have_text(texts("afmelden.undone"))
    assert school.why_not() == "afgemeld"
    page.goto(school.link(school.mail(), "confirm"))
    tab_to(page, texts("confirm.button"))
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name=texts("confirm.done_title"))).to_be_visible()
    assert school.why_not() is None


@pytest.mark.checklist("ACC-02")
def test_by_keyboard_and_without_a_script_one_changes_what_one_gets_and_erases_it_all(
    site: Callable[..., Site], new_page: Callable[..., Page]
) -> None:
    school, texts = site(), load_texts("nl")
    page = new_page(java_script_enabled=False, locale="nl-NL")
    page.goto(f"{school.url}/privacy/newsletter/nieuwsbrief")
    page.get_by_label("Je e-mailadres").fill(JAN)
    page.get_by_role("button", name="Aanmelden").click()
    page.goto(school.link(school.mail(), "confirm"))
    page.get_by_role("main").get_by_role("button").click()
    page.goto(school.link(school.mail(), "voorkeuren"))
    expect(page.get_by_role("switch", name="Nieuwsbrief")).to_be_checked()
    assert JAN not in page.content()

    tab_to(page, "Nieuwsbrief")
    page.keyboard.press("Space")
    tab_to(page, "Agenda")
    page.keyboard.press("Space")
    tab_to(page, texts("preferences.save"))
    page.keyboard.press("Enter")
    expect(page.get_by_role("status")).to_have_text(f"{texts('preferences.saved')} {texts('preferences.saved_mail')}")
    assert (school.why_not(), school.why_not("agenda")) == ("afgemeld", "unconfirmed")
    school.mail()

    tab_to(page, texts("preferences.data_button"))
    page.keyboard.press("Enter")
    expect(page.get_by_role("status")).to_have_text(texts("preferences.data_sent"))
    page.goto(school.link(school.mail(), "voorkeuren"))
    expect(page.get_by_text(JAN, exact=True)).to_be_visible()
    tab_to(page, texts("preferences.erase"))
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name=texts("preferences.erased_title"))).to_be_visible()
    assert school.why_not("agenda") not in (None, "unconfirmed")


# -- what the form takes --------------------------------------------------------------------------------------------


@pytest.mark.checklist("NEW-01", "CST-08")
def test_without_a_tick_the_form_is_accepted_and_nothing_else_is_agreed_to(
    site: Callable[..., Site], new_page: Callable[..., Page]
) -> None:
    school = site(**CHOICES)
    page = new_page(locale="nl-NL")
    page.goto(f"{school.url}/privacy/newsletter/nieuwsbrief")
    boxes = page.get_by_role("checkbox")
    assert boxes.evaluate_all("all => all.map(one => one.checked)") == [False] * 4

    page.get_by_label("Je e-mailadres").fill(JAN)
    page.get_by_role("button", name="Aanmelden").click()
    expect(page.get_by_role("status")).to_be_visible()
    page.goto(school.link(school.mail(), "confirm"))
    assert page.get_by_role("listitem").all_inner_texts() == ["Nieuwsbrief: Nieuws van de school (elke maand)"]
    expect(page.get_by_text(load_texts("nl")("confirm.no_measuring"))).to_be_visible()
    page.get_by_role("main").get_by_role("button").click()
    school.mail()

    assert school.why_not() is None
    assert [school.why_not(topic) for topic in ("agenda", "use.telling", "partner.klik")] == ["unknown"] * 3
    given = [event["purposes"] for event in school.kit.evidence.export() if event["state"] == "given"]
    assert given == [{"list.nieuwsbrief": True, "measuring.nieuwsbrief": False}]


@pytest.mark.checklist("CST-07")
def test_a_field_that_the_form_does_not_declare_is_dropped_and_the_owner_warned(
    site: Callable[..., Site], new_page: Callable[..., Page], caplog: pytest.LogCaptureFixture
) -> None:
    school = site(**CHOICES)
    page = new_page(locale="nl-NL")
    page.goto(f"{school.url}/privacy/newsletter/nieuwsbrief")
    page.get_by_label("Je e-mailadres").fill(JAN)
    page.get_by_label("Je naam").fill("Jan")
    page.locator("main form").evaluate(
        "form => form.append(Object.assign(document.createElement('input'), {name: 'bsn', value: '123456782'}))"
    )
    with caplog.at_level(logging.WARNING):
        page.get_by_role("button", name="Aanmelden").click()
        page.goto(school.link(school.mail(), "confirm"))
        page.get_by_role("main").get_by_role("button").click()
        page.goto(school.link(school.mail(), "voorkeuren"))
        page.get_by_role("button", name=load_texts("nl")("preferences.data_button")).click()
        page.goto(school.link(school.mail(), "voorkeuren"))

    expect(page.get_by_text("Jan", exact=True)).to_be_visible()
    assert "123456782" not in page.content()
    assert "123456782" not in "".join(str(event) for event in school.kit.evidence.export())
    assert "that it does not declare" in caplog.text
    assert "123456782" not in caplog.text


# -- nothing leaves before it is sent -------------------------------------------------------------------------------


def disguises(address: str) -> list[str]:
    """An address as trackers send it on."""
    plain = address.encode()
    found = [address, quote(address, safe=""), address.partition("@")[0]]
    for offset in range(3):
        found.append(base64.b64encode(b"x" * offset + plain).decode().rstrip("=")[offset and 4 : -4])
    for name in ("md5", "sha1", "sha256", "sha512"):
        digest = hashlib.new(name, plain).digest()
        found += [digest.hex(), base64.b64encode(digest).decode().rstrip("=")]
    return found


@pytest.mark.parametrize(
    "accepted",
    [
        pytest.param(False, marks=pytest.mark.checklist("NEW-06"), id="the tracker is held back"),
        pytest.param(True, id="the tracker runs, so that it can be seen that this test would see it"),
    ],
)
def test_what_is_typed_and_not_sent_leaves_the_page_in_no_disguise(
    site: Callable[..., Site], new_page: Callable[..., Page], accepted: bool
) -> None:
    school = site()
    page = new_page(locale="nl-NL")
    left: list[str] = []
    page.context.on(
        "request",
        lambda one: left.append(f"{one.url} {one.headers} {(one.post_data_buffer or b'').decode('utf-8', 'replace')}"),
    )

    def elsewhere(route: Route) -> None:
        listens = "gtag/js" in route.request.url
        route.fulfill(body=LISTENER if listens else "", content_type="text/javascript")

    page.context.route(lambda url: not url.startswith(school.url), elsewhere)
    if accepted:
        page.goto(school.url)
        page.get_by_role("button", name="Accepteren", exact=True).click()
        expect(page.locator("#consentkit")).to_have_count(0)
    caught = {}
    for path in ("/", "/privacy/newsletter/nieuwsbrief"):
        left.clear()
        page.goto(school.url + path)
        page.get_by_label("Je e-mailadres").press_sequentially(JAN)
        page.keyboard.press("Tab")
        page.wait_for_timeout(300)
        page.goto(f"{school.url}/elders")
        page.wait_for_timeout(300)
        assert len(left) > 1
        caught[path] = any(word in request for request in left for word in disguises(JAN))

    assert caught == {"/": accepted, "/privacy/newsletter/nieuwsbrief": False}
