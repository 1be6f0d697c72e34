"""Alembic's entry: runs the changes over the connection in the configuration's attributes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from alembic import context

from consentkit.store.base import metadata
from consentkit.store.migrations import VERSION_TABLE

if TYPE_CHECKING:
    from sqlalchemy.schema import SchemaItem


def _ours(
    _item: SchemaItem,
    name: str | None,
    kind: Literal[
        "schema", "table", "column", "index", "unique_constraint", "foreign_key_constraint", "check_constraint"
    ],
    _reflected: bool,
    _compared: SchemaItem | None,
) -> bool:
    return kind != "table" or name in metadata.tables


context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    version_table=VERSION_TABLE,
    include_object=_ours,
    render_as_batch=True,
)
with context.begin_transaction():
    context.run_migrations()
