"""Pages that are annotated for another consent tool: how such tags leave with consent, and how without."""

# ruff: noqa: E501 - markup reads best in one line
from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consentkit import catalogue
from consentkit.gate.dialects import DIALECTS, Dialects, Mark
from consentkit.gate.scanner import attributes, name_of
from tests.gate.samples import DENIED, EVERYTHING, SERVICES, gate, nothing

CATEGORIES = ("necessary", "preferences", "analytics", "marketing")
TITLES = {one.id: one.title for one in SERVICES}
JS = "https://code.example/a.js"
VIDEO = "https://film.example/v"


def dialects(**settings: Any) -> Dialects:
    named = {name.replace("_", "-"): value for name, value in settings.items()}
    return Dialects(named, categories=CATEGORIES, services=TITLES)


def read(tag: str, **settings: Any) -> Mark | None:
    first: dict[str, str] = {}
    for item in attributes(tag.encode()):
        first.setdefault(item.name, item.value)
    return dialects(**settings).read(name_of(tag.encode()), first)


def leaves(markup: str, granted: frozenset[str], *, remove_old_tool: bool = False, **settings: Any) -> str:
    made = gate(dialects=dialects(**settings), remove_old_tool=remove_old_tool)
    return made.rewrite(markup.encode(), granted, nothing, document=False).decode()


def held(needs: str, rest: str) -> str:
    return f'<script type="text/plain" data-consentkit-needs="{needs}"{rest}'


# The markup of each tool's own documentation: as it stands, as it runs, as it is held back.
TAGS = {
    "cookiebot, several: all are needed": (
        f'<script type="text/plain" data-cookieconsent="statistics, marketing" async nonce=n0 integrity="sha256-x" src="{JS}"></script>',
        f'<script data-cookieconsent="statistics, marketing" async nonce=n0 integrity="sha256-x" src="{JS}"></script>',
        held("analytics marketing", f' data-cookieconsent="statistics, marketing" async nonce=n0 integrity="sha256-x" data-consentkit-src="{JS}"></script>'),
    ),
    "cookiebot, live": (
        f'<script data-cookieconsent="preferences" src="{JS}"></script>',
        f'<script data-cookieconsent="preferences" src="{JS}"></script>',
        held("preferences", f' data-cookieconsent="preferences" data-consentkit-src="{JS}"></script>'),
    ),
    "cookiebot, inline": (
        '<script type="text/plain" data-cookieconsent="statistics">count()</script>',
        '<script data-cookieconsent="statistics">count()</script>',
        held("analytics", ' data-cookieconsent="statistics">count()</script>'),
    ),
    "cookiebot, image": (
        '<img data-cookieconsent="marketing" data-cookieblock-src="https://film.example/p.gif" alt="">',
        '<img data-cookieconsent="marketing" src="https://film.example/p.gif" alt="">',
        '<img data-consentkit-needs="marketing" data-cookieconsent="marketing" data-consentkit-src="https://film.example/p.gif" alt="">',
    ),
    "cookiebot, the older name, over an empty one": (
        f'<embed src="about:blank" data-cookieconsent="marketing" data-src="{VIDEO}">',
        f'<embed data-cookieconsent="marketing" src="{VIDEO}">',
        f'<embed data-consentkit-needs="marketing" data-cookieconsent="marketing" data-consentkit-src="{VIDEO}">',
    ),
    "cookiebot, necessary": (
        f'<script type="text/plain" data-cookieconsent="necessary" src="{JS}"></script>',
        f'<script data-cookieconsent="necessary" src="{JS}"></script>',
        f'<script data-cookieconsent="necessary" src="{JS}"></script>',
    ),
    "vanilla-cookieconsent 3, a module": (
        f'<script type="text/plain" data-category="analytics" data-service="Counter of ours" data-type="module" src="{JS}"></script>',
        f'<script data-category="analytics" data-service="Counter of ours" type="module" src="{JS}"></script>',
        held("analytics", f' data-category="analytics" data-service="Counter of ours" data-consentkit-type="module" data-consentkit-src="{JS}"></script>'),
    ),
    "vanilla-cookieconsent 3, parked address and service": (
        f'<script type="text/plain" data-category="ads" data-service="Hotjar" data-src="{JS}"></script>',
        f'<script data-category="ads" data-service="Hotjar" src="{JS}"></script>',
        held("analytics marketing", f' data-category="ads" data-service="Hotjar" data-consentkit-src="{JS}"></script>'),
    ),
    "vanilla-cookieconsent 2": (
        f'<script defer type="text/plain" data-cookiecategory="targeting" src="{JS}" crossorigin="anonymous"></script>',
        f'<script defer data-cookiecategory="targeting" src="{JS}" crossorigin="anonymous"></script>',
        held("marketing", f' defer data-cookiecategory="targeting" data-consentkit-src="{JS}" crossorigin="anonymous"></script>'),
    ),
    "klaro, script": (
        f'<script type="text/plain" data-type="application/javascript" data-name="hotjar" data-src="{JS}"></script>',
        f'<script type="application/javascript" data-name="hotjar" src="{JS}"></script>',
        held("analytics", f' data-consentkit-type="application/javascript" data-name="hotjar" data-consentkit-src="{JS}"></script>'),
    ),
    "klaro, stylesheet": (
        '<link rel="stylesheet" data-name="googleFonts" data-href="https://letters.example/css">',
        '<link rel="stylesheet" data-name="googleFonts" href="https://letters.example/css">',
        '<link data-consentkit-needs="preferences" data-consentkit-rel="stylesheet" data-name="googleFonts" data-consentkit-href="https://letters.example/css">',
    ),
    "complianz, statistics": (
        f'<script type="text/plain" data-service="google-analytics" data-category="statistics" data-cmplz-src="{JS}" data-waitfor="gtag"></script>',
        f'<script data-service="google-analytics" data-category="statistics" src="{JS}" data-waitfor="gtag"></script>',
        held("analytics", f' data-service="google-analytics" data-category="statistics" data-consentkit-src="{JS}" data-waitfor="gtag"></script>'),
    ),
    "complianz, a module of no service": (
        f'<script type="text/plain" data-script-type="module" data-service="general" data-category="marketing" src="{JS}"></script>',
        f'<script type="module" data-service="general" data-category="marketing" src="{JS}"></script>',
        held("marketing", f' data-consentkit-type="module" data-service="general" data-category="marketing" data-consentkit-src="{JS}"></script>'),
    ),
    "complianz, functional is necessary": (
        f'<script type="text/plain" class="cmplz-script" data-category="functional" src="{JS}"></script>',
        f'<script class="cmplz-script" data-category="functional" src="{JS}"></script>',
        f'<script class="cmplz-script" data-category="functional" src="{JS}"></script>',
    ),
    "complianz, image over its placeholder": (
        '<img class="cmplz-image" data-category="marketing" src="/wp/placeholder.jpg" data-src-cmplz="https://film.example/p.jpg">',
        '<img class="cmplz-image" data-category="marketing" src="https://film.example/p.jpg">',
        '<img data-consentkit-needs="marketing" class="cmplz-image" data-category="marketing" data-consentkit-src="https://film.example/p.jpg">',
    ),
    "cookieyes, parked": (
        f'<script type="text/plain" data-cookieyes="cookieyes-analytics" src="{JS}"></script>',
        f'<script data-cookieyes="cookieyes-analytics" src="{JS}"></script>',
        held("analytics", f' data-cookieyes="cookieyes-analytics" data-consentkit-src="{JS}"></script>'),
    ),
    "cookieyes, live: functional is optional": (
        f"<script data-cookieyes=cookieyes-functional src={JS}></script>",
        f"<script data-cookieyes=cookieyes-functional src={JS}></script>",
        held("preferences", f" data-cookieyes=cookieyes-functional data-consentkit-src={JS}></script>"),
    ),
    "cookieyes, as its script blocks it": (
        f'<script type="javascript/blocked" data-cookieyes="cookieyes-advertisement" src="{JS}"></script>',
        f'<script data-cookieyes="cookieyes-advertisement" src="{JS}"></script>',
        held("marketing", f' data-cookieyes="cookieyes-advertisement" data-consentkit-src="{JS}"></script>'),
    ),
    "onetrust, several": (
        f'<script type="text/plain" class="optanon-category-C0002-C0004" src="{JS}"></script>',
        f'<script class="optanon-category-C0002-C0004" src="{JS}"></script>',
        held("analytics marketing", f' class="optanon-category-C0002-C0004" data-consentkit-src="{JS}"></script>'),
    ),
    "onetrust, as its script blocks it": (
        f'<script type="text/plain" class="own ot-vscat-C0003" src="{JS}"></script>',
        f'<script class="own ot-vscat-C0003" src="{JS}"></script>',
        held("preferences", f' class="own ot-vscat-C0003" data-consentkit-src="{JS}"></script>'),
    ),
    "usercentrics": (
        f'<script type="text/plain" data-usercentrics="Google Analytics" src="{JS}"></script>',
        f'<script data-usercentrics="Google Analytics" src="{JS}"></script>',
        held("analytics", f' data-usercentrics="Google Analytics" data-consentkit-src="{JS}"></script>'),
    ),
    "iubenda, external": (
        f'<script async class="_iub_cs_activate" type="text/plain" data-iub-purposes="4,5" data-suppressedsrc="{JS}"></script>',
        f'<script async class="_iub_cs_activate" data-iub-purposes="4,5" src="{JS}"></script>',
        held("analytics marketing", f' async class="_iub_cs_activate" data-iub-purposes="4,5" data-consentkit-src="{JS}"></script>'),
    ),
    "iubenda, inline, without a purpose": (
        '<script type="text/plain" class="_iub_cs_activate-inline">count()</script>',
        '<script class="_iub_cs_activate-inline">count()</script>',
        held("marketing", ' class="_iub_cs_activate-inline">count()</script>'),
    ),
    "iubenda, the old name": (
        '<script class="_iub_cs_activate" type="text/plain" suppressedsrc="/FBLibrerie.js"></script>',
        '<script class="_iub_cs_activate" src="/FBLibrerie.js"></script>',
        held("marketing", ' class="_iub_cs_activate" data-consentkit-src="/FBLibrerie.js"></script>'),
    ),
    "cookie-script": (
        f'<script type="text/plain" data-cookiescript="accepted" data-cookiecategory="performance" src="{JS}"></script>',
        f'<script data-cookiescript="accepted" data-cookiecategory="performance" src="{JS}"></script>',
        held("analytics", f' data-cookiescript="accepted" data-cookiecategory="performance" data-consentkit-src="{JS}"></script>'),
    ),
    "cookie-script, without a category": (
        f'<script type="text/plain" data-cookiescript="accepted" src="{JS}"></script>',
        f'<script data-cookiescript="accepted" src="{JS}"></script>',
        held("marketing", f' data-cookiescript="accepted" data-consentkit-src="{JS}"></script>'),
    ),
    "c15t": (
        f'<script type="text/plain" data-c15t-category="measurement" src="{JS}"></script>',
        f'<script data-c15t-category="measurement" src="{JS}"></script>',
        held("analytics", f' data-c15t-category="measurement" data-consentkit-src="{JS}"></script>'),
    ),
    "badly written": (
        f"<SCRIPT\n\tTYPE = 'Text/Plain'data-cookieconsent=marketing/ src={JS} TYPE=module></SCRIPT>",
        f"<SCRIPT data-cookieconsent=marketing/ src={JS}></SCRIPT>",
        f'<SCRIPT type="text/plain" data-consentkit-needs="-" data-cookieconsent=marketing/ data-consentkit-src={JS}></SCRIPT>',
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", TAGS)
def test_with_consent_a_parked_tag_runs_and_all_else_of_it_keeps_its_bytes(case: str) -> None:
    markup, runs, held_back = TAGS[case]

    assert leaves(markup, EVERYTHING) == (held_back if '"-"' in held_back else runs)


@pytest.mark.parametrize("case", TAGS)
def test_without_consent_an_annotated_tag_is_held_back_parked_or_not(case: str) -> None:
    markup, _, held_back = TAGS[case]

    assert leaves(markup, DENIED) == held_back


@pytest.mark.parametrize(
    ("attributes", "needs"),
    [
        (f'data-cookieconsent="marketing" data-cookieblock-src="{VIDEO}"', "marketing"),
        (f'data-category="marketing" data-src="{VIDEO}"', "marketing"),
        (f'data-category="experience" data-src="{VIDEO}"', "preferences"),
        (f'data-name="youtube" data-src="{VIDEO}"', "youtube"),
        (f'data-cmplz-target="src" data-service="youtube" data-category="marketing" data-src-cmplz="{VIDEO}" src="about:blank"', "youtube"),
        (f'class="cmplz-iframe" src="/wp/film.mp4" data-src-cmplz="{VIDEO}"', "marketing"),
        (f'data-cookieyes="cookieyes-advertisement" data-src="{VIDEO}"', "marketing"),
        (f'class="optanon-category-C0005" data-src="{VIDEO}"', "marketing"),
        (f'data-usercentrics="YouTube" data-src="{VIDEO}"', "youtube"),
        (f'class="_iub_cs_activate_iframe" data-iub-purposes="3" src="//cdn.iubenda.com/cookie_solution/empty.html" data-suppressedsrc="{VIDEO}"', "preferences"),
        (f'data-cookiescript="accepted" data-cookiecategory="targeting" data-src="{VIDEO}"', "marketing"),
    ],
)  # fmt: skip
def test_a_parked_frame_opens_with_consent_and_shows_its_placeholder_without(attributes: str, needs: str) -> None:
    markup = f'<iframe width="560" {attributes} allowfullscreen></iframe>'

    opened, shut = leaves(markup, EVERYTHING), leaves(markup, DENIED)

    assert f' src="{VIDEO}"' in opened
    assert opened.count(" src=") == 1
    assert shut.startswith(f'<iframe data-consentkit-needs="{needs}" srcdoc="')
    assert f' data-consentkit-src="{VIDEO}"' in shut
    assert " src=" not in shut


@pytest.mark.parametrize(
    "markup",
    [
        f'<script type="text/plain" data-cookieconsent="gezellig" src="{JS}"></script>',
        f'<script type="text/plain" data-category="!analytics" src="{JS}"></script>',
        f'<script type="text/plain" data-category="iets" src="{JS}"></script>',
        f'<script type="text/plain" data-name="mystery" data-src="{JS}"></script>',
        f'<script type="text/plain" data-usercentrics="Mystery" src="{JS}"></script>',
        f'<iframe uc-src="{VIDEO}"></iframe>',
        f'<script type="text/plain" class="optanon-category-C0002-BG17" src="{JS}"></script>',
        """<script type="text/plain" data-c15t-category='{"not":"marketing"}' src="/x.js"></script>""",
        f'<script data-cookieconsent="" src="{JS}"></script>',
    ],
)
def test_a_word_that_means_nothing_here_is_granted_to_nobody(markup: str) -> None:
    assert 'data-consentkit-needs="' in leaves(markup, EVERYTHING)
    assert " src=" not in leaves(markup, EVERYTHING)


@pytest.mark.parametrize(
    "mark", ['data-cookieconsent="ignore"', "data-ot-ignore", 'class="cmplz-native" data-category="functional"']
)
def test_a_mark_to_ignore_a_tag_adds_nothing_and_opens_no_known_tracker(mark: str) -> None:
    own, tracker = (
        f'<script {mark} src="/own.js"></script>',
        f'<script {mark} src="https://www.google-analytics.com/a"></script>',
    )

    assert leaves(own, DENIED) == own
    assert leaves(tracker, DENIED).startswith(held("analytics", " "))


@pytest.mark.parametrize(
    ("tag", "dialect", "words"),
    [
        ('<script data-category="functional" type="text/plain">', "vanilla-cookieconsent", ("preferences",)),
        ('<script data-category="functional" data-cmplz-src="x">', "complianz", ("necessary",)),
        ('<iframe data-category="functional" data-src="x">', "vanilla-cookieconsent", ("preferences",)),
        ('<iframe data-category="functionality" data-vendor="x" data-src="x">', "c15t", ("preferences",)),
        ('<script data-category="statistics" data-service="general">', "vanilla-cookieconsent", ("analytics",)),
        (
            '<script data-cookiecategory="functionality" data-cookiescript="accepted">',
            "cookie-script",
            ("preferences",),
        ),
    ],
)
def test_a_shared_attribute_is_read_in_the_dialect_that_the_others_show(
    tag: str, dialect: str, words: tuple[str, ...]
) -> None:
    mark = read(tag)

    assert mark is not None
    assert (mark.dialect, mark.words) == (dialect, words)


def test_a_site_that_names_the_tool_it_came_from_settles_what_a_shared_word_means() -> None:
    tag = '<script type="text/plain" data-category="functional" data-service="general">'

    assert read(tag, complianz=True) == Mark("complianz", ("necessary",), (), False, True)
    assert read(tag, complianz=False) == Mark("vanilla-cookieconsent", ("preferences",), (), False, True)


@pytest.mark.parametrize(
    "tag",
    [
        '<img src="https://shop.example/shoe.jpg" data-category="shoes" data-name="Shoe">',
        '<img class="lazy" data-src="/shoe.jpg" data-name="Shoe" data-category="marketing">',
        '<script data-category="tabs" src="/tabs.js">',
        '<iframe data-category="films" data-src="/film">',
        '<div class="cmplz-cookiebanner" data-category="marketing" data-service="youtube">',
        '<script type="application/json" data-name="state">',
        '<script src="/app.js" data-name="app">',
    ],
)
def test_an_attribute_of_the_page_s_own_is_no_mark(tag: str) -> None:
    markup = tag + ("</script>" if "<script" in tag else "")

    assert leaves(markup, DENIED) == markup


def test_the_site_s_own_words_come_first() -> None:
    own = {"klaro": {"Film van de school": "youtube", "teller": "analytics"}, "onetrust": {"BG17": "marketing"}}

    made = Dialects(own, categories=(*CATEGORIES, "chat"), services=TITLES)

    assert made.meaning("klaro", "film_van-de school") == "youtube"
    assert made.meaning("klaro", "teller") == "analytics"
    assert made.meaning("klaro", "chat") == "chat"
    assert made.meaning("onetrust", "bg17") == "marketing"
    assert made.meaning("vanilla-cookieconsent", "chat") == "chat"
    assert made.meaning("usercentrics", "teller") is None
    assert made.meaning("klaro", "necessary") is None


@pytest.mark.parametrize(
    ("name", "id"),
    [
        ("Google Analytics", "google-analytics"),
        ("GA4", "google-analytics"),
        ("facebook-pixel", "meta-pixel"),
        ("Google Tag Manager", "google-tag-manager"),
        ("YouTube Video", "youtube"),
        ("LinkedIn Insight Tag", "linkedin-insight"),
        ("OpenStreetMap", "openstreetmap"),
        ("Microsoft Clarity", "microsoft-clarity"),
    ],
)
def test_services_are_found_by_the_names_that_other_tools_give_them(name: str, id: str) -> None:
    services = {one.id: one.title for one in catalogue.load().values()}

    assert Dialects({}, categories=CATEGORIES, services=services).meaning("usercentrics", name) == id


def test_what_a_switched_off_dialect_parked_stays_as_it_is_and_is_named() -> None:
    parked = f'<script type="text/plain" data-cookieconsent="marketing" src="{JS}"></script>'
    live = f'<script data-cookieconsent="marketing" src="{JS}"></script>'
    made = dialects(cookiebot=False, complianz=False)

    assert leaves(parked, EVERYTHING, cookiebot=False) == leaves(parked, DENIED, cookiebot=False) == parked
    assert leaves(live, DENIED, cookiebot=False) == live
    assert made.off("script", {"type": "text/plain", "data-cookieconsent": "marketing", "src": JS}) == "cookiebot"
    assert made.off("iframe", {"class": "cmplz-iframe", "data-src-cmplz": VIDEO}) == "complianz"
    assert made.off("script", {"data-cookieconsent": "marketing", "src": JS}) is None
    assert made.off("script", {"type": "text/plain"}) is None
    assert dialects().off("script", {"type": "text/plain", "data-cookieconsent": "marketing"}) is None


LOADING = [
    '<script id="Cookiebot" src="https://consent.cookiebot.com/uc.js" data-cbid="x" data-blockingmode="auto"></script>',
    '<script src="/proxy/uc.js" id="Cookiebot" data-cbid="x"></script>',
    '<script src="https://cdn.cookielaw.org/scripttemplates/otSDKStub.js" data-domain-script="x"></script>',
    '<script src="/otSDKStub.js" data-domain-script="x"></script>',
    '<script id="cookieyes" src="https://cdn-cookieyes.com/client_data/x/script.js"></script>',
    '<script src="//cdn.iubenda.com/cs/iubenda_cs.js" charset="UTF-8" async></script>',
    '<script id="usercentrics-cmp" src="https://web.cmp.usercentrics.eu/ui/loader.js" data-settings-id="x" async></script>',
    '<script src="//eu.cookie-script.com/s/x.js"></script>',
    '<script defer src="https://cdn.kiprotect.com/klaro/v0.7/klaro.js"></script>',
    '<script src="/assets/klaro-no-css.min.js"></script>',
    '<script defer id="cmplz-cookiebanner-js" src="/wp-content/plugins/complianz-gdpr/cookiebanner/js/complianz.min.js"></script>',
    '<link rel="stylesheet" href="https://cdn.jsdelivr.net/gh/orestbida/cookieconsent@3.0.1/dist/cookieconsent.css">',
]


@pytest.mark.parametrize("markup", LOADING)
def test_the_old_tool_s_own_script_stays_out_for_everybody_where_the_site_says_so(markup: str) -> None:
    assert 'data-consentkit-needs="' in leaves(markup, EVERYTHING, remove_old_tool=True)
    assert (
        "-"
        in leaves(markup, EVERYTHING, remove_old_tool=True).split('data-consentkit-needs="')[1].split('"')[0].split()
    )
    assert 'data-consentkit-needs="-' not in leaves(markup, EVERYTHING)


def test_scripts_of_the_site_are_no_old_tool() -> None:
    markup = '<script src="/js/loader.js"></script><script id="app" src="/uc.js"></script><link rel=stylesheet href="/klaro.html.css">'

    assert leaves(markup, DENIED, remove_old_tool=True) == markup


def test_every_word_of_every_dialect_means_a_category_that_sites_have() -> None:
    from consentkit.gate.dialects import _WORDS

    assert set(_WORDS) == set(DIALECTS)
    assert {meant for words in _WORDS.values() for meant in words.values()} <= set(CATEGORIES)


NAMES = [
    "type",
    "src",
    "data-src",
    "data-type",
    "data-cookieconsent",
    "data-cookieblock-src",
    "async",
    "data-src-cmplz",
    "href",
]
VALUES = ["", "text/plain", "module", "about:blank", "https://code.example/a.js", "marketing", "a b"]
PARTS = st.lists(
    st.tuples(st.sampled_from(NAMES), st.sampled_from(VALUES), st.sampled_from(['"', "'", "none"]), st.sampled_from([" ", "\n", "/", ""])),
    max_size=7,
)  # fmt: skip


@given(PARTS, st.sampled_from(["script", "iframe", "img", "link"]))
def test_an_opened_tag_has_the_attributes_of_the_parked_one_under_their_real_names(parts: Any, name: str) -> None:
    tag = "<" + name
    for key, value, quote, space in parts:
        written = key if quote == "none" else f"{key}={quote}{value}{quote}"
        tag += (space or " " if quote == "none" or tag[-1] not in "\"'" else space) + written
    raw = (tag + ' data-cookieconsent="marketing">').encode()
    every = attributes(raw)
    before: dict[str, str] = {}
    for item in every:
        before.setdefault(item.name, item.value)
    mark = dialects().read(name, before)
    assert mark is not None

    after: dict[str, str] = {}
    for item in attributes(dialects().open(raw, name, every, mark)):
        after.setdefault(item.name, item.value)

    moved = {"type", "src", "href", "data-src", "data-cookieblock-src", "data-src-cmplz", "data-type"}
    assert {key: value for key, value in after.items() if key not in moved} == {
        key: value for key, value in before.items() if key not in moved
    }
    if "data-cookieblock-src" in before:
        assert after["src"] == before["data-cookieblock-src"]
    if name == "script" and before.get("type") == "text/plain":
        assert after.get("type") in (None, "module")
    again = dialects().read(name, after)
    assert again is not None
    assert again[:4] == mark[:4]


@pytest.mark.parametrize(
    "attributes",
    [
        'class="optanon-category-C0004" data-ot-ignore',
        'data-cookieconsent="ignore" data-category="marketing"',
        'data-cookieconsent="ignore" data-name="iets"',
        'data-cookieconsent="ignore"',
    ],
)
def test_what_another_tool_was_told_to_ignore_is_not_started_by_us(attributes: str) -> None:
    tag = f'<script type="text/plain" {attributes} src="/own.js"></script>'

    assert leaves(tag, EVERYTHING) == tag
    assert leaves(tag, DENIED) in (
        tag,
        held("marketing", tag[len('<script type="text/plain"') :].replace(" src", " data-consentkit-src")),
    )


def test_live_code_that_is_functional_is_necessary_as_the_one_tool_that_says_so_means_it() -> None:
    tag = '<script data-category="functional" src="/js/menu.js"></script>'

    assert leaves(tag, DENIED) == tag


@pytest.mark.parametrize(
    "mark",
    [
        'uc-src="{}"',
        'data-cookieblock-src="{}"',
        'class="_iub_cs_activate" data-iub-purposes="3" data-suppressedsrc="{}"',
    ],
)
def test_an_embed_is_a_choice_of_its_own_whatever_category_another_tool_had_it_in(mark: str) -> None:
    frame = f"<iframe {mark.format('https://www.youtube.com/embed/x')}></iframe>"

    out = leaves(frame, frozenset({"youtube"}))

    assert 'src="https://www.youtube.com/embed/x"' in out
    assert "data-consentkit" not in out
    assert 'data-consentkit-needs="youtube"' in leaves(frame, DENIED)
