"""The pages of a site as its server sends them: what they load, what they link to, which cookies come with them."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from html.parser import HTMLParser
from urllib.parse import urldefrag, urljoin, urlsplit

from consentkit.gate import UNANSWERABLE, Gate, Seen
from consentkit.probe.source import Answer, PageUnreachable, Source


@dataclass(frozen=True, slots=True)
class Page:
    """One page as it was sent: its tags that load from elsewhere, the names of the cookies that it set.

    `parked` are tags that are held back for ever, since nobody can agree to them: line, tag, URL. `leads_to` is where
    it redirects to and was not followed, for that leaves the site.
    """

    path: str
    status: int
    title: str
    lang: str
    seen: tuple[Seen, ...]
    cookies: tuple[str, ...]
    parked: tuple[tuple[int, str, str], ...]
    leads_to: str
    links: tuple[str, ...] = field(repr=False)


class _Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.links: list[str] = []
        self.parked: list[tuple[int, str, str]] = []
        self.title = ""
        self.lang = ""
        self._in_title = False

    def parse_html_declaration(self, i: int) -> int:
        """`<![if IE]>` and whatever else begins so is a comment up to the next `>` (HTML Standard 13.2.5.42)."""
        return self.parse_bogus_comment(i) if self.rawdata.startswith("<![", i) else super().parse_html_declaration(i)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        if tag == "a" and (href := found.get("href")):
            self.links.append(href)
        if UNANSWERABLE in (found.get("data-consentkit-needs") or "").split():
            moved = (found.get(f"data-consentkit-{name}") for name in ("src", "href", "srcset", "data", "poster"))
            self.parked.append((self.getpos()[0], tag, next(filter(None, moved), "inline code")))
        self._in_title = tag == "title" and not self.title
        if tag == "html":
            self.lang = found.get("lang") or ""

    def handle_endtag(self, tag: str) -> None:
        self._in_title = False

    def handle_data(self, data: str) -> None:
        if self._in_title:
            self.title += data


def read(answer: Answer, path: str, gate: Gate, granted: frozenset[str] = frozenset()) -> Page:
    """What stands in a page.

    Args:
        gate: knows the services; what it would hold back of the page as it was sent is `gated` in `seen`.
        granted: the purposes that this visitor granted.
    """
    rewriter = gate.rewriter(granted, lambda slot: b"", document=False)
    body = answer.body if answer.html else b""  # what is no page may still set cookies
    rewriter.feed(body)
    rewriter.close()
    reader = _Reader()
    with suppress(AssertionError, ValueError):  # markup that Python's parser can't read: what came before it counts
        reader.feed(body.decode("utf-8", "replace"))
    cookies = [line for line in answer.all("set-cookie") if "max-age=0" not in line.lower()]
    return Page(
        path=path,
        status=answer.status,
        title=reader.title.strip(),
        lang=reader.lang,
        seen=tuple(rewriter.seen),
        cookies=tuple(line.partition("=")[0].strip() for line in cookies),
        parked=tuple(reader.parked),
        leads_to=answer.leads_to,
        links=tuple(reader.links),
    )


def look(
    source: Source,
    gate: Gate,
    *,
    start: tuple[str, ...] = ("/",),
    most: int = 25,
    follow: bool = True,
    cookie: str = "",
    granted: frozenset[str] = frozenset(),
) -> Iterator[Page]:
    """Pages of a site, following links on the same origin, breadth first.

    Args:
        gate: see `read`. start: the paths to begin with. most: how many pages at the most.
        follow: whether links are followed. cookie: the `Cookie` header of the visitor. granted: what it says.

    Raises:
        PageUnreachable: one of the start pages does not answer, or with an error that is no page.
    """
    origin = urlsplit(source.base).netloc
    waiting, known = deque(start), set(start)
    fetched = 0
    while waiting and fetched < most:
        path = waiting.popleft()
        fetched += 1
        try:
            answer = source.get(path, cookie)
        except PageUnreachable:
            if path in start:
                raise
            continue
        if not answer.html and path not in start:
            continue
        if not answer.html and answer.status >= 400:
            raise PageUnreachable(f"{source.base}{path} answers {answer.status}, and no page with it")
        page = read(answer, path, gate, granted)
        yield page
        for link in page.links if follow else ():
            try:
                parts = urlsplit(urldefrag(urljoin(source.base + path, link)).url)
            except ValueError:  # no address
                continue
            if parts.netloc == origin and parts.scheme in ("http", "https") and parts.path not in known:
                known.add(parts.path)
                waiting.append(parts.path)
