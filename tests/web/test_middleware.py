"""What the middleware touches, what it leaves alone, and how it streams."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Any

import pytest

from tests.web.minikit import PAGE, TODAY, TRACKERS, MiniKit, answering, call, leaks, scope_of, visit


@pytest.fixture
def kit() -> MiniKit:
    return MiniKit()


@pytest.mark.checklist("GAT-06")
def test_a_page_leaves_gated_with_the_question_and_the_settings_link(kit: MiniKit) -> None:
    answer = visit(kit.wrap(answering(PAGE)), "/nieuws", query=b"a=1&b=2")
    assert leaks(answer.body) == []
    assert b'data-consentkit-needs="analytics"' in answer.body
    assert answer.body.count(b"<section id=consentkit>") == 1
    assert b"<section id=consentkit>/nieuws?a=1&b=2</section>" in answer.body
    assert b'data-consentkit="settings"' in answer.body
    assert answer.header(b"content-length") == str(len(answer.body)).encode()


@pytest.mark.checklist("GAT-06")
def test_each_granted_purpose_opens_its_own_tags_only(kit: MiniKit) -> None:
    for purpose, open_ in (("analytics", 0), ("youtube", 1), ("marketing", 2)):
        body = visit(kit.wrap(answering(PAGE)), cookie=kit.cookie(purpose)).body
        assert leaks(body) == [TRACKERS[open_]]


def test_with_everything_granted_the_page_is_as_written_but_for_the_settings_link(kit: MiniKit) -> None:
    body = visit(kit.wrap(answering(PAGE)), cookie=kit.cookie("analytics", "marketing", "youtube")).body
    assert body.replace(b'<a data-consentkit="settings" href="/privacy/settings">Cookie-instellingen</a>', b"") == PAGE


async def _plain(scope: Any, receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": ((b"Content-Type", b"application/json"),)})
    await send({"type": "http.response.body", "body": b'{"a":', "more_body": True})
    await send({"type": "http.response.body", "body": b"", "more_body": True})
    await send({"type": "http.response.body", "body": b"1}"})


HTML = b"text/html"
UNTOUCHED: list[tuple[str, dict[str, Any]]] = [
    ("JSON", {"type": b"application/json"}),
    ("an image", {"type": b"image/png"}),
    ("plain text", {"type": b"text/plain; charset=utf-8"}),
    ("a stylesheet", {"type": b"text/css"}),
    ("server-sent events", {"type": b"text/event-stream"}),
    ("a download", {"type": HTML, "headers": [(b"Content-Disposition", b'Attachment; filename="x.html"')]}),
    ("no content", {"type": HTML, "status": 204}),
    ("reset content", {"type": HTML, "status": 205}),
    ("not modified", {"type": HTML, "status": 304, "headers": [(b"ETag", b'"a"')]}),
    ("a part of a page", {"type": HTML, "status": 206, "headers": [(b"Content-Range", b"bytes 0-9/100")]}),
    ("a redirect", {"type": HTML, "status": 302, "headers": [(b"Location", b"/elders")]}),
    ("text without a type", {"type": None, "headers": [(b"X-Content-Type-Options", b"nosniff")]}),
]


@pytest.mark.checklist("GAT-16")
@pytest.mark.parametrize("mode", ["private", "shared"])
@pytest.mark.parametrize(("what", "response"), UNTOUCHED, ids=[what for what, _ in UNTOUCHED])
def test_what_is_no_page_leaves_message_for_message_as_it_came(what: str, response: dict[str, Any], mode: str) -> None:
    kit = MiniKit(mode=mode)
    app = answering(PAGE[:50], b"", PAGE[50:], trailing=True, **response)
    for method in ("GET", "HEAD", "POST"):
        scope = scope_of(headers=[(b"accept", b"text/html"), (b"sec-fetch-dest", b"document")], method=method)
        bare = asyncio.run(call(app, dict(scope)))
        assert asyncio.run(call(kit.wrap(app), scope)).messages == bare.messages


def test_headers_given_as_a_tuple_or_an_iterator_are_read_once(kit: MiniKit) -> None:
    assert visit(kit.wrap(_plain)).body == b'{"a":1}'

    async def app(scope: Any, receive: Any, send: Any) -> None:
        headers = iter([(b"Content-Type", b"text/plain"), (b"X-A", b"1")])
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b"x"})

    answer = visit(kit.wrap(app))
    assert answer.messages[0]["headers"] == [(b"Content-Type", b"text/plain"), (b"X-A", b"1")]


@pytest.mark.parametrize("kind", ["websocket", "something-new"])
def test_what_is_not_http_gets_the_servers_own_send(kit: MiniKit, kind: str) -> None:
    given: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        given.extend((receive, send))

    async def receive() -> dict[str, Any]:
        return {}

    async def send(message: dict[str, Any]) -> None: ...

    scope = {"type": kind, "path": "/privacy/settings", "headers": []} if kind == "websocket" else {"type": kind}
    asyncio.run(kit.wrap(app)(scope, receive, send))
    assert given == [receive, send]
    assert not kit.started


def test_header_names_in_any_case_are_understood(kit: MiniKit) -> None:
    app = answering(
        PAGE, type=b"Text/HTML; Charset=UTF-8", headers=[(b"CACHE-CONTROL", b"public, max-age=60"), (b"eTaG", b'"a"')]
    )
    answer = visit(kit.wrap(app))
    assert leaks(answer.body) == []
    assert answer.header(b"cache-control") == b"private, max-age=60"
    assert answer.header(b"etag") is None


# Framing


@pytest.mark.parametrize("trailing", [False, True])
@pytest.mark.parametrize("length", [False, True])
@pytest.mark.parametrize("pieces", [1, 2, 7])
def test_one_message_in_is_one_message_out(kit: MiniKit, pieces: int, length: bool, trailing: bool) -> None:
    size = -(-len(PAGE) // pieces)
    bodies = [PAGE[at : at + size] for at in range(0, len(PAGE), size)]
    app = answering(*bodies, length=length, trailing=trailing)
    bare = asyncio.run(call(app, scope_of()))
    answer = visit(kit.wrap(app))
    assert [message["type"] for message in answer.messages] == [message["type"] for message in bare.messages]
    assert [m.get("more_body") for m in answer.messages] == [m.get("more_body") for m in bare.messages]
    assert leaks(answer.body) == []
    assert answer.body.endswith(b"</html>\n")
    declared = answer.header(b"content-length")
    assert declared == (str(len(answer.body)).encode() if length and pieces == 1 else None)


def test_a_page_in_one_message_with_an_empty_one_after_it_keeps_a_length(kit: MiniKit) -> None:
    answer = visit(kit.wrap(answering(PAGE, trailing=True)))
    assert answer.header(b"content-length") == str(len(answer.body)).encode()
    assert answer.messages[-1] == {"type": "http.response.body", "body": b"", "more_body": False}


def test_bytes_after_the_announced_end_are_never_ungated(kit: MiniKit) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        headers = [(b"content-type", b"text/html"), (b"content-length", b"4")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b"<p>a", "more_body": True})
        await send({"type": "http.response.body", "body": PAGE})

    assert leaks(visit(kit.wrap(app)).body) == []


def test_the_start_of_a_streamed_page_does_not_wait_for_its_body(kit: MiniKit) -> None:
    log: list[str] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/html")]})
        log.append("app started")
        for piece in (b"<!doctype html><html><head><title>x</title></head><body>", b"<p>een</p>", b"<p>twee</p>"):
            await send({"type": "http.response.body", "body": piece, "more_body": True})
            log.append("app sent")
        await send({"type": "http.response.body"})

    async def send(message: dict[str, Any]) -> None:
        log.append(message["type"] if message["type"].endswith("start") else message["body"].decode()[-11:])

    async def receive() -> dict[str, Any]:
        return {}

    asyncio.run(kit.wrap(app)(scope_of(headers=[(b"sec-fetch-dest", b"document")]), receive, send))
    assert log[:2] == ["http.response.start", "app started"]
    assert "<p>een</p>" in log[4]
    assert "<p>twee</p>" in log[6]


def test_a_page_cut_anywhere_leaves_the_same_bytes(kit: MiniKit) -> None:
    whole = visit(kit.wrap(answering(PAGE))).body
    for size in (1, 2, 3, 5, 11, 64, 100):
        bodies = [PAGE[at : at + size] for at in range(0, len(PAGE), size)]
        assert visit(kit.wrap(answering(*bodies, length=False))).body == whole


@pytest.mark.parametrize("body", [b"", b"\n  "])
def test_an_empty_page_stays_empty_and_an_empty_response_too(kit: MiniKit, body: bytes) -> None:
    answer = visit(kit.wrap(answering(body)), headers=[])
    assert len(answer.messages) == 2
    if not body:
        assert answer.body == b""
        assert answer.header(b"content-length") == b"0"


def test_head_gets_the_headers_of_get_without_a_length(kit: MiniKit) -> None:
    cookie = kit.cookie("analytics")
    extra = [(b"ETag", b'"a"'), (b"Cache-Control", b"max-age=60"), (b"Accept-Ranges", b"bytes")]
    app = kit.wrap(answering(PAGE, headers=extra))
    get, head = visit(app, cookie=cookie), visit(app, cookie=cookie, method="HEAD")
    assert head.header(b"content-length") is None
    assert sorted(head.headers) == sorted(header for header in get.headers if header[0] != b"content-length")
    assert len(head.messages) == 2


def test_head_answers_that_carry_a_body_anyway_are_passed_on(kit: MiniKit) -> None:
    assert visit(kit.wrap(answering(PAGE, trailing=True)), method="HEAD").body == PAGE


# Where the app leaves the sending to the server


@pytest.mark.parametrize("size", [100, 64 * 1024 - 1, 64 * 1024, 200_000])
def test_pages_that_are_sent_as_files_are_read_and_gated(kit: MiniKit, tmp_path: Path, size: int) -> None:
    file = tmp_path / "page.html"
    file.write_bytes((PAGE[: PAGE.index(b"</body>")] + b"x" * size)[: max(size, 700)])
    whole = visit(kit.wrap(answering(file.read_bytes()))).body

    async def pathsend(scope: Any, receive: Any, send: Any) -> None:
        headers = [(b"content-type", b"text/html"), (b"content-length", str(file.stat().st_size).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.pathsend", "path": str(file)})

    async def zerocopy(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/html")]})
        with file.open("rb") as opened:
            half = file.stat().st_size // 2
            await send({"type": "http.response.zerocopysend", "file": opened, "count": half, "more_body": True})
            await send({"type": "http.response.zerocopysend", "file": opened.fileno(), "offset": half})

    for app in (pathsend, zerocopy):
        answer = visit(kit.wrap(app), extensions={"http.response.pathsend": {}, "http.response.zerocopysend": {}})
        assert answer.body == whole
        assert {message["type"] for message in answer.messages} == {"http.response.start", "http.response.body"}
    assert visit(kit.wrap(pathsend)).header(b"content-length") in (None, str(len(whole)).encode())


def test_other_files_are_still_sent_by_the_server(kit: MiniKit, tmp_path: Path) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"image/png")]})
        await send({"type": "http.response.pathsend", "path": os.fspath(tmp_path / "x.png")})

    answer = visit(kit.wrap(app))
    assert answer.messages[1] == {"type": "http.response.pathsend", "path": os.fspath(tmp_path / "x.png")}


# What a page is


def test_a_response_without_a_type_is_judged_by_its_first_bytes_as_browsers_do(kit: MiniKit) -> None:
    for split in (len(PAGE), 1):
        bodies = [PAGE[at : at + split] for at in range(0, len(PAGE), split)]
        assert leaks(visit(kit.wrap(answering(*bodies, type=None))).body) == []
    app = answering(b"plain <script src=https://www.googletagmanager.com/x>", type=None)
    bare = asyncio.run(call(app, scope_of()))
    assert visit(kit.wrap(app)).messages == bare.messages


def test_a_redirect_without_a_place_to_go_is_shown_and_so_is_gated(kit: MiniKit) -> None:
    assert leaks(visit(kit.wrap(answering(PAGE, status=300))).body) == []


@pytest.mark.checklist("WDR-01")
@pytest.mark.parametrize("status", [200, 400, 403, 404, 410, 500, 503])
def test_error_pages_have_the_settings_link_too(kit: MiniKit, status: int) -> None:
    answer = visit(kit.wrap(answering(PAGE, status=status)), cookie=kit.cookie())
    assert answer.status == status
    assert b'data-consentkit="settings"' in answer.body


def test_xhtml_is_gated_but_gets_nothing_that_would_break_it(kit: MiniKit) -> None:
    body = visit(kit.wrap(answering(PAGE, type=b"application/xhtml+xml"))).body
    assert leaks(body) == []
    assert b"id=consentkit" not in body


FRAGMENT = b'<div><iframe src="https://www.youtube.com/embed/x"></iframe></div>'
PARTS: list[tuple[str, list[tuple[bytes, bytes]], bool]] = [
    ("a page asked for by the address bar", [(b"sec-fetch-dest", b"document")], True),
    ("a page of a browser without fetch metadata", [], True),
    ("a frame", [(b"sec-fetch-dest", b"iframe")], False),
    ("a script's fetch", [(b"sec-fetch-dest", b"empty")], False),
    ("an htmx fragment", [(b"hx-request", b"true"), (b"sec-fetch-dest", b"empty")], False),
    ("a Turbo frame", [(b"turbo-frame", b"main"), (b"x-turbo-request-id", b"1")], False),
    ("an XMLHttpRequest", [(b"x-requested-with", b"XMLHttpRequest")], False),
    ("a WebView that names its app", [(b"x-requested-with", b"nl.app"), (b"sec-fetch-dest", b"document")], True),
    (
        "a body that htmx swaps in",
        [(b"hx-request", b"true"), (b"hx-boosted", b"true"), (b"sec-fetch-dest", b"empty")],
        True,
    ),
    ("a body from htmx's history", [(b"hx-request", b"true"), (b"hx-history-restore-request", b"true")], True),
    ("a body that Turbo swaps in", [(b"x-turbo-request-id", b"1"), (b"sec-fetch-dest", b"empty")], True),
    ("a page fetched ahead", [(b"sec-purpose", b"prefetch"), (b"sec-fetch-dest", b"empty")], True),
]


@pytest.mark.parametrize(("what", "headers", "page"), PARTS, ids=[part[0] for part in PARTS])
def test_only_what_becomes_a_page_gets_the_banner(
    kit: MiniKit, what: str, headers: list[tuple[bytes, bytes]], page: bool
) -> None:
    body = visit(kit.wrap(answering(PAGE)), headers=headers, page=False).body
    assert leaks(body) == []
    assert (b"id=consentkit" in body) is page
    assert (b'data-consentkit="settings"' in body) is page


def test_a_fragment_is_gated_and_gets_nothing_by_its_content_alone(kit: MiniKit) -> None:
    body = visit(kit.wrap(answering(FRAGMENT)), page=False).body
    assert leaks(body) == []
    assert b"settings" not in body


# Own routes


@pytest.mark.parametrize("path", ["/privacy/settings", "/privacy/settings/", "/privacy/x", "/.well-known/gpc.json"])
def test_own_routes_are_answered_by_the_kit(kit: MiniKit, path: str) -> None:
    assert visit(kit.wrap(answering(PAGE)), path).body == b"ours " + path.encode()


@pytest.mark.parametrize("path", ["/privacyverklaring", "/privacy", "/privacy/", "/x/privacy/settings", "/"])
def test_the_apps_own_routes_stay_the_apps(kit: MiniKit, path: str) -> None:
    assert b"Welkom" in visit(kit.wrap(answering(PAGE)), path).body


def test_gpc_json_is_the_apps_own_where_the_site_does_not_publish_it() -> None:
    assert b"Welkom" in visit(MiniKit(gpc=False).wrap(answering(PAGE)), "/.well-known/gpc.json").body


@pytest.mark.parametrize("path", ["/app/privacy/settings", "/privacy/settings"])
def test_a_mounted_app_has_its_routes_under_its_root_path(kit: MiniKit, path: str) -> None:
    assert visit(kit.wrap(answering(PAGE)), path, root_path="/app").body == b"ours " + path.encode()


@pytest.mark.parametrize("path", ["/app/nieuws/caf\u00e9 1", "/nieuws/caf\u00e9 1"])
def test_the_view_names_the_path_as_the_visitor_sees_it(kit: MiniKit, path: str) -> None:
    visit(kit.wrap(answering(PAGE)), path, root_path="/app", raw_path=None, query=b'q="<x>&b=%20')
    view = kit.seen[0]
    assert view.path == "/app/nieuws/caf%C3%A9%201?q=%22%3Cx%3E&b=%20"
    assert (view.root_path, view.host) == ("/app", "school.example")


def test_two_of_us_around_one_app_gate_once(kit: MiniKit) -> None:
    body = visit(kit.wrap(kit.wrap(answering(PAGE)))).body
    assert body.count(b"id=consentkit") == 1
    assert body == visit(kit.wrap(answering(PAGE))).body


def test_a_page_on_an_unknown_host_is_gated_and_gets_nothing(kit: MiniKit) -> None:
    scope = scope_of("/privacy/settings", headers=[(b"sec-fetch-dest", b"document")])
    scope["headers"][0] = (b"host", b"unknown.example")
    answer = asyncio.run(call(kit.wrap(answering(PAGE, headers=[(b"etag", b'"a"')])), scope))
    assert leaks(answer.body) == []
    assert b"settings" not in answer.body
    assert answer.header(b"etag") is None


# The app's own policy


@pytest.mark.parametrize(
    ("policies", "nonce", "wake"),
    [
        ([], None, "here"),
        ([b"default-src 'self'"], None, "here"),
        ([b"default-src 'self'; connect-src https://api.example"], None, "form"),
        ([b"script-src 'nonce-Abc+/1=' 'strict-dynamic'"], "Abc+/1=", "here"),
        ([b"default-src 'self', script-src 'nonce-b'"], "b", "here"),
        ([b"style-src 'nonce-s'; script-src 'nonce-j'"], "j", "here"),
        ([b"require-trusted-types-for 'script'"], None, "policy"),
        ([b"Require-Trusted-Types-For 'script'; Trusted-Types a consentkit"], None, "policy"),
        ([b"require-trusted-types-for 'script'; trusted-types *"], None, "policy"),
        ([b"require-trusted-types-for 'script'; trusted-types a"], None, "reload"),
        ([b"require-trusted-types-for 'script'", b"trusted-types 'none'"], None, "reload"),
        ([b"trusted-types a"], None, "here"),
        ([b"script-src 'nonce-\"><x>'"], None, "here"),
    ],
)
def test_the_apps_policy_is_read_and_never_changed(
    kit: MiniKit, policies: list[bytes], nonce: str | None, wake: str
) -> None:
    headers = [(b"Content-Security-Policy", policy) for policy in policies]
    answer = visit(kit.wrap(answering(PAGE, headers=headers)))
    assert answer.all(b"content-security-policy") == policies
    assert (kit.seen[0].nonce, kit.seen[0].wake) == (nonce, wake)


def test_headers_that_load_trackers_are_filtered(kit: MiniKit) -> None:
    link = b"<https://www.googletagmanager.com/gtag/js>; rel=preload; as=script"
    app = kit.wrap(answering(PAGE, headers=[(b"Link", link), (b"Link", b"</a.css>; rel=preload; as=style")]))
    assert visit(app).all(b"link") == [b"</a.css>; rel=preload; as=style"]
    assert link in visit(app, cookie=kit.cookie("analytics")).all(b"link")


LOADING = [
    (b"Link", b"<https://www.youtube.com/x>; rel=preload"),
    (b"Refresh", b"0; url=https://www.youtube.com/"),
    (b"Reporting-Endpoints", b'main="https://www.youtube.com/r"'),
    (b"Report-To", b'{"max_age":1,"endpoints":[{"url":"https://www.youtube.com/r"}]}'),
    (b"Speculation-Rules", b'"https://www.youtube.com/r.json"'),
    (b"Content-Security-Policy-Report-Only", b"img-src *; report-uri https://www.youtube.com/r"),
]
PASSING: dict[str, dict[str, Any]] = {
    "a page": {"bodies": (PAGE,)},
    "a page in pieces": {"bodies": (PAGE[:90], PAGE[90:])},
    "a page that can't be read": {"bodies": (PAGE,), "type": b"text/html; charset=utf-7"},
    "data": {"bodies": (b"{}",), "type": b"application/json"},
    "a picture of no type": {"bodies": (b"GIF89a",), "type": None},
    "nothing of no type": {"bodies": (b"",), "type": None},
    "a way elsewhere": {"bodies": (b"",), "status": 302, "headers": [(b"location", b"/x")]},
    "nothing new": {"bodies": (), "status": 304},
    "no content": {"bodies": (), "status": 204},
    "a download": {"bodies": (PAGE,), "headers": [(b"content-disposition", b"attachment")]},
}


@pytest.mark.checklist("GAT-01", "GAT-06")
@pytest.mark.parametrize("what", PASSING)
def test_no_response_of_any_kind_has_a_header_that_leads_to_a_tracker(kit: MiniKit, what: str) -> None:
    given = dict(PASSING[what])
    bodies, own = given.pop("bodies"), given.pop("headers", [])
    app = kit.wrap(answering(*bodies, headers=[*LOADING, *own, (b"cache-control", b"private")], **given))

    held, released = visit(app), visit(app, cookie=kit.cookie("youtube"))

    assert b"youtube.com" not in b"".join(value for _, value in held.headers)
    assert held.all(b"content-security-policy-report-only") == [b"img-src *;"]
    assert [value for _, value in LOADING if value not in {value for _, value in released.headers}] == []


def test_what_a_shared_cache_may_keep_leads_to_no_tracker_even_with_consent(kit: MiniKit) -> None:
    app = kit.wrap(answering(b"{}", type=b"application/json", headers=[*LOADING, (b"cache-control", b"max-age=9")]))

    answer = visit(app, cookie=kit.cookie("youtube"))

    assert b"youtube.com" not in b"".join(value for _, value in answer.headers)
    assert answer.body == b"{}"


def test_headers_that_lead_elsewhere_leave_as_they_came(kit: MiniKit) -> None:
    own = [(name, value.replace(b"www.youtube.com", b"own.example")) for name, value in LOADING]
    start = [(b"content-type", b"application/json"), *own]

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": start})
        await send({"type": "http.response.body", "body": b"{}"})

    assert visit(kit.wrap(app)).messages[0]["headers"] == start


def test_early_hints_are_filtered(kit: MiniKit) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        links = [b"<https://www.youtube.com/x.js>; rel=preload", b"</a.css>; rel=preload"]
        await send({"type": "http.response.early_hint", "links": links})
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/plain")]})
        await send({"type": "http.response.body", "body": b""})

    assert visit(kit.wrap(app)).messages[0]["links"] == [b"</a.css>; rel=preload"]
    assert len(visit(kit.wrap(app), cookie=kit.cookie("youtube")).messages[0]["links"]) == 2


def test_trailers_and_debug_messages_pass(kit: MiniKit) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.debug", "info": {}})
        headers = [(b"content-type", b"text/html")]
        await send({"type": "http.response.start", "status": 200, "headers": headers, "trailers": True})
        await send({"type": "http.response.body", "body": PAGE})
        await send({"type": "http.response.trailers", "headers": [(b"x", b"1")]})

    answer = visit(kit.wrap(app))
    assert [message["type"].rpartition(".")[2] for message in answer.messages] == ["debug", "start", "body", "trailers"]


@pytest.mark.checklist("GAT-14")
@pytest.mark.parametrize(
    ("headers", "signal"),
    [
        ([(b"sec-gpc", b"1")], "gpc"),
        ([(b"sec-gpc", b"0")], None),
        ([(b"sec-gpc", b"true")], None),
        ([(b"sec-gpc", b"1,1")], None),
        ([(b"sec-gpc", b"0"), (b"sec-gpc", b"1")], "gpc"),
        ([(b"sec-gpc", b"")], None),
        ([(b"dnt", b"1")], "dnt"),
        ([(b"dnt", b"0")], None),
        ([(b"dnt", b"1"), (b"sec-gpc", b"1")], "gpc"),
    ],
)
def test_the_browsers_signal_is_a_refusal_until_the_visitor_decides_here(
    kit: MiniKit, headers: list[tuple[bytes, bytes]], signal: str | None
) -> None:
    app = kit.wrap(answering(PAGE))
    body = visit(app, headers=headers).body
    assert leaks(body) == []
    assert (b"id=consentkit" in body) is (signal is None)
    assert kit.seen[0].state.signal == signal
    assert leaks(visit(app, headers=headers, cookie=kit.cookie("analytics")).body) == [TRACKERS[0]]


def test_a_choice_is_read_from_cookies_in_pieces(kit: MiniKit) -> None:
    pieces = [(b"cookie", b"a=1"), (b"cookie", kit.cookie("analytics")), (b"cookie", b"b=2")]
    assert leaks(visit(kit.wrap(answering(PAGE)), headers=pieces).body) == [TRACKERS[0]]


def test_the_memo_of_visitors_stays_bounded(kit: MiniKit) -> None:
    for number in range(5000):
        kit.flow.visitor(b"a=%d" % number, signal=None, today=TODAY)
    kit.flow.visitor(b"x" * 5000, signal=None, today=TODAY)
    assert len(kit.flow._visitors) <= 2048
    assert max(len(header) for header, _, _ in kit.flow._visitors) <= 4096
