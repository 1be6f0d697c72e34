"""The store's own tests begin before there is a schema."""

from __future__ import annotations

import pytest

from consentkit.store import migrations


@pytest.fixture
def database_url(empty_database_url: str) -> str:
    """A fresh, empty database, once on a SQLite file and once on PostgreSQL."""
    return empty_database_url


@pytest.fixture(autouse=True)
def _migrating(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is tested here is how a schema is made."""
    monkeypatch.setattr(migrations, "upgrade", migrations.upgrade.__wrapped__)  # type: ignore[attr-defined]
