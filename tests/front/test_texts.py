"""Words and markup without a browser: complete languages, what the first layer says, the statement, the notice."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from datetime import date
from html.parser import HTMLParser

import pytest

from consentkit import catalogue, render
from consentkit.choice import Choices, State, Status
from consentkit.choice.wording import PHRASES, vague
from consentkit.render import Renderer, load_texts
from consentkit.service import Duration, Service, Transfer
from consentkit.tokens import Tokens
from tests.front.harness import TODAY, exempt_counter, make_policy, make_view

REASONS = (
    *("missing_notice", "forged_notice", "expired_notice", "spent", "stale_notice", "cross_site", "foreign_next"),
    *("unknown_purpose", "unknown_decision", "too_large", "wrong_type", "too_many", "unavailable", "not_found"),
    "method",
)
UNKNOWN = State(Status.UNKNOWN, frozenset(), asks=True)
BLOCKED = (
    *("cookie-banner", "cookie-consent", "cookieconsent", "cookie-notice", "consent-banner", "consent-bar"),
    *("gdpr-banner", "privacy-notice", "privacy-banner"),
)


class Tags(HTMLParser):
    """The start tags of a document, and the text of every table cell."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.cells: list[str] = []
        self._in_cell = False
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag in ("td", "th"):
            self._in_cell = True
            self.cells.append("")

    def handle_endtag(self, tag: str) -> None:
        self._in_cell = self._in_cell and tag not in ("td", "th")

    def handle_data(self, data: str) -> None:
        if self._in_cell:
            self.cells[-1] += data

    def named(self, name: str) -> list[dict[str, str | None]]:
        return [attrs for tag, attrs in self.tags if tag == name]


def everything(renderer: Renderer, lang: str) -> dict[str, str]:
    """All that is rendered in a language."""
    youtube = catalogue.load()["youtube"]
    return {
        "head": renderer.head(),
        "banner": renderer.banner(lang),
        "footer": renderer.footer(lang, granted=True, own_settings=False, signal="gpc"),
        "placeholder": renderer.placeholder(lang, youtube, True),
        "closed": renderer.placeholder(lang, youtube, False),
        "settings": renderer.page("settings", lang, state=UNKNOWN, token="t", next="/").decode(),
        "cookies": renderer.page("cookies", lang, since=TODAY).decode(),
        "message": renderer.page("message", lang, reason="spent").decode(),
    }


def test_dutch_and_english_are_shipped_and_hold_the_same_texts_with_the_same_places() -> None:
    assert render.languages() == ("en", "nl")
    assert load_texts("nl").name == "Nederlands"


def test_a_language_that_misses_a_text_is_named_with_the_key() -> None:
    problems = render.parity({"nl": {"a": "x", "b": "{who}"}, "de": {"b": "{wer}"}})

    assert problems == ["texts/de.toml has no `a`", "`b` has other places to fill in de and nl"]


def test_durations_days_and_countries_are_told_in_words() -> None:
    nl, en = load_texts("nl"), load_texts("en")

    assert nl.duration(Duration.parse("13 months")) == "13 maanden"
    assert nl.duration(Duration.parse("1 year")) == "1 jaar"
    assert nl.duration(Duration.parse("session")) == "Tot je de browser sluit"
    assert en.duration(Duration.parse("1 day")) == "1 day"
    assert nl.date(date(2026, 11, 22)) == "22 november 2026"
    assert en.date(date(2027, 3, 1)) == "1 March 2027"
    assert nl.country("IE") == "Ierland"


def test_every_country_and_transfer_a_service_can_name_has_words() -> None:
    for lang in render.languages():
        texts = load_texts(lang)
        assert all(texts.has(f"countries.{code}") for code in catalogue.COUNTRIES)
        assert all(texts.has(f"transfer.{basis}") for basis in Transfer)


@pytest.mark.parametrize("lang", ["nl", "en"])
def test_every_reason_to_refuse_a_choice_has_a_sentence_of_its_own(lang: str) -> None:
    sentences = {load_texts(lang).error(reason) for reason in REASONS}

    assert len(sentences) == len(REASONS)


@pytest.mark.checklist("BAN-12")
def test_a_page_in_dutch_has_no_english_text_of_ours_and_the_reverse() -> None:
    policy = make_policy([catalogue.load()[name] for name in ("google-analytics", "youtube")] + [exempt_counter()])
    renderer = Renderer(make_view(policy))
    for lang, other in (("nl", "en"), ("en", "nl")):
        own, foreign = load_texts(lang)._entries, load_texts(other)._entries
        suspects = [
            text
            for key, text in foreign.items()
            if text != own[key] and "{" not in text and len(text) > 14 and text not in own.values()
        ]
        for name, html in everything(renderer, lang).items():
            for text in suspects:
                assert text not in html, (name, lang, text)


@pytest.mark.checklist("BAN-12")
def test_the_language_follows_the_page_and_falls_back_for_the_whole_banner() -> None:
    half = replace(exempt_counter(), id="half", exempt=None, purpose={"nl": "Telt bezoeken"})
    whole, broken = Renderer(make_view()), Renderer(make_view(make_policy([half])))

    assert [whole.language(lang) for lang in ("en-GB", "nl-be", "fr", "", None)] == ["en", "nl", "nl", "nl", "nl"]
    assert broken.language("en") == "nl"
    assert broken.banner("en") == broken.banner("nl")
    assert 'lang="nl"' in broken.banner("en")


@pytest.mark.parametrize("mode", ["private", "shared"])
def test_what_goes_into_other_peoples_pages_is_ascii_without_inline_style_or_script(mode: str) -> None:
    renderer = Renderer(make_view(mode=mode))
    for lang in ("nl", "en"):
        for name, html in everything(renderer, lang).items():
            assert " style=" not in html, name
            assert "<style" not in html, name
            assert not re.search(r"\son\w+=|<script(?![^>]* src=)|javascript:", html), name
            if name in ("head", "banner", "footer", "placeholder", "closed"):
                assert html.isascii(), name
                assert "\n" not in html, name


def test_there_is_one_section_with_the_agreed_names_and_none_that_blockers_hide() -> None:
    renderer = Renderer(make_view())
    html = everything(renderer, "nl")
    banner = Tags(html["banner"])
    section = banner.named("section")

    assert len(section) == 1
    assert section[0]["id"] == "consentkit"
    assert section[0]["role"] == "dialog"
    ids = {attrs.get("id") for _, attrs in banner.tags}
    assert {section[0]["aria-labelledby"], section[0]["aria-describedby"]} <= ids
    assert Tags(html["footer"]).named("a")[0]["data-consentkit"] == "settings"
    for name, text in html.items():
        words = {
            word
            for _, attrs in Tags(text).tags
            for key in ("id", "class", "src")
            for word in re.split(r"[\s/.]", attrs.get(key) or "")
        }
        assert not [word for word in words for bad in BLOCKED if bad in word], name


@pytest.mark.checklist("BAN-06", "BAN-07")
@pytest.mark.parametrize("lang", ["nl", "en"])
def test_the_first_layer_names_who_asks_what_for_and_how_to_take_it_back(lang: str) -> None:
    policy = make_policy()
    view = make_view(policy, texts={lang: {"title": "Onze vraag", "intro": "Kort."}})
    first = Renderer(view).banner(lang).split("<details>")[0]
    texts = load_texts(lang)

    assert "Stichting De Linde" in first
    assert "Onze vraag" in first
    for purpose in policy.asked:
        assert purpose.title[lang] in first
        assert purpose.about[lang].split("'")[0] in first
    label = texts("banner.settings")
    assert label in first
    assert f">{label}</a>" in Renderer(view).footer(lang, granted=False, own_settings=False, signal=None)


@pytest.mark.checklist("BAN-06")
def test_the_linter_knows_at_least_forty_phrases_and_catches_the_usual_ones() -> None:
    assert len(PHRASES) >= 40
    for sentence in (
        "Om je gebruikerservaring te verbeteren",
        "Voor een optimale ervaring op onze site",
        "Om onze diensten te verbeteren.",
        "We gebruiken cookies om je ervaring te verbeteren",
        "Om de website te optimaliseren",
        "Zo verbeteren wij onze website",
        "Voor analysedoeleinden",
        "Voor marketingdoeleinden",
        "Op basis van ons gerechtvaardigd belang",
        "Wij tonen relevante content",
        "Jouw privacy is belangrijk voor ons",
        "To enhance your experience",
        "To improve our services.",
        "For a better experience",
        "For marketing purposes",
        "Based on our legitimate interest",
        "We value your privacy",
        "To show personalised content",
        "So that the site works optimally",
    ):
        assert vague(sentence), sentence


@pytest.mark.checklist("BAN-06")
def test_a_vague_phrase_passes_only_where_a_concrete_purpose_follows() -> None:
    assert vague("We verbeteren onze website door te tellen welke pagina's je bekijkt") is None
    assert vague("To improve our site: we count visits per page") is None
    assert vague("Om onze website te verbeteren door cookies") == "onze website te verbeteren"
    assert vague("To improve our site. We count visits.") == "improve our site"


@pytest.mark.checklist("BAN-06")
def test_nothing_that_is_shipped_is_vague() -> None:
    shipped = [text for lang in render.languages() for text in load_texts(lang)._entries.values()]
    purposes = [text for service in catalogue.load().values() for text in service.purpose.values()]

    assert [text for text in shipped + purposes if vague(text)] == []


@pytest.mark.checklist("BAN-09")
def test_every_purpose_has_one_switch_of_its_own_and_an_embed_never_shares_one() -> None:
    known = catalogue.load()
    policy = make_policy(
        known[name] for name in ("google-analytics", "hotjar", "meta-pixel", "youtube", "vimeo", "google-maps")
    )
    boxes = [tag for tag in Tags(Renderer(make_view(policy)).banner("nl")).named("input") if tag["type"] == "checkbox"]

    assert [box["value"] for box in boxes] == [purpose.id for purpose in policy.asked]
    assert {"analytics", "marketing", "youtube", "vimeo", "google-maps"} == {box["value"] for box in boxes}


@pytest.mark.checklist("BAN-08")
def test_the_second_layer_names_every_service_and_item_of_the_registry() -> None:
    policy = make_policy()
    second = Renderer(make_view(policy)).banner("en").split("<details>")[1]
    texts = load_texts("en")

    for service in (service for purpose in policy.asked for service in purpose.services):
        assert service.provider in second
        assert texts.country(service.country) in second
        for item in service.items:
            assert item.name in second
            assert texts.duration(item.duration) in second


@pytest.mark.checklist("CST-02")
@pytest.mark.parametrize("lang", ["nl", "en"])
def test_the_statement_has_a_row_for_all_that_is_kept_and_no_empty_cell(lang: str) -> None:
    bare = Service(
        id="fonts",
        title="Letters",
        provider="Letters BV",
        country="NL",
        category="preferences",
        purpose={"nl": "Laadt lettertypen", "en": "Loads fonts"},
        hosts=("letters.example",),
    )
    policy = make_policy([*(catalogue.load()[n] for n in ("google-analytics", "youtube")), exempt_counter(), bare])
    page = Tags(Renderer(make_view(policy)).page("cookies", lang, since=TODAY).decode())

    assert page.cells
    assert all(cell.strip() for cell in page.cells)
    assert len(page.cells) % 8 == 0
    names = " ".join(page.cells[8::8])
    for service in policy.services:
        for item in service.items:
            assert item.name in names
    assert {tag.get("scope") for tag in page.named("th")} == {"col", "row"}
    assert len(page.named("caption")) == len(page.named("table")) == 4 + 1


@pytest.mark.checklist("CST-03")
@pytest.mark.parametrize("lang", ["nl", "en"])
def test_statement_and_privacy_links_lead_somewhere(lang: str) -> None:
    for name, html in everything(Renderer(make_view()), lang).items():
        for link in Tags(html).named("a"):
            target = link["href"] or ""
            assert target not in ("", "#"), name
            assert re.match(r"(@@ROOT@@)?/|\?lang=|https://|mailto:|#content$", target), (name, target)
    banner = Tags(Renderer(make_view()).banner(lang)).named("a")
    assert [link["href"] for link in banner] == [f"@@ROOT@@/privacy/cookies?lang={lang}", "@@ROOT@@/privacyverklaring"]


def test_the_statement_tells_version_date_controller_withdrawal_and_complaint() -> None:
    view = make_view()
    page = Renderer(view).page("cookies", "nl", since=TODAY).decode()

    assert f"Versie {view.policy.fingerprint[:12]} van 22 november 2026." in page
    assert "Lindelaan 1, 1234 AB Utrecht" in page
    assert "mailto:privacy@delinde.example" in page
    assert "Cookie-instellingen" in page
    assert "Autoriteit Persoonsgegevens" in page


@pytest.mark.checklist("WDR-07")
def test_reopened_settings_show_the_current_state_with_date_expiry_and_receipt() -> None:
    view = make_view()
    state = State(
        Status.GIVEN,
        frozenset({"youtube"}),
        asks=True,
        day=date(2026, 11, 22),
        expires=date(2027, 5, 23),
        record_id="ab" * 16,
        changed=("analytics",),
    )
    page = Renderer(view).page("settings", "nl", state=state, token="t", next="/").decode()
    boxes = {tag["value"]: "checked" in tag for tag in Tags(page).named("input") if tag.get("type") == "checkbox"}

    assert boxes == {"analytics": False, "google-maps": False, "youtube": True}
    for told in (
        "22 november 2026",
        "23 mei 2027",
        "ab" * 16,
        "Toestemming intrekken",
        "veranderd sinds je koos: Bezoek",
    ):
        assert told in page


def test_the_settings_say_what_the_browsers_own_signal_does() -> None:
    renderer = Renderer(make_view())
    silent = State(Status.REFUSED, frozenset(), asks=False, signal="gpc")
    chosen = State(Status.GIVEN, frozenset({"youtube"}), asks=False, day=TODAY, expires=TODAY, signal="dnt")

    assert "privacysignaal GPC" in renderer.page("settings", "nl", state=silent, token="t", next="/").decode()
    assert "Die keuze geldt" in renderer.page("settings", "nl", state=chosen, token="t", next="/").decode()


def test_an_exempt_measurement_can_be_objected_to_and_allowed_again() -> None:
    renderer = Renderer(make_view(make_policy([exempt_counter()])))
    on = renderer.page(
        "settings", "nl", state=State(Status.UNKNOWN, frozenset({"matomo"}), asks=False), token="t", next="/"
    )
    off = renderer.page("settings", "nl", state=UNKNOWN, token="t", next="/")

    assert b'value="object">Bezwaar maken tegen Matomo' in on
    assert b'value="allow">Matomo weer toestaan' in off


def test_a_site_that_asks_nothing_says_so() -> None:
    page = Renderer(make_view(make_policy([]))).page("settings", "nl", state=UNKNOWN, token="t", next="/").decode()

    assert "Je hoeft niets te kiezen" in page
    assert 'value="accept"' not in page


def test_no_text_of_a_site_can_become_a_mark_or_a_live_link() -> None:
    view = make_view(
        make_policy(controller="@@TOKEN@@"), controller="@@TOKEN@@", privacy_statement="javascript:alert(1)"
    )
    banner = Renderer(view).banner("nl")

    assert banner.count("@@TOKEN@@") == 1
    assert "javascript:" not in banner


def test_the_footer_is_no_more_than_a_link_once_there_is_nothing_to_withdraw_or_to_ask() -> None:
    renderer = Renderer(make_view())
    link = renderer.footer("nl", granted=False, own_settings=False, signal=None, asks=False)

    assert len(link) < 220
    assert "<form" not in link
    assert renderer.footer("nl", granted=False, own_settings=True, signal=None, asks=False) == ""
    assert "hidden><input" in renderer.footer("nl", granted=False, own_settings=True, signal=None)
    assert " hidden>" not in renderer.footer("nl", granted=True, own_settings=True, signal=None)


@pytest.mark.checklist("EVI-02")
def test_a_notice_is_plain_json_the_same_each_time_and_shows_itself_without_the_running_site() -> None:
    view = make_view()
    body = Renderer(view).notice_body("nl")
    stored = json.loads(json.dumps(body))
    other = Renderer(make_view(make_policy([]), name="Heel anders", controller="Iemand anders", languages=("en",)))

    page = other.show_notice(stored)

    assert stored == body == Renderer(view).notice_body("nl")
    assert page == Renderer(view).show_notice(stored)
    assert b"Stichting De Linde" in page
    assert b"Iemand anders" not in page
    assert b"@@" not in page
    assert body["texts"][:2] == ["Mogen we cookies gebruiken?", body["texts"][1]]
    assert body["texts"][-2:] == ["Weigeren", "Accepteren"]


def test_the_build_hash_changes_with_the_theme_and_not_by_itself() -> None:
    one, same = Renderer(make_view()), Renderer(make_view())
    other = Renderer(make_view(theme=type(one.view.theme).from_table({"link": "#004488"})))

    assert one.ui_build == same.ui_build
    assert one.ui_build != other.ui_build
    assert one.stylesheet()[0] != other.stylesheet()[0]
    assert re.fullmatch(r"consentkit\.[0-9a-f]{12}\.css", one.stylesheet()[0])
    assert one.asset(one.script()[0]) == (one.script()[1], "text/javascript; charset=utf-8")
    assert one.asset("consentkit.css") is None


def test_shared_mode_hides_the_banner_until_the_script_knows_and_leads_to_the_settings_without_it() -> None:
    view = make_view(make_policy([catalogue.load()["youtube"], exempt_counter()]), mode="shared")
    renderer = Renderer(view)
    banner = renderer.banner("nl")
    section = Tags(banner).named("section")[0]

    assert "hidden" in section
    assert Tags(banner).named("form")[0]["action"] == "@@ROOT@@/privacy/settings"
    assert "@@TOKEN@@" not in banner
    assert re.fullmatch(r"youtube=[0-9a-f]{6} matomo=[0-9a-f]{6}\+", section["data-purposes"] or "")
    assert b"Date.UTC" in renderer.script()[1]
    assert b"Date.UTC" not in Renderer(make_view()).script()[1]
    assert "@@TOKEN@@" not in renderer.placeholder("nl", catalogue.load()["youtube"], True)


def test_choices_of_the_harness_are_the_real_ones() -> None:
    policy = make_policy()
    state = Choices(policy, Tokens([b"k" * 32])).state(None, signal=None, today=TODAY)

    assert state.asks
