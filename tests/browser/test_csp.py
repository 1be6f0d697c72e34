"""The policy of ours in a real Chromium: what is the app's own runs, what nobody declared is blocked and told on."""

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
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket

from consentkit import ConsentKit
from tests.browser.trackers import Trackers, trackers
from tests.browser.world import SITE, Door, a_world
from tests.browser_fixtures import forget_loop, resume_loop
from tests.front.harness import until
from tests.journeys.school import settings

pytestmark = [pytest.mark.browser, pytest.mark.timeout(120)]

KINDS = ("script", "img", "connect", "frame", "font", "style", "media")
DIRECTIVES = {"script": "script-src-elem", "style": "style-src-elem"}
OWN = """<!doctype html><html lang="nl"><head><meta charset="utf-8"><title>De Linde</title>
<style>h1 { background: url(data:image/gif;base64,R0lGODlhAQABAAAAACw=) }</style>
<script src="/own.js"></script></head>
<body><h1 style="color: red">De Linde</h1>
<button id="knop" onclick="did.handler = true">Knop</button>
<img id="data" src="data:image/gif;base64,R0lGODlhAQABAIAAAAAAAP///yH5BAEAAAAALAAAAAABAAEAAAIBRAA7" alt="">
<img id="sub" src="http://beeld.school.test/pixel.gif" alt="">
<iframe srcdoc="<script>parent.did.srcdoc = true</script>" title="Eigen"></iframe>
<script>
  did.inline = true;
  did.eval = eval('1 + 1') == 2 && new Function('return true')();
  did.wasm = !!new WebAssembly.Module(new Uint8Array([0, 97, 115, 109, 1, 0, 0, 0]));
  knop.click();
  const made = new Worker(URL.createObjectURL(new Blob(["postMessage('hier')"])));
  made.onmessage = () => { did.worker = true };
  fetch('/own.js').then(answer => answer.text()).then(() => { did.fetch = true });
  const socket = new WebSocket(`ws://${location.host}/ws`);
  socket.onmessage = () => { did.socket = true };
</script></body></html>
"""
OWN_JS = "window.did = { file: true };"
EVERYTHING = {"file", "handler", "inline", "eval", "wasm", "worker", "fetch", "socket", "srcdoc"}
SPIES = """
const put = (name, values) => document.body.append(Object.assign(document.createElement(name), values));
put('script', { src: 'https://script.spy.test/a.js' });
put('img', { src: 'https://img.spy.test/a.gif' });
put('iframe', { src: 'https://frame.spy.test/' });
put('link', { rel: 'stylesheet', href: 'https://style.spy.test/a.css' });
put('audio', { src: 'https://media.spy.test/a.mp3', preload: 'auto' });
fetch('https://connect.spy.test/').catch(() => 0);
new FontFace('Spy', 'url(https://font.spy.test/a.woff2)').load().catch(() => 0);
"""
TAG = """
const tag = document.createElement('script');
tag.src = 'https://www.googletagmanager.com/gtag/js?id=G-DELINDE';
document.head.append(tag);
"""
WATCH = """
window.violations = [];
document.addEventListener('securitypolicyviolation', event => violations.push(
  [event.effectiveDirective, event.blockedURI.split('/')[2] ?? event.blockedURI, event.disposition].join(' ')));
"""
STRICT = (
    "script-src 'nonce-n0nce' 'strict-dynamic'; object-src 'none'; base-uri 'none'; require-trusted-types-for 'script'"
)
STRICT_PAGE = """<!doctype html><html lang="nl"><head><title>De Linde</title>
<script nonce="n0nce">
  window.did = {};
  const own = trustedTypes.createPolicy('own', { createScriptURL: url => url });
  const more = document.createElement('script');
  more.src = own.createScriptURL('/own.js');
  document.head.append(more);
</script>
<script nonce="n0nce" src="https://www.googletagmanager.com/gtag/js?id=G-DELINDE"></script>
{extra}</head><body><h1>De Linde</h1></body></html>
"""


@pytest.fixture(scope="module")
def arrived() -> Iterator[Trackers]:
    with trackers() as found:
        yield found


@pytest.fixture(scope="module")
def world(arrived: Trackers, launch: Callable[..., Browser]) -> Iterator[tuple[Browser, Door]]:
    with a_world(launch, arrived, ["*"], names=(SITE, "beeld.school.test")) as opened:
        yield opened


def school(page: str, scripts: dict[str, str], headers: dict[str, str], asked: list[str]) -> Starlette:
    async def show(request: Request) -> Response:
        asked.append(request.headers.get("if-none-match", ""))
        if headers.get("ETag") and headers["ETag"] in asked[-1]:
            return Response(status_code=304, headers=headers)
        return HTMLResponse(page, headers=headers)

    async def script(request: Request) -> Response:
        return Response(scripts.get(request.path_params["name"], ""), media_type="text/javascript")

    async def picture(request: Request) -> Response:
        return Response("<svg xmlns='http://www.w3.org/2000/svg' width='1' height='1'/>", media_type="image/svg+xml")

    async def socket(websocket: WebSocket) -> None:
        await websocket.accept()
        await websocket.send_text("hier")
        await websocket.close()

    return Starlette(
        routes=[
            Route("/", show),
            Route("/pixel.gif", picture),
            WebSocketRoute("/ws", socket),
            Route("/{name}", script),
        ]
    )


class Visit:
    """An open page, its kit, and what browsers reported."""

    def __init__(self, page: Page, kit: ConsentKit, asked: list[str]) -> None:
        self.page = page
        self.asked = asked
        self.reported: set[tuple[str, str]] = set()
        kit.sites[0].flow.seen.note = self._note  # type: ignore[method-assign]

    def _note(self, kind: str, name: str, where: str = "") -> None:
        if where.startswith("csp:"):
            self.reported.add((name, where.removeprefix("csp:")))

    def go(self) -> None:
        self.page.goto("http://www.school.test/")

    def reports(self, expected: set[tuple[str, str]]) -> None:
        deadline = time.monotonic() + 5
        while self.reported < expected and time.monotonic() < deadline:
            self.page.wait_for_timeout(50)
        assert self.reported == expected

    @property
    def violations(self) -> set[str]:
        return set(self.page.evaluate("violations"))


@pytest.fixture
def visit(world: tuple[Browser, Door], arrived: Trackers, tmp_path: Path) -> Iterator[Callable[..., Visit]]:
    browser, door = world
    kits: list[ConsentKit] = []

    def start(shown: str = OWN, *, js: dict[str, str] | None = None, headers: Any = None, **site: Any) -> Visit:
        resume_loop()
        made = {"base_url": "http://www.school.test", "services": {"google-analytics": {}}, "csp": "enforce", **site}
        kits.append(ConsentKit(settings(tmp_path, **made)))
        asked: list[str] = []
        door.app = kits[-1].wrap(school(shown, {"own.js": OWN_JS, **(js or {})}, headers or {}, asked))
        page = browser.new_context(ignore_https_errors=True).new_page()
        page.set_default_timeout(10_000)
        page.add_init_script(WATCH)
        arrived.clear()
        return Visit(page, kits[-1], asked)

    yield start
    for context in browser.contexts:
        context.close()
    forget_loop()
    for kit in kits:
        kit.close()


def names(arrived: Trackers) -> set[str]:
    return {host for host in arrived.hosts if host.endswith(".spy.test")}


@pytest.mark.parametrize("mode", ["enforce", "report"])
def test_the_apps_own_code_works_and_an_undeclared_host_is_blocked_in_every_way_and_told_on(
    visit: Callable[..., Visit], arrived: Trackers, mode: str
) -> None:
    here = visit(csp=mode)
    here.go()
    until(here.page, f"Object.keys(did).length == {len(EVERYTHING)}")
    until(here.page, "document.querySelector('#data').naturalWidth && document.querySelector('#sub').complete")

    assert set(here.page.evaluate("Object.keys(did)")) == EVERYTHING
    assert here.page.evaluate("document.querySelector('#sub').naturalWidth") > 0
    assert here.violations == set()

    here.page.evaluate(SPIES)
    until(here.page, "violations.length >= 7")

    told = {(f"{kind}.spy.test", DIRECTIVES.get(kind, f"{kind}-src")) for kind in KINDS}
    assert here.violations == {f"{directive} {host} {mode}" for host, directive in told}
    here.reports(told)
    wanted = set() if mode == "enforce" else {host for host, _ in told}
    deadline = time.monotonic() + 10
    while names(arrived) < wanted and time.monotonic() < deadline:
        here.page.wait_for_timeout(50)
    assert names(arrived) == wanted


@pytest.mark.checklist("GAT-03")
@pytest.mark.parametrize("guarded", [True, False], ids=["guard", "policy alone"])
def test_a_tag_that_an_own_script_inserts_waits_for_consent_and_loads_after_it(
    visit: Callable[..., Visit], arrived: Trackers, guarded: bool
) -> None:
    html = OWN.replace("</body>", '<script src="/tag.js"></script></body>')
    here = visit(html, js={"tag.js": TAG})
    if not guarded:
        here.page.route("**/consentkit-guard*.js", lambda route: route.abort())
    here.go()
    until(here.page, "did.socket")
    here.page.wait_for_timeout(300)
    before = here.violations

    assert arrived.requests == []
    assert before == (set() if guarded else {"script-src-elem www.googletagmanager.com enforce"})

    here.page.evaluate("window.sameDocument = true")
    with here.page.expect_navigation():
        here.page.get_by_role("button", name="Accepteren").click()
    until(here.page, "!window.sameDocument && window.gtagRan == 1")
    here.page.wait_for_timeout(300)

    assert {"www.googletagmanager.com", "www.google-analytics.com"} == arrived.hosts
    assert here.violations == set()
    assert here.page.locator("#consentkit").count() == 0


def test_refusing_loads_nothing_again(visit: Callable[..., Visit]) -> None:
    here = visit()
    here.go()
    here.page.evaluate("window.sameDocument = true")
    here.page.get_by_role("button", name="Weigeren").click()
    here.page.get_by_role("status").wait_for()

    assert here.page.evaluate("sameDocument") is True


@pytest.mark.checklist("SEC-01")
@pytest.mark.parametrize("html", ["private", "shared"])
def test_beside_a_strict_policy_with_trusted_types_there_is_no_violation(
    visit: Callable[..., Visit], arrived: Trackers, html: str
) -> None:
    here = visit(STRICT_PAGE.replace("{extra}", ""), headers={"Content-Security-Policy": STRICT}, html=html)
    here.go()
    until(here.page, "window.did?.file")
    assert (here.violations, arrived.requests) == (set(), [])

    with here.page.expect_response("**/privacy/choice"):
        here.page.get_by_role("button", name="Accepteren").click()
    if html == "private":
        here.page.wait_for_event("load")
    until(here.page, "window.gtagRan == 1 && !document.querySelector('#consentkit:not([hidden])')")

    assert here.violations == set()
    assert here.reported == set()


def test_the_apps_nonce_opens_no_undeclared_host(visit: Callable[..., Visit], arrived: Trackers) -> None:
    spy = '<script nonce="n0nce" src="https://script.spy.test/a.js"></script>'
    here = visit(STRICT_PAGE.replace("{extra}", spy), headers={"Content-Security-Policy": STRICT})
    here.go()
    until(here.page, "window.did?.file && violations.length")

    assert here.violations == {"script-src-elem script.spy.test enforce"}
    assert names(arrived) == set()


@pytest.mark.checklist("GAT-15")
def test_a_page_that_did_not_change_keeps_our_policy(visit: Callable[..., Visit], arrived: Trackers) -> None:
    here = visit(headers={"Content-Security-Policy": "img-src * data:", "ETag": '"v1"', "Cache-Control": "no-cache"})
    here.go()
    with here.page.expect_response("**/privacy/choice"):
        here.page.get_by_role("button", name="Weigeren").click()
    for _ in range(2):
        here.go()
        until(here.page, "did.socket")

    assert '"v1"' in here.asked[-1]
    here.page.evaluate(SPIES)
    until(here.page, "violations.length >= 7")
    assert names(arrived) == set()


def test_what_is_let_in_once_loads_once(visit: Callable[..., Visit], arrived: Trackers) -> None:
    film = '<iframe src="https://www.youtube.com/embed/abc" title="Film"></iframe></body>'
    here = visit(OWN.replace("</body>", film), services={"youtube": {}})
    here.go()
    with here.page.expect_navigation():
        here.page.frame_locator('iframe[title="Film"]').get_by_role("button", name="Eén keer laden").click()
    video = here.page.frame_locator('iframe[title="Film"]').locator("h1")
    video.filter(has_text="video").wait_for()

    assert here.violations == set()
    arrived.clear()
    here.go()
    until(here.page, "did.socket")
    assert arrived.requests == []
