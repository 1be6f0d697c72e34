"""The release: what may be handed over, to whom, once; and what a dead sender leaves behind."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select, update
from sqlalchemy.exc import OperationalError

from consentkit.afgemeld import Reason
from consentkit.errors import AfgemeldUnavailable
from consentkit.mailing import audience
from consentkit.mailing.pace import Limits
from consentkit.mailing.release import Release, Run, Step, take_over
from consentkit.mailing.states import BACKOFF, DeliveryState, MailingState, Outcome, sent
from consentkit.mailing.tables import mailings
from consentkit.newsletter import Aim, Readers
from consentkit.newsletter.tables import subscribers, subscriptions
from tests.mailing import hall
from tests.newsletter import desk as desks
from tests.newsletter.desk import Desk

AIM = Aim(list="nieuwsbrief")


class Sender:
    """One sender: a release and its way through one mailing."""

    def __init__(
        self, desk: Desk, mailing: int, *, name: str = "one", limits: Limits | None = None, **run: Any
    ) -> None:
        self.desk = desk
        self.release = Release(desk.kit.store, Readers(desk.kit.afgemeld), limits=limits or Limits(), stop_after=3)
        self.run = Run(mailing, AIM, name, **run)

    def step(self, *outcomes: Outcome, room: int = 10, under_way: Sequence[int] = ()) -> Step:
        return self.release.step(self.run, outcomes, room=room, now=self.desk.kit.now(), under_way=under_way)


def frozen(desk: Desk, count: int, **row: Any) -> int:
    """A mailing to so many, ready to be sent."""
    hall.seats(desk.kit, [(number + 1, {}, {}) for number in range(count)])
    mailing = hall.mailing(desk.kit, **row)
    with desk.kit.store.begin() as connection:
        audience.freeze(connection, Readers(desk.kit.afgemeld), mailing, AIM, desk.kit.now())
    return mailing


def leave(desk: Desk, number: int, list: str | None = "nieuwsbrief") -> None:
    leaving = desk.kit.links.read(desk.kit.links.token(f"lezer{number}@school{number % 3}.example", list))
    desk.kit.newsletter.leave(leaving, reason=Reason.UNSUBSCRIBE, channel="page")


def readers(step: Step) -> Sequence[int]:
    return [one.reader.id for one in step.released]


def test_as_many_are_released_as_there_is_room_for_and_each_once(both: Desk) -> None:
    sender = Sender(both, frozen(both, 5))

    first = sender.step(room=2)
    second = sender.step(*(sent(one.delivery) for one in first.released), room=2)
    third = sender.step(*(sent(one.delivery) for one in second.released), room=2)
    last = sender.step(*(sent(one.delivery) for one in third.released), room=2)

    assert [readers(step) for step in (first, second, third, last)] == [[1, 2], [3, 4], [5], []]
    assert last.state is MailingState.DONE
    assert set(hall.states(both.kit, sender.run.mailing).values()) == {"sent"}


@pytest.mark.checklist("UNS-04", "NEW-04")
@pytest.mark.parametrize("list", ["nieuwsbrief", None])
def test_who_leaves_after_the_freeze_is_not_released(both: Desk, list: str | None) -> None:
    sender = Sender(both, frozen(both, 4))
    sender.step(room=1)  # the others are claimed by now

    leave(both, 3, list)
    released = sender.step()

    assert readers(released) == [2, 4]
    assert hall.rows(both.kit, sender.run.mailing)[3].reason == "afgemeld"
    assert hall.states(both.kit, sender.run.mailing)[3] == "suppressed"


@pytest.mark.checklist("UNS-04")
def test_whoever_loses_the_subscription_or_the_address_is_not_released(both: Desk) -> None:
    sender = Sender(both, frozen(both, 3))
    both.kit.newsletter.erase_address("lezer1@school1.example")
    both.clock.later(days=3650)  # the consent of the others ran out

    released = sender.step()

    assert readers(released) == []
    assert {row.reason for row in hall.rows(both.kit, sender.run.mailing).values()} <= {"erased", "expired", "afgemeld"}


def test_who_leaves_a_message_that_waits_for_another_try_does_not_get_it(both: Desk) -> None:
    sender = Sender(both, frozen(both, 1))
    (one,) = sender.step().released
    later = both.kit.now() + BACKOFF[0]
    sender.step(Outcome(one.delivery, DeliveryState.DEFERRED, "450", due_at=later, tried=True))

    leave(both, 1)
    both.clock.later(minutes=2)

    assert sender.step().released == ()
    assert hall.states(both.kit, sender.run.mailing) == {1: "suppressed"}


def test_a_message_that_waits_is_tried_when_it_is_due_and_not_before(both: Desk) -> None:
    sender = Sender(both, frozen(both, 1))
    (one,) = sender.step().released
    later = both.kit.now() + BACKOFF[0]

    waiting = sender.step(Outcome(one.delivery, DeliveryState.DEFERRED, "450 4.7.1 at RCPT", due_at=later, tried=True))
    both.clock.later(minutes=1)
    (again,) = sender.step().released

    assert (waiting.released, waiting.state) == ((), MailingState.SENDING)
    assert waiting.again is not None
    assert (again.delivery, again.tries) == (one.delivery, 1)


def test_without_the_afgemeld_key_nothing_is_released_and_nothing_changes(both: Desk) -> None:
    mailing = frozen(both, 2)
    keyless = both.kit.afgemeld.__class__(
        both.kit.store, None, tombstones=both.kit.settings.path("t"), clock=both.kit.now
    )
    release = Release(both.kit.store, Readers(keyless), limits=Limits(), stop_after=3)

    with pytest.raises(AfgemeldUnavailable):
        release.step(Run(mailing, AIM, "one"), (), room=5, now=both.kit.now())

    assert hall.states(both.kit, mailing) == {1: "queued", 2: "queued"}


def test_two_senders_never_get_the_same_message(both: Desk) -> None:
    mailing = frozen(both, 6)
    one, other = Sender(both, mailing, name="one"), Sender(both, mailing, name="other")

    first = one.step(room=2)
    second = other.step(room=10)

    assert readers(first) == [1, 2]
    assert readers(second) == []  # all six are claimed by the first
    assert len(one.run.claims) == 4


def test_parts_of_a_mailing_are_disjoint_and_whole(both: Desk) -> None:
    mailing = frozen(both, 7)
    parts = [Sender(both, mailing, name=str(part), part=part, parts=3) for part in range(3)]

    got = [number for sender in parts for number in readers(sender.step())]

    assert sorted(got) == [1, 2, 3, 4, 5, 6, 7]


def test_of_a_dead_sender_the_claimed_go_on_and_the_released_are_in_doubt(both: Desk) -> None:
    mailing = frozen(both, 5)
    dead, heir = Sender(both, mailing, name="dead"), Sender(both, mailing, name="heir")
    dead.step(room=2)

    with both.kit.store.begin() as connection:
        doubt = take_over(connection, mailing, "dead", both.kit.now())
    released = heir.step()
    done = heir.step(*(sent(one.delivery) for one in released.released))

    assert doubt == 2
    assert readers(released) == [3, 4, 5]
    assert done.state is MailingState.DONE
    assert hall.states(both.kit, mailing) == {1: "in_doubt", 2: "in_doubt", 3: "sent", 4: "sent", 5: "sent"}


def test_a_sender_wrongly_taken_for_dead_still_tells_what_it_sent_and_releases_nothing_more(both: Desk) -> None:
    mailing = frozen(both, 4)
    slow = Sender(both, mailing, name="slow")
    first, second = slow.step(room=2).released
    with both.kit.store.begin() as connection:
        take_over(connection, mailing, "slow", both.kit.now())
    heir = Sender(both, mailing, name="heir")
    taken = heir.step()

    mine = slow.step(sent(first.delivery), room=10)

    assert readers(taken) == [3, 4]
    assert readers(mine) == []
    assert hall.states(both.kit, mailing) == {1: "sent", 2: "in_doubt", 3: "sending", 4: "sending"}
    assert second.reader.id == 2


def test_nobody_else_s_word_about_a_message_counts(both: Desk) -> None:
    mailing = frozen(both, 1)
    (one,) = Sender(both, mailing, name="one").step().released

    Sender(both, mailing, name="stranger").step(sent(one.delivery))

    assert hall.states(both.kit, mailing) == {1: "sending"}


def test_refusals_in_a_row_stop_a_mailing_and_one_that_went_begins_the_count_anew(both: Desk) -> None:
    mailing = frozen(both, 8)
    sender = Sender(both, mailing)

    def refused(id: int) -> Outcome:
        return Outcome(id, DeliveryState.FAILED, "550 5.7.1 at RCPT", tried=True, refused=True)

    a, b, c, d, e, f = (one.delivery for one in sender.step(room=6).released)
    going = sender.step(refused(a), refused(b), sent(c), room=0)
    stopped = sender.step(refused(d), refused(e), refused(f), room=0)

    assert going.state is MailingState.SENDING
    assert stopped.state is MailingState.STOPPED
    note = both.kit.mailings.get(mailing).note
    assert note == "too many messages were refused in a row, the last with 550 5.7.1 at RCPT"
    sender.step()
    assert hall.states(both.kit, mailing)[7] == "queued"  # put back, for when it goes on


def test_after_its_time_a_mailing_sends_nothing_more(both: Desk) -> None:
    mailing = frozen(both, 3, not_after=both.kit.now() + timedelta(hours=1))
    sender = Sender(both, mailing)
    (one,) = sender.step(room=1).released

    both.clock.later(hours=2)
    over = sender.step(sent(one.delivery))

    assert (over.released, over.state) == ((), MailingState.EXPIRED)
    assert hall.states(both.kit, mailing) == {1: "sent", 2: "expired", 3: "expired"}


def test_before_its_time_a_mailing_waits(both: Desk) -> None:
    start = both.kit.now() + timedelta(hours=1)
    sender = Sender(both, frozen(both, 1, start_at=start))

    early = sender.step()
    both.clock.later(hours=1)

    assert (early.released, early.again) == ((), start)
    assert readers(sender.step()) == [1]


@pytest.mark.parametrize("state", ["paused", "stopped"])
def test_a_paused_mailing_releases_nothing_and_lets_go_of_what_it_held(both: Desk, state: str) -> None:
    mailing = frozen(both, 3)
    sender = Sender(both, mailing)
    (one,) = sender.step(room=1).released
    with both.kit.store.begin() as connection:
        connection.execute(update(mailings).where(mailings.c.id == mailing).values(state=state))

    quiet = sender.step(sent(one.delivery))

    assert (quiet.released, quiet.state) == ((), MailingState(state))
    assert hall.states(both.kit, mailing) == {1: "sent", 2: "queued", 3: "queued"}


def test_a_limit_per_second_and_hour_holds_across_senders(both: Desk) -> None:
    mailing, start = frozen(both, 9), both.kit.now()
    limits = Limits(per_second=2, per_hour=5)
    one = Sender(both, mailing, name="one", limits=limits)
    other = Sender(both, mailing, name="other", limits=limits)

    counts = []
    for _ in range(3):
        counts.append(len(other.step().released) + len(one.step(room=3).released) + len(other.step().released))
        both.clock.later(seconds=1)
    both.clock.later(seconds=1)
    full = other.step()
    both.clock.later(hours=1)

    assert counts == [2, 2, 1]
    assert (full.released, full.again) == ((), start + timedelta(hours=1))
    assert len(one.step().released) + len(other.step().released) == 2


def test_a_limit_per_domain_holds_back_that_domain_only(both: Desk) -> None:
    mailing = frozen(both, 6)  # two of each of three schools
    sender = Sender(both, mailing, limits=Limits(domains={"school1.example": 1}))

    first = sender.step()
    both.clock.later(hours=1)
    rest = sender.step(*(sent(one.delivery) for one in first.released))

    assert sorted(readers(first)) == [1, 2, 3, 5, 6]
    assert readers(rest) == [4]


def test_a_service_message_reaches_who_left_the_list_and_nobody_who_gets_no_mail(both: Desk) -> None:
    hall.seats(both.kit, [(number, {}, {}) for number in (1, 2, 3)])
    aim = Aim(list="nieuwsbrief", service=True)
    mailing = hall.mailing(both.kit, purpose="service")
    with both.kit.store.begin() as connection:
        audience.freeze(connection, Readers(both.kit.afgemeld), mailing, aim, both.kit.now())
    leave(both, 1)
    both.kit.afgemeld.add_sync("lezer2@school2.example", scope="mail", reason=Reason.HARD_BOUNCE, channel="bounce")
    sender = Sender(both, mailing)
    sender.run.aim = aim

    released = sender.step()

    assert readers(released) == [1, 3]


@pytest.mark.parametrize("rooms", [(1, 2, 2, 3, 3, 3), (10, 10), (7, 10, 10)])
def test_after_it_was_taken_for_dead_a_sender_releases_each_message_once_however_often_it_asks(
    both: Desk, rooms: Sequence[int]
) -> None:
    mailing = frozen(both, 8)
    slow = Sender(both, mailing, name="slow")
    slow.step(room=2)  # two are under way, six are claimed
    with both.kit.store.begin() as connection:
        take_over(connection, mailing, "slow", both.kit.now())

    got = [number for room in rooms for number in readers(slow.step(room=room))]

    assert sorted(got) == [3, 4, 5, 6, 7, 8]


def test_a_commit_whose_answer_got_lost_costs_nobody_the_message(both: Desk) -> None:
    mailing = frozen(both, 6)
    sender = Sender(both, mailing)
    both.kit.afgemeld.open()
    dialect = both.kit.store.engine.dialect
    commit = dialect.do_commit
    commits = 0

    def lost(connection: Any) -> None:
        nonlocal commits
        commit(connection)
        commits += 1
        if commits == 2:  # first the claim, then the release
            raise OperationalError("COMMIT", None, Exception("server closed the connection unexpectedly"))

    dialect.do_commit = lost  # type: ignore[method-assign]
    try:
        with pytest.raises(OperationalError):
            sender.step(room=2)
    finally:
        dialect.do_commit = commit  # type: ignore[method-assign]
    assert list(hall.states(both.kit, mailing).values()).count("sending") == 2

    got: list[int] = []
    outcomes: tuple[Outcome, ...] = ()
    for _ in range(5):
        step = sender.step(*outcomes, room=2)
        got += readers(step)
        outcomes = tuple(sent(one.delivery) for one in step.released)

    assert sorted(got) == [1, 2, 3, 4, 5, 6]
    assert step.state is MailingState.DONE


def test_what_is_under_way_is_not_given_back_when_a_sender_makes_sure(both: Desk) -> None:
    mailing = frozen(both, 3)
    sender = Sender(both, mailing)
    (one,) = sender.step(room=1).released
    sender.run.unsure = True

    again = sender.step(room=5, under_way=[one.delivery])

    assert readers(again) == [2, 3]
    assert hall.states(both.kit, mailing) == {1: "sending", 2: "sending", 3: "sending"}


@pytest.mark.postgres
def test_a_mailing_is_not_done_while_another_sender_is_about_to_have_its_messages(
    postgres_url: str, tmp_path: Path
) -> None:
    with desks.desk(tmp_path, database={"url": postgres_url}) as desk:
        early = []
        for number in range(6):
            mailing = hall.mailing(desk.kit)
            if number == 0:
                hall.seats(desk.kit, [(reader + 1, {}, {}) for reader in range(60)])
            with desk.kit.store.begin() as connection:
                audience.freeze(connection, Readers(desk.kit.afgemeld), mailing, AIM, desk.kit.now())
            gate = threading.Barrier(2)

            def first_step(name: str, mailing: int = mailing, gate: threading.Barrier = gate) -> MailingState:
                sender = Sender(desk, mailing, name=name)
                gate.wait()
                return sender.step(room=2).state

            with ThreadPoolExecutor(2) as both_at_once:
                early += list(both_at_once.map(first_step, ("one", "other")))

    assert MailingState.DONE not in early


@pytest.mark.postgres
@pytest.mark.checklist("TRK-03")
def test_a_withdrawal_that_the_release_had_to_wait_for_counts(postgres_url: str, tmp_path: Path) -> None:
    with desks.desk(tmp_path, database={"url": postgres_url}) as desk:
        mailing = frozen(desk, 2, measured=True)
        with desk.kit.store.begin() as connection:
            connection.execute(update(subscriptions).values(measuring=True))
        sender = Sender(desk, mailing, measured=True)
        got: list[Step] = []
        with desk.kit.store.begin() as connection:
            connection.execute(select(subscribers.c.id).where(subscribers.c.id == 1).with_for_update()).all()
            waiting = threading.Thread(target=lambda: got.append(sender.step()))
            waiting.start()
            waiting.join(0.5)
            assert waiting.is_alive()
            connection.execute(update(subscriptions).where(subscriptions.c.subscriber_id == 1).values(measuring=False))
        waiting.join(10)

    assert [one.reader.measuring for one in got[0].released] == [False, True]


def test_answers_that_come_after_a_cancel_leave_nothing_waiting(both: Desk) -> None:
    mailing = frozen(both, 3)
    sender = Sender(both, mailing)
    a, b, c = (one.delivery for one in sender.step().released)
    both.kit.mailings.cancel(mailing)

    later = Outcome(a, DeliveryState.DEFERRED, "450", due_at=both.kit.now() + timedelta(minutes=1), tried=True)
    sender.step(later, Outcome(b, DeliveryState.QUEUED, due_at=both.kit.now()), sent(c))

    assert hall.states(both.kit, mailing) == {1: "cancelled", 2: "cancelled", 3: "sent"}


def test_what_a_dead_sender_left_of_a_cancelled_mailing_is_listed_as_in_doubt(both: Desk) -> None:
    mailing = frozen(both, 3)
    Sender(both, mailing, name="dead").step(room=2)
    both.kit.mailings.cancel(mailing)

    doubt = both.kit.mailings.take_over(lambda holder: holder == "dead")

    assert doubt == len(both.kit.mailings.status(mailing).in_doubt) == 2
    assert hall.states(both.kit, mailing) == {1: "in_doubt", 2: "in_doubt", 3: "cancelled"}


def test_a_full_domain_is_put_off_and_the_others_go_on_at_once(both: Desk) -> None:
    mailing = frozen(both, 30)
    sender = Sender(both, mailing, limits=Limits(domains={"school1.example": 1, "school2.example": 1}))

    got: list[int] = []
    outcomes: tuple[Outcome, ...] = ()
    for _ in range(30):
        step = sender.step(*outcomes, room=2)
        got += readers(step)
        outcomes = tuple(sent(one.delivery) for one in step.released)
        if not step.busy and not outcomes:
            break

    assert [number for number in sorted(got) if number % 3 == 0] == [3, 6, 9, 12, 15, 18, 21, 24, 27, 30]
    assert len(got) == 12
    assert step.again is not None


@pytest.mark.postgres
def test_a_pause_that_returned_is_kept_by_a_step_that_had_begun(postgres_url: str, tmp_path: Path) -> None:
    with desks.desk(tmp_path, database={"url": postgres_url}) as desk:
        mailing = frozen(desk, 4)
        sender = Sender(desk, mailing)
        sender.step(room=1)
        begun = threading.Event()
        asked = sender.release._readers.release

        def slow(*arguments: Any) -> Any:
            begun.set()
            time.sleep(0.3)
            return asked(*arguments)

        sender.release._readers.release = slow  # type: ignore[method-assign]
        stepping = threading.Thread(target=lambda: sender.step(room=1))
        stepping.start()
        begun.wait(5)
        desk.kit.mailings.pause(mailing)  # waits for the step
        then = hall.states(desk.kit, mailing)
        stepping.join(5)

        assert list(then.values()).count("sending") == 2
        assert readers(sender.step()) == []
