"""What waits in memory: names without anything of a visitor, few of them, and only those that nobody declared."""

from __future__ import annotations

import threading
from datetime import date, timedelta

import pytest

from consentkit.gate import Seen
from consentkit.web.seen import EVERY, FIRST_VIEWS, MAX_NAME, MOST_NAMES, Declared, Noted, Sightings, fold, fold_path
from tests.web.minikit import ANALYTICS, SESSION, TODAY, VIDEO

DECLARED = Declared([ANALYTICS, SESSION], ["school.example"])


def sightings(**more: object) -> Sightings:
    return Sightings(DECLARED, today=lambda: TODAY, **more)  # type: ignore[arg-type]


def noted(*names: tuple[str, str], seen: Sightings | None = None) -> list[tuple[str, str]]:
    """What is kept of these names."""
    seen = seen or sightings()
    for kind, name in names:
        seen.note(kind, name)  # type: ignore[arg-type]
    return [(row.kind, row.name) for row in seen.take()]


@pytest.mark.parametrize(
    ("name", "kept"),
    [
        ("foo", "foo"),
        ("PHPSESSID", "PHPSESSID"),
        ("VISITOR_INFO1_LIVE", "VISITOR_INFO1_LIVE"),
        ("consentManagerPreferences", "consentManagerPreferences"),
        ("_ga_4V3K2L1M9", "_ga_*"),
        ("_gat_UA-123456-1", "_gat_UA-*-1"),
        ("_hjSession_2847563", "_hjSession_*"),
        ("wordpress_logged_in_0cc175b9c0f1b6a831c399e269772661", "wordpress_logged_in_*"),
        ("user-550e8400-e29b-41d4-a716-446655440000", "user-*"),
        ("user1234", "*"),
        ("jan@example.nl", "*"),
        ("jan%40example.nl", "*"),
        ("aGVsbG9XdGhlcmVteWZyaWVuZGhvd2FyZXlvdQ", "*"),
        ("caf\xe9", "caf?"),
        ("x" * 30 + "-" + "y" * 200, "x" * 30 + "-*"),
        ("a-" * 200, ("a-" * 200)[:MAX_NAME]),
    ],
)
def test_a_name_that_carries_an_id_is_kept_as_its_pattern(name: str, kept: str) -> None:
    assert fold(name) == kept


def test_of_a_page_the_path_is_kept_without_query_and_ids() -> None:
    assert fold_path("/leerling/20260417/brief?naam=Jan#einde") == "/leerling/*/brief"
    assert fold_path("/") == "/"
    assert len(fold_path("/aap" * 200)) == MAX_NAME


def test_what_is_declared_is_not_noted() -> None:
    kept = noted(
        ("cookie", "_ga_4V3K2L1M9"),
        ("cookie", "sessionid"),
        ("cookie", "__Host-consentkit"),
        ("host", "www.googletagmanager.com"),
        ("host", "cdn.school.example"),
        ("cookie", ""),
        ("cookie", "foo"),
        ("host", "cdn.vreemd.example"),
        ("storage", "foo"),
    )

    assert kept == [("cookie", "foo"), ("host", "cdn.vreemd.example"), ("storage", "foo")]


def test_a_name_is_counted_with_its_days_and_a_page_that_has_it() -> None:
    days = [date(2026, 11, 1), date(2026, 11, 1), date(2026, 11, 9)]
    seen = Sightings(DECLARED, today=iter([*days]).__next__)
    for where in ("", "/contact?id=7", "/"):
        seen.note("cookie", "foo", where)

    assert seen.take() == [Noted("cookie", "foo", "/contact", days[0], days[2], 3)]
    assert seen.take() == []


def test_somebody_who_makes_names_up_fills_no_memory() -> None:
    seen = sightings()

    kept = noted(*[("cookie", f"x{'abcdefghij'[number % 10]}{number:x}") for number in range(20_000)], seen=seen)

    assert len(kept) == MOST_NAMES
    assert len(seen._keys) <= 4096


def test_what_could_not_be_written_waits_on_with_what_came_meanwhile() -> None:
    seen = sightings()
    seen.note("cookie", "foo", "/eerst")
    rows = seen.take()
    seen.note("cookie", "foo", "/later")
    seen.note("cookie", "bar")

    seen.give_back([row._replace(first=TODAY - timedelta(days=3)) for row in rows])

    foo, bar = seen.take()
    assert foo == Noted("cookie", "foo", "/later", TODAY - timedelta(days=3), TODAY, 2)
    assert bar.name == "bar"


def test_the_writer_is_woken_once_a_day_for_a_name() -> None:
    day, woken = [TODAY], []
    seen = Sightings(DECLARED, today=lambda: day[0], wake=lambda: woken.append(day[0]))

    for _ in range(3):
        seen.note("host", "cdn.vreemd.example")
    seen.take()
    seen.note("host", "cdn.vreemd.example")
    day[0] += timedelta(days=1)
    seen.note("host", "cdn.vreemd.example")

    assert woken == [TODAY, TODAY + timedelta(days=1)]


def test_threads_lose_no_count() -> None:
    seen = sightings()
    total = [0]

    def work() -> None:
        for _ in range(2000):
            seen.note("cookie", "foo")

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        total[0] += sum(row.total for row in seen.take())
    total[0] += sum(row.total for row in seen.take())

    assert total == [8000]


def test_a_failure_of_ours_reaches_no_page() -> None:
    def broken() -> None:
        raise RuntimeError("the clock stopped")

    Sightings(DECLARED, wake=broken).note("cookie", "foo")


def test_the_first_views_of_a_path_are_looked_at_and_then_one_in_many() -> None:
    seen = sightings()

    looked = [number for number in range(3 * EVERY) if seen.due("/")]

    assert looked == [*range(FIRST_VIEWS), EVERY, 2 * EVERY]


def test_of_paths_without_end_one_page_in_many_is_looked_at() -> None:
    seen = sightings()
    for number in range(5000):
        seen.due(f"/oud/{number}")

    assert sum(seen.due(f"/nieuw/{number}") for number in range(10 * EVERY)) == 10
    assert sum(seen.due("/" + "x" * 300) for _ in range(EVERY)) == 1


def test_of_a_page_is_noted_what_nobody_declared_and_what_nothing_will_release() -> None:
    seen = sightings()
    tags = [
        Seen("script", "www.googletagmanager.com", ANALYTICS.id, 1, True),
        Seen("iframe", "www.youtube.com", VIDEO.id, 2, True),
        Seen("script", "", "meta-pixel", 3, True),
        Seen("img", "cdn.vreemd.example", None, 4, False),
        Seen("script", "", None, 5, False, "cookiebot"),
    ]

    seen.look(tags, "/contact?x=1")

    assert [(row.kind, row.name, row.place) for row in seen.take()] == [
        ("host", "www.youtube.com", "/contact"),
        ("tag", "meta-pixel", "/contact"),
        ("host", "cdn.vreemd.example", "/contact"),
        ("tag", "cookiebot", "/contact"),
    ]
