"""Afgemeld as files: import with a dry run first, export, and scrubbing a list that another mailing tool will send to.

All but the export runs behind, and reports by line. What was uploaded is kept for an hour at most, with its report.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from io import BytesIO
from itertools import islice
from typing import Any, Final

from starlette.responses import Response, StreamingResponse

from consentkit.afgemeld import MARKETING, Reason, scope_of
from consentkit.afgemeld.scrub import scrub
from consentkit.afgemeld.transfer import export, import_
from consentkit.staff import Job, JobState, Lines, Outcome, Progress, Right
from consentkit.web.console.ask import Ask, Kit, Route
from consentkit.web.console.download import CSV, attachment
from consentkit.web.console.scopes import list_said, reason_said, scope_options
from consentkit.web.console.uploads import NoCsv, csv_of

REASONS: Final = (
    Reason.IMPORT, Reason.UNSUBSCRIBE, Reason.COMPLAINT, Reason.HARD_BOUNCE, Reason.PHONE, Reason.LETTER, Reason.REPLY,
    Reason.STAFF,
)  # fmt: skip
"""What the rows of a file may be there for, where they don't say."""

_LINES_AT_ONCE: Final = 2_000
_MAX_COLUMN: Final = 100


class AfgemeldFiles:
    """The part of the area that takes and gives files."""

    def __init__(self) -> None:
        right = Right.AFGEMELD
        self.routes = (
            Route("afgemeld/import", right, get=self._import_form, post=self._try, uploads=True),
            Route("afgemeld/import/{id}", right, post=self._import),
            Route("afgemeld/export", right, get=self._export_form),
            Route("afgemeld/export/file", right, get=self._export),
            Route("afgemeld/scrub", right, get=self._scrub_form, post=self._scrub, uploads=True),
        )

    # -- import ---------------------------------------------------------------------------------------------------

    async def _import_form(self, ask: Ask) -> Response:
        return self._import_page(ask, 200, {"scope": MARKETING, "reason": Reason.IMPORT.value, "column": ""}, {})

    @staticmethod
    def _import_page(ask: Ask, status: int, typed: dict[str, Any], errors: dict[str, str]) -> Response:
        return ask.page(
            "afgemeld_import",
            status=status,
            errors=errors,
            scopes=scope_options(ask),
            reasons=[(reason.value, reason_said(ask, reason)) for reason in REASONS],
            most=ask.kit.settings.console.upload_mb,
            **typed,
        )

    async def _try(self, ask: Ask) -> Response:
        """Read the file, add nothing, and report."""
        typed = {name: ask.sent.text(name) for name in ("scope", "reason", "column")}
        errors = _column_wrong(ask, typed["column"])
        if typed["scope"] not in dict(scope_options(ask)):
            errors["scope"] = ask.t("afgemeld.scope_missing")
        if typed["reason"] not in REASONS:
            errors["reason"] = ask.t("afgemeld.reason_missing")
        name, data = await _read(ask, errors)
        if errors:
            return self._import_page(ask, 422, typed, errors)
        await ask.note("afgemeld.try", _how(typed))
        return await self._begin_import(ask, name, data, typed, dry_run=True)

    async def _import(self, ask: Ask) -> Response:
        """Add what a dry run has read."""
        jobs, id = ask.rooms.jobs, ask.params["id"]
        job: Job | None = await ask.run(jobs.get, id, ask.member.name)
        kept = await ask.run(jobs.result, id, ask.member.name)
        if job is None or kept is None or job.kind != "afgemeld_try" or job.state is not JobState.DONE:
            return ask.wrong(ask.t("jobs.file_gone"), status=404, title=ask.t("jobs.file_gone_title"))
        typed = {name: str(job.report[name]) for name in ("scope", "reason", "column")}
        await ask.note("afgemeld.import", _how(typed))
        response = await self._begin_import(ask, *kept, typed, dry_run=False)
        await ask.run(jobs.drop, id)
        return response

    @staticmethod
    async def _begin_import(ask: Ask, name: str, data: bytes, typed: dict[str, str], *, dry_run: bool) -> Response:
        kit, figures, now = ask.kit, ask.rooms.figures, ask.kit.now()

        def work(progress: Progress) -> Outcome:
            lines = Lines()
            try:
                done = import_(
                    kit.afgemeld,
                    BytesIO(data),
                    scope=typed["scope"],
                    at=now,
                    reason=Reason(typed["reason"]),
                    column=typed["column"] or None,
                    dry_run=dry_run,
                    report=lines,
                    progress=lambda read: progress(read, len(data)),
                )
            finally:
                figures.forget("afgemeld")
            report = {**asdict(done), "file": name, **typed, **lines.report()}
            return Outcome(report, data, name) if dry_run else Outcome(report)

        kind = "afgemeld_try" if dry_run else "afgemeld_import"
        id = await ask.run(ask.rooms.jobs.start, ask.member.name, kind, "afgemeld/import", work)
        return ask.back(f"jobs/{id}")

    # -- export ---------------------------------------------------------------------------------------------------

    async def _export_form(self, ask: Ask) -> Response:
        keys = [key.id for key in ask.kit.afgemeld.keys.keys]
        return ask.page("afgemeld_export", keys=keys, scopes=[("", ask.t("afgemeld.scope_all")), *scope_options(ask)])

    async def _export(self, ask: Ask) -> Response:
        scope = ask.query("scope")
        try:
            wanted = scope_of(scope) if scope else None
        except ValueError:
            return ask.wrong(ask.t("afgemeld.scope_missing"), status=422)
        await ask.note("afgemeld.export", scope or "*")
        lines = export(ask.kit.afgemeld, scope=wanted)
        header = await ask.run(next, lines)  # whatever is wrong shows before anything is written
        name = f"afgemeld-{ask.kit.now():%Y-%m-%d}.csv"
        return StreamingResponse(_joined(header, lines), 200, attachment(name), media_type=CSV)

    # -- scrubbing ------------------------------------------------------------------------------------------------

    async def _scrub_form(self, ask: Ask) -> Response:
        return self._scrub_page(ask, 200, {"list": "", "column": ""}, {})

    @staticmethod
    def _scrub_page(ask: Ask, status: int, typed: dict[str, str], errors: dict[str, str]) -> Response:
        lists = [("", ask.t("afgemeld.scrub_any")), *((id, list_said(ask, id)) for id in ask.kit.settings.lists)]
        most = ask.kit.settings.console.upload_mb
        return ask.page(
            "afgemeld_scrub", status=status, errors=errors, lists=lists, most=most, chosen=typed["list"],
            column=typed["column"],
        )  # fmt: skip

    async def _scrub(self, ask: Ask) -> Response:
        typed = {name: ask.sent.text(name) for name in ("list", "column")}
        errors = _column_wrong(ask, typed["column"])
        if typed["list"] and typed["list"] not in ask.kit.settings.lists:
            errors["list"] = ask.t("afgemeld.list_missing")
        name, data = await _read(ask, errors)
        if errors:
            return self._scrub_page(ask, 422, typed, errors)
        await ask.note("afgemeld.scrub", typed["list"] or "*")
        work = _scrubbing(ask.kit, data, typed, ask.t("afgemeld.scrub_name", name=name))
        id = await ask.run(ask.rooms.jobs.start, ask.member.name, "afgemeld_scrub", "afgemeld/scrub", work)
        return ask.back(f"jobs/{id}")


def _scrubbing(kit: Kit, data: bytes, typed: dict[str, str], name: str) -> Any:
    def work(progress: Progress) -> Outcome:
        lines, sink = Lines(), BytesIO()
        done = scrub(
            kit.afgemeld,
            BytesIO(data),
            sink,
            list=typed["list"] or None,
            column=typed["column"] or None,
            report=lines,
            progress=lambda read: progress(read, len(data)),
        )
        return Outcome({"rows": done.rows, **asdict(done), **lines.report()}, sink.getvalue(), name)

    return work


def _column_wrong(ask: Ask, column: str) -> dict[str, str]:
    return {"column": ask.t("afgemeld.column_long")} if len(column) > _MAX_COLUMN else {}


async def _read(ask: Ask, errors: dict[str, str]) -> tuple[str, bytes]:
    """The file that was chosen; what is wrong with it goes to the others."""
    try:
        return await ask.run(csv_of, ask.sent)
    except NoCsv as error:
        errors["file"] = ask.t(error.key)
        return "", b""


def _how(typed: dict[str, str]) -> str:
    return f"{typed['scope']} ({typed['reason']})"


def _joined(header: str, lines: Iterator[str]) -> Iterator[str]:
    yield header
    while some := [*islice(lines, _LINES_AT_ONCE)]:
        yield "".join(some)
