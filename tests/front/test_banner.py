"""The banner in a real browser: what it shows, what its buttons do, how it behaves for everybody."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import duckduckgo_autoconsent
import pytest
from playwright.sync_api import Page, Route, expect

from consentkit import catalogue
from tests.front.harness import HOST_PAGE, School, axe, exempt_counter, make_policy, make_view, themed, until

pytestmark = pytest.mark.browser

PHONE = {"viewport": {"width": 320, "height": 568}}
DESK = {"viewport": {"width": 1280, "height": 720}}
SIDES = ("Top", "Right", "Bottom", "Left")
LOOKS = [
    "height", "fontSize", "fontWeight", "fontFamily", "lineHeight", "letterSpacing", "textTransform",
    "textDecorationLine", "opacity", "visibility", "display", "float", "position", "cursor", "boxShadow", "filter",
    "transform", "color", "backgroundColor", "backgroundImage", "borderRadius", "textAlign",
    *(f"padding{side}" for side in SIDES), *(f"margin{side}" for side in SIDES),
    *(f"border{side}{what}" for side in SIDES for what in ("Width", "Style", "Color")),
]  # fmt: skip
HOSTILE = """
* { letter-spacing: 3px; box-sizing: content-box }
button { background: red; float: right; color: red; border: 9px dotted lime; padding: 40px; text-transform: uppercase }
button:first-child { display: none; width: 10px } form > div > button:last-child { font-size: 60px; opacity: .2 }
button[value=refuse] { color: #eee; background: #fff; visibility: hidden } body button { transform: scale(.5) }
section { display: none; position: static; opacity: 0; width: 50px } body > section { visibility: hidden }
form, fieldset, details, summary, label, input, ul, li, p, h2, a, div { display: inline; float: left; color: white }
details { display: none } input { display: none; appearance: none; width: 0 } ul { list-style: square; margin: 80px }
[hidden] { display: block } html { font-size: 62.5% } button::after { content: "!!!" } a::before { content: "x" }
"""


@pytest.fixture
def visit(serve: Callable[..., str], new_page: Callable[..., Page]) -> Callable[..., Page]:
    """Opens a page of a school in a fresh profile."""

    def open_school(school: School | None = None, path: str = "/", **options: Any) -> Page:
        page = new_page(base_url=serve((school or School()).app), **options)
        page.goto(path)
        return page

    return open_school


def choice_cookie(page: Page) -> str | None:
    """The value of the choice cookie, if there is one."""
    return next((one["value"] for one in page.context.cookies() if one["name"] == "consentkit"), None)


def boxes(page: Page, selector: str) -> list[dict[str, float]]:
    return [box for one in page.locator(selector).all() if (box := one.bounding_box())]


def open_second_layer(page: Page) -> None:
    page.get_by_text("Zelf kiezen").click()


# -- equal answers --------------------------------------------------------------------------------------------------


@pytest.mark.checklist("BAN-01")
@pytest.mark.parametrize("script", [True, False], ids=["script", "no script"])
@pytest.mark.parametrize("size", [PHONE, DESK], ids=["320x568", "1280x720"])
def test_weigeren_and_accepteren_are_sibling_buttons_seen_at_once(
    visit: Callable[..., Page], size: dict[str, Any], script: bool
) -> None:
    page = visit(**size, java_script_enabled=script)
    for name in ("Weigeren", "Accepteren"):
        button = page.get_by_role("button", name=name, exact=True)
        expect(button).to_be_visible()
        expect(button).to_be_in_viewport(ratio=1)

    siblings = page.locator("#consentkit button[value=refuse] + button[value=accept]")
    expect(siblings).to_have_count(1)


@pytest.mark.checklist("BAN-02")
@pytest.mark.parametrize("hostile", [False, True], ids=["plain host", "hostile host"])
@pytest.mark.parametrize("owner", [False, True], ids=["shipped", "owner's theme"])
def test_both_answers_have_the_same_size_and_the_same_looks(
    visit: Callable[..., Page], owner: bool, hostile: bool
) -> None:
    theme = themed(
        background="#fff8ee",
        accept_background="#7a2e00",
        refuse_background="#7a2e00",
        radius="0",
        font="Georgia, serif",
    )
    view = make_view(theme=theme) if owner else make_view()
    host = HOST_PAGE.replace("</head>", f"<style>{HOSTILE}</style></head>") if hostile else HOST_PAGE
    page = visit(School(view=view, pages={"/": host}), **DESK)
    answers = [page.locator(f"#consentkit [value={answer}]") for answer in ("refuse", "accept")]

    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        looks = [
            answer.evaluate("(button, names) => names.map(name => getComputedStyle(button)[name])", LOOKS)
            for answer in answers
        ]
        refuse, accept = boxes(page, "#consentkit [value=refuse]")[0], boxes(page, "#consentkit [value=accept]")[0]

        assert dict(zip(LOOKS, looks[0], strict=True)) == dict(zip(LOOKS, looks[1], strict=True)), scheme
        assert (refuse["width"], refuse["height"]) == (accept["width"], accept["height"])
        assert refuse["y"] == accept["y"]
        assert refuse["height"] >= 44
        expect(page.get_by_role("button", name="Weigeren", exact=True)).to_be_in_viewport(ratio=1)


@pytest.mark.parametrize("size", [PHONE, DESK], ids=["320x568", "1280x720"])
def test_a_hostile_host_stylesheet_changes_nothing_of_what_is_seen(visit: Callable[..., Page], size: Any) -> None:
    host = HOST_PAGE.replace("</head>", f"<style>{HOSTILE}</style></head>")
    shots = []
    for pages in ({"/": HOST_PAGE}, {"/": host}):
        page = visit(School(pages=pages), **size)
        open_second_layer(page)
        shots.append(
            page.evaluate(
                """() => [...document.querySelectorAll('#consentkit, #consentkit *')].map(one => {
                  const box = one.getBoundingClientRect(), style = getComputedStyle(one);
                  return [one.localName, Math.round(box.width), Math.round(box.height), style.color,
                    style.backgroundColor, style.display, getComputedStyle(one, '::after').content];
                })"""
            )
        )

    assert shots[0] == shots[1]


@pytest.mark.checklist("BAN-03")
@pytest.mark.parametrize("answer", ["Weigeren", "Accepteren"])
@pytest.mark.parametrize("script", [True, False], ids=["script", "no script"])
def test_one_click_answers_either_way(visit: Callable[..., Page], answer: str, script: bool) -> None:
    school = School()
    page = visit(school, java_script_enabled=script)

    page.get_by_role("button", name=answer, exact=True).click()

    expect(page.locator("#consentkit")).to_have_count(0)
    assert [dict(post)["decision"] for post in school.posts] == ["accept" if answer == "Accepteren" else "refuse"]
    assert dict(school.posts[0])["from"] == "banner"
    assert choice_cookie(page)


@pytest.mark.checklist("BAN-03", "ACC-02")
def test_by_keyboard_refusing_takes_one_press_as_accepting_does(visit: Callable[..., Page]) -> None:
    presses = {}
    for answer in ("Weigeren", "Accepteren"):
        school = School()
        page = visit(school)
        page.get_by_role("button", name=answer, exact=True).focus()
        page.keyboard.press("Enter")
        expect(page.locator("#consentkit")).to_have_count(0)
        presses[answer] = len(school.posts)

    assert presses == {"Weigeren": 1, "Accepteren": 1}


# -- nothing by itself ----------------------------------------------------------------------------------------------


@pytest.mark.checklist("BAN-04")
def test_every_switch_on_every_layer_is_off_at_first(visit: Callable[..., Page]) -> None:
    page = visit()

    assert (
        page.eval_on_selector_all("input[type=checkbox]:not([disabled])", "all => all.map(one => one.checked)")
        == [False] * 3
    )
    page.goto("/privacy/settings")
    assert page.eval_on_selector_all("input[type=checkbox]", "all => all.filter(one => one.checked).length") == 0


@pytest.mark.checklist("BAN-05")
def test_scrolling_waiting_escape_a_click_beside_and_leaving_grant_nothing(visit: Callable[..., Page]) -> None:
    gated = '<img alt="" data-consentkit-needs="analytics" data-consentkit-src="/hit/pixel.svg">'
    school = School(pages={"/": HOST_PAGE.replace("</h1>", "</h1>" + gated), "/lees/1": HOST_PAGE})
    page = visit(school)

    page.mouse.wheel(0, 3000)
    page.keyboard.press("Escape")
    page.mouse.click(5, 5)
    page.keyboard.press("Tab")
    open_second_layer(page)
    page.keyboard.press("Escape")
    page.wait_for_timeout(300)

    expect(page.locator("#consentkit")).to_be_visible()
    page.goto("/lees/1")
    page.go_back()
    expect(page.locator("#consentkit")).to_be_visible()
    assert school.posts == []
    assert school.hits == []
    assert choice_cookie(page) is None


@pytest.mark.checklist("BAN-11", "BAN-09")
def test_saving_stores_exactly_the_switches_that_are_seen(visit: Callable[..., Page]) -> None:
    names = ("analytics", "google-maps", "youtube")
    page = visit()
    for wanted in itertools.product((False, True), repeat=3):
        page.context.clear_cookies()
        page.goto("/")
        open_second_layer(page)
        for name, on in zip(names, wanted, strict=True):
            if on:
                page.locator(f"#consentkit input[value={name}]").check()
        page.get_by_role("button", name="Keuze opslaan").click()
        expect(page.locator("#consentkit")).to_have_count(0)

        page.goto("/privacy/settings")
        shown = [page.locator(f"input[value={name}]").is_checked() for name in names]

        assert shown == list(wanted)
        assert ("Toestemming intrekken" in page.content()) == any(wanted)


@pytest.mark.checklist("BAN-07")
def test_the_control_that_the_banner_names_is_on_the_page_under_that_name(visit: Callable[..., Page]) -> None:
    page = visit()

    expect(page.locator("#consentkit")).to_contain_text("“Cookie-instellingen”")
    expect(page.get_by_role("link", name="Cookie-instellingen", exact=True)).to_have_count(1)


# -- for everybody --------------------------------------------------------------------------------------------------

ZOOM = {"viewport": {"width": 320, "height": 256}, "device_scale_factor": 4}
STATES = {
    "light": DESK,
    "dark": {"color_scheme": "dark", **DESK},
    "forced colours": {"forced_colors": "active", **DESK},
    "320 px": PHONE,
}


def axe_in(page: Page, states: dict[str, dict[str, Any]]) -> dict[str, list[str]]:
    """What is wrong with the page in each of these states; what is wider than the window is wrong too."""
    found = {}
    for name, state in states.items():
        page.set_viewport_size(state["viewport"])
        page.emulate_media(
            color_scheme=state.get("color_scheme", "light"), forced_colors=state.get("forced_colors", "none")
        )
        wrong = axe(page, "colours" if {"color_scheme", "forced_colors"} & {*state} else "")
        if not page.evaluate("document.documentElement.scrollWidth <= innerWidth"):
            wrong.append("it scrolls sideways")
        if wrong:
            found[name] = wrong
    return found


def school_of_all_kinds(**changes: Any) -> School:
    """A site with a provider, a purpose and a measurement that needs no consent."""
    policy = make_policy([*(catalogue.load()[name] for name in ("google-analytics", "youtube")), exempt_counter()])
    return School(view=make_view(policy, **changes))


@pytest.mark.checklist("ACC-01", "ACC-03")
@pytest.mark.parametrize(("options", "states"), [({}, STATES), (ZOOM, {"400 % zoom": ZOOM})], ids=["screens", "zoom"])
@pytest.mark.parametrize("mode", ["private", "shared"])
def test_axe_finds_nothing_in_any_state_of_the_banner(
    visit: Callable[..., Page], options: Any, states: Any, mode: str
) -> None:
    page = visit(school_of_all_kinds(mode=mode), **options)

    for step in ("first layer", "second layer", "answered"):
        if step == "second layer":
            open_second_layer(page)
            page.locator("#consentkit input[type=checkbox]").first.check()
        elif step == "answered":
            page.get_by_role("button", name="Keuze opslaan").click()
            expect(page.get_by_role("status")).to_have_text("Je keuze is opgeslagen.")
        assert axe_in(page, states) == {}, step


@pytest.mark.checklist("ACC-01", "ACC-03")
@pytest.mark.parametrize(("options", "states"), [({}, STATES), (ZOOM, {"400 % zoom": ZOOM})], ids=["screens", "zoom"])
def test_axe_finds_nothing_on_the_pages(visit: Callable[..., Page], options: Any, states: Any) -> None:
    page = visit(school_of_all_kinds(), **options)
    page.get_by_role("button", name="Accepteren", exact=True).click()
    expect(page.locator("#consentkit")).to_have_count(0)

    for path in (
        "settings", "settings?saved=1&lang=en", "cookies", "cookies?lang=en", "message?reason=spent", "message",
    ):  # fmt: skip
        page.goto(f"/privacy/{path}")
        page.evaluate("document.querySelectorAll('details').forEach(one => one.open = true)")
        assert axe_in(page, states) == {}, path


@pytest.mark.checklist("ACC-01")
def test_without_javascript_the_banner_and_the_pages_are_named_dialogs_and_forms(visit: Callable[..., Page]) -> None:
    page = visit(java_script_enabled=False)

    expect(page.get_by_role("dialog", name="Mogen we cookies gebruiken?")).to_be_visible()
    dialog = page.locator("#consentkit")
    expect(dialog).to_have_accessible_description(
        "Stichting De Linde vraagt je toestemming voor het gebruik van cookies en vergelijkbare technieken. "
        "Hieronder staat waarvoor. Je kunt de site ook gebruiken als je weigert."
    )
    expect(page.locator("body > :first-child")).to_have_id("consentkit")
    open_second_layer(page)
    switch = page.get_by_role("switch", name="Bezoek meten")
    switch.check()
    page.get_by_role("button", name="Keuze opslaan").click()
    page.goto("/privacy/settings")
    expect(page.get_by_role("switch", name="Bezoek meten")).to_be_checked()
    page.get_by_role("button", name="Toestemming intrekken").click()
    expect(page.get_by_role("status")).to_have_text("Je keuze is opgeslagen.")
    expect(page.get_by_role("switch", name="Bezoek meten")).not_to_be_checked()


@pytest.mark.checklist("ACC-02")
def test_the_whole_journey_works_by_keyboard_with_the_focus_in_sight(visit: Callable[..., Page]) -> None:
    school = School()
    page = visit(school, **DESK)
    seen = []
    for _ in range(5):
        page.keyboard.press("Tab")
        seen.append(page.evaluate("document.activeElement.textContent.trim()"))
        assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    assert seen == ["Cookieverklaring", "Privacyverklaring", "Zelf kiezen", "Weigeren", "Accepteren"]

    page.keyboard.press("Shift+Tab")
    page.keyboard.press("Shift+Tab")
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    page.keyboard.press("Space")
    assert page.evaluate("document.activeElement.value") == "analytics"
    for _ in range(3):
        page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Keuze opslaan"
    page.keyboard.press("Enter")
    expect(page.locator("#consentkit")).to_have_count(0)
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Basisschool De Linde"
    assert ("purposes", "analytics") in school.posts[0]

    page.get_by_role("button", name="Toestemming intrekken").focus()
    page.keyboard.press("Enter")
    expect(page.get_by_role("button", name="Toestemming intrekken")).to_be_hidden()
    assert dict(school.posts[1])["decision"] == "withdraw"


@pytest.mark.checklist("ACC-01")
def test_focus_goes_back_to_where_it_was_before_the_banner(visit: Callable[..., Page]) -> None:
    page = visit()
    page.locator("#last").focus()

    page.get_by_role("button", name="Weigeren", exact=True).focus()
    page.keyboard.press("Enter")

    expect(page.locator("#last")).to_be_focused()


@pytest.mark.checklist("ACC-04")
@pytest.mark.parametrize("size", [PHONE, DESK], ids=["320x568", "1280x720"])
def test_every_control_is_a_large_target(visit: Callable[..., Page], size: dict[str, Any]) -> None:
    page = visit(**size)
    open_second_layer(page)
    for box in boxes(page, "#consentkit button, #consentkit summary, #consentkit label"):
        assert box["height"] >= 44
        assert box["width"] >= 44
    page.get_by_text("Zelf kiezen").click()
    assert all(box["height"] >= 24 for box in boxes(page, "#consentkit a"))

    page.get_by_role("button", name="Accepteren", exact=True).click()
    expect(page.locator("#consentkit")).to_have_count(0)
    for path in ("settings", "cookies", "message"):
        page.goto(f"/privacy/{path}")
        for box in boxes(page, "button:visible, summary:visible, label:visible, nav a:visible, .consentkit-button"):
            assert box["height"] >= 44, path


SPACING = """
* { line-height: 1.5 !important; letter-spacing: .12em !important; word-spacing: .16em !important }
p { margin-bottom: 2em !important }
"""


@pytest.mark.checklist("ACC-05")
@pytest.mark.parametrize(
    ("options", "css"),
    [
        (PHONE, ""),
        (ZOOM, ""),
        (PHONE, "html { font-size: 200% }"),
        (DESK, "html { font-size: 200% }"),
        (PHONE, SPACING),
        (DESK, SPACING),
    ],
    ids=["320 px", "400 % zoom", "200 % text, phone", "200 % text, desktop", "spacing, phone", "spacing, desktop"],
)
def test_nothing_is_lost_at_high_zoom_large_text_or_wide_spacing(
    visit: Callable[..., Page], options: dict[str, Any], css: str
) -> None:
    host = HOST_PAGE.replace("</head>", f"<style>{css}</style></head>")
    page = visit(School(pages={"/": host}), **options)

    for step in range(2):
        for name in ("Weigeren", "Accepteren"):
            button = page.get_by_role("button", name=name, exact=True)
            expect(button).to_be_in_viewport(ratio=0.99)
            button.click(trial=True)
        cut = page.evaluate(
            """() => [...document.querySelectorAll('#consentkit, #consentkit *')].filter(one =>
              one.clientWidth && one.scrollWidth > one.clientWidth + 1).map(one => one.outerHTML.slice(0, 90))"""
        )
        assert cut == []
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        if step == 0:
            for text in ("Je kunt je toestemming altijd", "Privacyverklaring", "Zelf kiezen"):
                target = page.locator("#consentkit").get_by_text(text)
                target.scroll_into_view_if_needed()
                expect(target).to_be_in_viewport()
            open_second_layer(page)
    save = page.get_by_role("button", name="Keuze opslaan")
    save.scroll_into_view_if_needed()
    save.click()
    expect(page.locator("#consentkit")).to_have_count(0)


@pytest.mark.checklist("ACC-06")
@pytest.mark.parametrize("script", [True, False], ids=["script", "no script"])
@pytest.mark.parametrize("size", [PHONE, DESK, ZOOM], ids=["phone", "desktop", "400 % zoom"])
def test_no_focused_element_of_the_page_is_hidden_behind_the_banner(
    visit: Callable[..., Page], size: dict[str, Any], script: bool
) -> None:
    page = visit(**size, java_script_enabled=script)
    page.locator("header a").focus()
    banner = page.locator("#consentkit").bounding_box()
    assert banner
    hidden = []
    for _ in range(26):
        focused = page.locator(":focus")
        box = focused.bounding_box()
        assert box
        if box["y"] + box["height"] > banner["y"] + 1:
            hidden.append((focused.text_content(), box))
        page.keyboard.press("Tab")

    assert hidden == []


@pytest.mark.checklist("ACC-06")
def test_the_end_of_the_page_can_be_scrolled_above_the_banner(visit: Callable[..., Page]) -> None:
    page = visit(**PHONE)
    page.evaluate("scrollTo(0, document.documentElement.scrollHeight)")
    last, banner = boxes(page, ".consentkit-foot a")[0], boxes(page, "#consentkit")[0]

    assert last["y"] + last["height"] <= banner["y"]


@pytest.mark.checklist("ACC-07")
def test_nothing_moves_nothing_times_out_and_results_are_status_messages(visit: Callable[..., Page]) -> None:
    page = visit(reduced_motion="reduce")
    page.clock.install()
    page.clock.fast_forward("10:00")
    expect(page.locator("#consentkit")).to_be_visible()
    assert page.evaluate("document.getAnimations().length") == 0

    page.clock.resume()
    page.get_by_role("button", name="Weigeren", exact=True).click()
    status = page.get_by_role("status")
    expect(status).to_have_text("Je keuze is opgeslagen.")
    page.clock.fast_forward("10:00")
    expect(status).to_be_visible()
    page.keyboard.press("Tab")
    expect(status).to_have_count(0)


def test_it_is_not_printed(visit: Callable[..., Page]) -> None:
    page = visit()

    page.emulate_media(media="print")

    expect(page.locator("#consentkit")).to_be_hidden()
    expect(page.locator(".consentkit-foot")).to_be_hidden()


# -- with other people's software -----------------------------------------------------------------------------------


DUCK = {
    "enabled": True,
    "autoAction": "optOut",
    "disabledCmps": [],
    "enablePrehide": False,
    "enableCosmeticRules": False,
    "enableGeneratedRules": False,
    "heuristicMode": "reject",
    "detectRetries": 20,
}


@pytest.mark.parametrize("lang", ["nl", "en"])
def test_duckduckgos_autoconsent_recognises_it_and_refuses_for_its_user(visit: Callable[..., Page], lang: str) -> None:
    for texts in ({}, {one: {"title": "?", "intro": "."} for one in ("nl", "en")}):
        school = School(view=make_view(texts=texts), pages={"/": HOST_PAGE.replace('lang="nl"', f'lang="{lang}"')})
        page = visit(school)
        page.evaluate(
            "() => { window.told = []; window.autoconsentSendMessage = async message => { told.push(message) } }"
        )
        page.evaluate(duckduckgo_autoconsent.bundle())
        page.evaluate("config => autoconsentReceiveMessage({type: 'initResp', rules: {autoconsent: []}, config})", DUCK)

        expect(page.locator("#consentkit")).to_have_count(0)
        until(page, "told.some(one => one.type == 'optOutResult' && one.result)")
        assert [dict(post)["decision"] for post in school.posts] == ["refuse"]
        assert page.evaluate("told.find(one => one.type == 'cmpDetected').cmp") == "HEURISTIC-REJECT"


def test_a_body_swap_keeps_the_open_question_and_only_one(visit: Callable[..., Page]) -> None:
    school = School()
    page = visit(school)

    page.evaluate("document.body.innerHTML = '<h1>Een andere pagina</h1>'")
    expect(page.locator("#consentkit")).to_have_count(1)
    expect(page.locator("body > :first-child")).to_have_id("consentkit")
    page.evaluate(
        """() => { const body = document.createElement('body'); body.innerHTML = '<h1>Nog een</h1>';
        document.body.replaceWith(body) }"""
    )
    expect(page.locator("#consentkit")).to_have_count(1)
    page.get_by_role("button", name="Weigeren", exact=True).click()
    expect(page.locator("#consentkit")).to_have_count(0)
    page.evaluate("document.body.innerHTML = '<h1>En weer</h1>'")
    expect(page.locator("#consentkit")).to_have_count(0)


def test_a_body_swap_of_a_shared_page_keeps_the_question_and_then_the_way_back_in_view(
    visit: Callable[..., Page],
) -> None:
    """What comes in is everybody's: there the banner and the button that withdraws are hidden until a script looks."""
    page = visit(School(view=make_view(mode="shared")))
    swap = """async () => { const text = await (await fetch('/')).text();
        document.body.replaceWith(new DOMParser().parseFromString(text, 'text/html').body) }"""

    page.evaluate(swap)
    expect(page.locator("#consentkit")).to_have_count(1)
    expect(page.locator("#consentkit")).to_be_visible()
    page.get_by_role("button", name="Accepteren", exact=True).click()
    expect(page.get_by_role("button", name="Toestemming intrekken")).to_be_visible()
    page.evaluate(swap)

    expect(page.get_by_role("button", name="Toestemming intrekken")).to_be_visible()
    expect(page.locator("#consentkit")).to_be_hidden()


def test_a_host_that_takes_over_all_forms_does_not_get_ours(visit: Callable[..., Page]) -> None:
    host = HOST_PAGE.replace(
        "</head>",
        "<script>addEventListener('submit', event => { window.taken = true; event.preventDefault() })</script></head>",
    )
    page = visit(School(pages={"/": host}))

    page.get_by_role("button", name="Accepteren", exact=True).click()

    expect(page.locator("#consentkit")).to_have_count(0)
    assert page.evaluate("window.taken") is None


def test_the_page_hears_of_it_by_three_events(visit: Callable[..., Page]) -> None:
    host = HOST_PAGE.replace(
        "</head>",
        """<script>window.heard = []; for (const name of ['open', 'close', 'choice'])
        document.addEventListener('consentkit:' + name, event => heard.push([name, event.detail?.granted ?? null]))
        </script></head>""",
    )
    page = visit(School(pages={"/": host}))
    page.get_by_role("button", name="Accepteren", exact=True).click()
    expect(page.locator("#consentkit")).to_have_count(0)

    everything = ["analytics", "google-maps", "youtube"]
    assert page.evaluate("heard") == [["open", None], ["choice", everything], ["close", None]]
    assert page.evaluate("Object.keys(window).filter(name => /consent/i.test(name))") == []


# -- when it goes wrong ---------------------------------------------------------------------------------------------


def test_a_refused_answer_is_told_in_the_banner(visit: Callable[..., Page]) -> None:
    page = visit(School(fail=(429, "too_many")))

    page.get_by_role("button", name="Accepteren", exact=True).click()

    expect(page.get_by_role("alert")).to_have_text(
        "Er komen te veel keuzes tegelijk binnen. Wacht een minuut en probeer het nog eens."
    )
    expect(page.locator("#consentkit")).to_be_visible()


def test_an_answer_to_an_old_question_leads_to_the_settings(visit: Callable[..., Page]) -> None:
    page = visit(School(fail=(409, "spent")))

    page.get_by_role("button", name="Accepteren", exact=True).click()

    page.wait_for_url("**/privacy/settings?lang=nl")


def test_without_a_connection_the_banner_says_so_and_the_form_goes_its_plain_way(visit: Callable[..., Page]) -> None:
    school = School()
    page = visit(school)
    tried: list[str] = []

    def cut(route: Route) -> None:
        tried.append(route.request.resource_type)
        route.abort("aborted")

    page.route("**/privacy/choice", cut)
    page.get_by_role("button", name="Accepteren", exact=True).click()
    expect(page.get_by_role("alert")).to_contain_text("Controleer je verbinding")
    page.wait_for_timeout(300)

    assert tried == ["fetch", "document"]
    page.unroute("**/privacy/choice")
    page.get_by_role("button", name="Accepteren", exact=True).click()
    expect(page.locator("#consentkit")).to_have_count(0)


def test_offline_the_visitor_stays_and_can_try_again(visit: Callable[..., Page]) -> None:
    page = visit(School())
    page.context.set_offline(True)
    page.get_by_role("button", name="Accepteren", exact=True).click()
    expect(page.get_by_role("alert")).to_contain_text("Controleer je verbinding")
    page.wait_for_timeout(300)
    expect(page.locator("#consentkit")).to_be_visible()

    page.context.set_offline(False)
    page.get_by_role("button", name="Accepteren", exact=True).click()

    expect(page.locator("#consentkit")).to_have_count(0)


@pytest.mark.parametrize("wake", ["here", "form"])
def test_where_fetch_is_not_allowed_the_plain_form_does_it(visit: Callable[..., Page], wake: str) -> None:
    school = School(headers={"Content-Security-Policy": "connect-src 'none'"}, wake=wake)
    page = visit(school)
    refused = []
    page.on("console", lambda message: refused.append(message.text) if "connect-src" in message.text else None)

    page.get_by_role("button", name="Weigeren", exact=True).click()

    expect(page.locator("#consentkit")).to_have_count(0)
    assert [dict(post)["decision"] for post in school.posts] == ["refuse"]
    assert choice_cookie(page)
    assert bool(refused) == (wake == "here")


# -- shared mode ----------------------------------------------------------------------------------------------------


@pytest.fixture
def shared() -> School:
    """A site whose pages are the same for everybody."""
    gated = (
        '<script type="text/plain" data-consentkit-needs="analytics" data-consentkit-src="/hit/a.js"></script>'
        '<script type="text/plain" data-consentkit-needs="matomo" data-consentkit-src="/hit/m.js"></script>'
    )
    host = HOST_PAGE.replace("</h1>", "</h1>" + gated)
    return replace(school_of_all_kinds(mode="shared"), pages={"/": host, "/lees/1": host})


def test_shared_pages_ask_wake_and_remember_by_the_cookie(visit: Callable[..., Page], shared: School) -> None:
    page = visit(shared)
    expect(page.locator("#consentkit")).to_be_visible()
    until(page, "window.ran?.length == 1")
    assert shared.hits == ["m.js"]

    open_second_layer(page)
    page.locator("input[value=analytics]").check()
    page.get_by_role("button", name="Keuze opslaan").click()
    until(page, "window.ran?.includes('a.js')")
    expect(page.locator("#consentkit")).to_have_count(0)
    page.goto("/lees/1")
    until(page, "window.ran?.length == 2")
    expect(page.locator("#consentkit")).to_be_hidden()

    page.get_by_role("button", name="Toestemming intrekken").click()
    expect(page.get_by_role("button", name="Toestemming intrekken")).to_be_hidden()
    page.wait_for_timeout(300)
    assert page.evaluate("window.ran ?? []") == []
    expect(page.locator("#consentkit")).to_be_hidden()


def test_shared_pages_take_the_browsers_signal_for_a_refusal(visit: Callable[..., Page], shared: School) -> None:
    page = visit(shared)
    page.add_init_script("Object.defineProperty(Navigator.prototype, 'globalPrivacyControl', {get: () => true})")
    page.goto("/lees/1")
    page.wait_for_timeout(300)

    expect(page.locator("#consentkit")).to_be_hidden()
    assert page.evaluate("window.ran ?? []") == []


def test_shared_pages_take_a_broken_cookie_for_none(visit: Callable[..., Page], shared: School) -> None:
    page = visit(shared)
    for value in ("", "x", "AQ", "AQEJ9gE.abc", "%%%.x", "A" * 2000):
        page.context.add_cookies([{"name": "consentkit", "value": value, "url": page.url}])
        page.goto("/")

        expect(page.locator("#consentkit"), value).to_be_visible()


def test_shared_pages_ask_again_when_a_purpose_changed_and_keep_what_did_not(
    visit: Callable[..., Page], serve: Callable[..., str], shared: School
) -> None:
    page = visit(shared)
    page.get_by_role("button", name="Accepteren", exact=True).click()
    expect(page.locator("#consentkit")).to_have_count(0)
    known = catalogue.load()
    moved = replace(known["youtube"], provider="Iemand anders")
    later = School(view=make_view(make_policy([known["google-analytics"], moved]), mode="shared"), pages=shared.pages)
    page.goto(serve(later.app))

    expect(page.locator("#consentkit")).to_be_visible()
    until(page, "window.ran?.includes('a.js')")


def test_shared_pages_without_javascript_lead_to_the_settings(visit: Callable[..., Page], shared: School) -> None:
    page = visit(shared, java_script_enabled=False)
    expect(page.locator("#consentkit")).to_be_visible()

    page.get_by_role("button", name="Accepteren", exact=True).click()

    page.wait_for_url("**/privacy/settings?**")
    assert shared.posts == []
