"""A store with its schema, and an evidence log on it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from consentkit.evidence import Evidence
from consentkit.store import Store


@pytest.fixture
def store(database_url: str) -> Iterator[Store]:
    """The database with this release's schema."""
    store = Store(database_url)
    store.upgrade()
    yield store
    store.close()


@pytest.fixture
def evidence(store: Store, tmp_path: Path) -> Iterator[Evidence]:
    """The log on that database, its journal in a folder of its own."""
    evidence = Evidence(store, journal=tmp_path / "journal", patience=20.0, retry=0.1)
    yield evidence
    evidence.close()
