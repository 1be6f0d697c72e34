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
from collections.abc import Callable
from typing import NamedTuple, cast

from consentkit.gate.urls import unescape_attribute

WS = rb"\t\n\f\r "
_END = rb"(?=[" + WS + rb"/>])"


def words(text: str) -> frozenset[str]:
    """The words of `text`."""
    return frozenset(text.split())


def _any_case(names: str) -> bytes:
    """One of the names in any case, branching letter by letter so that `re` gives up at the first wrong one."""
    heads: dict[str, list[str]] = {}
    for name in names.split():
        heads.setdefault(name[0], []).append(name[1:])
    branches = []
    for head, tails in heads.items():
        letter = f"[{head}{head.upper()}]" if head.isalpha() else re.escape(head)
        rest = _any_case(" ".join(filter(None, tails))) if any(tails) else b""
        branches.append(letter.encode() + (b"(?:%s)?+" % rest if rest and "" in tails else rest))
    return b"(?:%s)" % b"|".join(branches)


def _many(item: bytes) -> bytes:
    return b"(?>(?:" + item + b")*)"


# A tag, exactly.
_VALUE = rb"""(?:"[^"]*+"|'[^']*+'|[^\t\n\f\r >"'][^\t\n\f\r >]*+|(?=>))"""
_AFTER_NAME = rb"""(?:="[^"]*+"|[\t\n\f\r ]*+(?:=[\t\n\f\r ]*+""" + _VALUE + rb"|(?!=)))"
_ATTRIBUTE = rb"[^\t\n\f\r />][^\t\n\f\r />=]*+" + _AFTER_NAME
_REST = _many(rb"[\t\n\f\r /]*+" + _ATTRIBUTE) + rb"[\t\n\f\r /]*+>"
_NAME = rb"[a-zA-Z][^\t\n\f\r />]*+"
_TAG = rb"(?:<(/?)(" + _NAME + rb")" + _REST + rb")?"

# What is no tag.
_COMMENT = rb"!--(?:>|->|" + _many(rb"[^-]++|-(?!-!?>)") + rb"--!?>)"
_LITERAL = rb"(?=[^a-zA-Z/!?])"
_BOGUS_END = rb"/(?:>|[^a-zA-Z>][^>]*+>)"
_PI = rb"\?[^>]*+>"

# A tag of which nothing can load from elsewhere. It may be a narrower expression than the truth (a tag without white
# space between its attributes is not "plain"), never a wider one.
#
# URLs that stay on the site whatever it is called: they begin like a path, never like a scheme or a host.
_HOME = rb"(?:/(?=[A-Za-z0-9_.~%-])|[A-Za-z0-9_.-]++(?=[/?#])|[?#]|data:)"
_HOME_URL = (
    rb"""(?:"(?:""" + _HOME + rb"""[^"]*+|[A-Za-z0-9_.-]*+)"|'(?:""" + _HOME + rb"""[^']*+|[A-Za-z0-9_.-]*+)')"""
)
_HOME_SET = rb'"' + _many(rb"[A-Za-z0-9_.,~%?=#@+ \n\t()!;-]++|/(?!/)|&amp;") + rb'"'
# A style of which nothing can load: every URL in it would need a "(" after a name that ends in one of five letters.
_STYLE_VALUE = _many(
    rb'[^"(\\&]++|\((?:(?<![lLcCtTeE]\()|(?<=calc\()|(?<=hsl\()|(?<=rotate\()|(?<=scale\()|(?<=translate\())'
)
_TELLING = (
    b"(?:"
    + _any_case("src srcset poster background ping http-equiv style")
    + rb"(?=[\t\n\f\r />=])|"
    + _any_case(
        "data-consent data-cookie data-category data-c15t data-cmplz data-name data-uc- data-usercentrics data-su"
        " data-src-cmplz data-srcset-cmplz data-ot-ignore suppressedsrc uc-"
        " onload onerror onpageshow ontoggle onbegin oncanplay onplay onended ontimeupdate onprogress"
        " onsuspend onstalled onwaiting ondurationchange onanimation ontransition onfocus onresize onscroll"
    )
    + b")"
)
_MORE = rb"[^\t\n\f\r />=]*+"
# Attribute names that are none of those by their first letters alone; the commonest case, and much quicker.
_UNTELLING = (
    rb"(?:[^\t\n\f\r />sSpPbBhHdDoOuU]"
    rb"|[hH][^tT\t\n\f\r />=]"
    rb"|[oO][^nN\t\n\f\r />=]"
    rb"|[uU][^cC\t\n\f\r />=]"
    rb"|[sS][^rRtTuU\t\n\f\r />=]"
    rb"|[dD][aA][tT][aA]-(?:[^cCnNuUsSoO\t\n\f\r />=]|[sS](?![uU]|[rR][cC](?:[sS][eE][tT])?+-)|[nN](?![aA])"
    rb"|[oO](?![tT]-))"
    rb"|[pP][^oOiI\t\n\f\r />=]"
    rb"|[bBdD][^aA\t\n\f\r />=])"
) + _MORE
_PLAIN_REST = (
    _many(
        rb" "
        + _UNTELLING
        + rb"""="[^"]*+"| src="/(?=[A-Za-z0-9_.~%-])[^"]*+"| style=\""""
        + _STYLE_VALUE
        + rb"""\"|[\t\n\f\r /][\t\n\f\r /]*+(?:"""
        + _UNTELLING
        + _AFTER_NAME
        + rb"|(?!"
        + _TELLING
        + rb")"
        + _ATTRIBUTE
        + rb"|(?:src|poster)="
        + _HOME_URL
        + rb"|srcset="
        + _HOME_SET
        + rb'|style="'
        + _STYLE_VALUE
        + rb'"|[oO][nN][A-Za-z]++="[^"/\\&]*+")'
    )
    + rb"[\t\n\f\r /]*+>"
)

RAW_TEXT = "style title textarea xmp iframe noembed noframes"
_RETURNED = (
    RAW_TEXT + " script noscript plaintext link object embed svg math base template select frameset frame col iframe"
)
# Element names that are none of those by their first letters; and short ones, which what follows delimits.
_QUICK_NAME = (
    rb"(?:[adghjkqruvwyzADGHJKQRUVWYZ]|[b-pst-xB-PST-X][dghjknpqsuwyzDGHJKNPQSUWYZ0-9]|[tT][rRaA]|[lL][aAeE]"
    rb"|[fF][oOiI]|[iI][mM]|[nN][aA]|[bB][rRlL]|[oO][lL]|[sS][mM]|[sS][tT][rR]|[sS][eE][cC]|[mM][eE])[^\t\n\f\r />]*+"
)
_SHORT_NAME = rb"(?:[pPbBiI]|[lL][iI]|[eE][mM])"
_FAST_TAG = (
    rb"(?:" + _QUICK_NAME + rb"|(?!" + _any_case(_RETURNED) + _END + rb")" + _NAME + rb")(?:>|" + _PLAIN_REST + rb")"
)
_FAST_SHORT = _SHORT_NAME + rb"(?:>|" + _PLAIN_REST + rb")"
_FAST_END = (
    rb"/(?:(?:[ac-ru-zAC-RU-Z]|[sStT][^eE\t\n\f\r />]|[bB][^oO\t\n\f\r />])[^\t\n\f\r />]*+|(?!"
    + _any_case("template select body")
    + _END
    + rb")"
    + _NAME
    + rb")(?:>|"
    + _REST
    + rb")"
)

# A whole icon, and a whole list of options: nothing in them is read in another way, so neither need stop us.
_SHAPE = _any_case(
    "path g circle rect line polygon polyline ellipse defs use symbol lineargradient radialgradient stop clippath mask"
    " text tspan"
)
_HERE = rb'(?:xlink:)?href="(?:#|/(?=[A-Za-z0-9_.~%-]))[^"]*+"'
_DRAWN_WITH = _any_case("clip-path cursor fill filter marker-end marker-mid marker-start mask stroke")
# Attributes of which nothing loads, by their first letters alone: most of what an icon has.
_GEOMETRY = rb'(?:[aegijklnqrtvwyzAEGIJKLNQRTVWYZ][^\t\n\f\r />=]*+|d|x|cx|cy|height)="[^"]*+"'
_SHAPE_REST = (
    _many(
        rb" "
        + _GEOMETRY
        + rb"|[\t\n\f\r /][\t\n\f\r /]*+(?:(?!(?:(?:[xX][lL][iI][nN][kK]:)?+[hH][rR][eE][fF]|"
        + _DRAWN_WITH
        + rb")(?=[\t\n\f\r />=])|"
        + _TELLING
        + rb")"
        + _ATTRIBUTE
        + rb"|"
        + _HERE
        + rb"|"
        + _DRAWN_WITH
        + rb'="[^"/\\&:]*+"|style="'
        + _STYLE_VALUE
        + rb'")'
    )
    + rb"[\t\n\f\r /]*+>"
)
_ICON = (
    rb"[sS][vV][gG]"
    + _SHAPE_REST
    + rb"(?<!/>)"
    + _many(rb"[^<]*+<(?:/" + _SHAPE + rb">|" + _SHAPE + _SHAPE_REST + rb"|title>[^<]*+</title>|desc>[^<]*+</desc>)")
    + rb"[^<]*+</[sS][vV][gG]>"
)
_OPTION = _any_case("option optgroup hr")
_OPTIONS = (
    rb"[sS][eE][lL][eE][cC][tT]"
    + _PLAIN_REST
    + _many(rb"[^<]*+<(?:/" + _OPTION + rb">|" + _OPTION + _PLAIN_REST + rb")")
    + rb"[^<]*+</[sS][eE][lL][eE][cC][tT]>"
)

# A stylesheet or icon, and a whole script, of the site itself; and a whole island of data.
_THERE = rb"""(?:"/(?=[A-Za-z0-9_.~%-])[^"]*+"|'/(?=[A-Za-z0-9_.~%-])[^']*+')"""
_OWN_LINK = (
    rb"[lL][iI][nN][kK]"
    + _many(
        rb"[\t\n\f\r /][\t\n\f\r /]*+(?:(?!"
        + _any_case("href imagesrcset")
        + rb"(?=[\t\n\f\r />=])|"
        + _TELLING
        + rb")"
        + _ATTRIBUTE
        + rb"|href="
        + _THERE
        + rb")"
    )
    + rb"[\t\n\f\r /]*+>"
)
_END_SCRIPT = rb"[^<]*+</[sS][cC][rR][iI][pP][tT]>"
_HARMLESS = _many(rb' (?:async|defer|nomodule|(?:type|id|nonce|crossorigin|integrity)="[^"]*+")')
_OWN_SCRIPT = rb"[sS][cC][rR][iI][pP][tT]" + _HARMLESS + rb" src=" + _THERE + _HARMLESS + rb">" + _END_SCRIPT
_ISLAND = rb'[sS][cC][rR][iI][pP][tT] type="application/(?:ld\+json|json)">' + _END_SCRIPT
_QUIET = _OWN_LINK + rb"|" + _OWN_SCRIPT + rb"|" + _ISLAND


def _eater(quiet: bytes) -> re.Pattern[bytes]:
    return re.compile(
        _many(
            rb"[^<]*+<(?:"
            + _FAST_END
            + rb"|"
            + _FAST_SHORT
            + rb"|"
            + _FAST_TAG
            + rb"|"
            + _ICON
            + rb"|"
            + _OPTIONS
            + rb"|"
            + quiet
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
        + rb"[^<]*+"
        + _TAG
    )


FAST = _eater(_QUIET)
"""Eats everything that can't matter in the body of a page; then gives the tag that stopped it, if it is whole."""

FIRST = _eater(_OWN_LINK + rb"|" + _ISLAND)
"""The same until the first script has come by, at which it stops."""

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

_META = rb"[mM][eE][tT][aA]" + _END + _PLAIN_REST
_IN_HEAD = (
    _META
    + rb"|"
    + _COMMENT
    + rb"|[tT][iI][tT][lL][eE]>[^<]*+</[tT][iI][tT][lL][eE]>|[hH][eE][aA][dD]>|!(?!--)[^>]*+>|/"
    + _any_case("title script style")
    + rb">"
)
_STYLE = (
    rb"[sS][tT][yY][lL][eE]>"
    + _many(rb"[^</\\hH]++|/(?![/\t])|[hH](?![tT\t])")
    + rb"</[sS][tT][yY][lL][eE]>|/[hH][eE][aA][dD]>"
)


def _only(items: bytes) -> re.Pattern[bytes]:
    return re.compile(_many(rb"[\t\n\f\r ]++|<(?:" + items + rb")") + _TAG)


PREAMBLE = _only(_META + rb"|" + _COMMENT)
"""For the head: eats white space, comments and plain `<meta>`, and stops at anything else."""

HEAD = _only(_IN_HEAD)
"""The same for what is known to be a document: eats a title and a doctype too."""

LATE_HEAD = _only(_IN_HEAD + rb"|" + _QUIET + rb"|" + _STYLE)
"""The same once the head has its place of ours: eats the site's own links, scripts, styles and data too."""

FIRST_HEAD = _only(_IN_HEAD + rb"|" + _OWN_LINK + rb"|" + _ISLAND + rb"|" + _STYLE)
"""The same until the first script has come by, at which it stops."""

Eat = Callable[[bytes | bytearray, int], re.Match[bytes]]
fast = cast(Eat, FAST.match)
careful = cast(Eat, CAREFUL.match)
preamble = cast(Eat, PREAMBLE.match)
head = cast(Eat, HEAD.match)
late_head = cast(Eat, LATE_HEAD.match)
first_head = cast(Eat, FIRST_HEAD.match)
first = cast(Eat, FIRST.match)
# They always match, if only nothing.

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
    if found is None or tag[found.end()] == 0x3E:
        return []
    return [
        Attribute(item.start(1), text(item[1].lower()), unescape_attribute(text(item[last])) if last > 1 else "")
        for item in ATTRIBUTE.finditer(tag, found.end())
        if (last := item.lastindex)
    ]


def name_end(tag: bytes) -> int:
    """Where the name of a start tag ends."""
    found = TAG_NAME.match(tag, 1)
    return found.end() if found else 1


def name_of(tag: bytes) -> str:
    """The name of a whole tag, in lower case."""
    found = TAG_NAME.search(tag)
    return text(found[0].lower()) if found else ""


def self_closing(tag: bytes) -> bool:
    """Whether a whole tag ends in a slash of its own, not of an unquoted value."""
    return tag[-2:] == b"/>" and (end := TagEnd(1)).find(tag) > 0 and end.slash


def text(data: bytes) -> str:
    """Bytes as text: UTF-8, what isn't UTF-8 replaced. Nothing that decides a host lies outside ASCII otherwise."""
    found = data.decode("utf-8", "replace")
    return found.replace("\0", "\N{REPLACEMENT CHARACTER}") if "\0" in found else found


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
                self.at = found.start()
                return self.at
        return -1


# -- Foreign content ---------------------------------------------------------------------------------------------

_VOID = words(
    "area base basefont bgsound br col embed frame hr image img input keygen link meta param source track wbr"
)
_BREAKOUT = words(
    "b big blockquote body br center code dd div dl dt em embed h1 h2 h3 h4 h5 h6 head hr i img li listing menu meta"
    " nobr ol p pre ruby s small span strong strike sub sup table tt u ul var"
)
_INTEGRATION = {"s": frozenset({"foreignobject", "desc", "title"}), "m": words("mi mo mn ms mtext")}
_IMPLIED = words("p li dd dt option optgroup rb rp rt rtc")
_CELLS = words("caption col colgroup tbody td tfoot th thead tr")
_DEEPEST = 512
_GLYPHS = words("mglyph malignmark")
_FORMATTING = words("a b big code em font i nobr s small strike strong tt u")


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
        if len(stack) > _DEEPEST:
            self.give_up()
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
        if (stack[-1][1] == "m" and name in _GLYPHS) or (name in _CELLS and ("table", "h") not in stack):
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
