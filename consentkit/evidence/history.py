"""What a record's history says about a moment. Pure: takes the events, asks no database."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from consentkit.evidence.event import SHOWN_STATE, VALID_STATES, ConsentEvent


def was_valid(events: Iterable[ConsentEvent], purpose: str, at: datetime) -> bool:
    """Whether consent for `purpose` was in force at `at`.

    The last decision up to that moment counts, whole: a purpose it does not name was not granted by it, so consent
    never extends to what was added later. It holds from its own moment until, not including, `valid_until`. What was
    lawful before a withdrawal stays so (GDPR art. 7(3)). Showing a notice decides nothing.

    Args:
        events: one record's events in the order of the chain, as `Evidence.history` gives them.
        purpose: a purpose id.
        at: an aware moment.

    Raises:
        ValueError: the events are of several records, or `at` is naive.
    """
    if at.utcoffset() is None:
        raise ValueError(f"{at!r} has no time zone: give an aware datetime")
    decided: ConsentEvent | None = None
    records = set()
    for event in events:
        records.add((event.site, event.record_id))
        if event.at <= at and event.state != SHOWN_STATE:
            decided = event
    if len(records) > 1:
        raise ValueError("these events belong to several records")
    if decided is None or decided.state not in VALID_STATES or decided.valid_until is None:
        return False
    return decided.purposes.get(purpose, False) and at < decided.valid_until
