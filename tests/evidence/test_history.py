"""What was in force at a moment, against a model that only keeps one table."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from consentkit.evidence import ConsentEvent, Evidence, was_valid
from tests.evidence.samples import NOTICE, NOW, make_event, nonce, withdrawal

RECORD = "ab" * 16
PURPOSES = ["analytics", "marketing", "youtube"]
Model = dict[str, datetime]
"""Per purpose until when it is granted."""


def give(at: datetime, granted: set[str], asked: set[str], days: int, state: str) -> tuple[ConsentEvent, Model]:
    until = at + timedelta(days=days)
    purposes = {purpose: purpose in granted for purpose in sorted(asked | granted)}
    event = make_event(record_id=RECORD, state=state, at=at, purposes=purposes, valid_until=until)
    return event, dict.fromkeys(granted, until)


def end(at: datetime, state: str) -> tuple[ConsentEvent, Model]:
    purposes = dict.fromkeys(PURPOSES, False)
    return make_event(record_id=RECORD, state=state, at=at, purposes=purposes, valid_until=None, nonce=None), {}


@st.composite
def steps(draw: st.DrawFn) -> list[tuple[ConsentEvent, Model | None]]:
    """A history: give, change, renew under another version (other purposes), withdraw, expire, erase, show again.

    Beside each event stands the model's table after it, or `None` where nothing changes.
    """
    at = NOW
    history: list[tuple[ConsentEvent, Model | None]] = []
    for _ in range(draw(st.integers(0, 8))):
        at += timedelta(hours=draw(st.integers(0, 24 * 40)))
        kind = draw(st.sampled_from(["given", "renewed", "withdrawn", "expired", "terminated", "invalidated", "shown"]))
        if kind == "shown":
            shown, _ = end(at, "requested")
            history.append((shown, None))
        elif kind in ("given", "renewed"):
            granted = draw(st.sets(st.sampled_from(PURPOSES), min_size=1))
            asked = draw(st.sets(st.sampled_from(PURPOSES)))
            history.append(give(at, granted, asked, draw(st.integers(1, 60)), kind))
        else:
            history.append(end(at, kind))
    return history


@pytest.mark.checklist("EVI-07")
@settings(deadline=None)
@given(steps(), st.sampled_from(PURPOSES), st.integers(-24, 24 * 400))
def test_validity_follows_any_history_of_give_change_expire_version_change_withdraw_and_erase(
    history: list[tuple[ConsentEvent, Model | None]], purpose: str, hours: int
) -> None:
    moment = NOW + timedelta(hours=hours)
    model: Model = {}
    for event, table in history:
        if event.at <= moment and table is not None:
            model = table

    answer = was_valid([event for event, _ in history], purpose, moment)

    assert answer == (purpose in model and moment < model[purpose])


@pytest.mark.checklist("EVI-07")
@settings(deadline=None)
@given(steps(), st.data())
def test_validity_is_right_at_the_very_moments_where_it_changes(
    history: list[tuple[ConsentEvent, Model | None]], data: st.DataObject
) -> None:
    edges = [event.at for event, _ in history] + [event.valid_until for event, _ in history if event.valid_until]
    moment = data.draw(st.sampled_from(edges or [NOW])) + timedelta(microseconds=data.draw(st.integers(-1, 1)))
    model: Model = {}
    for event, table in history:
        if event.at <= moment and table is not None:
            model = table

    for purpose in PURPOSES:
        assert was_valid([event for event, _ in history], purpose, moment) == (
            purpose in model and moment < model[purpose]
        )


@pytest.mark.checklist("EVI-07")
def test_what_was_lawful_before_a_withdrawal_stays_so(evidence: Evidence) -> None:
    given_ = make_event()
    withdrawn = withdrawal(given_)
    evidence.record_sync(given_, NOTICE)
    evidence.record_sync(withdrawn, NOTICE)

    history = evidence.history(given_.record_id)

    assert history == [given_, withdrawn]
    assert was_valid(history, "analytics", withdrawn.at - timedelta(seconds=1))
    assert not was_valid(history, "analytics", withdrawn.at)
    assert not was_valid(history, "marketing", given_.at)


@pytest.mark.checklist("EVI-08", "EVI-07")
def test_showing_a_notice_again_neither_gives_nor_ends_a_consent() -> None:
    shown = make_event(record_id=RECORD, state="requested", purposes={"analytics": False}, valid_until=None, nonce=None)
    given_ = make_event(record_id=RECORD)

    assert not was_valid([shown], "analytics", NOW)
    assert was_valid([given_, shown], "analytics", NOW)


def test_several_records_at_once_are_refused() -> None:
    with pytest.raises(ValueError, match="several records"):
        was_valid([make_event(), make_event(nonce=nonce())], "analytics", NOW)


def test_a_naive_moment_is_refused() -> None:
    with pytest.raises(ValueError, match="time zone"):
        was_valid([], "analytics", NOW.replace(tzinfo=None))
