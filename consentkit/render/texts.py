"""The words of the interface: one TOML file a language, complete or refused (BAN-12: never half in another one)."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date
from functools import cache
from string import Formatter
from types import MappingProxyType
from typing import Any

from consentkit import assets
from consentkit.errors import ConsentKitError
from consentkit.service import Duration


@dataclass(frozen=True, slots=True)
class CategoryText:
    """What a category is called and what happens in it."""

    title: str
    about: str


@dataclass(frozen=True, slots=True)
class OwnCookieText:
    """What consentkit's own cookie is for, and why it needs no consent."""

    purpose: str
    exempt: str
    once: str


class Texts:
    """All texts of one language, by keys such as `banner.title`."""

    def __init__(self, lang: str, entries: Mapping[str, str]) -> None:
        self.lang = lang
        self._entries = entries

    def __call__(self, key: str, **values: object) -> str:
        """The text of a key, its places filled.

        Raises:
            KeyError: there is no such text, or a place in it was given no value.
        """
        text = self._entries[key]
        return text.format_map(values) if values else text

    @property
    def name(self) -> str:
        """What the language calls itself."""
        return self._entries["name"]

    def has(self, key: str) -> bool:
        """Whether there is such a text."""
        return key in self._entries

    def under(self, prefix: str) -> Mapping[str, str]:
        """Every text whose key begins with `prefix`, by the rest of the key."""
        return {key.removeprefix(prefix): text for key, text in self._entries.items() if key.startswith(prefix)}

    def category(self, name: str) -> CategoryText:
        """The shipped words for a category.

        Raises:
            KeyError: it is not one of the four that every site has.
        """
        return CategoryText(self(f"categories.{name}.title"), self(f"categories.{name}.about"))

    @property
    def own_cookie(self) -> OwnCookieText:
        """The words for consentkit's own cookie."""
        return OwnCookieText(self("own_cookie.purpose"), self("own_cookie.exempt"), self("own_cookie.once"))

    def error(self, reason: str) -> str:
        """The sentence for a reason of `ChoiceRefused`; one that is not known gives the most general."""
        return self(f"errors.{reason}" if self.has(f"errors.{reason}") else "errors.unavailable")

    def duration(self, duration: Duration) -> str:
        """A duration in words: "13 maanden"."""
        if duration.unit == "session":
            return self("duration.session")
        if duration.amount == 1:
            return self(f"duration.{duration.unit}")
        return self(f"duration.{duration.unit}s", n=duration.amount)

    def date(self, day: date) -> str:
        """A day in words: "22 november 2026"."""
        return self("date.pattern", day=day.day, month=self(f"date.m{day.month}"), year=day.year)

    def country(self, code: str) -> str:
        """The name of an ISO 3166 code; a code that has none stays as it is."""
        return self(f"countries.{code}") if self.has(f"countries.{code}") else code

    def join(self, words: Iterable[str]) -> str:
        """Words in a row."""
        return self("list_join").join(words)


@cache
def languages() -> tuple[str, ...]:
    """The languages that have a complete file of texts."""
    return tuple(sorted(_all_texts()))


def load_texts(lang: str) -> Texts:
    """The texts of a language.

    Raises:
        KeyError: there is no file for it.
        ConsentKitError: a file misses a text that another one has; none of them is used then (BAN-12).
    """
    return _all_texts()[lang]


@cache
def _all_texts() -> Mapping[str, Texts]:
    files = sorted((assets.directory("templates") / "texts").glob("*.toml"))
    read = {path.stem: dict(_flat(tomllib.loads(path.read_text("utf-8")))) for path in files}
    if problems := parity(read):
        raise ConsentKitError("; ".join(problems))
    return MappingProxyType({lang: Texts(lang, entries) for lang, entries in read.items()})


def _flat(table: Mapping[str, Any], under: str = "") -> Iterable[tuple[str, str]]:
    for key, value in table.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{under}{key}.")
        else:
            yield f"{under}{key}", value


def parity(read: Mapping[str, Mapping[str, str]]) -> list[str]:
    """What keeps these languages from being complete: a text missing, empty, or with other places to fill."""
    problems: list[str] = []
    every = sorted({key for entries in read.values() for key in entries})
    for key in every:
        places = {
            lang: frozenset(name for _, name, _, _ in Formatter().parse(entries[key]) if name)
            for lang, entries in read.items()
            if key in entries
        }
        problems += [f"texts/{lang}.toml has no `{key}`" for lang in read if key not in read[lang]]
        problems += [f"texts/{lang}.toml: `{key}` is empty" for lang in places if not read[lang][key].strip()]
        if len(set(places.values())) > 1:
            problems.append(f"`{key}` has other places to fill in {' and '.join(sorted(places))}")
    return problems
