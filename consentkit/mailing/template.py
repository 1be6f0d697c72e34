"""What an author wrote becomes two finished templates: an HTML document and its plain text, each with the footer.

Markdown and MJML are turned into HTML, styles are put on the elements that they are for, images are attached, links
are numbered where they are measured. All of that happens once a mailing. Every address in it is the same for everybody
but for the links to leave, to preferences and to stop measuring (ePrivacy 5(3): a link of one's own is tracking).
"""

from __future__ import annotations

import html as entities
import posixpath
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cache
from hashlib import sha256
from typing import TYPE_CHECKING, Final
from urllib.parse import unquote

from jinja2 import TemplateError
from markupsafe import Markup, escape

from consentkit.errors import MailingError
from consentkit.mailing import sandbox
from consentkit.mailing.plain import plain
from consentkit.mailing.problem import Problem
from consentkit.mailing.sandbox import Holes, html_sandbox, text_sandbox
from consentkit.render import Texts, load_texts
from consentkit.render.markup import compact, make_environment, make_text_environment
from consentkit.theme import Theme

if TYPE_CHECKING:
    from css_inline import CSSInliner
    from markdown_it import MarkdownIt

    from consentkit.mailing.source import Draft, File

IMAGES: Final = ("image/png", "image/jpeg", "image/gif", "image/webp")
"""What mail programs show."""

LEAVE: Final = "unsubscribe_url"
PREFERENCES: Final = "preferences_url"
QUIET: Final = "quiet_url"
PIXEL: Final = "_pixel"
CLICK: Final = "_click"
"""Followed by the number of a link."""

_LINKS: Final = (LEAVE, PREFERENCES, QUIET)
_CONSTANT: Final = frozenset(("subject", "preheader", "list_title", "site_name", "site_url", "year"))
RESERVED: Final = frozenset((*_CONSTANT, *_LINKS, "footer", "loop", "range", "language"))
"""Names that no field may have."""

_TEXT_FILE: Final = "mailing.txt"
_PIECE = re.compile(
    r"(?P<comment><!--.*?-->)"
    r"|(?P<sheet><(?:style|mj-style)\b.*?</(?:style|mj-style)\s*>)"
    r"|(?P<script><script\b.*?</script\s*>)"
    r"|(?P<title><(?P<_kind>title|textarea|mj-title|mj-preview)\b.*?</(?P=_kind)\s*>)"
    r"|(?P<tag></?[A-Za-z](?:[^>\"']|\"[^\"]*\"|'[^']*')*>)"
    r"|(?P<other><[!?][^>]*>)",
    re.DOTALL | re.IGNORECASE,
)
_ATTRIBUTE = re.compile(r"""([\s/]|(?<=["']))([^\s"'<>/=]+)(?:\s*=\s*("[^"]*"|'[^']*'|[^\s"'=<>`]+))?""")
_CSS_URL = re.compile(r"""url\(\s*(["']?)(.*?)\1\s*\)""", re.IGNORECASE)
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*):")
_SOURCES: Final = frozenset(("src", "background", "poster", "background-url", "srcset"))
_ADDRESSES: Final = _SOURCES | {"href", "action", "formaction", "xlink:href"}
_LEADS: Final = frozenset(("http", "https", "mailto", "tel", "sms"))
_WHOLE = re.compile(r"<(?:!doctype|html|head|body)\b", re.IGNORECASE)


@dataclass(frozen=True, slots=True, kw_only=True)
class About:
    """What is the same in every mail of a mailing, and that its author need not write.

    Args:
        site_name, site_url: of the site. controller, address: who sends it, and where a stop request can be posted
            (Tw 11.7(7)).
        list_title: in the language of the mailing. list_id: the value of `List-Id`, `Nieuwsbrief <nieuws.de.example>`.
        feedback_id: the value of `Feedback-ID`; empty for none.
        sender, reply_to: those of the list, `De Linde <nieuws@delinde.example>`; a draft's own go before them.
        language: of the mailing. texts: ours, in that language. year: what `{{ year }}` says.
        theme: the colours of the footer, and of a mail that brings none.
    """

    site_name: str
    site_url: str
    controller: str
    address: str
    list_title: str
    list_id: str
    sender: str
    language: str
    texts: Texts
    reply_to: str = ""
    feedback_id: str = ""
    year: int = field(default_factory=lambda: datetime.now(UTC).year)
    theme: Theme = field(default_factory=Theme)


@dataclass(frozen=True, slots=True)
class Composition:
    """The finished templates.

    Args:
        html, text: what is left to fill in are the fields, the links of each reader, and where measured `_pixel` and
            `_click0`, `_click1`, ….
        links: where the measured links lead, by number. images: those that the HTML shows, with their Content-ID.
        values: what is the same for everybody.
    """

    html: str
    text: str
    links: tuple[str, ...]
    images: tuple[tuple[File, str], ...]
    values: Mapping[str, object]


def compose(draft: Draft, about: About, *, measured: bool = False) -> Composition:
    """The finished templates of a mailing.

    Args:
        measured: whether these are for readers who agreed to be measured.

    Raises:
        MailingError: with every problem that could be found.
    """
    if measured and not draft.measured:
        raise MailingError(["measured: this mailing is not measured: write measured = true, or leave readers alone"])
    return _Composer(draft, about, measured=measured).compose()


def check(draft: Draft) -> None:
    """Whether the templates are sound, without knowing the site.

    Raises:
        MailingError: with every problem that could be found.
    """
    compose(draft, _anybody())


def images(draft: Draft) -> tuple[str, ...]:
    """The images that the HTML shows by a path of their own, as it writes them; none where it can't be read.

    Raises:
        MailingError: MJML is no MJML.
    """
    composer = _Composer(draft, _anybody(), measured=False)
    return () if composer.source_problems() else tuple(composer.pictures())


def line_of(source: str, text: str) -> int:
    """The first line of `source` in which `text` stands; 1 where it does not."""
    at = max(source.find(text), 0)
    return source.count("\n", 0, at) + 1


@cache
def _anybody() -> About:
    return About(
        site_name="De Linde",
        site_url="https://delinde.example",
        controller="De Linde",
        address="Lindelaan 1",
        list_title="Nieuwsbrief",
        list_id="Nieuwsbrief <nieuws.delinde.example>",
        sender="De Linde <nieuws@delinde.example>",
        language="nl",
        texts=load_texts("nl"),
    )


def _names(draft: Draft) -> tuple[frozenset[str], Mapping[str, str]]:
    """What the templates of a mailing may use, and what only others may, with the code of the problem."""
    known = {*_CONSTANT, PREFERENCES, *draft.fields}
    elsewhere: dict[str, str] = {}
    if draft.purpose == "marketing":
        known.add(LEAVE)
    else:
        elsewhere[LEAVE] = "name_leave"
    if draft.measured:
        known.add(QUIET)
    else:
        elsewhere[QUIET] = "name_quiet"
    return frozenset(known), elsewhere


class _Composer:
    """One mailing on its way; problems gather as long as it makes sense to look on."""

    def __init__(self, draft: Draft, about: About, *, measured: bool) -> None:
        self._draft = draft
        self._about = about
        self._measured = measured
        self._problems: list[Problem] = []
        self._holes = Holes(draft.html, draft.text, draft.subject, draft.preheader, *_texts_of(about))
        self._footer = self._holes.link("footer")
        self._links: list[str] = []
        self._images: dict[str, tuple[File, str]] = {}
        self._values: dict[str, object] = {
            "subject": draft.subject,
            "preheader": draft.preheader,
            "list_title": about.list_title,
            "site_name": about.site_name,
            "site_url": about.site_url,
            "year": about.year,
        }

    def compose(self) -> Composition:
        self._problems += self.source_problems()
        self._stop()
        self._problems += self._trials()
        self._stop()
        html = self._document()
        written = self._own_text()
        self._stop()
        made = self._plain(html)
        text = self._with_text_footer(written or made)
        html = self._resolved(html)
        if self._measured:
            word = self._holes.link(PIXEL)
            pixel = f'<img src="{word}" width="1" height="1" alt="" style="display:block;border:0">'
            html = _before(html, "</body>", pixel)
        html = self._with_html_footer(html, made)
        self._stop()
        finished = self._holes.put_back(html), self._holes.put_back(text)
        self._finish(*finished)
        images = tuple(self._images.values())
        return Composition(*finished, links=tuple(self._links), images=images, values=self._values)

    def _stop(self) -> None:
        if self._problems:
            raise MailingError([*dict.fromkeys(self._problems)])

    def _at(self, line: int, code: str, **values: object) -> None:
        self._problems.append(Problem(self._draft.file, code, line, **values))

    # -- the sources --

    def source_problems(self) -> list[Problem]:
        names, elsewhere = _names(self._draft)
        found: list[Problem] = []
        for source, file in ((self._draft.html, self._draft.file), (self._draft.text, _TEXT_FILE)):
            found += sandbox.problems_of(source, file, names, whole=("footer",), elsewhere=elsewhere)
        return found

    def _trials(self) -> list[Problem]:
        draft, links = self._draft, {name: f"https://delinde.example/{name}" for name in _LINKS}
        found: list[Problem] = []
        for sample in ("Sanne", "1"):
            fields = {name: draft.defaults.get(name, sample) if sample == "1" else sample for name in draft.fields}
            values = {**self._values, **links, **fields, "footer": ""}
            found += sandbox.trial(draft.html, draft.file, values, html=True)
            found += sandbox.trial(draft.text, _TEXT_FILE, values, html=False)
        return found

    def _own_text(self) -> str:
        if not self._draft.text.strip():
            return ""
        text = self._holes.take_out(self._draft.text.strip())
        self._one_address_for_all(text, _TEXT_FILE)
        return text

    # -- HTML --

    def pictures(self) -> Iterator[str]:
        """Every image that is named by a path."""
        found: list[str] = []

        def note(url: str) -> str:
            if not _SCHEME.match(url) and url and not self._holes.words(url):
                found.append(url)
            return url

        self._each_source(self._converted(), note)
        yield from dict.fromkeys(found)

    def _document(self) -> str:
        """The document with styles on their elements, the preheader at its top, and the footer's word in its place."""
        draft, lang = self._draft, self._about.language
        html = self._converted()
        self._check(html)
        self._stop()
        if draft.markup == "md" or not _WHOLE.search(html):
            html = (
                make_environment()
                .get_template("mail/mailing.html")
                .render(
                    about=self._about,
                    subject=draft.subject,
                    content=Markup(html),  # noqa: S704  the author's own HTML
                    theme=self._about.theme,
                )
            )
        if draft.markup != "mjml":
            html = self._inlined(html)
        html = re.sub(r"(<html\b(?![^>]*\slang=))", rf'\1 lang="{lang}"', html, count=1)
        if draft.markup == "mjml":
            html = html.replace('lang="und"', f'lang="{lang}"')
        html = html if re.match(r"\s*<!doctype", html, re.IGNORECASE) else f"<!DOCTYPE html>{html}"
        html = re.sub(r"<title>\s*</title>", "", html)
        if "<title" not in html:
            html = _before(html, "</head>", f"<title>{escape(draft.subject)}</title>")
        if draft.preheader and not self._says("preheader"):
            hidden = "display:none;max-height:0;max-width:0;overflow:hidden;opacity:0;font-size:1px;mso-hide:all"
            html = _after(html, "body", f'<div style="{hidden}">{escape(draft.preheader)}</div>')
        html = re.sub(rf"<p[^>]*>\s*(<!--{self._footer}-->)\s*</p>", r"\1", html)
        return html if self._footer in html else _before(html, "</body>", f"<!--{self._footer}-->")

    def _converted(self) -> str:
        draft = self._draft
        source = self._named_footer(self._holes.take_out(draft.html))
        match draft.markup:
            case "md":
                html = self._from_markdown(source)
            case "mjml":
                html = self._from_mjml(self._commented(source))
            case _:
                html = self._commented(source)
                html = re.sub(r"(<table\b[^>]*>)(\s*(?:<!--\w+-->\s*)+)(?=<tr\b)", self._bodied, html)
        self._nothing_lost(source, html)
        return html

    def _named_footer(self, source: str) -> str:
        """The author's footer under the word that ours has."""
        for word in self._holes.words(source):
            if self._holes[word].is_just("footer"):
                source = source.replace(word, self._footer)
        return source

    def _says(self, name: str) -> bool:
        return any(
            self._holes[word].is_just(name) for word in self._holes.words(self._holes.take_out(self._draft.html))
        )

    def _stands_alone(self, word: str) -> bool:
        return word == self._footer or not self._holes[word].says

    def _commented(self, html: str) -> str:
        """Statements between elements become comments, which may stand anywhere, even between the rows of a table."""
        return "".join(self._comments(piece) if kind == "text" else piece for kind, piece in _pieces(html))

    def _comments(self, text: str) -> str:
        return self._holes.pattern.sub(lambda m: f"<!--{m[0]}-->" if self._stands_alone(m[0]) else m[0], text)

    def _bodied(self, found: re.Match[str]) -> str:
        """A parser would begin the body of a table behind a statement, inside of the loop."""
        return f"{found[1]}<tbody>{found[2]}" if self._holes.comment.search(found[2]) else found[0]

    def _nothing_lost(self, source: str, html: str) -> None:
        before, after = (
            [word for word in self._holes.words(text) if self._stands_alone(word)] for text in (source, html)
        )
        if before == after:
            return
        lost = next((word for word, other in zip(before, [*after, ""], strict=False) if word != other), before[-1])
        hole = self._holes[lost]
        self._at(hole.line or 1, "lost", source=hole.source)
        self._stop()

    def _from_markdown(self, source: str) -> str:
        alone = re.compile(rf"[ \t]*(?:{self._holes.pattern.pattern}[ \t]*)+")
        lines: list[str] = []
        for line in source.split("\n"):
            own = alone.fullmatch(line) and all(self._stands_alone(word) for word in self._holes.words(line))
            lines += ["", line.strip(), ""] if own else [line]
        html = str(_markdown().render("\n".join(lines)))
        paragraph = re.compile(rf"<p>((?:\s*{self._holes.pattern.pattern}\s*)+)</p>")

        def bare(found: re.Match[str]) -> str:
            words = self._holes.words(found[1])
            return found[1] if all(self._stands_alone(word) for word in words) else found[0]

        return self._commented(paragraph.sub(bare, html))

    def _from_mjml(self, source: str) -> str:
        try:
            from mjml import mjml2html  # noqa: PLC0415  # an extra
        except ImportError:
            raise MailingError([Problem(self._draft.file, "mjml_missing")]) from None
        for found in re.finditer(r"<(mj[a-z-]*)", source):
            line = line_of(self._draft.html, found[0])
            if found[1] == "mj-include":
                self._at(line, "mjml_include")
            elif found[1] not in _MJML:
                self._at(line, "mjml_unknown", name=found[1])
        self._stop()
        try:
            return str(mjml2html(source, fonts={}))
        except ValueError as error:
            told, _, position = str(error).partition(" at position ")
            at = int(position.partition(":")[0]) if position.partition(":")[0].isdecimal() else 0
            self._at(source.count("\n", 0, at) + 1, "mjml_broken", told=told.partition(" in root")[0])
            self._stop()
            raise

    def _inlined(self, html: str) -> str:
        from css_inline import InlineError  # noqa: PLC0415  # only who writes a mailing needs it

        try:
            return str(_inliner().inline(html))
        except InlineError as error:
            raise MailingError([Problem(self._draft.file, "styles", told=error)]) from None

    # -- what may stand where --

    def _check(self, html: str) -> None:
        for kind, piece in _pieces(html):
            words = self._holes.words(piece)
            if kind == "comment" and piece.startswith("<!--[if"):
                self._check(piece[4:-3])
            elif kind == "sheet":
                self._sheet(piece, words)
            elif kind == "script":
                self._at(self._line(piece, words), "script")
            elif kind == "tag":
                self._tag(piece, words)
            elif kind == "text":
                self._one_address_for_all(piece, self._draft.file)

    def _line(self, piece: str, words: list[str]) -> int:
        if lines := [self._holes[word].line for word in words if self._holes[word].line]:
            return lines[0]
        return line_of(self._draft.html, piece.partition("\n")[0])

    def _sheet(self, piece: str, words: list[str]) -> None:
        if words:
            self._at(self._line(piece, words), "sheet_values")
        if found := re.search("@import|@font-face", piece):
            self._at(line_of(self._draft.html, found[0]), "elsewhere")

    def _tag(self, tag: str, words: list[str]) -> None:
        if re.match(r"<link\b", tag, re.IGNORECASE) and "stylesheet" in tag.lower():
            self._at(line_of(self._draft.html, "stylesheet"), "elsewhere")
        if re.match(r"<script\b", tag, re.IGNORECASE):
            self._at(self._line(tag, words), "script")
        for found in _ATTRIBUTE.finditer(tag):
            if found[2].lower().startswith("on") or found[2].lower() == "srcdoc":
                self._at(self._line(tag, words), "script_attribute", name=found[2])
        if not words:
            return
        rest = tag
        for found in _ATTRIBUTE.finditer(tag):
            name, value = found[2].lower(), found[3] or ""
            inside = self._holes.words(value)
            if not inside:
                continue
            rest = rest.replace(found[0], "", 1)
            line = self._line(tag, inside)
            if value[0] not in "\"'":
                self._at(line, "no_quotes", name=name)
            elif name in _ADDRESSES:
                self._address(name, value[1:-1].strip(), inside, line)
            elif name == "style" and not self._same_for_all(inside):
                self._at(line, "attribute_same", name=name)
        if left := self._holes.words(rest):
            self._at(self._line(tag, left), "inside_tag", source=self._holes[left[0]].source)

    def _address(self, name: str, value: str, words: list[str], line: int) -> None:
        if value == words[0] and self._holes[value].is_just(*_LINKS) and name == "href":
            return
        if not self._same_for_all(words):
            self._at(line, "for_all")

    def _same_for_all(self, words: list[str]) -> bool:
        return all(self._holes[word].says and self._holes[word].names <= _CONSTANT for word in words)

    def _one_address_for_all(self, text: str, file: str) -> None:
        """An address in the text is one too: mail programs make a link of it."""
        text = self._holes.pattern.sub(lambda m: self._constant(m[0]) if self._same_for_all([m[0]]) else m[0], text)
        for found in re.finditer(r"https?://[^\s<>\"']*", text):
            words = [word for word in self._holes.words(found[0]) if self._holes[word].says]
            if words:
                self._problems.append(Problem(file, "for_all", self._holes[words[0]].line))

    # -- addresses --

    def _resolved(self, html: str) -> str:
        """The document with its images attached, and its links numbered where they are measured."""
        html = self._each_source(html, self._source)
        return self._each_tag(html, self._followed)

    def _each_tag(self, html: str, change: Callable[[str], str]) -> str:
        def changed(kind: str | None, piece: str) -> str:
            if kind == "comment" and piece.startswith("<!--[if"):
                return f"<!--{self._each_tag(piece[4:-3], change)}-->"
            return change(piece) if kind == "tag" and not piece.startswith("</") else piece

        return "".join(changed(kind, piece) for kind, piece in _pieces(html))

    def _each_source(self, html: str, change: Callable[[str], str]) -> str:
        """The document with each address of an image changed."""

        def in_css(text: str) -> str:
            return _CSS_URL.sub(lambda found: f"url({found[1]}{change(found[2])}{found[1]})", text)

        def in_tag(tag: str) -> str:
            return _ATTRIBUTE.sub(attribute, tag)

        def attribute(found: re.Match[str]) -> str:
            name = found[2].lower()
            if not found[3] or (name not in _SOURCES and name != "style"):
                return found[0]
            value = entities.unescape(_bare(found[3]))
            if name == "srcset":
                parts = [part.split() for part in value.split(",") if part.strip()]
                after = ", ".join(" ".join([change(part[0]), *part[1:]]) for part in parts)
            else:
                after = in_css(value) if name == "style" else change(value.strip())
            return found[0] if after == value else f'{found[1]}{found[2]}="{escape(after)}"'

        whole = self._each_tag(html, in_tag)
        return "".join(in_css(piece) if kind == "sheet" else piece for kind, piece in _pieces(whole))

    def _constant(self, value: str) -> str:
        """A value with what is the same for everybody put in."""

        def said(found: re.Match[str]) -> str:
            return text_sandbox().from_string(self._holes[found[0]].source).render(self._values)

        return self._holes.pattern.sub(said, value)

    def _source(self, url: str) -> str:
        found = self._constant(url)
        scheme = (_SCHEME.match(found) or ("", ""))[1].lower()
        if scheme in ("http", "https"):
            return found
        line = line_of(self._draft.html, url)
        if scheme == "cid":
            return found
        if scheme or found.startswith("//") or not found:
            self._at(line, "image_scheme")
            return found
        name = posixpath.normpath(unquote(found))
        if name not in self._images:
            file = next((each for each in self._draft.files if each.inline and each.name == name), None)
            if file is None:
                self._at(line, "image_missing", name=found)
                return found
            self._images[name] = file, f"{len(self._images)}.{sha256(file.data).hexdigest()[:16]}@consentkit"
        return f"cid:{self._images[name][1]}"

    def _followed(self, tag: str) -> str:
        if re.match(r"<(?:link|base)\b", tag, re.IGNORECASE):
            return tag
        return _ATTRIBUTE.sub(self._link, tag)

    def _link(self, found: re.Match[str]) -> str:
        if found[2].lower() not in ("href", "xlink:href") or not found[3]:
            return found[0]
        value = entities.unescape(_bare(found[3])).strip()
        words = self._holes.words(value)
        if words and value == words[0] and self._holes[value].is_just(*_LINKS):
            return found[0]
        url = self._constant(value)
        scheme, line = (_SCHEME.match(url) or ("", ""))[1].lower(), line_of(self._draft.html, value)
        if scheme not in _LEADS and not url.startswith("#"):
            self._at(line, "link_nowhere", url=url)
        elif re.search(r"[\s\x00-\x1f\x7f]", url):
            self._at(line, "link_space")
        elif self._measured and scheme in ("http", "https"):
            if url not in self._links:
                self._links.append(url)
            return f'{found[1]}{found[2]}="{self._holes.link(f"{CLICK}{self._links.index(url)}")}"'
        return f'{found[1]}{found[2]}="{escape(url)}"' if words else found[0]

    # -- text and footer --

    def _plain(self, html: str) -> str:
        return plain(html, statement=self._holes.comment, alone=self._footer)

    def _placed(self, text: str) -> set[str]:
        """The links that a text always shows."""
        holes = (self._holes[word] for word in self._holes.words(text))
        return {hole.source[2:-2].strip() for hole in holes if hole.always and hole.is_just(*_LINKS)}

    def _clickable(self, html: str) -> set[str]:
        """The links that a document always has."""
        found: set[str] = set()
        for kind, piece in _pieces(html):
            if kind == "tag" and re.match(r"<a\b", piece, re.IGNORECASE):
                found |= self._placed(piece)
        return found

    def _foot(self, suffix: str, placed: set[str]) -> str:
        """The footer, but for the links that are placed already."""
        shown = [LEAVE] if self._draft.purpose == "marketing" else []
        shown += [PREFERENCES, QUIET] if self._measured else [PREFERENCES]
        environment = make_environment() if suffix == "html" else make_text_environment()
        made = environment.get_template(f"mail/mailing_footer.{suffix}").render(
            t=self._about.texts,
            about=self._about,
            colours=self._about.theme.light,
            service=self._draft.purpose == "service",
            measured=self._measured,
            links=[(name, self._holes.link(name)) for name in shown if name not in placed],
        )
        return compact(made) if suffix == "html" else made.strip("\n")

    def _with_text_footer(self, text: str) -> str:
        text = self._named_footer(text)
        foot = self._foot("txt", self._placed(text))
        if self._footer in text:
            return text.replace(self._footer, foot)
        return f"{text}\n\n{foot}"

    def _with_html_footer(self, html: str, shown: str) -> str:
        foot = self._foot("html", self._clickable(html) & self._placed(shown))
        dark = self._about.theme.dark
        sheet = (
            f"@media (prefers-color-scheme:dark){{.consentkit-end{{background:{dark.background}!important;"
            f"color:{dark.text}!important}}.consentkit-end a{{color:{dark.link}!important}}}}"
        )
        html = _before(html, "</head>", f"<style>{sheet}</style>")
        return html.replace(f"<!--{self._footer}-->", foot)

    def _finish(self, html: str, text: str) -> None:
        try:
            html_sandbox().parse(html)
            text_sandbox().parse(text)
        except TemplateError:
            raise MailingError([Problem(self._draft.file, "text_unmade", file=_TEXT_FILE)]) from None


_MJML: Final = frozenset(
    (
        *("mjml", "mj-accordion", "mj-accordion-element", "mj-accordion-text", "mj-accordion-title", "mj-all"),
        *("mj-attributes", "mj-body", "mj-breakpoint", "mj-button", "mj-carousel", "mj-carousel-image", "mj-class"),
        *("mj-column", "mj-divider", "mj-font", "mj-group", "mj-head", "mj-hero", "mj-image", "mj-navbar"),
        *("mj-navbar-link", "mj-preview", "mj-raw", "mj-section", "mj-social", "mj-social-element", "mj-spacer"),
        *("mj-style", "mj-table", "mj-text", "mj-title", "mj-wrapper"),
    )
)


@cache
def _markdown() -> MarkdownIt:
    from markdown_it import MarkdownIt  # noqa: PLC0415

    return MarkdownIt("commonmark", {"html": False}).enable("table")


@cache
def _inliner() -> CSSInliner:
    from css_inline import CSSInliner  # noqa: PLC0415

    return CSSInliner(load_remote_stylesheets=False, keep_at_rules=True)


def _texts_of(about: About) -> Iterator[str]:
    """The texts of `about`."""
    for name in ("site_name", "site_url", "controller", "address", "list_title"):
        yield str(getattr(about, name))


def _pieces(html: str) -> Iterator[tuple[str | None, str]]:
    """A document in pieces: comments, stylesheets, scripts, titles, tags, and the text between them."""
    at = 0
    for found in _PIECE.finditer(html):
        if found.start() > at:
            yield "text", html[at : found.start()]
        kind = "title" if found.lastgroup == "_kind" else found.lastgroup
        yield kind, found[0]
        at = found.end()
    if at < len(html):
        yield "text", html[at:]


def _bare(value: str) -> str:
    return value[1:-1] if value[0] in "\"'" else value


def _before(html: str, mark: str, what: str) -> str:
    at = html.lower().rfind(mark)
    return f"{html[:at]}{what}{html[at:]}" if at >= 0 else html + what


def _after(html: str, tag: str, what: str) -> str:
    found = re.search(rf"<{tag}\b[^>]*>", html, re.IGNORECASE)
    return f"{html[: found.end()]}{what}{html[found.end() :]}" if found else what + html
