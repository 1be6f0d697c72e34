"""The first page of the console: what waits, for whoever is here.

Each thing that may wait belongs to a right. What costs a scan is not looked for here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from starlette.responses import Response

from consentkit.afgemeld import Lifting
from consentkit.render.console import moment, number
from consentkit.staff import Right
from consentkit.web.console.ask import Ask, Route
from consentkit.web.console.consent import undeclared
from consentkit.web.console.watching import Phase, phase_of

CHECK_AFTER: Final = timedelta(days=30)
"""So long after the last check of the evidence it is time for another."""

_FEW: Final = 5
_LOOK_BACK: Final = 50
"""So many of the newest mailings are looked at."""


@dataclass(frozen=True, slots=True)
class Waiting:
    """One thing that waits.

    Args:
        title: what. said: how it stands with it. path: of the page where it goes on. link: what leads there.
    """

    title: str
    said: str
    path: str
    link: str


@dataclass(frozen=True, slots=True)
class Shortcut:
    """Where one often goes."""

    path: str
    link: str


class Home:
    """What somebody sees who just logged in."""

    name = "home"

    def __init__(self) -> None:
        self.routes = (Route("", None, get=self._show),)

    async def _show(self, ask: Ask) -> Response:
        return ask.page("home", waiting=await ask.run(_waiting, ask), shortcuts=_shortcuts(ask))


def _waiting(ask: Ask) -> Sequence[Waiting]:
    """What waits for this person, by what they may do."""
    found: list[Waiting] = []
    for right, look in (
        (Right.MAILINGS, _mailings),
        (Right.WRITE, _drafts),
        (Right.AFGEMELD, _lifts),
        (Right.CONSENT, _names),
        (Right.CONSENT, _evidence),
    ):
        if ask.member.may(right):
            found += look(ask)
    return found


def _mailings(ask: Ask) -> Sequence[Waiting]:
    """What is ready to be let go, for who may; and what stands still, for everybody who sees mailings."""
    t, now = ask.t, ask.kit.now()
    found = []
    for mailing in ask.kit.mailings.page(None, "", _LOOK_BACK):
        phase = phase_of(mailing, now)
        if phase is Phase.DRAFT and not _may_release(ask, mailing.id):
            continue
        if phase in (Phase.DRAFT, Phase.PAUSED, Phase.STOPPED):
            found.append(
                Waiting(mailing.subject, t(f"home.mailing_{phase}"), f"mailings/{mailing.id}", t("home.mailing_link"))
            )
    return found[:_FEW]


def _may_release(ask: Ask, mailing: int) -> bool:
    """Whether this person may let a mailing go: with four eyes it is somebody who did not write it."""
    if not ask.member.may(Right.RELEASE):
        return False
    written = ask.kit.drafts.of_mailing(mailing) if ask.kit.settings.console.four_eyes else None
    return written is None or ask.member.name.casefold() not in map(str.casefold, written.editors)


def _drafts(ask: Ask) -> Sequence[Waiting]:
    t = ask.t
    return [
        Waiting(
            draft.title or t("home.draft_untitled"),
            t("home.draft", moment=moment(draft.saved_at, t), by=draft.saved_by),
            f"mailings/drafts/{draft.id}",
            t("home.draft_link"),
        )
        for draft in ask.kit.drafts.open("", most=_FEW)
    ]


def _lifts(ask: Ask) -> Sequence[Waiting]:
    asked = Lifting(ask.kit.afgemeld, ask.kit.store, ask.kit.now).waiting()
    others = [one for one in asked if one.by != ask.member.name]
    if not others:
        return ()
    t = ask.t
    said = t("home.lifts_one") if len(others) == 1 else t("home.lifts", n=number(len(others), t.lang))
    return [Waiting(t("home.lifts_title"), said, "afgemeld/lift", t("home.lifts_link"))]


def _names(ask: Ask) -> Sequence[Waiting]:
    seen = undeclared(ask)
    if not seen:
        return ()
    t = ask.t
    said = t("home.names_one") if len(seen) == 1 else t("home.names", n=number(len(seen), t.lang))
    return [Waiting(t("home.names_title"), said, "consent/undeclared", t("home.names_link"))]


def _evidence(ask: Ask) -> Sequence[Waiting]:
    last = ask.rooms.log.last("consent.verify")
    if last is not None and ask.kit.now() - last.at < CHECK_AFTER:
        return ()
    t = ask.t
    said = t("home.check_last", moment=moment(last.at, t)) if last else t("home.check_never")
    return [Waiting(t("home.check_title"), said, "consent/chain", t("home.check_link"))]


def _shortcuts(ask: Ask) -> Sequence[Shortcut]:
    """What each role comes here for."""
    every = (
        (Right.WRITE, "mailings/new", "write"),
        (Right.PEOPLE, "persons", "person"),
        (Right.AFGEMELD, "afgemeld", "afgemeld"),
        (Right.CONSENT, "consent/find", "proof"),
        (Right.LISTS, "jobs", "jobs"),
        (Right.LOG, "log", "log"),
        (Right.STAFF, "staff", "staff"),
    )
    return [Shortcut(path, ask.t(f"home.to_{name}")) for right, path, name in every if ask.member.may(right)]
