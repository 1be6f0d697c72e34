"""Consents run out, evidence is deleted on time, and the chain stays whole."""

from __future__ import annotations

import asyncio
import logging
from datetime import timedelta
from pathlib import Path

import pytest

from consentkit.errors import DatabaseUnavailable
from consentkit.evidence import RULES, Evidence, Notice, Purged, was_valid
from consentkit.evidence.retention import KEEP_COUNTS, KEEP_EVENTS
from consentkit.store import Store, metadata
from tests.evidence.samples import NOTICE, NOW, make_event, nonce, outage, withdrawal

DAY = timedelta(days=1)
OLD = Notice.build({"language": "nl", "version": "0", "texts": ["Zo vroegen wij het vroeger"]})


def fill(evidence: Evidence) -> None:
    """Each month a consent of half a year, from a year ago until now; the first two on an older notice."""
    for month in range(12):
        at = NOW - timedelta(days=30 * (12 - month))
        notice = OLD if month < 2 else NOTICE
        event = make_event(at=at, valid_until=at + 182 * DAY, notice_hash=notice.hash)
        evidence.record_sync(event, notice)
        asyncio.run(evidence.count("delinde", at, "banner.refuse", notice.hash, nonce()))


def test_evidence_goes_a_year_after_its_validity_and_the_chain_stays_whole(evidence: Evidence) -> None:
    fill(evidence)
    noted = evidence.verify().heads["delinde"]
    until = NOW - timedelta(days=360) + (182 + 365) * DAY  # of the first event

    assert evidence.purge(until - DAY) == Purged(0, 0, 0)
    assert evidence.purge(until) == Purged(1, 0, 0)
    assert evidence.purge(until + 30 * DAY) == Purged(1, 0, 0)

    report = evidence.verify()
    assert report.ok
    assert (report.events, report.heads["delinde"]) == (10, noted)
    assert evidence.verify(anchor=noted).ok
    evidence.record_sync(make_event(), NOTICE)
    assert evidence.verify().ok


def test_a_notice_goes_with_the_last_event_and_counter_that_name_it(evidence: Evidence) -> None:
    fill(evidence)
    late = NOW + 400 * DAY

    purged = evidence.purge(late)

    assert purged == Purged(8, 0, 0)  # the first event is over after 187 days, then one each 30 days
    assert evidence.notice(OLD.hash) == OLD  # counters of two years name it still
    assert evidence.purge(NOW + 700 * DAY) == Purged(4, 1, 10)
    assert evidence.notice(OLD.hash) is None
    assert evidence.notice(NOTICE.hash) == NOTICE
    assert evidence.purge(NOW + 900 * DAY) == Purged(0, 1, 2)
    assert evidence.counts() == []
    assert evidence.verify().ok


@pytest.mark.parametrize("days", [0, 100, 200, 300, 400, 500, 900])
def test_a_dry_run_says_what_would_go_deletes_nothing_and_the_second_run_finds_nothing(
    evidence: Evidence, caplog: pytest.LogCaptureFixture, days: int
) -> None:
    fill(evidence)
    now = NOW + days * DAY

    with caplog.at_level(logging.INFO, logger="consentkit.evidence"):
        would = evidence.purge(now, dry_run=True)
        before = evidence.verify()
        did = evidence.purge(now)
        again = evidence.purge(now)

    assert before.events == 12
    assert did == would
    assert again == Purged(0, 0, 0)
    assert evidence.verify().ok
    assert evidence.verify().events == 12 - did.events
    assert f"purged {did.events} events, {did.notices} notices, {did.counters} counters" in caplog.text
    assert not any(line["record_id"] in caplog.text for line in evidence.export())


def test_an_event_waits_for_those_before_it_since_only_the_front_of_a_chain_is_cut(evidence: Evidence) -> None:
    evidence.record_sync(make_event(valid_until=NOW + 300 * DAY), NOTICE)
    evidence.record_sync(make_event(valid_until=NOW + 10 * DAY), NOTICE)

    assert evidence.purge(NOW + (10 + 366) * DAY) == Purged(0, 0, 0)
    assert evidence.purge(NOW + (300 + 366) * DAY) == Purged(2, 1, 0)


def test_each_site_is_purged_by_itself(evidence: Evidence) -> None:
    evidence.record_sync(make_event(site="eik", at=NOW - 900 * DAY, valid_until=NOW - 800 * DAY), NOTICE)
    evidence.record_sync(make_event(site="delinde"), NOTICE)

    assert evidence.purge(NOW) == Purged(1, 0, 0)
    assert [line["site"] for line in evidence.export()] == ["delinde"]
    assert evidence.verify().ok


def test_a_large_front_goes_in_pieces(evidence: Evidence, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("consentkit.evidence.retention._AT_ONCE", 5)
    fill(evidence)

    assert evidence.purge(NOW + 2000 * DAY).events == 12
    assert evidence.verify().ok


@pytest.mark.parametrize("period", [timedelta(0), -DAY, timedelta(days=3654), timedelta.max])
def test_a_period_of_nothing_or_of_more_than_ten_years_is_refused(evidence: Evidence, period: timedelta) -> None:
    fill(evidence)

    with pytest.raises(ValueError, match="no retention period"):
        evidence.purge(NOW, keep=period)
    with pytest.raises(ValueError, match="no retention period"):
        evidence.purge(NOW, keep_counts=period)

    assert evidence.verify().events == 12


def test_every_table_has_a_rule_with_a_start_and_a_reason_in_both_languages() -> None:
    ours = set(metadata.tables)

    assert {rule.table for rule in RULES} <= ours
    assert {rule.table for rule in RULES} >= {
        "notice",
        "consent_event",
        "consent_count",
        "chain_head",
        "journal",
        "retention",
    }
    assert all(set(rule.starts) == set(rule.reason) == {"nl", "en"} for rule in RULES)
    periods = {rule.table: rule.period for rule in RULES if rule.period}
    assert periods == {"consent_event": KEEP_EVENTS, "consent_count": KEEP_COUNTS}


@pytest.mark.checklist("EVI-01")
def test_a_consent_that_ran_out_gets_an_event_that_says_so_once(evidence: Evidence) -> None:
    runs_out = make_event(valid_until=NOW + 10 * DAY)
    renewed = make_event(valid_until=NOW + 10 * DAY)
    withdrawn = make_event(valid_until=NOW + 10 * DAY)
    lasts = make_event()
    shown = make_event(record_id=runs_out.record_id, state="requested", purposes={"a": False}, valid_until=None)
    for event in (
        runs_out,
        renewed,
        withdrawn,
        lasts,
        make_event(record_id=renewed.record_id, state="renewed"),
        withdrawal(withdrawn),
        shown,
    ):
        evidence.record_sync(event, NOTICE)

    assert evidence.expire(NOW + 10 * DAY - timedelta(seconds=1)) == 0
    assert evidence.expire(NOW + 10 * DAY) == 1
    assert evidence.expire(NOW + 11 * DAY) == 0

    expired = evidence.history(runs_out.record_id)[-1]
    assert (expired.state, expired.method, expired.at) == ("expired", "expiry", NOW + 10 * DAY)
    assert dict(expired.purposes) == {"analytics": False, "marketing": False}
    assert (expired.nonce, expired.notice_hash) == (None, NOTICE.hash)
    assert not was_valid(evidence.history(runs_out.record_id), "analytics", NOW + 10 * DAY)
    assert evidence.verify().ok


def test_events_are_taken_while_a_purge_runs(evidence: Evidence, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("consentkit.evidence.retention._AT_ONCE", 1)
    fill(evidence)

    async def both() -> Purged:
        purging = asyncio.to_thread(evidence.purge, NOW + 800 * DAY)
        recording = [evidence.record(make_event(at=NOW + 800 * DAY, valid_until=NOW + 900 * DAY), NOTICE)] * 1
        purged, *_ = await asyncio.gather(purging, *recording)
        return purged

    purged = asyncio.run(both())

    assert purged.events == 12
    assert evidence.verify().ok
    assert evidence.verify().events == 1


def test_a_notice_that_was_purged_is_written_again_when_it_is_shown_again(evidence: Evidence) -> None:
    evidence.record_sync(make_event(), NOTICE)
    assert evidence.purge(NOW + 2000 * DAY) == Purged(1, 1, 0)

    evidence.record_sync(make_event(), NOTICE)

    assert evidence.notice(NOTICE.hash) == NOTICE


@pytest.mark.postgres
def test_a_purge_that_can_not_reach_the_database_deletes_nothing(postgres_url: str, tmp_path: Path) -> None:
    store = Store(postgres_url)
    store.upgrade()
    evidence = Evidence(store, journal=tmp_path)
    fill(evidence)

    with outage(postgres_url), pytest.raises(DatabaseUnavailable, match="does not answer"):
        evidence.purge(NOW + 2000 * DAY)

    assert evidence.verify().events == 12
    evidence.close()
    store.close()
