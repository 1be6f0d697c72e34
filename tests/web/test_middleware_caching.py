"""No cache may give one visitor what another agreed to, and no 304 may bring back yesterday's choice."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import pytest

from consentkit.web.headers import mark, page_headers, private_cache, unmark, varying
from tests.web.minikit import PAGE, TODAY, Answer, MiniKit, answering, call, leaks, scope_of, visit

TAG = b'"v1"'


def conditional(*, etag: bytes = TAG, status_when_met: int = 304) -> Any:
    """An app with one page that answers conditional requests, as a file server does."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        app.headers = dict(scope["headers"])  # type: ignore[attr-defined]
        asked = [tag.strip().removeprefix(b"W/") for tag in app.headers.get(b"if-none-match", b"").split(b",")]  # type: ignore[attr-defined]
        headers = [(b"ETag", etag), (b"Cache-Control", b"public, max-age=60"), (b"Last-Modified", b"yesterday")]
        if etag.removeprefix(b"W/") in asked or app.headers.get(b"if-modified-since"):  # type: ignore[attr-defined]
            await send({"type": "http.response.start", "status": status_when_met, "headers": headers})
            await send({"type": "http.response.body", "body": b""})
            return
        headers += [(b"Content-Type", b"text/html"), (b"Content-Length", str(len(PAGE)).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": PAGE})

    return app


@pytest.mark.parametrize(
    ("given", "sent"),
    [
        (b"", b"private"),
        (b"public", b"private"),
        (b"public, max-age=60", b"private, max-age=60"),
        (b"max-age=60, s-maxage=600, must-revalidate", b"private, max-age=60, must-revalidate"),
        (b"no-store", b"private, no-store"),
        (b"no-cache, private", b"private, no-cache"),
        (b'private="set-cookie, x-a", max-age=5', b"private, max-age=5"),
        (b'no-cache="set-cookie, public", S-MaxAge=1', b'private, no-cache="set-cookie, public"'),
        (b",,  ,", b"private"),
        (b'x="a\\",public", public', b'private, x="a\\",public"'),
    ],
)
def test_cache_control_keeps_what_it_said_to_the_browser(given: bytes, sent: bytes) -> None:
    assert private_cache(given) == sent


@pytest.mark.parametrize(
    ("given", "sent"),
    [
        (b"", b"Cookie"),
        (b"Accept-Encoding", b"Accept-Encoding, Cookie"),
        (b"cookie", b"cookie"),
        (b"Accept, COOKIE", b"Accept, COOKIE"),
        (b"*", b"*"),
    ],
)
def test_vary_is_merged(given: bytes, sent: bytes) -> None:
    assert varying(given, b"Cookie") == sent


def test_headers_that_only_shared_caches_obey_are_left_out_of_a_private_page() -> None:
    headers = [
        (b"CDN-Cache-Control", b"max-age=9"),
        (b"Surrogate-Control", b"max-age=9"),
        (b"Vercel-CDN-Cache-Control", b"max-age=9"),
        (b"X-Accel-Expires", b"9"),
        (b"X-Frame-Options", b"DENY"),
    ]
    kept = page_headers(headers, tag=None, private=True)
    assert kept == [(b"X-Frame-Options", b"DENY"), (b"cache-control", b"private"), (b"vary", b"Cookie")]
    assert page_headers(headers, tag=None, private=False) == headers


def test_digests_and_offsets_of_the_apps_own_bytes_are_left_out() -> None:
    names = [b"Content-MD5", b"Digest", b"Repr-Digest", b"Content-Digest", b"Accept-Ranges", b"Last-Modified"]
    assert page_headers([(name, b"x") for name in names], tag=None, private=False) == []


@pytest.mark.parametrize(
    ("condition", "page", "passed", "ours"),
    [
        (b'"a-ckaaaaaaaaaaaa"', True, b'"a"', True),
        (b'W/"a-ckaaaaaaaaaaaa"', True, b'W/"a"', True),
        (b'"a-ckbbbbbbbbbbbb"', True, None, False),
        (b'"a-ckbbbbbbbbbbbb"', False, None, False),
        (b'"a"', True, None, False),
        (b'"a"', False, b'"a"', False),
        (b"*", True, None, False),
        (b"*", False, b"*", False),
        (b'"a", W/"b,c-ckaaaaaaaaaaaa" , "d-ckbbbbbbbbbbbb"', True, b'W/"b,c"', True),
        (b'"a", W/"b,c-ckaaaaaaaaaaaa"', False, b'"a", W/"b,c"', True),
        (b'"a-ckaaaaaaaaaaaa-gzip"', True, None, False),
        (b"broken", True, None, False),
        (b'""', False, b'""', False),
    ],
)
def test_only_tags_of_this_visitors_variant_reach_the_app(
    condition: bytes, page: bool, passed: bytes | None, ours: bool
) -> None:
    assert unmark(condition, b"a" * 12, page=page) == (passed, ours)


@pytest.mark.parametrize("tag", [b'"a"', b'W/"a"', b'""', b' "a,b" '])
def test_a_marked_tag_comes_back_as_it_was(tag: bytes) -> None:
    marked = mark(tag, b"0123456789ab")
    assert marked is not None
    assert unmark(marked, b"0123456789ab", page=True) == (tag.strip(), True)


def test_a_tag_that_is_none_is_left_out() -> None:
    assert mark(b"unquoted", b"0" * 12) is None


@pytest.mark.checklist("GAT-15")
def test_a_page_that_depends_on_the_choice_is_private_and_varies_by_cookie() -> None:
    kit = MiniKit()
    for cookie in (b"", kit.cookie(), kit.cookie("analytics")):
        answer = visit(kit.wrap(answering(PAGE, headers=[(b"Cache-Control", b"public, s-maxage=9")])), cookie=cookie)
        assert answer.all(b"cache-control") == [b"private"]
        assert answer.all(b"vary") == [b"Cookie"]


@pytest.mark.parametrize("etag", [b'"v1"', b'W/"v1"'])
def test_an_unchanged_page_and_choice_is_not_sent_again(etag: bytes) -> None:
    kit = MiniKit()
    app = kit.wrap(conditional(etag=etag))
    cookie = kit.cookie("analytics")
    first = visit(app, cookie=cookie)
    tag = first.header(b"etag")
    assert tag
    assert tag != etag
    assert tag.startswith(etag[:-1])
    assert first.header(b"last-modified") is None
    for condition in (tag, b'"other", ' + tag, b"W/" + tag.removeprefix(b"W/")):
        again = visit(app, cookie=cookie, headers=[(b"if-none-match", condition)])
        assert again.status == 304
        assert again.header(b"etag") == tag
        assert again.header(b"cache-control") == b"private, max-age=60"
        assert again.header(b"vary") == b"Cookie"
        assert again.header(b"last-modified") is None


@pytest.mark.checklist("GAT-15")
def test_no_304_brings_back_another_choice() -> None:
    kit = MiniKit()
    app = kit.wrap(conditional())
    cookies = [kit.cookie(), kit.cookie("analytics"), kit.cookie("analytics", "marketing"), kit.cookie("youtube")]
    tags = [visit(app, cookie=cookie).header(b"etag") or b"" for cookie in cookies]
    assert len(set(tags)) == len(cookies)
    for own, cookie in zip(tags, cookies, strict=True):
        for tag in [*tags, TAG, b"*"]:
            again = visit(app, cookie=cookie, headers=[(b"if-none-match", tag)])
            assert again.status == (304 if tag == own else 200)
        assert visit(app, cookie=cookie, headers=[(b"if-none-match", b", ".join(tags))]).header(b"etag") == own
        assert visit(app, headers=[(b"if-none-match", own)]).status == 200


def test_a_fragment_and_a_page_are_two_variants() -> None:
    kit = MiniKit()
    app = kit.wrap(conditional())
    page = visit(app, cookie=kit.cookie()).header(b"etag")
    fragment = visit(app, cookie=kit.cookie(), page=False, headers=[(b"sec-fetch-dest", b"empty")]).header(b"etag")
    assert page != fragment


def test_a_page_that_asks_has_no_tag_and_is_never_conditional() -> None:
    app = MiniKit().wrap(conditional())
    for condition in ((b"if-none-match", TAG), (b"if-none-match", b"*"), (b"if-modified-since", b"yesterday")):
        answer = visit(app, headers=[condition])
        assert answer.status == 200
        assert answer.header(b"etag") is None


def test_a_new_build_or_policy_makes_every_page_new() -> None:
    old, new = MiniKit(build=b"b1"), MiniKit(build=b"b2")
    tag = visit(old.wrap(conditional()), cookie=old.cookie()).header(b"etag") or b""
    assert visit(new.wrap(conditional()), cookie=new.cookie(), headers=[(b"if-none-match", tag)]).status == 200


def test_a_304_never_brings_back_a_question_of_another_day(monkeypatch: pytest.MonkeyPatch) -> None:
    kit = MiniKit()
    app, cookie = kit.wrap(conditional()), kit.cookie()
    tag = visit(app, cookie=cookie).header(b"etag") or b""
    assert visit(app, cookie=cookie, headers=[(b"if-none-match", tag)]).status == 304
    monkeypatch.setattr(kit, "today", lambda: TODAY + timedelta(days=1))
    assert visit(app, cookie=cookie, headers=[(b"if-none-match", tag)]).status == 200


def test_what_is_no_page_keeps_its_conditions() -> None:
    kit = MiniKit()
    inner = conditional()
    headers = [
        (b"accept", b"image/*"),
        (b"if-none-match", TAG),
        (b"if-modified-since", b"x"),
        (b"accept-encoding", b"br"),
    ]
    answer = visit(kit.wrap(inner), page=False, headers=headers)
    assert {name: inner.headers[name] for name, _ in headers} == dict(headers)
    assert answer.status == 304
    assert answer.header(b"etag") == TAG
    assert answer.header(b"cache-control") == b"public, max-age=60"


def test_a_write_with_a_condition_reaches_the_app_with_its_own_tag() -> None:
    kit = MiniKit()
    inner = conditional()
    app = kit.wrap(inner)
    tag = visit(app, cookie=kit.cookie()).header(b"etag") or b""
    sent = [(b"if-match", tag), (b"if-none-match", b"*"), (b"if-modified-since", b"")]
    visit(app, method="PUT", cookie=kit.cookie(), headers=sent)
    assert (inner.headers[b"if-match"], inner.headers[b"if-none-match"]) == (TAG, b"*")


def test_a_page_is_asked_for_unencoded_and_a_picture_is_not() -> None:
    kit = MiniKit()
    inner = conditional()
    visit(kit.wrap(inner))
    assert b"accept-encoding" not in inner.headers
    visit(kit.wrap(inner), page=False, headers=[(b"accept", b"*/*"), (b"accept-encoding", b"br")])
    assert inner.headers[b"accept-encoding"] == b"br"
    for header in ((b"hx-request", b"true"), (b"turbo-frame", b"x"), (b"sec-fetch-dest", b"iframe")):
        visit(kit.wrap(inner), page=False, headers=[header, (b"accept-encoding", b"br")])
        assert b"accept-encoding" not in inner.headers


# Shared mode


@pytest.mark.checklist("GAT-15")
def test_in_shared_mode_the_page_is_the_same_for_everybody() -> None:
    kit = MiniKit(mode="shared")
    headers = [(b"ETag", TAG), (b"Cache-Control", b"public, s-maxage=60"), (b"Vary", b"Accept")]
    app = kit.wrap(answering(PAGE, headers=headers))
    visitors: list[dict[str, Any]] = [
        {},
        {"cookie": kit.cookie()},
        {"cookie": kit.cookie("analytics", "marketing", "youtube") + b"; _ga=1"},
        {"headers": [(b"sec-gpc", b"1")]},
        {"page": False, "headers": [(b"sec-fetch-dest", b"empty")]},
        {"page": False, "headers": [(b"x-requested-with", b"XMLHttpRequest")]},
    ]
    answers = [visit(app, **visitor) for visitor in visitors]
    assert len({(answer.body, *sorted(answer.headers)) for answer in answers}) == 1
    assert leaks(answers[0].body) == []
    assert answers[0].header(b"cache-control") == b"public, s-maxage=60"
    assert answers[0].header(b"vary") == b"Accept"
    tag = answers[0].header(b"etag") or b""
    assert tag.startswith(b'"v1-ck')
    again = visit(kit.wrap(conditional()), headers=[(b"if-none-match", tag)])
    assert again.status == 304
    assert again.header(b"etag") == tag


@pytest.mark.checklist("GAT-05", "GAT-15")
def test_in_shared_mode_a_cookie_of_one_visitor_is_kept_out_of_a_page_for_all() -> None:
    kit = MiniKit(mode="shared")
    cookie = kit.cookie("analytics")
    for cache, passed in ((b"public", []), (b"", []), (b"private", [b"_ga=1"]), (b"no-store", [b"_ga=1"])):
        app = kit.wrap(answering(PAGE, headers=[(b"Cache-Control", cache), (b"Set-Cookie", b"_ga=1")]))
        assert visit(app, cookie=cookie).all(b"set-cookie") == passed


# Behind a real cache


class SharedCache:
    """A cache by RFC 9111, as strict as a CDN: keeps what it may, by URL and the named request headers."""

    def __init__(self, app: Any) -> None:
        self._app = app
        self._kept: dict[tuple[Any, ...], tuple[list[bytes], Answer]] = {}

    async def get(self, scope: dict[str, Any]) -> Answer:
        asked = dict(scope["headers"])
        for (path, *values), (vary, answer) in self._kept.items():
            if path == scope["path"] and values == [asked.get(name) for name in vary]:
                return answer
        answer = await call(self._app, scope)
        cache = answer.header(b"cache-control") or b""
        vary = [name.strip().lower() for name in (answer.header(b"vary") or b"").split(b",") if name.strip()]
        if b"private" not in cache and b"no-store" not in cache and b"*" not in vary:
            self._kept[scope["path"], *(asked.get(name) for name in vary)] = vary, answer
        return answer


@pytest.mark.checklist("GAT-15")
@pytest.mark.parametrize("mode", ["private", "shared"])
@pytest.mark.parametrize("cache", [b"public, max-age=600", b"s-maxage=600", b"max-age=600", b""])
def test_two_visitors_behind_one_cache_each_get_their_own(mode: str, cache: bytes) -> None:
    kit = MiniKit(mode=mode)
    proxy = SharedCache(kit.wrap(answering(PAGE, headers=[(b"Cache-Control", cache), (b"ETag", TAG)])))
    agreed = [(b"cookie", kit.cookie("analytics", "marketing", "youtube"))]

    async def both() -> tuple[Answer, Answer, Answer]:
        return (
            await proxy.get(scope_of(headers=agreed)),
            await proxy.get(scope_of()),
            await proxy.get(scope_of(headers=agreed)),
        )

    first, other, again = asyncio.run(both())
    assert leaks(other.body) == []
    assert len(leaks(first.body)) == len(leaks(again.body)) == (3 if mode == "private" else 0)
