"""The log of the console: who did and read what. Whoever searches it by address, or takes it along, is in it too."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import partial
from typing import Any, Final

from starlette.responses import Response

from consentkit.errors import AddressError
from consentkit.render import Texts
from consentkit.service import Duration
from consentkit.staff import COMMAND_LINE, Right
from consentkit.staff.log import Entry, Known
from consentkit.web.console.ask import Ask, Route
from consentkit.web.console.download import sheet, streamed
from consentkit.web.console.listing import PAGE, Column, Listing, read_number
from consentkit.web.console.scopes import how_said, list_said, scope_said

_NUMBERED: Final = re.compile(r"(draft|mailing|person|list|record) ([^ ,]+)(?:, (.+))?")
_SCOPED: Final = re.compile(r"(mail|marketing|list:[^ ]+)(?: \(([^)]+)\))?")


class Logbook:
    """What privacy officers and managers see of what the staff did."""

    name = "log"

    def __init__(self) -> None:
        right = Right.LOG
        self.routes = (
            Route("log", right, get=self._list),
            Route("log/person", right, get=self._whom, post=self._person, once=False),
            Route("log/export", right, post=self._export, once=False),
        )

    async def _list(self, ask: Ask) -> Response:
        log, t = ask.rooms.log, ask.t
        staff, act = ask.query("staff"), ask.query("act")
        params, path = ask.visit.request.query_params, ask.url("log")

        def read(q: str, **which: Any) -> Sequence[Entry]:
            return log.read(staff=staff, act=act, **which)

        lines: Listing[Entry] = await ask.run(Listing.walk, read, _columns(t), params, path, sort="at")
        known = await ask.run(ask.rooms.figures.get, "log.known", log.known)
        return ask.page(
            "log",
            list=lines,
            staff=staff,
            act=act,
            names=_options(t("log.everybody"), _named(t, known.value) if known else (), staff, staff_said(t, staff)),
            acts=_options(t("log.everything"), _said(t, known.value) if known else (), act, act_said(t, act)),
            said=_Said(ask),
            filtered=bool(staff or act or ask.query("before") or ask.query("after")),
            period=t.duration(Duration.parse(ask.kit.settings.retention.staff_log)),
        )

    async def _whom(self, ask: Ask) -> Response:
        return ask.page("log_person", address="", error="", rows=None)

    async def _person(self, ask: Ask) -> Response:
        address = ask.sent.text("address")
        try:
            digests = ask.kit.afgemeld.keys.digests(address)
        except AddressError:
            error = ask.t("base.no_address")
            return ask.page("log_person", status=422, address=address, error=error, rows=None)
        await ask.note("log.search", person=digests[0])
        before = read_number(ask.sent.text("before"))
        rows = await ask.run(partial(ask.rooms.log.read, persons=digests, before=before, most=PAGE + 1))
        older = rows[PAGE - 1].id if len(rows) > PAGE else None
        params, path = ask.visit.request.query_params, ask.url("log/person")
        columns = _columns(ask.t, sorts=False)
        found = Listing.page_of(rows[:PAGE], columns, params, path, whole=bool(rows))
        return ask.page("log_person", address=address, error="", rows=found, older=older, said=_Said(ask))

    async def _export(self, ask: Ask) -> Response:
        staff, act = ask.sent.text("staff"), ask.sent.text("act")
        known: Known = await ask.run(ask.rooms.log.known)
        await ask.note("log.export", act if act in known.acts else "")
        pages = ask.rooms.log.pages(staff=staff, act=act)
        t = ask.t
        rows = (
            [(row.at.isoformat(), row.staff, row.act, act_said(t, row.act), row.about) for row in page]
            for page in pages
        )
        name = f"logboek-{ask.kit.now():%Y-%m-%d}.csv"
        return streamed(name, sheet(("at", "staff", "act", "said", "about"), rows))


def act_said(t: Texts, act: str) -> str:
    """An act in words; one that has none stays as it is."""
    key = f"log.act_{act.replace('.', '_').replace('-', '_')}"
    return t(key) if t.has(key) else act


def staff_said(t: Texts, name: str) -> str:
    """Who did it; the command line in words."""
    return t("log.command_line") if name == COMMAND_LINE else name


class _Said:
    """Says the lines of the log in the language of the page."""

    def __init__(self, ask: Ask) -> None:
        self._ask = ask

    def staff(self, row: Entry) -> str:
        """Who."""
        return staff_said(self._ask.t, row.staff)

    def act(self, row: Entry) -> str:
        """What."""
        return act_said(self._ask.t, row.act)

    def about(self, row: Entry) -> str:
        """Of what; what the texts do not know stays as it is."""
        t, about = self._ask.t, row.about
        if found := _NUMBERED.fullmatch(about):
            kind, it, more = found.groups()
            named = t(f"log.about_{kind}", it=list_said(self._ask, it) if kind == "list" else it)
            return f"{named}, {self._scope(more)}" if more else named
        if found := _SCOPED.fullmatch(about):
            scope, how = found.groups()
            return f"{self._scope(scope)} ({how_said(self._ask, how)})" if how else self._scope(scope)
        for key in ("log.about_all" if about == "*" else "", f"jobs.{about}", f"drafts.start_{about}"):
            if key and t.has(key):
                return t(key)
        return about

    def _scope(self, text: str) -> str:
        return scope_said(self._ask, text) if _SCOPED.fullmatch(text) else text


def _columns(t: Texts, *, sorts: bool = True) -> Sequence[Column[Entry]]:
    return [
        Column(name, t(f"log.{name}"), by=(lambda row: row.id) if sorts and name == "at" else None)
        for name in ("at", "staff", "act", "about")
    ]


def _named(t: Texts, known: Known) -> Sequence[tuple[str, str]]:
    return [(name, staff_said(t, name)) for name in known.staff if name]


def _said(t: Texts, known: Known) -> Sequence[tuple[str, str]]:
    return sorted(((act, act_said(t, act)) for act in known.acts), key=lambda one: one[1].casefold())


def _options(all: str, some: Sequence[tuple[str, str]], chosen: str, said: str = "") -> Sequence[tuple[str, str]]:
    """What a field can be set to: anything, what there is, and always what was chosen."""
    missing = [(chosen, said or chosen)] if chosen and chosen not in dict(some) else []
    return [("", all), *some, *missing]
