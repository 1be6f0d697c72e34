"""The banner in a real Chromium, beside the banners of others: size, speed, and what each survives.

    python -m benchmarks.front

Every tool asks about the same three services on the same page with a slow image, served on loopback and compressed
the same way. The peers come from npm, at the versions in `package.json`, into `.dev/peers`. No request can leave the
machine; what would have left is counted. c15t is not here: it ships modules for a bundler, and what is measured would
be the bundler's work as much as its own.
"""

from __future__ import annotations

import asyncio
import gzip
import json
import os
import re
import shutil
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any
from urllib.parse import urlsplit

import brotli
import uvicorn
from playwright.sync_api import Browser, Error, Page, Response, sync_playwright
from starlette.applications import Starlette
from starlette.middleware.gzip import GZipMiddleware
from starlette.requests import Request
from starlette.responses import HTMLResponse
from starlette.responses import Response as HTTPResponse
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from consentkit import ConsentKit, Settings

Row = tuple[str, float, str, bool | None]

CHROMIUM = os.environ.get("CONSENTKIT_CHROMIUM", "/usr/bin/chromium")
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-blink-features=AutomationControlled",  # one of the peers shows nothing to a browser that is driven
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
]
HERE = Path(__file__).parent
PEERS = HERE.parent / ".dev" / "peers"

ROUNDS = 3
PATIENCE = 9_000  # milliseconds that a banner gets to appear
SETTLED = 400  # milliseconds after which what has not come does not come
SLOW_IMAGE = 2.0  # seconds before its first byte
CPU_SLOWER = 4
BYTES_A_SECOND = 200_000  # 1.6 Mb/s
LATENCY = 150  # milliseconds

NONCE = "ckbench5f0e8c2d"
STRICT = (
    f"default-src 'self'; script-src 'nonce-{NONCE}' 'strict-dynamic'; style-src 'self' 'nonce-{NONCE}'; "
    "img-src 'self' data:; object-src 'none'; base-uri 'none'"
)
POLICIES = {"": "", "strict": STRICT, "trusted": f"{STRICT}; require-trusted-types-for 'script'"}

_TEXT = "<p>De klas ging op pad, zag van alles en schreef er een verhaal over. Lees verder bij groep 6.</p>"
_PIXEL = bytes.fromhex("47494638396101000100800000ffffff00000021f90400000000002c00000000010001000002024401003b")


# -- the tools --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Tool:
    """A consent tool as its documentation says to install it, with Google Analytics, YouTube and Google Maps.

    `files` maps a URL path to a file under `node_modules`; `tags` go at the end of the head (`N` stands for the nonce
    attribute); `banner` and `refuse` are selectors.
    """

    name: str
    package: str
    banner: str
    refuse: str
    tags: str = ""


VANILLA = """
<link rel="stylesheet" href="/peers/vanilla-cookieconsent/dist/cookieconsent.css" N>
<script defer src="/peers/vanilla-cookieconsent/dist/cookieconsent.umd.js" N></script>
<script N>addEventListener('DOMContentLoaded', () => CookieConsent.run({
  categories: {necessary: {enabled: true, readOnly: true}, analytics: {}, youtube: {}, maps: {}},
  language: {default: 'nl', translations: {nl: {
    consentModal: {title: 'Mogen we cookies gebruiken?', description: 'De school vraagt je toestemming voor cookies.',
      acceptAllBtn: 'Accepteren', acceptNecessaryBtn: 'Weigeren', showPreferencesBtn: 'Zelf kiezen'},
    preferencesModal: {title: 'Zelf kiezen', acceptAllBtn: 'Accepteren', acceptNecessaryBtn: 'Weigeren',
      savePreferencesBtn: 'Opslaan', closeIconLabel: 'Sluiten', sections: [
      {title: 'Bezoek meten', description: 'Google Analytics telt bezoeken.', linkedCategory: 'analytics'},
      {title: 'YouTube', description: 'Toont video\\'s.', linkedCategory: 'youtube'},
      {title: 'Google Maps', description: 'Toont een kaart.', linkedCategory: 'maps'}]}}}}}))</script>
<script type="text/plain" data-category="analytics" data-src="https://www.googletagmanager.com/gtag/js?id=G-1"></script>
"""

KLARO = """
<script N>window.klaroConfig = {lang: 'nl', acceptAll: true, privacyPolicy: '/privacy',
  translations: {nl: {consentNotice: {description: 'De school vraagt je toestemming voor cookies.'},
    purposes: {analytics: {title: 'Bezoek meten'}, embeds: {title: 'Video en kaart'}}}},
  services: [{name: 'google-analytics', purposes: ['analytics'], cookies: [/^_ga/]},
    {name: 'youtube', purposes: ['embeds']}, {name: 'google-maps', purposes: ['embeds']}]}</script>
<script defer data-config="klaroConfig" src="/peers/klaro/dist/klaro.js" N></script>
<script type="text/plain" data-type="application/javascript" data-name="google-analytics"
  data-src="https://www.googletagmanager.com/gtag/js?id=G-1"></script>
"""

TARTEAUCITRON = """
<script src="/peers/tarteaucitronjs/tarteaucitron.min.js" N></script>
<script N>var tarteaucitronForceLanguage = 'nl';
tarteaucitron.init({privacyUrl: '', bodyPosition: 'top', hashtag: '#tarteaucitron', cookieName: 'tarteaucitron',
  orientation: 'middle', groupServices: false, showDetailsOnClick: true, serviceDefaultState: 'wait',
  showAlertSmall: false, cookieslist: false, showIcon: true, iconPosition: 'BottomRight', adblocker: false,
  DenyAllCta: true, AcceptAllCta: true, highPrivacy: true, alwaysNeedConsent: false, handleBrowserDNTRequest: false,
  removeCredit: false, moreInfoLink: true, useExternalCss: false, useExternalJs: false, readmoreLink: '',
  mandatory: true, mandatoryCta: false, googleConsentMode: true, bingConsentMode: true, partnersList: true});
tarteaucitron.user.gtagUa = 'G-1';
(tarteaucitron.job = tarteaucitron.job || []).push('gtag', 'youtube', 'googlemaps');</script>
"""

OSANO = """
<link rel="stylesheet" href="/peers/cookieconsent/build/cookieconsent.min.css" N>
<script defer src="/peers/cookieconsent/build/cookieconsent.min.js" N></script>
<script N>addEventListener('DOMContentLoaded', () => cookieconsent.initialise({type: 'opt-in',
  palette: {popup: {background: '#ffffff', text: '#1b1b1b'}, button: {background: '#1b1b1b'}},
  content: {message: 'De school vraagt je toestemming voor cookies.', allow: 'Accepteren', deny: 'Weigeren',
    link: 'Meer', href: '/privacy'}}))</script>
"""

OURS = Tool("consentkit", "", "#consentkit", "#consentkit .consentkit-answer button[value=refuse]")
TOOLS = (
    OURS,
    Tool("vanilla-cookieconsent", "vanilla-cookieconsent", "#cc-main .cm", "#cc-main [data-role=necessary]", VANILLA),
    Tool("Klaro", "klaro", ".klaro .cookie-notice, .klaro .cookie-modal", ".klaro .cn-decline", KLARO),
    Tool("tarteaucitron", "tarteaucitronjs", "#tarteaucitronAlertBig", "#tarteaucitronAllDenied2", TARTEAUCITRON),
    Tool("Osano", "cookieconsent", ".cc-window", ".cc-window .cc-deny", OSANO),
)

ANALYTICS = """<script async src="https://www.googletagmanager.com/gtag/js?id=G-1" N></script>
<script N>window.dataLayer = window.dataLayer || []; function gtag(){dataLayer.push(arguments);}
gtag('js', new Date()); gtag('config', 'G-1');</script>"""


# -- the site ---------------------------------------------------------------------------------------------------------


def page(tool: Tool, *, whole: bool) -> str:
    """The school's page with what a tool adds to it.

    `whole` gives the slow image, and on ours Google Analytics as the vendor gives it; without it the page is quick.
    """
    tags = tool.tags or (ANALYTICS if whole else "")
    image = "slow" if whole else "quick"
    return f"""<!doctype html>
<html lang="nl"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>De Linde</title><link rel="icon" href="data:,"><link rel="stylesheet" href="/site.css" N>
{tags}</head>
<body><header><h1>Basisschool De Linde</h1></header>
<main><img src="/{image}.gif" width="640" height="240" alt="Het schoolplein">{_TEXT * 12}</main>
</body></html>""".replace(" N>", f' nonce="{NONCE}">')


def site(tool: Tool, kit: ConsentKit | None) -> Any:
    """The site as an ASGI app: a page, a stylesheet, a slow image, the peers' files; compressed as a proxy would."""

    async def show(request: Request) -> HTTPResponse:
        policy = POLICIES[request.query_params.get("policy", "")]
        html = page(tool, whole=request.url.path == "/")
        return HTMLResponse(html, headers={"Content-Security-Policy": policy} if policy else {})

    async def style(request: Request) -> HTTPResponse:
        return HTTPResponse("body{font:16px/1.5 sans-serif;margin:0 auto;max-width:40rem}", media_type="text/css")

    async def image(request: Request) -> HTTPResponse:
        await asyncio.sleep(SLOW_IMAGE if request.path_params["pace"] == "slow" else 0)
        return HTTPResponse(_PIXEL, media_type="image/gif")

    routes: list[Any] = [Route("/", show), Route("/plain", show), Route("/site.css", style)]
    routes.append(Route("/{pace}.gif", image))
    if tool.package:
        routes.append(Mount("/peers", StaticFiles(directory=PEERS / "node_modules")))
    app: Any = Starlette(routes=routes)
    return GZipMiddleware(kit.wrap(app) if kit else app, minimum_size=200)


def settings(folder: Path) -> Settings:
    """The school's settings: what a visitor is asked about."""
    return Settings(
        site={
            "name": "Basisschool De Linde",
            "base_url": "http://127.0.0.1",
            "privacy_statement": "/privacyverklaring",
            "controller": {"name": "Stichting De Linde", "address": "Lindelaan 1", "email": "privacy@delinde.example"},
        },
        services={"google-analytics": {}, "youtube": {}, "google-maps": {}},
        secret_keys=["k8Jq2vX0Zr5Tn1Lw7Yb3Pd6Gc9Sf4HmA"],
        folder=folder,
        source="benchmark",
    )


@contextmanager
def served(app: Any) -> Iterator[str]:
    """`app` on a free loopback port, in a thread; gives its origin."""
    server = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=0, log_level="error", lifespan="off"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    try:
        while not server.started:
            if not thread.is_alive():
                raise RuntimeError("the site did not start")
            time.sleep(0.01)
        host, port = server.servers[0].sockets[0].getsockname()[:2]
        yield f"http://{host}:{port}"
    finally:
        server.should_exit = server.force_exit = True
        thread.join(10)


@contextmanager
def running(tool: Tool) -> Iterator[str]:
    """A tool's site, served; gives its origin."""
    if tool is not OURS:
        with served(site(tool, None)) as origin:
            yield origin
        return
    with tempfile.TemporaryDirectory() as folder:
        kit = ConsentKit(settings(Path(folder)))
        kit.store.upgrade()
        try:
            with served(site(tool, kit)) as origin:
                yield origin
        finally:
            kit.close()


def install() -> str | None:
    """Bring the peers in; None, or why they are not there."""
    wanted = (HERE / "package.json").read_text("utf-8")
    stamp = PEERS / ".installed"
    if stamp.is_file() and stamp.read_text("utf-8") == wanted:
        return None
    try:
        if shutil.which("npm") is None:
            subprocess.run([HERE.parent / "scripts" / "needs", "node"], check=True)
        PEERS.mkdir(parents=True, exist_ok=True)
        (PEERS / "package.json").write_text(wanted, "utf-8")
        command = "npm install --no-audit --no-fund --no-package-lock --ignore-scripts --loglevel=error"
        subprocess.run(command.split(), cwd=PEERS, check=True, capture_output=True, text=True, timeout=180)
    except (OSError, subprocess.SubprocessError) as error:
        return (getattr(error, "stderr", None) or str(error)).strip().splitlines()[-1]
    stamp.write_text(wanted, "utf-8")
    return None


def version(tool: Tool) -> str:
    """The version of a tool that is measured; ours is that of this checkout."""
    if not tool.package:
        return ""
    return str(json.loads((PEERS / "node_modules" / tool.package / "package.json").read_text("utf-8"))["version"])


# -- measuring --------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class Figures:
    """What was measured of a tool. Sizes in bytes, times in milliseconds."""

    name: str
    gzip: int = 0
    brotli: int = 0
    parts: dict[str, int] = field(default_factory=dict)
    visible: float = 0
    paint: float = 0
    ratio: float = 0
    shift: float = 0
    third_party: int = 0
    strict: str = ""
    trusted: str = ""
    plain: str = ""
    swap: str = ""

    @property
    def survives(self) -> int:
        """How many of the four columns it comes through unharmed."""
        return sum(cell == "ok" for cell in (self.strict, self.trusted, self.plain, self.swap))


EYES = """
(selector => {
  if (top !== self) return;
  const bench = self.bench = {visible: 0, shift: 0, violations: 0};
  bench.shown = () => {
    const all = document.querySelectorAll(selector);
    return [...all].some(element => {
      const box = element.getBoundingClientRect();
      if (!box.width || !box.height || box.bottom <= 0 || box.top >= innerHeight) return false;
      let seen = 1;
      for (let up = element; up; up = up.parentElement) seen *= getComputedStyle(up).opacity;
      return seen >= 0.5 && getComputedStyle(element).visibility == 'visible';
    });
  };
  bench.styled = () => [...document.querySelectorAll(selector)].some(element => {
    for (const one of [element, ...element.querySelectorAll('*')]) {
      if (/fixed|sticky/.test(getComputedStyle(one).position)) return true;
    }
    for (let up = element; up; up = up.parentElement) {
      if (/fixed|sticky/.test(getComputedStyle(up).position)) return true;
    }
    return false;
  });
  const look = () => {
    if (!bench.shown()) return requestAnimationFrame(look);
    // The first thing after this frame is painted.
    scheduler.postTask(() => bench.visible = performance.now(), {priority: 'user-blocking'});
  };
  requestAnimationFrame(look);
  addEventListener('securitypolicyviolation', () => bench.violations++);
  new PerformanceObserver(list => {
    for (const entry of list.getEntries()) if (!entry.hadRecentInput) bench.shift += entry.value;
  }).observe({type: 'layout-shift', buffered: true});
})(SELECTOR)
"""


@contextmanager
def visit(browser: Browser, tool: Tool, **options: Any) -> Iterator[Page]:
    """A page in a profile of its own, with eyes for the tool's banner."""
    context = browser.new_context(viewport={"width": 1280, "height": 800}, locale="nl-NL", **options)
    context.set_default_timeout(PATIENCE)
    if options.get("java_script_enabled", True):
        context.add_init_script(EYES.replace("SELECTOR", json.dumps(tool.banner)))
    try:
        yield context.new_page()
    finally:
        context.close()


def becomes(view: Page, expression: str, patience: float = PATIENCE) -> bool:
    """Whether an expression comes true in the page. (Playwright's own waiting needs `eval`, which a policy forbids.)"""
    end = time.monotonic() + patience / 1000
    while time.monotonic() < end:
        try:
            if view.evaluate(expression):
                return True
        except Error:  # between two documents
            pass
        view.wait_for_timeout(50)
    return False


def appears(view: Page, patience: float = PATIENCE) -> bool:
    """Whether the banner comes into sight."""
    return becomes(view, "bench.shown()", patience)


def sizes(browser: Browser, tool: Tool, origin: str, figures: Figures) -> None:
    """What a first view loads of the tool, and what it asks of others."""
    loaded: list[Response] = []
    elsewhere: set[str] = set()

    def keep(response: Response) -> None:
        loaded.append(response)

    with visit(browser, tool) as view:
        view.on("response", keep)
        view.on("request", lambda request: _other(request.url, origin) and elsewhere.add(request.url))
        view.goto(origin, wait_until="load")
        appears(view)
        view.wait_for_timeout(SETTLED)
        bodies = {one.url: one.body() for one in loaded if one.url.startswith(origin) and one.ok}
    html = bodies.pop(f"{origin}/")
    own = {url: body for url, body in bodies.items() if urlsplit(url).path not in ("/site.css", "/slow.gif")}
    banner = re.search(rb'<section id="consentkit".*?</section>', html, re.DOTALL)
    if tool is OURS and banner:
        own["banner.html"] = banner[0]
    for name, body in own.items():
        figures.gzip += len(gzip.compress(body, 9))
        figures.brotli += len(brotli.compress(body))
        kind = urlsplit(name).path.rpartition(".")[2]
        figures.parts[kind] = figures.parts.get(kind, 0) + len(brotli.compress(body))
    figures.third_party = len(elsewhere)


def _other(url: str, origin: str) -> bool:
    return url.startswith(("http:", "https:", "ws")) and not url.startswith(origin + "/")


def times(browser: Browser, tool: Tool, origin: str, figures: Figures) -> None:
    """When the banner is seen on a slow machine behind a slow line, beside the first paint, and what it moves."""
    rounds = []
    for _ in range(2 * ROUNDS - 1 if tool is OURS else ROUNDS):
        with visit(browser, tool) as view:
            session = view.context.new_cdp_session(view)
            session.send("Network.enable")
            session.send(
                "Network.emulateNetworkConditions",
                {
                    "offline": False,
                    "latency": LATENCY,
                    "downloadThroughput": BYTES_A_SECOND,
                    "uploadThroughput": BYTES_A_SECOND,
                },
            )
            session.send("Emulation.setCPUThrottlingRate", {"rate": CPU_SLOWER})
            view.goto(origin, wait_until="load", timeout=30_000)
            becomes(view, "bench.visible")
            view.wait_for_timeout(SETTLED)
            seen, shift = view.evaluate("[bench.visible, bench.shift]")
            paint = view.evaluate("performance.getEntriesByName('first-contentful-paint')[0].startTime")
            rounds.append((seen, paint, seen / paint, shift))
    figures.visible, figures.paint, figures.ratio, figures.shift = (median(part) for part in zip(*rounds, strict=True))


def under(browser: Browser, tool: Tool, origin: str, policy: str) -> str:
    """How the tool does under a Content-Security-Policy: seen, styled, without violation, and able to refuse."""
    with visit(browser, tool) as view:
        view.goto(f"{origin}/plain?policy={policy}", wait_until="load")
        if not appears(view, 3_000):
            return "unstyled" if view.locator(tool.banner).first.is_visible() else "no banner"  # below the page
        view.wait_for_timeout(SETTLED)
        if not view.evaluate("bench.styled()"):
            return "unstyled"
        works = refuses(view, tool)
        count = view.evaluate("bench.violations")
        return "refusing fails" if not works else f"{count} violations" if count else "ok"


def refuses(view: Page, tool: Tool) -> bool:
    """Whether the banner's own button to refuse makes it go."""
    view.wait_for_timeout(SETTLED)
    view.locator(tool.refuse).first.click()
    return becomes(view, "!bench.shown()", 5_000)


def without_script(browser: Browser, tool: Tool, origin: str) -> str:
    """How the tool does where no script runs."""
    with visit(browser, tool, java_script_enabled=False) as view:
        view.goto(f"{origin}/plain", wait_until="load")
        banner = view.locator(tool.banner).first
        if not banner.is_visible():
            return "no banner"
        view.locator(tool.refuse).first.click()
        view.wait_for_load_state()
        return "refusing fails" if banner.is_visible() else "ok"


SWAPS = {
    "the same page, fetched": "document.body.replaceWith(new DOMParser()"
    ".parseFromString(await (await fetch(location.href)).text(), 'text/html').body)",
    "a new body": "const body = document.createElement('body'); body.append('Een andere pagina');"
    " document.body.replaceWith(body)",
}


def after_a_swap(browser: Browser, tool: Tool, origin: str) -> str:
    """Whether the banner outlives a replaced body, as client-side navigation does it, and still refuses."""
    for swap in SWAPS.values():
        with visit(browser, tool) as view:
            view.goto(f"{origin}/plain", wait_until="load")
            if not appears(view):
                return "no banner"
            view.evaluate(f"(async () => {{ {swap} }})()")
            view.wait_for_timeout(SETTLED)
            if not view.evaluate("bench.shown()"):
                return "gone"
            if not refuses(view, tool):
                return "refusing fails"
    return "ok"


def measure(browser: Browser, tool: Tool) -> Figures:
    """All of one tool."""
    figures = Figures(f"{tool.name} {version(tool)}".strip())
    with running(tool) as origin:
        sizes(browser, tool, origin, figures)
        times(browser, tool, origin, figures)
        figures.strict = under(browser, tool, origin, "strict")
        figures.trusted = under(browser, tool, origin, "trusted")
        figures.plain = without_script(browser, tool, origin)
        figures.swap = after_a_swap(browser, tool, origin)
    return figures


# -- after a decision -------------------------------------------------------------------------------------------------

FOOT = re.compile(r'<(div|nav) class="?consentkit-foot.*?</\1>', re.DOTALL)


def after(browser: Browser, decide: Callable[[Page], None]) -> tuple[int, int]:
    """What the next page view carries of ours once there is a decision: beside the settings link, and in it.

    Bytes as the page and the network have them, uncompressed; what the browser keeps from the view before counts for
    nothing.
    """
    with running(OURS) as origin, visit(browser, OURS) as view:
        view.goto(f"{origin}/plain", wait_until="load")
        appears(view)
        decide(view)
        becomes(view, "!bench.shown()")
        asked = _received(view, f"{origin}/privacy/")
        response = view.goto(f"{origin}/plain", wait_until="load")
        view.wait_for_timeout(SETTLED)
        html = response.text() if response else ""
        foot = FOOT.search(html)
        rest = len(html) - len(foot[0] if foot else "") - len(page(OURS, whole=False))
        return rest + sum(asked.values()), len(foot[0]) if foot else 0


def _received(view: Page, prefix: str) -> dict[str, int]:
    """Bytes that come over the network from now on, per request whose URL begins with `prefix`."""
    session = view.context.new_cdp_session(view)
    session.send("Network.enable")
    urls: dict[str, str] = {}
    received: dict[str, int] = {}

    def asked(event: dict[str, Any]) -> None:
        urls[event["requestId"]] = event["request"]["url"]

    def finished(event: dict[str, Any]) -> None:
        url = urls.get(event["requestId"], "")
        if url.startswith(prefix):
            received[url] = int(event["encodedDataLength"])

    session.on("Network.requestWillBeSent", asked)
    session.on("Network.loadingFinished", finished)
    return received


def _press(selector: str) -> Callable[[Page], None]:
    return lambda view: view.locator(selector).first.click()


def _analytics_only(view: Page) -> None:
    view.locator("#consentkit summary").first.click()
    view.locator("#consentkit input[value=analytics]").check()
    view.locator("#consentkit button[value=save]").click()


DECISIONS: dict[str, Callable[[Page], None]] = {
    "refusing": _press(OURS.refuse),
    "allowing analytics": _analytics_only,
    "accepting all": _press("#consentkit .consentkit-answer button[value=accept]"),
}


# -- the report -------------------------------------------------------------------------------------------------------

HEADINGS = ("first view", "KB gzip", "brotli", "visible s", "FCP s", "÷", "CLS", "3rd", "CSP", "+ TT", "no JS", "swap")


def table(all_figures: list[Figures]) -> str:
    """One line a tool."""
    lines = [HEADINGS]
    lines += [
        (
            one.name,
            f"{one.gzip / 1000:.1f}",
            f"{one.brotli / 1000:.1f}",
            f"{one.visible / 1000:.2f}",
            f"{one.paint / 1000:.2f}",
            f"{one.ratio:.2f}",
            f"{one.shift:.3f}".rstrip("0").rstrip("."),
            str(one.third_party),
            *(one.strict, one.trusted, one.plain, one.swap),
        )
        for one in all_figures
    ]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) for line in lines)


def goals(ours: Figures, peers: list[Figures], left: dict[str, int]) -> list[Row]:
    """Our figures beside their goals, and beside the peers'."""
    rows: list[Row] = [
        ("first view: JS + CSS + banner, KB brotli", ours.brotli / 1000, "≤ 5", ours.brotli <= 5000),
        ("banner visible ÷ first contentful paint", ours.ratio, "≤ 1.05", ours.ratio <= 1.05),
        ("cumulative layout shift", ours.shift, "≤ 0", ours.shift == 0),
        ("third-party requests", ours.third_party, "≤ 0", ours.third_party == 0),
        ("survives: strict CSP, Trusted Types, no JavaScript, a body swap", ours.survives, "≥ 4", ours.survives == 4),
    ]
    rows += [
        (f"bytes of ours beside the settings link, after {decision}", count, "≤ 0", count == 0)
        for decision, count in left.items()
    ]
    rows += [(f"bytes brotli: {peer.name} ÷ ours", peer.brotli / ours.brotli, "", None) for peer in peers]
    rows += [(f"banner visible: {peer.name} ÷ ours", peer.visible / ours.visible, "", None) for peer in peers]
    return rows


def main() -> list[Row]:
    """Measure; each row is what, the figure, the goal, and whether it is met (`None`: for information)."""
    missing = install()
    tools = TOOLS if missing is None else (OURS,)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        try:
            measured = [measure(browser, tool) for tool in tools]
            left = {decision: after(browser, press) for decision, press in DECISIONS.items()}
        finally:
            browser.close()
    ours, *peers = measured
    for line in table(measured).splitlines():
        print(f"# {line}")
    parts = ", ".join(f"{kind} {size:,}" for kind, size in ours.parts.items())
    foot = max(foot for _, foot in left.values())
    print(f"# ours, bytes brotli: {parts}; the settings link itself: at most {foot} bytes of HTML")
    if missing is not None:
        print(f"# the peers were not measured, they could not be installed: {missing}")
    return goals(ours, peers, {decision: rest for decision, (rest, _) in left.items()})


if __name__ == "__main__":
    for name, value, goal, ok in main():
        print(f"{name:70} {value:10,.2f}  {goal:7} {'' if ok is None else 'ok' if ok else 'short'}")
