"""The choice: what a site asks, what a visitor answered, what follows. Pure: values in, values out."""

from consentkit.choice.cookies import choice_header, cookie_name, expiring, find, refused
from consentkit.choice.policy import Policy, Purpose, canonical
from consentkit.choice.state import Answer, Choice, Choices, Decision, State, Status, answer, decide, signal

__all__ = [
    "Answer",
    "Choice",
    "Choices",
    "Decision",
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
    "refused",
    "signal",
]
