"""The choice: what a site asks, what a visitor answered, what follows. Pure: values in, values out."""

from consentkit.choice.cookies import choice_header, cookie_name, expiring, find, refused
from consentkit.choice.imported import Found, OldChoices
from consentkit.choice.once import Once, once_header, once_name, single
from consentkit.choice.policy import Policy, Purpose, canonical
from consentkit.choice.signals import signals, unasked
from consentkit.choice.state import Answer, Choice, Choices, Decision, State, Status, answer, decide, signal

__all__ = [
    "Answer",
    "Choice",
    "Choices",
    "Decision",
    "Found",
    "OldChoices",
    "Once",
    "Policy",
    "Purpose",
    "State",
    "Status",
    "answer",
    "canonical",
    "choice_header",
    "cookie_name",
    "decide",
    "expiring",
    "find",
    "once_header",
    "once_name",
    "refused",
    "signal",
    "signals",
    "single",
    "unasked",
]
