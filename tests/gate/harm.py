"""Nasty pages, and the question that matters of what came out: would a browser load anything of the tracker?"""

# ruff: noqa: E501 - markup reads best in one line
from __future__ import annotations

import random
import re
from collections.abc import Iterator
from contextlib import suppress
from unicodedata import normalize
from urllib.parse import unquote

import html5lib
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
        if kind < 0.6:
            parts.append(pick.choice(OPENERS))
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


def _set(srcset: str) -> list[str]:
    return [part.split()[0] for part in srcset.split(",") if part.split()]


def _goes_there(url: str) -> bool:
    plain = re.sub(r"[\t\n\r\xad]", "", url.strip("".join(map(chr, range(33)))))
    plain = normalize("NFKC", unquote(plain)).lower().replace("。", ".").replace("\\", "/").strip()
    found = re.match(r"(?:https?:)?/*([^/?#]*)", plain)
    absolute = bool(re.match(r"https?:|//", plain))
    host = found[1].rpartition("@")[2] if found and absolute else ""
    host = re.sub(r":\d*$", "", host).rstrip(".")
    return host == TRACKER or host.endswith("." + TRACKER)


_WITH_SRC = frozenset(("img", "iframe", "frame", "embed", "source", "input", "video", "audio", "track"))


def live(elements: list[Element]) -> list[str]:
    """What in this tree would make a browser contact the tracker, or run its code."""
    found = []
    for tag, space, attrs, text in elements:
        urls = []
        if tag == "script":
            if attrs.get("type", "") not in ("", "module", "text/javascript"):
                continue
            urls = [attrs[key] for key in (("src",) if space == "html" else ("href", "xlink:href")) if key in attrs]
            if not urls and (MARK in text or re.search(rf"//{re.escape(TRACKER)}(?![\w=@:-])", text)):
                found.append(f"script text {text[:60]!r}")
        elif tag == "link":
            if attrs.get("rel"):
                urls = [attrs.get("href", ""), *_set(attrs.get("imagesrcset", ""))]
        elif tag == "meta":
            if attrs.get("http-equiv", "").lower() == "refresh":
                urls = [_refresh(attrs.get("content", ""))]
        elif space == "svg" and tag in ("image", "use", "feimage"):
            urls = [attrs.get("href", ""), attrs.get("xlink:href", "")]
        elif tag == "object":
            urls = [attrs.get("data", "")]
        elif tag == "iframe" and "srcdoc" in attrs:
            inner = [one for _, elements in readings(attrs["srcdoc"]) for one in live(elements)]
            found += [f"in srcdoc: {one}" for one in inner]
        if tag in _WITH_SRC and space == "html":
            urls += [] if tag == "iframe" and "srcdoc" in attrs else [attrs.get("src", "")]
            urls += [attrs.get("poster", ""), *_set(attrs.get("srcset", ""))]
        elif tag in ("a", "area"):
            urls += attrs.get("ping", "").split()
        elif tag in ("body", "table", "td", "th"):
            urls += [attrs.get("background", "")]
        found += [f"{tag} {url}" for url in urls if _goes_there(url)]
    return found
