"""`consentkit staff` as people type it."""

from __future__ import annotations

import json
import re

from tests.cli.conftest import Run, one_database

PASSWORD = b"vier losse woorden samen\n"

pytestmark = one_database


def test_an_account_is_added_with_a_password_that_is_printed_once_and_is_in_the_list(run: Run) -> None:
    code, out, err = run("staff", "add", "Anna", "--role", "beheer", "--role", "privacy")

    assert (code, err) == (0, "")
    assert re.fullmatch(
        r"was added: Anna, privacy, beheer\npassword, shown only now: ([a-z2-9]{4}-){3}[a-z2-9]{4}\n", out
    )
    told = {
        "name": "Anna", "roles": ["privacy", "beheer"], "disabled": False, "must_change": True, "second_factor": False,
        "last_log_in": None,
    }  # fmt: skip
    assert json.loads(run("staff", "list", "--json")[1]) == told
    assert [re.split(r"  +", line) for line in run("staff", "list")[1].splitlines()] == [
        ["name", "roles", "disabled", "must change", "second factor", "last log in"],
        ["Anna", "privacy, beheer", "no", "yes", "no", "never"],
    ]


def test_a_chosen_password_comes_from_standard_input_and_is_not_printed(run: Run) -> None:
    assert run("staff", "add", "Bert", "--role", "redactie", "--password", "-", "--json", stdin=PASSWORD) == (
        0, '{"name": "Bert", "roles": ["redactie"], "password": null}\n', "",
    )  # fmt: skip
    assert json.loads(run("staff", "list", "--json")[1])["must_change"] is False


def test_what_can_t_be_an_account_is_refused_with_what_to_write_instead(run: Run) -> None:
    def refused(*words: str, stdin: bytes = b"") -> str:
        code, out, err = run("staff", "add", *words, stdin=stdin)
        assert (code, out) == (2, "")
        return " ".join(err.split())

    assert "write redactie, verzenden, privacy, beheer" in refused("Bert", "--role", "directeur")
    assert "write --password -" in refused("Bert", "--role", "privacy", "--password", "vier losse woorden")
    assert "at least 12 characters" in refused("Bert", "--role", "privacy", "--password", "-", stdin=b"kort\n")
    assert "no e-mail address" in refused("bert@school.nl", "--role", "privacy")
    assert run("staff", "list") == (0, "there are no accounts: consentkit staff add NAME --role beheer\n", "")


def test_an_account_is_disabled_enabled_and_reset(run: Run) -> None:
    run("staff", "add", "Anna", "--role", "beheer")
    run("staff", "add", "Bert", "--role", "redactie", "--password", "-", stdin=PASSWORD)

    assert run("staff", "disable", "bert") == (0, "was disabled: Bert\n", "")
    assert json.loads(run("staff", "enable", "Bert", "--json")[1])["disabled"] is False
    reset = json.loads(run("staff", "reset", "Bert", "--json")[1])
    assert (reset["name"], len(reset["password"])) == ("Bert", 19)
    assert run("staff", "disable", "Niemand")[::2] == (2, "there is no account of that name\n")
    code, _, err = run("staff", "disable", "Anna")
    assert (code, "last account with the role beheer" in " ".join(err.split())) == (2, True)
