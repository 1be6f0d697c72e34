"""Whatever of ours fails, the page is served, with the app's own status, and gated."""

from __future__ import annotations

import asyncio
import gzip
import logging
from collections.abc import Iterator
from typing import Any

import pytest

from consentkit.choice import Choices
from consentkit.gate import Gate, Rewriter
from consentkit.web import body as web_body
from consentkit.web import middleware
from tests.web.minikit import PAGE, MiniKit, answering, call, leaks, scope_of, visit

HEADERS = [
    (b"ETag", b'"a"'),
    (b"Cache-Control", b"public"),
    (b"Set-Cookie", b"_ga=1"),
    (b"Link", b"<https://www.youtube.com/x>; rel=preload"),
    (b"Content-Security-Policy", b"script-src 'nonce-a'"),
    (b"X-Own", b"1"),
]


def _fail(*args: Any, **more: Any) -> Any:
    raise RuntimeError("injected")


FAULTS: list[tuple[str, Any, str]] = [
    ("finding the site", MiniKit, "site"),
    ("telling the day", MiniKit, "today"),
    ("reading the choice", Choices, "state"),
    ("making the inserts", MiniKit, "_inserts"),
    ("gating a whole page", Gate, "rewrite"),
    ("making a rewriter", Gate, "rewriter"),
    ("gating a piece", Rewriter, "feed"),
    ("ending a page", Rewriter, "close"),
    ("judging a cookie", Gate, "cookie"),
    ("filtering cookies", middleware, "filter_set_cookie"),
    ("judging what headers fetch", middleware, "filter_fetches"),
    ("making the headers", middleware, "page_headers"),
    ("reading the policy", middleware, "content_policy"),
    ("reading the conditions", middleware, "unmark"),
    ("judging the request", middleware, "_may_be_page"),
    ("telling page from part", middleware, "as_page"),
    ("judging the media type", middleware, "_media"),
    ("naming the path", middleware, "seen_path"),
    ("finding the charset", middleware, "charset_of"),
    ("reading the charset", web_body.Charset, "feed"),
    ("expiring cookies", middleware, "expiring"),
]


@pytest.fixture
def logged(caplog: pytest.LogCaptureFixture) -> Iterator[pytest.LogCaptureFixture]:
    with caplog.at_level(logging.ERROR, logger="consentkit"):
        yield caplog


@pytest.mark.checklist("GAT-16")
@pytest.mark.parametrize("granted", [(), ("analytics", "marketing", "youtube")])
@pytest.mark.parametrize("step", [None, 1, 50])
@pytest.mark.parametrize(("what", "owner", "name"), FAULTS, ids=[what for what, _, _ in FAULTS])
def test_a_page_is_served_gated_when_ours_fails(
    monkeypatch: pytest.MonkeyPatch,
    logged: pytest.LogCaptureFixture,
    *,
    what: str,
    owner: Any,
    name: str,
    step: int | None,
    granted: tuple[str, ...],
) -> None:
    kit = MiniKit()
    cookie = kit.cookie(*granted) + b"; _ga=1"
    kit.flow.visitor(b"warm", signal=None, today=kit.today())
    pieces = [PAGE] if step is None else [PAGE[at : at + step] for at in range(0, len(PAGE), step)]
    app = kit.wrap(answering(*pieces, headers=HEADERS, status=404))
    monkeypatch.setattr(owner, name, _fail)
    answer = visit(app, cookie=cookie, headers=[(b"if-none-match", b'"a"')])
    assert answer.status == 404
    assert answer.header(b"x-own") == b"1"
    if not granted:
        assert leaks(answer.body) == []
        assert answer.header(b"link") is None
        assert b"_ga=1" not in (answer.header(b"set-cookie") or b"")
    assert answer.header(b"cache-control") != b"public"
    assert answer.messages[-1].get("more_body") is False
    declared = answer.header(b"content-length")
    assert declared in (None, str(len(answer.body)).encode())
    if what != "reading the charset":
        assert b"Welkom" in answer.body
    ours = [record for record in logged.records if record.name == "consentkit"]
    assert len(ours) <= 2
    assert all("injected" in (record.exc_text or "") for record in ours)


@pytest.mark.checklist("GAT-16")
@pytest.mark.parametrize(("what", "owner", "name"), FAULTS, ids=[what for what, _, _ in FAULTS])
def test_what_is_no_page_is_served_as_it_is_when_ours_fails(
    monkeypatch: pytest.MonkeyPatch, what: str, owner: Any, name: str
) -> None:
    kit = MiniKit()
    inner = answering(b'{"a": 1}', b"\n", type=b"application/json", headers=[(b"Set-Cookie", b"sessionid=1")])
    monkeypatch.setattr(owner, name, _fail)
    answer = visit(kit.wrap(inner), headers=[(b"if-none-match", b'"a"')])
    assert (answer.status, answer.body) == (200, b'{"a": 1}\n')


@pytest.mark.checklist("GAT-16")
def test_when_even_the_rough_gate_fails_the_page_becomes_text(monkeypatch: pytest.MonkeyPatch) -> None:
    kit = MiniKit()
    monkeypatch.setattr(Gate, "rewrite", _fail)
    monkeypatch.setattr(middleware, "fallback", _fail)
    body = visit(kit.wrap(answering(PAGE))).body
    assert b"<" not in body
    assert b"Welkom" in body


@pytest.mark.checklist("GAT-16")
def test_a_failure_in_the_middle_of_a_stream_leaves_no_tag_cut_in_two(monkeypatch: pytest.MonkeyPatch) -> None:
    kit = MiniKit()
    real = Rewriter.feed
    for fails_at in range(1, 40):
        calls = 0

        def feed(self: Rewriter, data: bytes, fails_at: int = fails_at) -> bytes:
            nonlocal calls
            calls += 1
            return _fail() if calls == fails_at else real(self, data)

        with monkeypatch.context() as patch:
            patch.setattr(Rewriter, "feed", feed)
            pieces = [PAGE[at : at + 13] for at in range(0, len(PAGE), 13)]
            body = visit(kit.wrap(answering(*pieces, length=False))).body
        assert leaks(body) == []
        assert body.endswith(b"</html>\n")


@pytest.mark.checklist("GAT-16")
def test_a_failing_slot_costs_that_page_its_inserts_and_nothing_else(logged: pytest.LogCaptureFixture) -> None:
    kit = MiniKit(inserts=lambda view: _fail)
    body = visit(kit.wrap(answering(PAGE))).body
    assert leaks(body) == []
    assert b"id=consentkit" not in body
    assert body.endswith(b"</body></html>\n")
    assert len(logged.records) == 1


@pytest.mark.checklist("GAT-16")
@pytest.mark.parametrize("value", [b"", b"x", b"a.b", b"\xff\xfe", b"." * 5000, b"=;=;=", b"consentkit"])
def test_an_unreadable_choice_is_no_choice(value: bytes) -> None:
    kit = MiniKit()
    answer = visit(kit.wrap(answering(PAGE)), cookie=b"consentkit=" + value)
    assert answer.status == 200
    assert leaks(answer.body) == []
    assert b"id=consentkit" in answer.body


@pytest.mark.checklist("GAT-16")
def test_a_forged_cut_or_foreign_choice_is_no_choice() -> None:
    kit = MiniKit()
    good = kit.cookie("analytics", "marketing", "youtube")
    app = kit.wrap(answering(PAGE))
    assert len(leaks(visit(app, cookie=good).body)) == 3
    for at in range(len(b"consentkit="), len(good)):
        flipped = good[:at] + (b"A" if good[at : at + 1] != b"A" else b"B") + good[at + 1 :]
        assert leaks(visit(app, cookie=flipped).body) == []
        assert leaks(visit(app, cookie=good[:at]).body) == []


def test_a_failure_of_the_app_is_the_apps(logged: pytest.LogCaptureFixture) -> None:
    kit = MiniKit()

    async def before(scope: Any, receive: Any, send: Any) -> None:
        raise ValueError("the app's own")

    async def halfway(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/html")]})
        await send({"type": "http.response.body", "body": PAGE[:200], "more_body": True})
        raise ValueError("the app's own")

    for app in (before, halfway):
        with pytest.raises(ValueError, match="the app's own"):
            visit(kit.wrap(app))
    assert logged.records == []


@pytest.mark.parametrize("error", [asyncio.CancelledError, OSError, KeyboardInterrupt])
def test_a_server_that_stops_listening_stops_the_app(error: type[BaseException], logged: Any) -> None:
    kit = MiniKit()
    reached: list[type[BaseException]] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        try:
            await answering(PAGE, PAGE, length=False)(scope, receive, send)
        except BaseException as raised:
            reached.append(type(raised))
            raise

    async def send(message: dict[str, Any]) -> None:
        if message["type"] == "http.response.body":
            raise error

    async def run() -> None:
        with pytest.raises(error):
            await kit.wrap(app)(scope_of(headers=[(b"accept", b"text/html")]), _fail, send)

    asyncio.run(run())
    assert reached == [error]
    assert logged.records == []


def test_a_response_that_never_gets_a_body_still_gets_its_start() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        headers = [(b"content-type", b"text/html"), (b"content-length", b"9")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})

    assert [message["type"] for message in visit(MiniKit().wrap(app)).messages] == ["http.response.start"]


def test_a_failure_on_a_compressed_page_leaks_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    kit = MiniKit()
    for owner, name in ((Gate, "rewrite"), (middleware, "page_headers"), (middleware, "recoded")):
        with monkeypatch.context() as patch:
            patch.setattr(owner, name, _fail)
            app = answering(gzip.compress(PAGE), headers=[(b"content-encoding", b"gzip")])
            answer = asyncio.run(call(kit.wrap(app), scope_of(headers=[(b"accept-encoding", b"gzip")])))
        body = gzip.decompress(answer.body) if answer.header(b"content-encoding") else answer.body
        assert leaks(body) == []
        assert b"Welkom" in body
