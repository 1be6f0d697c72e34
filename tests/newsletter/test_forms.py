"""Forms as declared: what is not declared is not taken, every choice is free, and children ask their parents first."""

from __future__ import annotations

import asyncio
import io
import json
import logging
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import ClassVar

import pytest
from jinja2 import DictLoader, Environment

from consentkit import SettingsError
from consentkit.errors import FormRefused
from tests.newsletter.desk import JAN, LISTS, Desk, settings
from tests.newsletter.desk import desk as open_desk

FORMS = {
    "aanmelden": {
        "title": {"nl": "Aanmelden", "en": "Sign up"},
        "fields": ["email", "name", "groep"],
        "optional": ["name"],
        "labels": {"groep": {"nl": "Groep van je kind", "en": "Your child's class"}},
        "purpose": {"nl": "je de nieuwsbrief van de juiste groep sturen", "en": "sending the right class's letter"},
        "retention": "18 months",
        "lists": ["agenda"],
        "uses": {"onderzoek": {"nl": "Tellen welke groepen de brief lezen", "en": "Counting which classes read it"}},
        "partners": {
            "klik": {
                "name": "Klik Onderwijs",
                "purpose": {"nl": "Uitnodigingen voor ouderavonden sturen", "en": "Sending invitations to evenings"},
            }
        },
    },
    "contact": {
        "fields": ["email", "name", "message"],
        "optional": ["name"],
        "purpose": {"nl": "je vraag beantwoorden", "en": "answering your question"},
        "retention": "12 months",
        "lists": ["nieuwsbrief"],
        "uses": {"onderzoek": {"nl": "Tellen waarover vragen gaan", "en": "Counting what questions are about"}},
    },
}
WITH_FORM = {**LISTS, "nieuwsbrief": {**LISTS["nieuwsbrief"], "form": "aanmelden"}}


@pytest.fixture
def school(tmp_path: Path) -> Iterator[Desk]:
    with open_desk(tmp_path, lists=WITH_FORM, forms=FORMS) as made:
        yield made


@pytest.mark.checklist("CST-07")
def test_fields_purpose_and_retention_stand_at_the_form_and_optional_fields_say_so(school: Desk) -> None:
    page = school.get("/privacy/newsletter/nieuwsbrief").text
    own = str(school.kit.form_html("contact", action="/contact"))

    sent = "je de nieuwsbrief van de juiste groep sturen"
    for words in ("Groep van je kind", sent, "Zolang je bent aangemeld, en daarna nog 30 dagen", "Klik Onderwijs"):
        assert words in page
    for words in (
        'action="/contact"',
        "Je bericht",
        "je vraag beantwoorden",
        "12 maanden",
        "Tellen waarover vragen gaan",
    ):
        assert words in own
    for html in (page, own):
        assert html.count("niet verplicht") == 1
        assert " checked" not in html


@pytest.mark.checklist("CST-07")
def test_a_field_that_was_not_declared_is_dropped_and_somebody_is_warned_of_its_form_only(
    school: Desk, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        school.ask(groep="5", name="Jan", bsn="123456782")
    school.post(school.link("confirm", school.mails()[0]))

    with school.kit.store.read() as connection:
        dump = repr(
            [connection.exec_driver_sql(f"SELECT * FROM {name}").all() for name in ("subscriber", "subscription")]
        )
        fields = json.loads(connection.exec_driver_sql("SELECT fields FROM subscriber").scalar_one())
    assert fields == {"groep": "5", "name": "Jan"}
    assert "123456782" not in dump
    assert "the form aanmelden got fields that it does not declare" in caplog.text
    assert "123456782" not in caplog.text


@pytest.mark.checklist("CST-08", "NEW-01")
def test_leaving_every_box_empty_never_blocks_a_form(school: Desk) -> None:
    answer = school.kit.form("contact").read([("email", JAN), ("message", "Hallo\r\nwereld"), ("x", "y")])

    assert answer.fields == {"email": JAN, "message": "Hallo\nwereld"}
    assert (answer.topics, answer.measuring, answer.dropped) == ((), False, ("x",))
    assert not answer.agreed("use.onderzoek")
    assert school.ask(groep="5").status_code == 303


@pytest.mark.checklist("CST-08")
def test_each_other_use_is_agreed_to_by_its_own_box(school: Desk) -> None:
    answer = school.kit.form("contact").read(
        [("email", JAN), ("message", "Hallo"), ("uses", "onderzoek"), ("lists", "nieuwsbrief"), ("lists", "weg")]
    )

    assert [topic.id for topic in answer.topics] == ["nieuwsbrief", "use.onderzoek"]
    assert answer.agreed("use.onderzoek")


def test_what_a_form_lacks_is_told_per_field() -> None:
    kit_form = _form("contact")
    with pytest.raises(FormRefused) as refused:
        kit_form.read([("email", "geen"), ("message", "x" * 5001), ("name", "n")])
    assert refused.value.problems == {"email": "no_address", "message": "too_long"}
    with pytest.raises(FormRefused) as refused:
        kit_form.read([])
    assert refused.value.problems == {"email": "needed", "message": "needed"}


def test_a_form_of_the_host_s_own_asks_to_confirm_the_lists_that_were_ticked(school: Desk) -> None:
    form = school.kit.form("contact")
    asyncio.run(school.kit.sign_up(form.read([("email", JAN), ("message", "Hallo")])))
    assert school.mails() == []

    ticked = [("email", JAN), ("message", "Hallo"), ("lists", "nieuwsbrief"), ("uses", "onderzoek")]
    asyncio.run(school.kit.sign_up(form.read(ticked)))
    assert school.post(school.link("confirm", school.mails()[0])).status_code == 200

    assert school.why_not() is None
    given = [event for event in school.events() if event["state"] == "given"]
    assert [event["purposes"] for event in given] == [
        {"list.nieuwsbrief": True, "measuring.nieuwsbrief": False},
        {"use.onderzoek": True},
    ]
    with school.kit.store.read() as connection:  # what was answered is the host's, for as long as the form says
        assert connection.exec_driver_sql("SELECT fields FROM subscriber").scalar_one() == "{}"
    notice = school.kit.evidence.notice(given[0]["notice_hash"])
    assert notice is not None
    assert notice.content["form"] == "contact"
    assert b"Tellen waarover vragen gaan" in school.kit.sites[0].renderer.show_notice(notice.content)


def test_the_form_goes_into_any_template_and_into_jinja_as_a_macro(school: Desk) -> None:
    environment = Environment(autoescape=True, loader=DictLoader({"own.html": "own"}))
    school.kit.install_jinja(environment)
    macro = (
        '{% from "consentkit/macros.html" import newsletter, form %}'
        '{{ newsletter("nieuwsbrief", lang="en") }}{{ form("contact", "/contact") }}'
    )

    page = environment.from_string(macro).render()

    english = school.kit.newsletter_form("nieuwsbrief", lang="en")
    assert page == english + school.kit.form_html("contact", action="/contact")
    assert environment.get_template("own.html").render() == "own"
    assert "Your child&#39;s class" in page
    with pytest.raises(KeyError, match="no list 'weg'"):
        school.kit.newsletter_form("weg")


@pytest.mark.checklist("SEC-02")
def test_no_text_of_a_list_or_form_and_nothing_typed_becomes_markup(tmp_path: Path) -> None:
    payload = "\"><script>alert(1)</script>'<img src=x onerror=alert(1)>@@TOKEN@@{{ 7*7 }}"
    words = {"nl": payload, "en": payload}
    lists = {
        "nieuwsbrief": {"title": words, "about": words, "frequency": words, "form": "f"},
        "agenda": LISTS["agenda"],
    }
    form = {
        "fields": ["email", "name", "x"], "labels": {"x": words}, "purpose": words, "lists": ["agenda"],
        "uses": {"u": words}, "partners": {"p": {"name": payload, "purpose": words}}, "children": True,
    }  # fmt: skip
    with open_desk(tmp_path, lists=lists, forms={"f": form}) as school:
        pages = [school.get("/privacy/newsletter/nieuwsbrief").text, school.get("/privacy/newsletter").text]
        pages.append(school.ask(payload, name=payload, x=payload, age=payload, lang=payload).text)
        school.ask(name=payload, x="x", age="16plus", uses="u", partners="p")
        (mail,) = school.mails()
        pages += [mail.html, school.get(school.link("confirm", mail)).text]
        pages.append(school.post(school.link("confirm", mail)).text)
        (welcome,) = school.mails()
        pages += [welcome.html, school.get(school.link("voorkeuren", welcome)).text]
        pages += [school.get(school.link("afmelden", welcome)).text, school.post(school.link("afmelden", welcome)).text]

        for page in pages:
            assert "<script>alert" not in page
            assert "<img src=x" not in page
            assert ">49<" not in page
        assert sum("&lt;script&gt;" in page for page in pages) >= 8


def _form(id: str):
    from consentkit.newsletter import declared

    return declared(settings(Path(), lists=WITH_FORM, forms=FORMS), id)


def test_control_signs_in_a_field_become_spaces() -> None:
    answer = _form("contact").read([("email", JAN), ("name", "Jan\r\nBcc:\ud83dx\x00\u202e"), ("message", "a")])

    assert answer.fields["name"] == "Jan Bcc: x"


@pytest.mark.parametrize(
    ("tables", "told"),
    [
        ({"lists": {"x": {**LISTS["agenda"], "form": "weg"}}}, "lists.x.form: there is no [forms.weg]"),
        ({"forms": {"f": {"lists": ["weg"]}}}, "forms.f.lists: there is no [lists.weg]"),
        (
            {"forms": {"f": {"fields": ["name"], "lists": ["agenda"]}}},
            'forms.f.fields: a form that offers lists needs "email"',
        ),
        ({"forms": {"f": {"optional": ["phone"]}}}, "`optional` names phone"),
        ({"forms": {"f": {"fields": ["E mail"]}}}, "no field name"),
        ({"forms": {"f": {"fields": ["email", "phone"]}}}, "forms.f.purpose: is missing"),
        ({"forms": {"f": {"retention": "oneindig"}}}, "nothing is kept without an end"),
        ({"forms": {"f": {"uses": {"x": {"nl": "om je gebruikerservaring te verbeteren"}}}}}, "vague"),
        ({"forms": {"f": {"partners": {"k": {"name": "K"}}}}}, "forms.f.partners.k.purpose: is missing"),
        ({"lists": {"x y": LISTS["agenda"]}}, "is no id"),
        ({"lists": {"x": {**LISTS["agenda"], "valid": "for ever"}}}, "nothing is kept without an end"),
        ({"mail": {"sender": "nieuws@delinde.example"}}, "names nobody"),
        ({"mail": {"sender": "De Linde <geen>"}}, "mail.sender"),
        ({"mail": {"unsubscribe": "een-veel-te-lange-naam@delinde.example"}}, "1 to 15 letters"),
        ({"mail": {"smtp": "http://x"}}, "mail.smtp"),
        ({"mail": {"smtp": "smtp://user:geheim@x"}}, "mail.smtp"),
    ],
)
def test_a_wrong_setting_names_its_key_and_what_to_write(tables: dict[str, object], told: str) -> None:
    with pytest.raises(SettingsError) as refused:
        settings(Path(), **tables)

    assert told in str(refused.value)


def test_a_form_without_a_purpose_is_a_list_s_sign_up_and_nobody_else_s(tmp_path: Path) -> None:
    lists = {**LISTS, "nieuwsbrief": {**LISTS["nieuwsbrief"], "form": "brief"}}
    with open_desk(tmp_path, lists=lists, forms={"brief": {"fields": ["email", "name"]}, "contact": {}}) as school:
        assert "Om je de nieuwsbrief te sturen" in school.get("/privacy/newsletter/nieuwsbrief").text
        for id in ("brief", "contact"):
            with pytest.raises(SettingsError, match=rf"forms\.{id}\.purpose: is missing.*Write purpose"):
                school.kit.form(id)
            with pytest.raises(SettingsError, match="purpose"):
                school.kit.form_html(id, action="/contact")


# -- partners ---------------------------------------------------------------------------------------------------------


@pytest.mark.checklist("NEW-08")
def test_a_partner_gets_only_the_addresses_of_those_who_agreed_to_exactly_that(school: Desk) -> None:
    from consentkit.newsletter import export_list

    school.subscribe("zonder@voorbeeld.nl", groep="5")
    school.subscribe("met@voorbeeld.nl", groep="5", partners="klik")

    def exported() -> list[str]:
        return [row["email"] for row in export_list(school.kit.store, "partner.klik", agreed_only=True)]

    assert exported() == ["met@voorbeeld.nl"]
    given = [event["purposes"] for event in school.events() if event["state"] == "given"]
    assert {"partner.klik": True} in given

    school.kit.afgemeld.add_sync("met@voorbeeld.nl", scope="list:partner.klik", reason="letter", channel="staff")
    assert exported() == []
    assert school.why_not("met@voorbeeld.nl") is None


class Partner(BaseHTTPRequestHandler):
    """A partner's end of the webhook: fails once, then takes what it is told."""

    told: ClassVar[list[tuple[dict[str, str], bytes]]] = []
    failures: ClassVar[int] = 1

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if Partner.failures:
            Partner.failures -= 1
            self.send_response(503)
        else:
            Partner.told.append((dict(self.headers), body))
            self.send_response(204)
        self.end_headers()

    def log_message(self, *args: object) -> None:
        """Quiet."""


@pytest.fixture
def partner() -> Iterator[str]:
    Partner.told, Partner.failures = [], 1
    server = HTTPServer(("127.0.0.1", 0), Partner)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/afmelding"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.checklist("NEW-08")
def test_a_withdrawal_is_passed_on_to_the_partner_signed_and_until_it_arrives(tmp_path: Path, partner: str) -> None:
    forms = json.loads(json.dumps(FORMS))
    forms["aanmelden"]["partners"]["klik"]["webhook"] = partner
    with open_desk(tmp_path, lists=WITH_FORM, forms=forms) as school:
        school.subscribe(groep="5", partners="klik")
        url = school.kit.unsubscribe_url(JAN, list="partner.klik").removeprefix("http://school.test")
        school.post(url)

        school.mails()
        assert Partner.told == []
        school.clock.later(minutes=2)
        school.mails()

        ((headers, body),) = Partner.told
        told = json.loads(body)
        assert (told["event"], told["partner"], told["address"]) == ("withdrawn", "klik", JAN)
        assert headers["X-Consentkit-Signature"].startswith("sha256=")
        assert school.kit.outbox.waiting() == 0


# -- children ---------------------------------------------------------------------------------------------------------

CHILDREN = {"jeugd": {"fields": ["email"], "children": True}}
YOUTH = {"jeugdblad": {**LISTS["nieuwsbrief"], "form": "jeugd"}}


@pytest.fixture
def youth(tmp_path: Path) -> Iterator[Desk]:
    with open_desk(tmp_path, lists=YOUTH, forms=CHILDREN) as made:
        yield made


@pytest.mark.checklist("NEW-07")
def test_the_age_is_asked_neutrally_and_no_birth_date_is(youth: Desk) -> None:
    page = youth.get("/privacy/newsletter/jeugdblad").text

    assert page.count('type="radio"') == 2
    assert " checked" not in page
    assert 'type="date"' not in page
    assert youth.ask(list="jeugdblad").status_code == 422


@pytest.mark.checklist("NEW-07")
def test_from_sixteen_on_a_child_confirms_for_itself(youth: Desk) -> None:
    youth.ask(list="jeugdblad", age="16plus", parent_email="")
    (mail,) = youth.mails()

    assert mail.to == JAN
    assert youth.post(youth.link("confirm", mail)).status_code == 200
    assert youth.why_not(list="jeugdblad") is None


@pytest.mark.checklist("NEW-07")
def test_below_sixteen_a_parent_agrees_before_anything_counts(youth: Desk) -> None:
    answer = youth.ask(list="jeugdblad", age="under16", parent_email="moeder@voorbeeld.nl")
    assert answer.headers["location"].endswith("sent=young&lang=nl")
    (asked,) = youth.mails()
    assert asked.to == "moeder@voorbeeld.nl"
    assert JAN not in asked.text + asked.html
    parent = youth.link("confirm", asked)

    for _ in range(3):
        assert youth.get(parent).status_code == 200
    assert youth.mails() == []
    assert youth.why_not(list="jeugdblad") == "unconfirmed"

    assert youth.post(parent, action="confirm").status_code == 200
    (child,) = youth.mails()
    assert child.to == JAN
    assert youth.post(youth.link("confirm", child)).status_code == 200
    assert youth.why_not(list="jeugdblad") is None
    assert [(event["state"], event["method"]) for event in youth.events()] == [
        ("requested", "post.newsletter"),
        ("requested", "parent.confirm"),
        ("given", "mail.confirm"),
    ]


@pytest.mark.checklist("NEW-07")
@pytest.mark.parametrize("confirmed", [False, True])
def test_a_parent_s_report_erases_the_child_s_data_before_and_after(youth: Desk, confirmed: bool) -> None:
    youth.ask(list="jeugdblad", age="under16", parent_email="moeder@voorbeeld.nl")
    parent = youth.link("confirm", youth.mails()[0])
    if confirmed:
        youth.post(parent, action="confirm")
        youth.post(youth.link("confirm", youth.mails()[0]))

    assert youth.post(parent, action="erase").status_code == 200

    with youth.kit.store.read() as connection:
        rows = connection.exec_driver_sql("SELECT address, fields FROM subscriber").all()
        requests = connection.exec_driver_sql("SELECT request, request_id FROM subscription").all()
    assert [tuple(row) for row in rows] == [(None, "{}")]
    assert [tuple(row) for row in requests] == [(None, None)]
    assert youth.why_not(list="jeugdblad") == "afgemeld"
    assert [mail.to for mail in youth.mails() if mail.to == JAN and "confirm" in mail.text] == []


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({"age": "under16"}, "needed"),
        ({"age": "under16", "parent_email": "geen"}, "no_address"),
        ({"age": "under16", "parent_email": JAN.upper()}, "same"),
        ({"age": "12"}, "needed"),
    ],
)
def test_a_child_names_a_parent_with_an_address_of_their_own(youth: Desk, fields: dict[str, str], problem: str) -> None:
    form = youth.kit.newsletter.papers["Basisschool De Linde"].form("jeugdblad")
    assert form is not None

    with pytest.raises(FormRefused) as refused:
        form.read([("email", JAN), *fields.items()])

    assert set(refused.value.problems.values()) == {problem}


def test_a_list_for_pupils_can_never_carry_a_mailing(tmp_path: Path) -> None:
    from consentkit.newsletter import Importer, Route

    with open_desk(tmp_path, lists={**LISTS, "klas": {**LISTS["agenda"], "pupils": True}}) as school:
        paper = school.kit.newsletter.papers["Basisschool De Linde"]
        form = paper.form("agenda")
        assert form is not None
        Importer(
            school.kit.store, school.kit.afgemeld, topic=paper.topics["klas"], form=form, site=paper.site.name,
            route=Route.CONSENT, proof={"how": "x"}, language="nl", now=school.clock(),
        ).read(io.BytesIO(f"email\n{JAN}\n".encode()))  # fmt: skip
        assert school.why_not(list="klas") == "pupils"
