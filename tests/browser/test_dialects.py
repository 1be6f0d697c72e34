"""One page with the markup of every other consent tool, in a real browser: nothing before, everything after."""

# ruff: noqa: E501 - markup reads best in one line
from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, Page
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route

from consentkit import ConsentKit
from tests.browser.trackers import Trackers, trackers
from tests.browser.world import Door, a_world
from tests.browser_fixtures import forget_loop, resume_loop
from tests.front.harness import until
from tests.journeys.school import settings

pytestmark = [pytest.mark.browser, pytest.mark.timeout(180)]

HOST = "code.old.test"  # known to nobody: the marks alone hold it back
SNIPPETS = """
<script type="text/plain" data-cookieconsent="statistics" src="{at}/cookiebot.js" async></script>
<script data-cookieconsent="marketing" src="{at}/cookiebot-live.js"></script>
<script type="text/plain" data-cookieconsent="statistics,marketing">ran.push('cookiebot')</script>
<img data-cookieconsent="marketing" data-cookieblock-src="{at}/cookiebot.gif" alt="">
<iframe data-cookieconsent="marketing" data-cookieblock-src="{at}/cookiebot-frame"></iframe>
<script type="text/plain" data-category="analytics" data-service="Own" data-type="module" src="{at}/vanilla-module.js"></script>
<script type="text/plain" data-category="ads" data-src="{at}/vanilla.js"></script>
<script type="text/plain" data-cookiecategory="targeting" src="{at}/vanilla-2.js" defer></script>
<script type="text/plain" data-type="application/javascript" data-name="google-analytics" data-src="{at}/of-klaro.js"></script>
<script type="text/plain" data-type="application/javascript" data-name="googleAnalytics">ran.push('klaro')</script>
<link rel="stylesheet" data-name="google-fonts" data-href="{at}/of-klaro.css">
<iframe data-name="youtube" data-src="{at}/of-klaro-frame"></iframe>
<script type="text/plain" data-service="general" data-category="statistics" data-cmplz-src="{at}/complianz.js" data-waitfor="x"></script>
<img class="cmplz-image" data-category="marketing" data-service="general" src="/logo.png" data-src-cmplz="{at}/complianz.gif" alt="">
<iframe class="cmplz-iframe" data-category="marketing" data-cmplz-target="src" src="about:blank" data-src-cmplz="{at}/complianz-frame"></iframe>
<script type="text/plain" data-cookieyes="cookieyes-advertisement" src="{at}/cookieyes.js"></script>
<script data-cookieyes="cookieyes-analytics" src="{at}/cookieyes-live.js"></script>
<script type="text/plain" class="optanon-category-C0002-C0004" src="{at}/onetrust.js"></script>
<iframe class="optanon-category-C0005" data-src="{at}/onetrust-frame"></iframe>
<script type="text/plain" data-usercentrics="Google Analytics" src="{at}/usercentrics.js"></script>
<iframe data-usercentrics="YouTube" data-src="{at}/usercentrics-frame"></iframe>
<script class="_iub_cs_activate" type="text/plain" data-iub-purposes="4,5" data-suppressedsrc="{at}/iubenda.js"></script>
<script class="_iub_cs_activate-inline" type="text/plain" data-iub-purposes="4">ran.push('iubenda')</script>
<iframe class="_iub_cs_activate" src="about:blank" suppressedsrc="{at}/iubenda-frame"></iframe>
<script type="text/plain" data-cookiescript="accepted" data-cookiecategory="performance" src="{at}/cookie-script.js"></script>
<iframe data-cookiescript="accepted" data-cookiecategory="targeting" data-src="{at}/cookie-script-frame"></iframe>
<script type="text/plain" data-c15t-category="measurement" src="{at}/c15t.js"></script>
<iframe data-category="measurement" data-src="{at}/c15t-frame"></iframe>
"""
EVERYTHING = {f"{HOST}/{path}" for path in re.findall(r'\{at\}/([^"]+)"', SNIPPETS)}
NEVER = """
<script type="text/plain" data-category="!analytics" src="{at}/never.js"></script>
<script type="text/plain" data-cookieconsent="gezellig" src="{at}/never.js"></script>
<script type="text/plain" data-name="mystery" data-src="{at}/never.js"></script>
<script type="text/plain" data-usercentrics="Mystery" data-src="{at}/never.js"></script>
<script type="text/plain">ran.push('plain text')</script>
<script id="Cookiebot" src="https://consent.cookiebot.com/uc.js" data-cbid="x" data-blockingmode="auto"></script>
"""
PAGE = f"""<!doctype html>
<html lang="nl"><head><meta charset="utf-8"><title>De Linde</title><script>window.ran = []</script></head>
<body><h1>De Linde</h1>{SNIPPETS}{NEVER}</body></html>
""".replace("{at}", f"https://{HOST}")
NAMED = {name: {} for name in ("google-analytics", "meta-pixel", "youtube", "google-fonts")}


def old(answer: str) -> dict[str, str]:
    flags = "".join(f"%2C{name}:{answer}" for name in ("preferences", "statistics", "marketing"))
    value = f"{{stamp:%27g2r==%27%2Cnecessary:true{flags}%2Cmethod:%27explicit%27}}"
    return {"name": "CookieConsent", "value": value, "url": "http://www.school.test"}


@pytest.fixture(scope="module")
def world(launch: Callable[..., Browser]) -> Iterator[tuple[Browser, Door, Trackers]]:
    with trackers() as arrived, a_world(launch, arrived, [HOST, "consent.cookiebot.com"]) as (browser, door):
        yield browser, door, arrived


@pytest.fixture
def visit(world: tuple[Browser, Door, Trackers], tmp_path: Path) -> Iterator[Callable[..., Any]]:
    """Opens a fresh profile on the page."""
    browser, door, arrived = world
    kits: list[ConsentKit] = []

    async def page(request: Request) -> Response:
        return HTMLResponse(PAGE)

    def start(html: str, cookie: dict[str, str] | None = None) -> tuple[Page, BrowserContext, Trackers]:
        resume_loop()
        site = {"html": html, "old_choices": "all", "remove_old_tool": True, "base_url": "http://www.school.test"}
        kits.append(ConsentKit(settings(tmp_path, services=NAMED, **site)))
        door.app = kits[0].wrap(Starlette(routes=[Route("/", page)]))
        context = browser.new_context(ignore_https_errors=True)
        context.set_default_timeout(10_000)
        if cookie:
            context.add_cookies([cookie])
        arrived.clear()
        opened = context.new_page()
        opened.goto("http://www.school.test/")
        opened.wait_for_load_state("load")
        return opened, context, arrived

    yield start
    for context in browser.contexts:
        context.close()
    forget_loop()
    for kit in kits:
        kit.close()


def arrive(page: Page, arrived: Trackers) -> None:
    """Wait until everything that a page asks for has come, and a little longer for what should not."""
    for _ in range(60):
        if set(arrived.requests) >= EVERYTHING:
            break
        page.wait_for_timeout(50)
    page.wait_for_timeout(300)


@pytest.mark.checklist("GAT-01", "GAT-06")
@pytest.mark.parametrize("html", ["private", "shared"])
def test_a_page_of_every_dialect_asks_for_nothing_before_and_for_everything_after(visit: Any, html: str) -> None:
    page, _, arrived = visit(html)
    page.wait_for_timeout(800)
    before = (list(arrived.requests), arrived.connections, page.evaluate("ran"))

    page.get_by_role("button", name="Accepteren").click()
    arrive(page, arrived)
    woken = sorted(arrived.requests)
    ran = page.evaluate("ran")
    arrived.clear()
    page.reload()
    arrive(page, arrived)

    assert before == ([], 0, [])
    assert woken == sorted(EVERYTHING)
    assert sorted(ran) == ["cookiebot", "iubenda", "klaro"]
    assert sorted(arrived.requests) == sorted(EVERYTHING)
    assert page.evaluate("ran") == ["cookiebot", "klaro", "iubenda"]


@pytest.mark.parametrize("html", ["private", "shared"])
def test_who_accepted_with_the_old_tool_is_not_asked_and_gets_everything_once_it_is_recorded(
    visit: Any, html: str
) -> None:
    page, context, arrived = visit(html, old("true"))
    arrive(page, arrived)

    assert sorted(arrived.requests) == sorted(EVERYTHING)
    assert not page.locator("#consentkit").is_visible()
    assert page.get_by_role("button", name="Toestemming intrekken").is_visible()
    assert {cookie["name"] for cookie in context.cookies("http://www.school.test")} == {"consentkit"}
    until(page, "document.querySelectorAll('[data-consentkit-needs]').length > 0")


@pytest.mark.parametrize("html", ["private", "shared"])
def test_who_refused_with_the_old_tool_is_not_asked_and_gets_nothing(visit: Any, html: str) -> None:
    page, _, arrived = visit(html, old("false"))
    page.wait_for_timeout(800)

    assert (arrived.requests, arrived.connections) == ([], 0)
    assert not page.locator("#consentkit").is_visible()
    assert page.locator('[data-consentkit="settings"]').is_visible()
