"""URLs are read as browsers read them."""

from __future__ import annotations

import pytest

from consentkit.gate.registry import Registry
from consentkit.gate.urls import (
    Target,
    candidates,
    opaque_text,
    parents,
    plain_path,
    refresh_url,
    target,
    unescape_attribute,
    unescape_text,
    without_port,
)
from tests.gate.harm import SAFE, URLS
from tests.gate.samples import service

OTHER_SPELLINGS = [
    "http://bad.example",
    "HtTpS:\\\\BAD.example\\x",
    "https:///bad.example/x",
    "///bad.example",
    "\\/bad.example",
    "https://user:pass@bad.example/x",
    "https://user@with@bad.example/x",
    "https://bad.example:8443/x",
    "https://bad.example:/x",
    "//bad.example?x",
    "//bad.example#x",
    "\x01 //bad.example \x1f",
    "/\t/bad.example",
    "wss://bad.example/socket",
    "ftp://bad.example",
    "//bad.example../x",
    "//BAD%2eexample/x",
    "//b\u200dad.example",
    "//bad\uff0eexample",
    "//bad\uff61example",
]


@pytest.mark.parametrize("url", [unescape_attribute(url) for url in URLS if "sub." not in url] + OTHER_SPELLINGS)
def test_every_spelling_of_a_host_is_the_host(url: str) -> None:
    place = target(url)
    assert place is not None
    assert place.host == "bad.example"


@pytest.mark.parametrize(
    "url",
    [
        *SAFE,
        "javascript:bad.example",
        "about:blank",
        "blob:https://bad.example/x",
        "mailto:a@bad.example",
        "https://",
        "//",
        "//:80",
        "%2f/bad.example",
        "bad.example",
    ],
)
def test_what_names_no_host_has_none(url: str) -> None:
    assert target(url) is None


def test_an_international_host_is_punycode() -> None:
    assert target("https://Bücher.example/") == Target("xn--bcher-kva.example", "/")


def test_a_relative_url_goes_where_the_base_leads() -> None:
    base = Target("bad.example", "/a/b")
    assert target("c?x", base) == Target("bad.example", "/a/c")
    assert target("/c#x", base) == Target("bad.example", "/c")
    assert target("?x", base) == Target("bad.example", "/a/b")
    assert target("//other.example", base) == Target("other.example", "/")
    assert target("data:x", base) is None


@pytest.mark.parametrize(
    ("path", "plain"),
    [
        ("/a/../maps", "/maps"),
        ("/./a", "/a"),
        ("/../../x", "/x"),
        ("\\a\\b", "/a/b"),
        ("/%6daps", "/maps"),
        ("/a/%2e%2e/b", "/b"),
        ("", ""),
    ],
)
def test_paths_have_no_dot_segments(path: str, plain: str) -> None:
    assert plain_path(path) == plain


@pytest.mark.parametrize(
    ("srcset", "urls"),
    [
        ("", []),
        (" , ", []),
        ("/a 1x, /b 2x", ["/a", "/b"]),
        ("/a, /b", ["/a", "/b"]),
        ("/a,/b", ["/a,/b"]),
        ("data:image/png,xx 1x, /b", ["data:image/png,xx", "/b"]),
        ("/a (x, y) 1x, /b", ["/a", "/b"]),
        ("/a ) 1x, /b", ["/a", "/b"]),
        ("/a,,", ["/a"]),
        ("/a (( ), //t/b 2x", ["/a", "//t/b"]),
        ("/a (x,y) 1x,//t/b", ["/a", "//t/b"]),
    ],
)
def test_candidates_of_a_srcset(srcset: str, urls: list[str]) -> None:
    assert candidates(srcset) == urls


@pytest.mark.parametrize(
    ("content", "url"),
    [
        ("0;url=/x", "/x"),
        ("5; URL = '/x' y", "/x"),
        ('0,"/x', "/x"),
        ("0 /x", "/x"),
        ("0", None),
        ("", None),
        ("0;url=", None),
    ],
)
def test_the_url_of_a_refresh(content: str, url: str | None) -> None:
    assert refresh_url(content) == url


@pytest.mark.parametrize(
    ("url", "text"),
    [
        ("javascript:f(%27x%27)", "f('x')"),
        ("data:text/html,<b>", "<b>"),
        ("data:text/html;base64,PGI+", "<b>"),
        ("data:text/html;base64,P", "P"),
        ("data:", ""),
        ("https://x", None),
        ("x", None),
    ],
)
def test_the_text_inside_a_url(url: str, text: str | None) -> None:
    assert opaque_text(url) == text


@pytest.mark.parametrize(
    ("raw", "value"),
    [
        ("a&amp;b", "a&b"),
        ("?a=1&copy=2", "?a=1&copy=2"),
        ("&copy;", "©"),
        ("&copy!", "©!"),
        ("&copyx", "&copyx"),
        ("&notit;", "&notit;"),
        ("&not;it", "¬it"),
        ("&colon;&sol;", ":/"),
        ("&nosuch;", "&nosuch;"),
        ("&#47;&#x2F&#x2f;", "///"),
        ("&#0;&#xD800;&#x110000;&#99999999999999;", "\ufffd" * 4),
        ("&#128;&#x9d;", "€\x9d"),
        ("& &", "& &"),
    ],
)
def test_character_references_of_an_attribute(raw: str, value: str) -> None:
    assert unescape_attribute(raw) == value


def test_a_parameter_tells_two_services_at_one_path_apart() -> None:
    ads = service("ads", "marketing", "tags.example/gtag/js?id=AW-")
    counts = service("counts", "analytics", "tags.example/gtag/js")
    registry = Registry([counts, ads])

    def found(url: str) -> str | None:
        match = registry.of_url(url)
        return match.id if match else None

    assert found("https://www.tags.example/gtag/js?id=AW-1") == "ads"
    assert found("https://www.tags.example/gtag/js?l=layer&id=AW-1") == "ads"
    assert found("https://www.tags.example/gtag/js?id=G-1") == "counts"
    assert found("https://www.tags.example/gtag/js") == "counts"
    assert found("https://www.tags.example/other?id=AW-1") is None


@pytest.mark.parametrize(
    ("text", "read"),
    [
        ("&#65;&#x42;&amp;&copy=", "AB&©="),
        (f"&#{'0' * 5000}65;", "A"),
        (f"a&#{'1' * 5000};b", "a\N{REPLACEMENT CHARACTER}b"),
        ("&#1114112;&#0;&#;", "\N{REPLACEMENT CHARACTER}\N{REPLACEMENT CHARACTER}&#;"),
    ],
)
def test_a_character_reference_may_have_any_number_of_digits(text: str, read: str) -> None:
    assert unescape_text(text) == read


def test_a_script_within_svg_is_read_whatever_number_is_in_it() -> None:
    registry = Registry([service("teller", "analytics", inline=("telt(",))])

    assert [one.id for one in registry.of_code(f"&#{'1' * 5000}; t&#101;lt(".encode())] == ["teller"]


@pytest.mark.parametrize(
    ("header", "host"),
    [
        ("school.example:8000", "school.example"),
        ("school.example:", "school.example"),
        ("school.example", "school.example"),
        ("[::1]:8000", "[::1]"),
        ("[::1]", "[::1]"),
    ],
)
def test_a_host_header_names_a_host_and_perhaps_a_port(header: str, host: str) -> None:
    assert without_port(header) == host


def test_the_parents_of_a_host_come_after_it_the_longest_first() -> None:
    assert list(parents("a.b.example")) == ["a.b.example", "b.example", "example"]
    assert list(parents("")) == []


def test_a_service_on_one_port_of_a_host_is_known_on_each() -> None:
    registry = Registry([service("teller", "analytics", "Teller.example:8443/Tel?id=A")])

    found = [registry.of_url(f"https://teller.example{rest}/tel?id=ABC") for rest in ("", ":8443", ":9000")]

    assert [one.id if one else "" for one in found] == ["teller"] * 3
    assert registry.of_url("https://teller.example:8443/tel?id=B") is None
