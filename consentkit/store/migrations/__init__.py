"""The schema changes, shipped with the package and run over a connection that is handed in.

They keep a version table of their own and look only at our tables. On PostgreSQL these have a schema of their own,
so they can live in the host's database beside its own tables and migrations.
"""

from __future__ import annotations

import logging
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.script.revision import RevisionError
from alembic.util.exc import CommandError
from sqlalchemy import inspect
from sqlalchemy.engine import Connection
from sqlalchemy.exc import ProgrammingError

from consentkit.errors import ForeignTables, SchemaOutdated
from consentkit.store.base import SCHEMA, metadata

log = logging.getLogger("consentkit")

VERSION_TABLE = "consentkit_version"
_ADVISORY_LOCK = 0x636F6E73  # "cons": two upgrades of one PostgreSQL database wait for each other


def pending(connection: Connection) -> list[str]:
    """The changes that the database lacks, oldest first.

    Raises:
        SchemaOutdated: the database was upgraded by a newer release.
    """
    script = ScriptDirectory.from_config(_config())
    current = _current(connection)
    try:
        missing = [revision.revision for revision in script.iterate_revisions("head", current or "base")]
    except (CommandError, RevisionError) as error:
        raise SchemaOutdated(
            f"the database has schema {current}, which is of a newer release: install that release again"
        ) from error
    return missing[::-1]


def upgrade(connection: Connection) -> list[str]:
    """Make every change that is missing, within the caller's transaction; returns them, oldest first."""
    if connection.dialect.name == "postgresql":
        connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_ADVISORY_LOCK})")
        _make_schema(connection)
    missing = pending(connection)
    if missing:
        _check_free(connection)
        command.upgrade(_config(connection), "head")
    return missing


def _make_schema(connection: Connection) -> None:
    """A role that may not create schemas keeps the tables where its search path leads instead."""
    try:
        with connection.begin_nested():
            connection.exec_driver_sql(f"CREATE SCHEMA IF NOT EXISTS {SCHEMA}")
    except ProgrammingError:
        log.warning("the schema %s could not be made: the tables go where this role's search path leads", SCHEMA)


def _check_free(connection: Connection) -> None:
    """On SQLite two applications in one file may want the same names: say so before anything is made."""
    if connection.dialect.name == "postgresql" or _current(connection) is not None:
        return
    if taken := sorted(metadata.tables.keys() & set(inspect(connection).get_table_names())):
        raise ForeignTables(
            f"the database has a table {taken[0]} of another application: give consentkit a file of its own, "
            "such as sqlite:///consentkit.db"
        )


def downgrade(connection: Connection, revision: str = "base") -> None:
    """Undo the changes after `revision`, with what they held. For developers: the evidence goes with its tables."""
    command.downgrade(_config(connection), revision)


def _current(connection: Connection) -> str | None:
    context = MigrationContext.configure(connection, opts={"version_table": VERSION_TABLE})
    return context.get_current_revision()


def _config(connection: Connection | None = None) -> Config:
    config = Config(attributes={"connection": connection})
    config.set_main_option("script_location", str(Path(__file__).parent).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    return config
