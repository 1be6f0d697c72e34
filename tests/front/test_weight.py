"""What a first view costs, and when the banner is seen."""

from __future__ import annotations

from collections.abc import Callable

import brotli
import pytest
from playwright.sync_api import Page

from consentkit.render import Renderer
from tests.front.harness import School, make_view, until

LIMIT = 5 * 1024


@pytest.mark.parametrize("lang", ["nl", "en"])
def test_script_styles_and_banner_are_at_most_five_kilobytes_on_a_first_view(
    lang: str, capsys: pytest.CaptureFixture[str]
) -> None:
    renderer = Renderer(make_view())
    parts = {
        "script": renderer.script()[1],
        "styles": renderer.stylesheet()[1],
        "banner": renderer.banner(lang).encode(),
    }

    weights = {name: len(brotli.compress(body)) for name, body in parts.items()}

    with capsys.disabled():
        told = ", ".join(f"{name} {weight}" for name, weight in weights.items())
        print(f"\n  first view ({lang}, Analytics + YouTube + Maps), brotli: {sum(weights.values())} bytes ({told})")
    assert sum(weights.values()) <= LIMIT


def test_the_guard_is_at_most_four_kilobytes_without_the_hosts_of_the_site(capsys: pytest.CaptureFixture[str]) -> None:
    renderer = Renderer(make_view())
    name = renderer.guard(asks=True).partition("/static/")[2].partition('"')[0]

    weight = len(brotli.compress((renderer.asset(name) or (b"", ""))[0]))

    with capsys.disabled():
        print(f"\n  the guard of a page with scripts, brotli: {weight} bytes")
    assert weight <= 4 * 1024


@pytest.mark.browser
def test_the_banner_is_there_with_the_first_paint_and_moves_nothing(
    serve: Callable[..., str], new_page: Callable[..., Page]
) -> None:
    school = School()
    page = new_page(base_url=serve(school.app))
    page.add_init_script(
        """window.moved = [];
        new PerformanceObserver(list => { for (const one of list.getEntries()) moved.push([one.value, one.startTime,
          one.sources.map(of => [of.node?.nodeName, of.node?.id, of.previousRect.y, of.currentRect.y])]) })
          .observe({type: 'layout-shift', buffered: true})"""
    )
    page.route("**/*.js", lambda route: (page.wait_for_timeout(400), route.continue_()))
    page.goto("/", wait_until="commit")
    until(page, "performance.getEntriesByName('first-contentful-paint').length")

    seen = page.evaluate("document.getElementById('consentkit').getBoundingClientRect().height")

    assert seen > 100
    page.wait_for_load_state()
    page.get_by_role("button", name="Weigeren", exact=True).click()
    page.locator("#consentkit").wait_for(state="detached")
    assert page.evaluate("moved") == []
