"""Details of the scanner that a fuzz would find only by luck, and the other rooms of the gate."""

# ruff: noqa: E501 - markup reads best in one line
from __future__ import annotations

import re

import pytest

from consentkit.gate import Gate, fallback, scanner
from consentkit.gate.memo import Bodies, Memo
from consentkit.gate.scanner import Foreign, TagEnd, attributes
from tests.gate.harm import live, page, readings
from tests.gate.samples import DENIED, EVERYTHING, gate, nothing, service, through

BAD = "<img src=//bad.example>"
HELD = '<img data-consentkit-needs="-" data-consentkit-src=//bad.example>'


def test_repeated_groups_are_atomic_and_never_possessive() -> None:
    """CPython before 3.11.5 may leave a possessively repeated group in the middle of an item that failed."""
    patterns = (scanner.FAST, scanner.CAREFUL, scanner.PREAMBLE, scanner.HEAD, scanner.LATE_HEAD, scanner.MARKUP)
    for pattern in patterns:
        assert not re.search(rb"\)[*+]\+", pattern.pattern)
        assert not re.search(rb"\)\{[^}]*\}\+", pattern.pattern)


@pytest.mark.parametrize("name", scanner._RETURNED.split())
def test_no_quick_way_past_a_name_that_matters(name: str) -> None:
    for spelling in (name, name.upper(), name.capitalize()):
        for rest in (">", " a=b>", "/>", "\t>"):
            url = " href=x" if name == "link" else ""
            found = scanner.fast(f"<p>x<{spelling}{url}{rest}".encode(), 0)
            assert found[2] == spelling.encode()


@pytest.mark.parametrize(
    ("quiet", "loud"),
    [
        ('<link rel="icon" href="/x.ico">', '<link rel="icon" href="//bad.example/x.ico">'),
        ('<link href="/x">', '<link href="/&#47;bad.example">'),
        ('<link href="/x">', '<link href="/\t/bad.example">'),
        ('<link href="/x">', '<link href="/x" imagesrcset="//bad.example">'),
        ('<link href="/x">', '<link href="data:text/css,@import%20url(//bad.example)">'),
        ('<link href="/x">', '<link href="/x" data-consent="marketing">'),
        ('<script defer src="/x.js"></script>', '<script defer src="//bad.example/x.js"></script>'),
        ('<script src="/x.js" async></script>', '<script src="/x.js" data-consent="marketing"></script>'),
        ('<script type="module" src="/x.js"></script>', '<script type="module">bad()</script>'),
        ('<script src="/x.js"></script>', '<script src="/x.js"><!--<script></script>'),
        ('<script type="application/json">{}</script>', '<script type="text/javascript">{}</script>'),
        ('<script type="application/json">{}</script>', '<script type="application/json"><!--<script></script>'),
    ],
)
def test_what_is_the_sites_own_is_eaten_and_what_only_looks_like_it_is_not(quiet: str, loud: str) -> None:
    for eat in (scanner.fast, scanner.late_head):
        assert eat(quiet.encode() + b"<iframe>", 0)[2] == b"iframe"
        assert eat(loud.encode() + b"<iframe>", 0)[2] in (b"link", b"script")


def test_the_head_is_eaten_only_where_it_can_hold_nothing_of_ours() -> None:
    title = b"<!doctype html> <head><title>a > b</title><meta charset=utf-8>"
    assert scanner.preamble(title, 0).end() == 0
    assert scanner.head(title + b"<link href='/x'>", 0)[2] == b"link"
    assert scanner.late_head(title + b"<link href='/x'><script src=\"/a\"></script></head><body>", 0)[2] == b"body"
    assert scanner.first_head(title + b"<link href='/x'><script src=\"/a\"></script></head><body>", 0)[2] == b"script"
    assert scanner.head(b"</head>", 0)[2] == b"head"
    for tag in (b"title", b"noscript", b"template", b"base", b"html", b"body"):
        assert scanner.late_head(b"<" + tag + b" a=b>", 0)[2] == tag


@pytest.mark.parametrize(
    "name", ["src", "srcset", "poster", "background", "ping", "http-equiv", "data-consent", "data-consentkit"]
)
def test_no_quick_way_past_an_attribute_that_matters(name: str) -> None:
    for spelling in (name, name.upper(), name.capitalize()):
        for rest in (
            f" {spelling}=//x>",
            f" a=b {spelling}='//x'>",
            f' a="b" {spelling}="//x" c>',
            f'/{spelling} = "//x">',
            f' a="b"{spelling}="//x">',
            f" {spelling}>",
        ):
            for tag in ("div", "p", "li", "td", "span", "img", "strong", "x-y"):
                found = scanner.fast(f"<p>x<{tag}{rest}".encode(), 0)
                assert found[2] == tag.encode(), (tag, rest)


@pytest.mark.parametrize(
    "page",
    [
        "<p>",
        "<li class='x'>",
        "</p>",
        "<section id=a>",
        '<img src="/a.png">',
        "<svg a=b><path d=x /><title>t</title></svg>",
        "<select name=a><option value=1>x</select>",
        "<!-- x -->",
        "<br/>",
        "< ",
        "</>",
        "<?x>",
        "<!x>",
    ],
)
def test_what_does_not_matter_is_eaten_whole(page: str) -> None:
    found = scanner.fast(page.encode() * 2, 0)
    assert found.end() == 2 * len(page)
    assert found[2] is None


@pytest.mark.parametrize(
    "page",
    [
        "<svg><title><b></title><style><!--</style>" + BAD,
        "<svg><foreignObject><div></foreignObject><xmp>" + BAD + "</xmp>",
        "<svg><p><xmp></xmp>" + BAD,
        "<math><mi><b></b></mi></math><style></style>" + BAD,
        "<math><annotation-xml><svg></svg><style>" + BAD + "</style>",
        "<svg><g></svg>" + BAD,
        "<div><svg></div>" + BAD,
        "<svg><font color=x><style></style>" + BAD,
        "<svg><font><style>" + BAD + "</style></svg>",
        "<svg></p><style>" + BAD + "</style>",
        "<select><xmp>" + BAD + "</xmp></select>",
        "<select><textarea></textarea></select>" + BAD,
        "<template><select></template><svg><style>" + BAD + "</style></svg>",
        "<template><col><xmp>" + BAD + "</xmp></template>",
        "<frameset><xmp>" + BAD + "</xmp></frameset>",
        "<svg><desc><p>a<p>b</p></desc><style>" + BAD + "</style></svg>",
        "<svg><desc><table><tr><td></td></tr></table></desc></svg>" + BAD,
        "<table><tr><td><svg><desc><td>" + BAD,
        "<math><mtext><mglyph></mtext>" + BAD,
        "<svg><desc><ul><li>a<li>b</ul></desc>" + BAD + "</svg>",
        "<svg><desc><b><i></b></i></desc>" + BAD,
        "<svg><svg></svg><style>" + BAD + "</style></svg>",
    ],
)
def test_where_parsers_could_disagree_nothing_stays_live(page: str) -> None:
    out = through(page)
    for reader, elements in readings(out):
        assert live(elements) == [], (reader, out)


def test_an_uncertain_cdata_section_becomes_text_in_every_reading() -> None:
    out = through("<svg><desc><b></desc><![CDATA[x>" + BAD + "]]>")
    assert "&lt;![CDATA[x>" + HELD + "]]>" in out


def test_noscript_that_does_not_end_where_both_readings_agree_loses_its_contents() -> None:
    assert through("<noscript><p title='</noscript>" + BAD) == "<noscript></noscript>" + HELD
    assert through("<noscript><style></noscript>" + BAD) == "<noscript></noscript>" + HELD
    page = "<noscript><p title='</noscript>'>"
    assert through(page, *EVERYTHING, on=gate(configured_too=("unnamed",))) == page


def test_the_select_of_a_closed_template_is_closed() -> None:
    page = "<template><select></template><svg><style>a</style></svg>"
    assert through(page) == page


def test_a_self_closing_slash_is_told_from_a_value() -> None:
    assert scanner.self_closing(b"<a/>")
    assert scanner.self_closing(b"<a b='c'/>")
    assert scanner.self_closing(b"<a b />")
    assert not scanner.self_closing(b"<a b=c/>")
    assert not scanner.self_closing(b"<a/ >")
    assert not scanner.self_closing(b"<a>")


def test_a_tag_end_is_found_over_pieces() -> None:
    data, end = bytearray(), TagEnd(1)
    tag = b"<a b = \"x>\" c='>' d=e/ f/>"
    for at, byte in enumerate(tag):
        data.append(byte)
        assert end.find(data) == (len(tag) if at == len(tag) - 1 else -1)
    assert end.slash


def test_odd_bytes_have_no_attributes() -> None:
    assert attributes(b"") == []
    assert scanner.name_of(b"<>") == ""
    assert scanner.name_end(b"<>") == 1
    assert [item.name for item in attributes(b"<p \xff\xfe=1 A\0=2>")] == ["\ufffd\ufffd", "a\ufffd"]


def test_foreign_content_is_followed() -> None:
    inside = Foreign()
    inside.end("svg")
    assert not inside.markup
    assert not inside.character_data
    inside.start("svg", self_closing=True)
    assert not inside.stack
    inside.start("svg", self_closing=False)
    assert inside.start("title", self_closing=False)
    assert inside.character_data
    assert not inside.markup
    assert not inside.start("br", self_closing=False)
    copy = inside.copy()
    inside.end("title")
    inside.end("svg")
    assert (inside.stack, inside.unsure) == ([], False)
    assert copy.stack


def test_the_crude_gate_overrules_everything_that_loads() -> None:
    page_ = b'<p title="<img onerror=x>"><script src=//bad.example></script><IMG SRC="//bad.example"><svg><image href=//bad.example></svg><a ping=//bad.example>x</a><scr'
    out = fallback(page_)
    assert out.endswith(b"&lt;scr")
    assert out.count(b'"') == page_.count(b'"')
    for _, elements in readings(out.decode()):
        assert live(elements) == []


@pytest.mark.checklist("GAT-16")
def test_the_crude_gate_leaves_nothing_live_in_a_thousand_pages() -> None:
    import random

    for number in range(1000):
        body = page(random.Random(number)).encode()
        out = fallback(body).decode()
        for reader, elements in readings(out):
            assert live(elements) == [], (reader, body, out)


def test_a_memo_forgets_at_its_bound() -> None:
    memo = Memo[int](1600)
    memo.put(b"large", 1, size=101)
    assert memo.get(b"large") is None
    for number in range(17):
        memo.put(b"%d" % number, number, size=100)
    assert memo.get(b"16") == 16
    assert memo.get(b"3") is None


def test_bodies_keep_what_was_used_last() -> None:
    bodies = Bodies[str](400)
    bodies.put(b"large", None, "x", size=101)
    assert bodies.get(b"large", None) is None
    for key in (b"a", b"b", b"c", b"d"):
        bodies.put(key, None, key.decode(), size=100)
    assert bodies.get(b"a", None) == "a"
    bodies.put(b"a", None, "A", size=100)
    bodies.put(b"e", None, "e", size=50)
    assert bodies.get(b"b", None) is None
    assert bodies.get(b"a", None) == "A"
    assert bodies.get(b"c", None) == "c"


def test_bodies_that_look_alike_are_told_apart_and_bounded() -> None:
    bodies = Bodies[int](100_000)
    alike = [b"x" * 300 + b"%02d" % number + b"x" * 100 for number in range(12)]
    for number, body in enumerate(alike):
        bodies.put(body, None, number, size=1000)
    assert [bodies.get(body, None) for body in alike] == [None] * 4 + list(range(4, 12))
    assert bodies.get(alike[5], "other") is None
    bodies.put(alike[5], None, 55, size=1000)
    assert [bodies.get(body, None) for body in alike[4:8]] == [4, 55, 6, 7]
    for number in range(92):  # what was replaced weighs nothing any more: these fit beside the eight
        bodies.put(b"", number, number, size=1000)
    assert bodies.get(alike[11], None) == 11
    bodies.put(b"", 92, 92, size=1000)
    assert (
        bodies.get(
            b"",
            0,
        )
        is None
    )
    assert bodies.get(b"", 1) == 1


def test_many_contexts_do_not_fill_the_memory() -> None:
    one = gate()
    for number in range(40):
        out = through(f"<html lang=l{number}><iframe src=//youtube.com/embed/x>", on=one)
        assert f"l{number}&quot;" in out


def test_many_bases_are_bounded() -> None:
    out = through("".join(f"<base href=//s{number}.bad.example/>" for number in range(20)) + "<img src=x.gif>")
    assert 'needs="-"' in out


def test_a_gate_without_markers_or_services_lets_everything_through() -> None:
    empty = Gate((), configured=(), categories=())
    body = b"<script>gtag()</script>" + BAD.encode()
    assert empty.rewrite(body, DENIED, nothing, document=None) == body
    blank = Gate([service("x", "analytics", "x.example", inline=("",))], configured=["x"], categories=["analytics"])
    assert blank.rewrite(body, DENIED, nothing, document=None) == body


def test_markers_that_begin_alike_are_all_found() -> None:
    all_three = [
        service("a", "analytics", inline=("go(",)),
        service("b", "marketing", inline=("go('x'",)),
        service("c", "chat", inline=("o('",)),
    ]
    one = Gate(all_three, configured=["a", "b", "c"], categories=[])
    assert b'needs="analytics chat marketing"' in one.rewrite(
        b"<script>go('x')</script>", DENIED, nothing, document=None
    )
    assert b'needs="analytics"' in one.rewrite(b"<script>go(1)</script>", DENIED, nothing, document=None)


def test_many_urls_do_not_fill_the_memory() -> None:
    one = gate()
    for number in range(5000):
        assert one.service_of_url(f"https://h{number}.example/") is None
    assert len(one._registry._found) <= 4096


def test_a_cookie_of_two_services_belongs_to_the_one_that_asks() -> None:
    from tests.gate.samples import cookie

    both = [service("own", "necessary", items=(cookie("id"),)), service("ads", "marketing", items=(cookie("id"),))]
    assert Gate(both, configured=["own", "ads"], categories=["marketing"]).cookie("id").id == "ads"  # type: ignore[union-attr]
    assert Gate(both[:1], configured=["own"], categories=[]).cookie("id").id == "own"  # type: ignore[union-attr]
