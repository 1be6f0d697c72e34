"""What vendors are told follows from what was granted, by the documented mapping and nothing else."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from consentkit import catalogue
from consentkit.choice import signals, unasked
from consentkit.service import NECESSARY, Service
from tests.front.harness import exempt_counter, make_policy

KNOWN = catalogue.load()
ADS = ("ad_storage", "ad_user_data", "ad_personalization")


def told(*services: str | Service) -> dict[str, Any]:
    """What the vendors of these services hang on."""
    chosen = [KNOWN[one] if isinstance(one, str) else one for one in services]
    return {vendor: dict(words) for vendor, words in signals(make_policy(chosen)).items()}


def google(ads: list[str] | None, analytics: list[str] | None, preferences: list[str] | None = None) -> dict[str, Any]:
    return {
        **dict.fromkeys(ADS, ads), "analytics_storage": analytics, "functionality_storage": preferences,
        "personalization_storage": preferences, "security_storage": [],
    }  # fmt: skip


COUNTER = replace(KNOWN["google-analytics"], id="counter", category="marketing")
ESSENTIAL = replace(KNOWN["google-analytics"], id="essential", category=NECESSARY, exempt={"nl": "x", "en": "x"})
PREFERRED = replace(KNOWN["acast"], id="preferred", embed=False)


@pytest.mark.checklist("GAT-09")
@pytest.mark.parametrize(
    ("services", "expected"),
    [
        (["google-analytics"], google(None, ["analytics"])),
        (["google-ads"], google(["marketing"], None)),
        (["google-analytics", "google-ads"], google(["marketing"], ["analytics"])),
        (["google-analytics", "meta-pixel"], google(None, ["analytics"])),  # marketing was not agreed to for Google
        (["google-tag-manager"], google(["marketing"], None)),
        (["google-tag-manager", "matomo"], google(["marketing"], ["analytics"])),
        (["google-tag-manager", PREFERRED], google(["marketing"], None, ["preferences"])),
        ([COUNTER, "google-tag-manager", "matomo"], google(["marketing"], ["marketing"])),
        ([COUNTER, "google-analytics"], google(None, ["analytics", "marketing"])),
        ([ESSENTIAL], google(None, [])),
    ],
    ids=str,
)
def test_a_google_signal_hangs_on_the_purposes_of_the_services_behind_it(
    services: list[Any], expected: dict[str, Any]
) -> None:
    assert told(*services)["google"] == expected


def test_the_other_vendors_are_told_by_their_own_names() -> None:
    assert told("microsoft-clarity", "bing-ads", "meta-pixel", "tiktok-pixel", "pinterest-tag", exempt_vendor()) == {
        "clarity": {"ad_Storage": ["marketing"], "analytics_Storage": ["analytics"]},
        "uet": {"ad_storage": ["marketing"]},
        "meta": {"consent": ["marketing"]},
        "tiktok": {"consent": ["marketing"]},
        "pinterest": {"consent": ["marketing"]},
        "matomo": {"consent": ["matomo"]},
    }
    assert told("microsoft-clarity")["clarity"] == {"ad_Storage": None, "analytics_Storage": ["analytics"]}


def exempt_vendor() -> Service:
    return replace(exempt_counter(), vendor={"matomo": ("consent",)})


def test_a_site_without_such_a_vendor_tells_nobody() -> None:
    assert told("youtube", "linkedin-insight") == {}


@pytest.mark.checklist("GAT-10", "GAT-11")
def test_only_googles_own_tags_ever_load_unasked() -> None:
    assert unasked([*KNOWN.values(), exempt_vendor()]) == {
        "firebase", "google-ads", "google-adsense", "google-analytics", "google-optimize",
    }  # fmt: skip
