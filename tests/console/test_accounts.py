"""The accounts of the console: passwords, second factors, and how long a log-in lasts."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from itertools import count
from pathlib import Path
from shutil import copy
from typing import Any

import pyotp
import pytest

from consentkit.errors import SettingsError, TokenError
from consentkit.staff import Accounts, Member, Right, Role, StaffLog, StaffRefused
from consentkit.store import Store
from consentkit.tokens import Tokens
from tests.journeys.school import Clock

KEYS = (b"new-Qx7Lr8Yt5Hn3Gm6Fd1CaBv2k7Jw0uZ4", b"old-Qx7Lr8Yt5Hn3Gm6Fd1CaBv2k7Jw0uZ4")
CHEAP = {"time_cost": 1, "memory_cost": 8, "parallelism": 1}
PASSWORD = "vier losse woorden samen"
SCHRIJFT = frozenset({Role.REDACTIE})
BEHEERT = frozenset({Role.BEHEER})
names = (f"Iemand {number}" for number in count(1))


def accounts_of(store: Store, clock: Clock, keys: tuple[bytes, ...] = KEYS, cost: Any = CHEAP) -> Accounts:
    ends = {"idle": timedelta(minutes=30), "absolute": timedelta(hours=10)}
    return Accounts(store, Tokens(keys), keys, clock, **ends, cost=cost)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory, sqlite_template: Path) -> Iterator[Store]:
    made = copy(sqlite_template, tmp_path_factory.mktemp("staff") / "consentkit.db")
    store = Store(f"sqlite:///{made}")
    accounts_of(store, Clock()).add("Beheerder", BEHEERT, PASSWORD, by="test")
    yield store
    store.close()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def accounts(store: Store, clock: Clock) -> Accounts:
    return accounts_of(store, clock)


@pytest.fixture
def name(accounts: Accounts) -> str:
    """Somebody who has an account and a password of their own."""
    name = next(names)
    accounts.add(name, SCHRIJFT, PASSWORD, by="Beheerder")
    return name


def log_in(accounts: Accounts, name: str, password: str = PASSWORD) -> tuple[str, Member]:
    passage = accounts.log_in(name, password)
    assert passage is not None
    assert passage.member is not None
    return passage.token, passage.member


def second_factor(accounts: Accounts, name: str, clock: Clock) -> pyotp.TOTP:
    """Turn it on for somebody; the code that this took is spent."""
    accounts.begin_second_factor(name)
    enrolment = accounts.enrolment(name, issuer="De Linde")
    assert enrolment is not None
    phone = pyotp.TOTP(enrolment.secret)
    assert accounts.confirm_second_factor(name, phone.at(clock.now))
    return phone


# -- accounts


def test_a_password_that_is_made_here_has_to_be_changed_and_one_that_was_chosen_has_not(accounts: Accounts) -> None:
    made = accounts.add(next(names), SCHRIJFT, by="Beheerder")
    chosen = accounts.add(next(names), SCHRIJFT, PASSWORD, by="Beheerder")

    assert len(made.password) == 19
    assert chosen.password == ""
    assert [
        log_in(accounts, made.name, made.password)[1].must_change,
        log_in(accounts, chosen.name)[1].must_change,
    ] == [
        True,
        False,
    ]


def test_a_one_time_password_is_shown_again_to_the_log_in_that_made_it_for_ten_minutes(
    accounts: Accounts, clock: Clock
) -> None:
    _, anna = log_in(accounts, "Beheerder")
    _, elsewhere = log_in(accounts, "Beheerder")
    given = accounts.add(next(names), SCHRIJFT, by="Beheerder")

    ticket = accounts.ticket(given, anna)

    assert accounts.given(ticket, anna) == given
    with pytest.raises(TokenError):
        accounts.given(ticket, elsewhere)
    clock.later(minutes=11)
    with pytest.raises(TokenError):
        accounts.given(ticket, anna)


def test_a_one_time_password_is_shown_no_more_once_another_one_counts(accounts: Accounts) -> None:
    _, anna = log_in(accounts, "Beheerder")
    given = accounts.add(next(names), SCHRIJFT, by="Beheerder")
    ticket = accounts.ticket(given, anna)

    accounts.reset(given.name, by="Beheerder")

    assert accounts.given(ticket, anna) is None


@pytest.mark.parametrize("wrong", ["", "anna@school.nl", "../anna", "a/b", "a\x00b", ".anna", "a" * 61, "a\nb?", "<b>"])
def test_a_name_is_one_that_a_log_and_an_address_can_hold(accounts: Accounts, wrong: str) -> None:
    with pytest.raises(StaffRefused) as refused:
        accounts.add(wrong, SCHRIJFT, PASSWORD, by="Beheerder")

    assert refused.value.reason == "name"
    assert accounts.log_in(wrong, PASSWORD) is None


def test_a_name_is_one_account_however_it_is_typed(accounts: Accounts) -> None:
    accounts.add("Zoë de  Vries", SCHRIJFT, PASSWORD, by="Beheerder")

    with pytest.raises(StaffRefused, match="already"):
        accounts.add("ZOE\u0308 de vries", SCHRIJFT, PASSWORD, by="Beheerder")
    assert log_in(accounts, " zoe\u0308 DE vries ")[1].name == "Zoë de Vries"


@pytest.mark.parametrize(
    ("password", "reason"),
    [("kort", "short"), ("aaaabbbbaaaabbbb", "simple"), ("x" * 501, "long"), ("jan van de berg", "same_as_name")],
)
def test_a_password_that_is_easily_guessed_is_refused(accounts: Accounts, password: str, reason: str) -> None:
    with pytest.raises(StaffRefused) as refused:
        accounts.add("Jan van de Berg", SCHRIJFT, password, by="Beheerder")

    assert refused.value.reason == reason


def test_roles_count_from_the_next_request_on(accounts: Accounts, name: str) -> None:
    cookie, before = log_in(accounts, name)

    accounts.set_roles(name, frozenset({Role.PRIVACY}), by="Beheerder")

    after = accounts.member(cookie)
    assert before.may(Right.WRITE)
    assert not before.may(Right.LOG)
    assert after is not None
    assert after.may(Right.LOG)
    assert not after.may(Right.WRITE)


@pytest.mark.parametrize("act", ["disable", "reset"])
def test_who_is_disabled_or_reset_is_out_at_once(accounts: Accounts, name: str, act: str) -> None:
    cookie, _ = log_in(accounts, name)

    getattr(accounts, act)(name, by="Beheerder")

    assert accounts.member(cookie) is None
    assert accounts.log_in(name, PASSWORD) is None


def test_who_is_enabled_again_logs_in_anew(accounts: Accounts, name: str) -> None:
    cookie, _ = log_in(accounts, name)
    accounts.disable(name, by="Beheerder")

    accounts.enable(name, by="Beheerder")

    assert accounts.member(cookie) is None
    assert log_in(accounts, name)[1].name == name


def test_nobody_disables_or_resets_themselves_and_somebody_keeps_the_role_beheer(accounts: Accounts) -> None:
    for act in (accounts.disable, accounts.reset):
        with pytest.raises(StaffRefused) as own:
            act("beheerder", by="Beheerder")
        assert own.value.reason == "self"
    for last in (
        lambda: accounts.set_roles("Beheerder", SCHRIJFT, by="Beheerder"),
        lambda: accounts.disable("Beheerder", by="(command line)"),
    ):
        with pytest.raises(StaffRefused) as refused:
            last()
        assert refused.value.reason == "last"


def test_two_who_disable_each_other_at_once_leave_one_in(database_url: str, clock: Clock) -> None:
    store = Store(database_url)
    accounts = accounts_of(store, clock)
    accounts.add("Anna", BEHEERT, PASSWORD, by="test")
    accounts.add("Bert", BEHEERT, PASSWORD, by="test")

    def disable(whom: str, by: str) -> str:
        try:
            accounts.disable(whom, by=by)
        except StaffRefused as refused:
            return refused.reason
        return "done"

    with ThreadPoolExecutor(2) as pool:
        outcomes = sorted(pool.map(disable, ("Anna", "Bert"), ("Bert", "Anna")))

    assert outcomes == ["done", "last"]
    store.close()


# -- passwords


def test_a_password_is_changed_with_the_old_one_and_every_other_log_in_ends(accounts: Accounts, name: str) -> None:
    cookie, member = log_in(accounts, name)
    elsewhere, _ = log_in(accounts, name)

    with pytest.raises(StaffRefused) as refused:
        accounts.change_password(name, "iets anders dan dit", "vijf nieuwe woorden", session=member.session)
    accounts.change_password(name, PASSWORD, "vijf nieuwe woorden", session=member.session)

    assert refused.value.reason == "wrong_password"
    assert accounts.member(cookie) == member
    assert accounts.member(elsewhere) is None
    assert accounts.log_in(name, PASSWORD) is None
    assert log_in(accounts, name, "vijf nieuwe woorden")[1].must_change is False


def test_a_one_time_password_can_t_be_kept(accounts: Accounts) -> None:
    given = accounts.add(next(names), SCHRIJFT, by="Beheerder")

    with pytest.raises(StaffRefused) as refused:
        accounts.change_password(given.name, given.password, given.password, session="")

    assert refused.value.reason == "same"


def test_a_hash_of_yesterdays_cost_is_made_anew_at_the_next_log_in(store: Store, clock: Clock) -> None:
    name = next(names)
    accounts_of(store, clock).add(name, SCHRIJFT, PASSWORD, by="Beheerder")
    today = accounts_of(store, clock, cost=CHEAP | {"time_cost": 2})

    log_in(today, name)

    with store.read() as connection:
        found = connection.exec_driver_sql("SELECT password FROM staff WHERE name = ?", (name,)).scalar_one()
    assert found.startswith("$argon2id$v=19$m=8,t=2,p=1$")


# -- log-ins


def test_a_log_in_ends_after_half_an_hour_without_a_request(accounts: Accounts, name: str, clock: Clock) -> None:
    cookie, _ = log_in(accounts, name)

    clock.later(minutes=29)
    assert accounts.member(cookie) is not None
    clock.later(minutes=29)
    assert accounts.member(cookie) is not None
    clock.later(minutes=30)
    assert accounts.member(cookie) is None
    clock.later(minutes=-30)
    assert accounts.member(cookie) is None


def test_a_log_in_ends_ten_hours_after_it_began_however_busy_it_was(
    accounts: Accounts, name: str, clock: Clock
) -> None:
    cookie, _ = log_in(accounts, name)

    for _ in range(29):
        clock.later(minutes=20)
        assert accounts.member(cookie) is not None
    clock.later(minutes=20)

    assert accounts.member(cookie) is None


def test_a_page_that_asks_by_itself_keeps_no_log_in_open(accounts: Accounts, name: str, clock: Clock) -> None:
    cookie, _ = log_in(accounts, name)

    clock.later(minutes=29)
    assert accounts.member(cookie, used=False) is not None
    clock.later(minutes=1)
    assert accounts.member(cookie, used=False) is None


def test_a_page_does_not_wait_for_a_long_write_to_note_that_a_log_in_is_in_use(
    accounts: Accounts, store: Store, name: str, clock: Clock
) -> None:
    cookie, member = log_in(accounts, name)
    clock.later(minutes=2)

    with store.begin():
        assert accounts.member(cookie) == member


def test_a_log_in_notes_at_most_once_a_minute_that_it_is_in_use(accounts: Accounts, name: str, clock: Clock) -> None:
    cookie, member = log_in(accounts, name)
    began = clock.now

    clock.later(seconds=59)
    accounts.member(cookie)
    (early,) = accounts.log_ins(name, session=member.session)
    clock.later(seconds=1)
    accounts.member(cookie)
    (late,) = accounts.log_ins(name, session=member.session)

    assert (early.begun_at, early.seen_at, late.seen_at) == (began, began, clock.now)
    assert late.own


def test_a_cookie_is_of_no_use_when_it_was_changed_or_signed_by_somebody_else(
    store: Store, accounts: Accounts, name: str, clock: Clock
) -> None:
    cookie, _ = log_in(accounts, name)

    assert accounts.member(cookie[:-1] + ("A" if cookie[-1] != "A" else "B")) is None
    assert accounts_of(store, clock, (b"another-Qx7Lr8Yt5Hn3Gm6Fd1CaBv2k7",)).member(cookie) is None
    assert accounts_of(store, clock, (b"another-Qx7Lr8Yt5Hn3Gm6Fd1CaBv2k7", *KEYS)).member(cookie) is not None


def test_the_database_holds_neither_a_cookie_nor_a_password(store: Store, accounts: Accounts, name: str) -> None:
    cookie, member = log_in(accounts, name)

    with store.read() as connection:
        rows = connection.exec_driver_sql("SELECT * FROM staff").all()
        rows = [*rows, *connection.exec_driver_sql("SELECT * FROM staff_session").all()]

    kept = repr(rows)
    assert member.session in kept
    assert cookie.partition(".")[0] not in kept
    assert PASSWORD not in kept


# -- the second factor


def test_the_second_factor_counts_from_its_first_code_on(accounts: Accounts, name: str, clock: Clock) -> None:
    accounts.begin_second_factor(name)
    assert log_in(accounts, name)[1].name == name

    assert not accounts.confirm_second_factor(name, "000000")
    enrolment = accounts.enrolment(name, issuer="De Linde")
    assert enrolment is not None
    assert enrolment.uri.startswith(f"otpauth://totp/De%20Linde:{name.replace(' ', '%20')}?secret={enrolment.secret}")
    assert accounts.confirm_second_factor(name, pyotp.TOTP(enrolment.secret).at(clock.now))

    passage = accounts.log_in(name, PASSWORD)
    assert passage is not None
    assert passage.member is None
    assert accounts.member(passage.token) is None
    assert accounts.enrolment(name, issuer="De Linde") is None


def test_a_code_counts_once_and_an_older_one_no_more(accounts: Accounts, name: str, clock: Clock) -> None:
    phone = second_factor(accounts, name, clock)
    clock.later(seconds=60)
    before, now = phone.at(clock.now - timedelta(seconds=30)), phone.at(clock.now)

    def attempt(code: str) -> bool:
        passage = accounts.log_in(name, PASSWORD)
        assert passage is not None
        return accounts.log_in_by_code(passage.token, code) is not None

    assert [attempt(now), attempt(now), attempt(before), attempt("123456")] == [True, False, False, False]


def test_the_same_form_sent_twice_leads_to_one_log_in(accounts: Accounts, name: str, clock: Clock) -> None:
    phone = second_factor(accounts, name, clock)
    clock.later(seconds=30)
    passage = accounts.log_in(name, PASSWORD)
    assert passage is not None

    first = accounts.log_in_by_code(passage.token, phone.at(clock.now))
    second = accounts.log_in_by_code(passage.token, phone.at(clock.now))

    assert first == second
    assert first is not None
    assert first.member is not None
    accounts.end(first.member)
    assert accounts.log_in_by_code(passage.token, phone.at(clock.now)) is None


def test_one_code_lets_one_of_two_in_at_once(database_url: str, clock: Clock) -> None:
    store = Store(database_url)
    accounts = accounts_of(store, clock)
    accounts.add("Anna", SCHRIJFT, PASSWORD, by="test")
    phone = second_factor(accounts, "Anna", clock)
    clock.later(seconds=30)
    steps = [passage.token for _ in range(4) if (passage := accounts.log_in("Anna", PASSWORD))]

    with ThreadPoolExecutor(4) as pool:
        outcomes = [*pool.map(lambda step: accounts.log_in_by_code(step, phone.at(clock.now)), steps)]

    (passage,) = [outcome for outcome in outcomes if outcome is not None]
    clock.later(minutes=2)
    assert accounts.member(passage.token) == passage.member
    store.close()


@pytest.mark.parametrize("change", ["late", "password", "disabled", "reset"])
def test_a_password_that_was_right_is_forgotten_when_the_account_changes_or_five_minutes_pass(
    accounts: Accounts, name: str, clock: Clock, change: str
) -> None:
    phone = second_factor(accounts, name, clock)
    clock.later(seconds=30)
    passage = accounts.log_in(name, PASSWORD)
    assert passage is not None

    match change:
        case "late":
            clock.later(minutes=5, seconds=1)
        case "password":
            accounts.change_password(name, PASSWORD, "vijf nieuwe woorden", session="")
        case "disabled":
            accounts.disable(name, by="Beheerder")
        case "reset":
            accounts.reset(name, by="Beheerder")

    with pytest.raises(TokenError):
        accounts.log_in_by_code(passage.token, phone.at(clock.now))


def test_codes_go_on_when_a_signing_key_is_added_and_are_of_no_use_without_the_key_they_were_made_with(
    store: Store, clock: Clock
) -> None:
    name = next(names)
    old = accounts_of(store, clock, KEYS[1:])
    old.add(name, SCHRIJFT, PASSWORD, by="Beheerder")
    phone = second_factor(old, name, clock)

    clock.later(seconds=30)
    both = accounts_of(store, clock)
    passage = both.log_in(name, PASSWORD)
    assert passage is not None
    assert both.log_in_by_code(passage.token, phone.at(clock.now)) is not None
    clock.later(seconds=30)
    without = accounts_of(store, clock, KEYS[:1])
    passage = without.log_in(name, PASSWORD)
    assert passage is not None
    assert without.log_in_by_code(passage.token, phone.at(clock.now)) is None


def test_the_second_factor_goes_off_with_the_password_only(accounts: Accounts, name: str, clock: Clock) -> None:
    second_factor(accounts, name, clock)

    with pytest.raises(StaffRefused):
        accounts.stop_second_factor(name, "iets anders dan dit")
    assert accounts.get(name).second_factor
    accounts.stop_second_factor(name, PASSWORD)

    assert log_in(accounts, name)[1].name == name


# -- the log, and what is missing


def test_what_happens_to_an_account_is_in_the_log(store: Store, accounts: Accounts, clock: Clock) -> None:
    (before,) = StaffLog(store, clock).read(most=1)
    given = accounts.add("Greet", SCHRIJFT, by="Beheerder")
    accounts.log_in("Greet", "fout")
    accounts.log_in("Niemand", "fout")
    _, greet = log_in(accounts, "Greet", given.password)
    accounts.change_password("Greet", given.password, PASSWORD, session=greet.session)
    second_factor(accounts, "Greet", clock)
    accounts.stop_second_factor("Greet", PASSWORD)
    accounts.end_others(greet)
    accounts.end(greet)
    accounts.set_roles("Greet", frozenset({Role.PRIVACY, Role.REDACTIE}), by="Beheerder")
    accounts.disable("Greet", by="Beheerder")
    accounts.enable("Greet", by="Beheerder")
    accounts.reset("Greet", by="Beheerder")

    found = [(line.staff, line.act, line.about) for line in StaffLog(store, clock).read(after=before.id)[::-1]]

    assert found == [
        ("Beheerder", "staff.add", "Greet: redactie"),
        ("", "staff.log_in_failed", "Greet"),
        ("", "staff.log_in_failed", ""),
        ("Greet", "staff.log_in", ""),
        ("Greet", "staff.password", ""),
        ("Greet", "staff.second_factor_on", ""),
        ("Greet", "staff.second_factor_off", ""),
        ("Greet", "staff.log_out_elsewhere", ""),
        ("Greet", "staff.log_out", ""),
        ("Beheerder", "staff.roles", "Greet: redactie,privacy"),
        ("Beheerder", "staff.disable", "Greet"),
        ("Beheerder", "staff.enable", "Greet"),
        ("Beheerder", "staff.reset", "Greet"),
    ]


@pytest.mark.parametrize("library", ["argon2", "pyotp"])
def test_a_missing_library_names_the_extra_to_install(
    accounts: Accounts, name: str, monkeypatch: pytest.MonkeyPatch, library: str
) -> None:
    accounts.begin_second_factor(name)
    monkeypatch.setitem(sys.modules, library, None)

    with pytest.raises(SettingsError, match=r"pip install 'consentkit\[console\]'"):
        accounts.log_in(name, PASSWORD) if library == "argon2" else accounts.confirm_second_factor(name, "1")
