from __future__ import annotations

import secrets
from datetime import date, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consentkit.choice import (
    Choice,
    Choices,
    Decision,
    Policy,
    State,
    Status,
    answer,
    choice_header,
    cookie_name,
    decide,
    expiring,
    find,
    refused,
    signal,
)
from consentkit.errors import ChoiceRefused
from consentkit.service import Duration, Item, Service
from consentkit.tokens import Tokens

TODAY = date(2026, 3, 1)
TEXT = {"nl": "Bezoek tellen", "en": "Counting visits"}
CATEGORIES = dict.fromkeys(("preferences", "analytics", "marketing"), (TEXT, TEXT))
TOKENS = Tokens([secrets.token_bytes(32)])


def service(id: str, category: str = "analytics", *, embed: bool = False, cookies: tuple[str, ...] = ()) -> Service:
    items = tuple(Item(name, Duration(2, "year"), TEXT) for name in cookies)
    return Service(id, id.title(), "Teller BV", "NL", category, TEXT, items=items, embed=embed)


EXEMPT = Service("matomo", "Matomo", "InnoCraft", "NL", "analytics", TEXT, exempt=TEXT)
SERVICES = (
    service("ga", cookies=("_ga", "_ga_*")),
    service("meta-pixel", "marketing", cookies=("_fbp",)),
    service("youtube", "marketing", embed=True),
    service("session", "necessary", cookies=("sessionid",)),
)


def policy(*services: Service, days: int = 182, wording: str = "Mag dit?") -> Policy:
    return Policy.build(
        site="De Linde",
        controller="Stichting De Linde",
        days=days,
        services=services or SERVICES,
        categories=CATEGORIES,
        wording={"intro": wording},
    )


def given_by(decision: Decision, *purposes: str, of: Policy | None = None, day: date = TODAY) -> Choice:
    of = of or policy()
    before = decide(None, of, signal=None, today=day)
    return answer(
        decision, purposes, policy=of, before=before, choice=None, today=day, new_record=lambda: secrets.token_bytes(16)
    ).choice


def after(choice: Choice | None, of: Policy | None = None, *, day: date = TODAY, sent: str | None = None) -> State:
    return decide(choice, of or policy(), signal=sent, today=day)


def test_a_site_asks_once_per_category_and_once_per_embed() -> None:
    asked = {purpose.id: [service.id for service in purpose.services] for purpose in policy().asked}

    assert asked == {"analytics": ["ga"], "marketing": ["meta-pixel"], "youtube": ["youtube"]}


@pytest.mark.checklist("BAN-09")
@pytest.mark.parametrize("purpose", ["analytics", "marketing", "youtube"])
def test_granting_one_purpose_leaves_the_others_denied(purpose: str) -> None:
    assert after(given_by(Decision.SAVE, purpose)).granted == {purpose}


@pytest.mark.checklist("BAN-11")
@given(st.sets(st.sampled_from(["analytics", "marketing", "youtube"])))
def test_saving_stores_exactly_the_switches_and_none_equals_refusal(purposes: set[str]) -> None:
    saved = given_by(Decision.SAVE, *purposes)

    assert after(saved).granted == purposes
    if not purposes:
        assert saved == given_by(Decision.REFUSE)


def test_before_an_answer_nothing_is_granted_and_the_question_is_asked() -> None:
    assert after(None) == State(Status.UNKNOWN, frozenset(), asks=True)


@given(st.sets(st.sampled_from(["analytics", "marketing", "youtube"])), st.integers(0, 3000))
def test_the_cookie_reads_back_as_it_was_written(purposes: set[str], days: int) -> None:
    choice = given_by(Decision.SAVE, *purposes, day=date(2020, 1, 1) + timedelta(days=days))
    choices = Choices(policy(), TOKENS)

    assert choices.read(choices.write(choice)) == choice


@pytest.mark.checklist("STO-05")
def test_a_thousand_refusals_on_one_day_are_one_cookie_value() -> None:
    choices = Choices(policy(), TOKENS)

    assert len({choices.write(given_by(Decision.REFUSE)) for _ in range(1000)}) == 1


@pytest.mark.checklist("STO-05")
def test_only_a_grant_carries_a_record_id_of_128_bits() -> None:
    ids = {given_by(Decision.ACCEPT).record_id for _ in range(100)}

    assert len(ids) == 100
    assert all(record is not None and len(record) == 16 for record in ids)
    assert given_by(Decision.REFUSE).record_id is None
    assert given_by(Decision.SAVE).record_id is None


@pytest.mark.checklist("STO-02")
@pytest.mark.parametrize(
    ("days", "status", "granted"),
    [(182, Status.GIVEN, True), (183, Status.EXPIRED, False), (184, Status.EXPIRED, False)],
)
def test_a_choice_expires_after_its_days_and_is_asked_again(days: int, status: Status, granted: bool) -> None:
    state = after(given_by(Decision.ACCEPT), day=TODAY + timedelta(days=days))

    assert (state.status, bool(state.granted), state.asks) == (status, granted, not granted)


@pytest.mark.checklist("STO-01")
def test_a_refusal_is_kept_as_long_as_an_acceptance() -> None:
    choices = Choices(policy(), TOKENS)

    def header(decision: Decision) -> list[bytes]:
        value = choices.write(given_by(decision))
        return choice_header("consentkit", value, days=182, secure=True, readable=False).split(b"; ")[1:]

    assert header(Decision.REFUSE) == header(Decision.ACCEPT)
    for decision in (Decision.REFUSE, Decision.ACCEPT):
        assert after(given_by(decision), day=TODAY + timedelta(days=182)).asks is False
        assert after(given_by(decision), day=TODAY + timedelta(days=183)).asks is True


@pytest.mark.checklist("STO-03")
def test_nobody_is_asked_again_while_nothing_changes() -> None:
    for decision in (Decision.REFUSE, Decision.ACCEPT):
        choice = given_by(decision)
        views = [after(choice, day=TODAY + timedelta(days=days)) for days in range(0, 150, 7)]
        assert [view.asks for view in views] == [False] * len(views)


@pytest.mark.checklist("STO-03")
def test_a_new_vendor_asks_again_and_the_old_consent_does_not_cover_it() -> None:
    choice = given_by(Decision.ACCEPT)
    wider = policy(*SERVICES, service("hotjar"))

    state = after(choice, wider)

    assert state.asks
    assert state.changed == ("analytics",)
    assert state.granted == {"marketing", "youtube"}


@pytest.mark.checklist("STO-03")
def test_other_words_ask_again_and_other_hosts_do_not() -> None:
    choice = given_by(Decision.ACCEPT)

    assert after(choice, policy(wording="Andere woorden")).granted == frozenset()
    moved = tuple(Service(**{**_fields(s), "hosts": ("new.example",)}) for s in SERVICES)
    assert after(choice, policy(*moved)).asks is False


def _fields(service: Service) -> dict[str, object]:
    return {name: getattr(service, name) for name in Service.__slots__}


@pytest.mark.checklist("GAT-14")
@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ([(b"sec-gpc", b"1")], "gpc"),
        ([(b"sec-gpc", b"0")], None),
        ([(b"sec-gpc", b"true")], None),
        ([(b"sec-gpc", b"1,1")], None),
        ([(b"sec-gpc", b"0"), (b"sec-gpc", b"1")], "gpc"),
        ([(b"sec-gpc", b"?1")], None),
        ([(b"dnt", b"1")], "dnt"),
        ([(b"dnt", b"0")], None),
        ([(b"dnt", b"1"), (b"sec-gpc", b"1")], "gpc"),
        ([], None),
    ],
)
def test_only_an_exact_signal_counts(headers: list[tuple[bytes, bytes]], expected: str | None) -> None:
    assert signal(headers) == expected


@pytest.mark.checklist("GAT-14")
@pytest.mark.parametrize("sent", ["gpc", "dnt"])
def test_a_signal_refuses_everything_until_an_explicit_choice(sent: str) -> None:
    of = policy(*SERVICES, EXEMPT)

    silent = after(None, of, sent=sent)
    chosen = after(given_by(Decision.SAVE, "analytics", of=of), of, sent=sent)

    assert (silent.status, silent.granted, silent.asks) == (Status.REFUSED, frozenset(), False)
    assert "analytics" in chosen.granted


@pytest.mark.checklist("GAT-16")
@pytest.mark.parametrize("value", ["", "x", "AAAA.BBBB", "a" * 5000, "\x00", "é"])
def test_what_is_no_cookie_of_ours_is_no_choice(value: str) -> None:
    choices = Choices(policy(), TOKENS)

    assert choices.state(value, signal=None, today=TODAY) == State(Status.UNKNOWN, frozenset(), asks=True)


@pytest.mark.checklist("GAT-16")
def test_a_cookie_under_a_foreign_key_or_from_the_future_is_no_choice() -> None:
    foreign = Choices(policy(), Tokens([secrets.token_bytes(32)])).write(given_by(Decision.ACCEPT))
    future = given_by(Decision.ACCEPT, day=TODAY + timedelta(days=3))

    assert Choices(policy(), TOKENS).state(foreign, signal=None, today=TODAY).granted == frozenset()
    assert after(future).granted == frozenset()


def test_the_memo_of_a_day_does_not_outlive_it() -> None:
    choices = Choices(policy(), TOKENS)
    value = choices.write(given_by(Decision.ACCEPT))

    assert choices.state(value, signal=None, today=TODAY).granted
    assert not choices.state(value, signal=None, today=TODAY + timedelta(days=200)).granted


def test_an_unknown_purpose_is_refused() -> None:
    with pytest.raises(ChoiceRefused, match="unknown_purpose"):
        given_by(Decision.SAVE, "analytics", "advertising")


def test_a_category_without_a_switch_of_its_own_stands_for_its_embeds() -> None:
    only_embeds = policy(service("youtube", "marketing", embed=True), service("vimeo", "marketing", embed=True))

    assert after(given_by(Decision.SAVE, "marketing", of=only_embeds), only_embeds).granted == {"youtube", "vimeo"}


def test_allowing_an_embed_leaves_the_question_open() -> None:
    state = after(given_by(Decision.ALLOW, "youtube"))

    assert (state.granted, state.asks, state.status) == ({"youtube"}, True, Status.GIVEN)


def test_allowing_an_embed_after_a_refusal_keeps_the_refusal_of_the_rest() -> None:
    refusal = given_by(Decision.REFUSE)
    before = after(refusal)
    result = answer(
        Decision.ALLOW,
        ["youtube"],
        policy=policy(),
        before=before,
        choice=refusal,
        today=TODAY,
        new_record=lambda: b"r" * 16,
    )

    assert after(result.choice) == State(
        Status.GIVEN,
        frozenset({"youtube"}),
        asks=False,
        day=TODAY,
        expires=TODAY + timedelta(days=182),
        record_id=(b"r" * 16).hex(),
    )
    assert result.purposes == {"analytics": False, "marketing": False, "youtube": True}


def _change(choice: Choice, decision: Decision, *purposes: str) -> tuple[str | None, frozenset[str], str | None]:
    result = answer(
        decision,
        purposes,
        policy=policy(),
        before=after(choice),
        choice=choice,
        today=TODAY,
        new_record=lambda: b"n" * 16,
    )
    return result.event, result.withdrawn, result.record_id


def test_what_is_recorded_for_each_change_of_mind() -> None:
    accepted = given_by(Decision.ACCEPT)
    record = (accepted.record_id or b"").hex()
    everything = frozenset({"analytics", "marketing", "youtube"})

    assert _change(accepted, Decision.WITHDRAW) == ("withdrawn", everything, record)
    assert _change(accepted, Decision.REFUSE) == ("withdrawn", everything, record)
    assert _change(accepted, Decision.SAVE) == ("withdrawn", everything, record)
    assert _change(accepted, Decision.SAVE, "analytics") == ("renewed", everything - {"analytics"}, record)
    assert _change(accepted, Decision.OBJECT, "youtube") == ("renewed", frozenset({"youtube"}), record)
    assert _change(given_by(Decision.REFUSE), Decision.ACCEPT) == ("given", frozenset(), (b"n" * 16).hex())
    assert _change(given_by(Decision.REFUSE), Decision.REFUSE) == (None, frozenset(), None)


@pytest.mark.checklist("GAT-13")
def test_an_exempt_measurement_runs_until_somebody_objects() -> None:
    of = policy(*SERVICES, EXEMPT)
    refusal = given_by(Decision.OBJECT, "matomo", of=of)

    assert after(None, of).granted == {"matomo"}
    assert after(refusal, of).granted == frozenset()
    assert after(refusal, of).asks is True
    assert given_by(Decision.OBJECT, "matomo", of=of).record_id is None


@pytest.mark.checklist("BAN-14")
def test_a_site_with_exempt_services_only_asks_nothing() -> None:
    of = policy(service("session", "necessary"), EXEMPT)

    assert after(None, of).asks is False


def test_a_cookie_is_found_by_its_whole_name() -> None:
    header = 'xconsentkit=1; consentkit="abc"; consentkit=second'

    assert find(header, "consentkit") == "abc"
    assert find(header, "kit") is None
    assert find("__Host-consentkit=v", "consentkit") is None
    assert find("", "consentkit") is None


@pytest.mark.checklist("STO-04")
def test_the_cookie_is_the_servers_and_bound_to_the_host() -> None:
    name = cookie_name(secure=True, shared_domain=False)

    header = choice_header(name, "v", days=182, secure=True, readable=False)

    assert header == b"__Host-consentkit=v; Path=/; Max-Age=15724800; SameSite=Lax; Secure; HttpOnly"


def test_refused_cookies_are_those_of_purposes_not_granted() -> None:
    header = "_ga=1; _ga_X1=2; _fbp=3; sessionid=4; other=5; _ga=6"

    assert refused(header, policy(), frozenset()) == ("_ga", "_ga_X1", "_fbp")
    assert refused(header, policy(), frozenset({"analytics"})) == ("_fbp",)


@pytest.mark.checklist("WDR-03")
def test_a_cookie_ends_on_every_domain_and_path_it_can_have() -> None:
    found = {
        tuple(sorted(part.split(b"=")[-1] for part in header.split(b"; ")[1:] if part[:4] in (b"Path", b"Doma")))
        for header in expiring(["_ga"], host="www.delinde.example", path="/ouders/brief")
    }

    assert found == {
        tuple(sorted([path, *domain]))
        for path in (b"/", b"/ouders", b"/ouders/brief")
        for domain in ([], [b"www.delinde.example"], [b"delinde.example"])
    }


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "::1"])
def test_a_host_without_a_domain_gets_no_domain_variants(host: str) -> None:
    assert [b"Domain" in header for header in expiring(["_ga"], host=host, path="/")] == [False]


def test_the_expiring_headers_fit_a_proxys_buffer_and_cannot_be_split() -> None:
    many = [f"_ga_{number}" for number in range(200)]

    assert sum(map(len, expiring(many, host="a.b.c.delinde.example", path="/een/twee/drie"))) <= 2048
    assert expiring(["a\r\nX: y", "é"], host="delinde.example", path="/") == []
    assert all(b";x" not in header for header in expiring(["_ga"], host="delinde.example", path="/a;x/b"))
