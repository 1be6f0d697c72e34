"""The store's own tests begin before there is a schema."""

from __future__ import annotations

import pytest


@pytest.fixture
def database_url(empty_database_url: str) -> str:
    """A fresh, empty database, once on a SQLite file and once on PostgreSQL."""
    return empty_database_url
