"""The states of consent in which pages are looked at: before any choice, after a refusal, with everything granted."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from datetime import date

from consentkit.choice import Choice
from consentkit.web.flow import PageFlow

NO_CHOICE, REFUSED, GRANTED = "no choice", "refused", "granted"


@dataclass(frozen=True, slots=True)
class State:
    """A visitor to look as.

    Args:
        name: `no choice`, `refused` or `granted`. cookie: the `Cookie` header. granted: purpose ids.
    """

    name: str
    cookie: str = ""
    granted: frozenset[str] = frozenset()


def states(flow: PageFlow, today: date) -> list[State]:
    """All three, with choices that are signed as visitors' are. They stand in no record.

    Args:
        flow: of the site. today: in UTC.
    """
    made = [State(NO_CHOICE, granted=flow.choices.state(None, signal=None, today=today).granted)]
    for name, granted in ((REFUSED, False), (GRANTED, True)):
        answered = {purpose.fingerprint: granted for purpose in flow.policy.purposes}
        record = secrets.token_bytes(16) if granted else None
        value = flow.choices.write(Choice(today, True, answered, record))
        holds = flow.choices.state(value, signal=None, today=today)
        made.append(State(name, f"{flow.cookie}={value}", holds.granted))
    return made
