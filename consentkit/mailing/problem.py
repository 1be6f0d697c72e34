"""What keeps a mailing from being made: as data, so that each page says it in its own language and at its own field."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Self

from consentkit.render import Texts, load_texts


class Problem(str):
    """One problem. As a text it is English: its place, what is wrong, and what to write instead.

    Args:
        place: a key of the form, such as `subject`, or a file such as `mailing.html`; empty: not known yet.
        code: a short name that stays the same; `problem.<code>` is its text.
        line: of the file, from 1; 0: none.
        values: what fills the places of its text.
    """

    place: str
    code: str
    line: int
    values: Mapping[str, object]

    def __new__(cls, place: str, code: str, line: int = 0, /, **values: object) -> Self:
        where = f"{place}:{line}: " if line else f"{place}: " if place else ""
        made = super().__new__(cls, where + load_texts("en")(f"problem.{code}", **values))
        made.place, made.code, made.line, made.values = place, code, line, values
        return made

    def at(self, place: str, line: int = 0) -> Self:
        """The same problem with its place."""
        return type(self)(place, self.code, line, **self.values)

    def told(self, texts: Texts) -> str:
        """What is wrong and what to write instead, without the place."""
        return texts(f"problem.{self.code}", **self.values)
