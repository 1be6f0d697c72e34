"""Evidence of consent: what was shown, what was chosen, when; append-only, chained, without personal data."""

from __future__ import annotations

from consentkit.evidence.event import ConsentEvent, Durability, Notice, Refusal
from consentkit.evidence.history import was_valid
from consentkit.evidence.log import Evidence
from consentkit.evidence.rates import Answered, Rates, Tally
from consentkit.evidence.records import Count, Problem, Report
from consentkit.evidence.retention import RULES, Purged, Rule

__all__ = [
    "RULES",
    "Answered",
    "ConsentEvent",
    "Count",
    "Durability",
    "Evidence",
    "Notice",
    "Problem",
    "Purged",
    "Rates",
    "Refusal",
    "Report",
    "Rule",
    "Tally",
    "was_valid",
]
