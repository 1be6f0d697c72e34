"""A store with its schema, an evidence log on it, and events to record."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from consentkit.evidence import ConsentEvent, Evidence, Notice
from consentkit.store import Store

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
NOTICE = Notice.build(
    {
        "site": "delinde",
        "language": "nl",
        "version": "1",
        "texts": ["Mogen wij bezoek tellen?", "Accepteren", "Weigeren"],
        "html": "<section>…</section>",
    }
)

MakeEvent = Callable[..., ConsentEvent]


def make_event(**changes: Any) -> ConsentEvent:
    """A grant that is right; `changes` say otherwise."""
    fields: dict[str, Any] = {
        "site": "delinde",
        "record_id": secrets.token_hex(16),
        "state": "given",
        "at": NOW,
        "purposes": {"analytics": True, "marketing": False},
        "notice_hash": NOTICE.hash,
        "language": "nl",
        "ui_build": "b1",
        "method": "banner.accept",
        "policy": "0f" * 32,
        "valid_until": NOW + timedelta(days=182),
        "controller": "Stichting De Linde",
        "nonce": secrets.token_hex(16),
    }
    return ConsentEvent(**(fields | changes))


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
    evidence = Evidence(store, journal=tmp_path / "journal", retry=0.1)
    yield evidence
    evidence.close()
