"""What scripts insert and fetch late, in a real browser with the vendors' own hosts: held, let through, never seen."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page
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

SITE = "http://www.school.test"
ANALYTICS, PIXEL, UNNAMED, STRANGER = BASES = (
    "https://www.google-analytics.com",
    "https://connect.facebook.net/signals",
    "https://static.hotjar.com",
    "https://cdn.stranger.example",
)
LATE = (Path(__file__).parent / "late.js").read_text("utf-8")
WRITTEN = """<script{nonce}>
  for (const base of bases) {
    try {
      const script = `<script async src="${base}/late/script.js"><\\/script>`;
      document.write(trusted(`<p>geschreven <img alt="" src="${base}/late/written">${script}`));
    } catch (error) {
      errors.push(`${error}`);
    }
  }
</script>"""
PAGE = f"""<!doctype html>
<html lang="nl"><head><meta charset="utf-8"><title>De Linde</title>
<script src="/late.js"{{nonce}}></script></head>
<body><h1>De Linde</h1>{WRITTEN}<script{{nonce}}>bases.forEach(base => late(base, base))</script></body></html>
"""
PLAIN = '<!doctype html><html lang="nl"><head><title>De Linde</title></head><body><h1>De Linde</h1></body></html>'
TYPED = (
    "default-src *; script-src 'nonce-n0nce' 'strict-dynamic'; style-src * 'nonce-n0nce'; base-uri 'none'; "
    "require-trusted-types-for 'script'; trusted-types site consentkit"
)
OWN_POLICY = """<script{nonce}>
  const same = text => text;
  window.policy = trustedTypes.createPolicy('site', { createHTML: same, createScriptURL: same });
</script><script src="/late.js"{nonce}></script>"""
MODES = {
    "private": {},
    "shared": {"html": "shared"},
    "strict policy": {
        "policy": TYPED,
        "page": PAGE.replace(WRITTEN, "").replace('<script src="/late.js"{nonce}></script>', OWN_POLICY),
    },
}
SCRIPTS = ["script.js", "ordered", "connected", "attribute", "nested"]
PICTURES = [
    "image", "imageset", "imageattribute", "imagemarkup", "imageouter", "imageadjacent", "imagefragment",
    "imageunsafe", "imageparsed", "imageshadow", "imagelent", "imageinside", "framewritten", "input", "svg", "poster",
    "node",
]  # fmt: skip
REQUESTS = ["fetch", "request", "fetchlent", "beacon", "events", "socket"]


@pytest.fixture(scope="module")
def arrived() -> Iterator[Trackers]:
    with trackers() as found:
        yield found


@pytest.fixture(scope="module")
def world(arrived: Trackers, launch: Callable[..., Browser]) -> Iterator[tuple[Browser, Door]]:
    with a_world(launch, arrived, [base.split("/")[2] for base in BASES]) as opened:
        yield opened


def host(policy: str, pages: dict[str, str]) -> Starlette:
    """The site: its pages and its one script."""

    async def page(request: Request) -> Response:
        headers = {"Content-Security-Policy": policy} if policy else {}
        return HTMLResponse(pages[request.url.path].replace("{nonce}", ' nonce="n0nce"'), headers=headers)

    async def script(request: Request) -> Response:
        return Response(f"window.bases = {list(BASES)};\n{LATE}", media_type="text/javascript")

    return Starlette(routes=[Route("/late.js", script), *(Route(path, page) for path in pages)])


class Visit:
    """A page in a profile of its own, and in which order it asked for what."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.asked: list[str] = []
        page.on("request", lambda request: self.asked.append(request.url))
        page.on("websocket", lambda socket: self.asked.append(socket.url.replace("wss:", "https:")))

    def late(self, base: str) -> list[str]:
        """What was asked of this host, in order."""
        start = f"{base}/late/"
        return [url.removeprefix(start) for url in self.asked if url.startswith(start)]

    def loads(self, base: str, names: set[str]) -> bool:
        """Whether these are asked of this host, and nothing else is; waits until they are."""
        deadline = time.monotonic() + 10
        while set(self.late(base)) != names and time.monotonic() < deadline:
            self.page.wait_for_timeout(50)
        return set(self.late(base)) == names

    def settle(self, milliseconds: int = 700) -> None:
        """Give what would leave the time to leave."""
        self.page.wait_for_load_state("domcontentloaded")
        self.page.wait_for_timeout(milliseconds)


@pytest.fixture
def visit(arrived: Trackers, world: tuple[Browser, Door], tmp_path: Path) -> Iterator[Callable[..., Visit]]:
    """Opens the page in a fresh profile."""
    browser, door = world
    kits: list[ConsentKit] = []

    def start(
        *,
        policy: str = "",
        page: str = PAGE,
        pages: dict[str, str] | None = None,
        without: str | None = None,
        **site: Any,
    ) -> Visit:
        resume_loop()
        services: dict[str, Any] = {"google-analytics": {}, "meta-pixel": {}}
        kits.append(ConsentKit(settings(tmp_path, services=services, base_url=SITE, **site)))
        door.app = kits[-1].wrap(host(policy, {"/": page, **(pages or {})}))
        context = browser.new_context(ignore_https_errors=True)
        context.set_default_timeout(10_000)
        context.add_init_script(
            "window.violations = []; document.addEventListener('securitypolicyviolation',"
            " event => violations.push(`${event.violatedDirective} ${event.blockedURI} ${event.sample}`))"
        )
        if without:
            context.route(without, lambda route: route.abort())
        arrived.clear()
        found = Visit(context.new_page())
        found.page.goto(SITE, wait_until="domcontentloaded")
        found.settle()
        return found

    yield start
    for context in browser.contexts:
        context.close()
    forget_loop()
    for kit in kits:
        kit.close()


def everything(visit: Visit) -> set[str]:
    """What a host is asked for if nothing is held back."""
    ways = set(visit.page.evaluate("everything"))
    return ways | {"written"} if visit.page.locator("text=geschreven").count() else ways


def in_order(asked: list[str], wanted: list[str]) -> list[str]:
    """Those that are wanted, in the order in which they were asked for."""
    return [name for name in asked if name in wanted]


@pytest.mark.checklist("GAT-01", "GAT-02")
@pytest.mark.parametrize("mode", MODES)
def test_before_a_choice_and_after_a_refusal_nothing_that_is_late_reaches_a_tracker(
    visit: Callable[..., Visit], arrived: Trackers, mode: str
) -> None:
    found = visit(**MODES[mode])
    page = found.page
    stranger = {STRANGER.partition("//")[2]}

    assert found.loads(STRANGER, everything(found))
    assert arrived.hosts == stranger
    assert page.evaluate("errors") == []
    assert page.evaluate("results")[ANALYTICS] == {"beacon": True, "events": "made", "socket": "made 0"}
    assert 1 <= sum("consentkit-hosts" in url for url in found.asked) <= 2

    page.get_by_role("button", name="Weigeren").click()
    until(page, f"results['{UNNAMED}'].fetch")
    found.settle()

    assert arrived.hosts == stranger
    refused = {
        "beacon": True, "events": "made", "socket": "made 0",
        "fetch": "TypeError", "fetchlent": "TypeError", "request": "error",
    }  # fmt: skip
    assert [page.evaluate("results")[base] for base in (ANALYTICS, PIXEL, UNNAMED)] == [refused] * 3
    assert page.evaluate("violations") == []

    arrived.clear()
    page.reload(wait_until="domcontentloaded")
    found.settle()

    assert arrived.hosts == stranger
    assert page.evaluate("results")[PIXEL] == refused
    assert page.evaluate("[errors, violations]") == [[], []]


@pytest.mark.checklist("GAT-03")
@pytest.mark.parametrize("mode", MODES)
def test_after_acceptance_all_that_waited_goes_on_in_its_order(
    visit: Callable[..., Visit], arrived: Trackers, mode: str
) -> None:
    found = visit(**MODES[mode])
    page = found.page

    page.get_by_role("button", name="Accepteren").click()
    for base in (ANALYTICS, PIXEL):
        until(page, f"['fetch', 'fetchlent', 'request'].every(one => results[{base!r}]?.[one])")
    found.settle(1500)

    for base in (ANALYTICS, PIXEL):
        assert found.loads(base, everything(found))
        asked = found.late(base)
        assert in_order(asked, SCRIPTS)[-4:] == SCRIPTS[1:]
        assert in_order(asked, PICTURES) == in_order(PICTURES, [*everything(found)])
        assert asked[-len(REQUESTS) :] == REQUESTS
        assert page.evaluate("results")[base] == {
            "beacon": True, "events": "made", "socket": "made 0",
            "fetch": "here", "fetchlent": "here", "request": "here",
        }  # fmt: skip
    assert {f"{base}/late/script" for base in (ANALYTICS, PIXEL)} <= set(page.evaluate("ran"))
    assert found.late(UNNAMED) == []
    assert page.locator("[data-consentkit-needs]:not([data-consentkit-needs='-'])").count() == 0
    assert page.evaluate("[errors, violations]") == [[], []]


def test_a_partial_grant_lets_through_its_own_and_no_other_here_and_on_the_next_page(
    visit: Callable[..., Visit], arrived: Trackers
) -> None:
    found = visit()
    page = found.page
    page.get_by_text("Zelf kiezen").click()
    page.locator("#consentkit input[value=marketing]").check()
    page.get_by_role("button", name="Keuze opslaan").click()
    found.settle(1500)

    granted = {PIXEL.split("/")[2], STRANGER.split("/")[2]}
    assert found.loads(PIXEL, everything(found))
    assert arrived.hosts == granted

    arrived.clear()
    found.asked.clear()
    page.reload(wait_until="domcontentloaded")
    found.settle()

    assert page.locator("script[src*=consentkit-guard]").get_attribute("data-granted") == "marketing"
    assert arrived.hosts == granted
    assert found.loads(PIXEL, everything(found))


@pytest.mark.parametrize(
    ("site", "page", "button", "sent"),
    [
        ({}, PAGE, "Accepteren", False),
        ({}, PAGE, "Weigeren", True),
        ({}, PLAIN, None, False),
        ({"html": "shared"}, PAGE, "Accepteren", True),
        ({"html": "shared"}, PLAIN, None, False),
    ],
    ids=["all granted", "refused", "no script", "shared", "shared, no script"],
)
def test_the_guard_is_sent_while_something_is_missing_and_the_page_has_a_script(
    visit: Callable[..., Visit], site: dict[str, Any], page: str, button: str | None, sent: bool
) -> None:
    found = visit(page=page, **site)
    if button:
        with found.page.expect_response("**/privacy/choice"):
            found.page.get_by_role("button", name=button).click()
        found.settle(0)

    answer = found.page.reload(wait_until="domcontentloaded")

    assert answer is not None
    assert ("consentkit-guard" in answer.text()) is sent


def test_strict_holds_every_stranger_without_asking_for_the_list(
    visit: Callable[..., Visit], arrived: Trackers
) -> None:
    found = visit(strict=True)

    assert arrived.requests == []
    assert not any("consentkit-hosts" in url for url in found.asked)

    found.page.get_by_role("button", name="Accepteren").click()
    found.settle(1500)

    assert arrived.hosts == {base.split("/")[2] for base in (ANALYTICS, PIXEL)}


def test_without_the_list_strangers_go_on_and_what_the_site_names_stays_held(
    visit: Callable[..., Visit], arrived: Trackers
) -> None:
    found = visit(without="**/consentkit-hosts.*")

    assert found.loads(STRANGER, everything(found))
    assert found.late(ANALYTICS) == found.late(PIXEL) == []
    assert found.page.evaluate("errors") == []


def test_what_is_held_looks_to_the_page_as_it_was_made(visit: Callable[..., Visit]) -> None:
    found = visit(page=PAGE.replace("bases.forEach", "[].forEach").replace(WRITTEN, ""))
    page = found.page

    seen = page.evaluate(
        """at => {
          const image = new Image();
          const [script, frame] = ['script', 'iframe'].map(name => document.createElement(name));
          image.src = at; image.srcset = at + ' 2x'; script.src = at; frame.src = at;
          script.onload = () => (window.woken = true);
          document.head.append(script);
          const before = [image.src, image.srcset, script.src, script.getAttribute('src'), frame.src, script.type];
          image.src = '/eigen.png'; image.removeAttribute('srcset'); image.srcset = '';
          frame.src = 'https://www.facebook.com/tr';
          window.script = script;
          const markup = frame.outerHTML;
          const native = String(fetch) + fetch.name + fetch.length;
          return [...before, image.src, image.outerHTML, markup, native];
        }""",
        f"{ANALYTICS}/a.js",
    )

    at = f"{ANALYTICS}/a.js"
    assert seen == [
        at, f"{at} 2x", at, at, at, "text/plain", f"{SITE}/eigen.png", '<img src="/eigen.png" srcset="">',
        '<iframe data-consentkit-src="https://www.facebook.com/tr" data-consentkit-needs="marketing"></iframe>',
        "function () { [native code] }fetch1",
    ]  # fmt: skip

    page.get_by_role("button", name="Accepteren").click()
    until(page, "window.woken")
    assert page.evaluate("script.isConnected && script.outerHTML") == f'<script src="{at}" type=""></script>'


QUIET = PAGE.replace("bases.forEach", "[].forEach").replace(WRITTEN, "")


def test_no_markup_of_the_page_can_switch_the_guard_off(visit: Callable[..., Visit], arrived: Trackers) -> None:
    named = '<img alt="" name="consentkit" id="consentkit-a">'
    found = visit(page=QUIET.replace('<script src="/late.js"', named + '<script src="/late.js"', 1))

    found.page.evaluate("at => { new Image().src = at; fetch(at).catch(() => 0) }", f"{ANALYTICS}/late/image")
    found.settle()

    assert arrived.requests == []
    assert found.page.evaluate("document.consentkit.localName") == "img"
    assert found.page.evaluate("Object.keys(window).filter(name => /consent/i.test(name))") == []


def test_a_connection_that_waits_behaves_as_one_that_is_being_made(visit: Callable[..., Visit]) -> None:
    found = visit(page=QUIET)

    seen = found.page.evaluate(
        """at => [WebSocket, EventSource].flatMap(kind => {
          const url = kind == WebSocket ? at.replace('https', 'wss') : at;
          const one = new kind(url);
          one.onopen = one.onerror = null;
          one.own = 'kept';
          one.addEventListener('error', () => {});
          return [
            one instanceof kind, one instanceof EventTarget, `${one}`, one + '',
            Object.prototype.toString.call(one), one.url == url, one.CONNECTING, one.readyState, one.own,
            'onmessage' in one, one[Symbol('any')] ?? null, one.onmessage ?? null, JSON.stringify(one).length > 1,
            one.protocol ?? '', one.bufferedAmount ?? 0, one.withCredentials ?? false,
          ];
        })""",
        f"{ANALYTICS}/late/x",
    )

    assert seen == [
        value
        for name in ("WebSocket", "EventSource")
        for value in (
            True, True, f"[object {name}]", f"[object {name}]", f"[object {name}]", True, 0, 0, "kept",
            True, None, None, True, "", 0, False,
        )
    ]  # fmt: skip


def test_what_the_page_takes_back_stays_away_after_the_grant(visit: Callable[..., Visit]) -> None:
    found = visit(page=QUIET)
    page = found.page

    seen = page.evaluate(
        """at => {
          const namespace = 'http://www.w3.org/1999/xlink';
          const image = new Image();
          image.src = at + '1'; image.removeAttribute('src');
          const drawn = document.createElementNS('http://www.w3.org/2000/svg', 'image');
          drawn.setAttributeNS(namespace, 'xlink:href', at + '2');
          drawn.removeAttributeNS(namespace, 'href');
          const request = new XMLHttpRequest();
          window.heard = [];
          for (const name of ['readystatechange', 'abort', 'error', 'load', 'loadend']) {
            request.addEventListener(name, () => heard.push(`${name} ${request.readyState}`));
          }
          request.open('GET', at + '3'); request.send(); request.abort();
          const again = new XMLHttpRequest();
          again.open('GET', at + '4'); again.send();
          again.open('GET', '/late.js'); again.send();
          document.body.append(image, drawn);
          return [image.outerHTML, image.src, drawn.outerHTML, request.readyState];
        }""",
        f"{ANALYTICS}/late/",
    )
    native = page.evaluate(
        """() => {
          const request = new XMLHttpRequest();
          const heard = [];
          for (const name of ['readystatechange', 'abort', 'error', 'load', 'loadend']) {
            request.addEventListener(name, () => heard.push(`${name} ${request.readyState}`));
          }
          request.open('GET', '/late.js'); request.send(); request.abort();
          return [heard, request.readyState];
        }"""
    )

    assert seen == ["<img>", "", "<image></image>", 0]
    assert [page.evaluate("heard"), 0] == native
    assert native[0] == ["readystatechange 1", "readystatechange 4", "abort 4", "loadend 4"]

    page.get_by_role("button", name="Accepteren").click()
    found.settle()

    assert found.late(ANALYTICS) == []
    assert [page.evaluate("heard"), 0] == native


def test_what_does_not_load_keeps_what_it_is_given(visit: Callable[..., Visit], arrived: Trackers) -> None:
    found = visit(page=QUIET)

    seen = found.page.evaluate(
        """at => {
          window.changed = [];
          customElements.define('own-player', class extends HTMLElement {
            static observedAttributes = ['src', 'poster'];
            attributeChangedCallback(name, _, value) { changed.push([name, value]); }
            get src() { return this.getAttribute('src'); }
          });
          const made = ['own-player', 'div', 'td', 'object'].map(name => document.createElement(name));
          const [player, box, cell, thing] = made;
          for (const name of ['src', 'poster']) player.setAttribute(name, at);
          const names = 'src srcset data background ping poster srcdoc href'.split(' ');
          for (const name of names) box.setAttribute(name, at);
          cell.setAttribute('background', at);
          thing.setAttribute('data', at);
          document.body.append(player, box);
          return [
            player.src, player.getAttribute('src'), changed, [...box.attributes].every(one => one.value == at),
            box.hasAttribute('data-consentkit-needs'), cell.hasAttribute('background'), thing.hasAttribute('data'),
          ];
        }""",
        f"{ANALYTICS}/late/x",
    )

    at = f"{ANALYTICS}/late/x"
    assert seen == [at, at, [["src", at], ["poster", at]], True, False, False, False]
    assert arrived.requests == []


INNER = """<!doctype html><html lang="nl"><head><title>Binnen</title></head><body><h1>Binnen</h1>
<script>window.inner = [typeof fetch, document.title];
window.onmessage = event => parent.postMessage('terug ' + event.data, '*')</script></body></html>"""


def test_frames_work_as_ever_whoever_reaches_into_them(visit: Callable[..., Visit], arrived: Trackers) -> None:
    """Empty, from elsewhere, with a page of the site, with `srcdoc`, and not in a page at all."""
    found = visit(page=QUIET, pages={"/binnen/pagina": INNER, "/binnen/late": PLAIN})
    page = found.page

    seen = page.evaluate(
        """async at => {
          const frame = values => Object.assign(document.createElement('iframe'), { title: 'Vak', ...values });
          const loaded = one => new Promise(done => one.addEventListener('load', done));
          const loose = frame();
          const all = [frame(), frame({ src: at }), frame({ src: '/binnen/pagina' }), frame({ srcdoc: '<p>tekst' })];
          const [empty, far, own, written] = all;
          const waits = all.map(loaded);
          document.body.append(...all);
          const said = [];
          // Before it has loaded, as many a script does.
          own.contentWindow.early = true;
          said.push(loose.contentWindow, loose.contentDocument);
          await Promise.all(waits);
          while (far.contentDocument) await new Promise(done => setTimeout(done, 20));
          said.push(all.every((one, at) => one.contentWindow === frames[at]));
          said.push(empty.contentDocument === empty.contentWindow.document);
          said.push(empty.contentDocument.defaultView === frames[0]);
          said.push(far.contentDocument, typeof far.contentWindow.postMessage);
          try { far.contentWindow.document; said.push('open') } catch (error) { said.push(error.name) }
          said.push(own.contentWindow.inner.join(), own.contentDocument.URL.endsWith('/binnen/pagina'));
          const answer = new Promise(done => addEventListener('message', event => done(event.data)));
          own.contentWindow.postMessage('heen', '*');
          said.push(await answer);
          said.push(new URL((await own.contentWindow.fetch('late')).url).pathname);
          said.push(written.contentDocument.body.textContent);
          // Clean copies of what the page has, as core-js takes them; a tree drawn in a frame, as React does.
          const { Array: Clean, XMLHttpRequest: Request, fetch: clean } = empty.contentWindow;
          said.push(Clean !== Array, new Request() instanceof Request, Request !== XMLHttpRequest);
          said.push(`${clean}`.includes('native'));
          const root = empty.contentDocument.body.appendChild(document.createElement('div'));
          root.innerHTML = '<p class="a">Portaal <img alt="" src="/late.js"></p>';
          said.push(root.ownerDocument === empty.contentDocument, root.querySelector('img').src.endsWith('/late.js'));
          const style = empty.contentDocument.createElement('style');
          style.textContent = '.a { color: rgb(1, 2, 3) }';
          empty.contentDocument.head.append(style);
          said.push(empty.contentWindow.getComputedStyle(root.firstChild).color);
          // As jQuery asks for a tag's own display, and old plugins fill their frame.
          const page = (empty.contentWindow || empty.contentDocument).document;
          page.open(); page.write('<!doctype html><title>Nieuw</title><body>geschreven'); page.close();
          said.push(empty.contentDocument.title, empty.contentDocument.body.textContent);
          empty.remove();
          said.push(empty.contentWindow, empty.contentDocument);
          return said;
        }""",
        f"{STRANGER}/late/page",
    )

    assert seen == [
        None, None, True, True, True, None, "function", "SecurityError", "function,Binnen", True, "terug heen",
        "/binnen/late", "tekst", True, True, True, True, True, True, "rgb(1, 2, 3)", "Nieuw", "geschreven", None, None,
    ]  # fmt: skip
    assert page.evaluate("[errors, violations]") == [[], []]


FRAGMENT = f"""<section id="deel"><h2>Nieuw</h2><img alt="" src="{ANALYTICS}/late/image">
<script src="{ANALYTICS}/late/script.js"></script><script>(window.ran ||= []).push('{ANALYTICS}')</script>
<style>h2 {{ background: url({ANALYTICS}/late/style) }}</style></section>"""


@pytest.mark.parametrize("html", ["private", "shared"])
def test_a_fragment_that_was_gated_before_the_choice_wakes_when_it_comes_in_after(
    visit: Callable[..., Visit], html: str
) -> None:
    """As htmx swaps: parsed apart, scripts in it made anew, put in the place of another element."""
    found = visit(page=PLAIN.replace("</h1>", '</h1><div id="plek"></div>'), pages={"/deel": FRAGMENT}, html=html)
    page = found.page
    page.evaluate(
        """async () => { window.deel = await (await fetch('/deel', { headers: { 'HX-Request': 'true' } })).text() }"""
    )
    assert page.evaluate("deel").count("data-consentkit-needs") == 4
    page.get_by_role("button", name="Accepteren").click()
    page.locator("#consentkit").wait_for(state="detached")

    page.evaluate("document.getElementById('plek').innerHTML = deel")

    until(page, f"window.ran?.includes('{ANALYTICS}')")
    found.settle()
    assert found.loads(ANALYTICS, {"image", "script.js", "style"})
    assert page.locator("[data-consentkit-needs]").count() == 0


def test_a_swap_of_the_body_keeps_the_question_and_what_waits(visit: Callable[..., Visit], arrived: Trackers) -> None:
    """As Turbo does it: another body in the place of the old, the document and its scripts stay."""
    found = visit(page=PAGE.replace("bases.forEach", "bases.slice(0, 1).forEach").replace(WRITTEN, ""))
    page = found.page
    page.evaluate(
        """() => {
          const other = new DOMParser().parseFromString('<h1>Verder</h1>', 'text/html');
          document.body.replaceWith(document.adoptNode(other.body));
          late(bases[0], 'again');
        }"""
    )
    assert page.locator("#consentkit").is_visible()
    assert arrived.requests == []

    page.get_by_role("button", name="Accepteren").click()
    found.settle(1500)

    assert page.locator("h1").text_content() == "Verder"
    assert found.late(ANALYTICS).count("beacon") == 2


def test_the_guard_reads_its_hosts_as_the_gate_does(visit: Callable[..., Visit]) -> None:
    """Every way to write a host, and paths that tell services apart."""
    found = visit(page=PAGE.replace("bases.forEach", "[].forEach").replace(WRITTEN, ""))

    needs = found.page.evaluate(
        """urls => urls.map(url => {
          const image = new Image();
          image.src = url;
          return image.getAttribute('data-consentkit-needs');
        })""",
        list(URLS),
    )

    assert dict(zip(URLS, needs, strict=True)) == URLS


URLS = {
    "//WWW.Google-Analytics.com/collect": "analytics",
    "https:\\\\www.google-analytics.com/x": "analytics",
    "https://user@ssl.google-analytics.com.:8443/ga.js": "analytics",
    "https://www.google-analytics%2ecom/": "analytics",
    " https://www.google-ana\nlytics.com/": "analytics",
    "https://www.googletagmanager.com/gtag/js?id=G-1": "analytics",
    "https://www.googletagmanager.com/gtag/js?l=x&id=AW-1": "-",
    "https://www.googletagmanager.com/gtm.js?id=GTM-1": "-",
    "https://www.facebook.com/tr": "marketing",
    "https://www.facebook.com/tr/?id=1": "marketing",
    "https://www.facebook.com/TR?id=1": "marketing",
    "https://www.facebook.com/%74r?id=1": "marketing",
    "https://www.facebook.com/travel": "-",
    "https://sub.www.school.test/logo.png": None,
    "/logo.png": None,
    "data:image/gif;base64,R0lGODlhAQABAAAAACw=": None,
    "https://": None,
}
