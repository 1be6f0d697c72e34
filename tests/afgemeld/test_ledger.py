"""The ledger: asked before everything that is sent, without a readable address, and hard to forget."""

from __future__ import annotations

import asyncio
import logging
import os
import re
import shutil
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.exc import SQLAlchemyError

from consentkit import newsletter
from consentkit.address import AddressKeys
from consentkit.afgemeld import Afgemeld, Reason, Suppression, covering, scope_of
from consentkit.errors import AddressError, AfgemeldUnavailable
from consentkit.evidence.ledger import Entry, append
from consentkit.store import Store
from tests.evidence.samples import NOTICE, make_event, outage

KEY = b"Qx7Lr8Yt5Hn3Gm6Fd1CaBv2k7Jw0uZ4s"
NEW = b"Zx9Bv2k7Jw0uZ4sQx7Lr8Yt5Hn3Gm6Fd"
NOW = datetime(2026, 3, 2, 9, 30, tzinfo=UTC)
JAN = "jan@voorbeeld.nl"

Open = Callable[..., Afgemeld]


@pytest.fixture
def open_ledger(database_url: str, tmp_path: Path) -> Iterator[Open]:
    """Opens a ledger on one database, as a process of its own would."""
    assert newsletter.Newsletter is not None  # its tables are declared
    stores: list[Store] = []

    def start(*keys: bytes, tombstones: str = "tombstones", url: str = database_url) -> Afgemeld:
        store = Store(url)
        store.upgrade()
        stores.append(store)
        secrets = AddressKeys(keys or [KEY]) if keys != (b"",) else None
        return Afgemeld(store, secrets, tombstones=tmp_path / tombstones, clock=lambda: NOW)

    yield start
    for store in stores:
        store.close()


@pytest.fixture
def ledger(open_ledger: Open) -> Afgemeld:
    return open_ledger()


def leave(ledger: Afgemeld, address: str = JAN, scope: str = "list:nieuwsbrief", reason: str = "phone") -> bool:
    return ledger.add_sync(address, scope=scope, reason=reason, channel="staff")


def agreed(ledger: Afgemeld, **event: Any) -> str:
    """The record of a consent that was just stored."""
    made = make_event(**({"at": NOW, "valid_until": NOW + timedelta(days=1)} | event))
    if made.state == "withdrawn":
        made = replace(made, purposes=dict.fromkeys(made.purposes, False), nonce=None)
    with ledger._store.begin() as connection:
        append(connection, [Entry(made, NOTICE)], known=set())
    return made.record_id


# -- asking and adding ------------------------------------------------------------------------------------------------


def test_who_left_is_suppressed_in_every_spelling_and_nobody_else_is(ledger: Afgemeld) -> None:
    async def walk() -> list[bool]:
        found = [await ledger.is_suppressed(JAN, list="nieuwsbrief"), await ledger.add(JAN, list="nieuwsbrief")]
        found.append(await ledger.add("JAN@Voorbeeld.NL ", list="nieuwsbrief"))
        for address in ("Jan@voorbeeld.nl", "jan+x@voorbeeld.nl", "piet@voorbeeld.nl"):
            found.append(await ledger.is_suppressed(address, list="nieuwsbrief"))
        return found

    assert asyncio.run(walk()) == [False, True, False, True, False, False]


@pytest.mark.parametrize(
    ("scope", "list", "service", "forbidden"),
    [
        ("list:nieuwsbrief", "nieuwsbrief", False, True),
        ("list:nieuwsbrief", "agenda", False, False),
        ("list:nieuwsbrief", None, False, False),
        ("list:nieuwsbrief", None, True, False),
        ("marketing", "nieuwsbrief", False, True),
        ("marketing", None, False, True),
        ("marketing", None, True, False),
        ("mail", "nieuwsbrief", False, True),
        ("mail", None, False, True),
        ("mail", None, True, True),
    ],
)
def test_a_scope_forbids_what_it_covers(
    ledger: Afgemeld, scope: str, list: str | None, service: bool, forbidden: bool
) -> None:
    leave(ledger, scope=scope)

    assert (ledger.look_up(JAN, list=list, service=service) is not None) is forbidden
    assert (scope in covering(list, service=service)) is forbidden


def test_sendable_gives_those_one_may_write_to_in_their_order(ledger: Afgemeld) -> None:
    leave(ledger)
    addresses = [f"p{number}@voorbeeld.nl" for number in range(450)]
    given = [*addresses[:200], JAN, "geen adres", *addresses[200:], JAN.upper()]

    async def source() -> AsyncIterator[str]:
        for address in given:
            yield address

    async def walk() -> None:
        asked = ledger.sendable(given, list="nieuwsbrief")
        assert [address async for address in asked] == addresses
        assert (asked.suppressed, asked.invalid) == (2, 1)
        assert [address async for address in await ledger.sendable(source(), list="nieuwsbrief")] == addresses
        assert len([address async for address in ledger.sendable(given, list="agenda")]) == 452

    asyncio.run(walk())


def test_sendable_takes_from_its_source_no_more_than_it_was_asked_for(ledger: Afgemeld) -> None:
    taken = 0

    def endless() -> Iterator[str]:
        nonlocal taken
        while True:
            taken += 1
            yield f"p{taken}@voorbeeld.nl"

    async def first() -> str:
        async for address in ledger.sendable(endless()):
            return address
        raise AssertionError

    assert asyncio.run(first()) == "p1@voorbeeld.nl"
    assert taken <= 200


@pytest.mark.checklist("SUP-01")
def test_the_table_and_its_file_hold_no_readable_address(ledger: Afgemeld, tmp_path: Path) -> None:
    leave(ledger)
    leave(ledger, "Wie.Dan.Ook@bücher.example", scope="mail", reason="hard-bounce")

    with ledger._store.read() as connection:
        rows = connection.exec_driver_sql("SELECT * FROM afgemeld").all()
    dump = repr(rows).lower() + (tmp_path / "tombstones").read_text().lower()
    assert len(rows) == 2
    assert [
        word for word in ("jan", "voorbeeld", "wie", "dan", "bücher", "kva") if word in dump.replace("marketing", "")
    ] == []
    assert re.search(r"[0-9a-f]{64}", dump)
    assert (tmp_path / "tombstones").stat().st_mode & 0o077 == 0


def test_a_list_id_that_can_t_be_one_and_a_scope_that_is_none_are_refused() -> None:
    for wrong in ("", "a b", "x" * 65, "é", "list:"):
        with pytest.raises(ValueError, match=r"no list id|no scope"):
            scope_of(f"list:{wrong}" if wrong else "alles")
    with pytest.raises(ValueError, match="aware"):
        Suppression(b"x" * 32, "k", "mail", Reason.PHONE, "staff", datetime(2026, 1, 1))  # noqa: DTZ001
    with pytest.raises(AddressError):
        AddressKeys([KEY]).digest("niets")


# -- keys -------------------------------------------------------------------------------------------------------------


def test_a_wrong_or_a_missing_key_stops_all_sending_and_says_what_to_do(open_ledger: Open) -> None:
    leave(open_ledger())

    for keys, told in (
        ((NEW,), "which CONSENTKIT_AFGEMELD_KEYS lacks"),
        ((b"",), "CONSENTKIT_AFGEMELD_KEYS is missing"),
    ):
        wrong = open_ledger(*keys)
        assert not wrong.healthy()
        with pytest.raises(AfgemeldUnavailable, match=told):
            wrong.look_up("piet@voorbeeld.nl")
        with pytest.raises(AfgemeldUnavailable, match=told):
            leave(wrong)
        with pytest.raises(AfgemeldUnavailable, match=told):
            asyncio.run(_all(wrong, ["piet@voorbeeld.nl"]))
        with pytest.raises(AfgemeldUnavailable, match=told):
            asyncio.run(_awaited(wrong))


async def _all(ledger: Afgemeld, addresses: list[str]) -> list[str]:
    return [address async for address in ledger.sendable(addresses)]


async def _awaited(ledger: Afgemeld) -> None:
    await ledger.sendable([])


def test_a_new_key_goes_in_front_and_finds_what_the_old_one_wrote(open_ledger: Open) -> None:
    leave(open_ledger(KEY))

    rotated = open_ledger(NEW, KEY)
    assert rotated.look_up(JAN, list="nieuwsbrief") is not None
    leave(rotated, "piet@voorbeeld.nl")
    with pytest.raises(AfgemeldUnavailable):
        open_ledger(KEY).look_up(JAN)
    assert open_ledger(KEY, NEW).look_up("piet@voorbeeld.nl", list="nieuwsbrief") is not None


def test_where_the_database_can_t_be_asked_nothing_may_be_sent(open_ledger: Open, database_url: str) -> None:
    ledger = open_ledger()
    leave(ledger)
    if "sqlite" in database_url:
        ledger._store.close()
        Path(database_url.removeprefix("sqlite:///")).write_bytes(b"no database" * 1000)
        with pytest.raises(AfgemeldUnavailable):
            ledger.look_up(JAN)
        return
    with outage(database_url), pytest.raises(AfgemeldUnavailable, match="nothing is sent"):
        ledger.look_up(JAN)
    assert ledger.look_up(JAN, list="nieuwsbrief") is not None


# -- leaving the table ------------------------------------------------------------------------------------------------


@pytest.mark.checklist("SUP-04")
def test_no_row_leaves_or_changes_by_sql_alone(ledger: Afgemeld) -> None:
    leave(ledger)

    for statement in (
        "DELETE FROM afgemeld",
        "UPDATE afgemeld SET scope = 'list:x'",
        "UPDATE afgemeld SET digest = 'x'",
    ):
        with (
            pytest.raises(SQLAlchemyError, match="comes back only by a new confirmed opt-in"),
            ledger._store.begin() as c,
        ):
            c.exec_driver_sql(statement)
    assert ledger.look_up(JAN, list="nieuwsbrief") is not None


@pytest.mark.checklist("SUP-04")
def test_no_exception_from_all_marketing_is_made_by_sql_without_a_consent_that_is_newer_than_the_leaving(
    ledger: Afgemeld,
) -> None:
    older, withdrawn = agreed(ledger, at=NOW - timedelta(days=1)), agreed(ledger, state="withdrawn")
    leave(ledger, scope="marketing")
    leave(ledger, "piet@voorbeeld.nl", scope="list:agenda")
    forged = (
        "INSERT INTO afgemeld (digest, scope, key_id, reason, channel, at, mailing) "
        "SELECT digest, 'opt-in:nieuwsbrief', key_id, reason, channel, at, {} FROM afgemeld WHERE scope = '{}'"
    )

    for record, scope in (
        ("NULL", "marketing"), ("'weg'", "marketing"), (f"'{older}'", "marketing"), (f"'{withdrawn}'", "marketing"),
        (f"'{agreed(ledger)}'", "list:agenda"),
    ):  # fmt: skip
        with (
            pytest.raises(SQLAlchemyError, match="comes back only by a new confirmed opt-in"),
            ledger._store.begin() as connection,
        ):
            connection.exec_driver_sql(forged.format(record, scope))
    assert ledger.look_up(JAN, list="nieuwsbrief") is not None


@pytest.mark.checklist("SUP-04")
def test_staff_lift_a_row_only_with_a_reason_and_a_second_person_and_it_is_kept(ledger: Afgemeld) -> None:
    leave(ledger)
    digests = ledger.keys.digests(JAN)
    wrong = [("", "An", "Bo"), ("fout", "An", ""), ("fout", "An", " an "), (" ", "An", "Bo")]
    for reason, by, second in wrong:
        with pytest.raises(ValueError, match="two different people"), ledger.changing() as change:
            change.lift(digests, "list:nieuwsbrief", reason=reason, by=by, second=second, at=NOW)
    assert ledger.look_up(JAN, list="nieuwsbrief") is not None

    with ledger.changing() as change:
        assert change.lift(digests, "list:nieuwsbrief", reason="verkeerd adres", by="An", second="Bo", at=NOW) == 1

    assert ledger.look_up(JAN, list="nieuwsbrief") is None
    with ledger._store.read() as connection:
        (row,) = connection.exec_driver_sql(
            'SELECT reason, "by", second, was_reason, was_channel FROM afgemeld_lift'
        ).all()
    assert tuple(row) == ("verkeerd adres", "An", "Bo", "phone", "staff")
    for statement in ("DELETE FROM afgemeld_lift", "UPDATE afgemeld_lift SET reason = 'x'"):
        with pytest.raises(SQLAlchemyError), ledger._store.begin() as connection:
            connection.exec_driver_sql(statement)


def test_an_old_lift_does_not_let_a_later_leaving_go(open_ledger: Open) -> None:
    ledger = open_ledger()
    leave(ledger)
    with ledger.changing() as change:
        change.lift(ledger.keys.digests(JAN), "list:nieuwsbrief", reason="fout", by="An", second="Bo", at=NOW)
    later = open_ledger()
    later._now = lambda: NOW + timedelta(days=1)
    leave(later)

    with pytest.raises(SQLAlchemyError), ledger._store.begin() as connection:
        connection.exec_driver_sql("DELETE FROM afgemeld")


@pytest.mark.checklist("SUP-02")
def test_nobody_else_touches_the_table_and_the_ledger_gives_no_persons() -> None:
    root = Path(newsletter.__file__).parents[1]
    using = {
        path.relative_to(root).as_posix()
        for path in root.rglob("*.py")
        if re.search(r"afgemeld\.tables|AfgemeldRow|FROM afgemeld", path.read_text("utf-8"))
    }
    assert {name for name in using if not name.startswith(("afgemeld/", "store/migrations/"))} == set()
    public = {name for name in vars(Afgemeld) if not name.startswith("_")}
    assert public <= {
        "is_suppressed", "sendable", "look_up", "all_of", "rows", "forbidden", "add", "add_sync", "add_one", "changing",
        "keys", "open", "healthy", "close", "heads", "entries", "forbids", "mark",
    }  # fmt: skip


# -- older backups ----------------------------------------------------------------------------------------------------


@pytest.mark.checklist("SUP-03")
def test_an_older_backup_does_not_bring_back_who_left_since(
    tmp_path: Path, open_ledger: Open, database_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    ledger = open_ledger()
    leave(ledger, "eerder@voorbeeld.nl")
    undo = _backup(ledger, database_url)
    leave(ledger, JAN)
    leave(ledger, "bounce@voorbeeld.nl", scope="mail", reason="hard-bounce")
    ledger.close()

    undo()

    with caplog.at_level(logging.WARNING):
        restored = open_ledger()
        assert restored.look_up(JAN, list="nieuwsbrief") is not None
    assert "2 line(s) of the tombstones were missing in the database, and are back" in caplog.text
    assert restored.look_up("bounce@voorbeeld.nl", service=True) is not None
    assert restored.look_up("eerder@voorbeeld.nl", list="nieuwsbrief") is not None
    caplog.clear()
    with caplog.at_level(logging.WARNING):
        assert open_ledger().look_up(JAN, list="nieuwsbrief") is not None
    assert caplog.text == ""


def _backup(ledger: Afgemeld, url: str) -> Callable[[], None]:
    """Take a backup now; what comes back puts it in the place of the database."""
    if "sqlite" in url:
        file = Path(url.removeprefix("sqlite:///"))
        ledger._store.close()
        copy = file.with_suffix(".backup")
        shutil.copy(file, copy)

        def put_back() -> None:
            ledger._store.close()
            for left in file.parent.glob(f"{file.name}-*"):
                left.unlink()
            shutil.copy(copy, file)

        return put_back
    with ledger._store.read() as connection:
        kept = connection.exec_driver_sql("SELECT digest, scope FROM afgemeld").all()
        sizes = connection.exec_driver_sql("SELECT file, size FROM tombstone").all()

    def put_back_rows() -> None:
        with ledger._store.begin() as connection:
            connection.exec_driver_sql("ALTER TABLE afgemeld DISABLE TRIGGER USER")
            for digest, scope in connection.exec_driver_sql("SELECT digest, scope FROM afgemeld").all():
                if (digest, scope) not in [tuple(row) for row in kept]:
                    connection.exec_driver_sql("DELETE FROM afgemeld WHERE digest = %s AND scope = %s", (digest, scope))
            connection.exec_driver_sql("ALTER TABLE afgemeld ENABLE TRIGGER USER")
            for file, size in sizes:
                connection.exec_driver_sql("UPDATE tombstone SET size = %s WHERE file = %s", (size, file))

    return put_back_rows


def test_who_came_back_has_left_again_after_a_restore_and_a_torn_line_is_passed_over(
    open_ledger: Open, tmp_path: Path
) -> None:
    ledger = open_ledger()
    leave(ledger)
    with ledger.changing() as change:
        change.lift(ledger.keys.digests(JAN), "list:nieuwsbrief", reason="fout", by="An", second="Bo", at=NOW)
    assert open_ledger().look_up(JAN, list="nieuwsbrief") is None
    file = tmp_path / "tombstones"
    with file.open("a") as torn:
        torn.write("0badf00d add 00ff list:nie")
    with ledger._store.begin() as connection:
        connection.exec_driver_sql("DELETE FROM tombstone")
    ledger.close()

    again = open_ledger()
    assert again.look_up(JAN, list="nieuwsbrief") is not None
    leave(again, "piet@voorbeeld.nl")
    assert open_ledger().look_up("piet@voorbeeld.nl", list="nieuwsbrief") is not None
    assert all(re.match(r"#|[0-9a-f]{8} ", line) for line in file.read_text().splitlines())


def test_a_running_process_notices_a_restored_backup_and_a_key_it_does_not_have(
    open_ledger: Open, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("consentkit.afgemeld.ledger.CHECKED_FOR", 0.0)
    running = open_ledger()
    running.open()
    undo = _backup(running, database_url)
    leave(running)
    undo()
    assert running.look_up(JAN, list="nieuwsbrief") is not None
    assert running.healthy()

    rotated = open_ledger(NEW, KEY)
    leave(rotated, "piet@voorbeeld.nl")
    with pytest.raises(AfgemeldUnavailable, match="which CONSENTKIT_AFGEMELD_KEYS lacks"):
        running.look_up("piet@voorbeeld.nl", list="nieuwsbrief")
    assert not running.healthy()


@pytest.mark.checklist("SUP-04")
def test_who_left_all_marketing_and_confirms_one_list_gets_that_list_and_nothing_else(open_ledger: Open) -> None:
    ledger = open_ledger()

    def free() -> set[str | None]:
        lists = (None, "nieuwsbrief", "agenda", "later-gemaakt")
        found = {list for list in lists if ledger.look_up(JAN, list=list) is None}
        for list in lists:
            sendable = asyncio.run(_sendable(ledger, list))
            assert (list in found) == bool(sendable)
            assert (list in found) != any(ledger.heads(list))
        return found

    def confirm(list: str) -> None:
        record = agreed(ledger)
        with ledger.changing() as change:
            change.release(ledger.keys.digests(JAN), list, record_id=record, at=NOW)

    leave(ledger, scope="marketing")
    assert free() == set()
    confirm("nieuwsbrief")
    confirm("nieuwsbrief")
    assert free() == {"nieuwsbrief"}
    leave(ledger)
    assert free() == set()
    confirm("nieuwsbrief")
    confirm("agenda")
    assert free() == {"nieuwsbrief", "agenda"}
    assert [one.scope for one in ledger.entries()] == ["marketing"]
    leave(ledger, scope="marketing")
    assert free() == set()


async def _sendable(ledger: Afgemeld, list: str | None) -> list[str]:
    return [address async for address in ledger.sendable([JAN], list=list)]


def test_a_complaint_and_a_hard_bounce_are_lifted_by_people_only(ledger: Afgemeld) -> None:
    leave(ledger, reason="complaint")
    leave(ledger, "piet@voorbeeld.nl", scope="marketing", reason="hard-bounce")

    with ledger.changing() as change:
        for address in (JAN, "piet@voorbeeld.nl"):
            assert change.release(ledger.keys.digests(address), "nieuwsbrief", record_id="r", at=NOW) == 0

    assert ledger.look_up(JAN, list="nieuwsbrief") is not None
    assert ledger.look_up("piet@voorbeeld.nl", list="nieuwsbrief") is not None


def test_those_who_leave_at_the_same_moment_share_a_transaction_and_none_fails_for_another(
    ledger: Afgemeld, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, together = 0, threading.Barrier(20)
    begin = ledger._store.begin

    def counting(**more: float) -> object:
        nonlocal begun
        begun += 1
        return begin(**more)

    def one(number: int) -> bool:
        together.wait()
        return leave(ledger, f"p{number}@voorbeeld.nl")

    ledger.open()
    monkeypatch.setattr(ledger._store, "begin", counting)
    with ThreadPoolExecutor(20) as threads:
        assert all(threads.map(one, range(20)))
    assert begun < 20
    assert all(ledger.look_up(f"p{number}@voorbeeld.nl", list="nieuwsbrief") for number in range(20))

    poison = ledger.keys.digest("p3@poison.nl")
    follow = ledger.follow

    def refuses(connection: object, new: list[Suppression], **more: bool) -> None:
        if any(one.digest == poison for one in new):
            raise ValueError("this one can't be followed")
        follow(connection, new, **more)

    def tried(number: int) -> bool:
        together.wait()
        try:
            return leave(ledger, f"p{number}@poison.nl")
        except ValueError:
            return False

    ledger.follow = refuses
    with ThreadPoolExecutor(20) as threads:
        assert [number for number, done in enumerate(threads.map(tried, range(20))) if not done] == [3]


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)  # PostgreSQL has the engine's own pool
def test_look_ups_from_many_threads_leave_no_connections_behind(open_ledger: Open) -> None:
    ledger = open_ledger()
    for _ in range(30):
        thread = threading.Thread(target=ledger.look_up, args=(JAN,))
        thread.start()
        thread.join()

    assert len(ledger._store._readers) <= 2


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork on Windows")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_forked_child_has_its_own_connections_and_waits_for_nobody(open_ledger: Open) -> None:
    ledger = open_ledger()
    leave(ledger)
    with ledger._writing, ledger._tombstones._turn:  # a thread of the parent is in the midst of it
        child = os.fork()
        if child == 0:
            status = 1
            try:
                leave(ledger, "kind@voorbeeld.nl")
                status = 0 if ledger.look_up(JAN, list="nieuwsbrief") else 2
            finally:
                os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert ledger.look_up("kind@voorbeeld.nl", list="nieuwsbrief") is not None


def test_a_file_that_can_t_be_written_stops_no_opt_out(
    open_ledger: Open, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "no-folder").write_text("a file")
    ledger = open_ledger(tombstones="no-folder/tombstones")

    with caplog.at_level(logging.ERROR):
        assert leave(ledger)

    assert ledger.look_up(JAN, list="nieuwsbrief") is not None
    assert "an older backup could bring addresses back" in caplog.text


def test_processes_share_the_file_and_the_table(open_ledger: Open) -> None:
    one, other = open_ledger(), open_ledger()
    for number in range(5):
        leave(one, f"a{number}@voorbeeld.nl")
        leave(other, f"b{number}@voorbeeld.nl")

    fresh = open_ledger()
    assert all(fresh.look_up(f"{who}{n}@voorbeeld.nl", list="nieuwsbrief") for who in "ab" for n in range(5))
