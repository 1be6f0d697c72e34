"""Mailings: written, checked as bytes, released one by one, measured where readers agreed. Owns its tables."""

from consentkit.mailing.audience import Audience
from consentkit.mailing.drafts import DraftConflict, Drafts, Kept, Outline, Sketch
from consentkit.mailing.engine import Carrier, Engine
from consentkit.mailing.inbox import Inbox, Scoring
from consentkit.mailing.mailings import Attendance, Mailing, Mailings, Preview, Status
from consentkit.mailing.marks import Marks
from consentkit.mailing.measure import Measuring
from consentkit.mailing.pace import Limits
from consentkit.mailing.preflight import Finding
from consentkit.mailing.problem import Problem
from consentkit.mailing.received import Received, received
from consentkit.mailing.release import Release
from consentkit.mailing.source import Draft, File, read_file, read_folder
from consentkit.mailing.states import DeliveryState, MailingState, Purpose
from consentkit.mailing.turn import Turn

__all__ = [
    "Attendance",
    "Audience",
    "Carrier",
    "DeliveryState",
    "Draft",
    "DraftConflict",
    "Drafts",
    "Engine",
    "File",
    "Finding",
    "Inbox",
    "Kept",
    "Limits",
    "Mailing",
    "MailingState",
    "Mailings",
    "Marks",
    "Measuring",
    "Outline",
    "Preview",
    "Problem",
    "Purpose",
    "Received",
    "Release",
    "Scoring",
    "Sketch",
    "Status",
    "Turn",
    "read_file",
    "read_folder",
    "received",
]
