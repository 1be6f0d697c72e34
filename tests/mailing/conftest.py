"""The school's desk for mailings: on SQLite, and with `both` on PostgreSQL too."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.newsletter import desk as desks
from tests.newsletter.desk import Desk


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    with desks.desk(tmp_path) as made:
        yield made


@pytest.fixture
def both(database_url: str, tmp_path: Path) -> Iterator[Desk]:
    with desks.desk(tmp_path, database={"url": database_url}) as made:
        yield made
