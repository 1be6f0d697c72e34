"""What an author may write in a template, and what becomes of it: HTML and text, with footer, images and links."""

from __future__ import annotations

import re
import sys
import time
from dataclasses import replace
from typing import Any

import pytest

from consentkit.errors import MailingError
from consentkit.mailing.plain import plain
from consentkit.mailing.sandbox import html_sandbox, render, text_sandbox
from consentkit.mailing.source import Draft, File
from consentkit.mailing.template import About, Composition, compose
from consentkit.render import load_texts
from consentkit.theme import TEXT_CONTRAST, contrast

ABOUT = About(
    site_name="Basisschool De Linde",
    site_url="https://delinde.example",
    controller="Stichting De Linde",
    address="Lindelaan 1, 1234 AB Utrecht",
    list_title="Nieuwsbrief",
    list_id="Nieuwsbrief <nieuwsbrief.delinde.example>",
    sender="De Linde <nieuws@delinde.example>",
    language="nl",
    texts=load_texts("nl"),
    year=2026,
)
PNG = File("school.png", "image/png", True, b"\x89PNG")
FIELDS = ("first_name", "city")


def composed(html: str, *, measured: bool = False, **given: Any) -> Composition:
    defaults: dict[str, Any] = {"list": "nieuwsbrief", "subject": "Nieuws", "fields": FIELDS, "measured": measured}
    return compose(Draft(html=html, **{**defaults, **given}), ABOUT, measured=measured)


def shown(html: str, values: dict[str, str] | None = None, **given: Any) -> tuple[str, str]:
    """HTML and text as one reader gets them."""
    made = composed(html, **given)
    links = {name: f"https://delinde.example/{name}" for name in ("unsubscribe_url", "preferences_url", "quiet_url")}
    filled = {**made.values, **links, **dict.fromkeys(FIELDS, "Anna"), **(values or {})}
    return (
        render(html_sandbox().from_string(made.html), filled),
        render(text_sandbox().from_string(made.text), filled),
    )


def body(html: str) -> str:
    """What the author wrote, without what stands around it."""
    inner = html.partition('margin:0 auto">\n')[2].partition('<div class="consentkit-end"')[0]
    return inner.rpartition("</div>")[0].strip()


def words(text: str) -> str:
    return text.partition("\n\n-----")[0]


def problems(html: str, **given: Any) -> list[str]:
    with pytest.raises(MailingError) as caught:
        composed(html, **given)
    return caught.value.problems


# What may be said

NO_PROGRAM = "can't stand in a mailing: there are values, `if`, `for` and filters"
AS_IN = "Write values as {{ name }} and conditions as {% if name %} … {% endif %}"
FAILS = "fails when it is filled in"


@pytest.mark.parametrize(
    ("source", "told"),
    [
        ("{{ firstname }}", "1: nothing is called `firstname`: did you mean `first_name`?"),
        ("<p>\n\n{{ leeftijd }}", "3: nothing is called `leeftijd`: is it a field? Then name it under `fields`"),
        ("\n{% if %}", f"2: Expected an expression, got 'end of statement block'. {AS_IN}"),
        ("\n{{ first_name", f"2: unexpected end of template, expected 'end of print statement'. {AS_IN}"),
        ("{% include 'geheim.txt' %}", f"1: `include` {NO_PROGRAM}"),
        ("{% set x = 1 %}", f"1: `set` {NO_PROGRAM}"),
        ("{% macro x() %}{% endmacro %}", f"1: `macro` {NO_PROGRAM}"),
        ("{{ first_name.__class__ }}", "1: a value is a text and has no parts: write {{ name }} alone"),
        ("{{ first_name['x'] }}", "1: a value is a text and has no parts: write {{ name }} alone"),
        (
            "{{ first_name.upper() }}",
            "1: nothing can be called but range(): for a value use a filter, such as {{ name|upper }}",
        ),
        ("{{ first_name|uper }}", "1: there is no filter `uper`: did you mean `upper`?"),
        ("{% if first_name is leeg %}x{% endif %}", "1: there is no test `leeg`"),
        (
            "{% for subject in 'ab' %}x{% endfor %}",
            "1: `subject` is taken: give what the loop runs over another name",
        ),
        ("{{ 'x' * 3 }}", f"1: {FAILS} (`*` takes numbers: write `|int` behind a field that is one)"),
        ("\n{{ 1 // city|int }}", f"2: {FAILS} (ZeroDivisionError: integer division or modulo by zero)"),
        ("{{ footer }}{{ footer }}", "1: {{ footer }} stands there twice: take one out"),
        (
            "{% if city %}{{ footer }}{% endif %}",
            "1: {{ footer }} must always stand there: put it outside of `if`, `for` and filters",
        ),
        (
            "{{ quiet_url }}",
            "1: `quiet_url` is not known here: this mailing is not measured, so there is nothing to stop",
        ),
    ],
)
def test_what_can_t_be_said_is_told_with_its_line(source: str, told: str) -> None:
    assert problems(source) == [f"mailing.html:{told}"]


@pytest.mark.parametrize("filter", ["safe", "join", "replace", "center", "format", "attr", "map", "random", "tojson"])
def test_no_filter_undoes_escaping_looks_inside_or_makes_a_text_much_longer(filter: str) -> None:
    (problem,) = problems(f"{{{{ first_name|{filter} }}}}")

    assert problem.startswith(f"mailing.html:1: there is no filter `{filter}`")


@pytest.mark.parametrize(
    ("source", "told"),
    [
        ("{% for a in range(10**9) %}x{% endfor %}", f"`pow` {NO_PROGRAM}"),
        (
            "{% for a in range(1000000) %}x{% endfor %}",
            f"{FAILS} (range() gives 1000000 rounds, and 1000 is the most)",
        ),
        (
            "{% for a in 'x' %}{% for b in 'x' %}{% for c in 'x' %}{% endfor %}{% endfor %}{% endfor %}",
            "loops stand at most 2 deep: write this one out",
        ),
        ("{% for a in 'x' recursive %}{% endfor %}", "a loop can't call itself: take out `recursive`"),
    ],
)
def test_a_template_can_t_run_away(source: str, told: str) -> None:
    assert problems(source) == [f"mailing.html:1: {told}"]


def test_a_template_that_says_too_much_is_stopped_while_it_does() -> None:
    began = time.monotonic()

    assert problems(
        "{% for a in range(1000) %}{% for b in range(1000) %}" + "x" * 1000 + "{% endfor %}{% endfor %}"
    ) == ["mailing.html: more than 1,000,000 characters come out: shorten the loops"]
    assert time.monotonic() - began < 1


def test_the_text_of_the_author_is_held_to_the_same_rules() -> None:
    assert problems("<p>Dag</p>", text="Dag\n{{ firstname }}") == [
        "mailing.txt:2: nothing is called `firstname`: did you mean `first_name`?"
    ]


def test_a_value_is_escaped_in_html_and_left_in_text() -> None:
    html, text = shown("<p>Dag {{ first_name }}</p>", {"first_name": "<script>alert('&')</script>"})

    assert body(html) == "<p>Dag &lt;script&gt;alert(&#39;&amp;&#39;)&lt;/script&gt;</p>"
    assert words(text) == "Dag <script>alert('&')</script>"


def test_conditions_loops_and_filters_work_in_both_parts() -> None:
    source = """\
<p>Dag {{ first_name|title }}{% if city == "Utrecht" and 1 < 2 %}, uit de stad{% endif %}.</p>
{% if city == "Zeist" %}<p>Zeist!</p>{% else %}<p>Elders.</p>{% endif %}
<ul>{% for dag in ["ma", "di"] %}<li>{{ loop.index }} {{ dag }}</li>{% endfor %}</ul>
<table>{% for dag in ["wo"] %}<tr><th>{{ dag }}</th><td>9:00</td></tr>{% endfor %}</table>
<p>{# niet laten zien #}Slot{% raw %} {{ zo }}{% endraw %}.</p>"""

    html, text = shown(source, {"first_name": "anna", "city": "Utrecht"})

    assert re.sub(r' style="[^"]*"', "", body(html)) == (
        "<p>Dag Anna, uit de stad.</p>\n<p>Elders.</p>\n<ul><li>1 ma</li><li>2 di</li></ul>\n"
        "<table><tbody><tr><th>wo</th><td>9:00</td></tr></tbody></table>\n<p>Slot {{ zo }}.</p>"
    )
    assert words(text) == "Dag Anna, uit de stad.\n\nElders.\n\n- 1 ma\n- 2 di\n\nwo | 9:00\n\nSlot {{ zo }}."


# HTML, Markdown, MJML


def test_a_fragment_becomes_a_document_of_its_own() -> None:
    html, _ = shown("<p>Dag</p>", subject="Nieuws & meer", preheader="Open dag <3")

    head, _, rest = html.partition("</head>")
    assert head.startswith('<!DOCTYPE html><html lang="nl"><head>')
    for part in (
        '<meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        '<meta name="color-scheme" content="light dark">',
        "<title>Nieuws &amp; meer</title>",
        "@media (prefers-color-scheme:dark)",
    ):
        assert part in head
    assert re.match(r'\s*<body [^>]*><div style="display:none;[^"]*">Open dag &lt;3</div>', rest)
    assert "<link" not in html
    assert "<script" not in html


def test_a_document_keeps_its_own_head_and_gets_what_it_lacks() -> None:
    source = "<html><head><style>p{color:red}@media print{p{color:black}}</style></head><body><p>Dag</p></body></html>"

    html, _ = shown(source)

    assert html.startswith('<!DOCTYPE html><html lang="nl"><head><style>@media print{p{color:black}} </style>')
    assert "<title>Nieuws</title>" in html
    assert '<p style="color: red;">Dag</p>' in html


def test_styles_move_to_their_elements_and_holes_stay_whole() -> None:
    source = """<style>.x{color:red;font-family:"A B"}</style>
<p class="x" title="{{ first_name }}">{% if city > "K" %}{{ "}}<" }}{{ city }}{% endif %}</p>"""

    html, text = shown(source, {"first_name": 'a" b', "city": "Zeist"})

    assert body(html) == ('<p class="x" title="a&#34; b" style="color: red;font-family: \'A B\';">}}&lt;Zeist</p>')
    assert words(text) == "}}<Zeist"


def test_markdown_is_turned_into_html_around_the_holes() -> None:
    source = """\
# Dag {{ first_name }}

Dit is **{{ city|upper }}**, geen <b>HTML</b>. [Afmelden]({{ unsubscribe_url }})
{% if city == "Zeist" %}
Alleen *daar*.
{% endif %}
| Dag | Tijd |
| --- | --- |
| ma | 9:00 |
"""

    html, text = shown(source, {"city": "Zeist"}, file="brief.md")

    assert re.sub(r' style="[^"]*"', "", body(html)).replace("\n", "") == (
        "<h1>Dag Anna</h1><p>Dit is <strong>ZEIST</strong>, geen &lt;b&gt;HTML&lt;/b&gt;. "
        '<a href="https://delinde.example/unsubscribe_url">Afmelden</a></p><p>Alleen <em>daar</em>.</p>'
        "<table><thead><tr><th>Dag</th><th>Tijd</th></tr></thead><tbody><tr><td>ma</td><td>9:00</td></tr></tbody></table>"
    )
    assert words(text) == (
        "Dag Anna\n\nDit is ZEIST, geen <b>HTML</b>. Afmelden (https://delinde.example/unsubscribe_url)\n\n"
        "Alleen daar.\n\nDag | Tijd\nma | 9:00"
    )


MJML = """\
<mjml><mj-body>
<mj-section>
{% for dag in ["ma", "di"] %}<mj-column><mj-text>{{ dag }} {{ first_name }}</mj-text></mj-column>{% endfor %}
</mj-section>
<mj-section><mj-column><mj-button href="{{ unsubscribe_url }}">Afmelden</mj-button></mj-column></mj-section>
</mj-body></mjml>"""


def test_mjml_is_turned_into_html_around_the_holes() -> None:
    html, text = shown(MJML, file="brief.mjml")

    assert html.count('lang="nl"') == 2
    assert 'lang="und"' not in html
    assert "fonts.googleapis.com" not in html
    assert re.findall(r">(\w\w Anna)</div>", html) == ["ma Anna", "di Anna"]
    assert '<a href="https://delinde.example/unsubscribe_url" target="_blank"' in html
    assert words(text) == "ma Anna\n\ndi Anna\n\nAfmelden (https://delinde.example/unsubscribe_url)"


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("mj-text", "mj-tekst", "3: there is no <mj-tekst> in MJML, and it would be left out silently: mend its name"),
        (
            "<mj-body>",
            '<mj-body><mj-include path="/etc/passwd" />',
            "1: <mj-include> reads another file: put what is in it here",
        ),
        ("</mjml>", "", "1: is no MJML (unexpected end of stream): mend it there or above"),
    ],
)
def test_a_mistake_in_mjml_is_told_with_its_line(old: str, new: str, told: str) -> None:
    assert problems(MJML.replace(old, new), file="brief.mjml")[0] == f"brief.mjml:{told}"


def test_a_font_from_elsewhere_is_refused_in_mjml_too() -> None:
    font = '<mj-head><mj-font name="X" href="https://fonts.example/x.css" /></mj-head><mj-body>'
    source = MJML.replace("<mj-body>", font).replace("<mj-text>", '<mj-text font-family="X">')

    (problem,) = problems(source, file="brief.mjml")

    assert problem.startswith("brief.mjml:1: a stylesheet or font from elsewhere tells its server who reads the mail")


def test_without_the_library_for_mjml_the_remedy_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "mjml", None)

    assert problems(MJML, file="brief.mjml") == [
        "brief.mjml: MJML needs a library that is not installed: install it with pip install 'consentkit[mjml]', "
        "or write HTML or Markdown"
    ]


@pytest.mark.parametrize(
    ("source", "told"),
    [
        ("<p class={{ first_name }}>x</p>", 'class=… has no quotes around it: write class="…"'),
        (
            "<p {% if city %}hidden{% endif %}>x</p>",
            "{% if city %} stands inside of a tag: put it in the value of an attribute, or around the element",
        ),
        (
            "<style>p{color:{{ city }}}</style>",
            "a stylesheet is the same for everybody: take {{ }} and {% %} out of it",
        ),
        (
            '<p style="color:{{ city }}">x</p>',
            "style is the same for everybody: put what differs in the text, or in an `if` around it",
        ),
        ("<script>alert(1)</script>", "a script does not run in a mail: take it out"),
        ("<SCRIPT src='https://elders.example/x.js'>", "a script does not run in a mail: take it out"),
        ("<p onclick='alert(1)'>x</p>", "onclick=… is a script, which does not run in a mail: take it out"),
        ("<b/onmouseover=alert(1)>x</b>", "onmouseover=… is a script, which does not run in a mail: take it out"),
        ('<b title="y"onclick="f()">x</b>', "onclick=… is a script, which does not run in a mail: take it out"),
        ("<i srcdoc='&lt;script>'>x</i>", "srcdoc=… is a script, which does not run in a mail: take it out"),
        (
            '<link rel="stylesheet" href="/etc/passwd">',
            "a stylesheet or font from elsewhere tells its server who reads the mail: write the styles in <style>, "
            "and use fonts that everybody has",
        ),
        (
            "<style>@import 'https://fonts.example/x.css';</style>",
            "a stylesheet or font from elsewhere tells its server who reads the mail: write the styles in <style>, "
            "and use fonts that everybody has",
        ),
    ],
)
def test_what_a_mail_can_t_hold_is_refused_with_its_line(source: str, told: str) -> None:
    assert problems(f"<p>Dag</p>\n{source}") == [f"mailing.html:2: {told}"]


# Images and links


def test_an_image_is_attached_or_has_a_whole_address() -> None:
    source = (
        '<img src="school.png" alt="De school"><img src="./school.png" alt="">'
        '<img src="{{ site_url }}/logo.png" alt="Logo"><p style="background:url(school.png)">x</p>'
        '<!--[if mso]><v:fill src="school.png" /><![endif]-->'
    )

    made = composed(source, files=(PNG,))

    ((file, cid),) = made.images
    assert file is PNG
    assert re.findall(r'(?:src="|url\()([^")]*)', made.html) == [
        *(f"cid:{cid}", f"cid:{cid}", "https://delinde.example/logo.png", f"cid:{cid}", f"cid:{cid}")
    ]


@pytest.mark.parametrize(
    ("source", "told"),
    [
        (
            '<img src="weg.png">',
            "there is no image `weg.png`: put it in the folder beside the template, or write https://…",
        ),
        (
            '<img src="data:image/png;base64,AA">',
            "mail programs do not show this image: put it in the folder as a file, or write https://…",
        ),
        ('<a href="/nieuws">x</a>', "`/nieuws` leads nowhere from a mail: write the whole address, https://…"),
        ('<a href="www.a.nl">x</a>', "`www.a.nl` leads nowhere from a mail: write the whole address, https://…"),
        (
            '<a href="javascript:x()">x</a>',
            "`javascript:x()` leads nowhere from a mail: write the whole address, https://…",
        ),
        (
            '<a href="https://delinde.example/a b">x</a>',
            "an address holds a space or a line break: write %20 for a space",
        ),
    ],
)
def test_an_address_that_leads_nowhere_is_told_with_its_line(source: str, told: str) -> None:
    assert problems(f"<p>Dag</p>\n{source}") == [f"mailing.html:2: {told}"]


@pytest.mark.checklist("TRK-01")
@pytest.mark.parametrize("measured", [False, True])
@pytest.mark.parametrize(
    "source",
    [
        '<a href="https://delinde.example/?wie={{ first_name }}">x</a>',
        "<a href=\"{% if city == 'Zeist' %}https://a.example{% else %}https://b.example{% endif %}\">x</a>",
        '<a href="{{ unsubscribe_url }}?wie={{ city }}">x</a>',
        '<a href="mailto:post@delinde.example?subject={{ first_name }}">x</a>',
        '<img src="https://delinde.example/{{ first_name }}.png">',
        '<img srcset="https://delinde.example/{{ first_name }}.png 2x">',
        '<td background="{{ site_url }}/{{ city }}.png">x</td>',
        '{% for x in first_name %}<a href="https://delinde.example/{{ x }}">x</a>{% endfor %}',
        "<p>https://delinde.example/{{ first_name }}</p>",
        "<p>{{ site_url }}/{{ first_name }}</p>",
        '<!--[if mso]><v:roundrect href="https://delinde.example/{{ city }}"><![endif]-->',
        '<a href="{{ first_name }}">x</a>',
    ],
)
def test_no_address_differs_between_readers(source: str, measured: bool) -> None:
    told = (
        "mailing.html:2: an address is the same for every reader, or it follows people without their consent: "
        "take {{ }} and {% %} out of it"
    )

    assert problems(f"<p>Dag</p>\n{source}", measured=measured) == [told]
    if source.startswith("<p>"):
        assert problems("<p>Dag</p>", text=f"Dag\n{source}") == [told.replace(".html", ".txt")]


LINKS = (
    '<a href="https://a.example/?x=1&amp;y=2">a</a> <a href="{{ site_url }}/b">b</a> '
    '<a href="https://a.example/?x=1&y=2">a</a> <a href="mailto:post@a.example">m</a> <a href="#top">t</a>'
    '<a href="tel:+31301234567">tel</a> <a href="{{ unsubscribe_url }}">u</a> <a href="{{ quiet_url }}">q</a>'
)


def test_measured_links_are_numbered_and_those_that_leave_are_not() -> None:
    made = composed(LINKS, measured=True)

    assert made.links == ("https://a.example/?x=1&y=2", "https://delinde.example/b")
    assert re.findall(r'<a [^>]*?href="([^"]*)"', made.html) == [
        *("{{ _click0 }}", "{{ _click1 }}", "{{ _click0 }}", "mailto:post@a.example", "#top", "tel:+31301234567"),
        *("{{ unsubscribe_url }}", "{{ quiet_url }}", "{{ preferences_url }}"),
    ]
    assert made.html.endswith(
        '<img src="{{ _pixel }}" width="1" height="1" alt="" style="display:block;border:0"></body></html>'
    )
    assert "a (https://a.example/?x=1&y=2)" in made.text
    assert "_click" not in made.text


@pytest.mark.checklist("TRK-01")
def test_without_consent_a_measured_mailing_has_no_pixel_and_its_links_are_those_that_were_written() -> None:
    draft = Draft(list="nieuwsbrief", subject="Nieuws", html=LINKS, measured=True)

    made = compose(draft, ABOUT, measured=False)

    assert made.links == ()
    assert re.findall(r'<a [^>]*?href="([^"]*)"', made.html)[:3] == [
        *("https://a.example/?x=1&amp;y=2", "https://delinde.example/b", "https://a.example/?x=1&amp;y=2")
    ]
    assert "<img" not in made.html
    assert set(re.findall(r"{{ (\w+) }}", made.html)) == {
        "unsubscribe_url",
        "preferences_url",
        "quiet_url",
    }
    assert "meten" not in made.html


# The footer

IDENTITY = "Deze mail komt van Stichting De Linde, Lindelaan 1, 1234 AB Utrecht."


@pytest.mark.checklist("UNS-08")
@pytest.mark.parametrize("file", ["mailing.html", "mailing.md"])
@pytest.mark.parametrize("text", ["", "Dag {{ first_name }}"])
@pytest.mark.parametrize("purpose", ["marketing", "service"])
def test_every_mailing_says_who_sends_it_and_where_a_stop_request_can_be_posted(
    file: str, text: str, purpose: str
) -> None:
    html, plain = shown("Dag", file=file, text=text, purpose=purpose)

    assert IDENTITY in html
    assert IDENTITY in plain


def test_the_footer_says_why_and_how_to_leave_in_both_parts() -> None:
    html, text = shown("<p>Dag</p>")

    foot = html.partition('<div class="consentkit-end"')[2]
    assert re.findall(r'<a href="([^"]*)"[^>]*>([^<]*)</a>', foot) == [
        ("https://delinde.example/unsubscribe_url", "Afmelden voor Nieuwsbrief"),
        ("https://delinde.example/preferences_url", "Mijn voorkeuren bekijken of veranderen"),
    ]
    assert (
        text
        == f"""\
Dag

----------------------------------------

Je krijgt deze mail omdat je je hebt aangemeld voor Nieuwsbrief van
Basisschool De Linde.

Afmelden voor Nieuwsbrief:
https://delinde.example/unsubscribe_url

Mijn voorkeuren bekijken of veranderen:
https://delinde.example/preferences_url

{IDENTITY}"""
    )


@pytest.mark.checklist("UNS-01")
@pytest.mark.parametrize(
    ("source", "again"),
    [
        ('<a href="{{ unsubscribe_url }}">weg</a>', 0),
        ("<p>Dag</p>", 1),
        ('{% if city %}<a href="{{ unsubscribe_url }}">weg</a>{% endif %}', 1),
        ('<p style="display:none"><a href="{{ unsubscribe_url }}">weg</a></p>', 1),
        ('<style>.x{display:none}</style><a class="x" href="{{ unsubscribe_url }}">weg</a>', 1),
        ("<p title='{{ unsubscribe_url }}'>Dag</p>", 1),
        ('<!-- <a href="{{ unsubscribe_url }}">weg</a> -->', 1),
    ],
)
def test_the_link_to_leave_always_stands_there_visibly_and_the_footer_repeats_none(source: str, again: int) -> None:
    made = composed(source)

    foot = made.html.partition('<div class="consentkit-end"')[2]
    assert foot.count("{{ unsubscribe_url }}") == again
    assert made.text.partition("-----")[2].count("{{ unsubscribe_url }}") == again


def test_the_footer_of_the_text_knows_what_the_text_of_the_author_says() -> None:
    made = composed(
        '<a href="{{ unsubscribe_url }}">weg</a>', text="Dag\n\n{{ footer }}\n\nGroet, {{ preferences_url }}"
    )

    assert made.text.startswith("Dag\n\n-----")
    assert made.text.endswith("\n\nGroet, {{ preferences_url }}")
    assert made.text.count("{{ unsubscribe_url }}") == 1
    assert made.text.count("{{ preferences_url }}") == 1


@pytest.mark.parametrize(
    ("source", "file"),
    [
        ("<p>Voor</p>{{ footer }}<p>Na</p>", "mailing.html"),
        ("<p>Voor</p><p>{{ footer }}</p><p>Na</p>", "mailing.html"),
        ("Voor\n\n{{ footer }}\n\nNa", "mailing.md"),
        (
            "<mjml><mj-body><mj-section><mj-column><mj-text>Voor</mj-text></mj-column></mj-section>"
            "<mj-raw>{{ footer }}</mj-raw>"
            "<mj-section><mj-column><mj-text>Na</mj-text></mj-column></mj-section></mj-body></mjml>",
            "mailing.mjml",
        ),
    ],
)
def test_the_footer_stands_where_the_template_says(source: str, file: str) -> None:
    html, text = shown(source, file=file)

    for part in (html, text):
        assert part.index("Voor") < part.index(IDENTITY) < part.rindex("Na")
        assert part.count(IDENTITY) == 1
    assert "<p></p>" not in html


def test_a_measured_mail_says_so_and_has_a_link_that_stops_only_that() -> None:
    made = composed("<p>Dag</p>", measured=True)

    for part in (made.html, made.text):
        assert "Je gaf toestemming om te meten of je deze mail opent en waarop je klikt." in part
        assert part.count("{{ quiet_url }}") == 1
    assert '<a href="{{ quiet_url }}"' in made.html


def test_a_service_mail_gives_another_reason_and_the_preferences_alone() -> None:
    made = composed("<p>Dag</p>", purpose="service")

    for part in (made.html, made.text):
        assert "Dit is een servicebericht van Basisschool De Linde." in part
        assert "unsubscribe_url" not in part
        assert part.count("{{ preferences_url }}") == 1
    assert problems("{{ unsubscribe_url }}", purpose="service") == [
        "mailing.html:1: `unsubscribe_url` is not known here: nobody can leave a service mail; "
        "give {{ preferences_url }}"
    ]


def test_the_footer_speaks_the_language_of_the_mailing() -> None:
    draft = Draft(list="nieuwsbrief", subject="News", html="<p>Hi</p>")

    made = compose(draft, replace(ABOUT, language="en", texts=load_texts("en")))

    assert '<html lang="en">' in made.html
    assert "This message comes from Stichting De Linde, Lindelaan 1, 1234 AB Utrecht." in made.text


def test_the_footer_is_readable_by_day_and_by_night_whatever_stands_around_it() -> None:
    made = composed("<body bgcolor=black>Dag</body>")

    (style,) = re.findall(r'class="consentkit-end" role="contentinfo" style="([^"]*)"', made.html)
    ground, ink = (re.search(rf"(?:^|;){name}:(#\w+)", style)[1] for name in ("background", "color"))
    (link,) = {*re.findall(r'href="{{ \w+ }}" style="[^"]*color:(#\w+)"', made.html)}
    night = re.search(
        r"dark\)\{\.consentkit-end\{background:(#\w+)!important;color:(#\w+)!important\}"
        r"\.consentkit-end a\{color:(#\w+)!important\}",
        made.html,
    )
    for one, other in ((ink, ground), (link, ground), (night[2], night[1]), (night[3], night[1])):
        assert contrast(one, other) >= TEXT_CONTRAST
    assert "font-size:14px" in style


# Plain text


def text_of(html: str) -> str:
    return plain(html, statement=re.compile("<!--(x)-->"))


@pytest.mark.parametrize(
    ("html", "text"),
    [
        ("<h1>Kop</h1><p>Dag &amp; caf&eacute;&nbsp;nu<br>regel</p>", "Kop\n\nDag & café nu\nregel"),
        ('<p>Lees <a href="https://a.nl/b">meer</a>.</p>', "Lees meer (https://a.nl/b)."),
        ('<a href="https://a.nl">https://a.nl</a> <a href="#x">top</a>', "https://a.nl top"),
        ('<a href="mailto:p@a.nl?subject=x">Mail ons</a>', "Mail ons (p@a.nl)"),
        (
            '<a href="https://a.nl"><img src="x" alt="Logo"></a><img alt="Foto"><img alt="">',
            "Logo (https://a.nl)[Foto]",
        ),
        ("<ul><li>a<ul><li>b</li></ul></li><li><p>c</p></li></ul>d", "- a\n  - b\n- c\n\nd"),
        ("<ol><li>a</li><li>b</li></ol>", "1. a\n2. b"),
        ("<ol><!--x--><li>a</li><!--x--></ol>", "x- a\nx"),
        ("<table><tr><th>A</th><th>B</th></tr><tr><td>1<br>2</td><td><p>3</p></td></tr></table>", "A | B\n1 2 | 3"),
        ("<table><caption>Rooster</caption><tr><th>A</th></tr></table>", "Rooster\n\nA"),
        ("<table><tr><td><p>links</p></td><td>rechts</td></tr></table>", "links\n\nrechts"),
        ("<blockquote><p>a</p></blockquote><hr><pre>a\n  b</pre>", f"> a\n\n{'-' * 40}\n\na\n  b"),
        ('<p style="display: none">weg</p><p hidden>weg<br></p><style>p{}</style><title>weg</title><p>er</p>', "er"),
        ("<!--[if mso]><p>weg</p><![endif]--><div><div>er</div></div>", "er"),
    ],
)
def test_the_text_of_html(html: str, text: str) -> None:
    assert text_of(html) == text


def test_lines_are_wrapped_and_addresses_are_not() -> None:
    url = "https://delinde.example/" + "een-lang-pad/" * 8

    lines = text_of(f'<p>{"woord " * 30}<a href="{url}">lees-verder</a> {"woord " * 20}</p>').split("\n")

    assert f"({url})" in " ".join(lines).split(" ")
    assert all(len(line) <= 76 for line in lines if url not in line)
    assert len(lines) > 4
