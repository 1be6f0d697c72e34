"""Recording: durable, once per notice, from any thread, loop and process, and nothing of the visitor."""

from __future__ import annotations

import asyncio
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import create_engine, select

from consentkit.errors import EvidenceUnavailable, NoticeSpent
from consentkit.evidence import ConsentEvent, Count, Durability, Evidence, Notice
from consentkit.evidence.tables import events
from consentkit.store import Store, metadata
from tests.evidence.child import start
from tests.evidence.samples import NOTICE, NOW, make_event, nonce, withdrawal

ROOT = Path(__file__).resolve().parents[2]
ENGLISH = Notice.build({"language": "en", "version": "1", "texts": ["May we count visits?"]})


def stored(evidence: Evidence) -> list[str]:
    return [line["event_id"] for line in evidence.export()]


def total(evidence: Evidence) -> int:
    return sum(count.total for count in evidence.counts())


@pytest.mark.checklist("EVI-01")
def test_what_was_recorded_comes_back_as_it_was(evidence: Evidence) -> None:
    event = make_event(at=datetime(2026, 3, 1, 12, 0, 0, 123456, tzinfo=UTC), purposes={"b": False, "a": True})

    durability = evidence.record_sync(event, NOTICE)

    assert durability is Durability.DATABASE
    assert evidence.history(event.record_id) == [event]
    assert evidence.history("00" * 16) == []


@pytest.mark.checklist("EVI-02")
def test_a_notice_is_kept_once_and_can_be_shown_again_byte_for_byte(evidence: Evidence) -> None:
    for _ in range(3):
        evidence.record_sync(make_event(), NOTICE)
    evidence.record_sync(make_event(notice_hash=ENGLISH.hash, language="en"), ENGLISH)

    assert evidence.verify().notices == 2
    assert evidence.notice(NOTICE.hash) == NOTICE
    assert evidence.notice(ENGLISH.hash) == ENGLISH
    assert evidence.notice("00" * 32) is None


@pytest.mark.checklist("EVI-02")
def test_a_notice_is_the_same_after_upgrades_and_a_restored_copy(evidence: Evidence, store: Store) -> None:
    evidence.record_sync(make_event(), NOTICE)
    evidence.close()
    with restored_copy(store) as copy:
        for _ in range(3):
            copy.upgrade()

        again = Evidence(copy, journal=Path("unused")).notice(NOTICE.hash)

    assert again == NOTICE
    assert again.body == NOTICE.body


@contextmanager
def restored_copy(store: Store) -> Iterator[Store]:
    """Another database with what was in this one."""
    store.close()
    here = store.engine.url
    name = f"{here.database}_restored"
    address = here.set(database="postgres") if not store.sqlite else here
    engine = create_engine(address, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        if store.sqlite:
            connection.exec_driver_sql(f"VACUUM INTO '{name}'")
        else:
            connection.exec_driver_sql(f"CREATE DATABASE {name} TEMPLATE {here.database}")
        copy = Store(here.set(database=name).render_as_string(hide_password=False))
        yield copy
        copy.close()
        if not store.sqlite:
            connection.exec_driver_sql(f"DROP DATABASE {name}")
    engine.dispose()


@pytest.mark.checklist("EVI-08")
def test_one_notice_gives_one_record(evidence: Evidence, store: Store, tmp_path: Path) -> None:
    event = make_event()
    evidence.record_sync(event, NOTICE)
    elsewhere = Evidence(store, journal=tmp_path / "elsewhere")  # as another process would see it

    for log in (evidence, elsewhere):
        with pytest.raises(NoticeSpent):
            log.record_sync(make_event(nonce=event.nonce), NOTICE)
        with pytest.raises(NoticeSpent):
            asyncio.run(log.count("delinde", NOW, "banner.refuse", NOTICE.hash, event.nonce))

    assert stored(evidence) == [event.event_id]
    assert evidence.counts() == []
    elsewhere.close()


@pytest.mark.checklist("EVI-08")
def test_a_refused_notice_can_not_be_accepted_afterwards(evidence: Evidence) -> None:
    spent = nonce()
    asyncio.run(evidence.count("delinde", NOW, "banner.refuse", NOTICE.hash, spent))

    with pytest.raises(NoticeSpent):
        evidence.record_sync(make_event(nonce=spent), NOTICE)
    with pytest.raises(NoticeSpent):
        asyncio.run(evidence.count("delinde", NOW, "banner.refuse", NOTICE.hash, spent))

    assert total(evidence) == 1


@pytest.mark.checklist("EVI-08")
def test_of_many_answers_to_one_notice_at_once_exactly_one_counts(evidence: Evidence) -> None:
    spent = nonce()

    async def answer() -> list[Durability | BaseException]:
        answers = (evidence.record(make_event(nonce=spent), NOTICE) for _ in range(50))
        return await asyncio.gather(*answers, return_exceptions=True)

    results = asyncio.run(answer())

    assert results.count(Durability.DATABASE) == 1
    assert sum(isinstance(result, NoticeSpent) for result in results) == 49
    assert len(stored(evidence)) == 1


@pytest.mark.checklist("EVI-08")
def test_showing_a_notice_is_stored_as_requested_and_never_as_consent(evidence: Evidence) -> None:
    record = "cd" * 16

    shown = evidence.notice_shown(
        NOTICE,
        site="delinde",
        record_id=record,
        at=NOW,
        purposes=["analytics"],
        ui_build="b1",
        policy="0f" * 32,
        controller="Stichting De Linde",
        method="notice.login",
    )
    asyncio.run(shown)

    (event,) = evidence.history(record)
    assert (event.state, event.method, dict(event.purposes)) == ("requested", "notice.login", {"analytics": False})


def test_the_notice_must_be_the_one_that_the_event_names(evidence: Evidence) -> None:
    with pytest.raises(ValueError, match="not the one"):
        evidence.record_sync(make_event(), ENGLISH)
    with pytest.raises(ValueError, match="not the one"):
        asyncio.run(evidence.count("delinde", NOW, "banner.refuse", NOTICE.hash, nonce(), notice=ENGLISH))
    with pytest.raises(ValueError, match="time zone"):
        asyncio.run(evidence.count("delinde", NOW.replace(tzinfo=None), "banner.refuse", NOTICE.hash, nonce()))


@pytest.mark.checklist("EVI-04")
def test_refusals_are_daily_counters_by_the_day_in_utc(evidence: Evidence) -> None:
    async def refuse() -> None:
        for hours in (0, 1, 13):
            for site in ("delinde", "eik"):
                at = (NOW + timedelta(hours=hours)).astimezone()
                await evidence.count(site, at, "banner.refuse", NOTICE.hash, nonce(), notice=NOTICE)

    asyncio.run(refuse())

    first, second = date(2026, 3, 1), date(2026, 3, 2)
    assert evidence.counts("delinde") == [
        Count("delinde", first, "banner.refuse", NOTICE.hash, 2),
        Count("delinde", second, "banner.refuse", NOTICE.hash, 1),
    ]
    assert total(evidence) == 6
    assert evidence.notice(NOTICE.hash) == NOTICE
    assert stored(evidence) == []


PERSONAL = re.compile(
    r"\b(?:\d{1,3}\.){3}\d{1,3}\b"  # IPv4
    r"|(?:[0-9a-f]{1,4}:){3,}"  # IPv6
    r"|Mozilla|AppleWebKit|Gecko|Chrome/|https?://",
    re.IGNORECASE,
)


@pytest.mark.checklist("EVI-04")
def test_after_a_thousand_mixed_visits_no_address_no_user_agent_and_no_page_is_in_the_database(
    evidence: Evidence, store: Store
) -> None:
    async def visit(number: int) -> None:
        if number % 3 == 0:
            event = make_event(at=NOW + timedelta(seconds=number))
            await evidence.record(event, NOTICE)
            await evidence.record(withdrawal(event), NOTICE)
        else:
            await evidence.count("delinde", NOW, "banner.refuse", NOTICE.hash, nonce())

    async def visits() -> None:
        await asyncio.gather(*(visit(number) for number in range(1000)))

    asyncio.run(visits())

    dump = []
    with store.read() as connection:
        for table in metadata.sorted_tables:
            dump += [repr(tuple(row)) for row in connection.execute(select(table))]
    assert len(dump) == 2 * 334 + 3  # the events, one notice, one head, one counter
    assert [line for line in dump if PERSONAL.search(line)] == []
    assert total(evidence) == 666


def test_one_log_serves_several_event_loops_and_plain_threads_at_once(evidence: Evidence) -> None:
    done: list[str] = []

    async def some() -> None:
        events = [make_event() for _ in range(100)]
        await asyncio.gather(*(evidence.record(event, NOTICE) for event in events))
        done.extend(event.event_id for event in events)

    def plain() -> None:
        for _ in range(20):
            event = make_event()
            evidence.record_sync(event, NOTICE)
            done.append(event.event_id)

    threads = [threading.Thread(target=lambda: asyncio.run(some())) for _ in range(3)]
    threads += [threading.Thread(target=plain) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sorted(stored(evidence)) == sorted(done)
    assert len(done) == 340
    assert evidence.verify().ok


def test_thousands_in_a_row_one_at_a_time_never_wait_for_a_wake_up(evidence: Evidence) -> None:
    """A writer that looks, sees nothing, and falls asleep just as an event comes in would time out here."""

    async def one_by_one() -> None:
        for _ in range(1000):
            assert await evidence.record(make_event(), NOTICE) is Durability.DATABASE

    asyncio.run(asyncio.wait_for(one_by_one(), 60))

    assert len(stored(evidence)) == 1000
    assert not evidence.journal_waiting


def test_a_caller_who_leaves_harms_nobody_else(evidence: Evidence) -> None:
    async def leave() -> list[Durability]:
        leaving = [asyncio.ensure_future(evidence.record(make_event(), NOTICE)) for _ in range(20)]
        staying = [asyncio.ensure_future(evidence.record(make_event(), NOTICE)) for _ in range(20)]
        await asyncio.sleep(0)
        for task in leaving:
            task.cancel()
        return await asyncio.gather(*staying)

    assert asyncio.run(leave()) == [Durability.DATABASE] * 20
    assert evidence.verify().ok


def test_a_row_that_the_database_refuses_harms_nobody_else_in_its_batch(evidence: Evidence, store: Store) -> None:
    """Two events with one id can't both be kept; the batch falls back to row by row."""
    twice = make_event()
    good = [make_event() for _ in range(10)]

    async def together() -> list[Durability | BaseException]:
        batch = [*good[:5], twice, replace(make_event(), event_id=good[0].event_id, site="eik"), *good[5:]]
        return await asyncio.gather(*(evidence.record(one, NOTICE) for one in batch), return_exceptions=True)

    results = asyncio.run(together())

    assert results[:6] == [Durability.DATABASE] * 6
    assert isinstance(results[6], EvidenceUnavailable)
    assert results[7:] == [Durability.DATABASE] * 5
    assert set(stored(evidence)) == {event.event_id for event in [*good, twice]}
    assert evidence.verify().ok


def test_several_processes_write_to_one_chain(evidence: Evidence, database_url: str, tmp_path: Path) -> None:
    files = [tmp_path / f"printed-{number}" for number in range(3)]
    children = [start(database_url, tmp_path / "j", file, patience=10, how_many=100) for file in files]
    for child in children:
        child.join(100)
    printed = [line for file in files for line in file.read_text().splitlines()]

    assert len(printed) == 300
    assert sorted(stored(evidence)) == sorted(line.split()[0] for line in printed)
    assert total(evidence) == 300
    report = evidence.verify()
    assert report.ok, str(report)
    assert report.heads["delinde"].startswith("300:")


@pytest.mark.skipif(sys.platform == "win32", reason="there is no fork on Windows")
def test_a_forked_child_writes_with_a_thread_and_connections_of_its_own(
    evidence: Evidence, database_url: str, tmp_path: Path
) -> None:
    """As servers do that load the application once and then fork their workers."""
    code = f"""
import os, sys
from pathlib import Path
from consentkit.evidence import Evidence
from consentkit.store import Store
from tests.evidence.samples import NOTICE, make_event
store = Store({database_url!r})
evidence = Evidence(store, journal=Path({str(tmp_path / "j")!r}), patience=10)
evidence.record_sync(make_event(), NOTICE)
children = []
for _ in range(3):
    child = os.fork()
    if child == 0:
        for _ in range(10):
            assert evidence.record_sync(make_event(), NOTICE) == "database"
        evidence.close()
        os._exit(0)
    children.append(child)
statuses = [os.waitpid(child, 0)[1] for child in children]
evidence.record_sync(make_event(), NOTICE)
evidence.close()
store.close()
sys.exit(max(statuses) != 0)
"""
    child = subprocess.run(
        [sys.executable, "-c", code], check=False, cwd=ROOT, env={"PYTHONPATH": str(ROOT)}, timeout=100
    )

    assert child.returncode == 0
    assert len(stored(evidence)) == 32
    assert evidence.verify().ok


@pytest.mark.skipif(sys.platform == "win32", reason="there is no fork on Windows")
def test_the_first_event_of_a_forked_child_waits_for_what_the_child_writes_by_then(
    evidence: Evidence, database_url: str, tmp_path: Path
) -> None:
    code = f"""
import os, sys, threading
from pathlib import Path
from consentkit.evidence import Evidence
from consentkit.store import Store
from tests.evidence.samples import NOTICE, make_event
store = Store({database_url!r})
evidence = Evidence(store, journal=Path({str(tmp_path / "j")!r}), patience=10)
evidence.record_sync(make_event(), NOTICE)
child = os.fork()
if child == 0:
    answers = []
    first = threading.Thread(target=lambda: answers.append(evidence.record_sync(make_event(), NOTICE)))
    with store.begin() as connection:
        first.start()
        first.join(0.5)
    first.join()
    evidence.close()
    os._exit(answers != ["database"])
status = os.waitpid(child, 0)[1]
evidence.close()
store.close()
sys.exit(status != 0)
"""
    child = subprocess.run(
        [sys.executable, "-c", code], check=False, cwd=ROOT, env={"PYTHONPATH": str(ROOT)}, timeout=100
    )

    assert child.returncode == 0
    assert len(stored(evidence)) == 2


def test_writing_the_same_event_twice_is_harmless(evidence: Evidence, store: Store, tmp_path: Path) -> None:
    """The id of an event is unique in the database, whoever brings it."""
    event = make_event(state="withdrawn", purposes={"a": False}, valid_until=None, nonce=None)
    evidence.record_sync(event, NOTICE)
    other = Evidence(store, journal=tmp_path / "other")

    with pytest.raises(EvidenceUnavailable, match="refuses"):
        other.record_sync(event, NOTICE)

    with store.read() as connection:
        assert len(connection.execute(select(events)).all()) == 1
    other.close()


def test_an_export_can_be_cut_by_time_and_site(evidence: Evidence) -> None:
    series = [make_event(site=site, at=NOW + timedelta(days=day)) for site in ("eik", "delinde") for day in range(3)]
    for event in series:
        evidence.record_sync(event, NOTICE)

    def exported(**limits: object) -> list[ConsentEvent]:
        ids = [line["event_id"] for line in evidence.export(**limits)]  # type: ignore[arg-type]
        return [event for one in ids for event in series if event.event_id == one]

    assert exported() == [*series[3:], *series[:3]]
    assert exported(site="eik") == series[:3]
    assert exported(since=NOW + timedelta(days=1), site="eik") == series[1:3]
    assert exported(since=NOW + timedelta(days=1), until=NOW + timedelta(days=2), site="eik") == [series[1]]
