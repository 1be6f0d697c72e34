"""The way into the console: who may see what, and what a form may do once."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.console.office import Office, forms, open_office


@pytest.fixture(scope="module")
def office(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Office]:
    with open_office(tmp_path_factory.mktemp("office")) as opened:
        yield opened


def test_somebody_of_the_staff_sees_the_console_by_the_login_of_the_host(office: Office) -> None:
    page = office.client("beheer", name="Anna").get()

    assert page.status_code == 200
    assert "Welkom, Anna" in page.text


def test_it_speaks_english_to_who_asks_for_it(office: Office) -> None:
    anna = office.client("beheer", name="Anna")

    assert "Welcome, Anna" in anna.get("?lang=en").text
    assert "Welcome, Anna" in anna.get().text


def test_a_form_that_is_sent_twice_does_its_work_once(office: Office) -> None:
    anna = office.client("redactie")
    form = anna.form("mailings/new", "mailings/new")

    first, second = anna.send(form, list="nieuwsbrief"), anna.send(form, list="nieuwsbrief")

    assert first.status_code == second.status_code == 303
    assert first.headers["location"] == second.headers["location"]
    assert len(office.kit.drafts.open()) == 1


def test_what_was_typed_after_a_form_was_sent_is_offered_to_be_sent_anew(office: Office) -> None:
    anna = office.client("redactie")
    made = anna.submit("mailings/new", "mailings/new", list="nieuwsbrief").headers["location"]
    page = made.partition("console/")[2].partition("?")[0]
    form = anna.form(page, page)
    anna.send(form, subject="Feest op woensdag")

    again = anna.send(form, subject="Feest op donderdag")

    assert again.status_code == 409
    offered = next(one for one in forms(again.text) if one.action.endswith(page))
    assert ("subject", "Feest op donderdag") in offered.fields
    assert anna.send(offered).status_code in (303, 409)
