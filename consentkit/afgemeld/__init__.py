"""Afgemeld: who left, kept as keyed digests, asked before everything that is sent. Joined by nobody."""

from consentkit.afgemeld.counting import counts
from consentkit.afgemeld.entries import (
    LASTING,
    MAIL,
    MARKETING,
    Reason,
    Suppression,
    covering,
    forbidding,
    list_scope,
    scope_of,
    unreachable,
    widest,
)
from consentkit.afgemeld.headers import ONE_CLICK, POLICY, headers, ways_out
from consentkit.afgemeld.ledger import Afgemeld, Change, Sendable
from consentkit.afgemeld.lifting import Lifting, LiftRequest
from consentkit.afgemeld.links import SHORT_TOKEN, Leaving, Links
from consentkit.afgemeld.tombstones import Mark

__all__ = [
    "LASTING",
    "MAIL",
    "MARKETING",
    "ONE_CLICK",
    "POLICY",
    "SHORT_TOKEN",
    "Afgemeld",
    "Change",
    "Leaving",
    "LiftRequest",
    "Lifting",
    "Links",
    "Mark",
    "Reason",
    "Sendable",
    "Suppression",
    "counts",
    "covering",
    "forbidding",
    "headers",
    "list_scope",
    "scope_of",
    "unreachable",
    "ways_out",
    "widest",
]
