"""Who may be mailed, and why: states, lawful routes with their proof, and the one rule that decides. Pure.

Each address needs a lawful route of its own (Tw 11.7(1), (3), (4), (5)); without one it can't be mailed, whatever list
it stands on. What came from elsewhere without proof is `unproven`, and there is no mail that asks it for permission:
asking is the offence (checklist NEW-05).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Final


class State(StrEnum):
    """Where a subscription stands."""

    PENDING = "pending"
    ACTIVE = "active"
    UNSUBSCRIBED = "unsubscribed"
    BOUNCED = "bounced"
    COMPLAINED = "complained"
    ERASED = "erased"


LEFT: Final = frozenset({State.UNSUBSCRIBED, State.BOUNCED, State.COMPLAINED, State.ERASED})
"""From these only a new confirmed opt-in leads back."""


class Route(StrEnum):
    """On what ground an address may be mailed."""

    CONSENT = "consent"
    CUSTOMER = "customer"
    PUBLISHED_ADDRESS = "published_address"
    DONOR = "donor"
    UNPROVEN = "unproven"


PROOF: Final[Mapping[Route, tuple[str, ...]]] = {
    Route.CONSENT: ("how",),  # Tw 11.7(1): when, where and on which words it was given
    Route.CUSTOMER: ("sale", "opt_out_offered"),  # Tw 11.7(4): a sale, and a way out offered when the address was given
    Route.PUBLISHED_ADDRESS: ("where",),  # Tw 11.7(3)(a): where it was published for this kind of message
    Route.DONOR: ("donation", "opt_out_offered"),  # Tw 11.7(5)
    Route.UNPROVEN: (),
}
"""What each route must be able to show."""

NO: Final = frozenset({"", "no", "nee", "0", "false", "-"})


def missing_proof(route: Route, proof: Mapping[str, str]) -> tuple[str, ...]:
    """The fields of proof that a route lacks; a "no" proves nothing."""
    return tuple(name for name in PROOF[route] if proof.get(name, "").strip().casefold() in NO)


def read_proof(route: Route, text: str) -> dict[str, str]:
    """Proof as it is typed: free text where a route needs one thing, else `sale=…; opt_out_offered=…`."""
    names = PROOF[route]
    if not names or not text.strip():
        return {}
    if len(names) == 1:
        return {names[0]: text.strip()}
    pairs = (part.partition("=") for part in text.split(";"))
    return {name.strip(): value.strip() for name, _, value in pairs if name.strip() in names}


@dataclass(frozen=True, slots=True)
class Standing:
    """One subscription, as far as the rule looks at it.

    Args:
        valid_until: when a consent ends; None for routes that are no consent.
        left_at: the last leaving, if there was one.
        requested: a sign-up waits to be confirmed.
    """

    state: State
    route: Route
    proof: Mapping[str, str] = field(default_factory=dict)
    valid_until: datetime | None = None
    left_at: datetime | None = None
    requested: bool = False


def why_not(standing: Standing | None, now: datetime, *, pupils: bool = False, service: bool = False) -> str | None:
    """Why a message may not go out, in one word; None where it may. Afgemeld is asked besides.

    Args:
        standing: None where the address isn't on the list.
        pupils: the list holds pupils' data, which never carry a mailing.
        service: it is service mail, which a marketing opt-out or the end of a consent leaves alone. An address that
            nobody confirmed or proved gets none either: it may belong to somebody else (GDPR art. 5(1)(d)).
    """
    if pupils:
        return "pupils"
    if standing is None:
        return "unknown"
    if standing.state in LEFT and not service:
        return "left"
    if standing.state is State.PENDING and standing.requested:
        return "unconfirmed"
    if standing.route is Route.UNPROVEN or missing_proof(standing.route, standing.proof):
        return "unproven"
    if standing.state is State.PENDING:
        return "unconfirmed"
    if service:
        return None
    if standing.route is Route.CONSENT and (standing.valid_until is None or standing.valid_until <= now):
        return "expired"
    return None
