"""How a mailing goes while it goes: counted behind, told in words, and sent on to whoever watches.

A watcher costs a small look-up each second, and no thread: the messages are counted by `Figures`, once for all who
watch, and never for more than a share of the time. A stream ends after some seconds and the browser opens the next
one, so that whose log-in ended sees nothing more, and a server that stops waits for nobody.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, Final

from consentkit.errors import ConsentKitError
from consentkit.mailing import Attendance, DeliveryState, Mailing, MailingState, Status
from consentkit.mailing.report import reason_said
from consentkit.render import Texts
from consentkit.render.console import moment, number
from consentkit.web.console.ask import Ask, Kit
from consentkit.web.console.figures import Figure
from consentkit.web.console.jobs import said as sentence_said

STREAM_SECONDS: Final = 20.0
"""How long one stream lasts at most."""

LOOK_SECONDS: Final = 1.0
BEAT_SECONDS: Final = 8.0
"""Silence after which a stream shows that it lives; so it also notices that nobody listens."""

PATIENCE: Final = timedelta(seconds=30)
"""So long after its start a mailing may lack a sender before that is told."""

ENDED_FRESH: Final = 600.0

_WAITING: Final = (DeliveryState.QUEUED, DeliveryState.CLAIMED, DeliveryState.SENDING)
_BOUNCED: Final = "bounced"


class Phase(StrEnum):
    """What a mailing is for whoever looks at it: its state, and whether it begins later."""

    DRAFT = "draft"
    SCHEDULED = "scheduled"
    SENDING = "sending"
    PAUSED = "paused"
    STOPPED = "stopped"
    DONE = "done"
    CANCELLED = "cancelled"
    EXPIRED = "expired"


RUNNING: Final = frozenset({Phase.SCHEDULED, Phase.SENDING, Phase.PAUSED, Phase.STOPPED})
"""In these something may still go out."""


def phase_of(mailing: Mailing, now: datetime) -> Phase:
    """The phase that a mailing is in."""
    if mailing.state is MailingState.SENDING and mailing.start_at is not None and mailing.start_at > now:
        return Phase.SCHEDULED
    return Phase(mailing.state.value)


@dataclass(frozen=True, slots=True)
class Standing:
    """How a mailing goes, and whether it has a sender."""

    status: Status
    attendance: Attendance


@dataclass(frozen=True, slots=True)
class Line:
    """One count. `about` says what it counts, `parts` why, by reason."""

    key: str
    label: str
    value: int
    about: str
    parts: tuple[tuple[str, int], ...] = ()


def standing_key(id: int) -> tuple[str, int, str]:
    """By which the standing of a mailing is remembered."""
    return ("mailing", id, "standing")


def standing(ask: Ask, mailing: Mailing, *, wait: float | None = None) -> Figure[Standing] | None:
    """How it goes, as it was counted last; None where it is being counted for the first time.

    Args:
        wait: seconds to wait for a first count; with 0 it may be asked in the event loop.
    """
    kit = ask.kit
    fresh = LOOK_SECONDS if phase_of(mailing, kit.now()) in RUNNING else ENDED_FRESH
    return ask.rooms.figures.get(standing_key(mailing.id), lambda: _stand(kit, mailing.id), fresh=fresh, wait=wait)


def _stand(kit: Kit, id: int) -> Standing:
    status = kit.mailings.status(id)
    mailing, now = status.mailing, kit.now()
    waits = any(status.counts.get(state) for state in _WAITING)
    began = mailing.start_at or mailing.frozen_at or now
    due = mailing.state is MailingState.SENDING and began + PATIENCE <= now
    if not (waits and due) or kit.engine.running:
        return Standing(status, Attendance.SENDER)
    return Standing(status, kit.mailings.attendance(id))


def lines(status: Status, t: Texts) -> list[Line]:
    """Every count of a mailing that goes, defined as its report defines it."""
    counts, reasons = status.counts, status.reasons
    failed = reasons.get(DeliveryState.FAILED, {})
    back = {reason: count for reason, count in failed.items() if reason.startswith(_BOUNCED)}
    bounced = sum(back.values())
    found: dict[str, tuple[int, Mapping[str, int]]] = {
        "sent": (counts.get(DeliveryState.SENT, 0) + bounced, {}),
        "waiting": (sum(counts.get(state, 0) for state in _WAITING), {}),
        "deferred": (counts.get(DeliveryState.DEFERRED, 0), reasons.get(DeliveryState.DEFERRED, {})),
        "failed": (
            counts.get(DeliveryState.FAILED, 0) - bounced,
            {reason: count for reason, count in failed.items() if reason not in back},
        ),
        "bounced": (bounced, {}),
        "suppressed": (counts.get(DeliveryState.SUPPRESSED, 0), reasons.get(DeliveryState.SUPPRESSED, {})),
        "in_doubt": (counts.get(DeliveryState.IN_DOUBT, 0), {}),
        "excluded": (counts.get(DeliveryState.EXCLUDED, 0), reasons.get(DeliveryState.EXCLUDED, {})),
    }
    return [
        Line(key, t(f"report.{key}"), value, t(f"report.about_{key}"), said_reasons(parts, t))
        for key, (value, parts) in found.items()
    ]


def said_reasons(reasons: Mapping[str, int], t: Texts) -> tuple[tuple[str, int], ...]:
    """Reasons in words with their counts, the most first."""
    ordered = sorted(reasons.items(), key=lambda one: (-one[1], one[0]))
    return tuple((t("sending.reason_pace") if reason == "pace" else reason_said(reason, t), n) for reason, n in ordered)


def why_left_out(reason: str, t: Texts) -> tuple[str, str]:
    """A reason to leave readers out, in words, and what can be done about it."""
    said = said_reasons({reason: 1}, t)[0][0]
    key = f"sending.why_{reason.partition(':')[0]}"
    return said, t(key) if t.has(key) else ""


def said(status: Status, t: Texts) -> str:
    """How far it is, in a sentence."""
    far = t("sending.far", settled=number(status.settled, t.lang), total=number(status.total, t.lang))
    if status.next_try is None:
        return far
    return f"{far} {t('sending.next_try', moment=moment(status.next_try, t))}"


def shown(mailing: Mailing, standing: Standing, now: datetime) -> str:
    """What the rest of a page depends on: where this changes, the page is asked for anew."""
    return "-".join((phase_of(mailing, now), standing.attendance, "note" if mailing.note else "clear"))


def figures(mailing: Mailing, standing: Standing, t: Texts) -> dict[str, Any]:
    """What a page shows of a mailing that goes, by the name that each place has."""
    status = standing.status
    told: dict[str, Any] = {line.key: number(line.value, t.lang) for line in lines(status, t)}
    return told | {
        "settled": status.settled,
        "total": status.total,
        "said": said(status, t),
        "note": sentence_said(t, mailing.note),
    }


async def stream(ask: Ask, id: int, before: str) -> AsyncIterator[str]:
    """Server-sent events: the figures whenever they changed, and `{"reload": true}` where the page must be asked anew.

    Args:
        before: what `shown` gave for the page that watches.
    """
    yield "retry: 1000\n\n"
    end = time.monotonic() + STREAM_SECONDS
    last, beat = "", time.monotonic()
    while time.monotonic() < end:
        told = await _look(ask, id, before)
        text = json.dumps(told) if told else ""
        if text and text != last:
            yield f"data: {text}\n\n"
            last, beat = text, time.monotonic()
            if "reload" in told:
                return
        elif time.monotonic() - beat >= BEAT_SECONDS:
            yield ": still here\n\n"
            beat = time.monotonic()
        await asyncio.sleep(LOOK_SECONDS)


async def _look(ask: Ask, id: int, before: str) -> dict[str, Any]:
    try:
        mailing = await ask.run(ask.kit.mailings.get, id)
        found = standing(ask, mailing, wait=0.0)
    except ConsentKitError:  # the database is away: the next look may find it
        return {}
    if found is None:
        return {}
    if shown(mailing, found.value, ask.kit.now()) != before:
        return {"reload": True}
    return figures(mailing, found.value, ask.t)
