"""The school as it sends: its settings, a mailing, and sending it in this process."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from consentkit import ConsentKit, Settings
from consentkit.mailing import Draft, Status
from tests.mailing import hall
from tests.newsletter import desk as desks

HTML = "<p>Dag {{ name }},</p><p>Op <a href='https://delinde.example/agenda'>woensdag</a> is het feest.</p>"
MAIL = {
    "sender": "De Linde <nieuws@delinde.example>",
    "unsubscribe": "afmelden@delinde.example",
    "bounces": "bounces@delinde.example",
}


def sending(folder: Path, smtp: str, database: str = "", **mailing: Any) -> Settings:
    """Settings of a school that sends through `smtp`."""
    tables: dict[str, Any] = {"mail": {**MAIL, "smtp": smtp}, "mailing": {"connections": 3, **mailing}}
    if database:
        tables["database"] = {"url": database}
    return desks.settings(folder, **tables)


@contextmanager
def school(folder: Path, smtp: str, *, readers: int = 5, database: str = "", **mailing: Any) -> Iterator[ConsentKit]:
    """A kit that sends through `smtp`, and a list with readers."""
    kit = ConsentKit(sending(folder, smtp, database, **mailing))
    kit.store.upgrade()
    hall.seats(kit, [(number + 1, {"name": f"Lezer {number + 1}"}, {}) for number in range(readers)])
    try:
        yield kit
    finally:
        kit.close()


def draft(**changes: Any) -> Draft:
    """A mailing about a party, to everybody on the list."""
    given = {"list": "nieuwsbrief", "subject": "Feest op woensdag", "html": HTML, "fields": ("name",)}
    return Draft.of(**(given | changes))


def send(kit: ConsentKit, *, wait: bool = False, **changes: Any) -> Status:
    """Make a mailing and send it until nothing can be done now."""
    id = kit.mailings.new(draft(**changes))
    kit.mailings.send(id, dns=False)
    asyncio.run(kit.engine.work(id, wait=wait))
    return kit.mailings.status(id)
