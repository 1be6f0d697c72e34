"""The store: which databases, which guarantees, and what happens when there is none."""

from __future__ import annotations

import subprocess
import sys
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest
from sqlalchemy import text
from sqlalchemy.exc import OperationalError, StatementError
from sqlmodel import SQLModel

from consentkit import evidence
from consentkit.errors import SettingsError
from consentkit.evidence.tables import journals
from consentkit.store import Store, metadata


@pytest.mark.parametrize("scheme", ["postgres", "postgresql", "postgresql+psycopg"])
def test_every_usual_spelling_of_a_postgresql_address_means_psycopg_3(scheme: str) -> None:
    store = Store(f"{scheme}://linde:geheim@db.test/school")

    assert store.engine.url.drivername == "postgresql+psycopg"


@pytest.mark.parametrize(
    "url", ["", "consentkit.db", "mysql://host/db", "sqlite://", "sqlite:///:memory:", "sqlite:///file:x?mode=memory"]
)
def test_an_address_that_can_hold_no_evidence_is_refused_with_a_remedy(url: str) -> None:
    with pytest.raises(SettingsError, match=r"write sqlite:///consentkit\.db or postgresql"):
        Store(url)


def test_the_password_is_not_in_the_address_that_is_shown() -> None:
    assert "geheim" not in Store("postgresql://linde:geheim@db.test/school").url


def test_a_database_that_is_away_stops_no_start_and_is_only_unhealthy(tmp_path: Path) -> None:
    for url in ("postgresql://127.0.0.1:9/none", f"sqlite:///{tmp_path}/no/such/folder/x.db"):
        store = Store(url)

        assert not store.healthy()
        with pytest.raises(OperationalError), store.begin():
            pytest.fail("there is nothing to begin on")


def test_a_database_with_its_schema_is_healthy(database_url: str) -> None:
    store = Store(database_url)

    store.upgrade()

    assert store.healthy()
    assert store.pending() == []
    store.close()


def test_the_hosts_metadata_sees_none_of_our_tables() -> None:
    assert evidence.Evidence is not None
    assert metadata.tables
    assert not metadata.tables.keys() & SQLModel.metadata.tables.keys()


def test_a_sqlite_commit_is_synced_and_readers_do_not_wait_for_the_writer(tmp_path: Path) -> None:
    store = Store(f"sqlite:///{tmp_path}/x.db")

    with store.begin() as writing, store.read() as reading:
        assert reading.exec_driver_sql("PRAGMA journal_mode").scalar() == "wal"
        assert reading.exec_driver_sql("PRAGMA synchronous").scalar() == 2
        assert reading.exec_driver_sql("PRAGMA foreign_keys").scalar() == 1
        writing.execute(journals.insert().values(name="x", lines=1, at=datetime.now(UTC)))
        assert reading.execute(journals.select()).all() == []
    store.close()


def test_a_read_sees_one_moment_however_much_is_written_meanwhile(database_url: str) -> None:
    store = Store(database_url)
    store.upgrade()

    with store.read() as reading:
        before = reading.execute(journals.select()).all()
        with store.begin() as writing:
            writing.execute(journals.insert().values(name="x", lines=1, at=datetime.now(UTC)))
        after = reading.execute(journals.select()).all()

    assert before == after == []
    store.close()


def test_a_failed_transaction_leaves_nothing(database_url: str) -> None:
    store = Store(database_url)
    store.upgrade()

    def fail() -> None:
        with store.begin() as connection:
            connection.execute(journals.insert().values(name="x", lines=1, at=datetime.now(UTC)))
            raise RuntimeError("in the middle of it")

    with pytest.raises(RuntimeError, match="in the middle"):
        fail()

    with store.read() as connection:
        assert connection.execute(journals.select()).all() == []
    store.close()


def test_times_come_back_aware_and_in_utc_and_naive_ones_are_refused(database_url: str) -> None:
    store = Store(database_url)
    store.upgrade()
    amsterdam = datetime(2026, 7, 1, 14, 30, 0, 123456, tzinfo=timezone(timedelta(hours=2)))

    with store.begin() as connection:
        connection.execute(journals.insert().values(name="x", lines=1, at=amsterdam))
    with pytest.raises(StatementError, match="has no time zone"), store.begin() as connection:
        connection.execute(journals.insert().values(name="y", lines=1, at=amsterdam.replace(tzinfo=None)))

    with store.read() as connection:
        (moment,) = connection.execute(journals.select().with_only_columns(journals.c.at)).scalars()
    assert moment == amsterdam
    assert moment.tzinfo is UTC
    store.close()


def test_several_processes_may_make_the_same_sqlite_file_at_once(tmp_path: Path) -> None:
    code = (
        f"from consentkit.store import Store; store = Store('sqlite:///{tmp_path}/x.db'); store.check(); store.close()"
    )

    children = [subprocess.Popen([sys.executable, "-c", code]) for _ in range(4)]

    assert [child.wait(timeout=60) for child in children] == [0, 0, 0, 0]


@pytest.mark.postgres
def test_a_postgresql_lock_is_waited_for_no_longer_than_asked(postgres_url: str) -> None:
    store = Store(postgres_url)
    store.upgrade()

    with store.begin() as holder:
        holder.execute(text("LOCK TABLE journal"))
        with pytest.raises(OperationalError, match="timeout"), store.begin(patience=0.2) as connection:
            connection.execute(journals.select())
    store.close()
