"""The store: the engine, transactions, the base of all tables, and the migrations. It owns no table."""

from __future__ import annotations

from consentkit.store.base import SCHEMA, Table, UTCDateTime, after_fork, insert_into, insert_new, metadata, table_of
from consentkit.store.store import Store

__all__ = ["SCHEMA", "Store", "Table", "UTCDateTime", "after_fork", "insert_into", "insert_new", "metadata", "table_of"]
