"""A small school site with trackers in its pages, behind a real kit: what the journeys walk through."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route
from starlette.testclient import TestClient

from consentkit import ConsentKit, Settings, consent_of

KEY = "k8Jq2vX0Zr5Tn1Lw7Yb3Pd6Gc9Sf4HmA"
PAGE = """<!doctype html>
<html lang="nl"><head><meta charset="utf-8"><title>De Linde</title>
<script async src="https://www.googletagmanager.com/gtag/js?id=G-DELINDE"></script>
<script>
  window.dataLayer = window.dataLayer || [];
  function gtag(){dataLayer.push(arguments);}
  gtag('js', new Date());
  gtag('config', 'G-DELINDE');
</script></head>
<body><h1>Basisschool De Linde</h1>
<iframe width="560" height="315" src="https://www.youtube.com/embed/abc" title="Rondleiding"></iframe>
<img src="/logo.png" alt="De Linde"><p>Welkom</p></body></html>
"""


@dataclass
class Clock:
    """A clock that moves only when told to."""

    now: datetime = field(default_factory=lambda: datetime(2026, 3, 2, 9, 30, tzinfo=UTC))

    def __call__(self) -> datetime:
        return self.now

    def later(self, **amount: float) -> None:
        self.now += timedelta(**amount)


async def _page(request: Request) -> Response:
    response = HTMLResponse(PAGE)
    response.set_cookie("sessionid", "s")
    response.set_cookie("_ga_server", "x")
    return response


async def _who(request: Request) -> Response:
    consent = consent_of(request)
    return JSONResponse({"analytics": consent.allows("analytics"), "youtube": consent.allows("youtube")})


async def _broken(request: Request) -> Response:
    raise RuntimeError("the app's own mistake")


async def _missing(request: Request, error: Exception) -> Response:
    return HTMLResponse("<!doctype html><html lang=nl><body><h1>Niet gevonden</h1></body></html>", 404)


async def _failed(request: Request, error: Exception) -> Response:
    return HTMLResponse("<!doctype html><html lang=nl><body><h1>Er ging iets mis</h1></body></html>", 500)


def app() -> Starlette:
    """The school's app: it knows nothing of consent but for one question on /wie."""
    routes = [Route("/", _page), Route("/ouders/brief", _page), Route("/wie", _who), Route("/stuk", _broken)]
    return Starlette(routes=routes, exception_handlers={404: _missing, 500: _failed})


def settings(folder: Path, **site: Any) -> Settings:
    """The school's settings, in a folder of its own."""
    table: dict[str, Any] = {
        "name": "Basisschool De Linde",
        "base_url": "http://school.test",
        "privacy_statement": "/privacyverklaring",
        "controller": {"name": "Stichting De Linde", "address": "Lindelaan 1", "email": "privacy@delinde.example"},
    }
    services = site.pop("services", {"google-analytics": {}, "youtube": {}})
    tables = {name: site.pop(name) for name in ("database", "retention", "categories") if name in site}
    return Settings(site=table | site, services=services, secret_keys=[KEY], folder=folder, source="test", **tables)


@dataclass
class School:
    """The site, its kit, its clock, and a browser that keeps cookies and runs no script."""

    kit: ConsentKit
    clock: Clock
    browser: TestClient

    def another(self, **headers: str) -> TestClient:
        """Another visitor."""
        return TestClient(
            self.kit.wrap(app()), base_url="http://school.test", raise_server_exceptions=False,
            headers={"Accept": "text/html", "Sec-Fetch-Dest": "document"} | headers,
        )  # fmt: skip

    def token(self, browser: TestClient | None = None, path: str = "/") -> str:
        """The notice token of a page that is shown now."""
        return notice_of((browser or self.browser).get(path).text)

    def choose(self, decision: str, *purposes: str, browser: TestClient | None = None, **fields: str) -> Any:
        """Answer the question on a page that is shown now; redirects are not followed."""
        browser = browser or self.browser
        if "notice" not in fields:
            fields["notice"] = self.token(browser, f"{self.kit.sites[0].settings.prefix}/settings")
        data = {"decision": decision, "purposes": list(purposes), "next": "/", **fields}
        return browser.post("/privacy/choice", data=data, follow_redirects=False)


def notice_of(page: str) -> str:
    """The notice token in a page."""
    found = re.search(r'name="?notice"? value="?([A-Za-z0-9_.-]+)', page)
    assert found, "the page shows no question"
    return found[1]


@contextmanager
def school(folder: Path, **site: Any) -> Iterator[School]:
    """A running school site."""
    clock = Clock()
    kit = ConsentKit(settings(folder, **site), clock=clock)
    made = School(kit, clock, None)  # type: ignore[arg-type]
    made.browser = made.another()
    try:
        yield made
    finally:
        kit.close()
