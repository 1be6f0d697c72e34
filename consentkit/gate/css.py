"""What a style sheet makes a browser fetch, and how to hold that back without touching anything else.

CSS is cut into tokens without any look at the grammar around them (CSS Syntax 3 section 4), so the URLs are found by
tokens too: what is no URL to the tokenizer is none to any browser. Where the grammar decides whether a string is a URL
(`image-set("…")`, a custom property that may be used there), every string that may be one counts.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Final

INERT: Final = "https://#consentkit:"
"""Right before a URL this makes one that the URL Standard refuses (section 4.4, host-missing): a browser asks nobody
for it, and no Content-Security-Policy sees it. `about:` and `data:` URLs are seen by policies."""

RULE: Final = b"consentkit{}"
"""Put before a whole style sheet that is held back: no import counts after a rule (CSS Cascade 4 section 2)."""


_NAME: Final = r"[^\x01-,./:-@\[-^`{-\x7f]"  # letters, digits, "-", "_", NUL and all beyond ASCII
_START: Final = r"[^\x01-@\[-^`{-\x7f]"
_ESCAPE: Final = r"\\(?:[0-9a-fA-F]{1,6}+(?:\r\n|[ \t\n\f\r])?+|[^\n\f\r0-9a-fA-F]|\Z)"
_IDENT: Final = rf"(?:--|-?(?:{_START}|{_ESCAPE}))(?:{_NAME}|{_ESCAPE})*+"
_COMMENT: Final = r"/\*[^*]*+(?:\*(?!/)[^*]*+)*+(?:\*/)?"
_STRING: Final = r"""(?:"(?:[^"\\\n\f\r]|\\(?:\r\n|[\s\S]|\Z))*+"?+|'(?:[^'\\\n\f\r]|\\(?:\r\n|[\s\S]|\Z))*+'?+)"""
_GAP: Final = rf"(?:[ \t\n\f\r]++|{_COMMENT})*+"
_FETCHING: Final = frozenset(
    {"url", "src", "image", "image-set", "-webkit-image-set", "cross-fade", "-webkit-cross-fade", "filter"}
)
_NEVER_URLS: Final = frozenset({"type", "integrity"})  # of their strings none is a URL, wherever they stand
_LATER: Final = frozenset({"initial-value", "result"})  # of @property and @function: a value that is used elsewhere

_CLOSERS: Final = {"(": ")", "[": "]", "{": "}"}

_SOME = re.compile(r"url|src\(|import|image|cross-fade|filter\(|--|\\|result|initial-value", re.IGNORECASE)
# What needs no look outside the functions that fetch, in the order in which it is most often met.
_DULL = re.compile(
    rf"""(?:
        [ \t\n\f\r!$%&)*+,.:;=>?\[\]^`{{|}}~\x01-\x08\x0b\x0e-\x1f\x7f]++
      | (?i:(?!(?:url|src|image|(?:-webkit-)?(?:image-set|cross-fade)|filter)\())[A-Za-z][A-Za-z0-9_-]*+\(
      | (?!--|(?i:initial-value|result))(?:-?(?:{_START}))(?:{_NAME})*+(?![\\(])
      | -?[0-9]++(?:{_IDENT})?+(?![\\(])
      | \#(?:{_NAME})*+(?![\\(])
      | --[A-Za-z0-9_-]*+(?=[),;}}]|:[^"'\\;{{}}]{{0,200}}+[;}}])
      | -(?=[ \t\n]) | {_STRING} | {_COMMENT} | /(?!\*) | \( | <!-- | <(?!!--)
      | @(?!(?i:import|namespace))[A-Za-z-]++(?![\\(]|{_NAME})
    )++""",
    re.VERBOSE,
)
_TOKEN = re.compile(
    rf"""(?P<dull>[ \t\n\f\r]++|{_COMMENT}|<!--)
      | (?P<string>{_STRING})
      | (?P<before>@|\#|-?[0-9]++)?+(?P<name>{_IDENT})(?P<opens>\()?+
      | (?P<other>[\s\S])""",
    re.VERBOSE,
)
_URL = re.compile(rf"""[ \t\n\f\r]*+((?:[^"'()\\\x01-\x20\x7f]|{_ESCAPE})*+)[ \t\n\f\r]*+(?:\)|\Z)""")
_REMNANTS = re.compile(r"(?:[^)\\]|\\[\s\S]|\\\Z)*+\)?+")
_QUOTED = re.compile(r"[ \t\n\f\r]*+[\"']")
_IMPORTED = re.compile(rf"{_GAP}({_STRING})")
_NAMED_URL: Final = rf"""(?i:url)\([ \t\n\f\r]*+(?:{_STRING}|[^"'()\\\s]*+)[ \t\n\f\r]*+\)"""
_NAMED = re.compile(rf"{_GAP}(?:(?!(?i:url)\(){_IDENT}{_GAP})?+(?:{_STRING}|{_NAMED_URL})")
_COLON = re.compile(rf"{_GAP}:")
_LONE_ESCAPE = re.compile(rf"{_ESCAPE}|\\(?:\r\n|[\n\f\r]|\Z)")
_SECOND_BYTE = re.compile(r"[^\x00-\x7f]\\")  # in Shift_JIS, GBK and Big5 this is one letter, and no escape
_BEYOND_ASCII = re.compile(r"[^\x01-\x7f]")
_WORDS = tuple(map(re.compile, (r"[^\s\"'()]+", r"[^\s\"'(){};,]+", r"[^\s\"'()<>]+")))


class _Unsure(Exception):
    """Browsers cut this text into tokens in more than one way."""


def urls(css: str) -> list[str]:
    """Every URL that a browser may fetch for a style sheet, or for the value of a `style` attribute.

    Those of `url()`, `src()`, `@import`, `image-set()`, `image()`, `cross-fade()`, and strings in custom properties
    that look like one; escapes resolved, relative ones as they stand. `@namespace` fetches nothing.
    """
    try:
        return [url for _, raw in _found(css) if (url := _plain(raw)) and not url.startswith(INERT)]
    except _Unsure:
        return anywhere(css)


def anywhere(css: str) -> list[str]:
    """Whatever in a style sheet could be a URL, in any reading of it: far more than is fetched, and never less."""
    found: dict[str, None] = {}
    for text in {one for read in (css, _plain(css)) for one in (read, read.replace("\t", ""))}:
        for words in _WORDS:
            found.update(dict.fromkeys(words.findall(text)))
    return [word for word in found if not word.startswith(INERT)]


def held(css: bytes, deny: Callable[[str], bool]) -> bytes | None:
    """The style sheet with `INERT` right before each URL that is denied. To take every `INERT` out restores it.

    Args:
        css: in an encoding that has ASCII in it.
        deny: whether this URL, its escapes resolved, must not be fetched; not asked about what is inert already.

    Returns:
        The very same object when nothing is denied; None when something is and browsers differ in how they read it, so
        that the whole sheet has to be held back.
    """
    text = css.decode("latin-1")  # one character a byte: positions are the same
    out: list[bytes] = []
    at = 0
    try:
        for start, raw in _found(text):
            url = _plain(_utf8(raw))
            if not url.startswith(INERT) and deny(url):
                out += [css[at:start], INERT.encode()]
                at = start
    except _Unsure:
        return None if any(map(deny, anywhere(_utf8(text)))) else css
    return b"".join([*out, css[at:]]) if out else css


def _utf8(text: str) -> str:
    return text if text.isascii() else text.encode("latin-1").decode("utf-8", "replace")


def _plain(raw: str) -> str:
    """With its escapes resolved (CSS Syntax 3 section 4.3.7); an escaped newline in a string is nothing."""
    return _LONE_ESCAPE.sub(_resolve, raw) if "\\" in raw else raw


def _resolve(found: re.Match[str]) -> str:
    body = found[0][1:]
    if body[:1] in ("", "\n", "\r", "\f"):
        return ""
    if body[0] not in "0123456789abcdefABCDEF":
        return body
    code = int(body.rstrip(" \t\n\f\r"), 16)
    return chr(code) if 0 < code < 0xD800 or 0xE000 <= code <= 0x10FFFF else "\N{REPLACEMENT CHARACTER}"


def _found(css: str) -> Iterator[tuple[int, str]]:
    """Where each URL begins, and the URL as written."""
    if not _SOME.search(css):
        return
    if _SECOND_BYTE.search(css):
        raise _Unsure
    at, size = 0, len(css)
    within: list[tuple[str, bool]] = []  # from a function that fetches on: what closes it, whether strings are URLs
    later = False  # in a declaration whose value may be used as a URL elsewhere
    while at < size:
        if not within and not later and (dull := _DULL.match(css, at)):
            at = dull.end()
            continue
        token = _TOKEN.match(css, at)
        assert token  # noqa: S101
        at = token.end()
        if token["string"]:
            raw = _content(css, token["string"], at)
            if raw is not None and ((within and within[-1][1]) or (later and re.search(r"[:/\\]", raw))):
                yield token.start() + 1, raw
        elif token["name"]:
            name = _plain(token["name"]).lower()
            if token["opens"]:
                _be_sure(token, name)
                if token["before"]:
                    if within:
                        within.append((")", within[-1][1]))
                elif name == "url" and not _QUOTED.match(css, at):
                    url = _URL.match(css, at)
                    if url:
                        yield url.start(1), url[1]
                    at = (url or _REMNANTS.match(css, at)).end()  # type: ignore[union-attr]
                elif name in _FETCHING or name.startswith("--"):
                    within.append((")", True))
                elif within:
                    within.append((")", within[-1][1] and name not in _NEVER_URLS))
            elif token["before"] == "@":
                if name == "import" and (string := _IMPORTED.match(css, at)):
                    at = string.end()
                    raw = _content(css, string[1], at)
                    if raw is not None:
                        yield string.start(1) + 1, raw
                elif name == "namespace" and (named := _NAMED.match(css, at)):
                    at = named.end()
            elif not token["before"] and (name.startswith("--") or name in _LATER):
                later = later or bool(_COLON.match(css, at))
        elif token["other"]:
            if token["other"] in ";}":
                later = False
            if within and token["other"] in _CLOSERS:
                within.append((_CLOSERS[token["other"]], within[-1][1]))
            elif within and token["other"] == within[-1][0]:
                within.pop()


def _content(css: str, string: str, end: int) -> str | None:
    """What stands between the quotes; None for a string that a newline ends, which is no string."""
    if len(string) > 1 and string[-1] == string[0] and not _ends_in_escape(string):
        return string[1:-1]
    return string[1:] if end >= len(css) else None


def _ends_in_escape(string: str) -> bool:
    """Whether the quote at the end is itself escaped: the string goes on to the end of the sheet."""
    body = string[1:-1]
    return (len(body) - len(body.rstrip("\\"))) % 2 == 1


def _be_sure(token: re.Match[str], name: str) -> None:
    """Which characters beyond ASCII are part of a name changed with the years, and what follows `u+0` did too."""
    before, raw = token["before"], token["name"]
    if before and before not in "@#" and (name in _FETCHING or name.startswith("--")):
        raise _Unsure
    if _BEYOND_ASCII.search(raw):
        tail = _plain(_BEYOND_ASCII.split(raw)[-1]).lower()
        if tail in _FETCHING or tail.startswith("--"):
            raise _Unsure
