"""A mailing as somebody wrote it: a folder with `mailing.toml`, a template and images, or the same from a form.

Everything is checked here, before anything is stored: each problem names its file and line or its key, and what to
write instead.
"""

from __future__ import annotations

import json
import posixpath
import re
import tomllib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, fields
from difflib import get_close_matches
from email.utils import parseaddr
from mimetypes import MimeTypes
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, Literal, Self

from consentkit.address import Address
from consentkit.errors import AddressError, MailingError
from consentkit.mailing import template
from consentkit.mailing.problem import Problem

CONFIG: Final = "mailing.toml"
TEXT: Final = "mailing.txt"
TEMPLATES: Final = ("mailing.html", "mailing.mjml", "mailing.md")
ATTACHMENTS_MB: Final = 5

_MB: Final = 1024 * 1024
_KINDS: Final = MimeTypes(())
"""Python's own table: what is configured on a machine changes nothing."""

CONTROL: Final = re.compile(r"[\x00-\x1f\x7f\x85\u2028\u2029]")
"""What no header, and no name of a file, may hold."""

_FIELD = re.compile(r"[a-z][a-z0-9_]{0,39}\Z")
_LANGUAGE = re.compile(r"[A-Za-z]{2,8}(?:-[A-Za-z0-9]{1,8})*\Z")
_BEGINS: Final = {
    "image/png": b"\x89PNG\r\n\x1a\n",
    "image/jpeg": b"\xff\xd8\xff",
    "image/gif": b"GIF8",
    "image/webp": b"RIFF",
}
"""What the bytes of an image begin with."""

_BRACES = re.compile(r"\{[{%#]")


@dataclass(frozen=True, slots=True)
class File:
    """An attachment, or an image that the HTML shows.

    Args:
        name: of an attachment its name; of an image its path, as the HTML writes it.
        kind: `image/png`. inline: whether it is such an image. data: what it holds.
    """

    name: str
    kind: str
    inline: bool
    data: bytes = field(repr=False)

    @classmethod
    def of(cls, name: str, data: bytes, *, inline: bool) -> Self:
        """A file whose kind its name tells.

        Raises:
            MailingError: it should be an image, and is none that mail programs show.
        """
        kind = _KINDS.guess_type(posixpath.basename(name))[0] or "application/octet-stream"
        if inline and not (kind in template.IMAGES and data.startswith(_BEGINS[kind])):
            raise MailingError([Problem("", "not_image", name=repr(CONTROL.sub("?", name)))])
        return cls(name, kind, inline, data)


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """A mailing as it is written, checked but for its templates; `of` checks those too.

    Args:
        list: the list whose members get it.
        subject: the same for everybody. preheader: what an inbox shows behind the subject.
        html: the template. file: what it is called: `.md` is Markdown, `.mjml` MJML, all else HTML.
        text: the template of the plain text; empty: it is made from the HTML.
        purpose: `marketing`, or `service` for what people need to know and can't opt out of.
        sender, reply_to: `De Linde <nieuws@delinde.example>`; empty: as the list has them.
        language: of the mail, and of its footer; empty: the site's first.
        fields: what the templates say of each reader. Who lacks one gets no mail, unless `defaults` has a text for it.
        where: which readers get it: a field, or `language`, and the values that are meant.
        files: attachments and images. measured: whether openings and clicks of who agreed to it are measured.

    Raises:
        MailingError: with every problem.
    """

    list: str
    subject: str
    html: str
    file: str = "mailing.html"
    text: str = ""
    preheader: str = ""
    purpose: Literal["marketing", "service"] = "marketing"
    sender: str = ""
    reply_to: str = ""
    language: str = ""
    fields: tuple[str, ...] = ()
    defaults: Mapping[str, str] = field(default_factory=dict, hash=False)
    where: Mapping[str, tuple[str, ...]] = field(default_factory=dict, hash=False)
    files: tuple[File, ...] = ()
    measured: bool = False

    def __post_init__(self) -> None:
        if problems := _problems(self):
            raise MailingError([*problems])
        object.__setattr__(self, "fields", tuple(dict.fromkeys((*self.fields, *self.defaults))))
        object.__setattr__(self, "defaults", MappingProxyType(dict(self.defaults)))
        object.__setattr__(self, "where", MappingProxyType({key: tuple(each) for key, each in self.where.items()}))

    @classmethod
    def of(cls, *, attachments_mb: int = ATTACHMENTS_MB, **given: Any) -> Self:
        """A draft from the values of a form or of options, with its templates checked.

        Args:
            attachments_mb: how many megabytes its files may have in all.
            given: the arguments of the class.

        Raises:
            MailingError: with every problem.
        """
        made = cls(**given)
        if problem := _too_large(made.files, attachments_mb):
            raise MailingError([problem])
        template.check(made)
        return made

    @property
    def markup(self) -> Literal["html", "mjml", "md"]:
        """The language of the template."""
        suffix = posixpath.splitext(self.file)[1].lower()
        return "mjml" if suffix == ".mjml" else "md" if suffix in (".md", ".markdown") else "html"

    @property
    def needed(self) -> tuple[str, ...]:
        """The fields that a reader must have."""
        return tuple(name for name in self.fields if name not in self.defaults)

    def to_json(self) -> str:
        """Everything but the files."""
        kept = {each.name: getattr(self, each.name) for each in fields(self) if each.name != "files"}
        kept |= {"defaults": dict(self.defaults), "where": dict(self.where)}
        return json.dumps(kept, ensure_ascii=False, sort_keys=True)

    @classmethod
    def from_json(cls, text: str, files: Iterable[File] = ()) -> Self:
        """The draft that `to_json` wrote, with its files."""
        kept = json.loads(text)
        where = {key: tuple(values) for key, values in kept.pop("where").items()}
        return cls(**{**kept, "fields": tuple(kept["fields"]), "where": where, "files": tuple(files)})


def _problems(draft: Draft) -> list[Problem]:
    """Each problem, its place the key that it is about."""
    found: list[Problem] = []
    for key in ("list", "subject", "preheader", "sender", "reply_to", "language", "file"):
        if CONTROL.search(getattr(draft, key)):
            found.append(Problem(key, "control"))
    if found:
        return found
    if not draft.list:
        found.append(Problem("list", "list_missing"))
    if not draft.subject.strip():
        found.append(Problem("subject", "subject_missing"))
    if not draft.html.strip():
        found.append(Problem("html", "html_missing"))
    for key in ("subject", "preheader"):
        if _BRACES.search(getattr(draft, key)):
            found.append(Problem(key, "braces"))
    if draft.purpose not in ("marketing", "service"):
        found.append(Problem("purpose", "purpose"))
    if draft.language and not _LANGUAGE.match(draft.language):
        found.append(Problem("language", "language"))
    if draft.sender and (problem := _no_mailbox(draft.sender, named=True)):
        found.append(Problem("sender", problem))
    if draft.reply_to and (problem := _no_mailbox(draft.reply_to, named=False)):
        found.append(Problem("reply_to", problem))
    for key, names in (("fields", draft.fields), ("defaults", draft.defaults)):
        for name in names:
            if not _FIELD.match(name):
                found.append(Problem(key, "field_name", name=repr(name)))
            elif name in template.RESERVED:
                found.append(Problem(key, "field_reserved", name=name))
    for name, values in draft.where.items():
        if not _FIELD.match(name):
            found.append(Problem("where", "where_name", name=repr(name)))
        elif not values:
            found.append(Problem("where", "where_empty", name=name))
    return [*found, *_name_problems(draft.files)]


def _name_problems(files: Iterable[File]) -> Iterable[Problem]:
    seen: set[str] = set()
    for file in files:
        shown = repr(CONTROL.sub("?", file.name))
        parts = file.name.split("/") if file.inline else [file.name]
        if CONTROL.search(file.name) or "\\" in file.name or any(part in ("", ".", "..") for part in parts):
            yield Problem("files", "file_name", name=shown)
        elif "/" in file.name and not file.inline:
            yield Problem("files", "file_slash", name=shown)
        elif file.name in seen:
            yield Problem("files", "file_twice", name=shown)
        elif not re.fullmatch(r"[a-z]+/[a-z0-9.+-]+", file.kind) or file.kind.startswith(("multipart/", "message/")):
            yield Problem("files", "file_kind", name=shown)
        seen.add(file.name)


def _no_mailbox(text: str, *, named: bool) -> str:
    """The code of why mail can't come from there, or go back there; empty where it can."""
    name, address = parseaddr(text)
    if named and not name:
        return "mailbox_nameless"
    try:
        found = Address.parse(address)
    except AddressError:
        return "mailbox_no_address"
    if found.needs_smtputf8:
        return "mailbox_not_ascii"
    return ""


def _too_large(files: Iterable[File], attachments_mb: int) -> Problem | None:
    size = sum(len(file.data) for file in files)
    if size <= attachments_mb * _MB:
        return None
    return Problem("files", "files_large", size=f"{size / _MB:.1f}", most=attachments_mb)


# -- folders and files --


def read_folder(path: Path | str, *, attachments_mb: int = ATTACHMENTS_MB) -> Draft:
    """The mailing in a folder: `mailing.toml`, a template, `mailing.txt` where there is one, and what they name.

    Args:
        path: the folder. attachments_mb: how many megabytes its files may have in all.

    Raises:
        MailingError: with every problem, each naming its file, and its line where it has one.
    """
    folder = Path(path)
    config = _read(folder / CONFIG)
    found = [name for name in TEMPLATES if (folder / name).is_file()]
    if len(found) != 1:
        raise MailingError([f"{folder.name}: needs one template and has {len(found)}: write {' or '.join(TEMPLATES)}"])
    text = _read(folder / TEXT) if (folder / TEXT).is_file() else ""
    table = _table(config)
    attachments = tuple(table.pop("attachments", ()))
    given = {**table, "html": _read(folder / found[0]), "file": found[0], "text": text}
    return _from_disk(folder, given, attachments, config=config, attachments_mb=attachments_mb)


def read_file(
    path: Path | str, *, text: Path | str | None = None, attachments_mb: int = ATTACHMENTS_MB, **given: Any
) -> Draft:
    """A mailing from one template, with the images that it names beside it.

    Args:
        path: ends in .html, .mjml or .md. text: the template of the plain text.
        attachments_mb: how many megabytes the images may have in all.
        given: the other arguments of `Draft`, such as list and subject.

    Raises:
        MailingError: as `read_folder`.
    """
    path = Path(path)
    made = {**given, "html": _read(path), "file": path.name, "text": _read(Path(text)) if text else ""}
    return _from_disk(path.parent, made, (), config="", attachments_mb=attachments_mb)


def _from_disk(
    folder: Path, given: dict[str, Any], attachments: tuple[str, ...], *, config: str, attachments_mb: int
) -> Draft:
    try:
        bare = Draft(**given)
    except MailingError as error:
        raise MailingError([_placed(problem, config) for problem in error.problems]) from None
    problems: list[str] = []
    files: list[File] = []
    named = [(name, _line_of_key(config, "attachments"), False) for name in attachments]
    shown = [(name, f"{bare.file}:{template.line_of(bare.html, name)}", True) for name in template.images(bare)]
    for name, where, inline in (*named, *shown):
        try:
            files.append(_file(folder, name, inline=inline))
        except MailingError as error:
            problems += [f"{where}: {problem}" for problem in error.problems]
    if problem := None if problems else _too_large(files, attachments_mb):
        problems.append(problem)
    if problems:
        raise MailingError(problems)
    try:
        return Draft.of(attachments_mb=attachments_mb, **given, files=tuple(files))
    except MailingError as error:
        raise MailingError([_placed(problem, config) for problem in error.problems]) from None


def _read(path: Path) -> str:
    name = path.name or str(path)
    try:
        return path.read_text("utf-8-sig")
    except FileNotFoundError:
        raise MailingError([f"{name}: there is no such file in {path.parent.name or 'this folder'}"]) from None
    except UnicodeDecodeError:
        raise MailingError([f"{name}: is not UTF-8: save it as UTF-8"]) from None
    except IsADirectoryError:
        raise MailingError([f"{name}: is a folder: name the file in it"]) from None
    except OSError as error:
        raise MailingError([f"{name}: can't be read ({type(error).__name__})"]) from None


def _table(config: str) -> dict[str, Any]:
    """The keys of `mailing.toml`, each of the kind that it should be."""
    try:
        table = tomllib.loads(config)
    except tomllib.TOMLDecodeError as error:
        raise MailingError([f"{CONFIG}: can't be read as TOML: {error}"]) from None
    problems: list[str] = []
    for key, value in table.items():
        if key not in _SHAPES:
            close = get_close_matches(key, _SHAPES, 1)
            hint = f"did you mean `{close[0]}`?" if close else f"known are {', '.join(_SHAPES)}"
            problems.append(f"{_line_of_key(config, key)}: unknown key `{key}`: {hint}")
            continue
        fits, example = _SHAPES[key]
        if not fits(value):
            problems.append(f"{_line_of_key(config, key)}: {key}: write something such as {key} = {example}")
    for key in ("list", "subject"):
        if key not in table:
            problems.append(f"{CONFIG}: {key} is missing: write {key} = {_SHAPES[key][1]}")
    if problems:
        raise MailingError(problems)
    where = {key: (value,) if isinstance(value, str) else tuple(value) for key, value in table.get("where", {}).items()}
    return {**table, "fields": tuple(table.get("fields", ())), "where": where}


def _is_text(value: object) -> bool:
    return isinstance(value, str)


def _is_texts(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(each, str) for each in value)


def _is_words(value: object) -> bool:
    return isinstance(value, dict) and _is_texts([*value.values()])


def _is_filter(value: object) -> bool:
    return isinstance(value, dict) and all(_is_text(each) or _is_texts(each) for each in value.values())


_SHAPES: Final[Mapping[str, tuple[Callable[[object], bool], str]]] = {
    "list": (_is_text, '"nieuwsbrief"'),
    "subject": (_is_text, '"Nieuws van oktober"'),
    "preheader": (_is_text, '"De open dag is op 3 november"'),
    "purpose": (_is_text, '"marketing" or "service"'),
    "sender": (_is_text, '"De Linde <nieuws@delinde.example>"'),
    "reply_to": (_is_text, '"post@delinde.example"'),
    "language": (_is_text, '"nl"'),
    "fields": (_is_texts, '["first_name"]'),
    "defaults": (_is_words, '{ first_name = "lezer" }'),
    "where": (_is_filter, '{ city = ["Utrecht", "Zeist"] }'),
    "measured": (lambda value: isinstance(value, bool), "true or false"),
    "attachments": (_is_texts, '["programma.pdf"]'),
}
"""The keys of `mailing.toml`: whether a value has the right kind, and one that does."""


def _line_of_key(config: str, key: str) -> str:
    found = re.search(rf"^[ \t]*\[?\"?{re.escape(key)}\"?[ \t]*[.=\]]", config, re.MULTILINE)
    return f"{CONFIG}:{config.count(chr(10), 0, found.start()) + 1}" if found else CONFIG


def _placed(problem: str, config: str) -> str:
    """A problem with a key, with the line where the key stands."""
    key = problem.partition(":")[0]
    return f"{_line_of_key(config, key)}: {problem}" if config and key in _SHAPES else problem


def _file(folder: Path, name: str, *, inline: bool) -> File:
    what = "image" if inline else "attachment"
    if CONTROL.search(name) or "\\" in name or name.startswith("/") or ".." in name.split("/"):
        raise MailingError([f"{CONTROL.sub('?', name)!r} lies outside of the folder: put the {what} in it"])
    if "/" in name and not inline:
        raise MailingError([f"{name!r} has a slash in it: put the attachment beside {CONFIG}"])
    path = (folder / name).resolve()
    if not path.is_relative_to(folder.resolve()):
        raise MailingError([f"{name!r} leads out of the folder: put the {what} itself in it"])
    if not path.is_file():
        raise MailingError([f"there is no {what} {name!r} in the folder: put it there, or mend the name"])
    return File.of(posixpath.normpath(name) if inline else name, path.read_bytes(), inline=inline)
