"""The promise, in a real browser: the vendors' own snippets, their own hosts, and what really leaves for them."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable, Iterator
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
from tests.journeys.school import settings

pytestmark = [pytest.mark.browser, pytest.mark.timeout(180)]

PAGE = """<!doctype html>
<html lang="nl"><head><meta charset="utf-8"><title>De Linde</title>
<link rel="preconnect" href="https://www.googletagmanager.com">
<link rel="dns-prefetch" href="//connect.facebook.net">
<link rel="stylesheet" href="https://fonts.googleapis.com/css2?family=Test">
<script async src="https://www.googletagmanager.com/gtag/js?id=G-DELINDE"{nonce}></script>
<script{nonce}>
  window.order = ["inline"];
  window.dataLayer = window.dataLayer || [];
  function gtag(){dataLayer.push(arguments);}
  gtag('js', new Date());
  gtag('config', 'G-DELINDE');
</script>
<script{nonce}>
!function(f,b,e,v,n,t,s){if(f.fbq)return;n=f.fbq=function(){n.callMethod?
n.callMethod.apply(n,arguments):n.queue.push(arguments)};if(!f._fbq)f._fbq=n;
n.push=n;n.loaded=!0;n.version='2.0';n.queue=[];t=b.createElement(e);t.async=!0;
t.src=v;s=b.getElementsByTagName(e)[0];s.parentNode.insertBefore(t,s)}(window,
document,'script','https://connect.facebook.net/en_US/fbevents.js');
fbq('init', '1'); fbq('track', 'PageView');
</script>
<noscript><img height="1" width="1" alt="" src="https://www.facebook.com/tr?id=1&amp;ev=PageView&amp;noscript=1"></noscript>
</head>
<body><h1>Basisschool De Linde</h1>
<iframe width="560" height="315" src="https://www.youtube.com/embed/abc" title="Rondleiding"></iframe>
<img src="https://www.google-analytics.com/collect?v=1" alt="" srcset="https://www.google-analytics.com/collect?x=2 2x">
<p><a href="/">Home</a> <a href="/ouders/brief">Brief</a></p>
<script{nonce}>window.ownCode = true</script>
</body></html>
"""
EVERYTHING = {
    "www.googletagmanager.com",
    "www.google-analytics.com",
    "connect.facebook.net",
    "www.facebook.com",
    "www.youtube.com",
    "fonts.googleapis.com",
}
HOSTS = [*EVERYTHING, "fonts.gstatic.com"]
NAMED = {name: {} for name in ("google-analytics", "meta-pixel", "youtube", "google-fonts")}
STORED = """async () => ({
    cookies: document.cookie.split('; ').map(pair => pair.split('=')[0]).filter(Boolean),
    local: Object.keys(localStorage), session: Object.keys(sessionStorage),
    databases: (await indexedDB.databases()).map(one => one.name),
    workers: (await navigator.serviceWorker?.getRegistrations() ?? []).length,
})"""


def school_app(policy: str = "") -> Starlette:
    """The site; under Trusted Types without the pixel, whose own code breaks that rule with or without us."""
    kept = re.sub(r"<script{nonce}>\n!function.*?</script>", "", PAGE, flags=re.DOTALL) if "types" in policy else PAGE

    async def page(request: Request) -> Response:
        headers = {"Content-Security-Policy": policy} if policy else {}
        return HTMLResponse(kept.replace("{nonce}", ' nonce="n0nce"' if policy else ""), headers=headers)

    return Starlette(routes=[Route("/", page), Route("/ouders/brief", page)])


@pytest.fixture(scope="module")
def arrived() -> Iterator[Trackers]:
    with trackers() as found:
        yield found


@pytest.fixture(scope="module")
def world(arrived: Trackers, launch: Callable[..., Browser]) -> Iterator[tuple[Browser, Door]]:
    with a_world(launch, arrived, HOSTS) as opened:
        yield opened


@pytest.fixture
def visit(
    arrived: Trackers, world: tuple[Browser, Door], tmp_path: Path
) -> Iterator[Callable[..., tuple[Page, BrowserContext]]]:
    """Opens a fresh profile on http://www.school.test, every other host being the stand-in."""
    browser, door = world
    kits: list[ConsentKit] = []

    def start(
        *, js: bool = True, policy: str = "", html: str = "private", **options: Any
    ) -> tuple[Page, BrowserContext]:
        resume_loop()
        kits.append(ConsentKit(settings(tmp_path, services=NAMED, base_url="http://www.school.test", html=html)))
        door.app = kits[0].wrap(school_app(policy))
        context = browser.new_context(java_script_enabled=js, ignore_https_errors=True, **options)
        context.set_default_timeout(10_000)
        arrived.clear()
        return context.new_page(), context

    yield start
    for context in browser.contexts:
        context.close()
    forget_loop()
    for kit in kits:
        kit.close()


QUIET = 0.4  # seconds without anything new, after which nothing comes


def settle(page: Page, milliseconds: int = 600) -> None:
    """Give what would leave the time to leave."""
    page.wait_for_load_state("load")
    page.wait_for_timeout(milliseconds)


def come(page: Page, arrived: Trackers, hosts: Iterable[str]) -> None:
    """Wait until these were asked for something, and nothing more comes."""
    end = time.monotonic() + 10
    while time.monotonic() < end:
        page.wait_for_timeout(50)
        if {*hosts} <= arrived.hosts and time.monotonic() - arrived.last > QUIET:
            break
    settle(page, 200)


def go(page: Page, path: str = "/") -> None:
    page.goto(f"http://www.school.test{path}")
    settle(page, 300)


def stored(page: Page, context: BrowserContext, *, js: bool) -> list[str]:
    """Everything non-essential that the browser keeps, by name."""
    found = [cookie["name"] for cookie in context.cookies() if cookie["name"] != "consentkit"]
    if js:
        kept = page.evaluate(STORED)
        found += [
            *kept["cookies"],
            *kept["local"],
            *kept["session"],
            *kept["databases"],
            *(["worker"] * kept["workers"]),
        ]
    return found


@pytest.mark.checklist("GAT-01", "GAT-17")
@pytest.mark.parametrize("html", ["private", "shared"])
@pytest.mark.parametrize("js", [True, False])
def test_before_a_choice_nothing_leaves_and_nothing_is_kept(visit: Any, arrived: Trackers, js: bool, html: str) -> None:
    page, context = visit(js=js, html=html)
    go(page)
    page.mouse.wheel(0, 800)
    settle(page, 1500)

    assert (arrived.requests, arrived.connections) == ([], 0)
    assert stored(page, context, js=js) == []
    assert page.locator("#consentkit").is_visible()


@pytest.mark.checklist("GAT-02", "STO-03")
@pytest.mark.parametrize("js", [True, False])
def test_after_a_refusal_nothing_leaves_over_ten_pages_and_a_new_session(
    visit: Any, arrived: Trackers, js: bool
) -> None:
    page, context = visit(js=js)
    go(page)
    with page.expect_response("**/privacy/choice"):
        page.get_by_role("button", name="Weigeren").click()
    settle(page)
    for number in range(10):
        go(page, "/ouders/brief" if number % 2 else "/")
        assert page.locator("#consentkit").count() == 0
    kept = context.storage_state()
    later = context.browser.new_context(java_script_enabled=js, storage_state=kept)
    again = later.new_page()
    go(again)

    assert (arrived.requests, arrived.connections) == ([], 0)
    assert stored(again, later, js=js) == []


@pytest.mark.checklist("GAT-03")
def test_after_acceptance_everything_loads_without_a_reload_and_in_order(visit: Any, arrived: Trackers) -> None:
    page, _ = visit()
    go(page)
    page.evaluate("window.sameDocument = true")
    page.get_by_role("button", name="Accepteren").click()
    come(page, arrived, EVERYTHING)

    assert page.evaluate("window.sameDocument && window.ownCode") is True
    assert page.evaluate("[window.gtagRan, window.order[0], typeof gtag, typeof fbq]") == [
        1, "inline", "function", "function",
    ]  # fmt: skip
    assert arrived.hosts >= EVERYTHING
    assert page.frame_locator("iframe").locator("h1").text_content() == "video"
    assert {"_ga", "_ga_DELINDE", "_fbp"} <= set(page.evaluate(STORED)["cookies"])


def test_without_a_script_acceptance_loads_everything_on_the_next_page(visit: Any, arrived: Trackers) -> None:
    page, _ = visit(js=False)
    go(page)
    page.get_by_role("button", name="Accepteren").click()
    come(page, arrived, {"www.youtube.com", "www.facebook.com", "fonts.googleapis.com", "www.google-analytics.com"})

    assert page.url == "http://www.school.test/"
    assert {"www.youtube.com", "www.facebook.com", "fonts.googleapis.com", "www.google-analytics.com"} <= arrived.hosts


@pytest.mark.checklist("BAN-03")
@pytest.mark.parametrize("html", ["private", "shared"])
def test_without_a_script_the_settings_page_takes_an_answer_too(visit: Any, arrived: Trackers, html: str) -> None:
    page, _ = visit(js=False, html=html)
    go(page, "/privacy/settings?lang=nl")
    page.get_by_role("button", name="Accepteren").click()
    settle(page)

    assert page.get_by_role("status").is_visible()
    assert page.get_by_text("Toestemming intrekken").is_visible()


@pytest.mark.checklist("GAT-03", "BAN-09", "BAN-11")
@pytest.mark.parametrize(
    ("switches", "hosts"),
    [
        (["analytics"], {"www.googletagmanager.com", "www.google-analytics.com"}),
        (["marketing"], {"connect.facebook.net", "www.facebook.com"}),
        (["youtube"], {"www.youtube.com"}),
        ([], set()),
    ],
)
def test_one_switch_contacts_only_the_hosts_of_its_purpose(
    visit: Any, arrived: Trackers, switches: list[str], hosts: set[str]
) -> None:
    page, _ = visit()
    go(page)
    page.get_by_text("Zelf kiezen").click()
    for switch in switches:
        page.locator(f'#consentkit input[value="{switch}"]').check()
    page.get_by_role("button", name="Keuze opslaan").click()
    come(page, arrived, hosts)
    go(page, "/ouders/brief")
    settle(page)

    assert arrived.hosts == hosts


@pytest.mark.checklist("WDR-02", "WDR-03", "WDR-04")
@pytest.mark.parametrize("js", [True, False])
def test_withdrawing_is_one_activation_and_the_trackers_cookies_are_gone(
    visit: Any, arrived: Trackers, js: bool
) -> None:
    page, context = visit()
    go(page)
    page.get_by_role("button", name="Accepteren").click()
    come(page, arrived, EVERYTHING)
    assert {"_ga", "_ga_DELINDE", "_fbp"} <= set(page.evaluate(STORED)["cookies"])
    if not js:
        context = context.browser.new_context(java_script_enabled=False, storage_state=context.storage_state())
        page = context.new_page()
        go(page)

    page.get_by_role("button", name="Toestemming intrekken").click()
    page.wait_for_timeout(1000)
    settle(page)
    arrived.clear()
    for path in ("/", "/ouders/brief", "/"):
        go(page, path)

    assert arrived.requests == []
    # What a tracker set on its own domain, in a browser that lets it, no site can take away.
    kept = [name for name in stored(page, context, js=js) if name != "lastExternalReferrer"]
    assert [name for name in kept if name != "third"] == []


@pytest.mark.checklist("WDR-04")
def test_another_tab_is_gated_at_its_next_page(visit: Any, arrived: Trackers) -> None:
    page, context = visit()
    go(page)
    page.get_by_role("button", name="Accepteren").click()
    come(page, arrived, EVERYTHING)
    other = context.new_page()
    go(other, "/ouders/brief")

    page.get_by_role("button", name="Toestemming intrekken").click()
    settle(page, 1000)
    arrived.clear()
    go(other)

    assert arrived.requests == []


@pytest.mark.checklist("SEC-01")
@pytest.mark.parametrize(
    "policy",
    [
        "script-src 'nonce-n0nce' 'strict-dynamic'; style-src 'self' https://fonts.googleapis.com; "
        "object-src 'none'; base-uri 'none'",
        "script-src 'nonce-n0nce' 'strict-dynamic'; object-src 'none'; base-uri 'none'; "
        "require-trusted-types-for 'script'; trusted-types app",
        "script-src 'nonce-n0nce' 'strict-dynamic'; object-src 'none'; base-uri 'none'; "
        "require-trusted-types-for 'script'",
    ],
    ids=["nonce", "trusted-types-list", "trusted-types"],
)
@pytest.mark.parametrize("decision", ["Weigeren", "Accepteren"])
def test_under_a_strict_policy_the_banner_works_without_a_violation(
    visit: Any, arrived: Trackers, policy: str, decision: str
) -> None:
    page, _ = visit(policy=policy)
    violations: list[str] = []
    page.expose_function("violated", lambda said: violations.append(said))  # noqa: PLW0108 - it wants a function of Python
    page.add_init_script(
        "document.addEventListener('securitypolicyviolation',"
        " e => violated(e.violatedDirective + ' ' + e.blockedURI + ' ' + e.sourceFile + ':' + e.lineNumber))"
    )
    go(page)
    page.get_by_role("button", name=decision).click()
    page.locator("#consentkit").wait_for(state="detached")
    come(page, arrived, {"www.googletagmanager.com"} if decision == "Accepteren" else ())

    assert violations == []
    assert page.locator("#consentkit").count() == 0
    assert ("www.googletagmanager.com" in arrived.hosts) == (decision == "Accepteren")
    assert page.evaluate("window.ownCode") is True


@pytest.mark.checklist("GAT-06")
def test_a_script_of_ours_that_never_arrives_opens_nothing(visit: Any, arrived: Trackers) -> None:
    page, context = visit()
    context.route("**/privacy/static/*.js", lambda route: route.abort())
    go(page)
    settle(page, 1500)

    assert (arrived.requests, arrived.connections) == ([], 0)


@pytest.mark.checklist("GAT-14")
def test_a_browser_that_sends_the_signal_is_not_asked_and_not_tracked(visit: Any, arrived: Trackers) -> None:
    page, context = visit(extra_http_headers={"Sec-GPC": "1"})
    go(page)
    settle(page, 1000)

    assert arrived.requests == []
    assert page.locator("#consentkit").count() == 0
    assert page.locator('[data-consentkit="settings"]').is_visible()
    assert stored(page, context, js=True) == []


@pytest.mark.checklist("GAT-15")
def test_in_shared_mode_the_same_page_opens_only_for_who_agreed(visit: Any, arrived: Trackers) -> None:
    page, context = visit(html="shared")
    go(page)
    page.get_by_role("button", name="Accepteren").click()
    come(page, arrived, EVERYTHING)
    go(page, "/ouders/brief")
    come(page, arrived, EVERYTHING)
    assert "www.googletagmanager.com" in arrived.hosts
    assert not page.locator("#consentkit").is_visible()

    arrived.clear()
    stranger = context.browser.new_context().new_page()
    go(stranger, "/ouders/brief")
    settle(stranger, 1000)

    assert arrived.requests == []
    assert stranger.locator("#consentkit").is_visible()


@pytest.mark.checklist("EVI-02")
def test_a_stored_notice_looks_as_it_looked(visit: Any, tmp_path: Path) -> None:
    page, context = visit(viewport={"width": 1000, "height": 700})
    go(page)
    page.evaluate("document.fonts.ready")
    text = page.locator("#consentkit").inner_text()
    page.get_by_role("button", name="Accepteren").click()
    settle(page)

    kit = ConsentKit(settings(tmp_path, services={}, base_url="http://www.school.test"))
    (event,) = list(kit.evidence.export())
    notice = kit.evidence.notice(event["notice_hash"])
    assert notice is not None
    shown = tmp_path / "notice.html"
    shown.write_bytes(kit.sites[0].renderer.show_notice(notice.content))
    kit.close()
    later = context.browser.new_context(viewport={"width": 1000, "height": 700}).new_page()
    later.goto(shown.as_uri())

    banner = later.frame_locator("iframe").first.locator("#consentkit")
    assert banner.inner_text() == text
    assert banner.bounding_box() is not None
    assert "Stichting De Linde" in text
