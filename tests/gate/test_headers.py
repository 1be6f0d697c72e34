"""The same gate for response headers."""

# ruff: noqa: E501 - markup reads best in one line
from __future__ import annotations

import pytest

from consentkit.gate.headers import FETCHING, filter_fetches, filter_set_cookie, without_fetches
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
    (b"<//hotjar.com/x>; title=\"; rel=canonical\"; rel=preload", None),
    (b"<//hotjar.com/x>; rel=next; rel=\"x preload\", x<//hotjar.com/y>;rel=icon", b"x"),
    (b"</a.png>; rel=preload; as=image; imagesrcset=\"/b.png 1x, //hotjar.com/c.png 2x\"", None),
    (b"<//HOTJAR.com./x>; REL=compression-dictionary", None),
    (b"<https://u:p@static.hotjar.com:443/x>; rel=preconnect; crossorigin", None),
    (b"<//hotjar.com/x>", b"<//hotjar.com/x>"),
]  # fmt: skip


@pytest.mark.parametrize(("value", "expected"), LINKS)
def test_link_headers_keep_only_what_may_be_fetched(value: bytes, expected: bytes | None) -> None:
    headers = [(b"Link", value)]
    assert filter_fetches(headers, ONE, DENIED) == ([] if expected is None else [(b"Link", expected)])
    assert filter_fetches(headers, gate(configured_too=("unnamed",)), EVERYTHING) == headers


def test_in_strict_mode_links_to_unknown_third_parties_go() -> None:
    headers = [
        (b"link", b"<https://cdn.example/x>; rel=preload"),
        (b"link", b"<https://delinde.example/x>; rel=preload"),
    ]
    assert filter_fetches(headers, gate(strict=True), EVERYTHING) == headers[1:]


def test_a_refresh_to_a_tracker_is_removed() -> None:
    headers = [(b"refresh", b"0; url=https://bad.example/x"), (b"Refresh", b"5;url=/next"), (b"refresh", b"5")]
    assert filter_fetches(headers, ONE, EVERYTHING) == headers[1:]


GROUPS = """{"group":"a","max_age":9,"endpoints":[{"url":"https://hotjar.com/r"}]}, {"group": "b", "max_age": 9, "endpoints": [{"url": "/r"}]}"""
FETCHES = {
    "rules that speculate": ("Speculation-Rules", '"/own.json", "https://hotjar.com/rules.json"', '"/own.json"'),
    "nothing but rules of a tracker": ("speculation-rules", '"//hotjar.com/rules.json"', None),
    "endpoints": ("Reporting-Endpoints", 'main="https://hotjar.com/a,b", own="/r";a=1, x="https://own.example/"', 'own="/r";a=1, x="https://own.example/"'),
    "an endpoint in escapes": ("Reporting-Endpoints", r'main="https://hot\jar.com/"', None),
    "a group of endpoints": ("Report-To", GROUPS, '{"group": "a", "max_age": 0, "endpoints": []}, {"group": "b", "max_age": 9, "endpoints": [{"url": "/r"}]}'),
    "one of the endpoints of a group": (
        "Report-To",
        '{"max_age":9,"endpoints":[{"url":"https://hotjar.com/"},{"url":"https://own.example/"}]}',
        '{"max_age": 9, "endpoints": [{"url": "https://own.example/"}]}',
    ),
    "where a policy reports to": ("Content-Security-Policy", "default-src 'self'; report-uri https://hotjar.com/r /own", "default-src 'self'; report-uri /own"),
    "the only place where a policy reports to": (
        "Content-Security-Policy-Report-Only",
        "script-src 'self' hotjar.com;Report-URI\t//hotjar.com/r;report-to a, img-src *;report-uri https://hotjar.com",
        "script-src 'self' hotjar.com;;report-to a, img-src *;",
    ),
    "a policy that only reports": ("content-security-policy", " report-uri https://hotjar.com/ ;", None),
}  # fmt: skip


@pytest.mark.checklist("GAT-01")
@pytest.mark.parametrize(("name", "value", "expected"), FETCHES.values(), ids=FETCHES)
def test_headers_name_no_tracker_without_consent_and_are_as_they_came_with_it(
    name: str, value: str, expected: str | None
) -> None:
    key = name.encode()
    header = (key, value.encode())

    assert key.lower() in FETCHING
    assert filter_fetches([header], ONE, DENIED) == ([] if expected is None else [(key, expected.encode())])
    assert filter_fetches([header], ONE, EVERYTHING) == [header]
    innocent = (key, header[1].replace(b"hotjar.com", b"innocent.example").replace(rb"hot\jar", b"innocent"))
    assert filter_fetches([innocent], ONE, DENIED) == [innocent]


def test_network_errors_are_no_longer_told_to_a_group_that_is_gone() -> None:
    nel = (b"NEL", b'{"report_to":"a","max_age":99,"include_subdomains":true}')
    other = (b"nel", b'{"report_to":"b","max_age":99}')

    kept = filter_fetches([(b"report-to", GROUPS.encode()), nel], ONE, DENIED)

    assert kept[1] == (b"NEL", b'{"report_to": "a", "max_age": 0, "include_subdomains": true}')
    for headers in ([(b"report-to", GROUPS.encode()), other], [nel]):
        assert filter_fetches(headers, ONE, DENIED)[-1] == headers[-1]


def test_reports_that_browsers_cannot_read_are_left_out_while_anything_is_denied() -> None:
    headers = [(b"Report-To", b'{"endpoints":[{"url":"//hotjar.com/"}'), (b"nel", b"{"), (b"x", b"y")]

    assert filter_fetches(headers, ONE, DENIED) == [(b"x", b"y")]
    assert filter_fetches(headers, gate(configured_too=("unnamed",)), EVERYTHING) == headers


def test_a_group_cut_in_two_headers_is_read_as_browsers_join_it() -> None:
    headers = [(b"report-to", b'{"group":"a"'), (b"x", b"y"), (b"report-to", b'"endpoints":[{"url":"//hotjar.com"}]}')]

    assert filter_fetches(headers, ONE, DENIED) == [
        (b"report-to", b'{"group": "a", "endpoints": [], "max_age": 0}'),
        (b"x", b"y"),
    ]
    assert filter_fetches(headers, ONE, EVERYTHING) == headers


def test_in_doubt_all_that_fetches_goes_and_the_policy_stays_as_strict() -> None:
    headers = [(name.upper(), b"default-src 'self'; report-uri /r; img-src *") for name in sorted(FETCHING)]

    assert without_fetches([*headers, (b"x", b"y")]) == [
        (b"CONTENT-SECURITY-POLICY", b"default-src 'self'; ; img-src *"),
        (b"CONTENT-SECURITY-POLICY-REPORT-ONLY", b"default-src 'self'; ; img-src *"),
        (b"x", b"y"),
    ]
