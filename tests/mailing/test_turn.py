"""The lock of a sender: one at a time on SQLite, one each on PostgreSQL, and gone with its process."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from stat import S_IMODE

import psycopg
import pytest

from consentkit.errors import ConsentKitError
from consentkit.mailing import turn as turns
from consentkit.mailing.turn import Turn
from consentkit.store import Store

NOBODY = 65534


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder that every user may enter and nobody else may write in, with a database."""
    with tempfile.TemporaryDirectory() as made:
        Path(made).chmod(0o755)
        (Path(made) / "consentkit.db").touch(0o644)
        yield Path(made)


def turn_in(folder: Path) -> Turn:
    return Turn(Store(f"sqlite:///{folder / 'consentkit.db'}"))


@contextmanager
def another_user() -> Iterator[None]:
    """Who is root becomes nobody, to whom modes mean something."""
    before = os.geteuid()
    if before == 0:
        os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(before)


def in_a_fork(turn: Turn) -> tuple[bool, str]:
    """What a forked child gets when it takes the turn, and who it then is."""
    out, to = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.write(to, f"{turn.take()} {turn.holder}".encode())
        turn.leave()
        os._exit(0)
    os.close(to)
    os.waitpid(pid, 0)
    with os.fdopen(out) as told:
        taken, holder = told.read().split()
    return taken == "True", holder


def test_on_sqlite_one_sender_has_its_turn_until_it_leaves(folder: Path) -> None:
    first, second = turn_in(folder), turn_in(folder)

    assert [first.take(), first.take(), second.take()] == [True, True, False]
    first.leave()
    assert [second.take(), first.take()] == [True, False]
    assert (first.epoch, second.epoch) == (1, 1)
    assert sorted(path.name for path in folder.iterdir()) == ["consentkit.db", "consentkit.db-sending"]
    assert (folder / "consentkit.db-sending").stat().st_size == 0


def test_a_fork_leaves_the_turn_to_its_parent_and_is_another_sender(folder: Path) -> None:
    turn, other = turn_in(folder), turn_in(folder)
    assert turn.take()

    taken, holder = in_a_fork(turn)

    assert not taken
    assert holder != turn.holder
    assert [turn.take(), other.take(), turn.epoch] == [True, False, 1]


def test_a_lock_that_can_only_be_read_is_refused_by_name_instead_of_given_to_two(folder: Path) -> None:
    (folder / "consentkit.db-sending").touch(0o444)

    with another_user(), pytest.raises(ConsentKitError) as caught:
        turn_in(folder).take()

    assert str(caught.value) == (
        f"{folder}/consentkit.db-sending can't be locked (attempt to write a readonly database), and who sends has to. "
        "Give it the owner and mode of the database file, or remove it while nobody sends"
    )


def test_a_lock_that_can_t_be_opened_is_a_sentence_and_no_other_senders_turn(folder: Path) -> None:
    (folder / "consentkit.db-sending").mkdir()

    with pytest.raises(
        ConsentKitError, match=r"consentkit\.db-sending can't be locked \(unable to open database file\)"
    ):
        turn_in(folder).take()


def test_whoever_may_write_the_database_may_send_though_another_user_did_so_first(folder: Path) -> None:
    (folder / "consentkit.db").chmod(0o664)
    if os.geteuid() == 0:
        os.chown(folder / "consentkit.db", NOBODY, NOBODY)
    first = turn_in(folder)
    first.take()
    first.leave()

    database, lock = (folder / "consentkit.db").stat(), (folder / "consentkit.db-sending").stat()
    assert (S_IMODE(lock.st_mode), lock.st_uid, lock.st_gid) == (0o664, database.st_uid, database.st_gid)
    with another_user():
        assert turn_in(folder).take()


def test_who_lost_the_file_of_its_lock_takes_another_and_can_tell(folder: Path) -> None:
    turn = turn_in(folder)
    turn.take()
    (folder / "consentkit.db-sending").unlink()

    assert (turn.take(), turn.epoch) == (True, 2)
    assert not turn_in(folder).take()


@pytest.mark.postgres
def test_on_postgresql_a_lost_session_is_a_lost_turn_which_is_taken_anew(migrated_postgres_url: str) -> None:
    store = Store(migrated_postgres_url)
    turn, other = Turn(store), Turn(store)
    assert [turn.take(), other.take(), turn.take()] == [True, True, True]
    assert not other.is_dead(turn.holder)

    with psycopg.connect(migrated_postgres_url, autocommit=True) as connection:
        locks = "SELECT count(pg_terminate_backend(pid, 5000)) FROM pg_locks WHERE locktype = 'advisory' AND objid = %s"
        assert connection.execute(locks, (turns._number(turn.holder) % 2**32,)).fetchone() == (1,)

    assert other.is_dead(turn.holder)
    assert (turn.take(), turn.epoch, other.epoch) == (True, 2, 1)
    assert not other.is_dead(turn.holder)
    for each in (turn, other):
        each.leave()
    store.close()


@pytest.mark.postgres
def test_on_postgresql_a_lock_that_another_session_holds_is_not_waited_for(migrated_postgres_url: str) -> None:
    store = Store(migrated_postgres_url)
    turn = Turn(store)
    with psycopg.connect(migrated_postgres_url, autocommit=True) as connection:
        lock = (turns._CLASS, turns._number(turn.holder))
        connection.execute("SELECT pg_advisory_lock(%s, %s)", lock)
        began = time.monotonic()

        assert (turn.take(), turn.epoch) == (False, 0)
        assert time.monotonic() - began < 2.0
        connection.execute("SELECT pg_advisory_unlock(%s, %s)", lock)  # a session that ends takes a while to let go
        connection.execute("SELECT pg_advisory_unlock(%s, %s)", (turns._CLASS, turns._number(turn.holder)))

    assert turn.take()
    turn.leave()
    store.close()


@pytest.mark.postgres
def test_a_fork_leaves_the_session_of_its_parent_alone(migrated_postgres_url: str) -> None:
    store = Store(migrated_postgres_url)
    turn = Turn(store)
    turn.take()

    taken, holder = in_a_fork(turn)

    assert taken
    assert holder != turn.holder
    assert (turn.take(), turn.epoch) == (True, 1)
    turn.leave()
    store.close()
