"""One person in the console: found by address, with all that proves a consent, and what they may ask of us."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from consentkit.mailing import Draft, received
from consentkit.staff import Entry, StaffLog
from tests.console.office import Office, Visitor, open_office
from tests.console.test_lists import desk_of, text

JAN = "jan@voorbeeld.nl"


@pytest.fixture(scope="module")
def office(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Office]:
    with open_office(tmp_path_factory.mktemp("office")) as opened:
        desk = desk_of(opened)
        desk.subscribe(JAN, measuring="yes")
        desk.subscribe("weg@voorbeeld.nl")
        desk.post(desk.link("afmelden"))
        desk.ask("wacht@voorbeeld.nl")
        opened.join("els@voorbeeld.nl")
        yield opened


def number(client: Visitor, address: str) -> str:
    """Look somebody up; gives the number by which they are named from then on."""
    found = client.submit("persons", "persons", address=address)
    assert found.status_code == 303, text(found)
    return str(found.headers["location"].rpartition("/")[2])


def page(client: Visitor, address: str) -> Any:
    return client.get(f"persons/{number(client, address)}")


def log(office: Office) -> list[Entry]:
    return StaffLog(office.kit.store, office.clock).read(most=5)


@pytest.mark.checklist("SEC-06")
def test_a_person_is_found_by_address_and_the_look_is_logged_without_it(office: Office) -> None:
    client = office.client("privacy")

    shown = page(client, "JAN@Voorbeeld.nl ")

    assert shown.status_code == 200
    assert [(entry.act, entry.about) for entry in log(office)[:2]] == [
        ("person.read", "person 1"),
        ("person.search", ""),
    ]
    digests = office.kit.afgemeld.keys.digests(JAN)
    mine = StaffLog(office.kit.store, office.clock).read(persons=digests)
    assert {entry.act for entry in mine} == {"person.read", "person.search"}


def test_a_consent_shows_its_proof_and_the_exact_text_that_was_agreed_to(office: Office) -> None:
    client = office.client("privacy")

    shown = page(client, JAN)

    (record,) = {event["record_id"] for event in office.kit.evidence.export() if event["state"] == "given"} & set(
        re.findall(r"<code>([0-9a-f]{32})</code>", shown.text)
    )
    words = text(shown)
    assert "Mag er nu post heen Ja. Stand zelf bevestigd Grond toestemming" in words
    assert "Hoe met de knop achter de link in de mail Bevestigd op 2 maart 2026" in words
    assert f"Ontvangstbewijs {record}" in words
    notice = office.kit.paper().notice(office.kit.paper().form("nieuwsbrief"), "nl")
    for said in (*notice.content["texts"], *notice.content["confirm"]):
        assert re.sub(r"\s+", " ", said) in re.sub(r"&#39;", "'", words)


def test_the_history_tells_in_plain_words_what_happened_in_its_order(office: Office) -> None:
    client = office.client("privacy")

    history = re.search(r"Geschiedenis</h2>(.*?)</section>", page(client, "weg@voorbeeld.nl").text, re.DOTALL)

    assert history
    rows = [re.findall(r"<td>(.*?)</td>", row)[1:4] for row in history[1].split("<tr>")[2:]]
    assert rows == [
        ["aanmelding gevraagd", "Nieuwsbrief", "via een gekopieerd formulier"],
        ["toestemming gegeven", "Nieuwsbrief", "met de knop achter de link in de mail"],
        ["toestemming ingetrokken", "Nieuwsbrief", "de afmeldpagina"],
        ["afgemeld", "Alleen “Nieuwsbrief”", "de afmeldpagina"],
    ]


@pytest.mark.parametrize(
    ("address", "told"),
    [
        ("weg@voorbeeld.nl", "Nee: afgemeld. Stand afgemeld"),
        ("wacht@voorbeeld.nl", "Nee: nog niet bevestigd. Stand wacht op bevestiging"),
        ("els@voorbeeld.nl", "Ja. Stand geïmporteerd met bewijs Grond toestemming Bewijs papieren formulier, open dag"),
    ],
)
def test_what_forbids_mail_is_said_in_words(office: Office, address: str, told: str) -> None:
    assert f"Mag er nu post heen {told}" in text(page(office.client("privacy"), address))


def test_the_text_is_shown_again_in_a_frame_in_which_nothing_runs(office: Office) -> None:
    client = office.client("privacy")
    framed = re.search(r'<iframe[^>]* sandbox [^>]*src="([^"]+)"', page(client, JAN).text)
    assert framed

    shown = client.get(framed[1])

    assert "De Linde" in shown.text
    policy = shown.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert policy.endswith("sandbox")
    assert "unsafe-inline" not in policy
    assert client.get("persons/notices/" + "0" * 64).status_code == 404


def test_who_only_ever_left_is_answered_in_place(office: Office) -> None:
    office.kit.afgemeld.add_sync("vreemd@voorbeeld.nl", scope="marketing", reason="phone", channel="phone")
    client = office.client("privacy")

    answer = client.submit("persons", "persons", address="vreemd@voorbeeld.nl")

    assert answer.status_code == 200
    assert "Alle nieuwsbrieven en andere reclame 2 maart 2026" in text(answer)
    assert log(office)[0].act == "person.read"


def test_what_is_no_address_is_asked_again(office: Office) -> None:
    answer = office.client("privacy").submit("persons", "persons", address="jan@")

    assert answer.status_code == 422
    assert 'value="jan@"' in answer.text
    assert "Dit is geen e-mailadres." in answer.text


@pytest.mark.parametrize(
    "path", ["persons/999", "persons/99999999999999999999", "persons/999/data", "persons/999/erase"]
)
def test_a_number_that_nobody_has_is_not_found(office: Office, path: str) -> None:
    assert office.client("privacy").get(path).status_code == 404


def test_all_data_go_out_as_a_file_that_is_the_same_as_the_persons_own(office: Office) -> None:
    client = office.client("privacy")
    id = number(client, JAN)

    file = client.get(f"persons/{id}/data")

    assert file.headers["content-disposition"].startswith('attachment; filename="gegevens-abonnee-')
    assert json.loads(file.text)["address"] == JAN
    assert log(office)[0].act == "person.export"
    newsletter, paper = office.kit.newsletter, office.kit.paper()
    token = newsletter.preferences_token(paper, office.kit.afgemeld.keys.digest(JAN), fresh=True)
    assert json.loads(file.text) == newsletter.own_data(paper, token)


def test_mailings_that_went_to_a_person_are_found_by_number(office: Office) -> None:
    html = '<p>Dag</p><p>De Linde, Lindelaan 1 <a href="{{ unsubscribe_url }}">Afmelden</a></p>'
    draft = Draft(list="nieuwsbrief", subject="Herfst", html=html)
    id = office.kit.mailings.new(draft)
    office.kit.mailings.send(id, dns=False)
    client = office.client("privacy")

    rows = [received(office.kit.store, int(number(client, who))) for who in (JAN, "weg@voorbeeld.nl")]

    assert [[(one.mailing, one.subject, one.state) for one in some] for some in rows] == [
        [(id, "Herfst", "queued")], [(id, "Herfst", "excluded")],
    ]  # fmt: skip
    assert "Herfst Nieuwsbrief niet verstuurd (afgemeld)" in text(page(client, "weg@voorbeeld.nl"))


@pytest.mark.checklist("UNS-08")
def test_leaving_by_phone_holds_at_once_and_keeps_how_it_was_asked(office: Office) -> None:
    office.join("belt@voorbeeld.nl")
    client = office.client("privacy")
    id = number(client, "belt@voorbeeld.nl")

    done = client.submit(f"persons/{id}/leave", f"persons/{id}/leave", what="marketing", how="phone")

    assert "Afgemeld. Hiervoor gaat er meteen niets meer naartoe." in client.follow(done).text
    assert office.kit.newsletter.why_not("belt@voorbeeld.nl", "nieuwsbrief") == "afgemeld"
    (row,) = office.kit.afgemeld.all_of("belt@voorbeeld.nl")
    assert (row.scope, row.reason, row.channel) == ("marketing", "phone", "phone")
    assert "afgemeld.add" in {entry.act for entry in log(office)}


def test_leaving_asks_from_what_and_how(office: Office) -> None:
    client = office.client("privacy")
    id = number(client, "els@voorbeeld.nl")

    answer = client.submit(f"persons/{id}/leave", f"persons/{id}/leave", what="agenda")

    assert answer.status_code == 422
    assert "Kies waarvoor." in answer.text
    assert "Kies hoe het is gevraagd." in answer.text
    assert office.kit.newsletter.why_not("els@voorbeeld.nl", "nieuwsbrief") is None


def test_erasing_asks_first_and_leaves_only_what_it_says(office: Office) -> None:
    office.join("wis@voorbeeld.nl")
    client = office.client("privacy")
    id = number(client, "wis@voorbeeld.nl")
    asked = client.get(f"persons/{id}/erase")

    done = client.submit(f"persons/{id}/erase", f"persons/{id}/erase")

    assert "Dit kan niet ongedaan worden gemaakt." in text(asked)
    assert "nog 5 jaar vanaf nu" in text(asked)
    shown = client.follow(done)
    assert "De gegevens zijn gewist." in text(shown)
    assert "wis@voorbeeld.nl" not in shown.text
    assert f"Abonnee {id} (adres gewist)" in text(shown)
    assert number(client, "wis@voorbeeld.nl") == id  # by digest
    assert "person.erase" in {entry.act for entry in log(office)}


def test_only_who_may_read_persons_gets_at_them(office: Office) -> None:
    client = office.client("redactie", "verzenden")

    codes = {client.get(path).status_code for path in ("persons", "persons/1", "persons/1/data", "persons/1/erase")}

    assert codes == {403}


def test_what_somebody_filled_in_is_text(tmp_path: Path) -> None:
    evil = "<script>alert(1)</script>"
    tables = {"nieuwsbrief": {"title": {"nl": "N", "en": "N"}, "about": {"nl": "N", "en": "N"},
                              "frequency": {"nl": "n", "en": "n"}, "form": "lang"}}  # fmt: skip
    forms = {"lang": {"fields": ["email", "name"], "purpose": {"nl": "x", "en": "x"}, "retention": "1 year"}}
    with open_office(tmp_path, lists=tables, forms=forms) as office:
        desk_of(office).subscribe('"<b>"@voorbeeld.nl'.replace('"<b>"', "o'hara"), name=evil)
        shown = page(office.client("privacy"), "o'hara@voorbeeld.nl").text

    assert evil not in shown
    assert "&lt;script&gt;alert(1)" in shown
