"""The policy beside the app's: what it lists, what it leaves out, that it opens nothing and breaks nothing."""

from __future__ import annotations

from collections.abc import Collection

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consentkit import catalogue
from consentkit.gate import Gate
from consentkit.gate.csp import ContentPolicy
from consentkit.gate.registry import Registry
from consentkit.service import Service
from tests.gate.csp3 import FETCHES, fetches, policies, runs_inline

NOTE = {"nl": "Doel", "en": "Purpose"}


def service(id: str, category: str, *hosts: str, connects: tuple[str, ...] = (), embed: bool = False) -> Service:
    return Service(id, id, "X", "NL", category, NOTE, hosts=hosts, connects=connects, embed=embed)


COUNTER = service("counter", "analytics", "counter.example", "tags.example/count.js?id=C-")
CHAT = service("chat", "preferences", "chat.example", connects=("chat.example", "relay.example", "x.relay.test"))
MAPS = service("maps", "preferences", "big.example/maps", "maps.big.example", embed=True)
ADS = service("ads", "marketing", "ads.example", "big.example/ads", "tags.example")
UNNAMED = service("unnamed", "marketing", "unnamed.example")
OWN_STATS = service("own-stats", "analytics", "stats.school.example")
SHOP = service("shop", "necessary", "pay.example")
CONFIGURED = (COUNTER, CHAT, MAPS, ADS, SHOP)
KNOWN = (*CONFIGURED, UNNAMED)
PAGE = "https://www.school.example/ouders"
BASE = "default-src 'self' 'unsafe-inline' 'unsafe-eval' 'wasm-unsafe-eval' data: blob:"
OWN = "school.example *.school.example wss://school.example wss://*.school.example"
SHOPS = "pay.example *.pay.example"
REPORTING = "; report-uri /privacy/csp-report; report-to consentkit"


def made(
    *granted: str,
    app: Collection[bytes] = (),
    known: Collection[Service] = KNOWN,
    configured: Collection[Service] = CONFIGURED,
    secure: bool = True,
    root: str = "",
    own_hosts: Collection[str] = ("www.school.example",),
    **options: bool,
) -> list[tuple[bytes, bytes]]:
    ids = {one.id for one in configured}
    gate = Gate(known, configured=ids, categories=("analytics", "preferences", "marketing"), own_hosts=own_hosts)
    kept = {"enforce": True, "everybody": False, "strict": False, **options}
    policy = ContentPolicy(
        known, configured=ids, allows=gate.allows, own_hosts=own_hosts, path="/privacy/csp-report", **kept
    )
    return list(policy.headers(frozenset(granted), app, root=root, secure=secure))


def text(*granted: str, **options: object) -> str:
    return made(*granted, **options)[0][1].decode()  # type: ignore[arg-type]


# -- what it says


@pytest.mark.parametrize(
    ("granted", "listed"),
    [
        ((), ""),
        (("analytics",), " counter.example *.counter.example tags.example/count.js *.tags.example/count.js"),
        (("preferences",), " chat.example *.chat.example wss://chat.example wss://*.chat.example"
         " relay.example *.relay.example x.relay.test"),
        (("maps",), " big.example/maps big.example/maps/ *.big.example/maps *.big.example/maps/"
         " maps.big.example *.maps.big.example"),
        (("-", "unnamed"), ""),
    ],
)  # fmt: skip
def test_without_an_app_policy_the_own_domain_and_granted_services_are_listed(
    granted: tuple[str, ...], listed: str
) -> None:
    assert made(*granted) == [
        (b"content-security-policy", f"{BASE} {OWN}{listed} {SHOPS}{REPORTING}".encode()),
        (b"reporting-endpoints", b'consentkit="/privacy/csp-report"'),
    ]


def test_reporting_only_has_another_name_and_the_same_words() -> None:
    (name, value), endpoint = made("analytics", enforce=False)

    assert (name, value.decode()) == (b"content-security-policy-report-only", text("analytics"))
    assert endpoint[0] == b"reporting-endpoints"


def test_for_everybody_all_that_anybody_may_have_granted_is_listed_and_no_more() -> None:
    said = text(everybody=True)

    assert said == text("analytics", "preferences", "maps", "marketing")
    assert "unnamed" not in said


def test_without_https_every_port_counts_and_browsers_report_the_old_way() -> None:
    assert made("preferences", secure=False, root="/a b;c,d", own_hosts=["127.0.0.1", "localhost"]) == [
        (
            b"content-security-policy",
            f"{BASE} 127.0.0.1:* ws://127.0.0.1:* localhost:* ws://localhost:* chat.example:* *.chat.example:* "
            "ws://chat.example:* ws://*.chat.example:* relay.example:* *.relay.example:* x.relay.test:* "
            "pay.example:* *.pay.example:*; "
            "report-uri /a%20b%3Bc%2Cd/privacy/csp-report".encode(),
        )
    ]


def test_a_tracker_on_an_own_subdomain_takes_the_other_subdomains_with_it_until_it_is_granted() -> None:
    options = {"known": (OWN_STATS,), "configured": (OWN_STATS,), "own_hosts": ("www.school.example", "school.example")}

    assert text(**options) == (
        f"{BASE} school.example wss://school.example www.school.example wss://www.school.example{REPORTING}"
    )
    assert OWN in text("analytics", **options)


@pytest.mark.parametrize(
    ("host", "entry", "sources"),
    [
        ("löwe.example", "löwe.example/ü", "xn--lwe-sna.example/%C3%BC"),
        ("x", "127.0.0.1:9001", "127.0.0.1:9001"),
        ("x", "www.x.example", "www.x.example"),
        ("x", "x.example/a.js", "x.example/a.js *.x.example/a.js"),
        ("x", "x.example/a;b,c/", "x.example/a%3Bb%2Cc/ *.x.example/a%3Bb%2Cc/"),
    ],
)
def test_a_place_of_the_catalogue_becomes_sources(host: str, entry: str, sources: str) -> None:
    own = service("own", "analytics", entry)
    said = text("analytics", known=(own,), configured=(own,), own_hosts=())

    assert said.startswith(f"{BASE} {sources}")


def test_what_a_wildcard_says_already_is_not_said_again() -> None:
    near = service(
        "near", "analytics", "a.near.example/x", "near.example", "b.near.example", connects=("near.example",)
    )
    said = text("analytics", known=(near,), configured=(near,), own_hosts=())

    assert said == f"{BASE} near.example *.near.example wss://near.example wss://*.near.example{REPORTING}"


# -- beside an app's policy


@pytest.mark.parametrize(
    ("app", "kept"),
    [
        ([], ""),
        ([b"script-src 'nonce-abc' 'strict-dynamic' 'sha256-x=' 'unsafe-hashes'; object-src 'none'"], ""),
        ([b"default-src 'self' cdn.example; IMG-SRC https://img.example:8443/pics/ data:"],
         " cdn.example https://img.example:8443/pics/ data:"),
        ([b"default-src a.example", b"img-src b.example"], " a.example b.example"),
        ([b"default-src a.example, img-src b.example ,,"], " a.example b.example"),
        ([b"default-src *; img-src https: http: wss: https://* *:443; media-src mediastream: app:"],
         " mediastream: app:"),
        ([b"script-src a.example; script-src b.example"], " a.example"),
        ([b"form-action f.example; frame-ancestors g.example; base-uri h.example; report-uri https://r.example"], ""),
        ([b"img-src *.cdn.example wss://live.example"], " *.cdn.example wss://live.example"),
        # A tracker without consent: named, below it, over it, by one of its paths, in any case.
        ([b"script-src ads.example x.ads.example *.ads.example https://ADS.example. unnamed.example ok.example"],
         " ok.example"),
        ([b"script-src *.example; img-src *.big.example"], ""),
        ([b"script-src big.example https://big.example/ads/ https://big.example/other/"],
         " https://big.example/other/"),
        ([b"script-src www.big.example maps.big.example"], ""),
        ([b"img-src 'self' caf\xc3\xa9.example"], ""),
        ([b"connect-src"], ""),
    ],
)  # fmt: skip
def test_the_hosts_that_an_app_names_stay_but_for_trackers_without_consent(app: list[bytes], kept: str) -> None:
    expected = dict.fromkeys([*f"{BASE} {OWN} {SHOPS}{kept}".split()])

    assert text(app=app) == " ".join([*expected, *kept_again(kept)]) + REPORTING


def kept_again(kept: str) -> list[str]:
    """`data:` stands in front already, and is said once more where the app says it; harmless, and rare."""
    return [word for word in kept.split() if word == "data:"]


def test_with_consent_the_host_of_the_app_stays_as_the_app_wrote_it() -> None:
    app = [b"script-src https://ads.example/x/ *.big.example"]

    assert " https://ads.example/x/" in text("marketing", app=app)
    assert " *.big.example;" not in text("marketing", app=app)
    assert " *.big.example;" in text("marketing", "maps", app=app)


def test_a_strict_site_declares_third_parties_itself() -> None:
    assert text(app=[b"img-src cdn.example"], strict=True) == text()


def test_a_nonce_that_changes_with_every_page_makes_no_new_policy() -> None:
    policy = ContentPolicy(
        KNOWN,
        configured={"ads"},
        allows=lambda service, granted: False,
        own_hosts=(),
        enforce=True,
        everybody=False,
        strict=False,
        path="/p",
    )
    first, second = (
        policy.headers(frozenset(), [b"script-src 'nonce-%d' 'self'" % number], root="", secure=True)
        for number in (1, 2)
    )

    assert first is second


def test_the_apps_own_inline_code_runs_and_its_nonce_opens_no_undeclared_host() -> None:
    app = "script-src 'nonce-n' 'strict-dynamic'; object-src 'none'; require-trusted-types-for 'script'"
    both = [app, text(app=[app.encode()])]
    script = "script-src-elem"

    assert runs_inline(both, "n")
    assert not runs_inline(both)
    assert fetches(both, script, "https://www.school.example/app.js", PAGE, "n")
    assert fetches([app], script, "https://unknown.example/a.js", PAGE, "n")
    assert not fetches(both, script, "https://unknown.example/a.js", PAGE, "n")


# -- for any policy and any address

HOSTS = [
    *("a.example", "b.a.example", "cdn.test", "school.example", "ads.example", "x.ads.example", "unnamed.example"),
    *("big.example", "www.big.example", "maps.big.example", "counter.example", "tags.example", "chat.example"),
]
PATHS = ["", "/", "/maps", "/maps/x", "/ads/", "/ads/x.js", "/count.js", "/other"]
sources = st.one_of(
    st.sampled_from(["'self'", "'none'", "'nonce-n'", "'strict-dynamic'", "'unsafe-inline'", "*", "https:", "data:"]),
    st.builds(
        lambda scheme, below, host, port, path: f"{scheme}{below}{host}{port}{path}",
        st.sampled_from(["", "https://", "wss://", "http://"]),
        st.sampled_from(["", "*."]),
        st.sampled_from([*HOSTS, "example"]),
        st.sampled_from(["", ":443", ":*"]),
        st.sampled_from(PATHS),
    ),
)
directives = st.builds(
    lambda name, words: " ".join([name, *words]),
    st.sampled_from([*FETCHES, "default-src", "script-src", "style-src", "child-src", "form-action"]),
    st.lists(sources, max_size=4),
)
app_policies = st.lists(st.lists(directives, max_size=4).map("; ".join), max_size=3)
urls = st.builds(
    lambda scheme, host, path: f"{scheme}://{host}{path}",
    st.sampled_from(["https", "wss"]),
    st.sampled_from(HOSTS),
    st.sampled_from(PATHS),
)
grants = st.sets(st.sampled_from(["analytics", "preferences", "marketing", "maps"]))


@given(app=app_policies, url=urls, directive=st.sampled_from(FETCHES), granted=grants)
def test_ours_opens_nothing_and_nothing_that_is_not_granted(
    app: list[str], url: str, directive: str, granted: set[str]
) -> None:
    headers = [(b"content-security-policy", one.encode()) for one in app]
    ours = made(*granted, app=[value for _, value in headers])
    owner = Registry(KNOWN).of_url(url)
    open_ = [entry.partition("/")[0] for one in CONFIGURED if one.purpose_id in granted for entry in one.hosts]
    host = url.partition("//")[2].partition("/")[0]
    shared = any(host == name or host.endswith(f".{name}") for name in open_)  # with a service that is granted

    both, alone = policies([*headers, *ours]), policies(headers)
    assert both[: len(alone)] == alone
    assert fetches(both, directive, url, PAGE) <= fetches(alone, directive, url, PAGE)
    if owner is not None and owner.purpose_id not in granted and not shared:
        assert not fetches(policies(ours), directive, url, PAGE)


@given(
    host=st.sampled_from([host for host in HOSTS if "big." not in host and "tags." not in host]),  # they serve several
    path=st.sampled_from(PATHS[1:]),
    directive=st.sampled_from(FETCHES),
    granted=grants,
)
def test_ours_shuts_out_nothing_that_the_app_names_or_the_visitor_granted(
    host: str, path: str, directive: str, granted: set[str]
) -> None:
    url = f"https://{host}{path}"
    owner = Registry(KNOWN).of_url(url)
    app = f"img-src https://{host}{path}; default-src 'none'".encode()

    ours = policies(made(*granted, app=[app]))
    assert fetches(ours, directive, url, PAGE) == (
        owner is None or (owner in CONFIGURED and owner.purpose_id in granted)
    )


# -- the catalogue


def test_what_a_service_connects_to_beside_its_own_belongs_to_nobody_else_or_to_the_same_provider() -> None:
    known = catalogue.load()
    registry = Registry(known.values())
    others = [
        (one.id, entry, owner.id)
        for one in known.values()
        for entry in one.connects
        if (owner := registry.of_url(f"https://{entry}")) and owner.id != one.id and owner.provider != one.provider
    ]

    assert others == []


def test_the_policy_of_a_site_with_ten_services_stays_a_small_header() -> None:
    known = catalogue.load()
    google = [known[f"google-{name}"] for name in ("analytics", "tag-manager", "ads", "maps", "fonts")]
    others = [known[id] for id in ("youtube", "vimeo", "meta-pixel", "hotjar", "linkedin-insight")]
    said = text(known=known.values(), configured=[*google, *others], everybody=True)

    assert len(said) < 4000
