"""What loads: which attributes of which elements make a browser fetch, and what overrules them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal, NamedTuple

from consentkit.gate import css
from consentkit.gate.scanner import words
from consentkit.gate.urls import Target, candidates, refresh_url, unescape_text
from consentkit.service import Service

OFF: Final = " (off)"
"""Ends the name of a consent tool whose marks are not read here, where it parked something."""

UNANSWERABLE: Final = "-"
"""Stands among the needs of what nobody can consent to: unknown words, services the site does not name."""

Needs = frozenset[str]
"""Purpose ids that must all be granted."""


@dataclass(frozen=True, slots=True)
class Hold:
    """A frame that is held back, for whoever draws what stands in its place: from whom it is, and what it needs."""

    service: Service | None
    needs: Needs


class Slot(NamedTuple):
    """A place where the page gets something of ours.

    `lang` is the page's `<html lang>`, lower-cased, as far as seen. `based`: a `<base href>` came before, so relative
    URLs would go elsewhere. `gated`: something was held back so far; only final in "footer". `own_settings`: the page
    had an element with `data-consentkit="settings"` before. "frame" is the value of a held back frame's `srcdoc`, in
    double quotes: what goes there is a whole document, escaped for an attribute; `hold` tells of which frame. "early"
    is right before the page's first script that runs. "place" stands before an element in which a held back script of
    `hold.service` would show something. `policies` are the Content-Security-Policies of `<meta>` elements before.
    """

    kind: Literal["head", "early", "banner", "footer", "frame", "place"]
    lang: str | None
    based: bool
    gated: bool
    own_settings: bool = False
    hold: Hold | None = None
    policies: tuple[str, ...] = ()


class Seen(NamedTuple):
    """Something on a page that belongs to a known service, or to a third party that isn't known (`service_id` None).

    `parked` tells why nothing will ever release it: the name of a consent tool whose marks are switched off, with
    `OFF`, or "unknown" for a mark whose words mean nothing here.
    """

    tag: str
    host: str
    service_id: str | None
    line: int
    gated: bool
    parked: str = ""


class Sight(NamedTuple):
    """The same of a tag by itself: without where it stands and for whom."""

    tag: str
    host: str
    service_id: str | None
    parked: str = ""


@dataclass(frozen=True, slots=True)
class Tag:
    """Everything the rewriter wants to know of a start tag; the same for all visitors."""

    name: str
    self_closing: bool
    attributes: frozenset[str]
    needs: Needs | None = None
    held: tuple[bytes | Hold, ...] = ()
    sights: tuple[Sight, ...] = ()
    code: bool = False
    """An inline script that would run, or a map or rules for scripts: its text decides too."""
    css: bool = False
    """A style sheet in the page: its text decides too."""
    runs: bool = False
    """A script that is code."""
    acts: bool = False
    """Code of the page runs by it: a script, a handler that runs by itself, a `javascript:` URL."""
    moved: frozenset[str] = frozenset()
    """Attributes by which it loads besides those that always do: its style, handlers."""
    opened: bytes | None = None
    """The tag as it leaves with consent, where that is not as it came."""
    place: Service | None = None
    """The service that shows something in this element by a script."""
    policy: str | None = None
    """The Content-Security-Policy that a `<meta>` sets."""
    marked: bool = False
    """It carries the mark of another consent tool."""
    rare: bool = False
    """Any of settings, place, policy, marked."""
    words: tuple[str, ...] = ()
    services: tuple[Service, ...] = ()
    extra: Needs = frozenset()
    settings: bool = False
    base: str | None = None
    lang: str | None = None
    plain: bool = False
    """Nothing to do: neither gate it nor change how the following is read."""


class Context(NamedTuple):
    """What the reading of a tag depends on besides its own bytes."""

    foreign: bool = False
    bases: tuple[Target, ...] = ()
    depth: int = 0
    """How many `srcdoc` this is inside of."""


_JAVASCRIPT = words(
    "application/ecmascript application/javascript application/x-ecmascript application/x-javascript text/ecmascript"
    " text/javascript text/javascript1.0 text/javascript1.1 text/javascript1.2 text/javascript1.3 text/javascript1.4"
    " text/javascript1.5 text/jscript text/livescript text/x-ecmascript text/x-javascript module text/partytown"
)
_LINKS_THAT_ONLY_POINT = words(
    "alternate amphtml author bookmark canonical edituri external help license me next nofollow noopener noreferrer"
    " opener pingback prev privacy-policy profile search self shortlink tag terms-of-service up webmention wlwmanifest"
    " https://api.w.org/"
)
HREF_LOADS = words(
    "image use feimage script cursor tref pattern filter lineargradient radialgradient textpath mpath video audio"
    " source link"
)
_MOVED = {
    "script": frozenset({"src", "type", "href", "xlink:href"}),
    "style": frozenset({"type"}),
    "iframe": frozenset({"src", "srcdoc", "sandbox"}),
    "link": frozenset({"rel", "href", "imagesrcset"}),
    "meta": frozenset({"http-equiv", "content"}),
    "object": frozenset({"data", "codebase", "classid", "archive"}),
    "base": frozenset({"href"}),
    "a": frozenset({"ping"}),
    "area": frozenset({"ping"}),
}
_MOVED_ELSEWHERE = frozenset({"src", "srcset", "poster", "background", "ping"})
HREFS = frozenset({"href", "xlink:href"})
_DRAWN_WITH = words("clip-path cursor fill filter marker-end marker-mid marker-start mask stroke")
_ANIMATED = frozenset({"from", "to", "by", "values"})
_ANIMATIONS = frozenset({"animate", "set"})
_RULES = frozenset({"importmap", "speculationrules", "webbundle"})
_IMPORTED = re.compile(r"""\b(?:import|from)\s*\(?\s*["'`]([^"'`\s]+)""")
_MARKUP = re.compile(r"<!--.*?(?:-->|\Z)|<!\[CDATA\[|\]\]>|<[!?/a-zA-Z][^>]*>?", re.DOTALL)
_LEAVES = re.compile(r"/\t*/|\\|h\t*t\t*t\t*p\t*(?:s\t*)?:", re.IGNORECASE)  # URLs may hold tabs
_BY_ITSELF = re.compile(
    r"on(?:load|error|pageshow|toggle|begin|canplay|play|ended|timeupdate|progress|suspend|stalled|waiting|durationchange|animation|transition|focus|resize|scroll)"
)
"""Handlers that run without the visitor doing anything."""

_NEUTRAL = {
    "script": b" type=text/plain src href xlink:href",
    "style": b" type=text/plain",
    "iframe": b" src srcdoc",
    "link": b" rel href imagesrcset",
    "meta": b" http-equiv",
    "object": b" data codebase classid archive",
    "base": b" href",
    "a": b" ping",
    "area": b" ping",
    "image": b" src srcset href xlink:href",
    "use": b" href xlink:href",
    "feimage": b" href xlink:href",
}
_NEUTRAL_ELSEWHERE = b" src srcset poster background ping"


def neutral(name: str) -> bytes:
    """Valueless attributes that, put first, win from whatever follows. They hold no quote: they can't break out."""
    return b" data-consentkit-needs=- style" + _NEUTRAL.get(name, _NEUTRAL_ELSEWHERE)


def moved(name: str, context: Context) -> frozenset[str]:
    """The attributes by which such an element loads, apart from its style."""
    moved = _MOVED.get(name, frozenset()) | _MOVED_ELSEWHERE
    if context.foreign and name in HREF_LOADS:
        return moved | HREFS
    return moved


def _kind(first: Mapping[str, str]) -> str:
    return first.get("type", "").strip("\t\n\f\r ").partition(";")[0].rstrip().lower()


def runs(first: Mapping[str, str]) -> bool:
    """Whether a script of these attributes is code: data islands (JSON, import maps, templates) are not."""
    return first.get("type") in (None, "") or _kind(first) in _JAVASCRIPT


def rules(first: Mapping[str, str]) -> bool:
    """Whether a script of these attributes tells the browser where to load from: an import map, speculation rules."""
    return _kind(first) in _RULES


def sets_policy(first: Mapping[str, str]) -> bool:
    """Whether a `<meta>` of these attributes sets a Content-Security-Policy."""
    return first.get("http-equiv", "").strip().lower() == "content-security-policy"


def applies(first: Mapping[str, str]) -> bool:
    """Whether a style element of these attributes is CSS."""
    return _kind(first) in ("", "text/css")


def _markup(text: str) -> str:
    return unescape_text(_MARKUP.sub("", text))


def readings(text: bytes, *, foreign: bool) -> tuple[bytes, ...]:
    """The text of a script or style as it may be understood: within SVG markup in it vanishes, references count."""
    if not foreign or (b"<" not in text and b"&" not in text):
        return (text,)
    return (text, _markup(text.decode("utf-8", "replace")).encode())


def leaves(css: str, context: Context) -> bool:
    """Whether CSS could load from elsewhere at all; cheap, and never wrongly no."""
    return bool(context.bases) or _LEAVES.search(css) is not None


def style_urls(name: str, first: Mapping[str, str], context: Context) -> dict[str, list[str]]:
    """The URLs that an element's own style, or the way in which it is drawn, loads; by attribute."""
    found = {}
    for key in ("style", *(_DRAWN_WITH if context.foreign or name == "svg" else ())):
        if key in first and leaves(first[key], context) and (urls := css.urls(first[key])):
            found[key] = urls
    if context.foreign and name in _ANIMATIONS:
        for key in _ANIMATED:
            if key in first and leaves(first[key], context):
                found[key] = [url.strip() for url in first[key].split(";")]
    return found


def link_fetches(rels: str) -> bool:
    """Whether a link with these `rel` words makes the browser fetch or connect, rather than only point."""
    words = rels.lower().split()
    return "stylesheet" in words or not _LINKS_THAT_ONLY_POINT.issuperset(words)


def handlers(first: Mapping[str, str]) -> dict[str, str]:
    """The event handlers that run by themselves and could ask for something elsewhere."""
    return {key: code for key, code in first.items() if key[:2] == "on" and "/" in code and _BY_ITSELF.match(key)}


def acts(first: Mapping[str, str]) -> bool:
    """Whether this element's own document is code: a `javascript:` URL."""
    return any(first[key].lstrip()[:11].lower() == "javascript:" for key in ("src", "data") if key in first)


def imported(code: str) -> list[str]:
    """The URLs that a script imports by name."""
    return _IMPORTED.findall(code) if "import" in code else []


def stays(rules: object) -> bool:
    """Whether speculation rules fetch nothing but what they list, and links to the site itself (`"/*"`).

    Rules for all links of a page would fetch from wherever these lead.
    """
    if not isinstance(rules, Mapping):
        return True
    every = (rule for kind in ("prefetch", "prerender") for rule in _rows(rules.get(kind)))
    return all(_at_home(rule.get("where")) for rule in every if "where" in rule or rule.get("source") == "document")


def _rows(value: object) -> list[Mapping[str, object]]:
    return [row for row in value if isinstance(row, Mapping)] if isinstance(value, list) else []


def _at_home(where: object) -> bool:
    if not isinstance(where, Mapping):
        return False
    if "and" in where:
        return any(map(_at_home, _rows(where["and"])))
    if "or" in where:
        return all(map(_at_home, _rows(where["or"])))
    said = where.get("href_matches")
    paths = said if isinstance(said, list) else [said]
    return bool(paths) and all(isinstance(path, str) and re.match(r"/(?![/\\])", path) for path in paths)


def urls(name: str, first: Mapping[str, str], *, foreign: bool) -> list[str]:
    """The URLs that a browser fetches for an element with these attributes."""
    found: list[str] = []
    if name == "link":
        if link_fetches(first.get("rel", "")):
            found = [first.get("href", ""), *candidates(first.get("imagesrcset", ""))]
    elif name == "meta":
        if first.get("http-equiv", "").strip().lower() == "refresh":
            found = [refresh_url(first.get("content", "")) or ""]
    elif name == "base":
        found = [first.get("href", "")]
    elif name == "object":
        found = [first.get("data", ""), first.get("codebase", ""), first.get("classid", "")]
    for key in ("src", "poster", "background"):
        if key in first:
            found.append(first[key])
    if "srcset" in first:
        found += candidates(first["srcset"])
    if "ping" in first:
        found += first["ping"].split()
    if foreign and name in HREF_LOADS:
        found += [first[key] for key in ("href", "xlink:href") if key in first]
    return [url for url in found if url]
