"""Workers that share mailings on PostgreSQL: each is a process, some of them die."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import IO, Any, cast

import psycopg
import pytest
from sqlalchemy.engine import make_url

from consentkit import ConsentKit
from consentkit.errors import SettingsError
from consentkit.mailing import queue
from consentkit.mailing.states import MailingState
from tests.fixtures_smtp import Mailbox
from tests.mailing import hall
from tests.mailing.school import draft, school
from tests.mailing.sink import Sink

READERS = 120
CONNECTIONS = 3
EVERYBODY = sorted(f"lezer{number}@school{number % 3}.example" for number in range(1, READERS + 1))


class Counting(Sink):
    """A mail server that also knows how many connections are open, and how many were at most."""

    open = 0
    most = 0

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.open += 1
        self.most = max(self.most, self.open)
        try:
            await super()._talk(reader, writer)
        finally:
            self.open -= 1


class Workers:
    """Forks of one process, each `consentkit worker --queue procrastinate`."""

    def __init__(self, folder: Path, smtp: str, database: str) -> None:
        command = [sys.executable, "-m", "tests.mailing.fork_server", str(folder), smtp, database]
        self._server = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self._running: list[int] = []

    def start(self) -> int:
        self._running.append(self._ask("queue 0"))
        return self._running[-1]

    def end(self, pid: int, how: signal.Signals) -> int:
        """Its exit code, or minus the signal that it died of."""
        self._running.remove(pid)
        os.kill(pid, how)
        return self._ask(f"reap {pid}")

    def _ask(self, line: str) -> int:
        stdin, stdout = cast("IO[str]", self._server.stdin), cast("IO[str]", self._server.stdout)
        stdin.write(line + "\n")
        stdin.flush()
        return int(stdout.readline())

    def kill(self) -> None:
        for pid in [*self._running]:
            self.end(pid, signal.SIGKILL)

    def close(self) -> None:
        cast("IO[str]", self._server.stdin).close()
        self._server.wait(10)
        cast("IO[str]", self._server.stdout).close()


@dataclass(frozen=True)
class Scene:
    """A school on PostgreSQL, workers of it, and the mail server that they send to."""

    kit: ConsentKit
    workers: Workers
    sink: Counting
    url: str


@pytest.fixture(scope="module")
def common(postgres_server: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    """One database and one mail server for all tests with workers, which take seconds to start."""
    folder, name = tmp_path_factory.mktemp("queue"), "test_queue"
    run(postgres_server, f"CREATE DATABASE {name}")
    url = make_url(postgres_server).set(database=name).render_as_string(hide_password=False)
    with (
        Counting(delay=0.02) as sink,
        school(folder, sink.url, readers=READERS, database=url, connections=CONNECTIONS) as kit,
    ):
        workers = Workers(folder, sink.url, url)
        yield Scene(kit, workers, sink, url)
        workers.close()
    run(postgres_server, f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
def scene(common: Scene) -> Iterator[Scene]:
    common.sink.accepted.clear()
    common.sink.most = 0
    yield common
    common.workers.kill()


@pytest.fixture
def kit(tmp_path: Path, mailbox: Mailbox, postgres_url: str) -> Iterator[ConsentKit]:
    with school(tmp_path, mailbox.url, readers=20, database=postgres_url, connections=CONNECTIONS) as made:
        yield made


def begin(kit: ConsentKit, **changes: Any) -> int:
    id = kit.mailings.new(draft())
    kit.mailings.send(id, dns=False, **changes)
    return id


def until(what: Callable[[], Any], seconds: float = 60.0) -> None:
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.02)


def until_done(kit: ConsentKit, id: int) -> None:
    until(lambda: kit.mailings.get(id).state is MailingState.DONE)


def account(scene: Scene, id: int) -> None:
    """Everybody's state against what the mail server took."""
    got = Counter(delivery for _, delivery, _ in scene.sink.accepted)
    rows, status = hall.rows(scene.kit, id), scene.kit.mailings.status(id)
    doubtful = [row.id for row in rows.values() if row.state == "in_doubt"]
    assert {row.state for row in rows.values()} <= {"sent", "in_doubt"}
    assert len(rows) == READERS
    assert all(got[row.id] == 1 for row in rows.values() if row.state == "sent")
    assert all(got[number] <= 1 for number in doubtful)
    assert sorted(doubtful) == [*status.in_doubt]
    assert len(doubtful) <= CONNECTIONS


@pytest.mark.postgres
def test_workers_share_a_mailing_and_everybody_gets_it_once(scene: Scene) -> None:
    scene.workers.start()
    scene.workers.start()
    id = begin(scene.kit)
    until_done(scene.kit, id)

    assert scene.kit.mailings.status(id).counts == {"sent": READERS}
    assert sorted(to for _, _, to in scene.sink.accepted) == EVERYBODY
    assert CONNECTIONS < scene.sink.most <= 2 * CONNECTIONS  # both were at it, each with what it may have


@pytest.mark.checklist("UNS-04")
@pytest.mark.postgres
def test_when_a_worker_is_killed_another_takes_over_what_it_had(scene: Scene) -> None:
    first, _ = scene.workers.start(), scene.workers.start()
    id = begin(scene.kit)
    until(lambda: scene.sink.open > CONNECTIONS and len(scene.sink.accepted) > 20)
    ended = scene.workers.end(first, signal.SIGKILL)
    until_done(scene.kit, id)

    assert ended == -signal.SIGKILL
    account(scene, id)


@pytest.mark.postgres
def test_a_worker_that_is_told_to_stop_leaves_nothing_claimed_or_in_doubt(scene: Scene) -> None:
    worker = scene.workers.start()
    id = begin(scene.kit)
    until(lambda: len(scene.sink.accepted) > 20)
    ended = scene.workers.end(worker, signal.SIGTERM)
    counts, taken = scene.kit.mailings.status(id).counts, len(scene.sink.accepted)
    scene.workers.start()
    until_done(scene.kit, id)

    assert ended == 0
    assert counts == {"sent": taken, "queued": READERS - taken}
    assert sorted(to for _, _, to in scene.sink.accepted) == EVERYBODY


@pytest.mark.postgres
def test_a_mailing_does_not_wait_for_the_end_of_another(scene: Scene) -> None:
    scene.workers.start()
    long = begin(scene.kit)
    until(lambda: len(scene.sink.accepted) > 20)
    short = begin(scene.kit)
    until_done(scene.kit, long)
    until_done(scene.kit, short)

    order = [mailing for mailing, _, _ in scene.sink.accepted]
    assert order.index(short) < len(order) - 1 - order[::-1].index(long)  # before the last of the other


@pytest.mark.postgres
def test_a_worker_outlives_its_connections_to_the_database(scene: Scene) -> None:
    scene.workers.start()
    id = begin(scene.kit)
    until(lambda: len(scene.sink.accepted) > 20)
    others = "datname = current_database() AND pid <> pg_backend_pid()"
    run(scene.url, f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE {others}")
    until_done(scene.kit, id)

    account(scene, id)


@pytest.mark.postgres
def test_a_mailing_for_later_is_sent_later(kit: ConsentKit, mailbox: Mailbox) -> None:
    id = begin(kit, at=kit.now() + timedelta(seconds=1.5))
    kit.work_queue(once=True)
    before = len(mailbox.messages)
    until(lambda: kit.mailings.due(None))
    kit.work_queue(once=True)

    assert before == 0
    assert kit.mailings.get(id).state is MailingState.DONE
    assert len(mailbox.messages) == 20


@pytest.mark.postgres
def test_the_queue_keeps_its_tables_apart_and_makes_them_anew_for_another_release(
    kit: ConsentKit, postgres_url: str
) -> None:
    kit.work_queue(once=True)
    run(postgres_url, f"COMMENT ON SCHEMA {queue.SCHEMA} IS 'procrastinate 0'")
    id = begin(kit)
    kit.work_queue(once=True)

    names = "SELECT schemaname FROM pg_tables WHERE tablename LIKE 'procrastinate%'"
    assert {schema for (schema,) in run(postgres_url, names)} == {queue.SCHEMA}
    assert kit.mailings.status(id).counts == {"sent": 20}


@pytest.mark.postgres
def test_workers_with_different_releases_of_the_queue_do_not_mix(kit: ConsentKit, postgres_url: str) -> None:
    kit.work_queue(once=True)
    run(postgres_url, f"COMMENT ON SCHEMA {queue.SCHEMA} IS 'procrastinate 0'")
    run(postgres_url, f"INSERT INTO {queue.SCHEMA}.procrastinate_workers DEFAULT VALUES")

    with pytest.raises(SettingsError, match="another release of procrastinate are running: stop them first"):
        kit.work_queue(once=True)


@pytest.mark.postgres
@pytest.mark.parametrize("left", [["doing"], ["doing", "todo"]])
def test_a_job_that_a_dead_worker_left_is_done_by_another(kit: ConsentKit, postgres_url: str, left: list[str]) -> None:
    kit.work_queue(once=True)
    id = begin(kit)
    for state in left:
        run(postgres_url, f"""
            SET search_path TO {queue.SCHEMA};
            INSERT INTO procrastinate_jobs (queue_name, task_name, lock, queueing_lock, args, status)
            VALUES ('consentkit', 'consentkit.send', '{id}.3', '{id}.3',
                    '{{"mailing": {id}, "part": 3, "parts": 16}}', '{state}')
        """)  # fmt: skip
    kit.work_queue(once=True)

    assert kit.mailings.status(id).counts == {"sent": 20}
    assert run(postgres_url, f"SELECT id FROM {queue.SCHEMA}.procrastinate_jobs") == []


def test_on_sqlite_there_is_no_queue(tmp_path: Path) -> None:
    with school(tmp_path, "smtp://127.0.0.1:1") as kit, pytest.raises(SettingsError) as caught:
        kit.work_queue()

    assert str(caught.value) == (
        "worker: database.url names SQLite, where one worker sends: leave out --queue, or write postgresql://…"
    )


def test_without_the_extra_the_remedy_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "procrastinate", None)
    monkeypatch.delitem(sys.modules, "consentkit.mailing.queue")
    with school(tmp_path, "smtp://127.0.0.1:1") as kit, pytest.raises(SettingsError) as caught:
        kit.work_queue()

    assert str(caught.value) == (
        "worker: --queue procrastinate needs a library of its own: run `pip install 'consentkit[queue]'`"
    )


def run(url: str, statement: str) -> list[tuple[Any, ...]]:
    """One statement of somebody with a console."""
    with psycopg.connect(url, autocommit=True) as connection:
        cursor = connection.execute(cast("Any", statement))
        return cursor.fetchall() if cursor.description else []
