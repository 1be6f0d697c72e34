"""The report of a mailing: what became of it, in figures that say what they count, as rows, CSV, JSON or a page.

It reads single deliveries, opens and clicks together with the totals that are left of older ones, by one rule, so that
a figure does not change when single ones are reduced. It names no reader, and shows nothing measured while it could be
about one.
"""

from __future__ import annotations

import csv
import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, date, datetime, timedelta
from io import StringIO
from itertools import pairwise
from typing import Any, Final

from markupsafe import Markup
from sqlalchemy import func, select
from sqlalchemy.engine import Connection

from consentkit import assets
from consentkit.csvstream import inert
from consentkit.errors import ConsentKitError
from consentkit.mailing.chart import Chart, bars
from consentkit.mailing.tables import events, links, mailings, totals
from consentkit.mailing.tally import ANY, CLICK, LEFT, MACHINE, OPEN, tally_deliveries, tally_events
from consentkit.render import Renderer, Texts
from consentkit.store import Store

LEAST: Final = 5
"""With fewer measured readers nothing measured is shown: a figure could tell what one of them did."""

HOURS: Final = 72
"""So long after its start the course of a mailing is told by the hour."""

MOST_DAYS: Final = 90

_WAITING: Final = ("queued", "claimed", "sending")
_REASONS: Final = frozenset(
    {"afgemeld", "left", "unconfirmed", "unproven", "expired", "pupils", "unknown", "filtered", "erased"}
)


@dataclass(frozen=True, slots=True)
class Followed:
    """How many measured readers did something, and how often in all; a program's doing not counted."""

    people: int
    times: int


@dataclass(frozen=True, slots=True)
class Link:
    """One measured link and who followed it."""

    url: str
    people: int
    times: int


@dataclass(frozen=True, slots=True)
class Slot:
    """One hour or day of the course, in UTC."""

    at: datetime
    opens: int
    clicks: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What became of one mailing. The texts `report.about_…` say what each figure counts.

    Args:
        excluded, failed, suppressed: how many, by reason; in `failed` without what came back later.
        measured: of the messages that are delivered, those whose reader had agreed to be measured.
        opens, clicks and what follows: None and empty where fewer than 5 are measured.
        step: whether a slot of the course is an `hour` or a `day`.
    """

    id: int
    list: str
    subject: str
    state: str
    started: datetime | None
    ended: datetime | None
    recipients: int
    excluded: Mapping[str, int]
    suppressed: Mapping[str, int]
    waiting: int
    deferred: int
    sent: int
    bounced: int
    failed: Mapping[str, int]
    in_doubt: int
    cancelled: int
    expired: int
    left: int
    complaints: int
    measured: int
    opens: Followed | None
    opens_by_machine: Followed | None
    clicks: Followed | None
    clicks_by_machine: Followed | None
    links: Sequence[Link] = field(default_factory=tuple)
    course: Sequence[Slot] = field(default_factory=tuple)
    step: str = "day"

    @property
    def delivered(self) -> int:
        """What was sent and did not come back."""
        return self.sent - self.bounced


def report(store: Store, id: int, now: datetime) -> Report:
    """The report of a mailing as of `now`.

    Raises:
        ConsentKitError: there is no mailing with this number.
        DatabaseUnavailable, SchemaOutdated: the database can't be asked.
    """
    with store.read() as connection:
        mailing = connection.execute(select(mailings).where(mailings.c.id == id)).first()
        if mailing is None:
            raise ConsentKitError(f"there is no mailing {id}: `consentkit mailing list` shows them")
        sums = _sums(connection, id)
        addresses = connection.execute(
            select(links.c.number, links.c.url).where(links.c.mailing_id == id).order_by(links.c.number)
        ).all()
        started = mailing.start_at or mailing.frozen_at
        by_hour = started is not None and now - started < timedelta(hours=HOURS)
        course = _hours(connection, id, started, now) if by_hour else _days(sums, started)
    states: dict[str, dict[str, int]] = defaultdict(dict)
    for kind, count in _of(sums, "delivery:"):
        state, _, reason = kind.partition(":")
        states[state][reason] = count
    came_back = {reason: count for reason, count in states["failed"].items() if reason.startswith("bounced")}
    bounced = sum(came_back.values())
    measured = sum(count for _, count in _of(sums, "measured"))
    shown = measured >= LEAST
    back = dict(_of(sums, "back:"))
    return Report(
        id=id,
        list=mailing.list,
        subject=mailing.subject,
        state=mailing.state,
        started=started,
        ended=mailing.ended_at,
        recipients=sum(sum(some.values()) for some in states.values()),
        excluded=_by_count(states["excluded"]),
        suppressed=_by_count(states["suppressed"]),
        waiting=sum(sum(states[state].values()) for state in _WAITING),
        deferred=sum(states["deferred"].values()),
        sent=sum(states["sent"].values()) + bounced,
        bounced=bounced,
        failed=_by_count({reason: count for reason, count in states["failed"].items() if reason not in came_back}),
        in_doubt=sum(states["in_doubt"].values()),
        cancelled=sum(states["cancelled"].values()),
        expired=sum(states["expired"].values()),
        left=sum(count for _, count in _of(sums, LEFT)) + back.get("left", 0),
        complaints=back.get("complaint", 0),
        measured=measured,
        opens=_followed(sums, OPEN) if shown else None,
        opens_by_machine=_followed(sums, OPEN + MACHINE) if shown else None,
        clicks=_followed(sums, CLICK) if shown else None,
        clicks_by_machine=_followed(sums, CLICK + MACHINE) if shown else None,
        links=_links(sums, addresses) if shown else (),
        course=course if shown else (),
        step="hour" if by_hour else "day",
    )


_Sums = Mapping[tuple[str, int, str], tuple[int, int]]
"""How often and by how many people, by kind, link and day."""


def _sums(connection: Connection, id: int) -> _Sums:
    """What there is of single deliveries and events, and what is left of others, as one."""
    sums: dict[tuple[str, int, str], tuple[int, int]] = {}
    for single in (tally_deliveries(connection, id), tally_events(connection, events.c.mailing_id == id)):
        for (_, kind, link, day), found in single.items():
            sums[kind, link, day] = found
    for row in connection.execute(select(totals).where(totals.c.mailing_id == id)):
        key = (row.kind, row.link, row.day)
        count, people = sums.get(key, (0, 0))
        sums[key] = (count + row._mapping["count"], people + row.people)
    return sums


def _of(sums: _Sums, start: str) -> list[tuple[str, int]]:
    """The rest of each kind that begins so, and its count."""
    found: dict[str, int] = defaultdict(int)
    for (kind, link, _), (count, _) in sums.items():
        if kind.startswith(start) and link == ANY:
            found[kind.removeprefix(start)] += count
    return [*found.items()]


def _followed(sums: _Sums, kind: str, link: int = ANY) -> Followed:
    found = [both for (one, number, _), both in sums.items() if (one, number) == (kind, link)]
    return Followed(sum(people for _, people in found), sum(count for count, _ in found))


def _links(sums: _Sums, addresses: Sequence[Any]) -> tuple[Link, ...]:
    found = [(row.url, _followed(sums, CLICK, row.number)) for row in addresses]
    return tuple(Link(url, one.people, one.times) for url, one in found)


def _by_count(some: Mapping[str, int]) -> dict[str, int]:
    return dict(sorted(some.items(), key=lambda one: (-one[1], one[0])))


def _days(sums: _Sums, started: datetime | None) -> tuple[Slot, ...]:
    found = {day for kind, _, day in sums if kind in (OPEN, CLICK)}
    if started is None or not found:
        return ()
    first, last = started.date(), max(found)
    slots = []
    for number in range(MOST_DAYS + 1):
        day = first + timedelta(days=number)
        if day.isoformat() > last:
            break
        opens, clicks = (sums.get((kind, ANY, day.isoformat()), (0, 0))[0] for kind in (OPEN, CLICK))
        slots.append(Slot(datetime(day.year, day.month, day.day, tzinfo=UTC), opens, clicks))
    return tuple(slots)


def _hours(connection: Connection, id: int, started: datetime | None, now: datetime) -> tuple[Slot, ...]:
    """The course by the hour, of what is still kept singly."""
    if started is None:
        return ()
    row, found = events.c, defaultdict[tuple[datetime, str], int](int)
    query = select(row.at, row.kind, func.count()).where(row.mailing_id == id, ~row.machine)
    for at, kind, count in connection.execute(query.group_by(row.at, row.kind)):
        found[at.replace(minute=0), kind] += count
    if not found:
        return ()
    first = started.astimezone(UTC).replace(minute=0, second=0, microsecond=0)
    hours = [first + timedelta(hours=number) for number in range(HOURS + 1)]
    return tuple(Slot(at, found[at, OPEN], found[at, CLICK]) for at in hours if at <= now)


# -- how it is told ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Row:
    """One figure. `key` names it for programs, `detail` a part of it; `share` is of what `about` says, 0 to 1."""

    key: str
    label: str
    value: int
    share: float | None
    about: str
    detail: str = ""


def as_rows(report: Report, texts: Texts) -> list[Row]:
    """Every figure with what it counts, in the order in which it is told."""
    measured, rows = report.measured, list[Row]()

    def add(key: str, value: int, whole: int = 0, parts: Mapping[str, int] | None = None) -> None:
        share = value / whole if whole else None
        rows.append(Row(key, texts(f"report.{key}"), value, share, texts(f"report.about_{key}", least=LEAST)))
        for reason, count in (parts or {}).items():
            rows.append(Row(key, reason_said(reason, texts), count, None, "", detail=reason or "other"))

    add("recipients", report.recipients)
    add("excluded", sum(report.excluded.values()), report.recipients, report.excluded)
    add("suppressed", sum(report.suppressed.values()), 0, report.suppressed)
    for key in ("waiting", "deferred", "in_doubt", "cancelled", "expired"):
        if value := getattr(report, key):
            add(key, value)
    add("failed", sum(report.failed.values()), 0, report.failed)
    add("sent", report.sent)
    add("bounced", report.bounced, report.sent)
    add("delivered", report.delivered, report.sent)
    add("left", report.left, report.delivered)
    add("complaints", report.complaints, report.delivered)
    add("measured", measured, report.delivered)
    for key in ("opens", "opens_by_machine", "clicks", "clicks_by_machine"):
        found: Followed | None = getattr(report, key)
        if found is not None:
            add(key, found.people, measured)
            rows.append(Row(key, texts("report.times"), found.times, None, "", detail="times"))
    for link in report.links:
        share = link.people / measured if measured else None
        rows.append(Row("link", link.url, link.people, share, "", detail=link.url))
    return rows


def as_json(report: Report) -> dict[str, Any]:
    """The report as JSON takes it; moments in ISO 8601, UTC."""
    told: dict[str, Any] = json.loads(json.dumps(asdict(report), default=lambda moment: moment.isoformat()))
    return {**told, "delivered": report.delivered, "hidden": report.opens is None}


def as_csv(report: Report, texts: Texts) -> str:
    """The rows as CSV with a header (RFC 4180). A cell that a spreadsheet would calculate gets a quote in front."""
    out = StringIO()
    writer = csv.writer(out)
    writer.writerow(["figure", "detail", "label", "value", "share", "counts"])
    for row in as_rows(report, texts):
        share = "" if row.share is None else f"{row.share:.4f}"
        writer.writerow([row.key, inert(row.detail), inert(row.label), row.value, share, row.about])
    return out.getvalue()


def as_html(report: Report, renderer: Renderer, lang: str | None = None, *, page: bool = True) -> str:
    """The report as a page of its own that needs nothing else, or as a piece of HTML.

    Args:
        page: whole, with its style in it. A piece has neither script nor style, so that it fits any Content Security
            Policy; it belongs with `static/consentkit-report.css`.
    """
    texts = renderer.texts(lang)
    rows = as_rows(report, texts)
    groups: dict[str, list[tuple[Row, list[Row]]]] = {"way": [], "answers": [], "measuring": []}
    for group, keys in (("answers", ("left", "complaints")), ("measuring", ("measured", *_MEASURED))):
        groups[group] = _with_parts([row for row in rows if row.key in keys])
    told = {"left", "complaints", "measured", "link", *_MEASURED}
    groups["way"] = _with_parts([row for row in rows if row.key not in told])
    top = [row for row in rows if row.key in ("delivered", "opens", "clicks", "left") and not row.detail]
    charts = [
        (kind, texts(f"report.{kind}"), _chart([getattr(slot, kind) for slot in report.course], report, texts))
        for kind in ("opens", "clicks")
        if any(getattr(slot, kind) for slot in report.course)
    ]
    values: dict[str, Any] = {
        "report": report,
        "top": top,
        "groups": groups,
        "charts": charts,
        "slots": [(_slot(slot.at, report.step, texts), slot) for slot in report.course if slot.opens or slot.clicks],
        "number": lambda value: _number(value, texts),
        "percent": lambda share: _percent(share, texts),
        "moment": lambda at: _moment(at, texts),
        "least": LEAST,
    }
    if not page:
        return renderer.fragment("report.html", lang, **values)
    style = renderer.pages_css_text + (assets.directory("static") / "consentkit-report.css").read_text("utf-8")
    css = Markup(style)  # noqa: S704  ours, from a file and a theme that is checked
    return renderer.fragment("report_page.html", lang, style=css, **values)


_MEASURED: Final = ("opens", "opens_by_machine", "clicks", "clicks_by_machine")


def _with_parts(rows: Sequence[Row]) -> list[tuple[Row, list[Row]]]:
    told: list[tuple[Row, list[Row]]] = []
    for row in rows:
        if row.detail:
            told[-1][1].append(row)
        else:
            told.append((row, []))
    return told


def _chart(values: Sequence[int], report: Report, texts: Texts) -> Chart:
    """The bars of one course; a label stands where a day begins, as far as there is room for it."""
    days = [slot.at.date() for slot in report.course]
    marks = [0]
    for place, (one, next) in enumerate(pairwise(days), 1):
        if one != next and marks[-1] + len(days) / 4 <= place <= len(days) * 4 / 5:
            marks.append(place)
    said = [_slot(slot.at, report.step, texts) for slot in report.course]
    below = {place: texts("report.day", day=days[place].day, month=_month(days[place], texts)) for place in marks}
    return bars(values, said, below)


def _month(day: date, texts: Texts) -> str:
    return texts(f"date.m{day.month}")


def _slot(at: datetime, step: str, texts: Texts) -> str:
    day = texts.date(at.date())
    return texts("report.hour", day=day, hour=f"{at.hour:02}") if step == "hour" else day


def _moment(at: datetime | None, texts: Texts) -> str:
    return "" if at is None else texts("report.moment", day=texts.date(at.date()), time=f"{at:%H:%M}")


def _number(value: int, texts: Texts) -> str:
    return f"{value:,}".replace(",", texts("report.thousands"))


def _percent(share: float, texts: Texts) -> str:
    return f"{share * 100:.1f}".replace(".", texts("report.decimal")) + "%"


def reason_said(reason: str, texts: Texts) -> str:
    """A reason that a delivery has, in words; a code of a mail server stays as it is."""
    name, _, rest = reason.partition(":")
    if name == "field":
        return texts("report.reason_field", field=rest)
    if reason in _REASONS:
        return texts(f"report.reason_{reason}")
    return reason or texts("report.reason_other")
