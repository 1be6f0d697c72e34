"""A backup that is put back: nobody gets a mailing twice by itself, and no old link is about somebody else."""

from __future__ import annotations

import asyncio
import logging
import shutil
import sqlite3
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import urlsplit

import pytest
from sqlalchemy import select
from starlette.testclient import TestClient

from consentkit import ConsentKit
from consentkit.afgemeld.intake import Outcome
from consentkit.afgemeld.tombstones import Mark, TombstoneFile, read_line
from consentkit.errors import DatabaseUnavailable, MailingError
from consentkit.mailing import MailingState, Status
from consentkit.mailing.bounces import Kind, Report
from consentkit.mailing.marks import CAME_BACK, MESSAGES, SECONDS, WAS_DRAFT
from consentkit.mailing.tables import events, inbox, mailings, totals
from tests.journeys.school import app
from tests.mailing import hall
from tests.mailing.post import PHONE
from tests.mailing.school import draft, sending
from tests.mailing.sink import Sink

READERS = 60


@dataclass
class School:
    """A school that sends, whose database can be copied at any moment and put back later."""

    folder: Path
    sink: Sink
    kit: ConsentKit

    @property
    def database(self) -> Path:
        return self.folder / "consentkit.db"

    @property
    def marks(self) -> list[Mark]:
        """Those that stand in the file of tombstones."""
        lines = map(read_line, (self.folder / "consentkit-tombstones").read_text().splitlines())
        return [one for one in lines if isinstance(one, Mark)]

    def back_up(self) -> None:
        copy = self.folder / "copy.db"
        with closing(sqlite3.connect(self.database)) as source, closing(sqlite3.connect(copy)) as target:
            source.backup(target)

    def put_back(self) -> None:
        self.kit.close()
        for left in self.folder.glob("consentkit.db*"):
            left.unlink()
        shutil.copy(self.folder / "copy.db", self.database)
        self.restart()

    def restart(self) -> None:
        self.kit.close()
        self.kit = ConsentKit(sending(self.folder, self.sink.url))

    def new(self) -> int:
        return self.kit.mailings.new(draft())

    def work(self, id: int) -> Status:
        asyncio.run(self.kit.engine.work(id, wait=False))
        return self.kit.mailings.status(id)

    def send(self, id: int) -> Status:
        self.kit.mailings.send(id, dns=False)
        return self.work(id)

    def send_in_the_background(self, id: int, until: int) -> threading.Thread:
        """Begin, and return when so many were taken."""
        self.kit.mailings.send(id, dns=False)
        thread = threading.Thread(target=self.work, args=(id,))
        thread.start()
        end = time.monotonic() + 10
        while len(self.sink.accepted) < until and time.monotonic() < end:
            time.sleep(0.001)
        return thread

    @property
    def most(self) -> int:
        """How often anybody got it, at most."""
        return max(Counter(to for _, _, to in self.sink.accepted).values())

    def nonce(self, id: int) -> int:
        with self.kit.store.read() as connection:
            return int(connection.execute(select(mailings.c.nonce).where(mailings.c.id == id)).scalar_one())


@pytest.fixture
def school(tmp_path: Path) -> Iterator[School]:
    with Sink(delay=0.005) as sink:
        made = School(tmp_path, sink, ConsentKit(sending(tmp_path, sink.url)))
        made.kit.store.upgrade()
        hall.seats(made.kit, [(n + 1, {"name": f"Lezer {n + 1}"}, {"measuring": True}) for n in range(READERS)])
        yield made
        made.kit.close()


def test_a_backup_from_the_midst_of_a_mailing_sends_it_to_nobody_again_and_says_why(school: School) -> None:
    id = school.new()
    thread = school.send_in_the_background(id, until=10)
    school.back_up()
    thread.join(30)
    assert len(school.sink.accepted) == READERS

    school.put_back()
    status = school.work(id)
    school.restart()
    again = school.work(id)

    assert (status.mailing.state, status.mailing.note) == (MailingState.STOPPED, CAME_BACK)
    assert (again.mailing.state, again.mailing.note) == (MailingState.STOPPED, CAME_BACK)
    assert 0 < status.counts["sent"] < READERS
    assert (len(school.sink.accepted), school.most) == (READERS, 1)


@pytest.mark.parametrize("before", ["pause", "nothing"])
def test_a_mailing_that_a_person_takes_up_again_goes_to_those_who_are_still_queued(school: School, before: str) -> None:
    """Whether nothing had gone out by then, or the mailing was paused: resume and cancel are for a person to say."""
    id = school.new()
    school.kit.mailings.send(id, dns=False)
    if before == "pause":
        school.kit.mailings.pause(id)
    school.back_up()
    school.kit.mailings.resume(id)
    school.work(id)

    school.put_back()
    school.kit.afgemeld.open()
    stopped = school.work(id)
    school.kit.mailings.resume(id)
    done = school.work(id)

    assert (stopped.mailing.state, stopped.counts) == (MailingState.STOPPED, {"queued": READERS})
    assert (done.mailing.state, done.mailing.note, done.counts) == (MailingState.DONE, "", {"sent": READERS})
    assert school.most == 2


def test_a_draft_that_was_sent_by_then_is_cancelled_and_can_t_be_sent(school: School) -> None:
    id, other = school.new(), school.new()
    school.back_up()
    school.send(id)

    school.put_back()
    with pytest.raises(MailingError, match="is cancelled: make a new one"):
        school.kit.mailings.send(id, dns=False)
    status = school.work(id)

    assert (status.mailing.state, status.mailing.note) == (MailingState.CANCELLED, WAS_DRAFT)
    assert status.mailing.ended_at is not None
    assert school.kit.mailings.get(other).state is MailingState.DRAFT
    assert (len(school.sink.accepted), school.most) == (READERS, 1)


def test_a_mailing_that_the_database_lacks_altogether_is_told_of(
    school: School, caplog: pytest.LogCaptureFixture
) -> None:
    school.back_up()
    school.send(school.new())

    school.put_back()
    with caplog.at_level(logging.WARNING):
        school.kit.afgemeld.open()

    assert "mailing 1 was sent and is not in the database" in caplog.text


def test_an_ended_mailing_stays_as_it_was_after_a_backup_from_later(school: School) -> None:
    id = school.new()
    school.send(id)
    school.back_up()
    school.kit.afgemeld.add_sync("lezer1@school1.example", scope="marketing", reason="phone", channel="staff")

    school.put_back()
    school.kit.afgemeld.open()

    assert school.kit.mailings.get(id).state is MailingState.DONE
    assert school.kit.afgemeld.look_up("lezer1@school1.example", list="nieuwsbrief") is not None


# -- no false alarm ---------------------------------------------------------------------------------------------------


class Killed(BaseException):
    """The process ended here."""


@pytest.mark.parametrize("moment", ["before the line", "after the line", "before the database has the line"])
def test_a_crash_at_any_moment_of_a_mark_stops_no_mailing(
    school: School, moment: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    id = school.new()
    school.kit.mailings.send(id, dns=False)
    with monkeypatch.context() as patch:
        append, note = TombstoneFile.append, TombstoneFile.note

        def torn(self: TombstoneFile, lines: list[str], *, sync: bool = True) -> None:
            if moment == "after the line":
                append(self, lines, sync=sync)
            raise Killed

        if moment == "before the database has the line":
            school.kit.marks.note(id, 1)
            patch.setattr(TombstoneFile, "note", lambda self, connection: (note(self, connection), torn(self, [])))
            with pytest.raises(Killed):
                school.kit.afgemeld._put_right()
        else:
            patch.setattr(TombstoneFile, "append", torn)
            with pytest.raises(Killed):
                school.kit.marks.note(id, 1)

    school.restart()
    status = school.work(id)

    assert (status.mailing.state, status.counts) == (MailingState.DONE, {"sent": READERS})


def test_a_file_that_can_t_be_written_or_a_database_that_is_away_stops_no_mailing(
    school: School, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(self: TombstoneFile, lines: list[str], *, sync: bool = True) -> None:
        raise OSError(28, "No space left on device")

    school.kit.afgemeld.open()
    with caplog.at_level(logging.WARNING):
        with monkeypatch.context() as patch:
            patch.setattr(TombstoneFile, "append", full)
            first = school.send(school.new())
        with monkeypatch.context() as patch:
            patch.setattr(school.kit.store, "begin", away)
            school.kit.marks.note(first.mailing.id, 1)

    assert (first.mailing.state, first.counts) == (MailingState.DONE, {"sent": READERS})
    assert "an older backup could send a mailing again" in caplog.text
    assert f"mailing {first.mailing.id} can't be marked now: DatabaseUnavailable" in caplog.text


def away(**_: object) -> None:
    raise DatabaseUnavailable("away")


@pytest.mark.parametrize(("counted", "state"), [(2, MailingState.SENDING), (1, MailingState.STOPPED)])
def test_of_lines_that_two_processes_wrote_in_either_order_the_furthest_counts(
    tmp_path: Path, database_url: str, counted: int, state: MailingState
) -> None:
    kit = ConsentKit(sending(tmp_path, "smtp://127.0.0.1:1", database_url))
    kit.store.upgrade()
    id, other = (hall.mailing(kit, marks=counted, nonce=nonce) for nonce in (1, 2))
    for number in (2, 1):
        kit.afgemeld.mark(Mark(id, 1, number))

    kit.afgemeld.open()

    assert (kit.mailings.get(id).state, kit.mailings.get(other).state) == (state, MailingState.SENDING)
    kit.close()


# -- how often --------------------------------------------------------------------------------------------------------


def test_a_mark_is_made_at_the_first_release_then_now_and_then_and_at_the_end(
    school: School, monkeypatch: pytest.MonkeyPatch
) -> None:
    id, now = school.new(), [100.0]
    monkeypatch.setattr("consentkit.mailing.marks.time", SimpleNamespace(monotonic=lambda: now[0]))
    school.kit.afgemeld.open()
    made: list[int] = []

    def note(released: int, *, later: float = 0.0, last: bool = False) -> None:
        now[0] += later
        school.kit.marks.note(id, released, last=last)
        made.append(len(school.marks))

    note(0)
    note(1)
    note(MESSAGES - 1, later=SECONDS / 2)
    note(1)
    note(0, later=SECONDS)
    note(1)
    note(1, later=SECONDS - 1)
    note(0, later=1)
    note(0, last=True)
    note(1)
    note(2)
    note(0, last=True)

    assert made == [0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6]
    assert [one.number for one in school.marks] == [1, 2, 3, 4, 5, 6]
    assert {one[:2] for one in school.marks} == {(id, school.nonce(id))}


# -- numbers that come back -------------------------------------------------------------------------------------------


@dataclass
class Reused:
    """A mailing that got the number of one that a backup lacked, and the delivery to reader 7 in it."""

    id: int
    old: int
    new: int
    delivery: int


@pytest.fixture
def reused(school: School) -> Reused:
    school.back_up()
    before = school.kit.mailings.new(draft(measured=True))
    old = school.nonce(before)
    school.put_back()
    id = school.kit.mailings.new(draft(measured=True))
    school.send(id)
    assert before == id
    return Reused(id, old, school.nonce(id), hall.rows(school.kit, id)[7].id)


@pytest.mark.checklist("TRK-04")
def test_pixels_and_links_of_old_mail_are_about_nobody_who_got_the_number_later(school: School, reused: Reused) -> None:
    measuring, delivery = school.kit.measuring, reused.delivery
    nonces = (reused.old, reused.new)
    browser = TestClient(school.kit.wrap(app()), base_url="http://school.test")
    paths = [f"/privacy/o/{measuring.open_token(nonce, delivery)}" for nonce in nonces]
    paths += [f"/privacy/l/{measuring.click_token(reused.id, nonce, 0, delivery)}" for nonce in nonces]

    answers = [browser.get(path, headers={"User-Agent": PHONE}, follow_redirects=False) for path in paths]
    quiet = [measuring.quiet(measuring.quiet_token(nonce, delivery, hall.LIST)) for nonce in nonces]
    measuring.flush()

    assert [one.status_code for one in answers] == [200, 200, 404, 302]
    assert [(one.subscriber, one.measured) for one in quiet] == [(None, False), (7, True)]
    assert rows(school.kit, events.c.delivery_id, events.c.kind) == [(delivery, "click"), (delivery, "open")]


def test_a_bounce_or_an_exit_of_old_mail_is_about_its_reader_and_nobody_s_later_message(
    school: School, reused: Reused
) -> None:
    kit, other = school.kit, "lezer9@school0.example"
    token = kit.links.bounce_token(kit.afgemeld.keys.digest(other), reused.delivery)
    path = urlsplit(kit.unsubscribe_url(other, list=hall.LIST, delivery=reused.delivery)).path
    browser = TestClient(kit.wrap(app()), base_url="http://school.test")

    left = browser.post(path, data={"List-Unsubscribe": "One-Click"})
    taken = kit.inbox.take(Report(Kind.HARD, "5.1.1", "b1", (token,), addressed=True), "mail")
    kit.measuring.flush()

    assert (left.status_code, taken.outcome) == (200, Outcome.TAKEN)
    assert sorted((one.scope, one.mailing) for one in kit.afgemeld.all_of(other)) == [
        ("list:nieuwsbrief", None), ("mail", None),
    ]  # fmt: skip
    assert rows(kit, totals.c.kind) == []
    assert rows(kit, inbox.c.delivery_id) == [(None,)]
    assert hall.rows(kit, reused.id)[7].state == "sent"


def rows(kit: ConsentKit, *columns: Any) -> list[Any]:
    with kit.store.read() as connection:
        return [tuple(row) for row in connection.execute(select(*columns).order_by(*columns))]


def test_every_message_says_which_of_the_mailings_with_its_number_it_is_of(school: School) -> None:
    id = school.new()

    raw = school.kit.mailings.preview(id).raw

    assert f"Message-ID: <{id}.0.{school.nonce(id)}@delinde.example>\r\n".encode() in raw
