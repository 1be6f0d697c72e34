"""Nasty pages, and the question that matters of what came out: would a browser load anything of the tracker?"""

# ruff: noqa: E501 - markup reads best in one line
from __future__ import annotations

import json
import random
import re
from collections.abc import Iterator
from contextlib import suppress
from functools import lru_cache
from unicodedata import normalize
from urllib.parse import unquote

import html5lib
import tinycss2
import turbohtml

TRACKER = "bad.example"
MARK = "badTracker("

URLS = [
    "https://bad.example/t.js",
    "//bad.example/x",
    "HTTPS://BAD.EXAMPLE./x",
    "\\\\bad.example/x",
    "/\\bad.example/x",
    "https:bad.example/x",
    "ht\ttps://bad.exa\nmple/x",
    "https&colon;//bad&period;example/x",
    "https&#58;&#x2f;/bad.example",
    "//u:p@bad.example:443/",
    "//%62ad.example/",
    "//ｂａｄ.example/",
    "  //bad.example",
    "//sub.bad.example",
    "//bad\u00ad.example/",
    "https:/bad.example",
    "//bad。example/",
    "&#x9;//bad.example",
]
SAFE = ["/a.png", "", "a/b.png", "#x", "data:image/png;base64,AA", "?bad.example", "/p/bad.example", "./bad.example/x"]
OPENERS = [
    "<svg>", "<svg/>", "<math>", "</svg>", "</math>", "<foreignObject>", "</foreignObject>", "<desc>", "</desc>",
    "<title>", "</title>", "<mi>", "</mi>", "<mtext>", "</mtext>", "<annotation-xml>", '<annotation-xml encoding="text/html">',
    "</annotation-xml>", "<template>", "</template>", "<select>", "</select>", "<option>", "<table>", "</table>", "<tr>",
    "<td>", "<col>", "<colgroup>", "<frameset>", "</frameset>", "<noscript>", "</noscript>", "<style>", "</style>",
    "<xmp>", "</xmp>", "<textarea>", "</textarea>", "<iframe>", "</iframe>", "<noembed>", "</noembed>", "<noframes>",
    "</noframes>", "<script>", "</script>", '<script type="text/plain">', "<script type=application/json>", "<!--",
    "-->", "<![CDATA[", "]]>", "<p>", "</p>", "<div>", "</div>", "<b>", "</b>", "<a>", "</a>", "<head>", "</head>", "<body>",
    "</body>", "</html>", "<html>", "<!doctype html>", "<br>", "</br>", "<g>", "</g>", "<font>", "<font color=a>",
    "<form>", "</form>", "<li>", "<h1>", "</h1>", "<button>", "<mglyph>", "<plaintext>", "<input>", "<textarea/>", "<script/>",
    "<style/>", "<title/>", "<object>", "</object>", "<nobr>", "<p title='", "' >", '<p title="', '" >', "<", ">", "x", " ", "\n", "\0", "&amp;", "<!",
    "<svg><style>", "<svg><title>", "<svg><script>", "<math><mi>", "<select><xmp>", "<template><col>", "<svg><![CDATA[", "<caption>", "<tbody>", "<hr>", "<keygen>",
    "<base href=//bad.example/>", "<base href=/x/>", "<image>", "<optgroup>", "<rp>", "<dd>", "<marquee>", "<applet>", "<frame>",
]  # fmt: skip
BEARERS = [
    "<script src={}></script>", "<script src={}>", "<script type=module src={}></script>", "<SCRIPT/SRC={}></SCRIPT>", "<img src={}>", "<image src={}>",
    "<img srcset={}>", "<source srcset={}>", "<source src={}>", "<iframe src={}></iframe>", "<iframe src={}>", "<iframe srcdoc='<img src={}>'></iframe>",
    "<link rel=stylesheet href={}>", "<link rel=preconnect href={}>", "<object data={}>", "<embed src={}>", "<video poster={}>",
    "<video src={}>", "<audio src={}>", "<track src={}>", "<input type=image src={}>", "<body background={}>", "<td background={}>",
    "<a ping={}>x</a>", "<meta http-equiv=refresh content='0;url={}'>", "<svg><image href={} /></svg>", "<image href={} />", "<use xlink:href={} />", "<svg><use href={}>", "<svg><script href={}></script></svg>",
    "<script href={} />", "<svg><image xlink:href={} /></svg>", "<noscript><img src={}></noscript>", "<template><img src={}></template>", "<img src=/ok src={}>", "<img src={} src=/ok>",
    "<p a='>'><img alt='<' src={}>", "<link rel=preload as=image imagesrcset={}>", "<frame src={}>", "<feImage href={} />",
]  # fmt: skip
# The same where a URL stands within something else: it is filled in as it is, without quotes.
CARRIERS = [
    "<p style='background:url({})'>", "<div style=\"background:url('{}')\">x</div>", "<b style=\"a:image-set('{}' 1x)\">", "<p STYLE=background:url({})>",
    "<p style='--x:&quot;{}&quot;'>", "<body style='a:url( {} )'>", "<style>p{{background:url({})}}</style>", "<style>@import '{}';</style>", '<style>@import "{}"', "<style>@import url('{}')print;</style>",
    "<style media=print>p{{a:image-set('{}' 1x)}}</style>", "<style type=text/css>@font-face{{src:url({})}}</style>", "<svg><style>p{{a:url({})}}</style></svg>", "<svg><style>@import '{}';</style>",
    "<svg><style><![CDATA[p{{a:url({})}}]]></style></svg>", "<svg><rect fill=\"url({})\" /></svg>", "<svg><g mask='url({}#m)'></g></svg>", "<svg><path style='filter:url({})' /></svg>", "<svg clip-path='url(\"{}\")'>",
    "<svg><use href=#a><animate attributeName=href values='#b;{}' /></use></svg>", "<svg><image><set attributeName=xlink:href to='{}' /></image></svg>",
    '<script type=importmap>{{"imports":{{"a":"{}"}}}}</script>', '<script type="importmap">{{"scopes":{{"/b/":{{"a":"{}"}}}}}}</script>', '<script type=speculationrules>{{"prefetch":[{{"source":"list","urls":["/x","{}"]}}]}}</script>',
    "<template shadowrootmode=open><style>@import '{0}'</style><img src='{0}'></template>", "<div><template shadowrootmode=closed><p style=\"a:url('{}')\"></template></div>", "<template><style>@import '{}'</style></template>",
    "<iframe srcdoc='<style>p{{a:url({})}}</style>'></iframe>", '<iframe srcdoc="<p style=\'a:url({})\'>">', '<iframe srcdoc="&lt;iframe srcdoc=&quot;&amp;lt;img src={}>&quot;>">', "<iframe srcdoc='<script type=importmap>{{\"imports\":{{\"a\":\"{}\"}}}}</script>'>",
    "<noscript><style>@import '{}'</style></noscript>", "<noscript><p style=\"a:url('{}')\"></noscript>", "<img srcset='/a 1x, {} 2x'>", "<img srcset='/a 1x,{}'>", "<source srcset='{} 2x'>", "<link rel=preload as=image imagesrcset='/a 1x,{} 2x'>", "<img src=/a.png onerror=\"new Image().src='{}'\">", "<body onload=\"fetch('{}')\">", "<svg onload=\"fetch('{}')\">", "<b onclick=x() style=animation:a onanimationstart='fetch(&quot;{}&quot;)'>", "<a href=/x ping='/own {}'>", "<area ping='{} /own'>",
    "<link rel='alternate stylesheet' href='{}'>", "<meta http-equiv=Refresh content='5,{}'>", "<meta content='0;URL=\"{}\"' http-equiv=refresh>", "<table background='{}'>", "<tr background='{}'>", "<object data='{}' type=image/svg+xml>", "<a style='list-style:u\\72l({})'>", "<style>@\\69mport '{}'</style>",
]  # fmt: skip
IN_STYLE = [
    "\\68ttps://bad.example/x",
    "\\2f\\2f bad.example",
    "//b\\61 d.example/x",
    "/\t/bad.example/x",
    "//bad.exam\\\nple/x",
    "/*",
    "x') url(//bad.example",
]
SCRIPTS = [
    f"<script>{MARK}1)</script>",
    f"<script>var s='//{TRACKER}/x'</script>",
    f"<svg><script>{MARK}1)</script></svg>",
    f"<script type=module>{MARK}1)",
    f"<svg><script><![CDATA[{MARK}1)]]></script>",
    "<script>a<b>c</script>",
    "<script><!--<script></script>",
    "--></script>",
]


def page(pick: random.Random) -> str:
    parts = []
    for _ in range(pick.randint(1, 14)):
        kind = pick.random()
        if kind < 0.5:
            parts.append(pick.choice(OPENERS))
        elif kind < 0.75:
            url = pick.choice(pick.choice([URLS, URLS, IN_STYLE, SAFE]))
            parts.append(pick.choice(CARRIERS).format(url))
        elif kind < 0.9:
            url = pick.choice(URLS if pick.random() < 0.85 else SAFE)
            quote = pick.choice(['"', '"', "'", ""])
            if quote == "'" and "='" in (bearer := pick.choice(BEARERS)):
                quote = ""
            else:
                bearer = pick.choice(BEARERS)
            parts.append(bearer.format(quote + url + quote))
        else:
            parts.append(pick.choice(SCRIPTS))
    text = "".join(parts)
    for _ in range(pick.choice([0, 0, 0, 1, 2])):
        at = pick.randrange(len(text) + 1)
        text = (
            text[:at]
            + pick.choice(["", "<", ">", '"', "'", "/", "=", "-", "!", " "])
            + text[at + pick.choice([0, 1]) :]
        )
    return text


Element = tuple[str, str, dict[str, str], str]
"""Name, namespace ("html", "svg" or "math"), attributes, and a script's text."""


def _turbo(page: str, *, scripting: bool) -> Iterator[Element]:
    todo: list[turbohtml.Node] = [turbohtml.parse(page, scripting=scripting)]
    while todo:
        node = todo.pop()
        todo += list(node.children)
        if isinstance(node, turbohtml.Element):
            attrs = {
                key.lower(): " ".join(value) if isinstance(value, list) else value or ""
                for key, value in node.attrs.items()
            }
            yield (
                node.tag.lower(),
                node.namespace.value,
                attrs,
                "".join(child.data for child in node.children if isinstance(child, turbohtml.Text | turbohtml.CData)),
            )
            if node.shadow_root is not None:
                todo.append(node.shadow_root)


_SPACES = {"http://www.w3.org/2000/svg": "svg", "http://www.w3.org/1998/Math/MathML": "math"}


def _html5lib(page: str, *, scripting: bool) -> Iterator[Element]:
    root = html5lib.HTMLParser(html5lib.getTreeBuilder("etree")).parse(page, scripting=scripting)
    for node in root.iter():
        if isinstance(node.tag, str):
            space, _, name = node.tag.rpartition("}")
            attrs = {
                key.replace("{http://www.w3.org/1999/xlink}", "xlink:").lower(): value
                for key, value in node.attrib.items()
            }
            yield (
                name.lower(),
                _SPACES.get(space[1:], "html"),
                attrs,
                (node.text or "") + "".join(child.tail or "" for child in node),
            )


def readings(page: str) -> Iterator[tuple[str, list[Element]]]:
    """The page as two parsers build it, each with and without scripting."""
    for scripting in (True, False):
        yield f"turbohtml, scripting {scripting}", list(_turbo(page, scripting=scripting))
        with suppress(AssertionError):  # html5lib fails an assertion of its own on some tables at the end of input
            yield f"html5lib, scripting {scripting}", list(_html5lib(page, scripting=scripting))


def _refresh(content: str) -> str:
    found = re.match(r"\s*[0-9.]+\s*[;,]?\s*(?:[uU][rR][lL]\s*=\s*)?(.*)", content, re.DOTALL)
    url = found[1] if found else ""
    return url[1:].partition(url[0])[0] if url[:1] in ("'", '"') else url


_CANDIDATE = re.compile(r"[ \t\n\f\r,]*([^ \t\n\f\r]+)(?:(?<!,)(?:\([^)]*\)?|[^,(])*)?")


def _set(srcset: str) -> list[str]:
    return [found.rstrip(",") for found in _CANDIDATE.findall(srcset) if found.strip(",")]


_FUNCTIONS = frozenset(("url", "src", "image-set", "-webkit-image-set", "image", "cross-fade", "-webkit-cross-fade"))


@lru_cache(maxsize=256)
def _css(text: str) -> list[str]:
    """The URLs in a style sheet as tinycss2's tokenizer finds them; a string counts wherever one could be a URL."""
    return list(_urls_of(tinycss2.parse_component_value_list(text)))


def _urls_of(tokens: list[tinycss2.ast.Node], *, within: bool = False) -> Iterator[str]:
    before, later = "", False
    for token in tokens:
        if token.type == "url":
            if before != "@namespace":
                yield token.value
        elif token.type == "string":
            if within or later or before == "@import":
                yield token.value
        elif token.type == "function":
            if before != "@namespace":
                yield from _urls_of(token.arguments, within=within or later or token.lower_name in _FUNCTIONS)
        elif token.type.endswith(" block"):
            yield from _urls_of(token.content, within=within or later)
        elif token.type == "literal":
            later = (later or before.startswith("--")) if token.value == ":" else later and token.value != ";"
        if token.type not in ("whitespace", "comment"):
            before = "@" * (token.type == "at-keyword") + getattr(token, "lower_value", "")


def _strings(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for one in value.values() if isinstance(value, dict) else value:
            yield from _strings(one)


def _rules(text: str) -> list[str]:
    with suppress(ValueError):
        return list(_strings(json.loads(text)))
    return []


def _relative(url: str) -> bool:
    plain = re.sub(r"[\t\n\r]", "", url.strip("".join(map(chr, range(33))))).replace("\\", "/")
    return plain[:1] not in ("", "#") and not re.match(r"[A-Za-z][A-Za-z0-9+.-]*:|//", plain)


def _goes_there(url: str) -> bool:
    plain = re.sub(r"[\t\n\r\xad]", "", url.strip("".join(map(chr, range(33)))))
    plain = normalize("NFKC", unquote(plain)).lower().replace("。", ".").replace("\\", "/").strip()
    found = re.match(r"(?:https?:)?/*([^/?#]*)", plain)
    absolute = bool(re.match(r"https?:|//", plain))
    host = found[1].rpartition("@")[2] if found and absolute else ""
    host = re.sub(r":\d*$", "", host).rstrip(".")
    return host == TRACKER or host.endswith("." + TRACKER)


_WITH_SRC = frozenset(("img", "iframe", "frame", "embed", "source", "input", "video", "audio", "track"))
_WITH_BACKGROUND = frozenset(("body", "table", "thead", "tbody", "tfoot", "tr", "td", "th"))
_DRAWN_WITH = ("fill", "stroke", "filter", "mask", "clip-path", "marker-start", "marker-mid", "marker-end", "cursor")
_HREFS = ("href", "xlink:href")
_BY_THEMSELVES = frozenset(("onload", "onerror", "onanimationstart", "onpageshow", "ontoggle", "onbegin"))


def _loads(tag: str, space: str, attrs: dict[str, str], text: str) -> tuple[list[str], list[str]]:
    """What an element fetches relative to `<base>`, and what its styles do."""
    urls: list[str] = []
    if tag == "script":
        kind = attrs.get("type", "")
        if kind in ("importmap", "speculationrules"):
            urls = _rules(text)
        elif kind in ("", "module", "text/javascript"):
            urls = [attrs[key] for key in (("src",) if space == "html" else _HREFS) if key in attrs]
    elif tag == "link":
        if attrs.get("rel") and attrs["rel"].strip().lower() != "alternate":
            urls = [attrs.get("href", ""), *_set(attrs.get("imagesrcset", ""))]
    elif tag == "meta":
        if attrs.get("http-equiv", "").lower() == "refresh":
            urls = [_refresh(attrs.get("content", ""))]
    elif space == "svg" and tag in ("image", "use", "feimage"):
        urls = [attrs.get(key, "") for key in _HREFS]
    elif space == "svg" and tag in ("animate", "set"):
        if attrs.get("attributename", "").lower() in _HREFS:
            urls = [url.strip() for key in ("from", "to", "by", "values") for url in attrs.get(key, "").split(";")]
    elif tag == "object":
        urls = [attrs.get("data", "")]
    if tag in _WITH_SRC and space == "html":
        urls += [] if tag == "iframe" and "srcdoc" in attrs else [attrs.get("src", "")]
        urls += [attrs.get("poster", ""), *_set(attrs.get("srcset", ""))]
    elif tag in ("a", "area"):
        urls += attrs.get("ping", "").split()
    elif tag in _WITH_BACKGROUND:
        urls += [attrs.get("background", "")]
    styles = list(_css(attrs.get("style", "")))
    if tag == "style" and attrs.get("type", "").lower() in ("", "text/css"):
        styles += _css(text)
    for key in _DRAWN_WITH if space == "svg" else ():
        styles += _css(attrs.get(key, ""))
    return urls, styles


@lru_cache(maxsize=256)
def _inside(srcdoc: str) -> list[str]:
    return [one for _, elements in readings(srcdoc) for one in live(elements)]


# Not within another URL, and not the beginning of a longer host.
_IN_CODE = re.compile(
    rf"""(?:(?<![\w.~:@?&=+/\0-\x08-])|(?<=["'`\s(]https:)|(?<=["'`\s(]http:))//{re.escape(TRACKER)}(?![\w=@:&+~-]|\.\w)"""
)


def live(elements: list[Element]) -> list[str]:
    """What in this tree would make a browser contact the tracker, or run its code."""
    found = []
    based = next(
        (attrs["href"] for tag, space, attrs, _ in elements if tag == "base" and space == "html" and "href" in attrs),
        "",
    )
    astray = _goes_there(based)
    for tag, space, attrs, text in elements:
        urls, styles = _loads(tag, space, attrs, text)
        if tag == "script" and attrs.get("type", "") in ("", "module", "text/javascript") and not urls:
            if MARK in text or _IN_CODE.search(text):
                found.append(f"script text {text[:60]!r}")
        elif tag == "iframe" and "srcdoc" in attrs:
            found += [f"in srcdoc: {one}" for one in _inside(attrs["srcdoc"])]
        found += [f"{tag} {key}" for key in attrs if key in _BY_THEMSELVES and _IN_CODE.search(attrs[key])]
        found += [f"{tag} {url}" for url in (*urls, *styles) if _goes_there(url) or (astray and _relative(url))]
    return found
