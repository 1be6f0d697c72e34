"""What pages turn out to have lands in the database, in the background, on SQLite and on PostgreSQL."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from datetime import date, timedelta
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.testclient import TestClient

from consentkit import ConsentKit
from consentkit.audit import KEEP, Audit, Sighting, ledger, log
from consentkit.errors import ConsentKitError
from consentkit.store import Store
from consentkit.web.seen import Sightings
from tests.journeys.school import Clock, settings

DAY = date(2026, 3, 2)
SITE = "Basisschool De Linde"
STRANGE = '<script src="https://cdn.vreemd.example/x.js"></script>'
PAGE = f"""<!doctype html><html lang="nl"><head><title>De Linde</title>
<script async src="https://www.googletagmanager.com/gtag/js?id=G-X"></script></head><body>{STRANGE}
<iframe src="https://player.vimeo.com/video/1"></iframe></body></html>"""
row = ("cookie", "foo", "/", DAY, DAY, 1)


@pytest.fixture
def store(database_url: str) -> Iterator[Store]:
    store = Store(database_url)
    store.upgrade()
    yield store
    store.close()


def keep(store: Store, *rows: tuple[str, str, str, date, date, int], site: str = SITE) -> None:
    with store.begin() as connection:
        ledger.merge(connection, site, rows)


def kept(store: Store, site: str | None = None) -> list[Sighting]:
    with store.read() as connection:
        return ledger.read(connection, site)


def test_what_two_processes_saw_is_added_up(store: Store) -> None:
    later = DAY + timedelta(days=9)
    keep(store, row, ("host", "x.example", "/", DAY, DAY, 2))
    keep(store, ("cookie", "foo", "", DAY - timedelta(days=1), later, 4))
    keep(store, ("cookie", "foo", "/ander", DAY, DAY, 1), site="Ander")

    assert kept(store) == [
        Sighting("Ander", "cookie", "foo", "/ander", DAY, DAY, 1),
        Sighting(SITE, "cookie", "foo", "/", DAY - timedelta(days=1), later, 5),
        Sighting(SITE, "host", "x.example", "/", DAY, DAY, 2),
    ]
    assert [one.site for one in kept(store, "Ander")] == ["Ander"]


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_a_page_says_more_than_a_report_of_a_policy_and_that_more_than_nothing(store: Store) -> None:
    places = []
    for place in ("", "csp:img-src", "/contact", "csp:font-src", "", "/"):
        keep(store, ("host", "x.example", place, DAY, DAY, 1))
        places += [one.place for one in kept(store)]

    assert places == ["", "csp:img-src", "/contact", "/contact", "/contact", "/"]


def test_names_that_somebody_made_up_push_no_real_one_out(store: Store) -> None:
    keep(store, ("cookie", "echt", "/", DAY, DAY, 7), ("host", "x.example", "/", DAY, DAY, 1))

    for start in range(0, 1000, 500):
        keep(store, *[("cookie", f"nep-{start + number}", "", DAY, DAY, 1) for number in range(500)])

    names = [(one.kind, one.name) for one in kept(store)]
    assert ("cookie", "echt") in names
    assert ("host", "x.example") in names
    assert len(names) == ledger.MOST_OF_A_KIND + 1


def test_what_was_not_seen_for_thirteen_months_is_forgotten(store: Store) -> None:
    audit = Audit(store, {})
    keep(store, ("cookie", "oud", "/", DAY, DAY, 1), ("cookie", "nog", "/", DAY, DAY + timedelta(days=1), 1))

    assert audit.purge(DAY + KEEP) == 0
    assert audit.purge(DAY + KEEP + timedelta(days=1), dry_run=True) == 1
    assert len(kept(store)) == 2
    assert audit.purge(DAY + KEEP + timedelta(days=1)) == 1
    assert [one.name for one in kept(store)] == ["nog"]


def soon(condition: Callable[[], Any]) -> None:
    """Wait until it holds."""
    import time

    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_new_name_is_written_in_the_background_and_the_thread_ends(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log, "COLLECT", 0.05)
    seen = Sightings(today=lambda: DAY)
    audit = Audit(store, {SITE: seen})
    seen._wake = audit.wake

    seen.note("cookie", "foo", "/")
    seen.note("cookie", "foo", "/")

    soon(lambda: kept(store))
    assert kept(store) == [Sighting(SITE, "cookie", "foo", "/", DAY, DAY, 2)]
    soon(lambda: audit._thread is None)


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_where_the_database_is_away_names_wait_in_memory_and_it_is_said_once(
    store: Store, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(log, "COLLECT", 0.01)
    monkeypatch.setattr(log, "RETRY", 0.01)
    begin, tries = store.begin, []

    def away(**_: Any) -> Any:
        tries.append(1)
        raise ConsentKitError("away")

    monkeypatch.setattr(store, "begin", away)
    seen = Sightings(today=lambda: DAY)
    audit = Audit(store, {SITE: seen})
    seen._wake = audit.wake
    with caplog.at_level(logging.WARNING):
        seen.note("cookie", "foo", "/")
        soon(lambda: len(tries) > 3)

    monkeypatch.setattr(store, "begin", begin)
    audit.close()

    assert [one.getMessage() for one in caplog.records] == [
        "what was seen waits, the database can't take it: ConsentKitError"
    ]
    assert kept(store) == [Sighting(SITE, "cookie", "foo", "/", DAY, DAY, 1)]


# -- fed by pages -----------------------------------------------------------------------------------------------------


async def _page(request: Request) -> Response:
    response = HTMLResponse(PAGE)
    response.set_cookie("foo", "geheim")
    response.set_cookie("_ga", "x")
    response.delete_cookie("oud")
    return response


async def _stream(request: Request) -> Response:
    return StreamingResponse(iter(PAGE.split("\n")), media_type="text/html")


async def _data(request: Request) -> Response:
    response = JSONResponse({})
    response.set_cookie("kenmerk", "geheim")
    return response


def client(kit: ConsentKit) -> TestClient:
    app = Starlette(routes=[Route("/", _page), Route("/stroom", _stream), Route("/data/{id}", _data)])
    return TestClient(kit.wrap(app), base_url="http://school.test", headers={"Sec-Fetch-Dest": "document"})


@pytest.fixture
def kit(database_url: str, tmp_path: Any) -> Iterator[ConsentKit]:
    kit = ConsentKit(settings(tmp_path, database={"url": database_url}), clock=Clock())
    kit.store.upgrade()
    yield kit
    kit.close()


@pytest.mark.checklist("GAT-04")
def test_the_pages_that_go_out_tell_what_nobody_declared_and_nothing_of_the_visitor(kit: ConsentKit) -> None:
    with client(kit) as browser:
        browser.get("/stroom?naam=jan")
        browser.get("/data/123456", headers={"Cookie": "_fbp=fb.1.geheim; sid_98f6bcd4621d373cade4e832=1; sessionid=x"})
        browser.get("/")

    assert [one[1:] for one in kit.audit.read(SITE)] == [
        ("cookie", "_fbp", "", DAY, DAY, 1),
        ("cookie", "foo", "/", DAY, DAY, 1),
        ("cookie", "kenmerk", "/data/*", DAY, DAY, 2),
        ("cookie", "sessionid", "", DAY, DAY, 1),
        ("cookie", "sid_*", "", DAY, DAY, 1),
        ("host", "cdn.vreemd.example", "/stroom", DAY, DAY, 2),
        ("host", "player.vimeo.com", "/stroom", DAY, DAY, 2),
    ]


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_a_cookie_header_is_looked_at_once(kit: ConsentKit) -> None:
    browser = client(kit)
    for _ in range(5):
        browser.get("/stroom", headers={"Cookie": "vreemd=1"})

    assert [one.total for one in kit.sites[0].flow.seen.take() if one.name == "vreemd"] == [1]


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_a_body_that_is_remembered_whole_is_not_looked_at_again(kit: ConsentKit) -> None:
    browser = client(kit)
    for _ in range(20):
        browser.get("/")

    assert [one.total for one in kit.sites[0].flow.seen.take() if one.name == "cdn.vreemd.example"] == [1]


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
@pytest.mark.parametrize("path", ["/", "/stroom"])
def test_a_page_is_the_same_whether_it_is_looked_at_or_not_and_where_that_fails(
    kit: ConsentKit, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    browser = client(kit)
    seen = kit.sites[0].flow.seen
    choice = {"Sec-GPC": "1"}  # no question, so no random number in the page

    looked = browser.get(path, headers=choice).text
    monkeypatch.setattr(type(seen), "due", lambda self, path: False)
    unlooked = browser.get(path, headers=choice).text
    monkeypatch.undo()
    monkeypatch.setattr(type(seen), "_count", lambda *_: 1 / 0)
    failing = browser.get(path, headers=choice).text

    assert looked == unlooked == failing
