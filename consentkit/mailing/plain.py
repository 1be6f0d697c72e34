"""The plain text of an HTML mail, for who reads without HTML: headings, lists, tables, and every link with its address.

Words that stand for holes of a template pass as they are. A statement's word adds no space of its own, so that the
text comes out right whether what it holds is there or not.
"""

from __future__ import annotations

import re
import textwrap
from dataclasses import dataclass, field
from html.parser import HTMLParser
from typing import Final

WIDTH: Final = 76

_BREAKS: Final = frozenset(
    (
        *("address", "article", "aside", "blockquote", "body", "caption", "center", "dd", "div", "dl", "dt"),
        *("fieldset", "figcaption", "figure", "footer", "form", "h1", "h2", "h3", "h4", "h5", "h6", "header", "hr"),
        *("li", "main", "nav", "ol", "p", "pre", "section", "table", "tbody", "td", "tfoot", "th", "thead", "tr"),
        *("ul",),
    )
)
_UNSEEN: Final = frozenset(["head", "noscript", "object", "script", "style", "svg", "template", "title"])
_VOID: Final = frozenset(["area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta", "source", "wbr"])
_HIDDEN = re.compile(r"display\s*:\s*none|mso-hide\s*:\s*all|visibility\s*:\s*hidden", re.IGNORECASE)
_SPACE = re.compile(r"[ \t\r\n\f\xa0\u200b\u200c\u034f]+")
_VERBATIM: Final = "\x1f"
"""Begins a line whose spaces count; no document holds it, and it counts as space."""


@dataclass(slots=True)
class _List:
    ordered: bool
    count: int = 0


@dataclass(slots=True)
class _Table:
    rows: bool
    """Whether it holds data in rows; else it only places things on the page."""
    cells: list[str] = field(default_factory=list)
    in_row: bool = False


def plain(html: str, *, statement: re.Pattern[str], alone: str = "") -> str:
    """The text of a document.

    Args:
        html: the document. statement: matches a comment that holds a statement's word, which is its first group.
        alone: a word that is a paragraph of its own.
    """
    tables = _Tables()
    tables.feed(html)
    tables.close()
    writer = _Writer(statement, alone, tables.found)
    writer.feed(html)
    writer.close()
    writer.end()
    return re.sub(r"\n{3,}", "\n\n", "".join(writer.out)).strip("\n")


class _Tables(HTMLParser):
    """Which tables, in their order, have a head of their own."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[bool] = []
        self._open: list[int] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "table":
            self._open.append(len(self.found))
            self.found.append(False)
        elif tag == "th" and self._open:
            self.found[self._open[-1]] = True

    def handle_endtag(self, tag: str) -> None:
        if tag == "table" and self._open:
            self._open.pop()


class _Writer(HTMLParser):
    def __init__(self, statement: re.Pattern[str], alone: str, tables: list[bool]) -> None:
        super().__init__()
        self.out: list[str] = []
        self._statement = statement
        self._alone = alone
        self._tables = iter(tables)
        self._line: list[str] = []
        self._lists: list[_List] = []
        self._table: list[_Table] = []
        self._links: list[tuple[str, int]] = []
        self._bullet = ""
        self._quotes = 0
        self._pre = 0
        self._skip: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attrs}
        if self._skip:
            if tag == self._skip[-1]:
                self._skip.append(tag)
            return
        if tag in _UNSEEN or "hidden" in values or _HIDDEN.search(values.get("style", "")):
            if tag not in _VOID:
                self._skip.append(tag)
            return
        if tag in _BREAKS:
            self._end_block(tag)
        match tag:
            case "br":
                self._line.append("\n")
            case "hr":
                self.out.append("-" * 40 + "\n\n")
            case "img":
                if alt := _SPACE.sub(" ", values.get("alt", "")).strip():
                    self._line.append(alt if self._links else f"[{alt}]")
            case "a":
                self._links.append((values.get("href", "").strip(), len(self._line)))
            case "ul" | "ol":
                self._lists.append(_List(tag == "ol"))
            case "li":
                self._start_item()
            case "blockquote":
                self._quotes += 1
            case "pre":
                self._pre += 1
                self._line.append(_VERBATIM)
            case "tr" if self._table:
                self._table[-1].in_row = True
            case "table":
                self._table.append(_Table(next(self._tables, False)))

    def handle_endtag(self, tag: str) -> None:
        if self._skip:
            if tag == self._skip[-1]:
                self._skip.pop()
            return
        if tag == "a":
            self._end_link()
            return
        if tag in _BREAKS:
            self._end_block(tag)
        match tag:
            case "ul" | "ol" if self._lists:
                self._lists.pop()
                if not self._lists:
                    self.out.append("\n")
            case "blockquote":
                self._quotes = max(0, self._quotes - 1)
            case "pre":
                self._pre = max(0, self._pre - 1)
            case "tr" if self._table and self._table[-1].rows:
                self._end_row()
            case "table" if self._table:
                if self._table.pop().rows:
                    self.out.append("\n")

    def handle_data(self, data: str) -> None:
        if not self._skip:
            self._line.append(data.replace("\n", f"\n{_VERBATIM}") if self._pre else _SPACE.sub(" ", data))

    def handle_comment(self, data: str) -> None:
        found = self._statement.fullmatch(f"<!--{data}-->")
        if found is None or self._skip:
            return
        if found[1] == self._alone:
            self._end_block("p")
            self.out.append(f"{found[1]}\n\n")
        elif self._written() or (self._table and self._table[-1].rows and self._table[-1].in_row):
            self._line.append(found[1])
        else:
            self.out.append(found[1])
            if self._lists:
                self._lists[-1].ordered = False  # how often it comes round is not known here

    def _written(self) -> bool:
        return any(not piece.isspace() for piece in self._line)

    def _start_item(self) -> None:
        if not self._lists:
            self._bullet = "- "
            return
        inner = self._lists[-1]
        inner.count += 1
        self._bullet = f"{inner.count}. " if inner.ordered else "- "

    def _end_link(self) -> None:
        if not self._links:
            return
        href, since = self._links.pop()
        text = _SPACE.sub(" ", "".join(self._line[since:])).strip()
        address = re.sub(r"^(?:mailto|tel):", "", href).partition("?")[0] if href[:6] in ("mailto", "tel:") else href
        if not href or href.startswith("#") or address in text:
            return
        self._line.append(f" ({address})" if text else address)

    def _end_block(self, tag: str) -> None:
        """What was gathered becomes a paragraph; within a row of a table it becomes part of its cell."""
        table = self._table[-1] if self._table else None
        if table is not None and table.rows and tag != "caption":
            if tag in ("td", "th"):
                cell = _SPACE.sub(" ", "".join(self._line)).strip()
                if cell:
                    table.cells.append(cell)
                self._line = []
            elif table.in_row and tag not in ("table", "tr"):
                self._line.append(" ")
            return
        text, self._line = "".join(self._line), []
        self._links = [(href, 0) for href, _ in self._links]
        if not text.isspace() and text:
            self.out.append(self._wrapped(text) + ("\n" if self._lists else "\n\n"))

    def _end_row(self) -> None:
        table = self._table[-1]
        rest = "".join(self._line).strip()
        if table.cells or rest:
            self.out.append(" | ".join(table.cells) + rest + "\n")
        table.cells, table.in_row, self._line = [], False, []

    def _wrapped(self, text: str) -> str:
        bullet, self._bullet = self._bullet, ""
        quote = "> " * self._quotes
        indent = quote + "  " * max(0, len(self._lists) - 1)
        further = indent + " " * (len(bullet) or (2 if self._lists else 0))
        first = indent + bullet if bullet else further
        lines: list[str] = []
        for line in text.strip(" \n").split("\n"):
            if line.startswith(_VERBATIM):
                lines.append((further if lines else first) + line[1:].rstrip())
                continue
            words = " ".join(line.split())
            lines += textwrap.wrap(
                words,
                WIDTH,
                initial_indent=first if not lines else further,
                subsequent_indent=further,
                break_long_words=False,
                break_on_hyphens=False,
            ) or [further.rstrip()]
        return "\n".join(lines)

    def end(self) -> None:
        """What is left."""
        self._end_block("p")
