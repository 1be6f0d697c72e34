"""The lists: how many stand on each, how that went, who they are, and the sign-up form to copy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from functools import partial
from typing import Any, Final

from starlette.responses import Response

from consentkit.mailing.chart import Chart, bars
from consentkit.newsletter import KINDS, LEFT, Day, Paper, State, Subscriber
from consentkit.render import Texts
from consentkit.render.console import days_back, utc_day
from consentkit.staff import Right
from consentkit.web.console.ask import Ask, Route
from consentkit.web.console.figures import Figure
from consentkit.web.console.listing import Column, Listing

COUNTS: Final = "lists.counts"
"""The figure of how many stand on each list; whoever brings people in forgets it."""

_DAYS: Final = 56
_WEEKS: Final = 52
_LEFT: Final = [kind for kind in KINDS if kind in LEFT]


@dataclass(frozen=True, slots=True)
class Line:
    """One list in words, with its counts where they are known."""

    id: str
    title: str
    sender: str
    frequency: str
    pupils: bool
    counts: Mapping[str, int] | None

    def count(self, *kinds: str) -> int | None:
        """How many stand on it in one of these ways; None while nobody knows."""
        return None if self.counts is None else sum(self.counts.get(kind, 0) for kind in kinds)

    @property
    def on(self) -> int | None:
        """Who stands on it with a ground to be mailed."""
        return self.count("confirmed", "proven")

    @property
    def gone(self) -> int | None:
        """Who left it, in whatever way."""
        return self.count(*_LEFT)


class Lists:
    """What staff see of lists."""

    name = "lists"

    def __init__(self) -> None:
        self.routes = (
            Route("lists", Right.LISTS, get=self._all),
            Route("lists/{list}", Right.LISTS, get=self._one),
            Route("lists/{list}/subscribers", Right.PEOPLE, get=self._subscribers),
        )

    async def _all(self, ask: Ask) -> Response:
        figure = await _counts(ask)
        lines = [_line(ask, id, figure) for id in ask.kit.settings.lists]
        t = ask.t
        columns: list[Column[Line]] = [
            Column("title", t("lists.column_title"), by=lambda line: line.title.casefold()),
            Column("on", t("lists.column_on"), by=lambda line: line.on, number=True),
            Column("waiting", t("lists.column_waiting"), by=lambda line: line.count("waiting"), number=True),
            Column("unproven", t("lists.column_unproven"), by=lambda line: line.count("unproven"), number=True),
            Column("left", t("lists.column_left"), by=lambda line: line.gone, number=True),
            Column("frequency", t("lists.column_frequency"), by=lambda line: line.frequency.casefold()),
            Column("sender", t("lists.column_sender"), by=lambda line: line.sender.casefold()),
        ]
        listing = Listing.of(
            lines, columns, ask.visit.request.query_params, ask.url("lists"), search=lambda line: line.title
        )
        return ask.page("lists", list=listing, figure=figure)

    async def _one(self, ask: Ask) -> Response:
        id = ask.params["list"]
        if id not in ask.kit.settings.lists:
            return no_list(ask)
        weeks = ask.query("per") == "week"
        today = utc_day(ask.kit.now())
        days = _whole_weeks(today) if weeks else days_back(today, _DAYS)
        read = partial(ask.kit.newsletter.overview.course, id, days)
        course = await ask.run(ask.rooms.figures.get, ("lists.course", id, weeks), read)
        paper = paper_of(ask)
        form = paper.form(id)
        forms = [] if form is None else [
            (lang, paper.form_html(form, lang, root=ask.visit.root, marked=False)) for lang in paper.site.languages
        ]  # fmt: skip
        figure = await _counts(ask)
        return ask.page(
            "list",
            line=_line(ask, id, figure),
            about=_say(paper, ask.t, ask.kit.settings.lists[id].about),
            figure=figure,
            course=course,
            charts=_charts(course.value, ask.t, weeks=weeks) if course else (),
            weeks=weeks,
            forms=forms,
            left=_LEFT,
        )

    async def _subscribers(self, ask: Ask) -> Response:
        id = ask.params["list"]
        if id not in ask.kit.settings.lists:
            return no_list(ask)
        wanted = ask.query("state")
        state = State(wanted) if wanted in {each.value for each in State} else None
        t, overview = ask.t, ask.kit.newsletter.overview
        columns: list[Column[Subscriber]] = [
            Column("id", t("lists.column_number"), by=lambda one: one.id),
            Column("address", t("lists.column_address")),
            Column("kind", t("lists.column_state")),
            Column("route", t("lists.column_route")),
            Column("since", t("lists.column_since")),
        ]

        def read(q: str, **which: Any) -> Sequence[Subscriber]:
            return overview.page(id, state=state, **which)

        await ask.note("list.read", f"list {id}")
        params, path = ask.visit.request.query_params, ask.url(f"lists/{id}/subscribers")
        rows: Listing[Subscriber] = await ask.run(Listing.walk, read, columns, params, path, sort="id")
        return ask.page(
            "list_subscribers",
            line=_line(ask, id, None),
            list=rows,
            state=state.value if state else "",
            states=[("", t("lists.state_all")), *((each.value, t(f"lists.state_{each.value}")) for each in State)],
        )


def paper_of(ask: Ask) -> Paper:
    """What the site that was asked says about its lists."""
    return ask.kit.newsletter.papers[ask.visit.site.settings.name]


def title_of(ask: Ask, topic: str) -> str:
    """What a list, a use or a partner is called; its id where it is not in the configuration any more."""
    paper = paper_of(ask)
    found = paper.topics.get(topic)
    return _say(paper, ask.t, found.title) if found else topic


def no_list(ask: Ask) -> Response:
    """There is no such list."""
    return ask.wrong(ask.t("lists.no_list"), status=404, title=ask.t("base.not_found_title"))


def _say(paper: Paper, t: Texts, words: Mapping[str, str]) -> str:
    return words.get(t.lang) or paper.renderer.say(words, paper.renderer.language(t.lang))


async def _counts(ask: Ask) -> Figure[Mapping[str, Mapping[str, int]]] | None:
    return await ask.run(ask.rooms.figures.get, COUNTS, ask.kit.newsletter.overview.counts)


def _line(ask: Ask, id: str, figure: Figure[Mapping[str, Mapping[str, int]]] | None) -> Line:
    own, paper = ask.kit.settings.lists[id], paper_of(ask)
    counts = None if figure is None else figure.value.get(id, {})
    frequency = _say(paper, ask.t, own.frequency)
    return Line(id, _say(paper, ask.t, own.title), paper.sender(id), frequency, own.pupils, counts)


def _whole_weeks(today: date) -> Sequence[date]:
    """The days of the last weeks, from a Monday; the last week as far as it is."""
    return days_back(today, (_WEEKS - 1) * 7 + today.isoweekday())


def _charts(course: Sequence[Day], t: Texts, *, weeks: bool) -> Sequence[Mapping[str, Any]]:
    """What a page draws: who signed up, and who left."""
    step = 7 if weeks else 1
    begins = [course[at].day for at in range(0, len(course), step)]
    said = [t("lists.week_of", day=t.date(day)) if weeks else t.date(day) for day in begins]
    marks = {at: _mark(begins[at], t) for at in range(0, len(begins) * 7 // 8, max(1, len(begins) // 4))}
    found = []
    for name in ("signed_up", "left"):
        values = [sum(getattr(day, name) for day in course[at : at + step]) for at in range(0, len(course), step)]
        drawing: Chart = bars(values, said, marks)
        found.append(
            {
                "id": f"ck-chart-{name.replace('_', '-')}",
                "name": name,
                "title": t(f"lists.chart_{name}_{'week' if weeks else 'day'}"),
                "drawing": drawing,
                "rows": [*zip(said, values, strict=True)][::-1],
                "sum": sum(values),
            }
        )
    return found


def _mark(day: date, t: Texts) -> str:
    return t("report.day", day=day.day, month=t(f"date.m{day.month}"))
