"""Every way in which a page makes a browser contact somebody: held without consent, and untouched with it."""

# ruff: noqa: E501 - markup reads best in one line
from __future__ import annotations

from html import escape

import pytest

from consentkit.gate import Gate, fallback
from consentkit.gate.headers import filter_fetches
from tests.gate.harm import live, readings
from tests.gate.samples import DENIED, EVERYTHING, SERVICES, gate, nothing, service

NAMED = gate(configured_too=("unnamed",))
URL = "https://bad.example/x"
GRANTED = frozenset({"marketing"})

VECTORS = {
    "a script": "<script async src={}></script>",
    "a module": "<script type=module src='{}'></script>",
    "an inline script": "<script>load('{}')</script>",
    "an inline module": "<script type='module'>import '{}'</script>",
    "an import map": '<script type=importmap>{"imports": {"a": "{}"}}</script>',
    "a scope of an import map": '<script type="importmap">{"scopes": {"/a/": {"a": "{}"}}}</script>',
    "speculation rules": '<script type="speculationrules">{"prefetch": [{"source": "list", "urls": ["/a", "{}"]}]}</script>',
    "speculation rules with a slash escaped": '<script type="speculationrules">{"prerender": [{"urls": ["https:\\/\\/{h}\\/x"]}]}</script>',
    "a frame": "<iframe src='{}'></iframe>",
    "a frame of a frameset": "<frameset><frame src={}></frameset>",
    "a frame's own document": "<iframe srcdoc='<script src={}></script>'></iframe>",
    "a frame's own document, escaped": '<iframe srcdoc="&lt;img src=&quot;{}&quot;&gt;"></iframe>',
    "a style in a frame's own document": "<iframe srcdoc=\"<style>@import '{}'</style>\"></iframe>",
    "a frame's document in a frame's document": '<iframe srcdoc="<iframe srcdoc=\'&amp;lt;img src={}&amp;gt;\'></iframe>"></iframe>',
    "an image": "<img alt='' src={}>",
    "an image by its old name": "<image src={}>",
    "a set of images": "<img srcset='/a.png 1x, {} 2x' src=/a.png>",
    "a set of images without spaces": "<img srcset='/a.png 1x,{}'>",
    "a set of images after parentheses": "<img srcset='/a.png (( ), {} 2x'>",
    "a picture's source": "<picture><source srcset='{}'><img src=/a.png></picture>",
    "an image button": "<input type=image src='{}'>",
    "a style sheet": "<link rel=stylesheet href={}>",
    "another style sheet": "<link rel='alternate stylesheet' title=a href={}>",
    "a preload": "<link rel=preload as=script href={}>",
    "a preload of a set of images": "<link rel=preload as=image imagesrcset='/a.png 1x, {} 2x'>",
    "a preload of a module": "<link rel=modulepreload href={}>",
    "a preconnect": "<link rel='x preconnect' href={}>",
    "a name looked up": "<link rel=dns-prefetch href={}>",
    "a prefetch": "<link rel=prefetch href={}>",
    "a prerender": "<link rel=prerender href={}>",
    "an icon": "<link rel='shortcut icon' href={}>",
    "a manifest": "<link rel=manifest href={}>",
    "an object": "<object data={}></object>",
    "an embed": "<embed src={}>",
    "a video": "<video src={}></video>",
    "a video's poster": "<video poster={} src=/v.mp4></video>",
    "a video's source": "<video><source src={}></video>",
    "a video's track": "<video src=/v.mp4><track src={}></video>",
    "an audio": "<audio src={}></audio>",
    "a page's background": "<body background={}>",
    "a table's background": "<table background={}><tr><td background={}></table>",
    "a ping": "<a href=/x ping='/own {}'>x</a>",
    "a ping of an area": "<map><area href=/x ping={}></map>",
    "a refresh": "<meta http-equiv=refresh content='0; url={}'>",
    "a refresh without a name": "<meta content=\"3,'{}'\" http-equiv=Refresh>",
    "an SVG image": "<svg><image href={} /></svg>",
    "an SVG image of old": "<svg><image xlink:href={} /></svg>",
    "an SVG use": "<svg><use href='{}#a'/></svg>",
    "an SVG script": "<svg><script href={}></script></svg>",
    "an SVG script's text": "<svg><script>load('{}')</script></svg>",
    "an SVG filter's image": "<svg><filter><feImage href={} /></filter></svg>",
    "an SVG style": "<svg><style>p{background:url({})}</style></svg>",
    "an SVG style in pieces": "<svg><style>p{background:u<!-- -->rl({})}</style></svg>",
    "an SVG style after half a quote": "<svg><style><!'>p{background:url({})}</style></svg>",
    "an SVG style that ends in half a tag": "<svg><style>@import'{}<x",
    "what an SVG is drawn with": "<svg><rect fill='url({}#a)' mask='url(\"{}#b\")' /></svg>",
    "what an SVG itself is drawn with": "<svg clip-path='url({}#a)'></svg>",
    "an SVG animation": "<svg><image><animate attributeName=href values='/a;{}' /></image></svg>",
    "an SVG value set": "<svg><image><set attributeName=xlink:href to='{}' /></image></svg>",
    "a style attribute": "<p style='background:url({})'>x</p>",
    "a style attribute in quotes": "<p style='background:url(&quot;{}&quot;)'>x</p>",
    "a style attribute with a set of images": "<p style=\"background:image-set('{}' 1x)\">x</p>",
    "a style attribute that others use": "<p style=\"--a:'{}'\">x</p>",
    "a style attribute of a script": "<script style='background:url({})' src=/a.js></script>",
    "a style attribute of an inline script": "<script style='background:url({})'>a()</script>",
    "a style attribute of a style": "<style style='display:block;background:url({})'>p{color:red}</style>",
    "a handler that runs by itself": "<img src=/a.png onload=\"new Image().src='{}'\">",
    "a page's handler": "<body onload='fetch(&quot;{}&quot;)'>",
    "a style": "<style>p{background:url({})}</style>",
    "an import": "<style>@import '{}';</style>",
    "an import by url()": "<style media=print>@import url( \"{}\" ) screen;</style>",
    "a font": "<style>@font-face{font-family:a;src:local('a'),url({}) format('woff2')}</style>",
    "a style with escapes": "<style>p{background:\\75 rl({})}@\\69mport '{}'</style>",
    "a style with a tab in a URL": "<style>@import '/\t/{h}/x'</style>",
    "a style attribute with a tab in a URL": "<p style=\"background:url('ht&Tab;tps:{h}/x')\">x</p>",
    "a style in comments": "<style><!-- p{cursor:url({}),auto} --></style>",
    "relative to a base": "<base href='{}'><img src=a.png>",
    "relative to a base that comes late": "<object data=a.svg></object><base href={}>",
    "a template": "<template><img src={}></template>",
    "a shadow": "<div><template shadowrootmode=open><img src={}></template></div>",
    "a shadow's style": "<div><template shadowrootmode=closed><style>@import '{}'</style></template></div>",
    "a pixel without scripting": "<noscript><img src={} height=1></noscript>",
    "a style without scripting": "<head><noscript><style>@import '{}'</style><link rel=stylesheet href={}></noscript>",
    "a style attribute without scripting": "<noscript><p style='background:url({})'>x</noscript>",
}  # fmt: skip


def page(name: str, host: str = "bad.example") -> bytes:
    return VECTORS[name].replace("{}", f"https://{host}/x").replace("{h}", host).encode()


def harm(out: bytes) -> list[tuple[str, list[str]]]:
    return [(reader, found) for reader, elements in readings(out.decode()) if (found := live(elements))]


@pytest.mark.checklist("GAT-01", "GAT-06")
@pytest.mark.parametrize("name", VECTORS)
def test_no_parser_finds_it_live_without_consent(name: str) -> None:
    body = page(name)

    out = NAMED.rewrite(body, DENIED, nothing, document=None)

    assert harm(body) != [], "the test itself must see the harm"
    assert harm(out) == []
    assert b'data-consentkit-needs="marketing"' in out


@pytest.mark.checklist("GAT-06")
@pytest.mark.parametrize("name", VECTORS)
def test_it_is_as_the_author_wrote_it_with_consent_or_for_another_host(name: str) -> None:
    body, innocent = page(name), page(name, "innocent.example")

    assert NAMED.rewrite(body, GRANTED, nothing, document=None) == body
    assert NAMED.rewrite(innocent, DENIED, nothing, document=None) == innocent


@pytest.mark.checklist("GAT-01")
@pytest.mark.parametrize("name", VECTORS)
def test_where_unknown_parties_are_blocked_it_is_held_whoever_it_leads_to(name: str) -> None:
    strict = gate(strict=True)
    own = page(name, "delinde.example")

    out = strict.rewrite(page(name), EVERYTHING, nothing, document=None)

    assert harm(out) == []
    assert strict.rewrite(own, EVERYTHING, nothing, document=None) == own


@pytest.mark.checklist("GAT-16")
@pytest.mark.parametrize("name", VECTORS)
def test_where_our_own_code_failed_the_crude_gate_leaves_none_of_it_live(name: str) -> None:
    assert harm(fallback(page(name))) == []


SPELLINGS = {
    "protocol-relative": "//bad.example/x",
    "upper case": "HTTPS://BAD.EXAMPLE/X",
    "plain http": "http://bad.example/x",
    "credentials": "https://user:pass%40word@bad.example/x",
    "an @ in the password": "https://www.delinde.example@bad.example/x",
    "a port": "https://bad.example:8443/x",
    "a trailing dot": "https://bad.example./x",
    "a subdomain": "https://a.b.bad.example/x",
    "one slash": "https:/bad.example/x",
    "no slash": "http:bad.example/x",
    "three slashes": "https:///bad.example/x",
    "percent-encoded": "https://%62ad.ex%61mple/x",
    "full-width letters": "https://ｂａｄ.example/x",
    "an ideographic stop": "https://bad。example/x",
    "an invisible hyphen": "https://bad\u00ad.example/x",
    "space around it": " \n https://bad.example/x \t",
    "nothing but the host": "//bad.example",
    "a question right away": "//bad.example?x",
}
ENCODED = {
    "entities": "https&colon;&sol;&sol;bad&period;example/x",
    "numeric entities": "&#104;&#x74;tps&#58;//bad&#46;example/x",
    "entities without semicolon": "https&#58//bad.example/x",
    "a newline as an entity": "ht&NewLine;tps://bad.exa&Tab;mple/x",
    "backslashes": "https:\\\\bad.example\\x",
    "a slash and a backslash": "/\\bad.example/x",
    "tabs and newlines": "\tht\ntps:/\t/bad.exa\rmple/x",
}
CARRIERS = {
    "src": '<img src="{}">',
    "a script": '<script src="{}"></script>',
    "a ping": '<a href="/x" ping="{}">x</a>',
    "a refresh": '<meta http-equiv="refresh" content="0;url={}">',
    "a link": '<link rel="stylesheet" href="{}">',
    "SVG": '<svg><image xlink:href="{}"/></svg>',
}


@pytest.mark.checklist("GAT-01")
@pytest.mark.parametrize("carrier", CARRIERS)
@pytest.mark.parametrize("spelling", SPELLINGS | ENCODED)
def test_a_url_is_known_however_it_is_spelt(carrier: str, spelling: str) -> None:
    url = (SPELLINGS | ENCODED)[spelling]
    body = CARRIERS[carrier].format(url).encode()

    out = NAMED.rewrite(body, DENIED, nothing, document=None)

    assert harm(out) == []
    assert (b"data-consentkit-needs" in out) is (harm(body) != [])  # white space ends a URL of a ping
    assert NAMED.rewrite(body, GRANTED, nothing, document=None) == body


@pytest.mark.checklist("GAT-01")
@pytest.mark.parametrize("spelling", SPELLINGS)
def test_a_url_in_css_is_known_however_it_is_spelt(spelling: str) -> None:
    url = SPELLINGS[spelling].replace("\n", " ")
    escaped = "".join(f"\\{ord(char):x} " if char in "/:.a" else char for char in url)
    pages = [
        f"<p style=\"background:url('{url}')\">x</p>",
        f"<style>p{{background:url( '{url}' )}}</style>",
        f"<style>@import '{url}';</style>",
        f"<style>@import '{escaped}';</style>",
        f"<p style=\"background:url('{escape(escaped)}')\">x</p>",
    ]
    for body in map(str.encode, pages):
        out = NAMED.rewrite(body, DENIED, nothing, document=None)

        assert harm(body) != []
        assert harm(out) == []
        assert NAMED.rewrite(body, GRANTED, nothing, document=None) == body


def test_an_international_host_is_known_in_letters_and_in_punycode() -> None:
    one = Gate([service("boeken", "marketing", "bücher.example")], configured={"boeken"}, categories={"marketing"})
    for host in ("bücher.example", "xn--bcher-kva.example", "B%C3%9CCHER.example.", "b&uuml;cher.example"):
        body = f"<img src='https://{host}/x'>".encode()

        assert b" src=" not in one.rewrite(body, DENIED, nothing, document=None)
        assert one.rewrite(body, GRANTED, nothing, document=None) == body


PAIR = b"<script async src='https://meter.example/m.js'></script>\n<script>meter('config', 'M-1')</script>"


@pytest.mark.checklist("GAT-06")
def test_an_external_script_and_the_call_that_configures_it_are_held_and_released_together() -> None:
    meter = service("meter", "analytics", "meter.example", calls=("meter(",))
    one = Gate([*SERVICES, meter], configured={"meter"}, categories={"analytics"})

    held = one.rewrite(PAIR, DENIED, nothing, document=None)

    assert held.count(b'<script type="text/plain" data-consentkit-needs="analytics"') == 2
    assert one.rewrite(PAIR, frozenset({"analytics"}), nothing, document=None) == PAIR
    alone = PAIR.partition(b"\n")[2]
    assert one.rewrite(alone, DENIED, nothing, document=None) == alone


HEADERS = {
    "Link": '<{}>; rel=preload; as=script',
    "link": '</a.png>; rel=preload; as=image; imagesrcset="{} 2x"',
    "Refresh": "0; url={}",
    "Report-To": '{"group": "a", "max_age": 9, "endpoints": [{"url": "{}"}]}',
    "Reporting-Endpoints": 'a="{}"',
    "Speculation-Rules": '"{}"',
    "Content-Security-Policy": "default-src 'self'; report-uri {}",
}  # fmt: skip


@pytest.mark.checklist("GAT-01", "GAT-06")
@pytest.mark.parametrize("name", HEADERS)
def test_a_header_that_leads_there_does_not_leave_without_consent(name: str) -> None:
    def headers(host: str) -> list[tuple[bytes, bytes]]:
        return [(name.encode(), HEADERS[name].replace("{}", f"https://{host}/x").encode()), (b"x", b"y")]

    held = filter_fetches(headers("bad.example"), NAMED, DENIED)

    assert b"bad.example" not in b"".join(value for _, value in held)
    assert held[-1] == (b"x", b"y")
    assert filter_fetches(headers("bad.example"), NAMED, GRANTED) == headers("bad.example")
    assert filter_fetches(headers("innocent.example"), NAMED, DENIED) == headers("innocent.example")
