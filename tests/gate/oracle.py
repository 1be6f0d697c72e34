"""An independent reading of HTML (turbohtml's WHATWG tokenizer) to hold the scanner against, and documents to read."""

from __future__ import annotations

import random
from dataclasses import dataclass, replace

import turbohtml

from consentkit.gate import Gate, Rewriter, scanner
from consentkit.gate.memo import Memo
from consentkit.gate.scanner import attributes
from consentkit.gate.vectors import Context, Tag

WORDS = [
    "a",
    "b",
    "p",
    "div",
    "img",
    "link",
    "br",
    "li",
    "td",
    "x-y",
    "A",
    "DIV",
    "iMg",
    "a\0b",
    "a<b",
    "é",
    "h1",
    "meta",
    "html",
    "head",
    "body",
]
RAW = ["script", "style", "title", "textarea", "xmp", "iframe", "noembed", "noframes", "noscript", "SCRIPT", "sTyle"]
SPACES = ["", " ", "\n", "\t", "\f", "\r", "  ", "\r\n", "/", " / ", "//", "\v"]
NAMES = [
    "src",
    "href",
    "SRC",
    "a",
    "class",
    "data-x",
    "=",
    "=a",
    "a'b",
    'a"b',
    "a<",
    "srcset",
    "ping",
    "é",
    "\0",
    "http-equiv",
    "data-consent",
    "style",
    "x:y",
]
VALUES = [
    "",
    "x",
    "/a.png",
    "https://t.example/x",
    "//t.example",
    "a'b",
    'a"b',
    "a=b",
    "a/b",
    "&amp;",
    "&lt",
    "&#x2f;",
    "&copy=1",
    "&copy",
    "<!--",
    "-->",
    "</script>",
    "<b>",
    "a>b",
    "é",
    "\0",
    " ",
    "\n",
    "`",
]
TEXTS = [
    "text ",
    "<",
    "< ",
    "<3",
    "&amp;",
    "-",
    "--",
    "-->",
    ">",
    "'",
    '"',
    "<!",
    "<!-",
    "<!--",
    "<!-->",
    "<!--->",
    "<!---",
    "<!--a--!>",
    "<!--a--!-->",
    "<!--a--b-->",
    "<!--!>",
    "<!---!>",
    "<!--->-->",
    "--!>",
    "</",
    "</>",
    "</ >",
    "</3>",
    "</!>",
    "<?",
    "<?x>",
    "<?x?>",
    "<!x>",
    "<!doctype html>",
    "<!DOCTYPE a '>' b>",
    "<![CDATA[",
    "<![CDATA[a>b]]>",
    "]]>",
    "=",
    "/",
    "é",
    "\0",
    "\n",
    "\r",
    "<script",
    "<!--<script>",
    "</script",
    "</scriptx>",
    "</script/>",
    "</script\n>",
    "<plaintext>",
]


@dataclass(frozen=True)
class Token:
    """A tag as both readers tell it."""

    closing: bool
    name: str
    attributes: tuple[tuple[str, str], ...]
    source: str


def _tag(pick: random.Random) -> str:
    name = pick.choice(WORDS if pick.random() < 0.6 else RAW)
    parts = ["<", pick.choice(["", "", "/"]), name]
    for _ in range(pick.choice([0, 0, 1, 1, 2, 3])):
        quote = pick.choice(['"', "'", ""])
        parts += [pick.choice(SPACES), pick.choice(NAMES)]
        if pick.random() < 0.7:
            parts += [pick.choice(SPACES[:6]), "=", pick.choice(SPACES[:6]), quote, pick.choice(VALUES), quote]
    parts += [pick.choice(SPACES), pick.choice([">", ">", ">", ">", "/>", "", '"'])]
    return "".join(parts)


def document(pick: random.Random) -> str:
    """A short document made of what trips tokenizers, sometimes with single characters changed."""
    parts = [pick.choice(TEXTS) if pick.random() < 0.5 else _tag(pick) for _ in range(pick.randint(1, 12))]
    text = "".join(parts)
    for _ in range(pick.choice([0, 0, 0, 1, 2, 5])):
        at = pick.randrange(len(text) + 1)
        text = text[:at] + pick.choice("<>/=\"'!- \n&;a\0]") * pick.choice([0, 1]) + text[at + 1 :]
    return text


def expected(page: str) -> list[Token]:
    """The tags as turbohtml's tokenizer finds them."""
    found = []
    for token in turbohtml.tokenize(page, capture_source=True):
        if token.type in (turbohtml.TokenType.START_TAG, turbohtml.TokenType.END_TAG):
            found.append(
                Token(
                    token.type == turbohtml.TokenType.END_TAG,
                    token.tag,
                    tuple((name, value or "") for name, value in token.attrs),
                    token.source,
                )
            )
    return found


class Talkative(Gate):
    """A gate that finds every tag worth telling its rewriter."""

    def denies(self, granted: frozenset[str]) -> bool:
        return True

    def tags(self, context: Context) -> Memo[Tag]:
        return Memo(0)

    def tag(self, raw: bytes, context: Context, memo: Memo[Tag]) -> Tag:
        return replace(super().tag(raw, context, memo), plain=False)


class Listening(Rewriter):
    """A rewriter that stops at every tag and writes it down."""

    def __init__(self) -> None:
        self.tokens: list[Token] = []
        super().__init__(Talkative((), configured=(), categories=()), frozenset(), lambda slot: b"", document=False)

    def _settle(self) -> None:
        super()._settle()
        self._match = scanner.careful

    def _note(self, raw: bytes, *, closing: bool) -> None:
        first: dict[str, str] = {}
        for item in attributes(raw):
            first.setdefault(item.name, item.value)
        name = scanner.TAG_NAME.search(raw)
        assert name
        self.tokens.append(Token(closing, scanner.text(name[0].lower()), tuple(first.items()), raw.decode()))

    def _start_tag(self, source, start, raw, tag):  # type: ignore[no-untyped-def]
        self._note(raw, closing=False)
        super()._start_tag(source, start, raw, tag)

    def _end_tag(self, source, start, name):  # type: ignore[no-untyped-def]
        found = scanner.CAREFUL.match(source, start)
        self._note(bytes(source[start : found.end()]), closing=True)
        super()._end_tag(source, start, name)


def ours(page: str) -> list[Token]:
    """The tags as the scanner finds them."""
    listening = Listening()
    listening.feed(page.encode())
    listening.close()
    return listening.tokens
