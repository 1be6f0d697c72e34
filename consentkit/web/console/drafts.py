"""Writing a mailing: begin one, write it with the preview beside it, test it, put it ready or throw it away.

Every button of the editor saves first, so that nothing typed is lost and what one sees is what is kept. Who saves what
somebody else has changed meanwhile sees both versions.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final
from urllib.parse import quote

from starlette.responses import Response

from consentkit import assets
from consentkit.errors import AfgemeldUnavailable, MailingError
from consentkit.mailing import (
    Audience,
    Draft,
    DraftConflict,
    File,
    Finding,
    Kept,
    Mailing,
    MailingState,
    Preview,
    Sketch,
)
from consentkit.mailing.mailings import MOST_TESTS
from consentkit.newsletter import Reader
from consentkit.staff import Right
from consentkit.web.console.ask import Ask, Handler, Route
from consentkit.web.console.draft_form import MARKUPS, Errors, Typed, differences, errors_of, files_of
from consentkit.web.console.figures import Figure
from consentkit.web.console.listing import Column, Listing, read_number
from consentkit.web.console.preview import Choice, chosen, framed
from consentkit.web.console.trial import said, send_test
from consentkit.web.console.watching import why_left_out

STARTERS: Final = {"newsletter": "md", "invitation": "html", "service": "md"}
"""What is shipped to begin with: its name, and the language it is written in."""

EARLIER: Final = 20
_MOST_ID: Final = 2**63 - 1
_ALWAYS: Final = ("unsubscribe_url", "preferences_url", "site_name", "list_title", "year")

OfADraft = Callable[[Ask, Kept], Awaitable[Response]]


class DraftPages:
    """The pages on which mailings are written."""

    name = "mailings"

    def __init__(self) -> None:
        one, see, write = "mailings/drafts/{id:int}", Right.MAILINGS, Right.WRITE
        self.routes = (
            Route("mailings/new", write, get=_choose, post=_begin),
            Route(one, see, get=_of(_show), post=_of(_save), post_right=write, uploads=True),
            Route(f"{one}/preview", see, get=_of(_frame)),
            Route(f"{one}/test", Right.TEST, post=_of(_test), uploads=True),
            Route(f"{one}/ready", write, post=_of(_ready), uploads=True),
            Route(f"{one}/throw", write, post=_of(_throw)),
            Route(f"{one}/back", write, post=_of(_put_back)),
            Route("mailings/{id:int}/preview", see, get=_look, post=_look_as),
            Route("mailings/{id:int}/preview/frame", see, get=_frame_of_mailing),
        )


def _of(handle: OfADraft) -> Handler:
    """Finds the draft first."""

    async def found(ask: Ask) -> Response:
        try:
            kept = await ask.run(ask.kit.drafts.get, min(ask.params["id"], _MOST_ID))
        except MailingError:
            return _nothing(ask)
        return await handle(ask, kept)

    return found


def _nothing(ask: Ask) -> Response:
    return ask.wrong(ask.t("base.not_found"), status=404, title=ask.t("base.not_found_title"))


def _path(kept: Kept) -> str:
    return f"mailings/drafts/{kept.id}"


def _about(kept: Kept) -> str:
    return f"draft {kept.id}"


# -- beginning ----------------------------------------------------------------------------------------------------


async def _choose(ask: Ask) -> Response:
    """What to begin with."""
    return await _choose_page(ask)


async def _choose_page(ask: Ask, *, error: str = "", status: int = 200) -> Response:
    params, path = ask.visit.request.query_params, ask.url("mailings/new")
    t, mailings = ask.t, ask.kit.mailings
    columns: list[Column[Mailing]] = [
        Column("subject", t("drafts.column_subject")),
        Column("made", t("drafts.column_made"), by=lambda mailing: mailing.id),
        Column("use", t("drafts.column_use")),
    ]
    listing: Listing[Mailing] = await ask.run(
        Listing.walk, lambda q, **which: mailings.page(q=q, **which), columns, params, path,
        sort="made", searchable=True, size=EARLIER,
    )  # fmt: skip
    wanted = read_number(params.get("from", ""))
    return ask.page(
        "draft_new",
        status=status,
        error=error,
        lists=_lists(ask),
        languages=_languages(ask),
        starters=STARTERS,
        earlier=listing,
        wanted=await ask.run(_mailing, ask, wanted) if wanted else None,
    )


def _mailing(ask: Ask, id: int) -> Mailing | None:
    try:
        return ask.kit.mailings.get(id) if 0 < id <= _MOST_ID else None
    except MailingError:
        return None


async def _begin(ask: Ask) -> Response:
    start, list = ask.sent.text("start"), ask.sent.text("list")
    what, _, number = start.partition(":")
    by, drafts = ask.member.name, ask.kit.drafts
    if what in ("draft", "mailing") and (id := read_number(number)):
        await ask.note("mailing.copy", f"{what} {id}")
        try:
            made = await ask.run(drafts.copy, by, **{what: min(id, _MOST_ID)})
        except MailingError:
            return _nothing(ask)
        return ask.back(f"mailings/drafts/{made}", told="drafts.told_copied")
    if list not in dict(_lists(ask)):
        return await _choose_page(ask, error=ask.t("drafts.problem_list_missing"), status=422)
    if start and start not in STARTERS:
        return await _choose_page(ask, status=422)
    lang = ask.sent.text("language")
    sketch = _starter(ask, start, lang if lang in _languages(ask) else ask.t.lang)
    await ask.note("mailing.begin", start)
    made = await ask.run(drafts.make, ask.visit.site.settings.name, replace(sketch, list=list), by)
    return ask.back(f"mailings/drafts/{made}", told="drafts.told_made")


def _starter(ask: Ask, name: str, lang: str) -> Sketch:
    """What a shipped beginning says; nothing where none was chosen."""
    spoken = lang if lang in ask.visit.site.settings.languages else ""
    if not name:
        return Sketch(language=spoken)
    markup = STARTERS[name]
    path = assets.directory("templates") / "console" / "starters" / lang / f"{name}.{markup}"
    subject, _, body = path.read_text("utf-8").partition("\n\n")
    return Sketch(
        language=spoken,
        subject=subject.strip(),
        markup="html" if markup == "html" else "md",
        body=body,
        purpose="service" if name == "service" else "marketing",
    )


def _languages(ask: Ask) -> Sequence[str]:
    """The languages of the shipped beginnings that the site speaks, the reader's own first."""
    spoken = [lang for lang in ("nl", "en") if lang in ask.visit.site.settings.languages] or ["nl", "en"]
    return sorted(spoken, key=lambda lang: lang != ask.t.lang)


def _lists(ask: Ask) -> list[tuple[str, str]]:
    """Each list that mailings may go to, with its title."""
    return [(id, _title(own.title, ask)) for id, own in ask.kit.settings.lists.items() if not own.pupils]


def _title(title: Any, ask: Ask) -> str:
    return str(title.get(ask.t.lang) or next(iter(title.values())))


# -- looking ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Look:
    """How a draft would go out now.

    Args:
        todo: what is still missing or wrong, in words. away: nobody can tell who left, so nothing can be shown.
    """

    preview: Preview | None = None
    findings: Sequence[Finding] = ()
    audience: Figure[Audience] | None = None
    todo: Sequence[str] = ()
    away: bool = False


async def _looked(ask: Ask, kept: Kept, choice: Choice) -> _Look:
    try:
        draft = await ask.run(kept.sketch.draft, kept.files, ask.kit.drafts.attachments_mb)
        ask.kit.mailings.check(draft)
        try:
            reader = await choice.reader(ask, draft, _about(kept))
        except MailingError as error:
            return _Look(todo=[said(problem, ask.t) for problem in error.problems])
        return await ask.run(_look_at, ask, draft, kept.site, reader)
    except AfgemeldUnavailable:
        return _Look(away=True)
    except MailingError as error:
        return _Look(todo=[_named(problem, ask) for problem in error.problems])


def _look_at(ask: Ask, draft: Draft, site: str, reader: Reader) -> _Look:
    mailings = ask.kit.mailings
    key = ("draft audience", draft.list, draft.purpose, draft.needed, tuple(sorted(draft.where.items())))
    audience = ask.rooms.figures.get(key, lambda: mailings.audience_of(draft))
    findings = mailings.preflight_of(draft, site, dns=False, lang=ask.t.lang)
    return _Look(mailings.preview_of(draft, site, reader=reader), findings, audience)


def _named(problem: str, ask: Ask) -> str:
    """A problem with the name of its field in front."""
    ((place, told),) = errors_of([problem], ask.t).items()
    return f"{ask.t(f'drafts.{place}')}: {told}" if place else told


async def _show(ask: Ask, kept: Kept) -> Response:
    if kept.mailing_id is not None:
        return ask.back(f"mailings/{kept.mailing_id}")
    if kept.deleted_at is not None:
        return ask.page("draft_thrown", draft=kept)
    return await _editor(ask, kept, Typed.of(kept.sketch), Choice.of(ask))


async def _editor(
    ask: Ask, kept: Kept, typed: Typed, choice: Choice, *, errors: dict[str, str] | None = None, status: int = 200
) -> Response:
    """The editor, or the same to look at for who may not write."""
    look = await _looked(ask, kept, choice)
    settings, site = ask.kit.settings, ask.visit.site.settings
    sender = settings.sender_of(typed.sketch.list)
    names = [name for name in kept.sketch.fields or kept.sketch.defaults if name]
    asked = dict.fromkeys(name for form in settings.forms.values() for name in (*form.fields, *form.optional))
    return ask.page(
        "draft_edit" if ask.member.may(Right.WRITE) else "draft_look",
        status=status,
        draft=kept,
        title=kept.title or ask.t("drafts.untitled"),
        form=typed,
        sketch=typed.sketch,
        errors=Errors(errors or {}),
        saved=not errors or set(errors) <= {"to", "reader", "ready"},
        look=look,
        choice=choice,
        frame=ask.url(f"{_path(kept)}/preview"),
        test=ask.url(f"{_path(kept)}/test"),
        action=None,
        back=None,
        why=lambda reason: why_left_out(reason, ask.t),
        lists=_options(_lists(ask), typed.sketch.list),
        languages=_options([(lang, ask.t(f"drafts.language_{lang}") if ask.t.has(f"drafts.language_{lang}") else lang)
                            for lang in site.languages], typed.sketch.language),
        markups=[(markup, ask.t(f"drafts.markup_{markup}")) for markup in MARKUPS],
        sender=sender or "",
        inserts=[f"{{{{ {name} }}}}" for name in (*names, *_inserts(kept.sketch))],
        known=[name for name in asked if name != "email"],
        image=lambda file: _image(kept.sketch, file, ask.t("drafts.alt")),
        attachments_mb=ask.kit.drafts.attachments_mb,
        most_tests=MOST_TESTS,
    )  # fmt: skip


def _options(known: Sequence[tuple[str, str]], now: str) -> list[tuple[str, str]]:
    """What can be chosen, with what was chosen before though it is there no more."""
    return [*known] if not now or now in dict(known) else [*known, (now, now)]


def _inserts(sketch: Sketch) -> Sequence[str]:
    return [name for name in _ALWAYS if sketch.purpose == "marketing" or name != "unsubscribe_url"]


def _image(sketch: Sketch, file: File, alt: str) -> str:
    """What shows an image in the body."""
    source = quote(file.name)
    match sketch.markup:
        case "md":
            return f"![{alt}]({source})"
        case "mjml":
            return f'<mj-image src="{source}" alt="{alt}" />'
        case _:
            return f'<img src="{source}" alt="{alt}">'


async def _frame(ask: Ask, kept: Kept) -> Response:
    async def make() -> Preview:
        draft = await ask.run(kept.sketch.draft, kept.files, ask.kit.drafts.attachments_mb)
        reader = await Choice.of(ask).reader(ask, draft, _about(kept))
        return await ask.run(ask.kit.mailings.preview_of, draft, kept.site, reader=reader)

    return await framed(ask, make)


# -- saving -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Saved:
    """What came of saving: the draft as it is kept now and what was typed, or a page that says what is in the way."""

    kept: Kept
    typed: Typed
    refused: Response | None = None


async def _saved(ask: Ask, kept: Kept) -> _Saved:
    """Save what was sent, where it differs from what is kept."""
    typed, drafts = Typed.read(ask.sent), ask.kit.drafts
    sketch, version = typed.whole, read_number(ask.sent.text("version")) or 0
    choice = Choice.of(ask)
    try:
        add = await ask.run(files_of, ask.sent.uploads, drafts.attachments_mb)
        gone = {*typed.remove, *(file.name for file in add)}
        await ask.run(drafts.check, sketch, [*(file for file in kept.files if file.name not in gone), *add])
        if kept.open and sketch == kept.sketch and not gone:
            return _Saved(kept, typed)
        if not kept.open or version != kept.version:
            raise DraftConflict(kept)
        await ask.note("mailing.save", _about(kept))
        await ask.run(drafts.save, kept.id, sketch, ask.member.name, version, add=add, remove=typed.remove)
    except DraftConflict as conflict:
        return _Saved(kept, typed, _conflict(ask, typed, conflict.theirs))
    except MailingError as error:
        errors = errors_of(error.problems, ask.t)
        return _Saved(kept, typed, await _editor(ask, kept, typed, choice, errors=errors, status=422))
    return _Saved(await ask.run(drafts.get, kept.id), replace(typed, remove=()))


def _conflict(ask: Ask, mine: Typed, theirs: Kept) -> Response:
    """Both versions of a draft that two people wrote on."""
    return ask.page(
        "draft_conflict",
        status=409,
        draft=theirs,
        title=theirs.title or ask.t("drafts.untitled"),
        parts=differences(mine, theirs, ask.t),
        hidden=mine.sent(),
        files=[upload.name for _, upload in ask.sent.uploads if upload.name],
    )


async def _save(ask: Ask, kept: Kept) -> Response:
    if ask.sent.has("apart"):
        return await _save_apart(ask, kept)
    now = await _saved(ask, kept)
    if now.refused is not None:
        return now.refused
    choice, problem = await chosen(ask, now.kept.sketch.list, _about(kept), Choice.of(ask))
    if problem:
        errors = {"reader": problem}
        return await _editor(ask, now.kept, now.typed, choice, errors=errors, status=422)
    return ask.back(f"{_path(kept)}{choice.query}", told="drafts.told_saved")


async def _save_apart(ask: Ask, kept: Kept) -> Response:
    """Keep what was typed as a draft of its own, where somebody else's is in the way."""
    typed = Typed.read(ask.sent)
    files = [file for file in kept.files if file.name not in typed.remove]
    await ask.note("mailing.copy", _about(kept))
    made = await ask.run(ask.kit.drafts.make, kept.site, typed.whole, ask.member.name, files)
    return ask.back(f"mailings/drafts/{made}", told="drafts.told_apart")


async def _test(ask: Ask, kept: Kept) -> Response:
    choice = Choice.of(ask)
    typed = replace(Typed.of(kept.sketch), to=ask.sent.raw("to").strip())
    if ask.member.may(Right.WRITE) and ask.sent.has("version"):
        now = await _saved(ask, kept)
        if now.refused is not None:
            return now.refused
        kept, typed = now.kept, now.typed

    async def send(addresses: Sequence[str]) -> None:
        draft = await ask.run(kept.sketch.draft, kept.files, ask.kit.drafts.attachments_mb)
        await ask.kit.test_draft(draft, kept.site, addresses)

    if problem := await send_test(ask, _about(kept), typed.to, send):
        return await _editor(ask, kept, typed, choice, errors={"to": problem}, status=422)
    return ask.back(f"{_path(kept)}{choice.query}", told="sending.told_test")


async def _ready(ask: Ask, kept: Kept) -> Response:
    now = await _saved(ask, kept)
    if now.refused is not None:
        return now.refused
    try:
        await ask.run(now.kept.sketch.draft, now.kept.files, ask.kit.drafts.attachments_mb)
        await ask.note("mailing.ready", _about(kept))
        made = await ask.run(ask.kit.drafts.ready, kept.id, ask.member.name)
    except DraftConflict as conflict:
        return _conflict(ask, now.typed, conflict.theirs)
    except MailingError as error:
        errors = {"ready": ask.t("drafts.not_ready"), **errors_of(error.problems, ask.t)}
        return await _editor(ask, now.kept, now.typed, Choice.of(ask), errors=errors, status=422)
    return ask.back(f"mailings/{made}", told="drafts.told_ready")


async def _throw(ask: Ask, kept: Kept) -> Response:
    await ask.note("mailing.throw_away", _about(kept))
    await ask.run(ask.kit.drafts.throw_away, kept.id, ask.member.name)
    return ask.back(_path(kept), told="drafts.told_thrown")


async def _put_back(ask: Ask, kept: Kept) -> Response:
    await ask.note("mailing.put_back", _about(kept))
    await ask.run(ask.kit.drafts.put_back, kept.id)
    return ask.back(_path(kept), told="drafts.told_back")


# -- a mailing that is ready, or went out -------------------------------------------------------------------------


async def _look(ask: Ask) -> Response:
    return await _look_page(ask, Choice.of(ask))


async def _look_page(ask: Ask, choice: Choice, *, error: str = "", status: int = 200) -> Response:
    """How a mailing looks, whose content can't change any more."""
    mailing = await ask.run(_mailing, ask, ask.params["id"])
    if mailing is None:
        return _nothing(ask)
    try:
        look = _Look(await _preview_of_mailing(ask, mailing, choice))
    except AfgemeldUnavailable:
        look = _Look(away=True)
    except MailingError as problem:
        look = _Look(todo=[said(one, ask.t) for one in problem.problems])
    here = f"mailings/{mailing.id}"
    return ask.page(
        "draft_look",
        status=status,
        draft=None,
        title=mailing.subject,
        errors=Errors(reader=error) if error else Errors(),
        form=replace(Typed(Sketch()), reader=ask.sent.text("reader")),
        look=look,
        choice=choice,
        frame=ask.url(f"{here}/preview/frame"),
        action=ask.url(f"{here}/preview"),
        test=None,
        back=ask.url(here),
        open=mailing.state is MailingState.DRAFT,
    )


async def _preview_of_mailing(ask: Ask, mailing: Mailing, choice: Choice) -> Preview:
    _, draft = await ask.run(ask.kit.mailings.written, mailing.id)
    reader = await choice.reader(ask, draft, f"mailing {mailing.id}")
    return await ask.run(ask.kit.mailings.preview, mailing.id, reader=reader)


async def _look_as(ask: Ask) -> Response:
    mailing = await ask.run(_mailing, ask, ask.params["id"])
    if mailing is None:
        return _nothing(ask)
    choice, problem = await chosen(ask, mailing.list, f"mailing {mailing.id}", Choice.of(ask))
    if problem:
        return await _look_page(ask, choice, error=problem, status=422)
    return ask.back(f"mailings/{mailing.id}/preview{choice.query}")


async def _frame_of_mailing(ask: Ask) -> Response:
    mailing = await ask.run(_mailing, ask, ask.params["id"])
    if mailing is None:
        return _nothing(ask)
    return await framed(ask, lambda: _preview_of_mailing(ask, mailing, Choice.of(ask)))
