"""Limits of speed: they hold for senders that ask at the same moment, and a clock that was wrong blocks nobody."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy.engine import Connection

from consentkit.mailing import pace
from consentkit.mailing.pace import HOUR, SECOND, Limits, Room
from consentkit.mailing.tables import pace as table
from consentkit.store import Store

NOW = datetime(2026, 3, 2, 9, tzinfo=UTC)
PER_HOUR = Limits(per_hour=2)
PER_DOMAIN = Limits(per_domain_hour=2)


@pytest.fixture
def store(database_url: str) -> Iterator[Store]:
    made = Store(database_url)
    yield made
    made.close()


def in_all(connection: Connection) -> Room:
    return pace.room(connection, PER_HOUR, 9, NOW)


def to_a_domain(connection: Connection) -> Room:
    pace.hold(connection, PER_DOMAIN, ["school.example", "werk.example"], NOW)
    return pace.room_at(connection, PER_DOMAIN, "school.example", 9, NOW)


def to_a_domain_alone(connection: Connection) -> Room:
    return pace.room_at(connection, PER_DOMAIN, "school.example", 9, NOW)


@pytest.mark.parametrize("ask", [in_all, to_a_domain, to_a_domain_alone])
def test_two_senders_do_not_both_find_the_room_of_a_window_that_nobody_counted_in(
    store: Store, ask: Callable[[Connection], Room]
) -> None:
    limits = PER_HOUR if ask is in_all else PER_DOMAIN
    second: list[Room] = []

    def other() -> None:
        with store.begin() as connection:
            second.append(ask(connection))

    with store.begin() as connection:
        first = ask(connection)
        thread = threading.Thread(target=other)
        thread.start()
        thread.join(0.3)
        assert second == []
        pace.take(connection, limits, {"school.example": first.count}, NOW)
    thread.join()

    assert (first, second) == (Room(2), [Room(0, NOW + HOUR)])


@pytest.mark.parametrize(
    ("ahead", "room"),
    [
        (timedelta(days=4000), Room(2)),
        (HOUR + SECOND, Room(2)),
        (SECOND, Room(0, NOW + SECOND + HOUR)),  # the clock of another machine, a little ahead
        (-HOUR, Room(2)),
    ],
)
def test_a_window_of_a_clock_that_was_wrong_is_over_for_who_asks_and_for_who_counts(
    store: Store, ahead: timedelta, room: Room
) -> None:
    with store.begin() as connection:
        pace.take(connection, PER_HOUR, {"school.example": 2}, NOW + ahead)

        assert in_all(connection) == room
        pace.take(connection, PER_HOUR, {"school.example": room.count}, NOW)
        left = in_all(connection)

    assert left == Room(0, room.again or NOW + HOUR)


def test_windows_that_are_over_are_forgotten_and_others_are_kept(store: Store) -> None:
    with store.begin() as connection:
        for name, since in (("oud", NOW - HOUR), ("nu", NOW - HOUR + SECOND), ("ooit", NOW + 2 * HOUR)):
            pace.take(connection, PER_DOMAIN, {f"{name}.example": 1}, since)

        pace.forget(connection, NOW)

        assert [*connection.execute(table.select())] == [("domain:nu.example", NOW - HOUR + SECOND, 1)]
