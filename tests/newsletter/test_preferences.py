"""The preference centre: taking away works at once, adding is confirmed by mail, seeing takes a fresh link."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from tests.newsletter.desk import JAN, LISTS, Desk
from tests.newsletter.desk import desk as open_desk


def test_what_is_switched_off_stops_at_once_and_what_is_added_is_confirmed_by_mail(both: Desk) -> None:
    page = both.link("voorkeuren", both.subscribe())

    answer = both.post(page, action="save", lists="agenda")

    assert "Je voorkeuren zijn opgeslagen." in answer.text
    assert "Wat je erbij koos, geldt pas als je het bevestigt." in answer.text
    assert both.why_not(list="nieuwsbrief") == "afgemeld"
    assert both.why_not(list="agenda") == "unconfirmed"
    (mail,) = both.mails()
    both.post(both.link("confirm", mail))
    assert both.why_not(list="agenda") is None


def test_measuring_is_withdrawn_at_once_and_granted_only_by_mail(both: Desk) -> None:
    page = both.link("voorkeuren", both.subscribe(measuring="1"))

    both.post(page, action="save", lists="nieuwsbrief")
    last = both.events()[-1]
    assert (last["state"], last["purposes"]) == (
        "given",
        {"list.nieuwsbrief": True, "measuring.nieuwsbrief": False},
    )
    assert both.why_not() is None

    both.clock.later(minutes=11)
    both.post(page, action="save", lists="nieuwsbrief", measuring="nieuwsbrief")
    assert both.events()[-1]["purposes"]["measuring.nieuwsbrief"] is False
    both.post(both.link("confirm", both.mails()[0]))
    last = both.events()[-1]
    assert (last["state"], last["purposes"]["measuring.nieuwsbrief"]) == ("renewed", True)


def test_saving_without_a_change_changes_nothing(desk: Desk) -> None:
    page = desk.link("voorkeuren", desk.subscribe())
    before = desk.events()

    desk.post(page, action="save", lists="nieuwsbrief")

    assert desk.events() == before
    assert desk.mails() == []


def test_leaving_all_takes_one_button(desk: Desk) -> None:
    page = desk.link("voorkeuren", desk.subscribe(lists="agenda"))

    desk.post(page, action="leave_all")

    assert desk.suppressed(list=None)
    assert (desk.why_not(list="nieuwsbrief"), desk.why_not(list="agenda")) == ("afgemeld", "afgemeld")


def test_a_forwarded_newsletter_shows_no_address_and_can_neither_see_nor_erase(desk: Desk) -> None:
    page = desk.link("voorkeuren", desk.subscribe())

    assert JAN not in desk.get(page).text
    assert desk.post(page, action="download").status_code == 404
    assert desk.post(page, action="erase").status_code == 404
    assert desk.why_not() is None


def test_a_freshly_mailed_link_shows_everything_for_an_hour(desk: Desk) -> None:
    page = desk.link("voorkeuren", desk.subscribe(measuring="1"))
    desk.post(page, action="link")
    (mail,) = desk.mails()
    fresh = desk.link("voorkeuren", mail)

    assert JAN in desk.get(fresh).text
    data = json.loads(desk.post(fresh, action="download").text)
    assert data["address"] == JAN
    assert [one["list"] for one in data["subscriptions"]] == ["nieuwsbrief"]
    assert [one["state"] for one in data["consents"]] == ["requested", "given"]
    assert data["notices"]

    desk.clock.later(minutes=61)
    assert desk.get(fresh).status_code == 410
    assert desk.post(fresh, action="erase").status_code == 410


def test_a_link_to_the_preferences_works_for_thirty_days(desk: Desk) -> None:
    page = desk.link("voorkeuren", desk.subscribe())

    desk.clock.later(days=29)
    assert desk.get(page).status_code == 200
    desk.clock.later(days=2)
    assert desk.get(page).status_code == 410


@pytest.mark.checklist("SUP-03")
def test_erasing_leaves_a_mark_without_an_address_that_no_import_undoes(both: Desk, tmp_path) -> None:
    import io

    from consentkit.newsletter import Route
    from tests.newsletter.test_import import importer

    page = both.link("voorkeuren", both.subscribe())
    both.post(page, action="link")
    fresh = both.link("voorkeuren", both.mails()[0])

    answer = both.post(fresh, action="erase")

    assert "Je gegevens zijn gewist" in answer.text
    assert both.kit.newsletter.counts() == {"nieuwsbrief": {"erased": 1}}
    assert both.events()[-1]["state"] == "terminated"
    assert "We bewaren niets meer over dit adres." in both.get(page).text
    with both.kit.store.read() as connection:
        rows = connection.exec_driver_sql("SELECT address, fields, erased_at FROM subscriber").all()
    assert [(address, fields) for address, fields, _ in rows] == [(None, "{}")]

    done = importer(both, Route.CONSENT, {"how": "open dag"}).read(io.BytesIO(f"email\n{JAN}\n".encode()))
    assert (done.added, dict(done.refused)) == (0, {"afgemeld": 1})
    assert both.why_not() == "afgemeld"


def test_who_was_erased_can_sign_up_again_by_a_new_confirmed_opt_in(both: Desk) -> None:
    page = both.link("voorkeuren", both.subscribe())
    both.post(page, action="link")
    both.post(both.link("voorkeuren", both.mails()[0]), action="erase")
    both.clock.later(days=1)

    both.subscribe()

    assert both.why_not() is None
    assert both.why_not(list="agenda") == "afgemeld"


def test_a_page_that_was_opened_before_a_sign_up_does_not_switch_off_what_it_never_showed(tmp_path: Path) -> None:
    with open_desk(tmp_path, lists={"nieuwsbrief": LISTS["nieuwsbrief"]}) as before:
        page = before.link("voorkeuren", before.subscribe())
        shown = re.findall(r'name="shown" value="([^"]+)"', before.get(page).text)
    with open_desk(tmp_path) as desk:
        desk.subscribe(list="agenda")

        desk.post(page, action="save", lists="nieuwsbrief", shown=shown)

        assert shown == ["nieuwsbrief"]
        assert desk.why_not(list="agenda") is None
        desk.post(page, action="save", lists="nieuwsbrief", shown=["nieuwsbrief", "agenda"])
        assert desk.why_not(list="agenda") == "afgemeld"
