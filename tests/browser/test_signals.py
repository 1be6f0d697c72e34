"""Vendors are told, in a real browser: their own snippets, in the order in which they read what they are told."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from playwright.sync_api import Browser, BrowserContext, Page
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route

from consentkit import ConsentKit, catalogue
from consentkit.render import Renderer
from tests.browser.trackers import Trackers, trackers
from tests.browser.world import Door, a_world
from tests.browser_fixtures import forget_loop, resume_loop
from tests.front.harness import make_policy, make_view, until
from tests.journeys.school import settings

pytestmark = [pytest.mark.browser, pytest.mark.timeout(120)]

SITE = "http://www.school.test"
HOSTS = [
    "www.googletagmanager.com", "www.google-analytics.com", "www.googleadservices.com", "*.doubleclick.net",
    "www.google.com", "connect.facebook.net", "www.facebook.com",
]  # fmt: skip
META = """!function(f,b,e,v,n,t,s){if(f.fbq)return;n=f.fbq=function(){n.callMethod?
n.callMethod.apply(n,arguments):n.queue.push(arguments)};if(!f._fbq)f._fbq=n;
n.push=n;n.loaded=!0;n.version='2.0';n.queue=[];t=b.createElement(e);t.async=!0;
t.src=v;s=b.getElementsByTagName(e)[0];s.parentNode.insertBefore(t,s)}(window,
document,'script','https://connect.facebook.net/en_US/fbevents.js');
fbq('init', '1'); fbq('track', 'PageView');"""
PINTEREST = """!function(e){if(!window.pintrk){window.pintrk=function(){window.pintrk.queue.push(
Array.prototype.slice.call(arguments))};var n=window.pintrk;n.queue=[],n.version="3.0";var
t=document.createElement("script");t.async=!0,t.src=e;var r=document.getElementsByTagName("script")[0];
r.parentNode.insertBefore(t,r)}}("https://s.pinimg.com/ct/core.js");
pintrk('load', '26'); pintrk('page');"""
TIKTOK = """!function (w, d, t) {w.TiktokAnalyticsObject=t;var ttq=w[t]=w[t]||[];ttq.methods=["page","track",
"holdConsent","revokeConsent","grantConsent"];ttq.setAndDefer=function(t,e){t[e]=function(){t.push([e].concat(
Array.prototype.slice.call(arguments,0)))}};for(var i=0;i<ttq.methods.length;i++)ttq.setAndDefer(ttq,ttq.methods[i]);
ttq.load=function(e){var r="https://analytics.tiktok.com/i18n/pixel/events.js";var o=d.createElement("script");
o.async=!0;o.src=r+"?sdkid="+e;var a=d.getElementsByTagName("script")[0];a.parentNode.insertBefore(o,a)};
ttq.load('C1');ttq.page();}(window, document, 'ttq');"""
PAGE = f"""<!doctype html>
<html lang="nl"><head><meta charset="utf-8"><title>De Linde</title>
<script>(function(w,d,s,l,i){{w[l]=w[l]||[];w[l].push({{'gtm.start':new Date().getTime(),event:'gtm.js'}});
var f=d.getElementsByTagName(s)[0],j=d.createElement(s);j.async=true;j.src='https://www.googletagmanager.com/gtm.js?id='
+i;f.parentNode.insertBefore(j,f);}})(window,document,'script','dataLayer','GTM-1');</script>
<script async src="https://www.googletagmanager.com/gtag/js?id=G-DELINDE"></script>
<script>
  window.dataLayer = window.dataLayer || [];
  function gtag(){{dataLayer.push(arguments);}}
  gtag('js', new Date());
  gtag('config', 'G-DELINDE');
</script>
<script>(function(w,d,t,r,u){{var f,n,i;w[u]=w[u]||[],f=function(){{var o={{ti:"1"}};o.q=w[u],w[u]=new UET(o),
w[u].push("pageLoad")}},n=d.createElement(t),n.src=r,n.async=1,n.onload=f,i=d.getElementsByTagName(t)[0],
i.parentNode.insertBefore(n,i)}})(window,document,"script","https://bat.bing.com/bat.js","uetq");</script>
<script>(function(c,l,a,r,i,t,y){{c[a]=c[a]||function(){{(c[a].q=c[a].q||[]).push(arguments)}};t=l.createElement(r);
t.async=1;t.src="https://www.clarity.ms/tag/"+i;y=l.getElementsByTagName(r)[0];y.parentNode.insertBefore(t,y);}})
(window,document,"clarity","script","c1");</script>
<script>var _paq = window._paq = window._paq || [];_paq.push(['trackPageView']);(function(){{var u="https://school.matomo.cloud/";
var d=document,g=d.createElement('script'),s=d.getElementsByTagName('script')[0];g.async=true;g.src=u+'matomo.js';
s.parentNode.insertBefore(g,s);}})();</script>
<script>{META}</script>
<script>{TIKTOK}</script>
<script>{PINTEREST}</script>
</head><body><h1>De Linde</h1><p><a href="/brief">Brief</a></p></body></html>
"""
NAMES = (
    "google-analytics", "google-ads", "google-tag-manager", "bing-ads", "microsoft-clarity", "matomo", "meta-pixel",
    "tiktok-pixel", "pinterest-tag", "google-maps",
)  # fmt: skip
ADS = ["ad_storage", "ad_user_data", "ad_personalization"]
OTHERS = ["functionality_storage", "personalization_storage"]
TOLD = """() => ({
    google: (window.dataLayer ?? []).filter(one => Object.prototype.toString.call(one) == '[object Arguments]')
        .map(one => [...one].map(part => part instanceof Date ? 'now' : part)),
    arrays: (window.dataLayer ?? []).filter(Array.isArray).length,
    uet: [...window.uetq ?? []].filter(one => typeof one != 'string' || one != 'consent'),
    clarity: (window.clarity?.q ?? []).map(one => [...one]),
    matomo: [...window._paq ?? []].map(([name]) => name),
    meta: (window.fbq?.queue ?? []).map(one => [...one]),
    tiktok: [...window.ttq ?? []].map(([name]) => name),
    pinterest: (window.pintrk?.queue ?? []).map(one => [...one]),
})"""
KEEP_LAST = f"addEventListener('pagehide', () => sessionStorage.setItem('last', JSON.stringify(({TOLD})())))"


def consent(google: str, *, analytics: bool = False, ads: bool = False) -> list[Any]:
    """One `gtag('consent', …)` as it must be: every signal explicit."""
    state = dict.fromkeys(ADS, word(ads)) | {"analytics_storage": word(analytics)}
    state |= dict.fromkeys(OTHERS, "denied") | {"security_storage": "granted"}
    return ["consent", google, state | ({"wait_for_update": 500} if google == "default" else {})]


def redact(on: bool) -> list[Any]:
    return ["set", "ads_data_redaction", on]


def word(on: bool) -> str:
    return "granted" if on else "denied"


def clarity(*, analytics: bool = False, ads: bool = False) -> list[Any]:
    return ["consentv2", {"ad_Storage": word(ads), "analytics_Storage": word(analytics)}]


RUN = [["js", "now"], ["config", "G-DELINDE"]]
UNDECIDED = {
    "google": [consent("default"), redact(True)],
    "arrays": 0,
    "uet": ["default", {"ad_storage": "denied"}],
    "clarity": [clarity()],
    "matomo": ["requireConsent"],
    "meta": [],
    "tiktok": ["holdConsent"],
    "pinterest": [],
}


def decided(before: dict[str, Any], *, analytics: bool, ads: bool) -> dict[str, Any]:
    """What everybody has been told after an answer on the page that asks."""
    again = [redact(False)] if ads else []
    return before | {
        "google": [
            *before["google"], *again, consent("update", analytics=analytics, ads=ads), *(RUN if analytics else []),
        ],
        "uet": [*before["uet"], "update", {"ad_storage": word(ads)}],
        "clarity": [*before["clarity"], clarity(analytics=analytics, ads=ads)],
        "matomo": [*before["matomo"], *(["setConsentGiven", "trackPageView"] if analytics else [])],
        "meta": [["consent", "grant"], ["init", "1"], ["track", "PageView"]] if ads else [],
        "tiktok": [*before["tiktok"], *(["grantConsent", "page"] if ads else ["revokeConsent"])],
        "pinterest": [["setconsent", True], ["load", "26"], ["page"]] if ads else [],
    }  # fmt: skip


def app() -> Starlette:
    """A school with the snippet of every vendor that can be told."""

    async def page(request: Request) -> Response:
        return HTMLResponse(PAGE)

    return Starlette(routes=[Route("/", page), Route("/brief", page)])


@pytest.fixture(scope="module")
def arrived() -> Iterator[Trackers]:
    with trackers() as found:
        yield found


@pytest.fixture(scope="module")
def world(arrived: Trackers, launch: Callable[..., Browser]) -> Iterator[tuple[Browser, Door]]:
    with a_world(launch, arrived, HOSTS) as opened:
        yield opened


Visit = Callable[..., tuple[Page, ConsentKit]]


@pytest.fixture
def visit(arrived: Trackers, world: tuple[Browser, Door], tmp_path: Path) -> Iterator[Visit]:
    """Opens the site in a fresh profile; takes keys of `[site]`."""
    browser, door = world
    kits: list[ConsentKit] = []

    def start(**site: Any) -> tuple[Page, ConsentKit]:
        resume_loop()
        services: dict[str, Any] = {name: {} for name in NAMES}
        kits.append(ConsentKit(settings(tmp_path, services=services, base_url=SITE, **site)))
        door.app = kits[0].wrap(app())
        context: BrowserContext = browser.new_context(ignore_https_errors=True)
        context.set_default_timeout(10_000)
        context.add_init_script(KEEP_LAST)
        arrived.clear()
        page = context.new_page()
        page.goto(SITE)
        return page, kits[0]

    yield start
    for context in browser.contexts:
        context.close()
    forget_loop()
    for kit in kits:
        kit.close()


def hits(arrived: Trackers) -> list[str]:
    """The `gcs` of the hits that Google got, in their order."""
    collected = [urlsplit(f"//{request}") for request in arrived.requests if "/g/collect" in request]
    return [parse_qs(one.query)["gcs"][0] for one in collected]


def answer(page: Page, switches: list[str] | None) -> None:
    """Accept, refuse, or save these switches, and wait until the answer holds."""
    if switches is None:
        page.get_by_role("button", name="Accepteren", exact=True).click()
    elif not switches:
        page.get_by_role("button", name="Weigeren").click()
    else:
        page.get_by_text("Zelf kiezen").click()
        for switch in switches:
            page.locator(f'#consentkit input[value="{switch}"]').check()
        page.get_by_role("button", name="Keuze opslaan").click()
    until(page, "!document.getElementById('consentkit') || document.getElementById('consentkit').hidden")


@pytest.mark.checklist("GAT-08", "GAT-09", "GAT-10", "GAT-11", "GAT-12", "WDR-05")
@pytest.mark.parametrize("html", ["private", "shared"])
@pytest.mark.parametrize(
    ("switches", "analytics", "ads", "gcs"),
    [(None, True, True, "G111"), (["analytics"], True, False, "G101"), ([], False, False, "")],
    ids=["accepted", "analytics", "refused"],
)
def test_each_vendor_is_told_of_each_decision_once_and_before_it_runs(
    visit: Visit, arrived: Trackers, html: str, *, switches: list[str] | None, analytics: bool, ads: bool, gcs: str
) -> None:
    page, _ = visit(html=html)
    page.wait_for_timeout(300)
    assert page.evaluate(TOLD) == UNDECIDED
    assert (arrived.requests, arrived.connections) == ([], 0)

    answer(page, switches)
    until(page, f"window.gtagRan || {str(not analytics).lower()}")
    page.wait_for_timeout(300)
    told = page.evaluate(TOLD)
    assert told == decided(UNDECIDED, analytics=analytics, ads=ads)
    assert sum(one[:2] == ["consent", "update"] for one in told["google"]) == 1
    assert hits(arrived) == ([gcs] if gcs else [])
    assert any("gtm.js" in request for request in arrived.requests) is ads

    arrived.clear()
    page.goto(f"{SITE}/brief")
    until(page, f"window.gtagRan || {str(not analytics).lower()}")
    page.wait_for_timeout(300)
    later = page.evaluate(TOLD)
    assert later["google"] == [
        consent("default", analytics=analytics, ads=ads), *([] if ads else [redact(True)]),
        consent("update", analytics=analytics, ads=ads), *(RUN if analytics else []),
    ]  # fmt: skip
    assert later["uet"] == ["default", {"ad_storage": word(ads)}, "update", {"ad_storage": word(ads)}]
    assert later["clarity"] == [clarity(analytics=analytics, ads=ads)]
    assert later["matomo"] == ["requireConsent", *(["setConsentGiven", "trackPageView"] if analytics else [])]
    assert later["tiktok"] == (["grantConsent", "page"] if ads else ["holdConsent"])
    assert hits(arrived) == ([gcs] if gcs else [])
    if not analytics:
        return

    with page.expect_navigation():
        page.get_by_role("button", name="Toestemming intrekken").click()
    last = page.evaluate("JSON.parse(sessionStorage.getItem('last'))")
    informed = {
        "google": [*([redact(True)] if ads else []), consent("update")],
        "arrays": 0,
        "uet": ["update", {"ad_storage": "denied"}],
        "clarity": [clarity()],
        "matomo": ["forgetConsentGiven"],
        "meta": [["consent", "revoke"]] if ads else [],
        "tiktok": ["revokeConsent"],
        "pinterest": [["setconsent", False]] if ads else [],
    }
    assert last == {name: later[name] + one if name != "arrays" else 0 for name, one in informed.items()}
    assert "rememberConsentGiven" not in str([told, later, last])
    page.wait_for_timeout(300)
    assert page.evaluate(TOLD)["google"][0] == consent("default")
    assert page.evaluate("document.cookie").count("_ga") == 0


@pytest.mark.checklist("WDR-05")
def test_a_withdrawal_on_the_settings_page_is_told_in_the_other_tab_too(visit: Visit, arrived: Trackers) -> None:
    page, _ = visit()
    answer(page, None)
    until(page, "window.gtagRan")
    other = page.context.new_page()
    other.goto(f"{SITE}/privacy/settings?lang=nl")

    with page.expect_navigation():
        other.get_by_role("button", name="Weigeren").click()

    last = page.evaluate("JSON.parse(sessionStorage.getItem('last'))")
    assert last["google"][-1] == consent("update")
    assert last["meta"][-1] == ["consent", "revoke"]
    assert last["matomo"][-1] == "forgetConsentGiven"


@pytest.mark.checklist("GAT-10", "GAT-11")
def test_in_advanced_mode_only_googles_own_tags_load_and_they_are_told_that_nothing_is_granted(
    visit: Visit, arrived: Trackers
) -> None:
    page, _ = visit(google={"mode": "advanced", "url_passthrough": True})
    until(page, "window.gtagRan")
    page.wait_for_timeout(300)

    told = page.evaluate(TOLD)
    assert told["google"] == [consent("default"), redact(True), ["set", "url_passthrough", True], *RUN]
    assert hits(arrived) == ["G100"]
    assert page.evaluate("document.cookie") == ""
    assert {request.partition("/")[0] for request in arrived.requests} == {
        "www.googletagmanager.com", "www.google-analytics.com",
    }  # fmt: skip
    assert not any("gtm.js" in request for request in arrived.requests)
    assert "laadt ook zonder je toestemming" in page.locator("#consentkit").text_content()

    answer(page, [])
    page.goto(f"{SITE}/brief")
    until(page, "window.gtagRan")
    page.wait_for_timeout(300)
    assert set(hits(arrived)) == {"G100"}
    assert [name for name in page.evaluate("document.cookie").split("; ") if "_ga" in name] == []


# -- the script alone ------------------------------------------------------------------------------------------------


def script(*names: str, granted: str = "") -> str:
    """The script as it stands in a page, for these services."""
    known = catalogue.load()
    renderer = Renderer(make_view(make_policy([known[name] for name in names])))
    name = re.search(r"consentkit-signals\.\w+\.js", renderer.signals())
    assert name
    found = renderer.asset(name[0])
    assert found
    return f'<script data-granted="{granted}"{" data-decided" if granted else ""}>{found[0].decode()}</script>'


def test_a_page_that_replaces_the_data_layer_still_tells_google_first(new_page: Callable[..., Page]) -> None:
    page = new_page()
    page.set_content(script("google-analytics") + "<script>var dataLayer = [{ page: 'home' }]</script>")

    first, second, third = page.evaluate("[...dataLayer].map(one => one.page ?? [...one])")
    assert (first, second, third) == (consent("default"), redact(True), "home")
    page.evaluate("document.dispatchEvent(new CustomEvent('consentkit:choice', {detail: {granted: ['analytics']}}))")
    assert page.evaluate("[...dataLayer.at(-1)]") == consent("update", analytics=True)


def test_a_pixel_that_runs_while_denied_is_told_so_before_its_first_call(new_page: Callable[..., Page]) -> None:
    page = new_page()
    page.set_content(f"{script('meta-pixel', 'pinterest-tag')}<script>{META}</script><script>{PINTEREST}</script>")

    told = page.evaluate(TOLD)
    assert told["meta"] == [["consent", "revoke"], ["init", "1"], ["track", "PageView"]]
    assert told["pinterest"] == [["setconsent", False], ["load", "26"], ["page"]]


def test_what_one_vendor_throws_keeps_no_other_from_being_told(new_page: Callable[..., Page]) -> None:
    page = new_page()
    broken = "<script>window._paq = { push() { throw new Error('broken') } }; window.ttq = []; fbq = null</script>"
    page.set_content(broken + script("matomo", "tiktok-pixel", "google-analytics", granted="analytics marketing"))
    page.evaluate("document.dispatchEvent(new CustomEvent('consentkit:choice', {detail: {granted: []}}))")

    assert page.evaluate("[...ttq].map(([name]) => name)") == ["grantConsent", "revokeConsent"]
    assert page.evaluate("[...dataLayer.at(-1)]") == consent("update")
