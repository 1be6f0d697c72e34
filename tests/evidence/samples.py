"""Events that are right, and what it takes to put a database out of reach."""

from __future__ import annotations

import secrets
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
from sqlalchemy.engine import make_url

from consentkit.evidence import ConsentEvent, Notice

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


def nonce() -> str:
    """A notice token's random."""
    return secrets.token_hex(16)


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
        "nonce": nonce(),
    }
    return ConsentEvent(**(fields | changes))


def withdrawal(of: ConsentEvent, **changes: Any) -> ConsentEvent:
    """The event that ends `of`, a day later."""
    ended = {"record_id": of.record_id, "state": "withdrawn", "purposes": dict.fromkeys(of.purposes, False)}
    return make_event(**(ended | {"at": of.at + timedelta(days=1), "method": "settings.withdraw"} | changes))


@contextmanager
def outage(url: str) -> Iterator[None]:
    """The database is out of reach for writing: SQLite locked by somebody else, PostgreSQL closed to connections."""
    address = make_url(url)
    if address.get_backend_name() == "sqlite":
        with closing(sqlite3.connect(address.database or "", isolation_level=None)) as blocker:
            blocker.execute("BEGIN IMMEDIATE")
            yield
        return
    server = address.set(database="postgres").render_as_string(hide_password=False)
    with psycopg.connect(server, autocommit=True) as admin:
        admin.execute(f"ALTER DATABASE {address.database} WITH ALLOW_CONNECTIONS false")
        admin.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", [address.database])
        yield
        admin.execute(f"ALTER DATABASE {address.database} WITH ALLOW_CONNECTIONS true")
