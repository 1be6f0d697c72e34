"""The same gate for response headers."""

# ruff: noqa: E501 - markup reads best in one line
from __future__ import annotations

import pytest

from consentkit.gate.headers import filter_link, filter_set_cookie
from tests.gate.samples import DENIED, EVERYTHING, gate

ONE = gate()
COOKIES = [
    (b"content-type", b"text/html"),
    (b"Set-Cookie", b"_ga=GA1.2; Path=/; HttpOnly"),
    (b"set-cookie", b"sessionid=abc; Expires=Wed, 21 Oct 2026 07:28:00 GMT; Path=/"),
    (b"set-cookie", b" _ga_ABC123 = x"),
    (b"set-cookie", b"session=1"),
    (b"set-cookie", b"_fbp=x; Max-Age=100"),
    (b"x", b"y"),
]


@pytest.mark.checklist("GAT-05")
def test_set_cookie_of_a_registered_cookie_without_consent_is_dropped() -> None:
    kept, dropped = filter_set_cookie(COOKIES, ONE, DENIED)
    assert dropped == ["_ga", "_ga_ABC123", "_fbp"]
    assert kept == [COOKIES[0], COOKIES[2], COOKIES[4], COOKIES[6]]


@pytest.mark.checklist("GAT-05")
def test_with_consent_for_its_purpose_a_cookie_is_set() -> None:
    kept, dropped = filter_set_cookie(COOKIES, ONE, frozenset({"analytics"}))
    assert dropped == ["_fbp"]
    assert len(kept) == 6
    assert filter_set_cookie(COOKIES, ONE, EVERYTHING) == (COOKIES, [])


@pytest.mark.checklist("GAT-05")
def test_a_cookie_of_a_service_that_the_site_does_not_name_is_never_set() -> None:
    assert filter_set_cookie([(b"set-cookie", b"bad=1")], ONE, EVERYTHING) == ([], ["bad"])


@pytest.mark.parametrize("end", [b"Max-Age=0", b"max-age=-1", b" Max-Age = 0 "])
def test_a_cookie_that_is_being_removed_is_let_through(end: bytes) -> None:
    headers = [(b"set-cookie", b"_ga=; Path=/; " + end)]
    assert filter_set_cookie(headers, ONE, DENIED) == (headers, [])


def test_a_cookie_header_without_a_name_is_left_alone() -> None:
    headers = [(b"set-cookie", b""), (b"set-cookie", b"=x"), (b"set-cookie", b"\xff=1")]
    assert filter_set_cookie(headers, ONE, DENIED) == (headers, [])


LINKS = [
    (b"<https://fonts.gstatic.com>; rel=preconnect", None),
    (b"</a.css>; rel=preload; as=style, <//hotjar.com/x.js>; rel=\"preload\"; as=script", b"</a.css>; rel=preload; as=style"),
    (b"<https://hotjar.com/>; rel=canonical", b"<https://hotjar.com/>; rel=canonical"),
    (b"</a,b.css>; title=\"x, <y>\"; rel=stylesheet", b"</a,b.css>; title=\"x, <y>\"; rel=stylesheet"),
    (b"<//hotjar.com/x>; title=\"a \\\" , b\"; rel=prefetch, </b>; rel=next", b"</b>; rel=next"),
    (b"<//hotjar.com/x>; rel=dns-prefetch, <//hotjar.com/y>; rel=modulepreload", None),
    (b"<https://cdn.example/x>; rel=preload", b"<https://cdn.example/x>; rel=preload"),
    (b"garbage, <", b"garbage, <"),
]  # fmt: skip


@pytest.mark.parametrize(("value", "expected"), LINKS)
def test_link_headers_keep_only_what_may_be_fetched(value: bytes, expected: bytes | None) -> None:
    headers = [(b"Link", value)]
    assert filter_link(headers, ONE, DENIED) == ([] if expected is None else [(b"Link", expected)])
    assert filter_link(headers, gate(configured_too=("unnamed",)), EVERYTHING) == headers


def test_in_strict_mode_links_to_unknown_third_parties_go() -> None:
    headers = [
        (b"link", b"<https://cdn.example/x>; rel=preload"),
        (b"link", b"<https://delinde.example/x>; rel=preload"),
    ]
    assert filter_link(headers, gate(strict=True), EVERYTHING) == headers[1:]


def test_a_refresh_to_a_tracker_is_removed() -> None:
    headers = [(b"refresh", b"0; url=https://bad.example/x"), (b"Refresh", b"5;url=/next"), (b"refresh", b"5")]
    assert filter_link(headers, ONE, EVERYTHING) == headers[1:]
