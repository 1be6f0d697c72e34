"""Which URLs a style sheet makes a browser fetch, and that what is held back is asked of nobody."""

# ruff: noqa: E501 - style sheets read best in one line
from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from playwright.sync_api import Page

from consentkit.gate.css import INERT, held, urls

FOUND = {
    "url() without quotes": ("p{background:url(//t/x.png)}", ["//t/x.png"]),
    "url() with space in it": ("p{background:URL(\n //t/x\t)}", ["//t/x"]),
    "url() in quotes": ("p{a:url('//t/1');b:url( \"//t/2\" )}", ["//t/1", "//t/2"]),
    "src()": ('p{a:src("//t/x")}', ["//t/x"]),
    "an import": ('@import "//t/1";@IMPORT url(//t/2) print;@import/**/\'//t/3\' layer(a)', ["//t/1", "//t/2", "//t/3"]),
    "an import that ends with the sheet": ('@import "//t/x', ["//t/x"]),
    "an import that ends with the sheet in a backslash": ('@import "//t/x\\', ["//t/x"]),
    "a font": ('@font-face{src:local("A"),url(//t/f) format("woff2")}', ["//t/f"]),
    "image-set()": ('p{a:image-set("//t/1" 1x type("image/png"),url(//t/2) 2x)}', ["//t/1", "//t/2"]),
    "-webkit-image-set()": ('p{a:-webkit-image-set("//t/1" 1x)}', ["//t/1"]),
    "cross-fade() and image()": ('p{a:cross-fade("//t/1",url(//t/2));b:image("//t/3")}', ["//t/1", "//t/2", "//t/3"]),
    "a string for later": (':root{--x:"//t/1";--font:"Comic"}p{a:image-set(var(--x))}', ["//t/1"]),
    "a string that a function hands on": ('p{a:--pick("//t/1")}', ["//t/1"]),
    "the first value of a registered property": ('@property --x{initial-value:"//t/1"}', ["//t/1"]),
    "a name in escapes": (r'p{a:\75 rl(//t/1);b:u\000072L("//t/2")}@\69mport "//t/3"', ["//t/1", "//t/2", "//t/3"]),
    "a URL in escapes": (r"p{a:url(\000068ttps://t/1);b:url('\2f/\74 /2')}", ["https://t/1", "//t/2"]),
    "a string over two lines": ("p{a:url('//t\\\n/1')}", ["//t/1"]),
    "comments between": ("/*url(//t/no)*/p{a:/*'*/url(//t/1)/*'*/}", ["//t/1"]),
    "comments within a URL": ("p{a:url(/*//t/x)}", ["/*//t/x"]),
    "markup around it": ("<!--p{a:url(//t/1)}-->url(//t/2)", ["//t/1", "//t/2"]),
    "the end of the sheet": ("p{a:url(//t/1", ["//t/1"]),
    "after a URL that is none": ("p{a:url(//t/ no) url(b'c) url(//t/1)}", ["//t/1"]),
    "after a string that is none": ('p{a:"b\nurl(//t/1)}', ["//t/1"]),
    "another function": ("p{a:curl(//t/no) -url(//t/no) #url(//t/no)}", []),
    "a namespace": ('@namespace "//t/no";@namespace svg url(//t/no);@namespace url("//t/no");', []),
    "text and selectors": ('a[href="//t/no"]::after{content:"//t/no"}', []),
    "nothing": ("p{a:url();b:url('')}", []),
    "what is inert already": (f"p{{a:url({INERT}//t/1) url(//t/2)}}", ["//t/2"]),
}  # fmt: skip


def on_t(url: str) -> bool:
    return "/t/" in url or "t:" in url


@pytest.mark.parametrize(("css", "found"), FOUND.values(), ids=FOUND)
def test_the_urls_that_a_browser_fetches(css: str, found: list[str]) -> None:
    assert urls(css) == found


@pytest.mark.parametrize("css", [css for css, _ in FOUND.values()], ids=FOUND)
def test_what_is_held_back_differs_by_the_prefix_alone(css: str) -> None:
    sheet = css.encode()

    out = held(sheet, on_t)

    assert out is not None
    assert [url for url in urls(out.decode()) if on_t(url)] == []
    assert out.replace(INERT.encode(), b"") == sheet.replace(INERT.encode(), b"")
    assert held(out, on_t) is out
    assert held(sheet, lambda url: False) is sheet


def test_the_prefix_stands_right_before_the_url() -> None:
    sheet = b'@import "//t/a";p{a:url( //t/b );b:url(\'/own\');c:\\75rl("\\2f/t/c")}'

    assert held(sheet, on_t) == (
        b"@import \"https://#consentkit://t/a\";p{a:url( https://#consentkit://t/b );b:url('/own');"
        b'c:\\75rl("https://#consentkit:\\2f/t/c")}'
    )


@pytest.mark.parametrize("css", ["p{a:\xd7url(//t/x)}", "p{a:1url(//t/x)}", "p{a:u+0url(//t/x)}", "\xb7src('//t/x')"])
def test_where_browsers_differ_nothing_is_inserted_and_no_url_missed(css: str) -> None:
    assert "//t/x" in urls(css)
    assert held(css.encode(), on_t) is None
    assert held(sheet := css.encode(), lambda url: url == "//other/") is sheet


PIECES = [
    "url(", "src(", "image-set(", r"\75rl(", r"\75 rl(", "curl(", "-url(", "#url(", "1url(", '"', "'", '"a"', "'b'", "//t/x",
    "a", " ", "\n", "\r\n", "\\", "\\\n", '\\"', r"\)", ")", "(", "/*", "*/", "/", "@import ", r"@\69mport ", "@namespace ", ";",
    "{", "}", "[", "]", "<!--", "-->", "--x:", "type(", "\t", "\f", "é", "\0", "-", "+", "#", "@", "url( ", "url(a b)", ",", "calc(",
]  # fmt: skip


@settings(max_examples=400, deadline=None)
@given(st.lists(st.sampled_from(PIECES), max_size=14).map("".join))
def test_of_any_text_no_denied_url_is_left_and_all_else_stays(css: str) -> None:
    sheet = css.encode()

    out = held(sheet, lambda url: True)

    if out is not None:
        assert urls(out.decode()) == []
        assert out.replace(INERT.encode(), b"") == sheet


@pytest.mark.parametrize(
    "unit", ["url(", "image-set(", '"a', "\\", "/*", "@import ", "--x:", "--x/**/", "@namespace/**/", "a{b:c}", "-", "url(a b"]
)  # fmt: skip
def test_a_style_sheet_of_any_size_is_read_once(unit: str) -> None:
    def spent(count: int) -> float:
        sheet = ("url(x)" + unit * count).encode()
        start = time.thread_time()
        held(sheet, lambda url: True)
        return time.thread_time() - start

    assert spent(20_000) < 16 * max(spent(5_000), 0.0005)  # 4 when linear, 16 when quadratic


SHEET = """
@import "//t.example/1.css"; @import url(//t.example/2.css); @import url("//t.example/3.css") screen;
@font-face { font-family: f; src: url(//t.example/4.woff2) format("woff2") }
:root { --set: "//t.example/5.png"; --url: url(//t.example/6.png) }
p { font-family: f; background: image-set(var(--set) 1x), var(--url), u\\72 l(//t.example/7.png), url(/own.png) }
p { border-image: url('//t.example/8.svg') 1; mask: url(//t.example/9.svg#m); cursor: url(//t.example/10.cur), auto }
p { list-style: url(//t.example/11.png); display: list-item; filter: url(//t.example/12.svg#f) }
p::before { content: -webkit-image-set("//t.example/13.png" 1x, url(//t.example/14.png) 2x) }
p::after { content: "//t.example/none.png"; clip-path: url("//t.example/15.svg#c"); float: left }
[href="//t.example/none.css"] { shape-outside: url(//t.example/16.png); float: left }
@namespace svg url(//t.example/none.ns);
"""
POLICY = (
    "default-src 'none'; img-src 'self'; style-src 'self' 'unsafe-inline'; font-src 'self'; script-src 'unsafe-inline'"
)


@pytest.mark.browser
@pytest.mark.checklist("GAT-01")
def test_a_browser_asks_nobody_for_what_is_held_back_and_no_policy_is_offended(new_page: Callable[..., Page]) -> None:
    page, asked, sheets = new_page(), [], {}
    out = held(SHEET.encode(), lambda url: "t.example" in url)
    assert out is not None
    sheets = {"http://own.example/live": SHEET, "http://own.example/held": out.decode()}

    def answer(route, request):  # type: ignore[no-untyped-def]
        asked.append(request.url)
        sheet = sheets.get(request.url)
        if sheet is None:
            return route.abort()
        listener = "<script>said=[];addEventListener('securitypolicyviolation',e=>said.push(e.blockedURI))</script>"
        headers = {"content-security-policy": POLICY} if request.url.endswith("held") else {}
        body = f"<!doctype html>{listener}<style>{sheet}</style><p>a<p href='//t.example/none.css'>b"
        return route.fulfill(body=body, content_type="text/html", headers=headers)

    page.route("**/*", answer)
    page.goto("http://own.example/live", wait_until="networkidle")
    live = {url.partition("//t.example")[2] for url in asked if "t.example" in url}
    asked.clear()
    page.goto("http://own.example/held", wait_until="networkidle")

    told = {url.partition("//t.example")[2].partition("#")[0] for url in urls(SHEET)}
    assert len(live) >= 13
    assert live <= told
    assert {Path(url).name for url in asked} - {"favicon.ico"} == {"held", "own.png"}
    assert page.evaluate("said") == []
