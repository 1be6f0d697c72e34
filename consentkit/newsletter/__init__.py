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
from consentkit.newsletter.outbox import Outbox
from consentkit.newsletter.paper import Paper, TokenTooOld
from consentkit.newsletter.rules import LEFT, PROOF, Route, Standing, State, missing_proof, read_proof, why_not

__all__ = [
    "HONEYPOT",
    "LEFT",
    "PROOF",
    "Answer",
    "Confirmed",
    "Form",
    "Imported",
    "Importer",
    "Letters",
    "Newsletter",
    "Outbox",
    "Paper",
    "ParentFirst",
    "Profile",
    "Request",
    "RequestGone",
    "Route",
    "Standing",
    "State",
    "TextChanged",
    "TokenTooOld",
    "Topic",
    "declared",
    "export_list",
    "missing_proof",
    "read_proof",
    "why_not",
]
