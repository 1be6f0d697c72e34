"""Cookies that nobody agreed to: not set, and ended where they exist already."""

from __future__ import annotations

from typing import Any

import pytest

from tests.web.minikit import PAGE, MiniKit, answering, leaks, visit

SET = [
    (b"Set-Cookie", b"sessionid=1; HttpOnly"),
    (b"set-cookie", b"_ga=GA1.1; Path=/; Max-Age=33696000"),
    (b"SET-COOKIE", b"_ga_ABC=1"),
    (b"Set-Cookie", b"csrftoken=x"),
    (b"Set-Cookie", b" _fbp =2; Secure"),
]


@pytest.mark.checklist("GAT-05")
@pytest.mark.parametrize("mode", ["private", "shared"])
@pytest.mark.parametrize(
    "response",
    [
        {"type": b"text/html"},
        {"type": b"application/json"},
        {"type": b"text/html", "status": 302, "headers": [(b"location", b"/")]},
        {"type": b"text/html", "status": 304},
        {"type": b"image/png", "status": 206},
        {"type": b"text/html", "trailing": True, "length": False},
        {"type": None},
        {"type": b"text/html; charset=utf-7"},
    ],
)
def test_a_registered_cookie_is_not_set_before_its_consent(mode: str, response: dict[str, Any]) -> None:
    kit = MiniKit(mode=mode)
    given = {**response, "headers": [*response.get("headers", []), *SET]}
    for cookie in (b"", kit.cookie(), b"consentkit=forged.value"):
        answer = visit(kit.wrap(answering(b"<p>x", b"</p>", **given)), cookie=cookie)
        assert answer.all(b"set-cookie") == [b"sessionid=1; HttpOnly", b"csrftoken=x"]


@pytest.mark.checklist("GAT-05")
def test_with_consent_the_cookies_of_that_purpose_are_set() -> None:
    kit = MiniKit()
    for type in (b"text/html", b"application/json"):
        app = kit.wrap(answering(b"<p>x</p>", type=type, headers=SET))
        kept = visit(app, cookie=kit.cookie("analytics")).all(b"set-cookie")
        assert kept == [value for _, value in SET[:4]]


def test_an_answer_without_a_cookie_to_drop_stays_as_it_is() -> None:
    kit = MiniKit()
    app = answering(b"{}", type=b"application/json", headers=SET[:1])
    assert visit(kit.wrap(app)).messages[0]["headers"] == [
        (b"Content-Type", b"application/json"),
        SET[0],
        (b"Content-Length", b"2"),
    ]


def test_cookies_from_before_are_ended_on_pages_for_whoever_did_not_agree() -> None:
    kit = MiniKit()
    sent = b"; _ga=1; sessionid=2; _ga_X=3; other=4; _fbp=5"
    app = kit.wrap(answering(PAGE))
    for cookie, ended in ((kit.cookie(), {b"_ga", b"_ga_X", b"_fbp"}), (kit.cookie("analytics"), {b"_fbp"})):
        headers = visit(app, "/nieuws/lezen", cookie=cookie + sent).all(b"set-cookie")
        assert {value.partition(b"=")[0] for value in headers} == ended
        assert all(b"Max-Age=0" in value for value in headers)
        assert any(b"Domain=school.example" in value for value in headers)
        assert any(b"Path=/nieuws" in value for value in headers)
        assert sum(map(len, headers)) <= 2048


def test_cookies_are_not_ended_by_fragments_pictures_or_pages_for_all() -> None:
    cookie = b"_ga=1"
    kit = MiniKit()
    assert visit(kit.wrap(answering(b"x", type=b"image/png")), cookie=cookie).all(b"set-cookie") == []
    fragment = visit(kit.wrap(answering(PAGE)), cookie=cookie, page=False, headers=[(b"hx-request", b"true")])
    assert fragment.all(b"set-cookie") == []
    shared = MiniKit(mode="shared").wrap(answering(PAGE, headers=[(b"cache-control", b"public")]))
    assert visit(shared, cookie=cookie).all(b"set-cookie") == []


def test_the_choice_is_read_from_the_host_bound_cookie_over_https_only() -> None:
    kit = MiniKit(secure=True)
    cookie = kit.cookie("analytics")
    assert cookie.startswith(b"__Host-consentkit=")
    app = kit.wrap(answering(PAGE))
    assert leaks(visit(app, cookie=cookie, scheme="https").body) == ["www.googletagmanager.com"]
    assert leaks(visit(app, cookie=cookie.removeprefix(b"__Host-"), scheme="https").body) == []
