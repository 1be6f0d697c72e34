"""Proof of consent: a record by the number on its receipt, and each notice as it was shown on any day.

A record names no person, and only who has its receipt can find it. Reading one is noted first (checklist SEC-06).
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from functools import partial
from typing import Any, Final

from starlette.responses import Response

from consentkit.evidence import Answered, ConsentEvent, Notice, was_valid
from consentkit.evidence.event import ENDED_STATES, SHOWN_STATE
from consentkit.render import Texts
from consentkit.staff import Right
from consentkit.web.console.ask import Ask, Route
from consentkit.web.console.download import attachment
from consentkit.web.console.listing import Column, Listing
from consentkit.web.visit import HEADERS

FRAME: Final = HEADERS | {
    "Content-Security-Policy": (
        "default-src 'none'; style-src 'unsafe-inline'; form-action 'none'; base-uri 'none'; frame-ancestors 'self'; "
        "sandbox"
    ),
    "X-Frame-Options": "SAMEORIGIN",
}
"""For what was shown, shown again: nothing of it runs or loads, and only our own page frames it."""

_NUMBER = re.compile(r"(?<![0-9a-f])[0-9a-f]{32}(?![0-9a-f])")
_BETWEEN = re.compile(r"[\s\u00ad\u200b\u2010-\u2015_.-]+")
_DIGEST = re.compile(r"[0-9a-f]{64}")
_WORD = re.compile(r"[.-]")
_YEARS: Final = (2000, 2999)


@dataclass(frozen=True, slots=True)
class Step:
    """One event of a record, in words.

    Args:
        told: what happened. how: by which control. granted, denied: what the purposes are called.
        means: in a word what the denied ones are: `asked` and nothing more, denied (`no`), or consent that `ended`.
        row: the event as an export gives it. at, until: its moments.
    """

    told: str
    how: str
    granted: Sequence[str]
    denied: Sequence[str]
    means: str
    row: Mapping[str, Any]
    at: datetime
    until: datetime | None


@dataclass(frozen=True, slots=True)
class Shown:
    """A notice as it is shown again: its own words, and on which days it was answered, as far as that is known.

    Args:
        whole: whether the text that is kept still has the hash that it is named by.
    """

    notice: Notice
    whole: bool
    body: Mapping[str, Any]
    answered: Answered | None


class Proof:
    """What a privacy officer shows to somebody who says: I never agreed to this."""

    name = "consent"

    def __init__(self) -> None:
        right = Right.CONSENT
        self.routes = (
            Route("consent/find", right, get=self._find, post=self._found, once=False),
            Route("consent/records/{record}", right, get=self._record),
            Route("consent/records/{record}/file", right, get=self._record_file),
            Route("consent/shown", right, get=self._days),
            Route("consent/notices/{digest}", right, get=self._notice),
            Route("consent/notices/{digest}/shown", right, get=self._again),
            Route("consent/notices/{digest}/text", right, get=self._text),
        )

    # -- records --------------------------------------------------------------------------------------------------

    async def _find(self, ask: Ask) -> Response:
        return ask.page("consent_find", typed="", error="")

    async def _found(self, ask: Ask) -> Response:
        record = read_number(ask.sent.text("receipt"))
        if record is None:
            error = ask.t("consent.no_number")
            return ask.page("consent_find", status=422, typed=ask.sent.text("receipt"), error=error)
        return ask.back(f"consent/records/{record}")

    async def _record(self, ask: Ask) -> Response:
        found = await self._read(ask, "consent.read")
        if isinstance(found, Response):
            return found
        record, rows = found
        history = await ask.run(ask.kit.evidence.history, record)
        digests = dict.fromkeys(row["notice_hash"] for row in rows)
        names = await ask.run(_titles, ask, digests)
        typed, at = _moment(ask.query("at"), ask.kit.now())
        return ask.page(
            "consent_record",
            record=record,
            steps=[_step(row, names, ask.t) for row in rows],
            sites=sorted({scope_said(ask, row["site"]) for row in rows}),
            checked=_checked([one for one in history if one.site == rows[0]["site"]], names, at),
            at=at,
            typed=typed,
            numbers={digest: place for place, digest in enumerate(digests, 1)},
        )

    async def _record_file(self, ask: Ask) -> Response:
        found = await self._read(ask, "consent.export")
        if isinstance(found, Response):
            return found
        record, rows = found
        body = json.dumps(rows, ensure_ascii=False, indent=1).encode()
        return Response(body, 200, attachment(f"bewijs-{record}.json"), "application/json")

    async def _read(self, ask: Ask, act: str) -> tuple[str, list[dict[str, Any]]] | Response:
        record = read_number(ask.params["record"])
        if record is None or record != ask.params["record"]:
            return ask.wrong(ask.t("base.not_found"), status=404, title=ask.t("base.not_found_title"))
        await ask.note(act, f"record {record}")
        rows = await ask.run(ask.kit.evidence.proof, record)
        if not rows:
            return ask.page("consent_none", status=404, record=record)
        return record, rows

    # -- notices --------------------------------------------------------------------------------------------------

    async def _days(self, ask: Ask) -> Response:
        typed = ask.query("day")
        day = read_day(typed) if typed else None
        figure = await self._answered(ask)
        every = figure.value if figure else []
        here = [one for one in every if day in one.days] if day else every
        t = ask.t
        columns: list[Column[Answered]] = [
            Column("notice", t("consent.column_notice")),
            Column("language", t("consent.column_language"), by=lambda one: _language(t, one.language)),
            Column("first", t("consent.column_first"), by=lambda one: one.first),
            Column("last", t("consent.column_last"), by=lambda one: one.last),
            Column("count", t("consent.column_count"), by=lambda one: _count(one, day), number=True),
        ]
        path, params = ask.url("consent/shown"), ask.visit.request.query_params

        def words(one: Answered) -> str:
            kind = t(f"consent.kind_{one.kind or 'banner'}")
            return f"{kind} {one.hash} {_language(t, one.language)}"

        return ask.page(
            "consent_shown",
            status=422 if typed and day is None else 200,
            typed=typed if day else "",
            error=t("consent.no_day") if typed and day is None else "",
            day=day,
            figure=figure,
            every=every,
            near=_near(every, day) if day and not here else (),
            list=Listing.of(here, columns, params, path, search=words, sort="last", descending=True),
            count=lambda one: _count(one, day),
            language=partial(_language, t),
        )

    async def _notice(self, ask: Ask) -> Response:
        shown = await self._shown(ask)
        if isinstance(shown, Response):
            return shown
        return ask.page("consent_notice", shown=shown, language=partial(_language, ask.t))

    async def _again(self, ask: Ask) -> Response:
        shown = await self._shown(ask)
        if isinstance(shown, Response):
            return shown
        page = await ask.run(ask.visit.site.renderer.show_notice, shown.body)
        return Response(page, 200, FRAME, "text/html; charset=utf-8")

    async def _text(self, ask: Ask) -> Response:
        shown = await self._shown(ask)
        if isinstance(shown, Response):
            return shown
        return Response(shown.notice.body, 200, attachment(f"tekst-{ask.params['digest']}.json"), "application/json")

    async def _shown(self, ask: Ask) -> Shown | Response:
        digest = ask.params["digest"]
        found = await ask.run(ask.kit.evidence.notice, digest) if _DIGEST.fullmatch(digest) else None
        if found is None:
            return ask.wrong(ask.t("consent.notice_gone"), status=404, title=ask.t("base.not_found_title"))
        figure = await self._answered(ask)
        answered = next((one for one in figure.value if one.hash == digest), None) if figure else None
        return Shown(found, found.hash == digest, found.content, answered)

    @staticmethod
    async def _answered(ask: Ask) -> Any:
        site = ask.visit.site.settings.name
        read = partial(ask.kit.evidence.answered, site)
        return await ask.run(ask.rooms.figures.get, ("consent.answered", site), read)


def read_number(text: str) -> str | None:
    """The number of a record as somebody quotes it: with spaces, dashes, capitals or words around it."""
    found = _NUMBER.findall(_BETWEEN.sub("", text).lower()) or _NUMBER.findall(text.lower())
    return found[0] if len(set(found)) == 1 else None


def scope_said(ask: Ask, scope: str) -> str:
    """What a chain is of, in words: a site's cookies, or its newsletters."""
    letters = {paper.scope: name for name, paper in ask.kit.newsletter.papers.items()}
    return ask.t("consent.of_newsletter", site=letters[scope]) if scope in letters else scope


def how_said(t: Texts, method: str) -> str:
    """By which control something was chosen, in words; a word of ours that has none stays as it is."""
    key = f"consent.how_{_WORD.sub('_', method)}"
    if t.has(key):
        return t(key)
    place, _, decision = method.partition(".")
    if place == "import":
        return t("consent.how_import", tool=decision)
    if place == "leave":
        return t("consent.how_leave", channel=decision)
    if t.has(f"consent.place_{place}") and t.has(f"consent.decision_{decision}"):
        return t("consent.how_control", place=t(f"consent.place_{place}"), control=t(f"consent.decision_{decision}"))
    return method


def _step(row: Mapping[str, Any], names: Mapping[str, str], t: Texts) -> Step:
    key = f"consent.state_{row['state']}"
    purposes = row["purposes"]
    return Step(
        t(key) if t.has(key) else row["state"],
        how_said(t, row["method"]),
        [names.get(name, name) for name, granted in purposes.items() if granted],
        [names.get(name, name) for name, granted in purposes.items() if not granted],
        "asked" if row["state"] == SHOWN_STATE else "ended" if row["state"] in ENDED_STATES else "no",
        row,
        datetime.fromisoformat(row["at"]),
        datetime.fromisoformat(row["valid_until"]) if row["valid_until"] else None,
    )


def _checked(history: Sequence[ConsentEvent], names: Mapping[str, str], at: datetime) -> Sequence[tuple[str, bool]]:
    """Of each purpose that the record ever named: whether consent was in force at that moment."""
    purposes = dict.fromkeys(name for event in history for name in event.purposes)
    return [(names.get(name, name), was_valid(history, name, at)) for name in purposes]


def _titles(ask: Ask, digests: Sequence[str]) -> Mapping[str, str]:
    """What the purposes are called, in the words that were shown."""
    names: dict[str, str] = {}
    for digest in digests:
        notice = ask.kit.evidence.notice(digest)
        body = notice.content if notice else {}
        names |= {one["id"]: one["title"] for one in body.get("purposes", ())}
        for topic in body.get("topics", {}).values():
            title = topic["title"]
            names[f"{topic['kind']}.{topic['value']}"] = title
            names[f"measuring.{topic['value']}"] = ask.t("consent.measuring", list=title)
    return names


def _language(t: Texts, code: str) -> str:
    return t(f"consent.language_{code}") if t.has(f"consent.language_{code}") else code


def _count(one: Answered, day: date | None) -> int:
    return one.days[day] if day else one.total


def _near(every: Sequence[Answered], day: date) -> Sequence[date]:
    """The days with an answer that are closest to one without: before it, and after it."""
    days = sorted({on for one in every for on in one.days})
    return [*[on for on in days if on < day][-1:], *[on for on in days if on > day][:1]]


def read_day(text: str) -> date | None:
    """A day as a field sends it; None for anything else, and for one that no evidence can be of."""
    try:
        day = date.fromisoformat(text)
    except ValueError:
        return None
    return day if _YEARS[0] <= day.year <= _YEARS[1] else None


def _moment(text: str, now: datetime) -> tuple[str, datetime]:
    """What stands in the field, and the moment that it means in the server's own time; now where it means none."""
    try:
        typed = datetime.fromisoformat(text)
    except ValueError:
        typed = now
    at = (typed if _YEARS[0] <= typed.year <= _YEARS[1] else now).astimezone()
    return f"{at:%Y-%m-%dT%H:%M}", at
