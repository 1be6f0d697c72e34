"""`consentkit newsletter` as people type it."""

from __future__ import annotations

import csv
import io
import json

import pytest

from tests.cli.conftest import Run

CONSENT = ("--route", "consent", "--proof", "papieren formulier, open dag 2026")


def rows(text: str) -> list[dict[str, str]]:
    return [*csv.DictReader(io.StringIO(text))]


def test_what_was_imported_with_its_proof_is_counted_and_comes_out_again(run: Run) -> None:
    file = b"email,naam\njan@school.nl,Jan\nfout,Piet\n"
    code, out, err = run("newsletter", "import", "nieuws", "-", *CONSENT, stdin=file)
    assert (code, out) == (
        1, "1 added, 0 now proven, 0 unproven (not mailed), 0 known\n1 passed over: 1 no address\n",
    )  # fmt: skip
    assert err.startswith("line 3: no address: ")

    (found,) = rows(run("newsletter", "export", "nieuws")[1])
    assert (found["email"], found["state"], found["route"]) == ("jan@school.nl", "active", "consent")
    assert found["proof"].startswith("how=papieren formulier, open dag 2026; imported_at=20")
    assert json.loads(run("newsletter", "export", "nieuws", "--json")[1])["email"] == "jan@school.nl"
    counts = [json.loads(line) for line in run("newsletter", "lists", "--json")[1].splitlines()]
    assert counts == [{"list": "nieuws", "title": "Nieuws", "active": 1}, {"list": "agenda", "title": "Agenda"}]


def test_who_left_does_not_come_out_without_all_and_a_cell_is_no_formula(run: Run) -> None:
    run("newsletter", "import", "nieuws", "-", *CONSENT, stdin=b"email\n=1+2@school.nl\njan@school.nl\n")
    run("afgemeld", "add", "jan@school.nl", "--list", "nieuws")

    assert [row["email"] for row in rows(run("newsletter", "export", "nieuws")[1])] == ["'=1+2@school.nl"]
    everybody = rows(run("newsletter", "export", "nieuws", "--all")[1])
    assert [row["state"] for row in everybody] == ["active", "unsubscribed"]


def test_an_export_names_a_list_or_a_partner_that_there_is(run: Run) -> None:
    assert run("newsletter", "export")[::2] == (2, "name a list, or a --partner\n")
    code, out, err = run("newsletter", "export", "weg")
    assert (code, out) == (2, "")
    assert err.split() == ["'weg'", "is", "not", "in", "the", "configuration;", "there", "are:", "nieuws,", "agenda"]


@pytest.mark.parametrize("lang", ["nl", "en"])
def test_the_form_comes_out_as_html_for_any_template(run: Run, lang: str) -> None:
    code, out, err = run("newsletter", "form", "nieuws", "--lang", lang)

    assert (code, err) == (0, "")
    assert 'action="/privacy/newsletter/nieuws"' in out
    assert ("e-mailadres" if lang == "nl" else "e-mail address") in out
    assert '<input type="hidden" name="text" value="">' in out  # no mark: it may stand in a page for years
    found = json.loads(run("newsletter", "form", "nieuws", "--lang", lang, "--json")[1])
    assert found == {"list": "nieuws", "lang": lang, "html": out.removesuffix("\n")}
    assert run("newsletter", "form", "weg")[0] == 2


def test_a_person_is_erased_once_and_can_t_be_imported_again(run: Run) -> None:
    run("newsletter", "import", "nieuws", "-", *CONSENT, stdin=b"email\njan@school.nl\n")

    assert run("newsletter", "erase", "-", stdin=b"Jan@School.nl\n") == (
        0, "erased; the address is in afgemeld and can't be mailed\n", "",
    )  # fmt: skip
    assert run("newsletter", "erase", "jan@school.nl")[1] == "nothing is kept about this address\n"
    assert rows(run("newsletter", "export", "nieuws", "--all")[1]) == []
    again = run("newsletter", "import", "nieuws", "-", *CONSENT, stdin=b"email\njan@school.nl\n")
    assert (again[0], again[2]) == (0, "line 2: afgemeld\n")
    assert again[1].endswith("1 passed over: 1 afgemeld\n")
