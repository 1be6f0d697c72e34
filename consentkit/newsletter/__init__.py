"""The newsletter: sign up, confirm, prefer, leave. Owns its tables; asks afgemeld, writes evidence."""

from consentkit.newsletter.forms import HONEYPOT, Answer, Form, Topic, declared
from consentkit.newsletter.importing import Imported, Importer
from consentkit.newsletter.importing import export as export_list
from consentkit.newsletter.letters import Letters
from consentkit.newsletter.newsletter import (
    Confirmed,
    Newsletter,
    ParentFirst,
    Profile,
    Request,
    RequestGone,
    TextChanged,
)
from consentkit.newsletter.outbox import Outbox, Parcel
from consentkit.newsletter.overview import KINDS, Day, Happening, Membership, Overview, Person, Subscriber
from consentkit.newsletter.paper import Paper, TokenTooOld
from consentkit.newsletter.people import agrees_to_measuring, has_digest, hold_people, is_kept
from consentkit.newsletter.readers import LANGUAGE, Aim, Reader, Readers
from consentkit.newsletter.rules import LEFT, PROOF, Route, Standing, State, missing_proof, read_proof, why_not

__all__ = [
    "HONEYPOT",
    "KINDS",
    "LANGUAGE",
    "LEFT",
    "PROOF",
    "Aim",
    "Answer",
    "Confirmed",
    "Day",
    "Form",
    "Happening",
    "Imported",
    "Importer",
    "Letters",
    "Membership",
    "Newsletter",
    "Outbox",
    "Overview",
    "Paper",
    "Parcel",
    "ParentFirst",
    "Person",
    "Profile",
    "Reader",
    "Readers",
    "Request",
    "RequestGone",
    "Route",
    "Standing",
    "State",
    "Subscriber",
    "TextChanged",
    "TokenTooOld",
    "Topic",
    "agrees_to_measuring",
    "declared",
    "export_list",
    "has_digest",
    "hold_people",
    "is_kept",
    "missing_proof",
    "read_proof",
    "why_not",
]
