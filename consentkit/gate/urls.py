"""Where a URL written in a page really goes, read the way browsers read it (WHATWG URL Standard).

Only what the gate asks is answered: the host and the path of what would be fetched. Where the page's own
scheme decides (`https:host` is relative on an https page and absolute on an http one), the answer is the one
that names a host.
"""

from __future__ import annotations

import re
from binascii import Error, a2b_base64
from collections.abc import Iterator
from html import unescape
from html.entities import html5
from typing import NamedTuple
from unicodedata import normalize
from urllib.parse import unquote, unquote_to_bytes

SPACE = "\t\n\f\r "
_C0_AND_SPACE = "".join(map(chr, range(0x21)))
_TAB_OR_NEWLINE = str.maketrans("", "", "\t\n\r")
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*):")
_SPECIAL = frozenset({"http", "https", "ws", "wss", "ftp"})
_SIMPLE = re.compile(r"https?://([a-z0-9-]+(?:\.[a-z0-9-]+)+)((?:/[A-Za-z0-9_~-][A-Za-z0-9_.~-]*+)*+/?)(?=[?#]|\Z)")
_INVISIBLE = "\xad\u034f\u180b\u180c\u180d\u180f\u200b\u200c\u200d\u2060\u2064\ufeff"
_IGNORED_IN_HOSTS = dict.fromkeys([*map(ord, _INVISIBLE), *range(0xFE00, 0xFE10)])
_PORT = re.compile(r":[0-9]*\Z")
_NUMBER = re.compile(r"&#0*([0-9]{1,7})([0-9]*)")
_REFERENCE = re.compile(r"&(#[0-9]+;?|#[xX][0-9A-Fa-f]+;?|[A-Za-z][A-Za-z0-9]*;?)")
_WINDOWS_1252 = {
    0x80 + offset: char
    for offset, char in enumerate("€\x81‚ƒ„…†‡ˆ‰Š‹Œ\x8dŽ\x8f\x90‘’“”•–—˜™š›œ\x9džŸ")
}  # fmt: skip
_LONGEST_NAME = max(map(len, html5))


class Target(NamedTuple):
    """What a URL points at: the host in lower-case ASCII without a trailing dot, the path without dot segments."""

    host: str
    path: str
    query: str = ""


def _numeric(body: str) -> str:
    digits = body.rstrip(";")[1:]
    code = int(digits[1:], 16) if digits[0] in "xX" else int(digits)
    if code == 0 or code > 0x10FFFF or 0xD800 <= code <= 0xDFFF:
        return "\N{REPLACEMENT CHARACTER}"
    return _WINDOWS_1252.get(code) or chr(code)


def unescape_attribute(text: str) -> str:
    """Resolve the character references of an attribute value (HTML Standard 13.2.5.72).

    Unlike in text, a legacy name without semicolon stays as it is before `=` or an alphanumeric: `?a=1&copy=2`.
    """
    if "&" not in text:
        return text

    def resolve(found: re.Match[str]) -> str:
        body = found[1]
        if body[0] == "#":
            return _numeric(body) if len(body) < 12 else "\N{REPLACEMENT CHARACTER}"
        if body in html5 and body[-1] == ";":
            return html5[body]
        for length in range(min(len(body), _LONGEST_NAME), 1, -1):
            name = body[:length]
            if name in html5:
                following = text[found.start() + 1 + length :][:1]
                if name[-1] != ";" and (following == "=" or (following.isascii() and following.isalnum())):
                    return found[0]
                return html5[name] + body[length:]
        return found[0]

    return _REFERENCE.sub(resolve, text)


def unescape_text(text: str) -> str:
    """Resolve the character references of text (HTML Standard 13.2.5.72), however many digits a number has."""
    return unescape(_NUMBER.sub(lambda found: "&#9999999" if found[2] else f"&#{found[1]}", text))


def plain_host(host: str) -> str:
    """The host as it is compared: percent-decoded, mapped as UTS 46 does, lower-case ASCII, no trailing dots."""
    if "%" in host:
        host = unquote_to_bytes(host).decode("utf-8", "replace")
    if not host.isascii():
        host = normalize("NFKC", host.translate(_IGNORED_IN_HOSTS)).lower().translate({0x3002: "."})
        host = normalize("NFKC", host.translate(_IGNORED_IN_HOSTS))
        host = ".".join(map(_punycode, host.split(".")))
    return host.lower().rstrip(".")


def _punycode(label: str) -> str:
    if label.isascii():
        return label
    return "xn--" + label.encode("punycode").decode("ascii")


def without_port(authority: str) -> str:
    """The host of a `Host` header or of a URL's authority (RFC 9110 section 7.2)."""
    return _PORT.sub("", authority)


def parents(host: str) -> Iterator[str]:
    """The host and its parent domains, the longest first."""
    while host:
        yield host
        host = host.partition(".")[2]


def plain_path(path: str) -> str:
    """The path as it is compared: backslashes turned, percent-decoded once, dot segments resolved."""
    segments: list[str] = []
    for segment in unquote(path.replace("\\", "/")).split("/"):
        if segment == "..":
            if len(segments) > 1:
                segments.pop()
        elif segment != ".":
            segments.append(segment)
    return "/".join(segments)


def target(url: str, base: Target | None = None) -> Target | None:
    """Where `url` leads, or None when it names no host (relative, `data:`, `javascript:`, `about:` and the like).

    Args:
        url: the attribute's value, character references already resolved.
        base: where `<base href>` leads; a relative URL then has that host.
    """
    found = _SIMPLE.match(url)
    if found:
        return Target(found[1], found[2] or "/", _query(url[found.end() :]))
    url = url.strip(_C0_AND_SPACE).translate(_TAB_OR_NEWLINE)
    scheme = _SCHEME.match(url)
    if scheme:
        if scheme[1].lower() not in _SPECIAL:
            return None
        rest = url[scheme.end() :].lstrip("/\\")
    else:
        slashes = len(url) - len(url.lstrip("/\\"))
        if slashes < 2:
            return base and Target(base.host, plain_path(_join(base.path, url)))
        rest = url[slashes:]
    authority = re.match(r"[^/\\?#]*", rest)[0]  # type: ignore[index]
    host = plain_host(without_port(authority.rpartition("@")[2]))
    if not host:
        return None
    rest = rest[len(authority) :]
    path = re.match(r"[^?#]*", rest)[0]  # type: ignore[index]
    return Target(host, plain_path(path) or "/", _query(rest[len(path) :]))


def _query(rest: str) -> str:
    return rest[1:].partition("#")[0] if rest[:1] == "?" else ""


def _join(base_path: str, url: str) -> str:
    path = re.match(r"[^?#]*", url)[0]  # type: ignore[index]
    if path[:1] in ("/", "\\"):
        return path
    return base_path.rpartition("/")[0] + "/" + path if path else base_path


def opaque_text(url: str) -> str | None:
    """The code or document inside a `javascript:` or `data:` URL, decoded; None for any other URL."""
    url = url.strip(_C0_AND_SPACE).translate(_TAB_OR_NEWLINE)
    scheme = _SCHEME.match(url)
    if not scheme or scheme[1].lower() not in ("javascript", "data"):
        return None
    text = unquote_to_bytes(url[scheme.end() :])
    if scheme[1].lower() == "data":
        head, _, body = text.partition(b",")
        text = _base64(body) if head.rstrip().lower().endswith(b"base64") else body
    return text.decode("utf-8", "replace")


def _base64(data: bytes) -> bytes:
    try:
        return a2b_base64(data + b"==")
    except Error:
        return data


def candidates(srcset: str) -> list[str]:
    """The URLs of a `srcset` or `imagesrcset` (HTML Standard 4.8.4.2.1)."""
    urls: list[str] = []
    at, end = 0, len(srcset)
    while True:
        while at < end and (srcset[at] in SPACE or srcset[at] == ","):
            at += 1
        if at >= end:
            return urls
        start = at
        while at < end and srcset[at] not in SPACE:
            at += 1
        url = srcset[start:at]
        if url[-1] == ",":
            urls.append(url.rstrip(","))
            continue
        urls.append(url)
        within = False  # parentheses do not nest: the first ")" ends them
        while at < end and (within or srcset[at] != ","):
            within = srcset[at] == "(" or (within and srcset[at] != ")")
            at += 1


_REFRESH = re.compile(r"[\t\n\f\r ]*[0-9.]*[0-9.]*[\t\n\f\r ]*[;,]?[\t\n\f\r ]*(.*)\Z", re.DOTALL)
_REFRESH_URL = re.compile(r"[uU][rR][lL][\t\n\f\r ]*=[\t\n\f\r ]*(.*)\Z", re.DOTALL)


def refresh_url(content: str) -> str | None:
    """The URL of a refresh (`<meta http-equiv=refresh content=…>` or the `Refresh` header), None when it has none."""
    found = _REFRESH.match(content)
    rest = found[1] if found else ""
    named = _REFRESH_URL.match(rest)
    url = named[1] if named else rest
    if url[:1] in ("'", '"'):
        url = url[1:].partition(url[0])[0]
    return url or None
