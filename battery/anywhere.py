"""Any running site: what it asks of known trackers before its visitor has chosen anything. It only looks."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import Any
from urllib.parse import urlsplit

from playwright.sync_api import BrowserContext, Error, Playwright, Request, sync_playwright

from battery.browsers import CHROMIUM, FIREFOX, FIREFOX_CHANNEL

LOOK = 3_000  # milliseconds that a page gets after it was loaded


@dataclass(slots=True)
class Look:
    """A page: the tracker requests by service, the other third parties, and the cookies that were set."""

    url: str
    js: bool
    trackers: dict[str, list[str]] = field(default_factory=dict)
    others: list[str] = field(default_factory=list)
    cookies: list[str] = field(default_factory=list)

    def data(self) -> dict[str, Any]:
        """As JSON has it."""
        return asdict(self)

    def __str__(self) -> str:
        lines = [f"{self.url}, {'with' if self.js else 'without'} JavaScript, before any choice:"]
        for service, urls in sorted(self.trackers.items()):
            lines.append(f"  {service}: {len(urls)} requests, {urls[0][:100]}")
        lines.append(f"  cookies: {', '.join(self.cookies) or 'none'}")
        lines.append(f"  other third parties: {', '.join(self.others) or 'none'}")
        return "\n".join(lines)


def _keep(asked: list[str], request: Request) -> None:
    asked.append(request.url)


def _open(playwright: Playwright, browser: str, profile: str, *, js: bool) -> BrowserContext:
    if browser == "firefox":
        return playwright.firefox.launch_persistent_context(
            profile,
            channel=FIREFOX_CHANNEL,
            executable_path=FIREFOX,
            firefox_user_prefs={"javascript.enabled": js},
        )
    return playwright.chromium.launch_persistent_context(
        profile, executable_path=CHROMIUM, args=["--no-sandbox"], java_script_enabled=js
    )


def look(urls: Sequence[str], browser: str, *, scripts: Sequence[bool] = (True, False)) -> list[Look]:
    """Visit each page with a fresh profile, JavaScript on and off, and tell who was asked for something."""
    from consentkit import catalogue
    from consentkit.gate import Gate

    gate = Gate(catalogue.load().values(), configured=set(), categories=set(), own_hosts=set())
    found = []
    with sync_playwright() as playwright, tempfile.TemporaryDirectory() as folder:
        for number, (url, js) in enumerate((url, js) for url in urls for js in scripts):
            one = Look(url, js)
            asked: list[str] = []
            context = _open(playwright, browser, f"{folder}/{number}", js=js)
            context.on("request", partial(_keep, asked))
            page = context.new_page()
            with suppress(Error):
                page.goto(url, wait_until="load")
            page.wait_for_timeout(LOOK)
            own = urlsplit(url).hostname or ""
            for other in dict.fromkeys(asked):
                host = urlsplit(other).hostname or ""
                if not other.startswith(("http:", "https:", "ws:", "wss:")) or host == own:
                    continue
                service = gate.service_of_url(other)
                if service is not None:
                    one.trackers.setdefault(service.id, []).append(other)
                elif host not in one.others:
                    one.others.append(host)
            one.cookies = sorted({str(cookie.get("name")) for cookie in context.cookies()})
            context.close()
            found.append(one)
    return found
