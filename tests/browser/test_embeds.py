"""Ten providers' own embed codes on one page: nothing leaves before a click, and after it for one of them only."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, FrameLocator, Page
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route

from consentkit import ConsentKit
from tests.browser.trackers import Trackers, trackers
from tests.browser.world import Door, a_world
from tests.browser_fixtures import forget_loop, resume_loop
from tests.front.harness import axe
from tests.journeys.school import settings

pytestmark = [pytest.mark.browser, pytest.mark.timeout(120)]

PAGE = Path(__file__).with_name("embeds.html").read_text("utf-8")
HOSTS = {
    "youtube": {"www.youtube-nocookie.com"},
    "vimeo": {"player.vimeo.com"},
    "google-maps": {"www.google.com"},
    "spotify": {"open.spotify.com"},
    "soundcloud": {"w.soundcloud.com"},
    "instagram": {"www.instagram.com"},
    "facebook": {"connect.facebook.net"},
    "x-embeds": {"platform.twitter.com"},
    "google-recaptcha": {"www.google.com"},
}
FONTS = {"fonts.googleapis.com"}
FRAMES = ("youtube", "vimeo", "google-maps", "spotify", "soundcloud")
SCRIPTS = tuple(HOSTS.keys() - set(FRAMES))
STRICT = (
    "script-src 'nonce-n0nce' 'strict-dynamic'; object-src 'none'; base-uri 'none'; form-action 'self'; "
    "require-trusted-types-for 'script'; trusted-types consentkit"
)
HERE = "http://www.school.test"
NEEDS = "all => all.map(one => one.dataset.consentkitNeeds)"


@pytest.fixture(scope="module")
def world(launch: Callable[..., Browser]) -> Iterator[tuple[Browser, Door, Trackers]]:
    with trackers() as arrived, a_world(launch, arrived, ["*"]) as (browser, door):
        yield browser, door, arrived


class Visitor:
    """A visitor of the page with everything, and what arrived at the providers."""

    def __init__(self, browser: Browser, arrived: Trackers, kit: ConsentKit) -> None:
        self._browser = browser
        self.arrived = arrived
        self.kit = kit
        self.page: Page = None  # type: ignore[assignment]

    def fresh(self, *, js: bool = True) -> Page:
        """Another visitor."""
        context = self._browser.new_context(java_script_enabled=js, ignore_https_errors=True)
        context.set_default_timeout(10_000)
        self.page = context.new_page()
        self.page.add_init_script(
            "if (self == top) { window.broken = []; addEventListener('securitypolicyviolation', event => "
            "broken.push(event.violatedDirective + ' ' + event.blockedURI)) }"
        )
        return self.page

    def open(self) -> None:
        """Open the page, forgetting what arrived before."""
        self.page.goto("about:blank")
        self.arrived.clear()
        self.page.goto(f"{HERE}/")

    def quiet(self) -> set[str]:
        """The providers that heard of the visitor, given a while."""
        self.page.wait_for_load_state("load")
        self.page.wait_for_timeout(120)
        return self.arrived.hosts

    def heard(self, hosts: set[str]) -> set[str]:
        """The same, once these hosts did."""
        deadline = time.monotonic() + 8
        while not hosts <= self.arrived.hosts and time.monotonic() < deadline:
            self.page.wait_for_timeout(20)
        return self.quiet()

    def placeholder(self, service: str) -> FrameLocator:
        """What stands in the place of a provider's content."""
        frame = f"#{service}" if service in FRAMES else f"[data-consentkit-place={service}]"
        return self.page.frame_locator(frame)

    def click(self, service: str, button: str) -> None:
        """Click a button of a placeholder."""
        self.placeholder(service).get_by_role("button", name=button).click()

    @property
    def recorded(self) -> list[tuple[str, str, dict[str, bool]]]:
        """The evidence: state, method and purposes of each event."""
        events = self.kit.evidence.export()
        return [(event["state"], event["method"], event["purposes"]) for event in events]


@pytest.fixture
def visit(world: tuple[Browser, Door, Trackers], tmp_path: Path) -> Iterator[Callable[..., Visitor]]:
    browser, door, arrived = world
    kits: list[ConsentKit] = []

    def start(*, policy: str = "", **site: Any) -> Visitor:
        resume_loop()
        services: dict[str, Any] = {name: {} for name in (*HOSTS, "google-fonts")}
        kit = ConsentKit(settings(tmp_path, services=services, base_url=HERE, **site))
        kits.append(kit)

        async def page(request: Request) -> Response:
            headers = {"ETag": '"one"', "Cache-Control": "public, max-age=600"}
            return HTMLResponse(PAGE, headers=headers | ({"Content-Security-Policy": policy} if policy else {}))

        door.app = kit.wrap(Starlette(routes=[Route("/", page)]))
        return Visitor(browser, arrived, kit)

    yield start
    for context in browser.contexts:
        context.close()
    forget_loop()
    for kit in kits:
        kit.close()


@pytest.mark.checklist("GAT-07")
@pytest.mark.parametrize("html", ["private", "shared"])
def test_a_click_on_a_placeholder_loads_its_provider_in_place_once_and_is_recorded_for_it_alone(
    visit: Callable[..., Visitor], html: str
) -> None:
    visitor = visit(policy=STRICT, html=html)
    page = visitor.fresh()

    some = HOSTS if html == "private" else {name: HOSTS[name] for name in ("youtube", "x-embeds", "google-recaptcha")}
    for service, hosts in some.items():
        visitor.open()
        assert visitor.quiet() == set(), f"before the click on {service}"
        page.evaluate("naam.value = 'Ik'")

        visitor.click(service, "Eén keer laden")

        assert visitor.heard(hosts) == hosts
        assert page.evaluate("naam.value") == "Ik", "the page was loaded again"
        assert page.evaluate("broken") == []
        assert page.locator("#consentkit").is_visible()
        assert page.locator(f"[data-consentkit-place={service}]").count() == 0
        assert not [cookie for cookie in page.context.cookies(HERE) if cookie["name"].startswith("consentkit")]
    visitor.open()
    assert visitor.quiet() == set()
    assert visitor.arrived.connections == 0
    assert visitor.recorded == [("given", "embed.once", {service: True}) for service in some]


@pytest.mark.checklist("GAT-07")
def test_without_javascript_the_next_load_has_that_provider_and_the_one_after_it_none(
    visit: Callable[..., Visitor],
) -> None:
    visitor = visit()
    page = visitor.fresh(js=False)

    for service in FRAMES:
        visitor.open()
        assert visitor.quiet() == set(), f"before the click on {service}"

        visitor.click(service, "Eén keer laden")

        assert visitor.heard(HOSTS[service]) == HOSTS[service]
        assert page.context.cookies(HERE) == []
    for service in SCRIPTS:  # without scripts nothing of theirs can load: their tag is live, and no other
        visitor.open()
        with page.expect_navigation():
            visitor.click(service, "Eén keer laden")
        held = set(page.locator("script[data-consentkit-needs]").evaluate_all(NEEDS))
        assert held == {*SCRIPTS, "vimeo"} - {service}
        assert page.locator(f"[data-consentkit-place={service}]").count() == 0
    assert visitor.heard(set()) == set()
    assert visitor.recorded == [("given", "embed.once", {service: True}) for service in (*FRAMES, *SCRIPTS)]


@pytest.mark.checklist("GAT-07", "BAN-09")
@pytest.mark.parametrize("js", [True, False], ids=["javascript", "no javascript"])
def test_always_holds_for_that_provider_on_every_page_until_it_is_taken_back_in_the_settings(
    visit: Callable[..., Visitor], js: bool
) -> None:
    visitor = visit()
    page = visitor.fresh(js=js)
    visitor.open()
    assert visitor.quiet() == set()

    visitor.click("spotify", "Altijd Spotify laden")
    assert visitor.heard(HOSTS["spotify"]) == HOSTS["spotify"]
    visitor.open()
    assert visitor.heard(HOSTS["spotify"]) == HOSTS["spotify"]
    assert page.locator("#consentkit").is_visible()
    page.goto(f"{HERE}/privacy/settings?lang=nl")
    page.get_by_role("switch", name="Spotify").uncheck()
    page.get_by_role("switch", name="Google Fonts").check()
    page.get_by_role("button", name="Keuze opslaan").click()
    page.wait_for_url("**/privacy/settings?saved=1*")
    visitor.open()

    assert visitor.heard(FONTS) == FONTS
    assert [(method, [name for name, on in told.items() if on]) for _, method, told in visitor.recorded] == [
        ("embed.allow", ["spotify"]),
        ("settings.save", ["google-fonts"]),
    ]


def test_a_visitor_who_refused_and_has_no_script_of_ours_gets_the_content_by_a_new_load(
    visit: Callable[..., Visitor],
) -> None:
    visitor = visit(policy=STRICT)
    page = visitor.fresh()
    visitor.open()
    page.get_by_role("button", name="Weigeren", exact=True).click()
    page.locator("#consentkit").wait_for(state="detached")
    visitor.open()
    assert page.locator("script[data-wake]").count() == 0
    kept = page.context.cookies(HERE)

    visitor.click("x-embeds", "Eén keer laden")

    assert visitor.heard(HOSTS["x-embeds"]) == HOSTS["x-embeds"]
    assert page.context.cookies(HERE) == kept
    assert page.evaluate("broken") == []
    page.reload()
    visitor.arrived.clear()
    assert visitor.quiet() == set()
    page.go_back()
    assert visitor.quiet() == set()


SIZES = {"youtube": (560, 315), "spotify": (320, 152), "soundcloud": (200, 100)}


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_placeholder_is_readable_and_reachable_in_the_size_of_what_it_stands_for(
    visit: Callable[..., Visitor], scheme: str
) -> None:
    visitor = visit()
    page = visitor.fresh()
    page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
    visitor.open()
    page.evaluate("document.getElementById('consentkit').style.display = 'none'")

    for service, (width, height) in SIZES.items():
        box = page.locator(f"#{service}").bounding_box()
        assert box
        assert (round(box["width"]), round(box["height"])) in ((width, height), (width + 4, height + 4))
    for service in (*SIZES, "google-recaptcha"):
        inside = visitor.placeholder(service)
        seen = inside.locator(":root").evaluate(
            """root => ({
                wide: root.scrollWidth <= root.clientWidth,
                low: [...root.querySelectorAll('button, a')].map(one => one.offsetHeight).filter(high => high < 44),
                title: root.ownerDocument.defaultView.frameElement.title,
                form: root.innerText.includes('kun je dit formulier niet versturen'),
            })"""
        )
        named = {"youtube": "YouTube video player", "google-recaptcha": "Google reCAPTCHA is nog niet geladen"}
        assert seen["wide"], service
        assert seen["low"] == [], service
        assert seen["form"] is (service == "google-recaptcha")
        assert seen["title"] == named.get(service, service.replace("soundcloud", "SoundCloud").replace("sp", "Sp"))
        for name in ("Eén keer laden", "Altijd", "Cookie-instellingen"):
            control = inside.get_by_role("link" if name.startswith("Cookie") else "button", name=name)
            control.focus()
            outline = control.evaluate(
                "one => getComputedStyle(one).outlineStyle != 'none' && one.getBoundingClientRect().top >= 0 &&"
                " one.getBoundingClientRect().bottom <= innerHeight + 1"
            )
            assert outline, (service, name)
    handle = page.locator("#youtube").element_handle()
    inner = handle.content_frame()
    assert inner
    assert axe(inner) == []
