"""What was found: a note as data while it is looked for, a finding in words once it is told."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final, Literal

from consentkit.render import Texts

Level = Literal["error", "warning"]
_ORDER: Final[Mapping[Level, int]] = {"error": 0, "warning": 1}


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is not as it should be.

    Args:
        level: an error keeps the mailing from going out; a warning asks whether it should.
        code: a short name that stays the same in every release, `unsubscribe-missing`.
        where: `header From`, `html line 12`, `text line 3`.
        what, remedy: a sentence each, without an address or a token.
    """

    level: Level
    code: str
    where: str
    what: str
    remedy: str


@dataclass(frozen=True, slots=True)
class Place:
    """Where something was found; `kind` is the key of a text below `preflight.where`.

    Args:
        name: of the header, or in the DNS. line: counted from 1; 0 for the whole part.
    """

    kind: Literal["message", "line", "header", "html", "html_line", "text", "text_line", "dns"]
    name: str = ""
    line: int = 0


MESSAGE: Final = Place("message")


def header(name: str) -> Place:
    """A header."""
    return Place("header", name)


def html(line: int = 0) -> Place:
    """The HTML part, or a line of it."""
    return Place("html_line" if line else "html", line=line)


def text(line: int = 0) -> Place:
    """The plain text, or a line of it."""
    return Place("text_line" if line else "text", line=line)


@dataclass(frozen=True, slots=True)
class Note:
    """A finding before it is put in words: `values` fill the places of its text."""

    level: Level
    code: str
    place: Place
    values: tuple[tuple[str, str], ...] = ()


def error(code: str, place: Place, **values: object) -> Note:
    """Something that keeps the mailing from going out."""
    return Note("error", code, place, tuple((name, str(value)) for name, value in values.items()))


def warning(code: str, place: Place, **values: object) -> Note:
    """Something to think about."""
    return Note("warning", code, place, tuple((name, str(value)) for name, value in values.items()))


def told(notes: Iterable[Note], texts: Texts) -> list[Finding]:
    """The notes in words, each once, the worst first."""
    once = sorted(dict.fromkeys(notes), key=lambda note: _ORDER[note.level])
    return [_told(note, texts) for note in once]


def _told(note: Note, texts: Texts) -> Finding:
    place, values = note.place, dict(note.values)
    where = texts(f"preflight.where.{place.kind}", name=place.name, line=place.line)
    key = f"preflight.{note.code}"
    return Finding(note.level, note.code, where, texts(f"{key}.what", **values), texts(f"{key}.remedy", **values))
