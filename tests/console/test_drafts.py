"""Writing a mailing in the console: begun, seen as it will look, tested, put ready; by two people at once too."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from html import unescape
from typing import Any

import pytest

from consentkit.errors import AfgemeldUnavailable
from consentkit.mailing import File, Kept, Sketch
from consentkit.web.console import figures
from tests.console.office import Form, Office, Visitor, forms, open_office
from tests.fixtures_smtp import Mailbox
from tests.mailing import hall

SITE = "Basisschool De Linde"
PNG = b"\x89PNG\r\n\x1a\n"
WHOLE = Sketch(
    list="nieuwsbrief", subject="Feest", body="Dag {{ name }},", fields=("name",), defaults={"name": "lezer"}
)


@pytest.fixture(scope="module")
def post() -> Iterator[Mailbox]:
    with Mailbox() as running:
        yield running


@pytest.fixture(scope="module")
def office(tmp_path_factory: pytest.TempPathFactory, post: Mailbox) -> Iterator[Office]:
    mail = {"sender": "De Linde <nieuws@school.test>", "unsubscribe": "afmelden@school.test", "smtp": post.url}
    with open_office(tmp_path_factory.mktemp("office"), mail=mail, mailing={"connections": 1}) as opened:
        hall.seats(opened.kit, [(1, {"name": "Jan"}, {}), (2, {}, {"state": "pending"})])
        yield opened


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pages that wait for their counts, however slow this machine is."""
    monkeypatch.setattr(figures, "WAIT", 10.0)


@pytest.fixture
def anna(office: Office) -> Visitor:
    return office.client("redactie", name="Anna")


def words(response: Any) -> str:
    """What a page says, without its tags."""
    content = response.text.partition("<main")[2].partition(">")[2]
    return re.sub(r"\s+", " ", unescape(re.sub(r"<[^>]+>", " ", content))).strip()


def acts(office: Office, most: int) -> list[tuple[str, str, str]]:
    """What the log says was done lately, the newest first."""
    return [(entry.staff, entry.act, entry.about) for entry in office.kit.console._rooms.log.read(most=most)]


def begun(office: Office, sketch: Sketch = WHOLE, *files: File) -> tuple[int, str]:
    """A draft of Anna's: its number, and its page."""
    id = office.kit.drafts.make(SITE, sketch, "Anna", files)
    return id, f"mailings/drafts/{id}"


def kept(office: Office, id: int) -> Kept:
    return office.kit.drafts.get(id)


def errors(response: Any) -> list[str]:
    """What stands at the fields."""
    found = re.findall(r'<p class="ck-error" id="ck-([^"]+)-error">([^<]+)</p>', response.text)
    return [f"{field}: {unescape(told)}" for field, told in found]


# Beginning


@pytest.mark.parametrize("lang", ["nl", "en"])
@pytest.mark.parametrize("name", ["newsletter", "invitation", "service"])
def test_each_shipped_beginning_can_be_sent_as_it_is(office: Office, anna: Visitor, name: str, lang: str) -> None:
    made = anna.submit("mailings/new", "mailings/new", list="nieuwsbrief", start=name, language=lang)
    page = anna.follow(made)

    draft = kept(office, int(re.findall(r"drafts/(\d+)", made.headers["location"])[0]))
    found = office.kit.mailings.preflight_of(draft.sketch.draft(), SITE, dns=False)
    assert (draft.sketch.language, draft.sketch.purpose == "service") == (lang, name == "service")
    assert [one.code for one in found if one.level == "error"] == []
    assert "Je concept is gemaakt." in words(page)


def test_one_begins_with_an_empty_sheet_for_a_list_that_is_there(office: Office, anna: Visitor) -> None:
    refused = anna.submit("mailings/new", "mailings/new", list="leerlingen")
    page = anna.follow(anna.submit("mailings/new", "mailings/new", list="agenda"))

    assert (refused.status_code, errors(refused)) == (422, ["list: Kies de lijst waarvan de leden het krijgen."])
    assert "Het voorbeeld komt zodra dit klaar is: Onderwerp: Schrijf waar de mailing over gaat" in words(page)


def test_one_begins_with_an_earlier_mailing_made_by_the_command_line(office: Office, anna: Visitor) -> None:
    mailing = office.kit.mailings.new(WHOLE.draft([File("a.pdf", "application/pdf", False, b"%PDF")]))

    page = anna.follow(anna.submit(f"mailings/new?from={mailing}", "mailings/new", start=f"mailing:{mailing}"))

    assert "Je hebt een kopie." in words(page)
    assert "Bijlage a.pdf, 1 kB" in words(page)
    assert acts(office, 1) == [("Anna", "mailing.copy", f"mailing {mailing}")]


# Writing


def test_what_is_saved_is_what_was_typed_and_is_logged(office: Office, anna: Visitor) -> None:
    id, page = begun(office)

    done = anna.submit(
        page, page, subject="Nieuws", preheader="Kort", body="\n\n# Dag {{ city }}\n", markup="html", purpose="service",
        field_1="city", default_1="stad", field_2="name", needed_2="yes", where_1="city",
        values_1="Utrecht\nDen Haag, A", measured="yes",
        files={"attachments": ("Programma één.pdf", b"%PDF", "application/pdf"), "images": ("f.png", PNG, "image/png")},
    )  # fmt: skip

    draft = kept(office, id)
    assert done.headers["location"].endswith(f"{page}?told=drafts.told_saved")
    assert draft.sketch == Sketch(
        list="nieuwsbrief", subject="Nieuws", preheader="Kort", body="\n\n# Dag {{ city }}\n", markup="html",
        purpose="service", fields=("city", "name"), defaults={"city": "stad"},
        where={"city": ("Utrecht", "Den Haag, A")}, measured=True,
    )  # fmt: skip
    assert [(file.name, file.kind, file.inline) for file in draft.files] == [
        ("Programma één.pdf", "application/pdf", False), ("f.png", "image/png", True),
    ]  # fmt: skip
    assert acts(office, 1) == [("Anna", "mailing.save", f"draft {id}")]


def test_a_form_that_changes_nothing_saves_nothing(office: Office, anna: Visitor) -> None:
    id, page = begun(office, replace(WHOLE, where={"city": ("Utrecht",)}, fields=("name", "city")))

    anna.submit(page, page)

    assert (kept(office, id).version, kept(office, id).sketch.where) == (1, {"city": ("Utrecht",)})


def test_a_file_is_taken_away_by_a_tick(office: Office, anna: Visitor) -> None:
    id, page = begun(office, WHOLE, File("a.pdf", "application/pdf", False, b"%PDF"))

    anna.submit(page, page, remove="a.pdf")

    assert kept(office, id).files == ()


@pytest.mark.parametrize(
    ("typed", "told"),
    [
        ({"subject": "Nieuws\nBcc: x"}, "subject: Hier staat een regeleinde of een ander stuurteken in"),
        (
            {"body": "Dag {{ name"},
            "body: Regel 1: Dit is niet te lezen (de tekst houdt op, terwijl er nog `}}` moet komen).",
        ),
        (
            {"markup": "html", "body": "<p>Dag</p>\n<script>alert(1)</script>"},
            "body: Regel 2: Een script werkt niet in een mail. Haal het weg.",
        ),
        ({"body": "Dag\n\n{{ voornaam }}"}, "body: Regel 3: `voornaam` is niet bekend. Is het een veld?"),
        ({"text": "Dag {{ nam }}"}, "text: Regel 1: `nam` is niet bekend. Bedoel je `name`?"),
        ({"sender": "Boef <boef@elders.example>"}, "sender: Van elders.example wordt hier niets verstuurd."),
        ({"default_2": "lezer"}, "fields: '' kan geen naam van een veld zijn"),
        ({"where_1": "city"}, "where: Bij `city` staat geen waarde."),
    ],
)
def test_what_could_never_be_sent_is_refused_at_its_field_and_all_that_was_typed_is_kept(
    office: Office, anna: Visitor, typed: dict[str, str], told: str
) -> None:
    id, page = begun(office)

    refused = anna.submit(page, page, **({"preheader": "Net getypt"} | typed))

    assert refused.status_code == 422
    assert [one[: len(told)] for one in errors(refused)] == [told]
    assert 'value="Net getypt"' in refused.text
    assert all(unescape(refused.text).count(value.split("\n")[-1]) for value in typed.values())
    assert "Niet opgeslagen." in words(refused)
    assert kept(office, id).version == 1


@pytest.mark.parametrize(
    ("sent", "told"),
    [
        ({"images": ("foto.png", b"MZ\x90")}, "'foto.png' is geen afbeelding die mailprogramma's laten zien."),
        ({"images": ("logo.svg", b"<svg/>")}, "'logo.svg' is geen afbeelding die mailprogramma's laten zien."),
        ({"attachments": ("leeg.pdf", b"")}, "leeg.pdf is leeg."),
        (
            {"attachments": ("groot.zip", bytes(6_000_000))},
            "Bijlagen en afbeeldingen zijn 5,7 MB, en meer dan 5 MB mag niet.",
        ),
    ],
)
def test_a_wrong_or_too_large_file_is_refused_with_the_reason(
    office: Office, anna: Visitor, sent: dict[str, tuple[str, bytes]], told: str
) -> None:
    id, page = begun(office)

    refused = anna.submit(
        page, page, subject="Net getypt", files={field: (*file, "image/png") for field, file in sent.items()}
    )

    assert (refused.status_code, kept(office, id).files) == (422, ())
    assert told in words(refused)
    assert 'value="Net getypt"' in refused.text


def test_who_saves_second_is_told_and_sees_both_versions_and_can_take_either(office: Office, anna: Visitor) -> None:
    id, page = begun(office)
    form = anna.form(page, page)
    office.client("redactie", name="Bas").submit(page, page, subject="Van Bas")

    told = anna.send(form, subject="Van Anna", body="Dag,\n\neen regel erbij")

    assert told.status_code == 409
    assert "Bas sloeg “Van Bas” op" in words(told)
    assert "Onderwerp Jouw versie Van Anna Versie van Bas Van Bas" in words(told)
    assert f'<a class="ck-button quiet" href="/privacy/console/{page}">Neem de versie van Bas</a>' in told.text
    assert kept(office, id).title == "Van Bas"

    anna.send(offered(told, page))

    assert (kept(office, id).title, kept(office, id).sketch.body) == ("Van Anna", "Dag,\n\neen regel erbij")
    assert kept(office, id).editors == ("Anna", "Bas")


def test_who_wrote_on_while_it_was_put_ready_can_keep_that_apart(office: Office, anna: Visitor) -> None:
    id, page = begun(office)
    form = anna.form(page, page)
    office.kit.drafts.ready(id, "Bas")

    told = anna.send(form, subject="Van Anna")
    apart = anna.follow(anna.send(offered(told, page), apart="yes"))

    assert (told.status_code, "is intussen klaargezet of weggegooid" in words(told)) == (409, True)
    assert "Jouw versie is apart opgeslagen" in words(apart)
    assert 'value="Van Anna"' in apart.text


def offered(response: Any, action: str) -> Form:
    """The form on a page that was given as an answer."""
    return next(one for one in forms(response.text) if one.action.endswith(action))


# Looking


def test_the_preview_is_a_document_that_runs_and_loads_nothing_and_only_we_may_frame(
    office: Office, anna: Visitor
) -> None:
    _, page = begun(office, replace(WHOLE, body="![](f.png)"), File("f.png", "image/png", True, PNG))

    shown, bare = anna.get(f"{page}/preview"), anna.get(f"{page}/preview?images=off")

    assert "data:image/png;base64," in shown.text
    assert shown.headers["content-security-policy"] == (
        "sandbox; default-src 'none'; style-src 'unsafe-inline'; img-src data: https: 'self'; base-uri 'none'; "
        "form-action 'none'; frame-ancestors 'self'"
    )
    assert "img-src 'none';" in bare.headers["content-security-policy"]
    assert (shown.headers["x-frame-options"], shown.headers["referrer-policy"]) == ("SAMEORIGIN", "no-referrer")
    assert f'src="/privacy/console/{page}/preview" title="Voorbeeld van de mail Feest" sandbox' in anna.get(page).text


def test_beside_the_text_stand_the_findings_the_plain_text_and_who_gets_it(office: Office, anna: Visitor) -> None:
    _, page = begun(office, replace(WHOLE, purpose="service", body="Nu 50% korting! Bestel vandaag, {{ name }}."))

    told = words(anna.get(page))

    assert "Dit moet eerst weg." in told
    assert "Nu 50% korting! Bestel vandaag, Anna." in told
    assert "1 van de 2 mensen op de lijst krijgt deze mailing." in told
    assert "niet bevestigd 1" in told


def test_one_looks_as_somebody_made_up_who_lacks_what_has_a_text_instead(office: Office, anna: Visitor) -> None:
    _, page = begun(office)

    done = anna.submit(page, page, **{"as": "sparse"})

    assert done.headers["location"].endswith(f"{page}?as=sparse&told=drafts.told_saved")
    assert "Dag lezer," in words(anna.follow(done))


@pytest.mark.checklist("SEC-06")
def test_one_looks_as_a_real_reader_whose_address_one_knows_and_each_look_is_logged_before(
    office: Office, anna: Visitor
) -> None:
    id, page = begun(office)

    done = anna.submit(page, page, **{"as": "person", "reader": "Lezer1@School1.example"})
    seen = anna.follow(done)
    ticket = re.search(r"[?&]as=([^&]+)", done.headers["location"])
    assert ticket is not None
    anna.get(f"{page}/preview?as={ticket[1]}")

    assert "Dag Jan," in words(seen)
    assert acts(office, 3) == [("Anna", "person.preview", f"draft {id}")] * 3


def test_a_reader_s_number_opens_nothing(office: Office, anna: Visitor) -> None:
    _, page = begun(office)

    by_number = anna.get(f"{page}?as=1")

    assert "Dag Anna," in words(by_number)
    assert "Dag Jan," not in words(by_number)


@pytest.mark.parametrize(
    ("address", "told"),
    [
        ("niemand@voorbeeld.nl", "Op de lijst nieuwsbrief staat niemand met dit adres."),
        ("geen adres", "Dat is geen e-mailadres waar post naartoe kan."),
        ("", "Vul het e-mailadres van de lezer in."),
    ],
)
def test_a_reader_who_is_not_there_is_told_at_the_field(office: Office, address: str, told: str) -> None:
    _, page = begun(office)

    refused = office.client("beheer").submit(page, page, **{"as": "person", "reader": address})

    assert refused.status_code == 422
    assert any(told in one for one in errors(refused))


def test_who_may_not_write_can_look_along(office: Office) -> None:
    _, page = begun(office)
    viewer = office.client("verzenden")

    assert "Een collega schrijft hieraan." in words(viewer.get(page))
    assert "<textarea" not in viewer.get(page).text


def test_a_mailing_that_is_ready_is_looked_at_in_the_same_ways(office: Office) -> None:
    id, _ = begun(office)
    mailing = office.kit.drafts.ready(id, "Anna")
    boss, page = office.client("beheer"), f"mailings/{mailing}/preview"

    chosen = boss.submit(page, page, **{"as": "person", "reader": "lezer1@school1.example"})

    assert "Dag Jan," in words(boss.follow(chosen))
    assert "Dag lezer," in boss.get(f"{page}/frame?as=sparse").text
    assert acts(office, 1) == [("Beheer", "person.preview", f"mailing {mailing}")]


def test_without_the_afgemeld_key_one_can_write_and_save_but_not_look(
    office: Office, anna: Visitor, monkeypatch: pytest.MonkeyPatch
) -> None:
    id, page = begun(office)

    def away(*_: object, **__: object) -> None:
        raise AfgemeldUnavailable("no key")

    monkeypatch.setattr(office.kit.mailings, "preview_of", away)
    monkeypatch.setattr(office.kit.mailings, "preflight_of", away)

    anna.submit(page, page, subject="Toch opgeslagen")

    assert kept(office, id).title == "Toch opgeslagen"
    assert "Schrijven en opslaan kan wel." in words(anna.get(page))
    assert anna.get(f"{page}/preview").status_code == 409


# Testing, putting ready, throwing away


def pressed(visitor: Visitor, page: str, button: str, **typed: Any) -> Any:
    """Press a button of the editor that goes elsewhere than its form."""
    form = visitor.form(page, page)
    form.action = f"/privacy/console/{page}/{button}"
    return visitor.send(form, **typed)


def test_a_test_goes_out_with_what_was_just_typed(office: Office, anna: Visitor, post: Mailbox) -> None:
    id, page = begun(office)

    done = pressed(anna, page, "test", subject="Net getypt", to="anna@school.example, bas@school.example")

    assert done.headers["location"].endswith("told=sending.told_test")
    assert [letter["Subject"] for letter in post.messages[-2:]] == ["[Test] Net getypt"] * 2
    assert [act for _, act, about in acts(office, 3) if about == f"draft {id}"] == [
        "mailing.test", "mailing.test", "mailing.save",
    ]  # fmt: skip


@pytest.mark.checklist("SUP-02")
def test_a_test_to_somebody_who_left_is_told_in_words_and_the_text_is_saved(office: Office, anna: Visitor) -> None:
    id, page = begun(office)
    office.kit.afgemeld.add_sync("weg@school.example", scope="marketing", reason="phone", channel="staff")

    refused = pressed(anna, page, "test", subject="Bewaard", to="weg@school.example")

    assert (refused.status_code, kept(office, id).title) == (422, "Bewaard")
    assert any("Een van deze adressen heeft zich afgemeld." in one for one in errors(refused))
    assert 'value="weg@school.example"' in refused.text


def test_who_may_only_test_tests_without_writing(office: Office, post: Mailbox) -> None:
    id, page = begun(office)

    office.client("verzenden").submit(page, f"{page}/test", to="vera@school.example")

    assert post.messages[-1]["To"] == "vera@school.example"
    assert kept(office, id).editors == ("Anna",)


def test_a_draft_is_put_ready_with_what_was_just_typed(office: Office, anna: Visitor) -> None:
    id, page = begun(office)

    done = pressed(anna, page, "ready", subject="Klaar")

    mailing = kept(office, id).mailing_id
    assert done.headers["location"].endswith(f"mailings/{mailing}?told=drafts.told_ready")
    assert "De mailing staat klaar." in words(anna.follow(done))
    assert anna.get(page).headers["location"].endswith(f"/mailings/{mailing}")
    assert acts(office, 1) == [("Anna", "mailing.ready", f"draft {id}")]


def test_what_is_not_complete_is_saved_and_every_gap_is_told_at_its_field(office: Office, anna: Visitor) -> None:
    id, page = begun(office)

    refused = pressed(anna, page, "ready", subject="", body="")

    assert (refused.status_code, kept(office, id).version, kept(office, id).mailing_id) == (422, 2, None)
    assert "de mailing kan nog niet klaargezet worden" in words(refused)
    assert [one.partition(":")[0] for one in errors(refused)] == ["subject", "body"]


def test_a_draft_is_thrown_away_and_put_back(office: Office, anna: Visitor) -> None:
    _, page = begun(office)

    thrown = anna.follow(anna.submit(page, f"{page}/throw"))
    back = anna.follow(anna.submit(page, f"{page}/back"))

    assert "Weggegooid. Je kunt het hier terugzetten." in words(thrown)
    assert "Het concept is terug." in words(back)
    assert [act for _, act, _ in acts(office, 2)] == ["mailing.put_back", "mailing.throw_away"]


def test_a_draft_that_is_not_there_is_not_found(anna: Visitor) -> None:
    paths = ("mailings/drafts/999", f"mailings/drafts/{10**30}", "mailings/999/preview", "mailings/999/preview/frame")

    assert [anna.get(path).status_code for path in paths] == [404] * 4


@pytest.mark.checklist("SEC-05")
def test_no_page_of_a_draft_has_an_address_in_its_own_address(office: Office) -> None:
    _, page = begun(office)
    boss = office.client("beheer")

    chosen = boss.submit(page, page, **{"as": "person", "reader": "lezer1@school1.example"})
    tested = pressed(boss, page, "test", to="baas@school.example")

    assert "example" not in chosen.headers["location"] + tested.headers["location"]
