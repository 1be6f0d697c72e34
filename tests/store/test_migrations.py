"""The schema changes: complete, reversible, and blind to everybody else's tables."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import inspect
from sqlalchemy.engine import Connection
from sqlalchemy.exc import SQLAlchemyError

from consentkit import audit, evidence, newsletter, staff
from consentkit.errors import ForeignTables, SchemaOutdated
from consentkit.evidence.tables import counts, events, heads, notices
from consentkit.mailing import tables as mailing_tables
from consentkit.store import SCHEMA, Store, metadata, migrations

REVISIONS = ["v0_1_0_01_evidence", "v0_2_0_01_newsletter", "v0_3_0_01_mailing", "v0_3_0_02_audit", "v0_4_0_01_console"]
JANUARY = datetime(2026, 1, 31, 9, 30, tzinfo=UTC)


@pytest.fixture
def store(database_url: str) -> Iterator[Store]:
    assert evidence.Evidence is not None  # their tables are declared
    assert newsletter.Newsletter is not None
    assert audit.Audit is not None
    assert mailing_tables.mailings is not None
    assert staff.StaffLog is not None
    store = Store(database_url)
    yield store
    store.close()


def tables(connection: Connection) -> set[str]:
    return set(inspect(connection).get_table_names())


def test_from_empty_to_newest_gives_exactly_the_models(store: Store) -> None:
    done = store.upgrade()

    assert done == REVISIONS
    options = {"version_table": migrations.VERSION_TABLE, "compare_type": True}
    with store.engine.connect() as connection:
        context = MigrationContext.configure(connection, opts=options)
        assert compare_metadata(context, metadata) == []


def test_from_newest_to_empty_leaves_only_the_version_table(store: Store) -> None:
    store.upgrade()

    with store.begin() as connection:
        migrations.downgrade(connection)

    with store.engine.connect() as connection:
        assert tables(connection) == {migrations.VERSION_TABLE}
    assert store.upgrade() == REVISIONS


def test_the_evidence_of_release_0_1_is_all_there_after_an_upgrade(store: Store) -> None:
    rows = {
        notices: {"hash": "n", "body": '{"nl": "Mogen wij meten?"}'},
        events: {
            **dict.fromkeys(("state", "purposes", "language", "ui_build", "method", "policy", "controller"), "x"),
            **{"site": "school", "seq": 1, "event_id": "e", "record_id": "r", "notice_hash": "n", "hash": "h"},
            **{"at": JANUARY, "valid_until": None, "nonce": None},
        },
        heads: {"site": "school", "seq": 1, "hash": "h", "base_seq": 0, "base_hash": ""},
        counts: {"site": "school", "day": JANUARY.date(), "decision": "refuse", "notice_hash": "n", "total": 3},
    }
    with store.engine.begin() as connection:
        if not store.sqlite:
            connection.exec_driver_sql(f"CREATE SCHEMA {SCHEMA}")
        command.upgrade(migrations._config(connection), REVISIONS[0])
        for table, row in rows.items():
            connection.execute(table.insert().values(row))

    assert store.upgrade() == REVISIONS[1:]

    with store.engine.connect() as connection:
        for table, row in rows.items():
            assert [dict(found) for found in connection.execute(table.select()).mappings()] == [row]


def test_another_applications_tables_are_left_alone(store: Store) -> None:
    with store.engine.begin() as connection:
        connection.exec_driver_sql("CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL)")
        connection.exec_driver_sql("INSERT INTO alembic_version VALUES ('theirs')")
        connection.exec_driver_sql("CREATE TABLE article (text VARCHAR(10))")
        connection.exec_driver_sql("INSERT INTO article VALUES ('hello')")

    store.upgrade()
    with store.begin() as connection:
        migrations.downgrade(connection)

    with store.engine.connect() as connection:
        assert connection.exec_driver_sql("SELECT * FROM alembic_version").scalar() == "theirs"
        assert connection.exec_driver_sql("SELECT * FROM article").scalar() == "hello"
        assert tables(connection) == {"alembic_version", "article", migrations.VERSION_TABLE}


@pytest.mark.postgres
def test_on_postgresql_the_hosts_tables_of_the_same_names_stay_the_hosts(postgres_url: str) -> None:
    store = Store(postgres_url)
    with store.engine.begin() as connection:
        connection.exec_driver_sql("CREATE TABLE public.notice (text VARCHAR(10))")
        connection.exec_driver_sql("INSERT INTO public.notice VALUES ('hello')")

    store.upgrade()

    with store.engine.connect() as connection:
        assert set(metadata.tables) <= set(inspect(connection).get_table_names(schema=SCHEMA))
        assert connection.exec_driver_sql("SELECT * FROM public.notice").scalar() == "hello"
        assert connection.execute(notices.select()).all() == []
    store.close()


def test_a_sqlite_file_of_another_application_is_refused_and_left_as_it_was(tmp_path: Path) -> None:
    store = Store(f"sqlite:///{tmp_path}/x.db")
    with store.engine.begin() as connection:
        connection.exec_driver_sql("CREATE TABLE notice (text VARCHAR(10))")

    with pytest.raises(ForeignTables, match="a file of its own"):
        store.upgrade()

    with store.engine.connect() as connection:
        assert tables(connection) == {"notice"}
    assert not store.healthy()
    store.close()


def test_upgrading_twice_changes_nothing(store: Store) -> None:
    store.upgrade()

    assert store.upgrade() == []


def test_an_upgrade_that_fails_leaves_the_database_as_it_was(store: Store) -> None:
    with store.engine.begin() as connection:  # in the way of the last table that the change makes
        if not store.sqlite:
            connection.exec_driver_sql(f"CREATE SCHEMA {SCHEMA}")
        connection.exec_driver_sql("CREATE TABLE retention (x INTEGER)")

    with pytest.raises((SQLAlchemyError, ForeignTables)):
        store.upgrade()

    with store.engine.connect() as connection:
        assert tables(connection) <= {"retention", migrations.VERSION_TABLE}


def test_a_sqlite_file_is_made_and_upgraded_by_its_first_use(tmp_path) -> None:
    store = Store(f"sqlite:///{tmp_path}/x.db")
    assert store.pending() == REVISIONS

    with store.read() as connection:
        assert connection.execute(notices.select()).all() == []

    assert store.pending() == []
    store.close()


@pytest.mark.postgres
def test_postgresql_with_an_old_schema_says_what_to_run(postgres_url: str) -> None:
    store = Store(postgres_url)

    with pytest.raises(SchemaOutdated, match="run `consentkit db upgrade`"), store.begin():
        pytest.fail("an old schema may not be written to")

    assert not store.healthy()
    store.upgrade()
    assert store.healthy()
    store.close()


def test_a_database_of_a_newer_release_is_not_touched(store: Store) -> None:
    store.upgrade()
    with store.engine.begin() as connection:
        connection.exec_driver_sql("UPDATE consentkit_version SET version_num = 'v9_0_0_01_future'")
    late = Store(store.engine.url.render_as_string(hide_password=False))

    with pytest.raises(SchemaOutdated, match="newer release"):
        late.check()
    late.close()
