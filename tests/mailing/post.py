"""A school that sent a mailing, as its rows stand in the database, with readers who open and click."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import select

from consentkit.mailing.tables import deliveries, events, links, mailings, totals
from consentkit.newsletter.tables import subscribers
from tests.newsletter.desk import JAN, Desk

PHONE = "Mozilla/5.0 (iPhone; CPU iPhone OS 18_1 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Mobile/15E148"
URLS = ("https://delinde.example/lees?een=1&twee=a%20b;c", "https://elders.example/pad#hier")
NONCE = 2**32 - 1
TOTAL = (totals.c.kind, totals.c.link, totals.c.day, totals.c["count"], totals.c.people)


@dataclass
class Post:
    """A school that sent a mailing, as its rows stand in the database."""

    desk: Desk
    mailing: int

    @property
    def measuring(self) -> Any:
        return self.desk.kit.measuring

    def send(self, address: str = JAN, *, measured: bool = True, mailing: int | None = None) -> int:
        """The mailing to somebody, an hour ago by the time of the next step."""
        with self.desk.kit.store.begin() as connection:
            reader = connection.execute(select(subscribers.c.id).where(subscribers.c.address == address)).scalar_one()
            row = {
                "mailing_id": mailing or self.mailing, "subscriber_id": reader, "state": "sent", "reason": "",
                "tries": 1, "measured": measured, "at": self.desk.clock(),
            }  # fmt: skip
            made = connection.execute(deliveries.insert().returning(deliveries.c.id), row).scalar_one()
        self.desk.clock.later(hours=1)
        return int(made)

    def new(self, **values: Any) -> int:
        """A mailing."""
        with self.desk.kit.store.begin() as connection:
            return add_mailing(connection, self.desk.clock(), **values)

    def open(self, delivery: int, agent: str = PHONE, method: str = "GET", **headers: str) -> Any:
        path = f"/privacy/o/{self.measuring.open_token(NONCE, delivery)}"
        return self.desk.browser.request(method, path, headers={"User-Agent": agent, **headers})

    def click(self, delivery: int, link: int = 0, agent: str = PHONE, method: str = "GET") -> Any:
        path = f"/privacy/l/{self.measuring.click_token(self.mailing, NONCE, link, delivery)}"
        return self.desk.browser.request(method, path, headers={"User-Agent": agent}, follow_redirects=False)

    def quiet(self, delivery: int, list: str = "nieuwsbrief") -> str:
        return f"/privacy/meten/{self.measuring.quiet_token(NONCE, delivery, list)}"

    def rows(self, *columns: Any) -> list[Any]:
        self.measuring.flush()
        with self.desk.kit.store.read() as connection:
            return [tuple(row) for row in connection.execute(select(*columns).order_by(*columns))]

    def events(self) -> list[Any]:
        """Delivery, kind, link and whether it was a program."""
        return self.rows(events.c.delivery_id, events.c.kind, events.c.link, events.c.machine)


def add_mailing(connection: Any, now: datetime, **values: Any) -> int:
    """A mailing of two links."""
    row = {
        "site": "Basisschool De Linde", "list": "nieuwsbrief", "purpose": "marketing", "language": "nl",
        "subject": "Nieuws", "preheader": "", "sender": "De Linde <nieuws@delinde.example>", "reply_to": "",
        "content": "{}", "measured": True, "state": "done", "note": "", "created_at": now, "frozen_at": now,
        "ended_at": now, "failed_in_row": 0, "nonce": NONCE, **values,
    }  # fmt: skip
    made = int(connection.execute(mailings.insert().returning(mailings.c.id), row).scalar_one())
    connection.execute(links.insert(), [{"mailing_id": made, "number": n, "url": url} for n, url in enumerate(URLS)])
    return made


def posted(desk: Desk, **values: Any) -> Post:
    """A post with its first mailing."""
    with desk.kit.store.begin() as connection:
        return Post(desk, add_mailing(connection, desk.clock(), **values))
