"""Afgemeld in the console: looked up, added, lifted by two, imported, exported and scrubbed; and never listed."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest

from consentkit.afgemeld.scrub import scrub
from consentkit.mailing import Draft
from consentkit.mailing.pace import Limits
from consentkit.mailing.release import Release, Run
from consentkit.newsletter import Aim, Readers
from tests.console.office import Office, Visitor, open_office
from tests.mailing import hall

NOTHING_LEFT = "is niet afgemeld."


@pytest.fixture(scope="module")
def office(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Office]:
    with open_office(tmp_path_factory.mktemp("office"), console={"upload_mb": 1}) as opened:
        yield opened


@pytest.fixture
def piet(office: Office) -> Visitor:
    """The privacy officer."""
    return office.client("privacy", name="Piet")


def add(who: Visitor, address: str, how: str = "phone", scope: str = "marketing") -> str:
    """Opt somebody out; what the page says then."""
    return said(who.follow(who.submit("afgemeld/add", "afgemeld/add", address=address, how=how, scope=scope)))


def look_up(who: Visitor, address: str) -> str:
    """What the page answers."""
    response = who.submit("afgemeld", "afgemeld", address=address)
    assert response.status_code == 200, response.text
    return plain(response.text)


def said(response: Any) -> str:
    """The status message on a page."""
    found = re.search(r'class="ck-told" role="status">([^<]*)<', response.text)
    assert found, response.text[-2000:]
    return found[1]


def plain(html: str) -> str:
    """The words of a page."""
    return " ".join(re.sub(r"<[^>]+>", " ", html).split())


def send_file(who: Visitor, page: str, data: bytes, name: str = "lijst.csv", **typed: Any) -> Any:
    """Upload a file to a page of the area."""
    return who.submit(page, page, files={"file": (name, data, "text/csv")}, **typed)


def report(who: Visitor, response: Any) -> Any:
    """The page of the work that a form began, once it ended."""
    for _ in range(500):
        page = who.follow(response)
        if "data-ck-again" not in page.text:
            return page
        time.sleep(0.01)
    raise AssertionError(page.text)


def log(office: Office) -> list[tuple[str, str, str]]:
    """Who did what, the newest first."""
    return [(entry.staff, entry.act, entry.about) for entry in office.kit.console._rooms.log.read()]


# -- looking up and adding --------------------------------------------------------------------------------------------


def test_an_address_that_was_never_added_is_not_afgemeld(piet: Visitor) -> None:
    assert f"Nee, vreemd@voorbeeld.nl {NOTHING_LEFT}" in look_up(piet, "vreemd@voorbeeld.nl")


@pytest.mark.checklist("UNS-08")
@pytest.mark.parametrize(
    ("how", "reason", "channel"),
    [
        ("phone", "telefoon", "telefoon"),
        ("letter", "brief", "brief"),
        ("reply", "antwoord op een mail", "antwoord op een mail"),
        ("desk", "door een medewerker", "aan de balie"),
    ],
)
def test_who_asks_by_phone_letter_reply_or_at_the_desk_is_looked_up_with_reason_and_channel(
    piet: Visitor, how: str, reason: str, channel: str
) -> None:
    address = f"{how}@voorbeeld.nl"

    told = add(piet, address, how, "list:agenda")

    assert told.startswith("Afgemeld. Dit adres krijgt deze nieuwsbrief vanaf nu niet meer.")
    assert (
        f"Ja, {address.upper()} is afgemeld. Waarvoor Alleen “Agenda” Sinds 2 maart 2026, 09:30 "
        f"Reden {reason} Hoe het binnenkwam {channel}"
    ) in look_up(piet, address.upper())


def test_adding_twice_says_that_it_was_there(piet: Visitor) -> None:
    add(piet, "twee@voorbeeld.nl", scope="mail")

    told = add(piet, "twee@voorbeeld.nl", scope="mail")

    assert told == "Dit adres was al afgemeld voor alle post. Er is niets veranderd: er gaat niets naartoe."


def test_what_is_wrong_is_said_at_the_field_and_what_was_typed_stays(piet: Visitor) -> None:
    response = piet.submit("afgemeld/add", "afgemeld/add", address="geen adres", how="letter", scope="list:weg")

    assert response.status_code == 422
    assert "Dat is geen e-mailadres waar post naartoe kan." in response.text
    assert "Kies waarvoor." in response.text
    assert 'value="geen adres"' in response.text
    assert re.search(r'value="letter" checked', response.text)
    assert piet.submit("afgemeld", "afgemeld", address="geen adres").status_code == 422


@pytest.mark.checklist("SEC-06")
def test_looking_up_and_adding_are_logged_by_digest_and_without_the_address(office: Office, piet: Visitor) -> None:
    add(piet, "gelogd@voorbeeld.nl")
    look_up(piet, "gelogd@voorbeeld.nl")

    digests = office.kit.afgemeld.keys.digests("gelogd@voorbeeld.nl")
    about = [(one.staff, one.act, one.about) for one in office.kit.console._rooms.log.read(persons=digests)]
    assert about == [("Piet", "afgemeld.check", ""), ("Piet", "afgemeld.add", "marketing (phone)")]
    assert "gelogd" not in str(log(office))


def test_a_look_up_may_be_sent_again_by_the_back_button(piet: Visitor) -> None:
    form = piet.form("afgemeld", "afgemeld")

    answers = [piet.send(form, address="weer@voorbeeld.nl") for _ in range(2)]

    assert [one.status_code for one in answers] == [200, 200]
    assert all(NOTHING_LEFT in one.text for one in answers)


@pytest.mark.checklist("SUP-02")
def test_no_page_lists_who_is_in_the_table(office: Office, piet: Visitor) -> None:
    add(piet, "niemand@voorbeeld.nl")
    digest = office.kit.afgemeld.keys.digest("niemand@voorbeeld.nl").hex()

    pages = [piet.get(path).text for path in ("afgemeld", "afgemeld/add", "afgemeld/lift", "afgemeld/export", "log")]

    assert not any("niemand@" in page or digest in page for page in pages)


def test_the_page_counts_by_scope_and_reason(office: Office, piet: Visitor) -> None:
    for number in range(3):
        add(piet, f"teller{number}@voorbeeld.nl", "letter", "list:nieuwsbrief")

    office.kit.console._rooms.figures.get("afgemeld", dict, wait=5)  # what a page before this one began to count
    for _ in range(100):
        page = plain(piet.get("afgemeld?q=nieuwsbrief+brief").text)
        if "Alleen “Nieuwsbrief” brief 3" in page:
            return
        time.sleep(0.01)
    raise AssertionError(page)


@pytest.mark.parametrize("role", ["redactie", "verzenden"])
def test_who_only_writes_or_sends_may_not_look(office: Office, role: str) -> None:
    someone = office.client(role)

    pages = [someone.get(path).status_code for path in ("afgemeld", "afgemeld/add", "afgemeld/export/file")]

    assert pages == [403, 403, 403]


def test_who_comes_back_by_a_new_confirmation_is_told_to_need_no_lifting(piet: Visitor) -> None:
    assert "Dan is opheffen niet nodig" in piet.get("afgemeld/lift").text


@pytest.mark.checklist("UNS-08")
def test_who_called_gets_no_mailing_from_that_moment(database_url: str, tmp_path: Path) -> None:
    with open_office(tmp_path, database=database_url) as office:
        office.join("blijft@voorbeeld.nl", "belt@voorbeeld.nl")
        kit = office.kit
        draft = Draft.of(list="nieuwsbrief", subject="Feest", html="<p>Woensdag is het feest.</p>")
        mailing, later = kit.mailings.new(draft), kit.mailings.new(draft)
        kit.mailings.send(mailing, dns=False)

        add(office.client("privacy"), "belt@voorbeeld.nl")

        run = Run(mailing, Aim(list="nieuwsbrief"), "one")
        release = Release(kit.store, Readers(kit.afgemeld), limits=Limits(), stop_after=3)
        step = release.step(run, [], room=10, now=kit.now(), under_way=())
        assert kit.newsletter.why_not("belt@voorbeeld.nl", "nieuwsbrief") == "afgemeld"
        assert kit.newsletter.why_not("blijft@voorbeeld.nl", "nieuwsbrief") is None
        assert kit.mailings.audience(later).excluded == {"afgemeld": 1}
        assert [one.reader.address for one in step.released] == ["blijft@voorbeeld.nl"]
        assert [row.reason for row in hall.rows(kit, mailing, but="sending").values()] == ["afgemeld"]


# -- lifting ----------------------------------------------------------------------------------------------------------


def ask_to_lift(who: Visitor, address: str, reason: str = "typefout", scope: str = "marketing") -> Any:
    """Ask; where that led."""
    return who.submit("afgemeld/lift/new", "afgemeld/lift/new", address=address, scope=scope, reason=reason)


def request_of(response: Any) -> str:
    """The path of the request that was made."""
    return str(response.headers["location"]).partition("?")[0].removeprefix("/privacy/console/")


@pytest.mark.checklist("SUP-04", "SEC-06")
def test_two_people_lift_and_both_are_logged(office: Office, piet: Visitor) -> None:
    add(piet, "fout@voorbeeld.nl")
    path = request_of(ask_to_lift(piet, "fout@voorbeeld.nl"))
    anna = office.client("beheer", name="Anna")

    assert "is afgemeld" in look_up(anna, "fout@voorbeeld.nl")
    told = said(anna.follow(anna.submit(path, f"{path}/agree")))

    assert told == "Opgeheven. Jullie namen en de reden zijn bewaard."
    assert NOTHING_LEFT in look_up(piet, "fout@voorbeeld.nl")
    asked, agreed = ("Piet", "afgemeld.lift_ask", "marketing"), ("Anna", "afgemeld.lift_agree", "marketing")
    digests = office.kit.afgemeld.keys.digests("fout@voorbeeld.nl")
    done = [(one.staff, one.act, one.about) for one in office.kit.console._rooms.log.read(persons=digests)]
    assert {asked, agreed} <= {*done}


@pytest.mark.checklist("SUP-04")
def test_nobody_lifts_what_they_asked_themselves(office: Office, piet: Visitor) -> None:
    add(piet, "zelf@voorbeeld.nl")
    path = request_of(ask_to_lift(piet, "zelf@voorbeeld.nl"))
    page = piet.get(path)
    form = office.client("beheer", name="Bo").form("afgemeld/add", "afgemeld/add")

    own = office.client("privacy", name=" piet")
    answers = []
    for act in ("agree", "refuse"):
        form = own.form("afgemeld/add", "afgemeld/add")
        form.action = f"/privacy/console/{path}/{act}"
        answers.append(own.send(form))

    assert "Je hebt dit zelf gevraagd." in page.text
    assert f"{path}/agree" not in page.text
    assert [one.status_code for one in answers] == [403, 403]
    assert all("Opheffen kan alleen met een tweede persoon" in one.text for one in answers)
    assert "is afgemeld" in look_up(piet, "zelf@voorbeeld.nl")


def test_a_second_person_who_does_not_agree_leaves_it_as_it_is(office: Office, piet: Visitor) -> None:
    add(piet, "blijft@voorbeeld.nl")
    path = request_of(ask_to_lift(piet, "blijft@voorbeeld.nl"))
    anna = office.client("beheer", name="Anna")

    told = said(anna.follow(anna.submit(path, f"{path}/refuse")))

    assert told == "Het verzoek is afgewezen. De afmelding blijft staan."
    assert "is afgemeld" in look_up(piet, "blijft@voorbeeld.nl")
    assert log(office)[1] == ("Anna", "afgemeld.lift_refuse", "marketing")
    assert anna.get(path).status_code == 404


def test_the_page_of_a_request_shows_scope_reason_who_and_when_and_no_address(office: Office, piet: Visitor) -> None:
    add(piet, "geheim@voorbeeld.nl", scope="list:agenda")
    path = request_of(ask_to_lift(piet, "geheim@voorbeeld.nl", "verkeerde <b>Jan</b>", "list:agenda"))

    page = office.client("beheer", name="Anna").get(path).text

    assert (
        "Waarvoor Alleen “Agenda” Reden verkeerde &lt;b&gt;Jan&lt;/b&gt; "
        "Gevraagd door Piet Gevraagd op 2 maart 2026, 09:30"
    ) in plain(page)
    assert "geheim" not in page


@pytest.mark.parametrize(
    ("address", "scope", "reason", "problem"),
    [
        ("vrij@voorbeeld.nl", "marketing", "typefout", "Dit adres is hiervoor niet afgemeld."),
        ("gevraagd@voorbeeld.nl", "marketing", " ", "Schrijf waarom het een vergissing was."),
        ("gevraagd@voorbeeld.nl", "marketing", "moest jan@voorbeeld.nl zijn", "Haal het e-mailadres uit de reden"),
        ("gevraagd@voorbeeld.nl", "marketing", "x" * 1001, "Dit is te lang."),
        ("gevraagd@voorbeeld.nl", "opt-in:agenda", "typefout", "Kies waarvoor."),
    ],
)
def test_a_request_that_can_t_be_taken_says_why(
    piet: Visitor, address: str, scope: str, reason: str, problem: str
) -> None:
    add(piet, "gevraagd@voorbeeld.nl")

    response = ask_to_lift(piet, address, reason, scope)

    assert response.status_code == 422
    assert problem in response.text


def test_asking_twice_is_one_request(piet: Visitor) -> None:
    add(piet, "dubbel@voorbeeld.nl")
    ask_to_lift(piet, "dubbel@voorbeeld.nl")

    response = ask_to_lift(piet, "dubbel@voorbeeld.nl", "nog eens")

    assert "Dit is al gevraagd en wacht op een tweede persoon." in response.text


# -- files ------------------------------------------------------------------------------------------------------------

LIST = (
    b"\xef\xbb\xbfnaam;e-mail\r\n=1+2;een@school.nl\r\nTwee;twee@school.nl\r\nDrie;geen adres\r\nVier;EEN@school.nl\r\n"
)


def test_an_import_is_a_dry_run_first_and_then_adds(office: Office, piet: Visitor) -> None:
    tried = report(piet, send_file(piet, "afgemeld/import", LIST, scope="list:agenda"))
    words = plain(tried.text)

    assert "lijst.csv is gelezen, en er is nog niets geïmporteerd. Nieuw: 2. Al bekend: 1. Geweigerd: 1." in words
    assert "4 dit is geen e-mailadres waar post naartoe kan" in words
    assert NOTHING_LEFT in look_up(piet, "een@school.nl")

    path = str(tried.url.path).removeprefix("/privacy/console/")
    begun = piet.submit(path, f"afgemeld/import/{path.partition('/')[2]}")
    done = report(piet, begun)

    assert "lijst.csv is geïmporteerd. Nieuw: 2. Al bekend: 1. Geweigerd: 1." in plain(done.text)
    assert "Alleen “Agenda”" in look_up(piet, "een@school.nl")
    assert "Het bestand is verwijderd." in piet.get(path).text
    assert ("Piet", "afgemeld.import", "list:agenda (import)") in log(office)


def test_an_export_can_be_imported_again_and_says_that_all_of_it_is_known(piet: Visitor) -> None:
    add(piet, "rond@voorbeeld.nl", scope="list:nieuwsbrief")
    file = piet.get("afgemeld/export/file?scope=list:nieuwsbrief").content

    tried = report(piet, send_file(piet, "afgemeld/import", file))

    known = len(file.splitlines()) - 1
    assert f"Nieuw: 0. Al bekend: {known}. Geweigerd: 0." in plain(tried.text)


def test_a_scrubbed_file_is_byte_for_byte_what_the_command_line_makes(office: Office, piet: Visitor) -> None:
    add(piet, "twee@school.nl")
    sink = BytesIO()
    scrub(office.kit.afgemeld, BytesIO(LIST), sink, list="nieuwsbrief")

    page = report(piet, send_file(piet, "afgemeld/scrub", LIST, list="nieuwsbrief"))
    file = piet.get(f"{page.url.path}/file")

    assert "Daarvan blijft over: 1. Eruit: 1 afgemeld, 1 dubbel, 1 zonder goed adres, 0 onleesbaar." in plain(page.text)
    assert file.content == sink.getvalue()
    assert b"=1+2;een@school.nl\r\n" in file.content
    assert file.headers["content-disposition"].startswith('attachment; filename="opgeschoond-lijst.csv"')
    assert office.client("privacy", name="Anna").get(f"{page.url.path}/file").status_code == 404


def test_a_scrubbed_file_is_gone_after_an_hour_and_at_once_when_asked(office: Office, piet: Visitor) -> None:
    pages = [report(piet, send_file(piet, "afgemeld/scrub", LIST)) for _ in range(2)]
    paths = [str(page.url.path).removeprefix("/privacy/console/") for page in pages]

    piet.submit(paths[0], f"{paths[0]}/drop")
    assert piet.get(f"{paths[0]}/file").status_code == 404

    assert piet.get(f"{paths[1]}/file").status_code == 200
    office.clock.later(minutes=61)
    assert piet.get(f"{paths[1]}/file").status_code == 404
    office.clock.later(minutes=-61)


@pytest.mark.parametrize("page", ["afgemeld/scrub", "afgemeld/import"])
@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (b"", "Dit bestand is leeg."),
        (b"%PDF-1.7 ...", "Dit is een PDF, geen CSV."),
        (b"PK\x03\x04\x14\x00", "Dit is een rekenblad van Excel of LibreOffice"),
        (b"\x89PNG\r\n\x1a\n", "Dit is geen CSV met tekst."),
        ("e-mail\njan@voorbeeld.nl\n".encode("utf-16-le"), "met twee of vier bytes per teken opgeslagen"),
    ],
)
def test_a_wrong_file_is_refused_in_words(piet: Visitor, page: str, data: bytes, problem: str) -> None:
    response = send_file(piet, page, data)

    assert response.status_code == 422
    assert problem in response.text


def test_no_file_at_all_is_refused_in_words(piet: Visitor) -> None:
    response = piet.submit("afgemeld/scrub", "afgemeld/scrub", list="agenda")

    assert response.status_code == 422
    assert "Kies eerst een bestand." in response.text
    assert '<option value="agenda" selected>' in response.text


def test_utf_16_that_says_so_is_read(piet: Visitor) -> None:
    page = report(piet, send_file(piet, "afgemeld/scrub", "e-mail\r\njan@voorbeeld.nl\r\n".encode("utf-16")))

    assert "Regels in het bestand: 1. Daarvan blijft over: 1." in plain(page.text)


def test_a_file_that_is_too_large_is_refused_in_words(piet: Visitor) -> None:
    response = send_file(piet, "afgemeld/scrub", b"a@b.nl\n" * 600_000)

    assert response.status_code == 413
    assert "een formulier hier 1 MB zijn" in response.text


def test_a_text_without_addresses_fails_in_words(piet: Visitor) -> None:
    page = report(piet, send_file(piet, "afgemeld/scrub", b"naam,plaats\nJan,Zwolle\n"))

    assert "er is geen kolom met e-mailadressen gevonden" in page.text


def test_the_export_holds_digests_and_no_address_and_is_logged(office: Office, piet: Visitor) -> None:
    add(piet, "export@voorbeeld.nl", "letter", "mail")
    digest = office.kit.afgemeld.keys.digest("export@voorbeeld.nl").hex()

    file = piet.get("afgemeld/export/file?scope=mail")

    lines = file.text.splitlines()
    assert file.headers["content-disposition"].startswith('attachment; filename="afgemeld-2026-03-02.csv"')
    assert lines[0] == "digest,key_id,scope,reason,channel,at"
    assert any(line.startswith(f"{digest},") and ",mail,letter,letter,2026-03-02T09:30:00" in line for line in lines)
    assert all(",mail," in line for line in lines[1:])
    assert not re.search(r"(^|,)[=+@-]", file.text, re.MULTILINE)
    assert "@" not in file.text
    assert log(office)[0] == ("Piet", "afgemeld.export", "mail")
    assert piet.get("afgemeld/export/file?scope=alles").status_code == 422


def test_the_page_of_the_export_names_the_key_that_it_needs(office: Office, piet: Visitor) -> None:
    assert f"Deze site heeft: {office.kit.afgemeld.keys.newest.id}." in piet.get("afgemeld/export").text
