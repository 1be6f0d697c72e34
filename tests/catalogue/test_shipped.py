"""The shipped services: every file readable, truthful in form, recognisable, and never mistaken for innocent code."""

from __future__ import annotations

import re
import tomllib
from collections import defaultdict
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest

from consentkit import catalogue
from consentkit.choice.wording import vague
from consentkit.gate.registry import Registry
from consentkit.service import Service, Text

HERE = Path(__file__).parent
SERVICES = catalogue.load()
REGISTRY = Registry(SERVICES.values())
SNIPPETS = tomllib.loads((HERE / "snippets.toml").read_text("utf-8"))
INNOCENT = tomllib.loads((HERE / "innocent.toml").read_text("utf-8"))
DUTCH_ONLY = re.compile(r"\b(?:de|het|een|van|naar|wordt|worden|niet|onthoudt|herkent)\b", re.IGNORECASE)
ENGLISH_ONLY = re.compile(r"\b(?:the|and|which|with|remembers|recognises|this)\b", re.IGNORECASE)
ADDRESSED = re.compile(r"\b(?:je|jij|jou|jouw|u|uw|wij|we|ons|onze|you|your|our|us)\b", re.IGNORECASE)


def texts(service: Service) -> Iterator[tuple[str, Text]]:
    """Every text of the service with where it stands."""
    yield "purpose", service.purpose
    for item in service.items:
        yield item.name, item.purpose
    if service.exempt:
        yield "exempt", service.exempt


def every_text() -> list[tuple[str, str, Text]]:
    return [(service.id, where, text) for service in SERVICES.values() for where, text in texts(service)]


def test_far_more_than_the_services_that_dutch_sites_use_every_day_are_known() -> None:
    assert len(SERVICES) >= 150
    everyday = "google-analytics google-tag-manager google-maps youtube vimeo meta-pixel hotjar matomo linkedin-insight"
    assert set(everyday.split()) <= set(SERVICES)


def test_each_file_is_named_after_its_service_and_keeps_one_order_of_keys() -> None:
    order = list(catalogue.KEYS)
    for path in sorted(catalogue.FOLDER.glob("*")):
        assert path.suffix == ".toml", f"{path.name} is no service"
        assert SERVICES[path.stem].id == path.stem
        keys = list(tomllib.loads(path.read_text("utf-8")))
        assert keys == sorted(keys, key=order.index), f"{path.name}: write the keys in the order {', '.join(order)}"


def test_no_place_is_claimed_by_two_services() -> None:
    claims = defaultdict(set)
    for service in SERVICES.values():
        assert len(set(service.hosts)) == len(service.hosts), service.id
        for host in service.hosts:
            claims[host.lower()].add(service.id)
    assert {host: ids for host, ids in claims.items() if len(ids) > 1} == {}


def test_no_service_repeats_a_host_that_a_wider_one_of_its_own_covers() -> None:
    claims = {host: service.id for service in SERVICES.values() for host in service.hosts}
    repeated = [
        host for host, id in claims.items() if next((claims[w] for w in wider(host) if w in claims), None) == id
    ]
    assert repeated == []


def wider(host: str) -> Iterator[str]:
    """The claims that would cover this one, nearest first."""
    name, slash, _ = host.partition("/")
    if slash:
        yield name
    while "." in name:
        name = name.partition(".")[2]
        yield name


@pytest.mark.parametrize(
    ("url", "id"),
    [
        ("https://www.googletagmanager.com/gtm.js?id=GTM-1", "google-tag-manager"),
        ("https://www.googletagmanager.com/gtag/js?id=G-1", "google-analytics"),
        ("https://www.googletagmanager.com/ns.html?id=GTM-1", "google-tag-manager"),
        ("https://region1.google-analytics.com/g/collect", "google-analytics"),
        ("https://www.google.com/maps/embed?pb=1", "google-maps"),
        ("https://www.google.com/recaptcha/api.js", "google-recaptcha"),
        ("https://www.gstatic.com/recaptcha/releases/x/recaptcha.js", "google-recaptcha"),
        ("https://www.google.com/search?q=consent", None),
        ("https://docs.google.com/forms/d/e/1/viewform", "google-forms"),
        ("https://docs.google.com/document/d/1/pub", "google-docs"),
        ("https://stats.g.doubleclick.net/j/collect", "google-ads"),
        ("https://securepubads.g.doubleclick.net/tag/js/gpt.js", "google-adsense"),
        ("https://www.youtube-nocookie.com/embed/1", "youtube"),
        ("https://connect.facebook.net/en_US/fbevents.js", "meta-pixel"),
        ("https://connect.facebook.net/nl_NL/sdk.js", "facebook"),
        ("https://www.facebook.com/tr?id=1&ev=PageView", "meta-pixel"),
        ("https://www.facebook.com/plugins/page.php?href=x", "facebook"),
        ("https://www.linkedin.com/embed/feed/update/1", "linkedin"),
        ("https://px.ads.linkedin.com/collect", "linkedin-insight"),
        ("https://snap.licdn.com/li.lms-analytics/insight.min.js", "linkedin-insight"),
        ("https://analytics.tiktok.com/i18n/pixel/events.js", "tiktok-pixel"),
        ("https://www.tiktok.com/embed.js", "tiktok-embeds"),
        ("https://s.pinimg.com/ct/core.js", "pinterest-tag"),
        ("https://i.pinimg.com/236x/a.jpg", "pinterest"),
        ("https://www.redditstatic.com/ads/pixel.js", "reddit-pixel"),
        ("https://tr.snapchat.com/p", "snap-pixel"),
        ("https://www.bing.com/maps/embed", "bing-maps"),
        ("https://bat.bing.com/bat.js", "bing-ads"),
        ("https://eu.i.posthog.com/static/array.js", "posthog-eu"),
        ("https://us.i.posthog.com/static/array.js", "posthog"),
        ("https://tile.openstreetmap.org/1/1/1.png", "openstreetmap"),
        ("https://challenges.cloudflare.com/turnstile/v0/api.js", "cloudflare-turnstile"),
        ("https://cdnjs.cloudflare.com/ajax/libs/jquery/3.7.1/jquery.min.js", None),
        ("https://cdn.jsdelivr.net/npm/htmx.org", None),
        ("https://ajax.googleapis.com/ajax/libs/jquery/3.7.1/jquery.min.js", None),
        ("https://notyoutube.com/embed/1", None),
    ],
)
def test_a_url_belongs_to_the_service_with_the_most_specific_claim(url: str, id: str | None) -> None:
    found = REGISTRY.of_url(url)
    assert (found and found.id) == id


@pytest.mark.parametrize(("id", "script"), [(id, script) for id, scripts in SNIPPETS.items() for script in scripts])
def test_the_snippet_of_the_vendor_is_recognised_by_a_marker_and_as_nothing_else(id: str, script: str) -> None:
    assert any(marker in script for marker in SERVICES[id].inline)
    assert [found.id for found in REGISTRY.of_code(script.encode())] == [id]


@pytest.mark.parametrize("service", [service for service in SERVICES.values() if service.inline], ids=lambda s: s.id)
def test_each_marker_is_found_in_a_script_that_holds_it_and_is_more_than_a_word(service: Service) -> None:
    for marker in service.inline:
        script = f"(function () {{ {marker} }})();".encode()
        assert {found.id for found in REGISTRY.of_code(script)} == {service.id}
        assert re.search(r"[^a-z]", marker), f'{service.id}: "{marker}" is a plain word that prose may hold'


def test_no_marker_is_found_in_innocent_scripts() -> None:
    hits = [
        (service.id, marker, script)
        for service in SERVICES.values()
        for marker in service.inline
        for script in INNOCENT["scripts"]
        if marker in script
    ]
    assert hits == []


def test_no_marker_is_found_in_the_scripts_of_well_known_libraries() -> None:
    scripts = [
        path
        for package, folder in (
            ("django", "contrib/admin/static"),
            ("axe_playwright_python", "."),
            ("playwright", "driver"),
        )
        for spec in [find_spec(package)]
        if spec and spec.submodule_search_locations
        for path in (Path(spec.submodule_search_locations[0]) / folder).rglob("*.js")
        if path.stat().st_size < 2_000_000
    ]
    assert any(path.name == "jquery.min.js" for path in scripts)
    everything = b"\0".join(path.read_bytes() for path in scripts)
    assert [
        (service.id, marker)
        for service in SERVICES.values()
        for marker in service.inline
        if marker.encode() in everything
    ] == []


def test_no_cookie_pattern_claims_a_cookie_that_an_app_may_call_its_own() -> None:
    claimed = [
        (name, service.id, item.name)
        for name in INNOCENT["cookies"]
        for service in SERVICES.values()
        for item in [service.cookie(name)]
        if item
    ]
    assert claimed == []


@pytest.mark.checklist("BAN-06")
def test_every_text_is_there_in_dutch_and_in_english_and_each_in_its_own_language() -> None:
    for id, where, text in every_text():
        assert set(text) >= {"nl", "en"}, f"{id}: {where}"
        assert not ENGLISH_ONLY.search(text["nl"]), f"{id}: {where}: {text['nl']}"
        assert not DUTCH_ONLY.search(text["en"]), f"{id}: {where}: {text['en']}"


def test_no_text_addresses_the_reader_since_sites_choose_between_je_and_u() -> None:
    assert [(id, where) for id, where, text in every_text() for one in text.values() if ADDRESSED.search(one)] == []


@pytest.mark.checklist("BAN-06")
def test_no_text_is_vague_and_none_ends_in_a_full_stop() -> None:
    for id, where, text in every_text():
        for sentence in text.values():
            assert vague(sentence) is None, f"{id}: {where}: {sentence}"
            assert 3 <= len(sentence.split()) <= 26, f"{id}: {where}: {sentence}"
            assert not sentence.endswith("."), f"{id}: {where}: {sentence}"


@pytest.mark.checklist("BAN-08", "CST-02")
def test_each_service_tells_who_what_for_where_and_for_how_long() -> None:
    for service in SERVICES.values():
        assert service.title, service.id
        assert service.provider, service.id
        assert service.privacy_url.startswith("https://"), service.id
        assert service.country in catalogue.COUNTRIES, service.id
        assert (service.country in catalogue.EEA) == (service.transfer == "none"), service.id
        for item in service.items:
            assert item.duration.unit == "session" or item.duration.days > 0, f"{service.id}: {item.name}"


def test_google_analytics_names_its_identifier_and_its_session_cookies() -> None:
    service = SERVICES["google-analytics"]
    assert {"_ga", "_ga_*"} <= {item.name for item in service.items}
    assert (found := service.cookie("_ga"))
    assert str(found.duration) == "2 years"
    assert (found := service.cookie("_ga_ABC123XYZ"))
    assert found.name == "_ga_*"
    assert service.vendor == {"google": ("analytics_storage",)}


def test_no_shipped_service_is_exempt_since_only_its_owner_can_say_so() -> None:
    assert [service.id for service in SERVICES.values() if not service.asks] == []


def test_content_of_others_is_a_choice_of_its_own() -> None:
    for id in (
        "youtube",
        "vimeo",
        "google-maps",
        "openstreetmap",
        "spotify",
        "typeform",
        "intercom",
        "x-embeds",
        "instagram",
        "google-fonts",
        "google-recaptcha",
    ):
        assert SERVICES[id].embed, id
        assert SERVICES[id].purpose_id == id
    for id in ("google-analytics", "meta-pixel", "hotjar"):
        assert not SERVICES[id].embed, id
