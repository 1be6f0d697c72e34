"""The policy of ours on real responses: appended to the app's, per visitor or for everybody, and told on by reports."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from consentkit import ConsentKit
from consentkit.gate.csp import CLOSED_CSP, ContentPolicy
from consentkit.gate.vectors import Slot
from consentkit.web import middleware
from consentkit.web.headers import FALLBACK_CSP, content_policy
from consentkit.web.reports import MAX_BODY, MAX_REPORTS, blocked
from tests.gate.csp3 import fetches, policies
from tests.journeys.school import settings
from tests.web.minikit import PAGE, SERVICES, Answer, MiniKit, answering, call, scope_of, visit

CSP = b"content-security-policy"
REPORT_ONLY = b"content-security-policy-report-only"
ENDPOINT = b"reporting-endpoints"
APP = b"script-src 'self' 'nonce-n' https://cdn.example; img-src *.facebook.com"
BASE = b"default-src 'self' 'unsafe-inline' 'unsafe-eval' 'wasm-unsafe-eval' data: blob: school.example:* "
OWN = BASE + b"*.school.example:* ws://school.example:* ws://*.school.example:*"
TO = b"; report-uri /privacy/csp-report"
VIDEO = b" youtube.com:* *.youtube.com:* youtube-nocookie.com:* *.youtube-nocookie.com:*"
HERE = "http://school.example/"


def kit(mode: str = "private", *, enforce: bool = True, secure: bool = False) -> MiniKit:
    made = MiniKit(mode=mode, secure=secure)
    policy = ContentPolicy(
        SERVICES,
        configured={service.id for service in SERVICES},
        allows=made.gate.allows,
        own_hosts=("school.example",),
        enforce=enforce,
        everybody=mode == "shared",
        strict=False,
        path="/privacy/csp-report",
    )
    made.flow = replace(made.flow, csp=policy)
    return made


def page(kit: MiniKit, *granted: str, headers: Any = (), **more: Any) -> Answer:
    cookie = kit.cookie(*granted) if granted else b""
    return visit(kit.wrap(answering(PAGE, headers=headers)), cookie=cookie, **more)


# -- which header, in which mode


def test_off_adds_nothing() -> None:
    names = {name for name, _ in page(MiniKit()).headers}

    assert names.isdisjoint({CSP, REPORT_ONLY, ENDPOINT})


@pytest.mark.parametrize(("enforce", "name", "other"), [(True, CSP, REPORT_ONLY), (False, REPORT_ONLY, CSP)])
def test_ours_goes_beside_the_apps_and_the_apps_stays_as_it_was(enforce: bool, name: bytes, other: bytes) -> None:
    sent = [(b"Content-Security-Policy", APP), (b"content-security-policy-report-only", b"default-src 'none'")]

    answer = page(kit(enforce=enforce), headers=[*sent, (ENDPOINT, b'app="/r"')])
    app = dict(sent) | {CSP: APP}

    assert answer.all(name) == [app[name], OWN + b" https://cdn.example" + TO]
    assert answer.all(other) == [app[other]]
    assert answer.all(ENDPOINT) == [b'app="/r"']


def test_over_https_browsers_are_told_of_both_ways_to_report_and_the_apps_endpoints_stay() -> None:
    answer = page(kit(secure=True), headers=[(ENDPOINT, b'app="/r"')])

    (ours,) = answer.all(CSP)
    assert ours.endswith(b"; report-uri /privacy/csp-report; report-to consentkit")
    assert answer.all(ENDPOINT) == [b'app="/r"', b'consentkit="/privacy/csp-report"']


def test_where_the_app_is_mounted_reports_go_there() -> None:
    answer = page(kit(), path="/app/x", root_path="/app")

    assert (answer.header(CSP) or b"").endswith(b"; report-uri /app/privacy/csp-report")


def test_each_visitor_gets_what_this_visitor_granted() -> None:
    own = kit()

    assert page(own).all(CSP) == page(own, "-").all(CSP) == [OWN + TO]
    assert page(own, "youtube").all(CSP) == [OWN + VIDEO + TO]
    assert b"facebook" in page(own, "youtube", "marketing").all(CSP)[0]


def test_a_page_for_everybody_lists_what_anybody_may_have_granted() -> None:
    shared = kit("shared")

    asked, granted = page(shared), page(shared, "youtube")

    assert asked.all(CSP) == granted.all(CSP)
    assert all(name in asked.all(CSP)[0] for name in (b"youtube.com", b"facebook.com", b"googletagmanager.com"))
    assert asked.header(b"vary") is None


@pytest.mark.parametrize("granted", [(), ("youtube",)])
@pytest.mark.parametrize("enforce", [True, False])
def test_for_any_address_what_leaves_opens_nothing_that_the_app_closed(granted: tuple[str, ...], enforce: bool) -> None:
    several = [(CSP, APP + b", default-src https: data:"), (CSP, b"frame-src *.youtube.com cdn.example")]
    answer = page(kit(enforce=enforce), *granted, headers=several)
    app, both = policies(several), policies(answer.headers)
    for url in ("https://cdn.example/a", "https://x.facebook.com/tr", "https://www.youtube.com/embed/x", HERE + "a"):
        for directive in ("script-src-elem", "img-src", "frame-src", "connect-src"):
            assert fetches(both, directive, url, HERE) <= fetches(app, directive, url, HERE)

    assert fetches(app, "img-src", "https://x.facebook.com/tr", HERE)
    assert fetches(both, "img-src", "https://x.facebook.com/tr", HERE) is not enforce
    assert fetches(both, "frame-src", "https://www.youtube.com/embed/x", HERE) is (not enforce or bool(granted))


# -- which responses


def test_head_gets_the_headers_that_get_would() -> None:
    own = kit()

    assert page(own, "youtube", method="HEAD").all(CSP) == page(own, "youtube").all(CSP)


@pytest.mark.parametrize("type", [b"application/json", b"image/png", b"text/css"])
def test_what_is_no_page_gets_no_policy(type: bytes) -> None:
    answer = visit(kit().wrap(answering(b"{}", type=type)))

    assert answer.all(CSP) == []


@pytest.mark.parametrize(
    ("type", "headers"),
    [(b"application/xhtml+xml", []), (None, []), (b"text/html", [(b"sec-fetch-dest", b"iframe")])],
)
def test_every_kind_of_page_gets_it(type: bytes | None, headers: Any) -> None:
    answer = visit(kit().wrap(answering(PAGE, type=type)), headers=headers, page=not headers)

    assert answer.all(CSP) == [OWN + TO]


def test_a_page_that_cannot_be_read_keeps_the_narrower_policy() -> None:
    answer = visit(kit().wrap(answering(PAGE, type=b"text/html; charset=utf-7")))

    assert answer.all(CSP) == [FALLBACK_CSP]


@pytest.mark.checklist("GAT-16")
@pytest.mark.parametrize(("owner", "name"), [(ContentPolicy, "headers"), (middleware, "page_headers")])
def test_when_ours_fails_the_page_is_served_and_the_browser_loads_from_the_own_origin_only(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, owner: Any, name: str
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("injected")

    own = kit()
    cookie = own.cookie("youtube", "marketing", "analytics")
    monkeypatch.setattr(owner, name, fail)
    with caplog.at_level(logging.ERROR, logger="consentkit"):
        answer = visit(own.wrap(answering(PAGE)), cookie=cookie)

    assert answer.status == 200
    assert b"Welkom" in answer.body
    assert answer.all(CSP) == [CLOSED_CSP if owner is ContentPolicy else OWN + TO]
    assert len(caplog.records) == 1


# -- 304


def conditional(headers_of_304: list[tuple[bytes, bytes]]) -> Callable[..., Any]:
    """A page with an entity tag, and an app that may say its policy again with a 304."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        again = b"if-none-match" in dict(scope["headers"])
        start = {
            "type": "http.response.start",
            "status": 304 if again else 200,
            "headers": [(b"ETag", b'"v1"'), (b"Content-Type", b"text/html"), *([] if again else [(CSP, APP)])],
        }
        if again:
            start["headers"] = [(b"ETag", b'"v1"'), *headers_of_304]
        await send(start)
        await send({"type": "http.response.body", "body": b"" if again else PAGE})

    return app


@pytest.mark.checklist("GAT-15")
@pytest.mark.parametrize(
    ("said", "kept"),
    [
        ([(b"Content-Security-Policy", APP)], [APP, OWN + VIDEO + b" https://cdn.example" + TO]),
        # Not said again, what the browser stored stays; said by us alone, it would take the app's away.
        ([], []),
    ],
)
def test_a_304_leaves_the_browser_with_the_policies_of_the_page(said: Any, kept: list[bytes]) -> None:
    own = kit()
    app = own.wrap(conditional(said))
    cookie = own.cookie("youtube")
    first = visit(app, cookie=cookie)

    again = visit(app, cookie=cookie, headers=[(b"if-none-match", first.header(b"etag") or b"")])

    assert first.all(CSP) == [APP, OWN + VIDEO + b" https://cdn.example" + TO]
    assert (again.status, again.all(CSP)) == (304, kept)


@pytest.mark.checklist("GAT-15")
def test_after_another_choice_the_page_comes_anew_with_its_new_policy() -> None:
    own = kit()
    app = own.wrap(conditional([]))
    first = visit(app, cookie=own.cookie("youtube"))

    later = visit(app, cookie=own.cookie("marketing"), headers=[(b"if-none-match", first.header(b"etag") or b"")])

    assert later.status == 200
    assert b"youtube" not in later.all(CSP)[1]


def test_another_catalogue_or_mode_makes_other_entity_tags(tmp_path: Path) -> None:
    tags = set()
    for number, options in enumerate(({}, {"csp": "report"}, {"csp": "enforce"}, {"csp": "enforce", "strict": True})):
        made = ConsentKit(settings(tmp_path / str(number), services={"youtube": {}}, **options))
        tags.add(made.sites[0].flow.html_etag)
        made.close()

    assert len(tags) == 4


# -- the nonce, and how what was held wakes


@pytest.mark.parametrize(
    ("values", "metas", "found"),
    [
        ([], ("script-src 'nonce-m'",), ("m", "here")),
        ([b"script-src 'nonce-h'"], ("script-src 'nonce-m'",), ("h", "here")),
        ([b"script-src 'nonce-h'"], ("require-trusted-types-for 'script'",), ("h", "policy")),
        ([], ("require-trusted-types-for 'script'; trusted-types app",), (None, "reload")),
        ([], ("connect-src api.example",), (None, "form")),
        ([], ("script-src x.example, require-trusted-types-for 'script'",), (None, "here")),  # one policy, no list
    ],
)
def test_policies_in_the_page_count_like_those_of_the_header(
    values: list[bytes], metas: tuple[str, ...], found: tuple[str | None, str]
) -> None:
    assert content_policy(values, metas) == found


def test_a_place_is_filled_by_the_policies_that_stand_before_it() -> None:
    own = MiniKit()
    response = middleware._Response(scope_of(), None, own.gate, visit_of(own), {})  # type: ignore[arg-type]
    fill = response._filler(own.flow, [])
    meta = ("script-src 'nonce-m'; require-trusted-types-for 'script'",)
    for policies_before in ((), meta, meta):
        fill(Slot("head", None, False, False, policies=policies_before))

    assert [(view.nonce, view.wake) for view in own.seen] == [(None, "here"), ("m", "policy")]


def visit_of(own: MiniKit) -> Any:
    """What the middleware knows of a visitor who comes for the first time."""
    scope = scope_of()
    asyncio.run(call(own.wrap(answering(b"x", type=b"text/plain")), scope))
    return scope[middleware.KEY]


@pytest.mark.parametrize(
    ("mode", "enforce", "policy", "wake"),
    [
        ("private", True, None, "again"),
        ("private", True, b"require-trusted-types-for 'script'", "again"),
        ("private", True, b"connect-src 'none'", "form"),
        ("private", False, None, "here"),
        ("shared", True, None, "here"),
        ("shared", True, b"require-trusted-types-for 'script'", "policy"),
    ],
)
def test_only_where_the_list_is_this_visitors_must_the_page_load_again(
    mode: str, enforce: bool, policy: bytes | None, wake: str
) -> None:
    own = kit(mode, enforce=enforce)
    page(own, headers=[(CSP, policy)] if policy else ())

    assert own.seen[0].wake == wake


# -- reports


@pytest.fixture
def client(tmp_path: Path) -> Iterator[Callable[..., tuple[TestClient, ConsentKit]]]:
    kits: list[ConsentKit] = []

    def start(**options: Any) -> tuple[TestClient, ConsentKit]:
        named = {"google-analytics": {}, "youtube": {}}
        made = ConsentKit(settings(tmp_path, services=named, **{"csp": "report", **options}))
        made.audit.wake = lambda: None  # type: ignore[method-assign]  # nothing writes what this test looks at
        kits.append(made)
        return TestClient(made.wrap(answering(PAGE)), base_url="http://school.test"), made

    yield start
    for made in kits:
        made.close()


def noted(kit: ConsentKit) -> list[tuple[str, str, str]]:
    return sorted((row.kind, row.name, row.place) for row in kit.sites[0].flow.seen.take())


def report(url: object, directive: object = "img-src", **more: object) -> dict[str, object]:
    return {"csp-report": {"blocked-uri": url, "effective-directive": directive, **more}}


def send(client: TestClient, body: bytes | object, type: str = "application/csp-report", **headers: str) -> int:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    return client.post("/privacy/csp-report", content=content, headers={"content-type": type, **headers}).status_code


def test_a_report_leaves_the_host_and_the_directive_and_nothing_of_the_visitor(client: Any) -> None:
    http, made = client()
    url = "https://user:pass@Spy.Example:8443/path/visitor-7?id=visitor-7#x"
    full = report(url, "img-src", **{"document-uri": "http://school.test/?q=visitor-7", "referrer": "visitor-7"})

    assert send(http, full, origin="null", **{"sec-fetch-site": "cross-site"}) == 204
    assert noted(made) == [("host", "spy.example", "csp:img-src")]


def test_a_batch_of_the_reporting_api_is_read_too(client: Any) -> None:
    http, made = client()
    batch = [
        {"type": "csp-violation", "body": {"blockedURL": "https://a.example/x?y", "effectiveDirective": "font-src"}},
        {"type": "csp-violation", "body": {"blockedURL": "wss://b.example", "effectiveDirective": "connect-src"}},
        {"type": "deprecation", "body": {"id": "x"}},
        {"type": "csp-violation", "body": None},
        "x",
    ]

    assert send(http, batch, "application/reports+json; charset=utf-8") == 204
    assert noted(made) == [("host", "a.example", "csp:font-src"), ("host", "b.example", "csp:connect-src")]


def test_what_the_site_declares_is_not_noted_again(client: Any) -> None:
    http, made = client()
    for url in ("https://www.googletagmanager.com/gtag/js", "http://x.school.test/x", "https://i.ytimg.com/x"):
        assert send(http, report(url)) == 204

    assert noted(made) == []


def test_without_a_policy_of_ours_nothing_is_noted(client: Any) -> None:
    http, made = client(csp="off")

    assert send(http, report("https://spy.example")) == 204
    assert noted(made) == []


@pytest.mark.parametrize(
    ("body", "found"),
    [
        (report("inline", "script-src-elem"), [("inline", "script-src-elem")]),
        (report("eval", "script-src"), [("eval", "script-src")]),
        (report("data", "font-src"), [("data", "font-src")]),
        (report("https://a.example", None, **{"violated-directive": "img-src x"}), []),
        ({"csp-report": {"blocked-uri": "http://a.example./", "violated-directive": "img-src 'self'"}},
         [("a.example", "img-src")]),
        (report("https://a.example", "form-action"), []),
        (report("https://a.example", "<script>"), []),
        (report("chrome-extension://abc/x"), []),
        (report("https://[::1"), []),
        (report("https://a b.example/"), []),
        (report("https://caf\u00e9.example/"), []),
        (report("https://" + "a." * 200 + "example"), []),
        (report(7), []),
        (report("self"), []),
        (report(""), []),
        ({}, []),
        ([], []),
        (None, []),
        (b"{", []),
        (b"\xff", []),
        (b"[" * 9000, []),
    ],
)  # fmt: skip
def test_what_is_no_report_leaves_nothing(body: Any, found: list[tuple[str, str]]) -> None:
    assert list(blocked(body if isinstance(body, bytes) else json.dumps(body).encode())) == found


def test_of_one_message_a_bounded_number_of_reports_is_read() -> None:
    batch = [
        {"type": "csp-violation", "body": {"blockedURL": f"https://{number}.example", "effectiveDirective": "img-src"}}
        for number in range(MAX_REPORTS + 5)
    ]

    assert len(list(blocked(json.dumps(batch).encode()))) == MAX_REPORTS


def test_the_route_takes_what_browsers_post_and_no_more_than_that(client: Any) -> None:
    http, made = client()

    assert send(http, report("https://spy.example"), "text/plain") == 204
    assert send(http, report("https://spy.example", **{"x": "y" * MAX_BODY})) == 413
    refused = http.get("/privacy/csp-report")
    assert (refused.status_code, refused.headers["allow"]) == (405, "POST")
    assert noted(made) == []
    codes = [send(http, report("https://spy.example")) for _ in range(130)]
    assert set(codes[:100]) == {204}
    assert codes[-1] == 429


@pytest.mark.parametrize("kind", [b"image/svg+xml", b"text/xml; charset=utf-8"])
@pytest.mark.parametrize(("enforce", "name"), [(True, CSP), (False, REPORT_ONLY)])
def test_a_drawing_is_a_document_of_its_own_and_loads_from_the_own_origin_only(
    kind: bytes, enforce: bool, name: bytes
) -> None:
    app = answering(b"<svg/>", headers=[(b"content-type", kind)])

    told = visit(kit(enforce=enforce).wrap(app))
    off = visit(MiniKit().wrap(app))

    assert told.all(name) == [CLOSED_CSP]
    assert off.all(name) == []
    assert told.body == off.body == b"<svg/>"
