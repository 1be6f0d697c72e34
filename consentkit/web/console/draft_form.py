"""The form in which a mailing is written: what was typed, also where it makes no sense, and what it becomes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, Literal, cast

from consentkit.errors import MailingError
from consentkit.mailing import File, Kept, Problem, Sketch
from consentkit.render import Texts
from consentkit.web.console.ask import Sent, Upload
from consentkit.web.console.trial import said

MARKUPS: Final = ("md", "html", "mjml")
ROWS: Final = 40
"""So many fields, and so many filters, one form takes."""

_SPARE: Final = 2
_MB: Final = 1024 * 1024
_SHORT: Final = ("list", "subject", "preheader", "sender", "reply_to", "language")
_PLACES: Final[Mapping[str, str]] = {"html": "body", "mailing.txt": "text", "defaults": "fields"}
"""Where in the form a problem is shown whose place is called otherwise."""


@dataclass(frozen=True, slots=True)
class FieldRow:
    """A field of the readers. `needed`: who lacks it gets no mail; else they read `default`."""

    name: str = ""
    default: str = ""
    needed: bool = False


@dataclass(frozen=True, slots=True)
class FilterRow:
    """Only readers with one of these values, one a line."""

    name: str = ""
    values: str = ""


@dataclass(frozen=True, slots=True)
class Typed:
    """What stands in the form.

    Args:
        sketch: all but the fields and filters, which stand in rows. remove: names of files to take away.
        to: where a test goes. reader: the address of whom to look as.
    """

    sketch: Sketch
    fields: Sequence[FieldRow] = ()
    filters: Sequence[FilterRow] = ()
    remove: tuple[str, ...] = ()
    to: str = ""
    reader: str = ""

    @classmethod
    def of(cls, sketch: Sketch) -> Typed:
        """A draft as the form shows it."""
        fields = [
            FieldRow(name, sketch.defaults.get(name, ""), name not in sketch.defaults)
            for name in dict.fromkeys((*sketch.fields, *sketch.defaults))
        ]
        filters = [FilterRow(name, "\n".join(values)) for name, values in sketch.where.items()]
        return cls(sketch, fields, filters)

    @classmethod
    def read(cls, sent: Sent) -> Typed:
        """What was sent."""
        numbers = [str(number) for number in range(1, ROWS + 1)]
        fields = [
            FieldRow(sent.text(f"field_{n}"), sent.text(f"default_{n}"), sent.has(f"needed_{n}")) for n in numbers
        ]
        filters = [FilterRow(sent.text(f"where_{n}"), sent.raw(f"values_{n}").strip()) for n in numbers]
        markup = sent.text("markup")
        given: dict[str, Any] = {name: sent.text(name) for name in _SHORT}
        sketch = Sketch(
            **given,
            markup=cast("Literal['html', 'md', 'mjml']", markup if markup in MARKUPS else "html"),
            body=sent.raw("body"),
            text=sent.raw("text"),
            purpose="service" if sent.text("purpose") == "service" else "marketing",
            measured=sent.has("measured"),
        )
        return cls(
            sketch,
            [row for row in fields if row.name or row.default],
            [row for row in filters if row.name or row.values],
            sent.all("remove"),
            sent.raw("to").strip(),
            sent.text("reader"),
        )

    @property
    def whole(self) -> Sketch:
        """The draft with its fields and filters."""
        where: dict[str, tuple[str, ...]] = {}
        for row in self.filters:
            values = tuple(line.strip() for line in row.values.split("\n") if line.strip())
            where[row.name] = (*where.get(row.name, ()), *values)
        return replace(
            self.sketch,
            fields=tuple(dict.fromkeys(row.name for row in self.fields)),
            defaults={row.name: row.default for row in self.fields if not row.needed},
            where=where,
        )

    @property
    def field_rows(self) -> Sequence[FieldRow]:
        """The rows of the form, with some to fill in."""
        return [*self.fields, *[FieldRow()] * _SPARE]

    @property
    def filter_rows(self) -> Sequence[FilterRow]:
        """The rows of the form, with one to fill in."""
        return [*self.filters, FilterRow()]

    def sent(self) -> list[tuple[str, str]]:
        """All of it as hidden fields of a form that sends it again."""
        sketch = self.sketch
        pairs = [(name, getattr(sketch, name)) for name in (*_SHORT, "markup", "body", "text", "purpose")]
        for n, row in enumerate(self.fields, 1):
            pairs += [(f"field_{n}", row.name), (f"default_{n}", row.default)]
            pairs += [(f"needed_{n}", "yes")] if row.needed else []
        for n, filter in enumerate(self.filters, 1):
            pairs += [(f"where_{n}", filter.name), (f"values_{n}", filter.values)]
        pairs += [("measured", "yes")] if sketch.measured else []
        return [*pairs, *(("remove", name) for name in self.remove)]


def files_of(uploads: Iterable[tuple[str, Upload]], most_mb: int) -> list[File]:
    """The attachments and images that were sent. Blocks: call it in a thread.

    Raises:
        MailingError: one is too large, empty, or no image where it should be one; with every problem.
    """
    files, problems = [], []
    for name, upload in uploads:
        if name not in ("attachments", "images") or not upload.name:
            continue
        if upload.size > most_mb * _MB:
            problems.append(Problem("files", "files_large", size=f"{upload.size / _MB:.1f}", most=most_mb))
        elif not upload.size:
            problems.append(Problem("files", "file_empty", name=upload.name))
        else:
            upload.file.seek(0)
            try:
                files.append(File.of(upload.name, upload.file.read(), inline=name == "images"))
            except MailingError as error:
                problems += [one.at("files") for one in error.problems if isinstance(one, Problem)]
    if problems:
        raise MailingError([*problems])
    return files


class Errors(dict[str, str]):
    """What is wrong, by the field of the form at which it is shown; a field without an error has an empty one."""

    def __missing__(self, field: str) -> str:
        return ""


def errors_of(problems: Iterable[str], t: Texts) -> Errors:
    """Problems in words, by the field of the form at which each is shown; empty: at none."""
    found: dict[str, list[str]] = {}
    for problem in problems:
        place = problem.place if isinstance(problem, Problem) else ""
        place = "body" if place.startswith("mailing.") and place != "mailing.txt" else _PLACES.get(place, place)
        found.setdefault(place if place in _FIELDS else "", []).append(said(problem, t))
    return Errors({place: " ".join(dict.fromkeys(sentences)) for place, sentences in found.items()})


_FIELDS: Final = (
    *("list", "subject", "preheader", "body", "text", "purpose", "sender", "reply_to", "language", "fields", "where"),
    *("files", "to", "reader"),
)


Lines = Sequence[tuple[str, bool]]
"""Lines of a text, each with whether the other text lacks it."""


def differences(mine: Typed, theirs: Kept, t: Texts) -> list[tuple[str, Lines, Lines]]:
    """Each part of a draft that two people wrote differently: its name, and the lines of both."""
    ours, other = mine.whole, theirs.sketch
    found = []
    for name in (*_SHORT[:3], "markup", "body", "text", "purpose", *_SHORT[3:], "fields", "where", "measured"):
        one, two = _shown(ours, name, t), _shown(other, name, t)
        if one != two:
            found.append((name, _marked(one, two), _marked(two, one)))
    return found


def _shown(sketch: Sketch, name: str, t: Texts) -> str:
    if name == "fields":
        return "\n".join(f"{row.name}{'' if row.needed else f' = {row.default}'}" for row in Typed.of(sketch).fields)
    if name == "where":
        return "\n".join(f"{key} = {', '.join(values)}" for key, values in sketch.where.items())
    if name == "measured":
        return t("base.yes" if sketch.measured else "base.no")
    value = str(getattr(sketch, name))
    return t(f"drafts.{name}_{value}") if name in ("markup", "purpose") else value


def _marked(text: str, other: str) -> Lines:
    known = set(other.split("\n"))
    return [(line, line not in known) for line in text.split("\n")]
