"""Consent in numbers and in order: rates per day and purpose, the check of the chain, exports, what is declared."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from datetime import time as clock
from functools import partial
from typing import Any, Final

from starlette.responses import Response

from consentkit.evidence import Evidence, Rates, Report, Tally
from consentkit.mailing.chart import bars
from consentkit.render import Texts
from consentkit.render.console import utc_day
from consentkit.service import Service
from consentkit.staff import Job, JobState, Outcome, Progress, Right
from consentkit.web import owner
from consentkit.web.console.ask import Ask, Route
from consentkit.web.console.download import sheet, streamed
from consentkit.web.console.figures import Figure
from consentkit.web.console.jobs import said
from consentkit.web.console.listing import Column, Listing
from consentkit.web.console.proof import read_day, scope_said

VERIFY: Final = "consent_verify"
"""The kind of long work that checks the chains."""

DAYS: Final = 60
"""Days that are shown when nobody chose a period."""

MOST_DAYS: Final = 396
"""The longest period that is shown: 13 months."""

_PATIENCE: Final = 20.0
"""Seconds that a file of figures waits for its first count; in no thread, which others need."""

_LOOK: Final = 0.2

_BY_DAY: Final = 92
_WEEK: Final = 7
_PARTS: Final = Tally._fields


class Consent:
    """What a privacy officer sees of the consents of a site."""

    name = "consent"

    def __init__(self) -> None:
        self.routes = (
            Route("consent", Right.CONSENT, get=self._rates),
            Route("consent/rates", Right.CONSENT, get=self._rates_file),
            Route("consent/chain", Right.CONSENT, get=self._chain, post=self._verify),
            Route("consent/chain/{id}", Right.CONSENT, get=self._verified),
            Route("consent/export", Right.CONSENT, get=self._export, post=self._exported, once=False),
            Route("consent/services", Right.CONSENT, get=self._services),
            Route("consent/undeclared", Right.CONSENT, get=self._undeclared),
        )

    # -- rates ----------------------------------------------------------------------------------------------------

    async def _rates(self, ask: Ask) -> Response:
        period = Period.of(ask)
        figure = await _figure(ask, period)
        names = _purposes(ask, figure.value if figure else None)
        chosen = ask.query("purpose") if ask.query("purpose") in names else next(iter(names), "")
        return ask.page(
            "consent",
            status=422 if period.errors else 200,
            period=period,
            figure=figure,
            names=names,
            chosen=chosen,
            weekly=len(period.days) > _BY_DAY,
            charts=_charts(figure.value, chosen, ask.t) if figure and chosen else (),
            waiting=ask.kit.evidence.journal_waiting,
            query_of=period.query,
        )

    async def _rates_file(self, ask: Ask) -> Response:
        period = Period.of(ask)
        if period.errors:
            return ask.wrong(next(iter(period.errors.values())), status=422)
        figure = await _figure(ask, period)
        for _ in range(int(_PATIENCE / _LOOK)):
            if figure is not None:
                break
            await asyncio.sleep(_LOOK)
            figure = await _figure(ask, period)
        if figure is None:
            return ask.wrong(ask.t("base.counting"), status=503)
        rows = [
            (day.isoformat(), purpose, *tallies[at])
            for at, day in enumerate(figure.value.days)
            for purpose, tallies in figure.value.purposes.items()
        ]
        name = f"toestemming-{period.since}-{period.until}.csv"
        return streamed(name, sheet(("day", "purpose", *_PARTS), [rows]))

    # -- the chain ------------------------------------------------------------------------------------------------

    async def _chain(self, ask: Ask) -> Response:
        return await self._chain_page(ask)

    async def _chain_page(self, ask: Ask, **more: Any) -> Response:
        mine = await ask.run(ask.rooms.jobs.recent, ask.member.name)
        checks = [job for job in mine if job.kind == VERIFY]
        return ask.page("consent_chain", **({"checks": checks, "anchor": "", "error": ""} | more))

    async def _verify(self, ask: Ask) -> Response:
        anchor = "".join(ask.sent.text("anchor").split()).lower()
        if anchor and not _is_anchor(anchor):
            error = ask.t("consent.anchor_wrong")
            return await self._chain_page(ask, anchor=ask.sent.text("anchor"), error=error, status=422)
        await ask.note("consent.verify", anchor)
        work = partial(_check, ask.kit.evidence, anchor or None)
        job = await ask.run(ask.rooms.jobs.start, ask.member.name, VERIFY, "consent/chain", work)
        return ask.back(f"consent/chain/{job}")

    async def _verified(self, ask: Ask) -> Response:
        job: Job | None = await ask.run(ask.rooms.jobs.get, ask.params["id"], ask.member.name)
        if job is None or job.kind != VERIFY:
            return ask.wrong(ask.t("jobs.gone"), status=404, title=ask.t("base.not_found_title"))
        report = job.report if job.state is JobState.DONE else None
        return ask.page(
            "consent_verified", job=job, report=report, scope_said=partial(scope_said, ask), said=partial(said, ask.t)
        )

    # -- exports --------------------------------------------------------------------------------------------------

    async def _export(self, ask: Ask) -> Response:
        return _export_page(ask, Period.of(ask))

    async def _exported(self, ask: Ask) -> Response:
        period = Period.read(ask, ask.sent.text("since"), ask.sent.text("until"), most=None)
        if period.errors:
            return _export_page(ask, period, status=422)
        site = ask.visit.site.settings.name
        letters = ask.kit.newsletter.papers[site].scope
        chains = {"site": [site], "newsletter": [letters], "both": [site, letters]}
        what = ask.sent.text("what") if ask.sent.text("what") in chains else "site"
        format = "csv" if ask.sent.text("format") == "csv" else "jsonl"
        await ask.note("consent.export", f"{period.since} {period.until} {what} {format}")
        pages = ask.kit.evidence.pages(period.begin, period.end, sites=chains[what])
        name = f"bewijs-{period.since}-{period.until}.{format}"
        if format == "csv":
            return streamed(name, sheet(_COLUMNS, ([_cells(row) for row in page] for page in pages)))
        return streamed(name, _json_lines(pages), "application/jsonl")

    # -- what is declared -----------------------------------------------------------------------------------------

    async def _services(self, ask: Ask) -> Response:
        t = ask.t
        rows = [_declared(ask, service) for service in ask.visit.site.policy.services]
        columns: list[Column[Declared]] = [
            Column("title", t("consent.column_service"), by=lambda row: row.title.casefold()),
            Column("purpose", t("consent.column_purpose"), by=lambda row: row.purpose.casefold()),
            Column("provider", t("consent.column_provider"), by=lambda row: row.provider.casefold()),
            Column("category", t("consent.column_category"), by=lambda row: row.category.casefold()),
            Column("asks", t("consent.column_asks"), by=lambda row: not row.asks),
            Column("country", t("consent.column_country"), by=lambda row: row.country.casefold()),
            Column("cookies", t("consent.column_cookies"), by=lambda row: len(row.cookies)),
        ]
        listing = Listing.of(
            rows, columns, ask.visit.request.query_params, ask.url("consent/services"),
            search=lambda row: " ".join((*row.words, *row.cookies)),
            sort="title",
        )  # fmt: skip
        return ask.page("consent_services", list=listing)

    async def _undeclared(self, ask: Ask) -> Response:
        t = ask.t
        seen = await ask.run(undeclared, ask)
        rows = [(at, row, line) for at, (row, line) in enumerate(seen)]
        columns: list[Column[tuple[int, owner.Undeclared, str]]] = [
            Column("name", t("seen.column_name"), by=lambda row: row[1].name.casefold()),
            Column("kind", t("seen.column_kind"), by=lambda row: row[1].label),
            Column("place", t("seen.column_place"), by=lambda row: row[1].where),
            Column("last", t("seen.column_last"), by=lambda row: row[1].last),
            Column("total", t("seen.column_total"), by=lambda row: row[1].count, number=True),
            Column("remedy", t("seen.column_remedy")),
        ]
        listing = Listing.of(
            rows, columns, ask.visit.request.query_params, ask.url("consent/undeclared"),
            search=lambda row: f"{row[1].name} {row[1].label} {row[1].where}", sort="last", descending=True,
        )  # fmt: skip
        return ask.page("consent_undeclared", list=listing)


def undeclared(ask: Ask) -> Sequence[tuple[owner.Undeclared, str]]:
    """What was seen on this site and is not declared, each with the lines to write for it."""
    site = ask.visit.site
    declared = site.flow.seen.declared
    found = owner.undeclared(ask.kit.audit.read(site.settings.name), declared, ask.t)
    return [(row, owner.lines(row.kind, row.name, ask.t, declared=declared.ids)) for row in found]


@dataclass(frozen=True, slots=True)
class Period:
    """Days in UTC, both included; what was typed, and what is wrong with that by field."""

    since: date
    until: date
    typed: Mapping[str, str]
    errors: Mapping[str, str]

    @classmethod
    def of(cls, ask: Ask) -> Period:
        """The period of the query; the last 60 days where it names none."""
        return cls.read(ask, ask.query("since"), ask.query("until"), most=MOST_DAYS)

    @classmethod
    def read(cls, ask: Ask, since: str, until: str, *, most: int | None) -> Period:
        """The period that was typed.

        Args:
            most: how many days it may have.
        """
        today = utc_day(ask.kit.now())
        errors: dict[str, str] = {}
        last = read_day(until) if until else today
        first = read_day(since) if since else (last or today) - timedelta(days=DAYS - 1)
        if last is None:
            errors["until"] = ask.t("consent.no_day")
        if first is None:
            errors["since"] = ask.t("consent.no_day")
        if first and last and first > last:
            errors["since"] = ask.t("consent.wrong_order")
        elif first and last and most is not None and (last - first).days >= most:
            errors["since"] = ask.t("consent.too_long", most=most)
        if errors or first is None or last is None:
            typed = {"since": since if first else "", "until": until if last else ""}  # a date field holds nothing else
            return cls(today - timedelta(days=DAYS - 1), today, typed, errors)
        last = min(last, max(today, first))
        return cls(first, last, {"since": first.isoformat(), "until": last.isoformat()}, {})

    @property
    def days(self) -> range:
        """As many as there are days."""
        return range((self.until - self.since).days + 1)

    @property
    def begin(self) -> datetime:
        """The first moment of it."""
        return datetime.combine(self.since, clock(), UTC)

    @property
    def end(self) -> datetime:
        """The first moment after it."""
        return datetime.combine(self.until + timedelta(days=1), clock(), UTC)

    @property
    def query(self) -> Mapping[str, str]:
        """What names it in an address."""
        return {"since": self.since.isoformat(), "until": self.until.isoformat()}


@dataclass(frozen=True, slots=True)
class Declared:
    """A service that the site names, in words."""

    title: str
    provider: str
    category: str
    country: str
    cookies: Sequence[str]
    asks: bool
    purpose: str

    @property
    def words(self) -> Sequence[str]:
        """What it is found by, beside its cookies."""
        return self.title, self.purpose, self.provider, self.category, self.country


async def _figure(ask: Ask, period: Period) -> Figure[Rates] | None:
    site = ask.visit.site.settings.name
    read = partial(ask.kit.evidence.rates, site, period.since, period.until)
    key = ("consent.rates", site, period.since, period.until)
    return await ask.run(ask.rooms.figures.get, key, read)


def _purposes(ask: Ask, rates: Rates | None) -> Mapping[str, str]:
    """What each purpose is called: those that are asked today, then those that were."""
    renderer = ask.visit.site.renderer
    names = {one.id: renderer.say(one.title, ask.t.lang) for one in ask.visit.site.policy.asked}
    return names | {id: id for id in (rates.purposes if rates else ()) if id not in names}


def _charts(rates: Rates, purpose: str, t: Texts) -> Sequence[Mapping[str, Any]]:
    """What is drawn of one purpose: given, refused, withdrawn; by day, or by week where the period is long."""
    step = _WEEK if len(rates.days) > _BY_DAY else 1
    begins = rates.days[::step]
    said = [t("consent.week_of", day=t.date(day)) if step > 1 else t.date(day) for day in begins]
    every = max(1, len(begins) // 4)
    marks = {
        at: t("report.day", day=begins[at].day, month=t(f"date.m{begins[at].month}"))
        for at in range(0, len(begins) * 7 // 8 or 1, every)
    }
    tallies = rates.purposes.get(purpose, [Tally()] * len(rates.days))
    found = []
    for part in _PARTS:
        values = [sum(getattr(one, part) for one in tallies[at : at + step]) for at in range(0, len(tallies), step)]
        found.append(
            {
                "id": f"ck-chart-{part}",
                "title": t(f"consent.chart_{part}_{'week' if step > 1 else 'day'}"),
                "label": t(f"consent.{part}"),
                "drawing": bars(values, said, marks),
                "rows": [*zip(said, values, strict=True)][::-1],
                "sum": sum(values),
            }
        )
    return found


def _is_anchor(text: str) -> bool:
    number, _, digest = text.rpartition(":")
    return (not number or (number.isascii() and number.isdigit())) and len(digest) == 64 and _is_hex(digest)


def _is_hex(text: str) -> bool:
    return all(sign in "0123456789abcdef" for sign in text)


def _check(evidence: Evidence, anchor: str | None, progress: Progress) -> Outcome:
    report: Report = evidence.verify(anchor=anchor, progress=progress)
    lines = [{"line": one.seq or 0, "why": one.text, "site": one.site} for one in report.problems]
    return Outcome(
        {
            "ok": report.ok,
            "events": report.events,
            "notices": report.notices,
            "found": report.found,
            "heads": dict(report.heads),
            "anchor": anchor or "",
            "lines": lines,
            "more": report.found - len(lines),
            "remarks": [*report.remarks],
        }
    )


def _export_page(ask: Ask, period: Period, *, status: int = 200) -> Response:
    t, sent = ask.t, ask.sent
    return ask.page(
        "consent_export",
        status=status,
        period=period,
        what=sent.text("what") or "site",
        format=sent.text("format") or "jsonl",
        whats=[(key, t(f"consent.what_{key}")) for key in ("site", "newsletter", "both")],
        formats=[(key, t(f"consent.format_{key}")) for key in ("jsonl", "csv")],
    )


_COLUMNS: Final = (
    "site",
    "seq",
    "record_id",
    "state",
    "at",
    "purposes",
    "method",
    "valid_until",
    "language",
    "notice_version",
    "notice_hash",
    "controller",
    "policy",
    "ui_build",
    "event_id",
    "nonce",
    "hash",
)


def _cells(row: Mapping[str, Any]) -> Sequence[object]:
    return [json.dumps(row[name]) if isinstance(row[name], dict) else row[name] for name in _COLUMNS]


def _json_lines(pages: Iterator[Sequence[Mapping[str, Any]]]) -> Iterator[bytes]:
    for page in pages:
        yield "".join(f"{json.dumps(row, ensure_ascii=False)}\n" for row in page).encode()


def _declared(ask: Ask, service: Service) -> Declared:
    t, renderer = ask.t, ask.visit.site.renderer
    own = ask.kit.settings.categories.get(service.category)
    category = renderer.say(own.title, t.lang) if own else t.category(service.category).title
    return Declared(
        service.title,
        service.provider,
        category,
        t.country(service.country),
        [item.name for item in service.items],
        service.asks,
        renderer.say(service.purpose, t.lang),
    )
