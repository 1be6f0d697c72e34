"""A message read back from its bytes, as a reader gets to see it: headers, plain text, HTML, links and images."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from email import message_from_bytes
from email.errors import HeaderParseError
from email.header import decode_header, make_header
from email.message import Message
from functools import cached_property
from html import unescape
from html.parser import HTMLParser
from typing import Final
from urllib.parse import SplitResult, urlsplit

from consentkit.mailing.preflight import finding
from consentkit.mailing.preflight.finding import Place

_LINE_END = re.compile(rb"\r\n|\r|\n")
_URL = re.compile(r"(?:https?:|mailto:|tel:)[^\s\"'<>]+", re.IGNORECASE)
_TRAILING = ".,;:!?)]}"
_VOID = frozenset(
    ("area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta", "source", "track", "wbr")
)
_UNREAD = frozenset(("script", "style", "title", "template"))
_CLOSES_ITSELF = frozenset(("p", "li", "td", "th", "tr", "option", "dt", "dd"))
_CELLS = frozenset(("td", "th"))
_INLINE = frozenset((
    *("a", "abbr", "b", "bdi", "bdo", "code", "em", "font", "i", "kbd", "mark", "s", "small", "span", "strike"),
    *("strong", "sub", "sup", "time", "tt", "u"),
))  # fmt: skip
_LENGTH = re.compile(r"\s*(-?[\d.]+)\s*(px|pt|em|rem|%|)\s*\Z")
_SMALLEST: Final[Mapping[str, float]] = {"px": 4, "pt": 3, "em": 0.3, "rem": 0.3, "%": 30, "": 0}


@dataclass(frozen=True, slots=True)
class Header:
    """A header: its name as it is written, and its value on one or more `lines`."""

    name: str
    lines: tuple[str, ...]

    @property
    def value(self) -> str:
        """The value on one line, still encoded."""
        return " ".join(line.strip() for line in self.lines).strip()

    @property
    def words(self) -> str:
        """The value as it is shown."""
        try:
            return str(make_header(decode_header(self.value)))
        except (HeaderParseError, LookupError, UnicodeError):
            return self.value


@dataclass(frozen=True, slots=True)
class Link:
    """An `<a href>`: `words` are what one sees of it (an image's alt text too); `shown` unless it is hidden."""

    line: int
    href: str
    words: str
    shown: bool = True


@dataclass(frozen=True, slots=True)
class Image:
    """An `<img>`: `alt` is None where it has none; `size` in pixels where it is told; `shown` unless it is hidden."""

    line: int
    src: str
    alt: str | None
    size: tuple[float | None, float | None]
    shown: bool


@dataclass(frozen=True, slots=True)
class Page:
    """The HTML part.

    Args:
        shown: the lines that one reads, with the number of the source line they begin on.
        ids: what a link within the message can lead to. marked: lines of elements that say that they promote.
    """

    shown: Sequence[tuple[int, str]]
    links: Sequence[Link]
    images: Sequence[Image]
    ids: frozenset[str]
    marked: Sequence[int]

    @classmethod
    def read(cls, html: str) -> Page:
        """What shows of a document."""
        reader = _Reader()
        reader.feed(html)
        reader.close()
        return reader.page()


class Emitted:
    """A message as it was written. Every part that is missing is None; `whole` says whether it could be read at all.

    Args:
        payload: the bytes that go over the wire.
    """

    def __init__(self, payload: bytes) -> None:
        self.payload = payload
        self.headers = tuple(_headers(payload))
        self.cids: frozenset[str] = frozenset()
        self.text: str | None = None
        self.html: str | None = None
        self.whole = True
        self._read_parts(message_from_bytes(payload))

    def all(self, name: str) -> list[Header]:
        """Every header of that name, in small letters."""
        return [header for header in self.headers if header.name.lower() == name]

    def value(self, name: str) -> str:
        """The value of the first header of that name; empty where there is none."""
        return next((header.value for header in self.all(name)), "")

    @cached_property
    def page(self) -> Page | None:
        """What shows of the HTML."""
        return None if self.html is None else Page.read(self.html)

    @cached_property
    def lines(self) -> Sequence[tuple[int, str]]:
        """The lines of the plain text, numbered."""
        return tuple(enumerate((self.text or "").splitlines(), 1))

    @cached_property
    def text_urls(self) -> Sequence[tuple[Place, str]]:
        """Every address in the plain text."""
        return tuple((finding.text(number), url) for number, line in self.lines for url in _urls(line))

    @cached_property
    def urls(self) -> Sequence[tuple[Place, str]]:
        """Every address in text and HTML, those in comments and styles too: whatever can be asked for."""
        source = enumerate((self.html or "").splitlines(), 1)
        found = [(finding.html(number), url) for number, line in source for url in _urls(unescape(line))]
        return (*self.text_urls, *found)

    def _read_parts(self, message: Message) -> None:
        cids: set[str] = set()
        for part in message.walk():
            cids.add(str(part.get("Content-ID", "")).strip().strip("<>"))
            shown = part.get_content_disposition() != "attachment"
            if shown and self.text is None and part.get_content_type() == "text/plain":
                self.text = self._decoded(part)
            if shown and self.html is None and part.get_content_type() == "text/html":
                self.html = self._decoded(part)
            self.whole = self.whole and not part.defects
        self.cids = frozenset(cids - {""})

    def _decoded(self, part: Message) -> str:
        octets = part.get_payload(decode=True)
        octets = octets if isinstance(octets, bytes) else b""
        try:
            return octets.decode(part.get_content_charset("utf-8"))
        except (LookupError, UnicodeDecodeError):
            self.whole = False
            return octets.decode("utf-8", "replace")


def _headers(payload: bytes) -> Iterator[Header]:
    name, lines = "", [""]
    for raw in _LINE_END.split(payload):
        line = raw.decode("utf-8", "replace")
        if line.startswith((" ", "\t")) and name:
            lines.append(line)
            continue
        if name:
            yield Header(name, tuple(lines))
        name, _, value = line.partition(":")
        name, lines = name.strip(), [value]
        if not line:
            return
    if name:
        yield Header(name, tuple(lines))


def split(url: str) -> SplitResult:
    """The parts of an address; all of them empty where it is none."""
    try:
        return urlsplit(url)
    except ValueError:
        return SplitResult("", "", "", "", "")


def _urls(line: str) -> Iterator[str]:
    return (url.rstrip(_TRAILING) for url in _URL.findall(line))


@dataclass(slots=True)
class _Open:
    """An element that is open, with what it makes of its text."""

    tag: str
    gone: bool
    tiny: bool
    faint: bool


class _Reader(HTMLParser):
    """Walks the document. What mail clients would show is judged by inline styles: that is what mail has."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self._open: list[_Open] = [_Open("", gone=False, tiny=False, faint=False)]
        self._shown: list[tuple[int, str]] = []
        self._line: tuple[int, list[str]] = (1, [])
        self._links: list[Link] = []
        self._link: tuple[int, str, bool, list[str]] | None = None
        self._images: list[Image] = []
        self._ids: set[str] = set()
        self._marked: list[int] = []

    def page(self) -> Page:
        """All of it, after `close`."""
        self._end_link()
        self._break()
        return Page(self._shown, self._links, self._images, frozenset(self._ids), self._marked)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in reversed(attrs)}
        line, _ = self.getpos()
        self._ids.update(given[name] for name in ("id", "name") if given.get(name))
        if "data-promotion" in given or _PROMOTES.search(given.get("class", "")):
            self._marked.append(line)
        if tag in _CLOSES_ITSELF and self._open[-1].tag == tag:
            self._open.pop()
        self._space(tag)
        opened = _opened(tag, given, self._open[-1])
        if tag == "img":
            self._image(line, given, shown=not opened.gone)
        if tag == "a" and "href" in given:
            self._end_link()
            self._link = (line, given["href"].strip(), not (opened.gone or opened.tiny or opened.faint), [])
        if tag == "area" and "href" in given:
            self._links.append(Link(line, given["href"].strip(), given.get("alt", "").strip()))
        if tag not in _VOID:
            self._open.append(opened)

    def handle_endtag(self, tag: str) -> None:
        if tag == "a":
            self._end_link()
        self._space(tag)
        depth = next((at for at in range(len(self._open) - 1, 0, -1) if self._open[at].tag == tag), 0)
        if depth:
            del self._open[depth:]

    def handle_data(self, data: str) -> None:
        now = self._open[-1]
        if now.gone or now.tiny or now.faint:
            return
        self._add(data)

    def _add(self, data: str) -> None:
        start, pieces = self._line
        if not pieces and data.strip():
            start = self.getpos()[0] + data[: len(data) - len(data.lstrip())].count("\n")
        if pieces or data.strip():
            pieces.append(data)
            self._line = (start, pieces)
        if self._link is not None:
            self._link[3].append(data)

    def _image(self, line: int, given: Mapping[str, str], *, shown: bool) -> None:
        style = _style(given.get("style", ""))
        sizes = [_pixels(style.get(side) or given.get(side, "")) for side in ("width", "height")]
        self._images.append(Image(line, given.get("src", "").strip(), given.get("alt"), (sizes[0], sizes[1]), shown))
        if shown and given.get("alt", "").strip():
            self._add(f" {given['alt']} ")

    def _space(self, tag: str) -> None:
        if tag in _CELLS:
            self._add(" ")
        elif tag not in _INLINE and tag != "img":
            self._break()

    def _break(self) -> None:
        start, pieces = self._line
        if words := " ".join("".join(pieces).split()):
            self._shown.append((start, words))
        self._line = (self.getpos()[0], [])

    def _end_link(self) -> None:
        if self._link is not None:
            line, href, shown, pieces = self._link
            self._links.append(Link(line, href, " ".join("".join(pieces).split()), shown))
            self._link = None


_PROMOTES = re.compile(r"(?:^|[\s_-])(?:promo|promotion|promotional|upsell|cross-?sell)(?:$|[\s_-])", re.IGNORECASE)


def _opened(tag: str, given: Mapping[str, str], parent: _Open) -> _Open:
    style = _style(given.get("style", ""))
    gone = parent.gone or tag in _UNREAD or "hidden" in given or _gone(style)
    size = _LENGTH.match(style.get("font-size", ""))
    tiny = float(size[1]) <= _SMALLEST[size[2]] if size and _number(size[1]) else parent.tiny
    colour = style.get("color")
    faint = parent.faint if colour is None else colour in {"transparent", style.get("background-color", "-")}
    return _Open(tag, gone, tiny, faint)


def _gone(style: Mapping[str, str]) -> bool:
    clipped = style.get("overflow") == "hidden" and any(
        style.get(name, "").rstrip("px") == "0" for name in ("max-height", "height", "max-width", "width")
    )
    opacity = style.get("opacity", "1")
    return (
        style.get("display") == "none"
        or style.get("visibility") in {"hidden", "collapse"}
        or (_number(opacity) and float(opacity) == 0)
        or clipped
    )


def _style(text: str) -> dict[str, str]:
    pairs = (each.partition(":") for each in text.lower().split(";"))
    found = {name.strip(): value.replace("!important", "").strip() for name, _, value in pairs if value}
    if "background" in found:
        found.setdefault("background-color", found["background"])
    return found


def _number(text: str) -> bool:
    return re.fullmatch(r"-?\d*\.?\d+|-?\d+\.", text) is not None


def _pixels(text: str) -> float | None:
    found = _LENGTH.match(text.lower())
    return float(found[1]) if found and _number(found[1]) and found[2] in {"px", ""} else None
