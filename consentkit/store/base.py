"""What our tables have in common. A room declares its own on `Table`; the host's metadata sees none of them."""

from __future__ import annotations

import os
import weakref
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, cast

from sqlalchemy import DateTime, MetaData, String
from sqlalchemy import Table as SATable
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import Connection
from sqlalchemy.orm import registry
from sqlalchemy.types import TypeDecorator, TypeEngine
from sqlmodel import SQLModel

if TYPE_CHECKING:
    from sqlalchemy.engine import Dialect

SCHEMA = "consentkit"
"""Where our tables stand on PostgreSQL, apart from the host's. On SQLite they have a file of their own."""

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)


class Table(SQLModel, registry=registry(metadata=metadata)):
    """The base of our tables, on `metadata` of our own."""


def after_fork(owner: object, method: str) -> None:
    """Call a method of `owner` in every forked child, for as long as it lives: locks and connections stay behind."""
    known = weakref.ref(owner)

    def call() -> None:
        found = known()
        if found is not None:
            getattr(found, method)()

    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=call)


def table_of(model: type[Table]) -> SATable:
    """The SQLAlchemy table behind a model, for statements that skip the ORM."""
    return cast("SATable", cast("Any", model).__table__)


def insert_new(connection: Connection, into: SATable) -> sqlite.Insert | postgresql.Insert:
    """An INSERT that leaves rows alone which are there already."""
    return insert_into(connection, into).on_conflict_do_nothing()


def insert_into(connection: Connection, into: SATable) -> sqlite.Insert | postgresql.Insert:
    """An INSERT of the dialect in use, which knows ON CONFLICT."""
    return postgresql.insert(into) if connection.dialect.name == "postgresql" else sqlite.insert(into)


class UTCDateTime(TypeDecorator[datetime]):
    """An aware moment in UTC, to the microsecond; a naive one is refused rather than guessed at.

    PostgreSQL has a type for it. SQLite has none: there it is text that sorts by time, `2026-11-22T09:30:00.000000Z`.
    """

    impl = DateTime(timezone=True)
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        return dialect.type_descriptor(String() if dialect.name == "sqlite" else DateTime(timezone=True))

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> Any:
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError(f"{value!r} has no time zone: give an aware datetime")
        moment = value.astimezone(UTC)
        return moment.isoformat(timespec="microseconds")[:-6] + "Z" if dialect.name == "sqlite" else moment

    def process_result_value(self, value: Any, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        moment = datetime.fromisoformat(value) if dialect.name == "sqlite" else value
        return cast("datetime", moment).astimezone(UTC)
