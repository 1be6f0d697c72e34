"""The same middleware, unmodified, on really installed frameworks: one suite, every host, every way to add it."""

from __future__ import annotations

import asyncio
import importlib
import json
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from consentkit import ConsentKit
from tests.hosts import content
from tests.hosts.driver import Browser, exchange, plain, scope_of, socket_exchange
from tests.web.minikit import DOCUMENT, Answer, leaks

pytestmark = pytest.mark.filterwarnings("ignore:StreamingHttpResponse must consume:Warning")  # Django, of its own serve

WAYS = {
    "starlette": ["wrap", "add_middleware", "wrap around gzip", "inside gzip"],
    "fastapi": ["wrap", "add_middleware"],
    "django": ["wrap", "wrap around gzip", "wrap_wsgi"],
    "litestar": ["wrap", "asgi_handler", "wrap around gzip", "wrap around brotli"],
    "quart": ["wrap", "asgi_app"],
    "flask": ["wrap_wsgi"],
}
SETTINGS_LINK = b'data-consentkit="settings"'


@cache
def load(name: str, static: Path) -> content.Host:
    host: content.Host = importlib.import_module(f"tests.hosts.apps.{name}_app").build(static)
    return host


class Subject:
    """One host behind the kit in one way, beside the same host bare."""

    def __init__(self, name: str, way: str, host: content.Host, kit: ConsentKit) -> None:
        self.name, self.way, self.host, self.kit = name, way, host, kit
        self.app = host.ways[way](kit)
        self.shared = kit.sites[0].flow.mode == "shared"
        self.browser = Browser(self.app)

    def bare(self, url: str, **more: Any) -> Answer:
        return Browser(self.host.app).ask(url, **more)


@pytest.fixture(params=[(name, way) for name, ways in WAYS.items() for way in ways], ids="-".join)
def subject(request: pytest.FixtureRequest, static: Path, kit: ConsentKit) -> Subject:
    name, way = request.param
    return Subject(name, way, load(name, static), kit)


PAGES = ["/", "/stream", "/static/pagina.html", "/static/groot.html", "/missing", "/boom", "/form"]


@pytest.mark.checklist("GAT-06", "WDR-01")
@pytest.mark.parametrize("url", PAGES)
def test_every_page_is_gated_and_has_question_and_settings_link(subject: Subject, url: str) -> None:
    if url == "/boom" and subject.way in subject.host.outside:
        return  # the next test says what happens there
    bare, answer = subject.bare(url), subject.browser.ask(url)
    assert answer.status == bare.status == {"/missing": 404, "/boom": 500}.get(url, 200)
    body = plain(answer)
    assert leaks(body) == []
    assert SETTINGS_LINK in body
    assert body.count(b'id="consentkit"') == 1
    assert b"</html>" in body
    declared = answer.header(b"content-length")
    assert declared in (None, str(len(answer.body)).encode())
    if "inside" not in subject.way and url in ("/", "/missing") and bare.header(b"content-length"):
        assert declared


def test_the_last_error_page_of_starlette_stays_outside_of_its_own_middleware(subject: Subject) -> None:
    for way in subject.host.outside & {subject.way}:
        body = plain(subject.browser.ask("/boom"))
        assert SETTINGS_LINK not in body, f"{way}: say in docs/hosts.md that it is inside now"


def _texts(body: bytes) -> tuple[bool, ...]:
    return tuple(
        text.encode() in body for text in ("Basisschool De Linde", "Één café &amp; één tuin", 'write("</body>")')
    )


def test_the_page_itself_is_as_written(subject: Subject) -> None:
    assert _texts(plain(subject.browser.ask("/"))) == (True, True, True)


@pytest.mark.checklist("GAT-06")
def test_after_a_choice_the_page_is_what_was_agreed_to(subject: Subject) -> None:
    browser = subject.browser
    if subject.shared:
        return  # the next test
    before = browser.ask("/")
    assert before.header(b"cache-control") == b"private"
    assert b"cookie" in (before.header(b"vary") or b"").lower()
    assert browser.decide("accept").status == 303
    for url in ("/", "/stream"):
        body = plain(browser.ask(url))
        assert len(leaks(body)) == 3
        assert b'id="consentkit"' not in body
        assert all(line.encode() in body for line in content.SNIPPET.splitlines())
        assert content.BODY.encode() in body
    assert json.loads(plain(browser.ask("/consent", page=False))) == {"analytics": True}
    assert browser.decide_again("withdraw").status == 303
    body = plain(browser.ask("/"))
    assert leaks(body) == []
    assert b'id="consentkit"' not in body
    assert json.loads(plain(browser.ask("/consent", page=False))) == {"analytics": False}


@pytest.mark.checklist("GAT-15")
def test_in_shared_mode_the_page_never_depends_on_the_visitor(subject: Subject) -> None:
    if not subject.shared:
        return
    headers = [(b"sec-gpc", b"1"), (b"cookie", b"_ga=1; consentkit=x")]
    for url in ("/", "/stream", "/static/pagina.html"):
        first, second = subject.browser.ask(url), subject.browser.ask(url, headers=headers)
        assert plain(first) == plain(second)
        assert leaks(plain(first)) == []
        assert first.all(b"set-cookie") == second.all(b"set-cookie")


@pytest.mark.checklist("GAT-16")
@pytest.mark.parametrize("url", ["/json", "/download", "/static/foto.png", "/events", "/consent"])
def test_what_is_no_page_leaves_as_the_host_made_it(subject: Subject, url: str) -> None:
    if url == "/consent":
        assert json.loads(plain(subject.browser.ask(url, page=False))) == {"analytics": False}
        return
    accepts = [(b"accept", b"*/*"), (b"accept-encoding", b"identity")]
    bare = subject.bare(url, page=False, headers=accepts)
    answer = subject.browser.ask(url, page=False, headers=accepts)
    assert answer.body == bare.body
    kept = [header for header in bare.headers if not header[1].startswith(b"_ga=")]
    assert _stable(answer, subject) == _stable(Answer([{**bare.messages[0], "headers": kept}], {}), subject)
    if "gzip" not in subject.way and subject.way != "wrap around brotli" and "wsgi" not in subject.way:
        assert [m.get("more_body", False) for m in answer.messages[1:]] == [
            m.get("more_body", False) for m in bare.messages[1:]
        ]


def _stable(answer: Answer, subject: Subject) -> list[tuple[bytes, bytes]]:
    """The headers that say the same on every request; a compressor also says that it varies."""
    moving = {b"date", b"vary"} if "gzip" in subject.way or "brotli" in subject.way else {b"date"}
    return sorted(header for header in answer.headers if header[0] not in moving)


@pytest.mark.checklist("GAT-05")
def test_a_tracker_cookie_is_set_after_consent_only(subject: Subject) -> None:
    def names() -> set[bytes]:
        answer = subject.browser.ask("/json", page=False)
        return {value.partition(b"=")[0] for value in answer.all(b"set-cookie")}

    assert names() == {content.OWN_COOKIE.encode()}
    if not subject.shared:
        subject.browser.decide("accept")
        assert names() == {content.OWN_COOKIE.encode(), content.TRACKER_COOKIE.encode()}


def test_an_unchanged_static_page_answers_304_until_the_choice_changes(subject: Subject) -> None:
    browser, url = subject.browser, "/static/pagina.html"
    if not subject.host.conditional:
        return
    if subject.shared:
        tag = browser.ask(url).header(b"etag")
        assert tag
        assert browser.ask(url, headers=[(b"if-none-match", tag)]).status == 304
        return
    assert browser.ask(url).header(b"etag") is None
    browser.decide("refuse")
    answer = browser.ask(url)
    tag = answer.header(b"etag")
    assert tag is not None
    assert answer.header(b"last-modified") is None
    again = browser.ask(url, headers=[(b"if-none-match", tag)])
    assert (again.status, again.body, again.header(b"etag")) == (304, b"", tag)
    own = subject.bare(url).header(b"etag") or b""
    assert browser.ask(url, headers=[(b"if-none-match", own)]).status == 200
    modified = subject.bare(url).header(b"last-modified") or b""
    assert browser.ask(url, headers=[(b"if-modified-since", modified)]).status == 200
    browser.decide_again("withdraw")
    del browser.cookies["consentkit"]
    browser.decide("accept")
    assert browser.ask(url, headers=[(b"if-none-match", tag)]).status == 200


def test_static_files_keep_their_tags_and_ranges(subject: Subject) -> None:
    url, accepts = "/static/foto.png", [(b"accept", b"image/*")]
    bare = subject.bare(url, page=False, headers=accepts)
    tag = bare.header(b"etag")
    if subject.host.conditional and "gzip" not in subject.way:
        assert tag
        assert subject.browser.ask(url, page=False, headers=[*accepts, (b"if-none-match", tag)]).status == 304
    if subject.host.ranges:
        part = subject.browser.ask(url, page=False, headers=[*accepts, (b"range", b"bytes=10-19")])
        assert (part.status, part.body) == (206, bare.body[10:20])


@pytest.mark.parametrize("url", ["/", "/stream", "/static/pagina.html", "/json"])
def test_head_has_the_headers_of_get(subject: Subject, url: str) -> None:
    subject.browser.decide("refuse")
    get, head = subject.browser.ask(url), subject.browser.ask(url, method="HEAD")
    if head.status == 405:
        assert subject.bare(url, method="HEAD").status == 405
        return
    bare_get, bare_head = subject.bare(url), subject.bare(url, method="HEAD")
    if bare_get.header(b"content-type") != bare_head.header(b"content-type"):
        return  # Litestar says no type for its files on HEAD: nothing tells that it is a page
    for name in (b"cache-control", b"etag", b"content-type", b"last-modified"):
        if bare_get.header(name) == bare_head.header(name):  # Django tags a GET only
            assert head.header(name) == get.header(name)
    if url != "/json" and "inside" not in subject.way:
        assert head.header(b"content-length") is None


def test_a_form_of_the_host_is_posted_as_ever(subject: Subject) -> None:
    fields = [("naam", "Sam")]
    if subject.name == "django":
        fields.append(("csrfmiddlewaretoken", subject.browser.hidden("/form", "csrfmiddlewaretoken")))
        assert subject.browser.post("/form", fields[:1]).status == 403
    answer = subject.browser.post("/form", fields)
    assert answer.status in (302, 303)
    assert answer.header(b"location") == b"/?naam=Sam"


def test_a_fragment_is_gated_and_gets_no_banner(subject: Subject) -> None:
    body = plain(subject.browser.ask("/fragment", page=False, headers=[(b"hx-request", b"true")]))
    assert leaks(body) == []
    assert b'id="consentkit"' not in body
    assert SETTINGS_LINK not in body
    assert b'<div id="film">' in body


def test_pages_of_the_kit_are_served_beside_the_hosts(subject: Subject) -> None:
    for url in ("/privacy/settings", "/privacy/cookies"):
        answer = subject.browser.ask(url)
        assert answer.status == 200
        assert answer.header(b"cache-control") == b"no-store"
    assert json.loads(plain(subject.browser.ask("/.well-known/gpc.json")))["gpc"] is True
    assert subject.browser.ask("/privacyverklaring").status == 404
    assert b"Niet gevonden" in plain(subject.browser.ask("/privacy"))


def test_a_websocket_talks_and_knows_the_choice(subject: Subject) -> None:
    if not subject.host.websocket:
        return
    sent = asyncio.run(socket_exchange(subject.app, "hallo"))
    assert next(message["text"] for message in sent if message["type"] == "websocket.send") == "hallo False"


def test_lifespan_reaches_the_host(subject: Subject) -> None:
    async def run() -> list[str]:
        said: list[str] = []
        asked = [{"type": "lifespan.shutdown"}, {"type": "lifespan.startup"}]

        async def receive() -> dict[str, Any]:
            return asked.pop()

        async def send(message: dict[str, Any]) -> None:
            said.append(message["type"])

        await subject.app({"type": "lifespan", "asgi": {"version": "3.0"}, "state": {}}, receive, send)
        return said

    # Django takes no part in it: there we do, so that what is being sent is finished before the process ends.
    assert asyncio.run(run()) == ["lifespan.startup.complete", "lifespan.shutdown.complete"]


def test_a_streamed_page_leaves_piece_by_piece(subject: Subject) -> None:
    if "gzip" in subject.way or "brotli" in subject.way:
        return
    answer = subject.browser.ask("/stream")
    bare = subject.bare("/stream")
    assert len(answer.messages) == len(bare.messages)
    assert answer.header(b"content-length") is None
    first = next(i for i, message in enumerate(answer.messages[1:]) if message["body"])
    assert first == 0
    assert b"Basisschool" in b"".join(message["body"] for message in answer.messages[1:9])


def test_many_visitors_at_once_each_get_their_own(subject: Subject) -> None:
    if subject.shared:
        return
    subject.browser.decide("accept")
    agreed = "; ".join(f"{name}={value}" for name, value in subject.browser.cookies.items()).encode()

    async def run() -> list[Answer]:
        asks = [[*DOCUMENT, *([(b"cookie", agreed)] if number % 2 else [])] for number in range(20)]
        return await asyncio.gather(*(exchange(subject.app, scope_of("/stream", "GET", headers)) for headers in asks))

    for number, answer in enumerate(asyncio.run(run())):
        assert len(leaks(plain(answer))) == (3 if number % 2 else 0)


def test_litestars_own_middleware_gates_what_it_routes(static: Path, kit: ConsentKit) -> None:
    """Litestar calls its middleware after routing: pages are gated, our own routes and its 404 are outside."""
    browser = Browser(load("litestar", static).ways["middleware"](kit))
    assert leaks(browser.ask("/").body) == []
    assert SETTINGS_LINK in browser.ask("/").body
    assert browser.ask("/privacy/settings").status == 404
