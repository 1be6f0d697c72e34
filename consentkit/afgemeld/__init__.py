"""Afgemeld: who left, kept as keyed digests, asked before everything that is sent. Joined by nobody."""

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
)
from consentkit.afgemeld.headers import ONE_CLICK, POLICY, headers
from consentkit.afgemeld.ledger import Afgemeld, Change, Sendable
from consentkit.afgemeld.links import SHORT_TOKEN, Leaving, Links

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
    "Links",
    "Reason",
    "Sendable",
    "Suppression",
    "covering",
    "forbidding",
    "headers",
    "list_scope",
    "scope_of",
]
