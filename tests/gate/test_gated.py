"""What is held back, what is not, and how it looks."""

# ruff: noqa: E501 - markup reads best in one line
from __future__ import annotations

import pytest

from consentkit.gate import Seen
from consentkit.service import Service
from tests.gate.samples import DENIED, EVERYTHING, SERVICES, gate, marks, nothing, through

GA = "https://www.google-analytics.com/collect"

GATED = {
    "an external script": (f'<script async src="{GA}"></script>', f'<script type="text/plain" data-consentkit-needs="analytics" async data-consentkit-src="{GA}"></script>'),
    "a module": (f"<script type=module src={GA}></script>", f'<script type="text/plain" data-consentkit-needs="analytics" data-consentkit-type=module data-consentkit-src={GA}></script>'),
    "an inline script by its marker": ("<script>\ngtag('js')</script>", "<script type=\"text/plain\" data-consentkit-needs=\"analytics\">\ngtag('js')</script>"),
    "an inline script by a URL in it": ("<script>l('//static.hotjar.com/c/x.js')</script>", "<script type=\"text/plain\" data-consentkit-needs=\"analytics\">l('//static.hotjar.com/c/x.js')</script>"),
    "an inline script by an escaped URL": (r'<script>l("https:\/\/static.hotjar.com\/c")</script>', r'<script type="text/plain" data-consentkit-needs="analytics">l("https:\/\/static.hotjar.com\/c")</script>'),
    "a script of two services": ("<script>gtag(1);fbq(2)</script>", '<script type="text/plain" data-consentkit-needs="analytics marketing">gtag(1);fbq(2)</script>'),
    "a script in an escaped comment": ("<script><!--<script>gtag(</script>--></script>x", '<script type="text/plain" data-consentkit-needs="analytics"><!--<script>gtag(</script>--></script>x'),
    "a pixel": ('<img src="https://www.facebook.com/tr?id=1" alt="x">', '<img data-consentkit-needs="marketing" data-consentkit-src="https://www.facebook.com/tr?id=1" alt="x">'),
    "a srcset": ("<img srcset='/a.png 1x, https://bad.example/b.png 2x' src=/a.png>", "<img data-consentkit-needs=\"-\" data-consentkit-srcset='/a.png 1x, https://bad.example/b.png 2x' data-consentkit-src=/a.png>"),
    "every duplicate": ("<img src=//bad.example SRC=/ok src=//bad.example>", None),
    "a style sheet": ('<link rel="stylesheet" href="https://fonts.googleapis.com/css">', '<link data-consentkit-needs="preferences" data-consentkit-rel="stylesheet" data-consentkit-href="https://fonts.googleapis.com/css">'),
    "a preconnect": ("<link rel=preconnect href=//fonts.gstatic.com>", '<link data-consentkit-needs="preferences" data-consentkit-rel=preconnect data-consentkit-href=//fonts.gstatic.com>'),
    "a dns-prefetch": ("<link rel='dns-prefetch' href=//hotjar.com>", "<link data-consentkit-needs=\"analytics\" data-consentkit-rel='dns-prefetch' data-consentkit-href=//hotjar.com>"),
    "an image preload": ("<link rel=preload as=image imagesrcset='//bad.example/x 2x'>", "<link data-consentkit-needs=\"-\" data-consentkit-rel=preload as=image data-consentkit-imagesrcset='//bad.example/x 2x'>"),
    "an object": ("<object data=//bad.example/x></object>", '<object data-consentkit-needs="-" data-consentkit-data=//bad.example/x></object>'),
    "an embed": ("<embed src=//bad.example/x>", '<embed data-consentkit-needs="-" data-consentkit-src=//bad.example/x>'),
    "a video's poster": ("<video poster=//bad.example/x src=/v.mp4></video>", '<video data-consentkit-needs="-" data-consentkit-poster=//bad.example/x data-consentkit-src=/v.mp4></video>'),
    "an audio source": ("<audio><source src=//bad.example/x></audio>", '<audio><source data-consentkit-needs="-" data-consentkit-src=//bad.example/x></audio>'),
    "a track": ("<track src=//bad.example>", '<track data-consentkit-needs="-" data-consentkit-src=//bad.example>'),
    "an image button": ("<input type=image src=//bad.example>", '<input data-consentkit-needs="-" type=image data-consentkit-src=//bad.example>'),
    "a background": ("<td background=//bad.example>", '<td data-consentkit-needs="-" data-consentkit-background=//bad.example>'),
    "a ping": ("<a href=/x ping='/me //bad.example'>", "<a data-consentkit-needs=\"-\" href=/x data-consentkit-ping='/me //bad.example'>"),
    "a refresh": ('<meta http-equiv="Refresh" content="0; url=//bad.example">', '<meta data-consentkit-needs="-" data-consentkit-http-equiv="Refresh" data-consentkit-content="0; url=//bad.example">'),
    "a frame of a frameset": ("<frame src=//bad.example>", '<frame data-consentkit-needs="-" data-consentkit-src=//bad.example>'),
    "an SVG image": ("<svg><image xlink:href=//bad.example /></svg>", '<svg><image data-consentkit-needs="-" data-consentkit-xlink:href=//bad.example /></svg>'),
    "an SVG use": ("<svg><use href=//bad.example/i.svg#x></svg>", '<svg><use data-consentkit-needs="-" data-consentkit-href=//bad.example/i.svg#x></svg>'),
    "an SVG script that closes itself": ("<svg><script href=//bad.example /></svg>", '<svg><script type="text/plain" data-consentkit-needs="-" data-consentkit-href=//bad.example /></svg>'),
    "an SVG script's text": ("<svg><script><![CDATA[gtag()]]></script></svg>", '<svg><script type="text/plain" data-consentkit-needs="analytics"><![CDATA[gtag()]]></script></svg>'),
    "an SVG script's text in references": ("<svg><script>&#103;tag(1)</script></svg>", '<svg><script type="text/plain" data-consentkit-needs="analytics">&#103;tag(1)</script></svg>'),
    "a pixel in noscript": ("<noscript><img src=//bad.example></noscript>", '<noscript><img data-consentkit-needs="-" data-consentkit-src=//bad.example></noscript>'),
    "in a template": ("<template><img src=//bad.example></template>", '<template><img data-consentkit-needs="-" data-consentkit-src=//bad.example></template>'),
    "a data: frame with a tracker in it": ("<object data='data:text/html;base64,Z3RhZygx'></object>", "<object data-consentkit-needs=\"analytics\" data-consentkit-data='data:text/html;base64,Z3RhZygx'></object>"),
    "a handler that runs by itself": ("<img src=/a onload='new Image().src=`//bad.example`'>", "<img data-consentkit-needs=\"-\" data-consentkit-src=/a data-consentkit-onload='new Image().src=`//bad.example`'>"),
    "a tracker's base, and what is relative to it": ("<base href=//bad.example/><img src=x.gif>", '<base data-consentkit-needs="-" data-consentkit-href=//bad.example/><img data-consentkit-needs="-" data-consentkit-src=x.gif>'),
    "marked by the author": ('<script data-consent="analytics" src=/own.js></script>', '<script type="text/plain" data-consentkit-needs="analytics" data-consent="analytics" data-consentkit-src=/own.js></script>'),
    "marked inline": ("<script data-consent='analytics, marketing'>x()</script>", "<script type=\"text/plain\" data-consentkit-needs=\"analytics marketing\" data-consent='analytics, marketing'>x()</script>"),
    "marked with no word": ("<script data-consent='' src=/x></script>", "<script type=\"text/plain\" data-consentkit-needs=\"-\" data-consent='' data-consentkit-src=/x></script>"),
    "rules for wherever the links lead": ('<script type=speculationrules>{"prefetch": [{"source": "document", "where": {"selector_matches": "a"}}]}</script>', '<script type="text/plain" data-consentkit-needs="-" data-consentkit-type=speculationrules>{"prefetch": [{"source": "document", "where": {"selector_matches": "a"}}]}</script>'),
    "rules for the site or wherever": ('<script type=speculationrules>{"prerender": [{"where": {"or": [{"href_matches": "/*"}, {"href_matches": "//bad.example/*"}]}}]}</script>', None),
    "rules in another encoding": (b'<script type=importmap>{"imports": {"\xe9": "https://bad.ex\\u0061mple/x"}}</script>'.decode("latin-1"), None),
    "a bundle": ('<script type=webbundle>{"source": "https://bad.example/x", "resources": []}</script>', '<script type="text/plain" data-consentkit-needs="-" data-consentkit-type=webbundle>{"source": "https://bad.example/x", "resources": []}</script>'),
    "what a worker would run": ("<script type=text/partytown src=//bad.example></script>", '<script type="text/plain" data-consentkit-needs="-" data-consentkit-type=text/partytown data-consentkit-src=//bad.example></script>'),
    "marked with an unknown word": ("<img data-consent=statistieken src=/x>", '<img data-consentkit-needs="-" data-consent=statistieken data-consentkit-src=/x>'),
    "marked with a service": ("<img data-consent-service=hotjar src=/x>", '<img data-consentkit-needs="analytics" data-consent-service=hotjar data-consentkit-src=/x>'),
    "marked with an unknown service": ("<img data-consent-service=zzz src=/x>", '<img data-consentkit-needs="-" data-consent-service=zzz data-consentkit-src=/x>'),
    "necessary by name but known": ("<img data-consent=necessary src=//hotjar.com>", '<img data-consentkit-needs="analytics" data-consent=necessary data-consentkit-src=//hotjar.com>'),
    "no space between attributes": ('<img alt="x"src="//bad.example">', '<img data-consentkit-needs="-" alt="x"data-consentkit-src="//bad.example">'),
    "after a quote that hides a comment": ('<a title="<!-- ">x</a><img src=//bad.example>', '<a title="<!-- ">x</a><img data-consentkit-needs="-" data-consentkit-src=//bad.example>'),
}  # fmt: skip


@pytest.mark.checklist("GAT-06")
@pytest.mark.parametrize("name", GATED)
def test_without_consent_it_is_held_back(name: str) -> None:
    page, expected = GATED[name]
    out = through(page)
    if expected is None and name == "every duplicate":
        assert out.count("data-consentkit-") == 4
        assert " src=" not in out.lower()
    elif expected is None:
        assert out.startswith('<script type="text/plain" data-consentkit-needs="-" data-consentkit-type=')
    else:
        assert out == expected


NEVER = {"marked with an unknown word", "marked with an unknown service", "marked with no word"}
"""What nobody can agree to."""


@pytest.mark.checklist("GAT-06")
@pytest.mark.parametrize("name", [name for name in GATED if name not in NEVER])
def test_with_consent_it_is_as_the_author_wrote_it(name: str) -> None:
    page = GATED[name][0]
    assert through(page, *EVERYTHING, on=gate(configured_too=("unnamed",))) == page


UNTOUCHED = {
    "text": "gtag( https://bad.example",
    "a comment": "<!-- <script src=//bad.example></script> -->",
    "a textarea": "<textarea><script src=//bad.example></script></textarea>",
    "a title": "<title><img src=//bad.example></title>",
    "xmp": "<xmp><img src=//bad.example></xmp>",
    "plaintext": "<plaintext><img src=//bad.example></plaintext><script src=//bad.example></script>",
    "style": "<style>/*<img src=//bad.example>*/</style>",
    "JSON": '<script type="application/json">{"a": "//bad.example"}</script>',
    "linked data": '<script type="application/ld+json">{"sameAs": "https://bad.example"}</script>',
    "rules for links to the site itself": '<script type=speculationrules>{"prefetch": [{"where": {"and": [{"href_matches": "/*"}, {"not": {"href_matches": "/uit"}}]}}]}</script>',
    "an import map of the site": '<script type=importmap>{"imports": {"a": "https://fine.example/a.js"}}</script>',
    "a parked script": "<script type=text/plain src=//bad.example></script>",
    "a canonical link": "<link rel=canonical href=https://bad.example>",
    "an alternate": '<link rel="alternate" hreflang=en href="https://bad.example">',
    "a plain link": "<a href=https://bad.example>x</a>",
    "an own image": "<img src=/a.png srcset='/b.png 2x'>",
    "an own absolute URL": "<img src=https://www.delinde.example/a.png>",
    "an unknown third party": "<script src=https://cdn.example/x.js></script>",
    "another path of a known host": "<iframe src=https://www.google.com/search></iframe>",
    "a longer word": "<iframe src=https://www.google.com/mapsearch></iframe>",
    "a necessary service": "<script src=https://captcha.example/x.js></script>",
    "a mark on what loads nothing": "<div data-consent=marketing>x</div>",
    "an SVG link": "<svg><a href=//bad.example></a></svg>",
    "HTML use": "<use href=//bad.example>",
    "a description": '<meta name=description content="0;url=//bad.example">',
    "an end tag": "</img src=//bad.example>",
    "CDATA in SVG": "<svg><![CDATA[<img src=//bad.example>]]></svg>",
    "a cut tag": "<p>x<script src='https://bad.example",
    "first-party inline": "<script>if (a<b) document.write('<p>')</script>",
    "the URL as a parameter": "<img src=/x?u=https://bad.example>",
}


@pytest.mark.parametrize("name", UNTOUCHED)
def test_what_loads_nothing_of_a_tracker_goes_out_byte_for_byte(name: str) -> None:
    assert through(UNTOUCHED[name]) == UNTOUCHED[name]


@pytest.mark.checklist("GAT-06")
def test_a_frame_becomes_a_placeholder_of_the_same_size() -> None:
    out = through('<html lang="nl-NL"><iframe width=560 sandbox src="https://www.youtube.com/embed/x"></iframe>')
    assert out == (
        '<html lang="nl-NL"><iframe data-consentkit-needs="youtube" srcdoc="&lt;p lang=&quot;nl-nl&quot;&gt;youtube: youtube&lt;/p&gt;"'
        ' title="Youtube" width=560 data-consentkit-sandbox data-consentkit-src="https://www.youtube.com/embed/x"></iframe>'
    )


def test_a_frame_keeps_its_own_title() -> None:
    out = through("<iframe title=Film src=//youtube.com/embed/x></iframe>")
    assert out.count("title=") == 1


def test_a_frame_without_a_known_service_has_no_title_to_add() -> None:
    out = through("<iframe data-consent=marketing src=/own></iframe>")
    assert 'srcdoc="&lt;p lang=&quot;None&quot;&gt;-: marketing' in out
    assert "title" not in out


@pytest.mark.parametrize(
    ("srcdoc", "needs"),
    [
        ("<img src=//bad.example>", "-"),
        ("&lt;script>gtag(1)&lt;/script>", "analytics"),
        ("<iframe srcdoc='&lt;img src=//hotjar.com&gt;'>", "analytics"),
        ("<p>own</p>", None),
    ],
)
def test_the_document_inside_srcdoc_is_scanned(srcdoc: str, needs: str | None) -> None:
    page = f'<iframe srcdoc="{srcdoc}"></iframe>'
    out = through(page)
    assert out == page if needs is None else f'needs="{needs}" srcdoc="&lt;p' in out


def test_srcdoc_nested_without_end_is_held_back() -> None:
    page = "x"
    for _ in range(7):
        page = page.replace("&", "&amp;").replace('"', "&quot;")
        page = f'<iframe srcdoc="{page}"></iframe>'
    assert 'data-consentkit-needs="-"' in through(page)


def test_an_embed_named_by_its_category_needs_its_own_purpose() -> None:
    page = "<iframe data-consent=marketing src=//youtube.com/embed/x></iframe>"
    assert 'needs="youtube"' in through(page)
    assert through(page, "youtube") == page
    assert 'needs="youtube"' in through(page, "marketing")


def test_what_the_site_does_not_name_never_opens() -> None:
    page = "<script src=//bad.example></script>"
    assert 'needs="-"' in through(page, *EVERYTHING, "-")


def test_in_strict_mode_an_unknown_third_party_is_held_back_unless_its_author_marked_it() -> None:
    strict = gate(strict=True)
    assert 'needs="-"' in through("<script src=https://cdn.example/x.js></script>", on=strict)
    page = "<script data-consent=necessary src=https://cdn.example/x.js></script>"
    assert through(page, on=strict) == page
    assert 'needs="-"' in through("<base href=https://cdn.example/><img src=x.png>", on=strict)
    page = "<img src=https://www.delinde.example/x.png>"
    assert through(page, on=strict) == page


def test_what_was_seen_is_told_with_its_line() -> None:
    page = b"<p>\n<img src=//hotjar.com>\n\n<script>gtag()\n</script><script src=https://cdn.example/x></script>\n<noscript>\n<img src=//bad.example></noscript>"
    rewriter = gate().rewriter(frozenset({"analytics"}), nothing, document=None)
    rewriter.feed(page[:30])
    rewriter.feed(page[30:])
    rewriter.close()
    assert list(rewriter.seen) == [
        Seen("img", "hotjar.com", "hotjar", 2, gated=False),
        Seen("script", "", "google-analytics", 4, gated=False),
        Seen("script", "cdn.example", None, 5, gated=False),
        Seen("img", "bad.example", "unnamed", 7, gated=True),
    ]


def test_what_was_seen_is_bounded() -> None:
    rewriter = gate().rewriter(DENIED, nothing, document=None)
    rewriter.feed(b"<img src=//hotjar.com>" * 1000)
    rewriter.close()
    assert len(rewriter.seen) == 256


def test_the_gate_answers_for_services_cookies_and_urls() -> None:
    one = gate()
    assert one.service_of_url("https://region1.google-analytics.com/g/collect").id == "google-analytics"  # type: ignore[union-attr]
    assert one.service_of_url("/x") is None
    assert one.service_of_url("https://example.org") is None
    assert one.cookie("_ga_ABC").id == "google-analytics"  # type: ignore[union-attr]
    assert one.cookie("sessionid") is None
    by_id = {service.id: service for service in SERVICES}
    assert one.needs(by_id["youtube"]) == {"youtube"}
    assert one.needs(by_id["counter"]) == {"counter"}
    assert one.needs(by_id["captcha"]) == frozenset()
    assert one.needs(by_id["unnamed"]) == {"-"}
    stranger = Service("new", "n", "n", "NL", "analytics", {})
    assert one.needs(stranger) == {"-"}
    assert one.allows(by_id["hotjar"], {"analytics"})
    assert not one.allows(by_id["hotjar"], {"marketing"})
    assert not one.allows(by_id["unnamed"], {"-"})


def test_a_repeated_body_is_remembered_and_its_slots_filled_afresh() -> None:
    one, told = gate(), []
    page = b"<!doctype html><title>x</title><body><img src=//hotjar.com></body>"
    first = one.rewrite(page, DENIED, marks, document=None, on_seen=told.append)
    again = one.rewrite(
        bytes(bytearray(page)),
        DENIED,
        lambda slot: b"(" + slot.kind.encode() + b")",
        document=None,
        on_seen=told.append,
    )
    assert again == first.replace(b"[", b"(").replace(b"]", b")")
    assert len(told) == 1
    assert b"data-consentkit" not in one.rewrite(page, EVERYTHING, marks, document=None)


@pytest.mark.parametrize("encoding", ["shift_jis", "gbk", "big5", "gb18030"])
def test_a_letter_that_ends_in_a_backslash_hides_nothing_in_a_style(encoding: str) -> None:
    letter = {"shift_jis": "ソ", "gbk": "誠", "gb18030": "誠", "big5": "功"}[encoding]
    page = f'<style>.a:before{{content:"{letter}"}}.b{{background:url(//bad.example)}}.c:before{{content:"{letter}"}}</style>'

    out = gate().rewrite(page.encode(encoding), DENIED, nothing, document=False)

    assert out.startswith(b'<style type="text/plain" data-consentkit-needs="-">consentkit{}.a')


def test_what_only_the_gate_may_say_is_taken_from_whoever_else_says_it() -> None:
    page = b'<div data-consentkit-needs=analytics DATA-consentkit-onclick="x()"><a data-consentkit=settings href=/s>'

    out = gate().rewrite(page, EVERYTHING, nothing, document=False)

    assert out == (
        b'<div data-not-data-consentkit-needs=analytics data-not-DATA-consentkit-onclick="x()">'
        b"<a data-consentkit=settings href=/s>"
    )


def test_where_unknown_parties_are_blocked_so_is_what_a_script_imports_from_them() -> None:
    page = "<script type=module>import {a} from 'https://fine.example/x.js'</script><script>b='https://fine.example'</script>"

    out = gate(strict=True).rewrite(page.encode(), DENIED, nothing, document=False).decode()

    assert out == page.replace(
        "<script type=", '<script type="text/plain" data-consentkit-needs="-" data-consentkit-type=', 1
    )
