"""What server-side code may ask about the visitor's choice."""

from __future__ import annotations

from typing import Any

import pytest

from consentkit.choice import Status
from consentkit.errors import ConsentKitError
from consentkit.web.consent import Consent, NotWrapped, consent_of
from tests.web.minikit import PAGE, TODAY, MiniKit, answering, visit


def asked(kit: MiniKit, cookie: bytes = b"", **more: Any) -> Consent:
    """The consent that an app sees on a request with this cookie."""
    app = answering(PAGE)
    visit(kit.wrap(app), cookie=cookie, **more)
    return consent_of(app.scope)  # type: ignore[attr-defined]


@pytest.mark.parametrize("mode", ["private", "shared"])
def test_purposes_categories_and_services_can_be_asked_for(mode: str) -> None:
    kit = MiniKit(mode=mode)
    consent = asked(kit, kit.cookie("analytics", "youtube"))
    allowed = {"analytics", "google-analytics", "youtube", "necessary", "own-session"}
    names = [*allowed, "marketing", "meta-pixel", "nonsense", "", "Analytics"]
    assert {name for name in names if consent.allows(name)} == allowed
    assert consent.services == {"google-analytics", "youtube", "own-session"}
    assert consent.state.status is Status.GIVEN
    assert consent.decided_at == TODAY
    assert consent.policy == kit.policy.fingerprint
    assert repr(consent) == "<Consent given ['analytics', 'youtube']>"


@pytest.mark.parametrize("cookie", [b"", b"consentkit=forged"])
def test_without_a_choice_only_the_necessary_is_allowed(cookie: bytes) -> None:
    consent = asked(MiniKit(), cookie)
    assert not consent.allows("analytics")
    assert consent.allows("necessary")
    assert consent.services == {"own-session"}
    assert consent.decided_at is None


def test_an_unknown_host_allows_nothing_but_the_necessary() -> None:
    app = answering(PAGE)
    kit = MiniKit()
    wrapped = kit.wrap(app)
    kit.site = lambda host, /: None  # type: ignore[method-assign, assignment]
    visit(wrapped, cookie=kit.cookie("analytics"))
    consent = consent_of(app.scope)  # type: ignore[attr-defined]
    assert (consent.allows("analytics"), consent.allows("necessary"), consent.allows("own-session")) == (
        False,
        True,
        False,
    )
    assert (consent.services, consent.policy, consent.state.granted) == (frozenset(), "", frozenset())


class _Request:
    """A request object of a framework: something with a scope, an environ or a META."""

    def __init__(self, **attributes: Any) -> None:
        self.__dict__.update(attributes)


def test_every_kind_of_request_leads_to_the_scope() -> None:
    consent = asked(MiniKit())
    scope = {"consentkit": consent}
    environ = {"asgi.scope": scope}
    for given in (scope, environ, _Request(scope=scope), _Request(environ=environ), _Request(META=environ)):
        assert consent_of(given) is consent


@pytest.mark.parametrize("given", [{}, {"type": "http"}, _Request(), _Request(scope={"consentkit": True}), None, "x"])
def test_without_the_middleware_the_error_says_what_to_add(given: Any) -> None:
    with pytest.raises(NotWrapped, match=r"kit\.wrap\(app\)") as raised:
        consent_of(given)
    assert isinstance(raised.value, ConsentKitError)
    assert isinstance(raised.value, RuntimeError)
