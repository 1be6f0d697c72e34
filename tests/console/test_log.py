"""The log of the console: append-only in the database, read newest first, in words; and it is forgotten in time."""

from __future__ import annotations

import ast
import csv
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from html import unescape
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DatabaseError

from consentkit.render.console import texts
from consentkit.staff import COMMAND_LINE, StaffLog
from consentkit.store import Store
from consentkit.web.console.log import act_said
from tests.console.office import Office, open_office

NOW = datetime(2026, 3, 2, 9, 30, tzinfo=UTC)
JAN, PIET = "jan@voorbeeld.nl", "piet@voorbeeld.nl"
SOURCE = Path(__file__).parents[2] / "consentkit"
PARTLY_SPELLED = {"mailing.pause", "mailing.resume", "mailing.cancel"}
"""Acts of which the source puts the word together."""


@pytest.fixture(scope="module")
def office(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Office]:
    with open_office(tmp_path_factory.mktemp("log")) as opened:
        log = opened.kit.console._rooms.log
        digest = opened.kit.afgemeld.keys.digest
        with opened.kit.store.begin() as connection:
            for number in range(120):
                log.note("Anna" if number % 2 else "Piet", "mailing.release", f"mailing {number}", with_=connection)
            log.note("Petra", "person.read", "subscriber 7", person=digest(JAN), with_=connection)
            log.note("Petra", "person.read", "subscriber 8", person=digest(PIET), with_=connection)
            log.note("=Bob", "person.read", "@SUM(1)", with_=connection)
        yield opened


def rows(page: Any) -> list[list[str]]:
    """The cells of a page's table, without the moment."""
    assert page.status_code == 200, page.text[-1500:]
    found = re.findall(r"<tr><td>(.*?)</td></tr>", page.text, re.DOTALL)
    return [[unescape(cell) for cell in row.split("</td><td>")][1:] for row in found]


def link(page: Any, rel: str) -> str:
    found = re.search(rf'<a href="([^"]+)" rel="{rel}">', page.text)
    return unescape(found[1]) if found else ""


@pytest.fixture
def log(database_url: str) -> Iterator[StaffLog]:
    """A log of which the clock stands still, on SQLite and on PostgreSQL."""
    store = Store(database_url)
    yield StaffLog(store, lambda: NOW)
    store.close()


@pytest.mark.checklist("SEC-06")
def test_the_database_refuses_to_change_a_line_and_to_take_one_out(log: StaffLog) -> None:
    log.note("Anna", "person.read", "subscriber 7")
    store = log._store
    statements = ["UPDATE staff_log SET staff = 'Piet'", "DELETE FROM staff_log"]
    if not store.sqlite:
        statements += ["TRUNCATE staff_log", "TRUNCATE staff_log CASCADE"]

    for statement in statements:
        with pytest.raises(DatabaseError, match="append-only"), store.begin() as connection:
            connection.execute(text(statement))

    assert [(one.staff, one.act) for one in log.read()] == [("Anna", "person.read")]


def test_what_is_over_its_period_goes_and_the_rest_stays_unchangeable(log: StaffLog) -> None:
    year = timedelta(days=365)
    for back in (3 * year, 2 * year, year):
        StaffLog(log._store, lambda back=back: NOW - back).note("Anna", "person.read", f"{back.days}")

    assert log.purge(NOW, keep=2 * year, dry_run=True) == 2
    assert len(log.read()) == 3
    assert (log.purge(NOW, keep=2 * year), log.purge(NOW, keep=2 * year)) == (2, 0)
    assert [one.about for one in log.read()] == ["365"]
    with pytest.raises(DatabaseError), log._store.begin() as connection:
        connection.execute(text("DELETE FROM staff_log"))


def test_the_newest_lines_come_first_a_page_at_a_time_and_back(office: Office) -> None:
    petra = office.client("privacy")

    first = petra.get("log")
    second = petra.get(link(first, "next"))
    third = petra.get(link(second, "next"))
    back = petra.get(link(third, "prev"))

    assert [len(rows(page)) for page in (first, second, third)] == [50, 50, 23]
    assert rows(first)[3] == ["Anna", "Een mailing verstuurd", "mailing 119"]
    assert rows(third)[-1][2] == "mailing 0"
    assert (link(third, "next"), link(first, "prev")) == ("", "")
    assert rows(back) == rows(second)


def test_it_can_be_read_from_the_oldest_line_on(office: Office) -> None:
    petra = office.client("privacy")

    first = petra.get("log?sort=at&order=asc")
    second = petra.get(link(first, "next"))

    assert [rows(first)[0][2], rows(first)[-1][2], rows(second)[0][2]] == ["mailing 0", "mailing 49", "mailing 50"]
    assert rows(petra.get(link(second, "prev"))) == rows(first)


@pytest.mark.parametrize(
    ("about", "said"),
    [
        ("draft 3", "concept 3"),
        ("list nieuwsbrief", "lijst Nieuwsbrief"),
        ("person 7, marketing", "abonnee 7, Alle nieuwsbrieven en andere reclame"),
        ("marketing (phone)", "Alle nieuwsbrieven en andere reclame (telefoon)"),
        ("list:nieuwsbrief", "Alleen “Nieuwsbrief”"),
        ("afgemeld_scrub", "Lijst opschonen"),
        ("*", "alles"),
        ("=SUM(1)", "=SUM(1)"),
    ],
)
def test_what_a_line_is_about_is_said_in_the_language_of_the_page(office: Office, about: str, said: str) -> None:
    office.kit.console._rooms.log.note(COMMAND_LINE, "staff.add", about)

    newest = rows(office.client("privacy").get("log?act=staff.add"))[0]

    assert newest == ["op de server, met een opdracht", "Een account toegevoegd", said]


def test_it_is_filtered_by_who_and_by_what(office: Office) -> None:
    page = office.client("privacy").get("log?staff=Petra&act=person.read")

    assert [row[2] for row in rows(page)] == ["subscriber 8", "subscriber 7"]
    assert '<option value="Petra" selected>Petra</option>' in page.text
    assert "Hierover staat niets in het logboek." in office.client("privacy").get("log?staff=Niemand").text


@pytest.mark.checklist("SEC-06", "SEC-05")
def test_who_looked_at_one_person_is_found_by_address_and_that_look_is_in_the_log(office: Office) -> None:
    petra = office.client("privacy", name="Petra")

    page = petra.submit("log/person", "log/person", address="Jan@Voorbeeld.nl")

    found = rows(page)
    assert found[-1] == ["Petra", "De gegevens van een persoon bekeken", "subscriber 7"]
    assert found[0][1] == "In het logboek gezocht op een e-mailadres"
    newest = office.kit.console._rooms.log.read(most=1)[0]
    assert (newest.staff, newest.act, newest.about) == ("Petra", "log.search", "")


def test_what_is_no_address_is_told_and_searches_nothing(office: Office) -> None:
    before = office.kit.console._rooms.log.read(most=1)

    page = office.client("privacy").submit("log/person", "log/person", address="jan")

    assert page.status_code == 422
    assert "Dat is geen e-mailadres" in page.text
    assert office.kit.console._rooms.log.read(most=1) == before


def test_an_export_of_it_computes_nothing_in_a_spreadsheet_and_is_in_the_log(office: Office) -> None:
    file = office.client("privacy", name="Petra").submit("log", "log/export")

    lines = [*csv.DictReader(file.text.splitlines())]
    bob = next(line for line in lines if line["about"].endswith("@SUM(1)"))
    assert (bob["staff"], bob["about"]) == ("'=Bob", "'@SUM(1)")
    assert lines[0]["act"] == "log.export"
    assert len(lines) >= 124


@pytest.mark.checklist("SEC-06")
@pytest.mark.parametrize("role", ["redactie", "verzenden"])
def test_who_writes_or_sends_does_not_read_it(office: Office, role: str) -> None:
    assert office.client(role).get("log").status_code == 403


@pytest.mark.parametrize("lang", ["nl", "en"])
def test_every_act_that_is_noted_anywhere_has_words(lang: str) -> None:
    files = [*(SOURCE / "web" / "console").glob("*.py"), *(SOURCE / "staff").glob("*.py")]
    acts = {act for file in files for act in noted(file)} | PARTLY_SPELLED

    unsaid = sorted(act for act in acts if act_said(texts(lang), act) == act)

    assert {"consent.read", "staff.log_in", "mailing.schedule"} <= acts
    assert unsaid == []


def noted(file: Path) -> Iterator[str]:
    """The acts that a file notes, as they are spelled in its calls."""
    for call in ast.walk(ast.parse(file.read_text("utf-8"))):
        if not isinstance(call, ast.Call):
            continue
        name = getattr(call.func, "attr", getattr(call.func, "id", ""))
        if name not in ("note", "_note", "_read"):
            continue
        for argument in (part for each in call.args for part in ast.walk(each)):
            value = argument.value if isinstance(argument, ast.Constant) else None
            if isinstance(value, str) and re.fullmatch(r"[a-z]+\.[a-z_]+", value):
                yield value
