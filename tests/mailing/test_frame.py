"""One message of a mailing as bytes: the same for everybody but for what is the reader's own, and always readable."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import default
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from consentkit.errors import MailingError
from consentkit.mailing.frame import About, Frame, Slip
from consentkit.mailing.sandbox import html_sandbox, render, text_sandbox
from consentkit.mailing.source import Draft, File
from consentkit.mailing.template import compose
from consentkit.render import load_texts

CASES = Path(__file__).parent.parent / "cases" / "mailing"
ABOUT = About(
    site_name="Basisschool De Linde",
    site_url="https://delinde.example",
    controller="Stichting De Linde",
    address="Lindelaan 1, 1234 AB Utrecht",
    list_title="Nieuwsbrief",
    list_id="Nieuwsbrief <nieuwsbrief.delinde.example>",
    sender="De Linde <nieuws@delinde.example>",
    feedback_id="7:nieuwsbrief:marketing:delinde",
    language="nl",
    texts=load_texts("nl"),
    year=2026,
)
SITE = "https://delinde.example/privacy"
TOKEN = "InN1YiI6MTIzNDU2Nzg5MCwibmFtZSI6IkpvaG4gRG9lIiwi" * 2
SLIP = Slip(
    to="sanne.jansen@lezer.example",
    message_id="7.42@delinde.example",
    date=datetime(2026, 11, 22, 9, 30, tzinfo=UTC),
    unsubscribe_url=f"{SITE}/afmelden/{TOKEN}",
    list_unsubscribe=f"<{SITE}/afmelden/{TOKEN}>, <mailto:afmelden+abc@delinde.example?subject=unsubscribe>",
    preferences_url=f"{SITE}/voorkeuren/{TOKEN}",
    fields={"first_name": "Sanne"},
    pixel_url=f"{SITE}/o/{TOKEN}",
    click=lambda number: f"{SITE}/l/{TOKEN}/{number}",
    quiet_url=f"{SITE}/meten/{TOKEN}",
)
HTML = '<p>Dag {{ first_name }}, het café is open. <a href="https://delinde.example/agenda?a=1&b=2">Agenda</a></p>'


def draft(html: str = HTML, **given: Any) -> Draft:
    return Draft(**{"list": "nieuwsbrief", "subject": "Nieuws", "html": html, "fields": ("first_name",), **given})


def frame(html: str = HTML, *, measured: bool = False, **given: Any) -> Frame:
    return Frame(draft(html, measured=measured, **given), ABOUT, measured=measured)


def parsed(payload: bytes) -> EmailMessage:
    message = message_from_bytes(payload, policy=default)
    assert isinstance(message, EmailMessage)
    assert not [part.defects for part in message.walk() if part.defects]
    return message


def parts(payload: bytes) -> tuple[str, str]:
    """The plain text and the HTML that a mail program finds."""
    message = parsed(payload)
    plain, html = (message.get_body((kind,)).get_content() for kind in ("plain", "html"))
    return plain.replace("\r\n", "\n"), html.replace("\r\n", "\n")


def failure(act: Callable[[], object]) -> list[str]:
    with pytest.raises(MailingError) as caught:
        act()
    return caught.value.problems


# The whole message

MARKDOWN = """\
# Nieuws van oktober

Dag {{ first_name }},

{% if club %}
Je hoort bij **{{ club }}**.
{% endif %}

![De school](school.png)

- de [open dag](https://delinde.example/open-dag?jaar={{ year }}&soort=a)
- het café, één keer per week

| Dag | Tijd |
| --- | --- |
| maandag | 9:00 |
"""
FILES = (
    File("school.png", "image/png", True, b"\x89PNG\r\n\x1a\n" + bytes(range(64))),
    File("Programma één.pdf", "application/pdf", False, b"%PDF-1.7\n" + bytes(range(64))),
)
GOLDEN: dict[str, Frame] = {
    "flat": frame(preheader="Ook: de open dag"),
    "live-measured-files": frame(
        MARKDOWN,
        file="mailing.md",
        measured=True,
        subject="Nieuws van oktober: één keer per week café, en de open dag op 3 november",
        fields=("first_name", "club"),
        defaults={"club": ""},
        files=FILES,
        reply_to="Administratie <post@delinde.example>",
    ),
    "service": frame("<p>De school is dicht, {{ first_name }}.</p>", purpose="service", text="De school is dicht."),
}


@pytest.mark.parametrize("name", GOLDEN)
def test_a_message_is_these_bytes(name: str) -> None:
    """CONSENTKIT_GOLDEN=1 writes them anew."""
    payload = GOLDEN[name].fill(SLIP)

    file = CASES / f"{name}.eml"
    if os.environ.get("CONSENTKIT_GOLDEN"):
        file.write_bytes(payload)
    assert payload == file.read_bytes()
    assert GOLDEN[name].fill(SLIP) == payload
    parsed(payload)


@pytest.mark.parametrize("name", GOLDEN)
def test_lines_end_as_they_must_and_are_short(name: str) -> None:
    payload = GOLDEN[name].fill(SLIP)

    lines = payload.split(b"\r\n")
    head = lines.index(b"")
    assert payload.replace(b"\r\n", b"").translate(None, b"\r\n") == payload.replace(b"\r\n", b"")
    assert max(map(len, lines[head:])) <= 78
    assert [line for line in lines[:head] if len(line) > 78] == (
        [] if name == "service" else [f"List-Unsubscribe: <{SITE}/afmelden/{TOKEN}>,".encode()]
    )


@pytest.mark.checklist("UNS-01")
def test_the_headers_to_leave_stay_whole() -> None:
    message = parsed(frame().fill(SLIP))

    assert message["List-Unsubscribe"] == SLIP.list_unsubscribe
    assert message["List-Unsubscribe-Post"] == "List-Unsubscribe=One-Click"
    assert f'<a href="{SLIP.unsubscribe_url}"' in message.get_body(("html",)).get_content()
    assert SLIP.unsubscribe_url in message.get_body(("plain",)).get_content()


def test_a_service_mail_has_no_headers_to_leave() -> None:
    message = parsed(GOLDEN["service"].fill(replace(SLIP, unsubscribe_url="", list_unsubscribe="")))

    assert [name for name in message.keys() if name.startswith("List-")] == ["List-Id"]  # noqa: SIM118
    assert SLIP.preferences_url in message.get_body(("html",)).get_content()


def test_images_and_attachments_stand_where_mail_programs_look_for_them() -> None:
    message = parsed(GOLDEN["live-measured-files"].fill(SLIP))

    related, attached = message.iter_parts()
    alternative, image = related.iter_parts()
    assert [part.get_content_type() for part in message.walk()] == [
        *("multipart/mixed", "multipart/related", "multipart/alternative", "text/plain", "text/html"),
        *("image/png", "application/pdf"),
    ]
    assert related.get_param("type") == "multipart/alternative"
    assert image["Content-ID"].strip("<>") in alternative.get_body(("html",)).get_content()
    assert (image.get_content(), image.get_content_disposition()) == (FILES[0].data, "inline")
    assert (attached.get_content(), attached.get_filename()) == (FILES[1].data, "Programma één.pdf")


def test_a_draft_s_own_sender_goes_before_that_of_the_list() -> None:
    own = frame(sender='"De Linde, ouderraad" <ouders@delinde.example>')

    message = parsed(own.fill(SLIP))

    assert str(message["From"]) == '"De Linde, ouderraad" <ouders@delinde.example>'
    assert message["Reply-To"] is None


# What is the reader's own


@pytest.mark.checklist("TRK-01")
def test_two_readers_who_are_not_measured_get_the_same_bytes_but_for_what_is_theirs() -> None:
    """Also where the mailing is measured for others."""
    sealed = Frame(draft(HTML + '<img src="{{ site_url }}/foto.jpg" alt="">', measured=True), ABOUT)
    other = replace(
        SLIP,
        to="jan.pietersen@lezer.example",
        message_id="7.43@delinde.example",
        unsubscribe_url=SLIP.unsubscribe_url.swapcase().replace("HTTPS", "https"),
        list_unsubscribe=SLIP.list_unsubscribe.replace("InN1", "XyZ2"),
        preferences_url=SLIP.preferences_url.replace("InN1", "XyZ2"),
        fields={"first_name": "Jan"},
    )

    def neutral(slip: Slip) -> tuple[str, ...]:
        payload = sealed.fill(slip)
        head = payload.partition(b"\r\n\r\n")[0].decode().replace("\r\n ", " ")
        found = []
        for part in (head, *parts(payload)):
            for value in (slip.to, slip.message_id, slip.list_unsubscribe, slip.unsubscribe_url, slip.preferences_url):
                part = part.replace(value, "X")  # noqa: PLW2901
            found.append(part.replace(slip.fields["first_name"], "X"))
        return tuple(found)

    assert neutral(SLIP) == neutral(other)
    assert not re.search(r"/o/|/l/|/meten/", "".join(parts(sealed.fill(SLIP))))
    assert sealed.links == ()


def test_who_agreed_gets_numbered_links_a_pixel_and_a_link_that_stops_it() -> None:
    sealed = frame(measured=True)

    plain, html = parts(sealed.fill(SLIP))

    assert sealed.links == ("https://delinde.example/agenda?a=1&b=2",)
    assert f'<a href="{SITE}/l/{TOKEN}/0"' in html
    assert html.endswith(
        f'<img src="{SLIP.pixel_url}" width="1" height="1" alt="" style="display:block;border:0"></body></html>'
    )
    assert f'<a href="{SLIP.quiet_url}"' in html
    assert SLIP.quiet_url in plain
    assert "(https://delinde.example/agenda?a=1&b=2)" in plain


def test_a_link_that_stops_measuring_leads_who_is_not_measured_to_the_preferences() -> None:
    html = '<a href="{{ quiet_url }}">meten</a>'

    shown = parts(Frame(draft(html, measured=True), ABOUT).fill(replace(SLIP, quiet_url=None)))[1]

    assert f'<a href="{SLIP.preferences_url}"' in shown


def test_a_field_that_is_missing_has_its_default_or_the_message_is_not_made() -> None:
    nobody = replace(SLIP, fields={"first_name": ""})

    assert "Dag lezer," in parts(frame(defaults={"first_name": "lezer"}).fill(nobody))[0]
    assert failure(lambda: frame().fill(nobody)) == [
        "this reader has no `first_name`, and `defaults` has no text for it"
    ]


def test_what_changes_in_a_value_decides_changes_the_text() -> None:
    sealed = frame("<p>{% if first_name == 'Sanne' %}Jij{% else %}Een ander{% endif %}</p>")

    assert not sealed.flat
    assert parts(sealed.fill(SLIP))[0].startswith("Jij\n")
    assert parts(sealed.fill(replace(SLIP, fields={"first_name": "Jan"})))[0].startswith("Een ander\n")


LATER = {"date": SLIP.date + timedelta(days=1)}


@pytest.mark.parametrize("change", [{"to": "a@b.example"}, {"message_id": "7.43@delinde.example"}, LATER])
def test_each_header_of_a_reader_s_own_is_put_in(change: dict[str, Any]) -> None:
    sealed = frame()
    sealed.fill(SLIP)

    message = parsed(sealed.fill(replace(SLIP, **change)))

    slip = replace(SLIP, **change)
    assert (message["To"], message["Message-ID"]) == (slip.to, f"<{slip.message_id}>")
    assert message["Date"].datetime == slip.date


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"to": "a@b.example\r\nBcc: c@d.example"}, "to must be one address, its domain in ASCII"),
        ({"to": "a@b.example, c@d.example"}, "to must be one address, its domain in ASCII"),
        ({"message_id": "1@x>\r\nX: y"}, "message_id must be as in local@domain, in ASCII and without brackets"),
        (
            {"list_unsubscribe": "<https://a.example>\r\nBcc: c@d.example"},
            "list_unsubscribe has a control character, and nothing that becomes a header may have one",
        ),
        ({"list_unsubscribe": "<https://é.example>"}, "headers['List-Unsubscribe'] must be ASCII: it is for machines"),
        ({"date": datetime(2026, 1, 1)}, "date must be an aware datetime"),  # noqa: DTZ001
        ({"unsubscribe_url": ""}, "unsubscribe_url must be an address of http or https, in ASCII"),
        ({"preferences_url": "javascript:x"}, "preferences_url must be an address of http or https, in ASCII"),
        ({"preferences_url": 'https://a.example/"x'}, None),
        ({"preferences_url": "https://a.example/ x"}, "preferences_url must be an address of http or https, in ASCII"),
        ({"pixel_url": None}, "_pixel must be an address of http or https, in ASCII"),
        ({"click": None}, "_click0 must be an address of http or https, in ASCII"),
        ({"quiet_url": None}, "quiet_url must be an address of http or https, in ASCII"),
        ({"fields": {"first_name": "\ud800"}}, "a field has half a character, which can't be spelled in UTF-8"),
    ],
)
def test_what_could_break_out_of_its_place_stops_the_message_and_is_not_quoted(
    change: dict[str, Any], told: str | None
) -> None:
    sealed = frame(measured=True)

    if told is None:
        assert parts(sealed.fill(replace(SLIP, **change)))[1].count('href="https://a.example/&#34;x"') == 1
    else:
        assert failure(lambda: sealed.fill(replace(SLIP, **change))) == [told]
    assert "lezer.example" not in repr(SLIP)


def test_a_template_that_fails_for_a_reader_stops_only_that_message() -> None:
    sealed = frame("<p>{{ 8 // first_name|length }} {{ 8 // (first_name|length - 3) }}</p>")

    assert parts(sealed.fill(SLIP))[0].startswith("1 4\n")
    assert failure(lambda: sealed.fill(replace(SLIP, fields={"first_name": "Jan"}))) == [
        "the template fails for this reader (ZeroDivisionError)"
    ]


# Both ways say the same

VALUES = st.one_of(
    st.text(st.characters(exclude_categories=("Cs",)), max_size=120),
    st.text(st.sampled_from("a =.\n\r\t<>&\"'é🌳-_{%}"), max_size=200),
    st.sampled_from(
        (".", "..\n.", "=", "a " * 60, "x" * 300, "é" * 90, "\n", " ", "From x", "{{ x }}", "\ue0000\ue001")
    ),
)
SEVERAL = (
    '<p title="{{ a }}">{{ a }}{{ b }}</p><p>{{ b }} {{ a }}</p>'
    "{% for x in [1, 2] %}<p>. {{ x }} {{ a }}=</p>{% endfor %}"
)
TEXT = "{{ a }}{{ b }}\n{{ b }} . {{ a }}\n.{{ a }}\n{{ b }}"
FLAT = draft(SEVERAL, text=TEXT, fields=("a", "b"), defaults={"a": "", "b": ""})
LIVE = replace(FLAT, html=f"{SEVERAL}{{% if a %}}{{% endif %}}", text=f"{TEXT}{{% if b %}}{{% endif %}}")
BOTH = Frame(FLAT, ABOUT), Frame(LIVE, ABOUT)
MADE = compose(FLAT, ABOUT)
FINISHED = text_sandbox().from_string(MADE.text), html_sandbox().from_string(MADE.html)


@settings(deadline=None)
@given(a=VALUES, b=VALUES)
@example(a="Sanne  ", b="\n.\n")
@example(a="x" * 76, b="é" * 26)
@example(a="x" * 75 + " ", b="\n")
def test_put_together_or_run_for_each_reader_the_texts_are_the_same_and_are_what_the_templates_say(
    a: str, b: str
) -> None:
    flat, live = BOTH
    slip = replace(SLIP, fields={"a": a, "b": b})

    payloads = flat.fill(slip), live.fill(slip)

    fields = {name: re.sub("\r\n?", "\n", value) for name, value in (("a", a), ("b", b))}
    links = {"unsubscribe_url": slip.unsubscribe_url, "preferences_url": slip.preferences_url}
    told = tuple(render(template, {**MADE.values, **links, **fields}) for template in FINISHED)
    assert (flat.flat, live.flat) == (True, False)
    for payload in payloads:
        assert parts(payload) == told
        text = payload.partition(b"\r\n\r\n")[2]
        assert text.isascii()
        assert max(map(len, text.split(b"\r\n"))) <= 76
        assert not re.search(rb"[ \t]\r\n|(?<!\r)\n|\r(?!\n)", text)
