"""What a real browser does on the pages: which hosts it asks, and what is kept in it afterwards.

Nothing is blocked: what is counted really leaves, and to whom it leads sees this machine. Needs `consentkit[check]` and
a Chromium of the system.
"""

from __future__ import annotations

import os
import shutil
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from consentkit.errors import ConsentKitError
from consentkit.probe.inspect import Viewer, cookie, undeclared_host
from consentkit.probe.report import Finding
from consentkit.probe.states import State

if TYPE_CHECKING:
    from playwright.sync_api import BrowserContext, Frame, Page

PATIENCE: Final = 15_000
"""Milliseconds that a page may take until its network is quiet; then what was seen so far counts."""

_USUAL = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
_FLAGS = (
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-quic",
)
_STORED = """async () => {
  const found = [];
  const ask = async (kind, names) => {
    try { for (const name of await names()) found.push([kind, String(name)]); } catch (refused) {}
  };
  await ask("local", () => Object.keys(localStorage));
  await ask("session", () => Object.keys(sessionStorage));
  await ask("indexeddb", async () => (await indexedDB.databases()).map(one => one.name));
  await ask("cache", () => caches.keys());
  await ask("worker", async () => (await navigator.serviceWorker.getRegistrations()).map(one => one.scope));
  return found;
}"""
_KINDS = {
    "local": "localStorage key",
    "session": "sessionStorage key",
    "indexeddb": "IndexedDB database",
    "cache": "Cache Storage entry",
    "worker": "service worker",
}


class BrowserMissing(ConsentKitError):
    """There is no browser to look with."""


@dataclass(frozen=True, slots=True)
class Stored:
    """Something kept by `host`: a `cookie`, or `local`, `session`, `indexeddb`, `cache`, `worker`."""

    kind: str
    name: str
    host: str


@dataclass(slots=True)
class Visit:
    """What one page did in the browser.

    Args:
        requests: by host, the site's own left out. urls: by host too.
    """

    path: str
    requests: Counter[str] = field(default_factory=Counter)
    urls: dict[str, set[str]] = field(default_factory=dict)
    stored: set[Stored] = field(default_factory=set)


def find_chromium() -> str:
    """The program: `CONSENTKIT_CHROMIUM`, or where systems have it.

    Raises:
        BrowserMissing: there is none.
    """
    named = os.environ.get("CONSENTKIT_CHROMIUM")
    if named and Path(named).exists():
        return named
    found = next(filter(None, map(shutil.which, _USUAL)), None)
    if named or not found:
        what = f"CONSENTKIT_CHROMIUM names {named}, which is not there" if named else "there is no Chromium"
        raise BrowserMissing(f"{what}: install chromium, or let CONSENTKIT_CHROMIUM name the program")
    return found


def browse(
    base: str, paths: Sequence[str], states: Sequence[State], viewer: Viewer, *, flags: Sequence[str] = ()
) -> dict[str, list[Visit]]:
    """Open pages one after the other, in a new profile for each state of consent; the visits by its name.

    Args:
        base: scheme and host. flags: more words for Chromium's command line.

    Raises:
        BrowserMissing: there is no browser, or nothing that drives it.
    """
    program = find_chromium()
    try:
        import playwright.sync_api  # noqa: F401, PLC0415  # of an extra
    except ModuleNotFoundError as error:
        raise BrowserMissing("--browser needs Playwright: pip install 'consentkit[check]'") from error
    with ThreadPoolExecutor(1) as thread:  # Playwright's plain interface takes no thread with an event loop
        return thread.submit(_browse, [program, *_FLAGS, *flags], base, paths, states, viewer).result()


def _browse(
    command: Sequence[str], base: str, paths: Sequence[str], states: Sequence[State], viewer: Viewer
) -> dict[str, list[Visit]]:
    from playwright.sync_api import Error, sync_playwright  # noqa: PLC0415

    visits: dict[str, list[Visit]] = {}
    with sync_playwright() as playwright:
        try:
            browser = playwright.chromium.launch(executable_path=command[0], args=[*command[1:]])
        except Error as error:
            raise BrowserMissing(f"{command[0]} does not start: {str(error).splitlines()[0]}") from error
        for state in states:
            context = browser.new_context()
            if state.cookie:
                name, _, value = state.cookie.partition("=")
                secure = base.startswith("https:")
                context.add_cookies([{"name": name, "value": value, "url": base, "secure": secure}])
            visits[state.name] = [_visit(context, base, path, viewer) for path in paths]
            context.close()
        browser.close()
    return visits


def _visit(context: BrowserContext, base: str, path: str, viewer: Viewer) -> Visit:
    from playwright.sync_api import Error  # noqa: PLC0415

    visit = Visit(path)

    def asked(url: str) -> None:
        parts = urlsplit(url)
        if parts.scheme in ("http", "https", "ws", "wss") and parts.hostname and not viewer.own(parts.hostname):
            visit.requests[parts.hostname] += 1
            visit.urls.setdefault(parts.hostname, set()).add(url)

    def heard(request: Any) -> None:
        asked(request.url)

    page = context.new_page()
    context.on("request", heard)
    page.on("websocket", lambda socket: asked(socket.url))
    with suppress(Error):  # a page that never falls silent, or that is a download: what it did still counts
        page.goto(base + path, wait_until="load", timeout=PATIENCE)
        page.evaluate("scrollTo(0, document.documentElement.scrollHeight)")  # what loads when it comes into view
        page.wait_for_load_state("networkidle", timeout=PATIENCE)
    visit.stored = set(_stored(context, page))
    context.remove_listener("request", heard)
    page.close()
    return visit


def _stored(context: BrowserContext, page: Page) -> Iterator[Stored]:
    for kept in context.cookies():
        yield Stored("cookie", kept.get("name", ""), kept.get("domain", "").lstrip("."))
    for frame in page.frames:
        host = urlsplit(frame.url).hostname or ""
        for kind, name in _of_frame(frame):
            yield Stored(kind, name, host)


def _of_frame(frame: Frame) -> Sequence[Sequence[str]]:
    from playwright.sync_api import Error  # noqa: PLC0415

    try:
        found: Sequence[Sequence[str]] = frame.evaluate(_STORED)
    except Error:  # a frame that is gone, or that has no storage
        return ()
    return found


def judge(visits: Sequence[Visit], state: State, viewer: Viewer) -> Iterator[Finding]:
    """What is wrong with what the browser did for a visitor in this state."""
    kept: set[Stored] = set()
    for visit in visits:
        for host, count in sorted(visit.requests.items()):
            yield from _request(visit, host, count, state, viewer)
        for stored in sorted(visit.stored - kept, key=lambda one: (one.kind, one.name, one.host)):
            yield from _kept(stored, visit.path, state, viewer)
        kept |= visit.stored


def _request(visit: Visit, host: str, count: int, state: State, viewer: Viewer) -> Iterator[Finding]:
    services = {service.id: service for url in visit.urls[host] if (service := viewer.gate.service_of_url(url))}
    for service in services.values():
        if not viewer.allows(service, state):
            what = f"the browser asked {host} ({service.title}) without consent"
            fix = 'Something on the page loads it past the gate: mark that with data-consent, or set csp = "enforce".'
            yield Finding("leak", visit.path, what, fix, host, (state.name,))
    if not services and not viewer.declared.host(host):
        yield undeclared_host(f"the browser asked {host}", visit.path, host, state)


def _kept(stored: Stored, path: str, state: State, viewer: Viewer) -> Iterator[Finding]:
    if stored.kind == "cookie":
        yield from cookie(stored.name, path, viewer, state)
        return
    declaring = [
        service
        for service in viewer.declared.services
        if any(item.kind == stored.kind and item.matches(stored.name) for item in service.items)
    ]
    what = f'{_KINDS[stored.kind]} "{stored.name}"'
    if not declaring:
        fix = viewer.english("storage", stored.name)
        yield Finding("undeclared", path, f"{what} is kept and nobody declared it", fix, stored.name, (state.name,))
    elif not any(viewer.allows(service, state) for service in declaring):
        title = declaring[0].title
        fix = "Let what keeps it wait for consent: mark its script with data-consent."
        yield Finding("leak", path, f"{what} of {title} is kept without consent", fix, stored.name, (state.name,))


def requests_of(visits: Sequence[Visit]) -> Mapping[str, int]:
    """Requests to other hosts, of all pages together."""
    total: Counter[str] = Counter()
    for visit in visits:
        total += visit.requests
    return dict(sorted(total.items()))


def stored_of(visits: Sequence[Visit]) -> Sequence[str]:
    """What is kept after the last page, in words."""
    found = {stored for visit in visits for stored in visit.stored}
    return sorted(f"{stored.kind} {stored.name} ({stored.host})" for stored in found)
