"""What a browser keeps of a page: the entry of its HTTP cache, and the whole page alive behind "back"."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route

from consentkit import ConsentKit
from tests.browser_fixtures import forget_loop, resume_loop
from tests.journeys.school import settings

pytestmark = pytest.mark.browser

COUNTER = """
(window.shown ||= []).push('ran');
addEventListener('pageshow', event => { if (event.persisted) shown.push('came back alive') });
"""
PAGE = """<!doctype html><html lang="nl"><head><title>x</title>
<script src="/teller.js" data-consent="analytics"></script></head><body><h1>De Linde</h1></body></html>"""


@pytest.fixture
def school(launch: Callable[..., Browser], serve: Callable[..., str], tmp_path: Path) -> Any:
    """A page with a counter, on an origin that browsers trust, in a Chromium that keeps pages alive behind "back"."""

    async def page(request: Request) -> Response:
        return HTMLResponse(PAGE, headers={"ETag": '"1"', "Cache-Control": "max-age=60"})

    async def counter(request: Request) -> Response:
        return Response(COUNTER, media_type="text/javascript")

    kit = ConsentKit(settings(tmp_path, services={"linkedin-insight": {}, "plausible": {}}))
    url = serve(kit.wrap(Starlette(routes=[Route("/teller.js", counter), Route("/{name}", page)])))
    browser = launch(ignore_default_args=["--disable-back-forward-cache"])
    tab = browser.new_page(base_url=url)
    tab.set_default_timeout(10_000)
    yield tab
    browser.close()
    forget_loop()
    kit.close()
    resume_loop()
    forget_loop()


def back(page: Page) -> None:
    """Go back, as a timer of the page: the driver does not hear of a page that comes back alive, so nothing waits.

    Called straight away, the page may be gone before its answer reaches the driver.
    """
    page.evaluate("setTimeout(() => history.back(), 50), null")
    page.wait_for_timeout(800)


@pytest.mark.checklist("WDR-04")
def test_going_back_after_a_withdrawal_revives_nothing(school: Page) -> None:
    school.goto("/een")
    school.get_by_role("button", name="Accepteren", exact=True).click()
    school.get_by_role("button", name="Toestemming intrekken").wait_for()
    school.goto("/twee")
    assert school.evaluate("shown") == ["ran"]
    school.goto("/drie")

    with school.expect_response(lambda answer: answer.request.method == "POST"):
        school.get_by_role("button", name="Toestemming intrekken").click()
    school.wait_for_timeout(500)
    while "/twee" not in school.url:
        back(school)

    assert school.evaluate("window.shown ?? []") == []
