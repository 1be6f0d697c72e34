"""Nothing can be changed, and what is changed all the same is found."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import create_engine, select
from sqlalchemy.engine import Connection, Engine
from sqlalchemy.exc import DBAPIError

from consentkit.evidence import Evidence, Notice
from consentkit.evidence.event import link
from consentkit.evidence.records import _matches
from consentkit.evidence.tables import events, heads, notices
from consentkit.store import Store
from tests.evidence.json_schema import problems
from tests.evidence.samples import NOTICE, NOW, make_event, withdrawal

SCHEMA = json.loads((Path(__file__).parents[2] / "consentkit/evidence/event.schema.json").read_text())
OTHER = Notice.build({"language": "nl", "version": "2", "texts": ["Iets anders"]})


@pytest.fixture
def written(evidence: Evidence) -> Evidence:
    return two_chains(evidence)


def two_chains(evidence: Evidence) -> Evidence:
    """Two chains of twenty, on two notices."""
    for site in ("delinde", "eik"):
        for number in range(10):
            notice = OTHER if number % 3 == 0 else NOTICE
            event = make_event(site=site, notice_hash=notice.hash)
            evidence.record_sync(event, notice)
            evidence.record_sync(withdrawal(event, site=site, notice_hash=notice.hash), notice)
    assert evidence.verify().ok
    return evidence


@contextmanager
def tampering(store: Store) -> Iterator[Engine]:
    """Somebody with the rights of the database's owner: triggers and keys gone, SQLite checks no foreign keys."""
    path = {} if store.sqlite else {"options": "-c search_path=consentkit"}
    engine = create_engine(store.engine.url, connect_args=path)
    with engine.begin() as connection:
        if store.sqlite:
            for table in ("consent_event", "notice"):
                connection.exec_driver_sql(f"DROP TRIGGER {table}_no_update")
                connection.exec_driver_sql(f"DROP TRIGGER {table}_no_delete")
        else:
            for table in ("consent_event", "notice"):
                connection.exec_driver_sql(f"ALTER TABLE {table} DISABLE TRIGGER USER")
            connection.exec_driver_sql("ALTER TABLE consent_event DROP CONSTRAINT fk_consent_event_notice_hash")
        for table in ("consent_event", "notice", "chain_head"):
            connection.exec_driver_sql(f"CREATE TABLE kept_{table} AS SELECT * FROM {table}")
    yield engine
    engine.dispose()


def restore(connection: Connection) -> None:
    for table in ("consent_event", "notice", "chain_head"):
        connection.exec_driver_sql(f"DELETE FROM {table}")
    for table in ("notice", "consent_event", "chain_head"):
        connection.exec_driver_sql(f"INSERT INTO {table} SELECT * FROM kept_{table}")


Edit = Callable[[Connection, random.Random], str]


def _rows(connection: Connection, site: str) -> list[dict[str, Any]]:
    query = select(events).where(events.c.site == site).order_by(events.c.seq)
    return [dict(row._mapping) for row in connection.execute(query)]


def _set(connection: Connection, site: str, number: int, /, **values: Any) -> None:
    connection.execute(events.update().where(events.c.site == site, events.c.seq == number).values(values))


def change(connection: Connection, dice: random.Random) -> str:
    """One value of one row, at times with the row's hash made to match."""
    site = dice.choice(["delinde", "eik"])
    rows = _rows(connection, site)
    place = dice.randrange(len(rows))
    row = rows[place]
    column = dice.choice([name for name in row if name not in ("site", "seq")])
    new = {
        "at": NOW.replace(year=2025),
        "valid_until": dice.choice([None, NOW.replace(year=2031)]),
        "purposes": dice.choice(['{"analytics":true,"marketing":true}', row["purposes"].replace(",", ", ")]),
        "notice_hash": OTHER.hash if row["notice_hash"] == NOTICE.hash else NOTICE.hash,
        "nonce": dice.choice([None, "ab" * 16]),
        "state": "renewed",
    }.get(column, "0" + str(row[column])[1:] + "1")
    values = {column: new}
    if column != "hash" and dice.random() < 0.3:
        previous = rows[place - 1]["hash"] if place else "0" * 64
        values["hash"] = _forged_hash({**row, **values}, previous)
    _set(connection, site, row["seq"], **values)
    return f"{column} of {site} {row['seq']} changed{', hash too' if len(values) > 1 else ''}"


def _forged_hash(row: dict[str, Any], previous: str) -> str:
    """The hash that makes this row match: the next one gives it away, or the head does."""
    event = make_event(
        **{
            **{name: row[name] for name in make_event().__dataclass_fields__},
            "purposes": json.loads(row["purposes"]),
        }
    )
    return link(previous, row["seq"], {**event.fields(), "purposes": row["purposes"]})


def delete(connection: Connection, dice: random.Random) -> str:
    """Some rows in a row, at times with the numbers closed up behind them."""
    site = dice.choice(["delinde", "eik"])
    first = dice.randint(1, 19)
    last = min(first + dice.randrange(3), 20)
    connection.execute(events.delete().where(events.c.site == site, events.c.seq.between(first, last)))
    close = dice.random() < 0.5
    if close:
        for seq in range(last + 1, 21):
            _set(connection, site, seq, seq=seq - (last - first + 1))
    return f"{site} {first} to {last} deleted{', closed up' if close else ''}"


def swap(connection: Connection, dice: random.Random) -> str:
    """Two rows change places."""
    site = dice.choice(["delinde", "eik"])
    one, two = sorted(dice.sample(range(1, 21), 2))
    _set(connection, site, one, seq=999)
    _set(connection, site, two, seq=one)
    _set(connection, site, 999, seq=two)
    return f"{site} {one} and {two} swapped"


def insert(connection: Connection, dice: random.Random) -> str:
    """A row that nobody wrote, in the middle or at the end, with a hash that matches the one before."""
    site = dice.choice(["delinde", "eik"])
    place = dice.randint(1, 21)
    rows = _rows(connection, site)
    for seq in range(20, place - 1, -1):
        _set(connection, site, seq, seq=seq + 1)
    forged = {**rows[0], "seq": place, "event_id": f"{dice.getrandbits(128):032x}", "nonce": None}
    forged["hash"] = _forged_hash(forged, rows[place - 2]["hash"] if place > 1 else "0" * 64)
    connection.execute(events.insert(), [forged])
    return f"a row inserted at {site} {place}"


def truncate(connection: Connection, dice: random.Random) -> str:
    """The end is cut off, or all of it."""
    site = dice.choice(["delinde", "eik"])
    left = dice.choice([0, dice.randrange(20)])
    connection.execute(events.delete().where(events.c.site == site, events.c.seq > left))
    return f"{site} cut off after {left}"


def behead(connection: Connection, dice: random.Random) -> str:
    """What is noted of a chain's ends is changed or gone."""
    site = dice.choice(["delinde", "eik"])
    wrong = dice.choice(
        [{"seq": 19}, {"seq": 21}, {"hash": "ab" * 32}, {"base_seq": 1}, {"base_hash": "ab" * 32}, None]
    )
    change_it = heads.delete() if wrong is None else heads.update().values(wrong)
    connection.execute(change_it.where(heads.c.site == site))
    return f"the head of {site}: {wrong}"


def misquote(connection: Connection, dice: random.Random) -> str:
    """A notice says something else now, or is gone."""
    digest = dice.choice([NOTICE.hash, OTHER.hash])
    if dice.random() < 0.3:
        connection.execute(notices.delete().where(notices.c.hash == digest))
        return f"notice {digest[:8]} deleted"
    connection.exec_driver_sql(f"UPDATE notice SET body = replace(body, 'nl', 'en') WHERE hash = '{digest}'")
    return f"notice {digest[:8]} changed"


EDITS: list[Edit] = [*[change] * 40, *[delete] * 15, *[swap] * 15, *[insert] * 10, *[truncate] * 10]
EDITS += [*[behead] * 5, *[misquote] * 5]


@pytest.mark.checklist("EVI-03")
def test_of_a_hundred_random_edits_a_hundred_are_found(written: Evidence, store: Store) -> None:
    dice = random.Random(2026)
    assert len(EDITS) == 100

    missed = []
    with tampering(store) as engine:
        for edit in EDITS:
            with engine.begin() as connection:
                told = edit(connection, dice)
            if written.verify().ok:
                missed.append(told)
            with engine.begin() as connection:
                restore(connection)

    assert missed == []
    assert written.verify().ok


@pytest.mark.checklist("EVI-03")
@pytest.mark.parametrize(
    ("sql", "said"),
    [
        (
            "UPDATE consent_event SET controller = 'X' WHERE site = 'eik' AND seq = 7",
            "eik: event 7 is not what was written, or does not follow the one before",
        ),
        ("DELETE FROM consent_event WHERE site = 'eik' AND seq IN (4, 5)", "eik: events 4 to 5 are missing"),
        (
            "DELETE FROM consent_event WHERE site = 'eik' AND seq = 20",
            "eik: at the end of the chain, event 20 is missing",
        ),
        (
            "DELETE FROM chain_head WHERE site = 'eik'",
            "eik: there are events, but nothing says where the chain begins and ends",
        ),
        (f"DELETE FROM notice WHERE hash = '{OTHER.hash}'", f"notice {OTHER.hash} is missing"),
        (
            f"UPDATE notice SET body = '{{}}' WHERE hash = '{OTHER.hash}'",
            f"notice {OTHER.hash} is not what was shown: its text has another hash",
        ),
    ],
)
def test_the_report_says_in_words_what_is_wrong_first(written: Evidence, store: Store, sql: str, said: str) -> None:
    with tampering(store) as engine, engine.begin() as connection:
        connection.exec_driver_sql(sql)

    report = written.verify()

    assert not report.ok
    assert str(report.problems[0]) == said
    assert said in str(report)
    assert str(report).endswith("problem(s) found")


def test_a_chain_of_another_site_can_be_checked_alone(written: Evidence, store: Store) -> None:
    with tampering(store) as engine, engine.begin() as connection:
        connection.exec_driver_sql("UPDATE consent_event SET method = 'x' WHERE site = 'eik' AND seq = 7")

    assert written.verify("delinde").ok
    assert [problem.seq for problem in written.verify("eik").problems] == [7]


@pytest.mark.checklist("EVI-03")
def test_an_end_noted_earlier_shows_what_the_chain_itself_can_not(written: Evidence, store: Store) -> None:
    """Whoever owns the database can cut the end off and make the head match; a number kept elsewhere tells."""
    noted = written.verify().heads["eik"]
    written.record_sync(make_event(site="eik"), NOTICE)
    assert written.verify(anchor=noted).ok
    assert written.verify("eik", anchor=noted.partition(":")[2]).ok

    with tampering(store) as engine, engine.begin() as connection:
        connection.exec_driver_sql("DELETE FROM consent_event WHERE site = 'eik' AND seq > 15")
        cut = connection.execute(select(events.c.hash).where(events.c.site == "eik", events.c.seq == 15)).scalar()
        connection.execute(heads.update().where(heads.c.site == "eik").values(seq=15, hash=cut))

    assert written.verify().ok
    report = written.verify(anchor=noted)
    assert not report.ok
    assert "is in no chain" in str(report)


@pytest.mark.checklist("EVI-03", "EVI-02")
@pytest.mark.checklist("EVI-03")
@pytest.mark.parametrize(
    "sql",
    [
        "UPDATE consent_event SET at = 'gisteren' WHERE site = 'eik' AND seq = 3",
        "UPDATE consent_event SET valid_until = valid_until || 'x' WHERE site = 'eik' AND seq = 1",
        "UPDATE consent_event SET purposes = x'ff00' WHERE site = 'eik' AND seq = 3",
        "UPDATE consent_event SET seq = 'abc' WHERE site = 'eik' AND seq = 3",
        "UPDATE consent_event SET method = 7 WHERE site = 'eik' AND seq = 3",
        "UPDATE notice SET body = x'ff'",
    ],
)
def test_what_no_program_of_ours_could_have_written_is_a_problem_and_no_crash(tmp_path: Path, sql: str) -> None:
    store = Store(f"sqlite:///{tmp_path}/x.db")
    evidence = two_chains(Evidence(store, journal=tmp_path / "journal", patience=30.0))
    with tampering(store) as engine, engine.begin() as connection:
        connection.exec_driver_sql(sql)

    report = evidence.verify()

    assert report.found > 0
    assert report.events >= 39
    evidence.close()
    store.close()


@pytest.mark.parametrize("table", ["consent_event", "notice"])
@pytest.mark.parametrize("kind", ["UPDATE {} SET hash = hash", "DELETE FROM {}", "TRUNCATE {} CASCADE"])
def test_the_database_itself_refuses_to_change_or_delete(
    written: Evidence, store: Store, table: str, kind: str
) -> None:
    if store.sqlite and kind.startswith("TRUNCATE"):
        kind = "DELETE FROM {}"  # which is how SQLite spells it

    with pytest.raises(DBAPIError, match=f"{table} is append-only"), store.begin() as connection:
        connection.exec_driver_sql(kind.format(table))

    assert written.verify().events == 40


@pytest.mark.checklist("EVI-02")
def test_a_stored_notice_can_not_be_given_another_text(written: Evidence) -> None:
    forged = Notice(NOTICE.hash, OTHER.body, "nl", "1")

    with pytest.raises(ValueError, match="not what its hash says"):
        written.record_sync(make_event(notice_hash=forged.hash), forged)

    assert written.notice(NOTICE.hash) == NOTICE


@pytest.mark.checklist("EVI-01")
def test_every_exported_event_meets_the_schema_that_ships_with_it(written: Evidence) -> None:
    shown = make_event(state="requested", purposes={"a": False}, valid_until=None, nonce=None)
    written.record_sync(shown, NOTICE)

    lines = [json.loads(json.dumps(line)) for line in written.export()]

    assert [problem for line in lines for problem in problems(line, SCHEMA)] == []
    assert {line["notice_version"] for line in lines} == {"1", "2"}
    for name in SCHEMA["required"]:
        missing = {key: value for key, value in lines[0].items() if key != name}
        assert problems(missing, SCHEMA) == [f"event.{name} is missing"]
    assert problems({**lines[0], "valid_until": None}, SCHEMA) != []
    assert problems({**lines[0], "ip": "192.0.2.1"}, SCHEMA) == ["event.ip is unknown"]


def test_an_export_alone_is_enough_to_check_the_chain(written: Evidence) -> None:
    """Whoever has the lines needs no database of ours, only SHA-256 and the description in docs/evidence.md."""
    previous = "0" * 64
    for line in written.export(site="eik"):
        covered = {name: value for name, value in line.items() if name not in ("hash", "notice_version")}
        covered["purposes"] = json.dumps(line["purposes"], sort_keys=True, separators=(",", ":"), ensure_ascii=False)

        assert link(previous, covered.pop("seq"), covered) == line["hash"]
        previous = line["hash"]


def test_the_check_covers_every_column_of_an_event(written: Evidence, store: Store) -> None:
    with store.read() as connection:
        row = connection.execute(select(events).where(events.c.site == "eik", events.c.seq == 1)).one()

    assert _matches(row, "0" * 64)
    assert set(events.columns.keys()) == {*make_event().fields(), "seq", "hash"} - {"schema"}
