"""Reading a service's table: what a site may declare, what replaces what, and every refusal with its remedy."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from consentkit import catalogue
from consentkit.catalogue import CatalogueError, parse
from consentkit.service import Duration, Item, Service, Transfer

OWN = """
category = "analytics"
provider = "Teller BV"
country = "NL"
hosts = ["teller.example"]
purpose = { nl = "Bezoek tellen per pagina", en = "Counting visits per page" }
[[cookies]]
name = "_teller*"
duration = "13 months"
purpose = { nl = "Bezoek herkennen", en = "Recognising a visit" }
"""


def own(**changes: object) -> dict[str, object]:
    """The own counter of the documentation with keys replaced; None takes a key away."""
    table = {**tomllib.loads(OWN), **changes}
    return {key: value for key, value in table.items() if value is not None}


def cookie(**changes: object) -> list[dict[str, object]]:
    row = {"name": "_t", "duration": "1 day", "purpose": {"nl": "Telt", "en": "Counts"}, **changes}
    return [{key: value for key, value in row.items() if value is not None}]


def problems(table: dict[str, object], base: Service | None = None, id: str = "own-counter") -> list[str]:
    with pytest.raises(CatalogueError) as caught:
        parse(id, table, base)
    assert isinstance(caught.value, ValueError)
    return caught.value.problems


def test_an_own_service_is_read_whole() -> None:
    assert parse("own-counter", own(), None) == Service(
        id="own-counter",
        title="Own counter",
        provider="Teller BV",
        country="NL",
        category="analytics",
        purpose={"nl": "Bezoek tellen per pagina", "en": "Counting visits per page"},
        hosts=("teller.example",),
        items=(
            Item("_teller*", Duration(13, "month"), {"nl": "Bezoek herkennen", "en": "Recognising a visit"}),
        ),
    )  # fmt: skip


def test_cookies_and_storage_keys_stand_in_one_list_with_their_kind_and_party() -> None:
    service = parse(
        "own-counter",
        own(
            cookies=cookie(party="third"),
            storage=[*cookie(name="keep"), *cookie(name="tab", kind="session", duration="session")],
        ),
        None,
    )
    assert [(item.name, item.kind, item.party) for item in service.items] == [
        ("_t", "cookie", "third"),
        ("keep", "local", "first"),
        ("tab", "session", "first"),
    ]


def test_a_given_field_replaces_the_catalogues_and_all_others_stay() -> None:
    base = catalogue.load()["google-analytics"]
    service = parse(
        "google-analytics", {"title": "Statistiek", "cookies": cookie(name="_ga", duration="6 months")}, base
    )
    assert service.title == "Statistiek"
    assert [(item.name, str(item.duration)) for item in service.items] == [("_ga", "6 months")]
    assert (service.hosts, service.purpose, service.vendor) == (base.hosts, base.purpose, base.vendor)
    assert parse("google-analytics", {}, base) == base


def test_replacing_cookies_leaves_storage_keys_alone() -> None:
    base = catalogue.load()["bing-ads"]
    service = parse("bing-ads", {"cookies": cookie()}, base)
    assert [item for item in service.items if item.kind != "cookie"] == [i for i in base.items if i.kind != "cookie"]


def test_the_transfer_basis_goes_with_the_country_it_was_for() -> None:
    base = catalogue.load()["matomo"]
    moved = parse("matomo", {"provider": "De Linde", "country": "NL", "hosts": ["stats.delinde.example"]}, base)
    assert (base.transfer, moved.transfer) == (Transfer.ADEQUACY, Transfer.NONE)


def test_a_necessary_service_always_says_why_it_needs_no_consent() -> None:
    plain = parse("own-session", own(category="necessary"), None)
    assert plain.exempt
    assert set(plain.exempt) == {"nl", "en"}
    reason = {"nl": "Houdt je ingelogd", "en": "Keeps you logged in"}
    assert parse("own-session", own(category="necessary", exempt=reason), None).exempt == reason
    assert not plain.asks


def test_a_host_may_have_a_port_and_a_path_and_is_lower_cased() -> None:
    service = parse("own-counter", own(hosts=["Teller.Example/JS/", "127.0.0.1:9001", "localhost:8001/t"]), None)
    assert service.hosts == ("teller.example/JS/", "127.0.0.1:9001", "localhost:8001/t")


def test_a_site_may_have_other_categories_and_fewer_languages() -> None:
    table = own(category="research", purpose={"nl": "Onderzoek naar leesgedrag"}, cookies=None)
    service = parse("own-counter", table, None, categories=(*catalogue.CATEGORIES, "research"), languages=("nl",))
    assert service.category == "research"


@pytest.mark.parametrize(
    ("table", "said"),
    [
        (own(provder="x"), 'provder: is unknown; did you mean "provider"?'),
        (own(zzz="x"), "zzz: is unknown; known are title, provider, country"),
        (own(provider=None), "provider: is missing"),
        (own(country=None), "country: is missing"),
        (own(category=None), "category: is missing"),
        (own(purpose=None), "purpose: is missing"),
        (own(provider="  "), "provider: must be a text that isn't empty"),
        (own(category="analitics"), '"analitics" is no category here; did you mean "analytics"?'),
        (own(category="Marketing"), 'did you mean "marketing"?'),
        (own(category="x"), "choose one of necessary, preferences, analytics, marketing"),
        (own(country="nl"), '"nl" is no ISO 3166 code of two capitals; write "NL"'),
        (own(country="Holland"), 'such as "NL" or "US"'),
        (own(country="US"), 'transfer: is missing; data to US leaves the EEA: "adequacy", "dpf" or "scc"'),
        (own(country="US", transfer="none"), 'transfer: can\'t be "none"'),
        (own(country="CH", transfer="dpf"), '"dpf" is the framework with the US and says nothing of CH'),
        (own(transfer="shield"), '"shield" is no transfer basis; choose one of none, adequacy, dpf, scc'),
        (own(embed="yes"), "embed: must be true or false"),
        (own(embed=True, category="necessary"), "embedded content of others is never necessary"),
        (own(privacy_url="#"), '"#" is no page to read'),
        (own(privacy_url="/privacy"), "write a full address that starts with https://"),
        (own(privacy_url="javascript:alert(1)"), "is no page to read"),
        (own(hosts="teller.example"), "hosts: must be a list of texts"),
        (own(hosts=["https://teller.example"]), 'has a scheme; write "teller.example"'),
        (own(hosts=["*.teller.example"]), 'subdomains and longer paths match anyway: "teller.example"'),
        (own(hosts=["teller.example/js/*"]), "has a wildcard"),
        (own(hosts=["com"]), '"com" is no host name'),
        (own(hosts=[".teller.example"]), "is no host name"),
        (own(hosts=["teller.example/#a"]), 'has a space or "#" in its path'),
        (own(inline=["hj("]), "is too short to tell one script from another"),
        (own(inline=[5]), "inline: must be a list of texts"),
        (own(vendor="google"), "vendor: must be a table"),
        (own(vendor={"gogle": ["ad_storage"]}), 'vendor.gogle: is unknown; did you mean "google"?'),
        (own(vendor={"google": ["ads"]}), '"ads" is unknown there; known are ad_storage'),
        (own(vendor={"google": []}), "vendor.google: must be a list of what the vendor is told"),
        (own(purpose="Tellen"), 'purpose: must be given per language: { nl = "…", en = "…" }'),
        (own(purpose={"nl": "Tellen"}), 'purpose: has no text for "en"; add en = "…"'),
        (own(purpose={"nl": "Tellen", "en": ""}), "purpose.en: must be a text that isn't empty"),
        (own(purpose={"nl": "a", "en": "b", "Dutch": "c"}), "purpose.Dutch: is no language code"),
        (own(cookies="_ga"), "cookies: must be a list of tables"),
        (own(cookies=cookie(name=None)), "cookies[0].name: is missing; the visitor must be told"),
        (own(cookies=cookie(duration=None)), "cookies[0].duration: is missing; the visitor must be told"),
        (own(cookies=cookie(purpose=None)), "cookies[0].purpose: is missing; the visitor must be told"),
        (own(cookies=cookie(duration="unlimited")), "without an end isn't allowed"),
        (own(cookies=cookie(duration="0 days")), "is no duration"),
        (own(cookies=cookie(duration=400)), '"400" is no duration'),
        (own(cookies=cookie(name="*")), '"*" alone would claim everything'),
        (own(cookies=cookie(name="a b")), "can't be a cookie's name"),
        (own(cookies=cookie(party="both")), 'must be "first"'),
        (own(cookies=cookie(kind="local")), "cookies[0].kind: is unknown"),
        (own(storage=cookie(kind="disk")), 'storage[0].kind: must be "local", "session" or "indexeddb"'),
        (own(exempt={"nl": "a", "en": "b"}), "only a necessary service needs no consent"),
    ],
)  # fmt: skip
@pytest.mark.checklist("BAN-08", "CST-02")
def test_a_wrong_table_is_refused_with_the_key_and_the_remedy(table: dict[str, object], said: str) -> None:
    found = problems(table)
    assert any(said in problem for problem in found), found
    assert all(problem.startswith("services.own-counter.") for problem in found)


@pytest.mark.checklist("BAN-10")
@pytest.mark.parametrize("key", ["basis", "legal_basis", "legal-basis", "legitimate_interest", "grondslag"])
def test_no_other_basis_than_consent_can_be_declared(key: str) -> None:
    assert any("legitimate interest" in problem for problem in problems(own(**{key: "legitimate interest"})))


@pytest.mark.checklist("BAN-04")
@pytest.mark.parametrize("key", ["default", "prechecked", "pre_ticked", "checked", "enabled"])
def test_no_choice_can_be_ticked_beforehand(key: str) -> None:
    assert any("starts switched off" in problem for problem in problems(own(**{key: True})))


def test_a_cookie_can_carry_no_basis_of_its_own_either() -> None:
    assert any("ePrivacy 5(3)" in problem for problem in problems(own(cookies=cookie(legitimate_interest=True))))


def test_measuring_and_advertising_can_not_be_called_necessary() -> None:
    for id in ("google-analytics", "meta-pixel"):
        found = problems({"category": "necessary"}, catalogue.load()[id], id)
        assert any("never necessary" in problem for problem in found)
    for id in ("stripe", "google-recaptcha"):
        assert not parse(id, {"category": "necessary"}, catalogue.load()[id]).asks


@pytest.mark.checklist("BAN-09")
def test_an_embed_can_not_be_merged_into_another_choice() -> None:
    found = problems({"embed": False}, catalogue.load()["youtube"], "youtube")
    assert any("a choice of its own" in problem for problem in found)


@pytest.mark.parametrize("id", ["Own", "own_counter", "-own", "", "own counter"])
def test_an_id_is_lower_case_with_hyphens(id: str) -> None:
    assert any("an id is lower-case" in problem for problem in problems(own(), id=id))


def test_an_id_can_not_be_that_of_a_category() -> None:
    assert any("the name of a category" in problem for problem in problems(own(), id="analytics"))


def test_all_problems_are_told_at_once() -> None:
    assert len(problems(own(provider=None, category="x", hosts=["http://a.example"], country="nl"))) == 4


def test_a_shipped_file_that_breaks_a_rule_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "broken.toml").write_text("title = ", "utf-8")
    (tmp_path / "short.toml").write_text('title = "Short"', "utf-8")
    monkeypatch.setattr(catalogue, "FOLDER", tmp_path)
    with pytest.raises(CatalogueError) as caught:
        catalogue.load.__wrapped__()
    assert any(problem.startswith("broken.toml: ") for problem in caught.value.problems)
    assert "short.toml: services.short.provider: is missing; a service that isn't in the catalogue must say it" in (
        caught.value.problems
    )
