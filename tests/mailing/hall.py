"""A hall full of readers: people on a list of the school, made by the row, in any state."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from consentkit import ConsentKit
from consentkit.mailing.states import MailingState
from consentkit.mailing.tables import deliveries, mailings
from consentkit.newsletter.tables import subscriber_digests, subscribers, subscriptions

LIST = "nieuwsbrief"


def seat(kit: ConsentKit, number: int, *, list: str = LIST, fields: Mapping[str, str] | None = None, **row: Any) -> str:
    """Put one person on a list, confirmed unless `row` says otherwise; gives the address."""
    return seats(kit, [(number, dict(fields or {}), row)], list=list)[0]


def seats(
    kit: ConsentKit, people: Sequence[tuple[int, Mapping[str, str], Mapping[str, Any]]], *, list: str = LIST
) -> Sequence[str]:
    """Many at once: number, fields, and what differs in the subscription."""
    now = kit.now()
    key = kit.afgemeld.keys.newest
    addresses = [f"lezer{number}@school{number % 3}.example" for number, _, _ in people]
    persons, digests, rows = [], [], []
    for (number, fields, row), address in zip(people, addresses, strict=True):
        digest = key.digest(address.encode())
        persons.append(
            {
                "id": number, "digest": digest, "key_id": key.id, "address": address, "language": "nl",
                "fields": json.dumps(fields), "created_at": now, "erased_at": None,
            }
        )  # fmt: skip
        digests.append({"digest": digest, "subscriber_id": number})
        rows.append(_subscription(number, list, now) | row)
    with kit.store.begin() as connection:
        connection.execute(subscribers.insert(), persons)
        connection.execute(subscriber_digests.insert(), digests)
        connection.execute(subscriptions.insert(), rows)
    return addresses


def _subscription(number: int, list: str, now: datetime) -> dict[str, Any]:
    return {
        "subscriber_id": number, "list": list, "site": "Basisschool De Linde", "state": "active", "route": "consent",
        "proof": '{"how": "double opt-in"}', "measuring": False, "language": "nl", "record_id": f"r{number}",
        "confirmed_at": now, "valid_until": now + timedelta(days=3650), "left_at": None, "request_id": None,
        "requested_at": None, "request": None, "mails": 0, "mailed_at": None,
    }  # fmt: skip


def mailing(kit: ConsentKit, **row: Any) -> int:
    """A mailing as it stands in its table, sending by default; gives its number."""
    values = {
        "site": "Basisschool De Linde", "list": LIST, "purpose": "marketing", "language": "nl", "subject": "Nieuws",
        "preheader": "", "sender": "", "reply_to": "", "content": "{}", "measured": False,
        "state": MailingState.SENDING.value, "note": "", "created_at": kit.now(), "failed_in_row": 0,
    }  # fmt: skip
    with kit.store.begin() as connection:
        made = connection.execute(mailings.insert().returning(mailings.c.id), values | row).scalar_one()
    return int(made)


def states(kit: ConsentKit, mailing: int) -> dict[int, str]:
    """Each person's state in a mailing."""
    return {reader: row.state for reader, row in rows(kit, mailing).items()}


def rows(kit: ConsentKit, mailing: int, *, reader: int | None = None, but: str = "") -> dict[int, Any]:
    """Each person's whole row in a mailing; of one reader, or without those in one state."""
    query = deliveries.select().where(deliveries.c.mailing_id == mailing, deliveries.c.state != but)
    if reader is not None:
        query = query.where(deliveries.c.subscriber_id == reader)
    with kit.store.read() as connection:
        return {row.subscriber_id: row for row in connection.execute(query.order_by(deliveries.c.id))}
