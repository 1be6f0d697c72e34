"""The newsletter's pages and mails in a real browser, as everybody meets them: every page, both languages.

A walk through the newsletter with a plain client collects each page as it was sent; the browser then looks at those.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import pytest
from playwright.sync_api import Browser, Locator, Page, expect
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route

from consentkit import ConsentKit
from consentkit.render import load_texts
from consentkit.theme import contrast
from tests.browser_fixtures import forget_loop, resume_loop, serving
from tests.front.harness import AXE, axe
from tests.newsletter.desk import LISTS, Desk, desk

pytestmark = pytest.mark.browser

CHILD = "kind@voorbeeld.nl"
FORM = {
    "fields": ["email", "name", "organisation", "message"],
    "optional": ["name", "message"],
    "purpose": {"nl": "Om je het laatste nieuws te sturen", "en": "To send you the latest news"},
    "retention": "12 months",
    "lists": ["agenda"],
    "children": True,
    "uses": {
        "deelnemers": {
            "nl": "Je naam noemen op de pagina met deelnemers, tot je dat weer intrekt",
            "en": "Naming you on the page with participants, until you withdraw that again",
        }
    },
    "partners": {
        "klik": {
            "name": "Stichting Klik",
            "purpose": {
                "nl": "twee keer per jaar een uitnodiging voor een open dag sturen",
                "en": "sending an invitation for an open day twice a year",
            },
        }
    },
}
TABLES: dict[str, Any] = {
    "lists": LISTS | {"nieuwsbrief": {**LISTS["nieuwsbrief"], "form": "brief"}},
    "forms": {"brief": FORM},
}
ALIKE = {
    *("used", "undone", "erased", "nothing kept", "parent agreed", "child erased", "gone", "expired"),
    *("preferences expired", "forged leave", "sent to parent", "data asked", "mail undo", "mail confirm child"),
}
PHONE = {"viewport": {"width": 320, "height": 640}}
DESK = {"viewport": {"width": 1280, "height": 800}}
WIDE = {"viewport": {"width": 1600, "height": 900}}
LARGE = "html { font-size: 200% }"
SPACED = "* { line-height: 1.5 !important; letter-spacing: .12em !important; word-spacing: .16em !important }"
SIZES = {
    "320 px": (PHONE, ""),
    "1280 px": (DESK, ""),
    "200 % text, phone": (PHONE, LARGE),
    "200 % text, desktop": (DESK, LARGE),
    "spacing": (PHONE, SPACED),
    "1600 px": (WIDE, ""),
}
# Colours know no language, and the rest knows no colours.
SCHEMES = {"nl": {"light": "", "dark": "colours"}, "en": {"light": "structure"}}
CONTROLS = (
    "button, textarea, summary, nav a, .home, .consentkit-button, .button, main a, label:has(input), "
    "input:not([type=checkbox], [type=radio], [type=hidden])"
)
SMALL = """all => all.filter(one => one.checkVisibility()).map(one => [one, one.getBoundingClientRect()])
    .filter(([_, box]) => box.width < 44 || box.height < 44)
    .map(([one, box]) => [one.outerHTML.slice(0, 90), box.width, box.height])"""
OWN_CSS = """css => {
    const style = document.querySelector('style.own') ?? document.head.appendChild(document.createElement('style'));
    style.className = 'own', style.textContent = css;
}"""
CUT = """() => [...document.querySelectorAll('body, body *')].filter(one => one.checkVisibility()
    && !one.matches('input, .skip') && one.clientWidth && one.scrollWidth > one.clientWidth + 1)
    .map(one => one.outerHTML.slice(0, 90))
    .concat(document.documentElement.scrollWidth > innerWidth ? ['the page'] : [])"""
STRONG = "all => all.filter(_ => getComputedStyle(_).backgroundColor != 'rgba(0, 0, 0, 0)').length"
EDGES = """all => all.filter(one => one.checkVisibility()).map(one => {
    const style = getComputedStyle(one), page = getComputedStyle(document.documentElement).backgroundColor;
    return [one.name, style.borderTopWidth, style.borderTopColor, page];
})"""


# -- the walk -------------------------------------------------------------------------------------------------------


def walk(school: Desk, lang: str) -> dict[str, str]:
    """Every page and every mail of the newsletter in one language, by name."""
    found: dict[str, str] = {}
    form, ask = f"/privacy/newsletter/nieuwsbrief?lang={lang}", {"lang": lang, "organisation": "De Linde"}
    boxes = {"measuring": "1", "lists": "agenda", "uses": "deelnemers", "partners": "klik"}

    def keep(name: str, response: Any, status: int = 200) -> None:
        assert response.status_code == status, (name, response.status_code)
        found[name] = response.text

    def mail(name: str) -> None:
        (sent,) = school.mails()
        found[f"mail {name}"] = sent.html or ""

    def link(kind: str) -> str:
        return re.sub(r"\?.*|$", f"?lang={lang}", school.link(kind), count=1)

    keep("lists", school.get(f"/privacy/newsletter?lang={lang}"))
    keep("form", school.get(form))
    keep("short form", school.get(f"/privacy/newsletter/agenda?lang={lang}"))
    keep("form with errors", school.post(form, lang=lang, email="jan", age="under16", parent_email="jan"), 422)
    keep("empty form", school.post(form, lang=lang), 422)
    school.post(form, email="jan@voorbeeld.nl", name="Jan", age="16plus", **ask, **boxes)
    keep("sent", school.get(f"{form}&sent=1"))
    mail("confirm")
    confirm = link("confirm")
    keep("confirm", school.get(confirm))
    keep("confirmed", school.post(confirm))
    keep("used", school.get(confirm))
    mail("welcome")
    leave, preferences = link("afmelden"), link("voorkeuren")
    keep("preferences", school.get(preferences))
    keep("saved", school.post(preferences, action="save", lists=["nieuwsbrief"]))
    keep("data asked", school.post(preferences, action="link"))
    mail("own data")
    own = link("voorkeuren")
    keep("own data", school.get(own))
    keep("leave", school.get(leave))
    keep("left", school.post(leave))
    school.clock.later(hours=25)
    keep("undone", school.post(leave, action="undo"))
    mail("undo")
    keep("left all", school.post(leave, action="all"))
    school.post(preferences, action="link")
    school.mails()
    keep("erased", school.post(link("voorkeuren"), action="erase"))
    keep("nothing kept", school.get(preferences))

    school.post(form, email=CHILD, age="under16", parent_email="ouder@voorbeeld.nl", partners="klik", **ask)
    keep("sent to parent", school.get(f"{form}&sent=young"))
    mail("parent")
    parent = link("confirm")
    keep("parent", school.get(parent))
    keep("parent agreed", school.post(parent, action="confirm"))
    keep("parent later", school.get(parent))
    mail("confirm child")
    child = link("confirm")
    keep("child erased", school.post(parent, action="erase"))
    keep("gone", school.get(child), 410)
    school.clock.later(days=40)
    keep("expired", school.get(child), 410)
    keep("preferences expired", school.get(preferences), 410)
    keep("forged", school.get(f"/privacy/confirm/forged?lang={lang}"), 404)
    keep("forged leave", school.get(f"/privacy/afmelden/forged?lang={lang}"), 404)
    return found


@pytest.fixture(scope="module")
def walked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[ConsentKit, dict[str, dict[str, str]]]]:
    """A kit, and what it showed in Dutch and in English."""
    with desk(tmp_path_factory.mktemp("nl"), **TABLES) as dutch, desk(tmp_path_factory.mktemp("en"), **TABLES) as other:
        yield dutch.kit, {"nl": walk(dutch, "nl"), "en": walk(other, "en")}


def site(kit: ConsentKit, pages: Mapping[str, Mapping[str, str]], css: str = "") -> Starlette:
    """Serves `/<lang>/<name>`; `css` goes into each page as a host's or a visitor's own."""

    async def page(request: Request) -> Response:
        html = pages.get(request.path_params["lang"], {}).get(request.path_params["name"])
        if html is None:
            return Response("no such page", 404)
        return HTMLResponse(html.replace("</head>", f"<style>{css}</style></head>") if css else html)

    async def asset(request: Request) -> Response:
        body, media_type = kit.sites[0].renderer.asset(request.path_params["name"]) or (b"", "text/plain")
        return Response(body, media_type=media_type)

    return Starlette(routes=[Route("/privacy/static/{name}", asset), Route("/{lang}/{name:path}", page)])


@pytest.fixture
def shown(walked: Any, serve: Callable[..., str], new_page: Callable[..., Page]) -> Callable[..., Page]:
    """Opens a page with which to look at `/<lang>/<name>`."""
    kit, found = walked

    def look(css: str = "", pages: dict[str, str] | None = None, **options: Any) -> Page:
        return new_page(base_url=serve(site(kit, {"nl": pages} if pages else found, css)), **options)

    return look


@dataclass(frozen=True, slots=True)
class Look:
    """One page as it was seen: what axe finds wrong by colour scheme, what is cut off and which controls are too
    small by size of the window, and how many buttons stand out."""

    axe: dict[str, list[str]]
    cut: dict[str, list[str]]
    small: dict[str, list[Any]]
    strong: int


@pytest.fixture(scope="module")
def seen(walked: Any, chromium: Browser) -> Iterator[dict[tuple[str, str], Look]]:
    """One page of each layout in both languages, each opened once and looked at in every way."""
    kit, found = walked
    with serving() as serve:
        resume_loop()
        context = chromium.new_context(base_url=serve(site(kit, found)))
        context.add_init_script(AXE)
        page = context.new_page()
        looks = {(lang, name): look_at(page, lang, name) for lang in found for name in found[lang] if name not in ALIKE}
        context.close()
        forget_loop()
    return looks


def look_at(page: Page, lang: str, name: str) -> Look:
    page.set_viewport_size(PHONE["viewport"])
    page.goto(f"/{lang}/{name}")
    found, cut, small = {}, {}, {}
    for scheme, only in SCHEMES[lang].items():
        page.emulate_media(color_scheme=scheme)
        found[scheme] = axe(page, only)
    page.emulate_media(color_scheme="light")
    for size, (options, css) in SIZES.items():
        page.set_viewport_size(options["viewport"])
        page.evaluate(OWN_CSS, css)
        cut[size] = page.evaluate(CUT)
        if not css:
            small[size] = page.locator(CONTROLS).evaluate_all(SMALL)
    return Look(found, cut, small, page.locator("main button").evaluate_all(STRONG))


def wrong(seen: dict[tuple[str, str], Look], what: str) -> list[tuple[Any, ...]]:
    """What of one kind is wrong: language, page, way of looking and what was found."""
    assert len(seen) > 40
    return [(*where, way, found) for where, look in seen.items() for way, found in getattr(look, what).items() if found]


def hexed(colour: str) -> str:
    return "#" + "".join(f"{int(part):02x}" for part in re.findall(r"\d+", colour)[:3])


# -- for everybody --------------------------------------------------------------------------------------------------


@pytest.mark.checklist("ACC-03")
def test_axe_finds_nothing_on_any_page_or_mail(seen: Any) -> None:
    assert wrong(seen, "axe") == []


@pytest.mark.checklist("ACC-03")
def test_axe_finds_nothing_in_forced_colours_and_boxes_are_the_systems_own(walked: Any, shown: Any) -> None:
    page = shown(forced_colors="active", **DESK)
    for name in ("form with errors", "preferences", "left", "mail confirm"):
        page.goto(f"/nl/{name}")
        assert axe(page) == [], name
        looks = page.locator(".consentkit-choice input").evaluate_all(
            "all => all.map(_ => getComputedStyle(_).appearance)"
        )
        assert set(looks) <= {"auto"}


@pytest.mark.checklist("ACC-05")
def test_nothing_scrolls_sideways_or_is_cut_off(seen: Any) -> None:
    assert wrong(seen, "cut") == []


@pytest.mark.checklist("ACC-04")
def test_every_control_is_a_large_target(seen: Any) -> None:
    assert wrong(seen, "small") == []


@pytest.mark.checklist("ACC-03")
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_edge_of_every_field_and_box_stands_out(walked: Any, shown: Any, scheme: str) -> None:
    page = shown(color_scheme=scheme, **PHONE)
    for name, least in (("form", 9), ("form with errors", 9), ("preferences", 5)):
        page.goto(f"/nl/{name}")
        edges = page.locator("main input, main textarea").evaluate_all(EDGES)
        assert len(edges) >= least
        for field, width, edge, ground in edges:
            assert float(width.removesuffix("px")) >= 2, (name, field)
            assert contrast(hexed(edge), hexed(ground)) >= 3, (name, field)


@pytest.mark.checklist("ACC-02")
def test_where_the_focus_is_can_be_seen_on_every_control(walked: Any, shown: Any) -> None:
    page = shown(**PHONE)
    for name in ("form", "preferences", "left", "lists"):
        page.goto(f"/nl/{name}")
        for control in (
            page.locator("main :is(a, button, textarea, input:not([type=hidden]))").locator("visible=true").all()
        ):
            control.focus()
            page.keyboard.press("Shift")
            assert (
                control.evaluate("one => one.matches(':focus-visible') && getComputedStyle(one).outlineStyle")
                == "solid"
            )


@pytest.mark.parametrize("lang", ["nl", "en"])
def test_one_strong_button_at_most_and_the_others_are_quiet(seen: Any, lang: str) -> None:
    strong = {name: look.strong for (its, name), look in seen.items() if its == lang}

    asks = {"form", "short form", "form with errors", "empty form", "confirm", "leave"}
    saves = {"preferences", "saved", "own data"}
    assert {name for name, count in strong.items() if count} == asks | saves | {"parent"}
    assert strong.pop("parent") == 2, "giving consent is not easier to see than not giving it"
    assert max(strong.values()) == 1


# -- the form -------------------------------------------------------------------------------------------------------


@pytest.mark.checklist("ACC-07")
@pytest.mark.parametrize("lang", ["nl", "en"])
def test_every_field_has_a_label_that_is_seen_and_the_address_can_be_filled_in_by_the_browser(
    shown: Any, lang: str
) -> None:
    page = shown(**PHONE)
    page.goto(f"/{lang}/form")
    labels, texts = page.locator("main form label").locator("visible=true"), load_texts(lang)

    for field in page.locator("main :is(input:not([type=hidden]), textarea)").locator("visible=true").all():
        assert labels.filter(has=page.locator(f"css=[for='{field.get_attribute('id')}']")).count() <= 1
        assert field.evaluate("one => [...one.labels].some(label => label.innerText.trim() && label.checkVisibility())")
    address = page.get_by_label(texts("form.field_email"), exact=True)
    assert (address.get_attribute("autocomplete"), address.get_attribute("type")) == ("email", "email")
    expect(address).to_have_accessible_description(texts("form.email_help"))
    optional = page.locator("label", has_text=f"({texts('form.optional')})")
    assert optional.count() == 2
    assert page.locator("[required]:not([type=radio])").count() == 2
    assert page.locator("img, canvas, iframe, [class*=captcha]").count() == 0
    for legend in ("form.age", "form.also", "form.uses", "form.partners"):
        expect(page.locator("legend", has_text=texts(legend))).to_be_visible()
    assert page.get_by_role("radiogroup", name=texts("form.age")).get_by_role("radio").count() == 2


@pytest.mark.checklist("ACC-07")
@pytest.mark.parametrize("lang", ["nl", "en"])
def test_a_mistake_is_told_in_words_at_the_top_and_at_the_field_and_the_top_leads_there(shown: Any, lang: str) -> None:
    page, texts = shown(**PHONE), load_texts(lang)
    page.goto(f"/{lang}/form with errors")
    summary = page.get_by_role("alert")

    expect(summary).to_be_focused()
    assert page.title().startswith(texts("signup.wrong_title"))
    told = {"email": "no_address", "organisation": "needed", "parent_email": "no_address"}
    assert page.locator("[aria-invalid]").evaluate_all("all => all.map(one => one.name)") == list(told)
    for field, why in told.items():
        control = page.locator(f"[name={field}]")
        expect(control).to_have_accessible_description(re.compile(re.escape(texts(f"form.problem_{why}")) + "$"))
        summary.locator(f"a[href$='-{field}']").click()
        expect(control).to_be_focused()
    assert page.locator("[name=email]").input_value() == "jan"
    expect(page.locator("[value=under16]")).to_be_checked()
    page.goto(f"/{lang}/empty form")
    page.get_by_role("alert").get_by_role("link", name=texts("form.age")).click()
    expect(page.locator("[name=age]").first).to_be_focused()
    expect(page.get_by_role("radiogroup")).to_have_accessible_description(re.compile(texts("form.problem_choose")))


@pytest.mark.checklist("NEW-01")
@pytest.mark.parametrize("lang", ["nl", "en"])
def test_every_box_is_unticked_and_asks_for_one_thing(shown: Any, lang: str) -> None:
    page, texts = shown(**PHONE), load_texts(lang)
    page.goto(f"/{lang}/form")
    boxes = page.locator("main input[type=checkbox]")

    assert boxes.evaluate_all("all => all.map(one => one.name + '=' + one.value)") == [
        "measuring=1", "lists=agenda", "uses=deelnemers", "partners=klik",
    ]  # fmt: skip
    assert boxes.evaluate_all("all => all.some(one => one.checked || one.required)") is False
    assert page.locator("[type=radio]:checked").count() == 0
    asked = " ".join(boxes.evaluate_all("all => all.map(one => one.labels[0].innerText)")).lower()
    assert not any(word in asked for word in ("voorwaarden", "privacyverklaring", "terms", "privacy statement"))
    assert texts("form.choices_free") in page.locator("fieldset").last.inner_text()


@pytest.mark.checklist("NEW-02")
@pytest.mark.parametrize(
    ("lang", "told"),
    [
        (
            "nl",
            ["Nieuws van de school", "elke maand", "De Linde (Stichting De Linde)", "Je kunt je altijd weer afmelden"],
        ),
        ("en", ["News from the school", "monthly", "De Linde (Stichting De Linde)", "You can unsubscribe at any time"]),
    ],
)
def test_what_about_how_often_from_whom_and_how_to_leave_can_be_read_above_the_form(
    shown: Any, lang: str, told: list[str]
) -> None:
    page = shown(**PHONE)
    page.goto(f"/{lang}/form")
    seen = page.locator(".consentkit-about dd")

    assert [words in text for words, text in zip(told, seen.all_inner_texts(), strict=True)] == [True] * 4
    last, field = seen.last.bounding_box(), page.locator("[name=email]").bounding_box()
    assert last
    assert field
    assert last["y"] + last["height"] <= field["y"]


@pytest.mark.checklist("CST-07")
@pytest.mark.parametrize("lang", ["nl", "en"])
def test_which_fields_what_for_and_how_long_stand_at_the_form_as_they_are_configured(shown: Any, lang: str) -> None:
    page, texts = shown(**PHONE), load_texts(lang)
    page.goto(f"/{lang}/form")

    fields = [*(texts(f"form.field_{name}") for name in FORM["fields"]), texts("form.field_young")]
    fields.append(texts("form.parent_email"))
    periods = {"nl": ("30 dagen", "7 dagen"), "en": ("30 days", "7 days")}[lang]
    kept = texts("form.kept_until_left", left=periods[0], unconfirmed=periods[1])
    assert page.locator(".consentkit-declared dd").all_inner_texts() == [
        texts.join(fields), FORM["purpose"][lang], kept,
    ]  # fmt: skip
    seen = page.locator("main form :is(input:not([type=hidden], [type=checkbox]), textarea)").locator("visible=true")
    assert list(dict.fromkeys(seen.evaluate_all("all => all.map(one => one.name)"))) == [
        *FORM["fields"], "age", "parent_email",
    ]  # fmt: skip
    assert page.locator("label:has(small)").evaluate_all("all => all.map(one => one.control.name)") == FORM["optional"]
    page.goto(f"/{lang}/short form")
    assert page.locator(".consentkit-declared dd").all_inner_texts() == [
        texts("form.field_email"), texts("form.purpose_newsletter"), kept,
    ]  # fmt: skip


HOSTILE = "[hidden] { display: block !important } input { opacity: 1 }"


@pytest.mark.parametrize("css", ["", HOSTILE], ids=["as it is", "a host that shows what is hidden"])
def test_the_trap_for_programs_is_out_of_reach_of_people(shown: Any, css: str) -> None:
    page = shown(css, **PHONE)
    page.goto("/nl/form")
    trap = page.locator("[name=website]")

    assert trap.count() == 1
    assert trap.get_attribute("autocomplete") == "off"
    assert "Laat dit veld leeg" not in page.locator("main").aria_snapshot()
    for _ in range(20):
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.name") != "website"
    assert page.evaluate("document.querySelector('[name=website]').checkVisibility()") is bool(css)


def test_two_forms_in_a_hosts_own_page_share_no_id_and_are_decent_without_any_style(walked: Any, shown: Any) -> None:
    kit = walked[0]
    both = "".join(f"<h2>{name}</h2>{kit.newsletter_form(name)}" for name in ("nieuwsbrief", "agenda"))
    head = "<!doctype html><html lang=nl><head><title>De Linde</title></head><body><main><h1>De Linde</h1>"
    page = shown(pages={"host": f"{head}{both}</main></body></html>"}, **PHONE)
    page.goto("/nl/host")
    ids = page.locator("[id]").evaluate_all("all => all.map(one => one.id)")

    assert len(ids) == len(set(ids)) > 8
    assert all(id.startswith("consentkit-") for id in ids)
    assert [form.get_attribute("aria-label") for form in page.locator("form").all()] == [
        "Aanmelden voor Nieuwsbrief", "Aanmelden voor Agenda",
    ]  # fmt: skip
    assert axe(page) == []
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    for field in page.locator("input:not([type=hidden]), textarea, button").locator("visible=true").all():
        if field.get_attribute("type") not in ("checkbox", "radio"):
            assert alone(field), field.get_attribute("name")
    boxes = page.locator("[type=checkbox], [type=radio]").evaluate_all(
        "all => all.map(_ => _.getBoundingClientRect().y)"
    )
    assert len(boxes) == len(set(boxes)) == 8, "each choice begins a line"


def alone(field: Locator) -> bool:
    """Whether no text stands beside a field."""
    return field.evaluate(
        """one => { const box = one.getBoundingClientRect();
          return one.closest('p').innerText.trim() == '' || [...one.closest('p').querySelectorAll('label, small')]
            .every(_ => { const its = _.getBoundingClientRect(); return its.bottom <= box.top + 6 }) }"""
    )


# -- what is said ---------------------------------------------------------------------------------------------------


def test_a_page_or_mail_in_one_language_has_no_text_in_the_other(walked: Any) -> None:
    found = walked[1]
    configured = [text for one in (*LISTS.values(), FORM) for text in one.values() if isinstance(text, dict)]
    configured += [FORM["uses"]["deelnemers"], FORM["partners"]["klik"]["purpose"]]
    for lang, other in (("nl", "en"), ("en", "nl")):
        own, foreign = load_texts(lang)._entries, load_texts(other)._entries
        pieces = {
            piece.strip()
            for key, text in foreign.items()
            if text != own[key]
            for piece in re.split(r"\{\w*\}", text)
            if len(piece.strip()) > 14
        }
        suspects = [piece for piece in pieces if not any(piece in text for text in own.values())]
        suspects += [text[other] for text in configured if other in text]
        for name, html in found[lang].items():
            for text in suspects:
                assert text not in html, (name, lang, text)
            assert f'<html lang="{lang}">' in html, name


@pytest.mark.checklist("UNS-03")
@pytest.mark.parametrize("lang", ["nl", "en"])
def test_the_page_that_unsubscribes_has_one_button_and_asks_nothing(shown: Any, lang: str) -> None:
    page = shown(**PHONE)
    page.goto(f"/{lang}/leave")
    main = page.get_by_role("main")

    assert main.get_by_role("button").all_inner_texts() == [load_texts(lang)("afmelden.button")]
    expect(main.get_by_role("button")).to_be_in_viewport(ratio=1)
    assert main.locator("input, select, textarea, a").count() == 0
    assert "?" not in main.inner_text()


@pytest.mark.checklist("UNS-06")
@pytest.mark.parametrize("lang", ["nl", "en"])
def test_after_unsubscribing_the_page_says_what_stopped_what_may_still_come_and_how_to_undo_it(
    shown: Any, lang: str
) -> None:
    page, texts = shown(**PHONE), load_texts(lang)
    title = LISTS["nieuwsbrief"]["title"][lang]
    page.goto(f"/{lang}/left")

    expect(page.get_by_role("status")).to_have_text(texts("afmelden.done", list=title))
    expect(page.get_by_text(texts("afmelden.service"))).to_be_visible()
    expect(page.get_by_role("button", name=texts("afmelden.undo"), exact=True)).to_be_visible()
    expect(page.get_by_role("button", name=texts("afmelden.everything"), exact=True)).to_be_visible()
    page.goto(f"/{lang}/left all")
    expect(page.get_by_role("status")).to_have_text(texts("afmelden.done_all", site="Basisschool De Linde"))
    assert page.get_by_role("main").get_by_role("button").all_inner_texts() == [texts("afmelden.undo")]


@pytest.mark.checklist("ACC-07")
@pytest.mark.parametrize("lang", ["nl", "en"])
def test_a_result_is_a_status_and_what_went_wrong_an_alert(walked: Any, lang: str) -> None:
    told = {name: ",".join(re.findall(r'role="(status|alert)"', html)) for name, html in walked[1][lang].items()}

    alerts = {"form with errors", "empty form", "gone", "expired", "preferences expired", "forged", "forged leave"}
    assert {name for name, role in told.items() if role == "alert"} == alerts
    assert {name for name, role in told.items() if role == "status"} == {
        "sent", "sent to parent", "confirmed", "used", "saved", "data asked", "left", "left all", "undone", "erased",
        "nothing kept", "parent agreed", "child erased",
    }  # fmt: skip


@pytest.mark.parametrize("lang", ["nl", "en"])
@pytest.mark.parametrize("name", ["confirm", "mail confirm", "parent", "mail parent"])
def test_who_is_asked_to_agree_reads_to_what_who_asks_and_that_it_can_be_taken_back(
    shown: Any, lang: str, name: str
) -> None:
    page, texts = shown(**PHONE), load_texts(lang)
    page.goto(f"/{lang}/{name}")
    partner = texts("form.partner", name="Stichting Klik", purpose=FORM["partners"]["klik"]["purpose"][lang])
    lists = [
        texts("form.choice", **{key: LISTS[id][key][lang] for key in ("title", "about", "frequency")}) for id in LISTS
    ]
    young = "parent" in name
    expected = [lists[0], partner] if young else [*lists, FORM["uses"]["deelnemers"][lang], partner]

    assert sorted(page.locator("li").all_inner_texts()) == sorted(expected)
    said = page.locator("body").inner_text()
    for text in (
        texts("confirm.controller", controller="Stichting De Linde"),
        texts("parent.leave_any_time" if young else "confirm.leave_any_time"),
        texts("parent.no_measuring" if young else "confirm.measuring"),
    ):
        assert text in said


def test_names_of_fields_are_words_and_not_keys(walked: Any, shown: Any) -> None:
    page = shown(**PHONE)
    page.goto("/nl/own data")

    assert page.locator("dt").all_inner_texts()[:3] == ["E-mailadres", "Je naam", "Je organisatie"]
    page.goto("/nl/preferences")
    groups = page.get_by_role("group").evaluate_all(
        "all => all.map(one => document.getElementById(one.getAttribute('aria-labelledby')).innerText)"
    )
    assert len(groups) == len(set(groups)) == 4


def test_mails_ask_nothing_of_the_network_and_show_where_a_link_leads(walked: Any) -> None:
    for found in walked[1].values():
        for name, html in found.items():
            if name.startswith("mail "):
                assert not re.search(r"<(?:img|script|link|iframe|object)\b|url\(|@import|src=", html), name
                assert "?" not in re.sub(r"<[^>]*>|\s", "", html.split("<title>")[1].split("</title>")[0]), name
