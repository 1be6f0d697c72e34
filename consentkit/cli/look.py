"""Looks at the pages of a site as they are served: which tags load from whom, which cookies are set."""

from __future__ import annotations

import http.client
import urllib.error
import urllib.request
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from html.parser import HTMLParser
from urllib.parse import urldefrag, urljoin, urlsplit

from consentkit.cli import apps
from consentkit.errors import ConsentKitError
from consentkit.gate import UNANSWERABLE, Gate, Seen
from consentkit.service import Service

MAX_PAGE = 4 * 1024 * 1024
TIMEOUT_SECONDS = 10


class PageUnreachable(ConsentKitError):
    """A page could not be fetched."""


@dataclass(frozen=True, slots=True)
class Page:
    """One page as it was served: its tags that load from elsewhere, the names of the cookies it set.

    `parked` are tags that are held back for ever, since the site does not name their service: line, tag, URL.
    """

    path: str
    status: int
    title: str
    lang: str
    seen: tuple[Seen, ...]
    cookies: tuple[str, ...]
    parked: tuple[tuple[int, str, str], ...]
    links: tuple[str, ...] = field(repr=False)


class _Links(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.links: list[str] = []
        self.parked: list[tuple[int, str, str]] = []
        self.title = ""
        self.lang = ""
        self._in_title = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        if tag == "a" and (href := found.get("href")):
            self.links.append(href)
        if UNANSWERABLE in (found.get("data-consentkit-needs") or "").split():
            url = found.get("data-consentkit-src") or found.get("data-consentkit-href") or "inline code"
            self.parked.append((self.getpos()[0], tag, url))
        self._in_title = tag == "title" and not self.title
        if tag == "html":
            self.lang = found.get("lang") or ""

    def handle_endtag(self, tag: str) -> None:
        self._in_title = False

    def handle_data(self, data: str) -> None:
        if self._in_title:
            self.title += data


@contextmanager
def base_url(target: str) -> Iterator[str]:
    """A URL to fetch from: the target itself, or a loopback server for `module:app` while the block runs."""
    if target.startswith(("http://", "https://")):
        yield target.rstrip("/")
    else:
        with apps.serving(apps.as_asgi(apps.load(target))) as url:
            yield url


def look(base: str, *, services: Iterable[Service], start: tuple[str, ...] = ("/",), most: int = 25) -> Iterator[Page]:
    """Fetch pages, following links on the same origin, breadth first.

    Args:
        base: scheme and host. services: those to recognise. start: the paths to begin with.
        most: how many pages at the most.

    Raises:
        PageUnreachable: one of the start pages does not answer.
    """
    origin = urlsplit(base).netloc
    gate = Gate(services, configured=(), categories=(), own_hosts=(urlsplit(base).hostname or "",))
    waiting, known = deque(start), set(start)
    fetched = 0
    while waiting and fetched < most:
        path = waiting.popleft()
        fetched += 1
        try:
            page = _page(gate, base, path)
        except (urllib.error.URLError, http.client.HTTPException, TimeoutError, ValueError) as error:
            if path in start:
                raise PageUnreachable(f"{base}{path} does not answer: {error}") from error
            continue
        if page is None:
            continue
        yield page
        for link in page.links:
            parts = urlsplit(urldefrag(urljoin(base + path, link)).url)
            if parts.netloc == origin and parts.scheme in ("http", "https") and parts.path not in known:
                known.add(parts.path)
                waiting.append(parts.path)


def _page(gate: Gate, base: str, path: str) -> Page | None:
    headers = {"User-Agent": "consentkit", "Accept": "text/html", "Sec-Fetch-Dest": "document"}
    request = urllib.request.Request(base + path, headers=headers)  # noqa: S310 - base is http or https
    try:
        answer = urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS)  # noqa: S310 - the same
    except urllib.error.HTTPError as error:
        answer = error
    with answer:
        if "html" not in answer.headers.get_content_type():
            return None
        body = answer.read(MAX_PAGE)
        cookies = tuple(line.partition("=")[0].strip() for line in answer.headers.get_all("set-cookie") or ())
    rewriter = gate.rewriter(frozenset(), lambda slot: b"", document=False)
    rewriter.feed(body)
    rewriter.close()
    parser = _Links()
    parser.feed(body.decode("utf-8", "replace"))
    return Page(
        path=path,
        status=answer.status or 0,
        title=parser.title.strip(),
        lang=parser.lang,
        seen=tuple(rewriter.seen),
        cookies=cookies,
        parked=tuple(parser.parked),
        links=tuple(parser.links),
    )
