"""What may happen to a mailing and to each message of it, and what an answer of the mail server means. Pure.

    queued → claimed → sending → sent | deferred | failed | in_doubt
       excluded (at the freeze) · suppressed (left since) · cancelled · expired

`claimed` belongs to one sender, which may die: then it is queued again. `sending` was released: a message that its
sender died over is in doubt, is listed, and is never sent again.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final

from consentkit.errors import ConsentKitError, MailingError
from consentkit.mail import MailDeferred, MailRefused, MailUnavailable, Stage


class Purpose(StrEnum):
    """What a mailing is for: marketing needs a lawful route and passes afgemeld, service mail holds no promotion."""

    MARKETING = "marketing"
    SERVICE = "service"


class MailingState(StrEnum):
    """How far a mailing is."""

    DRAFT = "draft"
    SENDING = "sending"
    PAUSED = "paused"
    STOPPED = "stopped"
    DONE = "done"
    CANCELLED = "cancelled"
    EXPIRED = "expired"


ENDED: Final = frozenset({MailingState.DONE, MailingState.CANCELLED, MailingState.EXPIRED})


class DeliveryState(StrEnum):
    """How far one message is."""

    QUEUED = "queued"
    CLAIMED = "claimed"
    SENDING = "sending"
    SENT = "sent"
    DEFERRED = "deferred"
    FAILED = "failed"
    SUPPRESSED = "suppressed"
    IN_DOUBT = "in_doubt"
    EXCLUDED = "excluded"
    CANCELLED = "cancelled"
    EXPIRED = "expired"


BACKOFF: Final = tuple(timedelta(minutes=minutes) for minutes in (1, 5, 15, 30, 60, 120, 240))
"""Between two tries; the last repeats. Two soon, for greylisting, then patience (RFC 5321 section 4.5.4.1)."""

MOST_TRIES: Final = 24
"""With the waits between them, four to five days (RFC 5321 section 4.5.4.1)."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one message.

    Args:
        delivery: its number. state: where it goes. reason: a code or a word. due_at: when to try again.
        tried: it counts as a try. refused: it counts towards stopping the mailing.
    """

    delivery: int
    state: DeliveryState
    reason: str = ""
    due_at: datetime | None = None
    tried: bool = False
    refused: bool = False


def sent(delivery: int) -> Outcome:
    """The mail server answers for it now."""
    return Outcome(delivery, DeliveryState.SENT, tried=True)


def outcome_of(delivery: int, error: Exception, *, tries: int, now: datetime) -> Outcome:
    """What an error of the wire means for one message.

    A connection that can't be used says nothing about the person: the message goes back unless it may have been taken.
    """
    if isinstance(error, MailUnavailable):
        if error.in_doubt:
            reason = "no answer after the message"
            return Outcome(delivery, DeliveryState.IN_DOUBT, reason, tried=True)
        return Outcome(delivery, DeliveryState.QUEUED, due_at=now)
    if isinstance(error, MailDeferred) and tries + 1 < MOST_TRIES:
        wait = BACKOFF[min(tries, len(BACKOFF) - 1)]
        return Outcome(delivery, DeliveryState.DEFERRED, _codes(error), due_at=now + wait, tried=True)
    if isinstance(error, MailRefused) and error.stage not in (Stage.RCPT, Stage.DATA):
        if error.status == "5.6.7":  # this server takes no such address (RFC 6531), and others all the same
            return Outcome(delivery, DeliveryState.FAILED, _codes(error), tried=True)
        return Outcome(delivery, DeliveryState.DEFERRED, _codes(error), due_at=now + BACKOFF[0], refused=True)
    if isinstance(error, MailRefused | MailDeferred):
        refused = isinstance(error, MailRefused)
        return Outcome(delivery, DeliveryState.FAILED, _codes(error), tried=True, refused=refused)
    if isinstance(error, ConsentKitError | OSError) and not isinstance(error, MailingError):
        return Outcome(
            delivery, DeliveryState.QUEUED, due_at=now + timedelta(seconds=5)
        )  # about the database, or a key
    return Outcome(delivery, DeliveryState.FAILED, f"can't be made: {type(error).__name__}", refused=True)


def _codes(error: MailRefused | MailDeferred) -> str:
    return " ".join(part for part in (str(error.code or ""), error.status, f"at {error.stage}") if part)
