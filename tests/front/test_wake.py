"""What the script does with what was held back: in order, in place, under a strict policy, and back again."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from tests.front.harness import HOST_PAGE, School, make_view, until

pytestmark = pytest.mark.browser

ORDER = """
<script type="text/plain" data-consentkit-needs="analytics" data-consentkit-src="/hit/1.js"></script>
<script type="text/plain" data-consentkit-needs="analytics">(window.ran ||= []).push('2');</script>
<script type="text/plain" data-consentkit-needs="analytics" data-consentkit-type="module"
  data-consentkit-src="/hit/3.js"></script>
<script type="text/plain" data-consentkit-needs="analytics" data-consentkit-src="/hit/gone.404"></script>
<script type="text/plain" data-consentkit-needs="analytics" nomodule data-consentkit-src="/hit/old.js"></script>
<script type="text/plain" data-consentkit-needs="analytics" data-consentkit-src="/hit/4.js" defer
  onload="window.ran.push('loaded')" data-own="kept"></script>
<script type="text/plain" data-consentkit-needs="analytics"
  data-consentkit-type="text/javascript">ran.push('5')</script>
<script type="text/plain" data-consentkit-needs="analytics google-maps">ran.push('both')</script>
<script type="text/plain" data-consentkit-needs="analytics youtube">ran.push('never: youtube')</script>
<script type="text/plain" data-consentkit-needs="-">ran.push('never: unanswerable')</script>
<noscript><img alt="" data-consentkit-needs="analytics" data-consentkit-src="/hit/noscript.svg"></noscript>
"""
PLACES = """
<img id="pixel" alt="" data-consentkit-needs="analytics" data-consentkit-src="/hit/pixel.svg">
<img id="set" alt="" data-consentkit-needs="analytics" data-consentkit-srcset="/hit/set.svg 1x" src="/hit/first.svg">
<link data-consentkit-needs="analytics" data-consentkit-rel="stylesheet" data-consentkit-href="/hit/sheet.css">
<iframe id="film" title="Film" class="wide" data-consentkit-needs="youtube" data-consentkit-src="/hit/film"
  data-consentkit-sandbox="allow-scripts" srcdoc="&lt;p&gt;placeholder"></iframe>
<iframe id="own" title="Own" data-consentkit-needs="youtube" srcdoc="&lt;p&gt;placeholder"
  data-consentkit-srcdoc="&lt;p id=own&gt;their own document"></iframe>
<video id="clip" muted><source data-consentkit-needs="youtube" data-consentkit-src="/hit/clip.mp4"></video>
<object id="thing" data-consentkit-needs="youtube" data-consentkit-data="/hit/thing"></object>
"""
STRICT = (
    "default-src 'none'; script-src 'nonce-NONCE' 'strict-dynamic'; style-src 'nonce-NONCE'; img-src 'self'; "
    "frame-src 'self'; connect-src 'self'; media-src 'self'; object-src 'self'; form-action 'self'; base-uri 'none'"
)
TYPED = STRICT + "; require-trusted-types-for 'script'"


def school(parked: str, **options: Any) -> School:
    """A site with these elements held back."""
    return School(pages={"/": HOST_PAGE.replace("</h1>", "</h1>" + parked)}, **options)


@pytest.fixture
def visit(serve: Callable[..., str], new_page: Callable[..., Page]) -> Callable[..., Page]:
    """Opens a page of a school in a fresh profile, and keeps what the browser complained of."""

    def open_school(school: School, **options: Any) -> Page:
        page = new_page(base_url=serve(school.app), **options)
        page.add_init_script(
            "window.violations = []; document.addEventListener('securitypolicyviolation',"
            " event => violations.push(`${event.violatedDirective} ${event.blockedURI} ${event.sample}`))"
        )
        page.goto("/")
        return page

    return open_school


def grant(page: Page, *purposes: str) -> None:
    page.get_by_text("Zelf kiezen").click()
    for purpose in purposes:
        page.locator(f"#consentkit input[value={purpose}]").check()
    page.get_by_role("button", name="Keuze opslaan").click()
    expect(page.locator("#consentkit")).to_have_count(0)


def test_scripts_wake_in_document_order_each_after_the_one_before(visit: Callable[..., Page]) -> None:
    host = school(ORDER)
    page = visit(host)
    assert host.hits == []

    grant(page, "analytics", "google-maps")

    until(page, "window.ran?.includes('both')")
    assert page.evaluate("ran") == ["1.js", "2", "3.js", "4.js", "loaded", "5", "both"]
    assert host.hits == ["1.js", "3.js", "gone.404", "4.js"]
    assert page.locator("script[src='/hit/4.js']").get_attribute("data-own") == "kept"
    assert page.locator("script[src='/hit/3.js']").get_attribute("type") == "module"
    assert page.locator("[data-consentkit-needs]").count() == 2


def test_an_async_script_holds_up_nobody(visit: Callable[..., Page]) -> None:
    slow = '<script type="text/plain" async data-consentkit-needs="analytics" data-consentkit-src="/never.js"></script>'
    page = visit(school(slow + ORDER))
    page.route("**/never.js", lambda route: None)

    grant(page, "analytics")

    until(page, "window.ran?.includes('5')")


@pytest.mark.parametrize("strict", [False, True], ids=["no policy", "strict CSP, Trusted Types"])
def test_pictures_frames_links_and_media_wake_in_place(visit: Callable[..., Page], strict: bool) -> None:
    options = {"headers": {"Content-Security-Policy": TYPED}, "wake": "policy"} if strict else {}
    host = school(PLACES, **options)
    page = visit(host)
    page.locator("#film").evaluate("frame => { frame.mark = 'same element' }")

    grant(page, "analytics", "youtube")

    expect(page.frame_locator("#film").locator("h1")).to_have_text("film")
    expect(page.frame_locator("#own").locator("#own")).to_have_text("their own document")
    until(page, "document.querySelector('#pixel').complete && document.querySelector('#set').currentSrc")
    film = page.locator("#film")
    assert film.evaluate("frame => [frame.mark, frame.className, frame.sandbox.value]") == [
        "same element",
        "wide",
        "allow-scripts",
    ]
    assert film.get_attribute("srcdoc") is None
    page.wait_for_timeout(300)
    wanted = {"pixel.svg", "set.svg", "film", "clip.mp4", "thing", "first.svg"} | (set() if strict else {"sheet.css"})
    assert set(host.hits) == wanted
    assert host.hits.count("film") == 1
    assert page.locator("link[rel=stylesheet][href='/hit/sheet.css']").count() == 1
    typed = [one for one in page.evaluate("violations") if "style-src-elem" not in one]
    assert typed == []


@pytest.mark.checklist("SEC-01")
@pytest.mark.parametrize("typed", [False, True], ids=["nonce CSP", "nonce CSP and Trusted Types"])
def test_a_strict_policy_sees_no_violation_and_everything_works(visit: Callable[..., Page], typed: bool) -> None:
    policy = STRICT.replace(" 'strict-dynamic'", "") + ("; require-trusted-types-for 'script'" if typed else "")
    parked = """
    <script type="text/plain" nonce="{nonce}" data-consentkit-needs="analytics"
      data-consentkit-src="/hit/1.js"></script>
    <script type="text/plain" nonce="{nonce}" data-consentkit-needs="analytics">ran.push('2')</script>"""
    host = school(parked, headers={"Content-Security-Policy": policy}, wake="policy" if typed else "here")
    page = visit(host)
    expect(page.locator("#consentkit")).to_have_css("position", "fixed")

    grant(page, "analytics")

    until(page, "window.ran?.length == 2")
    assert page.evaluate("violations") == []
    page.get_by_role("button", name="Toestemming intrekken").click()
    expect(page.get_by_role("button", name="Toestemming intrekken")).to_be_hidden()
    assert page.evaluate("violations") == []


@pytest.mark.checklist("SEC-01")
def test_where_no_policy_may_be_made_the_page_reloads_instead(visit: Callable[..., Page]) -> None:
    csp = TYPED + "; trusted-types 'none'"
    inline = '<script type="text/plain" data-consentkit-needs="analytics">ran.push(1)</script>'
    host = school(PLACES + inline, headers={"Content-Security-Policy": csp}, wake="reload")
    page = visit(host)
    page.evaluate("window.before = true")

    with page.expect_navigation():
        page.get_by_role("button", name="Accepteren", exact=True).click()

    expect(page.locator("#consentkit")).to_have_count(0)
    assert page.evaluate("window.before === undefined") is True
    assert page.evaluate("violations") == []


NEEDS = 'data-consentkit-needs="analytics"'
PLANTED = f"""
<div id="planted">
<p {NEEDS} data-consentkit-onclick="xss.push('onclick')" data-consentkit-onanimationstart="xss.push('on')">tekst</p>
<img alt="" {NEEDS} data-consentkit-src="/hit/none.404" data-consentkit-onerror="xss.push('onerror')">
<a {NEEDS} data-consentkit-href="javascript:xss.push('a')">a</a>
<a {NEEDS} data-consentkit-href="/elders" data-consentkit-id="consentkit" data-consentkit-class="a">b</a>
<map><area alt="" {NEEDS} data-consentkit-href=" java&#10;script:xss.push('area')"></map>
<svg><a {NEEDS} data-consentkit-xlink:href="javascript:xss.push('svg')"><text>c</text></a></svg>
<svg><a><animate {NEEDS} attributeName="href" data-consentkit-values="#;javascript:xss.push('animate')"/></a></svg>
<form {NEEDS} data-consentkit-action="javascript:xss.push('form')" data-consentkit-name="body"></form>
<button {NEEDS} data-consentkit-formaction="javascript:xss.push('button')">d</button>
<iframe title="e" {NEEDS} data-consentkit-src="&#1; JaVaScRiPt:parent.xss.push('frame')"></iframe>
<embed {NEEDS} data-consentkit-src="javascript:parent.xss.push('embed')">
</div>
<img id="real" alt="" {NEEDS} data-consentkit-src="/hit/real.svg" data-consentkit-style="width: 7px">
<link {NEEDS} data-consentkit-rel="preload" as="image" data-consentkit-imagesrcset="/hit/preload.svg 1x">
<svg width="9" height="9">
<image id="drawn" width="9" height="9" {NEEDS} data-consentkit-xlink:href="/hit/drawn.svg"></image>
<rect width="9" height="9" {NEEDS} data-consentkit-fill="url(/hit/fill.svg#a)" data-consentkit-marker-end="none"></rect>
<script type="text/plain" {NEEDS} data-consentkit-xlink:href="/hit/drawn.js"></script>
<style type="text/plain" {NEEDS}>consentkit{{}}@import "/hit/drawn.css";</style>
</svg>"""


def test_only_what_the_gate_moves_comes_back_and_never_code(visit: Callable[..., Page]) -> None:
    """A visitor's text may carry any `data-` attribute: sanitizers let them through."""
    host = school(PLANTED)
    page = visit(host)
    page.evaluate("window.xss = []")
    page.evaluate("document.getElementById('planted').after(document.getElementById('planted').cloneNode(true))")

    grant(page, "analytics")

    until(page, "window.ran?.includes('drawn.js')")
    for link in page.locator("#planted a, #planted area, #planted p, #planted button").all():
        link.dispatch_event("click")
    page.wait_for_timeout(300)
    assert page.evaluate("xss") == []
    assert "/elders" not in page.url
    live = page.evaluate(
        """[...document.querySelectorAll('#planted [data-consentkit-needs], #planted *')].flatMap(one =>
        one.getAttributeNames().filter(name => /^on|href|action|^id|class|^name|values|needs/.test(name)
          && !/^data-consentkit-(?!needs)/.test(name)))"""
    )
    assert live == []
    assert page.locator("#real").get_attribute("style") == "width: 7px"
    assert page.locator("rect").evaluate("one => [one.getAttribute('fill'), one.getAttribute('marker-end')]") == [
        "url(/hit/fill.svg#a)",
        "none",
    ]
    wanted = {"none.404", "real.svg", "preload.svg", "drawn.svg", "drawn.js", "drawn.css"}
    assert set(host.hits) - {"fill.svg"} == wanted


def test_refusing_wakes_nothing(visit: Callable[..., Page]) -> None:
    host = school(ORDER + PLACES)
    page = visit(host)

    page.get_by_role("button", name="Weigeren", exact=True).click()
    expect(page.get_by_role("status")).to_have_text("Je keuze is opgeslagen.")
    page.wait_for_timeout(300)

    assert host.hits == ["first.svg"]
    assert page.locator("[data-consentkit-needs]").count() == 17


@pytest.mark.checklist("WDR-02")
def test_one_activation_on_the_page_withdraws_clears_the_storage_and_reloads(visit: Callable[..., Page]) -> None:
    host = school(ORDER, clear={"local": ["_hj*", "a.b"], "session": ["_s"], "indexeddb": ["track*"]})
    page = visit(host)
    page.get_by_role("button", name="Accepteren", exact=True).click()
    expect(page.locator("#consentkit")).to_have_count(0)
    page.evaluate(
        """async () => {
          for (const key of ['_hjId', '_hj', 'a.b', 'axb', 'mine_hj']) localStorage[key] = 1;
          sessionStorage._s = 1; sessionStorage._ss = 1;
          for (const name of ['tracker', 'own']) await new Promise(done => {
            const open = indexedDB.open(name); open.onsuccess = () => { open.result.close(); done() } });
          window.before = true;
        }"""
    )

    page.get_by_role("button", name="Toestemming intrekken").click()

    until(page, "window.before === undefined && document.readyState == 'complete'")
    assert sorted(page.evaluate("Object.keys(localStorage)")) == ["axb", "mine_hj"]
    assert page.evaluate("Object.keys(sessionStorage)") == ["_ss"]
    until(page, "indexedDB.databases().then(all => all.length == 1 && all[0].name == 'own')")
    assert [dict(post)["decision"] for post in host.posts] == ["accept", "withdraw"]
    assert page.evaluate("window.ran ?? []") == []


@pytest.mark.checklist("WDR-02")
def test_withdrawing_works_without_javascript_from_the_page_itself(visit: Callable[..., Page]) -> None:
    host = school("")
    page = visit(host, java_script_enabled=False)
    page.get_by_role("button", name="Accepteren", exact=True).click()

    page.get_by_role("button", name="Toestemming intrekken").click()

    expect(page.get_by_role("button", name="Toestemming intrekken")).to_have_count(0)
    assert dict(host.posts[1]) == {"next": "/", "from": "footer", "decision": "withdraw"}


@pytest.mark.checklist("WDR-04")
def test_other_tabs_follow_an_answer_and_a_withdrawal(visit: Callable[..., Page]) -> None:
    host = school(ORDER)
    page = visit(host)
    other = page.context.new_page()
    other.goto(page.url)

    page.get_by_role("button", name="Accepteren", exact=True).click()
    expect(other.locator("#consentkit")).to_have_count(0)
    until(other, "window.ran?.includes('both')")
    other.evaluate("window.before = true")
    page.bring_to_front()
    with other.expect_navigation():
        page.get_by_role("button", name="Toestemming intrekken").click()

    assert other.evaluate("window.before") is None
    assert other.evaluate("window.ran ?? []") == []


def test_a_saved_change_on_the_settings_page_says_so_and_clears_what_was_withdrawn(visit: Callable[..., Page]) -> None:
    host = school("", clear={"local": ["_hj*"], "session": [], "indexeddb": []})
    page = visit(host)
    page.get_by_role("button", name="Accepteren", exact=True).click()
    expect(page.locator("#consentkit")).to_have_count(0)
    page.evaluate("localStorage._hjId = 1")
    page.goto("/privacy/settings")

    page.get_by_role("switch", name="Bezoek meten").uncheck()
    page.get_by_role("button", name="Keuze opslaan").click()

    page.wait_for_url("**/settings?saved=1&lang=nl")
    expect(page.get_by_role("status")).to_have_text("Je keuze is opgeslagen.")
    expect(page.get_by_role("switch", name="Bezoek meten")).not_to_be_checked()
    expect(page.get_by_role("switch", name="YouTube")).to_be_checked()
    assert page.evaluate("Object.keys(localStorage)") == []


@pytest.mark.parametrize("script", [True, False], ids=["script", "no script"])
def test_an_embeds_placeholder_grants_its_provider_alone(visit: Callable[..., Page], script: bool) -> None:
    frame = '<iframe id="film" title="Film" width="560" height="315" srcdoc="@@EMBED youtube@@"></iframe>'
    csp = STRICT.replace("'strict-dynamic'", "'self'")
    host = school(frame, headers={"Content-Security-Policy": csp})
    page = visit(host, java_script_enabled=script)
    inside = page.frame_locator("#film")
    expect(inside.get_by_role("heading")).to_have_text("YouTube is nog niet geladen")
    assert inside.get_by_role("button").evaluate_all("all => all.map(one => one.offsetHeight >= 44)") == [True, True]

    with page.expect_response("**/privacy/choice"):
        inside.get_by_role("button", name="Altijd YouTube laden").click()

    page.wait_for_url("**/")
    expect(page.locator("#consentkit")).to_be_visible()
    assert [(name, value) for name, value in host.posts[0] if name not in ("notice",)] == [
        ("next", "/"),
        ("from", "embed"),
        ("purposes", "youtube"),
        ("decision", "allow"),
    ]
    page.goto("/privacy/settings")
    expect(page.get_by_role("switch", name="YouTube")).to_be_checked()
    expect(page.get_by_role("switch", name="Bezoek meten")).not_to_be_checked()


def test_shared_placeholders_lead_to_the_settings_without_javascript(visit: Callable[..., Page]) -> None:
    frame = '<iframe id="film" title="Film" width="560" height="315" srcdoc="@@EMBED youtube@@"></iframe>'
    page = visit(school(frame, view=make_view(mode="shared")), java_script_enabled=False)

    page.frame_locator("#film").get_by_role("link", name="Kies bij de cookie-instellingen").click()

    page.wait_for_url("**/privacy/settings?lang=nl#purpose-youtube")
