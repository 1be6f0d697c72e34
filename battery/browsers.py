"""Browsers that visit the site: Chromium and Firefox by Playwright, WebKitGTK by WebDriver.

Each believes that www.school.test is the site and that every other host is the stand-in.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Protocol

from playwright.sync_api import BrowserContext, Error, Page, Playwright, sync_playwright

from battery.trackers import SITE, World

BROWSERS: Final = ("chromium", "firefox", "webkit")
UNDRIVEN: Final = {"webkit": frozenset({"header-refresh", "meta-refresh"})}
"""Cases by browser that it can't be driven through: WebKitGTK's driver may wait for ever for a page that leads away."""
ORIGIN: Final = f"https://{SITE}"

CHROMIUM = os.environ.get("CONSENTKIT_CHROMIUM", "/usr/bin/chromium")
FIREFOX = os.environ.get("CONSENTKIT_FIREFOX", "/usr/bin/firefox-esr")
# Mozilla's own builds are driven in another way than Playwright's.
FIREFOX_CHANNEL = "moz-firefox" if FIREFOX.startswith("/usr/") else None
WEBKIT = "/usr/bin/WebKitWebDriver"
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--ignore-certificate-errors",
    "--disable-blink-features=AutomationControlled",  # one of the tools shows nothing to a browser that is driven
]
LOADED = 2.0  # seconds that all pages together get until they say that they are loaded
SHORTEST = 0.5  # seconds a page gets after it was loaded
QUIET = 0.35  # seconds without anything new, after which nothing comes
LONGEST = 6.0  # seconds after which nothing is waited for any more
PATIENCE = 6.0  # seconds that a banner gets


class Missing(Exception):
    """A browser that isn't on this machine; says how to get it."""


class Stuck(Exception):
    """A driver that does not answer any more, which says nothing of the tool."""


Keep = Callable[[Sequence[str]], None]


class Visitor(Protocol):
    """One person with a fresh profile."""

    @property
    def keep(self) -> Keep | None:
        """Takes `Set-Cookie` headers as if the site had sent them, where the browser can't click; None where it can."""

    def visit(self, paths: Sequence[str], clicks: Mapping[str, Sequence[str]]) -> None:
        """Open each page in a tab of its own, click in it, and wait until nothing comes any more."""

    def press(self, path: str, selector: str) -> bool:
        """Open a page and press a button that makes its banner go; False when there is none to be seen."""

    def stored(self) -> set[str]:
        """Names of the cookies and of what localStorage holds on the site."""


class Driver(Protocol):
    """A running browser."""

    def open(self, *, js: bool) -> AbstractContextManager[Callable[[], Visitor]]:
        """Start it with JavaScript on or off; each call of what it gives is a fresh visitor."""


def firefox_preferences(port: int) -> dict[str, Any]:
    """All of the world by the proxy on `port`, and nothing of the browser's own in between."""
    return {
        "network.proxy.type": 1,
        "network.proxy.http": "127.0.0.1",
        "network.proxy.http_port": port,
        "network.proxy.ssl": "127.0.0.1",
        "network.proxy.ssl_port": port,
        "network.proxy.no_proxies_on": "",
        "network.captive-portal-service.enabled": False,
        "network.connectivity-service.enabled": False,
        "services.settings.server": "data:,nothing",
        "app.update.enabled": False,
        "browser.safebrowsing.downloads.enabled": False,
        "toolkit.telemetry.server": "",
    }


def settle(world: World, began: float) -> Iterator[None]:
    """Yields until nothing arrives any more; whoever iterates waits a moment each time."""
    while True:
        passed = time.monotonic() - began
        if passed > LONGEST or (passed > SHORTEST and world.quiet() > QUIET):
            return
        yield


# -- Playwright -------------------------------------------------------------------------------------------------------


@dataclass
class _Playwright:
    """Chromium, or Firefox, with a profile on disk: without one, Chromium makes no connections ahead.

    JavaScript is off for a whole browser or not at all. The second visitor gets the browser of the first, emptied.
    """

    playwright: Playwright
    name: str
    world: World

    @contextmanager
    def open(self, *, js: bool) -> Iterator[Callable[[], Visitor]]:
        """A browser that runs; what it gives makes a fresh visitor of it."""
        options: dict[str, Any] = {
            "ignore_https_errors": True,
            "locale": "nl-NL",
            "viewport": {"width": 1280, "height": 900},
        }
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
            if self.name == "chromium":
                rules = f"MAP {SITE} 127.0.0.1:{self.world.site}, MAP * 127.0.0.1:{self.world.port}"
                context = self.playwright.chromium.launch_persistent_context(
                    profile,
                    executable_path=CHROMIUM,
                    args=[*FLAGS, f"--host-resolver-rules={rules}"],
                    java_script_enabled=js,
                    **options,
                )
            else:
                context = self.playwright.firefox.launch_persistent_context(
                    profile,
                    channel=FIREFOX_CHANNEL,
                    executable_path=FIREFOX,
                    firefox_user_prefs=firefox_preferences(self.world.port) | {"javascript.enabled": js},
                    **options,
                )
            try:
                context.set_default_timeout(PATIENCE * 1000)
                yield lambda: self._fresh(context, js=js)
            finally:
                context.close()

    def _fresh(self, context: BrowserContext, *, js: bool) -> Visitor:
        context.clear_cookies()
        if self.name == "chromium":
            session = context.new_cdp_session(context.pages[0])
            session.send("Network.clearBrowserCache")
            session.send("Storage.clearDataForOrigin", {"origin": ORIGIN, "storageTypes": "all"})
            session.detach()
        return _Tabs(context, self.world, js=js, clicks=js or self.name != "firefox")


@dataclass
class _Tabs:
    """A profile in Playwright."""

    context: BrowserContext
    world: World
    js: bool
    clicks: bool
    seen: set[str] = field(default_factory=set)

    def visit(self, paths: Sequence[str], clicks: Mapping[str, Sequence[str]]) -> None:
        tabs: list[Page] = []
        for path in paths:
            tab = self.context.new_page()
            tabs.append(tab)
            with suppress(Error):
                tab.goto(ORIGIN + path, wait_until="commit")
        patience = time.monotonic() + LOADED
        for tab, path in zip(tabs, paths, strict=True):
            with suppress(Error):
                tab.wait_for_load_state("load", timeout=max(1, 1000 * (patience - time.monotonic())))
            for selector in clicks.get(path, ()) if self.clicks else ():
                with suppress(Error):
                    tab.locator(selector).first.dispatch_event("click", timeout=1500)
        for _ in settle(self.world, time.monotonic()):
            tabs[0].wait_for_timeout(50)
        self._look(tabs[0])
        for tab in tabs:
            tab.close()

    def _look(self, tab: Page) -> None:
        self.seen = {cookie["name"] for cookie in self.context.cookies() if cookie["domain"].endswith(SITE)}
        if self.js:
            with suppress(Error):
                self.seen |= set(tab.evaluate("Object.keys(localStorage)"))

    def press(self, path: str, selector: str) -> bool:
        tab = self.context.new_page()
        try:
            tab.goto(ORIGIN + path, wait_until="load")
            button = tab.locator(selector).first
            button.wait_for(state="visible", timeout=PATIENCE * 1000 if self.js else 1000)
            tab.wait_for_timeout(200)
            for patience in (1500, 1500, PATIENCE * 1000):  # some are seen long before they listen
                with suppress(Error):
                    button.click(timeout=patience)
                if not self.js:
                    tab.wait_for_load_state("load")
                with suppress(Error):
                    button.wait_for(state="hidden", timeout=patience)
                    break
            else:
                return False
            tab.wait_for_timeout(300)
        except Error:
            return False
        finally:
            tab.close()
        return True

    @property
    def keep(self) -> Keep | None:
        return None if self.clicks else self._keep

    def _keep(self, cookies: Sequence[str]) -> None:
        for cookie in cookies:
            name, _, rest = cookie.partition("=")
            self.context.add_cookies(
                [{"name": name, "value": rest.partition(";")[0], "url": ORIGIN, "secure": True, "sameSite": "Lax"}]
            )

    def stored(self) -> set[str]:
        return self.seen


# -- WebDriver --------------------------------------------------------------------------------------------------------


@dataclass
class _WebKit:
    """WebKitGTK's MiniBrowser on a display that nobody sees; every visitor gets a driver and a browser of his own."""

    world: World
    browser: str

    @contextmanager
    def open(self, *, js: bool) -> Iterator[Callable[[], Visitor]]:
        """Sessions that are over when the block is."""
        from selenium.common.exceptions import WebDriverException
        from urllib3.exceptions import HTTPError

        with ExitStack() as stack:

            def fresh() -> Visitor:
                stack.close()
                return _Windows(stack.enter_context(self._session(js=js)), self.world, js=js)

            try:
                yield fresh
            except (HTTPError, WebDriverException) as error:
                raise Stuck(f"WebKitGTK's driver is stuck: {error}") from error

    @contextmanager
    def _session(self, *, js: bool) -> Iterator[Any]:
        from selenium import webdriver
        from selenium.webdriver.remote.client_config import ClientConfig
        from selenium.webdriver.webkitgtk.options import Options

        options = Options()
        options.binary_location = self.browser
        options.page_load_strategy = "none"
        options.set_capability("acceptInsecureCerts", True)
        for argument in ("--automation", "--ignore-tls-errors", f"--proxy=http://127.0.0.1:{self.world.port}"):
            options.add_argument(argument)
        if not js:
            options.add_argument("--enable-javascript=false")
        with _driver_process() as server:
            config = ClientConfig(remote_server_addr=server, timeout=15)
            session = webdriver.Remote(server, options=options, client_config=config)
            session.set_page_load_timeout(4)
            yield session
            session.quit()


@contextmanager
def _driver_process() -> Iterator[str]:
    """WebKitGTK's driver under xvfb-run; gives its address. What it started ends with it."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = ["xvfb-run", "-a", WEBKIT, f"--port={port}"]
    process = subprocess.Popen(command, start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        _listening(port)
        yield f"http://127.0.0.1:{port}"
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
        process.wait(10)


@dataclass
class _Windows:
    """A profile in WebDriver."""

    session: Any
    world: World
    js: bool
    keep: None = None
    seen: set[str] = field(default_factory=set)

    def visit(self, paths: Sequence[str], clicks: Mapping[str, Sequence[str]]) -> None:
        from selenium.common.exceptions import WebDriverException

        first = self.session.current_window_handle
        kept = ""
        for path in paths:
            self.session.switch_to.new_window("tab")
            kept = kept or self.session.current_window_handle
            self._go(path)
            for selector in clicks.get(path, ()):
                with suppress(WebDriverException):
                    self.session.find_element("css selector", selector).click()
        for _ in settle(self.world, time.monotonic()):
            time.sleep(0.05)
        self.session.switch_to.window(kept)
        self.seen = {cookie["name"] for cookie in self.session.get_cookies()}
        if self.js:
            with suppress(WebDriverException):
                self.seen |= set(self.session.execute_script("return Object.keys(localStorage)"))
        for handle in self.session.window_handles:
            if handle != first:
                self.session.switch_to.window(handle)
                self.session.close()
        self.session.switch_to.window(first)

    def _go(self, path: str) -> None:
        """Open a page and wait until it is there; some lead away at once."""
        from selenium.common.exceptions import WebDriverException

        self.session.get(ORIGIN + path)
        end = time.monotonic() + 5
        while time.monotonic() < end:
            with suppress(WebDriverException):
                if self.session.title or self.session.current_url not in ("about:blank", ORIGIN + path):
                    return
            time.sleep(0.05)

    def press(self, path: str, selector: str) -> bool:
        from selenium.common.exceptions import WebDriverException

        self._go(path)
        end = time.monotonic() + PATIENCE * (2 if self.js else 1)
        gone, pressed = 0, False
        while time.monotonic() < end and gone < 5:
            shown = self._shown(selector)
            if shown and not pressed:
                with suppress(WebDriverException):
                    shown[0].click()
                    pressed = True
            # Between two documents nothing is shown either: it has to stay away.
            gone = gone + 1 if pressed and shown == [] else 0
            time.sleep(0.1)
        return gone >= 5

    def _shown(self, selector: str) -> list[Any] | None:
        """The elements that can be seen; None when the browser can't say."""
        from selenium.common.exceptions import WebDriverException

        try:
            if self.session.current_url == "about:blank" or not self.session.find_elements("css selector", "h1"):
                return None
            return [one for one in self.session.find_elements("css selector", selector) if one.is_displayed()]
        except WebDriverException:
            return None

    def stored(self) -> set[str]:
        return self.seen


def _listening(port: int) -> None:
    end = time.monotonic() + 20
    while True:
        try:
            socket.create_connection(("127.0.0.1", port)).close()
            return
        except OSError:
            if time.monotonic() > end:
                raise
            time.sleep(0.1)


@contextmanager
def driver(name: str, world: World) -> Iterator[Driver]:
    """A browser by name, running while the block runs."""
    where = {"chromium": CHROMIUM, "firefox": FIREFOX, "webkit": WEBKIT}[name]
    if shutil.which(where) is None:
        raise Missing(f"there is no {where}; `scripts/needs browsers` installs it where the system has it")
    if name == "webkit":
        browser = next(iter(sorted(Path("/usr/lib").glob("*/webkit2gtk-4.*/MiniBrowser"))), None)
        if shutil.which("xvfb-run") is None or browser is None:
            raise Missing("there is no xvfb-run or no MiniBrowser; `scripts/needs browsers` installs them")
        yield _WebKit(world, str(browser))
        return
    with sync_playwright() as playwright:
        yield _Playwright(playwright, name, world)
