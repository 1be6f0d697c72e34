"""How many gave, refused and withdrew, per day and purpose; and which notice was answered on which day."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Mapping
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event as sqlevent

from consentkit.evidence import ConsentEvent, Evidence, Notice, Tally, records
from consentkit.store import Store
from tests.evidence.samples import NOW, make_event, withdrawal

DAY = timedelta(days=1)
TODAY = NOW.date()
BANNER = {
    "site": "delinde",
    "language": "nl",
    "version": "1",
    "texts": ["Mogen wij bezoek tellen?", "Accepteren", "Weigeren"],
    "purposes": [
        {"id": "analytics", "kind": "consent"},
        {"id": "youtube", "kind": "consent"},
        {"id": "counter", "kind": "opt_out"},
    ],
}
ASKED = Notice.build(BANNER)
LATER = Notice.build(BANNER | {"version": "2"})
both = pytest.mark.parametrize(
    "database_url", ["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)], indirect=True
)
BOTH, COUNTING = {"analytics": True, "youtube": True}, {"analytics": True, "youtube": False}


@pytest.fixture
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A SQLite file; where a test is marked `both`, PostgreSQL too."""
    if getattr(request, "param", "sqlite") == "postgres":
        url: str = request.getfixturevalue("migrated_postgres_url")
        return url
    return f"sqlite:///{shutil.copy(request.getfixturevalue('sqlite_template'), tmp_path / 'consentkit.db')}"


def answer(evidence: Evidence, method: str, purposes: Mapping[str, bool], **changes: Any) -> ConsentEvent:
    """An answer to the banner, kept."""
    notice = changes.pop("notice", ASKED)
    event = make_event(**({"method": method, "purposes": purposes, "notice_hash": notice.hash} | changes))
    evidence.record_sync(event, notice)
    return event


def take_back(evidence: Evidence, of: ConsentEvent, **changes: Any) -> None:
    evidence.record_sync(withdrawal(of, notice_hash=ASKED.hash, **changes), ASKED)


def refuse(evidence: Evidence, method: str = "banner.refuse", at: datetime = NOW, notice: Notice = ASKED) -> None:
    asyncio.run(evidence.count("delinde", at, method, notice.hash, None, notice=notice))


def totals(evidence: Evidence, since: date = TODAY, until: date = TODAY) -> dict[str, Tally]:
    rates = evidence.rates("delinde", since, until)
    return {purpose: rates.total(purpose) for purpose in rates.purposes}


def test_each_purpose_has_its_own_count_of_grants_refusals_and_withdrawals_of_a_day(evidence: Evidence) -> None:
    answer(evidence, "banner.accept", BOTH)
    kept = answer(evidence, "settings.save", COUNTING)
    refuse(evidence)
    refuse(evidence, "banner.save")
    take_back(evidence, kept, at=NOW + DAY)

    rates = evidence.rates("delinde", TODAY - DAY, TODAY + DAY)

    assert rates.days == [TODAY - DAY, TODAY, TODAY + DAY]
    assert rates.purposes == {
        "analytics": [Tally(), Tally(given=2, refused=2), Tally(withdrawn=1)],
        "youtube": [Tally(), Tally(given=1, refused=3), Tally()],
    }
    assert rates.total("youtube").share == 0.25
    assert (rates.once, rates.imported, rates.complete_from) == (0, 0, None)


@both
def test_a_change_counts_what_it_changed_and_the_same_answer_does_not_count_again(evidence: Evidence) -> None:
    first = answer(evidence, "banner.accept", BOTH)
    record = {"record_id": first.record_id, "state": "renewed"}
    answer(evidence, "settings.save", {"analytics": False, "youtube": True}, at=NOW + DAY, **record)
    answer(evidence, "banner.save", {"analytics": False, "youtube": True, "maps": True}, at=NOW + 2 * DAY, **record)

    rates = evidence.rates("delinde", TODAY, TODAY + 2 * DAY)

    assert rates.purposes == {
        "analytics": [Tally(given=1), Tally(withdrawn=1), Tally()],
        "maps": [Tally(), Tally(), Tally(given=1)],
        "youtube": [Tally(given=1), Tally(), Tally()],
    }


def test_a_click_on_one_video_refuses_nothing_else_and_the_first_answer_to_all_still_does(evidence: Evidence) -> None:
    clicked = answer(evidence, "embed.allow", {"analytics": False, "youtube": True})
    assert totals(evidence) == {"youtube": Tally(given=1)}

    again = {"record_id": clicked.record_id, "state": "renewed"}
    answer(evidence, "banner.save", {"analytics": False, "youtube": True}, **again)

    assert totals(evidence) == {"analytics": Tally(refused=1), "youtube": Tally(given=1)}


def test_what_was_let_in_once_or_taken_over_from_another_tool_stands_apart(evidence: Evidence) -> None:
    answer(evidence, "embed.once", {"youtube": True}, valid_until=NOW + timedelta(minutes=1))
    answer(evidence, "import.cookiebot", BOTH)

    rates = evidence.rates("delinde", TODAY, TODAY)

    assert (rates.once, rates.imported, rates.purposes) == (1, 1, {})


def test_an_objection_to_a_measurement_without_consent_refuses_no_consent(evidence: Evidence) -> None:
    refuse(evidence, "settings.object")

    assert totals(evidence) == {}


def test_what_ran_out_was_withdrawn_by_nobody(evidence: Evidence) -> None:
    answer(evidence, "banner.accept", BOTH, valid_until=NOW + timedelta(minutes=1))
    evidence.expire(NOW + timedelta(hours=1))

    assert totals(evidence)["analytics"] == Tally(given=1)


def test_the_newsletter_and_other_sites_have_chains_of_their_own(evidence: Evidence) -> None:
    answer(evidence, "mail.confirm", {"list.nieuwsbrief": True}, site="delinde/newsletter")
    answer(evidence, "banner.accept", BOTH, site="andere")

    assert totals(evidence) == {}


@both
def test_a_day_is_one_in_utc(evidence: Evidence) -> None:
    late = datetime(2026, 3, 1, 23, 59, 59, 999999, tzinfo=UTC)
    answer(evidence, "banner.accept", BOTH, at=late)
    answer(evidence, "banner.accept", BOTH, at=late + timedelta(microseconds=1))

    days = evidence.rates("delinde", date(2026, 3, 1), date(2026, 3, 2)).purposes["analytics"]

    assert days == [Tally(given=1), Tally(given=1)]


def test_a_second_count_reads_only_what_is_new_and_a_longer_period_only_what_is_older(
    evidence: Evidence, store: Store
) -> None:
    for back in range(60, -1, -1):
        answer(evidence, "banner.accept", BOTH, at=NOW - back * DAY)
    evidence.rates("delinde", TODAY - 9 * DAY, TODAY)
    answer(evidence, "banner.accept", BOTH)
    read: list[Any] = []

    @sqlevent.listens_for(store.engine, "before_cursor_execute")
    def _noted(_conn: Any, _cursor: Any, statement: str, parameters: Any, *_: Any) -> None:
        if "GROUP BY" in statement:
            values = [*parameters.values()] if isinstance(parameters, Mapping) else parameters
            read.append(tuple(one for one in values if isinstance(one, int) and one > 10))

    recent = evidence.rates("delinde", TODAY - 9 * DAY, TODAY)
    longer = evidence.rates("delinde", TODAY - 29 * DAY, TODAY)
    same = evidence.rates("delinde", TODAY - 29 * DAY, TODAY)

    assert read == [(62, 62), (25, 44)]  # a week of slack before the period, for what came late from a journal
    assert recent.total("analytics") == Tally(given=11)
    assert longer == same
    assert longer.total("analytics") == Tally(given=31)


def test_what_waited_in_a_journal_is_counted_on_its_own_day(evidence: Evidence) -> None:
    answer(evidence, "banner.accept", BOTH)
    evidence.rates("delinde", TODAY - 3 * DAY, TODAY)
    answer(evidence, "banner.accept", BOTH, at=NOW - 2 * DAY)

    days = evidence.rates("delinde", TODAY - 3 * DAY, TODAY).purposes["analytics"]

    assert days == [Tally(), Tally(given=1), Tally(), Tally(given=1)]


def test_a_period_of_which_the_beginning_is_deleted_says_from_when_it_is_whole(evidence: Evidence) -> None:
    answer(evidence, "banner.accept", BOTH, valid_until=NOW + DAY)
    answer(evidence, "banner.accept", BOTH, at=NOW + 9 * DAY)
    evidence.purge(NOW + 20 * DAY, keep=timedelta(days=10))

    rates = evidence.rates("delinde", TODAY, TODAY + 10 * DAY)

    assert rates.complete_from == TODAY + 9 * DAY
    assert rates.total("analytics") == Tally(given=1)


def test_a_purpose_without_an_answer_has_no_share(evidence: Evidence) -> None:
    rates = evidence.rates("delinde", TODAY, TODAY)

    assert (rates.purposes, rates.total("analytics"), rates.total("analytics").share) == ({}, Tally(), None)


@both
@pytest.mark.checklist("EVI-02")
def test_it_is_known_on_which_days_a_notice_was_answered_by_grants_and_by_refusals(evidence: Evidence) -> None:
    answer(evidence, "banner.accept", BOTH)
    refuse(evidence, at=NOW + DAY)
    answer(evidence, "banner.accept", BOTH, at=NOW + 2 * DAY, notice=LATER)
    refuse(evidence, at=NOW + 3 * DAY)
    refuse(evidence, at=NOW + 3 * DAY)

    old, new = evidence.answered("delinde")

    assert (old.hash, dict(old.days)) == (ASKED.hash, {TODAY: 1, TODAY + DAY: 1, TODAY + 3 * DAY: 2})
    assert (old.first, old.last, old.total) == (TODAY, TODAY + 3 * DAY, 4)
    assert (new.hash, dict(new.days)) == (LATER.hash, {TODAY + 2 * DAY: 1})
    assert (new.language, new.version, new.kind) == ("nl", "2", "")


@both
def test_a_period_is_exported_page_by_page_from_where_it_begins(evidence: Evidence, store: Store) -> None:
    made = [answer(evidence, "banner.accept", BOTH, at=NOW + back * DAY) for back in range(6)]
    answer(evidence, "mail.confirm", {"list": True}, site="delinde/newsletter", at=NOW + DAY)
    answer(evidence, "mail.confirm", {"list": True}, site="andere", at=NOW + DAY)

    sites = ["delinde", "delinde/newsletter"]
    pages = [*records.pages(store, NOW + DAY, NOW + 4 * DAY, sites=sites, most=2)]

    assert [[row["seq"] for row in page] for page in pages] == [[2], [3, 4], [1]]
    assert pages[0][0] == evidence.proof(made[1].record_id)[0]
    assert [row for page in pages for row in page] == [
        row for site in sites for row in evidence.export(NOW + DAY, NOW + 4 * DAY, site=site)
    ]


def test_a_check_of_the_chain_tells_how_far_it_is(evidence: Evidence, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("consentkit.evidence.records._AT_ONCE", 2)
    for _ in range(5):
        answer(evidence, "banner.accept", BOTH)
    told: list[tuple[int, int]] = []

    report = evidence.verify(progress=lambda done, total: told.append((done, total)))

    assert (report.ok, told) == (True, [(2, 5), (4, 5)])
