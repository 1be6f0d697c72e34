"""What each vendor's own consent interface is told, as a function of the purposes that a visitor granted.

A signal (`analytics_storage`) is granted when the purposes that stand behind it are, and denied in every other case;
nothing is ever inferred. docs/vendors.md has the same rules in words.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Final

from consentkit.choice.policy import Policy
from consentkit.service import NECESSARY, Service

CATEGORY_OF: Final[Mapping[str, Mapping[str, str]]] = {
    "google": {
        "ad_storage": "marketing",
        "ad_user_data": "marketing",
        "ad_personalization": "marketing",
        "analytics_storage": "analytics",
        "functionality_storage": "preferences",
        "personalization_storage": "preferences",
        "security_storage": NECESSARY,
    },
    "clarity": {"ad_Storage": "marketing", "analytics_Storage": "analytics"},
    "uet": {"ad_storage": "marketing"},
}
"""The category that each signal is about, for vendors that have more than one (Google's consent mode guide,
Microsoft's guides to Clarity's consent API and UET's consent mode)."""

Needs = Mapping[str, Mapping[str, list[str] | None]]
"""Per vendor and signal the purposes that must all be granted; an empty list is always granted, None never."""


def signals(policy: Policy) -> Needs:
    """What the vendors of the services that a site names are told.

    A service stands behind its signals with its own purpose. One with signals of several categories (a container, a
    recorder that also advertises) stands behind each with the purpose of that category, if the site asks it, and only
    for signals that no other service has. Where several purposes stand behind a signal, all are needed.

    Args:
        policy: what the site asks.
    """
    asked = {purpose.id for purpose in policy.purposes}
    own: dict[str, dict[str, set[str]]] = defaultdict(lambda: defaultdict(set))
    wide: dict[str, dict[str, set[str]]] = defaultdict(lambda: defaultdict(set))
    for service in policy.services:
        for vendor, words in service.vendor.items():
            several = _several(vendor, words)
            for word in words:
                purpose = CATEGORY_OF[vendor][word] if several else service.purpose_id
                (wide if several else own)[vendor][word].add(purpose)
    found: dict[str, dict[str, list[str] | None]] = {}
    for vendor in dict.fromkeys((*own, *wide)):
        known = CATEGORY_OF.get(vendor) or dict.fromkeys(own[vendor], "")
        found[vendor] = {
            word: _needs(own[vendor].get(word) or wide[vendor].get(word, set()) & asked, category)
            for word, category in known.items()
        }
    return found


def unasked(services: Iterable[Service]) -> frozenset[str]:
    """The services that load before consent where a site switches on Google's advanced consent mode.

    Only Google's own tags, which hold back by themselves; never a container, which loads what others made (GAT-11).

    Args:
        services: those that the site names.
    """
    return frozenset(
        service.id
        for service in services
        if service.asks and set(service.vendor) == {"google"} and not _several("google", service.vendor["google"])
    )


def _several(vendor: str, words: Iterable[str]) -> bool:
    return len({CATEGORY_OF.get(vendor, {}).get(word) for word in words}) > 1


def _needs(purposes: set[str], category: str) -> list[str] | None:
    if category == NECESSARY or purposes == {NECESSARY}:
        return []
    return sorted(purposes - {NECESSARY}) or None
