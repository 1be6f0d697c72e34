"""The answers in other tools' cookies: what they really write, what anybody may write, and what it means here."""

# ruff: noqa: E501 - cookies are long
from __future__ import annotations

from datetime import date
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consentkit.choice import Found, OldChoices, Policy, Status, decide
from consentkit.choice.imported import MAX_HEADER, OLD_COOKIES, Imported, read
from consentkit.gate.dialects import Dialects
from consentkit.service import Duration, Item, Service

TODAY = date(2026, 11, 22)
NOTE = {"nl": "Doel", "en": "Purpose"}
CATEGORIES = ("preferences", "analytics", "marketing")


def service(id: str, title: str, category: str, **more: Any) -> Service:
    items = (Item(f"_{id}", Duration(1, "year"), NOTE),)
    return Service(id, title, title, "NL", category, NOTE, items=items, **more)


SERVICES = (
    service("google-analytics", "Google Analytics", "analytics"),
    service("hotjar", "Hotjar", "analytics"),
    service("meta-pixel", "Meta Pixel", "marketing"),
    service("youtube", "YouTube", "marketing", embed=True),
    service("counter", "Counter", "analytics", exempt=NOTE),
)
POLICY = Policy.build(
    site="De Linde", controller="De Linde", days=182, services=SERVICES,
    categories=dict.fromkeys(CATEGORIES, (NOTE, NOTE)), wording={},
)  # fmt: skip


def dialects(**settings: Any) -> Dialects:
    named = {name.replace("_", "-"): value for name, value in settings.items()}
    titles = {one.id: one.title for one in SERVICES}
    return Dialects(named, categories=("necessary", *CATEGORIES), services=titles)


def said(cookies: str, **settings: Any) -> tuple[str, str, str] | None:
    found = read(cookies, dialects(**settings))
    if found is None:
        return None
    return found.tool, " ".join(sorted(found.refused)), " ".join(sorted(found.granted))


def cookiebot(*flags: str, method: str = "explicit") -> str:
    flag = [f"{name}:{'true' if name in flags else 'false'}" for name in ("preferences", "statistics", "marketing")]
    return (
        f"CookieConsent={{stamp:%27g2rvM5TK90YF==%27%2Cnecessary:true%2C{'%2C'.join(flag)}"
        f"%2Cmethod:%27{method}%27%2Cver:1%2Cutc:1683845362852%2Cregion:%27nl%27}}"
    )


VANILLA_3 = quote(
    '{"categories":["necessary","analytics"],"revision":0,"data":null,"consentTimestamp":"2026-05-28T06:43:23.433Z",'
    '"consentId":"62fc216f-df44","services":{"necessary":[],"analytics":["ga"],"marketing":[]},"languageCode":"nl"}'
)
VANILLA_2 = quote(
    '{"categories":["necessary","targeting"],"level":["necessary","targeting"],"revision":1,"rfc_cookie":true}'
)
KLARO = quote('{"klaro":true,"google-analytics":false,"youtube":true,"matomo":false}')
ONETRUST = (
    "isGpcEnabled=0&datestamp=Tue+Oct+19+2026+11%3A31&version=202405.2.0&hosts=&consentId=0c73&interactionCount=1"
    "&landingPath=NotLandingPage&groups=C0001%3A1%2CC0002%3A1%2CC0003%3A0%2CC0004%3A0%2CBG7%3A1&geolocation=NL"
)  # fmt: skip
COMPLIANZ = "cmplz_consented_services=; cmplz_policy_id=12; cmplz_marketing=deny; cmplz_statistics=allow; cmplz_preferences=deny; cmplz_functional=allow"


@pytest.mark.parametrize(
    ("cookies", "found"),
    [
        (f"a=1; {cookiebot('statistics')}; b=2", ("cookiebot", "marketing preferences", "analytics")),
        (cookiebot(), ("cookiebot", "analytics marketing preferences", "")),
        (cookiebot("preferences", "statistics", "marketing", method="implied"), None),
        ("CookieConsent=-1", None),
        (f"cc_cookie={VANILLA_3}", ("vanilla-cookieconsent", "marketing", "analytics")),
        (f"cc_cookie={VANILLA_2}", ("vanilla-cookieconsent", "", "marketing")),
        ('cc_cookie={"level":["necessary"]}', ("vanilla-cookieconsent", "", "")),
        (f"klaro={KLARO}", ("klaro", "google-analytics", "youtube")),
        (f"{COMPLIANZ}; cmplz_banner-status=dismissed", ("complianz", "marketing preferences", "analytics")),
        (f"{COMPLIANZ}; cmplz_banner-status=shown", None),
        (COMPLIANZ, None),
        ("cookieyes-consent=consentid:VUp6,consent:no,action:yes,necessary:yes,functional:no,analytics:no,performance:no,advertisement:yes,other:no", ("cookieyes", "analytics marketing preferences", "marketing")),
        ("cookieyes-consent=consentid:VUp6,consent:yes,action:no,necessary:yes,functional:yes,analytics:yes", None),
        ("cookieyes-consent=consentid:YjZO,consent:,action:,necessary:,functional:,analytics:", None),
        (f"OptanonAlertBoxClosed=2026-10-15T11:50:36.242Z; OptanonConsent={ONETRUST}", ("onetrust", "marketing preferences", "analytics")),
        (f"OptanonConsent={ONETRUST}", None),
        (f"MyCookieConsent=1; {cookiebot()}"[:20], None),
        (f"X{cookiebot()}", None),
        ("", None),
        ("sessionid=1", None),
    ],
)  # fmt: skip
def test_what_each_tool_writes_is_read_in_our_words(cookies: str, found: Any) -> None:
    assert said(cookies) == found


def test_a_tool_that_is_switched_off_is_not_read_and_the_site_s_words_are() -> None:
    closed = f"OptanonAlertBoxClosed=2026-10-15; OptanonConsent={ONETRUST}"

    assert said(cookiebot(), cookiebot=False) is None
    assert said('klaro={"film":false}', klaro={"film": "youtube"}) == ("klaro", "youtube", "")
    assert said(closed, onetrust={"BG7": "marketing"}) == ("onetrust", "marketing preferences", "analytics marketing")


def test_of_several_tools_every_refusal_counts() -> None:
    found = read(cookiebot("statistics", "marketing") + '; klaro={"youtube":false}', dialects())

    assert found is not None
    assert found.tool == "cookiebot"
    assert found.answers(POLICY) == {"analytics": True, "marketing": True, "youtube": False}


@pytest.mark.parametrize(
    ("imported", "answers"),
    [
        (Imported("x", frozenset({"marketing"}), frozenset({"analytics"})), {"analytics": True, "marketing": False, "youtube": False}),
        (Imported("x", frozenset({"hotjar"}), frozenset({"google-analytics"})), {"analytics": False}),
        (Imported("x", frozenset({"analytics"}), frozenset()), {"analytics": False, "counter": False}),
        (Imported("x", frozenset({"counter"}), frozenset({"counter"})), {"counter": False}),
        (Imported("x", frozenset(), frozenset({"youtube"}), rest_refused=True), {"analytics": False, "marketing": False, "youtube": True}),
        (Imported("x", frozenset({"preferences"}), frozenset({"gone"})), {}),
    ],
)  # fmt: skip
def test_a_category_answers_all_its_purposes_and_of_two_answers_the_refusal_holds(
    imported: Imported, answers: dict[str, bool]
) -> None:
    assert imported.answers(POLICY) == answers


def old(cookies: str, *, grants: bool = False, signal: str | None = None) -> Found | None:
    return OldChoices(POLICY, dialects(), grants).read(cookies, signal=signal, today=TODAY)


def test_a_refusal_of_everything_is_a_decision_without_an_identifier() -> None:
    found = old(cookiebot())
    assert found is not None

    state = decide(found.choice, POLICY, signal=None, today=TODAY)

    assert (state.status, state.granted, state.asks, state.record_id) == (Status.REFUSED, frozenset(), False, None)
    assert found.importing is False


def test_after_a_part_refused_the_rest_is_still_asked() -> None:
    found = old(cookiebot("statistics"))
    assert found is not None

    state = decide(found.choice, POLICY, signal=None, today=TODAY)

    assert found.answers == {"marketing": False, "youtube": False}
    assert state.asks is True
    assert state.granted == {"counter"}


@pytest.mark.checklist("GAT-14")
@pytest.mark.parametrize("signal", ["gpc", "dnt"])
def test_the_browser_s_own_signal_beats_an_old_grant(signal: str) -> None:
    assert old(cookiebot("statistics", "marketing", "preferences"), grants=True, signal=signal) is None
    assert old(cookiebot("statistics"), grants=True, signal=signal) == old(cookiebot("statistics"))


def test_a_grant_waits_to_be_recorded_and_is_taken_only_where_the_site_says_so() -> None:
    everything = cookiebot("statistics", "marketing", "preferences")
    found = old(everything, grants=True)

    assert old(everything) is None
    assert found is not None
    assert found.importing is True
    assert found.answers == {"analytics": True, "marketing": True, "youtube": True}
    assert found.choice.answered == {}


def test_a_cookie_that_could_grant_again_later_is_spent_with_the_choice() -> None:
    cookies = f"a=1; {cookiebot()}; {COMPLIANZ}; cmplz_banner-status=dismissed; OptanonAlertBoxClosed=1"

    spent = OldChoices(POLICY, dialects(), grants=True).spent(cookies)

    assert {"CookieConsent", "cmplz_marketing", "cmplz_banner-status", "OptanonAlertBoxClosed"} <= set(spent)
    assert "a" not in spent
    assert OldChoices(POLICY, dialects(), grants=False).spent(cookies) == ()


PIECES = st.sampled_from(
    [*OLD_COOKIES, "=", ";", "; ", "%7B", "{", "}", "[", '"categories":', "necessary:", "statistics:true", "groups=C0002:",
     "1", ",", "%", "%ff", "action:yes", "cmplz_", "dismissed", "null", "\x00", "é", "[" * 3000, "true", '"a":false']
)  # fmt: skip


@given(st.one_of(st.text(max_size=200), st.lists(PIECES, max_size=30).map("".join)))
def test_whatever_a_cookie_holds_reading_it_never_fails(cookies: str) -> None:
    found = read(cookies, dialects())

    assert found is None or found.refused | found.granted <= {*CATEGORIES, *(one.id for one in SERVICES)}


@pytest.mark.parametrize(
    "cookies",
    [
        "klaro=" + "[" * 4000,
        "klaro=" + quote('{"youtube":false,"x":"' + "y" * 5000 + '"}'),
        cookiebot() + "; x=" + "y" * MAX_HEADER,
        'cc_cookie={"categories":{"a":1}}',
        "cc_cookie=[1]",
        'cc_cookie={"categories":[1,{}],"services":{"analytics":[]}, "level": 3}'[:30],
        'klaro={"youtube":"false","":false}',
    ],
)
def test_what_is_too_long_or_not_of_the_tool_s_making_is_no_answer(cookies: str) -> None:
    assert read(cookies, dialects()) is None
