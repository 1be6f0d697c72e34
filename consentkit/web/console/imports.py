"""Bringing addresses into a list: a file, on what ground, a dry run with its report, and then the import.

Both run as long work (`jobs`). Between them the file stays with the report of the dry run, for an hour at most; it is
thrown away as soon as it was imported.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Iterator, Mapping
from csv import reader, writer
from dataclasses import dataclass
from functools import lru_cache, partial
from io import BytesIO, StringIO, TextIOWrapper
from typing import IO, BinaryIO, Final, cast

from starlette.responses import Response, StreamingResponse

from consentkit.csvstream import Table, inert
from consentkit.errors import ConsentKitError
from consentkit.newsletter import PROOF, Form, Imported, Importer, Paper, missing_proof
from consentkit.newsletter import Route as Ground
from consentkit.render import Texts
from consentkit.staff import Job, JobState, Lines, Outcome, Progress, Right
from consentkit.web.console.ask import Ask, Rooms, Route
from consentkit.web.console.download import CSV, attachment
from consentkit.web.console.jobs import said
from consentkit.web.console.lists import COUNTS, no_list, paper_of, title_of
from consentkit.web.console.uploads import NoCsv, csv_of

CHECK: Final = "lists_check"
IMPORT: Final = "lists_import"

_FILE, _WISH, _LINES = "file.csv", "wish.json", "lines.csv"
_SAID: Final = {
    "afgemeld": "suppressed",
    "duplicate": "an address that stands further up",
    "left": "left this list before: only a new confirmed sign-up brings somebody back",
}
"""Reasons of the importer that are one word, as the texts know them: `jobs.why_…`."""


@dataclass(frozen=True, slots=True)
class Wish:
    """How a file is to be read: on what ground, with what proof, from which column, in which language."""

    route: Ground
    proof: Mapping[str, str]
    column: str
    language: str

    def written(self) -> str:
        """As text, to be kept with the file."""
        return json.dumps([self.route.value, dict(self.proof), self.column, self.language])

    @classmethod
    def read(cls, text: str | bytes) -> Wish:
        """What `written` gave."""
        route, proof, column, language = json.loads(text)
        return cls(Ground(route), proof, column, language)


@dataclass(frozen=True, slots=True)
class _Work:
    """What is done behind: the dry run, and the import."""

    rooms: Rooms
    paper: Paper
    list: str
    form: Form

    def check(self, wish: Wish, data: bytes, progress: Progress) -> Outcome:
        """Only tell what would happen, and keep the file."""
        done, lines, told = self._read(wish, BytesIO(data), len(data), progress, dry_run=True)
        kept = _packed({_FILE: data, _WISH: wish.written().encode(), _LINES: told})
        return Outcome(_report(done, lines), kept, f"{self.list}.zip")

    def bring_in(self, check: str, kept: bytes, progress: Progress) -> Outcome:
        """Import what a dry run kept, and throw that away.

        Args:
            check: the id of the dry run.
        """
        with zipfile.ZipFile(BytesIO(kept)) as archive:
            wish, size = Wish.read(archive.read(_WISH)), archive.getinfo(_FILE).file_size
            with archive.open(_FILE) as source:
                done, lines, told = self._read(wish, source, size, progress, dry_run=False)
        self.rooms.jobs.drop(check)
        self.rooms.figures.forget(COUNTS)
        return Outcome(_report(done, lines), _packed({_LINES: told}), f"{self.list}.zip")

    def _read(
        self, wish: Wish, source: IO[bytes], size: int, progress: Progress, *, dry_run: bool
    ) -> tuple[Imported, Lines, bytes]:
        lines, all = Lines(), StringIO()
        rows = writer(all, lineterminator="\n")

        def report(line: int, reason: str) -> None:
            lines(line, _reason(reason))
            rows.writerow((line, _reason(reason)))

        kit = self.rooms.kit
        importer = Importer(
            kit.store,
            kit.afgemeld,
            topic=self.paper.topics[self.list],
            form=self.form,
            site=self.paper.site.name,
            route=wish.route,
            proof=wish.proof,
            language=wish.language,
            now=kit.now(),
        )
        done = importer.read(
            cast("BinaryIO", source),
            column=wish.column or None,
            dry_run=dry_run,
            report=report,
            progress=lambda read: progress(read, size),
        )
        return done, lines, all.getvalue().encode()


class Imports:
    """Brings addresses into lists."""

    name = "lists"

    def __init__(self) -> None:
        right = Right.IMPORT
        self.routes = (
            Route("lists/{list}/import", right, get=self._ask, post=self._check, uploads=True),
            Route("lists/{list}/import/{job}", right, post=self._import),
            Route("lists/{list}/import/{job}/lines", right, get=self._lines),
        )

    async def _ask(self, ask: Ask) -> Response:
        return no_list(ask) if ask.params["list"] not in ask.kit.settings.lists else _form(ask)

    async def _check(self, ask: Ask) -> Response:
        """Take the file, and see what would come of it."""
        work = _work(ask)
        if work is None:
            return no_list(ask)
        wish, errors = _wish(ask, work.paper)
        data, wrong = await ask.run(_look, ask)
        errors |= wrong
        if errors or wish is None:
            return _form(ask, errors)
        await ask.note("list.check", f"list {work.list}")
        return await _begin(ask, CHECK, partial(work.check, wish, data))

    async def _import(self, ask: Ask) -> Response:
        """Do what the dry run told."""
        work, job = _work(ask), await _mine(ask)
        kept = None if job is None or job.kind != CHECK else await ask.run(_kept, ask, job)
        if work is None or job is None or kept is None:
            return _gone(ask)
        await ask.note("list.import", f"list {work.list}")
        return await _begin(ask, IMPORT, partial(work.bring_in, job.id, kept))

    async def _lines(self, ask: Ask) -> Response:
        """The whole report by line, as a CSV."""
        job = await _mine(ask)
        kept = None if job is None else await ask.run(_kept, ask, job)
        if kept is None:
            return _gone(ask)
        headers = attachment(f"{ask.params['list']}-{ask.t('lists.import_lines')}.csv")
        return StreamingResponse(_told(ask.t, kept), 200, headers, media_type=CSV)


def _work(ask: Ask) -> _Work | None:
    """None where nobody can be brought into such a list."""
    list, paper = ask.params["list"], paper_of(ask)
    form = paper.form(list)
    return None if form is None else _Work(ask.rooms, paper, list, form)


async def _begin(ask: Ask, kind: str, work: partial[Outcome]) -> Response:
    about = f"lists/{ask.params['list']}/import"
    id = await ask.run(ask.rooms.jobs.start, ask.member.name, kind, about, work)
    return ask.back(f"jobs/{id}")


async def _mine(ask: Ask) -> Job | None:
    """The work that a path names, where it is done, about this list, and of whoever asks."""
    job = await ask.run(ask.rooms.jobs.get, ask.params["job"], ask.member.name)
    here = job is not None and job.kind in (CHECK, IMPORT) and job.about == f"lists/{ask.params['list']}/import"
    return job if here and job is not None and job.state is JobState.DONE else None


def _kept(ask: Ask, job: Job) -> bytes | None:
    found = ask.rooms.jobs.result(job.id, ask.member.name)
    return None if found is None else found[1]


def _gone(ask: Ask) -> Response:
    return ask.wrong(ask.t("jobs.file_gone"), status=404, title=ask.t("jobs.file_gone_title"))


# -- the form -------------------------------------------------------------------------------------------------------


def _form(ask: Ask, errors: Mapping[str, str] | None = None) -> Response:
    """The form, with what was typed; a file has to be chosen again, browsers keep none."""
    list, t, paper = ask.params["list"], ask.t, paper_of(ask)
    return ask.page(
        "list_import",
        status=422 if errors else 200,
        id=list,
        title=title_of(ask, list),
        possible=paper.form(list) is not None,
        errors=errors or {},
        sent=ask.sent,
        grounds=[ground.value for ground in Ground],
        languages=[(lang, t(f"lists.language_{lang}") if t.has(f"lists.language_{lang}") else lang)
                   for lang in paper.site.languages],
        most=ask.kit.settings.console.upload_mb,
    )  # fmt: skip


def _wish(ask: Ask, paper: Paper) -> tuple[Wish | None, dict[str, str]]:
    """What the form asks for, or what is wrong with it, by field."""
    t, sent = ask.t, ask.sent
    chosen, language = sent.text("route"), sent.text("language") or paper.site.languages[0]
    if chosen not in {ground.value for ground in Ground} or language not in paper.site.languages:
        return None, {"route": t("lists.error_route")}
    route, text = Ground(chosen), sent.text("proof")
    names = PROOF[route]
    proof = {names[0]: text} if names and text else {}
    if "opt_out_offered" in names and sent.has("opt_out_offered"):
        proof["opt_out_offered"] = "yes"
    lacking = missing_proof(route, proof)
    if not lacking or (sent.has("in_file") and not text):
        return Wish(route, {} if lacking else proof, sent.text("column"), language), {}
    return None, {"proof": t("lists.error_offered" if lacking == ("opt_out_offered",) else "lists.error_proof")}


def _look(ask: Ask) -> tuple[bytes, dict[str, str]]:
    """The file, and what can be seen at once that is wrong with it."""
    column = ask.sent.text("column")
    try:
        _, data = csv_of(ask.sent)
        Table.open(BytesIO(data), column=column or None)
    except NoCsv as error:
        return b"", {"file": ask.t(error.key)}
    except ConsentKitError as error:
        return b"", {"column": said(ask.t, str(error))}
    return data, {}


# -- the report -----------------------------------------------------------------------------------------------------


def _report(done: Imported, lines: Lines) -> Mapping[str, object]:
    refused = sum(done.refused.values())
    counts = {"added": done.added, "proven": done.proven, "unproven": done.unproven, "known": done.known}
    return {**counts, "refused": refused, **lines.report()}


def _reason(told: str) -> str:
    """A reason of the importer as the texts know it, without anything that stood in the file."""
    if told.startswith("no address"):
        return "no address that mail could be sent to"
    return _SAID.get(told, told.removeprefix("broken row: "))


def _packed(parts: Mapping[str, bytes]) -> bytes:
    made = BytesIO()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for name, data in parts.items():
            archive.writestr(name, data)
    return made.getvalue()


def _told(t: Texts, kept: bytes) -> Iterator[str]:
    """The lines of a report as a CSV, in the language of who asks."""
    say = lru_cache(maxsize=256)(partial(said, t))
    with zipfile.ZipFile(BytesIO(kept)) as archive, archive.open(_LINES) as lines:
        yield f"{t('jobs.line')},{t('jobs.why')}\r\n"
        for line, why in reader(TextIOWrapper(lines, "utf-8", newline="")):
            row = StringIO()
            writer(row).writerow((line, inert(say(why))))
            yield row.getvalue()
