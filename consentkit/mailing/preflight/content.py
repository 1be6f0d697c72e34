"""What must hold of text, HTML, links and images: who sends it, a way out, nothing that watches."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Final
from urllib.parse import parse_qsl

from consentkit.mailing.preflight import finding
from consentkit.mailing.preflight.emitted import Emitted, Image, Page, split
from consentkit.mailing.preflight.expected import Expected, is_reserved
from consentkit.mailing.preflight.finding import Note, Place, error, header, warning
from consentkit.mailing.preflight.promotion import promotion
from consentkit.settings import is_local

MOST_HTML: Final = 102 * 1024
"""Octets of HTML that Gmail shows; it cuts off the rest, where the unsubscribe link stands."""

_FEWEST_WORDS = 3
_LEAST_SHARE = 0.2
_COMPARED_WORDS = 20
_PIXEL = 2
_HOLE = re.compile(
    r"\{\{|\}\}|\{%|%\}|%7B%7B|\*\|\w+\|\*|%%\w+%%|\$\{\w+\}|\[\[\w+\]\]|%recipient\.\w+%", re.IGNORECASE
)
_WORD = re.compile(r"\w+")
_SCHEME = re.compile(r"[a-z][a-z0-9+.-]*:", re.IGNORECASE)
_ADDRESS = re.compile(r"https?:\S+", re.IGNORECASE)
_OPENING = re.compile(
    r"google-analytics\.com/(?:g/)?collect|/wf/open\b|/track/open|/trk/open|/e2t/[a-z]o/|list-manage\.com/track/|"
    r"facebook\.com/tr\b|/open\.(?:php|gif|aspx)\b|/pixel\.(?:gif|png|php)\b",
    re.IGNORECASE,
)
_NAMES_A_READER = frozenset((
    *("mc_eid", "_hsenc", "_hsmi", "mkt_tok", "vero_id", "oly_enc_id", "oly_anon_id", "ck_subscriber_id", "_kx"),
    *("ml_subscriber", "ml_subscriber_hash", "subscriber_id", "recipient_id"),
    *("email", "e-mail", "e_mail", "emailaddress"),
    *("fbclid", "gclid", "msclkid", "yclid", "igshid"),
))  # fmt: skip
_PERSONAL_ROUTES = ("afmelden/", "voorkeuren/", "meten/")


def content(mail: Emitted, expected: Expected) -> Iterator[Note]:
    """Everything that a reader gets to see."""
    yield from _holes(mail)
    yield from _two_parts(mail)
    yield from _shown(mail, expected)
    yield from _strays(mail, expected)
    if mail.page is not None:
        yield from _links(mail.page, expected)
        yield from _images(mail.page, mail.cids, expected)
    if not expected.marketing:
        yield from _promotion(mail)


def tracking(samples: Sequence[tuple[Emitted, Expected]]) -> Iterator[Note]:
    """Readers who did not agree to be measured get the same addresses, but for their own way out (TRK-01).

    Whatever differs, in a link, an image, a style or a comment, would tell who followed or loaded it (ePrivacy
    art. 5(3), Tw 11.7a).
    """
    unmeasured = [(mail, expected.own_urls) for mail, expected in samples if not expected.measured]
    if not unmeasured:
        return
    (first, own), *others = unmeasured
    known = [(place, url) for place, url in first.urls if url not in own]
    common = {url for _, url in known}
    for mail, own in others:
        theirs = [(place, url) for place, url in mail.urls if url not in own]
        seen = {url for _, url in theirs}
        differing = [each for each in theirs if each[1] not in common] or [
            each for each in known if each[1] not in seen
        ]
        for place, url in differing:
            yield error("tracking-link", place, host=_host(url))


def _holes(mail: Emitted) -> Iterator[Note]:
    subject = " ".join(one.words for one in mail.all("subject"))
    hrefs = [(link.line, link.href) for link in mail.page.links] if mail.page else []
    images = [(image.line, image.src) for image in mail.page.images] if mail.page else []
    shown = mail.page.shown if mail.page else ()
    places = [
        (header("Subject"), subject),
        *((finding.text(line), words) for line, words in mail.lines),
        *((finding.html(line), words) for line, words in (*shown, *hrefs, *images)),
    ]
    for place, words in places:
        if found := _HOLE.search(words):
            yield error("placeholder", place, found=found[0])


def _two_parts(mail: Emitted) -> Iterator[Note]:
    """Who reads without HTML gets the same message."""
    words = _WORD.findall(_ADDRESS.sub("", mail.text or ""))
    shown = _WORD.findall(" ".join(words for _, words in mail.page.shown)) if mail.page else []
    if len(words) < max(_FEWEST_WORDS, len(shown) * _LEAST_SHARE):
        yield error("text-missing", finding.text())
        return
    long = {word.lower() for word in shown if len(word) > 3}
    if len(long) >= _COMPARED_WORDS and len(long & {word.lower() for word in words}) < len(long) / 2:
        yield warning("text-differs", finding.text())


def _shown(mail: Emitted, expected: Expected) -> Iterator[Note]:
    """Who sends it and where they can be reached (Tw 11.7(7)), and the ways out (Tw 11.7(4)(b)), in each part."""
    for place, words, urls in _parts(mail):
        for code, wanted in (("identity-missing", expected.controller), ("address-missing", expected.address)):
            if not _plain(wanted) or f" {_plain(wanted)} " not in f" {words} ":
                yield error(code, place)
        if expected.marketing and (not expected.unsubscribe_url or expected.unsubscribe_url not in urls):
            yield error("unsubscribe-link", place)
        if expected.measured and (not expected.quiet_url or expected.quiet_url not in urls):
            yield error("quiet-link", place)


def _parts(mail: Emitted) -> Iterator[tuple[Place, str, frozenset[str]]]:
    """For text and HTML: its words, plain, and the addresses that one can see and follow."""
    if mail.text is not None:
        yield finding.text(), _plain(mail.text), frozenset(url for _, url in mail.text_urls)
    if mail.page is not None:
        words = " ".join(words for _, words in mail.page.shown)
        followed = frozenset(link.href for link in mail.page.links if link.shown and link.words)
        yield finding.html(), _plain(words), followed


def _strays(mail: Emitted, expected: Expected) -> Iterator[Note]:
    """Somebody else's token, copied along with a mail of theirs; and parameters that say who follows a link."""
    routes = tuple(f"{expected.base_url}{expected.prefix}/{route}" for route in _PERSONAL_ROUTES)
    for place, url in mail.urls:
        if url.startswith(routes) and url not in expected.own_urls:
            yield error("personal-link", place)
        found = _NAMES_A_READER & {name.lower() for name, _ in parse_qsl(split(url).query)}
        if found and not expected.measured:
            yield error("tracking-parameter", place, name=min(found))


def _links(page: Page, expected: Expected) -> Iterator[Note]:
    for link in page.links:
        place, href = finding.html(link.line), link.href
        if code := _dead_end(href, page.ids):
            yield error(code, place)
        elif expected.live and is_reserved(_host(href)):
            yield warning("link-test-host", place, host=_host(href))
        if link.shown and not link.words:
            yield warning("link-empty", place)


def _dead_end(href: str, ids: Iterable[str]) -> str | None:
    if _HOLE.search(href):
        return None
    if not href or href.lower().startswith("javascript:") or (href.startswith("#") and href[1:] not in ids):
        return "link-nowhere"
    if href.startswith("#") or re.match(r"(?:mailto|tel|sms|cid):.", href, re.IGNORECASE):
        return None
    return None if re.match(r"https?://[^/]", href, re.IGNORECASE) else "link-relative"


def _images(page: Page, cids: frozenset[str], expected: Expected) -> Iterator[Note]:
    for image in page.images:
        place, kind = finding.html(image.line), image.src.partition(":")[0].lower()
        missing = kind == "cid" and image.src[4:] not in cids
        if missing or not _SCHEME.match(image.src):
            if not _HOLE.search(image.src):
                yield error("image-missing", place)
            continue
        if kind in {"http", "https"} and not expected.measured and _watches(image):
            yield error("pixel", place, host=_host(image.src))
            continue
        if kind == "http" and not is_local(_host(image.src)):
            yield warning("image-insecure", place, host=_host(image.src))
        if image.alt is None:
            yield warning("image-alt", place)


def _watches(image: Image) -> bool:
    """Whether an image is there to be loaded, not to be seen."""
    width, height = image.size
    small = width is not None and height is not None and width <= _PIXEL and height <= _PIXEL
    return small or not image.shown or _OPENING.search(image.src) is not None


def _promotion(mail: Emitted) -> Iterator[Note]:
    page = mail.page
    subject = " ".join(one.words for one in mail.all("subject"))
    lines = [*page.shown, *mail.lines] if page else mail.lines
    links = (
        [(link.line, link.href) for link in page.links] if page else [(place.line, u) for place, u in mail.text_urls]
    )
    found = promotion(subject, lines, links, page.marked if page else ())
    if found:
        line = found[0].line
        part = finding.html(line) if page else finding.text(line)
        words = ", ".join(dict.fromkeys(f"“{signal.words}”" for signal in found))
        yield error("promotion", part if line else header("Subject"), words=words)


def _plain(words: str) -> str:
    """Words only, in small letters, so that line breaks and commas make no difference."""
    return " ".join(_WORD.findall(words)).casefold()


def _host(url: str) -> str:
    """What of an address can be told: its host, or its scheme where it has none."""
    parts = split(url)
    return (parts.hostname or parts.scheme or "?").lower()
