"""Mailings that are ready, under way or over: looked at, checked, tested, released, watched, told of.

What is being written stands in the area of drafts. Nothing here decides who gets what: it asks the mailings, as the
command line does. Whatever counts messages or readers is counted behind.
"""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from markupsafe import Markup
from starlette.datastructures import QueryParams
from starlette.responses import Response, StreamingResponse

from consentkit.errors import AfgemeldUnavailable, ConsentKitError, MailingError
from consentkit.mailing import Audience, Finding, Mailing, MailingState
from consentkit.mailing.drafts import Outline
from consentkit.mailing.mailings import MOST_TESTS
from consentkit.mailing.report import Report, as_csv, as_html, as_json
from consentkit.mailing.report import report as read_report
from consentkit.render import Texts
from consentkit.render.console import moment
from consentkit.service import Duration
from consentkit.staff import RIGHTS, Outcome, Progress, Right
from consentkit.web.console import watching
from consentkit.web.console.ask import HEADERS, Ask, Handler, Route
from consentkit.web.console.download import CSV, attachment
from consentkit.web.console.figures import Figure
from consentkit.web.console.jobs import said as sentence_said
from consentkit.web.console.listing import Column, Listing
from consentkit.web.console.trial import said, send_test
from consentkit.web.console.watching import RUNNING, Phase, phase_of

AUDIENCE_FRESH: Final = 60.0
DNS_FRESH: Final = 300.0
REPORT_FRESH: Final = 60.0
OLD_REPORT_FRESH: Final = 3600.0
"""Seconds that a report is good for once opens and clicks hardly come in any more."""

_HOT: Final = timedelta(days=14)
_LATEST: Final = timedelta(days=366)
_MOST_ID: Final = 2**63 - 1
_EXPORT_PATIENCE: Final = 30.0
_SEND_PATIENCE: Final = 4.0
"""Seconds that whoever releases a mailing waits for it, before they are shown how far it is."""

SEND: Final = "mailings_send"
"""The kind of long work that settles who gets a mailing, and lets it go."""

_TRUE_IN: Final = {
    Phase.SCHEDULED: ("sending.told_scheduled", "sending.told_resume", "sending.told_too_late"),
    Phase.SENDING: ("sending.told_released", "sending.told_resume", "sending.told_too_late"),
    Phase.PAUSED: ("sending.told_pause", "sending.told_too_late"),
    Phase.STOPPED: ("sending.told_too_late",),
}
"""What may stand above a mailing that goes: a page that one comes back to is about another moment."""

_NOT_SENT: Final = "the mailing did not go out: its own page says why"
_LIST_WAIT: Final = 0.05

OfAMailing = Callable[[Ask, Mailing], Awaitable[Response]]


class Sending:
    """The list of mailings, and one mailing in each of its states."""

    name = "mailings"

    def __init__(self) -> None:
        one = "mailings/{id:int}"
        see, release = Right.MAILINGS, Right.RELEASE
        self.routes = (
            Route("mailings", see, get=_list),
            Route(one, see, get=_of(_show)),
            Route(f"{one}/live", see, get=_of(_live)),
            Route(f"{one}/test", Right.TEST, post=_of(_test)),
            Route(f"{one}/schedule", release, get=_of(_ask_when), post=_of(_when)),
            Route(f"{one}/release", release, get=_of(_ask_release), post=_of(_release)),
            Route(f"{one}/pause", release, post=_of(_changing("pause"))),
            Route(f"{one}/resume", release, post=_of(_changing("resume"))),
            Route(f"{one}/cancel", release, get=_of(_ask_cancel), post=_of(_changing("cancel"))),
            Route(f"{one}/reopen", Right.WRITE, post=_of(_reopen)),
            Route(f"{one}/report.csv", see, get=_of(_csv)),
            Route(f"{one}/report.json", see, get=_of(_json)),
        )


def _of(handle: OfAMailing) -> Handler:
    """Finds the mailing first."""

    async def found(ask: Ask) -> Response:
        mailing = await ask.run(_find, ask)
        if mailing is None:
            return ask.wrong(ask.t("base.not_found"), status=404, title=ask.t("base.not_found_title"))
        return await handle(ask, mailing)

    return found


def _find(ask: Ask) -> Mailing | None:
    id = ask.params["id"]
    try:
        return ask.kit.mailings.get(id) if 0 < id <= _MOST_ID else None
    except MailingError:
        return None


# -- all of them --------------------------------------------------------------------------------------------------


async def _list(ask: Ask) -> Response:
    kit = ask.kit
    params, path = ask.visit.request.query_params, ask.url("mailings")
    mailings: Listing[Mailing] = await ask.run(
        Listing.walk, lambda q, **which: kit.mailings.page(q=q, **which),
        _columns(ask, "subject", "state", "list", "when", "far"), params, path, sort="when", searchable=True,
    )  # fmt: skip
    drafts: Listing[Outline] = await ask.run(
        Listing.walk, kit.drafts.open, _columns(ask, "subject", "saved", "by"), params, path,
        id="drafts", sort="saved", searchable=True,
    )  # fmt: skip
    now = kit.now()
    return ask.page(
        "mailings",
        list=mailings,
        drafts=drafts,
        phase=lambda mailing: phase_of(mailing, now),
        list_title=lambda mailing: _list_title(ask, mailing),
        when=lambda mailing: _when_told(ask, mailing),
        far=await ask.run(_how_far, ask, mailings.rows),
    )


def _columns(ask: Ask, *keys: str) -> list[Column[Any]]:
    return [
        Column(key, ask.t(f"sending.column_{key}"), by=_number if key in ("when", "saved") else None) for key in keys
    ]


def _number(row: Mailing | Outline) -> int:
    """Later ones have greater numbers."""
    return row.id


def _how_far(ask: Ask, rows: Sequence[Mailing]) -> dict[int, str]:
    """How far those are that may still send; nothing of one that is being counted for the first time."""
    found: dict[int, str] = {}
    now = ask.kit.now()
    for mailing in rows:
        if phase_of(mailing, now) not in RUNNING:
            continue
        counted = watching.standing(ask, mailing, wait=0.0 if found else _LIST_WAIT)
        found[mailing.id] = watching.said(counted.value.status, ask.t) if counted else ask.t("sending.far_counting")
    return found


def _when_told(ask: Ask, mailing: Mailing) -> str:
    phase = phase_of(mailing, ask.kit.now())
    if mailing.ended_at is not None:
        return ask.t("sending.when_ended", moment=moment(mailing.ended_at, ask.t))
    begin = mailing.start_at or mailing.frozen_at
    if phase is Phase.SCHEDULED and begin is not None:
        return ask.t("sending.when_begins", moment=moment(begin, ask.t))
    if begin is not None:
        return ask.t("sending.when_began", moment=moment(begin, ask.t))
    return ask.t("sending.when_made", moment=moment(mailing.created_at, ask.t))


def _list_title(ask: Ask, mailing: Mailing) -> str:
    """What the list is called; its id where the settings have it no more."""
    known = ask.kit.settings.lists.get(mailing.list)
    return known.title.get(ask.t.lang) or next(iter(known.title.values())) if known else mailing.list


# -- one of them --------------------------------------------------------------------------------------------------


async def _show(ask: Ask, mailing: Mailing) -> Response:
    phase = phase_of(mailing, ask.kit.now())
    if phase is Phase.DRAFT:
        return await _show_ready(ask, mailing)
    if phase in RUNNING:
        return await _show_going(ask, mailing, phase)
    return await _show_ended(ask, mailing, phase)


@dataclass(frozen=True, slots=True)
class _Checked:
    """What the check found. `away`: it could not be made, since afgemeld can't be read."""

    findings: Sequence[Finding] = ()
    problems: Sequence[str] = ()
    away: bool = False

    @property
    def blocked(self) -> bool:
        """Whether the mailing may not go out as it is."""
        return self.away or bool(self.problems) or any(one.level == "error" for one in self.findings)


def _check(ask: Ask, mailing: Mailing) -> _Checked:
    """The check without the DNS, which takes milliseconds."""
    try:
        return _Checked(ask.kit.mailings.preflight(mailing.id, dns=False, lang=ask.t.lang))
    except AfgemeldUnavailable:
        return _Checked(away=True)
    except MailingError as error:
        return _Checked(problems=[said(problem, ask.t) for problem in error.problems])


def _check_dns(ask: Ask, mailing: Mailing) -> Figure[list[Finding]] | None:
    """The whole check, which asks the DNS for seconds."""
    kit, lang = ask.kit, ask.t.lang
    return ask.rooms.figures.get(
        ("mailing", mailing.id, "dns", lang), lambda: kit.mailings.preflight(mailing.id, lang=lang), fresh=DNS_FRESH
    )


def _audience(ask: Ask, mailing: Mailing) -> Figure[Audience] | None:
    """Who would get it now, and who not and why; counted behind."""
    kit = ask.kit
    key = ("mailing", mailing.id, "audience")
    return ask.rooms.figures.get(key, lambda: kit.mailings.audience(mailing.id), fresh=AUDIENCE_FRESH)


async def _counted(ask: Ask, mailing: Mailing) -> tuple[Figure[Audience] | None, bool]:
    """The audience, and whether nobody can tell who left."""
    try:
        return await ask.run(_audience, ask, mailing), False
    except AfgemeldUnavailable:
        return None, True


async def _show_ready(
    ask: Ask, mailing: Mailing, *, status: int = 200, test_error: str = "", test_to: str = ""
) -> Response:
    checked = await ask.run(_check, ask, mailing)
    asked_dns = bool(ask.query("dns")) and not checked.blocked
    dns = await ask.run(_check_dns, ask, mailing) if asked_dns else None
    audience, away = await _counted(ask, mailing)
    kept = await ask.run(_kept, ask, mailing)
    return ask.page(
        "mailing_ready",
        status=status,
        mailing=mailing,
        list_title=_list_title(ask, mailing),
        checked=checked,
        away=away or checked.away,
        asked_dns=asked_dns,
        dns=dns,
        dns_only=[one for one in dns.value if one not in checked.findings] if dns else [],
        audience=audience,
        why=lambda reason: watching.why_left_out(reason, ask.t),
        kept=kept,
        going=await ask.run(ask.rooms.jobs.under_way, SEND, f"mailings/{mailing.id}"),
        barred=_barred(ask, kept),
        who_could=_who_could(ask.t),
        test_error=test_error,
        test_to=test_to,
        most_tests=MOST_TESTS,
    )


async def _show_going(ask: Ask, mailing: Mailing, phase: Phase) -> Response:
    counted = await ask.run(watching.standing, ask, mailing)
    now = ask.kit.now()
    context: dict[str, Any] = {} if ask.query("told") in _TRUE_IN.get(phase, ()) else {"told": ""}
    if counted is not None:
        before = watching.shown(mailing, counted.value, now)
        status = counted.value.status
        context |= {
            "live": f"{ask.url(f'mailings/{mailing.id}/live')}?shown={before}",
            "goes": status,
            "attendance": counted.value.attendance.value,
            "lines": watching.lines(status, ask.t),
            "said": watching.said(status, ask.t),
        }
    return ask.page(
        "mailing_going",
        mailing=mailing,
        phase=phase,
        list_title=_list_title(ask, mailing),
        here=ask.kit.engine.running,
        note_said=sentence_said(ask.t, mailing.note),
        counted=counted,
        **context,
    )


async def _show_ended(ask: Ask, mailing: Mailing, phase: Phase) -> Response:
    report = await ask.run(_report, ask, mailing) if mailing.frozen_at else None
    html, lang, in_doubt = None, ask.t.lang, list[int]()
    if report is not None:
        renderer = ask.kit.paper(mailing.site).renderer
        lang = renderer.language(ask.t.lang)
        html = Markup(as_html(report.value, renderer, lang, page=False))  # noqa: S704  escaped by its template
        if report.value.in_doubt:
            counted = await ask.run(watching.standing, ask, mailing)
            in_doubt = [*counted.value.status.in_doubt] if counted else []
    return ask.page(
        "mailing_ended",
        mailing=mailing,
        phase=phase,
        list_title=_list_title(ask, mailing),
        report=report,
        html=html,
        report_lang=lang,
        in_doubt=in_doubt,
    )


async def _live(ask: Ask, mailing: Mailing) -> Response:
    headers = {**HEADERS, "X-Accel-Buffering": "no"}
    if ask.visit.request.method == "HEAD":
        return Response(b"", headers=headers, media_type="text/event-stream")
    told = watching.stream(ask, mailing.id, ask.query("shown"))
    return StreamingResponse(told, headers=headers, media_type="text/event-stream")


# -- a test to oneself --------------------------------------------------------------------------------------------


async def _test(ask: Ask, mailing: Mailing) -> Response:
    if mailing.state is not MailingState.DRAFT:
        return _too_late(ask, mailing)

    async def send(addresses: Sequence[str]) -> None:
        await ask.kit.test_mailing(mailing.id, addresses)

    typed = ask.sent.text("to")
    problem = await send_test(ask, f"mailing {mailing.id}", typed, send)
    if problem:
        return await _show_ready(ask, mailing, status=422, test_error=problem, test_to=typed)
    return ask.back(f"mailings/{mailing.id}", told="sending.told_test")


# -- releasing ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Times:
    """When a mailing shall go, as it was typed and as it was read. `errors`: by field."""

    at_typed: str
    not_after_typed: str
    at: datetime | None
    not_after: datetime | None
    errors: dict[str, str]

    @property
    def query(self) -> str:
        """What leads to the question with these times."""
        return str(QueryParams({"at": self.at_typed, "not_after": self.not_after_typed}))


def _times(ask: Ask, at: str, not_after: str, *, wanted: bool = False) -> _Times:
    """Read both moments, in the server's own time.

    Args:
        wanted: whether a beginning must be given.
    """
    t, now = ask.t, ask.kit.now()
    errors: dict[str, str] = {}
    begin = _moment(at, "at", errors, t)
    end = _moment(not_after, "not_after", errors, t)
    if wanted and not at:
        errors["at"] = t("sending.at_missing")
    for name, value in (("at", begin), ("not_after", end)):
        if value is None:
            continue
        if value <= now:
            errors[name] = t("sending.at_past")
        elif value > now + _LATEST:
            errors[name] = t("sending.at_far")
    if begin and end and not errors and end <= begin:
        errors["not_after"] = t("sending.not_after_early")
    return _Times(at, not_after, begin, end, errors)


def _moment(typed: str, name: str, errors: dict[str, str], t: Texts) -> datetime | None:
    """A moment as `datetime-local` sends it; one that the clock skips in spring is none."""
    if not typed:
        return None
    try:
        local = datetime.fromisoformat(typed)
        if local.tzinfo is not None:
            raise ValueError
        made = local.astimezone()
        if made.astimezone(UTC).astimezone().replace(tzinfo=None) != local:
            errors[name] = t("sending.at_skipped")
            return None
    except (ValueError, OverflowError, OSError):
        errors[name] = t("sending.at_wrong")
        return None
    return made


def _zone(at: datetime) -> str:
    """The server's zone at a moment, as its clock names it: "CET (UTC+01:00)"."""
    local = at.astimezone()
    return "UTC" if f"{local:%Z}" == "UTC" else f"{local:%Z} (UTC{local.isoformat()[-6:]})"


async def _ask_when(ask: Ask, mailing: Mailing) -> Response:
    if mailing.state is not MailingState.DRAFT:
        return _too_late(ask, mailing)
    return _when_page(ask, mailing, _Times(ask.query("at"), ask.query("not_after"), None, None, {}))


async def _when(ask: Ask, mailing: Mailing) -> Response:
    """Read the times; the question follows on a page of its own."""
    times = _times(ask, ask.sent.text("at"), ask.sent.text("not_after"), wanted=True)
    if times.errors:
        return _when_page(ask, mailing, times, status=422)
    return ask.back(f"mailings/{mailing.id}/release?{times.query}")


def _when_page(ask: Ask, mailing: Mailing, times: _Times, *, status: int = 200) -> Response:
    return ask.page(
        "mailing_when",
        status=status,
        mailing=mailing,
        times=times,
        zone=_zone(ask.kit.now()),
        clock=moment(ask.kit.now(), ask.t),
        period=ask.t.duration(Duration.parse(ask.kit.settings.mailing.not_after)),
    )


async def _ask_release(ask: Ask, mailing: Mailing) -> Response:
    if mailing.state is not MailingState.DRAFT:
        return _too_late(ask, mailing)
    times = _times(ask, ask.query("at"), ask.query("not_after"))
    if times.errors:
        return _when_page(ask, mailing, times, status=422)
    return await _question(ask, mailing, times)


async def _question(
    ask: Ask,
    mailing: Mailing,
    times: _Times,
    *,
    problems: Sequence[str] = (),
    found: Sequence[Finding] = (),
    status: int = 200,
) -> Response:
    """The last question, with all that one should know before the answer.

    Args:
        problems, found: what kept it from going just now.
    """
    checked = await ask.run(_check, ask, mailing)
    audience, away = await _counted(ask, mailing)
    kept = await ask.run(_kept, ask, mailing)
    last = Duration.parse(ask.kit.settings.mailing.not_after).days
    ends = times.not_after or (times.at or ask.kit.now()) + timedelta(days=last)
    return ask.page(
        "mailing_release",
        status=status,
        mailing=mailing,
        list_title=_list_title(ask, mailing),
        times=times,
        ends=ends,
        zone=_zone(times.at or ask.kit.now()),
        checked=checked,
        away=away or checked.away,
        audience=audience,
        problems=problems,
        found=found,
        kept=kept,
        barred=_barred(ask, kept),
        who_could=_who_could(ask.t),
    )


async def _release(ask: Ask, mailing: Mailing) -> Response:
    if mailing.state is not MailingState.DRAFT:
        return _too_late(ask, mailing)
    if _barred(ask, await ask.run(_kept, ask, mailing)):
        return ask.wrong(ask.t("sending.barred", who=_who_could(ask.t)), status=403, title=ask.t("sending.four_eyes"))
    times = _times(ask, ask.sent.text("at"), ask.sent.text("not_after"))
    if times.errors:
        return _when_page(ask, mailing, times, status=422)
    if (await ask.run(_check, ask, mailing)).blocked:
        return await _question(ask, mailing, times, status=422)
    await ask.note("mailing.schedule" if times.at else "mailing.release", f"mailing {mailing.id}")
    going = _Going(ask, mailing, times)
    job = await ask.run(ask.rooms.jobs.start, ask.member.name, SEND, f"mailings/{mailing.id}", going, ahead=True)
    if not await ask.run(going.over.wait, _SEND_PATIENCE):
        return ask.back(f"jobs/{job}")
    if isinstance(going.error, MailingError):
        return await _not_sent(ask, mailing, times, going.error)
    if going.error is not None:
        raise going.error
    told = "sending.told_scheduled" if times.at else "sending.told_released"
    return ask.back(f"mailings/{mailing.id}", told=told)


class _Going:
    """Checks a mailing once more, settles who gets it, and lets it go: minutes of work for a long list.

    Whoever asked for it waits on `over`, and on a page of its own where that takes long. `error`: why it did not go.
    """

    def __init__(self, ask: Ask, mailing: Mailing, times: _Times) -> None:
        self._ask, self._mailing, self._times = ask, mailing, times
        self.over = threading.Event()
        self.error: Exception | None = None

    def __call__(self, progress: Progress) -> Outcome:
        """The work, in a thread of `Jobs`."""
        ask, id = self._ask, self._mailing.id
        try:
            who = ask.kit.mailings.send(id, at=self._times.at, not_after=self._times.not_after)
            ask.kit.engine.wake()
        except Exception as error:
            self.error = error
            if not isinstance(error, MailingError):
                raise
            ask.rooms.log.note(ask.member.name, "mailing.refused", f"mailing {id}")
            raise ConsentKitError(_NOT_SENT) from None  # the sentences of the check stand on the page of the mailing
        finally:
            _forget(ask, self._mailing)
            self.over.set()
        return Outcome({"queued": who.queued, "excluded": who.candidates - who.queued})


async def _not_sent(ask: Ask, mailing: Mailing, times: _Times, error: MailingError) -> Response:
    """The question again, with what kept the mailing from going: mostly what only the whole check finds."""
    if (await ask.run(ask.kit.mailings.get, mailing.id)).state is not MailingState.DRAFT:
        return _too_late(ask, mailing)
    whole = await ask.run(ask.kit.mailings.preflight, mailing.id, lang=ask.t.lang)
    found = [one for one in whole if one.level == "error"]
    sentences = [] if found else [_told(problem, ask.t) for problem in error.problems]
    return await _question(ask, mailing, times, problems=sentences, found=found, status=422)


def _told(problem: str, t: Texts) -> str:
    return t("sending.nobody_any_more") if problem.startswith("audience: nobody") else said(problem, t)


def _kept(ask: Ask, mailing: Mailing) -> Outline | None:
    """The draft that it was made of; None where it was made on the command line."""
    return ask.kit.drafts.of_mailing(mailing.id)


def _barred(ask: Ask, kept: Outline | None) -> bool:
    """Whether four eyes are wanted, and these are two that wrote it."""
    me = ask.member.name.casefold()
    wrote = kept is not None and any(me == name.casefold() for name in kept.editors)
    return ask.kit.settings.console.four_eyes and wrote


def _who_could(t: Texts) -> str:
    """The roles that may release a mailing."""
    return t("sending.or").join(role.value for role, rights in RIGHTS.items() if Right.RELEASE in rights)


# -- what else may be done ----------------------------------------------------------------------------------------


async def _ask_cancel(ask: Ask, mailing: Mailing) -> Response:
    phase = phase_of(mailing, ask.kit.now())
    if phase is not Phase.DRAFT and phase not in RUNNING:
        return _too_late(ask, mailing)
    counted = await ask.run(watching.standing, ask, mailing) if phase in RUNNING else None
    return ask.page("mailing_cancel", mailing=mailing, phase=phase, counted=counted)


def _changing(verb: str) -> OfAMailing:
    """Pause it, let it go on, or cancel it."""

    async def change(ask: Ask, mailing: Mailing) -> Response:
        await ask.note(f"mailing.{verb}", f"mailing {mailing.id}")
        try:
            await ask.run(getattr(ask.kit.mailings, verb), mailing.id)
        except MailingError:
            return _too_late(ask, mailing)
        if verb == "resume":
            ask.kit.engine.wake()
        _forget(ask, mailing)
        return ask.back(f"mailings/{mailing.id}", told=f"sending.told_{verb}")

    return change


async def _reopen(ask: Ask, mailing: Mailing) -> Response:
    """Write on: the mailing is given up, and its draft is open again."""
    await ask.note("mailing.reopen", f"mailing {mailing.id}")
    try:
        draft = await ask.run(ask.kit.drafts.reopen, mailing.id, ask.member.name)
    except MailingError:
        return _too_late(ask, mailing)
    _forget(ask, mailing)
    return ask.back(f"mailings/drafts/{draft}", told="sending.told_reopen")


def _too_late(ask: Ask, mailing: Mailing) -> Response:
    """It is in another state by now: see it as it is."""
    return ask.back(f"mailings/{mailing.id}", told="sending.told_too_late")


def _forget(ask: Ask, mailing: Mailing) -> None:
    keys = [("mailing", mailing.id, what) for what in ("audience", "report")]
    ask.rooms.figures.forget(watching.standing_key(mailing.id), *keys)


# -- what became of it --------------------------------------------------------------------------------------------


def _report(ask: Ask, mailing: Mailing) -> Figure[Report] | None:
    """The report, counted behind."""
    kit = ask.kit
    hot = mailing.ended_at is None or mailing.ended_at > kit.now() - _HOT
    return ask.rooms.figures.get(
        ("mailing", mailing.id, "report"),
        lambda: read_report(kit.store, mailing.id, kit.now()),
        fresh=REPORT_FRESH if hot else OLD_REPORT_FRESH,
    )


async def _csv(ask: Ask, mailing: Mailing) -> Response:
    return await _export(ask, mailing, "csv", CSV, lambda report: as_csv(report, ask.t))


async def _json(ask: Ask, mailing: Mailing) -> Response:
    def made(report: Report) -> str:
        return json.dumps(as_json(report), ensure_ascii=False, indent=2) + "\n"

    return await _export(ask, mailing, "json", "application/json", made)


async def _export(ask: Ask, mailing: Mailing, ending: str, kind: str, make: Callable[[Report], str]) -> Response:
    """The figures of the report as a file; no reader stands in it."""
    if mailing.frozen_at is None:
        return _too_late(ask, mailing)
    await ask.note("mailing.export", f"mailing {mailing.id}, {ending}")
    for _ in range(int(_EXPORT_PATIENCE / 0.2)):
        found = await ask.run(_report, ask, mailing)
        if found is not None:
            name = f"mailing-{mailing.id}-{ask.t('sending.file')}.{ending}"
            return Response(make(found.value), 200, attachment(name), media_type=kind)
        await asyncio.sleep(0.2)
    return ask.back(f"mailings/{mailing.id}", told="sending.told_counting")
