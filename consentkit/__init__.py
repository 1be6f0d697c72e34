"""consentkit: the consent and opt-out layer that an existing Python web app adds in three lines."""

from consentkit.errors import (
    ChoiceRefused,
    ConsentKitError,
    DatabaseUnavailable,
    EvidenceUnavailable,
    ForeignTables,
    NoticeSpent,
    SchemaOutdated,
    SettingsError,
    TokenError,
)
from consentkit.kit import ConsentKit
from consentkit.settings import Settings
from consentkit.web.consent import Consent, consent_of
from consentkit.web.middleware import ConsentMiddleware

__all__ = [
    "ChoiceRefused",
    "Consent",
    "ConsentKit",
    "ConsentKitError",
    "ConsentMiddleware",
    "DatabaseUnavailable",
    "EvidenceUnavailable",
    "ForeignTables",
    "NoticeSpent",
    "SchemaOutdated",
    "Settings",
    "SettingsError",
    "TokenError",
    "consent_of",
]
