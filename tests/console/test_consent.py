"""The area of consent: figures, proof by receipt, what was shown, the check of the chain, exports, what is declared."""

from __future__ import annotations

import asyncio
import csv
import hashlib
import json
import re
import secrets
import sqlite3
import time
import tomllib
from collections.abc import Iterator
from contextlib import closing
from datetime import datetime, timedelta
from html import unescape
from pathlib import Path
from typing import Any

import pytest

from consentkit import catalogue
from consentkit.choice.state import Decision
from consentkit.evidence import ConsentEvent
from consentkit.render import load_texts
from consentkit.render.console import texts
from consentkit.web import owner
from consentkit.web.console.proof import how_said, read_number
from tests.console.office import Office, Visitor, open_office

SERVICES = {"google-analytics": {}, "youtube": {}}


@pytest.fixture(scope="module")
def office(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Office]:
    with open_office(tmp_path_factory.mktemp("consent"), services=SERVICES) as opened:
        yield opened


@pytest.fixture(scope="module")
def record(office: Office) -> str:
    """Somebody who agreed to everything ten days ago, kept statistics, and took that back too; and who refused."""
    number = secrets.token_hex(16)
    given = office.clock.now - timedelta(days=10)
    write(office, number, "given", given, analytics=True, youtube=True)
    write(office, number, "renewed", given + timedelta(days=2), "settings.save", analytics=True, youtube=False)
    write(office, number, "withdrawn", given + timedelta(days=4), "footer.withdraw", analytics=False, youtube=False)
    site, notice = office.kit.sites[0], office.kit.sites[0].notices["en"]
    refused = office.kit.evidence.count(site.settings.name, given, "banner.refuse", notice.hash, None, notice=notice)
    asyncio.run(refused)
    return number


def write(
    office: Office, record: str, state: str, at: datetime, method: str = "banner.accept", **purposes: bool
) -> None:
    """One event of a record, kept."""
    site = office.kit.sites[0]
    notice = site.notices["nl"]
    event = ConsentEvent(
        site=site.settings.name,
        record_id=record,
        state=state,
        at=at,
        purposes=purposes,
        notice_hash=notice.hash,
        language="nl",
        ui_build=site.renderer.ui_build,
        method=method,
        policy=site.policy.fingerprint,
        valid_until=at + timedelta(days=182) if state != "withdrawn" else None,
        controller="Stichting De Linde",
        nonce=secrets.token_hex(16) if state != "withdrawn" else None,
    )
    office.kit.evidence.record_sync(event, notice)


def counted(visitor: Visitor, path: str) -> Any:
    """A page whose figures are counted behind, once they are."""
    for _ in range(400):
        page = visitor.get(path)
        if "data-ck-again" not in page.text:
            return page
        time.sleep(0.01)
    raise AssertionError("it is never counted")


def said(page: Any) -> str:
    """What a page says, its tags left out."""
    return " ".join(unescape(re.sub(r"<[^>]+>", " ", page.text)).split())


def acts(office: Office) -> list[tuple[str, str, str]]:
    return [(one.staff, one.act, one.about) for one in office.kit.console._rooms.log.read()]


# -- figures ------------------------------------------------------------------------------------------------------


def test_the_figures_say_per_purpose_what_was_given_refused_and_withdrawn(office: Office, record: str) -> None:
    page = counted(office.client("privacy"), "consent")

    assert page.status_code == 200
    assert "Bezoek meten: 1 van de 2 antwoorden waren een ja (50,0%). Ingetrokken: 1." in said(page)
    assert "YouTube: 1 van de 2 antwoorden waren een ja (50,0%). Ingetrokken: 1." in said(page)
    assert page.text.count('<svg class="report-chart"') == 3
    assert record not in page.text


def test_the_figures_of_a_period_are_a_file_too(office: Office, record: str) -> None:
    page = office.client("privacy").get("consent/rates?since=2026-02-20&until=2026-02-21")

    assert page.headers["content-disposition"].startswith(
        'attachment; filename="toestemming-2026-02-20-2026-02-21.csv"'
    )
    assert page.text == (
        "day,purpose,given,refused,withdrawn\n"
        "2026-02-20,analytics,1,1,0\n2026-02-20,youtube,1,1,0\n2026-02-21,analytics,0,0,0\n2026-02-21,youtube,0,0,0\n"
    )


@pytest.mark.parametrize(
    ("query", "sentence"),
    [
        ("since=gisteren", "Dit is geen datum. Kies een dag."),
        ("until=0001-01-01", "Dit is geen datum. Kies een dag."),
        ("until=9999-12-31", "Dit is geen datum. Kies een dag."),
        ("since=2026-02-02&until=2026-02-01", "Deze dag ligt na de laatste dag. Kies een eerdere dag."),
        ("since=2025-01-01&until=2026-02-01", "Kies een periode van hooguit 396 dagen."),
    ],
)
def test_a_period_that_is_none_is_told_at_its_field(office: Office, query: str, sentence: str) -> None:
    page = office.client("privacy").get(f"consent?{query}")

    assert page.status_code == 422
    assert sentence in said(page)


def test_a_long_period_is_drawn_by_week(office: Office, record: str) -> None:
    page = counted(office.client("privacy"), "consent?since=2025-10-01&until=2026-03-02&purpose=youtube")

    assert "Toestemming gegeven, per week" in said(page)
    assert page.text.count('<svg class="report-chart"') == 3


# -- proof --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "typed",
    ["{0}", " {1} ", "{2}", "Ontvangstbewijs: {0}.", "mijn nummer is {3}"],
)
def test_a_number_is_found_however_it_is_quoted(typed: str) -> None:
    number = "7436bed6bd0a27f983d5ba454270d2fc"
    parts = [number[at : at + 8] for at in range(0, 32, 8)]

    assert read_number(typed.format(number, number.upper(), "-".join(parts), " – ".join(parts))) == number


@pytest.mark.parametrize("typed", ["", "jan@voorbeeld.nl", "7436bed6", "a" * 33, f"{'a' * 32}, {'b' * 32}"])
def test_what_holds_no_number_or_several_finds_nothing(typed: str) -> None:
    assert read_number(typed) is None


@pytest.mark.checklist("SEC-06")
def test_a_record_is_read_in_words_by_its_receipt_and_that_is_in_the_log(office: Office, record: str) -> None:
    petra = office.client("privacy", name="Petra")

    page = petra.follow(petra.submit("consent/find", "consent/find", receipt=f" {record[:16].upper()}-{record[16:]}"))

    assert page.status_code == 200
    for sentence in (
        "20 februari 2026, 09:30: toestemming gegeven Hoe In de cookiebanner, met de knop “Accepteren” "
        "Ja tegen Bezoek meten, YouTube Geldig tot",
        "22 februari 2026, 09:30: keuze veranderd Hoe Bij de cookie-instellingen, met de knop “Keuze opslaan” "
        "Ja tegen Bezoek meten Nee tegen YouTube",
        "24 februari 2026, 09:30: toestemming ingetrokken Hoe Onder aan een pagina, met de knop "
        "“Toestemming intrekken” Geen toestemming meer voor Bezoek meten, YouTube",
    ):
        assert sentence in said(page)
    assert acts(office)[0] == ("Petra", "consent.read", f"record {record}")


@pytest.mark.checklist("EVI-07")
@pytest.mark.parametrize(
    ("at", "answer"),
    [
        ("2026-02-19T12:00", "Bezoek meten nee YouTube nee"),
        ("2026-02-21T12:00", "Bezoek meten ja YouTube ja"),
        ("2026-02-23T12:00", "Bezoek meten ja YouTube nee"),
        ("2026-02-25T12:00", "Bezoek meten nee YouTube nee"),
    ],
)
def test_a_record_says_what_was_in_force_at_any_moment(office: Office, record: str, at: str, answer: str) -> None:
    page = office.client("privacy").get(f"consent/records/{record}?at={at}")

    assert answer in said(page)


def test_a_record_is_taken_along_as_it_stands_in_the_chain(office: Office, record: str) -> None:
    petra = office.client("privacy", name="Petra")

    taken = petra.get(f"consent/records/{record}/file")

    assert taken.json() == [row for row in office.kit.evidence.export() if row["record_id"] == record]
    assert acts(office)[0] == ("Petra", "consent.export", f"record {record}")


def test_a_number_without_a_record_says_why_there_may_be_none(office: Office) -> None:
    petra = office.client("privacy")

    page = petra.follow(petra.submit("consent/find", "consent/find", receipt="0" * 32))

    assert page.status_code == 404
    assert "Wie weigerde, heeft geen ontvangstbewijs." in said(page)


def test_what_is_no_number_goes_to_no_log_and_stays_in_the_field(office: Office) -> None:
    before = acts(office)

    page = office.client("privacy").submit("consent/find", "consent/find", receipt="jan@voorbeeld.nl")

    assert page.status_code == 422
    assert 'value="jan@voorbeeld.nl"' in page.text
    assert acts(office) == before


@pytest.mark.parametrize("role", ["redactie", "verzenden"])
def test_who_writes_or_sends_reads_no_evidence(office: Office, record: str, role: str) -> None:
    for path in ("consent", f"consent/records/{record}", "consent/export", "consent/undeclared"):
        assert office.client(role).get(path).status_code == 403


def test_every_control_that_the_site_records_has_words() -> None:
    places = ("banner", "settings", "footer", "embed", "form")
    decisions = [one.value for one in Decision if one is not Decision.ONCE]
    others = [
        "embed.once", "import.cookiebot", "expiry", "notice.shown", "form.newsletter", "post.newsletter",
        "host.newsletter", "mail.confirm", "mail.measuring", "parent.confirm", "parent.erase", "undo.newsletter",
        "preferences.save", "preferences.newsletter", "own-data", "staff", "leave.phone",
    ]  # fmt: skip
    methods = [*(f"{place}.{one}" for place in places for one in decisions), *others]

    unsaid = [(lang, one) for lang in ("nl", "en") for one in methods if how_said(texts(lang), one) == one]

    assert unsaid == []


# -- what was shown -----------------------------------------------------------------------------------------------


@pytest.mark.checklist("EVI-02")
def test_of_any_day_it_is_known_which_texts_were_answered_and_each_is_shown_again_byte_for_byte(
    office: Office, record: str
) -> None:
    petra = office.client("privacy")
    notices = office.kit.sites[0].notices

    day = counted(petra, "consent/shown?day=2026-02-20")
    page = petra.get(f"consent/notices/{notices['nl'].hash}")
    frame = petra.get(f"consent/notices/{notices['nl'].hash}/shown")
    text = petra.get(f"consent/notices/{notices['nl'].hash}/text")

    assert [f"/notices/{notices[lang].hash}" in day.text for lang in ("nl", "en")] == [True, True]
    assert "20 februari 2026 24 februari 2026 1" in said(day)
    assert "De tekst is precies zoals hij toen was: de hash klopt." in said(page)
    assert f'sandbox src="/privacy/console/consent/notices/{notices["nl"].hash}/shown"' in page.text
    assert frame.content == office.kit.sites[0].renderer.show_notice(notices["nl"].content)
    assert hashlib.sha256(text.content).hexdigest() == notices["nl"].hash


def test_the_texts_that_were_answered_are_searched_by_language(office: Office, record: str) -> None:
    notices = office.kit.sites[0].notices

    page = counted(office.client("privacy"), "consent/shown?q=engels")

    assert [f"/notices/{notices[lang].hash}" in page.text for lang in ("nl", "en")] == [False, True]


def test_what_was_shown_runs_nothing_loads_nothing_and_stands_in_no_page_but_ours(office: Office, record: str) -> None:
    frame = office.client("privacy").get(f"consent/notices/{office.kit.sites[0].notices['nl'].hash}/shown")

    assert frame.headers["content-security-policy"] == (
        "default-src 'none'; style-src 'unsafe-inline'; form-action 'none'; base-uri 'none'; frame-ancestors 'self'; "
        "sandbox"
    )
    assert frame.headers["x-frame-options"] == "SAMEORIGIN"


def test_a_day_without_an_answer_leads_to_the_nearest_days_with_one(office: Office, record: str) -> None:
    page = counted(office.client("privacy"), "consent/shown?day=2026-02-21")

    assert "Op deze dag is geen vraag beantwoord" in said(page)
    assert "Bekijk 20 februari 2026 Bekijk 22 februari 2026" in said(page)


def test_a_text_that_nobody_kept_is_not_found(office: Office) -> None:
    assert office.client("privacy").get(f"consent/notices/{'0' * 64}").status_code == 404
    assert office.client("privacy").get("consent/notices/zo").status_code == 404


# -- the chain ----------------------------------------------------------------------------------------------------


def checked(office: Office, **typed: str) -> Any:
    """The page of a check, once that is done."""
    petra = office.client("privacy", name="Petra")
    begun = petra.submit("consent/chain", "consent/chain", **typed)
    assert begun.status_code == 303
    return counted(petra, begun.headers["location"])


@pytest.mark.checklist("EVI-03")
def test_the_chain_is_checked_by_a_button_and_its_end_is_offered_to_note(office: Office, record: str) -> None:
    page = checked(office)

    assert "Alles is zoals het is opgeschreven." in said(page)
    (head,) = re.findall(r'id="head-1">(\d+:[0-9a-f]{64})<', page.text)
    assert "consent.verify" in [act for _, act, _ in acts(office)]
    again = checked(office, anchor=f" {head.upper()} ")
    assert f"Vergeleken met het genoteerde eind {head}." in said(again)
    assert "Alles is zoals het is opgeschreven." in said(again)


def test_an_end_that_is_in_no_chain_and_one_that_is_none_are_told(office: Office, record: str) -> None:
    assert "Er klopt iets niet. Aantal plekken: 1." in said(checked(office, anchor=f"2:{'0' * 64}"))

    refused = office.client("privacy").submit("consent/chain", "consent/chain", anchor="vorige maand")

    assert refused.status_code == 422
    assert "Dit is geen eind van een keten." in said(refused)


@pytest.mark.checklist("EVI-03")
def test_what_somebody_changed_in_the_database_is_found_and_a_changed_text_proves_nothing(tmp_path: Path) -> None:
    with open_office(tmp_path, services=SERVICES) as office:
        write(office, "a" * 32, "given", office.clock.now, analytics=True, youtube=True)
        digest = office.kit.sites[0].notices["nl"].hash
        with closing(sqlite3.connect(tmp_path / "consentkit.db")) as forger:
            triggers = forger.execute("select name from sqlite_master where type = 'trigger'").fetchall()
            for (name,) in triggers:
                forger.execute(f"drop trigger {name}")
            forger.execute("update consent_event set purposes = replace(purposes, 'true', 'false')")
            forger.execute("update notice set body = replace(body, 'Accepteren', 'Verder')")
            forger.commit()

        page = checked(office)
        text = office.client("privacy").get(f"consent/notices/{digest}")

    assert "Er klopt iets niet. Aantal plekken: 2." in said(page)
    assert "De Linde: stap 1 is niet wat er is opgeschreven" in said(page)
    assert "Let op: de hash klopt niet." in said(text)


# -- exports ------------------------------------------------------------------------------------------------------


def test_a_period_is_exported_as_lines_of_json_and_that_is_in_the_log(office: Office, record: str) -> None:
    petra = office.client("privacy", name="Petra")

    file = petra.submit("consent/export", "consent/export", since="2026-02-20", until="2026-02-22")

    rows = [json.loads(line) for line in file.text.splitlines()]
    assert [(row["record_id"], row["state"]) for row in rows] == [(record, "given"), (record, "renewed")]
    assert rows == [*office.kit.evidence.export()][:2]
    assert acts(office)[0] == ("Petra", "consent.export", "2026-02-20 2026-02-22 site jsonl")


def test_the_same_as_csv_computes_nothing_in_a_spreadsheet(tmp_path: Path) -> None:
    controller = {"name": "=1+1", "address": "Lindelaan 1", "email": "privacy@delinde.example"}
    with open_office(tmp_path, services=SERVICES) as office:
        site = office.kit.sites[0]
        event_at = office.clock.now
        write(office, "a" * 32, "given", event_at, analytics=True, youtube=True)
        notice = site.notices["nl"]
        event = ConsentEvent(
            site.settings.name, "b" * 32, "given", event_at, {"analytics": True}, notice.hash, "nl", "b1",
            "banner.accept", "0f" * 32, event_at + timedelta(days=9), controller["name"], "c" * 32,
        )  # fmt: skip
        office.kit.evidence.record_sync(event, notice)

        file = office.client("privacy").submit("consent/export", "consent/export", format="csv", what="both")

    rows = [*csv.DictReader(file.text.splitlines())]
    assert [row["controller"] for row in rows] == ["Stichting De Linde", "'=1+1"]
    assert json.loads(rows[1]["purposes"]) == {"analytics": True}


def test_an_export_without_days_says_so(office: Office) -> None:
    page = office.client("privacy").submit("consent/export", "consent/export", since="2026-13-01")

    assert page.status_code == 422
    assert "Dit is geen datum. Kies een dag." in said(page)


# -- what is declared ---------------------------------------------------------------------------------------------


def test_the_services_of_the_site_are_searched_and_sorted(office: Office) -> None:
    petra = office.client("privacy")

    every = re.findall(r'<th scope="row">(.*?)</th>', petra.get("consent/services?sort=title&order=desc").text)
    found = re.findall(r'<th scope="row">(.*?)</th>', petra.get("consent/services?q=VISITOR_INFO").text)

    assert every == ["YouTube", "Google Analytics", "consentkit"]
    assert found == ["YouTube"]


@pytest.mark.checklist("GAT-04")
def test_what_was_seen_and_not_declared_comes_with_the_lines_to_copy(office: Office) -> None:
    seen = office.kit.sites[0].flow.seen
    seen.note("host", "player.vimeo.com", "/film")
    seen.note("cookie", '_x"y\\', "/")
    office.kit.audit.flush()

    page = office.client("privacy").get("consent/undeclared?q=_x")

    (lines,) = re.findall(r'<pre id="lines-\d+">(.*?)</pre>', page.text, re.DOTALL)
    assert tomllib.loads(unescape(lines))["services"]["x-y"]["cookies"][0]["name"] == '_x"y\\'
    assert "[services.vimeo]" in office.client("privacy").get("consent/undeclared?q=vimeo").text


@pytest.mark.parametrize(
    ("kind", "name", "lines"),
    [
        ("host", "player.vimeo.com", "[services.vimeo]"),
        ("tag", "vimeo", "[services.vimeo]"),
        ("tag", "cookiebot (off)", "[site.dialects]\ncookiebot = true"),
        ("tag", "reclame", ""),
        ("cookie", "*", ""),
        ("host", "*", ""),
    ],
)
def test_a_known_service_needs_one_line_and_what_no_line_helps_gets_none(kind: str, name: str, lines: str) -> None:
    assert owner.lines(kind, name, load_texts("nl")) == lines


@pytest.mark.parametrize(
    ("kind", "name", "id"),
    [
        ("cookie", "_teller*", "teller"),
        ("host", "*.teller.example", "teller-example"),
        ("storage", 'kar"]\n[site]', "kar-site"),
        ("cookie", "analytics", "own-analytics"),
        ("storage", "vimeo", "own-vimeo"),
        ("cookie", "***_", "service"),
    ],
)
def test_lines_for_the_unknown_are_taken_once_all_that_is_empty_is_filled_in(kind: str, name: str, id: str) -> None:
    written = owner.lines(kind, name, load_texts("nl"))

    (found,) = tomllib.loads(written)["services"].items()
    assert found[0] == id
    with pytest.raises(catalogue.CatalogueError):
        catalogue.parse(id, found[1], None)
    filled = written.replace('country = ""', 'country = "NL"').replace('category = ""', 'category = "analytics"')
    filled = filled.replace('duration = ""', 'duration = "1 day"').replace('= ""', '= "Bezoek tellen per pagina"')
    table = tomllib.loads(filled)["services"][id]
    if "\n" not in name:
        assert catalogue.parse(id, table, None).country == "NL"


def test_a_service_that_is_named_already_is_not_to_be_named_twice() -> None:
    assert owner.lines("host", "player.vimeo.com", load_texts("nl"), declared={"vimeo"}) == ""


# -- the first page -----------------------------------------------------------------------------------------------


def test_the_first_page_says_what_waits_for_who_is_there(tmp_path: Path) -> None:
    with open_office(tmp_path, services=SERVICES) as office:
        office.kit.sites[0].flow.seen.note("cookie", "_hj", "/")
        office.kit.audit.flush()

        privacy, sender = said(office.client("privacy").get()), said(office.client("verzenden").get())
        checked(office)
        afterwards = said(office.client("privacy").get())

    assert "1 naam van een cookie of server gezien" in privacy
    assert "nog nooit gecontroleerd" in privacy
    assert "Er wacht niets op je." in sender
    assert "nog nooit gecontroleerd" not in afterwards
