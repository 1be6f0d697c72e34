"""Lists that page, sort and search: by links and one form, so that they work without JavaScript.

`Listing.of` does it for rows that are all at hand. For tables too long for that, `Listing.walk` asks the room for one
page at a time, before or after a number. `Listing.page_of` only makes the links.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final, Generic, Protocol, TypeVar

from starlette.datastructures import QueryParams

from consentkit.render.console import query

Row = TypeVar("Row")


class _Numbered(Protocol):
    @property
    def id(self) -> int: ...


Numbered = TypeVar("Numbered", bound=_Numbered)

Read = Callable[..., Sequence[Numbered]]
"""Gives a page of a long table: `read(words, before=…, after=…, oldest_first=…, most=…)`, of which `before` and `after`
are numbers: only rows with a smaller, or a greater one, those next to it."""

PAGE: Final = 50
"""Rows of a page."""

_DIGITS: Final = 18
"""So many a number of a row has at most."""


@dataclass(frozen=True)  # with slots, `Column[Row](…)` fails where typing notes what it was made as
class Column(Generic[Row]):
    """One column.

    Args:
        key: names it in the query. label: heads it. by: what a row is sorted by; None: it sorts by nothing.
        number: whether it is set to the right.
    """

    key: str
    label: str
    by: Callable[[Row], Any] | None = None
    number: bool = False

    @property
    def sorts(self) -> bool:
        """Whether one can sort by it."""
        return self.by is not None


@dataclass(frozen=True, slots=True)
class Listing(Generic[Row]):
    """One page of a list, with what leads to the others.

    Args:
        id: tells it from another list on the page; part of its keys in the query where it is not empty.
        rows: of this page. whole: whether there is any row at all, searched or not. total: how many were found.
        previous, next: addresses; empty where there is none.
    """

    id: str
    columns: Sequence[Column[Row]]
    rows: Sequence[Row]
    params: QueryParams
    path: str
    whole: bool = True
    total: int | None = None
    page: int = 1
    pages: int = 0
    sort: str = ""
    descending: bool = False
    q: str = ""
    previous: str = ""
    next: str = ""
    searchable: bool = False
    kept: Sequence[tuple[str, str]] = field(default_factory=tuple)

    @classmethod
    def of(
        cls,
        rows: Iterable[Row],
        columns: Sequence[Column[Row]],
        params: QueryParams,
        path: str,
        *,
        id: str = "",
        search: Callable[[Row], str] | None = None,
        sort: str = "",
        descending: bool = False,
        size: int = PAGE,
    ) -> Listing[Row]:
        """A page of rows that are all at hand.

        Args:
            params: the query of the request. path: of the page it stands on.
            search: the text of a row that is searched in. sort, descending: how it stands when nobody chose.
        """
        key = _key(id)
        every = [*rows]
        q = params.get(key("q"), "").strip()[:200]
        found = (
            [row for row in every if all(word in search(row).casefold() for word in q.casefold().split())]
            if (search and q)
            else every
        )
        chosen = params.get(key("sort"), "")
        names = {column.key: column for column in columns if column.by is not None}
        if chosen in names:
            sort, descending = chosen, params.get(key("order"), "") == "desc"
        by = names[sort].by if sort in names else None
        if by is not None:
            some = [row for row in found if by(row) is not None]
            found = sorted(some, key=by, reverse=descending) + [row for row in found if by(row) is None]
        pages = max(1, -(-len(found) // size))
        asked = params.get(key("page"), "")
        page = min(max(int(asked) if asked.isascii() and asked.isdigit() and len(asked) < 9 else 1, 1), pages)
        shown = found[(page - 1) * size : page * size]
        made = cls(
            id, columns, shown, params, path, bool(every), len(found), page, pages if pages > 1 else 0, sort,
            descending, q, searchable=search is not None, kept=_kept(params, key("q"), key("page"), "told"),
        )  # fmt: skip
        return replace(
            made,
            previous=made.link(page=page - 1) if page > 1 else "",
            next=made.link(page=page + 1) if page < pages else "",
        )

    @classmethod
    def page_of(
        cls,
        rows: Sequence[Row],
        columns: Sequence[Column[Row]],
        params: QueryParams,
        path: str,
        *,
        id: str = "",
        previous: str = "",
        next: str = "",
        whole: bool = True,
        searchable: bool = False,
        sort: str = "",
        descending: bool = False,
    ) -> Listing[Row]:
        """A page that a room has read itself, with the addresses of those beside it."""
        key = _key(id)
        return cls(
            id, columns, rows, params, path, whole, previous=previous, next=next, searchable=searchable, sort=sort,
            descending=descending, q=params.get(key("q"), "").strip()[:200],
            kept=_kept(params, key("q"), key("page"), key("before"), key("after"), "told"),
        )  # fmt: skip

    @classmethod
    def walk(
        cls,
        read: Read[Numbered],
        columns: Sequence[Column[Numbered]],
        params: QueryParams,
        path: str,
        *,
        id: str = "",
        sort: str = "",
        searchable: bool = False,
        size: int | None = None,
    ) -> Listing[Numbered]:
        """A page of a table that is too long to be at hand, in the order of its numbers. Blocks: it reads.

        Args:
            sort: the column that stands for that order: clicked, the oldest row comes first. Empty: none does.
        """
        size = size or PAGE
        bare: Listing[Numbered] = Listing.page_of((), (), params, path, id=id)
        before, after = read_number(params.get(bare.key("before"), "")), read_number(params.get(bare.key("after"), ""))
        before = before if after is None else None
        oldest = bool(sort) and params.get(bare.key("sort")) == sort and params.get(bare.key("order")) == "asc"
        some = read(bare.q, before=before, after=after, oldest_first=oldest, most=size + 1)
        moved = before is not None or after is not None
        back = moved and (before is not None) == oldest  # one came from the page behind
        more = len(some) > size
        rows = some[-size:] if back else some[:size]
        up, down = ("before", "after") if oldest else ("after", "before")
        previous = bool(rows) and (more if back else moved)
        next = bool(rows) and (back or more)
        return Listing.page_of(
            rows, columns, params, path, id=id,
            previous=bare.link(**{up: rows[0].id, down: ""}) if previous else "",
            next=bare.link(**{down: rows[-1].id, up: ""}) if next else "",
            whole=bool(rows) or moved,
            searchable=searchable,
            sort=sort,
            descending=not oldest,
        )  # fmt: skip

    def key(self, name: str) -> str:
        """What a value of this list is called in the query."""
        return _key(self.id)(name)

    def link(self, **changed: object) -> str:
        """This page with some values of the query changed."""
        values = {name: value for name, value in self.params.items() if name != "told"}
        return query(self.path, **(values | {self.key(name): value for name, value in changed.items()}))

    def sorted_by(self, column: str) -> str:
        """This page sorted by a column; the other way round where it is that already."""
        again = self.sort == column and not self.descending
        return self.link(sort=column, order="desc" if again else "asc", page="", before="", after="")


def read_number(text: str) -> int | None:
    """The number of a row, as a query has it."""
    return int(text) if text.isascii() and text.isdigit() and len(text) <= _DIGITS else None


def _key(id: str) -> Callable[[str], str]:
    return lambda name: f"{id}-{name}" if id else name


def _kept(params: QueryParams, *but: str) -> Sequence[tuple[str, str]]:
    return [(name, value) for name, value in params.items() if name not in but]
