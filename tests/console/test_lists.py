"""Lists in the console: how many stand on each and how that went, who they are, the form to copy, and imports."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import update
from starlette.testclient import TestClient

from consentkit.newsletter.tables import subscriptions
from consentkit.staff import StaffLog
from tests.console.office import Office, Visitor, open_office
from tests.console.test_jobs import until
from tests.journeys.school import app
from tests.newsletter.desk import Desk

IMPORT = "lists/nieuwsbrief/import"


@pytest.fixture(scope="module")
def office(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Office]:
    """With people on both lists: confirmed, waiting, imported and gone."""
    with open_office(tmp_path_factory.mktemp("office")) as opened:
        fill(opened)
        yield opened


def fill(office: Office) -> None:
    desk = desk_of(office)
    desk.subscribe("jan@voorbeeld.nl")
    desk.subscribe("weg@voorbeeld.nl")
    desk.post(desk.link("afmelden"))
    desk.ask("wacht@voorbeeld.nl")
    office.join("els@voorbeeld.nl", "ria@voorbeeld.nl")


def desk_of(office: Office) -> Desk:
    """The public side of the office's site."""
    office.kit.outbox.wake = lambda: None  # type: ignore[method-assign]  # the test says when mail goes out
    browser = TestClient(office.kit.wrap(app()), base_url="http://school.test", headers={"Accept": "text/html"})
    return Desk(office.kit, office.clock, office.mailer, browser)


def text(response: Any) -> str:
    """The words of a page, without its tags."""
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", response.text[response.text.index("<main") :]))


def upload(client: Visitor, data: bytes, name: str = "adressen.csv", **typed: Any) -> Any:
    """Send the form of the import with a file."""
    return client.submit(IMPORT, IMPORT, files={"file": (name, data, "text/csv")}, **typed)


def job(client: Visitor, response: Any) -> Any:
    """The page of the work that a form began, once it is done."""
    return until(lambda: client.follow(response), lambda page: "data-ck-again" not in page.text)


def test_each_list_shows_how_many_stand_on_it_and_how(office: Office) -> None:
    page = until(lambda: office.client("redactie").get("lists"), lambda page: "data-ck-again" not in page.text)

    row = next(row for row in page.text.split("<tr>") if ">Nieuwsbrief<" in row)
    cells = [re.sub(r"<[^>]+>", "", cell) for cell in re.findall(r"<td.*?</td>", row)]
    assert cells == [
        "Nieuwsbrief", "3", "1", "0", "1", "elke maand", "De Linde &lt;nieuws@delinde.example&gt;",
    ]  # fmt: skip


def test_without_lists_the_page_says_what_to_do_first(tmp_path: Path) -> None:
    with open_office(tmp_path, lists={}) as office:
        page = office.client("redactie").get("lists")

    assert "Vraag wie de site beheert om een lijst in consentkit.toml te zetten" in page.text


@pytest.mark.parametrize("per", ["day", "week"])
def test_the_course_of_a_list_is_drawn_and_stands_beside_it_as_a_table(office: Office, per: str) -> None:
    client = office.client("redactie")

    page = until(lambda: client.get(f"lists/nieuwsbrief?per={per}"), lambda page: "data-ck-again" not in page.text)

    signed_up, left = re.findall(r"<figure.*?</figure>", page.text, re.DOTALL)
    assert [re.findall(r"<rect[^>]*><title>[^<]*: (\d+)<", each) for each in (signed_up, left)] == [["3"], ["1"]]
    assert [re.findall(r'<td class="ck-number">(\d+)', each)[0] for each in (signed_up, left)] == ["3", "1"]
    assert "geïmporteerd, telt hier niet mee" in text(page)


def test_the_form_stands_there_as_text_to_copy(office: Office) -> None:
    page = office.client("redactie").get("lists/nieuwsbrief").text

    assert "{{ consentkit.newsletter_form(&#34;nieuwsbrief&#34;) }}" in page
    assert "&lt;form" in page
    assert page.count("data-ck-copy=") == 3  # the template's line, and the HTML in two languages


def test_only_who_may_read_persons_sees_who_stand_on_a_list(office: Office) -> None:
    page = office.client("redactie").get("lists/nieuwsbrief")

    assert office.client("redactie").get("lists/nieuwsbrief/subscribers").status_code == 403
    assert "nieuwsbrief/subscribers" not in page.text
    assert IMPORT not in page.text


@pytest.mark.checklist("SEC-06")
def test_each_look_at_the_subscribers_is_in_the_log(office: Office) -> None:
    office.client("privacy").get("lists/nieuwsbrief/subscribers")

    (entry,) = StaffLog(office.kit.store, office.clock).read(act="list.read", most=1)
    assert (entry.staff, entry.about) == ("Privacy", "list nieuwsbrief")


def test_subscribers_page_both_ways_without_losing_or_repeating_one(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("consentkit.web.console.listing.PAGE", 2)
    client = office.client("privacy")

    for order in ("", "?sort=id&order=asc"):
        path, pages = f"/privacy/console/lists/nieuwsbrief/subscribers{order}", []
        while path:
            pages.append(client.get(path).text)
            path = _link(pages[-1], "next")
        seen = [re.findall(r"<tr><td>(\d+)", page) for page in pages]
        back = [seen[-1]]
        while path := _link(pages[-1], "prev"):
            pages.append(client.get(path).text)
            back.append(re.findall(r"<tr><td>(\d+)", pages[-1]))

        numbers = [int(number) for page in seen for number in page]
        assert numbers == sorted(set(numbers), reverse=not order)
        assert len(numbers) == 5
        assert back[::-1] == seen


def _link(page: str, rel: str) -> str:
    found = re.search(rf'<a href="([^"]+)" rel="{rel}"', page)
    return found[1].replace("&amp;", "&") if found else ""


def test_subscribers_are_filtered_by_state(office: Office) -> None:
    page = office.client("privacy").get("lists/nieuwsbrief/subscribers?state=unsubscribed")

    assert re.findall(r"\w+@voorbeeld\.nl", page.text) == ["weg@voorbeeld.nl"]


def test_an_import_tells_first_by_line_and_brings_in_only_when_it_is_told_to(office: Office) -> None:
    client = office.client("privacy")
    data = b"email;naam\nnieuw@voorbeeld.nl;Nieuw\nkapot;X\nweg@voorbeeld.nl;Weg\njan@voorbeeld.nl;Jan\n"

    tried = upload(client, data, route="consent", proof="papieren formulier")
    report = job(client, tried)
    unchanged = office.kit.newsletter.why_not("nieuw@voorbeeld.nl", "nieuwsbrief")
    done = job(client, client.submit(tried.headers["location"], _goes_on(report)))

    assert "Nieuw, met bewijs: 1." in text(report)
    assert "3 dit is geen e-mailadres waar post naartoe kan" in text(report)
    assert "4 afgemeld" in text(report)
    assert "@voorbeeld.nl" not in report.text
    assert unchanged == "unknown"
    assert "Klaar. Nieuw, met bewijs: 1." in text(done)
    assert office.kit.newsletter.why_not("nieuw@voorbeeld.nl", "nieuwsbrief") is None
    assert client.send(client.form(IMPORT, IMPORT), route="x").status_code == 422
    assert "Het bestand is verwijderd" in client.follow(tried).text  # it goes with the import


def _goes_on(page: Any) -> str:
    return re.findall(r'action="([^"]+/import/[^"]+)"', page.text)[0]


def test_the_whole_report_is_a_csv_that_holds_no_address(office: Office) -> None:
    client = office.client("privacy")
    tried = upload(client, b"email\nkapot\nzonder@bewijs.nl\nweg@voorbeeld.nl\n", route="donor", in_file="yes")
    job(client, tried)

    lines = client.get(f"{IMPORT}/{tried.headers['location'].rpartition('/')[2]}/lines")

    assert lines.headers["content-type"] == "text/csv; charset=utf-8"
    assert lines.text.split("\r\n") == [
        "Regel,Waarom niet",
        "2,dit is geen e-mailadres waar post naartoe kan",
        '3,"komt erbij zonder bewijs en krijgt geen post: bij de grond donor hoort donation, opt_out_offered"',
        "4,afgemeld",
        "",
    ]


@pytest.mark.parametrize(
    ("typed", "told"),
    [
        ({"proof": "x"}, "Kies een grond."),
        ({"route": "weet-niet", "proof": "x"}, "Kies een grond."),
        ({"route": "consent"}, "Bij deze grond hoort bewijs."),
        ({"route": "customer", "proof": "aankoop boek"}, "Bij deze grond hoort ook dat iedereen kon weigeren"),
    ],
)
def test_an_import_without_a_ground_and_its_proof_is_asked_again_with_what_was_typed(
    office: Office, typed: dict[str, str], told: str
) -> None:
    page = upload(office.client("privacy"), b"email\na@voorbeeld.nl\n", column="email", **typed)

    assert page.status_code == 422
    assert told in page.text
    assert 'value="email"' in page.text


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (b"", "Dit bestand is leeg."),
        (b"PK\x03\x04\x14\x00", "rekenblad"),
        (b"%PDF-1.7", "PDF"),
        (b"naam,plaats\nJan,Utrecht\n", "er is geen kolom met e-mailadressen gevonden"),
    ],
)
def test_a_wrong_file_is_refused_with_what_to_do(office: Office, data: bytes, told: str) -> None:
    page = upload(office.client("privacy"), data, route="unproven")

    assert page.status_code == 422
    assert told in page.text


def test_a_file_in_utf_16_is_read(office: Office) -> None:
    client = office.client("privacy")

    report = job(client, upload(client, "email\nzoë@voorbeeld.nl\n".encode("utf-16"), route="unproven"))

    assert "Nieuw, zonder bewijs (krijgt geen post): 1." in text(report)


def test_nobody_else_can_go_on_with_an_import_or_read_its_report(office: Office) -> None:
    mine = office.client("privacy", name="Piet")
    tried = upload(mine, b"email\nkapot\na@voorbeeld.nl\n", route="unproven")
    id = tried.headers["location"].rpartition("/")[2]
    job(mine, tried)
    hers = office.client("privacy", name="Anna")
    form = hers.form("persons", "persons")
    form.action = f"/privacy/console/{IMPORT}/{id}"

    assert hers.get(f"{IMPORT}/{id}/lines").status_code == 404
    assert hers.send(form).status_code == 404


def test_counts_course_and_pages_are_the_same_on_every_database(database_url: str, tmp_path: Path) -> None:
    with open_office(tmp_path, database=database_url) as office:
        fill(office)
        office.clock.later(days=1)
        overview, today = office.kit.newsletter.overview, office.clock().date()
        with office.kit.store.begin() as connection:  # one second before midnight is the day before, in UTC
            late = datetime.combine(today, datetime.min.time(), UTC) - timedelta(seconds=1)
            mine = subscriptions.c.record_id.is_not(None)
            connection.execute(update(subscriptions).where(mine).values(confirmed_at=late))
        days = [today - timedelta(days=1), today]

        counts, course, page = (
            overview.counts(), overview.course("nieuwsbrief", days), overview.page("nieuwsbrief", most=3),
        )  # fmt: skip

    assert {kind: count for kind, count in counts["nieuwsbrief"].items() if count} == {
        "confirmed": 1, "waiting": 1, "proven": 2, "unsubscribed": 1,
    }  # fmt: skip
    assert [(day.signed_up, day.left) for day in course] == [(3, 1), (0, 0)]
    assert [one.id for one in page] == [5, 4, 3]
    assert isinstance(course[0].day, date)
