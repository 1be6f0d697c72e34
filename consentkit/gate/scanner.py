"""Where tags begin and end in HTML bytes: the tokenizer states of the HTML Standard (13.2.5) as exact expressions.

Bytes in, positions out; any ASCII-compatible encoding will do. Text, comments and the tags that never matter
are eaten inside `re`; what comes back to Python is the tags that load something, that change how the following
bytes are read, or that mark a place in the document.

A repeated group is written `(?>(?:…)*)` and never `(?:…)*+`: before CPython 3.11.5 the latter may leave the position
in the middle of an item that failed (bugs.python.org gh-100061, gh-106052), and Debian 12 ships 3.11.2.
Repeating a single character class possessively is sound everywhere.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from consentkit.gate.urls import unescape_attribute

WS = rb"\t\n\f\r "
_END = rb"(?=[" + WS + rb"/>])"


def _any_case(words: str) -> bytes:
    """`(?:…|…)` of the words, any letter in either case, without the slower IGNORECASE machinery."""
    return b"(?:%s)" % b"|".join(
        b"".join(
            b"[%c%c]" % (ord(char), ord(char.upper())) if char.isalpha() else re.escape(char.encode()) for char in word
        )
        for word in words.split()
    )


def _many(item: bytes) -> bytes:
    return b"(?>(?:" + item + b")*)"


_VALUE = rb"""(?:"[^"]*+"|'[^']*+'|[^\t\n\f\r >"'][^\t\n\f\r >]*+|(?=>))"""
_ATTRIBUTE = rb"[^\t\n\f\r />][^\t\n\f\r />=]*+[\t\n\f\r ]*+(?:=[\t\n\f\r ]*+" + _VALUE + rb"|(?!=))"
_REST = _many(rb"[\t\n\f\r /]++|" + _ATTRIBUTE) + rb">"
_NAME = rb"[a-zA-Z][^\t\n\f\r />]*+"
_TAG = rb"(?:<(/?)(" + _NAME + rb")" + _REST + rb")?"
_COMMENT = rb"!--(?:>|->|" + _many(rb"[^-]++|-(?!-!?>)") + rb"--!?>)"
_LITERAL = rb"(?=[^a-zA-Z/!?])"
_BOGUS_END = rb"/(?:>|[^a-zA-Z>][^>]*+>)"
_PI = rb"\?[^>]*+>"

# URLs that stay on the site whatever it is called: they begin like a path, never like a scheme or a host.
_HOME = rb"(?:/(?=[A-Za-z0-9_.~%-])|[A-Za-z0-9_.-]++(?=[/?#])|[?#]|data:)"
_HOME_URL = (
    rb"""(?:"(?:""" + _HOME + rb"""[^"]*+|[A-Za-z0-9_.-]*+)"|'(?:""" + _HOME + rb"""[^']*+|[A-Za-z0-9_.-]*+)')"""
)
_HOME_SET = rb'"' + _many(rb"[A-Za-z0-9_.,~%?=#@+ \n\t()!;-]++|/(?!/)|&amp;") + rb'"'

_LOADING = _any_case("src srcset poster background ping http-equiv") + rb"(?=[\t\n\f\r />=])"
_PLAIN_REST = (
    _many(
        rb"[\t\n\f\r /]++|(?!"
        + _LOADING
        + rb"|"
        + _any_case("data-consent")
        + rb")"
        + _ATTRIBUTE
        + rb"|(?:src|poster)="
        + _HOME_URL
        + rb"|srcset="
        + _HOME_SET
    )
    + rb">"
)

RAW_TEXT = "style title textarea xmp iframe noembed noframes"
_RETURNED = RAW_TEXT + " script noscript plaintext link object embed svg math base template select frameset frame col"
_FAST_TAGS = rb"(?!" + _any_case(_RETURNED) + _END + rb")" + _NAME + _PLAIN_REST
_FAST_ENDS = rb"/(?!" + _any_case("template select body") + _END + rb")" + _NAME + _REST

_SVG_SIMPLE = (
    _any_case(
        "path g circle rect line polygon polyline ellipse defs use symbol lineargradient radialgradient stop"
        " clippath mask text tspan"
    )
    + _END
)
_SVG_REST = (
    _many(
        rb"[\t\n\f\r /]++|(?!(?:[xX][lL][iI][nN][kK]:)?[hH][rR][eE][fF](?=[\t\n\f\r />=])|"
        + _LOADING
        + rb"|"
        + _any_case("data-consent")
        + rb")"
        + _ATTRIBUTE
        + rb'|(?:xlink:)?href="(?:#|/(?=[A-Za-z0-9_.~%-]))[^"]*+"'
    )
    + rb">"
)
_SVG_ATOM = (
    rb"[sS][vV][gG]"
    + _END
    + _SVG_REST
    + rb"(?<!/>)"
    + _many(
        rb"[^<]++|</"
        + _SVG_SIMPLE
        + _REST
        + rb"|<"
        + _SVG_SIMPLE
        + _SVG_REST
        + rb"|<title>[^<]*+</title>|<desc>[^<]*+</desc>"
    )
    + rb"</[sS][vV][gG]>"
)

FAST = re.compile(
    _many(
        rb"[^<]++|<(?:"
        + _FAST_TAGS
        + rb"|"
        + _FAST_ENDS
        + rb"|"
        + _SVG_ATOM
        + rb"|"
        + _COMMENT
        + rb"|!(?!--)[^>]*+>|"
        + _LITERAL
        + rb"|"
        + _BOGUS_END
        + rb"|"
        + _PI
        + rb")"
    )
    + _TAG
)
"""Eats everything that can't matter in the body of a page; then gives the tag that stopped it, if it is whole."""

CAREFUL = re.compile(
    _many(
        rb"[^<]++|<(?:"
        + _COMMENT
        + rb"|!(?!--|\[CDATA\[)[^>]*+>|"
        + _LITERAL
        + rb"|"
        + _BOGUS_END
        + rb"|"
        + _PI
        + rb")"
    )
    + _TAG
)
"""The same, but stops at every tag, and at `<![CDATA[`."""

PREAMBLE = re.compile(
    _many(rb"[\t\n\f\r ]++|<(?:" + _COMMENT + rb"|[mM][eE][tT][aA]" + _END + _PLAIN_REST + rb")") + _TAG
)
"""For the head: eats white space, comments and plain `<meta>`, and stops at anything else."""

MARKUP = re.compile(rb"<(?:" + _COMMENT + rb"|!(?!--)[^>]*+>|" + _BOGUS_END + rb"|" + _PI + rb")")
"""One comment, doctype or bogus comment."""

DOCTYPE = re.compile(rb"<!" + _any_case("doctype"))
LITERAL_LESS_THAN = re.compile(rb"<" + _LITERAL)
COMMENT_END = re.compile(rb"--!?>")
ATTRIBUTE = re.compile(
    rb"""[\t\n\f\r /]*+([^\t\n\f\r />][^\t\n\f\r />=]*+)[\t\n\f\r ]*+"""
    rb"""(?:=[\t\n\f\r ]*+(?:"([^"]*+)"|'([^']*+)'|([^\t\n\f\r >"'][^\t\n\f\r >]*+)|(?=>)))?"""
)
TAG_NAME = re.compile(_NAME)
_RAW_END = {name: re.compile(rb"</" + _any_case(name) + _END) for name in [*RAW_TEXT.split(), "noscript", "script"]}
_SCRIPT = (
    re.compile(rb"<!--|</[sS][cC][rR][iI][pP][tT][\t\n\f\r />]"),
    re.compile(rb"-->|</?[sS][cC][rR][iI][pP][tT][\t\n\f\r />]"),
    re.compile(rb"-->|</[sS][cC][rR][iI][pP][tT][\t\n\f\r />]"),
)
_NAME_END = re.compile(rb"[\t\n\f\r />]")
_NOT_BETWEEN = re.compile(rb"[^\t\n\f\r /]")
_NOT_SPACE = re.compile(rb"[^\t\n\f\r ]")
_ATTRIBUTE_NAME_END = re.compile(rb"[\t\n\f\r />=]")
_UNQUOTED_END = re.compile(rb"[\t\n\f\r >]")


class Attribute(NamedTuple):
    """One attribute as it stands in a tag: where its name starts, the name in lower case, the value resolved."""

    at: int
    name: str
    value: str


def attributes(tag: bytes) -> list[Attribute]:
    """All attributes of a whole tag in order, duplicates too (of which only the first counts to a browser)."""
    found = TAG_NAME.search(tag)
    start = found.end() if found else len(tag)
    return (
        [
            Attribute(item.start(1), text(item[1]).lower() if item[1].isascii() else _lower(item[1]), _value(item))
            for item in ATTRIBUTE.finditer(tag, start)
        ]
        if tag[start : start + 1] != b">"
        else []
    )


def _lower(name: bytes) -> str:
    return text(name.lower())  # bytes.lower() touches ASCII letters only, as the tokenizer does


def _value(item: re.Match[bytes]) -> str:
    if item.lastindex == 1:
        return ""
    return unescape_attribute(text(item[item.lastindex or 1]))


def text(data: bytes) -> str:
    """Bytes as text: UTF-8, what isn't UTF-8 replaced. Nothing that decides a host lies outside ASCII otherwise."""
    return data.decode("utf-8", "replace").replace("\0", "\N{REPLACEMENT CHARACTER}")


class TagEnd:
    """Finds the `>` that ends a tag, over as many pieces as it comes in, looking at each byte once."""

    __slots__ = ("at", "slash", "state")

    def __init__(self, at: int) -> None:
        self.at = at
        """Where to go on; the owner shifts it when it drops bytes in front."""
        self.state = self._name
        self.slash = False

    def find(self, data: bytes | bytearray) -> int:
        """The position after the ending `>`, or -1 when it is not there yet."""
        while self.at < len(data):
            end = self.state(data)
            if end >= 0:
                return end
        return -1

    def _step(self, found: re.Match[bytes] | None, data: bytes | bytearray) -> int:
        """Move to where `found` starts, or to the end; gives the byte there or -1."""
        if found is None:
            self.at = len(data)
            return -1
        self.at = found.start()
        return data[self.at]

    def _name(self, data: bytes | bytearray) -> int:
        if self._step(_NAME_END.search(data, self.at), data) >= 0:
            self.state = self._between
        return -1

    def _between(self, data: bytes | bytearray) -> int:
        before = self.at
        byte = self._step(_NOT_BETWEEN.search(data, before), data)
        if self.at > before:
            self.slash = data[self.at - 1] == 0x2F
        if byte == 0x3E:
            return self.at + 1
        if byte >= 0:
            self.at += 1  # the first byte of a name may be "="
            self.slash = False
            self.state = self._attribute
        return -1

    def _attribute(self, data: bytes | bytearray) -> int:
        if self._step(_ATTRIBUTE_NAME_END.search(data, self.at), data) >= 0:
            self.state = self._after_name
        return -1

    def _after_name(self, data: bytes | bytearray) -> int:
        byte = self._step(_NOT_SPACE.search(data, self.at), data)
        if byte == 0x3D:
            self.at += 1
            self.state = self._before_value
        elif byte >= 0:
            self.state = self._between
        return -1

    def _before_value(self, data: bytes | bytearray) -> int:
        byte = self._step(_NOT_SPACE.search(data, self.at), data)
        if byte in (0x22, 0x27):
            self.at += 1
            self.state = self._double if byte == 0x22 else self._single
        elif byte == 0x3E:
            return self.at + 1
        elif byte >= 0:
            self.state = self._unquoted
        return -1

    def _double(self, data: bytes | bytearray) -> int:
        return self._quoted(data, b'"')

    def _single(self, data: bytes | bytearray) -> int:
        return self._quoted(data, b"'")

    def _quoted(self, data: bytes | bytearray, quote: bytes) -> int:
        end = data.find(quote, self.at)
        if end < 0:
            self.at = len(data)
        else:
            self.at = end + 1
            self.state = self._between
        return -1

    def _unquoted(self, data: bytes | bytearray) -> int:
        if self._step(_UNQUOTED_END.search(data, self.at), data) >= 0:
            self.state = self._between
        return -1


class RawEnd:
    """Finds the end tag that ends raw text, by the script data states for a script; resumable like `TagEnd`."""

    __slots__ = ("at", "escape", "name")

    def __init__(self, name: str, at: int, *, script_states: bool = True) -> None:
        self.name = name
        self.at = at
        self.escape = 0 if name == "script" and script_states else -1

    def find(self, data: bytes | bytearray) -> int:
        """The position of the `<` of the end tag, or -1 when it is not there yet."""
        if self.escape < 0:
            found = _RAW_END[self.name].search(data, self.at)
            if found:
                return found.start()
        else:
            end = self._script(data)
            if end >= 0:
                return end
        self.at = max(self.at, len(data) - len(self.name) - 2)
        return -1

    def _script(self, data: bytes | bytearray) -> int:
        """Script data: plain (0), escaped by `<!--` (1), double escaped by a `<script` within that (2)."""
        while found := _SCRIPT[self.escape].search(data, self.at):
            self.at = found.end()
            byte = data[found.start() + 1]
            if byte == 0x21:
                self.escape = 1
                self.at -= 2  # its dashes may be those of the closing "-->"
            elif byte == 0x2D:
                self.escape = 0
            elif byte != 0x2F:
                self.escape = 2
            elif self.escape == 2:
                self.escape = 1
            else:
                return found.start()
        return -1


# -- Foreign content ---------------------------------------------------------------------------------------------

_VOID = frozenset(
    "area base basefont bgsound br col embed frame hr image img input keygen link meta param source track wbr".split()
)
_BREAKOUT = frozenset(
    "b big blockquote body br center code dd div dl dt em embed h1 h2 h3 h4 h5 h6 head hr i img li listing menu meta"
    " nobr ol p pre ruby s small span strong strike sub sup table tt u ul var".split()
)
_INTEGRATION = {"s": frozenset({"foreignobject", "desc", "title"}), "m": frozenset("mi mo mn ms mtext".split())}
_IMPLIED = frozenset("p li dd dt option optgroup rb rp rt rtc".split())
_CELLS = frozenset("caption col colgroup tbody td tfoot th thead tr table".split())
_FORMATTING = frozenset("a b big code em font i nobr s small strike strong tt u".split())


class Foreign:
    """Whether the parser is inside SVG or MathML, followed only as far as that question needs (13.2.6.5).

    `stack` holds what is open since the outermost `<svg>` or `<math>`, each with its namespace: s, m, or h for HTML
    at an integration point. Markup that nests badly there, and the few contexts in which browsers of different
    ages disagree, make it `unsure`; then the rewriter has to be right both ways.
    """

    __slots__ = ("stack", "unsure")

    def __init__(self, stack: list[tuple[str, str]] | None = None, *, unsure: bool = False) -> None:
        self.stack = stack or []
        self.unsure = unsure

    def copy(self) -> Foreign:
        return Foreign(self.stack[:], unsure=self.unsure)

    @property
    def markup(self) -> bool:
        """Whether a start tag now becomes an SVG or MathML element."""
        if not self.stack:
            return False
        name, space = self.stack[-1]
        return space != "h" and name not in _INTEGRATION[space]

    @property
    def character_data(self) -> bool:
        """Whether `<![CDATA[` opens character data now: the current node is not HTML."""
        return bool(self.stack) and self.stack[-1][1] != "h"

    def give_up(self) -> None:
        self.stack.clear()
        self.unsure = True

    def start(self, name: str, *, self_closing: bool, attributes: frozenset[str] = frozenset()) -> bool:
        """A start tag was read. Gives whether it became an element inside SVG or MathML, where no text is raw."""
        stack = self.stack
        if self.markup:
            space = stack[-1][1]
            if stack[-1][0] == "annotation-xml" and space == "m":
                self.give_up()
                return False
            if name not in _BREAKOUT and (name != "font" or not attributes & {"color", "face", "size"}):
                if not self_closing:
                    stack.append((name, space))
                return True
            while self.markup:
                stack.pop()
        if name in ("svg", "math"):
            if not self_closing:
                stack.append((name, name[0]))
        elif stack:
            self._start_html(name)
        return False

    def _start_html(self, name: str) -> None:
        stack = self.stack
        if stack[-1][1] == "m" and name in ("mglyph", "malignmark"):
            self.give_up()
        elif name in _CELLS and name != "table" and ("table", "h") not in stack:
            self.give_up()
        elif name not in _VOID:
            if name in _IMPLIED and stack[-1] == (name, "h"):
                stack.pop()
            stack.append((name, "h"))

    def end(self, name: str) -> None:
        """An end tag was read."""
        stack = self.stack
        if not stack:
            return
        if stack[-1][0] == name:
            stack.pop()
        elif stack[-1][1] == "h":
            self._end_html(name)
        else:
            self._end_foreign(name)

    def _end_html(self, name: str) -> None:
        """An end tag that is not the innermost element's: certain only where all it closes are elements like `<p>`."""
        stack = self.stack
        at = len(stack) - 1
        while stack[at][1] == "h" and stack[at][0] in _IMPLIED and stack[at][0] != name:
            at -= 1
        if stack[at] == (name, "h") and name not in _FORMATTING:
            del stack[at:]
        else:
            self.give_up()

    def _end_foreign(self, name: str) -> None:
        stack = self.stack  # `</p>` and `</br>` break out, but did not always: they match nothing here, and give up
        at = len(stack) - 1
        while at >= 0 and stack[at][1] != "h" and stack[at][0] != name:
            at -= 1
        if at >= 0 and stack[at][0] == name and stack[at][1] != "h":
            del stack[at:]
        else:
            self.give_up()
