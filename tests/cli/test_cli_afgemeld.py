"""`consentkit afgemeld` as people type it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from sqlalchemy import select

from consentkit.afgemeld.tables import lifts
from consentkit.store import Store
from tests.cli.conftest import Run, one_database


def test_an_address_is_added_once_and_found_in_any_spelling(run: Run) -> None:
    assert run("afgemeld", "check", "jan@school.nl") == (0, "not suppressed\n", "")
    assert run("afgemeld", "add", "Jan@School.nl", "--reason", "phone") == (0, "was added: marketing\n", "")
    assert run("afgemeld", "add", "jan@school.nl") == (0, "was there already: marketing\n", "")

    code, out, err = run("afgemeld", "check", "JAN@SCHOOL.NL")

    assert (code, err) == (1, "")
    assert out.startswith("suppressed: marketing, phone, since 20")
    assert out.endswith(" UTC\n")


def test_an_address_on_standard_input_stays_out_of_the_shells_history(run: Run) -> None:
    assert run("afgemeld", "add", "-", stdin=b"jan@school.nl\n")[1] == "was added: marketing\n"
    assert run("afgemeld", "check", "-", stdin=b" Jan@school.nl\r\n")[0] == 1


def test_a_list_may_be_left_alone(run: Run) -> None:
    assert run("afgemeld", "add", "jan@school.nl", "--list", "nieuws")[1] == "was added: list:nieuws\n"

    assert run("afgemeld", "check", "jan@school.nl", "--list", "agenda")[:2] == (0, "not suppressed\n")
    assert run("afgemeld", "check", "jan@school.nl", "--list", "nieuws")[0] == 1
    assert run("afgemeld", "check", "jan@school.nl")[0] == 1
    assert run("afgemeld", "add", "jan@school.nl", "--scope", "mail")[1] == "was added: mail\n"
    assert run("afgemeld", "check", "jan@school.nl", "--list", "agenda")[0] == 1


def test_programs_read_json(run: Run) -> None:
    added = json.loads(run("afgemeld", "add", "jan@school.nl", "--scope", "list:nieuws", "--json")[1])
    found = json.loads(run("afgemeld", "check", "jan@school.nl", "--json")[1])

    assert added == {"added": True, "scope": "list:nieuws", "reason": "staff"}
    since = found["entries"][0].pop("since")
    assert found == {
        "suppressed": True, "entries": [{"scope": "list:nieuws", "reason": "staff", "channel": "command"}],
    }  # fmt: skip
    assert since.endswith("+00:00")
    assert json.loads(run("afgemeld", "check", "zoe@school.nl", "--json")[1]) == {"suppressed": False, "entries": []}


@one_database
@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["add", "a@x.nl", "--list", "weg"], 'there is no list "weg": the lists are nieuws, agenda\n'),
        (["add", "a@x.nl", "--scope", "list:weg"], 'there is no list "weg": the lists are nieuws, agenda\n'),
        (["check", "a@x.nl", "--list", "weg"], 'there is no list "weg": the lists are nieuws, agenda\n'),
        (["import", "-", "--list", "weg"], 'there is no list "weg": the lists are nieuws, agenda\n'),
        (["scrub", "-", "--list", "weg"], 'there is no list "weg": the lists are nieuws, agenda\n'),
        (["add", "a@x.nl", "--scope", "alles"], "'alles' is no scope: write mail, marketing or list:<id>\n"),
        (["add", "a@x.nl", "--scope", "mail", "--list", "nieuws"], "give --list or --scope, not both\n"),
        (["import", "nergens.csv"], "nergens.csv: No such file or directory\n"),
        (["scrub", "nergens.csv"], "nergens.csv: No such file or directory\n"),
        (["scrub", "-", "--column", "mobiel"], "no column is called 'mobiel': there is no header\n"),
    ],
)
def test_a_wrong_call_is_one_sentence(run: Run, words: list[str], expected: str) -> None:
    assert run("afgemeld", *words, stdin=b"a@x.nl,a\n") == (2, "", expected)


@one_database
@pytest.mark.parametrize("command", ["add", "check"])
def test_what_is_no_address_is_not_quoted(run: Run, command: str) -> None:
    code, out, err = run("afgemeld", command, "Jan <jan@school.nl>")

    assert (code, out) == (2, "")
    assert err.count("\n") == 1
    assert "school" not in err


def test_a_file_is_imported_with_its_refused_rows_told_by_line(run: Run, tmp_path: Path) -> None:
    (tmp_path / "oud.csv").write_bytes(b"naam;e-mailadres\nJan;jan@school.nl\nPiet;piet@@school.nl\nZo;zoe@school.nl\n")
    refused = "line 3: no address that mail could be sent to\n"

    assert run("afgemeld", "import", "oud.csv", "--dry-run") == (
        1, "2 row(s) would be new, 0 known, 1 refused\n", refused,
    )  # fmt: skip
    assert run("afgemeld", "import", "oud.csv", "--list", "nieuws") == (
        1, "2 row(s) new, 0 known, 1 refused\n", refused,
    )  # fmt: skip
    assert json.loads(run("afgemeld", "import", "-", "--json", stdin=b"jan@school.nl\n")[1]) == {
        "new": 1, "known": 0, "refused": 0, "dry_run": False,
    }  # fmt: skip
    assert run("afgemeld", "check", "zoe@school.nl", "--list", "nieuws")[0] == 1
    assert run("afgemeld", "check", "zoe@school.nl", "--list", "agenda")[0] == 0


@pytest.mark.checklist("SUP-01", "SUP-02")
def test_an_export_can_be_imported_and_holds_no_readable_address(run: Run) -> None:
    run("afgemeld", "add", "jan@school.nl")
    run("afgemeld", "add", "zoe@school.nl", "--list", "nieuws")

    code, out, err = run("afgemeld", "export")

    lines = out.splitlines()
    assert (code, err, len(lines)) == (0, "", 3)
    assert lines[0] == "digest,key_id,scope,reason,channel,at"
    assert "@" not in out
    assert "school" not in out
    assert run("afgemeld", "import", "-", stdin=out.encode())[:2] == (0, "0 row(s) new, 2 known, 0 refused\n")
    named = [json.loads(line) for line in run("afgemeld", "export", "--scope", "marketing", "--json")[1].splitlines()]
    assert [list(row) for row in named] == [lines[0].split(",")]
    assert [row["scope"] for row in named] == ["marketing"]


def test_scrub_writes_what_may_be_mailed_and_tells_the_rest_by_line(run: Run, tmp_path: Path) -> None:
    run("afgemeld", "add", "weg@school.nl")
    data = b"email;naam\r\njan@school.nl;Jan\r\nWEG@school.nl;Weg\r\nJan@School.nl;=1+1\r\npiet;Piet\r\n"
    (tmp_path / "contacts.csv").write_bytes(data)
    told = [
        "line 3: suppressed",
        "line 4: an address that stands further up",
        "line 5: no address that mail could be sent to",
    ]
    summary = "4 row(s): 1 kept, 1 suppressed, 1 duplicate, 1 invalid, 0 broken"
    clean = "email;naam\r\njan@school.nl;Jan\r\n"

    assert run("afgemeld", "scrub", "contacts.csv") == (1, clean, "\n".join([*told, summary, ""]))
    assert run("afgemeld", "scrub", "-", "--report", "weg.txt", stdin=data) == (1, clean, summary + "\n")
    assert (tmp_path / "weg.txt").read_text("utf-8") == "\n".join([*told, ""])
    assert run("afgemeld", "scrub", "-", stdin=data.replace(b"piet;Piet\r\n", b""))[0] == 0
    lines = run("afgemeld", "scrub", "contacts.csv", "--json")[2].splitlines()
    assert [json.loads(line) for line in (lines[0], lines[-1])] == [
        {"line": 3, "reason": "suppressed"},
        {"rows": 4, "kept": 1, "suppressed": 1, "invalid": 1, "duplicate": 1, "broken": 0},
    ]


@one_database
@pytest.mark.parametrize(
    "words", [["scrub", "-"], ["export"], ["import", "-"], ["add", "a@x.nl"], ["check", "a@x.nl"]], ids=lambda w: w[0]
)
@pytest.mark.parametrize("key", ["", "t3Fv6Jb9Nd2Qg5Tk8Wm1Zp4Cs7Hx0LyR"], ids=["none", "another"])
def test_without_the_right_key_nothing_is_written(
    run: Run, monkeypatch: pytest.MonkeyPatch, words: list[str], key: str
) -> None:
    run("afgemeld", "add", "weg@school.nl")
    monkeypatch.setenv("CONSENTKIT_AFGEMELD_KEYS", key)

    code, out, err = run("afgemeld", *words, stdin=b"email\njan@school.nl\n")

    assert (code, out) == (2, "")
    assert "CONSENTKIT_AFGEMELD_KEYS" in err
    assert "school" not in err


@pytest.mark.checklist("SUP-04")
@one_database
@pytest.mark.parametrize(
    ("by", "second", "reason"), [("Anna", "anna ", "vergissing"), ("Anna", "", "vergissing"), ("Anna", "Bo", " ")]
)
def test_nobody_lifts_alone_or_without_a_reason(run: Run, by: str, second: str, reason: str) -> None:
    run("afgemeld", "add", "jan@school.nl")
    told = "lifting needs a reason and the names of two different people\n"

    lifted = run(
        "afgemeld", "lift", "jan@school.nl", "--scope", "marketing", "--by", by, "--second", second, "--reason", reason
    )

    assert lifted == (2, "", told)
    assert run("afgemeld", "lift", "jan@school.nl", "--scope", "marketing", "--by", "Anna", "--reason", "x")[0] == 2
    assert run("afgemeld", "check", "jan@school.nl")[0] == 1


@pytest.mark.checklist("SUP-04")
def test_two_people_lift_one_scope_and_both_are_kept(run: Run, database_url: str) -> None:
    run("afgemeld", "add", "jan@school.nl")
    run("afgemeld", "add", "jan@school.nl", "--list", "nieuws")
    two = ("--by", "Anna", "--second", "Bo", "--reason", "verkeerde Jan")

    assert run("afgemeld", "lift", "jan@school.nl", *two)[::2] == (2, "say what to lift: --list or --scope\n")
    assert run("afgemeld", "lift", "Jan@school.nl", "--scope", "marketing", *two) == (
        0, "was lifted: marketing\n", "",
    )  # fmt: skip
    assert run("afgemeld", "lift", "jan@school.nl", "--scope", "marketing", *two)[:2] == (
        1, "was not there: marketing\n",
    )  # fmt: skip
    assert run("afgemeld", "check", "jan@school.nl", "--list", "agenda")[0] == 0
    assert run("afgemeld", "check", "jan@school.nl", "--list", "nieuws")[0] == 1
    store = Store(database_url)
    with store.read() as connection:
        kept = lifts.c
        rows = connection.execute(select(kept.scope, kept.reason, kept.by, kept.second, kept.was_reason)).all()
    store.close()
    assert rows == [("marketing", "verkeerde Jan", "Anna", "Bo", "staff")]
