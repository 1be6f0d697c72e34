"""What came back and what follows from it: once, for exactly whom our tokens name, and lost in no failure."""

from __future__ import annotations

import json
import logging
import re
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pytest
import typer
from sqlalchemy import select
from typer.testing import CliRunner

from consentkit.address import AddressKeys
from consentkit.afgemeld import Links
from consentkit.afgemeld.intake import Outcome
from consentkit.cli import intake as command
from consentkit.errors import AfgemeldUnavailable
from consentkit.mail import Stage
from consentkit.mailing.bounces import Kind, Report
from consentkit.mailing.inbox import Inbox, Receipt, Score, scored, weight
from consentkit.mailing.tables import deliveries, inbox, mailings, scores
from consentkit.newsletter.tables import subscribers, subscriptions
from tests.afgemeld.test_intake import StandIn, serve  # noqa: F401  # a fixture
from tests.newsletter import desk as desks
from tests.newsletter.desk import AFGEMELD_KEY, JAN, Desk

CASES = Path(__file__).parents[1] / "cases" / "bounces"
MAILING, DELIVERY = 7, 41


@dataclass
class Office:
    """A school whose mailing 7 has gone out: to Jan as delivery 41."""

    desk: Desk

    @property
    def inbox(self) -> Inbox:
        return self.desk.kit.inbox

    @property
    def links(self) -> Links:
        return self.desk.kit.links

    def mail(self, name: str, address: str = JAN, delivery: int = DELIVERY) -> bytes:
        digest = self.desk.kit.afgemeld.keys.digest(address)
        raw = (CASES / f"{name}.eml").read_bytes()
        raw = raw.replace(b"BOUNCE-TOKEN", self.links.bounce_token(digest, delivery).encode())
        return raw.replace(b"LEAVE-TOKEN", self.links.token(address, "nieuwsbrief", delivery=delivery).encode())

    def take(self, name: str, address: str = JAN) -> Receipt:
        receipt = self.inbox.take_mail(self.mail(name, address))
        assert receipt is not None
        return receipt

    def soft(self, status: str = "5.2.1", address: str = JAN) -> Receipt:
        """One more soft bounce, unlike any before."""
        now = self.desk.clock().isoformat().encode()
        raw = self.mail("gmail-disabled", address).replace(b"5.2.1", status.encode())
        receipt = self.inbox.take_mail(raw.replace(b"Date:", b"X-At: " + now + b"\nDate:", 1))
        assert receipt is not None
        return receipt

    def left(self, address: str = JAN) -> list[tuple[str, str, str, str | None]]:
        found = self.desk.kit.afgemeld.all_of(address)
        return sorted((one.scope, str(one.reason), one.channel, one.mailing) for one in found)

    def rows(self, table: Any, *columns: str) -> list[Any]:
        with self.desk.kit.store.read() as connection:
            return [tuple(row) for row in connection.execute(select(*(table.c[name] for name in columns)))]

    def delivery(self) -> tuple[str, str, str | None]:
        (row,) = self.rows(deliveries, "state", "reason", "holder")
        return row


@pytest.fixture
def office(tmp_path: Path) -> Iterator[Office]:
    """On SQLite."""
    with desks.desk(tmp_path) as desk:
        yield opened(desk)


@pytest.fixture
def both(database_url: str, tmp_path: Path) -> Iterator[Office]:
    """On SQLite and on PostgreSQL."""
    with desks.desk(tmp_path, database={"url": database_url}) as desk:
        yield opened(desk)


def opened(desk: Desk) -> Office:
    desk.subscribe()
    now = desk.clock()
    sent = {
        "id": MAILING, "site": "s", "list": "nieuwsbrief", "purpose": "marketing", "language": "nl", "subject": "s",
        "preheader": "", "sender": "s", "reply_to": "", "content": "{}", "measured": False, "state": "done", "note": "",
        "created_at": now, "failed_in_row": 0,
    }  # fmt: skip
    with desk.kit.store.begin() as connection:
        (person,) = connection.execute(select(subscribers.c.id)).scalars()
        connection.execute(mailings.insert().values(sent))
        values = {"id": DELIVERY, "mailing_id": MAILING, "subscriber_id": person, "state": "sent", "reason": ""}
        connection.execute(deliveries.insert().values(**values, tries=1, measured=False, at=now))
    return Office(desk)


def set_state(office: Office, state: str, holder: str | None = None) -> None:
    with office.desk.kit.store.begin() as connection:
        connection.execute(deliveries.update().values(state=state, holder=holder))


GONE = [("mail", "hard-bounce", "bounce", "7")]


# -- what follows -----------------------------------------------------------------------------------------------------


def test_a_mailbox_that_is_not_there_gets_no_mail_any_more_and_the_delivery_has_failed(both: Office) -> None:
    assert both.take("postfix-no-mailbox") == Receipt(Outcome.TAKEN, 1, Kind.HARD, "5.1.1")

    assert both.left() == GONE
    assert both.desk.kit.afgemeld.look_up(JAN, service=True) is not None
    assert both.rows(subscriptions, "state") == [("bounced",)]
    assert both.delivery() == ("failed", "bounced 5.1.1", None)
    assert both.rows(inbox, "source", "kind", "delivery_id", "status") == [("mail", "hard", DELIVERY, "5.1.1")]


def test_the_same_bounce_again_changes_nothing(both: Office) -> None:
    assert both.take("gmail-disabled").outcome is Outcome.TAKEN
    before = both.rows(scores, "score", "day")

    both.desk.clock.later(days=1)
    assert both.take("gmail-disabled") == Receipt(Outcome.KNOWN, 0, Kind.SOFT, "5.2.1")
    assert both.rows(scores, "score", "day") == before == [(1.0, both.desk.clock().date() - timedelta(days=1))]


def test_the_same_bounce_four_times_at_once_is_taken_once(both: Office) -> None:
    raw, found = both.mail("gmail-disabled"), list[Outcome]()

    def take() -> None:
        receipt = both.inbox.take_mail(raw)
        assert receipt is not None
        found.append(receipt.outcome)

    threads = [threading.Thread(target=take) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sorted(found) == ["known", "known", "known", "taken"]
    assert both.rows(scores, "score") == [(1.0,)]


def test_a_complaint_stops_marketing_and_no_service_mail(both: Office) -> None:
    assert both.take("yahoo-complaint") == Receipt(Outcome.TAKEN, 1, Kind.COMPLAINT)

    assert both.left() == [("marketing", "complaint", "complaint", "7")]
    assert both.desk.kit.afgemeld.look_up(JAN, service=True) is None
    assert both.delivery() == ("sent", "", None)


def test_who_left_at_the_provider_has_left(office: Office) -> None:
    assert office.take("complaint-opt-out").new == 1
    assert office.left() == [("marketing", "unsubscribe", "provider", "7")]


@pytest.mark.parametrize("name", ["postfix-too-large", "gmail-unauthenticated", "postfix-said-two-things"])
def test_a_policy_says_nothing_about_the_mailbox(office: Office, name: str) -> None:
    receipt = office.take(name)

    assert (receipt.outcome, receipt.new, office.left()) == (Outcome.TAKEN, 0, [])
    assert office.rows(scores, "score") == []
    assert office.delivery() == ("failed", f"bounced {receipt.status}", None)


@pytest.mark.parametrize(
    "name", ["postfix-delayed", "postfix-relayed", "complaint-not-spam", "out-of-office", "out-of-office-old"]
)
def test_nothing_follows_from_a_delay_an_arrival_or_an_automatic_answer(office: Office, name: str) -> None:
    receipt = office.take(name)

    assert receipt.outcome is Outcome.IGNORED
    assert not receipt.needs_a_person
    assert (office.left(), office.rows(inbox, "key"), office.delivery()[0]) == ([], [], "sent")


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("sent", "failed"),
        ("sending", "failed"),
        ("in_doubt", "failed"),
        ("queued", "queued"),
        ("cancelled", "cancelled"),
    ],
)
def test_only_what_was_handed_over_can_come_back(office: Office, before: str, after: str) -> None:
    set_state(office, before, holder="worker")

    office.take("postfix-no-mailbox")

    assert office.delivery()[0] == after
    assert office.left() == GONE


def test_a_bounce_is_honoured_after_mailing_and_subscriber_are_gone(office: Office) -> None:
    with office.desk.kit.store.begin() as connection:
        connection.execute(deliveries.delete())
        connection.execute(mailings.delete())
    office.desk.kit.newsletter.erase_address(JAN)

    assert office.take("postfix-no-mailbox").outcome is Outcome.TAKEN
    assert ("mail", "hard-bounce", "bounce", None) in office.left()


# -- whom it is about -------------------------------------------------------------------------------------------------


def test_the_token_of_the_enclosed_message_names_the_mailbox_too(office: Office) -> None:
    assert office.take("token-in-headers-only").outcome is Outcome.TAKEN
    assert office.left() == GONE


def test_a_link_to_leave_with_does_no_more_than_leave_also_in_a_bounce(office: Office) -> None:
    """Who was forwarded a newsletter holds it, and could write a bounce around it."""
    assert office.take("link-in-headers-only").outcome is Outcome.TAKEN
    assert office.left() == [("marketing", "hard-bounce", "bounce", "7")]


FORGED: dict[str, Callable[[Office], bytes]] = {
    "another key": lambda office: office.mail("postfix-no-mailbox").replace(
        office.links.bounce_token(office.desk.kit.afgemeld.keys.digest(JAN), DELIVERY).encode(),
        Links(AddressKeys([b"x" * 40])).bounce_token(b"\1" * 16, DELIVERY).encode(),
    ),
    "one sign": lambda office: re.sub(
        rb"\+(.)", lambda found: b"+b" if found[1] != b"b" else b"+c", office.mail("gmail-full")
    ),
    "forged in the address, genuine inside": lambda office: office.mail("token-in-headers-only").replace(
        b"To: nieuws@", b"To: bounces+" + b"a" * 52 + b"@"
    ),
}  # fmt: skip


@pytest.mark.parametrize("how", FORGED)
def test_a_forged_token_is_never_obeyed_and_is_told(office: Office, how: str) -> None:
    receipt = office.inbox.take_mail(FORGED[how](office))

    assert receipt is not None
    assert receipt.outcome is Outcome.FORGED
    assert receipt.needs_a_person
    assert (office.left(), office.rows(inbox, "key"), office.delivery()[0]) == ([], [], "sent")


def test_a_complaint_that_names_nobody_by_a_token_waits_for_a_person(office: Office) -> None:
    """Its `Message-ID` and its `Original-Rcpt-To` anybody could have written."""
    receipt = office.take("complaint-redacted")

    assert receipt.outcome is Outcome.UNCLEAR
    assert receipt.needs_a_person
    assert office.left() == office.left("ander@thuis.example") == office.rows(inbox, "key") == []


def test_a_letter_to_the_address_of_bounces_waits_for_a_person(office: Office) -> None:
    assert office.take("letter").outcome is Outcome.UNCLEAR
    assert office.left() == []


def test_what_is_neither_a_report_nor_sent_to_the_address_of_bounces_is_left_to_others(office: Office) -> None:
    assert office.inbox.take_mail(b"To: afmelden@delinde.example\nSubject: haal me eraf\n\n") is None
    assert office.inbox.take_mail(b"To: afmelden@delinde.example\nAuto-Submitted: auto-replied\n\n") is None


def test_under_a_wrong_key_a_bounce_is_kept_rather_than_called_forged(tmp_path: Path) -> None:
    with desks.desk(tmp_path) as desk:
        raw = opened(desk).mail("postfix-no-mailbox")
    with desks.desk(tmp_path, afgemeld_keys=[AFGEMELD_KEY[::-1]]) as desk, pytest.raises(AfgemeldUnavailable):
        desk.kit.inbox.take_mail(raw)


# -- the score --------------------------------------------------------------------------------------------------------

D = date(2026, 11, 22)
WEEK = timedelta(days=7)


@pytest.mark.parametrize(
    ("before", "counts", "day", "after"),
    [
        (None, 1.0, D, Score(1.0, D)),
        (None, 0.5, D, Score(0.5, D)),
        (Score(1.0, D), 1.0, D, Score(1.0, D)),
        (Score(0.5, D), 1.0, D, Score(0.5, D)),
        (Score(1.0, D), 1.0, D + timedelta(days=1), Score(2.0, D + timedelta(days=1))),
        (Score(4.5, D), 0.5, D + WEEK, Score(5.0, D + WEEK)),
        (Score(4.5, D), 1.0, D + timedelta(days=8), Score(1.0, D + timedelta(days=8))),
        (Score(2.0, D), 1.0, D - timedelta(days=1), Score(2.0, D)),
    ],
)
def test_the_first_bounce_of_a_day_counts_and_a_stale_score_starts_anew(
    before: Score | None, counts: float, day: date, after: Score
) -> None:
    assert scored(before, counts, day, WEEK) == after


@pytest.mark.parametrize(("status", "counts"), [("5.0.0", 1), ("5.2.1", 1), ("5.2.2", 0.5), ("4.4.1", 0), ("4.2.2", 0)])
def test_a_full_mailbox_counts_half_and_a_server_that_gave_up_nothing(status: str, counts: float) -> None:
    assert weight(status) == counts


def test_a_mailbox_that_fails_on_five_days_counts_as_gone(both: Office) -> None:
    for _ in range(4):
        assert both.soft().new == 0
        both.desk.clock.later(days=1)
    assert (both.left(), both.rows(scores, "score")) == ([], [(4.0,)])

    assert both.soft() == Receipt(Outcome.TAKEN, 1, Kind.SOFT, "5.2.1")
    assert (both.left(), both.rows(scores, "score")) == (GONE, [])


def test_limit_and_memory_can_be_set(tmp_path: Path) -> None:
    with desks.desk(tmp_path, mailing={"bounce_limit": 2, "bounce_stale": "40 days"}) as desk:
        office = opened(desk)
        office.soft()
        desk.clock.later(days=35)

        assert office.soft().new == 1


# -- what the mail server answered ------------------------------------------------------------------------------------


def test_a_refusal_in_the_conversation_is_taken_as_a_bounce_is(both: Office) -> None:
    key = both.desk.kit.afgemeld.keys.newest
    digest = both.desk.kit.afgemeld.keys.digest(JAN)
    set_state(both, "failed")

    def refused(delivery: int, code: int, status: str, stage: Stage = Stage.RCPT) -> Receipt:
        return both.inbox.refused(digest, key.id, delivery, code, status, stage)

    assert refused(40, 550, "5.1.1", Stage.MAIL).outcome is Outcome.IGNORED
    assert refused(42, 550, "5.7.1") == Receipt(Outcome.TAKEN, 0, Kind.POLICY, "5.7.1")
    assert refused(43, 552, "") == Receipt(Outcome.TAKEN, 0, Kind.SOFT, "5.2.2")
    assert (both.left(), both.rows(scores, "score")) == ([], [(0.5,)])

    assert refused(DELIVERY, 550, "5.1.1") == Receipt(Outcome.TAKEN, 1, Kind.HARD, "5.1.1")
    assert refused(DELIVERY, 550, "5.1.1").outcome is Outcome.KNOWN
    assert both.left() == GONE


# -- nothing is lost, nothing is kept too long ------------------------------------------------------------------------


def test_when_it_can_t_be_stored_nothing_of_it_is_and_it_can_be_given_again(office: Office) -> None:
    with office.desk.kit.store.begin() as connection:
        connection.exec_driver_sql("ALTER TABLE delivery RENAME TO away")
    with pytest.raises(AfgemeldUnavailable):
        office.take("postfix-no-mailbox")
    with office.desk.kit.store.begin() as connection:
        connection.exec_driver_sql("ALTER TABLE away RENAME TO delivery")

    assert (office.left(), office.rows(inbox, "key")) == ([], [])
    assert office.take("postfix-no-mailbox").outcome is Outcome.TAKEN


def test_what_was_taken_is_forgotten_after_its_time_and_stale_scores_too(office: Office) -> None:
    office.soft()
    office.desk.clock.later(days=89)
    office.take("gmail-full")
    purge = office.inbox.purge

    assert purge(office.desk.clock(), keep=timedelta(days=90)) == 0
    office.desk.clock.later(days=2)
    assert purge(office.desk.clock(), keep=timedelta(days=90), dry_run=True) == 1
    assert purge(office.desk.clock(), keep=timedelta(days=90)) == 1
    assert (office.rows(inbox, "status"), office.rows(scores, "score")) == ([("5.2.2",)], [(0.5,)])
    assert purge(office.desk.clock(), keep=timedelta()) == 0  # a provider may still say the same again
    office.desk.clock.later(seconds=1)
    assert purge(office.desk.clock(), keep=timedelta()) == 1


@pytest.mark.checklist("SEC-05")
def test_neither_addresses_nor_tokens_reach_log_answer_or_inbox(
    office: Office, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.clear()
    with caplog.at_level(logging.DEBUG):
        names = ("gmail-full", "yahoo-complaint", "complaint-redacted", "letter")
        told = "".join(f"{receipt}{receipt!r}" for receipt in map(office.take, names))
    kept = office.rows(inbox, "key", "source", "kind", "delivery_id", "status")

    assert not re.search(r"thuis|voorbeeld|bounces\+|afmelden/", f"{told}{caplog.text}{kept}")


# -- the command ------------------------------------------------------------------------------------------------------


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """`consentkit afgemeld intake` on the school's own database."""
    (tmp_path / "consentkit.toml").write_text(
        '[site]\nname = "De Linde"\nbase_url = "http://127.0.0.1"\nprivacy_statement = "/p"\n'
        '[site.controller]\nname = "De Linde"\naddress = "Lindelaan 1"\n'
        '[mail]\nsender = "De Linde <nieuws@delinde.example>"\n',
        "utf-8",
    )
    monkeypatch.setenv("CONSENTKIT_AFGEMELD_KEYS", AFGEMELD_KEY)
    monkeypatch.chdir(tmp_path)
    app = typer.Typer()
    app.command()(command.intake)
    return lambda *args, input=b"": CliRunner().invoke(app, list(args), input=input)


def test_the_command_takes_opt_outs_and_bounces_from_one_pipe(office: Office, run: Callable[..., Any]) -> None:
    opt_out = f"To: afmelden+{office.links.short_token(JAN, None)}@delinde.example\n\n".encode()
    bounce, forged = office.mail("postfix-no-mailbox"), FORGED["another key"](office)

    taken, again, left = run(input=bounce), run("--json", input=bounce), run(input=opt_out)
    ignored, person = run(input=office.mail("out-of-office")), run(input=forged)

    assert (taken.exit_code, taken.stdout) == (
        0,
        "taken (5.1.1): there is no such mailbox, so it gets no mail any more\n",
    )
    assert json.loads(again.stdout) == {"outcome": "known", "new": 0, "kind": "hard", "status": "5.1.1"}
    assert left.stdout == "taken: who sent it gets no such mail any more\n"
    assert (ignored.exit_code, person.exit_code) == (0, 1)
    assert [row[:2] for row in office.left()] == [("mail", "hard-bounce"), ("marketing", "reply")]


@pytest.mark.parametrize("missing", ["database", "key"])
def test_the_command_has_the_mail_server_keep_a_bounce_that_can_t_be_stored(
    office: Office, run: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, missing: str
) -> None:
    raw = office.mail("postfix-no-mailbox")
    if missing == "key":
        monkeypatch.delenv("CONSENTKIT_AFGEMELD_KEYS")
    else:
        monkeypatch.setenv("CONSENTKIT_DATABASE_URL", f"sqlite:///{tmp_path / 'none' / 'x.db'}")

    assert run(input=raw).exit_code == 75


def test_a_mailbox_may_hold_opt_outs_bounces_and_letters(
    office: Office,
    run: Callable[..., Any],
    serve: Callable[..., StandIn],  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    standin = serve()
    opt_out = standin.put(f"To: afmelden+{office.links.short_token(JAN, None)}@delinde.example\n\n".encode())
    bounce = standin.put(office.mail("postfix-no-mailbox"))
    away = standin.put(office.mail("out-of-office"))
    forged = standin.put(FORGED["another key"](office))
    monkeypatch.setenv("CONSENTKIT_IMAP_USER", standin.login[0])
    monkeypatch.setenv("CONSENTKIT_IMAP_PASSWORD", standin.login[1])

    answer = run("--mailbox", f"imap://127.0.0.1:{standin.port}/INBOX%2FAf")

    assert (answer.exit_code, answer.stdout) == (1, "2 taken, 0 known, 1 ignored, 1 forged, 0 unclear, 0 failed\n")
    assert {uid: sorted(flags) for uid, flags in standin.flags.items()} == {
        **{uid: ["\\Seen"] for uid in (opt_out, bounce, away)},
        forged: ["\\Flagged", "\\Seen"],
    }


def test_a_bounce_in_a_mailbox_stays_unread_where_it_can_t_be_stored(
    office: Office,
    run: Callable[..., Any],
    serve: Callable[..., StandIn],  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    standin = serve()
    uid = standin.put(office.mail("postfix-no-mailbox"))
    monkeypatch.setenv("CONSENTKIT_IMAP_USER", standin.login[0])
    monkeypatch.setenv("CONSENTKIT_IMAP_PASSWORD", standin.login[1])
    monkeypatch.delenv("CONSENTKIT_AFGEMELD_KEYS")

    assert run("--mailbox", f"imap://127.0.0.1:{standin.port}/INBOX%2FAf").exit_code == 75
    assert standin.flags[uid] == set()


def test_a_report_from_a_provider_is_no_mail(office: Office) -> None:
    report = Report(Kind.NOTHING, id="1", delivery=DELIVERY)

    assert office.inbox.take(report, "webhook:x").outcome is Outcome.IGNORED
    assert office.inbox.take(report, "webhook:x").outcome is Outcome.KNOWN
    assert office.inbox.take(report, "webhook:y").outcome is Outcome.IGNORED
