"""The owner's view of the cookie statement, and that page, gate and look agree on what is declared (CST-01)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route

from consentkit import catalogue
from consentkit.errors import DatabaseUnavailable
from consentkit.probe import App, states
from consentkit.service import NECESSARY
from consentkit.testing import leaks
from consentkit.web import owner
from tests.journeys.school import School, school

HEADING = "Gezien, niet verklaard"


@pytest.fixture
def site(tmp_path: Path) -> Iterator[School]:
    with school(tmp_path) as made:
        yield made


def view(site: School) -> str:
    """The path of the owner's view, from a link that is made now."""
    only = site.kit.sites[0].settings
    return owner.link(site.kit.tokens, only, now=site.clock.now).removeprefix(only.base_url)


@pytest.mark.checklist("GAT-04")
def test_the_owner_reads_on_the_statement_what_was_seen_and_what_to_do(site: School) -> None:
    seen = site.kit.sites[0].flow.seen
    seen.note("cookie", "foo", "/contact?kind=Jan")
    seen.note("host", "player.vimeo.com", "/film")
    seen.note("storage", "kar")
    seen.note("tag", "cookiebot", "/")
    site.kit.audit.flush()

    page = site.browser.get(view(site)).text

    found = page.partition(HEADING)[2]
    cells = re.findall(r"<code>(.*?)</code>.*?label=\"Soort\">(.*?)<.*?label=\"Waar\">(.*?)<", found, re.DOTALL)
    assert cells == [
        ("foo", "cookie", "/contact"),
        ("player.vimeo.com", "server van een ander", "/film"),
        ("kar", "opslag in de browser", "in browsers van bezoekers"),
        ("cookiebot", "code in de pagina", "/"),
    ]
    assert "Zet [services.vimeo] in consentkit.toml" in found
    assert "2 maart 2026" in found
    assert "Jan" not in page


def test_it_is_cached_and_indexed_nowhere_and_told_to_nobody(site: School) -> None:
    headers = site.browser.get(view(site)).headers

    assert headers["cache-control"] == "no-store"
    assert headers["referrer-policy"] == "no-referrer"
    assert headers["x-robots-tag"] == "noindex"


def test_without_a_link_that_holds_everybody_reads_the_same_statement(site: School) -> None:
    site.kit.sites[0].flow.seen.note("cookie", "foo")
    site.kit.audit.flush()
    link = view(site)
    plain = site.browser.get("/privacy/cookies").text
    assert HEADING in site.browser.get(link).text

    with school(site.kit.settings.folder, name="Andere school") as other:
        foreign = view(other)
    bad = ["/privacy/cookies?owner=", "/privacy/cookies?owner=x.y", link[:-2] + "xx", foreign]
    pages = [site.browser.get(path).text for path in bad]
    site.clock.later(minutes=61)
    pages.append(site.browser.get(link).text)

    assert pages == [plain] * 5


def test_no_access_log_keeps_the_link(site: School) -> None:
    scopes: list[Any] = []
    wrapped = site.kit.wrap(Starlette())

    async def recorded(scope: Any, receive: Any, send: Any) -> None:
        scopes.append(scope)
        await wrapped(scope, receive, send)

    browser = site.another()
    browser._transport.app = recorded  # type: ignore[attr-defined]
    browser.get(view(site))

    assert [scope["query_string"] for scope in scopes] == [b"owner=%E2%80%A6"]


def test_where_the_database_is_away_the_statement_stays(site: School, monkeypatch: pytest.MonkeyPatch) -> None:
    def away(*_: Any) -> Any:
        raise DatabaseUnavailable("away")

    monkeypatch.setattr(site.kit.audit, "read", away)

    answer = site.browser.get(view(site))

    assert answer.status_code == 200
    assert "De database antwoordt niet" in answer.text


def test_what_was_declared_since_is_listed_no_more(tmp_path: Path) -> None:
    with school(tmp_path) as before:
        before.kit.sites[0].flow.seen.note("host", "player.vimeo.com")
        before.kit.audit.flush()
        assert "player.vimeo.com" in before.browser.get(view(before)).text

    with school(tmp_path, services={"vimeo": {}}) as after:
        page = after.browser.get(view(after)).text

    assert "player.vimeo.com" not in page
    assert "Er is niets gezien" in page


# -- one registry -----------------------------------------------------------------------------------------------------


class _Rows(HTMLParser):
    """The names in the statement's tables, and the services they stand with."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.names: set[str] = set()
        self.services: set[str] = set()
        self._in = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        label = dict(attrs).get("data-label")
        self._in = "name" if tag == "code" else "service" if label == "Dienst en aanbieder" else ""

    def handle_data(self, data: str) -> None:
        if self._in == "name":
            self.names.add(data)
        elif self._in == "service":
            self.services.add(data)
        self._in = ""


def host_page(names: list[str]) -> str:
    """A page that loads something of each host."""
    return "<!doctype html><html lang=nl><body>" + "".join(
        f'<script src="https://{name}{"x.js" if name.endswith("/") else "/x.js"}"></script>\n' for name in names
    )


@pytest.mark.checklist("CST-01")
@pytest.mark.parametrize(
    "chosen",
    [["google-analytics", "youtube"], ["vimeo", "matomo", "hotjar"], ["meta-pixel"]],
    ids="+".join,
)
def test_what_is_declared_is_what_gates_what_a_look_finds_and_what_the_statement_says(
    tmp_path: Path, chosen: list[str]
) -> None:
    known = catalogue.load()
    everyone = [service for service in known.values() if service.hosts and service.category != NECESSARY]
    hosts = {service.id: service.hosts[0] for service in everyone}
    cookies = {item.name: one.id for one in everyone for item in one.items if item.kind == "cookie"}

    async def page(request: Request) -> Response:
        response = HTMLResponse(host_page([*hosts.values()]))
        for name in cookies:
            response.headers.append("Set-Cookie", f"{name.replace('*', 'x')}=1")
        return response

    with school(tmp_path, services={name: {} for name in chosen}) as site:
        app = site.kit.wrap(Starlette(routes=[Route("/", page)]))
        found = leaks(app, "/", kit=site.kit)
        with App(app, "http://school.test") as source:
            source.get("/")
            assert source.flow
            everything = states(source.flow, site.clock.now.date())[-1]
            passed = {line.partition("=")[0] for line in source.get("/", everything.cookie).all("set-cookie")}
        statement = _Rows(site.browser.get("/privacy/cookies").text)
        policy = site.kit.sites[0].policy

    unanswerable = {one.name for one in found if one.kind == "parked"}
    gated = {id for id in hosts if id not in unanswerable}
    declared = {service.id for service in policy.services} - {"consentkit"}
    items = {item.name for service in policy.services for item in service.items}
    assert [one for one in found if one.kind == "leak"] == []
    assert gated == declared == set(chosen)
    assert statement.names == items
    assert statement.services == {service.title for service in policy.services}
    undeclared = {one.name for one in found if one.kind == "undeclared"}
    own = {item.name for item in policy.necessary[0].items}
    told = [item for service in policy.services for item in service.items if item.kind == "cookie"]
    assert undeclared == {name for name in passed if not any(item.matches(name) for item in told)} == set()
    assert {item.name.replace("*", "x") for item in told if item.party == "first"} - own <= passed


@pytest.mark.checklist("CST-01")
def test_another_registry_is_another_statement(tmp_path: Path) -> None:
    pages = {}
    for chosen in ("youtube", "vimeo"):
        with school(tmp_path / chosen, services={chosen: {}}) as site:
            pages[chosen] = _Rows(site.browser.get("/privacy/cookies").text)

    assert pages["youtube"].services == {"consentkit", "YouTube"}
    assert pages["vimeo"].services == {"consentkit", "Vimeo"}
