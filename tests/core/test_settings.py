from __future__ import annotations

from email.utils import parseaddr
from pathlib import Path
from typing import Any

import pytest

from consentkit.errors import SettingsError
from consentkit.settings import Settings, is_local

KEY = "k8Jq2vX0Zr5Tn1Lw7Yb3Pd6Gc9Sf4HmA"
SITE = """
[site]
name = "De Linde"
base_url = "https://delinde.example"
privacy_statement = "/privacyverklaring"

[site.controller]
name = "Stichting De Linde"
address = "Lindelaan 1, 1234 AB Utrecht"
email = "privacy@delinde.example"
"""
ENVIRON = {"CONSENTKIT_SECRET_KEYS": KEY}


def load(tmp_path: Path, text: str, environ: dict[str, str] | None = None) -> Settings:
    path = tmp_path / "consentkit.toml"
    path.write_text(text, encoding="utf-8")
    return Settings.load(path, ENVIRON if environ is None else environ)


def problems(tmp_path: Path, text: str, environ: dict[str, str] | None = None) -> str:
    with pytest.raises(SettingsError) as caught:
        load(tmp_path, text, environ)
    assert caught.value.source == str(tmp_path / "consentkit.toml")
    return "\n".join(caught.value.problems)


def test_the_whole_example_of_the_documentation_is_read(tmp_path: Path) -> None:
    text = (
        SITE.replace(
            "[site.controller]",
            'languages = ["nl", "en"]\nprefix = "/privacy"\nchoice_days = 182\n'
            'html = "private"\ncsp = "off"\nstrict = false\ngpc = true\n\n[site.controller]',
        )
        + """
[services.google-analytics]
[services.youtube]
[services.own-counter]
category = "analytics"
provider = "Teller BV"
country = "NL"
hosts = ["teller.example"]
purpose = { nl = "Bezoek tellen per pagina", en = "Counting visits per page" }
cookies = [{ name = "_teller*", duration = "13 months", purpose = { nl = "Bezoek herkennen", en = "A visit" } }]

[lists.nieuwsbrief]
title = { nl = "Nieuwsbrief", en = "Newsletter" }
about = { nl = "Nieuws van de school", en = "News from the school" }
frequency = { nl = "elke maand", en = "monthly" }

[forms.contact]
[mail]
smtp = "smtp://127.0.0.1:2525"
sender = "De Linde <nieuws@delinde.example>"
[retention]
[database]
url = "sqlite:///consentkit.db"
"""
    )

    settings = load(tmp_path, text)

    assert list(settings.named_services) == ["google-analytics", "youtube", "own-counter"]
    assert settings.named_services["own-counter"].cookie("_teller_1") is not None
    assert settings.database_url == f"sqlite:///{tmp_path / 'consentkit.db'}"


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (("choice_days", "0"), "can't be unlimited"),
        (("choice_days", "397"), "site.choice_days: Input should be less than or equal to 396"),
        (("choice_days", '"unlimited"'), "can't be unlimited"),
        (("reject", "false"), "refusing is as easy as accepting"),
        (("html", '"public"'), 'Write "private" or "shared"'),
        (("prefx", '"/p"'), "Did you mean `prefix`?"),
        (("prefix", '"privacy"'), 'write something like "/privacy"'),
        (("languages", '["nl", "de"]'), 'there are no texts for "de"'),
        (("languages", "[]"), "site.languages"),
        (("cookie_domain", '"other.example"'), "is no parent of delinde.example"),
        (("csp", '"block"'), "site.csp"),
        (("hosts", '["https://x.example"]'), "without scheme"),
    ],
)
def test_a_wrong_value_names_the_key_and_the_remedy(tmp_path: Path, change: tuple[str, str], expected: str) -> None:
    text = SITE.replace("[site.controller]", f"{change[0]} = {change[1]}\n\n[site.controller]")

    found = problems(tmp_path, text)

    assert change[0] in found
    assert expected in found


@pytest.mark.checklist("BAN-01")
def test_refusing_cannot_be_configured_away(tmp_path: Path) -> None:
    assert "`reject` can't be set" in problems(
        tmp_path, SITE.replace("[site.controller]", "reject = false\n[site.controller]")
    )


@pytest.mark.checklist("STO-02")
@pytest.mark.parametrize("days", ["0", "397", '"unlimited"', "-1"])
def test_a_choice_that_never_ends_is_refused(tmp_path: Path, days: str) -> None:
    assert "choice_days" in problems(
        tmp_path, SITE.replace("[site.controller]", f"choice_days = {days}\n[site.controller]")
    )


@pytest.mark.checklist("STO-02")
def test_more_than_half_a_year_warns(tmp_path: Path) -> None:
    text = SITE.replace("[site.controller]", "choice_days = 396\n[site.controller]")

    assert "396 is longer than the 182 days" in load(tmp_path, text).advice[0]
    assert load(tmp_path, SITE).advice == []


@pytest.mark.checklist("GAT-10")
def test_pings_without_consent_and_identifiers_in_links_are_off_and_warn_when_switched_on(tmp_path: Path) -> None:
    advanced, passing = '[site.google]\nmode = "advanced"\n', "[site.google]\nurl_passthrough = true\n"
    plain = load(tmp_path, SITE)

    assert plain.site is not None
    assert (plain.site.google.mode, plain.site.google.url_passthrough, plain.advice) == ("basic", False, [])
    (warning,) = load(tmp_path, f"{SITE}\n{advanced}").advice
    assert "legal risk: [site.google] mode" in warning
    assert "Guidelines 2/2023, par. 47-53" in warning
    (warning,) = load(tmp_path, f"{SITE}\n{passing}").advice
    assert "legal risk: [site.google] url_passthrough" in warning
    assert len(load(tmp_path, f"{SITE}\n{advanced}url_passthrough = true\n").advice) == 2
    assert "site.google.mode" in problems(tmp_path, f'{SITE}\n[site.google]\nmode = "both"\n')


def test_a_weak_secret_for_a_webhook_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "consentkit.toml"
    path.write_text(f'{SITE}\n[services.google-analytics]\nwebhook = "https://crm.example/weg"\n', encoding="utf-8")

    with pytest.raises(SettingsError, match="CONSENTKIT_WEBHOOK_GOOGLE_ANALYTICS is weaker than 32"):
        Settings.load(path, {"CONSENTKIT_SECRET_KEYS": KEY, "CONSENTKIT_WEBHOOK_GOOGLE_ANALYTICS": "short"})


@pytest.mark.checklist("CST-03")
@pytest.mark.parametrize("target", ["#", "", "privacy", "//elsewhere.example", "javascript:alert(1)"])
def test_a_privacy_statement_that_leads_nowhere_is_refused(tmp_path: Path, target: str) -> None:
    assert "site.privacy_statement" in problems(tmp_path, SITE.replace("/privacyverklaring", target))


@pytest.mark.checklist("BAN-04", "BAN-10")
@pytest.mark.parametrize(
    "line",
    [
        "default = true",
        "prechecked = true",
        'basis = "legitimate interest"',
        "legitimate_interest = true",
        "enabled = true",
    ],
)
def test_no_service_can_be_switched_on_beforehand_or_rest_on_legitimate_interest(tmp_path: Path, line: str) -> None:
    found = problems(tmp_path, f"{SITE}\n[services.google-analytics]\n{line}\n")

    assert line.partition(" =")[0] in found


@pytest.mark.checklist("BAN-10")
def test_an_owner_who_promised_no_advertising_cannot_register_it(tmp_path: Path) -> None:
    text = SITE.replace("[site.controller]", 'advertising = "never"\n[site.controller]')

    assert "services.meta-pixel" in problems(tmp_path, text + "\n[services.meta-pixel]\n")
    assert load(tmp_path, text + "\n[services.google-analytics]\n").named_services


@pytest.mark.checklist("BAN-08", "CST-02")
@pytest.mark.parametrize("missing", ["provider", "country", "purpose", "category", "duration"])
def test_an_own_service_must_tell_everything_that_visitors_are_shown(tmp_path: Path, missing: str) -> None:
    lines = {
        "category": 'category = "analytics"',
        "provider": 'provider = "Teller BV"',
        "country": 'country = "NL"',
        "hosts": 'hosts = ["teller.example"]',
        "purpose": 'purpose = { nl = "Bezoek tellen", en = "Counting visits" }',
        "cookies": 'cookies = [{ name = "_t", duration = "13 months", purpose = { nl = "Tellen", en = "Counting" } }]',
    }
    if missing == "duration":
        lines["cookies"] = lines["cookies"].replace('duration = "13 months", ', "")
    else:
        del lines[missing]

    found = problems(tmp_path, SITE + "\n[services.teller]\n" + "\n".join(lines.values()))

    assert missing in found


@pytest.mark.checklist("BAN-09")
def test_two_purposes_cannot_share_one_switch(tmp_path: Path) -> None:
    text = SITE + '\n[services.google-analytics]\ncategory = "analytics marketing"\n'

    assert "category" in problems(tmp_path, text)


@pytest.mark.parametrize("duration", ["unlimited", "forever", "0 days", "", "ever"])
def test_a_cookie_without_an_end_is_refused(tmp_path: Path, duration: str) -> None:
    cookie = f'{{ name = "_x", duration = "{duration}", purpose = {{ nl = "Tellen", en = "Counting" }} }}'

    assert "duration" in problems(tmp_path, f"{SITE}\n[services.google-analytics]\ncookies = [{cookie}]\n")


EXEMPT = """
[services.matomo]
cookies = [{ name = "_pk_id.*", duration = "13 months", purpose = { nl = "Bezoek tellen", en = "Counting visits" } }]
storage = []
[services.matomo.exempt_analytics]
own_use_only = true
no_cross_site_identifier = true
no_user_id = true
ip_masked = true
data_months = 25
"""


@pytest.mark.checklist("GAT-13")
def test_exempt_measurement_starts_only_when_everything_is_declared(tmp_path: Path) -> None:
    service = load(tmp_path, SITE + EXEMPT).named_services["matomo"]
    assert service.asks is False
    assert service.purpose_id == "matomo"

    for line in EXEMPT.strip().splitlines()[4:]:
        assert line.split()[0] in problems(tmp_path, SITE + EXEMPT.replace(line + "\n", ""))
        assert line.split()[0] in problems(tmp_path, SITE + EXEMPT.replace("= true", "= false").replace("= 25", "= 26"))


@pytest.mark.checklist("GAT-13")
def test_google_analytics_and_long_lived_cookies_can_never_be_exempt(tmp_path: Path) -> None:
    assert "can't be exempt" in problems(tmp_path, SITE + EXEMPT.replace("matomo", "google-analytics"))
    hidden = EXEMPT.replace("storage = []", 'storage = []\nhosts = ["www.google-analytics.com/g"]')
    assert "can't be exempt" in problems(tmp_path, SITE + hidden)
    assert "longer than 13 months" in problems(tmp_path, SITE + EXEMPT.replace("13 months", "14 months"))


@pytest.mark.checklist("SEC-04")
@pytest.mark.parametrize(
    "keys",
    [
        "short",
        "a" * 40,
        "changeme-changeme-changeme-changeme-1234",
        f"{KEY},short",
        "secret-key-0123456789abcdefghijklmnop",
    ],
)
def test_a_weak_or_default_key_is_refused(tmp_path: Path, keys: str) -> None:
    found = problems(tmp_path, SITE, {"CONSENTKIT_SECRET_KEYS": keys})

    assert "key" in found
    assert keys not in found


@pytest.mark.checklist("SEC-04")
def test_a_public_site_does_not_start_without_keys_and_secrets_do_not_stand_in_the_file(tmp_path: Path) -> None:
    assert "consentkit init" in problems(tmp_path, SITE, {})
    assert "CONSENTKIT_SECRET_KEYS" in problems(tmp_path, f'secret_keys = ["{KEY}"]\n{SITE}')


def test_a_key_file_is_read_only_when_it_is_private(tmp_path: Path) -> None:
    keys = tmp_path / "consentkit.keys"
    keys.write_text(f"# comment\nCONSENTKIT_SECRET_KEYS={KEY}\n", encoding="utf-8")
    keys.chmod(0o644)
    with pytest.raises(SettingsError, match="chmod 600"):
        load(tmp_path, SITE, {})

    keys.chmod(0o600)

    assert load(tmp_path, SITE, {}).secret_keys == (KEY,)


def test_keys_that_can_t_be_read_are_an_error_and_not_no_keys(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="the keys can't be read"):
        load(tmp_path, SITE, {"CONSENTKIT_KEY_FILE": "k" * 300})


@pytest.mark.parametrize(
    ("url", "fine"),
    [
        ("http://delinde.example", False),
        ("http://127.0.0.1:8000", True),
        ("http://school.test", True),
        ("https://delinde.example/pad", False),
        ("delinde.example", False),
    ],
)
def test_the_site_is_served_encrypted_but_for_this_machine(tmp_path: Path, url: str, fine: bool) -> None:
    text = SITE.replace("https://delinde.example", url)

    if fine:
        assert load(tmp_path, text).all_sites[0].base_url == url
    else:
        assert "site.base_url" in problems(tmp_path, text)


def test_several_sites_are_told_apart_by_their_hosts(tmp_path: Path) -> None:
    second = SITE.replace("[site]", "[[sites]]").replace("[site.controller]", "[sites.controller]")
    both = second.replace("[sites.controller]", 'hosts = ["a.example"]\n[sites.controller]') + second

    assert "needs hosts" in problems(tmp_path, both)
    assert "not both" in problems(tmp_path, SITE + second)


def test_a_missing_broken_or_empty_file_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="consentkit init"):
        Settings.load(tmp_path / "none.toml", ENVIRON)
    assert "can't be read as TOML" in problems(tmp_path, "[site")
    assert "[site]" in problems(tmp_path, "")


def test_without_a_file_it_runs_on_defaults_for_this_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)

    settings = Settings.load(None, {})

    assert settings.development
    assert "consentkit init" in settings.advice[0]


def test_all_problems_are_told_at_once(tmp_path: Path) -> None:
    text = SITE.replace("[site.controller]", 'prefx = 1\nhtml = "x"\n[site.controller]')

    assert len(problems(tmp_path, text).splitlines()) == 2


@pytest.mark.checklist("BAN-06")
def test_vague_words_are_refused_in_a_purpose_and_in_the_introduction(tmp_path: Path) -> None:
    vague = '\n[services.google-analytics]\npurpose = { nl = "Voor een optimale ervaring", en = "Counting visits" }\n'
    intro = '\n[site.texts.nl]\nintro = "Wij gebruiken cookies om je gebruikerservaring te verbeteren."\n'

    assert "services.google-analytics.purpose" in problems(tmp_path, SITE + vague)
    assert "site.texts.nl.intro" in problems(tmp_path, SITE + intro)


@pytest.mark.checklist("ACC-03", "BAN-02")
def test_an_unreadable_or_unfair_theme_is_refused(tmp_path: Path) -> None:
    grey = '\n[site.theme]\nrefuse_background = "#ffffff"\nrefuse_text = "#dddddd"\n'

    assert "site.theme" in problems(tmp_path, SITE + grey)


LIST = """
[lists.nieuwsbrief]
title = { nl = "Nieuwsbrief" }
about = { nl = "Nieuws van de school" }
frequency = { nl = "elke maand" }
"""


@pytest.mark.checklist("UNS-08")
def test_without_a_postal_address_of_the_sender_there_are_no_lists(tmp_path: Path) -> None:
    homeless = SITE.replace('address = "Lindelaan 1, 1234 AB Utrecht"\n', "")

    assert load(tmp_path, homeless).lists == {}
    assert 'site "De Linde" has no postal address' in problems(tmp_path, homeless + LIST)


@pytest.mark.parametrize("name", ["De Linde, Utrecht", 'De "Linde"', "De Linde (school)"])
def test_who_sends_a_list_without_a_sender_is_spelled_as_a_header_takes_it(tmp_path: Path, name: str) -> None:
    site = SITE.replace('name = "De Linde"\nbase', f"name = '{name}'\nbase")

    sender = load(tmp_path, site + LIST).sender_of("nieuwsbrief")

    assert sender is not None
    assert parseaddr(sender) == (name, "privacy@delinde.example")


def test_a_partner_is_not_told_in_clear_who_withdrew(tmp_path: Path) -> None:
    form = '\n[forms.a]\npurpose = { nl = "x" }\n[forms.a.partners.klik]\n'
    form += 'name = "Klik BV"\npurpose = { nl = "x" }\nwebhook = "http://klik.example/weg"\n'

    assert "in clear: write https://" in problems(tmp_path, SITE + form)
    assert load(tmp_path, SITE + form.replace("http:", "https:")).forms
    assert load(tmp_path, SITE + form.replace("klik.example", "127.0.0.1:8000")).forms


@pytest.mark.parametrize(
    ("host", "local"), [("localhost", True), ("a.test", True), ("127.0.0.1", True), ("10.0.0.1", False)]
)
def test_local_hosts(host: str, local: bool) -> None:
    assert is_local(host) is local


def test_settings_can_be_made_in_python() -> None:
    site: dict[str, Any] = {
        "name": "De Linde",
        "base_url": "http://127.0.0.1:8000",
        "privacy_statement": "/privacyverklaring",
        "controller": {"name": "Stichting De Linde"},
    }

    assert Settings(site=site).all_sites[0].prefix == "/privacy"
    with pytest.raises(SettingsError, match=r"settings: site\.controller: is missing"):
        Settings(site={name: value for name, value in site.items() if name != "controller"})


@pytest.mark.parametrize(
    ("table", "told"),
    [
        ("cookybot = false", 'site.dialects: there is no dialect "cookybot". Did you mean "cookiebot"?'),
        ("zzz = true", 'site.dialects: there is no dialect "zzz". Known here: cookiebot, vanilla-cookieconsent,'),
        ('klaro = { chat = "analitics" }', 'site.dialects.klaro.chat: "analitics" is neither a category nor a service'),
        ('klaro = { chat = "analitics" }', 'Did you mean "analytics"? Write one of: necessary, preferences, '),
        ('klaro = { film = "youtube" }', 'site.dialects.klaro.film: "youtube" is neither a category nor a service'),
        ("klaro = 3", "site.dialects.klaro"),
    ],
)
def test_a_dialect_or_a_word_of_one_that_means_nothing_is_refused(tmp_path: Path, table: str, told: str) -> None:
    assert told in problems(tmp_path, f"{SITE}\n[site.dialects]\n{table}\n")


def test_the_words_of_another_tool_mean_categories_and_named_services(tmp_path: Path) -> None:
    words = 'cookiebot = false\nklaro = { film = "youtube", teller = "analytics" }'
    text = f"\n[site.dialects]\n{words}\n[services.youtube]\n"

    site = load(tmp_path, SITE + text).site

    assert site is not None
    assert site.dialects == {"cookiebot": False, "klaro": {"film": "youtube", "teller": "analytics"}}
