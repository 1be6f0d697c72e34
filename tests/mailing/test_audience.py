"""Who gets a mailing: the same rule asked of all at once and of each at the last moment."""

from __future__ import annotations

from collections import Counter
from datetime import timedelta
from itertools import product
from typing import Any

import pytest

from consentkit.afgemeld import Reason, Suppression
from consentkit.afgemeld.tables import afgemeld
from consentkit.mailing import audience
from consentkit.newsletter import Aim, Readers
from tests.mailing import hall
from tests.newsletter.desk import Desk

PROVEN = {
    "consent": '{"how": "form"}',
    "customer": '{"sale": "order 1", "opt_out_offered": "yes"}',
    "published_address": '{"where": "site"}',
    "donor": '{"donation": "2025", "opt_out_offered": "ja"}',
    "unproven": "{}",
}


def suppress(desk: Desk, address: str, scope: str, *, half: bool = False, reason: Reason = Reason.UNSUBSCRIBE) -> None:
    """A row in the table and nothing else: as if the subscription had not followed."""
    key = desk.kit.afgemeld.keys.newest
    digest = key.digest(address.encode())
    row = {
        "digest": digest[:16] if half else digest, "scope": scope, "key_id": key.id, "reason": reason.value,
        "channel": "page", "at": desk.kit.now(), "mailing": None,
    }  # fmt: skip
    with desk.kit.store.begin() as connection:
        connection.execute(afgemeld.insert().values(row))


def everybody(desk: Desk) -> None:
    """A list with somebody in every standing that the rule knows."""
    now = desk.kit.now()
    people: list[tuple[int, dict[str, str], dict[str, Any]]] = []
    for state, route, proven in product(("active", "pending", "unsubscribed", "bounced"), PROVEN, (True, False)):
        people.append(
            (
                len(people) + 1,
                {"name": "Jan"},
                {"state": state, "route": route, "proof": PROVEN[route] if proven else '{"how": " nee "}'},
            )
        )
    for ends in (now - timedelta(seconds=1), now, now + timedelta(seconds=1), None):
        people.append((len(people) + 1, {"name": "Jan"}, {"valid_until": ends}))
    people.append((len(people) + 1, {"name": "Jan"}, {"state": "pending", "request_id": "x", "requested_at": now}))
    people.append((len(people) + 1, {"name": " "}, {}))
    people.append((len(people) + 1, {}, {}))
    people.append((len(people) + 1, {"name": "Piet"}, {"language": "en"}))
    hall.seats(desk.kit, people)
    left = hall.seats(desk.kit, [(number, {"name": "Jan"}, {}) for number in range(201, 207)])
    for address, scope in zip(left, ("mail", "marketing", "list:nieuwsbrief", "list:agenda"), strict=False):
        suppress(desk, address, scope)
    suppress(desk, left[4], "marketing", half=True)
    suppress(desk, left[5], "mail", reason=Reason.HARD_BOUNCE, half=True)


AIMS = [
    Aim(list="nieuwsbrief"),
    Aim(list="nieuwsbrief", fields=("name",)),
    Aim(list="nieuwsbrief", where={"name": ("Jan", "Kees"), "language": ("nl",)}),
    Aim(list="nieuwsbrief", service=True),
    Aim(list="nieuwsbrief", service=True, fields=("name",), where={"language": ("en",)}),
]


@pytest.mark.checklist("NEW-04")
def test_all_at_once_and_one_by_one_the_rule_says_the_same_of_everybody(both: Desk) -> None:
    everybody(both)
    readers, now = Readers(both.kit.afgemeld), both.kit.now()

    for aim in AIMS:
        with both.kit.store.begin() as connection:
            asked = {
                row.subscriber_id: row.reason for row in connection.execute(readers.candidates(connection, aim, now))
            }
            found = readers.release(connection, aim, list(asked), now)

        assert {id: one if isinstance(one, str) else None for id, one in found.items()} == asked
        assert len(set(asked.values())) > 2


def test_an_audience_is_everybody_queued_or_left_out_with_a_reason(both: Desk) -> None:
    everybody(both)
    readers, now, aim = Readers(both.kit.afgemeld), both.kit.now(), AIMS[1]
    mailing = hall.mailing(both.kit)

    with both.kit.store.read() as connection:
        dry = audience.count(connection, readers, aim, now)
    with both.kit.store.begin() as connection:
        frozen = audience.freeze(connection, readers, mailing, aim, now)

    rows = hall.rows(both.kit, mailing)
    assert frozen == dry
    assert frozen.candidates == len(rows) == 54
    assert frozen.queued == sum(row.state == "queued" for row in rows.values())
    assert frozen.excluded == Counter(row.reason for row in rows.values() if row.state == "excluded")
    assert frozen.excluded == {
        "afgemeld": 5, "expired": 3, "field:name": 2, "left": 20, "unconfirmed": 5, "unproven": 12,
    }  # fmt: skip


def test_a_person_whose_data_were_erased_is_no_candidate(both: Desk) -> None:
    address = hall.seat(both.kit, 1)
    both.kit.newsletter.erase_address(address)

    with both.kit.store.read() as connection:
        found = audience.count(connection, Readers(both.kit.afgemeld), Aim(list="nieuwsbrief"), both.kit.now())

    assert found.candidates == 0


def test_another_list_s_members_are_no_candidates(both: Desk) -> None:
    hall.seat(both.kit, 1, list="agenda")

    with both.kit.store.read() as connection:
        found = audience.count(connection, Readers(both.kit.afgemeld), Aim(list="nieuwsbrief"), both.kit.now())

    assert found == audience.Audience(0, {})


def test_who_left_all_marketing_and_confirmed_one_list_again_gets_that_one(both: Desk) -> None:
    both.subscribe()
    both.kit.newsletter.leave(
        both.kit.links.read(both.kit.links.token("jan@voorbeeld.nl", None)), reason=Reason.UNSUBSCRIBE, channel="page"
    )
    both.clock.later(hours=1)
    both.subscribe()

    with both.kit.store.read() as connection:
        readers, now = Readers(both.kit.afgemeld), both.kit.now()
        back = audience.count(connection, readers, Aim(list="nieuwsbrief"), now)

    assert back.queued == 1


def test_a_suppression_of_somebody_else_is_nobody_else_s(both: Desk) -> None:
    hall.seat(both.kit, 1)
    one = Suppression(b"x" * 32, "k", "mail", Reason.STAFF, "page", both.kit.now())
    with both.kit.afgemeld.changing() as change:
        change.put([one])

    with both.kit.store.read() as connection:
        found = audience.count(connection, Readers(both.kit.afgemeld), Aim(list="nieuwsbrief"), both.kit.now())

    assert found == audience.Audience(1, {})
