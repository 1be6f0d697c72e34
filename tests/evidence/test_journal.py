"""The database is away, slow, full or old: choices are kept on the local disk, and come back exactly once."""

from __future__ import annotations

import asyncio
import json
import logging
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import event as sqlalchemy_event
from sqlalchemy.engine import Connection

from consentkit.errors import EvidenceUnavailable, NoticeSpent
from consentkit.evidence import Durability, Evidence
from consentkit.evidence.event import Refusal
from consentkit.evidence.journal import Journal, JournalFile
from consentkit.evidence.ledger import Entry
from consentkit.evidence.tables import journals
from consentkit.store import Store
from tests.evidence.child import start
from tests.evidence.samples import NOTICE, NOW, make_event, nonce, outage, withdrawal


@pytest.fixture
def evidence(store: Store, tmp_path: Path) -> Iterator[Evidence]:
    """A log with little patience, so that an outage shows soon."""
    evidence = Evidence(store, journal=tmp_path / "journal", patience=1.0, retry=0.1)
    evidence.record_sync(make_event(site="warm-up"), NOTICE)
    yield evidence
    evidence.close()


def stored(evidence: Evidence) -> list[str]:
    return [line["event_id"] for line in evidence.export(site="delinde")]


def wait_until(reached: Callable[[], bool], seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while not reached():
        assert time.monotonic() < deadline, "it never came"
        time.sleep(0.02)


def waiting_files(tmp_path: Path) -> list[Path]:
    return sorted((tmp_path / "journal").glob("*"))


def test_while_the_database_is_away_events_wait_in_the_journal_and_then_go_in_by_themselves(
    evidence: Evidence, database_url: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    series = [make_event(at=NOW) for _ in range(5)]
    series.append(withdrawal(series[0]))

    with outage(database_url):
        assert [evidence.record_sync(one, NOTICE) for one in series] == [Durability.JOURNAL] * 6
        assert asyncio.run(evidence.count("delinde", NOW, "banner.refuse", NOTICE.hash, nonce())) is Durability.JOURNAL
        assert evidence.journal_waiting
        modes = {stat.S_IMODE(file.stat().st_mode) for file in waiting_files(tmp_path)}
        assert modes == {0o600}  # of one file, or of more on a machine that is slow enough for another try
    wait_until(lambda: not evidence.journal_waiting)

    assert stored(evidence) == [one.event_id for one in series]
    assert evidence.history(series[0].record_id) == [series[0], series[5]]
    assert [count.total for count in evidence.counts()] == [1]
    assert waiting_files(tmp_path) == []
    assert evidence.verify().ok
    assert "the database is away" in caplog.text
    assert series[0].record_id not in caplog.text


def test_an_answer_comes_within_the_patience_and_at_once_when_the_outage_is_known(
    evidence: Evidence, database_url: str
) -> None:
    with outage(database_url):
        started = time.monotonic()
        evidence.record_sync(make_event(), NOTICE)
        first = time.monotonic() - started
        started = time.monotonic()
        for _ in range(10):
            evidence.record_sync(make_event(), NOTICE)
        others = time.monotonic() - started

    assert first < 5.0
    assert others < 5.0  # and not one second each


def test_a_notice_answered_in_the_journal_is_spent(evidence: Evidence, database_url: str) -> None:
    event = make_event()

    with outage(database_url):
        evidence.record_sync(event, NOTICE)
        with pytest.raises(NoticeSpent):
            evidence.record_sync(make_event(nonce=event.nonce), NOTICE)


def test_with_neither_database_nor_journal_the_choice_is_not_taken_and_can_be_made_again(
    store: Store, database_url: str, tmp_path: Path
) -> None:
    blocked = tmp_path / "journal"
    blocked.write_text("a file where the folder should be")
    evidence = Evidence(store, journal=blocked, patience=1.0, retry=0.1)
    event = make_event()

    with outage(database_url):
        with pytest.raises(EvidenceUnavailable):
            evidence.record_sync(event, NOTICE)
        with pytest.raises(EvidenceUnavailable):
            asyncio.run(evidence.record(event, NOTICE))
    wait_until(lambda: _recorded(evidence, event))

    assert stored(evidence) == [event.event_id]
    evidence.close()


def _recorded(evidence: Evidence, event: object) -> bool:
    try:
        return evidence.record_sync(event, NOTICE) is Durability.DATABASE  # type: ignore[arg-type]
    except EvidenceUnavailable:
        return False


def test_a_disk_that_is_full_is_an_outage_too(tmp_path: Path) -> None:
    store = Store(f"sqlite:///{tmp_path}/x.db")
    evidence = Evidence(store, journal=tmp_path / "journal", patience=5.0, retry=0.1)
    evidence.record_sync(make_event(), NOTICE)
    full = [True]

    @sqlalchemy_event.listens_for(store.engine, "begin")
    def _fill(connection: Connection) -> None:
        pages = connection.exec_driver_sql("PRAGMA page_count").scalar() if full[0] else 1_000_000
        connection.exec_driver_sql(f"PRAGMA max_page_count = {pages}")

    series = [make_event() for _ in range(60)]
    answers = [evidence.record_sync(one, NOTICE) for one in series]
    full[0] = False

    assert Durability.JOURNAL in answers
    wait_until(lambda: not evidence.journal_waiting)
    assert sorted(stored(evidence)[1:]) == sorted(one.event_id for one in series)
    evidence.close()
    store.close()


@pytest.mark.postgres
def test_before_the_upgrade_events_wait_in_the_journal(postgres_url: str, tmp_path: Path) -> None:
    """A new release may serve before somebody has run `consentkit db upgrade`."""
    store = Store(postgres_url)
    evidence = Evidence(store, journal=tmp_path / "journal", patience=5.0, retry=0.1)

    assert evidence.record_sync(make_event(), NOTICE) is Durability.JOURNAL
    assert store.upgrade()[0] == "v0_1_0_01_evidence"

    wait_until(lambda: not evidence.journal_waiting)
    assert len(stored(evidence)) == 1
    evidence.close()
    store.close()


class SlowStore(Store):
    """A database that answers, but later than anybody waits."""

    delay = 0.0

    @contextmanager
    def begin(self, *, patience: float = 30.0) -> Iterator[Connection]:
        with super().begin(patience=30.0) as connection:
            yield connection
            time.sleep(self.delay)


def test_a_commit_that_comes_after_the_patience_is_over_leaves_nothing_double(
    database_url: str, tmp_path: Path
) -> None:
    store = SlowStore(database_url)
    store.upgrade()
    evidence = Evidence(store, journal=tmp_path / "journal", patience=0.3, retry=0.1)
    store.delay = 4.0

    async def together() -> list[Durability]:
        some = [evidence.record(make_event(), NOTICE) for _ in range(10)]
        some += [evidence.count("delinde", NOW, "banner.refuse", NOTICE.hash, nonce()) for _ in range(10)]
        return await asyncio.gather(*some)

    started = time.monotonic()
    answers = asyncio.run(together())
    waited = time.monotonic() - started
    store.delay = 0.0

    assert answers == [Durability.JOURNAL] * 20
    assert waited < 4.0
    wait_until(lambda: not evidence.journal_waiting)
    assert len(stored(evidence)) == 10
    assert [count.total for count in evidence.counts()] == [10]
    assert evidence.verify().ok
    evidence.close()
    store.close()


def test_the_journal_of_a_killed_process_is_adopted_exactly_once(
    evidence: Evidence, database_url: str, tmp_path: Path
) -> None:
    told = tmp_path / "printed"
    with outage(database_url):
        child = start(database_url, tmp_path / "journal", told, patience=0.4)
        wait_until(lambda: told.read_text().count("\n") >= 200)
        child.kill()
        child.join(60)
    printed = told.read_text().splitlines(keepends=True)
    answered = [line.split() for line in printed if line.endswith("\n")]
    assert {durability for _, durability, _ in answered} == {"journal"}

    for _ in range(3):
        evidence.replay()
        replayed = stored(evidence)
        assert {one for one, _, _ in answered} <= set(replayed)
        assert len(replayed) == len(set(replayed))
        assert sum(count.total for count in evidence.counts()) >= len(answered)
    assert waiting_files(tmp_path) == []
    assert evidence.verify().ok


def journal_of_a_dead_process(folder: Path, entries: list[Entry]) -> Path:
    journal = Journal(folder)
    for entry in entries:
        journal.append([entry])
    journal.close()
    (path,) = folder.glob("*.journal")
    return path


def test_a_line_torn_by_a_crash_is_tolerated_and_reported(
    evidence: Evidence, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    events = [make_event() for _ in range(3)]
    path = journal_of_a_dead_process(tmp_path / "journal", [Entry(event, NOTICE) for event in events])
    path.write_bytes(path.read_bytes()[:-30])

    with caplog.at_level(logging.WARNING):
        done = evidence.replay()

    assert (done.entries, done.damaged, done.complete) == (2, 1, True)
    assert stored(evidence) == [event.event_id for event in events[:2]]
    assert waiting_files(tmp_path) == []
    assert "1 damaged line" in caplog.text


def test_damage_in_the_middle_costs_only_its_line_and_the_file_is_kept(evidence: Evidence, tmp_path: Path) -> None:
    events = [make_event() for _ in range(3)]
    path = journal_of_a_dead_process(tmp_path / "journal", [Entry(event, NOTICE) for event in events])
    lines = path.read_bytes().splitlines(keepends=True)
    lines[2] = lines[2].replace(b'"analytics":true', b'"analytics":null')
    path.write_bytes(b"".join(lines))

    done = evidence.replay()

    assert (done.entries, done.damaged) == (2, 1)
    assert stored(evidence) == [events[0].event_id, events[2].event_id]
    assert [file.suffix for file in waiting_files(tmp_path)] == [".aside"]
    assert evidence.replay().entries == 0


def test_a_replay_that_is_cut_off_goes_on_where_it_was(evidence: Evidence, store: Store, tmp_path: Path) -> None:
    """How far it got is committed together with what it wrote: counters too come exactly once."""
    refusals = [Refusal("delinde", NOW.date(), "banner.refuse", NOTICE.hash) for _ in range(10)]
    path = journal_of_a_dead_process(tmp_path / "journal", [Entry(refusal) for refusal in refusals])
    with store.begin() as connection:
        connection.execute(journals.insert().values(name=path.name, lines=4, at=NOW))

    done = evidence.replay()

    assert done.entries == 6
    assert [count.total for count in evidence.counts()] == [6]
    with store.read() as connection:
        assert connection.execute(journals.select()).all() == []


def test_the_journal_of_a_living_process_is_left_alone(tmp_path: Path) -> None:
    living, other = Journal(tmp_path), Journal(tmp_path)
    living.append([Entry(make_event(), NOTICE)])

    assert list(other.orphans()) == []
    assert list(living.orphans()) == []

    living.close()
    (orphan,) = other.orphans()
    assert [len(entries) for _, entries in orphan.read()] == [1]
    assert JournalFile.adopt(orphan.path) is None
    orphan.remove()
    assert JournalFile.adopt(orphan.path) is None


def test_events_and_refusals_come_out_of_the_journal_as_they_went_in(tmp_path: Path) -> None:
    entries = [
        Entry(make_event(), NOTICE),
        Entry(withdrawal(make_event(), valid_until=None, nonce=None), NOTICE),
        Entry(Refusal("delinde", NOW.date(), "banner.refuse", NOTICE.hash), None),
    ]
    path = journal_of_a_dead_process(tmp_path, entries)

    file = JournalFile.adopt(path)
    assert file is not None
    ((lines, read),) = file.read()
    file.close()

    assert lines == 4  # and the notice, once
    assert [entry.what for entry in read] == [entry.what for entry in entries]
    assert read[0].notice == read[1].notice == NOTICE


def test_no_nonce_of_a_refusal_is_in_the_journal(tmp_path: Path) -> None:
    secret = nonce()

    path = journal_of_a_dead_process(
        tmp_path, [Entry(Refusal("delinde", NOW.date(), "banner.refuse", NOTICE.hash, secret))]
    )

    assert secret not in path.read_text()
    assert set(json.loads(path.read_text().split(" ", 1)[1])) == {
        "kind", "site", "day", "decision", "notice_hash", "event_id",
    }  # fmt: skip


def test_an_event_answered_during_an_outage_is_kept_even_if_its_nonce_was_spent_elsewhere(
    evidence: Evidence, tmp_path: Path
) -> None:
    """Two processes can't know of each other while the database is away; both visitors had their answer."""
    first = make_event()
    evidence.record_sync(first, NOTICE)
    second = make_event(nonce=first.nonce)
    journal_of_a_dead_process(tmp_path / "journal", [Entry(second, NOTICE), Entry(first, NOTICE)])

    evidence.replay()

    assert stored(evidence) == [first.event_id, second.event_id]
    assert evidence.history(second.record_id) == [replace(second, nonce=None)]
    assert evidence.verify().ok


def test_a_database_that_is_away_at_the_start_is_found_later(database_url: str, tmp_path: Path) -> None:
    prepared = Store(database_url)
    prepared.upgrade()
    prepared.close()

    with outage(database_url):
        store = Store(database_url)
        evidence = Evidence(store, journal=tmp_path / "journal", patience=1.0, retry=0.1)
        evidence.start()
        assert evidence.record_sync(make_event(), NOTICE) is Durability.JOURNAL

    wait_until(lambda: not evidence.journal_waiting)
    assert len(stored(evidence)) == 1
    evidence.close()
    store.close()
