"""What loads: which attributes of which elements make a browser fetch, and what overrules them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal, NamedTuple

from consentkit.gate.scanner import words
from consentkit.gate.urls import Target, candidates, refresh_url
from consentkit.service import Service

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
    double quotes: what goes there is a whole document, escaped for an attribute; `hold` tells of which frame.
    """

    kind: Literal["head", "banner", "footer", "frame"]
    lang: str | None
    based: bool
    gated: bool
    own_settings: bool = False
    hold: Hold | None = None


class Seen(NamedTuple):
    """Something on a page that belongs to a known service, or to a third party that isn't known (`service_id` None)."""

    tag: str
    host: str
    service_id: str | None
    line: int
    gated: bool


Sight = tuple[str, str, str | None]


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
    """An inline script that would run: its text decides too."""
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
    " text/javascript1.5 text/jscript text/livescript text/x-ecmascript text/x-javascript module"
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
    "iframe": frozenset({"src", "srcdoc", "sandbox"}),
    "link": frozenset({"rel", "href", "imagesrcset"}),
    "meta": frozenset({"http-equiv", "content"}),
    "object": frozenset({"data", "codebase", "classid", "archive"}),
    "a": frozenset({"ping"}),
    "area": frozenset({"ping"}),
}
_MOVED_ELSEWHERE = frozenset({"src", "srcset", "poster", "background", "ping"})
HREFS = frozenset({"href", "xlink:href"})

_NEUTRAL = {
    "script": b" type=text/plain src href xlink:href",
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
    return b" data-consentkit-needs=-" + _NEUTRAL.get(name, _NEUTRAL_ELSEWHERE)


def moved(name: str, context: Context) -> frozenset[str]:
    moved = _MOVED.get(name, frozenset()) | _MOVED_ELSEWHERE
    if context.foreign and name in HREF_LOADS:
        return moved | HREFS
    return moved


def runs(first: Mapping[str, str]) -> bool:
    """Whether a script of these attributes is code: data islands (JSON, import maps, templates) are not."""
    kind = first.get("type")
    if kind is None or kind == "":
        return True
    return kind.strip("\t\n\f\r ").partition(";")[0].rstrip().lower() in _JAVASCRIPT


def link_fetches(rels: str) -> bool:
    """Whether a link with these `rel` words makes the browser fetch or connect, rather than only point."""
    words = rels.lower().split()
    return "stylesheet" in words or not _LINKS_THAT_ONLY_POINT.issuperset(words)


def urls(name: str, first: Mapping[str, str], *, foreign: bool) -> list[str]:
    """The URLs that a browser fetches for an element with these attributes."""
    found: list[str] = []
    if name == "link":
        if link_fetches(first.get("rel", "")):
            found = [first.get("href", ""), *candidates(first.get("imagesrcset", ""))]
    elif name == "meta":
        if first.get("http-equiv", "").strip().lower() == "refresh":
            found = [refresh_url(first.get("content", "")) or ""]
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
