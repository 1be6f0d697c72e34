"""The page of long work: how far it is, what came of it, and the file to take along.

What to say about a kind of work stands in `texts/<language>/jobs.toml`, so that an area only starts it and leads here
(`ask.back(f"jobs/{id}")`). Of a kind such as `afgemeld_import`, whose name begins with that of its area:

- `jobs.<kind>`: the heading. `jobs.<kind>_done`: what came of it, in words, with the report's values in its places.
- `jobs.<kind>_download`, where a file comes out: the button, and `jobs.<kind>_download_help` beside it.
- `jobs.<kind>_next`, where it may go on: a button that posts to `<about>/<id>`, `jobs.<kind>_next_help` beside it. It
  stands there while there is a file, and a button that throws the file away beside it.
- `jobs.<kind>_lines`, where all refused lines can be had as a CSV: the link to `<about>/<id>/lines`.
- `jobs.<kind>_back`: the link to the page where it began, which is what the work is `about`.

A report's `lines` (see `consentkit.staff.Lines`) become a table. Its reasons, and the sentence of work that failed, are
said in the language of the page where `jobs.why_…` knows them: by their English words.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from typing import Any, Final

from starlette.responses import Response

from consentkit.render import Texts
from consentkit.render.console import number, texts
from consentkit.staff import Job, JobState, Right
from consentkit.web.console.ask import Ask, Route
from consentkit.web.console.download import CSV, attachment
from consentkit.web.console.listing import Column, Listing

RIGHTS: Final[Mapping[str, Right]] = {
    "afgemeld": Right.AFGEMELD,
    "consent": Right.CONSENT,
    "lists": Right.IMPORT,
    "mailings": Right.MAILINGS,
}
"""What one must still be allowed to see what came of work of an area."""

_SHOWN: Final = 100
"""So many of the newest are shown."""


class JobPages:
    """Long work of whoever asks."""

    name = "jobs"

    def __init__(self) -> None:
        self.routes = (
            Route("jobs", None, get=self._list),
            Route("jobs/{id}", None, get=self._show),
            Route("jobs/{id}/file", None, get=self._file),
            Route("jobs/{id}/drop", None, post=self._drop),
        )

    async def _list(self, ask: Ask) -> Response:
        found = await ask.run(ask.rooms.jobs.recent, ask.member.name, _SHOWN)
        mine = [job for job in found if _may(ask, job)]
        columns: list[Column[Job]] = [
            Column("kind", ask.t("jobs.kind"), by=lambda job: _titled(ask.t, job)),
            Column("begun", ask.t("jobs.begun"), by=lambda job: job.begun_at),
            Column("state", ask.t("jobs.state"), by=lambda job: ask.t(f"jobs.state_{job.state}")),
        ]
        listing = Listing.of(
            mine, columns, ask.visit.request.query_params, ask.url("jobs"),
            search=lambda job: _titled(ask.t, job), sort="begun", descending=True,
        )  # fmt: skip
        return ask.page("jobs", list=listing, titled=lambda job: _titled(ask.t, job))

    async def _show(self, ask: Ask) -> Response:
        job = await self._mine(ask)
        if job is None:
            return _gone(ask)
        ask.area = job.kind.partition("_")[0]
        t = ask.t
        lines = [{**line, "why": said(t, line["why"])} for line in job.report.get("lines", ())]
        columns: list[Column[Any]] = [
            Column("line", t("jobs.line"), by=lambda line: line["line"], number=True),
            Column("why", t("jobs.why"), by=lambda line: line["why"]),
        ]
        listing = Listing.of(
            lines, columns, ask.visit.request.query_params, ask.url(f"jobs/{job.id}"),
            search=lambda line: line["why"], sort="line",
        )  # fmt: skip
        return ask.page(
            "job",
            job=job,
            title=_titled(t, job),
            done=_told(t, f"jobs.{job.kind}_done", job.report) if job.state is JobState.DONE else "",
            problem=said(t, str(job.report.get("problem", ""))) or t("jobs.failed_anyhow"),
            more=int(job.report.get("more", 0)),
            list=listing,
            word=lambda part: _told(t, f"jobs.{job.kind}_{part}", job.report),
        )

    async def _file(self, ask: Ask) -> Response:
        job = await self._mine(ask)
        if job is None or not ask.t.has(f"jobs.{job.kind}_download"):
            return _gone(ask)
        found = await ask.run(ask.rooms.jobs.result, job.id, ask.member.name)
        if found is None:
            return ask.wrong(ask.t("jobs.file_gone"), status=404, title=ask.t("jobs.file_gone_title"))
        await ask.note("jobs.file", job.kind)
        name, data = found
        kind = CSV if name.lower().endswith(".csv") else "application/octet-stream"
        return Response(data, 200, attachment(name), media_type=kind)

    async def _drop(self, ask: Ask) -> Response:
        job = await self._mine(ask)
        if job is None:
            return _gone(ask)
        await ask.run(ask.rooms.jobs.drop, job.id)
        return ask.back(f"jobs/{job.id}", told="jobs.told_dropped")

    @staticmethod
    async def _mine(ask: Ask) -> Job | None:
        job = await ask.run(ask.rooms.jobs.get, ask.params["id"], ask.member.name)
        return job if job is not None and _may(ask, job) else None


def said(t: Texts, sentence: str) -> str:
    """What a room says in English, in the language of the page; as it is where no text knows it."""
    if t.lang == "en":
        return sentence
    for key, pattern in _patterns():
        if found := pattern.fullmatch(sentence):
            return t(f"jobs.why_{key}", **{name: said(t, part) for name, part in found.groupdict().items()})
    return sentence


@cache
def _patterns() -> list[tuple[str, re.Pattern[str]]]:
    """The English of every reason, as a pattern with its places open."""
    found = []
    for key, text in texts("en").under("jobs.why_").items():
        parts = re.split(r"\{(\w+)\}", text)
        written = "".join(f"(?P<{part}>.+?)" if at % 2 else re.escape(part) for at, part in enumerate(parts))
        found.append((key, re.compile(written, re.DOTALL)))
    return found


def _told(t: Texts, key: str, report: Mapping[str, Any]) -> str:
    if not t.has(key):
        return ""
    values = {name: number(value, t.lang) if type(value) is int else value for name, value in report.items()}
    return t(key, **values) if values else t(key)


def _titled(t: Texts, job: Job) -> str:
    return t(f"jobs.{job.kind}") if t.has(f"jobs.{job.kind}") else job.kind


def _may(ask: Ask, job: Job) -> bool:
    right = RIGHTS.get(job.kind.partition("_")[0])
    return right is not None and ask.member.may(right)


def _gone(ask: Ask) -> Response:
    return ask.wrong(ask.t("jobs.gone"), status=404, title=ask.t("base.not_found_title"))
