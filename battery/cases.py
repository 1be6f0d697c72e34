"""The cases: one small file each, which says what it is and when it may load."""

from __future__ import annotations

import base64
import re
import tomllib
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Final, Literal

from battery import HERE

FOLDER: Final = HERE / "cases"
STATES: Final = ("before", "refused", "granted")
State = Literal["before", "refused", "granted"]

_BASE64 = re.compile(r"\$base64\((.*)\)")


class BadCase(Exception):
    """A case file that can't be read; says which and why."""


@dataclass(frozen=True, slots=True)
class Case:
    """One way to reach a tracker, or one thing that must be left alone.

    Args:
        name: the file's name; stands in every URL of the case, so that what arrives can be told apart.
        group: the heading of the report. what: the case in one line.
        html: the case as an author writes it.
        service: whose it is, by catalogue id; "" for a third party that no list knows.
        loads: when the bare page, and the page after consent, reaches the tracker. "never" where a browser makes no
            request that can be counted; then `live`, `stores` or the headers tell.
        not_in: browsers in which it reaches nobody even on a bare page: "firefox", or "firefox without javascript".
        needs: "csp" for what neither markup nor page can hold back, only a policy that the browser enforces.
        parked: as delivered it loads nothing, until some tool wakes it. marks: whose attributes it carries.
        live: a tag with these attributes (parts of their values) in a delivered page counts as reaching the tracker.
        hosts: hosts of no other case: a connection to one is enough.
        stores: names of cookies and localStorage entries that may only be there after consent.
        headers: response headers of its page. document: the case is a whole document.
        alone: it gets a page of its own; the others share two, one for those with headers.
        place: "head" or "body". click: a selector of what a visitor clicks.
        unnamed: a policy that lists hosts may refuse it even after consent.
        exact: after consent its bytes are as written.
        innocent: no tracker: its bytes must be left as they are. own: what must have been requested, in any state.
        files: what is served under `/own/{name}.{extension}`.
    """

    name: str
    group: str
    what: str
    html: str
    service: str = ""
    loads: Literal["always", "javascript", "without javascript", "never"] = "never"
    not_in: tuple[str, ...] = ()
    needs: Literal["", "csp"] = ""
    parked: bool = False
    marks: str = ""
    live: dict[str, str] = field(default_factory=dict)
    hosts: tuple[str, ...] = ()
    stores: tuple[str, ...] = ()
    headers: tuple[tuple[str, str], ...] = ()
    document: bool = False
    alone: bool = False
    place: Literal["head", "body"] = "body"
    click: str = ""
    unnamed: bool = False
    exact: bool = True
    innocent: bool = False
    own: tuple[str, ...] = ()
    files: dict[str, str] = field(default_factory=dict)

    @property
    def page(self) -> str:
        """The path of its page: cases share one where that can't hide anything."""
        if self.alone or self.document:
            return f"/case/{self.name}"
        return "/headers" if self.headers else "/all"

    def expected(self, browser: str, *, js: bool) -> bool:
        """Whether the tracker is reached once everything is allowed."""
        if (
            self.loads == "never"
            or browser in self.not_in
            or (not js and f"{browser} without javascript" in self.not_in)
        ):
            return False
        return self.loads == "always" or js == (self.loads == "javascript")


def read(path: Path) -> Case:
    """One case file: a comment of TOML between a line `<!--` and a line `-->`, then the markup."""
    name = path.stem
    text = path.read_text("utf-8")
    head, found, html = text.partition("\n-->\n")
    if not (found and head.startswith("<!--\n")):
        raise BadCase(f"{path.name} does not begin with a comment of TOML; see battery/README.md")
    try:
        table = tomllib.loads(head.removeprefix("<!--\n"))
        for key in ("not_in", "hosts", "stores", "own"):
            table[key] = tuple(table.get(key, ()))
        table["headers"] = tuple((key, fill(value, name)) for key, value in table.get("headers", ()))
        files = {
            other.name.removeprefix(f"{name}."): fill(other.read_text("utf-8"), name)
            for other in sorted(path.parent.glob(f"{name}.*"))
            if other != path
        }
        return Case(name=name, html=fill(html.removesuffix("\n"), name), files=files, **table)
    except (tomllib.TOMLDecodeError, TypeError, ValueError) as error:
        raise BadCase(f"{path.name}: {error}") from error


def fill(text: str, name: str) -> str:
    """`$case` becomes the case's name, `$base64(…)` the base64 of what it holds."""
    return _BASE64.sub(lambda found: base64.b64encode(found[1].encode()).decode(), text.replace("$case", name))


@cache
def load() -> tuple[Case, ...]:
    """All cases, by name."""
    return tuple(read(path) for path in sorted(FOLDER.glob("*.html")) if "." not in path.stem)
